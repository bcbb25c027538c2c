//! A small map that is read on every packet and seldom written: resolved neighbours.
//!
//! ```text
//!  hash(key) -> 32 neighbouring entries, one cache line each:
//!      meta = version | OCCUPIED | LOCKED      key [u64; 3]      value u64
//! ```
//! Fixed capacity, no locks. A reader looks at no more than [`WINDOW`] entries and copies each under
//! its version (a seqlock whose data are atomics): a reader that meets a writer gives up on that entry
//! after a few tries, as if it were not there. Readers never wait.
//!
//! A key has one writer at a time; that is the caller's to see to (a neighbour belongs to one worker).
//! Writers of different keys may work side by side, also on neighbouring entries.

use crate::hash::fold;
use crate::memory::{Region, Zeroed};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// How many entries a key may be in.
pub const WINDOW: usize = if cfg!(loom) { 2 } else { 32 };
const TRIES: usize = 4;
const LOCKED: u64 = 1;
const OCCUPIED: u64 = 2;
const VERSION: u64 = 4;

/// The map is full, or every entry that the key may be in is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the map is full")]
pub struct MapFull;

#[derive(Debug)]
#[repr(align(64))]
struct Entry {
    /// Zero: never used.
    meta: AtomicU64,
    key: [AtomicU64; 3],
    value: AtomicU64,
}

// SAFETY: atomic words of zero are valid (an entry that was never used), and none needs dropping.
unsafe impl Zeroed for Entry {
    #[cfg(loom)]
    fn zeroed() -> Self {
        Self {
            meta: AtomicU64::new(0),
            key: std::array::from_fn(|_| AtomicU64::new(0)),
            value: AtomicU64::new(0),
        }
    }
}

/// The map. All methods may be called from any thread; see the module for what a key's writer owes.
#[derive(Debug)]
pub struct SeqMap {
    entries: Region<Entry>,
    capacity: u32,
    len: AtomicU32,
    seed: [u64; 2],
}

impl SeqMap {
    /// A map for `capacity` keys (at least 1; memory is 128 octets a key). `seed` should be random: it
    /// keeps strangers from aiming at one part of the map. Ends the process when there is no memory, as
    /// other allocations do.
    #[must_use]
    pub fn new(capacity: u32, seed: [u64; 2]) -> Self {
        let capacity = capacity.max(1);
        let n = capacity as usize * 2 + WINDOW;
        // Huge pages where there are any: a scan looks at another page for each address.
        let entries = Region::new(n).unwrap_or_else(|_| {
            std::alloc::handle_alloc_error(std::alloc::Layout::new::<Entry>());
        });
        Self { entries, capacity, len: AtomicU32::new(0), seed }
    }

    /// How many keys it takes.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many keys are in it.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// True if no key is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline(always)]
    fn window(&self, key: &[u64; 3]) -> &[Entry] {
        let h = fold(
            fold(key[0] ^ self.seed[0], key[1] ^ 0x9e37_79b9_7f4a_7c15),
            fold(key[2] ^ self.seed[1], 0xd6e8_feb8_6659_fd93),
        );
        // The high half of the product is below the number of windows.
        let starts = self.entries.len() - WINDOW;
        let at = ((u128::from(h) * starts as u128) >> 64) as usize;
        &self.entries[at..at + WINDOW]
    }

    /// The first entry of a key's window.
    #[cfg(all(test, loom))]
    pub(crate) fn home(&self, key: &[u64; 3]) -> &impl Sized {
        &self.window(key)[0]
    }

    /// Asks the processor to bring the first entry that `key` may be in close.
    #[inline]
    pub fn prefetch(&self, key: &[u64; 3]) {
        crate::prefetch::prefetch_read(&self.window(key)[0]);
    }

    /// The value of `key`.
    #[inline]
    #[must_use]
    pub fn get(&self, key: &[u64; 3]) -> Option<u64> {
        for e in self.window(key) {
            match e.read() {
                Read::Never => return None,
                Read::Nothing => {}
                Read::Is(k, v) if k == *key => return Some(v),
                Read::Is(..) => {}
            }
        }
        None
    }

    /// Sets the value of `key`; gives the value that it had.
    ///
    /// # Errors
    /// [`MapFull`] when the key is new and there is no room for it. Nothing is changed then.
    pub fn insert(&self, key: &[u64; 3], value: u64) -> Result<Option<u64>, MapFull> {
        if let Some((e, _)) = self.find(key) {
            return Ok(Some(e.value.swap(value, Ordering::AcqRel)));
        }
        if self.len.fetch_add(1, Ordering::AcqRel) >= self.capacity {
            self.len.fetch_sub(1, Ordering::AcqRel);
            return Err(MapFull);
        }
        for e in self.window(key) {
            let meta = e.meta.load(Ordering::Relaxed);
            if meta & (OCCUPIED | LOCKED) != 0 {
                continue;
            }
            // Another key's writer may want the same entry: the exchange decides.
            if e.meta.compare_exchange(meta, meta | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_err() {
                continue;
            }
            // Keeps the data behind the lock for readers (pairs with the fence in `read`).
            fence(Ordering::Release);
            for (to, from) in e.key.iter().zip(key) {
                to.store(*from, Ordering::Relaxed);
            }
            e.value.store(value, Ordering::Relaxed);
            e.meta.store((meta + VERSION) | OCCUPIED, Ordering::Release);
            return Ok(None);
        }
        self.len.fetch_sub(1, Ordering::AcqRel);
        Err(MapFull)
    }

    /// Sets the value of a key that is in the map; gives the value that it had.
    pub fn update(&self, key: &[u64; 3], value: u64) -> Option<u64> {
        self.find(key).map(|(e, _)| e.value.swap(value, Ordering::AcqRel))
    }

    /// Takes `key` out; gives the value that it had.
    pub fn remove(&self, key: &[u64; 3]) -> Option<u64> {
        let (e, meta) = self.find(key)?;
        let value = e.value.load(Ordering::Acquire);
        // The version moves on, so that a reader in the middle notices. It never returns to zero, which
        // would mean "never used" and end searches early.
        e.meta.store((meta & !OCCUPIED) + VERSION, Ordering::Release);
        self.len.fetch_sub(1, Ordering::AcqRel);
        Some(value)
    }

    /// Calls `f` with the keys and values found in `max` entries from `from` on (0 to begin with); gives
    /// where to go on, or nothing at the end. Keys that come or go meanwhile may or may not be seen.
    pub fn iterate(&self, from: usize, max: usize, mut f: impl FnMut(&[u64; 3], u64)) -> Option<usize> {
        let to = from.saturating_add(max.max(1)).min(self.entries.len());
        for e in self.entries.get(from..to)? {
            if let Read::Is(k, v) = e.read() {
                f(&k, v);
            }
        }
        (to < self.entries.len()).then_some(to)
    }

    /// The entry of `key`, for its writer: nobody else changes the entry meanwhile.
    fn find(&self, key: &[u64; 3]) -> Option<(&Entry, u64)> {
        for e in self.window(key) {
            let meta = e.meta.load(Ordering::Acquire);
            if meta == 0 {
                return None;
            }
            if meta & OCCUPIED != 0 && matches!(e.read(), Read::Is(k, _) if k == *key) {
                return Some((e, meta));
            }
        }
        None
    }
}

enum Read {
    /// Was never used: no key of this window is behind it.
    Never,
    /// Free, or being written.
    Nothing,
    Is([u64; 3], u64),
}

impl Entry {
    #[inline(always)]
    fn read(&self) -> Read {
        for _ in 0..TRIES {
            let before = self.meta.load(Ordering::Acquire);
            if before == 0 {
                return Read::Never;
            }
            if before & (OCCUPIED | LOCKED) != OCCUPIED {
                return Read::Nothing;
            }
            let key = std::array::from_fn(|i| self.key[i].load(Ordering::Relaxed));
            let value = self.value.load(Ordering::Acquire);
            // The copy counts only if the version did not move while it was made.
            fence(Ordering::Acquire);
            if self.meta.load(Ordering::Relaxed) == before {
                return Read::Is(key, value);
            }
        }
        Read::Nothing
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
