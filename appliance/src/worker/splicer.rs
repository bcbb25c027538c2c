//! The splicer at a worker: when there is a stage for it, and what it is lent.

use super::{Pass, Shared};
use crate::plan::Plan;
use causeway_core::{Burst, Class, Ctx, DropReason, FrameSource, Queues, Verdict};
use causeway_splicer::{Secrets, Stage};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// The stage of a worker, if the plan wants one.
pub(super) fn stage<F>(plan: &Plan, shared: &Shared<F>, worker: u16) -> Option<Box<Stage>> {
    let (splicer, with) = (plan.splicer.as_ref()?, shared.splicer.as_ref()?);
    // A stage that takes the place of another is not to repeat its sequence numbers and ports.
    let random = RandomState::new();
    let mut seed = with.secret;
    for (n, octets) in seed.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *octets = (u64::from_ne_bytes(*octets) ^ random.hash_one((worker, n))).to_ne_bytes();
    }
    let (config, sites) = (Arc::clone(&splicer.config), Arc::clone(&with.sites));
    let secrets = Secrets { seed, cookies: with.cookies };
    let id = u8::try_from(worker).ok()?;
    // One worker checks the servers of all.
    let fresh = (worker == 0).then(|| Arc::clone(&with.fresh));
    Some(Box::new(Stage::new(config, sites, plan.icmp_errors(), id, secrets, fresh)))
}

/// Takes over another plan's settings.
pub(super) fn adopt<F>(stage: &mut Option<Box<Stage>>, plan: &Plan, shared: &Shared<F>, worker: u16) {
    match (&mut *stage, &plan.splicer) {
        (Some(stage), Some(splicer)) => stage.set_config(Arc::clone(&splicer.config)),
        _ => *stage = self::stage(plan, shared, worker),
    }
}

impl<Q: Queues, S: FrameSource<Frame = Q::Frame>> Pass<'_, '_, Q, S> {
    /// Packets of one of the splicer's classes.
    pub(super) fn splice(&mut self, class: Class, burst: &mut Burst<Q::Frame>, verdicts: &mut [Verdict]) {
        match &mut self.stages.splicer {
            Some(stage) if class == Class::SpliceOut => {
                stage.clients(&mut ctx!(self), self.guard, burst, verdicts);
            }
            Some(stage) => stage.servers(&mut ctx!(self), self.guard, burst, verdicts),
            None => verdicts.fill(Verdict::Drop(DropReason::NoRoute)),
        }
    }

    /// What is due, if the virtual routers are active here.
    #[inline]
    pub(super) fn splicer_timers(&mut self) {
        if let (Some(stage), true) = (&mut self.stages.splicer, *self.active) {
            stage.tick(&mut ctx!(self), self.guard);
        }
    }
}
