//! DNS64 at a worker: packets in, packets out.
//!
//! ```text
//!  datagram to port 53 --> limits --> cache --hit--> answer over the question, in its own frame
//!                                       |
//!                                      miss --> the worker that the question belongs to --> engine
//!  datagram to a port of ours --------------------------------------------------------------> engine
//!  segment to port 53, or to a port of ours --> streams --> the same, message by message
//! ```

use crate::cache::{Cache, Found, Scratch};
use crate::config::{Config, PORT};
use crate::cookie::Cookies;
use crate::engine::{Back, Engine, Ready, Turn, Waiter, What, Work, client_key};
use crate::explain::{Explained, Lookup};
use crate::policy::{Asked, Decision, Policy};
use crate::question::{Question, TYPE_AAAA, Variant, WireName, key};
use crate::respond::{self, Reply, Stored, Transport};
use crate::status::{Sample, UpstreamsStatus};
use crate::tcp::{self, Conn, Event, Side, Streams};
use crate::upstream::{Action, StreamEvent, Upstreams};
use causeway_core::udp::{self, BadDatagram};
use causeway_core::{
    Counter, Counters, Ctx, DropReason, Egress, Frame, FrameSource, Instant, Packet, TokenBucket, Verdict,
    Via,
};
use causeway_wire::l4::{DST_PORT, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, SRC_PORT, icmp};
use causeway_wire::{be16, checksum, dns, ethernet, ipv4, ipv6, l4};
use crossbeam::queue::ArrayQueue;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Octets of the longest question that is looked at: a name of 255 and an OPT record with room for options.
const QUERY_OCTETS: usize = 1232;
/// Token buckets of clients: clients that share one by chance share its tokens.
const BUCKETS: usize = 4096;
/// In [`causeway_core::burst::Meta::note`]: another worker has let the question pass its limits.
const HANDED: u32 = 0x646e_7336;
/// Connections looked after in one poll, at most.
const STREAMS_PER_POLL: usize = 16;
/// Octets of the largest answer over TCP.
const TCP_OCTETS: usize = 65_535;
/// Ports that a connection is tried from.
const PORT_TRIES: usize = 8;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// This.
    Verdict(Verdict),
    /// It belongs to this worker.
    Owner(u16),
}

/// What DNS64 is lent by the worker, besides the context.
#[derive(Debug, Clone, Copy)]
pub struct Rings<'a> {
    /// Lookups that control asks for.
    pub lookups: &'a ArrayQueue<Box<Lookup>>,
    /// What came of them.
    pub explained: &'a ArrayQueue<Box<Explained>>,
    /// Samples of questions for control.
    pub samples: &'a ArrayQueue<Sample>,
}

/// What a packet is to DNS64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Concern {
    Question,
    Answer(u16),
    /// A segment of a connection of a client's.
    Client,
    /// A segment of a connection of ours, from this port.
    Upstream(u16),
    /// An ICMP error about a datagram or segment of ours, which went from the first to the second.
    Error {
        udp: bool,
        from: SocketAddr,
        to: SocketAddr,
    },
}

/// DNS64 at a worker.
#[derive(Debug)]
pub struct Stage {
    policy: Arc<Policy>,
    cache: Arc<Cache>,
    cookies: Cookies,
    engine: Engine,
    streams: Streams,
    /// Connections to upstreams, by what they were opened for.
    tokens: HashMap<Conn, u64>,
    conns: HashMap<u64, Conn>,
    clients: Box<[TokenBucket]>,
    hasher: RandomState,
    query: Box<[u8; QUERY_OCTETS]>,
    scratch: Box<Scratch>,
    /// Room for a message over TCP.
    message: Box<[u8]>,
    work: Work,
    out: tcp::Output,
    next_port: u16,
    until_sample: u32,
}

/// What a client's message led to.
#[derive(Debug)]
enum Heard {
    /// An answer of so many octets.
    Written { octets: usize, told: Told, refresh: Option<(Question, Variant)> },
    /// Something has to be found out.
    Missed(Question, Decision),
    /// Nothing.
    Refused(DropReason),
}

/// What is counted and sampled of an answer.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    cached: bool,
    stale: bool,
    synthesised: bool,
}

/// What it takes to hear a client, apart from what it said.
struct Front<'a> {
    policy: &'a Policy,
    cache: &'a Cache,
    scratch: &'a mut Scratch,
    how: Reply<'a>,
    now: Instant,
}

impl Front<'_> {
    /// Answers a message into `out`, or says what has to be found out.
    fn hear(&mut self, octets: &[u8], client: IpAddr, view: u16, out: &mut [u8]) -> Heard {
        let written = |octets, told| match octets {
            0 => Heard::Refused(DropReason::Dns64Unanswerable),
            octets => Heard::Written { octets, told, refresh: None },
        };
        let query = match dns::parse_query(octets) {
            Ok(query) => query,
            Err(why) => {
                return written(respond::reject(octets, why, client, out, &self.how), Told::default());
            }
        };
        let mut name = [0; dns::NAME_OCTETS];
        let octets = dns::lower_name(query.name, &mut name);
        let name = name.get(..octets).unwrap_or_default();
        let (dnssec_ok, checking_disabled) = (query.dnssec_ok(), query.checking_disabled());
        let asked = Asked {
            name,
            qtype: query.qtype,
            qclass: query.qclass,
            recursion_desired: query.flags & dns::flags::RD != 0,
            checking_disabled,
        };
        let question = || Question {
            name: name.iter().copied().collect(),
            qtype: query.qtype,
            dnssec_ok,
            checking_disabled,
        };
        let decision = self.policy.decide(view, &asked);
        let variant = match decision {
            Decision::Refuse(rcode) => {
                let octets = respond::refuse(&query, client, u16::from(rcode), None, out, &self.how);
                return written(octets, Told::default());
            }
            Decision::Lookup(variant) if self.policy.reads_cache(view, variant) => variant,
            _ => return Heard::Missed(question(), decision),
        };
        let key = key(name, query.qtype, dnssec_ok, checking_disabled, variant);
        let hash = self.cache.hash(&key);
        let entry = match self.cache.get(hash, &key, self.now.as_secs(), self.scratch) {
            Found::Fresh(entry) => entry,
            Found::Stale(entry) if entry.recheck_later => entry,
            _ => return Heard::Missed(question(), decision),
        };
        let stored = entry.stored;
        let told = Told { cached: true, stale: stored.is_stale(), synthesised: stored.is_synthesised() };
        let prefix = self.policy.view(view).and_then(|v| v.prefix);
        match respond::respond(&query, client, stored, prefix, out, &self.how) {
            0 => Heard::Refused(DropReason::Dns64Unanswerable),
            octets => {
                let refresh = entry.prefetch.then(|| (question(), variant));
                Heard::Written { octets, told, refresh }
            }
        }
    }
}

/// Borrows what [`Front`] is made of, and leaves the rest of the stage free.
macro_rules! front {
    ($stage:expr, $transport:expr, $octets:expr, $now:expr) => {
        Front {
            policy: &$stage.policy,
            cache: &$stage.cache,
            scratch: &mut $stage.scratch,
            how: reply(&$stage.policy, &$stage.cookies, $transport, $octets, $now),
            now: $now,
        }
    };
}

/// As [`Front`], for the engine.
macro_rules! turn {
    ($stage:expr, $ctx:expr) => {
        Turn { now: $ctx.now, counters: $ctx.counters, work: &mut $stage.work }
    };
}

fn reply<'a>(
    policy: &Policy,
    cookies: &'a Cookies,
    transport: Transport,
    udp_octets: u16,
    now: Instant,
) -> Reply<'a> {
    let config = policy.config();
    let stale_ttl = config.cache.stale.as_ref().map_or(0, |s| s.ttl);
    Reply {
        transport,
        udp_octets: config.udp_octets.min(udp_octets),
        stale_ttl,
        cookies,
        now_secs: now.as_secs(),
    }
}

impl Stage {
    /// DNS64 at worker `worker` of `workers`. `seed` has to be unforeseeable and no other worker's; `cookies` is the
    /// secret of all workers (RFC 9018 3).
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        cache: Arc<Cache>,
        status: Arc<UpstreamsStatus>,
        (worker, workers): (u16, u16),
        seed: [u8; 32],
        cookies: [u8; 16],
    ) -> Self {
        let mut other = seed;
        other.iter_mut().for_each(|octet| *octet = !*octet);
        let upstreams = Upstreams::new(&config, worker, workers, status, seed);
        let streams = Streams::new(&config.tcp, config.limits.client_bits, other);
        let until_sample = config.sample_every;
        let clients = buckets(&config);
        let policy = Arc::new(Policy::new(config));
        Self {
            engine: Engine::new(Arc::clone(&policy), Arc::clone(&cache), upstreams),
            policy,
            cache,
            cookies: Cookies::new(cookies),
            streams,
            tokens: HashMap::new(),
            conns: HashMap::new(),
            clients,
            hasher: RandomState::new(),
            query: Box::new([0; QUERY_OCTETS]),
            scratch: Box::default(),
            message: vec![0; TCP_OCTETS].into_boxed_slice(),
            work: Work::default(),
            out: tcp::Output::default(),
            next_port: u16::from_le_bytes([seed[0], seed[1]]),
            until_sample,
        }
    }

    /// Takes over other settings. Questions under way end by the old ones.
    pub fn set_config(&mut self, config: Arc<Config>, status: Arc<UpstreamsStatus>) {
        if config.limits.rate != self.policy.config().limits.rate {
            self.clients = buckets(&config);
        }
        self.streams.set_config(&config.tcp, config.limits.client_bits);
        let before = &self.policy.config().listen;
        // Addresses that are no longer asked at; upstreams' connections go on from wherever they are.
        let gone = |a: IpAddr| before.iter().any(|b| IpAddr::V6(*b) == a && !config.listen.contains(b));
        self.streams.retain(|a| !gone(a), &mut self.out);
        self.until_sample = config.sample_every;
        let policy = Arc::new(Policy::new(config));
        self.engine.set_policy(Arc::clone(&policy), status);
        self.policy = policy;
    }

    /// Where the answer to the question in a packet may be kept, if it is one: for [`Stage::prefetch`]. Quick and rough;
    /// nothing is checked, and a wrong guess costs nothing but time.
    #[inline]
    #[must_use]
    pub fn foresee<F: Frame>(&self, packet: &Packet<F>) -> Option<u64> {
        if self.concern(packet) != Some(Concern::Question) {
            return None;
        }
        let message = packet.bytes().get(usize::from(packet.meta.l4) + l4::udp::HEADER..)?;
        let (head, rest) = message.split_first_chunk::<{ dns::HEADER }>()?;
        let end = rest.iter().take(dns::NAME_OCTETS).position(|octet| *octet == 0)? + 1;
        let mut name = [0; dns::NAME_OCTETS];
        let octets = dns::lower_name(rest.get(..end)?, &mut name);
        let qtype = be16(rest.get(end..end + 2)?, 0);
        // An OPT record right behind the question: its flags follow the root's octet, type and size.
        let dnssec_ok = head[11] != 0 && rest.get(end + 11).is_some_and(|octet| octet & 0x80 != 0);
        let checking_disabled = u16::from_be_bytes([head[2], head[3]]) & dns::flags::CD != 0;
        let variant = if qtype == TYPE_AAAA { Variant::Synthesised } else { Variant::Native };
        let key = key(name.get(..octets)?, qtype, dnssec_ok, checking_disabled, variant);
        Some(self.cache.hash(&key))
    }

    /// Brings what is kept there close: first where it is found, then it. All of a burst are to be asked for before any
    /// is asked for the second time.
    #[inline]
    pub fn prefetch(&self, foreseen: u64, answer: bool) {
        if answer {
            self.cache.prefetch_answer(foreseen);
        } else {
            self.cache.prefetch(foreseen);
        }
    }

    /// Handles a packet to an address of ours; nothing if it is none of DNS.
    pub fn receive<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &mut Packet<S::Frame>,
        rings: &Rings<'_>,
    ) -> Option<Outcome> {
        let concern = self.concern(packet)?;
        let port = match concern {
            Concern::Answer(port) | Concern::Upstream(port) => Some(port),
            Concern::Error { from, .. } => Some(from.port()),
            Concern::Question | Concern::Client => None,
        };
        if let Some(port) = port {
            let owner = port % ctx.workers.max(1);
            if owner != ctx.worker {
                return Some(Outcome::Owner(owner));
            }
        }
        let outcome = match concern {
            Concern::Question => match self.question(ctx, packet, rings) {
                Ok(outcome) => outcome,
                Err(why) => Outcome::Verdict(Verdict::Drop(why)),
            },
            // Like any port that nobody listens at.
            Concern::Answer(port) if !self.engine.is_open(port) => return None,
            Concern::Error { udp: true, from, to } => {
                if !self.engine.on_unreachable(to, from.port(), &mut turn!(self, ctx)) {
                    return None;
                }
                Outcome::Verdict(Verdict::Consume)
            }
            Concern::Error { udp: false, from, to } => {
                self.streams.on_unreachable(from, to, ctx.now, &mut self.out);
                Outcome::Verdict(Verdict::Consume)
            }
            Concern::Answer(_) => Outcome::Verdict(self.answer(ctx, packet)),
            Concern::Client | Concern::Upstream(_) => {
                Outcome::Verdict(self.segment(ctx, packet, concern == Concern::Client))
            }
        };
        self.flush(ctx, rings);
        Some(outcome)
    }

    /// True if a packet to an address of ours is one of DNS.
    #[must_use]
    pub fn is_concerned<F: Frame>(&self, packet: &Packet<F>) -> bool {
        self.concern(packet).is_some()
    }

    /// Does what is due, and what control asks for.
    pub fn tick<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, rings: &Rings<'_>) {
        let mut any = false;
        while let Some(lookup) = rings.lookups.pop() {
            self.engine.look_up(*lookup, &mut turn!(self, ctx));
            any = true;
        }
        if self.engine.next_deadline().is_some_and(|at| at <= ctx.now) {
            self.engine.tick(&mut turn!(self, ctx));
            any = true;
        }
        if self.streams.next_deadline().is_some_and(|at| at <= ctx.now) {
            self.streams.poll(STREAMS_PER_POLL, ctx.now, &mut self.out);
            any = true;
        }
        if any {
            self.flush(ctx, rings);
        }
    }

    fn concern<F: Frame>(&self, packet: &Packet<F>) -> Option<Concern> {
        let meta = &packet.meta;
        let (udp, l4) = (meta.protocol == PROTO_UDP, usize::from(meta.l4));
        let bytes = packet.bytes();
        if meta.fragment || !(udp || meta.protocol == PROTO_TCP) {
            let about = if meta.fragment { None } else { unreachable(bytes, meta.protocol, l4) };
            let (first, last) = self.policy.config().upstream.ports;
            return about
                .filter(|(_, from, _)| (first..=last).contains(&from.port()))
                .map(|(udp, from, to)| Concern::Error { udp, from, to });
        }
        let port = be16(bytes.get(l4 + DST_PORT..l4 + DST_PORT + 2)?, 0);
        let config = self.policy.config();
        if port == PORT {
            let six = meta.ethertype == ethernet::ETHERTYPE_IPV6 && bytes.len() >= ipv6::HEADER;
            let here = six && config.listen.contains(&ipv6::addr(bytes, ipv6::DST));
            return here.then_some(if udp { Concern::Question } else { Concern::Client });
        }
        let (first, last) = config.upstream.ports;
        let ours = (first..=last).contains(&port);
        ours.then_some(if udp { Concern::Answer(port) } else { Concern::Upstream(port) })
    }

    fn take_of(&mut self, client: IpAddr, now: Instant) -> bool {
        let client = client_key(client, self.policy.config().limits.client_bits);
        let at = usize::try_from(self.hasher.hash_one(client) % BUCKETS as u64).unwrap_or(0);
        self.clients[at].take(now)
    }

    /// A question in a datagram. A hit is answered in its own frame.
    fn question<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &mut Packet<S::Frame>,
        rings: &Rings<'_>,
    ) -> Result<Outcome, DropReason> {
        let datagram = udp::parse(packet).map_err(bad)?;
        let (client, ours) = (datagram.src, datagram.dst);
        let IpAddr::V6(address) = client.ip() else { return Err(DropReason::Dns64NotClient) };
        let view = self.policy.view_of(address).ok_or(DropReason::Dns64NotClient)?;
        let octets = datagram.payload.len();
        let room = self.query.get_mut(..octets).ok_or(DropReason::Dns64TooLong)?;
        room.copy_from_slice(datagram.payload);
        let handed = packet.meta.note == HANDED;
        if !handed && !self.take_of(client.ip(), ctx.now) {
            return Err(DropReason::Dns64ClientLimited);
        }
        let interface = ctx.interfaces.get(packet.meta.ingress).ok_or(DropReason::LocalNoService)?;
        let headers = udp::headers(client.ip());
        let most = interface.mtu.saturating_sub(u16::try_from(headers).unwrap_or(0));
        let link = interface.link();
        // Extension headers go.
        let before = usize::from(packet.meta.l4) + l4::udp::HEADER;
        let frame = &mut packet.frame;
        if before > headers {
            frame.pull_front(before - headers).map_err(|_| DropReason::LocalMalformed)?;
            packet.meta.l4 = u16::try_from(ipv6::HEADER).unwrap_or(0);
        }
        let whole = headers + usize::from(most.min(self.policy.config().udp_octets));
        let there = frame.octets();
        if there < whole {
            frame.push_back(whole - there).map_err(|_| DropReason::NoHeadroom)?;
        }
        let out = frame.bytes_mut().get_mut(headers..).ok_or(DropReason::NoHeadroom)?;
        let query = &self.query[..octets];
        let heard = front!(self, Transport::Udp, most, ctx.now).hear(query, client.ip(), view, out);
        if !handed {
            ctx.counters.add(Counter::Dns64Queries, 1);
        }
        match heard {
            Heard::Refused(why) => Err(why),
            Heard::Written { octets: written, told, refresh } => {
                packet.frame.truncate(headers + written);
                let word = packet.bytes().get(headers + 2..headers + 4).map_or(0, |w| be16(w, 0));
                count(ctx.counters, word, told);
                self.sample(rings, (client.ip(), octets), word, told, 0);
                if !udp::emit(packet.bytes_mut(), ours, client) {
                    return Err(DropReason::LocalMalformed);
                }
                packet.meta.protocol = PROTO_UDP;
                let egress = Egress::new(packet.meta.ingress, Via::Mac(packet.meta.src_mac));
                if let Some((question, variant)) = refresh {
                    self.engine.refresh(question, variant, view, &mut turn!(self, ctx));
                }
                Ok(Outcome::Verdict(Verdict::Forward { egress }))
            }
            Heard::Missed(question, decision) => {
                let owner = self.owner(&question, ctx.workers);
                let whole = before == headers;
                if owner != ctx.worker && whole && !handed && matches!(decision, Decision::Lookup(_)) {
                    // As it came: the other worker reads it once more.
                    packet.frame.truncate(there);
                    packet.meta.note = HANDED;
                    return Ok(Outcome::Owner(owner));
                }
                ctx.counters.add(Counter::Dns64CacheMisses, 1);
                let back = Back::Udp { from: ours, to: client, link, mac: packet.meta.src_mac };
                let octets = self.query[..octets].into();
                let waiter = Waiter { back, view, octets, asked: ctx.now };
                self.engine.ask(waiter, question, decision, &mut turn!(self, ctx))?;
                Ok(Outcome::Verdict(Verdict::Consume))
            }
        }
    }

    /// The worker that finds out what the answer to a question is.
    fn owner(&self, question: &Question, workers: u16) -> u16 {
        let hash = self.cache.hash(&question.key(Variant::Native));
        u16::try_from((hash >> 32) % u64::from(workers.max(1))).unwrap_or(0)
    }

    /// An answer of an upstream, in a datagram.
    fn answer<S: FrameSource>(&mut self, ctx: &Ctx<'_, S>, packet: &Packet<S::Frame>) -> Verdict {
        let taken = udp::parse(packet).map_err(bad).and_then(|d| {
            // RFC 5452 9.1: to the address that was asked from, too.
            if way(ctx, d.src.ip()).is_none_or(|(_, ours)| ours != d.dst.ip()) {
                return Err(DropReason::Dns64UpstreamSource);
            }
            self.engine.on_datagram(d.src, d.dst.port(), d.payload, &mut turn!(self, ctx))
        });
        match taken {
            Ok(()) => Verdict::Consume,
            Err(why) => Verdict::Drop(why),
        }
    }

    /// A TCP segment.
    fn segment<S: FrameSource>(
        &mut self,
        ctx: &Ctx<'_, S>,
        packet: &Packet<S::Frame>,
        client: bool,
    ) -> Verdict {
        let bytes = packet.bytes();
        if client {
            let known =
                bytes.len() >= ipv6::HEADER && self.policy.view_of(ipv6::addr(bytes, ipv6::SRC)).is_some();
            if !known {
                return Verdict::Drop(DropReason::Dns64NotClient);
            }
        }
        // Where the packet came from is the way back.
        let egress = Egress::new(packet.meta.ingress, Via::Mac(packet.meta.src_mac));
        match self.streams.receive(bytes, client, egress, ctx.now, &mut self.out) {
            Ok(()) => Verdict::Consume,
            Err(why) => Verdict::Drop(why),
        }
    }

    /// Sees to all that has come of what was done, until nothing is left.
    fn flush<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, rings: &Rings<'_>) {
        loop {
            for ready in std::mem::take(&mut self.work.ready) {
                self.deliver(ctx, rings, &ready);
            }
            for action in std::mem::take(&mut self.work.actions) {
                self.act(ctx, action);
            }
            for explained in self.work.explained.drain(..) {
                // Whoever asked has given up long ago if there is no room.
                drop(rings.explained.push(Box::new(explained)));
            }
            self.out.count(ctx.counters);
            for (egress, octets) in self.out.packets.drain(..) {
                send(ctx, egress, PROTO_TCP, octets.len(), |b| {
                    b.copy_from_slice(&octets);
                    true
                });
            }
            for event in std::mem::take(&mut self.out.events) {
                self.stream_event(ctx, rings, event);
            }
            if self.work.is_empty() && self.out.packets.is_empty() && self.out.events.is_empty() {
                return;
            }
        }
    }

    /// Gives an answer to all who wait for it.
    fn deliver<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, rings: &Rings<'_>, ready: &Ready) {
        for waiter in &ready.waiters {
            // What waits was parsed before.
            let Ok(query) = dns::parse_query(&waiter.octets) else {
                self.unanswered(ctx, waiter);
                continue;
            };
            let prefix = self.policy.view(waiter.view).and_then(|v| v.prefix);
            let transport = match waiter.back {
                Back::Udp { .. } => Transport::Udp,
                Back::Tcp(..) => Transport::Tcp,
            };
            let most = match waiter.back {
                Back::Udp { link, to, .. } => {
                    let found = ctx.interfaces.iter().find(|(_, i)| i.link() == link);
                    let headers = u16::try_from(udp::headers(to.ip())).unwrap_or(0);
                    found.map_or(0, |(_, i)| i.mtu.saturating_sub(headers))
                }
                Back::Tcp(..) => u16::MAX,
            };
            let how = reply(&self.policy, &self.cookies, transport, most, ctx.now);
            let client = waiter.back.client();
            let mut told = Told::default();
            let octets = match &ready.what {
                What::Made(answer) => {
                    let stored = Stored::fresh(answer);
                    told.synthesised = stored.is_synthesised();
                    respond::respond(&query, client, stored, prefix, &mut self.message, &how)
                }
                What::Expired(expired) => {
                    let (question, variant) = &**expired;
                    let key = question.key(*variant);
                    let hash = self.cache.hash(&key);
                    match self.cache.get(hash, &key, ctx.now.as_secs(), &mut self.scratch) {
                        Found::Stale(entry) | Found::Fresh(entry) => {
                            told.stale = entry.stored.is_stale();
                            told.synthesised = entry.stored.is_synthesised();
                            respond::respond(&query, client, entry.stored, prefix, &mut self.message, &how)
                        }
                        Found::Miss => {
                            let code = dns::rcode::SERVFAIL;
                            respond::refuse(&query, client, code, None, &mut self.message, &how)
                        }
                    }
                }
            };
            let word = self.message.get(2..4).map_or(0, |w| be16(w, 0));
            if octets == 0 {
                self.unanswered(ctx, waiter);
                continue;
            }
            count(ctx.counters, word, told);
            let took = ctx.now.since(waiter.asked).as_micros();
            let octets_asked = waiter.octets.len().min(QUERY_OCTETS);
            self.query[..octets_asked].copy_from_slice(&waiter.octets[..octets_asked]);
            self.sample(rings, (client, octets_asked), word, told, u32::try_from(took).unwrap_or(u32::MAX));
            let message = self.message.get(..octets).unwrap_or_default();
            match waiter.back {
                Back::Udp { from, to, link, mac } => {
                    let found = ctx.interfaces.iter().find(|(_, i)| i.link() == link).map(|(id, _)| id);
                    match found {
                        Some(id) => send_datagram(ctx, Egress::new(id, Via::Mac(mac)), from, to, message),
                        None => ctx.counters.drop(DropReason::NoRoute),
                    }
                }
                Back::Tcp(conn, _) => {
                    // What became of a connection that broke is counted there.
                    self.streams.send(conn, message, ctx.now, &mut self.out).ok();
                }
            }
        }
    }

    /// One who waited gets nothing.
    fn unanswered<S: FrameSource>(&mut self, ctx: &Ctx<'_, S>, waiter: &Waiter) {
        ctx.counters.drop(DropReason::Dns64Unanswerable);
        if let Back::Tcp(conn, _) = waiter.back {
            self.streams.unanswered(conn, ctx.now, &mut self.out);
        }
    }

    /// Does what asking upstreams takes.
    fn act<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, action: Action) {
        match action {
            Action::SendUdp { to, from_port, octets } => match way(ctx, to.ip()) {
                Some((egress, from)) => {
                    send_datagram(ctx, egress, SocketAddr::new(from, from_port), to, &octets);
                }
                None => ctx.counters.drop(DropReason::NoRoute),
            },
            Action::OpenTcp { token, to, octets } => {
                if !self.open(ctx, token, to, &octets) {
                    self.engine.on_stream(token, StreamEvent::Closed, &mut turn!(self, ctx));
                }
            }
            Action::CloseTcp { token } => {
                if let Some(conn) = self.conns.remove(&token) {
                    self.tokens.remove(&conn);
                    self.streams.close(conn, ctx.now, &mut self.out);
                }
            }
            // The engine keeps these for itself.
            Action::Done(_) | Action::Count(..) => {}
        }
    }

    /// Opens a connection to an upstream, from a port of this worker, and sends a question over it.
    fn open<S: FrameSource>(&mut self, ctx: &Ctx<'_, S>, token: u64, to: SocketAddr, octets: &[u8]) -> bool {
        let Some((egress, from)) = way(ctx, to.ip()) else {
            ctx.counters.drop(DropReason::NoRoute);
            return false;
        };
        for _ in 0..PORT_TRIES {
            let local = SocketAddr::new(from, self.port(ctx.worker, ctx.workers));
            match self.streams.connect(local, to, egress, ctx.now, &mut self.out) {
                Err(tcp::ConnectError::InUse) => {}
                Err(_) => return false,
                Ok(conn) => {
                    self.tokens.insert(conn, token);
                    self.conns.insert(token, conn);
                    return self.streams.send(conn, octets, ctx.now, &mut self.out).is_ok();
                }
            }
        }
        false
    }

    /// The next port of this worker's. Connections have sequence numbers that cannot be foreseen; their ports may.
    fn port(&mut self, worker: u16, workers: u16) -> u16 {
        let (first, last) = self.policy.config().upstream.ports;
        let (workers, span) = (u32::from(workers.max(1)), u32::from(last.saturating_sub(first)) + 1);
        self.next_port = self.next_port.wrapping_add(1);
        let at = u32::from(first) + u32::from(self.next_port) % span;
        let mine = at - at % workers + u32::from(worker);
        let mine = if mine < u32::from(first) { mine + workers } else { mine };
        let mine = if mine > u32::from(last) { mine.saturating_sub(workers) } else { mine };
        u16::try_from(mine).unwrap_or(last)
    }

    fn stream_event<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, rings: &Rings<'_>, event: Event) {
        match event {
            Event::Message { conn, side: Side::Client, octets, .. } => {
                if let Some(&token) = self.tokens.get(&conn) {
                    self.engine.on_stream(token, StreamEvent::Message(&octets), &mut turn!(self, ctx));
                }
            }
            Event::Closed { conn, side: Side::Client, .. } => {
                if let Some(token) = self.tokens.remove(&conn) {
                    self.conns.remove(&token);
                    self.engine.on_stream(token, StreamEvent::Closed, &mut turn!(self, ctx));
                }
            }
            Event::Message { conn, side: Side::Server, remote, octets, .. } => {
                self.stream_question(ctx, rings, conn, remote, &octets);
            }
            Event::Connected { .. } | Event::Closed { .. } => {}
        }
    }

    /// A question over TCP.
    fn stream_question<S: FrameSource>(
        &mut self,
        ctx: &Ctx<'_, S>,
        rings: &Rings<'_>,
        conn: Conn,
        client: SocketAddr,
        octets: &[u8],
    ) {
        ctx.counters.add(Counter::Dns64Queries, 1);
        ctx.counters.add(Counter::Dns64QueriesTcp, 1);
        let view = match client.ip() {
            IpAddr::V6(address) => self.policy.view_of(address),
            IpAddr::V4(_) => None,
        };
        let result = match view {
            None => Err(DropReason::Dns64NotClient),
            Some(_) if !self.take_of(client.ip(), ctx.now) => Err(DropReason::Dns64ClientLimited),
            Some(view) => {
                let mut front = front!(self, Transport::Tcp, u16::MAX, ctx.now);
                match front.hear(octets, client.ip(), view, &mut self.message) {
                    Heard::Refused(why) => Err(why),
                    Heard::Missed(question, decision) => {
                        ctx.counters.add(Counter::Dns64CacheMisses, 1);
                        let back = Back::Tcp(conn, client);
                        let waiter = Waiter { back, view, octets: octets.into(), asked: ctx.now };
                        self.engine.ask(waiter, question, decision, &mut turn!(self, ctx))
                    }
                    Heard::Written { octets: written, told, refresh } => {
                        let word = self.message.get(2..4).map_or(0, |w| be16(w, 0));
                        count(ctx.counters, word, told);
                        let kept = octets.len().min(QUERY_OCTETS);
                        self.query[..kept].copy_from_slice(&octets[..kept]);
                        self.sample(rings, (client.ip(), kept), word, told, 0);
                        let message = self.message.get(..written).unwrap_or_default();
                        self.streams.send(conn, message, ctx.now, &mut self.out).ok();
                        if let Some((question, variant)) = refresh {
                            self.engine.refresh(question, variant, view, &mut turn!(self, ctx));
                        }
                        Ok(())
                    }
                }
            }
        };
        if let Err(why) = result {
            ctx.counters.drop(why);
            self.streams.unanswered(conn, ctx.now, &mut self.out);
        }
    }

    /// Tells control of one question in so many. The question is in `self.query`.
    #[inline]
    fn sample(
        &mut self,
        rings: &Rings<'_>,
        (client, octets): (IpAddr, usize),
        word: u16,
        told: Told,
        took_us: u32,
    ) {
        if self.until_sample == 0 {
            return;
        }
        self.until_sample -= 1;
        if self.until_sample > 0 {
            return;
        }
        self.until_sample = self.policy.config().sample_every;
        let Ok(query) = dns::parse_query(&self.query[..octets]) else { return };
        // A sample that finds no room is no loss: there are others.
        drop(rings.samples.push(Sample {
            client,
            name: query.name.iter().take(dns::NAME_OCTETS).copied().collect::<WireName>(),
            qtype: query.qtype,
            rcode: (word & dns::flags::RCODE) as u8,
            cached: told.cached,
            synthesised: told.synthesised,
            took_us,
        }));
    }
}

fn buckets(config: &Config) -> Box<[TokenBucket]> {
    let (rate, burst) = config.limits.rate;
    vec![TokenBucket::new(rate, burst); BUCKETS].into_boxed_slice()
}

const fn bad(why: BadDatagram) -> DropReason {
    match why {
        BadDatagram::Malformed => DropReason::Dns64BadUdp,
        BadDatagram::Checksum => DropReason::Dns64BadChecksum,
    }
}

/// What an ICMP error "destination unreachable" (RFC 792, RFC 4443 3.1) says of a packet: whether it was UDP or TCP, whence
/// and whither it went. Nothing if the message is another one, or bad.
fn unreachable(b: &[u8], protocol: u8, l4: usize) -> Option<(bool, SocketAddr, SocketAddr)> {
    let message = b.get(l4..)?;
    let (head, inner) = (message.first_chunk::<{ icmp::HEADER }>()?, message.get(icmp::HEADER..)?);
    let (upper, transport, from, to) = match (protocol, head[icmp::TYPE]) {
        (PROTO_ICMP, icmp::V4_DST_UNREACHABLE) => {
            if checksum::fold(checksum::sum(message, 0)) != 0xffff {
                return None;
            }
            let ip = inner.first_chunk::<{ ipv4::HEADER }>()?;
            let octets = |at: usize| Some(IpAddr::from(*ip.get(at..)?.first_chunk::<4>()?));
            let header = usize::from(ip[0] & 15) * 4;
            (ip[ipv4::PROTO], inner.get(header..)?, octets(ipv4::SRC)?, octets(ipv4::DST)?)
        }
        (PROTO_ICMPV6, icmp::V6_DST_UNREACHABLE) => {
            let octets = u32::try_from(message.len()).ok()?;
            let pseudo = checksum::pseudo6(
                ipv6::addr(b.get(..ipv6::HEADER)?, ipv6::SRC),
                ipv6::addr(b, ipv6::DST),
                PROTO_ICMPV6,
                octets,
            );
            if checksum::fold(checksum::sum(message, pseudo)) != 0xffff {
                return None;
            }
            let ip = inner.get(..ipv6::HEADER)?;
            let (from, to) = (ipv6::addr(ip, ipv6::SRC), ipv6::addr(ip, ipv6::DST));
            (ip[ipv6::NEXT_HEADER], inner.get(ipv6::HEADER..)?, from.into(), to.into())
        }
        _ => return None,
    };
    let ports = transport.first_chunk::<4>()?;
    let (from, to) =
        (SocketAddr::new(from, be16(ports, SRC_PORT)), SocketAddr::new(to, be16(ports, DST_PORT)));
    matches!(upper, PROTO_UDP | PROTO_TCP).then_some((upper == PROTO_UDP, from, to))
}

/// Counts an answer by what its flags say.
#[inline]
fn count(counters: &Counters, word: u16, told: Told) {
    counters.add(
        match word & dns::flags::RCODE {
            dns::rcode::NOERROR => Counter::Dns64NoError,
            dns::rcode::FORMERR => Counter::Dns64FormErr,
            dns::rcode::SERVFAIL => Counter::Dns64ServFail,
            dns::rcode::NXDOMAIN => Counter::Dns64NxDomain,
            dns::rcode::NOTIMP => Counter::Dns64NotImp,
            dns::rcode::REFUSED => Counter::Dns64Refused,
            _ => Counter::Dns64OtherRcode,
        },
        1,
    );
    if told.cached {
        counters.add(Counter::Dns64CacheHits, 1);
    }
    if told.synthesised {
        counters.add(Counter::Dns64AnsweredSynthesised, 1);
    }
    if told.stale {
        counters.add(Counter::Dns64Stale, 1);
    }
    if word & dns::flags::TC != 0 {
        counters.add(Counter::Dns64Truncated, 1);
    }
}

/// The way to an upstream, and the address of ours that it is asked from.
fn way<S: FrameSource>(ctx: &Ctx<'_, S>, to: IpAddr) -> Option<(Egress, IpAddr)> {
    let egress = match to {
        IpAddr::V6(to) => ctx.routes.lookup6(to),
        IpAddr::V4(to) => ctx.routes.lookup4(to),
    }?;
    let interface = ctx.interfaces.get(egress.interface())?;
    let from = match to {
        IpAddr::V6(to) => IpAddr::V6(interface.source6(to)),
        IpAddr::V4(to) => IpAddr::V4(interface.source4(to)?),
    };
    Some((egress, from))
}

/// Sends a message in a datagram.
fn send_datagram<S: FrameSource>(
    ctx: &mut Ctx<'_, S>,
    egress: Egress,
    from: SocketAddr,
    to: SocketAddr,
    message: &[u8],
) {
    let headers = udp::headers(to.ip());
    send(ctx, egress, PROTO_UDP, headers + message.len(), |b| {
        b[headers..].copy_from_slice(message);
        udp::emit(b, from, to)
    });
}

/// Sends a packet that `write` writes from its network-layer header on.
fn send<S: FrameSource>(
    ctx: &mut Ctx<'_, S>,
    egress: Egress,
    protocol: u8,
    octets: usize,
    write: impl FnOnce(&mut [u8]) -> bool,
) {
    if let Err(why) = ctx.send_new(egress, protocol, octets, DropReason::LocalMalformed, write) {
        ctx.counters.drop(why);
    }
}

#[cfg(test)]
mod tests;
