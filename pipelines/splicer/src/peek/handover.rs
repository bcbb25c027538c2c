//! What servers send: the connection is opened, what is ahead of the splice is acknowledged, and the two connections
//! become one.

use super::connection::{HELD, Phase};
use super::sending::{answer_in_place, send4, send6};
use super::side::{self, Judged};
use super::{Nobody, Peek, Seen, Then, Trigger, at_mut, key_of, pair_of_session, switch};
use crate::splice;
use crate::state::State;
use causeway_core::{Class, Counter, Ctx, DropReason, FrameSource, Packet, Verdict};
use causeway_flowtable::{Guard, InsideKey, Kind, Lookup, OWN_ADDRESS, Session, Tick};
use causeway_tcp::options::Options;
use causeway_tcp::segment::{self, Bad};
use causeway_tcp::{Head, Segment};
use causeway_wire::l4::PROTO_TCP;
use causeway_wire::l4::tcp::{ACK, FIN, RST, SYN};
use std::net::SocketAddr;

impl Peek {
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
            return self.opened(ctx, guard, slot, head, &options);
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
        let no_memory = self.octets + fresh.len() > self.config.limits.octets;
        if c.held_fin || c.held.len() + fresh.len() > HELD || no_memory {
            return Verdict::Drop(DropReason::SpliceNotHeld);
        }
        c.held.reserve_exact(fresh.len());
        c.held.extend_from_slice(fresh);
        c.held_fin = head.has(FIN);
        self.note(slot, now);
        Verdict::Consume
    }

    /// A server's SYN-ACK, which acknowledges our SYN.
    fn opened<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        slot: u32,
        head: Head,
        options: &Options,
    ) -> Verdict {
        let now = ctx.now;
        let Some(c) = at_mut(&mut self.slots, slot) else { return Verdict::Drop(DropReason::SpliceBusy) };
        let Some(server) = c.server.as_mut() else { return Verdict::Drop(DropReason::SpliceNoConnection) };
        // RFC 9293 3.7.1: over IPv6 whoever says nothing takes 1,220.
        let mss = options.mss.filter(|&m| m > 0).unwrap_or(1220);
        server.theirs = Some(head.seq);
        server.acked = head.seq.wrapping_add(1);
        server.timestamps = c.agreed.timestamps && options.timestamps.is_some();
        server.ts_recent = options.timestamps.map_or(0, |(value, _)| value);
        server.ts_first = server.timestamps.then_some(server.ts_recent);
        c.clock = (c.client.ts_value, now);
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
        Verdict::Consume
    }

    /// Everything is acknowledged: the two connections become one.
    pub(super) fn splice<S: FrameSource>(
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
        let clock = c.clock(ctx.now);
        let done = session.is_some_and(|session| switch::engage(c, &session, Tick::at(ctx.now)));
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
