//! Static mappings (RFC 6146 3.1, RFC 6146 3.1: always there, for servers that are to be reached.
//!
//! ```text
//!  plan adopted -> worker 0, some at each poll:  wanted and not there -> made, pinned
//!                                                pinned and not wanted -> unpinned: ends with its sessions
//!  sweep, every worker: sessions of a dynamic mapping that is in the way end
//! ```
//! - A static mapping needs no session to live, and lets everybody in whatever the filtering.
//! - Its outside address need not be in the pool. If it is, the port counts as taken while the mapping
//!   lives, and comes back (resting first) when the mapping has ended.
//! - A dynamic mapping that has the inside or the outside of a static one gives way: it takes no new
//!   sessions, and the sweep ends those that it has. Until it has gone, packets that would need either
//!   mapping are dropped as `nat64-building`, or as `nat64-no-bib` from outside.
//! - A mapping that a reload takes away goes on for the sessions that it has, if its address is still in
//!   the pool; else the sweep ends them.
//! - Sessions from outside come under the first prefix.

use super::bib;
use super::session::Expiry;
use crate::config::{ConfigError, StaticMapping};
use crate::log::{self, LogEvent};
use crate::rfc6052::{Prefixes, is_forwardable};
use crate::subscriber::Who;
use causeway_core::{Counter, Duration, Instant};
use causeway_flowtable::{Created, FixedPort, Guard, Lookup, MapOutsideKey, Mapping, NewMapping, Session};
use causeway_wire::l4::{PROTO_TCP, PROTO_UDP};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Mappings that one poll sees to.
const PER_POLL: usize = 8;
/// Slots that one poll looks at for mappings that are no longer wanted.
const SLOTS_PER_POLL: u32 = 64;
/// When those that found no place are tried again.
const RETRY: Duration = Duration::from_millis(250);

type Outside = (u8, Ipv4Addr, u16);
type Inside = (u8, Ipv6Addr, u16);

const fn outside_of(m: &StaticMapping) -> Outside {
    (m.protocol, m.outside.0, m.outside.1)
}

const fn inside_of(m: &StaticMapping) -> Inside {
    (m.protocol, m.inside.0, m.inside.1)
}

/// The static mappings of a configuration, checked. Immutable.
#[derive(Debug, Default)]
pub(crate) struct Statics {
    /// Sorted by their outside.
    list: Vec<StaticMapping>,
    /// The pool set of each server in `list`, which is part of its mapping's key.
    sets: Vec<u8>,
    /// Sorted by their inside.
    by_inside: Vec<StaticMapping>,
    /// Outside addresses that are in no pool prefix, sorted.
    addresses: Vec<Ipv4Addr>,
}

impl Statics {
    /// Checks `list`.
    pub(crate) fn new(list: &[StaticMapping], prefixes: &Prefixes, who: &Who) -> Result<Self, ConfigError> {
        let (mut by_outside, mut by_inside) = (list.to_vec(), list.to_vec());
        by_outside.sort_unstable_by_key(outside_of);
        by_inside.sort_unstable_by_key(inside_of);
        for m in list {
            let ((out4, out_port), (src6, port)) = (m.outside, m.inside);
            let host = !(src6.is_unspecified() || src6.is_loopback() || src6.is_multicast());
            let transport = matches!(m.protocol, PROTO_UDP | PROTO_TCP) && out_port != 0 && port != 0;
            if !transport || !is_forwardable(out4) || !host || prefixes.contains(src6) {
                return Err(ConfigError::Static(*m));
            }
        }
        let twice = |w: &[StaticMapping]| outside_of(&w[0]) == outside_of(&w[1]);
        let again = |w: &[StaticMapping]| inside_of(&w[0]) == inside_of(&w[1]);
        let pair = by_outside.windows(2).find(|w| twice(w));
        if let Some(w) = pair.or_else(|| by_inside.windows(2).find(|w| again(w))) {
            return Err(ConfigError::StaticTwice(w[0], w[1]));
        }
        let foreign = |a: &Ipv4Addr| !who.in_pool(*a);
        let mut addresses: Vec<_> = list.iter().map(|m| m.outside.0).filter(foreign).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let sets = by_outside.iter().map(|m| who.owner(m.inside.0).set).collect();
        Ok(Self { list: by_outside, sets, by_inside, addresses })
    }

    /// Outside addresses that are in no pool prefix.
    pub(crate) fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    /// True if `a` is the outside address of one, and in no pool prefix.
    #[inline(always)]
    pub(crate) fn has_address(&self, a: Ipv4Addr) -> bool {
        !self.addresses.is_empty() && self.addresses.binary_search(&a).is_ok()
    }

    fn at_outside(&self, key: &Outside) -> Option<(&StaticMapping, u8)> {
        let n = self.list.binary_search_by_key(key, outside_of).ok()?;
        self.list.get(n).zip(self.sets.get(n).copied())
    }

    fn at_inside(&self, key: &Inside) -> Option<&StaticMapping> {
        self.by_inside.binary_search_by_key(key, inside_of).ok().and_then(|n| self.by_inside.get(n))
    }

    /// True if this inside has a static mapping.
    pub(crate) fn has_inside(&self, src6: Ipv6Addr, port: u16, protocol: u8) -> bool {
        !self.list.is_empty() && self.at_inside(&(protocol, src6, port)).is_some()
    }

    /// True if this mapping is one of them.
    pub(crate) fn is_one(&self, m: &Mapping<'_>) -> bool {
        let outside = (m.protocol(), Ipv4Addr::from_bits(m.out4()), m.out_port());
        let inside = (m.protocol(), Ipv6Addr::from_bits(m.src6()), m.src_port());
        m.is_pinned()
            && self.at_outside(&outside).is_some_and(|(s, set)| inside_of(s) == inside && set == m.pool())
    }

    /// True if this mapping is in the way of one of them.
    #[inline]
    pub(crate) fn in_the_way(&self, m: &Mapping<'_>) -> bool {
        !self.list.is_empty() && self.meets(m)
    }

    #[cold]
    fn meets(&self, m: &Mapping<'_>) -> bool {
        let outside = (m.protocol(), Ipv4Addr::from_bits(m.out4()), m.out_port());
        let inside = (m.protocol(), Ipv6Addr::from_bits(m.src6()), m.src_port());
        (self.at_outside(&outside).is_some() || self.at_inside(&inside).is_some()) && !self.is_one(m)
    }

    /// True if this session's mapping is in the way of one of them.
    pub(crate) fn displace(&self, session: &Session<'_>) -> bool {
        !self.list.is_empty() && session.mapping().is_some_and(|m| self.meets(&m))
    }

    /// True if there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// What worker 0 has still to do about static mappings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeper {
    /// Where the search for mappings that are no longer wanted goes on.
    scan: Option<u32>,
    /// The next one to see to.
    next: usize,
    /// Some found no place in this round.
    missing: bool,
    /// All are there.
    done: bool,
    /// Not before.
    from: Instant,
}

impl Keeper {
    /// Everything is to be done.
    pub(crate) const fn new() -> Self {
        Self { scan: Some(0), next: 0, missing: false, done: false, from: Instant::ZERO }
    }

    /// Does a bounded part of it. Worker 0 alone may call this.
    #[inline]
    pub(crate) fn keep(&mut self, guard: &Guard<'_>, expiry: &mut Expiry<'_>) {
        if self.scan.is_some() {
            self.look_for_unwanted(guard, expiry);
        }
        if !self.done && expiry.now >= self.from {
            self.make(guard, expiry);
        }
    }

    /// True if there is nothing to do.
    #[inline]
    pub(crate) const fn is_idle(&self) -> bool {
        self.done && self.scan.is_none()
    }

    #[cold]
    fn look_for_unwanted(&mut self, guard: &Guard<'_>, expiry: &mut Expiry<'_>) {
        let Some(from) = self.scan else { return };
        let pool = expiry.pool;
        self.scan = guard.mappings(from, SLOTS_PER_POLL, |m| {
            if m.is_pinned() && !pool.statics().is_one(m) {
                guard.unpin(m, expiry);
            }
        });
    }

    #[cold]
    fn make(&mut self, guard: &Guard<'_>, expiry: &Expiry<'_>) {
        for _ in 0..PER_POLL {
            match expiry.pool.statics().list.get(self.next) {
                Some(m) => {
                    self.missing |= !make(guard, m, expiry);
                    self.next += 1;
                }
                None => {
                    (self.done, self.missing, self.next) = (!self.missing, false, 0);
                    self.from = expiry.now + RETRY;
                    expiry.pool.statics_are_made(self.done);
                    return;
                }
            }
        }
    }
}

/// Makes one, unless it is there. False if it found no place.
fn make(guard: &Guard<'_>, m: &StaticMapping, expiry: &Expiry<'_>) -> bool {
    let ((out4, out_port), (src6, port)) = (m.outside, m.inside);
    let key = MapOutsideKey { out4: out4.to_bits(), port: out_port, protocol: m.protocol };
    match guard.lookup_mapping_outside(&key) {
        Lookup::Hit(there) => {
            let ours = expiry.pool.statics().is_one(&there);
            if ours {
                expiry.pool.static_is_made(out4, out_port, m.protocol);
            }
            return ours;
        }
        Lookup::Building => return false,
        Lookup::Miss => {}
    }
    let new = NewMapping {
        key: bib::key(expiry.pool, src6, port, m.protocol),
        owner: guard.worker(),
        flags: 0,
        subscriber: 0,
        plan_generation: expiry.config.options().generation,
        pinned: true,
        aux: u32::from(expiry.config.prefixes().first()),
    };
    let Ok(Created::Fresh(made)) = guard.create_mapping(&new, &mut FixedPort::new(out4.to_bits(), out_port))
    else {
        return false;
    };
    expiry.pool.static_is_made(out4, out_port, m.protocol);
    expiry.counters.add(Counter::Nat64MappingsCreated, 1);
    log::mapping(expiry.log, expiry.config, expiry.now, LogEvent::MappingCreated, &made);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;

    fn prefixes() -> Prefixes {
        Prefixes::new(&["2001:db8:64:ff9b::/96".parse().unwrap()]).unwrap()
    }

    fn one(protocol: u8, outside: &str, out_port: u16, inside: &str, port: u16) -> StaticMapping {
        let (outside, inside) = ((outside.parse().unwrap(), out_port), (inside.parse().unwrap(), port));
        StaticMapping { protocol, outside, inside }
    }

    fn statics(list: &[StaticMapping]) -> Result<Statics, ConfigError> {
        let options = Options { pool: vec!["203.0.113.0/28".parse().unwrap()], ..Options::default() };
        Statics::new(list, &prefixes(), &Who::new(&options, None).unwrap())
    }

    #[test]
    fn rfc6146_3_1_what_a_static_mapping_may_be() {
        let good = one(6, "203.0.113.1", 80, "2001:db8:64::101", 8080);
        assert!(statics(&[good]).is_ok());
        for bad in [
            one(1, "203.0.113.1", 80, "2001:db8:64::101", 8080),
            one(6, "203.0.113.1", 0, "2001:db8:64::101", 8080),
            one(6, "203.0.113.1", 80, "2001:db8:64::101", 0),
            one(6, "224.0.0.1", 80, "2001:db8:64::101", 8080),
            one(6, "203.0.113.1", 80, "::", 8080),
            one(6, "203.0.113.1", 80, "::1", 8080),
            one(6, "203.0.113.1", 80, "ff02::1", 8080),
            one(6, "203.0.113.1", 80, "2001:db8:64:ff9b::1", 8080),
        ] {
            assert_eq!(statics(&[good, bad]).unwrap_err(), ConfigError::Static(bad));
        }
        for other in [
            one(6, "203.0.113.1", 80, "2001:db8:64::102", 1),
            one(6, "203.0.113.2", 81, "2001:db8:64::101", 8080),
        ] {
            assert!(matches!(statics(&[good, other]).unwrap_err(), ConfigError::StaticTwice(..)));
        }
        // Another protocol is another matter.
        assert!(statics(&[good, StaticMapping { protocol: 17, ..good }]).is_ok());
    }

    #[test]
    fn addresses_outside_the_pool_are_known_once() {
        let a = one(6, "203.0.113.1", 80, "2001:db8:64::101", 80);
        let b = one(6, "198.51.100.200", 80, "2001:db8:64::102", 80);
        let c = one(6, "198.51.100.200", 81, "2001:db8:64::103", 80);
        let s = statics(&[a, b, c]).unwrap();
        assert_eq!(s.addresses(), ["198.51.100.200".parse::<Ipv4Addr>().unwrap()]);
        assert!(s.has_address(b.outside.0) && !s.has_address(a.outside.0));
        assert!(s.has_inside(c.inside.0, 80, 6) && !s.has_inside(c.inside.0, 80, 17));
    }
}
