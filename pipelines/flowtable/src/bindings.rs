//! Who may send from which address: leased addresses and delegated prefixes, each with the link and the
//! link-layer address that it belongs to (RFC 7513, RFC 7039). Read for packets, written seldom.
//!
//! ```text
//!  hash(link, prefix) -> two buckets, one cache line each:
//!      2 x { meta = link | length | version | OCCUPIED | LOCKED     prefix u128     MAC }     32 octets
//! ```
//! - Fixed capacity, taken once: 59 octets a binding, all of which can be used (cuckoo hashing: a new
//!   binding may move others to their other bucket).
//! - Whoever most likely finds nothing (a scan goes to addresses that nobody leased) first reads one word of a
//!   filter, which is small enough for the processor's cache (`presence`).
//! - Reading takes no lock and waits for nobody. An entry is copied under its version (a seqlock whose
//!   data are atomics); a search that finds nothing is made again, a few times at most, if bindings were
//!   moved meanwhile, so that a binding on the move is not taken for none.
//! - Writers take turns (a lock that readers know nothing of): there is one, in the control plane.
//! - A single address is a prefix of 128 bits, and found first. Then come the other lengths that exist,
//!   longest first: each costs one more search, so it is well to delegate few different lengths.

mod presence;

use crate::hash::fold;
use crate::memory::{Region, Zeroed};
use crate::prefetch::prefetch_read;
use crate::seqmap::MapFull;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use causeway_core::Prefix6;
use causeway_wire::MacAddr;
use presence::{Counts, Presence};
use std::net::Ipv6Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries in a bucket.
const WAYS: usize = 2;
/// How often a reader begins anew before it takes what it sees for nothing.
const TRIES: usize = 8;
/// How many entries are looked at to make room for a new one.
const SEARCH: usize = 512;

const LOCKED: u64 = 1;
const OCCUPIED: u64 = 2;
/// 22 bits of version, between the flags and the key.
const VERSION: u64 = 4;
const VERSIONS: u64 = ((1 << 24) - 1) & !(LOCKED | OCCUPIED);
/// The part of `meta` that is the key's: link and length.
const KEY: u64 = !((1 << 24) - 1);

#[derive(Debug)]
struct Entry {
    meta: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
    mac: AtomicU64,
}

#[derive(Debug)]
#[repr(align(64))]
struct Bucket([Entry; WAYS]);

// SAFETY: atomic words of zero are valid, and none needs dropping.
unsafe impl Zeroed for Bucket {
    #[cfg(loom)]
    fn zeroed() -> Self {
        Self(std::array::from_fn(|_| Entry {
            meta: AtomicU64::new(0),
            high: AtomicU64::new(0),
            low: AtomicU64::new(0),
            mac: AtomicU64::new(0),
        }))
    }
}

/// A prefix on a link, as entries hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    /// Link and length, where `meta` has them.
    head: u64,
    high: u64,
    low: u64,
}

impl Key {
    #[inline(always)]
    const fn new(link: u32, len: u8, bits: u128) -> Self {
        Self { head: (link as u64) << 32 | (len as u64) << 24, high: (bits >> 64) as u64, low: bits as u64 }
    }

    const fn of(link: u32, prefix: Prefix6) -> Self {
        Self::new(link, prefix.len(), prefix.address().to_bits())
    }
}

/// An address on a link that is about to be looked up, with what its first search needs.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    key: Key,
    hash: u64,
}

/// Where an entry is: bucket and way.
type Place = (u32, u8);

/// One step of the search for room.
#[derive(Debug, Clone, Copy)]
struct Step {
    at: Place,
    /// The step before, whose entry may move here once this entry is gone.
    from: Option<u16>,
}

/// What writers need besides the table.
#[derive(Debug)]
struct Writer {
    /// How many bindings of each length there are.
    lengths: [u32; 129],
    counts: Counts,
    steps: Vec<Step>,
}

/// The bindings. Any thread may read; those that write take turns.
#[derive(Debug)]
pub struct Bindings {
    buckets: Region<Bucket>,
    presence: Presence,
    capacity: u32,
    seed: [u64; 2],
    len: AtomicU32,
    /// Moves so far: a search that found nothing counts only if this stood still.
    moves: AtomicU64,
    /// Bit n: there are bindings with prefixes of n bits (n below 128).
    lengths: [AtomicU64; 2],
    writer: Mutex<Writer>,
}

impl Bindings {
    /// Room for `capacity` bindings (at least 1). `seed` should be random: it keeps strangers from aiming
    /// at one part of the table.
    ///
    /// # Errors
    /// What the kernel says when it does not give the memory: 59 octets a binding.
    pub fn new(capacity: u32, seed: [u64; 2]) -> std::io::Result<Self> {
        let capacity = capacity.max(1);
        // At 60% of the entries a way to make room is always found in practice; a small table would meet
        // more of the unlucky cases, so it is made less full.
        let spare = if cfg!(loom) { 2 * WAYS } else { 256 };
        let entries = (capacity as usize).saturating_mul(5) / 3 + spare;
        let (presence, counts) = Presence::new(capacity)?;
        Ok(Self {
            buckets: Region::new(entries.div_ceil(WAYS))?,
            presence,
            capacity,
            seed,
            len: AtomicU32::new(0),
            moves: AtomicU64::new(0),
            lengths: [AtomicU64::new(0), AtomicU64::new(0)],
            writer: Mutex::new(Writer { lengths: [0; 129], counts, steps: Vec::with_capacity(SEARCH) }),
        })
    }

    /// How many bindings it takes.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory taken, in octets.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.buckets.octets() + self.presence.octets()
    }

    /// Binds `prefix` (128 bits for a single address) on `link` to `mac`, whoever had it before. A link is
    /// the number of its port in the high half and its VLAN (0: untagged) in the low half.
    ///
    /// # Errors
    /// [`MapFull`] when the binding is new and there is no room for it. Nothing is changed then.
    pub fn set(&self, link: u32, prefix: Prefix6, mac: MacAddr) -> Result<(), MapFull> {
        let mut writer = self.writer();
        let key = Key::of(link, prefix);
        let hash = self.hash(&key);
        let places = self.places(hash);
        if let Some(at) = self.position(&key, places) {
            self.entry(at).mac.store(word(mac), Ordering::Relaxed);
            return Ok(());
        }
        if self.len() >= self.capacity {
            return Err(MapFull);
        }
        let at = self.room(&mut writer, places).ok_or(MapFull)?;
        // The length is known before the first binding that has it can be seen.
        if let Some(n) = writer.lengths.get_mut(usize::from(prefix.len())) {
            *n += 1;
            if *n == 1
                && let Some((word, bit)) = self.length(prefix.len())
            {
                word.store(word.load(Ordering::Relaxed) | bit, Ordering::Release);
            }
        }
        self.presence.add(&mut writer.counts, hash);
        self.entry(at).write(&key, word(mac));
        self.len.store(self.len() + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the binding of exactly `prefix` on `link`; gives whom it was bound to.
    pub fn remove(&self, link: u32, prefix: Prefix6) -> Option<MacAddr> {
        let mut writer = self.writer();
        let key = Key::of(link, prefix);
        let hash = self.hash(&key);
        let e = self.entry(self.position(&key, self.places(hash))?);
        let was = e.mac.load(Ordering::Relaxed);
        e.clear();
        self.presence.remove(&mut writer.counts, hash);
        self.len.store(self.len().saturating_sub(1), Ordering::Relaxed);
        if let Some(n) = writer.lengths.get_mut(usize::from(prefix.len())) {
            *n = n.saturating_sub(1);
            if *n == 0
                && let Some((word, bit)) = self.length(prefix.len())
            {
                word.store(word.load(Ordering::Relaxed) & !bit, Ordering::Release);
            }
        }
        Some(mac(was))
    }

    /// To whom `a` is bound on `link`: by itself, or by the longest prefix that holds it. As
    /// [`Self::lookup_exact`], for addresses that most likely are not bound by themselves.
    #[inline]
    #[must_use]
    pub fn lookup(&self, link: u32, a: Ipv6Addr) -> Option<MacAddr> {
        let asked = self.ask(link, a);
        self.seek(&asked.key, asked.hash).or_else(|| self.find_prefix(&asked))
    }

    /// To whom `a` itself is bound on `link`; prefixes that hold it do not count. If `a` is not bound this
    /// seldom reads more than what [`Self::prefetch_unlikely`] brought close.
    #[inline]
    #[must_use]
    pub fn lookup_exact(&self, link: u32, a: Ipv6Addr) -> Option<MacAddr> {
        let asked = self.ask(link, a);
        self.seek(&asked.key, asked.hash)
    }

    /// As [`Self::lookup`], for what [`Self::prefetch`] prepared some time ago: addresses that most likely
    /// are bound.
    #[inline]
    #[must_use]
    pub fn find(&self, asked: &Asked) -> Option<MacAddr> {
        self.search(&asked.key, asked.hash).or_else(|| self.find_prefix(asked))
    }

    /// Prepares a lookup, and asks the processor to bring the entries that `a` may be in close: for
    /// bursts, whose cache misses then overlap.
    #[inline]
    #[must_use]
    pub fn prefetch(&self, link: u32, a: Ipv6Addr) -> Asked {
        let asked = self.ask(link, a);
        for at in self.places(asked.hash) {
            prefetch_read(self.bucket(at));
        }
        asked
    }

    /// Asks the processor to bring close what tells of an address that most likely is not bound that it is not:
    /// for bursts that are looked up with [`Self::lookup`] or [`Self::lookup_exact`].
    #[inline]
    pub fn prefetch_unlikely(&self, link: u32, a: Ipv6Addr) {
        self.presence.prefetch(self.ask(link, a).hash);
    }

    #[inline(always)]
    fn ask(&self, link: u32, a: Ipv6Addr) -> Asked {
        let key = Key::new(link, 128, a.to_bits());
        Asked { key, hash: self.hash(&key) }
    }

    fn find_prefix(&self, asked: &Asked) -> Option<MacAddr> {
        let bits = u128::from(asked.key.high) << 64 | u128::from(asked.key.low);
        let link = (asked.key.head >> 32) as u32;
        for half in [1u8, 0] {
            let mut left = self.lengths[usize::from(half)].load(Ordering::Acquire);
            while left != 0 {
                let bit = 63 - left.leading_zeros() as u8;
                left &= !(1 << bit);
                let len = half * 64 + bit;
                let mask = if len == 0 { 0 } else { u128::MAX << (128 - u32::from(len)) };
                let key = Key::new(link, len, bits & mask);
                if let Some(found) = self.seek(&key, self.hash(&key)) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// A search that most likely finds nothing.
    #[inline(always)]
    fn seek(&self, key: &Key, hash: u64) -> Option<MacAddr> {
        if self.presence.maybe(hash) { self.search(key, hash) } else { None }
    }

    #[inline(always)]
    fn search(&self, key: &Key, hash: u64) -> Option<MacAddr> {
        let places = self.places(hash);
        let mut moves = self.moves.load(Ordering::Acquire);
        for _ in 0..TRIES {
            for at in places {
                for e in &self.bucket(at).0 {
                    if let Some(found) = e.read(key) {
                        return Some(mac(found));
                    }
                }
            }
            // A binding on the move is in its new place before the count goes up, and leaves the old one
            // after it: whoever missed it in both sees another count.
            fence(Ordering::Acquire);
            let now = self.moves.load(Ordering::Acquire);
            if now == moves {
                return None;
            }
            moves = now;
        }
        None
    }

    #[inline(always)]
    fn hash(&self, key: &Key) -> u64 {
        fold(
            fold(key.high ^ self.seed[0], key.low ^ 0x9e37_79b9_7f4a_7c15),
            fold(key.head ^ self.seed[1], 0xd6e8_feb8_6659_fd93) ^ 0xa076_1d64_78bd_642f,
        )
    }

    /// The two buckets of a key with this hash. They are never the same.
    #[inline(always)]
    fn places(&self, h: u64) -> [u32; 2] {
        let n = self.buckets.len() as u64;
        // The high half of each product is below its factor.
        let first = (((h & 0xffff_ffff) * n) >> 32) as u32;
        let other = (((h >> 32) * (n - 1)) >> 32) as u32;
        [first, other + u32::from(other >= first)]
    }

    /// The buckets of an address, so that a model can choose addresses that meet.
    #[cfg(all(test, loom))]
    pub(crate) fn buckets_of(&self, link: u32, a: Ipv6Addr) -> [u32; 2] {
        self.places(self.ask(link, a).hash)
    }

    /// How often bindings were moved.
    #[cfg(test)]
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn bucket(&self, at: u32) -> &Bucket {
        &self.buckets[at as usize]
    }

    fn entry(&self, (bucket, way): Place) -> &Entry {
        &self.bucket(bucket).0[usize::from(way)]
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // The table is whole at every step, so a writer that panicked left nothing half done but counts.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn length(&self, len: u8) -> Option<(&AtomicU64, u64)> {
        Some((self.lengths.get(usize::from(len / 64))?, 1 << (len % 64)))
    }

    /// Where `key` is, for a writer.
    fn position(&self, key: &Key, places: [u32; 2]) -> Option<Place> {
        ways(places).find(|at| self.entry(*at).holds(key))
    }

    /// A free entry in one of two buckets, made free if need be.
    fn room(&self, writer: &mut Writer, places: [u32; 2]) -> Option<Place> {
        let free = |places: [u32; 2]| ways(places).find(|at| self.entry(*at).is_free());
        if let Some(at) = free(places) {
            return Some(at);
        }
        // Breadth first, so that few bindings move: whose other bucket has room?
        let steps = &mut writer.steps;
        steps.clear();
        steps.extend(ways(places).map(|at| Step { at, from: None }));
        let mut n = 0;
        while let Some(step) = steps.get(n).copied() {
            let [a, b] = self.places(self.hash(&self.entry(step.at).key()));
            let other = if a == step.at.0 { b } else { a };
            if let Some(to) = free([other, other]) {
                return Some(self.shift(steps, step, to));
            }
            for (at, _) in ways([other, other]).zip(0..WAYS) {
                if steps.len() < SEARCH && steps.iter().all(|s| s.at != at) {
                    steps.push(Step { at, from: u16::try_from(n).ok() });
                }
            }
            n += 1;
        }
        None
    }

    /// Moves the entries on the way to `step`, the last one first, each into the place that the one
    /// behind it left; gives the place that is free then.
    fn shift(&self, steps: &[Step], step: Step, to: Place) -> Place {
        let (mut step, mut to) = (step, to);
        loop {
            let e = self.entry(step.at);
            self.entry(to).write(&e.key(), e.mac.load(Ordering::Relaxed));
            self.moves.store(self.moves.load(Ordering::Relaxed) + 1, Ordering::Release);
            e.clear();
            to = step.at;
            match step.from.and_then(|n| steps.get(usize::from(n))) {
                Some(before) => step = *before,
                None => return to,
            }
        }
    }
}

/// All entries of two buckets.
fn ways(places: [u32; 2]) -> impl Iterator<Item = Place> {
    places.into_iter().flat_map(|b| (0..WAYS as u8).map(move |w| (b, w)))
}

impl Entry {
    /// The value, if the entry holds `key`.
    #[inline(always)]
    fn read(&self, key: &Key) -> Option<u64> {
        for _ in 0..TRIES {
            let before = self.meta.load(Ordering::Acquire);
            if before & (KEY | OCCUPIED | LOCKED) != key.head | OCCUPIED {
                return None;
            }
            let (high, low) = (self.high.load(Ordering::Relaxed), self.low.load(Ordering::Relaxed));
            let mac = self.mac.load(Ordering::Relaxed);
            // The copy counts only if the version did not move while it was made.
            fence(Ordering::Acquire);
            if self.meta.load(Ordering::Relaxed) == before {
                return (high == key.high && low == key.low).then_some(mac);
            }
        }
        None
    }

    // The rest is for the writer, beside whom nobody changes the entry.

    fn is_free(&self) -> bool {
        self.meta.load(Ordering::Relaxed) & OCCUPIED == 0
    }

    fn holds(&self, key: &Key) -> bool {
        !self.is_free() && self.key() == *key
    }

    fn key(&self) -> Key {
        Key {
            head: self.meta.load(Ordering::Relaxed) & KEY,
            high: self.high.load(Ordering::Relaxed),
            low: self.low.load(Ordering::Relaxed),
        }
    }

    /// Fills a free entry.
    fn write(&self, key: &Key, mac: u64) {
        let version = self.meta.load(Ordering::Relaxed) & VERSIONS;
        // Released, so that whoever finds this entry locked knows of the move that emptied it.
        self.meta.store(version | LOCKED, Ordering::Release);
        // Keeps the data behind the lock for readers (pairs with the fence in `read`).
        fence(Ordering::Release);
        self.high.store(key.high, Ordering::Relaxed);
        self.low.store(key.low, Ordering::Relaxed);
        self.mac.store(mac, Ordering::Relaxed);
        self.meta.store(next(version) | key.head | OCCUPIED, Ordering::Release);
    }

    fn clear(&self) {
        let version = self.meta.load(Ordering::Relaxed) & VERSIONS;
        self.meta.store(next(version), Ordering::Release);
    }
}

const fn next(version: u64) -> u64 {
    (version + VERSION) & VERSIONS
}

#[inline(always)]
const fn word(MacAddr([a, b, c, d, e, f]): MacAddr) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

#[inline(always)]
const fn mac(word: u64) -> MacAddr {
    let [_, _, a, b, c, d, e, f] = word.to_be_bytes();
    MacAddr([a, b, c, d, e, f])
}

#[cfg(all(test, not(loom)))]
mod tests;
