//! From a key's hash to slots: buckets of one cache line, each of eight tagged words.
//!
//! ```text
//!  63      42 41        34 33   32 31          0
//! +----------+------------+-------+-------------+
//! | tag (22) | generation | state | slot        |   an all-zero word is empty
//! +----------+------------+-------+-------------+
//! ```
//! A key has three buckets: two anywhere (the first is preferred until it is three quarters full) and
//! one in a small stash for what fits in neither. Entries never move, so a reader that looks through
//! the buckets once cannot miss an entry that was there all the time.
//!
//! ## Exactly one entry for a key, without locks
//! An inserter puts its word down as PENDING, and only then looks through all three buckets:
//! - a MEMBER with its key: it takes its word back and the other entry is the one;
//! - a PENDING word with its key at a lower position: it takes its word back (the other goes on);
//! - a PENDING word with its key at a higher position: it knocks that one out (KNOCKED);
//!
//! and at last it makes its own word a MEMBER, which fails if it was knocked out. Of two inserters at
//! least one sees the other, because both write before they look, in one total order; the positions
//! decide which of them gives way. (The idea is that of Purcell and Harris's hash table of 2005.)
//! An entry that is dying is taken out by whoever finds it in the way.

use crate::hash::Hash;
use crate::memory::{Pages, Region, Zeroed};
use crate::prefetch::prefetch_read;
use crate::sync::{AtomicU32, AtomicU64, Ordering, total_order};
use crossbeam::utils::CachePadded;

/// Words of a bucket.
pub(crate) const WORDS: usize = if cfg!(loom) { 2 } else { 8 };
/// The first bucket is preferred while it has fewer words than this.
const PREFERRED: u32 = if cfg!(loom) { 1 } else { 6 };
/// One stash bucket for this many others.
const PER_STASH: u32 = 64;
/// How often an inserter begins again after it was knocked out.
const ATTEMPTS: usize = 4;

const STATE: u64 = 3 << 32;
const PENDING: u64 = 1 << 32;
const MEMBER: u64 = 2 << 32;
const KNOCKED: u64 = 3 << 32;
const TAG: u64 = u64::MAX << 42;
/// What a lookup compares.
const SEEN: u64 = TAG | STATE;

/// Which key of an entry a word stands for. Part of the tag, so that the two never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Inside = 0,
    Outside = 1,
}

/// One cache line of words.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Bucket([AtomicU64; WORDS]);

// SAFETY: zero is a valid atomic, and atomics need no drop.
unsafe impl Zeroed for Bucket {
    #[cfg(loom)]
    fn zeroed() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Bucket {
    /// Bit `i` is set if word `i` is a member with the wanted tag.
    #[inline(always)]
    pub(crate) fn candidates(&self, probe: &Probe) -> u32 {
        let mut mask = 0;
        for (i, w) in self.0.iter().enumerate() {
            mask |= u32::from((w.load(Ordering::Acquire) ^ probe.want) & SEEN == 0) << i;
        }
        mask
    }

    /// The slot of the lowest candidate, if it is still one.
    #[inline(always)]
    pub(crate) fn slot(&self, at: u32, probe: &Probe) -> Option<u32> {
        let w = self.0[at as usize % WORDS].load(Ordering::Acquire);
        ((w ^ probe.want) & SEEN == 0).then_some(slot_of(w))
    }

    fn used(&self) -> u32 {
        self.0.iter().map(|w| u32::from(w.load(Ordering::Relaxed) != 0)).sum()
    }
}

/// Where a key may be, and what its words look like.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Probe {
    place: u64,
    /// Tag and MEMBER.
    want: u64,
}

impl Probe {
    #[inline(always)]
    pub(crate) fn new(h: Hash, side: Side) -> Self {
        Self { place: h.place, want: u64::from(h.tag) << 42 | (side as u64) << 63 | MEMBER }
    }
}

/// What the caller finds out about the key of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Same {
    /// Another key.
    No,
    /// The key.
    Yes,
    /// The key, of an entry that has ended: its word may go.
    Dying,
}

/// Why a word was not inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// This slot has the key already.
    Exists(u32),
    /// Somebody else inserts the key at this moment.
    Busy,
    /// No room in any bucket of the key.
    Full,
}

#[derive(Debug)]
pub(crate) struct Index {
    buckets: Region<Bucket>,
    main: u32,
    stash: u32,
    /// Words in the stash: while there are none, nobody looks there.
    stashed: CachePadded<AtomicU32>,
}

#[inline(always)]
const fn slot_of(w: u64) -> u32 {
    w as u32
}

/// Scales a 32-bit hash to `0..n`.
#[inline(always)]
const fn scale(h: u32, n: u32) -> u32 {
    ((h as u64 * n as u64) >> 32) as u32
}

impl Index {
    /// Buckets that `words` words need at a load of 80%, without and with the stash.
    pub(crate) fn sizes(words: u64) -> Option<(u32, u32)> {
        let per = WORDS as u64;
        let main = u32::try_from((words * 5).div_ceil(4).div_ceil(per).max(1)).ok()?;
        Some((main, if cfg!(loom) { 1 } else { main.div_ceil(PER_STASH).max(2) }))
    }

    /// An index for `words` words.
    pub(crate) fn new(words: u64) -> std::io::Result<Self> {
        let (main, stash) = Self::sizes(words).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            buckets: Region::new(main as usize + stash as usize)?,
            main,
            stash,
            stashed: CachePadded::new(AtomicU32::new(0)),
        })
    }

    pub(crate) const fn octets(&self) -> usize {
        self.buckets.octets()
    }

    pub(crate) const fn pages(&self) -> Pages {
        self.buckets.pages()
    }

    #[inline(always)]
    const fn first_at(&self, p: &Probe) -> u32 {
        scale(p.place as u32, self.main)
    }

    #[inline(always)]
    const fn second_at(&self, p: &Probe) -> u32 {
        scale((p.place >> 32) as u32, self.main)
    }

    #[inline(always)]
    const fn stash_at(&self, p: &Probe) -> u32 {
        self.main + scale((p.place.rotate_left(16) ^ p.want) as u32, self.stash)
    }

    /// The preferred bucket.
    #[inline(always)]
    pub(crate) fn first(&self, p: &Probe) -> &Bucket {
        &self.buckets[self.first_at(p) as usize]
    }

    /// The second bucket.
    #[inline(always)]
    pub(crate) fn second(&self, p: &Probe) -> &Bucket {
        &self.buckets[self.second_at(p) as usize]
    }

    /// Brings the two buckets that an insertion looks at close.
    #[inline]
    pub(crate) fn prefetch(&self, p: &Probe) {
        prefetch_read(self.first(p));
        prefetch_read(self.second(p));
    }

    /// True if something is in the stash.
    #[inline(always)]
    pub(crate) fn has_stash(&self) -> bool {
        self.stashed.load(Ordering::Acquire) != 0
    }

    /// Looks through the buckets of a key until `judge` says something about a slot.
    #[inline]
    pub(crate) fn find<T>(&self, p: &Probe, mut judge: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let mut look = |b: &Bucket| {
            let mut mask = b.candidates(p);
            while mask != 0 {
                if let Some(t) = b.slot(mask.trailing_zeros(), p).and_then(&mut judge) {
                    return Some(t);
                }
                mask &= mask - 1;
            }
            None
        };
        look(self.first(p))
            .or_else(|| look(self.second(p)))
            .or_else(|| if self.has_stash() { look(&self.buckets[self.stash_at(p) as usize]) } else { None })
    }

    #[inline]
    fn word(&self, position: u64) -> &AtomicU64 {
        let at = position as usize;
        &self.buckets[at / WORDS].0[at % WORDS]
    }

    fn clear(&self, position: u64) {
        self.word(position).swap(0, Ordering::SeqCst);
        self.cleared(position);
    }

    /// Keeps count of the stash.
    #[inline]
    fn cleared(&self, position: u64) {
        if position >= u64::from(self.main) * WORDS as u64 {
            self.stashed.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Puts `word` down in an empty place of the key's buckets.
    fn reserve(&self, p: &Probe, word: u64) -> Option<u64> {
        let (a, b, c) = (self.first_at(p), self.second_at(p), self.stash_at(p));
        let (used_a, used_b) = (self.buckets[a as usize].used(), self.buckets[b as usize].used());
        let order = if used_a < PREFERRED || used_a <= used_b { [a, b, c] } else { [b, a, c] };
        for bucket in order {
            let stash = bucket >= self.main;
            if stash {
                // Counted before the word can be seen, so that no reader passes the stash by.
                self.stashed.fetch_add(1, Ordering::AcqRel);
            }
            for (i, w) in self.buckets[bucket as usize].0.iter().enumerate() {
                if w.load(Ordering::Relaxed) == 0
                    && w.compare_exchange(0, word, Ordering::SeqCst, Ordering::Relaxed).is_ok()
                {
                    return Some(u64::from(bucket) * WORDS as u64 + i as u64);
                }
            }
            if stash {
                self.stashed.fetch_sub(1, Ordering::AcqRel);
            }
        }
        None
    }

    /// Inserts a word for `slot` unless the key is there; `judge` tells a slot's key and life. The slot's
    /// key must have been written before.
    pub(crate) fn insert(
        &self,
        p: &Probe,
        slot: u32,
        generation: u8,
        mut judge: impl FnMut(u32) -> Same,
    ) -> Result<(), Refused> {
        let base = p.want & TAG | u64::from(generation) << 34 | u64::from(slot);
        for _ in 0..ATTEMPTS {
            let Some(own) = self.reserve(p, base | PENDING) else { return Err(Refused::Full) };
            total_order();
            if let Err(e) = self.contest(p, own, &mut judge) {
                self.clear(own);
                return Err(e);
            }
            let done = self.word(own).compare_exchange(
                base | PENDING,
                base | MEMBER,
                Ordering::SeqCst,
                Ordering::Relaxed,
            );
            if done.is_ok() {
                return Ok(());
            }
            // Knocked out. The next look will find who did it, or that nobody is left.
            self.clear(own);
        }
        Err(Refused::Busy)
    }

    /// Looks for others with the key, once the own word is down.
    fn contest(&self, p: &Probe, own: u64, judge: &mut impl FnMut(u32) -> Same) -> Result<(), Refused> {
        for bucket in [self.first_at(p), self.second_at(p), self.stash_at(p)] {
            for i in 0..WORDS {
                let position = u64::from(bucket) * WORDS as u64 + i as u64;
                if position != own {
                    self.face(p, own, position, judge)?;
                }
            }
        }
        Ok(())
    }

    /// Deals with one word of another.
    #[inline]
    fn face(
        &self,
        p: &Probe,
        own: u64,
        position: u64,
        judge: &mut impl FnMut(u32) -> Same,
    ) -> Result<(), Refused> {
        let place = self.word(position);
        let mut w = place.load(Ordering::SeqCst);
        // A word changes a few times at most while a key is contested; more than that is left to the
        // caller's next try.
        for _ in 0..8 {
            if (w ^ p.want) & TAG != 0 || w & STATE == 0 {
                return Ok(());
            }
            let state = w & STATE;
            if state == KNOCKED {
                return Ok(());
            }
            let new = match (state, judge(slot_of(w))) {
                (_, Same::No) => return Ok(()),
                (MEMBER, Same::Yes) => return Err(Refused::Exists(slot_of(w))),
                (MEMBER, Same::Dying) => 0,
                (_, _) if position < own => return Err(Refused::Busy),
                (_, _) => w | KNOCKED,
            };
            match place.compare_exchange(w, new, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {
                    if new == 0 {
                        self.cleared(position);
                    }
                    return Ok(());
                }
                Err(now) => w = now,
            }
        }
        Err(Refused::Busy)
    }

    /// Takes the word of `slot` out. False if it is not there (somebody helped).
    pub(crate) fn remove(&self, p: &Probe, slot: u32, generation: u8) -> bool {
        let word = p.want & TAG | u64::from(generation) << 34 | u64::from(slot) | MEMBER;
        for bucket in [self.first_at(p), self.second_at(p), self.stash_at(p)] {
            for (i, w) in self.buckets[bucket as usize].0.iter().enumerate() {
                if w.load(Ordering::Relaxed) == word
                    && w.compare_exchange(word, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
                {
                    self.cleared(u64::from(bucket) * WORDS as u64 + i as u64);
                    return true;
                }
            }
        }
        false
    }

    /// How many words are not empty. For audits.
    pub(crate) fn used_words(&self) -> u64 {
        self.buckets.iter().map(|b| u64::from(b.used())).sum()
    }
}
