use super::*;
use crate::stage::tests::lab;

/// A change to good settings.
type Change = fn(&mut Config);

const SECOND: Duration = Duration::from_secs(1);

fn check(change: Change) -> Result<(), ConfigError> {
    let mut config = lab();
    change(&mut config);
    config.check(1500)
}

fn p(text: &str) -> Prefix6 {
    text.parse().unwrap()
}

fn resolver() -> EncryptedDns {
    EncryptedDns {
        priority: 1,
        name: "dns.example".to_owned(),
        addresses: vec!["2001:db8:64::53".parse().unwrap()],
        alpn: vec!["dot".to_owned()],
        port: None,
        doh_path: None,
    }
}

#[test]
fn rfc4861_6_2_1_and_rfc8319_4_bounds_of_times() {
    let good: [Change; 8] = [
        |_| {},
        |c| (c.max_interval, c.min_interval) = (SECOND * 4, SECOND * 3),
        |c| (c.max_interval, c.min_interval) = (SECOND * 4, SECOND * 4),
        |c| (c.max_interval, c.min_interval) = (SECOND * 600, SECOND * 450),
        |c| (c.max_interval, c.advertised.router_lifetime) = (SECOND * 65_535, SECOND * 65_535),
        |c| c.advertised.router_lifetime = Duration::ZERO,
        |c| c.advertised.router_lifetime = SECOND * 600,
        |c| c.advertised.reachable_time = SECOND * 3600,
    ];
    for (n, change) in good.into_iter().enumerate() {
        assert_eq!(check(change), Ok(()), "{n}");
    }
    let bad: [(Change, ConfigError); 9] = [
        (|c| c.max_interval = SECOND * 3, ConfigError::MaxInterval),
        (|c| c.max_interval = SECOND * 65_536, ConfigError::MaxInterval),
        (|c| c.min_interval = SECOND * 2, ConfigError::MinInterval),
        (|c| c.min_interval = SECOND * 451, ConfigError::MinInterval),
        (|c| (c.max_interval, c.min_interval) = (SECOND * 9, SECOND * 9), ConfigError::MinInterval),
        (|c| c.advertised.router_lifetime = SECOND * 599, ConfigError::RouterLifetime),
        (|c| c.advertised.router_lifetime = SECOND * 65_536, ConfigError::RouterLifetime),
        (|c| c.advertised.reachable_time = SECOND * 3601, ConfigError::ReachableTime),
        (
            |c| c.advertised.prefixes[0].preferred = SECOND * 2_592_001,
            ConfigError::Preferred(p("2001:db8:64::/64")),
        ),
    ];
    for (n, (change, error)) in bad.into_iter().enumerate() {
        assert_eq!(check(change), Err(error), "{n}");
    }
}

/// Each change has this fault.
fn refused<const N: usize>(rows: [(Change, ConfigError); N]) {
    for (n, (change, error)) in rows.into_iter().enumerate() {
        assert!(!error.to_string().is_empty());
        assert_eq!(check(change), Err(error), "{n}");
    }
}

#[test]
fn rfc4861_6_2_1_prefixes_and_the_mtu_are_those_of_a_link() {
    refused([
        (|c| c.advertised.mtu = Some(1279), ConfigError::Mtu),
        (|c| c.advertised.mtu = Some(1501), ConfigError::Mtu),
        (|c| c.advertised.prefixes[0].prefix = p("fe80::/64"), ConfigError::Prefix(p("fe80::/64"))),
        (|c| c.advertised.prefixes[0].prefix = p("ff05::/64"), ConfigError::Prefix(p("ff05::/64"))),
        (|c| c.advertised.prefixes[0].prefix = p("::/0"), ConfigError::Prefix(p("::/0"))),
        (|c| c.advertised.prefixes.push(c.advertised.prefixes[0]), ConfigError::Twice(p("2001:db8:64::/64"))),
    ]);
}

#[test]
fn rfc4191_2_3_and_4_routes_are_few_and_none_is_there_twice() {
    let many =
        |n: u32| -> Vec<RouteInfo> { (0..n).map(|n| route(&format!("2001:db8:{n:x}::/48"))).collect() };
    let with = |routes| {
        let mut config = lab();
        config.advertised.routes = routes;
        config.check(1500)
    };
    assert_eq!(with(many(17)), Ok(()));
    assert_eq!(with(many(18)), Err(ConfigError::Routes));
    assert_eq!(with(vec![route("2001:db8:7::/48"); 2]), Err(ConfigError::Twice(p("2001:db8:7::/48"))));
}

#[test]
fn rfc8781_4_nat64_prefixes_have_a_length_with_a_code() {
    refused([(
        |c| c.advertised.pref64[0].prefix = p("2001:db8::/33"),
        ConfigError::Pref64(p("2001:db8::/33")),
    )]);
}

#[test]
fn rfc8106_5_3_1_addresses_of_servers_are_unicast() {
    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x53);
    refused([
        (|c| c.advertised.dns_servers = vec![GROUP], ConfigError::Server(GROUP)),
        (|c| c.advertised.dns_servers = vec![Ipv6Addr::LOCALHOST], ConfigError::Server(Ipv6Addr::LOCALHOST)),
        (
            |c| c.advertised.dns_servers = vec![Ipv6Addr::UNSPECIFIED],
            ConfigError::Server(Ipv6Addr::UNSPECIFIED),
        ),
        (|c| c.advertised.search = vec!["a..b".to_owned()], ConfigError::Name("a..b".to_owned())),
    ]);
}

#[test]
fn rfc9463_3_1_5_and_3_1_8_what_hosts_would_refuse_is_not_advertised() {
    let with = |dns| {
        let mut config = lab();
        config.advertised.encrypted_dns = vec![dns];
        config.check(1500)
    };
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<String>>();
    let path = |path: &str| Some(path.to_owned());
    assert_eq!(with(resolver()), Ok(()));
    assert_eq!(with(EncryptedDns { addresses: vec![], ..resolver() }), Ok(()), "a name alone");
    assert_eq!(with(EncryptedDns { alpn: ids(&["h2"]), doh_path: path("/q{?dns}"), ..resolver() }), Ok(()));
    for bad in [
        EncryptedDns { priority: 0, ..resolver() },
        EncryptedDns { alpn: vec![], ..resolver() },
        EncryptedDns { alpn: ids(&["dot", ""]), ..resolver() },
        EncryptedDns { alpn: ids(&[&"x".repeat(256)]), ..resolver() },
        EncryptedDns { alpn: ids(&["h2"]), ..resolver() },
        EncryptedDns { doh_path: path("q{?dns}"), ..resolver() },
    ] {
        assert_eq!(with(bad), Err(ConfigError::Encrypted("dns.example".to_owned())));
    }
    let addresses = vec![Ipv6Addr::LOCALHOST];
    let loopback = EncryptedDns { addresses, ..resolver() };
    assert_eq!(with(loopback), Err(ConfigError::Server(Ipv6Addr::LOCALHOST)));
    let nameless = EncryptedDns { name: ".".to_owned(), ..resolver() };
    assert_eq!(with(nameless), Err(ConfigError::Name(".".to_owned())));
}

#[test]
fn what_does_not_fit_is_refused() {
    refused([
        (|c| c.advertised.captive_portal = Some(String::new()), ConfigError::CaptivePortal),
        (|c| c.advertised.captive_portal = Some("https://ü.example/".to_owned()), ConfigError::CaptivePortal),
        (|c| c.advertised.captive_portal = Some("u".repeat(1431)), ConfigError::TooMuch(1)),
        (|c| c.advertised.dns_servers = vec!["2001:db8::53".parse().unwrap(); 900], ConfigError::TooMuch(5)),
    ]);
    assert_eq!(check(|c| c.advertised.captive_portal = Some("u".repeat(1430))), Ok(()));
}

fn route(prefix: &str) -> RouteInfo {
    RouteInfo { prefix: p(prefix), preference: Preference::Medium, lifetime: SECOND * 1800 }
}
