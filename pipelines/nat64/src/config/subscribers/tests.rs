use super::*;
use crate::config::{Config, ConfigError};

fn tenant(name: &str, prefixes: &[&str], pool: &[&str]) -> Tenant {
    Tenant {
        name: name.into(),
        prefixes: prefixes.iter().map(|p| p.parse().unwrap()).collect(),
        limits: Limits::default(),
        pool: pool.iter().map(|p| p.parse().unwrap()).collect(),
    }
}

fn good() -> Options {
    Options {
        prefixes: vec!["2001:db8:64:ff9b::/96".parse().unwrap()],
        pool: vec!["203.0.113.0/31".parse().unwrap()],
        first_port: 1000,
        last_port: 1999,
        ..Options::default()
    }
}

fn with(f: &dyn Fn(&mut Options)) -> Result<Config, ConfigError> {
    let mut o = good();
    f(&mut o);
    Config::new(o)
}

fn error(f: &dyn Fn(&mut Options)) -> SubscriberError {
    match with(f).unwrap_err() {
        ConfigError::Subscribers(e) => e,
        other => panic!("{other}"),
    }
}

#[test]
fn each_bad_value_of_subscribers_has_an_error_of_its_own() {
    let p6 = |p: &str| p.parse::<Prefix6>().unwrap();
    for n in [0, 129] {
        assert_eq!(error(&|o| o.subscribers.prefix_length = n), SubscriberError::PrefixLength(n));
    }
    for n in [0, MAX_SUBSCRIBERS + 1] {
        assert_eq!(error(&|o| o.subscribers.capacity = n), SubscriberError::Capacity(n));
    }
    let limits = |f: &dyn Fn(&mut Limits)| error(&|o| f(&mut o.subscribers.limits));
    assert_eq!(limits(&|l| l.ports_max = Some(0)), SubscriberError::NoPorts("all".into()));
    assert_eq!(
        limits(&|l| (l.ports_min, l.ports_max) = (2, Some(1))),
        SubscriberError::MinOverMax("all".into(), 2, 1)
    );
    assert_eq!(limits(&|l| l.sessions_max = Some(0)), SubscriberError::NoSessions("all".into()));
    assert_eq!(limits(&|l| l.new_sessions_per_second = Some(0)), SubscriberError::Rate("all".into(), 0));
    assert_eq!(limits(&|l| l.ports_min = 501), SubscriberError::PortsMin("all".into(), 501, 500));
    let tenants = |t: Vec<Tenant>| error(&|o| o.subscribers.tenants.clone_from(&t));
    assert_eq!(tenants(vec![tenant("", &["::/8"], &[])]), SubscriberError::TenantUnnamed);
    assert_eq!(tenants(vec![tenant("a", &[], &[])]), SubscriberError::TenantNoPrefix("a".into()));
    assert_eq!(
        tenants(vec![tenant("a", &["2001:db8:1::/48"], &[]), tenant("a", &["2001:db8:2::/48"], &[])]),
        SubscriberError::TenantTwice("a".into())
    );
    assert_eq!(
        tenants(vec![
            tenant("a", &["2001:db8:1:5::/64"], &[]),
            tenant("b", &["2001:db8::/48", "2001:db8:1::/48"], &[])
        ]),
        SubscriberError::TenantOverlap(
            Box::new([p6("2001:db8:1::/48"), p6("2001:db8:1:5::/64")]),
            "b".into(),
            "a".into()
        )
    );
    let many = |n: u32, pool: bool| -> Vec<Tenant> {
        let ip = |n: u32| format!("10.0.{}.{}/32", n >> 8, n & 255);
        let one = |n: u32| {
            let own = ip(n);
            tenant(
                &format!("t{n}"),
                &[&format!("2001:db8:{n:x}::/48")],
                if pool { std::slice::from_ref(&own) } else { &[] }
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .as_slice(),
            )
        };
        (0..n).map(one).collect()
    };
    assert_eq!(tenants(many(1025, false)), SubscriberError::Tenants(1025));
    assert_eq!(tenants(many(256, true)), SubscriberError::TenantPools(256));
    with(&|o| o.subscribers.tenants = many(255, true)).unwrap();
}

#[test]
fn tenants_pools_overlap_nothing_and_count_as_pool() {
    let overlap = |pool: &str| {
        with(&|o| o.subscribers.tenants = vec![tenant("a", &["2001:db8:1::/48"], &[pool])]).unwrap_err()
    };
    let p4 = |p: &str| p.parse::<Prefix4>().unwrap();
    assert_eq!(
        overlap("203.0.113.1/32"),
        ConfigError::PoolOverlap(p4("203.0.113.0/31"), p4("203.0.113.1/32"))
    );
    assert_eq!(overlap("224.0.0.0/24"), ConfigError::PoolNotUnicast(p4("224.0.0.0/24")));
    assert_eq!(overlap("10.0.0.0/20"), ConfigError::LargePool(4098));
    let c = with(&|o| o.subscribers.tenants = vec![tenant("a", &["2001:db8:1::/48"], &["192.0.2.1/32"])])
        .unwrap();
    assert!(c.in_pool(Ipv4Addr::new(192, 0, 2, 1)) && c.in_pool(Ipv4Addr::new(203, 0, 113, 1)));
    assert_eq!(c.addresses().collect::<Vec<_>>(), [p4("203.0.113.0/31"), p4("192.0.2.1/32")]);
}

#[test]
fn promises_that_the_pool_cannot_keep_are_refused() {
    let promised = |min: u16, pool: &'static [&str]| {
        move |o: &mut Options| {
            o.subscribers.tenants = (1..=3)
                .map(|n| {
                    let mut t = tenant(
                        &format!("t{n}"),
                        &[&format!("2001:db8:{n}::/48")],
                        if n == 1 { pool } else { &[] },
                    );
                    t.limits.ports_min = min;
                    t
                })
                .collect();
        }
    };
    with(&promised(333, &[])).unwrap();
    assert_eq!(error(&promised(334, &[])), SubscriberError::Minima(1002, 1000));
    with(&promised(500, &["192.0.2.1/32"])).unwrap();
    assert_eq!(error(&promised(501, &["192.0.2.1/32"])), SubscriberError::PortsMin("`t2`".into(), 501, 500));
    let own = |min: u16| {
        move |o: &mut Options| {
            let mut t = tenant("t", &["2001:db8:1::/48"], &["192.0.2.1/32"]);
            t.limits.ports_min = min;
            o.subscribers.tenants = vec![t];
        }
    };
    with(&own(1000)).unwrap();
    assert_eq!(error(&own(1001)), SubscriberError::PortsMin("`t`".into(), 1001, 1000));
}

#[test]
fn blocks_have_to_fit() {
    let blocks = |ports: u16| move |o: &mut Options| o.allocation = Allocation::Blocks { ports };
    for bad in [0, 4, 7, 12, 32768] {
        assert_eq!(error(&blocks(bad)), SubscriberError::BlockPorts(bad));
    }
    // 1024 to 1999 holds no whole block of 1024.
    assert_eq!(error(&blocks(1024)), SubscriberError::NoBlock(1024, 1024, 1999));
    with(&blocks(512)).unwrap();
    assert_eq!(blocks_within(&good(), 512), Some((2, 2)));
    assert_eq!(blocks_within(&good(), 8), Some((128, 249)));
    let max = |o: &mut Options| {
        o.allocation = Allocation::Blocks { ports: 8 };
        o.subscribers.limits.ports_max = Some(8 * 32 + 1);
    };
    assert_eq!(error(&max), SubscriberError::ManyBlocks("all".into(), 257, 33, 8));
    let min = |o: &mut Options| {
        o.allocation = Allocation::Blocks { ports: 256 };
        o.subscribers.limits.ports_min = 300;
    };
    assert_eq!(error(&min), SubscriberError::PortsMin("all".into(), 300, 256));
    let whole = Options { first_port: 1024, last_port: 65535, ..good() };
    assert_eq!(blocks_within(&whole, 16384), Some((1, 3)));
    assert_eq!(blocks_within(&whole, 8), Some((128, 8191)));
}

#[test]
fn deterministic_hosts_have_no_second_source_of_ports() {
    let hosts = |o: &mut Options| {
        o.allocation = Allocation::Deterministic { hosts: vec!["2001:db8::/60".parse().unwrap()] };
    };
    with(&hosts).unwrap();
    let min = |o: &mut Options| {
        hosts(o);
        o.subscribers.limits.ports_min = 1;
    };
    assert_eq!(error(&min), SubscriberError::MinDeterministic("all".into(), 1));
    let both = |o: &mut Options| {
        hosts(o);
        o.subscribers.tenants = vec![tenant("a", &["2001:db8::/64"], &["192.0.2.1/32"])];
    };
    assert_eq!(
        error(&both),
        SubscriberError::DeterministicTenant(
            Box::new(["2001:db8::/64", "2001:db8::/60"].map(|p| p.parse().unwrap())),
            "a".into()
        )
    );
}

#[test]
fn rfc6146_3_1_static_mappings_contradict_nothing() {
    let m = |protocol, outside: &str, port, inside: &str, to| StaticMapping {
        protocol,
        outside: (outside.parse().unwrap(), port),
        inside: (inside.parse().unwrap(), to),
    };
    let all = |list: Vec<StaticMapping>| with(&|o| o.static_mappings.clone_from(&list));
    let error = |list| match all(list).unwrap_err() {
        ConfigError::Subscribers(e) => e,
        other => panic!("{other}"),
    };
    let good = m(6, "203.0.113.1", 2222, "2001:db8:64::101", 22);
    all(vec![
        good,
        m(17, "203.0.113.1", 2222, "2001:db8:64::101", 22),
        m(6, "198.51.100.1", 2222, "2001:db8:64::102", 22),
    ])
    .unwrap();
    assert_eq!(
        error(vec![m(1, "203.0.113.1", 2222, "2001:db8:64::101", 22)]),
        SubscriberError::StaticProtocol(1)
    );
    assert_eq!(error(vec![m(6, "203.0.113.1", 0, "2001:db8:64::101", 22)]), SubscriberError::StaticPort);
    assert_eq!(error(vec![m(6, "203.0.113.1", 1, "2001:db8:64::101", 0)]), SubscriberError::StaticPort);
    assert!(matches!(
        error(vec![m(6, "224.0.0.1", 1, "2001:db8:64::101", 1)]),
        SubscriberError::StaticAddress(_)
    ));
    assert!(matches!(
        error(vec![good, m(6, "203.0.113.1", 2222, "2001:db8:64::102", 23)]),
        SubscriberError::StaticOutside(6, _, 2222)
    ));
    assert!(matches!(
        error(vec![good, m(6, "203.0.113.1", 2223, "2001:db8:64::101", 22)]),
        SubscriberError::StaticInside(6, _, 22)
    ));
}
