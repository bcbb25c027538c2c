//! The first hop: whose a local packet is, what VRRP, router advertisements and DHCPv6 do at each poll, and
//! what happens when the virtual routers change hands.
//!
//! ```text
//!  worker 0:  VRRP's timers -> Active: announce all addresses -> advertise routers -> tell the others
//!                           -> Backup: tell the others
//!  others:    look what worker 0 told, once a poll
//! ```

mod witnesses;

use super::{Pass, Waiting, slot};
use crate::plan::Plan;
use arrayvec::ArrayVec;
use causeway_core::{
    BURST, Class, Counter, Ctx, DropReason, Event, Frame, FrameSource, IfId, Instant, Packet, Queues, Verdict,
};
use causeway_dns64::Outcome;
use causeway_wire::l4::{PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, icmp};
use causeway_wire::{MacAddr, ethernet};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use witnesses::Witnesses;

/// Port of DHCPv6 servers and relays (RFC 9915 7.2).
const DHCPV6_SERVER: u16 = 547;
/// Answers from control that one poll sends, at most.
const ANSWERS_PER_POLL: usize = BURST;
/// How long VRRP's timers wait for what waits in the queues: after the processor was taken away, the
/// advertisements that came meanwhile are judged first.
const CATCH_UP: Duration = Duration::from_millis(20);
/// Rounds of last advertisements, at most: each fills the outbox.
const GOODBYES: usize = 1024;
/// Added to the time in which a backup must have taken over from a gateway that leaves.
const LEAVE_MARGIN: Duration = Duration::from_millis(50);
/// And no longer than this, whatever the interval: whoever stops a gateway waits for it.
const LEAVE_AT_MOST: Duration = Duration::from_millis(2_500);

/// Whose a local packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// ARP, neighbour discovery, echo and the rest.
    Neighbor,
    /// VRRP.
    Vrrp,
    /// A message to a DHCPv6 server.
    Dhcpv6,
    /// A Router Solicitation or Advertisement.
    Router,
    /// DNS, perhaps: UDP and TCP that is no other's, and errors about them.
    Dns,
}

/// Quick and rough: nothing is checked that the stage will check.
pub(super) fn service<F: Frame>(packet: &Packet<F>) -> Service {
    let meta = &packet.meta;
    if meta.fragment || meta.ethertype == ethernet::ETHERTYPE_ARP {
        return Service::Neighbor;
    }
    let l4 = usize::from(meta.l4);
    let six = meta.ethertype == ethernet::ETHERTYPE_IPV6;
    match meta.protocol {
        causeway_vrrp::PROTOCOL => Service::Vrrp,
        PROTO_UDP if six => match packet.bytes().get(l4 + 2..l4 + 4) {
            Some(port) if port == DHCPV6_SERVER.to_be_bytes() => Service::Dhcpv6,
            _ => Service::Dns,
        },
        PROTO_UDP | PROTO_TCP | PROTO_ICMP => Service::Dns,
        PROTO_ICMPV6 if six => match packet.bytes().get(l4) {
            Some(&(icmp::V6_ROUTER_SOLICIT | icmp::V6_ROUTER_ADVERT)) => Service::Router,
            Some(&icmp::V6_DST_UNREACHABLE) => Service::Dns,
            _ => Service::Neighbor,
        },
        _ => Service::Neighbor,
    }
}

/// The stages of the first hop, and where they stand.
pub(super) struct FirstHop {
    /// At worker 0 alone.
    vrrp: Option<causeway_vrrp::Stage>,
    ra: causeway_ra::Stage,
    dhcpv6: Option<causeway_dhcpv6::Stage>,
    /// Since when there is more in the queues than a poll takes; nothing while there is not.
    behind: Option<Instant>,
    /// When this gateway said that it leaves.
    leaving: Option<Leaving>,
    /// Whether the other workers look for what worker 0 would have to hear.
    witnesses: Witnesses,
}

/// Of a gateway that is about to end.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    since: Instant,
    /// Advertisements of others that had been received by then.
    heard: u64,
}

impl FirstHop {
    pub(super) fn new<F>(plan: &Plan, shared: &super::Shared<F>, worker: u16) -> Self {
        let vrrp = plan.vrrp.as_ref().filter(|_| worker == 0);
        Self {
            vrrp: vrrp.map(|c| causeway_vrrp::Stage::new(Arc::clone(c), Arc::clone(&shared.vrrp))),
            ra: causeway_ra::Stage::new(Arc::clone(&plan.ra), worker, shared.random(worker)),
            dhcpv6: plan.dhcpv6.as_ref().map(|c| causeway_dhcpv6::Stage::new(Arc::clone(c))),
            behind: None,
            leaving: None,
            witnesses: Witnesses::new(shared.mailboxes.len()),
        }
    }

    /// Takes over another plan's settings.
    pub(super) fn adopt(&mut self, plan: &Plan, now: Instant) {
        if let (Some(stage), Some(config)) = (&mut self.vrrp, &plan.vrrp) {
            stage.set_config(Arc::clone(config), now);
        }
        self.ra.set_config(Arc::clone(&plan.ra), now);
        match (&mut self.dhcpv6, &plan.dhcpv6) {
            (Some(stage), Some(config)) => stage.set_config(Arc::clone(config)),
            (stage, config) => {
                *stage = config.as_ref().map(|c| causeway_dhcpv6::Stage::new(Arc::clone(c)));
            }
        }
    }
}

impl<Q: Queues, S: FrameSource<Frame = Q::Frame>> Pass<'_, '_, Q, S> {
    /// The worker that a packet of the first hop belongs to.
    pub(super) const fn first_hop_owner(&self, service: Service) -> u16 {
        match service {
            Service::Vrrp if self.plan.vrrp.is_some() => 0,
            _ => self.id,
        }
    }

    /// Handles a packet that is not the neighbour stage's. Nothing if it is, after all: the service is not
    /// configured.
    pub(super) fn first_hop(&mut self, service: Service, packet: &mut Packet<Q::Frame>) -> Option<Outcome> {
        if service == Service::Dns {
            return self.resolver(packet);
        }
        let hop = &mut self.stages.first_hop;
        let verdict = match service {
            Service::Neighbor | Service::Dns => None,
            Service::Vrrp => hop.vrrp.as_mut().map(|stage| stage.receive(&mut ctx!(self), packet)),
            // RFC 9568 6.4.2: whoever is not active answers for nothing that the hosts see.
            Service::Dhcpv6 if hop.dhcpv6.is_some() && !*self.active => {
                Some(Verdict::Drop(DropReason::VrrpNotActive))
            }
            Service::Dhcpv6 => {
                let requests = &self.mailbox.dhcp_requests;
                hop.dhcpv6.as_mut().map(|stage| stage.receive(&mut ctx!(self), packet, requests))
            }
            Service::Router if *self.active => Some(hop.ra.receive(&mut ctx!(self), packet)),
            Service::Router => {
                let solicits =
                    packet.bytes().get(usize::from(packet.meta.l4)) == Some(&icmp::V6_ROUTER_SOLICIT);
                solicits.then_some(Verdict::Drop(DropReason::VrrpNotActive))
            }
        };
        verdict.map(Outcome::Verdict)
    }

    /// Hands an advertisement to the worker that runs the election. What comes from beyond the link (RFC 9568
    /// 5.1.1.3, 5.1.2.3) takes no room from those that count.
    pub(super) fn tell_vrrp(&mut self, worker: u16, packet: Packet<Q::Frame>) {
        if causeway_vrrp::is_from_afar(&packet) {
            return self.counters.drop(DropReason::VrrpHopLimit);
        }
        let mailbox = self.shared.mailboxes.get(usize::from(worker));
        if mailbox.is_some_and(|mailbox| mailbox.vrrp.push(packet).is_ok()) {
            self.counters.add(Counter::HandedOff, 1);
        } else {
            self.counters.drop(DropReason::VrrpRingFull);
        }
    }

    /// Takes the advertisements that other workers received, at most a burst. True if there was one.
    pub(super) fn heard_by_others(&mut self, waiting: &mut Waiting<Q::Frame>) -> bool {
        if self.mailbox.vrrp.is_empty() {
            return false;
        }
        let local = &mut waiting.first[slot(Class::Local)];
        while !local.is_full() {
            let Some(packet) = self.mailbox.vrrp.pop() else { break };
            local.push(packet);
        }
        self.run(waiting, None);
        true
    }

    /// Notes whether the queues were emptied.
    pub(super) const fn caught_up(&mut self, all: bool) {
        let behind = &mut self.stages.first_hop.behind;
        match (all, &behind) {
            (true, _) => *behind = None,
            (false, None) => *behind = Some(self.now),
            (false, Some(_)) => {}
        }
    }

    /// At the start of a poll: what worker 0 told of the virtual routers.
    #[inline]
    pub(super) fn look_who_is_active(&mut self) {
        if self.id == 0 || self.plan.standby.is_none() {
            return;
        }
        let active = self.shared.vrrp.is_active(self.now);
        if active != *self.active {
            self.set_view(active);
        }
    }

    /// Timers of the first hop, and answers that came back from control.
    pub(super) fn first_hop_timers(&mut self) {
        if self.id == 0 && self.plan.standby.is_some() {
            self.vrrp_timers();
        }
        if *self.active {
            self.stages.first_hop.ra.tick(&mut ctx!(self));
        }
        self.answers();
    }

    fn vrrp_timers(&mut self) {
        self.shared.vrrp.beat(self.now);
        let hop = &mut self.stages.first_hop;
        let Some(vrrp) = &mut hop.vrrp else { return };
        if hop.leaving.is_some() {
            return;
        }
        if hop.behind.is_some_and(|since| self.now.since(since) < CATCH_UP) {
            return;
        }
        // RFC 9568 6.4.2: a backup takes over when it has heard nothing. What other workers have not looked for
        // nobody can say of.
        if vrrp.would_take_over(self.now) {
            let beats = self.shared.mailboxes.iter().map(|m| m.heartbeat.load(Ordering::Acquire));
            let (looked, late) = hop.witnesses.have_looked(self.id, beats, self.now);
            self.counters.add(Counter::VrrpHeldBack, u64::from(late));
            if !looked {
                return;
            }
        } else {
            hop.witnesses.reset();
        }
        match vrrp.tick(self.now) {
            Some(causeway_vrrp::Transition::Active) => self.become_active(),
            // The stage has told the other workers.
            Some(causeway_vrrp::Transition::Backup) => {
                self.stages.neighbors.became_backup();
                self.set_view(false);
            }
            None => {}
        }
        if let Some(vrrp) = &mut self.stages.first_hop.vrrp {
            vrrp.advertise(&mut ctx!(self));
        }
    }

    /// RFC 9568 6.4.1 and 6.4.2: advertisement, then every address, then routers, and then packets.
    fn become_active(&mut self) {
        self.set_view(true);
        if let Some(vrrp) = &mut self.stages.first_hop.vrrp {
            vrrp.advertise(&mut ctx!(self));
        }
        self.flush_all();
        // All addresses in this poll: each round fills the outbox, and there are not many.
        let mut done = self.stages.neighbors.became_active(&mut ctx!(self));
        self.flush_all();
        while !done {
            done = self.stages.neighbors.announce_all(&mut ctx!(self));
            self.flush_all();
        }
        self.stages.first_hop.ra.became_active(&mut ctx!(self));
        self.flush_all();
        self.shared.vrrp.publish_active(true);
    }

    /// Puts the other part of the plan in force.
    fn set_view(&mut self, active: bool) {
        *self.active = active;
        self.view = self.plan.view(active);
        self.stages.neighbors.set_interfaces(&self.view.interfaces, self.counters);
        self.stages.forward.set_config(Arc::clone(&self.view.forward));
        if !active {
            // Who waits here for an answer gets it elsewhere.
            self.stages.resolver = super::resolver::stage(self.plan, self.shared, self.id);
            // Connections that are terminated here cannot go on there, and are forgotten.
            self.leave_splicer();
            self.stages.splicer = super::splicer::stage(self.plan, self.shared, self.id);
        }
    }

    /// Sends what the stages originated, at once.
    pub(super) fn flush_all(&mut self) {
        self.send_outbox();
        for port in 0..self.io.queues.ports() {
            self.io.flush(port, self.counters);
        }
    }

    /// Sends the answers that control gave, each Reply followed by a router advertisement.
    fn answers(&mut self) {
        if self.mailbox.dhcp_answers.is_empty() {
            return;
        }
        for _ in 0..ANSWERS_PER_POLL {
            let Some(answer) = self.mailbox.dhcp_answers.pop() else { break };
            let Some(stage) = &mut self.stages.first_hop.dhcpv6 else {
                self.counters.drop(DropReason::Dhcp6NoLink);
                continue;
            };
            if *self.active {
                stage.answer(&mut ctx!(self), answer);
            } else {
                self.counters.drop(DropReason::VrrpNotActive);
            }
            let given: ArrayVec<(IfId, Ipv6Addr, MacAddr), 4> = self
                .stages
                .events
                .iter()
                .filter_map(|event| match *event {
                    Event::LeaseGiven { interface, address, mac } => Some((interface, address, mac)),
                    _ => None,
                })
                .take(4)
                .collect();
            self.stages.events.retain(|event| !matches!(event, Event::LeaseGiven { .. }));
            self.send_outbox();
            for (interface, address, mac) in given {
                self.stages.first_hop.ra.unicast(&mut ctx!(self), interface, address, mac);
            }
            self.send_outbox();
        }
    }

    /// A stop was asked for. True once this worker may end: when another gateway has taken over, or would
    /// have by now.
    pub(super) fn may_stop(&mut self) -> bool {
        if self.plan.standby.is_none() {
            return true;
        }
        if self.id != 0 {
            let left = self.shared.left.load(Ordering::Acquire);
            if !left {
                self.stop_splicer(1);
            }
            return left;
        }
        let heard = self.shared.vrrp.status().adverts_received;
        let hop = &mut self.stages.first_hop;
        let Some(vrrp) = &mut hop.vrrp else { return true };
        let leaving = match hop.leaving {
            Some(leaving) => leaving,
            None => {
                vrrp.shutdown(&mut ctx!(self));
                // Packets go on coming here until somebody else has the addresses.
                self.shared.vrrp.publish_active(*self.active);
                // Each round fills the outbox, until all of them have said it.
                while !self.stages.outbox.is_empty() {
                    self.flush_all();
                    if let Some(vrrp) = &mut self.stages.first_hop.vrrp {
                        vrrp.advertise(&mut ctx!(self));
                    }
                }
                Leaving { since: self.now, heard }
            }
        };
        self.stages.first_hop.leaving = Some(leaving);
        let patience = self.plan.vrrp.as_ref().map_or(Duration::ZERO, |c| {
            // RFC 9568 6.4.2: after a priority of zero a backup waits for its skew time, less than an interval.
            (Duration::from_millis(u64::from(c.interval_cs) * 10) + LEAVE_MARGIN).min(LEAVE_AT_MOST)
        });
        let succeeded = heard != leaving.heard;
        let done = !*self.active || succeeded || self.now.since(leaving.since) >= patience;
        if done {
            if !succeeded && *self.active && !self.shared.peer_ready.load(Ordering::Relaxed) {
                self.no_router_any_more();
            }
            self.shared.left.store(true, Ordering::Release);
        } else {
            self.stop_splicer(1);
        }
        done
    }

    /// The last words of a gateway without virtual routers: it is no router any more (RFC 4861 6.2.5).
    ///
    /// And of the splicer: with virtual routers they were said while nobody else had the addresses.
    pub(super) fn say_goodbye(&mut self) {
        if self.plan.standby.is_none() {
            self.stop_splicer(super::splicer::STOP_ROUNDS);
        }
        if self.id == 0 && self.plan.standby.is_none() {
            self.no_router_any_more();
        }
    }

    fn no_router_any_more(&mut self) {
        for _ in 0..GOODBYES {
            let done = self.stages.first_hop.ra.shutdown(&mut ctx!(self));
            self.flush_all();
            if done {
                return;
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
