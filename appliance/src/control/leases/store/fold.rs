//! Folding: what the log has is brought to the tables, later, much at once, and in slices between groups.
//!
//! ```text
//!  rows     the last lease of each key, in the order of keys: neighbours share pages
//!  gone     events of history whose place others took; what was renewed is renewed in the same order, so that those
//!           are neighbours too
//!  events   history's blocks, and segments of its indexes
//!  log      the number up to which all is folded; then the log's rows go
//! ```
//! Each slice is a transaction, which is not brought to the disk by itself: the next commit does, as a write-ahead
//! log is read from its beginning. Whatever slices are on disk when the process dies, the log still has what they
//! were made from, and a lease that is written twice is the same lease. History behind the number of the last
//! mark does not count; it is removed before the next fold, and made anew.

use super::octets::{Key, put_row};
use super::recent::Recent;
use super::segments::{self, Writer};
use super::{FOLDED, HEAD, Store, StoreError, put_number, row};
use causeway_dhcpv6::UnixSeconds;
use rusqlite::Connection;

/// Events in the log from which on it is folded while there is other work, and octets. Tests fold earlier.
const MOST: (usize, usize) = (if cfg!(test) { 512 } else { 1 << 18 }, 96 << 20);
/// Events in the log from which on it is folded when there is nothing else to do.
const IDLE: usize = if cfg!(test) { 64 } else { 1 << 14 };
/// How old its first event is when it is folded whatever there is, seconds, if there is nothing else to do.
const OLD: u64 = 3600;
/// Events of a segment.
const SEGMENT: usize = if cfg!(test) { 256 } else { 1 << 14 };
/// Rows of the log that go in a slice.
const GROUPS: usize = if cfg!(test) { 4 } else { 32 };

/// What is being folded.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) recent: Recent,
    /// Its last event.
    upto: u64,
    /// Older events that go, by number.
    gone: Vec<u64>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What another fold left.
    Clean,
    /// Leases behind this key come next.
    Rows(Option<Key>),
    /// This of the events that go.
    Gone(usize),
    /// This event.
    Events(usize),
    /// Nothing is missing in the tables.
    Mark,
    /// Groups of the log.
    Log,
    Over,
}

impl Fold {
    fn new(recent: Recent) -> Option<Self> {
        let upto = recent.last()?;
        let gone = recent.gone();
        Some(Self { recent, upto, gone, stage: Stage::Clean })
    }

    /// True if the tables have all of it.
    pub(super) fn is_marked(&self) -> bool {
        matches!(self.stage, Stage::Log | Stage::Over)
    }

    /// Pages that a slice writes, about: neighbours of many leases share some.
    fn pages(&self, most: usize) -> usize {
        match self.stage {
            Stage::Rows(_) => most.div_ceil(2),
            Stage::Events(_) => SEGMENT / 32,
            _ => 16,
        }
    }

    /// Does about `most` rows' worth of it; what comes next.
    fn slice(&self, db: &Connection, folded: u64, most: usize) -> rusqlite::Result<Stage> {
        match self.stage {
            Stage::Clean => {
                remove_unfinished(db, folded)?;
                Ok(Stage::Rows(None))
            }
            Stage::Rows(behind) => {
                let mut put = db.prepare_cached(
                    "INSERT OR REPLACE INTO leases (key, own, peer, body) VALUES (?1, ?2, ?3, ?4)",
                )?;
                let mut body = Vec::new();
                let mut last = None;
                for (key, version, lease) in self.recent.rows_behind(behind).take(most) {
                    body.clear();
                    put_row(&mut body, key, &version, lease);
                    put.execute((&key[..], row::number(version.own), row::number(version.peer), &body))?;
                    last = Some(*key);
                }
                Ok(last.map_or(Stage::Gone(0), |key| Stage::Rows(Some(key))))
            }
            Stage::Gone(from) => {
                let mut at = from;
                while at < self.gone.len() && at - from < most {
                    at = self.remove(db, at)?;
                }
                Ok(if at == self.gone.len() { Stage::Events(0) } else { Stage::Gone(at) })
            }
            Stage::Events(from) => {
                let mut writer = Writer::default();
                for (entry, octets) in self.recent.events_from(from, SEGMENT) {
                    writer.add(db, &entry?, octets)?;
                }
                segments::close(db, &mut writer, segments::next_id(db)?)?;
                let next = from + SEGMENT;
                Ok(if next < self.recent.len() { Stage::Events(next) } else { Stage::Mark })
            }
            Stage::Mark => {
                put_number(db, HEAD, self.upto)?;
                put_number(db, FOLDED, self.upto)?;
                Ok(Stage::Log)
            }
            Stage::Log => {
                let went = db
                    .prepare_cached(
                        "DELETE FROM log WHERE id IN (SELECT id FROM log WHERE id <= ?1 ORDER BY id LIMIT ?2)",
                    )?
                    .execute((row::number(self.upto), row::number(GROUPS as u64)))?;
                Ok(if went < GROUPS { Stage::Over } else { Stage::Log })
            }
            Stage::Over => Ok(Stage::Over),
        }
    }

    /// Removes the events of the block that number `at` of those that go is in; what is left begins where.
    fn remove(&self, db: &Connection, at: usize) -> rusqlite::Result<usize> {
        let Some((id, blob)) = segments::block_of(db, self.gone[at])? else { return Ok(at + 1) };
        let (mut next, mut last) = (at, 0);
        segments::rewrite(db, id, super::octets::open_blob(&blob)?, &mut |entry| {
            last = entry.id;
            while self.gone.get(next).is_some_and(|gone| *gone < entry.id) {
                next += 1;
            }
            Ok(self.gone.get(next) == Some(&entry.id))
        })?;
        // What was not in the block is gone already.
        let was_last = self.gone.get(next) == Some(&last);
        Ok((next + usize::from(was_last)).max(at + 1))
    }
}

impl Store {
    /// Events that are in the log and not in the tables.
    pub(super) fn unfolded(&self) -> usize {
        self.recent.len() + self.fold.as_ref().map_or(0, |f| f.recent.len())
    }

    /// True if there is something to fold or to merge: always when it is being done, and otherwise when there is so much
    /// that it must be, or less and `idle`.
    #[must_use]
    pub fn is_untidy(&self, idle: bool, now: UnixSeconds) -> bool {
        self.may_merge || self.has_to_fold(idle, now)
    }

    fn has_to_fold(&self, idle: bool, now: UnixSeconds) -> bool {
        let recent = &self.recent;
        let old = || recent.first_at().is_some_and(|at| now.saturating_sub(at) >= OLD);
        self.fold.is_some()
            || recent.len() >= MOST.0
            || recent.octets() >= MOST.1
            || idle && (recent.len() >= IDLE || old())
    }

    /// True if the log grows faster than it is folded: a larger part of the time is due.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.fold.is_some() && (self.recent.len() >= MOST.0 || self.recent.octets() >= MOST.1)
    }

    /// Folds a slice of about `most` leases or events; or, if nothing is being folded that has to be, merges a slice of
    /// history's segments. True if there is more of what is being done.
    ///
    /// # Errors
    /// As [`Store::fold`] and [`Store::merge`].
    pub fn tidy(&mut self, most: usize, idle: bool, now: UnixSeconds) -> Result<bool, StoreError> {
        if self.has_to_fold(idle, now) { self.fold(most) } else { self.merge(most) }
    }

    /// Folds a slice of about `most` leases or events. True if there is more of what is being folded.
    ///
    /// # Errors
    /// [`StoreError`]; what was folded before is, and the rest can be tried again.
    pub fn fold(&mut self, most: usize) -> Result<bool, StoreError> {
        if self.fold.is_none() {
            let recent = std::mem::take(&mut self.recent);
            self.fold = Fold::new(recent);
        }
        let Some(fold) = self.fold.take() else { return Ok(false) };
        let done = self.write_behind(|store| fold.slice(&store.db, store.folded, most.max(1)));
        self.checkpoints.wrote(0, fold.pages(most));
        let fold = self.fold.insert(fold);
        match done {
            Err(e) => Err(self.error(e)),
            Ok(stage) => {
                fold.stage = stage;
                if fold.is_marked() {
                    self.folded = fold.upto;
                }
                if fold.stage == Stage::Over {
                    self.fold = None;
                    self.may_merge = true;
                }
                Ok(self.fold.is_some())
            }
        }
    }

    /// Folds everything.
    pub(super) fn fold_all(&mut self) -> Result<(), StoreError> {
        while self.unfolded() > 0 {
            while self.fold(1024)? {}
        }
        Ok(())
    }

    /// Runs `work` in a transaction that is on disk when the next commit is.
    pub(super) fn write_behind<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.db.pragma_update(None, "synchronous", "NORMAL")?;
        let done = self.write(work);
        let full = self.db.pragma_update(None, "synchronous", "FULL");
        // Without it nothing is promised any more: the error counts.
        full.and(done)
    }
}

/// Removes what a fold left in history that did not come to its end: the log has it.
fn remove_unfinished(db: &Connection, folded: u64) -> rusqlite::Result<()> {
    let folded = row::number(folded);
    db.execute("DELETE FROM log WHERE id <= ?1", [folded])?;
    db.execute("DELETE FROM history WHERE id > ?1", [folded])?;
    db.execute("UPDATE segments SET live = 0 WHERE last > ?1", [folded])?;
    Ok(())
}
