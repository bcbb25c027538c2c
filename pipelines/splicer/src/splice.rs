//! Splice: a connection whose server is known is one more flow of the table, rewritten packet by packet.
//!
//! ```text
//!  clients: parse all -> look all up -> fetch all lines -> follow, find the way, rewrite
//!  servers: the same the other way
//!             | no such connection, one that is still terminated, a fragment, an ICMP error
//!             v
//!           told as slow: for the peek stage
//! ```
//! - [`engage`]: what the terminating stage says of a connection when it lets go of it.
//! - `rewrite`: one segment. `state`: when a connection is over. `icmp`: errors of routers on the way.
//!
//! The ends judge windows, acknowledgements and resets themselves (RFC 9293 3.10.7.4, RFC 5961): whatever belongs to the
//! connection is passed on, and only what would change how long it is kept has to be plausible.
//!
//! Not handled: fragments, and segments that would have to be cut (nobody sends any who obeys the MSS that he was told:
//! their senders are told, whether or not they forbade to cut them).

pub mod icmp;
pub mod rewrite;
pub mod state;

use crate::config::CLIENT_PREFIX;
use crate::{Config, State};
use arrayvec::ArrayVec;
use causeway_core::icmp_error::{Error4, Error6, IcmpErrors, Unreachable4, Unreachable6};
use causeway_core::{BURST, Counter, Ctx, DropReason, Egress, Frame, FrameSource, IfId, Packet, Verdict};
use causeway_flowtable::prefetch::prefetch_read;
use causeway_flowtable::{Ctl, Guard, InsideKey, Lookup, OWN_ADDRESS, OutsideKey, Session, Spliced, Tick};
use causeway_tcp::Head;
use causeway_wire::l4::tcp;
use causeway_wire::{checksum, ipv6};
pub use rewrite::Side;
use rewrite::{Not, Segment, Shift, options};
use state::Event;
pub use state::Expiry;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How far a segment that closes or resets a connection, or that an ICMP error is about, may be from the highest that
/// was seen, in sequence numbers: beyond any window in use, and far less than all.
const PLAUSIBLE: u32 = 1 << 27;
/// How far the highest sequence number that is noted may be behind the one that was seen: noting every one would make
/// every packet write.
const NOTED_EVERY: u32 = 1 << 24;
/// What is known of a link of no interface.
const UNKNOWN_MTU: u16 = ipv6::MIN_MTU as u16;

/// A connection's numbers, as it stands when both ends are stitched together. Sequence numbers and timestamps are each
/// end's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Constants {
    /// The client's initial sequence number.
    pub client_isn: u32,
    /// The server's.
    pub server_isn: u32,
    /// Added to the client's sequence numbers towards the server, modulo 2^32.
    pub client_seq_delta: u32,
    /// Added to the server's towards the client.
    pub server_seq_delta: u32,
    /// The client's next sequence number, as far as is known.
    pub client_seq_end: u32,
    /// The server's.
    pub server_seq_end: u32,
    /// Timestamps are in use on both connections (RFC 7323 3).
    pub timestamps: bool,
    /// Added to the client's timestamps towards the server.
    pub client_ts_delta: u32,
    /// Added to the server's towards the client.
    pub server_ts_delta: u32,
    /// Selective acknowledgements were agreed to with the client (RFC 2018).
    pub client_sack: bool,
    /// And with the server. Where only the client may send them, they are blanked.
    pub server_sack: bool,
    /// Window scales (RFC 7323 2.2); all 0 unless both ends of a connection announced one.
    pub scales: Scales,
    /// Who has closed its half already: [`State::Open`], [`State::ClientFin`], [`State::ServerFin`] or
    /// [`State::BothFin`].
    pub closed: Closed,
}

/// Window scales of both connections, each 0 to 14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scales {
    /// The client's own.
    pub client: u8,
    /// What we announced to the client.
    pub to_client: u8,
    /// The server's own.
    pub server: u8,
    /// What we announced to the server.
    pub to_server: u8,
}

/// Who has closed its half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Closed {
    /// The client's FIN was passed on.
    pub client: bool,
    /// The server's was.
    pub server: bool,
}

impl Closed {
    /// The state of a connection whose ends have closed so far.
    #[must_use]
    pub const fn state(self) -> State {
        match (self.client, self.server) {
            (false, false) => State::Open,
            (true, false) => State::ClientFin,
            (false, true) => State::ServerFin,
            (true, true) => State::BothFin,
        }
    }
}

/// Writes what is known of a connection into the line that [`Guard::add_inside`] gave it, and lets every worker
/// rewrite its segments from now on. False if the session has ended or has no line: nothing has changed then.
pub fn engage(session: &Session<'_>, constants: &Constants, tick: Tick) -> bool {
    let Some(line) = session.spliced() else { return false };
    let c = constants;
    let set = |to: &AtomicU32, n: u32| to.store(n, Ordering::Relaxed);
    line.isn.store(u64::from(c.client_isn) << 32 | u64::from(c.server_isn), Ordering::Relaxed);
    set(&line.client_seq_delta, c.client_seq_delta);
    set(&line.server_seq_delta, c.server_seq_delta);
    set(&line.client_ts_delta, c.client_ts_delta);
    set(&line.server_ts_delta, c.server_ts_delta);
    set(&line.client_seq_end, c.client_seq_end);
    set(&line.server_seq_end, c.server_seq_end);
    let s = c.scales;
    set(&line.window_scales, u32::from_le_bytes([s.client, s.to_client, s.server, s.to_server]));
    let sack = match (c.client_sack, c.server_sack) {
        (true, true) => options::SACK,
        (true, false) => options::SACK_BLANK,
        (false, _) => 0,
    };
    let stamps = if c.timestamps { options::TIMESTAMPS } else { 0 };
    set(&line.state, u32::from_le_bytes([0, sack | stamps, 0, 0]));
    let state = c.closed.state();
    let open = |ctl: Ctl| {
        let ctl = ctl.with_state(state as u8).with_flags(state::flags_of(state));
        Some(ctl.with_last_seen(tick))
    };
    session.transition(open).is_some()
}

/// The four ends of a spliced connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client, and its port.
    pub client: (Ipv4Addr, u16),
    /// The listener, and its port.
    pub listener: (Ipv4Addr, u16),
    /// The server, and its port.
    pub server: (Ipv6Addr, u16),
    /// Where we reach the server from, and the port.
    pub own: (Ipv6Addr, u16),
}

impl Ends {
    /// What a checksum gains when addresses and ports towards us give way to those towards the client: the
    /// `checksum_delta` of [`Guard::add_inside`].
    #[must_use]
    pub fn checksum_delta(&self) -> u16 {
        let ports = |a: u16, b: u16| u64::from(a) + u64::from(b);
        let addrs4 = u64::from(self.client.0.to_bits()) + u64::from(self.listener.0.to_bits());
        let inside =
            checksum::sum6(self.server.0) + checksum::sum6(self.own.0) + ports(self.server.1, self.own.1);
        checksum::delta(inside, addrs4 + ports(self.client.1, self.listener.1))
    }
}

/// The address that a connection's server is reached from, by its number in the inside key
/// ([`InsideKey::prefix`]) and its client.
#[must_use]
pub fn own_address(config: &Config, prefix: u8, client: u32) -> Option<u128> {
    if let Some(n) = prefix.checked_sub(OWN_ADDRESS) {
        return config.sources.get(usize::from(n)).copied().flatten().map(Ipv6Addr::to_bits);
    }
    let n = usize::from(prefix.checked_sub(CLIENT_PREFIX)?);
    let prefix = config.client_prefixes.get(n).copied().flatten()?;
    Some(prefix.address().to_bits() | u128::from(client))
}

/// Which number, and which client, an address stands for that servers send to: `prefix` and `dst4` of the inside key.
#[must_use]
pub fn number_of(config: &Config, own: Ipv6Addr) -> Option<(u8, u32)> {
    let number = |base: u8, n: usize| u8::try_from(n).ok().and_then(|n| base.checked_add(n));
    if let Some(n) = config.sources.iter().position(|s| *s == Some(own)) {
        return Some((number(OWN_ADDRESS, n)?, 0));
    }
    let n = config.client_prefixes.iter().position(|p| p.is_some_and(|p| p.contains(own)))?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "RFC 6052 2.2: a prefix of 96 bits has the address in the last 32"
    )]
    Some((number(CLIENT_PREFIX, n)?, own.to_bits() as u32))
}

/// Why a segment is not rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// It is for the peek stage.
    Slow,
    /// It is dropped.
    Drop(DropReason),
    /// It is dropped and its sender told.
    Tell(DropReason, Tell),
    /// It is dropped, and the client asked whether the connection is really over (RFC 5961 4.2).
    Challenge(Head),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tell {
    TooBig { mtu: u16 },
    NoRoute,
    HopLimit,
}

impl From<DropReason> for Stop {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

impl From<Not> for Stop {
    fn from(not: Not) -> Self {
        match not {
            Not::Ours => Self::Slow,
            Not::Good(reason) => Self::Drop(reason),
        }
    }
}

/// The splice of one worker.
#[derive(Debug)]
pub struct Splice {
    config: Arc<Config>,
    errors: IcmpErrors,
    /// Identification of the next IPv4 packet that may be fragmented.
    id: u16,
    scratch: icmp::Scratch,
    /// Packets of the last burst that have no session, by their bits.
    missed: u64,
}

const NO_OUTSIDE: OutsideKey = OutsideKey { out4: 0, remote4: 0, out_port: 0, remote_port: 0, protocol: 0 };
const NO_INSIDE: InsideKey =
    InsideKey { src6: 0, dst4: 0, src_port: 0, dst_port: 0, protocol: 0, prefix: OWN_ADDRESS };

impl Splice {
    /// For one worker. `errors` makes what senders of too large packets are told; `id` is where the Identifications
    /// of IPv4 packets begin, best another one for each worker.
    #[must_use]
    pub const fn new(config: Arc<Config>, errors: IcmpErrors, id: u16) -> Self {
        Self { config, errors, id, scratch: [0; icmp::SCRATCH], missed: 0 }
    }

    /// Goes on by another plan: a [`Config::successor`] of the one before.
    pub fn set_config(&mut self, config: Arc<Config>) {
        self.config = config;
    }

    /// The configuration that counts now.
    #[must_use]
    pub const fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Rewrites segments from clients. What is none of a spliced connection (no session, one that is terminated or
    /// just being built, a SYN behind the end of the last connection, a fragment, another protocol) is named in
    /// `slow`, in order, with its verdict untouched.
    pub fn clients<F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<F>],
        verdicts: &mut [Verdict],
        slow: &mut ArrayVec<u8, BURST>,
    ) {
        let mut segments = [Segment::default(); BURST];
        let mut keys = [NO_OUTSIDE; BURST];
        let mut fast: ArrayVec<u8, BURST> = ArrayVec::new();
        for (at, (packet, verdict)) in (0u8..).zip(packets.iter().zip(&mut *verdicts)).take(BURST) {
            let (Some(p), Some(key)) = (segments.get_mut(fast.len()), keys.get_mut(fast.len())) else {
                break;
            };
            match rewrite::parse4(packet, p) {
                Ok(()) => {
                    *key = p.outside();
                    fast.push(at);
                    continue;
                }
                Err(not) => self.stop(ctx, packet, not.into(), verdict, slow, at),
            }
            *p = Segment::default();
        }
        let mut found = [Lookup::Miss; BURST];
        guard.lookup_outside(&keys[..fast.len()], &mut found);
        self.burst(ctx, guard, Side::Client, (&segments, &found, &fast), packets, verdicts, slow);
    }

    /// True if packet `at` of the last burst had no session at all.
    #[must_use]
    pub const fn has_missed(&self, at: u8) -> bool {
        self.missed >> at & 1 != 0
    }

    /// Rewrites segments from servers, as [`Splice::clients`] does.
    pub fn servers<F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<F>],
        verdicts: &mut [Verdict],
        slow: &mut ArrayVec<u8, BURST>,
    ) {
        let mut segments = [Segment::default(); BURST];
        let mut keys = [NO_INSIDE; BURST];
        let mut fast: ArrayVec<u8, BURST> = ArrayVec::new();
        // The last address, which the next packet is most likely to as well.
        let mut last: (u128, Option<(u8, u32)>) = (0, None);
        for (at, (packet, verdict)) in (0u8..).zip(packets.iter().zip(&mut *verdicts)).take(BURST) {
            let (Some(p), Some(key)) = (segments.get_mut(fast.len()), keys.get_mut(fast.len())) else {
                break;
            };
            let stop = match rewrite::parse6(packet, p) {
                Ok(()) => {
                    if p.dst != last.0 {
                        last = (p.dst, number_of(&self.config, Ipv6Addr::from_bits(p.dst)));
                    }
                    if let Some(number) = last.1 {
                        *key = p.inside(number);
                        fast.push(at);
                        continue;
                    }
                    Stop::Slow
                }
                Err(not) => not.into(),
            };
            self.stop(ctx, packet, stop, verdict, slow, at);
            *p = Segment::default();
        }
        let mut found = [Lookup::Miss; BURST];
        guard.lookup_inside(&keys[..fast.len()], &mut found);
        self.burst(ctx, guard, Side::Server, (&segments, &found, &fast), packets, verdicts, slow);
    }

    /// What was looked up: rewritten, or slow.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "a burst, its parts and what a stage may use")]
    fn burst<F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        side: Side,
        (segments, found, fast): (&[Segment; BURST], &[Lookup<Session<'_>>; BURST], &ArrayVec<u8, BURST>),
        packets: &mut [Packet<F>],
        verdicts: &mut [Verdict],
        slow: &mut ArrayVec<u8, BURST>,
    ) {
        self.missed = 0;
        for line in found.iter().filter_map(|f| f.hit()).filter_map(|s| s.spliced()) {
            prefetch_read(line);
        }
        let tick = Tick::at(ctx.now);
        let mut done = 0;
        for ((at, p), found) in fast.iter().zip(segments).zip(found) {
            let i = usize::from(*at);
            let (Some(packet), Some(verdict)) = (packets.get_mut(i), verdicts.get_mut(i)) else { continue };
            let result = match found {
                Lookup::Hit(s) => self.one(ctx, guard, side, s, packet, p, tick),
                Lookup::Building => Err(Stop::Slow),
                Lookup::Miss => {
                    self.missed |= 1 << at;
                    Err(Stop::Slow)
                }
            };
            match result {
                Ok(egress) => {
                    *verdict = Verdict::Forward { egress };
                    done += 1;
                }
                Err(stop) => self.stop(ctx, packet, stop, verdict, slow, *at),
            }
        }
        if done != 0 {
            let counter =
                if side == Side::Client { Counter::SpliceToServers } else { Counter::SpliceToClients };
            ctx.counters.add(counter, done);
        }
        // In the order of the burst, whichever way they were found.
        slow.sort_unstable();
    }

    /// Rewrites one segment of a client, whose session was found. [`Verdict::Consume`] if it is none of a spliced
    /// connection (any more): nothing has changed then.
    pub fn one_client<F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        session: &Session<'_>,
        packet: &mut Packet<F>,
    ) -> Verdict {
        let mut p = Segment::default();
        let parsed = rewrite::parse4(packet, &mut p);
        self.single(ctx, guard, Side::Client, session, packet, parsed.map(|()| p))
    }

    /// The same with a segment of a server.
    pub fn one_server<F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        session: &Session<'_>,
        packet: &mut Packet<F>,
    ) -> Verdict {
        let mut p = Segment::default();
        let parsed = rewrite::parse6(packet, &mut p);
        self.single(ctx, guard, Side::Server, session, packet, parsed.map(|()| p))
    }

    fn single<F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        side: Side,
        session: &Session<'_>,
        packet: &mut Packet<F>,
        parsed: Result<Segment, Not>,
    ) -> Verdict {
        let tick = Tick::at(ctx.now);
        let result =
            parsed.map_err(Stop::from).and_then(|p| self.one(ctx, guard, side, session, packet, &p, tick));
        match result {
            Ok(egress) => {
                let counter =
                    if side == Side::Client { Counter::SpliceToServers } else { Counter::SpliceToClients };
                ctx.counters.add(counter, 1);
                Verdict::Forward { egress }
            }
            Err(stop) => {
                let mut verdict = Verdict::Consume;
                self.stop(ctx, packet, stop, &mut verdict, &mut ArrayVec::new(), 0);
                verdict
            }
        }
    }

    /// Follows the connection, finds the way, and rewrites.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "a packet, its parts and what a stage may use")]
    fn one<F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        side: Side,
        session: &Session<'_>,
        packet: &mut Packet<F>,
        p: &Segment,
        tick: Tick,
    ) -> Result<Egress, Stop> {
        // The state first: it says that the line is there, and all of it.
        let ctl = session.ctl();
        if ctl.state() == State::Peek as u8 {
            return Err(Stop::Slow);
        }
        let line = session.spliced().ok_or(Stop::Slow)?;
        let event = Event::of(side, p.flags);
        let event = if event == Event::Other {
            event
        } else {
            self.special(ctx, guard, session, line, side, p, event)?
        };
        if !state::follow(session, ctl, event, tick) {
            return Err(Stop::Slow);
        }
        note(line, side, p.seq);
        if p.hops <= 1 && !packet.meta.hop_done {
            return Err(Stop::Tell(DropReason::HopLimit, Tell::HopLimit));
        }
        let own = own_address(&self.config, session.prefix(), session.remote4());
        let own = own.ok_or(DropReason::SpliceSourceGone)?;
        let shift = Shift::of(line, side);
        let upper = packet.frame.octets() - p.l4;
        let delta = session.checksum_delta();
        match side {
            Side::Client => {
                let server = session.src6();
                let egress = ctx.routes.lookup6(Ipv6Addr::from_bits(server));
                let egress = egress.ok_or(Stop::Tell(DropReason::NoRoute, Tell::NoRoute))?;
                let mtu = mtu_of(ctx, egress.interface());
                if upper + ipv6::HEADER > usize::from(mtu) {
                    // RFC 7915 4: what would have fit, with the smaller header.
                    return Err(Stop::Tell(DropReason::SpliceTooBig, Tell::TooBig { mtu: mtu - 20 }));
                }
                let ports = (session.dst_port(), session.src_port());
                let b = packet.frame.bytes_mut().get_mut(p.l4..).ok_or(DropReason::SpliceBadSegment)?;
                shift.apply(b, p.header, ports, !delta)?;
                rewrite::to_ipv6(packet, p, own, server)?;
                Ok(egress)
            }
            Side::Server => {
                let client = session.remote4();
                let egress = ctx.routes.lookup4(Ipv4Addr::from_bits(client));
                let egress = egress.ok_or(Stop::Tell(DropReason::NoRoute, Tell::NoRoute))?;
                let mtu = mtu_of(ctx, egress.interface());
                if upper + 20 > usize::from(mtu) {
                    return Err(Stop::Tell(
                        DropReason::SpliceTooBig,
                        Tell::TooBig { mtu: mtu.saturating_add(20) },
                    ));
                }
                let ports = (session.out_port(), session.remote_port());
                let b = packet.frame.bytes_mut().get_mut(p.l4..).ok_or(DropReason::SpliceBadSegment)?;
                shift.apply(b, p.header, ports, delta)?;
                self.id = self.id.wrapping_add(1);
                rewrite::to_ipv4(packet, p, session.out4(), client, self.id)?;
                Ok(egress)
            }
        }
    }

    /// A SYN, RST or FIN: what it is to the connection.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "a packet, its parts and what a stage may use")]
    fn special<S: FrameSource>(
        &self,
        ctx: &Ctx<'_, S>,
        guard: &Guard<'_>,
        session: &Session<'_>,
        line: &Spliced,
        side: Side,
        p: &Segment,
        event: Event,
    ) -> Result<Event, Stop> {
        let state = State::from_u8(session.ctl().state());
        if event == Event::Syn {
            // RFC 9293 3.6.1: the same client may open the next connection once this one is over. One with the same
            // number is an old one that comes late.
            let isn = (line.isn.load(Ordering::Relaxed) >> 32) as u32;
            let over = matches!(state, State::BothFin | State::Reset);
            if over && side == Side::Client && p.flags & tcp::ACK == 0 && p.seq != isn {
                if state == State::Reset && !state::is_confirmed(session.ctl().flags()) {
                    return Err(Stop::Challenge(challenge(line)));
                }
                guard.end(session, &mut Expiry::reused(&self.config, ctx.counters));
                return Err(Stop::Slow);
            }
            // RFC 5961 4: else the other end answers it, and the one who has forgotten the connection resets it.
            return Ok(event);
        }
        if event == Event::Rst && side == Side::Client && p.seq == challenge(line).ack {
            return Ok(Event::Confirmed);
        }
        let seen = seq_end(line, side).load(Ordering::Relaxed);
        if plausible(p.seq, seen) {
            // Nobody but a server sends from its address; as a client, anybody may.
            let surely = event == Event::Rst && side == Side::Server;
            return Ok(if surely { Event::Confirmed } else { event });
        }
        if event == Event::Rst {
            ctx.counters.add(Counter::SpliceResetsDoubted, 1);
            // As if it were not there, for the state.
            return Ok(Event::Syn);
        }
        Ok(Event::Other)
    }

    /// The verdict for a packet that is not rewritten.
    #[cold]
    #[inline(never)]
    fn stop<F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &Packet<F>,
        stop: Stop,
        verdict: &mut Verdict,
        slow: &mut ArrayVec<u8, BURST>,
        at: u8,
    ) {
        let (reason, tell) = match stop {
            // There is room: each packet of a burst is named once.
            Stop::Slow => {
                let named = slow.try_push(at);
                debug_assert!(named.is_ok());
                return;
            }
            Stop::Drop(reason) => (reason, None),
            Stop::Tell(reason, tell) => (reason, Some(tell)),
            Stop::Challenge(head) => {
                crate::peek::sending::answer_client(ctx, packet, head);
                (DropReason::SpliceChallenged, None)
            }
        };
        *verdict = Verdict::Drop(reason);
        let Some(tell) = tell else { return };
        if packet.bytes().first().is_some_and(|b| b >> 4 == 4) {
            let error = match tell {
                Tell::TooBig { mtu } => Error4::Unreachable(Unreachable4::FragmentationNeeded { mtu }),
                Tell::NoRoute => Error4::Unreachable(Unreachable4::Host),
                Tell::HopLimit => Error4::TtlExceeded,
            };
            self.errors.send4(ctx, packet, error);
        } else {
            let error = match tell {
                Tell::TooBig { mtu } => Error6::PacketTooBig { mtu: u32::from(mtu).max(1280) },
                Tell::NoRoute => Error6::Unreachable(Unreachable6::NoRoute),
                Tell::HopLimit => Error6::HopLimitExceeded,
            };
            self.errors.send6(ctx, packet, error);
        }
    }
}

/// The segment that a client is asked with whether it has really forgotten a connection that was reset: whoever has,
/// resets it with the number that this acknowledges (RFC 9293 3.10.7.3). Strangers cannot guess that number, which is
/// made of both initial sequence numbers; the client that is still there takes the segment for a probe.
fn challenge(line: &Spliced) -> Head {
    let isn = line.isn.load(Ordering::Relaxed);
    #[expect(clippy::cast_possible_truncation, reason = "the low half, and the high half")]
    let ack = (isn as u32) ^ ((isn >> 32) as u32).rotate_left(16);
    let end = line.server_seq_end.load(Ordering::Relaxed);
    let seq = end.wrapping_add(line.server_seq_delta.load(Ordering::Relaxed));
    Head { seq, ack, flags: tcp::ACK, window: 0 }
}

/// The MTU of an interface.
#[inline(always)]
fn mtu_of<S: FrameSource>(ctx: &Ctx<'_, S>, interface: IfId) -> u16 {
    ctx.interfaces.get(interface).map_or(UNKNOWN_MTU, |i| i.mtu)
}

/// Where the highest sequence number of one end is noted.
#[inline(always)]
const fn seq_end(line: &Spliced, side: Side) -> &AtomicU32 {
    match side {
        Side::Client => &line.client_seq_end,
        Side::Server => &line.server_seq_end,
    }
}

/// Notes how far an end has come, now and then.
#[inline(always)]
fn note(line: &Spliced, side: Side, seq: u32) {
    let end = seq_end(line, side);
    let ahead = seq.wrapping_sub(end.load(Ordering::Relaxed));
    if ahead.wrapping_sub(NOTED_EVERY) < PLAUSIBLE - NOTED_EVERY {
        end.store(seq, Ordering::Relaxed);
    }
}

/// True if an end may have sent this, which is known to have come as far as `seen`.
#[inline(always)]
const fn plausible(seq: u32, seen: u32) -> bool {
    seq.wrapping_sub(seen).cast_signed().unsigned_abs() <= PLAUSIBLE
}

#[cfg(test)]
mod tests;
