//! The plan: what workers make of a configuration. Immutable; a reload makes a new one of the next
//! generation, which each worker takes over between two polls.

pub mod dns64;
pub mod first_hop;
pub mod splicer;
mod views;

pub use splicer::{PortMapRange, SplicerPlan};
pub use views::View;
pub(crate) use views::gains;

use crate::config::{self, Config, Inbound, Prefix};
use crate::control::track::{NextHop, Tracking};
use causeway_core::classify::{Classifier, MACS_PER_PORT};
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::route::{Route4, Route6, RouteError, Target};
use causeway_core::{IfId, Instant, Interface, Interfaces, Prefix4, Prefix6, Role, Routes, Validation};
use causeway_dns64::status::UpstreamsStatus;
use causeway_wire::MacAddr;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use views::OnLink;

/// What the plan has to know of a port that was brought up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortFacts {
    /// Its name in the configuration.
    pub name: String,
    /// Its own MAC address.
    pub mac: MacAddr,
    /// The largest IP packet that it carries, in octets.
    pub mtu: u16,
}

/// A plan.
#[derive(Debug)]
pub struct Plan {
    /// Counts up from 1 with each reload.
    pub generation: u64,
    /// What holds while the virtual routers are active here; always, without any.
    pub active: View,
    /// What holds while they are active elsewhere; nothing without virtual routers.
    pub standby: Option<View>,
    /// Settings of the neighbour tables.
    pub neighbor: causeway_neighbor::Config,
    /// NAT64, if it is configured.
    pub nat64: Option<Nat64Plan>,
    /// The splicer, if it is configured.
    pub splicer: Option<SplicerPlan>,
    /// The virtual routers, if any are configured.
    pub vrrp: Option<Arc<causeway_vrrp::Config>>,
    /// What lowers their priority.
    pub tracking: Tracking,
    /// Router advertisements.
    pub ra: Arc<causeway_ra::Advertisements>,
    /// DHCPv6, if it is configured.
    pub dhcpv6: Option<Arc<causeway_dhcpv6::Config>>,
    /// The resolver, if it is configured.
    pub dns64: Option<Arc<causeway_dns64::Config>>,
    /// How its upstreams do at each worker; empty without it. Survives a reload that leaves them as they are.
    pub dns64_status: Vec<Arc<UpstreamsStatus>>,
    /// ICMP errors a second and at once, for each stage of each worker that sends any.
    icmp: (u32, u32),
}

/// NAT64's part of a plan.
#[derive(Debug, Clone)]
pub struct Nat64Plan {
    /// Its settings.
    pub config: Arc<causeway_nat64::Config>,
    /// Its addresses and ports. Survives a reload as far as its addresses do.
    pub pool: Arc<causeway_nat64::Pool4>,
}

/// Why a configuration and the ports that are there make no plan.
#[derive(Debug, Error)]
pub enum PlanError {
    /// A network is on a port that was not brought up.
    #[error("network `{network}`: the port `{port}` is not there; ports: {ports}")]
    NoPort {
        /// The network.
        network: String,
        /// Its port.
        port: String,
        /// The ports that are there.
        ports: String,
    },
    /// The MTU of a network is larger than its port's.
    #[error("network `{network}`: mtu {mtu} is more than the {port_mtu} octets that port `{port}` carries")]
    Mtu {
        /// The network.
        network: String,
        /// Its MTU.
        mtu: u16,
        /// Its port.
        port: String,
        /// The port's MTU.
        port_mtu: u16,
    },
    /// The virtual routers on a port have more link-layer addresses than it takes frames for.
    #[error(
        "port `{port}`: {macs} link-layer addresses, its own and those of virtual routers; {MACS_PER_PORT} are \
         taken at most: virtual routers of different networks may have one `vrid`"
    )]
    Macs {
        /// The port.
        port: String,
        /// How many there would be.
        macs: usize,
    },
    /// The routes contradict each other.
    #[error(transparent)]
    Routes(#[from] RouteError),
    /// Forwarding cannot be set up so.
    #[error(transparent)]
    Forward(#[from] causeway_forward::ConfigError),
    /// NAT64 cannot be set up so.
    #[error("nat64: {0}")]
    Nat64(#[from] causeway_nat64::ConfigError),
    /// The neighbour tables cannot be set up so.
    #[error("neighbor: {0}")]
    Neighbor(#[from] causeway_neighbor::ConfigError),
}

impl Plan {
    /// The plan of a configuration on these ports.
    ///
    /// `before` is the plan in force, if there is one, and the time: its NAT64 pool is taken over as far as the
    /// addresses are the same, and what it advertised and this one does not is withdrawn from then on.
    ///
    /// # Errors
    /// What contradicts what; see [`PlanError`].
    pub fn build(
        config: &Config,
        ports: &[PortFacts],
        before: Option<(&Self, Instant)>,
    ) -> Result<Self, PlanError> {
        Self::build_with(config, ports, before, &[])
    }

    /// The same with port maps that were asked for while the gateway ran, besides those of the configuration. Without
    /// NAT64 there are none.
    ///
    /// # Errors
    /// As for [`Self::build`]; also for a port map that contradicts another mapping.
    pub fn build_with(
        config: &Config,
        ports: &[PortFacts],
        before: Option<(&Self, Instant)>,
        port_maps: &[causeway_nat64::StaticMapping],
    ) -> Result<Self, PlanError> {
        let (before, now) = before.map_or((None, Instant::ZERO), |(plan, now)| (Some(plan), now));
        let generation = before.map_or(1, |b| b.generation + 1);
        let nat64 = match &config.nat64 {
            None => None,
            Some(n) => {
                let old = before.and_then(|b| b.nat64.as_ref());
                let mut maps = splicer::port_maps(config);
                maps.extend_from_slice(port_maps);
                let config = Arc::new(nat64(n, &maps, generation, old.map(|old| &*old.config))?);
                let pool = old
                    .map_or_else(|| causeway_nat64::Pool4::new(&config), |old| old.pool.successor(&config));
                Some(Nat64Plan { config, pool: Arc::new(pool) })
            }
        };
        let addresses: Vec<Prefix4> =
            nat64.as_ref().map_or_else(Vec::new, |n: &Nat64Plan| n.config.addresses().collect());
        let splicer = splicer::splicer_of(config, generation, before);
        let own = interfaces(config, ports, &addresses, splicer.as_ref())?;
        let vrrp = first_hop::vrrp_of(config, ports);
        let (active, standby) = match &vrrp {
            None => (view(config, ports, own, &addresses, splicer.as_ref())?, None),
            Some(vrrp) => {
                let standby = views::standing_by(&own, &vrrp.routers);
                let mut standby = view(config, ports, standby, &[], None)?;
                standby.classifier = standby.classifier.standing_by();
                let on_link = |n: usize| {
                    let network = config.networks.get(n);
                    network.map_or_else(OnLink::default, |n| OnLink {
                        six: n.on_link6.clone(),
                        four: n.on_link4.clone(),
                    })
                };
                let active = views::with_virtual(&own, vrrp, on_link);
                (view(config, ports, active, &addresses, splicer.as_ref())?, Some(standby))
            }
        };
        check_macs(&active.interfaces, ports)?;
        let tracking = tracking(config, &active.interfaces);
        let advertised = first_hop::ra_of(config);
        let ra = match before {
            Some(before) => before.ra.successor(&active.interfaces, advertised, now),
            None => causeway_ra::Advertisements::new(&active.interfaces, advertised),
        };
        // The lease thread alone has to know the server's DUID that is kept with the leases.
        let dhcpv6 = first_hop::dhcpv6_of(config, &[], |id| active.interfaces.get(id).map(Interface::link));
        let dns64 = dns64::dns64_of(config);
        let dns64_status = dns64::status_of(dns64.as_ref(), config.resolved.workers, before);
        let neighbor = neighbor(config);
        neighbor.check()?;
        let icmp = (config.icmp.errors_per_second.get(), config.icmp.errors_burst.get());
        Ok(Self {
            generation,
            active,
            standby,
            neighbor,
            nat64,
            splicer,
            vrrp: vrrp.map(Arc::new),
            tracking,
            ra: Arc::new(ra),
            dhcpv6: dhcpv6.map(Arc::new),
            dns64: dns64.map(Arc::new),
            dns64_status,
            icmp,
        })
    }

    /// What holds while the virtual routers are active here, or elsewhere.
    #[inline]
    #[must_use]
    pub fn view(&self, active: bool) -> &View {
        match &self.standby {
            Some(standby) if !active => standby,
            _ => &self.active,
        }
    }

    /// The link-layer addresses of the virtual routers, each once for each port that it is on.
    #[must_use]
    pub fn virtual_macs(&self) -> Vec<(u16, MacAddr)> {
        let mut out = Vec::new();
        for router in self.vrrp.iter().flat_map(|v| &v.routers) {
            let Some(interface) = self.active.interfaces.get(router.interface) else { continue };
            let it = (interface.port, router.mac());
            if !out.contains(&it) {
                out.push(it);
            }
        }
        out
    }

    /// Room for the bindings of sources that are leased.
    #[must_use]
    pub fn bindings(&self) -> u32 {
        self.dhcpv6.as_ref().map_or(1, |d| d.capacity)
    }

    /// Next hops that have to answer: kept resolved whether there is traffic or not.
    #[must_use]
    pub fn kept(&self) -> Vec<(IfId, IpAddr)> {
        self.tracking.next_hops.iter().map(|hop| (hop.interface, hop.address)).collect()
    }

    /// A fresh limiter for the ICMP errors of one stage (RFC 4443 2.4(f)).
    #[must_use]
    pub fn icmp_errors(&self) -> IcmpErrors {
        IcmpErrors::new(self.icmp.0, self.icmp.1)
    }
}

/// A port takes frames for so many link-layer addresses and no more; what is beyond would be lost silently.
fn check_macs(interfaces: &Interfaces, ports: &[PortFacts]) -> Result<(), PlanError> {
    for (number, port) in (0u16..).zip(ports) {
        let on_port = interfaces.iter().map(|(_, i)| i).filter(|i| i.port == number);
        let macs: HashSet<_> = on_port
            .flat_map(|i| [Some(i.mac), i.mac4, i.real.as_ref().map(|real| real.mac)])
            .flatten()
            .collect();
        if macs.len() > MACS_PER_PORT {
            return Err(PlanError::Macs { port: port.name.clone(), macs: macs.len() });
        }
    }
    Ok(())
}

/// All that depends on which addresses are ours; `addresses` are those that NAT64 translates.
fn view(
    config: &Config,
    ports: &[PortFacts],
    interfaces: Interfaces,
    addresses: &[Prefix4],
    splicer: Option<&SplicerPlan>,
) -> Result<View, PlanError> {
    let (six, four) = routes(config, &interfaces);
    let routes = Routes::build(&interfaces, &six, &four)?;
    let prefixes: Vec<Prefix6> =
        config.nat64.iter().flat_map(|n| n.prefixes.iter().map(|p| p.prefix())).collect();
    // RFC 7915 5.6: a more specific route leads past NAT64.
    let native =
        six.iter().map(|r| r.prefix).filter(|r| prefixes.iter().any(|p| r.len() > p.len() && p.overlaps(*r)));
    let native = native.collect();
    let macs = vec![Vec::new(); ports.len()];
    let mut classifier =
        Classifier::new(&interfaces, &macs, prefixes, addresses.to_vec()).with_native(native);
    if let Some(s) = splicer {
        classifier = classifier.with_splicer(&s.addresses, &s.sources(), s.clients());
    }
    let forward = Arc::new(forward(config, &interfaces)?);
    Ok(View { interfaces, routes, classifier, forward })
}

/// The interfaces; uplinks answer ARP for `addresses`, those that NAT64 translates, and for the splicer's.
fn interfaces(
    config: &Config,
    ports: &[PortFacts],
    addresses: &[Prefix4],
    splicer: Option<&SplicerPlan>,
) -> Result<Interfaces, PlanError> {
    let service4: Vec<Ipv4Addr> = splicer.map_or_else(Vec::new, |s| s.addresses.clone());
    let mut proxy4 = addresses.to_vec();
    // Those with port maps are NAT64's too.
    let more = service4.iter().filter(|a| !addresses.iter().any(|p| p.contains(**a)));
    proxy4.extend(more.filter_map(|a| Prefix4::new(*a, 32)));
    let list = config.networks.iter().map(|network| {
        let name = network.name.as_str().to_owned();
        let port = ports.iter().position(|p| p.name == network.port.as_str());
        let Some((number, facts)) = port.and_then(|n| Some((u16::try_from(n).ok()?, ports.get(n)?))) else {
            let ports: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
            let (port, ports) = (network.port.to_string(), ports.join(", "));
            return Err(PlanError::NoPort { network: name, port, ports });
        };
        let mtu = network.mtu.octets();
        if mtu > facts.mtu {
            return Err(PlanError::Mtu { network: name, mtu, port: facts.name.clone(), port_mtu: facts.mtu });
        }
        Ok(Interface {
            name,
            port: number,
            vlan: network.vlan.map(|v| v.id()),
            role: network.role,
            mac: facts.mac,
            mtu,
            link_local: network.link_local.map_or_else(|| facts.mac.link_local(), |l| l.address()),
            addrs6: network.addresses6.iter().map(|own| (own.address, own.prefix)).collect(),
            addrs4: network.addresses4.iter().map(|own| (own.address, own.prefix)).collect(),
            service6: Vec::new(),
            on_link6: network.on_link6.clone(),
            proxy4: if network.role == Role::Uplink { proxy4.clone() } else { Vec::new() },
            service4: if network.role == Role::Uplink { service4.clone() } else { Vec::new() },
            sources6: network.sources.clone(),
            validation: match network.source_validation {
                config::SourceValidation::Off => Validation::Off,
                config::SourceValidation::Prefix => Validation::Prefix,
                config::SourceValidation::Leased => Validation::Leased,
            },
            groups6: dhcpv6_groups(config, network),
            ..Interface::default()
        })
    });
    Ok(Interfaces::new(list.collect::<Result<_, _>>()?))
}

/// Groups of DHCPv6 that are listened to on a network (RFC 9915 7.1): that of clients where there is DHCPv6, and
/// that of relays everywhere, if there is any.
fn dhcpv6_groups(config: &Config, network: &config::Network) -> Vec<Ipv6Addr> {
    let servers = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);
    let clients = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
    let any = config.dhcpv6.as_ref().map(|_| servers);
    any.into_iter().chain(network.dhcpv6.as_ref().map(|_| clients)).collect()
}

/// What lowers the priority of the virtual routers.
fn tracking(config: &Config, interfaces: &Interfaces) -> Tracking {
    let Some(vrrp) = &config.vrrp else { return Tracking::default() };
    let track = &vrrp.track;
    let hop = |hop: &config::TrackedHop| {
        let interface = interfaces.by_name(hop.network.as_str())?;
        Some(NextHop { interface, address: hop.address, penalty: hop.penalty.get() })
    };
    Tracking {
        link: track.link,
        next_hops: track.next_hops.iter().filter_map(hop).collect(),
        worker_penalty: track.worker_penalty.get(),
        table_penalty: track.table_penalty.get(),
    }
}

/// Static routes, and the on-link prefixes that hold no address of ours (those with one are connected
/// anyway).
fn routes(config: &Config, interfaces: &Interfaces) -> (Vec<Route6>, Vec<Route4>) {
    let (mut six, mut four) = (Vec::new(), Vec::new());
    for (network, (id, interface)) in config.networks.iter().zip(interfaces.iter()) {
        let connected6: Vec<Prefix6> = interface.addrs6.iter().map(|(_, p)| *p).collect();
        let connected4: Vec<Prefix4> = interface.addrs4.iter().map(|(_, p)| *p).collect();
        let more6 = network.on_link6.iter().filter(|p| !connected6.contains(p));
        let more4 = network.on_link4.iter().filter(|p| !connected4.contains(p));
        six.extend(more6.map(|p| Route6 { prefix: *p, target: Target::OnLink(id) }));
        four.extend(more4.map(|p| Route4 { prefix: *p, target: Target::OnLink(id) }));
    }
    // What is delegated on a network is reached through the hosts that have it, which the neighbour stage knows
    // from their leases.
    for (network, (id, _)) in config.networks.iter().zip(interfaces.iter()) {
        for prefix in first_hop::delegated(network) {
            if !six.iter().any(|r| r.prefix == prefix) {
                six.push(Route6 { prefix, target: Target::OnLink(id) });
            }
        }
    }
    for route in &config.routes {
        let interface: Option<IfId> =
            route.network.as_ref().and_then(|name| interfaces.by_name(name.as_str()));
        // The configuration's checks have made sure that the families agree.
        match (route.prefix, route.via) {
            (Prefix::V6(prefix), config::Target::Via(IpAddr::V6(gateway))) => {
                six.push(Route6 { prefix, target: Target::Via { gateway, interface } });
            }
            (Prefix::V4(prefix), config::Target::Via(IpAddr::V4(gateway))) => {
                four.push(Route4 { prefix, target: Target::Via { gateway, interface } });
            }
            (Prefix::V6(prefix), _) => six.push(Route6 { prefix, target: Target::Unreachable }),
            (Prefix::V4(prefix), _) => four.push(Route4 { prefix, target: Target::Unreachable }),
        }
    }
    (six, four)
}

fn neighbor(config: &Config) -> causeway_neighbor::Config {
    let n = &config.neighbor;
    let (capacity, incomplete) = (n.capacity.get() as usize, n.incomplete.get() as usize);
    let default = causeway_neighbor::Config::default();
    causeway_neighbor::Config {
        capacity,
        per_interface: (capacity - capacity / 4).max(1),
        incomplete,
        incomplete_per_interface: (incomplete / 2).max(1),
        learned: default.learned.min(capacity),
        learned_per_interface: default.learned_per_interface.min(capacity),
        resolutions_rate_pps: n.resolutions_per_second.get(),
        queue_per_hop: n.queue.get() as usize,
        echo_rate_pps: config.icmp.echo_per_second.get(),
        echo_burst: config.icmp.echo_burst.get(),
        reachable_time: n.reachable_time.duration(),
        retrans_time: n.retransmit_time.duration(),
        ..default
    }
}

fn forward(config: &Config, interfaces: &Interfaces) -> Result<causeway_forward::Config, PlanError> {
    let isolation = if config.isolation.enabled {
        let pairs =
            config.isolation.allow.iter().filter_map(|(a, b)| {
                Some((interfaces.by_name(a.as_str())?, interfaces.by_name(b.as_str())?))
            });
        causeway_forward::Isolation::On { allow: pairs.collect() }
    } else {
        causeway_forward::Isolation::Off
    };
    let (rate, burst) = (config.icmp.errors_per_second.get(), config.icmp.errors_burst.get());
    let mut forward = causeway_forward::Config::new(interfaces, &isolation, rate, burst)?;
    for (network, (id, _)) in config.networks.iter().zip(interfaces.iter()) {
        if network.role == Role::Tenant && network.inbound == Inbound::Closed {
            forward = forward.with_inbound(id, causeway_forward::Inbound::Closed)?;
        }
    }
    Ok(forward)
}

fn nat64(
    n: &config::Nat64,
    port_maps: &[causeway_nat64::StaticMapping],
    generation: u64,
    old: Option<&causeway_nat64::Config>,
) -> Result<causeway_nat64::Config, PlanError> {
    let options = nat64_options(n, port_maps, generation);
    // Flows know their prefix by its number, which a prefix that stays keeps.
    Ok(match old {
        Some(old) => old.successor(options)?,
        None => causeway_nat64::Config::new(options)?,
    })
}

/// What NAT64 is told of its part of a configuration, and of port maps besides.
pub(crate) fn nat64_options(
    n: &config::Nat64,
    port_maps: &[causeway_nat64::StaticMapping],
    generation: u64,
) -> causeway_nat64::Options {
    use causeway_nat64::{Filtering, Options, Subscribers, Tenant, Timeouts};
    let t = &n.timeouts;
    Options {
        prefixes: n.prefixes.iter().map(|p| p.prefix()).collect(),
        pool: n.pool.clone(),
        first_port: n.ports.first(),
        last_port: n.ports.last(),
        filtering: match n.filtering {
            config::Filtering::EndpointIndependent => Filtering::EndpointIndependent,
            config::Filtering::AddressDependent => Filtering::AddressDependent,
            config::Filtering::AddressAndPortDependent => Filtering::AddressAndPortDependent,
        },
        timeouts: Timeouts {
            udp: t.udp.duration(),
            tcp_established: t.tcp_established.duration(),
            tcp_opening: t.tcp_opening.duration(),
            tcp_transitory: t.tcp_transitory.duration(),
            tcp_incoming_syn: t.tcp_incoming_syn.duration(),
            icmp: t.icmp.duration(),
            fragment: t.fragment.duration(),
        },
        hold_down: n.hold_down.get().map_or(Duration::ZERO, config::Timeout::duration),
        keep_parity: n.keep_parity,
        policy: nat64_policy(n),
        icmp_source: n.icmp_source.map(config::Host4::address),
        // Flows carry the low 16 bits: only whether it is the present one matters.
        generation: (generation & 0xffff) as u16,
        subscribers: Subscribers {
            prefix_length: n.subscribers.prefix_length.bits(),
            limits: nat64_limits(&n.subscribers.limits),
            tenants: n
                .tenants
                .iter()
                .map(|t| Tenant {
                    name: t.name.as_str().to_owned(),
                    prefixes: t.prefixes.clone(),
                    limits: nat64_limits(&t.limits),
                    pool: t.pool.clone(),
                })
                .collect(),
            capacity: n.subscribers.capacity.get(),
        },
        allocation: match &n.allocation {
            config::Allocation::Single => causeway_nat64::Allocation::Single,
            config::Allocation::Blocks { block_size } => {
                causeway_nat64::Allocation::Blocks { ports: block_size.ports() }
            }
            config::Allocation::Deterministic { hosts } => {
                causeway_nat64::Allocation::Deterministic { hosts: hosts.clone() }
            }
        },
        static_mappings: n
            .static_mappings
            .iter()
            .map(|m| splicer::static_mapping(m.protocol, m.outside, m.inside))
            .chain(port_maps.iter().copied())
            .collect(),
        log: n.log.options(),
    }
}

fn nat64_policy(n: &config::Nat64) -> causeway_nat64::Policy {
    use causeway_nat64::{ClassPolicy, DfPolicy, Policy, UdpZero};
    let class = |octet| match octet {
        config::ClassOctet::Copy => ClassPolicy::Copy,
        config::ClassOctet::Set(octet) => ClassPolicy::Set(octet),
    };
    Policy {
        tos: class(n.tos),
        traffic_class: class(n.traffic_class),
        df: match n.df {
            config::DontFragment::BySize => DfPolicy::BySize,
            config::DontFragment::Always => DfPolicy::Always,
            config::DontFragment::Never => DfPolicy::Never,
        },
        udp_zero: match n.udp_zero_checksum {
            config::UdpZeroChecksum::Compute => UdpZero::Compute,
            config::UdpZeroChecksum::Drop => UdpZero::Drop,
            config::UdpZeroChecksum::Forward => UdpZero::Forward,
        },
        lowest_ipv6_mtu: n.lowest_ipv6_mtu.octets(),
        clamp_mss: n.mss_clamp.get().map(config::SegmentOctets::octets),
        identify_routers: n.identify_routers,
    }
}

fn nat64_limits(l: &config::Limits) -> causeway_nat64::Limits {
    causeway_nat64::Limits {
        ports_min: l.ports_min.get(),
        ports_max: l.ports_max.get().map(config::Ports::get),
        sessions_max: l.sessions_max.get().map(config::Entries::get),
        new_sessions_per_second: l.new_sessions_per_second.get().map(config::PerSecond::get),
        new_sessions_burst: l.new_sessions_burst.get(),
    }
}
