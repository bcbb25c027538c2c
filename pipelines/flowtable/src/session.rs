//! Sessions: one cache line each, for all functions that keep state.
//!
//! ```text
//!  word  63                                                              0
//!   0    lifecycle 2 | generation 14 | flags 8 | state 8 | last seen 32     changes by exchange only
//!   1    src6, high half                                  (link while free)
//!   2    src6, low half
//!   3    dst4 / remote4 32        | src port 16   | dst port 16
//!   4    out4 32                  | out port 16   | remote port 16          native: dst6, high half
//!   5    subscriber 32 | owner 8  | kind 8 | prefix 8 | protocol 8
//!   6    spliced line 32          | mapping 32                              native: dst6, low half
//!   7    aux 32                   | plan generation 16 | checksum delta 16
//! ```
//! | kind | inside key | outside key | else |
//! | --- | --- | --- | --- |
//! | NAT64 | src6, src port, dst4 under prefix n, dst port | out4, out port, remote4 = dst4, remote port = dst port | mapping, delta |
//! | spliced | as NAT64, or towards own address n | own IPv4 address and port, client's | spliced line |
//! | local | towards own address n (peer is IPv6) | own IPv4 address and port, peer's (peer is IPv4) | owner; one key |
//! | native IPv6 | src6, dst6, ports, for both directions | none | |
//!
//! Words 1 to 6 are written before the session can be found and stay as they are until no reader is
//! left, but for the inside half of a spliced session, which [`crate::Guard::add_inside`] adds. Every word is an atomic, read and written relaxed: a mistake in the protocol would give a
//! wrong answer, never a torn or invalid value.

use crate::key::{InsideKey, NativeKey, OWN_ADDRESS, OutsideKey, halves};
use crate::mapping::Mapping;
use crate::memory::Zeroed;
use crate::slab::Slot;
use crate::spliced::Spliced;
use crate::sync::{AtomicU64, Ordering};
use crate::table::FlowTable;
use crate::tick::Tick;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Translated between IPv6 and IPv4.
    Nat64 = 0,
    /// Two TCP connections stitched together.
    Spliced = 1,
    /// Ends at the gateway, at the worker that owns it.
    Local = 2,
    /// Native IPv6 whose state is kept.
    Native6 = 8,
}

/// The bit of word 5 that tells native sessions from all others.
pub(crate) const KIND_NATIVE: u64 = 8 << 16;
/// The session has an inside (or native) word in the index.
pub(crate) const HAS_INSIDE: u64 = 0x40 << 16;
/// The session has an outside word in the index.
pub(crate) const HAS_OUTSIDE: u64 = 0x80 << 16;

/// Where an entry is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lifecycle {
    /// Not in use.
    Free,
    /// Being built: can be found, is not ready.
    Building,
    /// In use.
    Live,
    /// Ended; on its way out.
    Dying,
}

/// The control word of a session, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ctl(pub(crate) u64);

pub(crate) const LIFE_SHIFT: u32 = 62;
pub(crate) const LIFE_FREE: u64 = 0;
pub(crate) const LIFE_BUILDING: u64 = 1;
pub(crate) const LIFE_LIVE: u64 = 2;
pub(crate) const LIFE_DYING: u64 = 3;
/// Generation, in place.
pub(crate) const GENERATION: u64 = 0x3fff << 48;
pub(crate) const GENERATION_ONE: u64 = 1 << 48;

impl Ctl {
    /// Where the session is in its life.
    #[inline(always)]
    #[must_use]
    pub const fn lifecycle(self) -> Lifecycle {
        match self.0 >> LIFE_SHIFT {
            LIFE_FREE => Lifecycle::Free,
            LIFE_BUILDING => Lifecycle::Building,
            LIFE_LIVE => Lifecycle::Live,
            _ => Lifecycle::Dying,
        }
    }

    /// The function's state, for example of its TCP state machine.
    #[inline(always)]
    #[must_use]
    pub const fn state(self) -> u8 {
        (self.0 >> 32) as u8
    }

    /// The function's flags.
    #[inline(always)]
    #[must_use]
    pub const fn flags(self) -> u8 {
        (self.0 >> 40) as u8
    }

    /// The tick in which the session was last refreshed.
    #[inline(always)]
    #[must_use]
    pub const fn last_seen(self) -> Tick {
        Tick(self.0 as u32)
    }

    /// How often the slot was used before, modulo 2^14.
    #[inline(always)]
    #[must_use]
    pub const fn generation(self) -> u16 {
        ((self.0 & GENERATION) >> 48) as u16
    }

    /// The same with another state.
    #[inline(always)]
    #[must_use]
    pub const fn with_state(self, state: u8) -> Self {
        Self(self.0 & !(0xff << 32) | (state as u64) << 32)
    }

    /// The same with other flags.
    #[inline(always)]
    #[must_use]
    pub const fn with_flags(self, flags: u8) -> Self {
        Self(self.0 & !(0xff << 40) | (flags as u64) << 40)
    }

    /// The same, last seen at `tick`.
    #[inline(always)]
    #[must_use]
    pub const fn with_last_seen(self, tick: Tick) -> Self {
        Self(self.0 & !0xffff_ffff | tick.0 as u64)
    }

    #[inline(always)]
    pub(crate) const fn with_life(self, life: u64) -> Self {
        Self(self.0 & !(3 << LIFE_SHIFT) | life << LIFE_SHIFT)
    }

    #[inline(always)]
    pub(crate) const fn is_live(self) -> bool {
        self.0 >> LIFE_SHIFT == LIFE_LIVE
    }
}

/// The cache line of a session.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct SessionLine([AtomicU64; 8]);

// SAFETY: zero is a valid atomic, and atomics need no drop.
unsafe impl Zeroed for SessionLine {
    #[cfg(loom)]
    fn zeroed() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Slot for SessionLine {
    fn link(&self) -> &AtomicU64 {
        &self.0[1]
    }
}

impl SessionLine {
    /// Word `i` of what does not change.
    #[inline(always)]
    pub(crate) fn w(&self, i: usize) -> u64 {
        self.0[i].load(Ordering::Relaxed)
    }

    /// Writes a word, before publication.
    #[inline(always)]
    pub(crate) fn set(&self, i: usize, v: u64) {
        self.0[i].store(v, Ordering::Relaxed);
    }

    /// Writes a word so that whoever acquires it sees what was written before.
    #[inline(always)]
    pub(crate) fn set_released(&self, i: usize, v: u64) {
        self.0[i].store(v, Ordering::Release);
    }

    /// Word 5, with what was written before it.
    #[inline(always)]
    fn acquire5(&self) -> u64 {
        self.0[5].load(Ordering::Acquire)
    }

    #[inline(always)]
    pub(crate) const fn ctl(&self) -> &AtomicU64 {
        &self.0[0]
    }

    #[inline(always)]
    pub(crate) const fn word7(&self) -> &AtomicU64 {
        &self.0[7]
    }

    #[inline(always)]
    pub(crate) fn load_ctl(&self) -> Ctl {
        Ctl(self.0[0].load(Ordering::Acquire))
    }
}

/// A session that was found. Valid as long as the guard that it was found under; it may end meanwhile,
/// which [`Session::touch`] and [`Session::transition`] tell.
#[derive(Clone, Copy)]
pub struct Session<'g> {
    pub(crate) table: &'g FlowTable,
    pub(crate) line: &'g SessionLine,
}

impl PartialEq for Session<'_> {
    /// The same slot of the same table.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.line, other.line)
    }
}

impl Eq for Session<'_> {}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut s = f.debug_struct("Session");
        s.field("slot", &self.slot()).field("kind", &self.kind()).field("ctl", &self.ctl());
        if let Some(k) = self.inside_key() {
            s.field("inside", &k);
        }
        if let Some(k) = self.outside_key() {
            s.field("outside", &k);
        }
        if let Some(k) = self.native_key() {
            s.field("native", &k);
        }
        s.finish_non_exhaustive()
    }
}

impl<'g> Session<'g> {
    /// Number of its slot, for control and for logs.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.table.session_slot(self.line)
    }

    /// What it is for.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> Kind {
        match (self.line.w(5) >> 16) & 0xf {
            0 => Kind::Nat64,
            1 => Kind::Spliced,
            2 => Kind::Local,
            _ => Kind::Native6,
        }
    }

    /// The inside IPv6 host.
    #[inline]
    #[must_use]
    pub fn src6(&self) -> u128 {
        u128::from(self.line.w(1)) << 64 | u128::from(self.line.w(2))
    }

    /// The outside IPv6 host of a native session; without meaning for others.
    #[inline]
    #[must_use]
    pub fn dst6(&self) -> u128 {
        u128::from(self.line.w(4)) << 64 | u128::from(self.line.w(6))
    }

    /// The outside IPv4 host (under the NAT64 prefix: the destination).
    #[inline]
    #[must_use]
    pub fn remote4(&self) -> u32 {
        (self.line.w(3) >> 32) as u32
    }

    /// The inside host's port or echo identifier.
    #[inline]
    #[must_use]
    pub fn src_port(&self) -> u16 {
        (self.line.w(3) >> 16) as u16
    }

    /// The port that the inside host sends to.
    #[inline]
    #[must_use]
    pub fn dst_port(&self) -> u16 {
        self.line.w(3) as u16
    }

    /// The gateway's IPv4 address.
    #[inline]
    #[must_use]
    pub fn out4(&self) -> u32 {
        (self.line.w(4) >> 32) as u32
    }

    /// The gateway's port or echo identifier.
    #[inline]
    #[must_use]
    pub fn out_port(&self) -> u16 {
        (self.line.w(4) >> 16) as u16
    }

    /// The outside host's port.
    #[inline]
    #[must_use]
    pub fn remote_port(&self) -> u16 {
        self.line.w(4) as u16
    }

    /// Upper-layer protocol.
    #[inline]
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.line.w(5) as u8
    }

    /// Number of the NAT64 prefix or own address (see [`InsideKey::prefix`]).
    #[inline]
    #[must_use]
    pub fn prefix(&self) -> u8 {
        (self.line.w(5) >> 8) as u8
    }

    /// The worker that owns it, where that matters.
    #[inline]
    #[must_use]
    pub fn owner(&self) -> u8 {
        (self.line.w(5) >> 24) as u8
    }

    /// Number of the subscriber that it is accounted to.
    #[inline]
    #[must_use]
    pub fn subscriber(&self) -> u32 {
        (self.line.w(5) >> 32) as u32
    }

    /// Generation of the plan that it was made under, modulo 2^16.
    #[inline]
    #[must_use]
    pub fn plan_generation(&self) -> u16 {
        (self.line.w(7) >> 16) as u16
    }

    /// What a transport checksum gains from inside to outside (one's complement, as
    /// `causeway_wire::checksum::apply` takes it); its complement leads back.
    #[inline]
    #[must_use]
    pub fn checksum_delta(&self) -> u16 {
        self.line.w(7) as u16
    }

    /// A number of the function's own.
    #[inline]
    #[must_use]
    pub fn aux(&self) -> u32 {
        (self.line.w(7) >> 32) as u32
    }

    /// Sets the function's own number.
    pub fn set_aux(&self, aux: u32) {
        self.set_in_word7(0xffff_ffff << 32, u64::from(aux) << 32);
    }

    /// Notes that the session goes on under this generation of the plan, modulo 2^16.
    pub fn set_plan_generation(&self, generation: u16) {
        self.set_in_word7(0xffff << 16, u64::from(generation) << 16);
    }

    /// Puts `bits` in place of those of `mask`. An exchange fails only against another that changes the
    /// word; a few tries bound it, and what the others wrote stands then.
    fn set_in_word7(&self, mask: u64, bits: u64) {
        let mut now = self.line.word7().load(Ordering::Relaxed);
        for _ in 0..8 {
            let new = now & !mask | bits;
            match self.line.word7().compare_exchange(now, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(w) => now = w,
            }
        }
    }

    /// Sets the checksum's difference, whatever else changes in its word.
    pub(crate) fn set_checksum_delta(&self, delta: u16) {
        let mut now = self.line.word7().load(Ordering::Relaxed);
        loop {
            let new = now & !0xffff | u64::from(delta);
            match self.line.word7().compare_exchange(now, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                // Lock-free: whoever came in between made progress.
                Err(w) => now = w,
            }
        }
    }

    /// The inside key, if it has one.
    #[must_use]
    pub fn inside_key(&self) -> Option<InsideKey> {
        let w5 = self.line.acquire5();
        (w5 & HAS_INSIDE != 0 && w5 & KIND_NATIVE == 0).then(|| InsideKey {
            src6: self.src6(),
            dst4: if self.prefix() < OWN_ADDRESS { self.remote4() } else { 0 },
            src_port: self.src_port(),
            dst_port: self.dst_port(),
            protocol: self.protocol(),
            prefix: self.prefix(),
        })
    }

    /// The outside key, if it has one.
    #[must_use]
    pub fn outside_key(&self) -> Option<OutsideKey> {
        (self.line.w(5) & HAS_OUTSIDE != 0).then(|| OutsideKey {
            out4: self.out4(),
            remote4: self.remote4(),
            out_port: self.out_port(),
            remote_port: self.remote_port(),
            protocol: self.protocol(),
        })
    }

    /// The native key, if that is its kind.
    #[must_use]
    pub fn native_key(&self) -> Option<NativeKey> {
        (self.line.w(5) & KIND_NATIVE != 0).then(|| NativeKey {
            src6: self.src6(),
            dst6: self.dst6(),
            src_port: self.src_port(),
            dst_port: self.dst_port(),
            protocol: self.protocol(),
        })
    }

    /// Its mapping, if it has one.
    #[inline]
    #[must_use]
    pub fn mapping(&self) -> Option<Mapping<'g>> {
        let slot = if self.line.w(5) & KIND_NATIVE == 0 { self.line.w(6) as u32 } else { 0 };
        slot.checked_sub(1).map(|s| self.table.mapping_at(s))
    }

    /// Its line of splicing constants, if it has one.
    #[inline]
    #[must_use]
    pub fn spliced(&self) -> Option<&'g Spliced> {
        let w6 = if self.line.w(5) & KIND_NATIVE == 0 { self.line.w(6) } else { 0 };
        ((w6 >> 32) as u32).checked_sub(1).map(|s| self.table.spliced_at(s))
    }

    /// The control word as it is now.
    #[inline]
    #[must_use]
    pub fn ctl(&self) -> Ctl {
        self.line.load_ctl()
    }

    /// True if it has not ended.
    #[inline]
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.ctl().is_live()
    }

    /// Refreshes it: at most one write per tick. False if it has ended (expiry won); the packet then has
    /// to be looked up again.
    #[inline]
    pub fn touch(&self, tick: Tick) -> bool {
        let mut now = self.ctl();
        // A tick that is behind (another worker's clock was read a moment later) does not take it back.
        for _ in 0..8 {
            if !now.is_live() {
                return false;
            }
            let seen = now.last_seen();
            if seen == tick || seen.0.wrapping_sub(tick.0) < u32::MAX / 2 {
                return true;
            }
            match self.swap_ctl(now, now.with_last_seen(tick)) {
                Ok(()) => return true,
                Err(w) => now = w,
            }
        }
        // Eight others changed it in between: it is anything but idle.
        true
    }

    /// Changes state, flags and time in one step: `f` gets the word and gives the new one, or nothing to
    /// leave it. Gives the word that counts now, and nothing if the session has ended. `f` may be called
    /// several times; lifecycle and generation stay whatever it returns.
    #[inline]
    pub fn transition(&self, mut f: impl FnMut(Ctl) -> Option<Ctl>) -> Option<Ctl> {
        const HELD: u64 = 3 << LIFE_SHIFT | GENERATION;
        let mut now = self.ctl();
        loop {
            if !now.is_live() {
                return None;
            }
            let Some(new) = f(now) else { return Some(now) };
            let new = Ctl(new.0 & !HELD | now.0 & HELD);
            if new == now {
                return Some(now);
            }
            match self.swap_ctl(now, new) {
                Ok(()) => return Some(new),
                // Lock-free: whoever came in between made progress.
                Err(w) => now = w,
            }
        }
    }

    #[inline]
    pub(crate) fn swap_ctl(&self, from: Ctl, to: Ctl) -> Result<(), Ctl> {
        self.line
            .ctl()
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Ctl)
    }
}

/// The key under which a session is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewKey {
    /// An inside key; an outside key may follow with what is reserved.
    Inside(InsideKey),
    /// An outside key only (a local flow with an IPv4 peer).
    Outside(OutsideKey),
    /// A native IPv6 flow.
    Native(NativeKey),
}

/// A session to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewSession {
    /// Its first key.
    pub key: NewKey,
    /// What it is for; [`Kind::Native6`] goes with [`NewKey::Native`] and with nothing else.
    pub kind: Kind,
    /// The worker that owns it, where that matters.
    pub owner: u8,
    /// The subscriber that it is accounted to.
    pub subscriber: u32,
    /// Generation of the plan, modulo 2^16.
    pub plan_generation: u16,
    /// First state.
    pub state: u8,
    /// First flags.
    pub flags: u8,
    /// Now.
    pub tick: Tick,
    /// The function's own number.
    pub aux: u32,
}

impl NewSession {
    /// Writes everything but the outside half of an inside-keyed session.
    pub(crate) fn write(&self, line: &SessionLine) {
        let kind = if matches!(self.key, NewKey::Native(_)) { Kind::Native6 } else { self.kind };
        let common = u64::from(self.subscriber) << 32
            | u64::from(self.owner) << 24
            | u64::from(kind as u8 & 0xf) << 16;
        let (w, keys) = match self.key {
            NewKey::Inside(k) => {
                let (hi, lo) = halves(k.src6);
                let tail = u64::from(k.prefix) << 8 | u64::from(k.protocol) | HAS_INSIDE;
                ([hi, lo, k.w3(), 0, 0], tail)
            }
            NewKey::Outside(k) => {
                ([0, 0, u64::from(k.remote4) << 32, k.w4(), 0], u64::from(k.protocol) | HAS_OUTSIDE)
            }
            NewKey::Native(k) => {
                let ((a, b), (c, d)) = (halves(k.src6), halves(k.dst6));
                ([a, b, k.w3(), c, d], u64::from(k.protocol) | HAS_INSIDE)
            }
        };
        for (i, v) in [(1, w[0]), (2, w[1]), (3, w[2]), (4, w[3]), (6, w[4])] {
            line.set(i, v);
        }
        line.set(5, common | keys);
        line.set(7, u64::from(self.aux) << 32 | u64::from(self.plan_generation) << 16);
    }

    /// The control word to begin with.
    pub(crate) const fn ctl(&self, generation: u64) -> Ctl {
        Ctl(generation & GENERATION)
            .with_life(LIFE_BUILDING)
            .with_state(self.state)
            .with_flags(self.flags)
            .with_last_seen(self.tick)
    }
}
