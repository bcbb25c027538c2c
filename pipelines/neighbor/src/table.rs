//! The neighbours that one worker owns: an arena, an index by hash, a timer wheel, and lists by class.
//! Everything is allocated at the start.
//!
//! Classes bound who may take whose room (RFC 6583 6):
//!
//! | class | who | gives way to |
//! | --- | --- | --- |
//! | incomplete | being looked for | a leased or former neighbour, if it is neither; bounded, so it never takes room of others |
//! | failed | did not answer | a new incomplete one |
//! | learned | made itself known, never confirmed | a newer learned one on the same link |
//! | stale | was confirmed, not in use | another confirmed one |
//! | active | confirmed, in use | nobody |

use crate::Config;
use crate::held::Queue;
use crate::nud::State;
use crate::resolved::Key;
use causeway_core::{IfId, Instant};

pub(crate) const NIL: u32 = u32::MAX;

/// Shares of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) confirmed: usize,
    pub(crate) confirmed_per_link: usize,
    pub(crate) incomplete: usize,
    pub(crate) incomplete_per_link: usize,
    pub(crate) learned: usize,
    pub(crate) learned_per_link: usize,
}

impl Limits {
    pub(crate) fn of(c: &Config, workers: u16) -> Self {
        let w = usize::from(workers.max(1));
        // Hashing spreads neighbours unevenly; an eighth more than the even share makes up for it.
        let share = |n: usize, least: usize| match w {
            1 => n.max(least),
            _ => (n.div_ceil(w) + n.div_ceil(w * 8)).clamp(least, n.max(least)),
        };
        Self {
            confirmed: share(c.capacity, 1),
            confirmed_per_link: share(c.per_interface, 1),
            incomplete: share(c.incomplete, 1),
            incomplete_per_link: share(c.incomplete_per_interface, 1),
            learned: share(c.learned, 1),
            learned_per_link: share(c.learned_per_interface, 1),
        }
    }

    /// How many neighbours may be in the shared table.
    pub(crate) const fn published(&self) -> usize {
        self.confirmed + self.learned
    }

    const fn slots(&self) -> usize {
        self.confirmed + self.learned + self.incomplete
    }
}

/// What bounds an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Incomplete,
    Failed,
    Learned,
    Stale,
    Active,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) hash: u64,
    pub(crate) interface: IfId,
    /// Nothing: the slot is free.
    pub(crate) state: Option<State>,
    /// It was confirmed once.
    pub(crate) proven: bool,
    /// Its link-layer address was told to siblings and control.
    pub(crate) told: bool,
    /// It has a lease, or was a neighbour before: while it is looked for it gives way to nobody.
    pub(crate) familiar: bool,
    /// It is probed all the time.
    pub(crate) kept: bool,
    /// When it was confirmed last, or made itself known.
    pub(crate) confirmed: Instant,
    pub(crate) queue: Queue,
    room: Room,
}

impl Entry {
    fn room_of(state: &State, proven: bool) -> Room {
        match state {
            State::Incomplete { .. } => Room::Incomplete,
            State::Failed { .. } => Room::Failed,
            _ if !proven => Room::Learned,
            State::Stale { .. } => Room::Stale,
            _ => Room::Active,
        }
    }
}

/// Doubly linked lists over slots. Each slot is in one list at most.
#[derive(Debug)]
struct Lists {
    heads: Vec<(u32, u32)>,
    links: Vec<(u32, u32)>,
    of: Vec<u32>,
}

impl Lists {
    fn new(lists: usize, slots: usize) -> Self {
        Self { heads: vec![(NIL, NIL); lists], links: vec![(NIL, NIL); slots], of: vec![NIL; slots] }
    }

    fn first(&self, list: usize) -> Option<u32> {
        self.heads.get(list).map(|h| h.0).filter(|s| *s != NIL)
    }

    fn push_back(&mut self, list: usize, slot: u32) {
        self.remove(slot);
        let tail = self.heads[list].1;
        self.links[slot as usize] = (tail, NIL);
        match tail {
            NIL => self.heads[list].0 = slot,
            t => self.links[t as usize].1 = slot,
        }
        self.heads[list].1 = slot;
        self.of[slot as usize] = list as u32;
    }

    fn remove(&mut self, slot: u32) {
        let list = std::mem::replace(&mut self.of[slot as usize], NIL);
        if list == NIL {
            return;
        }
        let (before, after) = std::mem::replace(&mut self.links[slot as usize], (NIL, NIL));
        match before {
            NIL => self.heads[list as usize].0 = after,
            b => self.links[b as usize].1 = after,
        }
        match after {
            NIL => self.heads[list as usize].1 = before,
            a => self.links[a as usize].0 = before,
        }
    }
}

/// Slots of the timer wheel, and microseconds of one (a shift): 1,024 of 8.2 ms are 8.4 s. Later
/// deadlines wait at the far end and go round again.
const WHEEL: u64 = 1024;
const WHEEL_SHIFT: u32 = 13;

const FREE: usize = 0;
const FAILED: usize = 1;
/// From here on, for each interface: its learned neighbours, its stale ones, and strangers being looked for.
const BY_INTERFACE: usize = 2;
const LISTS: usize = 3;

fn learned_list(interface: IfId) -> usize {
    BY_INTERFACE + usize::from(interface.0) * LISTS
}

fn stale_list(interface: IfId) -> usize {
    learned_list(interface) + 1
}

fn strangers_list(interface: IfId) -> usize {
    learned_list(interface) + 2
}

/// How full one link is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) incomplete: usize,
    pub(crate) learned: usize,
    pub(crate) confirmed: usize,
}

#[derive(Debug)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    index: Vec<u32>,
    timers: Lists,
    wheel_at: u64,
    classes: Lists,
    loads: Vec<Load>,
    total: Load,
    failed: usize,
}

impl Table {
    pub(crate) fn new(limits: &Limits, interfaces: usize) -> Self {
        let slots = limits.slots();
        let nobody = Entry {
            key: Key::v4(crate::LinkId::NONE, std::net::Ipv4Addr::UNSPECIFIED),
            hash: 0,
            interface: IfId::NONE,
            state: None,
            proven: false,
            told: false,
            familiar: false,
            kept: false,
            confirmed: Instant::ZERO,
            queue: Queue::EMPTY,
            room: Room::Failed,
        };
        let mut classes = Lists::new(BY_INTERFACE + interfaces * LISTS, slots);
        let count = u32::try_from(slots).unwrap_or(NIL - 1);
        (0..count).for_each(|slot| classes.push_back(FREE, slot));
        Self {
            entries: vec![nobody; slots],
            index: vec![NIL; (slots * 2).next_power_of_two()],
            timers: Lists::new(WHEEL as usize, slots),
            wheel_at: 0,
            classes,
            loads: vec![Load::default(); interfaces],
            total: Load::default(),
            failed: 0,
        }
    }

    /// Room for this many interfaces. The only call besides `new` that may allocate.
    pub(crate) fn set_interfaces(&mut self, interfaces: usize) {
        if self.loads.len() < interfaces {
            self.loads.resize(interfaces, Load::default());
            self.classes.heads.resize(BY_INTERFACE + interfaces * LISTS, (NIL, NIL));
        }
    }

    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(NIL - 1)
    }

    pub(crate) fn entry(&self, slot: u32) -> &Entry {
        &self.entries[slot as usize]
    }

    pub(crate) fn tell(&mut self, slot: u32) {
        self.entries[slot as usize].told = true;
    }

    /// A neighbour that gives way to nobody while it is looked for.
    pub(crate) fn set_familiar(&mut self, slot: u32) {
        self.entries[slot as usize].familiar = true;
        if self.entry(slot).room == Room::Incomplete {
            self.classes.remove(slot);
        }
    }

    pub(crate) fn set_kept(&mut self, slot: u32, kept: bool) {
        self.entries[slot as usize].kept = kept;
    }

    pub(crate) fn queue_mut(&mut self, slot: u32) -> &mut Queue {
        &mut self.entries[slot as usize].queue
    }

    pub(crate) fn load(&self, interface: IfId) -> Load {
        self.loads.get(usize::from(interface.0)).copied().unwrap_or_default()
    }

    pub(crate) const fn total(&self) -> Load {
        self.total
    }

    pub(crate) const fn failed(&self) -> usize {
        self.failed
    }

    /// The slot of a neighbour.
    pub(crate) fn find(&self, key: &Key, hash: u64) -> Option<u32> {
        let mask = self.index.len() - 1;
        let mut at = (hash >> 20) as usize & mask;
        loop {
            match self.index[at] {
                NIL => return None,
                slot if self.entry(slot).key == *key => return Some(slot),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Asks the processor to bring close where a neighbour would be found.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64) {
        causeway_flowtable::prefetch::prefetch_read_at(
            &self.index,
            (hash >> 20) as usize & (self.index.len() - 1),
        );
    }

    /// The failed neighbour that is waiting longest.
    pub(crate) fn oldest_failed(&self) -> Option<u32> {
        self.classes.first(FAILED)
    }

    /// The oldest learned neighbour of an interface.
    pub(crate) fn oldest_learned(&self, interface: IfId) -> Option<u32> {
        self.classes.first(learned_list(interface))
    }

    /// The neighbour of an interface that was not in use for longest.
    pub(crate) fn oldest_stale(&self, interface: IfId) -> Option<u32> {
        self.classes.first(stale_list(interface))
    }

    /// The stranger of an interface that is looked for longest.
    pub(crate) fn oldest_stranger(&self, interface: IfId) -> Option<u32> {
        self.classes.first(strangers_list(interface))
    }

    /// The same, of the interface that looks for most. Looked for only when a limit of all was reached.
    pub(crate) fn oldest_stranger_of_all(&self) -> Option<u32> {
        let some = (0u16..).map(IfId).zip(&self.loads).filter(|(id, _)| self.oldest_stranger(*id).is_some());
        self.oldest_stranger(some.max_by_key(|(_, l)| l.incomplete)?.0)
    }

    /// The interface for which `load` gives most. Looked for only when a limit of all was reached.
    pub(crate) fn fullest(&self, load: impl Fn(&Load) -> usize) -> IfId {
        let most = (0u16..).zip(&self.loads).max_by_key(|(_, l)| load(l));
        most.map_or(IfId::NONE, |(n, _)| IfId(n))
    }

    /// Adds a neighbour that is not there. Nothing when every slot is taken.
    pub(crate) fn insert(
        &mut self,
        key: Key,
        hash: u64,
        interface: IfId,
        state: State,
        now: Instant,
    ) -> Option<u32> {
        let slot = self.classes.first(FREE)?;
        self.classes.remove(slot);
        let room = Entry::room_of(&state, false);
        self.entries[slot as usize] = Entry {
            key,
            hash,
            interface,
            state: Some(state),
            proven: false,
            told: false,
            familiar: false,
            kept: false,
            confirmed: now,
            queue: Queue::EMPTY,
            room,
        };
        let mask = self.index.len() - 1;
        let mut at = (hash >> 20) as usize & mask;
        while self.index[at] != NIL {
            at = (at + 1) & mask;
        }
        self.index[at] = slot;
        self.enter(slot, room);
        self.arm(slot, state.deadline());
        Some(slot)
    }

    /// Sets the state of a neighbour.
    pub(crate) fn set(&mut self, slot: u32, state: State, proven: bool, confirmed: Instant) {
        let e = &mut self.entries[slot as usize];
        let (old, new) = (e.room, Entry::room_of(&state, proven));
        (e.state, e.proven, e.confirmed) = (Some(state), proven, confirmed);
        if old != new {
            self.leave(slot, old);
            self.enter(slot, new);
        }
        self.arm(slot, state.deadline());
    }

    /// The interface of a neighbour has another number now.
    pub(crate) fn renumber(&mut self, slot: u32, interface: IfId) {
        let room = self.entry(slot).room;
        self.leave(slot, room);
        self.entries[slot as usize].interface = interface;
        self.enter(slot, room);
    }

    /// Takes a neighbour out. Its queue must be empty.
    pub(crate) fn remove(&mut self, slot: u32) {
        let room = self.entry(slot).room;
        self.leave(slot, room);
        self.timers.remove(slot);
        self.unindex(slot);
        self.entries[slot as usize].state = None;
        self.classes.push_back(FREE, slot);
    }

    fn unindex(&mut self, slot: u32) {
        let mask = self.index.len() - 1;
        let home = |e: &Entry| (e.hash >> 20) as usize & mask;
        let mut hole = home(self.entry(slot));
        while self.index[hole] != slot {
            hole = (hole + 1) & mask;
        }
        // Those behind that would not be found past the hole move into it.
        let mut at = (hole + 1) & mask;
        while self.index[at] != NIL {
            let from = home(self.entry(self.index[at]));
            if at.wrapping_sub(from) & mask >= at.wrapping_sub(hole) & mask {
                self.index[hole] = self.index[at];
                hole = at;
            }
            at = (at + 1) & mask;
        }
        self.index[hole] = NIL;
    }

    fn count(&mut self, interface: IfId, room: Room, more: bool) {
        let step = |n: &mut usize| *n = if more { *n + 1 } else { n.saturating_sub(1) };
        let field = |l: &mut Load| match room {
            Room::Incomplete => step(&mut l.incomplete),
            Room::Learned => step(&mut l.learned),
            Room::Stale | Room::Active => step(&mut l.confirmed),
            Room::Failed => {}
        };
        if let Some(load) = self.loads.get_mut(usize::from(interface.0)) {
            field(load);
        }
        field(&mut self.total);
        if room == Room::Failed {
            step(&mut self.failed);
        }
    }

    fn enter(&mut self, slot: u32, room: Room) {
        let interface = self.entry(slot).interface;
        self.entries[slot as usize].room = room;
        self.count(interface, room, true);
        match room {
            Room::Failed => self.classes.push_back(FAILED, slot),
            Room::Stale => self.classes.push_back(stale_list(interface), slot),
            Room::Learned => self.classes.push_back(learned_list(interface), slot),
            Room::Incomplete if !self.entry(slot).familiar => {
                self.classes.push_back(strangers_list(interface), slot);
            }
            Room::Incomplete | Room::Active => {}
        }
    }

    fn leave(&mut self, slot: u32, room: Room) {
        let interface = self.entry(slot).interface;
        self.count(interface, room, false);
        self.classes.remove(slot);
    }

    /// Wakes the slot after `at`, by at most one slot of the wheel.
    pub(crate) fn arm(&mut self, slot: u32, at: Instant) {
        let due = ((at.as_micros() >> WHEEL_SHIFT) + 1).clamp(self.wheel_at + 1, self.wheel_at + WHEEL - 1);
        self.timers.push_back((due % WHEEL) as usize, slot);
    }

    /// The next slot whose deadline may have passed, taken off the wheel: the caller arms it again.
    pub(crate) fn due(&mut self, now: Instant) -> Option<u32> {
        let upto = now.as_micros() >> WHEEL_SHIFT;
        // After a long gap every list is due once; nothing is gained by going round more often.
        self.wheel_at = self.wheel_at.max(upto.saturating_sub(WHEEL - 1));
        loop {
            if self.wheel_at > upto {
                return None;
            }
            if let Some(slot) = self.timers.first((self.wheel_at % WHEEL) as usize) {
                self.timers.remove(slot);
                return Some(slot);
            }
            if self.wheel_at == upto {
                return None;
            }
            self.wheel_at += 1;
        }
    }
}

#[cfg(test)]
mod tests;
