//! What is surely not bound, told without a look at the bindings: a blocked counting Bloom filter.
//!
//! ```text
//!  hash -> one word -> two of its 64 bits: both set, and it may be bound
//! ```
//! Eight bits a binding, so that the whole of a large table stays in the processor's cache while the
//! bindings themselves do not. About one address in twenty that is not bound is taken for one that may be, and
//! is looked up. Readers see bits alone; how many bindings share one is the writer's to know.

use crate::memory::{Region, Zeroed};
use crate::prefetch::prefetch_read;
use crate::sync::{AtomicU64, Ordering};

/// Bindings for each word.
const PER_WORD: usize = 8;
/// A count that is this high is not known any more: its bit stays set.
const MOST: u8 = 15;

#[derive(Debug)]
struct Word(AtomicU64);

// SAFETY: a zero is a valid atomic word, and needs no dropping.
unsafe impl Zeroed for Word {
    #[cfg(loom)]
    fn zeroed() -> Self {
        Self(AtomicU64::new(0))
    }
}

/// The bits.
#[derive(Debug)]
pub(super) struct Presence {
    words: Region<Word>,
}

/// How many bindings set each bit: four bits of count for each bit, two counts an octet.
#[derive(Debug)]
pub(super) struct Counts(Vec<u8>);

impl Presence {
    /// For so many bindings. The counts are the writer's.
    pub(super) fn new(capacity: u32) -> std::io::Result<(Self, Counts)> {
        let words = (capacity as usize).div_ceil(PER_WORD).max(1);
        Ok((Self { words: Region::new(words)? }, Counts(vec![0; words * 32])))
    }

    /// Memory that readers look at, in octets.
    pub(super) fn octets(&self) -> usize {
        self.words.octets()
    }

    /// The word of a hash, and its bits there.
    #[inline(always)]
    fn place(&self, hash: u64) -> (usize, u64) {
        // Mixed once more: the hash as it is says where the binding is. The high half of the product is
        // below its factor.
        let h = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (u128::from(h) * self.words.len() as u128) >> 64;
        (word as usize, 1 << (hash & 63) | 1 << (hash >> 6 & 63))
    }

    /// Asks the processor to bring what [`Self::maybe`] reads close.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch_read(&self.words[self.place(hash).0]);
    }

    /// False if nothing with this hash is bound.
    #[inline(always)]
    pub(super) fn maybe(&self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        // Acquired: whoever knows of a binding that was made knows of its bits.
        self.words[word].0.load(Ordering::Acquire) & bits == bits
    }

    /// Before a binding with this hash can be seen.
    pub(super) fn add(&self, counts: &mut Counts, hash: u64) {
        let (word, bits) = self.place(hash);
        each(bits, |bit| _ = counts.change(word * 64 + bit, |n| (n + 1).min(MOST)));
        let at = &self.words[word].0;
        at.store(at.load(Ordering::Relaxed) | bits, Ordering::Release);
    }

    /// After a binding with this hash is gone.
    pub(super) fn remove(&self, counts: &mut Counts, hash: u64) {
        let (word, bits) = self.place(hash);
        let mut gone = 0;
        each(bits, |bit| {
            let left = counts.change(word * 64 + bit, |n| if n == MOST { n } else { n.saturating_sub(1) });
            gone |= u64::from(left == 0) << bit;
        });
        let at = &self.words[word].0;
        at.store(at.load(Ordering::Relaxed) & !gone, Ordering::Release);
    }
}

/// Calls `f` with the number of each bit that is set.
fn each(mut bits: u64, mut f: impl FnMut(usize)) {
    while bits != 0 {
        f(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

impl Counts {
    /// Changes a count; gives it as it is then.
    fn change(&mut self, at: usize, f: impl Fn(u8) -> u8) -> u8 {
        let shift = at % 2 * 4;
        let Some(octet) = self.0.get_mut(at / 2) else { return 0 };
        let new = f(*octet >> shift & 15);
        *octet = *octet & !(15 << shift) | new << shift;
        new
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_there_is_never_said_not_to_be(
            steps in proptest::collection::vec((any::<bool>(), 0u64..40), 1..400),
            seed: u64,
        ) {
            // Five words for what may be there many times over, so that bits are shared and counts run over.
            let (p, mut counts) = Presence::new(40).unwrap();
            let hash = |n: u64| (n ^ seed).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(29);
            let mut there: Vec<u64> = Vec::new();
            for (add, n) in steps {
                if add {
                    p.add(&mut counts, hash(n));
                    there.push(n);
                } else if let Some(at) = there.iter().position(|t| *t == n) {
                    there.swap_remove(at);
                    p.remove(&mut counts, hash(n));
                }
                for n in &there {
                    prop_assert!(p.maybe(hash(*n)));
                }
            }
        }
    }

    #[test]
    fn of_what_is_not_there_few_may_be_and_none_once_all_are_gone() {
        const MANY: u64 = 100_000;
        let (p, mut counts) = Presence::new(100_000).unwrap();
        let hash = |n: u64| crate::hash::fold(n ^ 0x0123_4567_89ab_cdef, 0x9e37_79b9_7f4a_7c15);
        (0..MANY).for_each(|n| p.add(&mut counts, hash(n)));
        let taken = (MANY..2 * MANY).filter(|n| p.maybe(hash(*n))).count();
        assert!((1_000..8_000).contains(&taken), "{taken}");
        (0..MANY).for_each(|n| p.remove(&mut counts, hash(n)));
        // What is full up is not known any more; nothing is, with so few in each word.
        assert_eq!((0..2 * MANY).filter(|n| p.maybe(hash(*n))).count(), 0);
    }

    #[test]
    fn a_count_that_ran_over_leaves_its_bit_set() {
        let (p, mut counts) = Presence::new(1).unwrap();
        for _ in 0..20 {
            p.add(&mut counts, 7);
        }
        for _ in 0..20 {
            assert!(p.maybe(7));
            p.remove(&mut counts, 7);
        }
        assert!(p.maybe(7));
    }
}
