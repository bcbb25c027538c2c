//! The configuration, arranged for questions: which link is this, what is reserved, and for whom.

use super::spans::Spans;
use crate::config::{Config, Link, Reservation};
use crate::lease::Kind;
use crate::request::Request;
use causeway_core::Prefix6;
use causeway_wire::MacAddr;
use std::collections::{HashMap, HashSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// What a reservation is found by, on a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Mac(MacAddr),
    Interface(Box<[u8]>),
    Duid(Box<[u8]>, Option<u32>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) config: Arc<Config>,
    /// Networks of the gateway, by the number of their link.
    by_number: HashMap<u32, usize>,
    /// Prefixes and their links, the longest first.
    by_prefix: Vec<(Prefix6, usize)>,
    by_name: HashMap<Box<str>, usize>,
    /// Reservations by link and key.
    claims: HashMap<(usize, Key), u32>,
    /// Link and place in the link's list, of each reservation.
    reservations: Vec<(usize, usize)>,
    addresses: HashMap<Ipv6Addr, u32>,
    prefixes: Spans,
    excluded: HashSet<Ipv6Addr>,
}

impl Places {
    pub(super) fn new(config: Arc<Config>) -> Self {
        let shared = Arc::clone(&config);
        let mut new = Self {
            config,
            by_number: HashMap::new(),
            by_prefix: Vec::new(),
            by_name: HashMap::new(),
            claims: HashMap::new(),
            reservations: Vec::new(),
            addresses: HashMap::new(),
            prefixes: Spans::default(),
            excluded: HashSet::new(),
        };
        for (at, link) in shared.links.iter().enumerate() {
            new.by_number.extend(link.link.map(|number| (number, at)));
            new.by_prefix.extend(link.prefixes.iter().map(|p| (*p, at)));
            new.by_name.insert(link.name.clone(), at);
            new.excluded.extend(&link.excluded);
            for (n, reservation) in link.reservations.iter().enumerate() {
                new.reserve(at, n, reservation);
            }
        }
        new.by_prefix.sort_by_key(|(p, _)| std::cmp::Reverse(p.len()));
        new
    }

    fn reserve(&mut self, link: usize, at: usize, reservation: &Reservation) {
        let number = u32::try_from(self.reservations.len()).unwrap_or(u32::MAX);
        self.reservations.push((link, at));
        let key = if let Some(mac) = reservation.mac {
            Some(Key::Mac(mac))
        } else if let Some(id) = &reservation.interface_id {
            Some(Key::Interface(id.clone()))
        } else {
            reservation.duid.as_ref().map(|duid| Key::Duid(duid.clone(), reservation.iaid))
        };
        if let Some(key) = key {
            self.claims.entry((link, key)).or_insert(number);
        }
        for a in &reservation.addresses {
            self.addresses.entry(*a).or_insert(number);
        }
        reservation.prefixes.iter().for_each(|p| self.prefixes.insert(*p, number));
    }

    /// The link that a request comes from (RFC 9915 13, RFC 6221 5.1). Anybody may say that it is a relay: it
    /// does not speak for a network of the gateway that it is not on.
    pub(super) fn link_of(&self, request: &Request) -> Option<usize> {
        let may_name = |link: &usize| self.link(*link).link.is_none_or(|own| own == request.link);
        match request.link_address() {
            Some(a) => {
                let named = self.by_prefix.iter().find(|(p, _)| p.contains(a)).map(|(_, link)| *link);
                named.filter(may_name)
            }
            None => self.by_number.get(&request.link).copied(),
        }
    }

    /// The link of this name.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn link(&self, at: usize) -> &Link {
        &self.config.links[at]
    }

    /// The reservation for a client's identity association on a link.
    pub(super) fn claim(&self, link: usize, request: &Request, iaid: Option<u32>) -> Option<u32> {
        let find = |key: Key| self.claims.get(&(link, key)).copied();
        let by_mac = request.client_mac().and_then(|mac| find(Key::Mac(mac)));
        let by_port = || {
            let id = request.nearest()?.interface_id.clone()?;
            find(Key::Interface(id))
        };
        let by_duid = || {
            let duid = request.received.message.client_id.as_ref()?;
            let exact = iaid.and_then(|iaid| find(Key::Duid(duid.clone(), Some(iaid))));
            exact.or_else(|| find(Key::Duid(duid.clone(), None)))
        };
        by_mac.or_else(by_port).or_else(by_duid)
    }

    pub(super) fn reservation(&self, number: u32) -> &Reservation {
        let (link, at) = self.reservations[number as usize];
        &self.config.links[link].reservations[at]
    }

    /// What a reservation has of a kind, in its order.
    pub(super) fn reserved(&self, number: u32, kind: Kind) -> Vec<(Ipv6Addr, u8)> {
        let reservation = self.reservation(number);
        match kind {
            Kind::Prefix => reservation.prefixes.iter().map(|p| (p.address(), p.len())).collect(),
            _ => reservation.addresses.iter().map(|a| (*a, 128)).collect(),
        }
    }

    /// True if nobody but whom reservation `but` is for may have it: it is the gateway's, or reserved.
    pub(super) fn blocked(&self, kind: Kind, address: Ipv6Addr, length: u8, but: Option<u32>) -> bool {
        match kind {
            Kind::Prefix => Prefix6::containing(address, length)
                .is_none_or(|p| self.prefixes.overlapping(p).any(|owner| Some(owner) != but)),
            _ => {
                self.excluded.contains(&address)
                    || self.addresses.get(&address).is_some_and(|owner| Some(*owner) != but)
            }
        }
    }

    /// True if the gateway keeps the address for itself.
    pub(super) fn excluded(&self, address: Ipv6Addr) -> bool {
        self.excluded.contains(&address)
    }

    /// What `blocked` says yes of to somebody without a reservation, as far as it is single addresses and
    /// prefixes.
    pub(super) fn all_blocked(&self, kind: Kind) -> Vec<Ipv6Addr> {
        let reserved = self.config.links.iter().flat_map(|link| &link.reservations);
        match kind {
            Kind::Prefix => reserved.flat_map(|r| &r.prefixes).map(|p| p.address()).collect(),
            _ => self.addresses.keys().chain(&self.excluded).copied().collect(),
        }
    }
}

/// RFC 9915 13.1: interface identifiers that have a meaning of their own (RFC 5453): the subnet-router
/// anycast address, addresses of proxy mobile and the like, and reserved subnet anycast addresses.
pub(super) const RESERVED_IIDS: [(u64, u64); 3] =
    [(0, 0), (0x0200_5eff_fe00_0000, 0x0200_5eff_feff_ffff), (0xfdff_ffff_ffff_ff80, 0xfdff_ffff_ffff_ffff)];

/// True if the address's interface identifier is one of [`RESERVED_IIDS`].
pub(super) fn reserved_iid(address: Ipv6Addr) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    let iid = address.to_bits() as u64;
    RESERVED_IIDS.iter().any(|(first, last)| (*first..=*last).contains(&iid))
}
