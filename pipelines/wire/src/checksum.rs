//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are kept as `u32` or `u64` one's-complement accumulators and folded once. Everything works on
//! big-endian 16-bit words, as they stand in the packet.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Adds the 16-bit words of `b` to `acc`; an odd last octet is padded with zero (RFC 1071 4.1).
#[inline]
#[must_use]
pub fn sum(b: &[u8], acc: u64) -> u64 {
    // RFC 1071 2(B): the sum does not depend on the word size that it is added in.
    let mut acc = acc;
    let (words, rest) = b.as_chunks::<4>();
    for w in words {
        acc += u64::from(u32::from_be_bytes(*w));
    }
    let mut tail = [0u8; 4];
    tail[..rest.len()].copy_from_slice(rest);
    acc + u64::from(u32::from_be_bytes(tail))
}

/// Folds an accumulator to 16 bits, without complementing it.
#[inline(always)]
#[must_use]
pub fn fold(acc: u64) -> u16 {
    let acc = (acc >> 32) + (acc & 0xffff_ffff);
    let acc = (acc >> 32) + (acc & 0xffff_ffff);
    let acc = (acc >> 16) + (acc & 0xffff);
    let acc = (acc >> 16) + (acc & 0xffff);
    #[expect(clippy::cast_possible_truncation, reason = "two folds leave 16 bits")]
    {
        ((acc >> 16) + (acc & 0xffff)) as u16
    }
}

/// The checksum of `b`: the complement of the folded sum.
#[inline]
#[must_use]
pub fn checksum(b: &[u8]) -> u16 {
    !fold(sum(b, 0))
}

/// Sum of an IPv6 pseudo-header (RFC 8200 8.1).
#[inline]
#[must_use]
pub fn pseudo6(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, upper_octets: u32) -> u64 {
    sum6(src) + sum6(dst) + u64::from(next_header) + u64::from(upper_octets)
}

/// Sum of an IPv4 pseudo-header (RFC 9293 3.1, RFC 768).
#[inline]
#[must_use]
pub fn pseudo4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, upper_octets: u16) -> u64 {
    u64::from(src.to_bits()) + u64::from(dst.to_bits()) + u64::from(protocol) + u64::from(upper_octets)
}

/// Sum of the words of an IPv6 address.
#[inline(always)]
#[must_use]
pub fn sum6(a: Ipv6Addr) -> u64 {
    let w = a.to_bits();
    let m = 0xffff_ffffu128;
    #[expect(clippy::cast_possible_truncation, reason = "each term is masked to 32 bits")]
    {
        ((w >> 96) & m) as u64 + ((w >> 64) & m) as u64 + ((w >> 32) & m) as u64 + (w & m) as u64
    }
}

/// What a checksum has to gain when `old` words give way to `new` words: `~HC' = ~HC + (new - old)`
/// in one's-complement arithmetic (RFC 1624 3, equation 3). The result goes to [`apply`].
///
/// Both accumulators come from [`sum`], [`sum6`] or [`pseudo6`] and their like.
#[inline(always)]
#[must_use]
pub fn delta(old: u64, new: u64) -> u16 {
    fold(new + u64::from(!fold(old)))
}

/// Applies a [`delta`] to a checksum field.
///
/// RFC 1624 3: a field of a header whose sum is not all zero words never becomes 0xffff by this, so a
/// checksum that was right stays right.
#[inline(always)]
#[must_use]
pub fn apply(field: u16, delta: u16) -> u16 {
    !fold(u64::from(!field) + u64::from(delta))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The plain loop of RFC 1071 4.1, to compare with.
    fn slow(b: &[u8]) -> u16 {
        let mut acc = 0u32;
        for pair in b.chunks(2) {
            acc += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            acc = (acc & 0xffff) + (acc >> 16);
        }
        !(acc as u16)
    }

    #[test]
    fn rfc1071_3_example() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn rfc1624_4_example_does_not_give_minus_zero() {
        // A field 0x5555 becomes 0x3285 in a header whose checksum is 0xdd2f: the result is 0x0000.
        assert_eq!(apply(0xdd2f, delta(0x5555, 0x3285)), 0x0000);
    }

    proptest! {
        #[test]
        fn equals_the_plain_loop(b in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(checksum(&b), slow(&b));
        }

        #[test]
        fn incremental_equals_recomputed(mut b in proptest::collection::vec(any::<u8>(), 20..100), new: [u8; 4], at in 0usize..4) {
            let at = at * 4;
            b[18] = 0; b[19] = 0;
            let before = slow(&b);
            let old = sum(&b[at..at + 4], 0);
            b[at..at + 4].copy_from_slice(&new);
            let after = apply(before, delta(old, sum(&new, 0)));
            let want = slow(&b);
            // 0x0000 and 0xffff are the same number; which of them results may differ for all-zero data.
            prop_assert!(after == want || (after == 0 && want == 0xffff) || (after == 0xffff && want == 0));
        }
    }
}
