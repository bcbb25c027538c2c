//! The origin of ICMPv6 errors (RFC 4443 2.4, 3) and of ICMP errors (RFC 1812 4.3, RFC 1122 3.2.2).
//!
//! ```text
//!  may it be sent? -> is there rate left? -> from, to, by which way -> header | error | what fits
//! ```
//!
//! An error is about a packet that a stage will drop, handed in as it came (before its hop limit is
//! lowered or anything is rewritten), so that its sender recognises it. What may not be reported is
//! left out silently; that is no event. What the rate limit holds back is counted.
//!
//! Not handled: RFC 4884 extensions, redirects (the gateway sends none), Source Quench (RFC 6633).

use crate::frame::{Frame, FrameSource};
use crate::net::{Egress, IfId, Interface, Via};
use crate::rate::TokenBucket;
use crate::{Counter, Ctx, Meta, Packet};
use causeway_wire::ipv4::{self, Ipv4Repr};
use causeway_wire::ipv6::{self, Ipv6Repr};
use causeway_wire::l4::{self, icmp};
use causeway_wire::{be16, checksum, ethernet, put16, put32};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Hop limit and TTL of errors.
const HOPS: u8 = 64;
/// The most octets of an ICMP error over IPv4, IP header included (RFC 1812 4.3.2.3).
const MAX_OCTETS4: usize = 576;
/// Precedence 6, internetwork control, and no wish for a service (RFC 1812 4.3.2.5).
const TOS4: u8 = 0xc0;

/// Why a destination is unreachable: the codes of RFC 4443 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Unreachable6 {
    /// No route to the destination.
    NoRoute = 0,
    /// Communication is administratively prohibited.
    AdminProhibited = 1,
    /// The destination is beyond the scope of the source address.
    BeyondScope = 2,
    /// The address is unreachable: its neighbour does not answer.
    Address = 3,
    /// The port is unreachable.
    Port = 4,
    /// The source address failed an ingress or egress policy.
    SourcePolicy = 5,
    /// A route rejects the destination.
    RejectRoute = 6,
}

/// An ICMPv6 error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error6 {
    /// Destination Unreachable (RFC 4443 3.1).
    Unreachable(Unreachable6),
    /// Packet Too Big (RFC 4443 3.2).
    PacketTooBig {
        /// MTU of the next link, in octets: at least 1280.
        mtu: u32,
    },
    /// Time Exceeded, hop limit exceeded in transit (RFC 4443 3.3 code 0).
    HopLimitExceeded,
    /// Time Exceeded, fragments did not all come in time (RFC 4443 3.3 code 1).
    ReassemblyTime,
    /// Parameter Problem, a header field is erroneous (RFC 4443 3.4 code 0).
    HeaderField {
        /// Offset of the field in the packet, in octets.
        pointer: u32,
    },
    /// Parameter Problem, a next header type is unknown (RFC 4443 3.4 code 1).
    NextHeader {
        /// Offset of the number in the packet, in octets.
        pointer: u32,
    },
    /// Parameter Problem, an option is unknown (RFC 4443 3.4 code 2).
    Option {
        /// Offset of the option in the packet, in octets.
        pointer: u32,
    },
}

impl Error6 {
    /// Type, code and the 32-bit field behind the checksum.
    const fn parts(self) -> (u8, u8, u32) {
        match self {
            Self::Unreachable(why) => (icmp::V6_DST_UNREACHABLE, why as u8, 0),
            Self::PacketTooBig { mtu } => (icmp::V6_PACKET_TOO_BIG, 0, mtu),
            Self::HopLimitExceeded => (icmp::V6_TIME_EXCEEDED, 0, 0),
            Self::ReassemblyTime => (icmp::V6_TIME_EXCEEDED, 1, 0),
            Self::HeaderField { pointer } => (icmp::V6_PARAM_PROBLEM, 0, pointer),
            Self::NextHeader { pointer } => (icmp::V6_PARAM_PROBLEM, 1, pointer),
            Self::Option { pointer } => (icmp::V6_PARAM_PROBLEM, 2, pointer),
        }
    }

    /// RFC 4443 2.4(e.3) to (e.5): these two are sent even about packets to a group, so that path MTU
    /// discovery works for multicast and unknown options are reported.
    const fn even_about_groups(self) -> bool {
        matches!(self, Self::PacketTooBig { .. } | Self::Option { .. })
    }
}

/// Why a destination is unreachable: the codes of RFC 792 and RFC 1812 5.2.7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable4 {
    /// No route to the network.
    Net,
    /// The host does not answer.
    Host,
    /// The protocol is not served.
    Protocol,
    /// The port is unreachable.
    Port,
    /// It would have to be fragmented, but may not be (RFC 1191 4).
    FragmentationNeeded {
        /// MTU of the next link, in octets.
        mtu: u16,
    },
    /// A source route failed.
    SourceRoute,
    /// Communication with the host is administratively prohibited.
    HostProhibited,
    /// Communication is administratively prohibited (RFC 1812 5.3.9).
    AdminProhibited,
}

/// An ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error4 {
    /// Destination Unreachable.
    Unreachable(Unreachable4),
    /// Time Exceeded, TTL exceeded in transit (code 0).
    TtlExceeded,
    /// Time Exceeded, fragments did not all come in time (code 1).
    ReassemblyTime,
    /// Parameter Problem.
    HeaderField {
        /// Offset of the field in the packet, in octets.
        pointer: u8,
    },
}

impl Error4 {
    /// Type, code and the 32-bit field behind the checksum.
    const fn parts(self) -> (u8, u8, u32) {
        match self {
            Self::Unreachable(why) => {
                let (code, word) = match why {
                    Unreachable4::Net => (0, 0),
                    Unreachable4::Host => (1, 0),
                    Unreachable4::Protocol => (2, 0),
                    Unreachable4::Port => (3, 0),
                    Unreachable4::FragmentationNeeded { mtu } => (4, mtu as u32),
                    Unreachable4::SourceRoute => (5, 0),
                    Unreachable4::HostProhibited => (10, 0),
                    Unreachable4::AdminProhibited => (13, 0),
                };
                (icmp::V4_DST_UNREACHABLE, code, word)
            }
            Self::TtlExceeded => (icmp::V4_TIME_EXCEEDED, 0, 0),
            Self::ReassemblyTime => (icmp::V4_TIME_EXCEEDED, 1, 0),
            Self::HeaderField { pointer } => (icmp::V4_PARAM_PROBLEM, 0, (pointer as u32) << 24),
        }
    }
}

/// Makes errors, as fast as its token bucket allows (RFC 4443 2.4(f), RFC 1812 4.3.2.8). One for each
/// worker.
#[derive(Debug, Clone)]
pub struct IcmpErrors {
    bucket: TokenBucket,
}

impl IcmpErrors {
    /// At most `burst` errors at once and `rate_pps` a second in the long run, both families together.
    #[must_use]
    pub fn new(rate_pps: u32, burst: u32) -> Self {
        Self { bucket: TokenBucket::new(rate_pps, burst) }
    }

    /// Tells the sender of an IPv6 packet what became of it, unless that may not be told.
    ///
    /// The error's source is the address that the packet was for if it is ours, else an address of the
    /// interface that the packet came by; its way back is the route to the sender, else the neighbour
    /// that handed the packet over.
    pub fn send6<S: FrameSource, F: Frame>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        offending: &Packet<F>,
        error: Error6,
    ) {
        let about = offending.bytes();
        let Ok(ip) = Ipv6Repr::parse(about) else { return };
        let about = &about[..ipv6::HEADER + ip.payload_octets];
        let own = ctx.interfaces.iter().any(|(_, i)| i.owns6(ip.src));
        if own || !may_tell6(about, &ip, &offending.meta, error) {
            return;
        }
        let Some(egress) = way_back(ctx.routes.lookup6(ip.src), &offending.meta) else { return };
        let Some(src) = source6(ctx, &ip, offending.meta.ingress, egress.interface()) else { return };
        if !self.bucket.take(ctx.now) {
            ctx.counters.add(Counter::IcmpErrorsLimited, 1);
            return;
        }
        // RFC 4443 2.4(c): as much of the packet as does not make the error exceed the least IPv6 MTU.
        let about = &about[..about.len().min(ipv6::MIN_MTU - ipv6::HEADER - icmp::HEADER)];
        let payload_octets = icmp::HEADER + about.len();
        let header = Ipv6Repr {
            src,
            dst: ip.src,
            next_header: l4::PROTO_ICMPV6,
            hop_limit: HOPS,
            traffic_class: 0,
            flow_label: 0,
            payload_octets,
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most 1240")]
        let pseudo = checksum::pseudo6(src, ip.src, l4::PROTO_ICMPV6, payload_octets as u32);
        send(ctx, egress, Header::Six(&header), error.parts(), pseudo, about);
    }

    /// Tells the sender of an IPv4 packet what became of it, unless that may not be told.
    ///
    /// The error's source is the address that the packet was for if it is ours, else an address of the
    /// interface that the error leaves by (RFC 1812 4.3.2.4); its way back is as with
    /// [`send6`](Self::send6).
    pub fn send4<S: FrameSource, F: Frame>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        offending: &Packet<F>,
        error: Error4,
    ) {
        let about = offending.bytes();
        let Ok(ip) = Ipv4Repr::parse(about) else { return };
        let about = &about[..ip.total_octets];
        if !may_tell4(ctx, about, &ip, &offending.meta) {
            return;
        }
        let Some(egress) = way_back(ctx.routes.lookup4(ip.src), &offending.meta) else { return };
        let Some(src) = source4(ctx, &ip, egress.interface()) else { return };
        if !self.bucket.take(ctx.now) {
            ctx.counters.add(Counter::IcmpErrorsLimited, 1);
            return;
        }
        let about = &about[..about.len().min(MAX_OCTETS4 - ipv4::HEADER - icmp::HEADER)];
        let header = Ipv4Repr {
            src,
            dst: ip.src,
            protocol: l4::PROTO_ICMP,
            ttl: HOPS,
            tos: TOS4,
            // RFC 6864 4.1: a packet that is never fragmented needs no Identification.
            id: 0,
            frag: ipv4::DF,
            header_octets: ipv4::HEADER,
            total_octets: ipv4::HEADER + icmp::HEADER + about.len(),
        };
        send(ctx, egress, Header::Four(&header), error.parts(), 0, about);
    }
}

/// The rules of RFC 4443 2.4(e).
fn may_tell6(about: &[u8], ip: &Ipv6Repr, meta: &Meta, error: Error6) -> bool {
    // (e.6): the source must name a single node. Loopback names us.
    if ip.src.is_unspecified() || ip.src.is_multicast() || ip.src.is_loopback() {
        return false;
    }
    // (e.3) to (e.5): nothing about packets to groups of either layer.
    if (ip.dst.is_multicast() || meta.l2_group) && !error.even_about_groups() {
        return false;
    }
    let Ok(walk) = ipv6::walk(about, ip.next_header) else {
        // It might hold an ICMPv6 error that cannot be seen; but then the chain itself is the problem,
        // and RFC 8883 wants its sender to hear of that.
        return matches!(
            error,
            Error6::HeaderField { .. } | Error6::NextHeader { .. } | Error6::Option { .. }
        );
    };
    // A later fragment may be a part of an ICMPv6 error, and its sender cannot match it to anything; the
    // first one, which is as large and came as far, is answered.
    if walk.fragment.is_some_and(|f| f.offset != 0) {
        return false;
    }
    // (e.1), (e.2): nothing about an ICMPv6 error or a redirect, nor where that cannot be ruled out.
    if walk.protocol == l4::PROTO_ICMPV6 {
        return about.get(walk.at).is_some_and(|kind| *kind >= 128 && *kind != icmp::V6_REDIRECT);
    }
    true
}

/// The rules of RFC 1812 4.3.2.7 and RFC 1122 3.2.2.
fn may_tell4<S: FrameSource>(ctx: &Ctx<'_, S>, about: &[u8], ip: &Ipv4Repr, meta: &Meta) -> bool {
    let broadcast = |a: Ipv4Addr| {
        let mut nets = ctx.interfaces.iter().flat_map(|(_, i)| &i.addrs4);
        nets.any(|(_, p)| p.len() <= 30 && (a == p.last() || a == p.address()))
    };
    // Class D and E, the limited broadcast and 0/8 (this host on this network) name no single host.
    if ctx.interfaces.iter().any(|(_, i)| i.owns4(ip.src)) {
        return false;
    }
    let group = |a: Ipv4Addr| a.octets()[0] >= 224 || a.octets()[0] == 0 || broadcast(a);
    if group(ip.src) || ip.src.is_loopback() || group(ip.dst) || meta.l2_group {
        return false;
    }
    if ip.frag & ipv4::OFFSET_MASK != 0 {
        return false;
    }
    if ip.protocol == l4::PROTO_ICMP {
        // Queries and their answers may be reported; what is an error or unknown may not.
        let kind = about.get(ip.header_octets);
        return kind.is_some_and(|kind| matches!(kind, 0 | 8 | 9 | 10 | 13..=18 | 42 | 43));
    }
    true
}

/// The route to the sender, else the neighbour that handed the packet over.
fn way_back(route: Option<Egress>, meta: &Meta) -> Option<Egress> {
    let neighbor = (meta.ingress != IfId::NONE && meta.src_mac.is_unicast())
        .then_some(Egress::new(meta.ingress, Via::Mac(meta.src_mac)));
    route.or(neighbor)
}

/// RFC 4443 2.2: the address that the packet was for, if it is ours; else one of the interface that it
/// came by, else any of ours. A link-local source is of use on its link only (RFC 4291 2.5.6).
fn source6<S: FrameSource>(ctx: &Ctx<'_, S>, ip: &Ipv6Repr, ingress: IfId, egress: IfId) -> Option<Ipv6Addr> {
    let came_by = ctx.interfaces.get(ingress);
    let fits = |a: Ipv6Addr| a.is_unicast_link_local() == ip.src.is_unicast_link_local();
    let ours = came_by.is_some_and(|i| i.owns6(ip.dst))
        || (!ip.dst.is_unicast_link_local() && ctx.interfaces.iter().any(|(_, i)| i.owns6(ip.dst)));
    if ours && fits(ip.dst) {
        return Some(ip.dst);
    }
    if ip.src.is_unicast_link_local() {
        return came_by.map(|i| i.link_local);
    }
    let first = |i: &Interface| i.addrs6.first().map(|(a, _)| *a);
    came_by
        .and_then(first)
        .or_else(|| ctx.interfaces.get(egress).and_then(first))
        .or_else(|| ctx.interfaces.iter().find_map(|(_, i)| first(i)))
}

/// RFC 1122 3.2.1.3: the address that the packet was for, if it is ours. RFC 1812 4.3.2.4: else one of
/// the interface that the error leaves by, else any of ours.
fn source4<S: FrameSource>(ctx: &Ctx<'_, S>, ip: &Ipv4Repr, egress: IfId) -> Option<Ipv4Addr> {
    if ctx.interfaces.iter().any(|(_, i)| i.owns4(ip.dst)) {
        return Some(ip.dst);
    }
    let leaves_by = ctx.interfaces.get(egress).and_then(|i| i.source4(ip.src));
    leaves_by.or_else(|| ctx.interfaces.iter().find_map(|(_, i)| i.source4(ip.src)))
}

#[derive(Clone, Copy)]
enum Header<'a> {
    Six(&'a Ipv6Repr),
    Four(&'a Ipv4Repr),
}

/// Writes the error and puts it on its way.
fn send<S: FrameSource>(
    ctx: &mut Ctx<'_, S>,
    egress: Egress,
    header: Header<'_>,
    (kind, code, word): (u8, u8, u32),
    pseudo: u64,
    about: &[u8],
) {
    let Some(mut packet) = ctx.originate() else { return };
    let l4_at = match header {
        Header::Six(_) => ipv6::HEADER,
        Header::Four(_) => ipv4::HEADER,
    };
    if packet.frame.push_back(l4_at + icmp::HEADER + about.len()).is_err() {
        ctx.counters.drop(crate::DropReason::NoHeadroom);
        return;
    }
    let b = packet.frame.bytes_mut();
    let emitted = match header {
        Header::Six(h) => h.emit(b),
        Header::Four(h) => h.emit(b),
    };
    debug_assert!(emitted.is_ok(), "the frame was made as long as the header says");
    let u = &mut b[l4_at..];
    u[icmp::TYPE] = kind;
    u[icmp::CODE] = code;
    put16(u, icmp::CHECKSUM, 0);
    put32(u, icmp::IDENT, word);
    u[icmp::HEADER..].copy_from_slice(about);
    let sum = !checksum::fold(checksum::sum(u, pseudo));
    put16(u, icmp::CHECKSUM, sum);
    debug_assert_ne!(be16(u, icmp::CHECKSUM), 0xffff, "the type is not zero, so the sum is not");

    #[expect(clippy::cast_possible_truncation, reason = "20 or 40")]
    let l4_offset = l4_at as u16;
    packet.meta.l4 = l4_offset;
    (packet.meta.ethertype, packet.meta.protocol) = match header {
        Header::Six(_) => (ethernet::ETHERTYPE_IPV6, l4::PROTO_ICMPV6),
        Header::Four(_) => (ethernet::ETHERTYPE_IPV4, l4::PROTO_ICMP),
    };
    if ctx.outbox.room() > 0 {
        ctx.counters.add(Counter::IcmpErrorsSent, 1);
    }
    ctx.send(packet, egress);
}
