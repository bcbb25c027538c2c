//! Whole counter differences: a test names every counter that moved, and no other may have.

use causeway_core::Counters;
use std::collections::BTreeMap;

/// The counters of one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot(BTreeMap<String, u64>);

impl Snapshot {
    /// As they are now.
    #[must_use]
    pub fn of(counters: &Counters) -> Self {
        Self(counters.nonzero().into_iter().collect())
    }

    /// Everything that moved since, by name (`drop.NAME` for drops), in the order of the names.
    #[must_use]
    pub fn diff(&self, counters: &Counters) -> Vec<(String, u64)> {
        let before = |name: &String| self.0.get(name).copied().unwrap_or(0);
        let mut moved: Vec<_> = counters
            .nonzero()
            .into_iter()
            .map(|(name, n)| {
                let moved = n.wrapping_sub(before(&name));
                (name, moved)
            })
            .filter(|(_, n)| *n != 0)
            .collect();
        moved.sort();
        moved
    }

    /// Asserts that exactly these counters moved by exactly these numbers since.
    ///
    /// # Panics
    /// When others did, or by other numbers.
    #[track_caller]
    pub fn assert_diff(&self, counters: &Counters, want: &[(&str, u64)]) {
        let got = self.diff(counters);
        let mut want: Vec<(String, u64)> = want.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        want.sort();
        assert_eq!(got, want, "the counters that moved (left) and those that should have (right)");
    }
}

/// Asserts that these counters, which started at zero, are exactly these.
///
/// # Panics
/// When they are not.
#[track_caller]
pub fn assert_counters(counters: &Counters, want: &[(&str, u64)]) {
    Snapshot::default().assert_diff(counters, want);
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_core::{Counter, DropReason};

    #[test]
    fn only_what_moved_is_in_the_difference() {
        let c = Counters::new();
        c.add(Counter::RxFrames, 5);
        let s = Snapshot::of(&c);
        c.add(Counter::RxFrames, 2);
        c.drop(DropReason::NoRoute);
        s.assert_diff(&c, &[("rx-frames", 2), ("drop.no-route", 1)]);
        assert_counters(&c, &[("rx-frames", 7), ("drop.no-route", 1)]);
    }

    #[test]
    #[should_panic(expected = "the counters that moved")]
    fn a_counter_that_the_test_does_not_name_fails_it() {
        let c = Counters::new();
        c.drop(DropReason::NoRoute);
        c.drop(DropReason::TooBig);
        assert_counters(&c, &[("drop.no-route", 1)]);
    }
}
