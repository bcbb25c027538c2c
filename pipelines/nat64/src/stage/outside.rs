//! From IPv4 to IPv6: sessions from outside (RFC 6146 3.5), and the way in.

use super::{Ends, Nat64, UNKNOWN_MTU, Undo, create_failed, mtu_of, new_session, replace};
use crate::config::Filtering;
use crate::log::LogEvent;
use crate::rfc6052::is_forwardable;
use crate::rfc6146::bib;
use crate::rfc6146::fragments::{Key, Next, Peer, mapped};
use crate::rfc6146::permission;
use crate::rfc6146::session;
use crate::rfc6146::tcp_fsm::{Event, Side, State};
use crate::rfc7915::v4_to_v6::{self, In4, To6};
use crate::rfc7915::{Frag, Refusal, Tell, UdpZero, Upper, fragment, icmp};
use arrayvec::ArrayVec;
use causeway_core::icmp_error::{Error4, Unreachable4};
use causeway_core::{BURST, Counter, Ctx, DropReason, Frame, FrameSource, IfId, Packet, Verdict};
use causeway_flowtable::{Created, Guard, InsideKey, Lookup, Mapping, OutsideKey, Reserved, Session, Tick};
use causeway_wire::checksum;
use causeway_wire::l4::PROTO_UDP;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An IPv4 packet on its way through the stage.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work4 {
    p: In4,
    /// Its place in the vector.
    at: u8,
}

/// What the flow looks like from IPv6.
#[derive(Debug, Clone, Copy)]
struct Inn {
    host6: u128,
    remote6: u128,
    port: u16,
    delta: u16,
}

#[inline(always)]
pub(super) const fn outside_key(p: &In4) -> OutsideKey {
    OutsideKey {
        out4: p.dst,
        remote4: p.src,
        out_port: p.dst_port,
        remote_port: p.src_port,
        protocol: p.protocol,
    }
}

const NO_KEY: OutsideKey = OutsideKey { out4: 0, remote4: 0, out_port: 0, remote_port: 0, protocol: 0 };

impl<F: Frame> Nat64<F> {
    pub(super) fn burst4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<F>],
        verdicts: &mut [Verdict],
    ) {
        let tick = Tick::at(ctx.now);
        let mut work = [Work4::default(); BURST];
        let mut keys = [NO_KEY; BURST];
        let mut fast = 0;
        let mut slow: ArrayVec<u8, BURST> = ArrayVec::new();
        for (at, (packet, verdict)) in (0u8..).zip(packets.iter().zip(&mut *verdicts)) {
            let (Some(w), Some(key)) = (work.get_mut(fast), keys.get_mut(fast)) else { break };
            w.at = at;
            match v4_to_v6::parse(packet, &mut w.p) {
                Ok(()) if w.p.fragment.is_none() && w.p.upper != Upper::Error => {
                    *key = outside_key(&w.p);
                    fast += 1;
                    continue;
                }
                Ok(()) => slow.push(at),
                Err(refusal) => self.refuse4(ctx, guard, packet, refusal, verdict),
            }
            // The place is used again, and expects nothing there.
            *w = Work4::default();
        }
        let mut found = [Lookup::Miss; BURST];
        let (work, keys) = (&work[..fast], &keys[..fast]);
        guard.lookup_outside(keys, &mut found);
        let mut translated = 0;
        for (w, found) in work.iter().zip(&found) {
            let at = usize::from(w.at);
            let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
            let result = match found {
                Lookup::Hit(s) if self.goes_on(guard, ctx.counters, ctx.now, s) && follow(s, &w.p, tick) => {
                    self.follow4(ctx, packet, &w.p, s, verdict)
                }
                // A session that ended between the lookup and now is opened again, if it may be.
                Lookup::Hit(_) | Lookup::Miss => self.open4(ctx, guard, packet, &w.p, tick, verdict),
                Lookup::Building => Err(DropReason::Nat64Building.into()),
            };
            match result {
                Ok(()) => translated += 1,
                Err(refusal) => self.refuse4(ctx, guard, packet, refusal, verdict),
            }
        }
        for at in slow {
            let at = usize::from(at);
            let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
            match self.slow4(ctx, guard, packet, tick, verdict) {
                Ok(()) => translated += u64::from(*verdict != Verdict::Held),
                Err(refusal) => self.refuse4(ctx, guard, packet, refusal, verdict),
            }
        }
        if translated != 0 {
            ctx.counters.add(Counter::Nat64V4ToV6, translated);
        }
    }

    /// A fragment or an error.
    #[cold]
    pub(super) fn slow4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        tick: Tick,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let mut p = In4::default();
        v4_to_v6::parse(packet, &mut p)?;
        match p.fragment {
            Some(f) => self.fragment4(ctx, guard, packet, &p, f, tick, verdict),
            None => self.error4(ctx, guard, packet, &p, verdict),
        }
    }

    #[inline(always)]
    fn follow4<S: FrameSource<Frame = F>>(
        &self,
        ctx: &mut Ctx<'_, S>,
        packet: &mut Packet<F>,
        p: &In4,
        s: &Session<'_>,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let inn = self.inn_of(s)?;
        // It fits: a packet has at most 65,535 octets.
        let upper_octets = u32::try_from(packet.frame.octets() - p.l4).unwrap_or(u32::MAX);
        self.translate4(ctx, packet, p, inn, upper_octets, verdict)
    }

    #[inline(always)]
    fn inn_of(&self, s: &Session<'_>) -> Result<Inn, Refusal> {
        Ok(Inn {
            host6: s.src6(),
            remote6: self.prefix(s.prefix())?.embed_bits(s.remote4()),
            port: s.src_port(),
            delta: s.checksum_delta(),
        })
    }

    /// A packet that no session has.
    #[cold]
    #[inline(never)]
    fn open4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        p: &In4,
        tick: Tick,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let inn = self.inside_of(ctx, guard, p, tick).map_err(|r| self.not_let_in(p, r))?;
        let upper_octets = u32::try_from(packet.frame.octets() - p.l4).unwrap_or(u32::MAX);
        self.translate4(ctx, packet, p, inn, upper_octets, verdict)
    }

    /// What the flow looks like from IPv6: its mapping lets it in, or not (RFC 6146 3.5.1 to 3.5.3).
    fn inside_of<S: FrameSource<Frame = F>>(
        &self,
        ctx: &Ctx<'_, S>,
        guard: &Guard<'_>,
        p: &In4,
        tick: Tick,
    ) -> Result<Inn, Refusal> {
        let (src, dst) = (Ipv4Addr::from_bits(p.src), Ipv4Addr::from_bits(p.dst));
        let mapping = bib::outside(guard, dst, p.dst_port, p.protocol)?;
        if !self.lets_in(guard, &mapping, p) {
            return Err(DropReason::Nat64Filtered.into());
        }
        if !bib::may_be_used(&self.pool, &mapping, self.generation()) {
            return Err(DropReason::Nat64NoBib.into());
        }
        let number = self.prefix_for(&mapping);
        let prefix = *self.prefix(number)?;
        // RFC 6052 3.1 and RFC 1812 5.3.7: the source becomes an IPv6 address that is answered.
        if !prefix.may_embed(src) || !is_forwardable(src) {
            return Err(DropReason::Nat64BadSource.into());
        }
        let ends = Ends {
            host6: mapping.src6(),
            host_port: mapping.src_port(),
            remote4: p.src,
            out4: p.dst,
            out_port: p.dst_port,
            protocol: p.protocol,
        };
        let delta = ends.delta(&prefix);
        let inn = Inn { host6: ends.host6, remote6: prefix.embed_bits(p.src), port: ends.host_port, delta };
        let state = match p.upper {
            Upper::Tcp { flags } => match State::open(Event::of(Side::V4, flags)) {
                Some(state) => state as u8,
                // RFC 6146 3.5.2.2, CLOSED: through the mapping, without state.
                None => return Ok(inn),
            },
            _ => 0,
        };
        let key = InsideKey {
            src6: ends.host6,
            dst4: p.src,
            src_port: ends.host_port,
            dst_port: p.src_port,
            protocol: p.protocol,
            prefix: number,
        };
        let flags = self.session_flags();
        let new = new_session(key, guard.worker(), self.generation(), state, flags, tick);
        let mut undo = None;
        let created = guard.create_session(&new, || {
            let held = mapping.acquire().ok_or(DropReason::Nat64NoBib)?;
            // RFC 6888 3, REQ-5: sessions that strangers open count as well.
            self.pool.begin_session(held.subscriber(), ctx.now, false)?;
            let have = undo.insert(Undo { mapping: held.mapping(), permitted: false, inside: false });
            self.permit(guard, ctx.counters, &held, p.src)?;
            have.permitted = true;
            Ok::<_, DropReason>(Reserved::translated(held, p.src, p.src_port, delta))
        });
        match created {
            Ok(Created::Fresh(s)) => {
                ctx.counters.add(Counter::Nat64SessionsCreated, 1);
                self.log_session(ctx.now, LogEvent::SessionCreated, &s);
            }
            // Another worker was quicker: this packet is one more of its session.
            Ok(Created::Existing(s)) => {
                // One that may not go on, and could not be ended for want of room, ends soon.
                if !self.goes_on(guard, ctx.counters, ctx.now, &s) {
                    return Err(DropReason::Nat64Building.into());
                }
                follow(&s, p, tick);
            }
            Err(e) => {
                if let Some(undo) = undo {
                    self.undo(guard, ctx.counters, ctx.now, &undo, p.src);
                }
                return Err(create_failed(&e));
            }
        }
        Ok(inn)
    }

    /// The prefix under which the hosts of a mapping see who comes from outside: the one that it was made
    /// under, and if that is gone, or the mapping is static, the first one.
    fn prefix_for(&self, mapping: &Mapping<'_>) -> u8 {
        let number = bib::prefix_of(mapping);
        let prefixes = self.config.prefixes();
        if mapping.is_pinned() || prefixes.get(number).is_none() { prefixes.first() } else { number }
    }

    /// Whether a mapping is open to a packet without session (RFC 6146 3.5.1 to 3.5.3, RFC 4787 5).
    fn lets_in(&self, guard: &Guard<'_>, mapping: &Mapping<'_>, p: &In4) -> bool {
        match self.config.options().filtering {
            Filtering::EndpointIndependent => true,
            // Who makes a static mapping wants to be reached.
            _ if mapping.is_pinned() => true,
            Filtering::AddressDependent => permission::allows(guard, p.dst, p.dst_port, p.src, p.protocol),
            // An echo has no port of its own: its session would have been found.
            Filtering::AddressAndPortDependent => false,
        }
    }

    /// Finds the way out and rewrites. The upper-layer packet has `upper_octets` octets, of which this may
    /// be a part.
    #[inline(always)]
    fn translate4<S: FrameSource<Frame = F>>(
        &self,
        ctx: &mut Ctx<'_, S>,
        packet: &mut Packet<F>,
        p: &In4,
        inn: Inn,
        upper_octets: u32,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let octets = v4_to_v6::result_octets(p, packet.frame.octets());
        let Some(egress) = ctx.routes.lookup6(Ipv6Addr::from_bits(inn.host6)) else {
            return Err(Refusal::telling(DropReason::NoRoute, Tell::NoRoute));
        };
        let mtu = usize::from(mtu_of(ctx, egress.interface()));
        *verdict = Verdict::Forward { egress };
        let cut = self.must_fragment(p, octets, mtu)?;
        let to = To6 { src: inn.remote6, dst: inn.host6, port: inn.port, delta: inn.delta };
        let policy = &self.config.options().policy;
        v4_to_v6::rewrite(packet, p, &to, policy, cut || p.fragment.is_some(), upper_octets)?;
        if cut {
            fragment::split(ctx, packet, mtu.min(usize::from(policy.lowest_ipv6_mtu)), egress)?;
        }
        Ok(())
    }

    /// Whether the result, of `octets` octets, has to be fragmented for a link of `mtu` octets.
    #[inline(always)]
    fn must_fragment(&self, p: &In4, octets: usize, mtu: usize) -> Result<bool, Refusal> {
        let lowest = usize::from(self.config.options().policy.lowest_ipv6_mtu);
        if octets <= mtu.min(lowest) {
            return Ok(false);
        }
        if !p.df {
            // RFC 7915 4: without DF, what would be larger than the lowest MTU is fragmented.
            return Ok(true);
        }
        if octets > mtu {
            // RFC 7915 4: with DF, the sender is told what would have fit, with the smaller header.
            let headers = if p.fragment.is_some() { 28 } else { 20 };
            let mtu = u32::try_from(mtu).unwrap_or(u32::MAX).saturating_sub(headers);
            return Err(Refusal::telling(DropReason::Nat64TooBig, Tell::TooBig { mtu }));
        }
        Ok(false)
    }

    /// A fragment (RFC 6146 3.4): the first one finds the session, the others follow it or wait for it.
    #[expect(clippy::too_many_arguments, reason = "a packet, its parts and what a stage may use")]
    fn fragment4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        p: &In4,
        f: Frag,
        tick: Tick,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let key = Key { src: mapped(p.src), dst: mapped(p.dst), id: f.id, protocol: p.protocol };
        let octets = packet.frame.octets() - p.l4;
        // RFC 6146 3.4: UDP without a checksum is translated when all of it is there.
        let compute = p.protocol == PROTO_UDP && self.config.options().policy.udp_zero == UdpZero::Compute;
        let needs_all = compute && v4_to_v6::is_unsummed(packet, p);
        let (place, next) = self.fragments.admit(&key, f, octets, needs_all, ctx.now, ctx.counters)?;
        if compute && !matches!(next, Next::Follow(_)) {
            let upper = packet.bytes().get(p.l4..).unwrap_or(&[]);
            self.fragments.add_sum(place, checksum::fold(checksum::sum(upper, 0)));
        }
        if next == Next::Wait {
            self.fragments.promise(place)?;
            *verdict = Verdict::Held;
            return Ok(());
        }
        self.next4(ctx, guard, packet, p, place, next, tick, verdict)?;
        if let Next::First { .. } = next {
            self.release(ctx, guard, place);
        }
        Ok(())
    }

    /// Translates a fragment that need not wait.
    #[expect(clippy::too_many_arguments, reason = "a packet, its parts and what a stage may use")]
    fn next4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        p: &In4,
        place: usize,
        next: Next,
        tick: Tick,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let result = match next {
            Next::Follow(Peer::V6 { remote6, host6 }) => {
                let inn = Inn { host6, remote6, port: 0, delta: 0 };
                return self.translate4(ctx, packet, p, inn, 0, verdict);
            }
            Next::First { total } => self.first4(ctx, guard, packet, p, place, total, tick).and_then(|inn| {
                self.translate4(ctx, packet, p, inn, total, verdict)?;
                self.fragments.known(place, Peer::V6 { remote6: inn.remote6, host6: inn.host6 });
                Ok(())
            }),
            Next::Follow(Peer::V4 { .. }) | Next::Wait => Err(DropReason::Nat64Fragment.into()),
        };
        if result.is_err() {
            self.fragments.spoil(place, ctx.counters);
        }
        result
    }

    /// The session of a first fragment.
    #[expect(clippy::too_many_arguments, reason = "a packet, its parts and what a stage may use")]
    fn first4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        p: &In4,
        place: usize,
        total: u32,
        tick: Tick,
    ) -> Result<Inn, Refusal> {
        if let Some(sum) = self.fragments.sum_of_all(place) {
            v4_to_v6::fill_checksum(packet, p, sum, total)?;
        }
        self.found4(ctx, guard, p, tick)
    }

    /// A fragment that waited.
    #[expect(clippy::too_many_arguments, reason = "a packet, its parts and what a stage may use")]
    pub(super) fn released4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        place: usize,
        next: Next,
        tick: Tick,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let mut p = In4::default();
        v4_to_v6::parse(packet, &mut p)?;
        self.next4(ctx, guard, packet, &p, place, next, tick, verdict)
    }

    /// The session of one packet, found or made.
    fn found4<S: FrameSource<Frame = F>>(
        &self,
        ctx: &Ctx<'_, S>,
        guard: &Guard<'_>,
        p: &In4,
        tick: Tick,
    ) -> Result<Inn, Refusal> {
        match guard.lookup(&outside_key(p)) {
            Lookup::Hit(s) if self.goes_on(guard, ctx.counters, ctx.now, &s) && follow(&s, p, tick) => {
                self.inn_of(&s)
            }
            Lookup::Hit(_) | Lookup::Miss => self.inside_of(ctx, guard, p, tick),
            Lookup::Building => Err(DropReason::Nat64Building.into()),
        }
    }

    /// An ICMP error (RFC 7915 4.2): the packet inside names the session.
    #[cold]
    fn error4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        p: &In4,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        let about = icmp::parse4(packet.bytes(), p.l4)?;
        // The packet inside came from where the error goes.
        if about.own.to_bits() != p.dst {
            return Err(DropReason::Nat64IcmpNoSession.into());
        }
        let key = OutsideKey {
            out4: about.own.to_bits(),
            remote4: about.remote.to_bits(),
            out_port: about.own_port,
            remote_port: about.remote_port,
            protocol: about.protocol,
        };
        let s = guard.lookup(&key).hit().filter(|s| self.goes_on(guard, ctx.counters, ctx.now, s));
        let s = s.ok_or(DropReason::Nat64IcmpNoSession)?;
        let prefix = *self.prefix(s.prefix())?;
        // RFC 6052 3.1: a router with an address that the prefix must not stand for stays unnamed: its
        // error comes from the remote end, which the host has spoken to.
        let src = Ipv4Addr::from_bits(p.src);
        let router = if prefix.may_embed(src) { src } else { about.remote };
        let host6 = Ipv6Addr::from_bits(s.src6());
        let egress = ctx.routes.lookup6(host6).ok_or(Refusal::telling(DropReason::NoRoute, Tell::NoRoute))?;
        *verdict = Verdict::Forward { egress };
        let ingress = packet.meta.ingress;
        let mtu4 = if ingress == IfId::NONE { UNKNOWN_MTU } else { mtu_of(ctx, ingress) };
        let mtus = icmp::Mtus { v6: u32::from(mtu_of(ctx, egress.interface())), v4: u32::from(mtu4) };
        let new = icmp::New {
            src: prefix.embed(router),
            dst: host6,
            inner_src: host6,
            inner_dst: prefix.embed(about.remote),
            port: s.src_port(),
            delta: s.checksum_delta(),
            class: self.config.options().policy.traffic_class.of(p.tos),
            hop_limit: if packet.meta.hop_done { p.ttl } else { p.ttl.saturating_sub(1) },
            id: 0,
            df: false,
            mtus,
            router6: None,
        };
        let n = icmp::to_v6(packet.bytes(), &about, &new, &mut self.scratch)?;
        replace(packet, &self.scratch[..n])?;
        Ok(())
    }

    /// The verdict for a packet that is not translated; its sender is told where that is due.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &Packet<F>,
        refusal: Refusal,
        verdict: &mut Verdict,
    ) {
        if refusal.tell == Tell::Later {
            *verdict = Verdict::Held;
            return;
        }
        let error = match refusal.tell {
            Tell::Nothing | Tell::Later | Tell::Prohibited => None,
            // RFC 6888 3, REQ-11 b: no room for the session is told so (RFC 5508 6, REQ-8 had another code).
            Tell::AddressUnreachable => Some(Error4::Unreachable(Unreachable4::Host)),
            // RFC 6146 3.4.
            Tell::Protocol => Some(Error4::Unreachable(Unreachable4::Protocol)),
            Tell::TimeExceeded => Some(Error4::TtlExceeded),
            Tell::BadField { pointer } => {
                u8::try_from(pointer).ok().map(|pointer| Error4::HeaderField { pointer })
            }
            Tell::SourceRouteFailed => Some(Error4::Unreachable(Unreachable4::SourceRoute)),
            Tell::NoRoute => Some(Error4::Unreachable(Unreachable4::Host)),
            Tell::TooBig { mtu } => {
                let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
                Some(Error4::Unreachable(Unreachable4::FragmentationNeeded { mtu }))
            }
        };
        if let Some(error) = error {
            self.tell4(ctx, guard, packet, error);
        }
        *verdict = Verdict::Drop(refusal.reason);
    }
}

/// A packet of a session. False if the session has just ended.
#[inline(always)]
fn follow(s: &Session<'_>, p: &In4, tick: Tick) -> bool {
    match p.upper {
        Upper::Tcp { flags } => session::segment(s, Side::V4, flags, tick),
        // RFC 4787 4.3: traffic from outside does not keep a UDP or ICMP session alive.
        _ => true,
    }
}
