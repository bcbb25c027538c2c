//! Mappings (RFC 6146 3.1 BIB entries): 48 octets each.
//!
//! ```text
//!  word  63                                                              0
//!   0    lifecycle 2 | generation 14 | spare 15 | pinned 1 | references 32   changes by exchange only
//!   1    src6, high half                                  (link while free)
//!   2    src6, low half
//!   3    out4 32                  | out port 16   | src port 16
//!   4    subscriber 32 | owner 8  | flags 8 | pool 8 | protocol 8
//!   5    aux 32                   | plan generation 16 | spare 16
//! ```
//! A mapping lives as long as it has references: one for each session, and one that a pinned (static)
//! mapping has of its own. The last release ends it, unless a reference was taken in between.

use crate::key::{MapInsideKey, MapOutsideKey, halves};
use crate::memory::Zeroed;
use crate::session::{GENERATION, LIFE_BUILDING, LIFE_LIVE, LIFE_SHIFT};
use crate::slab::Slot;
use crate::sync::{AtomicU64, Ordering};
use crate::table::FlowTable;

pub(crate) const REFERENCES: u64 = 0xffff_ffff;
pub(crate) const PINNED: u64 = 1 << 32;

/// The words of a mapping.
#[derive(Debug)]
pub(crate) struct MappingLine([AtomicU64; 6]);

// SAFETY: zero is a valid atomic, and atomics need no drop.
unsafe impl Zeroed for MappingLine {
    #[cfg(loom)]
    fn zeroed() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Slot for MappingLine {
    fn link(&self) -> &AtomicU64 {
        &self.0[1]
    }
}

impl MappingLine {
    #[inline(always)]
    pub(crate) fn w(&self, i: usize) -> u64 {
        self.0[i].load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn set(&self, i: usize, v: u64) {
        self.0[i].store(v, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) const fn ctl(&self) -> &AtomicU64 {
        &self.0[0]
    }

    #[inline(always)]
    pub(crate) fn life(&self) -> u64 {
        self.0[0].load(Ordering::Acquire) >> LIFE_SHIFT
    }
}

/// A mapping that was found. Valid as long as the guard that it was found under; to keep it alive take
/// a [`MappingRef`].
#[derive(Clone, Copy)]
pub struct Mapping<'g> {
    pub(crate) table: &'g FlowTable,
    pub(crate) line: &'g MappingLine,
}

impl PartialEq for Mapping<'_> {
    /// The same slot of the same table.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.line, other.line)
    }
}

impl Eq for Mapping<'_> {}

impl std::fmt::Debug for Mapping<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping")
            .field("slot", &self.slot())
            .field("inside", &self.inside_key())
            .field("outside", &self.outside_key())
            .field("references", &self.references())
            .field("pinned", &self.is_pinned())
            .finish_non_exhaustive()
    }
}

impl<'g> Mapping<'g> {
    /// Number of its slot.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.table.mapping_slot(self.line)
    }

    /// The IPv6 host.
    #[inline]
    #[must_use]
    pub fn src6(&self) -> u128 {
        u128::from(self.line.w(1)) << 64 | u128::from(self.line.w(2))
    }

    /// The host's port or echo identifier.
    #[inline]
    #[must_use]
    pub fn src_port(&self) -> u16 {
        self.line.w(3) as u16
    }

    /// The pool's address.
    #[inline]
    #[must_use]
    pub fn out4(&self) -> u32 {
        (self.line.w(3) >> 32) as u32
    }

    /// The port or echo identifier on the pool's address.
    #[inline]
    #[must_use]
    pub fn out_port(&self) -> u16 {
        (self.line.w(3) >> 16) as u16
    }

    /// Upper-layer protocol.
    #[inline]
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.line.w(4) as u8
    }

    /// Number of the pool set.
    #[inline]
    #[must_use]
    pub fn pool(&self) -> u8 {
        (self.line.w(4) >> 8) as u8
    }

    /// The function's flags.
    #[inline]
    #[must_use]
    pub fn flags(&self) -> u8 {
        (self.line.w(4) >> 16) as u8
    }

    /// The worker that made it.
    #[inline]
    #[must_use]
    pub fn owner(&self) -> u8 {
        (self.line.w(4) >> 24) as u8
    }

    /// The subscriber that it is accounted to.
    #[inline]
    #[must_use]
    pub fn subscriber(&self) -> u32 {
        (self.line.w(4) >> 32) as u32
    }

    /// Generation of the plan that it was made under, modulo 2^16.
    #[inline]
    #[must_use]
    pub fn plan_generation(&self) -> u16 {
        (self.line.w(5) >> 16) as u16
    }

    /// The function's own number.
    #[inline]
    #[must_use]
    pub fn aux(&self) -> u32 {
        (self.line.w(5) >> 32) as u32
    }

    /// Its inside key.
    #[inline]
    #[must_use]
    pub fn inside_key(&self) -> MapInsideKey {
        MapInsideKey {
            src6: self.src6(),
            port: self.src_port(),
            protocol: self.protocol(),
            pool: self.pool(),
        }
    }

    /// Its outside key.
    #[inline]
    #[must_use]
    pub fn outside_key(&self) -> MapOutsideKey {
        MapOutsideKey { out4: self.out4(), port: self.out_port(), protocol: self.protocol() }
    }

    /// References at this moment.
    #[must_use]
    pub fn references(&self) -> u32 {
        (self.line.ctl().load(Ordering::Relaxed) & REFERENCES) as u32
    }

    /// True if it is static.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.line.ctl().load(Ordering::Relaxed) & PINNED != 0
    }

    /// True if it has not ended.
    #[inline]
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.line.life() == LIFE_LIVE
    }

    /// Takes a reference; nothing if it has ended.
    #[inline]
    #[must_use]
    pub fn acquire(&self) -> Option<MappingRef<'g>> {
        let mut now = self.line.ctl().load(Ordering::Acquire);
        loop {
            if now >> LIFE_SHIFT != LIFE_LIVE {
                return None;
            }
            match self.line.ctl().compare_exchange(now, now + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(MappingRef(*self)),
                // Lock-free: another reference came or went.
                Err(w) => now = w,
            }
        }
    }

    /// Gives a reference back; true if none is left.
    #[inline]
    pub(crate) fn release(&self) -> bool {
        self.line.ctl().fetch_sub(1, Ordering::AcqRel) & REFERENCES == 1
    }
}

/// A mapping with a reference that keeps it alive. Handing it to a new session hands the reference
/// over. Dropping it gives the reference back; a mapping left without any is ended by the sweep.
#[derive(Debug, PartialEq, Eq)]
pub struct MappingRef<'g>(pub(crate) Mapping<'g>);

impl<'g> MappingRef<'g> {
    /// The mapping.
    #[inline]
    #[must_use]
    pub const fn mapping(&self) -> Mapping<'g> {
        self.0
    }

    /// Keeps the reference without the handle.
    #[inline]
    pub(crate) fn keep(self) -> Mapping<'g> {
        let m = self.0;
        std::mem::forget(self);
        m
    }
}

impl<'g> std::ops::Deref for MappingRef<'g> {
    type Target = Mapping<'g>;

    #[inline]
    fn deref(&self) -> &Mapping<'g> {
        &self.0
    }
}

impl Drop for MappingRef<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A mapping to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewMapping {
    /// Its inside key.
    pub key: MapInsideKey,
    /// The worker that makes it.
    pub owner: u8,
    /// The function's flags.
    pub flags: u8,
    /// The subscriber that it is accounted to.
    pub subscriber: u32,
    /// Generation of the plan, modulo 2^16.
    pub plan_generation: u16,
    /// Static: stays without sessions until it is unpinned.
    pub pinned: bool,
    /// The function's own number.
    pub aux: u32,
}

impl NewMapping {
    /// Writes everything but the outside half.
    pub(crate) fn write(&self, line: &MappingLine) {
        let (hi, lo) = halves(self.key.src6);
        line.set(1, hi);
        line.set(2, lo);
        line.set(3, u64::from(self.key.port));
        line.set(
            4,
            u64::from(self.subscriber) << 32
                | u64::from(self.owner) << 24
                | u64::from(self.flags) << 16
                | u64::from(self.key.pool) << 8
                | u64::from(self.key.protocol),
        );
        line.set(5, u64::from(self.aux) << 32 | u64::from(self.plan_generation) << 16);
    }

    /// The control word to begin with: the caller's reference, and that of a static mapping.
    pub(crate) const fn ctl(&self, generation: u64) -> u64 {
        let references = if self.pinned { PINNED | 2 } else { 1 };
        generation & GENERATION | LIFE_BUILDING << LIFE_SHIFT | references
    }
}

/// Where new mappings get their address and port.
pub trait PortSource {
    /// Reserves an address and port that nobody else gets before it is released; nothing if there is
    /// none left. Called again if the last one turns out to be in use by a mapping that this source does
    /// not know of; that one stays reserved.
    fn reserve(&mut self) -> Option<(u32, u16)>;

    /// Takes back what the mapping did not need after all.
    fn release(&mut self, out4: u32, out_port: u16);
}

/// One given address and port, for static mappings.
#[derive(Debug, Clone, Copy)]
pub struct FixedPort(Option<(u32, u16)>);

impl FixedPort {
    /// This address and port.
    #[must_use]
    pub const fn new(out4: u32, out_port: u16) -> Self {
        Self(Some((out4, out_port)))
    }
}

impl PortSource for FixedPort {
    fn reserve(&mut self) -> Option<(u32, u16)> {
        self.0.take()
    }

    fn release(&mut self, _: u32, _: u16) {}
}
