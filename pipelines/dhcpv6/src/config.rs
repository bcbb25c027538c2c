//! What is leased where, and what clients are told.

use causeway_core::{Duration, IfId, Prefix6};
use causeway_wire::MacAddr;
use std::net::Ipv6Addr;

/// A range of addresses to lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// The first.
    pub first: Ipv6Addr,
    /// The last, not below the first.
    pub last: Ipv6Addr,
}

/// A prefix from which prefixes are delegated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delegation {
    /// Where from.
    pub prefix: Prefix6,
    /// Length of what is delegated: not below that of `prefix`, at most 128.
    pub length: u8,
}

/// What a known server gets. The first of MAC address, interface-id and DUID that is given counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// By the link-layer address of its frames, or as a relay tells it (RFC 6939).
    pub mac: Option<MacAddr>,
    /// By the Interface-ID of the relay closest to it.
    pub interface_id: Option<Box<[u8]>>,
    /// By its DUID.
    pub duid: Option<Box<[u8]>>,
    /// With `duid`: only this identity association.
    pub iaid: Option<u32>,
    /// Its addresses, in the order in which identity associations get them.
    pub addresses: Vec<Ipv6Addr>,
    /// Its prefixes, in the order in which identity associations get them.
    pub prefixes: Vec<Prefix6>,
    /// Boot file URL of its own (RFC 5970 3.1).
    pub boot_file_url: Option<String>,
}

/// What clients are told besides their addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// DNS servers (RFC 3646 3).
    pub dns_servers: Vec<Ipv6Addr>,
    /// DNS search list (RFC 3646 4): ASCII names without a final dot.
    pub search: Vec<String>,
    /// NTP servers (RFC 5908): addresses.
    pub ntp_servers: Vec<Ipv6Addr>,
    /// Boot file URL (RFC 5970 3.1).
    pub boot_file_url: Option<String>,
    /// SOL_MAX_RT (RFC 9915 21.24): 60 to 86,400 s.
    pub sol_max_rt: Option<u32>,
    /// INF_MAX_RT (RFC 9915 21.25): 60 to 86,400 s.
    pub inf_max_rt: Option<u32>,
    /// Information refresh time (RFC 9915 21.23), seconds, at least 600.
    pub information_refresh: Option<u32>,
    /// Encrypted DNS resolvers, one encoded OPTION_V6_DNR content each (RFC 9463 4.1).
    pub encrypted_dns: Vec<Box<[u8]>>,
    /// URI of the captive portal's API (RFC 8910 2.2).
    pub captive_portal: Option<String>,
}

/// A link: a network of the gateway, or one behind relays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name: of the network, or as configured.
    pub name: Box<str>,
    /// The link of the interface, as [`Interface::link`](causeway_core::Interface::link) numbers it in every plan, if
    /// clients are on a network of the gateway; relays name it by an address in `prefixes`.
    pub link: Option<u32>,
    /// Prefixes that are on the link (RFC 9915 18.3.3: what Confirm is judged by).
    pub prefixes: Vec<Prefix6>,
    /// Addresses to lease to anybody. Empty: reservations only.
    pub pools: Vec<Pool>,
    /// Prefixes to delegate to anybody.
    pub delegations: Vec<Delegation>,
    /// Known servers.
    pub reservations: Vec<Reservation>,
    /// Addresses that are never leased: the gateway's own and other routers'.
    pub excluded: Vec<Ipv6Addr>,
    /// Preferred lifetime of leases.
    pub preferred: Duration,
    /// Valid lifetime of leases, not below the preferred one.
    pub valid: Duration,
    /// T1; nothing: half of the preferred lifetime (RFC 9915 21.4).
    pub t1: Option<Duration>,
    /// T2; nothing: four fifths of it.
    pub t2: Option<Duration>,
    /// Answer a Solicit with Rapid Commit by a Reply (RFC 9915 18.3.1).
    pub rapid_commit: bool,
    /// What clients are told.
    pub options: Options,
}

/// The server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Our DUID; empty only at workers, where the store made it: then the engine alone knows it. Of gateways that share their leases one and the same.
    pub server_duid: Box<[u8]>,
    /// Preference option of our Advertise (RFC 9915 21.8); 255 ends the client's waiting.
    pub preference: u8,
    /// The links.
    pub links: Vec<Link>,
    /// Interfaces whose relays are believed (RFC 9915 22: what a relay says of a client is taken for true, so a host
    /// must not be able to pose as one).
    pub relays: Vec<IfId>,
    /// Leases of one identity and kind, at most (1 to 64). The bound on what one client can take.
    pub per_client: u16,
    /// Leases altogether, at most. Half of them are set aside for the links in even parts, so that no link takes
    /// all; reservations are given in any case.
    pub capacity: u32,
    /// How long an address rests after its lease ended before somebody else gets it.
    pub hold: Duration,
    /// How long a declined address is left alone.
    pub decline_hold: Duration,
    /// Requests of one link-layer address a second, and at once; more are dropped by the worker.
    pub client_rate: (u32, u32),
    /// Requests a second and at once, of all together, per worker.
    pub rate: (u32, u32),
}
