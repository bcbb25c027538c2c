use super::*;
use crate::config::{Options, Subscribers};
use causeway_core::Duration;
use std::collections::HashSet;

fn options(pool: &[&str], ports: RangeInclusive<u16>) -> Options {
    Options {
        prefixes: vec!["2001:db8:64:ff9b::/96".parse().unwrap()],
        pool: pool.iter().map(|p| p.parse().unwrap()).collect(),
        first_port: *ports.start(),
        last_port: *ports.end(),
        hold_down: Duration::ZERO,
        subscribers: Subscribers { prefix_length: 128, ..Subscribers::default() },
        ..Options::default()
    }
}

fn pool(pool: &[&str], ports: RangeInclusive<u16>) -> Pool4 {
    Pool4::new(&Config::new(options(pool, ports)).unwrap())
}

fn host(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, n)
}

#[test]
fn rfc4787_4_1_a_host_keeps_one_address() {
    let p = pool(&["203.0.113.0/28"], 1024..=65535);
    for h in 0..50 {
        let of_host: HashSet<_> = (0..40u16)
            .map(|n| {
                p.allocate(host(h), 1024 + n, PROTOCOLS[usize::from(n) % 3], u64::from(n) << 40).unwrap().0
            })
            .collect();
        assert_eq!(of_host.len(), 1);
    }
}

#[test]
fn hosts_are_spread_over_all_addresses() {
    let p = pool(&["203.0.113.0/30", "198.51.100.128/32"], 1024..=65535);
    let mut seen = HashSet::new();
    for h in 0..500 {
        seen.insert(p.allocate(host(h), 5000, PROTO_TCP, 0).unwrap().0);
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.contains(&Ipv4Addr::new(198, 51, 100, 128)));
}

#[test]
fn rfc4787_4_2_2_udp_keeps_its_parity_while_it_can() {
    let p = pool(&["203.0.113.1/32"], 2000..=2009);
    for _ in 0..5 {
        assert_eq!(p.allocate(host(1), 7001, PROTO_UDP, 99).unwrap().1 % 2, 1);
    }
    // No odd port is left: an even one is better than none.
    assert_eq!(p.allocate(host(1), 7001, PROTO_UDP, 99).unwrap().1 % 2, 0);
}

#[test]
fn rfc6146_3_5_1_1_well_known_ports_stay_well_known() {
    let p = pool(&["203.0.113.1/32"], 1000..=1100);
    for n in 0..24u64 {
        assert!(p.allocate(host(1), 80, PROTO_TCP, n << 33).unwrap().1 < 1024);
        assert!(p.allocate(host(1), 8080, PROTO_TCP, n << 33).unwrap().1 >= 1024);
    }
    // All 24 low ports are taken.
    assert!(p.allocate(host(1), 80, PROTO_TCP, 5).unwrap().1 >= 1024);
}

#[test]
fn a_full_address_gives_way_to_the_next_and_a_full_pool_to_none() {
    let p = pool(&["203.0.113.0/30"], 1024..=1033);
    let mut seen = HashSet::new();
    for n in 0..40u64 {
        assert!(seen.insert(p.allocate(host(1), 9, PROTO_TCP, n).unwrap()), "given twice");
    }
    assert_eq!(p.allocate(host(1), 9, PROTO_TCP, 3), None);
    assert!(p.allocate(host(1), 9, PROTO_UDP, 3).is_some(), "protocols do not share ports");
    let (a, port) = *seen.iter().next().unwrap();
    p.release(a, port, PROTO_TCP);
    assert_eq!(p.allocate(host(2), 9, PROTO_TCP, 3), Some((a, port)));
}

#[test]
fn the_search_over_addresses_is_bounded() {
    let p = pool(&["203.0.113.0/26"], 1024..=1024);
    let got = (0..64u64).filter(|n| p.allocate(host(1), 9, PROTO_TCP, *n).is_some()).count();
    assert_eq!(got, TRIES + 1);
}

#[test]
fn rfc6888_3_req_8_a_port_rests_for_the_hold_down() {
    let mut o = options(&["203.0.113.1/32"], 1024..=1024);
    o.hold_down = Duration::from_secs(120);
    let p = Pool4::new(&Config::new(o).unwrap());
    let (a, port) = p.allocate(host(1), 9, PROTO_TCP, 0).unwrap();
    p.release(a, port, PROTO_TCP);
    let mut free_at = None;
    for s in 0..1000u64 {
        p.tick(Instant::from_micros(s * 1_000_000));
        if p.allocate(host(1), 9, PROTO_TCP, 0).is_some() {
            free_at = Some(s);
            break;
        }
    }
    assert!((120..=245).contains(&free_at.unwrap()), "{free_at:?}");
}

#[test]
fn a_successor_keeps_what_both_have() {
    let p = pool(&["203.0.113.0/30"], 1024..=1033);
    let (a, port) = p.allocate(host(1), 9, PROTO_TCP, 0).unwrap();
    let next = p.successor(&Config::new(options(&["203.0.113.0/29"], 1024..=1033)).unwrap());
    assert!(!next.take(a, port, PROTO_TCP));
    p.release(a, port, PROTO_TCP);
    assert!(next.take(a, port, PROTO_TCP));
    let other = p.successor(&Config::new(options(&["198.51.100.128/32"], 1024..=1033)).unwrap());
    assert!(!other.contains(a));
    other.release(a, port, PROTO_TCP);
    assert!(!p.take(a, port, PROTO_TCP), "a release for an address that is not in the pool is ignored");
}

#[test]
fn usage_counts_per_address_and_protocol() {
    let p = pool(&["203.0.113.1/32"], 1024..=2023);
    let _ = p.allocate(host(1), 9, PROTO_ICMP, 0);
    let rows: Vec<_> = p.usage().map(|u| (u.protocol, u.in_use, u.of)).collect();
    assert_eq!(rows, [(PROTO_UDP, 0, 1000), (PROTO_TCP, 0, 1000), (PROTO_ICMP, 1, 1000)]);
}

/// Advances a pool from `from` to `to` seconds, one tick a second.
fn ticks(p: &Pool4, from: u64, to: u64) {
    (from..to).for_each(|s| p.tick(Instant::from_micros(s * 1_000_000)));
}

#[test]
fn rfc6888_3_req_8_ports_that_rest_come_back_when_the_hold_down_is_switched_off() {
    let mut o = options(&["203.0.113.1/32"], 1024..=1024);
    o.hold_down = Duration::from_secs(120);
    let p = Pool4::new(&Config::new(o.clone()).unwrap());
    ticks(&p, 0, 5);
    let (a, port) = p.allocate(host(1), 9, PROTO_TCP, 0).unwrap();
    p.release(a, port, PROTO_TCP);
    o.hold_down = Duration::ZERO;
    let next = p.successor(&Config::new(o).unwrap());
    ticks(&next, 5, 600);
    assert_eq!(next.usage().map(|u| u.in_use).sum::<u32>(), 0);
    assert!(next.allocate(host(1), 9, PROTO_TCP, 0).is_some());
}

#[test]
fn rfc6888_3_req_8_ports_come_back_however_often_the_plan_changes() {
    let mut o = options(&["203.0.113.0/30"], 1024..=1024);
    o.hold_down = Duration::from_secs(120);
    let config = Config::new(o).unwrap();
    let mut p = Pool4::new(&config);
    let taken: Vec<_> = (0..4).map(|n| p.allocate(host(1), 9, PROTO_ICMP, n).unwrap()).collect();
    taken.into_iter().for_each(|(a, port)| p.release(a, port, PROTO_ICMP));
    for n in 0..40 {
        ticks(&p, n * 15, n * 15 + 15);
        p = p.successor(&config);
    }
    assert_eq!(p.usage().map(|u| u.in_use).sum::<u32>(), 0);
}

#[test]
fn rfc6888_3_req_8_a_shorter_hold_down_does_not_wait_for_the_longer_one() {
    let mut o = options(&["203.0.113.1/32"], 1024..=1024);
    o.hold_down = Duration::from_secs(30 * 86_400);
    let p = Pool4::new(&Config::new(o.clone()).unwrap());
    ticks(&p, 0, 5);
    let (a, port) = p.allocate(host(1), 9, PROTO_TCP, 0).unwrap();
    o.hold_down = Duration::from_secs(1);
    let next = p.successor(&Config::new(o).unwrap());
    next.release(a, port, PROTO_TCP);
    ticks(&next, 5, 20);
    assert!(next.allocate(host(1), 9, PROTO_TCP, 0).is_some());
}

#[test]
fn rfc6146_3_1_the_port_of_a_static_mapping_that_was_not_made_again_is_not_lost() {
    let at = (Ipv4Addr::new(203, 0, 113, 1), 1024);
    let with = |n: Option<u16>| {
        let mut o = options(&["203.0.113.1/32"], 1024..=1024);
        let to = |n| crate::StaticMapping { protocol: PROTO_TCP, outside: at, inside: (host(n), 80) };
        o.static_mappings = n.map(to).into_iter().collect();
        Config::new(o).unwrap()
    };
    let first = Pool4::new(&with(Some(1)));
    first.static_is_made(at.0, at.1, PROTO_TCP);
    // It leads to another host now, and ends; the new one finds no place.
    let second = first.successor(&with(Some(2)));
    second.release(at.0, at.1, PROTO_TCP);
    assert!(!second.take(at.0, at.1, PROTO_TCP));
    let third = second.successor(&with(None));
    drop((first, second));
    assert!(third.take(at.0, at.1, PROTO_TCP));
}
