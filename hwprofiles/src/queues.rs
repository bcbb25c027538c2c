//! The queues of one worker: a receive and a transmit queue on each port, by raw bursts.
//!
//! A burst goes straight between the driver and the array that the pipeline works on: [`MbufFrame`] is
//! a pointer and nothing else, so the array of frames is the array of pointers that DPDK wants.

use crate::mbuf::MbufFrame;
use arrayvec::ArrayVec;
use causeway_core::{BURST, Queues};
use std::marker::PhantomData;

/// A queue pair: the port's number in DPDK and the queue's number on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueuePair {
    pub(crate) port: u16,
    pub(crate) queue: u16,
}

/// The queue pairs of one worker, in the order of the ports in the configuration.
///
/// It stays in the worker that it was made for: no two threads may use one queue.
#[derive(Debug)]
pub struct DpdkQueues {
    pairs: Box<[QueuePair]>,
    _stays: PhantomData<*mut ()>,
}

impl DpdkQueues {
    /// # Safety
    /// The queues are set up, their ports are started before the first burst, and nobody else uses
    /// them.
    pub(crate) unsafe fn new(pairs: Box<[QueuePair]>) -> Self {
        Self { pairs, _stays: PhantomData }
    }
}

impl Queues for DpdkQueues {
    type Frame = MbufFrame;

    #[inline]
    fn ports(&self) -> u16 {
        u16::try_from(self.pairs.len()).unwrap_or(u16::MAX)
    }

    /// Takes a burst off the port; a port that is not there has none. What `into` holds already stays
    /// in front.
    #[inline]
    fn rx(&mut self, port: u16, into: &mut ArrayVec<MbufFrame, BURST>) {
        let Some(pair) = self.pairs.get(usize::from(port)) else { return };
        rx_burst(*pair, into);
    }

    /// Gives the burst to the port; a port that is not there takes none.
    #[inline]
    fn tx(&mut self, port: u16, frames: &mut ArrayVec<MbufFrame, BURST>) {
        let Some(pair) = self.pairs.get(usize::from(port)) else { return };
        let held = frames.len();
        let array = frames.as_mut_ptr();
        // An array holds no more than BURST, which is far below 2^16.
        let asked = u16::try_from(held).unwrap_or(u16::MAX);
        // SAFETY: `MbufFrame` is `repr(transparent)` over the pointer that DPDK reads, and the first
        // `held` entries are frames that we own. DPDK owns those that it says it took.
        let taken = unsafe { capsule_ffi::_rte_eth_tx_burst(pair.port, pair.queue, array.cast(), asked) };
        let taken = usize::from(taken).min(held);
        // SAFETY: forgets all frames for a moment, so that no panic could free those that DPDK took.
        unsafe { frames.set_len(0) };
        if taken < held {
            // SAFETY: entries from `taken` on are inside the array, and are frames that we own.
            let left = unsafe { array.add(taken) };
            // SAFETY: moves the frames that were left to the front; both ranges are inside the array.
            unsafe { std::ptr::copy(left, array, held - taken) };
            // SAFETY: that many frames are at the front now.
            unsafe { frames.set_len(held - taken) };
        }
    }
}

/// Takes a burst off a queue and appends it.
#[inline]
pub(crate) fn rx_burst(pair: QueuePair, into: &mut ArrayVec<MbufFrame, BURST>) {
    let (held, room) = (into.len(), into.remaining_capacity());
    // SAFETY: `held` is at most the array's capacity.
    let free = unsafe { into.as_mut_ptr().add(held) };
    let asked = u16::try_from(room).unwrap_or(u16::MAX);
    // SAFETY: `MbufFrame` is `repr(transparent)` over the pointer that DPDK writes, and there is room
    // for as many as are asked for.
    let got = unsafe { capsule_ffi::_rte_eth_rx_burst(pair.port, pair.queue, free.cast(), asked) };
    // SAFETY: DPDK wrote that many pointers to frames that are ours now, each complete and unshared.
    unsafe { into.set_len(held + usize::from(got).min(room)) };
    // The device wrote the headers, not this core: fetch them all while the first is looked at.
    into[held..].iter().for_each(MbufFrame::prefetch);
}
