//! The table of sites: an immutable snapshot that workers read, of which a change copies little.
//!
//! ```text
//!  name -> hash -> one of 1024 shards (shared with the snapshots before and after) -> entry
//! ```
//!
//! A change copies the list of shards, and one shard: with 100,000 sites about 100 entries.

use super::name::LABELS;
use super::{Backend, Server, Servers, Site};
use hashbrown::HashTable;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// Shards. A power of two.
const SHARDS: usize = 1024;

/// A site with its servers as they are at the moment.
#[derive(Debug)]
pub struct Entry {
    /// What control said.
    pub site: Site,
    /// The servers of `site.backends`.
    servers: Box<[Arc<Server>]>,
    /// Those of `site.alpn`.
    alpn: Box<[Box<[Arc<Server>]>]>,
}

impl Entry {
    /// Of a site that has been [checked](Site::check).
    #[must_use]
    pub fn new(site: Site, servers: &mut Servers) -> Self {
        let mut set = |list: &[Backend]| -> Box<[Arc<Server>]> {
            list.iter().map(|b| servers.get(b.address, &site.health)).collect()
        };
        let alpn = site.alpn.iter().map(|(_, list)| set(list)).collect();
        let servers = set(&site.backends);
        Self { site, servers, alpn }
    }

    /// The servers of the rule for ALPN of this number, or those for everybody else: as configured, and as they are.
    #[must_use]
    pub fn set(&self, rule: Option<u8>) -> (&[Backend], &[Arc<Server>]) {
        let Some(rule) = rule.map(usize::from) else { return (&self.site.backends, &self.servers) };
        match (self.site.alpn.get(rule), self.alpn.get(rule)) {
            (Some((_, backends)), Some(servers)) => (backends, servers),
            _ => (&self.site.backends, &self.servers),
        }
    }
}

type Shard = HashTable<Arc<Entry>>;

/// All sites at some moment.
#[derive(Debug, Clone)]
pub struct SiteTable {
    shards: Box<[Arc<Shard>]>,
    /// How many wildcards there are of each number of labels (without the `*`).
    depths: [u32; LABELS + 1],
    sites: usize,
    /// Keyed, so that nobody finds names that meet in one shard.
    hasher: RandomState,
}

impl Default for SiteTable {
    fn default() -> Self {
        Self::new()
    }
}

fn shard_of(hash: u64) -> usize {
    // The shard's own table uses the lowest and the topmost bits.
    (hash >> 32) as usize % SHARDS
}

/// The number of labels of a wildcard's name without its `*`; nothing if it is none.
fn depth(name: &str) -> Option<usize> {
    let below = name.strip_prefix("*.")?;
    Some((below.bytes().filter(|b| *b == b'.').count() + 1).min(LABELS))
}

impl SiteTable {
    /// No sites.
    #[must_use]
    pub fn new() -> Self {
        let empty = Arc::new(Shard::new());
        Self {
            shards: vec![empty; SHARDS].into(),
            depths: [0; LABELS + 1],
            sites: 0,
            hasher: RandomState::new(),
        }
    }

    /// These sites. Of two with one name the later counts.
    #[must_use]
    pub fn of(sites: impl IntoIterator<Item = Site>, servers: &mut Servers) -> Self {
        let mut table = Self::new();
        for site in sites {
            table.set(Arc::new(Entry::new(site, servers)));
        }
        table
    }

    /// How many sites there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.sites
    }

    /// True if there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sites == 0
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// The site that has just this name; `*.example` is the name of the wildcard.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Entry>> {
        let hash = self.hasher.hash_one(name);
        self.shards.get(shard_of(hash))?.find(hash, |e| e.site.name == name)
    }

    /// The site for clients that ask for this name (in lower case): the one of just this name, or the wildcard with the
    /// longest name above it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Entry>> {
        if let Some(entry) = self.get(name) {
            // Nobody is called `*`: a client that asks for a wildcard by its own name has no name.
            return Some(entry).filter(|_| !name.starts_with('*'));
        }
        if name.len() > super::name::LONGEST || name.starts_with('*') {
            return None;
        }
        let mut key = [0u8; super::name::LONGEST + 2];
        let mut labels = name.bytes().filter(|b| *b == b'.').count();
        let mut rest = name;
        while let Some((_, above)) = rest.split_once('.') {
            if self.depths.get(labels).is_some_and(|n| *n > 0) {
                let octets = above.len() + 2;
                key[..2].copy_from_slice(b"*.");
                key[2..octets].copy_from_slice(above.as_bytes());
                if let Some(entry) = std::str::from_utf8(&key[..octets]).ok().and_then(|key| self.get(key)) {
                    return Some(entry);
                }
            }
            (rest, labels) = (above, labels - 1);
        }
        None
    }

    /// This table with one site more, or one that is another now.
    #[must_use]
    pub fn with(&self, entry: Arc<Entry>) -> Self {
        let mut next = self.clone();
        next.set(entry);
        next
    }

    /// This table without the site of just this name.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut next = self.clone();
        next.remove(name);
        next
    }

    /// Puts a site in, in the place of the one of its name if there is one.
    pub fn set(&mut self, entry: Arc<Entry>) {
        let Self { shards, hasher, .. } = self;
        let hash = hasher.hash_one(&*entry.site.name);
        let shard = Arc::make_mut(&mut shards[shard_of(hash)]);
        if let Some(old) = shard.find_mut(hash, |e| e.site.name == entry.site.name) {
            *old = entry;
            return;
        }
        if let Some(depth) = depth(&entry.site.name) {
            self.depths[depth] += 1;
        }
        self.sites += 1;
        shard.insert_unique(hash, entry, |e| hasher.hash_one(&*e.site.name));
    }

    /// Takes the site of just this name out; true if there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        if self.get(name).is_none() {
            return false;
        }
        let hash = self.hasher.hash_one(name);
        let shard = Arc::make_mut(&mut self.shards[shard_of(hash)]);
        if let Ok(found) = shard.find_entry(hash, |e| e.site.name == name) {
            found.remove();
        }
        if let Some(depth) = depth(name) {
            self.depths[depth] -= 1;
        }
        self.sites -= 1;
        true
    }
}

#[cfg(test)]
mod tests;
