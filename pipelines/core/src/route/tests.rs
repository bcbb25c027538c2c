use super::*;
use crate::net::Role;
use causeway_wire::MacAddr;
use proptest::prelude::*;

fn interface(name: &str, six: &[&str], four: &[&str]) -> Interface {
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    Interface {
        name: name.to_owned(),
        port: 0,
        vlan: None,
        role: Role::Uplink,
        mac,
        mtu: 1500,
        link_local: mac.link_local(),
        addrs6: six.iter().map(|t| split6(t)).collect(),
        addrs4: four.iter().map(|t| split4(t)).collect(),
        service6: Vec::new(),
        proxy4: Vec::new(),
        sources6: Vec::new(),
        ..Interface::default()
    }
}

fn split6(t: &str) -> (Ipv6Addr, Prefix6) {
    let (a, len) = t.split_once('/').unwrap();
    let a = a.parse().unwrap();
    (a, Prefix6::containing(a, len.parse().unwrap()).unwrap())
}

fn split4(t: &str) -> (Ipv4Addr, Prefix4) {
    let (a, len) = t.split_once('/').unwrap();
    let a = a.parse().unwrap();
    (a, Prefix4::containing(a, len.parse().unwrap()).unwrap())
}

/// Tenant 0 and uplink 1.
fn two() -> Interfaces {
    Interfaces::new(vec![
        interface("tenant0", &["2001:db8:64::1/64"], &[]),
        interface("uplink0", &["2001:db8:ffff::2/64"], &["192.0.2.2/24"]),
    ])
}

fn via6(prefix: &str, gateway: &str, interface: Option<u16>) -> Route6 {
    let target = Target::Via { gateway: gateway.parse().unwrap(), interface: interface.map(IfId) };
    Route { prefix: prefix.parse().unwrap(), target }
}

fn via4(prefix: &str, gateway: &str) -> Route4 {
    let target = Target::Via { gateway: gateway.parse().unwrap(), interface: None };
    Route { prefix: prefix.parse().unwrap(), target }
}

fn to6(interface: u16, via: &str) -> Option<Egress> {
    Some(Egress::new(IfId(interface), Via::Ip6(via.parse().unwrap())))
}

fn to4(interface: u16, via: &str) -> Option<Egress> {
    Some(Egress::new(IfId(interface), Via::Ip4(via.parse().unwrap())))
}

#[test]
fn no_routes_know_nothing() {
    let r = Routes::default();
    assert_eq!(r.lookup6("2001:db8::1".parse().unwrap()), None);
    assert_eq!(r.lookup4("192.0.2.1".parse().unwrap()), None);
    assert_eq!(r.count(), (0, 0));
}

#[test]
fn rfc4291_2_5_the_longest_prefix_decides() {
    let refused = Route { prefix: "2001:db8:bad::/48".parse().unwrap(), target: Target::Unreachable };
    let on_link = Route { prefix: "2001:db8:64:8001::/64".parse().unwrap(), target: Target::OnLink(IfId(0)) };
    let r = Routes::build(
        &two(),
        &[
            via6("::/0", "2001:db8:ffff::1", None),
            via6("2001:db8:64:8000::/56", "2001:db8:64::101", None),
            via6("2001:db8:bad:1::/64", "fe80::1", Some(1)),
            on_link,
            refused,
        ],
        &[via4("0.0.0.0/0", "192.0.2.1"), via4("198.51.100.0/24", "192.0.2.9")],
    )
    .unwrap();
    let at6 = |a: &str| r.lookup6(a.parse().unwrap());
    let at4 = |a: &str| r.lookup4(a.parse().unwrap());
    assert_eq!(at6("2001:db8:64::101"), to6(0, "2001:db8:64::101"), "on-link goes to itself");
    assert_eq!(at6("2001:db8:64:8000::5"), to6(0, "2001:db8:64::101"));
    assert_eq!(at6("2001:db8:64:8001::5"), to6(0, "2001:db8:64:8001::5"));
    assert_eq!(at6("2001:db8:6::10"), to6(1, "2001:db8:ffff::1"));
    assert_eq!(at6("2001:db8:bad:1::1"), to6(1, "fe80::1"));
    assert_eq!(at6("2001:db8:bad:2::1"), None);
    assert_eq!(r.next6("2001:db8:bad:2::1".parse().unwrap()), Next::Unreachable);
    assert_eq!(at4("192.0.2.77"), to4(1, "192.0.2.77"));
    assert_eq!(at4("198.51.100.10"), to4(1, "192.0.2.9"));
    assert_eq!(at4("203.0.113.1"), to4(1, "192.0.2.1"));
    assert_eq!(r.count(), (7, 5));
}

#[test]
fn rfc4291_2_5_6_a_default_route_does_not_catch_link_local_or_groups() {
    let r =
        Routes::build(&two(), &[via6("::/0", "2001:db8:ffff::1", None)], &[via4("0.0.0.0/0", "192.0.2.1")])
            .unwrap();
    for a in ["fe80::1", "febf::1", "ff02::1", "ff0e::1"] {
        assert_eq!(r.next6(a.parse().unwrap()), Next::NoRoute, "{a}");
    }
    for a in ["224.0.0.1", "255.255.255.255", "240.0.0.1"] {
        assert_eq!(r.next4(a.parse().unwrap()), Next::NoRoute, "{a}");
    }
}

#[test]
fn rfc2644_2_broadcast_addresses_of_connected_networks_are_refused() {
    let r = Routes::build(&two(), &[], &[via4("0.0.0.0/0", "192.0.2.1")]).unwrap();
    assert_eq!(r.next4("192.0.2.255".parse().unwrap()), Next::Unreachable);
    assert_eq!(r.next4("192.0.2.0".parse().unwrap()), Next::Unreachable);
    let own = Route { prefix: "192.0.2.255/32".parse().unwrap(), target: Target::OnLink(IfId(1)) };
    let r = Routes::build(&two(), &[], &[own]).unwrap();
    assert_eq!(r.lookup4("192.0.2.255".parse().unwrap()), to4(1, "192.0.2.255"));
}

#[test]
fn routes_that_cannot_be_obeyed_are_refused_by_name() {
    let six = |r: Route6| Routes::build(&two(), &[r], &[]).unwrap_err().to_string();
    let four = |r: Route4| Routes::build(&two(), &[], &[r]).unwrap_err().to_string();
    let says = |e: String, word: &str| assert!(e.contains(word), "{e}");
    says(six(via6("2001:db8:1::/48", "2001:db8:9::1", None)), "gateway 2001:db8:9::1 is in no prefix");
    says(six(via6("2001:db8:1::/48", "2001:db8:64::5", Some(1))), "in no prefix");
    says(six(via6("2001:db8:1::/48", "fe80::1", None)), "name the interface");
    says(six(via6("2001:db8:1::/48", "2001:db8:64::1", None)), "our own");
    says(six(via6("2001:db8:1::/48", "ff02::1", None)), "no unicast");
    says(six(via6("2001:db8:1::/48", "::", None)), "no unicast");
    says(six(via6("2001:db8:1::/48", "fe80::1", Some(7))), "no interface number 7");
    says(six(via6("2001:db8:64::/64", "2001:db8:64::5", None)), "two routes to 2001:db8:64::/64");
    says(six(via6("fe80::/10", "2001:db8:64::5", None)), "cannot be routed");
    says(six(via6("ff0e::/16", "2001:db8:64::5", None)), "cannot be routed");
    says(four(via4("203.0.113.0/24", "198.51.100.1")), "in no prefix");
    says(four(via4("203.0.113.0/24", "192.0.2.2")), "our own");
    says(four(via4("203.0.113.0/24", "255.255.255.255")), "no unicast");
    says(four(via4("192.0.2.0/24", "192.0.2.1")), "two routes to 192.0.2.0/24");
    says(four(via4("224.0.0.0/4", "192.0.2.1")), "cannot be routed");
    let twice = Routes::build(
        &two(),
        &[via6("::/0", "2001:db8:ffff::1", None), via6("::/0", "2001:db8:64::5", None)],
        &[],
    );
    says(twice.unwrap_err().to_string(), "two routes to ::/0");
    let both = Interfaces::new(vec![
        interface("a", &["2001:db8::1/64"], &[]),
        interface("b", &["2001:db8::2/64"], &[]),
    ]);
    says(Routes::build(&both, &[], &[]).unwrap_err().to_string(), "two routes to 2001:db8::/64");
    let overlap = Interfaces::new(vec![
        interface("a", &["2001:db8::1/64"], &[]),
        interface("b", &["2001:db8::2/48"], &[]),
    ]);
    let r = via6("2001:db8:1::/64", "2001:db8::9", None);
    says(Routes::build(&overlap, &[r], &[]).unwrap_err().to_string(), "name the interface");
    assert!(Routes::build(&overlap, &[via6("2001:db8:1::/64", "2001:db8::9", Some(1))], &[]).is_ok());
}

#[test]
fn a_gateway_may_be_in_a_prefix_that_a_route_calls_on_link() {
    let on_link = Route { prefix: "2001:db8:70::/64".parse().unwrap(), target: Target::OnLink(IfId(0)) };
    let r = Routes::build(&two(), &[via6("2001:db8:71::/64", "2001:db8:70::9", None), on_link], &[]).unwrap();
    assert_eq!(r.lookup6("2001:db8:71::1".parse().unwrap()), to6(0, "2001:db8:70::9"));
    let on_link = Route { prefix: "198.51.100.0/24".parse().unwrap(), target: Target::OnLink(IfId(1)) };
    let r = Routes::build(&two(), &[], &[on_link, via4("203.0.113.0/24", "198.51.100.9")]).unwrap();
    assert_eq!(r.lookup4("203.0.113.1".parse().unwrap()), to4(1, "198.51.100.9"));
    assert_eq!(r.next4("198.51.100.255".parse().unwrap()), Next::Unreachable);
}

#[test]
fn two_addresses_in_one_connected_prefix_are_one_route() {
    let i = Interfaces::new(vec![interface(
        "a",
        &["2001:db8::1/64", "2001:db8::2/64"],
        &["192.0.2.1/24", "192.0.2.2/24"],
    )]);
    assert_eq!(Routes::build(&i, &[], &[]).unwrap().count(), (1, 3));
}

#[test]
fn a_hundred_thousand_delegated_prefixes_are_found_in_short_runs() {
    let base: Ipv6Addr = "2001:db8::".parse().unwrap();
    let six: Vec<Route6> = (1..=100_000u128)
        .map(|n| Route {
            prefix: Prefix6::new(Ipv6Addr::from_bits(base.to_bits() | n << 64), 64).unwrap(),
            target: Target::OnLink(IfId(u16::from(n % 2 == 0))),
        })
        .collect();
    let i = Interfaces::new(vec![interface("a", &[], &[]), interface("b", &[], &[])]);
    let r = Routes::build(&i, &six, &[]).unwrap();
    for route in &six {
        let a = Ipv6Addr::from_bits(route.prefix.address().to_bits() | 0x1234);
        let Target::OnLink(interface) = route.target else { unreachable!() };
        assert_eq!(r.lookup6(a), Some(Egress::new(interface, Via::Ip6(a))));
    }
    assert_eq!(r.lookup6(Ipv6Addr::from_bits(base.to_bits() | 100_001u128 << 64)), None);
    let Level::Short { slots, .. } = &r.six.levels[0] else { panic!("64 bits are few") };
    let longest = slots.slots.split(|s| !s.used).map(<[Slot<u64>]>::len).max().unwrap();
    assert!(longest < 64, "a run of {longest}");
}

/// Words in which prefixes nest and repeat often.
fn word() -> impl Strategy<Value = u128> {
    prop_oneof![
        any::<u128>(),
        (0u128..4, 0u32..128).prop_map(|(n, at)| n.rotate_left(at)),
        (0u32..=128).prop_map(|n| u128::MAX.checked_shl(n).unwrap_or(0)),
    ]
}

proptest! {
    #[test]
    fn every_answer_is_that_of_a_linear_scan(
        prefixes in proptest::collection::vec((0u8..=128, word()), 0..40),
        asked in proptest::collection::vec(word(), 1..40),
    ) {
        let mask = |len: u8| u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        let table: Table = prefixes.iter().enumerate()
            .map(|(n, (len, bits))| ((*len, bits & mask(*len)), Hop::OnLink(IfId(n as u16)))).collect();
        let lpm = Lpm::build(&table);
        // The words asked for, and those next to every edge of a prefix.
        let edges = prefixes.iter().flat_map(|(len, bits)| {
            let (first, last) = (bits & mask(*len), bits | !mask(*len));
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
        });
        for a in asked.into_iter().chain(edges) {
            let longest = table.iter().filter(|((len, bits), _)| a & mask(*len) == *bits).max_by_key(|((len, _), _)| *len);
            prop_assert_eq!(lpm.lookup(a), longest.map(|(_, hop)| *hop), "{:032x}", a);
        }
    }

    #[test]
    fn no_table_is_more_than_half_full(prefixes in proptest::collection::vec((1u8..=128, any::<u128>()), 0..300)) {
        let table: Table = prefixes.iter()
            .map(|(len, bits)| ((*len, bits & u128::MAX << (128 - len)), Hop::Unreachable)).collect();
        let lpm = Lpm::build(&table);
        for level in &lpm.levels {
            let (used, all) = match level {
                Level::Short { slots: s, .. } => (s.slots.iter().filter(|s| s.used).count(), s.slots.len()),
                Level::Long { slots: s, .. } => (s.slots.iter().filter(|s| s.used).count(), s.slots.len()),
            };
            prop_assert!(used * 2 <= all);
        }
    }
}
