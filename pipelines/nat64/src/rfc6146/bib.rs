//! Mappings (RFC 6146 3.1: the binding information base).
//!
//! ```text
//!  (IPv6 address, port) <--> (pool address, port)      one for all destinations (RFC 4787 4.1, REQ-1)
//! ```
//! A mapping lives as long as it has sessions (RFC 6146 3.1). The NAT64 prefix is no part of its key:
//! the same IPv6 address and port looks the same from IPv4, under whichever prefix it sends. The
//! prefix that it was made under is noted, for sessions that begin outside.

use crate::pool4::Pool4;
use causeway_core::DropReason;
use causeway_flowtable::{
    Guard, Lookup, MapInsideKey, MapOutsideKey, Mapping, MappingError, MappingRef, NewMapping, PortSource,
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The one pool set that there is.
pub(crate) const POOL_SET: u8 = 0;

/// Where a new mapping gets its address and port.
struct FromPool<'p> {
    pool: &'p Pool4,
    src6: Ipv6Addr,
    port: u16,
    protocol: u8,
    random: u64,
}

impl PortSource for FromPool<'_> {
    fn reserve(&mut self) -> Option<(u32, u16)> {
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

/// The host's mapping, made if there is none (RFC 6146 3.5.1.1). True if it was made.
pub(crate) fn find_or_create<'g>(
    guard: &'g Guard<'_>,
    pool: &Pool4,
    wanted: &Wanted,
    random: u64,
) -> Result<(MappingRef<'g>, bool), DropReason> {
    let key = wanted.key();
    // A mapping whose last session ends at this moment cannot be held: then a new one is made.
    match guard.lookup_mapping_inside(&key) {
        // A static mapping is about to take its place.
        Lookup::Hit(m) if pool.statics().in_the_way(&m) => return Err(DropReason::Nat64Building),
        Lookup::Hit(m) => {
            if let Some(held) = m.acquire() {
                return Ok((held, false));
            }
        }
        Lookup::Building => return Err(DropReason::Nat64Building),
        Lookup::Miss => {}
    }
    // It has a static one, which will be there in a moment.
    if pool.statics().has_inside(wanted.src6, wanted.port, wanted.protocol) {
        return Err(DropReason::Nat64Building);
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
    let mut ports =
        FromPool { pool, src6: wanted.src6, port: wanted.port, protocol: wanted.protocol, random };
    match guard.create_mapping(&new, &mut ports) {
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
