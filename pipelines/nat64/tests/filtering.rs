//! Address-dependent filtering (RFC 4787 5, RFC 6146 3.5): who may answer, and for how long.

mod common;

use causeway_core::{DropReason, Duration};
use causeway_flowtable::FlowTable;
use causeway_nat64::{Filtering, Options, Timeouts};
use causeway_testkit::{check_packet, ip4, ip6, tcp};
use common::*;
use std::net::Ipv4Addr;

const CLIENT6: &str = "2001:db8:64:ff9b::198.51.100.99";

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn adf() -> Options {
    Options { filtering: Filtering::AddressDependent, ..options() }
}

fn udp(to: &str, port: u16, to_port: u16) -> Vec<u8> {
    ip6(VM1, to).udp(port, to_port, b"x")
}

fn from(host: &str, port: u16, out: (Ipv4Addr, u16)) -> Vec<u8> {
    ip4(host, out.0).udp(port, out.1, b"y")
}

/// RFC 4787 5 (REQ-8).
#[test]
fn rfc6146_3_5_1_adf_lets_in_whom_the_host_sent_to_from_any_port() {
    let mut g = Gateway::with(adf());
    let out = g.open(&udp(SERVER6, 4000, 53));
    assert_eq!(g.four(&from(CLIENT, 53, out)).dropped(), DropReason::Nat64Filtered);
    let b = g.four(&from(SERVER, 9999, out)).sent();
    check_packet(&b).unwrap();
    assert_eq!(b, ip6(SERVER6, VM1).hop_limit(63).udp(9999, 4000, b"y"));
    assert_eq!((g.sessions(), g.permissions(), g.mappings()), (2, 1, 1));
    // The client too, once the host has sent to it.
    assert_eq!(g.open(&udp(CLIENT6, 4000, 1)), out);
    assert!(matches!(g.four(&from(CLIENT, 77, out)), Fate::Sent(..)));
    // Another mapping of the same host is another matter.
    let other = g.open(&udp(SERVER6, 4001, 53));
    assert_eq!(g.four(&from(CLIENT, 77, other)).dropped(), DropReason::Nat64Filtered);
    assert!(g.rig.sent().is_empty(), "who is filtered is told nothing");
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 3),
        ("nat64-v4-to-v6", 2),
        ("nat64-sessions-created", 5),
        ("nat64-mappings-created", 2),
        ("nat64-permissions-created", 3),
    ]);
}

#[test]
fn rfc6146_3_5_1_a_permission_lives_exactly_as_long_as_a_session_with_that_address() {
    let t = Timeouts { udp: s(120), ..Timeouts::default() };
    let mut g = Gateway::with(Options { timeouts: t, hold_down: Duration::ZERO, ..adf() });
    let out = g.open(&udp(SERVER6, 4000, 53));
    g.open(&udp(CLIENT6, 4000, 53));
    g.pass(s(100));
    // A second session with the server; the first one ends, and the one with the client too.
    g.open(&udp(SERVER6, 4000, 54));
    g.pass(s(21));
    assert_eq!((g.sessions(), g.permissions(), g.mappings()), (1, 1, 1));
    assert!(matches!(g.four(&from(SERVER, 4444, out)), Fate::Sent(..)));
    assert_eq!(g.four(&from(CLIENT, 53, out)).dropped(), DropReason::Nat64Filtered);
    // What began outside keeps nothing open that the host does not use.
    g.pass(s(120));
    g.pass(s(2));
    assert_eq!((g.sessions(), g.permissions(), g.mappings()), (0, 0, 0));
    assert_eq!(g.nat.pool().usage().map(|u| u.in_use).sum::<u32>(), 0, "the port is free");
    assert_eq!(g.table.used_index_words(), (0, 0));
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 3),
        ("nat64-v4-to-v6", 1),
        ("nat64-sessions-created", 4),
        ("nat64-sessions-ended", 4),
        ("nat64-mappings-created", 1),
        ("nat64-mappings-ended", 1),
        ("nat64-permissions-created", 2),
        ("nat64-permissions-ended", 2),
    ]);
}

/// RFC 5382 4.3 (REQ-3).
#[test]
fn rfc6146_3_5_2_and_3_5_3_adf_for_tcp_and_icmp_queries() {
    let mut g = Gateway::with(adf());
    let t = g.open(&ip6(VM1, SERVER6).tcp(&tcp(5000, 80).syn()));
    assert_eq!(g.four(&ip4(CLIENT, t.0).tcp(&tcp(80, t.1).ack(1))).dropped(), DropReason::Nat64Filtered);
    let b = g.four(&ip4(SERVER, t.0).tcp(&tcp(81, t.1).syn())).sent();
    check_packet(&b).unwrap();
    assert_eq!(g.state(t, (SERVER, 81), 6), Some(1), "V4 INIT");
    let e = g.open(&ip6(VM1, SERVER6).echo_request(9, 1, b""));
    assert!(matches!(g.four(&ip4(SERVER, e.0).echo_reply(e.1, 1, b"")), Fate::Sent(..)));
    assert!(matches!(g.four(&ip4(SERVER, e.0).echo_request(e.1, 1, b"")), Fate::Sent(..)));
    assert_eq!(g.four(&ip4(CLIENT, e.0).echo_request(e.1, 1, b"")).dropped(), DropReason::Nat64Filtered);
}

#[test]
fn a_permission_is_found_by_no_packet_and_shown_as_no_session() {
    let mut g = Gateway::with(adf());
    let out = g.open(&udp(SERVER6, 4000, 53));
    // Port 0 is what the permission's key has; the protocol differs.
    let b = g.four(&from(SERVER, 0, out)).sent();
    check_packet(&b).unwrap();
    assert_eq!((g.sessions(), g.permissions()), (2, 1));
    for protocol in [17 | 0x80, 6 | 0x80, 1 | 0x80, 0xff] {
        let p = ip4(SERVER, out.0).raw(protocol, &[0; 32]);
        assert_eq!(g.four(&p).dropped(), DropReason::Nat64Protocol);
    }
}

#[test]
fn a_full_table_leaves_no_permission_and_no_port_behind() {
    let mut g = Gateway::sized(Options { hold_down: Duration::ZERO, ..adf() }, 64);
    let made = (1..400u16).filter(|n| matches!(g.six(&udp(SERVER6, *n, 53)), Fate::Sent(..))).count();
    assert!(made >= 32, "{made}: a session and a permission each");
    assert_eq!((g.sessions(), g.permissions(), g.mappings()), (made, made, made));
    let in_use = |g: &Gateway| g.nat.pool().usage().map(|u| u.in_use).sum::<u32>() as usize;
    assert_eq!(in_use(&g), made, "ports of what failed are back at once");
    g.pass(s(301));
    g.pass(s(1));
    assert_eq!((g.sessions(), g.permissions(), g.mappings(), in_use(&g)), (0, 0, 0, 0));
    assert_eq!(g.table.used_index_words(), (0, 0));
}

#[test]
fn a_reload_that_changes_filtering_counts_for_flows_that_are_open() {
    let mut g = Gateway::with(options());
    let out = g.open(&udp(SERVER6, 4000, 53));
    g.reconfigure(Options { generation: 1, ..adf() });
    assert_eq!(g.four(&from(CLIENT, 1, out)).dropped(), DropReason::Nat64Filtered);
    // The sweep takes note of sessions that were there.
    g.sweep();
    assert_eq!(g.permissions(), 1);
    assert!(matches!(g.four(&from(SERVER, 1, out)), Fate::Sent(..)));
    // And back: what was counted is given back all the same.
    g.reconfigure(Options { generation: 2, ..options() });
    assert!(matches!(g.four(&from(CLIENT, 1, out)), Fate::Sent(..)));
    assert_eq!((g.sessions(), g.permissions()), (3, 1));
    g.pass(s(301));
    g.pass(s(1));
    assert_eq!((g.sessions(), g.permissions(), g.mappings()), (0, 0, 0));
}

#[test]
fn two_workers_count_in_one_permission() {
    let table = FlowTable::new(&causeway_flowtable::Config {
        sessions: 4096,
        mappings: 4096,
        spliced: 0,
        workers: 2,
        control_readers: 0,
        seed: [4, 3, 2, 1],
    })
    .unwrap();
    let mut a = Gateway::with_table(Options { hold_down: Duration::ZERO, ..adf() }, &table, 0, None);
    let pool = std::sync::Arc::clone(a.nat.pool());
    let mut b = Gateway::with_table(Options { hold_down: Duration::ZERO, ..adf() }, &table, 1, Some(pool));
    let run = |g: &mut Gateway, base: u16| {
        for round in 0..40u16 {
            for n in 0..50 {
                // The same mapping and remote address, other ports: "being built" is told by a drop.
                match g.six(&udp(SERVER6, 4000, base + n)) {
                    Fate::Sent(..) => {}
                    other => assert_eq!(other.dropped(), DropReason::Nat64Building),
                }
            }
            g.rig.advance(s(if round % 2 == 0 { 301 } else { 10 }));
            g.sweep();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| run(&mut a, 1000));
        scope.spawn(|| run(&mut b, 2000));
    });
    for g in [&mut a, &mut b] {
        g.pass(s(3600));
        g.pass(s(3600));
    }
    assert_eq!((a.sessions(), a.permissions(), a.mappings()), (0, 0, 0));
    assert_eq!(a.nat.pool().usage().map(|u| u.in_use).sum::<u32>(), 0);
    assert_eq!(table.used_index_words(), (0, 0));
}
