//! The stage: solicitations in, advertisements out.

use crate::advertisements::{Advertisements, Network};
use crate::message::Message;
use crate::random::Random;
use crate::receive::{Heard, check};
use crate::schedule::{Event as Turn, Schedule};
use causeway_core::classify::ALL_NODES;
use causeway_core::{
    Counter, Ctx, DropReason, Duration, Egress, Event, FrameSource, IfId, Instant, Interface, Meta, Packet,
    Role, TokenBucket, Verdict, Via,
};
use causeway_wire::l4::PROTO_ICMPV6;
use causeway_wire::{MacAddr, ipv6};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Solicitations that a worker answers one by one, for each network: a second, and at once.
const ANSWERS: (u32, u32) = (200, 200);
/// Advertisements to clients of DHCPv6 that a worker sends, for each network: a second, and at once.
const LEASES: (u32, u32) = (1000, 1000);
/// The shortest time between two alarms about other routers on one network.
const ALARM_INTERVAL: Duration = Duration::from_secs(10);
/// Outbox room that advertising leaves to others.
const LEAVE: usize = 16;
/// How often hosts are told that the router left its former address (RFC 4861 6.2.8: "a few").
const MOVED: u8 = 3;
/// Never.
const NEVER: Instant = Instant::from_micros(u64::MAX);

/// Router advertisements of one worker.
///
/// Every worker answers solicitations that it receives, by [`receive`](Self::receive). Worker 0 also tells all nodes,
/// by [`tick`](Self::tick). While another gateway is the active one (RFC 9568 6.4.2) neither is called; when this
/// gateway becomes the active one, [`became_active`](Self::became_active) is.
#[derive(Debug)]
pub struct Stage {
    advertisements: Arc<Advertisements>,
    worker: u16,
    random: Random,
    /// One for each interface.
    lines: Vec<Line>,
    /// When worker 0 has to tell all nodes something.
    next: Instant,
    /// Worker 0 has begun to tell.
    begun: bool,
}

/// What a worker keeps for one interface.
#[derive(Debug, Clone)]
struct Line {
    schedule: Schedule,
    answers: TokenBucket,
    leases: TokenBucket,
    /// How often hosts are still to be told of the former address.
    moved: u8,
    /// When another router was last told of.
    alarm: Option<Instant>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            schedule: Schedule::default(),
            answers: TokenBucket::new(ANSWERS.0, ANSWERS.1),
            leases: TokenBucket::new(LEASES.0, LEASES.1),
            moved: 0,
            alarm: None,
        }
    }
}

impl Stage {
    /// The stage of worker number `worker`. `seed` makes its intervals its own (RFC 4861 6.2.4): it should differ from
    /// worker to worker and from start to start.
    #[must_use]
    pub fn new(advertisements: Arc<Advertisements>, worker: u16, seed: u64) -> Self {
        let lines = vec![Line::default(); advertisements.networks().len()];
        let random = Random::new(seed);
        Self { advertisements, worker, random, lines, next: Instant::ZERO, begun: false }
    }

    /// Takes over what another plan advertises. What changed is told soon, as in the beginning (RFC 4861 6.2.4).
    pub fn set_config(&mut self, advertisements: Arc<Advertisements>, now: Instant) {
        let before = std::mem::replace(&mut self.advertisements, advertisements);
        let advertisements = Arc::clone(&self.advertisements);
        let mut lines = std::mem::take(&mut self.lines);
        for (here, network) in advertisements.networks().iter().enumerate() {
            let known = before.same_as(network);
            let line = known.and_then(|(at, _)| lines.get_mut(at)).map(std::mem::take).unwrap_or_default();
            let moved = if network.moved().is_empty() { line.moved } else { MOVED };
            self.lines.push(Line { moved, ..line });
            if known.is_some_and(|(_, old)| old.was_asked()) {
                advertisements.ask(network);
            }
            let differs = known.is_none_or(|(_, old)| network.differs(old));
            match network.config {
                Some(_) if self.begun && differs => self.turn(here, Turn::Changed, now),
                Some(_) => {}
                None if network.ceased() => self.turn(here, Turn::Cease, now),
                None => self.turn(here, Turn::Stop, now),
            }
        }
        self.look_ahead();
    }

    /// Handles a packet with ICMPv6 of type 133, 134 or 137 for the gateway. It never has to be handed to another
    /// worker. The answer, if there is one, goes to the outbox.
    pub fn receive<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &mut Packet<S::Frame>,
    ) -> Verdict {
        match self.heard(ctx, packet) {
            Ok(()) => Verdict::Consume,
            Err(reason) => Verdict::Drop(reason),
        }
    }

    fn heard<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &Packet<S::Frame>,
    ) -> Result<(), DropReason> {
        let id = packet.meta.ingress;
        let interfaces = ctx.interfaces;
        let interface = interfaces.get(id).ok_or(DropReason::LocalNoService)?;
        let heard = check(packet)?;
        let src_mac = packet.meta.src_mac;
        if interface.owns_mac(src_mac) {
            return Err(DropReason::OwnSource);
        }
        match heard {
            Heard::Redirect => Err(DropReason::NdIgnored),
            Heard::Advert { source } => Err(self.other_router(ctx, id, interface, source, src_mac)),
            Heard::Solicit { source, .. } if interface.owns6(source) => Err(DropReason::OwnSource),
            Heard::Solicit { source, mac } => self.solicited(ctx, id, source, mac.unwrap_or(src_mac)),
        }
    }

    /// RFC 6104 5.4: on a tenant's network nobody else is a router, whatever it says. It is never believed, only told of.
    fn other_router<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        id: IfId,
        interface: &Interface,
        address: Ipv6Addr,
        mac: MacAddr,
    ) -> DropReason {
        if interface.role != Role::Tenant {
            return DropReason::NdIgnored;
        }
        if let Some(line) = self.lines.get_mut(usize::from(id.0))
            && line.alarm.is_none_or(|at| ctx.now.since(at) >= ALARM_INTERVAL)
        {
            line.alarm = Some(ctx.now);
            ctx.events.push(Event::RogueRouter { interface: id, address, mac });
        }
        DropReason::RogueRa
    }

    /// RFC 4861 6.2.6.
    fn solicited<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        id: IfId,
        source: Ipv6Addr,
        mac: MacAddr,
    ) -> Result<(), DropReason> {
        let network = self.advertisements.get(id);
        let line = self.lines.get_mut(usize::from(id.0));
        let (Some(network), Some(line)) = (network, line) else { return Err(DropReason::NdIgnored) };
        // RFC 4861 6.2.2: only where we advertise.
        let Some(config) = &network.config else { return Err(DropReason::NdIgnored) };
        ctx.counters.add(Counter::RsReceived, 1);
        if config.unicast && !source.is_unspecified() {
            if line.answers.take(ctx.now) {
                send(ctx, id, network.messages(ctx.now), source, mac, Counter::RaUnicast);
                return Ok(());
            }
            ctx.counters.add(Counter::RaLimited, 1);
        }
        self.advertisements.ask(network);
        ctx.counters.add(Counter::RaSolicited, 1);
        Ok(())
    }

    /// Sends to all nodes what is due; worker 0 calls it at each poll. The first call is as
    /// [`became_active`](Self::became_active). When nothing is due it costs two comparisons.
    #[inline]
    pub fn tick<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>) {
        if ctx.now >= self.next || self.advertisements.is_asked() {
            self.turns(ctx);
        }
    }

    /// Tells all nodes on every network at once, and goes on as in the beginning: this gateway begins to serve
    /// (RFC 9568 6.4.1, RFC 4861 6.2.4). Within three seconds of the last advertisement it waits for their end.
    pub fn became_active<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>) {
        self.begun = false;
        self.turns(ctx);
    }

    #[cold]
    fn turns<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>) {
        if self.worker != 0 {
            self.next = NEVER;
            return;
        }
        let advertisements = Arc::clone(&self.advertisements);
        let networks = advertisements.networks();
        if !self.begun {
            self.begun = true;
            for (at, _) in networks.iter().enumerate().filter(|(_, n)| n.config.is_some()) {
                self.turn(at, Turn::Begin, ctx.now);
            }
        }
        if advertisements.was_asked() {
            for (at, _) in networks.iter().enumerate().filter(|(_, n)| n.was_asked()) {
                self.turn(at, Turn::Solicited, ctx.now);
            }
        }
        for (at, network) in networks.iter().enumerate() {
            let Some(line) = self.lines.get_mut(at) else { break };
            if line.schedule.due().is_none_or(|due| ctx.now < due) {
                continue;
            }
            if !room_for(ctx, network) {
                // What is due stays due; the next poll goes on.
                break;
            }
            if line.moved > 0 {
                line.moved -= 1;
                to_all(ctx, at, network.moved());
            }
            to_all(ctx, at, network.messages(ctx.now));
            self.turn(at, Turn::Sent, ctx.now);
        }
        self.look_ahead();
    }

    /// Advertises to one client of DHCPv6 that got a lease, so that it has its gateway at once. Nothing is sent where
    /// nothing is advertised, or beyond a bound; the client will ask by itself.
    pub fn unicast<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        interface: IfId,
        address: Ipv6Addr,
        mac: MacAddr,
    ) {
        let line = self.lines.get_mut(usize::from(interface.0));
        let (Some(network), Some(line)) = (self.advertisements.get(interface), line) else { return };
        if network.config.is_none() || !mac.is_unicast() || address.is_multicast() || address.is_unspecified()
        {
            return;
        }
        if line.leases.take(ctx.now) {
            send(ctx, interface, network.messages(ctx.now), address, mac, Counter::RaUnicast);
        } else {
            ctx.counters.add(Counter::RaLimited, 1);
        }
    }

    /// Tells all nodes that this router is gone (RFC 4861 6.2.5); worker 0 calls it when the last gateway ends. Says
    /// whether that is done: where the outbox has not enough room, call it again with an empty one.
    ///
    /// It goes out even within three seconds of the last advertisement: the process has no time to wait, and it is
    /// one per network and process.
    pub fn shutdown<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>) -> bool {
        let advertisements = Arc::clone(&self.advertisements);
        for (at, network) in advertisements.networks().iter().enumerate() {
            let Some(line) = self.lines.get(at) else { break };
            if line.schedule.due().is_none() {
                continue;
            }
            if !room_for(ctx, network) {
                return false;
            }
            to_all(ctx, at, network.last());
            self.turn(at, Turn::Stop, ctx.now);
        }
        self.next = NEVER;
        true
    }

    fn turn(&mut self, at: usize, turn: Turn, now: Instant) {
        let timing = self.advertisements.networks().get(at).map(Network::timing);
        if let (Some(timing), Some(line)) = (timing, self.lines.get_mut(at)) {
            line.schedule.on(turn, now, timing, &mut self.random);
        }
    }

    fn look_ahead(&mut self) {
        let due = self.lines.iter().filter_map(|line| line.schedule.due()).min();
        // Before the beginning, the next call begins.
        self.next = if self.begun { due.unwrap_or(NEVER) } else { Instant::ZERO };
    }
}

/// True if what may be due for this network can go out now.
fn room_for<S: FrameSource>(ctx: &Ctx<'_, S>, network: &Network) -> bool {
    ctx.outbox.room()
        >= LEAVE + network.moved().len() + network.messages(ctx.now).len().max(network.last().len())
}

fn to_all<S: FrameSource>(ctx: &mut Ctx<'_, S>, at: usize, messages: &[Message]) {
    let Ok(at) = u16::try_from(at) else { return };
    send(ctx, IfId(at), messages, ALL_NODES, MacAddr::from_ipv6_multicast(ALL_NODES), Counter::RaSent);
}

fn send<S: FrameSource>(
    ctx: &mut Ctx<'_, S>,
    id: IfId,
    messages: &[Message],
    dst: Ipv6Addr,
    mac: MacAddr,
    counter: Counter,
) {
    for message in messages {
        let Some(mut packet) = ctx.originate() else { return };
        if message.write(&mut packet.frame, dst, ctx.now).is_err() {
            ctx.counters.drop(DropReason::NoHeadroom);
            continue;
        }
        packet.meta = Meta { protocol: PROTO_ICMPV6, l4: ipv6::HEADER as u16, ..Meta::originated() };
        if ctx.outbox.push(packet, Egress::new(id, Via::Mac(mac))).is_ok() {
            ctx.counters.add(counter, 1);
        } else {
            ctx.counters.drop(DropReason::OutboxFull);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
