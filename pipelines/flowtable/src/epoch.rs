//! Epochs: when a slot that was taken out of the index may be used again.
//!
//! A reader announces the epoch that it saw when it enters, and nothing when it leaves. The epoch moves
//! on when every reader inside has announced the present one. A slot retired in epoch `e` was unlinked
//! before anybody announced `e + 1` could look, so when the epoch is `e + 2` nobody can hold it.

use crate::sync::{AtomicU64, Ordering, fence};
use crossbeam::utils::CachePadded;
use std::cell::Cell;

/// The epoch and its readers.
#[derive(Debug)]
pub(crate) struct Epochs {
    global: CachePadded<AtomicU64>,
    /// Epoch shifted left by one, plus one, while inside; zero outside.
    readers: Box<[CachePadded<AtomicU64>]>,
}

impl Epochs {
    pub(crate) fn new(readers: usize) -> Self {
        Self {
            global: CachePadded::new(AtomicU64::new(2)),
            readers: (0..readers).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
        }
    }

    /// Reader `id` enters.
    #[inline]
    pub(crate) fn enter(&self, id: usize) {
        let e = self.global.load(Ordering::Relaxed);
        announce(&self.readers[id], e << 1 | 1);
    }

    /// Reader `id` leaves.
    #[inline]
    pub(crate) fn leave(&self, id: usize) {
        self.readers[id].store(0, Ordering::Release);
    }

    /// The epoch in which something that was just unlinked is retired.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        fence(Ordering::SeqCst);
        self.global.load(Ordering::SeqCst)
    }

    /// Moves the epoch on if every reader inside has seen the present one; gives the epoch.
    pub(crate) fn advance(&self) -> u64 {
        let e = self.global.load(Ordering::SeqCst);
        fence(Ordering::SeqCst);
        for r in &self.readers {
            let seen = r.load(Ordering::Acquire);
            if seen & 1 != 0 && seen >> 1 != e {
                return e;
            }
        }
        fence(Ordering::Acquire);
        match self.global.compare_exchange(e, e + 1, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => e + 1,
            Err(now) => now,
        }
    }
}

/// Stores `v` so that it is seen before anything that the reader looks at from now on.
#[inline(always)]
fn announce(reader: &AtomicU64, v: u64) {
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    {
        // On this processor an exchange is a full barrier, and cheaper than the fence: loads behind it
        // may begin before it is done. The compiler must not move them either.
        reader.swap(v, Ordering::SeqCst);
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, miri)))))]
    {
        reader.store(v, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

/// Retired slots of one worker, oldest first. Never grows.
#[derive(Debug)]
pub(crate) struct RetireRing {
    /// Slot number with its kind, and the low half of the epoch.
    entries: Box<[Cell<(u32, u32)>]>,
    first: Cell<usize>,
    len: Cell<usize>,
}

impl RetireRing {
    /// Room for `capacity` entries, a power of two.
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity.is_power_of_two());
        Self {
            entries: (0..capacity).map(|_| Cell::new((0, 0))).collect(),
            first: Cell::new(0),
            len: Cell::new(0),
        }
    }

    /// How many more fit.
    #[inline]
    pub(crate) const fn room(&self) -> usize {
        self.entries.len() - self.len.get()
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.len.get() == 0
    }

    /// Adds an entry; the caller has checked [`RetireRing::room`].
    #[inline]
    pub(crate) fn push(&self, what: u32, epoch: u64) {
        debug_assert!(self.room() > 0);
        let at = (self.first.get() + self.len.get()) & (self.entries.len() - 1);
        self.entries[at].set((what, epoch as u32));
        self.len.set(self.len.get() + 1);
    }

    /// Takes the oldest entry if it is two epochs old.
    #[inline]
    pub(crate) fn pop(&self, epoch: u64) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let (what, at) = self.entries[self.first.get()].get();
        if (epoch as u32).wrapping_sub(at) < 2 {
            return None;
        }
        self.first.set((self.first.get() + 1) & (self.entries.len() - 1));
        self.len.set(self.len.get() - 1);
        Some(what)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_reader_inside_holds_the_epoch_back_after_one_step() {
        let e = Epochs::new(2);
        let start = e.now();
        e.enter(0);
        assert_eq!(e.advance(), start + 1);
        assert_eq!(e.advance(), start + 1, "reader 0 has not seen it");
        e.leave(0);
        e.enter(1);
        assert_eq!(e.advance(), start + 2);
        assert_eq!(e.advance(), start + 2);
        e.leave(1);
        assert_eq!(e.advance(), start + 3);
    }

    #[test]
    fn the_ring_gives_back_after_two_epochs_in_order_also_when_the_epoch_wraps() {
        for base in [5u64, u64::from(u32::MAX) - 1] {
            let r = RetireRing::new(4);
            for (i, age) in [(7, 0), (8, 0), (9, 1)] {
                r.push(i, base + age);
            }
            assert_eq!(r.room(), 1);
            assert_eq!(r.pop(base + 1), None);
            assert_eq!(r.pop(base + 2), Some(7));
            assert_eq!(r.pop(base + 2), Some(8));
            assert_eq!(r.pop(base + 2), None);
            r.push(10, base + 2);
            r.push(11, base + 2);
            r.push(12, base + 2);
            assert_eq!(r.room(), 0);
            assert_eq!(r.pop(base + 4), Some(9));
            assert_eq!(r.pop(base + 4), Some(10));
            assert_eq!(r.pop(base + 4), Some(11));
            assert_eq!(r.pop(base + 4), Some(12));
            assert!(r.is_empty());
        }
    }
}
