//! Settings of the group and of its virtual routers.

use causeway_core::{Duration, IfId};
use causeway_wire::MacAddr;
use std::net::IpAddr;

/// How the checksum of IPv4 advertisements is computed and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Peer4Checksum {
    /// As RFC 9568 5.2.8 settled it for IPv4.
    #[default]
    Rfc9568,
    /// Over a pseudo-header as well, as keepalived does by default.
    PseudoHeader,
}

/// One virtual router: a network and an address family (RFC 9568 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualRouter {
    /// The interface that it is on.
    pub interface: IfId,
    /// Its identifier (VRID), 1 to 255.
    pub vrid: u8,
    /// Its addresses, of one family, at least one; of IPv6 the first is link-local (RFC 9568 5.2.9).
    pub addresses: Vec<IpAddr>,
    /// Our own address that advertisements come from: link-local for IPv6.
    pub source: IpAddr,
}

impl VirtualRouter {
    /// Its link-layer address (RFC 9568 7.3).
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        let family = if self.source.is_ipv6() { 2 } else { 1 };
        MacAddr([0, 0, 0x5e, 0, family, self.vrid])
    }
}

/// The group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The virtual routers; at most one for each interface and family.
    pub routers: Vec<VirtualRouter>,
    /// Priority, 1 to 255; 255 is the owner of the addresses (RFC 9568 5.2.4).
    pub priority: u8,
    /// Between advertisements, in centiseconds: 1 to 4095 (RFC 9568 5.2.7).
    pub interval_cs: u16,
    /// Whether to take over from an active router of lower priority (RFC 9568 6.1, Preempt_Mode).
    pub preempt: bool,
    /// How long to hear a router of lower priority before taking over from it.
    pub preempt_delay: Duration,
    /// Whether the addresses answer for themselves (echo, services) when we do not own them (RFC 9568 6.1,
    /// Accept_Mode). Neighbour discovery is answered anyway.
    pub accept: bool,
    /// How the checksum of IPv4 advertisements is computed.
    pub checksum4: Peer4Checksum,
}
