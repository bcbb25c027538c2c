//! Checks over virtual routers: their addresses, their networks, and what lowers the priority.

use super::super::read::{Item, Source};
use super::super::schema::{Draft, RouterDraft};
use super::super::types::AddressFamily;
use super::super::{Own, TrackedHop, Vrid};
use super::{Checked, Family, on_link_known};
use std::collections::HashMap;
use std::net::IpAddr;

/// The most addresses of one virtual router: an advertisement has to fit into the least MTU of IPv6.
const ADDRESSES_MOST: usize = 64;

/// Gives each network the addresses of its virtual routers, so that they count as the gateway's own in
/// all checks that follow.
pub(super) fn attach(source: &Source<'_>, draft: &Draft, networks: &mut [Checked]) {
    let Some(vrrp) = &draft.vrrp else { return };
    let mut seen: HashMap<(String, AddressFamily), &Item<Vrid>> = HashMap::new();
    let mut taken: HashMap<IpAddr, String> = HashMap::new();
    for router in &vrrp.routers {
        let Some(name) = &router.network else { continue };
        let Some(network) = networks.iter_mut().find(|n| n.built.name == name.value) else {
            if !source.bad("network[") {
                let known: Vec<&str> = networks.iter().map(|n| n.built.name.as_str()).collect();
                let allowed = format!("the name of a [[network]]: {}", known.join(", "));
                source.error(&name.at, "there is no such network", allowed);
            }
            continue;
        };
        if let (Some(family), Some(vrid)) = (router.family(), &router.vrid) {
            // The flows of a gateway move together: a second virtual router on a link would be no use.
            if let Some(first) = seen.insert((name.value.to_string(), family), vrid) {
                let problem =
                    format!("{} is of network `{}` and {family} as well", first.at.path, name.value);
                source.error(&vrid.at, problem, "one virtual router for each network and address family");
            }
        }
        addresses(source, router, network, &mut taken);
    }
}

fn addresses(
    source: &Source<'_>,
    router: &RouterDraft,
    network: &mut Checked,
    taken: &mut HashMap<IpAddr, String>,
) {
    let Some(family) = router.family() else { return };
    if let Some(item) = router.addresses.get(ADDRESSES_MOST) {
        source.error(&item.at, "too many addresses", format!("at most {ADDRESSES_MOST}"));
    }
    for (n, item) in router.addresses.iter().enumerate() {
        let address = item.value.address();
        // RFC 9568 1: a virtual router has addresses of one family.
        if address.is_ipv6() != (family == AddressFamily::Ipv6) {
            let problem = format!("not of the family of {}", router.addresses[0].value);
            source.error(&item.at, problem, "addresses of one family; a [[vrrp.router]] for the other one");
            continue;
        }
        // RFC 9568 5.2.9: link-local comes first.
        let link_local = item.value.is_link_local6();
        if family == AddressFamily::Ipv6 && link_local != (n == 0) {
            let problem = if link_local { "another link-local address" } else { "not link-local" };
            source.error(
                &item.at,
                problem,
                "a link-local address as the first one, and others after it (RFC 9568 5.2.9)",
            );
            continue;
        }
        let own = if link_local {
            network.built.link_local.is_some_and(|own| IpAddr::V6(own.address()) == address)
        } else {
            network.built.owns(address)
        };
        if own {
            let problem = format!("an own address of network `{}`", network.built.name);
            source.error(&item.at, problem, "an address that moves; each gateway has others of its own");
            continue;
        }
        if !link_local && let Some(first) = taken.insert(address, item.at.path.clone()) {
            source.error(&item.at, format!("the same address as {first}"), "each address once");
            continue;
        }
        let found = match address {
            IpAddr::V6(a) if link_local => {
                network.built.virtual_link_local = Some(a);
                Ok(())
            }
            IpAddr::V6(a) => within(a, &network.built.on_link6).map(|own| network.built.virtual6.push(own)),
            IpAddr::V4(a) => within(a, &network.built.on_link4).map(|own| network.built.virtual4.push(own)),
        };
        match found {
            Ok(()) if link_local => {}
            Ok(()) => network.addresses.push(Item { at: item.at.clone(), value: address }),
            Err(Some(problem)) => source.error(&item.at, problem, "an address that a router can have"),
            Err(None) => {
                let problem = format!("not on the link of network `{}`", network.built.name);
                source.error(&item.at, problem, on_link_known(std::slice::from_ref(network), address));
            }
        }
    }
}

/// The address with its prefix, out of those on the link; else what is wrong with it, if there is a prefix.
fn within<A: Family>(a: A, prefixes: &[A::P]) -> Result<Own<A, A::P>, Option<String>> {
    let prefix = prefixes.iter().copied().find(|p| a.inside(*p)).ok_or(None)?;
    a.usable(prefix).map_err(Some)?;
    Ok(Own { address: a, prefix })
}

/// What is left once all networks are known. Gives the tracked next hops with their networks.
pub(super) fn check(
    source: &Source<'_>,
    draft: &Draft,
    networks: &[Checked],
    notes: &mut Vec<String>,
) -> Vec<TrackedHop> {
    let Some(vrrp) = &draft.vrrp else { return Vec::new() };
    for router in &vrrp.routers {
        let Some(name) = &router.network else { continue };
        let network = networks.iter().find(|n| n.built.name == name.value);
        // RFC 9568 5.1.1.1: advertisements come from an address of the gateway's own.
        if router.family() == Some(AddressFamily::Ipv4)
            && network.is_some_and(|n| n.built.addresses4.is_empty())
        {
            source.error(
                &name.at,
                format!("network `{}` has no `addresses4`", name.value),
                "a network with an IPv4 address of this gateway's own, which advertisements come from",
            );
        }
    }
    if vrrp.priority.value.get() == 255 {
        notes.push(format!(
            "{}: 255 is for the owner of the addresses; no other gateway may have it (RFC 9568 5.2.4)",
            vrrp.priority.at.path
        ));
    }
    for network in networks {
        let has = |family| {
            vrrp.routers.iter().any(|r| {
                r.family() == Some(family)
                    && r.network.as_ref().is_some_and(|name| name.value == network.built.name)
            })
        };
        for (family, used) in [
            (AddressFamily::Ipv6, !network.built.on_link6.is_empty()),
            (AddressFamily::Ipv4, !network.built.on_link4.is_empty()),
        ] {
            if used && !has(family) {
                notes.push(format!(
                    "vrrp: network `{}` has no virtual router of {family}: nothing there moves to another gateway",
                    network.built.name
                ));
            }
        }
    }
    next_hops(source, draft, networks)
}

fn next_hops(source: &Source<'_>, draft: &Draft, networks: &[Checked]) -> Vec<TrackedHop> {
    let Some(vrrp) = &draft.vrrp else { return Vec::new() };
    let mut out: Vec<TrackedHop> = Vec::new();
    for hop in &vrrp.track.next_hops {
        let (Some(address), Some(penalty)) = (&hop.address, &hop.penalty) else { continue };
        let a = address.value.address();
        let named = match &hop.network {
            Some(name) => {
                let found = networks.iter().find(|n| n.built.name == name.value);
                if found.is_none() && !source.bad("network[") {
                    let known: Vec<&str> = networks.iter().map(|n| n.built.name.as_str()).collect();
                    let allowed = format!("the name of a [[network]]: {}", known.join(", "));
                    source.error(&name.at, "there is no such network", allowed);
                }
                let Some(found) = found else { continue };
                Some(found)
            }
            None if address.value.is_link_local6() && networks.len() > 1 => {
                source.error(
                    &address.at,
                    "a link-local address says nothing of its link",
                    "with `network`, the name of its network",
                );
                continue;
            }
            None => None,
        };
        let found = match named {
            Some(network) => Some(network).filter(|n| n.built.on_link(a)),
            None => networks.iter().find(|n| n.built.on_link(a)),
        };
        let Some(network) = found else {
            if !source.bad("network[") {
                let of = named.map_or(networks, std::slice::from_ref);
                source.error(&address.at, "on the link of no network", on_link_known(of, a));
            }
            continue;
        };
        if network.built.owns(a) {
            source.error(&address.at, "an address of the gateway itself", "the address of another router");
        }
        if out.iter().any(|o| o.address == a && o.network == network.built.name) {
            source.error(&address.at, "the same router again", "each router once");
        }
        out.push(TrackedHop { address: a, network: network.built.name.clone(), penalty: penalty.value });
    }
    out
}
