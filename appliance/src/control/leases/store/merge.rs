//! Segments of history become fewer: neighbours of about a size are merged to one, without the events that are gone.
//!
//! As folding makes a segment for some thousands of events, whoever looks for an address would have to look into ever
//! more of them. With [`FANOUT`] to one, each event is written again once for each factor of that.
//!
//! The new segment has a row from the beginning on, in which it counts as empty: should the merge not come to its end,
//! its blocks are removed as those of any empty segment are. Slices are as those of folding.

use super::octets::{Entry, open_blob};
use super::segments::{self, Block, Index, IndexWriter, Segment};
use super::{Store, StoreError, row};
use rusqlite::Connection;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// So many segments become one, at least.
const FANOUT: usize = 8;
/// Numbers of events between the first and the last that is merged, at most: there is a bit for each.
const RANGE: u64 = 1 << 27;
/// Entries that are as much work as a row.
const ENTRIES: usize = 8;

/// A merge.
#[derive(Debug)]
pub(super) struct Merge {
    from: Vec<Segment>,
    /// The new one.
    into: Segment,
    /// Events that are there, by number from that of the first one on.
    live: Vec<u64>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Blocks of history from this row on come next.
    Live(i64),
    Write(Index, Box<Run>),
    End,
}

/// Entries of all segments in their order.
#[derive(Debug)]
struct Run {
    heap: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    /// Of each segment the block, the number of the next entry in it, and the number of the next block.
    places: Vec<(Option<Block>, usize, i64)>,
    writer: IndexWriter,
}

/// The factor of [`FANOUT`] that a segment is in.
fn class(segment: &Segment) -> u32 {
    (segment.live / (1 << 14)).max(1).ilog(FANOUT as u64)
}

/// Neighbours that are to be one.
fn choose(all: &[Segment]) -> Option<Vec<Segment>> {
    for most in 0..16 {
        for run in all.split(|s| class(s) > most) {
            let run = &run[..run.len().min(2 * FANOUT)];
            if let (true, Some(first), Some(last)) = (run.len() >= FANOUT, run.first(), run.last())
                && last.last - first.first < RANGE
            {
                return Some(run.to_vec());
            }
        }
    }
    None
}

impl Merge {
    fn new(db: &Connection, folded: u64) -> rusqlite::Result<Option<Self>> {
        let Some(from) = choose(&segments::all(db, folded)?) else { return Ok(None) };
        let (first, last) = (from[0].first, from[from.len() - 1].last);
        let blocks = |index| from.iter().map(|s| s.blocks(index)).sum();
        let id = segments::next_id(db)?;
        let (addresses, macs) = (blocks(Index::Address), blocks(Index::Mac));
        let into = Segment { id, first, last, live: 0, addresses, macs };
        into.put(db)?;
        let words = usize::try_from((last - first) / 64 + 1).unwrap_or(1);
        Ok(Some(Self { from, into, live: vec![0; words], stage: Stage::Live(row::number(first)) }))
    }

    /// Number of the new segment.
    pub(super) const fn id(&self) -> i64 {
        self.into.id
    }

    fn place(&self, id: u64) -> Option<(usize, u64)> {
        let n = id.checked_sub(self.into.first)?;
        let word = usize::try_from(n / 64).ok()?;
        (word < self.live.len()).then_some((word, 1 << (n % 64)))
    }

    /// Does about `most` rows' worth of it; true if that was all.
    fn slice(&mut self, db: &Connection, most: usize) -> rusqlite::Result<bool> {
        match std::mem::replace(&mut self.stage, Stage::End) {
            Stage::Live(from) => {
                let mut find = db.prepare_cached(
                    "SELECT id, body FROM history WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3",
                )?;
                let mut rows = find.query((from, row::number(self.into.last), row::number(most as u64)))?;
                let mut next = None;
                while let Some(r) = rows.next()? {
                    let mut rest = open_blob(r.get_ref(1)?.as_blob()?)?;
                    while !rest.is_empty() {
                        let (entry, _) = Entry::take(&mut rest)?;
                        if let Some((word, bit)) = self.place(entry.id) {
                            self.live[word] |= bit;
                        }
                    }
                    next = Some(r.get::<_, i64>(0)?.saturating_add(1));
                }
                self.stage = match next {
                    Some(next) => Stage::Live(next),
                    None => Stage::Write(Index::Address, Box::new(self.run(db, Index::Address)?)),
                };
            }
            Stage::Write(index, mut run) => {
                let mut left = true;
                for _ in 0..most * ENTRIES {
                    let Some(entry) = run.next(db, &self.from, index)? else {
                        left = false;
                        break;
                    };
                    let live = self.place(segments::end_of(&entry).1);
                    if live.is_some_and(|(word, bit)| self.live[word] & bit != 0) {
                        run.writer.add(db, &entry)?;
                    }
                }
                self.stage = match (left, index) {
                    (true, _) => Stage::Write(index, run),
                    (false, Index::Address) => {
                        self.into.addresses = run.writer.end(db)?;
                        Stage::Write(Index::Mac, Box::new(self.run(db, Index::Mac)?))
                    }
                    (false, Index::Mac) => {
                        self.into.macs = run.writer.end(db)?;
                        Stage::End
                    }
                };
            }
            Stage::End => {
                segments::replace(db, &self.from, &self.into)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn run(&self, db: &Connection, index: Index) -> rusqlite::Result<Run> {
        let mut run = Run {
            heap: BinaryHeap::new(),
            places: self.from.iter().map(|_| (None, 0, 0)).collect(),
            writer: IndexWriter::new(index, self.into.id),
        };
        for n in 0..self.from.len() {
            run.refill(db, &self.from, index, n)?;
        }
        Ok(run)
    }
}

impl Run {
    fn next(&mut self, db: &Connection, from: &[Segment], index: Index) -> rusqlite::Result<Option<Vec<u8>>> {
        let Some(Reverse((entry, n))) = self.heap.pop() else { return Ok(None) };
        self.refill(db, from, index, n)?;
        Ok(Some(entry))
    }

    /// Puts the next entry of a segment in its place among the others.
    fn refill(&mut self, db: &Connection, from: &[Segment], index: Index, n: usize) -> rusqlite::Result<()> {
        let (block, at, next) = &mut self.places[n];
        loop {
            if let Some(entry) = block.as_ref().and_then(|b| b.get(*at)) {
                self.heap.push(Reverse((entry.to_vec(), n)));
                *at += 1;
                return Ok(());
            }
            if *next == from[n].blocks(index) {
                return Ok(());
            }
            (*block, *at) = (Some(from[n].block(db, index, *next)?), 0);
            *next += 1;
        }
    }
}

impl Store {
    /// Merges a slice of about `most` rows' worth of segments of history, if there are too many of them. True if there
    /// is more to do.
    ///
    /// # Errors
    /// [`StoreError`]; what was being merged is as it was.
    pub fn merge(&mut self, most: usize) -> Result<bool, StoreError> {
        let folded = self.folded;
        let mut merge = self.merge.take();
        let done = self.write_behind(|store| {
            if merge.is_none() {
                merge = Merge::new(&store.db, folded)?;
            }
            merge.as_mut().map(|merge| merge.slice(&store.db, most.max(1))).transpose()
        });
        self.checkpoints.wrote(0, most * ENTRIES / 128 + 1);
        let done = done.map_err(|e| self.error(e))?;
        self.merge = merge.filter(|_| done == Some(false));
        // After one has ended there may be another.
        self.may_merge = done.is_some();
        Ok(self.may_merge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(live: &[u64]) -> Vec<Segment> {
        let one = |(n, live): (usize, &u64)| {
            let first = n as u64 * 10 + 1;
            Segment {
                id: i64::try_from(n).unwrap(),
                first,
                last: first + 9,
                live: *live,
                addresses: 1,
                macs: 1,
            }
        };
        live.iter().enumerate().map(one).collect()
    }

    fn chosen(live: &[u64]) -> Option<Vec<i64>> {
        choose(&all(live)).map(|chosen| chosen.iter().map(|s| s.id).collect())
    }

    #[test]
    fn neighbours_of_about_a_size_are_chosen() {
        const K: u64 = 1 << 14;
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[K; 7]), None);
        assert_eq!(chosen(&[K; 8]), Some((0..8).collect()));
        assert_eq!(chosen(&[K; 20]), Some((0..16).collect()), "not all at once");
        // Large ones are left alone for as long as there are few of them, and small ones behind them too.
        let mut live = vec![8 * K; 7];
        live.extend([5; 7]);
        assert_eq!(chosen(&live), Some((0..14).collect()), "those that are hardly anything go with others");
        live.extend([1, 2]);
        assert_eq!(chosen(&live), Some((7..16).collect()));
        assert_eq!(chosen(&[9 * K, 80 * K, 700 * K, K, K]), None);
    }
}
