//! Which keys have a lease for certain not: most leases that are given are new ones, and the table need not be asked
//! for those.
//!
//! A Bloom filter in layers: each key has six bits in one line of a processor's cache. A full layer is followed by
//! one of twice the room.

use super::octets::Key;
use std::hash::{BuildHasher as _, RandomState};

/// Bits for each key that a layer has room for.
const BITS: usize = 12;
/// Room of the first layer, at least.
const LEAST: usize = 1 << 14;

type Line = [u64; 8];

#[derive(Debug)]
struct Layer {
    lines: Vec<Line>,
    room: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Filter {
    layers: Vec<Layer>,
    hasher: RandomState,
}

fn line_of(hash: u64, lines: usize) -> usize {
    // The high half times the number of lines, of which the high half is below that number.
    let wide = u128::from(hash) * lines as u128;
    usize::try_from(wide >> 64).unwrap_or(0)
}

fn bits(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    // Not the bits that chose the line.
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..6).map(move |n| {
        let bit = mixed >> (n * 9) & 511;
        (usize::try_from(bit >> 6).unwrap_or(0), 1 << (bit & 63))
    })
}

impl Filter {
    pub(super) fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Room for so many keys more, in one layer.
    pub(super) fn reserve(&mut self, room: usize) {
        let room = room.max(LEAST);
        self.layers.push(Layer { lines: vec![[0; 8]; (room * BITS).div_ceil(512)], room });
    }

    pub(super) fn insert(&mut self, hash: u64) {
        if self.layers.last().is_none_or(|l| l.room == 0) {
            let before = self.layers.last().map_or(0, |l| l.lines.len() * 512 / BITS);
            self.reserve(before * 2);
        }
        let Some(layer) = self.layers.last_mut() else { return };
        layer.room -= 1;
        let at = line_of(hash, layer.lines.len());
        for (word, bit) in bits(hash) {
            layer.lines[at][word] |= bit;
        }
    }

    /// True if the key may have been inserted; never false if it was.
    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.layers.iter().any(|layer| {
            let line = &layer.lines[line_of(hash, layer.lines.len())];
            bits(hash).all(|(word, bit)| line[word] & bit != 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_inserted_is_found_and_few_others_are() {
        let mut filter = Filter::default();
        let key = |n: u32| {
            let mut key = [0; 17];
            key[13..].copy_from_slice(&n.to_be_bytes());
            key
        };
        assert!(!filter.may_have(filter.hash(&key(1))));
        for n in 0..100_000 {
            let hash = filter.hash(&key(n));
            filter.insert(hash);
            assert!(filter.may_have(hash));
        }
        assert!((0..100_000).all(|n| filter.may_have(filter.hash(&key(n)))));
        let wrong = (100_000..200_000).filter(|n| filter.may_have(filter.hash(&key(*n)))).count();
        assert!(wrong < 6_000, "{wrong} of 100000 in {} layers", filter.layers.len());
        assert!(filter.layers.len() <= 4);
    }
}
