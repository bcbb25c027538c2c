//! Numbers that nobody outside can foresee: IPv4 Identifications and the start of a search for a port.

use std::hash::{BuildHasher, RandomState};

/// IPv4 Identifications (RFC 7915 5.1): every value once before any comes again (RFC 6864 4.3 asks that
/// none repeats soon), in an order that is this process's own (RFC 7739 5 says why it is not a plain
/// count). One for each worker.
#[derive(Debug, Clone)]
pub(crate) struct Identifications {
    count: u16,
    keys: [u16; 3],
}

impl Identifications {
    pub(crate) fn new(random: &mut Random) -> Self {
        let r = random.next();
        let part = |n: u32| {
            #[expect(clippy::cast_possible_truncation, reason = "16 bits of it are taken")]
            {
                (r >> (16 * n)) as u16
            }
        };
        Self { count: part(3), keys: [part(0), part(1) | 1, part(2) | 1] }
    }

    /// The next one. Each step is a bijection of 16 bits, so the whole is one.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> u16 {
        self.count = self.count.wrapping_add(1);
        let x = (self.count ^ self.keys[0]).wrapping_mul(self.keys[1]);
        let x = (x ^ (x >> 7)).wrapping_mul(self.keys[2]);
        x ^ (x >> 9)
    }
}

/// Random 64-bit numbers: a keyed SipHash of a count (RFC 6056 3.3: a port is chosen by something that
/// an attacker cannot compute). The key comes from the operating system.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    key: RandomState,
    count: u64,
}

impl Random {
    pub(crate) fn new() -> Self {
        Self { key: RandomState::new(), count: 0 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.count = self.count.wrapping_add(1);
        self.key.hash_one(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn rfc6864_4_3_no_identification_comes_twice_in_65536() {
        for _ in 0..5 {
            let mut ids = Identifications::new(&mut Random::new());
            let seen: HashSet<u16> = (0..=u16::MAX).map(|_| ids.next()).collect();
            assert_eq!(seen.len(), 65_536);
        }
    }

    #[test]
    fn rfc7739_5_identifications_do_not_count_up() {
        let mut ids = Identifications::new(&mut Random::new());
        let list: Vec<u16> = (0..1000).map(|_| ids.next()).collect();
        let ups = list.windows(2).filter(|w| w[1] == w[0].wrapping_add(1)).count();
        assert!(ups < 20, "{ups} of 999 steps are plus one");
    }

    #[test]
    fn two_generators_differ() {
        let (mut a, mut b) = (Random::new(), Random::new());
        assert_ne!([a.next(), a.next()], [b.next(), b.next()]);
    }
}
