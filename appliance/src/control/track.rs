//! What lowers the priority of the virtual routers: a port without a link, a next hop that does not answer, a
//! worker that does not poll, a full flow table. A gateway that cannot forward should not be the active one.
//!
//! Pure but for the loop: what was seen goes in, what follows comes out.

use super::state::State;
use causeway_core::IfId;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often control looks.
pub(super) const EVERY: Duration = Duration::from_millis(50);

/// What is tracked, of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tracking {
    /// A port of a virtual router without a link ends them all until it is back.
    pub link: bool,
    /// Next hops that have to answer, each with what its silence costs.
    pub next_hops: Vec<NextHop>,
    /// What a worker that does not poll costs.
    pub worker_penalty: u8,
    /// What a full flow table costs.
    pub table_penalty: u8,
}

/// A tracked next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// The interface that it is on.
    pub interface: IfId,
    /// Its address.
    pub address: IpAddr,
    /// What its silence costs.
    pub penalty: u8,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Names of ports of virtual routers that have no link.
    pub down: Vec<String>,
    /// For each tracked next hop whether it answers; nothing while that is being found out.
    pub reachable: Vec<Option<bool>>,
    /// Workers that do not poll.
    pub stalled: u16,
    /// The flow table takes no more sessions.
    pub full: bool,
    /// Another gateway is there, has all leases, and would take over.
    pub peer_ready: bool,
}

/// What follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// By how much the priority is lowered.
    pub penalty: u8,
    /// No virtual router can be active here.
    pub fault: bool,
    /// Why, for people.
    pub reasons: Vec<String>,
}

/// Judges what was seen.
#[must_use]
pub fn judge(tracking: &Tracking, seen: &Seen) -> Judgement {
    let mut out = Judgement::default();
    let mut cost = |penalty: u8, reason: String| {
        if penalty > 0 {
            out.penalty = out.penalty.saturating_add(penalty);
            out.reasons.push(format!("{reason}: -{penalty}"));
        }
    };
    for (hop, reachable) in tracking.next_hops.iter().zip(&seen.reachable) {
        // Until it is known, a gateway that starts does not hold itself back.
        if *reachable == Some(false) {
            cost(hop.penalty, format!("next hop {} does not answer", hop.address));
        }
    }
    if seen.stalled > 0 {
        cost(tracking.worker_penalty, format!("{} workers do not poll", seen.stalled));
        // A priority that is lowered lets the other gateway take over; but what it says may be waiting at the very
        // worker that does not poll, and both would be active. Who cannot hear does not speak, if there is
        // somebody else to.
        out.fault |= tracking.worker_penalty > 0 && seen.peer_ready;
    }
    if seen.full {
        cost(tracking.table_penalty, "the flow table is full".to_owned());
    }
    if tracking.link && !seen.down.is_empty() {
        out.fault = true;
        out.reasons.push(format!("no link: {}", seen.down.join(", ")));
    }
    out
}

/// Looks for as long as control runs.
pub(super) async fn run(state: Arc<State>, every: Duration) {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Judgement::default();
    loop {
        tick.tick().await;
        let Some(gateway) = state.gateway() else { continue };
        let Some(now) = gateway.track() else { continue };
        if now != last {
            if now.reasons.is_empty() {
                tracing::info!("virtual routers: nothing lowers the priority");
            } else {
                tracing::warn!(
                    penalty = now.penalty,
                    fault = now.fault,
                    reasons = now.reasons.join("; "),
                    "virtual routers: the priority is lowered"
                );
            }
            last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracking() -> Tracking {
        let hop = |address: &str, penalty| NextHop {
            interface: IfId(1),
            address: address.parse().unwrap(),
            penalty,
        };
        Tracking {
            link: true,
            next_hops: vec![hop("192.0.2.1", 50), hop("2001:db8:ffff::1", 30)],
            worker_penalty: 200,
            table_penalty: 20,
        }
    }

    #[test]
    fn nothing_wrong_costs_nothing() {
        let seen = Seen { reachable: vec![Some(true), None], ..Seen::default() };
        assert_eq!(judge(&tracking(), &seen), Judgement::default());
    }

    #[test]
    fn what_is_wrong_adds_up_and_is_named() {
        let seen = Seen { reachable: vec![Some(false), Some(false)], full: true, ..Seen::default() };
        let judged = judge(&tracking(), &seen);
        assert_eq!((judged.penalty, judged.fault), (100, false));
        assert_eq!(judged.reasons.len(), 3);
        assert!(judged.reasons[0].contains("192.0.2.1"), "{:?}", judged.reasons);
        let all = Seen { stalled: 2, ..seen };
        assert_eq!(judge(&tracking(), &all).penalty, 255, "never wraps");
    }

    #[test]
    fn who_may_not_hear_the_other_gateway_leaves_it_to_that_one() {
        let stalled = Seen { stalled: 1, ..Seen::default() };
        let paired = Seen { peer_ready: true, ..stalled.clone() };
        assert_eq!((judge(&tracking(), &stalled).fault, judge(&tracking(), &paired).fault), (false, true));
        assert_eq!(judge(&tracking(), &paired).penalty, 200);
        let not = Tracking { worker_penalty: 0, ..tracking() };
        assert_eq!(judge(&not, &paired), Judgement::default());
        let well = Seen { peer_ready: true, ..Seen::default() };
        assert_eq!(judge(&tracking(), &well), Judgement::default());
    }

    #[test]
    fn a_port_without_a_link_ends_all_virtual_routers_if_links_are_tracked() {
        let seen = Seen { down: vec!["lan".to_owned()], ..Seen::default() };
        assert!(judge(&tracking(), &seen).fault);
        let not = Tracking { link: false, ..tracking() };
        assert_eq!(judge(&not, &seen), Judgement::default());
    }
}
