//! Handles: a worker's, a reader's, and the guards under which entries may be looked at.

use crate::index::{Probe, Same};
use crate::key::{InsideKey, MapInsideKey, MapOutsideKey, NativeKey, OutsideKey, SessionKey};
use crate::mapping::{Mapping, MappingLine};
use crate::prefetch::prefetch_read;
use crate::session::{LIFE_BUILDING, LIFE_DYING, LIFE_LIVE, LIFE_SHIFT, Session, SessionLine};
use crate::spliced::SplicedRef;
use crate::stats::Count;
use crate::sync::Ordering;
use crate::table::{FlowTable, Pool};
use std::ops::Deref;
use std::sync::Arc;

/// The most keys that a bulk lookup overlaps; longer slices are taken in parts.
pub const BULK: usize = 32;

/// How many keys the stages of a bulk lookup are apart: enough to cover a miss with the work on others,
/// and no more than the processor can have under way.
const AHEAD: usize = 16;

/// What a lookup found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lookup<T> {
    /// The entry.
    Hit(T),
    /// A worker is building the entry at this moment: treat the packet as one that may be sent again.
    Building,
    /// Nothing.
    #[default]
    Miss,
}

impl<T> Lookup<T> {
    /// The entry, if there is one that is ready.
    #[inline]
    pub fn hit(self) -> Option<T> {
        match self {
            Self::Hit(t) => Some(t),
            Self::Building | Self::Miss => None,
        }
    }
}

/// The handle of one worker. Moves between threads, is used by one at a time.
#[derive(Debug)]
pub struct Worker {
    table: Arc<FlowTable>,
    id: u8,
    /// Nothing only while the handle is being dropped.
    pool: Option<Pool>,
}

impl Worker {
    pub(crate) const fn new(table: Arc<FlowTable>, id: u8, pool: Pool) -> Self {
        Self { table, id, pool: Some(pool) }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> u8 {
        self.id
    }

    /// The table.
    #[must_use]
    pub const fn table(&self) -> &Arc<FlowTable> {
        &self.table
    }

    /// Enters: what is found under the guard stays valid until it is dropped. Once per burst; a guard
    /// that is kept long keeps slots of ended flows from being used again. Also takes back slots of
    /// flows that ended long enough ago.
    #[inline]
    pub fn enter(&mut self) -> Guard<'_> {
        let Some(pool) = &self.pool else { unreachable!("the pool is there until the handle is dropped") };
        recycle(&self.table, pool, 64);
        Guard { read: ReadGuard::new(&self.table, usize::from(self.id)), pool, id: self.id }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            self.table.put_pool(self.id, pool);
        }
    }
}

/// A handle that only reads.
#[derive(Debug)]
pub struct Reader {
    table: Arc<FlowTable>,
    id: usize,
}

impl Reader {
    pub(crate) const fn new(table: Arc<FlowTable>, id: usize) -> Self {
        Self { table, id }
    }

    /// Enters, as [`Worker::enter`] does. Keep it short: a slice of a listing, not all of it.
    pub fn enter(&mut self) -> ReadGuard<'_> {
        ReadGuard::new(&self.table, self.id)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.table.put_reader(self.id);
    }
}

/// Bit that tells a mapping in the ring of retired slots.
const RING_MAPPING: u32 = 1 << 31;

/// Takes back at most `most` slots that nobody can hold any more.
#[inline]
pub(crate) fn recycle(table: &FlowTable, pool: &Pool, most: u32) {
    if pool.ring.is_empty() {
        return;
    }
    let epoch = table.epochs.advance();
    for _ in 0..most {
        let Some(what) = pool.ring.pop(epoch) else { return };
        if what & RING_MAPPING == 0 {
            let line = &table.sessions.lines()[what as usize];
            next_generation(line.ctl());
            if let Some(slot) = spliced_of(line) {
                table.spliced.give(&pool.spliced, slot);
            }
            table.sessions.give(&pool.sessions, what);
        } else {
            let slot = what & !RING_MAPPING;
            next_generation(table.mappings.lines()[slot as usize].ctl());
            table.mappings.give(&pool.mappings, slot);
        }
    }
}

/// FREE, with the next generation.
fn next_generation(ctl: &crate::sync::AtomicU64) {
    use crate::session::{GENERATION, GENERATION_ONE};
    let now = ctl.load(Ordering::Relaxed);
    ctl.store((now & GENERATION).wrapping_add(GENERATION_ONE) & GENERATION, Ordering::Release);
}

fn spliced_of(line: &SessionLine) -> Option<u32> {
    if line.w(5) & crate::session::KIND_NATIVE != 0 {
        return None;
    }
    u32::try_from(line.w(6) >> 32).ok()?.checked_sub(1)
}

/// Being inside the table: entries that are found stay valid until this is dropped.
#[derive(Debug)]
pub struct ReadGuard<'w> {
    pub(crate) table: &'w FlowTable,
    reader: usize,
}

impl Drop for ReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.table.epochs.leave(self.reader);
    }
}

impl<'w> ReadGuard<'w> {
    #[inline]
    fn new(table: &'w FlowTable, reader: usize) -> Self {
        table.epochs.enter(reader);
        Self { table, reader }
    }

    /// The table.
    #[must_use]
    pub const fn table(&self) -> &'w FlowTable {
        self.table
    }

    /// Looks up sessions by their inside keys; result `i` is that of key `i`. Wait-free. The cache
    /// misses of up to [`BULK`] keys overlap.
    ///
    /// Looks at as many keys as both slices have.
    #[inline]
    pub fn lookup_inside<'g>(&'g self, keys: &[InsideKey], out: &mut [Lookup<Session<'g>>]) {
        self.bulk(keys, out);
    }

    /// Looks up sessions by their outside keys, as [`ReadGuard::lookup_inside`] does.
    #[inline]
    pub fn lookup_outside<'g>(&'g self, keys: &[OutsideKey], out: &mut [Lookup<Session<'g>>]) {
        self.bulk(keys, out);
    }

    /// Looks up native sessions, as [`ReadGuard::lookup_inside`] does.
    #[inline]
    pub fn lookup_native<'g>(&'g self, keys: &[NativeKey], out: &mut [Lookup<Session<'g>>]) {
        self.bulk(keys, out);
    }

    /// Looks up one session by any key. Wait-free.
    #[inline]
    pub fn lookup<K: SessionKey>(&self, key: &K) -> Lookup<Session<'_>> {
        let probe = Probe::new(key.hash(&self.table.hasher), key.side());
        self.probe(&probe, key)
    }

    #[inline]
    fn probe<K: SessionKey>(&self, probe: &Probe, key: &K) -> Lookup<Session<'_>> {
        let found = self.table.session_index.find(probe, |slot| self.verify(slot, key));
        found.unwrap_or(Lookup::Miss)
    }

    /// What the session in `slot` is to a lookup of `key`; nothing if it is another one's.
    #[inline(always)]
    fn verify<K: SessionKey>(&self, slot: u32, key: &K) -> Option<Lookup<Session<'_>>> {
        let line = &self.table.sessions.lines()[slot as usize];
        if !key.is_of(line) {
            return None;
        }
        match line.load_ctl().0 >> LIFE_SHIFT {
            LIFE_LIVE => Some(Lookup::Hit(Session { table: self.table, line })),
            LIFE_BUILDING => Some(Lookup::Building),
            // Its word is on its way out, and no other word of this key comes before that.
            _ => Some(Lookup::Miss),
        }
    }

    #[inline]
    fn bulk<'g, K: SessionKey>(&'g self, keys: &[K], out: &mut [Lookup<Session<'g>>]) {
        for (keys, out) in keys.chunks(BULK).zip(out.chunks_mut(BULK)) {
            self.bulk_part(keys, out);
        }
    }

    /// At most [`BULK`] keys, as a pipeline of three stages that run [`AHEAD`] keys apart: hash and ask
    /// for the bucket; read the bucket and ask for the session; compare the session. So the misses of
    /// many keys overlap with each other and with the work on other keys.
    #[inline]
    fn bulk_part<'g, K: SessionKey>(&'g self, keys: &[K], out: &mut [Lookup<Session<'g>>]) {
        const NONE: u32 = u32::MAX;
        let index = &self.table.session_index;
        let lines: &[SessionLine] = self.table.sessions.lines();
        let n = keys.len().min(out.len()).min(BULK);
        let mut probes = [Probe::default(); BULK];
        let mut slots = [NONE; BULK];
        // Keys whose session is behind the second bucket: compared last.
        let mut late = 0u32;
        for step in 0..n + 2 * AHEAD {
            if step < n {
                let key = &keys[step];
                let probe = Probe::new(key.hash(&self.table.hasher), key.side());
                prefetch_read(index.first(&probe));
                probes[step] = probe;
            }
            let i = step.wrapping_sub(AHEAD);
            if i < n {
                let probe = &probes[i];
                match index.first(probe).any(probe).and_then(|s| Some((s, lines.get(s as usize)?))) {
                    Some((slot, line)) => {
                        prefetch_read(line);
                        slots[i] = slot;
                    }
                    None => prefetch_read(index.second(probe)),
                }
            }
            let i = step.wrapping_sub(2 * AHEAD);
            if i < n {
                let (key, probe) = (&keys[i], &probes[i]);
                if slots[i] != NONE {
                    // Else the tag was another key's.
                    out[i] = self.verify(slots[i], key).unwrap_or_else(|| self.probe(probe, key));
                } else if let Some(slot) = index.second(probe).any(probe) {
                    if let Some(line) = lines.get(slot as usize) {
                        prefetch_read(line);
                    }
                    slots[i] = slot;
                    late |= 1 << i;
                } else if index.has_stash() {
                    out[i] = self.probe(probe, key);
                } else {
                    out[i] = Lookup::Miss;
                }
            }
        }
        while late != 0 {
            let i = late.trailing_zeros() as usize;
            late &= late - 1;
            let found = self.verify(slots[i], &keys[i]);
            out[i] = found.unwrap_or_else(|| self.probe(&probes[i], &keys[i]));
        }
    }

    /// Looks up a mapping by its inside key. Wait-free.
    #[inline]
    pub fn lookup_mapping_inside(&self, key: &MapInsideKey) -> Lookup<Mapping<'_>> {
        self.find_mapping(key)
    }

    /// Looks up a mapping by its outside key. Wait-free.
    #[inline]
    pub fn lookup_mapping_outside(&self, key: &MapOutsideKey) -> Lookup<Mapping<'_>> {
        self.find_mapping(key)
    }

    #[inline]
    fn find_mapping<K: crate::key::Key<Line = MappingLine>>(&self, key: &K) -> Lookup<Mapping<'_>> {
        if self.table.mappings.lines().is_empty() {
            return Lookup::Miss;
        }
        let probe = Probe::new(key.hash(&self.table.hasher), key.side());
        self.probe_mapping(&probe, key)
    }

    /// What the index has for `probe`, which is that of `key`. The table has room for mappings.
    #[inline]
    pub(crate) fn probe_mapping<K: crate::key::Key<Line = MappingLine>>(
        &self,
        probe: &Probe,
        key: &K,
    ) -> Lookup<Mapping<'_>> {
        let found = self.table.mapping_index.find(probe, |slot| {
            let line = &self.table.mappings.lines()[slot as usize];
            if !key.is_of(line) {
                return None;
            }
            Some(match line.life() {
                LIFE_LIVE => Lookup::Hit(Mapping { table: self.table, line }),
                LIFE_BUILDING => Lookup::Building,
                _ => Lookup::Miss,
            })
        });
        found.unwrap_or(Lookup::Miss)
    }

    /// Calls `f` with the live sessions among `max` slots from `from` on (0 to begin with); gives where
    /// to go on, or nothing at the end. For listings: leave the guard between slices.
    pub fn sessions<'g>(&'g self, from: u32, max: u32, mut f: impl FnMut(&Session<'g>)) -> Option<u32> {
        let (slots, next) = slice(self.table.sessions.lines(), from, max)?;
        for line in slots {
            if line.load_ctl().is_live() {
                f(&Session { table: self.table, line });
            }
        }
        next
    }

    /// Calls `f` with the live mappings among `max` slots, as [`ReadGuard::sessions`] does.
    pub fn mappings<'g>(&'g self, from: u32, max: u32, mut f: impl FnMut(&Mapping<'g>)) -> Option<u32> {
        let (slots, next) = slice(self.table.mappings.lines(), from, max)?;
        for line in slots {
            if line.life() == LIFE_LIVE {
                f(&Mapping { table: self.table, line });
            }
        }
        next
    }
}

fn slice<T>(all: &[T], from: u32, max: u32) -> Option<(&[T], Option<u32>)> {
    let to = from.saturating_add(max.max(1));
    let slots = all.get(from as usize..(to as usize).min(all.len()))?;
    Some((slots, ((to as usize) < all.len()).then_some(to)))
}

/// A worker inside the table: everything that [`ReadGuard`] can, and changes.
#[derive(Debug)]
pub struct Guard<'w> {
    read: ReadGuard<'w>,
    pub(crate) pool: &'w Pool,
    id: u8,
}

impl<'w> Deref for Guard<'w> {
    type Target = ReadGuard<'w>;

    #[inline(always)]
    fn deref(&self) -> &ReadGuard<'w> {
        &self.read
    }
}

impl Guard<'_> {
    /// The worker's number.
    #[must_use]
    pub const fn worker(&self) -> u8 {
        self.id
    }

    #[inline]
    pub(crate) fn count(&self, c: Count) {
        self.table.counts[usize::from(self.id)].add(c);
    }

    /// Takes a line of splicing constants, all zero; nothing if none is free.
    #[must_use]
    pub fn take_spliced(&self) -> Option<SplicedRef<'_>> {
        if let Some(s) = SplicedRef::take(&self.table.spliced, &self.pool.spliced) {
            return Some(s);
        }
        self.recycle_more();
        SplicedRef::take(&self.table.spliced, &self.pool.spliced)
    }

    /// Takes back some more of what may be taken back: no burst waits for all of a long ring.
    #[cold]
    pub(crate) fn recycle_more(&self) {
        recycle(self.table, self.pool, 256);
    }

    /// Counts an allocation that failed.
    #[cold]
    pub(crate) fn no_slot(&self) {
        self.count(if self.pool.ring.is_empty() { Count::NoSlot } else { Count::Starved });
    }

    pub(crate) fn retire_session(&self, slot: u32) {
        self.pool.ring.push(slot, self.table.epochs.now());
    }

    pub(crate) fn retire_mapping(&self, slot: u32) {
        self.pool.ring.push(slot | RING_MAPPING, self.table.epochs.now());
    }
}

/// What the key of an entry is to an inserter.
#[inline]
pub(crate) fn same(is_of: bool, life: u64) -> Same {
    match (is_of, life) {
        (false, _) => Same::No,
        (true, LIFE_DYING) => Same::Dying,
        (true, _) => Same::Yes,
    }
}
