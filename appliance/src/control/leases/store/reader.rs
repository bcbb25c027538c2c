//! Reading beside the writer: listings and attribution.

use super::history::Attribution;
use super::recent::Recent;
use super::view::{self, View};
use super::{Links, StoreError, schema};
use causeway_dhcpv6::{Kind, Lease, UnixSeconds};
use causeway_wire::MacAddr;
use rusqlite::{Connection, TransactionBehavior};
use std::cell::RefCell;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

/// A connection that only reads, for the control socket. It sees what is committed.
#[derive(Debug)]
pub struct Reader {
    db: Connection,
    path: PathBuf,
    log: RefCell<Log>,
}

/// What was read of the log.
#[derive(Debug, Default)]
struct Log {
    /// Number of the last event that the tables had then.
    folded: u64,
    recent: Recent,
}

/// Which leases a listing wants.
#[derive(Debug, Clone, Default)]
pub struct LeaseQuery {
    /// Of this address, or of a prefix that begins with it.
    pub address: Option<Ipv6Addr>,
    /// With this link-layer address.
    pub mac: Option<MacAddr>,
    /// On this link.
    pub link: Option<String>,
    /// Only those in use.
    pub active: bool,
    /// Behind this one: the last of the page before.
    pub after: Option<(Kind, Ipv6Addr)>,
    /// Rows at most.
    pub limit: usize,
}

/// Leases by their state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// In use.
    pub active: u64,
    /// Released or expired.
    pub free: u64,
    /// Declined.
    pub declined: u64,
}

impl Reader {
    /// Opens a store for reading.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { db: schema::connect(path, true)?, path: path.to_owned(), log: RefCell::default() })
    }

    /// Asks what is committed now: tables and log of the same moment.
    fn read<T>(&self, ask: impl FnOnce(&View<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let read = || {
            let _moment = rusqlite::Transaction::new_unchecked(&self.db, TransactionBehavior::Deferred)?;
            let folded = view::folded(&self.db)?;
            let mut log = self.log.borrow_mut();
            if log.folded != folded {
                *log = Log { folded, recent: Recent::default() };
            }
            let known = log.recent.last().unwrap_or(folded);
            let more = view::read_log(&self.db, known, &mut log.recent);
            if more.is_err() {
                *log = Log::default();
            }
            more?;
            let links = Links::default();
            links.read(&self.db)?;
            ask(&View { db: &self.db, folded, recents: vec![&log.recent], links: &links })
        };
        read().map_err(|e| StoreError::at(&self.path, e))
    }

    /// A page of leases, in the order of kind and address.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn leases(&self, query: &LeaseQuery) -> Result<Vec<Lease>, StoreError> {
        self.read(|view| view.leases(query))
    }

    /// How many leases there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.read(|view| view.counts())
    }

    /// Who had `address` at the time `at`: the address itself, or the prefix that it is in. The most specific
    /// first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn who(&self, address: Ipv6Addr, at: UnixSeconds) -> Result<Vec<Attribution>, StoreError> {
        self.read(|view| view.who(address, at))
    }

    /// What a link-layer address was given from `from` to `to`, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn history_of(
        &self,
        mac: MacAddr,
        from: UnixSeconds,
        to: UnixSeconds,
        limit: usize,
    ) -> Result<Vec<Attribution>, StoreError> {
        self.read(|view| view.of_mac(mac, from, to, limit))
    }
}
