//! DNS64 at a worker: when there is a stage for it, and what it is lent.

use super::{Mailbox, Pass, Shared};
use crate::plan::Plan;
use arrayvec::ArrayVec;
use causeway_core::{BURST, Burst, Ctx, DropReason, FrameSource, Packet, Queues, Verdict};
use causeway_dns64::{Outcome, Rings, Stage};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// The stage of a worker, if the plan wants one and there is a cache for it.
pub(super) fn stage<F>(plan: &Plan, shared: &Shared<F>, worker: u16) -> Option<Box<Stage>> {
    let (config, dns) = (plan.dns64.as_ref()?, shared.dns.as_ref()?);
    let status = plan.dns64_status.get(usize::from(worker))?;
    let workers = u16::try_from(shared.mailboxes.len()).unwrap_or(u16::MAX);
    // A stage that takes the place of another is not to repeat its ports.
    let random = RandomState::new();
    let mut seed = dns.seed(worker);
    for (n, octets) in seed.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *octets = (u64::from_ne_bytes(*octets) ^ random.hash_one(n)).to_ne_bytes();
    }
    let (config, cache, status) = (Arc::clone(config), Arc::clone(&dns.cache), Arc::clone(status));
    Some(Box::new(Stage::new(config, cache, status, (worker, workers), seed, dns.cookies)))
}

fn rings<F>(mailbox: &Mailbox<F>) -> Rings<'_> {
    Rings { lookups: &mailbox.dns_lookups, explained: &mailbox.dns_explained, samples: &mailbox.dns_samples }
}

/// Takes over another plan's settings.
pub(super) fn adopt<F>(stage: &mut Option<Box<Stage>>, plan: &Plan, shared: &Shared<F>, worker: u16) {
    match (&mut *stage, &plan.dns64, plan.dns64_status.get(usize::from(worker))) {
        (Some(stage), Some(config), Some(status)) => stage.set_config(Arc::clone(config), Arc::clone(status)),
        _ => *stage = self::stage(plan, shared, worker),
    }
}

impl<Q: Queues, S: FrameSource<Frame = Q::Frame>> Pass<'_, '_, Q, S> {
    /// Brings close what a burst of questions will ask for, so that their cache misses overlap.
    #[inline]
    pub(super) fn foresee(&self, burst: &Burst<Q::Frame>) {
        let Some(stage) = self.stages.resolver.as_ref().filter(|_| burst.len() > 1) else { return };
        let mut foreseen = ArrayVec::<u64, BURST>::new();
        for packet in burst {
            if let Some(hash) = stage.foresee(packet) {
                stage.prefetch(hash, false);
                foreseen.push(hash);
            }
        }
        for hash in foreseen {
            stage.prefetch(hash, true);
        }
    }

    /// Handles a packet to an address of ours that is no other service's; nothing if it is not DNS.
    #[inline]
    pub(super) fn resolver(&mut self, packet: &mut Packet<Q::Frame>) -> Option<Outcome> {
        let stage = self.stages.resolver.as_mut()?;
        if !*self.active {
            // What is ours alone gets no questions.
            return stage
                .is_concerned(packet)
                .then_some(Outcome::Verdict(Verdict::Drop(DropReason::VrrpNotActive)));
        }
        let rings = rings(self.mailbox);
        stage.receive(&mut ctx!(self), packet, &rings)
    }

    /// What is due, if the virtual routers are active here.
    #[inline]
    pub(super) fn resolver_timers(&mut self) {
        if let (Some(stage), true) = (&mut self.stages.resolver, *self.active) {
            let rings = rings(self.mailbox);
            stage.tick(&mut ctx!(self), &rings);
        }
    }
}

#[cfg(test)]
mod tests;
