//! Native IPv6 forwarding (RFC 8200 3, 5; RFC 4443 3; RFC 4291 2.5.6).
//!
//! ```text
//!  addresses may be forwarded? -> route -> hop limit -> may these networks talk? -> MTU -> forward
//!         |                        |           |                 |                   |
//!     bad-address,             no-route    hop-limit       tenant-isolation,      too-big
//!     link-local-scope                                     no-transit,
//!                                                          inbound-closed
//! ```
//!
//! A packet that is refused is refused for the first of these reasons, and its sender is told by an
//! ICMPv6 error where RFC 4443 allows it. Source validation (BCP 38) has happened in classification.
//!
//! Policy between networks, unless [`Config`] says otherwise:
//!
//! | from | to | |
//! | --- | --- | --- |
//! | a tenant network | an uplink | yes |
//! | an uplink | a tenant network | yes: networks that host services are open |
//! | a tenant network | itself | yes, although a redirect would have been in order: none is sent |
//! | a tenant network | another | no |
//! | an uplink or another tenant network | a closed tenant network | only what belongs to a flow that began inside (RFC 6092; the `rfc6092` module) |
//! | an uplink | an uplink | never: a packet to an address that no tenant has would go in circles |
//!
//! Not handled: multicast forwarding, redirects (RFC 4861 8.2), extension headers (RFC 8200 4: a node on
//! the way does not look at them; Hop-by-Hop options are ignored, as RFC 8200 4.3 allows).

#![forbid(unsafe_code)]

mod config;
mod rfc6092;
mod source;

pub use config::{Config, ConfigError, Inbound, Isolation, Timeouts};
pub use rfc6092::Expiry;
pub use source::SourceGuard;

use arrayvec::ArrayVec;
use causeway_core::icmp_error::{Error6, IcmpErrors, Unreachable6};
use causeway_core::route::Next;
use causeway_core::{BURST, Counter, Ctx, DropReason, Egress, Frame, FrameSource, IfId, Packet, Verdict};
use causeway_flowtable::{Guard, Lookup, NativeKey, Session, Tick};
use causeway_wire::ipv6;
use rfc6092::{Flows, Subject, Way};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// The forwarding stage of one worker.
#[derive(Debug)]
pub struct Forward {
    config: Arc<Config>,
    errors: IcmpErrors,
}

/// Why a packet is refused, and what its sender hears of it.
type Refusal = (DropReason, Option<Error6>);
/// Where a packet goes, or why it does not.
type Decision = Result<Egress, Refusal>;

impl Forward {
    /// A stage with these settings.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        let errors = IcmpErrors::new(config.errors_rate_pps, config.errors_burst);
        Self { config, errors }
    }

    /// Goes on with other settings.
    pub fn set_config(&mut self, config: Arc<Config>) {
        if (config.errors_rate_pps, config.errors_burst)
            != (self.config.errors_rate_pps, self.config.errors_burst)
        {
            self.errors = IcmpErrors::new(config.errors_rate_pps, config.errors_burst);
        }
        self.config = config;
    }

    /// Decides about each packet, and lowers the hop limit of those that go on. `verdicts` has a place
    /// for each packet; places beyond the shorter of the two are not touched. The flow table is used for
    /// closed networks alone.
    pub fn process<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<S::Frame>],
        verdicts: &mut [Verdict],
    ) {
        for (packets, verdicts) in packets.chunks_mut(BURST).zip(verdicts.chunks_mut(BURST)) {
            let mut decided: ArrayVec<Decision, BURST> = packets.iter().map(|p| self.route(ctx, p)).collect();
            if self.config.any_closed {
                let flows = Flows { guard, tick: Tick::at(ctx.now), counters: ctx.counters };
                self.closed(flows, packets, &mut decided);
            }
            let mut forwarded = 0;
            for ((packet, verdict), decision) in packets.iter_mut().zip(verdicts).zip(decided) {
                *verdict = match decision.and_then(|egress| self.fits(packet, egress)) {
                    Ok(egress) => {
                        if !packet.meta.hop_done {
                            packet.bytes_mut()[ipv6::HOP_LIMIT] -= 1;
                            packet.meta.hop_done = true;
                        }
                        forwarded += 1;
                        Verdict::Forward { egress }
                    }
                    Err((reason, error)) => {
                        if let Some(error) = error {
                            self.errors.send6(ctx, packet, error);
                        }
                        Verdict::Drop(reason)
                    }
                };
            }
            ctx.counters.add(Counter::Forwarded6, forwarded);
        }
    }

    /// Where a packet goes, by its addresses, its hop limit and the networks.
    #[inline(always)]
    fn route<S: FrameSource>(&self, ctx: &Ctx<'_, S>, packet: &Packet<S::Frame>) -> Decision {
        let Some(h) = packet.bytes().first_chunk::<{ ipv6::HEADER }>() else {
            return Err((DropReason::Ip6Truncated, None));
        };
        let (src, dst) = (ipv6::addr(h, ipv6::SRC), ipv6::addr(h, ipv6::DST));
        addresses(src, dst)?;
        let egress = match ctx.routes.next6(dst) {
            Next::Egress(egress) => egress,
            // RFC 4443 3.1: code 6 where a route rejects, code 0 where none knows.
            Next::Unreachable => return Err(unreachable(DropReason::NoRoute, Unreachable6::RejectRoute)),
            Next::NoRoute => return Err(unreachable(DropReason::NoRoute, Unreachable6::NoRoute)),
        };
        let Some(link) = self.config.link(egress.interface()) else {
            return Err((DropReason::NoRoute, None));
        };
        // RFC 8200 3: lowered by one by each node that forwards, and not forwarded with zero. A
        // translated packet has been through this already.
        if !packet.meta.hop_done && h[ipv6::HOP_LIMIT] <= 1 {
            return Err((DropReason::HopLimit, Some(Error6::HopLimitExceeded)));
        }
        let ingress = packet.meta.ingress;
        if ingress != egress.interface() {
            self.policy(ingress, egress.interface(), link.tenant)?;
        } else if !link.tenant {
            // The destination is inside, but nobody there has it: the uplink's router believes that we
            // know better, and we would hand it back until its hop limit ran out.
            return Err(unreachable(DropReason::NoTransit, Unreachable6::NoRoute));
        }
        Ok(egress)
    }

    /// RFC 8200 5, RFC 4443 3.2: a node on the way does not fragment.
    #[inline(always)]
    fn fits<F: Frame>(&self, packet: &Packet<F>, egress: Egress) -> Decision {
        match self.config.link(egress.interface()) {
            Some(link) if packet.frame.octets() > usize::from(link.mtu) => {
                Err((DropReason::TooBig, Some(Error6::PacketTooBig { mtu: u32::from(link.mtu) })))
            }
            _ => Ok(egress),
        }
    }

    /// Refuses what may not enter a closed network, and then remembers what leaves one.
    fn closed<F: Frame>(&self, flows: Flows<'_, '_>, packets: &[Packet<F>], decided: &mut [Decision]) {
        for way in [Way::In, Way::Out] {
            let mut at: ArrayVec<(usize, Subject), BURST> = ArrayVec::new();
            let mut keys: ArrayVec<NativeKey, BURST> = ArrayVec::new();
            for (n, (packet, decision)) in packets.iter().zip(decided.iter_mut()).enumerate() {
                let Ok(egress) = *decision else { continue };
                let (from, to) = (packet.meta.ingress, egress.interface());
                let network = if way == Way::In { to } else { from };
                // What we originate belongs to no network, and a network is not closed to itself.
                if from == to || from == IfId::NONE || !self.config.link(network).is_some_and(|l| l.closed) {
                    continue;
                }
                let subject = Subject::of(packet, way);
                match (subject, way) {
                    (Subject::Flow { key, .. } | Subject::Error { key } | Subject::Later { key }, _) => {
                        at.push((n, subject));
                        keys.push(key);
                    }
                    (Subject::Opaque, Way::In) => *decision = Err(closed(DropReason::InboundClosed)),
                    (Subject::Opaque, Way::Out) => {}
                }
            }
            let mut found: [Lookup<Session<'_>>; BURST] = std::array::from_fn(|_| Lookup::Miss);
            flows.guard.lookup_native(&keys, &mut found);
            for ((n, subject), found) in at.iter().zip(found) {
                let result = match way {
                    Way::In => flows.enters(subject, found),
                    Way::Out => flows.leaves(subject, found),
                };
                if let Err(reason) = result {
                    decided[*n] = Err(closed(reason));
                }
            }
        }
    }

    /// Whether packets may go from one interface to another one.
    #[inline(always)]
    fn policy(&self, from: IfId, to: IfId, to_tenant: bool) -> Result<(), Refusal> {
        // What we originate or translate has no ingress and belongs to no network.
        let Some(from_link) = self.config.link(from) else { return Ok(()) };
        if from_link.tenant && to_tenant && !self.config.mixes(from, to) {
            return Err(unreachable(DropReason::TenantIsolation, Unreachable6::AdminProhibited));
        }
        if !from_link.tenant && !to_tenant {
            return Err(unreachable(DropReason::NoTransit, Unreachable6::NoRoute));
        }
        Ok(())
    }
}

/// RFC 6092 3.3 REC-34: what is refused is told so. A full table is our own trouble: nothing is said.
fn closed(reason: DropReason) -> Refusal {
    let prohibited = Error6::Unreachable(Unreachable6::AdminProhibited);
    (reason, (reason == DropReason::InboundClosed).then_some(prohibited))
}

const fn unreachable(reason: DropReason, why: Unreachable6) -> Refusal {
    (reason, Some(Error6::Unreachable(why)))
}

/// Refuses addresses that are never forwarded.
#[inline(always)]
fn addresses(src: Ipv6Addr, dst: Ipv6Addr) -> Result<(), Refusal> {
    // RFC 4291 2.5.2, 2.5.3, 2.7: unspecified and loopback addresses stay in their node, and a group is
    // no source.
    if src.to_bits() <= 1 || dst.to_bits() <= 1 || src.is_multicast() {
        return Err((DropReason::Ip6BadAddress, None));
    }
    if dst.is_multicast() {
        return Err((DropReason::MulticastNotOurs, None));
    }
    // RFC 4291 2.5.6: nothing link-local goes to another link.
    if dst.is_unicast_link_local() {
        return Err((DropReason::LinkLocalScope, None));
    }
    if src.is_unicast_link_local() {
        return Err(unreachable(DropReason::LinkLocalScope, Unreachable6::BeyondScope));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
