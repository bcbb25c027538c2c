//! Random intervals. They keep routers from speaking together (RFC 4861 6.2.4); no secret depends on them.

use causeway_core::Duration;

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A time of at least `least` and at most `most`, uniformly distributed, in whole microseconds.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX - 1);
        let (low, high) = (micros(least), micros(most));
        let width = high.saturating_sub(low).saturating_add(1);
        // The high half of a product instead of a remainder: no value is favoured by more than 2^-20.
        let part = (u128::from(self.next()) * u128::from(width)) >> 64;
        Duration::from_micros(low.saturating_add(u64::try_from(part).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stays_within(seed: u64, least in 0u64..1_000_000, more in 0u64..1_000_000) {
            let (least, most) = (Duration::from_micros(least), Duration::from_micros(least + more));
            let mut random = Random::new(seed);
            for _ in 0..100 {
                let d = random.between(least, most);
                prop_assert!(least <= d && d <= most);
            }
        }
    }

    #[test]
    fn the_whole_range_is_used_evenly() {
        let mut random = Random::new(7);
        let mut tenths = [0u32; 10];
        for _ in 0..100_000 {
            let us =
                random.between(Duration::from_secs(10), Duration::from_secs(20)).as_micros() - 10_000_000;
            tenths[(us / 1_000_000).min(9) as usize] += 1;
        }
        assert!(tenths.iter().all(|n| (9_500..10_500).contains(n)), "{tenths:?}");
    }
}
