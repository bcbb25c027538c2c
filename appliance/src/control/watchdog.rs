//! The stall watchdog: a worker that does not poll is reported, and after a longer while ends the process.
//!
//! Only time that control itself was running for is held against a worker. A machine that was suspended,
//! or a process that was stopped, wakes up with control and workers equally late: such a gap counts as
//! two checks at most.

use super::OnDead;
use super::state::State;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{error, info};

/// What a check found about a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It has not polled for longer than `warn`. Told once for each stall.
    Stalled {
        /// The worker.
        worker: u16,
        /// For how long.
        lasted: Duration,
    },
    /// It polls again after it was told to have stalled.
    Recovered {
        /// The worker.
        worker: u16,
        /// For how long it had stalled.
        lasted: Duration,
    },
    /// It has not polled for longer than `abort`.
    Dead {
        /// The worker.
        worker: u16,
        /// For how long.
        lasted: Duration,
    },
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    beat: Option<u64>,
    stalled: Duration,
    told: bool,
}

/// Watches heartbeats. A state machine: time is a parameter.
#[derive(Debug)]
pub struct Watchdog {
    warn: Duration,
    abort: Option<Duration>,
    most_step: Duration,
    last: Option<Instant>,
    workers: Vec<Seen>,
}

impl Watchdog {
    /// A watchdog that reports after `warn` and gives up after `abort`, checked every `interval`.
    #[must_use]
    pub const fn new(warn: Duration, abort: Option<Duration>, interval: Duration) -> Self {
        Self { warn, abort, most_step: interval.saturating_mul(2), last: None, workers: Vec::new() }
    }

    /// Looks at the heartbeats, one for each worker.
    pub fn check(&mut self, now: Instant, beats: impl Iterator<Item = u64>) -> Vec<Finding> {
        let step =
            self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last)).min(self.most_step);
        self.last = Some(now);
        let mut findings = Vec::new();
        let mut count = 0;
        for (worker, beat) in (0u16..).zip(beats) {
            count += 1;
            if self.workers.len() < count {
                self.workers.push(Seen::default());
            }
            let seen = &mut self.workers[usize::from(worker)];
            if seen.beat != Some(beat) {
                if seen.told {
                    findings.push(Finding::Recovered { worker, lasted: seen.stalled });
                }
                *seen = Seen { beat: Some(beat), ..Seen::default() };
                continue;
            }
            seen.stalled += step;
            let lasted = seen.stalled;
            if self.abort.is_some_and(|abort| lasted > abort) {
                findings.push(Finding::Dead { worker, lasted });
            } else if lasted > self.warn && !seen.told {
                seen.told = true;
                findings.push(Finding::Stalled { worker, lasted });
            }
        }
        self.workers.truncate(count);
        findings
    }

    /// Forgets all workers.
    pub fn reset(&mut self) {
        self.workers.clear();
        self.last = None;
    }

    /// True if every worker has polled since the last check.
    #[must_use]
    pub fn all_alive(&self) -> bool {
        self.workers.iter().all(|w| w.stalled.is_zero())
    }
}

/// Checks for as long as control runs.
pub(super) async fn run(state: Arc<State>, every: Duration, on_dead: OnDead) {
    let settings = state.config().watchdog;
    let mut watchdog = Watchdog::new(settings.warn.duration(), settings.abort.0.map(|s| s.duration()), every);
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut fed: Option<Instant> = None;
    loop {
        tick.tick().await;
        let Some(gateway) = state.gateway() else {
            watchdog.reset();
            continue;
        };
        if gateway.lease_thread_ended() {
            state.notifier.stopping();
            state.abandon();
            on_dead("the lease thread has ended: nobody answers DHCPv6 any more");
            continue;
        }
        let now = Instant::now();
        let beats = (0..gateway.workers()).map(|worker| gateway.heartbeat(worker));
        for finding in watchdog.check(now, beats) {
            match finding {
                Finding::Stalled { worker, lasted } => {
                    error!(worker, stalled_ms = lasted.as_millis(), "worker does not poll");
                }
                Finding::Recovered { worker, lasted } => {
                    info!(worker, stalled_ms = lasted.as_millis(), "worker polls again");
                }
                Finding::Dead { worker, lasted } => {
                    // Nobody else can remove them once the process has ended.
                    state.notifier.stopping();
                    state.abandon();
                    on_dead(&format!(
                        "worker {worker} has not polled for {:.1} s; ending the process (watchdog.abort)",
                        lasted.as_secs_f64()
                    ));
                }
            }
        }
        // The service manager's own watchdog is fed only while every worker polls.
        if let Some(period) = state.notifier.watchdog_period()
            && watchdog.all_alive()
            && fed.is_none_or(|at| now.saturating_duration_since(at) >= period / 3)
        {
            state.notifier.alive();
            fed = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(250);

    fn watchdog() -> Watchdog {
        Watchdog::new(Duration::from_secs(2), Some(Duration::from_secs(10)), TICK)
    }

    #[test]
    fn a_worker_that_polls_is_left_alone() {
        let (mut w, mut t) = (watchdog(), Instant::now());
        for beat in 0..200 {
            assert_eq!(w.check(t, [beat, beat * 7].into_iter()), []);
            t += TICK;
        }
        assert!(w.all_alive());
    }

    #[test]
    fn a_stall_is_told_once_then_ends_the_process_and_a_recovery_is_told() {
        let (mut w, mut t) = (watchdog(), Instant::now());
        let mut told = Vec::new();
        for n in 0..60u64 {
            // Worker 1 hangs; worker 0 hangs for five seconds only.
            let zero = if (10..30).contains(&n) { 10 } else { n };
            told.extend(w.check(t, [zero, 5].into_iter()).into_iter().map(|f| (n, f)));
            t += TICK;
        }
        let first = |want: fn(&Finding) -> bool| told.iter().find(|(_, f)| want(f)).copied();
        let stalled = first(|f| matches!(f, Finding::Stalled { worker: 1, .. })).unwrap();
        assert_eq!(stalled, (9, Finding::Stalled { worker: 1, lasted: TICK * 9 }));
        assert_eq!(told.iter().filter(|(_, f)| matches!(f, Finding::Stalled { worker: 1, .. })).count(), 1);
        let dead = first(|f| matches!(f, Finding::Dead { worker: 1, .. })).unwrap();
        assert_eq!(dead, (41, Finding::Dead { worker: 1, lasted: TICK * 41 }));
        assert!(first(|f| matches!(f, Finding::Recovered { worker: 0, .. })).is_some());
        assert!(first(|f| matches!(f, Finding::Dead { worker: 0, .. })).is_none());
    }

    #[test]
    fn a_suspended_machine_is_not_a_stall() {
        let (mut w, mut t) = (watchdog(), Instant::now());
        assert_eq!(w.check(t, [1].into_iter()), []);
        for _ in 0..3 {
            // An hour in which nothing ran, and the worker has not yet polled when control has.
            t += Duration::from_secs(3600);
            assert_eq!(w.check(t, [1].into_iter()), []);
        }
        assert_eq!(w.check(t + TICK, [2].into_iter()), []);
    }

    #[test]
    fn abort_off_never_ends_the_process() {
        let mut w = Watchdog::new(Duration::from_secs(2), None, TICK);
        let mut t = Instant::now();
        let mut findings = Vec::new();
        for _ in 0..1000 {
            findings.extend(w.check(t, [1].into_iter()));
            t += TICK;
        }
        assert!(matches!(findings[..], [Finding::Stalled { worker: 0, .. }]), "{findings:?}");
    }
}
