//! The stage: from packets of IP protocol 112 to the election, and from the election to packets.
//!
//! One worker runs it. Others hand VRRP packets to that worker and ask [`Shared`] for the view in force.
//!
//! ```text
//!  receive:   hop limit 255 -> straight behind the IP header -> to the group -> source
//!               -> version, type, length, checksum -> VRID -> count, interval, first address -> addresses
//!               -> the election
//!  tick:      startup, faults, timers -> Transition
//!  advertise: what the election wants to say, in the view then in force
//! ```
//! A packet that fails a check is dropped for that reason and touches no timer.

use crate::config::{Config, VirtualRouter};
use crate::group::{Group, Outcome, Phase, Say};
use crate::machine::interval;
use crate::packet::{self, Advert, Around, HOP_LIMIT, OWNER, PROTOCOL, STOPPING};
use crate::shared::{Shared, Tracking};
use causeway_core::{
    Counter, Ctx, DropReason, Duration, Egress, Event, Frame, FrameSource, IfId, Instant, NoRoom, Packet,
    TokenBucket, Verdict, Via,
};
use causeway_wire::ethernet;
use causeway_wire::ipv4::{self, Ipv4Repr};
use causeway_wire::ipv6::{self, Ipv6Repr};
use std::net::IpAddr;
use std::sync::Arc;

/// What the worker has to do after a [`tick`](Stage::tick).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Transition {
    /// Take the active view, [`advertise`](Stage::advertise), announce the addresses, send router
    /// advertisements, then [`publish_active`](Shared::publish_active).
    Active,
    /// Take the standby view.
    Backup,
}

/// Traffic class and type of service of advertisements: CS6, network control (RFC 4594 3.2). RFC 9568 2.5 wants
/// them ahead of what could delay them.
const NETWORK_CONTROL: u8 = 0xc0;

/// The election on one worker.
#[derive(Debug)]
pub struct Stage {
    config: Arc<Config>,
    shared: Arc<Shared>,
    group: Group,
    /// Nothing happens before, unless tracking changes.
    due: Instant,
    /// The last tick.
    ticked: Instant,
    /// The deadline at which a backup waited once for what came while this worker stood still.
    excused: Option<Instant>,
    tracking: Tracking,
    /// What the worker was told last: true for active.
    told: bool,
    /// Transitions that were not counted yet: to backup, to active.
    transitions: [u32; 2],
    /// For events about messages that were refused: counters count all of them.
    conflicts: TokenBucket,
    /// It was shut down, and does not begin again.
    stopped: bool,
}

/// The most that a backup which stood still waits beyond its timer.
const MOST_GRACE: Duration = Duration::from_millis(10);

/// How many refused messages control is told of at once, and then each second.
const CONFLICTS: u32 = 10;

impl Stage {
    /// A stage that begins at its first [`tick`](Self::tick).
    #[must_use]
    pub fn new(config: Arc<Config>, shared: Arc<Shared>) -> Self {
        let tracking = shared.tracking();
        let mut group = Group::new(&config);
        group.set_penalty(tracking.penalty());
        shared.set_lasts(interval(config.interval_cs) * 3);
        shared.tell_priority(group.parameters().priority);
        let conflicts = TokenBucket::new(CONFLICTS, CONFLICTS);
        Self {
            config,
            shared,
            group,
            due: Instant::ZERO,
            ticked: Instant::ZERO,
            excused: None,
            tracking,
            told: false,
            transitions: [0; 2],
            conflicts,
            stopped: false,
        }
    }

    /// Adopts another configuration. A gateway that is active stays so, also for virtual routers that are new;
    /// one that is backup is so for new ones too, and waits for a whole active-down interval there.
    pub fn set_config(&mut self, config: Arc<Config>, now: Instant) {
        // Numbers of interfaces may have changed: a virtual router is known by what it is on the wire.
        let same = |a: &VirtualRouter, b: &VirtualRouter| {
            a.vrid == b.vrid && a.addresses.first() == b.addresses.first()
        };
        // Those of several networks may look alike there: the first is the first, and so on.
        let mut left: Vec<(usize, &VirtualRouter)> = self.config.routers.iter().enumerate().collect();
        let mut take = |r: &VirtualRouter| {
            let at = left.iter().position(|(_, old)| same(old, r))?;
            Some(left.remove(at).0)
        };
        let was: Vec<Option<usize>> = config.routers.iter().map(&mut take).collect();
        self.group = self.group.successor(&config, &was, self.tracking.penalty(), now);
        self.config = config;
        self.shared.set_lasts(interval(self.config.interval_cs) * 3);
        self.shared.tell_priority(self.group.parameters().priority);
        self.due = Instant::ZERO;
    }

    /// The state of the group.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.group.phase()
    }

    /// Handles a packet of IP protocol 112 that is for us.
    pub fn receive<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, packet: &Packet<S::Frame>) -> Verdict {
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
        let meta = &packet.meta;
        if meta.fragment {
            return Err(DropReason::LocalFragment);
        }
        let b = packet.bytes();
        let (src, dst, hops, header) = match meta.ethertype {
            ethernet::ETHERTYPE_IPV6 => {
                let ip = Ipv6Repr::parse(b).map_err(|_| DropReason::Ip6Truncated)?;
                (IpAddr::V6(ip.src), IpAddr::V6(ip.dst), ip.hop_limit, ipv6::HEADER)
            }
            ethernet::ETHERTYPE_IPV4 => {
                let ip = Ipv4Repr::parse(b).map_err(|_| DropReason::Ip4Truncated)?;
                (IpAddr::V4(ip.src), IpAddr::V4(ip.dst), ip.ttl, ipv4::HEADER)
            }
            _ => return Err(DropReason::LocalNoService),
        };
        let message = b.get(usize::from(meta.l4)..).unwrap_or_default();
        let member = self.member(meta.ingress, src.is_ipv6());
        let checked = self.check(message, member, src, dst, hops, usize::from(meta.l4) == header);
        let (member, advert) = match checked {
            Ok(ours) => ours,
            Err(reason) => {
                // Of somebody else's virtual routers nobody wants to hear; of ours the operator does.
                if let Some(member) = member
                    && let Some(vrid) = message.get(1)
                    && *vrid == self.config.routers[member].vrid
                {
                    self.conflict(ctx, meta.ingress, src, *vrid, reason.name());
                }
                return Err(reason);
            }
        };
        self.believe(ctx, meta.ingress, member, src, &advert);
        Ok(())
    }

    /// The virtual router of this family on this interface.
    fn member(&self, interface: IfId, ipv6: bool) -> Option<usize> {
        self.config.routers.iter().position(|r| r.interface == interface && r.source.is_ipv6() == ipv6)
    }

    /// RFC 9568 7.1, with what its section 5 wants of the IP header and errata 8299 to 8301.
    fn check<'a>(
        &self,
        message: &'a [u8],
        member: Option<usize>,
        src: IpAddr,
        dst: IpAddr,
        hops: u8,
        direct: bool,
    ) -> Result<(usize, Advert<'a>), DropReason> {
        if hops != HOP_LIMIT {
            return Err(DropReason::VrrpHopLimit);
        }
        if !direct {
            return Err(DropReason::VrrpExtension);
        }
        if dst != packet::group(dst.is_ipv6()).0 {
            return Err(DropReason::VrrpDestination);
        }
        // RFC 9568 5.1.2.1
        if matches!(src, IpAddr::V6(src) if !src.is_unicast_link_local()) {
            return Err(DropReason::VrrpSource);
        }
        let around = Around { src, dst, checksum4: self.config.checksum4 };
        let advert = Advert::parse(message, &around)?;
        let ours = member.filter(|m| self.config.routers[*m].vrid == advert.vrid);
        let member = ours.ok_or(DropReason::VrrpUnknownVrid)?;
        // Our own message, which a switch sent back.
        if src == self.config.routers[member].source {
            return Err(DropReason::OwnSource);
        }
        advert.judge()?;
        if matches!(compare(&advert, &self.config.routers[member].addresses), Addresses::Others) {
            return Err(DropReason::VrrpAddresses);
        }
        Ok((member, advert))
    }

    /// An advertisement that passed all checks.
    fn believe<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        interface: IfId,
        member: usize,
        src: IpAddr,
        advert: &Advert<'_>,
    ) {
        let router = &self.config.routers[member];
        let (vrid, ours) = (router.vrid, router.source);
        let differ = compare(advert, &router.addresses) == Addresses::Differ;
        ctx.counters.add(Counter::VrrpAdvertsReceived, 1);
        self.shared.tell_heard(src);
        if advert.priority == STOPPING {
            ctx.counters.add(Counter::VrrpPriorityZeroReceived, 1);
        }
        // RFC 9568 7.1: a mistake in somebody's configuration, which is told and not punished.
        if advert.interval_cs != self.config.interval_cs {
            ctx.counters.add(Counter::VrrpIntervalDiffers, 1);
        }
        if differ {
            ctx.counters.add(Counter::VrrpAddressesDiffer, 1);
            self.conflict(ctx, interface, src, vrid, Counter::VrrpAddressesDiffer.name());
        }
        // RFC 9568 8.3.2 and erratum 8298: two owners are a mistake too, and an election decides.
        if advert.priority == OWNER && self.group.parameters().priority == OWNER {
            self.conflict(ctx, interface, src, vrid, "vrrp-two-owners");
        }
        let outcome = self.group.heard(member, advert.priority, advert.interval_cs, (src, ours), ctx.now);
        if outcome == Outcome::AnswerLimited {
            ctx.counters.add(Counter::VrrpAnswersLimited, 1);
        }
        self.due = self.next();
    }

    fn conflict<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        interface: IfId,
        address: IpAddr,
        vrid: u8,
        reason: &'static str,
    ) {
        if self.conflicts.take(ctx.now) {
            ctx.events.push(Event::VrrpConflict { interface, address, vrid, reason });
        }
    }

    /// True if the next [`tick`](Self::tick) of a backup would take over, unless something is heard before.
    #[inline]
    #[must_use]
    pub fn would_take_over(&self, now: Instant) -> bool {
        now >= self.due
            && self.group.phase() == Phase::Backup
            && !self.stopped
            && !self.shared.tracking().fault()
            && self.group.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Lets time pass, and control's word count. Cheap when nothing is due. Afterwards the worker takes the
    /// view that the transition asks for, if there is one, and calls [`advertise`](Self::advertise).
    #[inline]
    pub fn tick(&mut self, now: Instant) -> Option<Transition> {
        let last = std::mem::replace(&mut self.ticked, now);
        if now < self.due && self.shared.tracking() == self.tracking {
            return None;
        }
        self.act(now, now.since(last))
    }

    #[cold]
    fn act(&mut self, now: Instant, stood_still: Duration) -> Option<Transition> {
        let tracking = self.shared.tracking();
        if tracking != self.tracking {
            self.tracking = tracking;
            self.group.set_penalty(tracking.penalty());
            self.shared.tell_priority(self.group.parameters().priority);
        }
        // What an advertisement has done comes first: the worker is told one transition at a time.
        let mut transition = self.transition(now);
        if transition.is_none() {
            match (tracking.fault(), self.group.phase()) {
                (_, Phase::Initialize) if tracking.fault() || self.stopped => {}
                (true, Phase::Backup) => self.group.shutdown(now),
                // Priority 0 leaves first, from the virtual router's own link-layer address (RFC 9568 7.2);
                // the next tick gives the transition.
                (true, Phase::Active) => {
                    self.group.shutdown(now);
                    self.due = now;
                    return None;
                }
                (_, Phase::Initialize) => {
                    self.group.startup(now);
                }
                // Whoever did not look for a while cannot say that nothing came: what did waits in queues.
                (false, Phase::Backup) if self.is_excused(now, stood_still) => {
                    self.excused = self.group.deadline();
                    self.due = now + self.grace();
                    return None;
                }
                (false, Phase::Backup | Phase::Active) => self.group.timers(now),
            }
            transition = self.transition(now);
        }
        self.due = self.next();
        transition
    }

    /// True if a backup's timers ran out while this worker did not look; once for each time that they run.
    fn is_excused(&self, now: Instant, stood_still: Duration) -> bool {
        let deadline = self.group.deadline();
        let ran_out = deadline.is_some_and(|deadline| now >= deadline);
        ran_out && self.excused != deadline && stood_still > self.grace()
    }

    /// How long to look for what came while this worker stood still, and how long it may do so unnoticed.
    fn grace(&self) -> Duration {
        (interval(self.config.interval_cs) / 4).min(MOST_GRACE)
    }

    /// What the worker does not know yet.
    fn transition(&mut self, now: Instant) -> Option<Transition> {
        self.shared.tell_phase(self.group.phase(), now);
        let active = self.group.phase() == Phase::Active;
        if active == self.told {
            return None;
        }
        self.told = active;
        self.transitions[usize::from(active)] += 1;
        if active {
            Some(Transition::Active)
        } else {
            self.shared.publish_active(false);
            Some(Transition::Backup)
        }
    }

    /// When there is something to do next.
    fn next(&self) -> Instant {
        let phase = self.group.phase();
        let absent = self.tracking.fault() || self.stopped || self.config.routers.is_empty();
        if (phase == Phase::Active) != self.told || phase == Phase::Initialize && !absent {
            return Instant::ZERO;
        }
        self.group.deadline().unwrap_or(Instant::from_micros(u64::MAX))
    }

    /// Sends what is to be said: advertisements that are due, answers, priority 0. Counts transitions, and
    /// tells control of them.
    #[inline]
    pub fn advertise<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>) {
        if self.group.is_saying() || self.transitions != [0; 2] {
            self.say(ctx);
        }
    }

    #[cold]
    fn say<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>) {
        let [backup, active] = std::mem::take(&mut self.transitions);
        if backup > 0 {
            ctx.counters.add(Counter::VrrpBecameBackup, backup.into());
            ctx.events.push(Event::BecameBackup);
        }
        if active > 0 {
            ctx.counters.add(Counter::VrrpBecameActive, active.into());
            ctx.events.push(Event::BecameActive);
        }
        let priority = self.group.parameters().priority;
        for (n, router) in self.config.routers.iter().enumerate() {
            if ctx.outbox.room() == 0 {
                // The rest follows at the next poll.
                return;
            }
            let priority = match self.group.take_say(n) {
                None => continue,
                Some(Say::Advert) => priority,
                Some(Say::Stopping) => STOPPING,
            };
            send(ctx, &self.config, router, priority, &self.shared);
        }
        self.group.sent();
    }

    /// Stops: priority 0 on all networks if we are active, at once and in the view of `ctx`, which is still the
    /// active one. The stage does not begin again. What the outbox has no room for, [`advertise`](Self::advertise)
    /// sends afterwards.
    pub fn shutdown<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>) {
        self.stopped = true;
        self.group.shutdown(ctx.now);
        let _ = self.transition(ctx.now);
        self.due = self.next();
        self.say(ctx);
    }
}

/// True if a packet of IP protocol 112 was forwarded on its way, or never was for a neighbour (RFC 9568 5.1.1.3,
/// 5.1.2.3): [`Stage::receive`] would refuse it for its hop limit.
#[must_use]
pub fn is_from_afar<F: Frame>(packet: &Packet<F>) -> bool {
    let b = packet.bytes();
    let hops = match packet.meta.ethertype {
        ethernet::ETHERTYPE_IPV6 => b.get(ipv6::HOP_LIMIT),
        ethernet::ETHERTYPE_IPV4 => b.get(ipv4::TTL),
        _ => None,
    };
    hops != Some(&HOP_LIMIT)
}

/// How an advertisement's addresses are related to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Addresses {
    /// They are the same, in whatever order.
    Same,
    /// One side has some more: the virtual router is the same, and somebody's configuration is not up to date.
    Differ,
    /// Each side has some that the other has not: it is another virtual router.
    Others,
}

/// RFC 9568 7.1 lets a receiver compare the addresses, and has it tell of a difference. Gateways whose
/// configurations are changed one after the other differ for a while, and must not both become active for
/// that; but somebody else who uses the same VRID for addresses of his own is not to silence us.
fn compare(advert: &Advert<'_>, ours: &[IpAddr]) -> Addresses {
    let theirs = || advert.addresses();
    let all_ours = theirs().all(|a| ours.contains(&a));
    let all_theirs = ours.iter().all(|a| theirs().any(|b| b == *a));
    match (all_ours, all_theirs) {
        (true, true) => Addresses::Same,
        (false, false) => Addresses::Others,
        _ => Addresses::Differ,
    }
}

/// RFC 9568 7.2. The link-layer source is that of the interface in the view in force: the virtual router's.
fn send<S: FrameSource>(
    ctx: &mut Ctx<'_, S>,
    config: &Config,
    router: &VirtualRouter,
    priority: u8,
    shared: &Shared,
) {
    let Some(mut packet) = ctx.originate() else { return };
    let (dst, mac) = packet::group(router.source.is_ipv6());
    let around = Around { src: router.source, dst, checksum4: config.checksum4 };
    if write(&mut packet, config, router, &around, priority).is_err() {
        ctx.counters.drop(DropReason::NoHeadroom);
        return;
    }
    ctx.counters.add(Counter::VrrpAdvertsSent, 1);
    shared.tell_sent();
    if priority == STOPPING {
        ctx.counters.add(Counter::VrrpPriorityZeroSent, 1);
    }
    ctx.send(packet, Egress::new(router.interface, Via::Mac(mac)));
}

fn write<F: Frame>(
    packet: &mut Packet<F>,
    config: &Config,
    router: &VirtualRouter,
    around: &Around,
    priority: u8,
) -> Result<(), NoRoom> {
    let count = router.addresses.iter().filter(|a| a.is_ipv6() == around.src.is_ipv6()).count();
    let message = packet::octets(around.src.is_ipv6(), count);
    let header = match (around.src, around.dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet.meta.ethertype = ethernet::ETHERTYPE_IPV6;
            packet.frame.push_back(ipv6::HEADER + message)?;
            let ip = Ipv6Repr {
                src,
                dst,
                next_header: PROTOCOL,
                hop_limit: HOP_LIMIT,
                traffic_class: NETWORK_CONTROL,
                flow_label: 0,
                payload_octets: message,
            };
            ip.emit(packet.bytes_mut()).map_err(|_| NoRoom)?;
            ipv6::HEADER
        }
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet.meta.ethertype = ethernet::ETHERTYPE_IPV4;
            packet.frame.push_back(ipv4::HEADER + message)?;
            let ip = Ipv4Repr {
                src,
                dst,
                protocol: PROTOCOL,
                ttl: HOP_LIMIT,
                tos: NETWORK_CONTROL,
                // RFC 6864 4.1: nothing fragments it, so that its Identification says nothing.
                id: 0,
                frag: ipv4::DF,
                header_octets: ipv4::HEADER,
                total_octets: ipv4::HEADER + message,
            };
            ip.emit(packet.bytes_mut()).map_err(|_| NoRoom)?;
            ipv4::HEADER
        }
        _ => return Err(NoRoom),
    };
    packet.meta.protocol = PROTOCOL;
    packet.meta.l4 = u16::try_from(header).map_err(|_| NoRoom)?;
    let b = packet.bytes_mut();
    packet::emit(&mut b[header..], around, router.vrid, priority, config.interval_cs, &router.addresses)
}

#[cfg(test)]
mod tests;
