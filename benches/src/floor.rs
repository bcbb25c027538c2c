//! What memory alone costs, with the flow table's own layout: for each packet one random line of the
//! index is read, and the session line (64 octets) that it names is read and written.
//!
//! - Overlapped: bursts of 32; first all index lines are asked for, then all sessions, then the work.
//! - Dependent: one access after the other; each needs what the one before it read.

use crate::clocks::{Figure, Gather, Tsc};
use crate::{Rng, WINDOW};
use causeway_core::BURST;
use causeway_flowtable::Stats;
use causeway_flowtable::prefetch::prefetch_read_at;
use memmap2::{Advice, MmapMut};

/// Octets of a cache line, a bucket of the index, and a session.
const LINE: usize = 64;
/// Octets of a mapping.
const MAPPING: u64 = 48;

/// Clocks a packet.
#[derive(Debug, Clone, Copy)]
pub struct Floor {
    /// With the misses of a burst overlapped.
    pub overlapped: Figure,
    /// One miss after the other.
    pub dependent: Figure,
}

/// Memory as the flow table takes it: anonymous, with huge pages asked for.
fn lines(count: usize) -> MmapMut {
    let mut m = MmapMut::map_anon(count.max(1) * LINE).expect("memory");
    // Refused where the kernel has none: then the pages are small, as the table's are.
    let _ = m.advise(Advice::HugePage);
    m.fill(0);
    m
}

fn as_lines(m: &mut MmapMut) -> &mut [[u8; LINE]] {
    m.as_chunks_mut().0
}

fn word(line: &[u8; LINE], at: usize) -> usize {
    let mut w = [0; 8];
    w.copy_from_slice(&line[at * 8..at * 8 + 8]);
    u64::from_ne_bytes(w) as usize
}

/// Lines of the session index and sessions of a table with these statistics (and no spliced flows).
/// Both indexes have the same share of what is not sessions or mappings.
#[must_use]
pub fn lines_of(stats: &Stats) -> (usize, usize) {
    let sessions = u64::from(stats.session_capacity);
    let slabs = sessions * LINE as u64 + u64::from(stats.mapping_capacity) * MAPPING;
    let index = stats.octets.saturating_sub(slabs) / 2 / LINE as u64;
    (index as usize, sessions as usize)
}

/// Measures with so many lines of each kind in use.
#[must_use]
pub fn measure(tsc: &Tsc, index_lines: usize, session_lines: usize, bursts: usize) -> Floor {
    let (index_lines, session_lines) = (index_lines.max(1), session_lines.max(1));
    let (mut index, mut sessions) = (lines(index_lines), lines(session_lines));
    let (index, sessions) = (as_lines(&mut index), as_lines(&mut sessions));
    let mut rng = Rng(7);
    for line in index.iter_mut() {
        line[..8].copy_from_slice(&(rng.below(session_lines) as u64).to_ne_bytes());
    }
    let mut carry = 0;
    let mut burst = |dependent: bool| {
        let at: [usize; BURST] = std::array::from_fn(|_| rng.below(index_lines));
        let before = tsc.raw();
        if dependent {
            for at in at {
                // What was read before is zero, but the processor must wait for it to know.
                let slot = word(&index[at + carry], 0);
                let session = &mut sessions[slot];
                carry = word(session, 1);
                session[0] = session[0].wrapping_add(1);
            }
        } else {
            at.iter().for_each(|at| prefetch_read_at(index, *at));
            let slots = at.map(|at| {
                let slot = word(&index[at], 0);
                prefetch_read_at(sessions, slot);
                slot
            });
            for slot in slots {
                let session = &mut sessions[slot];
                carry = carry.wrapping_add(word(session, 1));
                session[0] = session[0].wrapping_add(1);
            }
        }
        tsc.raw() - before
    };
    let mut run = |dependent| {
        let mut gather = Gather::new(tsc.clone());
        for _ in 0..bursts / WINDOW {
            gather.window(WINDOW * BURST, || (0..WINDOW).map(|_| burst(dependent)).sum());
        }
        gather.figure()
    };
    Floor { overlapped: run(false), dependent: run(true) }
}

fn rollup(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

/// Octets of memory that this process has now.
#[must_use]
pub fn resident_octets() -> u64 {
    (rollup("Rss") * 1024.0) as u64
}

/// The size of pages that most of this process's memory is in, and the share of it in 2 MiB pages.
#[must_use]
pub fn pages() -> (&'static str, f64) {
    let small = rollup("Rss").max(1.0);
    let hugetlb = rollup("Private_Hugetlb") + rollup("Shared_Hugetlb");
    let share = (rollup("AnonHugePages") + hugetlb) / (small + hugetlb);
    let name = match share {
        s if s < 0.5 => "4KiB",
        _ if hugetlb > 0.0 => "2MiB-reserved",
        _ => "2MiB-transparent",
    };
    (name, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_one_after_the_other_cost_more_than_overlapped_ones() {
        // Far larger than any cache; the ratio is above 3 everywhere.
        let measured = || measure(&Tsc::new(), 1 << 18, 1 << 20, WINDOW * 100);
        // On a busy machine there may be no window in which nobody else ran.
        let seen = |f: &Floor| f.overlapped.min > 0.0 && f.dependent.min > 0.0;
        let floor = (0..20).map(|_| measured()).find(seen).expect("a quiet window");
        assert!(floor.dependent.min > floor.overlapped.min, "{floor:?}");
    }
}
