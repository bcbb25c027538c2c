use super::*;
use crate::Config;
use crate::resolve::tests::Gate;
use causeway_core::Duration;
use causeway_core::net::Real;
use causeway_testkit::{Leaving, arp, ip6, lab_interfaces, mac};

/// The virtual router's link-layer addresses (RFC 9568 7.3), VRID 64.
pub(crate) const VIRTUAL6: MacAddr = MacAddr([0, 0, 0x5e, 0, 2, 64]);
pub(crate) const VIRTUAL4: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 64]);

/// The lab's two links as the active gateway has them: what the lab's plan names is virtual, and each port
/// has addresses of its own beside.
pub(crate) fn active() -> Vec<Interface> {
    let mut list = lab_interfaces();
    list.truncate(2);
    for (n, i) in (3u8..).zip(&mut list) {
        let own_mac = mac(n);
        let mut addrs: Vec<IpAddr> = vec![IpAddr::V6(own_mac.link_local())];
        i.more_link_local.push(own_mac.link_local());
        (i.mac, i.mac4) = (VIRTUAL6, Some(VIRTUAL4));
        if n == 4 {
            let own6 = ("2001:db8:ffff::3".parse().unwrap(), "2001:db8:ffff::/64".parse().unwrap());
            let own4 = ("192.0.2.3".parse().unwrap(), "192.0.2.0/24".parse().unwrap());
            addrs.extend([IpAddr::V6(own6.0), IpAddr::V4(own4.0)]);
            i.addrs6.push(own6);
            i.addrs4.push(own4);
        }
        i.real = Some(Real { mac: own_mac, addrs });
    }
    list
}

fn na(id: u16, a: &str) -> Leaving {
    let all = Via::Mac(MacAddr::from_ipv6_multicast(ALL_NODES));
    let octets = ip6(a, "ff02::1").na(a, true, false, true, Some(VIRTUAL6));
    Leaving { egress: Egress::new(IfId(id), all), octets }
}

fn gratuitous(a: &str) -> Leaving {
    let octets = arp(1, VIRTUAL4, a, MacAddr::default(), a);
    Leaving { egress: Egress::new(IfId(1), Via::Mac(MacAddr::BROADCAST)), octets }
}

/// All calls that it takes, with the outbox emptied in between.
fn first_round(g: &mut Gate) -> (Vec<Leaving>, usize) {
    let (mut sent, mut calls) = (Vec::new(), 1);
    let mut done = g.n.became_active(&mut g.rig.ctx());
    sent.extend(g.rig.sent());
    while !done {
        done = g.n.announce_all(&mut g.rig.ctx());
        sent.extend(g.rig.sent());
        calls += 1;
        assert!(calls < 100);
    }
    (sent, calls)
}

#[test]
fn rfc9568_6_4_2_on_becoming_active_every_virtual_address_is_announced_and_the_ports_own_are_not() {
    let mut g = Gate::new(Config::default());
    g.set_interfaces(active());
    let (sent, calls) = first_round(&mut g);
    let mut want = vec![
        na(0, "fe80::1"),
        na(0, "2001:db8:64::1"),
        na(1, "fe80::2"),
        na(1, "2001:db8:ffff::2"),
        gratuitous("192.0.2.2"),
    ];
    want.extend((0..16).map(|n| gratuitous(&format!("203.0.113.{n}"))));
    assert_eq!((sent, calls), (want.clone(), 1));
    g.rig.assert_counted(&[("na-sent", 4), ("arp-sent", 17)]);
    // Once more, in time; then it is quiet.
    let mut later = g.pass(Duration::from_millis(1980));
    assert!(later.is_empty());
    later.extend(g.pass(Duration::from_secs(10)));
    assert_eq!(later, want);
    g.rig.assert_counted(&[("na-sent", 4), ("arp-sent", 17)]);
    // Asked again, it says that nothing is left to do.
    assert!(g.n.announce_all(&mut g.rig.ctx()));
    assert!(g.rig.sent().is_empty());
}

#[test]
fn an_address_that_clients_connect_to_is_announced_as_those_of_the_pool_are() {
    let mut g = Gate::new(Config { announcements: 0, ..Config::default() });
    let mut list = active();
    list[1].proxy4 = vec!["203.0.113.80/32".parse().unwrap()];
    list[1].service4 = vec!["203.0.113.80".parse().unwrap()];
    g.set_interfaces(list);
    let (sent, _) = first_round(&mut g);
    assert_eq!(sent[4..], [gratuitous("192.0.2.2"), gratuitous("203.0.113.80")]);
    g.rig.assert_counted(&[("na-sent", 4), ("arp-sent", 2)]);
}

#[test]
fn a_pool_of_many_addresses_is_announced_as_far_as_there_is_room_on_link_ones_first() {
    let mut g = Gate::new(Config { announcements: 0, ..Config::default() });
    let mut list = active();
    // 4,096 addresses behind us, 256 of the link itself, of which two are ours and have been announced.
    list[1].proxy4 = vec!["198.18.0.0/20".parse().unwrap(), "192.0.2.0/24".parse().unwrap()];
    g.set_interfaces(list);
    let (sent, calls) = first_round(&mut g);
    assert!(calls > 20, "{calls}");
    g.rig.assert_counted(&[
        ("na-sent", 4),
        ("arp-sent", 1025),
        ("announcements-left-out", 4096 + 254 - 1024),
    ]);
    assert_eq!(sent[4], gratuitous("192.0.2.2"));
    assert_eq!(sent[5], gratuitous("192.0.2.0"));
    assert_eq!(sent[5 + 253], gratuitous("192.0.2.255"));
    assert_eq!(sent[5 + 254], gratuitous("198.18.0.0"));
    let own = causeway_testkit::arp(1, VIRTUAL4, "192.0.2.3", MacAddr::default(), "192.0.2.3");
    assert!(sent.iter().all(|l| l.octets != own));
    // No later round was wanted.
    assert!(g.pass(Duration::from_secs(10)).is_empty());
}

#[test]
fn a_prefix_that_holds_an_on_link_one_is_not_looked_through_for_ever() {
    let mut list = active();
    list[1].proxy4 = vec!["192.0.0.0/9".parse().unwrap()];
    let interface = &list[1];
    let all: Vec<IpAddr> = proxies_of(interface).take(MOST_PROXIES).collect();
    assert_eq!(all.len(), MOST_PROXIES);
    assert_eq!(proxies_left_out(interface), (1 << 23) - 2 - 1024);
    assert_eq!(all[0], "192.0.2.0".parse::<IpAddr>().unwrap());
    let unique: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(unique.len(), all.len());
}

#[test]
fn rfc9568_6_4_3_a_gateway_that_is_active_no_more_announces_nothing_more() {
    let mut g = Gate::new(Config::default());
    g.set_interfaces(active());
    first_round(&mut g);
    g.n.became_backup();
    assert!(g.pass(Duration::from_secs(10)).is_empty());
}

#[test]
fn an_empty_pool_of_frames_delays_nothing() {
    let mut g = Gate::new(Config::default());
    g.set_interfaces(active());
    g.rig.source = causeway_core::HeapSource::new(3);
    let (sent, calls) = first_round(&mut g);
    assert_eq!((sent.len(), calls), (3, 1));
    g.rig.assert_counted(&[("na-sent", 3), ("drop.no-frame", 18)]);
}
