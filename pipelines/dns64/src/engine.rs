//! Questions that are under way at a worker: who waits for what, what was learnt, and what they are told.
//!
//! No frames and no sockets: what is to be sent comes out as [`Work`].

use crate::answer::{Answer, FetchError, Fetched};
use crate::cache::{Cache, Found, Scratch};
use crate::cookie::Cookies;
use crate::explain::{Explained, Lookup, Step as Told};
use crate::policy::{Asked, CLASS_IN, Decision, NOERROR, NXDOMAIN, Policy, SERVFAIL};
use crate::question::{KEY_OCTETS, Question, Variant};
use crate::resolution::{self, Finished, Resolution, Step};
use crate::respond::{Reply, Stored, Transport, respond};
use crate::status::UpstreamsStatus;
use crate::tcp::Conn;
use crate::upstream::{Action, Done, FetchId, StreamEvent, Upstreams};
use arrayvec::ArrayVec;
use causeway_core::{Counter, Counters, DropReason, Instant, Prefix6};
use causeway_wire::MacAddr;
use causeway_wire::dns::{self, flags};

use hickory_proto::op::Message;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Waiters for each question that may be under way, on average.
const WAITERS: usize = 4;
/// Bits of an address that tell networks from each other: none of them may take all that there is.
const NETWORK_BITS: u8 = 64;
/// Octets of the longest message.
const MESSAGE_OCTETS: usize = 65_535;

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// A datagram.
    Udp {
        /// Our address, which the question was sent to.
        from: SocketAddr,
        /// The client.
        to: SocketAddr,
        /// The link that the question came in by: [`causeway_core::Interface::link`].
        link: u32,
        /// The link-layer source of its frame.
        mac: MacAddr,
    },
    /// A connection.
    Tcp(Conn, SocketAddr),
}

impl Back {
    /// The client.
    #[must_use]
    pub const fn client(&self) -> IpAddr {
        match self {
            Self::Udp { to, .. } | Self::Tcp(_, to) => to.ip(),
        }
    }
}

/// A client's question that is under way.
#[derive(Debug, Clone)]
pub struct Waiter {
    /// Where the answer goes.
    pub back: Back,
    /// The client's view.
    pub view: u16,
    /// The message that it sent.
    pub octets: Box<[u8]>,
    /// When it came.
    pub asked: Instant,
}

/// An answer for clients.
#[derive(Debug)]
pub struct Ready {
    /// Who gets it.
    pub waiters: Vec<Waiter>,
    /// What they get.
    pub what: What,
}

/// What clients get.
#[derive(Debug)]
pub enum What {
    /// This.
    Made(Arc<Answer>),
    /// What the cache has, though it has expired: nothing that is fresh could be had (RFC 8767).
    Expired(Box<(Question, Variant)>),
}

/// What is to be done for the questions under way.
#[derive(Debug, Default)]
pub struct Work {
    /// Answers for clients.
    pub ready: Vec<Ready>,
    /// What is to be sent upstream.
    pub actions: Vec<Action>,
    /// Lookups that control asked for.
    pub explained: Vec<Explained>,
}

impl Work {
    /// True if there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.actions.is_empty() && self.explained.is_empty()
    }
}

/// What identical questions are told by: the question with the sort of answer, and the view whose rules are its
/// own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    question: ArrayVec<u8, KEY_OCTETS>,
    view: Option<u16>,
}

/// Something that is being resolved.
#[derive(Debug)]
struct Running {
    generation: u32,
    /// Nothing if nobody else may join.
    key: Option<Key>,
    question: Question,
    variant: Variant,
    view: u16,
    resolution: Resolution,
    waiters: Vec<Waiter>,
    /// Why it was begun, if not for a client.
    cause: Option<Cause>,
    told: Vec<Told>,
}

/// Why something is resolved that no client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Control asked, under this number.
    Lookup(u64),
    /// An answer will soon expire: what is in the cache will too.
    Refresh,
}

impl Running {
    /// True if every step is told.
    const fn is_told(&self) -> bool {
        matches!(self.cause, Some(Cause::Lookup(_)))
    }

    /// Goes on with what was learnt.
    fn on(&mut self, result: Result<Fetched, FetchError>) -> Step {
        let step = self.resolution.on(result);
        self.tell();
        step
    }

    /// Takes down what was decided, behind what it was decided by.
    fn tell(&mut self) {
        if self.is_told() {
            self.told.extend(self.resolution.take_steps());
        }
    }
}

/// A slot, and its generation: what comes late for another is not taken.
type RunId = (u32, u32);

/// What could be said at once about something that is to be found out.
enum Learnt {
    Now(Box<Result<Fetched, FetchError>>),
    Later,
}

/// Everything that is under way at a worker.
#[derive(Debug)]
pub struct Engine {
    policy: Arc<Policy>,
    cache: Arc<Cache>,
    upstreams: Upstreams,
    scratch: Box<Scratch>,
    /// Room for a message, and what it is written with.
    message: Box<[u8]>,
    cookies: Cookies,
    running: Vec<Option<Box<Running>>>,
    free: Vec<u32>,
    generation: u32,
    by_key: HashMap<Key, u32>,
    by_fetch: HashMap<FetchId, Vec<RunId>>,
    /// Questions under way for each client, and for each network of 64 bits.
    clients: HashMap<u128, u32>,
    networks: HashMap<u128, u32>,
    waiting: usize,
    /// In the order of their start: when those who wait are to get an answer that has expired.
    patience: VecDeque<(Instant, RunId)>,
    actions: VecDeque<Action>,
    told: Vec<Action>,
}

/// Which client an address is: its first bits.
#[must_use]
pub fn client_key(address: IpAddr, bits: u8) -> u128 {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
    match address {
        IpAddr::V6(a) => a.to_bits() & mask,
        IpAddr::V4(a) => a.to_ipv6_mapped().to_bits() & mask,
    }
}

/// What a call of the engine is lent.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The time.
    pub now: Instant,
    /// Where events are counted.
    pub counters: &'a Counters,
    /// What comes of it.
    pub work: &'a mut Work,
}

impl Engine {
    /// With nothing under way.
    #[must_use]
    pub fn new(policy: Arc<Policy>, cache: Arc<Cache>, upstreams: Upstreams) -> Self {
        Self {
            policy,
            cache,
            upstreams,
            scratch: Box::default(),
            message: vec![0; MESSAGE_OCTETS].into_boxed_slice(),
            cookies: Cookies::new([0; 16]),
            running: Vec::new(),
            free: Vec::new(),
            generation: 0,
            by_key: HashMap::new(),
            by_fetch: HashMap::new(),
            clients: HashMap::new(),
            networks: HashMap::new(),
            waiting: 0,
            patience: VecDeque::new(),
            actions: VecDeque::new(),
            told: Vec::new(),
        }
    }

    /// Takes over other settings. What is under way goes on by the old ones.
    pub fn set_policy(&mut self, policy: Arc<Policy>, status: Arc<UpstreamsStatus>) {
        self.upstreams.set_config(policy.config(), status);
        self.policy = policy;
        // Clients may be told from each other by other bits.
        self.clients.clear();
        self.networks.clear();
        for waiter in self.running.iter().flatten().flat_map(|r| &r.waiters) {
            let (client, network) = keys_of(&self.policy, waiter);
            *self.clients.entry(client).or_default() += 1;
            *self.networks.entry(network).or_default() += 1;
        }
    }

    /// How many questions of clients are under way.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// When [`Engine::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let patience = self.patience.front().map(|(at, _)| *at);
        [self.upstreams.next_deadline(), patience].into_iter().flatten().min()
    }

    /// True if an answer of an upstream is waited for at this port.
    #[must_use]
    pub fn is_open(&self, port: u16) -> bool {
        self.upstreams.is_open(port)
    }

    /// Takes on a question that a client waits for.
    ///
    /// # Errors
    /// Why it is not taken on: too much is under way already.
    pub fn ask(
        &mut self,
        waiter: Waiter,
        question: Question,
        decision: Decision,
        turn: &mut Turn<'_>,
    ) -> Result<(), DropReason> {
        let limits = &self.policy.config().limits;
        let all = usize::from(self.policy.config().upstream.in_flight) * WAITERS;
        let (client, network) = keys_of(&self.policy, &waiter);
        let under_way = |map: &HashMap<u128, u32>, key| map.get(&key).copied().unwrap_or(0);
        // No network takes more than half of what there is.
        if under_way(&self.clients, client) >= u32::from(limits.in_flight)
            || under_way(&self.networks, network) as usize >= all.div_ceil(2)
            || self.waiting >= all
        {
            return Err(DropReason::Dns64ClientBusy);
        }
        *self.clients.entry(client).or_default() += 1;
        *self.networks.entry(network).or_default() += 1;
        self.waiting += 1;
        let view = waiter.view;
        let key = self.key_of(&question, decision, view);
        if let Some(&slot) = key.as_ref().and_then(|key| self.by_key.get(key))
            && let Some(running) = &mut self.running[slot as usize]
        {
            turn.counters.add(Counter::Dns64Merged, 1);
            running.waiters.push(waiter);
            return Ok(());
        }
        self.begin(question, decision, view, key, Some(waiter), None, turn);
        Ok(())
    }

    /// Asks again for an answer that will soon expire, if it is not being asked for.
    pub fn refresh(&mut self, question: Question, variant: Variant, view: u16, turn: &mut Turn<'_>) {
        let decision = Decision::Lookup(variant);
        let key = self.key_of(&question, decision, view);
        let under_way = key.as_ref().is_some_and(|key| self.by_key.contains_key(key));
        if under_way || self.running.len() - self.free.len() >= self.most() / 2 {
            return;
        }
        turn.counters.add(Counter::Dns64Prefetched, 1);
        self.begin(question, decision, view, key, None, Some(Cause::Refresh), turn);
    }

    /// Looks something up for control, and tells how.
    pub fn look_up(&mut self, lookup: Lookup, turn: &mut Turn<'_>) {
        let Lookup { id, question, view } = lookup;
        let asked = Asked {
            name: &question.name,
            qtype: question.qtype,
            qclass: CLASS_IN,
            recursion_desired: true,
            checking_disabled: question.checking_disabled,
        };
        let decision = self.policy.decide(view, &asked);
        if let Decision::Lookup(variant) = decision
            && self.policy.reads_cache(view, variant)
        {
            let prefix = self.prefix_of(view);
            if let Some((octets, ttl)) = self.cached(&question, variant, prefix, turn.now) {
                let answer = Some(octets.to_vec());
                let steps = vec![Told::Cached { question, variant, ttl }];
                turn.work.explained.push(Explained { id, steps, answer });
                return;
            }
        }
        if let Decision::Refuse(rcode) = decision {
            let made = Answer::from_message(&resolution::response(&question, rcode), &[], 0).ok();
            let answer = made.and_then(|made| self.written(&question, view, &made));
            let steps = vec![Told::Local("refused: questions of this sort are not answered")];
            turn.work.explained.push(Explained { id, steps, answer });
            return;
        }
        self.begin(question, decision, view, None, None, Some(Cause::Lookup(id)), turn);
    }

    /// Takes a datagram that came to a port of ours.
    ///
    /// # Errors
    /// Why it is dropped: it is no answer to a question of ours.
    pub fn on_datagram(
        &mut self,
        from: SocketAddr,
        to_port: u16,
        octets: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<(), DropReason> {
        let taken = self.upstreams.on_datagram(from, to_port, octets, turn.now, &mut self.told);
        self.pump(turn);
        taken
    }

    /// Takes what came of a connection that [`Action::OpenTcp`] asked for.
    pub fn on_stream(&mut self, token: u64, event: StreamEvent<'_>, turn: &mut Turn<'_>) {
        self.upstreams.on_stream(token, event, turn.now, &mut self.told);
        self.pump(turn);
    }

    /// Does what is due.
    pub fn tick(&mut self, turn: &mut Turn<'_>) {
        self.upstreams.tick(turn.now, &mut self.told);
        self.pump(turn);
        while let Some(&(at, id)) = self.patience.front() {
            if at > turn.now {
                break;
            }
            self.patience.pop_front();
            self.out_of_patience(id, turn);
        }
    }

    /// An ICMP error told that a question of ours did not reach an upstream; false if there is none such.
    pub fn on_unreachable(&mut self, to: SocketAddr, from_port: u16, turn: &mut Turn<'_>) -> bool {
        let ours = self.upstreams.on_unreachable(to, from_port, turn.now, &mut self.told);
        self.pump(turn);
        ours
    }

    /// Under what others may join; answers that are made here are not worth it.
    fn key_of(&self, question: &Question, decision: Decision, view: u16) -> Option<Key> {
        let Decision::Lookup(variant) = decision else { return None };
        Some(Key { question: question.key(variant), view: self.policy.own_rules(view, variant) })
    }

    fn most(&self) -> usize {
        usize::from(self.policy.config().upstream.in_flight)
    }

    #[expect(clippy::too_many_arguments, reason = "what makes a resolution, told once")]
    fn begin(
        &mut self,
        question: Question,
        decision: Decision,
        view: u16,
        key: Option<Key>,
        waiter: Option<Waiter>,
        cause: Option<Cause>,
        turn: &mut Turn<'_>,
    ) {
        let (resolution, step) = match decision {
            Decision::Lookup(variant) => Resolution::start(&question, variant, view, &self.policy),
            Decision::Special(special) => Resolution::special(&question, special, view, &self.policy),
            // Whoever refuses does not ask.
            Decision::Refuse(_) => {
                self.release(waiter.as_slice());
                return;
            }
        };
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let mut running = Box::new(Running {
            generation,
            key: key.clone(),
            variant: resolution.variant(),
            question,
            view,
            resolution,
            waiters: waiter.into_iter().collect(),
            cause,
            told: Vec::new(),
        });
        running.tell();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.running.push(None);
            u32::try_from(self.running.len() - 1).unwrap_or(u32::MAX)
        });
        self.running[slot as usize] = Some(running);
        if let Some(key) = key {
            self.by_key.insert(key, slot);
        }
        if let Some(stale) = &self.policy.config().cache.stale {
            self.patience.push_back((turn.now + stale.after, (slot, generation)));
        }
        self.drive((slot, generation), step, turn);
        self.pump(turn);
    }

    fn of(&mut self, (slot, generation): RunId) -> Option<&mut Running> {
        self.running.get_mut(slot as usize)?.as_deref_mut().filter(|r| r.generation == generation)
    }

    /// Goes on until something has to be waited for, or there is an answer.
    fn drive(&mut self, id: RunId, mut step: Step, turn: &mut Turn<'_>) {
        loop {
            let question = match step {
                Step::Done(finished) => return self.finish(id, finished, turn),
                Step::Fetch(question) => question,
            };
            match self.learn(id, &question, turn.now) {
                Learnt::Later => return,
                Learnt::Now(result) => {
                    let Some(running) = self.of(id) else { return };
                    step = running.on(*result);
                }
            }
        }
    }

    /// Finds something out, in the cache or from upstream.
    fn learn(&mut self, id: RunId, question: &Question, now: Instant) -> Learnt {
        let refresh = self.of(id).is_some_and(|r| r.cause == Some(Cause::Refresh));
        if let Some((octets, ttl)) = self.cached(question, Variant::Native, None, now).filter(|_| !refresh) {
            let result = fetched(question, octets);
            let question = question.clone();
            if let Some(running) = self.of(id).filter(|r| r.is_told()) {
                running.told.push(Told::Cached { question, variant: Variant::Native, ttl });
            }
            return Learnt::Now(Box::new(result));
        }
        match self.upstreams.fetch(question, now, &mut self.told) {
            Err(why) => Learnt::Now(Box::new(Err(why))),
            Ok(fetch) => {
                self.by_fetch.entry(fetch).or_default().push(id);
                Learnt::Later
            }
        }
    }

    /// Sees to what the upstreams want.
    fn pump(&mut self, turn: &mut Turn<'_>) {
        loop {
            self.actions.extend(self.told.drain(..));
            let Some(action) = self.actions.pop_front() else { return };
            match action {
                Action::Done(done) => self.done(&done, turn),
                Action::Count(counter, times) => turn.counters.add(counter, times),
                other => turn.work.actions.push(other),
            }
        }
    }

    /// A fetch is over: what was learnt is kept, and all who waited for it go on.
    fn done(&mut self, done: &Done, turn: &mut Turn<'_>) {
        let Done { id, question, result, upstream, took } = done;
        let settings = &self.policy.config().cache;
        let answer = match result {
            Ok(fetched) => resolution::native(fetched, settings),
            Err(why) => resolution::failure(question, *why, settings),
        };
        if let Some(answer) = answer {
            // What finds no room is asked for again.
            self.cache.put(&question.key(Variant::Native), &answer, turn.now.as_secs()).ok();
        }
        for run in self.by_fetch.remove(id).unwrap_or_default() {
            let Some(running) = self.of(run) else { continue };
            if running.is_told() {
                running.told.push(Told::Asked {
                    question: question.clone(),
                    upstream: *upstream,
                    took_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
                    outcome: match result {
                        Ok(fetched) => fetched.message.metadata.response_code.to_string(),
                        Err(why) => why.to_string(),
                    },
                });
            }
            let step = running.on(result.clone());
            self.drive(run, step, turn);
        }
    }

    fn finish(&mut self, id: RunId, finished: Finished, turn: &mut Turn<'_>) {
        if self.of(id).is_none() {
            return;
        }
        let Some(mut running) = self.running[id.0 as usize].take() else { return };
        self.free.push(id.0);
        if let Some(key) = &running.key {
            self.by_key.remove(key);
        }
        let Finished { answer, cacheable, variant, counted } = finished;
        for (counter, times) in counted {
            turn.counters.add(counter, u64::from(times));
        }
        if let Some(Cause::Lookup(id)) = running.cause {
            let steps = std::mem::take(&mut running.told);
            let answer = self.written(&running.question, running.view, &answer);
            turn.work.explained.push(Explained { id, steps, answer });
        }
        if cacheable && answer.ttl > 0 {
            self.cache.put(&running.question.key(variant), &answer, turn.now.as_secs()).ok();
        }
        if answer.rcode() == SERVFAIL && self.give_expired(&mut running, turn) {
            return;
        }
        let waiters = std::mem::take(&mut running.waiters);
        self.hand_out(waiters, What::Made(Arc::new(answer)), turn);
    }

    /// Gives those who wait an answer that has expired, if there is one and it may be used (RFC 8767).
    fn give_expired(&mut self, running: &mut Running, turn: &mut Turn<'_>) -> bool {
        let Running { question, variant, view, .. } = &*running;
        if running.waiters.is_empty() || !self.policy.reads_cache(*view, *variant) {
            return false;
        }
        let key = question.key(*variant);
        let hash = self.cache.hash(&key);
        let found = self.cache.get(hash, &key, turn.now.as_secs(), &mut self.scratch);
        if !matches!(found, Found::Stale(_)) {
            return false;
        }
        let what = What::Expired(Box::new((question.clone(), *variant)));
        self.hand_out(std::mem::take(&mut running.waiters), what, turn);
        true
    }

    /// Those who have waited long enough get what there is; the question goes on.
    fn out_of_patience(&mut self, id: RunId, turn: &mut Turn<'_>) {
        if self.of(id).is_none() {
            return;
        }
        let Some(mut running) = self.running[id.0 as usize].take() else { return };
        self.give_expired(&mut running, turn);
        self.running[id.0 as usize] = Some(running);
    }

    fn hand_out(&mut self, waiters: Vec<Waiter>, what: What, turn: &mut Turn<'_>) {
        if !waiters.is_empty() {
            self.release(&waiters);
            turn.work.ready.push(Ready { waiters, what });
        }
    }

    fn prefix_of(&self, view: u16) -> Option<Prefix6> {
        self.policy.view(view).and_then(|v| v.prefix)
    }

    /// A message from the cache as the answer to a question of ours, and for how many seconds it is good.
    fn cached(
        &mut self,
        question: &Question,
        variant: Variant,
        prefix: Option<Prefix6>,
        now: Instant,
    ) -> Option<(&[u8], u32)> {
        let key = question.key(variant);
        let hash = self.cache.hash(&key);
        let Found::Fresh(entry) = self.cache.get(hash, &key, now.as_secs(), &mut self.scratch) else {
            return None;
        };
        let octets = write(question, entry.stored, prefix, &self.cookies, &mut self.message)?;
        Some((octets, entry.ttl))
    }

    /// An answer as a client with this view would get it.
    fn written(&mut self, question: &Question, view: u16, answer: &Answer) -> Option<Vec<u8>> {
        let prefix = self.prefix_of(view);
        write(question, Stored::fresh(answer), prefix, &self.cookies, &mut self.message).map(<[u8]>::to_vec)
    }

    /// These wait no longer.
    fn release(&mut self, waiters: &[Waiter]) {
        for waiter in waiters {
            let (client, network) = keys_of(&self.policy, waiter);
            less(&mut self.clients, client);
            less(&mut self.networks, network);
        }
        self.waiting = self.waiting.saturating_sub(waiters.len());
    }
}

/// Client and network of one who waits.
fn keys_of(policy: &Policy, waiter: &Waiter) -> (u128, u128) {
    let client = waiter.back.client();
    (client_key(client, policy.config().limits.client_bits), client_key(client, NETWORK_BITS))
}

/// One less under way.
fn less(map: &mut HashMap<u128, u32>, key: u128) {
    if let Some(count) = map.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            map.remove(&key);
        }
    }
}

/// Writes an answer to a question that nobody sent.
fn write<'m>(
    question: &Question,
    stored: Stored<'_>,
    prefix: Option<Prefix6>,
    cookies: &Cookies,
    message: &'m mut [u8],
) -> Option<&'m [u8]> {
    // AD is asked for (RFC 6840 5.7), so that it is not lost.
    let word = flags::RD | flags::AD | if question.checking_disabled { flags::CD } else { 0 };
    let mut asked = ArrayVec::<u8, { dns::HEADER + dns::NAME_OCTETS + 4 }>::new();
    asked.extend([0, 0]);
    asked.extend(word.to_be_bytes());
    asked.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    asked.extend(question.name.iter().copied());
    asked.extend(question.qtype.to_be_bytes());
    asked.extend(CLASS_IN.to_be_bytes());
    let query = dns::parse_query(&asked).ok()?;
    let how = Reply {
        transport: Transport::Tcp,
        udp_octets: dns::PLAIN_OCTETS,
        stale_ttl: 0,
        cookies,
        now_secs: 0,
    };
    let octets = respond(&query, Ipv6Addr::UNSPECIFIED.into(), stored, prefix, message, &how);
    message.get(..octets).filter(|m| !m.is_empty())
}

/// What a message from the cache says.
fn fetched(question: &Question, octets: &[u8]) -> Result<Fetched, FetchError> {
    let message = Message::from_vec(octets).map_err(|_| FetchError::Unusable)?;
    match message.metadata.response_code.low() {
        NOERROR | NXDOMAIN => Ok(Fetched { question: question.clone(), message, age: 0 }),
        failure => Err(FetchError::Failed(failure)),
    }
}
