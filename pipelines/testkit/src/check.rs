//! Judges packets: every length and every checksum, by plain loops that share nothing with
//! `causeway-wire`, and by `etherparse` as a second opinion.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How closely the packet inside an ICMP error is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    /// Its header, and if it is there in full also its transport checksum.
    Strict,
    /// Its header alone: for errors about a packet that was already wrong.
    Header,
}

/// Checks an IPv4 or IPv6 packet that begins at its network-layer header and ends where its header says:
/// version, lengths, header checksum, extension headers, transport lengths and checksums, and in an ICMP
/// error also the packet inside and the size of the whole (RFC 4443 2.4(c), RFC 1812 4.3.2.3).
///
/// The transport of a fragment cannot be judged: put the fragments together first
/// ([`reassemble`](crate::reassemble)).
///
/// # Errors
/// What is wrong, in words with the numbers.
pub fn check_packet(b: &[u8]) -> Result<(), String> {
    check_packet_with(b, Inner::Strict)
}

/// As [`check_packet`], with a say in how the packet inside an ICMP error is judged.
///
/// # Errors
/// What is wrong, in words with the numbers.
pub fn check_packet_with(b: &[u8], inner: Inner) -> Result<(), String> {
    let l = dissect(b, false)?;
    let second = if l.fragment.is_some() { Ok(()) } else { second_opinion(b) };
    if let Some(f) = &l.fragment {
        // RFC 8200 4.5, RFC 791 3.2: all fragments but the last carry a multiple of eight octets.
        if f.more && !(b.len() - l.at).is_multiple_of(8) {
            return Err(format!("{} octets in a fragment that is not the last", b.len() - l.at));
        }
        if usize::from(f.offset) * 8 + (b.len() - l.at) > 65_535 {
            return Err("the fragment ends beyond 65535 octets".to_owned());
        }
        if f.offset != 0 || f.more {
            return Ok(());
        }
    }
    upper(b, &l, inner)?;
    second
}

/// Where the upper layer begins, as [`upper_layer`] finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upper {
    /// Its protocol.
    pub protocol: u8,
    /// Where it begins; for a later fragment, where its piece of the payload begins.
    pub at: usize,
    /// Offset in units of eight octets and More-Fragments, of a packet with a Fragment header (IPv6) or of
    /// a fragment (IPv4).
    pub fragment: Option<(u16, bool)>,
    /// How many extension headers (IPv6) were passed.
    pub extension_headers: usize,
}

/// Walks to the upper layer of a packet of exactly the length that its header states, by a walk that
/// shares nothing with `causeway-wire`. It knows no limit to the number of extension headers.
///
/// # Errors
/// What is wrong with the network layer.
pub fn upper_layer(b: &[u8]) -> Result<Upper, String> {
    let l = dissect(b, false)?;
    Ok(Upper {
        protocol: l.protocol,
        at: l.at,
        fragment: l.fragment.map(|f| (f.offset, f.more)),
        extension_headers: l.extension_headers,
    })
}

/// A Fragment header, or the like fields of an IPv4 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frag {
    /// In units of eight octets.
    pub offset: u16,
    pub more: bool,
    pub id: u32,
}

/// The network layer taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    pub version: u8,
    /// Sum of the addresses of the pseudo-header; nothing when the final destination cannot be told.
    addresses: Option<Vec<u8>>,
    pub protocol: u8,
    /// Where the protocol begins.
    pub at: usize,
    pub fragment: Option<Frag>,
    /// Where the first header that may be fragmented begins, and where the number of its type stands.
    pub fragmentable: (usize, usize),
    /// Where the Fragment header stands.
    pub fragment_at: Option<usize>,
    /// The length that the header states.
    pub stated: usize,
    multicast_source: bool,
    pub extension_headers: usize,
}

fn word(b: &[u8], at: usize) -> u16 {
    u16::from(b[at]) << 8 | u16::from(b[at + 1])
}

/// The plain loop of RFC 1071: 0xffff for octets that hold a right checksum.
pub(crate) fn ones_sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |o| u32::from(*o));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    sum as u16
}

/// Takes the network layer apart and checks it. `cut` allows fewer octets than the header states.
pub(crate) fn dissect(b: &[u8], cut: bool) -> Result<Layers, String> {
    match b.first().map(|o| o >> 4) {
        Some(4) => dissect4(b, cut),
        Some(6) => dissect6(b, cut),
        Some(v) => Err(format!("version {v}")),
        None => Err("no octets".to_owned()),
    }
}

fn stated(what: &str, stated: usize, there: usize, cut: bool) -> Result<(), String> {
    if there == stated || (cut && there < stated) {
        return Ok(());
    }
    Err(format!("{what} states {stated} octets, {there} are there"))
}

fn dissect4(b: &[u8], cut: bool) -> Result<Layers, String> {
    if b.len() < 20 {
        return Err(format!("{} octets are no IPv4 header", b.len()));
    }
    let header = usize::from(b[0] & 15) * 4;
    if header < 20 || header > b.len() {
        return Err(format!("IPv4 header of {header} octets in a packet of {}", b.len()));
    }
    let total = usize::from(word(b, 2));
    if total < header {
        return Err(format!("IPv4 total length {total} is less than its header of {header}"));
    }
    stated("IPv4 total length", total, b.len(), cut)?;
    let sum = ones_sum(&[&b[..header]]);
    if sum != 0xffff {
        return Err(format!("IPv4 header checksum {:#06x} is wrong by {:#06x}", word(b, 10), !sum));
    }
    let flags = word(b, 6);
    if flags & 0x8000 != 0 {
        return Err("the reserved flag of the IPv4 header is set".to_owned());
    }
    let f = Frag { offset: flags & 0x1fff, more: flags & 0x2000 != 0, id: u32::from(word(b, 4)) };
    Ok(Layers {
        version: 4,
        addresses: Some(b[12..20].to_vec()),
        protocol: b[9],
        at: header,
        fragment: (f.more || f.offset != 0).then_some(f),
        fragmentable: (header, 9),
        fragment_at: None,
        stated: total,
        multicast_source: b[12] >= 224,
        extension_headers: 0,
    })
}

fn dissect6(b: &[u8], cut: bool) -> Result<Layers, String> {
    if b.len() < 40 {
        return Err(format!("{} octets are no IPv6 header", b.len()));
    }
    let total = 40 + usize::from(word(b, 4));
    stated("IPv6 payload length", total, b.len(), cut)?;
    let mut dst: Option<Vec<u8>> = Some(b[24..40].to_vec());
    let (mut at, mut kind_at, mut fragment, mut fragment_at) = (40, 6, None, None);
    let mut fragmentable = (40, 6);
    let mut extension_headers = 0;
    for n in 0.. {
        let kind = b[kind_at];
        let octets = match kind {
            0 | 43 | 60 => b.get(at + 1).map(|o| (usize::from(*o) + 1) * 8),
            44 => Some(8),
            51 => b.get(at + 1).map(|o| (usize::from(*o) + 2) * 4),
            _ => break,
        };
        let octets = octets.filter(|o| at + o <= b.len());
        let Some(octets) = octets else {
            return Err(format!("extension header {kind} at {at} goes beyond {} octets", b.len()));
        };
        match kind {
            0 if n > 0 => return Err("a Hop-by-Hop header that is not the first".to_owned()),
            0 => fragmentable = (at + octets, at),
            43 => {
                fragmentable = (at + octets, at);
                if b[at + 3] != 0 {
                    // RFC 8200 8.1: the pseudo-header has the final destination.
                    dst = match b[at + 2] {
                        0 | 2 if octets >= 24 => Some(b[at + octets - 16..at + octets].to_vec()),
                        4 if octets >= 24 => Some(b[at + 8..at + 24].to_vec()),
                        _ => None,
                    };
                }
            }
            44 if fragment.is_some() => return Err("a second Fragment header".to_owned()),
            44 => {
                let field = word(b, at + 2);
                let id = u32::from(word(b, at + 4)) << 16 | u32::from(word(b, at + 6));
                fragment = Some(Frag { offset: field >> 3, more: field & 1 != 0, id });
                fragment_at = Some(at);
            }
            _ => {}
        }
        extension_headers = n + 1;
        kind_at = at;
        at += octets;
        if fragment.is_some_and(|f: Frag| f.offset != 0) {
            break;
        }
    }
    Ok(Layers {
        version: 6,
        addresses: dst.map(|d| [&b[8..24], &d].concat()),
        protocol: b[kind_at],
        at,
        fragment,
        fragmentable,
        fragment_at,
        stated: total,
        multicast_source: b[8] == 0xff,
        extension_headers,
    })
}

/// What `etherparse` says of the packet.
fn second_opinion(b: &[u8]) -> Result<(), String> {
    etherparse::SlicedPacket::from_ip(b).map(|_| ()).map_err(|e| format!("etherparse: {e}"))
}

/// The sum of a transport with its pseudo-header, or nothing when the final destination is unknown.
fn transport_sum(l: &Layers, protocol: u8, upper: &[u8]) -> Option<u16> {
    let addresses = l.addresses.as_ref()?;
    let octets = u32::try_from(upper.len()).ok()?.to_be_bytes();
    Some(ones_sum(&[addresses, &octets, &[0, protocol], upper]))
}

fn upper(b: &[u8], l: &Layers, inner: Inner) -> Result<(), String> {
    let u = &b[l.at..];
    let summed = |name: &str, at: usize| match transport_sum(l, l.protocol, u) {
        Some(0xffff) | None => Ok(()),
        Some(s) => Err(format!("{name} checksum {:#06x} is wrong by {:#06x}", word(u, at), !s)),
    };
    match l.protocol {
        6 => {
            if u.len() < 20 {
                return Err(format!("{} octets are no TCP header", u.len()));
            }
            let header = usize::from(u[12] >> 4) * 4;
            if header < 20 || header > u.len() {
                return Err(format!("TCP header of {header} octets in {}", u.len()));
            }
            summed("TCP", 16)
        }
        17 => {
            if u.len() < 8 {
                return Err(format!("{} octets are no UDP header", u.len()));
            }
            if usize::from(word(u, 4)) != u.len() {
                return Err(format!("UDP length {} in {} octets", word(u, 4), u.len()));
            }
            match (word(u, 6), l.version) {
                // RFC 8200 8.1: a zero checksum is not allowed over IPv6.
                (0, 6) => Err("UDP checksum zero over IPv6".to_owned()),
                // RFC 768: over IPv4 it says that there is none.
                (0, _) => Ok(()),
                _ => summed("UDP", 6),
            }
        }
        58 if l.version == 6 => {
            if u.len() < 8 {
                return Err(format!("{} octets are no ICMPv6 message", u.len()));
            }
            summed("ICMPv6", 2)?;
            // RFC 4443 2.1: types below 128 are errors.
            if u[0] >= 128 {
                return Ok(());
            }
            if b.len() > 1280 {
                return Err(format!("RFC 4443 2.4(c): an ICMPv6 error of {} octets", b.len()));
            }
            embedded(&u[8..], 6, inner)
        }
        1 if l.version == 4 => {
            if u.len() < 8 {
                return Err(format!("{} octets are no ICMP message", u.len()));
            }
            let sum = ones_sum(&[u]);
            if sum != 0xffff {
                return Err(format!("ICMP checksum {:#06x} is wrong by {:#06x}", word(u, 2), !sum));
            }
            if !matches!(u[0], 3 | 4 | 5 | 11 | 12) {
                return Ok(());
            }
            if b.len() > 576 {
                return Err(format!("RFC 1812 4.3.2.3: an ICMP error of {} octets", b.len()));
            }
            embedded(&u[8..], 4, inner)
        }
        // RFC 4443, RFC 792: the other family's ICMP has no meaning here.
        1 | 58 => Err(format!("protocol {} over IPv{}", l.protocol, l.version)),
        _ => Ok(()),
    }
}

/// Judges the packet inside an ICMP error, of which the end may be missing.
fn embedded(b: &[u8], version: u8, inner: Inner) -> Result<(), String> {
    let inside = |e: String| format!("inside the ICMP error: {e}");
    let l = match dissect(b, true) {
        Ok(l) => l,
        // Cut within its extension headers: nothing more to judge than the fixed header.
        Err(e) if b.len() >= 40 && b[0] >> 4 == 6 && e.contains("goes beyond") => return Ok(()),
        Err(e) => return Err(inside(e)),
    };
    if l.version != version {
        return Err(inside(format!("IPv{} within IPv{version}", l.version)));
    }
    let enough = if version == 4 { l.at + 8 } else { 48 };
    if b.len() < l.stated && b.len() < enough {
        return Err(inside(format!("only {} octets of {}", b.len(), l.stated)));
    }
    if l.multicast_source {
        return Err(inside("its source is a group".to_owned()));
    }
    if inner == Inner::Strict && b.len() == l.stated && l.fragment.is_none() {
        return upper(b, &l, inner).map_err(inside);
    }
    Ok(())
}

/// One line about a packet, for messages of failing tests. Never panics.
#[must_use]
pub fn describe(b: &[u8]) -> String {
    let mut s = String::new();
    let addresses = match b.first().map(|o| o >> 4) {
        Some(4) if b.len() >= 20 => {
            let a = |at: usize| Ipv4Addr::new(b[at], b[at + 1], b[at + 2], b[at + 3]);
            format!("IPv4 {} > {} ttl {} id {}", a(12), a(16), b[8], word(b, 4))
        }
        Some(6) if b.len() >= 40 => {
            let a = |at: usize| {
                let mut o = [0; 16];
                o.copy_from_slice(&b[at..at + 16]);
                Ipv6Addr::from(o)
            };
            format!("IPv6 {} > {} hop {}", a(8), a(24), b[7])
        }
        _ => format!("{} octets {:02x?}", b.len(), &b[..b.len().min(16)]),
    };
    s.push_str(&addresses);
    let Ok(l) = dissect(b, true) else {
        if let Err(e) = check_packet(b) {
            let _ = write!(s, " [bad: {e}]");
        }
        return s;
    };
    if let Some(f) = l.fragment {
        let _ = write!(
            s,
            " frag {}+{} id {:#x}",
            u32::from(f.offset) * 8,
            if f.more { "more" } else { "last" },
            f.id
        );
    }
    let u = &b[l.at.min(b.len())..];
    if l.fragment.is_some_and(|f| f.offset != 0) {
        let _ = write!(s, " protocol {} {} octets", l.protocol, u.len());
    } else {
        match l.protocol {
            6 if u.len() >= 20 => {
                let names = ["fin", "syn", "rst", "psh", "ack", "urg"];
                let set: Vec<&str> =
                    names.iter().enumerate().filter(|(n, _)| u[13] >> n & 1 == 1).map(|(_, s)| *s).collect();
                let _ = write!(s, " TCP {} > {} {}", word(u, 0), word(u, 2), set.join("+"));
            }
            17 if u.len() >= 8 => {
                let _ = write!(s, " UDP {} > {} {} octets", word(u, 0), word(u, 2), u.len() - 8);
            }
            1 | 58 if u.len() >= 8 => {
                let _ = write!(s, " ICMP type {} code {} word {:02x?}", u[0], u[1], &u[4..8]);
                let error = if l.version == 6 { u[0] < 128 } else { matches!(u[0], 3 | 4 | 5 | 11 | 12) };
                if error && u.len() > 8 {
                    let _ = write!(s, " about ({})", describe(&u[8..]));
                }
            }
            p => {
                let _ = write!(s, " protocol {p} {} octets", u.len());
            }
        }
    }
    if b.len() == l.stated
        && let Err(e) = check_packet(b)
    {
        let _ = write!(s, " [bad: {e}]");
    }
    s
}

#[cfg(test)]
mod tests;
