//! A slow translator between IPv6 and IPv4 (RFC 7915), to compare the fast one with.
//!
//! It takes a packet apart with `etherparse`, puts a new one together with this crate's builders, and
//! computes every checksum over all octets. Where not all octets are there (fragments, the packet
//! inside an error), the old checksum is corrected word by word. It shares no code with the pipelines.
//!
//! It knows nothing of state: the caller names the [`Flow`]. What the translator is free to choose (the
//! IPv4 Identification, MTUs of links) is told it.

use crate::build::{Ip4, ip4, ip6};
use crate::check::ones_sum;
use etherparse as ep;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The two ends of a translated flow, on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The IPv6 host and its port or identifier.
    pub host6: Ipv6Addr,
    /// See `host6`.
    pub host_port: u16,
    /// The IPv4 host under the NAT64 prefix, as it is and as IPv6 sees it, and its port.
    pub remote4: Ipv4Addr,
    /// See `remote4`.
    pub remote6: Ipv6Addr,
    /// See `remote4`.
    pub remote_port: u16,
    /// What the IPv6 host looks like from IPv4.
    pub out4: Ipv4Addr,
    /// See `out4`.
    pub out_port: u16,
}

/// What the translator chose or knows and the packet does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The IPv4 Identification, where RFC 7915 leaves it to the translator.
    pub id: u16,
    /// MTU of the link on the IPv6 side.
    pub mtu6: u32,
    /// MTU of the link on the IPv4 side.
    pub mtu4: u32,
    /// Hops that the packet loses: 1, or 0 for the second way of a hairpin.
    pub hops: u8,
    /// Source of a translated error that was not sent by the flow's own end.
    pub router4: Ipv4Addr,
    /// See `router4`.
    pub router6: Ipv6Addr,
}

/// The packet as IPv4, from the flow's IPv6 host to its remote end. Nothing if it must not be translated.
#[must_use]
pub fn v6_to_v4(packet: &[u8], flow: &Flow, choice: &Choice) -> Option<Vec<u8>> {
    let p = Six::read(packet, false)?;
    let out = |protocol: u8, upper: &[u8], total: usize| {
        let b = ip4(flow.out4, flow.remote4).tos(p.class).ttl(p.hops.checked_sub(choice.hops)?);
        let b = p.fragment_fields(b, choice.id, total);
        Some(b.raw(protocol, upper))
    };
    let total = 20 + p.upper.len();
    if p.protocol == 58 && !p.later() && p.upper.first()? < &128 {
        let b = error_to_v4(&p, flow, choice)?;
        let b = ip4(if p.src == flow.host6 { flow.out4 } else { choice.router4 }, flow.remote4)
            .tos(p.class)
            .ttl(p.hops.checked_sub(choice.hops)?)
            .id(choice.id)
            .df(20 + b.len() > 1260)
            .raw(1, &b);
        return Some(b);
    }
    let sums = Sums::new(flow);
    let upper = p.translate_upper(&sums, flow, End::Source, false)?;
    out(if p.protocol == 58 { 1 } else { p.protocol }, &upper, total)
}

/// The packet as IPv6, from the flow's remote end to its IPv6 host. Nothing if it must not be translated.
#[must_use]
pub fn v4_to_v6(packet: &[u8], flow: &Flow, choice: &Choice) -> Option<Vec<u8>> {
    let p = Four::read(packet, false)?;
    let hops = p.hops.checked_sub(choice.hops)?;
    if p.protocol == 1 && !p.later() && !matches!(p.upper.first()?, 0 | 8) {
        let body = error_to_v6(&p, flow, choice)?;
        let src = if p.src == flow.remote4 { flow.remote6 } else { choice.router6 };
        let (kind, code, rest, inner) = body;
        return Some(
            ip6(src, flow.host6).traffic_class(p.class).hop_limit(hops).icmp(kind, code, rest, &inner),
        );
    }
    let sums = Sums::new(flow);
    let upper = p.translate_upper(&sums, flow, End::Destination)?;
    let b = ip6(flow.remote6, flow.host6).traffic_class(p.class).hop_limit(hops);
    let b = match p.fragment {
        Some((offset, more)) => b.fragment(offset, more, u32::from(p.id)),
        None => b,
    };
    Some(b.raw(if p.protocol == 1 { 58 } else { p.protocol }, &upper))
}

/// Which end's port is the flow's own in a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

impl End {
    const fn port_at(self) -> usize {
        match self {
            Self::Source => 0,
            Self::Destination => 2,
        }
    }
}

/// The words that a pseudo-header and the flow's port put into a checksum, on both sides.
struct Sums {
    six: Vec<u8>,
    four: Vec<u8>,
}

impl Sums {
    fn new(f: &Flow) -> Self {
        let six = [&f.host6.octets()[..], &f.remote6.octets()].concat();
        let four = [&f.out4.octets()[..], &f.remote4.octets()].concat();
        Self { six, four }
    }
}

/// True if the checksum of UDP, TCP or ICMPv6 with these addresses is right. In an error, what follows a cut packet
/// may make it look whole when it is not.
fn is_right(addresses: &[u8], protocol: u8, upper: &[u8]) -> bool {
    let length = u32::try_from(upper.len()).unwrap_or(0).to_be_bytes();
    ones_sum(&[addresses, &length, &[0, protocol], upper]) == 0xffff
}

/// A checksum field after `old` octets gave way to `new` ones: all words taken out and put in, one by one.
fn corrected(field: u16, old: &[&[u8]], new: &[&[u8]]) -> u16 {
    let out: Vec<u8> = old.concat().iter().map(|o| !o).collect();
    let mut parts: Vec<&[u8]> = vec![&out];
    parts.extend(new);
    let start = (!field).to_be_bytes();
    parts.push(&start);
    !ones_sum(&parts)
}

/// An IPv6 packet taken apart.
struct Six {
    src: Ipv6Addr,
    dst: Ipv6Addr,
    class: u8,
    hops: u8,
    protocol: u8,
    fragment: Option<(u16, bool, u32)>,
    upper: Vec<u8>,
    /// What the upper layer has by the header's length, which for a cut packet is more than `upper`.
    stated: usize,
    /// Zeros may stand at the end of `upper` where octets are missing.
    padded: bool,
}

impl Six {
    /// `cut` if octets may be missing at the end.
    fn read(b: &[u8], cut: bool) -> Option<Self> {
        let (h, rest) = ep::Ipv6Header::from_slice(b).ok()?;
        if usize::from(h.payload_length) != rest.len() && !cut {
            return None;
        }
        let mut next = h.next_header.0;
        let mut at = 0;
        let mut fragment = None;
        // Header by header: etherparse's own walk insists on the recommended order.
        loop {
            match next {
                // RFC 7915 5.1.1: none of these behind a Fragment header.
                0 | 60 | 43 if fragment.is_some() => return None,
                0 | 60 | 43 => {
                    let (e, after) = ep::Ipv6RawExtHeader::from_slice(rest.get(at..)?).ok()?;
                    if next == 43 && e.payload()[1] != 0 {
                        return None;
                    }
                    at = rest.len() - after.len();
                    next = e.next_header.0;
                }
                44 => {
                    let (e, after) = ep::Ipv6FragmentHeader::from_slice(rest.get(at..)?).ok()?;
                    fragment = Some((e.fragment_offset.value(), e.more_fragments, e.identification));
                    at = rest.len() - after.len();
                    next = e.next_header.0;
                    // RFC 1858 3: not inside a TCP header, and with something in it.
                    let offset = e.fragment_offset.value();
                    let inside = next == 6 && (1..3).contains(&offset);
                    if !matches!(next, 6 | 17 | 58) || (!cut && (inside || offset != 0 && rest.len() == at)) {
                        return None;
                    }
                    break;
                }
                6 | 17 | 58 => break,
                _ => return None,
            }
        }
        Some(Self {
            src: h.source.into(),
            dst: h.destination.into(),
            class: h.traffic_class,
            hops: h.hop_limit,
            protocol: next,
            fragment,
            upper: rest[at..].to_vec(),
            stated: usize::from(h.payload_length) - at,
            padded: false,
        })
    }

    fn later(&self) -> bool {
        self.fragment.is_some_and(|f| f.0 != 0)
    }

    fn whole(&self) -> bool {
        self.fragment.is_none_or(|f| f.0 == 0 && !f.1) && self.upper.len() == self.stated && !self.padded
    }

    /// RFC 7915 5.1 and 5.1.1: Identification, flags and offset.
    fn fragment_fields(&self, b: Ip4, id: u16, total: usize) -> Ip4 {
        match self.fragment {
            Some((offset, more, id6)) => {
                let b = b.id((id6 & 0xffff) as u16);
                if offset == 0 && !more { b.df(false) } else { b.fragment(offset, more) }
            }
            None => b.id(id).df(total > 1260),
        }
    }

    /// The upper layer with the flow's IPv4 port and a right checksum. `inner` for the packet in an error.
    fn translate_upper(&self, sums: &Sums, f: &Flow, own: End, inner: bool) -> Option<Vec<u8>> {
        let mut u = self.upper.clone();
        if self.later() {
            return Some(u);
        }
        let (src, dst) = match own {
            End::Source => (f.out4.octets(), f.remote4.octets()),
            End::Destination => (f.remote4.octets(), f.out4.octets()),
        };
        match self.protocol {
            17 => {
                let (mut h, payload) = ep::UdpHeader::from_slice(&u).ok()?;
                if h.checksum == 0 && !inner {
                    return None;
                }
                let old = port(own, &mut h.source_port, &mut h.destination_port, f.out_port);
                h.checksum = if self.whole() && is_right(&sums.six, 17, &self.upper) {
                    h.calc_checksum_ipv4_raw(src, dst, payload).ok()?
                } else {
                    let sum = corrected(
                        h.checksum,
                        &[&sums.six, &old.to_be_bytes()],
                        &[&sums.four, &f.out_port.to_be_bytes()],
                    );
                    if sum == 0 { 0xffff } else { sum }
                };
                Some([&h.to_bytes()[..], payload].concat())
            }
            6 if !(self.whole() && is_right(&sums.six, 6, &self.upper)) => {
                let at = own.port_at();
                let old = [u[at], u[at + 1]];
                u[at..at + 2].copy_from_slice(&f.out_port.to_be_bytes());
                if u.len() >= 18 {
                    let field = u16::from_be_bytes([u[16], u[17]]);
                    let sum = corrected(field, &[&sums.six, &old], &[&sums.four, &f.out_port.to_be_bytes()]);
                    u[16..18].copy_from_slice(&sum.to_be_bytes());
                }
                Some(u)
            }
            6 => {
                let (mut h, payload) = ep::TcpHeader::from_slice(&u).ok()?;
                port(own, &mut h.source_port, &mut h.destination_port, f.out_port);
                h.checksum = h.calc_checksum_ipv4_raw(src, dst, payload).ok()?;
                Some([h.to_bytes().as_slice(), payload].concat())
            }
            58 => {
                let kind = match u.first()? {
                    128 => 8,
                    129 => 0,
                    _ => return None,
                };
                let before = u.get(..8)?.to_vec();
                u[0] = kind;
                u[4..6].copy_from_slice(&f.out_port.to_be_bytes());
                let sum = if self.whole() && is_right(&sums.six, 58, &self.upper) {
                    u[2..4].fill(0);
                    !ones_sum(&[&u])
                } else {
                    let length = u32::try_from(self.stated).ok()?.to_be_bytes();
                    let field = u16::from_be_bytes([before[2], before[3]]);
                    let old: [&[u8]; 5] = [&sums.six, &length, &[0, 58], &before[..2], &before[4..6]];
                    corrected(field, &old, &[&u[..2], &u[4..6]])
                };
                u[2..4].copy_from_slice(&sum.to_be_bytes());
                Some(u)
            }
            _ => None,
        }
    }
}

/// An IPv4 packet taken apart.
struct Four {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    class: u8,
    hops: u8,
    protocol: u8,
    id: u16,
    fragment: Option<(u16, bool)>,
    upper: Vec<u8>,
    stated: usize,
    padded: bool,
}

impl Four {
    fn read(b: &[u8], cut: bool) -> Option<Self> {
        let (h, rest) = ep::Ipv4Header::from_slice(b).ok()?;
        let stated = usize::from(h.total_len).checked_sub(h.header_len())?;
        if stated != rest.len() && !cut {
            return None;
        }
        let offset = h.fragment_offset.value();
        Some(Self {
            src: h.source.into(),
            dst: h.destination.into(),
            class: h.dscp.value() << 2 | h.ecn.value(),
            hops: h.time_to_live,
            protocol: h.protocol.0,
            id: h.identification,
            fragment: (offset != 0 || h.more_fragments).then_some((offset, h.more_fragments)),
            upper: rest.to_vec(),
            stated,
            padded: false,
        })
    }

    fn later(&self) -> bool {
        self.fragment.is_some_and(|f| f.0 != 0)
    }

    fn whole(&self) -> bool {
        self.fragment.is_none() && self.upper.len() == self.stated && !self.padded
    }

    /// The upper layer with the flow's IPv6 port and a right checksum.
    fn translate_upper(&self, sums: &Sums, f: &Flow, own: End) -> Option<Vec<u8>> {
        let mut u = self.upper.clone();
        if self.later() {
            return Some(u);
        }
        let (src, dst) = match own {
            End::Source => (f.host6, f.remote6),
            End::Destination => (f.remote6, f.host6),
        };
        let pseudo = ep::Ipv6Header { source: src.octets(), destination: dst.octets(), ..Default::default() };
        match self.protocol {
            17 => {
                let (mut h, payload) = ep::UdpHeader::from_slice(&u).ok()?;
                let old = port(own, &mut h.source_port, &mut h.destination_port, f.host_port);
                h.checksum = if self.whole() && (h.checksum == 0 || is_right(&sums.four, 17, &self.upper)) {
                    h.calc_checksum_ipv6(&pseudo, payload).ok()?
                } else if h.checksum == 0 {
                    return None;
                } else {
                    let sum = corrected(
                        h.checksum,
                        &[&sums.four, &old.to_be_bytes()],
                        &[&sums.six, &f.host_port.to_be_bytes()],
                    );
                    if sum == 0 { 0xffff } else { sum }
                };
                Some([&h.to_bytes()[..], payload].concat())
            }
            6 if !(self.whole() && is_right(&sums.four, 6, &self.upper)) => {
                let at = own.port_at();
                let old = [u[at], u[at + 1]];
                u[at..at + 2].copy_from_slice(&f.host_port.to_be_bytes());
                if u.len() >= 18 {
                    let field = u16::from_be_bytes([u[16], u[17]]);
                    let sum = corrected(field, &[&sums.four, &old], &[&sums.six, &f.host_port.to_be_bytes()]);
                    u[16..18].copy_from_slice(&sum.to_be_bytes());
                }
                Some(u)
            }
            6 => {
                let (mut h, payload) = ep::TcpHeader::from_slice(&u).ok()?;
                port(own, &mut h.source_port, &mut h.destination_port, f.host_port);
                h.checksum = h.calc_checksum_ipv6(&pseudo, payload).ok()?;
                Some([h.to_bytes().as_slice(), payload].concat())
            }
            1 => {
                let kind = match u.first()? {
                    8 => 128,
                    0 => 129,
                    _ => return None,
                };
                let before = u.get(..8)?.to_vec();
                u[0] = kind;
                u[4..6].copy_from_slice(&f.host_port.to_be_bytes());
                let length = u32::try_from(self.stated).ok()?.to_be_bytes();
                let sum = if self.whole() && ones_sum(&[&self.upper]) == 0xffff {
                    u[2..4].fill(0);
                    !ones_sum(&[&sums.six, &length, &[0, 58], &u])
                } else {
                    let field = u16::from_be_bytes([before[2], before[3]]);
                    let new: [&[u8]; 5] = [&sums.six, &length, &[0, 58], &u[..2], &u[4..6]];
                    corrected(field, &[&before[..2], &before[4..6]], &new)
                };
                u[2..4].copy_from_slice(&sum.to_be_bytes());
                Some(u)
            }
            _ => None,
        }
    }
}

/// Sets the flow's own port and gives what it was.
fn port(own: End, src: &mut u16, dst: &mut u16, new: u16) -> u16 {
    std::mem::replace(if own == End::Source { src } else { dst }, new)
}

/// RFC 7915 5.2: type and code of ICMPv6 errors, and of the ICMP errors that they become.
const TO_V4: [((u8, u8), (u8, u8)); 11] = [
    ((1, 0), (3, 1)),
    ((1, 1), (3, 10)),
    ((1, 2), (3, 1)),
    ((1, 3), (3, 1)),
    ((1, 4), (3, 3)),
    ((2, 0), (3, 4)),
    ((3, 0), (11, 0)),
    ((3, 1), (11, 1)),
    ((4, 0), (12, 0)),
    ((4, 1), (3, 2)),
    // Not a row of the RFC: stands for "none", as the search needs an end.
    ((255, 255), (255, 255)),
];

/// RFC 7915 4.2: type and code of ICMP errors, and of the ICMPv6 errors that they become.
const TO_V6: [((u8, u8), (u8, u8)); 19] = [
    ((3, 0), (1, 0)),
    ((3, 1), (1, 0)),
    ((3, 2), (4, 1)),
    ((3, 3), (1, 4)),
    ((3, 4), (2, 0)),
    ((3, 5), (1, 0)),
    ((3, 6), (1, 0)),
    ((3, 7), (1, 0)),
    ((3, 8), (1, 0)),
    ((3, 9), (1, 1)),
    ((3, 10), (1, 1)),
    ((3, 11), (1, 0)),
    ((3, 12), (1, 0)),
    ((3, 13), (1, 1)),
    ((3, 15), (1, 1)),
    ((11, 0), (3, 0)),
    ((11, 1), (3, 1)),
    ((12, 0), (4, 0)),
    ((12, 2), (4, 0)),
];

/// RFC 7915 5.2: octets of the IPv6 header, and of the IPv4 header that they point to.
fn pointer_to_v4(p: u32) -> Option<u8> {
    let rows: [(std::ops::RangeInclusive<u32>, u8); 7] =
        [(0..=0, 0), (1..=1, 1), (4..=5, 2), (6..=6, 9), (7..=7, 8), (8..=23, 12), (24..=39, 16)];
    rows.iter().find(|r| r.0.contains(&p)).map(|r| r.1)
}

/// RFC 7915 4.2: octets of the IPv4 header, and of the IPv6 header that they point to.
fn pointer_to_v6(p: u8) -> Option<u32> {
    let rows: [(std::ops::RangeInclusive<u8>, u32); 7] =
        [(0..=0, 0), (1..=1, 1), (2..=3, 4), (8..=8, 7), (9..=9, 6), (12..=15, 8), (16..=19, 24)];
    rows.iter().find(|r| r.0.contains(&p)).map(|r| r.1)
}

/// RFC 4884 4: the datagram in an error, and what follows it if the error says that something does. The
/// length counts words of `word` octets.
fn apart(body: &[u8], length: u8, word: usize) -> Option<(&[u8], &[u8])> {
    match usize::from(length) * word {
        0 => Some((body, &[])),
        octets => body.split_at_checked(octets),
    }
}

/// RFC 4884 4: datagram and extension together, in at most `room` octets, with the length in words. The
/// datagram is padded to whole words and 128 octets; an extension that leaves no room for these is cut off.
fn together(mut datagram: Vec<u8>, extension: &[u8], word: usize, room: usize) -> (Vec<u8>, u8) {
    if extension.is_empty() || 128 + extension.len() > room {
        datagram.truncate(room);
        return (datagram, 0);
    }
    datagram.truncate((room - extension.len()) / word * word);
    while datagram.len() < 128 || !datagram.len().is_multiple_of(word) {
        datagram.push(0);
    }
    let words = u8::try_from(datagram.len() / word).unwrap_or(0);
    datagram.extend(extension);
    (datagram, words)
}

/// The ICMP message (header and body) that an ICMPv6 error becomes.
fn error_to_v4(p: &Six, f: &Flow, choice: &Choice) -> Option<Vec<u8>> {
    let u = &p.upper;
    let (_, (kind, code)) = TO_V4.iter().find(|r| r.0 == (u[0], u[1])).filter(|r| r.1.0 != 255)?;
    let length = if matches!(u[0], 1 | 3) { u[4] } else { 0 };
    let (inside, extension) = apart(u.get(8..)?, length, 8)?;
    let mut inner = Six::read(inside, true)?;
    inner.padded = !extension.is_empty();
    if inner.dst != f.host6 || inner.src != f.remote6 {
        return None;
    }
    let upper = inner.translate_upper(&Sums::new(f), f, End::Destination, true)?;
    let total = 20 + inner.stated;
    let b = ip4(f.remote4, f.out4).tos(inner.class).ttl(inner.hops);
    let mut datagram =
        inner.fragment_fields(b, 0, total).raw(if inner.protocol == 58 { 1 } else { inner.protocol }, &upper);
    // The builder states the octets that are there; the packet had more.
    datagram[2..4].copy_from_slice(&u16::try_from(total).ok()?.to_be_bytes());
    datagram[10..12].fill(0);
    let sum = !ones_sum(&[&datagram[..20]]);
    datagram[10..12].copy_from_slice(&sum.to_be_bytes());
    let (datagram, words) = together(datagram, extension, 4, 576 - 28);
    let word = u32::from_be_bytes([u[4], u[5], u[6], u[7]]);
    let mut m = vec![*kind, *code, 0, 0, 0, words, 0, 0];
    match (kind, code) {
        (3, 4) => {
            let less = if inner.fragment.is_some() { 28 } else { 20 };
            let mtu = (word.saturating_sub(less)).min(choice.mtu4).min(choice.mtu6 - less).max(68);
            m[6..8].copy_from_slice(&u16::try_from(mtu).ok()?.to_be_bytes());
        }
        (12, 0) => m[4] = pointer_to_v4(word)?,
        _ => {}
    }
    m.extend(datagram);
    let sum = !ones_sum(&[&m]);
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(m)
}

/// Type, code, second word and body of the ICMPv6 error that an ICMP error becomes.
fn error_to_v6(p: &Four, f: &Flow, choice: &Choice) -> Option<(u8, u8, [u8; 4], Vec<u8>)> {
    let u = &p.upper;
    let (_, (kind, code)) = TO_V6.iter().find(|r| r.0 == (u[0], u[1]))?;
    let (inside, extension) = apart(u.get(8..)?, u[5], 4)?;
    let mut inner = Four::read(inside, true)?;
    inner.padded = !extension.is_empty();
    if inner.src != f.out4 || inner.dst != f.remote4 {
        return None;
    }
    let upper = inner.translate_upper(&Sums::new(f), f, End::Source)?;
    let b = ip6(f.host6, f.remote6).traffic_class(inner.class).hop_limit(inner.hops);
    let (b, extra) = match inner.fragment {
        Some((offset, more)) => (b.fragment(offset, more, u32::from(inner.id)), 8),
        None => (b, 0),
    };
    let mut datagram = b.raw(if inner.protocol == 1 { 58 } else { inner.protocol }, &upper);
    datagram[4..6].copy_from_slice(&u16::try_from(inner.stated + extra).ok()?.to_be_bytes());
    // Only these two have a place for the length.
    let extension = if matches!(kind, 1 | 3) { extension } else { &[] };
    let (datagram, words) = together(datagram, extension, 8, 1280 - 48);
    let word = match (kind, u[0]) {
        (1 | 3, _) => u32::from(words) << 24,
        (2, _) => {
            let told = u32::from(u16::from_be_bytes([u[6], u[7]]));
            let total = u32::try_from(inner.stated + 20).ok()?;
            let plateaus = [65535u32, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];
            let v4 = if told == 0 { *plateaus.iter().find(|m| **m < total).unwrap_or(&68) } else { told };
            (v4 + 20).min(choice.mtu6).min(choice.mtu4 + 20).max(1280)
        }
        (4, 3) => 6,
        (4, 12) => pointer_to_v6(u[4])?,
        _ => 0,
    };
    Some((*kind, *code, word.to_be_bytes(), datagram))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check_packet, tcp};

    fn flow() -> Flow {
        Flow {
            host6: "2001:db8:64::101".parse().unwrap(),
            host_port: 4000,
            remote4: Ipv4Addr::new(198, 51, 100, 10),
            remote6: "2001:db8:64:ff9b::198.51.100.10".parse().unwrap(),
            remote_port: 53,
            out4: Ipv4Addr::new(203, 0, 113, 5),
            out_port: 7777,
        }
    }

    fn choice() -> Choice {
        Choice {
            id: 99,
            mtu6: 1500,
            mtu4: 1500,
            hops: 1,
            router4: Ipv4Addr::new(192, 0, 2, 2),
            router6: "2001:db8:64:ff9b::192.0.2.1".parse().unwrap(),
        }
    }

    #[test]
    fn what_it_makes_is_well_formed_and_leads_back() {
        let f = flow();
        let six = ip6(f.host6, f.remote6).hop_limit(9);
        let back = Choice { hops: 0, ..choice() };
        for p in [
            six.udp(4000, 53, b"question"),
            six.tcp(&tcp(4000, 53).syn().payload(b"abc")),
            six.echo_request(4000, 3, b"ping"),
        ] {
            let four = v6_to_v4(&p, &f, &choice()).unwrap();
            check_packet(&four).unwrap();
            assert_eq!(four.len() + 20, p.len());
            // Turned around it is what the other direction takes.
            let turned = Flow {
                host6: f.remote6,
                remote6: f.host6,
                remote4: f.out4,
                out4: f.remote4,
                host_port: 53,
                ..f
            };
            let again = v4_to_v6(&four, &turned, &back);
            assert!(again.is_some());
            check_packet(&again.unwrap()).unwrap();
        }
    }

    #[test]
    fn corrections_word_by_word_equal_a_whole_sum() {
        let f = flow();
        let p = ip6(f.host6, f.remote6).udp(4000, 53, b"0123456789");
        let four = v6_to_v4(&p, &f, &choice()).unwrap();
        let whole = u16::from_be_bytes([four[26], four[27]]);
        let old = u16::from_be_bytes([p[46], p[47]]);
        let sums = Sums::new(&f);
        let port = f.out_port.to_be_bytes();
        assert_eq!(corrected(old, &[&sums.six, &4000u16.to_be_bytes()], &[&sums.four, &port]), whole);
    }
}
