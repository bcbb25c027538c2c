//! The leases, and what they are found by: address, identity, time.
//!
//! Everything but the list of entries follows from it and from the configuration: an entry that changes is
//! taken out of all indexes and put back. So a change that is undone leaves nothing behind.

use super::places::Places;
use super::pool::Pool;
use super::shares::Shares;
use super::spans::Spans;
use crate::config::Config;
use crate::lease::{Duid, Identity, Kind, Lease, State, UnixSeconds};
use causeway_core::Prefix6;
use causeway_wire::MacAddr;
use hashbrown::HashTable;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// No entry.
const NONE: u32 = u32::MAX;

/// A lease as it is kept: 128 octets, and its DUID.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) identity: Identity,
    pub(super) duid: Duid,
    pub(super) address: Ipv6Addr,
    pub(super) preferred_until: UnixSeconds,
    pub(super) valid_until: UnixSeconds,
    since: UnixSeconds,
    pub(super) iaid: u32,
    /// The next entry of the same identity.
    next: u32,
    /// Index into the names.
    link: u32,
    mac: Option<MacAddr>,
    pub(super) length: u8,
    pub(super) kind: Kind,
    pub(super) state: State,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) places: Places,
    entries: Vec<Entry>,
    by_key: HashTable<u32>,
    /// The first entry of each identity.
    by_identity: HashTable<u32>,
    /// Ends of active and declined leases.
    due: BTreeSet<(UnixSeconds, u32)>,
    /// Prefixes that have a lease.
    spans: Spans,
    /// Sorted by kind and first address.
    pools: Vec<Pool>,
    hasher: RandomState,
    /// Names of links, those of the past included.
    names: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32>,
    /// Leases by the name of their link, and how many more there may be.
    shares: Shares,
}

impl Book {
    pub(super) fn new(config: Arc<Config>) -> Self {
        let mut new = Self {
            places: Places::new(config),
            entries: Vec::new(),
            by_key: HashTable::new(),
            by_identity: HashTable::new(),
            due: BTreeSet::new(),
            spans: Spans::default(),
            pools: Vec::new(),
            hasher: RandomState::new(),
            names: Vec::new(),
            numbers: HashMap::new(),
            shares: Shares::default(),
        };
        new.make_pools();
        new.make_shares();
        new
    }

    /// Takes over another configuration; the leases stay.
    pub(super) fn reconfigure(&mut self, config: Arc<Config>) {
        self.places = Places::new(config);
        self.make_pools();
        self.make_shares();
    }

    fn make_pools(&mut self) {
        let mut pools = Vec::new();
        for (at, link) in self.places.config.links.iter().enumerate() {
            pools.extend(link.pools.iter().map(|range| Pool::of_addresses(at, range)));
            pools.extend(link.delegations.iter().map(|d| Pool::of_prefixes(at, d)));
        }
        pools.sort_by_key(|p| (p.kind, p.first()));
        self.pools = pools;
        for kind in [Kind::Address, Kind::Prefix] {
            for address in self.places.all_blocked(kind) {
                let lengths: BTreeSet<u8> =
                    self.pools.iter().filter(|p| p.kind == kind).map(|p| p.length).collect();
                for length in lengths {
                    if let Some(pool) = self.pool_of(kind, address, length) {
                        self.pools[pool].mark(address, true);
                    }
                }
            }
        }
        for at in 0..self.entries.len() {
            self.tell_pool(at);
        }
    }

    fn make_shares(&mut self) {
        let config = Arc::clone(&self.places.config);
        let mut links = Vec::with_capacity(config.links.len());
        for (at, link) in config.links.iter().enumerate() {
            let pools = self.pools.iter().filter(|p| p.link == at).map(Pool::count);
            let reserved = link.reservations.iter().map(|r| r.addresses.len() + r.prefixes.len());
            let needs = pools.chain(reserved.map(|n| n as u128)).fold(0, u128::saturating_add);
            links.push((self.name(&link.name), needs));
        }
        self.shares.configure(config.capacity, &links);
    }

    /// True if a link may have one lease more when `others` are given to it besides those that are here.
    pub(super) fn may_grow(&self, link: usize, others: usize) -> bool {
        let number = self.numbers.get(&self.places.link(link).name).copied();
        self.shares.may_grow(number, u32::try_from(others).unwrap_or(u32::MAX))
    }

    /// How many leases there are, of all states.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// The pool that an address or prefix belongs to.
    pub(super) fn pool_of(&self, kind: Kind, address: Ipv6Addr, length: u8) -> Option<usize> {
        let behind = self.pools.partition_point(|p| (p.kind, p.first()) <= (kind, address.to_bits()));
        // Pools should not overlap; a few are looked at in case that some do.
        (0..behind).rev().take(4).find(|at| {
            let pool = &self.pools[*at];
            pool.kind == kind && pool.number(address, length).is_some()
        })
    }

    pub(super) fn pool(&self, at: usize) -> &Pool {
        &self.pools[at]
    }

    /// The pools of a link and kind.
    pub(super) fn pools_of(&self, link: usize, kind: Kind) -> impl Iterator<Item = &Pool> {
        self.pools.iter().filter(move |p| p.link == link && p.kind == kind)
    }

    fn key_hash(&self, kind: Kind, address: Ipv6Addr) -> u64 {
        self.hasher.hash_one((kind, address))
    }

    fn find(&self, kind: Kind, address: Ipv6Addr) -> Option<u32> {
        let entries = &self.entries;
        let same = |at: &u32| {
            let e = &entries[*at as usize];
            e.address == address && e.kind == kind
        };
        self.by_key.find(self.key_hash(kind, address), same).copied()
    }

    /// The lease of an address or prefix.
    pub(super) fn get(&self, kind: Kind, address: Ipv6Addr) -> Option<&Entry> {
        self.find(kind, address).map(|at| &self.entries[at as usize])
    }

    /// The leases of an identity.
    pub(super) fn of(&self, identity: &Identity) -> impl Iterator<Item = &Entry> {
        let entries = &self.entries;
        let first = self
            .by_identity
            .find(self.hasher.hash_one(identity), |at| entries[*at as usize].identity == *identity)
            .copied();
        std::iter::successors(first.and_then(|at| entries.get(at as usize)), |e| entries.get(e.next as usize))
    }

    /// The link of an entry, if it is still configured.
    pub(super) fn link_of(&self, entry: &Entry) -> Option<usize> {
        self.places.named(&self.names[entry.link as usize])
    }

    /// True if a prefix overlaps one that somebody has or might still use at `now`, but for the lease that
    /// begins where it does and has its length.
    pub(super) fn overlaps(&self, address: Ipv6Addr, length: u8, now: UnixSeconds) -> bool {
        let Some(prefix) = Prefix6::containing(address, length) else { return true };
        let hold = self.places.config.hold.as_secs();
        self.spans.overlapping(prefix).map(|at| &self.entries[at as usize]).any(|e| {
            let itself = e.address == address && e.length == length;
            !itself && (e.state != State::Free || e.valid_until.saturating_add(hold) > now)
        })
    }

    /// The end that is next, if it is not after `now`: of which lease.
    pub(super) fn due(&self, now: UnixSeconds) -> Option<&Entry> {
        let (at, number) = self.due.first()?;
        (*at <= now).then(|| &self.entries[*number as usize])
    }

    /// Entries by number, as [`Pool::ended`] has them.
    pub(super) fn entry(&self, number: u32) -> &Entry {
        &self.entries[number as usize]
    }

    pub(super) fn lease_of(&self, e: &Entry) -> Lease {
        Lease {
            kind: e.kind,
            address: e.address,
            length: e.length,
            link: self.names[e.link as usize].clone(),
            identity: e.identity.clone(),
            duid: e.duid.clone(),
            iaid: e.iaid,
            mac: e.mac,
            state: e.state,
            preferred_until: e.preferred_until,
            valid_until: e.valid_until,
            since: e.since,
        }
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = Lease> + '_ {
        self.entries.iter().map(|e| self.lease_of(e))
    }

    fn name(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        number
    }

    /// Puts a lease in, in place of the one of the same address.
    pub(super) fn put(&mut self, lease: &Lease) {
        let link = self.name(&lease.link);
        let entry = Entry {
            identity: lease.identity.clone(),
            duid: lease.duid.clone(),
            address: lease.address,
            preferred_until: lease.preferred_until,
            valid_until: lease.valid_until,
            since: lease.since,
            iaid: lease.iaid,
            next: NONE,
            link,
            mac: lease.mac,
            length: lease.length,
            kind: lease.kind,
            state: lease.state,
        };
        let at = match self.find(lease.kind, lease.address) {
            Some(at) => {
                self.unlink(at);
                self.shares.count(self.entries[at as usize].link, false);
                self.entries[at as usize] = entry;
                at
            }
            None => {
                let at = u32::try_from(self.entries.len()).unwrap_or(NONE);
                self.entries.push(entry);
                at
            }
        };
        self.shares.count(link, true);
        self.relink(at);
    }

    /// Takes a lease out, as if the address had never been leased.
    pub(super) fn remove(&mut self, kind: Kind, address: Ipv6Addr) {
        let Some(at) = self.find(kind, address) else { return };
        self.unlink(at);
        self.shares.count(self.entries[at as usize].link, false);
        let last = u32::try_from(self.entries.len() - 1).unwrap_or(NONE);
        if at == last {
            self.entries.pop();
            return;
        }
        self.unlink(last);
        self.entries.swap_remove(at as usize);
        self.relink(at);
    }

    fn unlink(&mut self, at: u32) {
        let e = &self.entries[at as usize];
        let (kind, address, length, ends) = (e.kind, e.address, e.length, e.valid_until);
        let next = e.next;
        if let Ok(found) = self.by_key.find_entry(self.hasher.hash_one((kind, address)), |i| *i == at) {
            found.remove();
        }
        // The chain of the identity.
        let entries = &mut self.entries;
        let hash = self.hasher.hash_one(&entries[at as usize].identity);
        let same = |i: &u32| entries[*i as usize].identity == entries[at as usize].identity;
        if let Ok(mut found) = self.by_identity.find_entry(hash, same) {
            let mut before = *found.get();
            if before == at {
                if next == NONE {
                    found.remove();
                } else {
                    *found.get_mut() = next;
                }
            } else {
                while entries[before as usize].next != at {
                    before = entries[before as usize].next;
                }
                entries[before as usize].next = next;
            }
        }
        self.due.remove(&(ends, at));
        if kind == Kind::Prefix
            && let Some(prefix) = Prefix6::containing(address, length)
        {
            self.spans.remove(prefix);
        }
        if let Some(pool) = self.pool_of(kind, address, length) {
            self.pools[pool].ended.remove(&(ends, at));
            let blocked = self.places.blocked(kind, address, length, None);
            self.pools[pool].mark(address, blocked);
        }
    }

    fn relink(&mut self, at: u32) {
        let (entries, hasher) = (&mut self.entries, &self.hasher);
        let e = &entries[at as usize];
        let (kind, address, length, ends) = (e.kind, e.address, e.length, e.valid_until);
        let state = e.state;
        self.by_key.insert_unique(hasher.hash_one((kind, address)), at, |i| {
            let e = &entries[*i as usize];
            hasher.hash_one((e.kind, e.address))
        });
        let hash = hasher.hash_one(&e.identity);
        let same = |i: &u32| entries[*i as usize].identity == entries[at as usize].identity;
        let rehash = |i: &u32| hasher.hash_one(&entries[*i as usize].identity);
        let next = match self.by_identity.entry(hash, same, rehash) {
            hashbrown::hash_table::Entry::Occupied(mut first) => std::mem::replace(first.get_mut(), at),
            hashbrown::hash_table::Entry::Vacant(none) => {
                none.insert(at);
                NONE
            }
        };
        entries[at as usize].next = next;
        if state != State::Free {
            self.due.insert((ends, at));
        }
        if kind == Kind::Prefix
            && let Some(prefix) = Prefix6::containing(address, length)
        {
            self.spans.insert(prefix, at);
        }
        self.tell_pool(at as usize);
    }

    fn tell_pool(&mut self, at: usize) {
        let e = &self.entries[at];
        let (kind, address, length) = (e.kind, e.address, e.length);
        let (state, ends) = (e.state, e.valid_until);
        let Some(pool) = self.pool_of(kind, address, length) else { return };
        self.pools[pool].mark(address, true);
        if state == State::Free && !self.places.blocked(kind, address, length, None) {
            self.pools[pool].ended.insert((ends, u32::try_from(at).unwrap_or(NONE)));
        }
    }
}
