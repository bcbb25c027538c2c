//! The DHCPv6 server and the workers' bindings, as the lease thread wants them.

use super::{Handled, LeaseSink, Leasing};
use causeway_core::Prefix6;
use causeway_dhcpv6::{Answer, Change, Config, Engine, Grant, Lease, Request, UnixSeconds};
use causeway_flowtable::Bindings;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

impl Leasing for Engine {
    type Config = Config;
    type Request = Request;
    type Answer = Answer;

    fn build(config: Arc<Config>, leases: &mut dyn Iterator<Item = Lease>) -> Self {
        Self::new(config, leases)
    }

    fn with_duid(config: &Config, duid: &[u8]) -> Config {
        Config { server_duid: duid.into(), ..config.clone() }
    }

    fn reconfigure(&mut self, config: Arc<Config>, now: UnixSeconds) -> Vec<Change> {
        Self::reconfigure(self, config, now)
    }

    fn handle(&mut self, request: &Request, now: UnixSeconds, grant: Grant) -> Handled<Answer> {
        let outcome = Self::handle(self, request, now, grant);
        Handled { answer: outcome.answer, changes: outcome.changes }
    }

    fn undo(&mut self, changes: &[Change]) {
        Self::undo(self, changes);
    }

    fn adopt(&mut self, lease: Lease) {
        Self::adopt(self, &lease);
    }

    fn expire(&mut self, now: UnixSeconds, most: usize) -> Vec<Change> {
        Self::expire(self, now, most)
    }

    fn worker(request: &Request) -> u16 {
        request.worker
    }
}

/// The workers' table of who may send from which address, filled from leases. Leases of links behind relays are
/// not in it: their hosts are not seen here.
#[derive(Debug)]
pub struct LeasedSources {
    bindings: Arc<Bindings>,
    /// Links as [`Bindings`] names them, by the name of the network.
    links: RwLock<HashMap<Box<str>, u32>>,
    /// Where they were when leases were told, if they have moved since.
    before: RwLock<Option<HashMap<Box<str>, u32>>>,
    full: AtomicU64,
}

impl LeasedSources {
    /// Fills `bindings`, for networks with these names.
    #[must_use]
    pub fn new(bindings: Arc<Bindings>, links: HashMap<Box<str>, u32>) -> Self {
        Self { bindings, links: RwLock::new(links), before: RwLock::default(), full: AtomicU64::new(0) }
    }

    /// Other networks, or the same in other places. Leases that are there already follow when the lease thread
    /// takes over its configuration next.
    pub fn set_links(&self, links: HashMap<Box<str>, u32>) {
        let mut now = self.links.write().unwrap_or_else(PoisonError::into_inner);
        if *now != links {
            let old = std::mem::replace(&mut *now, links);
            self.before.write().unwrap_or_else(PoisonError::into_inner).get_or_insert(old);
        }
    }

    /// Leases that found no room: their hosts are kept from sending where that is asked for.
    #[must_use]
    pub fn full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    fn place(&self, lease: &Lease) -> Option<(u32, Prefix6)> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        place_in(&links, lease)
    }
}

fn place_in(links: &HashMap<Box<str>, u32>, lease: &Lease) -> Option<(u32, Prefix6)> {
    Some((*links.get(&lease.link)?, Prefix6::containing(lease.address, lease.length)?))
}

impl LeaseSink for Arc<LeasedSources> {
    fn set(&self, lease: &Lease) {
        if let (Some((link, prefix)), Some(mac)) = (self.place(lease), lease.mac)
            && self.bindings.set(link, prefix, mac).is_err()
        {
            self.full.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn remove(&self, lease: &Lease) {
        if let Some((link, prefix)) = self.place(lease) {
            let _ = self.bindings.remove(link, prefix);
        }
    }

    fn have_moved(&self) -> bool {
        self.before.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn set_anew(&self, lease: &Lease) {
        let before = self.before.read().unwrap_or_else(PoisonError::into_inner);
        let was = before.as_ref().and_then(|links| place_in(links, lease));
        if let Some((link, prefix)) = was.filter(|was| self.place(lease) != Some(*was)) {
            let _ = self.bindings.remove(link, prefix);
        }
        self.set(lease);
    }

    fn settled(&self) {
        *self.before.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
