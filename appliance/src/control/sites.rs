//! Sites while the gateway runs: those of the configuration, which only a reload changes, and those of the API, which are
//! kept on disk.
//!
//! ```text
//!  configuration --configure--+--> master (by name) --> SiteTable, published at once --> workers
//!  API ----------set/remove---+          |
//!                             +--> store: on disk before the answer; what cannot be kept is taken back
//! ```

mod portmaps;
mod spec;
mod store;
#[cfg(test)]
mod tests;

pub use portmaps::{PortMapRefusal, PortMapRow, PortMaps, Wanted, named};
pub use spec::{AlpnSpec, BackendSpec, CheckSpec, HealthSpec, IdentitySpec, SiteSpec};
pub use store::StoreError;

use crate::config::{Config, STATE_DIR};
use crate::worker::SplicerShared;
use arc_swap::ArcSwap;
use causeway_core::Instant;
use causeway_core::net::Prefix6;
use causeway_splicer::site::name::normal_site;
use causeway_splicer::site::{Backend, Entry, Server, Servers, Site, SiteTable};
use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::Store;
use tracing::{info, warn};

/// Sites that the API can add, at most.
pub const SITES_MOST: usize = 500_000;
/// The most rows of one answer.
pub const PAGE: usize = 1000;

/// Where sites and port maps are kept that were set while the gateway ran.
#[must_use]
pub fn state_file(config: &Config) -> PathBuf {
    Path::new(STATE_DIR).join(config.gateway.name.as_str()).join("sites.db")
}

/// Why a site is not set, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum SiteRefusal {
    /// There is no splicer.
    #[error("no [splicer] is configured")]
    NoSplicer,
    /// No such site.
    #[error("there is no site `{0}`")]
    Unknown(String),
    /// No such server of the site.
    #[error("site `{0}` has no server {1}")]
    NoServer(String, Ipv6Addr),
    /// A site of the configuration.
    #[error("site `{0}` is in the configuration file: change it there and reload")]
    Configured(String),
    /// Something is wrong with it.
    #[error("site `{0}`: {1}")]
    Bad(String, String),
    /// Too many.
    #[error("there are {SITES_MOST} sites, and no room for more")]
    Full,
    /// It cannot be kept, and was not set for that.
    #[error("not set, because it cannot be kept: {0}")]
    Store(#[from] StoreError),
}

/// Who said that there is a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The configuration.
    Config,
    /// The API.
    Api,
}

/// A site, as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRow {
    /// Its name.
    pub name: String,
    /// Who said so.
    pub origin: Origin,
    /// What was said.
    pub site: SiteSpec,
    /// Its servers as they are, those for ALPN behind the others.
    pub servers: Vec<ServerRow>,
}

/// A server of a site, as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRow {
    /// Its address.
    pub address: Ipv6Addr,
    /// The protocol of clients for which it is there; nothing for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// `up`, `down`, `failing` (up, and a connection to it has failed within seconds) or `draining`.
    pub state: String,
    /// Its part of new connections.
    pub weight: u16,
    /// Connections that it has opened, for all sites that check it alike.
    pub opened: u64,
    /// Connections that it refused or did not answer.
    pub failed: u64,
}

/// Some sites.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SitePage {
    /// The sites, by name.
    pub sites: Vec<SiteRow>,
    /// What to give as `after` for the next page; nothing at the end.
    pub next: Option<String>,
}

/// What is known of a name.
#[derive(Debug)]
struct Known {
    /// The configuration's site: it counts.
    file: Option<Site>,
    /// The API's.
    api: Option<SiteSpec>,
    /// The one that counts, as workers have it.
    entry: Arc<Entry>,
}

impl Known {
    const fn origin(&self) -> Origin {
        if self.file.is_some() { Origin::Config } else { Origin::Api }
    }
}

/// What one writer at a time has.
#[derive(Debug)]
struct Writer {
    servers: Servers,
    /// Opened when there is a splicer for the first time.
    store: Option<Store>,
    /// Client prefixes by their places, as the configuration has them.
    prefixes: Vec<Option<Prefix6>>,
    /// Sites of the API.
    of_api: usize,
    /// There is a splicer.
    configured: bool,
}

/// All sites.
#[derive(Debug)]
pub struct Sites {
    master: DashMap<String, Known>,
    table: Arc<ArcSwap<SiteTable>>,
    writer: Mutex<Writer>,
    path: PathBuf,
}

impl Sites {
    /// None yet; `path` is where those of the API are kept.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            master: DashMap::new(),
            table: Arc::new(ArcSwap::from_pointee(SiteTable::new())),
            writer: Mutex::new(Writer {
                servers: Servers::new(),
                store: None,
                prefixes: Vec::new(),
                of_api: 0,
                configured: false,
            }),
            path,
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What workers have of it. `secret` and `cookies` are random octets of the system.
    #[must_use]
    pub fn shared(&self, secret: [u8; 32], cookies: [u8; 16]) -> SplicerShared {
        let fresh = self.writer().servers.fresh();
        SplicerShared { sites: Arc::clone(&self.table), fresh, secret, cookies }
    }

    /// Takes over the sites of a configuration, and reads those that are kept if that has not happened. `None`: there is no
    /// splicer any more; the API's sites stay kept.
    ///
    /// # Errors
    /// [`StoreError`]: the kept ones cannot be read. Nothing has changed then.
    pub fn configure(&self, splicer: Option<(&causeway_splicer::Config, &[Site])>) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let Some((config, sites)) = splicer else {
            writer.configured = false;
            writer.of_api = 0;
            writer.store = None;
            self.master.clear();
            self.table.store(Arc::new(SiteTable::new()));
            return Ok(());
        };
        let mut kept = Vec::new();
        if writer.store.is_none() {
            let store = Store::open(&self.path)?;
            kept = store.sites()?;
            writer.store = Some(store);
        }
        writer.configured = true;
        writer.prefixes = config.client_prefixes.clone();
        let mut table = SiteTable::clone(&self.table.load());
        for site in sites {
            let mut known = self.master.entry(site.name.clone()).or_insert_with(|| Known {
                file: None,
                api: None,
                entry: Arc::new(Entry::new(site.clone(), &mut writer.servers)),
            });
            known.file = Some(site.clone());
        }
        writer.of_api += self.adopt(kept);
        // What counts now: the file's, else the API's by the client prefixes of today.
        let in_file: HashSet<&str> = sites.iter().map(|s| &*s.name).collect();
        let Writer { servers, prefixes, .. } = &mut *writer;
        self.master.retain(|name, known| {
            if !in_file.contains(&**name) {
                known.file = None;
            }
            let counts = match (&known.file, &known.api) {
                (Some(site), _) => Some(site.clone()),
                (None, Some(spec)) => spec.site(prefixes).inspect_err(|e| warn!("not in use: {e}")).ok(),
                (None, None) => None,
            };
            match counts {
                Some(site) if known.entry.site == site && table.get(name).is_some() => {}
                Some(site) => {
                    known.entry = Arc::new(Entry::new(site, servers));
                    table.set(Arc::clone(&known.entry));
                }
                None => {
                    table.remove(name);
                }
            }
            known.file.is_some() || known.api.is_some()
        });
        info!(sites = table.len(), of_api = writer.of_api, "sites");
        self.table.store(Arc::new(table));
        Ok(())
    }

    /// Puts what was kept into the master; how many.
    fn adopt(&self, kept: Vec<(String, String)>) -> usize {
        let mut adopted = 0;
        for (name, text) in kept {
            let spec: SiteSpec = match serde_json::from_str(&text) {
                Ok(spec) => spec,
                Err(e) => {
                    warn!("site `{name}` was kept in a form that cannot be read, and is not in use: {e}");
                    continue;
                }
            };
            adopted += 1;
            // Nothing that is published: what counts is made of it afterwards.
            let nobody = Arc::new(Entry::new(nobody(&name), &mut Servers::new()));
            let entry = self.master.entry(name);
            let mut known = entry.or_insert_with(|| Known { file: None, api: None, entry: nobody });
            if known.file.is_some() {
                warn!(
                    "site `{}` of the API is in the configuration too, which counts",
                    known.entry.site.name
                );
            }
            known.api = Some(spec);
        }
        adopted
    }

    /// Sets a site, in the place of the API's of its name. What it was, and whether there was one before.
    ///
    /// # Errors
    /// [`SiteRefusal`]; nothing has changed then.
    pub fn set(&self, spec: &SiteSpec, now: Instant) -> Result<(SiteRow, bool), SiteRefusal> {
        let mut writer = self.writer();
        if !writer.configured {
            return Err(SiteRefusal::NoSplicer);
        }
        let site = spec.site(&writer.prefixes)?;
        let spec = SiteSpec { name: site.name.clone(), ..spec.clone() };
        let name = site.name.clone();
        let old = match self.master.get(&name) {
            Some(known) if known.file.is_some() => return Err(SiteRefusal::Configured(name)),
            Some(known) => known.api.clone(),
            None => None,
        };
        if old.is_none() && writer.of_api >= SITES_MOST {
            return Err(SiteRefusal::Full);
        }
        let before = self.table.load_full();
        let entry = Arc::new(Entry::new(site, &mut writer.servers));
        // New connections find it from now on; the disk may take longer.
        self.table.store(Arc::new(before.with(Arc::clone(&entry))));
        let text = serde_json::to_string(&spec).unwrap_or_default();
        if let Some(store) = &writer.store
            && let Err(e) = store.put_site(&name, &text)
        {
            self.table.store(before);
            return Err(e.into());
        }
        let known = Known { file: None, api: Some(spec), entry };
        let row = row(&known, &writer.prefixes, now);
        self.master.insert(name, known);
        let created = old.is_none();
        writer.of_api += usize::from(created);
        info!(site = row.name, created, "site is set");
        Ok((row, created))
    }

    /// Removes a site of the API. Connections that it has go on.
    ///
    /// # Errors
    /// [`SiteRefusal`]; nothing has changed then.
    pub fn remove(&self, name: &str) -> Result<(), SiteRefusal> {
        let mut writer = self.writer();
        let name = self.of_api(&writer, name)?;
        let before = self.table.load_full();
        self.table.store(Arc::new(before.without(&name)));
        if let Some(store) = &writer.store
            && let Err(e) = store.remove_site(&name)
        {
            self.table.store(before);
            return Err(e.into());
        }
        self.master.remove(&name);
        writer.of_api = writer.of_api.saturating_sub(1);
        info!(site = name, "site is removed");
        Ok(())
    }

    /// Says that a server of a site of the API is to get no new connections, or that it is again.
    ///
    /// # Errors
    /// [`SiteRefusal`]; nothing has changed then.
    pub fn drain(
        &self,
        name: &str,
        server: Ipv6Addr,
        draining: bool,
        now: Instant,
    ) -> Result<SiteRow, SiteRefusal> {
        let name = self.of_api(&self.writer(), name)?;
        let mut spec = match self.master.get(&name).and_then(|known| known.api.clone()) {
            Some(spec) => spec,
            None => return Err(SiteRefusal::Unknown(name)),
        };
        let lists = std::iter::once(&mut spec.backends).chain(spec.alpn.iter_mut().map(|r| &mut r.backends));
        let mut found = false;
        for backend in lists.flatten().filter(|b| b.address == server) {
            (backend.draining, found) = (draining, true);
        }
        if !found {
            return Err(SiteRefusal::NoServer(name, server));
        }
        self.set(&spec, now).map(|(row, _)| row)
    }

    /// The name as the table has it, of a site that the API may change.
    fn of_api(&self, writer: &Writer, name: &str) -> Result<String, SiteRefusal> {
        if !writer.configured {
            return Err(SiteRefusal::NoSplicer);
        }
        let unknown = || SiteRefusal::Unknown(name.to_owned());
        let name = normal_site(name).map_err(|_| unknown())?;
        match self.master.get(&name).map(|known| known.origin()) {
            Some(Origin::Api) => Ok(name),
            Some(Origin::Config) => Err(SiteRefusal::Configured(name)),
            None => Err(unknown()),
        }
    }

    /// A site.
    ///
    /// # Errors
    /// [`SiteRefusal::Unknown`], or without a splicer.
    pub fn get(&self, name: &str, now: Instant) -> Result<SiteRow, SiteRefusal> {
        let writer = self.writer();
        if !writer.configured {
            return Err(SiteRefusal::NoSplicer);
        }
        let normal = normal_site(name).ok();
        let known = normal.and_then(|name| self.master.get(&name));
        known
            .map(|known| row(&known, &writer.prefixes, now))
            .ok_or_else(|| SiteRefusal::Unknown(name.to_owned()))
    }

    /// True if there is a site of just this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.table.load().get(name).is_some()
    }

    /// The first `limit` sites behind a name.
    #[must_use]
    pub fn page(&self, after: &str, limit: usize, now: Instant) -> SitePage {
        let prefixes = self.writer().prefixes.clone();
        let mut names: Vec<String> = self
            .master
            .iter()
            .filter(|known| known.key().as_str() > after)
            .map(|known| known.key().clone())
            .collect();
        let more = names.len() > limit;
        if more {
            names.select_nth_unstable(limit);
            names.truncate(limit);
        }
        names.sort_unstable();
        let next = names.last().filter(|_| more).cloned();
        let rows = names.iter().filter_map(|name| Some(row(&*self.master.get(name)?, &prefixes, now)));
        SitePage { sites: rows.collect(), next }
    }

    /// How many there are: of the configuration, of the API; and servers that are up, and down.
    #[must_use]
    pub fn counts(&self) -> SiteCounts {
        let writer = self.writer();
        let (up, down): (Vec<_>, Vec<_>) = writer.servers.iter().partition(|s| s.is_up());
        let all = self.table.load().len();
        let config = self.master.iter().filter(|known| known.origin() == Origin::Config).count();
        SiteCounts {
            sites: all,
            of_config: config,
            of_api: writer.of_api,
            servers_up: up.len(),
            servers_down: down.iter().map(|s| s.address).collect(),
        }
    }
}

/// How many sites there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteCounts {
    /// Sites in use.
    pub sites: usize,
    /// Of the configuration.
    pub of_config: usize,
    /// Of the API, also those that the configuration has too.
    pub of_api: usize,
    /// Servers that are up.
    pub servers_up: usize,
    /// Servers that are down by their checks.
    pub servers_down: Vec<Ipv6Addr>,
}

/// A site that is none yet.
fn nobody(name: &str) -> Site {
    Site {
        name: name.to_owned(),
        backends: Vec::new(),
        alpn: Vec::new(),
        identity: causeway_splicer::site::Identity::None,
        redirect: None,
        health: causeway_splicer::site::Health::default(),
    }
}

fn row(known: &Known, prefixes: &[Option<Prefix6>], now: Instant) -> SiteRow {
    let site = &known.entry.site;
    let mut servers = Vec::new();
    let rules = site.alpn.iter().map(|(protocol, _)| Some(String::from_utf8_lossy(protocol).into_owned()));
    for (protocol, rule) in
        std::iter::once(None).chain(rules).zip(std::iter::once(None).chain((0..).map(Some)))
    {
        let (backends, states) = known.entry.set(rule);
        let all = backends.iter().zip(states);
        servers.extend(all.map(|(b, s)| server_row(b, s, protocol.clone(), now)));
    }
    let site = match (&known.file, &known.api) {
        (None, Some(spec)) => spec.clone(),
        _ => SiteSpec::of(site, prefixes),
    };
    SiteRow { name: known.entry.site.name.clone(), origin: known.origin(), site, servers }
}

fn server_row(b: &Backend, s: &Server, protocol: Option<String>, now: Instant) -> ServerRow {
    let (opened, failed) = s.counts();
    let state = match () {
        () if !s.is_up() => "down",
        () if b.draining => "draining",
        () if s.is_avoided(now) => "failing",
        () => "up",
    };
    ServerRow { address: b.address, protocol, state: state.to_owned(), weight: b.weight, opened, failed }
}
