//! IPv6 to IPv4 (RFC 7915 5).
//!
//! ```text
//!  IPv6 40 | extension headers | upper layer ...
//!              | IPv4 20 header| upper layer ...     (the frame begins later, nothing is moved)
//! ```

use super::{DF_CLEAR_OCTETS, DfPolicy, Frag, Policy, Refusal, Tell, Upper, adjust, echo_delta, mss};
use causeway_core::{DropReason, Frame, Packet};
use causeway_wire::ipv6::{self, next_header};
use causeway_wire::l4::{self, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, icmp, tcp, udp};
use causeway_wire::{be16, checksum, ethernet, ipv4, put16, put32};
use std::net::Ipv4Addr;

/// An IPv6 packet, as far as its translation needs it. Addresses are numbers, because an `Ipv6Addr` is
/// octets without alignment, which the compiler moves in pieces.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct In6 {
    pub(crate) src: u128,
    pub(crate) dst: u128,
    /// Where the upper layer begins, behind all extension headers.
    pub(crate) l4: usize,
    pub(crate) traffic_class: u8,
    pub(crate) hop_limit: u8,
    pub(crate) protocol: u8,
    pub(crate) fragment: Option<Frag>,
    pub(crate) upper: Upper,
    /// Source port, or identifier of an echo; zero for what has none.
    pub(crate) src_port: u16,
    /// Destination port; zero for what has none.
    pub(crate) dst_port: u16,
}

/// What the IPv4 side of a packet is to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct To4 {
    pub(crate) src: u32,
    pub(crate) dst: u32,
    /// Source port, or identifier of an echo.
    pub(crate) port: u16,
    /// What the transport checksum gains from the change of addresses and port. For an echo, what it gains
    /// from losing the pseudo-header (without its length) and from the new identifier.
    pub(crate) delta: u16,
    /// Identification of a packet that is no fragment.
    pub(crate) id: u16,
}

const TRUNCATED: Refusal = Refusal::silent(DropReason::Ip6Truncated);
const BAD_TRANSPORT: Refusal = Refusal::silent(DropReason::Nat64BadTransport);

/// Reads an IPv6 packet into `p`, which is all default. Its frame has exactly the octets of the packet.
///
/// In place, because a result this large would be copied through memory right after it was written in
/// pieces, which stalls.
#[inline(always)]
pub(crate) fn parse<F: Frame>(packet: &Packet<F>, p: &mut In6) -> Result<(), Refusal> {
    let b = packet.bytes();
    let Some(h) = b.first_chunk::<{ ipv6::HEADER }>() else { return Err(TRUNCATED) };
    if h[0] >> 4 != 6 || b.len() != ipv6::HEADER + usize::from(be16(h, ipv6::PAYLOAD_LEN)) {
        return Err(TRUNCATED);
    }
    let next = h[ipv6::NEXT_HEADER];
    p.src = addr(h, ipv6::SRC);
    p.dst = addr(h, ipv6::DST);
    p.traffic_class = (h[0] << 4) | (h[1] >> 4);
    p.hop_limit = h[ipv6::HOP_LIMIT];
    // By value: what went through a reference would have to be read back from memory.
    (p.protocol, p.l4, p.fragment) = if matches!(next, PROTO_UDP | PROTO_TCP | PROTO_ICMPV6) {
        (next, ipv6::HEADER, None)
    } else {
        walk(b, next)?
    };
    // RFC 8200 3: a node that forwards discards what would leave with a hop limit of zero.
    if p.hop_limit <= 1 && !packet.meta.hop_done {
        return Err(Refusal { reason: DropReason::HopLimit, tell: Tell::TimeExceeded });
    }
    if p.fragment.is_some_and(|f| f.offset != 0) {
        return Ok(());
    }
    let whole = p.fragment.is_none_or(Frag::is_atomic);
    upper(&b[p.l4..], whole, p)
}

/// The address at `at`, as a number.
#[inline(always)]
fn addr(h: &[u8; ipv6::HEADER], at: usize) -> u128 {
    let half = |at: usize| h[at..at + 8].try_into().map_or(0, u64::from_be_bytes);
    u128::from(half(at)) << 64 | u128::from(half(at + 8))
}

/// Reads the upper-layer header; `whole` if the packet is no fragment, so that lengths can be checked.
#[inline(always)]
fn upper(b: &[u8], whole: bool, p: &mut In6) -> Result<(), Refusal> {
    let Some(h) = b.first_chunk::<8>() else { return Err(BAD_TRANSPORT) };
    match p.protocol {
        PROTO_UDP => {
            let octets = usize::from(be16(h, udp::LENGTH));
            if whole && (octets < udp::HEADER || octets > b.len()) {
                return Err(BAD_TRANSPORT);
            }
            // RFC 8200 8.1: a zero UDP checksum is not allowed over IPv6.
            if be16(h, udp::CHECKSUM) == 0 {
                return Err(Refusal::silent(DropReason::Nat64ZeroChecksum));
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
                icmp::V6_ECHO_REQUEST => Upper::Echo { request: true },
                icmp::V6_ECHO_REPLY => Upper::Echo { request: false },
                // RFC 4443 2.4(c): errors fit the lowest MTU, so none is ever fragmented.
                1..=127 if !whole => return Err(Refusal::silent(DropReason::Nat64Fragment)),
                1..=127 => Upper::Error,
                // RFC 7915 5.2: neighbour discovery, MLD and other informational messages are dropped.
                _ => return Err(Refusal::silent(DropReason::Nat64IcmpType)),
            };
            if p.upper != Upper::Error {
                p.src_port = be16(h, icmp::IDENT);
            }
        }
    }
    Ok(())
}

/// The control bits of the TCP header at the start of `b`, if the header is there in full.
#[inline(always)]
pub(crate) fn tcp_flags(b: &[u8]) -> Option<u8> {
    let h = b.first_chunk::<{ tcp::HEADER }>()?;
    let octets = usize::from(h[tcp::DATA_OFFSET] >> 4) * 4;
    (octets >= tcp::HEADER && octets <= b.len()).then_some(h[tcp::FLAGS])
}

/// Steps over extension headers (RFC 7915 5.1): hop-by-hop options, destination options and Routing
/// headers without segments left are skipped, and a Fragment header is read.
#[cold]
fn walk(b: &[u8], next: u8) -> Result<(u8, usize, Option<Frag>), Refusal> {
    let w = ipv6::walk(b, next).map_err(|_| Refusal::silent(DropReason::Ip6BadExtension))?;
    // RFC 7915 5.1: a Routing header with segments left is answered with a Parameter Problem that
    // points at the segments-left field.
    if let Some(at) = w.segments_left_at {
        let pointer = u32::try_from(at).unwrap_or(0);
        return Err(Refusal { reason: DropReason::Nat64SourceRoute, tell: Tell::BadField { pointer } });
    }
    // RFC 7915 5.1.1: nothing that has extension headers behind its Fragment header is translated. They
    // would have to be taken out of the offsets of all later fragments (RFC 7112 5).
    if let Some(f) = w.fragment
        && (w.at != f.at + ipv6::FRAGMENT_HEADER || is_extension(w.protocol))
    {
        return Err(Refusal::silent(DropReason::Nat64Fragment));
    }
    // RFC 6146 3.4: other protocols are dropped and their senders told. RFC 4302 is an upper layer to
    // NAT64: what it protects would not survive translation.
    if !matches!(w.protocol, PROTO_UDP | PROTO_TCP | PROTO_ICMPV6) || passes_auth(b, next, w.at) {
        return Err(Refusal::telling(DropReason::Nat64Protocol, Tell::Protocol));
    }
    if w.at > b.len() {
        return Err(TRUNCATED);
    }
    // RFC 8200 4.5: all fragments but the last carry a multiple of eight octets of the fragmentable part,
    // which begins behind the Fragment header; and the whole stays within 65,535 octets.
    if let Some(f) = w.fragment {
        let octets = b.len() - (f.at + ipv6::FRAGMENT_HEADER);
        let end = usize::from(f.offset) * 8 + octets;
        if (f.more && !octets.is_multiple_of(8)) || end > 65_535 || (f.offset != 0 && octets == 0) {
            return Err(Refusal::silent(DropReason::Nat64Fragment));
        }
        // RFC 1858 3: a second fragment that begins inside a TCP header could rewrite it.
        if w.protocol == PROTO_TCP && f.offset != 0 && usize::from(f.offset) * 8 < tcp::HEADER {
            return Err(Refusal::silent(DropReason::Nat64Fragment));
        }
    }
    let fragment = w.fragment.map(|f| Frag { offset: f.offset, more: f.more, id: f.id });
    Ok((w.protocol, w.at, fragment))
}

/// True for the extension headers that RFC 7915 5.1.1 means: all but ESP.
const fn is_extension(protocol: u8) -> bool {
    use next_header::{AUTH, DEST_OPTIONS, HOP_BY_HOP, ROUTING};
    matches!(protocol, HOP_BY_HOP | ROUTING | DEST_OPTIONS | AUTH)
}

/// True if the chain from the fixed header to `end` holds an authentication header. The chain was walked
/// before, so it ends.
fn passes_auth(b: &[u8], first: u8, end: usize) -> bool {
    let (mut next, mut at) = (first, ipv6::HEADER);
    for _ in 0..=ipv6::MAX_EXTENSION_HEADERS {
        if next == next_header::AUTH {
            return true;
        }
        let Some(h) = b.get(at..at + 2) else { return false };
        if at >= end {
            return false;
        }
        at += if next == next_header::FRAGMENT { ipv6::FRAGMENT_HEADER } else { (usize::from(h[1]) + 1) * 8 };
        next = h[0];
    }
    false
}

/// Octets of the IPv4 packet that `p`, a packet of `octets` octets, becomes.
#[inline(always)]
pub(crate) const fn result_octets(p: &In6, octets: usize) -> usize {
    ipv4::HEADER + octets - p.l4
}

/// Turns the packet into IPv4. `upper_octets` is the length of the whole upper-layer packet, which for
/// the first fragment of an echo is more than is here.
///
/// # Errors
/// A reason to drop it. The packet is then partly translated.
#[inline(always)]
pub(crate) fn rewrite<F: Frame>(
    packet: &mut Packet<F>,
    p: &In6,
    to: &To4,
    policy: &Policy,
    upper_octets: u32,
) -> Result<(), DropReason> {
    let b = packet.frame.bytes_mut();
    let octets = result_octets(p, b.len());
    let upper = b.get_mut(p.l4..).ok_or(DropReason::Ip6Truncated)?;
    match p.upper {
        Upper::Udp => {
            let h = upper.first_chunk_mut::<{ udp::HEADER }>().ok_or(DropReason::Nat64BadTransport)?;
            put16(h, l4::SRC_PORT, to.port);
            let sum = checksum::apply(be16(h, udp::CHECKSUM), to.delta);
            // RFC 768: a computed zero is sent as all ones.
            put16(h, udp::CHECKSUM, if sum == 0 { 0xffff } else { sum });
        }
        Upper::Tcp { flags } => {
            let h = upper.first_chunk_mut::<{ tcp::HEADER }>().ok_or(DropReason::Nat64BadTransport)?;
            put16(h, l4::SRC_PORT, to.port);
            adjust(h, tcp::CHECKSUM, to.delta);
            if flags & tcp::SYN != 0
                && let Some(most) = policy.clamp_mss
            {
                mss::clamp(upper, most);
            }
        }
        Upper::Echo { request } => {
            let h = upper.first_chunk_mut::<{ icmp::HEADER }>().ok_or(DropReason::Nat64BadTransport)?;
            let old = be16(h, icmp::TYPE);
            // RFC 7915 5.2: echo keeps its code and gets the other family's type.
            h[icmp::TYPE] = if request { icmp::V4_ECHO_REQUEST } else { icmp::V4_ECHO_REPLY };
            put16(h, icmp::IDENT, to.port);
            let delta = echo_delta(to.delta, upper_octets, old, be16(h, icmp::TYPE));
            adjust(h, icmp::CHECKSUM, delta);
        }
        Upper::Later => {}
        Upper::Error => return Err(DropReason::Nat64IcmpType),
    }
    packet.frame.pull_front(p.l4 - ipv4::HEADER).map_err(|_| DropReason::NoHeadroom)?;
    let hop_limit = if packet.meta.hop_done { p.hop_limit } else { p.hop_limit.saturating_sub(1) };
    let (id, frag) = identification(p, to.id, octets, policy.df);
    let protocol = if p.protocol == PROTO_ICMPV6 { PROTO_ICMP } else { p.protocol };
    let head = Head4 {
        tos: policy.tos.of(p.traffic_class),
        octets: u16::try_from(octets).map_err(|_| DropReason::Nat64TooBig)?,
        id,
        frag,
        ttl: hop_limit,
        protocol,
        src: Ipv4Addr::from_bits(to.src),
        dst: Ipv4Addr::from_bits(to.dst),
    };
    let b = packet.frame.bytes_mut().first_chunk_mut::<{ ipv4::HEADER }>().ok_or(DropReason::Ip6Truncated)?;
    head.write(b);
    let m = &mut packet.meta;
    m.ethertype = ethernet::ETHERTYPE_IPV4;
    m.protocol = protocol;
    m.l4 = 20;
    m.fragment = frag & (ipv4::MF | ipv4::OFFSET_MASK) != 0;
    m.hop_done = true;
    Ok(())
}

/// Identification and the flags and offset field of the result (RFC 7915 5.1, 5.1.1).
#[inline(always)]
fn identification(p: &In6, id: u16, octets: usize, df: DfPolicy) -> (u16, u16) {
    match p.fragment {
        None => {
            let df = match df {
                DfPolicy::BySize => octets > DF_CLEAR_OCTETS,
                DfPolicy::Always => true,
                DfPolicy::Never => false,
            };
            (id, if df { ipv4::DF } else { 0 })
        }
        // RFC 7915 5.1.1: the low 16 bits of the Identification, DF clear.
        Some(f) => {
            #[expect(clippy::cast_possible_truncation, reason = "RFC 7915 5.1.1 takes the low 16 bits")]
            let id = f.id as u16;
            (id, f.offset & ipv4::OFFSET_MASK | if f.more { ipv4::MF } else { 0 })
        }
    }
}

/// An IPv4 header of 20 octets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head4 {
    pub(crate) tos: u8,
    pub(crate) octets: u16,
    pub(crate) id: u16,
    pub(crate) frag: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
}

impl Head4 {
    /// Writes the header with its checksum, which is made from the fields without reading the octets back.
    #[inline(always)]
    pub(crate) fn write(&self, b: &mut [u8; ipv4::HEADER]) {
        let (src, dst) = (self.src.to_bits(), self.dst.to_bits());
        let w0 = 0x4500_0000 | u32::from(self.tos) << 16 | u32::from(self.octets);
        let w1 = u32::from(self.id) << 16 | u32::from(self.frag);
        let w2 = u32::from(self.ttl) << 24 | u32::from(self.protocol) << 16;
        let sum = u64::from(w0) + u64::from(w1) + u64::from(w2) + u64::from(src) + u64::from(dst);
        let w2 = w2 | u32::from(!checksum::fold(sum));
        put32(b, 0, w0);
        put32(b, 4, w1);
        put32(b, 8, w2);
        put32(b, 12, src);
        put32(b, 16, dst);
    }

    /// The header in an array of its own.
    pub(crate) fn octets(&self) -> [u8; ipv4::HEADER] {
        let mut b = [0; ipv4::HEADER];
        self.write(&mut b);
        b
    }
}
