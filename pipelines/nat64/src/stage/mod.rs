//! The stage: vectors of packets in, verdicts out.
//!
//! ```text
//!  parse all -> hash all, look up all -> per packet: follow the session, find the way out, rewrite
//!      |                |
//!      | refused        | none: make mapping and session, one packet at a time
//!      v                | fragments, errors: aside, one packet at a time
//!   ICMP error          v
//! ```
//! One per worker. The flow table, the pool and the configuration are shared.
//!
//! - `inside`: from IPv6 to IPv4.
//! - `outside`: from IPv4 to IPv6.
//! - `held`: fragments that wait for the first of their packet.
//! - `syn`: SYNs from outside that wait for the one from inside.
//! - `probe`: idle connections are asked for a sign of life.

mod held;
mod inside;
mod outside;
mod probe;
mod syn;

use crate::config::{Config, Filtering};
use crate::log::{self, Log, LogEvent};
use crate::pool4::{Note, Pool4};
use crate::random::{Identifications, Random};
use crate::rfc6052::Prefix;
use crate::rfc6146::fragments::Fragments;
use crate::rfc6146::permission::{self, COUNTED};
use crate::rfc6146::session::{Expiry, is_older};
use crate::rfc6146::statics::Keeper;
use crate::rfc6146::syn::Syns;
use crate::rfc7915::{Refusal, Tell, icmp};
use arrayvec::ArrayVec;
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{
    BURST, Counter, Counters, Ctx, DropReason, Frame, FrameSource, IfId, Instant, Packet, Verdict,
};
use causeway_flowtable::{
    CreateError, Guard, InsideKey, Kind, Mapping, NewKey, NewSession, Session, Swept, Tick,
};
use causeway_wire::l4::{PROTO_ICMP, PROTO_ICMPV6};
use causeway_wire::{checksum, ethernet};
use std::net::Ipv6Addr;
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
    fragments: Fragments<F>,
    syns: Syns<F>,
    keeper: Keeper,
    log: Option<Arc<Log>>,
}

impl<F: Frame> Nat64<F> {
    /// A NAT64 over a shared pool. `errors` limits the ICMP errors that it sends.
    #[must_use]
    pub fn new(config: Arc<Config>, pool: Arc<Pool4>, errors: IcmpErrors) -> Self {
        let mut random = Random::new();
        let ids = Identifications::new(&mut random);
        let fragments = Fragments::new(config.options().timeouts.fragment);
        Self {
            config,
            pool,
            errors,
            random,
            ids,
            scratch: Box::new([0; icmp::SCRATCH]),
            fragments,
            syns: Syns::new(),
            keeper: Keeper::new(),
            log: None,
        }
    }

    /// Writes the mapping log there from now on.
    pub fn set_log(&mut self, log: Arc<Log>) {
        self.log = Some(log);
    }

    /// Takes over a new configuration and the pool that goes with it (see [`Pool4::successor`]).
    /// Fragments that wait are given up.
    pub fn reconfigure(&mut self, config: Arc<Config>, pool: Arc<Pool4>) {
        self.fragments = Fragments::new(config.options().timeouts.fragment);
        self.keeper = Keeper::new();
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

    /// How many packets wait: fragments, and SYNs from outside.
    #[must_use]
    pub fn held(&self) -> usize {
        self.fragments.held() + self.syns.len()
    }

    /// Ends what has been idle too long among the next `slots` sessions, and does what [`Nat64::poll`]
    /// does. Once a poll.
    pub fn sweep<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        slots: u32,
    ) -> Swept {
        self.poll(ctx, guard);
        let mut expiry = self.expiry(guard, ctx.counters, ctx.now);
        let swept = guard.sweep(slots, Tick::at(ctx.now), &mut expiry);
        let probes = expiry.probes;
        self.send_probes(ctx, &probes);
        swept
    }

    /// Who judges sessions of this NAT64 now.
    #[must_use]
    pub fn expiry<'a>(&'a self, guard: &'a Guard<'a>, counters: &'a Counters, now: Instant) -> Expiry<'a> {
        Expiry {
            config: &self.config,
            pool: &self.pool,
            counters,
            log: self.log.as_deref(),
            now,
            guard,
            probes: ArrayVec::new(),
        }
    }

    /// True if a session that was found may go on under the present plan. One that may not has ended: no
    /// packet leaves in a way in which its answer would not come back.
    #[inline(always)]
    fn goes_on(&self, guard: &Guard<'_>, counters: &Counters, now: Instant, session: &Session<'_>) -> bool {
        !is_older(session.plan_generation(), self.generation())
            || self.is_still_allowed(guard, counters, now, session)
    }

    #[cold]
    #[inline(never)]
    fn is_still_allowed(
        &self,
        guard: &Guard<'_>,
        counters: &Counters,
        now: Instant,
        s: &Session<'_>,
    ) -> bool {
        let mut expiry = self.expiry(guard, counters, now);
        if expiry.allowed(s) {
            s.set_plan_generation(self.generation());
            return true;
        }
        // Where there is no room to end it now the sweep will.
        guard.end(s, &mut expiry);
        false
    }

    /// Translates IPv6 packets to IPv4 (class `Nat64In`). Verdict `n` is that of packet `n`; as many are
    /// taken as both slices have. A packet whose verdict is `Held` goes to [`Nat64::hold`].
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

    /// The prefix of this number. A session of an older plan may name one that is gone.
    #[inline(always)]
    fn prefix(&self, number: u8) -> Result<&Prefix, Refusal> {
        self.config.prefixes().get(number).ok_or(Refusal::silent(DropReason::Nat64BadDestination))
    }

    /// For what is written to the mapping log now.
    fn note(&self, now: Instant) -> Note<'_> {
        Note { log: self.log.as_deref(), options: &self.config.options().log, now }
    }

    /// The flags of a new session: whether it counts in a permission.
    fn session_flags(&self) -> u8 {
        if self.config.options().filtering == Filtering::AddressDependent { COUNTED } else { 0 }
    }

    /// Counts a new session in its permission, where filtering needs one.
    fn permit(
        &self,
        guard: &Guard<'_>,
        counters: &Counters,
        mapping: &Mapping<'_>,
        remote4: u32,
    ) -> Result<(), DropReason> {
        if self.config.options().filtering == Filtering::AddressDependent
            && permission::take(guard, mapping, remote4, self.generation())?
        {
            counters.add(Counter::Nat64PermissionsCreated, 1);
        }
        Ok(())
    }

    /// Undoes what a session that was not made after all has left: its subscriber's count of it, its place
    /// in a permission, and its mapping if nobody else has that.
    #[cold]
    fn undo(&self, guard: &Guard<'_>, counters: &Counters, now: Instant, undo: &Undo<'_>, remote4: u32) {
        let mut expiry = self.expiry(guard, counters, now);
        let m = undo.mapping;
        self.pool.cancel_session(m.subscriber(), undo.inside);
        if undo.permitted && self.session_flags() != 0 {
            let out = (m.out4(), m.out_port());
            permission::give_back(guard, out, remote4, m.protocol(), &mut expiry);
        }
        if let Some(held) = m.acquire() {
            guard.release_mapping(held, &mut expiry);
        }
    }

    /// Logs that a session began, if that is wanted.
    #[inline]
    fn log_session(&self, at: Instant, event: LogEvent, session: &Session<'_>) {
        log::session(self.log.as_deref(), &self.config, at, event, session);
    }

    /// Logs that a mapping began, if that is wanted.
    #[inline]
    fn log_mapping(&self, at: Instant, event: LogEvent, mapping: &Mapping<'_>) {
        log::mapping(self.log.as_deref(), &self.config, at, event, mapping);
    }

    /// Generation of the plan.
    fn generation(&self) -> u16 {
        self.config.options().generation
    }
}

/// The protocol number under which the table keeps a flow: ICMPv6 goes by ICMP's.
#[inline(always)]
const fn table_protocol(protocol: u8) -> u8 {
    if protocol == PROTO_ICMPV6 { PROTO_ICMP } else { protocol }
}

const fn new_session(
    key: InsideKey,
    owner: u8,
    generation: u16,
    state: u8,
    flags: u8,
    tick: Tick,
) -> NewSession {
    NewSession {
        key: NewKey::Inside(key),
        kind: Kind::Nat64,
        owner,
        subscriber: 0,
        plan_generation: generation,
        state,
        flags,
        tick,
        aux: 0,
    }
}

/// What a session that is being made has so far.
#[derive(Debug, Clone, Copy)]
struct Undo<'g> {
    mapping: Mapping<'g>,
    /// It is counted in its permission.
    permitted: bool,
    /// The packet comes from inside.
    inside: bool,
}

/// One flow, for its checksum difference.
#[derive(Debug, Clone, Copy)]
struct Ends {
    host6: u128,
    host_port: u16,
    remote4: u32,
    out4: u32,
    out_port: u16,
    protocol: u8,
}

impl Ends {
    /// What a transport checksum gains from IPv6 to IPv4: addresses and the host's port. For an echo, the
    /// whole pseudo-header but its length goes away.
    fn delta(&self, prefix: &Prefix) -> u16 {
        let sum = |a: u128| checksum::sum6(Ipv6Addr::from_bits(a));
        let six = sum(self.host6) + sum(prefix.embed_bits(self.remote4)) + u64::from(self.host_port);
        if self.protocol == PROTO_ICMP {
            checksum::delta(six + u64::from(PROTO_ICMPV6), u64::from(self.out_port))
        } else {
            checksum::delta(six, u64::from(self.out4) + u64::from(self.remote4) + u64::from(self.out_port))
        }
    }
}

#[cold]
fn create_failed(e: &CreateError<DropReason>) -> Refusal {
    let reason = match e {
        CreateError::Building => DropReason::Nat64Building,
        CreateError::Conflict => DropReason::Nat64Conflict,
        CreateError::SessionsFull | CreateError::IndexFull => DropReason::Nat64TableFull,
        CreateError::Reserve(reason) => *reason,
    };
    // RFC 6146 3.5.1.1, RFC 6888 3, REQ-11 b: the host is told when there is nothing to translate it to.
    let tell = match reason {
        DropReason::Nat64TableFull
        | DropReason::Nat64PoolFull
        | DropReason::Nat64SubscriberPorts
        | DropReason::Nat64SubscriberSessions
        | DropReason::Nat64SubscriberRate
        | DropReason::Nat64SubscribersFull => Tell::AddressUnreachable,
        _ => Tell::Nothing,
    };
    Refusal { reason, tell }
}

#[inline(always)]
fn mtu_of<S: FrameSource>(ctx: &Ctx<'_, S>, interface: IfId) -> u16 {
    ctx.interfaces.get(interface).map_or(UNKNOWN_MTU, |i| i.mtu)
}

/// Puts `octets` in place of all octets of the packet, and says what it is now.
fn replace<F: Frame>(packet: &mut Packet<F>, octets: &[u8]) -> Result<(), DropReason> {
    let have = packet.frame.octets();
    if have > octets.len() {
        packet.frame.truncate(octets.len());
    } else if packet.frame.push_back(octets.len() - have).is_err() {
        // An error grows by at most 48 octets: there is headroom for that.
        packet.frame.push_front(octets.len() - have).map_err(|_| DropReason::NoHeadroom)?;
    }
    packet.frame.bytes_mut().copy_from_slice(octets);
    let m = &mut packet.meta;
    (m.ethertype, m.protocol, m.l4) = match octets.first().map(|o| o >> 4) {
        Some(4) => (ethernet::ETHERTYPE_IPV4, PROTO_ICMP, 20),
        _ => (ethernet::ETHERTYPE_IPV6, PROTO_ICMPV6, 40),
    };
    (m.fragment, m.hop_done) = (false, true);
    Ok(())
}
