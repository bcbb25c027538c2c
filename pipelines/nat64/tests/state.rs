//! Mappings and sessions: who gets in, how long things live, what comes back (RFC 6146 3).

mod common;

use causeway_core::{DropReason, Duration};
use causeway_nat64::{Filtering, Options, Timeouts};
use causeway_testkit::{check_packet, ip4, ip6, tcp};
use common::*;
use std::collections::HashSet;
use std::net::Ipv4Addr;

const UDP: u8 = 17;
const TCP: u8 = 6;

fn udp(host: &str, port: u16, to: u16) -> Vec<u8> {
    ip6(host, SERVER6).udp(port, to, b"x")
}

fn from_server(out: (Ipv4Addr, u16), port: u16) -> Vec<u8> {
    ip4(SERVER, out.0).udp(port, out.1, b"x")
}

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn rfc4787_4_1_req_1_one_mapping_for_all_destinations() {
    let mut g = Gateway::lab();
    let outs: HashSet<_> = (1..20).map(|to| g.open(&udp(VM1, 4000, to))).collect();
    assert_eq!(outs.len(), 1);
    let other = g.open(&ip6(VM1, "2001:db8:64:ff9b::198.51.100.99").udp(4000, 53, b""));
    assert!(outs.contains(&other));
    assert_eq!((g.sessions(), g.mappings()), (20, 1));
}

#[test]
fn rfc4787_4_1_req_2_paired_one_address_for_a_host() {
    let mut g = Gateway::lab();
    let mut seen = HashSet::new();
    for port in 1..40 {
        seen.insert(g.open(&udp(VM1, port, 53)).0);
        seen.insert(g.open(&ip6(VM1, SERVER6).tcp(&tcp(port, 80).syn())).0);
        seen.insert(g.open(&ip6(VM1, SERVER6).echo_request(port, 1, b"")).0);
    }
    assert_eq!(seen.len(), 1);
    assert_eq!(g.mappings(), 117, "protocols do not share mappings");
}

#[test]
fn rfc4787_5_endpoint_independent_filtering_lets_strangers_in() {
    let mut g = Gateway::lab();
    let out = g.open(&udp(VM1, 4000, 53));
    let b = g.four(&ip4(CLIENT, out.0).udp(9999, out.1, b"hello")).sent();
    check_packet(&b).unwrap();
    assert_eq!(b, ip6("2001:db8:64:ff9b::198.51.100.99", VM1).hop_limit(63).udp(9999, 4000, b"hello"));
    assert_eq!((g.sessions(), g.mappings()), (2, 1));
    // And the answer goes by the session that the stranger opened.
    let b = g.six(&ip6(VM1, "2001:db8:64:ff9b::198.51.100.99").udp(4000, 9999, b"you")).sent();
    assert_eq!((&b[12..16], &b[20..22]), (&out.0.octets()[..], &out.1.to_be_bytes()[..]));
    assert_eq!(g.sessions(), 2);
}

#[test]
fn rfc4787_5_address_and_port_dependent_filtering_lets_only_the_peer_in() {
    let mut g = Gateway::with(Options { filtering: Filtering::AddressAndPortDependent, ..options() });
    let out = g.open(&udp(VM1, 4000, 53));
    assert_eq!(g.four(&from_server(out, 54)).dropped(), DropReason::Nat64Filtered);
    assert_eq!(g.four(&ip4(CLIENT, out.0).udp(53, out.1, b"")).dropped(), DropReason::Nat64Filtered);
    assert!(matches!(g.four(&from_server(out, 53)), Fate::Sent(..)));
    let t = g.open(&ip6(VM1, SERVER6).tcp(&tcp(4000, 80).syn()));
    let syn = ip4(CLIENT, t.0).tcp(&tcp(80, t.1).syn());
    assert_eq!(g.four(&syn), Fate::Held, "for the other half of a simultaneous open");
    let ack = ip4(CLIENT, t.0).tcp(&tcp(80, t.1).ack(1));
    assert_eq!(g.four(&ack).dropped(), DropReason::Nat64Filtered);
    assert_eq!(g.sessions(), 2);
}

#[test]
fn rfc6146_3_5_without_a_mapping_nothing_gets_in() {
    let mut g = Gateway::lab();
    let out = g.open(&udp(VM1, 4000, 53));
    for p in [
        ip4(SERVER, out.0).udp(53, out.1 ^ 1, b""),
        ip4(SERVER, out.0).tcp(&tcp(53, out.1).ack(1)),
        ip4(SERVER, out.0).tcp(&tcp(53, out.1).syn().ack(1)),
        ip4(SERVER, out.0).echo_request(out.1, 1, b""),
        ip4(SERVER, "203.0.113.14").udp(53, 1, b""),
    ] {
        assert_eq!(g.four(&p).dropped(), DropReason::Nat64NoBib);
    }
    assert!(g.rig.sent().is_empty(), "strangers are told nothing");
    assert_eq!(g.sessions(), 1);
}

#[test]
fn rfc4787_4_3_udp_lives_five_minutes_from_the_last_packet_from_inside() {
    let mut g = Gateway::lab();
    let out = g.open(&udp(VM1, 4000, 53));
    for _ in 0..3 {
        g.pass(s(290));
        assert_eq!(g.open(&udp(VM1, 4000, 53)), out, "renewed");
    }
    // Packets from outside do not renew it.
    for _ in 0..29 {
        g.pass(s(10));
        assert!(matches!(g.four(&from_server(out, 53)), Fate::Sent(..)));
    }
    g.pass(s(11));
    assert_eq!((g.sessions(), g.mappings()), (0, 0));
    assert_eq!(g.four(&from_server(out, 53)).dropped(), DropReason::Nat64NoBib);
}

#[test]
fn timeouts_are_not_shorter_than_promised() {
    let t = Timeouts { udp: s(2), ..Timeouts::default() };
    let mut g = Gateway::with(Options { timeouts: t, ..options() });
    for phase_ms in [0, 100, 240, 249] {
        g.rig.advance(Duration::from_millis(phase_ms));
        let out = g.open(&udp(VM1, 4000, 53));
        g.pass(s(2));
        assert_eq!(g.sessions(), 1, "{phase_ms}");
        assert!(matches!(g.four(&from_server(out, 53)), Fate::Sent(..)));
        g.pass(Duration::from_millis(600));
        assert_eq!(g.sessions(), 0, "{phase_ms}");
    }
}

#[test]
fn rfc5508_3_2_an_icmp_query_lives_a_minute() {
    let mut g = Gateway::lab();
    let out = g.open(&ip6(VM1, SERVER6).echo_request(5, 1, b""));
    g.pass(s(59));
    assert!(matches!(g.four(&ip4(SERVER, out.0).echo_reply(out.1, 1, b"")), Fate::Sent(..)));
    g.pass(s(2));
    assert_eq!(g.sessions(), 0);
}

#[test]
fn rfc6146_3_5_2_a_tcp_connection_from_inside_from_syn_to_end() {
    let mut g = Gateway::lab();
    let six = ip6(VM1, SERVER6);
    let out = g.open(&six.tcp(&tcp(5000, 80).syn()));
    let four = ip4(SERVER, out.0);
    let state = |g: &mut Gateway| g.state(out, (SERVER, 80), TCP);
    assert_eq!(state(&mut g), Some(2), "V6 INIT");
    g.pass(s(239));
    let b = g.four(&four.tcp(&tcp(80, out.1).syn().ack(1))).sent();
    check_packet(&b).unwrap();
    assert_eq!(state(&mut g), Some(3), "ESTABLISHED");
    g.pass(s(7400));
    g.six(&six.tcp(&tcp(5000, 80).ack(1).payload(b"data"))).sent();
    g.pass(s(7400));
    assert_eq!(state(&mut g), Some(3));
    g.four(&four.tcp(&tcp(80, out.1).fin().ack(1))).sent();
    assert_eq!(state(&mut g), Some(4), "V4 FIN RCV");
    g.six(&six.tcp(&tcp(5000, 80).fin().ack(1))).sent();
    assert_eq!(state(&mut g), Some(6), "both FINs");
    g.four(&four.tcp(&tcp(80, out.1).ack(1))).sent();
    g.pass(s(239));
    assert_eq!(state(&mut g), Some(6));
    g.pass(s(2));
    assert_eq!((g.sessions(), g.mappings()), (0, 0));
}

#[test]
fn rfc7857_2_1_opening_and_closing_have_timeouts_of_their_own() {
    let t = Timeouts { tcp_opening: s(30), ..Timeouts::default() };
    let mut g = Gateway::with(Options { timeouts: t, ..options() });
    g.open(&ip6(VM1, SERVER6).tcp(&tcp(5000, 80).syn()));
    let out = g.open(&ip6(VM1, SERVER6).tcp(&tcp(5001, 80).syn()));
    g.four(&ip4(SERVER, out.0).tcp(&tcp(80, out.1).rst())).sent();
    let open = g.open(&ip6(VM1, SERVER6).tcp(&tcp(5002, 80).syn()));
    g.four(&ip4(SERVER, open.0).tcp(&tcp(80, open.1).syn().ack(1))).sent();
    g.four(&ip4(SERVER, open.0).tcp(&tcp(80, open.1).rst())).sent();
    g.pass(s(30));
    assert_eq!(g.sessions(), 3);
    // RFC 7857 2.2 leaves a reset connection its four minutes; one that never opened has its own.
    g.pass(s(1));
    assert_eq!(g.sessions(), 1);
    g.pass(s(209));
    assert_eq!(g.sessions(), 1);
    g.pass(s(1));
    assert_eq!(g.sessions(), 0);
}

#[test]
fn rfc5382_5_req_5_an_established_connection_lives_two_hours_and_four_minutes() {
    let mut g = Gateway::lab();
    let out = g.open(&ip6(VM1, SERVER6).tcp(&tcp(5000, 80).syn()));
    g.four(&ip4(SERVER, out.0).tcp(&tcp(80, out.1).syn().ack(1))).sent();
    g.pass(s(7440));
    assert_eq!(g.state(out, (SERVER, 80), TCP), Some(3));
    g.pass(s(1));
    assert_eq!(g.state(out, (SERVER, 80), TCP), Some(7), "TRANS: it is being probed");
    g.pass(s(241));
    assert_eq!(g.sessions(), 0);
}

#[test]
fn rfc7857_2_2_a_reset_leaves_four_minutes_and_data_revokes_it() {
    let mut g = Gateway::lab();
    let six = ip6(VM1, SERVER6);
    let out = g.open(&six.tcp(&tcp(5000, 80).syn()));
    let four = ip4(SERVER, out.0);
    g.four(&four.tcp(&tcp(80, out.1).syn().ack(1))).sent();
    let b = g.four(&four.tcp(&tcp(80, out.1).rst())).sent();
    check_packet(&b).unwrap();
    assert_eq!(g.state(out, (SERVER, 80), TCP), Some(7), "TRANS");
    g.pass(s(200));
    g.six(&six.tcp(&tcp(5000, 80).ack(1).payload(b"still here"))).sent();
    assert_eq!(g.state(out, (SERVER, 80), TCP), Some(3));
    g.six(&six.tcp(&tcp(5000, 80).rst())).sent();
    g.pass(s(241));
    assert_eq!(g.sessions(), 0);
}

#[test]
fn rfc6146_3_5_2_2_a_syn_from_outside_through_a_mapping_opens_v4_init() {
    let mut g = Gateway::lab();
    let out = g.open(&ip6(VM1, SERVER6).tcp(&tcp(5000, 80).syn()));
    let b = g.four(&ip4(CLIENT, out.0).tcp(&tcp(1234, out.1).syn())).sent();
    check_packet(&b).unwrap();
    assert_eq!(g.state(out, (CLIENT, 1234), TCP), Some(1));
    let to_client = ip6(VM1, "2001:db8:64:ff9b::198.51.100.99");
    g.six(&to_client.tcp(&tcp(5000, 1234).syn().ack(1))).sent();
    assert_eq!(g.state(out, (CLIENT, 1234), TCP), Some(3));
}

#[test]
fn rfc6146_3_5_2_2_segments_without_session_use_the_mapping_or_are_dropped() {
    let mut g = Gateway::lab();
    let six = ip6(VM1, SERVER6);
    for stray in [tcp(5000, 80).ack(1), tcp(5000, 80).rst(), tcp(5000, 80).fin().ack(1)] {
        assert_eq!(g.six(&six.tcp(&stray)).dropped(), DropReason::Nat64NoSession);
    }
    assert_eq!((g.sessions(), g.mappings()), (0, 0));
    let out = g.open(&six.tcp(&tcp(5000, 80).syn()));
    let b = g.six(&six.tcp(&tcp(5000, 81).rst())).sent();
    check_packet(&b).unwrap();
    assert_eq!((&b[12..16], &b[20..22]), (&out.0.octets()[..], &out.1.to_be_bytes()[..]));
    let b = g.four(&ip4(SERVER, out.0).tcp(&tcp(82, out.1).rst())).sent();
    check_packet(&b).unwrap();
    assert_eq!(b[40..44], [0, 82, 5000u16.to_be_bytes()[0], 5000u16.to_be_bytes()[1]]);
    assert_eq!(g.sessions(), 1, "no state was made");
}

#[test]
fn rfc6191_2_a_new_connection_over_the_same_ports_after_both_fins() {
    let mut g = Gateway::lab();
    let six = ip6(VM1, SERVER6);
    let out = g.open(&six.tcp(&tcp(5000, 80).syn()));
    let four = ip4(SERVER, out.0);
    g.four(&four.tcp(&tcp(80, out.1).syn().ack(1))).sent();
    g.six(&six.tcp(&tcp(5000, 80).fin().ack(1))).sent();
    g.four(&four.tcp(&tcp(80, out.1).fin().ack(1))).sent();
    g.pass(s(60));
    g.six(&six.tcp(&tcp(5000, 80).syn())).sent();
    g.four(&four.tcp(&tcp(80, out.1).syn().ack(1))).sent();
    g.pass(s(3600));
    g.six(&six.tcp(&tcp(5000, 80).ack(1).payload(b"x"))).sent();
    assert_eq!(g.state(out, (SERVER, 80), TCP), Some(3));
}

#[test]
fn rfc6146_3_8_hairpinning_udp_and_tcp_but_not_echo() {
    let mut g = Gateway::lab();
    let b = g.open(&udp(VM2, 7000, 53));
    let pool6 = |a: Ipv4Addr| g_prefix(a);
    // VM1 sends to VM2's outside address.
    let p = ip6(VM1, pool6(b.0)).hop_limit(64).udp(4000, b.1, b"neighbour");
    let got = g.six(&p).sent();
    check_packet(&got).unwrap();
    assert_eq!(&got[24..40], &v6(VM2).octets());
    assert_eq!(got[7], 63, "one hop less, not two");
    assert_eq!(u16::from_be_bytes([got[42], got[43]]), 7000);
    assert_eq!(&got[48..], b"neighbour");
    // What VM2 sees as the source answers.
    let seen = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&got[8..24]).unwrap());
    let port = u16::from_be_bytes([got[40], got[41]]);
    let back = g.six(&ip6(VM2, seen).udp(7000, port, b"hi")).sent();
    check_packet(&back).unwrap();
    assert_eq!(&back[8..24], &pool6(b.0).octets(), "from the address that VM1 sent to");
    assert_eq!(&back[24..40], &v6(VM1).octets());
    assert_eq!(
        (u16::from_be_bytes([back[40], back[41]]), u16::from_be_bytes([back[42], back[43]])),
        (b.1, 4000)
    );
    assert_eq!(g.rig.counters.get(causeway_core::Counter::Nat64Hairpin), 2);

    let t = g.open(&ip6(VM2, SERVER6).tcp(&tcp(22, 80).syn()));
    let got = g.six(&ip6(VM1, pool6(t.0)).tcp(&tcp(4000, t.1).syn())).sent();
    check_packet(&got).unwrap();
    // RFC 6146 3.8 and RFC 5508 4 leave echo out: it has one identifier only, the sender's. Two hosts that
    // share a pool address would show something else: then the ping is to the sender's own mapping.
    let apart = (0..100).find_map(|_| {
        let mut g = Gateway::lab();
        let own = g.open(&udp(VM1, 4000, 53));
        let e = g.open(&ip6(VM2, SERVER6).echo_request(99, 1, b""));
        (own.0 != e.0).then_some((g, e))
    });
    let (mut g, e) = apart.expect("one of a hundred gateways gives two hosts different addresses");
    let ping = ip6(VM1, pool6(e.0)).echo_request(e.1 ^ 1, 1, b"ping");
    assert_eq!(g.six(&ping).dropped(), DropReason::Nat64NoBib);
}

fn g_prefix(a: Ipv4Addr) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::from_bits(v6("2001:db8:64:ff9b::").to_bits() | u128::from(a.to_bits()))
}

#[test]
fn rfc6146_3_5_1_1_a_full_pool_is_told_and_old_flows_go_on() {
    let o = Options {
        pool: vec!["203.0.113.1/32".parse().unwrap()],
        first_port: 2000,
        last_port: 2009,
        ..options()
    };
    let mut g = Gateway::with(o);
    let outs: Vec<_> = (0..10).map(|n| g.open(&udp(VM1, 100 + n, 53))).collect();
    assert_eq!(outs.iter().collect::<HashSet<_>>().len(), 10);
    let _ = g.rig.sent();
    assert_eq!(g.six(&udp(VM1, 200, 53)).dropped(), DropReason::Nat64PoolFull);
    let sent = g.rig.sent();
    assert_eq!((sent[0].octets[40], sent[0].octets[41]), (1, 3), "address unreachable");
    assert_eq!(g.open(&udp(VM1, 100, 53)), outs[0]);
    assert_eq!(g.sessions(), 10, "what failed left nothing behind");
    // The same port to another destination needs no new port.
    assert_eq!(g.open(&udp(VM1, 101, 54)), outs[1]);
    // TCP has ports of its own.
    g.open(&ip6(VM1, SERVER6).tcp(&tcp(1, 80).syn()));
}

#[test]
fn a_full_table_is_told_and_gives_everything_back() {
    let mut g = Gateway::sized(options(), 64);
    let mut made = 0;
    for port in 1..2000 {
        match g.six(&udp(VM1, port, 53)) {
            Fate::Sent(..) => made += 1,
            other => assert_eq!(other.dropped(), DropReason::Nat64TableFull),
        }
    }
    assert!(made >= 64, "{made}");
    assert_eq!(g.sessions(), made);
    let in_use: u32 = g.nat.pool().usage().map(|u| u.in_use).sum();
    assert_eq!(in_use as usize, made, "no port is lost");
    g.pass(s(301));
    assert_eq!((g.sessions(), g.mappings()), (0, 0));
}

#[test]
fn rfc6888_3_req_11b_no_room_for_a_session_from_outside_is_told() {
    let mut g = Gateway::sized(options(), 64);
    let out = g.open(&udp(VM1, 1, 53));
    assert!((54..2000).any(|to| !matches!(g.six(&udp(VM1, 1, to)), Fate::Sent(..))), "full");
    let _ = g.rig.sent();
    let sessions = g.sessions();
    assert_eq!(g.four(&ip4(CLIENT, out.0).udp(9, out.1, b"x")).dropped(), DropReason::Nat64TableFull);
    let sent = g.rig.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].octets[16..22], [198, 51, 100, 99, 3, 1], "host unreachable");
    // Flows that are open go on in both directions.
    assert!(matches!(g.four(&from_server(out, 53)), Fate::Sent(..)));
    assert_eq!(g.open(&udp(VM1, 1, 53)), out);
    assert_eq!((g.sessions(), g.mappings()), (sessions, 1));
}

#[test]
fn rfc4787_9_req_12_and_rfc5382_7_3_req_10_icmp_errors_end_nothing() {
    let mut g = Gateway::lab();
    let u = g.open(&udp(VM1, 4000, 53));
    let t = g.open(&ip6(VM1, SERVER6).tcp(&tcp(5000, 80).syn()));
    g.four(&ip4(SERVER, t.0).tcp(&tcp(80, t.1).syn().ack(1))).sent();
    let about = [ip4(u.0, SERVER).udp(u.1, 53, b"x"), ip4(t.0, SERVER).tcp(&tcp(t.1, 80).ack(1))];
    for (kind, code) in [(3, 0), (3, 1), (3, 2), (3, 3), (3, 13), (11, 0)] {
        for p in &about {
            // The server, and a router on the way.
            for from in [SERVER, CLIENT] {
                let got = g.four(&ip4(from, t.0).icmp(kind, code, [0; 4], p));
                assert!(matches!(got, Fate::Sent(..)), "{kind} {code}: {got:?}");
            }
        }
    }
    assert_eq!(g.state(t, (SERVER, 80), TCP), Some(3), "still ESTABLISHED");
    assert_eq!((g.sessions(), g.mappings()), (2, 2));
    g.pass(s(299));
    assert_eq!(g.sessions(), 2);
    g.pass(s(2));
    assert_eq!(g.sessions(), 1, "and they renewed nothing");
}

#[test]
fn rfc6888_3_req_8_ports_come_back_after_they_rested() {
    let mut g = Gateway::lab();
    for port in 1..100 {
        g.open(&udp(VM1, port, 53));
    }
    let in_use = |g: &Gateway| g.nat.pool().usage().map(|u| u.in_use).sum::<u32>();
    assert_eq!(in_use(&g), 99);
    g.pass(s(301));
    assert_eq!((g.mappings(), in_use(&g)), (0, 99), "they rest");
    for _ in 0..300 {
        g.pass(s(1));
    }
    assert_eq!(in_use(&g), 0);
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 99),
        ("nat64-sessions-created", 99),
        ("nat64-sessions-ended", 99),
        ("nat64-mappings-created", 99),
        ("nat64-mappings-ended", 99),
    ]);
}

#[test]
fn no_route_is_told_to_both_sides() {
    let mut g = Gateway::lab();
    let out = g.open(&udp(VM1, 4000, 53));
    let _ = g.rig.sent();
    let routes = std::mem::take(&mut g.rig.routes);
    assert_eq!(g.six(&udp(VM1, 4000, 53)).dropped(), DropReason::NoRoute);
    assert_eq!(g.four(&from_server(out, 53)).dropped(), DropReason::NoRoute);
    g.rig.routes = routes;
    let sent = g.rig.sent();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().any(|l| l.octets[0] >> 4 == 6 && l.octets[40..42] == [1, 0]));
    assert!(sent.iter().any(|l| l.octets[0] >> 4 == 4 && l.octets[20..22] == [3, 1]));
}

#[test]
fn a_vector_of_many_flows_is_one_of_each_in_order() {
    let mut g = Gateway::lab();
    let packets: Vec<Vec<u8>> = (0..100u16).map(|n| udp(VM1, 1000 + n % 40, 53 + n % 3)).collect();
    let fates = g.vector("tenant0", &packets, true);
    assert_eq!(fates.len(), 100);
    let mut ports = std::collections::HashMap::new();
    for (p, f) in packets.iter().zip(fates) {
        let b = f.sent();
        check_packet(&b).unwrap();
        assert_eq!(&b[22..24], &p[42..44], "destination port");
        let seen = ports.entry([p[40], p[41]]).or_insert([b[20], b[21]]);
        assert_eq!(*seen, [b[20], b[21]]);
    }
    assert_eq!(g.mappings(), 40);
}

#[test]
fn a_new_plan_ends_what_it_no_longer_allows() {
    let mut g = Gateway::lab();
    let out = g.open(&udp(VM1, 4000, 53));
    let keep = Options { generation: 1, ..options() };
    let config = std::sync::Arc::new(g.nat.config().successor(keep).unwrap());
    let pool = std::sync::Arc::new(g.nat.pool().successor(&config));
    g.nat.reconfigure(config, pool);
    g.sweep();
    assert_eq!(g.open(&udp(VM1, 4000, 53)), out, "the flow goes on");
    let other = Options { generation: 2, pool: vec!["192.0.2.128/28".parse().unwrap()], ..options() };
    let config = std::sync::Arc::new(g.nat.config().successor(other).unwrap());
    let pool = std::sync::Arc::new(g.nat.pool().successor(&config));
    g.nat.reconfigure(config, pool);
    g.sweep();
    assert_eq!(g.sessions(), 0);
    let new = g.open(&udp(VM1, 4000, 53));
    assert_eq!(new.0.octets()[..3], [192, 0, 2]);
    assert_eq!(g.state(new, (SERVER, 53), UDP), Some(0));
}

#[test]
fn a_new_plan_never_leaves_half_a_flow() {
    // Two flows of one mapping, and no sweep comes along.
    let mut g = Gateway::lab();
    let out = g.open(&udp(VM1, 4000, 53));
    assert_eq!(g.open(&udp(VM1, 4000, 54)), out);
    let other = Options { generation: 1, pool: vec!["192.0.2.128/28".parse().unwrap()], ..options() };
    let config = std::sync::Arc::new(g.nat.config().successor(other).unwrap());
    let pool = std::sync::Arc::new(g.nat.pool().successor(&config));
    g.nat.reconfigure(config, pool);
    // Nothing leaves from an address whose answers would not come back: the mapping waits for its other flow.
    assert_eq!(g.six(&udp(VM1, 4000, 53)).dropped(), DropReason::Nat64Building);
    assert_eq!((g.sessions(), g.mappings()), (1, 1));
    assert_eq!(g.four(&from_server(out, 54)).dropped(), DropReason::Nat64NoBib);
    assert_eq!((g.sessions(), g.mappings()), (0, 0), "and that ends with its next packet, from either side");
    let new = g.open(&udp(VM1, 4000, 53));
    assert_eq!(new.0.octets()[..3], [192, 0, 2]);
    assert_eq!(g.open(&udp(VM1, 4000, 54)), new);
    g.four(&from_server(new, 54)).sent();
    assert_eq!((g.sessions(), g.mappings()), (2, 1));
}

#[test]
fn a_flow_of_a_newer_plan_is_no_concern_of_an_older_one() {
    // As at a worker that takes over the plan a moment later than the one that made the flow.
    let mut g = Gateway::with(Options { generation: u16::MAX, ..options() });
    let old = (std::sync::Arc::clone(g.nat.config()), std::sync::Arc::clone(g.nat.pool()));
    let other = Options { generation: 0, pool: vec!["192.0.2.128/28".parse().unwrap()], ..options() };
    let config = std::sync::Arc::new(g.nat.config().successor(other).unwrap());
    let pool = std::sync::Arc::new(g.nat.pool().successor(&config));
    g.nat.reconfigure(config, pool);
    let out = g.open(&udp(VM1, 4000, 53));
    g.nat.reconfigure(old.0, old.1);
    assert_eq!(g.open(&udp(VM1, 4000, 53)), out);
    g.sweep();
    assert_eq!(g.sessions(), 1);
    assert_eq!(g.open(&udp(VM1, 4000, 53)), out);
}

#[test]
fn a_new_plan_with_other_prefixes_never_mixes_flows_up() {
    let mut g = Gateway::lab();
    let out = g.open(&udp(VM1, 4000, 53));
    // The prefix goes, and another takes its place in the list.
    let other = Options { generation: 1, prefixes: vec!["2001:db8:77::/96".parse().unwrap()], ..options() };
    let config = std::sync::Arc::new(g.nat.config().successor(other.clone()).unwrap());
    let pool = std::sync::Arc::new(g.nat.pool().successor(&config));
    g.nat.reconfigure(config, pool);
    assert_eq!(g.four(&from_server(out, 53)).dropped(), DropReason::Nat64NoBib);
    let out = g.open(&ip6(VM1, "2001:db8:77::198.51.100.10").udp(4000, 54, b""));
    assert_eq!(g.sessions(), 1, "the old one ended");
    g.sweep();
    assert_eq!(g.sessions(), 1);
    // The new prefix stays, behind another one: its flow goes on.
    let prefixes = ["2001:db8:64:ff9b::/96", "2001:db8:77::/96"].map(|p| p.parse().unwrap()).to_vec();
    let config =
        std::sync::Arc::new(g.nat.config().successor(Options { generation: 2, prefixes, ..other }).unwrap());
    let pool = std::sync::Arc::new(g.nat.pool().successor(&config));
    g.nat.reconfigure(config, pool);
    g.sweep();
    let b = g.four(&from_server(out, 54)).sent();
    assert_eq!(b[8..24], v6("2001:db8:77::198.51.100.10").octets());
}

/// Two reloads in a row, and neither the sweep nor a packet came along in between.
#[test]
fn a_flow_never_goes_on_under_a_prefix_that_has_its_number_later() {
    let mut g = Gateway::lab();
    let out = g.open(&udp(VM1, 4000, 53));
    let plan = |generation, list: &[&str]| Options {
        generation,
        prefixes: list.iter().map(|p| p.parse().unwrap()).collect(),
        ..options()
    };
    g.reconfigure(plan(1, &["2001:db8:77::/96"]));
    g.reconfigure(plan(2, &["2001:db8:77::/96", "2001:db8:78::/96"]));
    // The same numbers as the old flow has, and another prefix.
    let old = out;
    let out = g.open(&ip6(VM1, "2001:db8:78::198.51.100.10").udp(4000, 53, b"q"));
    assert_ne!(out, old, "the old flow and its mapping have ended");
    let b = g.four(&from_server(out, 53)).sent();
    causeway_testkit::check_packet(&b).unwrap();
    assert_eq!(b[8..24], v6("2001:db8:78::198.51.100.10").octets());
    assert_eq!(g.sessions(), 1);
    // However many reloads come, a flow whose prefix stays goes on.
    for generation in 3..70_000u32 {
        if generation % 5000 == 0 {
            g.reconfigure(plan(generation as u16, &["2001:db8:78::/96"]));
            assert!(matches!(g.four(&from_server(out, 53)), Fate::Sent(..)));
        }
    }
    assert_eq!(g.sessions(), 1);
}

#[test]
fn a_segment_without_session_leaves_by_no_mapping_that_the_plan_no_longer_allows() {
    let mut g = Gateway::lab();
    g.open(&ip6(VM1, SERVER6).tcp(&tcp(4000, 80).syn()));
    let late = ip6(VM1, SERVER6).tcp(&tcp(4000, 81).fin().ack(1));
    g.six(&late).sent();
    g.reconfigure(Options { generation: 1, pool: vec!["192.0.2.128/28".parse().unwrap()], ..options() });
    assert_eq!(g.six(&late).dropped(), DropReason::Nat64NoSession);
}

/// No sweep comes along, and the error is the first packet of the flow under the new plan.
#[test]
fn an_error_leaves_by_no_session_that_the_plan_no_longer_allows() {
    for side in [0, 1] {
        let mut g = Gateway::lab();
        let out = g.open(&udp(VM1, 4000, 53));
        let got = g.four(&from_server(out, 53)).sent();
        let six = ip6(VM1, SERVER6).icmp(1, 4, [0; 4], &got);
        let four = ip4(SERVER, out.0).icmp(3, 3, [0; 4], &ip4(out.0, SERVER).udp(out.1, 53, b"x"));
        assert!(matches!((g.six(&six), g.four(&four)), (Fate::Sent(..), Fate::Sent(..))));
        g.reconfigure(Options { generation: 1, pool: vec!["192.0.2.128/28".parse().unwrap()], ..options() });
        let fate = if side == 0 { g.six(&six) } else { g.four(&four) };
        assert_eq!(fate.dropped(), DropReason::Nat64IcmpNoSession);
        assert_eq!((g.sessions(), g.mappings()), (0, 0));
    }
}

/// NAT64 was taken out of the configuration and has come back: nothing is known of its old numbers.
#[test]
fn a_configuration_without_history_takes_no_flow_over() {
    let mut g = Gateway::lab();
    let out = g.open(&udp(VM1, 4000, 53));
    let other = Options { generation: 2, prefixes: vec!["2001:db8:77::/96".parse().unwrap()], ..options() };
    let config = std::sync::Arc::new(causeway_nat64::Config::new(other).unwrap());
    let pool = std::sync::Arc::new(causeway_nat64::Pool4::new(&config));
    g.nat.reconfigure(config, pool);
    assert_eq!(g.four(&from_server(out, 53)).dropped(), DropReason::Nat64NoBib);
    assert_eq!((g.sessions(), g.mappings()), (0, 0));
}
