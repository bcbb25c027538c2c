//! The server as a value: a [`Request`] and the time in, an [`Outcome`] out. No clock, no disk, no socket.
//!
//! ```text
//!  Solicit ............. what a Request would get now; nothing changes (RFC 9915 18.3.1)
//!  Request, Rapid Commit  leases given                               (18.3.2)
//!  Renew, Rebind ........ leases extended, or what is wrong with them (18.3.4, 18.3.5)
//!  Confirm .............. are these addresses of this link?           (18.3.3)
//!  Release, Decline ..... leases ended, or left alone for a while     (18.3.7, 18.3.8)
//!  Information-request .. options                                    (18.3.6)
//! ```
//!
//! Who asks is told by [`Identity`]; which lease an identity association gets is in
//! [`choose`]. One lease for each identity association.
//!
//! Every change is in [`Outcome::changes`], and is to be on disk before the answer leaves. If the disk
//! refuses it, [`Engine::undo`] takes it back as if it had never been, and the request is handled once more
//! with [`Grant::ReadOnly`].

mod bitmap;
mod book;
mod choose;
mod places;
mod pool;
mod shares;
mod spans;
#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::lease::{Change, Identity, Kind, Lease, LeaseEvent, State, UnixSeconds};
use crate::message::{Ask, Ia, IaKind};
use crate::reply::{self, Told, ToldIa};
use crate::request::{Answer, Request};
use book::{Book, Entry};
use causeway_core::{DropReason, Duration};
use causeway_wire::MacAddr;
use choose::Wish;
use dhcproto::v6::Status;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// What may be given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grant {
    /// Anything.
    All,
    /// New leases from one half of each pool, and only of what another gateway, which may be giving out leases
    /// as well, counts as nobody's.
    Share {
        /// Of each pair of neighbouring addresses or prefixes of a pool the one with the odd number.
        odd: bool,
        /// What ended so late that it had not rested by then is given to nobody but who had it.
        parted: UnixSeconds,
    },
    /// Leases that are known, and reservations.
    Known,
    /// Nothing is changed: there is no disk to keep it on. Who has a lease keeps it, no longer than what the
    /// disk says of it and the rest after it ([`Config::hold`]) allow, so that the address is nobody else's
    /// even if this process forgets; who has a reservation is told the whole lifetime. Others are told that
    /// there is nothing.
    ReadOnly,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// To be given to the worker that asked, after `changes` are on disk. There always; with no octets in it
    /// if nothing is to be sent, so that the worker counts why.
    pub answer: Option<Box<Answer>>,
    /// What has to be on disk first, in this order.
    pub changes: Vec<Change>,
    /// Why nothing is sent.
    pub why: Option<DropReason>,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    book: Book,
}

/// Who asks, and where.
struct Client<'a> {
    request: &'a Request,
    identity: Identity,
    duid: &'a [u8],
    mac: Option<MacAddr>,
    link: usize,
}

/// How a request is handled.
#[derive(Clone, Copy)]
struct Way {
    now: UnixSeconds,
    grant: Grant,
    /// What is told is also done.
    commits: bool,
}

/// Lifetimes above this would mean for ever (RFC 9915 7.7).
const LONGEST: u64 = 0xffff_fffe;

fn seconds(d: Duration) -> u32 {
    u32::try_from(d.as_secs().min(LONGEST)).unwrap_or(u32::MAX)
}

fn remaining(until: UnixSeconds, now: UnixSeconds) -> u32 {
    u32::try_from(until.saturating_sub(now).min(LONGEST)).unwrap_or(u32::MAX)
}

const fn kind_of(kind: IaKind) -> Kind {
    match kind {
        IaKind::Addresses => Kind::Address,
        IaKind::Prefixes => Kind::Prefix,
    }
}

impl Engine {
    /// An engine that knows these leases.
    #[must_use]
    pub fn new(config: Arc<Config>, leases: impl Iterator<Item = Lease>) -> Self {
        let mut book = Book::new(config);
        leases.for_each(|lease| book.put(&lease));
        Self { book }
    }

    /// Takes over another configuration.
    ///
    /// Leases stay, also where somebody else now has a reservation: they go at the next renewal, or when
    /// they end. Only those of addresses that the gateway now has itself end at once: these are the changes.
    pub fn reconfigure(&mut self, config: Arc<Config>, now: UnixSeconds) -> Vec<Change> {
        self.book.reconfigure(config);
        let ours = |lease: &Lease| {
            lease.kind == Kind::Address
                && lease.state == State::Active
                && self.book.places.excluded(lease.address)
        };
        let gone: Vec<Lease> = self.book.leases().filter(ours).collect();
        gone.into_iter().map(|lease| self.end(lease, LeaseEvent::Withdrawn, now)).collect()
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.book.places.config
    }

    /// Handles a request.
    pub fn handle(&mut self, request: &Request, now: UnixSeconds, grant: Grant) -> Outcome {
        let mut changes = Vec::new();
        match self.answer(request, now, grant, &mut changes) {
            Ok(answer) => Outcome { answer: Some(Box::new(answer)), changes, why: None },
            Err(why) => {
                let answer = Some(Box::new(reply::refusal(request, why)));
                Outcome { answer, changes, why: Some(why) }
            }
        }
    }

    /// Takes changes back, the last first: afterwards everything is as if they had not been. They are the
    /// last that this engine gave, all of one request or of several.
    pub fn undo(&mut self, changes: &[Change]) {
        for change in changes.iter().rev() {
            match &change.before {
                Some(before) => self.book.put(before),
                None => self.book.remove(change.after.kind, change.after.address),
            }
        }
    }

    /// Ends what has run out at `now`, at most `most` leases, the earliest first.
    pub fn expire(&mut self, now: UnixSeconds, most: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        while changes.len() < most {
            let Some(entry) = self.book.due(now) else { break };
            let before = self.book.lease_of(entry);
            let after = Lease { state: State::Free, ..before.clone() };
            changes.push(self.change(LeaseEvent::Expired, Some(before), after, now));
        }
        changes
    }

    /// When the next lease ends.
    #[must_use]
    pub fn next_end(&self) -> Option<UnixSeconds> {
        self.book.due(UnixSeconds::MAX).map(|e| e.valid_until)
    }

    /// Ends a lease by the administrator's will. Nothing if there is no such lease, or it ended.
    pub fn withdraw(&mut self, kind: Kind, address: Ipv6Addr, now: UnixSeconds) -> Option<Change> {
        let entry = self.book.get(kind, address).filter(|e| e.state != State::Free)?;
        let lease = self.book.lease_of(entry);
        Some(self.end(lease, LeaseEvent::Withdrawn, now))
    }

    /// The lease of this address is this one from now on, as another gateway or the administrator says.
    pub fn adopt(&mut self, lease: &Lease) {
        self.book.put(lease);
    }

    /// All leases, of all states, in no order.
    pub fn leases(&self) -> impl Iterator<Item = Lease> + '_ {
        self.book.leases()
    }

    /// The lease of an address, or of the prefix that begins there.
    #[must_use]
    pub fn lease(&self, kind: Kind, address: Ipv6Addr) -> Option<Lease> {
        self.book.get(kind, address).map(|e| self.book.lease_of(e))
    }

    /// How many leases there are, of all states.
    #[must_use]
    pub fn count(&self) -> usize {
        self.book.count()
    }

    fn change(&mut self, event: LeaseEvent, before: Option<Lease>, after: Lease, now: UnixSeconds) -> Change {
        self.book.put(&after);
        Change { at: now, event, after, before }
    }

    fn end(&mut self, lease: Lease, event: LeaseEvent, now: UnixSeconds) -> Change {
        let valid_until = lease.valid_until.min(now);
        let after = Lease { state: State::Free, preferred_until: 0, valid_until, ..lease.clone() };
        self.change(event, Some(lease), after, now)
    }

    fn answer(
        &mut self,
        request: &Request,
        now: UnixSeconds,
        grant: Grant,
        changes: &mut Vec<Change>,
    ) -> Result<Answer, DropReason> {
        let message = &request.received.message;
        let config = Arc::clone(&self.book.places.config);
        // RFC 9915 16.4, 16.6, 16.8, 16.9, 16.12: for another server.
        if message.server_id.as_ref().is_some_and(|id| *id != config.server_duid) {
            return Err(DropReason::Dhcp6OtherServer);
        }
        let link = self.book.places.link_of(request).ok_or(DropReason::Dhcp6NoLink)?;
        let client = match (request.identity(), &message.client_id) {
            (Some(identity), Some(duid)) => {
                Some(Client { request, identity, duid, mac: request.client_mac(), link })
            }
            _ => None,
        };
        let mut reply = reply::Reply::new(&config, request, link);
        reply.reservation = self.book.places.claim(link, request, None);
        reply.boot_file_url =
            reply.reservation.and_then(|n| self.book.places.reservation(n).boot_file_url.clone());
        let rapid = message.rapid_commit && self.book.places.link(link).rapid_commit;
        match (message.ask, client) {
            (Ask::Information, _) => {}
            (_, None) => return Err(DropReason::Dhcp6NoClientId),
            (Ask::Confirm, Some(client)) => reply.status = Some(self.confirm(&client)?),
            (Ask::Release | Ask::Decline, Some(client)) => {
                let way = Way { now, grant, commits: true };
                reply.ias = self.give_back(&client, way, changes);
                reply.status = Some(Status::Success);
                if message.ask == Ask::Decline {
                    let count = u32::try_from(changes.len()).unwrap_or(u32::MAX);
                    reply.declined = changes.first().map(|c| (c.after.address, count));
                }
            }
            (Ask::Solicit, Some(client)) => {
                reply.advertise = !rapid;
                reply.rapid_commit = rapid;
                reply.ias = self.give(&client, Way { now, grant, commits: rapid }, changes);
            }
            (Ask::Request | Ask::Renew | Ask::Rebind, Some(client)) => {
                reply.ias = self.give(&client, Way { now, grant, commits: true }, changes);
            }
        }
        Ok(reply.answer())
    }

    /// RFC 9915 18.3.3.
    fn confirm(&self, client: &Client<'_>) -> Result<Status, DropReason> {
        let prefixes = &self.book.places.link(client.link).prefixes;
        let ias = client.request.received.message.ias.iter().filter(|ia| ia.kind == IaKind::Addresses);
        let mut addresses = ias.flat_map(|ia| &ia.shown).map(|shown| shown.address).peekable();
        // Without addresses, or without knowing what is on the link, nothing is said.
        if addresses.peek().is_none() || prefixes.is_empty() {
            return Err(DropReason::Dhcp6NothingToConfirm);
        }
        let here = addresses.all(|a| prefixes.iter().any(|p| p.contains(a)));
        Ok(if here { Status::Success } else { Status::NotOnLink })
    }

    /// RFC 9915 18.3.7 and 18.3.8.
    fn give_back(&mut self, client: &Client<'_>, way: Way, changes: &mut Vec<Change>) -> Vec<ToldIa> {
        let message = &client.request.received.message;
        let decline = message.ask == Ask::Decline;
        let mut told = Vec::new();
        for ia in &message.ias {
            let bound: Vec<Lease> = self
                .book
                .of(&client.identity)
                .filter(|e| client.has(e, ia) && e.state == State::Active)
                .map(|e| self.book.lease_of(e))
                .collect();
            if bound.is_empty() {
                told.push(ToldIa::status(ia, Status::NoBinding, "not your lease"));
            }
            // RFC 9915 18.2.8: only addresses are declined.
            if way.grant == Grant::ReadOnly || (decline && ia.kind == IaKind::Prefixes) {
                continue;
            }
            for lease in bound {
                if !ia.shown.iter().any(|s| (s.address, s.length) == (lease.address, lease.length)) {
                    continue;
                }
                changes.push(if decline {
                    let until = way.now.saturating_add(self.book.places.config.decline_hold.as_secs());
                    let after = Lease {
                        state: State::Declined,
                        preferred_until: lease.preferred_until.min(way.now),
                        valid_until: until,
                        ..lease.clone()
                    };
                    self.change(LeaseEvent::Declined, Some(lease), after, way.now)
                } else {
                    self.end(lease, LeaseEvent::Released, way.now)
                });
            }
        }
        told
    }

    /// RFC 9915 18.3.1, 18.3.2, 18.3.4, 18.3.5.
    fn give(&mut self, client: &Client<'_>, way: Way, changes: &mut Vec<Change>) -> Vec<ToldIa> {
        // What this message got so far.
        let mut taken = Vec::new();
        let ias = &client.request.received.message.ias;
        ias.iter().map(|ia| self.give_one(client, ia, way, &mut taken, changes)).collect()
    }

    fn give_one(
        &mut self,
        client: &Client<'_>,
        ia: &Ia,
        way: Way,
        taken: &mut Vec<(Kind, Ipv6Addr)>,
        changes: &mut Vec<Change>,
    ) -> ToldIa {
        let ask = client.request.received.message.ask;
        let kind = kind_of(ia.kind);
        let keeps = matches!(ask, Ask::Renew | Ask::Rebind);
        let link = self.book.places.link(client.link);
        // RFC 9915 18.3.2: a Request that shows an address of another link.
        if ask == Ask::Request && kind == Kind::Address {
            let here = |a: Ipv6Addr| a.is_unspecified() || link.prefixes.iter().any(|p| p.contains(a));
            if !ia.shown.iter().all(|shown| here(shown.address)) {
                return ToldIa::status(ia, Status::NotOnLink, "an address of another link");
            }
        }
        let wish = Wish {
            ia,
            kind,
            way,
            taken,
            claim: self.book.places.claim(client.link, client.request, Some(ia.iaid)),
        };
        let chosen = self.choose(client, &wish);
        let claim = wish.claim;
        let mut told = ToldIa::empty(ia);
        if let Some((address, length)) = chosen {
            taken.push((kind, address));
            told.leases.push(self.grant(client, ia, (address, length), claim, way, changes));
        }
        if keeps {
            self.tell_of_others(client, ia, claim, way, &mut told, changes);
        }
        // RFC 9915 18.3.5: a Rebind is told which addresses are of another link, or that there is no binding.
        if chosen.is_none() && (ask != Ask::Rebind || told.leases.is_empty()) {
            told.status = Some(match (ask, kind) {
                // RFC 9915 18.3.5: a binding is made by Rebind only where one is made by Solicit.
                (Ask::Rebind, _) => (Status::NoBinding, "not your lease"),
                (_, Kind::Prefix) => (Status::NoPrefixAvail, "no prefix to give"),
                _ => (Status::NoAddrsAvail, "no address to give"),
            });
        }
        told
    }

    /// What the client shows, or has, besides the lease that it gets (RFC 9915 18.3.4, 18.3.5).
    fn tell_of_others(
        &mut self,
        client: &Client<'_>,
        ia: &Ia,
        claim: Option<u32>,
        way: Way,
        told: &mut ToldIa,
        changes: &mut Vec<Change>,
    ) {
        let others: Vec<Lease> = self
            .book
            .of(&client.identity)
            .filter(|e| client.has(e, ia) && e.state == State::Active && !told.has(e.address))
            .map(|e| self.book.lease_of(e))
            .collect();
        let prefixes = self.book.places.link(client.link).prefixes.clone();
        for lease in others {
            let here = self.book.places.named(&lease.link) == Some(client.link)
                && (lease.kind == Kind::Prefix || prefixes.iter().any(|p| p.contains(lease.address)));
            let blocked = self.book.places.blocked(lease.kind, lease.address, lease.length, claim);
            let (address, length) = (lease.address, lease.length);
            if here && !blocked {
                // It runs out by itself.
                let valid = remaining(lease.valid_until, way.now);
                told.leases.push(Told { address, length, preferred: 0, valid });
            } else {
                told.leases.push(Told { address, length, preferred: 0, valid: 0 });
                if way.grant != Grant::ReadOnly {
                    changes.push(self.end(lease, LeaseEvent::Withdrawn, way.now));
                }
            }
        }
        // RFC 9915 18.3.5: a Rebind goes to every server, and another may have given what is of this link.
        let others_may = client.request.received.message.ask == Ask::Rebind;
        let here = |a: Ipv6Addr| ia.kind == IaKind::Prefixes || prefixes.iter().any(|p| p.contains(a));
        for shown in ia.shown.iter().filter(|s| !s.address.is_unspecified()) {
            let known = told.has(shown.address) || (others_may && here(shown.address));
            if !known {
                let (address, length) = (shown.address, shown.length);
                told.leases.push(Told { address, length, preferred: 0, valid: 0 });
            }
        }
    }

    /// Gives, or extends, a lease, and says what the client is told of it.
    fn grant(
        &mut self,
        client: &Client<'_>,
        ia: &Ia,
        (address, length): (Ipv6Addr, u8),
        claim: Option<u32>,
        way: Way,
        changes: &mut Vec<Change>,
    ) -> Told {
        let kind = kind_of(ia.kind);
        let link = self.book.places.link(client.link);
        let name = link.name.clone();
        let (mut preferred, mut valid) = (seconds(link.preferred), seconds(link.valid));
        let before = self.book.get(kind, address).map(|e| self.book.lease_of(e));
        if way.grant == Grant::ReadOnly {
            let reserved =
                claim.is_some_and(|n| self.book.places.reserved(n, kind).contains(&(address, length)));
            if !reserved {
                let hold = self.book.places.config.hold.as_secs();
                let until = before.as_ref().map_or(0, |b| b.valid_until.saturating_add(hold));
                valid = valid.min(remaining(until, way.now));
                preferred = preferred.min(valid);
            }
        } else if way.commits {
            let known = before
                .as_ref()
                .filter(|b| b.identity == client.identity && b.state == State::Active && b.length == length);
            let event = if known.is_some() { LeaseEvent::Renewed } else { LeaseEvent::Given };
            // What was promised before is kept to: an answer that shortens it may get lost.
            let at_least =
                |until: UnixSeconds, lifetime: u32| until.max(way.now.saturating_add(u64::from(lifetime)));
            let after = Lease {
                kind,
                address,
                length,
                link: name,
                identity: client.identity.clone(),
                duid: client.duid.into(),
                iaid: ia.iaid,
                mac: client.mac,
                state: State::Active,
                preferred_until: at_least(known.map_or(0, |b| b.preferred_until), preferred),
                valid_until: at_least(known.map_or(0, |b| b.valid_until), valid),
                since: known.map_or(way.now, |b| b.since),
            };
            changes.push(self.change(event, before, after, way.now));
        }
        Told { address, length, preferred, valid }
    }
}

impl Client<'_> {
    /// True if the entry is this client's for this identity association.
    fn has(&self, e: &Entry, ia: &Ia) -> bool {
        e.kind == kind_of(ia.kind) && e.iaid == ia.iaid && *e.duid == *self.duid
    }
}
