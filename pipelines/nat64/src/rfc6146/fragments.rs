//! Fragments of packets whose first fragment names the session (RFC 6146 3.4).
//!
//! ```text
//!  (source, destination, Identification, protocol) -> peer known?   yes: translate at once
//!                                                     no: wait for the first fragment
//! ```
//! - Waiting is bounded in number, time and size: [`DATAGRAMS`] packets at a time, [`HELD`] fragments in
//!   all, [`HELD_EACH`] of one packet, for the configured time (RFC 6146 4: FRAGMENT_MIN). Where all is
//!   in use the oldest packet of four gives way.
//! - The fragments of an echo all wait until the last is there: the checksum of ICMPv6 covers the length
//!   of the whole, that of ICMP does not, so nothing can be sent before that length is known.
//! - The fragments of UDP without a checksum from IPv4 all wait until every octet is there, if a checksum
//!   is to be computed: it goes into the first (RFC 6146 3.4).
//! - Overlapping fragments spoil their packet (RFC 5722 4, RFC 8200 4.5): what waits is dropped, and
//!   what follows too.
//!
//! One per worker: devices spread fragments by addresses alone, so that all of one packet come to the
//! same worker.

use crate::rfc7915::Frag;
use arrayvec::ArrayVec;
use causeway_core::{Counters, DropReason, Duration, Instant, Packet};
use causeway_wire::checksum;
use causeway_wire::l4::{PROTO_ICMP, PROTO_ICMPV6};
use std::hash::{BuildHasher, RandomState};

/// Packets whose fragments are followed at a time.
pub(crate) const DATAGRAMS: usize = SETS * WAYS;
/// Fragments that wait at a time.
pub(crate) const HELD: usize = 256;
/// Fragments of one packet that wait: 65,535 octets in the smallest fragments that IPv6 hosts make.
pub(crate) const HELD_EACH: u16 = 64;

const SETS: usize = 64;
const WAYS: usize = 4;
/// Gaps between the fragments of a packet that are kept apart.
const RANGES: usize = 16;
/// Packets that one poll looks at for their end.
const EXPIRE_PER_POLL: usize = 4;
/// No fragment: the end of a list.
const NONE: u16 = u16::MAX;

/// What the fragments of one packet have in common. IPv4 addresses are IPv4-mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) src: u128,
    pub(crate) dst: u128,
    pub(crate) id: u32,
    pub(crate) protocol: u8,
}

/// An IPv4 address as keys have it.
pub(crate) const fn mapped(a: u32) -> u128 {
    0xffff << 32 | a as u128
}

/// What later fragments need of the session that their first found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// To IPv4, from this pool address.
    V4 { out4: u32 },
    /// To IPv6, from and to these addresses.
    V6 { remote6: u128, host6: u128 },
}

/// What to do with a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Translate it: its first has gone before.
    Follow(Peer),
    /// It is the first: find its session, translate it, and then release what waits. The upper-layer packet
    /// has this many octets (for an echo; others do not care).
    First { total: u32 },
    /// Hold it.
    Wait,
}

#[derive(Debug)]
struct Datagram {
    key: Key,
    deadline: Instant,
    peer: Option<Peer>,
    /// A fragment overlapped, or the first could not be translated.
    spoiled: bool,
    /// The first fragment is here and waits.
    first_waits: bool,
    /// Nothing is translated before all octets were seen.
    needs_all: bool,
    /// The one's complement sum of all octets so far, where somebody adds it up.
    sum: u16,
    /// Octets of the whole, once the last fragment was seen.
    total: Option<u32>,
    /// Octets that were seen: disjoint, in order, not touching.
    seen: ArrayVec<(u32, u32), RANGES>,
    head: u16,
    tail: u16,
    held: u16,
}

#[derive(Debug)]
struct Held<F> {
    packet: Packet<F>,
    next: u16,
}

/// The fragments of one worker.
#[derive(Debug)]
pub(crate) struct Fragments<F> {
    timeout: Duration,
    hash: RandomState,
    datagrams: Vec<Option<Datagram>>,
    held: Vec<Option<Held<F>>>,
    free: Vec<u16>,
    /// Places given away by `promise` that `hold` has not filled yet.
    promised: usize,
    cursor: usize,
    /// Packets whose release has to go on, a bit each.
    pending: [u64; DATAGRAMS / 64],
}

impl Datagram {
    /// True if all octets were seen.
    fn is_complete(&self) -> bool {
        matches!((self.total, self.seen.as_slice()), (Some(total), [(0, end)]) if *end == total)
    }

    /// Octets of the whole, if the first fragment can be translated by what is known.
    fn ready(&self) -> Option<u32> {
        self.total.filter(|_| !self.needs_all || self.is_complete())
    }
}

const fn is_echo(protocol: u8) -> bool {
    matches!(protocol, PROTO_ICMP | PROTO_ICMPV6)
}

impl<F> Fragments<F> {
    /// No fragments. All memory is taken now.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            hash: RandomState::new(),
            datagrams: (0..DATAGRAMS).map(|_| None).collect(),
            held: (0..HELD).map(|_| None).collect(),
            free: (0..HELD).map(|n| u16::try_from(n).unwrap_or(NONE)).collect(),
            promised: 0,
            cursor: 0,
            pending: [0; DATAGRAMS / 64],
        }
    }

    /// How many fragments wait.
    pub(crate) const fn held(&self) -> usize {
        HELD - self.free.len()
    }

    /// Takes note of a fragment with `octets` octets. Gives the place of its packet, and what to do. If it
    /// `needs_all`, which a first fragment may, it waits until all others are there.
    ///
    /// # Errors
    /// It overlaps, its packet is spoiled, or there are too many gaps.
    pub(crate) fn admit(
        &mut self,
        key: &Key,
        f: Frag,
        octets: usize,
        needs_all: bool,
        now: Instant,
        counters: &Counters,
    ) -> Result<(usize, Next), DropReason> {
        let place = self.place(key, now, counters);
        let Some(d) = self.datagrams.get_mut(place).and_then(Option::as_mut) else {
            return Err(DropReason::Nat64FragmentFull);
        };
        if d.spoiled {
            return Err(DropReason::Nat64Fragment);
        }
        let from = u32::from(f.offset) * 8;
        let to = from + u32::try_from(octets).unwrap_or(u32::MAX / 2);
        // The last fragment says where the whole ends; nothing may be beyond, nor a second end.
        let beyond = d.total.is_some_and(|t| to > t || (!f.more && to != t));
        let short = !f.more && d.seen.last().is_some_and(|(_, end)| *end > to);
        match (beyond || short, see(&mut d.seen, from, to)) {
            (true, _) | (_, Seen::Overlap) => {
                self.spoil(place, counters);
                return Err(DropReason::Nat64FragmentOverlap);
            }
            (_, Seen::Full) => return Err(DropReason::Nat64FragmentFull),
            (_, Seen::New) => {}
        }
        if !f.more {
            d.total = Some(to);
        }
        d.needs_all |= needs_all;
        let next = match (d.peer, f.offset, d.ready()) {
            (Some(peer), ..) => Next::Follow(peer),
            (None, 0, Some(total)) => Next::First { total },
            (None, 0, None) if !is_echo(key.protocol) && !d.needs_all => Next::First { total: 0 },
            (None, ..) => Next::Wait,
        };
        Ok((place, next))
    }

    /// The place of the packet with this key; made if there is none.
    fn place(&mut self, key: &Key, now: Instant, counters: &Counters) -> usize {
        // The remainder is below SETS.
        let set = usize::try_from(self.hash.hash_one(key) % SETS as u64).unwrap_or(0) * WAYS;
        let mut victim = set;
        let mut oldest = Instant::from_micros(u64::MAX);
        for at in set..set + WAYS {
            match &self.datagrams[at] {
                Some(d) if d.key == *key && d.deadline > now => return at,
                Some(d) => {
                    if d.deadline < oldest {
                        (victim, oldest) = (at, d.deadline);
                    }
                }
                None => {
                    if oldest > Instant::ZERO {
                        (victim, oldest) = (at, Instant::ZERO);
                    }
                }
            }
        }
        let late = oldest <= now;
        self.clear(
            victim,
            counters,
            if late { DropReason::Nat64FragmentTimeout } else { DropReason::Nat64FragmentFull },
        );
        self.datagrams[victim] = Some(Datagram {
            key: *key,
            deadline: now + self.timeout,
            peer: None,
            spoiled: false,
            first_waits: false,
            needs_all: false,
            sum: 0,
            total: None,
            seen: ArrayVec::new(),
            head: NONE,
            tail: NONE,
            held: 0,
        });
        victim
    }

    /// Adds the one's complement sum of a fragment's octets.
    pub(crate) fn add_sum(&mut self, place: usize, sum: u16) {
        if let Some(d) = self.datagrams.get_mut(place).and_then(Option::as_mut) {
            d.sum = checksum::fold(u64::from(d.sum) + u64::from(sum));
        }
    }

    /// The sum of all octets of a packet that needed all of them.
    pub(crate) fn sum_of_all(&self, place: usize) -> Option<u16> {
        let d = self.datagrams.get(place)?.as_ref()?;
        (d.needs_all && d.is_complete()).then_some(d.sum)
    }

    /// The session of a packet was found: from now on its fragments follow.
    pub(crate) fn known(&mut self, place: usize, peer: Peer) {
        if let Some(d) = self.datagrams.get_mut(place).and_then(Option::as_mut) {
            d.peer = Some(peer);
        }
    }

    /// Nothing of this packet can be translated any more. What waits is dropped and counted.
    pub(crate) fn spoil(&mut self, place: usize, counters: &Counters) {
        self.drop_held(place, counters, DropReason::Nat64Fragment);
        if let Some(d) = self.datagrams.get_mut(place).and_then(Option::as_mut) {
            d.spoiled = true;
        }
    }

    /// Promises a place to a fragment of this packet that will be held.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn promise(&mut self, place: usize) -> Result<(), DropReason> {
        let each = self.datagrams.get(place).and_then(Option::as_ref).map_or(0, |d| d.held);
        if self.free.len() <= self.promised || each >= HELD_EACH {
            return Err(DropReason::Nat64FragmentFull);
        }
        self.promised += 1;
        Ok(())
    }

    /// Holds a fragment that was promised a place. Gives the place of its packet if what waits there can
    /// be released now.
    ///
    /// # Errors
    /// The fragment, if its packet is gone or nothing is left to hold it.
    pub(crate) fn hold(
        &mut self,
        key: &Key,
        first: bool,
        packet: Packet<F>,
        now: Instant,
    ) -> Result<Option<usize>, Packet<F>> {
        self.promised = self.promised.saturating_sub(1);
        let set = usize::try_from(self.hash.hash_one(key) % SETS as u64).unwrap_or(0) * WAYS;
        let live = |d: &Option<Datagram>| {
            d.as_ref().is_some_and(|d| d.key == *key && d.deadline > now && !d.spoiled)
        };
        let Some(place) = (set..set + WAYS).find(|at| live(&self.datagrams[*at])) else { return Err(packet) };
        let Some(slot) = self.free.pop() else { return Err(packet) };
        let Some(d) = self.datagrams[place].as_mut() else { return Err(packet) };
        self.held[usize::from(slot)] = Some(Held { packet, next: NONE });
        // The first goes to the front: it has to be released before the others.
        if first {
            if let Some(h) = self.held[usize::from(slot)].as_mut() {
                h.next = d.head;
            }
            d.head = slot;
            if d.tail == NONE {
                d.tail = slot;
            }
            d.first_waits = true;
        } else {
            if d.tail == NONE {
                d.head = slot;
            } else if let Some(h) = self.held[usize::from(d.tail)].as_mut() {
                h.next = slot;
            }
            d.tail = slot;
        }
        d.held += 1;
        let ready = d.peer.is_some() || (d.first_waits && d.ready().is_some());
        Ok(ready.then_some(place))
    }

    /// Takes the next waiting fragment of a packet out, with what to do with it.
    pub(crate) fn take(&mut self, place: usize) -> Option<(Packet<F>, Next)> {
        let d = self.datagrams.get_mut(place)?.as_mut()?;
        let next = match (d.peer, d.first_waits, d.ready()) {
            (Some(peer), ..) => Next::Follow(peer),
            (None, true, Some(total)) => Next::First { total },
            (None, ..) => return None,
        };
        let slot = d.head;
        let held = self.held.get_mut(usize::from(slot))?.take()?;
        d.head = held.next;
        if d.head == NONE {
            d.tail = NONE;
        }
        d.held -= 1;
        // The first is at the front, so it was this one.
        d.first_waits = false;
        self.free.push(slot);
        Some((held.packet, next))
    }

    /// The release of this packet's fragments has to go on at the next poll.
    pub(crate) fn put_off(&mut self, place: usize) {
        if let Some(w) = self.pending.get_mut(place / 64) {
            *w |= 1 << (place % 64);
        }
    }

    /// A packet whose release was put off.
    pub(crate) fn take_put_off(&mut self) -> Option<usize> {
        let (n, w) = self.pending.iter_mut().enumerate().find(|(_, w)| **w != 0)?;
        let bit = w.trailing_zeros() as usize;
        *w &= *w - 1;
        Some(n * 64 + bit)
    }

    /// Ends the wait of some packets whose time is over. Bounded.
    pub(crate) fn expire(&mut self, now: Instant, counters: &Counters) {
        if self.held() == 0 {
            return;
        }
        for _ in 0..EXPIRE_PER_POLL {
            self.cursor = (self.cursor + 1) % DATAGRAMS;
            if self.datagrams[self.cursor].as_ref().is_some_and(|d| d.deadline <= now) {
                self.clear(self.cursor, counters, DropReason::Nat64FragmentTimeout);
            }
        }
    }

    fn clear(&mut self, place: usize, counters: &Counters, reason: DropReason) {
        self.drop_held(place, counters, reason);
        if let Some(w) = self.pending.get_mut(place / 64) {
            *w &= !(1 << (place % 64));
        }
        self.datagrams[place] = None;
    }

    fn drop_held(&mut self, place: usize, counters: &Counters, reason: DropReason) {
        let Some(d) = self.datagrams.get_mut(place).and_then(Option::as_mut) else { return };
        let mut slot = d.head;
        (d.head, d.tail, d.held) = (NONE, NONE, 0);
        while let Some(h) = self.held.get_mut(usize::from(slot)).and_then(Option::take) {
            self.free.push(slot);
            counters.drop(reason);
            slot = h.next;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    New,
    Overlap,
    Full,
}

/// Adds octets `from..to` to what was seen. No octets at all overlap nothing and add nothing.
fn see(seen: &mut ArrayVec<(u32, u32), RANGES>, from: u32, to: u32) -> Seen {
    if seen.iter().any(|(a, b)| from < *b && *a < to) {
        return Seen::Overlap;
    }
    if from == to {
        return Seen::New;
    }
    let at = seen.iter().take_while(|(_, b)| *b <= from).count();
    let before = at.checked_sub(1).is_some_and(|n| seen[n].1 == from);
    let behind = seen.get(at).is_some_and(|(a, _)| *a == to);
    match (before, behind) {
        (true, true) => {
            seen[at - 1].1 = seen[at].1;
            seen.remove(at);
        }
        (true, false) => seen[at - 1].1 = to,
        (false, true) => seen[at].0 = from,
        (false, false) => {
            if seen.try_insert(at, (from, to)).is_err() {
                return Seen::Full;
            }
        }
    }
    Seen::New
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain map of octets.
        #[test]
        fn ranges_know_every_octet(parts in proptest::collection::vec((0u32..40, 1u32..8), 1..60)) {
            let mut seen = ArrayVec::new();
            let mut octets = [false; 64];
            for (from, n) in parts {
                let range = from as usize..(from + n) as usize;
                let overlap = octets[range.clone()].iter().any(|o| *o);
                match see(&mut seen, from, from + n) {
                    Seen::Overlap => prop_assert!(overlap),
                    Seen::New => {
                        prop_assert!(!overlap);
                        octets[range].fill(true);
                    }
                    Seen::Full => prop_assert!(!overlap && seen.len() == RANGES),
                }
                for w in seen.windows(2) {
                    prop_assert!(w[0].0 < w[0].1 && w[0].1 < w[1].0, "{seen:?}");
                }
                for (n, o) in octets.iter().enumerate() {
                    prop_assert_eq!(*o, seen.iter().any(|(a, b)| (*a as usize..*b as usize).contains(&n)));
                }
            }
        }
    }
}
