//! Routes: the longest matching prefix decides where a packet leaves (RFC 4291 2.5, RFC 1812 5.2.4.3).

use crate::net::Egress;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The routes of a plan, connected prefixes included. Immutable: a change makes a new one.
#[derive(Debug, Clone, Default)]
pub struct Routes {}

impl Routes {
    /// Where a packet to `dst` leaves: through the route's gateway, or to `dst` itself if it is on-link.
    #[inline]
    #[must_use]
    pub fn lookup6(&self, _dst: Ipv6Addr) -> Option<Egress> {
        None
    }

    /// Where a packet to `dst` leaves.
    #[inline]
    #[must_use]
    pub fn lookup4(&self, _dst: Ipv4Addr) -> Option<Egress> {
        None
    }
}
