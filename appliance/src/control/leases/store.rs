//! The lease store: SQLite with a write-ahead log, one writer.
//!
//! ```text
//!  commit(changes)        one row of the log for all: for each change an event, whose number is the lease's version
//!  incorporate(records)   the same for what the peer did, with its numbers
//!  fold(most)             later, and in slices: from the log to the tables of leases and of history
//!  after(number)          our own events since, for a peer that missed them
//! ```
//! A commit is on disk when it returns (`synchronous = FULL`). A commit that fails leaves nothing behind. What the
//! log has is in memory as well ([`recent`]), and whoever asks is told of it and of the tables ([`view`]).
//!
//! Renewals are folded: a renewal of an unchanged lease takes the place of the renewal before it, which it
//! counts, so that history grows by tenures and days, not by packets.

mod checkpoint;
mod filter;
mod fold;
mod history;
mod merge;
mod migrate;
mod octets;
mod peers;
mod reader;
mod recent;
mod row;
mod schema;
mod segments;
mod view;

pub use history::Attribution;
pub use peers::{Incorporated, Missed};
pub use reader::{Counts, LeaseQuery, Reader};
pub(super) use row::{
    event_code, event_of, identity_code, identity_of, kind_code, kind_of, state_code, state_of,
};

use causeway_dhcpv6::{Change, Kind, Lease, LeaseEvent, State, UnixSeconds};
use checkpoint::Checkpoints;
use filter::Filter;
use fold::Fold;
use merge::Merge;
use octets::{Entry, Kept, Key, Version, begin_blob, end_blob, key_of, put_lease};
use recent::Recent;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use tracing::info;
use view::View;

/// Renewals within this time of the first are folded into one event, seconds.
const FOLD_WITHIN: u64 = 24 * 3600;
/// Leases between two lines of progress while they are read.
const PROGRESS: usize = 250_000;
/// Leases that are read at once.
const PAGE: usize = 4096;

/// Who a store is: random, made once.
pub type NodeId = [u8; 16];

/// What is wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("lease store {}: another causeway uses it", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error(
        "lease store {0}: it is damaged ({why}). Nothing is leased without it, because addresses in use would be \
         given to others. Either restore it from a backup; or move {0}, {0}-wal and {0}-shm away: then, with a \
         peer that has the leases, they are fetched from it; without one, every host that has an address must be \
         told to ask again before new addresses are given out", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A later version wrote it.
    #[error("lease store {}: its format is {version}, this version knows {known} and older", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: i32,
        /// Ours.
        known: i32,
    },
    /// The file system cannot do what is needed.
    #[error("lease store {}: its file system does not allow {what}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The system refused.
    #[error("lease store {}: {what}: {error}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What came of it.
        error: std::io::Error,
    },
    /// The database refused.
    #[error("lease store {}: {error}", .path.display())]
    Sql {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: rusqlite::Error,
    },
}

impl StoreError {
    fn at(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path, why: error.to_string() }
            }
            _ if matches!(error, rusqlite::Error::FromSqlConversionFailure(..)) => {
                Self::Damaged { path, why: error.to_string() }
            }
            _ => Self::Sql { path, error },
        }
    }
}

/// A change with its place in a gateway's order, as a peer is told of it and as history keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Number of the event at the gateway that made it: the lease's version there.
    pub seq: u64,
    /// The version of the receiver's own that the change was made on top of.
    pub seen: u64,
    /// What happened.
    pub event: LeaseEvent,
    /// When; of folded renewals the first.
    pub first: UnixSeconds,
    /// When; of folded renewals the last.
    pub at: UnixSeconds,
    /// How many renewals it stands for, from 1.
    pub times: u64,
    /// Nothing happened to the lease there since. If not, a later record follows, and this one is history: a
    /// receiver that changed the lease as well must not merge with what no longer is.
    pub current: bool,
    /// The lease afterwards.
    pub lease: Lease,
}

/// The store. One thread writes; [`Reader`]s may read beside it.
#[derive(Debug)]
pub struct Store {
    /// Before the connection: the last one that is closed tidies up.
    checkpoints: Checkpoints,
    db: Connection,
    path: PathBuf,
    node: NodeId,
    head: u64,
    peer_seq: u64,
    links: Links,
    lengths: RefCell<HashSet<u8>>,
    /// Number of the block at which pruning goes on.
    pruning: i64,
    /// Number of the last event that the tables have.
    folded: u64,
    /// What they do not have, but for what is being folded.
    recent: Recent,
    fold: Option<Fold>,
    merge: Option<Merge>,
    /// There may be segments to merge.
    may_merge: bool,
    /// Keys that have a lease, once all were read.
    filter: RefCell<Option<Filter>>,
    blob: Vec<u8>,
    lease: Vec<u8>,
    _lock: File,
}

/// Names of links by their number in the file, and the reverse.
#[derive(Debug, Default)]
struct Links {
    ids: RefCell<HashMap<Box<str>, u64>>,
    names: RefCell<HashMap<u64, Box<str>>>,
}

impl Links {
    fn read(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut all = db.prepare_cached("SELECT id, name FROM links")?;
        let mut rows = all.query([])?;
        while let Some(r) = rows.next()? {
            self.add(row::time(r, 0)?, r.get::<_, String>(1)?.into());
        }
        Ok(())
    }

    fn add(&self, id: u64, name: Box<str>) {
        self.ids.borrow_mut().insert(name.clone(), id);
        self.names.borrow_mut().insert(id, name);
    }

    fn name(&self, id: u64) -> Option<Box<str>> {
        self.names.borrow().get(&id).cloned()
    }

    fn known(&self, name: &str) -> Option<u64> {
        self.ids.borrow().get(name).copied()
    }

    fn clear(&self) {
        self.ids.borrow_mut().clear();
        self.names.borrow_mut().clear();
    }

    fn id(&self, db: &Connection, name: &str) -> rusqlite::Result<u64> {
        if let Some(id) = self.known(name) {
            return Ok(id);
        }
        db.prepare_cached("INSERT INTO links (name) VALUES (?1)")?.execute([name])?;
        let id = row::unsigned(db.last_insert_rowid());
        self.add(id, name.into());
        Ok(id)
    }
}

/// Octets that nobody can guess.
pub(super) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut octets = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(octets)
}

fn get_meta(db: &Connection, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |r| r.get(0)).optional()
}

fn put_meta(db: &Connection, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?.execute((key, value))?;
    Ok(())
}

fn get_number(db: &Connection, key: &str) -> rusqlite::Result<u64> {
    Ok(get_meta(db, key)?.and_then(|v| v.try_into().ok()).map_or(0, u64::from_be_bytes))
}

fn put_number(db: &Connection, key: &str, n: u64) -> rusqlite::Result<()> {
    put_meta(db, key, &n.to_be_bytes())
}

/// Number of our last event; the log may have later ones.
const HEAD: &str = "head";
/// Number of the peer's last event that we have.
const PEER_SEQ: &str = "peer-seq";
/// The peer that this is about.
const PEER: &str = "peer";
/// Our identity.
const NODE: &str = "node";
/// The server's DUID.
const DUID: &str = "duid";
/// Number up to which our own events may have been pruned.
const PRUNED: &str = "pruned";
/// Number of the last event that is folded.
const FOLDED: &str = "folded";

impl Store {
    /// Opens the store at `path`, or makes a new one if there is none.
    ///
    /// # Errors
    /// [`StoreError`]; a file that is damaged, somebody else's or from a later version is never replaced.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| StoreError::Io {
                path: folder.to_owned(),
                what: "making its folder",
                error,
            })?;
        }
        let lock = schema::lock(path)?;
        let db = schema::open(path)?;
        let at = |e| StoreError::at(path, e);
        let node = match get_meta(&db, NODE).map_err(at)?.and_then(|n| NodeId::try_from(n).ok()) {
            Some(node) => node,
            None => {
                let io = |error| StoreError::Io { path: path.to_owned(), what: "making its identity", error };
                let node: NodeId = random().map_err(io)?;
                put_meta(&db, NODE, &node).map_err(at)?;
                node
            }
        };
        let folded = view::folded(&db).map_err(at)?;
        let mut recent = Recent::default();
        let last = view::read_log(&db, folded, &mut recent).map_err(at)?;
        let head = get_number(&db, HEAD).map_err(at)?.max(folded).max(last.unwrap_or(0));
        let peer_seq = get_number(&db, PEER_SEQ).map_err(at)?;
        let links = Links::default();
        links.read(&db).map_err(at)?;
        let lengths = lengths(&db).map_err(at)?.into_iter().collect();
        Ok(Self {
            checkpoints: Checkpoints::default(),
            db,
            path: path.to_owned(),
            node,
            head,
            peer_seq,
            links,
            lengths: RefCell::new(lengths),
            pruning: 0,
            folded,
            recent,
            fold: None,
            merge: None,
            may_merge: true,
            filter: RefCell::default(),
            blob: Vec::new(),
            lease: Vec::new(),
            _lock: lock,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who this store is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Number of the last event; 0: there was none.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Number of the last event of the peer that is in the store.
    #[must_use]
    pub fn peer_seq(&self) -> u64 {
        self.peer_seq
    }

    fn error(&self, error: rusqlite::Error) -> StoreError {
        StoreError::at(&self.path, error)
    }

    /// The DUID of the server, if one was kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn duid(&self) -> Result<Option<Box<[u8]>>, StoreError> {
        Ok(get_meta(&self.db, DUID).map_err(|e| self.error(e))?.map(Vec::into_boxed_slice))
    }

    /// Keeps a DUID, and no other any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_duid(&self, duid: &[u8]) -> Result<(), StoreError> {
        put_meta(&self.db, DUID, duid).map_err(|e| self.error(e))
    }

    /// The DUID of the server: the one that was kept, or a new one of type UUID (RFC 9915 11.5), kept from
    /// now on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn duid_or_new(&self) -> Result<Box<[u8]>, StoreError> {
        if let Some(duid) = self.duid()? {
            return Ok(duid);
        }
        let mut uuid: [u8; 16] = random().map_err(|error| StoreError::Io {
            path: self.path.clone(),
            what: "making a DUID",
            error,
        })?;
        // RFC 9562 5.4: a random UUID says so.
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let duid = [&[0, 4][..], &uuid].concat();
        self.set_duid(&duid)?;
        Ok(duid.into())
    }

    /// A number that is kept under a name: state of the parts that use the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn number(&self, key: &str) -> Result<u64, StoreError> {
        get_number(&self.db, key).map_err(|e| self.error(e))
    }

    /// Keeps a number under a name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_number(&self, key: &str, n: u64) -> Result<(), StoreError> {
        put_number(&self.db, key, n).map_err(|e| self.error(e))
    }

    /// Whether something can be written and reaches the disk.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot.
    pub fn probe(&self) -> Result<(), StoreError> {
        let n = self.number("probe")?.wrapping_add(1);
        self.set_number("probe", n)
    }

    /// What there is.
    fn view(&self) -> View<'_> {
        let folding = self.fold.iter().filter(|f| !f.is_marked()).map(|f| &f.recent);
        let recents = std::iter::once(&self.recent).chain(folding).collect();
        View { db: &self.db, folded: self.folded, recents, links: &self.links }
    }

    /// Reads all leases and hands them to `take`, telling the log how it goes; returns what that made of them.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a row is not a lease.
    pub fn load<T>(&self, take: impl FnOnce(&mut dyn Iterator<Item = Lease>) -> T) -> Result<T, StoreError> {
        let mut filter = Filter::default();
        let mut hashes = Vec::new();
        let (mut behind, mut failed) = (None, None);
        let mut page = Vec::new().into_iter();
        let mut n = 0;
        let mut leases = std::iter::from_fn(|| {
            if let Some(lease) = page.next() {
                return Some(lease);
            }
            if failed.is_some() {
                return None;
            }
            match self.page(behind, &mut |key| hashes.push(filter.hash(key))) {
                Ok((last, leases)) => {
                    if n / PROGRESS != (n + leases.len()) / PROGRESS {
                        info!(leases = n + leases.len(), "reading leases");
                    }
                    n += leases.len();
                    (behind, page) = (last.or(behind), leases.into_iter());
                }
                Err(e) => failed = Some(e),
            }
            page.next()
        });
        let taken = take(&mut leases);
        // What it left has to be sound as well.
        leases.by_ref().for_each(drop);
        if let Some(e) = failed {
            return Err(self.error(e));
        }
        filter.reserve(hashes.len() * 2);
        hashes.into_iter().for_each(|hash| filter.insert(hash));
        *self.filter.borrow_mut() = Some(filter);
        Ok(taken)
    }

    /// Leases behind a key, with the last key.
    fn page(
        &self,
        behind: Option<Key>,
        seen: &mut dyn FnMut(&Key),
    ) -> rusqlite::Result<(Option<Key>, Vec<Lease>)> {
        let (view, mut last, mut leases) = (self.view(), None, Vec::with_capacity(PAGE));
        view.rows(behind, &mut |key, _, octets| {
            seen(key);
            last = Some(*key);
            leases.push(view.lease(key, octets)?);
            Ok(leases.len() < PAGE)
        })?;
        Ok((last, leases))
    }

    /// Writes what was done here. When it returns, it is on disk.
    ///
    /// # Errors
    /// [`StoreError`], and then none of it was done.
    pub fn commit(&mut self, changes: &[Change]) -> Result<Vec<Record>, StoreError> {
        let mut head = self.head;
        let records = self.append(|store| {
            let mut records = Vec::with_capacity(changes.len());
            for change in changes {
                head += 1;
                records.push(store.put_own(head, change)?);
            }
            Ok(records)
        })?;
        self.head = head;
        Ok(records)
    }

    /// Runs `work`, which adds events to what is in memory, and writes those to the log.
    fn append<T>(&mut self, work: impl FnOnce(&mut Self) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.recent.begin();
        let done = self.write(|store| {
            let done = work(store)?;
            if let Some(last) = store.recent.last().filter(|_| !store.recent.added().is_empty()) {
                begin_blob(&mut store.blob);
                store.blob.extend(store.recent.added());
                end_blob(&mut store.blob);
                store
                    .db
                    .prepare_cached("INSERT INTO log (id, body) VALUES (?1, ?2)")?
                    .execute((row::number(last), &store.blob))?;
                store.checkpoints.wrote(store.blob.len(), 2);
            }
            Ok(done)
        });
        done.map_err(|e| {
            self.recent.roll_back();
            self.error(e)
        })
    }

    /// Runs `work` in a transaction. What it remembered of a transaction that failed is forgotten.
    fn write<T>(&mut self, work: impl FnOnce(&mut Self) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let run = || {
            self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let result = work(self)?;
            self.db.prepare_cached("COMMIT")?.execute([])?;
            Ok(result)
        };
        run().inspect_err(|_| {
            if !self.db.is_autocommit() {
                let _ = self.db.execute_batch("ROLLBACK");
            }
            self.links.clear();
            let _ = self.links.read(&self.db);
            self.lengths.borrow_mut().clear();
        })
    }

    /// The version of the lease under a key, if there is one.
    fn version(&self, key: &Key) -> rusqlite::Result<Option<Version>> {
        if let Some((version, _)) = self.recent.row(key) {
            return Ok(Some(version));
        }
        if let Some(filter) = &*self.filter.borrow()
            && !filter.may_have(filter.hash(key))
        {
            return Ok(None);
        }
        Ok(self.view().find(key)?.map(|(version, _)| version))
    }

    /// Adds an event of `record`, whose number here is `id`.
    fn add(
        &mut self,
        id: u64,
        peers: Option<(u64, u64)>,
        replaces: u64,
        record: &Record,
        kept: KeptLease<'_>,
    ) -> rusqlite::Result<()> {
        let mut lease = std::mem::take(&mut self.lease);
        lease.clear();
        let l = &record.lease;
        put_lease(&mut lease, l, self.links.id(&self.db, &l.link)?);
        let end = lease.len();
        if let KeptLease::Other(other) = kept {
            put_lease(&mut lease, other, self.links.id(&self.db, &other.link)?);
        }
        let key = key_of(l.kind, l.address);
        let (its, other) = lease.split_at(end);
        self.recent.add(&Entry {
            id,
            peers,
            event: record.event,
            first: record.first,
            at: record.at.max(record.first),
            times: record.times,
            seen: record.seen,
            replaces,
            key,
            lease: its,
            kept: match kept {
                KeptLease::Before => Kept::Before,
                KeptLease::Its => Kept::Its,
                KeptLease::Other(_) => Kept::Other(other),
            },
        });
        self.lease = lease;
        if let Some(filter) = &mut *self.filter.borrow_mut() {
            let hash = filter.hash(&key);
            if !filter.may_have(hash) {
                filter.insert(hash);
            }
        }
        if l.kind == Kind::Prefix && !self.lengths.borrow().contains(&l.length) {
            self.db
                .prepare_cached("INSERT OR IGNORE INTO lengths (length) VALUES (?1)")?
                .execute([l.length])?;
            self.lengths.borrow_mut().insert(l.length);
        }
        Ok(())
    }

    fn put_own(&mut self, seq: u64, change: &Change) -> rusqlite::Result<Record> {
        let key = key_of(change.after.kind, change.after.address);
        let before = self.version(&key)?.unwrap_or_default();
        let mut record = Record {
            seq,
            seen: before.peer,
            event: change.event,
            first: change.at,
            at: change.at,
            times: 1,
            current: true,
            lease: change.after.clone(),
        };
        let folds = change.event == LeaseEvent::Renewed
            && before.renewals > 0
            && change.at.saturating_sub(before.renewed) < FOLD_WITHIN
            && change.before.as_ref().is_some_and(|b| same_tenure(b, &change.after));
        if folds {
            (record.first, record.times) = (before.renewed, before.renewals + 1);
        }
        let replaces = if folds { before.event } else { 0 };
        self.add(seq, None, replaces, &record, KeptLease::Its)?;
        Ok(record)
    }

    /// The lease of this kind at this address or prefix, if there ever was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn lease(&self, kind: Kind, address: Ipv6Addr) -> Result<Option<Lease>, StoreError> {
        let (view, key) = (self.view(), key_of(kind, address));
        let read = || view.find(&key)?.map(|(_, octets)| view.lease(&key, &octets)).transpose();
        read().map_err(|e| self.error(e))
    }

    /// Removes events of the tables that ended before `before`: looks at blocks of them until those had `most`, from
    /// the oldest on, and begins anew when it comes to younger ones; returns how many went. The newest event
    /// always stays. What segments of history that came to nothing leave behind goes as well.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn prune(&mut self, before: UnixSeconds, most: usize) -> Result<usize, StoreError> {
        let (from, numbers) = (self.pruning, (self.folded, self.head));
        let merging = self.merge.as_ref().map_or(-1, Merge::id);
        let slice = self
            .write_behind(|store| {
                let db = &store.db;
                if let Some(empty) = segments::empty(db, merging)? {
                    empty.remove(db, most.div_ceil(8))?;
                }
                let slice = history::prune(db, from, before, numbers, most)?;
                if let Some(last) = slice.last_gone {
                    put_number(db, PRUNED, get_number(db, PRUNED)?.max(last))?;
                }
                Ok(slice)
            })
            .map_err(|e| self.error(e))?;
        self.pruning = slice.next;
        Ok(slice.gone)
    }

    /// A reader beside this writer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.path)
    }

    /// True if a fold was begun in this file and did not come to its end.
    #[cfg(test)]
    pub(super) fn is_half_folded(&self) -> bool {
        // Some of what the log has is in history; or none of it, but in the table of leases.
        let sql = "SELECT EXISTS (SELECT 1 FROM history WHERE id > ?1) OR EXISTS (SELECT 1 FROM leases WHERE own > ?1) \
                   OR EXISTS (SELECT 1 FROM log WHERE id <= ?1)";
        self.db.query_row(sql, [row::number(self.folded)], |r| r.get(0)).unwrap()
    }

    /// Limits the file, as a full disk would.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: i64) {
        self.db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    }

    /// Pages in use.
    #[cfg(test)]
    pub(super) fn pages(&self) -> i64 {
        self.db.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap()
    }
}

/// Which lease is kept after an event.
#[derive(Clone, Copy)]
enum KeptLease<'a> {
    Before,
    Its,
    Other(&'a Lease),
}

/// Whether a renewal continues what was before it.
fn same_tenure(a: &Lease, b: &Lease) -> bool {
    a.state == State::Active
        && b.state == State::Active
        && a.length == b.length
        && a.since == b.since
        && a.iaid == b.iaid
        && a.mac == b.mac
        && a.link == b.link
        && a.identity == b.identity
        && a.duid == b.duid
}

fn lengths(db: &Connection) -> rusqlite::Result<Vec<u8>> {
    db.prepare_cached("SELECT length FROM lengths ORDER BY length DESC")?
        .query_map([], |r| r.get(0))?
        .collect()
}

#[cfg(test)]
mod tests;
