//! IPv4 to IPv6 (RFC 7915 4).
//!
//! ```text
//!          IPv4 20 to 60 with options | upper layer ...
//!  IPv6 40 | [Fragment 8]             | upper layer ...     (the frame begins earlier, nothing is moved)
//! ```

use super::v6_to_v4::tcp_flags;
use super::{Frag, Policy, Refusal, Tell, UdpZero, Upper, adjust, echo_delta, mss};
use causeway_core::{DropReason, Frame, Packet};
use causeway_wire::ipv6::{self, next_header};
use causeway_wire::l4::{self, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, icmp, tcp, udp};
use causeway_wire::{be16, be32, checksum, ethernet, ipv4, put16, put32};
use std::net::Ipv6Addr;

/// An IPv4 packet, as far as its translation needs it. Addresses are numbers (see `In6`).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct In4 {
    pub(crate) src: u32,
    pub(crate) dst: u32,
    /// Where the upper layer begins, behind all options.
    pub(crate) l4: usize,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) df: bool,
    pub(crate) id: u16,
    pub(crate) fragment: Option<Frag>,
    pub(crate) upper: Upper,
    /// Source port; zero for what has none.
    pub(crate) src_port: u16,
    /// Destination port, or identifier of an echo; zero for what has none.
    pub(crate) dst_port: u16,
}

/// What the IPv6 side of a packet is to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct To6 {
    pub(crate) src: u128,
    pub(crate) dst: u128,
    /// Destination port, or identifier of an echo.
    pub(crate) port: u16,
    /// What the transport checksum gains from IPv6 to IPv4 (see `To4`): here it is taken away.
    pub(crate) delta: u16,
}

/// IGMP (RFC 3376 4).
const PROTO_IGMP: u8 = 2;

const TRUNCATED: Refusal = Refusal::silent(DropReason::Ip4Truncated);
const BAD_TRANSPORT: Refusal = Refusal::silent(DropReason::Nat64BadTransport);

/// Reads an IPv4 packet into `p`, which is all default. Its frame has exactly the octets of the packet,
/// and the header's checksum was found right.
#[inline(always)]
pub(crate) fn parse<F: Frame>(packet: &Packet<F>, p: &mut In4) -> Result<(), Refusal> {
    let b = packet.bytes();
    let Some(h) = b.first_chunk::<{ ipv4::HEADER }>() else { return Err(TRUNCATED) };
    p.l4 = usize::from(h[0] & 0x0f) * 4;
    if h[0] >> 4 != 4 || b.len() != usize::from(be16(h, ipv4::TOTAL_LEN)) {
        return Err(TRUNCATED);
    }
    if p.l4 != ipv4::HEADER {
        options(b, p.l4)?;
    }
    p.protocol = h[ipv4::PROTO];
    if !matches!(p.protocol, PROTO_UDP | PROTO_TCP | PROTO_ICMP) {
        // RFC 6146 3.4: their senders are told. RFC 7915 4.2: those of IGMP are not.
        let tell = if p.protocol == PROTO_IGMP { Tell::Nothing } else { Tell::Protocol };
        return Err(Refusal::telling(DropReason::Nat64Protocol, tell));
    }
    let field = be16(h, ipv4::FRAG);
    p.src = be32(h, ipv4::SRC);
    p.dst = be32(h, ipv4::DST);
    p.tos = h[ipv4::TOS];
    p.ttl = h[ipv4::TTL];
    p.df = field & ipv4::DF != 0;
    p.id = be16(h, ipv4::ID);
    if field & (ipv4::MF | ipv4::OFFSET_MASK) != 0 {
        p.fragment = Some(fragment(b, p.l4, field, p.id)?);
    }
    // RFC 1812 5.3.1: a router discards what would leave with a TTL of zero.
    if p.ttl <= 1 && !packet.meta.hop_done {
        return Err(Refusal { reason: DropReason::HopLimit, tell: Tell::TimeExceeded });
    }
    if p.fragment.is_some_and(|f| f.offset != 0) {
        return Ok(());
    }
    upper(b.get(p.l4..).unwrap_or(&[]), p.fragment.is_none(), p)
}

/// Reads the upper-layer header; `whole` if the packet is no fragment, so that lengths can be checked.
#[inline(always)]
fn upper(b: &[u8], whole: bool, p: &mut In4) -> Result<(), Refusal> {
    let Some(h) = b.first_chunk::<8>() else { return Err(BAD_TRANSPORT) };
    match p.protocol {
        PROTO_UDP => {
            let octets = usize::from(be16(h, udp::LENGTH));
            if whole && (octets < udp::HEADER || octets > b.len()) {
                return Err(BAD_TRANSPORT);
            }
            p.upper = Upper::Udp;
            (p.src_port, p.dst_port) = (be16(h, l4::SRC_PORT), be16(h, l4::DST_PORT));
        }
        PROTO_TCP => {
            // RFC 3128 2: the first fragment of a TCP segment holds the whole header.
            let flags = tcp_flags(b).ok_or(BAD_TRANSPORT)?;
            p.upper = Upper::Tcp { flags };
            (p.src_port, p.dst_port) = (be16(h, l4::SRC_PORT), be16(h, l4::DST_PORT));
        }
        _ => {
            p.upper = match h[icmp::TYPE] {
                icmp::V4_ECHO_REQUEST => Upper::Echo { request: true },
                icmp::V4_ECHO_REPLY => Upper::Echo { request: false },
                icmp::V4_DST_UNREACHABLE | icmp::V4_TIME_EXCEEDED | icmp::V4_PARAM_PROBLEM => {
                    // RFC 7915 4.2: an error that is itself a fragment cannot be looked into.
                    if !whole {
                        return Err(Refusal::silent(DropReason::Nat64Fragment));
                    }
                    Upper::Error
                }
                // RFC 7915 4.2: information, timestamp, address mask, router discovery, redirect, source
                // quench and unknown types are dropped.
                _ => return Err(Refusal::silent(DropReason::Nat64IcmpType)),
            };
            if p.upper != Upper::Error {
                p.dst_port = be16(h, icmp::IDENT);
            }
        }
    }
    Ok(())
}

/// RFC 7915 4.1: options are skipped, but a source route that has not run out is refused.
#[cold]
fn options(b: &[u8], header_octets: usize) -> Result<(), Refusal> {
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    let bad = Refusal::silent(DropReason::Ip4BadLength);
    if header_octets < ipv4::HEADER {
        return Err(bad);
    }
    let mut rest = b.get(ipv4::HEADER..header_octets).ok_or(bad)?;
    loop {
        match *rest {
            // RFC 791 3.1: type 0 ends the list, type 1 is one octet of nothing.
            [] | [0, ..] => return Ok(()),
            [1, ..] => rest = &rest[1..],
            [kind, octets, ..] => {
                let octets = usize::from(octets);
                if octets < 2 || octets > rest.len() {
                    return Err(bad);
                }
                if kind == LOOSE || kind == STRICT {
                    // RFC 791 3.1: a pointer beyond the length means that the route has run out.
                    let pointer = rest.get(2).copied().map_or(0, usize::from);
                    if octets < 3 || pointer <= octets {
                        return Err(Refusal {
                            reason: DropReason::Nat64SourceRoute,
                            tell: Tell::SourceRouteFailed,
                        });
                    }
                }
                rest = &rest[octets..];
            }
            [_] => return Err(bad),
        }
    }
}

#[cold]
fn fragment(b: &[u8], header_octets: usize, field: u16, id: u16) -> Result<Frag, Refusal> {
    let f = Frag { offset: field & ipv4::OFFSET_MASK, more: field & ipv4::MF != 0, id: u32::from(id) };
    let octets = b.len().saturating_sub(header_octets);
    let end = usize::from(f.offset) * 8 + octets;
    // RFC 791 3.2: all fragments but the last carry a multiple of eight octets, and the whole stays
    // within 65,535 octets.
    if (f.more && !octets.is_multiple_of(8)) || octets == 0 || end > 65_535 {
        return Err(Refusal::silent(DropReason::Nat64Fragment));
    }
    // RFC 1858 3: a second fragment that begins inside a TCP header could rewrite it.
    if b[ipv4::PROTO] == PROTO_TCP && f.offset != 0 && end > 0 && usize::from(f.offset) * 8 < tcp::HEADER {
        return Err(Refusal::silent(DropReason::Nat64Fragment));
    }
    Ok(f)
}

/// Octets of the IPv6 packet that `p`, a packet of `octets` octets, becomes.
#[inline(always)]
pub(crate) const fn result_octets(p: &In4, octets: usize) -> usize {
    let extra = if p.fragment.is_some() { ipv6::FRAGMENT_HEADER } else { 0 };
    ipv6::HEADER + extra + octets - p.l4
}

/// Turns the packet into IPv6. `with_fragment_header` for a fragment and for what is going to be
/// fragmented. `upper_octets` is the length of the whole upper-layer packet, which for the first
/// fragment of an echo is more than is here.
///
/// # Errors
/// A reason to drop it. The packet is then partly translated.
#[inline(always)]
pub(crate) fn rewrite<F: Frame>(
    packet: &mut Packet<F>,
    p: &In4,
    to: &To6,
    policy: &Policy,
    with_fragment_header: bool,
    upper_octets: u32,
) -> Result<(), DropReason> {
    let b = packet.frame.bytes_mut();
    let upper_here = b.len() - p.l4;
    let upper = b.get_mut(p.l4..).ok_or(DropReason::Ip4Truncated)?;
    match p.upper {
        Upper::Udp => {
            let old = upper
                .get(udp::CHECKSUM..udp::HEADER)
                .map(|b| be16(b, 0))
                .ok_or(DropReason::Nat64BadTransport)?;
            put16(upper, l4::DST_PORT, to.port);
            let sum = if old == 0 {
                zero_checksum(upper, p, to, policy.udp_zero)?
            } else {
                // RFC 768: a computed zero is sent as all ones.
                match checksum::apply(old, !to.delta) {
                    0 => 0xffff,
                    sum => sum,
                }
            };
            put16(upper, udp::CHECKSUM, sum);
        }
        Upper::Tcp { flags } => {
            let h = upper.first_chunk_mut::<{ tcp::HEADER }>().ok_or(DropReason::Nat64BadTransport)?;
            put16(h, l4::DST_PORT, to.port);
            adjust(h, tcp::CHECKSUM, !to.delta);
            if flags & tcp::SYN != 0
                && let Some(most) = policy.clamp_mss
            {
                mss::clamp(upper, most);
            }
        }
        Upper::Echo { request } => {
            let h = upper.first_chunk_mut::<{ icmp::HEADER }>().ok_or(DropReason::Nat64BadTransport)?;
            let old = be16(h, icmp::TYPE);
            // RFC 7915 4.2: echo keeps its code and gets the other family's type.
            h[icmp::TYPE] = if request { icmp::V6_ECHO_REQUEST } else { icmp::V6_ECHO_REPLY };
            put16(h, icmp::IDENT, to.port);
            let delta = !echo_delta(to.delta, upper_octets, be16(h, icmp::TYPE), old);
            adjust(h, icmp::CHECKSUM, delta);
        }
        Upper::Later => {}
        Upper::Error => return Err(DropReason::Nat64IcmpType),
    }
    let extra = if with_fragment_header { ipv6::FRAGMENT_HEADER } else { 0 };
    let head_octets = ipv6::HEADER + extra;
    if head_octets >= p.l4 {
        packet.frame.push_front(head_octets - p.l4).map_err(|_| DropReason::NoHeadroom)?;
    } else {
        packet.frame.pull_front(p.l4 - head_octets).map_err(|_| DropReason::Ip4Truncated)?;
    }
    let protocol = if p.protocol == PROTO_ICMP { PROTO_ICMPV6 } else { p.protocol };
    let ttl = if packet.meta.hop_done { p.ttl } else { p.ttl.saturating_sub(1) };
    let payload = u16::try_from(upper_here + extra).map_err(|_| DropReason::Nat64TooBig)?;
    let b = packet.frame.bytes_mut();
    let h = b.first_chunk_mut::<{ ipv6::HEADER }>().ok_or(DropReason::Ip4Truncated)?;
    // RFC 7915 4.1: the flow label is zero.
    put32(h, 0, 0x6000_0000 | u32::from(policy.traffic_class.of(p.tos)) << 20);
    put16(h, ipv6::PAYLOAD_LEN, payload);
    h[ipv6::NEXT_HEADER] = if with_fragment_header { next_header::FRAGMENT } else { protocol };
    h[ipv6::HOP_LIMIT] = ttl;
    h[ipv6::SRC..ipv6::SRC + 16].copy_from_slice(&to.src.to_be_bytes());
    h[ipv6::DST..ipv6::DST + 16].copy_from_slice(&to.dst.to_be_bytes());
    if with_fragment_header {
        // RFC 7915 4.1: the Identification is that of IPv4 with 16 zero bits before it.
        let f = p.fragment.unwrap_or(Frag { offset: 0, more: false, id: u32::from(p.id) });
        let e =
            b.get_mut(ipv6::HEADER..ipv6::HEADER + ipv6::FRAGMENT_HEADER).ok_or(DropReason::Ip4Truncated)?;
        put32(e, 0, u32::from(protocol) << 24 | u32::from(f.offset << 3) | u32::from(f.more));
        put32(e, 4, f.id);
    }
    let m = &mut packet.meta;
    m.ethertype = ethernet::ETHERTYPE_IPV6;
    m.protocol = protocol;
    // At most 48.
    m.l4 = u16::try_from(head_octets).unwrap_or(u16::MAX);
    m.fragment = with_fragment_header;
    m.hop_done = true;
    Ok(())
}

/// True for the first fragment of UDP that came without a checksum.
pub(crate) fn is_unsummed<F: Frame>(packet: &Packet<F>, p: &In4) -> bool {
    let at = p.l4 + udp::CHECKSUM;
    p.upper == Upper::Udp && packet.bytes().get(at..at + 2).is_some_and(|b| be16(b, 0) == 0)
}

/// RFC 6146 3.4: gives UDP without a checksum, of which this is the first fragment, the one that it could
/// have had as IPv4. `sum` is over all octets of all its fragments, `total` how many these are.
///
/// # Errors
/// The lengths contradict each other.
#[cold]
pub(crate) fn fill_checksum<F: Frame>(
    packet: &mut Packet<F>,
    p: &In4,
    sum: u16,
    total: u32,
) -> Result<(), DropReason> {
    let upper = packet.frame.bytes_mut().get_mut(p.l4..).ok_or(DropReason::Ip4Truncated)?;
    let h = upper.first_chunk_mut::<{ udp::HEADER }>().ok_or(DropReason::Nat64BadTransport)?;
    if u32::from(be16(h, udp::LENGTH)) != total {
        return Err(DropReason::Nat64BadTransport);
    }
    let pseudo = u64::from(p.src) + u64::from(p.dst) + u64::from(PROTO_UDP) + u64::from(total);
    let sum = !checksum::fold(pseudo + u64::from(sum));
    // RFC 768: a computed zero is sent as all ones.
    put16(h, udp::CHECKSUM, if sum == 0 { 0xffff } else { sum });
    Ok(())
}

/// RFC 7915 4.5: UDP that came without a checksum gets one, unless configured otherwise.
#[cold]
fn zero_checksum(upper: &[u8], p: &In4, to: &To6, policy: UdpZero) -> Result<u16, DropReason> {
    match policy {
        UdpZero::Forward => Ok(0),
        UdpZero::Drop => Err(DropReason::Nat64ZeroChecksum),
        // A whole datagram gets its checksum by `fill_checksum` first. This is only a part of one.
        UdpZero::Compute if p.fragment.is_some() => Err(DropReason::Nat64Fragment),
        UdpZero::Compute => {
            let octets = be16(upper, udp::LENGTH);
            let covered = upper.get(..usize::from(octets)).ok_or(DropReason::Nat64BadTransport)?;
            let (src, dst) = (Ipv6Addr::from_bits(to.src), Ipv6Addr::from_bits(to.dst));
            let pseudo = checksum::pseudo6(src, dst, PROTO_UDP, u32::from(octets));
            // The checksum field itself holds zero.
            Ok(match !checksum::fold(checksum::sum(covered, pseudo)) {
                0 => 0xffff,
                sum => sum,
            })
        }
    }
}
