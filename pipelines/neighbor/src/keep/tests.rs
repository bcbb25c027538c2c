use super::*;
use crate::resolve::tests::Gate;
use crate::{Config, LinkId, Resolution, Resolved};
use causeway_core::{Egress, Via};
use causeway_testkit::{Leaving, arp_reply, ip6, lab_interfaces, mac};
use std::sync::Arc;

const ROUTER: &str = "2001:db8:ffff::1";
const ROUTER4: &str = "192.0.2.1";
const OURS: &str = "2001:db8:ffff::2";

fn uplink() -> IfId {
    IfId(1)
}

fn hop(a: &str) -> (IfId, IpAddr) {
    (uplink(), a.parse().unwrap())
}

fn reachable(g: &Gate, a: &str) -> Option<bool> {
    let link = LinkId::of(g.rig.interfaces.get(uplink()).unwrap());
    g.n.shared.reachable(link, a.parse().unwrap())
}

/// The router answers.
fn answer(g: &mut Gate) {
    let na = ip6(ROUTER, OURS).na(ROUTER, true, true, true, Some(mac(9)));
    let _ = g.local("uplink0", &na);
}

/// Lets time pass; the router answers while `alive`. Gives when something was sent, and what.
fn pass(g: &mut Gate, seconds: u64, alive: bool) -> Vec<(Instant, Leaving)> {
    let mut sent = Vec::new();
    for _ in 0..seconds * 100 {
        for l in g.pass(Duration::from_millis(10)) {
            sent.push((g.rig.now, l));
            if alive {
                answer(g);
            }
        }
    }
    sent
}

#[test]
fn a_kept_next_hop_is_found_probed_without_traffic_missed_and_found_again() {
    let mut g = Gate::new(Config::default());
    assert_eq!(g.n.keep(vec![hop(ROUTER)]), 0);
    assert_eq!(reachable(&g, ROUTER), None);
    g.tick();
    assert_eq!(g.rig.sent().len(), 1);
    answer(&mut g);
    assert_eq!(reachable(&g, ROUTER), Some(true));
    assert_eq!(g.resolve("uplink0", ROUTER), Resolution::Ready(mac(9)));
    g.rig.assert_counted(&[("ns-sent", 1), ("neighbors-resolved", 1)]);

    // RFC 4861 6.3.2: a confirmation lasts 15 to 45 s; then a probe goes to the station itself.
    let probes = pass(&mut g, 300, true);
    assert!((6..=20).contains(&probes.len()), "{}", probes.len());
    let unicast = Egress::new(uplink(), Via::Mac(mac(9)));
    assert!(probes.iter().all(|(_, l)| l.egress == unicast));
    assert_eq!(reachable(&g, ROUTER), Some(true));

    // It goes. The confirmation ages, three probes have no answer, and then it is looked for, forever.
    let left = g.rig.now;
    let mut gone = None;
    let mut asked = Vec::new();
    for _ in 0..120 {
        asked.extend(pass(&mut g, 1, false));
        if reachable(&g, ROUTER) == Some(false) {
            gone = gone.or(Some(g.rig.now));
        }
    }
    let after = gone.unwrap().since(left);
    assert!(after <= Duration::from_secs(49), "{after:?}");
    assert!(asked.windows(2).all(|w| w[1].0.since(w[0].0) >= Duration::from_millis(990)), "{asked:?}");
    assert!(asked.len() > 30, "{}", asked.len());
    assert_eq!(asked.iter().filter(|(_, l)| l.egress == unicast).count(), 3);
    g.n.table.check();

    // And comes back.
    let back = g.rig.now;
    while reachable(&g, ROUTER) == Some(false) {
        pass(&mut g, 1, true);
        assert!(g.rig.now.since(back) <= Duration::from_secs(6));
    }
    assert_eq!(reachable(&g, ROUTER), Some(true));
}

#[test]
fn a_kept_next_hop_is_asked_for_at_most_once_a_second_however_short_the_retransmission() {
    let fast = Config {
        retrans_time: Duration::from_millis(10),
        failed_time: Duration::from_millis(10),
        ..Config::default()
    };
    let mut g = Gate::new(fast);
    g.n.keep(vec![hop(ROUTER)]);
    let asked = pass(&mut g, 60, false);
    assert!(asked.windows(2).all(|w| w[1].0.since(w[0].0) >= Duration::from_millis(990)));
    assert!((40..=60).contains(&asked.len()), "{}", asked.len());
    assert_eq!(reachable(&g, ROUTER), Some(false));
}

#[test]
fn an_ipv4_next_hop_is_kept_as_well_and_one_that_was_heard_is_verified_at_once() {
    let mut g = Gate::new(Config::default());
    // It asked us something: its address is known, and that it can be reached is not.
    let request = causeway_testkit::arp_request(mac(9), ROUTER4, "192.0.2.2");
    let _ = g.local("uplink0", &request);
    g.n.keep(vec![hop(ROUTER4)]);
    assert_eq!(reachable(&g, ROUTER4), None);
    let asked = g.pass(Duration::from_millis(30));
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].egress, Egress::new(uplink(), Via::Mac(mac(9))));
    let us = g.rig.interfaces.get(uplink()).unwrap().mac;
    let _ = g.local("uplink0", &arp_reply(mac(9), ROUTER4, us, "192.0.2.2"));
    assert_eq!(reachable(&g, ROUTER4), Some(true));
    g.rig.assert_counted(&[("arp-answered", 1), ("arp-sent", 1), ("neighbors-resolved", 1)]);
}

#[test]
fn a_kept_next_hop_that_comes_back_and_speaks_first_is_kept_on() {
    let mut g = Gate::new(Config::default());
    g.n.keep(vec![hop(ROUTER)]);
    // Nobody answers; between two attempts it is not in the table.
    let mut waited = 0;
    while waited < 10 || g.n.table.live().count() > 0 {
        g.pass(Duration::from_millis(10));
        waited += 1;
        assert!(waited < 10_000);
    }
    assert_eq!(reachable(&g, ROUTER), Some(false));
    // It is back, and its question comes before ours.
    let ns = ip6(ROUTER, "ff02::1:ff00:2").ns(OURS, Some(mac(9)));
    let _ = g.local("uplink0", &ns);
    pass(&mut g, 10, true);
    assert_eq!(reachable(&g, ROUTER), Some(true));
    g.n.table.check();
    // And it is missed when it goes again.
    pass(&mut g, 60, false);
    assert_eq!(reachable(&g, ROUTER), Some(false));
}

#[test]
fn no_scan_takes_the_room_or_the_rate_of_a_kept_next_hop() {
    let config = Config {
        incomplete_per_interface: 8,
        resolutions_rate_pps: 1,
        resolutions_burst: 10,
        ..Config::default()
    };
    let mut g = Gate::new(config);
    for n in 0..100 {
        let _ = g.send("uplink0", &format!("2001:db8:ffff::f:{n:x}"), b"x");
    }
    g.rig.sent();
    let hops: Vec<_> = (1..=8).map(|n| hop(&format!("2001:db8:ffff::a:{n}"))).collect();
    g.n.keep(hops.clone());
    g.tick();
    assert_eq!(g.rig.sent().len(), 8);
    let there = |g: &Gate, a: IpAddr| g.n.table.live().any(|e| e.kept && e.key.address() == a);
    assert!(hops.iter().all(|(_, a)| there(&g, *a)));
    g.n.table.check();
}

#[test]
fn what_is_kept_no_longer_is_left_alone_and_not_told_of() {
    let mut g = Gate::new(Config::default());
    g.n.keep(vec![hop(ROUTER), hop(ROUTER), hop(OURS)]);
    pass(&mut g, 1, true);
    assert_eq!((reachable(&g, ROUTER), reachable(&g, OURS)), (Some(true), None), "ours is nobody's next hop");
    // A new plan renumbers its interface.
    let [tenant0, uplink0, tenant1] = <[_; 3]>::try_from(lab_interfaces()).unwrap();
    g.set_interfaces(vec![tenant1, uplink0, tenant0]);
    assert!(!pass(&mut g, 60, true).is_empty());
    assert_eq!(reachable(&g, ROUTER), Some(true));
    g.n.keep(Vec::new());
    assert_eq!(reachable(&g, ROUTER), None);
    assert!(pass(&mut g, 120, true).is_empty());
    // Back again: it is known by now, and asked at once whether it is still there.
    g.n.keep(vec![hop(ROUTER)]);
    assert_eq!(pass(&mut g, 1, true).len(), 1);
    assert_eq!(reachable(&g, ROUTER), Some(true));
}

#[test]
fn each_worker_keeps_those_that_it_owns_and_too_many_are_counted() {
    let config = Config::default();
    let shared = Arc::new(Resolved::new(&config, 2));
    let mut gates = [0, 1].map(|w| Gate::member(config, Arc::clone(&shared), w));
    let hops: Vec<_> = (0..70).map(|n| hop(&format!("2001:db8:ffff::a:{n:x}"))).collect();
    let mut asked = 0;
    for g in &mut gates {
        assert_eq!(g.n.keep(hops.clone()), 6);
        for _ in 0..3 {
            g.rig.advance(Duration::from_millis(1010));
            g.tick();
            asked += g.n.table.live().filter(|e| e.kept).count();
            g.rig.sent();
        }
        asked -= 2 * g.n.table.live().filter(|e| e.kept).count();
    }
    assert_eq!(asked, 64);
}
