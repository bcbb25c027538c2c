//! Reachability of one neighbour, as a state machine (RFC 4861 7.3 and appendix C; RFC 1122 2.3.2.1
//! asks the same of ARP).
//!
//! ```text
//!               answer, solicited
//!   Incomplete ------------------> Reachable <---------------------------+
//!     |    |  answer, unsolicited     | reachable time                   |
//!     |    |  or heard                v                                  | answer,
//!     |    +---------------------> Stale --used--> Delay --5 s--> Probe -+ solicited
//!     | no answer                     | idle                        | no answer
//!     v                               v                             v
//!   Failed --hold-down--> forgotten   forgotten                     forgotten
//! ```
//!
//! `Failed` is ours: it keeps a flood to a dead address from soliciting again at once (RFC 6583 6.2).
//! The state `UNREACHABLE` of RFC 7048 is not kept: a neighbour that stops answering is forgotten, and
//! the next packet solicits it by multicast.

use causeway_core::{Duration, Instant};
use causeway_wire::MacAddr;

/// The times and counts that the machine goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a confirmation lasts. Already drawn at random around the base value (RFC 4861 6.3.4).
    pub reachable: Duration,
    /// Between solicitations of a neighbour that is looked for (RFC 4861 10, `RETRANS_TIMER`).
    pub search: Duration,
    /// Between probes of a known one (the same).
    pub retrans: Duration,
    /// From the first packet to a stale neighbour to the first probe (`DELAY_FIRST_PROBE_TIME`).
    pub delay: Duration,
    /// How often it is looked whether a stale neighbour is in use.
    pub stale_check: Duration,
    /// After how long without use a neighbour is forgotten.
    pub idle: Duration,
    /// How long an address that did not answer is not asked for again.
    pub failed: Duration,
    /// Solicitations before an address is given up (`MAX_MULTICAST_SOLICIT`).
    pub multicast_tries: u8,
    /// Probes before a neighbour is given up (`MAX_UNICAST_SOLICIT`).
    pub unicast_tries: u8,
}

/// What is known of a neighbour. Deadlines are part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Being looked for; packets wait.
    Incomplete {
        /// Solicitations sent.
        sent: u8,
        /// When to solicit again, or give up.
        next: Instant,
    },
    /// Confirmed not long ago.
    Reachable {
        /// Its link-layer address.
        mac: MacAddr,
        /// When the confirmation has aged.
        until: Instant,
    },
    /// Known, and not confirmed lately; packets flow.
    Stale {
        /// Its link-layer address.
        mac: MacAddr,
        /// Since when.
        since: Instant,
        /// When to look whether it is in use.
        check: Instant,
    },
    /// In use and not confirmed lately; packets flow.
    Delay {
        /// Its link-layer address.
        mac: MacAddr,
        /// When to begin probing.
        until: Instant,
    },
    /// Being probed; packets flow.
    Probe {
        /// Its link-layer address.
        mac: MacAddr,
        /// Probes sent.
        sent: u8,
        /// When to probe again, or give up.
        next: Instant,
    },
    /// Did not answer; packets are dropped.
    Failed {
        /// When it may be asked for again.
        until: Instant,
    },
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A packet was sent to it.
    Used,
    /// The deadline of the state may have passed.
    Timer,
    /// It is to be known now whether it is still there.
    Verify,
    /// A Neighbor Advertisement or an ARP reply.
    Answer {
        /// The link-layer address that it gives, if it gives one.
        mac: Option<MacAddr>,
        /// It answers a solicitation of ours (flag S).
        solicited: bool,
        /// It replaces what is known (flag O).
        override_: bool,
    },
    /// The neighbour asked us something, and gave its link-layer address (RFC 4861 7.2.3).
    Heard {
        /// Its link-layer address.
        mac: MacAddr,
    },
}

/// A solicitation to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solicit {
    /// None.
    No,
    /// To everybody who could be meant.
    Multicast,
    /// To this station.
    Unicast(MacAddr),
}

/// What becomes of the packets that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// They wait on; in states with a link-layer address there are none.
    Keep,
    /// They are sent.
    Send,
    /// The neighbour is unreachable.
    Fail,
}

/// Whether others have to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// No.
    None,
    /// Its link-layer address is known, or is another one now.
    Resolved,
    /// It does not answer.
    Unreachable,
}

/// What to do after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Step {
    /// The state from now on; nothing if the neighbour is to be forgotten.
    pub state: Option<State>,
    /// What to send.
    pub solicit: Solicit,
    /// What becomes of waiting packets.
    pub waiting: Waiting,
    /// Whom to tell.
    pub notice: Notice,
}

impl Step {
    const fn to(state: State) -> Self {
        Self { state: Some(state), solicit: Solicit::No, waiting: Waiting::Keep, notice: Notice::None }
    }

    const FORGET: Self =
        Self { state: None, solicit: Solicit::No, waiting: Waiting::Keep, notice: Notice::None };
}

impl State {
    /// Begins to look for a neighbour (RFC 4861 7.2.2).
    pub fn begin(now: Instant, t: &Timing) -> Step {
        Step { solicit: Solicit::Multicast, ..Step::to(Self::Incomplete { sent: 1, next: now + t.search }) }
    }

    /// A neighbour that made itself known (RFC 4861 7.2.3, RFC 9131 4).
    #[must_use]
    pub fn learned(mac: MacAddr, now: Instant, t: &Timing) -> Self {
        Self::Stale { mac, since: now, check: now + t.stale_check }
    }

    /// Its link-layer address, if packets may flow to it.
    #[must_use]
    pub const fn mac(&self) -> Option<MacAddr> {
        match *self {
            Self::Reachable { mac, .. }
            | Self::Stale { mac, .. }
            | Self::Delay { mac, .. }
            | Self::Probe { mac, .. } => Some(mac),
            Self::Incomplete { .. } | Self::Failed { .. } => None,
        }
    }

    /// When [`Event::Timer`] has something to do.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        match *self {
            Self::Incomplete { next, .. } | Self::Probe { next, .. } => next,
            Self::Reachable { until, .. } | Self::Delay { until, .. } | Self::Failed { until } => until,
            Self::Stale { check, .. } => check,
        }
    }

    /// True while a solicitation of ours may still be answered. ARP replies carry no flag that says
    /// what they answer; in these states they are taken as answers.
    #[must_use]
    pub const fn awaits_answer(&self) -> bool {
        matches!(self, Self::Incomplete { .. } | Self::Probe { .. } | Self::Failed { .. })
    }

    /// The next state, and what to do.
    pub fn on(self, event: Event, now: Instant, t: &Timing) -> Step {
        match event {
            Event::Used => self.used(now, t),
            Event::Timer => self.timer(now, t),
            Event::Verify => self.verify(now, t),
            Event::Answer { mac, solicited, override_ } => self.answer(mac, solicited, override_, now, t),
            Event::Heard { mac } => self.heard(mac, now, t),
        }
    }

    fn used(self, now: Instant, t: &Timing) -> Step {
        match self {
            // RFC 4861 7.3.3: the first packet to a stale neighbour starts the delay.
            Self::Stale { mac, .. } => Step::to(Self::Delay { mac, until: now + t.delay }),
            _ => Step::to(self),
        }
    }

    fn verify(self, now: Instant, t: &Timing) -> Step {
        match self {
            // RFC 4861 7.3.3: the delay waits for hints of upper layers; nobody waits for them here.
            Self::Stale { mac, .. } | Self::Delay { mac, .. } => Step {
                solicit: Solicit::Unicast(mac),
                ..Step::to(Self::Probe { mac, sent: 1, next: now + t.retrans })
            },
            _ => Step::to(self),
        }
    }

    fn timer(self, now: Instant, t: &Timing) -> Step {
        if now < self.deadline() {
            return Step::to(self);
        }
        match self {
            Self::Incomplete { sent, .. } if sent < t.multicast_tries => Step {
                solicit: Solicit::Multicast,
                ..Step::to(Self::Incomplete { sent: sent + 1, next: now + t.search })
            },
            // RFC 4861 7.2.2: no answer to any of them, so packets cannot be delivered.
            Self::Incomplete { .. } => Step {
                waiting: Waiting::Fail,
                notice: Notice::Unreachable,
                ..Step::to(Self::Failed { until: now + t.failed })
            },
            Self::Reachable { mac, .. } => Step::to(Self::learned(mac, now, t)),
            Self::Stale { since, .. } if now.since(since) >= t.idle => Step::FORGET,
            Self::Stale { mac, since, .. } => {
                Step::to(Self::Stale { mac, since, check: now + t.stale_check })
            }
            // RFC 4861 7.3.3: probes go to the station itself.
            Self::Delay { mac, .. } => Step {
                solicit: Solicit::Unicast(mac),
                ..Step::to(Self::Probe { mac, sent: 1, next: now + t.retrans })
            },
            Self::Probe { mac, sent, .. } if sent < t.unicast_tries => Step {
                solicit: Solicit::Unicast(mac),
                ..Step::to(Self::Probe { mac, sent: sent + 1, next: now + t.retrans })
            },
            // RFC 4861 7.3.3: then the entry goes, and the next packet resolves anew.
            Self::Probe { .. } => Step { notice: Notice::Unreachable, ..Step::FORGET },
            Self::Failed { .. } => Step::FORGET,
        }
    }

    fn answer(
        self,
        mac: Option<MacAddr>,
        solicited: bool,
        override_: bool,
        now: Instant,
        t: &Timing,
    ) -> Step {
        let reachable = |mac| Self::Reachable { mac, until: now + t.reachable };
        let Some(known) = self.mac() else {
            // RFC 4861 7.2.5: while there is no link-layer address, an answer without one tells
            // nothing, and the override flag has nothing to override.
            let Some(mac) = mac else { return Step::to(self) };
            let state = if solicited { reachable(mac) } else { Self::learned(mac, now, t) };
            return Step { waiting: Waiting::Send, notice: Notice::Resolved, ..Step::to(state) };
        };
        let given = mac.unwrap_or(known);
        let moved = given != known;
        if moved && !override_ {
            // RFC 4861 7.2.5 I: another address without the override flag only takes away trust.
            return match self {
                Self::Reachable { .. } => Step::to(Self::learned(known, now, t)),
                _ => Step::to(self),
            };
        }
        // RFC 4861 7.2.5 II.
        let notice = if moved { Notice::Resolved } else { Notice::None };
        match (solicited, moved) {
            (true, _) => Step { notice, ..Step::to(reachable(given)) },
            (false, true) => Step { notice, ..Step::to(Self::learned(given, now, t)) },
            (false, false) => Step::to(self),
        }
    }

    fn heard(self, mac: MacAddr, now: Instant, t: &Timing) -> Step {
        // RFC 4861 7.2.3: it made its address known, which is no proof that we can reach it.
        let stale = Self::learned(mac, now, t);
        match self.mac() {
            None => Step { waiting: Waiting::Send, notice: Notice::Resolved, ..Step::to(stale) },
            Some(known) if known == mac => Step::to(self),
            Some(_) => Step { notice: Notice::Resolved, ..Step::to(stale) },
        }
    }
}

#[cfg(test)]
mod tests;
