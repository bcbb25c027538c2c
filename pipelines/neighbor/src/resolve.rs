//! Next hops: from an address to a link-layer address, packets that wait meanwhile, and the timers of
//! the neighbours that this worker owns (RFC 4861 7.2.2, 7.3; RFC 826; RFC 6583).

mod burst;

use crate::Config;
use crate::announce::Announcing;
use crate::arp::Arp;
use crate::errors::Errors;
use crate::held::{Held, Queue};
use crate::keep::Keeping;
use crate::learn::is_off_link6;
use crate::nd::{Message, NdOut};
use crate::nud::{Event as NudEvent, Notice, Solicit, State, Step, Timing, Waiting};
use crate::resolved::{Key, LinkId, Published, Reachability, Resolved, mix};
use crate::table::{Limits, Table};
use causeway_core::classify::solicited_node;
use causeway_core::{
    Counter, Counters, Ctx, DropReason, Duration, Egress, Event, Frame, FrameSource, IfId, Instant,
    Interface, Interfaces, Packet, Role, TokenBucket, Validation, Via,
};
use causeway_flowtable::Bindings;
use causeway_wire::{MacAddr, ethernet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Where a packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Resolution {
    /// To this link-layer address.
    Ready(MacAddr),
    /// This worker looks for the next hop: set `meta.egress` and give the packet to
    /// [`Neighbors::hold`].
    Hold,
    /// That worker looks for the next hop: set `meta.egress` and hand the packet to it.
    Owner(u16),
    /// Dropped, for this reason.
    Drop(DropReason),
}

/// What is kept for each interface.
#[derive(Debug, Clone)]
pub(crate) struct PerLink {
    pub(crate) link: LinkId,
    /// New resolutions of strangers.
    strangers: TokenBucket,
    /// New resolutions of addresses that were neighbours before.
    familiar: TokenBucket,
    /// When a conflict was told and defended against last.
    pub(crate) conflict: Option<Instant>,
}

/// How many former neighbours a worker remembers, to prefer them (RFC 6583 7.1).
const FORMER: usize = 8192;

/// The neighbours that one worker owns, and its way to those of others.
///
/// `F` is the frame. Nothing is allocated after [`Neighbors::new`], but for
/// [`set_interfaces`](Neighbors::set_interfaces).
#[derive(Debug)]
pub struct Neighbors<F> {
    pub(crate) config: Config,
    limits: Limits,
    pub(crate) shared: Arc<Resolved>,
    pub(crate) worker: u16,
    pub(crate) table: Table,
    held: Held<F>,
    pub(crate) links: Vec<PerLink>,
    pub(crate) echo: TokenBucket,
    /// Packets to unresolved next hops that other workers own.
    handoff: TokenBucket,
    /// Questions that tell other workers of neighbours.
    pub(crate) news: TokenBucket,
    /// The time of the last tick.
    pub(crate) ticked: Instant,
    former: Vec<u32>,
    random: u64,
    pub(crate) announcing: Announcing,
    /// Who leased which address, if that is known.
    pub(crate) bindings: Option<Arc<Bindings>>,
    pub(crate) keeping: Keeping,
}

impl<F: Frame> Neighbors<F> {
    /// The neighbours of worker number `worker` of those that share `shared`.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(
        config: &Config,
        shared: Arc<Resolved>,
        worker: u16,
        interfaces: &Interfaces,
    ) -> Result<Self, crate::ConfigError> {
        config.check()?;
        let workers = shared.workers();
        let limits = Limits::of(config, workers);
        let links = interfaces.iter().map(|(_, i)| PerLink::new(config, workers, LinkId::of(i))).collect();
        let (rate, burst) =
            (config.resolutions_rate_pps.saturating_mul(4), config.resolutions_burst.saturating_mul(4));
        Ok(Self {
            config: *config,
            limits,
            worker,
            table: Table::new(&limits, interfaces.count()),
            held: Held::new(config.queue_frames),
            links,
            echo: TokenBucket::new(config.echo_rate_pps, config.echo_burst),
            handoff: TokenBucket::new(rate, burst),
            news: TokenBucket::new(rate, burst),
            ticked: Instant::ZERO,
            former: vec![0; FORMER],
            random: shared.hash(&Key::v4(LinkId::NONE, Ipv4Addr::from_bits(u32::from(worker)))) | 1,
            announcing: Announcing::default(),
            bindings: None,
            keeping: Keeping::default(),
            shared,
        })
    }

    /// Makes it known who leased which address: leased neighbours come before strangers, and on networks
    /// that want leased sources nobody else is looked for or believed. Without bindings nobody is leased, and
    /// no network wants that.
    pub fn set_bindings(&mut self, bindings: Option<Arc<Bindings>>) {
        self.bindings = bindings;
    }

    /// Where a packet goes that leaves through `egress`.
    ///
    /// For a resolved neighbour this is one read of the shared table. Packets to next hops that another
    /// worker has to look for are limited here, so that a scan cannot fill the ring to that worker.
    #[inline]
    pub fn resolve<S: FrameSource<Frame = F>>(&mut self, ctx: &Ctx<'_, S>, egress: &Egress) -> Resolution {
        if let Via::Mac(mac) = egress.via() {
            return Resolution::Ready(mac);
        }
        let Some(interface) = ctx.interfaces.get(egress.interface()) else {
            return Resolution::Drop(DropReason::NextHopUnreachable);
        };
        let key = match neighbor(LinkId::of(interface), egress.via()) {
            Next::Mac(mac) => return Resolution::Ready(mac),
            Next::Nobody => return Resolution::Drop(DropReason::NextHopUnreachable),
            Next::Neighbor(key) => key,
        };
        if let Some(p) = self.shared.get(&key) {
            if p.state == Reachability::Stale {
                self.shared.mark_used(self.shared.hash(&key));
            }
            return Resolution::Ready(p.mac);
        }
        self.unknown(ctx, egress.interface(), interface, &key)
    }

    /// Who looks for a neighbour that is not known, if anybody does.
    fn unknown<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &Ctx<'_, S>,
        id: IfId,
        interface: &Interface,
        key: &Key,
    ) -> Resolution {
        if let IpAddr::V6(a) = key.address()
            && is_off_link6(interface, a)
        {
            // Off the link, and yet routed to it: part of what is delegated to its hosts (RFC 9915 6.3). It goes
            // to the router that has it.
            let router = self.bindings.as_ref().and_then(|b| b.lookup(interface.link(), a));
            return router.map_or(Resolution::Drop(DropReason::NextHopNotBound), Resolution::Ready);
        }
        if self.is_not_bound(interface, key.address()) {
            return Resolution::Drop(DropReason::NextHopNotBound);
        }
        let hash = self.shared.hash(key);
        match self.shared.owner_by_hash(hash) {
            own if own == self.worker => {
                if self.is_refused(ctx.now, id, interface, key, hash) {
                    return Resolution::Drop(DropReason::NextHopTableFull);
                }
                Resolution::Hold
            }
            _ if !self.handoff.take(ctx.now) => Resolution::Drop(DropReason::NextHopTableFull),
            other => Resolution::Owner(other),
        }
    }

    /// True if [`hold`](Self::hold) would refuse a packet because of too many strangers that are looked for. A
    /// scan consists of such packets: most are refused here, before anything is done for them.
    #[inline]
    fn is_refused(&mut self, now: Instant, id: IfId, interface: &Interface, key: &Key, hash: u64) -> bool {
        let IpAddr::V6(a) = key.address() else { return false };
        let none = self.room_to_look_for(id, false).is_err()
            || self.links.get_mut(usize::from(id.0)).is_some_and(|link| !link.strangers.has(now));
        none && !self.is_familiar(key, hash) && self.table.find(key, hash).is_none() && !interface.owns6(a)
    }

    /// True for an address that has a lease or was a neighbour before (RFC 6583 7.1).
    #[inline]
    fn is_familiar(&self, key: &Key, hash: u64) -> bool {
        self.former[former_at(hash)] == former_tag(hash) || self.is_leased(key)
    }

    /// Takes a packet for which [`resolve`](Self::resolve) said [`Resolution::Hold`]; where it leaves is
    /// in its `meta.egress`. It is sent through the outbox once the next hop answers, or dropped and
    /// counted: when the next hop does not answer, when there is no room or rate to look for it, or
    /// when newer packets for it need its place in the queue (RFC 4861 7.2.2: the oldest goes).
    pub fn hold<S, E>(&mut self, ctx: &mut Ctx<'_, S>, errors: &mut E, packet: Packet<F>)
    where
        S: FrameSource<Frame = F>,
        E: Errors<S>,
    {
        let egress = packet.meta.egress;
        let interfaces = ctx.interfaces;
        let Some(interface) = interfaces.get(egress.interface()) else {
            return ctx.counters.drop(DropReason::NextHopUnreachable);
        };
        let key = match neighbor(LinkId::of(interface), egress.via()) {
            Next::Mac(mac) => return send_to(ctx, packet, egress.interface(), mac),
            Next::Nobody => return ctx.counters.drop(DropReason::NextHopUnreachable),
            Next::Neighbor(key) => key,
        };
        let hash = self.shared.hash(&key);
        let (slot, state) = match self.table.find(&key, hash) {
            Some(slot) => (slot, self.table.entry(slot).state),
            None => match self.begin(ctx, egress.interface(), interface, key, hash) {
                Ok(slot) => (slot, self.table.entry(slot).state),
                Err(reason) => return ctx.counters.drop(reason),
            },
        };
        match state {
            Some(State::Incomplete { .. }) => self.enqueue(ctx, slot, packet),
            Some(State::Failed { .. }) | None => {
                errors.address_unreachable(ctx, &packet);
                ctx.counters.drop(DropReason::NextHopUnreachable);
            }
            // It was resolved since the packet was told to wait.
            Some(state) => match state.mac() {
                Some(mac) => send_to(ctx, packet, egress.interface(), mac),
                None => ctx.counters.drop(DropReason::NextHopUnreachable),
            },
        }
    }

    /// Handles at most `budget` timers that are due, and sends announcements that are. Stops early when
    /// the outbox has little room left; what is left over comes first in the next call.
    pub fn tick<S, E>(&mut self, ctx: &mut Ctx<'_, S>, errors: &mut E, budget: usize)
    where
        S: FrameSource<Frame = F>,
        E: Errors<S>,
    {
        self.ticked = ctx.now;
        let most = self.config.queue_per_hop.min(causeway_core::burst::OUTBOX / 2);
        for _ in 0..budget {
            if ctx.outbox.room() <= most {
                return;
            }
            let Some(slot) = self.table.due(ctx.now) else { break };
            let e = self.table.entry(slot);
            let (Some(state), kept) = (e.state, e.kept) else { continue };
            let event = match state {
                State::Stale { .. } if kept => NudEvent::Verify,
                State::Stale { .. } if self.shared.take_mark(e.hash) => NudEvent::Used,
                _ => NudEvent::Timer,
            };
            let timing = self.timing_of(kept);
            let step = state.on(event, ctx.now, &timing);
            if step.waiting == Waiting::Fail {
                let mut queue = std::mem::replace(self.table.queue_mut(slot), Queue::EMPTY);
                while let Some(packet) = self.held.pop(&mut queue) {
                    errors.address_unreachable(ctx, &packet);
                    ctx.counters.drop(DropReason::NextHopUnreachable);
                }
            }
            self.apply(ctx, slot, step);
        }
        self.look_for_kept(ctx);
        self.send_announcements(ctx);
    }

    /// Drops all waiting packets, at shutdown. Gives how many there were.
    pub fn drain(&mut self, counters: &Counters) -> usize {
        let before = self.held.used();
        for slot in 0..self.table.slots() {
            self.drop_queue(counters, slot, DropReason::Shutdown);
        }
        before
    }

    /// How many packets wait.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.held.used()
    }

    /// Takes over the interfaces of a new plan. Neighbours on links that are gone, and those whose
    /// address is ours now, are forgotten; the others keep their state, also where their interface has
    /// another number. Not for the packet path: it looks at every neighbour, and may allocate.
    pub fn set_interfaces(&mut self, interfaces: &Interfaces, counters: &Counters) {
        let workers = self.shared.workers();
        let links = interfaces.iter().map(|(_, i)| {
            let link = LinkId::of(i);
            let old = self.links.iter().find(|l| l.link == link).cloned();
            old.unwrap_or_else(|| PerLink::new(&self.config, workers, link))
        });
        let links: Vec<PerLink> = links.collect();
        let same = links.iter().map(|l| l.link).eq(self.links.iter().map(|l| l.link));
        self.links = links;
        self.table.set_interfaces(interfaces.count());
        if same && self.forget_ours(interfaces, counters) {
            return;
        }
        for slot in 0..self.table.slots() {
            let e = self.table.entry(slot);
            if e.state.is_none() {
                continue;
            }
            let (key, old) = (e.key, e.interface);
            let new = key.link().interface(interfaces);
            match new.and_then(|id| Some((id, interfaces.get(id)?))) {
                Some((id, interface)) if !owns(interface, key.address()) => {
                    if id != old {
                        self.table.renumber(slot, id);
                    }
                }
                _ => self.forget(counters, slot),
            }
        }
    }

    /// Forgets neighbours whose address is ours now, by looking at our addresses instead of at all
    /// neighbours. False if that would be more work: nothing is done then.
    fn forget_ours(&mut self, interfaces: &Interfaces, counters: &Counters) -> bool {
        let proxies = interfaces.iter().flat_map(|(_, i)| &i.proxy4);
        let many: u64 = proxies.map(|p| 1 << (32 - p.len())).sum();
        if many > 4096 {
            return false;
        }
        for (_, interface) in interfaces.iter() {
            let link = LinkId::of(interface);
            let proxies = interface.proxy4.iter().flat_map(crate::announce::addresses4);
            for address in crate::announce::own_of(interface).chain(proxies) {
                let key = Key::new(link, address);
                if let Some(slot) = self.table.find(&key, self.shared.hash(&key)) {
                    self.forget(counters, slot);
                }
            }
        }
        true
    }

    /// True for an address that has a lease: an address of its own, for a prefix is routed.
    fn is_leased(&self, key: &Key) -> bool {
        match (&self.bindings, key.address()) {
            (Some(b), IpAddr::V6(a)) => b.lookup_exact(key.link().number(), a).is_some(),
            _ => false,
        }
    }

    /// True for an address that has no lease on a network that wants one. Link-local addresses need none:
    /// a host has to have one before it can ask for a lease (RFC 7513).
    #[inline]
    fn is_not_bound(&self, interface: &Interface, address: IpAddr) -> bool {
        let Some(bindings) = &self.bindings else { return false };
        match address {
            IpAddr::V6(a) if wants_leases(interface) && !a.is_unicast_link_local() => {
                bindings.lookup_exact(interface.link(), a).is_none()
            }
            _ => false,
        }
    }

    /// Begins to look for a neighbour that is not in the table, as its turn and the room for it allow.
    fn begin<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        id: IfId,
        interface: &Interface,
        key: Key,
        hash: u64,
    ) -> Result<u32, DropReason> {
        let no_source = matches!(key.address(), IpAddr::V4(a) if interface.source4(a).is_none());
        if no_source || owns(interface, key.address()) {
            return Err(DropReason::NextHopUnreachable);
        }
        let off_link = matches!(key.address(), IpAddr::V6(a) if is_off_link6(interface, a));
        if off_link || self.is_not_bound(interface, key.address()) {
            return Err(DropReason::NextHopNotBound);
        }
        // RFC 6583 7.1: addresses that have a lease or were neighbours before come first. Strangers, which a
        // scan consists of, leave them a quarter of the room and do not touch their rate.
        let familiar = self.is_familiar(&key, hash);
        let victim = self.room_to_look_for(id, familiar)?;
        let link = self.links.get_mut(usize::from(id.0)).ok_or(DropReason::NextHopUnreachable)?;
        let bucket = if familiar { &mut link.familiar } else { &mut link.strangers };
        if !bucket.take(ctx.now) {
            return Err(DropReason::NextHopTableFull);
        }
        self.start(ctx, id, key, hash, familiar, victim)
    }

    /// Whether there is room to look for one more: in place of nobody, or of the stranger that is given.
    pub(crate) fn room_to_look_for(&self, id: IfId, familiar: bool) -> Result<Option<u32>, DropReason> {
        let of = |n: usize| if familiar { n } else { n - n / 4 };
        let link = self.table.load(id).incomplete >= of(self.limits.incomplete_per_link);
        let all = self.table.total().incomplete >= of(self.limits.incomplete);
        let victim = match (link, all) {
            (false, false) => return Ok(None),
            (true, _) => self.table.oldest_stranger(id),
            (false, true) => self.table.oldest_stranger_of_all(),
        };
        victim.filter(|_| familiar).map(Some).ok_or(DropReason::NextHopTableFull)
    }

    /// Looks for a neighbour from now on. `victim` is no longer looked for instead.
    pub(crate) fn start<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        id: IfId,
        key: Key,
        hash: u64,
        familiar: bool,
        victim: Option<u32>,
    ) -> Result<u32, DropReason> {
        if let Some(victim) = victim {
            self.drop_queue(ctx.counters, victim, DropReason::NextHopTableFull);
            self.forget(ctx.counters, victim);
        }
        if self.table.total().incomplete + self.table.failed() >= self.limits.incomplete {
            let oldest = self.table.oldest_failed().ok_or(DropReason::NextHopTableFull)?;
            self.forget(ctx.counters, oldest);
        }
        let kept = self.keeping.has(&key);
        let step = State::begin(ctx.now, &self.timing_of(kept));
        let state = step.state.ok_or(DropReason::NextHopTableFull)?;
        let slot = self.table.insert(key, hash, id, state, ctx.now).ok_or(DropReason::NextHopTableFull)?;
        if familiar {
            self.table.set_familiar(slot);
        }
        self.table.set_kept(slot, kept);
        self.solicit(ctx, slot, step.solicit);
        Ok(slot)
    }

    fn enqueue<S: FrameSource<Frame = F>>(&mut self, ctx: &Ctx<'_, S>, slot: u32, packet: Packet<F>) {
        let queue = self.table.queue_mut(slot);
        // When half of the arena is taken, every next hop keeps one packet, so that those who wait for
        // many dead addresses leave room for those who wait for one that lives.
        let crowded = self.held.used() * 2 >= self.held.room();
        let most = if crowded { 1 } else { self.config.queue_per_hop };
        while queue.len() >= most {
            // RFC 4861 7.2.2: the new packet replaces the oldest.
            drop(self.held.pop(queue));
            ctx.counters.drop(DropReason::NextHopQueueFull);
        }
        match self.held.push(queue, packet) {
            Ok(()) => ctx.counters.add(Counter::NextHopHeld, 1),
            Err(_) => ctx.counters.drop(DropReason::NextHopQueueFull),
        }
    }

    /// Does what the state machine said.
    pub(crate) fn apply<S: FrameSource<Frame = F>>(&mut self, ctx: &mut Ctx<'_, S>, slot: u32, step: Step) {
        let e = self.table.entry(slot);
        let (key, id, old, proven, told) = (e.key, e.interface, e.state, e.proven, e.told);
        let address = key.address();
        if e.kept {
            self.kept_stepped(slot, &step);
        }
        if step.notice == Notice::Unreachable {
            ctx.counters.add(Counter::NeighborsFailed, 1);
            ctx.events.push(Event::NeighborUnreachable { interface: id, address });
        }
        let Some(new) = step.state else { return self.forget(ctx.counters, slot) };

        let reachable = matches!(new, State::Reachable { .. });
        let mut confirmed = e.confirmed;
        if Some(new) != old && (reachable || step.waiting == Waiting::Send) {
            confirmed = ctx.now;
        }
        let had_mac = old.and_then(|s| s.mac());
        let room = match new.mac() {
            Some(_) if reachable && !proven => self.room_for_confirmed(ctx.counters, id, slot),
            Some(_) if !proven && had_mac.is_none() => self.room_for_learned(ctx.counters, id, slot),
            _ => true,
        };
        self.table.set(slot, new, proven || reachable, confirmed);
        if self.table.entry(slot).kept && matches!(new, State::Stale { .. }) {
            self.table.arm(slot, ctx.now);
        }
        let published = room && self.publish(slot, old);
        if let Some(mac) = new.mac() {
            let moved = had_mac.is_some_and(|old| old != mac);
            if step.waiting == Waiting::Send || (reachable && !told) || (moved && told) {
                self.table.tell(slot);
                ctx.counters.add(Counter::NeighborsResolved, 1);
                ctx.events.push(Event::NeighborResolved { interface: id, address, mac });
            }
            self.flush(ctx, slot, mac);
        }
        self.solicit(ctx, slot, step.solicit);
        if !published {
            self.forget(ctx.counters, slot);
        }
    }

    /// Makes the shared table say what the state is. False when it has no room.
    pub(crate) fn publish(&self, slot: u32, old: Option<State>) -> bool {
        let e = self.table.entry(slot);
        let value = |s: State| {
            let state = match s {
                State::Reachable { .. } => Reachability::Reachable,
                State::Stale { .. } => Reachability::Stale,
                State::Delay { .. } => Reachability::Delay,
                State::Probe { .. } => Reachability::Probe,
                State::Incomplete { .. } | State::Failed { .. } => return None,
            };
            s.mac().map(|mac| (mac, state))
        };
        let (before, after) = (old.and_then(value), e.state.and_then(value));
        match after {
            Some((mac, state)) => {
                let renewed = state == Reachability::Reachable && old != e.state;
                if before == after && !renewed {
                    return true;
                }
                if state == Reachability::Stale {
                    // Only use from now on counts.
                    let _ = self.shared.take_mark(e.hash);
                }
                self.shared.put(&e.key, Published::new(mac, state, e.confirmed))
            }
            None => {
                if before.is_some() {
                    self.shared.remove(&e.key);
                }
                true
            }
        }
    }

    /// Sends what waits, as far as the outbox has room; the rest goes at the next tick.
    fn flush<S: FrameSource<Frame = F>>(&mut self, ctx: &mut Ctx<'_, S>, slot: u32, mac: MacAddr) {
        let id = self.table.entry(slot).interface;
        let queue = self.table.queue_mut(slot);
        while ctx.outbox.room() > 0 {
            let Some(packet) = self.held.pop(queue) else { return };
            send_to(ctx, packet, id, mac);
        }
        if !queue.is_empty() {
            self.table.arm(slot, ctx.now);
        }
    }

    /// A confirmed neighbour takes the place of one that is not in use, if it must.
    fn room_for_confirmed(&mut self, counters: &Counters, id: IfId, slot: u32) -> bool {
        let own = self.table.load(id).confirmed >= self.limits.confirmed_per_link;
        if !own && self.table.total().confirmed < self.limits.confirmed {
            return true;
        }
        let of = if own || self.table.oldest_stale(id).is_some() {
            id
        } else {
            self.table.fullest(|l| l.confirmed)
        };
        self.replace(counters, self.table.oldest_stale(of), slot)
    }

    /// A neighbour that made itself known takes the place of an older such one, if it must.
    pub(crate) fn room_for_learned(&mut self, counters: &Counters, id: IfId, slot: u32) -> bool {
        let own = self.table.load(id).learned >= self.limits.learned_per_link;
        if !own && self.table.total().learned < self.limits.learned {
            return true;
        }
        let of = if own || self.table.oldest_learned(id).is_some() {
            id
        } else {
            self.table.fullest(|l| l.learned)
        };
        self.replace(counters, self.table.oldest_learned(of), slot)
    }

    fn replace(&mut self, counters: &Counters, victim: Option<u32>, slot: u32) -> bool {
        match victim {
            Some(victim) if victim != slot => {
                self.forget(counters, victim);
                true
            }
            _ => false,
        }
    }

    fn drop_queue(&mut self, counters: &Counters, slot: u32, reason: DropReason) {
        let queue = self.table.queue_mut(slot);
        while self.held.pop(queue).is_some() {
            counters.drop(reason);
        }
    }

    /// Takes a neighbour out of the tables. Packets that still wait for it are dropped.
    pub(crate) fn forget(&mut self, counters: &Counters, slot: u32) {
        self.drop_queue(counters, slot, DropReason::NextHopUnreachable);
        let e = self.table.entry(slot);
        if e.proven {
            self.former[former_at(e.hash)] = former_tag(e.hash);
        }
        if e.state.is_some_and(|s| s.mac().is_some()) {
            self.shared.remove(&e.key);
        }
        self.table.remove(slot);
    }

    /// Sends a solicitation for a neighbour.
    fn solicit<S: FrameSource<Frame = F>>(&self, ctx: &mut Ctx<'_, S>, slot: u32, how: Solicit) {
        let e = self.table.entry(slot);
        let (key, id) = (e.key, e.interface);
        let interfaces = ctx.interfaces;
        let Some(interface) = interfaces.get(id) else { return };
        let to = match how {
            Solicit::No => return,
            Solicit::Unicast(mac) => Some(mac),
            Solicit::Multicast => None,
        };
        let Some(mut packet) = ctx.originate() else { return };
        let (written, mac) = match key.address() {
            IpAddr::V6(target) => {
                // RFC 4861 7.2.2: looked for at its solicited-node group, probed at its own address;
                // our link-layer address is always along.
                let dst = if to.is_some() { target } else { solicited_node(target) };
                let src = interface.source6(target);
                let message = Message::Solicit { target, mac: interface.mac_of(src.into()) };
                let mac = to.unwrap_or_else(|| MacAddr::from_ipv6_multicast(dst));
                (NdOut { src, dst, message }.emit(&mut packet.frame), mac)
            }
            IpAddr::V4(target) => {
                let Some(sender) = interface.source4(target) else { return };
                packet.meta.ethertype = ethernet::ETHERTYPE_ARP;
                // RFC 1122 2.3.2.1 (2): a known neighbour is polled at its own link-layer address.
                let arp = Arp {
                    reply: false,
                    sender_mac: interface.mac_of(sender.into()),
                    sender,
                    target_mac: to.unwrap_or_default(),
                    target,
                };
                (arp.emit(&mut packet.frame), to.unwrap_or(MacAddr::BROADCAST))
            }
        };
        let sent = if key.address().is_ipv6() { Counter::NsSent } else { Counter::ArpSent };
        originated(ctx, packet, written.is_ok().then_some(sent), Egress::new(id, Via::Mac(mac)));
    }

    /// The times of the state machine, with the reachable time drawn anew (RFC 4861 6.3.4: between half
    /// of the base value and one and a half, so that neighbours do not keep step).
    pub(crate) fn timing(&mut self) -> Timing {
        let c = &self.config;
        // Xorshift (Marsaglia 2003); the state is never zero.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let base = u64::try_from(c.reachable_time.as_micros()).unwrap_or(u64::MAX / 2);
        let drawn = base / 2 + (mix(self.random, base.max(1)) % base.max(1));
        Timing {
            reachable: Duration::from_micros(drawn),
            search: c.retrans_time,
            retrans: c.retrans_time,
            delay: c.delay_first_probe,
            stale_check: c.stale_check,
            idle: c.idle_time,
            failed: c.failed_time,
            multicast_tries: c.multicast_tries,
            unicast_tries: c.unicast_tries,
        }
    }

    /// The same; a neighbour that is kept is looked for at most once a second, because that goes on forever.
    fn timing_of(&mut self, kept: bool) -> Timing {
        let timing = self.timing();
        let slow = timing.retrans.max(crate::keep::AGAIN);
        if kept { Timing { search: slow, ..timing } } else { timing }
    }
}

impl PerLink {
    fn new(config: &Config, workers: u16, link: LinkId) -> Self {
        let w = u32::from(workers.max(1));
        let share = |n: u32| n.div_ceil(w);
        let (rate, burst) = (config.resolutions_rate_pps, config.resolutions_burst);
        let all_at_once = u32::try_from(config.incomplete_per_interface).unwrap_or(u32::MAX).max(burst);
        let familiar = TokenBucket::new(share(rate.saturating_mul(4)), share(all_at_once));
        Self { link, strangers: TokenBucket::new(share(rate), share(burst)), familiar, conflict: None }
    }
}

/// True for a network on which only leased addresses are believed.
pub(crate) fn wants_leases(interface: &Interface) -> bool {
    interface.role == Role::Tenant && interface.validation == Validation::Leased
}

enum Next {
    Mac(MacAddr),
    Neighbor(Key),
    Nobody,
}

#[inline(always)]
fn neighbor(link: LinkId, via: Via) -> Next {
    match via {
        Via::Mac(mac) => Next::Mac(mac),
        // RFC 2464 7.
        Via::Ip6(a) if a.is_multicast() => Next::Mac(MacAddr::from_ipv6_multicast(a)),
        Via::Ip6(a) if a.is_unspecified() || a.is_loopback() => Next::Nobody,
        Via::Ip6(a) => Next::Neighbor(Key::v6(link, a)),
        Via::Ip4(a) if a.is_broadcast() => Next::Mac(MacAddr::BROADCAST),
        Via::Ip4(a) if a.is_multicast() => {
            // RFC 1112 6.4: the low 23 bits of the group.
            let [_, b, c, d] = a.octets();
            Next::Mac(MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
        }
        Via::Ip4(a) if a.is_unspecified() || a.is_loopback() => Next::Nobody,
        Via::Ip4(a) => Next::Neighbor(Key::v4(link, a)),
    }
}

pub(crate) fn owns(interface: &Interface, a: IpAddr) -> bool {
    match a {
        IpAddr::V6(a) => interface.owns6(a),
        IpAddr::V4(a) => owns4(interface, a),
    }
}

/// An address of ours, or one that we answer ARP for (NAT64 pool, proxy).
pub(crate) fn owns4(interface: &Interface, a: Ipv4Addr) -> bool {
    interface.owns4(a) || interface.proxy4.iter().any(|p| p.contains(a))
}

fn send_to<S: FrameSource>(ctx: &mut Ctx<'_, S>, packet: Packet<S::Frame>, interface: IfId, mac: MacAddr) {
    ctx.send(packet, Egress::new(interface, Via::Mac(mac)));
}

/// Sends a packet that we made, or counts why not: `sent` is nothing if it did not fit its frame.
pub(crate) fn originated<S: FrameSource>(
    ctx: &mut Ctx<'_, S>,
    packet: Packet<S::Frame>,
    sent: Option<Counter>,
    egress: Egress,
) {
    let Some(counter) = sent else { return ctx.counters.drop(DropReason::NoHeadroom) };
    if ctx.outbox.push(packet, egress).is_ok() {
        ctx.counters.add(counter, 1);
    } else {
        ctx.counters.drop(DropReason::OutboxFull);
    }
}

fn former_at(hash: u64) -> usize {
    (hash as usize >> 8) % FORMER
}

/// Never zero, which stands for nobody.
fn former_tag(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

#[cfg(test)]
pub(crate) mod tests;
