//! Clients of DHCPv6, their messages as octets, a server for them, and leases that are there already.

use causeway_core::{Duration, IfId, Instant};
use causeway_dhcpv6::{
    Config, Identity, Kind, Lease, Link, Options, Pool, Request, State, UnixSeconds, message,
};
use causeway_wire::MacAddr;
use std::net::Ipv6Addr;

/// The first address of the pool.
const FIRST: u128 = 0x2001_0db8_0064_0000_0000_0000_1000_0000;
/// Addresses of the pool.
const POOL: u128 = 1 << 23;

/// A server with one network and one pool.
pub(crate) fn server(duid: &[u8]) -> Config {
    let link = Link {
        name: "tenant".into(),
        link: Some(0),
        prefixes: vec!["2001:db8:64::/64".parse().expect("a prefix")],
        pools: vec![Pool { first: FIRST.into(), last: (FIRST + POOL - 1).into() }],
        delegations: Vec::new(),
        reservations: Vec::new(),
        excluded: Vec::new(),
        preferred: Duration::from_secs(8 * 3600),
        valid: Duration::from_secs(12 * 3600),
        t1: None,
        t2: None,
        rapid_commit: false,
        options: Options { dns_servers: vec![Ipv6Addr::from(FIRST)], ..Options::default() },
    };
    Config {
        server_duid: duid.into(),
        preference: 255,
        links: vec![link],
        per_client: 8,
        capacity: 4_000_000,
        hold: Duration::from_secs(3600),
        decline_hold: Duration::from_secs(86_400),
        relays: vec![causeway_core::IfId(0), causeway_core::IfId(1), causeway_core::IfId(2)],
        client_rate: (1000, 1000),
        rate: (1_000_000, 1_000_000),
    }
}

pub(crate) fn mac(client: u32) -> MacAddr {
    let [a, b, c, d] = client.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

/// The client with this link-layer address.
pub(crate) fn client(mac: MacAddr) -> u32 {
    u32::from_be_bytes([mac.0[2], mac.0[3], mac.0[4], mac.0[5]])
}

fn duid(client: u32) -> Vec<u8> {
    [&[0, 1, 0, 1, 0x2d, 0, 0, 0][..], &mac(client).0].concat()
}

/// The client of lease number `n` of those that are there already.
pub(crate) const fn old_client(n: u32) -> u32 {
    u32::MAX - n
}

/// Lease number `n` of those that are there already.
pub(crate) fn old_lease(n: u32, now: UnixSeconds) -> Lease {
    let client = old_client(n);
    Lease {
        kind: Kind::Address,
        // From the end, so that the clients to come do not start in the midst of them.
        address: (FIRST + POOL - 1 - u128::from(n)).into(),
        length: 128,
        link: "tenant".into(),
        identity: Identity::Mac(mac(client)),
        duid: duid(client).into(),
        iaid: 1,
        mac: Some(mac(client)),
        state: State::Active,
        preferred_until: now + 8 * 3600,
        valid_until: now + 12 * 3600,
        since: now,
    }
}

/// A Solicit (without a server) or a Request (with one).
pub(crate) fn octets(client: u32, server: Option<&[u8]>) -> Vec<u8> {
    let option = |code: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&[0, code][..], &length, content].concat()
    };
    let [_, a, b, c] = client.to_be_bytes();
    let mut out = vec![if server.is_some() { 3 } else { 1 }, a, b, c];
    out.extend(option(1, &duid(client)));
    out.extend(server.map_or_else(Vec::new, |s| option(2, s)));
    out.extend(option(3, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
    out.extend(option(6, &[0, 23, 0, 24]));
    out
}

/// What a worker makes of a client's octets.
pub(crate) fn request(client: u32, octets: &[u8]) -> Request {
    Request {
        interface: IfId(0),
        link: 0,
        source: "fe80::1".parse().expect("an address"),
        source_port: 546,
        mac: mac(client),
        arrived: Instant::ZERO,
        worker: 0,
        received: message::parse(octets).expect("a good message"),
    }
}

/// Octets of memory that this process has (`VmRSS`), or had at most (`VmHWM`).
pub(crate) fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(what));
    line.and_then(|l| l.trim_start_matches(':').trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
        * 1024
}
