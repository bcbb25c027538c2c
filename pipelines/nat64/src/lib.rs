//! Stateful NAT64: IPv6-only hosts reach IPv4 hosts (RFC 6146), by addresses that carry addresses
//! (RFC 6052) and headers that are translated (RFC 7915).
//!
//! ```text
//!  rfc6052    IPv4 addresses under IPv6 prefixes
//!  rfc7915    headers, ICMP errors, fragmentation: no state
//!  rfc6146    mappings, sessions, the TCP state machine
//!  pool4      IPv4 addresses and ports to share
//!  subscriber  who is accounted together, and what each has
//!  deterministic  ports by calculation (RFC 7422)
//!  stage      what a worker calls: vectors of packets in, verdicts out
//! ```
//!
//! State lives in the flow table that all workers share; see `causeway-flowtable`.

#![forbid(unsafe_code)]

pub mod config;
mod deterministic;
mod log;
pub mod pool4;
mod random;
pub mod rfc6052;
pub mod rfc6146;
mod rfc7915;
mod stage;
mod subscriber;

pub use config::{
    Allocation, Config, ConfigError, Filtering, Limits, LogOptions, Options, StaticMapping, SubscriberError,
    Subscribers, Tenant, Timeouts,
};
pub use deterministic::Deterministic;
pub use log::{Log, LogEvent, LogRecord};
pub use pool4::{Pool4, Usage};
pub use rfc6146::permission::{forget, is_permission};
pub use rfc6146::session::{Expiry, PROBES, Probe, describe};
pub use rfc7915::{ClassPolicy, DfPolicy, Policy, UdpZero};
pub use stage::Nat64;
pub use subscriber::{BlockUsage, MAX_TENANT_POOLS, MAX_TENANTS, Refused, SubscriberUsage};
