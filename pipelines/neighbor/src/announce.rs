//! Announcing our own addresses, at the start and when they became ours: unsolicited Neighbor
//! Advertisements (RFC 4861 7.2.6) and ARP announcements (RFC 5227 2.3).
//!
//! When the virtual routers became active here (RFC 9568 6.4.2), every address that moved with them is
//! announced at once, those that we only answer for if asked (NAT64 pool, proxy) among them: switches and
//! routers believe that they are where the last active gateway was. What stays with the port is left out.

use crate::Neighbors;
use crate::arp::Arp;
use crate::nd::{Message, NdOut};
use crate::resolve::originated;
use causeway_core::classify::ALL_NODES;
use causeway_core::{
    Counter, Counters, Ctx, Egress, Frame, FrameSource, IfId, Instant, Interface, Interfaces, Prefix4, Via,
};
use causeway_wire::{MacAddr, ethernet};
use std::net::{IpAddr, Ipv4Addr};

/// Where the announcing stands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Announcing {
    /// Rounds to go.
    rounds: u8,
    /// The next address of this round.
    cursor: usize,
    /// When the round begins.
    at: Instant,
    /// What moved here, instead of all that is ours.
    moved: bool,
}

/// Outbox room that announcing leaves to others.
const LEAVE: usize = 16;
/// The most addresses of one interface that we only answer for if asked, and that are announced.
const MOST_PROXIES: usize = 1024;

impl<F: Frame> Neighbors<F> {
    /// Begins to announce all addresses of ours. The following [`tick`](Neighbors::tick)s send what the
    /// outbox has room for. One worker does this for the gateway.
    pub fn announce(&mut self, now: Instant) {
        let rounds = self.config.announcements;
        self.announcing = Announcing { rounds, cursor: 0, at: now, moved: false };
    }

    /// The virtual routers became active: begins to announce, to each link of `ctx.interfaces`, every address
    /// that is not its port's own, and of those that are only answered for if asked 1,024 at most (those that
    /// are on-link come first; the rest is counted). Sends what the outbox has room for, as
    /// [`announce_all`](Neighbors::announce_all), and gives what that gives. At least one round is sent.
    pub fn became_active<S: FrameSource<Frame = F>>(&mut self, ctx: &mut Ctx<'_, S>) -> bool {
        self.announce_moved(ctx.interfaces, ctx.counters, ctx.now);
        self.announce_all(ctx)
    }

    /// As [`became_active`](Neighbors::became_active), but sends nothing yet: the following
    /// [`tick`](Neighbors::tick)s do. For virtual routers that are active and got other addresses.
    pub fn announce_moved(&mut self, interfaces: &Interfaces, counters: &Counters, now: Instant) {
        let rounds = self.config.announcements.max(1);
        self.announcing = Announcing { rounds, cursor: 0, at: now, moved: true };
        let left_out: u64 = interfaces.iter().map(|(_, i)| proxies_left_out(i)).sum();
        counters.add(Counter::AnnouncementsLeftOut, left_out);
    }

    /// Goes on with what [`became_active`](Neighbors::became_active) began. True when the whole first round
    /// was sent; otherwise to be called again once the outbox was emptied. Later rounds are
    /// [`tick`](Neighbors::tick)'s.
    pub fn announce_all<S: FrameSource<Frame = F>>(&mut self, ctx: &mut Ctx<'_, S>) -> bool {
        let before = self.announcing.rounds;
        self.send_announcements(ctx);
        self.announcing.rounds < before || before == 0 || ctx.now < self.announcing.at
    }

    /// The virtual routers are active here no more: what is left to announce is not ours.
    pub const fn became_backup(&mut self) {
        self.announcing.rounds = 0;
    }

    pub(crate) fn send_announcements<S: FrameSource<Frame = F>>(&mut self, ctx: &mut Ctx<'_, S>) {
        let Announcing { rounds, cursor, at, moved } = self.announcing;
        if rounds == 0 || ctx.now < at {
            return;
        }
        let interfaces = ctx.interfaces;
        for (id, interface, address) in announced(interfaces, moved).skip(cursor) {
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

/// What is announced: all that is ours, or all that moves with the virtual routers.
fn announced(interfaces: &Interfaces, moved: bool) -> impl Iterator<Item = (IfId, &Interface, IpAddr)> {
    interfaces.iter().flat_map(move |(id, i)| {
        let stays = move |a: &IpAddr| moved && i.real.as_ref().is_some_and(|real| real.addrs.contains(a));
        let proxies = if moved { MOST_PROXIES } else { 0 };
        let all = own_of(i).filter(move |a| !stays(a)).chain(proxies_of(i).take(proxies));
        all.map(move |a| (id, i, a))
    })
}

/// Our addresses on an interface; not those that we only answer for if asked.
pub(crate) fn own_of(i: &Interface) -> impl Iterator<Item = IpAddr> {
    let six = std::iter::once(&i.link_local)
        .chain(&i.more_link_local)
        .chain(i.addrs6.iter().map(|(a, _)| a))
        .chain(&i.service6);
    six.map(|a| IpAddr::V6(*a)).chain(i.addrs4.iter().map(|(a, _)| IpAddr::V4(*a)))
}

/// All addresses of a prefix.
pub(crate) fn addresses4(p: &Prefix4) -> impl Iterator<Item = IpAddr> + use<> {
    (p.address().to_bits()..=p.last().to_bits()).map(|a| IpAddr::V4(Ipv4Addr::from_bits(a)))
}

/// The addresses that we only answer for if asked: first those that are on-link, for which somebody on the link
/// may have an entry.
fn proxies_of(i: &Interface) -> impl Iterator<Item = IpAddr> {
    let on_link = |a: Ipv4Addr| i.addrs4.iter().any(|(_, p)| p.contains(a));
    // Of two prefixes that overlap, one holds the other.
    let both =
        |p: &Prefix4, net: &Prefix4| p.overlaps(*net).then(|| if p.len() > net.len() { *p } else { *net });
    let nets = i.addrs4.iter().enumerate();
    let nets = nets.filter(|(n, (_, p))| !i.addrs4.iter().take(*n).any(|(_, before)| before == p));
    let first = nets.flat_map(move |(_, (_, net))| i.proxy4.iter().filter_map(move |p| both(p, net)));
    // A prefix that holds an on-link one is not looked through for ever.
    let far = i.proxy4.iter().flat_map(|p| addresses4(p).take(4 * MOST_PROXIES));
    let far = far.filter(move |a| matches!(a, IpAddr::V4(a) if !on_link(*a)));
    let own = |a: &IpAddr| i.addrs4.iter().any(|(own, _)| IpAddr::V4(*own) == *a);
    first.flat_map(|p| addresses4(&p)).chain(far).filter(move |a| !own(a))
}

/// How many of those are not announced.
fn proxies_left_out(i: &Interface) -> u64 {
    let all: u64 = i.proxy4.iter().map(|p| 1 << (32 - p.len())).sum();
    let own = i.addrs4.iter().filter(|(a, _)| i.proxy4.iter().any(|p| p.contains(*a))).count();
    all.saturating_sub((MOST_PROXIES + own) as u64)
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

#[cfg(test)]
pub(crate) mod tests;
