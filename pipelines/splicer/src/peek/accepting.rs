//! What clients send: SYNs are answered with cookies, what acknowledges one opens a connection.

use super::connection::{Connection, Phase, Queue, RESERVED};
use super::cookie::{Agreed, Pair};
use super::sending::{answer_syn, send4};
use super::side::{self, Judged, Side, Sockets};
use super::{BUCKETS, HEADERS6, MTU_EVERY, Nobody, Peek, Seen, at_mut, clock, key_of, pair_of};
use crate::config::Listener;
use crate::hello::Sniffer;
use crate::state::State;
use causeway_core::{Class, Counter, Ctx, DropReason, FrameSource, Instant, Packet, Verdict};
use causeway_flowtable::{CreateError, Created, Guard, Kind, Lookup, NewKey, NewSession, Tick};
use causeway_tcp::options::Options;
use causeway_tcp::segment::{self, Bad};
use causeway_tcp::{Head, Segment, keyed_hash};
use causeway_wire::l4::tcp::{ACK, RST, SYN};
use std::net::Ipv4Addr;
use std::sync::Arc;

impl Peek {
    /// Handles a TCP segment from IPv4 that no spliced connection takes. What the packet is answered with may be in its
    /// own frame. `new` says that there was no session for it just now: a SYN need not look again.
    pub fn client<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<S::Frame>,
        new: bool,
    ) -> Verdict {
        let (pair, seen, result) = {
            let segment = match segment::parse(packet.bytes(), packet.meta.ingress) {
                Ok(segment) => segment,
                Err(Bad::Malformed) => return Verdict::Drop(DropReason::SplicePeekBad),
                Err(Bad::Checksum) => return Verdict::Drop(DropReason::SplicePeekChecksum),
                Err(Bad::Fragment) => return Verdict::Again(Class::Nat64Out),
            };
            let Some(pair) = pair_of(&segment.ends) else { return Verdict::Drop(DropReason::SplicePeekBad) };
            let again = packet.meta.again;
            let syn = segment.head.has(SYN) && !segment.head.has(ACK);
            let found = if new && syn { Lookup::Miss } else { guard.lookup(&key_of(pair)) };
            match found {
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
            (pair, Seen::of(&segment), self.stray(ctx, guard, pair, &segment))
        };
        match result {
            Ok(verdict) => verdict,
            Err(Stray::Cookie(head, options)) => {
                ctx.counters.add(Counter::SpliceCookies, 1);
                answer_syn(ctx, packet, pair, head, &options)
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
        let head = segment.head;
        let (address, port) = (Ipv4Addr::from_bits(pair.out4), pair.out_port);
        if self.config.listener(address, port).is_none() {
            return Ok(Verdict::Again(Class::Nat64Out));
        }
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
        if opens {
            return Err(self.cookie(ctx, pair, segment));
        }
        let config = Arc::clone(&self.config);
        match config.listener(address, port) {
            Some(listener) => self.accept(ctx, guard, pair, segment, listener),
            None => Ok(Verdict::Again(Class::Nat64Out)),
        }
    }

    /// A SYN is answered with a cookie.
    fn cookie<S: FrameSource>(&mut self, ctx: &Ctx<'_, S>, pair: Pair, segment: &Segment<'_>) -> Stray {
        let (head, options, config) = (segment.head, segment.options(), &self.config.tcp);
        let agreed = Agreed {
            // RFC 9293 3.7.1: whoever says nothing takes 536.
            mss: options.mss.filter(|&m| m > 0).unwrap_or(536),
            scale: options.window_scale,
            sack: config.sack && options.sack_permitted,
            timestamps: config.timestamps && options.timestamps.is_some(),
        };
        let scale = agreed.scale.map(|_| config.window_scale.min(14));
        let (seq, offset) = self.cookies.make(pair, head.seq, agreed, ctx.now);
        let clock = clock(ctx.now).wrapping_add(offset);
        let options = Options {
            mss: Some(self.told(ctx)),
            window_scale: scale,
            sack_permitted: agreed.sack,
            timestamps: options.timestamps.filter(|_| agreed.timestamps).map(|(value, _)| (clock, value)),
        };
        let window = u16::try_from(side::RECEIVE).unwrap_or(u16::MAX);
        Stray::Cookie(Head { seq, ack: head.seq.wrapping_add(1), flags: SYN | ACK, window }, options)
    }

    /// A segment that may acknowledge a cookie: then it opens a connection.
    fn accept<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        pair: Pair,
        segment: &Segment<'_>,
        listener: &Listener,
    ) -> Result<Verdict, Stray> {
        let (head, ends) = (segment.head, segment.ends);
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
            client.scale_out = self.config.tcp.window_scale.min(14);
        }
        let options = segment.options();
        client.timestamps = agreed.timestamps;
        if agreed.timestamps {
            let Some((value, echo)) = options.timestamps else {
                self.keep(client.sockets);
                return Ok(Verdict::Drop(DropReason::SpliceOldTimestamp));
            };
            client.ts_recent = value;
            // Of the SYN-ACK.
            client.ts_value = echo;
        }
        let clock = (client.ts_value, ctx.now);
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
            sniffer: Sniffer::new(listener.tls, listener.http, &self.config.limits),
            clock,
            told: self.told(ctx),
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
            || self.octets + RESERVED > limits.octets
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

    pub(super) fn make_session<S: FrameSource>(
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
                let clock = c.clock(ctx.now);
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
}

/// What a segment of no connection is answered with.
#[derive(Debug)]
enum Stray {
    Cookie(Head, Options),
    Reset(DropReason),
}
