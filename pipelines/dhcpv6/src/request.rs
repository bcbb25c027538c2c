//! What crosses between a worker and the engine: a parsed [`Request`] one way, an [`Answer`] back.

use crate::lease::Identity;
use crate::message::{Received, Relay};
use causeway_core::{DropReason, IfId, Instant};
use causeway_wire::MacAddr;
use std::net::Ipv6Addr;

/// RFC 9915 7.2: the port that clients listen on.
pub const CLIENT_PORT: u16 = 546;
/// RFC 9915 7.2: the port that servers and relays listen on.
pub const SERVER_PORT: u16 = 547;

/// A message that passed the worker's checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The interface that it came in by, as the plan of then numbers it.
    pub interface: IfId,
    /// The link of that interface, as [`Interface::link`](causeway_core::Interface::link) numbers it in every plan:
    /// this says where the client is, whatever plan is in force by now.
    pub link: u32,
    /// Who sent the packet: the client, or the relay closest to us.
    pub source: Ipv6Addr,
    /// From which UDP port.
    pub source_port: u16,
    /// From which link-layer address.
    pub mac: MacAddr,
    /// When.
    pub arrived: Instant,
    /// The worker that has it, to which the answer goes.
    pub worker: u16,
    /// The client's message, and the relays that it came by.
    pub received: Received,
}

impl Request {
    /// The relay closest to the client, if there is one.
    #[must_use]
    pub fn nearest(&self) -> Option<&Relay> {
        self.received.relays.last()
    }

    /// The client's link-layer address: the source of its frame, or as the relay closest to it tells
    /// (RFC 6939 5). Nothing if that relay does not.
    #[must_use]
    pub fn client_mac(&self) -> Option<MacAddr> {
        match self.nearest() {
            None => Some(self.mac),
            Some(relay) => relay.client_mac,
        }
    }

    /// The address that tells the client's link: of the relay closest to the client that gives one. Nothing
    /// for a message that came directly or by lightweight relays only (RFC 6221 5.1), which tell none.
    #[must_use]
    pub fn link_address(&self) -> Option<Ipv6Addr> {
        self.received.relays.iter().rev().map(|relay| relay.link_address).find(|a| !a.is_unspecified())
    }

    /// Whom leases will belong to: see [`Identity`]. Nothing for an Information-request that tells nothing
    /// of its sender.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        if let Some(mac) = self.client_mac() {
            return Some(Identity::Mac(mac));
        }
        if let Some(id) = self.nearest().and_then(|relay| relay.interface_id.as_ref()) {
            let link = self.link_address().unwrap_or(Ipv6Addr::UNSPECIFIED);
            return Some(Identity::Interface { link, id: id.clone() });
        }
        self.received.message.client_id.clone().map(Identity::Duid)
    }
}

/// What a worker sends, or why nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The worker that has to send it: the one that asked.
    pub worker: u16,
    /// The interface that the request came in by, as the plan of then numbers it.
    pub interface: IfId,
    /// Its link, as [`Interface::link`](causeway_core::Interface::link) numbers it in every plan: the answer goes
    /// there, or nowhere.
    pub link: u32,
    /// The client or the relay.
    pub destination: Ipv6Addr,
    /// Its UDP port.
    pub port: u16,
    /// Where the request's frame came from: the link-layer destination if `destination` is link-local.
    pub mac: MacAddr,
    /// The message, or why there is none.
    pub octets: Result<Box<[u8]>, DropReason>,
    /// It is a Reply that gives an address or prefix to a client on this link: the client's link-local
    /// address and its link-layer address.
    pub given: Option<(Ipv6Addr, MacAddr)>,
    /// It gives an address or prefix, to whomever.
    pub leased: bool,
    /// It says that there is nothing to lease.
    pub none_available: bool,
    /// The first address that the client declined by its message, and how many.
    pub declined: Option<(Ipv6Addr, u32)>,
    /// Options found no room.
    pub left_out: bool,
}
