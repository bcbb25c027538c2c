//! What a stage tells its siblings and control. Fixed-size records: a worker writes them without
//! allocating, and counts those that find no room.

use crate::net::IfId;
use arrayvec::ArrayVec;
use causeway_wire::MacAddr;
use std::net::{IpAddr, Ipv6Addr};

/// Something happened that a sibling or control cares for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A neighbour answered: it is reachable at this link-layer address.
    NeighborResolved {
        /// On which interface.
        interface: IfId,
        /// Its address.
        address: IpAddr,
        /// Its link-layer address.
        mac: MacAddr,
    },
    /// A neighbour that was reachable, or was being looked for, did not answer.
    NeighborUnreachable {
        /// On which interface.
        interface: IfId,
        /// Its address.
        address: IpAddr,
    },
    /// A flow table ran into its capacity; sent at most once a second and worker.
    TableFull {
        /// Which table: `sessions`, `mappings` or `index`.
        table: &'static str,
    },
    /// A worker took over a new plan.
    PlanAdopted {
        /// The worker.
        worker: u16,
        /// Generation of the plan.
        generation: u64,
    },
    /// A DHCPv6 Reply with addresses or prefixes went to a client on the link: it wants a gateway too.
    LeaseGiven {
        /// On which interface.
        interface: IfId,
        /// The client's link-local address.
        address: Ipv6Addr,
        /// Its link-layer address.
        mac: MacAddr,
    },
    /// The virtual routers became active: addresses are announced, then routers advertised.
    BecameActive,
    /// The virtual routers are active no more.
    BecameBackup,
    /// Somebody else advertises itself as a router on a tenant network (RFC 6104).
    RogueRouter {
        /// On which interface.
        interface: IfId,
        /// Its address.
        address: Ipv6Addr,
        /// Its link-layer address.
        mac: MacAddr,
    },
    /// A VRRP message that cannot be one of our virtual router's: ours by its VRID, and refused.
    VrrpConflict {
        /// On which interface.
        interface: IfId,
        /// Who sent it.
        address: IpAddr,
        /// The virtual router.
        vrid: u8,
        /// Why it was refused: the name of the drop reason.
        reason: &'static str,
    },
    /// A DHCPv6 client says that an address that it was given is somebody else's (RFC 9915 18.3.8), or such.
    LeaseDeclined {
        /// On which interface.
        interface: IfId,
        /// The address.
        address: Ipv6Addr,
        /// The client's link-layer address.
        mac: MacAddr,
    },
    /// Somebody else answers for an address of ours (RFC 5227 2.4, RFC 4862 5.4).
    AddressConflict {
        /// On which interface.
        interface: IfId,
        /// Our address.
        address: IpAddr,
        /// Who else claims it.
        mac: MacAddr,
    },
}

/// The most events that one poll of one worker keeps.
pub const EVENTS_PER_POLL: usize = 64;

/// Events of one poll.
#[derive(Debug, Default)]
pub struct Events {
    list: ArrayVec<Event, EVENTS_PER_POLL>,
    /// Events that found no room since the last [`drain`](Events::drain).
    lost: u64,
}

impl Events {
    /// No events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; when there is no room it is lost and counted.
    #[inline]
    pub fn push(&mut self, event: Event) {
        if self.list.try_push(event).is_err() {
            self.lost += 1;
        }
    }

    /// The events that are there.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.list.iter()
    }

    /// Forgets events that a sibling has acted on.
    pub fn retain(&mut self, mut keep: impl FnMut(&Event) -> bool) {
        self.list.retain(|event| keep(event));
    }

    /// True when there is nothing to drain.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.lost == 0
    }

    /// Takes all events out, and how many were lost.
    pub fn drain(&mut self) -> (impl Iterator<Item = Event> + '_, u64) {
        let lost = std::mem::take(&mut self.lost);
        (self.list.drain(..), lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_beyond_the_room_are_counted_not_kept() {
        let mut e = Events::new();
        for worker in 0..(EVENTS_PER_POLL as u16 + 3) {
            e.push(Event::PlanAdopted { worker, generation: 1 });
        }
        let (list, lost) = e.drain();
        assert_eq!((list.count(), lost), (EVENTS_PER_POLL, 3));
        assert!(e.is_empty());
    }
}
