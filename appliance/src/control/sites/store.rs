//! Where sites and port maps are kept that were set while the gateway ran: SQLite, one row each, on disk when a call returns.

use rusqlite::{Connection, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The store cannot be had, read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .path.display())]
pub struct StoreError {
    path: PathBuf,
    problem: String,
}

/// The version of the tables.
const VERSION: u32 = 1;

/// The store.
#[derive(Debug)]
pub(super) struct Store {
    db: Connection,
    path: PathBuf,
}

impl Store {
    /// Opens the store, and makes it where there is none.
    ///
    /// # Errors
    /// [`StoreError`]; also if a newer version has written it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let error = |problem: String| StoreError { path: path.to_owned(), problem };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| error(format!("making its folder: {e}")))?;
        }
        let open = || -> rusqlite::Result<(Connection, u32)> {
            let db = Connection::open(path)?;
            db.busy_timeout(Duration::from_secs(5))?;
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.pragma_update(None, "synchronous", "FULL")?;
            let version: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if version == 0 {
                db.execute_batch(&format!(
                    "BEGIN;
                     CREATE TABLE site (name TEXT PRIMARY KEY, spec TEXT NOT NULL) WITHOUT ROWID;
                     CREATE TABLE port_map (
                         protocol INTEGER, address INTEGER, port INTEGER,
                         server BLOB NOT NULL, server_port INTEGER NOT NULL,
                         PRIMARY KEY (protocol, address, port)
                     ) WITHOUT ROWID;
                     PRAGMA user_version = {VERSION};
                     COMMIT;"
                ))?;
            }
            Ok((db, version))
        };
        let (db, version) = open().map_err(|e| error(e.to_string()))?;
        if version > VERSION {
            return Err(error(format!("of version {version}, and this program knows version {VERSION}")));
        }
        Ok(Self { db, path: path.to_owned() })
    }

    fn error(&self, e: &rusqlite::Error) -> StoreError {
        StoreError { path: self.path.clone(), problem: e.to_string() }
    }

    /// All sites: names, and what was said of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn sites(&self) -> Result<Vec<(String, String)>, StoreError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut all = self.db.prepare("SELECT name, spec FROM site ORDER BY name")?;
            all.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        read().map_err(|e| self.error(&e))
    }

    /// Keeps a site, in the place of the one of its name.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub(super) fn put_site(&self, name: &str, spec: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO site (name, spec) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET spec = ?2";
        let mut put = self.db.prepare_cached(sql).map_err(|e| self.error(&e))?;
        put.execute((name, spec)).map(drop).map_err(|e| self.error(&e))
    }

    /// Keeps a site no longer.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub(super) fn remove_site(&self, name: &str) -> Result<(), StoreError> {
        let removed = self.db.execute("DELETE FROM site WHERE name = ?1", [name]);
        removed.map(drop).map_err(|e| self.error(&e))
    }

    /// All port maps: protocol, address and port, and the server's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn port_maps(&self) -> Result<Vec<Row>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Row>> {
            let sql = "SELECT protocol, address, port, server, server_port FROM port_map";
            let mut all = self.db.prepare(sql)?;
            let row = |row: &rusqlite::Row<'_>| {
                Ok(Row {
                    protocol: row.get(0)?,
                    address: row.get(1)?,
                    port: row.get(2)?,
                    server: row.get(3)?,
                    server_port: row.get(4)?,
                })
            };
            all.query_map((), row)?.collect()
        };
        read().map_err(|e| self.error(&e))
    }

    /// Keeps a port map.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub(super) fn put_port_map(&self, row: &Row) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO port_map (protocol, address, port, server, server_port) \
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let row = params![row.protocol, row.address, row.port, row.server, row.server_port];
        self.db.execute(sql, row).map(drop).map_err(|e| self.error(&e))
    }

    /// Keeps a port map no longer.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub(super) fn remove_port_map(&self, row: &Row) -> Result<(), StoreError> {
        let sql = "DELETE FROM port_map WHERE protocol = ?1 AND address = ?2 AND port = ?3";
        let removed = self.db.execute(sql, params![row.protocol, row.address, row.port]);
        removed.map(drop).map_err(|e| self.error(&e))
    }
}

/// A row of a port map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// The protocol's number.
    pub(super) protocol: u8,
    /// The proxy address.
    pub(super) address: u32,
    /// Its port.
    pub(super) port: u16,
    /// The server's address.
    pub(super) server: [u8; 16],
    /// Its port.
    pub(super) server_port: u16,
}
