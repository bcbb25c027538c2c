//! Subscribers: what each may have, what it is promised, and where its ports come from (RFC 6888, RFC 7422).

mod common;

use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{Counter, DropReason, Duration, HeapSource};
use causeway_flowtable::FlowTable;
use causeway_nat64::{
    Allocation, Config, Deterministic, Limits, Log, LogEvent, LogOptions, LogRecord, Nat64, Options, Pool4,
    StaticMapping, SubscriberUsage, Subscribers, Tenant,
};
use causeway_testkit::{Rig, ip4, ip6, tcp};
use common::*;
use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const REASONS: [DropReason; 4] = [
    DropReason::Nat64SubscriberPorts,
    DropReason::Nat64SubscriberSessions,
    DropReason::Nat64SubscriberRate,
    DropReason::Nat64PoolFull,
];

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Host `h` of subscriber `n`: subscribers are /112s of the lab's network.
fn host(n: u16, h: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, n, h)
}

fn udp(n: u16, h: u16, port: u16) -> Vec<u8> {
    ip6(host(n, h), SERVER6).udp(port, 53, b"x")
}

fn syn(n: u16, h: u16, port: u16) -> Vec<u8> {
    ip6(host(n, h), SERVER6).tcp(&tcp(port, 80).syn())
}

fn echo(n: u16, h: u16, id: u16) -> Vec<u8> {
    ip6(host(n, h), SERVER6).echo_request(id, 1, b"")
}

fn limited(limits: Limits) -> Options {
    Options { subscribers: Subscribers { prefix_length: 112, limits, ..Subscribers::default() }, ..options() }
}

/// One pool address with `count` ports.
fn small(limits: Limits, count: u16) -> Options {
    Options {
        pool: vec!["203.0.113.1/32".parse().unwrap()],
        first_port: 1024,
        last_port: 1023 + count,
        ..limited(limits)
    }
}

fn tenant(name: &str, subscriber: u16, pool: &[&str], limits: Limits) -> Tenant {
    Tenant {
        name: name.into(),
        prefixes: vec![format!("{}/112", host(subscriber, 0)).parse().unwrap()],
        limits,
        pool: pool.iter().map(|p| p.parse().unwrap()).collect(),
    }
}

fn usage(g: &Gateway, n: u16) -> Option<SubscriberUsage> {
    let prefix = format!("{}/112", host(n, 0)).parse().unwrap();
    g.nat.pool().subscribers().find(|u| u.prefix == prefix)
}

/// Opens until nothing is given any more, and says how many of each protocol were. Each refusal has to be
/// one of a limit, and is told.
fn greedy(g: &mut Gateway, n: u16, most: u16) -> [u32; 3] {
    let mut opened = [0; 3];
    for port in 0..most {
        for (kind, p) in
            [udp(n, port % 7, 2000 + port), syn(n, port % 7, 2000 + port), echo(n, port % 7, port)]
                .iter()
                .enumerate()
        {
            match g.six(p) {
                Fate::Sent(..) => opened[kind] += 1,
                other => {
                    let reason = other.dropped();
                    assert!(REASONS.contains(&reason), "{reason:?}");
                    let told = g.rig.sent();
                    assert_eq!((told[0].octets[40], told[0].octets[41]), (1, 3), "address unreachable");
                }
            }
        }
    }
    opened
}

fn reload(g: &mut Gateway, options: Options) {
    let generation = g.nat.config().options().generation + 1;
    let config = Arc::new(g.nat.config().successor(Options { generation, ..options }).unwrap());
    let pool = Arc::new(g.nat.pool().successor(&config));
    g.nat.reconfigure(config, pool);
}

fn in_use(g: &Gateway) -> u32 {
    g.nat.pool().usage().map(|u| u.in_use).sum()
}

#[test]
fn rfc6888_3_req_2_a_subscriber_keeps_one_address() {
    let mut g = Gateway::with(limited(Limits::default()));
    let mut all = HashSet::new();
    for n in 1..=20 {
        let mut of = HashSet::new();
        for h in 1..=5 {
            of.insert(g.open(&udp(n, h, 4000)).0);
            of.insert(g.open(&syn(n, h, 4000)).0);
            of.insert(g.open(&echo(n, h, 4000)).0);
        }
        assert_eq!(of.len(), 1);
        all.extend(of);
    }
    assert!(all.len() > 5, "subscribers are spread");
    assert_eq!(g.nat.pool().subscribers().count(), 0, "without limits nobody is accounted");
}

#[test]
fn rfc6888_3_req_4_ports_of_each_protocol_are_bounded() {
    let limits = Limits { ports_max: Some(10), ..Limits::default() };
    let mut g = Gateway::with(Options { hold_down: Duration::ZERO, ..limited(limits) });
    assert_eq!(greedy(&mut g, 1, 30), [10, 10, 10]);
    assert_eq!(g.six(&udp(1, 9, 9)).dropped(), DropReason::Nat64SubscriberPorts);
    let u = usage(&g, 1).unwrap();
    assert_eq!((u.ports, u.sessions, u.refused.ports), ([10; 3], 30, 61));
    assert_eq!(u.home.map(|h| g.nat.pool().contains(h)), Some(true));
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 30),
        ("nat64-sessions-created", 30),
        ("nat64-mappings-created", 30),
        ("icmp-errors-sent", 61),
    ]);
    // A mapping that is there takes no further port.
    g.open(&ip6(host(1, 0), SERVER6).udp(2000, 54, b""));
    // Others go on.
    assert_eq!(greedy(&mut g, 2, 10), [10, 10, 10]);
    g.pass(s(400));
    assert_eq!((g.sessions(), g.mappings(), in_use(&g)), (0, 0, 0));
    assert_eq!(usage(&g, 1), None, "the last mapping's end frees the entry");
    assert_eq!(greedy(&mut g, 1, 11), [10, 10, 10]);
}

#[test]
fn rfc6888_3_req_5_sessions_are_bounded_whoever_opens_them() {
    let limits = Limits { sessions_max: Some(8), ..Limits::default() };
    let mut g = Gateway::with(limited(limits));
    let out = g.open(&udp(1, 1, 4000));
    // Strangers take no more than leaves the subscriber a quarter.
    for n in 0..20u16 {
        let fate = g.four(&ip4(CLIENT, out.0).udp(1000 + n, out.1, b""));
        if n < 5 {
            fate.sent();
        } else {
            assert_eq!(fate.dropped(), DropReason::Nat64SubscriberSessions);
        }
    }
    // RFC 5508 6, REQ-8: who finds no room is told.
    let told = g.rig.sent();
    assert!(told.len() == 15 && told.iter().all(|l| l.octets[20..22] == [3, 13]), "{told:?}");
    for n in 0..2 {
        g.open(&ip6(host(1, 1), SERVER6).udp(4000, 100 + n, b""));
    }
    assert_eq!(
        g.six(&ip6(host(1, 1), SERVER6).udp(4000, 102, b"")).dropped(),
        DropReason::Nat64SubscriberSessions
    );
    assert_eq!(g.six(&udp(1, 1, 4001)).dropped(), DropReason::Nat64SubscriberSessions);
    assert_eq!(g.mappings(), 1, "what is refused leaves no mapping");
    let u = usage(&g, 1).unwrap();
    assert_eq!((u.sessions, u.refused.sessions), (8, 17));
    assert_eq!(g.rig.counters.get(Counter::Nat64SessionsCreated), 8);
    g.open(&udp(2, 1, 4000));
    // Established sessions go on, and ended ones count no more.
    g.open(&udp(1, 1, 4000));
    g.pass(s(301));
    assert_eq!(g.sessions(), 0);
    for n in 0..8 {
        g.open(&ip6(host(1, 1), SERVER6).udp(4000, 200 + n, b""));
    }
}

#[test]
fn rfc6888_3_req_4_c_the_rate_of_new_sessions_is_bounded() {
    let limits = Limits { new_sessions_per_second: Some(10), new_sessions_burst: 4, ..Limits::default() };
    let mut g = Gateway::with(limited(limits));
    let count = |g: &mut Gateway, n: u16, from: u16| {
        (0..30).filter(|p| matches!(g.six(&udp(n, 1, from + p)), Fate::Sent(..))).count()
    };
    assert_eq!(count(&mut g, 1, 1000), 5);
    assert_eq!(g.six(&udp(1, 1, 5000)).dropped(), DropReason::Nat64SubscriberRate);
    assert_eq!(g.mappings(), 5, "what is refused leaves no mapping");
    assert_eq!(count(&mut g, 2, 1000), 5, "each has its own");
    g.rig.advance(s(1));
    assert_eq!(count(&mut g, 1, 2000), 5);
    for _ in 0..20 {
        g.open(&udp(1, 1, 1000));
    }
    let u = usage(&g, 1).unwrap();
    assert_eq!((u.sessions, u.refused.rate), (10, 25 + 1 + 25));
}

#[test]
fn a_full_table_of_subscribers_costs_tenants_and_the_known_nothing() {
    let mut o = limited(Limits { ports_max: Some(100), ..Limits::default() });
    o.subscribers.capacity = 3;
    o.subscribers.tenants = vec![tenant("acme", 9, &[], Limits::default())];
    let mut g = Gateway::with(o);
    for n in 1..=3 {
        g.open(&udp(n, 1, 4000));
    }
    assert_eq!(g.six(&udp(4, 1, 4000)).dropped(), DropReason::Nat64SubscribersFull);
    assert_eq!((g.rig.sent()[0].octets[40], g.sessions(), g.mappings()), (1, 3, 3));
    g.open(&udp(9, 1, 4000));
    g.open(&udp(3, 2, 4000));
    assert_eq!(usage(&g, 9).unwrap().name.as_deref(), Some("acme"));
    g.pass(s(400));
    for n in 4..=6 {
        g.open(&udp(n, 1, 4000));
    }
    assert_eq!(g.six(&udp(1, 1, 4000)).dropped(), DropReason::Nat64SubscribersFull);
    assert_eq!(g.nat.pool().subscribers().count(), 4);
}

/// Everybody gets what is promised, whatever one subscriber does. `others` fit into the reserve.
fn nobody_loses(options: Options, min: u16, others: u16) {
    let mut g = Gateway::sized(options, 4000);
    g.rig.source = HeapSource::new(1_000_000);
    let open = |g: &mut Gateway, n: u16, from: u16, count: u16| {
        for p in from..from + count {
            for packet in [udp(n, p % 3, 1000 + p), syn(n, p % 3, 1000 + p), echo(n, p % 3, p)] {
                let fate = g.six(&packet);
                assert!(matches!(fate, Fate::Sent(..)), "subscriber {n}, {p}: {fate:?}");
            }
        }
    };
    // Half of the others are there already, and half of those have part of what they are promised.
    let seen = others / 2;
    for n in 0..seen {
        open(&mut g, 100 + n, 0, if n % 2 == 0 { 1 } else { min });
    }
    for round in 0..4 {
        let got = greedy(&mut g, 1, 300);
        assert!(got.iter().all(|n| *n >= u32::from(min)), "{got:?}");
        // Closing and opening again takes no more than opening: the greedy one's end, the others' do in part.
        for _ in 0..if round < 3 { 2 } else { 0 } {
            g.pass(s(200));
            for n in 0..seen {
                open(&mut g, 100 + n, 0, if n % 2 == 0 { 1 } else { min });
            }
        }
    }
    for n in 0..seen {
        open(&mut g, 100 + n, 0, min);
        assert!(usage(&g, 100 + n).unwrap().promised >= u32::from(min));
    }
    for n in seen..others {
        open(&mut g, 100 + n, 0, min);
    }
    // Everything ends, and the books balance.
    for _ in 0..8 {
        g.pass(s(200));
    }
    for _ in 0..400 {
        g.pass(s(1));
    }
    assert_eq!((g.sessions(), g.mappings(), in_use(&g)), (0, 0, 0));
    assert_eq!(g.nat.pool().subscribers().count(), 0);
}

#[test]
fn rfc6888_3_req_4_one_that_opens_everything_costs_nobody_a_promised_session() {
    let limits = Limits { ports_min: 6, ..Limits::default() };
    // Half of 200 ports is kept for promises: 16 of six ports, one of which is the greedy one's own.
    let mut o = small(limits, 200);
    o.hold_down = Duration::ZERO;
    nobody_loses(o, 6, 15);
}

#[test]
fn rfc6888_3_req_8_ports_at_rest_cost_nobody_a_promised_session() {
    let limits = Limits { ports_min: 6, ..Limits::default() };
    nobody_loses(small(limits, 200), 6, 15);
}

#[test]
fn promises_hold_with_several_addresses_and_a_maximum() {
    let limits = Limits { ports_min: 10, ports_max: Some(60), ..Limits::default() };
    let o = Options {
        pool: vec!["203.0.113.0/31".parse().unwrap()],
        first_port: 2000,
        last_port: 2099,
        ..limited(limits)
    };
    // Five promises fit into the half of each address, wherever hashes lead.
    nobody_loses(o, 10, 8);
}

#[test]
fn blocks_are_promised_as_ports_are() {
    let limits = Limits { ports_min: 9, ..Limits::default() };
    let mut o = small(limits, 512);
    o.allocation = Allocation::Blocks { ports: 8 };
    // 64 blocks, of which half are kept for promises of two.
    nobody_loses(o, 9, 15);
}

#[test]
fn tenants_are_promised_their_ports_before_they_are_seen() {
    let mut o = small(Limits::default(), 100);
    o.subscribers.tenants = vec![tenant("acme", 9, &[], Limits { ports_min: 40, ..Limits::default() })];
    let mut g = Gateway::with(o);
    assert_eq!(greedy(&mut g, 1, 150), [60; 3]);
    assert_eq!(g.six(&udp(2, 1, 1)).dropped(), DropReason::Nat64PoolFull);
    for p in 0..40 {
        g.open(&udp(9, 1, 3000 + p));
    }
    assert_eq!(g.six(&udp(9, 1, 4000)).dropped(), DropReason::Nat64PoolFull);
    assert_eq!(usage(&g, 9).unwrap().ports, [40, 0, 0]);
    assert_eq!(usage(&g, 1).unwrap().ports, [60; 3]);
}

#[test]
fn a_tenant_has_its_own_exit_addresses_and_nobody_else_has_them() {
    let mut o = small(Limits::default(), 20);
    o.subscribers.tenants = vec![tenant("acme", 9, &["192.0.2.129/32"], Limits::default())];
    let own = Ipv4Addr::new(192, 0, 2, 129);
    let mut g = Gateway::with(o.clone());
    assert!(g.nat.pool().contains(own));
    for p in 0..20 {
        assert_eq!(g.open(&udp(9, p % 4, 4000 + p)).0, own);
        assert_eq!(g.open(&udp(1, p % 4, 4000 + p)).0, Ipv4Addr::new(203, 0, 113, 1));
    }
    // Full is full: neither gets the other's.
    assert_eq!(g.six(&udp(9, 1, 5000)).dropped(), DropReason::Nat64PoolFull);
    assert_eq!(g.six(&udp(1, 1, 5000)).dropped(), DropReason::Nat64PoolFull);
    let in_use: HashMap<_, _> =
        g.nat.pool().usage().filter(|u| u.protocol == 17).map(|u| (u.address, u.in_use)).collect();
    assert_eq!((in_use.len(), in_use[&own]), (2, 20));
    // It comes in again, and hairpins to its neighbours.
    let out = g.open(&syn(9, 1, 4000));
    assert_eq!(out.0, own);
    g.four(&ip4(SERVER, own).tcp(&tcp(80, out.1).syn().ack(1))).sent();
    let own6 = Ipv6Addr::from_bits(v6("2001:db8:64:ff9b::").to_bits() | u128::from(own.to_bits()));
    g.six(&ip6(host(1, 2), own6).tcp(&tcp(7, out.1).syn())).sent();
    // The tenant goes: what it has ends, and its hosts use what all do.
    let sessions = g.sessions();
    o.subscribers.tenants.clear();
    o.last_port += 100;
    reload(&mut g, o);
    assert_eq!(g.six(&ip6(host(9, 1), SERVER6).udp(4001, 54, b"")).sent()[12..15], [203, 0, 113]);
    g.sweep();
    assert_eq!(g.sessions(), sessions + 1 - 22);
    assert_eq!(g.open(&udp(9, 1, 4000)).0, Ipv4Addr::new(203, 0, 113, 1));
}

#[test]
fn a_tenant_whose_pool_changes_never_keeps_the_old_address() {
    let mut o = small(Limits::default(), 20);
    o.subscribers.tenants = vec![tenant("acme", 9, &["192.0.2.129/32"], Limits::default())];
    let mut g = Gateway::with(o.clone());
    g.open(&udp(9, 1, 4000));
    o.subscribers.tenants = vec![tenant("acme", 9, &["192.0.2.130/32"], Limits::default())];
    reload(&mut g, o);
    // Until the sweep has ended the old mapping, its port opens nothing new; others do.
    let again = ip6(host(9, 1), SERVER6).udp(4000, 54, b"");
    assert_eq!(g.six(&again).dropped(), DropReason::Nat64Building);
    assert_eq!(g.open(&udp(9, 1, 4001)).0, Ipv4Addr::new(192, 0, 2, 130));
    g.sweep();
    assert_eq!(g.open(&again).0, Ipv4Addr::new(192, 0, 2, 130));
    assert_eq!(g.sessions(), 2);
}

fn blocks_of(g: &Gateway, n: u16) -> Vec<(Ipv4Addr, u16, u16, u32)> {
    usage(g, n)
        .map_or_else(Vec::new, |u| u.blocks.iter().map(|b| (b.address, b.first, b.last, b.in_use)).collect())
}

fn records(log: &Log) -> Vec<LogRecord> {
    std::iter::from_fn(|| log.take()).collect()
}

fn with_log(options: Options) -> (Gateway, Arc<Log>) {
    let o = Options { log: LogOptions { blocks: true, ..LogOptions::default() }, ..options };
    let mut g = Gateway::sized(o, 4000);
    let log = Arc::new(Log::new(4096));
    g.nat.set_log(Arc::clone(&log));
    (g, log)
}

#[test]
fn rfc6888_5_req_14_one_record_for_each_block() {
    let mut o = small(Limits { ports_max: Some(40), ..Limits::default() }, 512);
    o.allocation = Allocation::Blocks { ports: 16 };
    o.hold_down = Duration::ZERO;
    let (mut g, log) = with_log(o);
    let mut outs = Vec::new();
    for p in 0..16 {
        outs.push(g.open(&udp(1, p, 4000)));
        outs.push(g.open(&syn(1, p, 4000)));
        outs.push(g.open(&echo(1, p, 4000)));
    }
    // One block is enough for sixteen of each protocol.
    let [(a, first, last, used)] = blocks_of(&g, 1)[..] else { panic!("{:?}", blocks_of(&g, 1)) };
    assert_eq!((first % 16, last - first, used), (0, 15, 48));
    assert!(outs.iter().all(|(out, port)| *out == a && (first..=last).contains(port)));
    let order: Vec<_> = outs.iter().map(|o| o.1).step_by(3).collect();
    assert!(order.windows(2).any(|w| w[1] < w[0]), "ports come at random: {order:?}");
    let given = records(&log);
    assert_eq!(given.len(), 1);
    let r = &given[0];
    assert_eq!((r.event, r.protocol, r.out4), (LogEvent::BlockGiven, 0, a.to_bits()));
    assert_eq!((r.out_port, r.last_port, r.src6), (first, last, host(1, 0).to_bits()));
    // A second and a third, and no more: ports-max is 40.
    for p in 0..40 {
        let fate = g.six(&udp(1, 100 + p, 4000));
        if p < 24 {
            fate.sent();
        } else {
            assert_eq!(fate.dropped(), DropReason::Nat64SubscriberPorts);
        }
    }
    assert_eq!((blocks_of(&g, 1).len(), records(&log).len()), (3, 2));
    // Another subscriber's are others.
    for p in 0..30 {
        g.open(&udp(2, p, 4000));
    }
    let all: HashSet<_> = [blocks_of(&g, 1), blocks_of(&g, 2)].concat().iter().map(|b| (b.0, b.1)).collect();
    assert_eq!((all.len(), records(&log).len()), (5, 2));
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 48 + 24 + 30),
        ("nat64-sessions-created", 48 + 24 + 30),
        ("nat64-mappings-created", 48 + 24 + 30),
        ("icmp-errors-sent", 16),
    ]);
    // They come back one by one, each once.
    for _ in 0..4 {
        g.pass(s(250));
    }
    let back = records(&log);
    assert!(back.iter().all(|r| r.event == LogEvent::BlockReturned));
    let back: HashSet<_> = back.iter().map(|r| (Ipv4Addr::from_bits(r.out4), r.out_port)).collect();
    assert_eq!(back, all);
    assert_eq!((in_use(&g), g.nat.pool().subscribers().count(), log.lost()), (0, 0, 0));
}

#[test]
fn rfc6888_3_req_8_a_block_rests_before_another_gets_it() {
    let mut o = small(Limits::default(), 8);
    o.allocation = Allocation::Blocks { ports: 8 };
    let (mut g, log) = with_log(o);
    g.open(&udp(1, 1, 4000));
    assert_eq!(g.six(&udp(2, 1, 4000)).dropped(), DropReason::Nat64PoolFull);
    g.pass(s(301));
    assert_eq!(records(&log).len(), 2);
    let mut waited = 0;
    while matches!(g.six(&udp(2, 1, 4000)), Fate::Dropped(DropReason::Nat64PoolFull)) {
        g.pass(s(1));
        waited += 1;
        assert!(waited < 300);
    }
    assert!(waited >= 119, "{waited}");
    assert_eq!(blocks_of(&g, 2)[0].1, 1024);
    assert_eq!(records(&log).iter().filter(|r| r.event == LogEvent::BlockGiven).count(), 1);
}

#[test]
fn rfc4787_4_2_2_parity_is_kept_within_blocks() {
    let mut o = small(Limits { ports_max: Some(16), ..Limits::default() }, 512);
    o.allocation = Allocation::Blocks { ports: 16 };
    let (mut g, _) = with_log(o);
    for h in 0..8 {
        assert_eq!(g.open(&udp(1, h, 4001)).1 % 2, 1);
    }
    assert_eq!(g.open(&udp(1, 99, 4001)).1 % 2, 0, "an even one of the block is better than none");
}

#[test]
fn blocks_of_another_size_never_overlap_what_is_there() {
    let mut o = small(Limits::default(), 512);
    o.hold_down = Duration::ZERO;
    let (mut g, log) = with_log(o.clone());
    // First one by one, to somebody nobody accounts for; then in blocks of two sizes.
    let singles: Vec<_> = (0..20).map(|h| g.open(&udp(1, h, 4000)).1).collect();
    o.log.blocks = true;
    o.allocation = Allocation::Blocks { ports: 8 };
    reload(&mut g, o.clone());
    for h in 0..20 {
        g.open(&udp(2, h, 4000));
    }
    let old = blocks_of(&g, 2);
    assert_eq!(old.len(), 3);
    o.allocation = Allocation::Blocks { ports: 16 };
    reload(&mut g, o);
    // The old ones take nothing new, though one has room.
    g.open(&udp(2, 30, 4000));
    assert_eq!((&blocks_of(&g, 2)[..3], blocks_of(&g, 2).len()), (&old[..], 4));
    for n in 3..20 {
        let fate = g.six(&udp(n, 1, 4000));
        if !matches!(fate, Fate::Sent(..)) {
            assert_eq!(fate.dropped(), DropReason::Nat64PoolFull);
        }
    }
    let mut all: Vec<(u16, u16)> = (2..20).flat_map(|n| blocks_of(&g, n)).map(|b| (b.1, b.2)).collect();
    assert!(all.len() > 8, "{all:?}");
    all.sort_unstable();
    assert!(all.windows(2).all(|w| w[0].1 < w[1].0), "{all:?}");
    for p in singles {
        assert!(all.iter().all(|(first, last)| !(first..=last).contains(&&p)), "{p} is in a block");
    }
    // And all come back, each as it was given.
    for _ in 0..4 {
        g.pass(s(250));
    }
    let all = records(&log);
    let of = |e: LogEvent| -> Vec<_> {
        let mut v: Vec<_> =
            all.iter().filter(|r| r.event == e).map(|r| (r.out4, r.out_port, r.last_port)).collect();
        v.sort_unstable();
        v
    };
    assert_eq!(of(LogEvent::BlockGiven), of(LogEvent::BlockReturned));
    assert_eq!((in_use(&g), g.nat.pool().subscribers().count()), (0, 0));
    // The whole range is there again.
    for n in 0..32 {
        g.open(&udp(100 + n, 1, 4000));
    }
}

#[test]
fn rfc7422_2_ports_are_those_of_the_calculation() {
    let o = Options {
        pool: vec!["203.0.113.0/30".parse().unwrap()],
        first_port: 1024,
        last_port: 1024 + 63,
        allocation: Allocation::Deterministic {
            hosts: vec![format!("{}/108", host(16, 0)).parse().unwrap()],
        },
        ..limited(Limits::default())
    };
    let mut g = Gateway::with(o);
    let d = Deterministic::of(g.nat.config()).unwrap();
    assert_eq!((d.subscribers(), d.ports()), (16, 16));
    for n in 16..32 {
        let (a, ports) = d.ports_of(host(n, 5)).unwrap();
        let mut seen = Vec::new();
        for h in 0..16 {
            let out = g.open(&udp(n, h, 4000));
            assert_eq!(out.0, a);
            assert!(ports.contains(&out.1));
            assert_eq!(d.subscriber_of(out.0, out.1), Some(format!("{}/112", host(n, 0)).parse().unwrap()));
            seen.push(out.1);
        }
        assert!(seen.windows(2).any(|w| w[1] < w[0]), "at random (RFC 7422 2, step 3): {seen:?}");
        assert_eq!(g.six(&udp(n, 99, 4000)).dropped(), DropReason::Nat64SubscriberPorts);
    }
    assert_eq!(g.six(&udp(32, 1, 4000)).dropped(), DropReason::Nat64SubscriberPorts, "not of the hosts");
    assert!(g.rig.sent().iter().all(|l| (l.octets[40], l.octets[41]) == (1, 3)));
    // RFC 6888 3, REQ-8 b: they need not rest.
    g.pass(s(301));
    assert_eq!((g.sessions(), in_use(&g)), (0, 0));
    for h in 0..16 {
        g.open(&udp(16, h, 4000));
    }
}

#[test]
fn rfc7422_3_a_new_calculation_ends_what_contradicts_it() {
    let mut g = Gateway::with(limited(Limits::default()));
    for h in 0..50 {
        g.open(&udp(16, h, 4000));
    }
    let hosts = vec![format!("{}/104", host(0, 0)).parse().unwrap()];
    reload(&mut g, Options { allocation: Allocation::Deterministic { hosts }, ..limited(Limits::default()) });
    g.sweep();
    let d = Deterministic::of(g.nat.config()).unwrap();
    let left = g.sessions();
    assert!(left < 50, "{left}");
    for h in 0..50 {
        let out = g.open(&udp(16, h, 4000));
        assert_eq!(d.subscriber_of(out.0, out.1), Some(format!("{}/112", host(16, 0)).parse().unwrap()));
    }
}

#[test]
fn a_reload_keeps_the_books_and_changes_the_limits_at_once() {
    let with = |max: u16, sessions: u32| {
        limited(Limits { ports_max: Some(max), sessions_max: Some(sessions), ..Limits::default() })
    };
    let mut g = Gateway::with(with(10, 100));
    for h in 0..10 {
        g.open(&udp(1, h, 4000));
    }
    reload(&mut g, with(12, 100));
    let u = usage(&g, 1).unwrap();
    assert_eq!((u.ports, u.sessions), ([10, 0, 0], 10));
    g.open(&udp(1, 10, 4000));
    g.open(&udp(1, 11, 4000));
    assert_eq!(g.six(&udp(1, 12, 4000)).dropped(), DropReason::Nat64SubscriberPorts);
    reload(&mut g, with(5, 13));
    g.open(&ip6(host(1, 1), SERVER6).udp(4000, 54, b""));
    assert_eq!(
        g.six(&ip6(host(1, 1), SERVER6).udp(4000, 55, b"")).dropped(),
        DropReason::Nat64SubscriberSessions
    );
    // Without limits what was counted is counted down all the same.
    reload(&mut g, limited(Limits::default()));
    for h in 20..40 {
        g.open(&udp(1, h, 4000));
    }
    assert_eq!(usage(&g, 1).unwrap().ports, [12, 0, 0]);
    g.pass(s(301));
    assert_eq!(usage(&g, 1), None);
    // A plan that was made and not used changes nothing.
    reload(&mut g, with(10, 100));
    g.open(&udp(1, 1, 4000));
    let mut o = with(1, 1);
    o.subscribers.tenants = vec![tenant("acme", 1, &["192.0.2.129/32"], Limits::default())];
    let config = g.nat.config().successor(o).unwrap();
    drop(g.nat.pool().successor(&config));
    assert_eq!(g.nat.pool().subscribers().count(), 1);
    g.open(&udp(1, 2, 4000));
}

#[test]
fn rfc6146_3_1_ports_of_static_mappings_are_not_given_out() {
    let at = |port: u16| StaticMapping {
        protocol: 17,
        outside: (Ipv4Addr::new(203, 0, 113, 1), port),
        inside: (v6(VM1), 22),
    };
    let mut o = Options { hold_down: Duration::ZERO, ..small(Limits::default(), 10) };
    o.static_mappings = vec![at(1026)];
    let mut g = Gateway::with(o.clone());
    let ports: HashSet<_> = (0..9).map(|h| g.open(&udp(1, h, 4000)).1).collect();
    assert!(ports.len() == 9 && !ports.contains(&1026));
    assert_eq!(g.six(&udp(1, 9, 4000)).dropped(), DropReason::Nat64PoolFull);
    assert_eq!(g.open(&syn(1, 9, 4000)).0, Ipv4Addr::new(203, 0, 113, 1), "TCP has ports of its own");
    // Another takes its place, which a mapping has at this moment: it stays taken when that ends.
    o.static_mappings = vec![StaticMapping { inside: (v6(VM1), 23), ..at(1027) }];
    reload(&mut g, o.clone());
    assert_eq!(g.open(&udp(1, 9, 4000)).1, 1026);
    g.pass(s(301));
    assert_eq!(in_use(&g), 1);
    let ports: HashSet<_> = (0..9).map(|h| g.open(&udp(1, h, 4000)).1).collect();
    assert!(ports.contains(&1026) && !ports.contains(&1027));
    o.static_mappings.clear();
    reload(&mut g, o);
    assert_eq!(g.open(&udp(1, 9, 4000)).1, 1027);
    g.pass(s(301));
    assert_eq!(in_use(&g), 0);
}

#[test]
fn what_fails_for_another_reason_is_given_back() {
    let limits = Limits {
        ports_min: 2,
        ports_max: Some(1000),
        sessions_max: Some(1000),
        new_sessions_per_second: Some(1000),
        new_sessions_burst: 999,
    };
    let mut g = Gateway::sized(Options { hold_down: Duration::ZERO, ..limited(limits) }, 64);
    let mut made = 0;
    for p in 0..900 {
        match g.six(&udp(1, 1, 1000 + p)) {
            Fate::Sent(..) => made += 1,
            // The rate is not used up by what the table refused.
            other => assert_eq!(other.dropped(), DropReason::Nat64TableFull),
        }
    }
    g.sweep();
    let u = usage(&g, 1).unwrap();
    assert_eq!((u.sessions, u.ports), (made, [made, 0, 0]));
    assert_eq!((g.sessions(), in_use(&g)), (usize::try_from(made).unwrap(), made));
    g.pass(s(301));
    assert_eq!((g.nat.pool().subscribers().count(), in_use(&g)), (0, 0));
}

/// Two workers open and end mappings of the same subscribers, more of which there are than places.
fn balance(mut options: Options) {
    options.timeouts.udp = s(1);
    options.hold_down = Duration::ZERO;
    options.subscribers.capacity = 5;
    options.subscribers.tenants = vec![tenant("acme", 9, &["192.0.2.129/32"], Limits::default())];
    options.log.blocks = true;
    let config = Arc::new(Config::new(options).unwrap());
    let pool = Arc::new(Pool4::new(&config));
    let log = Arc::new(Log::new(1 << 18));
    let table = FlowTable::new(&causeway_flowtable::Config {
        sessions: 300,
        mappings: 300,
        spliced: 0,
        workers: 2,
        control_readers: 1,
        seed: [1, 2, 3, 4],
    })
    .unwrap();
    let done = std::sync::Barrier::new(2);
    let refused = std::sync::Mutex::new(HashMap::<DropReason, u32>::new());
    let ready = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for id in 0..2u8 {
            let (config, pool, log, table) =
                (Arc::clone(&config), Arc::clone(&pool), Arc::clone(&log), Arc::clone(&table));
            let (refused, ready, done) = (&refused, &ready, &done);
            scope.spawn(move || {
                let mut nat = Nat64::new(config, pool, IcmpErrors::new(0, 0));
                nat.set_log(log);
                let worker = table.worker(id).unwrap();
                let mut g = Gateway { rig: Rig::lab(), table, worker, nat };
                let mut x = u64::from(id) + 1;
                ready.wait();
                for _ in 0..3000 {
                    x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let bits = (x >> 40) as u16;
                    let burst: Vec<_> = (0..8)
                        .map(|n| {
                            let bits = bits.rotate_left(n);
                            udp(1 + bits % 9, bits >> 4 & 3, 4000 + (bits >> 6) % 40)
                        })
                        .collect();
                    for fate in g.vector("tenant0", &burst, true) {
                        if let Fate::Dropped(reason) = fate {
                            *refused.lock().unwrap().entry(reason).or_default() += 1;
                        }
                    }
                    g.pass(Duration::from_millis(100));
                }
                done.wait();
                for _ in 0..4 {
                    g.pass(s(2));
                }
            });
        }
    });
    let refused = refused.into_inner().unwrap();
    assert!(refused.contains_key(&DropReason::Nat64SubscribersFull), "{refused:?}");
    assert!(refused.contains_key(&DropReason::Nat64SubscriberSessions), "{refused:?}");
    assert_eq!((table.stats().sessions, table.stats().mappings), (0, 0));
    // Only the tenant's entry is left, and nobody has anything.
    let left: Vec<_> = pool.subscribers().collect();
    assert_eq!(left.len(), 1);
    let u = &left[0];
    assert_eq!((u.sessions, u.ports, u.blocks.len()), (0, [0; 3], 0));
    assert_eq!(pool.usage().map(|u| u.in_use).sum::<u32>(), 0);
    // Every port can be had again by one.
    let records = records(&log);
    assert_eq!(log.lost(), 0);
    let mut open = HashSet::new();
    for r in records {
        let block = (r.out4, r.out_port, r.last_port);
        match r.event {
            LogEvent::BlockGiven => assert!(open.insert(block), "given twice: {block:?}"),
            _ => assert!(open.remove(&block), "returned twice: {block:?}"),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

const BALANCED: Limits = Limits {
    ports_min: 4,
    ports_max: Some(40),
    sessions_max: Some(8),
    new_sessions_per_second: None,
    new_sessions_burst: 0,
};

#[test]
fn two_workers_keep_the_books_together() {
    balance(small(BALANCED, 200));
}

#[test]
fn two_workers_give_and_return_blocks_together() {
    let mut o = small(BALANCED, 512);
    o.allocation = Allocation::Blocks { ports: 8 };
    balance(o);
}

#[test]
fn a_number_in_a_mapping_is_the_subscribers() {
    let mut g = Gateway::with(limited(Limits { ports_max: Some(5), ..Limits::default() }));
    for n in 1..=3 {
        g.open(&udp(n, 1, 4000));
        g.open(&udp(n, 2, 4000));
    }
    let guard = g.worker.enter();
    let mut numbers: HashMap<u32, HashSet<u128>> = HashMap::new();
    guard.mappings(0, u32::MAX, |m| {
        numbers.entry(m.subscriber()).or_default().insert(m.src6() >> 16);
    });
    assert_eq!(numbers.len(), 3);
    assert!(numbers.iter().all(|(n, of)| *n != 0 && of.len() == 1));
    let config = Config::new(options()).unwrap();
    assert_eq!(Deterministic::of(&config), None);
}
