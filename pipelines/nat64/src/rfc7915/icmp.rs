//! ICMP and ICMPv6 errors (RFC 7915 4.2, 4.3, 5.2, 5.3): type, code, pointer, MTU and the packet inside.
//!
//! ```text
//!  IP | ICMP 8 | IP of the packet in error | its first octets | [extensions, RFC 4884]
//!  new  new      new                         port and checksum   unchanged
//! ```
//!
//! An error is rare, so it is put together anew in a scratch buffer; what the session knows (addresses,
//! ports and the checksum difference) holds for the packet inside with its direction reversed.
//!
//! Not handled: errors about later fragments (nothing in them names a session), and errors about
//! errors, which nobody sends (RFC 4443 2.4(e.1), RFC 1122 3.2.2).

use super::v6_to_v4::Head4;
use super::{DF_CLEAR_OCTETS, echo_delta};
use causeway_core::DropReason;
use causeway_wire::ipv6::{self, Ipv6Repr};
use causeway_wire::l4::{self, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, icmp, tcp, udp};
use causeway_wire::{be16, be32, checksum, ipv4, put16, put32};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The most octets of an ICMP error (RFC 1812 4.3.2.3).
const MAX_V4: usize = 576;
/// The most octets of an ICMPv6 error (RFC 4443 2.4(c)).
const MAX_V6: usize = ipv6::MIN_MTU;
/// RFC 4884 4: the shortest original datagram before an extension, in octets.
const MIN_DATAGRAM: usize = 128;
/// Octets of the buffer that errors are put together in.
pub(crate) const SCRATCH: usize = MAX_V6;

/// A buffer that errors are put together in.
pub(crate) type Scratch = [u8; SCRATCH];

/// What an error is about: the packet inside, seen from the session that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct About<A> {
    /// The end of the session that we translate: the inside host for an ICMPv6 error, the pool address
    /// for an ICMP error.
    pub(crate) own: A,
    /// The other end.
    pub(crate) remote: A,
    /// Protocol number, [`PROTO_ICMP`] for both families' echo.
    pub(crate) protocol: u8,
    /// Port or identifier of `own`.
    pub(crate) own_port: u16,
    /// Port of `remote`; zero for an echo.
    pub(crate) remote_port: u16,
    /// The packet inside: where its upper layer begins, counted from its own start.
    inner_l4: usize,
    /// Its octets (without padding before an extension), counted in the whole packet.
    inner: (usize, usize),
    /// Where extensions begin in the whole packet; the packet's end if there are none.
    extension: usize,
    message: Message,
}

/// The translated start of the ICMP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message {
    kind: u8,
    code: u8,
    rest: Rest,
}

/// The second word of the ICMP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nothing but, maybe, the length that RFC 4884 defines.
    Unused,
    /// A pointer; zero extends it to what the family has room for.
    Pointer(u8),
    /// An MTU as it was advertised; zero if there was none (RFC 1191 3).
    Mtu(u32),
}

/// MTUs of the links that a translated Packet Too Big speaks for, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mtus {
    /// Of the IPv6 next hop.
    pub(crate) v6: u32,
    /// Of the IPv4 next hop.
    pub(crate) v4: u32,
}

/// Outer header of the result and the session's view of the packet inside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct New<A> {
    /// Outer source and destination.
    pub(crate) src: A,
    pub(crate) dst: A,
    /// The packet inside: its source (the remote end) and destination (the own end) for a result in IPv4,
    /// the other way round for a result in IPv6.
    pub(crate) inner_src: A,
    pub(crate) inner_dst: A,
    /// What the own end's port or identifier is in the result.
    pub(crate) port: u16,
    /// The session's checksum difference, from IPv6 to IPv4.
    pub(crate) delta: u16,
    /// Type of service or traffic class, and TTL or hop limit, of the outer header.
    pub(crate) class: u8,
    pub(crate) hop_limit: u8,
    /// Identification of an IPv4 result, and whether it says Don't Fragment.
    pub(crate) id: u16,
    pub(crate) df: bool,
    pub(crate) mtus: Mtus,
    /// The IPv6 router that an IPv4 source stands for, if it is to be named.
    pub(crate) router6: Option<Ipv6Addr>,
}

/// Octets of an extension structure with one IPv6 address.
const ROUTER_EXTENSION: usize = 28;

/// An extension structure (RFC 4884 7) with the interface information object of RFC 5837 4: the IPv6
/// address of the router, by the interface that the packet came in by.
fn router_extension(router: Ipv6Addr) -> [u8; ROUTER_EXTENSION] {
    let mut b = [0u8; ROUTER_EXTENSION];
    // Version 2; the object's length, class 2, and a type that says "incoming" and "address".
    b[0] = 0x20;
    b[4..8].copy_from_slice(&[0, 24, 2, 0x04]);
    // Address family 2 is IPv6.
    b[8..12].copy_from_slice(&[0, 2, 0, 0]);
    b[12..].copy_from_slice(&router.octets());
    let sum = checksum::checksum(&b);
    put16(&mut b, 2, sum);
    b
}

/// RFC 7915 5.2: type, code and the second word, to IPv4. Nothing for what is dropped.
fn message_to_v4(h: &[u8; 8]) -> Option<Message> {
    let (kind, code, rest) = match (h[icmp::TYPE], h[icmp::CODE]) {
        // No route, beyond the scope of the source, address unreachable: host unreachable.
        (icmp::V6_DST_UNREACHABLE, 0 | 2 | 3) => (icmp::V4_DST_UNREACHABLE, 1, Rest::Unused),
        // Administratively prohibited.
        (icmp::V6_DST_UNREACHABLE, 1) => (icmp::V4_DST_UNREACHABLE, 10, Rest::Unused),
        // Port unreachable.
        (icmp::V6_DST_UNREACHABLE, 4) => (icmp::V4_DST_UNREACHABLE, 3, Rest::Unused),
        (icmp::V6_PACKET_TOO_BIG, _) => (icmp::V4_DST_UNREACHABLE, 4, Rest::Mtu(be32(h, 4))),
        (icmp::V6_TIME_EXCEEDED, code) => (icmp::V4_TIME_EXCEEDED, code, Rest::Unused),
        (icmp::V6_PARAM_PROBLEM, 0) => (icmp::V4_PARAM_PROBLEM, 0, Rest::Pointer(pointer_to_v4(be32(h, 4))?)),
        // An unknown next header: protocol unreachable.
        (icmp::V6_PARAM_PROBLEM, 1) => (icmp::V4_DST_UNREACHABLE, 2, Rest::Unused),
        _ => return None,
    };
    Some(Message { kind, code, rest })
}

/// RFC 7915 4.2: type, code and the second word, to IPv6. Nothing for what is dropped.
fn message_to_v6(h: &[u8; 8]) -> Option<Message> {
    let (kind, code, rest) = match (h[icmp::TYPE], h[icmp::CODE]) {
        // Network, host, source route and isolation: no route.
        (icmp::V4_DST_UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => (icmp::V6_DST_UNREACHABLE, 0, Rest::Unused),
        // Protocol unreachable: the next header field is the problem.
        (icmp::V4_DST_UNREACHABLE, 2) => (icmp::V6_PARAM_PROBLEM, 1, Rest::Pointer(6)),
        (icmp::V4_DST_UNREACHABLE, 3) => (icmp::V6_DST_UNREACHABLE, 4, Rest::Unused),
        (icmp::V4_DST_UNREACHABLE, 4) => (icmp::V6_PACKET_TOO_BIG, 0, Rest::Mtu(u32::from(be16(h, 6)))),
        // Prohibited, for the network, the host, by filter, or by precedence.
        (icmp::V4_DST_UNREACHABLE, 9 | 10 | 13 | 15) => (icmp::V6_DST_UNREACHABLE, 1, Rest::Unused),
        (icmp::V4_TIME_EXCEEDED, code) => (icmp::V6_TIME_EXCEEDED, code, Rest::Unused),
        (icmp::V4_PARAM_PROBLEM, 0 | 2) => (icmp::V6_PARAM_PROBLEM, 0, Rest::Pointer(pointer_to_v6(h[4])?)),
        _ => return None,
    };
    Some(Message { kind, code, rest })
}

/// RFC 7915 5.2, figure 6: from octets of the IPv6 header to octets of the IPv4 header.
const fn pointer_to_v4(pointer: u32) -> Option<u8> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None,
    })
}

/// RFC 7915 4.2, figure 3: from octets of the IPv4 header to octets of the IPv6 header.
const fn pointer_to_v6(pointer: u8) -> Option<u8> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        2 | 3 => 4,
        8 => 7,
        9 => 6,
        12..=15 => 8,
        16..=19 => 24,
        _ => return None,
    })
}

/// The MTU of an ICMP error (RFC 7915 5.2): IPv4 has 20 octets less of header, and eight more if the packet
/// that was too big has a Fragment header.
pub(crate) fn mtu_to_v4(advertised: u32, fragmented: bool, mtus: Mtus) -> u16 {
    let less = if fragmented { 28 } else { 20 };
    let mtu = advertised.min(mtus.v6).saturating_sub(less).min(mtus.v4);
    // RFC 791 3.2: every link carries 68 octets.
    u16::try_from(mtu.clamp(68, 65_535)).unwrap_or(u16::MAX)
}

/// Plateaus of RFC 1191 7, in octets.
const PLATEAUS: [u16; 11] = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// The MTU of a Packet Too Big (RFC 7915 4.2): IPv6 has 20 octets more of header. `inner_octets` is the
/// total length of the packet that was too big.
pub(crate) fn mtu_to_v6(advertised: u32, inner_octets: u16, mtus: Mtus) -> u32 {
    // RFC 7915 4.2: a router that does not say its MTU (RFC 1191 3) means the next lower plateau.
    let v4 = if advertised == 0 {
        u32::from(PLATEAUS.into_iter().find(|p| *p < inner_octets).unwrap_or(68))
    } else {
        advertised
    };
    // RFC 8200 5: no IPv6 node goes below 1280; what is then too large is fragmented on the IPv4 side.
    v4.min(mtus.v4).saturating_add(20).min(mtus.v6).max(1280)
}

/// Reads an ICMPv6 error whose ICMPv6 header begins at `at`.
///
/// # Errors
/// Why it is dropped.
pub(crate) fn parse6(
    b: &[u8],
    at: usize,
    src: Ipv6Addr,
    dst: Ipv6Addr,
) -> Result<About<Ipv6Addr>, DropReason> {
    let body = b.get(at..).ok_or(DropReason::Nat64BadTransport)?;
    let h = body.first_chunk::<{ icmp::HEADER }>().ok_or(DropReason::Nat64BadTransport)?;
    let message = message_to_v4(h).ok_or(DropReason::Nat64IcmpType)?;
    let octets = u32::try_from(body.len()).map_err(|_| DropReason::Nat64BadTransport)?;
    let sum = checksum::sum(body, checksum::pseudo6(src, dst, PROTO_ICMPV6, octets));
    if checksum::fold(sum) != 0xffff {
        return Err(DropReason::Nat64BadChecksum);
    }
    // RFC 4884 4.1: destination unreachable and time exceeded may have a length, in words of 64 bits.
    let stated = match h[icmp::TYPE] {
        icmp::V6_DST_UNREACHABLE | icmp::V6_TIME_EXCEEDED => usize::from(h[4]) * 8,
        _ => 0,
    };
    let (inner, extension) = layout(b.len(), at + icmp::HEADER, stated)?;
    let datagram = &b[inner.0..inner.1];
    let ip = datagram.first_chunk::<{ ipv6::HEADER }>().ok_or(DropReason::Nat64BadTransport)?;
    if ip[0] >> 4 != 6 {
        return Err(DropReason::Nat64BadTransport);
    }
    let walk = ipv6::walk(datagram, ip[ipv6::NEXT_HEADER]).map_err(|_| DropReason::Nat64BadTransport)?;
    if walk.fragment.is_some_and(|f| f.offset != 0) {
        return Err(DropReason::Nat64Fragment);
    }
    let (protocol, src_port, dst_port) = ports(datagram, walk.at, walk.protocol, true)?;
    Ok(About {
        own: ipv6::addr(ip, ipv6::DST),
        remote: ipv6::addr(ip, ipv6::SRC),
        protocol,
        own_port: dst_port,
        remote_port: if protocol == PROTO_ICMP { 0 } else { src_port },
        inner_l4: walk.at,
        inner,
        extension,
        message,
    })
}

/// Reads an ICMP error whose ICMP header begins at `at`.
///
/// # Errors
/// Why it is dropped.
pub(crate) fn parse4(b: &[u8], at: usize) -> Result<About<Ipv4Addr>, DropReason> {
    let body = b.get(at..).ok_or(DropReason::Nat64BadTransport)?;
    let h = body.first_chunk::<{ icmp::HEADER }>().ok_or(DropReason::Nat64BadTransport)?;
    let message = message_to_v6(h).ok_or(DropReason::Nat64IcmpType)?;
    if checksum::fold(checksum::sum(body, 0)) != 0xffff {
        return Err(DropReason::Nat64BadChecksum);
    }
    // RFC 4884 4.2 to 4.4: all three may have a length, in words of 32 bits.
    let (inner, extension) = layout(b.len(), at + icmp::HEADER, usize::from(h[5]) * 4)?;
    let datagram = &b[inner.0..inner.1];
    let ip = datagram.first_chunk::<{ ipv4::HEADER }>().ok_or(DropReason::Nat64BadTransport)?;
    let inner_l4 = usize::from(ip[0] & 0x0f) * 4;
    if ip[0] >> 4 != 4 || inner_l4 < ipv4::HEADER {
        return Err(DropReason::Nat64BadTransport);
    }
    // RFC 5508 4.1 (REQ-3a): what is inside is as the one who complains got it, so its sum is right.
    let head = datagram.get(..inner_l4).ok_or(DropReason::Nat64BadTransport)?;
    if checksum::fold(checksum::sum(head, 0)) != 0xffff {
        return Err(DropReason::Nat64BadChecksum);
    }
    if be16(ip, ipv4::FRAG) & ipv4::OFFSET_MASK != 0 {
        return Err(DropReason::Nat64Fragment);
    }
    let (protocol, src_port, dst_port) = ports(datagram, inner_l4, ip[ipv4::PROTO], false)?;
    Ok(About {
        own: Ipv4Addr::from_bits(be32(ip, ipv4::SRC)),
        remote: Ipv4Addr::from_bits(be32(ip, ipv4::DST)),
        protocol,
        own_port: src_port,
        remote_port: if protocol == PROTO_ICMP { 0 } else { dst_port },
        inner_l4,
        inner,
        extension,
        message,
    })
}

/// Where the packet inside is and where extensions begin. `stated` is the length of RFC 4884, zero if
/// there is none.
fn layout(octets: usize, from: usize, stated: usize) -> Result<((usize, usize), usize), DropReason> {
    if stated == 0 {
        return Ok(((from, octets), octets));
    }
    let end = from + stated;
    if end > octets {
        return Err(DropReason::Nat64BadTransport);
    }
    Ok(((from, end), end))
}

/// Protocol and ports of the packet inside: source and destination, or the identifier twice.
fn ports(datagram: &[u8], at: usize, protocol: u8, v6: bool) -> Result<(u8, u16, u16), DropReason> {
    // RFC 792 and RFC 1122 3.2.2: at least eight octets of the upper layer are there.
    let h = datagram.get(at..).and_then(|b| b.first_chunk::<8>()).ok_or(DropReason::Nat64BadTransport)?;
    match (protocol, v6) {
        (PROTO_TCP | PROTO_UDP, _) => Ok((protocol, be16(h, l4::SRC_PORT), be16(h, l4::DST_PORT))),
        (PROTO_ICMPV6, true) if matches!(h[icmp::TYPE], icmp::V6_ECHO_REQUEST | icmp::V6_ECHO_REPLY) => {
            Ok((PROTO_ICMP, be16(h, icmp::IDENT), be16(h, icmp::IDENT)))
        }
        (PROTO_ICMP, false) if matches!(h[icmp::TYPE], icmp::V4_ECHO_REQUEST | icmp::V4_ECHO_REPLY) => {
            Ok((PROTO_ICMP, be16(h, icmp::IDENT), be16(h, icmp::IDENT)))
        }
        // RFC 7915 4.2, 5.2: an error about an error is dropped.
        (PROTO_ICMPV6, true) | (PROTO_ICMP, false) => Err(DropReason::Nat64IcmpType),
        _ => Err(DropReason::Nat64Protocol),
    }
}

/// Puts the ICMP error together that the ICMPv6 error `b` becomes; returns its octets in `out`.
///
/// # Errors
/// Why it is dropped.
pub(crate) fn to_v4(
    b: &[u8],
    e: &About<Ipv6Addr>,
    new: &New<Ipv4Addr>,
    out: &mut Scratch,
) -> Result<usize, DropReason> {
    const INNER: usize = ipv4::HEADER + icmp::HEADER;
    let datagram = b.get(e.inner.0..e.inner.1).ok_or(DropReason::Nat64BadTransport)?;
    let ip = Ipv6Head::read(datagram)?;
    let named = new.router6.map(router_extension);
    let extension = match (b.get(e.extension..), &named) {
        (Some([]) | None, Some(named)) => &named[..],
        (Some(theirs), _) => theirs,
        (None, None) => &[],
    };

    // The packet inside: header, then as much as there is and has room.
    let upper_octets = ip.payload_octets.saturating_sub(e.inner_l4 - ipv6::HEADER);
    let fragment = ipv6::walk(datagram, ip.next_header).ok().and_then(|w| w.fragment);
    let total = u16::try_from(ipv4::HEADER + upper_octets).unwrap_or(u16::MAX);
    let (id, frag) = match fragment {
        #[expect(clippy::cast_possible_truncation, reason = "RFC 7915 5.1.1 takes the low 16 bits")]
        Some(f) => (f.id as u16, f.offset | if f.more { ipv4::MF } else { 0 }),
        None => (0, if usize::from(total) > DF_CLEAR_OCTETS { ipv4::DF } else { 0 }),
    };
    let protocol = if e.protocol == PROTO_ICMP { PROTO_ICMP } else { e.protocol };
    let inner = Head4 {
        tos: ip.traffic_class,
        octets: total,
        id,
        frag,
        ttl: ip.hop_limit,
        protocol,
        src: new.inner_src,
        dst: new.inner_dst,
    };
    let upper = datagram.get(e.inner_l4..).unwrap_or(&[]);
    let (end, words) = body(out, INNER, &inner.octets(), upper, extension, MAX_V4, 4);
    let whole = fragment.is_none_or(|f| f.offset == 0 && !f.more);
    let t = INNER + ipv4::HEADER;
    let there = upper.len().min(end.saturating_sub(t));
    fix_inner(&mut out[t..t + there], e.protocol, l4::DST_PORT, new, Direction::ToV4, upper_octets, whole);

    // The ICMP header.
    let h = &mut out[ipv4::HEADER..INNER];
    h.fill(0);
    h[icmp::TYPE] = e.message.kind;
    h[icmp::CODE] = e.message.code;
    match e.message.rest {
        Rest::Unused => {}
        Rest::Pointer(p) => h[4] = p,
        Rest::Mtu(m) => {
            put16(h, 6, mtu_to_v4(m, fragment.is_some(), new.mtus));
        }
    }
    h[5] = words;
    let sum = checksum::checksum(&out[ipv4::HEADER..end]);
    put16(&mut out[ipv4::HEADER..INNER], icmp::CHECKSUM, sum);

    let outer = Head4 {
        tos: new.class,
        octets: u16::try_from(end).map_err(|_| DropReason::Nat64TooBig)?,
        id: new.id,
        frag: if new.df { ipv4::DF } else { 0 },
        ttl: new.hop_limit,
        protocol: PROTO_ICMP,
        src: new.src,
        dst: new.dst,
    };
    out[..ipv4::HEADER].copy_from_slice(&outer.octets());
    Ok(end)
}

/// Puts the ICMPv6 error together that the ICMP error `b` becomes; returns its octets in `out`.
///
/// # Errors
/// Why it is dropped.
pub(crate) fn to_v6(
    b: &[u8],
    e: &About<Ipv4Addr>,
    new: &New<Ipv6Addr>,
    out: &mut Scratch,
) -> Result<usize, DropReason> {
    const INNER: usize = ipv6::HEADER + icmp::HEADER;
    let datagram = b.get(e.inner.0..e.inner.1).ok_or(DropReason::Nat64BadTransport)?;
    let ip = datagram.first_chunk::<{ ipv4::HEADER }>().ok_or(DropReason::Nat64BadTransport)?;
    let extension = match e.message.kind {
        icmp::V6_DST_UNREACHABLE | icmp::V6_TIME_EXCEEDED => b.get(e.extension..).unwrap_or(&[]),
        // RFC 4884 4: these have no length, so no extension either.
        _ => &[],
    };

    let total = be16(ip, ipv4::TOTAL_LEN);
    let upper_octets = usize::from(total).saturating_sub(e.inner_l4);
    let field = be16(ip, ipv4::FRAG);
    let whole = field & ipv4::MF == 0;
    let protocol = if e.protocol == PROTO_ICMP { PROTO_ICMPV6 } else { e.protocol };
    let mut head = [0u8; ipv6::HEADER + ipv6::FRAGMENT_HEADER];
    let extra = if whole { 0 } else { ipv6::FRAGMENT_HEADER };
    let repr = Ipv6Repr {
        src: new.inner_src,
        dst: new.inner_dst,
        next_header: if whole { protocol } else { ipv6::next_header::FRAGMENT },
        hop_limit: ip[ipv4::TTL],
        traffic_class: ip[ipv4::TOS],
        flow_label: 0,
        payload_octets: (upper_octets + extra).min(65_535),
    };
    repr.emit(&mut head).map_err(|_| DropReason::Nat64BadTransport)?;
    if !whole {
        // The first fragment of a packet: offset zero, more to come.
        put32(&mut head, ipv6::HEADER, u32::from(protocol) << 24 | 1);
        put32(&mut head, ipv6::HEADER + 4, u32::from(be16(ip, ipv4::ID)));
    }
    let upper = datagram.get(e.inner_l4..).unwrap_or(&[]);
    let (end, words) = body(out, INNER, &head[..ipv6::HEADER + extra], upper, extension, MAX_V6, 8);
    let t = INNER + ipv6::HEADER + extra;
    let there = upper.len().min(end.saturating_sub(t));
    fix_inner(&mut out[t..t + there], e.protocol, l4::SRC_PORT, new, Direction::ToV6, upper_octets, whole);

    let h = &mut out[ipv6::HEADER..INNER];
    h.fill(0);
    h[icmp::TYPE] = e.message.kind;
    h[icmp::CODE] = e.message.code;
    match e.message.rest {
        Rest::Unused => h[4] = words,
        Rest::Pointer(p) => put32(h, 4, u32::from(p)),
        Rest::Mtu(m) => put32(h, 4, mtu_to_v6(m, total, new.mtus)),
    }
    let octets = end - ipv6::HEADER;
    let outer = Ipv6Repr {
        src: new.src,
        dst: new.dst,
        next_header: PROTO_ICMPV6,
        hop_limit: new.hop_limit,
        traffic_class: new.class,
        flow_label: 0,
        payload_octets: octets,
    };
    outer.emit(out).map_err(|_| DropReason::Nat64TooBig)?;
    let length = u32::try_from(octets).map_err(|_| DropReason::Nat64TooBig)?;
    let pseudo = checksum::pseudo6(new.src, new.dst, PROTO_ICMPV6, length);
    let sum = !checksum::fold(checksum::sum(&out[ipv6::HEADER..end], pseudo));
    put16(&mut out[ipv6::HEADER..INNER], icmp::CHECKSUM, sum);
    Ok(end)
}

/// The fields of the inner IPv6 header. Unlike [`Ipv6Repr`] it takes a packet that was cut.
struct Ipv6Head {
    traffic_class: u8,
    hop_limit: u8,
    next_header: u8,
    payload_octets: usize,
}

impl Ipv6Head {
    fn read(b: &[u8]) -> Result<Self, DropReason> {
        let h = b.first_chunk::<{ ipv6::HEADER }>().ok_or(DropReason::Nat64BadTransport)?;
        Ok(Self {
            traffic_class: (h[0] << 4) | (h[1] >> 4),
            hop_limit: h[ipv6::HOP_LIMIT],
            next_header: h[ipv6::NEXT_HEADER],
            payload_octets: usize::from(be16(h, ipv6::PAYLOAD_LEN)),
        })
    }
}

/// Writes the packet inside and the extensions behind it, at `at`, so that nothing goes beyond `max`.
/// Returns the end, and the length field of RFC 4884 in words of `word` octets (zero without extensions).
fn body(
    out: &mut Scratch,
    at: usize,
    head: &[u8],
    upper: &[u8],
    extension: &[u8],
    max: usize,
    word: usize,
) -> (usize, u8) {
    let room = max.min(SCRATCH) - at - head.len();
    out[at..at + head.len()].copy_from_slice(head);
    let start = at + head.len();
    // An extension that would push the datagram below its minimum is left out.
    let extension = if at + MIN_DATAGRAM + extension.len() <= max { extension } else { &[] };
    if extension.is_empty() {
        let n = upper.len().min(room);
        out[start..start + n].copy_from_slice(&upper[..n]);
        return (start + n, 0);
    }
    // RFC 4884 4: the datagram is padded with zeros to a whole word, and to 128 octets at least.
    let room = (max - at - extension.len()) / word * word;
    let n = upper.len().min(room - head.len());
    let datagram = (head.len() + n).next_multiple_of(word).max(MIN_DATAGRAM).min(room.max(MIN_DATAGRAM));
    out[start..start + n].copy_from_slice(&upper[..n]);
    out[start + n..at + datagram].fill(0);
    let end = at + datagram + extension.len();
    out[at + datagram..end].copy_from_slice(extension);
    (end, u8::try_from(datagram / word).unwrap_or(0))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToV4,
    ToV6,
}

/// Puts the port or identifier and the checksum of the packet inside right, as far as they are there.
fn fix_inner<A>(
    b: &mut [u8],
    protocol: u8,
    port_at: usize,
    new: &New<A>,
    to: Direction,
    upper_octets: usize,
    whole: bool,
) {
    let delta = if to == Direction::ToV4 { new.delta } else { !new.delta };
    let apply = |b: &mut [u8], at: usize, delta: u16, zero: bool| {
        let Some(old) = b.get(at..at + 2).map(|b| be16(b, 0)) else { return };
        // RFC 768: zero says that there is no checksum, so none is made up.
        if zero && old == 0 {
            return;
        }
        let sum = checksum::apply(old, delta);
        put16(b, at, if zero && sum == 0 { 0xffff } else { sum });
    };
    match protocol {
        PROTO_UDP | PROTO_TCP => {
            if b.len() >= 4 {
                put16(b, port_at, new.port);
            }
            if protocol == PROTO_UDP {
                apply(b, udp::CHECKSUM, delta, true);
            } else {
                apply(b, tcp::CHECKSUM, delta, false);
            }
        }
        _ => {
            let Some(h) = b.first_chunk_mut::<{ icmp::HEADER }>() else { return };
            let old = be16(h, icmp::TYPE);
            h[icmp::TYPE] = match h[icmp::TYPE] {
                icmp::V6_ECHO_REQUEST if to == Direction::ToV4 => icmp::V4_ECHO_REQUEST,
                icmp::V6_ECHO_REPLY if to == Direction::ToV4 => icmp::V4_ECHO_REPLY,
                icmp::V4_ECHO_REQUEST if to == Direction::ToV6 => icmp::V6_ECHO_REQUEST,
                icmp::V4_ECHO_REPLY if to == Direction::ToV6 => icmp::V6_ECHO_REPLY,
                other => other,
            };
            put16(h, icmp::IDENT, new.port);
            let now = be16(h, icmp::TYPE);
            // The pseudo-header's length is that of the whole message, which a first fragment does not
            // tell: its checksum cannot be put right, and nobody checks it.
            if whole {
                let octets = u32::try_from(upper_octets).unwrap_or(0);
                let delta = match to {
                    Direction::ToV4 => echo_delta(new.delta, octets, old, now),
                    Direction::ToV6 => !echo_delta(new.delta, octets, now, old),
                };
                apply(h, icmp::CHECKSUM, delta, false);
            }
        }
    }
}

#[cfg(test)]
mod tests;
