//! What the splicer is told of a configuration.

use super::Plan;
use crate::config::{self, Config};
use causeway_core::Prefix6;
use causeway_nat64::StaticMapping;
use causeway_splicer::config::{Limits, Listener, Tcp, Timeouts};
use causeway_splicer::site::{Backend, Check, Health, Identity, Site};
use causeway_wire::l4;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The splicer's part of a plan.
#[derive(Debug, Clone)]
pub struct SplicerPlan {
    /// Its settings.
    pub config: Arc<causeway_splicer::Config>,
    /// The sites of the file; there may be others that were added while the gateway ran.
    pub sites: Vec<Site>,
    /// Where port maps get their ports that are asked for while the gateway runs; nothing: there are none.
    pub port_map_range: Option<PortMapRange>,
    /// Addresses that clients connect to, those of port maps included, each once, in their order. Uplinks answer for
    /// them.
    pub addresses: Vec<Ipv4Addr>,
}

/// Ports of a proxy address that port maps get on request. Nothing of the file has one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortMapRange {
    /// The address.
    pub address: Ipv4Addr,
    /// The lowest port, not 0.
    pub first: u16,
    /// The highest port, not below the lowest.
    pub last: u16,
}

/// The splicer's part of a plan of this generation, if it is configured. Sources and client prefixes keep the numbers
/// that they had in the plan before.
#[must_use]
pub fn splicer_of(config: &Config, generation: u64, before: Option<&Plan>) -> Option<SplicerPlan> {
    let s = config.splicer.as_ref()?;
    let mut settings = settings(s, generation);
    if let Some(old) = before.and_then(|b| b.splicer.as_ref()) {
        settings = settings.successor(&old.config);
    }
    let sites = s.sites.iter().filter_map(|site| self::site(site, &settings.client_prefixes)).collect();
    Some(SplicerPlan {
        config: Arc::new(settings),
        sites,
        port_map_range: s.port_map_range.map(|range| PortMapRange {
            address: range.address(),
            first: range.ports().first(),
            last: range.ports().last(),
        }),
        addresses: s.addresses(),
    })
}

/// The port maps of the file, as NAT64 has them.
#[must_use]
pub fn port_maps(config: &Config) -> Vec<StaticMapping> {
    let maps = config.splicer.iter().flat_map(|s| &s.port_maps);
    maps.map(|m| static_mapping(m.protocol, m.outside, m.inside)).collect()
}

/// A mapping that is always there, as NAT64 has it.
pub(super) fn static_mapping(
    protocol: config::StaticProtocol,
    outside: config::Endpoint4,
    inside: config::Endpoint6,
) -> StaticMapping {
    StaticMapping {
        protocol: match protocol {
            config::StaticProtocol::Tcp => l4::PROTO_TCP,
            config::StaticProtocol::Udp => l4::PROTO_UDP,
        },
        outside: (outside.address(), outside.port()),
        inside: (inside.address(), inside.port()),
    }
}

impl SplicerPlan {
    /// Addresses of the gateway that connections to servers come from.
    pub(super) fn sources(&self) -> Vec<Ipv6Addr> {
        self.config.sources.iter().flatten().copied().collect()
    }

    /// Prefixes that clients' addresses are put into.
    pub(super) fn clients(&self) -> Vec<Prefix6> {
        self.config.client_prefixes.iter().flatten().copied().collect()
    }
}

fn settings(s: &config::Splicer, generation: u64) -> causeway_splicer::Config {
    let mut listeners: Vec<Listener> = s
        .listeners
        .iter()
        .map(|l| Listener {
            address: l.address.address(),
            port: l.port.get(),
            tls: l.tls,
            http: l.http,
            default_site: l.default_site.as_ref().map(|name| name.as_str().to_owned()),
            redirect: l.redirect,
        })
        .collect();
    listeners.sort_unstable_by_key(|l| (l.address, l.port));
    let (l, t) = (&s.limits, &s.timeouts);
    causeway_splicer::Config {
        // Flows carry the low 16 bits: only whether it is the present one matters.
        generation: (generation & 0xffff) as u16,
        listeners,
        sources: s.sources.iter().map(|a| Some(a.address())).collect(),
        client_prefixes: s.client_prefixes.iter().map(|p| Some(p.prefix())).collect(),
        limits: Limits {
            peeks: l.connections.get(),
            peeks_per_client: l.per_client.get(),
            octets: l.memory.octets(),
            hello_octets: l.hello.octets() as usize,
            head_octets: l.head.octets() as usize,
            opened_per_client: l.new_per_second.get().map_or((0, 0), |rate| (rate.get(), l.new_burst.get())),
        },
        timeouts: Timeouts {
            first_octet: t.first_octet.duration(),
            hello: t.hello.duration(),
            connect: t.connect.duration(),
            handover: t.handover.duration(),
            established: t.established.duration(),
            half_closed: t.half_closed.duration(),
            closing: t.closing.duration(),
            terminated: t.terminated.duration(),
        },
        tcp: Tcp { window_scale: s.tcp.window_scale.get(), timestamps: s.tcp.timestamps, sack: s.tcp.sack },
    }
}

/// A site of the file. Nothing if it wants a client prefix that there is not, which no checked configuration does.
fn site(site: &config::Site, client_prefixes: &[Option<Prefix6>]) -> Option<Site> {
    let identity = match site.identity {
        config::IdentityKind::None => Identity::None,
        config::IdentityKind::Proxy1 => Identity::Proxy1,
        config::IdentityKind::Proxy2 => Identity::Proxy2,
        config::IdentityKind::Embedded => {
            let wanted = site.client_prefix?.prefix();
            let place = client_prefixes.iter().position(|p| *p == Some(wanted))?;
            Identity::Embedded(u8::try_from(place).ok()?)
        }
    };
    let h = &site.health;
    let port = h.port.map_or(0, config::PortNumber::get);
    Some(Site {
        name: site.name.as_str().to_owned(),
        backends: site.backends.iter().map(backend).collect(),
        alpn: site
            .alpn
            .iter()
            .map(|rule| (rule.protocol.as_str().into(), rule.backends.iter().map(backend).collect()))
            .collect(),
        identity,
        redirect: site.redirect,
        health: Health {
            check: match h.check {
                config::TriedBy::None => Check::None,
                config::TriedBy::Tcp => Check::Tcp(port),
                config::TriedBy::Tls => Check::Tls(port),
            },
            interval: h.interval.duration(),
            timeout: h.timeout.duration(),
            rise: h.rise.get(),
            fall: h.fall.get(),
        },
    })
}

fn backend(b: &config::Backend) -> Backend {
    Backend {
        address: b.address.address(),
        ports: b.ports.iter().map(|p| (p.listener(), p.server())).collect(),
        weight: b.weight.get(),
        draining: b.draining,
    }
}
