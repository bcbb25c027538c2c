//! The IPv6 header and the walk over its extension headers (RFC 8200), read in place.

use crate::{WireError, be16, be32, put16, put32};
use std::net::Ipv6Addr;

/// Octets of the fixed header.
pub const HEADER: usize = 40;
/// Offset of the payload length.
pub const PAYLOAD_LEN: usize = 4;
/// Offset of the next header.
pub const NEXT_HEADER: usize = 6;
/// Offset of the hop limit.
pub const HOP_LIMIT: usize = 7;
/// Offset of the source address.
pub const SRC: usize = 8;
/// Offset of the destination address.
pub const DST: usize = 24;
/// Octets of a Fragment header (RFC 8200 4.5).
pub const FRAGMENT_HEADER: usize = 8;
/// The lowest link MTU that IPv6 allows, in octets (RFC 8200 5).
pub const MIN_MTU: usize = 1280;

/// Next header values.
pub mod next_header {
    /// Hop-by-Hop options (RFC 8200 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// Routing (RFC 8200 4.4).
    pub const ROUTING: u8 = 43;
    /// Fragment (RFC 8200 4.5).
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating security payload.
    pub const ESP: u8 = 50;
    /// Authentication header (RFC 4302).
    pub const AUTH: u8 = 51;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// No next header (RFC 8200 4.7).
    pub const NONE: u8 = 59;
    /// Destination options (RFC 8200 4.6).
    pub const DEST_OPTIONS: u8 = 60;
}

/// The fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Repr {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Next header: an extension header or the upper layer.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Traffic class.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Octets behind the fixed header.
    pub payload_octets: usize,
}

/// Reads the 128-bit address at `at`. The caller has checked the length of `b`.
#[inline(always)]
#[must_use]
pub fn addr(b: &[u8], at: usize) -> Ipv6Addr {
    let mut o = [0u8; 16];
    o.copy_from_slice(&b[at..at + 16]);
    Ipv6Addr::from(o)
}

impl Ipv6Repr {
    /// Parses and checks the fixed header at the start of `b`. `b` may be longer than the packet.
    ///
    /// # Errors
    /// A cause each for another version and for fewer octets than the header or its payload length says.
    #[inline]
    pub fn parse(b: &[u8]) -> Result<Self, WireError> {
        let Some(h) = b.first_chunk::<HEADER>() else { return Err(WireError::Truncated) };
        if h[0] >> 4 != 6 {
            return Err(WireError::BadVersion);
        }
        let payload_octets = usize::from(be16(h, PAYLOAD_LEN));
        if b.len() < HEADER + payload_octets {
            return Err(WireError::Truncated);
        }
        let first = be32(h, 0);
        Ok(Self {
            src: addr(h, SRC),
            dst: addr(h, DST),
            next_header: h[NEXT_HEADER],
            hop_limit: h[HOP_LIMIT],
            #[expect(clippy::cast_possible_truncation, reason = "the traffic class is eight bits")]
            traffic_class: (first >> 20) as u8,
            flow_label: first & 0x000f_ffff,
            payload_octets,
        })
    }

    /// Writes the fixed header into the first 40 octets of `b`.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if `b` is shorter, [`WireError::BadLength`] if the payload does not fit
    /// the 16-bit length field (jumbograms are not written).
    #[inline]
    pub fn emit(&self, b: &mut [u8]) -> Result<(), WireError> {
        let Some(h) = b.first_chunk_mut::<HEADER>() else { return Err(WireError::Truncated) };
        let Ok(payload) = u16::try_from(self.payload_octets) else { return Err(WireError::BadLength) };
        put32(h, 0, 6 << 28 | u32::from(self.traffic_class) << 20 | (self.flow_label & 0x000f_ffff));
        put16(h, PAYLOAD_LEN, payload);
        h[NEXT_HEADER] = self.next_header;
        h[HOP_LIMIT] = self.hop_limit;
        h[SRC..SRC + 16].copy_from_slice(&self.src.octets());
        h[DST..DST + 16].copy_from_slice(&self.dst.octets());
        Ok(())
    }
}

/// A Fragment header as found on the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Offset of the Fragment header in the packet, in octets.
    pub at: usize,
    /// Fragment offset, in units of eight octets.
    pub offset: u16,
    /// True if more fragments follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

/// Where the extension headers end and what they held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// The upper-layer protocol, or the last next header that is no extension header.
    pub protocol: u8,
    /// Offset in the packet at which that protocol begins, in octets.
    pub at: usize,
    /// The Fragment header, if there is one.
    pub fragment: Option<Fragment>,
    /// Offset of the segments-left field of a Routing header with segments left, if there is one.
    pub segments_left_at: Option<usize>,
}

/// The most extension headers that are followed. RFC 8504 5.3 lets a node set such a limit; packets with
/// more are refused, which bounds the work that a packet can cause.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// Walks the extension headers of `b`, a packet of exactly the length its header states.
///
/// Behind a Fragment header with a non-zero offset there is no upper-layer header: the walk ends there
/// with the Fragment header's next header, as RFC 8200 4.5 defines it.
///
/// # Errors
/// [`WireError::Truncated`] when a header is not there in full, [`WireError::BadLength`] for more than
/// [`MAX_EXTENSION_HEADERS`], a second Fragment header, or a Hop-by-Hop header that is not the first
/// (RFC 8200 4.1).
pub fn walk(b: &[u8], first: u8) -> Result<Walk, WireError> {
    use next_header as nh;
    let mut w = Walk { protocol: first, at: HEADER, fragment: None, segments_left_at: None };
    for n in 0..=MAX_EXTENSION_HEADERS {
        let octets = match w.protocol {
            nh::HOP_BY_HOP if n > 0 => return Err(WireError::BadLength),
            nh::HOP_BY_HOP | nh::ROUTING | nh::DEST_OPTIONS => {
                let h = b.get(w.at..w.at + 8).ok_or(WireError::Truncated)?;
                if w.protocol == nh::ROUTING && h[3] != 0 {
                    w.segments_left_at.get_or_insert(w.at + 3);
                }
                (usize::from(h[1]) + 1) * 8
            }
            nh::FRAGMENT => {
                let h = b.get(w.at..w.at + FRAGMENT_HEADER).ok_or(WireError::Truncated)?;
                if w.fragment.is_some() {
                    return Err(WireError::BadLength);
                }
                let field = be16(h, 2);
                w.fragment =
                    Some(Fragment { at: w.at, offset: field >> 3, more: field & 1 != 0, id: be32(h, 4) });
                if field >> 3 != 0 {
                    w.protocol = h[0];
                    w.at += FRAGMENT_HEADER;
                    return Ok(w);
                }
                FRAGMENT_HEADER
            }
            nh::AUTH => {
                let h = b.get(w.at..w.at + 8).ok_or(WireError::Truncated)?;
                // RFC 4302 2.2: the length counts 32-bit words, less two.
                (usize::from(h[1]) + 2) * 4
            }
            _ => return Ok(w),
        };
        if n == MAX_EXTENSION_HEADERS {
            return Err(WireError::BadLength);
        }
        if b.len() < w.at + octets {
            return Err(WireError::Truncated);
        }
        w.protocol = b[w.at];
        w.at += octets;
    }
    Err(WireError::BadLength)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc8200_4_1_hop_by_hop_only_directly_behind_the_fixed_header() {
        let mut b = vec![0u8; HEADER + 16];
        b[HEADER] = next_header::HOP_BY_HOP;
        assert_eq!(walk(&b, next_header::DEST_OPTIONS), Err(WireError::BadLength));
        b[HEADER] = next_header::UDP;
        assert_eq!(walk(&b, next_header::HOP_BY_HOP).unwrap().at, HEADER + 8);
    }

    #[test]
    fn rfc8200_4_5_a_later_fragment_has_no_upper_layer_header() {
        let mut b = vec![0u8; HEADER + 8];
        b[HEADER] = next_header::DEST_OPTIONS;
        put16(&mut b, HEADER + 2, 185 << 3);
        put32(&mut b, HEADER + 4, 0xdead_beef);
        let w = walk(&b, next_header::FRAGMENT).unwrap();
        assert_eq!((w.protocol, w.at), (next_header::DEST_OPTIONS, HEADER + 8));
        assert_eq!(w.fragment, Some(Fragment { at: HEADER, offset: 185, more: false, id: 0xdead_beef }));
    }

    #[test]
    fn rfc8504_5_3_the_number_of_extension_headers_is_bounded() {
        let chain = |n: usize| {
            let mut b = vec![0u8; HEADER + 8 * n];
            for i in 0..n {
                b[HEADER + 8 * i] = if i + 1 == n { next_header::UDP } else { next_header::DEST_OPTIONS };
            }
            walk(&b, next_header::DEST_OPTIONS)
        };
        assert_eq!(chain(MAX_EXTENSION_HEADERS).unwrap().protocol, next_header::UDP);
        assert_eq!(chain(MAX_EXTENSION_HEADERS + 1), Err(WireError::BadLength));
    }

    #[test]
    fn rfc8200_4_4_segments_left_is_reported() {
        let mut b = vec![0u8; HEADER + 8];
        b[HEADER] = next_header::UDP;
        assert_eq!(walk(&b, next_header::ROUTING).unwrap().segments_left_at, None);
        b[HEADER + 3] = 1;
        assert_eq!(walk(&b, next_header::ROUTING).unwrap().segments_left_at, Some(HEADER + 3));
    }

    proptest! {
        #[test]
        fn emit_then_parse(src: u128, dst: u128, next_header: u8, hop_limit: u8, traffic_class: u8,
                           flow_label in 0u32..0x10_0000, payload_octets in 0usize..100) {
            let repr = Ipv6Repr { src: src.into(), dst: dst.into(), next_header, hop_limit, traffic_class, flow_label, payload_octets };
            let mut b = vec![0xa5u8; HEADER + payload_octets];
            repr.emit(&mut b).unwrap();
            prop_assert_eq!(Ipv6Repr::parse(&b).unwrap(), repr);
        }

        #[test]
        fn neither_parse_nor_walk_panics(b: Vec<u8>, first: u8) {
            let _ = Ipv6Repr::parse(&b);
            if let Ok(w) = walk(&b, first) {
                prop_assert!(w.at <= b.len() || w.at == HEADER);
            }
        }
    }
}
