//! The keyed hash of the table: folded multiplication.
//!
//! A hostile sender chooses addresses and ports; without the seed it cannot aim at a bucket, because
//! every word is mixed with secret words before it is multiplied.

/// Multiplies to 128 bits and folds the halves.
#[inline(always)]
pub(crate) const fn fold(a: u64, b: u64) -> u64 {
    let m = a as u128 * b as u128;
    m as u64 ^ (m >> 64) as u64
}

/// What the index needs of a key: two bucket choices and a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Hash {
    /// Low half: first bucket; high half: second bucket.
    pub(crate) place: u64,
    /// 21 bits.
    pub(crate) tag: u32,
}

/// The secret words of one table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hasher {
    s: [u64; 6],
}

impl Hasher {
    /// Spreads a 256-bit seed over the words that are needed.
    pub(crate) const fn new(seed: [u64; 4]) -> Self {
        // Odd constants with about half of their bits set keep an all-zero seed (tests) from being weak.
        let a = seed[0] ^ 0x9e37_79b9_7f4a_7c15;
        let b = seed[1] ^ 0xd6e8_feb8_6659_fd93;
        let c = seed[2] ^ 0xa076_1d64_78bd_642f;
        let d = seed[3] ^ 0xe703_7ed1_a0b4_28db;
        Self {
            s: [
                a,
                b,
                c,
                d,
                fold(a, d) ^ fold(b, c) ^ 0x8ebc_6af0_9c88_c6e3,
                fold(a ^ b, c ^ d) ^ 0x5899_65cc_7537_4cc3,
            ],
        }
    }

    #[inline(always)]
    const fn finish(&self, a: u64, b: u64) -> Hash {
        let m = (a ^ self.s[4]) as u128 * (b ^ self.s[5]) as u128;
        let (lo, hi) = (m as u64, (m >> 64) as u64);
        Hash { place: lo ^ hi, tag: (lo >> 43) as u32 }
    }

    /// Hash of two words.
    #[inline(always)]
    pub(crate) const fn two(&self, a: u64, b: u64) -> Hash {
        self.finish(fold(a ^ self.s[0], b ^ self.s[1]), b)
    }

    /// Hash of four words.
    #[inline(always)]
    pub(crate) const fn four(&self, w: [u64; 4]) -> Hash {
        self.finish(fold(w[0] ^ self.s[0], w[1] ^ self.s[1]), fold(w[2] ^ self.s[2], w[3] ^ self.s[3]))
    }

    /// Hash of six words.
    #[inline(always)]
    pub(crate) const fn six(&self, w: [u64; 6]) -> Hash {
        let x = fold(w[4] ^ self.s[3], w[5] ^ self.s[0]);
        let h = self.four([w[0], w[1], w[2], w[3] ^ x]);
        Hash { place: fold(h.place ^ x, self.s[4]), tag: h.tag }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chi-square of `n` values in `cells` cells, divided by its expectation.
    fn spread(cells: usize, values: impl Iterator<Item = usize>) -> f64 {
        let mut count = vec![0u32; cells];
        let mut n = 0u32;
        for v in values {
            count[v] += 1;
            n += 1;
        }
        let want = f64::from(n) / cells as f64;
        let chi: f64 = count.iter().map(|c| (f64::from(*c) - want).powi(2) / want).sum();
        chi / (cells - 1) as f64
    }

    #[test]
    fn keys_in_sequence_spread_as_random_ones_do() {
        // Ports in sequence, addresses in sequence: what real networks send.
        let h = Hasher::new([1, 2, 3, 4]);
        let hashes: Vec<Hash> = (0..1u64 << 20)
            .map(|i| h.four([0x2001_0db8_0064_0000, i >> 10, 0xc633_640a_0000_01bb | (i & 1023) << 16, 6]))
            .collect();
        for (name, x) in [
            ("first bucket", spread(4096, hashes.iter().map(|h| (h.place & 0xffff_ffff) as usize >> 20))),
            ("second bucket", spread(4096, hashes.iter().map(|h| (h.place >> 32) as usize >> 20))),
            ("tag", spread(4096, hashes.iter().map(|h| h.tag as usize >> 9))),
            ("low bits of the tag", spread(4096, hashes.iter().map(|h| h.tag as usize & 4095))),
            (
                "tag within a bucket",
                spread(
                    4096,
                    hashes.iter().map(|h| (h.place & 0xffff_ffff) as usize >> 26 << 6 | h.tag as usize >> 15),
                ),
            ),
        ] {
            assert!((0.85..1.15).contains(&x), "{name}: {x}");
        }
        let two: Vec<Hash> = (0..1u64 << 20)
            .map(|i| h.two(0xcb00_7100_0000_01bb | (i & 0xffff) << 16, (i >> 16) << 32 | 6))
            .collect();
        let x = spread(4096, two.iter().map(|h| (h.place & 0xffff_ffff) as usize >> 20));
        assert!((0.85..1.15).contains(&x), "outside: {x}");
    }

    #[test]
    fn another_seed_gives_another_hash() {
        let w = [5, 6, 7, 8];
        assert_ne!(Hasher::new([1, 2, 3, 4]).four(w), Hasher::new([1, 2, 3, 5]).four(w));
        assert_ne!(Hasher::new([0; 4]).two(0, 0), Hash::default());
    }
}
