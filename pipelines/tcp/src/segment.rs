//! TCP segments as they are on the wire: read and checked, written, and shifted in their sequence numbers.

use crate::options::Options;
use causeway_core::IfId;
use causeway_wire::ipv4::{self, Ipv4Repr};
use causeway_wire::ipv6::{self, Ipv6Repr};
use causeway_wire::l4::{DST_PORT, PROTO_TCP, SRC_PORT, tcp};
use causeway_wire::{be16, be32, checksum, put16, put32};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Hop limit of what is sent.
/// Of packets of our own (RFC 1122 3.2.1.7).
pub const HOP_LIMIT: u8 = 64;
/// Octets of the option that tells the largest segment (RFC 9293 3.7.1).
const MSS_OPTION: usize = 4;

/// The two ends of a connection. The remote end has the number of its interface, and one, as scope if its address is
/// link-local: the same one may be in use on several networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Ours.
    pub local: SocketAddr,
    /// The other.
    pub remote: SocketAddr,
}

/// Why a packet is not a segment that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Bad {
    /// Lengths that contradict each other, addresses or ports that no connection has, or control bits that exclude each
    /// other.
    #[error("malformed segment")]
    Malformed,
    /// A part of a packet.
    #[error("fragment")]
    Fragment,
    /// The checksum is wrong.
    #[error("wrong checksum")]
    Checksum,
}

/// A segment that came, with a right checksum.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Its ends: the local one is the destination.
    pub ends: Ends,
    /// Its header.
    pub head: Head,
    /// The TCP header with its options and the data.
    pub octets: &'a [u8],
    /// Octets of data.
    pub data: usize,
}

/// What of a TCP header is looked at here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Control bits.
    pub flags: u8,
    /// Window, as it stands there.
    pub window: u16,
}

impl Head {
    /// True if one of these control bits is set.
    #[must_use]
    pub const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// True if `a` is before `b` in the space of sequence numbers (RFC 9293 3.4).
#[must_use]
pub const fn before(a: u32, b: u32) -> bool {
    let distance = b.wrapping_sub(a);
    distance != 0 && distance < 1 << 31
}

/// Reads a packet. `interface` is where it came in.
///
/// # Errors
/// The reason to drop it.
pub fn parse(packet: &[u8], interface: IfId) -> Result<Segment<'_>, Bad> {
    let malformed = Bad::Malformed;
    let (source, destination, octets, pseudo) = match packet.first().map(|b| b >> 4) {
        Some(6) => {
            let ip = Ipv6Repr::parse(packet).map_err(|_| malformed)?;
            let packet = &packet[..ipv6::HEADER + ip.payload_octets];
            let walk = ipv6::walk(packet, ip.next_header).map_err(|_| malformed)?;
            // RFC 6946 4: a fragment that is all of its packet is as good as the packet.
            if walk.fragment.is_some_and(|f| f.offset != 0 || f.more) {
                return Err(Bad::Fragment);
            }
            let octets = packet.get(walk.at..).ok_or(malformed)?;
            if walk.protocol != PROTO_TCP || walk.segments_left_at.is_some() || !unicast6(ip.src, ip.dst) {
                return Err(malformed);
            }
            let length = u32::try_from(octets.len()).map_err(|_| malformed)?;
            let pseudo = checksum::pseudo6(ip.src, ip.dst, PROTO_TCP, length);
            (IpAddr::V6(ip.src), IpAddr::V6(ip.dst), octets, pseudo)
        }
        Some(4) => {
            let ip = Ipv4Repr::parse(packet).map_err(|_| malformed)?;
            if ip.is_fragment() {
                return Err(Bad::Fragment);
            }
            if ip.protocol != PROTO_TCP || !unicast4(ip.src, ip.dst) {
                return Err(malformed);
            }
            let octets = &packet[ip.header_octets..ip.total_octets];
            let length = u16::try_from(octets.len()).map_err(|_| malformed)?;
            let pseudo = checksum::pseudo4(ip.src, ip.dst, PROTO_TCP, length);
            (IpAddr::V4(ip.src), IpAddr::V4(ip.dst), octets, pseudo)
        }
        _ => return Err(malformed),
    };
    if octets.len() < tcp::HEADER {
        return Err(malformed);
    }
    let header = usize::from(octets[tcp::DATA_OFFSET] >> 4) * 4;
    if header < tcp::HEADER || header > octets.len() {
        return Err(malformed);
    }
    if checksum::fold(checksum::sum(octets, pseudo)) != 0xffff {
        return Err(Bad::Checksum);
    }
    let head = head_of(octets);
    let ports = (be16(octets, SRC_PORT), be16(octets, DST_PORT));
    let control = [tcp::SYN, tcp::FIN, tcp::RST].into_iter().filter(|&f| head.has(f)).count();
    // No end of a connection sends two of these in one segment.
    if ports.0 == 0 || ports.1 == 0 || control > 1 || (source, ports.0) == (destination, ports.1) {
        return Err(malformed);
    }
    let scope = match source {
        IpAddr::V6(a) if a.is_unicast_link_local() => u32::from(interface.0) + 1,
        _ => 0,
    };
    let ends = Ends { local: socket(destination, ports.1, 0), remote: socket(source, ports.0, scope) };
    Ok(Segment { ends, head, octets, data: octets.len() - header })
}

fn unicast6(source: Ipv6Addr, destination: Ipv6Addr) -> bool {
    let unicast = |a: Ipv6Addr| !(a.is_multicast() || a.is_unspecified() || a.is_loopback());
    unicast(source) && unicast(destination)
}

fn unicast4(source: Ipv4Addr, destination: Ipv4Addr) -> bool {
    let unicast =
        |a: Ipv4Addr| !(a.is_multicast() || a.is_broadcast() || a.octets()[0] == 0 || a.is_loopback());
    unicast(source) && unicast(destination)
}

/// True if a connection can have these ends.
#[must_use]
pub fn can_be(ends: &Ends) -> bool {
    let ports = ends.local.port() != 0 && ends.remote.port() != 0 && ends.local != ends.remote;
    ports
        && match (ends.local.ip(), ends.remote.ip()) {
            (IpAddr::V6(a), IpAddr::V6(b)) => unicast6(a, b),
            (IpAddr::V4(a), IpAddr::V4(b)) => unicast4(a, b),
            _ => false,
        }
}

fn socket(address: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match address {
        IpAddr::V4(a) => SocketAddrV4::new(a, port).into(),
        IpAddr::V6(a) => SocketAddrV6::new(a, port, 0, scope).into(),
    }
}

/// Of a TCP header whose length was checked.
fn head_of(octets: &[u8]) -> Head {
    Head {
        seq: be32(octets, tcp::SEQ),
        ack: be32(octets, tcp::ACK_NO),
        flags: octets[tcp::FLAGS],
        window: be16(octets, tcp::WINDOW),
    }
}

impl Segment<'_> {
    /// The octets of its options.
    #[must_use]
    pub fn option_octets(&self) -> &[u8] {
        &self.octets[tcp::HEADER..self.octets.len() - self.data]
    }

    /// The octets of its data.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.octets[self.octets.len() - self.data..]
    }

    /// Its options.
    #[must_use]
    pub fn options(&self) -> Options {
        Options::parse(self.option_octets())
    }

    /// The largest segment that a SYN's sender takes, if it tells (RFC 9293 3.7.1).
    #[must_use]
    pub fn mss(&self) -> Option<u16> {
        self.options().mss
    }

    /// What follows this segment in the space of sequence numbers.
    #[must_use]
    pub fn end(&self) -> u32 {
        let control = u32::from(self.head.has(tcp::SYN)) + u32::from(self.head.has(tcp::FIN));
        self.head.seq.wrapping_add(control).wrapping_add(u32::try_from(self.data).unwrap_or(0))
    }
}

/// Writes a packet with a segment without data. `id` is the Identification over IPv4.
#[must_use]
pub fn emit(from: SocketAddr, to: SocketAddr, head: Head, mss: Option<u16>, id: u16) -> Vec<u8> {
    let options = if mss.is_some() { MSS_OPTION } else { 0 };
    let length = tcp::HEADER + options;
    let mut packet = Vec::new();
    ip_header(&mut packet, from.ip(), to.ip(), length);
    let at = packet.len() - length;
    let t = &mut packet[at..];
    put16(t, SRC_PORT, from.port());
    put16(t, DST_PORT, to.port());
    put32(t, tcp::SEQ, head.seq);
    put32(t, tcp::ACK_NO, head.ack);
    t[tcp::DATA_OFFSET] = if options == 0 { 0x50 } else { 0x60 };
    t[tcp::FLAGS] = head.flags;
    put16(t, tcp::WINDOW, head.window);
    if let Some(mss) = mss {
        t[tcp::HEADER..tcp::HEADER + 2].copy_from_slice(&[2, 4]);
        put16(t, tcp::HEADER + 2, mss);
    }
    finish(&mut packet, 0, id);
    packet
}

/// Makes `packet` an IP header, with `length` octets of zero behind it.
pub fn ip_header(packet: &mut Vec<u8>, from: IpAddr, to: IpAddr, length: usize) {
    packet.clear();
    match (from, to) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet.resize(ipv6::HEADER + length, 0);
            let ip = Ipv6Repr {
                src,
                dst,
                next_header: PROTO_TCP,
                hop_limit: HOP_LIMIT,
                traffic_class: 0,
                flow_label: 0,
                payload_octets: length,
            };
            // It has room, and nothing here is longer than what came in one packet.
            let _ = ip.emit(packet);
        }
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet.resize(ipv4::HEADER + length, 0);
            let ip = Ipv4Repr {
                src,
                dst,
                protocol: PROTO_TCP,
                ttl: HOP_LIMIT,
                tos: 0,
                id: 0,
                frag: 0,
                header_octets: ipv4::HEADER,
                total_octets: ipv4::HEADER + length,
            };
            let _ = ip.emit(packet);
        }
        // Ends have addresses of one family.
        _ => packet.resize(length, 0),
    }
}

/// The packet that the stack is given for a segment: with a plain IP header, and what it acknowledges shifted. The
/// stack looks at no checksum.
#[must_use]
pub fn for_stack(ends: &Ends, octets: &[u8], shift: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    ip_header(&mut packet, ends.remote.ip(), ends.local.ip(), octets.len());
    let at = packet.len() - octets.len();
    let t = &mut packet[at..];
    t.copy_from_slice(octets);
    if octets[tcp::FLAGS] & tcp::ACK != 0 {
        let ack = be32(octets, tcp::ACK_NO).wrapping_sub(shift);
        put32(t, tcp::ACK_NO, ack);
    }
    packet
}

/// Completes a packet that the stack or [`emit`] wrote: sequence number shifted, checksums computed, and over IPv4
/// fragments allowed and an Identification set. What it says, and its end in the space of sequence numbers.
pub fn finish(packet: &mut [u8], shift: u32, id: u16) -> Option<(Head, u32)> {
    let (at, pseudo) = match packet.first()? >> 4 {
        6 => {
            let ip = Ipv6Repr::parse(packet).ok()?;
            let length = u32::try_from(ip.payload_octets).ok()?;
            (ipv6::HEADER, checksum::pseudo6(ip.src, ip.dst, PROTO_TCP, length))
        }
        _ => {
            // RFC 791 3.2: whoever has a path with a smaller limit may cut it; RFC 6864 4.1 then wants an
            // Identification.
            packet.get(..ipv4::HEADER)?;
            put16(packet, ipv4::FRAG, 0);
            put16(packet, ipv4::ID, id);
            put16(packet, ipv4::CHECKSUM, 0);
            let sum = checksum::checksum(&packet[..ipv4::HEADER]);
            put16(packet, ipv4::CHECKSUM, sum);
            let ip = Ipv4Repr::parse(packet).ok()?;
            let length = u16::try_from(ip.total_octets - ip.header_octets).ok()?;
            (ip.header_octets, checksum::pseudo4(ip.src, ip.dst, PROTO_TCP, length))
        }
    };
    let t = packet.get_mut(at..).filter(|t| t.len() >= tcp::HEADER)?;
    let seq = be32(t, tcp::SEQ).wrapping_add(shift);
    put32(t, tcp::SEQ, seq);
    put16(t, tcp::CHECKSUM, 0);
    let sum = checksum::sum(t, pseudo);
    put16(t, tcp::CHECKSUM, !checksum::fold(sum));
    let head = head_of(t);
    let data = t.len().saturating_sub(usize::from(t[tcp::DATA_OFFSET] >> 4) * 4);
    let control = u32::from(head.has(tcp::SYN)) + u32::from(head.has(tcp::FIN));
    Some((head, seq.wrapping_add(control).wrapping_add(u32::try_from(data).unwrap_or(0))))
}
