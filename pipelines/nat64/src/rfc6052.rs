//! IPv4 addresses inside IPv6 addresses (RFC 6052).
//!
//! ```text
//!  PL    0        32   40   48   56   64   72   80   88   96   104
//!  32    | prefix | v4 (32)           | u | suffix              |
//!  40    | prefix      | v4 (24)      | u |(8)| suffix          |
//!  48    | prefix           | v4 (16) | u |(16)    | suffix     |
//!  56    | prefix                |(8) | u | v4 (24)     | suffix|
//!  64    | prefix                     | u | v4 (32)          |  |
//!  96    | prefix                                   | v4 (32)   |
//! ```
//!
//! Bits 64 to 71 (the u-octet) are zero in what we make. The u-octet and the suffix of an address that
//! comes in are ignored: RFC 6052 2.3 takes the IPv4 address out by position alone.

use causeway_core::Prefix6;
pub use causeway_core::rfc6890::{is_forwardable, is_global};
use std::net::{Ipv4Addr, Ipv6Addr};
use thiserror::Error;

/// The prefix lengths that RFC 6052 2.2 allows.
pub const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// The most prefixes that one gateway translates. Flows keep their prefix by number, in one octet.
pub const MAX_PREFIXES: usize = 16;

/// The well-known prefix, 64:ff9b::/96 (RFC 6052 2.1), without its length.
pub const WELL_KNOWN: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// Why a prefix cannot be a translation prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// The length is not one of RFC 6052 2.2.
    #[error("the length of a NAT64 prefix is 32, 40, 48, 56, 64 or 96 (RFC 6052 2.2), not {0}")]
    Length(u8),
    /// A /96 whose bits 64 to 71 are not zero.
    #[error("bits 64 to 71 of a NAT64 prefix are zero (RFC 6052 2.2)")]
    UOctet,
    /// Not a unicast prefix, or one with a meaning of its own.
    #[error("{0} is no unicast prefix that hosts can be reached under")]
    NotUnicast(Prefix6),
    /// No prefix at all.
    #[error("at least one NAT64 prefix is needed")]
    None,
    /// More than [`MAX_PREFIXES`].
    #[error("at most {MAX_PREFIXES} NAT64 prefixes are possible, not {0}")]
    TooMany(usize),
    /// Two prefixes have addresses in common.
    #[error("the NAT64 prefixes {0} and {1} overlap")]
    Overlap(Prefix6, Prefix6),
}

/// One translation prefix, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    prefix: Prefix6,
    bits: u128,
    mask: u128,
    /// How many of the bits 32 to 63 belong to the IPv4 address, from the right; 0 for /64 and 32 for
    /// /32. Not used for /96.
    high_bits: u32,
    is_96: bool,
    well_known: bool,
}

impl Prefix {
    /// Checks `prefix` against RFC 6052 2.2.
    ///
    /// # Errors
    /// [`PrefixError::Length`], [`PrefixError::UOctet`] or [`PrefixError::NotUnicast`].
    pub fn new(prefix: Prefix6) -> Result<Self, PrefixError> {
        let len = prefix.len();
        if !LENGTHS.contains(&len) {
            return Err(PrefixError::Length(len));
        }
        let bits = prefix.address().to_bits();
        // RFC 6052 2.2: bits 64 to 71 are reserved and zero, also where they are part of the prefix.
        if len == 96 && (bits >> 56) & 0xff != 0 {
            return Err(PrefixError::UOctet);
        }
        let first = bits >> 112;
        let special = first >> 8 == 0xff || first & 0xffc0 == 0xfe80 || bits >> 96 == 0;
        if special {
            return Err(PrefixError::NotUnicast(prefix));
        }
        Ok(Self {
            prefix,
            bits,
            mask: u128::MAX << (128 - u32::from(len)),
            high_bits: 64u32.saturating_sub(u32::from(len)),
            is_96: len == 96,
            well_known: len == 96 && prefix.address() == WELL_KNOWN,
        })
    }

    /// The prefix as configured.
    #[must_use]
    pub const fn prefix(&self) -> Prefix6 {
        self.prefix
    }

    /// True for 64:ff9b::/96 itself. RFC 8215's 64:ff9b:1::/48 and prefixes of it are not meant.
    #[must_use]
    pub const fn is_well_known(&self) -> bool {
        self.well_known
    }

    /// True if no bits follow the IPv4 address, so that an address under the prefix has one form only.
    #[inline(always)]
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.is_96
    }

    /// True if `a` is under the prefix.
    #[inline(always)]
    #[must_use]
    pub const fn contains(&self, a: Ipv6Addr) -> bool {
        self.contains_bits(a.to_bits())
    }

    #[inline(always)]
    const fn contains_bits(&self, a: u128) -> bool {
        (a ^ self.bits) & self.mask == 0
    }

    /// The IPv4 address in `a`, which the caller knows to be under the prefix (RFC 6052 2.3).
    #[inline(always)]
    #[must_use]
    pub const fn extract(&self, a: Ipv6Addr) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.extract_bits(a.to_bits()))
    }

    /// As [`Prefix::extract`], with numbers.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "positions of 32 bits are cut out on purpose")]
    const fn extract_bits(&self, w: u128) -> u32 {
        if self.is_96 {
            return w as u32;
        }
        let high = (w >> 64) as u64;
        // What follows the u-octet, at the top.
        let low = ((w as u64) << 8) >> 32;
        let joined = (high << 32) | low;
        (joined >> self.high_bits) as u32
    }

    /// `v4` under the prefix, with zero u-octet and suffix (RFC 6052 2.2).
    #[inline(always)]
    #[must_use]
    pub const fn embed(&self, v4: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.embed_bits(v4.to_bits()))
    }

    /// As [`Prefix::embed`], with numbers.
    #[inline(always)]
    pub(crate) const fn embed_bits(&self, v4: u32) -> u128 {
        if self.is_96 {
            return self.bits | v4 as u128;
        }
        let spread = (v4 as u64) << self.high_bits;
        let high = (spread >> 32) as u128;
        let low = (spread & 0xffff_ffff) as u128;
        self.bits | high << 64 | low << 24
    }

    /// True if `v4` may be represented under this prefix.
    ///
    /// RFC 6052 3.1: the well-known prefix does not stand for IPv4 addresses that are not global.
    #[must_use]
    pub fn may_embed(&self, v4: Ipv4Addr) -> bool {
        !self.well_known || is_global(v4)
    }
}

/// The translation prefixes of a gateway, by number. Flows keep the number, so a prefix keeps its own for
/// as long as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefixes {
    /// Each at the place that is its number.
    list: Vec<Option<Prefix>>,
}

impl Prefixes {
    /// Checks each prefix and that none overlap. Their numbers are their places in `list`.
    ///
    /// # Errors
    /// What [`Prefix::new`] finds, or [`PrefixError::None`], [`PrefixError::TooMany`] or
    /// [`PrefixError::Overlap`].
    pub fn new(list: &[Prefix6]) -> Result<Self, PrefixError> {
        Ok(Self { list: check(list)?.into_iter().map(Some).collect() })
    }

    /// The prefixes of a new configuration. Those that were there before keep their numbers; the others get
    /// numbers that nobody had, so that flows of a prefix that is gone never meet another one.
    ///
    /// # Errors
    /// As [`Prefixes::new`].
    pub fn successor(&self, list: &[Prefix6]) -> Result<Self, PrefixError> {
        let old = &self.list;
        let mut next = vec![None; old.len()];
        let mut fresh = Vec::new();
        for p in check(list)? {
            match old.iter().position(|b| *b == Some(p)) {
                Some(n) => next[n] = Some(p),
                None => fresh.push(p),
            }
        }
        for p in fresh {
            match old.iter().zip(&next).position(|(before, now)| before.is_none() && now.is_none()) {
                Some(n) => next[n] = Some(p),
                None => next.push(Some(p)),
            }
        }
        Ok(Self { list: next })
    }

    /// Number of the prefix that `a` is under, and the IPv4 address in it.
    #[inline(always)]
    #[must_use]
    pub fn extract(&self, a: Ipv6Addr) -> Option<(u8, Ipv4Addr)> {
        self.extract_bits(a.to_bits()).map(|(n, v4)| (n, Ipv4Addr::from_bits(v4)))
    }

    /// As [`Prefixes::extract`], with numbers.
    #[inline(always)]
    pub(crate) fn extract_bits(&self, a: u128) -> Option<(u8, u32)> {
        // The numbers fit: one configuration adds at most MAX_PREFIXES, and the next one fills the gaps.
        (0u8..).zip(&self.list).find_map(|(n, p)| match p {
            Some(p) if p.contains_bits(a) => Some((n, p.extract_bits(a))),
            _ => None,
        })
    }

    /// True if `a` is under any of the prefixes.
    #[inline]
    #[must_use]
    pub fn contains(&self, a: Ipv6Addr) -> bool {
        self.all().any(|p| p.contains(a))
    }

    /// The prefix with this number.
    #[inline(always)]
    #[must_use]
    pub fn get(&self, number: u8) -> Option<&Prefix> {
        self.list.get(usize::from(number))?.as_ref()
    }

    /// The least number that a prefix has. There is always one.
    pub(crate) fn first(&self) -> u8 {
        (0u8..).zip(&self.list).find_map(|(n, p)| p.is_some().then_some(n)).unwrap_or(0)
    }

    /// All of them, in the order of their numbers.
    pub fn all(&self) -> impl Iterator<Item = &Prefix> {
        self.list.iter().flatten()
    }
}

/// Checks each prefix and that none overlap.
fn check(list: &[Prefix6]) -> Result<Vec<Prefix>, PrefixError> {
    if list.is_empty() {
        return Err(PrefixError::None);
    }
    if list.len() > MAX_PREFIXES {
        return Err(PrefixError::TooMany(list.len()));
    }
    for (n, a) in list.iter().enumerate() {
        if let Some(b) = list[..n].iter().find(|b| b.overlaps(*a)) {
            return Err(PrefixError::Overlap(*b, *a));
        }
    }
    list.iter().map(|p| Prefix::new(*p)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(s: &str) -> Prefix {
        Prefix::new(s.parse().unwrap()).unwrap()
    }

    #[test]
    fn rfc6052_2_4_the_table_of_examples() {
        let v4 = Ipv4Addr::new(192, 0, 2, 33);
        for (p, address) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let address: Ipv6Addr = address.parse().unwrap();
            assert_eq!(prefix(p).embed(v4), address, "{p}");
            assert_eq!(prefix(p).extract(address), v4, "{p}");
            assert!(prefix(p).contains(address), "{p}");
        }
    }

    #[test]
    fn rfc6052_2_2_other_lengths_and_a_set_u_octet_are_refused() {
        for len in 0..=128 {
            let p = Prefix6::containing("2001:db8::".parse().unwrap(), len).unwrap();
            let allowed = LENGTHS.contains(&len);
            assert_eq!(Prefix::new(p).is_ok(), allowed, "{p}");
        }
        let u: Prefix6 = "2001:db8:0:0:100::/96".parse().unwrap();
        assert_eq!(Prefix::new(u), Err(PrefixError::UOctet));
        let low: Prefix6 = "2001:db8:0:0:1::/96".parse().unwrap();
        assert!(Prefix::new(low).is_ok());
    }

    #[test]
    fn prefixes_that_no_host_is_under_are_refused() {
        for p in ["ff00::/32", "fe80::/64", "::/96", "::ffff:0:0/96"] {
            let p: Prefix6 = p.parse().unwrap();
            assert_eq!(Prefix::new(p), Err(PrefixError::NotUnicast(p)));
        }
    }

    #[test]
    fn rfc6052_3_1_the_well_known_prefix_refuses_addresses_that_are_not_global() {
        let wkp = prefix("64:ff9b::/96");
        for v4 in [
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.10",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
        ] {
            assert!(!wkp.may_embed(v4.parse().unwrap()), "{v4}");
        }
        for v4 in
            ["8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.0.9", "192.0.1.1", "198.20.0.1", "203.0.114.0"]
        {
            assert!(wkp.may_embed(v4.parse().unwrap()), "{v4}");
        }
    }

    #[test]
    fn rfc8215_the_local_use_prefix_takes_any_address() {
        for p in ["64:ff9b:1::/48", "64:ff9b:1::/96", "64:ff9b:1:fffe::/96", "2001:db8:64:ff9b::/96"] {
            assert!(prefix(p).may_embed(Ipv4Addr::new(10, 0, 0, 1)), "{p}");
        }
    }

    #[test]
    fn prefixes_are_told_apart_by_number() {
        let list: Vec<Prefix6> =
            ["2001:db8:1::/96", "2001:db8:2::/48", "64:ff9b::/96"].map(|p| p.parse().unwrap()).to_vec();
        let all = Prefixes::new(&list).unwrap();
        let v4 = Ipv4Addr::new(198, 51, 100, 10);
        for n in 0..3u8 {
            assert_eq!(all.extract(all.get(n).unwrap().embed(v4)), Some((n, v4)));
        }
        assert_eq!(all.extract("2001:db8:3::1".parse().unwrap()), None);
        let overlap = ["2001:db8:1::/96", "2001:db8:1::/48"].map(|p| p.parse().unwrap());
        assert_eq!(Prefixes::new(&overlap), Err(PrefixError::Overlap(overlap[0], overlap[1])));
        assert_eq!(Prefixes::new(&[]), Err(PrefixError::None));
    }

    #[test]
    fn a_prefix_keeps_its_number_and_a_number_that_was_in_use_is_not_given_away() {
        let [a, b, c, d] = ["2001:db8:1::/96", "2001:db8:2::/48", "2001:db8:3::/96", "2001:db8:4::/96"]
            .map(|p| p.parse().unwrap());
        let numbers = |p: &Prefixes| [a, b, c, d].map(|q: Prefix6| p.extract(q.address()).map(|(n, _)| n));
        let first = Prefixes::new(&[a, b]).unwrap();
        let second = first.successor(&[c, b]).unwrap();
        assert_eq!(numbers(&second), [None, Some(1), Some(2), None]);
        assert_eq!(second.get(0), None);
        assert_eq!(second.all().count(), 2);
        // One later the number is free.
        let third = second.successor(&[d, c, b]).unwrap();
        assert_eq!(numbers(&third), [None, Some(1), Some(2), Some(0)]);
        assert_eq!(third.successor(&[]), Err(PrefixError::None));
        // However often the list changes, numbers stay small.
        let mut p = first;
        for n in 0..200u16 {
            let at = |m: u16| format!("2001:db8:{:x}::/96", 0x100 + n * 16 + m).parse().unwrap();
            p = p.successor(&(0..16).map(at).collect::<Vec<_>>()).unwrap();
            assert!(p.list.len() <= 2 * MAX_PREFIXES + 2, "{}", p.list.len());
        }
    }

    #[test]
    fn rfc1812_5_3_7_addresses_that_no_router_forwards() {
        for v4 in
            ["0.1.2.3", "127.0.0.1", "169.254.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"]
        {
            assert!(!is_forwardable(v4.parse().unwrap()), "{v4}");
        }
        for v4 in ["10.0.0.1", "192.168.1.1", "169.253.0.1", "223.255.255.255", "198.51.100.10"] {
            assert!(is_forwardable(v4.parse().unwrap()), "{v4}");
        }
    }

    /// The layout of RFC 6052 2.2 octet by octet, to compare with.
    fn embed_by_octets(p: Prefix6, v4: Ipv4Addr) -> Ipv6Addr {
        let mut o = p.address().octets();
        let mut at = usize::from(p.len() / 8);
        for octet in v4.octets() {
            if at == 8 {
                at = 9;
            }
            o[at] = octet;
            at += 1;
        }
        Ipv6Addr::from(o)
    }

    proptest! {
        #[test]
        fn rfc6052_2_3_equals_the_layout_by_octets_and_ignores_the_suffix(
            n in 0usize..6, bits: u128, v4: u32, noise: u128,
        ) {
            let bits = (0x2001_0db8u128 << 96) | (bits >> 32) & !(0xff << 56);
            let p6 = Prefix6::containing(Ipv6Addr::from_bits(bits), LENGTHS[n]).unwrap();
            let p = Prefix::new(p6).unwrap();
            let v4 = Ipv4Addr::from_bits(v4);
            let a = p.embed(v4);
            prop_assert_eq!(a, embed_by_octets(p6, v4));
            prop_assert_eq!(p.extract(a), v4);
            // Everything that holds neither prefix nor IPv4 address.
            let ones = embed_by_octets(p6, Ipv4Addr::BROADCAST).to_bits()
                | if LENGTHS[n] == 0 { 0 } else { u128::MAX << (128 - u32::from(LENGTHS[n])) };
            let noisy = Ipv6Addr::from_bits(a.to_bits() | noise & !ones);
            prop_assert_eq!(p.extract(noisy), v4);
        }
    }
}
