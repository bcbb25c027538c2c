//! Mappings (RFC 6146 3.1: the binding information base).
//!
//! ```text
//!  (IPv6 address, port) <--> (pool address, port)      one for all destinations (RFC 4787 4.1, REQ-1)
//! ```
//! A mapping lives as long as it has sessions (RFC 6146 3.1). The NAT64 prefix is no part of its key:
//! the same IPv6 address and port looks the same from IPv4, under whichever prefix it sends. The
//! prefix that it was made under is noted, for sessions that begin outside.

use crate::pool4::Pool4;
use arrayvec::ArrayVec;
use causeway_core::{BURST, DropReason};
use causeway_flowtable::{
    Guard, Lookup, MapInsideKey, MapOutsideKey, Mapping, MappingError, MappingRef, NewMapping, OutsideKey,
    PortSource,
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The one pool set that there is.
const POOL_SET: u8 = 0;

/// Where a new mapping gets its address and port.
struct FromPool<'p> {
    pool: &'p Pool4,
    src6: Ipv6Addr,
    port: u16,
    protocol: u8,
    random: u64,
    /// Reserved before: given out first.
    reserved: Option<(u32, u16)>,
}

impl PortSource for FromPool<'_> {
    fn reserve(&mut self) -> Option<(u32, u16)> {
        if let Some(reserved) = self.reserved.take() {
            return Some(reserved);
        }
        let (a, port) = self.pool.allocate(self.src6, self.port, self.protocol, self.random)?;
        Some((a.to_bits(), port))
    }

    fn release(&mut self, out4: u32, out_port: u16) {
        self.pool.release_unused(Ipv4Addr::from_bits(out4), out_port, self.protocol);
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
    const fn key(&self) -> MapInsideKey {
        MapInsideKey { src6: self.src6.to_bits(), port: self.port, protocol: self.protocol, pool: POOL_SET }
    }
}

/// A mapping that is wanted, and what was found out about it before its turn.
#[derive(Debug)]
pub(crate) struct Ahead<'g> {
    wanted: Wanted,
    random: u64,
    /// Nothing if nobody has looked yet.
    found: Option<Lookup<Mapping<'g>>>,
    /// Reserved, but not used yet.
    port: Option<(u32, u16)>,
}

impl Ahead<'_> {
    /// Nothing is known. `random` is unpredictable.
    pub(crate) const fn new(wanted: Wanted, random: u64) -> Self {
        Self { wanted, random, found: None, port: None }
    }

    /// Gives back a port that was not needed.
    #[inline]
    pub(crate) fn give_back(&mut self, pool: &Pool4) {
        if let Some((out4, port)) = self.port.take() {
            pool.release_unused(Ipv4Addr::from_bits(out4), port, self.wanted.protocol);
        }
    }

    fn source<'p>(&self, pool: &'p Pool4) -> FromPool<'p> {
        let Wanted { src6, port, protocol, .. } = self.wanted;
        FromPool { pool, src6, port, protocol, random: self.random, reserved: self.port }
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
    let keys: ArrayVec<MapInsideKey, BURST> = all.iter().map(|a| a.wanted.key()).collect();
    let mut found = [Lookup::Miss; BURST];
    guard.lookup_mappings_inside(&keys, &mut found);
    for (ahead, found) in all.iter_mut().zip(found) {
        ahead.found = Some(found);
        if matches!(found, Lookup::Miss) {
            let Wanted { src6, port, protocol, .. } = ahead.wanted;
            pool.expect(src6, port, protocol, ahead.random);
        }
    }
}

/// Brings close what making a session to `remote4` and `remote_port` touches; reserves the port of a
/// mapping that is missing for that. To be called some packets before its turn: `before` others come
/// first. False if there was no port: one that a packet before this one turns out not to need may yet
/// serve, so no later packet may reserve any until this one has had its turn.
pub(crate) fn prepare(
    guard: &Guard<'_>,
    pool: &Pool4,
    ahead: &mut Ahead<'_>,
    remote4: u32,
    remote_port: u16,
    before: usize,
) -> bool {
    guard.expect_session_slot(before);
    let protocol = ahead.wanted.protocol;
    let (out4, out_port) = match ahead.found {
        Some(Lookup::Hit(m)) => (m.out4(), m.out_port()),
        Some(Lookup::Miss) => {
            guard.expect_mapping_slot(before);
            ahead.port = ahead.source(pool).reserve();
            let Some((out4, port)) = ahead.port else { return false };
            guard.expect_mapping_outside(&MapOutsideKey { out4, port, protocol });
            (out4, port)
        }
        Some(Lookup::Building) | None => return true,
    };
    guard.expect_outside(&OutsideKey { out4, remote4, out_port, remote_port, protocol });
    true
}

/// The host's mapping, made if there is none (RFC 6146 3.5.1.1). True if it was made.
pub(crate) fn find_or_create<'g>(
    guard: &'g Guard<'_>,
    pool: &Pool4,
    ahead: &mut Ahead<'g>,
) -> Result<(MappingRef<'g>, bool), DropReason> {
    let wanted = ahead.wanted;
    let key = wanted.key();
    // A mapping whose last session ends at this moment cannot be held: then a new one is made.
    match ahead.found.unwrap_or_else(|| guard.lookup_mapping_inside(&key)) {
        Lookup::Hit(m) => {
            if let Some(held) = m.acquire() {
                return Ok((held, false));
            }
        }
        Lookup::Building => return Err(DropReason::Nat64Building),
        Lookup::Miss => {}
    }
    let new = NewMapping {
        key,
        owner: guard.worker(),
        flags: 0,
        subscriber: 0,
        plan_generation: wanted.generation,
        pinned: false,
        aux: u32::from(wanted.prefix),
    };
    let mut ports = ahead.source(pool);
    let created = guard.create_mapping(&new, &mut ports);
    ahead.port = ports.reserved;
    match created {
        Ok(causeway_flowtable::Created::Fresh(m)) => Ok((m, true)),
        Ok(causeway_flowtable::Created::Existing(m)) => Ok((m, false)),
        Err(MappingError::Building) => Err(DropReason::Nat64Building),
        Err(MappingError::NoPort | MappingError::Conflict) => Err(DropReason::Nat64PoolFull),
        Err(MappingError::MappingsFull | MappingError::IndexFull) => Err(DropReason::Nat64TableFull),
    }
}

/// The mapping of a host, if there is one.
pub(crate) fn inside<'g>(
    guard: &'g Guard<'_>,
    src6: Ipv6Addr,
    port: u16,
    protocol: u8,
) -> Option<Mapping<'g>> {
    guard.lookup_mapping_inside(&MapInsideKey { src6: src6.to_bits(), port, protocol, pool: POOL_SET }).hit()
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
