//! A bitmap that finds a clear bit in a few steps, however full it is.

/// Bits, and above them one bit for each word that is all ones, and so on up to a single word.
#[derive(Debug, Clone)]
pub(super) struct Bitmap {
    levels: Vec<Vec<u64>>,
}

impl Bitmap {
    /// `bits` clear bits; at least one.
    pub(super) fn new(bits: usize) -> Self {
        let mut levels = Vec::new();
        let mut left = bits.max(1);
        loop {
            let words = left.div_ceil(64);
            let mut level = vec![0u64; words];
            // What is behind the end counts as set.
            if !left.is_multiple_of(64) {
                level[words - 1] = u64::MAX << (left % 64);
            }
            levels.push(level);
            if words == 1 {
                return Self { levels };
            }
            left = words;
        }
    }

    /// Sets a bit.
    pub(super) fn set(&mut self, bit: usize) {
        let mut at = bit;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            *word |= 1 << (at % 64);
            if *word != u64::MAX {
                return;
            }
            at /= 64;
        }
    }

    /// Clears a bit.
    pub(super) fn clear(&mut self, bit: usize) {
        let mut at = bit;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            let was_full = *word == u64::MAX;
            *word &= !(1 << (at % 64));
            if !was_full {
                return;
            }
            at /= 64;
        }
    }

    /// The first clear bit from `from` on.
    pub(super) fn next_clear(&self, from: usize) -> Option<usize> {
        self.find(0, from)
    }

    fn find(&self, level: usize, from: usize) -> Option<usize> {
        let words = self.levels.get(level)?;
        let open = !*words.get(from / 64)? & (u64::MAX << (from % 64));
        if open != 0 {
            return Some(from / 64 * 64 + open.trailing_zeros() as usize);
        }
        let word = self.find(level + 1, from / 64 + 1)?;
        Some(word * 64 + words[word].trailing_ones() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_a_scan_finds(
            bits in 1usize..9000,
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0usize..300), 0..60),
        ) {
            let (mut map, mut model) = (Bitmap::new(bits), vec![false; bits]);
            for (set, at, run) in steps {
                let at = at.index(bits);
                let end = (at + run).min(bits);
                (at..end).for_each(|bit| if set { map.set(bit) } else { map.clear(bit) });
                model[at..end].fill(set);
                for from in [0, at, bits - 1] {
                    let want = (from..bits).find(|b| !model[*b]);
                    prop_assert_eq!(map.next_clear(from), want, "from {}", from);
                }
            }
        }
    }

    #[test]
    fn a_full_map_has_no_clear_bit() {
        let mut map = Bitmap::new(4097);
        (0..4097).for_each(|bit| map.set(bit));
        assert_eq!(map.next_clear(0), None);
        map.clear(4096);
        assert_eq!(map.next_clear(17), Some(4096));
    }
}
