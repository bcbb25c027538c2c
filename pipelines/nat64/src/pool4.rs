//! The IPv4 addresses and ports that IPv6 hosts share (RFC 6146 3.5.1.1, RFC 4787 4, RFC 6888).
//!
//! ```text
//!  source address --keyed hash--> pool address --random start--> port
//!                                  full: the next ones, a bounded number of times
//! ```
//!
//! - Paired pooling (RFC 4787 4.1, REQ-2): a host keeps one IPv4 address as long as that has ports left,
//!   because the hash of its source address decides. No table of pairs is needed.
//! - The hash key and the random numbers are this process's own (RFC 6056 3.3): nobody outside can
//!   aim at an address or foresee a port.
//! - All workers allocate from the same sets; nothing is partitioned.
//! - A port that comes back rests (RFC 6888 4, REQ-8) before anybody gets it again.

use crate::config::Config;
use causeway_core::{Instant, Prefix4};
use causeway_flowtable::ports::{Parity, PortBitmap};
use causeway_wire::l4::{PROTO_ICMP, PROTO_TCP, PROTO_UDP};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many further addresses are tried when the host's own has no port left.
pub const TRIES: usize = 8;

/// Ports below this are the well-known ones, which RFC 6146 3.5.1.1 keeps apart.
const WELL_KNOWN_END: u16 = 1024;

/// The protocols that have ports or identifiers to give out.
pub const PROTOCOLS: [u8; 3] = [PROTO_UDP, PROTO_TCP, PROTO_ICMP];

#[derive(Debug, Default)]
struct Address {
    ports: [PortBitmap; PROTOCOLS.len()],
}

/// How much of one pool address is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The address.
    pub address: Ipv4Addr,
    /// UDP, TCP or ICMP, by protocol number.
    pub protocol: u8,
    /// Ports or identifiers that are taken or resting.
    pub in_use: u32,
    /// How many there are to give out.
    pub of: u32,
}

/// The pool, shared by all workers.
#[derive(Debug)]
pub struct Pool4 {
    /// Each prefix with the place of its first address in `addresses`.
    prefixes: Vec<(Prefix4, usize)>,
    addresses: Vec<Arc<Address>>,
    key: RandomState,
    first_port: u16,
    last_port: u16,
    keep_parity: bool,
    held: bool,
    /// Microseconds between the turns of two port sets, so that each has one turn per hold-down.
    turn_micros: u64,
    /// When the next turn is due, and which set has it.
    next_turn: AtomicU64,
    turn: AtomicU64,
}

impl Pool4 {
    /// A pool in which every port is free.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::build(config, None)
    }

    /// The pool of a new configuration. Addresses that both have keep their ports, taken or free, and
    /// hosts keep their addresses as far as the pool is the same.
    #[must_use]
    pub fn successor(&self, config: &Config) -> Self {
        Self::build(config, Some(self))
    }

    fn build(config: &Config, before: Option<&Self>) -> Self {
        let o = config.options();
        let (mut prefixes, mut addresses) = (Vec::new(), Vec::new());
        for p in &o.pool {
            prefixes.push((*p, addresses.len()));
            for a in p.address().to_bits()..=p.last().to_bits() {
                let kept = before.and_then(|b| b.address(Ipv4Addr::from_bits(a)));
                addresses.push(kept.map_or_else(Arc::default, Arc::clone));
            }
        }
        let sets = u64::try_from(addresses.len() * PROTOCOLS.len()).unwrap_or(u64::MAX).max(1);
        let hold_micros = u64::try_from(o.hold_down.as_micros()).unwrap_or(u64::MAX);
        Self {
            prefixes,
            addresses,
            key: before.map_or_else(RandomState::new, |b| b.key.clone()),
            first_port: o.first_port,
            last_port: o.last_port,
            keep_parity: o.keep_parity,
            held: !o.hold_down.is_zero(),
            turn_micros: (hold_micros / sets).max(1),
            next_turn: AtomicU64::new(0),
            turn: AtomicU64::new(0),
        }
    }

    /// True if `a` is in the pool.
    #[inline]
    #[must_use]
    pub fn contains(&self, a: Ipv4Addr) -> bool {
        self.prefixes.iter().any(|(p, _)| p.contains(a))
    }

    fn place(&self, a: Ipv4Addr) -> Option<usize> {
        let (p, base) = self.prefixes.iter().find(|(p, _)| p.contains(a))?;
        usize::try_from(a.to_bits() - p.address().to_bits()).ok().map(|n| base + n)
    }

    fn address(&self, a: Ipv4Addr) -> Option<&Arc<Address>> {
        self.place(a).and_then(|n| self.addresses.get(n))
    }

    fn at(&self, place: usize) -> Option<Ipv4Addr> {
        let (p, base) = self.prefixes.iter().rev().find(|(_, base)| *base <= place)?;
        let n = u32::try_from(place - base).ok()?;
        Some(Ipv4Addr::from_bits(p.address().to_bits() + n))
    }

    /// Brings close what [`Pool4::allocate`] with the same arguments looks at first.
    pub(crate) fn expect(&self, src6: Ipv6Addr, port: u16, protocol: u8, random: u64) {
        let Some(set) = index(protocol) else { return };
        let [range, _] = self.ranges(port);
        if let Some(a) = self.home(src6).and_then(|home| self.addresses.get(home)) {
            a.ports[set].expect(random, &range);
        }
    }

    /// The place of the address that a host gets as long as that has ports left.
    fn home(&self, src6: Ipv6Addr) -> Option<usize> {
        let hash = self.key.hash_one(src6.to_bits());
        usize::try_from((u128::from(hash) * self.addresses.len() as u128) >> 64).ok()
    }

    /// A free address and port for a host's `src6` and `port` (or identifier); nothing if the host's
    /// address and the [`TRIES`] after it have none. `random` is unpredictable.
    ///
    /// RFC 6146 3.5.1.1: well-known ports get well-known ports and others get others, as far as the
    /// configured range has both. RFC 4787 4.2.2: UDP keeps its parity where it can.
    #[must_use]
    pub fn allocate(&self, src6: Ipv6Addr, port: u16, protocol: u8, random: u64) -> Option<(Ipv4Addr, u16)> {
        let set = index(protocol)?;
        let count = self.addresses.len();
        let home = self.home(src6)?;
        let parity = (self.keep_parity && protocol == PROTO_UDP).then(|| Parity::of(port));
        (0..count.min(TRIES + 1)).find_map(|n| {
            let place = (home + n) % count;
            let ports = &self.addresses.get(place)?.ports[set];
            let port = self.ranges(port).into_iter().find_map(|r| {
                let kept = parity.and_then(|_| ports.alloc(random, r.clone(), parity));
                kept.or_else(|| ports.alloc(random, r, None))
            })?;
            self.at(place).map(|a| (a, port))
        })
    }

    /// The ranges to look in for `port`, the better one first. Either may be empty.
    fn ranges(&self, port: u16) -> [RangeInclusive<u16>; 2] {
        let low = self.first_port..=self.last_port.min(WELL_KNOWN_END - 1);
        let high = self.first_port.max(WELL_KNOWN_END)..=self.last_port;
        if port < WELL_KNOWN_END { [low, high] } else { [high, low] }
    }

    /// Takes exactly this port; false if the address is not in the pool or the port is taken.
    #[must_use]
    pub fn take(&self, a: Ipv4Addr, port: u16, protocol: u8) -> bool {
        index(protocol).zip(self.address(a)).is_some_and(|(set, a)| a.ports[set].take(port))
    }

    /// Gives back a port; it rests first, if a hold-down is configured. Addresses that are no longer in the
    /// pool are ignored.
    pub fn release(&self, a: Ipv4Addr, port: u16, protocol: u8) {
        if let Some((set, a)) = index(protocol).zip(self.address(a)) {
            if self.held {
                a.ports[set].free_held(port);
            } else {
                a.ports[set].free(port);
            }
        }
    }

    /// Gives back a port that nobody outside has seen: a creation that failed. It need not rest.
    pub(crate) fn release_unused(&self, a: Ipv4Addr, port: u16, protocol: u8) {
        if let Some((set, a)) = index(protocol).zip(self.address(a)) {
            a.ports[set].free(port);
        }
    }

    /// Ends the rest of ports whose time is over. Bounded: at most one port set per call. Any worker may
    /// call it at every poll.
    #[inline]
    pub fn tick(&self, now: Instant) {
        let due = self.next_turn.load(Ordering::Relaxed);
        if self.held && now.as_micros() >= due {
            self.turn(now.as_micros(), due);
        }
    }

    #[cold]
    fn turn(&self, now: u64, due: u64) {
        // Whoever moves the time on has the turn, alone: the next one is due only after `turn_micros`.
        // Turns that were missed are not made up for: ports rest longer then.
        let next = now.saturating_add(self.turn_micros);
        if self.next_turn.compare_exchange(due, next, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        let sets = self.addresses.len() * PROTOCOLS.len();
        let n = usize::try_from(self.turn.fetch_add(1, Ordering::Relaxed)).unwrap_or(0) % sets.max(1);
        if let Some(a) = self.addresses.get(n / PROTOCOLS.len()) {
            a.ports[n % PROTOCOLS.len()].rotate();
        }
    }

    /// How much of each address and protocol is in use.
    pub fn usage(&self) -> impl Iterator<Item = Usage> + '_ {
        let of = u32::from(self.last_port) - u32::from(self.first_port) + 1;
        self.addresses.iter().enumerate().flat_map(move |(n, a)| {
            let address = self.at(n).unwrap_or(Ipv4Addr::UNSPECIFIED);
            PROTOCOLS.into_iter().zip(&a.ports).map(move |(protocol, ports)| Usage {
                address,
                protocol,
                in_use: ports.in_use(),
                of,
            })
        })
    }
}

const fn index(protocol: u8) -> Option<usize> {
    match protocol {
        PROTO_UDP => Some(0),
        PROTO_TCP => Some(1),
        PROTO_ICMP => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use causeway_core::Duration;
    use std::collections::HashSet;

    fn options(pool: &[&str], ports: RangeInclusive<u16>) -> Options {
        Options {
            prefixes: vec!["2001:db8:64:ff9b::/96".parse().unwrap()],
            pool: pool.iter().map(|p| p.parse().unwrap()).collect(),
            first_port: *ports.start(),
            last_port: *ports.end(),
            hold_down: Duration::ZERO,
            ..Options::default()
        }
    }

    fn pool(pool: &[&str], ports: RangeInclusive<u16>) -> Pool4 {
        Pool4::new(&Config::new(options(pool, ports)).unwrap())
    }

    fn host(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, n)
    }

    #[test]
    fn rfc4787_4_1_a_host_keeps_one_address() {
        let p = pool(&["203.0.113.0/28"], 1024..=65535);
        for h in 0..50 {
            let of_host: HashSet<_> = (0..40u16)
                .map(|n| {
                    p.allocate(host(h), 1024 + n, PROTOCOLS[usize::from(n) % 3], u64::from(n) << 40)
                        .unwrap()
                        .0
                })
                .collect();
            assert_eq!(of_host.len(), 1);
        }
    }

    #[test]
    fn hosts_are_spread_over_all_addresses() {
        let p = pool(&["203.0.113.0/30", "198.51.100.128/32"], 1024..=65535);
        let mut seen = HashSet::new();
        for h in 0..500 {
            seen.insert(p.allocate(host(h), 5000, PROTO_TCP, 0).unwrap().0);
        }
        assert_eq!(seen.len(), 5);
        assert!(seen.contains(&Ipv4Addr::new(198, 51, 100, 128)));
    }

    #[test]
    fn rfc4787_4_2_2_udp_keeps_its_parity_while_it_can() {
        let p = pool(&["203.0.113.1/32"], 2000..=2009);
        for _ in 0..5 {
            assert_eq!(p.allocate(host(1), 7001, PROTO_UDP, 99).unwrap().1 % 2, 1);
        }
        // No odd port is left: an even one is better than none.
        assert_eq!(p.allocate(host(1), 7001, PROTO_UDP, 99).unwrap().1 % 2, 0);
    }

    #[test]
    fn rfc6146_3_5_1_1_well_known_ports_stay_well_known() {
        let p = pool(&["203.0.113.1/32"], 1000..=1100);
        for n in 0..24u64 {
            assert!(p.allocate(host(1), 80, PROTO_TCP, n << 33).unwrap().1 < 1024);
            assert!(p.allocate(host(1), 8080, PROTO_TCP, n << 33).unwrap().1 >= 1024);
        }
        // All 24 low ports are taken.
        assert!(p.allocate(host(1), 80, PROTO_TCP, 5).unwrap().1 >= 1024);
    }

    #[test]
    fn a_full_address_gives_way_to_the_next_and_a_full_pool_to_none() {
        let p = pool(&["203.0.113.0/30"], 1024..=1033);
        let mut seen = HashSet::new();
        for n in 0..40u64 {
            assert!(seen.insert(p.allocate(host(1), 9, PROTO_TCP, n).unwrap()), "given twice");
        }
        assert_eq!(p.allocate(host(1), 9, PROTO_TCP, 3), None);
        assert!(p.allocate(host(1), 9, PROTO_UDP, 3).is_some(), "protocols do not share ports");
        let (a, port) = *seen.iter().next().unwrap();
        p.release(a, port, PROTO_TCP);
        assert_eq!(p.allocate(host(2), 9, PROTO_TCP, 3), Some((a, port)));
    }

    #[test]
    fn the_search_over_addresses_is_bounded() {
        let p = pool(&["203.0.113.0/26"], 1024..=1024);
        let got = (0..64u64).filter(|n| p.allocate(host(1), 9, PROTO_TCP, *n).is_some()).count();
        assert_eq!(got, TRIES + 1);
    }

    #[test]
    fn rfc6888_4_req_8_a_port_rests_for_the_hold_down() {
        let mut o = options(&["203.0.113.1/32"], 1024..=1024);
        o.hold_down = Duration::from_secs(120);
        let p = Pool4::new(&Config::new(o).unwrap());
        let (a, port) = p.allocate(host(1), 9, PROTO_TCP, 0).unwrap();
        p.release(a, port, PROTO_TCP);
        let mut free_at = None;
        for s in 0..1000u64 {
            p.tick(Instant::from_micros(s * 1_000_000));
            if p.allocate(host(1), 9, PROTO_TCP, 0).is_some() {
                free_at = Some(s);
                break;
            }
        }
        assert!((120..=245).contains(&free_at.unwrap()), "{free_at:?}");
    }

    #[test]
    fn a_successor_keeps_what_both_have() {
        let p = pool(&["203.0.113.0/30"], 1024..=1033);
        let (a, port) = p.allocate(host(1), 9, PROTO_TCP, 0).unwrap();
        let next = p.successor(&Config::new(options(&["203.0.113.0/29"], 1024..=1033)).unwrap());
        assert!(!next.take(a, port, PROTO_TCP));
        p.release(a, port, PROTO_TCP);
        assert!(next.take(a, port, PROTO_TCP));
        let other = p.successor(&Config::new(options(&["198.51.100.128/32"], 1024..=1033)).unwrap());
        assert!(!other.contains(a));
        other.release(a, port, PROTO_TCP);
        assert!(!p.take(a, port, PROTO_TCP), "a release for an address that is not in the pool is ignored");
    }

    #[test]
    fn usage_counts_per_address_and_protocol() {
        let p = pool(&["203.0.113.1/32"], 1024..=2023);
        let _ = p.allocate(host(1), 9, PROTO_ICMP, 0);
        let rows: Vec<_> = p.usage().map(|u| (u.protocol, u.in_use, u.of)).collect();
        assert_eq!(rows, [(PROTO_UDP, 0, 1000), (PROTO_TCP, 0, 1000), (PROTO_ICMP, 1, 1000)]);
    }
}
