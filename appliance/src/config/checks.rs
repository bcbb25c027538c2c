//! What contradicts what: checks over the whole file, after each value was read by itself.

mod dhcpv6;
mod dns64;
mod nat64;
mod ra;
mod splicer;
mod vrrp;

use super::read::{At, Item, Read, Source};
use super::schema::{Draft, NetworkDraft, RouteDraft};
use super::types::{self, Written};
use super::{
    Config, Device, Inbound, Mtu, Name, Network, Own, Prefix, Route, SourceValidation, Target, natlog,
    profile, special,
};
use causeway_core::net::{Prefix4, Prefix6, Role};
use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Notes of one file, at most: a mistake may be made for every one of many routes.
const NOTES_MOST: usize = 50;

/// Runs all checks; gives the configuration if everything that it is made of could be read. It is good
/// only if no error was noted.
pub(super) fn check(source: &Source<'_>, mut draft: Draft) -> Option<Config> {
    let mut notes = Vec::new();
    gateway(source, &draft);
    ports(source, &draft);
    let mut networks = networks(source, &draft.networks);
    vrrp::attach(source, &draft, &mut networks);
    on_link(source, &networks);
    let routes = routes(source, &draft.routes, &networks, &mut notes);
    nat64(source, &draft, &networks, &mut notes);
    nat64::check(source, &draft, &networks, &mut notes);
    ra::dns(source, &draft, &networks, &mut notes);
    ra::check(source, &draft, &networks, &mut notes);
    dhcpv6::check(source, &draft, &networks, &mut notes);
    let next_hops = vrrp::check(source, &draft, &networks, &mut notes);
    let dns64 = dns64::check(source, &draft, &networks, &mut notes);
    let sources = splicer::check(source, &draft, &networks, &mut notes);
    if let Some(splicer) = &mut draft.splicer {
        splicer.resolved_sources = sources;
    }
    isolation(source, &draft, &networks);
    notes_on_timeouts(&draft, &mut notes);
    let resolved = profile::check(source, &draft, &networks, &mut notes).unwrap_or_default();
    dns64::ports(source, &draft, resolved.workers, &mut notes);
    if !networks.iter().any(|n| n.built.role == Role::Uplink) {
        notes.push("no network has role \"uplink\": nothing outside can be reached".to_owned());
    }
    if notes.len() > NOTES_MOST {
        let more = notes.len() - NOTES_MOST;
        notes.truncate(NOTES_MOST);
        notes.push(format!("and {more} more such notes"));
    }
    draft.routes.clear();
    let places = nat64::Places::of(&draft);
    let advertised: Vec<_> = draft.networks.iter().map(|n| n.ra.as_ref().map(|ra| ra.at.clone())).collect();
    let sites: Vec<At> = draft.splicer.iter().flat_map(|s| &s.sites).map(|site| site.at.clone()).collect();
    let networks = networks.into_iter().map(|n| n.built).collect();
    let config = draft.build(networks, routes, next_hops, dns64, resolved, notes)?;
    // What only the packet path knows: a file that passes is one that a gateway starts with.
    if let Some(places) = places.filter(|_| !source.bad(""))
        && let Some(n) = &config.nat64
        && let Err(e) = causeway_nat64::Config::new(crate::plan::nat64_options(
            n,
            &crate::plan::splicer::port_maps(&config),
            0,
        ))
    {
        places.error(source, &e);
    }
    if let Some(splicer) = crate::plan::splicer::splicer_of(&config, 0, None).filter(|_| !source.bad("")) {
        for (site, at) in splicer.sites.iter().zip(&sites) {
            if let Err(e) = site.check() {
                source.error(at, e.to_string(), "");
            }
        }
    }
    if !source.bad("") {
        for ((ra, at), network) in
            crate::plan::first_hop::ra_of(&config).iter().zip(&advertised).zip(&config.networks)
        {
            if let (Some(ra), Some(at)) = (ra, at)
                && let Err(e) = ra.check(network.mtu.octets())
            {
                source.error(at, e.to_string(), "");
            }
        }
    }
    Some(config)
}

/// Notes an error at each value that an earlier item has as well.
pub(super) fn unique<'a, T: Eq + Hash + Display + 'a>(
    source: &Source<'_>,
    what: &str,
    items: impl Iterator<Item = &'a Item<T>>,
) {
    let mut seen: HashMap<&T, &str> = HashMap::new();
    for item in items {
        match seen.get(&item.value) {
            Some(first) => {
                source.error(&item.at, format!("{first} is the same {what}"), format!("each {what} once"));
            }
            None => {
                seen.insert(&item.value, &item.at.path);
            }
        }
    }
}

fn gateway(source: &Source<'_>, draft: &Draft) {
    let g = &draft.gateway;
    unique(source, "core", g.cores.iter());
    if let Some(workers) = &g.workers
        && !g.cores.is_empty()
        && usize::from(workers.get()) != g.cores.len()
    {
        source.error(
            &workers.at,
            format!("gateway.cores lists {} cores", g.cores.len()),
            "as many workers as cores, or only one of the two keys",
        );
    }
    if let Some(main) = &g.main_core
        && let Some(core) = g.cores.iter().find(|core| core.value == main.value)
    {
        source.error(
            &main.at,
            format!("{} gives this core to a worker", core.at.path),
            "a core of no worker",
        );
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vdev(v) => f.write_str(v.as_str()),
            Self::Pci(p) => f.write_str(p.as_str()),
        }
    }
}

fn ports(source: &Source<'_>, draft: &Draft) {
    unique(source, "port name", draft.ports.iter().filter_map(|p| p.name.as_ref()));
    // What DPDK and Linux would trip over: the same device, or the same interface under two devices.
    let mut seen: HashMap<String, &str> = HashMap::new();
    for device in draft.ports.iter().filter_map(|p| p.device.as_ref()) {
        let keys = match &device.value {
            Device::Pci(pci) => vec![pci.as_str().to_owned()],
            Device::Vdev(vdev) => {
                let iface = vdev.argument("iface").map(|iface| format!("iface={iface}"));
                std::iter::once(vdev.device().to_owned()).chain(iface).collect()
            }
        };
        for key in keys {
            if let Some(first) = seen.get(&key) {
                source.error(&device.at, format!("`{key}` is used by {first} as well"), "each device once");
            } else {
                seen.insert(key, &device.at.path);
            }
        }
    }
    for port in &draft.ports {
        let Some(name) = &port.name else { continue };
        if !draft.networks.iter().any(|n| n.port.as_ref().is_some_and(|p| p.value == name.value)) {
            source.error(
                &name.at,
                "no network is on this port",
                "a [[network]] with this `port` for each [[port]]",
            );
        }
    }
    if draft.ports.len() > usize::from(u8::MAX)
        && let Some(port) = draft.ports.get(usize::from(u8::MAX))
    {
        source.error(&port.at, "too many ports", "at most 255");
    }
    for network in &draft.networks {
        let Some(name) = &network.port else { continue };
        if !draft.ports.iter().any(|p| p.name.as_ref().is_some_and(|p| p.value == name.value)) {
            let known = names(draft.ports.iter().filter_map(|p| p.name.as_ref()));
            source.error(&name.at, "there is no such port", format!("the name of a [[port]]: {known}"));
        }
    }
}

fn names<'a>(items: impl Iterator<Item = &'a Item<Name>>) -> String {
    let names: Vec<&str> = items.map(|item| item.value.as_str()).collect();
    if names.is_empty() { "there is none".to_owned() } else { names.join(", ") }
}

/// A network that was read, and where the parts of it stood.
pub(super) struct Checked {
    pub(super) built: Network,
    pub(super) path: String,
    pub(super) mtu: Option<Item<Mtu>>,
    addresses: Vec<Item<IpAddr>>,
    prefixes: Vec<Item<Prefix>>,
    sources: Vec<Item<Prefix6>>,
}

/// What `Written` addresses and on-link prefixes have in common over both families.
pub(super) trait Family: Copy + Eq + Into<IpAddr> + Display {
    type P: Copy + PartialEq + Display;
    fn containing(self, len: u8) -> Option<Self::P>;
    fn inside(self, prefix: Self::P) -> bool;
    fn prefix(prefix: Self::P) -> Prefix;
    fn usable(self, prefix: Self::P) -> Result<(), String>;
}

impl Family for Ipv6Addr {
    type P = Prefix6;
    fn containing(self, len: u8) -> Option<Prefix6> {
        Prefix6::containing(self, len)
    }

    fn inside(self, prefix: Prefix6) -> bool {
        prefix.contains(self)
    }

    fn prefix(prefix: Prefix6) -> Prefix {
        Prefix::V6(prefix)
    }

    fn usable(self, prefix: Prefix6) -> Result<(), String> {
        // RFC 4291 2.6.1 and RFC 6164 5, as for an address that is written with its length.
        if prefix.len() < 127 && prefix.address() == self {
            return Err(format!("the Subnet-Router anycast address of {prefix}"));
        }
        Ok(())
    }
}

impl Family for Ipv4Addr {
    type P = Prefix4;
    fn containing(self, len: u8) -> Option<Prefix4> {
        Prefix4::containing(self, len)
    }

    fn inside(self, prefix: Prefix4) -> bool {
        prefix.contains(self)
    }

    fn prefix(prefix: Prefix4) -> Prefix {
        Prefix::V4(prefix)
    }

    fn usable(self, prefix: Prefix4) -> Result<(), String> {
        types::host4(self, prefix)
    }
}

/// Gives each address its on-link prefix, and adds the prefixes to `prefixes`.
fn own<A: Family>(
    source: &Source<'_>,
    written: &[Item<Written<A>>],
    listed: &[(A::P, String)],
    prefixes: &mut Vec<Item<Prefix>>,
) -> Vec<Own<A, A::P>>
where
    Written<A>: Read,
{
    let mut out: Vec<Own<A, A::P>> = Vec::new();
    for item in written {
        let address = item.value.address;
        let allowed = <Written<A> as Read>::ALLOWED;
        let prefix = match item.value.len {
            Some(len) => address.containing(len),
            None => listed.iter().map(|(p, _)| *p).find(|p| address.inside(*p)),
        };
        let Some(prefix) = prefix else {
            if listed.is_empty() {
                source.error(&item.at, "the length of its on-link prefix is missing", allowed);
            } else {
                let known: Vec<String> = listed.iter().map(|(p, _)| p.to_string()).collect();
                source.error(
                    &item.at,
                    "outside the on-link prefixes of its network",
                    format!("an address in {}, or one with the length of its own prefix", known.join(", ")),
                );
            }
            continue;
        };
        if let Err(problem) = address.usable(prefix) {
            source.error(&item.at, problem, allowed);
        }
        if out.iter().any(|o| o.address == address) {
            source.error(&item.at, "the same address again", "each address once");
            continue;
        }
        out.push(Own { address, prefix });
        prefixes.push(Item { at: item.at.clone(), value: A::prefix(prefix) });
    }
    out
}

fn networks(source: &Source<'_>, drafts: &[NetworkDraft]) -> Vec<Checked> {
    unique(source, "network name", drafts.iter().filter_map(|n| n.name.as_ref()));
    let mut links: HashMap<(&Name, Option<super::Vlan>), &str> = HashMap::new();
    let mut out = Vec::new();
    for n in drafts {
        if let Some(port) = &n.port {
            let key = (&port.value, n.vlan.as_ref().map(|v| v.value));
            let at = n.vlan.as_ref().map_or(&port.at, |v| &v.at);
            if let Some(first) = links.get(&key) {
                let link = key.1.map_or_else(|| "untagged frames".to_owned(), |v| format!("VLAN {}", v.id()));
                source.error(
                    at,
                    format!("{first} has {link} of port `{}` already", port.value),
                    "another port or another `vlan`",
                );
            } else {
                links.insert(key, &n.at.path);
            }
        }
        if let Some(network) = network(source, n) {
            out.push(network);
        }
    }
    if drafts.len() > 4096
        && let Some(n) = drafts.get(4096)
    {
        source.error(&n.at, "too many networks", "at most 4096");
    }
    out
}

fn network(source: &Source<'_>, n: &NetworkDraft) -> Option<Checked> {
    let mut listed6 = Vec::new();
    let mut listed4 = Vec::new();
    let mut prefixes: Vec<Item<Prefix>> = Vec::new();
    for item in &n.on_link {
        let bad = match item.value {
            Prefix::V6(p)
                if p.len() == 0 || p.address().is_multicast() || p.address().is_unicast_link_local() =>
            {
                true
            }
            Prefix::V6(p) => {
                listed6.push((p, item.at.path.clone()));
                false
            }
            Prefix::V4(p) if p.len() == 0 || !types::unicast4(p.address()) || !types::unicast4(p.last()) => {
                true
            }
            Prefix::V4(p) => {
                listed4.push((p, item.at.path.clone()));
                false
            }
        };
        if bad {
            source.error(
                &item.at,
                "not a prefix that a link can have",
                "a unicast prefix other than the default",
            );
        } else {
            prefixes.push(item.clone());
        }
    }
    let addresses6 = own::<Ipv6Addr>(source, &n.addresses6, &listed6, &mut prefixes);
    let addresses4 = own::<Ipv4Addr>(source, &n.addresses4, &listed4, &mut prefixes);
    // Two prefixes of one link are the same or have nothing in common.
    let mut distinct: Vec<Item<Prefix>> = Vec::new();
    for item in prefixes {
        if distinct.iter().any(|d| d.value == item.value) {
            continue;
        }
        if let Some(other) = distinct.iter().find(|d| overlap(d.value, item.value)) {
            let problem = format!("its prefix {} overlaps {} of {}", item.value, other.value, other.at.path);
            source.error(&item.at, problem, "prefixes of one network that are the same or distinct");
        }
        distinct.push(item);
    }
    let role = n.role?;
    if role == Role::Uplink {
        if let Some(inbound) = &n.inbound {
            source.error(&inbound.at, "the network is an uplink", "only for networks with role = \"tenant\"");
        }
        if let Some(first) = n.sources.first() {
            source.error(
                &first.at,
                "the network is an uplink",
                "`sources` only for networks with role = \"tenant\"",
            );
        }
    }
    let on_link6: Vec<Prefix6> =
        distinct.iter().filter_map(|p| if let Prefix::V6(p) = p.value { Some(p) } else { None }).collect();
    let on_link4 =
        distinct.iter().filter_map(|p| if let Prefix::V4(p) = p.value { Some(p) } else { None }).collect();
    let mut sources = Vec::new();
    if role == Role::Tenant {
        for p in on_link6.iter().copied().chain(n.sources.iter().map(|item| item.value)) {
            if !sources.contains(&p) {
                sources.push(p);
            }
        }
    }
    if role == Role::Tenant {
        dhcpv6::sources(source, n, &mut sources);
    }
    for item in &n.sources {
        let a = item.value.address();
        if a.is_multicast() || a.is_unicast_link_local() {
            source.error(
                &item.at,
                "nothing can be sent from there",
                "a unicast prefix that the tenant was given",
            );
        }
    }
    let addresses =
        (n.addresses6.iter().map(|i| Item { at: i.at.clone(), value: IpAddr::V6(i.value.address) }))
            .chain(n.addresses4.iter().map(|i| Item { at: i.at.clone(), value: IpAddr::V4(i.value.address) }))
            .collect();
    Some(Checked {
        path: n.at.path.clone(),
        mtu: n.mtu.clone(),
        addresses,
        prefixes: distinct,
        sources: n.sources.clone(),
        built: Network {
            name: n.name.as_ref()?.value.clone(),
            port: n.port.as_ref()?.value.clone(),
            vlan: n.vlan.as_ref().map(|v| v.value),
            role,
            addresses6,
            addresses4,
            link_local: n.link_local.as_ref().map(|a| a.value),
            on_link6: on_link6.clone(),
            on_link4,
            mtu: n.mtu.as_ref().map_or(Mtu::ETHERNET, |mtu| mtu.value),
            inbound: n.inbound.as_ref().map_or(Inbound::Open, |inbound| inbound.value),
            sources,
            source_validation: match (&n.source_validation, role) {
                (_, Role::Uplink) => SourceValidation::Off,
                (Some(validation), Role::Tenant) => validation.value,
                (None, Role::Tenant) => SourceValidation::Prefix,
            },
            dhcpv6_relays: role == Role::Tenant && n.dhcpv6_relays.as_ref().is_some_and(|r| r.value),
            captive_portal: n.captive_portal.as_ref().map(|uri| uri.value.clone()),
            ntp: n.ntp.iter().map(|item| item.value).collect(),
            ra: n.ra.as_ref().map(|ra| ra.build(&on_link6)),
            dhcpv6: n.dhcpv6.as_ref().and_then(|d| d.build()),
            reservations: n.reservations.iter().map(|r| r.build()).collect(),
            virtual_link_local: None,
            virtual6: Vec::new(),
            virtual4: Vec::new(),
        },
    })
}

fn overlap(a: Prefix, b: Prefix) -> bool {
    match (a, b) {
        (Prefix::V4(a), Prefix::V4(b)) => a.overlaps(b),
        (Prefix::V6(a), Prefix::V6(b)) => a.overlaps(b),
        _ => false,
    }
}

/// Prefixes and addresses of different networks have nothing in common.
fn on_link(source: &Source<'_>, networks: &[Checked]) {
    for (n, network) in networks.iter().enumerate() {
        for item in &network.prefixes {
            let other = networks[..n].iter().flat_map(|o| &o.prefixes).find(|o| overlap(o.value, item.value));
            if let Some(other) = other {
                let problem =
                    format!("its prefix {} overlaps {} of {}", item.value, other.value, other.at.path);
                source.error(&item.at, problem, "networks without addresses in common");
            }
        }
        for item in &network.sources {
            let other = networks
                .iter()
                .filter(|o| o.path != network.path && o.built.role == Role::Tenant)
                .flat_map(|o| o.prefixes.iter().map(|p| (p.value, &p.at.path)))
                .find(|(o, _)| overlap(*o, Prefix::V6(item.value)));
            if let Some((prefix, path)) = other {
                let problem =
                    format!("overlaps {prefix} of {path}: the tenant could send from another's addresses");
                source.error(&item.at, problem, "prefixes of this tenant alone");
            }
        }
    }
}

fn routes(
    source: &Source<'_>,
    drafts: &[RouteDraft],
    networks: &[Checked],
    notes: &mut Vec<String>,
) -> Vec<Route> {
    unique(source, "destination", drafts.iter().filter_map(|r| r.prefix.as_ref()));
    drafts.iter().filter_map(|r| route(source, r, networks, notes)).collect()
}

fn route(
    source: &Source<'_>,
    r: &RouteDraft,
    networks: &[Checked],
    notes: &mut Vec<String>,
) -> Option<Route> {
    let by_name = r.network.as_ref().map(|name| {
        let found = networks.iter().find(|n| n.built.name == name.value);
        if found.is_none() && !source.bad("network[") {
            let known: Vec<&str> = networks.iter().map(|n| n.built.name.as_str()).collect();
            source.error(
                &name.at,
                "there is no such network",
                format!("the name of a [[network]]: {}", known.join(", ")),
            );
        }
        found
    });
    let prefix = r.prefix.as_ref()?;
    let groups = match prefix.value {
        Prefix::V6(p) => p.address().is_multicast() || (p.len() >= 10 && p.address().is_unicast_link_local()),
        Prefix::V4(p) => p.len() > 0 && !types::unicast4(p.address()),
    };
    if groups {
        source.error(
            &prefix.at,
            "not a destination that is routed",
            "a unicast prefix, or the default route",
        );
    }
    if let Some(link) = networks.iter().flat_map(|n| &n.prefixes).find(|p| p.value == prefix.value) {
        source.error(
            &prefix.at,
            format!("on the link already, by {}", link.at.path),
            "a prefix that is not on-link",
        );
    }
    let via = r.via.as_ref()?;
    let gateway = match via.value {
        Target::Unreachable => {
            return Some(Route { prefix: prefix.value, via: via.value, network: None });
        }
        Target::Via(a) => a,
    };
    let same_family =
        matches!((prefix.value, gateway), (Prefix::V4(_), IpAddr::V4(_)) | (Prefix::V6(_), IpAddr::V6(_)));
    if !same_family {
        source.error(
            &via.at,
            format!("not of the family of {}", prefix.value),
            "a router of the same family",
        );
        return None;
    }
    let network = match by_name {
        Some(found) => found?,
        None => {
            let link_local = matches!(gateway, IpAddr::V6(a) if a.is_unicast_link_local());
            if link_local && networks.len() > 1 {
                source.error(
                    &via.at,
                    "a link-local address says nothing of its link",
                    "with `network`, the name of its network",
                );
                return None;
            }
            let Some(found) = networks.iter().find(|n| n.built.on_link(gateway)) else {
                if source.bad("network[") {
                    return None;
                }
                source.error(&via.at, "on the link of no network", on_link_known(networks, gateway));
                return None;
            };
            found
        }
    };
    if !network.built.on_link(gateway) {
        let problem = format!("not on the link of network `{}`", network.built.name);
        source.error(&via.at, problem, on_link_known(std::slice::from_ref(network), gateway));
        return None;
    }
    if networks
        .iter()
        .any(|n| n.built.owns(gateway) && (n.path == network.path || !gateway_is_link_local(gateway)))
    {
        source.error(&via.at, "an address of the gateway itself", "the address of another router");
        return None;
    }
    if let (IpAddr::V4(a), Some(p)) = (gateway, on_link4(network, gateway))
        && let Err(problem) = types::host4(a, p)
    {
        source.error(&via.at, problem, "the address of a router");
    }
    if network.built.role == Role::Tenant
        && let Prefix::V6(p) = prefix.value
        && !network.built.sources.iter().any(|s| s.len() <= p.len() && s.contains(p.address()))
    {
        notes.push(format!(
            "{}: {p} leads to tenant network `{}`, whose hosts may not send from all of it (see `sources`)",
            prefix.at.path, network.built.name
        ));
    }
    Some(Route { prefix: prefix.value, via: via.value, network: Some(network.built.name.clone()) })
}

fn gateway_is_link_local(a: IpAddr) -> bool {
    matches!(a, IpAddr::V6(a) if a.is_unicast_link_local())
}

fn on_link4(network: &Checked, a: IpAddr) -> Option<Prefix4> {
    let IpAddr::V4(a) = a else { return None };
    network.built.on_link4.iter().copied().find(|p| p.contains(a))
}

fn on_link_known(networks: &[Checked], a: IpAddr) -> String {
    let mut known: Vec<String> = networks
        .iter()
        .flat_map(|n| &n.prefixes)
        .filter(|p| same_family(p.value, a))
        .map(|p| p.value.to_string())
        .collect();
    known.dedup();
    if known.is_empty() {
        "the address of a router on one of the networks".to_owned()
    } else {
        format!("an address in {}", known.join(", "))
    }
}

const fn same_family(p: Prefix, a: IpAddr) -> bool {
    matches!((p, a), (Prefix::V4(_), IpAddr::V4(_)) | (Prefix::V6(_), IpAddr::V6(_)))
}

/// The most addresses of all pools together: each costs the bitmaps of its ports.
const POOL_MOST: u64 = 4096;

fn nat64(source: &Source<'_>, draft: &Draft, networks: &[Checked], notes: &mut Vec<String>) {
    let Some(nat64) = &draft.nat64 else { return };
    nat64_prefixes(source, draft, networks, notes);
    natlog::check(source, &nat64.log, networks, notes);
    let mut addresses: u64 = 0;
    let well_known = nat64.prefixes.iter().find(|p| p.is_well_known());
    let pools: Vec<&Item<Prefix4>> =
        nat64.pool.iter().chain(nat64.tenants.iter().flat_map(|t| &t.pool)).collect();
    for (n, pool) in pools.iter().enumerate() {
        let p = pool.value;
        let before = addresses;
        addresses = addresses.saturating_add(1u64 << (32 - p.len()));
        if addresses > POOL_MOST && before <= POOL_MOST {
            let problem = "too many addresses in the pools together".to_owned();
            source.error(&pool.at, problem, format!("at most {POOL_MOST}"));
        }
        if !types::unicast4(p.address()) || !types::unicast4(p.last()) || (p.address().is_link_local()) {
            source.error(
                &pool.at,
                "holds addresses that are no host's",
                "unicast addresses that are routed to the gateway",
            );
            continue;
        }
        if let Some(other) = pools[..n].iter().find(|o| o.value.overlaps(p)) {
            let problem = format!("overlaps {} of {}", other.value, other.at.path);
            source.error(&pool.at, problem, "pools without addresses in common");
        }
        for own in networks.iter().flat_map(|n| &n.addresses) {
            if matches!(own.value, IpAddr::V4(a) if p.contains(a)) {
                let problem =
                    format!("holds {}, an address of the gateway itself ({})", own.value, own.at.path);
                source.error(&pool.at, problem, "addresses that nobody else has");
            }
        }
        for via in draft.routes.iter().filter_map(|r| r.via.as_ref()) {
            if matches!(via.value, Target::Via(IpAddr::V4(a)) if p.contains(a)) {
                let problem = format!("holds {}, the router of {}", via.value, via.at.path);
                source.error(&pool.at, problem, "addresses that nobody else has");
            }
        }
        // RFC 6052 3.1: the well-known prefix is not to stand for IPv4 addresses that are not global.
        match (well_known, special::non_global(p)) {
            (Some(prefix), Some((not_global, document))) => source.error(
                &pool.at,
                format!("not global ({not_global}, {document}), but {} is the well-known prefix", prefix.at.path),
                "global IPv4 addresses, or a prefix of the network's own (RFC 6052 3.1)",
            ),
            (None, Some((not_global, document))) => notes.push(format!(
                "{}: {p} is not globally reachable ({not_global}, {document}); somebody has to translate it again",
                pool.at.path
            )),
            _ => {}
        }
    }
    if let Some(prefix) = well_known {
        notes.push(format!(
            "{}: under the well-known prefix only global IPv4 addresses can be reached (RFC 6052 3.1)",
            prefix.at.path
        ));
    }
    uplink4(source, networks, &nat64.at);
}

/// What needs IPv4 needs an uplink that has it.
fn uplink4(source: &Source<'_>, networks: &[Checked], at: &At) {
    let uplink4 = networks.iter().any(|n| n.built.role == Role::Uplink && !n.built.addresses4.is_empty());
    if !uplink4 && !source.bad("network[") {
        let allowed = "at least one [[network]] with role = \"uplink\" and `addresses4`";
        source.error(at, "no uplink has an IPv4 address", allowed);
    }
}

fn nat64_prefixes(source: &Source<'_>, draft: &Draft, networks: &[Checked], notes: &mut Vec<String>) {
    let Some(nat64) = &draft.nat64 else { return };
    for (n, item) in nat64.prefixes.iter().enumerate() {
        let p = item.value.prefix();
        if let Some(other) = nat64.prefixes[..n].iter().find(|o| o.value.prefix().overlaps(p)) {
            let problem = format!("overlaps {} of {}", other.value, other.at.path);
            source.error(&item.at, problem, "prefixes without addresses in common");
        }
        for network in networks {
            for link in &network.prefixes {
                if overlap(link.value, Prefix::V6(p)) {
                    let problem = format!(
                        "overlaps {}, which is on the link of network `{}` ({})",
                        link.value, network.built.name, link.at.path
                    );
                    source.error(&item.at, problem, "a prefix that no host has addresses of");
                }
            }
            for allowed in &network.sources {
                // A /48 of the site may well hold both; only a source that is nothing but translated
                // addresses is a mistake.
                if allowed.value.len() >= p.len() && p.overlaps(allowed.value) {
                    let problem = format!("holds {} of {}", allowed.value, allowed.at.path);
                    source.error(&item.at, problem, "a prefix that no host has addresses of");
                }
            }
        }
        for prefix in draft.routes.iter().filter_map(|r| r.prefix.as_ref()) {
            let Prefix::V6(r) = prefix.value else { continue };
            if r == p {
                let problem = format!("the NAT64 prefix of {}: never used", item.at.path);
                source.error(&prefix.at, problem, "a prefix that is not translated, or a part of one");
            } else if r.len() > p.len() && p.overlaps(r) {
                // RFC 7915 5.6, RFC 6888 3, REQ-6.
                notes.push(format!(
                    "{}: {r} is inside the NAT64 prefix {p} of {}: packets to it are not translated",
                    prefix.at.path, item.at.path
                ));
            }
        }
    }
}

fn isolation(source: &Source<'_>, draft: &Draft, networks: &[Checked]) {
    for pair in &draft.isolation.allow {
        let (a, b) = (&pair.value.0, &pair.value.1);
        let tenants: Vec<&str> =
            networks.iter().filter(|n| n.built.role == Role::Tenant).map(|n| n.built.name.as_str()).collect();
        for name in [a, b] {
            if !tenants.contains(&name.as_str()) && !source.bad("network[") {
                let problem = format!("`{name}` is no tenant network");
                source.error(&pair.at, problem, format!("names of tenant networks: {}", tenants.join(", ")));
            }
        }
        if a == b {
            source.error(&pair.at, "a network with itself", "two different tenant networks");
        }
    }
}

/// Timeouts below what the RFCs ask for work, and are worth a note.
fn notes_on_timeouts(draft: &Draft, notes: &mut Vec<String>) {
    let Some(nat64) = &draft.nat64 else { return };
    let t = nat64.timeouts;
    for (key, value, least_s, document) in [
        ("udp", t.udp, 120, "RFC 4787 4.3"),
        ("tcp-established", t.tcp_established, 7440, "RFC 5382 5"),
        ("tcp-opening", t.tcp_opening, 240, "RFC 5382 5"),
        ("tcp-transitory", t.tcp_transitory, 240, "RFC 5382 5"),
        ("tcp-incoming-syn", t.tcp_incoming_syn, 6, "RFC 6146 3.5.2.2"),
        ("icmp", t.icmp, 60, "RFC 5508 3.2"),
        ("fragment", t.fragment, 2, "RFC 6146 4"),
    ] {
        let least = super::Timeout::literal(least_s);
        if value < least {
            notes.push(format!("nat64.timeouts.{key}: {value} is less than the {least} of {document}"));
        }
    }
}
