//! Checks over the resolver: that its addresses are ours and its upstreams are not, who is answered, and that no
//! name has two meanings.

use super::super::dns64::{DEFAULT_VIEW, Dns64};
use super::super::read::{Item, Source};
use super::super::schema::{Dns64Draft, Draft, RulesDraft, ViewDraft};
use super::super::types::Host6;
use super::super::types::{ClientLength, DomainName, Nat64Prefix, Resolver};
use super::dhcpv6::translated;
use super::{Checked, unique};
use causeway_core::net::{Prefix4, Prefix6, Role};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most upstream resolvers.
const UPSTREAMS_MOST: usize = 16;
/// The most addresses that are answered at: every packet to the gateway is compared with them.
const LISTEN_MOST: usize = 16;
/// The most views.
const VIEWS_MOST: usize = 1024;
/// The most addresses of a name: an answer has to fit into a message.
const ADDRESSES_MOST: usize = 64;
/// The most clients' prefixes of all views together.
const CLIENTS_MOST: usize = 65_536;
/// The shortest prefix of clients: what is shorter lets nearly everybody ask (RFC 5358 4).
const CLIENTS_SHORTEST: u8 = 16;
/// Ports of a worker, at least: whoever guesses answers has to guess the port too (RFC 5452 9.2).
const PORTS_LEAST: u32 = 64;

/// All but the ports. Gives the section as it holds, if there is one and everything that it needs was read.
pub(super) fn check(
    source: &Source<'_>,
    draft: &Draft,
    networks: &[Checked],
    notes: &mut Vec<String>,
) -> Option<Dns64> {
    let d = draft.dns64.as_ref()?;
    let listen = listen(source, draft, d, networks, notes);
    upstreams(source, draft, d, networks);
    times(d, notes);
    let (clients, of_views) = clients(source, d, networks, notes);
    rules(source, draft, &d.rules, None, notes);
    let names = d.views.iter().filter_map(|view| view.name.as_ref());
    unique(source, "view name", names.clone());
    for name in names.filter(|name| name.value.as_str() == DEFAULT_VIEW) {
        source.error(&name.at, "the view of those that no [[dns64.view]] names", "another name");
    }
    if let Some(view) = d.views.get(VIEWS_MOST) {
        source.error(&view.at, "too many views", format!("at most {VIEWS_MOST}"));
    }
    for view in &d.views {
        rules(source, draft, &view.rules, Some(&d.rules), notes);
    }
    let first = draft.nat64.as_ref().and_then(|n| n.prefixes.first()).map(|item| item.value);
    prefixes(source, d, first, notes);
    let length = draft.nat64.as_ref().map_or(64, |n| n.subscribers.prefix_length.bits());
    let length = ClientLength::literal(length.clamp(48, 128));
    d.build(first, length, listen, clients, of_views)
}

/// The addresses that questions are answered at.
fn listen(
    source: &Source<'_>,
    draft: &Draft,
    d: &Dns64Draft,
    networks: &[Checked],
    notes: &mut Vec<String>,
) -> Vec<Host6> {
    let own: HashSet<IpAddr> = networks.iter().flat_map(|n| &n.addresses).map(|item| item.value).collect();
    let ours = |a: Host6| own.contains(&IpAddr::V6(a.address()));
    let listen: Vec<&Item<Host6>> = match &d.listen {
        Some(items) => {
            unique(source, "address", items.iter());
            for item in items.iter().filter(|item| !ours(item.value) && !source.bad("network[")) {
                source.error(
                    &item.at,
                    "not an address of the gateway",
                    "an address of a [[network]] or of a [[vrrp.router]]",
                );
            }
            items.iter().collect()
        }
        None => {
            let told: Vec<&Item<Host6>> = draft.dns.servers.iter().filter(|item| ours(item.value)).collect();
            if told.is_empty() && !source.bad("network[") && !source.bad("dns.") && !source.bad("vrrp") {
                source.error(
                    &d.at,
                    "none of `dns.servers` is an address of the gateway",
                    "`listen` with addresses of the gateway, or such an address among `dns.servers`",
                );
            }
            told
        }
    };
    if let Some(item) = listen.get(LISTEN_MOST) {
        source.error(&item.at, "too many addresses", format!("at most {LISTEN_MOST}"));
    }
    if draft.vrrp.as_ref().is_some_and(|v| !v.accept && v.priority.value.get() != 255) {
        let moving: HashSet<Ipv6Addr> =
            networks.iter().flat_map(|n| &n.built.virtual6).map(|own| own.address).collect();
        for item in listen.iter().filter(|item| moving.contains(&item.value.address())) {
            let at = &item.at.path;
            notes.push(format!(
                "{at}: {} is a virtual router's, and `vrrp.accept` is false: nobody is answered",
                item.value
            ));
        }
    }
    listen.into_iter().map(|item| item.value).collect()
}

fn upstreams(source: &Source<'_>, draft: &Draft, d: &Dns64Draft, networks: &[Checked]) {
    unique(source, "resolver", d.upstreams.iter());
    if let Some(item) = d.upstreams.get(UPSTREAMS_MOST) {
        source.error(&item.at, "too many resolvers", format!("at most {UPSTREAMS_MOST}"));
    }
    for item in &d.upstreams {
        let address = item.value.address().ip();
        if let Some(own) = networks.iter().flat_map(|n| &n.addresses).find(|own| own.value == address) {
            let problem = format!("an address of the gateway itself ({})", own.at.path);
            source.error(&item.at, problem, "the address of another resolver");
            continue;
        }
        if let Some(problem) = unreachable(draft, networks, item, source) {
            source.error(&item.at, problem, "the address of a resolver that the gateway reaches itself");
        }
    }
}

/// Why the gateway cannot ask a resolver, if it cannot.
fn unreachable(
    draft: &Draft,
    networks: &[Checked],
    item: &Item<Resolver>,
    source: &Source<'_>,
) -> Option<String> {
    let address = item.value.address().ip();
    let problem = match address {
        IpAddr::V6(a) => Prefix6::new(a, 128)
            .and_then(|host| translated(draft, host))
            .map(|problem| format!("{problem}: what the gateway itself sends is not translated")),
        IpAddr::V4(a) => in_pool(draft, a),
    };
    if problem.is_some() || source.bad("network[") || networks.iter().any(|n| n.built.on_link(address)) {
        return problem;
    }
    let mut uplinks = networks.iter().filter(|n| n.built.role == Role::Uplink);
    let (family, any) = match address {
        IpAddr::V6(_) => ("IPv6", uplinks.any(|n| !n.built.addresses6.is_empty())),
        IpAddr::V4(_) => ("IPv4", uplinks.any(|n| !n.built.addresses4.is_empty())),
    };
    (!any).then(|| format!("no uplink has an {family} address"))
}

/// The pool that holds an address, in words.
fn in_pool(draft: &Draft, a: Ipv4Addr) -> Option<String> {
    let nat64 = draft.nat64.as_ref()?;
    let mut pools = nat64.pool.iter().chain(nat64.tenants.iter().flat_map(|t| &t.pool));
    let pool = pools.find(|p: &&Item<Prefix4>| p.value.contains(a))?;
    Some(format!("in the pool {} of {}", pool.value, pool.at.path))
}

fn times(d: &Dns64Draft, notes: &mut Vec<String>) {
    if d.max_negative_ttl.value > d.max_ttl {
        notes.push(format!("{}: more than `max-ttl`, which is {}", d.max_negative_ttl.at.path, d.max_ttl));
    }
    if d.stale.get().is_some() && d.stale_after.value.duration() >= d.timeout.duration() {
        notes.push(format!(
            "{}: not less than `timeout`, which is {}: clients wait for so long",
            d.stale_after.at.path, d.timeout
        ));
    }
}

/// Ports for `workers` workers, once their number is known.
pub(super) fn ports(source: &Source<'_>, draft: &Draft, workers: u16, notes: &mut Vec<String>) {
    let Some(d) = &draft.dns64 else { return };
    let each = d.ports.value.count() / u32::from(workers.max(1));
    let range = d.ports.value;
    if each < PORTS_LEAST {
        source.error(
            &d.ports.at,
            format!("{} ports for {workers} workers (RFC 5452 9.2)", range.count()),
            format!("{PORTS_LEAST} or more for each worker"),
        );
    } else if each < u32::from(d.in_flight.get()) {
        notes.push(format!(
            "{}: {each} ports for each worker: fewer than the {} questions of `in-flight`",
            d.ports.at.path, d.in_flight
        ));
    }
}

/// Who is answered: the clients that no view names, and those of each view.
fn clients(
    source: &Source<'_>,
    d: &Dns64Draft,
    networks: &[Checked],
    notes: &mut Vec<String>,
) -> (Vec<Prefix6>, Vec<Vec<Prefix6>>) {
    let mut taken: HashMap<Prefix6, String> = HashMap::new();
    let mut of_views = Vec::new();
    let mut named: HashMap<&str, &str> = HashMap::new();
    for view in &d.views {
        of_views.push(view_clients(source, view, networks, &mut taken, &mut named, notes));
    }
    let mut rest: Vec<Prefix6> = Vec::new();
    match &d.clients {
        Some(items) => {
            unique(source, "prefix", items.iter());
            for item in items {
                asking(source, item, networks, notes);
            }
            rest.extend(items.iter().map(|item| item.value));
        }
        None => {
            let tenants = networks.iter().filter(|n| n.built.role == Role::Tenant);
            for p in tenants.flat_map(|n| &n.built.sources) {
                if !rest.contains(p) {
                    rest.push(*p);
                }
            }
        }
    }
    rest.retain(|p| !taken.contains_key(p));
    if rest.is_empty() && taken.is_empty() && !source.bad("network[") && !source.bad("dns64.") {
        notes.push(format!("{}: no clients: nobody is answered", d.at.path));
    }
    if rest.len() + taken.len() > CLIENTS_MOST {
        source.error(&d.at, "too many prefixes of clients", format!("at most {CLIENTS_MOST}"));
    }
    (rest, of_views)
}

/// The clients of a view; `taken` has those of views before it, and where they are from.
fn view_clients<'d>(
    source: &Source<'_>,
    view: &'d ViewDraft,
    networks: &[Checked],
    taken: &mut HashMap<Prefix6, String>,
    named: &mut HashMap<&'d str, &'d str>,
    notes: &mut Vec<String>,
) -> Vec<Prefix6> {
    if view.networks.is_empty() && view.sources.is_empty() && !source.bad(&view.at.path) {
        source.error(&view.at, "neither `networks` nor `sources`", "one or more of them: whose view it is");
    }
    let mut all = Vec::new();
    let mut add = |p: Prefix6, at: &crate::config::read::At, what: String| match taken.get(&p) {
        Some(first) => {
            source.error(at, format!("{what} belongs to {first}"), "each prefix in one view");
        }
        None => {
            taken.insert(p, at.path.clone());
            all.push(p);
        }
    };
    for name in &view.networks {
        let found = networks.iter().find(|n| n.built.name == name.value && n.built.role == Role::Tenant);
        let Some(network) = found else {
            if !source.bad("network[") {
                let tenants = networks.iter().filter(|n| n.built.role == Role::Tenant);
                let known: Vec<&str> = tenants.map(|n| n.built.name.as_str()).collect();
                let allowed = format!("names of tenant networks: {}", known.join(", "));
                source.error(&name.at, "there is no such tenant network", allowed);
            }
            continue;
        };
        if let Some(first) = named.insert(name.value.as_str(), &name.at.path) {
            source.error(&name.at, format!("{first} is the same network"), "each network in one view");
            continue;
        }
        for p in &network.built.sources {
            add(*p, &name.at, format!("{p} of network `{}`", network.built.name));
        }
    }
    for item in &view.sources {
        asking(source, item, networks, notes);
        add(item.value, &item.at, item.value.to_string());
    }
    all
}

/// What is wrong with a prefix of clients.
fn asking(source: &Source<'_>, item: &Item<Prefix6>, networks: &[Checked], notes: &mut Vec<String>) {
    let p = item.value;
    if p.address().is_multicast() || p.address().is_unicast_link_local() {
        source.error(&item.at, "nobody is answered there", "a unicast prefix other than a link-local one");
        return;
    }
    if p.len() < CLIENTS_SHORTEST {
        source.error(
            &item.at,
            "nearly everybody could ask: an open resolver (RFC 5358)",
            format!("a prefix of {CLIENTS_SHORTEST} bits or more"),
        );
        return;
    }
    let mut tenants = networks.iter().filter(|n| n.built.role == Role::Tenant);
    if !tenants.any(|n| n.built.sources.iter().any(|s| s.len() <= p.len() && s.contains(p.address()))) {
        notes.push(format!("{}: also hosts outside the tenant networks may ask from {p}", item.at.path));
    }
}

/// How names are compared (RFC 4343 3).
fn folded(name: &Item<DomainName>) -> String {
    name.value.as_str().to_ascii_lowercase()
}

/// What is written in one place; `outer` is what a view takes the rest from.
fn rules(
    source: &Source<'_>,
    draft: &Draft,
    r: &RulesDraft,
    outer: Option<&RulesDraft>,
    notes: &mut Vec<String>,
) {
    let mut names: HashMap<String, &str> = HashMap::new();
    for item in r.names() {
        if let Some(first) = names.insert(folded(item), &item.at.path) {
            source.error(&item.at, format!("{first} is the same name"), "each name in one list");
        }
    }
    for l in &r.local {
        unique(source, "address", l.addresses.iter());
        if let Some(item) = l.addresses.get(ADDRESSES_MOST) {
            source.error(&item.at, "too many addresses", format!("at most {ADDRESSES_MOST}"));
        }
        for item in l.addresses.iter().filter(|item| item.value.is_multicast()) {
            source.error(&item.at, "a group", "an address of a host");
        }
    }
    let said = |r: &RulesDraft| r.dns64.as_ref().map(|item| item.value);
    let on = said(r).or_else(|| outer.and_then(said)).unwrap_or(true);
    let Some(prefix) = &r.prefix else { return };
    if !on {
        source.error(&prefix.at, "`dns64` is false", "only with `dns64 = true`");
        return;
    }
    let here = draft.nat64.iter().flat_map(|n| &n.prefixes).any(|p| p.value == prefix.value);
    if !here {
        notes.push(format!(
            "{}: {} is no prefix of [nat64]: somebody else has to translate it",
            prefix.at.path, prefix.value
        ));
    }
}

/// Notes where AAAA records are meant to be made, and there is nothing to make them with.
fn prefixes(source: &Source<'_>, d: &Dns64Draft, first: Option<Nat64Prefix>, notes: &mut Vec<String>) {
    if first.is_some() || d.rules.prefix.is_some() || source.bad("nat64") {
        return;
    }
    let wanted = |r: &RulesDraft| match &r.dns64 {
        Some(item) => item.value.then(|| item.at.clone()),
        None => None,
    };
    if let Some(at) = wanted(&d.rules) {
        source.error(&at, "there is neither `prefix` nor [nat64]", "`prefix`, or [nat64] with `prefixes`");
    } else if d.rules.dns64.is_none() {
        notes.push(format!("{}: there is neither `prefix` nor [nat64]: no AAAA records are made", d.at.path));
    }
    for view in d.views.iter().filter(|view| view.rules.prefix.is_none()) {
        if let Some(at) = wanted(&view.rules) {
            source.error(
                &at,
                "there is neither `prefix` nor [nat64]",
                "`prefix`, or [nat64] with `prefixes`",
            );
        }
    }
}
