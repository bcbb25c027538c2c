//! TCP (RFC 9293) that ends at the gateway: what the functions share that have connections of their own.
//!
//! ```text
//!  wire -> segment: parse, check -> shift -> Stack (smoltcp), one socket at a time -> shift, checksum -> wire
//! ```
//! `smoltcp` chooses its sequence numbers itself and says nothing of window scales and timestamps towards the wire:
//! its users shift what it reads and writes, and write the options themselves ([`options`]).

#![forbid(unsafe_code)]

pub mod options;
pub mod segment;
mod stack;

pub use segment::{Bad, Ends, Head, Segment};
pub use stack::Stack;

/// SipHash-2-4: for tables and cookies that strangers choose the keys of.
#[expect(deprecated, reason = "it is the one hasher of the standard library that takes a key")]
#[must_use]
pub fn keyed_hash(keys: (u64, u64), octets: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::hash::SipHasher::new_with_keys(keys.0, keys.1);
    hasher.write(octets);
    hasher.finish()
}
