use super::*;
use crate::config::{Pref64, PrefixInfo, RouteInfo};
use crate::options::tests::{Seen, read, resolvers};
use crate::stage::tests::lab;
use causeway_core::{Duration, HeapFrame, Prefix6};
use causeway_testkit::{check_packet, lab_interfaces};
use proptest::prelude::*;

/// An advertisement as a host reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) source: Ipv6Addr,
    pub(crate) dst: Ipv6Addr,
    pub(crate) hop_limit: u8,
    /// M, O and the preference bits.
    pub(crate) flags: u8,
    pub(crate) router_lifetime: u16,
    pub(crate) reachable: u32,
    pub(crate) retransmit: u32,
    pub(crate) options: Vec<Seen>,
}

/// Reads a packet as a host does, after the checks of RFC 4861 6.1.2.
pub(crate) fn hear(b: &[u8]) -> Heard {
    check_packet(b).unwrap();
    assert_eq!((b[6], b[7], b[40], b[41]), (58, 255, 134, 0));
    let ip = Ipv6Repr::parse(b).unwrap();
    assert!(ip.src.is_unicast_link_local());
    assert!(b.len() >= 56);
    assert_eq!(b[45] & 0x27, 0, "reserved bits");
    let word = |at: usize| u32::from_be_bytes(b[at..at + 4].try_into().unwrap());
    // smoltcp agrees about the header.
    let parsed = NdiscRepr::parse(&Icmpv6Packet::new_checked(&b[40..]).unwrap()).unwrap();
    let NdiscRepr::RouterAdvert { hop_limit, router_lifetime, reachable_time, retrans_time, .. } = parsed
    else {
        panic!("{parsed:?}")
    };
    let heard = Heard {
        source: ip.src,
        dst: ip.dst,
        hop_limit: b[44],
        flags: b[45],
        router_lifetime: u16::from_be_bytes([b[46], b[47]]),
        reachable: word(48),
        retransmit: word(52),
        options: read(&b[56..]),
    };
    assert_eq!((hop_limit, router_lifetime.secs()), (heard.hop_limit, u64::from(heard.router_lifetime)));
    assert_eq!(reachable_time.total_millis(), u64::from(heard.reachable));
    assert_eq!(retrans_time.total_millis(), u64::from(heard.retransmit));
    heard
}

fn written(message: &Message, dst: Ipv6Addr, now: Instant) -> Vec<u8> {
    let mut frame = HeapFrame::new(&[0xa5; 77]);
    message.write(&mut frame, dst, now).unwrap();
    frame.bytes().to_vec()
}

fn p(text: &str) -> Prefix6 {
    text.parse().unwrap()
}

#[test]
fn rfc4861_6_2_3_the_fields_are_those_of_the_settings() {
    let interface = &lab_interfaces()[0];
    let mut a = lab().advertised;
    a.reachable_time = Duration::from_secs(30);
    a.retransmit_time = Duration::from_millis(1500);
    a.preference = crate::Preference::High;
    a.routes.push(RouteInfo {
        prefix: p("2001:db8:7::/48"),
        preference: crate::Preference::Low,
        lifetime: Duration::from_secs(900),
    });
    a.captive_portal = Some("https://p.example/".to_owned());
    let (messages, left_out) = build(&a, &Speaker::of(interface), Occasion::Regular(&[]));
    assert_eq!((messages.len(), left_out), (1, 0));
    let want = Heard {
        source: "fe80::1".parse().unwrap(),
        dst: ALL_NODES,
        hop_limit: 64,
        flags: 0b1100_1000,
        router_lifetime: 1800,
        reachable: 30_000,
        retransmit: 1500,
        options: vec![
            Seen::LinkLayer(interface.mac),
            Seen::Mtu(1500),
            Seen::Prefix {
                prefix: p("2001:db8:64::/64"),
                on_link: true,
                autonomous: false,
                valid: 2_592_000,
                preferred: 604_800,
            },
            Seen::Pref64(p("2001:db8:64:ff9b::/96"), 1800),
            Seen::DnsServers(vec!["2001:db8:64::53".parse().unwrap()], 1800),
            Seen::Search(vec!["example".to_owned()], 1800),
            Seen::Route { prefix: p("2001:db8:7::/48"), preference: crate::Preference::Low, lifetime: 900 },
            Seen::CaptivePortal("https://p.example/".to_owned()),
        ],
    };
    assert_eq!(hear(&written(&messages[0], ALL_NODES, Instant::ZERO)), want);
    // To one host the same, with another destination.
    let host: Ipv6Addr = "fe80::9".parse().unwrap();
    assert_eq!(hear(&written(&messages[0], host, Instant::ZERO)), Heard { dst: host, ..want });
}

#[test]
fn rfc4861_6_2_3_options_may_be_left_out() {
    let a = Advertised { mtu: None, link_layer: false, prefixes: vec![], pref64: vec![], ..lab().advertised };
    let a = Advertised { dns_servers: vec![], search: vec![], managed: false, other: false, ..a };
    let (messages, _) = build(&a, &Speaker::of(&lab_interfaces()[0]), Occasion::Regular(&[]));
    assert_eq!(messages.len(), 1);
    let heard = hear(&written(&messages[0], ALL_NODES, Instant::ZERO));
    assert_eq!((heard.flags, heard.options), (0, vec![]));
}

#[test]
fn rfc4191_2_2_a_router_that_is_none_has_no_preference() {
    let mut a = lab().advertised;
    (a.preference, a.router_lifetime) = (crate::Preference::High, Duration::ZERO);
    let (messages, _) = build(&a, &Speaker::of(&lab_interfaces()[0]), Occasion::Regular(&[]));
    let heard = hear(&written(&messages[0], ALL_NODES, Instant::ZERO));
    assert_eq!((heard.flags & 0x18, heard.router_lifetime), (0, 0));
}

#[test]
fn rfc4191_4_only_configured_routes_are_advertised() {
    let (messages, _) = build(&lab().advertised, &Speaker::of(&lab_interfaces()[0]), Occasion::Regular(&[]));
    let heard = hear(&written(&messages[0], ALL_NODES, Instant::ZERO));
    assert_eq!(heard.flags & 0x18, 0);
    assert!(heard.options.iter().all(|o| !matches!(o, Seen::Route { .. })));
}

#[test]
fn rfc4191_4_the_last_one_ends_the_routes_too() {
    let mut a = lab().advertised;
    a.routes.push(RouteInfo {
        prefix: p("2001:db8:7::/48"),
        preference: crate::Preference::High,
        lifetime: Duration::from_secs(900),
    });
    let interface = &lab_interfaces()[0];
    let (messages, _) = build(&a, &Speaker::of(interface), Occasion::Final);
    let heard = hear(&written(&messages[0], ALL_NODES, Instant::ZERO));
    let route =
        Seen::Route { prefix: p("2001:db8:7::/48"), preference: crate::Preference::High, lifetime: 0 };
    assert_eq!(heard.router_lifetime, 0);
    assert_eq!(heard.options, [Seen::LinkLayer(interface.mac), route]);
}

#[test]
fn lifetimes_beyond_their_field_are_the_longest() {
    let mut a = lab().advertised;
    a.prefixes[0].valid = Duration::from_secs(u64::MAX);
    a.prefixes[0].preferred = Duration::from_secs(u64::from(u32::MAX));
    a.router_lifetime = Duration::from_secs(1 << 40);
    a.reachable_time = Duration::from_secs(1 << 40);
    let (messages, _) = build(&a, &Speaker::of(&lab_interfaces()[0]), Occasion::Regular(&[]));
    let heard = hear(&written(&messages[0], ALL_NODES, Instant::ZERO));
    assert_eq!((heard.router_lifetime, heard.reachable), (u16::MAX, u32::MAX));
    assert!(matches!(heard.options[2], Seen::Prefix { valid: u32::MAX, preferred: u32::MAX, .. }));
}

fn settings() -> impl Strategy<Value = Advertised> {
    let servers = proptest::collection::vec(any::<u128>().prop_map(Ipv6Addr::from), 0..200);
    let search = proptest::collection::vec("[a-z]{1,60}(\\.[a-z]{1,60}){0,2}", 0..20);
    let prefixes = proptest::collection::vec((any::<u128>(), 1u8..=128, any::<bool>(), any::<bool>()), 0..20);
    let routes = proptest::collection::vec((any::<u128>(), 0u8..=128, any::<u32>()), 0..18);
    let dns = proptest::collection::vec(resolvers(), 0..4);
    (servers, search, prefixes, routes, dns, any::<bool>()).prop_map(
        |(dns_servers, search, prefixes, routes, encrypted_dns, link_layer)| {
            let seconds = |n: u32| Duration::from_secs(u64::from(n));
            let prefix = |a: u128, len| Prefix6::containing(a.into(), len).unwrap();
            let prefixes = prefixes.into_iter().map(|(a, len, on_link, autonomous)| PrefixInfo {
                prefix: prefix(a, len),
                on_link,
                autonomous,
                valid: seconds(7),
                preferred: seconds(5),
            });
            let routes = routes.into_iter().map(|(a, len, lifetime)| RouteInfo {
                prefix: prefix(a, len),
                preference: crate::Preference::Medium,
                lifetime: seconds(lifetime),
            });
            let pref64 = vec![Pref64 { prefix: p("64:ff9b::/96"), lifetime: seconds(1800) }];
            let (prefixes, routes) = (prefixes.collect(), routes.collect());
            Advertised {
                dns_servers,
                search,
                prefixes,
                routes,
                encrypted_dns,
                link_layer,
                pref64,
                ..lab().advertised
            }
        },
    )
}

proptest! {
    /// However much there is to say: every advertisement fits the link, all have the same header, and together they
    /// say everything once and in order.
    #[test]
    fn rfc4861_6_2_3_what_does_not_fit_goes_on_in_a_further_one(a in settings(), mtu in 1280u16..9600) {
        let interface = Interface { mtu, ..lab_interfaces()[0].clone() };
        let (messages, left_out) = build(&a, &Speaker::of(&interface), Occasion::Regular(&[]));
        prop_assert_eq!(left_out, 0);
        let mut heard: Vec<Heard> = Vec::new();
        for m in &messages {
            let octets = written(m, ALL_NODES, Instant::ZERO);
            prop_assert!(octets.len() <= usize::from(mtu).min(1500));
            heard.push(hear(&octets));
        }
        let (mut servers, mut names, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for h in &mut heard {
            let mut options = std::mem::take(&mut h.options);
            if a.link_layer {
                prop_assert_eq!(options.remove(0), Seen::LinkLayer(interface.mac));
            }
            for o in options {
                match o {
                    Seen::DnsServers(list, 1800) => servers.extend(list),
                    Seen::Search(list, 1800) => names.extend(list),
                    other => rest.push(other),
                }
            }
        }
        prop_assert!(heard.windows(2).all(|w| w[0] == w[1]));
        prop_assert_eq!(servers, a.dns_servers);
        prop_assert_eq!(names, a.search);
        let mut want = vec![Seen::Mtu(1500)];
        want.extend(a.prefixes.iter().map(|p| Seen::Prefix {
            prefix: p.prefix, on_link: p.on_link, autonomous: p.autonomous, valid: 7, preferred: 5,
        }));
        want.push(Seen::Pref64(p("64:ff9b::/96"), 1800));
        want.extend(a.routes.iter().map(|r| Seen::Route {
            prefix: r.prefix, preference: r.preference, lifetime: seconds(r.lifetime),
        }));
        want.extend(a.encrypted_dns.iter().map(|e| Seen::Encrypted(e.clone(), 1800)));
        prop_assert_eq!(rest, want);
    }
}
