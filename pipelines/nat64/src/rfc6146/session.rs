//! Sessions (RFC 6146 3.2): what a packet does to one, and how long it may be idle.
//!
//! | protocol | renewed by | lives |
//! | --- | --- | --- |
//! | UDP | packets from inside (RFC 4787 4.3, REQ-6) | `udp` |
//! | TCP | what the state machine says | `tcp_established` or `tcp_transitory` |
//! | ICMP | queries and replies from inside (RFC 5508 3.2) | `icmp` |
//!
//! ICMP errors never renew one (RFC 5508 4.2, REQ-5; RFC 4787 REQ-12).

use super::tcp_fsm::{Event, Lifetime, Side, State};
use crate::config::{Config, Ticks};
use crate::log::{self, Log, LogEvent};
use crate::pool4::Pool4;
use causeway_core::{Counter, Counters, Duration, Instant};
use causeway_flowtable::{Ctl, Fate, Kind, Lifecycle, Mapping, Session, Sweeper, TICK_MICROS, Tick};
use causeway_wire::l4::{PROTO_TCP, PROTO_UDP};
use std::net::Ipv4Addr;

/// A packet of the session from inside, other than TCP. False if the session has just ended.
#[inline(always)]
pub(crate) fn renew(session: &Session<'_>, tick: Tick) -> bool {
    session.touch(tick)
}

/// A TCP segment of the session. False if the session has just ended.
#[inline(always)]
pub(crate) fn segment(session: &Session<'_>, side: Side, flags: u8, tick: Tick) -> bool {
    let event = Event::of(side, flags);
    let ctl = session.ctl();
    let state = state_of(ctl);
    let step = state.on(event);
    if step.next != state {
        return change(session, event, tick);
    }
    if step.renew { session.touch(tick) } else { ctl.lifecycle() == Lifecycle::Live }
}

/// Changes the state. Another worker may do so at the same time: the event is then judged again.
#[cold]
fn change(session: &Session<'_>, event: Event, tick: Tick) -> bool {
    session
        .transition(|ctl| {
            let step = state_of(ctl).on(event);
            let new = ctl.with_state(step.next as u8);
            Some(if step.renew { new.with_last_seen(tick) } else { new })
        })
        .is_some()
}

/// The TCP state in a control word. What is none (it never is) counts as about to end.
#[inline(always)]
fn state_of(ctl: Ctl) -> State {
    State::from_u8(ctl.state()).unwrap_or(State::Trans)
}

/// How many ticks a session may be idle.
#[inline]
pub(crate) fn lifetime(protocol: u8, ctl: Ctl, ticks: &Ticks) -> u32 {
    match protocol {
        PROTO_TCP => match state_of(ctl).lifetime() {
            Lifetime::Transitory => ticks.tcp_transitory,
            Lifetime::Established => ticks.tcp_established,
        },
        PROTO_UDP => ticks.udp,
        _ => ticks.icmp,
    }
}

/// The state of a NAT64 session as RFC 6146 3.5 names it, and how long it may be idle. For people.
#[must_use]
pub fn describe(config: &Config, session: &Session<'_>) -> (&'static str, Duration) {
    let ctl = session.ctl();
    let ticks = lifetime(session.protocol(), ctl, &config.ticks);
    let name = match session.protocol() {
        PROTO_TCP => match state_of(ctl) {
            State::V4Init => "V4_INIT",
            State::V6Init => "V6_INIT",
            State::Established => "ESTABLISHED",
            State::V4FinRcv => "V4_FIN_RCV",
            State::V6FinRcv => "V6_FIN_RCV",
            State::V4V6FinRcv => "V4_FIN_V6_FIN_RCV",
            State::Trans => "TRANS",
        },
        _ => "ACTIVE",
    };
    (name, Duration::from_micros(u64::from(ticks) * TICK_MICROS))
}

/// Judges NAT64 sessions for the flow table's sweep, and gives ports back. Sessions of other kinds are
/// kept: their functions judge them.
#[derive(Debug)]
pub struct Expiry<'a> {
    /// The configuration that counts now.
    pub config: &'a Config,
    /// Where ports go back to.
    pub pool: &'a Pool4,
    /// Where ended sessions and mappings are counted.
    pub counters: &'a Counters,
    /// Where ended sessions and mappings are logged.
    pub log: Option<&'a Log>,
    /// Now.
    pub now: Instant,
}

impl Expiry<'_> {
    /// True if a session of an older plan may go on: its prefix and its address are still there.
    fn allowed(&self, session: &Session<'_>) -> bool {
        session.plan_generation() == self.config.options().generation
            || (self.config.prefixes().get(session.prefix()).is_some()
                && self.pool.contains(Ipv4Addr::from_bits(session.out4())))
    }
}

impl Sweeper for Expiry<'_> {
    #[inline]
    fn judge(&mut self, session: &Session<'_>, ctl: Ctl, now: Tick) -> Fate {
        let idle = now.since(ctl.last_seen());
        if session.kind() != Kind::Nat64 {
            return Fate::Keep;
        }
        // More than the timeout: the tick of the last packet had begun before the packet came.
        if idle > lifetime(session.protocol(), ctl, &self.config.ticks) || !self.allowed(session) {
            return Fate::End;
        }
        Fate::Keep
    }

    fn session_ended(&mut self, session: &Session<'_>) {
        if session.kind() == Kind::Nat64 {
            self.counters.add(Counter::Nat64SessionsEnded, 1);
            log::session(self.log, self.config, self.now, LogEvent::SessionEnded, session);
        }
    }

    fn mapping_ended(&mut self, mapping: &Mapping<'_>) {
        self.counters.add(Counter::Nat64MappingsEnded, 1);
        log::mapping(self.log, self.config, self.now, LogEvent::MappingEnded, mapping);
        self.pool.release(Ipv4Addr::from_bits(mapping.out4()), mapping.out_port(), mapping.protocol());
    }
}
