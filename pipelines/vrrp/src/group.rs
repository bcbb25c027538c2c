//! All virtual routers of a gateway as one: active together, or none of them.
//!
//! The flows of a gateway's NAT64 and its splicer cross from one network to another; a gateway that was active
//! on one side only would hold half of each flow. So:
//!
//! - Backup becomes active only when the active-down timers of *all* members have run out. Whoever is still
//!   heard on one side keeps us backup, and somebody on one network cannot make us active by claiming
//!   that the active router stopped (priority 0).
//! - A better router that is heard on *any* member while we are active makes all members backup at once.
//! - A fault of one member is a fault of all: they resign (priority 0) wherever they can still send.
//! - Equal priorities are decided by the addresses of *one* member. With each member deciding by its own,
//!   of two gateways each could lose on another side. That member is the first in an order that both gateways
//!   find alike: IPv6 before IPv4, then by VRID, then by the addresses of the virtual router. Where nothing was
//!   heard on it for an active-down interval (the networks' parts may be cut off from each other) the next
//!   one that hears something decides.
//!
//! A peer with groups of its own (keepalived's `vrrp_sync_group`) moves its members together as well, but
//! decides equal priorities by each: it is to be given another priority than ours.

use crate::config::{Config, VirtualRouter};
use crate::machine::{Action, Event, Heard, Parameters, State};
use crate::packet::OWNER;
use causeway_core::{Instant, TokenBucket};
use std::cmp::Ordering;
use std::net::IpAddr;

/// How many answers to advertisements of worse routers a member sends at once, and then each second: whoever
/// sends such advertisements must not make us send as many.
const ANSWERS: u32 = 4;

/// One virtual router of the group.
#[derive(Debug, Clone)]
struct Member {
    state: State,
    /// When something was last heard here that counts for ties; at first, when we became active.
    heard: Instant,
    /// Position in the order by which ties are decided, 0 first.
    rank: usize,
    answers: TokenBucket,
    /// Something to send.
    say: Option<Say>,
}

/// What a member has to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// An advertisement with the priority in use.
    Advert,
    /// An advertisement with priority 0.
    Stopping,
}

/// The state that all members are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not taking part.
    Initialize,
    /// Another gateway is active, or might be.
    Backup,
    /// We are active.
    Active,
}

impl Phase {
    /// The name that users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Active => "active",
        }
    }
}

/// What became of an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken for what it is.
    Taken,
    /// It wanted an answer, and there had been enough of them. It changed nothing.
    AnswerLimited,
}

/// The virtual routers of a gateway.
#[derive(Debug, Clone)]
pub struct Group {
    parameters: Parameters,
    /// The configured priority, which tracking lowers.
    configured: u8,
    members: Vec<Member>,
    phase: Phase,
    /// Any `Member::say`.
    saying: bool,
}

/// The order by which ties are decided: the same on all gateways with the same virtual routers.
fn tie_order(a: &VirtualRouter, b: &VirtualRouter) -> Ordering {
    let key = |r: &VirtualRouter| {
        let mut addresses = r.addresses.clone();
        addresses.sort_unstable();
        (!r.source.is_ipv6(), r.vrid, addresses)
    };
    key(a).cmp(&key(b))
}

impl Group {
    /// The group of a configuration, waiting for [`startup`](Self::startup).
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let parameters = Parameters {
            priority: config.priority,
            interval_cs: config.interval_cs,
            preempt: config.preempt,
            preempt_delay: config.preempt_delay,
        };
        let mut order: Vec<usize> = (0..config.routers.len()).collect();
        order.sort_by(|a, b| tie_order(&config.routers[*a], &config.routers[*b]));
        let mut members = vec![
            Member {
                state: State::Initialize,
                heard: Instant::ZERO,
                rank: 0,
                answers: TokenBucket::new(ANSWERS, ANSWERS),
                say: None,
            };
            config.routers.len()
        ];
        for (rank, member) in order.into_iter().enumerate() {
            members[member].rank = rank;
        }
        Self { parameters, configured: config.priority, members, phase: Phase::Initialize, saying: false }
    }

    /// The group of a new configuration that goes on where this one stands: what it is active or backup for
    /// stays so, a member that is new joins the others. `was` says which member of this group each new one was.
    #[must_use]
    pub fn successor(&self, config: &Config, was: &[Option<usize>], penalty: u8, now: Instant) -> Self {
        let mut next = Self::new(config);
        next.set_penalty(penalty);
        next.phase = self.phase;
        let p = next.parameters;
        for (n, member) in next.members.iter_mut().enumerate() {
            let old = was.get(n).copied().flatten().and_then(|n| self.members.get(n));
            if let Some(old) = old {
                member.answers = old.answers.clone();
                member.heard = old.heard;
            }
            member.state = match (self.phase, old.map(|old| old.state)) {
                (Phase::Initialize, _) => State::Initialize,
                (Phase::Backup, Some(state @ State::Backup { .. })) => state,
                (Phase::Backup, _) => State::backup(p.interval_cs, now, &p),
                (Phase::Active, _) => State::Active { adver: now },
            };
            if old.is_none() {
                member.heard = now;
            }
        }
        if next.members.is_empty() {
            next.phase = Phase::Initialize;
        }
        next
    }

    /// The state of the group.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The parameters in use.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Lowers the configured priority by this much, to no less than 1. The owner's stays (RFC 9568 5.2.4: it is
    /// 255). What timers run already stay as they are.
    pub const fn set_penalty(&mut self, penalty: u8) {
        self.parameters.priority = match (self.configured, self.configured.saturating_sub(penalty)) {
            (OWNER, _) => OWNER,
            (_, 0) => 1,
            (_, lowered) => lowered,
        };
    }

    /// Begins to take part (RFC 9568 6.4.1).
    pub fn startup(&mut self, now: Instant) {
        self.all(Event::Startup, now);
    }

    /// Stops taking part: all members resign if they are active.
    pub fn shutdown(&mut self, now: Instant) {
        self.all(Event::Shutdown, now);
    }

    /// When [`timers`](Self::timers) has something to do, if ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let deadlines = self.members.iter().filter_map(|m| m.state.deadline());
        match self.phase {
            Phase::Initialize => None,
            // The last timer to run out is the one that counts.
            Phase::Backup => deadlines.max(),
            Phase::Active => deadlines.min(),
        }
    }

    /// Lets timers fire whose time has come. Those of a backup fire together, once all have run out.
    pub fn timers(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.all(Event::Timer, now);
        }
    }

    /// An advertisement for this member from `theirs`, which passed all checks. `ours` is our own source.
    pub fn heard(
        &mut self,
        member: usize,
        priority: u8,
        interval_cs: u16,
        (theirs, ours): (IpAddr, IpAddr),
        now: Instant,
    ) -> Outcome {
        let wins_tie = theirs > ours && self.decides_ties(member, now);
        let Some(m) = self.members.get_mut(member) else { return Outcome::Taken };
        let event = Event::Heard(Heard { priority, interval_cs, wins_tie });
        let (state, action) = m.state.on(event, now, &self.parameters);
        m.heard = now;
        if action == Action::Answer && !m.answers.take(now) {
            return Outcome::AnswerLimited;
        }
        m.state = state;
        self.act(member, action);
        if action == Action::BecomeBackup {
            self.all(Event::Follow { interval_cs }, now);
        }
        Outcome::Taken
    }

    /// True if equal priorities are decided by what is heard on this member: those before it in the order
    /// have been silent for as long as an active router may be.
    fn decides_ties(&self, member: usize, now: Instant) -> bool {
        let Some(rank) = self.members.get(member).map(|m| m.rank) else { return false };
        let silent = self.parameters.active_down(self.parameters.interval_cs);
        self.members.iter().filter(|m| m.rank < rank).all(|m| now.since(m.heard) > silent)
    }

    /// Gives an event to all members.
    fn all(&mut self, event: Event, now: Instant) {
        for n in 0..self.members.len() {
            let (state, action) = self.members[n].state.on(event, now, &self.parameters);
            self.members[n].state = state;
            if action == Action::BecomeActive {
                self.members[n].heard = now;
            }
            self.act(n, action);
        }
        self.phase = match self.members.first().map(|m| m.state) {
            None | Some(State::Initialize) => Phase::Initialize,
            Some(State::Backup { .. }) => Phase::Backup,
            Some(State::Active { .. }) => Phase::Active,
        };
    }

    fn act(&mut self, member: usize, action: Action) {
        self.members[member].say = match action {
            Action::None => return,
            Action::BecomeActive | Action::Advertise | Action::Answer => Some(Say::Advert),
            Action::Resign => Some(Say::Stopping),
            // What was to be said as the active router is void.
            Action::BecomeBackup => None,
        };
        self.saying |= self.members[member].say.is_some();
    }

    /// True if a member has something to send.
    #[inline]
    #[must_use]
    pub const fn is_saying(&self) -> bool {
        self.saying
    }

    /// Takes what this member has to send.
    pub fn take_say(&mut self, member: usize) -> Option<Say> {
        self.members.get_mut(member).and_then(|m| m.say.take())
    }

    /// All that was to be sent has been taken.
    pub const fn sent(&mut self) {
        self.saying = false;
    }
}

#[cfg(test)]
mod tests;
