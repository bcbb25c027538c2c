//! Checks over subscribers, tenants, port allocation and static mappings of NAT64.

use super::super::read::{At, Item, Source};
use super::super::schema::{Draft, LimitsDraft, Nat64Draft, TenantDraft};
use super::super::types::AllocationMode;
use super::super::{Prefix, Target, special};
use super::{Checked, overlap, unique};
use causeway_core::net::{Prefix4, Prefix6, Role};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most static mappings: each is an entry of the flow table that never ends.
pub(super) const STATIC_MOST: usize = 65_536;

pub(super) fn check(source: &Source<'_>, draft: &Draft, networks: &[Checked], notes: &mut Vec<String>) {
    let Some(nat64) = &draft.nat64 else { return };
    tenants(source, nat64, networks, notes);
    limits(source, nat64, &nat64.limits);
    for tenant in &nat64.tenants {
        if tenant.limits.limits != nat64.limits.limits {
            limits(source, nat64, &tenant.limits);
        }
    }
    allocation(source, nat64);
    static_mappings(source, draft, nat64, networks, notes);
}

/// Where the settings stand that only the packet path can judge.
pub(super) struct Places {
    nat64: At,
    allocation: At,
    /// Of `ports-min` and `ports-max`, of a tenant or of those without a name.
    limits: Vec<(Option<String>, At, At)>,
    /// Of the last tenant, and of the last one with a pool.
    tenants: (Option<At>, Option<At>),
}

impl Places {
    pub(super) fn of(draft: &Draft) -> Option<Self> {
        let nat64 = draft.nat64.as_ref()?;
        let place = |name, l: &LimitsDraft| (name, l.ports_min.clone(), l.ports_max.clone());
        let mut limits = vec![place(None, &nat64.limits)];
        limits.extend(nat64.tenants.iter().map(|t| place(t.name.as_ref().map(|n| n.to_string()), &t.limits)));
        let prefix = |t: &TenantDraft| t.prefixes.first().map(|p| p.at.clone());
        let pool = |t: &TenantDraft| t.pool.first().map(|p| p.at.clone());
        Some(Self {
            nat64: nat64.at.clone(),
            allocation: nat64.allocation.at.clone(),
            limits,
            tenants: (nat64.tenants.iter().rev().find_map(prefix), nat64.tenants.iter().rev().find_map(pool)),
        })
    }

    /// Notes what the packet path says of a configuration, at the key that it is about.
    pub(super) fn error(&self, source: &Source<'_>, error: &causeway_nat64::ConfigError) {
        use causeway_nat64::{ConfigError, SubscriberError as E};
        let of = |who: &str| {
            let who = who.trim_matches('`');
            self.limits.iter().find(|(name, ..)| name.as_deref() == Some(who)).or_else(|| self.limits.first())
        };
        let at = match error {
            ConfigError::Subscribers(e) => match e {
                E::PortsMin(who, ..) | E::MinDeterministic(who, _) => of(who).map(|(_, min, _)| min),
                E::ManyBlocks(who, ..) | E::MinOverMax(who, ..) => of(who).map(|(.., max)| max),
                E::Minima(..) => of("").map(|(_, min, _)| min),
                E::Tenants(_) => self.tenants.0.as_ref(),
                E::TenantPools(_) => self.tenants.1.as_ref(),
                E::FewPorts { .. } | E::NoBlock(..) | E::DeterministicTenant(..) => Some(&self.allocation),
                _ => None,
            },
            _ => None,
        };
        source.error(at.unwrap_or(&self.nat64), error.to_string(), "");
    }
}

/// True if hosts of some tenant network may send from part of `p`.
pub(super) fn inhabited(networks: &[Checked], p: Prefix6) -> bool {
    networks
        .iter()
        .filter(|n| n.built.role == Role::Tenant)
        .any(|n| n.built.sources.iter().any(|s| s.overlaps(p)))
}

/// What is wrong with prefixes of hosts, whoever lists them: a group's, or translated addresses.
fn hosts(source: &Source<'_>, nat64: &Nat64Draft, item: &Item<Prefix6>) {
    let a = item.value.address();
    if a.is_multicast() || a.is_unicast_link_local() {
        source.error(&item.at, "no host sends from there through NAT64", "a unicast prefix of hosts");
    }
    if let Some(p) = nat64.prefixes.iter().find(|p| p.value.prefix().overlaps(item.value)) {
        let problem = format!("overlaps the NAT64 prefix {} of {}", p.value, p.at.path);
        source.error(&item.at, problem, "a prefix that is not translated");
    }
}

fn tenants(source: &Source<'_>, nat64: &Nat64Draft, networks: &[Checked], notes: &mut Vec<String>) {
    unique(source, "tenant name", nat64.tenants.iter().filter_map(|t| t.name.as_ref()));
    // In the order of addresses, prefixes that overlap are neighbours or inside one further to the left.
    let mut all: Vec<&Item<Prefix6>> = nat64.tenants.iter().flat_map(|t| &t.prefixes).collect();
    for item in &all {
        hosts(source, nat64, item);
        if !inhabited(networks, item.value) {
            notes.push(format!(
                "{}: no tenant network may send from {} (see `sources`)",
                item.at.path, item.value
            ));
        }
    }
    apart(source, &mut all);
}

/// Notes an error at each prefix that overlaps another one.
pub(super) fn apart(source: &Source<'_>, all: &mut [&Item<Prefix6>]) {
    all.sort_by_key(|item| (item.value.address(), item.value.len()));
    let mut widest: Option<&Item<Prefix6>> = None;
    for item in all.iter() {
        match widest {
            Some(other) if other.value.overlaps(item.value) => {
                let problem = format!("overlaps {} of {}", other.value, other.at.path);
                source.error(&item.at, problem, "prefixes without addresses in common");
            }
            _ => widest = Some(item),
        }
    }
}

fn limits(source: &Source<'_>, nat64: &Nat64Draft, l: &LimitsDraft) {
    let (range, ports) = (nat64.ports, nat64.ports.count());
    let min = u32::from(l.limits.ports_min.get());
    if min > ports {
        source.error(
            &l.ports_min,
            format!("{min} ports of a range that has {ports} ({range})"),
            format!("0 to {ports}"),
        );
    }
    let Some(max) = l.limits.ports_max.get().map(|p| u32::from(p.get())) else { return };
    if max < min {
        source.error(
            &l.ports_max,
            format!("{max}, less than `ports-min`, which is {min}"),
            format!("{min} or more, or \"off\""),
        );
    }
    if nat64.allocation.mode == AllocationMode::Blocks {
        let block = u32::from(nat64.allocation.block_size().ports());
        if max < block {
            source.error(
                &l.ports_max,
                format!("{max}, less than a block of {block} ports"),
                format!("{block} or more, or \"off\""),
            );
        }
    }
}

fn allocation(source: &Source<'_>, nat64: &Nat64Draft) {
    let a = &nat64.allocation;
    let (range, ports) = (nat64.ports, nat64.ports.count());
    let block = u32::from(a.block_size().ports());
    if a.mode == AllocationMode::Blocks && block > ports {
        let at = a.block_size.as_ref().map_or(&a.at, |item| &item.at);
        source.error(
            at,
            format!("a block of {block} ports of a range that has {ports} ({range})"),
            "smaller blocks",
        );
    }
    let length = nat64.subscribers.prefix_length.bits();
    for item in &a.hosts {
        hosts(source, nat64, item);
        if item.value.len() > length {
            let problem = format!("longer than nat64.subscribers.prefix-length, which is {length}");
            source.error(&item.at, problem, format!("a prefix of length {length} or less"));
        }
    }
    apart(source, &mut a.hosts.iter().collect::<Vec<_>>());
}

fn static_mappings(
    source: &Source<'_>,
    draft: &Draft,
    nat64: &Nat64Draft,
    networks: &[Checked],
    notes: &mut Vec<String>,
) {
    let (mut outsides, mut insides) = (HashMap::new(), HashMap::new());
    let with_pool: Vec<&TenantDraft> = nat64.tenants.iter().filter(|t| !t.pool.is_empty()).collect();
    for (n, mapping) in nat64.static_mappings.iter().enumerate() {
        if let Some(item) = &mapping.outside {
            if n == STATIC_MOST {
                source.error(&item.at, "too many static mappings", format!("at most {STATIC_MOST}"));
            }
            if let Some(protocol) = mapping.protocol
                && let Some(first) = outsides.insert((protocol.word(), item.value), &item.at.path)
            {
                let problem = format!("{first} has this address and port of {protocol} already");
                source.error(&item.at, problem, "each outside address and port once");
            }
            outside(source, draft, nat64, networks, item);
        }
        let Some(item) = &mapping.inside else { continue };
        // RFC 6146 3.1: an inside transport address has one mapping.
        if let Some(protocol) = mapping.protocol
            && let Some(first) = insides.insert((protocol.word(), item.value), &item.at.path)
        {
            let problem = format!("{first} has this server of {protocol} already");
            source.error(&item.at, problem, "each server's address and port once (RFC 6146 3.1)");
        }
        inside(source, nat64, networks, &item.at, item.value.address(), notes);
        if let Some(outside) = &mapping.outside {
            let pool = with_pool.iter().find(|t| t.pool.iter().any(|p| p.contains(outside.address())));
            let server = item.value.address();
            if let Some(tenant) = pool
                && !tenant.prefixes.iter().any(|p| p.contains(server))
            {
                let name = tenant.name.as_ref().map_or_else(String::new, |n| format!(" `{}`", n.value));
                let problem = format!("in the pool of tenant{name}, whose prefixes do not hold {server}");
                source.error(&outside.at, problem, "an address of a shared pool, or of no pool");
            }
        }
    }
}

/// What is wrong with the outside address of a static mapping.
fn outside(
    source: &Source<'_>,
    draft: &Draft,
    nat64: &Nat64Draft,
    networks: &[Checked],
    item: &Item<super::super::Endpoint4>,
) {
    let a = item.value.address();
    nobodys(source, draft, networks, &item.at, a);
    let mut pools = nat64.pool.iter().chain(nat64.tenants.iter().flat_map(|t| &t.pool));
    // What is wrong with a pool is told there.
    if !pools.any(|p| p.contains(a)) {
        global(source, nat64, &item.at, a);
    }
}

/// An address that is translated is neither the gateway's own nor that of a router.
pub(super) fn nobodys(source: &Source<'_>, draft: &Draft, networks: &[Checked], at: &At, a: Ipv4Addr) {
    for own in networks.iter().flat_map(|n| &n.addresses) {
        if own.value == IpAddr::V4(a) {
            let problem = format!("{a} is an address of the gateway itself ({})", own.at.path);
            source.error(at, problem, "an address that nobody else has");
        }
    }
    for via in draft.routes.iter().filter_map(|r| r.via.as_ref()) {
        if matches!(via.value, Target::Via(IpAddr::V4(v)) if v == a) {
            let problem = format!("{a} is the router of {}", via.at.path);
            source.error(at, problem, "an address that nobody else has");
        }
    }
}

/// RFC 6052 3.1, as for pools.
pub(super) fn global(source: &Source<'_>, nat64: &Nat64Draft, at: &At, a: Ipv4Addr) {
    if let Some(prefix) = nat64.prefixes.iter().find(|p| p.is_well_known())
        && let Some((not_global, document)) = Prefix4::new(a, 32).and_then(special::non_global)
    {
        source.error(
            at,
            format!("not global ({not_global}, {document}), but {} is the well-known prefix", prefix.at.path),
            "a global IPv4 address, or a prefix of the network's own (RFC 6052 3.1)",
        );
    }
}

/// What is wrong with the server of a static mapping.
pub(super) fn inside(
    source: &Source<'_>,
    nat64: &Nat64Draft,
    networks: &[Checked],
    at: &At,
    a: Ipv6Addr,
    notes: &mut Vec<String>,
) {
    if let Some(own) = networks.iter().flat_map(|n| &n.addresses).find(|own| own.value == IpAddr::V6(a)) {
        let problem = format!("{a} is an address of the gateway itself ({})", own.at.path);
        source.error(at, problem, "the address of a server");
    }
    let Some(host) = Prefix6::new(a, 128) else { return };
    let prefix = nat64.prefixes.iter().find(|p| overlap(Prefix::V6(p.value.prefix()), Prefix::V6(host)));
    if let Some(prefix) = prefix {
        let problem = format!("in the NAT64 prefix {} of {}", prefix.value, prefix.at.path);
        source.error(at, problem, "the address of a server");
    } else if !inhabited(networks, host) {
        notes.push(format!("{}: no tenant network may send from {a} (see `sources`)", at.path));
    }
}
