//! UDP (RFC 768) to and from the gateway itself, over IPv6 and IPv4.

use crate::burst::Packet;
use crate::frame::Frame;
use causeway_wire::ipv4::{self, Ipv4Repr};
use causeway_wire::ipv6::{self, Ipv6Repr};
use causeway_wire::l4::{DST_PORT, PROTO_UDP, SRC_PORT, udp};
use causeway_wire::{be16, checksum, ethernet, put16};
use std::net::{IpAddr, SocketAddr};

/// Hop limit of datagrams that the gateway sends.
const HOP_LIMIT: u8 = 64;

/// A datagram whose length and checksum were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub src: SocketAddr,
    /// Where to.
    pub dst: SocketAddr,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Why a packet is no datagram to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadDatagram {
    /// Its lengths contradict each other, or it is no UDP packet at all, or its source port is 0.
    Malformed,
    /// The checksum is wrong, or missing over IPv6 (RFC 8200 8.1).
    Checksum,
}

/// The datagram in a packet that is not a fragment.
///
/// # Errors
/// See [`BadDatagram`].
#[inline]
pub fn parse<F: Frame>(packet: &Packet<F>) -> Result<Datagram<'_>, BadDatagram> {
    let bytes = packet.bytes();
    let l4 = usize::from(packet.meta.l4);
    let (src, dst, end) = if packet.meta.ethertype == ethernet::ETHERTYPE_IPV6 {
        let ip = Ipv6Repr::parse(bytes).map_err(|_| BadDatagram::Malformed)?;
        (IpAddr::V6(ip.src), IpAddr::V6(ip.dst), ipv6::HEADER + ip.payload_octets)
    } else {
        let ip = Ipv4Repr::parse(bytes).map_err(|_| BadDatagram::Malformed)?;
        (IpAddr::V4(ip.src), IpAddr::V4(ip.dst), ip.total_octets)
    };
    let datagram = bytes.get(l4..end).ok_or(BadDatagram::Malformed)?;
    if datagram.len() < udp::HEADER {
        return Err(BadDatagram::Malformed);
    }
    let length = be16(datagram, udp::LENGTH);
    let (from, to) = (be16(datagram, SRC_PORT), be16(datagram, DST_PORT));
    if !(udp::HEADER..=datagram.len()).contains(&usize::from(length)) || from == 0 {
        return Err(BadDatagram::Malformed);
    }
    let datagram = &datagram[..usize::from(length)];
    let sum = be16(datagram, udp::CHECKSUM);
    let needed = sum != 0 || dst.is_ipv6();
    if needed && (sum == 0 || checksum::fold(checksum::sum(datagram, pseudo(src, dst, length))) != 0xffff) {
        return Err(BadDatagram::Checksum);
    }
    let (src, dst) = (SocketAddr::new(src, from), SocketAddr::new(dst, to));
    Ok(Datagram { src, dst, payload: &datagram[udp::HEADER..] })
}

/// Octets of the headers in front of the payload.
#[inline]
#[must_use]
pub const fn headers(to: IpAddr) -> usize {
    match to {
        IpAddr::V6(_) => ipv6::HEADER + udp::HEADER,
        IpAddr::V4(_) => ipv4::HEADER + udp::HEADER,
    }
}

/// Writes the headers of a datagram in front of its payload: `b` is the packet, with [`headers`] octets of room
/// before the payload. False if `b` is too short or too long, or one address is IPv4 and the other is not.
///
/// IPv4 datagrams may not be fragmented on their way.
#[inline]
pub fn emit(b: &mut [u8], src: SocketAddr, dst: SocketAddr) -> bool {
    let before = headers(dst.ip());
    let Some(length) = (b.len() + udp::HEADER).checked_sub(before) else { return false };
    let Ok(octets) = u16::try_from(length) else { return false };
    if b.len() < before {
        return false;
    }
    let written = match (src.ip(), dst.ip()) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let ip = Ipv6Repr {
                src: from,
                dst: to,
                next_header: PROTO_UDP,
                hop_limit: HOP_LIMIT,
                traffic_class: 0,
                flow_label: 0,
                payload_octets: length,
            };
            ip.emit(b)
        }
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let ip = Ipv4Repr {
                src: from,
                dst: to,
                protocol: PROTO_UDP,
                ttl: HOP_LIMIT,
                tos: 0,
                id: 0,
                frag: ipv4::DF,
                header_octets: ipv4::HEADER,
                total_octets: b.len(),
            };
            ip.emit(b)
        }
        _ => return false,
    };
    if written.is_err() {
        return false;
    }
    let datagram = &mut b[before - udp::HEADER..];
    put16(datagram, SRC_PORT, src.port());
    put16(datagram, DST_PORT, dst.port());
    put16(datagram, udp::LENGTH, octets);
    put16(datagram, udp::CHECKSUM, 0);
    let sum = checksum::sum(datagram, pseudo(src.ip(), dst.ip(), octets));
    // RFC 768, RFC 8200 8.1: a sum of zero is written as its other form.
    let value = match !checksum::fold(sum) {
        0 => 0xffff,
        other => other,
    };
    put16(datagram, udp::CHECKSUM, value);
    true
}

fn pseudo(src: IpAddr, dst: IpAddr, octets: u16) -> u64 {
    match (src, dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => checksum::pseudo6(src, dst, PROTO_UDP, u32::from(octets)),
        (IpAddr::V4(src), IpAddr::V4(dst)) => checksum::pseudo4(src, dst, PROTO_UDP, octets),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::burst::Meta;
    use crate::frame::HeapFrame;

    fn packet(src: &str, dst: &str, payload: &[u8]) -> Packet<HeapFrame> {
        let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
        let before = headers(dst.ip());
        let mut octets = vec![0; before];
        octets.extend_from_slice(payload);
        assert!(emit(&mut octets, src, dst));
        let ethertype = if dst.is_ipv6() { ethernet::ETHERTYPE_IPV6 } else { ethernet::ETHERTYPE_IPV4 };
        let l4 = u16::try_from(before - udp::HEADER).unwrap();
        Packet { frame: HeapFrame::new(&octets), meta: Meta { ethertype, l4, ..Meta::originated() } }
    }

    const SIX: (&str, &str) = ("[2001:db8::1]:1024", "[2001:db8::2]:53");
    const FOUR: (&str, &str) = ("192.0.2.1:1024", "192.0.2.2:53");

    #[test]
    fn what_was_written_is_read() {
        for (src, dst) in [SIX, FOUR] {
            for payload in [&b""[..], b"a", b"hello, hello"] {
                let packet = packet(src, dst, payload);
                let datagram = parse(&packet).unwrap();
                assert_eq!(
                    datagram,
                    Datagram { src: src.parse().unwrap(), dst: dst.parse().unwrap(), payload }
                );
            }
        }
    }

    #[test]
    fn any_octet_that_is_changed_is_noticed() {
        for (src, dst) in [SIX, FOUR] {
            let good = packet(src, dst, b"payload");
            // From the source address on; IPv4's own header has a checksum of its own.
            let first = if dst.starts_with('[') { ipv6::SRC } else { ipv4::HEADER };
            for at in first..good.bytes().len() {
                let mut bad = good.clone();
                bad.bytes_mut()[at] ^= 0x40;
                assert!(parse(&bad).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn rfc8200_8_1_no_checksum_is_none_over_ipv6_and_may_be_over_ipv4() {
        for ((src, dst), l4, allowed) in [(SIX, ipv6::HEADER, false), (FOUR, ipv4::HEADER, true)] {
            let mut p = packet(src, dst, b"x");
            put16(p.bytes_mut(), l4 + udp::CHECKSUM, 0);
            assert_eq!(parse(&p).is_ok(), allowed);
        }
    }

    #[test]
    fn lengths_that_lie_and_port_zero_are_malformed() {
        let good = packet(SIX.0, SIX.1, b"payload");
        for length in [0, 7, 16, 0xffff] {
            let mut bad = good.clone();
            put16(bad.bytes_mut(), ipv6::HEADER + udp::LENGTH, length);
            assert_eq!(parse(&bad), Err(BadDatagram::Malformed), "{length}");
        }
        let mut bad = good.clone();
        put16(bad.bytes_mut(), ipv6::HEADER + SRC_PORT, 0);
        assert_eq!(parse(&bad), Err(BadDatagram::Malformed));
        let mut short = good;
        short.frame.truncate(ipv6::HEADER + 3);
        assert_eq!(parse(&short), Err(BadDatagram::Malformed));
        let (six, four) = (SIX.0.parse().unwrap(), FOUR.0.parse().unwrap());
        assert!(!emit(&mut [0; 100], six, four));
        assert!(!emit(&mut [0; 20], six, six));
    }
}
