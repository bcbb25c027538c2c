//! Two gateways on the same wires, in memory and virtual time: who is active, who is silent, and what leaves
//! in which order when that changes.

use super::super::tests::{Lab, ROUTER, TENANT, UPLINK, VM1};
use crate::config::Config;
use crate::plan::{Plan, PortFacts};
use crate::worker::Worker;
use causeway_testkit::{arp_request, check_packet, eth, ip6};
use causeway_wire::MacAddr;
use std::time::Duration;

const MAC6: MacAddr = MacAddr([0, 0, 0x5e, 0, 2, 64]);
pub(in crate::worker) const MAC4: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 64]);
const ALL_NODES: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
const VRRP6: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 0x12]);
const VRRP4: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 0x12]);

/// The configuration of gateway number `n`: 3 or 4.
pub(in crate::worker) fn text(n: u8, priority: u8) -> String {
    format!(
        r#"
[gateway]
name = "gw{n}"
profile = "veth"
[[port]]
name = "tenant0"
device = "net_af_packet0,iface=tenant0"
[[port]]
name = "uplink0"
device = "net_af_packet1,iface=uplink0"
[[network]]
name = "tenant0"
port = "tenant0"
role = "tenant"
on-link = ["2001:db8:64::/64"]
[network.ra]
[[network]]
name = "uplink0"
port = "uplink0"
role = "uplink"
addresses6 = ["2001:db8:ffff::{n}/64"]
addresses4 = ["192.0.2.{n}/24"]
[[route]]
prefix = "::/0"
via = "2001:db8:ffff::1"
[[route]]
prefix = "0.0.0.0/0"
via = "192.0.2.1"
[nat64]
prefixes = ["2001:db8:64:ff9b::/96"]
pool = ["203.0.113.0/28"]
[vrrp]
priority = {priority}
interval = "100ms"
[[vrrp.router]]
network = "tenant0"
vrid = 64
addresses = ["fe80::1", "2001:db8:64::1"]
[[vrrp.router]]
network = "uplink0"
vrid = 64
addresses = ["fe80::2", "2001:db8:ffff::2"]
[[vrrp.router]]
network = "uplink0"
vrid = 64
addresses = ["192.0.2.2"]
"#
    )
}

pub(in crate::worker) fn mac(n: u8, port: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, n, port])
}

fn gateway(n: u8, priority: u8, workers: u16) -> Lab {
    let port = |name: &str, at| PortFacts { name: name.to_owned(), mac: mac(n, at), mtu: 1500 };
    Lab::with_ports(workers, &text(n, priority), &[port("tenant0", 1), port("uplink0", 2)])
}

/// What left a port since the last call: destination, source and packet, each of them right.
pub(in crate::worker) fn sent(lab: &Lab, port: usize) -> Vec<(MacAddr, MacAddr, Vec<u8>)> {
    let frames = std::mem::take(&mut lab.wires.borrow_mut().tx[port]);
    let parts = frames.into_iter().map(|f| {
        let packet = f[14..].to_vec();
        // The checker knows no VRRP; what it carries is checked there.
        let vrrp = packet[6] == 112 || packet[9] == 112 && packet[0] >> 4 == 4;
        if f[12..14] != [8, 6] && !vrrp {
            check_packet(&packet).unwrap_or_else(|e| panic!("{e}: {packet:02x?}"));
        }
        (MacAddr(f[..6].try_into().unwrap()), MacAddr(f[6..12].try_into().unwrap()), packet)
    });
    parts.collect()
}

/// One millisecond of all gateways: each polls, and what it sends to groups reaches the others.
pub(in crate::worker) fn step(labs: &mut [Lab]) {
    let mut sent: Vec<(usize, usize, Vec<u8>)> = Vec::new();
    for (n, lab) in labs.iter_mut().enumerate() {
        lab.clock.0.set(lab.clock.0.get() + 1_000);
        lab.workers.iter_mut().for_each(|w| {
            w.poll();
        });
        for port in [TENANT, UPLINK] {
            let frames = lab.wires.borrow().tx[port].clone();
            sent.extend(frames.into_iter().map(|f| (n, port, f)));
        }
    }
    for (from, port, frame) in sent {
        for (n, lab) in labs.iter().enumerate() {
            if n != from && frame[0] & 1 == 1 {
                lab.give(0, port, &frame);
            }
        }
    }
}

pub(in crate::worker) fn clear(labs: &[Lab]) {
    for lab in labs {
        lab.wires.borrow_mut().tx.iter_mut().for_each(Vec::clear);
    }
}

pub(in crate::worker) fn run(labs: &mut [Lab], ms: u32) {
    for _ in 0..ms {
        clear(labs);
        step(labs);
    }
    clear(labs);
}

pub(in crate::worker) fn is_active(lab: &Lab) -> bool {
    *lab.workers.iter().map(|w| w.active).collect::<Vec<_>>().first().unwrap()
}

fn echo(lab: &mut Lab) -> Vec<(MacAddr, MacAddr, Vec<u8>)> {
    let here = ip6("2001:db8:64::101", "ff02::1").na("2001:db8:64::101", false, false, true, Some(VM1));
    lab.send(0, TENANT, &eth(ALL_NODES, VM1).carry(&here));
    let ask = ip6("2001:db8:64::101", "2001:db8:64::1").echo_request(1, 1, b"x");
    lab.mark();
    lab.send(0, TENANT, &eth(MAC6, VM1).carry(&ask));
    let out = sent(lab, TENANT);
    sent(lab, UPLINK);
    out
}

#[test]
fn a_gateway_alone_becomes_active_and_says_so_before_it_forwards() {
    let mut lab = gateway(3, 100, 1);
    lab.clock.0.set(lab.clock.0.get() + 1_000);
    lab.workers[0].poll();
    assert!(!is_active(&lab));
    // RFC 9568 6.4.2: silent until its active-down interval of 300 ms and the skew of 61 ms are over.
    let ns = ip6("2001:db8:64::101", "ff02::1:ff00:1").ns("fe80::1", Some(VM1));
    lab.send(0, TENANT, &eth(MacAddr([0x33, 0x33, 0xff, 0, 0, 1]), VM1).carry(&ns));
    let rs = ip6("fe80::101", "ff02::2").rs(Some(VM1));
    lab.send(0, TENANT, &eth(MacAddr([0x33, 0x33, 0, 0, 0, 2]), VM1).carry(&rs));
    let who = arp_request(ROUTER, "192.0.2.1", "192.0.2.2");
    lab.send(0, UPLINK, &eth(MacAddr::BROADCAST, ROUTER).carry(&who));
    let pool = arp_request(ROUTER, "192.0.2.1", "203.0.113.5");
    lab.send(0, UPLINK, &eth(MacAddr::BROADCAST, ROUTER).carry(&pool));
    assert_eq!((sent(&lab, TENANT).len(), sent(&lab, UPLINK).len()), (0, 0), "a backup is silent");
    let drops: Vec<_> = lab.moved().into_iter().filter(|(name, _)| name.starts_with("drop.")).collect();
    let drop = |name: &str, n| (format!("drop.{name}"), n);
    assert_eq!(drops, [drop("arp-not-ours", 2), drop("multicast-not-ours", 1), drop("vrrp-not-active", 1)]);
    // Its own addresses it answers for, from its own link-layer address.
    let who = arp_request(ROUTER, "192.0.2.1", "192.0.2.3");
    lab.send(0, UPLINK, &eth(MacAddr::BROADCAST, ROUTER).carry(&who));
    let answers = sent(&lab, UPLINK);
    assert_eq!((answers.len(), answers[0].1, &answers[0].2[8..14]), (1, mac(3, 2), &mac(3, 2).0[..]));

    let mut labs = [lab];
    for ms in 0.. {
        assert!(ms < 400, "it does not become active");
        clear(&labs);
        step(&mut labs);
        if is_active(&labs[0]) {
            break;
        }
    }
    let [mut lab] = labs;
    // All in the poll of the transition: advertisement, addresses, routers.
    let tenant = sent(&lab, TENANT);
    assert!(tenant.iter().all(|(_, src, _)| *src == MAC6), "all from the virtual router's address");
    assert_eq!(tenant[0].0, VRRP6);
    let kinds: Vec<u8> = tenant[1..].iter().map(|(_, _, p)| p[40]).collect();
    assert_eq!(kinds, [136, 136, 134], "NAs for two addresses, then an RA");
    for (dst, _, na) in &tenant[1..3] {
        assert_eq!((*dst, na[44] & 0xe0), (ALL_NODES, 0xa0), "R and O, not S");
        assert_eq!(na[66..72], MAC6.0, "target link-layer address");
    }
    assert_eq!(tenant[3].2[8..24], "fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    let uplink = sent(&lab, UPLINK);
    let adverts: Vec<MacAddr> = uplink[..2].iter().map(|f| f.0).collect();
    assert_eq!(adverts, [VRRP6, VRRP4]);
    assert_eq!((uplink[0].1, uplink[1].1), (MAC6, MAC4));
    // Two IPv6 addresses, one IPv4 address and the 16 of the pool.
    let arps = uplink.iter().filter(|(dst, _, p)| *dst == MacAddr::BROADCAST && p[14..18] == p[24..28]);
    let (mut arps, mut pool): (Vec<_>, Vec<_>) =
        arps.map(|f| f.2[14..18].to_vec()).partition(|a| a[0] == 192);
    pool.sort_unstable();
    assert_eq!(arps.pop(), Some(vec![192, 0, 2, 2]));
    assert_eq!(
        (arps.len(), pool.len(), &pool[0][..], &pool[15][..]),
        (0, 16, &[203, 0, 113, 0][..], &[203, 0, 113, 15][..])
    );
    assert!(uplink.iter().filter(|f| f.0 == MacAddr::BROADCAST).all(|f| f.1 == MAC4 && f.2[8..14] == MAC4.0));

    // And now it answers.
    let answer = echo(&mut lab);
    assert!(answer.iter().any(|(_, src, p)| *src == MAC6 && p[6] == 58), "{answer:02x?}");
}

#[test]
fn of_two_gateways_one_is_active_and_the_other_takes_over_when_it_is_gone() {
    let mut labs = [gateway(3, 200, 1), gateway(4, 100, 1)];
    run(&mut labs, 1_000);
    assert_eq!((is_active(&labs[0]), is_active(&labs[1])), (true, false));
    assert!(!echo(&mut labs[0]).is_empty());
    // Frames that a bridge floods to the backup are none of its business.
    labs[1].mark();
    assert!(echo(&mut labs[1]).is_empty());
    labs[1].assert_moved(&[("drop.not-our-mac", 1)]);
    // The active one is gone without a word.
    let [_, mut backup] = labs;
    let mut waited = 0;
    while !is_active(&backup) {
        let mut one = [backup];
        step(&mut one);
        clear(&one);
        [backup] = one;
        waited += 1;
        assert!(waited < 1_000);
    }
    // RFC 9568 6.1: three intervals and (256 - 100) / 256 of one, since the last advertisement.
    assert!((260..=363).contains(&waited), "{waited} ms");
    assert!(!echo(&mut backup).is_empty());
}

#[test]
fn one_with_a_higher_priority_takes_over_and_the_other_falls_silent() {
    let mut labs = [gateway(3, 200, 1), gateway(4, 100, 1)];
    // The lower one was alone for a while.
    run(&mut labs[1..], 1_000);
    assert!(is_active(&labs[1]));
    run(&mut labs, 1_000);
    assert_eq!((is_active(&labs[0]), is_active(&labs[1])), (true, false));
    assert!(!echo(&mut labs[0]).is_empty());
    assert!(echo(&mut labs[1]).is_empty());
}

#[test]
fn a_gateway_that_leaves_forwards_until_its_successor_is_heard() {
    let mut labs = [gateway(3, 200, 1), gateway(4, 100, 1)];
    run(&mut labs, 1_000);
    assert!(!labs[0].workers[0].may_stop(), "nobody has taken over yet");
    // Its priority 0 reaches the other.
    let said = sent(&labs[0], TENANT);
    assert_eq!((said[0].0, said[0].2[42]), (VRRP6, 0), "priority 0");
    for (port, frames) in [(TENANT, said), (UPLINK, sent(&labs[0], UPLINK))] {
        for (dst, src, packet) in frames {
            let frame = eth(dst, src).carry_as(if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 }, &packet);
            labs[1].give(0, port, &frame);
        }
    }
    let mut waited = 0;
    while !labs[0].workers[0].may_stop() {
        assert!(!echo(&mut labs[0]).is_empty(), "it forwards on, after {waited} ms");
        clear(&labs);
        step(&mut labs);
        waited += 1;
    }
    // The skew time of 61 ms, and not the whole active-down interval.
    assert!((55..80).contains(&waited), "{waited} ms");
    assert!(is_active(&labs[1]));
    // Somebody else is the router now: no last advertisement takes it back.
    clear(&labs);
    Worker::drain(&mut labs[0].workers[0]);
    assert!(sent(&labs[0], TENANT).is_empty());
}

#[test]
fn rfc4861_6_2_5_the_last_gateway_takes_its_advertisements_back() {
    let mut labs = [gateway(3, 200, 1)];
    run(&mut labs, 1_000);
    let mut waited = 0;
    while !labs[0].workers[0].may_stop() {
        labs[0].clock.0.set(labs[0].clock.0.get() + 1_000);
        waited += 1;
        assert!(waited < 1_000);
    }
    assert!((145..=155).contains(&waited), "an interval and a margin: {waited} ms");
    let last = sent(&labs[0], TENANT).pop().unwrap();
    assert_eq!((last.0, last.2[40], &last.2[46..48]), (ALL_NODES, 134, &[0, 0][..]), "router lifetime 0");
}

#[test]
fn the_other_workers_follow_the_first_and_do_not_trust_its_silence() {
    let mut labs = [gateway(3, 100, 2)];
    run(&mut labs, 1_000);
    let lab = &mut labs[0];
    assert!(lab.workers.iter().all(|w| w.active));
    // Worker 0 hangs: for as long as a backup would wait, worker 1 goes on.
    for ms in 0..400 {
        lab.clock.0.set(lab.clock.0.get() + 1_000);
        lab.workers[1].poll();
        if ms < 290 {
            assert!(lab.workers[1].active, "after {ms} ms");
        }
    }
    assert!(!lab.workers[1].active, "another gateway has taken over by now");
    lab.workers[0].poll();
    lab.workers[1].poll();
    assert!(lab.workers[1].active);
}

#[test]
fn after_the_processor_was_taken_away_what_came_meanwhile_is_heard_first() {
    let mut labs = [gateway(3, 200, 1), gateway(4, 100, 1)];
    run(&mut labs, 1_000);
    // The backup sleeps for half a second; its queue fills with other traffic, and advertisements behind it.
    let before = labs[1].clock.0.get();
    let noise = eth(mac(4, 1), VM1).carry(&ip6("2001:db8:64::101", "2001:db8:6::1").udp(1, 1, b""));
    for _ in 0..200 {
        labs[1].give(0, TENANT, &noise);
    }
    let (active, backup) = labs.split_at_mut(1);
    for _ in 0..500 {
        clear(active);
        step(active);
        for port in [TENANT, UPLINK] {
            let frames = active[0].wires.borrow().tx[port].clone();
            frames.iter().for_each(|f| backup[0].give(0, port, f));
        }
    }
    backup[0].clock.0.set(before + 500_000);
    for _ in 0..20 {
        backup[0].workers[0].poll();
        assert!(!is_active(&backup[0]), "the other one was there all the time");
        backup[0].clock.0.set(backup[0].clock.0.get() + 50);
    }
    run(&mut labs, 500);
    assert_eq!((is_active(&labs[0]), is_active(&labs[1])), (true, false));
}

#[test]
fn a_solicitation_is_answered_in_the_poll_that_brought_it_behind_a_full_burst() {
    let mut lab = {
        let mut labs = [gateway(3, 100, 1)];
        run(&mut labs, 5_000);
        let [lab] = labs;
        lab
    };
    // Full bursts of other traffic around the question.
    let noise = eth(MAC6, VM1).carry(&ip6("2001:db8:64::101", "2001:db8:6::1").udp(1, 1, b""));
    let rs = eth(MacAddr([0x33, 0x33, 0, 0, 0, 2]), VM1).carry(&ip6("fe80::101", "ff02::2").rs(Some(VM1)));
    let group = MacAddr([0x33, 0x33, 0xff, 0, 0, 1]);
    let ns =
        eth(group, VM1).carry(&ip6("2001:db8:64::101", "ff02::1:ff00:1").ns("2001:db8:64::1", Some(VM1)));
    for at in 0..32 {
        let frame = match at {
            10 => &rs,
            20 => &ns,
            _ => &noise,
        };
        lab.give(0, TENANT, frame);
    }
    lab.workers[0].poll();
    let answers: Vec<(MacAddr, u8)> =
        sent(&lab, TENANT).iter().filter(|(_, _, p)| p[6] == 58).map(|(dst, _, p)| (*dst, p[40])).collect();
    assert!(answers.contains(&(VM1, 134)) && answers.contains(&(VM1, 136)), "{answers:?}");
}

#[test]
fn the_time_of_a_leaving_gateway_is_bounded_by_the_bring_ups() {
    assert!(super::LEAVE_AT_MOST + Duration::from_millis(100) < causeway_hwprofiles::bringup::LEAVE_WITHIN);
}

#[test]
fn a_claim_of_a_virtual_address_is_heard_where_sources_are_leased() {
    let text = text(3, 100).replace(
        "on-link = [\"2001:db8:64::/64\"]",
        "on-link = [\"2001:db8:64::/64\"]\nsource-validation = \"leased\"\n[network.dhcpv6]\n\
         pools = [\"2001:db8:64::1000-2001:db8:64::10ff\"]",
    );
    let port = |name: &str, at| PortFacts { name: name.to_owned(), mac: mac(3, at), mtu: 1500 };
    let lab = Lab::with_ports(1, &text, &[port("tenant0", 1), port("uplink0", 2)]);
    let mut labs = [lab];
    run(&mut labs, 1_000);
    let [mut lab] = labs;
    assert!(is_active(&lab));
    // RFC 4862 5.4.4, RFC 9568 8.2.1: nobody else has the virtual router's address, and nobody leased it.
    let claim = ip6("2001:db8:64::1", "ff02::1").na("2001:db8:64::1", false, false, true, Some(VM1));
    lab.mark();
    lab.send(0, TENANT, &eth(ALL_NODES, VM1).carry(&claim));
    assert!(lab.moved().contains(&("address-conflicts".to_owned(), 1)), "{:?}", lab.moved());
}

#[test]
fn all_of_many_virtual_routers_say_that_they_stop() {
    const NETWORKS: usize = 70;
    let mut text = text(3, 100);
    for n in 1..=NETWORKS {
        text += &format!(
            "[[network]]\nname = \"v{n}\"\nport = \"tenant0\"\nvlan = {n}\nrole = \"tenant\"\n\
             on-link = [\"2001:db8:1:{n:x}::/64\"]\n\
             [[vrrp.router]]\nnetwork = \"v{n}\"\nvrid = 64\naddresses = [\"fe80::1\"]\n"
        );
    }
    let port = |name: &str, at| PortFacts { name: name.to_owned(), mac: mac(3, at), mtu: 1500 };
    let mut labs = [Lab::with_ports(1, &text, &[port("tenant0", 1), port("uplink0", 2)])];
    run(&mut labs, 1_000);
    assert!(is_active(&labs[0]));
    let _ = labs[0].workers[0].may_stop();
    let said = |lab: &Lab, port: usize| {
        let frames = std::mem::take(&mut lab.wires.borrow_mut().tx[port]);
        // With or without a VLAN tag.
        let vrrp = |f: &&Vec<u8>| f[..6] == VRRP6.0 || f[..6] == VRRP4.0;
        let priority = |f: &Vec<u8>| match (f[12..14] == [0x81, 0], f[..6] == VRRP6.0) {
            (true, _) => f[14 + 4 + 42],
            (false, true) => f[14 + 42],
            (false, false) => f[14 + 22],
        };
        frames.iter().filter(vrrp).map(priority).collect::<Vec<u8>>()
    };
    let (tenant, uplink) = (said(&labs[0], TENANT), said(&labs[0], UPLINK));
    assert_eq!((tenant.len(), uplink.len()), (NETWORKS + 1, 2));
    assert!(tenant.iter().chain(&uplink).all(|priority| *priority == 0));
}

#[test]
fn no_more_virtual_link_layer_addresses_than_a_port_takes() {
    let ports = [("tenant0", 1), ("uplink0", 2)].map(|(name, at)| PortFacts {
        name: name.to_owned(),
        mac: mac(3, at),
        mtu: 1500,
    });
    let build = |networks: u16| {
        let mut text = text(3, 100);
        for n in 1..=networks {
            text += &format!(
                "[[network]]\nname = \"v{n}\"\nport = \"tenant0\"\nvlan = {n}\nrole = \"tenant\"\n\
                 on-link = [\"2001:db8:1:{n:x}::/64\"]\n\
                 [[vrrp.router]]\nnetwork = \"v{n}\"\nvrid = {n}\naddresses = [\"fe80::1\"]\n"
            );
        }
        Plan::build(&Config::parse("lab.toml", &text).unwrap(), &ports, None).map(|_| ())
    };
    // The port's own and that of VRID 64 are there as well.
    build(30).unwrap();
    let why = build(31).expect_err("one is too many").to_string();
    assert!(why.contains("`tenant0`: 33 link-layer addresses"), "{why}");
}

/// An advertisement of gateway 4 on the tenant network, as a frame.
fn advert(priority: u8) -> Vec<u8> {
    let mut labs = [gateway(4, priority, 1)];
    for _ in 0..2_000 {
        clear(&labs);
        step(&mut labs);
        let frames = labs[0].wires.borrow().tx[TENANT].clone();
        if let Some(frame) = frames.into_iter().find(|f| f[..6] == VRRP6.0) {
            return frame;
        }
    }
    panic!("it says nothing");
}

#[test]
fn a_flood_of_advertisements_takes_no_room_from_what_else_is_handed_over() {
    let flood = advert(1);
    let mut labs = [gateway(3, 200, 2)];
    run(&mut labs, 1_000);
    let lab = &mut labs[0];
    lab.mark();
    for _ in 0..1_000 {
        lab.give(1, TENANT, &flood);
    }
    while lab.workers[1].poll() {}
    lab.assert_moved(&[("drop.vrrp-ring-full", 872), ("handed-off", 128)]);
    assert!(lab.shared.mailboxes[0].handoff.is_empty());
    // What was forwarded on its way is not even handed over (RFC 9568 5.1.2.3).
    let mut far = flood;
    far[14 + 7] = 254;
    lab.mark();
    lab.send(1, TENANT, &far);
    let told: Vec<_> = lab.moved().into_iter().filter(|(name, _)| name.contains("drop")).collect();
    assert_eq!(told, [("drop.vrrp-hop-limit".to_owned(), 1)]);
    assert!(lab.shared.mailboxes[0].vrrp.is_empty());
    assert_eq!(lab.shared.vrrp.status().adverts_received, 128);
    run(&mut labs, 500);
    assert!(is_active(&labs[0]), "the other one has the lower priority");
}

#[test]
fn what_waits_for_the_election_at_the_end_is_given_back_and_counted() {
    let flood = advert(1);
    let mut labs = [gateway(3, 200, 2)];
    run(&mut labs, 1_000);
    labs[0].give(1, TENANT, &flood);
    labs[0].workers[1].poll();
    labs[0].mark();
    labs[0].workers[0].drain();
    labs[0].assert_moved(&[("drop.shutdown", 1)]);
}

/// The queue that gets the advertisements belongs to a worker that stands still: what came is not known.
#[test]
fn rfc9568_6_4_2_a_backup_does_not_take_over_while_another_worker_has_not_looked() {
    let mut labs = [gateway(3, 200, 1), gateway(4, 100, 2)];
    run(&mut labs, 1_000);
    assert!(is_active(&labs[0]) && !is_active(&labs[1]));
    let (active, backup) = labs.split_at_mut(1);
    let (active, backup) = (&mut active[0], &mut backup[0]);
    backup.mark();
    let go = |active: &mut Lab, backup: &mut Lab, ms: u32, hangs: bool| {
        for _ in 0..ms {
            for (lab, n) in [(&mut *active, 1), (&mut *backup, if hangs { 1 } else { 2 })] {
                lab.clock.0.set(lab.clock.0.get() + 1_000);
                lab.wires.borrow_mut().tx.iter_mut().for_each(Vec::clear);
                lab.workers.iter_mut().take(n).for_each(|w| _ = w.poll());
            }
            for port in [TENANT, UPLINK] {
                let frames = active.wires.borrow().tx[port].clone();
                frames.iter().filter(|f| f[0] & 1 == 1).for_each(|f| backup.give(1, port, f));
            }
        }
    };
    go(active, backup, 2_000, true);
    assert!(!is_active(backup));
    assert_eq!(backup.shared.mailboxes[0].counters.get(causeway_core::Counter::VrrpHeldBack), 1);
    // It goes on, and what came meanwhile is heard before anything is decided.
    go(active, backup, 2_000, false);
    assert!(!is_active(backup));
    assert_eq!(backup.shared.vrrp.status().became_active, 0);
    // When the other one is gone it takes over as fast as ever.
    for ms in 0..400 {
        backup.clock.0.set(backup.clock.0.get() + 1_000);
        backup.workers.iter_mut().for_each(|w| _ = w.poll());
        if is_active(backup) {
            assert!((200..=370).contains(&ms), "{ms}");
            return;
        }
    }
    panic!("it does not take over");
}

/// Puts another configuration in force.
fn adopt(lab: &mut Lab, n: u8, text: &str) {
    let port = |name: &str, at| PortFacts { name: name.to_owned(), mac: mac(n, at), mtu: 1500 };
    let config = Config::parse("lab.toml", text).unwrap_or_else(|e| panic!("{e}"));
    let ports = [port("tenant0", 1), port("uplink0", 2)];
    let plan =
        Plan::build(&config, &ports, Some((&lab.plan, crate::worker::Clock::now(&lab.clock)))).unwrap();
    lab.plan = std::sync::Arc::new(plan);
    for m in &lab.shared.mailboxes {
        m.plans.push(std::sync::Arc::clone(&lab.plan)).unwrap();
    }
}

#[test]
fn rfc9568_6_4_2_an_address_that_active_virtual_routers_get_by_a_reload_is_announced() {
    let mut labs = [gateway(3, 200, 2), gateway(4, 100, 2)];
    run(&mut labs, 1_000);
    let wider = |n, priority| {
        text(n, priority)
            .replace(
                "\"fe80::1\", \"2001:db8:64::1\"",
                "\"fe80::1\", \"2001:db8:64::1\", \"2001:db8:64::77\"",
            )
            .replace("[\"192.0.2.2\"]", "[\"192.0.2.2\", \"192.0.2.77\"]")
    };
    for (lab, n, priority) in [(0, 3, 200), (1, 4, 100)] {
        adopt(&mut labs[lab], n, &wider(n, priority));
    }
    clear(&labs);
    // One poll of each, in turn, so that nothing of one is taken for the other's.
    labs.iter_mut().for_each(|lab| lab.workers.iter_mut().for_each(|w| _ = w.poll()));
    let new: std::net::Ipv6Addr = "2001:db8:64::77".parse().unwrap();
    let here = sent(&labs[0], TENANT);
    // RFC 4861 7.2.6: unsolicited, with the override flag, to all nodes, from the virtual link-layer address.
    let told = |(dst, src, p): &&(MacAddr, MacAddr, Vec<u8>)| {
        (*dst, *src) == (ALL_NODES, MAC6) && p[6] == 58 && p[40] == 136 && p[48..64] == new.octets()
    };
    let told: Vec<_> = here.iter().filter(told).collect();
    assert_eq!(told.len(), 1, "{here:02x?}");
    assert_eq!(told[0].2[44] & 0x60, 0x20);
    // RFC 5227 2.3.
    let arp = sent(&labs[0], UPLINK).into_iter().filter(|(dst, src, p)| {
        (*dst, *src) == (MacAddr::BROADCAST, MAC4)
            && p[14..18] == [192, 0, 2, 77]
            && p[24..28] == [192, 0, 2, 77]
    });
    assert_eq!(arp.count(), 1);
    let silent = [TENANT, UPLINK].map(|port| sent(&labs[1], port).len());
    assert_eq!(silent, [0, 0], "a backup has nothing to announce");
    // The same once more says nothing new.
    run(&mut labs, 5_000);
    adopt(&mut labs[0], 3, &wider(3, 200));
    clear(&labs);
    labs[0].workers.iter_mut().for_each(|w| _ = w.poll());
    let announced =
        sent(&labs[0], TENANT).iter().filter(|(dst, _, p)| *dst == ALL_NODES && p[40] == 136).count();
    assert_eq!(announced, 0);
}

#[test]
fn ports_are_told_which_virtual_link_layer_addresses_a_plan_has_there() {
    let lab = gateway(3, 100, 1);
    assert_eq!(lab.plan.virtual_macs(), [(0, MAC6), (1, MAC6), (1, MAC4)]);
    // The tenants' network moves to the uplink's port.
    let mut moved = gateway(3, 100, 1);
    let other = text(3, 100).replace("port = \"tenant0\"\nrole", "port = \"uplink0\"\nvlan = 5\nrole")
        + "[[network]]\nname = \"rest\"\nport = \"tenant0\"\nrole = \"tenant\"\non-link = [\"2001:db8:65::/64\"]\n";
    adopt(&mut moved, 3, &other);
    assert_eq!(moved.plan.virtual_macs(), [(1, MAC6), (1, MAC4)]);
    assert!(crate::plan::gains(&lab.plan.active.interfaces, &moved.plan.active.interfaces));
    assert!(!crate::plan::gains(&lab.plan.active.interfaces, &lab.plan.active.interfaces));
    // Fewer addresses are none that anybody has to hear of.
    let fewer = text(3, 100).replace("\"fe80::1\", \"2001:db8:64::1\"", "\"fe80::1\"");
    adopt(&mut moved, 3, &fewer);
    assert!(!crate::plan::gains(&lab.plan.active.interfaces, &moved.plan.active.interfaces));
}
