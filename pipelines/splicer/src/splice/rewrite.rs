//! One TCP connection's segment becomes the other's: headers, numbers, options, window, checksum.
//!
//! ```text
//!            IPv4 20 | TCP: ports, seq + a, ack - b, window * 2^n, [TSval + c, TSecr - d], [SACK edges - b]
//!  IPv6           40 | TCP ...                                         (the payload is not touched, nothing moves)
//! ```
//! Not handled here: fragments, which are nobody's; and MSS options, which only SYNs have (RFC 9293 3.7.1).

use causeway_core::{DropReason, Frame, Packet};
use causeway_flowtable::{InsideKey, OutsideKey, Spliced};
use causeway_wire::ipv6::{self, next_header};
use causeway_wire::l4::{self, PROTO_TCP, tcp};
use causeway_wire::{be16, be32, checksum, ethernet, ipv4, put16, put32};
use std::sync::atomic::{AtomicU32, Ordering};

/// RFC 7915 5.1: results up to this size may be fragmented on their way.
const DF_CLEAR_OCTETS: usize = 1260;

/// Options in use on a connection, as octet 1 of [`Spliced::state`] has them.
pub(crate) mod options {
    /// Both ends send selective acknowledgements (RFC 2018).
    pub(crate) const SACK: u8 = 1;
    /// The client may send them, and the server does not know them.
    pub(crate) const SACK_BLANK: u8 = 2;
    /// Both ends send timestamps (RFC 7323 3).
    pub(crate) const TIMESTAMPS: u8 = 4;
}

/// Which end a segment comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client, by IPv4.
    Client,
    /// The server, by IPv6.
    Server,
}

/// A TCP segment, as far as the splice needs it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Segment {
    /// Source and destination; IPv4 addresses in the low 32 bits.
    pub(crate) src: u128,
    pub(crate) dst: u128,
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    /// Where TCP begins, and octets of its header.
    pub(crate) l4: usize,
    pub(crate) header: usize,
    pub(crate) class: u8,
    pub(crate) hops: u8,
    /// IPv4: may not be fragmented.
    pub(crate) df: bool,
    pub(crate) flags: u8,
    pub(crate) seq: u32,
}

/// What is the matter with a packet that is no segment to be rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Not {
    /// Something else, for others to look at: another protocol, a fragment.
    Ours,
    /// To be dropped.
    Good(DropReason),
}

const BAD: Not = Not::Good(DropReason::SpliceBadSegment);

impl Segment {
    /// The connection's key, of a segment from a client.
    #[inline(always)]
    pub(crate) const fn outside(&self) -> OutsideKey {
        OutsideKey {
            out4: self.dst as u32,
            remote4: self.src as u32,
            out_port: self.dst_port,
            remote_port: self.src_port,
            protocol: PROTO_TCP,
        }
    }

    /// The connection's key, of a segment from a server to own address `prefix` (see [`InsideKey::prefix`]).
    #[inline(always)]
    pub(crate) const fn inside(&self, (prefix, dst4): (u8, u32)) -> InsideKey {
        InsideKey {
            src6: self.src,
            dst4,
            src_port: self.src_port,
            dst_port: self.dst_port,
            protocol: PROTO_TCP,
            prefix,
        }
    }
}

/// Reads an IPv4 packet into `p`, which is all default. Its frame has exactly the octets of the packet, and the
/// header's checksum was found right.
#[inline(always)]
pub(crate) fn parse4<F: Frame>(packet: &Packet<F>, p: &mut Segment) -> Result<(), Not> {
    let b = packet.bytes();
    let Some(h) = b.first_chunk::<{ ipv4::HEADER }>() else {
        return Err(Not::Good(DropReason::Ip4Truncated));
    };
    p.l4 = usize::from(h[0] & 0x0f) * 4;
    if h[0] >> 4 != 4 || b.len() != usize::from(be16(h, ipv4::TOTAL_LEN)) {
        return Err(Not::Good(DropReason::Ip4Truncated));
    }
    let field = be16(h, ipv4::FRAG);
    if h[ipv4::PROTO] != PROTO_TCP || field & (ipv4::MF | ipv4::OFFSET_MASK) != 0 {
        return Err(Not::Ours);
    }
    if p.l4 != ipv4::HEADER {
        ip_options(b, p.l4)?;
    }
    p.src = u128::from(be32(h, ipv4::SRC));
    p.dst = u128::from(be32(h, ipv4::DST));
    p.class = h[ipv4::TOS];
    p.hops = h[ipv4::TTL];
    p.df = field & ipv4::DF != 0;
    segment(b.get(p.l4..).unwrap_or(&[]), p)
}

/// Reads an IPv6 packet into `p`, which is all default. Its frame has exactly the octets of the packet.
#[inline(always)]
pub(crate) fn parse6<F: Frame>(packet: &Packet<F>, p: &mut Segment) -> Result<(), Not> {
    let b = packet.bytes();
    let Some(h) = b.first_chunk::<{ ipv6::HEADER }>() else {
        return Err(Not::Good(DropReason::Ip6Truncated));
    };
    if h[0] >> 4 != 6 || b.len() != ipv6::HEADER + usize::from(be16(h, ipv6::PAYLOAD_LEN)) {
        return Err(Not::Good(DropReason::Ip6Truncated));
    }
    p.l4 = ipv6::HEADER;
    if h[ipv6::NEXT_HEADER] != PROTO_TCP {
        p.l4 = extensions(b, h[ipv6::NEXT_HEADER])?;
    }
    p.src = addr(h, ipv6::SRC);
    p.dst = addr(h, ipv6::DST);
    p.class = (h[0] << 4) | (h[1] >> 4);
    p.hops = h[ipv6::HOP_LIMIT];
    segment(b.get(p.l4..).unwrap_or(&[]), p)
}

/// The address at `at`, as a number.
#[inline(always)]
fn addr(h: &[u8; ipv6::HEADER], at: usize) -> u128 {
    let half = |at: usize| h[at..at + 8].try_into().map_or(0, u64::from_be_bytes);
    u128::from(half(at)) << 64 | u128::from(half(at + 8))
}

/// Reads the TCP header.
#[inline(always)]
fn segment(b: &[u8], p: &mut Segment) -> Result<(), Not> {
    let Some(h) = b.first_chunk::<{ tcp::HEADER }>() else { return Err(BAD) };
    p.header = usize::from(h[tcp::DATA_OFFSET] >> 4) * 4;
    if p.header < tcp::HEADER || p.header > b.len() {
        return Err(BAD);
    }
    p.src_port = be16(h, l4::SRC_PORT);
    p.dst_port = be16(h, l4::DST_PORT);
    p.flags = h[tcp::FLAGS];
    p.seq = be32(h, tcp::SEQ);
    Ok(())
}

/// Where TCP begins behind extension headers. Hop-by-hop and destination options are skipped, as a translator does
/// (RFC 7915 5.1); fragments are not ours.
#[cold]
fn extensions(b: &[u8], next: u8) -> Result<usize, Not> {
    let w = ipv6::walk(b, next).map_err(|_| Not::Good(DropReason::Ip6BadExtension))?;
    if w.protocol != PROTO_TCP || w.fragment.is_some() {
        return Err(Not::Ours);
    }
    if w.segments_left_at.is_some() {
        return Err(Not::Good(DropReason::SpliceSourceRoute));
    }
    // RFC 4302: what an authentication header protects does not survive another address.
    let mut at = ipv6::HEADER;
    let mut kind = next;
    while at < w.at {
        if kind == next_header::AUTH {
            return Err(Not::Ours);
        }
        let Some(h) = b.get(at..at + 2) else { return Err(BAD) };
        kind = h[0];
        at += (usize::from(h[1]) + 1) * 8;
    }
    Ok(w.at)
}

/// IPv4 options are skipped (RFC 7915 4.1), but for a source route that has not run out.
#[cold]
fn ip_options(b: &[u8], header: usize) -> Result<(), Not> {
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    let bad = Not::Good(DropReason::Ip4BadLength);
    let mut rest = b.get(ipv4::HEADER..header).ok_or(bad)?;
    loop {
        match *rest {
            [] | [0, ..] => return Ok(()),
            [1, ..] => rest = &rest[1..],
            [kind, octets, ..] if octets >= 2 && usize::from(octets) <= rest.len() => {
                // RFC 791 3.1: a pointer beyond the length means that the route has run out.
                if (kind == LOOSE || kind == STRICT) && rest.get(2).is_none_or(|pointer| *pointer <= octets) {
                    return Err(Not::Good(DropReason::SpliceSourceRoute));
                }
                rest = &rest[usize::from(octets)..];
            }
            _ => return Err(bad),
        }
    }
}

/// How one direction's segments change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    /// Added to the sequence number.
    pub(crate) seq: u32,
    /// Taken from the acknowledgement number and from SACK edges.
    pub(crate) ack: u32,
    /// Added to the timestamp value.
    pub(crate) ts: u32,
    /// Taken from the timestamp echo.
    pub(crate) echo: u32,
    /// By how many bits windows go left; right if negative.
    pub(crate) scale: i8,
    /// See [`options`].
    pub(crate) options: u8,
}

impl Shift {
    /// That of segments from `side`.
    #[inline(always)]
    pub(crate) fn of(line: &Spliced, side: Side) -> Self {
        let get = |n: &AtomicU32| n.load(Ordering::Relaxed);
        let [from_client, to_client, from_server, to_server] = get(&line.window_scales).to_le_bytes();
        let [_, options, ..] = get(&line.state).to_le_bytes();
        let (client, server) = (get(&line.client_seq_delta), get(&line.server_seq_delta));
        let (client_ts, server_ts) = (get(&line.client_ts_delta), get(&line.server_ts_delta));
        match side {
            Side::Client => Self {
                seq: client,
                ack: server,
                ts: client_ts,
                echo: server_ts,
                scale: from_client.wrapping_sub(to_server).cast_signed(),
                options,
            },
            Side::Server => Self {
                seq: server,
                ack: client,
                ts: server_ts,
                echo: client_ts,
                scale: from_server.wrapping_sub(to_client).cast_signed(),
                options,
            },
        }
    }

    /// What leads back, for what an ICMP error quotes. Windows that lost bits do not get them back.
    pub(crate) const fn back(self) -> Self {
        Self {
            seq: self.seq.wrapping_neg(),
            ack: self.ack.wrapping_neg(),
            ts: self.ts.wrapping_neg(),
            echo: self.echo.wrapping_neg(),
            scale: -self.scale,
            options: self.options & !options::SACK_BLANK,
        }
    }

    /// Rewrites the TCP header of `header` octets at the start of `b`, with the ports that it gets. `delta` is what
    /// the checksum gains by addresses and ports ([`checksum::delta`]).
    ///
    /// # Errors
    /// The options contradict their lengths. The header is then partly rewritten.
    #[inline(always)]
    pub(crate) fn apply(
        self,
        b: &mut [u8],
        header: usize,
        (src, dst): (u16, u16),
        delta: u16,
    ) -> Result<(), DropReason> {
        let (h, opts) = b
            .get_mut(..header)
            .and_then(|b| b.split_first_chunk_mut::<{ tcp::HEADER }>())
            .ok_or(DropReason::SpliceBadSegment)?;
        let flags = h[tcp::FLAGS];
        let mut sums = Sums { old: 0, new: u64::from(delta) };
        put32(h, 0, u32::from(src) << 16 | u32::from(dst));
        let seq = be32(h, tcp::SEQ);
        put32(h, tcp::SEQ, sums.even(seq, seq.wrapping_add(self.seq)));
        if flags & tcp::ACK != 0 {
            let ack = be32(h, tcp::ACK_NO);
            put32(h, tcp::ACK_NO, sums.even(ack, ack.wrapping_sub(self.ack)));
        }
        // RFC 7323 2.2: the window of a SYN is never scaled.
        if self.scale != 0 && flags & tcp::SYN == 0 {
            let window = be16(h, tcp::WINDOW);
            let new = rescale(window, self.scale);
            sums.even(u32::from(window), u32::from(new));
            put16(h, tcp::WINDOW, new);
        }
        match opts {
            [] => {}
            // As nearly all do it (RFC 7323 appendix A).
            [1, 1, 8, 10, stamps @ ..] if stamps.len() == 8 => self.stamps(stamps, flags, false, &mut sums),
            _ => self.options(opts, flags, &mut sums)?,
        }
        let sum = be16(h, tcp::CHECKSUM);
        put16(h, tcp::CHECKSUM, checksum::apply(sum, checksum::delta(sums.old, sums.new)));
        Ok(())
    }

    /// Timestamps: value and echo (RFC 7323 3.2). `odd` if they begin at an odd octet of the header.
    #[inline(always)]
    fn stamps(self, b: &mut [u8], flags: u8, odd: bool, sums: &mut Sums) {
        if self.options & options::TIMESTAMPS == 0 || b.len() < 8 {
            return;
        }
        let value = be32(b, 0);
        put32(b, 0, sums.word(value, value.wrapping_add(self.ts), odd));
        // The echo is only valid with an ACK.
        if flags & tcp::ACK != 0 {
            let echo = be32(b, 4);
            put32(b, 4, sums.word(echo, echo.wrapping_sub(self.echo), odd));
        }
    }

    /// All options, one after another. They begin at an even octet of the header.
    #[inline(never)]
    fn options(self, b: &mut [u8], flags: u8, sums: &mut Sums) -> Result<(), DropReason> {
        const SACK: u8 = 5;
        const STAMPS: u8 = 8;
        let mut at = 0;
        // RFC 9293 3.1: kind 0 ends the list, kind 1 is one octet of nothing.
        while let Some(&kind) = b.get(at).filter(|kind| **kind != 0) {
            if kind == 1 {
                at += 1;
                continue;
            }
            let octets = b.get(at + 1).copied().map_or(0, usize::from);
            let option =
                b.get_mut(at..at + octets).filter(|o| o.len() >= 2).ok_or(DropReason::SpliceBadSegment)?;
            let odd = at % 2 != 0;
            match kind {
                STAMPS if octets == 10 => self.stamps(&mut option[2..], flags, odd, sums),
                SACK if self.options & options::SACK != 0 => {
                    for edge in option[2..].chunks_exact_mut(4) {
                        let n = be32(edge, 0);
                        put32(edge, 0, sums.word(n, n.wrapping_sub(self.ack), odd));
                    }
                }
                SACK if self.options & options::SACK_BLANK != 0 => {
                    for (i, octet) in option.iter_mut().enumerate() {
                        sums.octet(*octet, 1, (at + i) % 2 != 0);
                        *octet = 1;
                    }
                }
                _ => {}
            }
            at += octets;
        }
        Ok(())
    }
}

/// A window in the other connection's scale. What it cannot say is rounded down: a window must not promise more than
/// there is (RFC 7323 2.3). But for what would be none at all: whoever has small buffers would be sent nothing but probes
/// for ever, whereas a few octets too many are trimmed and sent again (RFC 9293 3.10.7.4).
#[inline(always)]
pub(crate) fn rescale(window: u16, scale: i8) -> u16 {
    let n = u32::from(scale.unsigned_abs()).min(15);
    if scale < 0 {
        (window >> n).max(u16::from(window != 0))
    } else {
        u16::try_from(u32::from(window) << n).unwrap_or(u16::MAX)
    }
}

/// What a checksum loses and gains, as one's-complement sums.
struct Sums {
    old: u64,
    new: u64,
}

impl Sums {
    /// A number at an even octet; gives the new one.
    #[inline(always)]
    fn even(&mut self, old: u32, new: u32) -> u32 {
        self.old += u64::from(old);
        self.new += u64::from(new);
        new
    }

    /// A number anywhere. RFC 1071 2(B): shifted by an octet, its sum has its octets swapped.
    #[inline(always)]
    fn word(&mut self, old: u32, new: u32, odd: bool) -> u32 {
        if odd {
            self.old += u64::from(checksum::fold(u64::from(old)).swap_bytes());
            self.new += u64::from(checksum::fold(u64::from(new)).swap_bytes());
            new
        } else {
            self.even(old, new)
        }
    }

    /// One octet.
    fn octet(&mut self, old: u8, new: u8, odd: bool) {
        let shift = if odd { 0 } else { 8 };
        self.old += u64::from(old) << shift;
        self.new += u64::from(new) << shift;
    }
}

/// A segment of a client, with its TCP header rewritten, gets its IPv6 header.
///
/// # Errors
/// A reason to drop it. The packet is then partly rewritten.
#[inline(always)]
pub(crate) fn to_ipv6<F: Frame>(
    packet: &mut Packet<F>,
    p: &Segment,
    src: u128,
    dst: u128,
) -> Result<(), DropReason> {
    let upper = packet.frame.octets() - p.l4;
    if p.l4 <= ipv6::HEADER {
        packet.frame.push_front(ipv6::HEADER - p.l4).map_err(|_| DropReason::NoHeadroom)?;
    } else {
        packet.frame.pull_front(p.l4 - ipv6::HEADER).map_err(|_| DropReason::Ip4Truncated)?;
    }
    let hops = if packet.meta.hop_done { p.hops } else { p.hops.saturating_sub(1) };
    let payload = u16::try_from(upper).map_err(|_| DropReason::SpliceTooBig)?;
    let b = packet.frame.bytes_mut();
    let h = b.first_chunk_mut::<{ ipv6::HEADER }>().ok_or(DropReason::Ip4Truncated)?;
    put32(h, 0, 0x6000_0000 | u32::from(p.class) << 20);
    put32(h, 4, u32::from(payload) << 16 | u32::from(PROTO_TCP) << 8 | u32::from(hops));
    h[ipv6::SRC..ipv6::SRC + 16].copy_from_slice(&src.to_be_bytes());
    h[ipv6::DST..ipv6::DST + 16].copy_from_slice(&dst.to_be_bytes());
    let m = &mut packet.meta;
    m.ethertype = ethernet::ETHERTYPE_IPV6;
    m.protocol = PROTO_TCP;
    m.l4 = 40;
    m.fragment = false;
    m.hop_done = true;
    Ok(())
}

/// Writes an IPv4 header of 20 octets with its checksum, which is made from the fields without reading the octets back.
#[inline(always)]
pub(crate) fn head4(
    h: &mut [u8; ipv4::HEADER],
    (class, octets, id, frag): (u8, u16, u16, u16),
    (hops, protocol): (u8, u8),
    (src, dst): (u32, u32),
) {
    let w0 = 0x4500_0000 | u32::from(class) << 16 | u32::from(octets);
    let w1 = u32::from(id) << 16 | u32::from(frag);
    let w2 = u32::from(hops) << 24 | u32::from(protocol) << 16;
    let sum = u64::from(w0) + u64::from(w1) + u64::from(w2) + u64::from(src) + u64::from(dst);
    put32(h, 0, w0);
    put32(h, 4, w1);
    put32(h, 8, w2 | u32::from(!checksum::fold(sum)));
    put32(h, 12, src);
    put32(h, 16, dst);
}

/// Don't Fragment of an IPv4 result of so many octets (RFC 7915 5.1): a path that is too narrow for the least IPv6
/// packet may cut it.
#[inline(always)]
pub(crate) const fn df(octets: usize) -> u16 {
    if octets > DF_CLEAR_OCTETS { ipv4::DF } else { 0 }
}

/// A segment of a server, with its TCP header rewritten, gets its IPv4 header.
///
/// # Errors
/// As [`to_ipv6`].
#[inline(always)]
pub(crate) fn to_ipv4<F: Frame>(
    packet: &mut Packet<F>,
    p: &Segment,
    src: u32,
    dst: u32,
    id: u16,
) -> Result<(), DropReason> {
    packet.frame.pull_front(p.l4 - ipv4::HEADER).map_err(|_| DropReason::Ip6Truncated)?;
    let hops = if packet.meta.hop_done { p.hops } else { p.hops.saturating_sub(1) };
    let octets = packet.frame.octets();
    let total = u16::try_from(octets).map_err(|_| DropReason::SpliceTooBig)?;
    let h = packet.frame.bytes_mut().first_chunk_mut::<{ ipv4::HEADER }>().ok_or(DropReason::Ip6Truncated)?;
    head4(h, (p.class, total, id, df(octets)), (hops, PROTO_TCP), (src, dst));
    let m = &mut packet.meta;
    m.ethertype = ethernet::ETHERTYPE_IPV4;
    m.protocol = PROTO_TCP;
    m.l4 = 20;
    m.fragment = false;
    m.hop_done = true;
    Ok(())
}
