//! Which of two gateways may give out what: a pure state machine.
//!
//! ```text
//!               connected, both have told what the other missed
//!   apart ------------------------------------------------------> together
//!     ^  waiting, then shares            (token: who gives out new leases)  |
//!     +----------------------- connection lost ----------------------------+
//! ```
//! Why no address goes to two clients, whatever the network between the two does:
//!
//! 1. Together, only who has the token gives out new leases, from all addresses; its answer leaves when the
//!    other has acknowledged the lease. The token moves by message only, and who gives it away stops first.
//! 2. Apart, each gives out new leases from its own half of every pool only, and no address whose lease ended
//!    so late that the other may still count it as in use. So the two never give the same one, even if both
//!    are active. What was given under 1 from the other's half is known to the other, as it acknowledged it. What
//!    it may have and did not acknowledge is nobody's here from then on, but for the client that it was meant for.
//! 3. A gateway stops giving from its half *before* it says that it has told everything ([`Input::SentEnd`]).
//! 4. A gateway that met the other, and was never together with it, does not know what that gave: nothing new
//!    from it. One that never met any gives from its half, after it waited for one to show up.
//!
//! Leases that are known, and reservations, are always renewed: each belongs to one client wherever it is.
//! Rule 2 looks at the time of the last message that the other is known to have had, by our clock, and the
//! rest of [`causeway_dhcpv6::Config::hold`] covers what clocks differ. Nothing else depends on clocks or
//! delays; `alone_after` is only there so that a short interruption
//! does not spend addresses of one half.

use causeway_dhcpv6::{Grant, UnixSeconds};
use std::time::{Duration, Instant};

/// What happens to a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Input {
    /// We told the other everything that it missed. From here on nothing is given from our half.
    SentEnd,
    /// The other told us everything.
    GotEnd,
    /// The connection is gone, or does not count any more.
    Down,
    /// The virtual routers are active here, or not.
    Active(bool),
    /// The other wants to give out new leases.
    Asked,
    /// The other lets us give out new leases.
    Given,
    /// The other answered what we sent it at this time, and was together with us when it did.
    Echo(UnixSeconds),
    /// The other is one that we never met, and has leases: we do not know what it gave.
    Stranger,
    /// The operator says that the other is out of service.
    Takeover,
}

/// What has to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Output {
    /// That we want to give out new leases.
    Ask,
    /// That the other may.
    Give,
}

/// Who may give out new leases while together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Nobody,
    Ours,
    Theirs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Apart { since: Instant },
    Connected { sent_end: bool, got_end: bool, token: Token, asked: bool, wanted: bool },
}

/// What is known of the past when a gateway starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) struct Past {
    /// When it was together with its peer last; 0: never. Of a gateway that never met one the time of its start:
    /// there is nobody who could have given anything else.
    pub(in super::super) together: UnixSeconds,
    /// The operator said so, and the peer has not come back.
    pub(in super::super) takeover: bool,
}

/// How the pair is doing, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// There is no peer.
    Single,
    /// Connected, and telling each other what was missed.
    CatchingUp,
    /// Both have all leases, and we may give out new ones.
    Leading,
    /// Both have all leases, and the other may give out new ones.
    Following,
    /// Just parted: known leases and reservations only.
    Waiting,
    /// Parted: new leases from our half only.
    Alone,
    /// It met the peer and was never together with it: known leases and reservations only.
    Unsure,
    /// Parted, and the operator said that the other is out of service.
    TakenOver,
}

/// A gateway's side of a pair.
#[derive(Debug, Clone)]
pub(in super::super) struct Pair {
    odd: bool,
    alone_after: Duration,
    past: Past,
    active: bool,
    state: State,
}

impl Pair {
    /// A pair that is apart. `odd`: which half is ours; the other's is the other.
    pub(in super::super) fn new(odd: bool, alone_after: Duration, past: Past, now: Instant) -> Self {
        Self { odd, alone_after, past, active: false, state: State::Apart { since: now } }
    }

    /// Which half is ours, as agreed with the peer.
    pub(in super::super) fn set_side(&mut self, odd: bool) {
        self.odd = odd;
    }

    /// Which half is ours.
    pub(in super::super) fn is_odd(&self) -> bool {
        self.odd
    }

    /// True once both have told each other everything: answers wait for acknowledgements.
    pub(in super::super) fn together(&self) -> bool {
        matches!(self.state, State::Connected { sent_end: true, got_end: true, .. })
    }

    /// What is to be kept for the next start.
    pub(in super::super) fn past(&self) -> Past {
        self.past
    }

    /// Takes note of an input.
    pub(in super::super) fn on(&mut self, input: Input, now: Instant) -> Option<Output> {
        match (&mut self.state, input) {
            (_, Input::Active(active)) => {
                self.active = active;
                if let State::Connected { token: token @ Token::Ours, wanted: wanted @ true, .. } =
                    &mut self.state
                    && !active
                {
                    (*token, *wanted) = (Token::Theirs, false);
                    return Some(Output::Give);
                }
                return self.ask();
            }
            (_, Input::Stranger) => self.past.together = 0,
            (_, Input::Takeover) => {
                if matches!(self.state, State::Apart { .. }) {
                    self.past.takeover = true;
                }
            }
            (State::Apart { .. }, Input::SentEnd | Input::GotEnd) => {
                self.state = State::Connected {
                    sent_end: input == Input::SentEnd,
                    got_end: input == Input::GotEnd,
                    token: Token::Nobody,
                    asked: false,
                    wanted: false,
                };
                self.past.takeover &= input != Input::SentEnd;
            }
            (State::Connected { sent_end, got_end, .. }, Input::SentEnd | Input::GotEnd) => {
                if input == Input::SentEnd {
                    *sent_end = true;
                } else {
                    *got_end = true;
                }
                // Once we have told everything, the other may count on it.
                self.past.takeover &= input != Input::SentEnd;
                return self.ask();
            }
            (State::Connected { .. }, Input::Down) => self.state = State::Apart { since: now },
            (State::Connected { sent_end: true, got_end: true, .. }, Input::Echo(sent)) => {
                self.past.together = self.past.together.max(sent);
            }
            // Neither comes before both ENDs; a peer that does it all the same gets nothing by it.
            (State::Connected { sent_end: true, token, asked, wanted, .. }, Input::Asked) => {
                let ours = match *token {
                    Token::Ours => self.active,
                    // Both ask at once: the even one has it.
                    Token::Nobody => *asked && !self.odd,
                    Token::Theirs => false,
                };
                if ours {
                    *wanted = true;
                } else {
                    (*token, *asked) = (Token::Theirs, false);
                    return Some(Output::Give);
                }
            }
            (State::Connected { sent_end: true, token, asked, wanted, .. }, Input::Given) => {
                (*token, *asked) = (Token::Ours, false);
                // The other asked as well, before we stopped being active: it does not ask again.
                if *wanted && !self.active {
                    (*token, *wanted) = (Token::Theirs, false);
                    return Some(Output::Give);
                }
            }
            (State::Connected { .. }, Input::Asked | Input::Given)
            | (State::Apart { .. }, Input::Down | Input::Asked | Input::Given)
            | (_, Input::Echo(_)) => {}
        }
        None
    }

    /// Asks for the token if it is of use and not ours.
    fn ask(&mut self) -> Option<Output> {
        match &mut self.state {
            State::Connected { sent_end: true, got_end: true, token, asked: asked @ false, .. }
                if self.active && *token != Token::Ours =>
            {
                *asked = true;
                Some(Output::Ask)
            }
            _ => None,
        }
    }

    /// What may be given out, by a gateway that is active.
    pub(in super::super) fn grant(&self, now: Instant) -> Grant {
        match self.standing(now) {
            Standing::Single | Standing::Leading | Standing::TakenOver => Grant::All,
            Standing::Alone => Grant::Share { odd: self.odd, parted: self.past.together },
            Standing::Following | Standing::Waiting | Standing::Unsure | Standing::CatchingUp => Grant::Known,
        }
    }

    /// How the pair is doing.
    pub(in super::super) fn standing(&self, now: Instant) -> Standing {
        match self.state {
            State::Connected { sent_end: true, got_end: true, token: Token::Ours, .. } => Standing::Leading,
            State::Connected { sent_end: true, got_end: true, .. } => Standing::Following,
            State::Connected { sent_end: true, .. } => Standing::CatchingUp,
            // Rule 3: until we have told everything, we are apart.
            State::Connected { sent_end: false, .. } => self.apart(None, now),
            State::Apart { since } => self.apart(Some(since), now),
        }
    }

    fn apart(&self, since: Option<Instant>, now: Instant) -> Standing {
        if self.past.takeover {
            return Standing::TakenOver;
        }
        if self.past.together == 0 {
            return Standing::Unsure;
        }
        match since {
            Some(since) if now.saturating_duration_since(since) < self.alone_after => Standing::Waiting,
            Some(_) => Standing::Alone,
            None => Standing::Waiting,
        }
    }
}

#[cfg(test)]
mod tests;
