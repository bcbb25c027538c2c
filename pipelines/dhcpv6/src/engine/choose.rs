//! Which lease an identity association gets.
//!
//! ```text
//!  1  what it has, if that is reserved for it
//!  2  the next of its reservation that nobody has: another DUID of the same server counts as nobody
//!  3  what it has
//!  4  what the same server has, or had last, under another DUID      (PXE, installer, system; reinstalled)
//!  5  what the same server had last at all
//!  6  what it would like, if nobody has it
//!  7  what nobody ever had; at a place that follows from who asks, so that a Solicit and the Request after
//!     it, and two gateways that share nothing yet, choose the same
//!  8  what ended first, after it has rested
//! ```
//!
//! Nobody gets what is reserved for somebody else, is the gateway's, or is in no pool of the link.

use super::book::Entry;
use super::places::reserved_iid;
use super::pool::Pool;
use super::{Client, Engine, Grant, Way};
use crate::lease::{Identity, Kind, State, UnixSeconds};
use crate::message::{Ask, Ia};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;

/// Ended leases that are looked at before there is none to take.
const TRIES: usize = 256;

/// What is chosen for.
pub(super) struct Wish<'a> {
    pub(super) ia: &'a Ia,
    pub(super) kind: Kind,
    pub(super) way: Way,
    /// What other identity associations of the message got.
    pub(super) taken: &'a [(Kind, Ipv6Addr)],
    /// The client's reservation.
    pub(super) claim: Option<u32>,
}

impl Wish<'_> {
    fn is_taken(&self, address: Ipv6Addr) -> bool {
        self.taken.contains(&(self.kind, address))
    }
}

type Element = (Ipv6Addr, u8);

impl Engine {
    pub(super) fn choose(&self, client: &Client<'_>, wish: &Wish<'_>) -> Option<Element> {
        let message = &client.request.received.message;
        let reserved = wish.claim.map_or_else(Vec::new, |n| self.book.places.reserved(n, wish.kind));
        let mut own: Vec<&Entry> = self
            .book
            .of(&client.identity)
            .filter(|e| e.kind == wish.kind && self.book.link_of(e) == Some(client.link))
            .filter(|e| e.state != State::Declined && !wish.is_taken(e.address))
            .filter(|e| client.is_server_of(e) || self.is_over(e, wish))
            .filter(|e| reserved.contains(&(e.address, e.length)) || self.may_be_given(client, wish, e))
            .collect();
        // In an order that does not depend on the past: reserved, then active ones first, the latest first.
        own.sort_by_key(|e| {
            let reserved = reserved.contains(&(e.address, e.length));
            (!reserved, e.state == State::Free, std::cmp::Reverse(e.valid_until), e.address)
        });
        let element = |e: &Entry| (e.address, e.length);
        let is_reserved = |e: &&&Entry| reserved.contains(&(e.address, e.length));
        // RFC 9915 18.3.5: a Rebind makes no bindings where a Solicit makes none.
        let makes = message.ask != Ask::Rebind || self.book.places.link(client.link).rapid_commit;

        let exact = || own.iter().filter(|e| client.has(e, wish.ia) && self.still(e, wish));
        if let Some(e) = exact().find(is_reserved) {
            return Some(element(e));
        }
        let open = |(address, length): &&Element| self.open_to(client, wish, *address, *length);
        if makes && let Some(found) = reserved.iter().find(open) {
            return Some(*found);
        }
        if let Some(e) = exact().next() {
            return Some(element(e));
        }
        if !makes {
            return None;
        }
        // The same server under another DUID.
        let reinstalled = |e: &&&Entry| *e.duid != *client.duid && self.still(e, wish);
        if let Some(e) = own.iter().find(reinstalled) {
            return Some(element(e));
        }
        if !self.has_room(client, wish) {
            return None;
        }
        let over = || own.iter().filter(|e| e.state == State::Free && self.still(e, wish));
        let liked = |e: &&&Entry| wish.ia.shown.iter().any(|s| s.address == e.address);
        if let Some(e) = over().find(liked).or_else(|| over().next()) {
            return Some(element(e));
        }
        if matches!(wish.way.grant, Grant::Known | Grant::ReadOnly) {
            return None;
        }
        self.shown(client, wish).or_else(|| self.unused(client, wish)).or_else(|| self.ended(client, wish))
    }

    fn rests_until(&self, e: &Entry) -> UnixSeconds {
        e.valid_until.saturating_add(self.book.places.config.hold.as_secs())
    }

    /// True if a lease of the client's own may still be given to it, although others may exist that are not
    /// known here.
    fn still(&self, e: &Entry, wish: &Wish<'_>) -> bool {
        let reserved = || {
            wish.claim.is_some_and(|n| self.book.places.reserved(n, e.kind).contains(&(e.address, e.length)))
        };
        // What its holder ended may be somebody else's at once; what ran out, not before it rested.
        let lasts = (e.state != State::Free || e.preferred_until != 0) && self.rests_until(e) > wish.way.now;
        match wish.way.grant {
            Grant::All => true,
            Grant::Share { .. } => lasts || reserved() || self.in_share(wish, e.address, e.length),
            Grant::Known | Grant::ReadOnly => lasts || reserved(),
        }
    }

    /// True if a new lease of an element of a pool may be given here.
    fn in_share(&self, wish: &Wish<'_>, address: Ipv6Addr, length: u8) -> bool {
        match wish.way.grant {
            Grant::All => true,
            Grant::Share { odd, .. } => {
                let pool = self.book.pool_of(wish.kind, address, length).map(|at| self.book.pool(at));
                pool.and_then(|p| p.number(address, length)).is_some_and(|n| (n % 2 == 1) == odd)
            }
            Grant::Known | Grant::ReadOnly => false,
        }
    }

    /// True if an address or prefix with a lease may be given to the client as one of a pool.
    fn may_be_given(&self, client: &Client<'_>, wish: &Wish<'_>, e: &Entry) -> bool {
        let in_pool = self
            .book
            .pool_of(e.kind, e.address, e.length)
            .is_some_and(|at| self.book.pool(at).link == client.link);
        in_pool
            && !self.book.places.blocked(e.kind, e.address, e.length, wish.claim)
            && !(e.kind == Kind::Prefix && self.book.overlaps(e.address, e.length, wish.way.now))
    }

    /// True if the reserved address can be given to whom it is reserved for.
    fn open_to(&self, client: &Client<'_>, wish: &Wish<'_>, address: Ipv6Addr, length: u8) -> bool {
        let overlaps = wish.kind == Kind::Prefix && self.book.overlaps(address, length, wish.way.now);
        if wish.is_taken(address) || overlaps {
            return false;
        }
        let message = &client.request.received.message;
        let Some(e) = self.book.get(wish.kind, address) else {
            return wish.way.grant != Grant::ReadOnly;
        };
        match e.state {
            State::Declined => false,
            State::Free => client.is_server_of(e) || self.is_over(e, wish),
            // Another DUID is the same server, reinstalled, also behind a port that has a reservation. So is
            // another association of the same DUID, when the server begins anew and no longer speaks of it.
            State::Active
                if e.identity == client.identity
                    && (client.is_server_of(e) || wish.way.grant != Grant::ReadOnly) =>
            {
                let begins = matches!(message.ask, Ask::Solicit | Ask::Request);
                *e.duid != *client.duid
                    || (begins && !message.ias.iter().any(|ia| (ia.kind, ia.iaid) == (wish.ia.kind, e.iaid)))
            }
            State::Active => false,
        }
    }

    /// True if nobody can believe any more that a lease is its own: it rested, or its holder ended it. What
    /// ran out may have been extended into the rest while the disk was away.
    fn is_over(&self, e: &Entry, wish: &Wish<'_>) -> bool {
        let over = match wish.way.grant {
            Grant::All => e.preferred_until == 0 || self.rests_until(e) <= wish.way.now,
            Grant::Share { parted, .. } => self.had_rested(e, parted) && self.rests_until(e) <= wish.way.now,
            Grant::Known | Grant::ReadOnly => false,
        };
        e.state == State::Free && over
    }

    /// True if a lease had rested well before `parted`, whatever clocks differ.
    fn had_rested(&self, e: &Entry, parted: UnixSeconds) -> bool {
        self.rests_until(e).max(e.valid_until.saturating_add(60)) < parted
    }

    /// True if the client may have one lease more.
    fn has_room(&self, client: &Client<'_>, wish: &Wish<'_>) -> bool {
        let held = self
            .book
            .of(&client.identity)
            .filter(|e| e.kind == wish.kind && e.state != State::Free && !wish.is_taken(e.address))
            .count();
        let taken = wish.taken.iter().filter(|(kind, _)| *kind == wish.kind).count();
        held + taken < usize::from(self.book.places.config.per_client)
    }

    /// True if an element without a lease may be given.
    fn fits(&self, wish: &Wish<'_>, address: Ipv6Addr, length: u8) -> bool {
        !wish.is_taken(address)
            && self.in_share(wish, address, length)
            && self.book.get(wish.kind, address).is_none()
            && !self.book.places.blocked(wish.kind, address, length, wish.claim)
            && match wish.kind {
                Kind::Prefix => {
                    !self.overlaps_taken(wish, address, length)
                        && !self.book.overlaps(address, length, wish.way.now)
                }
                _ => !reserved_iid(address),
            }
    }

    /// True if a prefix overlaps one that the same message just got and that is not in the book.
    fn overlaps_taken(&self, wish: &Wish<'_>, address: Ipv6Addr, length: u8) -> bool {
        causeway_core::Prefix6::containing(address, length)
            .is_none_or(|p| wish.taken.iter().any(|(kind, a)| *kind == Kind::Prefix && p.contains(*a)))
    }

    fn may_grow(&self, client: &Client<'_>, wish: &Wish<'_>) -> bool {
        self.book.may_grow(client.link, wish.taken.len())
    }

    /// RFC 9915 18.3.9: what the client shows is a hint.
    fn shown(&self, client: &Client<'_>, wish: &Wish<'_>) -> Option<Element> {
        let good = |(address, length): &Element| {
            let Some(pool) = self.book.pool_of(wish.kind, *address, *length) else { return false };
            if self.book.pool(pool).link != client.link {
                return false;
            }
            match self.book.get(wish.kind, *address) {
                None => self.may_grow(client, wish) && self.fits(wish, *address, *length),
                Some(e) => self.has_rested(client, wish, e),
            }
        };
        wish.ia.shown.iter().map(|s| (s.address, s.length)).find(good)
    }

    /// True if a lease of somebody else's ended long enough ago.
    fn has_rested(&self, client: &Client<'_>, wish: &Wish<'_>, e: &Entry) -> bool {
        let rested = match wish.way.grant {
            Grant::Share { parted, .. } => self.had_rested(e, parted),
            _ => true,
        };
        e.state == State::Free
            && !wish.is_taken(e.address)
            && rested
            && self.rests_until(e) <= wish.way.now
            && self.in_share(wish, e.address, e.length)
            && self.may_be_given(client, wish, e)
    }

    /// The pools of the link, those of the length that the client would like first (RFC 8168 3.2).
    fn pools<'a>(&'a self, client: &Client<'_>, wish: &Wish<'_>) -> Vec<&'a Pool> {
        let mut pools: Vec<&Pool> = self.book.pools_of(client.link, wish.kind).collect();
        let liked = wish.ia.shown.iter().map(|s| s.length).find(|length| *length != 0);
        if let (Kind::Prefix, Some(liked)) = (wish.kind, liked) {
            pools.sort_by_key(|p| p.length != liked);
        }
        pools
    }

    fn unused(&self, client: &Client<'_>, wish: &Wish<'_>) -> Option<Element> {
        if !self.may_grow(client, wish) {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        (&client.identity, wish.ia.iaid, wish.kind).hash(&mut hasher);
        let at = hasher.finish();
        self.pools(client, wish).into_iter().find_map(|pool| {
            let found = pool.unused(at, |address| self.fits(wish, address, pool.length))?;
            Some((found, pool.length))
        })
    }

    fn ended(&self, client: &Client<'_>, wish: &Wish<'_>) -> Option<Element> {
        self.pools(client, wish).into_iter().find_map(|pool| {
            let ended = pool.ended.iter().take(TRIES).map(|(_, number)| self.book.entry(*number));
            ended.into_iter().find(|e| self.has_rested(client, wish, e)).map(|e| (e.address, e.length))
        })
    }
}

impl Client<'_> {
    /// True if the entry is of the same server. A port that a relay names, and a DUID, may be of several.
    fn is_server_of(&self, e: &Entry) -> bool {
        e.identity == self.identity && (matches!(e.identity, Identity::Mac(_)) || *e.duid == *self.duid)
    }
}
