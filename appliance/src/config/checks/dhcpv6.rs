//! Checks over what DHCPv6 leases: pools, delegations and reservations of networks and of links behind
//! relays.

use super::super::Prefix;
use super::super::read::{Item, Source};
use super::super::schema::{Dhcpv6Draft, Draft, NetworkDraft, ReservationDraft};
use super::super::types::{AddressRange, Host6};
use super::nat64::apart;
use super::{Checked, overlap, unique};
use causeway_core::net::{Prefix6, Role};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// The most links behind relays.
const LINKS_MOST: usize = 4096;

/// The most delegated prefixes that are neither in `delegate` nor in `sources`: each of them is looked at
/// for packets of the network.
const SCATTERED_MOST: usize = 256;

/// A link, whoever has it.
struct Link<'a> {
    /// As in "network `servers`".
    what: String,
    prefixes: Vec<Prefix6>,
    dhcpv6: Option<&'a Dhcpv6Draft>,
    reservations: &'a [ReservationDraft],
}

pub(super) fn check(source: &Source<'_>, draft: &Draft, networks: &[Checked], notes: &mut Vec<String>) {
    let mut links: Vec<Link<'_>> = Vec::new();
    for n in draft.networks.iter().filter(|n| n.role == Some(Role::Tenant)) {
        let Some(network) = networks.iter().find(|c| c.path == n.at.path) else { continue };
        if n.dhcpv6.is_none() {
            if let Some(first) = n.reservations.first() {
                source.error(
                    &first.at,
                    "the network has no [network.dhcpv6]",
                    "[[network.reservation]] only beside [network.dhcpv6]",
                );
            }
            if let Some(first) = n.ntp.first() {
                notes.push(format!("{}: without [network.dhcpv6] nobody is told", first.at.path));
            }
            continue;
        }
        links.push(Link {
            what: format!("network `{}`", network.built.name),
            prefixes: network.built.on_link6.clone(),
            dhcpv6: n.dhcpv6.as_ref(),
            reservations: &n.reservations,
        });
    }
    relayed(source, draft, networks, notes);
    for link in &draft.dhcpv6.links {
        let name = link.name.as_ref().map_or_else(String::new, |name| format!(" `{}`", name.value));
        links.push(Link {
            what: format!("link{name}"),
            prefixes: link.prefixes.iter().map(|item| item.value).collect(),
            dhcpv6: Some(&link.dhcpv6),
            reservations: &link.reservations,
        });
    }
    pools(source, &links, networks, notes);
    delegations(source, draft, &links, networks);
    reservations(source, draft, &links, networks);
    server(draft, &links, notes);
}

/// Adds what is delegated on a network to what it may send from: hosts behind a client send from there.
pub(super) fn sources(source: &Source<'_>, n: &NetworkDraft, sources: &mut Vec<Prefix6>) {
    let anybody = n.dhcpv6.iter().flat_map(|d| &d.delegate).filter_map(|d| d.prefix.as_ref());
    let known = n.reservations.iter().flat_map(|r| &r.prefixes);
    let listed = sources.len();
    for item in anybody.chain(known).filter(|item| !not_hosts(item.value)) {
        let p = item.value;
        if sources.iter().any(|s| s.len() <= p.len() && s.contains(p.address())) {
            continue;
        }
        if sources.len() - listed == SCATTERED_MOST {
            source.error(
                &item.at,
                format!("more than {SCATTERED_MOST} delegated prefixes that nothing holds together"),
                "prefixes inside one of `delegate` or of the network's `sources`",
            );
            return;
        }
        sources.push(p);
    }
}

/// Links behind relays: their names and their prefixes.
fn relayed(source: &Source<'_>, draft: &Draft, networks: &[Checked], notes: &mut Vec<String>) {
    let links = &draft.dhcpv6.links;
    if let Some(name) = links.get(LINKS_MOST).and_then(|link| link.name.as_ref()) {
        source.error(&name.at, "too many links", format!("at most {LINKS_MOST}"));
    }
    unique(source, "link name", links.iter().filter_map(|link| link.name.as_ref()));
    for name in links.iter().filter_map(|link| link.name.as_ref()) {
        if networks.iter().any(|n| n.built.name == name.value) {
            source.error(&name.at, "a network has this name", "a name of its own");
        }
    }
    let mut all: Vec<&Item<Prefix6>> = links.iter().flat_map(|link| &link.prefixes).collect();
    for item in &all {
        let p = item.value;
        if not_hosts(p) {
            source.error(&item.at, "not a prefix that a link can have", "a unicast prefix");
        }
        if let Some(other) = on_link(networks, p) {
            source.error(&item.at, format!("overlaps {other}"), "a prefix of no network");
        }
        if let Some(problem) = translated(draft, p) {
            source.error(&item.at, problem, "a prefix that is not translated");
        }
        if !networks
            .iter()
            .any(|n| n.built.role == Role::Tenant && n.built.sources.iter().any(|s| s.overlaps(p)))
        {
            notes.push(format!("{}: no tenant network may send from {p} (see `sources`)", item.at.path));
        }
    }
    apart(source, &mut all);
    for uri in links.iter().filter_map(|link| link.captive_portal.as_ref()) {
        if uri.value.has_address() {
            notes.push(format!("{}: a URI with an address instead of a name (RFC 8910 2)", uri.at.path));
        }
    }
}

fn not_hosts(p: Prefix6) -> bool {
    let a = p.address();
    p.len() == 0 || a.is_multicast() || a.is_unicast_link_local()
}

/// The on-link prefix of a network that `p` overlaps, in words.
fn on_link(networks: &[Checked], p: Prefix6) -> Option<String> {
    networks.iter().find_map(|n| {
        let link = n.prefixes.iter().find(|link| overlap(link.value, Prefix::V6(p)))?;
        Some(format!("{}, which is on the link of network `{}` ({})", link.value, n.built.name, link.at.path))
    })
}

/// The NAT64 prefix that `p` overlaps, in words.
pub(super) fn translated(draft: &Draft, p: Prefix6) -> Option<String> {
    let nat64 = draft.nat64.as_ref()?;
    let prefix = nat64.prefixes.iter().find(|n| n.value.prefix().overlaps(p))?;
    Some(format!("overlaps the NAT64 prefix {} of {}", prefix.value, prefix.at.path))
}

fn pools(source: &Source<'_>, links: &[Link<'_>], networks: &[Checked], notes: &mut Vec<String>) {
    let mut all: Vec<&Item<AddressRange>> = Vec::new();
    for link in links {
        for item in link.dhcpv6.iter().flat_map(|d| &d.pools) {
            let range = item.value;
            if !link.prefixes.iter().any(|p| p.contains(range.first()) && p.contains(range.last())) {
                let known: Vec<String> = link.prefixes.iter().map(ToString::to_string).collect();
                source.error(
                    &item.at,
                    format!("not inside one prefix of {}", link.what),
                    match known.is_empty() {
                        true => "there is none".to_owned(),
                        false => format!("a range in {}", known.join(", or in ")),
                    },
                );
            }
            all.push(item);
        }
    }
    // In the order of addresses only neighbours can overlap, or one further to the left that reaches far.
    all.sort_by_key(|item| (item.value.first(), item.value.last()));
    let mut farthest: Option<&Item<AddressRange>> = None;
    for item in &all {
        match farthest {
            Some(other) if other.value.overlaps(item.value) => {
                let problem = format!("overlaps {} of {}", other.value, other.at.path);
                source.error(&item.at, problem, "pools without addresses in common");
                if item.value.last() > other.value.last() {
                    farthest = Some(item);
                }
            }
            _ => farthest = Some(item),
        }
    }
    for own in networks.iter().flat_map(|n| &n.addresses) {
        let IpAddr::V6(a) = own.value else { continue };
        // Sorted and apart: the pool that may hold it is the last one that does not begin behind it.
        let at = all.partition_point(|item| item.value.first() <= a);
        if let Some(item) = at.checked_sub(1).and_then(|n| all.get(n)).filter(|item| item.value.contains(a)) {
            notes.push(format!(
                "{}: {a} is an address of the gateway itself ({}) and not leased",
                item.at.path, own.at.path
            ));
        }
    }
}

fn delegations(source: &Source<'_>, draft: &Draft, links: &[Link<'_>], networks: &[Checked]) {
    let mut all: Vec<&Item<Prefix6>> = Vec::new();
    for link in links {
        for item in link.dhcpv6.iter().flat_map(|d| &d.delegate).filter_map(|d| d.prefix.as_ref()) {
            elsewhere(source, draft, networks, item);
            all.push(item);
        }
    }
    apart(source, &mut all);
}

/// What is wrong with a prefix to delegate, or to reserve: it is routed to a client, so nobody else is there.
fn elsewhere(source: &Source<'_>, draft: &Draft, networks: &[Checked], item: &Item<Prefix6>) {
    let allowed = "a unicast prefix that no network and no link has";
    if not_hosts(item.value) {
        source.error(&item.at, "not a prefix that a client can have", allowed);
        return;
    }
    if let Some(other) = on_link(networks, item.value) {
        source.error(&item.at, format!("overlaps {other}"), allowed);
    }
    let relayed = draft.dhcpv6.links.iter().flat_map(|link| &link.prefixes);
    if let Some(other) = relayed.into_iter().find(|other| other.value.overlaps(item.value)) {
        source.error(&item.at, format!("overlaps {} of {}", other.value, other.at.path), allowed);
    }
    if let Some(problem) = translated(draft, item.value) {
        source.error(&item.at, problem, "a prefix that is not translated");
    }
}

fn reservations(source: &Source<'_>, draft: &Draft, links: &[Link<'_>], networks: &[Checked]) {
    let own: HashMap<Ipv6Addr, &str> = networks
        .iter()
        .flat_map(|n| &n.addresses)
        .filter_map(|item| match item.value {
            IpAddr::V6(a) => Some((a, item.at.path.as_str())),
            IpAddr::V4(_) => None,
        })
        .collect();
    let mut addresses: HashMap<Ipv6Addr, &str> = HashMap::new();
    let mut prefixes: Vec<&Item<Prefix6>> = Vec::new();
    for link in links {
        keys(source, link.reservations);
        for item in link.reservations.iter().flat_map(|r| &r.addresses) {
            address(source, link, &own, item);
            if let Some(first) = addresses.insert(item.value.address(), &item.at.path) {
                source.error(&item.at, format!("{first} is the same address"), "each address once");
            }
        }
        for item in link.reservations.iter().flat_map(|r| &r.prefixes) {
            elsewhere(source, draft, networks, item);
            reserved_prefix(source, links, item);
            prefixes.push(item);
        }
    }
    apart(source, &mut prefixes);
}

/// A server is known by one thing, and each of these knows one server.
fn keys(source: &Source<'_>, reservations: &[ReservationDraft]) {
    let mut macs = HashMap::new();
    let mut interfaces = HashMap::new();
    let mut duids = HashMap::new();
    for r in reservations {
        if let Some(mac) = &r.mac
            && let Some(first) = macs.insert(mac.value, &mac.at.path)
        {
            source.error(&mac.at, format!("{first} is the same MAC address"), "each MAC address once");
        }
        if let Some(id) = &r.interface_id
            && let Some(first) = interfaces.insert(&id.value, &id.at.path)
        {
            source.error(&id.at, format!("{first} is the same interface-id"), "each interface-id once");
        }
        if let Some(duid) = &r.duid {
            let iaid = r.iaid.as_ref().map(|item| item.value);
            if let Some(first) = duids.insert((&duid.value, iaid), &duid.at.path) {
                let problem = format!("{first} is the same DUID");
                source.error(&duid.at, problem, "each DUID once, or with another `iaid`");
            }
        }
    }
}

fn address(source: &Source<'_>, link: &Link<'_>, own: &HashMap<Ipv6Addr, &str>, item: &Item<Host6>) {
    let a = item.value.address();
    let Some(prefix) = link.prefixes.iter().find(|p| p.contains(a)) else {
        let known: Vec<String> = link.prefixes.iter().map(ToString::to_string).collect();
        let allowed = match known.is_empty() {
            true => "there is none".to_owned(),
            false => format!("an address in {}", known.join(", or in ")),
        };
        source.error(&item.at, format!("not inside a prefix of {}", link.what), allowed);
        return;
    };
    if let Some(path) = own.get(&a) {
        let problem = format!("an address of the gateway itself ({path})");
        source.error(&item.at, problem, "the address of a server");
    }
    // RFC 4291 2.6.1, RFC 6164 5.
    if prefix.len() < 127 && prefix.address() == a {
        let problem = format!("the Subnet-Router anycast address of {prefix}");
        source.error(&item.at, problem, "the address of a server");
    }
}

/// A reserved prefix is one of those that a delegation gives out, or apart from all of them.
fn reserved_prefix(source: &Source<'_>, links: &[Link<'_>], item: &Item<Prefix6>) {
    for d in links.iter().flat_map(|link| link.dhcpv6.iter().flat_map(|d| &d.delegate)) {
        let (Some(from), Some(length)) = (&d.prefix, &d.length) else { continue };
        if !from.value.overlaps(item.value) {
            continue;
        }
        if item.value.len() != length.bits() {
            let problem = format!("overlaps {} of {}", from.value, from.at.path);
            let allowed = format!("a prefix of length {} there, or one elsewhere", length.bits());
            source.error(&item.at, problem, allowed);
        }
    }
}

/// What is doubtful of the server as a whole.
fn server(draft: &Draft, links: &[Link<'_>], notes: &mut Vec<String>) {
    let server = &draft.dhcpv6;
    if links.is_empty() {
        if let Some(at) = &server.at {
            notes.push(format!(
                "{}: no network has [network.dhcpv6], and there is no [[dhcpv6.link]]: nothing is leased",
                at.path
            ));
        }
        return;
    }
    let mut leases: u128 = 0;
    for link in links {
        for pool in link.dhcpv6.iter().flat_map(|d| &d.pools) {
            leases = leases.saturating_add(pool.value.count());
        }
        for d in link.dhcpv6.iter().flat_map(|d| &d.delegate) {
            let (Some(prefix), Some(length)) = (&d.prefix, &d.length) else { continue };
            let bits = u32::from(length.bits().saturating_sub(prefix.value.len()));
            leases = leases.saturating_add(1u128.checked_shl(bits).unwrap_or(u128::MAX));
        }
        let reserved = link.reservations.iter().map(|r| r.addresses.len() + r.prefixes.len()).sum::<usize>();
        leases = leases.saturating_add(reserved as u128);
        if link.dhcpv6.is_some_and(|d| d.pools.is_empty() && d.delegate.is_empty())
            && link.reservations.is_empty()
        {
            let path = link.dhcpv6.map_or("dhcpv6", |d| &d.at.path);
            notes.push(format!("{path}: neither pools nor delegations nor reservations: nothing is leased"));
        }
    }
    if leases > u128::from(server.capacity.get()) {
        notes.push(format!(
            "dhcpv6.capacity: pools, delegations and reservations hold more than the {} leases that are kept at once; each network is sure of an even part of half of them",
            server.capacity
        ));
    }
    match (&draft.vrrp, &server.peer) {
        (Some(_), None) => notes.push(
            "dhcpv6.peer: missing, although there is [vrrp]: the other gateway does not know the leases"
                .to_owned(),
        ),
        (None, Some(_)) => notes.push(
            "dhcpv6.peer: without [vrrp] both gateways answer: they give out the same addresses".to_owned(),
        ),
        _ => {}
    }
}
