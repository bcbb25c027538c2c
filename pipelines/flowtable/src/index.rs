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

/// How many bits of an octet are set. The processors that we compile for need not count bits themselves.
const ONES: [u8; 256] = {
    let mut ones = [0; 256];
    let mut i = 0;
    while i < 256 {
        ones[i] = (i as u8).count_ones() as u8;
        i += 1;
    }
    ones
};

#[inline(always)]
const fn ones(octet: u32) -> u32 {
    ONES[octet as usize % ONES.len()] as u32
}

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
    /// Bit `i` is set if the upper half of word `i`, as far as `mask` goes, is `want`. The words are read
    /// one after the other as far as other threads can tell, each whole, and not before what the program
    /// did before with a `SeqCst` exchange.
    #[inline(always)]
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    fn upper(&self, mask: u32, want: u32) -> u32 {
        use std::arch::x86_64::__m128i;
        let (a, b, c, d): (__m128i, __m128i, __m128i, __m128i);
        // SAFETY: reads the 64 octets of `self`, which are aligned to 64, and nothing else. Other threads
        // may write the words meanwhile: the processor reads each aligned word whole, and to the language
        // this is a read by assembly, which may race with atomic writes as an atomic read may. Neither the
        // compiler (the block is not `pure`) nor the processor (an exchange is a full barrier) takes it
        // before an exchange that stands before it.
        unsafe {
            std::arch::asm!(
                "movdqa {a}, [{p}]",
                "movdqa {b}, [{p} + 16]",
                "movdqa {c}, [{p} + 32]",
                "movdqa {d}, [{p} + 48]",
                p = in(reg) self.0.as_ptr(),
                a = out(xmm_reg) a,
                b = out(xmm_reg) b,
                c = out(xmm_reg) c,
                d = out(xmm_reg) d,
                options(nostack, preserves_flags, readonly)
            );
        }
        // SAFETY: SSE2 is part of every x86-64 processor.
        unsafe { upper_halves([a, b, c, d], mask, want) }
    }

    /// Bit `i` is set if the upper half of word `i`, as far as `mask` goes, is `want`.
    #[inline(always)]
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, miri)))))]
    fn upper(&self, mask: u32, want: u32) -> u32 {
        self.upper_portable(mask, want)
    }

    /// As [`Bucket::upper`], on any processor.
    #[inline(always)]
    #[cfg(any(test, not(all(target_arch = "x86_64", not(any(loom, miri))))))]
    fn upper_portable(&self, mask: u32, want: u32) -> u32 {
        let mut found = 0;
        for (i, w) in self.0.iter().enumerate() {
            found |= u32::from((w.load(Ordering::SeqCst) >> 32) as u32 & mask == want) << i;
        }
        found
    }

    /// Bit `i` is set if word `i` is a member with the wanted tag. Only a hint: [`Bucket::slot`] reads
    /// the word again, and properly.
    #[inline(always)]
    pub(crate) fn candidates(&self, probe: &Probe) -> u32 {
        self.upper((SEEN >> 32) as u32, (probe.want >> 32) as u32)
    }

    /// Bit `i` is set if word `i` has the wanted tag, in whatever state, and is not empty.
    #[inline(always)]
    fn tagged(&self, probe: &Probe) -> u32 {
        let same = self.upper((TAG >> 32) as u32, (probe.want >> 32) as u32 & (TAG >> 32) as u32);
        // An empty word looks like tag 0.
        if probe.want & TAG == 0 { same & !self.empty() } else { same }
    }

    /// Bit `i` is set if word `i` is empty: every other word has a state.
    #[inline(always)]
    fn empty(&self) -> u32 {
        self.upper(u32::MAX, 0)
    }

    /// The slot of the lowest candidate, if it is still one.
    #[inline(always)]
    pub(crate) fn slot(&self, at: u32, probe: &Probe) -> Option<u32> {
        let w = self.0[at as usize % WORDS].load(Ordering::Acquire);
        ((w ^ probe.want) & SEEN == 0).then_some(slot_of(w))
    }

    /// The slot of some candidate; there is hardly ever more than one.
    #[inline(always)]
    pub(crate) fn any(&self, probe: &Probe) -> Option<u32> {
        let mask = self.candidates(probe);
        if mask == 0 { None } else { self.slot(mask.trailing_zeros(), probe) }
    }

    #[inline(always)]
    fn used(&self) -> u32 {
        WORDS as u32 - ones(self.empty())
    }
}

/// Bit `i` is set if the upper half of word `i` of eight, as far as `mask` goes, is `want`.
#[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
#[target_feature(enable = "sse2")]
#[inline]
fn upper_halves(words: [std::arch::x86_64::__m128i; 4], mask: u32, want: u32) -> u32 {
    use std::arch::x86_64::{
        _mm_and_si128, _mm_castps_si128, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_movemask_epi8,
        _mm_packs_epi16, _mm_packs_epi32, _mm_set1_epi32, _mm_shuffle_ps,
    };
    let mask = _mm_set1_epi32(mask.cast_signed());
    let want = _mm_set1_epi32(want.cast_signed());
    let [low, high] = [[words[0], words[1]], [words[2], words[3]]].map(|[x, y]| {
        let upper = _mm_shuffle_ps::<0b11_01_11_01>(_mm_castsi128_ps(x), _mm_castsi128_ps(y));
        _mm_cmpeq_epi32(_mm_and_si128(_mm_castps_si128(upper), mask), want)
    });
    let words = _mm_packs_epi32(low, high);
    _mm_movemask_epi8(_mm_packs_epi16(words, words)).cast_unsigned() & 0xff
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
        self.main + scale(p.place.rotate_left(16) as u32, self.stash)
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
            self.stashed.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Puts `word` down in an empty place of the key's buckets.
    fn reserve(&self, p: &Probe, word: u64) -> Option<u64> {
        let a = self.first_at(p);
        let empty = self.buckets[a as usize].empty();
        // Nearly always there is room where it is preferred.
        if WORDS as u32 - ones(empty) < PREFERRED
            && let Some(position) = self.put(a, empty, word)
        {
            return Some(position);
        }
        self.reserve_elsewhere(p, word)
    }

    /// As [`Index::reserve`], when the first bucket is three quarters full.
    #[cold]
    fn reserve_elsewhere(&self, p: &Probe, word: u64) -> Option<u64> {
        let (a, b, c) = (self.first_at(p), self.second_at(p), self.stash_at(p));
        let (used_a, used_b) = (self.buckets[a as usize].used(), self.buckets[b as usize].used());
        let order = if used_a < PREFERRED || used_a <= used_b { [a, b] } else { [b, a] };
        for bucket in order {
            if let Some(position) = self.put(bucket, self.buckets[bucket as usize].empty(), word) {
                return Some(position);
            }
        }
        // Counted before the word can be seen, so that no reader passes the stash by.
        self.stashed.fetch_add(1, Ordering::SeqCst);
        let position = self.put(c, self.buckets[c as usize].empty(), word);
        if position.is_none() {
            self.stashed.fetch_sub(1, Ordering::SeqCst);
        }
        position
    }

    /// Puts `word` into one of the places of a bucket that were `empty`, if one still is.
    #[inline(always)]
    fn put(&self, bucket: u32, mut empty: u32, word: u64) -> Option<u64> {
        let into = &self.buckets[bucket as usize];
        while empty != 0 {
            let i = empty.trailing_zeros();
            empty &= empty - 1;
            let w = &into.0[i as usize % WORDS];
            if w.compare_exchange(0, word, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                return Some(u64::from(bucket) * WORDS as u64 + u64::from(i));
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
        let all = [self.first_at(p), self.second_at(p), self.stash_at(p)];
        // Whoever puts a word into the stash counts it first. If the count is zero after the own word is
        // down, a later inserter there will see the own word.
        let looked = if self.stashed.load(Ordering::SeqCst) == 0 { &all[..2] } else { &all[..] };
        for &bucket in looked {
            let mut tagged = self.buckets[bucket as usize].tagged(p);
            while tagged != 0 {
                let position = u64::from(bucket) * WORDS as u64 + u64::from(tagged.trailing_zeros());
                tagged &= tagged - 1;
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
        let all = [self.first_at(p), self.second_at(p), self.stash_at(p)];
        let looked = if self.has_stash() { &all[..] } else { &all[..2] };
        for &bucket in looked {
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

    /// How many words of the stash are not empty.
    #[cfg(all(test, loom))]
    pub(crate) fn stash_words(&self) -> u32 {
        self.buckets[self.main as usize..].iter().map(Bucket::used).sum()
    }

    /// How many words are not empty. For audits.
    pub(crate) fn used_words(&self) -> u64 {
        self.buckets.iter().map(|b| u64::from(b.used())).sum()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn probe(place: u64, tag: u32, side: Side) -> Probe {
        Probe::new(Hash { place, tag }, side)
    }

    proptest! {
        #[test]
        fn the_quick_look_at_a_bucket_agrees_with_the_plain_one(
            words in proptest::array::uniform8((0u64..4, 0u64..4, any::<u64>())),
            tag in 0u32..3,
        ) {
            let b = Bucket(words.map(|(tag, state, rest)| {
                AtomicU64::new(tag << 42 | state << 32 | rest & !(TAG | STATE))
            }));
            let p = probe(0, tag, Side::Inside);
            for (mask, want) in [
                ((SEEN >> 32) as u32, (p.want >> 32) as u32),
                ((TAG >> 32) as u32, ((p.want & TAG) >> 32) as u32),
                (u32::MAX, 0),
            ] {
                prop_assert_eq!(b.upper(mask, want), b.upper_portable(mask, want));
            }
            for (i, w) in b.0.iter().enumerate() {
                let w = w.load(Ordering::Relaxed);
                prop_assert_eq!(b.empty() >> i & 1 == 1, w >> 32 == 0);
                prop_assert_eq!(b.tagged(&p) >> i & 1 == 1, (w ^ p.want) & TAG == 0 && w >> 32 != 0);
            }
            for (i, (t, state, rest)) in words.iter().enumerate() {
                let wanted = *t == u64::from(tag) && *state == 2;
                prop_assert_eq!(b.candidates(&p) >> i & 1 == 1, wanted);
                let slot = (*rest & 0xffff_ffff) as u32;
                prop_assert_eq!(b.slot(u32::try_from(i).unwrap(), &p), wanted.then_some(slot));
            }
        }
    }

    #[test]
    fn a_key_that_fits_nowhere_else_goes_to_the_stash_and_is_found_there() {
        let index = Index::new(1000).unwrap();
        // One place, many tags: eight in the first bucket, eight in the second, eight in the stash, and
        // then no more.
        let place = 0x4000_0000_8000_0000;
        let mut n = 0;
        let full = loop {
            match index.insert(&probe(place, n, Side::Outside), n, 5, |_| Same::Yes) {
                Ok(()) => n += 1,
                Err(e) => break e,
            }
            assert_eq!(index.has_stash(), n > 16);
        };
        assert_eq!((full, n), (Refused::Full, 24));
        for i in 0..n {
            let p = probe(place, i, Side::Outside);
            assert_eq!(index.find(&p, Some), Some(i));
            assert_eq!(
                index.insert(&p, 77, 5, |_| Same::Yes),
                if i < n { Err(Refused::Full) } else { Ok(()) }
            );
        }
        for i in 0..n {
            let p = probe(place, i, Side::Outside);
            assert!(!index.remove(&p, i, 6), "another generation");
            assert!(index.remove(&p, i, 5));
            assert!(!index.remove(&p, i, 5));
            assert_eq!(index.find(&p, Some), None);
        }
        assert!(!index.has_stash());
        assert_eq!(index.used_words(), 0);
    }

    #[test]
    fn a_second_word_for_a_key_is_refused_wherever_the_first_is() {
        let index = Index::new(1000).unwrap();
        let place = 0x4000_0000_8000_0000;
        for n in 0..20 {
            index.insert(&probe(place, n, Side::Inside), n, 0, |_| Same::No).unwrap();
        }
        for n in 0..20 {
            let again = index
                .insert(&probe(place, n, Side::Inside), 99, 0, |s| if s == n { Same::Yes } else { Same::No });
            assert_eq!(again, Err(Refused::Exists(n)));
            // The other side's key of the same hash is another key.
            let p = probe(place, n, Side::Outside);
            assert_eq!(index.find(&p, Some), None);
        }
        // A dying one gives way.
        index.insert(&probe(place, 3, Side::Inside), 50, 0, |_| Same::Dying).unwrap();
        assert_eq!(index.find(&probe(place, 3, Side::Inside), Some), Some(50));
        assert!(!index.remove(&probe(place, 3, Side::Inside), 3, 0), "it was helped out");
        assert_eq!(index.used_words(), 20);
    }
}
