//! What is learned of neighbours from what they send.
//!
//! Three things teach: answers (to a solicitation of ours, or on their own to correct what is known),
//! questions to us that carry a link-layer address (RFC 4861 7.2.3, RFC 826), and advertisements of
//! hosts that are new on the link (RFC 9131). Only addresses that are on-link are learned, and never one
//! of ours.

use crate::Neighbors;
use crate::nud::{Event as NudEvent, State};
use crate::resolve::{owns, wants_leases};
use crate::resolved::{Key, LinkId};
use causeway_core::{Ctx, Frame, FrameSource, IfId, Interface};
use causeway_wire::MacAddr;
use std::net::{IpAddr, Ipv6Addr};

/// True if `a` is in no prefix that is on the link of this interface.
pub(crate) fn is_off_link6(interface: &Interface, a: Ipv6Addr) -> bool {
    !a.is_unicast_link_local()
        && !interface.addrs6.iter().any(|(_, p)| p.contains(a))
        && !interface.on_link6.iter().any(|p| p.contains(a))
}

/// True if `a` is a neighbour's address on the link of this interface.
pub(crate) fn on_link(interface: &Interface, a: IpAddr) -> bool {
    let inside = match a {
        IpAddr::V6(a) if a.is_multicast() || a.is_unspecified() => false,
        IpAddr::V6(a) => !is_off_link6(interface, a),
        IpAddr::V4(a) => {
            let inside = |p: &causeway_core::Prefix4| {
                // RFC 1812 4.2.2.11: the first and the last address of a network are no host's; RFC 3021
                // makes an exception for networks of two.
                p.contains(a) && (p.len() >= 31 || (a != p.address() && a != p.last()))
            };
            interface.addrs4.iter().any(|(_, p)| inside(p))
        }
    };
    inside && !owns(interface, a)
}

/// What a neighbour's message means for its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lesson {
    /// An advertisement.
    Answer { mac: Option<MacAddr>, solicited: bool, override_: bool },
    /// An ARP reply, which has no flags: it answers if we asked.
    ArpReply { mac: MacAddr },
    /// A question, or a gratuitous ARP.
    Heard { mac: MacAddr },
}

impl<F: Frame> Neighbors<F> {
    /// RFC 7513: on a network that wants leased sources, who says something of an address
    /// has to be the station that the address is bound to, by what it tells and by its frame. A link-local
    /// address that is bound to nobody is anybody's.
    pub(crate) fn is_anothers(
        &self,
        interface: &Interface,
        address: Ipv6Addr,
        told: Option<MacAddr>,
        from: MacAddr,
    ) -> bool {
        let Some(bindings) = self.bindings.as_ref().filter(|_| wants_leases(interface)) else { return false };
        match bindings.lookup(interface.link(), address) {
            Some(owner) => told.unwrap_or(from) != owner || from != owner,
            None => !address.is_unicast_link_local(),
        }
    }

    /// Learns what a neighbour said. With `create`, a neighbour that is not known yet is known from now
    /// on by that link-layer address. Gives whether the neighbour is known now. Does nothing for a
    /// neighbour that another worker owns.
    pub(crate) fn learn<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        id: IfId,
        address: IpAddr,
        lesson: Lesson,
        create: Option<MacAddr>,
    ) -> bool {
        let interfaces = ctx.interfaces;
        let Some(interface) = interfaces.get(id) else { return false };
        if !on_link(interface, address) {
            return false;
        }
        let key = Key::new(LinkId::of(interface), address);
        let hash = self.shared.hash(&key);
        if self.shared.owner_by_hash(hash) != self.worker {
            return false;
        }
        let timing = self.timing();
        if let Some(slot) = self.table.find(&key, hash) {
            let Some(state) = self.table.entry(slot).state else { return false };
            let event = match lesson {
                Lesson::Answer { mac, solicited, override_ } => {
                    NudEvent::Answer { mac, solicited, override_ }
                }
                Lesson::ArpReply { mac } => {
                    NudEvent::Answer { mac: Some(mac), solicited: state.awaits_answer(), override_: true }
                }
                Lesson::Heard { mac } => NudEvent::Heard { mac },
            };
            let step = state.on(event, ctx.now, &timing);
            if step.state != Some(state) {
                self.apply(ctx, slot, step);
            }
            return true;
        }
        let Some(mac) = create else { return false };
        if !self.room_for_learned(ctx.counters, id, crate::table::NIL) {
            return false;
        }
        let state = State::learned(mac, ctx.now, &timing);
        let Some(slot) = self.table.insert(key, hash, id, state, ctx.now) else { return false };
        if self.keeping.has(&key) {
            // It spoke before it was looked for again: it is verified at once, as any that is kept.
            self.table.set_kept(slot, true);
            self.table.arm(slot, ctx.now);
        }
        let published = self.publish(slot, None);
        if !published {
            self.forget(ctx.counters, slot);
        }
        published
    }
}

#[cfg(test)]
mod tests;
