use super::*;
use crate::config::{ConfigError, Subscribers};
use proptest::prelude::*;

fn options(hosts: &[&str], length: u8, pool: &[&str], ports: RangeInclusive<u16>) -> Options {
    Options {
        prefixes: vec!["2001:db8:64:ff9b::/96".parse().unwrap()],
        pool: pool.iter().map(|p| p.parse().unwrap()).collect(),
        first_port: *ports.start(),
        last_port: *ports.end(),
        subscribers: Subscribers { prefix_length: length, ..Subscribers::default() },
        allocation: Allocation::Deterministic { hosts: hosts.iter().map(|h| h.parse().unwrap()).collect() },
        ..Options::default()
    }
}

fn of(options: Options) -> Result<Deterministic, ConfigError> {
    Ok(Deterministic::of(&Config::new(options)?).expect("it is configured"))
}

#[test]
fn rfc7422_2_subscribers_follow_each_other_on_an_address() {
    // As in the example of RFC 7422 2.3, without a dynamic pool: sixteen subscribers of one address.
    let d = of(options(&["2001:db8:1::/60"], 64, &["192.0.2.1/32"], 1024..=65535)).unwrap();
    assert_eq!((d.subscribers(), d.ports()), (16, 4032));
    let a = Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(d.ports_of("2001:db8:1:0::5".parse().unwrap()), Some((a, 1024..=5055)));
    assert_eq!(d.ports_of("2001:db8:1:1::".parse().unwrap()), Some((a, 5056..=9087)));
    assert_eq!(d.ports_of("2001:db8:1:f::".parse().unwrap()), Some((a, 61504..=65535)));
    assert_eq!(d.ports_of("2001:db8:1:10::".parse().unwrap()), None);
    assert_eq!(d.subscriber_of(a, 5056), Some("2001:db8:1:1::/64".parse().unwrap()));
    assert_eq!(d.subscriber_of(a, 1023), None);
    assert_eq!(d.subscriber_of(Ipv4Addr::new(192, 0, 2, 2), 5056), None);
}

#[test]
fn rfc7422_2_system_ports_are_left_out() {
    let d = of(options(&["2001:db8:1::/60"], 64, &["192.0.2.1/32"], 1..=65535)).unwrap();
    assert_eq!(*d.ports_of("2001:db8:1::".parse().unwrap()).unwrap().1.start(), 1024);
    let low = of(options(&["2001:db8:1::/60"], 64, &["192.0.2.1/32"], 512..=1000)).unwrap();
    assert_eq!(*low.ports_of("2001:db8:1::".parse().unwrap()).unwrap().1.start(), 512);
}

#[test]
fn rfc7422_2_too_many_subscribers_are_an_error_that_says_how_many_ports_each_would_get() {
    let e = of(options(&["2001:db8::/48"], 64, &["192.0.2.0/31"], 1024..=65535)).unwrap_err();
    assert_eq!(
        e.to_string(),
        "2 pool addresses leave each of the 65536 subscribers of the deterministic hosts 1 ports; at least 8 are needed"
    );
    let e = of(options(&["2001:db8::/32"], 128, &["192.0.2.0/31"], 1024..=65535)).unwrap_err();
    assert!(e.to_string().contains(" 0 ports"), "{e}");
    let e = of(options(&["::/0"], 128, &["192.0.2.0/31"], 1024..=65535)).unwrap_err();
    assert!(e.to_string().contains(" 0 ports"), "{e}");
    for (hosts, want) in [
        (&[][..], "no hosts"),
        (&["2001:db8::/65"], "longer than the subscribers' prefix length, 64"),
        (&["2001:db8::/60", "2001:db8:0:1::/64"], "overlap"),
    ] {
        let e = of(options(hosts, 64, &["192.0.2.0/31"], 1024..=65535)).unwrap_err();
        assert!(e.to_string().contains(want), "{e}");
    }
}

proptest! {
    #[test]
    fn rfc7422_2_both_functions_are_inverse_and_ranges_disjoint(
        bits in prop::collection::vec(0u8..=6, 1..4),
        length in 48u8..=128,
        pools in prop::collection::vec(27u8..=32, 1..4),
        first in 1u16..3000,
        count in 8_000u16..60_000,
    ) {
        let hosts: Vec<String> = bits.iter().enumerate()
            .map(|(n, b)| format!("2001:db8:{:x}::/{}", 0x30 - n, length - b.min(&(length - 48)))).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let pool: Vec<String> = pools.iter().enumerate()
            .map(|(n, l)| Prefix4::containing(Ipv4Addr::new(192, 0, 2, 64 * u8::try_from(n).unwrap()), *l).unwrap().to_string())
            .collect();
        let pool: Vec<&str> = pool.iter().map(String::as_str).collect();
        let o = options(&hosts, length, &pool, first..=first.saturating_add(count));
        let Allocation::Deterministic { hosts } = &o.allocation else { unreachable!() };
        let hosts = hosts.clone();
        let d = of(o.clone()).unwrap();
        let mut taken: Vec<(Ipv4Addr, RangeInclusive<u16>, Prefix6)> = Vec::new();
        for h in &hosts {
            for n in 0..1u128 << (length - h.len()) {
                let shift = 128 - u32::from(length);
                let host = h.address().to_bits() | n.checked_shl(shift).unwrap_or(0);
                // Any host of the subscriber.
                let within = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                let (a, ports) = d.ports_of(Ipv6Addr::from_bits(host | within)).unwrap();
                prop_assert_eq!(d.ports_of(Ipv6Addr::from_bits(host)), Some((a, ports.clone())));
                prop_assert!(o.pool.iter().any(|p| p.contains(a)));
                prop_assert!(*ports.start() >= o.first_port && *ports.end() <= o.last_port);
                let me = Prefix6::new(Ipv6Addr::from_bits(host), length).unwrap();
                let middle = ports.start() + (ports.end() - ports.start()) / 2;
                for port in [*ports.start(), middle, *ports.end()] {
                    prop_assert_eq!(d.subscriber_of(a, port), Some(me));
                }
                taken.push((a, ports, me));
            }
        }
        prop_assert_eq!(u32::try_from(taken.len()).unwrap(), d.subscribers());
        taken.sort_by_key(|(a, ports, _)| (*a, *ports.start()));
        for w in taken.windows(2) {
            prop_assert!(w[0].0 != w[1].0 || w[0].1.end() < w[1].1.start(), "{:?} overlap", w);
        }
        // What nobody has is nobody's.
        for p in &o.pool {
            for port in (0..=u16::MAX).step_by(997) {
                let of = taken.iter().find(|(a, ports, _)| *a == p.last() && ports.contains(&port));
                prop_assert_eq!(d.subscriber_of(p.last(), port), of.map(|t| t.2));
            }
        }
    }
}
