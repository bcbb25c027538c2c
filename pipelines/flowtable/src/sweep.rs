//! Ending entries: by their functions, and by the sweep.
//!
//! Exactly one party ends an entry: it changes the control word from exactly the value that was judged
//! to DYING. A refresh in between makes that fail, so no refresh is ever lost.

use crate::create::low_generation;
use crate::guard::Guard;
use crate::index::Probe;
use crate::key::Key;
use crate::mapping::{Mapping, PINNED, REFERENCES};
use crate::prefetch::prefetch_read;
use crate::session::{Ctl, Kind, LIFE_DYING, LIFE_LIVE, LIFE_SHIFT, Session, SessionLine};
use crate::stats::Count;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::tick::Tick;

/// What becomes of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// It ends, unless it changes before that.
    End,
}

/// The functions' side of ending entries.
pub trait Sweeper {
    /// Judges a live session by its control word as it was read; may change the session
    /// ([`Session::transition`]) and keep it.
    fn judge(&mut self, session: &Session<'_>, ctl: Ctl, now: Tick) -> Fate;

    /// The session has ended: nobody finds it any more.
    fn session_ended(&mut self, session: &Session<'_>);

    /// The mapping has ended: its address and port may be used again.
    fn mapping_ended(&mut self, mapping: &Mapping<'_>);
}

/// What one call of [`Guard::sweep`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Sessions ended.
    pub sessions: u32,
    /// Mappings ended that no session had.
    pub mappings: u32,
}

/// Room in the retire ring that ending needs, with what a creation keeps for itself.
const ROOM: usize = 12;

impl Guard<'_> {
    /// Looks at the next `slots` session slots, and as many mapping slots, and ends what is due. All
    /// workers share one cursor: together they go round.
    pub fn sweep(&self, slots: u32, now: Tick, sweeper: &mut impl Sweeper) -> Swept {
        let mut swept = Swept::default();
        let table = self.table;
        for line in next_slices(&table.session_cursor, table.sessions.lines(), slots) {
            let ctl = line.load_ctl();
            if !ctl.is_live() {
                continue;
            }
            let session = Session { table, line };
            if sweeper.judge(&session, ctl, now) == Fate::End && self.end_judged(&session, ctl, sweeper) {
                swept.sessions += 1;
            }
        }
        for line in next_slices(&table.mapping_cursor, table.mappings.lines(), slots) {
            let ctl = line.ctl().load(Ordering::Acquire);
            if ctl >> LIFE_SHIFT == LIFE_LIVE && ctl & REFERENCES == 0 {
                swept.mappings += u32::from(self.end_mapping(&Mapping { table, line }, sweeper));
            }
        }
        swept
    }

    /// Ends a session now. False if it has ended already, or if it cannot end at this moment because too
    /// many ended ones still wait for readers to leave (counted; the sweep will get it).
    pub fn end(&self, session: &Session<'_>, sweeper: &mut impl Sweeper) -> bool {
        let mut ctl = session.ctl();
        while ctl.is_live() {
            if self.end_judged(session, ctl, sweeper) {
                return true;
            }
            let now = session.ctl();
            if now == ctl {
                return false;
            }
            ctl = now;
        }
        false
    }

    /// Ends a session if its control word is still `judged`. False otherwise, and as [`Guard::end`] does.
    pub fn end_judged(&self, session: &Session<'_>, judged: Ctl, sweeper: &mut impl Sweeper) -> bool {
        if !self.has_room() {
            return false;
        }
        if !judged.is_live() || session.swap_ctl(judged, judged.with_life(LIFE_DYING)).is_err() {
            return false;
        }
        let slot = session.slot();
        if session.kind() == Kind::Spliced {
            // Its owner may be adding a key: either it sees that this one has ended, or the key is seen here.
            fence(Ordering::SeqCst);
        }
        self.unlink_session(session.line, slot);
        sweeper.session_ended(session);
        let mapping = session.mapping();
        self.retire_session(slot);
        self.count(Count::SessionsEnded);
        if let Some(m) = mapping
            && m.release()
        {
            self.end_mapping(&m, sweeper);
        }
        true
    }

    /// Makes a static mapping an ordinary one: it ends with its last session. False if it was not static.
    pub fn unpin(&self, mapping: &Mapping<'_>, sweeper: &mut impl Sweeper) -> bool {
        if mapping.line.ctl().fetch_and(!PINNED, Ordering::AcqRel) & PINNED == 0 {
            return false;
        }
        if mapping.release() {
            self.end_mapping(mapping, sweeper);
        }
        true
    }

    /// Gives a reference back, and ends the mapping at once if it was the last (dropping the reference
    /// leaves that to the sweep).
    pub fn release_mapping(&self, reference: crate::MappingRef<'_>, sweeper: &mut impl Sweeper) {
        let m = reference.keep();
        if m.release() {
            self.end_mapping(&m, sweeper);
        }
    }

    fn has_room(&self) -> bool {
        if self.pool.ring.room() >= ROOM {
            return true;
        }
        self.recycle_more();
        if self.pool.ring.room() >= ROOM {
            return true;
        }
        self.count(Count::EndRefused);
        false
    }

    /// Ends a mapping that has no reference, unless it gets one before that.
    fn end_mapping(&self, mapping: &Mapping<'_>, sweeper: &mut impl Sweeper) -> bool {
        // One more than a session needs: `end_judged` has just used one.
        if self.pool.ring.room() < ROOM && !self.has_room() {
            return false;
        }
        let ctl = mapping.line.ctl().load(Ordering::Acquire);
        if ctl >> LIFE_SHIFT != LIFE_LIVE || ctl & REFERENCES != 0 {
            return false;
        }
        let dying = ctl | LIFE_DYING << LIFE_SHIFT;
        if mapping.line.ctl().compare_exchange(ctl, dying, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return false;
        }
        let slot = mapping.slot();
        self.unlink_mapping(mapping, slot);
        sweeper.mapping_ended(mapping);
        self.retire_mapping(slot);
        self.count(Count::MappingsEnded);
        true
    }

    /// Takes both words of a dying session out of the index.
    pub(crate) fn unlink_session(&self, line: &SessionLine, slot: u32) {
        let table = self.table;
        let session = Session { table, line };
        let generation = low_generation(line.ctl().load(Ordering::Relaxed));
        let inside = session.inside_key().map(|k| self.probe_of(&k));
        let first = inside.or_else(|| session.native_key().map(|k| self.probe_of(&k)));
        let second = session.outside_key().map(|k| self.probe_of(&k));
        // All the lines that ending it will need, at once.
        for p in first.iter().chain(&second) {
            table.session_index.prefetch(p);
        }
        if let Some(m) = session.mapping() {
            prefetch_read(m.line);
        }
        for p in first.iter().chain(&second) {
            table.session_index.remove(p, slot, generation);
        }
    }

    fn probe_of<K: Key>(&self, key: &K) -> Probe {
        Probe::new(key.hash(&self.table.hasher), key.side())
    }

    /// Takes both words of a dying mapping out of the index.
    pub(crate) fn unlink_mapping(&self, mapping: &Mapping<'_>, slot: u32) {
        let table = self.table;
        let generation = low_generation(mapping.line.ctl().load(Ordering::Relaxed));
        let probes = [self.probe_of(&mapping.inside_key()), self.probe_of(&mapping.outside_key())];
        for p in &probes {
            table.mapping_index.prefetch(p);
        }
        for p in &probes {
            table.mapping_index.remove(p, slot, generation);
        }
    }
}

/// The next `n` slots behind a shared cursor: all calls together go round without gaps, whatever their
/// `n`. Two slices where the end of the slab comes in between.
fn next_slices<'a, T>(cursor: &AtomicU64, lines: &'a [T], n: u32) -> impl Iterator<Item = &'a T> {
    let total = lines.len() as u64;
    let n = u64::from(n).min(total);
    // The cursor wraps after 2^64 slots, which is never.
    let at = if total == 0 { 0 } else { cursor.fetch_add(n, Ordering::Relaxed) % total };
    let first = at as usize..(at + n).min(total) as usize;
    let second = 0..(at + n).saturating_sub(total) as usize;
    lines[first].iter().chain(&lines[second])
}

#[expect(dead_code, reason = "keeps the sizes of lines from changing unnoticed")]
#[cfg(not(loom))]
const SIZES: () = {
    assert!(size_of::<SessionLine>() == 64);
    assert!(size_of::<crate::mapping::MappingLine>() == 48);
    assert!(size_of::<crate::Spliced>() == 64);
};
