//! The one message of VRRP version 3, the ADVERTISEMENT (RFC 9568 5), over IPv6 and IPv4.
//!
//! ```text
//!   0                   1                   2                   3
//!   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!  +-------+-------+---------------+---------------+---------------+
//!  |   3   |   1   |     VRID      |   Priority    | Address count |
//!  +-------+-------+---------------+---------------+---------------+
//!  |   0   | Max Advertise Interval|           Checksum            |
//!  +-------+-----------------------+-------------------------------+
//!  |            Addresses: 4 or 16 octets each, of the family      |
//!  |            of the IP header                                   |
//! ```
//!
//! Not handled: version 2 (RFC 3768), which is told apart and refused, and the interworking of both
//! (RFC 9568 8.4).

use crate::config::Peer4Checksum;
use causeway_core::DropReason;
use causeway_wire::{MacAddr, be16, checksum, put16};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The IP protocol number (RFC 9568 5.1.1.4, 5.1.2.4).
pub const PROTOCOL: u8 = 112;
/// The hop limit or TTL that every message has (RFC 9568 5.1.1.3, 5.1.2.3).
pub const HOP_LIMIT: u8 = 255;
/// Octets before the addresses.
pub const HEADER: usize = 8;
/// The priority of the owner of the addresses (RFC 9568 5.2.4).
pub const OWNER: u8 = 255;
/// The priority by which an active router says that it stops (RFC 9568 5.2.4).
pub const STOPPING: u8 = 0;
/// The longest interval that the field holds, in centiseconds (RFC 9568 5.2.7).
pub const MAX_INTERVAL_CS: u16 = 0x0fff;

/// The IPv6 group that advertisements go to, ff02::12 (RFC 9568 5.1.2.2): for `Interface::groups6` of
/// networks with an IPv6 virtual router.
#[must_use]
pub const fn group6() -> Ipv6Addr {
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)
}

/// The IPv4 group that advertisements go to, 224.0.0.18 (RFC 9568 5.1.1.2): for `Interface::groups4` of
/// networks with an IPv4 virtual router.
#[must_use]
pub const fn group4() -> Ipv4Addr {
    Ipv4Addr::new(224, 0, 0, 18)
}

/// The group of a family, and its link-layer address (RFC 2464 7, RFC 1112 6.4).
#[must_use]
pub fn group(ipv6: bool) -> (IpAddr, MacAddr) {
    if ipv6 {
        (group6().into(), MacAddr::from_ipv6_multicast(group6()))
    } else {
        let o = group4().octets();
        (group4().into(), MacAddr([1, 0, 0x5e, o[1] & 0x7f, o[2], o[3]]))
    }
}

/// Why octets are no advertisement that may be believed, as far as the message tells by itself: each of the
/// checks of RFC 9568 7.1 with its errata, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is version 2 (RFC 3768).
    Version2,
    /// Its version is neither 3 nor 2.
    Version,
    /// Its type is not 1 (5.2.2).
    Type,
    /// It is shorter, or longer, than its count of addresses says.
    Length,
    /// The checksum is wrong (5.2.8).
    Checksum,
    /// It has no address (5.2.5, erratum 8299).
    NoAddress,
    /// Its interval is zero (erratum 8301): whoever believed it would wait no time at all.
    ZeroInterval,
    /// The first IPv6 address is not link-local (5.2.9, erratum 8300).
    FirstAddress,
}

impl From<Refused> for DropReason {
    fn from(r: Refused) -> Self {
        match r {
            Refused::Version2 => Self::VrrpVersion2,
            Refused::Version => Self::VrrpVersion,
            Refused::Type => Self::VrrpType,
            Refused::Length => Self::VrrpLength,
            Refused::Checksum => Self::VrrpChecksum,
            Refused::NoAddress => Self::VrrpNoAddress,
            Refused::ZeroInterval => Self::VrrpZeroInterval,
            Refused::FirstAddress => Self::VrrpFirstAddress,
        }
    }
}

/// The addresses of the IP header around a message; both of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Around {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// How the checksum over IPv4 is computed.
    pub checksum4: Peer4Checksum,
}

impl Around {
    /// Octets of one address.
    const fn address_octets(&self) -> usize {
        if self.src.is_ipv6() { 16 } else { 4 }
    }

    /// The sum of what the checksum covers besides the message.
    fn sum(&self, octets: usize) -> u64 {
        // A message has at most 255 addresses of 16 octets.
        let octets = u16::try_from(octets).unwrap_or(u16::MAX);
        match (self.src, self.dst, self.checksum4) {
            // RFC 9568 5.2.8: over IPv6 a pseudo-header (RFC 8200 8.1) with next header 112.
            (IpAddr::V6(src), IpAddr::V6(dst), _) => checksum::pseudo6(src, dst, PROTOCOL, octets.into()),
            // The same text as RFC 5798 5.2.8 was read by some, keepalived among them.
            (IpAddr::V4(src), IpAddr::V4(dst), Peer4Checksum::PseudoHeader) => {
                checksum::pseudo4(src, dst, PROTOCOL, octets)
            }
            // RFC 9568 5.2.8: over IPv4 the message alone, from its version to its last address.
            _ => 0,
        }
    }
}

/// An advertisement, read in place. Its addresses are those of the octets that it was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advert<'a> {
    /// The virtual router, 0 to 255.
    pub vrid: u8,
    /// Priority of the sender; [`STOPPING`] says that it stops, [`OWNER`] that the addresses are its own.
    pub priority: u8,
    /// Its interval between advertisements, in centiseconds: 0 to 4095, and 1 at least once
    /// [`judge`](Self::judge) has taken it.
    pub interval_cs: u16,
    addresses: &'a [u8],
    ipv6: bool,
}

impl<'a> Advert<'a> {
    /// Parses the message that `b` is, as far as RFC 9568 7.1 has it before the virtual router is looked up:
    /// version, type, completeness, checksum.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn parse(b: &'a [u8], around: &Around) -> Result<Self, Refused> {
        let first = *b.first().ok_or(Refused::Length)?;
        match first >> 4 {
            3 => {}
            2 => return Err(Refused::Version2),
            _ => return Err(Refused::Version),
        }
        // RFC 9568 5.2.2: ADVERTISEMENT is the only type.
        if first & 0x0f != 1 {
            return Err(Refused::Type);
        }
        let Some(h) = b.first_chunk::<HEADER>() else { return Err(Refused::Length) };
        let addresses = &b[HEADER..];
        if addresses.len() != usize::from(h[3]) * around.address_octets() {
            return Err(Refused::Length);
        }
        if checksum::fold(checksum::sum(b, around.sum(b.len()))) != 0xffff {
            return Err(Refused::Checksum);
        }
        // RFC 9568 5.2.6: the four bits before the interval are ignored.
        let interval_cs = be16(h, 4) & MAX_INTERVAL_CS;
        Ok(Self { vrid: h[1], priority: h[2], interval_cs, addresses, ipv6: around.src.is_ipv6() })
    }

    /// The checks that follow once the virtual router is known.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn judge(&self) -> Result<(), Refused> {
        let Some(first) = self.addresses().next() else { return Err(Refused::NoAddress) };
        if self.interval_cs == 0 {
            return Err(Refused::ZeroInterval);
        }
        match first {
            IpAddr::V6(a) if !a.is_unicast_link_local() => Err(Refused::FirstAddress),
            _ => Ok(()),
        }
    }

    /// The addresses of the virtual router, in the order of the message.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + Clone + use<'a> {
        let (six, four) = if self.ipv6 { (self.addresses, &[][..]) } else { (&[][..], self.addresses) };
        let six = six.as_chunks::<16>().0.iter().map(|o| IpAddr::from(*o));
        six.chain(four.as_chunks::<4>().0.iter().map(|o| IpAddr::from(*o)))
    }
}

/// The octets of a message with this many addresses.
#[must_use]
pub const fn octets(ipv6: bool, addresses: usize) -> usize {
    HEADER + addresses * if ipv6 { 16 } else { 4 }
}

/// Writes an advertisement that fills `b`, which is as long as [`octets`] says. Of `addresses` those of the
/// other family are not written: a virtual router has one family.
///
/// # Errors
/// [`NoRoom`](causeway_core::NoRoom) when `b` is not as long as that, or there are more than 255 addresses.
pub fn emit(
    b: &mut [u8],
    around: &Around,
    vrid: u8,
    priority: u8,
    interval_cs: u16,
    addresses: &[IpAddr],
) -> Result<(), causeway_core::NoRoom> {
    let ipv6 = around.src.is_ipv6();
    let of_family = addresses.iter().filter(|a| a.is_ipv6() == ipv6);
    let count = of_family.clone().count();
    let counted = u8::try_from(count).map_err(|_| causeway_core::NoRoom)?;
    if b.len() != octets(ipv6, count) {
        return Err(causeway_core::NoRoom);
    }
    b[0] = 0x31;
    b[1] = vrid;
    b[2] = priority;
    b[3] = counted;
    // RFC 9568 5.2.6: reserved bits are zero.
    put16(b, 4, interval_cs & MAX_INTERVAL_CS);
    put16(b, 6, 0);
    let mut at = HEADER;
    for a in of_family {
        match a {
            IpAddr::V6(a) => {
                b[at..at + 16].copy_from_slice(&a.octets());
                at += 16;
            }
            IpAddr::V4(a) => {
                b[at..at + 4].copy_from_slice(&a.octets());
                at += 4;
            }
        }
    }
    let sum = checksum::fold(checksum::sum(b, around.sum(b.len())));
    put16(b, 6, !sum);
    Ok(())
}

#[cfg(test)]
mod tests;
