//! Packets of our own.

use super::cookie::Pair;
use super::side::{self, Side};
use super::{Peek, Seen, low16};
use causeway_core::{Counter, Ctx, DropReason, Egress, Frame, FrameSource, Packet, Verdict};
use causeway_tcp::Head;
use causeway_tcp::options::Options;
use causeway_wire::l4::PROTO_TCP;
use causeway_wire::l4::tcp::{self, ACK, RST};
use causeway_wire::{checksum, ethernet, ipv4, l4, put16, put32};
use std::net::{IpAddr, Ipv4Addr};

impl Peek {
    /// Answers a segment of no connection with a reset (RFC 9293 3.10.7.1), if not too many were sent.
    pub(super) fn reset<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        seen: &Seen,
        why: DropReason,
    ) -> Verdict {
        if !self.resets.take(ctx.now) {
            ctx.counters.add(Counter::SpliceResetsLimited, 1);
            return Verdict::Drop(why);
        }
        let head = if seen.head.has(ACK) {
            Head { seq: seen.head.ack, ack: 0, flags: RST, window: 0 }
        } else {
            Head { seq: 0, ack: seen.end, flags: RST | ACK, window: 0 }
        };
        let mut packet = Vec::new();
        side::emit(&mut packet, &seen.ends, head, &Options::default(), &[], low16(head.seq));
        send(ctx, seen.ends.remote.ip(), &packet);
        Verdict::Drop(why)
    }
}

/// Writes a segment without data over the packet that it answers.
pub(super) fn answer_in_place<S: FrameSource>(
    ctx: &Ctx<'_, S>,
    packet: &mut Packet<S::Frame>,
    seen: &Seen,
    head: Head,
    options: &Options,
    octets: &mut Vec<u8>,
) -> Verdict {
    let Some(egress) = way(ctx, seen.ends.remote.ip()) else { return Verdict::Drop(DropReason::NoRoute) };
    side::emit(octets, &seen.ends, head, options, &[], low16(head.seq));
    let have = packet.frame.octets();
    if have < octets.len() {
        if packet.frame.push_back(octets.len() - have).is_err() {
            return Verdict::Drop(DropReason::NoHeadroom);
        }
    } else {
        packet.frame.truncate(octets.len());
    }
    packet.bytes_mut().copy_from_slice(octets);
    packet.meta.hop_done = true;
    Verdict::Forward { egress }
}

/// Writes a SYN-ACK over the SYN of a client: what [`answer_in_place`] does, for what strangers send by the million.
pub(super) fn answer_syn<S: FrameSource>(
    ctx: &Ctx<'_, S>,
    packet: &mut Packet<S::Frame>,
    pair: Pair,
    head: Head,
    options: &Options,
) -> Verdict {
    const MOST: usize = ipv4::HEADER + tcp::HEADER + 40;
    let Some(egress) = ctx.routes.lookup4(Ipv4Addr::from_bits(pair.remote4)) else {
        return Verdict::Drop(DropReason::NoRoute);
    };
    let header = tcp::HEADER + options.octets();
    let octets = ipv4::HEADER + header;
    let mut out = [0u8; MOST];
    let (ip, t) = out.split_at_mut(ipv4::HEADER);
    ip[0] = 0x45;
    put16(ip, ipv4::TOTAL_LEN, low16(u32::try_from(octets).unwrap_or(0)));
    put16(ip, ipv4::ID, low16(head.seq));
    ip[ipv4::TTL] = causeway_tcp::segment::HOP_LIMIT;
    ip[ipv4::PROTO] = PROTO_TCP;
    put32(ip, ipv4::SRC, pair.out4);
    put32(ip, ipv4::DST, pair.remote4);
    let sum = checksum::checksum(ip);
    put16(ip, ipv4::CHECKSUM, sum);
    put16(t, l4::SRC_PORT, pair.out_port);
    put16(t, l4::DST_PORT, pair.remote_port);
    put32(t, tcp::SEQ, head.seq);
    put32(t, tcp::ACK_NO, head.ack);
    t[tcp::DATA_OFFSET] = u8::try_from((header / 4) << 4).unwrap_or(0x50);
    t[tcp::FLAGS] = head.flags;
    put16(t, tcp::WINDOW, head.window);
    options.emit(&mut t[tcp::HEADER..header]);
    let length = low16(u32::try_from(header).unwrap_or(0));
    let (from, to) = (Ipv4Addr::from_bits(pair.out4), Ipv4Addr::from_bits(pair.remote4));
    let pseudo = checksum::pseudo4(from, to, PROTO_TCP, length);
    let sum = !checksum::fold(checksum::sum(&t[..header], pseudo));
    put16(t, tcp::CHECKSUM, sum);
    let have = packet.frame.octets();
    if have > octets {
        packet.frame.truncate(octets);
    } else if have < octets && packet.frame.push_back(octets - have).is_err() {
        return Verdict::Drop(DropReason::NoHeadroom);
    }
    packet.bytes_mut().copy_from_slice(&out[..octets]);
    packet.meta.hop_done = true;
    Verdict::Forward { egress }
}

/// Sends a segment of these numbers, without data or options, to the client whose packet this is.
pub(crate) fn answer_client<F: Frame, S: FrameSource<Frame = F>>(
    ctx: &mut Ctx<'_, S>,
    packet: &Packet<F>,
    head: Head,
) {
    let Ok(segment) = causeway_tcp::segment::parse(packet.bytes(), packet.meta.ingress) else { return };
    let mut octets = Vec::new();
    side::emit(&mut octets, &segment.ends, head, &Options::default(), &[], low16(head.seq));
    send(ctx, segment.ends.remote.ip(), &octets);
}

fn way<S: FrameSource>(ctx: &Ctx<'_, S>, to: IpAddr) -> Option<Egress> {
    match to {
        IpAddr::V4(a) => ctx.routes.lookup4(a),
        IpAddr::V6(a) => ctx.routes.lookup6(a),
    }
}

pub(super) fn send_reset(side: &Side, head: Head, mut send: impl FnMut(&[u8])) {
    let mut packet = Vec::new();
    side::emit(&mut packet, &side.ends, head, &Options::default(), &[], low16(head.seq));
    send(&packet);
}

pub(super) fn send4<S: FrameSource>(ctx: &mut Ctx<'_, S>, to: u32, octets: &[u8]) {
    send(ctx, IpAddr::V4(Ipv4Addr::from_bits(to)), octets);
}

pub(super) fn send6<S: FrameSource>(ctx: &mut Ctx<'_, S>, to: IpAddr, octets: &[u8]) {
    send(ctx, to, octets);
}

/// Sends a packet that is complete from its network-layer header on.
fn send<S: FrameSource>(ctx: &mut Ctx<'_, S>, to: IpAddr, octets: &[u8]) {
    let Some(egress) = way(ctx, to) else {
        ctx.counters.drop(DropReason::NoRoute);
        return;
    };
    if ctx.outbox.room() == 0 {
        ctx.counters.drop(DropReason::OutboxFull);
        return;
    }
    let Some(mut packet) = ctx.originate() else { return };
    if packet.frame.push_back(octets.len()).is_err() {
        ctx.counters.drop(DropReason::NoHeadroom);
        return;
    }
    packet.bytes_mut().copy_from_slice(octets);
    let four = to.is_ipv4();
    packet.meta.ethertype = if four { ethernet::ETHERTYPE_IPV4 } else { ethernet::ETHERTYPE_IPV6 };
    packet.meta.protocol = PROTO_TCP;
    packet.meta.l4 = if four { 20 } else { 40 };
    ctx.send(packet, egress);
}
