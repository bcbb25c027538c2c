//! What control asks of the running gateway, and the rows that it gets.
//!
//! The rows are the API: fields are added, never renamed.

use super::track::Judgement;
use crate::config::{Change, Config, Prefix};
use causeway_core::Instant;
use causeway_core::counters::{Counter, Counters, DropReason};
use causeway_core::event::Event;
use causeway_core::net::{IfId, Prefix4, Prefix6};
use causeway_dns64::explain::{Explained, Lookup};
use causeway_dns64::status::Sample;
use causeway_nat64::Log;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A running gateway. Calls may take some milliseconds, never more: they are made on threads of their
/// own, but a stopping gateway waits for them.
pub trait Introspect: Send + Sync {
    /// How many workers there are; they are numbered from 0.
    fn workers(&self) -> u16;

    /// Polls that a worker has made. A number that stays is a worker that hangs.
    fn heartbeat(&self, worker: u16) -> u64;

    /// The next event that a worker has for control, if there is one.
    fn next_event(&self, worker: u16) -> Option<Event>;

    /// The name of an interface in the plan that is in use.
    fn interface_name(&self, id: IfId) -> Option<String>;

    /// The counters of each worker, in order.
    fn counters(&self) -> Vec<Arc<Counters>>;

    /// The mapping log of each worker, in order.
    fn nat_logs(&self) -> Vec<Arc<Log>>;

    /// Now, by the workers' clock.
    fn now(&self) -> Instant;

    /// NAT64 as the newest plan has it. Nothing if it has none, or if a plan is being made.
    fn nat64(&self) -> Option<Arc<causeway_nat64::Config>>;

    /// Sessions that match. A call looks at a bounded number of slots from `query.cursor` on, so a page may be
    /// short, even empty, and yet have a `next`.
    fn sessions(&self, query: &SessionQuery) -> SessionPage;

    /// Mappings that match, in pages as those of sessions.
    fn mappings(&self, query: &MappingQuery) -> MappingPage;

    /// How much of each pool address is in use; empty without NAT64.
    fn pool(&self) -> Vec<PoolRow>;

    /// Subscribers that match, as many as are asked for. Empty while nobody is accounted: without limits,
    /// tenants and port blocks.
    fn subscribers(&self, query: &SubscriberQuery) -> SubscriberPage;

    /// All neighbours.
    fn neighbors(&self) -> Vec<NeighborRow>;

    /// All ports.
    fn ports(&self) -> Vec<PortRow>;

    /// Looks at what may lower the priority of the virtual routers, and tells the workers. Nothing without
    /// virtual routers, or while a plan is being made.
    fn track(&self) -> Option<Judgement>;

    /// Where the virtual routers stand; nothing without any.
    fn vrrp(&self) -> Option<VrrpReport>;

    /// True if there is a lease thread, and it has ended by itself: nobody answers DHCPv6 any more.
    fn lease_thread_ended(&self) -> bool;

    /// The lease thread, as control asks it; nothing without DHCPv6.
    fn leases(&self) -> Option<super::lease_api::Control>;

    /// What is advertised on each network that has router advertisements.
    fn router_advertisements(&self) -> Vec<RaRow>;

    /// The resolver as the newest plan has it. Nothing if there is none.
    fn dns64(&self) -> Option<Arc<causeway_dns64::Config>>;

    /// How the resolver is doing, but for its rates; nothing without one.
    fn dns(&self) -> Option<super::dns::DnsReport>;

    /// Has a worker look something up. False if it takes no more now.
    fn dns_lookup(&self, lookup: Box<Lookup>) -> bool;

    /// What came of a lookup, if one is done.
    fn dns_explained(&self) -> Option<Box<Explained>>;

    /// The next question that a worker sampled, if there is one.
    fn dns_sample(&self, worker: u16) -> Option<Sample>;

    /// Forgets cached answers: all, or those of a name (wire form, lower case) and of all names under it. How many
    /// there were; nothing without a resolver.
    fn dns_flush(&self, name: Option<&[u8]>) -> Option<u64>;

    /// All sites; none without a splicer.
    fn sites(&self) -> Arc<super::sites::Sites>;

    /// Port maps that were asked for while the gateway ran.
    fn port_maps(&self) -> Arc<super::sites::PortMaps>;

    /// The splicer as the newest plan has it; nothing without one.
    fn splicer(&self) -> Option<super::site_api::SplicerFacts>;

    /// Which generation of the plan is in use: the newest, and that of each worker.
    fn generations(&self) -> Generations;

    /// Makes a configuration the one in use, and returns when all workers have adopted it.
    ///
    /// # Errors
    /// [`ReloadError`]; the running configuration is then still in use.
    fn reload(&self, config: Arc<Config>) -> Result<Generations, ReloadError>;
}

/// A transport protocol of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6 queries; ports are identifiers.
    Icmp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        })
    }
}

/// Which sessions are asked for. What is not given matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionQuery {
    /// Of this protocol.
    pub protocol: Option<Protocol>,
    /// With an inside (tenant) address in this prefix.
    pub source: Option<Prefix6>,
    /// With a remote address in this prefix, as the outside sees it.
    pub remote: Option<Prefix>,
    /// With an outside (pool) address in this prefix.
    pub outside: Option<Prefix4>,
    /// Where to go on; what an earlier page had as `next`. 0 begins.
    pub cursor: u64,
    /// The most rows to give, 1 to [`PAGE`].
    pub limit: usize,
}

/// The most rows of one page.
pub const PAGE: usize = 1000;

impl SessionQuery {
    /// True if a row is asked for.
    #[must_use]
    pub fn matches(&self, row: &SessionRow) -> bool {
        self.protocol.is_none_or(|p| p == row.protocol)
            && self.source.is_none_or(|p| p.contains(row.inside))
            && self.remote.is_none_or(|p| p.contains(row.remote))
            && self.outside.is_none_or(|p| row.outside.is_some_and(|a| p.contains(a)))
    }
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its state, as the RFC calls it where there is one.
    pub state: String,
    /// Address of the inside host.
    pub inside: Ipv6Addr,
    /// Its port or identifier.
    pub inside_port: u16,
    /// Address of the remote host: IPv4 for a translated session.
    pub remote: IpAddr,
    /// Its port.
    pub remote_port: u16,
    /// The pool address that the remote host sees; nothing if the session is not translated.
    pub outside: Option<Ipv4Addr>,
    /// The port that the remote host sees.
    pub outside_port: Option<u16>,
    /// Seconds since the last packet.
    pub idle_s: u64,
    /// Seconds until it ends if no packet comes.
    pub expires_s: u64,
}

/// Some sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionRow>,
    /// The cursor of the next page; nothing at the end.
    pub next: Option<u64>,
}

/// Which mappings are asked for. What is not given matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MappingQuery {
    /// Of this protocol.
    pub protocol: Option<Protocol>,
    /// With an inside (tenant) address in this prefix.
    pub source: Option<Prefix6>,
    /// With an outside address in this prefix.
    pub outside: Option<Prefix4>,
    /// Static ones, or others.
    pub fixed: Option<bool>,
    /// Where to go on; what an earlier page had as `next`. 0 begins.
    pub cursor: u64,
    /// The most rows to give, 1 to [`PAGE`].
    pub limit: usize,
}

impl MappingQuery {
    /// True if a row is asked for.
    #[must_use]
    pub fn matches(&self, row: &MappingRow) -> bool {
        self.protocol.is_none_or(|p| p == row.protocol)
            && self.source.is_none_or(|p| p.contains(row.inside))
            && self.outside.is_none_or(|p| p.contains(row.outside))
            && self.fixed.is_none_or(|fixed| fixed == row.fixed)
    }
}

/// A mapping (RFC 6146 3.1: an entry of the binding information base).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingRow {
    /// Its protocol.
    pub protocol: Protocol,
    /// Address of the inside host.
    pub inside: Ipv6Addr,
    /// Its port or identifier.
    pub inside_port: u16,
    /// The outside address.
    pub outside: Ipv4Addr,
    /// The port or identifier there.
    pub outside_port: u16,
    /// True if it is configured, and there whatever happens.
    #[serde(rename = "static")]
    pub fixed: bool,
    /// Sessions that use it.
    pub sessions: u32,
}

/// Some mappings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingPage {
    /// The mappings.
    pub mappings: Vec<MappingRow>,
    /// The cursor of the next page; nothing at the end.
    pub next: Option<u64>,
}

/// How much of a pool address is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRow {
    /// The address.
    pub address: Ipv4Addr,
    /// The tenant that it belongs to; nothing if it is shared.
    pub tenant: Option<String>,
    /// The protocol.
    pub protocol: Protocol,
    /// Ports or identifiers that are taken or resting.
    pub in_use: u32,
    /// How many there are to give out.
    pub of: u32,
}

/// Which subscribers are asked for. What is not given matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriberQuery {
    /// With hosts in this prefix, or a prefix around it.
    pub source: Option<Prefix6>,
    /// The tenant of this name.
    pub tenant: Option<String>,
    /// The most rows to give, 1 to [`SUBSCRIBERS_PAGE`].
    pub limit: usize,
}

/// The most subscribers of one answer.
pub const SUBSCRIBERS_PAGE: usize = 65_536;

impl SubscriberQuery {
    /// True if a row is asked for.
    #[must_use]
    pub fn matches(&self, row: &SubscriberRow) -> bool {
        self.source.is_none_or(|p| p.overlaps(row.prefix))
            && (self.tenant.is_none() || self.tenant == row.name)
    }
}

/// A subscriber, and what it has at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriberRow {
    /// The tenant's name; nothing for a subscriber without one.
    pub name: Option<String>,
    /// Its hosts; of a tenant with several prefixes the first.
    pub prefix: Prefix6,
    /// The pool address that it keeps, once it has one.
    pub address: Option<Ipv4Addr>,
    /// Sessions.
    pub sessions: u32,
    /// Ports and identifiers that its mappings have.
    pub ports: ProtocolPorts,
    /// Ports of each protocol that it gets whatever others have taken.
    pub promised: u32,
    /// Its blocks of ports.
    pub blocks: Vec<BlockRow>,
    /// What it was refused since it was first seen.
    pub refused: RefusedRow,
}

/// Ports by protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolPorts {
    /// UDP.
    pub udp: u32,
    /// TCP.
    pub tcp: u32,
    /// ICMP identifiers.
    pub icmp: u32,
}

/// A block of ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRow {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its first port.
    pub first: u16,
    /// Its last port.
    pub last: u16,
    /// Ports and identifiers of it that mappings have, of all protocols together.
    pub in_use: u32,
}

/// What a subscriber was refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// Mappings: it had all the ports that it may have, or none was free.
    pub ports: u64,
    /// Sessions: it had as many as it may have.
    pub sessions: u64,
    /// Sessions: it opened them too fast.
    pub rate: u64,
}

/// Some subscribers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriberPage {
    /// The subscribers.
    pub subscribers: Vec<SubscriberRow>,
    /// True if there are more.
    pub more: bool,
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborRow {
    /// Name of the network that it is on.
    pub interface: String,
    /// Its address.
    pub address: IpAddr,
    /// Its link-layer address, if known.
    pub mac: Option<String>,
    /// Its state (RFC 4861 7.3.2).
    pub state: String,
    /// Seconds since that was last confirmed.
    pub age_s: u64,
    /// When control first heard of it under this link-layer address: seconds since 1970. Filled in by
    /// control.
    #[serde(default)]
    pub since: Option<u64>,
    /// How often its link-layer address has changed since control first heard of it. Filled in by control.
    #[serde(default)]
    pub moves: u64,
}

/// A port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRow {
    /// Its name.
    pub name: String,
    /// What it is: the text of `device` or `pci`.
    pub device: String,
    /// The driver.
    pub driver: String,
    /// Its MAC address.
    pub mac: String,
    /// The largest IP packet, in octets.
    pub mtu: u16,
    /// Receive queues, one for each worker.
    pub rx_queues: u16,
    /// True if it takes all frames, because it has no filter for our addresses.
    pub promiscuous: bool,
    /// True if the link is up; nothing if the device does not tell.
    pub link: Option<bool>,
    /// Names of its networks.
    pub networks: Vec<String>,
    /// What the device counted, by the device's own names.
    #[serde(default)]
    pub statistics: std::collections::BTreeMap<String, u64>,
}

/// Where the virtual routers stand (RFC 9568 6.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpReport {
    /// `initialize`, `backup` or `active`.
    pub state: String,
    /// For how many seconds.
    pub since_s: u64,
    /// Priority as configured.
    pub priority: u8,
    /// Priority in use: less what is wrong here.
    pub effective_priority: u8,
    /// Milliseconds between advertisements.
    pub interval_ms: u32,
    /// Who last advertised, other than we.
    pub last_active: Option<IpAddr>,
    /// Advertisements sent.
    pub adverts_sent: u64,
    /// Advertisements received and believed.
    pub adverts_received: u64,
    /// How often they became active here.
    pub became_active: u64,
    /// How often they ceased to be.
    pub became_backup: u64,
    /// What lowers the priority, in words.
    pub tracking: Vec<String>,
    /// The virtual routers.
    pub routers: Vec<VirtualRouterRow>,
}

/// A virtual router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualRouterRow {
    /// Name of its network.
    pub network: String,
    /// Its identifier.
    pub vrid: u8,
    /// Its link-layer address.
    pub mac: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Our address that advertisements come from.
    pub source: IpAddr,
}

/// What is advertised on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaRow {
    /// Name of the network.
    pub network: String,
    /// The address that it comes from.
    pub source: Ipv6Addr,
    /// Flag M.
    pub managed: bool,
    /// Flag O.
    pub other: bool,
    /// Router lifetime, seconds.
    pub router_lifetime_s: u64,
    /// Longest and shortest time between unsolicited ones, seconds.
    pub interval_s: (u64, u64),
    /// The MTU option.
    pub mtu: Option<u16>,
    /// Prefixes, each with its flags: `L`, `A`, `LA` or nothing.
    pub prefixes: Vec<(Prefix6, String)>,
    /// Routes.
    pub routes: Vec<Prefix6>,
    /// DNS servers.
    pub dns_servers: Vec<Ipv6Addr>,
    /// Search list.
    pub search: Vec<String>,
    /// NAT64 prefixes.
    pub pref64: Vec<Prefix6>,
    /// What is being withdrawn, in words, and for how many more seconds.
    pub withdrawn: Vec<(String, u64)>,
}

/// Which generation of the plan is in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generations {
    /// The newest, from 1.
    pub newest: u64,
    /// The one that each worker uses.
    pub workers: Vec<u64>,
}

/// Why a configuration was not taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// These keys need a restart.
    #[error("needs a restart: {}", .needs_restart.join(", "))]
    NeedsRestart {
        /// Key paths, as in `port[tenant0].device`.
        needs_restart: Vec<String>,
    },
    /// It did not work, for another reason.
    #[error("{0}")]
    Failed(String),
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The generations after it.
    pub generations: Generations,
    /// What changed.
    pub changes: Vec<Change>,
    /// What is allowed but deserves a second look.
    pub notes: Vec<String>,
}

/// The plan in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// The generations.
    pub generations: Generations,
    /// The resolved configuration.
    pub config: serde_json::Value,
    /// The same for people.
    pub text: String,
}

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CounterKind {
    /// Packets dropped for a reason.
    Drop,
    /// Anything else.
    Counter,
}

/// One counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRow {
    /// Its name; `drop.NAME` for drops.
    pub name: String,
    /// What it counts.
    pub kind: CounterKind,
    /// Over all workers, and control where that counts.
    pub total: u64,
    /// Of each worker, in order.
    pub workers: Vec<u64>,
    /// What it means.
    pub doc: String,
}

/// All counters, also those that are zero, in the order of the lists in the program. What `control` counts
/// is in the totals alone.
#[must_use]
pub fn counter_rows(workers: &[Arc<Counters>], control: &Counters) -> Vec<CounterRow> {
    let row = |name: String, kind, doc: &str, own: u64, values: Vec<u64>| CounterRow {
        name,
        kind,
        total: values.iter().fold(own, |sum, n| sum.wrapping_add(*n)),
        workers: values,
        doc: doc.trim().to_owned(),
    };
    let counts = Counter::ALL.iter().map(|c| {
        let values = workers.iter().map(|w| w.get(*c)).collect();
        row(c.name().to_owned(), CounterKind::Counter, c.doc(), control.get(*c), values)
    });
    let drops = DropReason::ALL.iter().map(|r| {
        let values = workers.iter().map(|w| w.dropped(*r)).collect();
        row(format!("drop.{}", r.name()), CounterKind::Drop, r.doc(), control.dropped(*r), values)
    });
    counts.chain(drops).collect()
}
