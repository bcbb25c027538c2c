//! What the NAT requirements (RFC 4787, 5382, 5508, 6888, 7857) ask of mappings and sessions.

mod common;

use causeway_core::{DropReason, Duration};
use causeway_nat64::{Filtering, Options, Timeouts};
use causeway_testkit::{check_packet, ip4, ip6, tcp};
use common::*;
use std::collections::HashSet;
use std::net::Ipv4Addr;

const OTHER6: &str = "2001:db8:64:ff9b::198.51.100.99";

fn udp(host: &str, port: u16, dst: &str, to: u16) -> Vec<u8> {
    ip6(host, dst).udp(port, to, b"x")
}

fn syn(host: &str, port: u16, dst: &str, to: u16) -> Vec<u8> {
    ip6(host, dst).tcp(&tcp(port, to).syn())
}

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// RFC 4787 4.1 (REQ-1), RFC 5382 4.1 (REQ-1).
#[test]
fn rfc6146_5_2_mappings_are_endpoint_independent() {
    let mut g = Gateway::lab();
    for packet in [udp, syn] {
        let first = g.open(&packet(VM1, 4000, SERVER6, 53));
        for (dst, port) in [(SERVER6, 54), (OTHER6, 53), (OTHER6, 9)] {
            assert_eq!(g.open(&packet(VM1, 4000, dst, port)), first);
        }
        assert_ne!(g.open(&packet(VM1, 4001, SERVER6, 53)), first);
        assert_ne!(g.open(&packet(VM2, 4000, SERVER6, 53)), first);
    }
    assert_eq!((g.mappings(), g.sessions()), (6, 12));
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 12),
        ("nat64-mappings-created", 6),
        ("nat64-sessions-created", 12),
    ]);
}

/// RFC 4787 4.2.1 (REQ-3a).
#[test]
fn rfc6146_3_5_1_1_3_5_2_3_port_ranges_are_kept_while_there_are_ports() {
    for packet in [udp, syn] {
        let pool = vec!["203.0.113.1/32".parse().unwrap()];
        let mut g = Gateway::with(Options { pool, first_port: 1020, last_port: 1100, ..options() });
        for n in 0..4 {
            assert!(g.open(&packet(VM1, 100 + n, SERVER6, 53)).1 < 1024);
        }
        for n in 0..76 {
            assert!(g.open(&packet(VM1, 2000 + n, SERVER6, 53)).1 >= 1024);
        }
        // None is left below 1024: another range is better than nothing.
        assert!(g.open(&packet(VM1, 200, SERVER6, 53)).1 >= 1024);
    }
}

/// RFC 4787 4.2.2 (REQ-4); RFC 7857 8: it can be turned off.
#[test]
fn rfc6146_3_5_1_1_3_5_2_3_parity_is_kept_unless_turned_off() {
    let mut g = Gateway::lab();
    for n in 0..200 {
        assert_eq!(g.open(&udp(VM1, 4000 + n, SERVER6, 53)).1 % 2, n % 2);
    }
    let mut g = Gateway::with(Options { keep_parity: false, ..options() });
    let kept = (0..200).filter(|n| g.open(&udp(VM1, 4000 + n, SERVER6, 53)).1 % 2 == n % 2).count();
    assert!((50..150).contains(&kept), "{kept}");
}

/// RFC 4787 4.1 (REQ-2), RFC 6888 3 (REQ-2): over all protocols.
#[test]
fn rfc6146_3_5_1_1_3_5_2_3_paired_over_all_protocols() {
    let mut g = Gateway::lab();
    for host in [VM1, VM2] {
        let mut addresses = HashSet::new();
        for n in 0..50 {
            addresses.insert(g.open(&udp(host, 4000 + n, SERVER6, 53)).0);
            addresses.insert(g.open(&syn(host, 4000 + n, OTHER6, 53)).0);
            addresses.insert(g.open(&ip6(host, SERVER6).echo_request(4000 + n, 1, b"")).0);
        }
        assert_eq!(addresses.len(), 1);
    }
}

/// RFC 7857 4: when the address of a host is full, another one is better than no connection.
#[test]
fn rfc7857_4_a_host_whose_address_is_full_gets_another_one() {
    let pool = vec!["203.0.113.0/31".parse().unwrap()];
    let mut g = Gateway::with(Options { pool, first_port: 2000, last_port: 2099, ..options() });
    let outs: Vec<Ipv4Addr> = (0..200).map(|n| g.open(&udp(VM1, 4000 + n, SERVER6, 53)).0).collect();
    assert!(outs[..100].iter().all(|a| *a == outs[0]));
    assert!(outs[100..].iter().all(|a| *a != outs[0]));
    assert_eq!(g.six(&udp(VM1, 4200, SERVER6, 53)).dropped(), DropReason::Nat64PoolFull);
}

/// RFC 4787 6 (REQ-9, REQ-9a), RFC 5382 7.2 (REQ-8, REQ-8a): the source is what the Internet would see.
#[test]
fn rfc6146_3_8_a_hairpinned_packet_comes_from_the_external_address_and_port() {
    let mut g = Gateway::lab();
    for (packet, protocol) in [(udp as fn(&str, u16, &str, u16) -> Vec<u8>, 17u8), (syn, 6)] {
        let two = g.open(&packet(VM2, 7000, SERVER6, 53));
        let one = g.open(&packet(VM1, 4000, SERVER6, 53));
        let prefix = *g.nat.config().prefixes().get(0).unwrap();
        let at = prefix.embed(two.0).to_string();
        let b = g.six(&packet(VM1, 4000, &at, two.1)).sent();
        check_packet(&b).unwrap();
        assert_eq!(
            (b[6], &b[8..24], &b[24..40]),
            (protocol, &prefix.embed(one.0).octets()[..], &v6(VM2).octets()[..])
        );
        assert_eq!((u16::from_be_bytes([b[40], b[41]]), u16::from_be_bytes([b[42], b[43]])), (one.1, 7000));
    }
    g.rig.assert_counted(&[
        ("nat64-hairpin", 2),
        ("nat64-v6-to-v4", 6),
        ("nat64-v4-to-v6", 2),
        ("nat64-mappings-created", 4),
        ("nat64-sessions-created", 8),
    ]);
}

/// RFC 5382 4.2 (REQ-2): from SYN to the last ACK, begun inside and, through a mapping, outside.
/// RFC 7857 2.
#[test]
fn rfc5382_4_2_req_2_all_valid_sequences_pass() {
    let mut g = Gateway::lab();
    let out = g.open(&syn(VM1, 5000, SERVER6, 80));
    let host = |t: causeway_testkit::Tcp| ip6(VM1, SERVER6).tcp(&t);
    let server = |port: u16, t: &dyn Fn(causeway_testkit::Tcp) -> causeway_testkit::Tcp| {
        ip4(SERVER, out.0).tcp(&t(tcp(port, out.1)))
    };
    g.four(&server(80, &|t| t.syn().ack(1))).sent();
    g.six(&host(tcp(5000, 80).ack(1).payload(b"GET"))).sent();
    g.four(&server(80, &|t| t.ack(1).payload(b"200"))).sent();
    g.four(&server(80, &|t| t.fin().ack(1))).sent();
    g.six(&host(tcp(5000, 80).ack(1).payload(b"half closed"))).sent();
    g.six(&host(tcp(5000, 80).fin().ack(1))).sent();
    g.four(&server(80, &|t| t.ack(1))).sent();
    // Begun outside.
    g.four(&server(81, &|t| t.syn())).sent();
    g.six(&host(tcp(5000, 81).syn().ack(1))).sent();
    g.four(&server(81, &|t| t.ack(1))).sent();
    g.six(&host(tcp(5000, 81).fin().ack(1))).sent();
    g.four(&server(81, &|t| t.fin().ack(1))).sent();
    g.six(&host(tcp(5000, 81).ack(1))).sent();
    assert_eq!(g.sessions(), 2);
    g.pass(s(239));
    assert_eq!(g.sessions(), 2);
    g.pass(s(2));
    assert_eq!(g.sessions(), 0);
}

/// RFC 7857 2.1: four minutes by default, less if configured.
#[test]
fn rfc7857_2_1_a_half_open_connection_lives_as_long_as_configured() {
    for (transitory, want) in [(Timeouts::default().tcp_opening, 240), (s(10), 10)] {
        let timeouts = Timeouts { tcp_opening: transitory, ..Timeouts::default() };
        let mut g = Gateway::with(Options { timeouts, ..options() });
        g.open(&syn(VM1, 5000, SERVER6, 80));
        g.pass(s(want - 1));
        assert_eq!(g.sessions(), 1);
        g.pass(s(2));
        assert_eq!(g.sessions(), 0);
    }
}

/// RFC 7857 7, RFC 7857 7.1; RFC 6146 5.3.
#[test]
fn rfc7857_7_1_refusals_refresh_nothing() {
    let mut g = Gateway::lab();
    // Strangers knock at a UDP mapping, and the host answers with errors.
    let out = g.open(&udp(VM1, 4000, SERVER6, 53));
    for n in 0..29 {
        g.pass(s(10));
        let b = g.four(&ip4(SERVER, out.0).udp(53, out.1, &[n])).sent();
        g.six(&ip6(VM1, SERVER6).icmp(1, 4, [0; 4], &b)).sent();
    }
    g.pass(s(11));
    assert_eq!(g.sessions(), 0);
    // A connection that the host resets again and again ends four minutes after the first reset.
    let out = g.open(&syn(VM1, 5000, SERVER6, 80));
    g.four(&ip4(SERVER, out.0).tcp(&tcp(80, out.1).syn().ack(1))).sent();
    for _ in 0..3 {
        g.six(&ip6(VM1, SERVER6).tcp(&tcp(5000, 80).rst())).sent();
        g.pass(s(79));
        assert_eq!(g.sessions(), 1);
    }
    g.six(&ip6(VM1, SERVER6).tcp(&tcp(5000, 80).rst())).sent();
    g.pass(s(5));
    assert_eq!(g.sessions(), 0);
}

/// RFC 7857 9, RFC 6888 5 (REQ-15), RFC 6056 3.2, RFC 6056 4.
#[test]
fn rfc6056_3_3_ports_are_hard_to_guess() {
    let mut g = Gateway::sized(options(), 3000);
    let ports: Vec<u16> = (0..1000).map(|n| g.open(&udp(VM1, 4000 + n, SERVER6, 53)).1).collect();
    let steps: HashSet<u16> = ports.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    assert!(steps.len() > 900, "{}", steps.len());
    for eighth in 0..8u32 {
        let range = 1024 + 8064 * eighth..1024 + 8064 * (eighth + 1);
        let n = ports.iter().filter(|p| range.contains(&u32::from(**p))).count();
        assert!((60..200).contains(&n), "{eighth}: {n}");
    }
}

/// RFC 6864 5.3.1: as if the gateway had sent them.
#[test]
fn rfc7857_10_identifications_do_not_repeat_between_hosts() {
    let mut g = Gateway::lab();
    let mut ids = HashSet::new();
    for n in 0..500u16 {
        for host in [VM1, VM2] {
            assert!(ids.insert(id_of(&g.six(&udp(host, 4000 + n % 7, SERVER6, 53)).sent())));
        }
    }
}

/// RFC 4787 5 (REQ-8).
#[test]
fn rfc6888_3_req_7_filtering_is_endpoint_independent_by_default() {
    assert_eq!(Options::default().filtering, Filtering::EndpointIndependent);
    let mut g = Gateway::lab();
    let out = g.open(&udp(VM1, 4000, SERVER6, 53));
    let b = g.four(&ip4(CLIENT, out.0).udp(999, out.1, b"x")).sent();
    assert_eq!(b[24..40], v6(VM1).octets());
}

#[test]
fn rfc6146_3_5_1_udp_from_outside_needs_a_mapping_and_then_makes_a_session_of_five_minutes() {
    let mut g = Gateway::lab();
    assert_eq!(g.four(&ip4(CLIENT, "203.0.113.1").udp(9, 4000, b"x")).dropped(), DropReason::Nat64NoBib);
    assert_eq!((g.sessions(), g.mappings()), (0, 0));
    let out = g.open(&udp(VM1, 4000, SERVER6, 53));
    g.four(&ip4(CLIENT, out.0).udp(9, out.1, b"x")).sent();
    assert_eq!((g.sessions(), g.mappings()), (2, 1));
    g.pass(s(299));
    assert_eq!(g.sessions(), 2);
    g.pass(s(2));
    assert_eq!(g.sessions(), 0);
    assert!(g.rig.sent().is_empty());
}
