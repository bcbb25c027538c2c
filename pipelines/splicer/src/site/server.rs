//! Servers as they are at the moment: up or down, and what became of connections to them. Atomics, shared by all workers;
//! one server for all sites that check it in the same way.

use super::{Check, Health};
use causeway_core::{Duration, Instant};
use crossbeam::queue::SegQueue;
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// How long a server that has refused a connection, or not answered, comes behind all others.
pub const AVOIDED_FOR: Duration = Duration::from_secs(3);

/// A server of one or more sites.
#[derive(Debug)]
pub struct Server {
    /// Its address.
    pub address: Ipv6Addr,
    /// How it is checked.
    pub health: Health,
    /// Its checks say that it is down.
    down: AtomicBool,
    /// Microseconds of the clock until which it comes behind others.
    avoided_until: AtomicU64,
    /// Connections that it has opened.
    opened: AtomicU64,
    /// Connections that it has refused, or not answered.
    failed: AtomicU64,
}

impl Server {
    /// One that counts as up until something else is known.
    #[must_use]
    pub fn new(address: Ipv6Addr, health: Health) -> Self {
        Self {
            address,
            health,
            down: AtomicBool::new(false),
            avoided_until: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// True unless its checks say that it is down.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }

    /// What its checks say.
    pub fn set_up(&self, up: bool) {
        self.down.store(!up, Ordering::Relaxed);
    }

    /// True while it comes behind others because a connection to it failed.
    #[must_use]
    pub fn is_avoided(&self, now: Instant) -> bool {
        now.as_micros() < self.avoided_until.load(Ordering::Relaxed)
    }

    /// A connection to it was opened: it is no longer avoided.
    pub fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        if self.avoided_until.load(Ordering::Relaxed) != 0 {
            self.avoided_until.store(0, Ordering::Relaxed);
        }
    }

    /// It refused a connection, or did not answer.
    pub fn failed(&self, now: Instant) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.avoided_until.store((now + AVOIDED_FOR).as_micros(), Ordering::Relaxed);
    }

    /// Connections opened, and failed, since it is known.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.opened.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

/// What servers are known by.
type Key = (Ipv6Addr, Health);

/// All servers, as control keeps them, so that a server outlives changes of its sites.
#[derive(Debug, Default)]
pub struct Servers {
    known: HashMap<Key, Weak<Server>>,
    /// Entries after which those that are gone are looked for.
    tidy_at: usize,
    fresh: Arc<SegQueue<Weak<Server>>>,
}

impl Servers {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The server of this address that is checked like this: one that is known, or a new one.
    pub fn get(&mut self, address: Ipv6Addr, health: &Health) -> Arc<Server> {
        // How often nothing is done makes no difference.
        let health = if health.check == Check::None { Health::default() } else { health.clone() };
        let key = (address, health);
        if let Some(server) = self.known.get(&key).and_then(Weak::upgrade) {
            return server;
        }
        if self.known.len() >= self.tidy_at {
            self.known.retain(|_, server| server.strong_count() > 0);
            self.tidy_at = (2 * self.known.len()).max(64);
        }
        let server = Arc::new(Server::new(address, key.1.clone()));
        if server.health.check != Check::None {
            self.fresh.push(Arc::downgrade(&server));
        }
        self.known.insert(key, Arc::downgrade(&server));
        server
    }

    /// Where servers that are to be checked appear, each once, when they become known. The [`super::Checker`] takes them.
    #[must_use]
    pub fn fresh(&self) -> Arc<SegQueue<Weak<Server>>> {
        Arc::clone(&self.fresh)
    }

    /// All that some site has.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Server>> {
        self.known.values().filter_map(Weak::upgrade)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 1);

    #[test]
    fn sites_that_check_a_server_alike_share_it_and_it_is_gone_with_the_last() {
        let mut servers = Servers::new();
        let checked = Health { check: Check::Tcp(80), ..Health::default() };
        let a = servers.get(A, &checked);
        assert!(Arc::ptr_eq(&a, &servers.get(A, &checked)));
        let unchecked = servers.get(A, &Health::default());
        assert!(!Arc::ptr_eq(&a, &unchecked));
        let same = Health { interval: Duration::from_secs(1), ..Health::default() };
        assert!(Arc::ptr_eq(&unchecked, &servers.get(A, &same)));
        assert_eq!((servers.fresh().len(), servers.iter().count()), (1, 2), "only one is checked");
        a.set_up(false);
        drop(a);
        assert_eq!(servers.iter().count(), 1);
        assert!(servers.get(A, &checked).is_up(), "a new one");
        for n in 0..10_000u128 {
            drop(servers.get(Ipv6Addr::from_bits(n), &checked));
        }
        assert!(servers.known.len() <= 64, "those that are gone take no room");
    }

    #[test]
    fn who_refuses_is_avoided_for_a_while_or_until_it_answers() {
        let server = Server::new(A, Health::default());
        let now = Instant::from_micros(1_000_000);
        assert!(!server.is_avoided(now));
        server.failed(now);
        assert!(server.is_avoided(now + (AVOIDED_FOR - Duration::from_micros(1))) && server.is_up());
        assert!(!server.is_avoided(now + AVOIDED_FOR));
        server.opened();
        assert!(!server.is_avoided(now));
        assert_eq!(server.counts(), (1, 1));
    }
}
