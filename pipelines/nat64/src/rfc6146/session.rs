//! Sessions (RFC 6146 3.2): what a packet does to one, and how long it may be idle.
//!
//! | protocol | renewed by | lives |
//! | --- | --- | --- |
//! | UDP | packets from inside (RFC 4787 4.3, REQ-6) | `udp` |
//! | TCP | what the state machine says | `tcp_opening`, `tcp_established` or `tcp_transitory` |
//! | ICMP | queries and replies from inside (RFC 5508 3.2) | `icmp` |
//!
//! ICMP errors never renew one and never end one (RFC 5508 4.3, REQ-6; RFC 4787 9, REQ-12; RFC 5382 7.3,
//! REQ-10).
//!
//! A TCP session that was idle for `tcp_established` is not ended at once: its host is probed, and it has
//! `tcp_transitory` more (RFC 6146 3.5.2.2).

use super::permission::{self, COUNTED};
use super::tcp_fsm::{Event, Lifetime, Side, State};
use crate::config::{Config, Filtering, Ticks};
use crate::log::{self, Log, LogEvent};
use crate::pool4::{Note, Pool4};
use arrayvec::ArrayVec;
use causeway_core::{Counter, Counters, Duration, Instant};
use causeway_flowtable::{Ctl, Fate, Guard, Kind, Lifecycle, Mapping, Session, Sweeper, TICK_MICROS, Tick};
use causeway_wire::l4::{PROTO_TCP, PROTO_UDP};
use std::net::{Ipv4Addr, Ipv6Addr};

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

/// True if `generation` is one of a plan before `now`. Both go round. A worker that has not yet taken over the
/// newest plan meets flows of a newer one, which are no concern of its plan.
#[inline(always)]
pub(crate) const fn is_older(generation: u16, now: u16) -> bool {
    now.wrapping_sub(generation).cast_signed() > 0
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
            Lifetime::Opening => ticks.tcp_opening,
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

/// The most probes that one sweep asks for. Sessions beyond that are probed in the next round.
pub const PROBES: usize = 16;

/// A TCP connection that has to show that it is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The IPv6 host.
    pub(crate) host6: u128,
    pub(crate) host_port: u16,
    pub(crate) remote4: u32,
    pub(crate) remote_port: u16,
    /// Number of the prefix.
    pub(crate) prefix: u8,
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
    /// The table that is swept.
    pub guard: &'a Guard<'a>,
    /// Connections to be probed, for [`Nat64::send_probes`](crate::Nat64::send_probes). Empty to begin with.
    pub probes: ArrayVec<Probe, PROBES>,
}

impl Expiry<'_> {
    /// True if a session of an older plan may go on: its prefix is still there, its address is one that its
    /// host may have or its mapping is static, and it is in the way of no static mapping.
    pub(crate) fn allowed(&self, session: &Session<'_>) -> bool {
        let old = is_older(session.plan_generation(), self.config.options().generation);
        if !old && !self.pool.statics_are_missing() {
            return true;
        }
        let there = !old
            || (self.config.has_kept_prefix(session.prefix(), session.plan_generation())
                && (session.mapping().is_some_and(|m| self.pool.statics().is_one(&m))
                    || self.pool.serves(
                        Ipv6Addr::from_bits(session.src6()),
                        Ipv4Addr::from_bits(session.out4()),
                        session.out_port(),
                    )));
        there && !self.pool.statics().displace(session)
    }

    /// An established connection becomes transitory, and its host is asked. False if this is none; then it
    /// ends.
    #[cold]
    fn probe(&mut self, session: &Session<'_>, ctl: Ctl, now: Tick) -> bool {
        // RFC 6146 3.5.2.2: in all other states the end of the lifetime ends the session.
        if session.protocol() != PROTO_TCP || state_of(ctl) != State::Established {
            return false;
        }
        if self.probes.is_full() {
            return true;
        }
        // Only if nothing was heard since it was judged.
        let mut mine = false;
        session.transition(|c| {
            mine = c == ctl;
            mine.then(|| c.with_state(State::Trans as u8).with_last_seen(now))
        });
        if mine {
            self.probes.push(Probe {
                host6: session.src6(),
                host_port: session.src_port(),
                remote4: session.remote4(),
                remote_port: session.dst_port(),
                prefix: session.prefix(),
            });
        }
        true
    }
}

impl Sweeper for Expiry<'_> {
    #[inline]
    fn judge(&mut self, session: &Session<'_>, ctl: Ctl, now: Tick) -> Fate {
        if session.kind() != Kind::Nat64 {
            return Fate::Keep;
        }
        if permission::is_permission(session) {
            return if permission::is_over(ctl) { Fate::End } else { Fate::Keep };
        }
        let idle = now.since(ctl.last_seen());
        if !self.allowed(session) {
            return Fate::End;
        }
        let generation = self.config.options().generation;
        if is_older(session.plan_generation(), generation) {
            session.set_plan_generation(generation);
        }
        // More than the timeout: the tick of the last packet had begun before the packet came.
        if idle > lifetime(session.protocol(), ctl, &self.config.ticks) {
            return if self.probe(session, ctl, now) { Fate::Keep } else { Fate::End };
        }
        if ctl.flags() & COUNTED == 0 && self.config.options().filtering == Filtering::AddressDependent {
            // It began under a plan that filtered otherwise.
            let guard = self.guard;
            if permission::adopt(guard, session, self) {
                self.counters.add(Counter::Nat64PermissionsCreated, 1);
            }
        }
        Fate::Keep
    }

    fn session_ended(&mut self, session: &Session<'_>) {
        if session.kind() != Kind::Nat64 {
            return;
        }
        if permission::is_permission(session) {
            self.counters.add(Counter::Nat64PermissionsEnded, 1);
            return;
        }
        self.counters.add(Counter::Nat64SessionsEnded, 1);
        log::session(self.log, self.config, self.now, LogEvent::SessionEnded, session);
        // The session's reference keeps the mapping until after this.
        if self.pool.has_accounts()
            && let Some(m) = session.mapping()
        {
            self.pool.end_session(m.subscriber());
        }
        let guard = self.guard;
        permission::forget(guard, session, self);
    }

    fn mapping_ended(&mut self, mapping: &Mapping<'_>) {
        self.counters.add(Counter::Nat64MappingsEnded, 1);
        log::mapping(self.log, self.config, self.now, LogEvent::MappingEnded, mapping);
        let note = Note { log: self.log, options: &self.config.options().log, now: self.now };
        self.pool.mapping_ended(mapping, &note);
    }
}
