//! What servers boot with: DNS, router advertisements, DHCPv6, and the virtual router that stays.

use super::types::{
    AbsolutePath, AckTimeout, AddressFamily, AddressRange, AloneAfter, Alpn, BootUrl, Checksum4, Delay,
    DelegatedLength, DnsLifetime, DohPath, DomainName, Duid, History, HopLimit, Host6, Iaid, InterfaceId,
    LeaseLifetime, Leases, Lifetime, Mac, MaxInterval, Messages, MinInterval, Name, Pause, PeerAddress,
    Penalty, PerClient, PerSecond, PortNumber, PortalUri, Refresh, Rest, RetryMost, RouterLifetime,
    RouterPreference, ServerPreference, ServicePriority, Solicited, UnicastAddress, Vrid, VrrpInterval,
    VrrpPriority,
};
use causeway_core::net::Prefix6;
use serde::Serialize;
use std::net::IpAddr;

/// `[dns]`: what hosts are told of DNS, by router advertisements and by DHCPv6 alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dns {
    /// Addresses of recursive resolvers (RFC 8106 5.1, RFC 3646 3).
    pub servers: Vec<Host6>,
    /// Search list (RFC 8106 5.2, RFC 3646 4).
    pub search: Vec<DomainName>,
    /// Encrypted resolvers (RFC 9463).
    pub encrypted: Vec<EncryptedDns>,
}

impl Dns {
    /// True if there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.search.is_empty() && self.encrypted.is_empty()
    }
}

/// `[[dns.encrypted]]` (RFC 9463).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EncryptedDns {
    /// The name that its certificate is checked against.
    pub name: DomainName,
    /// Its addresses; at least one.
    pub addresses: Vec<Host6>,
    /// What it speaks; at least one.
    pub alpn: Vec<Alpn>,
    /// Which is tried first: the lowest.
    pub priority: ServicePriority,
    /// The port, where it is not the protocol's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortNumber>,
    /// The path of DNS over HTTPS: there if and only if `alpn` has HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doh_path: Option<DohPath>,
}

/// `[network.ra]`: router advertisements on a network (RFC 4861 6.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ra {
    /// Flag M: addresses come from DHCPv6; true by default.
    pub managed: bool,
    /// Flag O: other settings come from DHCPv6; true by default.
    pub other: bool,
    /// How long we are a default router; 30 minutes by default.
    pub router_lifetime: RouterLifetime,
    /// Our preference over other routers (RFC 4191 2.2); medium by default.
    pub preference: RouterPreference,
    /// The longest time between unsolicited advertisements; 10 minutes by default.
    pub max_interval: MaxInterval,
    /// The shortest, at most three quarters of it; 0.33 of it by default.
    pub min_interval: MinInterval,
    /// The hop limit for hosts; 64 by default.
    pub hop_limit: HopLimit,
    /// The network's MTU is told; true by default.
    pub mtu: bool,
    /// Our link-layer address is told; true by default.
    pub link_layer: bool,
    /// The NAT64 prefix is told (RFC 8781), if there is NAT64; true by default.
    pub pref64: bool,
    /// `[dns]` is told; true by default.
    pub dns: bool,
    /// How long it holds; three times `max-interval` by default.
    pub dns_lifetime: DnsLifetime,
    /// To whom answers go; to the one who asked by default.
    pub solicited: Solicited,
    /// How long hosts take a neighbour to be reachable; nothing leaves it to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reachable_time: Option<Pause>,
    /// How long hosts wait between two solicitations; nothing leaves it to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmit_time: Option<Pause>,
    /// One for each IPv6 prefix on the link.
    #[serde(rename = "prefix")]
    pub prefixes: Vec<RaPrefix>,
    /// Routes through us besides the default one (RFC 4191 2.3).
    #[serde(rename = "route")]
    pub routes: Vec<RaRoute>,
}

/// `[[network.ra.prefix]]`: how a prefix is advertised (RFC 4861 4.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RaPrefix {
    /// The prefix.
    pub prefix: Prefix6,
    /// Flag L: its addresses are on the link; true by default.
    pub on_link: bool,
    /// Flag A: hosts make addresses of their own; false by default.
    pub autonomous: bool,
    /// Valid lifetime; 30 days by default.
    pub valid_lifetime: Lifetime,
    /// Preferred lifetime, at most the valid one; 7 days by default.
    pub preferred_lifetime: Lifetime,
}

/// `[[network.ra.route]]` (RFC 4191 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RaRoute {
    /// The destinations.
    pub prefix: Prefix6,
    /// Preference over other routers' routes; medium by default.
    pub preference: RouterPreference,
    /// How long it holds; three times `max-interval` by default.
    pub lifetime: Lifetime,
}

/// `[network.dhcpv6]`, and the same keys of `[[dhcpv6.link]]`: what is leased on a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dhcpv6 {
    /// Addresses for anybody; empty for reservations only.
    pub pools: Vec<AddressRange>,
    /// Prefixes for anybody.
    pub delegate: Vec<Delegate>,
    /// Valid lifetime of leases; 12 hours by default.
    pub valid_lifetime: LeaseLifetime,
    /// Preferred lifetime, at most the valid one; 8 hours by default.
    pub preferred_lifetime: LeaseLifetime,
    /// T1, at most T2; half of the preferred lifetime by default (RFC 9915 21.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t1: Option<LeaseLifetime>,
    /// T2, at most the preferred lifetime; four fifths of it by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t2: Option<LeaseLifetime>,
    /// Two messages instead of four for clients that ask for that; false by default.
    pub rapid_commit: bool,
    /// What machines boot (RFC 5970 3.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_file_url: Option<BootUrl>,
    /// SOL_MAX_RT (RFC 9915 21.24).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sol_max_rt: Option<RetryMost>,
    /// INF_MAX_RT (RFC 9915 21.25).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inf_max_rt: Option<RetryMost>,
    /// Information refresh time (RFC 9915 21.23).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub information_refresh: Option<Refresh>,
}

/// A prefix from which prefixes are delegated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Delegate {
    /// Where from.
    pub prefix: Prefix6,
    /// Length of what is delegated, not below that of `prefix`.
    pub length: DelegatedLength,
}

/// `[[network.reservation]]`: what a known server gets. It is known by exactly one of `mac`,
/// `interface-id` and `duid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reservation {
    /// By the MAC address of its frames, or as a relay tells it (RFC 6939).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// By the Interface-ID of the relay next to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_id: Option<InterfaceId>,
    /// By its DUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duid: Option<Duid>,
    /// With `duid`: only this identity association.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iaid: Option<Iaid>,
    /// Its addresses, in the order in which identity associations get them.
    pub addresses: Vec<Host6>,
    /// Its prefixes, the same way.
    pub prefixes: Vec<Prefix6>,
    /// What it boots; nothing for what others boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_file_url: Option<BootUrl>,
}

/// `[dhcpv6]`: the server. There is one if a network or a link has DHCPv6.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DhcpServer {
    /// Where leases are kept; `/var/lib/causeway/NAME/leases.db` by default.
    pub leases: AbsolutePath,
    /// Our DUID; nothing for the one that is kept with the leases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duid: Option<Duid>,
    /// The Preference option (RFC 9915 21.8); 255 by default, which ends the client's waiting.
    pub preference: ServerPreference,
    /// Leases of one client and kind, at most; 8 by default.
    pub per_client: PerClient,
    /// Leases altogether, at most; 1,000,000 by default.
    pub capacity: Leases,
    /// How long an address rests after its lease; 1 hour by default.
    pub hold: Rest,
    /// How long an address rests that a client declined; 1 day by default.
    pub decline_hold: Rest,
    /// How long it is kept who had which address; 365 days by default.
    pub history: History,
    /// Messages a second and worker, of all clients together; 50,000 by default.
    pub rate: PerSecond,
    /// Messages at once; 10,000 by default.
    pub burst: Messages,
    /// Messages a second of one MAC address; 20 by default.
    pub client_rate: PerSecond,
    /// Messages at once of one MAC address; 40 by default.
    pub client_burst: Messages,
    /// Links behind relays.
    #[serde(rename = "link")]
    pub links: Vec<RelayedLink>,
    /// The other gateway of a pair, which has the same leases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<LeasePeer>,
}

/// `[[dhcpv6.link]]`: a link behind relays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RelayedLink {
    /// Its name, unique among links and networks.
    pub name: Name,
    /// Its prefixes; the address by which a relay names the link is in one of them. At least one.
    pub prefixes: Vec<Prefix6>,
    /// NTP servers (RFC 5908).
    pub ntp: Vec<Host6>,
    /// The captive portal's API (RFC 8910 2.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captive_portal: Option<PortalUri>,
    /// What is leased.
    #[serde(flatten)]
    pub dhcpv6: Dhcpv6,
    /// Known servers.
    #[serde(rename = "reservation")]
    pub reservations: Vec<Reservation>,
}

/// `[dhcpv6.peer]`: the other gateway of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeasePeer {
    /// Where we wait for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<PeerAddress>,
    /// Where we look for it. One of the two is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<PeerAddress>,
    /// The file with what both know and nobody else does.
    pub secret_file: AbsolutePath,
    /// How long it has to acknowledge a change before the answer leaves without; 200 ms by default.
    pub ack_timeout: AckTimeout,
    /// How long after it was lost we give addresses to new clients again; 5 seconds by default.
    pub alone_after: AloneAfter,
}

/// `[vrrp]` (RFC 9568).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Vrrp {
    /// Priority; 100 by default.
    pub priority: VrrpPriority,
    /// Between two advertisements; 1 second by default.
    pub interval: VrrpInterval,
    /// Take over from an active router of lower priority; true by default.
    pub preempt: bool,
    /// How long to hear it before that; none by default.
    pub preempt_delay: Delay,
    /// The addresses answer for themselves also where we do not own them; true by default.
    pub accept: bool,
    /// How the checksum over IPv4 is computed.
    pub checksum4: Checksum4,
    /// The virtual routers; at least one, and at most one for each network and family.
    #[serde(rename = "router")]
    pub routers: Vec<VirtualRouter>,
    /// What lowers the priority.
    pub track: Track,
}

/// `[[vrrp.router]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VirtualRouter {
    /// The network that it is on.
    pub network: Name,
    /// Its identifier.
    pub vrid: Vrid,
    /// The family of its addresses; not written, but seen from them.
    pub family: AddressFamily,
    /// Its addresses, at least one, all of one family; of IPv6 the first is link-local.
    pub addresses: Vec<UnicastAddress>,
}

/// `[vrrp.track]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Track {
    /// With a link down there is no virtual router at all; true by default.
    pub link: bool,
    /// Routers that have to be reachable.
    pub next_hops: Vec<TrackedHop>,
    /// What a worker that does not poll takes from the priority; 50 by default.
    pub worker_penalty: Penalty,
    /// What a full flow table takes from it; 20 by default.
    pub table_penalty: Penalty,
}

/// A router that has to be reachable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrackedHop {
    /// Its address.
    pub address: IpAddr,
    /// The network that it is on.
    pub network: Name,
    /// What is taken from the priority while it is not reachable.
    pub penalty: Penalty,
}

/// Where leases are kept by default.
pub const STATE_DIR: &str = "/var/lib/causeway";

/// The default lease file of the gateway of this name.
#[must_use]
pub fn default_leases(name: &Name) -> std::path::PathBuf {
    std::path::Path::new(STATE_DIR).join(name.as_str()).join("leases.db")
}
