//! Routes: the longest matching prefix decides where a packet leaves (RFC 4291 2.5, RFC 1812 5.2.4.3).
//!
//! A lookup is a binary search over the prefix lengths in use (Waldvogel and others, 1997). There is a
//! small hash table for each length; besides the prefixes of that length it holds markers, which are the
//! first bits of longer prefixes and say "go on with the longer half". Each entry carries the best route
//! known for its bits, so the search never turns back.
//!
//! ```text
//!  lengths in use:   32   48   56   64   128          2001:db8:64:8001::/64
//!                               ^ begin here:         its first 56 bits are a marker: look longer
//!                                         ^ then:     no such 128 bits: look shorter
//!                                    ^ then:          found
//! ```
//!
//! Cost: at most 8 probes for IPv6 and 6 for IPv4 whatever the routes are, 2 for the usual handful,
//! none for the default route itself. Nothing is allocated by a lookup.
//!
//! Not handled: several paths to one destination, metrics, routing by source.

use crate::net::{Egress, IfId, Interface, Interfaces, Prefix4, Prefix6, Via};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a route says about the destinations in its prefix. `A` is the address of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<A> {
    /// Through a router. It must be on-link on an interface of ours; a link-local one needs the interface
    /// named.
    Via {
        /// The router's address.
        gateway: A,
        /// The interface that it is behind; nothing to let the connected prefixes decide.
        interface: Option<IfId>,
    },
    /// Every destination is a neighbour on this interface.
    OnLink(IfId),
    /// Nowhere: packets are refused (a black hole that says so).
    Unreachable,
}

/// A static route: destinations, and what to do with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<P, A> {
    /// The destinations.
    pub prefix: P,
    /// Where they are.
    pub target: Target<A>,
}

impl<P: Copy, A> Route<P, A> {
    /// The interface that the prefix is on-link on, if the route says that.
    const fn on_link(&self) -> Option<(IfId, P)> {
        match self.target {
            Target::OnLink(id) => Some((id, self.prefix)),
            Target::Via { .. } | Target::Unreachable => None,
        }
    }
}

/// A static IPv6 route.
pub type Route6 = Route<Prefix6, Ipv6Addr>;
/// A static IPv4 route.
pub type Route4 = Route<Prefix4, Ipv4Addr>;

/// Why routes were refused. Prefixes and addresses are those of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    /// Two routes, or a route and a connected prefix, are for the same destinations.
    Duplicate {
        /// The prefix that is there twice.
        prefix: String,
    },
    /// No connected prefix holds the gateway.
    GatewayNotOnLink {
        /// The prefix of the route.
        prefix: String,
        /// Its gateway.
        gateway: IpAddr,
    },
    /// The gateway is link-local or is on-link on several interfaces, and no interface is named.
    GatewayAmbiguous {
        /// The prefix of the route.
        prefix: String,
        /// Its gateway.
        gateway: IpAddr,
    },
    /// The gateway is an address of this gateway itself, or a group, loopback or unspecified one.
    GatewayUnusable {
        /// The prefix of the route.
        prefix: String,
        /// Its gateway.
        gateway: IpAddr,
    },
    /// The route names an interface that does not exist.
    NoSuchInterface {
        /// The prefix of the route.
        prefix: String,
        /// The interface.
        interface: IfId,
    },
    /// The prefix lies in a space that is never routed: link-local or multicast.
    NotRoutable {
        /// The prefix.
        prefix: String,
    },
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { prefix } => {
                write!(f, "there are two routes to {prefix}; connected prefixes count too")
            }
            Self::GatewayNotOnLink { prefix, gateway } => {
                write!(f, "route to {prefix}: gateway {gateway} is in no prefix of an interface of ours")
            }
            Self::GatewayAmbiguous { prefix, gateway } => {
                write!(f, "route to {prefix}: name the interface that gateway {gateway} is behind")
            }
            Self::GatewayUnusable { prefix, gateway } => {
                write!(f, "route to {prefix}: gateway {gateway} is our own or is no unicast address")
            }
            Self::NoSuchInterface { prefix, interface } => {
                write!(f, "route to {prefix}: there is no interface number {}", interface.0)
            }
            Self::NotRoutable { prefix } => {
                write!(f, "{prefix} cannot be routed: it is link-local or multicast")
            }
        }
    }
}

impl std::error::Error for RouteError {}

/// What the longest matching prefix says of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The packet leaves there.
    Egress(Egress),
    /// A route refuses it.
    Unreachable,
    /// No route knows it.
    NoRoute,
}

/// A target as a lookup wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Hop {
    Via(Egress),
    OnLink(IfId),
    Unreachable,
}

/// The routes of a plan, connected prefixes included. Immutable: a change makes a new one.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    six: Lpm,
    four: Lpm,
}

impl Routes {
    /// The static routes and the connected prefixes of the interfaces.
    ///
    /// RFC 2644 2: packets to the broadcast address of a connected IPv4 network are not forwarded; a
    /// route of one's own to that address changes this.
    ///
    /// # Errors
    /// The first route that cannot be obeyed, and why.
    pub fn build(interfaces: &Interfaces, six: &[Route6], four: &[Route4]) -> Result<Self, RouteError> {
        let mut table6 = BTreeMap::new();
        let mut table4 = BTreeMap::new();
        // What is on-link where: the prefixes of our own addresses, and those that a route says so of.
        let (mut on_link6, mut on_link4) = (Vec::new(), Vec::new());
        for (id, i) in interfaces.iter() {
            for (_, p) in &i.addrs6 {
                connect(&mut table6, (p.len(), p.address().to_bits()), id, p)?;
                on_link6.push((id, *p));
            }
            for (_, p) in &i.addrs4 {
                connect(&mut table4, (p.len(), wide(p.address())), id, p)?;
                on_link4.push((id, *p));
            }
        }
        on_link6.extend(six.iter().filter_map(Route::on_link));
        on_link4.extend(four.iter().filter_map(Route::on_link));
        for r in six {
            // RFC 4291 2.5.6, 2.7: what is link-local stays on its link, and groups are not routed here.
            let p = r.prefix;
            if p.len() > 0 && (unroutable6(p.address()) || unroutable6(p.last())) {
                return Err(RouteError::NotRoutable { prefix: p.to_string() });
            }
            let hop =
                resolve(interfaces, r, |id, a| on_link6.iter().any(|(i, p)| *i == id && p.contains(a)))?;
            if table6.insert((p.len(), p.address().to_bits()), hop).is_some() {
                return Err(RouteError::Duplicate { prefix: p.to_string() });
            }
        }
        for r in four {
            let p = r.prefix;
            if p.len() > 0 && (unroutable4(p.address()) || unroutable4(p.last())) {
                return Err(RouteError::NotRoutable { prefix: p.to_string() });
            }
            let hop =
                resolve(interfaces, r, |id, a| on_link4.iter().any(|(i, p)| *i == id && p.contains(a)))?;
            if table4.insert((p.len(), wide(p.address())), hop).is_some() {
                return Err(RouteError::Duplicate { prefix: p.to_string() });
            }
        }
        for (_, p) in on_link4 {
            if p.len() <= 30 {
                for a in [p.address(), p.last()] {
                    table4.entry((32, wide(a))).or_insert(Hop::Unreachable);
                }
            }
        }
        Ok(Self { six: Lpm::build(&table6), four: Lpm::build(&table4) })
    }

    /// Where a packet to `dst` leaves: through the route's gateway, or to `dst` itself if it is on-link.
    /// Nothing when there is no route, or one that refuses.
    #[inline]
    #[must_use]
    pub fn lookup6(&self, dst: Ipv6Addr) -> Option<Egress> {
        match self.next6(dst) {
            Next::Egress(e) => Some(e),
            Next::Unreachable | Next::NoRoute => None,
        }
    }

    /// Where a packet to `dst` leaves. Nothing when there is no route, or one that refuses.
    #[inline]
    #[must_use]
    pub fn lookup4(&self, dst: Ipv4Addr) -> Option<Egress> {
        match self.next4(dst) {
            Next::Egress(e) => Some(e),
            Next::Unreachable | Next::NoRoute => None,
        }
    }

    /// As [`lookup6`](Self::lookup6), but tells a route that refuses from no route.
    ///
    /// Link-local and multicast destinations have no route: the address does not say which link is meant
    /// (RFC 4291 2.5.6), and a default route must not catch them.
    #[inline]
    #[must_use]
    pub fn next6(&self, dst: Ipv6Addr) -> Next {
        if unroutable6(dst) {
            return Next::NoRoute;
        }
        match self.six.lookup(dst.to_bits()) {
            None => Next::NoRoute,
            Some(Hop::Via(e)) => Next::Egress(e),
            Some(Hop::OnLink(interface)) => Next::Egress(Egress::new(interface, Via::Ip6(dst))),
            Some(Hop::Unreachable) => Next::Unreachable,
        }
    }

    /// As [`lookup4`](Self::lookup4), but tells a route that refuses from no route. Groups, the limited
    /// broadcast and class E have no route (RFC 1812 5.3.7).
    #[inline]
    #[must_use]
    pub fn next4(&self, dst: Ipv4Addr) -> Next {
        if unroutable4(dst) {
            return Next::NoRoute;
        }
        match self.four.lookup(wide(dst)) {
            None => Next::NoRoute,
            Some(Hop::Via(e)) => Next::Egress(e),
            Some(Hop::OnLink(interface)) => Next::Egress(Egress::new(interface, Via::Ip4(dst))),
            Some(Hop::Unreachable) => Next::Unreachable,
        }
    }

    /// How many prefixes there are: IPv6 and IPv4, connected ones included.
    #[must_use]
    pub const fn count(&self) -> (usize, usize) {
        (self.six.prefixes, self.four.prefixes)
    }
}

#[inline(always)]
fn unroutable6(a: Ipv6Addr) -> bool {
    let first = a.to_bits() >> 112;
    first & 0xffc0 == 0xfe80 || first & 0xff00 == 0xff00
}

#[inline(always)]
const fn unroutable4(a: Ipv4Addr) -> bool {
    a.to_bits() >> 28 >= 14
}

/// An IPv4 address in the first bits of a word as wide as an IPv6 address.
#[inline(always)]
fn wide(a: Ipv4Addr) -> u128 {
    u128::from(a.to_bits()) << 96
}

type Table = BTreeMap<(u8, u128), Hop>;

fn connect(
    table: &mut Table,
    key: (u8, u128),
    id: IfId,
    prefix: &dyn fmt::Display,
) -> Result<(), RouteError> {
    match table.insert(key, Hop::OnLink(id)) {
        Some(before) if before != Hop::OnLink(id) => {
            Err(RouteError::Duplicate { prefix: prefix.to_string() })
        }
        _ => Ok(()),
    }
}

/// What resolving a gateway has to know of an address, for both families.
trait Gateway: Copy {
    fn ip(self) -> IpAddr;
    fn via(self) -> Via;
    /// True if one neighbour can have it.
    fn is_one_node(self) -> bool;
    /// True if it means something on a named link only.
    fn is_link_local(self) -> bool;
    fn is_own(self, i: &Interface) -> bool;
}

impl Gateway for Ipv6Addr {
    fn ip(self) -> IpAddr {
        IpAddr::V6(self)
    }

    fn via(self) -> Via {
        Via::Ip6(self)
    }

    fn is_one_node(self) -> bool {
        !self.is_unspecified() && !self.is_loopback() && !self.is_multicast()
    }

    fn is_link_local(self) -> bool {
        self.is_unicast_link_local()
    }

    fn is_own(self, i: &Interface) -> bool {
        i.owns6(self)
    }
}

impl Gateway for Ipv4Addr {
    fn ip(self) -> IpAddr {
        IpAddr::V4(self)
    }

    fn via(self) -> Via {
        Via::Ip4(self)
    }

    fn is_one_node(self) -> bool {
        !self.is_unspecified() && !self.is_loopback() && !unroutable4(self)
    }

    fn is_link_local(self) -> bool {
        false
    }

    fn is_own(self, i: &Interface) -> bool {
        i.owns4(self)
    }
}

/// Turns a target into what a lookup wants.
fn resolve<P: fmt::Display, A: Gateway>(
    interfaces: &Interfaces,
    r: &Route<P, A>,
    on_link: impl Fn(IfId, A) -> bool,
) -> Result<Hop, RouteError> {
    let prefix = || r.prefix.to_string();
    let exists = |id: IfId| {
        let i = interfaces.get(id);
        i.ok_or_else(|| RouteError::NoSuchInterface { prefix: prefix(), interface: id })
    };
    let (a, interface) = match r.target {
        Target::Unreachable => return Ok(Hop::Unreachable),
        Target::OnLink(id) => return exists(id).map(|_| Hop::OnLink(id)),
        Target::Via { gateway, interface } => (gateway, interface),
    };
    let gateway = a.ip();
    if !a.is_one_node() {
        return Err(RouteError::GatewayUnusable { prefix: prefix(), gateway });
    }
    let candidates: Vec<(IfId, &Interface)> = match interface {
        Some(id) => vec![(id, exists(id)?)],
        None if a.is_link_local() => return Err(RouteError::GatewayAmbiguous { prefix: prefix(), gateway }),
        None => interfaces.iter().collect(),
    };
    if candidates.iter().any(|(_, i)| a.is_own(i)) {
        return Err(RouteError::GatewayUnusable { prefix: prefix(), gateway });
    }
    let mut behind = candidates.iter().map(|(id, _)| *id).filter(|id| a.is_link_local() || on_link(*id, a));
    match (behind.next(), behind.next()) {
        (Some(interface), None) => Ok(Hop::Via(Egress::new(interface, a.via()))),
        (Some(_), Some(_)) => Err(RouteError::GatewayAmbiguous { prefix: prefix(), gateway }),
        (None, _) => Err(RouteError::GatewayNotOnLink { prefix: prefix(), gateway }),
    }
}

/// No hop.
const NONE: u32 = u32::MAX;

/// A longest-prefix-match table over words of 128 bits.
#[derive(Debug, Clone)]
struct Lpm {
    /// The hop for what no prefix holds: that of the prefix of length 0, or [`NONE`].
    default: u32,
    /// All prefixes but that of length 0 as mask, bits and hop, longest first; empty if there are more
    /// than [`FEW`]. Most gateways have a handful, and then comparing is quicker than hashing.
    few: Box<[(u128, u128, Hop)]>,
    /// The hop of `default`, if there is one.
    default_hop: Option<Hop>,
    /// One for each length in use but 0, shortest first.
    levels: Box<[Level]>,
    hops: Box<[Hop]>,
    prefixes: usize,
}

/// As many prefixes as are compared one by one.
const FEW: usize = 4;

impl Default for Lpm {
    fn default() -> Self {
        Self {
            default: NONE,
            few: Box::default(),
            default_hop: None,
            levels: Box::default(),
            hops: Box::default(),
            prefixes: 0,
        }
    }
}

/// The prefixes of one length, and the markers of longer ones.
#[derive(Debug, Clone)]
enum Level {
    /// Up to 64 bits, where nearly all prefixes are: four entries to a cache line.
    Short { mask: u64, slots: Slots<u64> },
    /// More than 64 bits.
    Long { mask: u128, slots: Slots<u128> },
}

impl Level {
    fn new(mask: u128, entries: &HashMap<u128, u32>) -> Self {
        if mask << 64 == 0 {
            Self::Short {
                mask: high(mask),
                slots: Slots::new(entries.iter().map(|(b, hop)| (high(*b), *hop))),
            }
        } else {
            Self::Long { mask, slots: Slots::new(entries.iter().map(|(b, hop)| (*b, *hop))) }
        }
    }

    #[inline(always)]
    fn get(&self, bits: u128) -> Option<u32> {
        match self {
            Self::Short { mask, slots } => slots.get(high(bits) & mask),
            Self::Long { mask, slots } => slots.get(bits & mask),
        }
    }
}

/// The first half.
#[inline(always)]
const fn high(bits: u128) -> u64 {
    (bits >> 64) as u64
}

impl Lpm {
    fn build(table: &Table) -> Self {
        let mut hops: Vec<Hop> = Vec::new();
        let mut number: HashMap<Hop, u32> = HashMap::new();
        let mut numbered: HashMap<(u8, u128), u32> = HashMap::new();
        let mut default = NONE;
        for (&(len, bits), &hop) in table {
            let n = *number.entry(hop).or_insert_with(|| {
                hops.push(hop);
                u32::try_from(hops.len() - 1).expect("fewer than 2^32 next hops")
            });
            if len == 0 {
                default = n;
            } else {
                numbered.insert((len, bits), n);
            }
        }
        let mut lens: Vec<u8> = numbered.keys().map(|(len, _)| *len).collect();
        lens.sort_unstable();
        lens.dedup();
        let masks: Vec<u128> = lens.iter().map(|len| u128::MAX << (128 - len)).collect();
        // Each prefix leaves a marker at every length at which the search for it must go on longer.
        let mut entries: Vec<HashMap<u128, u32>> = vec![HashMap::new(); lens.len()];
        for &(len, bits) in numbered.keys() {
            let (mut low, mut high) = (0, lens.len());
            loop {
                let middle = usize::midpoint(low, high);
                if lens[middle] > len {
                    high = middle;
                    continue;
                }
                let bits = bits & masks[middle];
                entries[middle].entry(bits).or_insert_with(|| {
                    // The best that is known for these bits: the longest prefix that holds them.
                    let known = |n: usize| numbered.get(&(lens[n], bits & masks[n])).copied();
                    (0..=middle).rev().find_map(known).unwrap_or(default)
                });
                if lens[middle] == len {
                    break;
                }
                low = middle + 1;
            }
        }
        let levels = masks.iter().zip(&entries).map(|(mask, e)| Level::new(*mask, e)).collect();
        let mut few: Vec<(u128, u128, Hop)> = Vec::new();
        if numbered.len() <= FEW {
            let hop = |n: u32| hops.get(n as usize).copied();
            few.extend(
                numbered
                    .iter()
                    .filter_map(|((len, bits), n)| hop(*n).map(|hop| (u128::MAX << (128 - len), *bits, hop))),
            );
            few.sort_unstable_by_key(|(mask, ..)| std::cmp::Reverse(*mask));
        }
        let default_hop = hops.get(default as usize).copied();
        Self { default, few: few.into(), default_hop, levels, hops: hops.into(), prefixes: table.len() }
    }

    #[inline(always)]
    fn lookup(&self, bits: u128) -> Option<Hop> {
        if self.few.is_empty() {
            return self.lookup_in_levels(bits);
        }
        let found = self.few.iter().find(|(mask, prefix, _)| bits & mask == *prefix);
        found.map_or(self.default_hop, |(.., hop)| Some(*hop))
    }

    fn lookup_in_levels(&self, bits: u128) -> Option<Hop> {
        let mut best = self.default;
        let mut levels = &self.levels[..];
        while let Some(level) = levels.get(levels.len() / 2) {
            let (shorter, longer) = levels.split_at(levels.len() / 2);
            levels = match level.get(bits) {
                Some(hop) => {
                    best = hop;
                    &longer[1..]
                }
                None => shorter,
            };
        }
        self.hops.get(best as usize).copied()
    }
}

/// First bits of an address, as the key of a hash table.
trait Bits: Copy + Eq + Default {
    fn hash(self) -> usize;
}

impl Bits for u64 {
    /// Prefixes come from the operator, not from strangers, so a secret is not needed; but delegated
    /// prefixes differ in few bits, which must reach all others.
    #[inline(always)]
    fn hash(self) -> usize {
        let mut x = self;
        x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        #[expect(clippy::cast_possible_truncation, reason = "a table has fewer slots than a word counts")]
        {
            (x ^ x >> 33) as usize
        }
    }
}

impl Bits for u128 {
    #[inline(always)]
    fn hash(self) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "the second half")]
        let low = self as u64;
        (high(self) ^ low.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15)).hash()
    }
}

/// A hash table that is written once: open addressing, at most half full.
#[derive(Debug, Clone)]
struct Slots<B> {
    slots: Box<[Slot<B>]>,
    /// Number of slots less one: a power of two less one.
    mask: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot<B> {
    bits: B,
    hop: u32,
    used: bool,
}

impl<B: Bits> Slots<B> {
    fn new(entries: impl ExactSizeIterator<Item = (B, u32)>) -> Self {
        let empty = Slot { bits: B::default(), hop: NONE, used: false };
        let n = (entries.len() * 2).max(2).next_power_of_two();
        let mut slots = vec![empty; n].into_boxed_slice();
        for (bits, hop) in entries {
            let mut at = bits.hash() & (n - 1);
            while slots[at].used {
                at = (at + 1) & (n - 1);
            }
            slots[at] = Slot { bits, hop, used: true };
        }
        Self { slots, mask: n - 1 }
    }

    #[inline(always)]
    fn get(&self, bits: B) -> Option<u32> {
        // An empty slot ends each run: at most half of them are used.
        let mut at = bits.hash();
        loop {
            let slot = &self.slots[at & self.mask];
            if !slot.used {
                return None;
            }
            if slot.bits == bits {
                return Some(slot.hop);
            }
            at = at.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests;
