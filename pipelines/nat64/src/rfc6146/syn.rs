//! SYNs from outside that nothing lets in yet (RFC 6146 3.5.2.2, V4 INIT; RFC 5382 4.3, REQ-4).
//!
//! ```text
//!  V4 SYN without mapping, or filtered -> waits 6 s -> V6 SYN of the same flow came: open on both sides,
//!                                                      the stored SYN goes silently
//!                                                   -> nothing came: ICMP port unreachable to its sender
//! ```
//! The packet waits at the worker that received it, at most [`WAITING`] of them each; which flows wait is
//! known to all workers, because the SYN from inside may come to another one. A flow waits once: the
//! repetitions of its SYN are dropped. Only SYNs without ACK are stored: a SYN with ACK answers something,
//! and can never be half of a simultaneous open.
//!
//! RFC 6146 makes a session table entry without IPv6 address of this; here it stands beside the table, so
//! that strangers cannot fill that.

use causeway_core::{Duration, Instant, Packet};
use causeway_flowtable::OutsideKey;
use causeway_wire::l4::tcp;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

/// SYNs that wait at one worker.
pub(crate) const WAITING: usize = 256;

/// Room that the shared set has from the start.
const ROOM: usize = 4 * WAITING;

/// True for a SYN that can be one half of a simultaneous open.
pub(crate) const fn may_wait(flags: u8) -> bool {
    flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
}

/// Which flows wait, for all workers. Only first packets of flows look here, and only while any waits.
#[derive(Debug)]
pub(crate) struct Flows {
    /// Until when.
    deadlines: DashMap<OutsideKey, Instant>,
    /// How many there are, or one or two more.
    waiting: AtomicUsize,
}

impl Default for Flows {
    fn default() -> Self {
        Self { deadlines: DashMap::with_capacity(ROOM), waiting: AtomicUsize::new(0) }
    }
}

impl Flows {
    fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// True if a SYN of this flow waits.
    pub(crate) fn waits(&self, key: &OutsideKey) -> bool {
        !self.is_empty() && self.deadlines.contains_key(key)
    }

    /// Notes a flow. False if it waits already.
    fn add(&self, key: OutsideKey, deadline: Instant) -> bool {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        match self.deadlines.entry(key) {
            Entry::Vacant(free) => {
                free.insert(deadline);
                true
            }
            Entry::Occupied(_) => {
                self.waiting.fetch_sub(1, Ordering::AcqRel);
                false
            }
        }
    }

    /// The host inside has sent its SYN: true if the other half waited, and has time left.
    pub(crate) fn met(&self, key: &OutsideKey, now: Instant) -> bool {
        if self.is_empty() {
            return false;
        }
        let met = self.deadlines.remove_if(key, |_, deadline| *deadline > now).is_some();
        if met {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        met
    }

    /// A flow waits no longer. False if it was met before.
    fn remove(&self, key: &OutsideKey, deadline: Instant) -> bool {
        let there = self.deadlines.remove_if(key, |_, d| *d == deadline).is_some();
        if there {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        there
    }
}

#[derive(Debug)]
struct Stored<F> {
    key: OutsideKey,
    deadline: Instant,
    packet: Packet<F>,
}

/// Why a SYN is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotStored {
    /// [`WAITING`] wait here already.
    Full,
    /// One of the same flow waits already.
    Again,
}

/// A SYN whose time is over.
#[derive(Debug)]
pub(crate) struct Over<F> {
    pub(crate) key: OutsideKey,
    /// The host inside has sent its SYN.
    pub(crate) met: bool,
    pub(crate) packet: Packet<F>,
}

/// The SYNs that wait at one worker, oldest first.
#[derive(Debug)]
pub(crate) struct Syns<F> {
    list: VecDeque<Stored<F>>,
}

impl<F> Syns<F> {
    /// None. All memory is taken now.
    pub(crate) fn new() -> Self {
        Self { list: VecDeque::with_capacity(WAITING) }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Stores a SYN for `time`.
    pub(crate) fn store(
        &mut self,
        flows: &Flows,
        key: OutsideKey,
        packet: Packet<F>,
        now: Instant,
        time: Duration,
    ) -> Result<(), NotStored> {
        if self.list.len() >= WAITING {
            return Err(NotStored::Full);
        }
        let deadline = now + time;
        if !flows.add(key, deadline) {
            return Err(NotStored::Again);
        }
        self.list.push_back(Stored { key, deadline, packet });
        Ok(())
    }

    /// The oldest SYN, if its time is over. (A time that was shortened meanwhile counts for later ones: a
    /// SYN behind one that waits longer waits as long.)
    pub(crate) fn over(&mut self, flows: &Flows, now: Instant) -> Option<Over<F>> {
        if self.list.front()?.deadline > now {
            return None;
        }
        let Stored { key, deadline, packet } = self.list.pop_front()?;
        let met = !flows.remove(&key, deadline);
        Some(Over { key, met, packet })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_core::{HeapFrame, Meta};

    fn key(n: u32) -> OutsideKey {
        OutsideKey { out4: 1, remote4: n, out_port: 2, remote_port: 3, protocol: 6 }
    }

    fn packet() -> Packet<HeapFrame> {
        Packet { frame: HeapFrame::new(&[]), meta: Meta::originated() }
    }

    fn at(s: u64) -> Instant {
        Instant::from_micros(s * 1_000_000)
    }

    const SIX: Duration = Duration::from_secs(6);

    #[test]
    fn rfc5382_4_3_req_4_a_flow_waits_once_and_for_its_time() {
        let (flows, mut syns) = (Flows::default(), Syns::new());
        assert_eq!(syns.store(&flows, key(1), packet(), at(10), SIX), Ok(()));
        assert_eq!(syns.store(&flows, key(1), packet(), at(11), SIX), Err(NotStored::Again));
        assert!(flows.waits(&key(1)) && !flows.waits(&key(2)));
        assert!(syns.over(&flows, at(15)).is_none());
        let over = syns.over(&flows, at(16)).unwrap();
        assert_eq!((over.key, over.met), (key(1), false));
        assert!(syns.over(&flows, at(99)).is_none() && flows.is_empty());
    }

    #[test]
    fn rfc6146_3_5_2_2_a_flow_is_met_once_and_in_time() {
        let (flows, mut syns) = (Flows::default(), Syns::new());
        assert_eq!(syns.store(&flows, key(1), packet(), at(0), SIX), Ok(()));
        assert_eq!(syns.store(&flows, key(2), packet(), at(0), SIX), Ok(()));
        assert!(flows.met(&key(1), at(5)) && !flows.met(&key(1), at(5)));
        assert!(!flows.met(&key(2), at(6)), "too late");
        let met: Vec<bool> = std::iter::from_fn(|| syns.over(&flows, at(6))).map(|o| o.met).collect();
        assert_eq!(met, [true, false]);
        assert!(flows.is_empty() && flows.deadlines.is_empty());
    }

    #[test]
    fn rfc6146_5_3_what_waits_is_bounded() {
        let (flows, mut syns) = (Flows::default(), Syns::new());
        for n in 0..1000 {
            let want = if (n as usize) < WAITING { Ok(()) } else { Err(NotStored::Full) };
            assert_eq!(syns.store(&flows, key(n), packet(), at(0), SIX), want);
        }
        assert_eq!((syns.len(), flows.deadlines.len()), (WAITING, WAITING));
    }

    #[test]
    fn only_a_plain_syn_may_wait() {
        let may: Vec<u8> = (0..=63).filter(|f| may_wait(*f)).collect();
        assert!(may.iter().all(|f| f & 0x17 == tcp::SYN) && may.len() == 4);
    }
}
