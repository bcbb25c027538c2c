//! Neighbours: ARP (RFC 826, RFC 5227), neighbour discovery (RFC 4861, RFC 4862 5.4, RFC 6583,
//! RFC 9131), the way to the next hop, and echo to the gateway itself (RFC 4443 4.2, RFC 792).
//!
//! ```text
//!   any worker                          the worker that owns the neighbour
//!   ----------                          ----------------------------------
//!   resolve -> Resolved: one read  <--  publishes     State::on(event)
//!      | not there                        ^               ^    ^
//!      +-> Hold / Owner  -- hand-off -->  hold            |    | tick
//!   local: ARP, NS, NA, echo -- hand-off (owner_of) --> local  (timer wheel)
//! ```
//!
//! A neighbour is a link and an address. Exactly one worker owns it, chosen by a keyed hash; that worker
//! keeps its state machine ([`nud`]), the packets that wait for it, and writes what all read
//! ([`Resolved`]).
//!
//! Where leases are known ([`Neighbors::set_bindings`]), leased addresses come before strangers; on a network
//! that wants leased sources nobody else is looked for, and nobody may claim what another one leased.
//!
//! What a stranger can make us do is bounded (RFC 6583): new resolutions have a rate and a number per
//! interface, packets that wait have an arena, neighbours that only made themselves known have room of
//! their own, and none of these takes room from confirmed neighbours.
//!
//! Not handled: Router Solicitations (counted as ignored until router advertisements exist), Redirects
//! and advertisements of others, MLD reports (RFC 4861 7.2.1 asks for them on snooping switches),
//! SEND (RFC 3971), duplicate detection of our own addresses, `UNREACHABLE` of RFC 7048.

#![forbid(unsafe_code)]

mod announce;
mod arp;
mod config;
mod echo;
mod errors;
mod held;
mod keep;
mod learn;
mod local;
mod nd;
pub mod nud;
mod resolve;
mod resolved;
mod table;

pub use config::{Config, ConfigError, MAX_IDLE_TIME};
pub use errors::Errors;
pub use resolve::{Neighbors, Resolution};
pub use resolved::{Key, LinkId, Neighbor, Reachability, Resolved};
