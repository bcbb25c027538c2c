//! What every pipeline shares and none owns: the frame, the packet with what is known of it, bursts,
//! verdicts, drop reasons, counters, the outbox, events, networks, classification and the origin of
//! ICMP errors.
//!
//! Nothing here knows DPDK, a NAT or a state table. A stage is generic over [`Frame`], which
//! `hwprofiles` implements over `rte_mbuf` and [`HeapFrame`] implements over plain memory for tests and
//! benches.

#![forbid(unsafe_code)]

pub mod burst;
pub mod classify;
pub mod counters;
pub mod event;
pub mod frame;
pub mod icmp_error;
pub mod net;
pub mod rate;
pub mod rfc6890;
pub mod route;
pub mod time;
pub mod udp;
pub mod verdict;

pub use burst::{BURST, Burst, Class, Handoff, Meta, Outbox, Packet};
pub use counters::{Counter, Counters, DropReason};
pub use event::Event;
pub use frame::{Frame, FrameSource, HeapFrame, HeapSource, NoRoom, Queues};
pub use net::{Egress, IfId, Interface, Interfaces, Prefix4, Prefix6, Role, Validation, Via};
pub use rate::TokenBucket;
pub use route::Routes;
pub use time::{Duration, Instant};
pub use verdict::Verdict;

use causeway_wire::{ethernet, ipv4, ipv6};

/// What a stage may use besides the packet itself: the time of this poll, where frames come from and go
/// to, and where things are counted. One is made per poll and worker.
#[derive(Debug)]
pub struct Ctx<'a, S: FrameSource> {
    /// The clock, read once per poll.
    pub now: Instant,
    /// Number of this worker, from 0.
    pub worker: u16,
    /// How many workers there are.
    pub workers: u16,
    /// This worker's counters.
    pub counters: &'a Counters,
    /// Frames that the stage originates or multiplies.
    pub outbox: &'a mut Outbox<S::Frame>,
    /// Where originated frames come from.
    pub source: &'a mut S,
    /// Events for siblings and for control.
    pub events: &'a mut event::Events,
    /// The interfaces of the current plan.
    pub interfaces: &'a Interfaces,
    /// The routes of the current plan.
    pub routes: &'a Routes,
}

impl<S: FrameSource> Ctx<'_, S> {
    /// A fresh packet for something that this stage originates, or nothing (counted) when the source is
    /// empty. Its frame is empty; it has no ingress.
    pub fn originate(&mut self) -> Option<Packet<S::Frame>> {
        let frame = self.source.alloc();
        if frame.is_none() {
            self.counters.drop(DropReason::NoFrame);
        }
        frame.map(|frame| Packet { frame, meta: Meta::originated() })
    }

    /// Makes a packet of so many octets from its network-layer header on, which `write` fills in, and puts it on its
    /// way. False if there was no frame for it, which is counted. `protocol` is what the network-layer header, which
    /// has no options, is followed by.
    ///
    /// # Errors
    /// Nothing is sent, and the caller counts: [`DropReason::OutboxFull`], or `bad` if so many octets do not fit into a
    /// frame or `write` says that it cannot.
    pub fn send_new(
        &mut self,
        egress: Egress,
        protocol: u8,
        octets: usize,
        bad: DropReason,
        write: impl FnOnce(&mut [u8]) -> bool,
    ) -> Result<bool, DropReason> {
        if self.outbox.room() == 0 {
            return Err(DropReason::OutboxFull);
        }
        let Some(mut packet) = self.originate() else { return Ok(false) };
        if packet.frame.push_back(octets).is_err() || !write(packet.frame.bytes_mut()) {
            return Err(bad);
        }
        let six = packet.bytes().first().is_some_and(|first| first >> 4 == 6);
        let (ethertype, l4) = if six {
            (ethernet::ETHERTYPE_IPV6, ipv6::HEADER)
        } else {
            (ethernet::ETHERTYPE_IPV4, ipv4::HEADER)
        };
        #[expect(clippy::cast_possible_truncation, reason = "40 or 20")]
        let l4 = l4 as u16;
        packet.meta = Meta { ethertype, protocol, l4, ..packet.meta };
        self.send(packet, egress);
        Ok(true)
    }

    /// Puts a packet on its way; dropped and counted when the outbox is full.
    pub fn send(&mut self, packet: Packet<S::Frame>, egress: Egress) {
        if self.outbox.push(packet, egress).is_err() {
            self.counters.drop(DropReason::OutboxFull);
        }
    }
}
