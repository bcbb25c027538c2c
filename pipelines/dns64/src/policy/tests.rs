use super::*;
use crate::config::{CacheSettings, Limits, LocalName, OnFailure, Tcp, Upstream};
use causeway_core::net::Prefix4;
use proptest::prelude::*;
use std::time::Duration;

/// A name in wire form.
pub(crate) fn wire(text: &str) -> WireName {
    let mut name = WireName::new();
    for label in text.split('.').filter(|l| !l.is_empty()) {
        name.push(u8::try_from(label.len()).unwrap());
        name.extend(label.bytes());
    }
    name.push(0);
    name
}

pub(crate) fn names(list: &[&str]) -> NameSet {
    NameSet::new(list.iter().map(|n| wire(n)).collect())
}

pub(crate) fn view(name: &str, prefix: Option<&str>) -> View {
    View {
        name: name.into(),
        prefix: prefix.map(|p| p.parse().unwrap()),
        synthesis: None,
        always: NameSet::default(),
        never: NameSet::default(),
        blocked: NameSet::default(),
        local: Vec::new(),
    }
}

pub(crate) fn config(clients: &[(&str, u16)], views: Vec<View>) -> Config {
    Config {
        listen: Vec::new(),
        clients: clients.iter().map(|(p, v)| (p.parse().unwrap(), *v)).collect(),
        views,
        synthesis: Synthesis {
            exclude_aaaa: vec!["::ffff:0:0/96".parse().unwrap()],
            exclude_a: Vec::new(),
            only_a: Vec::new(),
            on_failure: OnFailure::Fail,
        },
        upstreams: vec!["198.51.100.53:53".parse().unwrap()],
        upstream: Upstream {
            patience: Duration::from_secs(5),
            tries: 4,
            in_flight: 100,
            ports: (1024, 65535),
            case: true,
        },
        cache: CacheSettings {
            octets: 1 << 20,
            max_ttl: 86_400,
            max_negative_ttl: 3600,
            failure_ttl: 5,
            prefetch: true,
            stale: None,
        },
        limits: Limits { client_bits: 64, rate: (1000, 1000), in_flight: 100 },
        tcp: Tcp { connections: 100, per_client: 10, idle: Duration::from_secs(10), pipelined: 10 },
        udp_octets: 1232,
        sample_every: 0,
    }
}

pub(crate) const PREFIX: &str = "2001:db8:64:ff9b::/96";

fn policy(views: Vec<View>) -> Policy {
    Policy::new(Arc::new(config(&[], views)))
}

/// A question for `name` of class IN with RD and without CD.
fn asked(name: &[u8], qtype: u16) -> Asked<'_> {
    Asked { name, qtype, qclass: CLASS_IN, recursion_desired: true, checking_disabled: false }
}

fn decide(policy: &Policy, name: &str, qtype: u16) -> Decision {
    policy.decide(0, &asked(&wire(name), qtype))
}

#[test]
fn clients_have_the_view_of_the_longest_prefix_and_others_none() {
    let views = vec![view("a", None), view("b", None), view("c", None)];
    let clients = [
        ("2001:db8::/32", 0),
        ("2001:db8:64::/48", 1),
        ("2001:db8:64::101/128", 2),
        ("2001:db8:65::/48", 2),
        ("2001:db8:66::/48", 9),
    ];
    let p = Policy::new(Arc::new(config(&clients, views)));
    for (client, expected) in [
        ("2001:db8::1", Some(0)),
        ("2001:db8:64::1", Some(1)),
        ("2001:db8:64::101", Some(2)),
        ("2001:db8:64::102", Some(1)),
        ("2001:db8:65:1::", Some(2)),
        // A view that there is not.
        ("2001:db8:66::1", Some(0)),
        ("2001:db9::1", None),
        ("fe80::1", None),
    ] {
        assert_eq!(p.view_of(client.parse().unwrap()), expected, "{client}");
    }
    let none = Policy::new(Arc::new(config(&[], vec![view("a", None)])));
    assert_eq!(none.view_of("2001:db8::1".parse().unwrap()), None);
    let all = Policy::new(Arc::new(config(&[("::/0", 0)], vec![view("a", None)])));
    assert_eq!(all.view_of("2001:db8::1".parse().unwrap()), Some(0));
}

proptest! {
    #[test]
    fn the_view_of_a_client_is_that_of_a_search_through_all(
        list in proptest::collection::vec((any::<u8>(), 0u8..=16, 0u16..3), 0..40),
        client in any::<u8>(),
    ) {
        let prefixes: Vec<(Prefix6, u16)> = list
            .iter()
            .map(|(a, length, v)| {
                (Prefix6::containing(Ipv6Addr::from_bits(u128::from(*a) << 112), *length).unwrap(), *v)
            })
            .collect();
        let mut c = config(&[], vec![view("a", None), view("b", None), view("c", None)]);
        c.clients.clone_from(&prefixes);
        let client = Ipv6Addr::from_bits(u128::from(client) << 112 | 7);
        let slow = prefixes
            .iter()
            .filter(|(p, _)| p.contains(client))
            .fold(None, |best: Option<(Prefix6, u16)>, (p, v)| match best {
                Some((b, _)) if b.len() >= p.len() => best,
                _ => Some((*p, *v)),
            });
        prop_assert_eq!(Policy::new(Arc::new(c)).view_of(client), slow.map(|(_, v)| v));
    }

    #[test]
    fn no_name_and_no_type_is_too_odd_for_a_decision(
        name in proptest::collection::vec(any::<u8>(), 0..255),
        qtype in any::<u16>(),
        qclass in prop_oneof![Just(1u16), any::<u16>()],
    ) {
        let mut v = view("a", Some(PREFIX));
        v.never = names(&["never.example", ""]);
        v.blocked = names(&["blocked.example"]);
        let p = policy(vec![v]);
        let a = Asked { qclass, ..asked(&name, qtype) };
        let decision = p.decide(0, &a);
        if qclass != CLASS_IN {
            prop_assert_eq!(decision, Decision::Refuse(REFUSED));
        }
    }

    #[test]
    fn a_name_set_finds_what_a_search_by_text_finds(
        set in proptest::collection::vec("[ab]{1,2}(\\.[ab]{1,2}){0,2}", 0..6),
        name in "[ab]{1,2}(\\.[ab]{1,2}){0,3}",
    ) {
        let refs: Vec<&str> = set.iter().map(String::as_str).collect();
        let slow = refs
            .iter()
            .filter(|s| name == **s || name.ends_with(&format!(".{s}")))
            .map(|s| s.len())
            .max();
        let found = names(&refs).find(&wire(&name));
        // A name of n characters has n + 2 octets.
        prop_assert_eq!(found.map(|at| wire(&name).len() - at - 2), slow);
    }
}

#[test]
fn a_name_is_under_another_by_labels_and_not_by_octets() {
    let set = names(&["example.com", "b.example.com"]);
    assert_eq!(set.find(&wire("example.com")), Some(0));
    assert_eq!(set.find(&wire("a.example.com")), Some(2));
    assert_eq!(set.find(&wire("a.b.example.com")), Some(2), "the longest");
    assert_eq!(set.find(&wire("badexample.com")), None);
    assert_eq!(set.find(&wire("com")), None);
    // One label that holds the octets of two.
    let odd = b"\x0dx\x07example\x03com\x00";
    assert!(odd.ends_with(&wire("example.com")));
    assert_eq!(set.find(odd), None);
    assert!(names(&[""]).contains(&wire("anything.example")));
    assert!(!NameSet::default().contains(&wire("anything.example")));
}

#[test]
fn rfc6147_5_1_other_classes_get_no_dns64_and_no_answer() {
    let p = policy(vec![view("a", Some(PREFIX))]);
    for class in [0, 2, 3, 4, 254, 255, u16::MAX] {
        for qtype in [TYPE_AAAA, 16, TYPE_PTR] {
            let name = wire("version.bind");
            let a = Asked { qclass: class, ..asked(&name, qtype) };
            assert_eq!(p.decide(0, &a), Decision::Refuse(REFUSED), "{class} {qtype}");
        }
    }
}

#[test]
fn types_that_are_no_data_are_refused_each_in_its_way() {
    let p = policy(vec![view("a", Some(PREFIX))]);
    for (qtype, rcode) in [
        (0, FORMERR),
        (41, FORMERR),
        (249, FORMERR),
        (250, FORMERR),
        (251, REFUSED),
        (252, REFUSED),
        (253, NOTIMP),
        (254, NOTIMP),
    ] {
        assert_eq!(decide(&p, "a.example", qtype), Decision::Refuse(rcode), "{qtype}");
    }
    for qtype in [1, 2, 5, 15, 28, 43, 46, 64, 65, 256, 65_280] {
        assert!(matches!(decide(&p, "a.example", qtype), Decision::Lookup(_)), "{qtype}");
    }
}

#[test]
fn rfc6147_5_3_3_only_questions_for_aaaa_records_are_synthesised() {
    let p = policy(vec![view("a", Some(PREFIX))]);
    for qtype in (1..=65).chain(256..=300).filter(|t| *t != 41) {
        let expected = if qtype == TYPE_AAAA { Variant::Synthesised } else { Variant::Native };
        assert_eq!(decide(&p, "a.example", qtype), Decision::Lookup(expected), "{qtype}");
    }
}

#[test]
fn rfc6147_5_5_nothing_is_synthesised_for_who_sets_cd() {
    let mut v = view("a", Some(PREFIX));
    v.always = names(&["always.example"]);
    let p = policy(vec![v]);
    for name in ["a.example", "always.example"] {
        let name = wire(name);
        let a = Asked { checking_disabled: true, ..asked(&name, TYPE_AAAA) };
        assert_eq!(p.decide(0, &a), Decision::Lookup(Variant::Native));
        assert_ne!(p.decide(0, &asked(&name, TYPE_AAAA)), Decision::Lookup(Variant::Native));
    }
}

/// RFC 8880 7.1: nor does it treat ipv4only.arpa in a special way.
#[test]
fn a_view_without_a_prefix_is_a_plain_resolver() {
    let p = policy(vec![view("a", None), view("b", Some(PREFIX))]);
    let reverse = "0.1.0.0.4.6.3.3.6.c.0.0.0.0.0.0.b.9.f.f.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    for (name, qtype) in
        [("a.example", TYPE_AAAA), ("ipv4only.arpa", TYPE_AAAA), ("ipv4only.arpa", 1), (reverse, TYPE_PTR)]
    {
        assert_eq!(decide(&p, name, qtype), Decision::Lookup(Variant::Native), "{name}");
        let name = wire(name);
        assert_ne!(p.decide(1, &asked(&name, TYPE_AAAA)), Decision::Lookup(Variant::Native));
    }
    assert_eq!(p.decide(2, &asked(&wire("a.example"), 1)), Decision::Refuse(REFUSED), "no such view");
}

#[test]
fn the_more_exact_of_never_and_always_counts() {
    let mut v = view("a", Some(PREFIX));
    v.never = names(&["never.example", "deep.always.example", "both.example"]);
    v.always = names(&["always.example", "deep.never.example", "both.example"]);
    let p = policy(vec![v]);
    for (name, expected) in [
        ("example", Variant::Synthesised),
        ("never.example", Variant::Native),
        ("x.never.example", Variant::Native),
        ("deep.never.example", Variant::Always),
        ("x.deep.never.example", Variant::Always),
        ("always.example", Variant::Always),
        ("x.deep.always.example", Variant::Native),
        ("both.example", Variant::Native),
        ("notnever.example", Variant::Synthesised),
    ] {
        assert_eq!(decide(&p, name, TYPE_AAAA), Decision::Lookup(expected), "{name}");
        assert_eq!(decide(&p, name, 1), Decision::Lookup(Variant::Native), "{name}");
    }
}

#[test]
fn blocked_and_local_names_are_answered_here() {
    let mut v = view("a", Some(PREFIX));
    v.blocked = names(&["blocked.example"]);
    let local = |name: &str| LocalName { name: wire(name), addresses: Vec::new(), ttl: 60 };
    v.local = vec![local("z.example"), local("own.blocked.example"), local("a.example")];
    let p = policy(vec![v, view("b", Some(PREFIX))]);
    for qtype in [1, TYPE_AAAA, 16, 43, TYPE_ANY] {
        assert_eq!(decide(&p, "blocked.example", qtype), Decision::Special(Special::Blocked(0)));
        assert_eq!(decide(&p, "ab.blocked.example", qtype), Decision::Special(Special::Blocked(3)));
        assert!(!matches!(decide(&p, "unblocked.example", qtype), Decision::Special(Special::Blocked(_))));
        let name = wire("blocked.example");
        assert!(!matches!(p.decide(1, &asked(&name, qtype)), Decision::Special(Special::Blocked(_))));
    }
    for qtype in [1, TYPE_AAAA, 16] {
        assert_eq!(decide(&p, "z.example", qtype), Decision::Special(Special::Local(0)));
        assert_eq!(decide(&p, "own.blocked.example", qtype), Decision::Special(Special::Local(1)));
        assert_eq!(decide(&p, "a.example", qtype), Decision::Special(Special::Local(2)));
        assert!(matches!(decide(&p, "x.a.example", qtype), Decision::Lookup(_)), "only the name itself");
    }
}

#[test]
fn rfc8482_4_2_a_question_for_all_types_is_answered_here() {
    let p = policy(vec![view("a", Some(PREFIX)), view("b", None)]);
    for name in ["a.example", "ipv4only.arpa", "localhost", ""] {
        assert_eq!(decide(&p, name, TYPE_ANY), Decision::Special(Special::Any));
    }
    assert_eq!(p.decide(1, &asked(&wire("a.example"), TYPE_ANY)), Decision::Special(Special::Any));
}

#[test]
fn rfc1034_4_3_1_without_rd_nothing_is_told_but_what_everybody_may_know() {
    let p = policy(vec![view("a", Some(PREFIX))]);
    for (name, expected) in [
        ("a.example", Decision::Refuse(REFUSED)),
        ("ipv4only.arpa", Decision::Special(Special::Ipv4Only)),
        ("localhost", Decision::Special(Special::Localhost)),
    ] {
        let name = wire(name);
        let a = Asked { recursion_desired: false, ..asked(&name, TYPE_AAAA) };
        assert_eq!(p.decide(0, &a), expected);
    }
}

#[test]
fn rfc8880_7_1_ipv4only_arpa_is_special_but_for_its_ds_record() {
    let p = policy(vec![view("a", Some(PREFIX))]);
    for qtype in [1, 2, 5, 6, 16, TYPE_AAAA, 46, 65] {
        assert_eq!(decide(&p, "ipv4only.arpa", qtype), Decision::Special(Special::Ipv4Only), "{qtype}");
        for name in ["a.ipv4only.arpa", "a.b.ipv4only.arpa"] {
            assert_eq!(decide(&p, name, qtype), Decision::Special(Special::UnderIpv4Only), "{qtype}");
        }
        let others = ["xipv4only.arpa", "arpa", "ipv4only.arpa.example", "ipv4only"];
        assert!(others.iter().all(|n| matches!(decide(&p, n, qtype), Decision::Lookup(_))));
    }
    assert_eq!(decide(&p, "ipv4only.arpa", TYPE_DS), Decision::Lookup(Variant::Native));
    assert_eq!(decide(&p, "a.ipv4only.arpa", TYPE_DS), Decision::Special(Special::UnderIpv4Only));
    let name = wire("ipv4only.arpa");
    let cd = Asked { checking_disabled: true, ..asked(&name, TYPE_AAAA) };
    assert_eq!(p.decide(0, &cd), Decision::Special(Special::Ipv4Only), "whatever DO and CD say");
}

#[test]
fn rfc8880_7_2_the_names_of_its_addresses_in_in_addr_arpa_are_as_any() {
    let p = policy(vec![view("a", Some(PREFIX))]);
    for name in ["170.0.0.192.in-addr.arpa", "171.0.0.192.in-addr.arpa"] {
        assert_eq!(decide(&p, name, TYPE_PTR), Decision::Lookup(Variant::Native));
    }
}

/// The name of an address in ip6.arpa.
pub(crate) fn ip6_arpa(a: Ipv6Addr) -> String {
    let digits = format!("{:032x}", a.to_bits());
    digits.chars().rev().map(|c| format!("{c}.")).collect::<String>() + "ip6.arpa"
}

/// RFC 6147 5.2: the algorithm is that of RFC 6052.
#[test]
fn rfc6147_5_3_1_the_names_of_addresses_under_any_prefix_are_special() {
    let v4 = Ipv4Addr::new(198, 51, 100, 10);
    // RFC 6052 2.4.
    for (prefix, address) in [
        ("2001:db8::/32", "2001:db8:c633:640a::"),
        ("2001:db8:100::/40", "2001:db8:1c6:3364:a::"),
        ("2001:db8:122::/48", "2001:db8:122:c633:64:a00::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c6:33:640a::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c6:3364:a00::"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::c633:640a"),
    ] {
        let name = ip6_arpa(address.parse().unwrap());
        // RFC 6147 5.3.1: any prefix of the site, not only that of the client.
        let p = policy(vec![view("a", Some("2001:db8:ffff::/96")), view("b", Some(prefix))]);
        assert_eq!(decide(&p, &name, TYPE_PTR), Decision::Special(Special::Reverse(v4)), "{prefix}");
        assert_eq!(decide(&p, &name, 16), Decision::Lookup(Variant::Native), "only PTR");
        assert_eq!(decide(&p, &format!("x.{name}"), TYPE_PTR), Decision::Lookup(Variant::Native));
        assert_eq!(decide(&p, name.split_once('.').unwrap().1, TYPE_PTR), Decision::Lookup(Variant::Native));
        let elsewhere = ip6_arpa("2001:dba::c633:640a".parse().unwrap());
        assert_eq!(decide(&p, &elsewhere, TYPE_PTR), Decision::Lookup(Variant::Native));
    }
    let p = policy(vec![view("a", Some(PREFIX))]);
    let well_known = ip6_arpa("64:ff9b::c633:640a".parse().unwrap());
    assert_eq!(decide(&p, &well_known, TYPE_PTR), Decision::Special(Special::Reverse(v4)));
    assert_eq!(decide(&p, &well_known.replace('b', "g"), TYPE_PTR), Decision::Lookup(Variant::Native));
}

#[test]
fn rfc3596_2_5_names_of_addresses_are_read_and_written() {
    assert_eq!(in_addr_arpa(Ipv4Addr::new(198, 51, 100, 1)), wire("1.100.51.198.in-addr.arpa"));
    let a = "2001:db8::567:89ab".parse().unwrap();
    assert_eq!(reverse(&wire(&ip6_arpa(a))), Some(a));
    assert_eq!(reverse(&wire("ip6.arpa")), None);
    assert_eq!(reverse(&wire(&ip6_arpa(a).replace("ip6", "ip4"))), None);
    // Two digits in one label, and one label less: as many octets.
    let odd = ip6_arpa(a).replacen("b.a.", "bba.", 1);
    assert_eq!(wire(&odd).len(), wire(&ip6_arpa(a)).len());
    assert_eq!(reverse(&wire(&odd)), None);
}

#[test]
fn rfc6761_6_3_localhost_is_not_asked_for_and_neither_are_invalid_and_onion() {
    let p = policy(vec![view("a", Some(PREFIX)), view("b", None)]);
    for view in 0..2 {
        for (name, special) in [
            ("localhost", Special::Localhost),
            ("a.localhost", Special::Localhost),
            ("invalid", Special::Nonexistent),
            ("a.b.invalid", Special::Nonexistent),
            ("a.onion", Special::Nonexistent),
        ] {
            for qtype in [1, TYPE_AAAA, 16] {
                assert_eq!(p.decide(view, &asked(&wire(name), qtype)), Decision::Special(special));
            }
        }
        for name in ["localhost.example", "xlocalhost", "ainvalid", "onion.example"] {
            assert!(matches!(p.decide(view, &asked(&wire(name), 1)), Decision::Lookup(_)), "{name}");
        }
    }
}

#[test]
fn only_what_can_be_a_host_and_is_allowed_is_synthesised() {
    let all = policy(vec![view("a", Some(PREFIX))]);
    let treatment = |p: &Policy, view, a: &str| p.address(view, a.parse().unwrap());
    for a in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        assert_eq!(treatment(&all, 0, a), Address::Refused, "{a}");
    }
    for a in ["192.0.2.1", "10.0.0.1", "9.9.9.9", "100.64.0.1"] {
        assert_eq!(treatment(&all, 0, a), Address::Used, "{a}");
    }
    let rules = |exclude: &[&str], only: &[&str]| {
        let parse = |l: &[&str]| l.iter().map(|p| p.parse().unwrap()).collect::<Vec<Prefix4>>();
        let synthesis = Synthesis {
            exclude_aaaa: Vec::new(),
            exclude_a: parse(exclude),
            only_a: parse(only),
            on_failure: OnFailure::Fail,
        };
        View { synthesis: Some(synthesis), ..view("own", Some(PREFIX)) }
    };
    let p = policy(vec![
        rules(&["10.0.0.0/8"], &[]),
        rules(&[], &["192.0.2.0/24"]),
        rules(&["192.0.2.1/32"], &["192.0.2.0/24"]),
        view("shared", Some(PREFIX)),
    ]);
    for (view, a, expected) in [
        (0, "10.1.1.1", Address::Refused),
        (0, "192.0.2.1", Address::Used),
        (1, "192.0.2.1", Address::Used),
        (1, "10.1.1.1", Address::Refused),
        (2, "192.0.2.1", Address::Refused),
        (2, "192.0.2.2", Address::Used),
        (3, "10.1.1.1", Address::Used),
    ] {
        assert_eq!(treatment(&p, view, a), expected, "{view} {a}");
    }
    for (view, own) in [(0, true), (3, false)] {
        assert_eq!(p.reads_cache(view, Variant::Synthesised), !own);
        assert!(p.reads_cache(view, Variant::Native), "what an answer is made of is all views'");
        assert_eq!(p.own_rules(view, Variant::Always), own.then_some(view));
        assert_eq!(p.own_rules(view, Variant::Native), None);
    }
}

#[test]
fn rfc6052_3_1_the_well_known_prefix_is_not_for_addresses_that_are_not_global() {
    let a = |p: &Policy, view, a: &str| p.address(view, a.parse().unwrap());
    let alone = policy(vec![view("a", Some("64:ff9b::/96")), view("b", None)]);
    for private in ["10.0.0.1", "192.0.2.1", "100.64.0.1", "192.168.1.1"] {
        assert_eq!(a(&alone, 0, private), Address::Refused);
    }
    assert_eq!(a(&alone, 0, "9.9.9.9"), Address::Used);
    assert_eq!(alone.own_rules(0, Variant::Synthesised), None, "all have the same");
    // What one view may have of an answer that another may not is no answer for all.
    let mixed = policy(vec![view("a", Some("64:ff9b::/96")), view("b", Some(PREFIX))]);
    assert_eq!(a(&mixed, 0, "10.0.0.1"), Address::RefusedHere);
    assert_eq!(a(&mixed, 1, "10.0.0.1"), Address::UsedHere);
    assert_eq!(a(&mixed, 0, "9.9.9.9"), Address::Used);
    assert_eq!(a(&mixed, 1, "0.0.0.0"), Address::Refused);
    assert_eq!(mixed.own_rules(0, Variant::Synthesised), Some(0));
    assert_eq!(mixed.own_rules(1, Variant::Synthesised), None);
    assert!(mixed.reads_cache(0, Variant::Synthesised), "what is cached is the same for all");
    // RFC 8215's prefix is another one.
    let local_use = policy(vec![view("a", Some("64:ff9b:1::/48"))]);
    assert_eq!(a(&local_use, 0, "10.0.0.1"), Address::Used);
}
