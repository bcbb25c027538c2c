//! Octet strings by octet-string key, for all workers: a cache in memory that is taken once.
//!
//! ```text
//!  hash(key) -> bucket: version, seven words of tag and block         one cache line
//!                                  |
//!                                  +-> block: link | heat | lengths | stamp | key, value ...   256 octets
//!                                               |
//!                                               +-> next block of the entry, at most 16
//! ```
//! - A reader copies the blocks of an entry and takes the copy only if the bucket's version has not moved meanwhile (a
//!   seqlock whose data are atomics). It never waits: after a few tries it has found nothing.
//! - A writer fills blocks that nobody else has, and then locks the bucket for as long as it takes to change a word.
//!   One that finds the bucket locked for long gives up: what is kept here can be had elsewhere. So writers of one key
//!   leave exactly one entry.
//! - Blocks go back to a free list once no bucket leads to them. A reader that is still in them is told by the
//!   bucket's version, which moved first.
//! - When there is no free block, a hand goes round the blocks and takes out entries that nobody has asked for since
//!   it came by last (CLOCK). Entries start as not asked for: what is asked for once goes first.
//!
//! What the octets mean, and when they are too old, is the caller's to know.

use crate::hash::fold;
use crate::memory::{Pages, Region, Zeroed};
use crate::prefetch::{prefetch_read, prefetch_read_at};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// Words of a bucket: its version, then its slots.
const BUCKET_WORDS: usize = if cfg!(loom) { 3 } else { 8 };
/// Words of a block.
const BLOCK_WORDS: usize = if cfg!(loom) { 6 } else { 32 };
/// Buckets in the place of a block.
const BUCKETS_A_BLOCK: usize = BLOCK_WORDS / BUCKET_WORDS;
/// Octets of a block.
const BLOCK_OCTETS: usize = BLOCK_WORDS * 8;
/// Of so many blocks, one is for buckets. A bucket has two and a half blocks, on average, and so seldom too many.
const BUCKETS_SHARE: usize = if cfg!(loom) { 3 } else { 11 };
/// Blocks of an entry, at most.
const MAX_BLOCKS: usize = if cfg!(loom) { 2 } else { 16 };
/// The fewest blocks that a map makes sense with.
const MIN_BLOCKS: usize = if cfg!(loom) { 3 } else { 2 * MAX_BLOCKS };

/// Next block, in the low half: its number and one; in the high half, if an entry begins here: its bucket's number and
/// one.
const LINK: usize = 0;
/// Number of the entry's writing in the high half, and how it is asked for. In blocks where no entry begins the word is
/// not used: who comes late, for an entry that is gone, may still change it.
const HEAT: usize = 1;
/// Octets of the key, and in the next 16 bits of the value.
const LENGTHS: usize = 2;
/// The caller's word.
const STAMP: usize = 3;
/// First word of the contents in an entry's first block, and in its other blocks.
const CONTENT: (usize, usize) = (4, 2);

/// Octets of key and value together, at most.
pub const MAX_OCTETS: usize =
    (BLOCK_WORDS - CONTENT.0) * 8 + (MAX_BLOCKS - 1) * (BLOCK_WORDS - CONTENT.1) * 8;

/// The hand has not come by since it was asked for.
const VISITED: u64 = 1;
/// Somebody has claimed it.
const CLAIMED: u64 = 2;
/// How often it was asked for, up to three times.
const ASKED: u64 = 4;
const ASKED_MASK: u64 = 3 * ASKED;

const LOCKED: u64 = 1;
const VERSION: u64 = 2;
/// Copies that a reader tries to make.
const READ_TRIES: usize = if cfg!(loom) { 2 } else { 8 };
/// Looks of a writer at a lock.
const LOCK_TRIES: usize = if cfg!(loom) { 2 } else { 256 };
/// Blocks that the hand looks at for one that is wanted; in the last quarter it spares nothing.
const LOOKS: usize = if cfg!(loom) { 8 } else { 1024 };

/// Why there is no map.
#[derive(Debug, thiserror::Error)]
pub enum OctetMapError {
    /// Too little memory for anything.
    #[error("at least {least} octets are needed, not {octets}")]
    TooSmall {
        /// What was asked for.
        octets: usize,
        /// What is needed.
        least: usize,
    },
    /// More than block numbers reach.
    #[error("{0} octets are too many")]
    TooLarge(usize),
    /// The system gave no memory.
    #[error("no memory of {0} octets: {1}")]
    NoMemory(usize, std::io::Error),
}

/// Why an entry was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Key and value are longer than [`MAX_OCTETS`].
    #[error("too long to be kept")]
    TooLong,
    /// Other writers had its bucket locked.
    #[error("others were writing")]
    Busy,
    /// No blocks could be had: others were faster.
    #[error("no room")]
    Full,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The key is new.
    New,
    /// There was an entry of the key; it is gone.
    Replaced,
}

/// Figures of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OctetStats {
    /// Entries.
    pub entries: u64,
    /// Octets of all memory, used or not.
    pub octets: usize,
    /// Octets that are used by entries, in whole blocks.
    pub used_octets: usize,
    /// Entries that went to make room for others.
    pub evicted: u64,
    /// Entries that were not kept ([`PutError`]).
    pub refused: u64,
    /// What the memory is made of.
    pub pages: Pages,
}

/// Room for the copy of an entry. A worker has one and uses it again and again.
#[derive(Debug, Clone)]
pub struct Room {
    octets: [u8; MAX_OCTETS],
}

impl Room {
    /// Room for any entry.
    #[must_use]
    pub const fn new() -> Self {
        Self { octets: [0; MAX_OCTETS] }
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

/// Which writing of an entry was read, for [`OctetMap::claim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    block: u32,
    writing: u32,
}

/// The copy of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit<'r> {
    /// The value.
    pub value: &'r [u8],
    /// The word that was put in with it.
    pub stamp: u64,
    /// How often it was asked for before since it was put in, up to three times.
    pub asked: u8,
    /// Somebody has claimed it already.
    pub claimed: bool,
    /// For [`OctetMap::claim`].
    pub handle: Handle,
}

#[derive(Debug)]
#[repr(align(64))]
struct Block([AtomicU64; BLOCK_WORDS]);

// SAFETY: atomic words of zero are valid (a block that was never used, buckets without entries), and none needs
// dropping.
unsafe impl Zeroed for Block {
    #[cfg(loom)]
    fn zeroed() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// An entry as it was copied.
struct Copied {
    key: usize,
    value: usize,
    heat: u64,
    stamp: u64,
}

/// Blocks that are nobody else's, the first of an entry first.
struct Chain {
    blocks: [u32; MAX_BLOCKS],
    len: usize,
}

/// The map. All methods may be called from any thread.
#[derive(Debug)]
pub struct OctetMap {
    /// Buckets, then blocks.
    memory: Region<Block>,
    buckets: u32,
    /// Where blocks begin in the memory.
    first: usize,
    blocks: u32,
    seed: [u64; 4],
    /// Blocks from here on were never used.
    fresh: AtomicU32,
    /// The free list: a number that moves with every change, and the first block's number and one.
    free: AtomicU64,
    hand: AtomicU32,
    writings: AtomicU32,
    used: AtomicU32,
    entries: AtomicU64,
    evicted: AtomicU64,
    refused: AtomicU64,
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn low(word: u64) -> u32 {
    word as u32
}

const fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

const fn join(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

fn eight(octets: &[u8], at: usize) -> u64 {
    octets.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u64::from_le_bytes(*b))
}

impl OctetMap {
    /// A map that never takes more memory than `octets`, its index included. `seed` should be random: without it
    /// nobody can aim at one bucket.
    ///
    /// # Errors
    /// See [`OctetMapError`].
    pub fn new(octets: usize, seed: [u64; 4]) -> Result<Self, OctetMapError> {
        // The region is rounded up to whole pages, so whole pages are asked for.
        let page = if octets >= 2 << 20 { 2 << 20 } else { 4096 };
        let whole = if cfg!(loom) { octets } else { octets / page * page };
        let units = whole / BLOCK_OCTETS;
        let first = (units / BUCKETS_SHARE).max(1);
        let blocks = units.saturating_sub(first);
        if blocks < MIN_BLOCKS {
            let least = ((MIN_BLOCKS + 1) * BLOCK_OCTETS * 12 / 11).next_multiple_of(4096);
            return Err(OctetMapError::TooSmall { octets, least });
        }
        let (Ok(buckets), Ok(blocks)) = (u32::try_from(first * BUCKETS_A_BLOCK), u32::try_from(blocks))
        else {
            return Err(OctetMapError::TooLarge(octets));
        };
        let memory = Region::new(units).map_err(|e| OctetMapError::NoMemory(octets, e))?;
        let a = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];
        Ok(Self {
            memory,
            buckets,
            first,
            blocks,
            seed: std::array::from_fn(|i| seed[i] ^ a[i]),
            fresh: AtomicU32::new(0),
            free: AtomicU64::new(0),
            hand: AtomicU32::new(0),
            writings: AtomicU32::new(0),
            used: AtomicU32::new(0),
            entries: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// The hash of a key, for the other methods.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        let [s0, s1, s2, s3] = self.seed;
        let n = key.len();
        let mut h = s0;
        let (a, b) = if n >= 16 {
            let mut at = 0;
            while at + 16 < n {
                h = fold(eight(key, at) ^ s1, eight(key, at + 8) ^ h);
                at += 16;
            }
            // The last sixteen, of which some may have been in before.
            (eight(key, n - 16), eight(key, n - 8))
        } else if n >= 8 {
            (eight(key, 0), eight(key, n - 8))
        } else {
            (key.iter().fold(0, |w, octet| w << 8 | u64::from(*octet)), 0)
        };
        h = fold(a ^ s2, b ^ h);
        fold(h ^ s3, n as u64 ^ s1)
    }

    #[inline(always)]
    fn place(&self, hash: u64) -> u32 {
        high(u64::from(low(hash)) * u64::from(self.buckets))
    }

    #[inline(always)]
    fn bucket(&self, place: u32) -> &[AtomicU64; BUCKET_WORDS] {
        let place = place as usize;
        let words = &self.memory[place / BUCKETS_A_BLOCK].0[place % BUCKETS_A_BLOCK * BUCKET_WORDS..];
        words.first_chunk().expect("a bucket's place was made for it")
    }

    /// A block; nothing for a number that there is not, as a reader may see whose entry goes away.
    #[inline(always)]
    fn block(&self, at: u32) -> Option<&[AtomicU64; BLOCK_WORDS]> {
        self.memory.get(self.first + at as usize).map(|b| &b.0)
    }

    /// A word of a block that there is.
    #[inline(always)]
    fn word(&self, at: u32, word: usize) -> &AtomicU64 {
        &self.memory[self.first + at as usize].0[word]
    }

    /// Asks the processor to bring the bucket of this hash close.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        prefetch_read(self.bucket(self.place(hash)));
    }

    /// Asks the processor to bring the first octets of what this hash may stand for close. Does most good a while
    /// after [`OctetMap::prefetch`].
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        for slot in &self.bucket(self.place(hash))[1..] {
            let word = slot.load(Ordering::Relaxed);
            if high(word) == high(hash)
                && let Some(block) = low(word).checked_sub(1).and_then(|at| self.block(at))
            {
                for line in 0..3 {
                    prefetch_read_at(block, line * 8);
                }
                return;
            }
        }
    }

    /// Copies the value of `key` into `room`. Never waits: what is being changed all the time may seem not to be
    /// there.
    #[inline]
    pub fn get<'r>(&self, hash: u64, key: &[u8], room: &'r mut Room) -> Option<Hit<'r>> {
        let bucket = self.bucket(self.place(hash));
        for _ in 0..READ_TRIES {
            let before = bucket[0].load(Ordering::Acquire);
            if before & LOCKED != 0 {
                std::hint::spin_loop();
                continue;
            }
            let mut found = None;
            for slot in &bucket[1..] {
                let word = slot.load(Ordering::Relaxed);
                if high(word) != high(hash) {
                    continue;
                }
                let Some(at) = low(word).checked_sub(1) else { continue };
                if let Some(copied) = self.copy(at, Some(key.len()), room)
                    && room.octets[..copied.key] == *key
                {
                    found = Some((at, copied));
                    break;
                }
            }
            // The copy counts only if the version did not move while it was made.
            fence(Ordering::Acquire);
            if bucket[0].load(Ordering::Relaxed) != before {
                continue;
            }
            let (at, copied) = found?;
            let heat = copied.heat;
            let mut now = heat | VISITED;
            if heat & ASKED_MASK != ASKED_MASK {
                now += ASKED;
            }
            if now != heat {
                // Lost against another reader, a hit is not counted; it does not matter.
                let word = self.word(at, HEAT);
                let _ = word.compare_exchange(heat, now, Ordering::Relaxed, Ordering::Relaxed);
            }
            return Some(Hit {
                value: &room.octets[copied.key..copied.key + copied.value],
                stamp: copied.stamp,
                asked: u8::try_from((heat & ASKED_MASK) / ASKED).unwrap_or(0),
                claimed: heat & CLAIMED != 0,
                handle: Handle { block: at, writing: high(heat) },
            });
        }
        None
    }

    /// Copies an entry's key and value to the start of `room`. It may be gone meanwhile: whoever calls must find out.
    #[inline(always)]
    fn copy(&self, at: u32, key_octets: Option<usize>, room: &mut Room) -> Option<Copied> {
        let block = self.block(at)?;
        let lengths = block[LENGTHS].load(Ordering::Relaxed);
        let key = (lengths & 0xffff) as usize;
        let value = (lengths >> 16 & 0xffff) as usize;
        if key_octets.is_some_and(|n| n != key) {
            return None;
        }
        let mut rest = room.octets.get_mut(..(key + value).next_multiple_of(8))?;
        let (heat, stamp) = (block[HEAT].load(Ordering::Relaxed), block[STAMP].load(Ordering::Relaxed));
        let mut link = low(block[LINK].load(Ordering::Relaxed));
        let mut words = &block[CONTENT.0..];
        loop {
            let now = rest.len().min(words.len() * 8);
            let (to, later) = rest.split_at_mut(now);
            for (to, word) in to.chunks_exact_mut(8).zip(words) {
                to.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            }
            if later.is_empty() {
                return Some(Copied { key, value, heat, stamp });
            }
            rest = later;
            let next = self.block(link.checked_sub(1)?)?;
            link = low(next[LINK].load(Ordering::Relaxed));
            words = &next[CONTENT.1..];
        }
    }

    /// Claims what was read: true for exactly one caller for each time that the entry was put in.
    pub fn claim(&self, handle: Handle) -> bool {
        let Some(block) = self.block(handle.block) else { return false };
        let mut heat = block[HEAT].load(Ordering::Relaxed);
        // Others change it a few times at most: it counts up to three.
        for _ in 0..16 {
            if high(heat) != handle.writing || heat & CLAIMED != 0 {
                return false;
            }
            match block[HEAT].compare_exchange(heat, heat | CLAIMED, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => heat = other,
            }
        }
        false
    }

    /// Puts a value in, given in parts, in the place of another of this key; `stamp` comes back with it.
    ///
    /// # Errors
    /// See [`PutError`]. What was there before stays then.
    pub fn put(&self, hash: u64, key: &[u8], stamp: u64, parts: &[&[u8]]) -> Result<Put, PutError> {
        let done = self.try_put(hash, key, stamp, parts);
        if done.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        done
    }

    fn try_put(&self, hash: u64, key: &[u8], stamp: u64, parts: &[&[u8]]) -> Result<Put, PutError> {
        let value: usize = parts.iter().map(|p| p.len()).sum();
        let octets = key.len().checked_add(value).filter(|n| *n <= MAX_OCTETS).ok_or(PutError::TooLong)?;
        let in_first = (BLOCK_WORDS - CONTENT.0) * 8;
        let more = octets.saturating_sub(in_first).div_ceil((BLOCK_WORDS - CONTENT.1) * 8);
        let place = self.place(hash);
        let chain = self.take(1 + more).ok_or(PutError::Full)?;
        let head = chain.blocks[0];
        let heat = join(self.writings.fetch_add(1, Ordering::Relaxed), 0);
        self.fill(&chain, place, [heat, (value as u64) << 16 | key.len() as u64, stamp], key, parts);

        let bucket = self.bucket(place);
        let Some(version) = lock(bucket, LOCK_TRIES) else {
            self.give(head);
            return Err(PutError::Busy);
        };
        let word = join(high(hash), head + 1);
        let (slot, old, same) = self.slot_for(bucket, hash, key);
        if same {
            let old_heat =
                low(old).checked_sub(1).map_or(0, |at| self.word(at, HEAT).load(Ordering::Relaxed));
            self.word(head, HEAT).store(heat | (old_heat & VISITED), Ordering::Relaxed);
        }
        slot.store(word, Ordering::Relaxed);
        unlock(bucket, version);
        if let Some(at) = low(old).checked_sub(1) {
            self.give(at);
            if !same {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        } else {
            self.entries.fetch_add(1, Ordering::Relaxed);
        }
        Ok(if same { Put::Replaced } else { Put::New })
    }

    /// Where a key goes in its bucket, which is locked; what is there, and whether that is of the same key. A full
    /// bucket loses what nobody has ever asked for, or not lately, or what is oldest.
    fn slot_for<'b>(
        &self,
        bucket: &'b [AtomicU64; BUCKET_WORDS],
        hash: u64,
        key: &[u8],
    ) -> (&'b AtomicU64, u64, bool) {
        let now = self.writings.load(Ordering::Relaxed);
        let (mut best, mut best_rank) = ((&bucket[1], bucket[1].load(Ordering::Relaxed)), 0);
        for slot in &bucket[1..] {
            let word = slot.load(Ordering::Relaxed);
            let rank = match low(word).checked_sub(1) {
                None => u64::MAX,
                Some(at) if high(word) == high(hash) && self.has_key(at, key) => return (slot, word, true),
                Some(at) => {
                    let heat = self.word(at, HEAT).load(Ordering::Relaxed);
                    let asked =
                        u32::from(heat & VISITED != 0) + u32::from(heat & (VISITED | ASKED_MASK) != 0);
                    join(2 - asked, now.wrapping_sub(high(heat)).max(1))
                }
            };
            if rank > best_rank {
                (best, best_rank) = ((slot, word), rank);
            }
        }
        (best.0, best.1, false)
    }

    /// True if an entry, which cannot go away, is of this key.
    fn has_key(&self, at: u32, key: &[u8]) -> bool {
        let lengths = self.word(at, LENGTHS).load(Ordering::Relaxed);
        if (lengths & 0xffff) as usize != key.len() {
            return false;
        }
        let (mut at, mut from, mut rest) = (at, CONTENT.0, key);
        loop {
            for word in from..BLOCK_WORDS {
                let octets = self.word(at, word).load(Ordering::Relaxed).to_ne_bytes();
                let (now, later) = rest.split_at(rest.len().min(8));
                if octets[..now.len()] != *now {
                    return false;
                }
                rest = later;
                if rest.is_empty() {
                    return true;
                }
            }
            let Some(next) = low(self.word(at, LINK).load(Ordering::Relaxed)).checked_sub(1) else {
                return false;
            };
            (at, from) = (next, CONTENT.1);
        }
    }

    /// Writes an entry into blocks that are ours.
    fn fill(&self, chain: &Chain, place: u32, head: [u64; 3], key: &[u8], parts: &[&[u8]]) {
        // Who still reads these blocks as what they were sees with our octets that they are gone.
        fence(Ordering::Release);
        let mut octets = key.iter().chain(parts.iter().copied().flatten()).copied();
        for (n, &at) in chain.blocks[..chain.len].iter().enumerate() {
            let block = &self.memory[self.first + at as usize].0;
            let next = chain.blocks[..chain.len].get(n + 1).map_or(0, |next| next + 1);
            let from = if n == 0 {
                block[LINK].store(join(place + 1, next), Ordering::Relaxed);
                block[HEAT].store(head[0], Ordering::Relaxed);
                block[LENGTHS].store(head[1], Ordering::Relaxed);
                block[STAMP].store(head[2], Ordering::Relaxed);
                CONTENT.0
            } else {
                block[LINK].store(join(0, next), Ordering::Relaxed);
                CONTENT.1
            };
            for word in &block[from..] {
                let mut eight = [0; 8];
                let mut any = false;
                for (to, octet) in eight.iter_mut().zip(&mut octets) {
                    *to = octet;
                    any = true;
                }
                if !any {
                    break;
                }
                word.store(u64::from_ne_bytes(eight), Ordering::Relaxed);
            }
        }
    }

    /// Takes `n` blocks, from the free list, from those that were never used, and from entries that have to go.
    fn take(&self, n: usize) -> Option<Chain> {
        let mut chain = Chain { blocks: [0; MAX_BLOCKS], len: 0 };
        // Others may take what was made free for us.
        let mut evictions = 4 * MAX_BLOCKS;
        while chain.len < n {
            if let Some(at) = self.pop().or_else(|| self.never_used()) {
                chain.blocks[chain.len] = at;
                chain.len += 1;
                continue;
            }
            if evictions == 0 || !self.evict() {
                // As in `give`.
                fence(Ordering::Release);
                for &at in &chain.blocks[..chain.len] {
                    self.word(at, LINK).store(0, Ordering::Relaxed);
                    self.push(at, at);
                }
                return None;
            }
            evictions -= 1;
        }
        self.used.fetch_add(u32::try_from(n).unwrap_or(0), Ordering::Relaxed);
        Some(chain)
    }

    fn never_used(&self) -> Option<u32> {
        let mut at = self.fresh.load(Ordering::Relaxed);
        while at < self.blocks {
            match self.fresh.compare_exchange(at, at + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(at),
                Err(other) => at = other,
            }
        }
        None
    }

    fn pop(&self) -> Option<u32> {
        let mut list = self.free.load(Ordering::Acquire);
        loop {
            let at = low(list).checked_sub(1)?;
            // Somebody else may have taken it and written into it: then the list has moved.
            let next = low(self.word(at, LINK).load(Ordering::Relaxed));
            let after = join(high(list).wrapping_add(1), next);
            match self.free.compare_exchange(list, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(at),
                Err(other) => list = other,
            }
        }
    }

    /// Puts blocks that hang together on the free list.
    fn push(&self, first: u32, last: u32) {
        let mut list = self.free.load(Ordering::Relaxed);
        loop {
            self.word(last, LINK).store(join(0, low(list)), Ordering::Relaxed);
            let after = join(high(list).wrapping_add(1), first + 1);
            match self.free.compare_exchange(list, after, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => list = other,
            }
        }
    }

    /// Gives the blocks of an entry back that no bucket leads to any more.
    fn give(&self, head: u32) {
        // As in `fill`: a reader that sees the links change sees that the bucket's version moved.
        fence(Ordering::Release);
        let (mut last, mut n) = (head, 1);
        while let Some(next) = low(self.word(last, LINK).load(Ordering::Relaxed)).checked_sub(1) {
            (last, n) = (next, n + 1);
        }
        if last != head {
            let word = self.word(head, LINK);
            word.store(join(0, low(word.load(Ordering::Relaxed))), Ordering::Relaxed);
        }
        self.used.fetch_sub(n, Ordering::Relaxed);
        self.push(head, last);
    }

    /// Takes one entry out that nobody has asked for since the hand came by; true if there was one.
    fn evict(&self) -> bool {
        for look in 0..LOOKS {
            let at = self.hand.fetch_add(1, Ordering::Relaxed) % self.blocks;
            let Some(place) = high(self.word(at, LINK).load(Ordering::Relaxed)).checked_sub(1) else {
                continue;
            };
            if place >= self.buckets {
                continue;
            }
            if look < LOOKS / 4 * 3 && self.word(at, HEAT).load(Ordering::Relaxed) & VISITED != 0 {
                self.word(at, HEAT).fetch_and(!VISITED, Ordering::Relaxed);
                continue;
            }
            if self.take_out(place, |word| low(word) == at + 1) {
                self.evicted.fetch_add(1, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// Takes the first entry of a bucket out that is meant; true if there was one. Nothing is done when the bucket is
    /// locked for long.
    fn take_out(&self, place: u32, is_meant: impl Fn(u64) -> bool) -> bool {
        let bucket = self.bucket(place);
        let Some(version) = lock(bucket, LOCK_TRIES) else { return false };
        let found = bucket[1..].iter().find_map(|slot| {
            let word = slot.load(Ordering::Relaxed);
            (low(word) != 0 && is_meant(word)).then_some((slot, word))
        });
        let Some((slot, word)) = found else {
            // Nothing has changed for readers.
            bucket[0].store(version, Ordering::Release);
            return false;
        };
        slot.store(0, Ordering::Relaxed);
        unlock(bucket, version);
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.give(low(word) - 1);
        true
    }

    /// Takes the entry of a key out; true if there was one.
    pub fn remove(&self, hash: u64, key: &[u8]) -> bool {
        self.take_out(self.place(hash), |word| high(word) == high(hash) && self.has_key(low(word) - 1, key))
    }

    /// Shows the entries of `max` buckets from `from` on (0 to begin with) to `goes`, with key, stamp and value, and
    /// takes out those for which it says true. Gives where to go on; nothing at the end. Entries that come, go or
    /// change meanwhile may or may not be shown.
    pub fn sweep(
        &self,
        from: u32,
        max: u32,
        room: &mut Room,
        mut goes: impl FnMut(&[u8], u64, &[u8]) -> bool,
    ) -> Option<u32> {
        let to = from.saturating_add(max.max(1)).min(self.buckets);
        for place in from..to {
            let bucket = self.bucket(place);
            for slot in &bucket[1..] {
                let Some((word, copied)) = self.read_slot(bucket, slot, room) else { continue };
                let (key, rest) = room.octets.split_at(copied.key);
                if goes(key, copied.stamp, &rest[..copied.value]) {
                    self.take_out(place, |w| w == word && self.has_key(low(w) - 1, key));
                }
            }
        }
        (to < self.buckets).then_some(to)
    }

    /// What a slot leads to, copied as by [`OctetMap::get`].
    fn read_slot(
        &self,
        bucket: &[AtomicU64; BUCKET_WORDS],
        slot: &AtomicU64,
        room: &mut Room,
    ) -> Option<(u64, Copied)> {
        for _ in 0..READ_TRIES {
            let before = bucket[0].load(Ordering::Acquire);
            if before & LOCKED != 0 {
                std::hint::spin_loop();
                continue;
            }
            let word = slot.load(Ordering::Relaxed);
            let copied = low(word).checked_sub(1).and_then(|at| self.copy(at, None, room));
            fence(Ordering::Acquire);
            if bucket[0].load(Ordering::Relaxed) == before {
                return copied.map(|c| (word, c));
            }
        }
        None
    }

    /// Takes all out that is there when it is called.
    pub fn clear(&self) {
        for place in 0..self.buckets {
            while self.take_out(place, |_| true) {}
        }
    }

    /// Figures, each right for a moment.
    #[must_use]
    pub fn stats(&self) -> OctetStats {
        OctetStats {
            entries: self.entries.load(Ordering::Relaxed),
            octets: self.memory.octets(),
            used_octets: self.used.load(Ordering::Relaxed) as usize * BLOCK_OCTETS,
            evicted: self.evicted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            pages: self.memory.pages(),
        }
    }
}

/// Locks a bucket; gives its version.
fn lock(bucket: &[AtomicU64; BUCKET_WORDS], tries: usize) -> Option<u64> {
    for _ in 0..tries {
        let version = bucket[0].load(Ordering::Relaxed);
        if version & LOCKED == 0
            && bucket[0]
                .compare_exchange(version, version | LOCKED, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        {
            // Keeps what is changed behind the lock for readers (pairs with the fence in `get`).
            fence(Ordering::Release);
            return Some(version);
        }
        std::hint::spin_loop();
    }
    None
}

/// Unlocks a bucket in which something has changed.
fn unlock(bucket: &[AtomicU64; BUCKET_WORDS], version: u64) {
    bucket[0].store(version.wrapping_add(VERSION), Ordering::Release);
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
