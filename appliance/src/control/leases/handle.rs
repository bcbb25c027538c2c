//! What the control socket sees of the lease thread, and asks of it.

use super::store::{Attribution, Counts, LeaseQuery, Reader, StoreError};
use super::sync::Standing;
use causeway_dhcpv6::{Kind, Lease, UnixSeconds};
use causeway_wire::MacAddr;
use crossbeam::channel::{Sender, bounded};
use serde::{Deserialize, Serialize};
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the thread may take for a command: it may be waiting for the peer and for the disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why a command was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Nothing is leased there.
    #[error("{0}: no lease in use")]
    NoLease(Ipv6Addr),
    /// There is no peer in the configuration.
    #[error("no peer is configured")]
    NoPeer,
    /// The peer is connected.
    #[error("the peer is connected: there is nothing to take over")]
    PeerIsThere,
    /// The store refused.
    #[error("{0}")]
    Store(String),
    /// The thread does not answer.
    #[error("the lease thread does not answer")]
    Gone,
}

/// What the thread is asked.
pub(super) enum Command<C> {
    Release { address: Ipv6Addr, kind: Option<Kind>, reply: Sender<Result<Vec<Lease>, ReleaseError>> },
    Takeover { reply: Sender<Result<(), ReleaseError>> },
    Reconfigure { server: Arc<C>, reply: Sender<()> },
}

/// The disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// True if the store can be written. If not, no new leases are given.
    pub writable: bool,
    /// What the store said when it refused last.
    pub error: Option<String>,
    /// Since when it refuses, seconds since 1970.
    pub refuses_since: Option<UnixSeconds>,
    /// How often it began to refuse.
    pub refusals: u64,
    /// Commits.
    pub commits: u64,
    /// How long the last one took, microseconds.
    pub last_commit_us: u64,
    /// How long the longest one took, microseconds.
    pub longest_commit_us: u64,
    /// How long all took together, microseconds.
    pub all_commits_us: u64,
}

/// The peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// How the pair is doing.
    pub standing: Standing,
    /// True if it is connected.
    pub connected: bool,
    /// When both gateways last knew the same, seconds since 1970.
    pub together: Option<UnixSeconds>,
    /// Why the last connection ended.
    pub ended: Option<String>,
    /// Groups that it acknowledged.
    pub acknowledged: u64,
    /// How long the last acknowledgement took, microseconds.
    pub last_ack_us: u64,
    /// How long the longest took, microseconds.
    pub longest_ack_us: u64,
    /// How often it did not acknowledge in time.
    pub lost: u64,
    /// Changes that came from it.
    pub received: u64,
    /// Addresses that both gateways had given to different clients.
    pub conflicts: u64,
    /// Connections whose other end did not prove to be the peer.
    pub strangers: u64,
}

/// How the lease thread is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// True if this gateway answers.
    pub active: bool,
    /// The server's DUID, in hexadecimal.
    pub duid: String,
    /// Requests handled.
    pub requests: u64,
    /// Groups that they came in.
    pub groups: u64,
    /// Requests of the last group.
    pub last_group: u64,
    /// Requests of the largest group.
    pub largest_group: u64,
    /// Changes of leases.
    pub changes: u64,
    /// Leases ended because nobody renewed them.
    pub expired: u64,
    /// Requests that came while this gateway was a standby.
    pub ignored: u64,
    /// The disk.
    pub disk: DiskReport,
    /// The peer.
    pub peer: PeerReport,
}

/// Names in texts and logs.
#[derive(Debug, Default)]
struct Texts {
    duid: String,
    disk_error: Option<String>,
    ended: Option<String>,
    standing: Option<Standing>,
}

/// What the thread writes and control reads.
#[derive(Debug, Default)]
pub(super) struct Status {
    active: AtomicBool,
    requests: AtomicU64,
    groups: AtomicU64,
    last_group: AtomicU64,
    largest_group: AtomicU64,
    changes: AtomicU64,
    expired: AtomicU64,
    ignored: AtomicU64,
    refuses_since: AtomicU64,
    refusals: AtomicU64,
    commits: AtomicU64,
    last_commit_us: AtomicU64,
    longest_commit_us: AtomicU64,
    all_commits_us: AtomicU64,
    connected: AtomicBool,
    acknowledged: AtomicU64,
    last_ack_us: AtomicU64,
    longest_ack_us: AtomicU64,
    lost: AtomicU64,
    received: AtomicU64,
    conflicts: AtomicU64,
    strangers: AtomicU64,
    together: AtomicU64,
    texts: Mutex<Texts>,
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

impl Status {
    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::Relaxed);
    }

    pub(super) fn add_ignored(&self, n: usize) {
        self.ignored.fetch_add(count(n), Ordering::Relaxed);
    }

    pub(super) fn add_group(&self, requests: usize, changes: usize) {
        let requests = count(requests);
        self.requests.fetch_add(requests, Ordering::Relaxed);
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.last_group.store(requests, Ordering::Relaxed);
        self.largest_group.fetch_max(requests, Ordering::Relaxed);
        self.changes.fetch_add(count(changes), Ordering::Relaxed);
    }

    pub(super) fn add_expired(&self, n: usize) {
        self.expired.fetch_add(count(n), Ordering::Relaxed);
    }

    pub(super) fn add_commit(&self, took: Duration) {
        let took = micros(took);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.last_commit_us.store(took, Ordering::Relaxed);
        self.longest_commit_us.fetch_max(took, Ordering::Relaxed);
        self.all_commits_us.fetch_add(took, Ordering::Relaxed);
    }

    pub(super) fn disk_refused(&self, error: &str, now: UnixSeconds) {
        if self.refuses_since.load(Ordering::Relaxed) == 0 {
            self.refuses_since.store(now.max(1), Ordering::Relaxed);
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        self.texts().disk_error = Some(error.to_owned());
    }

    pub(super) fn disk_serves(&self) {
        self.refuses_since.store(0, Ordering::Relaxed);
    }

    /// Returns whether it is another one than before.
    pub(super) fn set_standing(&self, standing: Standing) -> bool {
        self.texts().standing.replace(standing) != Some(standing)
    }

    pub(super) fn connected(&self, connected: bool, why: &str) {
        self.connected.store(connected, Ordering::Relaxed);
        if !connected {
            self.texts().ended = Some(why.to_owned());
        }
    }

    pub(super) fn add_ack(&self, took: Duration) {
        let took = micros(took);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.last_ack_us.store(took, Ordering::Relaxed);
        self.longest_ack_us.fetch_max(took, Ordering::Relaxed);
    }

    pub(super) fn add_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_from_peer(&self, n: usize) {
        self.received.fetch_add(count(n), Ordering::Relaxed);
    }

    pub(super) fn add_conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_together(&self, at: UnixSeconds) {
        self.together.store(at, Ordering::Relaxed);
    }

    pub(super) fn set_strangers(&self, n: u64) {
        self.strangers.store(n, Ordering::Relaxed);
    }

    fn report(&self) -> LeaseStatus {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let since = of(&self.refuses_since);
        let texts = self.texts();
        LeaseStatus {
            active: self.active.load(Ordering::Relaxed),
            duid: texts.duid.clone(),
            requests: of(&self.requests),
            groups: of(&self.groups),
            last_group: of(&self.last_group),
            largest_group: of(&self.largest_group),
            changes: of(&self.changes),
            expired: of(&self.expired),
            ignored: of(&self.ignored),
            disk: DiskReport {
                writable: since == 0,
                error: texts.disk_error.clone(),
                refuses_since: (since != 0).then_some(since),
                refusals: of(&self.refusals),
                commits: of(&self.commits),
                last_commit_us: of(&self.last_commit_us),
                longest_commit_us: of(&self.longest_commit_us),
                all_commits_us: of(&self.all_commits_us),
            },
            peer: PeerReport {
                standing: texts.standing.unwrap_or(Standing::Single),
                connected: self.connected.load(Ordering::Relaxed),
                together: Some(of(&self.together)).filter(|t| *t != 0),
                ended: texts.ended.clone(),
                acknowledged: of(&self.acknowledged),
                last_ack_us: of(&self.last_ack_us),
                longest_ack_us: of(&self.longest_ack_us),
                lost: of(&self.lost),
                received: of(&self.received),
                conflicts: of(&self.conflicts),
                strangers: of(&self.strangers),
            },
        }
    }
}

/// What the thread and its handles share.
#[derive(Debug)]
pub(super) struct Shared<C> {
    pub(super) status: Status,
    path: PathBuf,
    commands: Sender<Command<C>>,
    reader: Mutex<Option<Reader>>,
}

impl<C> Shared<C> {
    pub(super) fn new(path: PathBuf, commands: Sender<Command<C>>) -> Self {
        Self { status: Status::default(), path, commands, reader: Mutex::new(None) }
    }

    pub(super) fn set_duid(&self, duid: &[u8]) {
        self.status.texts().duid = duid.iter().map(|o| format!("{o:02x}")).collect();
    }
}

/// The lease thread, for the control socket. What is listed is what is on disk. All of this blocks: for calls
/// from threads that may.
#[derive(Debug)]
pub struct LeaseControl<C> {
    shared: Arc<Shared<C>>,
}

impl<C> Clone for LeaseControl<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<C> LeaseControl<C> {
    pub(super) fn new(shared: Arc<Shared<C>>) -> Self {
        Self { shared }
    }

    /// How the thread is doing.
    #[must_use]
    pub fn status(&self) -> LeaseStatus {
        self.shared.status.report()
    }

    fn read<T>(&self, ask: impl FnOnce(&Reader) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut reader = self.shared.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match reader.take() {
            Some(open) => open,
            None => Reader::open(&self.shared.path)?,
        };
        // A reader that failed is not used again.
        let answer = ask(&open)?;
        *reader = Some(open);
        Ok(answer)
    }

    /// A page of leases.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn leases(&self, query: &LeaseQuery) -> Result<Vec<Lease>, StoreError> {
        self.read(|r| r.leases(query))
    }

    /// How many leases there are, by state. Reads all of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.read(Reader::counts)
    }

    /// Who had an address at a time: see [`Reader::who`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn who(&self, address: Ipv6Addr, at: UnixSeconds) -> Result<Vec<Attribution>, StoreError> {
        self.read(|r| r.who(address, at))
    }

    /// What a link-layer address had in a time: see [`Reader::history_of`].
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
        self.read(|r| r.history_of(mac, from, to, limit))
    }

    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command<C>) -> Result<T, ReleaseError> {
        let (reply, answer) = bounded(1);
        self.shared.commands.send_timeout(command(reply), ANSWER_WITHIN).map_err(|_| ReleaseError::Gone)?;
        answer.recv_timeout(ANSWER_WITHIN).map_err(|_| ReleaseError::Gone)
    }

    /// Takes an address, or the prefix that begins with it, from whoever has it; of one kind, or of any. The host
    /// is not told: it keeps using it until it asks again. Returns the leases as they are now.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn release(&self, address: Ipv6Addr, kind: Option<Kind>) -> Result<Vec<Lease>, ReleaseError> {
        self.ask(|reply| Command::Release { address, kind, reply })?
    }

    /// Says that the peer is out of service and will not come back without being told everything: new leases are
    /// given from all pools.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn takeover(&self) -> Result<(), ReleaseError> {
        self.ask(|reply| Command::Takeover { reply })?
    }

    /// Hands a new configuration of the server over; returns when it is in force. Its DUID does not count.
    ///
    /// # Errors
    /// [`ReleaseError::Gone`].
    pub fn reconfigure(&self, server: Arc<C>) -> Result<(), ReleaseError> {
        self.ask(|reply| Command::Reconfigure { server, reply })
    }
}
