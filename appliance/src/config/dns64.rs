//! `[dns64]`: the resolver of an IPv6-only network (RFC 6147).

use super::types::{
    AnswerOctets, CacheTtl, ClientLength, Connections, DomainName, FailureTtl, Host6, IdleAfter, LocalTtl,
    MemorySize, Messages, Name, Nat64Prefix, OnFailure, Patience, PerSecond, PortRange, Questions, Resolver,
    SampleEvery, StaleAfter, StaleFor, StaleTtl, Tries,
};
use causeway_core::net::{Prefix4, Prefix6};
use serde::Serialize;
use std::net::IpAddr;

/// Name of the view of those that no `[[dns64.view]]` names.
pub const DEFAULT_VIEW: &str = "default";

/// `[dns64]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dns64 {
    /// Recursive resolvers that are asked; at least one.
    pub upstreams: Vec<Resolver>,
    /// Addresses of the gateway that questions are answered at; by default those of `[dns] servers` that are the
    /// gateway's own. At least one.
    pub listen: Vec<Host6>,
    /// Who is answered, besides the clients of views; by default what tenant networks may send from. Without the
    /// prefixes that a view has.
    pub clients: Vec<Prefix6>,
    /// What clients see, unless their view says otherwise.
    #[serde(flatten)]
    pub rules: DnsRules,
    /// Memory of the cache, taken at the start; 64 MiB by default.
    pub cache: MemorySize,
    /// No answer is kept longer; 1 day by default.
    pub max_ttl: CacheTtl,
    /// No negative answer is kept longer (RFC 2308 5); 1 hour by default, or `max-ttl` if that is less.
    pub max_negative_ttl: CacheTtl,
    /// How long a failure is remembered (RFC 9520 3.2); 5 seconds by default.
    pub failure_ttl: FailureTtl,
    /// Names that are asked often are asked for again before their answer expires; true by default.
    pub prefetch: bool,
    /// For how long an answer that has expired may be used while upstream does not answer (RFC 8767); off by default.
    pub stale: StaleFor,
    /// The TTL that it then has; 30 seconds by default.
    pub stale_ttl: StaleTtl,
    /// How long a client waits for a fresh one before that; 1.8 seconds by default.
    pub stale_after: StaleAfter,
    /// The largest answer over UDP; 1232 octets by default.
    pub udp_size: AnswerOctets,
    /// How long a question may take upstream, retries included; 4 seconds by default.
    pub timeout: Patience,
    /// Tries over all upstreams; 5 by default.
    pub tries: Tries,
    /// Questions under way at each worker; 4096 by default.
    pub in_flight: Questions,
    /// Ports that questions are sent from (RFC 5452 9.2); 1024 to 65535 by default.
    pub ports: PortRange,
    /// The case of names is randomised, where the upstream keeps it; true by default.
    pub case: bool,
    /// Bits of an address that tell clients from each other; by default those of `[nat64.subscribers]`, or 64.
    pub client_length: ClientLength,
    /// Questions of a client a second and worker; 50,000 by default.
    pub client_rate: PerSecond,
    /// Questions of a client at once; 10,000 by default.
    pub client_burst: Messages,
    /// Questions of a client under way at each worker; 256 by default.
    pub client_in_flight: Questions,
    /// Every how many questions one is logged; none by default.
    pub sample_every: SampleEvery,
    /// DNS over TCP.
    pub tcp: DnsTcp,
    /// Who sees something else, in the order of the file.
    #[serde(rename = "view")]
    pub views: Vec<DnsView>,
}

/// `[dns64.tcp]` (RFC 7766).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DnsTcp {
    /// Connections at each worker; 512 by default.
    pub connections: Connections,
    /// Connections of a client at each worker; 16 by default.
    pub per_client: Connections,
    /// How long one may be idle (RFC 7766 6.2.3); 10 seconds by default.
    pub idle: IdleAfter,
    /// Questions of a connection under way at once; 32 by default.
    pub pipelined: Questions,
}

/// What clients see: keys of `[dns64]` and of `[[dns64.view]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DnsRules {
    /// AAAA records are made; true by default.
    pub dns64: bool,
    /// The prefix that they are made with; the first NAT64 prefix by default. Nothing with `dns64 = false`, or
    /// without NAT64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Nat64Prefix>,
    /// Names whose AAAA records are always made of A records, with all under them.
    pub always: Vec<DomainName>,
    /// Names whose AAAA records are never made, with all under them.
    pub never: Vec<DomainName>,
    /// Names that do not exist, with all under them.
    pub block: Vec<DomainName>,
    /// AAAA records that count as not there (RFC 6147 5.1.4); `::ffff:0:0/96` by default.
    pub exclude_aaaa: Vec<Prefix6>,
    /// A records that nothing is made of.
    pub exclude_a: Vec<Prefix4>,
    /// If not empty: the only A records that something is made of.
    pub only_a: Vec<Prefix4>,
    /// What a failure of the question for AAAA records means.
    pub on_failure: OnFailure,
    /// Names that are answered here.
    pub local: Vec<LocalName>,
}

/// `[[dns64.local]]` and `[[dns64.view.local]]`: a name that is answered here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LocalName {
    /// The name, unique in its list.
    pub name: DomainName,
    /// Its addresses; at least one.
    pub addresses: Vec<IpAddr>,
    /// How long an answer is good for; 5 minutes by default.
    pub ttl: LocalTtl,
}

/// `[[dns64.view]]`: clients that see something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DnsView {
    /// Its name, unique among views, not `default`.
    pub name: Name,
    /// Tenant networks whose hosts are its clients.
    pub networks: Vec<Name>,
    /// Further prefixes of its clients.
    pub sources: Vec<Prefix6>,
    /// All prefixes of its clients: not written, but what the networks may send from, and `sources`.
    #[serde(skip)]
    pub clients: Vec<Prefix6>,
    /// What they see: what the file says here, and for all else what `[dns64]` says.
    #[serde(flatten)]
    pub rules: DnsRules,
}
