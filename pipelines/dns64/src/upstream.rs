//! Asking upstream resolvers: whom, from which port, how often, and what counts as their answer.
//!
//! ```text
//!  fetch --> pick an upstream --> UDP: random port, ID, case --> answer --> scrub --> Done
//!                ^                  |          |                   |
//!                |                  |          +- TC, guessing ----+--> TCP, the same upstream
//!                |                  |          +- FORMERR, case lost -> UDP once more, without EDNS or without case
//!                +-- other upstream +- time is over (its port stays open: an answer may still come)
//!                                   +- SERVFAIL, REFUSED, an answer that cannot be used
//! ```
//! No clock and no socket: what is to be sent goes out as [`Action`]s, and what comes in is handed in. A port is one
//! question's, and open only while that question is; RFC 5452 9 says what an answer has to match. Identical questions
//! share one fetch, so that nobody can have many open at once for one name (RFC 5452 5).
//!
//! What is not handled: cookies towards upstreams (RFC 7873), and more than one question over one TCP connection.

mod decode;
mod peer;
mod query;
mod scrub;

use crate::answer::{FetchError, Fetched};
use crate::config::{self, Config};
use crate::question::{Question, WireName};
use crate::status::{UpstreamStatus, UpstreamsStatus};
use causeway_core::{Counter, DropReason, Duration, Instant};
use peer::{Do, Event, Health, Peer};
use query::{Head, Mismatch, Query};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Wrong answers to one port after which the question goes over TCP (RFC 5452 9.3).
const MOST_WRONG: u8 = 10;
/// Ports that are tried until one is found that is free.
const PORT_TRIES: usize = 64;
/// Fetches that one [`Upstreams::tick`] handles.
const MOST_PER_TICK: usize = 64;
/// How long a fetch waits for an upstream to come back when none answers, and how often it looks.
const PARK: Duration = Duration::from_secs(1);
const PARK_LOOK: Duration = Duration::from_millis(100);
/// An upstream that has been down for longer is not waited for.
const PARK_SINCE: Duration = Duration::from_secs(2);
/// The least that a question over TCP may take: two round trips, and what the upstream needs.
const TCP_LEAST: Duration = Duration::from_millis(1500);
/// One in so many fetches goes to any upstream instead of the fastest, so that times are known of all.
const EXPLORE: u32 = 32;
/// The type of probes: every resolver knows who is responsible for the root.
const TYPE_SOA: u16 = 6;

const NOERROR: u16 = 0;
const FORMERR: u16 = 1;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
/// RFC 6891 9.
const BADVERS: u16 = 16;

/// A fetch under way. A number is not used again for another one soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId {
    slot: u32,
    generation: u32,
}

/// What came of a fetch.
#[derive(Debug, Clone)]
pub struct Done {
    /// Which fetch.
    pub id: FetchId,
    /// What was asked.
    pub question: Question,
    /// The answer, or why there is none.
    pub result: Result<Fetched, FetchError>,
    /// Who answered; nothing if nobody did.
    pub upstream: Option<SocketAddr>,
    /// How long it took.
    pub took: Duration,
}

/// What the caller is to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Send a datagram.
    SendUdp {
        /// To whom.
        to: SocketAddr,
        /// From which port.
        from_port: u16,
        /// What.
        octets: Vec<u8>,
    },
    /// Open a connection, and send a message over it once it is open. What comes of it goes to
    /// [`Upstreams::on_stream`].
    OpenTcp {
        /// What it is called by.
        token: u64,
        /// To whom.
        to: SocketAddr,
        /// The message, without its length.
        octets: Vec<u8>,
    },
    /// The connection is not needed any more. Nothing about it is to be handed in from now on; if it is, it is ignored.
    CloseTcp {
        /// Which.
        token: u64,
    },
    /// A fetch is over.
    Done(Box<Done>),
    /// Something to count.
    Count(Counter, u64),
}

/// What happens to a connection that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent<'a> {
    /// A message came, without its length.
    Message(&'a [u8]),
    /// It could not be opened, or was closed by the upstream, or broke.
    Closed,
}

/// The upstream resolvers, as one worker asks them.
#[derive(Debug)]
pub struct Upstreams {
    settings: config::Upstream,
    max_ttl: u32,
    worker: u16,
    workers: u16,
    status: Arc<UpstreamsStatus>,
    random: StdRng,
    peers: Vec<Peer>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_question: HashMap<Question, u32>,
    ports: HashMap<u16, Owner>,
    streams: HashMap<u64, u32>,
    next_token: u64,
    /// When each fetch has to be looked at; each is in it exactly once.
    timers: BTreeSet<(Instant, u32)>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    fetch: Option<Box<Fetch>>,
}

/// Whose a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Fetch(u32),
    Probe(SocketAddr),
}

#[derive(Debug)]
struct Fetch {
    question: Question,
    started: Instant,
    /// When patience ends.
    ends: Instant,
    /// When it has to be looked at; as in `timers`.
    wake: Instant,
    tries: Vec<Try>,
    /// Tries that were no sequel of another.
    attempts: u8,
    /// The worst that upstreams said.
    failure: Option<(FetchError, SocketAddr)>,
    /// While it waits for an upstream to come back: until when.
    parked: Option<Instant>,
}

#[derive(Debug)]
struct Try {
    peer: SocketAddr,
    way: Way,
    query: Query,
    sent: Instant,
    deadline: Instant,
    state: TryState,
    wrong: u8,
    /// Why it was made.
    after: After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Udp { port: u16 },
    Tcp { token: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TryState {
    /// An answer is waited for.
    Waiting,
    /// Its time is over, and an answer would still be taken.
    Late,
    /// It was answered, and the upstream was asked once more in another way.
    Over,
    /// The upstream has nothing to say to this question.
    Failed,
}

/// What a try follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// Nothing, or another upstream.
    Nothing,
    /// An answer that lost the case of the name.
    LostCase,
    /// An answer that says that EDNS is not known.
    NoEdns,
    /// Flag TC, or too many wrong answers.
    Tcp,
}

fn same(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip(), a.port()) == (b.ip(), b.port())
}

impl Fetch {
    /// Tries that this upstream was asked in.
    fn tries_at(&self, peer: SocketAddr) -> usize {
        self.tries.iter().filter(|t| t.peer == peer).count()
    }

    fn has_failed(&self, peer: SocketAddr) -> bool {
        self.tries.iter().any(|t| t.peer == peer && t.state == TryState::Failed)
    }

    fn failed(&mut self, error: FetchError, peer: SocketAddr) {
        let rank = |e: FetchError| match e {
            FetchError::Busy => 0,
            FetchError::Timeout => 1,
            FetchError::Unusable => 2,
            FetchError::Failed(SERVFAIL) => 4,
            FetchError::Failed(_) => 3,
        };
        if self.failure.is_none_or(|(before, _)| rank(before) < rank(error)) {
            self.failure = Some((error, peer));
        }
    }
}

impl Upstreams {
    /// The upstreams of a configuration, for one of `workers` workers. `status` has one entry for each upstream; `seed` is
    /// random, and nobody else's: ports, IDs and the case of names come from it.
    #[must_use]
    pub fn new(
        config: &Config,
        worker: u16,
        workers: u16,
        status: Arc<UpstreamsStatus>,
        seed: [u8; 32],
    ) -> Self {
        Self {
            settings: config.upstream.clone(),
            max_ttl: config.cache.max_ttl,
            worker,
            workers: workers.max(1),
            status,
            random: StdRng::from_seed(seed),
            peers: config.upstreams.iter().copied().map(Peer::new).collect(),
            slots: Vec::new(),
            free: Vec::new(),
            by_question: HashMap::new(),
            ports: HashMap::new(),
            streams: HashMap::new(),
            next_token: 0,
            timers: BTreeSet::new(),
        }
    }

    /// Takes over another configuration. What is known of upstreams that stay is kept; questions to those that do not
    /// are still waited for.
    pub fn set_config(&mut self, config: &Config, status: Arc<UpstreamsStatus>) {
        let mut before = std::mem::take(&mut self.peers);
        let mut keep = |address: SocketAddr| {
            let at = before.iter().position(|p| p.address == address);
            at.map_or_else(|| Peer::new(address), |at| before.swap_remove(at))
        };
        self.peers = config.upstreams.iter().copied().map(&mut keep).collect();
        for (port, _) in before.into_iter().filter_map(|p| p.probe) {
            self.ports.remove(&port);
        }
        self.settings = config.upstream.clone();
        self.max_ttl = config.cache.max_ttl;
        self.status = status;
        for at in 0..self.peers.len() {
            self.show(at, Instant::ZERO);
        }
    }

    /// Fetches under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.by_question.len()
    }

    /// True if a question of ours is open at this port: what comes to it is for [`Upstreams::on_datagram`].
    #[must_use]
    pub fn is_open(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    /// Asks a question, or joins the fetch that asks it already. [`Action::Done`] tells what came of it.
    ///
    /// # Errors
    ///
    /// Too much is under way, or no upstream has answered anything for a while.
    pub fn fetch(
        &mut self,
        question: &Question,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Result<FetchId, FetchError> {
        if let Some(&slot) = self.by_question.get(question) {
            out.push(Action::Count(Counter::Dns64UpstreamMerged, 1));
            return Ok(self.id(slot));
        }
        if self.by_question.len() >= usize::from(self.settings.in_flight) {
            out.push(Action::Count(Counter::Dns64UpstreamBusy, 1));
            return Err(FetchError::Busy);
        }
        if self.hopeless(now) {
            return Err(FetchError::Timeout);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            // No more slots than `in_flight` ever was.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let ends = now + self.settings.patience;
        let fetch = Fetch {
            question: question.clone(),
            started: now,
            ends,
            wake: ends,
            tries: Vec::new(),
            attempts: 0,
            failure: None,
            parked: None,
        };
        self.slots[slot as usize].fetch = Some(Box::new(fetch));
        self.by_question.insert(question.clone(), slot);
        self.timers.insert((ends, slot));
        let id = self.id(slot);
        self.step(slot, now, out);
        Ok(id)
    }

    /// A datagram came to a port of ours.
    ///
    /// # Errors
    ///
    /// It is no answer, or none that can be used: why, which is to be counted.
    pub fn on_datagram(
        &mut self,
        from: SocketAddr,
        to_port: u16,
        octets: &[u8],
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Result<(), DropReason> {
        match self.ports.get(&to_port).copied() {
            None => Err(DropReason::Dns64UpstreamPort),
            Some(Owner::Probe(peer)) => self.on_probe_answer(peer, from, octets, now, out),
            Some(Owner::Fetch(slot)) => self.on_answer(slot, from, to_port, octets, now, out),
        }
    }

    /// Something happened to a connection.
    pub fn on_stream(&mut self, token: u64, event: StreamEvent<'_>, now: Instant, out: &mut Vec<Action>) {
        let Some(slot) = self.streams.remove(&token) else { return };
        let Some((at, _)) = self.try_of(slot, Way::Tcp { token }) else { return };
        let checked = match event {
            StreamEvent::Closed => Err(FetchError::Timeout),
            StreamEvent::Message(octets) => {
                out.push(Action::CloseTcp { token });
                let Some(fetch) = self.fetch_mut(slot) else { return };
                fetch.tries[at]
                    .query
                    .check(octets)
                    .map_err(|_| FetchError::Unusable)
                    .map(|head| (head, octets))
            }
        };
        match checked {
            Ok((head, octets)) => {
                if self.accept(slot, at, head, octets, now, out).is_err() {
                    out.push(Action::Count(Counter::Dns64UpstreamRefusedTcp, 1));
                }
            }
            Err(error) => {
                if error == FetchError::Unusable {
                    out.push(Action::Count(Counter::Dns64UpstreamRefusedTcp, 1));
                }
                self.give_up(slot, at, error);
                self.step(slot, now, out);
            }
        }
    }

    /// An ICMP error came about a datagram of ours to an upstream; false if we sent none such. Another upstream is
    /// asked at once if one answers; if not, the time runs on: errors are easily forged.
    pub fn on_unreachable(
        &mut self,
        to: SocketAddr,
        from_port: u16,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        match self.ports.get(&from_port).copied() {
            Some(Owner::Probe(peer)) if same(peer, to) => {
                if let Some(at) = self.peer_at(peer) {
                    self.health(at, Event::ProbeLost, now, out);
                }
                true
            }
            Some(Owner::Fetch(slot)) => {
                let Some((at, _)) = self.try_of(slot, Way::Udp { port: from_port }) else { return false };
                let other = self.peers.iter().any(|p| {
                    p.address != to
                        && p.health == Health::Up
                        && self.slots[slot as usize]
                            .fetch
                            .as_ref()
                            .is_some_and(|f| f.tries_at(p.address) == 0)
                });
                let Some(fetch) = self.fetch_mut(slot) else { return false };
                let one = &mut fetch.tries[at];
                if !same(one.peer, to) {
                    return false;
                }
                if one.state == TryState::Waiting {
                    let peer = one.peer;
                    if other {
                        one.state = TryState::Late;
                    }
                    if let Some(at) = self.peer_at(peer) {
                        self.health(at, Event::TimedOut, now, out);
                    }
                    self.step(slot, now, out);
                }
                true
            }
            _ => false,
        }
    }

    /// Does what is due; at most so much at once, the rest at the next call.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        for at in 0..self.peers.len() {
            if self.peers[at].health.deadline().is_some_and(|due| due <= now) {
                self.health(at, Event::Tick, now, out);
            }
        }
        for _ in 0..MOST_PER_TICK {
            let Some(&(due, slot)) = self.timers.first() else { return };
            if due > now {
                return;
            }
            self.time_out(slot, now, out);
            self.step(slot, now, out);
        }
    }

    /// When [`Upstreams::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let peers = self.peers.iter().filter_map(|p| p.health.deadline());
        peers.chain(self.timers.first().map(|(due, _)| *due)).min()
    }

    fn id(&self, slot: u32) -> FetchId {
        FetchId { slot, generation: self.slots[slot as usize].generation }
    }

    fn fetch_mut(&mut self, slot: u32) -> Option<&mut Fetch> {
        self.slots.get_mut(slot as usize)?.fetch.as_deref_mut()
    }

    fn peer_at(&self, address: SocketAddr) -> Option<usize> {
        self.peers.iter().position(|p| p.address == address)
    }

    /// The try of a fetch that was made this way, and its upstream.
    fn try_of(&self, slot: u32, way: Way) -> Option<(usize, SocketAddr)> {
        let fetch = self.slots.get(slot as usize)?.fetch.as_ref()?;
        let at = fetch.tries.iter().position(|t| t.way == way)?;
        Some((at, fetch.tries[at].peer))
    }

    /// True if every upstream has been down for so long that nothing is to be hoped for.
    fn hopeless(&self, now: Instant) -> bool {
        self.peers.iter().all(|p| p.health.down_since().is_some_and(|since| now.since(since) > PARK_SINCE))
    }

    fn status_of(&self, peer: SocketAddr) -> Option<&UpstreamStatus> {
        self.status.list.iter().find(|(address, _)| *address == peer).map(|(_, status)| status)
    }

    /// Writes down for control what is known of an upstream.
    fn show(&self, at: usize, now: Instant) {
        let peer = &self.peers[at];
        if let Some(status) = self.status_of(peer.address) {
            status.srtt_us.store(peer.rtt.mean_us(), Relaxed);
            status.down.store(peer.health.down_since().is_some(), Relaxed);
            status.loses_case.store(peer.loses_case(now), Relaxed);
        }
    }

    /// A port of this worker's that is free, at random (RFC 5452 9.2).
    fn port(&mut self) -> Option<u16> {
        let (first, last) = self.settings.ports;
        let (workers, first, last) = (u32::from(self.workers), u32::from(first), u32::from(last));
        // The first that gives our number.
        let first = first + (u32::from(self.worker) + workers - first % workers) % workers;
        let count = last.checked_sub(first)? / workers + 1;
        (0..PORT_TRIES).find_map(|_| {
            let port = u16::try_from(first + self.below(count) * workers).ok()?;
            (!self.ports.contains_key(&port)).then_some(port)
        })
    }

    /// A random number below `count`, all alike but for one in four thousand millions.
    fn below(&mut self, count: u32) -> u32 {
        let wide = u64::from(self.random.next_u32()) * u64::from(count);
        u32::try_from(wide >> 32).unwrap_or(0)
    }

    fn random_id(&mut self) -> u16 {
        let [a, b, ..] = self.random.next_u32().to_ne_bytes();
        u16::from_ne_bytes([a, b])
    }

    /// Something happened to an upstream.
    fn health(&mut self, at: usize, event: Event, now: Instant, out: &mut Vec<Action>) {
        let peer = &mut self.peers[at];
        let rto = peer.rtt.rto();
        let act;
        (peer.health, act) = peer.health.on(event, now, rto);
        if event == Event::TimedOut {
            peer.rtt.lost();
        }
        match act {
            None => {}
            Some(Do::Probe) => self.probe(at, out),
            Some(end @ (Do::WentDown | Do::EndProbe)) => {
                if let Some((port, _)) = peer.probe.take() {
                    self.ports.remove(&port);
                }
                if end == Do::WentDown {
                    out.push(Action::Count(Counter::Dns64UpstreamWentDown, 1));
                }
            }
        }
        self.show(at, now);
    }

    /// Sends a probe. Without a free port there is none, and the upstream counts as down until the next one.
    fn probe(&mut self, at: usize, out: &mut Vec<Action>) {
        let Some(port) = self.port() else { return };
        let query = probe_query(self.random_id());
        let to = self.peers[at].address;
        self.peers[at].probe = Some((port, query.id));
        self.ports.insert(port, Owner::Probe(to));
        out.push(Action::Count(Counter::Dns64UpstreamProbes, 1));
        out.push(Action::SendUdp { to, from_port: port, octets: query.octets(&root()) });
    }

    fn on_probe_answer(
        &mut self,
        peer: SocketAddr,
        from: SocketAddr,
        octets: &[u8],
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Result<(), DropReason> {
        if !same(peer, from) {
            return Err(DropReason::Dns64UpstreamSource);
        }
        let at = self.peer_at(peer).ok_or(DropReason::Dns64UpstreamPort)?;
        let (_, id) = self.peers[at].probe.ok_or(DropReason::Dns64UpstreamPort)?;
        probe_query(id).check_datagram(octets).map_err(Mismatch::reason)?;
        out.push(Action::Count(Counter::Dns64UpstreamAnswered, 1));
        self.peers[at].rtt.found();
        self.health(at, Event::Answered, now, out);
        Ok(())
    }

    fn on_answer(
        &mut self,
        slot: u32,
        from: SocketAddr,
        port: u16,
        octets: &[u8],
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Result<(), DropReason> {
        let (at, peer) = self.try_of(slot, Way::Udp { port }).ok_or(DropReason::Dns64UpstreamPort)?;
        if !same(peer, from) {
            self.wrong(slot, at, now, out);
            return Err(DropReason::Dns64UpstreamSource);
        }
        let one = &self.fetch_mut(slot).ok_or(DropReason::Dns64UpstreamPort)?.tries[at];
        let (waiting, first) = (one.state == TryState::Waiting, one.wrong == 0);
        match one.query.check_datagram(octets) {
            Ok(head) => self.accept(slot, at, head, octets, now, out),
            Err(Mismatch::Case) if waiting && first => {
                // The upstream may lose the case, or somebody guessed everything else. An answer in the right case is
                // still waited for here; what another port and ID bring to a question without case is as good as any
                // answer without case ever was.
                if let Some(fetch) = self.fetch_mut(slot) {
                    (fetch.tries[at].state, fetch.tries[at].wrong) = (TryState::Late, 1);
                }
                self.send_udp(slot, peer, After::LostCase, now, out);
                self.step(slot, now, out);
                Err(DropReason::Dns64UpstreamCase)
            }
            Err(why) => {
                self.wrong(slot, at, now, out);
                Err(why.reason())
            }
        }
    }

    /// Something that is not the answer came to a port of ours. After too many of them, the port is closed and the
    /// question goes over TCP, which cannot be guessed.
    fn wrong(&mut self, slot: u32, at: usize, now: Instant, out: &mut Vec<Action>) {
        let Some(fetch) = self.fetch_mut(slot) else { return };
        let one = &mut fetch.tries[at];
        one.wrong = one.wrong.saturating_add(1);
        if one.wrong < MOST_WRONG {
            return;
        }
        let (peer, way) = (one.peer, one.way);
        let waiting = one.state == TryState::Waiting;
        one.state = TryState::Over;
        self.close(way, out);
        out.push(Action::Count(Counter::Dns64UpstreamGuessed, 1));
        if waiting {
            self.send_tcp(slot, peer, now, out);
        }
        self.step(slot, now, out);
    }

    /// An upstream answered: what it says.
    fn accept(
        &mut self,
        slot: u32,
        at: usize,
        head: Head,
        octets: &[u8],
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Result<(), DropReason> {
        let max_ttl = self.max_ttl;
        let Some(fetch) = self.fetch_mut(slot) else { return Err(DropReason::Dns64UpstreamPort) };
        let question = fetch.question.clone();
        let one = &mut fetch.tries[at];
        let (peer, way, after, edns, took) = (one.peer, one.way, one.after, one.query.edns, now - one.sent);
        one.state = TryState::Over;
        self.close(way, out);
        out.push(Action::Count(Counter::Dns64UpstreamAnswered, 1));
        self.answered(peer, matches!(way, Way::Udp { .. }).then_some(took), now, out);
        if after == After::LostCase {
            self.learn(peer, Peer::lost_case, now);
        }
        if head.truncated && matches!(way, Way::Udp { .. }) {
            out.push(Action::Count(Counter::Dns64UpstreamTruncated, 1));
            self.send_tcp(slot, peer, now, out);
            self.step(slot, now, out);
            return Ok(());
        }
        let message = if head.bare { None } else { Some(decode::decode(octets)) };
        let rcode = match &message {
            Some(Ok(m)) => u16::from(m.metadata.response_code),
            _ => u16::from(head.rcode),
        };
        if after == After::NoEdns && rcode != FORMERR {
            self.learn(peer, Peer::lacked_edns, now);
        }
        if edns && matches!(rcode, FORMERR | NOTIMP | BADVERS) {
            // RFC 6891 7: once more without.
            out.push(Action::Count(Counter::Dns64UpstreamNoEdns, 1));
            self.send_udp(slot, peer, After::NoEdns, now, out);
            self.step(slot, now, out);
            return Ok(());
        }
        let why = match (rcode, message) {
            (NOERROR | NXDOMAIN, Some(Ok(message))) => match scrub::scrub(&question, message, max_ttl) {
                Ok(scrubbed) => {
                    if scrubbed.left_out > 0 {
                        out.push(Action::Count(Counter::Dns64UpstreamScrubbed, scrubbed.left_out));
                    }
                    let fetched = Fetched { question, message: scrubbed.message, age: 0 };
                    self.finish(slot, Ok(fetched), Some(peer), now, out);
                    return Ok(());
                }
                Err(why) => Some(why.reason()),
            },
            (NOERROR | NXDOMAIN, _) => Some(DropReason::Dns64UpstreamMalformed),
            (code, _) => {
                out.push(Action::Count(Counter::Dns64UpstreamFailures, 1));
                // Codes beyond four bits are about EDNS between us and the upstream.
                let code = u8::try_from(code).ok().filter(|c| *c < 16).unwrap_or(SERVFAIL);
                self.give_up(slot, at, FetchError::Failed(code));
                None
            }
        };
        if why.is_some() {
            self.give_up(slot, at, FetchError::Unusable);
        }
        self.step(slot, now, out);
        why.map_or(Ok(()), Err)
    }

    /// An upstream answered anything.
    fn answered(&mut self, peer: SocketAddr, took: Option<Duration>, now: Instant, out: &mut Vec<Action>) {
        if let Some(status) = self.status_of(peer) {
            status.answered.fetch_add(1, Relaxed);
        }
        if let Some(at) = self.peer_at(peer) {
            match took {
                Some(took) => self.peers[at].rtt.sample(took),
                None => self.peers[at].rtt.found(),
            }
            self.health(at, Event::Answered, now, out);
        }
    }

    fn learn(&mut self, peer: SocketAddr, what: fn(&mut Peer, Instant), now: Instant) {
        if let Some(at) = self.peer_at(peer) {
            what(&mut self.peers[at], now);
            self.show(at, now);
        }
    }

    /// An upstream has nothing to say to a question.
    fn give_up(&mut self, slot: u32, at: usize, error: FetchError) {
        if let Some(fetch) = self.fetch_mut(slot) {
            let peer = fetch.tries[at].peer;
            fetch.tries[at].state = TryState::Failed;
            fetch.failed(error, peer);
        }
    }

    fn close(&mut self, way: Way, out: &mut Vec<Action>) {
        match way {
            Way::Udp { port } => {
                self.ports.remove(&port);
            }
            Way::Tcp { token } => {
                if self.streams.remove(&token).is_some() {
                    out.push(Action::CloseTcp { token });
                }
            }
        }
    }

    /// The time of a fetch has come: which of its tries are over.
    fn time_out(&mut self, slot: u32, now: Instant, out: &mut Vec<Action>) {
        let Some(fetch) = self.fetch_mut(slot) else { return };
        let mut over: Vec<(SocketAddr, Way)> = Vec::new();
        for one in &mut fetch.tries {
            if one.state == TryState::Waiting && one.deadline <= now {
                one.state = match one.way {
                    Way::Udp { .. } => TryState::Late,
                    // TCP has repeated itself already.
                    Way::Tcp { .. } => TryState::Failed,
                };
                over.push((one.peer, one.way));
            }
        }
        for (peer, way) in over {
            if matches!(way, Way::Tcp { .. }) {
                self.close(way, out);
            }
            out.push(Action::Count(Counter::Dns64UpstreamTimeouts, 1));
            if let Some(status) = self.status_of(peer) {
                status.timeouts.fetch_add(1, Relaxed);
            }
            if let Some(at) = self.peer_at(peer) {
                self.health(at, Event::TimedOut, now, out);
            }
        }
    }

    /// What a fetch does next: wait, ask, or end.
    fn step(&mut self, slot: u32, now: Instant, out: &mut Vec<Action>) {
        let tries = self.settings.tries;
        let Some(fetch) = self.fetch_mut(slot) else { return };
        let waiting = fetch.tries.iter().filter(|t| t.state == TryState::Waiting).map(|t| t.deadline).min();
        let late = fetch.tries.iter().any(|t| t.state == TryState::Late);
        let (ends, failure, attempts) = (fetch.ends, fetch.failure, fetch.attempts);
        let fail = |this: &mut Self, out: &mut Vec<Action>| {
            let (error, peer) = failure.map_or((FetchError::Timeout, None), |(e, peer)| (e, Some(peer)));
            // Nobody answers: who closes a connection has not answered.
            let peer = peer.filter(|_| error != FetchError::Timeout);
            this.finish(slot, Err(error), peer, now, out);
        };
        if now >= ends {
            return fail(self, out);
        }
        if let Some(deadline) = waiting {
            return self.wake(slot, deadline.min(ends));
        }
        if attempts >= tries {
            return if late { self.wake(slot, ends) } else { fail(self, out) };
        }
        if let Some(peer) = self.choose(slot) {
            if let Some(fetch) = self.fetch_mut(slot) {
                (fetch.attempts, fetch.parked) = (attempts + 1, None);
            }
            if !self.send_udp(slot, peer, After::Nothing, now, out) {
                out.push(Action::Count(Counter::Dns64UpstreamBusy, 1));
                self.finish(slot, Err(FetchError::Busy), None, now, out);
                return;
            }
            let Some(fetch) = self.fetch_mut(slot) else { return };
            let deadline = fetch.tries.last().map_or(ends, |t| t.deadline);
            return self.wake(slot, deadline.min(ends));
        }
        // Nobody is left to ask. What somebody said counts; and an upstream that went down just now may come back.
        let Some(fetch) = self.slots.get(slot as usize).and_then(|s| s.fetch.as_ref()) else { return };
        let all_failed = self.peers.iter().all(|p| fetch.has_failed(p.address));
        if failure.is_some() || all_failed || self.hopeless(now) {
            return fail(self, out);
        }
        let Some(fetch) = self.fetch_mut(slot) else { return };
        let until = *fetch.parked.get_or_insert(ends.min(now + PARK));
        if now >= until {
            return fail(self, out);
        }
        self.wake(slot, until.min(now + PARK_LOOK));
    }

    fn wake(&mut self, slot: u32, at: Instant) {
        let Some(fetch) = self.fetch_mut(slot) else { return };
        let before = std::mem::replace(&mut fetch.wake, at);
        self.timers.remove(&(before, slot));
        self.timers.insert((at, slot));
    }

    /// The upstream to ask next: of those that are not down and have not failed this question, one that was not asked
    /// yet, that is not suspected, that is fast; in this order. Now and then any, at the first try.
    fn choose(&mut self, slot: u32) -> Option<SocketAddr> {
        let explore = self.below(EXPLORE) == 0;
        let fetch = self.slots.get(slot as usize)?.fetch.as_ref()?;
        let rank = |p: &Peer| (fetch.tries_at(p.address), p.health != Health::Up, p.rtt.mean_us());
        let able: Vec<(usize, bool, u32, SocketAddr)> = self
            .peers
            .iter()
            .filter(|p| p.health.down_since().is_none() && !fetch.has_failed(p.address))
            .map(|p| {
                let (tries, suspect, us) = rank(p);
                (tries, suspect, us, p.address)
            })
            .collect();
        let healthy: Vec<SocketAddr> = able.iter().filter(|a| !a.1).map(|a| a.3).collect();
        if explore && fetch.tries.is_empty() && !healthy.is_empty() {
            let at = self.below(u32::try_from(healthy.len()).unwrap_or(1)) as usize;
            return healthy.get(at).copied();
        }
        able.into_iter().min_by_key(|(tries, suspect, us, _)| (*tries, *suspect, *us)).map(|a| a.3)
    }

    /// Asks an upstream over UDP; false if there is no free port.
    fn send_udp(
        &mut self,
        slot: u32,
        peer: SocketAddr,
        after: After,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(port) = self.port() else { return false };
        let known = self.peer_at(peer).map(|at| &self.peers[at]);
        let rto = known.map_or(TCP_LEAST, |p| p.rtt.rto());
        let plain = known.is_some_and(|p| p.loses_case(now));
        let lacks_edns = known.is_some_and(|p| p.lacks_edns(now));
        let cased = self.settings.case && !plain && after != After::LostCase;
        let id = self.random_id();
        let Some(fetch) = self.slots.get(slot as usize).and_then(|s| s.fetch.as_ref()) else { return false };
        // What an upstream was found not to do in this fetch, it is not asked to do again.
        let before = |what: After| fetch.tries.iter().any(|t| t.peer == peer && t.after == what);
        let cased = cased && !before(After::LostCase);
        let edns = !lacks_edns && after != After::NoEdns && !before(After::NoEdns);
        let name = fetch.question.name.clone();
        let name = if cased { query::mixed(&name, &mut self.random) } else { name };
        let query = Query { id, name, qtype: fetch.question.qtype, edns, cased };
        let octets = query.octets(&fetch.question);
        let deadline = (now + rto).min(fetch.ends);
        let Some(fetch) = self.fetch_mut(slot) else { return false };
        let way = Way::Udp { port };
        fetch.tries.push(Try {
            peer,
            way,
            query,
            sent: now,
            deadline,
            state: TryState::Waiting,
            wrong: 0,
            after,
        });
        self.ports.insert(port, Owner::Fetch(slot));
        self.asked(peer);
        out.push(Action::Count(Counter::Dns64UpstreamAsked, 1));
        out.push(Action::SendUdp { to: peer, from_port: port, octets });
        true
    }

    /// Asks an upstream over TCP.
    fn send_tcp(&mut self, slot: u32, peer: SocketAddr, now: Instant, out: &mut Vec<Action>) {
        let known = self.peer_at(peer).map(|at| &self.peers[at]);
        let patience = known.map_or(TCP_LEAST, |p| (p.rtt.rto() * 2).max(TCP_LEAST));
        let edns = known.is_none_or(|p| !p.lacks_edns(now));
        let token = self.next_token;
        let id = self.random_id();
        let Some(fetch) = self.fetch_mut(slot) else { return };
        let edns = edns && !fetch.tries.iter().any(|t| t.peer == peer && t.after == After::NoEdns);
        let (name, qtype) = (fetch.question.name.clone(), fetch.question.qtype);
        let query = Query { id, name, qtype, edns, cased: false };
        let octets = query.octets(&fetch.question);
        fetch.tries.push(Try {
            peer,
            way: Way::Tcp { token },
            query,
            sent: now,
            deadline: (now + patience).min(fetch.ends),
            state: TryState::Waiting,
            wrong: 0,
            after: After::Tcp,
        });
        self.next_token += 1;
        self.streams.insert(token, slot);
        self.asked(peer);
        out.push(Action::Count(Counter::Dns64UpstreamAskedTcp, 1));
        out.push(Action::OpenTcp { token, to: peer, octets });
    }

    fn asked(&self, peer: SocketAddr) {
        if let Some(status) = self.status_of(peer) {
            status.asked.fetch_add(1, Relaxed);
        }
    }

    /// A fetch is over: its ports and connections are closed.
    fn finish(
        &mut self,
        slot: u32,
        result: Result<Fetched, FetchError>,
        upstream: Option<SocketAddr>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let id = self.id(slot);
        let Some(fetch) = self.slots.get_mut(slot as usize).and_then(|s| s.fetch.take()) else { return };
        let Fetch { question, started, wake, tries, .. } = *fetch;
        for one in tries {
            self.close(one.way, out);
        }
        self.timers.remove(&(wake, slot));
        self.by_question.remove(&question);
        let entry = &mut self.slots[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
        let took = now - started;
        out.push(Action::Done(Box::new(Done { id, question, result, upstream, took })));
    }
}

/// The question that probes ask.
fn root() -> Question {
    let name: WireName = [0].into_iter().collect();
    Question { name, qtype: TYPE_SOA, dnssec_ok: false, checking_disabled: false }
}

fn probe_query(id: u16) -> Query {
    Query { id, name: root().name, qtype: TYPE_SOA, edns: false, cased: false }
}

#[cfg(test)]
mod tests;
