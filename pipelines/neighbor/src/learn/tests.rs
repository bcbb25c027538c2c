use super::*;
use crate::resolve::tests::{Gate, TENANT_MAC, VM1};
use crate::{Config, Resolution};
use causeway_core::{DropReason, Duration, Prefix6, Validation, Verdict};
use causeway_flowtable::Bindings;
use causeway_testkit::{ip6, lab_interfaces, mac};
use std::sync::Arc;

const GW: &str = "2001:db8:64::1";
const VM2: &str = "2001:db8:64::102";
const NOBODY: &str = "2001:db8:64::dead";

/// The lab, where `tenant0` has this setting; vm1 has a lease at mac 1 and vm2 at mac 2.
fn gate(config: Config, validation: Validation) -> (Gate, Arc<Bindings>) {
    let mut g = Gate::new(config);
    let mut list = lab_interfaces();
    list[0].validation = validation;
    g.set_interfaces(list);
    let b = Arc::new(Bindings::new(10_000, [1, 2]).unwrap());
    bind(&b, VM1, 1);
    bind(&b, VM2, 2);
    g.n.set_bindings(Some(Arc::clone(&b)));
    (g, b)
}

fn bind(b: &Bindings, a: &str, to: u8) {
    b.set(0, Prefix6::new(a.parse().unwrap(), 128).unwrap(), mac(to)).unwrap();
}

fn data() -> Vec<u8> {
    ip6("2001:db8:6::10", VM1).udp(7, 7, b"x")
}

fn vm(n: u32) -> String {
    format!("2001:db8:64::1:{n:x}")
}

#[test]
fn rfc6583_on_a_leased_network_only_leased_addresses_are_looked_for() {
    let (mut g, b) = gate(Config::default(), Validation::Leased);
    // Delegated prefixes are routed: nobody looks for the addresses in them.
    b.set(0, "2001:db8:64:8001::/64".parse().unwrap(), mac(1)).unwrap();
    assert_eq!(g.send("tenant0", "2001:db8:64:8001::7", &data()), Resolution::Ready(mac(1)));
    for a in [NOBODY, "2001:db8:64:8002::7"] {
        assert_eq!(g.send("tenant0", a, &data()), Resolution::Drop(DropReason::NextHopNotBound), "{a}");
        // Nor does a packet that another worker handed over for it change that.
        let mut packet = g.rig.packet("uplink0", &data());
        packet.meta.egress = g.rig.egress("tenant0", a);
        g.n.hold(&mut g.rig.ctx(), &mut g.errors, packet);
    }
    assert_eq!(g.n.table.live().count(), 0);
    assert!(g.rig.sent().is_empty());
    g.rig.assert_counted(&[("drop.next-hop-not-bound", 4)]);
    // Those with a lease are, and link-local ones, and whoever is on another network.
    for (interface, a) in [("tenant0", VM1), ("tenant0", "fe80::101"), ("tenant1", "2001:db8:65::101")] {
        assert_eq!(g.send(interface, a, &data()), Resolution::Hold, "{a}");
    }
    assert_eq!(g.rig.sent().len(), 3);
    g.rig.assert_counted(&[("ns-sent", 3), ("next-hop-held", 3)]);
    g.n.table.check();
}

#[test]
fn rfc9915_6_3_a_delegated_prefix_is_reached_through_the_router_that_has_it() {
    for validation in [Validation::Prefix, Validation::Leased] {
        let (mut g, b) = gate(Config::default(), validation);
        let prefix: Prefix6 = "2001:db8:64:8001::/64".parse().unwrap();
        assert_eq!(
            g.send("tenant0", "2001:db8:64:8001::7", &data()),
            Resolution::Drop(DropReason::NextHopNotBound),
            "nobody has it yet"
        );
        b.set(0, prefix, mac(1)).unwrap();
        assert_eq!(g.send("tenant0", "2001:db8:64:8001::7", &data()), Resolution::Ready(mac(1)));
        b.set(0, prefix, mac(2)).unwrap();
        assert_eq!(g.send("tenant0", "2001:db8:64:8001::7", &data()), Resolution::Ready(mac(2)), "it moved");
        b.remove(0, prefix);
        assert_eq!(
            g.send("tenant0", "2001:db8:64:8001::7", &data()),
            Resolution::Drop(DropReason::NextHopNotBound)
        );
        assert_eq!(g.n.table.live().count(), 0, "no neighbour is looked for");
    }
}

#[test]
fn without_bindings_no_network_wants_them() {
    let (mut g, _) = gate(Config::default(), Validation::Leased);
    g.n.set_bindings(None);
    assert_eq!(g.send("tenant0", NOBODY, &data()), Resolution::Hold);
    g.rig.assert_counted(&[("ns-sent", 1), ("next-hop-held", 1)]);
}

#[test]
fn rfc6583_a_scan_of_a_leased_network_costs_nothing_and_leased_hosts_are_found_meanwhile() {
    let (mut g, _) = gate(Config::default(), Validation::Leased);
    assert_eq!(g.send("tenant0", VM1, &data()), Resolution::Hold);
    let answer = ip6(VM1, GW).na(VM1, false, true, true, Some(mac(1)));
    assert_eq!(g.local_from(mac(1), "tenant0", &answer).0, Verdict::Consume);
    g.rig.sent();
    g.rig.assert_counted(&[("ns-sent", 1), ("next-hop-held", 1), ("neighbors-resolved", 1)]);
    for n in 0..100_000u32 {
        let to = format!("2001:db8:64::f:{:x}:{:x}", n >> 16, n & 0xffff);
        let r = g.send("tenant0", &to, &data());
        assert_eq!(r, Resolution::Drop(DropReason::NextHopNotBound));
    }
    assert_eq!(g.resolve("tenant0", VM1), Resolution::Ready(mac(1)));
    assert_eq!(g.send("tenant0", VM2, &data()), Resolution::Hold);
    assert_eq!((g.rig.sent().len(), g.n.table.live().count()), (1, 2));
    g.rig.assert_counted(&[("ns-sent", 1), ("next-hop-held", 1), ("drop.next-hop-not-bound", 100_000)]);
}

#[test]
fn rfc6583_7_1_leased_neighbours_have_a_rate_of_their_own_and_take_the_room_of_strangers() {
    let config = Config {
        incomplete_per_interface: 8,
        resolutions_burst: 100,
        failed_time: Duration::from_secs(3600),
        ..Config::default()
    };
    let (mut g, b) = gate(config, Validation::Prefix);
    for n in 0..9 {
        bind(&b, &vm(n), 9);
    }
    let stranger = |n: u32| format!("2001:db8:64::f:{n:x}");
    // Strangers get six of eight places.
    for n in 0..20 {
        let _ = g.send("tenant0", &stranger(n), &data());
    }
    assert_eq!(g.n.table.load(IfId(0)).incomplete, 6);
    g.rig.assert_counted(&[("ns-sent", 6), ("next-hop-held", 6), ("drop.next-hop-table-full", 14)]);
    // Two leased ones find room, the next six take that of strangers, the oldest first; what waits for
    // those is dropped.
    for n in 0..3 {
        assert_eq!(g.send("tenant0", &vm(n), &data()), Resolution::Hold);
    }
    g.rig.assert_counted(&[("ns-sent", 3), ("next-hop-held", 3), ("drop.next-hop-table-full", 1)]);
    let there = |g: &Gate, a: &str| g.n.table.live().any(|e| e.key.address() == a.parse::<IpAddr>().unwrap());
    assert!(!there(&g, &stranger(0)) && there(&g, &stranger(1)));
    for n in 3..8 {
        assert_eq!(g.send("tenant0", &vm(n), &data()), Resolution::Hold);
    }
    g.rig.assert_counted(&[("ns-sent", 5), ("next-hop-held", 5), ("drop.next-hop-table-full", 5)]);
    assert!((0..8).all(|n| there(&g, &vm(n))));
    // Leased ones give way to nobody: neither to strangers nor to each other.
    for a in [&stranger(77), &vm(8)] {
        let _ = g.send("tenant0", a, &data());
    }
    assert!((0..8).all(|n| there(&g, &vm(n))));
    g.rig.assert_counted(&[("drop.next-hop-table-full", 2)]);
    g.n.table.check();
    assert_eq!(g.n.waiting(), 8);
}

#[test]
fn rfc6583_7_1_room_of_all_networks_together_is_taken_from_the_strangers_of_the_busiest() {
    let config =
        Config { incomplete_per_interface: 6, incomplete: 8, resolutions_burst: 100, ..Config::default() };
    let (mut g, b) = gate(config, Validation::Prefix);
    for n in 0..8 {
        bind(&b, &vm(n), 9);
    }
    for n in 0..4 {
        let _ = g.send("tenant1", &format!("2001:db8:65::f:{n:x}"), &data());
    }
    for n in 0..6 {
        assert_eq!(g.send("tenant0", &vm(n), &data()), Resolution::Hold);
    }
    assert_eq!((g.n.table.load(IfId(0)).incomplete, g.n.table.load(IfId(2)).incomplete), (6, 2));
    g.n.table.check();
    g.rig.assert_counted(&[("ns-sent", 10), ("next-hop-held", 10), ("drop.next-hop-table-full", 2)]);
}

#[test]
fn rfc7513_who_claims_what_another_one_leased_is_refused_and_teaches_nothing() {
    let refused = Verdict::Drop(DropReason::NdNotBound);
    let ns = |src: &str, mac| ip6(src, "ff02::1:ff00:1").ns(GW, Some(mac));
    let na = |src: &str, target: &str, mac| ip6(src, "ff02::1").na(target, false, false, true, Some(mac));
    let rows = [
        ("asks from a leased address with a link-layer address of its own", 9, ns(VM1, mac(9))),
        ("the same, in a frame that claims to be the host's", 1, ns(VM1, mac(9))),
        ("the same, the other way round", 9, ns(VM1, mac(1))),
        ("asks from an address that nobody leased", 9, ns(NOBODY, mac(9))),
        ("advertises a leased address, from its link-local one", 9, na("fe80::9", VM1, mac(9))),
        ("advertises an address that nobody leased", 9, na("fe80::9", NOBODY, mac(9))),
        ("advertises a leased address without a link-layer address", 9, {
            ip6("fe80::9", "ff02::1").na(VM1, false, false, true, None)
        }),
    ];
    for (sentence, from, octets) in rows {
        let (mut g, _) = gate(Config::default(), Validation::Leased);
        assert_eq!(g.local_from(mac(from), "tenant0", &octets).0, refused, "{sentence}");
        assert!(g.listed().is_empty(), "{sentence}");
        g.rig.assert_counted(&[]);
        // On a network that does not ask for leases it is believed.
        let (mut g, _) = gate(Config::default(), Validation::Prefix);
        assert_ne!(g.local_from(mac(from), "tenant0", &octets).0, refused, "{sentence}");
    }
}

#[test]
fn rfc7513_a_host_says_what_it_likes_of_its_own_lease_and_of_link_local_addresses() {
    let (mut g, b) = gate(Config::default(), Validation::Leased);
    let asked = g.local_from(mac(1), "tenant0", &ip6(VM1, "ff02::1:ff00:1").ns(GW, Some(mac(1))));
    assert!(matches!(asked.0, Verdict::Forward { .. }));
    assert_eq!(asked.1, ip6(GW, VM1).na(GW, true, true, true, Some(TENANT_MAC)));
    let told = ip6(VM2, "ff02::1").na(VM2, false, false, true, Some(mac(2)));
    assert_eq!(g.local_from(mac(2), "tenant0", &told).0, Verdict::Consume);
    let ns = |src: &str, from| ip6(src, "ff02::1:ff00:1").ns("fe80::1", Some(mac(from)));
    assert!(matches!(g.local_from(mac(9), "tenant0", &ns("fe80::9", 9)).0, Verdict::Forward { .. }));
    let mut known: Vec<_> = g.listed().into_iter().map(|n| (n.address.to_string(), n.mac)).collect();
    known.sort();
    let want = [(VM1, 1), (VM2, 2), ("fe80::9", 9)].map(|(a, m)| (a.to_owned(), mac(m)));
    assert_eq!(known, want);
    g.rig.assert_counted(&[("ns-answered", 2)]);
    // A link-local address that is bound is its station's.
    bind(&b, "fe80::9", 9);
    let other = g.local_from(mac(8), "tenant0", &ns("fe80::9", 8)).0;
    assert_eq!(other, Verdict::Drop(DropReason::NdNotBound));
    assert!(matches!(g.local_from(mac(9), "tenant0", &ns("fe80::9", 9)).0, Verdict::Forward { .. }));
    // A lease that moved: the new station is believed, the old one no more.
    bind(&b, VM1, 7);
    let ns = |from| ip6(VM1, "ff02::1:ff00:1").ns(GW, Some(mac(from)));
    assert_eq!(g.local_from(mac(1), "tenant0", &ns(1)).0, Verdict::Drop(DropReason::NdNotBound));
    assert!(matches!(g.local_from(mac(7), "tenant0", &ns(7)).0, Verdict::Forward { .. }));
    assert_eq!(g.resolve("tenant0", VM1), Resolution::Ready(mac(7)));
}
