//! Events that workers have for control: fetched from their rings, kept in the master map, logged within
//! limits.

use super::introspect::Introspect;
use super::state::State;
use crate::log::RateLimited;
use causeway_core::event::Event;
use causeway_core::{Counter, Instant};
use causeway_wire::MacAddr;
use dashmap::DashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::{debug, info, warn};

/// Events taken off one worker's ring in one go; a worker that makes more than that does not keep
/// control from the others.
const AT_ONCE: usize = 4096;

/// What control remembers of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NeighborRecord {
    pub(super) mac: MacAddr,
    /// Seconds since 1970 at which it was first seen under this address.
    pub(super) since: u64,
    /// How often the address changed.
    pub(super) moves: u64,
}

/// Neighbours as workers told of them, by name of the network and address. Bounded as the workers'
/// tables are.
#[derive(Debug)]
pub(super) struct NeighborMap {
    map: DashMap<(String, IpAddr), NeighborRecord>,
    most: usize,
}

/// What an event did to the map.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Learned {
    New,
    Same,
    Moved(MacAddr),
    NoRoom,
}

impl NeighborMap {
    pub(super) fn new(most: usize) -> Self {
        Self { map: DashMap::new(), most }
    }

    pub(super) fn get(&self, interface: &str, address: IpAddr) -> Option<NeighborRecord> {
        self.map.get(&(interface.to_owned(), address)).map(|r| *r)
    }

    pub(super) fn resolved(&self, interface: String, address: IpAddr, mac: MacAddr, now_s: u64) -> Learned {
        let full = self.map.len() >= self.most;
        match self.map.entry((interface, address)) {
            dashmap::Entry::Occupied(mut entry) => {
                let record = entry.get_mut();
                if record.mac == mac {
                    return Learned::Same;
                }
                let before = record.mac;
                *record = NeighborRecord { mac, since: now_s, moves: record.moves + 1 };
                Learned::Moved(before)
            }
            dashmap::Entry::Vacant(_) if full => Learned::NoRoom,
            dashmap::Entry::Vacant(entry) => {
                entry.insert(NeighborRecord { mac, since: now_s, moves: 0 });
                Learned::New
            }
        }
    }

    pub(super) fn unreachable(&self, interface: String, address: IpAddr) -> bool {
        self.map.remove(&(interface, address)).is_some()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }
}

/// Causes of log lines that strangers can bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Cause {
    Moved,
    Conflict,
    TableFull(&'static str),
    Lost,
    RogueRouter,
    VrrpConflict,
    Declined,
}

/// Fetches events for as long as control runs.
pub(super) async fn run(state: Arc<State>, every: Duration) {
    let mut handler = Handler::new();
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        if let Some(gateway) = state.gateway() {
            handler.drain(&state.neighbors, gateway.as_ref());
            state.look_whether_ready(gateway.as_ref());
        }
    }
}

/// Handles events.
#[derive(Debug)]
pub(super) struct Handler {
    limits: RateLimited<Cause>,
    started: std::time::Instant,
    lost: u64,
}

impl Handler {
    pub(super) fn new() -> Self {
        // Five lines of a cause at once, and then one a second.
        Self { limits: RateLimited::new(1, 5, 64), started: std::time::Instant::now(), lost: 0 }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Fetches what is there; returns how many events that were.
    pub(super) fn drain(&mut self, neighbors: &NeighborMap, gateway: &dyn Introspect) -> usize {
        let mut events = 0;
        for worker in 0..gateway.workers() {
            for _ in 0..AT_ONCE {
                let Some(event) = gateway.next_event(worker) else { break };
                events += 1;
                self.handle(neighbors, gateway, worker, event);
            }
        }
        let lost = gateway.counters().iter().map(|c| c.get(Counter::EventsLost)).sum();
        if lost > self.lost {
            let more = lost - self.lost;
            self.log(Cause::Lost, |kept_back| {
                warn!(more, kept_back, "workers lost events: their ring to control was full");
            });
        }
        self.lost = lost;
        events
    }

    fn log(&mut self, cause: Cause, write: impl FnOnce(u64)) {
        let now = self.now();
        if let Some(kept_back) = self.limits.allow(cause, now) {
            write(kept_back);
        }
    }

    fn handle(&mut self, neighbors: &NeighborMap, gateway: &dyn Introspect, worker: u16, event: Event) {
        let name = |id| gateway.interface_name(id).unwrap_or_else(|| format!("interface {}", id.0));
        match event {
            Event::NeighborResolved { interface, address, mac } => {
                let network = name(interface);
                match neighbors.resolved(network.clone(), address, mac, unix_seconds()) {
                    Learned::New | Learned::NoRoom => debug!(%address, %mac, network, "neighbour resolved"),
                    Learned::Same => {}
                    Learned::Moved(before) => self.log(Cause::Moved, |kept_back| {
                        info!(%address, %mac, %before, network, kept_back, "neighbour has another link-layer address");
                    }),
                }
            }
            Event::NeighborUnreachable { interface, address } => {
                let network = name(interface);
                if neighbors.unreachable(network.clone(), address) {
                    debug!(%address, network, "neighbour does not answer any more");
                }
            }
            Event::TableFull { table } => self.log(Cause::TableFull(table), |kept_back| {
                warn!(table, worker, kept_back, "flow table is full");
            }),
            // Of the workers alone: a sibling acts on it.
            Event::LeaseGiven { .. } => {}
            Event::BecameActive => info!("the virtual routers are active here"),
            Event::BecameBackup => info!("the virtual routers are active elsewhere"),
            Event::RogueRouter { interface, address, mac } => {
                let network = name(interface);
                self.log(Cause::RogueRouter, |kept_back| {
                    warn!(%address, %mac, network, kept_back, "somebody else advertises itself as a router");
                });
            }
            Event::VrrpConflict { interface, address, vrid, reason } => {
                let network = name(interface);
                self.log(Cause::VrrpConflict, |kept_back| {
                    warn!(%address, vrid, reason, network, kept_back, "VRRP message of our virtual router refused");
                });
            }
            Event::LeaseDeclined { interface, address, mac } => {
                let network = name(interface);
                self.log(Cause::Declined, |kept_back| {
                    warn!(%address, %mac, network, kept_back, "client found its address in use and declined it");
                });
            }
            Event::PlanAdopted { worker, generation } => debug!(worker, generation, "plan adopted"),
            Event::AddressConflict { interface, address, mac } => {
                let network = name(interface);
                self.log(Cause::Conflict, |kept_back| {
                    warn!(%address, %mac, network, kept_back, "somebody else answers for an address of ours");
                });
            }
        }
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn the_map_learns_moves_and_forgets_within_its_bound() {
        let m = NeighborMap::new(2);
        let a: IpAddr = "2001:db8:64::101".parse().unwrap();
        let b: IpAddr = "2001:db8:64::102".parse().unwrap();
        let c: IpAddr = "2001:db8:64::103".parse().unwrap();
        assert_eq!(m.resolved("t".to_owned(), a, mac(1), 10), Learned::New);
        assert_eq!(m.resolved("t".to_owned(), a, mac(1), 11), Learned::Same);
        assert_eq!(m.resolved("t".to_owned(), a, mac(2), 12), Learned::Moved(mac(1)));
        assert_eq!(m.get("t", a), Some(NeighborRecord { mac: mac(2), since: 12, moves: 1 }));
        assert_eq!(
            m.resolved("u".to_owned(), a, mac(1), 13),
            Learned::New,
            "another network is another neighbour"
        );
        assert_eq!(m.resolved("t".to_owned(), b, mac(1), 14), Learned::NoRoom);
        assert!(m.unreachable("u".to_owned(), a) && !m.unreachable("u".to_owned(), c));
        assert_eq!((m.resolved("t".to_owned(), b, mac(1), 15), m.len()), (Learned::New, 2));
    }
}
