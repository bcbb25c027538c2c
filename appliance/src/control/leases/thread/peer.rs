//! The lease thread's end of the pair.

use super::super::store::Incorporated;
use super::super::store::{Missed, NodeId, Record, Store, StoreError};
use super::super::sync::Standing;
use super::super::sync::codec::{Message, Position, RECORDS_MAX};
use super::super::sync::link::{Connection, Event, Link};
use super::super::sync::pair::{Input, Output, Pair, Past};
use super::super::{LeasesConfig, Leasing, PeerConfig};
use super::{Cause, Disk, Key, Thread, key};
use causeway_dhcpv6::{Change, Grant, Kind, Lease, LeaseEvent, State, UnixSeconds};
use std::collections::HashSet;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// Names of what is kept for the next start.
const TOGETHER: &str = "pair-together";
const TAKEOVER: &str = "pair-takeover";
const ODD: &str = "pair-odd";

/// How long a turn may be with the peer: requests wait meanwhile, and the peer for a sign of life.
const TURN: Duration = Duration::from_millis(50);

/// How long nothing may come from a peer before it counts as lost.
pub(super) fn dead_after(peer: &PeerConfig) -> Duration {
    (peer.ack_timeout * 4).max(Duration::from_secs(1))
}

/// How much of what the peer missed it was told.
#[derive(Debug, Clone, Copy)]
enum Telling {
    /// It has not said yet what it has.
    Nothing,
    /// Our events behind this one come next.
    Events(u64),
    /// All leases, behind this one; events behind the number come afterwards.
    Snapshot(Option<(Kind, Ipv6Addr)>, u64),
    /// Everything. What is new goes out at once.
    All,
}

/// A connection in use.
struct Session {
    connection: Connection,
    /// Number of our last event, as the peer was told at first.
    told_head: u64,
    telling: Telling,
    /// Number up to which the peer has acknowledged.
    acked: u64,
    /// When the last ping was sent; nothing: one is due.
    pinged: Option<Instant>,
}

/// The other gateway.
pub(super) struct Peer {
    pair: Option<Pair>,
    link: Option<Link>,
    session: Option<Session>,
    ack_timeout: Duration,
    ping_every: Duration,
    /// Our half, if the configuration tells.
    odd: Option<bool>,
    /// What is kept in the store of [`Pair::past`].
    kept: Past,
    /// The time in it is in the store too, and not only the time of our start.
    kept_together: bool,
}

impl Peer {
    pub(super) fn new(
        store: &Store,
        link: Option<Link>,
        config: &LeasesConfig,
        now: UnixSeconds,
    ) -> Result<Self, StoreError> {
        let Some(peer) = &config.peer else {
            return Ok(Self {
                pair: None,
                link: None,
                session: None,
                ack_timeout: Duration::ZERO,
                ping_every: Duration::ZERO,
                odd: None,
                kept: Past::default(),
                kept_together: false,
            });
        };
        let odd = match (&peer.listen, &peer.connect) {
            (Some(_), None) => Some(false),
            (None, Some(_)) => Some(true),
            _ => None,
        };
        let met = store.peer()?.is_some();
        let past = Past {
            together: if met { store.number(TOGETHER)? } else { now },
            takeover: store.number(TAKEOVER)? != 0,
        };
        // Kept when the pair met; before that nothing depends on it, as nothing is given from a half.
        let half = odd.unwrap_or(store.number(ODD)? != 0);
        Ok(Self {
            pair: Some(Pair::new(half, peer.alone_after, past, Instant::now())),
            link,
            session: None,
            ack_timeout: peer.ack_timeout,
            ping_every: dead_after(peer) / 4,
            odd,
            kept: past,
            kept_together: met,
        })
    }

    pub(super) fn grant(&self, now: Instant) -> Grant {
        self.pair.as_ref().map_or(Grant::All, |p| p.grant(now))
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        self.pair.as_ref().map_or(Standing::Single, |p| p.standing(now))
    }

    pub(super) fn is_configured(&self) -> bool {
        self.pair.is_some()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    fn together(&self) -> bool {
        self.session.is_some() && self.pair.as_ref().is_some_and(Pair::together)
    }
}

/// The connection does not count any more.
struct Lost;

/// The event that leads to a lease as it is.
const fn says(lease: &Lease) -> LeaseEvent {
    match (lease.state, lease.kind) {
        (State::Active, Kind::Registered) => LeaseEvent::Registered,
        (State::Active, _) => LeaseEvent::Given,
        (State::Free, _) => LeaseEvent::Released,
        (State::Declined, _) => LeaseEvent::Declined,
    }
}

impl<L: Leasing> Thread<L> {
    /// Sleeps for at most `most`, or until the peer says something, and takes note of that.
    pub(super) fn wait_for_peer(&mut self, most: Duration) {
        let Some(link) = &self.peer.link else {
            std::thread::sleep(most);
            return;
        };
        if let Ok(event) = link.events.recv_timeout(most) {
            self.now = self.now.max((self.clock)());
            self.event(event, &mut HashSet::new());
        }
    }

    /// Everything that is due with the peer.
    pub(super) fn peer_turn(&mut self) -> bool {
        let mut busy = false;
        let end = Instant::now() + TURN;
        while !busy || Instant::now() < end {
            let Some(event) = self.peer.link.as_ref().and_then(|l| l.events.try_recv().ok()) else { break };
            self.event(event, &mut HashSet::new());
            busy = true;
        }
        busy |= self.tell_more(Instant::now() + TURN);
        self.ping();
        if let Some(link) = &self.peer.link {
            self.shared.status.set_strangers(link.refused());
        }
        let standing = self.peer.standing(Instant::now());
        if self.shared.status.set_standing(standing) {
            self.announce(standing);
        }
        busy
    }

    fn announce(&mut self, standing: Standing) {
        match standing {
            Standing::Single => {}
            Standing::CatchingUp => info!("the peer is connected; both tell what the other missed"),
            Standing::Leading | Standing::Following => info!(?standing, "both gateways have all leases"),
            Standing::Waiting => {
                self.log(Cause::Peer, |kept_back| {
                    warn!(kept_back, "the peer is lost: for now no new leases, known ones are renewed");
                });
            }
            Standing::Alone => {
                self.log(Cause::Peer, |kept_back| {
                    warn!(
                        kept_back,
                        "without the peer: new leases from our half of the pools only, until it \
                        is back or `causeway leases takeover` says that it is out of service"
                    );
                });
            }
            Standing::Unsure => {
                self.log(Cause::Peer, |kept_back| {
                    warn!(
                        kept_back,
                        "this store does not know what the peer gave: known leases and \
                        reservations only, until both are together or `causeway leases takeover`"
                    );
                });
            }
            Standing::TakenOver => info!("without a peer: new leases from all pools"),
        }
    }

    fn event(&mut self, event: Event, changed: &mut HashSet<Key>) {
        match event {
            Event::Up(connection) => self.up(connection),
            Event::Down(id, why) => {
                if self.peer.session.as_ref().is_some_and(|s| s.connection.id == id) {
                    self.part(&why);
                }
            }
            Event::Message(id, message) => {
                if self.peer.session.as_ref().is_some_and(|s| s.connection.id == id)
                    && self.message(message, changed).is_err()
                {
                    self.part("it cannot be told anything");
                }
            }
        }
    }

    fn up(&mut self, connection: Connection) {
        if connection.peer == self.store.node() {
            let refusal = "its lease store is a copy of ours: one of the two has to begin with a new one";
            let _ = connection.send(Message::Refuse(refusal.to_owned()));
            self.log(Cause::Peer, |kept_back| error!(kept_back, "peer refused: {refusal}"));
            return;
        }
        if let Some(session) = &self.peer.session {
            // Both connected to each other at once: both keep the same one.
            if session.connection.connecting < connection.connecting {
                return;
            }
            self.part("it connected anew");
        }
        let position = Position {
            node: self.store.node(),
            head: self.store.head(),
            have: if self.store.peer().ok().flatten() == Some(connection.peer) {
                self.store.peer_seq()
            } else {
                0
            },
            odd: self.peer.odd,
            fixed: self.config.duid.is_some(),
            duid: self.duid.clone(),
        };
        let told_head = position.head;
        if matches!(self.disk, Disk::Bad { .. }) || connection.send(Message::Position(position)).is_err() {
            return;
        }
        let telling = Telling::Nothing;
        self.peer.session = Some(Session { connection, told_head, telling, acked: 0, pinged: None });
        self.shared.status.connected(true, "");
    }

    /// Lets go of the connection.
    pub(super) fn part(&mut self, why: &str) {
        if self.peer.session.take().is_none() {
            return;
        }
        self.pair_input(Input::Down);
        self.shared.status.connected(false, why);
        let why = why.to_owned();
        self.log(Cause::Peer, |kept_back| warn!(kept_back, "the connection to the peer ended: {why}"));
    }

    /// Takes note of something, keeps what must survive us, and says what has to be said.
    fn pair_input(&mut self, input: Input) {
        let Some(pair) = &mut self.peer.pair else { return };
        let was_together = pair.together();
        let output = pair.on(input, Instant::now());
        let (past, is_together) = (pair.past(), pair.together());
        if is_together
            && !was_together
            && let Some(session) = &mut self.peer.session
        {
            // The first ping, whose answer says so, goes at once.
            session.pinged = None;
        }
        let kept = self.peer.kept;
        if past != kept {
            // The time of being together is a lower bound: it is written now and then.
            let due = past.together.saturating_sub(kept.together) >= 10
                || past.together == 0
                || kept.together == 0
                || !self.peer.kept_together;
            let mut written = Ok(());
            if due || input == Input::Down {
                written = self.store.set_number(TOGETHER, past.together);
            }
            if past.takeover != kept.takeover {
                written = written.and(self.store.set_number(TAKEOVER, past.takeover.into()));
            }
            match written {
                Ok(()) if due || input == Input::Down || past.takeover != kept.takeover => {
                    self.peer.kept = past;
                    self.peer.kept_together = true;
                }
                Ok(()) => {}
                Err(e) => self.disk_refused(&e),
            }
        }
        let message = match output {
            None => return,
            Some(Output::Ask) => Message::Ask,
            Some(Output::Give) => Message::Give,
        };
        if self.say(message).is_err() {
            self.part("it takes too little");
        }
    }

    pub(super) fn peer_active(&mut self, active: bool) {
        self.pair_input(Input::Active(active));
    }

    pub(super) fn peer_takeover(&mut self) {
        self.pair_input(Input::Takeover);
    }

    fn say(&self, message: Message) -> Result<(), Lost> {
        let Some(session) = &self.peer.session else { return Err(Lost) };
        session.connection.send(message).map_err(|_| Lost)
    }

    /// A message of the peer. `changed` gets the keys of leases that it changed.
    fn message(&mut self, message: Message, changed: &mut HashSet<Key>) -> Result<(), Lost> {
        match message {
            Message::Position(position) => self.position(&position),
            Message::Records(records) => {
                let upto = records.last().map(|r| r.seq);
                self.incorporate(&records, upto, changed)?;
                self.say(Message::Ack(self.store.peer_seq()))
            }
            Message::Snapshot(records) => self.incorporate(&records, None, changed),
            Message::SnapshotEnd(upto) => {
                self.incorporate(&[], Some(upto), changed)?;
                self.say(Message::Ack(self.store.peer_seq()))
            }
            Message::End(upto) => {
                self.incorporate(&[], Some(upto), changed)?;
                self.say(Message::Ack(self.store.peer_seq()))?;
                self.pair_input(Input::GotEnd);
                Ok(())
            }
            Message::Ack(upto) => {
                if let Some(session) = &mut self.peer.session {
                    session.acked = session.acked.max(upto);
                }
                Ok(())
            }
            Message::Ask => {
                self.pair_input(Input::Asked);
                Ok(())
            }
            Message::Give => {
                self.pair_input(Input::Given);
                Ok(())
            }
            // Answered only together: that is what the answer says.
            Message::Ping(sent) if self.peer.together() => self.say(Message::Pong(sent)),
            // A connection on which nothing can be said yet must not fall silent either.
            Message::Ping(_) => Ok(()),
            Message::Pong(sent) => {
                let sent = sent.min(self.now);
                self.shared.status.set_together(sent);
                self.pair_input(Input::Echo(sent));
                Ok(())
            }
            Message::Refuse(why) => {
                self.log(Cause::Peer, |kept_back| error!(kept_back, "the peer refuses us: {why}"));
                self.part("it refuses us");
                Ok(())
            }
        }
    }

    fn refuse(&mut self, why: &str) {
        let _ = self.say(Message::Refuse(why.to_owned()));
        self.log(Cause::Peer, |kept_back| error!(kept_back, "peer refused: {why}"));
        self.part(why);
    }

    /// What the peer has: from there on it is told.
    fn position(&mut self, theirs: &Position) -> Result<(), Lost> {
        let Some(node) = self.peer.session.as_ref().map(|s| s.connection.peer) else { return Err(Lost) };
        if theirs.node != node {
            self.refuse("it is not who it was");
            return Ok(());
        }
        if theirs.duid != self.duid && !self.agree_on_duid(theirs, node) {
            return Ok(());
        }
        let ours = self.store.node();
        let odd = match (self.peer.odd, theirs.odd) {
            (Some(odd), Some(other)) if odd != other => odd,
            (Some(odd), None) => odd,
            (None, Some(other)) => !other,
            _ => ours > node,
        };
        if let Some(pair) = &mut self.peer.pair {
            pair.set_side(odd);
        }
        if theirs.head > 0 && self.store.peer().ok().flatten() != Some(node) {
            self.pair_input(Input::Stranger);
        }
        let kept = self.store.meet(node).and_then(|()| self.store.set_number(ODD, odd.into()));
        if let Err(e) = kept {
            self.disk_refused(&e);
            return Err(Lost);
        }
        if theirs.have > self.store.head() {
            // Our store was restored from an old copy: numbers that the peer knows would be given again.
            self.refuse("our lease store is older than what the peer has of it: begin with a new one");
            return Ok(());
        }
        let telling = match self.store.after(theirs.have, 0) {
            Ok(Missed::Records(_)) => Telling::Events(theirs.have),
            Ok(Missed::Pruned) => Telling::Snapshot(None, self.store.head()),
            Err(e) => {
                self.disk_refused(&e);
                return Err(Lost);
            }
        };
        if let Some(session) = &mut self.peer.session {
            session.telling = telling;
        }
        Ok(())
    }

    /// The two have to be one server. A store without leases takes the other's DUID; if both have some, the one
    /// with less history does, and its clients ask anybody (Rebind) when they find that nobody answers as that
    /// server any more.
    fn agree_on_duid(&mut self, theirs: &Position, node: NodeId) -> bool {
        let fixed = self.config.duid.is_some();
        if fixed && theirs.fixed {
            self.refuse("its configuration gives the server another DUID than ours");
            return false;
        }
        // By what both were told: each comes to the same, whatever it did meanwhile.
        let told_head = self.peer.session.as_ref().map_or(0, |s| s.told_head);
        let other_is_older = (theirs.head, node) > (told_head, self.store.node());
        if fixed || (!theirs.fixed && !other_is_older) {
            // It will take ours.
            return true;
        }
        if let Err(e) = self.store.set_duid(&theirs.duid) {
            self.disk_refused(&e);
            return false;
        }
        info!("the server's DUID is the peer's from now on");
        self.duid = theirs.duid.clone();
        self.shared.set_duid(&self.duid);
        self.reconfigure(Arc::clone(&self.server));
        true
    }

    /// Makes ours what the peer did.
    fn incorporate(
        &mut self,
        records: &[Record],
        upto: Option<u64>,
        changed: &mut HashSet<Key>,
    ) -> Result<(), Lost> {
        let outcome = match self.store.incorporate(records, upto) {
            Ok(outcome) => outcome,
            Err(e) => {
                self.disk_refused(&e);
                return Err(Lost);
            }
        };
        self.shared.status.add_from_peer(records.len());
        let mut merged = Vec::new();
        for one in outcome {
            let (lease, conflict) = match one {
                Incorporated::Known => continue,
                Incorporated::Taken(lease) => (lease, false),
                Incorporated::Merged { lease, conflict } => {
                    merged.push(lease.clone());
                    (lease, conflict)
                }
            };
            if conflict {
                self.shared.status.add_conflict();
                let address = lease.address;
                self.log(Cause::Conflict, |kept_back| {
                    error!(%address, kept_back, "both gateways had given this to different clients; the one \
                        that had it first keeps it");
                });
            }
            changed.insert(key(&lease));
            self.bind_one(&lease);
            self.engine.adopt(lease);
        }
        self.settle(merged)
    }

    /// What both changed apart was merged here. The other merged it too, maybe with other steps in between:
    /// the even one says what it is from now on.
    fn settle(&mut self, merged: Vec<Lease>) -> Result<(), Lost> {
        if merged.is_empty() || self.peer.pair.as_ref().is_none_or(Pair::is_odd) {
            return Ok(());
        }
        let at = self.now;
        let changes: Vec<Change> =
            merged.into_iter().map(|after| Change { at, event: says(&after), after, before: None }).collect();
        match self.store.commit(&changes) {
            Ok(records) => {
                self.tell(records);
                Ok(())
            }
            Err(e) => {
                self.disk_refused(&e);
                Err(Lost)
            }
        }
    }

    /// Tells the peer more of what it missed, as far as the connection has room, until `end`.
    fn tell_more(&mut self, end: Instant) -> bool {
        let mut told = false;
        while !told || Instant::now() < end {
            let Some(session) = &self.peer.session else { break };
            if !session.connection.has_room() {
                break;
            }
            let (message, next) = match session.telling {
                Telling::Nothing | Telling::All => break,
                Telling::Events(from) => match self.store.after(from, RECORDS_MAX) {
                    Ok(Missed::Records(records)) => match records.last() {
                        Some(last) => {
                            let next = Telling::Events(last.seq);
                            (Message::Records(records), next)
                        }
                        None => {
                            let head = self.store.head();
                            // Before it is said: from here on the other counts on it.
                            self.pair_input(Input::SentEnd);
                            (Message::End(head), Telling::All)
                        }
                    },
                    Ok(Missed::Pruned) => (Message::Snapshot(Vec::new()), Telling::Snapshot(None, from)),
                    Err(e) => {
                        self.disk_refused(&e);
                        break;
                    }
                },
                Telling::Snapshot(after, then) => match self.store.snapshot(after, RECORDS_MAX) {
                    Ok(records) => match records.last() {
                        Some(last) => {
                            let next = Telling::Snapshot(Some(key(&last.lease)), then);
                            (Message::Snapshot(records), next)
                        }
                        None => (Message::SnapshotEnd(then), Telling::Events(then)),
                    },
                    Err(e) => {
                        self.disk_refused(&e);
                        break;
                    }
                },
            };
            told = true;
            let Some(session) = &mut self.peer.session else { break };
            session.telling = next;
            if session.connection.send(message).is_err() {
                self.part("it takes too little");
            }
        }
        told
    }

    fn ping(&mut self) {
        let (every, now) = (self.peer.ping_every, self.now);
        let Some(session) = &mut self.peer.session else { return };
        if session.pinged.is_none_or(|at| at.elapsed() >= every) {
            session.pinged = Some(Instant::now());
            if self.say(Message::Ping(now)).is_err() {
                self.part("it takes too little");
            }
        }
    }

    /// Tells the peer of records that are on our disk, without waiting for it.
    pub(super) fn tell(&mut self, records: Vec<Record>) {
        let Some(session) = &self.peer.session else { return };
        let Telling::All = session.telling else { return };
        let mut rest = records;
        while !rest.is_empty() {
            let more = rest.split_off(rest.len().min(RECORDS_MAX));
            let part = std::mem::replace(&mut rest, more);
            if self.say(Message::Records(part)).is_err() {
                self.part("it takes too little");
                return;
            }
        }
    }

    /// Tells the peer of records, and if both are together waits until it has them.
    ///
    /// # Errors
    /// It does not have them in time and counts as lost. What it changed here in the meantime.
    pub(super) fn replicate(&mut self, records: Vec<Record>) -> Result<(), HashSet<Key>> {
        let waits = self.peer.together();
        let Some(last) = records.last().map(|r| r.seq) else { return Ok(()) };
        self.tell(records);
        let mut changed = HashSet::new();
        if !waits {
            return Ok(());
        }
        let Some(id) = self.peer.session.as_ref().map(|s| s.connection.id) else { return Err(changed) };
        let begun = Instant::now();
        let deadline = begun + self.peer.ack_timeout;
        loop {
            match &self.peer.session {
                // Gone, or another one, which will be told with all that was missed.
                None => return Err(changed),
                Some(session) if session.connection.id != id => return Err(changed),
                Some(session) if session.acked >= last => {
                    self.shared.status.add_ack(begun.elapsed());
                    return Ok(());
                }
                Some(_) => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.shared.status.add_lost();
                self.part("it did not acknowledge in time");
                return Err(changed);
            }
            let Some(link) = &self.peer.link else { return Err(changed) };
            if let Ok(event) = link.events.recv_timeout(left) {
                self.event(event, &mut changed);
            }
        }
    }
}
