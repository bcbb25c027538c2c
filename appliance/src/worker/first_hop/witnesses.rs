//! Whether the other workers have looked at their queues: worker 0 says that no advertisement came only if none
//! can be waiting at a worker that stands still.
//!
//! ```text
//!  time ran out: note all heartbeats -> each went on by two -> one more poll -> nothing came
//! ```
//! A heartbeat counts polls that are over. One may have looked at its queues before the time ran out; the next one
//! looked after it, and handed over what it found before it was counted.

use causeway_core::{Duration, Instant};

/// How long workers that poll need for that, at most. Who waits longer waits for one that does not.
const SOON: Duration = Duration::from_millis(10);

/// Where the waiting stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody waits.
    Idle,
    /// Since then; true once it was told that it takes long.
    Waiting(Instant, bool),
    /// All have looked.
    Looked,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Witnesses {
    state: State,
    /// The heartbeats when the waiting began.
    beats: Vec<u64>,
}

impl Witnesses {
    /// For so many workers.
    pub(super) fn new(workers: usize) -> Self {
        Self { state: State::Idle, beats: vec![0; workers] }
    }

    /// Nobody waits any more.
    pub(super) const fn reset(&mut self) {
        self.state = State::Idle;
    }

    /// True if all workers but `own` have looked at their queues since this was asked first, and what they found
    /// could be taken. The second is true when it turns out to take long: once. `beats` has one for each worker.
    pub(super) fn have_looked(
        &mut self,
        own: u16,
        beats: impl Iterator<Item = u64>,
        now: Instant,
    ) -> (bool, bool) {
        if self.beats.len() <= 1 {
            return (true, false);
        }
        match self.state {
            State::Looked => (true, false),
            State::Idle => {
                self.beats.iter_mut().zip(beats).for_each(|(noted, beat)| *noted = beat);
                self.state = State::Waiting(now, false);
                (false, false)
            }
            State::Waiting(since, told) => {
                let looked = |(n, (beat, noted)): (usize, (u64, &u64))| {
                    n == usize::from(own) || beat.wrapping_sub(*noted) >= 2
                };
                if beats.zip(&self.beats).enumerate().all(looked) {
                    self.state = State::Looked;
                    return (false, false);
                }
                let late = !told && now.since(since) > SOON;
                self.state = State::Waiting(since, told || late);
                (false, late)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn two_polls_of_each_other_worker_and_one_of_its_own_are_waited_for() {
        let mut w = Witnesses::new(3);
        let mut ask = |beats: [u64; 3], ms| w.have_looked(0, beats.into_iter(), at(ms));
        assert_eq!(ask([7, 10, 20], 0), (false, false));
        assert_eq!(ask([8, 11, 22], 1), (false, false), "the second may not have looked since");
        assert_eq!(ask([9, 12, 30], 2), (false, false), "what it found is taken in the next poll");
        assert_eq!(ask([10, 12, 30], 3), (true, false));
        assert_eq!(ask([10, 12, 30], 4), (true, false));
        w.reset();
        assert_eq!(w.have_looked(0, [10, 12, 30].into_iter(), at(5)), (false, false), "another time");
    }

    #[test]
    fn one_that_stands_still_is_waited_for_and_told_of_once() {
        let mut w = Witnesses::new(2);
        let told = (0..100).map(|ms| w.have_looked(0, [ms, 5].into_iter(), at(ms)));
        let told: Vec<_> = told.collect();
        assert!(told.iter().all(|(looked, _)| !looked));
        assert_eq!(told.iter().filter(|(_, late)| *late).count(), 1);
        assert_eq!(w.have_looked(0, [100, u64::MAX].into_iter(), at(100)), (false, false));
        assert!(w.have_looked(0, [101, 0].into_iter(), at(101)).0);
    }

    #[test]
    fn a_worker_alone_needs_nobody() {
        assert_eq!(Witnesses::new(1).have_looked(0, [1].into_iter(), at(0)), (true, false));
    }
}
