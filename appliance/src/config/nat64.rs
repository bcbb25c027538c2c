//! Sections of `[nat64]` that are about subscribers: who is accounted together, how ports are given to
//! them, and what is always mapped.

use super::types::{
    BlockSize, Burst, Endpoint4, Endpoint6, Name, PortsMax, PortsMin, SessionRate, SessionsMax,
    StaticProtocol, SubscriberEntries, SubscriberLength,
};
use causeway_core::net::{Prefix4, Prefix6};
use serde::Serialize;

/// What one subscriber may have: keys of `[nat64.subscribers]` and of `[[nat64.tenant]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Ports of each protocol that it gets whatever others have taken; 0 by default.
    pub ports_min: PortsMin,
    /// Ports of each protocol that it may have at once (RFC 6888 3, REQ-4); no limit by default.
    pub ports_max: PortsMax,
    /// Sessions that it may have at once (RFC 6888 3, REQ-5); no limit by default.
    pub sessions_max: SessionsMax,
    /// New sessions a second, in the long run; no limit by default.
    pub new_sessions_per_second: SessionRate,
    /// New sessions at once on top of that rate; 100 by default.
    pub new_sessions_burst: Burst,
}

impl Limits {
    /// No limits.
    pub(super) const NONE: Self = Self {
        ports_min: PortsMin::literal(0),
        ports_max: PortsMax::OFF,
        sessions_max: SessionsMax::OFF,
        new_sessions_per_second: SessionRate::OFF,
        new_sessions_burst: Burst::literal(100),
    };
}

/// `[nat64.subscribers]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Subscribers {
    /// Hosts that have so many first bits in common are one subscriber, unless a tenant has them; 64 by
    /// default.
    pub prefix_length: SubscriberLength,
    /// What each may have.
    #[serde(flatten)]
    pub limits: Limits,
    /// Subscribers with mappings at the same time, at most; 65,536 by default. Taken at the start.
    pub capacity: SubscriberEntries,
}

/// `[[nat64.tenant]]`: a subscriber with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tenant {
    /// Its name, unique among tenants.
    pub name: Name,
    /// Its hosts, all of them one subscriber; at least one prefix.
    pub prefixes: Vec<Prefix6>,
    /// Its own exit addresses, which nobody else gets; empty for the shared ones.
    pub pool: Vec<Prefix4>,
    /// What it may have; what the file does not say is as for other subscribers.
    #[serde(flatten)]
    pub limits: Limits,
}

/// `[nat64.allocation]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "mode", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Allocation {
    /// One by one.
    Single,
    /// In blocks of consecutive ports, for all protocols at once.
    Blocks {
        /// Ports of a block; 256 by default.
        block_size: BlockSize,
    },
    /// By calculation (RFC 7422).
    Deterministic {
        /// Where subscribers are, in the order of calculation; at least one prefix.
        hosts: Vec<Prefix6>,
    },
}

/// `[[nat64.static]]`: a mapping that is always there (RFC 6146 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StaticMapping {
    /// Its protocol.
    pub protocol: StaticProtocol,
    /// Where it is reached from IPv4.
    pub outside: Endpoint4,
    /// The server.
    pub inside: Endpoint6,
}
