//! Announcing our own addresses, at the start and when they became ours: unsolicited Neighbor
//! Advertisements (RFC 4861 7.2.6) and ARP announcements (RFC 5227 2.3).

use crate::Neighbors;
use crate::arp::Arp;
use crate::nd::{Message, NdOut};
use crate::resolve::originated;
use causeway_core::classify::ALL_NODES;
use causeway_core::{Counter, Ctx, Egress, Frame, FrameSource, IfId, Instant, Interface, Interfaces, Via};
use causeway_wire::{MacAddr, ethernet};
use std::net::IpAddr;

/// Where the announcing stands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Announcing {
    /// Rounds to go.
    rounds: u8,
    /// The next address of this round.
    cursor: usize,
    /// When the round begins.
    at: Instant,
}

/// Outbox room that announcing leaves to others.
const LEAVE: usize = 16;

impl<F: Frame> Neighbors<F> {
    /// Begins to announce all addresses of ours. The following [`tick`](Neighbors::tick)s send what the
    /// outbox has room for. One worker does this for the gateway.
    pub fn announce(&mut self, now: Instant) {
        self.announcing = Announcing { rounds: self.config.announcements, cursor: 0, at: now };
    }

    pub(crate) fn send_announcements<S: FrameSource<Frame = F>>(&mut self, ctx: &mut Ctx<'_, S>) {
        if self.announcing.rounds == 0 || ctx.now < self.announcing.at {
            return;
        }
        let interfaces = ctx.interfaces;
        for (id, interface, address) in own(interfaces).skip(self.announcing.cursor) {
            if ctx.outbox.room() <= LEAVE {
                return;
            }
            announce_one(ctx, id, interface, address);
            self.announcing.cursor += 1;
        }
        self.announcing.rounds -= 1;
        self.announcing.cursor = 0;
        self.announcing.at = ctx.now + self.config.announce_interval;
    }
}

/// Our addresses; not those that we only answer for if asked.
fn own(interfaces: &Interfaces) -> impl Iterator<Item = (IfId, &Interface, IpAddr)> {
    interfaces.iter().flat_map(|(id, i)| {
        let six = std::iter::once(&i.link_local)
            .chain(&i.more_link_local)
            .chain(i.addrs6.iter().map(|(a, _)| a))
            .chain(&i.service6);
        let four = i.addrs4.iter().map(|(a, _)| IpAddr::V4(*a));
        six.map(|a| IpAddr::V6(*a)).chain(four).map(move |a| (id, i, a))
    })
}

/// Tells the link that an address is ours.
pub(crate) fn announce_one<S: FrameSource>(
    ctx: &mut Ctx<'_, S>,
    id: IfId,
    interface: &Interface,
    address: IpAddr,
) {
    let Some(mut packet) = ctx.originate() else { return };
    let (written, mac, counter) = match address {
        IpAddr::V6(target) => {
            // RFC 4861 7.2.6: to all nodes, not solicited, and overriding what they know.
            let message =
                Message::Advert { target, mac: interface.mac_of(address), solicited: false, override_: true };
            let out = NdOut { src: target, dst: ALL_NODES, message };
            let mac = MacAddr::from_ipv6_multicast(ALL_NODES);
            (out.emit(&mut packet.frame), mac, Counter::NaSent)
        }
        IpAddr::V4(address) => {
            // RFC 5227 2.3: a request whose sender and target are the address.
            packet.meta.ethertype = ethernet::ETHERTYPE_ARP;
            let arp = Arp {
                reply: false,
                sender_mac: interface.mac_of(address.into()),
                sender: address,
                target_mac: MacAddr::default(),
                target: address,
            };
            (arp.emit(&mut packet.frame), MacAddr::BROADCAST, Counter::ArpSent)
        }
    };
    let egress = Egress::new(id, Via::Mac(mac));
    originated(ctx, packet, written.is_ok().then_some(counter), egress);
}
