//! What is advertised on one network.

use causeway_core::{Duration, Prefix6};
use std::net::Ipv6Addr;

/// Preference of a router or a route (RFC 4191 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// Low.
    Low,
    /// Medium.
    #[default]
    Medium,
    /// High.
    High,
}

/// A prefix information option (RFC 4861 4.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixInfo {
    /// The prefix.
    pub prefix: Prefix6,
    /// Flag L: hosts may take its addresses to be on the link.
    pub on_link: bool,
    /// Flag A: hosts may make addresses of their own in it (SLAAC).
    pub autonomous: bool,
    /// Valid lifetime, whole seconds; 2^32 - 1 for ever.
    pub valid: Duration,
    /// Preferred lifetime, whole seconds, at most the valid one.
    pub preferred: Duration,
}

/// A route information option (RFC 4191 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteInfo {
    /// The destinations.
    pub prefix: Prefix6,
    /// Preference over other routers' routes.
    pub preference: Preference,
    /// How long it holds, whole seconds.
    pub lifetime: Duration,
}

/// A PREF64 option (RFC 8781 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pref64 {
    /// The NAT64 prefix: of length 32, 40, 48, 56, 64 or 96.
    pub prefix: Prefix6,
    /// How long it holds: at most 65,528 s; rounded up to 8 s.
    pub lifetime: Duration,
}

/// An encrypted DNS resolver (RFC 9463).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EncryptedDns {
    /// Service priority; lower is better; not 0 (RFC 9463 3.1.5: no AliasMode).
    pub priority: u16,
    /// Authentication domain name, ASCII, without a final dot.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<Ipv6Addr>,
    /// ALPN identifiers, as in "dot", "h2", "doq"; at least one.
    pub alpn: Vec<String>,
    /// The port, where it is not the protocol's own.
    pub port: Option<u16>,
    /// The URI template of DNS over HTTPS, as in "/dns-query{?dns}".
    pub doh_path: Option<String>,
}

/// What a router advertisement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// Current hop limit for hosts; 0 leaves it to them.
    pub hop_limit: u8,
    /// Flag M: addresses come from DHCPv6.
    pub managed: bool,
    /// Flag O: other settings come from DHCPv6.
    pub other: bool,
    /// Preference over other routers.
    pub preference: Preference,
    /// Router lifetime: 0 (no default router) to 65,535 s (RFC 8319 4).
    pub router_lifetime: Duration,
    /// Reachable time for hosts; zero leaves it to them.
    pub reachable_time: Duration,
    /// Retransmission time for hosts; zero leaves it to them.
    pub retransmit_time: Duration,
    /// The MTU option, octets.
    pub mtu: Option<u16>,
    /// The source link-layer address option.
    pub link_layer: bool,
    /// Prefixes.
    pub prefixes: Vec<PrefixInfo>,
    /// Routes.
    pub routes: Vec<RouteInfo>,
    /// Addresses of DNS servers (RFC 8106 5.1).
    pub dns_servers: Vec<Ipv6Addr>,
    /// DNS search list (RFC 8106 5.2): ASCII names without a final dot.
    pub search: Vec<String>,
    /// How long DNS servers, the search list and encrypted resolvers hold.
    pub dns_lifetime: Duration,
    /// Encrypted resolvers (RFC 9463 6).
    pub encrypted_dns: Vec<EncryptedDns>,
    /// NAT64 prefixes.
    pub pref64: Vec<Pref64>,
    /// URI of the captive portal's API (RFC 8910 2.3).
    pub captive_portal: Option<String>,
}

/// Router advertisements on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What is advertised.
    pub advertised: Advertised,
    /// The longest time between unsolicited advertisements: 4 s to 65,535 s (RFC 8319 4; RFC 4861 6.2.1).
    pub max_interval: Duration,
    /// The shortest: 3 s to three quarters of the longest.
    pub min_interval: Duration,
    /// Answers to solicitations go to the one who asked where it has an address (RFC 4861 6.2.6), and not to
    /// all.
    pub unicast: bool,
}
