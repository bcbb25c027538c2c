//! The state machine of one virtual router (RFC 9568 6), as a value: `state.on(event, now, parameters)` gives
//! the next state and what to do. It reads no clock and sends nothing.
//!
//! Three things are ours, and stand beside the RFC's events: a virtual router follows the others of its
//! [group](crate::group) ([`Event::Follow`]), the group decides when timers fire together, and a router of
//! lower priority may be heard for a while before it is preempted ([`Parameters::preempt_delay`]).

use crate::packet::{OWNER, STOPPING};
use causeway_core::{Duration, Instant};

/// What the machine has to know of the configuration (RFC 9568 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// The priority in use, 1 to 255: that of the configuration, lowered by what tracking found.
    pub priority: u8,
    /// `Advertisement_Interval`, in centiseconds: 1 to 4095.
    pub interval_cs: u16,
    /// `Preempt_Mode`. The owner of the addresses preempts anyway.
    pub preempt: bool,
    /// How long a router of lower priority is heard before it is preempted.
    pub preempt_delay: Duration,
}

impl Parameters {
    /// `Skew_Time` for an active router's interval: less for higher priorities, so that the best backup is the
    /// first (RFC 9568 6.1). It is not rounded to centiseconds, which would make it zero for short intervals.
    #[must_use]
    pub fn skew(&self, active_interval_cs: u16) -> Duration {
        interval(active_interval_cs) * (256 - u32::from(self.priority)) / 256
    }

    /// `Active_Down_Interval`: three of the active router's intervals and the skew (RFC 9568 6.1).
    #[must_use]
    pub fn active_down(&self, active_interval_cs: u16) -> Duration {
        interval(active_interval_cs) * 3 + self.skew(active_interval_cs)
    }

    /// RFC 9568 6.1: the owner preempts whatever the mode is.
    const fn preempts(&self) -> bool {
        self.preempt || self.priority == OWNER
    }
}

/// A number of centiseconds.
#[must_use]
pub const fn interval(cs: u16) -> Duration {
    Duration::from_millis(cs as u64 * 10)
}

/// The state of a virtual router, with its deadlines.
///
/// ```text
///                       +---------------+
///            +--------->|               |<-------------+
///            |          |  Initialize   |              |
///            |   +------|               |----------+   |
///            |   |      +---------------+          |   |
///            |   |                                 |   |
///            |   V                                 V   |
///    +---------------+                       +---------------+
///    |               |---------------------->|               |
///    |    Active     |                       |    Backup     |
///    |               |<----------------------|               |
///    +---------------+                       +---------------+
/// ```
/// (RFC 9568 6.3)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits for [`Event::Startup`].
    Initialize,
    /// Another gateway is active, or might be.
    Backup {
        /// `Active_Down_Timer`: when nothing was heard for so long that there is no active router.
        active_down: Instant,
        /// `Active_Adver_Interval`, in centiseconds.
        active_interval_cs: u16,
        /// Since when an active router of lower priority has been heard that waits to be preempted.
        lower_since: Option<Instant>,
    },
    /// We are active.
    Active {
        /// `Adver_Timer`: when the next advertisement is due.
        adver: Instant,
    },
}

/// An advertisement that passed all checks, as far as the machine cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The sender's priority.
    pub priority: u8,
    /// Its interval, in centiseconds: 1 to 4095.
    pub interval_cs: u16,
    /// Who is better if the priorities are equal: true for the sender (RFC 9568 6.4.3; which address counts,
    /// the group decides).
    pub wins_tie: bool,
}

/// What may happen to a virtual router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is configured, and its link is up.
    Startup,
    /// It stops, or its link went down.
    Shutdown,
    /// `now` may have reached a deadline of the state.
    Timer,
    /// An advertisement came.
    Heard(Heard),
    /// Another virtual router of the group heard a better router, whose interval is this, in centiseconds.
    Follow {
        /// The interval.
        interval_cs: u16,
    },
}

/// What to do after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Send an advertisement, announce the addresses, begin to forward (RFC 9568 6.4.1, 6.4.2).
    BecomeActive,
    /// Send an advertisement: it is due.
    Advertise,
    /// Send an advertisement as an answer: who sent the one that came has to hear of us. Such answers have a rate
    /// limit; when it is reached, neither the action nor the new state counts.
    Answer,
    /// Stop forwarding and answering: somebody better is active.
    BecomeBackup,
    /// Send an advertisement with priority 0 and stop forwarding and answering.
    Resign,
}

impl State {
    /// When [`Event::Timer`] has something to do, if ever.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Initialize => None,
            Self::Backup { active_down, .. } => Some(*active_down),
            Self::Active { adver } => Some(*adver),
        }
    }

    /// True for [`State::Active`].
    #[must_use]
    pub const fn is_active(&self) -> bool {
        matches!(self, Self::Active { .. })
    }

    /// Backup that waits for a whole `Active_Down_Interval` from `now`.
    #[must_use]
    pub fn backup(active_interval_cs: u16, now: Instant, p: &Parameters) -> Self {
        let active_down = now + p.active_down(active_interval_cs);
        Self::Backup { active_down, active_interval_cs, lower_since: None }
    }

    /// Active, with the next advertisement an interval from `now`.
    fn active(now: Instant, p: &Parameters) -> Self {
        Self::Active { adver: now + interval(p.interval_cs) }
    }

    /// What an event makes of the state, and what is to be done.
    #[must_use]
    pub fn on(self, event: Event, now: Instant, p: &Parameters) -> (Self, Action) {
        match (self, event) {
            // RFC 9568 6.4.1: the owner is active at once, everybody else listens first.
            (Self::Initialize, Event::Startup) if p.priority == OWNER => {
                (Self::active(now, p), Action::BecomeActive)
            }
            (Self::Initialize, Event::Startup) => (Self::backup(p.interval_cs, now, p), Action::None),
            // RFC 9568 6.4: adverts are processed as backup or active only.
            (Self::Initialize, _) => (self, Action::None),

            (Self::Backup { .. } | Self::Active { .. }, Event::Startup) => (self, Action::None),
            // RFC 9568 6.4.2
            (Self::Backup { .. }, Event::Shutdown) => (Self::Initialize, Action::None),
            (Self::Backup { active_down, .. }, Event::Timer) if now >= active_down => {
                (Self::active(now, p), Action::BecomeActive)
            }
            (Self::Backup { .. }, Event::Timer | Event::Follow { .. }) => (self, Action::None),
            (Self::Backup { active_interval_cs, lower_since, .. }, Event::Heard(heard)) => {
                (self.heard_as_backup(active_interval_cs, lower_since, heard, now, p), Action::None)
            }

            // RFC 9568 6.4.3
            (Self::Active { .. }, Event::Shutdown) => (Self::Initialize, Action::Resign),
            (Self::Active { adver }, Event::Timer) if now >= adver => {
                // In step with the last one; after a pause from now on, so that none are sent in a row.
                let in_step = adver + interval(p.interval_cs);
                let adver = if in_step > now { in_step } else { now + interval(p.interval_cs) };
                (Self::Active { adver }, Action::Advertise)
            }
            (Self::Active { .. }, Event::Timer) => (self, Action::None),
            (Self::Active { .. }, Event::Heard(heard)) => self.heard_as_active(heard, now, p),
            (Self::Active { .. }, Event::Follow { interval_cs }) => {
                (Self::backup(interval_cs, now, p), Action::BecomeBackup)
            }
        }
    }

    /// RFC 9568 6.4.2.
    fn heard_as_backup(
        self,
        active_interval_cs: u16,
        lower_since: Option<Instant>,
        heard: Heard,
        now: Instant,
        p: &Parameters,
    ) -> Self {
        if heard.priority == STOPPING {
            // The active router stops: the best backup is to be the first, and soon. A timer that would fire
            // sooner yet is left alone, or whoever repeats this could keep everybody waiting.
            let Self::Backup { active_down, .. } = self else { return self };
            let active_down = active_down.min(now + p.skew(active_interval_cs));
            return Self::Backup { active_down, active_interval_cs, lower_since };
        }
        if !p.preempts() || heard.priority >= p.priority {
            return Self::backup(heard.interval_cs, now, p);
        }
        // A router of lower priority: it is not listened to, so that our timer runs out; but first it is heard
        // for as long as preemption is delayed.
        let since = lower_since.unwrap_or(now);
        if now.since(since) >= p.preempt_delay {
            return self;
        }
        let active_down = now + p.active_down(heard.interval_cs);
        Self::Backup { active_down, active_interval_cs: heard.interval_cs, lower_since: Some(since) }
    }

    /// RFC 9568 6.4.3. Preemption plays no part here.
    fn heard_as_active(self, heard: Heard, now: Instant, p: &Parameters) -> (Self, Action) {
        if heard.priority == STOPPING {
            // Somebody was active too, and stops.
            return (Self::active(now, p), Action::Answer);
        }
        if heard.priority > p.priority || heard.priority == p.priority && heard.wins_tie {
            return (Self::backup(heard.interval_cs, now, p), Action::BecomeBackup);
        }
        // New in RFC 9568: an advertisement at once, for the sender and for the bridges that learned from it.
        (self, Action::Answer)
    }
}

#[cfg(test)]
mod tests;
