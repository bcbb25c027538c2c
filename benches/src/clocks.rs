//! Clocks of the TSC, and windows in which nobody took the processor away.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Least and median. Nothing measured gives NaN.
#[must_use]
pub fn min_median(mut windows: Vec<f64>) -> (f64, f64) {
    windows.sort_by(f64::total_cmp);
    (
        windows.first().copied().unwrap_or(f64::NAN),
        windows.get(windows.len() / 2).copied().unwrap_or(f64::NAN),
    )
}

/// "met" or "missed"; what was not measured is missed.
#[must_use]
pub const fn met(yes: bool) -> &'static str {
    if yes { "met" } else { "missed" }
}

/// The time stamp counter.
#[derive(Debug, Clone)]
pub struct Tsc {
    clock: quanta::Clock,
    ghz: f64,
}

impl Tsc {
    /// Finds out how fast it counts; takes a tenth of a second.
    #[must_use]
    pub fn new() -> Self {
        let clock = quanta::Clock::new();
        let (t0, c0) = (Instant::now(), clock.raw());
        std::thread::sleep(Duration::from_millis(100));
        let ghz = (clock.raw() - c0) as f64 / t0.elapsed().as_nanos() as f64;
        Self { clock, ghz }
    }

    /// Its value.
    #[inline(always)]
    #[must_use]
    pub fn raw(&self) -> u64 {
        self.clock.raw()
    }

    /// Clocks in a nanosecond.
    #[must_use]
    pub const fn ghz(&self) -> f64 {
        self.ghz
    }

    /// Microseconds of so many clocks.
    #[must_use]
    pub fn us(&self, clocks: u64) -> f64 {
        clocks as f64 / self.ghz / 1000.0
    }
}

impl Default for Tsc {
    fn default() -> Self {
        Self::new()
    }
}

/// Processor time of this thread, in nanoseconds.
#[must_use]
pub fn cpu_ns() -> u64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0)
}

/// Tells windows free of stolen time from others. A window counts if
/// - a loop that does nothing but read the TSC saw no gap, right before and right after it, and
/// - the TSC went on no further in it than this thread's processor time did: who was preempted, or was
///   interrupted at length, has less.
#[derive(Debug)]
pub struct Quiet {
    tsc: Tsc,
    /// Windows that counted.
    pub kept: u64,
    /// Windows that did not.
    pub thrown: u64,
}

/// How long a probe spins, and the longest gap that it may see.
const SPIN_US: f64 = 2.0;
const GAP_US: f64 = 0.5;
/// How much further than the thread's time the TSC may have gone: the cost of asking.
const SLACK_NS: f64 = 500.0;

impl Quiet {
    /// No windows yet.
    #[must_use]
    pub const fn new(tsc: Tsc) -> Self {
        Self { tsc, kept: 0, thrown: 0 }
    }

    /// The counter that it reads.
    #[must_use]
    pub const fn tsc(&self) -> &Tsc {
        &self.tsc
    }

    fn spin(&self) -> bool {
        let (end, gap) = (SPIN_US * 1000.0 * self.tsc.ghz, GAP_US * 1000.0 * self.tsc.ghz);
        let first = self.tsc.raw();
        let (mut last, mut worst) = (first, 0);
        while ((last - first) as f64) < end {
            let now = self.tsc.raw();
            worst = worst.max(now - last);
            last = now;
        }
        (worst as f64) < gap
    }

    /// Does `work`. Its result, and whether the window counts.
    pub fn window<T>(&mut self, work: impl FnOnce() -> T) -> (T, bool) {
        let before = self.spin();
        let cpu = cpu_ns();
        let start = self.tsc.raw();
        let result = work();
        let took = (self.tsc.raw() - start) as f64 / self.tsc.ghz;
        let cpu = (cpu_ns() - cpu) as f64;
        let good = before && took <= cpu + SLACK_NS && self.spin();
        if good {
            self.kept += 1;
        } else {
            self.thrown += 1;
        }
        (result, good)
    }
}

/// Clocks a packet: over the windows that count.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// The least.
    pub min: f64,
    /// The median.
    pub median: f64,
    /// Windows that counted.
    pub kept: u64,
    /// Windows that did not.
    pub thrown: u64,
}

/// A figure that is gathered window by window.
#[derive(Debug)]
pub struct Gather {
    quiet: Quiet,
    windows: Vec<f64>,
}

impl Gather {
    /// Nothing yet.
    #[must_use]
    pub const fn new(tsc: Tsc) -> Self {
        Self { quiet: Quiet::new(tsc), windows: Vec::new() }
    }

    /// One window of `packets` packets; `work` gives the clocks of what is measured of it.
    pub fn window(&mut self, packets: usize, work: impl FnOnce() -> u64) {
        let (clocks, good) = self.quiet.window(work);
        if good {
            self.windows.push(clocks as f64 / packets as f64);
        }
    }

    /// What came out.
    #[must_use]
    pub fn figure(self) -> Figure {
        let (min, median) = min_median(self.windows);
        Figure { min, median, kept: self.quiet.kept, thrown: self.quiet.thrown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_in_which_the_thread_slept_does_not_count() {
        let mut quiet = Quiet::new(Tsc::new());
        for _ in 0..20 {
            let ((), good) = quiet.window(|| std::thread::sleep(Duration::from_millis(5)));
            assert!(!good);
        }
        assert_eq!((quiet.kept, quiet.thrown), (0, 20));
    }

    #[test]
    fn the_least_and_the_median_are_found() {
        assert_eq!(min_median(vec![3.0, 1.0, 2.0]), (1.0, 2.0));
        assert!(min_median(Vec::new()).0.is_nan());
    }
}
