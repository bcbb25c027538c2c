//! What segments do to a spliced connection's state, and how long it may be silent.
//!
//! The ends have the whole state; the splice follows it only to know when nothing more will come. So a reset is
//! believed only until somebody goes on (RFC 7857 2.2), and a FIN is one wherever it is seen.

use super::rewrite::Side;
use crate::config::Timeouts;
use crate::{Config, State};
use causeway_core::{Counter, Counters};
use causeway_flowtable::{Ctl, Fate, Kind, Mapping, Session, Sweeper, TICK_MICROS, Tick};
use causeway_wire::l4::tcp;
use std::net::Ipv4Addr;

/// What a segment means for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// It opens a connection: the ends answer it (RFC 5961 4), or it is a new one.
    Syn,
    /// Its sender resets the connection.
    Rst,
    /// Its sender does, and surely so: it is the server, or a client that answers a challenge (RFC 5961 4.2).
    Confirmed,
    /// Its sender closes its half.
    Fin(Side),
    /// Anything else.
    Other,
}

impl Event {
    /// The event that a segment with these control bits is: RST before SYN before FIN, in the order in which RFC 9293
    /// 3.10.7.4 looks at them.
    #[inline(always)]
    #[must_use]
    pub const fn of(side: Side, flags: u8) -> Self {
        if flags & tcp::RST != 0 {
            Self::Rst
        } else if flags & tcp::SYN != 0 {
            Self::Syn
        } else if flags & tcp::FIN != 0 {
            Self::Fin(side)
        } else {
            Self::Other
        }
    }
}

/// Flag of a session: its client has closed its half. Kept beside the state, which a reset covers.
const CLIENT_FIN: u8 = 1;
/// The same of the server.
const SERVER_FIN: u8 = 2;
/// An end has surely reset the connection.
const CONFIRMED: u8 = 4;

/// True if one of the ends has reset the connection, and no stranger.
pub(crate) const fn is_confirmed(flags: u8) -> bool {
    flags & CONFIRMED != 0
}

/// State and flags after an event, and whether the time of silence begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The next state.
    pub state: State,
    /// The session's next flags.
    pub flags: u8,
    /// The connection is not silent.
    pub renew: bool,
}

/// The state that these flags stand for where nothing was reset.
#[must_use]
pub(crate) const fn state_of(flags: u8) -> State {
    match flags & (CLIENT_FIN | SERVER_FIN) {
        0 => State::Open,
        CLIENT_FIN => State::ClientFin,
        SERVER_FIN => State::ServerFin,
        _ => State::BothFin,
    }
}

/// The flags that a connection in this state begins its spliced life with.
#[must_use]
pub(crate) const fn flags_of(state: State) -> u8 {
    match state {
        State::ClientFin => CLIENT_FIN,
        State::ServerFin => SERVER_FIN,
        State::BothFin => CLIENT_FIN | SERVER_FIN,
        State::Peek | State::Open | State::Reset => 0,
    }
}

impl State {
    /// What becomes of a spliced connection with these session flags. [`State::Peek`] is its owner's: nothing.
    #[inline(always)]
    #[must_use]
    pub const fn on(self, flags: u8, event: Event) -> Step {
        let kept = Step { state: self, flags, renew: false };
        match (self, event) {
            (Self::Peek, _) | (_, Event::Syn) | (Self::Reset, Event::Rst) => kept,
            (_, Event::Confirmed) => Step { state: Self::Reset, flags: flags | CONFIRMED, renew: true },
            (_, Event::Rst) => Step { state: Self::Reset, flags, renew: true },
            (_, Event::Fin(side)) => {
                let fin = if matches!(side, Side::Client) { CLIENT_FIN } else { SERVER_FIN };
                let flags = (flags & !CONFIRMED) | fin;
                Step { state: state_of(flags), flags, renew: true }
            }
            // RFC 7857 2.2: it was reset for one of them only, or by a stranger.
            (_, Event::Other) => {
                let flags = flags & !CONFIRMED;
                Step { state: state_of(flags), flags, renew: true }
            }
        }
    }

    /// How long a connection may be silent in this state; [`State::Peek`]: a day, should its owner forget it.
    #[must_use]
    pub(crate) const fn patience(self, timeouts: &Timeouts) -> causeway_core::Duration {
        match self {
            Self::Peek => causeway_core::Duration::from_secs(24 * 3600),
            Self::Open => timeouts.established,
            Self::ClientFin | Self::ServerFin => timeouts.half_closed,
            Self::BothFin | Self::Reset => timeouts.closing,
        }
    }
}

/// Takes note of a segment, whose numbers are plausible. False if the session has ended.
#[inline(always)]
pub(crate) fn follow(session: &Session<'_>, ctl: Ctl, event: Event, tick: Tick) -> bool {
    let state = State::from_u8(ctl.state());
    let step = state.on(ctl.flags(), event);
    if step.state != state || step.flags != ctl.flags() {
        return change(session, event, tick);
    }
    if step.renew { session.touch(tick) } else { session.is_live() }
}

/// Changes the state. Another worker may do so at the same time: the event is then judged again.
#[cold]
fn change(session: &Session<'_>, event: Event, tick: Tick) -> bool {
    session
        .transition(|ctl| {
            let step = State::from_u8(ctl.state()).on(ctl.flags(), event);
            let new = ctl.with_state(step.state as u8).with_flags(step.flags);
            Some(if step.renew { new.with_last_seen(tick) } else { new })
        })
        .is_some()
}

/// True if `ticks` without a segment are more than `patience`: more than the ticks that cover it ([`Tick::covering`]),
/// without the division.
fn is_over(ticks: u32, patience: causeway_core::Duration) -> bool {
    let surely = u128::from(ticks.saturating_sub(2)) * u128::from(TICK_MICROS);
    ticks >= 2 && surely >= patience.as_micros()
}

/// Why sessions end, for [`Expiry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// As its state says.
    Silent,
    /// Its client opens another connection.
    Reused,
    /// Its address is gone.
    Config,
}

/// Judges spliced sessions for the flow table's sweep. Sessions of other kinds are kept: their functions judge them.
///
/// A session in [`State::Peek`] is its owner's, but for one that was forgotten for a day.
#[derive(Debug)]
pub struct Expiry<'a> {
    config: &'a Config,
    counters: &'a Counters,
    why: Why,
}

impl<'a> Expiry<'a> {
    /// By the configuration that counts now.
    #[must_use]
    pub const fn new(config: &'a Config, counters: &'a Counters) -> Self {
        Self { config, counters, why: Why::Silent }
    }

    /// For a session whose client opens another connection.
    pub(crate) const fn reused(config: &'a Config, counters: &'a Counters) -> Self {
        Self { config, counters, why: Why::Reused }
    }

    /// True if a connection of an older plan may go on: its listener's address and the address that its server is
    /// reached from are still there.
    fn allowed(&self, session: &Session<'_>) -> bool {
        let older = self.config.generation.wrapping_sub(session.plan_generation()).cast_signed() > 0;
        if !older {
            return true;
        }
        let out4 = Ipv4Addr::from_bits(session.out4());
        super::own_address(self.config, session.prefix(), session.remote4()).is_some()
            && self.config.listeners.iter().any(|l| l.address == out4)
    }
}

impl Sweeper for Expiry<'_> {
    #[inline]
    fn judge(&mut self, session: &Session<'_>, ctl: Ctl, now: Tick) -> Fate {
        if session.kind() != Kind::Spliced {
            return Fate::Keep;
        }
        let state = State::from_u8(ctl.state());
        self.why = Why::Silent;
        if state != State::Peek {
            if !self.allowed(session) {
                self.why = Why::Config;
                return Fate::End;
            }
            if session.plan_generation() != self.config.generation {
                session.set_plan_generation(self.config.generation);
            }
        }
        if is_over(now.since(ctl.last_seen()), state.patience(&self.config.timeouts)) {
            Fate::End
        } else {
            Fate::Keep
        }
    }

    fn session_ended(&mut self, session: &Session<'_>) {
        let state = State::from_u8(session.ctl().state());
        if session.kind() != Kind::Spliced || state == State::Peek {
            return;
        }
        let counter = match (self.why, state) {
            (Why::Reused, _) => Counter::SpliceEndedReused,
            (Why::Config, _) => Counter::SpliceEndedConfig,
            (Why::Silent, State::BothFin | State::Reset) => Counter::SpliceEndedClosed,
            (Why::Silent, _) => Counter::SpliceEndedIdle,
        };
        self.counters.add(counter, 1);
    }

    fn mapping_ended(&mut self, _: &Mapping<'_>) {}
}

#[cfg(test)]
mod tests;
