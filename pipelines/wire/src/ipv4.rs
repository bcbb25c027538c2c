//! The IPv4 header (RFC 791), read in place.

use crate::checksum;
use crate::{WireError, be16, be32, put16, put32};
use std::net::Ipv4Addr;

/// Octets of a header without options.
pub const HEADER: usize = 20;
/// Offset of the type of service octet.
pub const TOS: usize = 1;
/// Offset of the total length.
pub const TOTAL_LEN: usize = 2;
/// Offset of the Identification.
pub const ID: usize = 4;
/// Offset of the flags and fragment offset.
pub const FRAG: usize = 6;
/// Offset of the time to live.
pub const TTL: usize = 8;
/// Offset of the protocol.
pub const PROTO: usize = 9;
/// Offset of the header checksum.
pub const CHECKSUM: usize = 10;
/// Offset of the source address.
pub const SRC: usize = 12;
/// Offset of the destination address.
pub const DST: usize = 16;

/// Don't-Fragment, in the flags and fragment offset field.
pub const DF: u16 = 0x4000;
/// More-Fragments, in the flags and fragment offset field.
pub const MF: u16 = 0x2000;
/// The fragment offset, in units of eight octets.
pub const OFFSET_MASK: u16 = 0x1fff;

/// What the packet path needs of an IPv4 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Repr {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Differentiated services and ECN octet.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset as they stand in the header.
    pub frag: u16,
    /// Octets of the header with its options: 20 to 60.
    pub header_octets: usize,
    /// Total length: header and payload, in octets.
    pub total_octets: usize,
}

impl Ipv4Repr {
    /// Parses and checks the header at the start of `b`. `b` may be longer than the packet (padding).
    ///
    /// # Errors
    /// A cause each for a packet that is cut, has another version, contradicts itself in its lengths, or
    /// has a wrong header checksum (RFC 1812 5.2.2).
    #[inline]
    pub fn parse(b: &[u8]) -> Result<Self, WireError> {
        let Some(h) = b.first_chunk::<HEADER>() else { return Err(WireError::Truncated) };
        if h[0] >> 4 != 4 {
            return Err(WireError::BadVersion);
        }
        let header_octets = usize::from(h[0] & 0x0f) * 4;
        let total_octets = usize::from(be16(h, TOTAL_LEN));
        if header_octets < HEADER || total_octets < header_octets {
            return Err(WireError::BadLength);
        }
        if b.len() < total_octets {
            return Err(WireError::Truncated);
        }
        let sum = if header_octets == HEADER {
            checksum::fold(checksum::sum(h, 0))
        } else {
            checksum::fold(checksum::sum(&b[..header_octets], 0))
        };
        if sum != 0xffff {
            return Err(WireError::BadChecksum);
        }
        Ok(Self {
            src: Ipv4Addr::from_bits(be32(h, SRC)),
            dst: Ipv4Addr::from_bits(be32(h, DST)),
            protocol: h[PROTO],
            ttl: h[TTL],
            tos: h[TOS],
            id: be16(h, ID),
            frag: be16(h, FRAG),
            header_octets,
            total_octets,
        })
    }

    /// True for any fragment, the first included.
    #[inline]
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.frag & (MF | OFFSET_MASK) != 0
    }

    /// Writes a header of 20 octets with a right checksum. `header_octets` must be 20: options are not
    /// written.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if `b` is shorter than 20 octets, [`WireError::BadLength`] if the
    /// lengths are not those of a header without options.
    #[inline]
    pub fn emit(&self, b: &mut [u8]) -> Result<(), WireError> {
        let Some(h) = b.first_chunk_mut::<HEADER>() else { return Err(WireError::Truncated) };
        let Ok(total) = u16::try_from(self.total_octets) else { return Err(WireError::BadLength) };
        if self.header_octets != HEADER || usize::from(total) < HEADER {
            return Err(WireError::BadLength);
        }
        h[0] = 0x45;
        h[TOS] = self.tos;
        put16(h, TOTAL_LEN, total);
        put16(h, ID, self.id);
        put16(h, FRAG, self.frag);
        h[TTL] = self.ttl;
        h[PROTO] = self.protocol;
        put16(h, CHECKSUM, 0);
        put32(h, SRC, self.src.to_bits());
        put32(h, DST, self.dst.to_bits());
        let sum = checksum::checksum(h);
        put16(h, CHECKSUM, sum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Ipv4Repr {
        Ipv4Repr {
            src: Ipv4Addr::new(192, 0, 2, 1),
            dst: Ipv4Addr::new(198, 51, 100, 10),
            protocol: 17,
            ttl: 64,
            tos: 0,
            id: 7,
            frag: DF,
            header_octets: HEADER,
            total_octets: 28,
        }
    }

    #[test]
    fn rfc1812_5_2_2_a_header_that_contradicts_itself_is_refused() {
        let mut b = [0u8; 28];
        sample().emit(&mut b).unwrap();
        assert!(Ipv4Repr::parse(&b).is_ok());
        let with = |at: usize, v: u8| {
            let mut c = b;
            c[at] = v;
            Ipv4Repr::parse(&c)
        };
        assert_eq!(with(0, 0x65), Err(WireError::BadVersion));
        assert_eq!(with(0, 0x44), Err(WireError::BadLength));
        assert_eq!(with(3, 19), Err(WireError::BadLength));
        assert_eq!(with(3, 29), Err(WireError::Truncated));
        assert_eq!(with(8, 63), Err(WireError::BadChecksum));
        assert_eq!(Ipv4Repr::parse(&b[..19]), Err(WireError::Truncated));
    }

    proptest! {
        #[test]
        fn emit_then_parse(src: u32, dst: u32, protocol: u8, ttl: u8, tos: u8, id: u16, frag: u16, extra in 0usize..100) {
            let repr = Ipv4Repr {
                src: Ipv4Addr::from_bits(src), dst: Ipv4Addr::from_bits(dst), protocol, ttl, tos, id, frag,
                header_octets: HEADER, total_octets: HEADER + extra,
            };
            let mut b = vec![0xa5u8; HEADER + extra];
            repr.emit(&mut b).unwrap();
            prop_assert_eq!(Ipv4Repr::parse(&b).unwrap(), repr);
        }

        #[test]
        fn parse_never_panics(b: Vec<u8>) {
            let _ = Ipv4Repr::parse(&b);
        }
    }
}
