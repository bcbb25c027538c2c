//! What is advertised on one network.

use crate::message::{Occasion, Speaker, build};
use crate::options;
use causeway_core::{Duration, Interface, Prefix6};
use std::fmt;
use std::net::Ipv6Addr;

/// The longest router lifetime and interval (RFC 8319 4).
const LONGEST: Duration = Duration::from_secs(65_535);

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

/// Why settings cannot be advertised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// The longest interval is not 4 s to 65,535 s (RFC 4861 6.2.1, RFC 8319 4).
    MaxInterval,
    /// The shortest interval is not 3 s to three quarters of the longest (RFC 4861 6.2.1); up to a longest of 9 s it
    /// may be the longest itself.
    MinInterval,
    /// The router lifetime is neither 0 nor from the longest interval to 65,535 s (RFC 4861 6.2.1, RFC 8319 4).
    RouterLifetime,
    /// The reachable time is more than an hour (RFC 4861 6.2.1).
    ReachableTime,
    /// The MTU is below 1280 (RFC 8200 5) or above that of the link.
    Mtu,
    /// The prefix is link-local (RFC 4861 6.2.1) or multicast.
    Prefix(Prefix6),
    /// The prefix, or the route, is there twice (RFC 4191 2.3).
    Twice(Prefix6),
    /// More than 17 routes (RFC 4191 4).
    Routes,
    /// The prefix is to be preferred for longer than it is valid (RFC 4861 6.2.1).
    Preferred(Prefix6),
    /// The NAT64 prefix has a length that RFC 6052 2.2 does not have.
    Pref64(Prefix6),
    /// The address is none that a server can have (RFC 8106 5.3.1, RFC 9463 3.1.8).
    Server(Ipv6Addr),
    /// The name is none that DNS knows (RFC 1035 3.1).
    Name(String),
    /// The resolver has priority 0, no ALPN, one that is empty or too long, HTTP without a path, or a path that does
    /// not begin with a slash (RFC 9463 3.1.5, RFC 9460 2.2, RFC 9461 5).
    Encrypted(String),
    /// The URI of the captive portal is empty, or not ASCII.
    CaptivePortal,
    /// So many options do not fit the advertisements of one network.
    TooMuch(usize),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxInterval => f.write_str("the longest interval is 4 s to 65535 s"),
            Self::MinInterval => f.write_str("the shortest interval is 3 s to three quarters of the longest"),
            Self::RouterLifetime => {
                f.write_str("the router lifetime is 0, or from the longest interval to 65535 s")
            }
            Self::ReachableTime => f.write_str("the reachable time is at most an hour"),
            Self::Mtu => f.write_str("the MTU is at least 1280 and at most that of the link"),
            Self::Prefix(p) => write!(f, "{p} is not a prefix to advertise"),
            Self::Twice(p) => write!(f, "{p} is there twice"),
            Self::Routes => f.write_str("there are at most 17 routes"),
            Self::Preferred(p) => write!(f, "{p} is to be preferred for longer than it is valid"),
            Self::Pref64(p) => write!(f, "{p}: a NAT64 prefix has a length of 32, 40, 48, 56, 64 or 96"),
            Self::Server(a) => write!(f, "{a} is not the address of a server"),
            Self::Name(name) => write!(f, "`{name}` is not a domain name"),
            Self::Encrypted(name) => {
                write!(
                    f,
                    "encrypted DNS `{name}`: needs a priority above 0, an ALPN identifier, and with h2 or h3 a path"
                )
            }
            Self::CaptivePortal => f.write_str("the captive portal is an ASCII URI"),
            Self::TooMuch(n) => write!(f, "{n} options do not fit the advertisements of one network"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks that all of this can be advertised on a link with this MTU.
    ///
    /// # Errors
    /// The first fault that is found.
    pub fn check(&self, link_mtu: u16) -> Result<(), ConfigError> {
        let (min, max) = (self.min_interval, self.max_interval);
        let seconds = Duration::from_secs;
        let ensure = |good: bool, error: ConfigError| if good { Ok(()) } else { Err(error) };
        ensure((seconds(4)..=LONGEST).contains(&max), ConfigError::MaxInterval)?;
        let most = if max < seconds(9) { max } else { max * 3 / 4 };
        ensure((seconds(3)..=most).contains(&min), ConfigError::MinInterval)?;
        let a = &self.advertised;
        let lifetime = a.router_lifetime;
        ensure(lifetime.is_zero() || (max..=LONGEST).contains(&lifetime), ConfigError::RouterLifetime)?;
        ensure(a.reachable_time <= seconds(3600), ConfigError::ReachableTime)?;
        ensure(a.mtu.is_none_or(|mtu| (1280..=link_mtu).contains(&mtu)), ConfigError::Mtu)?;
        for p in &a.prefixes {
            let at = p.prefix.address();
            let good = !at.is_unicast_link_local() && !at.is_multicast() && !at.is_loopback();
            ensure(good && p.prefix.len() > 0, ConfigError::Prefix(p.prefix))?;
            ensure(p.preferred <= p.valid, ConfigError::Preferred(p.prefix))?;
        }
        ensure(a.routes.len() <= 17, ConfigError::Routes)?;
        let prefixes: Vec<Prefix6> = a.prefixes.iter().map(|p| p.prefix).collect();
        let routes: Vec<Prefix6> = a.routes.iter().map(|r| r.prefix).collect();
        for list in [prefixes, routes] {
            if let Some((_, p)) = list.iter().enumerate().find(|(n, p)| list[..*n].contains(p)) {
                return Err(ConfigError::Twice(*p));
            }
        }
        for p in &a.pref64 {
            ensure(matches!(p.prefix.len(), 32 | 40 | 48 | 56 | 64 | 96), ConfigError::Pref64(p.prefix))?;
        }
        let servers = a.dns_servers.iter().chain(a.encrypted_dns.iter().flat_map(|e| &e.addresses));
        for s in servers {
            let good = !s.is_multicast() && !s.is_unspecified() && !s.is_loopback();
            ensure(good, ConfigError::Server(*s))?;
        }
        let names = a.search.iter().chain(a.encrypted_dns.iter().map(|e| &e.name));
        for n in names {
            ensure(options::name(n).is_some(), ConfigError::Name(n.clone()))?;
        }
        for e in &a.encrypted_dns {
            let ids = !e.alpn.is_empty() && e.alpn.iter().all(|id| (1..=255).contains(&id.len()));
            let http = e.alpn.iter().any(|id| id == "h2" || id == "h3");
            let path = e.doh_path.as_ref().map_or(!http, |p| p.starts_with('/'));
            ensure(e.priority != 0 && ids && path, ConfigError::Encrypted(e.name.clone()))?;
        }
        let portal = a.captive_portal.as_ref();
        ensure(portal.is_none_or(|uri| !uri.is_empty() && uri.is_ascii()), ConfigError::CaptivePortal)?;
        let link = Interface { mtu: link_mtu, ..Interface::default() };
        let (_, left_out) = build(a, &Speaker::of(&link), Occasion::Regular(&[]));
        ensure(left_out == 0, ConfigError::TooMuch(left_out))
    }
}

#[cfg(test)]
mod tests;
