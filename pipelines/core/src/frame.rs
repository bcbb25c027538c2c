//! A frame: one contiguous run of octets with room before and behind it.

use crate::burst::BURST;
use arrayvec::ArrayVec;
use std::fmt;

/// Octets of headroom that a fresh frame has at least. Enough for IPv4 to IPv6 (20), a Fragment header
/// (8) and a tagged Ethernet header (18) at once.
pub const HEADROOM: usize = 128;

/// There is no room to grow by the octets asked for. The frame is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room left in the frame")
    }
}

impl std::error::Error for NoRoom {}

/// One frame that its holder owns; dropping it gives it back to where it came from.
///
/// Growing and shrinking at the front never moves the payload: it moves the start.
pub trait Frame: Sized + Send {
    /// The octets.
    fn bytes(&self) -> &[u8];

    /// The octets, to change.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Number of octets.
    #[inline(always)]
    fn octets(&self) -> usize {
        self.bytes().len()
    }

    /// Grows by `n` octets at the front. What they hold is not defined until written.
    ///
    /// # Errors
    /// [`NoRoom`] when the headroom is smaller than `n`.
    fn push_front(&mut self, n: usize) -> Result<(), NoRoom>;

    /// Takes `n` octets off the front.
    ///
    /// # Errors
    /// [`NoRoom`] when the frame has fewer than `n` octets.
    fn pull_front(&mut self, n: usize) -> Result<(), NoRoom>;

    /// Grows by `n` octets at the end. What they hold is not defined until written.
    ///
    /// # Errors
    /// [`NoRoom`] when the room behind the frame is smaller than `n`.
    fn push_back(&mut self, n: usize) -> Result<(), NoRoom>;

    /// Shortens to `n` octets; a frame that is not longer stays as it is.
    fn truncate(&mut self, n: usize);

    /// The receive-side-scaling hash that the device computed, if it did.
    #[inline(always)]
    fn rss_hash(&self) -> Option<u32> {
        None
    }
}

/// Where originated frames come from: bounded, and empty is an answer.
pub trait FrameSource {
    /// The frames of this source.
    type Frame: Frame;

    /// An empty frame with at least [`HEADROOM`] octets before it, or nothing when all are in use.
    fn alloc(&mut self) -> Option<Self::Frame>;
}

/// The receive and transmit queues of one worker: one pair on each port.
pub trait Queues {
    /// The frames that come and go.
    type Frame: Frame;

    /// How many ports there are; they are numbered from 0 in the order of the configuration.
    fn ports(&self) -> u16;

    /// Takes up to a burst of frames off the port's receive queue, into an empty `into`. Frames begin
    /// at their Ethernet header.
    fn rx(&mut self, port: u16, into: &mut ArrayVec<Self::Frame, BURST>);

    /// Gives frames to the port's transmit queue. Those that it took are gone from `frames`; those it
    /// did not take are left there, in order.
    fn tx(&mut self, port: u16, frames: &mut ArrayVec<Self::Frame, BURST>);
}

/// A frame in plain memory, for tests, fuzzing and benches without a device.
#[derive(Clone, PartialEq, Eq)]
pub struct HeapFrame {
    room: Box<[u8]>,
    start: usize,
    end: usize,
}

/// Room for octets behind the headroom of a [`HeapFrame`].
const HEAP_ROOM: usize = 2048;

impl HeapFrame {
    /// A frame that holds `octets`, with the usual headroom.
    ///
    /// # Panics
    /// If `octets` has more than 65,535 octets: no device gives such a frame.
    #[must_use]
    pub fn new(octets: &[u8]) -> Self {
        assert!(octets.len() <= 65_535, "no frame has {} octets", octets.len());
        let mut room = vec![0xa5u8; HEADROOM + octets.len().max(HEAP_ROOM)].into_boxed_slice();
        room[HEADROOM..HEADROOM + octets.len()].copy_from_slice(octets);
        Self { room, start: HEADROOM, end: HEADROOM + octets.len() }
    }
}

impl fmt::Debug for HeapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeapFrame({} octets:", self.octets())?;
        for (n, octet) in self.bytes().iter().enumerate() {
            write!(f, "{}{octet:02x}", if n % 4 == 0 { " " } else { "" })?;
        }
        f.write_str(")")
    }
}

impl Frame for HeapFrame {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.end]
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.end]
    }

    #[inline]
    fn push_front(&mut self, n: usize) -> Result<(), NoRoom> {
        self.start = self.start.checked_sub(n).ok_or(NoRoom)?;
        Ok(())
    }

    #[inline]
    fn pull_front(&mut self, n: usize) -> Result<(), NoRoom> {
        if n > self.end - self.start {
            return Err(NoRoom);
        }
        self.start += n;
        Ok(())
    }

    #[inline]
    fn push_back(&mut self, n: usize) -> Result<(), NoRoom> {
        if n > self.room.len() - self.end {
            return Err(NoRoom);
        }
        self.end += n;
        Ok(())
    }

    #[inline]
    fn truncate(&mut self, n: usize) {
        self.end = self.end.min(self.start.saturating_add(n));
    }
}

/// A source of heap frames with a bound, so that tests see an empty pool too.
#[derive(Debug, Clone)]
pub struct HeapSource {
    left: usize,
}

impl HeapSource {
    /// A source that gives `frames` frames and then none.
    #[must_use]
    pub const fn new(frames: usize) -> Self {
        Self { left: frames }
    }
}

impl FrameSource for HeapSource {
    type Frame = HeapFrame;

    fn alloc(&mut self) -> Option<HeapFrame> {
        self.left = self.left.checked_sub(1)?;
        Some(HeapFrame::new(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_and_shrinking_never_moves_the_payload() {
        let mut f = HeapFrame::new(b"payload");
        f.push_front(20).unwrap();
        assert_eq!(&f.bytes()[20..], b"payload");
        f.pull_front(22).unwrap();
        assert_eq!(f.bytes(), b"yload");
        f.push_back(2).unwrap();
        assert_eq!(f.octets(), 7);
        f.truncate(3);
        assert_eq!(f.bytes(), b"ylo");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut f = HeapFrame::new(b"abc");
        let before = f.clone();
        assert_eq!(f.push_front(HEADROOM + 1), Err(NoRoom));
        assert_eq!(f.pull_front(4), Err(NoRoom));
        assert_eq!(f.push_back(1 << 20), Err(NoRoom));
        assert_eq!(f, before);
    }

    #[test]
    fn an_empty_source_says_so() {
        let mut s = HeapSource::new(1);
        assert!(s.alloc().is_some());
        assert!(s.alloc().is_none());
    }
}
