//! A second key for a session that is in use: a connection that was accepted from outside gets its way in when its
//! server is known.
//!
//! ```text
//!  owner                                        whoever ends the session
//!  write key, spliced line, "has an inside key"   DYING
//!  insert the word                                fence
//!  fence                                          take out the words of the keys that it has
//!  DYING? take the word out
//! ```
//! Both write before they look, so that at least one of them sees the other, and the word never stays behind. The slot
//! is not used again before the owner has left its guard.

use crate::create::low_generation;
use crate::guard::{Guard, same};
use crate::index::{Probe, Refused};
use crate::key::{InsideKey, Key, halves};
use crate::session::{HAS_INSIDE, HAS_OUTSIDE, KIND_NATIVE, LIFE_SHIFT, Session};
use crate::spliced::SplicedRef;
use crate::stats::Count;
use crate::sync::{Ordering, fence};

/// Why a session got no inside key. The line is the caller's again.
#[derive(Debug, thiserror::Error)]
pub enum AddError<'g> {
    /// Another session has the key, or is just getting it: another port may be free.
    #[error("the inside key is taken")]
    Taken(SplicedRef<'g>),
    /// No room in the index for the key.
    #[error("no room in the index")]
    IndexFull(SplicedRef<'g>),
    /// The session has an inside key or no outside key, or its remote address contradicts the key's.
    #[error("the session cannot have this key")]
    Unfit(SplicedRef<'g>),
    /// The session has ended.
    #[error("the session has ended")]
    Ended(SplicedRef<'g>),
}

impl<'g> AddError<'g> {
    /// The line of splicing constants, for another try.
    #[must_use]
    pub fn into_line(self) -> SplicedRef<'g> {
        match self {
            Self::Taken(line) | Self::IndexFull(line) | Self::Unfit(line) | Self::Ended(line) => line,
        }
    }
}

impl Guard<'_> {
    /// Gives a session that has an outside key only its inside key, line of splicing constants and
    /// [`Session::checksum_delta`]. From then on it is found by both keys.
    ///
    /// Only the session's owner may do this; nobody else may, in the session's present state, make use of what this
    /// changes (for a moment others may see the line of a try that fails). State, flags and time stay: the state that
    /// says that all is there is the owner's to set afterwards, by [`Session::transition`], and whoever reads the
    /// state first and the line then has both.
    ///
    /// # Errors
    /// See [`AddError`]. The session is then as it was.
    pub fn add_inside<'g>(
        &'g self,
        session: &Session<'g>,
        key: InsideKey,
        spliced: SplicedRef<'g>,
        checksum_delta: u16,
    ) -> Result<(), AddError<'g>> {
        let (table, line) = (self.table, session.line);
        let w5 = line.w(5);
        let fits = w5 & (KIND_NATIVE | HAS_INSIDE | HAS_OUTSIDE) == HAS_OUTSIDE
            && key.protocol == session.protocol()
            && key.accepts_remote(session.remote4());
        if !fits {
            return Err(AddError::Unfit(spliced));
        }
        let ctl = line.load_ctl();
        if !ctl.is_live() {
            return Err(AddError::Ended(spliced));
        }
        let (hi, lo) = halves(key.src6);
        let ports = key.w3() & 0xffff_ffff;
        // The half that the outside key is in stays as it is for everybody who looks meanwhile.
        line.set(1, hi);
        line.set(2, lo);
        line.set(3, line.w(3) & !0xffff_ffff | ports);
        // The session has the line from here on unless it is taken back below: slots are not used again while this
        // guard is there.
        line.set(6, line.w(6) & 0xffff_ffff | u64::from(spliced.slot() + 1) << 32);
        session.set_checksum_delta(checksum_delta);
        let has = w5 & !(0xff << 8) | u64::from(key.prefix) << 8 | HAS_INSIDE;
        line.set_released(5, has);

        let slot = session.slot();
        let generation = low_generation(ctl.0);
        let probe = Probe::new(key.hash(&table.hasher), key.side());
        let judge = |other: u32| {
            let line = &table.sessions.lines()[other as usize];
            same(key.is_of(line), line.ctl().load(Ordering::SeqCst) >> LIFE_SHIFT)
        };
        let inserted = table.session_index.insert(&probe, slot, generation, judge);
        if inserted.is_ok() {
            fence(Ordering::SeqCst);
            if line.load_ctl().is_live() {
                spliced.keep();
                return Ok(());
            }
            // Whoever ended it may have taken the word out, or have come too early.
            table.session_index.remove(&probe, slot, generation);
        }
        line.set_released(5, w5);
        line.set(6, line.w(6) & 0xffff_ffff);
        Err(match inserted {
            Ok(()) => AddError::Ended(spliced),
            Err(Refused::Full) => {
                self.count(Count::IndexFull);
                AddError::IndexFull(spliced)
            }
            Err(Refused::Exists(_) | Refused::Busy) => {
                self.count(Count::RacesLost);
                AddError::Taken(spliced)
            }
        })
    }
}
