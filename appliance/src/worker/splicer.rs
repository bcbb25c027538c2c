//! The splicer at a worker: when there is a stage for it, and what it is lent.

use super::{Pass, Shared};
use crate::plan::Plan;
use causeway_core::{Burst, Class, Ctx, DropReason, FrameSource, Queues, Verdict};
use causeway_splicer::{Secrets, Stage};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// Outboxes full of resets, at most, in which a gateway that ends tells the ends of connections that it terminates: those of
/// as many connections as a worker may have by default, twice over. What is left then hears of it when it speaks.
pub(super) const STOP_ROUNDS: usize = 1024;

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

    /// The gateway ends, and has its addresses still: connections that are terminated here cannot go on, and their ends are
    /// told at once, at most `rounds` outboxes full. Without virtual routers that is the last thing the worker does; with
    /// them it is done in each poll from when the gateway says that it leaves until it has left, since afterwards the
    /// addresses are somebody else's.
    pub(super) fn stop_splicer(&mut self, rounds: usize) {
        if !*self.active {
            return;
        }
        for _ in 0..rounds {
            let Some(stage) = &mut self.stages.splicer else { return };
            let done = stage.stop(&mut ctx!(self), self.guard);
            if self.stages.outbox.is_empty() && done {
                return;
            }
            self.flush_all();
        }
    }

    /// Another gateway has become active: what is terminated here is forgotten without a word. To say something from
    /// addresses that it has now would teach switches the wrong place, and is not needed: it knows none of these
    /// connections, and resets them as soon as one of their ends speaks.
    pub(super) fn leave_splicer(&mut self) {
        if let Some(stage) = &mut self.stages.splicer {
            stage.leave(self.guard);
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

#[cfg(test)]
mod tests;
