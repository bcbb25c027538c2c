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

mod accepting;
mod connection;
mod cookie;
mod handover;
pub(crate) mod opening;
mod relay;
pub(crate) mod sending;
mod side;
mod switch;

use crate::config::Config;
use crate::hello::Sniffed;
use crate::site::SiteTable;
use arc_swap::ArcSwap;
use causeway_core::{Counter, Ctx, Duration, FrameSource, Instant, TokenBucket};
use causeway_flowtable::{Ctl, Fate, Guard, Lookup, Mapping, OutsideKey, Session, Sweeper, Tick};
use causeway_tcp::{Ends, Head, Segment, Stack, keyed_hash};
use causeway_wire::l4::PROTO_TCP;
use causeway_wire::l4::tcp::{ACK, RST};
use connection::{Connection, Overdue, Phase};
use cookie::{Cookies, Pair};
use opening::offer;
use relay::{backward, forward};
use sending::{send_reset, send4, send6};
use side::{Side, Sockets};
use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
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
        // Who does not want more than before is not to blame.
        let more = self.note(slot, now);
        if more && self.octets > self.config.limits.octets {
            ctx.counters.add(Counter::SpliceOctetsFull, 1);
            self.end(ctx, guard, slot, true, true);
            return Then::Gone;
        }
        Then::Stays
    }

    /// Lets both stacks send.
    fn flush<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, slot: u32) {
        let now = ctx.now;
        let Some(c) = at_mut(&mut self.slots, slot) else { return };
        let (client, clock) = (c.pair.remote4, c.clock(now));
        c.client.flush(&mut self.stack4, None, clock, now, |packet| {
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

    /// Keeps the sums and the order of timers right. True if the connection counts more octets than before.
    fn note(&mut self, slot: u32, now: Instant) -> bool {
        let Some(c) = at_mut(&mut self.slots, slot) else { return false };
        let octets = c.octets();
        let more = octets > c.counted;
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
        more
    }

    fn next_random(&mut self) -> u64 {
        self.random.1 = self.random.1.wrapping_add(1);
        keyed_hash(self.random.0, &self.random.1.to_be_bytes())
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

fn at_mut(slots: &mut [Option<Box<Connection>>], slot: u32) -> Option<&mut Connection> {
    slots.get_mut(usize::try_from(slot).ok()?)?.as_deref_mut()
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

#[cfg(test)]
mod tests;
