//! The stage: vectors of packets in, verdicts out.
//!
//! ```text
//!  parse all -> hash all, look up all -> per packet: follow the session, find the way out, rewrite
//!      |                |
//!      | refused        | none: make mapping and session, one packet at a time
//!      v                | errors: the session of the packet inside
//!   ICMP error          v
//! ```
//!
//! One per worker. The flow table, the pool and the configuration are shared.

use crate::config::{Config, Filtering};
use crate::pool4::Pool4;
use crate::random::{Identifications, Random};
use crate::rfc6052::{Prefix, is_forwardable};
use crate::rfc6146::bib::{self, Wanted};
use crate::rfc6146::session::{self, Expiry};
use crate::rfc6146::tcp_fsm::{Event, Side, State};
use crate::rfc7915::v4_to_v6::{self, In4, To6};
use crate::rfc7915::v6_to_v4::{self, In6, To4};
use crate::rfc7915::{DfPolicy, Refusal, Tell, Upper, fragment, icmp};
use arrayvec::ArrayVec;
use causeway_core::icmp_error::{Error4, Error6, IcmpErrors, Unreachable4, Unreachable6};
use causeway_core::{
    BURST, Class, Counter, Ctx, DropReason, Egress, Frame, FrameSource, IfId, Packet, Verdict,
};
use causeway_flowtable::{
    CreateError, Created, Guard, InsideKey, Kind, Lookup, NewKey, NewSession, OutsideKey, Reserved, Session,
    Swept, Tick,
};
use causeway_wire::checksum;
use causeway_wire::l4::{PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP};
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The MTU of an interface that the plan no longer has.
const UNKNOWN_MTU: u16 = 1280;

/// A NAT64 of one worker.
#[derive(Debug)]
pub struct Nat64<F: Frame> {
    config: Arc<Config>,
    pool: Arc<Pool4>,
    errors: IcmpErrors,
    random: Random,
    ids: Identifications,
    scratch: Box<icmp::Scratch>,
    frames: PhantomData<F>,
}

/// An IPv6 packet that waits for its session.
struct Work6 {
    at: usize,
    p: In6,
    prefix: u8,
    dst4: Ipv4Addr,
}

/// An IPv4 packet that waits for its session.
struct Work4 {
    at: usize,
    p: In4,
}

impl<F: Frame> Nat64<F> {
    /// A NAT64 over a shared pool. `errors` limits the ICMP errors that it sends.
    #[must_use]
    pub fn new(config: Arc<Config>, pool: Arc<Pool4>, errors: IcmpErrors) -> Self {
        let mut random = Random::new();
        let ids = Identifications::new(&mut random);
        Self { config, pool, errors, random, ids, scratch: Box::new([0; icmp::SCRATCH]), frames: PhantomData }
    }

    /// Takes over a new configuration and the pool that goes with it (see [`Pool4::successor`]).
    pub fn reconfigure(&mut self, config: Arc<Config>, pool: Arc<Pool4>) {
        self.config = config;
        self.pool = pool;
    }

    /// The configuration that counts now.
    #[must_use]
    pub const fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The pool.
    #[must_use]
    pub const fn pool(&self) -> &Arc<Pool4> {
        &self.pool
    }

    /// Ends what has been idle too long among the next `slots` sessions, and the rest of ports. Once a poll.
    pub fn sweep<S: FrameSource>(&mut self, ctx: &Ctx<'_, S>, guard: &Guard<'_>, slots: u32) -> Swept {
        self.pool.tick(ctx.now);
        let mut expiry = Expiry { config: &self.config, pool: &self.pool, counters: ctx.counters };
        guard.sweep(slots, Tick::at(ctx.now), &mut expiry)
    }

    /// Translates IPv6 packets to IPv4 (class `Nat64In`). Verdict `n` is that of packet `n`; as many are
    /// taken as both slices have.
    pub fn v6_to_v4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<F>],
        verdicts: &mut [Verdict],
    ) {
        for (packets, verdicts) in packets.chunks_mut(BURST).zip(verdicts.chunks_mut(BURST)) {
            self.burst6(ctx, guard, packets, verdicts);
        }
    }

    /// Translates IPv4 packets to IPv6 (class `Nat64Out`), as [`Nat64::v6_to_v4`] does the other way.
    pub fn v4_to_v6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<F>],
        verdicts: &mut [Verdict],
    ) {
        for (packets, verdicts) in packets.chunks_mut(BURST).zip(verdicts.chunks_mut(BURST)) {
            self.burst4(ctx, guard, packets, verdicts);
        }
    }

    fn burst6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<F>],
        verdicts: &mut [Verdict],
    ) {
        let tick = Tick::at(ctx.now);
        let mut work: ArrayVec<Work6, BURST> = ArrayVec::new();
        let mut slow: ArrayVec<Work6, BURST> = ArrayVec::new();
        let mut keys: ArrayVec<InsideKey, BURST> = ArrayVec::new();
        for (at, (packet, verdict)) in packets.iter().zip(&mut *verdicts).enumerate() {
            match self.read6(packet) {
                Ok((p, prefix, dst4)) => {
                    let w = Work6 { at, p, prefix, dst4 };
                    if matches!(w.p.upper, Upper::Error | Upper::Later)
                        || w.p.fragment.is_some_and(|f| f.more)
                    {
                        slow.push(w);
                    } else {
                        keys.push(inside_key(&w));
                        work.push(w);
                    }
                }
                Err(refusal) => *verdict = self.refuse6(ctx, packet, refusal),
            }
        }
        let mut found = [Lookup::Miss; BURST];
        guard.lookup_inside(&keys, &mut found);
        let mut translated = 0;
        for (w, found) in work.iter().zip(&found) {
            let (Some(packet), Some(verdict)) = (packets.get_mut(w.at), verdicts.get_mut(w.at)) else {
                continue;
            };
            let result = match found {
                Lookup::Hit(s) => self.follow6(ctx, guard, packet, w, s, tick),
                Lookup::Miss => self.open6(ctx, guard, packet, w, tick),
                Lookup::Building => Err(DropReason::Nat64Building.into()),
            };
            *verdict = match result {
                Ok(v) => {
                    translated += 1;
                    v
                }
                Err(refusal) => self.refuse6(ctx, packet, refusal),
            };
        }
        for w in &slow {
            let (Some(packet), Some(verdict)) = (packets.get_mut(w.at), verdicts.get_mut(w.at)) else {
                continue;
            };
            let result = match w.p.upper {
                Upper::Error => self.error6(ctx, guard, packet, w),
                _ => Err(DropReason::Nat64Fragment.into()),
            };
            *verdict = match result {
                Ok(v) => {
                    translated += 1;
                    v
                }
                Err(refusal) => self.refuse6(ctx, packet, refusal),
            };
        }
        if translated != 0 {
            ctx.counters.add(Counter::Nat64V6ToV4, translated);
        }
    }

    /// Reads a packet and finds its prefix.
    #[inline(always)]
    fn read6(&self, packet: &Packet<F>) -> Result<(In6, u8, Ipv4Addr), Refusal> {
        let p = v6_to_v4::parse(packet)?;
        let (prefix, dst4) =
            self.config.prefixes().extract(p.dst).ok_or(Refusal::silent(DropReason::Nat64BadDestination))?;
        Ok((p, prefix, dst4))
    }

    /// A packet of a session.
    #[inline(always)]
    fn follow6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        w: &Work6,
        s: &Session<'_>,
        tick: Tick,
    ) -> Result<Verdict, Refusal> {
        let alive = match w.p.upper {
            Upper::Tcp { flags } => session::segment(s, Side::V6, flags, tick),
            _ => session::renew(s, tick),
        };
        if !alive {
            // It ended between the lookup and now.
            return self.open6(ctx, guard, packet, w, tick);
        }
        self.finish6(ctx, packet, w, s.out4(), s.out_port(), s.checksum_delta())
    }

    /// A packet that no session has (RFC 6146 3.5.1 to 3.5.3).
    #[cold]
    fn open6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        w: &Work6,
        tick: Tick,
    ) -> Result<Verdict, Refusal> {
        // RFC 6146 3.5: a source under the prefix would come back through us for ever.
        if self.config.prefixes().contains(w.p.src) {
            return Err(DropReason::Nat64LoopedSource.into());
        }
        let prefix = *self.prefix(w.prefix)?;
        // RFC 6052 3.1 and RFC 1812 5.3.7.
        if !prefix.may_embed(w.dst4) || !is_forwardable(w.dst4) {
            return Err(DropReason::Nat64BadDestination.into());
        }
        let protocol = table_protocol(w.p.protocol);
        let state = match w.p.upper {
            Upper::Tcp { flags } => match State::open(Event::of(Side::V6, flags)) {
                Some(state) => state as u8,
                None => return self.stray6(ctx, guard, packet, w, &prefix),
            },
            _ => 0,
        };
        let generation = self.config.options().generation;
        let wanted = Wanted { src6: w.p.src, port: w.p.src_port, protocol, prefix: w.prefix, generation };
        let new = new_session(inside_key(w), guard.worker(), generation, state, tick);
        let random = self.random.next();
        let mut fresh_mapping = false;
        let created = guard.create_session(&new, || {
            let (mapping, fresh) = bib::find_or_create(guard, &self.pool, &wanted, random)?;
            fresh_mapping = fresh;
            let delta = flow_delta(
                w.p.src,
                w.p.src_port,
                &prefix,
                w.dst4,
                mapping.out4(),
                mapping.out_port(),
                protocol,
            );
            Ok::<_, DropReason>(Reserved::translated(mapping, w.dst4.to_bits(), w.p.dst_port, delta))
        });
        if fresh_mapping {
            ctx.counters.add(Counter::Nat64MappingsCreated, 1);
        }
        let s = match created {
            Ok(Created::Fresh(s)) => {
                ctx.counters.add(Counter::Nat64SessionsCreated, 1);
                s
            }
            // Another worker was quicker: this packet is one more of its session.
            Ok(Created::Existing(s)) => {
                if let Upper::Tcp { flags } = w.p.upper {
                    session::segment(&s, Side::V6, flags, tick);
                }
                s
            }
            Err(e) => return Err(create_failed(&e)),
        };
        self.finish6(ctx, packet, w, s.out4(), s.out_port(), s.checksum_delta())
    }

    /// A TCP segment without session that opens none (RFC 6146 3.5.2.2, CLOSED): it goes through the
    /// mapping if there is one, so that a late RST or FIN reaches its peer, and makes no state.
    fn stray6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        w: &Work6,
        prefix: &Prefix,
    ) -> Result<Verdict, Refusal> {
        let mapping =
            bib::inside(guard, w.p.src, w.p.src_port, PROTO_TCP).ok_or(DropReason::Nat64NoSession)?;
        let (out4, out_port) = (mapping.out4(), mapping.out_port());
        let delta = flow_delta(w.p.src, w.p.src_port, prefix, w.dst4, out4, out_port, PROTO_TCP);
        self.finish6(ctx, packet, w, out4, out_port, delta)
    }

    /// Finds the way out and rewrites.
    #[inline(always)]
    fn finish6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &mut Packet<F>,
        w: &Work6,
        out4: u32,
        out_port: u16,
        delta: u16,
    ) -> Result<Verdict, Refusal> {
        let octets = v6_to_v4::result_octets(&w.p, packet.frame.octets());
        let verdict = self.way_out4(ctx, w.dst4, octets)?;
        // What a suffix says (RFC 6052 2.2) is in the checksum but not in the session.
        let prefix = self.prefix(w.prefix)?;
        let delta = if prefix.is_exact() { delta } else { with_suffix(delta, w.p.dst, prefix.embed(w.dst4)) };
        let to =
            To4 { src: Ipv4Addr::from_bits(out4), dst: w.dst4, port: out_port, delta, id: self.ids.next() };
        // It fits: the frame is at most 65,575 octets.
        #[expect(clippy::cast_possible_truncation, reason = "a packet has at most 65,575 octets")]
        let upper_octets = (octets - 20) as u32;
        v6_to_v4::rewrite(packet, &w.p, &to, &self.config.options().policy, upper_octets)?;
        if let Verdict::Again(_) = verdict {
            ctx.counters.add(Counter::Nat64Hairpin, 1);
        }
        Ok(verdict)
    }

    /// Where an IPv4 packet of `octets` octets to `dst` leaves.
    #[inline(always)]
    fn way_out4<S: FrameSource>(
        &self,
        ctx: &Ctx<'_, S>,
        dst: Ipv4Addr,
        octets: usize,
    ) -> Result<Verdict, Refusal> {
        // RFC 6146 3.8: to another host behind us. Its size is looked at on its way back.
        if self.pool.contains(dst) {
            return Ok(Verdict::Again(Class::Nat64Out));
        }
        let Some(egress) = ctx.routes.lookup4(dst) else {
            return Err(Refusal::telling(DropReason::NoRoute, Tell::NoRoute));
        };
        let mtu = mtu_of(ctx, egress.interface);
        if octets > usize::from(mtu) {
            // RFC 7915 5: the sender is told what would have fit, with the larger header.
            let mtu = u32::from(mtu) + 20;
            return Err(Refusal::telling(DropReason::Nat64TooBig, Tell::TooBig { mtu }));
        }
        Ok(Verdict::Forward { egress })
    }

    /// An ICMPv6 error (RFC 7915 5.2): the packet inside names the session.
    #[cold]
    fn error6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        w: &Work6,
    ) -> Result<Verdict, Refusal> {
        let about = icmp::parse6(packet.bytes(), w.p.l4, w.p.src, w.p.dst)?;
        let (prefix, remote4) =
            self.config.prefixes().extract(about.remote).ok_or(DropReason::Nat64IcmpNoSession)?;
        // The packet inside came from where the error goes.
        if remote4 != w.dst4 {
            return Err(DropReason::Nat64IcmpNoSession.into());
        }
        let key = InsideKey {
            src6: about.own.to_bits(),
            dst4: remote4.to_bits(),
            src_port: about.own_port,
            dst_port: about.remote_port,
            protocol: about.protocol,
            prefix,
        };
        let s = guard.lookup(&key).hit().ok_or(DropReason::Nat64IcmpNoSession)?;
        let out4 = Ipv4Addr::from_bits(s.out4());
        let verdict = self.way_out4(ctx, remote4, 0)?;
        // RFC 7915 5.2, RFC 6791: a router inside has no IPv4 address of its own.
        let src =
            if w.p.src == about.own { out4 } else { self.router4(ctx, &verdict, remote4).unwrap_or(out4) };
        let mtu4 = match verdict {
            Verdict::Forward { egress } => u32::from(mtu_of(ctx, egress.interface)),
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
            class: self.config.options().policy.tos.of(w.p.traffic_class),
            hop_limit: if packet.meta.hop_done { w.p.hop_limit } else { w.p.hop_limit.saturating_sub(1) },
            id: self.ids.next(),
            // RFC 7915 5.1: an ICMP error is never larger than 576 octets.
            df: self.config.options().policy.df == DfPolicy::Always,
            mtus,
        };
        let n = icmp::to_v4(packet.bytes(), &about, &new, &mut self.scratch)?;
        replace(packet, &self.scratch[..n])?;
        let m = &mut packet.meta;
        m.ethertype = causeway_wire::ethernet::ETHERTYPE_IPV4;
        (m.protocol, m.l4, m.fragment, m.hop_done) = (PROTO_ICMP, 20, false, true);
        if let Verdict::Again(_) = verdict {
            ctx.counters.add(Counter::Nat64Hairpin, 1);
        }
        Ok(verdict)
    }

    /// The IPv4 address that stands for an IPv6 router.
    fn router4<S: FrameSource>(
        &self,
        ctx: &Ctx<'_, S>,
        verdict: &Verdict,
        dst: Ipv4Addr,
    ) -> Option<Ipv4Addr> {
        let configured = self.config.options().icmp_source;
        configured.or_else(|| match verdict {
            Verdict::Forward { egress } => ctx.interfaces.get(egress.interface).and_then(|i| i.source4(dst)),
            _ => None,
        })
    }

    /// The verdict for a packet that is not translated; its sender is told where that is due.
    #[cold]
    fn refuse6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &Packet<F>,
        refusal: Refusal,
    ) -> Verdict {
        let error = match refusal.tell {
            Tell::Nothing | Tell::SourceRouteFailed => None,
            Tell::TimeExceeded => Some(Error6::HopLimitExceeded),
            Tell::BadField { pointer } => Some(Error6::HeaderField { pointer }),
            Tell::NoRoute => Some(Error6::Unreachable(Unreachable6::NoRoute)),
            Tell::AddressUnreachable => Some(Error6::Unreachable(Unreachable6::Address)),
            Tell::TooBig { mtu } => Some(Error6::PacketTooBig { mtu }),
        };
        if let Some(error) = error {
            self.errors.send6(ctx, packet, error);
        }
        Verdict::Drop(refusal.reason)
    }

    fn burst4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<F>],
        verdicts: &mut [Verdict],
    ) {
        let tick = Tick::at(ctx.now);
        let mut work: ArrayVec<Work4, BURST> = ArrayVec::new();
        let mut slow: ArrayVec<Work4, BURST> = ArrayVec::new();
        let mut keys: ArrayVec<OutsideKey, BURST> = ArrayVec::new();
        for (at, (packet, verdict)) in packets.iter().zip(&mut *verdicts).enumerate() {
            match v4_to_v6::parse(packet) {
                Ok(p) => {
                    let w = Work4 { at, p };
                    if matches!(w.p.upper, Upper::Error) || w.p.fragment.is_some() {
                        slow.push(w);
                    } else {
                        keys.push(outside_key(&w.p));
                        work.push(w);
                    }
                }
                Err(refusal) => *verdict = self.refuse4(ctx, packet, refusal),
            }
        }
        let mut found = [Lookup::Miss; BURST];
        guard.lookup_outside(&keys, &mut found);
        let mut translated = 0;
        for (w, found) in work.iter().zip(&found) {
            let (Some(packet), Some(verdict)) = (packets.get_mut(w.at), verdicts.get_mut(w.at)) else {
                continue;
            };
            let result = match found {
                Lookup::Hit(s) => self.follow4(ctx, guard, packet, w, s, tick),
                Lookup::Miss => self.open4(ctx, guard, packet, w, tick),
                Lookup::Building => Err(DropReason::Nat64Building.into()),
            };
            *verdict = match result {
                Ok(v) => {
                    translated += 1;
                    v
                }
                Err(refusal) => self.refuse4(ctx, packet, refusal),
            };
        }
        for w in &slow {
            let (Some(packet), Some(verdict)) = (packets.get_mut(w.at), verdicts.get_mut(w.at)) else {
                continue;
            };
            let result = match w.p.upper {
                Upper::Error => self.error4(ctx, guard, packet, w),
                _ => Err(DropReason::Nat64Fragment.into()),
            };
            *verdict = match result {
                Ok(v) => {
                    translated += 1;
                    v
                }
                Err(refusal) => self.refuse4(ctx, packet, refusal),
            };
        }
        if translated != 0 {
            ctx.counters.add(Counter::Nat64V4ToV6, translated);
        }
    }

    /// A packet of a session.
    #[inline(always)]
    fn follow4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        w: &Work4,
        s: &Session<'_>,
        tick: Tick,
    ) -> Result<Verdict, Refusal> {
        // RFC 4787 4.3: traffic from outside does not keep a UDP or ICMP session alive.
        if let Upper::Tcp { flags } = w.p.upper
            && !session::segment(s, Side::V4, flags, tick)
        {
            return self.open4(ctx, guard, packet, w, tick);
        }
        let host6 = Ipv6Addr::from_bits(s.src6());
        self.finish4(ctx, packet, w, s.prefix(), host6, s.src_port(), s.checksum_delta())
    }

    /// A packet that no session has: its mapping lets it in, or not (RFC 6146 3.5.1 to 3.5.3).
    #[cold]
    fn open4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        w: &Work4,
        tick: Tick,
    ) -> Result<Verdict, Refusal> {
        let protocol = w.p.protocol;
        let mapping = bib::outside(guard, w.p.dst, w.p.dst_port, protocol)?;
        if self.config.options().filtering != Filtering::EndpointIndependent {
            return Err(DropReason::Nat64Filtered.into());
        }
        let number = bib::prefix_of(&mapping);
        let prefix = *self.prefix(number)?;
        // RFC 6052 3.1 and RFC 1812 5.3.7: the source becomes an IPv6 address that is answered.
        if !prefix.may_embed(w.p.src) || !is_forwardable(w.p.src) {
            return Err(DropReason::Nat64BadSource.into());
        }
        let host6 = Ipv6Addr::from_bits(mapping.src6());
        let host_port = mapping.src_port();
        let delta =
            flow_delta(host6, host_port, &prefix, w.p.src, mapping.out4(), mapping.out_port(), protocol);
        let state = match w.p.upper {
            Upper::Tcp { flags } => match State::open(Event::of(Side::V4, flags)) {
                Some(state) => state as u8,
                // RFC 6146 3.5.2.2, CLOSED: through the mapping, without state.
                None => return self.finish4(ctx, packet, w, number, host6, host_port, delta),
            },
            _ => 0,
        };
        let key = InsideKey {
            src6: host6.to_bits(),
            dst4: w.p.src.to_bits(),
            src_port: host_port,
            dst_port: w.p.src_port,
            protocol,
            prefix: number,
        };
        let new = new_session(key, guard.worker(), self.config.options().generation, state, tick);
        let created = guard.create_session(&new, || {
            let held = mapping.acquire().ok_or(DropReason::Nat64NoBib)?;
            Ok::<_, DropReason>(Reserved::translated(held, w.p.src.to_bits(), w.p.src_port, delta))
        });
        let s = match created {
            Ok(Created::Fresh(s)) => {
                ctx.counters.add(Counter::Nat64SessionsCreated, 1);
                s
            }
            Ok(Created::Existing(s)) => {
                if let Upper::Tcp { flags } = w.p.upper {
                    session::segment(&s, Side::V4, flags, tick);
                }
                s
            }
            Err(e) => return Err(Refusal::silent(create_failed(&e).reason)),
        };
        self.finish4(ctx, packet, w, s.prefix(), host6, host_port, s.checksum_delta())
    }

    /// Finds the way out and rewrites.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "what a session or a mapping says, without a copy of it")]
    fn finish4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &mut Packet<F>,
        w: &Work4,
        prefix: u8,
        host6: Ipv6Addr,
        host_port: u16,
        delta: u16,
    ) -> Result<Verdict, Refusal> {
        let octets = v4_to_v6::result_octets(&w.p, packet.frame.octets());
        let egress = way_out6(ctx, host6)?;
        let mtu = usize::from(mtu_of(ctx, egress.interface));
        let cut = self.must_fragment(&w.p, octets, mtu)?;
        let to = To6 { src: self.prefix(prefix)?.embed(w.p.src), dst: host6, port: host_port, delta };
        #[expect(clippy::cast_possible_truncation, reason = "a packet has at most 65,575 octets")]
        let upper_octets = (packet.frame.octets() - w.p.l4) as u32;
        let policy = &self.config.options().policy;
        v4_to_v6::rewrite(packet, &w.p, &to, policy, cut || w.p.fragment.is_some(), upper_octets)?;
        if cut {
            fragment::split(ctx, packet, mtu.min(usize::from(policy.lowest_ipv6_mtu)), egress)?;
        }
        Ok(Verdict::Forward { egress })
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

    /// An ICMP error (RFC 7915 4.2): the packet inside names the session.
    #[cold]
    fn error4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
        w: &Work4,
    ) -> Result<Verdict, Refusal> {
        let about = icmp::parse4(packet.bytes(), w.p.l4)?;
        // The packet inside came from where the error goes.
        if about.own != w.p.dst {
            return Err(DropReason::Nat64IcmpNoSession.into());
        }
        let key = OutsideKey {
            out4: about.own.to_bits(),
            remote4: about.remote.to_bits(),
            out_port: about.own_port,
            remote_port: about.remote_port,
            protocol: about.protocol,
        };
        let s = guard.lookup(&key).hit().ok_or(DropReason::Nat64IcmpNoSession)?;
        let prefix = *self.prefix(s.prefix())?;
        // RFC 6052 3.1: a router with an address that the prefix must not stand for stays unnamed: its
        // error comes from the remote end, which the host has spoken to.
        let router = if prefix.may_embed(w.p.src) { w.p.src } else { about.remote };
        let host6 = Ipv6Addr::from_bits(s.src6());
        let egress = way_out6(ctx, host6)?;
        let mtu4 =
            if packet.meta.ingress == IfId::NONE { UNKNOWN_MTU } else { mtu_of(ctx, packet.meta.ingress) };
        let mtus = icmp::Mtus { v6: u32::from(mtu_of(ctx, egress.interface)), v4: u32::from(mtu4) };
        let new = icmp::New {
            src: prefix.embed(router),
            dst: host6,
            inner_src: host6,
            inner_dst: prefix.embed(about.remote),
            port: s.src_port(),
            delta: s.checksum_delta(),
            class: self.config.options().policy.traffic_class.of(w.p.tos),
            hop_limit: if packet.meta.hop_done { w.p.ttl } else { w.p.ttl.saturating_sub(1) },
            id: 0,
            df: false,
            mtus,
        };
        let n = icmp::to_v6(packet.bytes(), &about, &new, &mut self.scratch)?;
        replace(packet, &self.scratch[..n])?;
        let m = &mut packet.meta;
        m.ethertype = causeway_wire::ethernet::ETHERTYPE_IPV6;
        (m.protocol, m.l4, m.fragment, m.hop_done) = (PROTO_ICMPV6, 40, false, true);
        Ok(Verdict::Forward { egress })
    }

    /// The verdict for a packet that is not translated; its sender is told where that is due.
    #[cold]
    fn refuse4<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &Packet<F>,
        refusal: Refusal,
    ) -> Verdict {
        let error = match refusal.tell {
            Tell::Nothing | Tell::AddressUnreachable => None,
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
            self.errors.send4(ctx, packet, error);
        }
        Verdict::Drop(refusal.reason)
    }

    /// The prefix of this number. A session of an older plan may name one that is gone.
    #[inline(always)]
    fn prefix(&self, number: u8) -> Result<&Prefix, Refusal> {
        self.config.prefixes().get(number).ok_or(Refusal::silent(DropReason::Nat64BadDestination))
    }
}

/// The protocol number under which the table keeps a flow: ICMPv6 goes by ICMP's.
#[inline(always)]
const fn table_protocol(protocol: u8) -> u8 {
    if protocol == PROTO_ICMPV6 { PROTO_ICMP } else { protocol }
}

#[inline(always)]
fn inside_key(w: &Work6) -> InsideKey {
    InsideKey {
        src6: w.p.src.to_bits(),
        dst4: w.dst4.to_bits(),
        src_port: w.p.src_port,
        dst_port: w.p.dst_port,
        protocol: table_protocol(w.p.protocol),
        prefix: w.prefix,
    }
}

#[inline(always)]
const fn outside_key(p: &In4) -> OutsideKey {
    OutsideKey {
        out4: p.dst.to_bits(),
        remote4: p.src.to_bits(),
        out_port: p.dst_port,
        remote_port: p.src_port,
        protocol: p.protocol,
    }
}

const fn new_session(key: InsideKey, owner: u8, generation: u16, state: u8, tick: Tick) -> NewSession {
    NewSession {
        key: NewKey::Inside(key),
        kind: Kind::Nat64,
        owner,
        subscriber: 0,
        plan_generation: generation,
        state,
        flags: 0,
        tick,
        aux: 0,
    }
}

/// What a transport checksum gains from IPv6 to IPv4: addresses and the host's port. For an echo, the
/// whole pseudo-header but its length goes away.
fn flow_delta(
    src6: Ipv6Addr,
    port: u16,
    prefix: &Prefix,
    remote4: Ipv4Addr,
    out4: u32,
    out_port: u16,
    protocol: u8,
) -> u16 {
    let six = checksum::sum6(src6) + checksum::sum6(prefix.embed(remote4)) + u64::from(port);
    if protocol == PROTO_ICMP {
        checksum::delta(six + u64::from(PROTO_ICMPV6), u64::from(out_port))
    } else {
        checksum::delta(six, u64::from(out4) + u64::from(remote4.to_bits()) + u64::from(out_port))
    }
}

/// A difference that was computed with `canonical`, for a packet that says `actual`.
#[inline(always)]
fn with_suffix(delta: u16, actual: Ipv6Addr, canonical: Ipv6Addr) -> u16 {
    if actual == canonical {
        return delta;
    }
    let suffix = checksum::delta(checksum::sum6(actual), checksum::sum6(canonical));
    checksum::fold(u64::from(delta) + u64::from(suffix))
}

#[cold]
fn create_failed(e: &CreateError<DropReason>) -> Refusal {
    let reason = match e {
        CreateError::Building => DropReason::Nat64Building,
        CreateError::Conflict => DropReason::Nat64Conflict,
        CreateError::SessionsFull | CreateError::IndexFull => DropReason::Nat64TableFull,
        CreateError::Reserve(reason) => *reason,
    };
    // RFC 6146 3.5.1.1: the host is told when there is nothing to translate it to.
    let tell = match reason {
        DropReason::Nat64TableFull | DropReason::Nat64PoolFull => Tell::AddressUnreachable,
        _ => Tell::Nothing,
    };
    Refusal { reason, tell }
}

#[inline(always)]
fn mtu_of<S: FrameSource>(ctx: &Ctx<'_, S>, interface: IfId) -> u16 {
    ctx.interfaces.get(interface).map_or(UNKNOWN_MTU, |i| i.mtu)
}

#[inline(always)]
fn way_out6<S: FrameSource>(ctx: &Ctx<'_, S>, dst: Ipv6Addr) -> Result<Egress, Refusal> {
    ctx.routes.lookup6(dst).ok_or(Refusal::telling(DropReason::NoRoute, Tell::NoRoute))
}

/// Puts `octets` in place of all octets of the packet.
fn replace<F: Frame>(packet: &mut Packet<F>, octets: &[u8]) -> Result<(), DropReason> {
    let have = packet.frame.octets();
    if have > octets.len() {
        packet.frame.truncate(octets.len());
    } else if packet.frame.push_back(octets.len() - have).is_err() {
        // An error grows by at most 48 octets: there is headroom for that.
        packet.frame.push_front(octets.len() - have).map_err(|_| DropReason::NoHeadroom)?;
    }
    packet.frame.bytes_mut().copy_from_slice(octets);
    Ok(())
}
