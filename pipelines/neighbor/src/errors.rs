//! Errors that go back to the senders of packets which could not be delivered.

use causeway_core::icmp_error::{Error4, Error6, IcmpErrors, Unreachable4, Unreachable6};
use causeway_core::{Ctx, FrameSource, Packet};
use causeway_wire::ethernet;
use causeway_wire::ipv4::Ipv4Repr;

/// Errors that go back to the sender of a packet. Whoever implements this limits their rate, and knows
/// which packets must not be answered. The packet is dropped and counted by the caller.
pub trait Errors<S: FrameSource> {
    /// The next hop of `packet` does not answer (RFC 4443 3.1 code 3, RFC 1812 5.2.7.1 code 1).
    fn address_unreachable(&mut self, ctx: &mut Ctx<'_, S>, packet: &Packet<S::Frame>);

    /// Nobody listens on the port of ours that `packet` is for (RFC 4443 3.1 code 4, RFC 792 code 3).
    fn port_unreachable(&mut self, ctx: &mut Ctx<'_, S>, packet: &Packet<S::Frame>);
}

impl<S: FrameSource> Errors<S> for IcmpErrors {
    fn address_unreachable(&mut self, ctx: &mut Ctx<'_, S>, packet: &Packet<S::Frame>) {
        match packet.meta.ethertype {
            ethernet::ETHERTYPE_IPV6 => {
                self.send6(ctx, packet, Error6::Unreachable(Unreachable6::Address));
            }
            ethernet::ETHERTYPE_IPV4 => {
                // What NAT64 translated has a source in its pool: its sender speaks IPv6, and an IPv4
                // error would only come back to us.
                let pool = Ipv4Repr::parse(packet.bytes()).is_ok_and(|ip| {
                    ctx.interfaces.iter().any(|(_, i)| i.proxy4.iter().any(|p| p.contains(ip.src)))
                });
                if !pool {
                    self.send4(ctx, packet, Error4::Unreachable(Unreachable4::Host));
                }
            }
            _ => {}
        }
    }

    fn port_unreachable(&mut self, ctx: &mut Ctx<'_, S>, packet: &Packet<S::Frame>) {
        match packet.meta.ethertype {
            ethernet::ETHERTYPE_IPV6 => self.send6(ctx, packet, Error6::Unreachable(Unreachable6::Port)),
            ethernet::ETHERTYPE_IPV4 => self.send4(ctx, packet, Error4::Unreachable(Unreachable4::Port)),
            _ => {}
        }
    }
}
