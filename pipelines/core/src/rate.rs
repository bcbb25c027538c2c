//! A token bucket, for everything that a stranger could make us send.

use crate::time::{Duration, Instant};

/// A token bucket of `burst` tokens that gains `rate_pps` tokens a second. A state machine: time is a
/// parameter.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate_pps: u64,
    burst: u64,
    /// Tokens times a million, so that slow rates gain exactly.
    micro_tokens: u64,
    last: Instant,
}

const MICRO: u64 = 1_000_000;

impl TokenBucket {
    /// A full bucket. Both numbers are at most 1,000,000,000; larger ones count as that.
    #[must_use]
    pub fn new(rate_pps: u32, burst: u32) -> Self {
        let rate_pps = u64::from(rate_pps.min(1_000_000_000));
        let burst = u64::from(burst.min(1_000_000_000));
        Self { rate_pps, burst, micro_tokens: burst * MICRO, last: Instant::ZERO }
    }

    /// Takes a token if there is one.
    #[inline]
    pub fn take(&mut self, now: Instant) -> bool {
        let any = self.has(now);
        if any {
            self.micro_tokens -= MICRO;
        }
        any
    }

    /// True if there is a token to take.
    #[inline]
    pub fn has(&mut self, now: Instant) -> bool {
        // A gap of a day fills any bucket that gains one token; the cap keeps the product in range.
        let gap = now.since(self.last).min(Duration::from_secs(86_400));
        let gap_us = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        if gap_us > 0 {
            self.last = now;
            let gained = gap_us.saturating_mul(self.rate_pps);
            self.micro_tokens = self.micro_tokens.saturating_add(gained).min(self.burst * MICRO);
        }
        self.micro_tokens >= MICRO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_burst_and_then_the_rate() {
        let mut b = TokenBucket::new(10, 3);
        let t0 = Instant::from_micros(5_000_000);
        assert!((0..10).all(|_| b.has(t0)), "looking takes none");
        assert_eq!((0..10).filter(|_| b.has(t0) && b.take(t0)).count(), 3);
        assert!(!b.has(t0));
        assert!(!b.take(t0 + Duration::from_millis(99)));
        assert!(b.take(t0 + Duration::from_millis(101)));
        let mut given = 0;
        for ms in 0..10_000u64 {
            given += usize::from(b.take(t0 + Duration::from_millis(200 + ms)));
        }
        assert!((100..=103).contains(&given), "{given}");
    }

    #[test]
    fn a_long_gap_fills_it_no_further_than_the_burst() {
        let mut b = TokenBucket::new(1_000_000_000, 2);
        let t = Instant::from_micros(u64::MAX);
        assert_eq!((0..10).filter(|_| b.take(t)).count(), 2);
    }

    #[test]
    fn rate_zero_gives_nothing_after_the_burst() {
        let mut b = TokenBucket::new(0, 1);
        assert!(b.take(Instant::ZERO));
        assert!(!b.take(Instant::from_micros(u64::MAX)));
    }
}
