//! Counts, one set for each worker, and their sum.

use crate::memory::Pages;
use crate::sync::{AtomicU64, Ordering};

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Count {
    SessionsCreated,
    SessionsEnded,
    MappingsCreated,
    MappingsEnded,
    RacesLost,
    NoSlot,
    IndexFull,
    EndRefused,
    Starved,
}

const COUNTS: usize = Count::Starved as usize + 1;

/// Counts of one worker; only that worker writes them.
#[derive(Debug, Default)]
pub(crate) struct Counts([AtomicU64; COUNTS]);

impl Counts {
    #[inline]
    pub(crate) fn add(&self, c: Count) {
        let w = &self.0[c as usize];
        w.store(w.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, c: Count) -> u64 {
        self.0[c as usize].load(Ordering::Relaxed)
    }
}

/// Sizes and counts of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Sessions that fit.
    pub session_capacity: u32,
    /// Mappings that fit.
    pub mapping_capacity: u32,
    /// Spliced flows that fit.
    pub spliced_capacity: u32,
    /// Sessions now.
    pub sessions: u64,
    /// Mappings now.
    pub mappings: u64,
    /// Sessions created since the start.
    pub sessions_created: u64,
    /// Sessions ended since the start.
    pub sessions_ended: u64,
    /// Mappings created since the start.
    pub mappings_created: u64,
    /// Mappings ended since the start.
    pub mappings_ended: u64,
    /// Creations given up because another worker had the key first.
    pub races_lost: u64,
    /// Creations refused because no slot was free.
    pub no_slot: u64,
    /// Creations refused because no index word was free for a key.
    pub index_full: u64,
    /// Endings put off because the worker's ring of retired slots was full.
    pub end_refused: u64,
    /// Creations refused although retired slots waited: a reader stayed inside too long.
    pub starved: u64,
    /// Octets taken from the kernel.
    pub octets: u64,
    /// What kind of pages the largest parts got, the worst of them.
    pub pages: Pages,
}
