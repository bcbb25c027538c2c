//! Creating sessions and mappings: two keys that cannot be published at once.
//!
//! ```text
//!  claim the inside key with a BUILDING slot -> reserve mapping and port -> publish the outside key -> LIVE
//!        | lost: use the winner's                 | failed                    | taken
//!        v                                        v                           v
//!      slot retired                          DYING, unlinked, retired, references given back
//! ```

use crate::guard::{Guard, same};
use crate::index::{Probe, Refused};
use crate::key::{Key, OutsideKey};
use crate::mapping::{Mapping, MappingRef, NewMapping, PortSource};
use crate::session::{
    Ctl, GENERATION, HAS_OUTSIDE, LIFE_DYING, LIFE_LIVE, LIFE_SHIFT, NewKey, NewSession, Session, SessionLine,
};
use crate::spliced::SplicedRef;
use crate::stats::Count;
use crate::sync::Ordering;

/// An entry that was created, or was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created<T> {
    /// New.
    Fresh(T),
    /// Somebody had made it before; nothing was reserved.
    Existing(T),
}

impl<T> Created<T> {
    /// The entry.
    #[inline]
    pub fn into_inner(self) -> T {
        match self {
            Self::Fresh(t) | Self::Existing(t) => t,
        }
    }
}

/// What the caller's `reserve` brings for a new session.
#[derive(Debug, Default)]
pub struct Reserved<'g> {
    /// The outside key, for a session with two.
    pub outside: Option<OutsideKey>,
    /// The mapping; its reference goes to the session.
    pub mapping: Option<MappingRef<'g>>,
    /// The line of splicing constants; goes to the session.
    pub spliced: Option<SplicedRef<'g>>,
    /// See [`Session::checksum_delta`].
    pub checksum_delta: u16,
}

impl<'g> Reserved<'g> {
    /// For a session with one key.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// For a NAT64 session: its outside key follows from the mapping and the outside host.
    #[must_use]
    pub fn translated(mapping: MappingRef<'g>, remote4: u32, remote_port: u16, checksum_delta: u16) -> Self {
        let outside = OutsideKey {
            out4: mapping.out4(),
            remote4,
            out_port: mapping.out_port(),
            remote_port,
            protocol: mapping.protocol(),
        };
        Self { outside: Some(outside), mapping: Some(mapping), spliced: None, checksum_delta }
    }
}

/// Why there is no new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreateError<E> {
    /// Another worker is building it at this moment.
    #[error("another worker is building the session")]
    Building,
    /// No free session slot.
    #[error("no free session")]
    SessionsFull,
    /// No room in the index for a key.
    #[error("no room in the index")]
    IndexFull,
    /// Another session has the outside key, or its remote address contradicts the inside key's.
    #[error("the outside key is taken")]
    Conflict,
    /// The caller's `reserve` failed.
    #[error("nothing reserved: {0}")]
    Reserve(E),
}

/// Why there is no new mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// Another worker is building it at this moment, or it is just ending.
    #[error("another worker is building the mapping")]
    Building,
    /// No free mapping slot.
    #[error("no free mapping")]
    MappingsFull,
    /// No room in the index for a key.
    #[error("no room in the index")]
    IndexFull,
    /// The source has no port left.
    #[error("no free port")]
    NoPort,
    /// Every port that the source gave is another mapping's.
    #[error("the outside address and port are taken")]
    Conflict,
}

/// How many ports are tried that turn out to be in use.
const PORT_TRIES: usize = 4;
/// Room in the retire ring that a creation may need: its own slots, whatever goes wrong.
const ROOM: usize = 8;

/// A slot that is claimed but not live. Dropping it undoes everything, also when `reserve` panics.
struct Claim<'a, 'w> {
    guard: &'a Guard<'w>,
    line: &'a SessionLine,
    slot: u32,
}

impl Drop for Claim<'_, '_> {
    fn drop(&mut self) {
        let ctl = Ctl(self.line.ctl().load(Ordering::Relaxed)).with_life(LIFE_DYING);
        // Nobody else changes a BUILDING slot's word.
        self.line.ctl().store(ctl.0, Ordering::SeqCst);
        self.guard.unlink_session(self.line, self.slot);
        self.guard.retire_session(self.slot);
    }
}

impl<'w> Guard<'w> {
    /// Creates a session, or finds the one that has its key. `reserve` is called once the key is
    /// claimed, and not at all if it was taken; it may create or acquire a mapping under this guard.
    ///
    /// # Errors
    /// See [`CreateError`]. Whatever was reserved is given back: a mapping left without a reference is
    /// ended by the next sweep.
    pub fn create_session<'g, E>(
        &'g self,
        new: &NewSession,
        reserve: impl FnOnce() -> Result<Reserved<'g>, E>,
    ) -> Result<Created<Session<'g>>, CreateError<E>> {
        let table = self.table;
        let (probe, fits) = match new.key {
            NewKey::Inside(k) => (Probe::new(k.hash(&table.hasher), k.side()), Fits::Inside(k)),
            NewKey::Outside(k) => (Probe::new(k.hash(&table.hasher), k.side()), Fits::Outside(k)),
            NewKey::Native(k) => (Probe::new(k.hash(&table.hasher), k.side()), Fits::Native(k)),
        };
        table.session_index.prefetch(&probe);
        let Some(slot) = self.take_session() else {
            self.no_slot();
            return Err(CreateError::SessionsFull);
        };
        let line = &table.sessions.lines()[slot as usize];
        new.write(line);
        let generation = line.ctl().load(Ordering::Relaxed) & GENERATION;
        line.ctl().store(new.ctl(generation).0, Ordering::Release);
        let session = Session { table, line };
        let claim = Claim { guard: self, line, slot };
        let judge = |other: u32| {
            let line = &table.sessions.lines()[other as usize];
            same(fits.is_of(line), line.ctl().load(Ordering::SeqCst) >> LIFE_SHIFT)
        };
        if let Err(e) = table.session_index.insert(&probe, slot, low_generation(generation), judge) {
            drop(claim);
            return self.refused(e);
        }
        let reserved = reserve().map_err(CreateError::Reserve)?;
        let Reserved { outside, mapping, spliced, checksum_delta } = reserved;
        line.set(7, line.w(7) & !0xffff | u64::from(checksum_delta));
        if let Some(key) = outside {
            let fits_inside = match new.key {
                NewKey::Inside(k) => k.protocol == key.protocol && k.accepts_remote(key.remote4),
                NewKey::Outside(_) | NewKey::Native(_) => false,
            };
            if !fits_inside {
                return Err(CreateError::Conflict);
            }
            line.set(3, line.w(3) & 0xffff_ffff | u64::from(key.remote4) << 32);
            line.set(4, key.w4());
            line.set(5, line.w(5) | HAS_OUTSIDE);
            let probe = Probe::new(key.hash(&table.hasher), key.side());
            let judge = |other: u32| {
                let line = &table.sessions.lines()[other as usize];
                same(key.is_of(line), line.ctl().load(Ordering::SeqCst) >> LIFE_SHIFT)
            };
            if let Err(e) = table.session_index.insert(&probe, slot, low_generation(generation), judge) {
                return Err(match e {
                    Refused::Full => {
                        self.count(Count::IndexFull);
                        CreateError::IndexFull
                    }
                    Refused::Exists(_) | Refused::Busy => CreateError::Conflict,
                });
            }
        }
        if !matches!(new.key, NewKey::Native(_)) {
            let mapping = mapping.map_or(0, |m| m.keep().slot() + 1);
            let spliced = spliced.map_or(0, |s| s.keep() + 1);
            line.set(6, u64::from(spliced) << 32 | u64::from(mapping));
        }
        std::mem::forget(claim);
        let live = new.ctl(generation).with_life(LIFE_LIVE);
        line.ctl().store(live.0, Ordering::Release);
        self.count(Count::SessionsCreated);
        Ok(Created::Fresh(session))
    }

    /// Creates a session with one key (local or native).
    ///
    /// # Errors
    /// As [`Guard::create_session`].
    pub fn create_single<'g>(
        &'g self,
        new: &NewSession,
    ) -> Result<Created<Session<'g>>, CreateError<std::convert::Infallible>> {
        self.create_session(new, || Ok(Reserved::nothing()))
    }

    fn refused<'g, E>(&'g self, e: Refused) -> Result<Created<Session<'g>>, CreateError<E>> {
        match e {
            Refused::Full => {
                self.count(Count::IndexFull);
                Err(CreateError::IndexFull)
            }
            Refused::Busy => {
                self.count(Count::RacesLost);
                Err(CreateError::Building)
            }
            Refused::Exists(slot) => {
                self.count(Count::RacesLost);
                let line = &self.table.sessions.lines()[slot as usize];
                if line.load_ctl().is_live() {
                    Ok(Created::Existing(Session { table: self.table, line }))
                } else {
                    Err(CreateError::Building)
                }
            }
        }
    }

    fn take_session(&self) -> Option<u32> {
        if self.pool.ring.room() < ROOM {
            self.recycle_more();
            if self.pool.ring.room() < ROOM {
                return None;
            }
        }
        let table = self.table;
        table.sessions.take(&self.pool.sessions).or_else(|| {
            self.recycle_more();
            table.sessions.take(&self.pool.sessions)
        })
    }

    fn take_mapping(&self) -> Option<u32> {
        if self.pool.ring.room() < ROOM {
            self.recycle_more();
            // A session that is being created may need the rest of the room.
            if self.pool.ring.room() < ROOM / 2 {
                return None;
            }
        }
        let table = self.table;
        table.mappings.take(&self.pool.mappings).or_else(|| {
            self.recycle_more();
            table.mappings.take(&self.pool.mappings)
        })
    }

    /// Creates a mapping, or finds the one that has its inside key. The reference is the caller's.
    ///
    /// # Errors
    /// See [`MappingError`]. A port that was reserved is released.
    pub fn create_mapping<'g>(
        &'g self,
        new: &NewMapping,
        source: &mut impl PortSource,
    ) -> Result<Created<MappingRef<'g>>, MappingError> {
        let table = self.table;
        let key = new.key;
        let probe = Probe::new(key.hash(&table.hasher), key.side());
        table.mapping_index.prefetch(&probe);
        let Some(slot) = self.take_mapping() else {
            self.no_slot();
            return Err(MappingError::MappingsFull);
        };
        let line = &table.mappings.lines()[slot as usize];
        new.write(line);
        let generation = line.ctl().load(Ordering::Relaxed) & GENERATION;
        line.ctl().store(new.ctl(generation), Ordering::Release);
        let mapping = Mapping { table, line };
        let judge = |other: u32| {
            let line = &table.mappings.lines()[other as usize];
            same(key.is_of(line), line.ctl().load(Ordering::SeqCst) >> LIFE_SHIFT)
        };
        if let Err(e) = table.mapping_index.insert(&probe, slot, low_generation(generation), judge) {
            self.abandon_mapping(&mapping, slot);
            return match e {
                Refused::Full => {
                    self.count(Count::IndexFull);
                    Err(MappingError::IndexFull)
                }
                Refused::Busy => {
                    self.count(Count::RacesLost);
                    Err(MappingError::Building)
                }
                Refused::Exists(slot) => {
                    self.count(Count::RacesLost);
                    let other = table.mapping_at(slot);
                    other.acquire().map(Created::Existing).ok_or(MappingError::Building)
                }
            };
        }
        if let Err(e) = self.publish_outside(&mapping, slot, generation, source) {
            self.abandon_mapping(&mapping, slot);
            return Err(e);
        }
        let live = new.ctl(generation) & !(3 << LIFE_SHIFT) | LIFE_LIVE << LIFE_SHIFT;
        line.ctl().store(live, Ordering::Release);
        self.count(Count::MappingsCreated);
        Ok(Created::Fresh(MappingRef(mapping)))
    }

    /// Finds a port that no mapping has, and publishes it.
    fn publish_outside(
        &self,
        mapping: &Mapping<'_>,
        slot: u32,
        generation: u64,
        source: &mut impl PortSource,
    ) -> Result<(), MappingError> {
        let table = self.table;
        let mut failure = MappingError::NoPort;
        for _ in 0..PORT_TRIES {
            let Some((out4, out_port)) = source.reserve() else { return Err(failure) };
            let inside = mapping.line.w(3) & 0xffff;
            mapping.line.set(3, u64::from(out4) << 32 | u64::from(out_port) << 16 | inside);
            let key = mapping.outside_key();
            let probe = Probe::new(key.hash(&table.hasher), key.side());
            let judge = |other: u32| {
                let line = &table.mappings.lines()[other as usize];
                same(key.is_of(line), line.ctl().load(Ordering::SeqCst) >> LIFE_SHIFT)
            };
            match table.mapping_index.insert(&probe, slot, low_generation(generation), judge) {
                Ok(()) => return Ok(()),
                Err(Refused::Full) => {
                    source.release(out4, out_port);
                    self.count(Count::IndexFull);
                    return Err(MappingError::IndexFull);
                }
                Err(Refused::Exists(_) | Refused::Busy) => failure = MappingError::Conflict,
            }
        }
        Err(failure)
    }

    /// Undoes a mapping that was never live.
    fn abandon_mapping(&self, mapping: &Mapping<'_>, slot: u32) {
        let ctl = mapping.line.ctl();
        let dying = ctl.load(Ordering::Relaxed) | LIFE_DYING << LIFE_SHIFT;
        ctl.store(dying, Ordering::SeqCst);
        self.unlink_mapping(mapping, slot);
        self.retire_mapping(slot);
    }
}

/// The key of a new session, whichever it is.
#[derive(Clone, Copy)]
enum Fits {
    Inside(crate::key::InsideKey),
    Outside(OutsideKey),
    Native(crate::key::NativeKey),
}

impl Fits {
    #[inline]
    fn is_of(&self, line: &SessionLine) -> bool {
        match self {
            Self::Inside(k) => k.is_of(line),
            Self::Outside(k) => k.is_of(line),
            Self::Native(k) => k.is_of(line),
        }
    }
}

/// The part of a generation that index words carry.
#[inline]
pub(crate) const fn low_generation(ctl: u64) -> u8 {
    (ctl >> 48) as u8
}
