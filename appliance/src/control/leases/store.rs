//! The lease store: SQLite with a write-ahead log, one writer.
//!
//! ```text
//!  commit(changes)        each change: one event (its number is the change's version), one lease row
//!  incorporate(records)   the same for what the peer did, with its numbers
//!  after(number)          our own events since, for a peer that missed them
//! ```
//! A commit is on disk when it returns (`synchronous = FULL`). A commit that fails leaves nothing behind.
//! Renewals are folded: a renewal of an unchanged lease takes the place of the renewal before it, which it
//! counts, so that history grows by tenures and days, not by packets.

mod reader;
mod row;
mod schema;

pub use reader::{Counts, LeaseQuery, Reader};
pub(super) use row::{
    event_code, event_of, identity_code, identity_of, kind_code, kind_of, lease as read_lease, state_code,
    state_of,
};

use super::history;
use super::sync::merge::{self, Winner};
use causeway_dhcpv6::{Change, Kind, Lease, LeaseEvent, State, UnixSeconds};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, TransactionBehavior};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use tracing::info;

/// Renewals within this time of the first are folded into one event, seconds.
const FOLD_WITHIN: u64 = 24 * 3600;
/// Leases between two lines of progress while they are read.
const PROGRESS: u64 = 250_000;

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

/// What became of a record of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incorporated {
    /// It is the lease now.
    Taken(Lease),
    /// It was known.
    Known,
    /// Both gateways had changed the lease without knowing of each other: this is the lease now.
    Merged {
        /// The lease from now on.
        lease: Lease,
        /// True if two clients had been given it, for overlapping times.
        conflict: bool,
    },
}

/// What the row of a lease has besides the lease.
#[derive(Debug, Clone, Copy, Default)]
struct Version {
    own: u64,
    peer: u64,
    event: i64,
    renewals: u64,
    renewed: UnixSeconds,
}

/// The store. One thread writes; [`Reader`]s may read beside it.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
    node: NodeId,
    head: u64,
    peer_seq: u64,
    links: Links,
    lengths: RefCell<HashSet<u8>>,
    /// Number of the event at which pruning goes on.
    pruning: i64,
    _lock: File,
}

/// Names of links by their number in the file, and the reverse.
#[derive(Debug, Default)]
struct Links {
    ids: RefCell<HashMap<Box<str>, i64>>,
    names: RefCell<HashMap<i64, Box<str>>>,
}

impl Links {
    fn read(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut all = db.prepare("SELECT id, name FROM links")?;
        let mut rows = all.query([])?;
        while let Some(row) = rows.next()? {
            let (id, name): (i64, String) = (row.get(0)?, row.get(1)?);
            self.add(id, name.into());
        }
        Ok(())
    }

    fn add(&self, id: i64, name: Box<str>) {
        self.ids.borrow_mut().insert(name.clone(), id);
        self.names.borrow_mut().insert(id, name);
    }

    fn name(&self, id: i64) -> Option<Box<str>> {
        self.names.borrow().get(&id).cloned()
    }

    fn clear(&self) {
        self.ids.borrow_mut().clear();
        self.names.borrow_mut().clear();
    }

    fn id(&self, db: &Connection, name: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.ids.borrow().get(name) {
            return Ok(*id);
        }
        db.prepare_cached("INSERT INTO links (name) VALUES (?1)")?.execute([name])?;
        let id = db.last_insert_rowid();
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

/// Number of our last event.
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
        let last: Option<i64> = db.query_row("SELECT max(id) FROM events", [], |r| r.get(0)).map_err(at)?;
        let head = get_number(&db, HEAD).map_err(at)?.max(last.map_or(0, row::unsigned));
        let peer_seq = get_number(&db, PEER_SEQ).map_err(at)?;
        let links = Links::default();
        links.read(&db).map_err(at)?;
        let lengths = lengths(&db).map_err(at)?.into_iter().collect();
        Ok(Self {
            db,
            path: path.to_owned(),
            node,
            head,
            peer_seq,
            links,
            lengths: RefCell::new(lengths),
            pruning: 0,
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

    /// Reads all leases and hands them to `take`, telling the log how it goes; returns what that made of them.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a row is not a lease.
    pub fn load<T>(&self, take: impl FnOnce(&mut dyn Iterator<Item = Lease>) -> T) -> Result<T, StoreError> {
        let sql = format!("SELECT {} FROM leases", row::LEASE);
        let read = || -> rusqlite::Result<T> {
            let mut all = self.db.prepare(&sql)?;
            let mut rows = all.query([])?;
            let (mut n, mut failed) = (0, None);
            let mut leases = std::iter::from_fn(|| {
                let next = rows
                    .next()
                    .and_then(|r| r.map(|r| row::lease(r, 0, &|id| self.links.name(id))).transpose());
                n += 1;
                if n % PROGRESS == 0 {
                    info!(leases = n, "reading leases");
                }
                next.unwrap_or_else(|e| {
                    failed = Some(e);
                    None
                })
            });
            let taken = take(&mut leases);
            // What it left has to be sound as well.
            leases.by_ref().for_each(drop);
            failed.map_or(Ok(taken), Err)
        };
        read().map_err(|e| self.error(e))
    }

    /// Writes what was done here. When it returns, it is on disk.
    ///
    /// # Errors
    /// [`StoreError`], and then none of it was done.
    pub fn commit(&mut self, changes: &[Change]) -> Result<Vec<Record>, StoreError> {
        let (head, records) = self
            .write(|store, db| {
                let mut records = Vec::with_capacity(changes.len());
                let mut head = store.head;
                for change in changes {
                    head += 1;
                    records.push(store.put_own(db, head, change)?);
                }
                put_number(db, HEAD, head)?;
                Ok((head, records))
            })
            .map_err(|e| self.error(e))?;
        self.head = head;
        Ok(records)
    }

    /// Writes what the peer did, in its order. Afterwards [`Store::peer_seq`] is the number of the last
    /// record, or `upto` if that is more: the peer has nothing else up to there.
    ///
    /// # Errors
    /// [`StoreError`], and then none of it was done.
    pub fn incorporate(
        &mut self,
        records: &[Record],
        upto: Option<u64>,
    ) -> Result<Vec<Incorporated>, StoreError> {
        let (head, peer_seq, outcome) = self
            .write(|store, db| {
                let mut outcome = Vec::with_capacity(records.len());
                let mut head = store.head;
                for record in records {
                    outcome.push(store.put_peers(db, &mut head, record)?);
                }
                let peer_seq = upto.unwrap_or(0).max(store.peer_seq);
                put_number(db, HEAD, head)?;
                put_number(db, PEER_SEQ, peer_seq)?;
                Ok((head, peer_seq, outcome))
            })
            .map_err(|e| self.error(e))?;
        (self.head, self.peer_seq) = (head, peer_seq);
        Ok(outcome)
    }

    /// Runs `work` in a transaction. What it remembered of a transaction that failed is forgotten.
    fn write<T>(&self, work: impl FnOnce(&Self, &Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let run = || {
            let tx = rusqlite::Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
            let result = work(self, &tx)?;
            tx.commit()?;
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

    fn version(&self, db: &Connection, lease: &Lease) -> rusqlite::Result<Option<Version>> {
        let mut find = db.prepare_cached(
            "SELECT own, peer, event, renewals, renewed FROM leases WHERE kind = ?1 AND address = ?2",
        )?;
        let address = lease.address.octets();
        find.query_row((kind_code(lease.kind), &address[..]), |r| {
            Ok(Version {
                own: row::time(r, 0)?,
                peer: row::time(r, 1)?,
                event: r.get(2)?,
                renewals: row::time(r, 3)?,
                renewed: row::time(r, 4)?,
            })
        })
        .optional()
    }

    fn put_own(&self, db: &Connection, seq: u64, change: &Change) -> rusqlite::Result<Record> {
        let before = self.version(db, &change.after)?.unwrap_or_default();
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
        self.put_event(db, seq, 0, &record)?;
        if folds {
            db.prepare_cached("DELETE FROM events WHERE id = ?1")?.execute([before.event])?;
        }
        self.put_lease(db, &record.lease, Version { own: seq, event: row::number(seq), ..before }, &record)?;
        Ok(record)
    }

    fn put_peers(&self, db: &Connection, head: &mut u64, record: &Record) -> rusqlite::Result<Incorporated> {
        let before = self.version(db, &record.lease)?;
        let version = before.unwrap_or_default();
        if record.seq <= version.peer {
            return Ok(Incorporated::Known);
        }
        *head += 1;
        self.put_event(db, *head, 1, record)?;
        if !record.current {
            return Ok(Incorporated::Known);
        }
        let mut taken = Version { peer: record.seq, event: row::number(*head), ..version };
        // The peer had seen our last change of it, or we never changed it: its word is the newer one.
        if record.seen >= version.own {
            if record.times > 1 && version.renewals > 0 && version.renewed == record.first {
                // It stands for the renewals before it too, as it does there.
                db.prepare_cached("DELETE FROM events WHERE id = ?1")?.execute([version.event])?;
            }
            self.put_lease(db, &record.lease, taken, record)?;
            return Ok(Incorporated::Taken(record.lease.clone()));
        }
        let Some(ours) = self.find(db, record.lease.kind, record.lease.address)? else {
            self.put_lease(db, &record.lease, taken, record)?;
            return Ok(Incorporated::Taken(record.lease.clone()));
        };
        let merged = merge::merge(&ours, &record.lease);
        let lease = match merged.winner {
            Winner::Ours => ours,
            Winner::Theirs => record.lease.clone(),
        };
        taken.renewals = 0;
        self.put_lease(db, &lease, taken, &Record { event: LeaseEvent::Given, ..record.clone() })?;
        Ok(Incorporated::Merged { lease, conflict: merged.conflict })
    }

    fn put_event(&self, db: &Connection, id: u64, origin: u8, record: &Record) -> rusqlite::Result<()> {
        let link = self.links.id(db, &record.lease.link)?;
        let mut insert = db.prepare_cached(concat!(
            "INSERT INTO events (id, origin, seen, event, first, at, times, ",
            "kind, address, length, link, who, duid, iaid, mac, state, preferred, valid, since) ",
            "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
        ))?;
        insert.raw_bind_parameter(1, row::number(id))?;
        insert.raw_bind_parameter(2, origin)?;
        insert.raw_bind_parameter(3, row::number(record.seen))?;
        insert.raw_bind_parameter(4, event_code(record.event))?;
        insert.raw_bind_parameter(5, row::number(record.first))?;
        insert.raw_bind_parameter(6, row::number(record.at))?;
        insert.raw_bind_parameter(7, row::number(record.times))?;
        row::bind(&mut insert, 8, &record.lease, link)?;
        insert.raw_execute()?;
        if record.lease.kind == Kind::Prefix && !self.lengths.borrow().contains(&record.lease.length) {
            db.prepare_cached("INSERT OR IGNORE INTO lengths (length) VALUES (?1)")?
                .execute([record.lease.length])?;
            self.lengths.borrow_mut().insert(record.lease.length);
        }
        Ok(())
    }

    fn put_lease(
        &self,
        db: &Connection,
        lease: &Lease,
        version: Version,
        record: &Record,
    ) -> rusqlite::Result<()> {
        let link = self.links.id(db, &lease.link)?;
        let mut put = db.prepare_cached(concat!(
            "INSERT OR REPLACE INTO leases ",
            "(kind, address, length, link, who, duid, iaid, mac, state, preferred, valid, since, ",
            "own, peer, event, renewals, renewed) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
        ))?;
        row::bind(&mut put, 1, lease, link)?;
        let (renewals, renewed) =
            if record.event == LeaseEvent::Renewed { (record.times, record.first) } else { (0, 0) };
        let n = row::LEASE_COLUMNS + 1;
        put.raw_bind_parameter(n, row::number(version.own))?;
        put.raw_bind_parameter(n + 1, row::number(version.peer))?;
        put.raw_bind_parameter(n + 2, version.event)?;
        put.raw_bind_parameter(n + 3, row::number(renewals))?;
        put.raw_bind_parameter(n + 4, row::number(renewed))?;
        put.raw_execute()?;
        Ok(())
    }

    fn find(&self, db: &Connection, kind: Kind, address: Ipv6Addr) -> rusqlite::Result<Option<Lease>> {
        let mut find = db.prepare_cached(concat!(
            "SELECT kind, address, length, link, who, duid, iaid, mac, state, preferred, valid, since ",
            "FROM leases WHERE kind = ?1 AND address = ?2"
        ))?;
        let octets = address.octets();
        find.query_row((kind_code(kind), &octets[..]), |r| row::lease(r, 0, &|id| self.links.name(id)))
            .optional()
    }

    /// The lease of this kind at this address or prefix, if there ever was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn lease(&self, kind: Kind, address: Ipv6Addr) -> Result<Option<Lease>, StoreError> {
        self.find(&self.db, kind, address).map_err(|e| self.error(e))
    }

    /// Says that the peer is `node` from now on. If it was another one, or none, nothing of it is known here
    /// and it knows nothing of ours: every lease counts as changed by us.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn meet(&mut self, node: NodeId) -> Result<(), StoreError> {
        let known = get_meta(&self.db, PEER).map_err(|e| self.error(e))?;
        if known.as_deref() == Some(&node[..]) {
            return Ok(());
        }
        let head = self.head + 1;
        self.write(|_, db| {
            db.execute("UPDATE leases SET own = ?1, peer = 0", [row::number(head)])?;
            put_number(db, HEAD, head)?;
            // Only a snapshot brings it everything.
            put_number(db, PRUNED, head)?;
            put_number(db, PEER_SEQ, 0)?;
            put_meta(db, PEER, &node)
        })
        .map_err(|e| self.error(e))?;
        (self.head, self.peer_seq) = (head, 0);
        Ok(())
    }

    /// The peer that was met last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn peer(&self) -> Result<Option<NodeId>, StoreError> {
        let node = get_meta(&self.db, PEER).map_err(|e| self.error(e))?;
        Ok(node.and_then(|n| n.try_into().ok()))
    }

    /// A part of what a peer missed that has our events up to `seq`: at most `most` records, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn after(&self, seq: u64, most: usize) -> Result<Missed, StoreError> {
        let pruned = self.number(PRUNED)?;
        let read = || -> rusqlite::Result<Missed> {
            if seq < pruned {
                return Ok(Missed::Pruned);
            }
            let mut find = self.db.prepare_cached(concat!(
                "SELECT id, seen, event, first, at, times, ",
                "kind, address, length, link, who, duid, iaid, mac, state, preferred, valid, since, ",
                "id = (SELECT own FROM leases AS l WHERE l.kind = e.kind AND l.address = e.address) ",
                "FROM events AS e WHERE id > ?1 AND origin = 0 ORDER BY id LIMIT ?2"
            ))?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let rows = find.query_map((row::number(seq), most), |r| {
                Ok(Record {
                    seq: row::time(r, 0)?,
                    seen: row::time(r, 1)?,
                    event: event_of(r.get(2)?).unwrap_or(LeaseEvent::Given),
                    first: row::time(r, 3)?,
                    at: row::time(r, 4)?,
                    times: row::time(r, 5)?,
                    lease: row::lease(r, 6, &|id| self.links.name(id))?,
                    current: r.get(6 + row::LEASE_COLUMNS)?,
                })
            })?;
            Ok(Missed::Records(rows.collect::<rusqlite::Result<_>>()?))
        };
        read().map_err(|e| self.error(e))
    }

    /// A part of all leases that we changed last, behind the key `after`: at most `most`. For a peer that
    /// [`Store::after`] cannot serve.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn snapshot(&self, after: Option<(Kind, Ipv6Addr)>, most: usize) -> Result<Vec<Record>, StoreError> {
        let (kind, address) = after.map_or((-1, [0; 16]), |(k, a)| (i64::from(kind_code(k)), a.octets()));
        let read = || -> rusqlite::Result<Vec<Record>> {
            let mut find = self.db.prepare_cached(concat!(
                "SELECT own, peer, ",
                "kind, address, length, link, who, duid, iaid, mac, state, preferred, valid, since ",
                "FROM leases WHERE (kind, address) > (?1, ?2) AND own > 0 ORDER BY kind, address LIMIT ?3"
            ))?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let rows = find.query_map((kind, &address[..], most), |r| {
                let lease = row::lease(r, 2, &|id| self.links.name(id))?;
                Ok(Record {
                    seq: row::time(r, 0)?,
                    seen: row::time(r, 1)?,
                    event: match lease.state {
                        State::Active if lease.kind == Kind::Registered => LeaseEvent::Registered,
                        State::Active => LeaseEvent::Given,
                        State::Free => LeaseEvent::Released,
                        State::Declined => LeaseEvent::Declined,
                    },
                    first: lease.since,
                    at: lease.since,
                    times: 1,
                    current: true,
                    lease,
                })
            })?;
            rows.collect()
        };
        read().map_err(|e| self.error(e))
    }

    /// Removes events that ended before `before`: looks at no more than `most` at a time, from the oldest on,
    /// and begins anew when it comes to younger ones; returns how many went. The newest event always stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn prune(&mut self, before: UnixSeconds, most: usize) -> Result<usize, StoreError> {
        let (from, head) = (self.pruning, row::number(self.head));
        let slice = self
            .write(|_, db| {
                let slice = history::prune(db, from, row::number(before), head, most)?;
                if let Some(last) = slice.last_gone {
                    put_number(db, PRUNED, get_number(db, PRUNED)?.max(row::unsigned(last)))?;
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

/// What a peer missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// These events; none: nothing.
    Records(Vec<Record>),
    /// Some of its events are gone: it needs a snapshot.
    Pruned,
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
