//! Coarse time of entries.

use causeway_core::{Duration, Instant};

/// Microseconds of a tick: a quarter of a second.
pub const TICK_MICROS: u64 = 250_000;

/// A point in time in ticks since the clock's origin, modulo 2^32 (34 years).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tick(pub u32);

impl Tick {
    /// The tick in which `now` is.
    #[inline]
    #[must_use]
    pub const fn at(now: Instant) -> Self {
        Self((now.as_micros() / TICK_MICROS) as u32)
    }

    /// Ticks from `earlier` to this one. A point that is later than this one (another worker's clock was
    /// read a moment later) counts as now.
    #[inline]
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        let d = self.0.wrapping_sub(earlier.0);
        if d > u32::MAX / 2 { 0 } else { d }
    }

    /// The ticks that surely cover `d`: rounded up, plus one because a tick is no point but a span.
    #[inline]
    #[must_use]
    pub fn covering(d: Duration) -> u32 {
        let ticks = d.as_micros().div_ceil(u128::from(TICK_MICROS)) + 1;
        u32::try_from(ticks).unwrap_or(u32::MAX / 2).min(u32::MAX / 2)
    }

    /// The point `ticks` later.
    #[inline]
    #[must_use]
    pub const fn plus(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_in_ticks_is_never_shorter_than_asked() {
        for us in [0u64, 1, 249_999, 250_000, 250_001, 7_200_000_000] {
            for start in [0u64, 1, 125_000, 249_999] {
                let d = Duration::from_micros(us);
                let (a, b) =
                    (Tick::at(Instant::from_micros(start)), Tick::at(Instant::from_micros(start + us)));
                assert!(b.since(a) <= Tick::covering(d));
                assert!(u64::from(Tick::covering(d) - 1) * TICK_MICROS >= us);
            }
        }
    }

    #[test]
    fn ticks_wrap_and_the_future_counts_as_now() {
        assert_eq!(Tick(3).since(Tick(u32::MAX - 1)), 5);
        assert_eq!(Tick(3).since(Tick(4)), 0);
        assert_eq!(Tick(u32::MAX).plus(2), Tick(1));
        assert_eq!(Tick::covering(Duration::MAX), u32::MAX / 2);
    }
}
