//! What the stages are told of the settings.

use super::*;

/// Keys of `[network.ra]`, none of them its default.
const RA_KEYS: &str = "managed = false\nother = false\nrouter-lifetime = \"1h\"\npreference = \"high\"\n\
    max-interval = \"20s\"\nmin-interval = \"5s\"\nhop-limit = 0\nmtu = false\nlink-layer = false\npref64 = false\n\
    dns = false\ndns-lifetime = \"infinite\"\nsolicited = \"multicast\"\nreachable-time = \"40s\"\n\
    retransmit-time = \"250ms\"\non-link = false\nautonomous = true\nvalid-lifetime = \"infinite\"\n\
    preferred-lifetime = \"1d\"\n\
    route = [{ prefix = \"2001:db8:6::/48\", preference = \"low\", lifetime = \"0s\" }, { prefix = \"fd00::/8\" }]\n";

#[test]
fn every_setting_of_router_advertisements_reaches_them() {
    use causeway_ra::{Advertised, Preference, PrefixInfo, RouteInfo};
    let text = pair_with("[network.ra]\n", &format!("[network.ra]\n{RA_KEYS}"));
    let c = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let ra = ra_of(&c)[0].clone().unwrap();
    let route = |prefix: &str, preference, lifetime| RouteInfo {
        prefix: prefix.parse().unwrap(),
        preference,
        lifetime: secs(lifetime),
    };
    assert_eq!(
        ra,
        causeway_ra::Config {
            advertised: Advertised {
                hop_limit: 0,
                managed: false,
                other: false,
                preference: Preference::High,
                router_lifetime: secs(3600),
                reachable_time: secs(40),
                retransmit_time: Duration::from_millis(250),
                mtu: None,
                link_layer: false,
                prefixes: vec![PrefixInfo {
                    prefix: "2001:db8:64::/64".parse().unwrap(),
                    on_link: false,
                    autonomous: true,
                    valid: secs(0xffff_ffff),
                    preferred: secs(86_400),
                }],
                routes: vec![
                    route("2001:db8:6::/48", Preference::Low, 0),
                    route("fd00::/8", Preference::Medium, 60)
                ],
                dns_servers: Vec::new(),
                search: Vec::new(),
                dns_lifetime: secs(0xffff_ffff),
                encrypted_dns: Vec::new(),
                pref64: Vec::new(),
                captive_portal: Some("https://portal.example/api".to_owned()),
            },
            max_interval: secs(20),
            min_interval: secs(5),
            unicast: false,
        }
    );
}

#[test]
fn router_advertisements_have_the_labs_defaults() {
    let c = parse(PAIR).unwrap();
    let ra = ra_of(&c)[0].clone().unwrap();
    let a = &ra.advertised;
    // DESIGN: M, O, the prefix without A, and the resolver.
    assert_eq!((a.managed, a.other, a.hop_limit, a.link_layer), (true, true, 64, true));
    let [p] = a.prefixes[..] else { panic!("{:?}", a.prefixes) };
    assert_eq!((p.on_link, p.autonomous), (true, false));
    // RFC 4861 6.2.1: 30 days and 7 days; RFC 8106 5.1: three times the longest interval.
    assert_eq!((p.valid, p.preferred, a.dns_lifetime), (secs(30 * 86_400), secs(7 * 86_400), secs(1800)));
    assert_eq!((a.router_lifetime, ra.max_interval, ra.unicast), (secs(1800), secs(600), true));
    assert_eq!(ra.check(1500), Ok(()));
}

#[test]
fn one_prefix_is_told_in_another_way() {
    let text = pair_with("on-link = [\"2001:db8:64::/64\"]", "on-link = [\"2001:db8:64::/64\", \"2001:db8:65::/64\"]")
        .replace(
            "[network.ra]\n",
            "[network.ra]\npreferred-lifetime = \"2d\"\nprefix = [{ prefix = \"2001:db8:65::/64\", autonomous = true, valid-lifetime = \"1d\" }]\n",
        );
    let c = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let said: Vec<(String, bool, Duration, Duration)> = ra_of(&c)[0]
        .as_ref()
        .unwrap()
        .advertised
        .prefixes
        .iter()
        .map(|p| (p.prefix.to_string(), p.autonomous, p.valid, p.preferred))
        .collect();
    let day = 86_400;
    assert_eq!(
        said,
        [
            ("2001:db8:64::/64".to_owned(), false, secs(30 * day), secs(2 * day)),
            // What is not said is as for others, but never longer than valid.
            ("2001:db8:65::/64".to_owned(), true, secs(day), secs(day)),
        ]
    );
}

#[test]
fn rfc8781_4_the_nat64_prefix_is_told_for_three_intervals_and_no_longer_than_can_be_said() {
    let c = parse(&pair_with("[network.ra]\n", "[network.ra]\nmax-interval = \"18h\"\n")).unwrap();
    let ra = ra_of(&c)[0].clone().unwrap().advertised;
    assert_eq!(ra.pref64[0].lifetime, secs(65_528));
    assert_eq!(ra.router_lifetime, secs(65_535));
}

#[test]
fn every_setting_of_dhcpv6_reaches_it() {
    use causeway_dhcpv6::{Delegation, Pool, Reservation};
    let keys = "valid-lifetime = \"2h\"\npreferred-lifetime = \"1h\"\nt1 = \"10m\"\nt2 = \"20m\"\nrapid-commit = true\n\
                boot-file-url = \"http://[2001:db8:64::80]/a\"\nsol-max-rt = \"1h\"\ninf-max-rt = \"2h\"\n\
                information-refresh = \"1d\"\n";
    let reservations = "[[network.reservation]]\ninterface-id = \"ge-0/0/1\"\naddresses = [\"2001:db8:64::103\"]\n\
                        boot-file-url = \"tftp://boot.example/b\"\n\
                        [[network.reservation]]\nduid = \"00:03:00:01:02:00\"\niaid = 7\nprefixes = [\"2001:db8:64:8001::/64\", \"2001:db8:64:9000::/60\"]\n";
    let server = "[dhcpv6]\nduid = \"00030001020000000001\"\npreference = 1\nper-client = 2\ncapacity = 3\nhold = \"4s\"\n\
                  decline-hold = \"5s\"\nrate = 6\nburst = 7\nclient-rate = 8\nclient-burst = 9\n\
                  [[dhcpv6.link]]\nname = \"far\"\nprefixes = [\"2001:db8:200::/64\"]\nntp = [\"2001:db8:200::7\"]\nrapid-commit = true\n\
                  [[dhcpv6.link.reservation]]\nmac = \"02:00:00:00:01:01\"\naddresses = [\"2001:db8:200::1\"]\n";
    let text = pair_with("[dhcpv6.peer]", &format!("{server}[dhcpv6.peer]"))
        .replacen("[network.dhcpv6]\n", &format!("[network.dhcpv6]\n{keys}"), 1)
        .replacen("[[network.reservation]]\n", &format!("{reservations}[[network.reservation]]\n"), 1);
    let c = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let d = dhcpv6_of(&c, b"kept").unwrap();
    assert_eq!(d.server_duid[..], [0, 3, 0, 1, 2, 0, 0, 0, 0, 1]);
    assert_eq!((d.preference, d.per_client, d.capacity), (1, 2, 3));
    assert_eq!((d.hold, d.decline_hold, d.rate, d.client_rate), (secs(4), secs(5), (6, 7), (8, 9)));
    let [near, far] = &d.links[..] else { panic!("{:?}", d.links) };
    assert_eq!((&*near.name, near.link, &*far.name, far.link), ("tenant0", Some(0), "far", None));
    assert_eq!(near.prefixes, ["2001:db8:64::/64".parse().unwrap()]);
    assert_eq!(near.pools, [Pool { first: six("2001:db8:64::1000"), last: six("2001:db8:64::1fff") }]);
    let delegation = Delegation { prefix: "2001:db8:64:8000::/56".parse().unwrap(), length: 64 };
    assert_eq!(near.delegations, [delegation]);
    assert_eq!((near.valid, near.preferred), (secs(7200), secs(3600)));
    assert_eq!((near.t1, near.t2, near.rapid_commit), (Some(secs(600)), Some(secs(1200)), true));
    let o = &near.options;
    assert_eq!(o.ntp_servers, [six("2001:db8:64::123")]);
    assert_eq!((o.sol_max_rt, o.inf_max_rt, o.information_refresh), (Some(3600), Some(7200), Some(86_400)));
    assert_eq!(o.boot_file_url.as_deref(), Some("http://[2001:db8:64::80]/a"));
    assert_eq!(near.reservations.len(), 4);
    let none = Reservation {
        mac: None,
        interface_id: None,
        duid: None,
        iaid: None,
        addresses: Vec::new(),
        prefixes: Vec::new(),
        boot_file_url: None,
    };
    assert_eq!(
        near.reservations[0],
        Reservation {
            interface_id: Some((*b"ge-0/0/1").into()),
            addresses: vec![six("2001:db8:64::103")],
            boot_file_url: Some("tftp://boot.example/b".to_owned()),
            ..none.clone()
        }
    );
    let prefixes = ["2001:db8:64:8001::/64", "2001:db8:64:9000::/60"].map(|p| p.parse().unwrap());
    assert_eq!(
        near.reservations[1],
        Reservation {
            duid: Some([0, 3, 0, 1, 2, 0].into()),
            iaid: Some(7),
            prefixes: prefixes.into(),
            ..none.clone()
        }
    );
    assert_eq!(
        near.reservations[2],
        Reservation {
            mac: Some(MacAddr([2, 0, 0, 0, 1, 1])),
            addresses: vec![six("2001:db8:64::101")],
            ..none
        }
    );
    // The link behind a relay has what is its own, and DNS like all.
    assert_eq!((far.rapid_commit, far.t1, far.valid), (true, None, secs(12 * 3600)));
    assert_eq!(far.options.ntp_servers, [six("2001:db8:200::7")]);
    assert_eq!(far.options.dns_servers, o.dns_servers);
    assert_eq!((far.options.captive_portal.as_ref(), far.options.boot_file_url.as_ref()), (None, None));
    // What is delegated to known servers is a source as well, if it is not in one already.
    let sources: Vec<String> = c.networks[0].sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["2001:db8:64::/64", "2001:db8:64:8000::/56", "2001:db8:64:9000::/60"]);
}

#[test]
fn without_dhcpv6_there_is_no_server() {
    assert_eq!(dhcpv6_of(&parse(LAB).unwrap(), b""), None);
    assert!(ra_of(&parse(LAB).unwrap()).iter().all(Option::is_none));
}

#[test]
fn addresses_that_somebody_has_are_never_leased() {
    let text = pair_with("on-link = [\"2001:db8:64::/64\"]", "addresses6 = [\"2001:db8:64::3/64\"]")
        .replace("via = \"2001:db8:ffff::1\"", "via = \"2001:db8:64::4\"")
        // A reserved address may be a server's that hosts are told.
        .replace(
            "servers = [\"2001:db8:64::53\"]",
            "servers = [\"2001:db8:64::53\", \"2001:db8:64::101\", \"2001:db8:9::53\"]",
        );
    let c = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let excluded = dhcpv6_of(&c, b"").unwrap().links.remove(0).excluded;
    let expected = ["3", "1", "53", "4", "123", ""].map(|last| six(&format!("2001:db8:64::{last}")));
    assert_eq!(excluded, expected);
}

#[test]
fn rfc5453_3_reserved_identifiers_are_never_leased() {
    let text = pair_with(
        "2001:db8:64::1000-2001:db8:64::1fff",
        "2001:db8:64:0:fdff:ffff:ffff:ff00-2001:db8:64:0:fdff:ffff:ffff:ff81",
    );
    let excluded = dhcpv6_of(&parse(&text).unwrap(), b"").unwrap().links.remove(0).excluded;
    let reserved: Vec<&Ipv6Addr> = excluded.iter().filter(|a| a.segments()[4] == 0xfdff).collect();
    assert_eq!(
        reserved,
        [&six("2001:db8:64:0:fdff:ffff:ffff:ff80"), &six("2001:db8:64:0:fdff:ffff:ffff:ff81")]
    );
}

#[test]
fn rfc9463_4_1_an_encrypted_resolver_is_encoded_for_dhcpv6() {
    let options = dhcpv6_of(&parse(PAIR).unwrap(), b"").unwrap().links.remove(0).options;
    let server = "2001:db8:64::53".parse::<Ipv6Addr>().unwrap().octets();
    let mut dot = b"\x00\x01\x00\x0d\x03dns\x07example\x00\x00\x10".to_vec();
    dot.extend(server);
    dot.extend(b"\x00\x01\x00\x04\x03dot");
    assert_eq!(options.encrypted_dns[0][..], dot);
    let mut doh = b"\x00\x02\x00\x0d\x03doh\x07example\x00\x00\x20".to_vec();
    doh.extend(server);
    doh.extend(six("2001:db8:6::53").octets());
    // RFC 9460 2.2: keys in rising order: alpn, port, dohpath.
    doh.extend(b"\x00\x01\x00\x06\x02h2\x02h3\x00\x03\x00\x02\x20\xfb\x00\x07\x00\x10/dns-query{?dns}");
    assert_eq!(options.encrypted_dns[1][..], doh);
}

#[test]
fn every_setting_of_virtual_routers_reaches_them() {
    let keys = "priority = 150\ninterval = \"30ms\"\npreempt = false\npreempt-delay = \"5s\"\naccept = false\n\
                checksum4 = \"pseudo-header\"\n[vrrp.track]\nlink = false\nworker-penalty = 1\ntable-penalty = 2\n\
                next-hops = [{ address = \"192.0.2.1\", penalty = 3 }, { address = \"fe80::99\", network = \"uplink0\", penalty = 4 }]\n";
    let c = parse(&pair_with("[vrrp]\n", &format!("[vrrp]\n{keys}"))).unwrap_or_else(|e| panic!("{e}"));
    let v = vrrp_of(&c, &ports()).unwrap();
    assert_eq!((v.priority, v.interval_cs, v.preempt, v.accept), (150, 3, false, false));
    assert_eq!(
        (v.preempt_delay, v.checksum4, v.routers.len()),
        (secs(5), causeway_vrrp::Peer4Checksum::PseudoHeader, 3)
    );
    let track = &c.vrrp.as_ref().unwrap().track;
    assert_eq!((track.link, track.worker_penalty.get(), track.table_penalty.get()), (false, 1, 2));
    let hops: Vec<(String, &str, u8)> = track
        .next_hops
        .iter()
        .map(|hop| (hop.address.to_string(), hop.network.as_str(), hop.penalty.get()))
        .collect();
    assert_eq!(hops, [("192.0.2.1".to_owned(), "uplink0", 3), ("fe80::99".to_owned(), "uplink0", 4)]);
}
