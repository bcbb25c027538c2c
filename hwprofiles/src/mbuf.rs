//! A frame over one `rte_mbuf`, and the source of fresh ones.
//!
//! ```text
//!  rte_mbuf (128 octets) | headroom (128) | frame ........... | tailroom
//!                        ^ buf_addr       ^ + data_off        ^ + data_len      ^ buf_len
//! ```
//!
//! Growing and shrinking move `data_off` and `data_len`; the payload stays where it is.
//!
//! A frame in several segments shows its first one only, and says how many there are: Causeway drops
//! such frames, since its pools hold whole ones.

use causeway_core::frame::HEADROOM;
use causeway_core::{Frame, FrameSource, NoRoom};
use std::fmt;
use std::mem::size_of;
use std::ptr::NonNull;

/// One frame, owned; dropping it gives it back to its pool.
///
/// As large as a pointer, and so is `Option<MbufFrame>`.
#[repr(transparent)]
pub struct MbufFrame(NonNull<capsule_ffi::rte_mbuf>);

const _: () = assert!(size_of::<Option<MbufFrame>>() == size_of::<usize>());
const _: () = assert!(HEADROOM <= capsule_ffi::pool::HEADROOM_OCTETS as usize);

// SAFETY: an mbuf is plain memory with one owner; pools take frames back from any thread.
unsafe impl Send for MbufFrame {}

/// What the device found when it checked a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HwChecksum {
    /// It was not looked at, or there was none.
    Unknown,
    /// It is right.
    Good,
    /// It is wrong.
    Bad,
}

impl MbufFrame {
    /// Takes an mbuf over.
    ///
    /// # Safety
    /// The mbuf came from DPDK (a burst or a pool), is complete, is nobody else's (neither shared nor
    /// cloned), and its pool lives until the frame is dropped.
    #[inline(always)]
    #[must_use]
    pub unsafe fn from_raw(mbuf: NonNull<capsule_ffi::rte_mbuf>) -> Self {
        Self(mbuf)
    }

    /// Gives the mbuf away, without giving it back to its pool.
    #[inline(always)]
    #[must_use]
    pub fn into_raw(self) -> NonNull<capsule_ffi::rte_mbuf> {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }

    #[inline(always)]
    fn raw(&self) -> &capsule_ffi::rte_mbuf {
        // SAFETY: the frame owns the mbuf, which is there and complete.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn raw_mut(&mut self) -> &mut capsule_ffi::rte_mbuf {
        // SAFETY: the frame owns the mbuf, which is there and complete.
        unsafe { self.0.as_mut() }
    }

    /// Address of the first octet.
    #[inline(always)]
    fn start(&self) -> *mut u8 {
        let raw = self.raw();
        // SAFETY: the frame begins inside the segment's memory.
        unsafe { raw.buf_addr.cast::<u8>().add(usize::from(raw.data_off)) }
    }

    /// Asks the CPU for the line in which the frame begins.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch of any address is allowed; this one is the frame's own.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.start().cast_const().cast()) };
        }
    }

    /// How many segments the frame is in. Only the first is seen by [`Frame::bytes`].
    #[inline(always)]
    #[must_use]
    pub fn segments(&self) -> u16 {
        self.raw().nb_segs
    }

    /// Octets of all segments.
    #[inline(always)]
    #[must_use]
    pub fn packet_octets(&self) -> u32 {
        self.raw().pkt_len
    }

    /// Octets that can be had at the front.
    #[inline(always)]
    #[must_use]
    pub fn headroom(&self) -> usize {
        usize::from(self.raw().data_off)
    }

    /// Octets that can be had at the end.
    #[inline(always)]
    #[must_use]
    pub fn tailroom(&self) -> usize {
        let raw = self.raw();
        usize::from(raw.buf_len).saturating_sub(usize::from(raw.data_off) + usize::from(raw.data_len))
    }

    /// What the device says of the IPv4 header's checksum.
    #[inline(always)]
    #[must_use]
    pub fn ip_checksum(&self) -> HwChecksum {
        checksum(
            self.raw().ol_flags,
            capsule_ffi::CW_MBUF_RX_IP_CKSUM_MASK,
            capsule_ffi::CW_MBUF_RX_IP_CKSUM_BAD,
        )
    }

    /// What the device says of the TCP or UDP checksum.
    #[inline(always)]
    #[must_use]
    pub fn l4_checksum(&self) -> HwChecksum {
        checksum(
            self.raw().ol_flags,
            capsule_ffi::CW_MBUF_RX_L4_CKSUM_MASK,
            capsule_ffi::CW_MBUF_RX_L4_CKSUM_BAD,
        )
    }

    /// Changes both lengths by the same number of octets: of the first segment and of the packet.
    #[inline(always)]
    fn set_octets(&mut self, octets: u16) {
        let raw = self.raw_mut();
        raw.pkt_len = raw.pkt_len.wrapping_sub(u32::from(raw.data_len)).wrapping_add(u32::from(octets));
        raw.data_len = octets;
    }
}

/// Two flags of DPDK's: none is unknown, both is "there is none", one each for good and bad.
#[inline(always)]
const fn checksum(flags: u64, mask: u64, bad: u64) -> HwChecksum {
    match flags & mask {
        0 => HwChecksum::Unknown,
        both if both == mask => HwChecksum::Unknown,
        one if one == bad => HwChecksum::Bad,
        _ => HwChecksum::Good,
    }
}

impl Drop for MbufFrame {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the frame owns the mbuf, and its pool is there (the promise of `from_raw`).
        unsafe { capsule_ffi::_rte_pktmbuf_free(self.0.as_ptr()) };
    }
}

impl fmt::Debug for MbufFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MbufFrame")
            .field("octets", &self.packet_octets())
            .field("segments", &self.segments())
            .field("headroom", &self.headroom())
            .field("tailroom", &self.tailroom())
            .finish_non_exhaustive()
    }
}

impl Frame for MbufFrame {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        // SAFETY: `data_len` octets from the start are the segment's, and the frame owns them. Memory
        // of a pool is mapped, so it has values even before anybody wrote there.
        unsafe { std::slice::from_raw_parts(self.start(), usize::from(self.raw().data_len)) }
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and the borrow is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start(), usize::from(self.raw().data_len)) }
    }

    #[inline(always)]
    fn octets(&self) -> usize {
        usize::from(self.raw().data_len)
    }

    #[inline(always)]
    fn push_front(&mut self, n: usize) -> Result<(), NoRoom> {
        let n = u16::try_from(n).map_err(|_| NoRoom)?;
        let start = self.raw().data_off.checked_sub(n).ok_or(NoRoom)?;
        // Cannot overflow: the frame and its headroom lie in a segment whose length is 16 bits.
        let octets = self.raw().data_len.checked_add(n).ok_or(NoRoom)?;
        self.raw_mut().data_off = start;
        self.set_octets(octets);
        Ok(())
    }

    #[inline(always)]
    fn pull_front(&mut self, n: usize) -> Result<(), NoRoom> {
        let n = u16::try_from(n).map_err(|_| NoRoom)?;
        let octets = self.raw().data_len.checked_sub(n).ok_or(NoRoom)?;
        // Cannot overflow: the start moves inside the frame.
        self.raw_mut().data_off = self.raw().data_off.wrapping_add(n);
        self.set_octets(octets);
        Ok(())
    }

    #[inline(always)]
    fn push_back(&mut self, n: usize) -> Result<(), NoRoom> {
        if n > self.tailroom() {
            return Err(NoRoom);
        }
        let n = u16::try_from(n).map_err(|_| NoRoom)?;
        let octets = self.raw().data_len.checked_add(n).ok_or(NoRoom)?;
        self.set_octets(octets);
        Ok(())
    }

    #[inline(always)]
    fn truncate(&mut self, n: usize) {
        if let Ok(n) = u16::try_from(n)
            && n < self.raw().data_len
        {
            self.set_octets(n);
        }
    }

    #[inline(always)]
    fn rss_hash(&self) -> Option<u32> {
        let raw = self.raw();
        (raw.ol_flags & capsule_ffi::CW_MBUF_RX_RSS_HASH != 0).then_some(raw.hash_rss)
    }
}

/// Fresh frames, from the pool on the worker's NUMA node, through the cache of the worker's thread.
///
/// It stays in the worker that it was made for.
#[derive(Debug)]
pub struct MempoolSource {
    /// A raw pointer, so that the source is not sent to another thread.
    pool: NonNull<capsule_ffi::rte_mempool>,
}

impl MempoolSource {
    /// The source of the pool on a NUMA node, if there is one.
    #[must_use]
    pub(crate) fn on_socket(socket: i32) -> Option<Self> {
        NonNull::new(capsule_ffi::pool::on_socket(socket)).map(|pool| Self { pool })
    }
}

impl FrameSource for MempoolSource {
    type Frame = MbufFrame;

    #[inline]
    fn alloc(&mut self) -> Option<MbufFrame> {
        // A source that was kept past the gateway's end has no pool any more.
        if !capsule_ffi::pool::is_open() {
            return None;
        }
        // SAFETY: the pool is there as long as pools are open.
        let mbuf = NonNull::new(unsafe { capsule_ffi::_rte_pktmbuf_alloc(self.pool.as_ptr()) })?;
        // SAFETY: it is fresh from the pool and nobody else's; a pool that lacks frames is not freed.
        Some(unsafe { MbufFrame::from_raw(mbuf) })
    }
}
