//! The cache: answers by question, shared by all workers, in memory that is taken once.
//!
//! A hit takes no lock and allocates nothing. What an entry is: see [`causeway_flowtable::octets`]. Here an entry is a
//! question's key ([`crate::question::key`]) and an answer without its question, which every query brings along.

use crate::answer::Answer;
use crate::config::CacheSettings;
use crate::respond::{Offsets, Stored};
use causeway_flowtable::octets::{Handle, Hit, OctetMap, OctetMapError, OctetStats, PutError, Room};
use causeway_wire::dns::{self, rcode};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Octets in front of the offsets of a value.
const FIXED: usize = 20;
/// No extended error.
const NO_ERROR: u16 = u16::MAX;
/// Buckets that are looked at in one go by [`Cache::forget`].
const SLICE: u32 = 4096;
/// RFC 8767 5: an answer that nobody could renew is not asked for again at once; in seconds.
const RECHECK: u32 = 30;
/// Of its time an answer is near its end when so many parts in ten are left.
const NEAR_END: u32 = 10;
/// Askings after which a name is asked for often: as many as are counted.
const HOT: u8 = 3;

/// Room for the copy of an answer. A worker has one and uses it for every question.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    room: Room,
}

impl Scratch {
    /// Room for any answer.
    #[must_use]
    pub const fn new() -> Self {
        Self { room: Room::new() }
    }
}

/// What is known about a question.
#[derive(Debug)]
pub enum Found<'r> {
    /// Nothing that may be used.
    Miss,
    /// An answer.
    Fresh(EntryRef<'r>),
    /// An answer that has expired and may be used if upstream does not answer (RFC 8767).
    Stale(EntryRef<'r>),
}

/// The copy of an answer.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'r> {
    /// The answer.
    pub stored: Stored<'r>,
    /// For how many seconds it is still good; 0 if it has expired.
    pub ttl: u32,
    /// It is near its end and is asked for often: whoever reads this asks for it again. Told to one caller only.
    pub prefetch: bool,
    /// It has expired, and upstream failed a moment ago: it is to be used without asking again (RFC 8767 5).
    pub recheck_later: bool,
}

/// Why an answer was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It may not be: its TTL is 0.
    #[error("it is not to be kept")]
    NoTtl,
    /// It is no message with one question.
    #[error("it is no answer")]
    Malformed,
    /// An older answer is kept, which has expired but is better than a failure (RFC 8767 5).
    #[error("an expired answer is kept rather than a failure")]
    StaleKept,
    /// No room, or others were writing.
    #[error("{0}")]
    Put(#[from] PutError),
}

/// The settings that a reload can change. Each is looked at by itself: nothing goes wrong if one of them is new and
/// another one is not yet.
#[derive(Debug, Default)]
struct Settings {
    max_ttl: AtomicU32,
    max_negative_ttl: AtomicU32,
    failure_ttl: AtomicU32,
    prefetch: AtomicBool,
    /// Seconds; 0 if expired answers are not used.
    stale_for: AtomicU32,
}

impl Settings {
    fn set(&self, s: &CacheSettings) {
        self.max_ttl.store(s.max_ttl, Ordering::Relaxed);
        self.max_negative_ttl.store(s.max_negative_ttl, Ordering::Relaxed);
        self.failure_ttl.store(s.failure_ttl, Ordering::Relaxed);
        self.prefetch.store(s.prefetch, Ordering::Relaxed);
        self.stale_for.store(s.stale.as_ref().map_or(0, |stale| stale.for_seconds), Ordering::Relaxed);
    }
}

/// Answers by question.
#[derive(Debug)]
pub struct Cache {
    map: OctetMap,
    settings: Settings,
}

impl Cache {
    /// An empty cache, all memory of which is taken now. Its hash has a key of its own.
    ///
    /// # Errors
    /// See [`OctetMapError`].
    pub fn new(settings: &CacheSettings) -> Result<Self, OctetMapError> {
        // The standard library's random state is keyed by the system.
        let seed = std::array::from_fn(|n| RandomState::new().hash_one(n));
        let cache = Self { map: OctetMap::new(settings.octets, seed)?, settings: Settings::default() };
        cache.set_settings(settings);
        Ok(cache)
    }

    /// Takes over all settings but the memory, which stays as it was taken. Answers that are there keep their times.
    pub fn set_settings(&self, settings: &CacheSettings) {
        self.settings.set(settings);
    }

    /// The hash of a key ([`crate::question::key`]) for the other methods.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.map.hash(key)
    }

    /// Asks the processor to bring the index close.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.map.prefetch(hash);
    }

    /// Asks the processor to bring the answer close; a while after [`Cache::prefetch`].
    #[inline]
    pub fn prefetch_answer(&self, hash: u64) {
        self.map.prefetch_entry(hash);
    }

    /// What is known about a question. Never waits and never allocates.
    #[inline]
    pub fn get<'r>(&self, hash: u64, key: &[u8], now_secs: u64, room: &'r mut Scratch) -> Found<'r> {
        let Some(hit) = self.map.get(hash, key, &mut room.room) else { return Found::Miss };
        let (since, ttl) = unpack(hit.stamp);
        // The clock of another worker may be a moment behind.
        let age = seconds(now_secs).saturating_sub(since);
        let Some(mut stored) = read(hit.value, key) else { return Found::Miss };
        stored.age = age;
        if age < ttl {
            let left = ttl - age;
            let prefetch = hit.asked >= HOT
                && self.settings.prefetch.load(Ordering::Relaxed)
                && !hit.claimed
                && left <= ttl / NEAR_END
                && self.claim(hit.handle);
            return Found::Fresh(EntryRef { stored, ttl: left, prefetch, recheck_later: false });
        }
        // RFC 8767: by default expired answers are not used, and this is 0.
        let most = self.settings.stale_for.load(Ordering::Relaxed);
        if age - ttl >= most || !is_usable_stale(&stored) {
            return Found::Miss;
        }
        stored.stale = true;
        let recheck_later = recheck_at(hit.value) > seconds(now_secs);
        Found::Stale(EntryRef { stored, ttl: 0, prefetch: false, recheck_later })
    }

    #[cold]
    fn claim(&self, handle: Handle) -> bool {
        self.map.claim(handle)
    }

    /// Keeps an answer, for as long as it and the settings say. With expired answers in use, a failure does not take
    /// the place of one; instead the expired one is given at once for a while.
    ///
    /// # Errors
    /// See [`NotKept`]; none needs to be handled.
    pub fn put(&self, key: &[u8], answer: &Answer, now_secs: u64) -> Result<(), NotKept> {
        let s = &self.settings;
        let most = match u16::from(answer.rcode()) {
            rcode::NOERROR if answer.answers() > 0 => s.max_ttl.load(Ordering::Relaxed),
            // RFC 2308 5.
            rcode::NOERROR | rcode::NXDOMAIN => {
                s.max_negative_ttl.load(Ordering::Relaxed).min(s.max_ttl.load(Ordering::Relaxed))
            }
            _ => s.failure_ttl.load(Ordering::Relaxed),
        };
        let ttl = answer.ttl.min(most);
        if ttl == 0 {
            return Err(NotKept::NoTtl);
        }
        let end = dns::question_end(&answer.octets).ok_or(NotKept::Malformed)?;
        let stored = Stored::fresh(answer);
        let hash = self.hash(key);
        if s.stale_for.load(Ordering::Relaxed) > 0
            && !is_usable_stale(&stored)
            && self.keep_stale(hash, key, now_secs)
        {
            return Err(NotKept::StaleKept);
        }
        let count = |n: usize| u16::try_from(n).map_err(|_| NotKept::Put(PutError::TooLong));
        let mut fixed = [0; FIXED];
        fixed[..2].copy_from_slice(&stored.flags.to_ne_bytes());
        fixed[2..8].copy_from_slice(&stored.counts);
        fixed[8..10].copy_from_slice(&count(answer.ttls.len())?.to_ne_bytes());
        fixed[10..12].copy_from_slice(&count(answer.synthesised.len())?.to_ne_bytes());
        fixed[12..14].copy_from_slice(&answer.extended_error.unwrap_or(NO_ERROR).to_ne_bytes());
        fixed[14..16].copy_from_slice(&count(end)?.to_ne_bytes());
        let offsets: Vec<u8> =
            answer.ttls.iter().chain(&answer.synthesised).flat_map(|o| o.to_ne_bytes()).collect();
        let records = answer.octets.get(end..).unwrap_or_default();
        self.map.put(hash, key, pack(seconds(now_secs), ttl), &[&fixed, &offsets, records])?;
        Ok(())
    }

    /// Marks an expired answer that may still be used as not to be asked for again for a while; false if there is
    /// none.
    fn keep_stale(&self, hash: u64, key: &[u8], now_secs: u64) -> bool {
        let mut room = Box::new(Scratch::new());
        if matches!(self.get(hash, key, now_secs, &mut room), Found::Miss) {
            return false;
        }
        let Some(Hit { value, stamp, .. }) = self.map.get(hash, key, &mut room.room) else { return false };
        let mut value = value.to_vec();
        let until =
            seconds(now_secs).saturating_add(self.settings.failure_ttl.load(Ordering::Relaxed).max(RECHECK));
        if let Some(at) = value.get_mut(16..20) {
            at.copy_from_slice(&until.to_ne_bytes());
        }
        // If this fails, upstream is asked again, no more.
        let _ = self.map.put(hash, key, stamp, &[&value]);
        true
    }

    /// Forgets all answers about a name (in lower case, in wire form) and about the names under it. For control: looks
    /// at the whole cache. Gives how many there were.
    pub fn forget(&self, name: &[u8]) -> usize {
        let mut room = Box::new(Room::new());
        let (mut n, mut at) = (0, Some(0));
        while let Some(from) = at {
            at = self.map.sweep(from, SLICE, &mut room, |key, _, _| {
                let goes = is_under(key, name);
                n += usize::from(goes);
                goes
            });
        }
        n
    }

    /// Forgets all answers.
    pub fn clear(&self) {
        self.map.clear();
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> OctetStats {
        self.map.stats()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "136 years")]
const fn seconds(now_secs: u64) -> u32 {
    now_secs as u32
}

const fn pack(since: u32, ttl: u32) -> u64 {
    (since as u64) << 32 | ttl as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are meant")]
const fn unpack(stamp: u64) -> (u32, u32) {
    ((stamp >> 32) as u32, stamp as u32)
}

/// RFC 8767 4: old data are better than none; an old failure is not.
const fn is_usable_stale(stored: &Stored<'_>) -> bool {
    matches!(stored.rcode() as u16, rcode::NOERROR | rcode::NXDOMAIN)
}

fn recheck_at(value: &[u8]) -> u32 {
    value.get(16..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_ne_bytes(*b))
}

/// An entry's answer.
#[inline(always)]
fn read<'r>(value: &'r [u8], key: &[u8]) -> Option<Stored<'r>> {
    let (fixed, rest) = value.split_first_chunk::<FIXED>()?;
    let word = |at: usize| u16::from_ne_bytes([fixed[at], fixed[at + 1]]);
    let (ttls, rest) = rest.split_at_checked(usize::from(word(8)) * 2)?;
    let (synthesised, records) = rest.split_at_checked(usize::from(word(10)) * 2)?;
    let mut counts = [0; 6];
    counts.copy_from_slice(&fixed[2..8]);
    // A key is a name, a type, and an octet.
    debug_assert_eq!(usize::from(word(14)), dns::HEADER + key.len() + 1);
    Some(Stored {
        flags: word(0),
        counts,
        question_end: word(14),
        ttls: Offsets::Octets(ttls),
        synthesised: Offsets::Octets(synthesised),
        records,
        extended_error: Some(word(12)).filter(|e| *e != NO_ERROR),
        age: 0,
        stale: false,
    })
}

/// True if the name in a key is `name` or under it.
fn is_under(key: &[u8], name: &[u8]) -> bool {
    let Some((own, _)) = key.split_at_checked(key.len().saturating_sub(3)) else { return false };
    let mut rest = own;
    loop {
        if rest == name {
            return true;
        }
        match rest.first() {
            Some(&label) if label > 0 => match rest.get(1 + usize::from(label)..) {
                Some(parent) => rest = parent,
                None => return false,
            },
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests;
