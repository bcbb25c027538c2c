//! ICMP errors about spliced segments, from routers on one side for the end on the other (RFC 7915 4.2, 5.2).
//!
//! ```text
//!  IP | ICMP 8 | IP and TCP of the segment in error, as the other end sent them: numbers shifted back
//! ```
//! The end believes an error only if it is about something that it has in flight (RFC 5927 4.1): so is it looked at
//! here, and the numbers inside are the end's own again. No error ends a connection or keeps one alive.
//!
//! Not handled: extensions behind the datagram (RFC 4884), which are left out; and errors about fragments.

use super::rewrite::{self, Shift, Side, head4};
use super::{Splice, mtu_of, own_address, plausible, seq_end};
use crate::State;
use causeway_core::{Counter, Ctx, DropReason, Egress, Frame, FrameSource, IfId, Packet, Verdict};
use causeway_flowtable::{Guard, InsideKey, Kind, OutsideKey, Session};
use causeway_wire::ipv6::{self, Ipv6Repr};
use causeway_wire::l4::{self, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, icmp, tcp};
use causeway_wire::{be16, be32, checksum, ethernet, ipv4, put16, put32};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The most octets of an ICMP error (RFC 1812 4.3.2.3).
const MAX_V4: usize = 576;
/// Octets of the buffer that errors are put together in: the least IPv6 MTU (RFC 4443 2.4(c)).
pub(super) const SCRATCH: usize = ipv6::MIN_MTU;
/// See [`SCRATCH`].
pub(super) type Scratch = [u8; SCRATCH];
/// Plateaus of RFC 1191 7, for routers that name no MTU.
const PLATEAUS: [u16; 10] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68];

/// Whose an ICMP error is.
#[derive(Debug)]
pub enum Whose<'g> {
    /// It is about a spliced connection, and this became of it.
    Spliced(Verdict),
    /// It is about a connection that is still terminated, and its segment with this sequence number.
    Peek(Session<'g>, u32),
    /// About no connection of ours.
    Nobodys,
}

/// The datagram in an error, as far as it names a connection.
#[derive(Debug, Clone, Copy)]
struct About {
    /// Addresses; IPv4 in the low 32 bits.
    src: u128,
    dst: u128,
    src_port: u16,
    dst_port: u16,
    seq: u32,
    /// Where TCP begins, in all of the packet, and its octets that are there.
    tcp: usize,
    there: usize,
    /// Octets of TCP that its header spoke of.
    upper: usize,
    class: u8,
    hops: u8,
}

/// Type, code and second word of the error for the other family.
type Message = (u8, u8, u32);

impl Splice {
    /// An ICMP error of the IPv4 side: about a segment to a client, for its server.
    pub fn error4<'g, F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &'g Guard<'_>,
        packet: &mut Packet<F>,
    ) -> Whose<'g> {
        let (at, about) = match read4(packet.bytes()) {
            Ok(Some(found)) => found,
            Ok(None) => return Whose::Nobodys,
            Err(reason) => return Whose::Spliced(Verdict::Drop(reason)),
        };
        #[expect(clippy::cast_possible_truncation, reason = "IPv4 addresses")]
        let key = OutsideKey {
            out4: about.src as u32,
            remote4: about.dst as u32,
            out_port: about.src_port,
            remote_port: about.dst_port,
            protocol: PROTO_TCP,
        };
        // A port map's is NAT64's, at the same addresses.
        let Some(session) = guard.lookup(&key).hit().filter(|s| s.kind() == Kind::Spliced) else {
            return Whose::Nobodys;
        };
        if session.ctl().state() == State::Peek as u8 {
            return Whose::Peek(session, about.seq);
        }
        Whose::Spliced(match self.tell_server(ctx, &session, packet, at, &about) {
            Ok(egress) => {
                ctx.counters.add(Counter::SpliceIcmpPassed, 1);
                Verdict::Forward { egress }
            }
            Err(reason) => Verdict::Drop(reason),
        })
    }

    /// An ICMPv6 error of the IPv6 side: about a segment to a server, for its client.
    pub fn error6<'g, F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &'g Guard<'_>,
        packet: &mut Packet<F>,
    ) -> Whose<'g> {
        let (at, about) = match read6(packet.bytes()) {
            Ok(Some(found)) => found,
            Ok(None) => return Whose::Nobodys,
            Err(reason) => return Whose::Spliced(Verdict::Drop(reason)),
        };
        let Some((prefix, dst4)) = super::number_of(&self.config, Ipv6Addr::from_bits(about.src)) else {
            return Whose::Nobodys;
        };
        let key = InsideKey {
            src6: about.dst,
            dst4,
            src_port: about.dst_port,
            dst_port: about.src_port,
            protocol: PROTO_TCP,
            prefix,
        };
        // A health check's is not told of: it has a time of its own to succeed in.
        let Some(session) = guard.lookup(&key).hit().filter(|s| s.kind() == Kind::Spliced) else {
            return Whose::Nobodys;
        };
        if session.ctl().state() == State::Peek as u8 {
            return Whose::Peek(session, about.seq);
        }
        Whose::Spliced(match self.tell_client(ctx, &session, packet, at, &about) {
            Ok(egress) => {
                ctx.counters.add(Counter::SpliceIcmpPassed, 1);
                Verdict::Forward { egress }
            }
            Err(reason) => Verdict::Drop(reason),
        })
    }

    /// Puts an ICMPv6 error for the server in place of an ICMP error.
    fn tell_server<F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &Ctx<'_, S>,
        session: &Session<'_>,
        packet: &mut Packet<F>,
        at: usize,
        about: &About,
    ) -> Result<Egress, DropReason> {
        const INNER: usize = ipv6::HEADER + icmp::HEADER;
        let line = session.spliced().ok_or(DropReason::SpliceIcmpBad)?;
        // What the client was told in the server's name is shifted: back.
        let shift = Shift::of(line, Side::Server).back();
        check(about, shift, seq_end(line, Side::Server))?;
        let server = session.src6();
        let own = own_address(&self.config, session.prefix(), session.remote4());
        let own = own.ok_or(DropReason::SpliceSourceGone)?;
        let egress = ctx.routes.lookup6(Ipv6Addr::from_bits(server)).ok_or(DropReason::NoRoute)?;
        let b = packet.bytes();
        let head =
            b.get(at..).and_then(|b| b.first_chunk::<{ icmp::HEADER }>()).ok_or(DropReason::SpliceIcmpBad)?;
        let mtus = Mtus { v6: mtu_of(ctx, egress.interface()), v4: mtu_in(ctx, packet.meta.ingress) };
        let (kind, code, word) = message_to_v6(head, about.upper + ipv4::HEADER, mtus)?;
        let (class, hops) = (b[ipv4::TOS], hops(b[ipv4::TTL], packet.meta.hop_done)?);
        let upper = b.get(about.tcp..about.tcp + about.there).ok_or(DropReason::SpliceIcmpBad)?;

        let out = &mut self.scratch;
        let end = quote(out, INNER + ipv6::HEADER, SCRATCH, upper);
        let ports = (session.src_port(), session.dst_port());
        fix(&mut out[INNER + ipv6::HEADER..end], shift, ports, !session.checksum_delta());
        let inner = Ipv6Repr {
            src: Ipv6Addr::from_bits(server),
            dst: Ipv6Addr::from_bits(own),
            next_header: PROTO_TCP,
            hop_limit: about.hops,
            traffic_class: about.class,
            flow_label: 0,
            payload_octets: about.upper.min(65_535),
        };
        inner.emit(&mut out[INNER..]).map_err(|_| DropReason::SpliceIcmpBad)?;
        let outer = Ipv6Repr {
            // The router has no IPv6 address: the error comes from the end that the server speaks to.
            src: Ipv6Addr::from_bits(own),
            dst: Ipv6Addr::from_bits(server),
            next_header: PROTO_ICMPV6,
            hop_limit: hops,
            traffic_class: class,
            flow_label: 0,
            payload_octets: end - ipv6::HEADER,
        };
        outer.emit(out).map_err(|_| DropReason::SpliceIcmpBad)?;
        head_of(&mut out[ipv6::HEADER..], (kind, code, word));
        let octets = u32::try_from(end - ipv6::HEADER).unwrap_or(0);
        let pseudo = checksum::pseudo6(outer.src, outer.dst, PROTO_ICMPV6, octets);
        let sum = !checksum::fold(checksum::sum(&out[ipv6::HEADER..end], pseudo));
        put16(out, ipv6::HEADER + icmp::CHECKSUM, sum);
        replace(packet, &out[..end])?;
        let m = &mut packet.meta;
        (m.ethertype, m.protocol, m.l4) = (ethernet::ETHERTYPE_IPV6, PROTO_ICMPV6, 40);
        Ok(egress)
    }

    /// Puts an ICMP error for the client in place of an ICMPv6 error.
    fn tell_client<F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &Ctx<'_, S>,
        session: &Session<'_>,
        packet: &mut Packet<F>,
        at: usize,
        about: &About,
    ) -> Result<Egress, DropReason> {
        const INNER: usize = ipv4::HEADER + icmp::HEADER;
        let line = session.spliced().ok_or(DropReason::SpliceIcmpBad)?;
        let shift = Shift::of(line, Side::Client).back();
        check(about, shift, seq_end(line, Side::Client))?;
        let (client, own) = (session.remote4(), session.out4());
        let egress = ctx.routes.lookup4(Ipv4Addr::from_bits(client)).ok_or(DropReason::NoRoute)?;
        let b = packet.bytes();
        let head =
            b.get(at..).and_then(|b| b.first_chunk::<{ icmp::HEADER }>()).ok_or(DropReason::SpliceIcmpBad)?;
        let mtus = Mtus { v6: mtu_in(ctx, packet.meta.ingress), v4: mtu_of(ctx, egress.interface()) };
        let (kind, code, word) = message_to_v4(head, mtus)?;
        let (class, hops) = ((b[0] << 4) | (b[1] >> 4), hops(b[ipv6::HOP_LIMIT], packet.meta.hop_done)?);
        let upper = b.get(about.tcp..about.tcp + about.there).ok_or(DropReason::SpliceIcmpBad)?;

        let out = &mut self.scratch;
        let end = quote(out, INNER + ipv4::HEADER, MAX_V4, upper);
        let ports = (session.remote_port(), session.out_port());
        fix(&mut out[INNER + ipv4::HEADER..end], shift, ports, session.checksum_delta());
        let total = about.upper + ipv4::HEADER;
        let octets = u16::try_from(total).unwrap_or(u16::MAX);
        // The client's segments may not be fragmented (RFC 1191 3), or it would not have heard of this.
        let inner = out[INNER..].first_chunk_mut().ok_or(DropReason::SpliceIcmpBad)?;
        head4(inner, (about.class, octets, 0, ipv4::DF), (about.hops, PROTO_TCP), (client, own));
        head_of(&mut out[ipv4::HEADER..], (kind, code, word));
        let sum = checksum::checksum(&out[ipv4::HEADER..end]);
        put16(out, ipv4::HEADER + icmp::CHECKSUM, sum);
        let octets = u16::try_from(end).unwrap_or(u16::MAX);
        self.id = self.id.wrapping_add(1);
        let outer = out.first_chunk_mut().ok_or(DropReason::SpliceIcmpBad)?;
        head4(outer, (class, octets, self.id, rewrite::df(end)), (hops, PROTO_ICMP), (own, client));
        replace(packet, &out[..end])?;
        let m = &mut packet.meta;
        (m.ethertype, m.protocol, m.l4) = (ethernet::ETHERTYPE_IPV4, PROTO_ICMP, 20);
        Ok(egress)
    }
}

/// Hop limit or TTL of what is passed on.
fn hops(hops: u8, done: bool) -> Result<u8, DropReason> {
    match (done, hops) {
        (true, _) => Ok(hops),
        // RFC 8200 3, RFC 1812 5.3.1; nothing is told about an error (RFC 4443 2.4(e.1)).
        (false, 0 | 1) => Err(DropReason::HopLimit),
        (false, _) => Ok(hops - 1),
    }
}

/// RFC 5927 4.1: the segment inside has to be one that the end may have in flight. `seen` is in the end's own numbers.
fn check(about: &About, back: Shift, seen: &std::sync::atomic::AtomicU32) -> Result<(), DropReason> {
    let seq = about.seq.wrapping_add(back.seq);
    let seen = seen.load(std::sync::atomic::Ordering::Relaxed);
    if plausible(seq, seen) { Ok(()) } else { Err(DropReason::SpliceIcmpForged) }
}

/// MTU of the link that an error came by.
fn mtu_in<S: FrameSource>(ctx: &Ctx<'_, S>, ingress: IfId) -> u16 {
    ctx.interfaces.get(ingress).map_or(u16::MAX, |i| i.mtu)
}

/// Copies what is there of a segment to `at`, so that nothing goes beyond `max`; gives the end.
fn quote(out: &mut Scratch, at: usize, max: usize, upper: &[u8]) -> usize {
    let n = upper.len().min(max - at);
    out[at..at + n].copy_from_slice(&upper[..n]);
    at + n
}

/// Gives the quoted segment the ports and numbers that the end knows it by, as far as it is there.
fn fix(b: &mut [u8], shift: Shift, ports: (u16, u16), delta: u16) {
    let header = b.get(tcp::DATA_OFFSET).map_or(0, |o| usize::from(o >> 4) * 4);
    let whole = header >= tcp::HEADER && header <= b.len();
    if whole && shift.apply(b, header, ports, delta).is_ok() {
        return;
    }
    // RFC 792: eight octets are there at least; with less than a header nobody can check more.
    put32(b, 0, u32::from(ports.0) << 16 | u32::from(ports.1));
    if !whole {
        let seq = be32(b, tcp::SEQ);
        put32(b, tcp::SEQ, seq.wrapping_add(shift.seq));
    }
}

/// Writes an ICMP header without checksum.
fn head_of(b: &mut [u8], (kind, code, word): Message) {
    b[icmp::TYPE] = kind;
    b[icmp::CODE] = code;
    put16(b, icmp::CHECKSUM, 0);
    put32(b, 4, word);
}

/// MTUs of the links that an error speaks for, in octets.
#[derive(Debug, Clone, Copy)]
struct Mtus {
    v6: u16,
    v4: u16,
}

/// RFC 7915 4.2: type, code and second word for IPv6. `total` octets had the packet in error.
fn message_to_v6(h: &[u8; icmp::HEADER], total: usize, mtus: Mtus) -> Result<Message, DropReason> {
    const UNREACHABLE: u8 = icmp::V6_DST_UNREACHABLE;
    Ok(match (h[icmp::TYPE], h[icmp::CODE]) {
        (icmp::V4_DST_UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => (UNREACHABLE, 0, 0),
        // The protocol is not served: the next header field of the packet inside is unknown.
        (icmp::V4_DST_UNREACHABLE, 2) => (icmp::V6_PARAM_PROBLEM, 1, 6),
        (icmp::V4_DST_UNREACHABLE, 3) => (UNREACHABLE, 4, 0),
        (icmp::V4_DST_UNREACHABLE, 4) => {
            let stated = be16(h, 6);
            // RFC 1191 5: a router that names none means the next plateau below.
            let below = || PLATEAUS.into_iter().find(|p| usize::from(*p) < total).unwrap_or(68);
            let mtu = u32::from(if stated == 0 { below() } else { stated }) + 20;
            let mtu = mtu.min(u32::from(mtus.v6)).min(u32::from(mtus.v4) + 20);
            // RFC 8200 5: no link of IPv6 is narrower; smaller packets than that may be fragmented as IPv4.
            (icmp::V6_PACKET_TOO_BIG, 0, mtu.max(1280))
        }
        (icmp::V4_DST_UNREACHABLE, 9 | 10 | 13 | 15) => (UNREACHABLE, 1, 0),
        (icmp::V4_TIME_EXCEEDED, code @ 0..=1) => (icmp::V6_TIME_EXCEEDED, code, 0),
        _ => return Err(DropReason::SpliceIcmpType),
    })
}

/// RFC 7915 5.2: type, code and second word for IPv4.
fn message_to_v4(h: &[u8; icmp::HEADER], mtus: Mtus) -> Result<Message, DropReason> {
    const UNREACHABLE: u8 = icmp::V4_DST_UNREACHABLE;
    Ok(match (h[icmp::TYPE], h[icmp::CODE]) {
        (icmp::V6_DST_UNREACHABLE, 0 | 2 | 3 | 5 | 6) => (UNREACHABLE, 1, 0),
        (icmp::V6_DST_UNREACHABLE, 1) => (UNREACHABLE, 10, 0),
        (icmp::V6_DST_UNREACHABLE, 4) => (UNREACHABLE, 3, 0),
        (icmp::V6_PACKET_TOO_BIG, _) => {
            let mtu = be32(h, 4).min(u32::from(mtus.v6)).saturating_sub(20).min(u32::from(mtus.v4));
            // RFC 8201 4: what says less than IPv6's least is not believed.
            (UNREACHABLE, 4, mtu.max(1260))
        }
        (icmp::V6_TIME_EXCEEDED, code @ 0..=1) => (icmp::V4_TIME_EXCEEDED, code, 0),
        // An unknown next header: the protocol is not served.
        (icmp::V6_PARAM_PROBLEM, 1) => (UNREACHABLE, 2, 0),
        _ => return Err(DropReason::SpliceIcmpType),
    })
}

/// Reads an ICMP error: where ICMP begins, and what it is about. Nothing if it is no error about TCP.
fn read4(b: &[u8]) -> Result<Option<(usize, About)>, DropReason> {
    let Some(h) = b.first_chunk::<{ ipv4::HEADER }>() else { return Ok(None) };
    let at = usize::from(h[0] & 0x0f) * 4;
    let fragment = be16(h, ipv4::FRAG) & (ipv4::MF | ipv4::OFFSET_MASK) != 0;
    if h[0] >> 4 != 4 || at < ipv4::HEADER || h[ipv4::PROTO] != PROTO_ICMP || fragment {
        return Ok(None);
    }
    let body = b.get(at..).unwrap_or(&[]);
    if !matches!(
        body.first(),
        Some(&(icmp::V4_DST_UNREACHABLE | icmp::V4_TIME_EXCEEDED | icmp::V4_PARAM_PROBLEM))
    ) {
        return Ok(None);
    }
    let inner = at + icmp::HEADER;
    let Some(ip) = b.get(inner..).and_then(|b| b.first_chunk::<{ ipv4::HEADER }>()) else {
        return Err(DropReason::SpliceIcmpBad);
    };
    let head = usize::from(ip[0] & 0x0f) * 4;
    if ip[0] >> 4 != 4 || head < ipv4::HEADER || be16(ip, ipv4::FRAG) & ipv4::OFFSET_MASK != 0 {
        return Err(DropReason::SpliceIcmpBad);
    }
    if ip[ipv4::PROTO] != PROTO_TCP {
        return Ok(None);
    }
    if checksum::fold(checksum::sum(body, 0)) != 0xffff {
        return Err(DropReason::SpliceIcmpBad);
    }
    // RFC 4884 4.2: with extensions the datagram has this many words of 32 bits.
    let end = match usize::from(body[5]) * 4 {
        0 => b.len(),
        n => (inner + n).min(b.len()),
    };
    let upper = usize::from(be16(ip, ipv4::TOTAL_LEN)).saturating_sub(head);
    let (src, dst) = (be32(ip, ipv4::SRC), be32(ip, ipv4::DST));
    let (tcp, class, hops) = (inner + head, ip[ipv4::TOS], ip[ipv4::TTL]);
    let about = about(b, (u128::from(src), u128::from(dst)), (tcp, end), upper, (class, hops))?;
    // The packet inside came from where the error goes.
    if be32(h, ipv4::DST) != src {
        return Ok(None);
    }
    Ok(Some((at, about)))
}

/// Reads an ICMPv6 error, as [`read4`] does.
fn read6(b: &[u8]) -> Result<Option<(usize, About)>, DropReason> {
    let Some(h) = b.first_chunk::<{ ipv6::HEADER }>() else { return Ok(None) };
    if h[0] >> 4 != 6 {
        return Ok(None);
    }
    let Ok(walk) = ipv6::walk(b, h[ipv6::NEXT_HEADER]) else { return Ok(None) };
    let at = walk.at;
    let body = b.get(at..).unwrap_or(&[]);
    if walk.protocol != PROTO_ICMPV6 || walk.fragment.is_some() || !matches!(body.first(), Some(1..=127)) {
        return Ok(None);
    }
    let inner = at + icmp::HEADER;
    let datagram = b.get(inner..).unwrap_or(&[]);
    let Some(ip) = datagram.first_chunk::<{ ipv6::HEADER }>() else { return Err(DropReason::SpliceIcmpBad) };
    // We send no extension headers.
    if ip[0] >> 4 != 6 || ip[ipv6::NEXT_HEADER] != PROTO_TCP {
        return Ok(None);
    }
    let (outer_src, outer_dst) = (ipv6::addr(h, ipv6::SRC), ipv6::addr(h, ipv6::DST));
    let octets = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let pseudo = checksum::pseudo6(outer_src, outer_dst, PROTO_ICMPV6, octets);
    if checksum::fold(checksum::sum(body, pseudo)) != 0xffff {
        return Err(DropReason::SpliceIcmpBad);
    }
    // RFC 4884 4.1: with extensions the datagram has this many words of 64 bits.
    let stated = match body[icmp::TYPE] {
        icmp::V6_DST_UNREACHABLE | icmp::V6_TIME_EXCEEDED => usize::from(body[4]) * 8,
        _ => 0,
    };
    let end = if stated == 0 { b.len() } else { (inner + stated).min(b.len()) };
    let (src, dst) = (ipv6::addr(ip, ipv6::SRC).to_bits(), ipv6::addr(ip, ipv6::DST).to_bits());
    let upper = usize::from(be16(ip, ipv6::PAYLOAD_LEN));
    let ends = (inner + ipv6::HEADER, end);
    let about = about(b, (src, dst), ends, upper, ((ip[0] << 4) | (ip[1] >> 4), ip[ipv6::HOP_LIMIT]))?;
    if outer_dst.to_bits() != src {
        return Ok(None);
    }
    Ok(Some((at, about)))
}

/// The start of the TCP header inside, at `tcp` and before `end`.
fn about(
    b: &[u8],
    (src, dst): (u128, u128),
    (tcp, end): (usize, usize),
    upper: usize,
    (class, hops): (u8, u8),
) -> Result<About, DropReason> {
    let there = b.get(tcp..end.max(tcp)).unwrap_or(&[]);
    // No more than the packet had: what is behind it is padding.
    let there = &there[..there.len().min(upper)];
    // RFC 792, RFC 1122 3.2.2: eight octets of the upper layer are there at least.
    let h = there.first_chunk::<8>().ok_or(DropReason::SpliceIcmpBad)?;
    Ok(About {
        src,
        dst,
        src_port: be16(h, l4::SRC_PORT),
        dst_port: be16(h, l4::DST_PORT),
        seq: be32(h, tcp::SEQ),
        tcp,
        there: there.len(),
        upper,
        class,
        hops,
    })
}

/// Puts `octets` in place of all octets of the packet.
fn replace<F: Frame>(packet: &mut Packet<F>, octets: &[u8]) -> Result<(), DropReason> {
    let have = packet.frame.octets();
    if have > octets.len() {
        packet.frame.truncate(octets.len());
    } else if packet.frame.push_back(octets.len() - have).is_err() {
        packet.frame.push_front(octets.len() - have).map_err(|_| DropReason::NoHeadroom)?;
    }
    let b = packet.frame.bytes_mut().get_mut(..octets.len()).ok_or(DropReason::NoHeadroom)?;
    b.copy_from_slice(octets);
    packet.meta.fragment = false;
    packet.meta.hop_done = true;
    Ok(())
}

#[cfg(test)]
mod tests;
