//! The lease thread: takes requests of all workers in groups, writes what they change in one commit, has the
//! peer acknowledge it, and only then answers.
//!
//! What can go wrong with a group, and what is done:
//!
//! | | engine | disk | clients |
//! | --- | --- | --- | --- |
//! | the disk refuses | changes undone | nothing | handled again with what needs no disk |
//! | the peer does not acknowledge | changes undone | changes taken back | handled again as [`Grant::Known`] |
//! | the process dies | | all or nothing | no answer; they ask again |
//!
//! The thread never waits for workers: it sleeps at most [`IDLE`] and looks at the rings again. An answer that
//! finds its ring full waits, and so do that worker's further requests.

mod peer;
mod release;

use super::handle::{Command, LeaseControl, Shared};
use super::store::{Store, StoreError};
use super::sync::link::{Link, LinkError};
use super::{LeaseSink, LeasesConfig, Leasing};
use crate::log::RateLimited;
use causeway_core::Instant as Moment;
use causeway_dhcpv6::{Change, Grant, Kind, Lease, State, UnixSeconds};
use crossbeam::channel::{Receiver, bounded};
use crossbeam::queue::ArrayQueue;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::{error, info, warn};

/// Requests of a group, at most.
const GROUP: usize = 1024;
/// How long the thread sleeps when nothing happens.
const IDLE: Duration = Duration::from_micros(500);
/// Leases ended by a commit, at most.
const EXPIRE: usize = 1024;
/// Events looked at in a slice of pruning, and the time between two slices.
const PRUNE: (usize, Duration) = (1024, Duration::from_millis(250));
/// Leases or events that a slice of folding is about, at least and at most.
const FOLD: (usize, usize) = (32, 512);
/// The first wait for a disk that refused, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Commands of the control socket that wait.
const COMMANDS: usize = 16;

/// What a request came to.
#[derive(Debug)]
pub struct Handled<A> {
    /// What the worker sends, if anything.
    pub answer: Option<Box<A>>,
    /// What has to be on disk before.
    pub changes: Vec<Change>,
}

/// A worker's rings.
#[derive(Debug)]
pub struct Rings<L: Leasing> {
    /// From the worker.
    pub requests: Arc<ArrayQueue<Box<L::Request>>>,
    /// To the worker.
    pub answers: Arc<ArrayQueue<Box<L::Answer>>>,
}

/// What the thread is started with.
pub struct Spec<L: Leasing> {
    /// The server's configuration.
    pub server: Arc<L::Config>,
    /// One pair for each worker, in order.
    pub rings: Vec<Rings<L>>,
    /// Who may send from which address.
    pub bindings: Box<dyn LeaseSink>,
    /// Whether this gateway answers. A standby answers nothing.
    pub active: Box<dyn Fn() -> bool + Send>,
    /// The time of day.
    pub clock: Box<dyn Fn() -> UnixSeconds + Send>,
}

impl<L: Leasing> std::fmt::Debug for Spec<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spec").field("workers", &self.rings.len()).finish_non_exhaustive()
    }
}

/// The time of day, for [`Spec::clock`].
#[must_use]
pub fn time_of_day() -> UnixSeconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Why leases cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The peer.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The thread.
    #[error("lease thread: {0}")]
    Thread(std::io::Error),
}

/// A store that is open, before anything runs: the server's DUID is known.
#[derive(Debug)]
pub struct Opened {
    config: LeasesConfig,
    store: Store,
    duid: Box<[u8]>,
}

/// Opens the store.
///
/// # Errors
/// [`StoreError`].
pub fn open(config: LeasesConfig) -> Result<Opened, StoreError> {
    let store = Store::open(&config.path)?;
    let duid = match &config.duid {
        Some(duid) => {
            if store.duid()?.as_ref() != Some(duid) {
                store.set_duid(duid)?;
            }
            duid.clone()
        }
        None => store.duid_or_new()?,
    };
    Ok(Opened { config, store, duid })
}

impl Opened {
    /// The server's DUID. It changes once if the store is new and a peer has leases already.
    #[must_use]
    pub fn duid(&self) -> &[u8] {
        &self.duid
    }

    /// Reads the leases, tells the workers of them, and starts the thread.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start<L: Leasing>(self, spec: Spec<L>) -> Result<Leases<L>, StartError> {
        let Self { config, store, duid } = self;
        let begun = Instant::now();
        let server = Arc::new(L::with_duid(&spec.server, &duid));
        let mut count = 0u64;
        let engine = store.load(|leases| {
            let mut told = leases.inspect(|lease| {
                count += 1;
                if binds(lease) {
                    spec.bindings.set(lease);
                }
            });
            L::build(Arc::clone(&server), &mut told)
        })?;
        info!(leases = count, took = ?begun.elapsed(), path = %store.path().display(), "leases are read");
        let link = match &config.peer {
            Some(peer) => Some(Link::start(peer, store.node(), peer::dead_after(peer))?),
            None => None,
        };
        let (commands, inbox) = bounded(COMMANDS);
        let shared = Arc::new(Shared::new(config.path.clone(), commands));
        shared.set_duid(&duid);
        let peer = peer::Peer::new(&store, link, &config, (spec.clock)())?;
        let stop = Arc::new(AtomicBool::new(false));
        let workers = spec.rings.len();
        let mut thread = Thread {
            engine,
            store,
            server: spec.server,
            duid,
            config,
            rings: spec.rings,
            bindings: spec.bindings,
            active: spec.active,
            clock: spec.clock,
            now: 0,
            was_active: false,
            peer,
            inbox,
            shared: Arc::clone(&shared),
            disk: Disk::Good,
            unwritten: HashMap::new(),
            backlog: (0..workers).map(|_| VecDeque::new()).collect(),
            next_worker: 0,
            group: Vec::new(),
            expired_at: 0,
            pruned: Instant::now(),
            written: 0,
            limits: RateLimited::new(1, 3, 16),
            started: Instant::now(),
        };
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("cw-leases".to_owned())
            .spawn(move || thread.run(&stopping))
            .map_err(StartError::Thread)?;
        Ok(Leases { shared, stop, thread: Some(thread), _engine: std::marker::PhantomData })
    }
}

/// The lease thread, running. Dropping it stops it.
#[derive(Debug)]
pub struct Leases<L: Leasing> {
    shared: Arc<Shared<L::Config>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _engine: std::marker::PhantomData<fn() -> L>,
}

impl<L: Leasing> Leases<L> {
    /// What control asks.
    #[must_use]
    pub fn control(&self) -> LeaseControl<L::Config> {
        LeaseControl::new(Arc::clone(&self.shared))
    }

    /// True once the thread has ended, which it does by itself only by a panic: no request is answered any
    /// more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the thread. Requests that it had taken are answered; those in the rings are not.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the lease thread panicked");
        }
    }
}

impl<L: Leasing> Drop for Leases<L> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether packets may be sent from what is leased.
pub(super) fn binds(lease: &Lease) -> bool {
    lease.state == State::Active && lease.mac.is_some()
}

/// What a lease is kept under.
type Key = (Kind, Ipv6Addr);

const fn key(lease: &Lease) -> Key {
    (lease.kind, lease.address)
}

/// The disk, as far as it is known.
#[derive(Debug)]
enum Disk {
    Good,
    Bad { wait: Duration, again: Instant },
}

/// Causes of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Cause {
    Disk,
    Conflict,
    Peer,
}

struct Thread<L: Leasing> {
    engine: L,
    store: Store,
    /// As configured; the engine has it with our DUID.
    server: Arc<L::Config>,
    duid: Box<[u8]>,
    config: LeasesConfig,
    rings: Vec<Rings<L>>,
    bindings: Box<dyn LeaseSink>,
    active: Box<dyn Fn() -> bool + Send>,
    clock: Box<dyn Fn() -> UnixSeconds + Send>,
    /// The time of day; it never goes back while the process runs.
    now: UnixSeconds,
    was_active: bool,
    peer: peer::Peer,
    inbox: Receiver<Command<L::Config>>,
    shared: Arc<Shared<L::Config>>,
    disk: Disk,
    /// What the engine granted while the disk refused; written as soon as it does not.
    unwritten: HashMap<Key, Change>,
    /// Answers that found their ring full.
    backlog: Vec<VecDeque<Box<L::Answer>>>,
    next_worker: usize,
    group: Vec<Box<L::Request>>,
    /// The time of day up to which leases were ended.
    expired_at: UnixSeconds,
    pruned: Instant,
    /// Changes of the last group.
    written: usize,
    limits: RateLimited<Cause>,
    started: Instant,
}

/// What a group came to: answers by worker, and all changes.
struct Outcome<A> {
    answers: Vec<(usize, Box<A>)>,
    changes: Vec<Change>,
}

impl<L: Leasing> Thread<L> {
    fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            if !self.turn() {
                // A message of the peer wakes it; workers do not, as they make no system calls.
                self.wait_for_peer(IDLE);
            }
        }
        self.flush();
    }

    /// Does what there is to do; false if that was nothing.
    fn turn(&mut self) -> bool {
        self.now = self.now.max((self.clock)());
        let mut busy = self.look_at_active();
        busy |= self.commands();
        busy |= self.peer_turn();
        busy |= self.flush();
        self.retry_disk();
        busy |= self.take_group();
        if !self.group.is_empty() {
            self.serve();
        }
        busy |= self.expire();
        busy |= self.fold(!busy);
        if !busy {
            self.prune();
        }
        busy
    }

    /// Brings some of the store's log to its tables. Between groups no more than keeps up with them, so that no
    /// answer waits for it longer than for its commit.
    fn fold(&mut self, idle: bool) -> bool {
        let bad = matches!(self.disk, Disk::Bad { .. });
        let written = std::mem::take(&mut self.written);
        self.store.checkpoint();
        if bad || !self.store.is_untidy(idle, self.now) {
            return false;
        }
        let most = match (idle, self.store.is_behind()) {
            (true, _) => FOLD.1,
            (false, false) => (2 * written).clamp(FOLD.0, FOLD.1),
            (false, true) => 4 * written.clamp(FOLD.0, FOLD.1),
        };
        if let Err(e) = self.store.tidy(most, idle, self.now) {
            self.disk_refused(&e);
        }
        true
    }

    fn look_at_active(&mut self) -> bool {
        let active = (self.active)();
        if active != self.was_active {
            self.was_active = active;
            self.shared.status.set_active(active);
            self.peer_active(active);
        }
        false
    }

    /// Takes requests from the rings in turn, none from a worker whose answers wait.
    fn take_group(&mut self) -> bool {
        let workers = self.rings.len();
        let mut empty = 0;
        while empty < workers && self.group.len() < GROUP {
            let at = self.next_worker % workers;
            self.next_worker = (at + 1) % workers;
            let ring = &self.rings[at].requests;
            let took = if self.backlog[at].is_empty() { ring.pop() } else { None };
            match took {
                Some(request) => {
                    empty = 0;
                    self.group.push(request);
                }
                None => empty += 1,
            }
        }
        if !self.was_active && !self.group.is_empty() {
            // A standby answers nothing; whoever is active got the same request or will.
            self.shared.status.add_ignored(self.group.len());
            self.group.clear();
            return true;
        }
        !self.group.is_empty()
    }

    /// What may be given out now.
    fn grant(&self) -> Grant {
        match self.disk {
            Disk::Good => self.peer.grant(Instant::now()),
            Disk::Bad { .. } => Grant::ReadOnly,
        }
    }

    fn handle(&mut self, group: &[Box<L::Request>], grant: Grant) -> Outcome<L::Answer> {
        let mut out = Outcome { answers: Vec::with_capacity(group.len()), changes: Vec::new() };
        for request in group {
            let handled = self.engine.handle(request, self.now, grant);
            out.changes.extend(handled.changes);
            if let Some(answer) = handled.answer {
                let worker = usize::from(L::worker(request));
                if worker < self.rings.len() {
                    out.answers.push((worker, answer));
                }
            }
        }
        out
    }

    /// Handles the group, and answers it when what it changed is kept.
    fn serve(&mut self) {
        let group = std::mem::take(&mut self.group);
        let mut outcome = self.handle(&group, self.grant());
        if !outcome.changes.is_empty() {
            outcome = match self.disk {
                Disk::Good => self.keep(&group, outcome),
                Disk::Bad { .. } => self.remember(outcome),
            };
            self.bind(&outcome.changes);
        }
        self.written = outcome.changes.len();
        self.shared.status.add_group(group.len(), outcome.changes.len());
        for (worker, answer) in outcome.answers {
            self.backlog[worker].push_back(answer);
        }
        self.flush();
        self.group = group;
        self.group.clear();
    }

    /// Brings a group's changes to the disk and to the peer; what that made of the group.
    fn keep(&mut self, group: &[Box<L::Request>], outcome: Outcome<L::Answer>) -> Outcome<L::Answer> {
        let begun = Instant::now();
        match self.store.commit(&outcome.changes) {
            Err(e) => {
                self.engine.undo(&outcome.changes);
                self.disk_refused(&e);
                let again = self.handle(group, Grant::ReadOnly);
                self.remember(again)
            }
            Ok(records) => {
                self.disk_served(begun.elapsed());
                match self.replicate(records) {
                    Ok(()) => outcome,
                    Err(by_peer) => self.serve_apart(group, outcome, &by_peer),
                }
            }
        }
    }

    /// The peer did not acknowledge: nothing of the group was answered. What it was given is taken back, and it
    /// is handled again as a gateway alone does. `by_peer`: what the peer changed in the meantime.
    fn serve_apart(
        &mut self,
        group: &[Box<L::Request>],
        first: Outcome<L::Answer>,
        by_peer: &HashSet<Key>,
    ) -> Outcome<L::Answer> {
        let ours: Vec<Change> =
            first.changes.into_iter().filter(|c| !by_peer.contains(&key(&c.after))).collect();
        self.engine.undo(&ours);
        let mut taken_back = release::taken_back(&ours, self.now);
        taken_back.iter().for_each(|c| self.engine.adopt(c.after.clone()));
        let second = self.handle(group, self.grant());
        let kept: HashSet<Key> = second.changes.iter().map(|c| key(&c.after)).collect();
        taken_back.retain(|c| !kept.contains(&key(&c.after)));
        let mut all = taken_back.clone();
        all.extend(second.changes.iter().cloned());
        match self.store.commit(&all) {
            Ok(records) => {
                // Nobody to wait for; a connection that is there already gets it with what it missed.
                let _ = self.replicate(records);
                self.bind(&taken_back);
                second
            }
            Err(e) => {
                self.engine.undo(&second.changes);
                self.disk_refused(&e);
                let again = self.handle(group, Grant::ReadOnly);
                taken_back.into_iter().for_each(|c| self.put_off(c));
                self.remember(again)
            }
        }
    }

    /// Keeps in mind what could not be written.
    fn remember(&mut self, outcome: Outcome<L::Answer>) -> Outcome<L::Answer> {
        outcome.changes.iter().for_each(|c| self.put_off(c.clone()));
        outcome
    }

    fn put_off(&mut self, change: Change) {
        let before = self.unwritten.remove(&key(&change.after));
        // What was on disk stays what it was before.
        let before = before.map_or(change.before.clone(), |earlier| earlier.before);
        self.unwritten.insert(key(&change.after), Change { before, ..change });
    }

    /// Tells the workers who may send from where.
    fn bind(&self, changes: &[Change]) {
        for change in changes {
            self.bind_one(&change.after);
        }
    }

    fn bind_one(&self, lease: &Lease) {
        if binds(lease) {
            self.bindings.set(lease);
        } else {
            self.bindings.remove(lease);
        }
    }

    /// Hands answers to their workers as far as there is room.
    fn flush(&mut self) -> bool {
        let mut moved = false;
        for (ring, waiting) in self.rings.iter().zip(&mut self.backlog) {
            while let Some(answer) = waiting.pop_front() {
                if let Err(answer) = ring.answers.push(answer) {
                    waiting.push_front(answer);
                    break;
                }
                moved = true;
            }
        }
        moved
    }

    fn moment(&self) -> Moment {
        Moment::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn log(&mut self, cause: Cause, write: impl FnOnce(u64)) {
        let now = self.moment();
        if let Some(kept_back) = self.limits.allow(cause, now) {
            write(kept_back);
        }
    }

    fn disk_served(&mut self, took: Duration) {
        self.shared.status.add_commit(took);
    }

    /// The disk refused: from now on only what does not need it, until it serves again.
    fn disk_refused(&mut self, e: &StoreError) {
        let wait = match self.disk {
            Disk::Good => RETRY.0,
            Disk::Bad { wait, .. } => (wait * 2).min(RETRY.1),
        };
        self.disk = Disk::Bad { wait, again: Instant::now() + wait };
        self.shared.status.disk_refused(&e.to_string(), self.now);
        let message = e.to_string();
        self.log(Cause::Disk, |kept_back| {
            error!(kept_back, "{message}: no new leases; known ones are renewed for a while");
        });
        // A peer that waits for us to keep something waits in vain.
        self.part("our disk refuses to write");
    }

    fn retry_disk(&mut self) {
        let Disk::Bad { again, .. } = self.disk else { return };
        if Instant::now() < again {
            return;
        }
        let changes: Vec<Change> = self.unwritten.values().cloned().collect();
        let written = if changes.is_empty() {
            self.store.probe().map(|()| Vec::new())
        } else {
            self.store.commit(&changes)
        };
        match written {
            Err(e) => self.disk_refused(&e),
            Ok(_) => {
                self.unwritten.clear();
                self.disk = Disk::Good;
                self.shared.status.disk_serves();
                warn!(caught_up = changes.len(), "the lease store can be written again");
            }
        }
    }

    /// Ends leases that were not renewed. Only who answers does; a standby hears of it.
    fn expire(&mut self) -> bool {
        let bad = matches!(self.disk, Disk::Bad { .. });
        if !self.was_active || bad || self.expired_at >= self.now {
            return false;
        }
        let changes = self.engine.expire(self.now, EXPIRE);
        if changes.len() < EXPIRE {
            self.expired_at = self.now;
        }
        if changes.is_empty() {
            return false;
        }
        let begun = Instant::now();
        match self.store.commit(&changes) {
            Ok(records) => {
                self.disk_served(begun.elapsed());
                self.bind(&changes);
                self.shared.status.add_expired(changes.len());
                // Nobody waits for it.
                self.tell(records);
            }
            Err(e) => {
                self.engine.undo(&changes);
                self.disk_refused(&e);
            }
        }
        true
    }

    fn prune(&mut self) {
        let bad = matches!(self.disk, Disk::Bad { .. });
        if bad || self.pruned.elapsed() < PRUNE.1 {
            return;
        }
        self.pruned = Instant::now();
        let before = self.now.saturating_sub(self.config.history.as_secs());
        if let Err(e) = self.store.prune(before, PRUNE.0) {
            self.disk_refused(&e);
        }
    }
}
