//! Prefixes of any lengths, asked which of them overlap one.

use causeway_core::Prefix6;
use std::collections::BTreeMap;

/// Prefixes with a number each; at most one begins at an address.
#[derive(Debug, Clone, Default)]
pub(super) struct Spans {
    by_first: BTreeMap<u128, (u8, u32)>,
    /// How many there are of each length.
    lengths: BTreeMap<u8, u32>,
}

impl Spans {
    /// Adds one, in place of another that begins at the same address.
    pub(super) fn insert(&mut self, prefix: Prefix6, number: u32) {
        self.remove(prefix);
        self.by_first.insert(prefix.address().to_bits(), (prefix.len(), number));
        *self.lengths.entry(prefix.len()).or_default() += 1;
    }

    /// Takes out the one that begins where `prefix` does.
    pub(super) fn remove(&mut self, prefix: Prefix6) {
        if let Some((length, _)) = self.by_first.remove(&prefix.address().to_bits())
            && let Some(count) = self.lengths.get_mut(&length)
        {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
    }

    /// The numbers of those that have an address in common with `prefix`.
    pub(super) fn overlapping(&self, prefix: Prefix6) -> impl Iterator<Item = u32> + '_ {
        let (first, last) = (prefix.address(), prefix.last().to_bits());
        let within = self.by_first.range(first.to_bits()..=last).map(|(_, (_, number))| *number);
        let around = self.lengths.range(..prefix.len()).filter_map(move |(length, _)| {
            let outer = Prefix6::containing(first, *length)?.address().to_bits();
            let (found, number) = self.by_first.get(&outer).filter(|_| outer != first.to_bits())?;
            (found == length).then_some(*number)
        });
        within.chain(around)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    proptest! {
        #[test]
        fn finds_what_comparing_with_each_finds(
            list in prop::collection::vec((0u32..64, 120u8..=128, any::<bool>()), 1..60),
            ask in (0u32..64, 118u8..=128),
        ) {
            let prefix = |(low, length): (u32, u8)| {
                Prefix6::containing(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(low)), length)
                    .expect("a length")
            };
            let (mut spans, mut model) = (Spans::default(), Vec::<Prefix6>::new());
            for (low, length, add) in list {
                let p = prefix((low, length));
                model.retain(|m| m.address() != p.address());
                if add {
                    spans.insert(p, u32::from(p.len()));
                    model.push(p);
                } else {
                    spans.remove(p);
                }
            }
            let p = prefix(ask);
            let mut got: Vec<u32> = spans.overlapping(p).collect();
            let mut want: Vec<u32> =
                model.iter().filter(|m| m.overlaps(p)).map(|m| u32::from(m.len())).collect();
            got.sort_unstable();
            want.sort_unstable();
            prop_assert_eq!(got, want);
        }
    }
}
