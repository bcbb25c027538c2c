//! From IPv6 to IPv4: sessions from inside (RFC 6146 3.5), and the way out.

use super::{Ends, Nat64, Undo, create_failed, mtu_of, new_session, replace, table_protocol};
use crate::log::LogEvent;
use crate::rfc6052::is_forwardable;
use crate::rfc6146::bib::{self, Ahead, Wanted};
use crate::rfc6146::fragments::{Key, Next, Peer};
use crate::rfc6146::session;
use crate::rfc6146::tcp_fsm::{Event, Side, State};
use crate::rfc7915::v6_to_v4::{self, In6, To4};
use crate::rfc7915::{DfPolicy, Frag, Refusal, Tell, Upper, icmp};
use arrayvec::ArrayVec;
use causeway_core::icmp_error::{Error6, Unreachable6};
use causeway_core::{BURST, Class, Counter, Ctx, DropReason, Frame, FrameSource, Packet, Verdict};
use causeway_flowtable::{Created, Guard, InsideKey, Lookup, Reserved, Session, Tick};
use causeway_wire::checksum;
use causeway_wire::l4::PROTO_TCP;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An IPv6 packet on its way through the stage.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work6 {
    pub(super) p: In6,
    /// The destination under the prefix, and the prefix's number.
    dst4: u32,
    prefix: u8,
    /// Its place in the vector.
    at: u8,
}

/// What the flow looks like from IPv4.
#[derive(Debug, Clone, Copy)]
struct Out {
    out4: u32,
    out_port: u16,
    delta: u16,
}

impl Out {
    #[inline(always)]
    fn of(s: &Session<'_>) -> Self {
        Self { out4: s.out4(), out_port: s.out_port(), delta: s.checksum_delta() }
    }
}

/// What a packet without session may do.
#[derive(Debug, Clone, Copy)]
enum Admitted {
    /// Open one, in this state.
    Session { state: u8 },
    /// Go through the mapping that there is, without one.
    Stray,
}

/// A packet without session on its way to one.
struct Opening<'g> {
    w: &'g Work6,
    admitted: Result<Admitted, Refusal>,
    ahead: Ahead<'g>,
}

impl Opening<'_> {
    const fn opens(&self) -> bool {
        matches!(self.admitted, Ok(Admitted::Session { .. }))
    }
}

/// How many packets before its turn a session is prepared for: enough to cover the misses with work on
/// others.
const AHEAD: usize = 8;

#[inline(always)]
const fn key_of(w: &Work6) -> InsideKey {
    InsideKey {
        src6: w.p.src,
        dst4: w.dst4,
        src_port: w.p.src_port,
        dst_port: w.p.dst_port,
        protocol: table_protocol(w.p.protocol),
        prefix: w.prefix,
    }
}

const NO_KEY: InsideKey = InsideKey { src6: 0, dst4: 0, src_port: 0, dst_port: 0, protocol: 0, prefix: 0 };

impl<F: Frame> Nat64<F> {
    pub(super) fn burst6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<F>],
        verdicts: &mut [Verdict],
    ) {
        let tick = Tick::at(ctx.now);
        let mut work = [Work6::default(); BURST];
        let mut keys = [NO_KEY; BURST];
        let mut fast = 0;
        let mut slow: ArrayVec<u8, BURST> = ArrayVec::new();
        for (at, (packet, verdict)) in (0u8..).zip(packets.iter().zip(&mut *verdicts)) {
            let (Some(w), Some(key)) = (work.get_mut(fast), keys.get_mut(fast)) else { break };
            w.at = at;
            match self.read6(packet, w) {
                Ok(true) => {
                    *key = key_of(w);
                    fast += 1;
                    continue;
                }
                Ok(false) => slow.push(at),
                Err(refusal) => self.refuse6(ctx, packet, refusal, verdict),
            }
            // The place is used again, and expects nothing there.
            *w = Work6::default();
        }
        let mut found = [Lookup::Miss; BURST];
        let (work, keys) = (&work[..fast], &keys[..fast]);
        guard.lookup_inside(keys, &mut found);
        let mut translated = 0;
        let mut opens: ArrayVec<u8, BURST> = ArrayVec::new();
        for (n, (w, found)) in (0u8..).zip(work.iter().zip(&found)) {
            let at = usize::from(w.at);
            let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
            let result = match found {
                Lookup::Hit(s) if self.goes_on(guard, ctx.counters, ctx.now, s) && follow(s, w, tick) => {
                    self.finish6(ctx, packet, w, Out::of(s), verdict)
                }
                // A session that ended between the lookup and now is opened again.
                Lookup::Hit(_) | Lookup::Miss => {
                    opens.push(n);
                    continue;
                }
                Lookup::Building => Err(DropReason::Nat64Building.into()),
            };
            match result {
                Ok(()) => translated += 1,
                Err(refusal) => self.refuse6(ctx, packet, refusal, verdict),
            }
        }
        if !opens.is_empty() {
            translated += self.open6(ctx, guard, packets, verdicts, work, &opens, tick);
        }
        for at in slow {
            let at = usize::from(at);
            let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
            match self.slow6(ctx, guard, packet, tick, verdict) {
                Ok(()) => translated += u64::from(*verdict != Verdict::Held),
                Err(refusal) => self.refuse6(ctx, packet, refusal, verdict),
            }
        }
        if translated != 0 {
            ctx.counters.add(Counter::Nat64V6ToV4, translated);
        }
    }

    /// Reads a packet and finds its prefix. True if its session can be looked up as it is.
    #[inline(always)]
    fn read6(&self, packet: &Packet<F>, w: &mut Work6) -> Result<bool, Refusal> {
        v6_to_v4::parse(packet, &mut w.p)?;
        (w.prefix, w.dst4) = self
            .config
            .prefixes()
            .extract_bits(w.p.dst)
            .ok_or(Refusal::silent(DropReason::Nat64BadDestination))?;
        let fragment = w.p.fragment.is_some_and(|f| !f.is_atomic());
        Ok(!fragment && w.p.upper != Upper::Error)
    }

    /// A fragment or an error.
    #[cold]
    pub(super) fn slow6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        tick: Tick,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let mut w = Work6::default();
        self.read6(packet, &mut w)?;
        match w.p.fragment {
            Some(f) if !f.is_atomic() => self.fragment6(ctx, guard, packet, &w, f, tick, verdict),
            _ => self.error6(ctx, guard, packet, &w, verdict),
        }
    }

    /// Packets that no session has (RFC 6146 3.5.1 to 3.5.3), by their places in `work`. What creating a
    /// session touches is brought close for all of them before the first one is created. Gives how many
    /// were translated.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "a burst, its parts and what a stage may use")]
    fn open6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<F>],
        verdicts: &mut [Verdict],
        work: &[Work6],
        opens: &[u8],
        tick: Tick,
    ) -> u64 {
        let mut openings: ArrayVec<Opening<'_>, BURST> = ArrayVec::new();
        for n in opens {
            let Some(w) = work.get(usize::from(*n)) else { continue };
            let wanted = self.wanted(w);
            openings.push(Opening {
                w,
                admitted: self.admit6(w),
                ahead: Ahead::new(wanted, self.random.next()),
            });
        }
        let sessions = openings.iter_mut().filter(|o| o.opens());
        bib::look_ahead(guard, &self.pool, sessions.map(|o| &mut o.ahead));
        let mut translated = 0;
        let mut ports = true;
        for n in 0..openings.len() + AHEAD {
            if let Some(o) = openings.get_mut(n).filter(|o| ports && o.opens()) {
                let (remote4, remote_port) = (o.w.dst4, o.w.p.dst_port);
                ports = bib::prepare(guard, &self.pool, &mut o.ahead, remote4, remote_port, n.min(AHEAD));
            }
            let Some(o) = n.checked_sub(AHEAD).and_then(|n| openings.get_mut(n)) else { continue };
            let at = usize::from(o.w.at);
            let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
            let result = self
                .establish6(ctx, guard, o.w, o.admitted, &mut o.ahead, tick)
                .and_then(|out| self.finish6(ctx, packet, o.w, out, verdict));
            o.ahead.give_back(&self.pool);
            match result {
                Ok(()) => translated += 1,
                Err(refusal) => self.refuse6(ctx, packet, refusal, verdict),
            }
        }
        translated
    }

    /// What the flow looks like from IPv4: by a new session, or by its mapping.
    fn outside_of<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &Ctx<'_, S>,
        guard: &Guard<'_>,
        w: &Work6,
        tick: Tick,
    ) -> Result<Out, Refusal> {
        let admitted = self.admit6(w);
        let mut ahead = Ahead::new(self.wanted(w), self.random.next());
        self.establish6(ctx, guard, w, admitted, &mut ahead, tick)
    }

    fn wanted(&self, w: &Work6) -> Wanted {
        Wanted {
            src6: Ipv6Addr::from_bits(w.p.src),
            port: w.p.src_port,
            protocol: table_protocol(w.p.protocol),
            prefix: w.prefix,
            generation: self.generation(),
        }
    }

    /// Whether a packet without session may open one, and in which state.
    fn admit6(&self, w: &Work6) -> Result<Admitted, Refusal> {
        // RFC 6146 3.5: a source under the prefix would come back through us for ever.
        let src6 = Ipv6Addr::from_bits(w.p.src);
        if self.config.prefixes().contains(src6) {
            return Err(DropReason::Nat64LoopedSource.into());
        }
        let prefix = self.prefix(w.prefix)?;
        let dst4 = Ipv4Addr::from_bits(w.dst4);
        // RFC 7915 5.1: nobody has such an address.
        if src6.is_multicast() || src6.is_loopback() || src6.is_unspecified() || src6.is_unicast_link_local()
        {
            return Err(DropReason::Nat64BadSource.into());
        }
        // RFC 6052 3.1 and RFC 1812 5.3.7; RFC 7915 5.4 has the host told.
        if !prefix.may_embed(dst4) || !is_forwardable(dst4) {
            return Err(Refusal::telling(DropReason::Nat64BadDestination, Tell::Prohibited));
        }
        Ok(match w.p.upper {
            Upper::Tcp { flags } => match State::open(Event::of(Side::V6, flags)) {
                Some(state) => Admitted::Session { state: state as u8 },
                None => Admitted::Stray,
            },
            _ => Admitted::Session { state: 0 },
        })
    }

    /// Makes the session, if the packet opens one.
    fn establish6<'g, S: FrameSource<Frame = F>>(
        &self,
        ctx: &Ctx<'_, S>,
        guard: &'g Guard<'_>,
        w: &Work6,
        admitted: Result<Admitted, Refusal>,
        ahead: &mut Ahead<'g>,
        tick: Tick,
    ) -> Result<Out, Refusal> {
        let state = match admitted? {
            Admitted::Session { state } => state,
            Admitted::Stray => {
                // A packet before this one in the burst may have opened its session.
                return match guard.lookup(&key_of(w)) {
                    Lookup::Hit(s) if follow(&s, w, tick) => Ok(Out::of(&s)),
                    _ => self.stray(guard, w),
                };
            }
        };
        let prefix = self.prefix(w.prefix)?;
        let flags = self.session_flags();
        let new = new_session(key_of(w), guard.worker(), self.generation(), state, flags, tick);
        let note = self.note(ctx.now);
        let mut fresh_mapping = false;
        let mut undo = None;
        let created = guard.create_session(&new, || {
            let (mapping, fresh) = bib::find_or_create(guard, &self.pool, ahead, &note)?;
            fresh_mapping = fresh;
            if fresh {
                self.log_mapping(ctx.now, LogEvent::MappingCreated, &mapping.mapping());
            }
            let have = undo.insert(Undo { mapping: mapping.mapping(), permitted: false, inside: true });
            self.permit(guard, ctx.counters, &mapping, w.dst4)?;
            have.permitted = true;
            let delta = ends(w, mapping.out4(), mapping.out_port()).delta(prefix);
            Ok::<_, DropReason>(Reserved::translated(mapping, w.dst4, w.p.dst_port, delta))
        });
        if fresh_mapping {
            ctx.counters.add(Counter::Nat64MappingsCreated, 1);
        }
        match created {
            Ok(Created::Fresh(s)) => {
                ctx.counters.add(Counter::Nat64SessionsCreated, 1);
                self.log_session(ctx.now, LogEvent::SessionCreated, &s);
                if w.p.protocol == PROTO_TCP {
                    self.meet_syn(ctx, &s, tick);
                }
                Ok(Out::of(&s))
            }
            // Another worker, or a packet before this one in the burst, was quicker: this packet is one
            // more of its session.
            Ok(Created::Existing(s)) => {
                // One that may not go on, and could not be ended for want of room, ends soon.
                if !self.goes_on(guard, ctx.counters, ctx.now, &s) {
                    return Err(DropReason::Nat64Building.into());
                }
                follow(&s, w, tick);
                Ok(Out::of(&s))
            }
            Err(e) => {
                if let Some(undo) = undo {
                    self.undo(guard, ctx.counters, ctx.now, &undo, w.dst4);
                }
                Err(create_failed(&e))
            }
        }
    }

    /// A TCP segment without session that opens none (RFC 6146 3.5.2.2, CLOSED): it goes through the
    /// mapping if there is one, so that a late RST or FIN reaches its peer, and makes no state.
    fn stray(&self, guard: &Guard<'_>, w: &Work6) -> Result<Out, Refusal> {
        let src6 = Ipv6Addr::from_bits(w.p.src);
        let m = bib::inside(guard, &self.pool, src6, w.p.src_port, PROTO_TCP)
            .filter(|m| bib::may_be_used(&self.pool, m, self.generation()))
            .ok_or(DropReason::Nat64NoSession)?;
        let (out4, out_port) = (m.out4(), m.out_port());
        Ok(Out { out4, out_port, delta: ends(w, out4, out_port).delta(self.prefix(w.prefix)?) })
    }

    /// Finds the way out and rewrites.
    #[inline(always)]
    fn finish6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &mut Packet<F>,
        w: &Work6,
        out: Out,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let octets = v6_to_v4::result_octets(&w.p, packet.frame.octets());
        // It fits: a packet has at most 65,575 octets.
        let upper_octets = u32::try_from(octets - 20).unwrap_or(u32::MAX);
        self.translate6(ctx, packet, w, out, upper_octets, verdict)
    }

    /// As `finish6`, for an upper-layer packet of `upper_octets` octets, of which this may be a part.
    #[inline(always)]
    fn translate6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &mut Packet<F>,
        w: &Work6,
        out: Out,
        upper_octets: u32,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let octets = v6_to_v4::result_octets(&w.p, packet.frame.octets());
        self.way_out4(ctx, w.dst4, octets, verdict)?;
        // What a suffix says (RFC 6052 2.2) is in the checksum but not in the session.
        let prefix = self.prefix(w.prefix)?;
        let delta = if prefix.is_exact() {
            out.delta
        } else {
            with_suffix(out.delta, w.p.dst, prefix.embed_bits(w.dst4))
        };
        let to = To4 { src: out.out4, dst: w.dst4, port: out.out_port, delta, id: self.ids.next() };
        v6_to_v4::rewrite(packet, &w.p, &to, &self.config.options().policy, upper_octets)?;
        Ok(())
    }

    /// Where an IPv4 packet of `octets` octets to `dst` leaves.
    #[inline(always)]
    fn way_out4<S: FrameSource>(
        &self,
        ctx: &Ctx<'_, S>,
        dst: u32,
        octets: usize,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let dst = Ipv4Addr::from_bits(dst);
        // RFC 6146 3.8: to another host behind us. Its size is looked at on its way back.
        if self.pool.contains(dst) {
            ctx.counters.add(Counter::Nat64Hairpin, 1);
            *verdict = Verdict::Again(Class::Nat64Out);
            return Ok(());
        }
        let Some(egress) = ctx.routes.lookup4(dst) else {
            return Err(Refusal::telling(DropReason::NoRoute, Tell::NoRoute));
        };
        let mtu = mtu_of(ctx, egress.interface());
        *verdict = Verdict::Forward { egress };
        if octets > usize::from(mtu) {
            // RFC 7915 5: the sender is told what would have fit, with the larger header.
            let mtu = u32::from(mtu) + 20;
            return Err(Refusal::telling(DropReason::Nat64TooBig, Tell::TooBig { mtu }));
        }
        Ok(())
    }

    /// A fragment (RFC 6146 3.4): the first one finds the session, the others follow it or wait for it.
    #[expect(clippy::too_many_arguments, reason = "a packet, its parts and what a stage may use")]
    fn fragment6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        w: &Work6,
        f: Frag,
        tick: Tick,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let key = Key { src: w.p.src, dst: w.p.dst, id: f.id, protocol: w.p.protocol };
        let octets = packet.frame.octets() - w.p.l4;
        let (place, next) = self.fragments.admit(&key, f, octets, false, ctx.now, ctx.counters)?;
        if next == Next::Wait {
            self.fragments.promise(place)?;
            *verdict = Verdict::Held;
            return Ok(());
        }
        self.next6(ctx, guard, packet, w, place, next, tick, verdict)?;
        if let Next::First { .. } = next {
            self.release(ctx, guard, place);
        }
        Ok(())
    }

    /// Translates a fragment that need not wait.
    #[expect(clippy::too_many_arguments, reason = "a packet, its parts and what a stage may use")]
    fn next6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        w: &Work6,
        place: usize,
        next: Next,
        tick: Tick,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let result = match next {
            Next::Follow(Peer::V4 { out4 }) => {
                return self.translate6(ctx, packet, w, Out { out4, out_port: 0, delta: 0 }, 0, verdict);
            }
            Next::First { total } => self.found6(ctx, guard, w, tick).and_then(|out| {
                self.translate6(ctx, packet, w, out, total, verdict)?;
                self.fragments.known(place, Peer::V4 { out4: out.out4 });
                Ok(())
            }),
            Next::Follow(Peer::V6 { .. }) | Next::Wait => Err(DropReason::Nat64Fragment.into()),
        };
        if result.is_err() {
            self.fragments.spoil(place, ctx.counters);
        }
        result
    }

    /// A fragment that waited.
    #[expect(clippy::too_many_arguments, reason = "a packet, its parts and what a stage may use")]
    pub(super) fn released6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        place: usize,
        next: Next,
        tick: Tick,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let mut w = Work6::default();
        self.read6(packet, &mut w)?;
        self.next6(ctx, guard, packet, &w, place, next, tick, verdict)
    }

    /// The session of one packet, found or made.
    fn found6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &Ctx<'_, S>,
        guard: &Guard<'_>,
        w: &Work6,
        tick: Tick,
    ) -> Result<Out, Refusal> {
        match guard.lookup(&key_of(w)) {
            Lookup::Hit(s) if self.goes_on(guard, ctx.counters, ctx.now, &s) && follow(&s, w, tick) => {
                Ok(Out::of(&s))
            }
            Lookup::Hit(_) | Lookup::Miss => self.outside_of(ctx, guard, w, tick),
            Lookup::Building => Err(DropReason::Nat64Building.into()),
        }
    }

    /// An ICMPv6 error (RFC 7915 5.2): the packet inside names the session.
    #[cold]
    fn error6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        w: &Work6,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let (src, dst) = (Ipv6Addr::from_bits(w.p.src), Ipv6Addr::from_bits(w.p.dst));
        let about = icmp::parse6(packet.bytes(), w.p.l4, src, dst)?;
        let (prefix, remote4) =
            self.config.prefixes().extract(about.remote).ok_or(DropReason::Nat64IcmpNoSession)?;
        // The packet inside came from where the error goes.
        if remote4.to_bits() != w.dst4 {
            return Err(DropReason::Nat64IcmpNoSession.into());
        }
        let key = InsideKey {
            src6: about.own.to_bits(),
            dst4: w.dst4,
            src_port: about.own_port,
            dst_port: about.remote_port,
            protocol: about.protocol,
            prefix,
        };
        let s = guard.lookup(&key).hit().filter(|s| self.goes_on(guard, ctx.counters, ctx.now, s));
        let s = s.ok_or(DropReason::Nat64IcmpNoSession)?;
        let out4 = Ipv4Addr::from_bits(s.out4());
        self.way_out4(ctx, w.dst4, 0, verdict)?;
        // RFC 7915 5.2, RFC 6791: a router inside has no IPv4 address of its own.
        let policy = &self.config.options().policy;
        let router6 = (src != about.own && policy.identify_routers).then_some(src);
        let src = if src == about.own { out4 } else { self.router4(ctx, verdict, remote4).unwrap_or(out4) };
        let mtu4 = match verdict {
            Verdict::Forward { egress } => u32::from(mtu_of(ctx, egress.interface())),
            _ => u32::MAX,
        };
        let mtus = icmp::Mtus { v6: u32::from(mtu_of(ctx, packet.meta.ingress)), v4: mtu4 };
        let new = icmp::New {
            src,
            dst: remote4,
            inner_src: remote4,
            inner_dst: out4,
            port: s.out_port(),
            delta: s.checksum_delta(),
            class: policy.tos.of(w.p.traffic_class),
            hop_limit: if packet.meta.hop_done { w.p.hop_limit } else { w.p.hop_limit.saturating_sub(1) },
            id: self.ids.next(),
            // RFC 7915 5.1: an ICMP error is never larger than 576 octets.
            df: policy.df == DfPolicy::Always,
            mtus,
            router6,
        };
        let n = icmp::to_v4(packet.bytes(), &about, &new, &mut self.scratch)?;
        replace(packet, &self.scratch[..n])?;
        Ok(())
    }

    /// The IPv4 address that stands for an IPv6 router.
    fn router4<S: FrameSource>(
        &self,
        ctx: &Ctx<'_, S>,
        verdict: &Verdict,
        dst: Ipv4Addr,
    ) -> Option<Ipv4Addr> {
        self.config.options().icmp_source.or_else(|| match verdict {
            Verdict::Forward { egress } => {
                ctx.interfaces.get(egress.interface()).and_then(|i| i.source4(dst))
            }
            _ => None,
        })
    }

    /// The verdict for a packet that is not translated; its sender is told where that is due.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &Packet<F>,
        refusal: Refusal,
        verdict: &mut Verdict,
    ) {
        let error = match refusal.tell {
            Tell::Nothing | Tell::Later | Tell::SourceRouteFailed => None,
            Tell::TimeExceeded => Some(Error6::HopLimitExceeded),
            Tell::BadField { pointer } => Some(Error6::HeaderField { pointer }),
            Tell::NoRoute => Some(Error6::Unreachable(Unreachable6::NoRoute)),
            Tell::AddressUnreachable => Some(Error6::Unreachable(Unreachable6::Address)),
            // RFC 6146 3.4 has this code sent for protocols.
            Tell::Protocol => Some(Error6::Unreachable(Unreachable6::Port)),
            // RFC 7915 5.4.
            Tell::Prohibited => Some(Error6::Unreachable(Unreachable6::AdminProhibited)),
            Tell::TooBig { mtu } => Some(Error6::PacketTooBig { mtu }),
        };
        if let Some(error) = error {
            self.errors.send6(ctx, packet, error);
        }
        *verdict = Verdict::Drop(refusal.reason);
    }
}

/// A packet of a session. False if the session has just ended.
#[inline(always)]
fn follow(s: &Session<'_>, w: &Work6, tick: Tick) -> bool {
    match w.p.upper {
        Upper::Tcp { flags } => session::segment(s, Side::V6, flags, tick),
        _ => session::renew(s, tick),
    }
}

const fn ends(w: &Work6, out4: u32, out_port: u16) -> Ends {
    Ends {
        host6: w.p.src,
        host_port: w.p.src_port,
        remote4: w.dst4,
        out4,
        out_port,
        protocol: table_protocol(w.p.protocol),
    }
}

/// A difference that was computed with `canonical`, for a packet that says `actual`.
#[inline(always)]
fn with_suffix(delta: u16, actual: u128, canonical: u128) -> u16 {
    if actual == canonical {
        return delta;
    }
    let sum = |a: u128| checksum::sum6(Ipv6Addr::from_bits(a));
    let suffix = checksum::delta(sum(actual), sum(canonical));
    checksum::fold(u64::from(delta) + u64::from(suffix))
}
