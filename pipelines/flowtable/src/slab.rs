//! Type-stable slots and the free ones among them.
//!
//! Free slots hang together in batches: each slot's link word holds the next slot of its batch (low
//! half) and, in the first slot, the next batch (high half), both plus one so that zero ends a list.
//! The stack of batches has a version in its head word against ABA. A worker moves whole batches to and
//! from a cache of its own, so that the head is touched once in many allocations.

use crate::memory::{Region, Zeroed};
use crate::prefetch::prefetch_read_at;
use crate::sync::{AtomicU64, Ordering};
use crossbeam::utils::CachePadded;
use std::cell::Cell;

/// A slot type.
pub(crate) trait Slot: Zeroed {
    /// A word that is free for links while the slot is free.
    fn link(&self) -> &AtomicU64;
}

/// All slots of one type.
#[derive(Debug)]
pub(crate) struct Slab<T: Slot> {
    lines: Region<T>,
    /// Version in the high half, first slot of the first batch plus one in the low half.
    head: CachePadded<AtomicU64>,
    batch: u32,
}

const HALF: u64 = 0xffff_ffff;

#[inline(always)]
const fn low(w: u64) -> u32 {
    w as u32
}

impl<T: Slot> Slab<T> {
    /// `total` slots, all free, in batches of `batch`.
    pub(crate) fn new(total: u32, batch: u32) -> std::io::Result<Self> {
        let s = Self {
            lines: Region::new(total as usize)?,
            head: CachePadded::new(AtomicU64::new(0)),
            batch: batch.max(1),
        };
        // From the top, so that the lowest slots come first. This touches every slot: from here on no
        // page is missing.
        let mut end = total;
        while end > 0 {
            let first = (end - 1) / s.batch * s.batch;
            for i in first..end {
                let next = if i + 1 < end { i + 2 } else { 0 };
                s.lines[i as usize].link().store(u64::from(next), Ordering::Relaxed);
            }
            s.push(first);
            end = first;
        }
        Ok(s)
    }

    #[inline(always)]
    pub(crate) fn lines(&self) -> &Region<T> {
        &self.lines
    }

    /// A cache that suits the slab.
    pub(crate) fn cache(&self) -> Cache {
        Cache { slots: (0..self.batch * 2).map(|_| Cell::new(0)).collect(), len: Cell::new(0) }
    }

    /// Pushes a batch whose slots are linked already.
    fn push(&self, first: u32) {
        let link = self.lines[first as usize].link();
        let chain = link.load(Ordering::Relaxed) & HALF;
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            link.store(chain | u64::from(low(head)) << 32, Ordering::Relaxed);
            let new = ((head >> 32).wrapping_add(1) << 32) | u64::from(first + 1);
            match self.head.compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes a slot.
    #[inline]
    pub(crate) fn take(&self, cache: &Cache) -> Option<u32> {
        if cache.len.get() == 0 {
            self.refill(cache);
        }
        let n = cache.len.get().checked_sub(1)?;
        cache.len.set(n);
        if n > 0 {
            // The next one is wanted soon.
            prefetch_read_at(&self.lines, cache.slots[n as usize - 1].get() as usize);
        }
        Some(cache.slots[n as usize].get())
    }

    /// Brings the slot close that the cache gives out after `before` others.
    #[inline]
    pub(crate) fn expect(&self, cache: &Cache, before: usize) {
        if cache.len.get() as usize <= before && cache.len.get() < self.batch {
            self.refill(cache);
        }
        if let Some(n) = (cache.len.get() as usize).checked_sub(before + 1) {
            prefetch_read_at(&self.lines, cache.slots[n].get() as usize);
        }
    }

    /// Puts a batch into the cache, behind what it has, which is less than a batch.
    #[cold]
    fn refill(&self, cache: &Cache) {
        let mut head = self.head.load(Ordering::Acquire);
        let first = loop {
            let Some(first) = low(head).checked_sub(1) else { return };
            // If the batch is taken meanwhile this reads something else, and the version refuses it.
            let next = self.lines[first as usize].link().load(Ordering::Relaxed) >> 32;
            let new = ((head >> 32).wrapping_add(1) << 32) | next;
            match self.head.compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break first,
                Err(now) => head = now,
            }
        };
        let have = cache.len.get() as usize;
        let (mut at, mut end) = (Some(first), have);
        while let Some(slot) = at {
            cache.slots[end].set(slot);
            end += 1;
            at = low(self.lines[slot as usize].link().load(Ordering::Relaxed)).checked_sub(1);
        }
        // Turned round as a whole the new ones are below, lowest last, so that it is taken first; what was
        // there is turned back.
        turn(&cache.slots[..end]);
        turn(&cache.slots[end - have..end]);
        cache.len.set(end as u32);
    }

    /// Gives a slot back that nobody can see any more.
    #[inline]
    pub(crate) fn give(&self, cache: &Cache, slot: u32) {
        if cache.len.get() as usize == cache.slots.len() {
            self.spill(cache);
        }
        let n = cache.len.get();
        cache.slots[n as usize].set(slot);
        cache.len.set(n + 1);
    }

    /// Moves one batch, or what there is, from the cache to the stack.
    pub(crate) fn spill(&self, cache: &Cache) {
        let len = cache.len.get();
        let n = len.min(self.batch);
        if n == 0 {
            return;
        }
        let mut next = 0;
        for i in 0..n {
            let slot = cache.slots[(len - n + i) as usize].get();
            self.lines[slot as usize].link().store(next, Ordering::Relaxed);
            next = u64::from(slot + 1);
        }
        cache.len.set(len - n);
        self.push(low(next) - 1);
    }
}

/// Turns the order of cells round.
fn turn(cells: &[Cell<u32>]) {
    for i in 0..cells.len() / 2 {
        cells[i].swap(&cells[cells.len() - 1 - i]);
    }
}

/// Free slots that one worker keeps.
#[derive(Debug)]
pub(crate) struct Cache {
    slots: Box<[Cell<u32>]>,
    len: Cell<u32>,
}

impl Cache {
    /// How many slots are in it.
    #[cfg(all(test, not(loom)))]
    pub(crate) const fn len(&self) -> u32 {
        self.len.get()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    struct Word(AtomicU64);
    // SAFETY: zero is a valid atomic, which needs no drop.
    unsafe impl Zeroed for Word {}
    impl Slot for Word {
        fn link(&self) -> &AtomicU64 {
            &self.0
        }
    }

    #[test]
    fn every_slot_comes_once_lowest_first() {
        let s = Slab::<Word>::new(1000, 64).unwrap();
        let c = s.cache();
        assert_eq!((0..1000).map(|_| s.take(&c).unwrap()).collect::<Vec<_>>(), (0..1000).collect::<Vec<_>>());
        assert_eq!(s.take(&c), None);
        for i in 0..1000 {
            s.give(&c, i);
        }
        assert!(c.len() <= 128);
        let again: BTreeSet<u32> = (0..1000).map(|_| s.take(&c).unwrap()).collect();
        assert_eq!(again.len(), 1000);
        assert_eq!(s.take(&c), None);
    }

    #[test]
    fn expecting_a_slot_changes_no_order_and_loses_none() {
        let s = Slab::<Word>::new(300, 16).unwrap();
        let c = s.cache();
        let mut taken = Vec::new();
        while let Some(slot) = s.take(&c) {
            taken.push(slot);
            for before in [0, 7, 15, 100] {
                s.expect(&c, before);
            }
            assert!(c.len() < 32);
        }
        assert_eq!(taken, (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn threads_never_hold_the_same_slot_and_none_is_lost() {
        let s = Slab::<Word>::new(300, 16).unwrap();
        let held: Vec<_> = (0..300).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|t| {
            for id in 1..=3u64 {
                let (s, held) = (&s, &held);
                t.spawn(move || {
                    let c = s.cache();
                    let mut mine = Vec::new();
                    for round in 0..100_000u64 {
                        if (round * id) % 7 < 4 {
                            if let Some(slot) = s.take(&c) {
                                assert_eq!(held[slot as usize].swap(id, Ordering::Relaxed), 0);
                                mine.push(slot);
                            }
                        } else if let Some(slot) = mine.pop() {
                            assert_eq!(held[slot as usize].swap(0, Ordering::Relaxed), id);
                            s.give(&c, slot);
                        }
                    }
                    for slot in mine {
                        held[slot as usize].store(0, Ordering::Relaxed);
                        s.give(&c, slot);
                    }
                    while c.len() > 0 {
                        s.spill(&c);
                    }
                });
            }
        });
        let c = s.cache();
        let all: BTreeSet<u32> = std::iter::from_fn(|| s.take(&c)).collect();
        assert_eq!(all.len(), 300);
    }
}
