//! Probes: a TCP connection that was idle for its whole time is asked for a sign of life (RFC 6146 3.5.2.2,
//! ESTABLISHED).

use super::Nat64;
use crate::rfc6146::session::Probe;
use causeway_core::{Counter, Ctx, DropReason, Frame, FrameSource};
use causeway_wire::ipv6::{self, Ipv6Repr};
use causeway_wire::l4::{self, PROTO_TCP, tcp};
use causeway_wire::{checksum, ethernet, put16};
use std::net::Ipv6Addr;

/// Hop limit of a probe.
const HOPS: u8 = 64;

impl<F: Frame> Nat64<F> {
    /// Sends what the sweep asked for ([`Expiry::probes`](crate::Expiry::probes)): an empty segment with
    /// nothing but ACK set and both numbers zero, to the IPv6 host. Its answer goes to the remote end as
    /// any other segment does, and makes the session established again.
    pub fn send_probes<S: FrameSource<Frame = F>>(&mut self, ctx: &mut Ctx<'_, S>, probes: &[Probe]) {
        for probe in probes {
            self.send_probe(ctx, probe);
        }
    }

    fn send_probe<S: FrameSource<Frame = F>>(&self, ctx: &mut Ctx<'_, S>, probe: &Probe) {
        let Some(prefix) = self.config.prefixes().get(probe.prefix) else { return };
        let src = Ipv6Addr::from_bits(prefix.embed_bits(probe.remote4));
        let dst = Ipv6Addr::from_bits(probe.host6);
        let Some(egress) = ctx.routes.lookup6(dst) else { return };
        if ctx.outbox.room() == 0 {
            return;
        }
        let Some(mut packet) = ctx.originate() else { return };
        if packet.frame.push_back(ipv6::HEADER + tcp::HEADER).is_err() {
            ctx.counters.drop(DropReason::NoHeadroom);
            return;
        }
        let header = Ipv6Repr {
            src,
            dst,
            next_header: PROTO_TCP,
            hop_limit: HOPS,
            traffic_class: 0,
            flow_label: 0,
            payload_octets: tcp::HEADER,
        };
        let b = packet.frame.bytes_mut();
        let emitted = header.emit(b);
        debug_assert!(emitted.is_ok(), "the frame was made as long as the header says");
        let Some(h) = b.get_mut(ipv6::HEADER..) else { return };
        // Both numbers and the window stay zero.
        h.fill(0);
        put16(h, l4::SRC_PORT, probe.remote_port);
        put16(h, l4::DST_PORT, probe.host_port);
        h[tcp::DATA_OFFSET] = 5 << 4;
        h[tcp::FLAGS] = tcp::ACK;
        #[expect(clippy::cast_possible_truncation, reason = "20")]
        let pseudo = checksum::pseudo6(src, dst, PROTO_TCP, tcp::HEADER as u32);
        let sum = !checksum::fold(checksum::sum(h, pseudo));
        put16(h, tcp::CHECKSUM, sum);
        #[expect(clippy::cast_possible_truncation, reason = "40")]
        let l4_at = ipv6::HEADER as u16;
        let m = &mut packet.meta;
        (m.ethertype, m.protocol, m.l4) = (ethernet::ETHERTYPE_IPV6, PROTO_TCP, l4_at);
        ctx.counters.add(Counter::Nat64Probes, 1);
        ctx.send(packet, egress);
    }
}
