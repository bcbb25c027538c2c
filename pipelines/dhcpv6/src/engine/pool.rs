//! What is given to anybody: a range of addresses, or the prefixes of one length in a prefix.
//!
//! A pool of up to [`DENSE`] elements has a bit for each: set if it has a lease of any state, or must not
//! be given. In a larger one a few places are tried that the client's identity leads to; leases are too few
//! to fill it. Leases that ended wait in the order in which they did.

use super::bitmap::Bitmap;
use super::places::RESERVED_IIDS;
use crate::config::{Delegation, Pool as Range};
use crate::lease::{Kind, UnixSeconds};
use std::collections::BTreeSet;
use std::net::Ipv6Addr;

/// Elements that are kept a bit for: 2 MiB.
const DENSE: u128 = 1 << 24;

/// Places that are tried before a pool counts as full.
const TRIES: u64 = 256;

/// A pool; its elements are numbered from 0.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) kind: Kind,
    /// The link that it is for.
    pub(super) link: usize,
    first: u128,
    count: u128,
    /// 128, or the length of what is delegated.
    pub(super) length: u8,
    used: Option<Bitmap>,
    /// Leases that ended, by when they did.
    pub(super) ended: BTreeSet<(UnixSeconds, u32)>,
}

impl Pool {
    pub(super) fn of_addresses(link: usize, range: &Range) -> Self {
        let (first, last) = (range.first.to_bits(), range.last.to_bits());
        Self::new(Kind::Address, link, first, last.saturating_sub(first).saturating_add(1), 128)
    }

    pub(super) fn of_prefixes(link: usize, delegation: &Delegation) -> Self {
        let bits = u32::from(delegation.length.saturating_sub(delegation.prefix.len())).min(127);
        let first = delegation.prefix.address().to_bits();
        Self::new(Kind::Prefix, link, first, 1 << bits, delegation.length.clamp(1, 128))
    }

    fn new(kind: Kind, link: usize, first: u128, count: u128, length: u8) -> Self {
        let used = (count <= DENSE).then(|| Bitmap::new(usize::try_from(count).unwrap_or(1)));
        let mut new = Self { kind, link, first, count, length, used, ended: BTreeSet::new() };
        if kind == Kind::Address {
            new.mark_reserved_iids();
        }
        new
    }

    /// RFC 9915 13.1: these are nobody's.
    fn mark_reserved_iids(&mut self) {
        let Some(used) = &mut self.used else { return };
        let last = self.first + (self.count - 1);
        // A dense pool is in at most two /64s.
        let high = |a: u128| a >> 64 << 64;
        for half in BTreeSet::from([high(self.first), high(last)]) {
            for (from, to) in RESERVED_IIDS {
                let (from, to) =
                    ((half | u128::from(from)).max(self.first), (half | u128::from(to)).min(last));
                for bit in from..to.saturating_add(1) {
                    used.set(usize::try_from(bit - self.first).unwrap_or(0));
                }
            }
        }
    }

    const fn shift(&self) -> u32 {
        128 - self.length as u32
    }

    fn element(&self, number: u128) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.first + (number << self.shift()))
    }

    /// The number of an address or prefix, if it is an element.
    pub(super) fn number(&self, address: Ipv6Addr, length: u8) -> Option<u128> {
        let from = address.to_bits().checked_sub(self.first)?;
        let number = from >> self.shift();
        (length == self.length && number < self.count && self.element(number) == address).then_some(number)
    }

    /// How many elements there are.
    pub(super) const fn count(&self) -> u128 {
        self.count
    }

    /// Where the pool begins: what pools are sorted by.
    pub(super) const fn first(&self) -> u128 {
        self.first
    }

    /// Says whether an element may be taken for unused.
    pub(super) fn mark(&mut self, address: Ipv6Addr, is_used: bool) {
        let Some(number) = self.number(address, self.length) else { return };
        if let (Some(used), Ok(bit)) = (&mut self.used, usize::try_from(number)) {
            if is_used { used.set(bit) } else { used.clear(bit) }
        }
    }

    /// An element that has no lease and passes `fits`, looked for from where `at` says.
    pub(super) fn unused(&self, at: u64, fits: impl Fn(Ipv6Addr) -> bool) -> Option<Ipv6Addr> {
        match &self.used {
            Some(used) => {
                let mut bit = usize::try_from(u128::from(at) % self.count).unwrap_or(0);
                for _ in 0..TRIES {
                    bit = used.next_clear(bit).or_else(|| used.next_clear(0))?;
                    let address = self.element(bit as u128);
                    if fits(address) {
                        return Some(address);
                    }
                    bit += 1;
                }
                None
            }
            None => (0..TRIES).map(|n| self.element(scatter(at, n) % self.count)).find(|a| fits(*a)),
        }
    }
}

/// A number of 128 bits from one of 64, another for each `n`.
fn scatter(at: u64, n: u64) -> u128 {
    // The finaliser of splitmix64.
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let a = mix(at.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    u128::from(a) << 64 | u128::from(mix(a ^ at.rotate_left(32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: &str, last: &str) -> Pool {
        let parse = |t: &str| t.parse().expect("an address");
        Pool::of_addresses(0, &Range { first: parse(first), last: parse(last) })
    }

    #[test]
    fn rfc9915_13_1_addresses_with_a_meaning_are_not_given() {
        let mut pool = range("2001:db8:64::", "2001:db8:64::3");
        let mut got = Vec::new();
        while let Some(a) = pool.unused(2, |_| true) {
            got.push(a.to_string());
            pool.mark(a, true);
        }
        assert_eq!(got, ["2001:db8:64::2", "2001:db8:64::3", "2001:db8:64::1"]);
        assert_eq!(
            range("2001:db8::fdff:ffff:ffff:ff80", "2001:db8::fdff:ffff:ffff:ffff").unused(9, |_| true),
            None
        );
    }

    #[test]
    fn a_huge_pool_is_tried_here_and_there() {
        let pool = range("2001:db8:64::", "2001:db8:64:0:ffff:ffff:ffff:ffff");
        let a = pool.unused(7, |_| true).expect("room");
        let b = pool.unused(7, |x| x != a).expect("room");
        let c = pool.unused(8, |_| true).expect("room");
        assert!(a != b && b != c && a != c);
        assert!([a, b, c].iter().all(|x| pool.number(*x, 128).is_some()));
    }

    #[test]
    fn prefixes_are_elements_at_their_boundaries_only() {
        let delegation =
            Delegation { prefix: "2001:db8:64:8000::/56".parse().expect("a prefix"), length: 64 };
        let pool = Pool::of_prefixes(0, &delegation);
        let number = |a: &str, length| pool.number(a.parse().expect("an address"), length);
        assert_eq!(number("2001:db8:64:80ff::", 64), Some(255));
        assert_eq!(number("2001:db8:64:8100::", 64), None);
        assert_eq!(number("2001:db8:64:8001::1", 64), None);
        assert_eq!(number("2001:db8:64:8001::", 63), None);
    }
}
