//! Health checks: what they say of a server as a state machine, and who is checked when.
//!
//! ```text
//!            a success                `fall` failures in a row
//!  New ----------------------> Up ------------------------------> Down
//!    |                          ^                                  |
//!    | a failure                +----------------------------------+
//!    +-------------------------------> Down     `rise` successes in a row
//! ```
//!
//! The checker opens no connections: it says which are to be opened, and is told what came of them.

pub mod tls;

use super::{Check, Health, Server};
use arrayvec::ArrayVec;
use causeway_core::{Duration, Instant};
use crossbeam::queue::SegQueue;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddrV6;
use std::sync::{Arc, Weak};

/// Checks under way at once.
pub const UNDER_WAY: usize = 256;
/// Things to do that come of one tick, at most.
pub const ACTIONS: usize = 16;
/// Servers that become known in one tick, at most.
const FRESH: usize = 64;
/// A new server is checked within this time.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// What checks have said of a server so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nothing: it counts as up.
    New,
    /// It is up.
    Up {
        /// Checks that have failed since the last one that succeeded.
        failed: u16,
    },
    /// It is down.
    Down {
        /// Checks that have succeeded since the last one that failed.
        succeeded: u16,
    },
}

impl Standing {
    /// What it is after one check more.
    #[must_use]
    pub const fn on(self, success: bool, health: &Health) -> Self {
        match (self, success) {
            // The first check decides: who begins with a server that is not there yet sends it nobody.
            (Self::New | Self::Up { .. }, true) => Self::Up { failed: 0 },
            (Self::New | Self::Down { .. }, false) => Self::Down { succeeded: 0 },
            (Self::Up { failed }, false) if failed + 1 >= health.fall => Self::Down { succeeded: 0 },
            (Self::Up { failed }, false) => Self::Up { failed: failed + 1 },
            (Self::Down { succeeded }, true) if succeeded + 1 >= health.rise => Self::Up { failed: 0 },
            (Self::Down { succeeded }, true) => Self::Down { succeeded: succeeded + 1 },
        }
    }

    /// True if it may get connections.
    #[must_use]
    pub const fn is_up(self) -> bool {
        !matches!(self, Self::Down { .. })
    }
}

/// A check under way. Results of one that is no longer so are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckId {
    slot: u32,
    /// Counts the checks of this slot.
    round: u32,
}

/// What is to be done for a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a connection, and tell [`Checker::result`] whether it could be opened; with `tls` whether [`tls::hello`] was then
    /// answered as [`tls::is_answer`] has it. Reset it afterwards.
    Connect {
        /// The check.
        id: CheckId,
        /// The server.
        to: SocketAddrV6,
        /// Whether TLS has to answer.
        tls: bool,
    },
    /// It took too long, and counts as failed: give the connection up.
    Abandon {
        /// The check.
        id: CheckId,
    },
}

/// A server whose standing has changed so that it gets connections now, or none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The server, with the port that was tried.
    pub server: SocketAddrV6,
    /// Up or down.
    pub up: bool,
}

#[derive(Debug)]
struct Checked {
    server: Weak<Server>,
    standing: Standing,
    round: u32,
    /// When the check that is under way began.
    began: Option<Instant>,
}

/// Says which servers are to be checked now. One worker has it.
#[derive(Debug)]
pub struct Checker {
    fresh: Arc<SegQueue<Weak<Server>>>,
    slots: Vec<Checked>,
    free: Vec<u32>,
    /// When checks are to begin. One entry for each slot in use that has none under way.
    due: BinaryHeap<Reverse<(Instant, u32)>>,
    /// When those that are under way are given up. May name ones that have ended.
    deadlines: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    under_way: usize,
    seed: u64,
}

fn target(server: &Server) -> Option<(SocketAddrV6, bool)> {
    let to = |port| SocketAddrV6::new(server.address, port, 0, 0);
    match server.health.check {
        Check::None => None,
        Check::Tcp(port) => Some((to(port), false)),
        Check::Tls(port) => Some((to(port), true)),
    }
}

impl Checker {
    /// A checker of the servers that appear in [`super::Servers::fresh`]; `seed` is chance, by which checks are spread in time.
    #[must_use]
    pub const fn new(fresh: Arc<SegQueue<Weak<Server>>>, seed: u64) -> Self {
        Self {
            fresh,
            slots: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            deadlines: BinaryHeap::new(),
            under_way: 0,
            seed,
        }
    }

    /// Servers that are checked.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// What is to be done now, and what changed because checks took too long. Bounded: call it again soon.
    pub fn tick(&mut self, now: Instant) -> (ArrayVec<Action, ACTIONS>, ArrayVec<Change, ACTIONS>) {
        let (mut actions, mut changes) = (ArrayVec::new(), ArrayVec::new());
        for _ in 0..FRESH {
            let Some(server) = self.fresh.pop() else { break };
            self.adopt(server, now);
        }
        while !actions.is_full()
            && let Some(&Reverse((at, slot, round))) = self.deadlines.peek()
            && at <= now
        {
            self.deadlines.pop();
            let id = CheckId { slot, round };
            if self.is_under_way(id) {
                actions.push(Action::Abandon { id });
                changes.extend(self.result(id, false, now));
            }
        }
        while !actions.is_full()
            && self.under_way < UNDER_WAY
            && let Some(&Reverse((at, slot))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            actions.extend(self.begin(slot, now));
        }
        (actions, changes)
    }

    /// What came of a check. Something if its server is up now and was not before, or the other way.
    pub fn result(&mut self, id: CheckId, success: bool, now: Instant) -> Option<Change> {
        if !self.is_under_way(id) {
            return None;
        }
        let checked = self.slots.get_mut(id.slot as usize)?;
        let began = checked.began.take()?;
        self.under_way -= 1;
        let Some(server) = checked.server.upgrade() else {
            self.forget(id.slot);
            return None;
        };
        let before = checked.standing.is_up();
        checked.standing = checked.standing.on(success, &server.health);
        let up = checked.standing.is_up();
        server.set_up(up);
        self.due.push(Reverse(((began + server.health.interval).max(now), id.slot)));
        (up != before).then(|| target(&server).map(|(server, _)| Change { server, up })).flatten()
    }

    /// Nothing came of a check, for a reason that is ours: it says nothing of the server, and there is another one an
    /// interval later.
    pub fn undecided(&mut self, id: CheckId, now: Instant) {
        if !self.is_under_way(id) {
            return;
        }
        let Some(checked) = self.slots.get_mut(id.slot as usize) else { return };
        checked.began = None;
        self.under_way -= 1;
        match checked.server.upgrade() {
            Some(server) => self.due.push(Reverse((now + server.health.interval, id.slot))),
            None => self.forget(id.slot),
        }
    }

    fn is_under_way(&self, id: CheckId) -> bool {
        self.slots.get(id.slot as usize).is_some_and(|c| c.round == id.round && c.began.is_some())
    }

    fn chance(&mut self) -> u64 {
        // Xorshift; what it spreads is no secret.
        let mut x = self.seed | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.seed = x;
        x
    }

    fn adopt(&mut self, weak: Weak<Server>, now: Instant) {
        let Some(server) = weak.upgrade() else { return };
        let within = u64::try_from(server.health.interval.min(FIRST_WITHIN).as_micros()).unwrap_or(u64::MAX);
        let at = now + Duration::from_micros(self.chance() % within.max(1));
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let Ok(slot) = u32::try_from(self.slots.len()) else { return };
                self.slots.push(Checked {
                    server: Weak::new(),
                    standing: Standing::New,
                    round: 0,
                    began: None,
                });
                slot
            }
        };
        if let Some(checked) = self.slots.get_mut(slot as usize) {
            // Its round goes on: whatever is still under way for the one before is not for this one.
            checked.server = weak;
            checked.standing = Standing::New;
            self.due.push(Reverse((at, slot)));
        }
    }

    fn begin(&mut self, slot: u32, now: Instant) -> Option<Action> {
        let checked = self.slots.get_mut(slot as usize)?;
        let server = checked.server.upgrade();
        let Some((server, (to, tls))) = server.and_then(|s| target(&s).map(|t| (s, t))) else {
            self.forget(slot);
            return None;
        };
        checked.round = checked.round.wrapping_add(1);
        checked.began = Some(now);
        self.under_way += 1;
        self.deadlines.push(Reverse((now + server.health.timeout, slot, checked.round)));
        Some(Action::Connect { id: CheckId { slot, round: checked.round }, to, tls })
    }

    /// No site has this server any more.
    fn forget(&mut self, slot: u32) {
        if let Some(checked) = self.slots.get_mut(slot as usize) {
            checked.server = Weak::new();
            self.free.push(slot);
        }
    }
}

impl Drop for Checker {
    /// Whoever checks next finds all servers again: they appear only once by themselves.
    fn drop(&mut self) {
        for checked in self.slots.drain(..) {
            if checked.server.strong_count() > 0 {
                self.fresh.push(checked.server);
            }
        }
    }
}

#[cfg(test)]
mod tests;
