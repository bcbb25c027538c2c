//! Octets: the headers that the packet path reads and writes on every packet, and their checksums.
//!
//! A header is read from and written to plain slices, by fixed offsets that are checked once when the
//! header is parsed. Formats that are off the hot path (ARP, neighbour discovery, DHCPv6) are not here, and of DNS
//! only what questions and cached answers need: well-kept libraries parse the rest.
//!
//! ```text
//!  Ethernet [802.1Q] | IPv4 / IPv6 [extension headers] | TCP / UDP / ICMP / ICMPv6
//!  ethernet            ipv4   ipv6                       l4
//! ```

#![forbid(unsafe_code)]

pub mod checksum;
pub mod dns;
pub mod ethernet;
pub mod ipv4;
pub mod ipv6;
pub mod l4;

pub use ethernet::MacAddr;

/// Why octets are not the header that they were taken for. Each cause is a counter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// Fewer octets than the header needs.
    Truncated,
    /// The version field is not that of the header.
    BadVersion,
    /// A length field contradicts the octets that are there, or the header itself.
    BadLength,
    /// The header's own checksum is wrong.
    BadChecksum,
}

/// Reads a big-endian 16-bit field. The caller has checked the length of `b`.
#[inline(always)]
#[must_use]
pub fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

/// Reads a big-endian 32-bit field. The caller has checked the length of `b`.
#[inline(always)]
#[must_use]
pub fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// Writes a big-endian 16-bit field. The caller has checked the length of `b`.
#[inline(always)]
pub fn put16(b: &mut [u8], at: usize, v: u16) {
    b[at..at + 2].copy_from_slice(&v.to_be_bytes());
}

/// Writes a big-endian 32-bit field. The caller has checked the length of `b`.
#[inline(always)]
pub fn put32(b: &mut [u8], at: usize, v: u32) {
    b[at..at + 4].copy_from_slice(&v.to_be_bytes());
}
