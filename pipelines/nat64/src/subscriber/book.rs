//! What each subscriber holds at this moment: a bounded table that all workers share.
//!
//! ```text
//!  prefix --ids (DashMap)--> number --> entry: sessions, rate     atomics: every new session
//!  tenant --(fixed)--------> number -->        ports, blocks      a lock: new and ended mappings only
//! ```
//! - A mapping holds one reference to its subscriber's entry and carries its number plus one, so that a
//!   new session on it finds the entry without a search. The last reference frees the entry.
//! - Tenants have entries of a region of their own, which lives as long as a pool that names them: the
//!   table being full of others never costs them anything.
//! - Established flows never come here.
//!
//! Why a lock, and not atomics alone: a port, its block, the promise that it was taken under and the home
//! address change together or not at all. It is held for the search of one port, by workers only, and two
//! of them want the same one only when one subscriber opens flows on both at the same moment. The lock
//! order is: shard of `ids`, then entry.

use crate::config::{Limits, MAX_BLOCKS};
use crate::pool4::{Address, PROTOCOLS};
use crate::subscriber::{MAX_TENANTS, Refused};
use arrayvec::ArrayVec;
use causeway_core::{DropReason, Instant};
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use dashmap::{DashMap, Entry as Slot};
use std::hash::RandomState;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Entries for tenants: twice as many as there may be, because those of tenants that are no longer
/// configured live until their last mapping ends.
const TENANT_PLACES: u32 = 2 * MAX_TENANTS as u32;

/// Protocols, and blocks.
pub(crate) const KINDS: usize = PROTOCOLS.len() + 1;

/// Where blocks are counted, behind the protocols.
pub(crate) const BLOCKS: usize = PROTOCOLS.len();

/// A subscriber without a name: its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Key {
    pub(crate) prefix: u128,
    pub(crate) length: u8,
}

/// A block of consecutive ports of one address, for all protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) address: u32,
    /// Number of the block: its first port divided by its size.
    pub(crate) number: u16,
    /// Logarithm of its size.
    pub(crate) shift: u8,
    /// Ports of it that mappings have.
    pub(crate) used: u32,
}

impl Block {
    pub(crate) const fn first(&self) -> u16 {
        self.number << self.shift
    }

    pub(crate) const fn last(&self) -> u16 {
        self.first() + ((1 << self.shift) - 1)
    }

    pub(crate) const fn has(&self, address: u32, port: u16) -> bool {
        self.address == address && port >> self.shift == self.number
    }
}

/// What is behind the lock.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Mappings, and pools that name the tenant.
    refs: u32,
    pub(crate) key: Key,
    /// The address that it keeps.
    pub(crate) home: Option<Arc<Address>>,
    /// Ports (or blocks) at home that it gets whatever others have taken, as far as that was promised.
    pub(crate) min: u32,
    /// True if `min` is blocks, false if it is ports of each protocol.
    pub(crate) by_blocks: bool,
    /// True for those whose promises the home keeps a reserve for.
    pub(crate) anonymous: bool,
    /// What is written into `home.owed` for it.
    owed: [u32; KINDS],
    /// What is written into `home.promised` for it.
    promised: u32,
    /// Ports of each protocol that mappings have.
    pub(crate) live: [u32; PROTOCOLS.len()],
    /// Those of them that are at home; blocks at home.
    pub(crate) at_home: [u32; KINDS],
    /// Ports that came back to rest in this period and in the one before.
    pub(crate) resting: [[u32; 2]; PROTOCOLS.len()],
    pub(crate) period: u64,
    /// There while blocks are given out.
    pub(crate) blocks: Option<Box<ArrayVec<Block, MAX_BLOCKS>>>,
}

impl State {
    /// Makes what the home keeps for this subscriber what it should be: of what was promised, the part
    /// that it has not taken.
    pub(crate) fn settle(&mut self) {
        let Some(home) = &self.home else { return };
        for kind in 0..KINDS {
            let counts = (kind == BLOCKS) == self.by_blocks;
            let owed = if counts { self.min.saturating_sub(self.at_home[kind]) } else { 0 };
            adjust(&home.owed[kind], &mut self.owed[kind], owed);
        }
        let promised = if self.anonymous { self.min } else { 0 };
        adjust(&home.promised, &mut self.promised, promised);
    }

    /// Moves to another home, without a promise.
    pub(crate) fn move_to(&mut self, home: Option<Arc<Address>>) {
        self.min = 0;
        self.settle();
        self.home = home;
        self.at_home = [0; KINDS];
    }
}

/// Changes a sum by what one part of it changes.
fn adjust(sum: &AtomicU32, part: &mut u32, to: u32) {
    if to > *part {
        sum.fetch_add(to - *part, Ordering::AcqRel);
    } else if to < *part {
        sum.fetch_sub(*part - to, Ordering::AcqRel);
    }
    *part = to;
}

#[derive(Debug, Default)]
pub(crate) struct Entry {
    sessions: AtomicU32,
    /// When the next new session is due, in nanoseconds (the generic cell rate algorithm).
    due: AtomicU64,
    refused: [AtomicU64; 3],
    state: Mutex<State>,
}

/// What a subscriber was refused, for its counters.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refusal {
    Ports,
    Sessions,
    Rate,
}

impl Entry {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it panics; if something did, the numbers are still numbers.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn refuse(&self, what: Refusal) {
        self.refused[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sessions(&self) -> u32 {
        self.sessions.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> Refused {
        let [ports, sessions, rate] = [0, 1, 2].map(|n: usize| self.refused[n].load(Ordering::Relaxed));
        Refused { ports, sessions, rate }
    }

    /// Counts a new session, unless that is one too many or too soon.
    ///
    /// Sessions that strangers open leave the last quarter to the subscriber's own, and do not count
    /// against its rate: nobody outside can keep it from opening sessions.
    pub(crate) fn begin_session(&self, l: &Limits, now: Instant, inside: bool) -> Result<(), DropReason> {
        let most = l.sessions_max.map_or(u32::MAX, |max| if inside { max } else { max - max / 4 });
        let count = |n: u32| (n < most).then_some(n + 1);
        if self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_err() {
            self.refuse(Refusal::Sessions);
            return Err(DropReason::Nat64SubscriberSessions);
        }
        if inside && !self.in_time(l, now) {
            self.end_session();
            self.refuse(Refusal::Rate);
            return Err(DropReason::Nat64SubscriberRate);
        }
        Ok(())
    }

    fn in_time(&self, l: &Limits, now: Instant) -> bool {
        let Some(rate) = l.new_sessions_per_second else { return true };
        let each = interval(rate);
        let now = now.as_micros().saturating_mul(1000);
        let latest = now.saturating_add(each.saturating_mul(u64::from(l.new_sessions_burst)));
        let next = |due: u64| (due <= latest).then(|| due.max(now).saturating_add(each));
        self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Counts an ended session.
    pub(crate) fn end_session(&self) {
        let one_less = |n: u32| n.checked_sub(1);
        // It fails only if there is none, which would be a mistake of ours: then none is what is left.
        let _ = self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    /// Takes back a session that did not come about, as if it had not been asked for.
    pub(crate) fn cancel_session(&self, l: &Limits, inside: bool) {
        self.end_session();
        if let Some(rate) = l.new_sessions_per_second.filter(|_| inside) {
            let earlier = |due: u64| Some(due.saturating_sub(interval(rate)));
            let _ = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earlier);
        }
    }

    fn begin(&self, key: Key, anonymous: bool) {
        self.sessions.store(0, Ordering::Relaxed);
        self.due.store(0, Ordering::Relaxed);
        self.refused.iter().for_each(|r| r.store(0, Ordering::Relaxed));
        let mut s = self.lock();
        (s.refs, s.key, s.anonymous) = (1, key, anonymous);
    }

    fn end(s: &mut State) {
        s.move_to(None);
        let mut blocks = s.blocks.take();
        if let Some(b) = &mut blocks {
            b.clear();
        }
        *s = State { blocks, ..State::default() };
    }
}

/// Nanoseconds between two sessions of a rate.
fn interval(rate: u32) -> u64 {
    1_000_000_000 / u64::from(rate.max(1))
}

/// The table. An entry takes 256 octets, and its place in `ids` some 60.
#[derive(Debug)]
pub(crate) struct Book {
    ids: DashMap<Key, u32, RandomState>,
    free: ArrayQueue<u32>,
    free_tenants: ArrayQueue<u32>,
    /// Those without a name, and then tenants.
    entries: Box<[CachePadded<Entry>]>,
    capacity: u32,
}

impl Book {
    /// Room for `capacity` subscribers without a name, and for all tenants.
    pub(crate) fn new(capacity: u32) -> Arc<Self> {
        let all = capacity + TENANT_PLACES;
        let queue = |range: std::ops::Range<u32>| {
            let q = ArrayQueue::new(range.len().max(1));
            for id in range {
                // There is room: the queue has as many places as the range has numbers.
                let _ = q.push(id);
            }
            q
        };
        let places = usize::try_from(capacity).unwrap_or(usize::MAX);
        // Many small shards: when one rearranges itself, a first packet waits for a small one only.
        let shards = (places / 128).next_power_of_two().clamp(16, 8192);
        Arc::new(Self {
            ids: DashMap::with_capacity_and_hasher_and_shard_amount(places, RandomState::new(), shards),
            free: queue(0..capacity),
            free_tenants: queue(capacity..all),
            entries: (0..all).map(|_| CachePadded::new(Entry::default())).collect(),
            capacity,
        })
    }

    /// Makes room for blocks. Not for workers.
    pub(crate) fn want_blocks(&self) {
        for e in &self.entries {
            e.lock().blocks.get_or_insert_default();
        }
    }

    /// The entry with this number, if there is one.
    pub(crate) fn entry(&self, id: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(id).ok()?).map(|e| &**e)
    }

    /// The place of a tenant's entry among tenants' entries; nothing for others.
    pub(crate) const fn tenant_place(&self, id: u32) -> Option<u32> {
        id.checked_sub(self.capacity)
    }

    /// Takes a reference to the entry of a subscriber without a name; makes one if there is none. Nothing
    /// if the table is full.
    pub(crate) fn acquire(&self, key: Key) -> Option<u32> {
        match self.ids.entry(key) {
            Slot::Occupied(o) => {
                let id = *o.get();
                self.hold(id);
                Some(id)
            }
            Slot::Vacant(v) => {
                let id = self.free.pop()?;
                self.entry(id)?.begin(key, true);
                v.insert(id);
                Some(id)
            }
        }
    }

    /// Takes one more reference to an entry that has one.
    pub(crate) fn hold(&self, id: u32) {
        if let Some(e) = self.entry(id) {
            e.lock().refs += 1;
        }
    }

    /// An entry for a new tenant, with a reference.
    pub(crate) fn begin_tenant(&self, key: Key) -> Option<u32> {
        let id = self.free_tenants.pop()?;
        self.entry(id)?.begin(key, false);
        Some(id)
    }

    /// Gives a reference back; the last one frees the entry.
    pub(crate) fn release(&self, id: u32) {
        let Some(entry) = self.entry(id) else { return };
        let mut s = entry.lock();
        match s.refs {
            // Nobody's: a mistake of ours, which must not free it twice.
            0 => return,
            1 => s.refs = 0,
            n => {
                s.refs = n - 1;
                return;
            }
        }
        if self.tenant_place(id).is_some() {
            // Nobody finds it: the pools that named it are gone.
            Entry::end(&mut s);
            drop(s);
            let _ = self.free_tenants.push(id);
            return;
        }
        let key = s.key;
        drop(s);
        // Somebody may take it again until the shard is locked: then it stays. It may even have been freed
        // and be another's meanwhile; then the key is not there, or leads elsewhere, or has references.
        let unused = |_: &Key, found: &u32| {
            *found == id && {
                let mut s = entry.lock();
                let unused = s.refs == 0;
                if unused {
                    Entry::end(&mut s);
                }
                unused
            }
        };
        if self.ids.remove_if(&key, unused).is_some() {
            let _ = self.free.push(id);
        }
    }

    /// Entries that are somebody's, by number. Each is locked while `f` looks at it.
    pub(crate) fn each<'a, T>(
        &'a self,
        mut f: impl FnMut(u32, &Entry, &State) -> T + 'a,
    ) -> impl Iterator<Item = T> + 'a {
        (0..).zip(&self.entries).filter_map(move |(id, e)| {
            let s = e.lock();
            (s.refs > 0).then(|| f(id, e, &s))
        })
    }

    /// Entries without a name that are somebody's.
    #[cfg(test)]
    pub(crate) fn known(&self) -> usize {
        assert_eq!(self.ids.len() + self.free.len(), usize::try_from(self.capacity).unwrap());
        self.ids.len()
    }
}

/// A reference to a tenant's entry that a pool has, so that its number stays the same.
#[derive(Debug)]
pub(crate) struct Pinned {
    book: Arc<Book>,
    pub(crate) id: u32,
}

impl Pinned {
    /// Takes over a reference.
    pub(crate) const fn new(book: Arc<Book>, id: u32) -> Self {
        Self { book, id }
    }

    /// One more, for another pool.
    pub(crate) fn again(&self) -> Self {
        self.book.hold(self.id);
        Self { book: Arc::clone(&self.book), id: self.id }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.book.release(self.id);
    }
}

#[expect(dead_code, reason = "keeps the size of an entry from growing unnoticed")]
const SIZE: () = assert!(size_of::<CachePadded<Entry>>() <= 256);

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(n: u128) -> Key {
        Key { prefix: n << 64, length: 64 }
    }

    #[test]
    fn the_last_reference_frees_the_entry() {
        let b = Book::new(2);
        let one = b.acquire(key(1)).unwrap();
        assert_eq!(b.acquire(key(1)), Some(one));
        let two = b.acquire(key(2)).unwrap();
        assert_ne!(one, two);
        assert_eq!(b.acquire(key(3)), None);
        assert!(b.begin_tenant(key(3)).is_some(), "tenants have places of their own");
        b.release(one);
        assert_eq!(b.acquire(key(3)), None);
        b.release(one);
        assert_eq!((b.acquire(key(3)), b.known()), (Some(one), 2));
        b.release(one);
        b.release(two);
        assert_eq!(b.known(), 0);
    }

    #[test]
    fn rfc6888_3_req_4_c_new_sessions_are_paced() {
        let e = Entry::default();
        let l = Limits { new_sessions_per_second: Some(10), new_sessions_burst: 3, ..Limits::default() };
        let at = |ms: u64| Instant::from_micros(1_000_000 + ms * 1000);
        let tries = |ms: u64| (0..20).filter(|_| e.begin_session(&l, at(ms), true).is_ok()).count();
        assert_eq!(tries(0), 4, "one that is due, and the burst");
        assert_eq!((tries(99), tries(100), tries(150), tries(300)), (0, 1, 0, 2));
        // 10 seconds, whatever is tried meanwhile: ten a second, and the burst.
        assert_eq!((0..=1000).map(|n| tries(1000 + n * 10)).sum::<usize>(), 100 + 4);
        assert!(e.begin_session(&l, at(11_001), false).is_ok(), "strangers do not use it up");
        // What did not come about may be tried again.
        let before = e.sessions();
        assert_eq!(tries(60_000), 4);
        e.cancel_session(&l, true);
        assert_eq!((tries(60_000), e.sessions()), (1, before + 4));
        let fast = Limits { new_sessions_per_second: Some(300_000), ..l };
        let n = (0..1_000_000u64)
            .filter(|us| e.begin_session(&fast, Instant::from_micros(80_000_000 + us), true).is_ok())
            .count();
        assert!((299_000..=301_000).contains(&n), "{n}");
    }

    #[test]
    fn rfc6888_3_req_5_sessions_are_counted_and_strangers_leave_some() {
        let e = Entry::default();
        let l = Limits { sessions_max: Some(8), ..Limits::default() };
        let tries = |inside| (0..20).filter(|_| e.begin_session(&l, Instant::ZERO, inside).is_ok()).count();
        assert_eq!((tries(false), tries(true), tries(true)), (6, 2, 0));
        e.end_session();
        assert_eq!((tries(false), tries(true)), (0, 1));
        assert_eq!(e.refused(), Refused { ports: 0, sessions: 14 + 18 + 20 + 20 + 19, rate: 0 });
        let one = Limits { sessions_max: Some(1), ..Limits::default() };
        let e = Entry::default();
        assert!(e.begin_session(&one, Instant::ZERO, false).is_ok(), "one is enough for a stranger too");
    }

    #[test]
    fn entries_come_and_go_on_two_threads_and_none_is_lost() {
        let b = Book::new(3);
        std::thread::scope(|scope| {
            for t in 0..2u64 {
                let b = &b;
                scope.spawn(move || {
                    let mut held = Vec::new();
                    let mut x = t + 1;
                    for _ in 0..200_000 {
                        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        if x >> 63 == 0 && held.len() < 3 {
                            held.extend(b.acquire(key(u128::from(x >> 60) % 4)));
                        } else if let Some(id) = held.pop() {
                            b.release(id);
                        }
                    }
                    held.into_iter().for_each(|id| b.release(id));
                });
            }
        });
        assert_eq!(b.known(), 0);
        assert_eq!(b.each(|_, _, _| ()).count(), 0);
    }
}
