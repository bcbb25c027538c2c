//! What all workers read per packet: the link-layer addresses of resolved neighbours.
//!
//! ```text
//!  value:  confirmed (14 bits, units of 4 s) | state (2 bits) | link-layer address (48 bits)
//! ```
//! Each entry has one writer: the worker that owns the neighbour. Readers only read, but for one case:
//! the first packet to a neighbour that is stale sets a mark, which tells the owner that the neighbour
//! is in use. Further packets see the mark and write nothing. Marks are a bitmap by hash; two neighbours
//! that share a bit cost a probe that was not needed.

use causeway_core::{IfId, Instant, Interface, Interfaces};
use causeway_flowtable::seqmap::SeqMap;
use causeway_wire::MacAddr;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

/// A link: a port, or one VLAN of a port. Unlike the number of an interface, it means the same in every
/// plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkId(u32);

impl LinkId {
    /// No link that exists.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// The link that an interface is on.
    #[inline]
    #[must_use]
    pub fn of(interface: &Interface) -> Self {
        Self(interface.link())
    }

    /// Its number, as [`Interface::link`] gives it.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The interface on this link, if the plan has one.
    #[must_use]
    pub fn interface(self, interfaces: &Interfaces) -> Option<IfId> {
        interfaces.iter().find(|(_, i)| Self::of(i) == self).map(|(id, _)| id)
    }
}

/// A neighbour: a link and an address on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u64; 3]);

impl Key {
    const V4: u64 = 4 << 32;
    const V6: u64 = 6 << 32;

    /// The neighbour with this IPv6 address.
    #[inline(always)]
    #[must_use]
    pub fn v6(link: LinkId, a: Ipv6Addr) -> Self {
        let w = a.to_bits();
        Self([Self::V6 | u64::from(link.0), (w >> 64) as u64, w as u64])
    }

    /// The neighbour with this IPv4 address.
    #[inline(always)]
    #[must_use]
    pub fn v4(link: LinkId, a: Ipv4Addr) -> Self {
        Self([Self::V4 | u64::from(link.0), 0, u64::from(a.to_bits())])
    }

    /// The neighbour with this address.
    #[must_use]
    pub fn new(link: LinkId, a: IpAddr) -> Self {
        match a {
            IpAddr::V4(a) => Self::v4(link, a),
            IpAddr::V6(a) => Self::v6(link, a),
        }
    }

    /// The link.
    #[must_use]
    pub const fn link(self) -> LinkId {
        LinkId((self.0[0] & 0xffff_ffff) as u32)
    }

    /// The address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        if self.0[0] & !0xffff_ffff == Self::V4 {
            IpAddr::V4(Ipv4Addr::from_bits((self.0[2] & 0xffff_ffff) as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits((self.0[1] as u128) << 64 | self.0[2] as u128))
        }
    }
}

/// State of a neighbour whose link-layer address is known (RFC 4861 7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reachability {
    /// Confirmed not long ago.
    Reachable = 0,
    /// Not confirmed lately, and not in use since.
    Stale = 1,
    /// Not confirmed lately, and in use.
    Delay = 2,
    /// Being probed.
    Probe = 3,
}

impl Reachability {
    /// The name that users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Delay => "delay",
            Self::Probe => "probe",
        }
    }
}

const NO: u64 = 0;
const YES: u64 = 1;

/// Seconds in one unit of the time of confirmation.
const AGE_UNIT_SECS: u64 = 4;
const AGE_BITS: u64 = 0x3fff;

/// The value of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) mac: MacAddr,
    pub(crate) state: Reachability,
    confirmed: u64,
}

impl Published {
    pub(crate) fn new(mac: MacAddr, state: Reachability, confirmed: Instant) -> Self {
        Self { mac, state, confirmed: (confirmed.as_secs() / AGE_UNIT_SECS) & AGE_BITS }
    }

    fn pack(self) -> u64 {
        self.confirmed << 50 | (self.state as u64) << 48 | self.mac.to_u64()
    }

    #[inline(always)]
    fn unpack(w: u64) -> Self {
        let state = match w >> 48 & 3 {
            0 => Reachability::Reachable,
            1 => Reachability::Stale,
            2 => Reachability::Delay,
            _ => Reachability::Probe,
        };
        Self { mac: MacAddr::from_u64(w & 0xffff_ffff_ffff), state, confirmed: w >> 50 }
    }

    fn age_secs(self, now: Instant) -> u64 {
        ((now.as_secs() / AGE_UNIT_SECS).wrapping_sub(self.confirmed) & AGE_BITS) * AGE_UNIT_SECS
    }
}

/// A resolved neighbour, as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbor {
    /// The link that it is on.
    pub link: LinkId,
    /// Its address.
    pub address: IpAddr,
    /// Its link-layer address.
    pub mac: MacAddr,
    /// How sure that is.
    pub state: Reachability,
    /// Seconds since it was confirmed, or made itself known, to within four; never above 18 hours.
    pub age_secs: u64,
}

/// The shared table of resolved neighbours. One per gateway.
#[derive(Debug)]
pub struct Resolved {
    map: SeqMap,
    /// Neighbours that are kept: [`YES`] or [`NO`], once that is known.
    kept: SeqMap,
    marks: Box<[AtomicU64]>,
    seed: [u64; 3],
    workers: u16,
}

impl Resolved {
    /// A table for `workers` workers (at least 1), each of which publishes at most what the
    /// configuration lets it. Allocates all that it will ever use.
    #[must_use]
    pub fn new(config: &crate::Config, workers: u16) -> Self {
        let workers = workers.max(1);
        let random = RandomState::new();
        let seed = std::array::from_fn(|n| random.hash_one(n));
        let map_seed = std::array::from_fn(|n| random.hash_one((n, "map")));
        let each = crate::table::Limits::of(config, workers).published();
        let capacity = u32::try_from(each * usize::from(workers)).unwrap_or(u32::MAX);
        let bits = (capacity as usize * 4).next_power_of_two().max(64);
        let marks = (0..bits / 64).map(|_| AtomicU64::new(0)).collect();
        let kept = SeqMap::new(crate::keep::MOST, map_seed);
        Self { map: SeqMap::new(capacity, map_seed), kept, marks, seed, workers }
    }

    /// How many workers share the neighbours.
    #[must_use]
    pub const fn workers(&self) -> u16 {
        self.workers
    }

    /// How many neighbours are resolved.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.map.len()
    }

    /// True if no neighbour is resolved.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The worker that owns a neighbour.
    #[inline]
    #[must_use]
    pub fn owner(&self, key: &Key) -> u16 {
        self.owner_by_hash(self.hash(key))
    }

    #[inline]
    pub(crate) fn owner_by_hash(&self, hash: u64) -> u16 {
        // The high half of the product is below the number of workers.
        ((u128::from(hash) * u128::from(self.workers)) >> 64) as u16
    }

    /// A keyed hash: a stranger cannot choose which worker or which slot an address falls to.
    #[inline]
    pub(crate) fn hash(&self, key: &Key) -> u64 {
        let [a, b, c] = key.0;
        // The last round is for neighbouring addresses: without it their hashes are one multiple after
        // another of the same number, which may be unevenly spread.
        mix(mix(mix(a ^ self.seed[0], b ^ self.seed[1]), c ^ self.seed[2]), 0x9e37_79b9_7f4a_7c15)
    }

    #[inline(always)]
    pub(crate) fn get(&self, key: &Key) -> Option<Published> {
        self.map.get(&key.0).map(Published::unpack)
    }

    #[inline(always)]
    pub(crate) fn prefetch(&self, key: &Key) {
        self.map.prefetch(&key.0);
    }

    /// False when there is no room.
    pub(crate) fn put(&self, key: &Key, value: Published) -> bool {
        self.map.insert(&key.0, value.pack()).is_ok()
    }

    pub(crate) fn remove(&self, key: &Key) {
        let _ = self.map.remove(&key.0);
    }

    #[inline(always)]
    fn mark_of(&self, hash: u64) -> (&AtomicU64, u64) {
        // The number of words is a power of two. Owner and slot come from other bits of the hash.
        let word = (hash >> 6) as usize & (self.marks.len() - 1);
        (&self.marks[word], 1 << (hash & 63))
    }

    /// Says that a stale neighbour is in use.
    #[inline]
    pub(crate) fn mark_used(&self, hash: u64) {
        let (word, bit) = self.mark_of(hash);
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// True if the neighbour was in use since the last call.
    pub(crate) fn take_mark(&self, hash: u64) -> bool {
        let (word, bit) = self.mark_of(hash);
        word.load(Ordering::Relaxed) & bit != 0 && word.fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }

    /// The link-layer address of a neighbour, if it is resolved. Says nothing about use.
    #[must_use]
    pub fn lookup(&self, link: LinkId, address: IpAddr) -> Option<MacAddr> {
        self.get(&Key::new(link, address)).map(|p| p.mac)
    }

    /// Whether a neighbour that is [kept](crate::Neighbors::keep) can be reached: nothing until that is
    /// known for the first time, or if it is not kept. May be called from any thread.
    #[must_use]
    pub fn reachable(&self, link: LinkId, address: IpAddr) -> Option<bool> {
        self.kept.get(&Key::new(link, address).0).map(|reachable| reachable == YES)
    }

    pub(crate) fn set_reachable(&self, key: &Key, reachable: bool) {
        // There is room for as many as are kept.
        let _ = self.kept.insert(&key.0, if reachable { YES } else { NO });
    }

    pub(crate) fn forget_reachable(&self, key: &Key) {
        let _ = self.kept.remove(&key.0);
    }

    /// Calls `f` with the neighbours found in `max` slots from `from` on (0 to begin with); gives where
    /// to go on, or nothing at the end. For control: bounded slices, no lock.
    pub fn list(&self, from: usize, max: usize, now: Instant, mut f: impl FnMut(Neighbor)) -> Option<usize> {
        self.map.iterate(from, max, |key, value| {
            let (key, p) = (Key(*key), Published::unpack(value));
            f(Neighbor {
                link: key.link(),
                address: key.address(),
                mac: p.mac,
                state: p.state,
                age_secs: p.age_secs(now),
            });
        })
    }
}

/// Folds both halves of a 128-bit product into one word.
#[inline(always)]
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let p = u128::from(a) * u128::from(b);
    (p as u64) ^ ((p >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_keeps_what_was_put_in(mac: [u8; 6], state in 0u64..4, at in 0u64..1 << 40, later in 0u64..40_000) {
            let state = Published::unpack(state << 48).state;
            let confirmed = Instant::from_micros(at);
            let p = Published::unpack(Published::new(MacAddr(mac), state, confirmed).pack());
            prop_assert_eq!((p.mac, p.state), (MacAddr(mac), state));
            let now = confirmed + causeway_core::Duration::from_secs(later);
            prop_assert!(p.age_secs(now).abs_diff(later) <= AGE_UNIT_SECS);
        }

        #[test]
        fn a_key_gives_back_link_and_address(link: u32, v6: u128, v4: u32) {
            for a in [IpAddr::V6(v6.into()), IpAddr::V4(v4.into())] {
                let k = Key::new(LinkId(link), a);
                prop_assert_eq!((k.link(), k.address()), (LinkId(link), a));
            }
            prop_assert_ne!(Key::v6(LinkId(link), u128::from(v4).into()), Key::v4(LinkId(link), v4.into()));
        }
    }

    #[test]
    fn owners_are_spread_and_marks_are_taken_once() {
        let r = Resolved::new(&crate::Config::default(), 3);
        let mut of = [0u32; 3];
        for n in 0..3000u32 {
            of[usize::from(r.owner(&Key::v4(LinkId(7), n.into())))] += 1;
        }
        assert!(of.iter().all(|n| (850..1150).contains(n)), "{of:?}");
        assert!(!r.take_mark(42));
        r.mark_used(42);
        r.mark_used(42);
        assert!(r.take_mark(42));
        assert!(!r.take_mark(42));
    }
}
