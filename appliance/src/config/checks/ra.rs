//! Checks over what hosts are told: DNS, router advertisements, and whether they fit together.

use super::super::first_hop::RaPrefix;
use super::super::read::Source;
use super::super::schema::{Draft, NetworkDraft, RaDraft};
use super::super::types::SourceValidation;
use super::{Checked, unique};
use causeway_core::net::Role;
use std::collections::HashMap;

/// RFC 8106 5.1: the length of an option is an octet that counts eight octets, of which the first are not
/// addresses.
const SERVERS_MOST: usize = 127;

/// The most encrypted resolvers: each is an option of its own.
const ENCRYPTED_MOST: usize = 16;

/// RFC 4191 4: the most routes that a router advertises on a link.
const ROUTES_MOST: usize = 17;

/// Octets of the headers before the options of a router advertisement: IPv6 (RFC 8200 3) and RFC 4861 4.2.
const HEADERS: usize = 40 + 16;

/// `[dns]`.
pub(super) fn dns(source: &Source<'_>, draft: &Draft, networks: &[Checked], notes: &mut Vec<String>) {
    let dns = &draft.dns;
    unique(source, "address", dns.servers.iter());
    let mut names: HashMap<String, &str> = HashMap::new();
    for item in &dns.search {
        if let Some(first) = names.insert(item.value.as_str().to_ascii_lowercase(), &item.at.path) {
            source.error(&item.at, format!("{first} is the same name"), "each name once");
        }
    }
    if let Some(item) = dns.servers.get(SERVERS_MOST) {
        source.error(&item.at, "too many servers", format!("at most {SERVERS_MOST} (RFC 8106 5.1)"));
    }
    if let Some(resolver) = dns.encrypted.get(ENCRYPTED_MOST)
        && let Some(name) = &resolver.name
    {
        source.error(&name.at, "too many encrypted resolvers", format!("at most {ENCRYPTED_MOST}"));
    }
    for resolver in &dns.encrypted {
        unique(source, "address", resolver.addresses.iter());
        unique(source, "protocol", resolver.alpn.iter());
    }
    // Each option has to fit into a packet: RFC 6980 forbids to fragment it.
    let mut told = false;
    for (n, network) in draft.networks.iter().zip(networks_of(draft, networks)) {
        let by_ra = n.ra.as_ref().is_some_and(|ra| ra.ra.dns);
        told |= by_ra || n.dhcpv6.is_some();
        let Some(network) = network.filter(|_| by_ra) else { continue };
        let room = usize::from(network.built.mtu.octets()) - HEADERS;
        options(source, draft, room, network.built.name.as_str());
    }
    told |= !draft.dhcpv6.links.is_empty();
    let some = !dns.servers.is_empty() || !dns.search.is_empty() || !dns.encrypted.is_empty();
    if some && !told {
        notes.push("dns: no network has [network.ra] or [network.dhcpv6]: nobody is told".to_owned());
    }
    if told && dns.servers.is_empty() && !source.bad("dns") {
        notes.push("dns.servers: none: hosts are told no DNS server".to_owned());
    }
}

/// The networks that were built, next to their drafts.
fn networks_of<'a>(
    draft: &'a Draft,
    networks: &'a [Checked],
) -> impl Iterator<Item = Option<&'a Checked>> + 'a {
    draft.networks.iter().map(|n| networks.iter().find(|c| c.path == n.at.path))
}

fn options(source: &Source<'_>, draft: &Draft, room: usize, network: &str) {
    let dns = &draft.dns;
    let most = room.min(255 * 8);
    let fits = format!("at most {most} octets for network `{network}`");
    let mut octets = 8;
    for item in &dns.servers {
        octets += 16;
        if octets > most {
            let problem = "the option of router advertisements does not fit (RFC 8106 5.1)";
            source.error(&item.at, problem, fits.clone());
            break;
        }
    }
    let mut octets = 8;
    for item in &dns.search {
        octets += item.value.encoded_octets();
        if octets.next_multiple_of(8) > most {
            let problem = "the option of router advertisements does not fit (RFC 8106 5.2)";
            source.error(&item.at, problem, fits.clone());
            break;
        }
    }
    for resolver in &dns.encrypted {
        let Some(name) = &resolver.name else { continue };
        // RFC 9463 6.1: type, length, priority, lifetime, and three fields with a length before them.
        let parameters: usize = 4
            + resolver.alpn.iter().map(|alpn| alpn.as_str().len() + 1).sum::<usize>()
            + resolver.port.map_or(0, |_| 6)
            + resolver.doh_path.as_ref().map_or(0, |path| 4 + path.as_str().len());
        let octets =
            2 + 2 + 4 + 2 + name.value.encoded_octets() + 2 + 16 * resolver.addresses.len() + 2 + parameters;
        if octets.next_multiple_of(8) > most {
            let problem = "the option of router advertisements does not fit (RFC 9463 6.1)";
            source.error(&name.at, problem, fits.clone());
        }
    }
}

/// `[network.ra]`, and what a network's other keys say to hosts.
pub(super) fn check(source: &Source<'_>, draft: &Draft, networks: &[Checked], notes: &mut Vec<String>) {
    for (n, network) in draft.networks.iter().zip(networks_of(draft, networks)) {
        if n.role == Some(Role::Uplink) {
            uplink(source, n);
            continue;
        }
        validation(source, n, notes);
        if let Some(uri) = &n.captive_portal {
            if uri.value.has_address() {
                notes.push(format!("{}: a URI with an address instead of a name (RFC 8910 2)", uri.at.path));
            }
            if n.ra.is_none() && n.dhcpv6.is_none() {
                notes.push(format!(
                    "{}: the network has neither [network.ra] nor [network.dhcpv6]: nobody is told",
                    uri.at.path
                ));
            }
        }
        let Some(ra) = &n.ra else {
            if let Some(dhcpv6) = &n.dhcpv6 {
                notes.push(format!(
                    "{}: without [network.ra] hosts learn no default gateway; DHCPv6 has none to tell",
                    dhcpv6.at.path
                ));
            }
            continue;
        };
        let Some(network) = network else { continue };
        prefixes(source, ra, network, notes);
        routes(source, ra);
        doubts(ra, n, network, notes);
    }
}

/// What only tenant networks have.
fn uplink(source: &Source<'_>, n: &NetworkDraft) {
    let places = [
        n.source_validation.as_ref().map(|item| &item.at),
        n.captive_portal.as_ref().map(|item| &item.at),
        n.ntp.first().map(|item| &item.at),
        n.ra.as_ref().map(|ra| &ra.at),
        n.dhcpv6.as_ref().map(|dhcpv6| &dhcpv6.at),
        n.reservations.first().map(|reservation| &reservation.at),
    ];
    for at in places.into_iter().flatten() {
        source.error(at, "the network is an uplink", "only for networks with role = \"tenant\"");
    }
}

fn validation(source: &Source<'_>, n: &NetworkDraft, notes: &mut Vec<String>) {
    let Some(item) = &n.source_validation else { return };
    match item.value {
        SourceValidation::Off => {
            notes.push(format!("{}: hosts may send from anybody's addresses (BCP 38)", item.at.path));
        }
        SourceValidation::Prefix => {}
        SourceValidation::Leased => {
            let Some(dhcpv6) = &n.dhcpv6 else {
                source.error(
                    &item.at,
                    "the network has no [network.dhcpv6]: nobody could send anything",
                    "\"off\" or \"prefix\", or [network.dhcpv6] with pools or reservations",
                );
                return;
            };
            if dhcpv6.pools.is_empty() && dhcpv6.delegate.is_empty() && n.reservations.is_empty() {
                notes.push(format!(
                    "{}: there are neither pools nor delegations nor reservations: nobody can send anything",
                    item.at.path
                ));
            }
        }
    }
}

fn prefixes(source: &Source<'_>, ra: &RaDraft, network: &Checked, notes: &mut Vec<String>) {
    unique(source, "prefix", ra.prefixes.iter().filter_map(|p| p.prefix.as_ref()));
    for item in ra.prefixes.iter().filter_map(|p| p.prefix.as_ref()) {
        if !network.built.on_link6.contains(&item.value) {
            let known: Vec<String> = network.built.on_link6.iter().map(ToString::to_string).collect();
            source.error(
                &item.at,
                format!("not a prefix that network `{}` has on its link", network.built.name),
                if known.is_empty() { "there is none".to_owned() } else { known.join(", ") },
            );
        }
    }
    let all = ra.build(&network.built.on_link6).prefixes;
    if all.is_empty() {
        notes.push(format!("{}: network `{}` has no IPv6 prefix to tell", ra.at.path, network.built.name));
    }
    let leased = network.built.source_validation == SourceValidation::Leased;
    for p in all.iter().filter(|p| p.autonomous) {
        let said = ra.prefixes.iter().find(|d| d.prefix.as_ref().is_some_and(|item| item.value == p.prefix));
        let at = said.map_or(&ra.autonomous, |d| &d.autonomous);
        notes.push(autonomous(&at.path, p, leased));
    }
}

fn autonomous(path: &str, p: &RaPrefix, leased: bool) -> String {
    // RFC 4862 5.5.3(d), RFC 4291 2.5.1.
    if p.prefix.len() != 64 {
        return format!("{path}: {} is no /64: hosts make no addresses in it (RFC 4862 5.5.3)", p.prefix);
    }
    let also = if leased { ", which source-validation = \"leased\" then drops" } else { "" };
    format!("{path}: hosts make addresses of their own in {}{also}", p.prefix)
}

fn routes(source: &Source<'_>, ra: &RaDraft) {
    unique(source, "destination", ra.routes.iter().filter_map(|r| r.prefix.as_ref()));
    if let Some(item) = ra.routes.get(ROUTES_MOST).and_then(|r| r.prefix.as_ref()) {
        source.error(&item.at, "too many routes", format!("at most {ROUTES_MOST} (RFC 4191 4)"));
    }
    for item in ra.routes.iter().filter_map(|r| r.prefix.as_ref()) {
        let a = item.value.address();
        if a.is_multicast() || (item.value.len() >= 10 && a.is_unicast_link_local()) {
            source.error(&item.at, "not a destination that is routed", "a unicast prefix");
        }
    }
}

/// What is allowed, and yet hardly meant.
fn doubts(ra: &RaDraft, n: &NetworkDraft, network: &Checked, notes: &mut Vec<String>) {
    let name = &network.built.name;
    if ra.ra.router_lifetime.is_zero() {
        let also = if n.dhcpv6.is_some() { ", and DHCPv6 has none to tell" } else { "" };
        notes.push(format!(
            "{}: hosts of network `{name}` do not take this gateway for their default one{also}",
            ra.router_lifetime.path
        ));
    }
    match (n.dhcpv6.is_some(), ra.ra.managed) {
        (true, false) => notes.push(format!(
            "{}: false, although network `{name}` has DHCPv6: hosts do not ask for addresses",
            ra.managed.path
        )),
        (false, true) => notes.push(format!(
            "{}: true, although network `{name}` has no [network.dhcpv6]: nobody answers hosts that ask here",
            ra.managed.path
        )),
        _ => {}
    }
    if n.dhcpv6.is_none() && ra.ra.other && !ra.ra.managed {
        notes.push(format!(
            "{}: true, although network `{name}` has no [network.dhcpv6]: nobody answers hosts that ask here",
            ra.other.path
        ));
    }
    // RFC 8106 5.1: not shorter than until the next advertisement.
    if ra.ra.dns_lifetime.duration() < ra.ra.max_interval.duration() {
        notes.push(format!(
            "{}: {} is less than `max-interval`: hosts forget their DNS servers in between (RFC 8106 5.1)",
            ra.dns_lifetime.path, ra.ra.dns_lifetime
        ));
    }
    for p in &ra.build(&network.built.on_link6).prefixes {
        if p.preferred_lifetime.duration() < ra.ra.max_interval.duration() && p.autonomous {
            notes.push(format!(
                "{}: addresses of {} are deprecated between two advertisements (`preferred-lifetime` {})",
                ra.at.path, p.prefix, p.preferred_lifetime
            ));
        }
    }
}
