//! What router advertisements, DHCPv6 and VRRP are told of a configuration.
//!
//! A value that is written once is told by all that tell it: DNS servers, the search list and the captive
//! portal by router advertisements and by DHCPv6, the NAT64 prefix and the MTU by router advertisements.

use super::PortFacts;
use crate::config::{self, Config, Network, RaPrefix, RaRoute, RouterPreference, Target};
use causeway_core::{IfId, Prefix6, Role};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// RFC 8781 4: the longest lifetime of a NAT64 prefix, 8191 units of 8 seconds.
const PREF64_MOST: Duration = Duration::from_secs(65_528);

/// RFC 9460 14.3.2: keys of service parameters.
const KEY_ALPN: u16 = 1;
const KEY_PORT: u16 = 3;
/// RFC 9461 9.
const KEY_DOHPATH: u16 = 7;

/// The networks with the numbers of their interfaces, which are in the order of the file.
fn numbered(config: &Config) -> impl Iterator<Item = (IfId, &Network)> {
    (0u16..).map(IfId).zip(&config.networks)
}

/// Router advertisements, one for each network in the order of the file; nothing where there are none.
#[must_use]
pub fn ra_of(config: &Config) -> Vec<Option<causeway_ra::Config>> {
    config.networks.iter().map(|network| Some(ra(config, network, network.ra.as_ref()?))).collect()
}

fn ra(config: &Config, network: &Network, ra: &config::Ra) -> causeway_ra::Config {
    let dns = ra.dns.then_some(&config.dns);
    let lifetime = (ra.max_interval.duration() * 3).min(PREF64_MOST);
    let prefixes = config.nat64.iter().filter(|_| ra.pref64).filter_map(|n| n.prefixes.first());
    let advertised = causeway_ra::Advertised {
        hop_limit: ra.hop_limit.get(),
        managed: ra.managed,
        other: ra.other,
        preference: preference(ra.preference),
        router_lifetime: ra.router_lifetime.duration(),
        reachable_time: ra.reachable_time.map_or(Duration::ZERO, config::Pause::duration),
        retransmit_time: ra.retransmit_time.map_or(Duration::ZERO, config::Pause::duration),
        mtu: ra.mtu.then(|| network.mtu.octets()),
        link_layer: ra.link_layer,
        prefixes: ra.prefixes.iter().map(prefix).collect(),
        routes: ra.routes.iter().map(route).collect(),
        dns_servers: dns.iter().flat_map(|dns| dns.servers.iter().map(|s| s.address())).collect(),
        search: dns.iter().flat_map(|dns| dns.search.iter().map(ToString::to_string)).collect(),
        dns_lifetime: ra.dns_lifetime.duration(),
        encrypted_dns: dns.iter().flat_map(|dns| dns.encrypted.iter().map(encrypted)).collect(),
        pref64: prefixes.map(|p| causeway_ra::Pref64 { prefix: p.prefix(), lifetime }).collect(),
        captive_portal: network.captive_portal.as_ref().map(ToString::to_string),
    };
    causeway_ra::Config {
        advertised,
        max_interval: ra.max_interval.duration(),
        min_interval: ra.min_interval.duration(),
        unicast: ra.solicited == config::Solicited::Unicast,
    }
}

const fn preference(p: RouterPreference) -> causeway_ra::Preference {
    match p {
        RouterPreference::Low => causeway_ra::Preference::Low,
        RouterPreference::Medium => causeway_ra::Preference::Medium,
        RouterPreference::High => causeway_ra::Preference::High,
    }
}

const fn prefix(p: &RaPrefix) -> causeway_ra::PrefixInfo {
    causeway_ra::PrefixInfo {
        prefix: p.prefix,
        on_link: p.on_link,
        autonomous: p.autonomous,
        valid: p.valid_lifetime.duration(),
        preferred: p.preferred_lifetime.duration(),
    }
}

const fn route(r: &RaRoute) -> causeway_ra::RouteInfo {
    causeway_ra::RouteInfo {
        prefix: r.prefix,
        preference: preference(r.preference),
        lifetime: r.lifetime.duration(),
    }
}

fn encrypted(e: &config::EncryptedDns) -> causeway_ra::EncryptedDns {
    causeway_ra::EncryptedDns {
        priority: e.priority.get(),
        name: e.name.to_string(),
        addresses: e.addresses.iter().map(|a| a.address()).collect(),
        alpn: e.alpn.iter().map(ToString::to_string).collect(),
        port: e.port.map(config::PortNumber::get),
        doh_path: e.doh_path.as_ref().map(ToString::to_string),
    }
}

/// DHCPv6, if a network or a link behind relays has it. `kept` is the server's DUID that is kept with the
/// leases; it counts if the file names none. `link_of` gives the link of an interface, as
/// [`Interface::link`](causeway_core::Interface::link) numbers it.
#[must_use]
pub fn dhcpv6_of(
    config: &Config,
    kept: &[u8],
    link_of: impl Fn(IfId) -> Option<u32>,
) -> Option<causeway_dhcpv6::Config> {
    let server = config.dhcpv6.as_ref()?;
    let networks = numbered(config).filter_map(|(id, network)| {
        let said = Said {
            name: network.name.as_str(),
            link: link_of(id),
            prefixes: &network.on_link6,
            ntp: &network.ntp,
            captive_portal: network.captive_portal.as_ref(),
            dhcpv6: network.dhcpv6.as_ref()?,
            reservations: &network.reservations,
        };
        Some(link(config, &said))
    });
    let relayed = server.links.iter().map(|behind| {
        let said = Said {
            name: behind.name.as_str(),
            link: None,
            prefixes: &behind.prefixes,
            ntp: &behind.ntp,
            captive_portal: behind.captive_portal.as_ref(),
            dhcpv6: &behind.dhcpv6,
            reservations: &behind.reservations,
        };
        link(config, &said)
    });
    Some(causeway_dhcpv6::Config {
        server_duid: server.duid.as_ref().map_or(kept, |duid| duid.octets()).into(),
        preference: server.preference.get(),
        links: networks.chain(relayed).collect(),
        per_client: server.per_client.get(),
        capacity: server.capacity.get(),
        hold: server.hold.duration(),
        decline_hold: server.decline_hold.duration(),
        relays: numbered(config).filter(|(_, n)| n.dhcpv6_relays).map(|(id, _)| id).collect(),
        client_rate: (server.client_rate.get(), server.client_burst.get()),
        rate: (server.rate.get(), server.burst.get()),
    })
}

/// What the file says of a link, whoever has it.
struct Said<'a> {
    name: &'a str,
    link: Option<u32>,
    prefixes: &'a [Prefix6],
    ntp: &'a [config::Host6],
    captive_portal: Option<&'a config::PortalUri>,
    dhcpv6: &'a config::Dhcpv6,
    reservations: &'a [config::Reservation],
}

fn link(config: &Config, said: &Said<'_>) -> causeway_dhcpv6::Link {
    let (d, dns) = (said.dhcpv6, &config.dns);
    causeway_dhcpv6::Link {
        name: said.name.into(),
        link: said.link,
        prefixes: said.prefixes.to_vec(),
        pools: d
            .pools
            .iter()
            .map(|range| causeway_dhcpv6::Pool { first: range.first(), last: range.last() })
            .collect(),
        delegations: d
            .delegate
            .iter()
            .map(|d| causeway_dhcpv6::Delegation { prefix: d.prefix, length: d.length.bits() })
            .collect(),
        reservations: said.reservations.iter().map(reservation).collect(),
        excluded: excluded(config, said),
        preferred: d.preferred_lifetime.duration(),
        valid: d.valid_lifetime.duration(),
        t1: d.t1.map(config::LeaseLifetime::duration),
        t2: d.t2.map(config::LeaseLifetime::duration),
        rapid_commit: d.rapid_commit,
        options: causeway_dhcpv6::Options {
            dns_servers: dns.servers.iter().map(|a| a.address()).collect(),
            search: dns.search.iter().map(ToString::to_string).collect(),
            ntp_servers: said.ntp.iter().map(|a| a.address()).collect(),
            boot_file_url: d.boot_file_url.as_ref().map(ToString::to_string),
            sol_max_rt: d.sol_max_rt.map(config::RetryMost::seconds),
            inf_max_rt: d.inf_max_rt.map(config::RetryMost::seconds),
            information_refresh: d.information_refresh.map(config::Refresh::seconds),
            encrypted_dns: dns.encrypted.iter().map(|e| dnr(e).into()).collect(),
            captive_portal: said.captive_portal.map(ToString::to_string),
        },
    }
}

fn reservation(r: &config::Reservation) -> causeway_dhcpv6::Reservation {
    causeway_dhcpv6::Reservation {
        mac: r.mac.map(config::Mac::address),
        interface_id: r.interface_id.as_ref().map(|id| id.octets().into()),
        duid: r.duid.as_ref().map(|duid| duid.octets().into()),
        iaid: r.iaid.map(config::Iaid::number),
        addresses: r.addresses.iter().map(|a| a.address()).collect(),
        prefixes: r.prefixes.clone(),
        boot_file_url: r.boot_file_url.as_ref().map(ToString::to_string),
    }
}

/// Addresses of a link that are never leased: the gateway's own, those of routers and of servers that the
/// file names, and those that no host may have. What is reserved for somebody is not among them.
fn excluded(config: &Config, said: &Said<'_>) -> Vec<Ipv6Addr> {
    let six = |a: IpAddr| match a {
        IpAddr::V6(a) => Some(a),
        IpAddr::V4(_) => None,
    };
    let own = config.networks.iter().flat_map(|n| n.addresses6.iter().chain(&n.virtual6)).map(|o| o.address);
    let routers = config.routes.iter().filter_map(|r| match r.via {
        Target::Via(a) => six(a),
        Target::Unreachable => None,
    });
    let tracked = config.vrrp.iter().flat_map(|v| &v.track.next_hops).filter_map(|hop| six(hop.address));
    let resolvers = config.dns.servers.iter().chain(config.dns.encrypted.iter().flat_map(|e| &e.addresses));
    let servers = resolvers.chain(said.ntp).map(|a| a.address());
    // RFC 4291 2.6.1, RFC 6164 5.
    let anycast = said.prefixes.iter().filter(|p| p.len() < 127).map(|p| p.address());
    let reserved: HashSet<Ipv6Addr> =
        said.reservations.iter().flat_map(|r| &r.addresses).map(|a| a.address()).collect();
    let mut seen = HashSet::new();
    own.chain(routers)
        .chain(tracked)
        .chain(servers)
        .chain(anycast)
        .chain(reserved_anycast(said))
        .filter(|a| said.prefixes.iter().any(|p| p.contains(*a)) && !reserved.contains(a) && seen.insert(*a))
        .collect()
}

/// RFC 5453 3, RFC 2526 2: 128 anycast addresses of each /64, as far as there is a pool that holds one.
fn reserved_anycast<'a>(said: &'a Said<'_>) -> impl Iterator<Item = Ipv6Addr> + 'a {
    const IDENTIFIERS: u128 = 0xfdff_ffff_ffff_ff80;
    let slash64 = said.prefixes.iter().filter(|p| p.len() == 64);
    slash64
        .flat_map(|p| (0..128).map(|n| Ipv6Addr::from_bits(p.address().to_bits() | IDENTIFIERS | n)))
        .filter(|a| said.dhcpv6.pools.iter().any(|pool| pool.contains(*a)))
}

/// The content of an OPTION_V6_DNR (RFC 9463 4.1).
fn dnr(e: &config::EncryptedDns) -> Vec<u8> {
    let length = |octets: usize| u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes();
    let mut out = Vec::new();
    out.extend(e.priority.get().to_be_bytes());
    out.extend(length(e.name.encoded_octets()));
    e.name.encode(&mut out);
    out.extend(length(16 * e.addresses.len()));
    for a in &e.addresses {
        out.extend(a.address().octets());
    }
    // RFC 9460 2.2: service parameters in the order of their keys.
    let mut parameter = |key: u16, value: &[u8]| {
        out.extend(key.to_be_bytes());
        out.extend(length(value.len()));
        out.extend(value);
    };
    // RFC 9460 7.1.1: each identifier behind its length.
    let mut alpn = Vec::new();
    for id in &e.alpn {
        alpn.push(u8::try_from(id.as_str().len()).unwrap_or(u8::MAX));
        alpn.extend(id.as_str().as_bytes());
    }
    parameter(KEY_ALPN, &alpn);
    if let Some(port) = e.port {
        parameter(KEY_PORT, &port.get().to_be_bytes());
    }
    if let Some(path) = &e.doh_path {
        parameter(KEY_DOHPATH, path.as_str().as_bytes());
    }
    out
}

/// The virtual routers on these ports, if there are any. A network whose port is not there has none.
#[must_use]
pub fn vrrp_of(config: &Config, ports: &[PortFacts]) -> Option<causeway_vrrp::Config> {
    let vrrp = config.vrrp.as_ref()?;
    let routers = vrrp.routers.iter().filter_map(|r| {
        let (interface, network) = numbered(config).find(|(_, n)| n.name == r.network)?;
        Some(causeway_vrrp::VirtualRouter {
            interface,
            vrid: r.vrid.get(),
            addresses: r.addresses.iter().map(|a| a.address()).collect(),
            // RFC 9568 5.1.1.1 and 5.1.2.1: IPv4's primary address, IPv6's link-local one.
            source: match r.family {
                config::AddressFamily::Ipv4 => IpAddr::V4(network.addresses4.first()?.address),
                config::AddressFamily::Ipv6 => IpAddr::V6(own_link_local(network, ports)?),
            },
        })
    });
    Some(causeway_vrrp::Config {
        routers: routers.collect(),
        priority: vrrp.priority.get(),
        interval_cs: vrrp.interval.centiseconds(),
        preempt: vrrp.preempt,
        preempt_delay: vrrp.preempt_delay.duration(),
        accept: vrrp.accept,
        checksum4: match vrrp.checksum4 {
            config::Checksum4::Rfc9568 => causeway_vrrp::Peer4Checksum::Rfc9568,
            config::Checksum4::PseudoHeader => causeway_vrrp::Peer4Checksum::PseudoHeader,
        },
    })
}

/// Our own link-local address on a network: what the file says, or what follows from the port's MAC address.
/// Nothing if the port is not there.
#[must_use]
pub fn own_link_local(network: &Network, ports: &[PortFacts]) -> Option<Ipv6Addr> {
    let said = network.link_local.map(config::LinkLocal::address);
    said.or_else(|| Some(ports.iter().find(|p| p.name == network.port.as_str())?.mac.link_local()))
}

/// Prefixes that are delegated, or may be, to hosts of a network.
pub(super) fn delegated(network: &Network) -> impl Iterator<Item = Prefix6> {
    let anybody = network.dhcpv6.iter().flat_map(|d| &d.delegate).map(|d| d.prefix);
    let reserved = network.dhcpv6.iter().flat_map(|_| &network.reservations).flat_map(|r| r.prefixes.clone());
    anybody.chain(reserved)
}

/// Networks whose hosts' sources are checked against their leases, by the numbers of their interfaces.
pub fn leased(config: &Config) -> impl Iterator<Item = IfId> {
    numbered(config)
        .filter(|(_, n)| n.role == Role::Tenant && n.source_validation == config::SourceValidation::Leased)
        .map(|(id, _)| id)
}

/// Where leases are kept and who else keeps them, if there is DHCPv6.
#[must_use]
pub fn leases_of(config: &Config) -> Option<crate::control::leases::LeasesConfig> {
    use crate::control::leases::{Endpoint, LeasesConfig, PeerConfig};
    let server = config.dhcpv6.as_ref()?;
    let end = |address: &config::PeerAddress| match address {
        config::PeerAddress::Tcp(address) => Endpoint::Tcp(*address),
        config::PeerAddress::Unix(path) => Endpoint::Unix(path.clone()),
    };
    Some(LeasesConfig {
        path: server.leases.path().to_owned(),
        duid: server.duid.as_ref().map(|duid| duid.octets().into()),
        history: server.history.duration(),
        peer: server.peer.as_ref().map(|peer| PeerConfig {
            listen: peer.listen.as_ref().map(end),
            connect: peer.connect.as_ref().map(end),
            secret_file: peer.secret_file.path().to_owned(),
            ack_timeout: peer.ack_timeout.duration(),
            alone_after: peer.alone_after.duration(),
        }),
    })
}
