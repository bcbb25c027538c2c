//! Mappings (RFC 6146 3.1: the binding information base).
//!
//! ```text
//!  (IPv6 address, port) <--> (pool address, port)      one for all destinations (RFC 4787 4.1, REQ-1)
//! ```
//! A mapping lives as long as it has sessions (RFC 6146 3.1). The NAT64 prefix is no part of its key:
//! the same IPv6 address and port looks the same from IPv4, under whichever prefix it sends. The
//! prefix that it was made under is noted, for sessions that begin outside.

use super::session::is_older;
use crate::pool4::{Admitted, Home, Note, Pool4};
use arrayvec::ArrayVec;
use causeway_core::{BURST, DropReason};
use causeway_flowtable::{
    Created, Guard, Lookup, MapInsideKey, MapOutsideKey, Mapping, MappingError, MappingRef, NewMapping,
    OutsideKey, PortSource,
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Where a new mapping gets its address and port.
struct FromPool<'p> {
    pool: &'p Pool4,
    admitted: Option<&'p Admitted>,
    wanted: &'p Wanted,
    random: u64,
    note: &'p Note<'p>,
    /// Reserved before: given out first.
    reserved: Option<(Ipv4Addr, u16)>,
    /// What was given last.
    given: Option<(Ipv4Addr, u16)>,
    /// Why nothing was.
    refused: DropReason,
}

impl FromPool<'_> {
    /// What was given last turned out to be another mapping's.
    fn conflict(&mut self) {
        if let Some(at) = self.given.take() {
            self.pool.not_ours(self.admitted, at, self.wanted.protocol, self.note);
        }
    }
}

impl PortSource for FromPool<'_> {
    fn reserve(&mut self) -> Option<(u32, u16)> {
        self.conflict();
        if let Some((a, port)) = self.reserved.take() {
            self.given = Some((a, port));
            return Some((a.to_bits(), port));
        }
        let w = self.wanted;
        match self.pool.give(self.admitted, w.src6, w.port, w.protocol, self.random, self.note) {
            Ok((a, port)) => {
                self.given = Some((a, port));
                Some((a.to_bits(), port))
            }
            Err(reason) => {
                self.refused = reason;
                None
            }
        }
    }

    fn release(&mut self, out4: u32, out_port: u16) {
        self.given = None;
        let at = (Ipv4Addr::from_bits(out4), out_port);
        self.pool.not_needed(self.admitted, at, self.wanted.protocol, self.note);
    }
}

/// Whose mapping, and under which plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) src6: Ipv6Addr,
    pub(crate) port: u16,
    pub(crate) protocol: u8,
    /// Number of the prefix that the host sent under.
    pub(crate) prefix: u8,
    pub(crate) generation: u16,
}

impl Wanted {
    fn key(&self, pool: &Pool4) -> MapInsideKey {
        key(pool, self.src6, self.port, self.protocol)
    }
}

pub(crate) fn key(pool: &Pool4, src6: Ipv6Addr, port: u16, protocol: u8) -> MapInsideKey {
    MapInsideKey { src6: src6.to_bits(), port, protocol, pool: pool.set_of(src6) }
}

/// A mapping that is wanted, and what was found out about it before its turn.
#[derive(Debug)]
pub(crate) struct Ahead<'g> {
    wanted: Wanted,
    random: u64,
    /// Nothing if nobody has looked yet.
    found: Option<Lookup<Mapping<'g>>>,
    /// Where the search for a port begins.
    home: Option<Home>,
    /// Reserved, but not used yet.
    reserved: Option<(Ipv4Addr, u16)>,
}

impl Ahead<'_> {
    /// Nothing is known. `random` is unpredictable.
    pub(crate) const fn new(wanted: Wanted, random: u64) -> Self {
        Self { wanted, random, found: None, home: None, reserved: None }
    }

    /// Gives back a port that was not needed.
    #[inline]
    pub(crate) fn give_back(&mut self, pool: &Pool4) {
        if let Some((a, port)) = self.reserved.take() {
            pool.release_unused(a, port, self.wanted.protocol);
        }
    }
}

/// Looks for the mappings of a burst.
pub(crate) fn look_ahead<'g, 'a>(
    guard: &'g Guard<'_>,
    pool: &Pool4,
    wanted: impl Iterator<Item = &'a mut Ahead<'g>>,
) where
    'g: 'a,
{
    let mut all: ArrayVec<&mut Ahead<'g>, BURST> = wanted.take(BURST).collect();
    let keys: ArrayVec<MapInsideKey, BURST> = all.iter().map(|a| a.wanted.key(pool)).collect();
    let mut found = [Lookup::Miss; BURST];
    guard.lookup_mappings_inside(&keys, &mut found);
    for (ahead, found) in all.iter_mut().zip(found) {
        ahead.found = Some(found);
        if matches!(found, Lookup::Miss) {
            let Wanted { src6, port, protocol, .. } = ahead.wanted;
            ahead.home = pool.near(src6, port, protocol, ahead.random);
        }
    }
}

/// Brings close what making a session to `remote4` and `remote_port` touches; reserves the port of a
/// mapping that is missing for that, unless somebody is accounted for it. To be called some packets before
/// its turn: `before` others come first. False if there was no port: one that a packet before this one
/// turns out not to need may yet serve, so no later packet may reserve any until this one has had its turn.
pub(crate) fn prepare(
    guard: &Guard<'_>,
    pool: &Pool4,
    ahead: &mut Ahead<'_>,
    remote4: u32,
    remote_port: u16,
    before: usize,
) -> bool {
    guard.expect_session_slot(before);
    let Wanted { src6, port, protocol, .. } = ahead.wanted;
    let (out4, out_port) = match ahead.found {
        Some(Lookup::Hit(m)) => (m.out4(), m.out_port()),
        Some(Lookup::Miss) => {
            guard.expect_mapping_slot(before);
            let Some(home) = &ahead.home else { return true };
            ahead.reserved = pool.allocate_near(home, src6, port, protocol, ahead.random);
            let Some((a, port)) = ahead.reserved else { return false };
            guard.expect_mapping_outside(&MapOutsideKey { out4: a.to_bits(), port, protocol });
            (a.to_bits(), port)
        }
        Some(Lookup::Building) | None => return true,
    };
    guard.expect_outside(&OutsideKey { out4, remote4, out_port, remote_port, protocol });
    true
}

/// The host's mapping, made if there is none (RFC 6146 3.5.1.1). True if it was made.
///
/// A session of the mapping's subscriber was counted then: who makes none gives it back with
/// [`Pool4::cancel_session`]. What is refused is refused before anything is made of it.
pub(crate) fn find_or_create<'g>(
    guard: &'g Guard<'_>,
    pool: &Pool4,
    ahead: &mut Ahead<'g>,
    note: &Note<'_>,
) -> Result<(MappingRef<'g>, bool), DropReason> {
    let (wanted, random) = (&ahead.wanted, ahead.random);
    let key = wanted.key(pool);
    // A mapping whose last session ends at this moment cannot be held: then a new one is made.
    match ahead.found.unwrap_or_else(|| guard.lookup_mapping_inside(&key)) {
        // A static mapping is about to take its place.
        Lookup::Hit(m) if pool.statics().in_the_way(&m) => return Err(DropReason::Nat64Building),
        Lookup::Hit(m) => {
            if let Some(held) = m.acquire() {
                return allowed(pool, held, wanted, note).map(|m| (m, false));
            }
        }
        Lookup::Building => return Err(DropReason::Nat64Building),
        Lookup::Miss => {}
    }
    // It has a static one, which will be there in a moment.
    if pool.statics().has_inside(wanted.src6, wanted.port, wanted.protocol) {
        return Err(DropReason::Nat64Building);
    }
    let admitted = pool.admit(wanted.src6, note.now)?;
    let new = NewMapping {
        key,
        owner: guard.worker(),
        flags: 0,
        subscriber: admitted.as_ref().map_or(0, Admitted::number),
        plan_generation: wanted.generation,
        pinned: false,
        aux: u32::from(wanted.prefix),
    };
    let mut ports = FromPool {
        pool,
        admitted: admitted.as_ref(),
        wanted,
        random,
        note,
        reserved: ahead.reserved.take(),
        given: None,
        refused: DropReason::Nat64PoolFull,
    };
    let created = guard.create_mapping(&new, &mut ports);
    // What was not asked for after all goes back when the packet's turn is over.
    ahead.reserved = ports.reserved.take();
    let reason = match created {
        Ok(Created::Fresh(m)) => return Ok((m, true)),
        Ok(Created::Existing(m)) => {
            give_back(pool, admitted.as_ref());
            return allowed(pool, m, wanted, note).map(|m| (m, false));
        }
        Err(MappingError::Building) => DropReason::Nat64Building,
        Err(MappingError::NoPort) => {
            ports.conflict();
            ports.refused
        }
        Err(MappingError::Conflict) => {
            ports.conflict();
            DropReason::Nat64PoolFull
        }
        Err(MappingError::MappingsFull | MappingError::IndexFull) => DropReason::Nat64TableFull,
    };
    give_back(pool, admitted.as_ref());
    Err(reason)
}

/// What was counted for a mapping that was not made.
fn give_back(pool: &Pool4, admitted: Option<&Admitted>) {
    if let Some(a) = admitted {
        pool.cancel_session(a.number(), true);
        pool.dismiss(a);
    }
}

/// A mapping that is there, for one more session.
fn allowed<'g>(
    pool: &Pool4,
    held: MappingRef<'g>,
    wanted: &Wanted,
    note: &Note<'_>,
) -> Result<MappingRef<'g>, DropReason> {
    // Its plan may have had another pool. It ends with its sessions, and then the host gets a new one.
    if is_older(held.plan_generation(), wanted.generation)
        && !held.is_pinned()
        && !pool.serves(wanted.src6, Ipv4Addr::from_bits(held.out4()), held.out_port())
    {
        return Err(DropReason::Nat64Building);
    }
    pool.begin_session(held.subscriber(), note.now, true)?;
    Ok(held)
}

/// False if a static mapping is about to take this one's place, or the plan of `generation` gave its address
/// to others.
pub(crate) fn may_be_used(pool: &Pool4, m: &Mapping<'_>, generation: u16) -> bool {
    let gone = is_older(m.plan_generation(), generation)
        && !m.is_pinned()
        && !pool.serves(Ipv6Addr::from_bits(m.src6()), Ipv4Addr::from_bits(m.out4()), m.out_port());
    !gone && !pool.statics().in_the_way(m)
}

/// The mapping of a host, if there is one.
pub(crate) fn inside<'g>(
    guard: &'g Guard<'_>,
    pool: &Pool4,
    src6: Ipv6Addr,
    port: u16,
    protocol: u8,
) -> Option<Mapping<'g>> {
    guard.lookup_mapping_inside(&key(pool, src6, port, protocol)).hit()
}

/// The mapping of a pool address and port.
///
/// # Errors
/// `Nat64NoBib` if there is none (RFC 6146 3.5.1, 3.5.2, 3.5.3), `Nat64Building` if there is one in a
/// moment.
pub(crate) fn outside<'g>(
    guard: &'g Guard<'_>,
    out4: Ipv4Addr,
    port: u16,
    protocol: u8,
) -> Result<Mapping<'g>, DropReason> {
    match guard.lookup_mapping_outside(&MapOutsideKey { out4: out4.to_bits(), port, protocol }) {
        Lookup::Hit(m) => Ok(m),
        Lookup::Building => Err(DropReason::Nat64Building),
        Lookup::Miss => Err(DropReason::Nat64NoBib),
    }
}

/// Number of the prefix that a mapping was made under.
pub(crate) fn prefix_of(mapping: &Mapping<'_>) -> u8 {
    // It was written from an octet.
    u8::try_from(mapping.aux()).unwrap_or(0)
}
