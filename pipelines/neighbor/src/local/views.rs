//! One gateway of two: what it answers as the active one, and that it answers nothing as the other (RFC 9568
//! 6.4.2, 6.4.3).

use super::*;
use crate::announce::tests::{VIRTUAL4, VIRTUAL6, active};
use crate::resolve::tests::{Gate, VM1};
use crate::{Config, Resolution};
use causeway_core::Duration;
use causeway_testkit::{arp, arp_reply, arp_request, ip4, ip6, mac};

/// As [`active`], while another gateway is: only what is the port's own is left.
fn standby() -> Vec<Interface> {
    active()
        .into_iter()
        .map(|mut i| {
            let real = i.real.take().unwrap();
            (i.mac, i.mac4) = (real.mac, None);
            i.link_local = real.mac.link_local();
            i.more_link_local.clear();
            i.addrs6.retain(|(a, _)| real.addrs.contains(&(*a).into()));
            i.addrs4.retain(|(a, _)| real.addrs.contains(&(*a).into()));
            i.proxy4.clear();
            i
        })
        .collect()
}

fn gate(list: Vec<Interface>) -> Gate {
    let mut g = Gate::new(Config::default());
    g.set_interfaces(list);
    g
}

const VIRTUAL: [(&str, &str); 4] = [
    ("tenant0", "fe80::1"),
    ("tenant0", "2001:db8:64::1"),
    ("uplink0", "fe80::2"),
    ("uplink0", "2001:db8:ffff::2"),
];
const OWN: [(&str, &str, MacAddr); 3] = [
    ("tenant0", "fe80::ff:fe00:3", mac(3)),
    ("uplink0", "fe80::ff:fe00:4", mac(4)),
    ("uplink0", "2001:db8:ffff::3", mac(4)),
];

fn ns(target: &str) -> Vec<u8> {
    ip6("fe80::9", causeway_core::classify::solicited_node(target.parse().unwrap())).ns(target, Some(mac(9)))
}

fn na(target: &str, at: MacAddr) -> Vec<u8> {
    ip6(target, "fe80::9").na(target, true, true, true, Some(at))
}

#[test]
fn rfc9568_8_2_2_virtual_addresses_are_at_the_virtual_mac_and_the_ports_own_at_its_own() {
    let mut g = gate(active());
    for (interface, target) in VIRTUAL {
        assert_eq!(g.local(interface, &ns(target)).1, na(target, VIRTUAL6), "{target}");
    }
    for (interface, target, at) in OWN {
        assert_eq!(g.local(interface, &ns(target)).1, na(target, at), "{target}");
    }
    g.rig.assert_counted(&[("ns-answered", 7)]);
}

#[test]
fn rfc9568_8_1_2_arp_is_answered_with_the_virtual_mac_for_virtual_addresses_and_the_pool() {
    let mut g = gate(active());
    for (target, at) in [("192.0.2.2", VIRTUAL4), ("203.0.113.7", VIRTUAL4), ("192.0.2.3", mac(4))] {
        let (_, answer) = g.local("uplink0", &arp_request(mac(9), "192.0.2.1", target));
        assert_eq!(answer, arp_reply(at, target, mac(9), "192.0.2.1"), "{target}");
    }
    g.rig.assert_counted(&[("arp-answered", 3)]);
}

#[test]
fn rfc9568_8_questions_of_ours_come_from_the_mac_of_the_address_that_asks() {
    let mut g = gate(active());
    // The virtual address is the first on the link.
    let _ = g.send("tenant0", VM1, b"x");
    let dst = causeway_core::classify::solicited_node(VM1.parse().unwrap());
    assert_eq!(g.rig.sent()[0].octets, ip6("2001:db8:64::1", dst).ns(VM1, Some(VIRTUAL6)));
    let _ = g.send("uplink0", "192.0.2.1", b"x");
    assert_eq!(g.rig.sent()[0].octets, arp(1, VIRTUAL4, "192.0.2.2", MacAddr::default(), "192.0.2.1"));
    let mut g = gate(standby());
    let _ = g.send("uplink0", "192.0.2.1", b"x");
    assert_eq!(g.rig.sent()[0].octets, arp(1, mac(4), "192.0.2.3", MacAddr::default(), "192.0.2.1"));
}

#[test]
fn rfc9568_6_4_2_a_backup_answers_nothing_for_virtual_addresses() {
    let mut g = gate(standby());
    for (interface, target) in VIRTUAL {
        let dropped = Verdict::Drop(DropReason::NdNotOurs);
        assert_eq!(g.local(interface, &ns(target)).0, dropped, "{target}");
        // Nor to who looks for duplicates.
        let group = causeway_core::classify::solicited_node(target.parse().unwrap());
        assert_eq!(g.local(interface, &ip6("::", group).ns(target, None)).0, dropped, "{target}");
        let echo = ip6("fe80::9", target).icmp(128, 0, [0, 1, 0, 1], b"x");
        assert_eq!(g.local(interface, &echo).0, Verdict::Drop(DropReason::LocalNoService), "{target}");
    }
    for target in ["192.0.2.2", "203.0.113.7"] {
        let ask = arp_request(mac(9), "192.0.2.1", target);
        assert_eq!(g.local("uplink0", &ask).0, Verdict::Drop(DropReason::ArpNotOurs), "{target}");
        let probe = arp_request(mac(9), "0.0.0.0", target);
        assert_eq!(g.local("uplink0", &probe).0, Verdict::Drop(DropReason::ArpNotOurs), "{target}");
    }
    let echo = ip4("192.0.2.1", "192.0.2.2").icmp(8, 0, [0, 1, 0, 1], b"x");
    assert_eq!(g.local("uplink0", &echo).0, Verdict::Drop(DropReason::Ip4NotOurs));
    assert!(g.rig.sent().is_empty() && g.rig.take_events().is_empty());
    g.rig.assert_counted(&[]);
}

#[test]
fn rfc9568_6_4_2_a_backup_does_not_defend_virtual_addresses_against_the_active_gateway() {
    let mut g = gate(standby());
    for (interface, target) in VIRTUAL {
        // A neighbour like others, where its prefix is on-link without the virtual addresses.
        let told = ip6(target, "ff02::1").na(target, true, false, true, Some(VIRTUAL6));
        let learned = *target != *"2001:db8:64::1";
        let fate = if learned { Verdict::Consume } else { Verdict::Drop(DropReason::NdNotOurs) };
        assert_eq!(g.local_from(VIRTUAL6, interface, &told).0, fate, "{target}");
    }
    let told = arp_request(VIRTUAL4, "192.0.2.2", "192.0.2.2");
    assert_eq!(g.local_from(VIRTUAL4, "uplink0", &told).0, Verdict::Drop(DropReason::ArpNotOurs));
    assert!(g.rig.sent().is_empty() && g.rig.take_events().is_empty());
    g.rig.assert_counted(&[]);
    // Its own it does defend.
    let (interface, own, _) = OWN[2];
    let claim = ip6(own, "ff02::1").na(own, true, false, true, Some(mac(9)));
    assert_eq!(g.local(interface, &claim).0, Verdict::Consume);
    g.rig.assert_counted(&[("address-conflicts", 1), ("na-sent", 1)]);
}

#[test]
fn neighbours_outlive_a_change_of_the_active_gateway_and_virtual_ones_become_ours() {
    let mut g = gate(standby());
    let router = "2001:db8:ffff::1";
    assert_eq!(g.send("uplink0", router, b"x"), Resolution::Hold);
    let answer = ip6(router, "2001:db8:ffff::3").na(router, true, true, true, Some(mac(9)));
    assert_eq!(g.local("uplink0", &answer).0, Verdict::Consume);
    // The active gateway is a neighbour, by those of its virtual addresses that are on-link here.
    for (interface, target) in VIRTUAL {
        let told = ip6(target, "ff02::1").na(target, true, false, true, Some(VIRTUAL6));
        let _ = g.local_from(VIRTUAL6, interface, &told);
    }
    assert_eq!(g.send("uplink0", "203.0.113.9", b"x"), Resolution::Hold);
    assert_eq!((g.listed().len(), g.n.table.live().count()), (4, 5));
    g.rig.sent();

    g.set_interfaces(active());
    g.n.table.check();
    let known: Vec<_> = g.listed().into_iter().map(|n| n.address.to_string()).collect();
    assert_eq!(known, [router]);
    assert_eq!(g.n.table.live().count(), 1, "the pool is ours as well");
    assert_eq!(g.resolve("uplink0", router), Resolution::Ready(mac(9)));
    g.rig.assert_counted(&[
        ("ns-sent", 1),
        ("arp-sent", 1),
        ("next-hop-held", 2),
        ("neighbors-resolved", 1),
        ("drop.next-hop-unreachable", 1),
    ]);
    g.set_interfaces(standby());
    assert_eq!(g.resolve("uplink0", router), Resolution::Ready(mac(9)));
    // Its timers go on.
    g.pass(Duration::from_secs(46));
    let _ = g.resolve("uplink0", router);
    assert!(!g.pass(Duration::from_secs(8)).is_empty());
    g.n.table.check();
}

#[test]
fn with_a_large_pool_a_change_looks_at_all_neighbours_and_comes_to_the_same() {
    let mut g = gate(standby());
    let _ = g.send("uplink0", "203.0.113.9", b"x");
    let _ = g.send("uplink0", "192.0.2.1", b"x");
    let mut list = active();
    list[1].proxy4 = vec!["203.0.0.0/16".parse().unwrap()];
    g.set_interfaces(list);
    g.n.table.check();
    let left: Vec<_> = g.n.table.live().map(|e| e.key.address().to_string()).collect();
    assert_eq!(left, ["192.0.2.1"]);
}

#[test]
fn rfc792_an_address_that_clients_connect_to_answers_echo_and_arp_and_one_of_the_pool_arp_alone() {
    let mut list = active();
    list[1].proxy4.push("203.0.113.80/32".parse().unwrap());
    list[1].service4 = vec!["203.0.113.80".parse().unwrap()];
    let mut g = gate(list);
    for target in ["203.0.113.80", "203.0.113.7"] {
        let (_, answer) = g.local("uplink0", &arp_request(mac(9), "192.0.2.1", target));
        assert_eq!(answer, arp_reply(VIRTUAL4, target, mac(9), "192.0.2.1"), "{target}");
    }
    let echo = |target| ip4("198.51.100.10", target).echo_request(1, 2, b"x");
    let (fate, answer) = g.local("uplink0", &echo("203.0.113.80"));
    assert!(matches!(fate, Verdict::Forward { .. }), "{fate:?}");
    assert_eq!(answer, ip4("203.0.113.80", "198.51.100.10").echo_reply(1, 2, b"x"));
    assert_eq!(g.local("uplink0", &echo("203.0.113.7")).0, Verdict::Drop(DropReason::Ip4NotOurs));
    g.rig.assert_counted(&[("arp-answered", 2), ("echo-answered", 1)]);
}
