//! What a million leases take. Run it by name, alone: it measures the process.

use super::*;
use std::time::Instant;

fn resident_octets() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
}

#[test]
#[ignore = "measures the whole process: cargo test --release -p causeway-dhcpv6 million -- --ignored --nocapture"]
fn a_million_leases_take_at_most_250_octets_each_and_a_full_pool_is_no_slower() {
    const LEASES: u32 = 1 << 20;
    let mut c = config();
    c.capacity = 2 * LEASES;
    c.links[0].pools[0] = Pool { first: a("2001:db8:64::10:0"), last: a("2001:db8:64::1f:ffff") };
    let station = |n: u32| MacAddr([2, 1, (n >> 24) as u8, (n >> 16) as u8, (n >> 8) as u8, n as u8]);
    let of = |n: u32| Host { mac: station(n), duid: [&[0, 3, 0, 1][..], &station(n).0].concat() };
    let before = resident_octets();
    let mut s = Server::new(c);
    let start = Instant::now();
    for n in 0..LEASES {
        assert_eq!(s.handle(&of(n).request(M::Request, &[ia_na(1, &[])])).changes.len(), 1);
    }
    let each = start.elapsed() / LEASES;
    let octets = (resident_octets() - before) / u64::from(LEASES);
    assert_eq!(s.engine.count(), LEASES as usize);
    let time = |s: &mut Server, numbers: std::ops::Range<u32>| {
        let count = numbers.len() as u32;
        let start = Instant::now();
        for n in numbers {
            assert!(s.handle(&of(n).request(M::Request, &[ia_na(1, &[])])).answer.is_some());
        }
        start.elapsed() / count
    };
    let renewed = time(&mut s, 0..50_000);
    let refused = time(&mut s, 2 * LEASES..2 * LEASES + 50_000);
    println!(
        "{octets} octets a lease; given in {each:?}, asked again {renewed:?}, refused as full {refused:?}"
    );
    assert!(octets <= 250, "{octets} octets a lease");
    assert!(refused < 4 * each, "{refused:?}, {each:?}");
}
