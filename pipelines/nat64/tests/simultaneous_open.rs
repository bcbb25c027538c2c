//! SYNs from outside that wait (RFC 6146 3.5.2.2, V4 INIT; RFC 5382 4.3), and probes (RFC 6146 3.5.2.2,
//! ESTABLISHED).

mod common;

use causeway_core::{DropReason, Duration};
use causeway_nat64::{Filtering, Options, PROBES};
use causeway_testkit::{check_packet, ip4, ip6, tcp};
use common::*;
use std::net::Ipv4Addr;

const TCP: u8 = 6;
const CLIENT6: &str = "2001:db8:64:ff9b::198.51.100.99";

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn apdf() -> Options {
    Options { filtering: Filtering::AddressAndPortDependent, ..options() }
}

fn syn6(to: &str, port: u16) -> Vec<u8> {
    ip6(VM1, to).tcp(&tcp(5000, port).syn())
}

/// A SYN from the client to the mapping.
fn syn4(out: (Ipv4Addr, u16), port: u16) -> Vec<u8> {
    ip4(CLIENT, out.0).tcp(&tcp(port, out.1).seq(77).syn())
}

/// RFC 5382 4.2 (REQ-2a).
#[test]
fn rfc6146_3_5_2_2_a_filtered_v4_syn_waits_for_the_one_from_inside() {
    for filtering in [Filtering::AddressDependent, Filtering::AddressAndPortDependent] {
        let mut g = Gateway::with(Options { filtering, ..options() });
        let out = g.open(&syn6(SERVER6, 80));
        assert_eq!(g.four(&syn4(out, 1234)), Fate::Held);
        assert_eq!(g.nat.held(), 1);
        // Its repetition is dropped; nothing is said within six seconds.
        g.pass(s(3));
        assert_eq!(g.four(&syn4(out, 1234)).dropped(), DropReason::Nat64SynAgain);
        g.pass(Duration::from_millis(2900));
        assert!(g.rig.sent().is_empty());
        // RFC 6146 3.5.2.2, V4 INIT: the SYN from inside opens the connection.
        assert_eq!(g.open(&syn6(CLIENT6, 1234)), out);
        assert_eq!(g.state(out, (CLIENT, 1234), TCP), Some(3), "ESTABLISHED");
        // The peer's repetition and its answer get in.
        assert!(matches!(g.four(&syn4(out, 1234)), Fate::Sent(..)));
        assert!(matches!(g.four(&ip4(CLIENT, out.0).tcp(&tcp(1234, out.1).syn().ack(1))), Fate::Sent(..)));
        // RFC 5382 REQ-4: the one that was stored goes silently.
        g.pass(s(1));
        assert!(g.rig.sent().is_empty());
        assert_eq!(g.nat.held(), 0);
        assert_eq!(g.rig.counters.dropped(DropReason::Nat64SynMet), 1);
        assert_eq!(g.rig.counters.get(causeway_core::Counter::Nat64SimultaneousOpens), 1);
        assert_eq!(g.rig.counters.get(causeway_core::Counter::Nat64SynsStored), 1);
    }
}

#[test]
fn rfc6146_3_5_2_2_a_v4_syn_that_nothing_answers_is_told_port_unreachable_after_six_seconds() {
    let mut g = Gateway::with(apdf());
    let out = g.open(&syn6(SERVER6, 80));
    let syn = syn4(out, 1234);
    assert_eq!(g.four(&syn), Fate::Held);
    g.pass(Duration::from_millis(5999));
    assert!(g.rig.sent().is_empty(), "RFC 5382 REQ-4: nothing before six seconds");
    g.pass(Duration::from_millis(1));
    let sent = g.rig.sent();
    assert_eq!(sent.len(), 1);
    let b = &sent[0].octets;
    assert_eq!(b[16..20], [198, 51, 100, 99]);
    assert_eq!((b[20], b[21]), (3, 3), "port unreachable");
    assert_eq!(&b[28..], &syn[..], "the whole SYN is in it, as it came");
    // It waits anew if it comes again.
    assert_eq!(g.four(&syn), Fate::Held);
    assert_eq!((g.sessions(), g.mappings()), (1, 1));
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 1),
        ("nat64-sessions-created", 1),
        ("nat64-mappings-created", 1),
        ("nat64-syns-stored", 2),
        ("drop.nat64-syn-timeout", 1),
        ("icmp-errors-sent", 1),
    ]);
}

#[test]
fn rfc6146_3_5_2_2_a_v4_syn_without_a_mapping_waits_too() {
    // One port only, so that the host gets the one that the stranger chose.
    let o = Options {
        pool: vec!["203.0.113.1/32".parse().unwrap()],
        first_port: 2000,
        last_port: 2000,
        ..options()
    };
    let mut g = Gateway::with(o.clone());
    let out = ("203.0.113.1".parse().unwrap(), 2000);
    assert_eq!(g.four(&syn4(out, 1234)), Fate::Held);
    assert_eq!((g.sessions(), g.mappings()), (0, 0), "no state that strangers could fill");
    g.pass(s(5));
    assert_eq!(g.open(&syn6(CLIENT6, 1234)), out);
    assert_eq!(g.state(out, (CLIENT, 1234), TCP), Some(3));
    // Another connection of the same host is none of its business.
    g.open(&syn6(CLIENT6, 1235));
    assert_eq!(g.state(out, (CLIENT, 1235), TCP), Some(2));
    g.pass(s(2));
    assert!(g.rig.sent().is_empty());
    // Too late is too late: the error goes out, and the connection begins as any other.
    let mut g = Gateway::with(o);
    assert_eq!(g.four(&syn4(out, 1234)), Fate::Held);
    g.rig.advance(s(6));
    g.open(&syn6(CLIENT6, 1234));
    assert_eq!(g.state(out, (CLIENT, 1234), TCP), Some(2), "V6 INIT");
}

#[test]
fn rfc5382_4_3_req_4_only_a_plain_syn_to_the_pool_from_a_host_waits() {
    let mut g = Gateway::with(apdf());
    let out = g.open(&syn6(SERVER6, 80));
    let four = ip4(CLIENT, out.0);
    for t in [tcp(9, out.1).syn().ack(1), tcp(9, out.1).rst(), tcp(9, out.1).fin(), tcp(9, out.1).ack(1)] {
        assert_eq!(g.four(&four.tcp(&t)).dropped(), DropReason::Nat64Filtered);
    }
    let free = out.1 ^ 1;
    assert_eq!(g.four(&four.tcp(&tcp(9, free).syn().ack(1))).dropped(), DropReason::Nat64NoBib);
    for src in ["224.0.0.1", "0.1.2.3", "127.0.0.1", "255.255.255.255", "240.0.0.1"] {
        let p = ip4(src, out.0).tcp(&tcp(9, out.1).syn());
        assert_eq!(g.four(&p).dropped(), DropReason::Nat64Filtered, "{src}");
    }
    let p = ip4(CLIENT, "192.0.2.77").tcp(&tcp(9, 80).syn());
    assert_eq!(g.four(&p).dropped(), DropReason::Nat64NoBib, "no address of the pool");
    g.pass(s(7));
    assert!(g.rig.sent().is_empty());
    // RFC 6052 3.1: nobody inside can open a connection to a private address under the well-known prefix.
    let o = Options { prefixes: vec!["64:ff9b::/96".parse().unwrap()], ..apdf() };
    let mut g = Gateway::with(o);
    let p = ip4("10.0.0.1", "203.0.113.1").tcp(&tcp(9, 80).syn());
    assert_eq!(g.four(&p).dropped(), DropReason::Nat64NoBib);
}

#[test]
fn rfc6146_5_3_a_flood_of_syns_is_bounded_and_counted() {
    let mut g = Gateway::with(apdf());
    let out = g.open(&syn6(SERVER6, 80));
    let held = (1..2000u16).filter(|n| g.four(&syn4(out, *n)) == Fate::Held).count();
    assert_eq!(held, 1999, "the stage hands all over");
    assert_eq!(g.nat.held(), 256);
    assert_eq!(g.rig.counters.dropped(DropReason::Nat64SynFull), 1999 - 256);
    // Established flows do not notice; the end of the wait is paced, and told each.
    assert!(matches!(g.four(&ip4(SERVER, out.0).tcp(&tcp(80, out.1).syn().ack(1))), Fate::Sent(..)));
    g.rig.advance(s(6));
    let mut told = 0;
    for _ in 0..100 {
        let guard = g.worker.enter();
        let mut ctx = g.rig.ctx();
        g.nat.poll(&mut ctx, &guard);
        drop(guard);
        let now = g.rig.sent().len();
        assert!(now <= 4);
        told += now;
    }
    assert_eq!((told, g.nat.held()), (256, 0));
    assert_eq!(g.rig.counters.dropped(DropReason::Nat64SynTimeout), 256);
    assert_eq!(g.sessions(), 1);
}

#[test]
fn rfc6146_3_8_a_hairpinned_syn_waits_and_its_error_turns_back_to_the_host() {
    let mut g = Gateway::lab();
    let own = g.open(&syn6(SERVER6, 80));
    // VM2 sends to a port of VM1's address that nobody has.
    let pool6 = g.nat.config().prefixes().get(0).unwrap().embed(own.0);
    let p = ip6(VM2, pool6).tcp(&tcp(700, own.1 ^ 1).seq(5).syn());
    assert_eq!(g.six(&p), Fate::Held);
    g.pass(s(6));
    let sent = g.rig.sent();
    assert_eq!(sent.len(), 1);
    let b = &sent[0].octets;
    check_packet(b).unwrap();
    assert_eq!(&b[24..40], &v6(VM2).octets());
    assert_eq!((b[40], b[41]), (1, 4), "port unreachable");
    // Inside it is the segment that VM2 sent.
    assert_eq!(&b[56..72], &v6(VM2).octets());
    assert_eq!(&b[72..88], &pool6.octets());
    assert_eq!(&b[88..96], &p[40..48]);
    assert_eq!(g.rig.counters.dropped(DropReason::Nat64SynTimeout), 1);
}

#[test]
fn stored_syns_survive_a_reload_and_lose_a_pool_that_is_gone() {
    let mut g = Gateway::with(apdf());
    let out = g.open(&syn6(SERVER6, 80));
    assert_eq!(g.four(&syn4(out, 1)), Fate::Held);
    g.reconfigure(Options { generation: 1, ..apdf() });
    g.pass(s(6));
    assert_eq!(g.rig.sent().len(), 1);
    assert_eq!(g.four(&syn4(out, 1)), Fate::Held);
    g.reconfigure(Options { generation: 2, pool: vec!["192.0.2.128/28".parse().unwrap()], ..apdf() });
    g.pass(s(6));
    assert!(g.rig.sent().is_empty(), "not our address any more");
    assert_eq!(g.nat.held(), 0);
}

/// A connection from VM1's port to the server, open on both sides.
fn established(g: &mut Gateway, port: u16) -> (Ipv4Addr, u16) {
    let out = g.open(&ip6(VM1, SERVER6).tcp(&tcp(port, 80).syn()));
    g.four(&ip4(SERVER, out.0).tcp(&tcp(80, out.1).syn().ack(1))).sent();
    out
}

#[test]
fn rfc6146_3_5_2_2_an_idle_connection_is_probed_and_an_answer_keeps_it() {
    let mut g = Gateway::lab();
    let out = established(&mut g, 5000);
    let _ = g.rig.sent();
    g.pass(s(7441));
    let sent = g.rig.sent();
    assert_eq!(sent.len(), 1);
    let want = ip6(SERVER6, VM1).hop_limit(64).tcp(&tcp(80, 5000).seq(0).ack(0).window(0));
    assert_eq!(sent[0].octets, want, "no data, both numbers zero, nothing but ACK");
    assert_eq!(g.state(out, (SERVER, 80), TCP), Some(7), "TRANS");
    // The host's answer goes to the server and keeps the session.
    g.pass(s(200));
    assert_eq!(g.open(&ip6(VM1, SERVER6).tcp(&tcp(5000, 80).seq(9).ack(9))), out);
    assert_eq!(g.state(out, (SERVER, 80), TCP), Some(3), "ESTABLISHED");
    g.pass(s(7440));
    assert!(g.rig.sent().is_empty());
    // The next time nobody answers.
    g.pass(s(1));
    assert_eq!(g.rig.sent().len(), 1);
    g.pass(s(240));
    assert_eq!(g.sessions(), 1, "RFC 5382 REQ-5: four minutes more");
    g.pass(s(1));
    assert_eq!((g.sessions(), g.mappings()), (0, 0));
    assert!(g.rig.sent().is_empty(), "one probe, not more");
    assert_eq!(g.rig.counters.get(causeway_core::Counter::Nat64Probes), 2);
}

#[test]
fn rfc6146_3_5_2_2_only_established_connections_are_probed() {
    let mut g = Gateway::lab();
    let half = established(&mut g, 5000);
    g.four(&ip4(SERVER, half.0).tcp(&tcp(80, half.1).fin().ack(1))).sent();
    g.open(&ip6(VM1, SERVER6).tcp(&tcp(5001, 80).syn()));
    g.open(&ip6(VM1, SERVER6).udp(5002, 80, b""));
    let _ = g.rig.sent();
    g.pass(s(7441));
    g.pass(s(7441));
    assert!(g.rig.sent().is_empty());
    assert_eq!(g.sessions(), 0);
}

#[test]
fn probes_are_bounded_and_all_are_sent_in_the_end() {
    let mut g = Gateway::lab();
    for port in 1..=100 {
        established(&mut g, port);
    }
    let _ = g.rig.sent();
    g.rig.advance(s(7441));
    let (mut sent, mut rounds) = (0, 0);
    while sent < 100 {
        let guard = g.worker.enter();
        let mut ctx = g.rig.ctx();
        g.nat.sweep(&mut ctx, &guard, 1 << 20);
        drop(guard);
        let now = g.rig.sent().len();
        assert!(now <= PROBES && now > 0);
        sent += now;
        rounds += 1;
    }
    assert_eq!((sent, rounds), (100, 100_usize.div_ceil(PROBES)));
    assert_eq!(g.sessions(), 100, "none ended unasked");
}

#[test]
fn a_plan_that_no_longer_allows_a_connection_ends_it_without_a_probe() {
    let mut g = Gateway::lab();
    established(&mut g, 5000);
    let _ = g.rig.sent();
    g.reconfigure(Options { generation: 1, pool: vec!["192.0.2.128/28".parse().unwrap()], ..options() });
    g.pass(s(7441));
    assert!(g.rig.sent().is_empty());
    assert_eq!(g.sessions(), 0);
}
