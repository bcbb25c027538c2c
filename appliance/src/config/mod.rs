//! The configuration: one TOML file, read into types in which bad values cannot be built.
//!
//! ```text
//!  text -> schema (types, ranges, unknown keys) -> checks (what contradicts what) -> Config
//! ```
//!
//! All mistakes are found in one reading; each names the file, the line, the key path, the value and what
//! is allowed. A [`Config`] that exists is one that all checks have passed. What the packet path makes of
//! it (the plan) is not here.

mod checks;
mod diff;
mod dns64;
mod error;
mod first_hop;
mod nat64;
mod natlog;
pub mod profile;
mod read;
mod render;
mod schema;
pub mod special;
mod splicer;
mod types;

pub use diff::{Change, changes, restart_needed};
pub use dns64::{DEFAULT_VIEW, Dns64, DnsRules, DnsTcp, DnsView, LocalName};
pub use error::{ConfigError, ConfigErrors};
pub use first_hop::{
    Delegate, DhcpServer, Dhcpv6, Dns, EncryptedDns, LeasePeer, Ra, RaPrefix, RaRoute, RelayedLink,
    Reservation, STATE_DIR, Track, TrackedHop, VirtualRouter, Vrrp, default_leases,
};
pub use nat64::{Allocation, Limits, StaticMapping, Subscribers, Tenant};
pub use natlog::{Collector, NatLog};
pub use splicer::{
    AlpnRule, Backend, Health, Listener, PortMap, Site, SpliceLimits, SpliceTcp, SpliceTimeouts, Splicer,
};
pub use types::{
    AbsolutePath, AckTimeout, AddressFamily, AddressRange, AllocationMode, AloneAfter, Alpn, AnswerOctets,
    BlockSize, BootUrl, Burst, CacheTtl, Checks, Checksum4, ClassOctet, ClientLength, ClientPrefix,
    Connections, Core, Delay, DelegatedLength, Descriptors, DnsLifetime, DohPath, Domain, DomainName,
    DontFragment, Duid, Endpoint4, Endpoint6, Entries, FailureTtl, Filtering, History, HoldDown, HopLimit,
    Host4, Host6, Iaid, IdentityKind, IdleAfter, Inbound, InputOctets, InterfaceId, LeaseLifetime, Leases,
    Lifetime, LinkLocal, LocalTtl, LogFormat, Lookups, Mac, MaxInterval, MemorySize, Messages, MinInterval,
    MssClamp, Mtu, Name, Nat64Prefix, Neighbors, OnFailure, PacketOctets, Packets, Patience, Pause,
    PciAddress, PeekedConnections, PeerAddress, Penalty, PerClient, PerSecond, PortNumber, PortRange,
    PortRange4, PortalUri, Ports, PortsAt, PortsMax, PortsMin, Prefix, Questions, Refresh, Resolver, Rest,
    RetryMost, RouterLifetime, RouterPreference, SampleEvery, SegmentOctets, ServerPreference,
    ServicePriority, SessionRate, SessionsMax, SiteName, Solicited, SourceValidation, Span, SpanOrOff,
    StaleAfter, StaleFor, StaleTtl, StaticProtocol, SubscriberEntries, SubscriberLength, Target,
    TemplateInterval, Timeout, TriedBy, Tries, UdpZeroChecksum, UnicastAddress, Vdev, Vlan, Vrid,
    VrrpInterval, VrrpPriority, Waiting, Weight, WindowScale, Workers,
};

use causeway_core::net::{Prefix4, Prefix6, Role};
use serde::{Serialize, Serializer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// A whole configuration that passed all checks. Only reading makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Config {
    /// The gateway itself.
    pub gateway: Gateway,
    /// Table sizes that replace the profile's.
    pub capacity: Capacity,
    /// The ports, in the order of the file; there is at least one.
    #[serde(rename = "port")]
    pub ports: Vec<Port>,
    /// The networks, in the order of the file; there is at least one.
    #[serde(rename = "network")]
    pub networks: Vec<Network>,
    /// Static routes.
    #[serde(rename = "route")]
    pub routes: Vec<Route>,
    /// NAT64, if it is configured.
    pub nat64: Option<Nat64>,
    /// What hosts are told of DNS.
    pub dns: Dns,
    /// The resolver, if it is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns64: Option<Dns64>,
    /// The splicer, if it is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub splicer: Option<Splicer>,
    /// The DHCPv6 server, if a network or a link behind relays has DHCPv6.
    pub dhcpv6: Option<DhcpServer>,
    /// The virtual routers, if there are any.
    pub vrrp: Option<Vrrp>,
    /// Traffic between tenant networks.
    pub isolation: Isolation,
    /// ICMP and ICMPv6 that the gateway sends.
    pub icmp: Icmp,
    /// Neighbour resolution.
    pub neighbor: Neighbor,
    /// Logs.
    pub log: Log,
    /// The stall watchdog.
    pub watchdog: Watchdog,
    /// The control socket.
    pub control: Control,
    /// What the hardware profile decided.
    pub resolved: Resolved,
    /// What is allowed but deserves a second look, in words.
    pub notes: Vec<String>,
}

/// What the profile decided where the file says nothing, and what the file says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Resolved {
    /// Number of workers.
    pub workers: u16,
    /// Sessions of the flow table.
    pub sessions: u32,
    /// Mappings of the flow table.
    pub mappings: u32,
    /// Spliced connections of the flow table.
    pub spliced: u32,
    /// What workers do when there is nothing to do: `spin` or `backoff`.
    pub idle: String,
}

/// `[gateway]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gateway {
    /// Its name; also that of its control socket and of its DPDK file prefix.
    pub name: Name,
    /// The hardware profile.
    pub profile: Name,
    /// A folder with further hardware profiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_dir: Option<AbsolutePath>,
    /// How many workers; nothing leaves it to the profile. Equals the number of `cores` if those are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
    /// The cores of the workers; empty leaves the choice to the program.
    pub cores: Vec<Core>,
    /// The core of DPDK's main thread, which moves no packets; nothing leaves the choice to the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_core: Option<Core>,
}

/// `[capacity]`: nothing leaves a size to the profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Capacity {
    /// Sessions of the flow table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Entries>,
    /// Endpoint-independent mappings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mappings: Option<Entries>,
    /// Spliced connections, each of which is one of the sessions too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spliced: Option<Entries>,
}

/// `[[port]]`: a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Port {
    /// Its name, unique among ports.
    pub name: Name,
    /// What it is.
    #[serde(flatten)]
    pub device: Device,
    /// Receive descriptors; nothing leaves it to the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_descriptors: Option<Descriptors>,
    /// Transmit descriptors; nothing leaves it to the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_descriptors: Option<Descriptors>,
}

/// What a port is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// One of DPDK's virtual devices.
    #[serde(rename = "device")]
    Vdev(Vdev),
    /// A PCI device.
    Pci(PciAddress),
}

/// `[[network]]`: a port, or one VLAN of it, with our addresses on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Network {
    /// Its name, unique among networks.
    pub name: Name,
    /// The port's name.
    pub port: Name,
    /// The VLAN; nothing for untagged frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
    /// What is behind it.
    pub role: Role,
    /// Our IPv6 addresses other than the link-local one.
    pub addresses6: Vec<Own<Ipv6Addr, Prefix6>>,
    /// Our IPv4 addresses.
    pub addresses4: Vec<Own<Ipv4Addr, Prefix4>>,
    /// Our link-local address; nothing makes one from the port's MAC address (RFC 4291 appendix A).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_local: Option<LinkLocal>,
    /// IPv6 prefixes on the link: those of the addresses, and further ones.
    pub on_link6: Vec<Prefix6>,
    /// IPv4 prefixes on the link: those of the addresses, and further ones.
    pub on_link4: Vec<Prefix4>,
    /// The largest IP packet.
    pub mtu: Mtu,
    /// Whether hosts outside may begin a conversation; always open on an uplink.
    pub inbound: Inbound,
    /// What hosts of a tenant network may send from (BCP 38): the on-link prefixes, those listed under
    /// `sources`, and those that DHCPv6 delegates. Empty on an uplink.
    pub sources: Vec<Prefix6>,
    /// How sources are checked; off on an uplink.
    pub source_validation: SourceValidation,
    /// The captive portal's API (RFC 8910).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captive_portal: Option<PortalUri>,
    /// Relays on it are believed what they say of clients (RFC 9915 22); false by default, and on an uplink.
    pub dhcpv6_relays: bool,
    /// NTP servers that DHCPv6 tells (RFC 5908).
    pub ntp: Vec<Host6>,
    /// Router advertisements; nothing on an uplink.
    pub ra: Option<Ra>,
    /// DHCPv6; nothing on an uplink.
    pub dhcpv6: Option<Dhcpv6>,
    /// Known servers; none without DHCPv6.
    #[serde(rename = "reservation")]
    pub reservations: Vec<Reservation>,
    /// The virtual router's link-local address here, while it is active (from `[vrrp]`).
    #[serde(skip)]
    pub virtual_link_local: Option<Ipv6Addr>,
    /// Its other IPv6 addresses, each with the on-link prefix that it is in.
    #[serde(skip)]
    pub virtual6: Vec<Own<Ipv6Addr, Prefix6>>,
    /// Its IPv4 addresses, the same way.
    #[serde(skip)]
    pub virtual4: Vec<Own<Ipv4Addr, Prefix4>>,
}

/// An address of ours and its on-link prefix. Written and serialised as `2001:db8:64::1/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Own<A, P> {
    /// The address.
    pub address: A,
    /// The on-link prefix, which the address is in.
    pub prefix: P,
}

impl std::fmt::Display for Own<Ipv6Addr, Prefix6> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix.len())
    }
}

impl std::fmt::Display for Own<Ipv4Addr, Prefix4> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix.len())
    }
}

impl<A, P> Serialize for Own<A, P>
where
    Self: std::fmt::Display,
{
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// `[[route]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Route {
    /// The destinations.
    pub prefix: Prefix,
    /// Where to.
    pub via: Target,
    /// The network that the router is on; nothing only for `unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Name>,
}

/// `[nat64]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Nat64 {
    /// The NAT64 prefixes; there is at least one. The first is the one that is announced.
    pub prefixes: Vec<Nat64Prefix>,
    /// The IPv4 addresses that inside hosts get; there is at least one.
    pub pool: Vec<Prefix4>,
    /// The ports that mappings get.
    pub ports: PortRange,
    /// Who may answer.
    pub filtering: Filtering,
    /// The largest IPv6 packet that IPv4 packets without DF are cut into (RFC 7915 4, 1280 by default).
    pub lowest_ipv6_mtu: Mtu,
    /// How long idle sessions live.
    pub timeouts: Timeouts,
    /// How long a port rests before somebody else gets it (RFC 6888 3, REQ-8: two minutes).
    pub hold_down: HoldDown,
    /// UDP ports keep their parity where that is possible (RFC 4787 4.2.2); true by default.
    pub keep_parity: bool,
    /// Type of service of IPv4 packets (RFC 7915 5.1); copied by default.
    pub tos: ClassOctet,
    /// Traffic class of IPv6 packets (RFC 7915 4.1); copied by default.
    pub traffic_class: ClassOctet,
    /// Don't-Fragment of IPv4 packets (RFC 7915 5.1); by size by default.
    pub df: DontFragment,
    /// UDP from IPv4 without a checksum (RFC 7915 4.5); computed by default.
    pub udp_zero_checksum: UdpZeroChecksum,
    /// The largest TCP segment that a SYN may ask for; off by default.
    pub mss_clamp: MssClamp,
    /// Errors about translated packets name the IPv6 router too (RFC 6791 3.1, RFC 5837); true by default.
    pub identify_routers: bool,
    /// The IPv4 address that stands for IPv6 routers in errors (RFC 6791); without it the gateway's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_source: Option<Host4>,
    /// Who is accounted together, and what each may have.
    pub subscribers: Subscribers,
    /// Subscribers with a name, in the order of the file.
    #[serde(rename = "tenant")]
    pub tenants: Vec<Tenant>,
    /// How ports are given to subscribers.
    pub allocation: Allocation,
    /// Mappings that are always there, in the order of the file.
    #[serde(rename = "static")]
    pub static_mappings: Vec<StaticMapping>,
    /// What is logged of mappings.
    pub log: NatLog,
}

/// `[nat64.timeouts]` (RFC 6146 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Timeouts {
    /// UDP; by default 5 minutes.
    pub udp: Timeout,
    /// Established TCP; by default 2 hours and 4 minutes.
    pub tcp_established: Timeout,
    /// TCP that is opening; by default 4 minutes (RFC 7857 2.1 allows less).
    pub tcp_opening: Timeout,
    /// TCP that is closing, or was reset; by default 4 minutes.
    pub tcp_transitory: Timeout,
    /// A SYN from outside that nobody asked for; by default 6 seconds.
    pub tcp_incoming_syn: Timeout,
    /// ICMP queries; by default 60 seconds.
    pub icmp: Timeout,
    /// Fragments that wait for the first of their packet; by default 2 seconds.
    pub fragment: Timeout,
}

/// `[isolation]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Isolation {
    /// True if tenant networks cannot reach each other.
    pub enabled: bool,
    /// Pairs of tenant networks that can, both ways, although isolation is on.
    pub allow: Vec<(Name, Name)>,
}

/// `[icmp]`: limits per worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Icmp {
    /// Errors a second (RFC 4443 2.4(f)).
    pub errors_per_second: Packets,
    /// Errors at once.
    pub errors_burst: Packets,
    /// Echo requests to the gateway itself answered a second.
    pub echo_per_second: Packets,
    /// Echo requests answered at once.
    pub echo_burst: Packets,
}

/// `[neighbor]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Neighbor {
    /// Neighbours known at once, over all networks.
    pub capacity: Neighbors,
    /// Neighbours being looked for at once (RFC 6583 6.2).
    pub incomplete: Lookups,
    /// Packets that wait for one neighbour (RFC 4861 7.2.2: at least one).
    pub queue: Waiting,
    /// New neighbours looked for a second and worker (RFC 6583 6.2).
    pub resolutions_per_second: PerSecond,
    /// How long an answer counts (RFC 4861 10: 30 seconds).
    pub reachable_time: Pause,
    /// Between two questions (RFC 4861 10: 1 second).
    pub retransmit_time: Pause,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Log {
    /// A filter as `tracing` takes it, as in `info` or `info,causeway::control=debug`.
    pub filter: String,
    /// How lines are written.
    pub format: LogFormat,
}

/// `[watchdog]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Watchdog {
    /// A worker that has not polled for so long is reported.
    pub warn: Span,
    /// A worker that has not polled for so long ends the process; `off` never does.
    pub abort: SpanOrOff,
}

/// `[control]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Control {
    /// The control socket; by default `/run/causeway/NAME.sock`.
    pub socket: AbsolutePath,
}

/// Where control sockets are by default.
pub const RUN_DIR: &str = "/run/causeway";

/// The default control socket of the gateway of this name.
#[must_use]
pub fn default_socket(name: &Name) -> std::path::PathBuf {
    Path::new(RUN_DIR).join(format!("{name}.sock"))
}

/// Octets of the largest configuration file that is read.
const LARGEST_FILE: u64 = 64 << 20;

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// Everything that is wrong with it, the file not being readable included.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let file = path.display().to_string();
        let text = read_file(path).map_err(|problem| {
            ConfigErrors::one(ConfigError {
                file: file.clone(),
                line: None,
                key: String::new(),
                value: None,
                problem,
                allowed: None,
            })
        })?;
        Self::parse(&file, &text)
    }

    /// Reads a text; `file` is what messages call it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigErrors> {
        schema::parse(file, text)
    }

    /// The network of this name.
    #[must_use]
    pub fn network(&self, name: &Name) -> Option<&Network> {
        self.networks.iter().find(|n| n.name == *name)
    }

    /// The largest MTU of a port's networks: what the device has to carry. Nothing for a port without
    /// networks, which no checked configuration has.
    #[must_use]
    pub fn port_mtu(&self, port: &Name) -> Option<Mtu> {
        self.networks.iter().filter(|n| n.port == *port).map(|n| n.mtu).max()
    }

    /// The resolved configuration for people: what holds, defaults included.
    #[must_use]
    pub fn render(&self) -> String {
        render::render(self)
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let unreadable = |e: std::io::Error| format!("cannot be read: {e}");
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut octets = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut octets).map_err(unreadable)?;
    if octets.len() as u64 > LARGEST_FILE {
        return Err(format!("larger than {} MiB", LARGEST_FILE >> 20));
    }
    String::from_utf8(octets).map_err(|e| format!("not UTF-8: octet {}", e.utf8_error().valid_up_to()))
}

impl Network {
    /// True if `a` is on the link.
    #[must_use]
    pub fn on_link(&self, a: IpAddr) -> bool {
        match a {
            IpAddr::V4(a) => self.on_link4.iter().any(|p| p.contains(a)),
            IpAddr::V6(a) => a.is_unicast_link_local() || self.on_link6.iter().any(|p| p.contains(a)),
        }
    }

    /// True if `a` is an address of ours here, or of a virtual router of ours.
    #[must_use]
    pub fn owns(&self, a: IpAddr) -> bool {
        match a {
            IpAddr::V4(a) => self.addresses4.iter().chain(&self.virtual4).any(|own| own.address == a),
            IpAddr::V6(a) => {
                self.addresses6.iter().chain(&self.virtual6).any(|own| own.address == a)
                    || self.link_local.is_some_and(|own| own.address() == a)
                    || self.virtual_link_local == Some(a)
            }
        }
    }
}

#[cfg(test)]
mod tests;
