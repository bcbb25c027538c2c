//! Next hops that are looked for and probed all the time, whether there is traffic or not: what a virtual
//! router tracks (RFC 9568 leaves tracking to implementations).
//!
//! A kept neighbour is probed as soon as its confirmation has aged (RFC 4861 7.3.2), so that a next hop which
//! is gone is noticed within one and a half times the reachable time and three probes. One that does
//! not answer is looked for again and again, at most once in [`AGAIN`].

use crate::Neighbors;
use crate::nud::{Notice, State, Step};
use crate::resolve::owns;
use crate::resolved::Key;
use causeway_core::{Ctx, Duration, Frame, FrameSource, IfId, Instant};
use std::net::IpAddr;

/// The most next hops that a gateway keeps.
pub(crate) const MOST: u32 = 64;
/// Between two attempts to find a kept neighbour.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// Those that this worker keeps.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    hops: Vec<Key>,
    /// When it is looked again whether one of them is not in the table.
    next: Instant,
}

impl Keeping {
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.hops.contains(key)
    }
}

impl<F: Frame> Neighbors<F> {
    /// Keeps these neighbours, and no longer those of the call before: they are looked for at once, probed
    /// whenever their confirmation has aged, and [`Resolved::reachable`](crate::Resolved::reachable)
    /// tells of them. Each worker is given all of them, and keeps those that it owns. Interfaces are those of
    /// the last [`set_interfaces`](Neighbors::set_interfaces).
    ///
    /// Gives how many were left out because there are more than 64. Not for the packet path: may allocate.
    pub fn keep(&mut self, hops: Vec<(IfId, IpAddr)>) -> usize {
        let left_out = hops.len().saturating_sub(MOST as usize);
        let link = |id: IfId| self.links.get(usize::from(id.0)).map(|l| l.link);
        let hops = hops.into_iter().take(MOST as usize);
        let keys = hops.filter_map(|(id, address)| Some(Key::new(link(id)?, address)));
        let mut keys: Vec<Key> = keys.filter(|key| self.shared.owner(key) == self.worker).collect();
        keys.sort_unstable_by_key(|k| k.address());
        keys.dedup();
        for gone in std::mem::take(&mut self.keeping.hops).into_iter().filter(|key| !keys.contains(key)) {
            self.shared.forget_reachable(&gone);
            if let Some(slot) = self.table.find(&gone, self.shared.hash(&gone)) {
                self.table.set_kept(slot, false);
            }
        }
        for key in &keys {
            let Some(slot) = self.table.find(key, self.shared.hash(key)) else { continue };
            self.table.set_kept(slot, true);
            match self.table.entry(slot).state {
                Some(State::Stale { .. }) => self.table.arm(slot, self.ticked),
                Some(s) if s.mac().is_some() => self.shared.set_reachable(key, true),
                _ => {}
            }
        }
        self.keeping = Keeping { hops: keys, next: Instant::ZERO };
        left_out
    }

    /// Begins to look for those kept neighbours that are not in the table.
    pub(crate) fn look_for_kept<S: FrameSource<Frame = F>>(&mut self, ctx: &mut Ctx<'_, S>) {
        if self.keeping.hops.is_empty() || ctx.now < self.keeping.next {
            return;
        }
        self.keeping.next = ctx.now + AGAIN;
        for at in 0..self.keeping.hops.len() {
            let Some(key) = self.keeping.hops.get(at).copied() else { return };
            let hash = self.shared.hash(&key);
            if self.table.find(&key, hash).is_some() || ctx.outbox.room() == 0 {
                continue;
            }
            let interfaces = ctx.interfaces;
            let Some(id) = key.link().interface(interfaces) else { continue };
            let Some(interface) = interfaces.get(id) else { continue };
            let no_source = matches!(key.address(), IpAddr::V4(a) if interface.source4(a).is_none());
            if no_source || owns(interface, key.address()) {
                continue;
            }
            // No rate stands in its way: there are few of them, and each is asked for once a second.
            if let Ok(victim) = self.room_to_look_for(id, true) {
                let _ = self.start(ctx, id, key, hash, true, victim);
            }
        }
    }

    /// Tells what a step of a kept neighbour says of it.
    pub(crate) fn kept_stepped(&self, slot: u32, step: &Step) {
        let key = self.table.entry(slot).key;
        if step.notice == Notice::Unreachable {
            self.shared.set_reachable(&key, false);
        } else if matches!(step.state, Some(State::Reachable { .. })) {
            self.shared.set_reachable(&key, true);
        }
    }
}

#[cfg(test)]
mod tests;
