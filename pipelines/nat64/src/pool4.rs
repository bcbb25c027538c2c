//! The IPv4 addresses and ports that IPv6 hosts share (RFC 6146 3.5.1.1, RFC 4787 4, RFC 6888).
//!
//! ```text
//!  subscriber --keyed hash--> pool address (its home) --random start--> port
//!                              full: the next ones, a bounded number of times
//! ```
//!
//! - Paired pooling (RFC 4787 4.1, REQ-2; RFC 6888 3, REQ-2): a subscriber keeps one IPv4 address as long
//!   as that has ports left, because the hash of its prefix decides. No table of pairs is needed.
//! - The hash key and the random numbers are this process's own (RFC 6056 3.3): nobody outside can
//!   aim at an address or foresee a port.
//! - All workers allocate from the same sets; nothing is partitioned.
//! - A port that comes back rests (RFC 6888 3, REQ-8) before anybody gets it again.
//! - Where limits, tenants or blocks are configured, `account` keeps what is promised; nothing of it is
//!   touched where none are.

mod account;
mod blocks;

use crate::config::{Allocation, Config, Limits, blocks_within};
use crate::deterministic::Deterministic;
use crate::rfc6146::statics::Statics;
use crate::rfc6146::syn::Flows;
use crate::subscriber::book::{Book, KINDS, Pinned};
use crate::subscriber::{SHARED, SubscriberUsage, limited};
use causeway_core::{Instant, Prefix4, Prefix6};
use causeway_flowtable::ports::{Parity, PortBitmap};
use causeway_wire::l4::{PROTO_ICMP, PROTO_TCP, PROTO_UDP};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

pub(crate) use account::{Admitted, Note};

/// How many further addresses are tried when the subscriber's own has no port left.
pub const TRIES: usize = 8;

/// Ports below this are the well-known ones, which RFC 6146 3.5.1.1 keeps apart.
const WELL_KNOWN_END: u16 = 1024;

/// The protocols that have ports or identifiers to give out.
pub const PROTOCOLS: [u8; 3] = [PROTO_UDP, PROTO_TCP, PROTO_ICMP];

/// Ports of one address, which pools that follow each other share.
#[derive(Debug, Default)]
pub(crate) struct Address {
    pub(crate) address: u32,
    ports: [PortBitmap; PROTOCOLS.len()],
    /// What subscribers that are at home here may still claim, of each protocol and of blocks.
    pub(crate) owed: [AtomicU32; KINDS],
    /// What was promised to subscribers without a name, claimed or not.
    pub(crate) promised: AtomicU32,
}

/// Which blocks of one size are given, of one address.
#[derive(Debug, Clone)]
struct Level {
    shift: u8,
    given: Arc<PortBitmap>,
}

/// A place in the pool.
#[derive(Debug)]
struct Place {
    shared: Arc<Address>,
    /// The present size of blocks first, then sizes of older configurations of which some are still given.
    blocks: Vec<Level>,
    /// Blocks of the present size in which static mappings are: nobody gets them.
    spoiled: u32,
}

/// A pool set: places that follow each other.
#[derive(Debug, Clone, Copy, Default)]
struct Set {
    first: usize,
    count: usize,
}

/// The address where a search begins, by its place within its set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home {
    set: Set,
    at: usize,
}

/// How ports are given out.
#[derive(Debug)]
enum Mode {
    Single,
    Blocks {
        shift: u8,
        /// Numbers of the first and the last block within the port range.
        first: u16,
        last: u16,
    },
    Deterministic(Deterministic),
}

/// A configured tenant.
#[derive(Debug)]
struct Known {
    name: String,
    limits: Limits,
    /// Its entry; nothing if there was no place for it, which keeps its hosts out.
    entry: Option<Pinned>,
}

/// A port that a static mapping has, and that is therefore never given out. If the mapping was never made,
/// the last pool that has it gives it back.
#[derive(Debug)]
struct StaticPort {
    address: Arc<Address>,
    set: usize,
    port: u16,
    held: bool,
    /// Its mapping was made: then the end of that gives the port back.
    made: AtomicBool,
}

impl StaticPort {
    fn key(&self) -> (u32, usize, u16) {
        (self.address.address, self.set, self.port)
    }
}

impl Drop for StaticPort {
    fn drop(&mut self) {
        if self.made.load(Ordering::Acquire) {
            return;
        }
        if self.held {
            self.address.ports[self.set].free_held(self.port);
        } else {
            self.address.ports[self.set].free(self.port);
        }
    }
}

/// Turns of port sets, in which rests end. Pools that follow each other share them: else those that are
/// late in the order would never have one while plans change often.
#[derive(Debug, Default)]
struct Turns {
    /// When the next one is due, in microseconds.
    next: AtomicU64,
    /// How many there were.
    count: AtomicU64,
}

/// What the clocks of two workers may differ by, each as of its own poll, in microseconds.
const CLOCKS_DIFFER_MICROS: u64 = 1_000_000;

/// How often each port set still has a turn once there is no hold-down: two end every rest, and the third
/// those that other workers began under the plan before.
const LAST_TURNS: u64 = 3;

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
    config: Arc<Config>,
    /// Each prefix with the place of its first address in `places`, and its set; in the order of addresses.
    prefixes: Vec<(Prefix4, usize, u8)>,
    /// First and last addresses, in order.
    ranges: Vec<(u32, u32)>,
    places: Vec<Place>,
    /// By number; those that do not exist are empty.
    sets: Vec<Set>,
    mode: Mode,
    /// Ports of the pool that static mappings have, in order.
    static_ports: Vec<Arc<StaticPort>>,
    key: RandomState,
    first_port: u16,
    last_port: u16,
    keep_parity: bool,
    held: bool,
    hold_micros: u64,
    /// Who has what, once anybody was accounted.
    book: Option<Arc<Book>>,
    /// True if new mappings are accounted.
    accounting: bool,
    tenants: Vec<Known>,
    /// Places in `tenants` by the places of their entries.
    by_entry: Vec<Option<u16>>,
    /// What each shared address keeps for subscribers that are not known yet.
    reserve: u32,
    /// Microseconds between the turns of two port sets, so that each has one turn per hold-down.
    turn_micros: u64,
    /// Sets of each address that have a turn.
    turns_each: usize,
    turns: Arc<Turns>,
    /// Turns that this pool may still take. Without a hold-down they are for what rests from before.
    turns_left: AtomicU64,
    /// The present hold-down, or the last one that there was.
    rest_micros: u64,
    /// Flows whose SYN from outside waits for the one from inside.
    syns: Arc<Flows>,
    /// The static mappings.
    statics: Arc<Statics>,
    /// All of them are there.
    statics_made: AtomicBool,
}

impl Pool4 {
    /// A pool in which every port is free but those of static mappings.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::build(config, None)
    }

    /// The pool of a new configuration. Addresses that both have keep their ports, taken or free, and
    /// subscribers keep their addresses as far as the pool is the same, and what they hold counts on.
    ///
    /// Nothing that the old one needs is changed: it may go on, and the new one be dropped.
    #[must_use]
    pub fn successor(&self, config: &Config) -> Self {
        Self::build(config, Some(self))
    }

    fn build(config: &Config, before: Option<&Self>) -> Self {
        let o = config.options();
        let mode = match (config.deterministic(), &o.allocation) {
            (Some(d), _) => Mode::Deterministic(d.clone()),
            (None, Allocation::Blocks { ports }) => match blocks_within(o, *ports) {
                // At most 14: a block has at most 16,384 ports.
                Some((first, last)) => Mode::Blocks { shift: ports.trailing_zeros() as u8, first, last },
                None => Mode::Single,
            },
            _ => Mode::Single,
        };
        let shift = if let Mode::Blocks { shift, .. } = mode { Some(shift) } else { None };
        let (mut prefixes, mut places, mut sets) = (Vec::new(), Vec::new(), Vec::new());
        for (number, pool) in config.who().pools() {
            let first = places.len();
            for p in pool {
                prefixes.push((*p, places.len(), *number));
                for a in p.address().to_bits()..=p.last().to_bits() {
                    places.push(Place::new(a, shift, before));
                }
            }
            let number = usize::from(*number);
            if sets.len() <= number {
                sets.resize(number + 1, Set::default());
            }
            sets[number] = Set { first, count: places.len() - first };
        }
        prefixes.sort();
        let hold_micros = u64::try_from(o.hold_down.as_micros()).unwrap_or(u64::MAX);
        let turns_each = PROTOCOLS.len() + places.iter().map(|p| p.blocks.len()).max().unwrap_or(0);
        let turns = u64::try_from(places.len() * turns_each).unwrap_or(u64::MAX).max(1);
        let rest_micros = if hold_micros > 0 { hold_micros } else { before.map_or(0, |b| b.rest_micros) };
        let turns_left = match (hold_micros, rest_micros) {
            (0, 0) => 0,
            (0, _) => turns.saturating_mul(LAST_TURNS),
            _ => u64::MAX,
        };
        let subscribers = &o.subscribers;
        let accounting = shift.is_some() || limited(&subscribers.limits) || !subscribers.tenants.is_empty();
        let book = before
            .and_then(|b| b.book.clone())
            .or_else(|| accounting.then(|| Book::new(subscribers.capacity)));
        let mut pool = Self {
            config: Arc::new(config.clone()),
            ranges: ranges(&prefixes, config.statics.addresses()),
            prefixes,
            places,
            sets,
            mode,
            static_ports: Vec::new(),
            key: before.map_or_else(RandomState::new, |b| b.key.clone()),
            first_port: o.first_port,
            last_port: o.last_port,
            keep_parity: o.keep_parity,
            held: hold_micros > 0,
            hold_micros,
            book,
            accounting,
            tenants: Vec::new(),
            by_entry: Vec::new(),
            reserve: 0,
            turn_micros: (rest_micros / turns).max(1),
            turns_each,
            turns: before.map_or_else(Arc::default, |b| Arc::clone(&b.turns)),
            turns_left: AtomicU64::new(turns_left),
            rest_micros,
            statics: Arc::clone(&config.statics),
            statics_made: AtomicBool::new(config.statics.is_empty()),
            syns: before.map_or_else(Arc::default, |b| Arc::clone(&b.syns)),
        };
        pool.static_ports = pool.ports_of_statics(before);
        pool.spoil_blocks();
        pool.prepare_accounts(before);
        pool
    }

    /// The ports of the pool that static mappings have, in order.
    fn ports_of_statics(&self, before: Option<&Self>) -> Vec<Arc<StaticPort>> {
        let mappings = &self.config.options().static_mappings;
        let mut list: Vec<Arc<StaticPort>> = mappings
            .iter()
            .filter_map(|m| {
                let (set, place) = index(m.protocol).zip(self.place(m.outside.0))?;
                let address = &self.places.get(place)?.shared;
                let port = m.outside.1;
                let same =
                    |s: &&Arc<StaticPort>| Arc::ptr_eq(&s.address, address) && (s.set, s.port) == (set, port);
                Some(before.and_then(|b| b.static_ports.iter().find(same)).map_or_else(
                    || {
                        // Also if it rests; and if a mapping has it now, it stays taken when that ends.
                        address.ports[set].claim(port);
                        let made = AtomicBool::new(false);
                        Arc::new(StaticPort {
                            address: Arc::clone(address),
                            set,
                            port,
                            held: self.held,
                            made,
                        })
                    },
                    Arc::clone,
                ))
            })
            .collect();
        list.sort_by_key(|s| s.key());
        list
    }

    /// Counts the blocks that static mappings spoil.
    fn spoil_blocks(&mut self) {
        let Mode::Blocks { shift, first, last } = self.mode else { return };
        let of = |s: &Arc<StaticPort>| {
            let place = self.place(Ipv4Addr::from_bits(s.address.address))?;
            Some((place, s.port >> shift)).filter(|(_, block)| (first..=last).contains(block))
        };
        let blocks: BTreeSet<(usize, u16)> = self.static_ports.iter().filter_map(of).collect();
        for (place, _) in blocks {
            if let Some(place) = self.places.get_mut(place) {
                place.spoiled += 1;
            }
        }
    }

    /// True if a static mapping has this port of the pool.
    fn is_static(&self, address: u32, set: usize, port: u16) -> bool {
        self.static_port(address, set, port).is_some()
    }

    fn static_port(&self, address: u32, set: usize, port: u16) -> Option<&StaticPort> {
        let at = self.static_ports.binary_search_by_key(&(address, set, port), |s| s.key()).ok()?;
        self.static_ports.get(at).map(|s| &**s)
    }

    /// The static mappings.
    pub(crate) fn statics(&self) -> &Statics {
        &self.statics
    }

    /// Notes that a static mapping is there: its port comes back when the mapping ends.
    pub(crate) fn static_is_made(&self, a: Ipv4Addr, port: u16, protocol: u8) {
        if let Some(s) = index(protocol).and_then(|set| self.static_port(a.to_bits(), set, port)) {
            s.made.store(true, Ordering::Release);
        }
    }

    /// Notes that a mapping at this place has ended. If it is the place of a static mapping, the port is that
    /// one's, whether it is ever made or not: until it is, nobody else gives the port back. True if it is.
    pub(crate) fn static_is_gone(&self, a: Ipv4Addr, port: u16, protocol: u8) -> bool {
        let Some(s) = index(protocol).and_then(|set| self.static_port(a.to_bits(), set, port)) else {
            return false;
        };
        s.made.store(false, Ordering::Release);
        true
    }

    /// Notes whether all static mappings are there.
    pub(crate) fn statics_are_made(&self, made: bool) {
        self.statics_made.store(made, Ordering::Release);
    }

    /// True unless all static mappings are there.
    pub(crate) fn statics_are_missing(&self) -> bool {
        !self.statics_made.load(Ordering::Acquire)
    }

    /// Flows whose SYN from outside waits.
    pub(crate) fn syns(&self) -> &Flows {
        &self.syns
    }

    /// True if `a` is in the pool, of all or of a tenant, or the outside address of a static mapping.
    #[inline]
    #[must_use]
    pub fn contains(&self, a: Ipv4Addr) -> bool {
        let a = a.to_bits();
        // Every packet asks. Few ranges are compared one by one.
        if self.ranges.len() <= 4 {
            return self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&a));
        }
        let next = self.ranges.partition_point(|(first, _)| *first <= a);
        next.checked_sub(1).and_then(|n| self.ranges.get(n)).is_some_and(|(_, last)| a <= *last)
    }

    /// True if a mapping of `host` may be at this address and port: the address is in the set that the
    /// host's subscriber uses, and the port is the subscriber's if ports are given by calculation.
    #[must_use]
    pub(crate) fn serves(&self, host: Ipv6Addr, a: Ipv4Addr, port: u16) -> bool {
        let set = self.config.who().owner(host).set;
        if self.prefix(a).is_none_or(|(_, _, s)| *s != set) {
            return false;
        }
        match self.calculated(set) {
            Some(d) => d.ports_of(host).is_some_and(|(own, ports)| own == a && ports.contains(&port)),
            None => true,
        }
    }

    /// The calculation, if it is what gives out the ports of this set.
    const fn calculated(&self, set: u8) -> Option<&Deterministic> {
        match &self.mode {
            Mode::Deterministic(d) if set == SHARED => Some(d),
            _ => None,
        }
    }

    /// Number of the pool set that a host uses, as it is part of its mappings' keys.
    #[inline]
    #[must_use]
    pub(crate) fn set_of(&self, host: Ipv6Addr) -> u8 {
        if self.sets.len() == 1 { SHARED } else { self.config.who().owner(host).set }
    }

    fn prefix(&self, a: Ipv4Addr) -> Option<&(Prefix4, usize, u8)> {
        let next = self.prefixes.partition_point(|(p, ..)| p.address() <= a);
        next.checked_sub(1).and_then(|n| self.prefixes.get(n)).filter(|(p, ..)| p.contains(a))
    }

    fn place(&self, a: Ipv4Addr) -> Option<usize> {
        let (p, base, _) = self.prefix(a)?;
        usize::try_from(a.to_bits() - p.address().to_bits()).ok().map(|n| base + n)
    }

    fn address(&self, a: Ipv4Addr) -> Option<&Arc<Address>> {
        self.place(a).and_then(|n| self.places.get(n)).map(|p| &p.shared)
    }

    fn set(&self, number: u8) -> Set {
        self.sets.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// The place that an owner's hash leads to, counted within its set.
    fn hashed(&self, prefix: u128, set: Set) -> usize {
        let hash = self.key.hash_one(prefix);
        usize::try_from((u128::from(hash) * set.count as u128) >> 64).unwrap_or(0)
    }

    /// A free address and port for a host's `src6` and `port` (or identifier); nothing if the address of
    /// its subscriber and the [`TRIES`] after it have none. `random` is unpredictable. Nobody is accounted
    /// for it.
    ///
    /// RFC 6146 3.5.1.1: well-known ports get well-known ports and others get others, as far as the
    /// configured range has both. RFC 4787 4.2.2: UDP keeps its parity where it can.
    #[must_use]
    pub fn allocate(&self, src6: Ipv6Addr, port: u16, protocol: u8, random: u64) -> Option<(Ipv4Addr, u16)> {
        let owner = self.config.who().owner(src6);
        let want = Want { kind: index(protocol)?, host: src6, port, random };
        if let Some(d) = self.calculated(owner.set) {
            return self.give_calculated(d, &want);
        }
        let set = self.set(owner.set);
        self.take_near(&Home { set, at: self.hashed(owner.prefix, set) }, &want)
    }

    /// Where a host's subscriber is at home, if ports are given one by one and nobody is accounted: then
    /// [`Pool4::allocate_near`] does what [`Pool4::allocate`] does. What it looks at first for a port of
    /// this protocol is brought close.
    pub(crate) fn near(&self, src6: Ipv6Addr, port: u16, protocol: u8, random: u64) -> Option<Home> {
        if self.accounting || !matches!(self.mode, Mode::Single) {
            return None;
        }
        let kind = index(protocol)?;
        let owner = self.config.who().owner(src6);
        let set = self.set(owner.set);
        let at = self.hashed(owner.prefix, set);
        let [range, _] = self.ranges(port);
        self.places.get(set.first + at)?.shared.ports[kind].expect(random, &range);
        Some(Home { set, at })
    }

    /// As [`Pool4::allocate`] for a host that is at home there.
    pub(crate) fn allocate_near(
        &self,
        home: &Home,
        src6: Ipv6Addr,
        port: u16,
        protocol: u8,
        random: u64,
    ) -> Option<(Ipv4Addr, u16)> {
        self.take_near(home, &Want { kind: index(protocol)?, host: src6, port, random })
    }

    fn take_near(&self, home: &Home, want: &Want) -> Option<(Ipv4Addr, u16)> {
        let set = home.set;
        (0..set.count.min(TRIES + 1)).find_map(|n| {
            let place = self.places.get(set.first + (home.at + n) % set.count)?;
            let port = self.take_any(&place.shared, want)?;
            Some((Ipv4Addr::from_bits(place.shared.address), port))
        })
    }

    /// A port of the subscriber's own (RFC 7422 2, step 3).
    fn give_calculated(&self, d: &Deterministic, want: &Want) -> Option<(Ipv4Addr, u16)> {
        let (a, range) = d.ports_of(want.host)?;
        let port = self.take_in(self.address(a)?, want, range)?;
        Some((a, port))
    }

    /// Takes a port of an address, as near to what is wanted as there is one.
    fn take_any(&self, a: &Address, want: &Want) -> Option<u16> {
        self.ranges(want.port).into_iter().find_map(|r| self.take_in(a, want, r))
    }

    /// Takes a port of a range, of the wanted parity if there is one.
    fn take_in(&self, a: &Address, want: &Want, range: RangeInclusive<u16>) -> Option<u16> {
        let ports = &a.ports[want.kind];
        let kept = self.parity(want).and_then(|p| ports.alloc(want.random, range.clone(), Some(p)));
        kept.or_else(|| ports.alloc(want.random, range, None))
    }

    /// The parity to keep (RFC 4787 4.2.2).
    fn parity(&self, want: &Want) -> Option<Parity> {
        (self.keep_parity && PROTOCOLS[want.kind] == PROTO_UDP).then(|| Parity::of(want.port))
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

    /// Gives back a port that nobody was accounted for; it rests first, if a hold-down is configured.
    /// Ports of static mappings stay taken, and addresses that are no longer in the pool are ignored.
    pub fn release(&self, a: Ipv4Addr, port: u16, protocol: u8) {
        self.put_back(a, port, protocol, self.held);
    }

    /// Gives back a port that nobody outside has seen: a creation that failed. It need not rest.
    pub(crate) fn release_unused(&self, a: Ipv4Addr, port: u16, protocol: u8) {
        self.put_back(a, port, protocol, false);
    }

    fn put_back(&self, a: Ipv4Addr, port: u16, protocol: u8, rest: bool) {
        let Some((set, place)) = index(protocol).zip(self.place(a)) else { return };
        let Some(place) = self.places.get(place) else { return };
        if self.static_is_gone(a, port, protocol) {
            return;
        }
        // RFC 6888 3, REQ-8 b: a port that is the same subscriber's for ever need not rest.
        let calculated = matches!(self.mode, Mode::Deterministic(_))
            && self.prefix(a).is_some_and(|(_, _, s)| *s == SHARED);
        if rest && !calculated {
            place.shared.ports[set].free_held(port);
        } else {
            place.shared.ports[set].free(port);
        }
    }

    /// Ends the rest of ports whose time is over. Bounded: at most one port set per call. Any worker may
    /// call it at every poll.
    #[inline]
    pub fn tick(&self, now: Instant) {
        if self.turns_left.load(Ordering::Relaxed) == 0 {
            return;
        }
        let (now, due) = (now.as_micros(), self.turns.next.load(Ordering::Relaxed));
        // The time of a pool before, whose hold-down was longer, counts no longer than ours.
        if now >= due || due - now > self.turn_micros.saturating_add(CLOCKS_DIFFER_MICROS) {
            self.turn(now, due);
        }
    }

    #[cold]
    fn turn(&self, now: u64, due: u64) {
        // Whoever moves the time on has the turn, alone: the next one is due only after `turn_micros`.
        // Turns that were missed are not made up for: ports rest longer then.
        let next = now.saturating_add(self.turn_micros);
        if self.turns.next.compare_exchange(due, next, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        if !self.held {
            let one_less = |n: u64| n.checked_sub(1);
            let _ = self.turns_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        }
        let sets = self.places.len() * self.turns_each;
        let n = usize::try_from(self.turns.count.fetch_add(1, Ordering::Relaxed)).unwrap_or(0) % sets.max(1);
        let Some(place) = self.places.get(n / self.turns_each) else { return };
        let n = n % self.turns_each;
        match place.shared.ports.get(n) {
            Some(ports) => ports.rotate(),
            None => place.blocks.get(n - PROTOCOLS.len()).map_or(0, |b| b.given.rotate()),
        };
    }

    /// How much of each address and protocol is in use.
    pub fn usage(&self) -> impl Iterator<Item = Usage> + '_ {
        let of = self.ports_of_address();
        self.places.iter().flat_map(move |p| {
            PROTOCOLS.into_iter().zip(&p.shared.ports).map(move |(protocol, ports)| Usage {
                address: Ipv4Addr::from_bits(p.shared.address),
                protocol,
                in_use: ports.in_use(),
                of,
            })
        })
    }

    /// Ports of each protocol that an address has to give.
    fn ports_of_address(&self) -> u32 {
        u32::from(self.last_port) - u32::from(self.first_port) + 1
    }

    /// What each accounted subscriber has at this moment. Empty while nobody is accounted: without limits,
    /// tenants and blocks nobody needs to be. For control: each is locked for a moment while it is read.
    pub fn subscribers(&self) -> impl Iterator<Item = SubscriberUsage> + '_ {
        self.book.iter().flat_map(|b| {
            b.each(|id, entry, s| {
                Some(SubscriberUsage {
                    name: self.tenant_of(id).map(|t| t.name.clone()),
                    prefix: Prefix6::containing(Ipv6Addr::from_bits(s.key.prefix), s.key.length)?,
                    home: s.home.as_ref().map(|h| Ipv4Addr::from_bits(h.address)),
                    sessions: entry.sessions(),
                    ports: s.live,
                    promised: self.in_ports(s.min),
                    blocks: blocks::usage(s),
                    refused: entry.refused(),
                })
            })
            .flatten()
        })
    }
}

/// What a new mapping needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want {
    /// Place of the protocol in [`PROTOCOLS`].
    pub(crate) kind: usize,
    pub(crate) host: Ipv6Addr,
    pub(crate) port: u16,
    pub(crate) random: u64,
}

impl Place {
    fn new(address: u32, shift: Option<u8>, before: Option<&Pool4>) -> Self {
        let old = before.and_then(|b| b.places.get(b.place(Ipv4Addr::from_bits(address))?));
        let shared = old
            .map_or_else(|| Arc::new(Address { address, ..Address::default() }), |p| Arc::clone(&p.shared));
        let old: &[Level] = old.map_or(&[], |p| &p.blocks);
        let kept = |s: u8| old.iter().find(|l| l.shift == s).cloned();
        let mut blocks: Vec<Level> = shift
            .map(|s| kept(s).unwrap_or_else(|| Level { shift: s, given: Arc::default() }))
            .into_iter()
            .collect();
        // Others stay as long as some are given.
        blocks.extend(old.iter().filter(|l| Some(l.shift) != shift && l.given.in_use() > 0).cloned());
        Self { shared, blocks, spoiled: 0 }
    }
}

/// First and last addresses of the prefixes and of `more`, in order, neighbours in one.
fn ranges(prefixes: &[(Prefix4, usize, u8)], more: &[Ipv4Addr]) -> Vec<(u32, u32)> {
    let mut all: Vec<(u32, u32)> =
        prefixes.iter().map(|(p, ..)| (p.address().to_bits(), p.last().to_bits())).collect();
    all.extend(more.iter().map(|a| (a.to_bits(), a.to_bits())));
    all.sort_unstable();
    let mut list: Vec<(u32, u32)> = Vec::new();
    for (first, last) in all {
        match list.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => list.push((first, last)),
        }
    }
    list
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
mod tests;
