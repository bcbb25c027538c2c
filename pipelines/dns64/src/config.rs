//! Settings of DNS64. Immutable; a reload makes new ones.

use crate::policy::NameSet;
use crate::question::WireName;
use causeway_core::net::{Prefix4, Prefix6};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Port of DNS.
pub const PORT: u16 = 53;

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Addresses that questions are answered at; they are addresses of the gateway.
    pub listen: Vec<Ipv6Addr>,
    /// Who is answered, the longest prefixes first, with the number of its view in `views`. Nobody else is.
    pub clients: Vec<(Prefix6, u16)>,
    /// What clients see; at least one.
    pub views: Vec<View>,
    /// What is synthesised from what, unless a view says otherwise.
    pub synthesis: Synthesis,
    /// Recursive resolvers that are asked; at least one.
    pub upstreams: Vec<SocketAddr>,
    /// How they are asked.
    pub upstream: Upstream,
    /// The cache.
    pub cache: CacheSettings,
    /// What one client may cost.
    pub limits: Limits,
    /// DNS over TCP.
    pub tcp: Tcp,
    /// Octets of the largest answer over UDP, from 512 (RFC 6891 6.2.3); 1232 by default.
    pub udp_octets: u16,
    /// Every how many questions one is told of; 0 for none.
    pub sample_every: u32,
}

/// What a group of clients sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its name.
    pub name: Box<str>,
    /// The NAT64 prefix of 32, 40, 48, 56, 64 or 96 bits that AAAA records are made with (RFC 6052); nothing for
    /// clients without DNS64.
    pub prefix: Option<Prefix6>,
    /// Other rules of synthesis than those of all. Answers then are not cached for the view; what they are made of
    /// is.
    pub synthesis: Option<Synthesis>,
    /// Names that are always synthesised, with all under them, even if they have AAAA records.
    pub always: NameSet,
    /// Names that are never synthesised, with all under them.
    pub never: NameSet,
    /// Names that do not exist for these clients, with all under them.
    pub blocked: NameSet,
    /// Names that are answered here.
    pub local: Vec<LocalName>,
}

/// A name that is answered here, and all types that it has here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalName {
    /// The name, in lower case.
    pub name: WireName,
    /// Its addresses, A and AAAA.
    pub addresses: Vec<IpAddr>,
    /// Seconds that an answer is good for.
    pub ttl: u32,
}

/// What AAAA records are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synthesis {
    /// AAAA records in these prefixes count as not there (RFC 6147 5.1.4); `::ffff:0:0/96` by default.
    pub exclude_aaaa: Vec<Prefix6>,
    /// A records in these prefixes are not used (RFC 6147 5.1.4 leaves it to us).
    pub exclude_a: Vec<Prefix4>,
    /// If not empty, only A records in these prefixes are used.
    pub only_a: Vec<Prefix4>,
    /// What a failure of the question for AAAA records means.
    pub on_failure: OnFailure,
}

/// What a failure of the question for AAAA records means (RFC 6147 5.1.2, 5.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// A failure: the client is told so.
    #[default]
    Fail,
    /// That there are none: A records are asked for.
    Synthesise,
}

/// How upstream resolvers are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// How long at most a question may take altogether, retries included.
    pub patience: Duration,
    /// Tries over all upstreams, from 1.
    pub tries: u8,
    /// Questions under way at each worker, at most.
    pub in_flight: u16,
    /// Ports that questions are sent from, first and last. All workers share them: a port is a worker's whose number
    /// it gives, taken modulo the number of workers.
    pub ports: (u16, u16),
    /// Randomise the case of names, where the upstream keeps it.
    pub case: bool,
}

/// The cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Memory, in octets; taken at start, never more.
    pub octets: usize,
    /// No answer is kept longer, in seconds.
    pub max_ttl: u32,
    /// No negative answer is kept longer, in seconds (RFC 2308 5).
    pub max_negative_ttl: u32,
    /// Seconds for which a failure is remembered (RFC 9520 3.2), 1 to 300.
    pub failure_ttl: u32,
    /// Names that are asked often are asked for again before their answer expires.
    pub prefetch: bool,
    /// Answers that have expired, when upstream does not answer (RFC 8767); nothing for never.
    pub stale: Option<Stale>,
}

/// RFC 8767.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// Seconds after its expiry for which an answer may be used.
    pub for_seconds: u32,
    /// TTL that it is given, in seconds; 30 by default (RFC 8767 4).
    pub ttl: u32,
    /// How long a client waits for a fresh answer before it gets an old one.
    pub after: Duration,
}

/// What one client may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bits of an address that tell clients from each other, 48 to 128.
    pub client_bits: u8,
    /// Questions of a client a second, and at once, at each worker.
    pub rate: (u32, u32),
    /// Questions of a client under way (not in the cache) at each worker.
    pub in_flight: u16,
}

/// DNS over TCP (RFC 7766).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// Connections at each worker.
    pub connections: u16,
    /// Connections of a client at each worker.
    pub per_client: u16,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// Questions of a connection under way at once.
    pub pipelined: u16,
}
