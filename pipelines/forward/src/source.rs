//! Sources that have to be leased (RFC 7039, RFC 7513): on a network with
//! [`Validation::Leased`] a packet passes only if its source is bound, on that link, to the link-layer
//! address that its frame came from: as a single address, or within a delegated prefix.
//!
//! ```text
//!  classify all -> for those of such networks: hash, prefetch the binding -> judge
//! ```
//!
//! What is checked: everything that is forwarded or translated, and what is for the gateway itself from an
//! address that leaves the link. What is not: link-local and unspecified sources (without them nobody could
//! ask for a lease: RFC 7513), ARP, and what claims an address of ours, which neighbour discovery has
//! to hear of. Networks with other settings are checked in classification alone.

use causeway_core::{BURST, Class, DropReason, Frame, IfId, Interface, Interfaces, Packet, Role, Validation};
use causeway_flowtable::{Asked, Bindings};
use causeway_wire::{ethernet, ipv6};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// A network whose sources are checked.
#[derive(Debug, Clone)]
struct Leased {
    /// As [`Bindings`] has it.
    link: u32,
    /// Addresses of ours, here and on other networks.
    own: Vec<Ipv6Addr>,
}

/// The check of leased sources, of one plan.
#[derive(Debug, Clone)]
pub struct SourceGuard {
    bindings: Arc<Bindings>,
    /// By number of the interface; empty if no network wants the check.
    leased: Vec<Option<Leased>>,
}

impl SourceGuard {
    /// A check of the tenant networks among `interfaces` that want it, against `bindings`.
    #[must_use]
    pub fn new(interfaces: &Interfaces, bindings: Arc<Bindings>) -> Self {
        let wants = |i: &Interface| i.role == Role::Tenant && i.validation == Validation::Leased;
        let everywhere: Vec<Ipv6Addr> = interfaces
            .iter()
            .flat_map(|(_, i)| i.addrs6.iter().map(|(a, _)| *a).chain(i.service6.iter().copied()))
            .collect();
        let leased: Vec<Option<Leased>> = interfaces
            .iter()
            .map(|(_, i)| wants(i).then(|| Leased { link: i.link(), own: everywhere.clone() }))
            .collect();
        let any = leased.iter().any(Option::is_some);
        Self { bindings, leased: if any { leased } else { Vec::new() } }
    }

    /// True if some network wants the check. Otherwise [`Self::check`] costs one branch.
    #[inline(always)]
    #[must_use]
    pub const fn is_needed(&self) -> bool {
        !self.leased.is_empty()
    }

    #[inline(always)]
    fn leased(&self, ingress: IfId) -> Option<&Leased> {
        self.leased.get(usize::from(ingress.0))?.as_ref()
    }

    /// Judges a burst that was classified: `classes` says of each packet what it is, and says afterwards why
    /// it is to be dropped, if it is. Packets that are to be dropped anyway are left alone.
    #[inline(always)]
    pub fn check<F: Frame>(&self, packets: &[Packet<F>], classes: &mut [Result<Class, DropReason>]) {
        if self.is_needed() {
            self.check_all(packets, classes);
        }
    }

    fn check_all<F: Frame>(&self, packets: &[Packet<F>], classes: &mut [Result<Class, DropReason>]) {
        // More than a burst does not come; if it does it is taken in parts.
        for (packets, classes) in packets.chunks(BURST).zip(classes.chunks_mut(BURST)) {
            let mut asked: [Option<Asked>; BURST] = [None; BURST];
            for ((packet, class), asked) in packets.iter().zip(&*classes).zip(&mut asked) {
                if let (Ok(_), Some(leased), Some(src)) =
                    (class, self.leased(packet.meta.ingress), checked_source(packet))
                {
                    *asked = Some(self.bindings.prefetch(leased.link, src));
                }
            }
            for ((packet, class), asked) in packets.iter().zip(classes).zip(&asked) {
                let Some(asked) = asked else { continue };
                let bound = self.bindings.find(asked);
                if bound != Some(packet.meta.src_mac) && !self.claims_ours(packet, *class) {
                    let other = bound.is_some();
                    *class = Err(if other { DropReason::SourceOtherMac } else { DropReason::SourceNotBound });
                }
            }
        }
    }

    /// RFC 4862 5.4: what comes from an address of ours got this far because it is neighbour discovery.
    #[cold]
    fn claims_ours<F: Frame>(&self, packet: &Packet<F>, class: Result<Class, DropReason>) -> bool {
        let own = self.leased(packet.meta.ingress).map_or(&[][..], |l| &l.own);
        class == Ok(Class::Local) && checked_source(packet).is_some_and(|src| own.contains(&src))
    }
}

/// The source of a packet, if it has to be bound.
#[inline(always)]
fn checked_source<F: Frame>(packet: &Packet<F>) -> Option<Ipv6Addr> {
    let b = packet.bytes();
    if packet.meta.ethertype != ethernet::ETHERTYPE_IPV6 || b.len() < ipv6::HEADER {
        return None;
    }
    let src = ipv6::addr(b, ipv6::SRC);
    (!src.is_unicast_link_local() && !src.is_unspecified()).then_some(src)
}

#[cfg(test)]
mod tests;
