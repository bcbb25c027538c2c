//! The extension line of a spliced flow: what turns one TCP connection into the other.
//!
//! Each field is an atomic number that the function reads and writes as it needs; the table only gives
//! the line with a session and takes it back with it. "Client" is the connection from outside, "server"
//! the one to the site.

use crate::memory::Zeroed;
use crate::slab::{Cache, Slab, Slot};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use std::ops::Deref;

/// 64 octets of constants and marks.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Spliced {
    /// Both words are the free list's while the line is free. Then: client's initial sequence number
    /// (high half) and server's (low half), to tell an old SYN from a new one.
    pub isn: AtomicU64,
    /// Added to sequence numbers from the client towards the server, modulo 2^32; taken from
    /// acknowledgements and SACK edges the other way.
    pub client_seq_delta: AtomicU32,
    /// The same for the server's sequence numbers towards the client.
    pub server_seq_delta: AtomicU32,
    /// Added to timestamp values from the client, taken from echoes towards it (RFC 7323 3).
    pub client_ts_delta: AtomicU32,
    /// The same for the server's timestamps.
    pub server_ts_delta: AtomicU32,
    /// Octet 0: window scale that the client announced; 1: that we announced to it; 2: that the server
    /// announced; 3: that we announced to it (RFC 7323 2.2).
    pub window_scales: AtomicU32,
    /// Octet 0: state; octet 1: options in use (SACK, timestamps), as the function defines them; high
    /// half: what was announced as the largest segment.
    pub state: AtomicU32,
    /// The highest sequence number that the client was seen to send, plus one.
    pub client_seq_end: AtomicU32,
    /// The same of the server.
    pub server_seq_end: AtomicU32,
    /// The highest acknowledgement of the client (RFC 5961 5.2 checks against it).
    pub client_ack: AtomicU32,
    /// The same of the server.
    pub server_ack: AtomicU32,
    /// Sequence number of the client's FIN, where one was seen.
    pub client_fin: AtomicU32,
    /// The same of the server.
    pub server_fin: AtomicU32,
    /// The last window that the client offered, in octets.
    pub client_window: AtomicU32,
    /// The same of the server.
    pub server_window: AtomicU32,
}

// SAFETY: zero is a valid atomic, and atomics need no drop.
unsafe impl Zeroed for Spliced {
    #[cfg(loom)]
    fn zeroed() -> Self {
        let zero = || AtomicU32::new(0);
        Self {
            isn: AtomicU64::new(0),
            client_seq_delta: zero(),
            server_seq_delta: zero(),
            client_ts_delta: zero(),
            server_ts_delta: zero(),
            window_scales: zero(),
            state: zero(),
            client_seq_end: zero(),
            server_seq_end: zero(),
            client_ack: zero(),
            server_ack: zero(),
            client_fin: zero(),
            server_fin: zero(),
            client_window: zero(),
            server_window: zero(),
        }
    }
}

impl Slot for Spliced {
    fn link(&self) -> &AtomicU64 {
        &self.isn
    }
}

impl Spliced {
    /// Sets every field to zero.
    fn clear(&self) {
        self.isn.store(0, Ordering::Relaxed);
        for f in [
            &self.client_seq_delta,
            &self.server_seq_delta,
            &self.client_ts_delta,
            &self.server_ts_delta,
            &self.window_scales,
            &self.state,
            &self.client_seq_end,
            &self.server_seq_end,
            &self.client_ack,
            &self.server_ack,
            &self.client_fin,
            &self.server_fin,
            &self.client_window,
            &self.server_window,
        ] {
            f.store(0, Ordering::Relaxed);
        }
    }
}

/// A line that belongs to no session yet, all fields zero. Handing it to a new session hands it over;
/// dropping it gives it back.
#[derive(Debug)]
pub struct SplicedRef<'g> {
    slab: &'g Slab<Spliced>,
    cache: &'g Cache,
    slot: u32,
}

impl<'g> SplicedRef<'g> {
    pub(crate) fn take(slab: &'g Slab<Spliced>, cache: &'g Cache) -> Option<Self> {
        let slot = slab.take(cache)?;
        slab.lines()[slot as usize].clear();
        Some(Self { slab, cache, slot })
    }

    /// Its slot.
    pub(crate) const fn slot(&self) -> u32 {
        self.slot
    }

    /// Keeps the line without the handle; gives its slot.
    pub(crate) fn keep(self) -> u32 {
        let slot = self.slot;
        std::mem::forget(self);
        slot
    }
}

impl Deref for SplicedRef<'_> {
    type Target = Spliced;

    fn deref(&self) -> &Spliced {
        &self.slab.lines()[self.slot as usize]
    }
}

impl Drop for SplicedRef<'_> {
    fn drop(&mut self) {
        // No session had it, so nobody else can see it.
        self.slab.give(self.cache, self.slot);
    }
}
