//! SYNs from outside that wait for the one from inside (RFC 6146 3.5.2.2), and telling IPv4 senders.

use super::Nat64;
use super::outside::outside_key;
use crate::rfc6052::is_forwardable;
use crate::rfc6146::session;
use crate::rfc6146::syn::{NotStored, Over, may_wait};
use crate::rfc6146::tcp_fsm::Side;
use crate::rfc7915::v4_to_v6::{self, In4};
use crate::rfc7915::{Refusal, Tell, Upper};
use causeway_core::icmp_error::{Error4, Unreachable4};
use causeway_core::{Counter, Ctx, DropReason, Frame, FrameSource, Outbox, Packet, Verdict};
use causeway_flowtable::{Guard, Session, Tick};
use causeway_wire::ipv4::Ipv4Repr;
use causeway_wire::l4::tcp;
use std::net::Ipv4Addr;

/// SYNs whose end one poll sees to.
const PER_POLL: usize = 4;

impl<F: Frame> Nat64<F> {
    /// What becomes of a packet from outside that no mapping, or no filter, lets in: a SYN waits (RFC 6146
    /// 3.5.2.2, RFC 5382 REQ-4).
    pub(super) fn not_let_in(&self, p: &In4, refusal: Refusal) -> Refusal {
        let unwanted = matches!(refusal.reason, DropReason::Nat64NoBib | DropReason::Nat64Filtered);
        let Upper::Tcp { flags } = p.upper else { return refusal };
        if !unwanted || !may_wait(flags) || p.fragment.is_some() {
            return refusal;
        }
        // Nobody inside can open a connection to such an address, or from one that is none of ours: so
        // nothing is waited for, and nobody is answered.
        let (src, dst) = (Ipv4Addr::from_bits(p.src), Ipv4Addr::from_bits(p.dst));
        let reachable = is_forwardable(src) && self.config.prefixes().all().any(|x| x.may_embed(src));
        if !reachable || !self.pool.contains(dst) {
            return refusal;
        }
        if self.pool.syns().waits(&outside_key(p)) {
            return Refusal::silent(DropReason::Nat64SynAgain);
        }
        Refusal::telling(refusal.reason, Tell::Later)
    }

    /// Stores a SYN whose verdict was `Held`.
    pub(super) fn store_syn<S: FrameSource<Frame = F>>(&mut self, ctx: &Ctx<'_, S>, packet: Packet<F>) {
        let mut p = In4::default();
        if v4_to_v6::parse(&packet, &mut p).is_err() {
            ctx.counters.drop(DropReason::Nat64NoBib);
            return;
        }
        let time = self.config.options().timeouts.tcp_incoming_syn;
        match self.syns.store(self.pool.syns(), outside_key(&p), packet, ctx.now, time) {
            Ok(()) => ctx.counters.add(Counter::Nat64SynsStored, 1),
            Err(NotStored::Full) => ctx.counters.drop(DropReason::Nat64SynFull),
            Err(NotStored::Again) => ctx.counters.drop(DropReason::Nat64SynAgain),
        }
    }

    /// A SYN from inside has made this session: if its other half waits, the connection is open on both
    /// sides (RFC 6146 3.5.2.2, V4 INIT).
    pub(super) fn meet_syn<S: FrameSource>(&self, ctx: &Ctx<'_, S>, session: &Session<'_>, tick: Tick) {
        if let Some(key) = session.outside_key()
            && self.pool.syns().met(&key, ctx.now)
        {
            ctx.counters.add(Counter::Nat64SimultaneousOpens, 1);
            session::segment(session, Side::V4, tcp::SYN, tick);
        }
    }

    /// Ends the wait of SYNs whose time is over. Bounded.
    pub(super) fn expire_syns<S: FrameSource<Frame = F>>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>) {
        for _ in 0..PER_POLL {
            if ctx.outbox.room() == 0 {
                return;
            }
            let Some(Over { key, met, packet }) = self.syns.over(self.pool.syns(), ctx.now) else { return };
            // RFC 5382 REQ-4: with a connection from inside it goes silently, however that came about.
            if met || guard.lookup(&key).hit().is_some() {
                ctx.counters.drop(DropReason::Nat64SynMet);
                continue;
            }
            ctx.counters.drop(DropReason::Nat64SynTimeout);
            if self.pool.contains(Ipv4Addr::from_bits(key.out4)) {
                self.tell4(ctx, guard, &packet, Error4::Unreachable(Unreachable4::Port));
            }
        }
    }

    /// Tells the sender of an IPv4 packet what became of it. If that is a host of ours (the packet was
    /// hairpinned), the error turns back to it (RFC 6146 3.8, RFC 5508 REQ-7).
    #[cold]
    pub(super) fn tell4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &Packet<F>,
        error: Error4,
    ) {
        let ours = Ipv4Repr::parse(packet.bytes()).is_ok_and(|ip| self.pool.contains(ip.src));
        if !ours {
            self.errors.send4(ctx, packet, error);
            return;
        }
        let mut outbox = Outbox::new();
        let mut aside = Ctx {
            now: ctx.now,
            worker: ctx.worker,
            workers: ctx.workers,
            counters: ctx.counters,
            outbox: &mut outbox,
            source: &mut *ctx.source,
            events: &mut *ctx.events,
            interfaces: ctx.interfaces,
            routes: ctx.routes,
        };
        self.errors.send4(&mut aside, packet, error);
        for mut error in outbox.drain() {
            let mut verdict = Verdict::Consume;
            match self.slow4(ctx, guard, &mut error, Tick::at(ctx.now), &mut verdict) {
                Ok(()) => {
                    if let Verdict::Forward { egress } = verdict {
                        ctx.counters.add(Counter::Nat64Hairpin, 1);
                        ctx.counters.add(Counter::Nat64V4ToV6, 1);
                        ctx.send(error, egress);
                    }
                }
                Err(refusal) => ctx.counters.drop(refusal.reason),
            }
        }
    }
}
