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

#[test]
fn what_no_option_can_say_is_refused() {
    let bad: [(Change, ConfigError); 19] = [
        (|c| c.advertised.mtu = Some(1279), ConfigError::Mtu),
        (|c| c.advertised.mtu = Some(1501), ConfigError::Mtu),
        (|c| c.advertised.prefixes[0].prefix = p("fe80::/64"), ConfigError::Prefix(p("fe80::/64"))),
        (|c| c.advertised.prefixes[0].prefix = p("::/0"), ConfigError::Prefix(p("::/0"))),
        (|c| c.advertised.prefixes.push(c.advertised.prefixes[0]), ConfigError::Twice(p("2001:db8:64::/64"))),
        (
            |c| c.advertised.routes = vec![route("2001:db8:7::/48"); 2],
            ConfigError::Twice(p("2001:db8:7::/48")),
        ),
        (
            |c| c.advertised.routes = (0..18).map(|n| route(&format!("2001:db8:{n}::/48"))).collect(),
            ConfigError::Routes,
        ),
        (|c| c.advertised.pref64[0].prefix = p("2001:db8::/33"), ConfigError::Pref64(p("2001:db8::/33"))),
        (|c| c.advertised.dns_servers = vec![Ipv6Addr::LOCALHOST], ConfigError::Server(Ipv6Addr::LOCALHOST)),
        (
            |c| c.advertised.dns_servers = vec![Ipv6Addr::UNSPECIFIED],
            ConfigError::Server(Ipv6Addr::UNSPECIFIED),
        ),
        (|c| c.advertised.search = vec!["a..b".to_owned()], ConfigError::Name("a..b".to_owned())),
        (|c| c.advertised.encrypted_dns = vec![EncryptedDns { priority: 0, ..resolver() }], encrypted()),
        (|c| c.advertised.encrypted_dns = vec![EncryptedDns { alpn: vec![], ..resolver() }], encrypted()),
        (
            |c| c.advertised.encrypted_dns = vec![EncryptedDns { alpn: vec!["h2".to_owned()], ..resolver() }],
            encrypted(),
        ),
        (
            |c| {
                let doh_path = Some("q{?dns}".to_owned());
                c.advertised.encrypted_dns = vec![EncryptedDns { doh_path, ..resolver() }];
            },
            encrypted(),
        ),
        (|c| c.advertised.captive_portal = Some(String::new()), ConfigError::CaptivePortal),
        (|c| c.advertised.captive_portal = Some("https://ü.example/".to_owned()), ConfigError::CaptivePortal),
        (|c| c.advertised.captive_portal = Some("u".repeat(1437)), ConfigError::TooMuch(1)),
        (|c| c.advertised.dns_servers = vec!["2001:db8::53".parse().unwrap(); 900], ConfigError::TooMuch(5)),
    ];
    for (n, (change, error)) in bad.into_iter().enumerate() {
        assert!(!error.to_string().is_empty());
        assert_eq!(check(change), Err(error), "{n}");
    }
    let good: [Change; 3] = [
        |c| c.advertised.captive_portal = Some("u".repeat(1400)),
        |c| c.advertised.encrypted_dns = vec![resolver()],
        |c| c.advertised.routes = (0..17).map(|n| route(&format!("2001:db8:{n}::/48"))).collect(),
    ];
    for (n, change) in good.into_iter().enumerate() {
        assert_eq!(check(change), Ok(()), "{n}");
    }
}

fn encrypted() -> ConfigError {
    ConfigError::Encrypted("dns.example".to_owned())
}

fn route(prefix: &str) -> RouteInfo {
    RouteInfo { prefix: p(prefix), preference: Preference::Medium, lifetime: SECOND * 1800 }
}
