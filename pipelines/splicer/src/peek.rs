//! Connections until they are spliced: accepted by cookie, read until they name their site, connected to its server.
//!
//! ```text
//!  client  SYN        -> SYN-ACK with a cookie, over the SYN; nothing is kept (RFC 4987 3.6)
//!          ACK        -> session (state Peek), socket -> hello -> route -> SYN to a server
//!  server  SYN-ACK    -> identity header and hello; what it sends meanwhile is held
//!          ACK of all -> splice: constants into the session's line, state Open, what was held to the client, and this
//!                        segment once more, as the first that is rewritten; sockets are given up
//!          refuses, is silent -> the next server; none left: an alert, or a status of HTTP
//!          lacks what the client was promised -> relay: both connections stay terminated
//! ```
//! Every number that a stranger can drive up has a limit ([`crate::config::Limits`]). A connection is one worker's alone:
//! the flow table's session says whose.

mod connection;
mod cookie;
mod side;
mod switch;

use crate::answer;
use crate::config::{CLIENT_PREFIX, Config, Listener};
use crate::hello::{Sniffed, Sniffer};
use crate::identity;
use crate::site::route::Words;
use crate::site::{Identity, Reason, Route, SiteTable, route};
use crate::splice;
use crate::state::State;
use arc_swap::ArcSwap;
use causeway_core::{
    Class, Counter, Ctx, DropReason, Duration, Egress, Frame, FrameSource, Instant, Packet, TokenBucket,
    Verdict,
};
use causeway_flowtable::{
    CreateError, Created, Ctl, Fate, Guard, InsideKey, Kind, Lookup, Mapping, NewKey, NewSession,
    OWN_ADDRESS, OutsideKey, Session, Sweeper, Tick,
};
use causeway_tcp::options::Options;
use causeway_tcp::segment::{self, Bad};
use causeway_tcp::{Ends, Head, Segment, Stack, keyed_hash};
use causeway_wire::ethernet;
use causeway_wire::l4::PROTO_TCP;
use causeway_wire::l4::tcp::{ACK, FIN, RST, SYN};
use connection::{Connection, HELD, Overdue, Phase, Queue};
use cookie::{Agreed, Cookies, Pair};
use side::{Judged, Side, Sockets};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

/// Octets of the largest packet that is sent before the splice: the smallest MTU of IPv6 (RFC 8200 5).
const MTU: usize = 1280;
/// Resets sent in a second, and at once.
const RESETS: (u32, u32) = (10_000, 10_000);
/// Token buckets of clients that open connections: clients that share one by chance share its tokens.
const BUCKETS: usize = 4096;
/// Ports that a connection to a server is tried from.
const PORT_TRIES: usize = 8;
/// Connections looked after in one tick, at most.
const PER_TICK: usize = 32;
/// Sockets and buffers that are kept to be used again.
const SPARE: usize = 1024;
/// How soon a stack is looked after again at the soonest.
const SOONEST: Duration = Duration::from_millis(1);
/// How often the smallest MTU is looked for.
const MTU_EVERY: Duration = Duration::from_secs(1);
/// Octets that IPv6 and TCP need of a packet.
const HEADERS6: u16 = 60;

/// What is not told of in the table's ends: nobody else keeps anything about a session that peeks.
struct Nobody;

impl Sweeper for Nobody {
    fn judge(&mut self, _: &Session<'_>, _: Ctl, _: Tick) -> Fate {
        Fate::Keep
    }

    fn session_ended(&mut self, _: &Session<'_>) {}

    fn mapping_ended(&mut self, _: &Mapping<'_>) {}
}

/// Connections of one worker that are not spliced yet, or never will be.
pub struct Peek {
    config: Arc<Config>,
    sites: Arc<ArcSwap<SiteTable>>,
    worker: u8,
    stack4: Stack,
    stack6: Stack,
    cookies: Cookies,
    random: ((u64, u64), u64),
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    timers: BTreeSet<(Instant, u32)>,
    /// Connections of each client.
    clients: HashMap<u32, u32>,
    count: usize,
    octets: usize,
    spare: Vec<Sockets>,
    buffers: Vec<Vec<u8>>,
    opened: Box<[TokenBucket]>,
    resets: TokenBucket,
    /// The smallest MTU of all interfaces, and when it was looked for.
    mtu: (u16, Option<Instant>),
    stopping: bool,
    /// Where answers are written that go out in the frame of what they answer.
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Peek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peek")
            .field("count", &self.count)
            .field("octets", &self.octets)
            .finish_non_exhaustive()
    }
}

/// What of a segment is needed when its packet is about to be written over.
#[derive(Debug, Clone, Copy)]
struct Seen {
    ends: Ends,
    head: Head,
    end: u32,
}

impl Seen {
    fn of(segment: &Segment<'_>) -> Self {
        Self { ends: segment.ends, head: segment.head, end: segment.end() }
    }
}

/// A key, of its octets.
fn halves(key: [u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(key);
    #[expect(clippy::cast_possible_truncation, reason = "the halves")]
    ((both >> 64) as u64, both as u64)
}

/// What became of a look after a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Stays,
    Gone,
    Spliced,
}

impl Peek {
    /// Without connections. `seed` has to be unforeseeable: sequence numbers and ports come from it. `cookies` as well, but
    /// the same for all workers: a client's acknowledgement may come to another one than its SYN.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        sites: Arc<ArcSwap<SiteTable>>,
        worker: u8,
        seed: [u8; 32],
        cookies: [u8; 16],
    ) -> Self {
        let (words, _) = seed.as_chunks::<8>();
        let word = |n: usize| u64::from_le_bytes(words[n]);
        let random = (word(2), word(3));
        // Room for timestamps, which the stack does not know of.
        let mtu = MTU - causeway_tcp::options::TIMESTAMPS;
        let mut this = Self {
            opened: Box::default(),
            config,
            sites,
            worker,
            stack4: Stack::new(keyed_hash(random, b"stack4"), mtu),
            stack6: Stack::new(keyed_hash(random, b"stack6"), mtu),
            cookies: Cookies::new(halves(cookies)),
            random: (random, 0),
            slots: Vec::new(),
            free: Vec::new(),
            timers: BTreeSet::new(),
            clients: HashMap::new(),
            count: 0,
            octets: 0,
            spare: Vec::new(),
            buffers: Vec::new(),
            resets: TokenBucket::new(RESETS.0, RESETS.1),
            mtu: (1280, None),
            stopping: false,
            scratch: Vec::with_capacity(128),
        };
        this.set_buckets();
        this
    }

    /// Takes over another configuration. Lower limits hold for new connections.
    pub fn set_config(&mut self, config: Arc<Config>) {
        let limit = self.config.limits.opened_per_client;
        self.config = config;
        if self.config.limits.opened_per_client != limit {
            self.set_buckets();
        }
    }

    fn set_buckets(&mut self) {
        let (rate, burst) = self.config.limits.opened_per_client;
        let buckets = if rate == 0 { 0 } else { BUCKETS };
        self.opened = vec![TokenBucket::new(rate, burst.max(1)); buckets].into_boxed_slice();
    }

    /// How many connections there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Octets of memory that they hold.
    #[must_use]
    pub const fn octets(&self) -> usize {
        self.octets
    }

    /// When [`Peek::tick`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// Handles a TCP segment from IPv4 that no spliced connection takes. What the packet is answered with may be in its
    /// own frame.
    pub fn client<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<S::Frame>,
    ) -> Verdict {
        let (seen, result) = {
            let segment = match segment::parse(packet.bytes(), packet.meta.ingress) {
                Ok(segment) => segment,
                Err(Bad::Malformed) => return Verdict::Drop(DropReason::SplicePeekBad),
                Err(Bad::Checksum) => return Verdict::Drop(DropReason::SplicePeekChecksum),
                Err(Bad::Fragment) => return Verdict::Again(Class::Nat64Out),
            };
            let Some(pair) = pair_of(&segment.ends) else { return Verdict::Drop(DropReason::SplicePeekBad) };
            let again = packet.meta.again;
            match guard.lookup(&key_of(pair)) {
                Lookup::Building => return Verdict::Drop(DropReason::SpliceBusy),
                Lookup::Hit(session) if session.kind() != Kind::Spliced => {
                    return Verdict::Again(Class::Nat64Out);
                }
                Lookup::Hit(session) if State::from_u8(session.ctl().state()) != State::Peek => {
                    // Spliced since it was looked up before: once more, from the beginning.
                    return if again == 0 {
                        Verdict::Again(Class::SpliceOut)
                    } else {
                        Verdict::Drop(DropReason::SpliceBusy)
                    };
                }
                Lookup::Hit(session) if session.owner() != self.worker => {
                    return Verdict::Owner(u16::from(session.owner()));
                }
                Lookup::Hit(session) => {
                    let slot = session.aux();
                    if self.is_of(slot, pair) {
                        return self.client_segment(ctx, guard, slot, &segment);
                    }
                    // Of a worker of the same number that is no more.
                    guard.end(&session, &mut Nobody);
                }
                Lookup::Miss => {}
            }
            (Seen::of(&segment), self.stray(ctx, guard, pair, &segment))
        };
        match result {
            Ok(verdict) => verdict,
            Err(Stray::Cookie(head, options)) => {
                ctx.counters.add(Counter::SpliceCookies, 1);
                answer_in_place(ctx, packet, &seen, head, &options, &mut self.scratch)
            }
            Err(Stray::Reset(why)) => self.reset(ctx, &seen, why),
        }
    }

    /// A segment of no connection.
    fn stray<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        pair: Pair,
        segment: &Segment<'_>,
    ) -> Result<Verdict, Stray> {
        let (head, ends) = (segment.head, segment.ends);
        let config = Arc::clone(&self.config);
        let Some(listener) = config.listener(Ipv4Addr::from_bits(pair.out4), pair.out_port) else {
            return Ok(Verdict::Again(Class::Nat64Out));
        };
        // RFC 9293 3.10.7.1: a reset is not answered.
        if head.has(RST) {
            return Ok(Verdict::Drop(DropReason::SpliceNoConnection));
        }
        if self.stopping {
            // A SYN comes again, and finds whoever is there then; anything else is of a connection that is over.
            let stopping = DropReason::SpliceStopping;
            return if head.has(SYN) { Ok(Verdict::Drop(stopping)) } else { Err(Stray::Reset(stopping)) };
        }
        let opens = head.has(SYN) && !head.has(ACK);
        if !head.has(SYN | ACK) || (head.has(SYN) && !opens) {
            return Err(Stray::Reset(DropReason::SpliceNoConnection));
        }
        let told = self.told(ctx);
        if opens {
            let options = segment.options();
            let agreed = Agreed {
                // RFC 9293 3.7.1: whoever says nothing takes 536.
                mss: options.mss.filter(|&m| m > 0).unwrap_or(536),
                scale: options.window_scale,
                sack: config.tcp.sack && options.sack_permitted,
                timestamps: config.tcp.timestamps && options.timestamps.is_some(),
            };
            let seq = self.cookies.make(pair, head.seq, agreed, ctx.now);
            let clock = clock(ctx.now).wrapping_add(self.cookies.clock_offset(pair));
            let options = Options {
                mss: Some(told),
                window_scale: agreed.scale.map(|_| config.tcp.window_scale.min(14)),
                sack_permitted: agreed.sack,
                timestamps: options.timestamps.filter(|_| agreed.timestamps).map(|(value, _)| (clock, value)),
            };
            let window = u16::try_from(side::RECEIVE).unwrap_or(u16::MAX);
            let head = Head { seq, ack: head.seq.wrapping_add(1), flags: SYN | ACK, window };
            return Err(Stray::Cookie(head, options));
        }
        let ours = head.ack.wrapping_sub(1);
        let window = u32::try_from(side::RECEIVE).unwrap_or(0);
        let opened = self.cookies.check(pair, head.seq, ours, ctx.now).filter(|&(theirs, _)| {
            // It can be a later segment than the first, but not one that we would not have let come.
            head.seq.wrapping_sub(theirs.wrapping_add(1)) < window
        });
        let Some((theirs, agreed)) = opened else { return Err(Stray::Reset(DropReason::SpliceNoConnection)) };
        self.room_for(ctx.now, pair.remote4).map_err(Stray::Reset)?;
        let sockets = self.spare.pop().unwrap_or_else(Sockets::new);
        let mss = side::data_octets(agreed.mss, agreed.timestamps);
        let mut client = match Side::accepted(&mut self.stack4, sockets, ends, (theirs, mss, ours), ctx.now) {
            Ok(client) => client,
            Err(sockets) => {
                self.keep(sockets);
                return Err(Stray::Reset(DropReason::SplicePeekBad));
            }
        };
        if let Some(scale) = agreed.scale {
            client.scale_in = scale;
            client.scale_out = config.tcp.window_scale.min(14);
        }
        let options = segment.options();
        client.timestamps = agreed.timestamps;
        if agreed.timestamps {
            let Some((value, _)) = options.timestamps else {
                self.keep(client.sockets);
                return Ok(Verdict::Drop(DropReason::SpliceOldTimestamp));
            };
            client.ts_recent = value;
        }
        let clock_offset = self.cookies.clock_offset(pair);
        client.ts_value = clock(ctx.now).wrapping_add(clock_offset);
        client.give(&mut self.stack4, head, None, segment.payload(), ctx.now);
        if client.is_opening() {
            self.keep(client.sockets);
            return Ok(Verdict::Drop(DropReason::SplicePeekBad));
        }
        let slot = self.free.last().copied().unwrap_or(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        match self.make_session(ctx, guard, pair, slot) {
            Ok(()) => {}
            Err(why) => {
                self.keep(client.sockets);
                // Another worker is just accepting the same: it goes on there.
                let busy = why == DropReason::SpliceBusy;
                return if busy { Ok(Verdict::Drop(why)) } else { Err(Stray::Reset(why)) };
            }
        }
        let connection = Connection {
            pair,
            agreed,
            phase: Phase::Hello(ctx.now, None),
            client,
            server: None,
            sniffer: Sniffer::new(listener.tls, listener.http, &config.limits),
            clock_offset,
            told,
            hello: self.buffer(),
            to_server: Queue { octets: self.buffer(), at: 0 },
            header: 0,
            to_client: Queue::default(),
            held: self.buffer(),
            held_fin: false,
            server_sack: false,
            target: None,
            order: None,
            tries: 0,
            timer: None,
            counted: 0,
        };
        self.insert(slot, connection);
        ctx.counters.add(Counter::SpliceAccepted, 1);
        self.look_after(ctx, guard, slot, None);
        Ok(Verdict::Consume)
    }

    /// What clients are told as the largest segment: what grows by 20 octets still fits.
    fn told<S: FrameSource>(&mut self, ctx: &Ctx<'_, S>) -> u16 {
        if self.mtu.1.is_none_or(|at| ctx.now.since(at) >= MTU_EVERY) {
            let smallest = ctx.interfaces.iter().map(|(_, i)| i.mtu).min();
            self.mtu = (smallest.unwrap_or(1280).max(1280), Some(ctx.now));
        }
        self.mtu.0 - HEADERS6
    }

    fn room_for(&mut self, now: Instant, client: u32) -> Result<(), DropReason> {
        let limits = &self.config.limits;
        if self.count >= usize::try_from(limits.peeks).unwrap_or(usize::MAX)
            || self.octets + 2 * side::OCTETS > limits.octets
        {
            return Err(DropReason::SplicePeeksFull);
        }
        if self.clients.get(&client).is_some_and(|&n| n >= limits.peeks_per_client) {
            return Err(DropReason::SpliceClientFull);
        }
        if !self.opened.is_empty() {
            let hash = keyed_hash(self.random.0, &client.to_be_bytes());
            let at = usize::try_from(hash % BUCKETS as u64).unwrap_or(0);
            if !self.opened[at].take(now) {
                return Err(DropReason::SpliceClientLimited);
            }
        }
        Ok(())
    }

    fn make_session<S: FrameSource>(
        &self,
        ctx: &Ctx<'_, S>,
        guard: &Guard<'_>,
        pair: Pair,
        slot: u32,
    ) -> Result<(), DropReason> {
        let new = NewSession {
            key: NewKey::Outside(key_of(pair)),
            kind: Kind::Spliced,
            owner: self.worker,
            subscriber: 0,
            plan_generation: self.config.generation,
            state: State::Peek as u8,
            flags: 0,
            tick: Tick::at(ctx.now),
            aux: slot,
        };
        match guard.create_single(&new) {
            Ok(Created::Fresh(_)) => Ok(()),
            Ok(Created::Existing(_)) | Err(CreateError::Building | CreateError::Conflict) => {
                Err(DropReason::SpliceBusy)
            }
            Err(_) => Err(DropReason::SpliceNoSession),
        }
    }

    /// A segment of a client's connection.
    fn client_segment<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        slot: u32,
        segment: &Segment<'_>,
    ) -> Verdict {
        let Some(c) = at_mut(&mut self.slots, slot) else { return Verdict::Drop(DropReason::SpliceBusy) };
        let expected = c.client.expected();
        let judged = c.client.judge(segment, &segment.options(), expected);
        match judged {
            Judged::Good => {
                if let Phase::Relay(last) = &mut c.phase {
                    *last = ctx.now;
                }
                c.client.give(&mut self.stack4, segment.head, None, segment.payload(), ctx.now);
                self.look_after(ctx, guard, slot, None);
                Verdict::Consume
            }
            Judged::Reset => {
                ctx.counters.add(Counter::SpliceClientsReset, 1);
                self.end(ctx, guard, slot, false, true);
                Verdict::Consume
            }
            Judged::Challenge | Judged::Old => {
                let clock = clock(ctx.now).wrapping_add(c.clock_offset);
                if let Some(packet) = c.client.challenge(clock, ctx.now) {
                    send4(ctx, c.pair.remote4, &packet);
                }
                Verdict::Drop(if judged == Judged::Old {
                    DropReason::SpliceOldTimestamp
                } else {
                    DropReason::SpliceChallenged
                })
            }
            Judged::Bad => Verdict::Drop(DropReason::SplicePeekBad),
        }
    }

    /// Handles a TCP segment from IPv6, towards an address that connections to servers come from, that no spliced
    /// connection takes.
    pub fn server<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<S::Frame>,
    ) -> Verdict {
        let again = packet.meta.again;
        let once_more =
            if again == 0 { Verdict::Again(Class::SpliceIn) } else { Verdict::Drop(DropReason::SpliceBusy) };
        let seen = {
            let segment = match segment::parse(packet.bytes(), packet.meta.ingress) {
                Ok(segment) => segment,
                Err(Bad::Malformed) => return Verdict::Drop(DropReason::SplicePeekBad),
                Err(Bad::Checksum) => return Verdict::Drop(DropReason::SplicePeekChecksum),
                Err(Bad::Fragment) => return Verdict::Drop(DropReason::LocalFragment),
            };
            let (SocketAddr::V6(local), SocketAddr::V6(remote)) = (segment.ends.local, segment.ends.remote)
            else {
                return Verdict::Drop(DropReason::SplicePeekBad);
            };
            let Some((prefix, dst4)) = splice::number_of(&self.config, *local.ip()) else {
                return Verdict::Again(Class::Local);
            };
            let key = InsideKey {
                src6: remote.ip().to_bits(),
                dst4,
                src_port: remote.port(),
                dst_port: local.port(),
                protocol: PROTO_TCP,
                prefix,
            };
            match guard.lookup(&key) {
                Lookup::Building => return Verdict::Drop(DropReason::SpliceBusy),
                Lookup::Hit(session) if session.kind() == Kind::Spliced => {
                    if State::from_u8(session.ctl().state()) != State::Peek {
                        if segment.head.has(SYN) {
                            return spliced_syn(ctx, &session, packet, &mut self.scratch);
                        }
                        return once_more;
                    }
                    if session.owner() != self.worker {
                        return Verdict::Owner(u16::from(session.owner()));
                    }
                    let (slot, pair) = (session.aux(), pair_of_session(&session));
                    if !self.is_of(slot, pair) {
                        guard.end(&session, &mut Nobody);
                        return Verdict::Drop(DropReason::SpliceNoConnection);
                    }
                    return self.server_segment(ctx, guard, slot, &segment, once_more);
                }
                _ if prefix >= OWN_ADDRESS => return Verdict::Again(Class::Local),
                _ => Seen::of(&segment),
            }
        };
        // Nobody but the splicer has connections from a client prefix.
        if seen.head.has(RST) {
            return Verdict::Drop(DropReason::SpliceNoConnection);
        }
        self.reset(ctx, &seen, DropReason::SpliceNoConnection)
    }

    /// A segment of a server's connection. `once_more` is what becomes of it when it was the one that was waited for.
    fn server_segment<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        slot: u32,
        segment: &Segment<'_>,
        once_more: Verdict,
    ) -> Verdict {
        let (now, head) = (ctx.now, segment.head);
        let Some(c) = at_mut(&mut self.slots, slot) else { return Verdict::Drop(DropReason::SpliceBusy) };
        let Some(server) = c.server.as_mut() else { return Verdict::Drop(DropReason::SpliceNoConnection) };
        let options = segment.options();
        let opening = server.is_opening();
        let in_stack = server.expected();
        let held = u32::try_from(c.held.len()).unwrap_or(0) + u32::from(c.held_fin);
        let expected = in_stack.wrapping_add(held);
        match server.judge(segment, &options, expected) {
            Judged::Good => {}
            Judged::Reset if opening => {
                ctx.counters.add(Counter::SpliceServersRefused, 1);
                self.next_server(ctx, guard, slot);
                return Verdict::Consume;
            }
            Judged::Reset => {
                ctx.counters.add(Counter::SpliceServersReset, 1);
                self.end(ctx, guard, slot, true, false);
                return Verdict::Consume;
            }
            judged @ (Judged::Challenge | Judged::Old) => {
                let value = c.client.ts_recent;
                if let Some(packet) = server.challenge(value, now) {
                    send6(ctx, server.ends.remote.ip(), &packet);
                }
                return Verdict::Drop(if judged == Judged::Old {
                    DropReason::SpliceOldTimestamp
                } else {
                    DropReason::SpliceChallenged
                });
            }
            Judged::Bad => return Verdict::Drop(DropReason::SplicePeekBad),
        }
        if opening {
            // RFC 9293 3.7.1: over IPv6 whoever says nothing takes 1,220.
            let mss = options.mss.filter(|&m| m > 0).unwrap_or(1220);
            server.theirs = Some(head.seq);
            server.acked = head.seq.wrapping_add(1);
            server.timestamps = c.agreed.timestamps && options.timestamps.is_some();
            server.ts_recent = options.timestamps.map_or(0, |(value, _)| value);
            if let (Some(theirs), Some(ours)) = (options.window_scale, c.agreed.scale) {
                (server.scale_in, server.scale_out) = (theirs, ours);
            }
            let data = side::data_octets(mss, server.timestamps);
            server.give(&mut self.stack6, Head { flags: SYN | ACK, ..head }, Some(data), &[], now);
            if server.is_opening() {
                return Verdict::Drop(DropReason::SplicePeekBad);
            }
            ctx.counters.add(Counter::SpliceServersOpened, 1);
            if let Some(target) = &c.target
                && let Some(number) = c.order.as_ref().and_then(|o| o.get(c.tries))
                && let Some((_, known)) = target.server(number)
            {
                known.opened();
            }
            let stays = if c.agreed.scale.is_some() && options.window_scale.is_none() {
                Some(Counter::SpliceStaysForScale)
            } else if c.agreed.timestamps && !server.timestamps {
                Some(Counter::SpliceStaysForTimestamps)
            } else if mss < c.told {
                Some(Counter::SpliceStaysForMss)
            } else {
                None
            };
            c.phase = match stays {
                Some(why) => {
                    ctx.counters.add(why, 1);
                    Phase::Relay(now)
                }
                None => Phase::Handover(now),
            };
            if stays.is_some() {
                c.client.frozen = None;
            }
            c.server_sack = options.sack_permitted;
            self.look_after(ctx, guard, slot, Some(Trigger::SynAck));
            return Verdict::Consume;
        }
        if let Phase::Relay(last) = &mut c.phase {
            *last = now;
            server.give(&mut self.stack6, head, None, segment.payload(), now);
            self.look_after(ctx, guard, slot, None);
            return Verdict::Consume;
        }
        // What it acknowledges is for the stack; what it sends is for the client.
        let bare = Head { seq: in_stack, flags: ACK, ..head };
        server.give(&mut self.stack6, bare, None, &[], now);
        let then = self.look_after(ctx, guard, slot, Some(Trigger::Segment));
        if then == Then::Spliced {
            return once_more;
        }
        let Some(c) = at_mut(&mut self.slots, slot) else { return Verdict::Consume };
        if segment.data == 0 && !head.has(FIN) {
            return Verdict::Consume;
        }
        // An octet of what is kept, if it is the next one.
        let skip = expected.wrapping_sub(head.seq);
        let Some(fresh) = usize::try_from(skip).ok().and_then(|n| segment.payload().get(n..)) else {
            return Verdict::Drop(DropReason::SpliceNotHeld);
        };
        if c.held_fin || c.held.len() + fresh.len() > HELD {
            return Verdict::Drop(DropReason::SpliceNotHeld);
        }
        c.held.extend_from_slice(fresh);
        c.held_fin = head.has(FIN);
        self.note(slot, now);
        Verdict::Consume
    }

    /// An ICMPv6 error of a kind that means "not there" about the SYN with number `seq` of the connection with this key:
    /// another server is tried (RFC 1122 4.2.3.9).
    pub fn unreachable<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        session: &Session<'_>,
        seq: u32,
    ) -> Verdict {
        let slot = session.aux();
        let Some(c) = at_mut(&mut self.slots, slot).filter(|c| c.pair == pair_of_session(session)) else {
            return Verdict::Drop(DropReason::SpliceNoConnection);
        };
        let opening = c.server.as_ref().is_some_and(|s| s.is_opening() && s.ours == seq);
        if !opening {
            return Verdict::Drop(DropReason::SplicePeekBad);
        }
        ctx.counters.add(Counter::SpliceServersRefused, 1);
        self.next_server(ctx, guard, slot);
        Verdict::Consume
    }

    /// Looks after connections whose time has come, a bounded number of them. Costs nothing for others.
    pub fn tick<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>) {
        self.stopping = false;
        for _ in 0..PER_TICK {
            // What a connection sends has to find room.
            if ctx.outbox.room() < 16 {
                return;
            }
            let Some(&(at, slot)) = self.timers.first().filter(|&&(at, _)| at <= ctx.now) else { return };
            self.timers.remove(&(at, slot));
            let Some(c) = at_mut(&mut self.slots, slot) else { continue };
            c.timer = None;
            let (by, what) = c.phase.due(&self.config.timeouts);
            if by > ctx.now {
                self.look_after(ctx, guard, slot, None);
                continue;
            }
            let (count, to_client, to_server) = match what {
                Overdue::FirstOctet => (Some(Counter::SpliceFirstOctetLate), true, false),
                Overdue::Hello => (Some(Counter::SpliceHelloLate), true, false),
                Overdue::Handover => (Some(Counter::SpliceHandoverLate), true, true),
                Overdue::Idle => (Some(Counter::SpliceTerminatedIdle), true, true),
                Overdue::Closing => (None, true, true),
                Overdue::Connect => {
                    ctx.counters.add(Counter::SpliceServersSilent, 1);
                    self.next_server(ctx, guard, slot);
                    continue;
                }
            };
            if let Some(count) = count {
                ctx.counters.add(count, 1);
            }
            self.end(ctx, guard, slot, to_client, to_server);
        }
    }

    /// The gateway stops, or another one takes over: connections that are not spliced are reset, a bounded number in each
    /// call, and until the next [`Peek::tick`] none is accepted. True when none is left.
    pub fn stop<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>) -> bool {
        self.stopping = true;
        while ctx.outbox.room() >= 4
            && let Some(&(_, slot)) = self.timers.first()
        {
            ctx.counters.add(Counter::SpliceStopped, 1);
            self.end(ctx, guard, slot, true, true);
        }
        self.count == 0
    }

    /// Another gateway has the addresses now: connections that are not spliced are forgotten without a word.
    pub fn leave(&mut self, guard: &Guard<'_>) {
        for slot in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            let Some(c) = at_mut(&mut self.slots, slot) else { continue };
            let pair = c.pair;
            self.end_session(guard, pair, slot);
            self.remove(slot);
        }
    }

    /// Reads, routes, copies and sends what can be, and notes when to look again.
    fn look_after<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        slot: u32,
        trigger: Option<Trigger>,
    ) -> Then {
        let now = ctx.now;
        let config = Arc::clone(&self.config);
        let Some(c) = at_mut(&mut self.slots, slot) else { return Then::Gone };
        match c.phase {
            Phase::Hello(since, first) => {
                let listener = config.listener(Ipv4Addr::from_bits(c.pair.out4), c.pair.out_port);
                let (hello, client) = (&mut c.hello, &mut c.client);
                let read = client.read(|octets| {
                    hello.extend_from_slice(octets);
                    octets.len()
                });
                if first.is_none() && !c.hello.is_empty() {
                    c.phase = Phase::Hello(since, Some(now));
                }
                let Some(listener) = listener else {
                    // It was taken out of the configuration meanwhile.
                    self.end(ctx, guard, slot, true, false);
                    return Then::Gone;
                };
                let waits = listener.tls || listener.http;
                let said = if waits && read > 0 { c.sniffer.more(&c.hello) } else { Sniffed::More };
                if !waits || said != Sniffed::More {
                    self.route(ctx, guard, slot, listener, &said);
                } else if c.client.is_half_closed() {
                    ctx.counters.add(Counter::SpliceClientsLeft, 1);
                    c.phase = Phase::Answer(now);
                    c.client.close();
                }
            }
            Phase::Connecting(_) => {}
            Phase::Handover(_) => {
                forward(c);
                if c.is_ready() && trigger != Some(Trigger::NotYet) {
                    return self.splice(ctx, guard, slot, trigger);
                }
            }
            Phase::Relay(_) => {
                forward(c);
                backward(c);
            }
            Phase::Answer(_) => {
                c.to_client.pour(&mut c.client);
                c.client.read(<[u8]>::len);
                if c.to_client.is_empty() {
                    c.client.close();
                }
            }
        }
        self.flush(ctx, slot);
        let Some(c) = at_mut(&mut self.slots, slot) else { return Then::Gone };
        let server_over = c.server.as_ref().is_none_or(Side::is_over);
        let over = match c.phase {
            Phase::Answer(_) => c.client.is_over(),
            Phase::Relay(_) => c.client.is_over() && server_over,
            _ => false,
        };
        if over {
            self.end(ctx, guard, slot, false, false);
            return Then::Gone;
        }
        self.note(slot, now);
        if self.octets > self.config.limits.octets {
            ctx.counters.add(Counter::SpliceOctetsFull, 1);
            self.end(ctx, guard, slot, true, true);
            return Then::Gone;
        }
        Then::Stays
    }

    /// Lets both stacks send.
    fn flush<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, slot: u32) {
        let (now, millis) = (ctx.now, clock(ctx.now));
        let Some(c) = at_mut(&mut self.slots, slot) else { return };
        let client = c.pair.remote4;
        c.client.flush(&mut self.stack4, None, millis.wrapping_add(c.clock_offset), now, |packet| {
            send4(ctx, client, packet);
        });
        if let Some(server) = &mut c.server {
            let offer = offer(&c.agreed, c.told, c.client.ts_recent);
            let to = server.ends.remote.ip();
            server.flush(&mut self.stack6, Some(&offer), c.client.ts_recent, now, |packet| {
                send6(ctx, to, packet);
            });
        }
    }

    /// The client has said where it wants to go, or cannot be served.
    fn route<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        slot: u32,
        listener: &Listener,
        said: &Sniffed,
    ) {
        let seed = self.next_random();
        let Some(c) = at_mut(&mut self.slots, slot) else { return };
        let table = self.sites.load();
        let route = route(&self.config, listener, &table, said, c.pair.remote4);
        if let Some(counter) = route.counter() {
            ctx.counters.add(counter, 1);
        }
        let protocol = c.sniffer.protocol();
        let target = match route {
            Route::To(target) => target,
            Route::Redirect { host, target, .. } => {
                tell(c, answer::redirect(&host, &target, protocol), ctx.now);
                return;
            }
            Route::Answer(reason) => {
                let octets = words(reason, said, protocol);
                tell(c, octets, ctx.now);
                return;
            }
        };
        let (name, alpn): (Option<&str>, &[Vec<u8>]) = match said {
            Sniffed::Tls(hello) => (hello.server_name.as_deref(), &hello.alpn),
            Sniffed::Http(request) => (request.host.as_deref(), &[]),
            Sniffed::More | Sniffed::Bad(_) => (None, &[]),
        };
        let socket = |a: u32, port| SocketAddrV4::new(Ipv4Addr::from_bits(a), port);
        let (from, to) = (socket(c.pair.remote4, c.pair.remote_port), socket(c.pair.out4, c.pair.out_port));
        let queue = &mut c.to_server.octets;
        identity::header(target.identity(), from, to, name, alpn, queue);
        c.header = u32::try_from(queue.len()).unwrap_or(0);
        if queue.is_empty() {
            std::mem::swap(queue, &mut c.hello);
        } else {
            queue.extend_from_slice(&c.hello);
            c.hello.clear();
        }
        c.order = Some(target.order(ctx.now, seed));
        c.target = Some(target);
        c.tries = 0;
        // From here on its window does not open further: what it has sent is to be handed over.
        c.client.frozen = Some(c.client.acked.wrapping_add(c.client.window));
        self.connect(ctx, guard, slot);
    }

    /// The server that was tried has failed.
    fn next_server<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>, slot: u32) {
        let Some(c) = at_mut(&mut self.slots, slot) else { return };
        if let Some(target) = &c.target
            && let Some(number) = c.order.as_ref().and_then(|o| o.get(c.tries))
            && let Some((_, known)) = target.server(number)
        {
            known.failed(ctx.now);
        }
        c.tries += 1;
        let pair = c.pair;
        if let Some(server) = c.server.take() {
            self.keep(server.sockets);
        }
        // A session gets an inside key only once.
        if let Lookup::Hit(session) = guard.lookup(&key_of(pair)) {
            guard.end(&session, &mut Nobody);
        }
        if self.make_session(ctx, guard, pair, slot).is_err() {
            ctx.counters.add(Counter::SpliceNoLine, 1);
            self.end(ctx, guard, slot, true, false);
            return;
        }
        self.connect(ctx, guard, slot);
        self.look_after(ctx, guard, slot, Some(Trigger::NotYet));
    }

    /// Opens a connection to the next server, or tells the client that there is none.
    fn connect<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>, slot: u32) {
        let now = ctx.now;
        let (random, isn) = (self.next_random(), self.next_random() as u32);
        let Some(c) = at_mut(&mut self.slots, slot) else { return };
        let number = c.order.as_ref().and_then(|o| o.get(c.tries));
        let to = number.and_then(|n| c.target.as_ref()?.address(n, c.pair.out_port));
        let Some((to, target)) = to.zip(c.target.as_ref()) else {
            ctx.counters.add(Counter::SpliceServersFailed, 1);
            let protocol = c.sniffer.protocol();
            let octets = failed(protocol);
            tell(c, octets, now);
            return;
        };
        let from = match (target.identity(), target.source) {
            (Identity::Embedded(place), Some(source)) => Some((CLIENT_PREFIX + place, source)),
            _ => own_source(&self.config, *to.ip()),
        };
        let client_port = target.source.map(|_| c.pair.remote_port);
        let key = from.and_then(|(prefix, source)| {
            let ports =
                std::iter::successors(Some(random), |r| Some(r.rotate_left(13).wrapping_mul(0x2545_f491)));
            let ports = ports.map(|r| 1024 + u16::try_from(r % 64_512).unwrap_or(0));
            let ports = client_port.into_iter().chain(ports).take(PORT_TRIES);
            let Lookup::Hit(session) = guard.lookup(&key_of(c.pair)) else { return None };
            let mut line = guard.take_spliced()?;
            for port in ports {
                let key = InsideKey {
                    src6: to.ip().to_bits(),
                    dst4: if prefix >= OWN_ADDRESS { 0 } else { c.pair.remote4 },
                    src_port: to.port(),
                    dst_port: port,
                    protocol: PROTO_TCP,
                    prefix,
                };
                let ends = splice::Ends {
                    client: (Ipv4Addr::from_bits(c.pair.remote4), c.pair.remote_port),
                    listener: (Ipv4Addr::from_bits(c.pair.out4), c.pair.out_port),
                    server: (*to.ip(), to.port()),
                    own: (source, port),
                };
                match guard.add_inside(&session, key, line, ends.checksum_delta()) {
                    Ok(()) => return Some((source, port)),
                    Err(e) => line = e.into_line(),
                }
            }
            None
        });
        let Some((source, port)) = key else {
            ctx.counters.add(Counter::SpliceNoLine, 1);
            let protocol = c.sniffer.protocol();
            tell(c, failed(protocol), now);
            return;
        };
        let ends = Ends { local: SocketAddrV6::new(source, port, 0, 0).into(), remote: to.into() };
        let sockets = self.spare.pop().unwrap_or_else(Sockets::new);
        match Side::connecting(&mut self.stack6, sockets, ends, isn, now) {
            Ok(server) => {
                c.server = Some(server);
                c.phase = Phase::Connecting(now);
            }
            Err(sockets) => {
                ctx.counters.add(Counter::SpliceNoLine, 1);
                tell(c, failed(c.sniffer.protocol()), now);
                self.keep(sockets);
            }
        }
    }

    /// Everything is acknowledged: the two connections become one.
    fn splice<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        slot: u32,
        trigger: Option<Trigger>,
    ) -> Then {
        // The ACK of a SYN-ACK goes out first.
        self.flush(ctx, slot);
        let Some(c) = at_mut(&mut self.slots, slot) else { return Then::Gone };
        let session = guard.lookup(&key_of(c.pair)).hit();
        let clock = clock(ctx.now).wrapping_add(c.clock_offset);
        let done = session.is_some_and(|session| switch::engage(c, &session, clock, Tick::at(ctx.now)));
        if !done {
            self.end(ctx, guard, slot, true, true);
            return Then::Gone;
        }
        ctx.counters.add(Counter::SpliceEngaged, 1);
        let client = c.pair.remote4;
        switch::release(c, clock, trigger == Some(Trigger::Segment), |packet| send4(ctx, client, packet));
        self.remove(slot);
        Then::Spliced
    }

    /// Ends a connection: each side with a reset, or without a word.
    fn end<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        slot: u32,
        to_client: bool,
        to_server: bool,
    ) {
        let Some(c) = at_mut(&mut self.slots, slot) else { return };
        if to_client {
            let head = Head { seq: c.client.sent_end, ack: c.client.expected(), flags: RST | ACK, window: 0 };
            send_reset(&c.client, head, |packet| send4(ctx, c.pair.remote4, packet));
        }
        if let Some(server) = c.server.as_ref().filter(|_| to_server) {
            let head = Head { seq: server.sent_end, ack: server.expected(), flags: RST | ACK, window: 0 };
            // A server that has not answered yet gets a reset as well: its SYN-ACK may be on its way.
            let head = if server.is_opening() { Head { ack: 0, flags: RST, ..head } } else { head };
            send_reset(server, head, |packet| send6(ctx, server.ends.remote.ip(), packet));
        }
        let pair = c.pair;
        self.end_session(guard, pair, slot);
        self.remove(slot);
    }

    fn end_session(&self, guard: &Guard<'_>, pair: Pair, slot: u32) {
        if let Lookup::Hit(session) = guard.lookup(&key_of(pair))
            && session.owner() == self.worker
            && session.aux() == slot
        {
            guard.end(&session, &mut Nobody);
        }
    }

    fn is_of(&self, slot: u32, pair: Pair) -> bool {
        let at = usize::try_from(slot).unwrap_or(usize::MAX);
        self.slots.get(at).and_then(Option::as_ref).is_some_and(|c| c.pair == pair)
    }

    fn insert(&mut self, slot: u32, connection: Connection) {
        let at = usize::try_from(slot).unwrap_or(usize::MAX);
        if self.free.last() == Some(&slot) {
            self.free.pop();
        } else if at == self.slots.len() {
            self.slots.push(None);
        }
        *self.clients.entry(connection.pair.remote4).or_default() += 1;
        self.count += 1;
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some(Box::new(connection));
        }
    }

    /// Forgets a connection; what it used is used again.
    fn remove(&mut self, slot: u32) {
        let at = usize::try_from(slot).unwrap_or(usize::MAX);
        let Some(c) = self.slots.get_mut(at).and_then(Option::take) else { return };
        let Connection { pair, client, server, hello, to_server, held, timer, counted, .. } = *c;
        self.free.push(slot);
        self.count -= 1;
        self.octets -= counted;
        if let Some(at) = timer {
            self.timers.remove(&(at, slot));
        }
        if let Some(n) = self.clients.get_mut(&pair.remote4) {
            *n -= 1;
            if *n == 0 {
                self.clients.remove(&pair.remote4);
            }
        }
        self.keep(client.sockets);
        if let Some(server) = server {
            self.keep(server.sockets);
        }
        for mut buffer in [hello, to_server.octets, held] {
            if self.buffers.len() < SPARE && buffer.capacity() <= 4096 {
                buffer.clear();
                self.buffers.push(buffer);
            }
        }
    }

    fn keep(&mut self, sockets: Sockets) {
        if self.spare.len() < SPARE {
            self.spare.push(sockets);
        }
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Keeps the sums and the order of timers right.
    fn note(&mut self, slot: u32, now: Instant) {
        let Some(c) = at_mut(&mut self.slots, slot) else { return };
        let octets = c.octets();
        self.octets = self.octets + octets - c.counted;
        c.counted = octets;
        let mut at = c.phase.due(&self.config.timeouts).0;
        let stacks = [c.client.poll_at(&mut self.stack4, now)];
        let server = c.server.as_ref().and_then(|s| s.poll_at(&mut self.stack6, now));
        for wanted in stacks.into_iter().chain([server]).flatten() {
            at = at.min(wanted.max(now + SOONEST));
        }
        // One that comes too early costs a look; it is not worth moving.
        if c.timer.is_none_or(|noted| at < noted) {
            if let Some(noted) = c.timer {
                self.timers.remove(&(noted, slot));
            }
            self.timers.insert((at, slot));
            c.timer = Some(at);
        }
    }

    fn next_random(&mut self) -> u64 {
        self.random.1 = self.random.1.wrapping_add(1);
        keyed_hash(self.random.0, &self.random.1.to_be_bytes())
    }

    /// Answers a segment of no connection with a reset (RFC 9293 3.10.7.1), if not too many were sent.
    fn reset<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, seen: &Seen, why: DropReason) -> Verdict {
        if !self.resets.take(ctx.now) {
            ctx.counters.add(Counter::SpliceResetsLimited, 1);
            return Verdict::Drop(why);
        }
        let head = if seen.head.has(ACK) {
            Head { seq: seen.head.ack, ack: 0, flags: RST, window: 0 }
        } else {
            Head { seq: 0, ack: seen.end, flags: RST | ACK, window: 0 }
        };
        let mut packet = Vec::new();
        side::emit(&mut packet, &seen.ends, head, &Options::default(), &[], low16(head.seq));
        send(ctx, seen.ends.remote.ip(), &packet);
        Verdict::Drop(why)
    }
}

/// What led to a look after a connection, where that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// The server's SYN-ACK, which is for us alone.
    SynAck,
    /// A segment of the server's that is to be rewritten.
    Segment,
    /// Nothing that could splice it.
    NotYet,
}

/// What a segment of no connection is answered with.
#[derive(Debug)]
enum Stray {
    Cookie(Head, Options),
    Reset(DropReason),
}

fn at_mut(slots: &mut [Option<Box<Connection>>], slot: u32) -> Option<&mut Connection> {
    slots.get_mut(usize::try_from(slot).ok()?)?.as_deref_mut()
}

/// What a client says moves on to the server, its end included.
fn forward(c: &mut Connection) {
    let Some(server) = c.server.as_mut() else { return };
    if server.is_opening() {
        return;
    }
    c.to_server.pour(server);
    if c.to_server.is_empty() {
        c.client.read(|octets| server.send(octets));
        if c.client.is_read_out() {
            server.close();
        }
    }
}

/// The other way, where a connection stays terminated.
fn backward(c: &mut Connection) {
    let Some(server) = c.server.as_mut() else { return };
    let client = &mut c.client;
    server.read(|octets| client.send(octets));
    if server.is_read_out() {
        client.close();
    }
    // RFC 9293 3.5.3: whoever is reset has nobody to talk to.
    if server.state() == smoltcp::socket::tcp::State::Closed && !client.is_over() && !server.is_half_closed()
    {
        client.close();
    }
}

/// The client gets these words, and then the end.
fn tell(c: &mut Connection, octets: Vec<u8>, now: Instant) {
    c.phase = Phase::Answer(now);
    c.client.frozen = None;
    c.to_client = Queue { octets, at: 0 };
    c.to_client.pour(&mut c.client);
    if c.to_client.is_empty() {
        c.client.close();
    }
}

fn words(reason: Reason, said: &Sniffed, protocol: crate::hello::Protocol) -> Vec<u8> {
    if let Reason::Bad(bad) = reason {
        return answer::bad(bad, protocol);
    }
    match reason.words(said) {
        Words::Alert(description) => answer::tls_alert(description),
        Words::Status { status, .. } => answer::http(status, protocol),
        Words::Silence => Vec::new(),
    }
}

/// No server took the connection.
fn failed(protocol: crate::hello::Protocol) -> Vec<u8> {
    match protocol {
        crate::hello::Protocol::Tls => answer::tls_alert(answer::alert::INTERNAL_ERROR),
        _ => answer::http(answer::status::BAD_GATEWAY, protocol),
    }
}

/// The gateway's own address that a server is asked from: of those in use the one that has most in common with the
/// server's (RFC 6724 5, rule 8).
pub(crate) fn own_source(config: &Config, server: Ipv6Addr) -> Option<(u8, Ipv6Addr)> {
    let all = config.sources.iter().enumerate().filter_map(|(n, s)| Some((u8::try_from(n).ok()?, (*s)?)));
    let best = all.max_by_key(|(_, s)| (s.to_bits() ^ server.to_bits()).leading_zeros())?;
    Some((OWN_ADDRESS.checked_add(best.0)?, best.1))
}

/// What a server is offered: just what the client has agreed to with us.
fn offer(agreed: &Agreed, told: u16, client_clock: u32) -> Options {
    Options {
        mss: Some(agreed.mss.min(told)),
        window_scale: agreed.scale,
        sack_permitted: agreed.sack,
        timestamps: agreed.timestamps.then_some((client_clock, 0)),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "any Identification will do")]
const fn low16(n: u32) -> u16 {
    n as u16
}

/// Milliseconds: the unit of our timestamps (RFC 7323 5.4).
#[expect(clippy::cast_possible_truncation, reason = "it wraps")]
const fn clock(now: Instant) -> u32 {
    now.as_millis() as u32
}

fn pair_of(ends: &Ends) -> Option<Pair> {
    let (SocketAddr::V4(local), SocketAddr::V4(remote)) = (ends.local, ends.remote) else { return None };
    Some(Pair {
        out4: local.ip().to_bits(),
        out_port: local.port(),
        remote4: remote.ip().to_bits(),
        remote_port: remote.port(),
    })
}

fn pair_of_session(session: &Session<'_>) -> Pair {
    Pair {
        out4: session.out4(),
        out_port: session.out_port(),
        remote4: session.remote4(),
        remote_port: session.remote_port(),
    }
}

const fn key_of(pair: Pair) -> OutsideKey {
    OutsideKey {
        out4: pair.out4,
        remote4: pair.remote4,
        out_port: pair.out_port,
        remote_port: pair.remote_port,
        protocol: PROTO_TCP,
    }
}

/// A SYN-ACK of a server whose connection is spliced: our ACK of it was lost. It gets another one.
fn spliced_syn<S: FrameSource>(
    ctx: &mut Ctx<'_, S>,
    session: &Session<'_>,
    packet: &mut Packet<S::Frame>,
    scratch: &mut Vec<u8>,
) -> Verdict {
    let Ok(segment) = segment::parse(packet.bytes(), packet.meta.ingress) else {
        return Verdict::Drop(DropReason::SplicePeekBad);
    };
    let seen = Seen::of(&segment);
    let options = segment.options();
    let Some(head) = switch::again(session, seen.head) else {
        return Verdict::Drop(DropReason::SpliceChallenged);
    };
    let options =
        Options { timestamps: options.timestamps.map(|(value, echo)| (echo, value)), ..Options::default() };
    answer_in_place(ctx, packet, &seen, head, &options, scratch)
}

/// Writes a segment without data over the packet that it answers.
fn answer_in_place<S: FrameSource>(
    ctx: &Ctx<'_, S>,
    packet: &mut Packet<S::Frame>,
    seen: &Seen,
    head: Head,
    options: &Options,
    octets: &mut Vec<u8>,
) -> Verdict {
    let Some(egress) = way(ctx, seen.ends.remote.ip()) else { return Verdict::Drop(DropReason::NoRoute) };
    side::emit(octets, &seen.ends, head, options, &[], low16(head.seq));
    let have = packet.frame.octets();
    if have < octets.len() {
        if packet.frame.push_back(octets.len() - have).is_err() {
            return Verdict::Drop(DropReason::NoHeadroom);
        }
    } else {
        packet.frame.truncate(octets.len());
    }
    packet.bytes_mut().copy_from_slice(octets);
    packet.meta.hop_done = true;
    Verdict::Forward { egress }
}

fn way<S: FrameSource>(ctx: &Ctx<'_, S>, to: IpAddr) -> Option<Egress> {
    match to {
        IpAddr::V4(a) => ctx.routes.lookup4(a),
        IpAddr::V6(a) => ctx.routes.lookup6(a),
    }
}

fn send_reset(side: &Side, head: Head, mut send: impl FnMut(&[u8])) {
    let mut packet = Vec::new();
    side::emit(&mut packet, &side.ends, head, &Options::default(), &[], low16(head.seq));
    send(&packet);
}

fn send4<S: FrameSource>(ctx: &mut Ctx<'_, S>, to: u32, octets: &[u8]) {
    send(ctx, IpAddr::V4(Ipv4Addr::from_bits(to)), octets);
}

fn send6<S: FrameSource>(ctx: &mut Ctx<'_, S>, to: IpAddr, octets: &[u8]) {
    send(ctx, to, octets);
}

/// Sends a packet that is complete from its network-layer header on.
fn send<S: FrameSource>(ctx: &mut Ctx<'_, S>, to: IpAddr, octets: &[u8]) {
    let Some(egress) = way(ctx, to) else {
        ctx.counters.drop(DropReason::NoRoute);
        return;
    };
    if ctx.outbox.room() == 0 {
        ctx.counters.drop(DropReason::OutboxFull);
        return;
    }
    let Some(mut packet) = ctx.originate() else { return };
    if packet.frame.push_back(octets.len()).is_err() {
        ctx.counters.drop(DropReason::NoHeadroom);
        return;
    }
    packet.bytes_mut().copy_from_slice(octets);
    let four = to.is_ipv4();
    packet.meta.ethertype = if four { ethernet::ETHERTYPE_IPV4 } else { ethernet::ETHERTYPE_IPV6 };
    packet.meta.protocol = PROTO_TCP;
    packet.meta.l4 = if four { 20 } else { 40 };
    ctx.send(packet, egress);
}

#[cfg(test)]
mod tests;
