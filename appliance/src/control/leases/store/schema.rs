//! The file: how it is made, opened, checked and carried over from older versions.
//!
//! A new store is made under another name and renamed when it is complete. So a file that is there and has
//! no tables is damaged, and is never taken for a new one.

use super::{StoreError, migrate};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `application_id` in the header of the file: "CWLS".
const APPLICATION_ID: i32 = 0x4357_4c53;
/// Version of the tables, in `user_version`. Each step of [`MIGRATIONS`] leads to the next.
pub(super) const VERSION: i32 = 2;
/// Page cache of the writer, KiB. A million leases with their indexes take about four times as much on
/// disk; what is not cached is read again from the kernel's cache.
const CACHE_KIB: i32 = 32 * 1024;
/// Pages in the log before a commit moves them to the database, which is to have happened earlier and beside it.
const CHECKPOINT_PAGES: i32 = 1 << 15;
/// What the log is cut to after that, octets.
const LOG_OCTETS: i32 = 128 << 20;
/// How long a statement waits for another connection. Only the reader of the control socket has one.
const BUSY: Duration = Duration::from_secs(5);

/// How often the lock is tried, and the wait between.
const LOCK_TRIES: u32 = 20;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// What leads from each version to the next; the first makes the tables.
pub(super) const MIGRATIONS: [&str; VERSION as usize] = ["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE links (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    -- One row for each address or prefix that was ever leased. `own` and `peer` are its version: the number
    -- of our last event for it, and of the peer's; `renewals` and `renewed` fold renewals into one event.
    CREATE TABLE leases (
        kind INTEGER NOT NULL, address BLOB NOT NULL, length INTEGER NOT NULL, link INTEGER NOT NULL,
        who BLOB, duid BLOB NOT NULL, iaid INTEGER NOT NULL, mac BLOB, state INTEGER NOT NULL,
        preferred INTEGER NOT NULL, valid INTEGER NOT NULL, since INTEGER NOT NULL,
        own INTEGER NOT NULL, peer INTEGER NOT NULL,
        event INTEGER NOT NULL, renewals INTEGER NOT NULL, renewed INTEGER NOT NULL,
        PRIMARY KEY (kind, address)
    ) WITHOUT ROWID;
    -- What happened, for attribution and for the peer. `origin` is 0 for our own events and 1 for the
    -- peer's; `seen` is the peer's version that an own event was based on.
    CREATE TABLE events (
        id INTEGER PRIMARY KEY, origin INTEGER NOT NULL, seen INTEGER NOT NULL,
        event INTEGER NOT NULL, first INTEGER NOT NULL, at INTEGER NOT NULL, times INTEGER NOT NULL,
        kind INTEGER NOT NULL, address BLOB NOT NULL, length INTEGER NOT NULL, link INTEGER NOT NULL,
        who BLOB, duid BLOB NOT NULL, iaid INTEGER NOT NULL, mac BLOB, state INTEGER NOT NULL,
        preferred INTEGER NOT NULL, valid INTEGER NOT NULL, since INTEGER NOT NULL
    );
    CREATE INDEX events_by_address ON events (address, first);
    CREATE INDEX events_by_mac ON events (mac, first) WHERE mac IS NOT NULL;
    -- Lengths of prefixes that were ever delegated: what an attribution of an address has to try.
    CREATE TABLE lengths (length INTEGER PRIMARY KEY);
", "
    ALTER TABLE leases RENAME TO old_leases;
    ALTER TABLE events RENAME TO old_events;
    -- The groups that were committed and are not in the other tables yet: each is a blob of events, under the number
    -- of its last one.
    CREATE TABLE log (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
    -- One row for each address or prefix that was ever leased: kind and address, version, and the rest as a blob.
    CREATE TABLE leases (
        key BLOB PRIMARY KEY, own INTEGER NOT NULL, peer INTEGER NOT NULL, body BLOB NOT NULL
    ) WITHOUT ROWID;
    -- What happened, for attribution and for the peer: blocks, and blocks of two indexes.
    CREATE TABLE history (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE by_address (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE by_mac (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE segments (
        id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, live INTEGER NOT NULL,
        addresses INTEGER NOT NULL, macs INTEGER NOT NULL
    );
    CREATE INDEX segments_by_number ON segments (first);
"];
/// What version 2 has no use for once all is carried over.
const OLD: &str = "DROP TABLE old_leases; DROP TABLE old_events";

/// Beside `path`, with something at the end of the name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the lock that keeps a second process away. The kernel drops it with the process.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let at = beside(path, ".lock");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&at)
        .map_err(|error| StoreError::Io { path: at.clone(), what: "opening its lock", error })?;
    // A child that another thread is just starting has it too, until it is another program.
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_WAIT),
            Err(e) => return Err(StoreError::Io { path: at, what: "locking", error: e.into() }),
        }
    }
    Err(StoreError::InUse { path: path.to_owned() })
}

/// Opens the store, making a new one if there is none.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let there = path.try_exists().map_err(|error| StoreError::Io {
        path: path.to_owned(),
        what: "looking for it",
        error,
    })?;
    if !there {
        let log = beside(path, "-wal");
        if log.exists() {
            return Err(damaged(path, "it is missing, but its log is there"));
        }
        make(path)?;
    }
    let db = connect(path, false)?;
    // Before anything that would write to it.
    let id: i32 =
        db.query_row("PRAGMA application_id", [], |r| r.get(0)).map_err(|e| StoreError::at(path, e))?;
    if id != APPLICATION_ID {
        return Err(damaged(path, "it is empty, or a database of something else"));
    }
    keep_a_log(path, &db)?;
    migrate(path, &db)?;
    // What is read at start is looked at first: a row that is lost would be an address given twice.
    let verdict: String =
        db.query_row("PRAGMA quick_check(leases)", [], |r| r.get(0)).map_err(|e| StoreError::at(path, e))?;
    if verdict != "ok" {
        return Err(damaged(path, &verdict));
    }
    Ok(db)
}

fn damaged(path: &Path, why: &str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), why: why.to_owned() }
}

/// A connection with the settings that the store relies on.
pub(super) fn connect(path: &Path, read_only: bool) -> Result<Connection, StoreError> {
    let at = |e| StoreError::at(path, e);
    let access = if read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let db = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(at)?;
    db.busy_timeout(BUSY).map_err(at)?;
    db.set_prepared_statement_cache_capacity(32);
    db.pragma_update(None, "mmap_size", 0).map_err(at)?;
    if read_only {
        db.pragma_update(None, "cache_size", -CACHE_KIB / 8).map_err(at)?;
        return Ok(db);
    }
    db.pragma_update(None, "cache_size", -CACHE_KIB).map_err(at)?;
    Ok(db)
}

/// Has commits written to a log, and the log to the disk, before they return.
fn keep_a_log(path: &Path, db: &Connection) -> Result<(), StoreError> {
    let at = |e| StoreError::at(path, e);
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0)).map_err(at)?;
    if mode != "wal" {
        return Err(StoreError::Unfit { path: path.to_owned(), what: "a write-ahead log" });
    }
    // FULL: the log is on disk when a commit returns.
    db.pragma_update(None, "synchronous", "FULL").map_err(at)?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(at)?;
    db.pragma_update(None, "journal_size_limit", LOG_OCTETS).map_err(at)
}

fn make(path: &Path) -> Result<(), StoreError> {
    let io = |what: &'static str, path: &Path| {
        let path = path.to_owned();
        move |error| StoreError::Io { path, what, error }
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io("making its folder", folder))?;
    let new = beside(path, ".new");
    // Left over from a start that did not come to its end.
    for leftover in [new.clone(), beside(&new, "-wal"), beside(&new, "-shm"), beside(&new, "-journal")] {
        match std::fs::remove_file(&leftover) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(io("removing a leftover", &leftover)(e));
            }
            _ => {}
        }
    }
    let at = |e| StoreError::at(&new, e);
    let db = Connection::open(&new).map_err(at)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(at)?;
    db.pragma_update(None, "application_id", APPLICATION_ID).map_err(at)?;
    migrate(&new, &db)?;
    db.close().map_err(|(_, e)| StoreError::at(&new, e))?;
    std::fs::rename(&new, path).map_err(io("putting it in its place", path))?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(io("syncing its folder", folder))
}

/// Brings the tables to [`VERSION`], each step in a transaction of its own.
pub(super) fn migrate(path: &Path, db: &Connection) -> Result<(), StoreError> {
    let at = |e| StoreError::at(path, e);
    let version: i32 = db.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(at)?;
    let Some(steps) = usize::try_from(version).ok().and_then(|v| MIGRATIONS.get(v..)) else {
        return Err(StoreError::Newer { path: path.to_owned(), version, known: VERSION });
    };
    for (step, sql) in (version..).zip(steps) {
        let one = || -> rusqlite::Result<()> {
            let step_of = rusqlite::Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
            db.execute_batch(sql)?;
            if step == 1 {
                migrate::from_version_1(db)?;
                db.execute_batch(OLD)?;
            }
            db.pragma_update(None, "user_version", step + 1)?;
            step_of.commit()
        };
        one().map_err(at)?;
    }
    Ok(())
}
