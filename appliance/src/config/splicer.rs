//! `[splicer]`: IPv6-only servers reached from the IPv4 Internet by name, or by a port of a shared address.

use super::types::{
    Alpn, Burst, Checks, ClientPrefix, Endpoint4, Endpoint6, Host4, Host6, IdentityKind, InputOctets,
    MemorySize, Pause, PeekedConnections, PortNumber, PortRange4, PortsAt, SessionRate, SiteName,
    StaticProtocol, Timeout, TriedBy, Weight, WindowScale,
};
use serde::Serialize;

/// `[splicer]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Splicer {
    /// Addresses of the gateway that connections to servers come from; by default one of each tenant network that has
    /// any, a virtual router's before the gateway's own.
    pub sources: Vec<Host6>,
    /// Prefixes under which servers see clients' addresses, where a site says so.
    pub client_prefixes: Vec<ClientPrefix>,
    /// Where port maps that are asked for while the gateway runs get their ports; nothing: there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_map_range: Option<PortRange4>,
    /// Bounds, for each worker.
    pub limits: SpliceLimits,
    /// Times.
    pub timeouts: SpliceTimeouts,
    /// What is promised to clients before their server is known.
    pub tcp: SpliceTcp,
    /// Where clients are served by name, in the order of the file.
    #[serde(rename = "listener")]
    pub listeners: Vec<Listener>,
    /// The sites of the file, in its order; others may be added while the gateway runs.
    #[serde(rename = "site")]
    pub sites: Vec<Site>,
    /// Ports of proxy addresses that lead to one server, in the order of the file.
    #[serde(rename = "port-map")]
    pub port_maps: Vec<PortMap>,
}

/// `[splicer.limits]`, for each worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SpliceLimits {
    /// Connections whose site is not known yet, or that cannot be spliced; 8192 by default.
    pub connections: PeekedConnections,
    /// The same of one client address; 256 by default.
    pub per_client: PeekedConnections,
    /// Memory of all of them; 256 MiB by default.
    pub memory: MemorySize,
    /// Octets of a ClientHello, its record headers included; 65,536 by default.
    pub hello: InputOctets,
    /// Octets of the head of an HTTP request; 16,384 by default.
    pub head: InputOctets,
    /// Connections that one client address opens in a second, in the long run; no limit by default.
    pub new_per_second: SessionRate,
    /// Connections at once on top of that rate; 100 by default.
    pub new_burst: Burst,
}

/// `[splicer.timeouts]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SpliceTimeouts {
    /// Until the first octet of a client; 10 seconds by default.
    pub first_octet: Pause,
    /// From the first octet until the site is known; 10 seconds by default.
    pub hello: Pause,
    /// Until a server has opened its connection; 5 seconds by default.
    pub connect: Pause,
    /// Until a server has acknowledged what was sent to it ahead of the splice; 10 seconds by default.
    pub handover: Pause,
    /// How long a spliced connection may be silent (RFC 5382 5, REQ-5); 2 hours and 4 minutes by default.
    pub established: Timeout,
    /// The same once one end has closed; as `established` by default.
    pub half_closed: Timeout,
    /// The same once both have closed, or one has reset it; 30 seconds by default.
    pub closing: Timeout,
    /// How long a connection may be silent that cannot be spliced; 1 hour by default.
    pub terminated: Timeout,
}

/// `[splicer.tcp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SpliceTcp {
    /// Window scale (RFC 7323 2.2); 7 by default.
    pub window_scale: WindowScale,
    /// Timestamps (RFC 7323 3) are agreed to; true by default.
    pub timestamps: bool,
    /// Selective acknowledgements (RFC 2018) are agreed to; true by default.
    pub sack: bool,
}

/// `[[splicer.listener]]`: an address and TCP port at which clients are served by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listener {
    /// The address, with the port unique among listeners.
    pub address: Host4,
    /// The port.
    pub port: PortNumber,
    /// TLS is taken, and routed by SNI; false by default.
    pub tls: bool,
    /// HTTP is taken, and routed by Host; false by default.
    pub http: bool,
    /// The site of those that name none, or one that is not known. There is one where neither TLS nor HTTP is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_site: Option<SiteName>,
    /// HTTP is redirected to HTTPS, but for HTTP-01 challenges (RFC 8555 8.3); false by default.
    pub redirect: bool,
}

/// `[[splicer.site]]`: a name, or all names below one, and its servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Site {
    /// Its name, unique among sites.
    pub name: SiteName,
    /// How its servers are told who the client is; not at all by default.
    pub identity: IdentityKind,
    /// For `embedded`: one of the client prefixes; the first by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_prefix: Option<ClientPrefix>,
    /// HTTP is redirected to HTTPS; nothing: as the listener does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<bool>,
    /// How its servers are found to be up.
    pub health: Health,
    /// Its servers; at least one.
    #[serde(rename = "backend")]
    pub backends: Vec<Backend>,
    /// Other servers for clients that offer a protocol (RFC 7301), in this order.
    #[serde(rename = "alpn")]
    pub alpn: Vec<AlpnRule>,
}

/// `[[splicer.site.alpn]]`: servers for clients that offer a protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AlpnRule {
    /// The protocol, unique in its site.
    pub protocol: Alpn,
    /// The servers; at least one.
    #[serde(rename = "backend")]
    pub backends: Vec<Backend>,
}

/// `[[splicer.site.backend]]` and `[[splicer.site.alpn.backend]]`: a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Backend {
    /// Its address, unique in its list.
    pub address: Host6,
    /// Ports of listeners, and those of the server for them; a port that is not here is the same at both.
    pub ports: Vec<PortsAt>,
    /// Its part of new connections; 100 by default, 0 gets none.
    pub weight: Weight,
    /// It gets no new connections, and keeps those that it has; false by default.
    pub draining: bool,
}

/// `[splicer.site.health]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Health {
    /// What is tried; nothing by default.
    pub check: TriedBy,
    /// The servers' port at which it is tried; there is one unless nothing is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortNumber>,
    /// How often; 5 seconds by default.
    pub interval: Pause,
    /// How long an answer may take; 2 seconds by default, or `interval` if that is less.
    pub timeout: Pause,
    /// So many in a row that succeed make a server up; 2 by default.
    pub rise: Checks,
    /// So many in a row that fail make it down; 3 by default.
    pub fall: Checks,
}

/// `[[splicer.port-map]]`: a port of a proxy address that leads to one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PortMap {
    /// Its protocol.
    pub protocol: StaticProtocol,
    /// The proxy address and port.
    pub outside: Endpoint4,
    /// The server.
    pub inside: Endpoint6,
}

impl Splicer {
    /// Addresses that clients connect to, each once, in their order.
    #[must_use]
    pub fn addresses(&self) -> Vec<std::net::Ipv4Addr> {
        let listeners = self.listeners.iter().map(|l| l.address.address());
        let maps = self.port_maps.iter().map(|m| m.outside.address());
        let mut all: Vec<_> =
            listeners.chain(maps).chain(self.port_map_range.map(PortRange4::address)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
