//! The table: its memory, its sizes, and who may use it.

use crate::epoch::{Epochs, RetireRing};
use crate::hash::Hasher;
use crate::index::{Index, WORDS};
use crate::mapping::{Mapping, MappingLine};
use crate::memory::Pages;
use crate::session::SessionLine;
use crate::slab::{Cache, Slab};
use crate::spliced::Spliced;
use crate::stats::{Count, Counts, Stats};
use crate::sync::AtomicU64;
use crossbeam::utils::CachePadded;
use std::sync::{Arc, Mutex, PoisonError};

/// Sizes of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Sessions that fit, 1 to 2^29.
    pub sessions: u32,
    /// Mappings that fit, 0 to 2^29.
    pub mappings: u32,
    /// Spliced flows that fit, 0 to 2^29.
    pub spliced: u32,
    /// Workers, 1 to 255.
    pub workers: u8,
    /// Readers besides the workers.
    pub control_readers: u8,
    /// Random: keeps strangers from aiming at buckets.
    pub seed: [u64; 4],
}

impl Config {
    /// Slots and batch size for `wanted` entries: some more, because caches and retired slots hold a few.
    fn slots(&self, wanted: u32) -> (u32, u32) {
        if wanted == 0 {
            return (0, 1);
        }
        let w = u32::from(self.workers);
        // In a small table caches must not hide most of the slots.
        let batch = (wanted / (w * 32).max(1)).clamp(1, BATCH);
        (wanted + w * (2 * batch + SPARE), batch)
    }

    /// Entries of a worker's ring of retired slots.
    fn ring(&self) -> usize {
        (self.sessions as usize / 8).next_power_of_two().clamp(RING.0, RING.1)
    }

    /// Octets that one one-to-one NAT64 flow takes when the table is full: its session, its mapping, and
    /// its share of both indexes, with all that is kept spare.
    #[must_use]
    pub fn octets_per_flow(&self) -> f64 {
        let share = |wanted: u32, line: usize| {
            let (slots, _) = self.slots(wanted);
            let (main, stash) = Index::sizes(u64::from(slots) * 2).unwrap_or_default();
            let index = f64::from(main + stash) * (WORDS * 8) as f64;
            (f64::from(slots) * line as f64 + index) / f64::from(wanted.max(1))
        };
        let rings = f64::from(self.workers) * (self.ring() * 8) as f64 / f64::from(self.sessions.max(1));
        share(self.sessions, 64) + share(self.mappings, 48) + rings
    }
}

/// The most slots of one kind.
pub const MAX_SLOTS: u32 = 1 << 29;

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A size is out of its range.
    #[error("{what} is {value}; it must be {min} to {max}")]
    Size {
        /// Which.
        what: &'static str,
        /// What it is.
        value: u32,
        /// The least allowed.
        min: u32,
        /// The most allowed.
        max: u32,
    },
    /// The kernel gave no memory.
    #[error("no memory for the flow table: {0}")]
    Memory(#[from] std::io::Error),
}

/// Entries of a worker's ring of retired slots, at least and at most: the ring bridges the time that
/// another worker is stalled inside, 16 ms at a million ended flows a second.
const RING: (usize, usize) = if cfg!(loom) { (32, 32) } else { (1024, 32768) };
/// Slots beyond the capacity for each worker, so that what waits to be used again is not missing.
const SPARE: u32 = if cfg!(loom) { 1 } else { 256 };
/// The largest batch of free slots.
const BATCH: u32 = if cfg!(loom) { 1 } else { 64 };

/// Free and retired slots of one worker. Kept in the table while nobody is that worker.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) sessions: Cache,
    pub(crate) mappings: Cache,
    pub(crate) spliced: Cache,
    pub(crate) ring: RetireRing,
}

/// All flows of the gateway. Shared by `Arc`; used through [`Worker`](crate::Worker) and
/// [`Reader`](crate::Reader).
pub struct FlowTable {
    pub(crate) hasher: Hasher,
    pub(crate) sessions: Slab<SessionLine>,
    pub(crate) session_index: Index,
    pub(crate) mappings: Slab<MappingLine>,
    pub(crate) mapping_index: Index,
    pub(crate) spliced: Slab<Spliced>,
    pub(crate) epochs: Epochs,
    pub(crate) session_cursor: CachePadded<AtomicU64>,
    pub(crate) mapping_cursor: CachePadded<AtomicU64>,
    pub(crate) counts: Box<[CachePadded<Counts>]>,
    pools: Box<[Mutex<Option<Pool>>]>,
    readers: Mutex<Vec<usize>>,
    config: Config,
}

impl std::fmt::Debug for FlowTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowTable").field("config", &self.config).finish_non_exhaustive()
    }
}

impl FlowTable {
    /// Takes all memory that the table will ever use, and touches it.
    ///
    /// # Errors
    /// A size out of range, or no memory.
    pub fn new(config: &Config) -> Result<Arc<Self>, TableError> {
        for (what, value, min, max) in [
            ("sessions", config.sessions, 1, MAX_SLOTS),
            ("mappings", config.mappings, 0, MAX_SLOTS),
            ("spliced", config.spliced, 0, MAX_SLOTS),
            ("workers", u32::from(config.workers), 1, 255),
        ] {
            if value < min || value > max {
                return Err(TableError::Size { what, value, min, max });
            }
        }
        let workers = usize::from(config.workers);
        let (sessions, mappings, spliced) =
            (config.slots(config.sessions), config.slots(config.mappings), config.slots(config.spliced));
        let table = Self {
            hasher: Hasher::new(config.seed),
            sessions: Slab::new(sessions.0, sessions.1)?,
            session_index: Index::new(u64::from(sessions.0) * 2)?,
            mappings: Slab::new(mappings.0, mappings.1)?,
            mapping_index: Index::new(u64::from(mappings.0) * 2)?,
            spliced: Slab::new(spliced.0, spliced.1)?,
            epochs: Epochs::new(workers + usize::from(config.control_readers)),
            session_cursor: CachePadded::new(AtomicU64::new(0)),
            mapping_cursor: CachePadded::new(AtomicU64::new(0)),
            counts: (0..workers).map(|_| CachePadded::default()).collect(),
            pools: (0..workers).map(|_| Mutex::new(None)).collect(),
            readers: Mutex::new((workers..workers + usize::from(config.control_readers)).rev().collect()),
            config: *config,
        };
        for p in &table.pools {
            let pool = Pool {
                sessions: table.sessions.cache(),
                mappings: table.mappings.cache(),
                spliced: table.spliced.cache(),
                ring: RetireRing::new(config.ring()),
            };
            *p.lock().unwrap_or_else(PoisonError::into_inner) = Some(pool);
        }
        Ok(Arc::new(table))
    }

    /// What it was made for.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The handle of worker `id` (below the configured number), unless somebody has it.
    #[must_use]
    pub fn worker(self: &Arc<Self>, id: u8) -> Option<crate::Worker> {
        let slot = self.pools.get(usize::from(id))?;
        let pool = slot.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(crate::Worker::new(Arc::clone(self), id, pool))
    }

    /// A handle that only reads, for control; nothing if all are in use.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Option<crate::Reader> {
        let id = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(crate::Reader::new(Arc::clone(self), id))
    }

    pub(crate) fn put_pool(&self, id: u8, pool: Pool) {
        *self.pools[usize::from(id)].lock().unwrap_or_else(PoisonError::into_inner) = Some(pool);
    }

    pub(crate) fn put_reader(&self, id: usize) {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    /// Sizes and counts. Counts of different workers are read one after another.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let sum = |c: Count| self.counts.iter().map(|w| w.get(c)).sum::<u64>();
        let octets = self.sessions.lines().octets()
            + self.session_index.octets()
            + self.mappings.lines().octets()
            + self.mapping_index.octets()
            + self.spliced.lines().octets();
        Stats {
            session_capacity: self.config.sessions,
            mapping_capacity: self.config.mappings,
            spliced_capacity: self.config.spliced,
            sessions: sum(Count::SessionsCreated).saturating_sub(sum(Count::SessionsEnded)),
            mappings: sum(Count::MappingsCreated).saturating_sub(sum(Count::MappingsEnded)),
            sessions_created: sum(Count::SessionsCreated),
            sessions_ended: sum(Count::SessionsEnded),
            mappings_created: sum(Count::MappingsCreated),
            mappings_ended: sum(Count::MappingsEnded),
            races_lost: sum(Count::RacesLost),
            no_slot: sum(Count::NoSlot),
            index_full: sum(Count::IndexFull),
            end_refused: sum(Count::EndRefused),
            starved: sum(Count::Starved),
            octets: octets as u64,
            pages: self.pages(),
        }
    }

    fn pages(&self) -> Pages {
        [self.sessions.lines().pages(), self.session_index.pages()].into_iter().max().unwrap_or(Pages::Small)
    }

    pub(crate) fn session_slot(&self, line: &SessionLine) -> u32 {
        slot(self.sessions.lines(), line)
    }

    pub(crate) fn mapping_slot(&self, line: &MappingLine) -> u32 {
        slot(self.mappings.lines(), line)
    }

    #[inline]
    pub(crate) fn mapping_at(&self, slot: u32) -> Mapping<'_> {
        Mapping { table: self, line: &self.mappings.lines()[slot as usize] }
    }

    #[inline]
    pub(crate) fn spliced_at(&self, slot: u32) -> &Spliced {
        &self.spliced.lines()[slot as usize]
    }

    /// Words in use in the two indexes, for tests: when nothing lives and nobody inserts both are zero.
    #[doc(hidden)]
    #[must_use]
    pub fn used_index_words(&self) -> (u64, u64) {
        (self.session_index.used_words(), self.mapping_index.used_words())
    }
}

/// Number of `line` in `lines`.
fn slot<T>(lines: &[T], line: &T) -> u32 {
    let offset = std::ptr::from_ref(line).addr() - lines.as_ptr().addr();
    (offset / size_of::<T>()) as u32
}

#[cfg(all(test, not(loom)))]
mod tests;
