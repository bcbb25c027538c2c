//! When a network is told by advertisements to all nodes (RFC 4861 6.2.4 to 6.2.6). A state machine: time is a
//! parameter, and what it says is when the next one is due.
//!
//! ```text
//!                begin                 sent: 3 times at most 16 s apart,
//!    Quiet -----------------> Advertising <--.  then at random between min and max
//!      ^                       |   ^  |  ^   |
//!      | stop                  |   |  |  `---' solicited: within 0.5 s
//!      |<----------------------'   |  |        changed: at once, and again 3 times
//!      |                     begin,|  |
//!      |                    changed|  | cease
//!      |   sent for the 3rd time   |  v
//!      `----------------------- Ceasing  (router lifetime 0)
//!
//!    Between any two to all nodes: at least 3 s.
//! ```

use crate::random::Random;
use causeway_core::{Duration, Instant};

/// How many advertisements are sent at short intervals in the beginning (RFC 4861 10:
/// MAX_INITIAL_RTR_ADVERTISEMENTS).
pub(crate) const INITIAL: u8 = 3;
/// The longest interval between those (MAX_INITIAL_RTR_ADVERT_INTERVAL).
pub(crate) const INITIAL_INTERVAL: Duration = Duration::from_secs(16);
/// How many advertisements say that no more will come (MAX_FINAL_RTR_ADVERTISEMENTS).
pub(crate) const FINAL: u8 = 3;
/// The shortest time between two advertisements to all nodes (MIN_DELAY_BETWEEN_RAS).
pub(crate) const MIN_DELAY: Duration = Duration::from_secs(3);
/// The longest delay of an answer to all nodes (MAX_RA_DELAY_TIME).
pub(crate) const ANSWER_DELAY: Duration = Duration::from_millis(500);

/// The interval of unsolicited advertisements (RFC 4861 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// MinRtrAdvInterval.
    pub(crate) min: Duration,
    /// MaxRtrAdvInterval.
    pub(crate) max: Duration,
}

/// Where a network stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// Nothing is sent to all nodes.
    #[default]
    Quiet,
    /// The next one goes out at `due`; `initial` of those to come follow each other quickly.
    Advertising { initial: u8, due: Instant },
    /// The network is advertised no more, and hosts are told so `left` times.
    Ceasing { left: u8, due: Instant },
}

/// What happens to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The gateway begins to advertise: it started, or became the active one.
    Begin,
    /// What is advertised changed.
    Changed,
    /// A host asked for an answer that goes to all nodes.
    Solicited,
    /// The network is not to be advertised any more.
    Cease,
    /// The process ends.
    Stop,
    /// What was due went out.
    Sent,
}

/// The schedule of one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Schedule {
    pub(crate) state: State,
    /// When the last one to all nodes went out.
    last: Option<Instant>,
}

impl Schedule {
    /// When something is to be sent to all nodes.
    pub(crate) const fn due(&self) -> Option<Instant> {
        match self.state {
            State::Quiet => None,
            State::Advertising { due, .. } | State::Ceasing { due, .. } => Some(due),
        }
    }

    /// RFC 4861 6.2.6: the earliest moment, from `at` on, that is far enough from the last one.
    fn spaced(&self, at: Instant) -> Instant {
        self.last.map_or(at, |last| at.max(last + MIN_DELAY))
    }

    pub(crate) fn on(&mut self, event: Event, now: Instant, timing: Timing, random: &mut Random) {
        let begun = State::Advertising { initial: INITIAL, due: self.spaced(now) };
        self.state = match (self.state, event) {
            (_, Event::Stop) | (State::Quiet, Event::Solicited | Event::Cease | Event::Sent) => State::Quiet,
            // RFC 4861 6.2.4: a change is told by the rules of a beginning.
            (_, Event::Begin) | (State::Quiet | State::Ceasing { .. }, Event::Changed) => begun,
            (State::Advertising { due, .. }, Event::Changed) => {
                State::Advertising { initial: INITIAL, due: due.min(self.spaced(now)) }
            }
            (State::Advertising { initial, due }, Event::Solicited) => {
                // RFC 4861 6.2.6: after a random delay, counted from the end of the three seconds if the last
                // one was just now, and not if one is due earlier anyway.
                let delay = random.between(Duration::ZERO, ANSWER_DELAY);
                State::Advertising { initial, due: due.min(self.spaced(now) + delay) }
            }
            (State::Advertising { .. }, Event::Cease) => {
                State::Ceasing { left: FINAL, due: self.spaced(now) }
            }
            (State::Advertising { initial, .. }, Event::Sent) => {
                let initial = initial.saturating_sub(1);
                let interval = random.between(timing.min, timing.max).max(MIN_DELAY);
                let interval = if initial > 0 { interval.min(INITIAL_INTERVAL) } else { interval };
                State::Advertising { initial, due: now + interval }
            }
            (State::Ceasing { left: 0 | 1, .. }, Event::Sent) => State::Quiet,
            (State::Ceasing { left, .. }, Event::Sent) => {
                State::Ceasing { left: left - 1, due: now + MIN_DELAY }
            }
            (ceasing @ State::Ceasing { .. }, Event::Solicited | Event::Cease) => ceasing,
        };
        if event == Event::Sent {
            self.last = Some(now);
        }
    }
}

#[cfg(test)]
mod tests;
