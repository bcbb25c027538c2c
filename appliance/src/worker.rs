//! One poll-mode worker: all pipelines assembled around the queues that one core owns.
//!
//! ```text
//!  handoff ring -+                                  +-> local     (neighbor: ARP, ND, echo)
//!                v                                  |-> forward
//!  rx_burst -> classify -> one burst per class -----+-> nat64 in -> out
//!                                                   +-> nat64 out -> in
//!  tx_burst <- Ethernet header <- next hop <--------+
//! ```
//!
//! A poll takes at most one burst from each queue, reads the clock once, enters the flow table's guard
//! once and leaves it at the end, so that a worker between two polls never delays reuse. Timers, expiry
//! and hand-offs are bounded per poll. Nothing here allocates after start.
//!
//! The worker knows no DPDK: it is generic over [`Queues`] and [`FrameSource`], and tests run it on
//! plain memory.

use crate::plan::{Plan, View};
use arc_swap::ArcSwap;
use arrayvec::ArrayVec;
use causeway_core::event::Events;
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{
    BURST, Burst, Class, Counter, Counters, Ctx, DropReason, Egress, Event, Frame, FrameSource, Handoff,
    Instant, Meta, Outbox, Packet, Queues, Verdict,
};
use causeway_dns64::Outcome;
use causeway_flowtable::{
    Bindings, Ctl, Fate, FlowTable, Guard, Kind, Mapping, Session, Sweeper, Tick, Worker as FlowWorker,
};
use causeway_forward::{Forward, SourceGuard};
use causeway_nat64::{Expiry, Log, Nat64};
use causeway_neighbor::{Neighbors, Resolution, Resolved};
use causeway_splicer::site::SiteTable;
use causeway_wire::MacAddr;
use causeway_wire::ethernet;
use causeway_wire::ethernet::EthernetRepr;
use causeway_wire::ipv6::{self, Ipv6Repr};
use crossbeam::queue::{ArrayQueue, SegQueue};
use crossbeam::utils::CachePadded;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Packets that wait in a worker's ring for their owner.
const HANDOFF_RING: usize = 1024;
/// Advertisements of VRRP that wait for worker 0: they have a ring of their own, so that a flood of them takes no
/// room from packets, and packets none from them.
const VRRP_RING: usize = 128;
/// Events that wait in a worker's ring for control.
const EVENT_RING: usize = 1024;
/// Records of the mapping log that wait for control.
const LOG_RING: usize = 16_384;
/// DHCPv6 messages that wait for control, and answers that wait for their worker.
const DHCP_RING: usize = 2048;
/// Lookups that control asks for, and what came of them.
const DNS_LOOKUP_RING: usize = 16;
/// Samples of DNS questions that wait for control.
const DNS_SAMPLE_RING: usize = 256;
/// Plans on their way to a worker. Control waits for adoption, so one is enough; two let it hurry.
const PLAN_RING: usize = 2;
/// How long all workers together take to judge every flow slot once.
const SWEEP_PERIOD_US: u64 = 4_000_000;
/// Flow slots judged for expiry in one poll, at most: to end so many sessions at once, with their mappings,
/// delays a burst by less than 50 us (bench `translate`), and gives back no more slots than a poll takes back.
pub const SWEEP_AT_MOST: u32 = 32;
/// Fewer than these are put off.
const SWEEP_AT_LEAST: u64 = 16;
/// Longer than any connection of the gateway's own takes that has an entry in the flow table.
const LOCAL_TICKS: u32 = (120_000_000 / causeway_flowtable::TICK_MICROS) as u32;
/// Neighbour timers looked at in one poll, at most.
const TIMERS_PER_POLL: usize = 16;

/// The clock of a worker, read once per poll.
pub trait Clock {
    /// Monotonic time since the process started.
    fn now(&self) -> Instant;
}

/// The processor's time stamp counter.
#[derive(Debug, Clone)]
pub struct TscClock {
    clock: quanta::Clock,
    origin: quanta::Instant,
}

impl TscClock {
    /// A clock whose origin is now. Clones share it.
    #[must_use]
    pub fn new() -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.now();
        Self { clock, origin }
    }
}

impl Default for TscClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TscClock {
    #[inline]
    fn now(&self) -> Instant {
        let since = self.clock.now().duration_since(self.origin);
        Instant::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

/// What a worker and the rest of the process exchange.
#[derive(Debug)]
pub struct Mailbox<F> {
    /// This worker's counters.
    pub counters: Arc<Counters>,
    /// Polls made; control's watchdog reads it.
    pub heartbeat: CachePadded<AtomicU64>,
    /// Packets from other workers for what this one owns.
    pub handoff: ArrayQueue<Handoff<F>>,
    /// VRRP packets from other workers, if this one runs the election.
    pub vrrp: ArrayQueue<Packet<F>>,
    /// Events for control.
    pub events: ArrayQueue<Event>,
    /// Records of the mapping log for control.
    pub log: Arc<Log>,
    /// New plans from control.
    pub plans: ArrayQueue<Arc<Plan>>,
    /// Plans that this worker no longer uses, for control to free.
    pub retired: ArrayQueue<Arc<Plan>>,
    /// Generation of the plan in use.
    pub generation: AtomicU64,
    /// Set by control to make the worker announce the addresses of its interfaces.
    pub announce: AtomicBool,
    /// DHCPv6 messages for control.
    pub dhcp_requests: Arc<ArrayQueue<Box<causeway_dhcpv6::Request>>>,
    /// Answers to them.
    pub dhcp_answers: Arc<ArrayQueue<Box<causeway_dhcpv6::Answer>>>,
    /// Names that control wants looked up, step by step.
    pub dns_lookups: ArrayQueue<Box<causeway_dns64::explain::Lookup>>,
    /// What came of them.
    pub dns_explained: ArrayQueue<Box<causeway_dns64::explain::Explained>>,
    /// Samples of DNS questions for control.
    pub dns_samples: ArrayQueue<causeway_dns64::status::Sample>,
}

impl<F> Mailbox<F> {
    fn new() -> Self {
        Self {
            counters: Arc::new(Counters::new()),
            heartbeat: CachePadded::new(AtomicU64::new(0)),
            handoff: ArrayQueue::new(HANDOFF_RING),
            vrrp: ArrayQueue::new(VRRP_RING),
            events: ArrayQueue::new(EVENT_RING),
            log: Arc::new(Log::new(LOG_RING)),
            plans: ArrayQueue::new(PLAN_RING),
            retired: ArrayQueue::new(PLAN_RING + 1),
            generation: AtomicU64::new(0),
            announce: AtomicBool::new(false),
            dhcp_requests: Arc::new(ArrayQueue::new(DHCP_RING)),
            dhcp_answers: Arc::new(ArrayQueue::new(DHCP_RING)),
            dns_lookups: ArrayQueue::new(DNS_LOOKUP_RING),
            dns_explained: ArrayQueue::new(DNS_LOOKUP_RING),
            dns_samples: ArrayQueue::new(DNS_SAMPLE_RING),
        }
    }
}

/// What the resolver's workers share.
#[derive(Debug)]
pub struct DnsShared {
    /// The cache.
    pub cache: Arc<causeway_dns64::cache::Cache>,
    /// What cookies are made with (RFC 9018 4.2): a client may come to any worker.
    pub cookies: [u8; 16],
    /// What nobody outside knows: ports and IDs follow from it.
    secret: [u8; 32],
}

impl DnsShared {
    /// A cache, all memory of which is taken now. `secret` and `cookies` are random octets of the system.
    ///
    /// # Errors
    /// There is not that much memory.
    pub fn new(
        settings: &causeway_dns64::config::CacheSettings,
        secret: [u8; 32],
        cookies: [u8; 16],
    ) -> Result<Self, causeway_flowtable::octets::OctetMapError> {
        Ok(Self { cache: Arc::new(causeway_dns64::cache::Cache::new(settings)?), cookies, secret })
    }

    /// The seed of a worker's random generator, which is another one for each worker.
    #[must_use]
    pub fn seed(&self, worker: u16) -> [u8; 32] {
        let mut seed = self.secret;
        for (octet, more) in seed.iter_mut().zip(worker.to_le_bytes()) {
            *octet ^= more;
        }
        seed
    }
}

/// What the splicer's workers share.
#[derive(Debug, Clone)]
pub struct SplicerShared {
    /// The sites, as control has published them last. Read for new connections.
    pub sites: Arc<ArcSwap<SiteTable>>,
    /// Servers that are to be checked, each once, when they become known: for the checker of worker 0
    /// (`causeway_splicer::site::Checker`).
    pub fresh: Arc<SegQueue<Weak<causeway_splicer::site::Server>>>,
    /// What sequence numbers, ports and cookies are made with. Nobody outside knows it.
    pub secret: [u8; 32],
    /// What SYN cookies are made with, at every worker: a client's acknowledgement may come to another than its SYN.
    pub cookies: [u8; 16],
}

/// What all workers share.
#[derive(Debug)]
pub struct Shared<F> {
    /// The flow table.
    pub table: Arc<FlowTable>,
    /// Link-layer addresses of resolved neighbours.
    pub resolved: Arc<Resolved>,
    /// One mailbox for each worker.
    pub mailboxes: Vec<Mailbox<F>>,
    /// Where the virtual routers stand.
    pub vrrp: Arc<causeway_vrrp::Shared>,
    /// Who may send from which address, as the leases have it.
    pub bindings: Arc<Bindings>,
    /// What the resolver's workers share; nothing without DNS64.
    pub dns: Option<DnsShared>,
    /// What the splicer's workers share: always there in a gateway, since a reload may add the splicer.
    pub splicer: Option<SplicerShared>,
    /// Another gateway has all leases and is ready to take over.
    pub peer_ready: AtomicBool,
    /// Worker 0 has seen to it that the gateway may end.
    left: AtomicBool,
    /// Flow slots that each worker has to judge in a round.
    slots_per_worker: u32,
}

impl<F> Shared<F> {
    /// What `workers` workers share.
    #[must_use]
    pub fn new(
        table: Arc<FlowTable>,
        resolved: Arc<Resolved>,
        bindings: Arc<Bindings>,
        workers: u16,
    ) -> Self {
        let slots_per_worker = table.config().sessions.div_ceil(u32::from(workers.max(1)));
        Self {
            table,
            resolved,
            mailboxes: (0..workers).map(|_| Mailbox::new()).collect(),
            vrrp: Arc::new(causeway_vrrp::Shared::new()),
            bindings,
            dns: None,
            splicer: None,
            peer_ready: AtomicBool::new(false),
            left: AtomicBool::new(false),
            slots_per_worker,
        }
    }

    /// A seed for a worker's random times, which hosts have no use for guessing.
    fn random(&self, worker: u16) -> u64 {
        RandomState::new().hash_one(worker)
    }
}

/// The transmit side: frames gather per port and leave in bursts.
struct Io<Q: Queues> {
    queues: Q,
    tx: Vec<ArrayVec<Q::Frame, BURST>>,
}

impl<Q: Queues> Io<Q> {
    /// Puts a frame on its port; a full burst leaves at once.
    #[inline]
    fn push(&mut self, port: u16, frame: Q::Frame, counters: &Counters) {
        let Some(tx) = self.tx.get_mut(usize::from(port)) else {
            counters.drop(DropReason::NoRoute);
            return;
        };
        tx.push(frame);
        if tx.is_full() {
            self.flush(port, counters);
        }
    }

    /// Sends what waits for a port. What the device does not take is dropped and counted: to wait for
    /// it would delay every other port.
    fn flush(&mut self, port: u16, counters: &Counters) {
        let tx = &mut self.tx[usize::from(port)];
        if tx.is_empty() {
            return;
        }
        let (frames, octets) = (tx.len(), tx.iter().map(Frame::octets).sum::<usize>());
        self.queues.tx(port, tx);
        let left = tx.iter().map(Frame::octets).sum::<usize>();
        counters.add(Counter::TxFrames, (frames - tx.len()) as u64);
        counters.add(Counter::TxOctets, (octets - left) as u64);
        for _ in tx.drain(..) {
            counters.drop(DropReason::TxFull);
        }
    }
}

/// Writes an Ethernet header without a tag, in two stores. False if there is no room for it.
#[inline(always)]
fn emit_untagged(b: &mut [u8], dst: MacAddr, src: MacAddr, ethertype: u16) -> bool {
    let Some(header) = b.first_chunk_mut::<{ ethernet::HEADER }>() else { return false };
    let (dst, src) = (dst.to_u64(), src.to_u64());
    let first = dst << 16 | src >> 32;
    #[expect(clippy::cast_possible_truncation, reason = "the lower half of the source")]
    let middle = src as u32;
    header[..8].copy_from_slice(&first.to_be_bytes());
    header[8..12].copy_from_slice(&middle.to_be_bytes());
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
    true
}

/// NAT64 as the plan wants it, if it does.
fn nat64<F: Frame>(plan: &Plan, log: &Arc<Log>) -> Option<Nat64<F>> {
    let n = plan.nat64.as_ref()?;
    let mut stage = Nat64::new(Arc::clone(&n.config), Arc::clone(&n.pool), plan.icmp_errors());
    stage.set_log(Arc::clone(log));
    Some(stage)
}

/// Who judges which flows. A flow whose function is no longer configured ends.
struct Judge<'a> {
    guard: &'a Guard<'a>,
    nat64: Option<Expiry<'a>>,
    splicer: Option<causeway_splicer::splice::Expiry<'a>>,
    forward: causeway_forward::Expiry<'a>,
}

impl Sweeper for Judge<'_> {
    fn judge(&mut self, session: &Session<'_>, ctl: Ctl, now: Tick) -> Fate {
        match session.kind() {
            Kind::Native6 => self.forward.judge(session, ctl, now),
            Kind::Spliced => self.splicer.as_mut().map_or(Fate::End, |s| s.judge(session, ctl, now)),
            Kind::Nat64 => self.nat64.as_mut().map_or(Fate::End, |n| n.judge(session, ctl, now)),
            // A health check's: its owner ends it, if it has not gone.
            Kind::Local if now.since(ctl.last_seen()) > LOCAL_TICKS => Fate::End,
            Kind::Local => Fate::Keep,
        }
    }

    fn session_ended(&mut self, session: &Session<'_>) {
        self.forward.session_ended(session);
        if let Some(s) = &mut self.splicer {
            s.session_ended(session);
        }
        match &mut self.nat64 {
            Some(n) => n.session_ended(session),
            None => causeway_nat64::forget(self.guard, session, self),
        }
    }

    fn mapping_ended(&mut self, mapping: &Mapping<'_>) {
        if let Some(n) = &mut self.nat64 {
            n.mapping_ended(mapping);
        }
    }
}

/// The stages, with what they are lent on every call.
struct Stages<S: FrameSource> {
    neighbors: Neighbors<S::Frame>,
    forward: Forward,
    /// Nothing while no NAT64 is configured; then no packet is of its classes.
    nat64: Option<Nat64<S::Frame>>,
    /// Which sources are leased, for the networks that want it.
    sources: SourceGuard,
    /// VRRP, router advertisements, DHCPv6.
    first_hop: FirstHop,
    /// DNS64, if it is configured.
    resolver: Option<Box<causeway_dns64::Stage>>,
    /// The splicer, if it is configured.
    splicer: Option<Box<causeway_splicer::Stage>>,
    /// Limits the ICMP errors that the neighbour stage asks for.
    errors: IcmpErrors,
    source: S,
    outbox: Outbox<S::Frame>,
    events: Events,
}

/// One burst for each class, in the order of [`slot`].
type ByClass<F> = [Burst<F>; CLASSES];

/// Packets between classification and their stage.
struct Waiting<F> {
    /// Those of the burst that is being classified.
    arrived: Burst<F>,
    /// Those that came in, by class.
    first: ByClass<F>,
    /// Those that a stage classified again.
    again: ByClass<F>,
}

const CLASSES: usize = 6;
/// What is classified again goes to a class behind its own where it can.
const BY_SLOT: [Class; CLASSES] =
    [Class::SpliceIn, Class::SpliceOut, Class::Nat64In, Class::Nat64Out, Class::Forward6, Class::Local];

const fn slot(class: Class) -> usize {
    match class {
        Class::SpliceIn => 0,
        Class::SpliceOut => 1,
        Class::Nat64In => 2,
        Class::Nat64Out => 3,
        Class::Forward6 => 4,
        Class::Local => 5,
    }
}

/// True if the packets of a burst go to more than one next hop: then those are looked for together.
#[inline]
fn several_hops(verdicts: &[Verdict]) -> bool {
    let mut hops = verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Forward { egress } => Some(*egress),
        _ => None,
    });
    hops.next().is_some_and(|first| hops.any(|hop| hop != first))
}

/// One poll-mode worker.
pub struct Worker<Q: Queues, S: FrameSource<Frame = Q::Frame>, C> {
    id: u16,
    shared: Arc<Shared<Q::Frame>>,
    clock: C,
    plan: Arc<Plan>,
    /// The virtual routers are active here, as far as this worker knows; always true without any.
    active: bool,
    flow: FlowWorker,
    io: Io<Q>,
    stages: Stages<S>,
    waiting: Waiting<Q::Frame>,
    /// When flow slots were judged last.
    swept: Instant,
}

/// What a poll works with, made from disjoint parts of the worker.
macro_rules! pass {
    ($worker:expr, $now:expr, $mailbox:expr, $guard:expr) => {
        Pass {
            now: $now,
            id: $worker.id,
            shared: &$worker.shared,
            mailbox: $mailbox,
            counters: &$mailbox.counters,
            plan: &$worker.plan,
            view: $worker.plan.view($worker.active),
            active: &mut $worker.active,
            guard: &$guard,
            io: &mut $worker.io,
            stages: &mut $worker.stages,
            swept: &mut $worker.swept,
        }
    };
}

impl<Q: Queues, S: FrameSource<Frame = Q::Frame>, C: Clock> Worker<Q, S, C> {
    /// Worker number `id` with its queues. Nothing if the number is not one of `shared`, or was given
    /// out before.
    #[must_use]
    pub fn new(
        id: u16,
        shared: Arc<Shared<Q::Frame>>,
        clock: C,
        plan: Arc<Plan>,
        queues: Q,
        source: S,
    ) -> Option<Self> {
        let mailbox = shared.mailboxes.get(usize::from(id))?;
        let flow = shared.table.worker(u8::try_from(id).ok()?)?;
        mailbox.generation.store(plan.generation, Ordering::Release);
        let active = plan.standby.is_none();
        let view = plan.view(active);
        let mut stages = Stages {
            neighbors: Neighbors::new(&plan.neighbor, Arc::clone(&shared.resolved), id, &view.interfaces)
                .ok()?,
            forward: Forward::new(Arc::clone(&view.forward)),
            nat64: nat64(&plan, &mailbox.log),
            sources: SourceGuard::new(&plan.active.interfaces, Arc::clone(&shared.bindings)),
            first_hop: FirstHop::new(&plan, &shared, id),
            resolver: resolver::stage(&plan, &shared, id),
            splicer: splicer::stage(&plan, &shared, id),
            errors: plan.icmp_errors(),
            source,
            outbox: Outbox::new(),
            events: Events::new(),
        };
        stages.neighbors.set_bindings(Some(Arc::clone(&shared.bindings)));
        stages.neighbors.keep(plan.kept());
        let waiting = Waiting { arrived: Burst::new(), first: Default::default(), again: Default::default() };
        let tx = (0..queues.ports()).map(|_| ArrayVec::new()).collect();
        Some(Self {
            id,
            shared,
            clock,
            plan,
            active,
            flow,
            io: Io { queues, tx },
            stages,
            waiting,
            swept: Instant::ZERO,
        })
    }

    /// One poll of everything. True if there was any packet.
    pub fn poll(&mut self) -> bool {
        let now = self.clock.now();
        self.adopt_plan(now);
        let mailbox = &self.shared.mailboxes[usize::from(self.id)];
        let guard = self.flow.enter();
        let mut pass = pass!(self, now, mailbox, guard);
        pass.look_who_is_active();
        let busy = pass.hand_ins(&mut self.waiting)
            | pass.heard_by_others(&mut self.waiting)
            | pass.receive(&mut self.waiting);
        pass.timers();
        pass.events();
        for port in 0..self.io.queues.ports() {
            self.io.flush(port, &mailbox.counters);
        }
        drop(guard);
        let counter = if busy { Counter::BusyPolls } else { Counter::IdlePolls };
        mailbox.counters.add(counter, 1);
        // Released: whoever sees it sees what this poll handed over.
        mailbox.heartbeat.store(mailbox.heartbeat.load(Ordering::Relaxed) + 1, Ordering::Release);
        busy
    }

    /// A stop was asked for: true once this worker may stop. A gateway whose virtual routers are active says
    /// that it leaves, and forwards on until another one has taken over.
    pub fn may_stop(&mut self) -> bool {
        let now = self.clock.now();
        let mailbox = &self.shared.mailboxes[usize::from(self.id)];
        let guard = self.flow.enter();
        pass!(self, now, mailbox, guard).may_stop()
    }

    /// Gives back every frame that is held anywhere, before the worker stops.
    pub fn drain(&mut self) {
        let now = self.clock.now();
        let mailbox = &self.shared.mailboxes[usize::from(self.id)];
        let guard = self.flow.enter();
        pass!(self, now, mailbox, guard).say_goodbye();
        drop(guard);
        let mailbox = &self.shared.mailboxes[usize::from(self.id)];
        for port in 0..self.io.queues.ports() {
            self.io.flush(port, &mailbox.counters);
        }
        let counters: &Counters = &mailbox.counters;
        self.stages.neighbors.drain(counters);
        for _ in 0..self.stages.nat64.take().map_or(0, |stage| stage.held()) {
            counters.drop(DropReason::Shutdown);
        }
        while mailbox.handoff.pop().is_some() || mailbox.vrrp.pop().is_some() {
            counters.drop(DropReason::Shutdown);
        }
        self.stages.outbox.drain().for_each(drop);
    }

    /// Takes over the newest plan, between two polls. The old one goes back to control to be freed.
    #[inline]
    fn adopt_plan(&mut self, now: Instant) {
        let mailbox = &self.shared.mailboxes[usize::from(self.id)];
        if mailbox.plans.is_empty() {
            return;
        }
        while let Some(plan) = mailbox.plans.pop() {
            let view = plan.view(self.active);
            self.stages.neighbors.set_interfaces(&view.interfaces, &mailbox.counters);
            self.stages.forward.set_config(Arc::clone(&view.forward));
            match (&mut self.stages.nat64, &plan.nat64) {
                (Some(stage), Some(new)) => stage.reconfigure(Arc::clone(&new.config), Arc::clone(&new.pool)),
                (stage, _) => *stage = nat64(&plan, &mailbox.log),
            }
            self.stages.sources =
                SourceGuard::new(&plan.active.interfaces, Arc::clone(&self.shared.bindings));
            self.stages.neighbors.keep(plan.kept());
            self.stages.first_hop.adopt(&plan, now);
            resolver::adopt(&mut self.stages.resolver, &plan, &self.shared, self.id);
            splicer::adopt(&mut self.stages.splicer, &plan, &self.shared, self.id);
            // RFC 9568 6.4.2: what active virtual routers got is announced as if they had just become active.
            if self.id == 0
                && self.active
                && plan.standby.is_some()
                && crate::plan::gains(&self.plan.active.interfaces, &plan.active.interfaces)
            {
                self.stages.neighbors.announce_moved(&view.interfaces, &mailbox.counters, now);
            }
            let generation = plan.generation;
            let old = std::mem::replace(&mut self.plan, plan);
            // Full means that control does not take them back in time: then it is freed here.
            drop(mailbox.retired.push(old));
            mailbox.generation.store(generation, Ordering::Release);
            self.stages.events.push(Event::PlanAdopted { worker: self.id, generation });
        }
    }
}

/// What one poll works with.
struct Pass<'a, 'g, Q: Queues, S: FrameSource<Frame = Q::Frame>> {
    now: Instant,
    id: u16,
    shared: &'a Shared<Q::Frame>,
    mailbox: &'a Mailbox<Q::Frame>,
    counters: &'a Counters,
    plan: &'a Plan,
    /// The part of the plan that is in force.
    view: &'a View,
    /// The virtual routers are active here.
    active: &'a mut bool,
    guard: &'a Guard<'g>,
    io: &'a mut Io<Q>,
    stages: &'a mut Stages<S>,
    swept: &'a mut Instant,
}

/// A context for a stage, made from disjoint parts of the pass.
macro_rules! ctx {
    ($pass:expr) => {
        Ctx {
            now: $pass.now,
            worker: $pass.id,
            workers: $pass.shared.mailboxes.len() as u16,
            counters: $pass.counters,
            outbox: &mut $pass.stages.outbox,
            source: &mut $pass.stages.source,
            events: &mut $pass.stages.events,
            interfaces: &$pass.view.interfaces,
            routes: &$pass.view.routes,
        }
    };
}

mod first_hop;
mod resolver;
mod splicer;
use first_hop::{FirstHop, Service};

impl<Q: Queues, S: FrameSource<Frame = Q::Frame>> Pass<'_, '_, Q, S> {
    /// Takes what other workers handed over, at most a burst. True if there was anything.
    fn hand_ins(&mut self, waiting: &mut Waiting<Q::Frame>) -> bool {
        let mut any = false;
        for _ in 0..BURST {
            match self.mailbox.handoff.pop() {
                None => break,
                Some(Handoff::Send(packet)) => {
                    self.transmit(packet);
                }
                Some(Handoff::Process(class, packet)) => waiting.first[slot(class)].push(packet),
            }
            any = true;
        }
        if any {
            self.run(waiting, None);
        }
        any
    }

    /// Takes a burst from each port through all stages. True if there was a frame.
    fn receive(&mut self, waiting: &mut Waiting<Q::Frame>) -> bool {
        let mut frames = ArrayVec::<Q::Frame, BURST>::new();
        let (mut any, mut all) = (false, self.mailbox.vrrp.is_empty());
        for port in 0..self.io.queues.ports() {
            self.io.queues.rx(port, &mut frames);
            if frames.is_empty() {
                continue;
            }
            any = true;
            all &= !frames.is_full();
            let octets: usize = frames.iter().map(Frame::octets).sum();
            self.counters.add(Counter::RxFrames, frames.len() as u64);
            self.counters.add(Counter::RxOctets, octets as u64);
            let class = self.classify(port, &mut frames, waiting);
            self.run(waiting, class);
        }
        self.caught_up(all);
        any
    }

    /// Tells a burst's frames apart. All are classified before any is moved to its class; if all are of one
    /// class it is given, and they stay where they arrived.
    #[inline]
    fn classify(
        &mut self,
        port: u16,
        frames: &mut ArrayVec<Q::Frame, BURST>,
        waiting: &mut Waiting<Q::Frame>,
    ) -> Option<Class> {
        let Waiting { arrived, first, .. } = waiting;
        arrived.extend(frames.drain(..).map(|frame| Packet { frame, meta: Meta::originated() }));
        let mut classes = [Err(DropReason::Shutdown); BURST];
        let mut same = true;
        for (packet, class) in arrived.iter_mut().zip(&mut classes) {
            *class = self.view.classifier.classify_in_place(port, packet);
        }
        if self.stages.sources.is_needed() {
            self.stages.sources.check(arrived, &mut classes[..arrived.len()]);
        }
        let class = classes[0];
        for other in &classes[1..arrived.len()] {
            same &= *other == class;
        }
        if let (true, Ok(class)) = (same, class) {
            return Some(class);
        }
        for (packet, class) in arrived.drain(..).zip(classes) {
            match class {
                Ok(class) => first[slot(class)].push(packet),
                Err(reason) => self.counters.drop(reason),
            }
        }
        None
    }

    /// Runs all classes, or the one of which all that arrived is, and then once more what was classified
    /// again.
    fn run(&mut self, waiting: &mut Waiting<Q::Frame>, uniform: Option<Class>) {
        let Waiting { arrived, first, again } = waiting;
        match uniform {
            Some(class) => self.run_class(class, arrived, again),
            None => {
                for class in BY_SLOT {
                    self.run_class(class, &mut first[slot(class)], again);
                }
            }
        }
        // What was originated comes first: what is classified again may be the continuation of it.
        self.send_outbox();
        for class in BY_SLOT {
            if !again[slot(class)].is_empty() {
                std::mem::swap(&mut again[slot(class)], &mut first[slot(class)]);
                self.run_class(class, &mut first[slot(class)], again);
            }
        }
        self.send_outbox();
    }

    /// Runs one class over its burst, which is empty afterwards.
    #[inline]
    fn run_class(&mut self, class: Class, burst: &mut Burst<Q::Frame>, again: &mut ByClass<Q::Frame>) {
        if burst.is_empty() {
            return;
        }
        let mut verdicts = [Verdict::Consume; BURST];
        let verdicts = &mut verdicts[..burst.len()];
        match class {
            Class::Nat64In | Class::Nat64Out => match &mut self.stages.nat64 {
                Some(s) if class == Class::Nat64In => {
                    s.v6_to_v4(&mut ctx!(self), self.guard, burst, verdicts);
                }
                Some(s) => s.v4_to_v6(&mut ctx!(self), self.guard, burst, verdicts),
                None => verdicts.fill(Verdict::Drop(DropReason::NoRoute)),
            },
            Class::SpliceIn | Class::SpliceOut => self.splice(class, burst, verdicts),
            Class::Forward6 => self.stages.forward.process(&mut ctx!(self), self.guard, burst, verdicts),
            Class::Local => {
                self.run_local(burst, again);
                return;
            }
        }
        if several_hops(verdicts) {
            let mut found = [None; BURST];
            self.stages.neighbors.resolve_all(&ctx!(self), verdicts, &mut found[..burst.len()]);
            for ((mut packet, verdict), found) in burst.drain(..).zip(verdicts).zip(found) {
                match (*verdict, found) {
                    (Verdict::Forward { egress }, Some(resolution)) => {
                        packet.meta.egress = egress;
                        self.deliver(packet, resolution);
                    }
                    (verdict, _) => self.settle(class, packet, verdict, again, &mut None),
                }
            }
            return;
        }
        // Most packets of a burst leave by the same next hop: what was found for one counts for those
        // behind it.
        let mut hop = None;
        for (packet, verdict) in burst.drain(..).zip(verdicts) {
            self.settle(class, packet, *verdict, again, &mut hop);
        }
    }

    /// Local packets go one at a time, and to the worker that owns their state.
    fn run_local(&mut self, burst: &mut Burst<Q::Frame>, again: &mut ByClass<Q::Frame>) {
        self.foresee(burst);
        for mut packet in burst.drain(..) {
            let service = first_hop::service(&packet);
            let owner = match service {
                Service::Neighbor => self.stages.neighbors.owner_of(&self.view.interfaces, &packet),
                _ => Some(self.first_hop_owner(service)),
            };
            if let Some(owner) = owner.filter(|owner| *owner != self.id) {
                match service {
                    Service::Vrrp => self.tell_vrrp(owner, packet),
                    _ => self.hand_off(owner, Handoff::Process(Class::Local, packet)),
                }
                continue;
            }
            let verdict = match self.first_hop(service, &mut packet) {
                Some(Outcome::Verdict(verdict)) => verdict,
                Some(Outcome::Owner(owner)) => {
                    self.hand_off(owner, Handoff::Process(Class::Local, packet));
                    continue;
                }
                None => self.stages.neighbors.local(&mut ctx!(self), &mut self.stages.errors, &mut packet),
            };
            self.settle(Class::Local, packet, verdict, again, &mut None);
        }
    }

    /// Does what a stage decided.
    #[inline(always)]
    fn settle(
        &mut self,
        class: Class,
        mut packet: Packet<Q::Frame>,
        verdict: Verdict,
        again: &mut ByClass<Q::Frame>,
        hop: &mut Option<(Egress, MacAddr)>,
    ) {
        match verdict {
            Verdict::Forward { egress } => match hop {
                Some((known, mac)) if *known == egress => self.emit(packet, egress, *mac),
                _ => {
                    packet.meta.egress = egress;
                    *hop = self.transmit(packet).map(|mac| (egress, mac));
                }
            },
            Verdict::Again(class) if packet.meta.again == 0 => {
                packet.meta.again = 1;
                if again[slot(class)].try_push(packet).is_err() {
                    self.counters.drop(DropReason::OutboxFull);
                }
            }
            Verdict::Again(_) => self.counters.drop(DropReason::AgainTwice),
            // Of the stages only NAT64 says so: a fragment that overtook the first of its packet.
            Verdict::Held => match &mut self.stages.nat64 {
                Some(stage) => stage.hold(&mut ctx!(self), self.guard, packet),
                None => self.counters.drop(DropReason::Nat64Fragment),
            },
            Verdict::Owner(worker) => self.hand_off(worker, Handoff::Process(class, packet)),
            Verdict::Consume => {}
            Verdict::Drop(reason) => self.counters.drop(reason),
        }
    }

    /// Finds the next hop's link-layer address and puts the frame on its port. Gives the address, if it
    /// is known.
    #[inline]
    fn transmit(&mut self, packet: Packet<Q::Frame>) -> Option<MacAddr> {
        let resolution = self.stages.neighbors.resolve(&ctx!(self), &packet.meta.egress);
        self.deliver(packet, resolution)
    }

    /// Does what was found for a packet's next hop. Gives its link-layer address, if it is known.
    #[inline]
    fn deliver(&mut self, packet: Packet<Q::Frame>, resolution: Resolution) -> Option<MacAddr> {
        let egress = packet.meta.egress;
        match resolution {
            Resolution::Ready(mac) => {
                self.emit(packet, egress, mac);
                return Some(mac);
            }
            Resolution::Hold => {
                self.stages.neighbors.hold(&mut ctx!(self), &mut self.stages.errors, packet);
            }
            Resolution::Owner(worker) => self.hand_off(worker, Handoff::Send(packet)),
            Resolution::Drop(reason) => self.counters.drop(reason),
        }
        None
    }

    /// Writes the Ethernet header and puts the frame on its port.
    #[inline(always)]
    fn emit(&mut self, mut packet: Packet<Q::Frame>, egress: Egress, dst: MacAddr) {
        let Some(interface) = self.view.interfaces.get(egress.interface()) else {
            self.counters.drop(DropReason::NoRoute);
            return;
        };
        let ethertype = packet.meta.ethertype;
        let src = if ethertype == ethernet::ETHERTYPE_IPV6 { interface.mac } else { interface.mac4() };
        let room = if interface.vlan.is_some() { ethernet::HEADER_TAGGED } else { ethernet::HEADER };
        if packet.frame.push_front(room).is_err() {
            self.counters.drop(DropReason::NoHeadroom);
            return;
        }
        let written = if interface.vlan.is_some() {
            EthernetRepr { dst, src, vlan: interface.vlan, ethertype }.emit(packet.bytes_mut()).is_ok()
        } else {
            emit_untagged(packet.bytes_mut(), dst, src, ethertype)
        };
        if written {
            self.io.push(interface.port, packet.frame, self.counters);
        } else {
            self.counters.drop(DropReason::NoHeadroom);
        }
    }

    /// Hands something to the worker that owns its state.
    fn hand_off(&mut self, worker: u16, what: Handoff<Q::Frame>) {
        let taken = self
            .shared
            .mailboxes
            .get(usize::from(worker))
            .is_some_and(|mailbox| mailbox.handoff.push(what).is_ok());
        if taken {
            self.counters.add(Counter::HandedOff, 1);
        } else {
            self.counters.drop(DropReason::HandoffFull);
        }
    }

    /// Sends what the stages originated. Resolving a next hop may originate more (a solicitation), and
    /// those go straight to a link-layer address, so the second round is the last.
    #[inline]
    fn send_outbox(&mut self) {
        for _ in 0..2 {
            if self.stages.outbox.is_empty() {
                return;
            }
            let mut outbox = std::mem::take(&mut self.stages.outbox);
            for packet in outbox.drain() {
                self.originated(packet);
            }
        }
    }

    /// Sends a packet that a stage originated. One to an IPv4 host under the NAT64 prefix (an ICMPv6
    /// error of ours about a packet that was translated) is translated first.
    fn originated(&mut self, mut packet: Packet<Q::Frame>) {
        if packet.meta.ethertype == ethernet::ETHERTYPE_IPV6
            && let (Some(stage), Ok(ip)) = (&mut self.stages.nat64, Ipv6Repr::parse(packet.bytes()))
            && self.view.classifier.translates(ip.dst)
        {
            (packet.meta.protocol, packet.meta.l4) = (ip.next_header, ipv6::HEADER as u16);
            let mut verdict = [Verdict::Consume];
            let one = std::slice::from_mut(&mut packet);
            stage.v6_to_v4(&mut ctx!(self), self.guard, one, &mut verdict);
            match verdict[0] {
                Verdict::Forward { egress } => packet.meta.egress = egress,
                Verdict::Drop(reason) => return self.counters.drop(reason),
                // An error of ours goes out or nowhere.
                Verdict::Consume | Verdict::Held | Verdict::Again(_) | Verdict::Owner(_) => return,
            }
        }
        self.transmit(packet);
    }

    /// Timers and expiry, bounded.
    fn timers(&mut self) {
        if self.mailbox.announce.load(Ordering::Relaxed)
            && self.mailbox.announce.swap(false, Ordering::Relaxed)
        {
            self.stages.neighbors.announce(self.now);
        }
        self.first_hop_timers();
        self.resolver_timers();
        self.splicer_timers();
        self.stages.neighbors.tick(&mut ctx!(self), &mut self.stages.errors, TIMERS_PER_POLL);
        if let Some(stage) = &mut self.stages.nat64 {
            stage.poll(&mut ctx!(self), self.guard);
        }
        self.sweep();
        self.send_outbox();
    }

    /// Judges the next slots of the flow table: as many as the time since the last call asks for, so
    /// that all workers together go round once in [`SWEEP_PERIOD_US`], and never more than bounded.
    fn sweep(&mut self) {
        let since_us = u64::try_from(self.now.since(*self.swept).as_micros()).unwrap_or(u64::MAX);
        let slots = u64::from(self.shared.slots_per_worker).saturating_mul(since_us) / SWEEP_PERIOD_US;
        if slots < SWEEP_AT_LEAST {
            return;
        }
        *self.swept = self.now;
        let mut judge = Judge {
            guard: self.guard,
            nat64: self.stages.nat64.as_ref().map(|n| n.expiry(self.guard, self.counters, self.now)),
            splicer: self.stages.splicer.as_ref().map(|s| s.expiry(self.counters)),
            forward: causeway_forward::Expiry { config: &self.view.forward, counters: self.counters },
        };
        let slots = u32::try_from(slots.min(u64::from(SWEEP_AT_MOST))).unwrap_or(0);
        self.guard.sweep(slots, Tick::at(self.now), &mut judge);
        let probes = judge.nat64.map(|n| n.probes).unwrap_or_default();
        if let Some(stage) = &mut self.stages.nat64 {
            stage.send_probes(&mut ctx!(self), &probes);
        }
    }

    /// Hands this poll's events to control.
    fn events(&mut self) {
        if self.stages.events.is_empty() {
            return;
        }
        let (events, mut lost) = self.stages.events.drain();
        for event in events {
            lost += u64::from(self.mailbox.events.push(event).is_err());
        }
        self.counters.add(Counter::EventsLost, lost);
    }
}

#[cfg(test)]
mod tests;
