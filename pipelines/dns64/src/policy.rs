//! Which view a client has, and what the view says about a question.
//!
//! ```text
//!  class, type -> blocked -> ANY -> local -> localhost, invalid, onion -> ipv4only.arpa -> ip6.arpa of a prefix
//!              -> recursion wanted? -> AAAA without CD: the longest of never and always -> a sort of answer
//! ```
//! A [`Policy`] is made of a [`Config`] once; asking it allocates nothing. What is looked at is the name of the
//! question: where a chain of CNAME records leads is no business of a view (but of its rules of synthesis).

use crate::config::{Config, Synthesis, View};
use crate::question::{NAME_OCTETS, TYPE_AAAA, TYPE_PTR, Variant, WireName};
use causeway_core::net::Prefix6;
use causeway_core::rfc6890::{is_forwardable, is_global};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Class IN.
pub const CLASS_IN: u16 = 1;
/// Record type OPT (RFC 6891).
const TYPE_OPT: u16 = 41;
/// Record type DS (RFC 4034 5).
const TYPE_DS: u16 = 43;
/// Types TKEY and TSIG, which are no data (RFC 2930, RFC 8945).
const TYPE_TKEY: u16 = 249;
const TYPE_TSIG: u16 = 250;
/// Transfers of zones (RFC 1995, RFC 5936).
const TYPE_IXFR: u16 = 251;
const TYPE_AXFR: u16 = 252;
/// Obsolete types of mail (RFC 1035 3.2.3).
const TYPE_MAILB: u16 = 253;
const TYPE_MAILA: u16 = 254;
/// All types (RFC 8482).
const TYPE_ANY: u16 = 255;

/// Response code: no error.
pub const NOERROR: u8 = 0;
/// Response code: format error.
pub const FORMERR: u8 = 1;
/// Response code: server failure.
pub const SERVFAIL: u8 = 2;
/// Response code: there is no such name.
pub const NXDOMAIN: u8 = 3;
/// Response code: not implemented.
pub const NOTIMP: u8 = 4;
/// Response code: refused.
pub const REFUSED: u8 = 5;

/// RFC 6052 2.1.
const WELL_KNOWN: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// `ipv4only.arpa.` (RFC 7050) in wire form.
pub(crate) const IPV4ONLY: &[u8] = b"\x08ipv4only\x04arpa\x00";
const IP6_ARPA: &[u8] = b"\x03ip6\x04arpa\x00";
const ARPA: &[u8] = b"\x04arpa\x00";
const LOCALHOST: &[u8] = b"\x09localhost\x00";
const INVALID: &[u8] = b"\x07invalid\x00";
const ONION: &[u8] = b"\x05onion\x00";

/// Names with all that is under them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameSet {
    names: Vec<WireName>,
}

impl NameSet {
    /// A set of names, each in lower case.
    #[must_use]
    pub fn new(mut names: Vec<WireName>) -> Self {
        names.sort_unstable();
        names.dedup();
        Self { names }
    }

    /// True if nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Where in `name` (wire form, lower case) the longest name of the set begins that it is, or is under.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        if self.names.is_empty() {
            return None;
        }
        suffixes(name).find(|at| self.names.binary_search_by(|n| n.as_slice().cmp(&name[*at..])).is_ok())
    }

    /// True if `name` is in it, or under one that is.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.find(name).is_some()
    }
}

/// Where the labels of a name in wire form begin, the root's last.
fn suffixes(name: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let at = next?;
        let length = usize::from(*name.get(at)?);
        next = (length != 0).then_some(at + 1 + length);
        Some(at)
    })
}

/// True if `name` is `suffix` or under it. Both are in wire form and lower case.
fn is_under(name: &[u8], suffix: &[u8]) -> bool {
    // The octets are compared first: that label boundaries have to fit too matters only then.
    name.ends_with(suffix) && suffixes(name).any(|at| name.len() - at == suffix.len())
}

/// A question of a client, as far as a decision needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The name in wire form, in lower case.
    pub name: &'a [u8],
    /// The type.
    pub qtype: u16,
    /// The class.
    pub qclass: u16,
    /// Flag RD.
    pub recursion_desired: bool,
    /// Flag CD.
    pub checking_disabled: bool,
}

/// What to do about a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// To look for an answer of this sort in the cache, and else to ask upstream.
    Lookup(Variant),
    /// To answer here, by [`crate::resolution::Resolution::special`]. Such answers are not cached.
    Special(Special),
    /// To answer with this response code and nothing else.
    Refuse(u8),
}

/// Why a question is answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// The name is blocked for the view. The name that is blocked begins at this octet of the question's.
    Blocked(u8),
    /// One of the view's own names: its number.
    Local(u32),
    /// ipv4only.arpa itself (RFC 8880 7.1).
    Ipv4Only,
    /// A name under ipv4only.arpa: there are none (RFC 8880 7.1).
    UnderIpv4Only,
    /// The name of an address under a NAT64 prefix, with this IPv4 address in it (RFC 6147 5.3.1).
    Reverse(Ipv4Addr),
    /// localhost, or under it (RFC 6761 6.3).
    Localhost,
    /// Under `invalid` (RFC 6761 6.4) or `onion` (RFC 7686 2).
    Nonexistent,
    /// All types are asked for (RFC 8482).
    Any,
}

/// A configuration, prepared for questions.
#[derive(Debug)]
pub struct Policy {
    config: Arc<Config>,
    /// Prefixes of one length each, the longest first.
    clients: Vec<ClientPrefixes>,
    views: Vec<Prepared>,
    /// The NAT64 prefixes of all views.
    prefixes: Vec<Prefix6>,
    /// Views with the same rules differ in what RFC 6052 3.1 lets them use: some have the well-known prefix.
    mixed: bool,
}

/// Clients by prefixes of one length.
#[derive(Debug)]
struct ClientPrefixes {
    mask: u128,
    /// By prefix.
    list: Vec<(u128, u16)>,
}

/// What is known of a view beforehand.
#[derive(Debug)]
struct Prepared {
    /// Its own names, by name.
    local: Vec<(WireName, u32)>,
    well_known: bool,
}

impl Policy {
    /// Prepares `config`.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        let mut clients: Vec<ClientPrefixes> = Vec::new();
        for length in (0..=128u8).rev() {
            let mut list: Vec<(u128, u16)> = config
                .clients
                .iter()
                .filter(|(p, view)| p.len() == length && usize::from(*view) < config.views.len())
                .map(|(p, view)| (p.address().to_bits(), *view))
                .collect();
            // The first of equal ones counts.
            list.sort_by_key(|(p, _)| *p);
            list.dedup_by_key(|(p, _)| *p);
            if !list.is_empty() {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                clients.push(ClientPrefixes { mask, list });
            }
        }
        let views: Vec<Prepared> = config.views.iter().map(Prepared::new).collect();
        let mut prefixes: Vec<Prefix6> = config.views.iter().filter_map(|v| v.prefix).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        let shared = |well_known: bool| {
            config
                .views
                .iter()
                .zip(&views)
                .any(|(v, p)| v.prefix.is_some() && v.synthesis.is_none() && p.well_known == well_known)
        };
        let mixed = shared(true) && shared(false);
        Self { config, clients, views, prefixes, mixed }
    }

    /// The settings that it was made of.
    #[must_use]
    pub const fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The number of the view of a client; nothing for those who are not answered.
    #[inline]
    #[must_use]
    pub fn view_of(&self, client: Ipv6Addr) -> Option<u16> {
        let bits = client.to_bits();
        self.clients.iter().find_map(|c| {
            let n = c.list.binary_search_by_key(&(bits & c.mask), |(p, _)| *p).ok()?;
            c.list.get(n).map(|(_, view)| *view)
        })
    }

    /// The view with this number.
    #[must_use]
    pub fn view(&self, number: u16) -> Option<&View> {
        self.config.views.get(usize::from(number))
    }

    /// What to do about a question of a client with this view.
    #[must_use]
    pub fn decide(&self, view: u16, asked: &Asked<'_>) -> Decision {
        let (Some(v), Some(prepared)) = (self.view(view), self.views.get(usize::from(view))) else {
            return Decision::Refuse(REFUSED);
        };
        // RFC 6147 5.1: nothing is made for other classes; and nothing else is known of them here. That answers
        // `version.bind` and its like too, which are of class CHAOS.
        if asked.qclass != CLASS_IN {
            return Decision::Refuse(REFUSED);
        }
        match asked.qtype {
            // No types of data: a question for them means nothing.
            0 | TYPE_OPT | TYPE_TKEY | TYPE_TSIG => return Decision::Refuse(FORMERR),
            TYPE_IXFR | TYPE_AXFR => return Decision::Refuse(REFUSED),
            TYPE_MAILB | TYPE_MAILA => return Decision::Refuse(NOTIMP),
            _ => {}
        }
        if let Some(special) = self.special(v, prepared, asked) {
            return Decision::Special(special);
        }
        // Without RD a resolver is asked what it happens to know (RFC 1034 4.3.1): that would tell one tenant what
        // others ask for.
        if !asked.recursion_desired {
            return Decision::Refuse(REFUSED);
        }
        Decision::Lookup(variant(v, asked))
    }

    fn special(&self, view: &View, prepared: &Prepared, asked: &Asked<'_>) -> Option<Special> {
        let name = asked.name;
        let local = || {
            let n = prepared.local.binary_search_by(|(n, _)| n.as_slice().cmp(name)).ok()?;
            prepared.local.get(n).map(|(_, number)| *number)
        };
        let local = if prepared.local.is_empty() { None } else { local() };
        // A name that is answered here is more exact than a blocked one that it is under.
        if local.is_none()
            && let Some(at) = view.blocked.find(name).and_then(|at| u8::try_from(at).ok())
        {
            return Some(Special::Blocked(at));
        }
        // RFC 8482 4.2: not a walk through all that is known.
        if asked.qtype == TYPE_ANY {
            return Some(Special::Any);
        }
        if let Some(number) = local {
            return Some(Special::Local(number));
        }
        if is_under(name, LOCALHOST) {
            return Some(Special::Localhost);
        }
        if is_under(name, INVALID) || is_under(name, ONION) {
            return Some(Special::Nonexistent);
        }
        // RFC 8880 7.1 and RFC 6147 5.3.1 are about resolvers that do DNS64: for a view without it the names are as any.
        if view.prefix.is_none() || !name.ends_with(ARPA) {
            return None;
        }
        if is_under(name, IPV4ONLY) {
            // RFC 8880 7.1: DS alone is resolved as usual, for it belongs to the zone above.
            return match (name.len() == IPV4ONLY.len(), asked.qtype) {
                (true, TYPE_DS) => None,
                (true, _) => Some(Special::Ipv4Only),
                (false, _) => Some(Special::UnderIpv4Only),
            };
        }
        if asked.qtype == TYPE_PTR
            && let Some(v4) = reverse(name).and_then(|a| self.embedded(a))
        {
            return Some(Special::Reverse(v4));
        }
        None
    }

    /// The IPv4 address in `a`, if `a` is under a prefix that any view uses, or under the well-known one.
    fn embedded(&self, a: Ipv6Addr) -> Option<Ipv4Addr> {
        let well_known = Prefix6::new(WELL_KNOWN, 96);
        self.prefixes.iter().copied().chain(well_known).find(|p| p.contains(a)).and_then(|p| extract(p, a))
    }

    /// True if `a` is under the NAT64 prefix of any view.
    #[must_use]
    pub fn is_in_a_prefix(&self, a: Ipv6Addr) -> bool {
        self.prefixes.iter().any(|p| p.contains(a))
    }

    /// True if an answer of this sort for this view may be taken from the cache: answers by rules of a view's own
    /// are not there.
    #[must_use]
    pub fn reads_cache(&self, view: u16, variant: Variant) -> bool {
        variant == Variant::Native || self.view(view).is_some_and(|v| v.synthesis.is_none())
    }

    /// With which other clients a client shares the work on a question: with all those for whom this is the same.
    /// Nothing for those whose view has no rules of its own.
    #[must_use]
    pub fn own_rules(&self, view: u16, variant: Variant) -> Option<u16> {
        let own = self.view(view).is_some_and(|v| v.synthesis.is_some())
            || (self.mixed && self.views.get(usize::from(view)).is_some_and(|p| p.well_known));
        (variant != Variant::Native && own).then_some(view)
    }

    /// The rules of synthesis for a view.
    #[must_use]
    pub fn synthesis(&self, view: u16) -> &Synthesis {
        self.view(view).and_then(|v| v.synthesis.as_ref()).unwrap_or(&self.config.synthesis)
    }

    /// What may be made of an A record for a view.
    #[must_use]
    pub fn address(&self, view: u16, v4: Ipv4Addr) -> Address {
        let rules = self.synthesis(view);
        let allowed = rules.only_a.is_empty() || rules.only_a.iter().any(|p| p.contains(v4));
        // 0.0.0.0, loopback, multicast and their like are no hosts; NAT64 would drop what is sent there.
        if !is_forwardable(v4) || !allowed || rules.exclude_a.iter().any(|p| p.contains(v4)) {
            return Address::Refused;
        }
        // RFC 6052 3.1: the well-known prefix does not stand for IPv4 addresses that are not global.
        if is_global(v4) {
            Address::Used
        } else if self.views.get(usize::from(view)).is_some_and(|p| p.well_known) {
            if self.mixed { Address::RefusedHere } else { Address::Refused }
        } else if self.mixed {
            Address::UsedHere
        } else {
            Address::Used
        }
    }
}

/// What may be made of an A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// An AAAA record.
    Used,
    /// An AAAA record, but not for all views with the same rules.
    UsedHere,
    /// Nothing.
    Refused,
    /// Nothing, but something for other views with the same rules.
    RefusedHere,
}

impl Address {
    /// True if an AAAA record is made of it.
    #[must_use]
    pub const fn is_used(self) -> bool {
        matches!(self, Self::Used | Self::UsedHere)
    }
}

impl Prepared {
    fn new(view: &View) -> Self {
        let mut local: Vec<(WireName, u32)> =
            (0..).zip(&view.local).map(|(number, l)| (l.name.clone(), number)).collect();
        local.sort();
        local.dedup_by(|a, b| a.0 == b.0);
        let well_known = view.prefix.is_some_and(|p| p.len() == 96 && p.address() == WELL_KNOWN);
        Self { local, well_known }
    }
}

/// The sort of answer that a question without special meaning gets.
fn variant(view: &View, asked: &Asked<'_>) -> Variant {
    // RFC 6147 5.5 (3) and 3: with CD the client does its own validation, and DNS64 itself if it wants it.
    if asked.qtype != TYPE_AAAA || asked.checking_disabled || view.prefix.is_none() {
        return Variant::Native;
    }
    match (view.never.find(asked.name), view.always.find(asked.name)) {
        // The longer of two names begins earlier.
        (Some(never), Some(always)) if always < never => Variant::Always,
        (Some(_), _) => Variant::Native,
        (None, Some(_)) => Variant::Always,
        (None, None) => Variant::Synthesised,
    }
}

/// True if a view wants AAAA records made for a local name too.
pub(crate) fn is_synthesised(view: &View, name: &[u8], checking_disabled: bool) -> bool {
    let asked =
        Asked { name, qtype: TYPE_AAAA, qclass: CLASS_IN, recursion_desired: true, checking_disabled };
    variant(view, &asked) != Variant::Native
}

/// The address whose name in ip6.arpa this is (RFC 3596 2.5); nothing if it is no name of a whole address.
fn reverse(name: &[u8]) -> Option<Ipv6Addr> {
    let nibbles = name.strip_suffix(IP6_ARPA)?;
    if nibbles.len() != 64 {
        return None;
    }
    let mut bits = 0u128;
    for (n, pair) in nibbles.chunks_exact(2).enumerate() {
        let [1, digit] = *pair else { return None };
        let nibble = char::from(digit).to_digit(16)?;
        bits |= u128::from(nibble) << (4 * n);
    }
    Some(Ipv6Addr::from_bits(bits))
}

/// The IPv4 address in an address under `prefix`, by position (RFC 6052 2.2, 2.3); nothing if the prefix is of a
/// length that none has.
fn extract(prefix: Prefix6, a: Ipv6Addr) -> Option<Ipv4Addr> {
    if !matches!(prefix.len(), 32 | 40 | 48 | 56 | 64 | 96) {
        return None;
    }
    let octets = a.octets();
    let mut v4 = [0; 4];
    // Octet 8 is the u-octet, which the address goes around.
    let from = (usize::from(prefix.len()) / 8..16).filter(|n| *n != 8);
    for (to, from) in v4.iter_mut().zip(from) {
        *to = *octets.get(from)?;
    }
    Some(v4.into())
}

/// The name of an IPv4 address under in-addr.arpa (RFC 1035 3.5).
pub(crate) fn in_addr_arpa(v4: Ipv4Addr) -> WireName {
    let mut name = WireName::new();
    for octet in v4.octets().iter().rev() {
        let digits = octet.to_string();
        name.extend(u8::try_from(digits.len()).ok());
        name.extend(digits.bytes());
    }
    name.extend(*b"\x07in-addr\x04arpa\x00");
    name
}

const _: () = assert!(NAME_OCTETS <= u8::MAX as usize);

#[cfg(test)]
pub(crate) mod tests;
