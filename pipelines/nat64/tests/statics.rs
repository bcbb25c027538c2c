//! Static mappings (RFC 6146 3.1, RFC 6146 3.1), and how they come and go.

mod common;

use causeway_core::{DropReason, Duration};
use causeway_nat64::{Filtering, Options, StaticMapping};
use causeway_testkit::{check_packet, ip4, ip6, tcp};
use common::*;
use std::net::Ipv4Addr;

const WEB: (&str, u16) = ("203.0.113.9", 80);
/// In no pool prefix.
const APART: (&str, u16) = ("198.51.100.200", 8080);
const CLIENT6: &str = "2001:db8:64:ff9b::198.51.100.99";

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn one(protocol: u8, outside: (&str, u16), host: &str, port: u16) -> StaticMapping {
    StaticMapping { protocol, outside: (v4(outside.0), outside.1), inside: (v6(host), port) }
}

fn with(list: &[StaticMapping]) -> Options {
    Options { static_mappings: list.to_vec(), hold_down: Duration::ZERO, ..options() }
}

fn in_use(g: &Gateway) -> u32 {
    g.nat.pool().usage().map(|u| u.in_use).sum()
}

/// Half a second of polls.
fn poll(g: &mut Gateway) {
    for _ in 0..50 {
        g.rig.advance(Duration::from_millis(10));
        let guard = g.worker.enter();
        let mut ctx = g.rig.ctx();
        g.nat.poll(&mut ctx, &guard);
    }
}

fn syn_to(at: (&str, u16), port: u16) -> Vec<u8> {
    ip4(CLIENT, at.0).tcp(&tcp(port, at.1).syn())
}

#[test]
fn rfc6146_3_1_a_static_mapping_lets_everybody_in_whatever_the_filtering() {
    for filtering in
        [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent]
    {
        let list = [one(6, WEB, VM1, 8080), one(6, APART, VM2, 80), one(17, WEB, VM2, 53)];
        let mut g = Gateway::with(Options { filtering, ..with(&list) });
        poll(&mut g);
        assert_eq!((g.sessions(), g.mappings(), in_use(&g)), (0, 3, 2), "the third is in no pool");
        let b = g.four(&syn_to(WEB, 1234)).sent();
        check_packet(&b).unwrap();
        assert_eq!(b, ip6(CLIENT6, VM1).hop_limit(63).tcp(&tcp(1234, 8080).syn()));
        // The answer comes from where the client sent to.
        let b = g.six(&ip6(VM1, CLIENT6).tcp(&tcp(8080, 1234).syn().ack(1))).sent();
        assert_eq!((&b[12..16], &b[20..22]), (&v4(WEB.0).octets()[..], &80u16.to_be_bytes()[..]));
        assert_eq!(g.state((v4(WEB.0), 80), (CLIENT, 1234), 6), Some(3));
        // An address that is in no pool, and UDP.
        let b = g.four(&syn_to(APART, 1)).sent();
        assert_eq!(&b[24..40], &v6(VM2).octets());
        let b = g.four(&ip4(CLIENT, WEB.0).udp(9, 80, b"q")).sent();
        assert_eq!((&b[24..40], &b[42..44]), (&v6(VM2).octets()[..], &53u16.to_be_bytes()[..]));
        // RFC 6146 3.5.2.2: what the server sends from its port uses the mapping.
        assert_eq!(g.open(&ip6(VM2, SERVER6).tcp(&tcp(80, 443).syn())), (v4(APART.0), APART.1));
        g.pass(s(7442));
        g.pass(s(7442));
        assert_eq!((g.sessions(), g.permissions(), g.mappings(), in_use(&g)), (0, 0, 3, 2), "they stay");
        assert_eq!(g.rig.counters.get(causeway_core::Counter::Nat64MappingsCreated), 3);
        assert_eq!(g.rig.counters.get(causeway_core::Counter::Nat64MappingsEnded), 0);
    }
}

#[test]
fn the_pool_never_gives_a_static_port_to_anybody() {
    let o = Options {
        pool: vec!["203.0.113.9/32".parse().unwrap()],
        first_port: 80,
        last_port: 89,
        ..with(&[one(6, WEB, VM1, 8080)])
    };
    let mut g = Gateway::with(o);
    poll(&mut g);
    let outs: Vec<_> = (0..9).map(|n| g.open(&ip6(VM2, SERVER6).tcp(&tcp(50 + n, 80).syn()))).collect();
    assert!(outs.iter().all(|o| o.1 != 80));
    assert_eq!(g.six(&ip6(VM2, SERVER6).tcp(&tcp(99, 80).syn())).dropped(), DropReason::Nat64PoolFull);
}

#[test]
fn a_reload_makes_and_removes_them_and_no_port_is_lost_or_given_twice() {
    let list = [one(6, WEB, VM1, 8080), one(6, APART, VM2, 80)];
    let mut g = Gateway::with(with(&[]));
    g.reconfigure(Options { generation: 1, ..with(&list) });
    poll(&mut g);
    assert_eq!((g.mappings(), in_use(&g)), (2, 1));
    g.four(&syn_to(WEB, 1)).sent();
    g.four(&syn_to(APART, 1)).sent();
    // Both go. The one in the pool lives on with its session; the other has no address any more.
    g.reconfigure(Options { generation: 2, ..with(&[]) });
    poll(&mut g);
    g.sweep();
    assert_eq!((g.sessions(), g.mappings(), in_use(&g)), (1, 1, 1));
    assert!(matches!(g.six(&ip6(VM1, CLIENT6).tcp(&tcp(8080, 1).syn().ack(1))), Fate::Sent(..)));
    assert_eq!(g.four(&syn_to(APART, 2)).dropped(), DropReason::Nat64NoBib);
    g.pass(s(7442));
    g.pass(s(7442));
    assert_eq!((g.sessions(), g.mappings(), in_use(&g)), (0, 0, 0));
    assert_eq!(g.table.used_index_words(), (0, 0));
    // A reload that keeps one changes nothing about it.
    g.reconfigure(Options { generation: 3, ..with(&list) });
    poll(&mut g);
    g.four(&syn_to(WEB, 1)).sent();
    g.reconfigure(Options { generation: 4, ..with(&list[..1]) });
    poll(&mut g);
    g.sweep();
    assert_eq!((g.sessions(), g.mappings(), in_use(&g)), (1, 1, 1));
    assert!(matches!(g.four(&syn_to(WEB, 1)), Fate::Sent(..)));
}

#[test]
fn a_dynamic_mapping_in_the_way_of_the_inside_gives_way() {
    let mut g = Gateway::with(with(&[]));
    let syn = ip6(VM1, SERVER6).tcp(&tcp(8080, 80).syn());
    let old = g.open(&syn);
    g.reconfigure(Options { generation: 1, ..with(&[one(6, WEB, VM1, 8080)]) });
    // Nothing new through the old one, and nothing through the new one before it is there.
    assert_eq!(g.six(&ip6(VM1, SERVER6).tcp(&tcp(8080, 81).syn())).dropped(), DropReason::Nat64Building);
    assert_eq!(g.four(&ip4(CLIENT, old.0).tcp(&tcp(1, old.1).syn())), Fate::Held);
    g.sweep();
    g.rig.advance(s(1));
    poll(&mut g);
    assert_eq!((g.sessions(), g.mappings(), in_use(&g)), (0, 1, 1));
    assert_eq!(g.open(&syn), (v4(WEB.0), 80));
    g.four(&syn_to(WEB, 5)).sent();
}

#[test]
fn a_dynamic_mapping_in_the_way_of_the_outside_gives_way() {
    let base =
        Options { pool: vec!["203.0.113.9/32".parse().unwrap()], first_port: 80, last_port: 83, ..with(&[]) };
    let mut g = Gateway::with(base.clone());
    let outs: Vec<_> = (0..4).map(|n| g.open(&ip6(VM2, SERVER6).tcp(&tcp(50 + n, 80).syn()))).collect();
    let (n, _) = (50u16..).zip(&outs).find(|(_, o)| o.1 == 80).unwrap();
    g.reconfigure(Options { generation: 1, static_mappings: vec![one(6, WEB, VM1, 8080)], ..base.clone() });
    poll(&mut g);
    assert_eq!(g.six(&ip6(VM2, SERVER6).tcp(&tcp(n, 81).syn())).dropped(), DropReason::Nat64Building);
    g.pass(s(1));
    poll(&mut g);
    assert_eq!((g.sessions(), g.mappings(), in_use(&g)), (3, 4, 4));
    assert_eq!(&g.four(&syn_to(WEB, 5)).sent()[24..40], &v6(VM1).octets());
    // The other flows go on; the host that lost its port gets none, for there is none.
    let other = (50u16..).zip(&outs).find(|(_, o)| o.1 != 80).unwrap();
    assert_eq!(g.open(&ip6(VM2, SERVER6).tcp(&tcp(other.0, 80).syn())), *other.1);
    assert_eq!(g.six(&ip6(VM2, SERVER6).tcp(&tcp(n, 80).syn())).dropped(), DropReason::Nat64PoolFull);
    // The same outside for another server: the sessions of the first one end.
    g.reconfigure(Options { generation: 2, static_mappings: vec![one(6, WEB, VM2, 22)], ..base });
    for _ in 0..3 {
        poll(&mut g);
        g.pass(s(1));
    }
    assert_eq!(&g.four(&syn_to(WEB, 5)).sent()[24..40], &v6(VM2).octets());
    assert_eq!(in_use(&g), 4);
}

#[test]
fn a_mapping_that_is_removed_and_comes_back_starts_anew() {
    let list = [one(6, WEB, VM1, 8080)];
    let mut g = Gateway::with(with(&list));
    poll(&mut g);
    g.four(&syn_to(WEB, 1)).sent();
    g.reconfigure(Options { generation: 1, ..with(&[]) });
    poll(&mut g);
    g.reconfigure(Options { generation: 2, ..with(&list) });
    poll(&mut g);
    g.pass(s(1));
    poll(&mut g);
    assert_eq!((g.sessions(), g.mappings(), in_use(&g)), (0, 1, 1));
    g.pass(s(400));
    assert_eq!(g.mappings(), 1, "it is static again");
}

#[test]
fn many_are_made_some_at_a_time() {
    let list: Vec<_> = (0..500u16).map(|n| one(17, (WEB.0, 1000 + n), VM1, 3000 + n)).collect();
    let mut g = Gateway::with(with(&list));
    let mut polls = 0;
    while g.mappings() < 500 {
        let before = g.mappings();
        let guard = g.worker.enter();
        let mut ctx = g.rig.ctx();
        g.nat.poll(&mut ctx, &guard);
        drop(guard);
        assert!(g.mappings() - before <= 8);
        polls += 1;
    }
    assert!(polls <= 64);
    assert_eq!(in_use(&g), 500);
}

#[test]
fn a_static_mapping_outlives_the_prefix_that_it_was_made_under() {
    let list = [one(6, WEB, VM1, 8080)];
    let mut g = Gateway::with(with(&list));
    poll(&mut g);
    let prefixes = vec!["2001:db8:77::/96".parse().unwrap()];
    g.reconfigure(Options { generation: 1, prefixes, ..with(&list) });
    let b = g.four(&syn_to(WEB, 1)).sent();
    assert_eq!(b[8..24], v6("2001:db8:77::198.51.100.99").octets());
}

#[test]
fn rfc6146_3_8_hairpinning_through_static_mappings() {
    let list = [one(6, APART, VM2, 80), one(17, WEB, VM2, 53)];
    let mut g = Gateway::with(with(&list));
    poll(&mut g);
    let at = |a: &str| g_prefix(v4(a));
    let got = g.six(&ip6(VM1, at(APART.0)).tcp(&tcp(4000, APART.1).syn())).sent();
    check_packet(&got).unwrap();
    assert_eq!((&got[24..40], &got[42..44]), (&v6(VM2).octets()[..], &80u16.to_be_bytes()[..]));
    // RFC 4787 6, REQ-9a: VM2 sees an outside address, and answers to it.
    let seen = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&got[8..24]).unwrap());
    let port = u16::from_be_bytes([got[40], got[41]]);
    let back = g.six(&ip6(VM2, seen).tcp(&tcp(80, port).syn().ack(1))).sent();
    check_packet(&back).unwrap();
    assert_eq!(&back[8..24], &at(APART.0).octets());
    assert_eq!((&back[24..40], &back[40..44]), (&v6(VM1).octets()[..], &[0x1f, 0x90, 0x0f, 0xa0][..]));
    let got = g.six(&ip6(VM1, at(WEB.0)).udp(4000, 80, b"q")).sent();
    assert_eq!(&got[24..40], &v6(VM2).octets());
    // To itself, too.
    let got = g.six(&ip6(VM2, at(WEB.0)).udp(53, 80, b"q")).sent();
    check_packet(&got).unwrap();
    assert_eq!((&got[24..40], &got[8..24]), (&v6(VM2).octets()[..], &at(WEB.0).octets()[..]));
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 4),
        ("nat64-v4-to-v6", 4),
        ("nat64-hairpin", 4),
        ("nat64-sessions-created", 5),
        ("nat64-mappings-created", 4),
    ]);
}

fn g_prefix(a: Ipv4Addr) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::from_bits(v6("2001:db8:64:ff9b::").to_bits() | u128::from(a.to_bits()))
}

/// The old one has ended and the new one is not made yet when the configuration drops both.
#[test]
fn a_static_mapping_that_was_never_replaced_leaves_its_port_to_the_pool() {
    let mut g = Gateway::with(with(&[one(6, WEB, VM1, 8080)]));
    poll(&mut g);
    g.open(&ip6(VM2, SERVER6).tcp(&tcp(22, 80).syn()));
    g.reconfigure(Options { generation: 1, ..with(&[one(6, WEB, VM2, 22)]) });
    poll(&mut g);
    assert_eq!((g.mappings(), in_use(&g)), (1, 2), "VM2's own mapping is in the way");
    g.reconfigure(Options { generation: 2, ..with(&[]) });
    poll(&mut g);
    assert_eq!((g.mappings(), in_use(&g)), (1, 1));
    // One that is there when the configuration drops it still gives its port back itself.
    g.reconfigure(Options { generation: 3, ..with(&[one(6, WEB, VM1, 8080)]) });
    poll(&mut g);
    g.four(&syn_to(WEB, 1)).sent();
    g.reconfigure(Options { generation: 4, ..with(&[]) });
    poll(&mut g);
    assert_eq!((g.mappings(), in_use(&g)), (2, 2));
    g.pass(s(7442));
    g.pass(s(7442));
    assert_eq!((g.mappings(), in_use(&g)), (0, 0));
}

/// A worker that has not taken over the new plan ends what that no longer has.
#[test]
fn a_static_mapping_that_a_late_worker_ends_leaves_its_port_to_the_pool() {
    let table = causeway_flowtable::FlowTable::new(&causeway_flowtable::Config {
        sessions: 100,
        mappings: 100,
        spliced: 0,
        workers: 2,
        control_readers: 1,
        seed: [1, 2, 3, 4],
    })
    .unwrap();
    let first = with(&[one(6, WEB, VM1, 8080)]);
    let mut a = Gateway::with_table(first.clone(), &table, 0, None);
    let pool = std::sync::Arc::clone(a.nat.pool());
    let mut b = Gateway::with_table(first, &table, 1, Some(pool));
    poll(&mut a);
    a.four(&syn_to(WEB, 1)).sent();
    a.reconfigure(Options { generation: 1, ..with(&[]) });
    poll(&mut a);
    assert_eq!((a.mappings(), in_use(&a)), (1, 1));
    b.rig.advance(s(100_000));
    b.sweep();
    assert_eq!(a.mappings(), 0);
    b.nat.reconfigure(std::sync::Arc::clone(a.nat.config()), std::sync::Arc::clone(a.nat.pool()));
    assert_eq!(in_use(&a), 0);
}
