//! Reading beside the writer: listings and attribution.

use super::super::history::{self, Attribution};
use super::{Links, StoreError, kind_code, lengths, row, schema, state_of};
use causeway_dhcpv6::{Kind, Lease, State, UnixSeconds};
use causeway_wire::MacAddr;
use rusqlite::Connection;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

/// A connection that only reads, for the control socket. It sees what is committed.
#[derive(Debug)]
pub struct Reader {
    db: Connection,
    path: PathBuf,
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
        Ok(Self { db: schema::connect(path, true)?, path: path.to_owned() })
    }

    fn error(&self, error: rusqlite::Error) -> StoreError {
        StoreError::at(&self.path, error)
    }

    fn links(&self) -> rusqlite::Result<Links> {
        let links = Links::default();
        links.read(&self.db)?;
        Ok(links)
    }

    /// A page of leases, in the order of kind and address.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn leases(&self, query: &LeaseQuery) -> Result<Vec<Lease>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Lease>> {
            let links = self.links()?;
            let (kind, after) =
                query.after.map_or((-1, [0; 16]), |(k, a)| (i64::from(kind_code(k)), a.octets()));
            let sql = format!(
                "SELECT {} FROM leases WHERE (kind, address) > (?1, ?2) AND (?3 IS NULL OR address = ?3) \
                 AND (?4 IS NULL OR mac = ?4) AND (?5 IS NULL OR link = (SELECT id FROM links WHERE name = ?5)) \
                 AND (NOT ?6 OR state = 0) ORDER BY kind, address LIMIT ?7",
                row::LEASE
            );
            let mut find = self.db.prepare_cached(&sql)?;
            let address = query.address.map(|a| a.octets());
            let mac = query.mac.map(|m| m.0);
            let rows = find.query_map(
                (
                    kind,
                    &after[..],
                    address.as_ref().map(|a| &a[..]),
                    mac.as_ref().map(|m| &m[..]),
                    query.link.as_deref(),
                    query.active,
                    i64::try_from(query.limit).unwrap_or(i64::MAX),
                ),
                |r| row::lease(r, 0, &|id| links.name(id)),
            )?;
            rows.collect()
        };
        read().map_err(|e| self.error(e))
    }

    /// How many leases there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn counts(&self) -> Result<Counts, StoreError> {
        let read = || -> rusqlite::Result<Counts> {
            let mut find = self.db.prepare_cached("SELECT state, count(*) FROM leases GROUP BY state")?;
            let mut rows = find.query([])?;
            let mut counts = Counts::default();
            while let Some(r) = rows.next()? {
                let n = row::time(r, 1)?;
                match state_of(r.get(0)?) {
                    Some(State::Active) => counts.active = n,
                    Some(State::Free) => counts.free = n,
                    Some(State::Declined) => counts.declined = n,
                    None => {}
                }
            }
            Ok(counts)
        };
        read().map_err(|e| self.error(e))
    }

    /// Who had `address` at the time `at`: the address itself, or the prefix that it is in. The most specific
    /// first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn who(&self, address: Ipv6Addr, at: UnixSeconds) -> Result<Vec<Attribution>, StoreError> {
        let read = || {
            let links = self.links()?;
            history::who(&self.db, &|id| links.name(id), &lengths(&self.db)?, address, at)
        };
        read().map_err(|e| self.error(e))
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
        let read = || {
            let links = self.links()?;
            history::of_mac(&self.db, &|id| links.name(id), mac, from, to, limit)
        };
        read().map_err(|e| self.error(e))
    }
}
