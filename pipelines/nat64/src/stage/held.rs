//! Fragments that wait for the first of their packet, and what happens when it is there.

use super::Nat64;
use crate::rfc6146::fragments::{Key, mapped};
use crate::rfc7915::Refusal;
use causeway_core::{Class, Counter, Ctx, DropReason, Frame, FrameSource, Packet, Verdict};
use causeway_flowtable::{Guard, Tick};
use causeway_wire::ethernet;

/// Frames that one waiting fragment may become: itself, and what it is cut into.
const FRAMES_EACH: usize = 8;

impl<F: Frame> Nat64<F> {
    /// Takes a packet whose verdict was `Held`: a fragment that overtook the first of its packet, or a SYN
    /// from outside that waits for the one from inside.
    pub fn hold<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: Packet<F>,
    ) {
        let Some((key, first)) = key_of(&packet) else {
            self.store_syn(ctx, packet);
            return;
        };
        match self.fragments.hold(&key, first, packet, ctx.now) {
            Ok(None) => {}
            Ok(Some(place)) => self.release(ctx, guard, place),
            Err(_) => ctx.counters.drop(DropReason::Nat64Fragment),
        }
    }

    /// What has to be done once a poll besides the sweep: the rest of ports ends, waiting fragments and SYNs
    /// time out, static mappings are made, and a release that found no room goes on. Bounded.
    pub fn poll<S: FrameSource<Frame = F>>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>) {
        self.pool.tick(ctx.now);
        // Each turn empties a list, or the outbox has no more room.
        while ctx.outbox.room() >= FRAMES_EACH
            && let Some(place) = self.fragments.take_put_off()
        {
            self.release(ctx, guard, place);
        }
        self.fragments.expire(ctx.now, ctx.counters);
        self.expire_syns(ctx, guard);
        if guard.worker() == 0 && !self.keeper.is_idle() {
            let mut keeper = self.keeper;
            keeper.keep(guard, &mut self.expiry(guard, ctx.counters, ctx.now));
            self.keeper = keeper;
        }
    }

    /// Sends what waits of a packet whose session is known, or can be found now.
    pub(super) fn release<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        place: usize,
    ) {
        let tick = Tick::at(ctx.now);
        loop {
            if ctx.outbox.room() < FRAMES_EACH {
                self.fragments.put_off(place);
                return;
            }
            let Some((mut packet, next)) = self.fragments.take(place) else { return };
            let mut verdict = Verdict::Consume;
            let six = packet.meta.ethertype == ethernet::ETHERTYPE_IPV6;
            let mut result = if six {
                self.released6(ctx, guard, &mut packet, place, next, tick, &mut verdict)
            } else {
                self.released4(ctx, guard, &mut packet, place, next, tick, &mut verdict)
            };
            if result.is_ok() {
                ctx.counters.add(if six { Counter::Nat64V6ToV4 } else { Counter::Nat64V4ToV6 }, 1);
            }
            // RFC 6146 3.8: to another host behind us; here, because the outbox leads out only.
            if result.is_ok() && verdict == Verdict::Again(Class::Nat64Out) {
                result = self.slow4(ctx, guard, &mut packet, tick, &mut verdict);
                if result.is_ok() && verdict != Verdict::Held {
                    ctx.counters.add(Counter::Nat64V4ToV6, 1);
                }
            }
            match (result, verdict) {
                (Ok(()), Verdict::Forward { egress }) => ctx.send(packet, egress),
                (Ok(()), Verdict::Held) => self.hold_again(ctx, packet),
                (Ok(()), _) => ctx.counters.drop(DropReason::Nat64Fragment),
                (Err(refusal), _) => self.refuse_released(ctx, guard, &packet, refusal, six),
            }
        }
    }

    /// A hairpinned fragment waits once more, now as IPv4. Its own first is behind it in the same list, so
    /// its release is that one's doing.
    fn hold_again<S: FrameSource<Frame = F>>(&mut self, ctx: &mut Ctx<'_, S>, packet: Packet<F>) {
        let held = match key_of(&packet) {
            Some((key, first)) => self.fragments.hold(&key, first, packet, ctx.now).ok(),
            None => None,
        };
        match held {
            Some(None) => {}
            Some(Some(place)) => self.fragments.put_off(place),
            None => ctx.counters.drop(DropReason::Nat64Fragment),
        }
    }

    fn refuse_released<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &Packet<F>,
        refusal: Refusal,
        six: bool,
    ) {
        let mut verdict = Verdict::Consume;
        if six {
            self.refuse6(ctx, packet, refusal, &mut verdict);
        } else {
            self.refuse4(ctx, guard, packet, refusal, &mut verdict);
        }
        // Nobody else sees this verdict.
        if let Verdict::Drop(reason) = verdict {
            ctx.counters.drop(reason);
        }
    }
}

/// The key of a fragment, and whether it is the first of its packet. It was parsed before.
fn key_of<F: Frame>(packet: &Packet<F>) -> Option<(Key, bool)> {
    use crate::rfc7915::{v4_to_v6, v6_to_v4};
    if packet.meta.ethertype == ethernet::ETHERTYPE_IPV6 {
        let mut p = v6_to_v4::In6::default();
        v6_to_v4::parse(packet, &mut p).ok()?;
        let f = p.fragment?;
        Some((Key { src: p.src, dst: p.dst, id: f.id, protocol: p.protocol }, f.offset == 0))
    } else {
        let mut p = v4_to_v6::In4::default();
        v4_to_v6::parse(packet, &mut p).ok()?;
        let f = p.fragment?;
        Some((Key { src: mapped(p.src), dst: mapped(p.dst), id: f.id, protocol: p.protocol }, f.offset == 0))
    }
}
