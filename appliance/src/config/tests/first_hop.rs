//! The settings of the first hop: DNS, router advertisements, DHCPv6, virtual routers.

use super::*;
use crate::plan::PortFacts;
use crate::plan::first_hop::{self, leased, ra_of, vrrp_of};
use causeway_core::IfId;
use causeway_wire::MacAddr;
use std::time::Duration;

mod bad;
mod lab;
mod told;
mod whole;

/// A gateway of a pair, with all that hosts boot with.
const PAIR: &str = include_str!("first_hop/pair.toml");

/// What DHCPv6 is told; link n is that of interface n.
fn dhcpv6_of(config: &Config, kept: &[u8]) -> Option<causeway_dhcpv6::Config> {
    first_hop::dhcpv6_of(config, kept, |id| Some(id.0.into()))
}

fn pair_with(from: &str, to: &str) -> String {
    assert!(PAIR.contains(from), "the configuration has no {from:?}");
    PAIR.replacen(from, to, 1)
}

fn ports() -> [PortFacts; 2] {
    let port = |name: &str, last| PortFacts {
        name: name.to_owned(),
        mac: MacAddr([2, 0, 0, 0, 0x64, last]),
        mtu: 1500,
    };
    [port("tenant0", 1), port("uplink0", 2)]
}

fn six(a: &str) -> Ipv6Addr {
    a.parse().unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn what_is_written_once_is_told_by_all_that_tell_it() {
    let c = parse(PAIR).unwrap_or_else(|e| panic!("{e}"));
    let ra = ra_of(&c);
    assert!(ra[1].is_none(), "an uplink");
    let ra = &ra[0].as_ref().unwrap().advertised;
    let dhcpv6 = dhcpv6_of(&c, b"kept").unwrap();
    let [link] = &dhcpv6.links[..] else { panic!("{:?}", dhcpv6.links) };
    let told = &link.options;
    assert_eq!(ra.dns_servers, [six("2001:db8:64::53")]);
    assert_eq!(told.dns_servers, ra.dns_servers);
    assert_eq!(ra.search, ["example"]);
    assert_eq!(told.search, ra.search);
    assert_eq!(ra.captive_portal.as_deref(), Some("https://portal.example/api"));
    assert_eq!(told.captive_portal, ra.captive_portal);
    assert_eq!((ra.encrypted_dns.len(), told.encrypted_dns.len()), (2, 2));
    // NAT64's prefix and the network's MTU are said where they belong, and nowhere else.
    let pref64 =
        causeway_ra::Pref64 { prefix: "2001:db8:64:ff9b::/96".parse().unwrap(), lifetime: secs(1800) };
    assert_eq!(ra.pref64, [pref64]);
    assert_eq!(ra.mtu, Some(1500));
    // All of it follows when the one place changes.
    let text = PAIR
        .replace("servers = [\"2001:db8:64::53\"]", "servers = [\"2001:db8:64::54\"]")
        .replace("search = [\"example\"]", "search = [\"a.example\", \"b.example\"]")
        .replace("https://portal.example/api", "https://p.example/")
        .replace(
            "prefixes = [\"2001:db8:64:ff9b::/96\"]",
            "prefixes = [\"2001:db8:64:ff9c::/96\", \"2001:db8:64:ff9b::/96\"]",
        )
        .replace("role = \"tenant\"", "role = \"tenant\"\nmtu = 1400");
    let c = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let ra = ra_of(&c)[0].clone().unwrap().advertised;
    let told = dhcpv6_of(&c, b"kept").unwrap().links.remove(0).options;
    assert_eq!((&ra.dns_servers, &ra.search), (&told.dns_servers, &told.search));
    assert_eq!((ra.dns_servers, ra.search.len(), ra.mtu), (vec![six("2001:db8:64::54")], 2, Some(1400)));
    assert_eq!(ra.captive_portal, told.captive_portal);
    let prefixes: Vec<String> = ra.pref64.iter().map(|p| p.prefix.to_string()).collect();
    assert_eq!(prefixes, ["2001:db8:64:ff9c::/96"], "the first is announced, the others still work");
}

#[test]
fn rfc9568_5_1_virtual_routers_speak_from_the_gateways_own_addresses() {
    let c = parse(PAIR).unwrap();
    let vrrp = vrrp_of(&c, &ports()).unwrap();
    let said: Vec<(IfId, u8, String, String)> = vrrp
        .routers
        .iter()
        .map(|r| (r.interface, r.vrid, r.source.to_string(), r.mac().to_string()))
        .collect();
    let row = |id, source: &str, mac: &str| (IfId(id), 64, source.to_owned(), mac.to_owned());
    assert_eq!(
        said,
        [
            row(0, "fe80::ff:fe00:6401", "00:00:5e:00:02:40"),
            row(1, "fe80::ff:fe00:6402", "00:00:5e:00:02:40"),
            row(1, "192.0.2.3", "00:00:5e:00:01:40"),
        ]
    );
    assert_eq!(
        vrrp.routers[0].addresses,
        ["fe80::1", "2001:db8:64::1", "2001:db8:64::53"].map(|a| a.parse::<IpAddr>().unwrap())
    );
    assert_eq!((vrrp.priority, vrrp.interval_cs, vrrp.preempt, vrrp.accept), (100, 100, true, true));
    assert_eq!((vrrp.preempt_delay, vrrp.checksum4), (Duration::ZERO, causeway_vrrp::Peer4Checksum::Rfc9568));
    // What the file says of the link-local address goes before what follows from the MAC address.
    let said = pair_with("port = \"tenant0\"\n", "port = \"tenant0\"\nlink-local = \"fe80::3\"\n");
    let vrrp = vrrp_of(&parse(&said).unwrap(), &ports()).unwrap();
    assert_eq!(vrrp.routers[0].source.to_string(), "fe80::3");
    assert!(vrrp_of(&parse(LAB).unwrap(), &ports()).is_none());
    // The networks know what moves.
    let [tenant, uplink] = &c.networks[..] else { panic!() };
    assert_eq!(tenant.virtual_link_local, Some(six("fe80::1")));
    let own: Vec<String> = tenant.virtual6.iter().map(ToString::to_string).collect();
    assert_eq!(own, ["2001:db8:64::1/64", "2001:db8:64::53/64"]);
    let own: Vec<String> = uplink.virtual4.iter().map(ToString::to_string).collect();
    assert_eq!(own, ["192.0.2.2/24"]);
}

#[test]
fn leased_networks_and_what_is_delegated_are_known_to_forwarding() {
    let c = parse(PAIR).unwrap();
    assert_eq!(leased(&c).collect::<Vec<_>>(), [IfId(0)]);
    assert!(leased(&parse(LAB).unwrap()).next().is_none());
    let sources: Vec<String> = c.networks[0].sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["2001:db8:64::/64", "2001:db8:64:8000::/56"]);
    assert_eq!(dhcpv6_of(&c, b"kept").unwrap().server_duid[..], *b"kept");
    assert_eq!(ra_of(&c)[0].as_ref().unwrap().min_interval, secs(198));
}

/// Of the example with every setting switched on, and of the example as it is.
pub(super) fn the_examples_settings_are_defaults(all: &Config, plain: &Config) {
    let ra = |c: &Config| c.networks[0].ra.clone().unwrap();
    let without = Ra {
        // The example has a further prefix, which is not on the link unless it is switched on.
        prefixes: ra(all)
            .prefixes
            .into_iter()
            .filter(|p| p.prefix != "2001:db8:101::/64".parse().unwrap())
            .collect(),
        routes: Vec::new(),
        reachable_time: None,
        retransmit_time: None,
        ..ra(all)
    };
    assert_eq!(without, ra(plain));
    let [_, other] = ra(all).prefixes[..] else { panic!("{:?}", ra(all).prefixes) };
    assert_eq!(RaPrefix { prefix: other.prefix, ..ra(plain).prefixes[0] }, other);
    assert_eq!(ra(all).routes[0].lifetime.seconds(), 1800);
    let dhcpv6 = |c: &Config| c.networks[0].dhcpv6.clone().unwrap();
    let d = dhcpv6(all);
    assert_eq!(d.t1.map(LeaseLifetime::duration), Some(d.preferred_lifetime.duration() / 2));
    assert_eq!(d.t2.map(LeaseLifetime::duration), Some(d.preferred_lifetime.duration() * 4 / 5));
    let without = Dhcpv6 {
        delegate: Vec::new(),
        t1: None,
        t2: None,
        boot_file_url: None,
        sol_max_rt: None,
        inf_max_rt: None,
        information_refresh: None,
        ..d
    };
    assert_eq!(without, dhcpv6(plain));
    let server = all.dhcpv6.clone().unwrap();
    let peer = server.peer.clone().unwrap();
    assert_eq!(
        (peer.ack_timeout.duration(), peer.alone_after.duration()),
        (Duration::from_millis(200), secs(5))
    );
    let without = DhcpServer { duid: None, links: Vec::new(), peer: None, ..server };
    assert_eq!(Some(without), plain.dhcpv6);
    assert_eq!(all.networks[0].source_validation, plain.networks[0].source_validation);
    // A virtual router has no default for what it is, but all for how it behaves.
    let text = format!(
        "{LAB}\n[vrrp]\n[[vrrp.router]]\nnetwork = \"uplink0\"\nvrid = 64\naddresses = [\"192.0.2.15\"]\n"
    );
    let bare = parse(&text).unwrap().vrrp.unwrap();
    let v = all.vrrp.clone().unwrap();
    let track = Track { next_hops: Vec::new(), ..v.track };
    assert_eq!(Vrrp { routers: bare.routers.clone(), track, ..v }, bare);
    assert!(plain.vrrp.is_none());
}
