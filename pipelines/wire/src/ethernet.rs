//! Ethernet II and the 802.1Q tag. Frames with an 802.3 length field are not understood.

use crate::{WireError, be16, put16};
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// EtherType of IPv4 (RFC 894).
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP (RFC 826).
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of an 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of IPv6 (RFC 2464 3).
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Octets of an untagged Ethernet header.
pub const HEADER: usize = 14;
/// Octets of an Ethernet header with one 802.1Q tag.
pub const HEADER_TAGGED: usize = 18;

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True if the group bit is set (broadcast included).
    #[inline(always)]
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True for an address that one station can own: not a group, not all zeros.
    #[inline]
    #[must_use]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self.0 != [0; 6]
    }

    /// The group address of an IPv6 multicast address (RFC 2464 7).
    #[must_use]
    pub fn from_ipv6_multicast(group: Ipv6Addr) -> Self {
        let o = group.octets();
        Self([0x33, 0x33, o[12], o[13], o[14], o[15]])
    }

    /// The link-local address of this interface with a modified EUI-64 identifier
    /// (RFC 4291 2.5.6 and appendix A).
    #[must_use]
    pub fn link_local(self) -> Ipv6Addr {
        let m = self.0;
        let mut o = [0u8; 16];
        o[0] = 0xfe;
        o[1] = 0x80;
        o[8..].copy_from_slice(&[m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]]);
        Ipv6Addr::from(o)
    }

    /// The address as the low 48 bits of a word.
    #[inline]
    #[must_use]
    pub fn to_u64(self) -> u64 {
        let m = self.0;
        u64::from_be_bytes([0, 0, m[0], m[1], m[2], m[3], m[4], m[5]])
    }

    /// The address in the low 48 bits of a word; the high 16 bits are ignored.
    #[inline]
    #[must_use]
    pub fn from_u64(w: u64) -> Self {
        let b = w.to_be_bytes();
        Self([b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", m[0], m[1], m[2], m[3], m[4], m[5])
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not six colon-separated octets in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseMacError;

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MAC address is six octets in hexadecimal, separated by colons")
    }
}

impl std::error::Error for ParseMacError {}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(s: &str) -> Result<Self, ParseMacError> {
        let mut m = [0u8; 6];
        let mut parts = s.split(':');
        for octet in &mut m {
            let part = parts.next().ok_or(ParseMacError)?;
            if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(ParseMacError);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
        }
        if parts.next().is_some() { Err(ParseMacError) } else { Ok(Self(m)) }
    }
}

/// An Ethernet header with at most one 802.1Q tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthernetRepr {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// VLAN identifier, 0 to 4095, if the frame is tagged. 0 is a priority tag: no VLAN.
    pub vlan: Option<u16>,
    /// EtherType of the payload, behind the tag if there is one.
    pub ethertype: u16,
}

impl EthernetRepr {
    /// Parses the header at the start of `b`; the payload begins at [`header_octets`].
    ///
    /// A second tag (QinQ) is not followed: its EtherType is reported as it stands.
    ///
    /// # Errors
    /// [`WireError::Truncated`] when the header is not there in full.
    ///
    /// [`header_octets`]: EthernetRepr::header_octets
    #[inline]
    pub fn parse(b: &[u8]) -> Result<Self, WireError> {
        let Some(h) = b.first_chunk::<HEADER>() else { return Err(WireError::Truncated) };
        let dst = MacAddr([h[0], h[1], h[2], h[3], h[4], h[5]]);
        let src = MacAddr([h[6], h[7], h[8], h[9], h[10], h[11]]);
        let ethertype = be16(h, 12);
        if ethertype != ETHERTYPE_VLAN {
            return Ok(Self { dst, src, vlan: None, ethertype });
        }
        let Some(t) = b.first_chunk::<HEADER_TAGGED>() else { return Err(WireError::Truncated) };
        Ok(Self { dst, src, vlan: Some(be16(t, 14) & 0x0fff), ethertype: be16(t, 16) })
    }

    /// Octets that [`emit`](Self::emit) writes: 14, or 18 with a tag.
    #[inline]
    #[must_use]
    pub const fn header_octets(&self) -> usize {
        if self.vlan.is_some() { HEADER_TAGGED } else { HEADER }
    }

    /// Writes the header into the first [`header_octets`](Self::header_octets) octets of `b`.
    ///
    /// # Errors
    /// [`WireError::Truncated`] when `b` is shorter.
    #[inline]
    pub fn emit(&self, b: &mut [u8]) -> Result<(), WireError> {
        let n = self.header_octets();
        if b.len() < n {
            return Err(WireError::Truncated);
        }
        b[0..6].copy_from_slice(&self.dst.0);
        b[6..12].copy_from_slice(&self.src.0);
        if let Some(vlan) = self.vlan {
            put16(b, 12, ETHERTYPE_VLAN);
            put16(b, 14, vlan & 0x0fff);
        }
        put16(b, n - 2, self.ethertype);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mac_text_round_trips_and_refuses_junk() {
        let m: MacAddr = "02:00:00:00:01:01".parse().unwrap();
        assert_eq!(m.to_string(), "02:00:00:00:01:01");
        assert_eq!(MacAddr::from_u64(m.to_u64()), m);
        for bad in [
            "",
            "02:00:00:00:01",
            "02:00:00:00:01:01:02",
            "2:0:0:0:1:1",
            "02-00-00-00-01-01",
            "0g:00:00:00:01:01",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rfc4291_a_link_local_flips_the_universal_bit() {
        let m: MacAddr = "02:00:00:00:01:01".parse().unwrap();
        assert_eq!(m.link_local().to_string(), "fe80::ff:fe00:101");
    }

    #[test]
    fn rfc2464_7_multicast_mapping_takes_the_last_four_octets() {
        let group: Ipv6Addr = "ff02::1:ff00:101".parse().unwrap();
        assert_eq!(MacAddr::from_ipv6_multicast(group).to_string(), "33:33:ff:00:01:01");
    }

    proptest! {
        #[test]
        fn emit_then_parse(dst: [u8; 6], src: [u8; 6], vlan in proptest::option::of(0u16..4096), ethertype: u16) {
            prop_assume!(ethertype != ETHERTYPE_VLAN);
            let repr = EthernetRepr { dst: MacAddr(dst), src: MacAddr(src), vlan, ethertype };
            let mut b = [0xa5u8; HEADER_TAGGED];
            repr.emit(&mut b).unwrap();
            prop_assert_eq!(EthernetRepr::parse(&b).unwrap(), repr);
        }

        #[test]
        fn parse_never_panics(b: Vec<u8>) {
            let _ = EthernetRepr::parse(&b);
        }
    }
}
