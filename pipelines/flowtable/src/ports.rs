//! The ports of one address and protocol: a shared bitmap without locks and without a partition among
//! workers.
//!
//! ```text
//!  used     1024 words x 64 ports, bit set = taken
//!  full[p]    16 words x 64 bits, bit set = every port of parity p in that word of `used` is taken
//! ```
//! The two summaries bound the cost of [`PortBitmap::alloc`] also when nothing, or nothing of one
//! parity, is left (RFC 4787 4.2.2 lets a NAT keep the parity of a port): at most 32 summary words are
//! read and each word of `used` that the summary calls open.
//!
//! Ports are picked from a random start (RFC 6056 3.3.1); the caller brings the randomness.

use crate::prefetch::prefetch_read_at;
use crate::sync::{AtomicU32, AtomicU64, Ordering, total_order};
use std::ops::RangeInclusive;

const WORDS: usize = if cfg!(loom) { 64 } else { 1024 };
const SUMMARY: usize = WORDS / 64;
const EVEN: u64 = 0x5555_5555_5555_5555;

/// Parity of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parity {
    /// Divisible by two.
    Even,
    /// Not divisible by two.
    Odd,
}

impl Parity {
    /// The parity of `port`.
    #[inline]
    #[must_use]
    pub const fn of(port: u16) -> Self {
        if port & 1 == 0 { Self::Even } else { Self::Odd }
    }

    const fn mask(self) -> u64 {
        match self {
            Self::Even => EVEN,
            Self::Odd => !EVEN,
        }
    }
}

/// A set of the 65,536 ports of one address and protocol. All methods may be called from any thread.
#[derive(Debug)]
pub struct PortBitmap {
    used: Box<[AtomicU64]>,
    full: [Box<[AtomicU64]>; 2],
    /// Ports that were given back but must rest: one set that is being filled, one that rests longer.
    cooling: [Box<[AtomicU64]>; 2],
    /// Which set of `cooling` is being filled.
    filling: AtomicU32,
    in_use: AtomicU32,
}

impl Default for PortBitmap {
    fn default() -> Self {
        Self::new()
    }
}

/// The port that a search begins at; the range is not empty.
#[inline(always)]
fn start(random: u64, range: &RangeInclusive<u16>) -> u32 {
    let (lo, hi) = (u32::from(*range.start()), u32::from(*range.end()));
    let n = u64::from(hi.saturating_sub(lo)) + 1;
    lo + (((random >> 32) * n) >> 32) as u32
}

fn zeros(n: usize) -> Box<[AtomicU64]> {
    (0..n).map(|_| AtomicU64::new(0)).collect()
}

impl PortBitmap {
    /// All ports free. Takes 24.5 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self {
            used: zeros(WORDS),
            full: [zeros(SUMMARY), zeros(SUMMARY)],
            cooling: [zeros(WORDS), zeros(WORDS)],
            filling: AtomicU32::new(0),
            in_use: AtomicU32::new(0),
        }
    }

    /// Takes a free port in `range`, of `parity` if that is given; nothing if there is none (or, rarely,
    /// if other threads took every free port in its way).
    ///
    /// The search begins at a port that `random` chooses evenly from the range and goes upwards, around
    /// the end of the range. All 64 bits of `random` should be unpredictable (RFC 6056 3.3).
    #[inline]
    pub fn alloc(&self, random: u64, range: RangeInclusive<u16>, parity: Option<Parity>) -> Option<u16> {
        let (lo, hi) = (u32::from(*range.start()), u32::from(*range.end()));
        if lo > hi {
            return None;
        }
        let start = start(random, &range);
        let turn = random as u32;
        let want = parity.map_or(u64::MAX, Parity::mask);
        let (first, last) = (word_of(lo), word_of(hi));
        let begin = word_of(start);
        // From the start to the end of the range, then from its beginning to the start.
        if let Some(p) = self.take_in(begin, lo, hi, want, start & 63) {
            return Some(p);
        }
        let mut at = begin + 1;
        while let Some(w) = self.open_word(at, last, want) {
            if let Some(p) = self.take_in(w, lo, hi, want, turn & 63) {
                return Some(p);
            }
            at = w + 1;
        }
        let mut at = first;
        while let Some(w) = self.open_word(at, begin, want) {
            if let Some(p) = self.take_in(w, lo, hi, want, turn & 63) {
                return Some(p);
            }
            at = w + 1;
        }
        None
    }

    /// Brings close the word that [`PortBitmap::alloc`] with the same arguments begins at.
    #[inline]
    pub fn expect(&self, random: u64, range: &RangeInclusive<u16>) {
        prefetch_read_at(&self.used, word_of(start(random, range)));
    }

    /// Takes exactly `port`; false if it is taken already. For static mappings.
    pub fn take(&self, port: u16) -> bool {
        let (w, bit) = place(port);
        let before = self.used[w].fetch_or(bit, Ordering::SeqCst);
        if before & bit != 0 {
            return false;
        }
        self.in_use.fetch_add(1, Ordering::Relaxed);
        self.note_full(w, before | bit);
        true
    }

    /// Makes exactly `port` taken, whether it is free, rests, or is taken already. For static mappings that
    /// the flow table has already.
    pub fn claim(&self, port: u16) {
        let (w, bit) = place(port);
        for set in &self.cooling {
            set[w].fetch_and(!bit, Ordering::SeqCst);
        }
        self.take(port);
    }

    /// Gives a port back at once. Returns false if it was not taken.
    pub fn free(&self, port: u16) -> bool {
        let (w, bit) = place(port);
        self.free_bits(w, bit) == 1
    }

    /// Gives a port back that nobody may take before two calls of [`PortBitmap::rotate`] (so it rests for
    /// one to two of the caller's periods). Until then it counts as in use. Returns false if it was not
    /// taken or rests already.
    pub fn free_held(&self, port: u16) -> bool {
        let (w, bit) = place(port);
        if self.used[w].load(Ordering::SeqCst) & bit == 0 {
            return false;
        }
        let filling = (self.filling.load(Ordering::SeqCst) & 1) as usize;
        if self.cooling[1 - filling][w].load(Ordering::SeqCst) & bit != 0 {
            return false;
        }
        self.cooling[filling][w].fetch_or(bit, Ordering::SeqCst) & bit == 0
    }

    /// Frees the ports that have rested since before the last call; returns how many. One caller at a time.
    pub fn rotate(&self) -> u32 {
        let filling = (self.filling.load(Ordering::SeqCst) & 1) as usize;
        let mut freed = 0;
        for (w, set) in self.cooling[1 - filling].iter().enumerate() {
            if set.load(Ordering::Relaxed) != 0 {
                freed += self.free_bits(w, set.swap(0, Ordering::SeqCst));
            }
        }
        self.filling.store(u32::from(filling == 0), Ordering::SeqCst);
        freed
    }

    /// Ends the rest of the ports of `range` early; returns how many. Each is freed once, whoever else
    /// rotates at the same time. Reads each word of the range.
    pub fn end_rest(&self, range: RangeInclusive<u16>) -> u32 {
        let (lo, hi) = (u32::from(*range.start()), u32::from(*range.end()));
        let mut freed = 0;
        for w in word_of(lo)..=word_of(hi) {
            let bits = within(w, lo, hi);
            for set in &self.cooling {
                if set[w].load(Ordering::SeqCst) & bits != 0 {
                    let rested = set[w].fetch_and(!bits, Ordering::SeqCst) & bits;
                    freed += self.free_bits(w, rested);
                }
            }
        }
        freed
    }

    /// True if `port` is taken or resting.
    #[must_use]
    pub fn is_taken(&self, port: u16) -> bool {
        let (w, bit) = place(port);
        self.used[w].load(Ordering::Acquire) & bit != 0
    }

    /// True if any port of `range` is taken and does not rest. Reads each word of the range.
    #[must_use]
    pub fn any_live(&self, range: RangeInclusive<u16>) -> bool {
        let (lo, hi) = (u32::from(*range.start()), u32::from(*range.end()));
        (word_of(lo)..=word_of(hi)).any(|w| {
            let resting: u64 = self.cooling.iter().map(|c| c[w].load(Ordering::SeqCst)).fold(0, |a, b| a | b);
            self.used[w].load(Ordering::SeqCst) & !resting & within(w, lo, hi) != 0
        })
    }

    /// How many ports are taken or resting.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::Relaxed)
    }

    fn free_bits(&self, w: usize, bits: u64) -> u32 {
        let before = self.used[w].fetch_and(!bits, Ordering::SeqCst);
        total_order();
        // The summary is cleared after the word: whoever sets it late looks at the word again.
        for (full, parity) in self.full.iter().zip([EVEN, !EVEN]) {
            let s = &full[w / 64];
            if bits & parity != 0 && s.load(Ordering::SeqCst) >> (w % 64) & 1 != 0 {
                s.fetch_and(!(1 << (w % 64)), Ordering::SeqCst);
            }
        }
        let freed = (before & bits).count_ones();
        self.in_use.fetch_sub(freed, Ordering::Relaxed);
        freed
    }

    /// Takes a port of word `w` within the bounds, preferring bits from `turn` upwards.
    #[inline]
    fn take_in(&self, w: usize, lo: u32, hi: u32, want: u64, turn: u32) -> Option<u16> {
        let base = u32::try_from(w).ok()? * 64;
        let mut allowed = want & within(w, lo, hi);
        let mut now = self.used[w].load(Ordering::SeqCst);
        loop {
            let free = !now & allowed;
            if free == 0 {
                self.note_full(w, now);
                return None;
            }
            let upwards = free & (u64::MAX << turn);
            let bit = if upwards != 0 { upwards.trailing_zeros() } else { free.trailing_zeros() };
            let before = self.used[w].fetch_or(1 << bit, Ordering::SeqCst);
            if before >> bit & 1 == 0 {
                self.in_use.fetch_add(1, Ordering::Relaxed);
                self.note_full(w, before | 1 << bit);
                return u16::try_from(base + bit).ok();
            }
            // Somebody took it first. Each turn of the loop sees at least one port more taken, unless
            // others free in between; giving up after 64 keeps it bounded.
            now = before;
            allowed &= !(1 << bit);
        }
    }

    /// The first word from `from` to `to`, both included, that the summary does not call full.
    #[inline]
    fn open_word(&self, from: usize, to: usize, want: u64) -> Option<usize> {
        if from > to {
            return None;
        }
        let mut skip = u64::MAX << (from % 64);
        for s in from / 64..=to / 64 {
            let even = self.full[0][s].load(Ordering::SeqCst);
            let odd = self.full[1][s].load(Ordering::SeqCst);
            let closed = match want {
                EVEN => even,
                u64::MAX => even & odd,
                _ => odd,
            };
            let open = !closed & skip;
            if open != 0 {
                let w = s * 64 + open.trailing_zeros() as usize;
                return (w <= to).then_some(w);
            }
            skip = u64::MAX;
        }
        None
    }

    /// Keeps the summary: `now` is what the word was seen to hold.
    #[inline]
    fn note_full(&self, w: usize, now: u64) {
        for (full, parity) in self.full.iter().zip([EVEN, !EVEN]) {
            if now & parity != parity {
                continue;
            }
            let (s, bit) = (&full[w / 64], 1u64 << (w % 64));
            if s.load(Ordering::SeqCst) & bit != 0 {
                continue;
            }
            s.fetch_or(bit, Ordering::SeqCst);
            total_order();
            // A port may have come back between the look at the word and the mark: look again, else the
            // port would stay unseen.
            if self.used[w].load(Ordering::SeqCst) & parity != parity {
                s.fetch_and(!bit, Ordering::SeqCst);
            }
        }
    }
}

/// The bits of word `w` that are ports from `lo` to `hi`. The word holds at least one of them.
#[inline(always)]
fn within(w: usize, lo: u32, hi: u32) -> u64 {
    let base = (w * 64) as u32;
    let mut bits = u64::MAX;
    if lo > base {
        bits &= u64::MAX << (lo - base).min(63);
    }
    if hi < base + 63 {
        bits &= u64::MAX >> (base + 63 - hi).min(63);
    }
    bits
}

#[inline(always)]
const fn word_of(port: u32) -> usize {
    (port >> 6) as usize
}

#[inline(always)]
fn place(port: u16) -> (usize, u64) {
    (usize::from(port >> 6), 1 << (port & 63))
}

#[cfg(all(test, not(loom)))]
mod tests;
