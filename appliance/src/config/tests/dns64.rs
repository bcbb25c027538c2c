//! The settings of the resolver.

use super::*;
use crate::plan::dns64::dns64_of;
use causeway_dns64::config as core;
use std::time::Duration;

/// The least that a resolver needs, in the lab's configuration, whose only address inside is 2001:db8:64::1.
fn with(keys: &str) -> String {
    format!(
        "{LAB}\n[dns]\nservers = [\"2001:db8:64::1\", \"2001:db8:64::53\"]\n[dns64]\nupstreams = [\"198.51.100.53\"]\n{keys}\n"
    )
}

fn resolver(keys: &str) -> core::Config {
    let config = parse(&with(keys)).unwrap_or_else(|e| panic!("{keys}: {e}"));
    dns64_of(&config).unwrap()
}

fn notes(text: &str) -> Vec<String> {
    let notes = parse(text).unwrap_or_else(|e| panic!("{e}")).notes;
    notes.into_iter().filter(|note| note.starts_with("dns64")).collect()
}

fn six(a: &str) -> Ipv6Addr {
    a.parse().unwrap()
}

fn prefix(p: &str) -> Prefix6 {
    p.parse().unwrap()
}

fn name(text: &str) -> causeway_dns64::question::WireName {
    crate::control::dns::parse_name(text).unwrap()
}

fn names(list: &[&str]) -> causeway_dns64::policy::NameSet {
    causeway_dns64::policy::NameSet::new(list.iter().map(|n| name(n)).collect())
}

const VIEW: &str = "[[dns64.view]]\nname = \"shop\"\nsources = [\"2001:db8:64:0:1::/80\"]\n";

#[test]
fn what_is_written_elsewhere_is_not_written_again() {
    let c = resolver("");
    assert_eq!(c.listen, [six("2001:db8:64::1")], "those of [dns] servers that are the gateway's");
    assert_eq!(c.clients, [(prefix("2001:db8:64::/64"), 0)], "tenant networks");
    assert_eq!(c.views.len(), 1);
    assert_eq!(c.views[0].prefix, Some(prefix("2001:db8:64:ff9b::/96")), "the first of [nat64] prefixes");
    assert_eq!(c.limits.client_bits, 128, "as [nat64.subscribers] tells hosts apart");
    assert_eq!(c.upstreams, ["198.51.100.53:53".parse().unwrap()]);
    // All of it follows when the one place changes.
    let text = with("")
        .replace("prefix-length = 128", "prefix-length = 32")
        .replace("servers = [\"2001:db8:64::1\", ", "servers = [")
        .replace(
            "addresses6 = [\"2001:db8:64::1/64\"]",
            "addresses6 = [\"2001:db8:64::53/64\", \"2001:db8:65::1/64\"]\nsources = [\"2001:db8:66::/48\"]",
        )
        .replace("2001:db8:64:ff9b::/96", "2001:db8:64:ff9c::/96\", \"2001:db8:64:ff9b::/96");
    let c = dns64_of(&parse(&text).unwrap_or_else(|e| panic!("{e}"))).unwrap();
    assert_eq!(c.listen, [six("2001:db8:64::53")]);
    let clients = ["2001:db8:64::/64", "2001:db8:65::/64", "2001:db8:66::/48"];
    assert_eq!(c.clients, clients.map(|p| (prefix(p), 0)), "the longest first");
    assert_eq!(c.views[0].prefix, Some(prefix("2001:db8:64:ff9c::/96")));
    assert_eq!(c.limits.client_bits, 48, "not fewer");
}

#[test]
fn the_defaults_are_the_rfcs_where_they_have_any() {
    let c = resolver("");
    let mapped = prefix("::ffff:0:0/96");
    assert_eq!(
        c.synthesis,
        core::Synthesis {
            exclude_aaaa: vec![mapped],
            exclude_a: Vec::new(),
            only_a: Vec::new(),
            on_failure: core::OnFailure::Fail,
        }
    );
    let cache = core::CacheSettings {
        octets: 64 << 20,
        max_ttl: 86_400,
        max_negative_ttl: 3600,
        failure_ttl: 5,
        prefetch: true,
        stale: None,
    };
    assert_eq!(c.cache, cache);
    assert_eq!(
        (c.udp_octets, c.upstream.ports, c.upstream.case, c.sample_every),
        (1232, (1024, 65_535), true, 0)
    );
    assert_eq!(resolver("max-ttl = \"5m\"").cache.max_negative_ttl, 300, "not more than `max-ttl`");
    let stale = resolver("stale = \"1d\"").cache.stale;
    let rfc8767 = core::Stale { for_seconds: 86_400, ttl: 30, after: Duration::from_millis(1800) };
    assert_eq!(stale, Some(rfc8767));
}

#[test]
fn every_key_reaches_the_resolver() {
    let c = resolver(
        "listen = [\"2001:db8:64::1\"]\nclients = [\"2001:db8:64::/60\"]\nprefix = \"2001:db8:64:ff9b::/96\"\n\
         always = [\"Always.Example\"]\nnever = [\"never.example\"]\nblock = [\"ads.example\"]\n\
         exclude-aaaa = [\"2001:db8:bad::/48\"]\nexclude-a = [\"10.0.0.0/8\"]\nonly-a = [\"198.51.100.0/24\"]\n\
         on-failure = \"synthesise\"\ncache = \"2MiB\"\nmax-ttl = \"2h\"\nmax-negative-ttl = \"10m\"\n\
         failure-ttl = \"1s\"\nprefetch = false\nstale = \"3h\"\nstale-ttl = \"20s\"\nstale-after = \"500ms\"\n\
         udp-size = 4096\ntimeout = \"3s\"\ntries = 7\nin-flight = 99\nports = \"2000-9999\"\ncase = false\n\
         client-length = 64\nclient-rate = 5\nclient-burst = 6\nclient-in-flight = 7\nsample-every = 8\n\
         [dns64.tcp]\nconnections = 9\nper-client = 3\nidle = \"4s\"\npipelined = 5\n\
         [[dns64.local]]\nname = \"Here.Example\"\naddresses = [\"2001:db8:64::80\", \"192.0.2.80\"]\nttl = \"1m\"\n",
    );
    let synthesis = core::Synthesis {
        exclude_aaaa: vec![prefix("2001:db8:bad::/48")],
        exclude_a: vec!["10.0.0.0/8".parse().unwrap()],
        only_a: vec!["198.51.100.0/24".parse().unwrap()],
        on_failure: core::OnFailure::Synthesise,
    };
    let view = core::View {
        name: "default".into(),
        prefix: Some(prefix("2001:db8:64:ff9b::/96")),
        synthesis: None,
        always: names(&["always.example"]),
        never: names(&["never.example"]),
        blocked: names(&["ads.example"]),
        local: vec![core::LocalName {
            name: name("here.example"),
            addresses: vec!["2001:db8:64::80".parse().unwrap(), "192.0.2.80".parse().unwrap()],
            ttl: 60,
        }],
    };
    let wanted = core::Config {
        listen: vec![six("2001:db8:64::1")],
        clients: vec![(prefix("2001:db8:64::/60"), 0)],
        views: vec![view],
        synthesis,
        upstreams: vec!["198.51.100.53:53".parse().unwrap()],
        upstream: core::Upstream {
            patience: Duration::from_secs(3),
            tries: 7,
            in_flight: 99,
            ports: (2000, 9999),
            case: false,
        },
        cache: core::CacheSettings {
            octets: 2 << 20,
            max_ttl: 7200,
            max_negative_ttl: 600,
            failure_ttl: 1,
            prefetch: false,
            stale: Some(core::Stale { for_seconds: 10_800, ttl: 20, after: Duration::from_millis(500) }),
        },
        limits: core::Limits { client_bits: 64, rate: (5, 6), in_flight: 7 },
        tcp: core::Tcp { connections: 9, per_client: 3, idle: Duration::from_secs(4), pipelined: 5 },
        udp_octets: 4096,
        sample_every: 8,
    };
    assert_eq!(c, wanted);
}

#[test]
fn a_view_has_what_it_says_and_else_what_all_have() {
    let c = resolver(&format!(
        "always = [\"a.example\", \"b.example\"]\nnever = [\"n.example\"]\nexclude-a = [\"10.0.0.0/8\"]\n\
         [[dns64.local]]\nname = \"l.example\"\naddresses = [\"192.0.2.80\"]\n\
         {VIEW}networks = [\"tenant0\"]\nnever = [\"B.example\"]\n\
         [[dns64.view.local]]\nname = \"L.example\"\naddresses = [\"192.0.2.81\"]\n\
         [[dns64.view]]\nname = \"strict\"\nsources = [\"2001:db8:65::/64\"]\ndns64 = false\nalways = []\nonly-a = [\"198.51.100.0/24\"]\n"
    ));
    let [all, shop, strict] = &c.views[..] else { panic!("{:?}", c.views) };
    assert_eq!((&*all.name, &*shop.name, &*strict.name), ("default", "shop", "strict"));
    assert_eq!((&all.always, &all.never), (&names(&["a.example", "b.example"]), &names(&["n.example"])));
    // What a view says of a name is what counts for it, whatever list that is in.
    assert_eq!((&shop.always, &shop.never), (&names(&["a.example"]), &names(&["b.example"])));
    let [local] = &shop.local[..] else { panic!("{:?}", shop.local) };
    assert_eq!(
        (local.name.clone(), local.addresses[0].to_string()),
        (name("l.example"), "192.0.2.81".to_owned())
    );
    assert_eq!(
        (shop.prefix, &shop.synthesis),
        (all.prefix, &None),
        "with the rules of all, its answers are cached"
    );
    assert_eq!((strict.prefix, &strict.always, strict.local.len()), (None, &names(&[]), 1));
    let own = strict.synthesis.as_ref().unwrap();
    assert_eq!((own.exclude_a.len(), own.only_a.len()), (1, 1));
    // The tenant network is shop's: nobody is left for the default view.
    let clients = [("2001:db8:64:0:1::/80", 1), ("2001:db8:64::/64", 1), ("2001:db8:65::/64", 2)];
    assert_eq!(c.clients, clients.map(|(p, view)| (prefix(p), view)));
    // With DNS64 off for all, a view may still want it, with the prefix that all would have had.
    let c = resolver(&format!("dns64 = false\n{VIEW}dns64 = true\n"));
    assert_eq!((c.views[0].prefix, c.views[1].prefix), (None, Some(prefix("2001:db8:64:ff9b::/96"))));
}

#[test]
fn addresses_of_virtual_routers_are_answered_at() {
    let lab = include_str!("../../../etc/lab.toml");
    let c = parse(lab).unwrap();
    let d = dns64_of(&c).unwrap();
    assert_eq!(
        (d.listen, d.upstreams),
        (vec![six("2001:db8:64::53")], vec!["198.51.100.53:53".parse().unwrap()])
    );
    assert_eq!(
        d.clients.iter().map(|(p, _)| p.to_string()).collect::<Vec<_>>(),
        ["2001:db8:64::/64", "2001:db8:64:8000::/56"]
    );
    assert_eq!(c.notes.iter().filter(|note| note.starts_with("dns")).count(), 0);
    let silent = lab.replace("interval = \"100ms\"", "interval = \"100ms\"\naccept = false");
    let note = "dns.servers[0]: 2001:db8:64::53 is a virtual router's, and `vrrp.accept` is false: nobody is answered";
    assert!(parse(&silent).unwrap().notes.contains(&note.to_owned()));
}

/// Bad input, a row each: what is added to `[dns64]`, and all that is said of it.
#[test]
fn every_bad_value_of_dns64_is_named_with_its_key_and_what_is_allowed() {
    const RESOLVER: &str = "the address of a resolver, as in \"198.51.100.53\" or \"2001:db8:6::53\", with its port if that is not 53, as in \"198.51.100.53:5353\" or \"[2001:db8:6::53]:5353\"";
    const NAME: &str = "a domain name in ASCII without a final dot, as in \"example.com\"";
    let upstreams = |list: &str| with("").replace("[\"198.51.100.53\"]", list);
    let rows: Vec<(&str, String, Vec<String>)> = vec![
        (
            "nobody to ask",
            with("").replace("upstreams = [\"198.51.100.53\"]", ""),
            vec![format!("dns64.upstreams: missing (allowed: one or more, each {RESOLVER})")],
        ),
        (
            "an empty list of whom to ask",
            upstreams("[]"),
            vec!["dns64.upstreams = []: empty (allowed: one or more)".to_owned()],
        ),
        (
            "a resolver by name",
            upstreams("[\"dns.example\"]"),
            vec![format!("dns64.upstreams[0] = \"dns.example\": not an address (allowed: {RESOLVER})")],
        ),
        (
            "asking oneself",
            upstreams("[\"2001:db8:64::1\"]"),
            vec!["dns64.upstreams[0] = \"2001:db8:64::1\": an address of the gateway itself (network[0].addresses6[0]) (allowed: the address of another resolver)".to_owned()],
        ),
        (
            "a resolver twice",
            upstreams("[\"198.51.100.53\", \"198.51.100.53:53\"]"),
            vec!["dns64.upstreams[1] = \"198.51.100.53:53\": dns64.upstreams[0] is the same resolver (allowed: each resolver once)".to_owned()],
        ),
        (
            "a resolver behind one's own translation",
            upstreams("[\"2001:db8:64:ff9b::c633:6435\"]"),
            vec!["dns64.upstreams[0] = \"2001:db8:64:ff9b::c633:6435\": overlaps the NAT64 prefix 2001:db8:64:ff9b::/96 of nat64.prefixes[0]: what the gateway itself sends is not translated (allowed: the address of a resolver that the gateway reaches itself)".to_owned()],
        ),
        (
            "a resolver among the addresses that servers share",
            upstreams("[\"203.0.113.5\"]"),
            vec!["dns64.upstreams[0] = \"203.0.113.5\": in the pool 203.0.113.0/28 of nat64.pool[0] (allowed: the address of a resolver that the gateway reaches itself)".to_owned()],
        ),
        (
            "IPv6 without an uplink for it",
            upstreams("[\"2001:db8:6::53\"]")
                .replace("addresses6 = [\"2001:db8:ffff::2/64\"]\n", "")
                .replace("[[route]]\nprefix = \"::/0\"\nvia = \"2001:db8:ffff::1\"\n", ""),
            vec!["dns64.upstreams[0] = \"2001:db8:6::53\": no uplink has an IPv6 address (allowed: the address of a resolver that the gateway reaches itself)".to_owned()],
        ),
        (
            "no address of ours",
            with("").replace("servers = [\"2001:db8:64::1\", ", "servers = ["),
            vec!["dns64: none of `dns.servers` is an address of the gateway (allowed: `listen` with addresses of the gateway, or such an address among `dns.servers`)".to_owned()],
        ),
        (
            "an address that is not ours",
            with("listen = [\"2001:db8:64::53\"]"),
            vec!["dns64.listen[0] = \"2001:db8:64::53\": not an address of the gateway (allowed: an address of a [[network]] or of a [[vrrp.router]])".to_owned()],
        ),
        (
            "no address at all",
            with("listen = []"),
            vec!["dns64.listen = []: empty (allowed: one or more)".to_owned()],
        ),
        (
            "RFC 5358: an open resolver",
            with("clients = [\"::/0\", \"2000::/3\", \"fe80::/10\"]"),
            vec![
                "dns64.clients[0] = \"::/0\": nearly everybody could ask: an open resolver (RFC 5358) (allowed: a prefix of 16 bits or more)".to_owned(),
                "dns64.clients[1] = \"2000::/3\": nearly everybody could ask: an open resolver (RFC 5358) (allowed: a prefix of 16 bits or more)".to_owned(),
                "dns64.clients[2] = \"fe80::/10\": nobody is answered there (allowed: a unicast prefix other than a link-local one)".to_owned(),
            ],
        ),
        (
            "RFC 6052 2.2: a prefix that IPv4 does not fit into",
            with("prefix = \"2001:db8:64:ff9b::/97\""),
            vec!["dns64.prefix = \"2001:db8:64:ff9b::/97\": ".to_owned()],
        ),
        (
            "a prefix for nothing",
            with("dns64 = false\nprefix = \"2001:db8:64:ff9b::/96\""),
            vec!["dns64.prefix = \"2001:db8:64:ff9b::/96\": `dns64` is false (allowed: only with `dns64 = true`)".to_owned()],
        ),
        (
            "a size without unit",
            with("cache = 64"),
            vec!["dns64.cache = 64: the unit is missing (allowed: 1MiB to 64GiB, as in \"64MiB\" (units KiB, MiB, GiB))".to_owned()],
        ),
        (
            "RFC 8767 4: more than seven days",
            with("max-ttl = \"8d\""),
            vec!["dns64.max-ttl = \"8d\": out of range 1s to 7d (allowed: whole seconds, 1s to 7d, as in \"1d\")".to_owned()],
        ),
        (
            "RFC 9520 3.2: a failure for more than five minutes",
            with("failure-ttl = \"6m\""),
            vec!["dns64.failure-ttl = \"6m\": out of range 1s to 5m (allowed: whole seconds, 1s to 5m, as in \"5s\")".to_owned()],
        ),
        (
            "settings of what is off",
            with("stale-ttl = \"30s\"\nstale-after = \"1s\""),
            vec![
                "dns64.stale-ttl = \"30s\": `stale` is \"off\" (allowed: only with `stale`)".to_owned(),
                "dns64.stale-after = \"1s\": `stale` is \"off\" (allowed: only with `stale`)".to_owned(),
            ],
        ),
        (
            "RFC 1035 4.2.1: an answer that is too small",
            with("udp-size = 511"),
            vec!["dns64.udp-size = 511: out of range 512 to 4096 (allowed: octets of the largest answer, 512 to 4096)".to_owned()],
        ),
        (
            "RFC 5452 9.2: ports that are easily guessed",
            with("ports = \"5000-5062\""),
            vec!["dns64.ports = \"5000-5062\": 63 ports for 1 workers (RFC 5452 9.2) (allowed: 64 or more for each worker)".to_owned()],
        ),
        (
            "RFC 5890 2.3.2.1: a name that is no A-label",
            with("always = [\"b\u{fc}cher.example\"]"),
            vec![format!("dns64.always[0] = \"b\u{fc}cher.example\": not ASCII: a label of another script is written as an A-label, as in xn--bcher-kva (allowed: {NAME})")],
        ),
        (
            "a wildcard",
            with("block = [\"*.example\"]"),
            vec![format!("dns64.block[0] = \"*.example\": `*` is no label (allowed: {NAME})")],
        ),
        (
            "a name with two meanings",
            with("always = [\"a.example\"]\nnever = [\"A.Example\"]"),
            vec!["dns64.never[0] = \"A.Example\": dns64.always[0] is the same name (allowed: each name in one list)".to_owned()],
        ),
        (
            "a name that is here and is not",
            with("block = [\"a.example\"]\n[[dns64.local]]\nname = \"a.example\"\naddresses = [\"192.0.2.80\"]"),
            vec!["dns64.local[0].name = \"a.example\": dns64.block[0] is the same name (allowed: each name in one list)".to_owned()],
        ),
        (
            "a name without addresses, and one with bad ones",
            with("[[dns64.local]]\nname = \"a.example\"\n[[dns64.local]]\nname = \"b.example\"\naddresses = [\"ff02::1\", \"x\", \"192.0.2.1\", \"192.0.2.1\"]"),
            vec![
                "dns64.local[0].addresses: missing (allowed: one or more, each an address, as in 2001:db8:64::80 or 192.0.2.80)".to_owned(),
                "dns64.local[1].addresses[1] = \"x\": not an address (allowed: an address, as in 2001:db8:64::80 or 192.0.2.80)".to_owned(),
                "dns64.local[1].addresses[3] = \"192.0.2.1\": dns64.local[1].addresses[2] is the same address (allowed: each address once)".to_owned(),
                "dns64.local[1].addresses[0] = \"ff02::1\": a group (allowed: an address of a host)".to_owned(),
            ],
        ),
        (
            "a view of nobody",
            with("[[dns64.view]]\nname = \"shop\""),
            vec!["dns64.view[0]: neither `networks` nor `sources` (allowed: one or more of them: whose view it is)".to_owned()],
        ),
        (
            "a view with the name of another",
            with(&format!("{VIEW}{}", VIEW.replace(":1::", ":2::"))),
            vec!["dns64.view[1].name = \"shop\": dns64.view[0].name is the same view name (allowed: each view name once)".to_owned()],
        ),
        (
            "a view with the name that all others have",
            with(&VIEW.replace("shop", "default")),
            vec!["dns64.view[0].name = \"default\": the view of those that no [[dns64.view]] names (allowed: another name)".to_owned()],
        ),
        (
            "clients of two views",
            with(&format!("{VIEW}{}", VIEW.replace("shop", "other"))),
            vec!["dns64.view[1].sources[0] = \"2001:db8:64:0:1::/80\": 2001:db8:64:0:1::/80 belongs to dns64.view[0].sources[0] (allowed: each prefix in one view)".to_owned()],
        ),
        (
            "a network of two views, and one that is none",
            with("[[dns64.view]]\nname = \"a\"\nnetworks = [\"tenant0\"]\n[[dns64.view]]\nname = \"b\"\nnetworks = [\"tenant0\", \"uplink0\"]"),
            vec![
                "dns64.view[1].networks[0] = \"tenant0\": dns64.view[0].networks[0] is the same network (allowed: each network in one view)".to_owned(),
                "dns64.view[1].networks[1] = \"uplink0\": there is no such tenant network (allowed: names of tenant networks: tenant0)".to_owned(),
            ],
        ),
        (
            "a key that is nearly one",
            with("upstream = []"),
            vec!["dns64.upstream = []: unknown key; did you mean `upstreams`? (allowed: ".to_owned()],
        ),
        (
            "what only [dns64] has",
            with(&format!("{VIEW}cache = \"1MiB\"")),
            vec!["dns64.view[0].cache = \"1MiB\": unknown key (allowed: always, block, dns64, exclude-a, exclude-aaaa, local, name, networks, never, on-failure, only-a, prefix, sources)".to_owned()],
        ),
    ];
    for (what, text, wanted) in rows {
        let said = said(&text);
        let fits = said.len() == wanted.len()
            && said.iter().zip(&wanted).all(|(said, wanted)| {
                said == wanted || ((wanted.ends_with(' ')) && said.starts_with(wanted.as_str()))
            });
        assert!(fits, "{what}:\n{said:#?}\nis not\n{wanted:#?}");
    }
}

#[test]
fn without_a_prefix_there_is_a_plain_resolver() {
    let nat64 = LAB.split_once("[nat64]").unwrap().0;
    let plain = |keys: &str| {
        format!("{nat64}\n[dns64]\nlisten = [\"2001:db8:64::1\"]\nupstreams = [\"198.51.100.53\"]\n{keys}")
    };
    let c = parse(&plain("")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(c.dns64.as_ref().map(|d| (d.rules.prefix, d.client_length.bits())), Some((None, 64)));
    assert!(
        c.notes
            .contains(&"dns64: there is neither `prefix` nor [nat64]: no AAAA records are made".to_owned())
    );
    assert_eq!(
        said(&plain("dns64 = true")),
        [
            "dns64.dns64 = true: there is neither `prefix` nor [nat64] (allowed: `prefix`, or [nat64] with `prefixes`)"
        ]
    );
    assert!(parse(&plain("dns64 = false")).unwrap().notes.iter().all(|note| !note.starts_with("dns64")));
    // Somebody else translates.
    let elsewhere = parse(&plain("prefix = \"64:ff9b::/96\"")).unwrap();
    assert!(elsewhere.notes.contains(
        &"dns64.prefix: 64:ff9b::/96 is no prefix of [nat64]: somebody else has to translate it".to_owned()
    ));
}

#[test]
fn what_is_hardly_meant_is_noted() {
    assert!(notes(&with("")).is_empty(), "{:?}", notes(&with("")));
    for (keys, note) in [
        (
            "max-ttl = \"5m\"\nmax-negative-ttl = \"6m\"",
            "dns64.max-negative-ttl: more than `max-ttl`, which is 5m",
        ),
        (
            "stale = \"1d\"\nstale-after = \"5s\"",
            "dns64.stale-after: not less than `timeout`, which is 4s: clients wait for so long",
        ),
        (
            "clients = [\"2001:db8:7::/48\"]",
            "dns64.clients[0]: also hosts outside the tenant networks may ask from 2001:db8:7::/48",
        ),
        ("clients = []", "dns64: no clients: nobody is answered"),
        (
            "ports = \"2000-2999\"",
            "dns64.ports: 1000 ports for each worker: fewer than the 4096 questions of `in-flight`",
        ),
    ] {
        let notes = notes(&with(keys));
        assert_eq!(notes, [note], "{keys}");
    }
}

#[test]
fn a_reload_changes_all_but_the_memory() {
    let plain = parse(&with("")).unwrap();
    let keys = |text: &str| {
        let new = parse(text).unwrap_or_else(|e| panic!("{e}"));
        let all = changes(&plain, &new).len();
        (all, restart_needed(&plain, &new).into_iter().map(|c| c.key).collect::<Vec<_>>())
    };
    assert_eq!(keys(&with("cache = \"1MiB\"")), (1, vec!["dns64.cache".to_owned()]));
    assert_eq!(keys(LAB).1, ["dns64"], "it cannot end, nor begin");
    let (all, restart) = keys(&with(&format!(
        "always = [\"a.example\"]\nmax-ttl = \"1m\"\nprefetch = false\nstale = \"1h\"\ntimeout = \"1s\"\nclient-rate = 7\nsample-every = 1\ntcp = {{ idle = \"1s\" }}\n{VIEW}"
    )));
    assert!(all >= 6 && restart.is_empty(), "{all} {restart:?}");
    // Views and local names are told apart by their names.
    let old = parse(&with(VIEW)).unwrap();
    let new = parse(&with(&format!("{VIEW}block = [\"a.example\"]"))).unwrap();
    let keys: Vec<String> = changes(&old, &new).into_iter().map(|c| c.key).collect();
    assert_eq!(keys, ["dns64.view[shop].block"]);
}

#[test]
fn cached_answers_are_old_when_what_they_were_made_by_has_changed() {
    use crate::plan::dns64::outdates;
    let plain = resolver("");
    for (keys, outdated) in [
        ("", false),
        ("block = [\"a.example\"]\nalways = [\"b.example\"]\ntries = 2\nmax-ttl = \"1m\"", false),
        (VIEW, false),
        ("exclude-a = [\"198.51.100.0/24\"]", true),
        ("exclude-aaaa = []", true),
        ("on-failure = \"synthesise\"", true),
        // RFC 6052 3.1: what may be made of an address depends on the prefix.
        ("prefix = \"2001:db8:64:ff9c::/96\"", true),
        ("dns64 = false", true),
    ] {
        assert_eq!(outdates(&plain, &resolver(keys)), outdated, "{keys}");
    }
}

#[test]
fn people_read_what_holds() {
    let text = parse(&with(&format!("always = [\"a.example\"]\n{VIEW}dns64 = false\n"))).unwrap().render();
    for line in [
        "dns64 upstreams  198.51.100.53",
        "  answers at     2001:db8:64::1",
        "  cache          64MiB, popular names are refreshed: yes",
        "  stale answers  never",
        "  view default   for 2001:db8:64::/64",
        "    AAAA made with  2001:db8:64:ff9b::/96",
        "    always for      a.example",
        "  view shop         for 2001:db8:64:0:1::/80",
        "    AAAA made with  nothing: none are made",
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let there = text.lines().any(|l| l.split_whitespace().collect::<Vec<_>>() == words);
        assert!(there, "{line}\n{text}");
    }
}

/// Of the example with every setting switched on.
pub(super) fn the_examples_settings_are_defaults(all: &Config, plain: &Config) {
    assert!(plain.dns64.is_none());
    let d = all.dns64.clone().unwrap();
    let text = with("stale = \"1d\"");
    let bare = parse(&text).unwrap().dns64.unwrap();
    let without = Dns64 {
        upstreams: bare.upstreams.clone(),
        listen: bare.listen.clone(),
        clients: bare.clients.clone(),
        client_length: bare.client_length,
        rules: DnsRules { local: Vec::new(), ..d.rules.clone() },
        views: Vec::new(),
        ..d
    };
    assert_eq!(without, bare);
    assert_eq!((d.upstreams.len(), d.rules.local.len(), d.client_length.bits()), (2, 1, 64));
    assert_eq!((d.listen[0].address(), d.views.len()), (six("2001:db8:100::53"), 1));
    assert_eq!((d.views[0].rules.local.len(), d.views[0].rules.dns64), (2, false));
}

#[test]
fn a_plan_keeps_how_upstreams_do_while_they_stay_the_same() {
    use crate::plan::{Plan, PortFacts};
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    let port = |name: &str, last| PortFacts {
        name: name.to_owned(),
        mac: causeway_wire::MacAddr([2, 0, 0, 0, 0x64, last]),
        mtu: 1500,
    };
    let ports = [port("tenant0", 1), port("uplink0", 2)];
    let build = |text: &str, before: Option<&Plan>| {
        let config = parse(text).unwrap_or_else(|e| panic!("{e}"));
        Plan::build(&config, &ports, before.map(|p| (p, causeway_core::Instant::ZERO))).unwrap()
    };
    let first = build(&with(""), None);
    assert_eq!(first.dns64_status.len(), 1, "one for each worker");
    first.dns64_status[0].list[0].1.asked.store(7, Ordering::Relaxed);
    let second = build(&with("tries = 2"), Some(&first));
    assert!(Arc::ptr_eq(&first.dns64_status[0], &second.dns64_status[0]));
    assert_eq!(second.dns64.as_ref().unwrap().upstream.tries, 2);
    let other = with("").replace("[\"198.51.100.53\"]", "[\"198.51.100.54\"]");
    let third = build(&other, Some(&second));
    assert_eq!(third.dns64_status[0].list[0].1.asked.load(Ordering::Relaxed), 0);
    assert!(build(LAB, Some(&third)).dns64_status.is_empty());
}
