//! Checks over the splicer: that its addresses are nobody else's, that servers can be told who comes and their answers
//! come back, and that no port leads to two places.

use super::super::read::{Item, Source};
use super::super::schema::{BackendDraft, Draft, SiteDraft, SplicerDraft};
use super::super::types::{
    ClientPrefix, Endpoint4, Host6, IdentityKind, PortRange4, SiteName, StaticProtocol, Timeout, host4,
};
use super::super::{Prefix, special};
use super::dhcpv6::translated;
use super::nat64::{STATIC_MOST, inhabited};
use super::{Checked, nat64, overlap, unique};
use causeway_core::net::{Prefix4, Prefix6, Role};
use causeway_splicer::config::{CLIENT_PREFIXES, SOURCES};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most listeners.
const LISTENERS_MOST: usize = 4096;
/// The most proxy addresses: each is announced on every uplink.
const ADDRESSES_MOST: usize = 256;
/// The most servers of one set.
const BACKENDS_MOST: usize = 64;
/// The most protocols with servers of their own.
const ALPN_MOST: usize = 16;

/// Gives the addresses that connections to servers come from.
pub(super) fn check(
    source: &Source<'_>,
    draft: &Draft,
    networks: &[Checked],
    notes: &mut Vec<String>,
) -> Vec<Host6> {
    let Some(s) = &draft.splicer else { return Vec::new() };
    client_prefixes(source, draft, s, networks);
    listeners(source, draft, s, networks, notes);
    port_maps(source, draft, s, networks, notes);
    sites(source, draft, s, networks, notes);
    if s.timeouts.established < Timeout::literal(7440) {
        notes.push(format!(
            "splicer.timeouts.established: {} is less than the {} of RFC 5382 5",
            s.timeouts.established,
            Timeout::literal(7440)
        ));
    }
    if draft.nat64.is_none() {
        super::uplink4(source, networks, &s.at);
    }
    sources(source, s, networks)
}

/// What is wrong with an address that clients connect to.
fn proxy(source: &Source<'_>, draft: &Draft, networks: &[Checked], at: &super::super::read::At, a: Ipv4Addr) {
    nat64::nobodys(source, draft, networks, at, a);
    for network in networks {
        for p in network.built.on_link4.iter().filter(|p| p.contains(a)) {
            if let Err(problem) = host4(a, *p) {
                source.error(at, problem, "the address of a host");
            }
        }
    }
    let pools = draft.nat64.iter().flat_map(|n| n.pool.iter().chain(n.tenants.iter().flat_map(|t| &t.pool)));
    for pool in pools.filter(|p| p.value.contains(a)) {
        let problem = format!("in the NAT64 pool {} of {}", pool.value, pool.at.path);
        source.error(at, problem, "an address outside the pools");
    }
}

fn listeners(
    source: &Source<'_>,
    draft: &Draft,
    s: &SplicerDraft,
    networks: &[Checked],
    notes: &mut Vec<String>,
) {
    if let Some(l) = s.listeners.get(LISTENERS_MOST) {
        source.error(&l.at, "too many listeners", format!("at most {LISTENERS_MOST}"));
    }
    let sites: HashSet<&SiteName> =
        s.sites.iter().filter_map(|s| s.name.as_ref()).map(|n| &n.value).collect();
    let mut seen: HashMap<(Ipv4Addr, u16), &str> = HashMap::new();
    let mut told = HashSet::new();
    for l in &s.listeners {
        if let Some(site) = l.default_site.as_ref().filter(|site| !sites.contains(&site.value)) {
            source.error(&site.at, "there is no such site", "the `name` of a [[splicer.site]]");
        }
        let (Some(address), Some(port)) = (&l.address, &l.port) else { continue };
        let at = address.value.address();
        if let Some(first) = seen.insert((at, port.value.get()), &l.at.path) {
            let problem = format!("{first} has port {} of {at} already", port.value);
            source.error(&port.at, problem, "each address and port once");
        }
        if told.insert(at) {
            if told.len() == ADDRESSES_MOST + 1 {
                source.error(&address.at, "too many addresses", format!("at most {ADDRESSES_MOST}"));
            }
            proxy(source, draft, networks, &address.at, at);
            let not_global = Prefix4::new(at, 32).and_then(special::non_global);
            if let Some((not_global, document)) = not_global {
                notes.push(format!(
                    "{}: {at} is not globally reachable ({not_global}, {document}); somebody has to translate it again",
                    address.at.path
                ));
            }
        }
    }
}

/// Port maps, and the range of those that are asked for, are static mappings of NAT64.
fn port_maps(
    source: &Source<'_>,
    draft: &Draft,
    s: &SplicerDraft,
    networks: &[Checked],
    notes: &mut Vec<String>,
) {
    let Some(n) = &draft.nat64 else {
        let first = s.port_maps.first().and_then(|m| m.outside.as_ref()).map(|item| &item.at);
        for at in first.into_iter().chain(s.port_map_range.as_ref().map(|item| &item.at)) {
            source.error(at, "there is no [nat64], which translates what comes to it", "only with [nat64]");
        }
        return;
    };
    let mut taken = Taken::default();
    for l in &s.listeners {
        if let (Some(address), Some(port)) = (&l.address, &l.port) {
            taken
                .outsides
                .insert((StaticProtocol::Tcp.word(), address.value.address(), port.value.get()), &l.at.path);
        }
    }
    for m in &n.static_mappings {
        let (Some(protocol), Some(outside)) = (m.protocol, &m.outside) else { continue };
        taken.outside(source, protocol, outside);
        if let Some(inside) = &m.inside {
            taken
                .insides
                .insert((protocol.word(), inside.value.address(), inside.value.port()), &inside.at.path);
        }
    }
    let before = n.static_mappings.len();
    for (number, m) in s.port_maps.iter().enumerate() {
        if let Some(outside) = &m.outside {
            if before.max(number) <= STATIC_MOST && before + number == STATIC_MOST {
                source.error(
                    &outside.at,
                    "too many port maps and static mappings",
                    format!("at most {STATIC_MOST}"),
                );
            }
            if let Some(protocol) = m.protocol {
                taken.outside(source, protocol, outside);
            }
            proxy(source, draft, networks, &outside.at, outside.value.address());
            nat64::global(source, n, &outside.at, outside.value.address());
        }
        let Some(inside) = &m.inside else { continue };
        // RFC 6146 3.1: an inside transport address has one mapping.
        if let Some(protocol) = m.protocol {
            let key = (protocol.word(), inside.value.address(), inside.value.port());
            if let Some(first) = taken.insides.insert(key, &inside.at.path) {
                let problem = format!("{first} has this server of {protocol} already");
                source.error(&inside.at, problem, "each server's address and port once (RFC 6146 3.1)");
            }
        }
        nat64::inside(source, n, networks, &inside.at, inside.value.address(), notes);
        under_client_prefix(source, s, &inside.at, inside.value.address());
    }
    if let Some(range) = &s.port_map_range {
        proxy(source, draft, networks, &range.at, range.value.address());
        nat64::global(source, n, &range.at, range.value.address());
        taken.range(source, range);
    }
}

/// Ports of proxy addresses and of servers that have a meaning already, and where that is said.
#[derive(Default)]
struct Taken<'a> {
    outsides: HashMap<(&'static str, Ipv4Addr, u16), &'a str>,
    insides: HashMap<(&'static str, Ipv6Addr, u16), &'a str>,
}

impl<'a> Taken<'a> {
    fn outside(&mut self, source: &Source<'_>, protocol: StaticProtocol, item: &'a Item<Endpoint4>) {
        let key = (protocol.word(), item.value.address(), item.value.port());
        if let Some(first) = self.outsides.get(&key) {
            let problem = format!("{first} has this address and port of {protocol} already");
            // Twice in [nat64] is told there.
            if !first.starts_with("nat64.") || !item.at.path.starts_with("nat64.") {
                source.error(&item.at, problem, "each address and port once");
            }
        } else {
            self.outsides.insert(key, &item.at.path);
        }
    }

    fn range(&self, source: &Source<'_>, range: &Item<PortRange4>) {
        let inside = self.outsides.iter().filter(|((_, a, port), _)| range.value.contains(*a, *port));
        if let Some(((_, _, port), path)) = inside.min_by_key(|((_, _, port), path)| (*port, **path)) {
            let problem = format!("holds port {port} of {path}");
            source.error(&range.at, problem, "ports that nothing else has");
        }
    }
}

fn client_prefixes(source: &Source<'_>, draft: &Draft, s: &SplicerDraft, networks: &[Checked]) {
    if let Some(item) = s.client_prefixes.get(CLIENT_PREFIXES) {
        source.error(&item.at, "too many prefixes", format!("at most {CLIENT_PREFIXES}"));
    }
    let nobodys = "a prefix that no host has addresses of, and that leads to the gateway";
    for (n, item) in s.client_prefixes.iter().enumerate() {
        let p = item.value.prefix();
        if let Some(other) = s.client_prefixes[..n].iter().find(|o| o.value == item.value) {
            source.error(&item.at, format!("the same as {}", other.at.path), "each prefix once");
        }
        let mut translated = draft.nat64.iter().flat_map(|n| &n.prefixes);
        if let Some(other) = translated.find(|o| o.value.prefix().overlaps(p)) {
            let problem = format!("overlaps the NAT64 prefix {} of {}", other.value, other.at.path);
            source.error(
                &item.at,
                problem,
                "a prefix of its own, so that answers to clients are not translated",
            );
        }
        for network in networks {
            for link in network.prefixes.iter().filter(|link| overlap(link.value, Prefix::V6(p))) {
                let problem = format!(
                    "overlaps {}, which is on the link of network `{}` ({})",
                    link.value, network.built.name, link.at.path
                );
                source.error(&item.at, problem, nobodys);
            }
            // As for NAT64 prefixes: a /48 of the site may well hold both.
            for other in network.built.sources.iter().filter(|o| o.len() >= p.len() && o.overlaps(p)) {
                let problem = format!("holds {other}, which network `{}` may send from", network.built.name);
                source.error(&item.at, problem, nobodys);
            }
        }
        for route in draft.routes.iter().filter_map(|r| r.prefix.as_ref()) {
            if matches!(route.value, Prefix::V6(r) if r.len() >= p.len() && r.overlaps(p)) {
                let problem = format!("inside the client prefix {p} of {}: never used", item.at.path);
                source.error(&route.at, problem, "a prefix that is not the splicer's");
            }
        }
    }
}

fn under_client_prefix(source: &Source<'_>, s: &SplicerDraft, at: &super::super::read::At, a: Ipv6Addr) {
    if let Some(p) = s.client_prefixes.iter().find(|p| p.value.prefix().contains(a)) {
        let problem = format!("in the client prefix {} of {}", p.value, p.at.path);
        source.error(at, problem, "the address of a server");
    }
}

fn sites(
    source: &Source<'_>,
    draft: &Draft,
    s: &SplicerDraft,
    networks: &[Checked],
    notes: &mut Vec<String>,
) {
    unique(source, "site name", s.sites.iter().filter_map(|site| site.name.as_ref()));
    let known: HashSet<ClientPrefix> = s.client_prefixes.iter().map(|item| item.value).collect();
    let mut hosts = Hosts::new(draft, s, networks);
    for site in &s.sites {
        identity(source, s, site, &known);
        unique(source, "protocol", site.alpn.iter().filter_map(|rule| rule.protocol.as_ref()));
        if let Some(protocol) = site.alpn.get(ALPN_MOST).and_then(|rule| rule.protocol.as_ref()) {
            source.error(&protocol.at, "too many protocols", format!("at most {ALPN_MOST}"));
        }
        for set in std::iter::once(&site.backends).chain(site.alpn.iter().map(|rule| &rule.backends)) {
            if let Some(backend) = set.get(BACKENDS_MOST) {
                source.error(&backend.at, "too many servers", format!("at most {BACKENDS_MOST}"));
            }
            hosts.check(source, set, notes);
        }
    }
}

fn identity(source: &Source<'_>, s: &SplicerDraft, site: &SiteDraft, known: &HashSet<ClientPrefix>) {
    if site.identity.value == IdentityKind::Embedded && s.client_prefixes.is_empty() {
        if !source.bad("splicer.client-prefixes") {
            let allowed = "with `splicer.client-prefixes`, or another `identity`";
            source.error(&site.identity.at, "there is no client prefix", allowed);
        }
    } else if let Some(item) = site.client_prefix.as_ref().filter(|item| !known.contains(&item.value)) {
        source.error(&item.at, "not among the client prefixes", "one of `splicer.client-prefixes`");
    }
}

/// What is known of servers' addresses.
struct Hosts<'a> {
    draft: &'a Draft,
    splicer: &'a SplicerDraft,
    networks: &'a [Checked],
    own: HashMap<IpAddr, &'a str>,
    /// Ports of listeners.
    ports: HashSet<u16>,
    /// Addresses that have been looked at.
    seen: HashSet<Ipv6Addr>,
}

impl<'a> Hosts<'a> {
    fn new(draft: &'a Draft, splicer: &'a SplicerDraft, networks: &'a [Checked]) -> Self {
        let own = networks.iter().flat_map(|n| &n.addresses).map(|own| (own.value, own.at.path.as_str()));
        let ports = splicer.listeners.iter().filter_map(|l| l.port.as_ref()).map(|port| port.value.get());
        Self { draft, splicer, networks, own: own.collect(), ports: ports.collect(), seen: HashSet::new() }
    }

    fn check(&mut self, source: &Source<'_>, set: &[BackendDraft], notes: &mut Vec<String>) {
        let mut same: HashMap<_, &str> = HashMap::new();
        for backend in set {
            let mut ports: Vec<_> = backend.ports.iter().map(|item| item.value).collect();
            let mut listeners = HashSet::new();
            for item in &backend.ports {
                let port = item.value.listener();
                if !listeners.insert(port) {
                    let problem = format!("port {port} again");
                    source.error(&item.at, problem, "each port of a listener once");
                } else if !self.ports.contains(&port) {
                    notes.push(format!("{}: no listener has port {port}", item.at.path));
                }
            }
            let Some(item) = &backend.address else { continue };
            let a = item.value.address();
            ports.sort_unstable_by_key(|p| (p.listener(), p.server()));
            if let Some(first) = same.insert((a, ports), &backend.at.path) {
                source.error(
                    &item.at,
                    format!("{first} is the same server"),
                    "each address and its ports once",
                );
            }
            self.host(source, item, a, notes);
        }
    }

    fn host(&mut self, source: &Source<'_>, item: &Item<Host6>, a: Ipv6Addr, notes: &mut Vec<String>) {
        if let Some(path) = self.own.get(&IpAddr::V6(a)) {
            let problem = format!("{a} is an address of the gateway itself ({path})");
            source.error(&item.at, problem, "the address of a server");
            return;
        }
        under_client_prefix(source, self.splicer, &item.at, a);
        let Some(host) = Prefix6::new(a, 128) else { return };
        if let Some(problem) = translated(self.draft, host) {
            source.error(&item.at, problem, "the address of a server");
        } else if self.seen.insert(a) && !inhabited(self.networks, host) {
            notes.push(format!("{}: no tenant network may send from {a} (see `sources`)", item.at.path));
        }
    }
}

/// The addresses that connections to servers come from: those of the file, or one of each tenant network.
fn sources(source: &Source<'_>, s: &SplicerDraft, networks: &[Checked]) -> Vec<Host6> {
    if let Some(items) = &s.sources {
        unique(source, "address", items.iter());
        if let Some(item) = items.get(SOURCES) {
            source.error(&item.at, "too many addresses", format!("at most {SOURCES}"));
        }
        let own: HashSet<IpAddr> =
            networks.iter().flat_map(|n| &n.addresses).map(|item| item.value).collect();
        for item in items.iter().filter(|item| !own.contains(&IpAddr::V6(item.value.address()))) {
            if !source.bad("network[") && !source.bad("vrrp") {
                source.error(
                    &item.at,
                    "not an address of the gateway",
                    "an address of a [[network]] or of a [[vrrp.router]]",
                );
            }
        }
        return items.iter().map(|item| item.value).collect();
    }
    // A virtual router's first: when another gateway takes over, it says at once that it knows nothing of the
    // connections, where nobody would answer at the address of one that is gone.
    let tenants = networks.iter().filter(|n| n.built.role == Role::Tenant);
    let found: Vec<Host6> = tenants
        .filter_map(|n| {
            n.built.virtual6.iter().chain(&n.built.addresses6).find_map(|own| Host6::of(own.address))
        })
        .take(SOURCES)
        .collect();
    if found.is_empty() && !s.listeners.is_empty() && !source.bad("network[") && !source.bad("vrrp") {
        source.error(
            &s.at,
            "no tenant network has an IPv6 address of the gateway, from which connections to servers could come",
            "`sources` with addresses of the gateway",
        );
    }
    found
}
