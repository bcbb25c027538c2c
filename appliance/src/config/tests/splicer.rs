//! The settings of the splicer: listeners, sites, servers, port maps, and what the plan makes of them.

use super::*;
use crate::plan::{Plan, PortFacts, PortMapRange};
use causeway_core::Instant;
use causeway_core::net::Prefix4;
use causeway_splicer::site::{Backend, Check, Identity};

const SITE: &str = "[[splicer.site]]\nname = \"site1.example\"\n";
const VM1: &str = "[[splicer.site.backend]]\naddress = \"2001:db8:64::101\"\n";
const VM2: &str = "[[splicer.site.backend]]\naddress = \"2001:db8:64::102\"\n";
const TLS: &str = "[[splicer.listener]]\naddress = \"203.0.113.80\"\nport = 443\ntls = true\n";

/// The configuration of tests with keys in `[splicer]`, a listener for TLS, and further sections.
fn with(keys: &str, sections: &str) -> String {
    format!("{LAB}\n[splicer]\n{keys}\n{TLS}{sections}")
}

/// A site with one server and further keys and sections of the site before it.
fn site(keys: &str, sections: &str) -> String {
    format!("{SITE}{keys}\n{sections}\n{VM1}")
}

fn port_map(protocol: &str, outside: &str, inside: &str) -> String {
    format!(
        "[[splicer.port-map]]\nprotocol = \"{protocol}\"\noutside = \"{outside}\"\ninside = \"{inside}\"\n"
    )
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|e| panic!("{e}"))
}

fn facts() -> [PortFacts; 2] {
    [("tenant0", 1), ("uplink0", 2)].map(|(name, last)| PortFacts {
        name: name.to_owned(),
        mac: causeway_wire::MacAddr([2, 0, 0, 0, 0x64, last]),
        mtu: 1500,
    })
}

fn plan(text: &str, before: Option<&Plan>) -> Plan {
    Plan::build(&good(text), &facts(), before.map(|p| (p, Instant::ZERO))).unwrap()
}

#[test]
fn every_bad_value_of_the_splicer_is_named_with_its_key_and_what_is_allowed() {
    const NAME: &str = "a domain name in ASCII without a final dot, as in \"www.example.com\", or `*.` and one for all names below it, as in \"*.example.com\"";
    const CLIENTS: &str =
        "an IPv6 prefix of length 96 whose bits 64 to 71 are zero, as in 2001:db8:64:c1::/96";
    const NOBODY: &str = "a prefix that no host has addresses of, and that leads to the gateway";
    const RANGE: &str = "a unicast IPv4 address and a range of ports, as in \"203.0.113.80:20000-29999\"";
    let listener = |keys: &str| format!("[[splicer.listener]]\n{keys}\n");
    let named = |name: &str| SITE.replace("site1.example", name) + VM1;
    let embedded = "client-prefixes = [\"2001:db8:64:c1::/96\"]";
    let static_80 = "[[nat64.static]]\nprotocol = \"tcp\"\noutside = \"203.0.113.80:2201\"\ninside = \"[2001:db8:64::101]:22\"\n";
    let rows: Vec<(&str, String, Vec<String>)> = vec![
        (
            "a key that is nearly one",
            with("source = []", ""),
            vec!["splicer.source = []: unknown key; did you mean `sources`? (allowed: client-prefixes, limits, listener, port-map, port-map-range, site, sources, tcp, timeouts)".to_owned()],
        ),
        (
            "a proxy address that is the gateway's own",
            with("", &listener("address = \"192.0.2.2\"\nport = 80\nhttp = true")),
            vec!["splicer.listener[1].address = \"192.0.2.2\": 192.0.2.2 is an address of the gateway itself (network[1].addresses4[0]) (allowed: an address that nobody else has)".to_owned()],
        ),
        (
            "a proxy address that is the next router's",
            with("", &listener("address = \"192.0.2.1\"\nport = 80\nhttp = true")),
            vec!["splicer.listener[1].address = \"192.0.2.1\": 192.0.2.1 is the router of route[1].via (allowed: an address that nobody else has)".to_owned()],
        ),
        (
            "a proxy address in the pool",
            with("", &listener("address = \"203.0.113.5\"\nport = 80\nhttp = true")),
            vec!["splicer.listener[1].address = \"203.0.113.5\": in the NAT64 pool 203.0.113.0/28 of nat64.pool[0] (allowed: an address outside the pools)".to_owned()],
        ),
        (
            "RFC 1122 3.2.1.3: a broadcast address",
            with("", &listener("address = \"192.0.2.255\"\nport = 80\nhttp = true")),
            vec!["splicer.listener[1].address = \"192.0.2.255\": the network or broadcast address of 192.0.2.0/24 (allowed: the address of a host)".to_owned()],
        ),
        (
            "a listener twice",
            with("", &listener("address = \"203.0.113.80\"\nport = 443\nhttp = true")),
            vec!["splicer.listener[1].port = 443: splicer.listener[0] has port 443 of 203.0.113.80 already (allowed: each address and port once)".to_owned()],
        ),
        (
            "a listener that could not tell where to",
            with("", &listener("address = \"203.0.113.80\"\nport = 7007")),
            vec!["splicer.listener[1].default-site: missing (allowed: the name of a [[splicer.site]], or `tls = true`, or `http = true`, by which clients say one)".to_owned()],
        ),
        (
            "a redirect of nothing, and a default site that there is not",
            with("", &listener("address = \"203.0.113.80\"\nport = 8443\ntls = true\nredirect = true\ndefault-site = \"site9.example\"")),
            vec![
                "splicer.listener[1].redirect = true: `http` is false (allowed: only with `http = true`)".to_owned(),
                "splicer.listener[1].default-site = \"site9.example\": there is no such site (allowed: the `name` of a [[splicer.site]])".to_owned(),
            ],
        ),
        (
            "no port",
            with("", &listener("address = \"203.0.113.80\"\nport = 0\nhttp = true")),
            vec!["splicer.listener[1].port = 0: out of range 1 to 65535 (allowed: a port, 1 to 65535)".to_owned()],
        ),
        (
            "names that are none",
            with("", &["*", "*.*.example", "www.*.example", "a..b", "example.", "203.0.113.80", "b\u{fc}cher.example"].map(named).concat()),
            vec![
                format!("splicer.site[0].name = \"*\": `*` is no label (allowed: {NAME})"),
                format!("splicer.site[1].name = \"*.*.example\": `*` is no label (allowed: {NAME})"),
                format!("splicer.site[2].name = \"www.*.example\": `*` is no label (allowed: {NAME})"),
                format!("splicer.site[3].name = \"a..b\": a label has 1 to 63 octets (allowed: {NAME})"),
                format!("splicer.site[4].name = \"example.\": a final dot (allowed: {NAME})"),
                format!("splicer.site[5].name = \"203.0.113.80\": the last label is a number (allowed: {NAME})"),
                format!("splicer.site[6].name = \"b\u{fc}cher.example\": "),
            ],
        ),
        (
            "RFC 4343 3: a name twice, in other letters",
            with("", &(named("site1.example") + &named("Site1.Example"))),
            vec!["splicer.site[1].name = \"Site1.Example\": splicer.site[0].name is the same site name (allowed: each site name once)".to_owned()],
        ),
        (
            "a site without servers",
            with("", SITE),
            vec!["splicer.site[0].backend: missing (allowed: one or more sections [[splicer.site.backend]])".to_owned()],
        ),
        (
            "a protocol without servers, and one twice",
            with("", &site("", &format!("[[splicer.site.alpn]]\nprotocol = \"h2\"\n[[splicer.site.alpn]]\nprotocol = \"h2\"\n{}", VM1.replace("site.backend", "site.alpn.backend")))),
            vec![
                "splicer.site[0].alpn[0].backend: missing (allowed: one or more sections [[splicer.site.alpn.backend]])".to_owned(),
                "splicer.site[0].alpn[1].protocol = \"h2\": splicer.site[0].alpn[0].protocol is the same protocol (allowed: each protocol once)".to_owned(),
            ],
        ),
        (
            "servers that are none",
            with(embedded, &["2001:db8:64::1", "2001:db8:64:ff9b::c633:640a", "2001:db8:64:c1::c633:640a", "fe80::101"].map(|a| format!("{SITE}{}", VM1.replace("2001:db8:64::101", a)).replace("site1", &format!("s{}", a.len()))).concat()),
            vec![
                "splicer.site[0].backend[0].address = \"2001:db8:64::1\": 2001:db8:64::1 is an address of the gateway itself (network[0].addresses6[0]) (allowed: the address of a server)".to_owned(),
                "splicer.site[1].backend[0].address = \"2001:db8:64:ff9b::c633:640a\": overlaps the NAT64 prefix 2001:db8:64:ff9b::/96 of nat64.prefixes[0] (allowed: the address of a server)".to_owned(),
                "splicer.site[2].backend[0].address = \"2001:db8:64:c1::c633:640a\": in the client prefix 2001:db8:64:c1::/96 of splicer.client-prefixes[0] (allowed: the address of a server)".to_owned(),
                "splicer.site[3].backend[0].address = \"fe80::101\": no address that a host is reached by (allowed: a unicast IPv6 address other than a link-local one, as in 2001:db8:64::53)".to_owned(),
            ],
        ),
        (
            "the same server twice, and a port twice",
            with("", &format!("{SITE}{VM1}{VM1}{VM1}ports = [[443, 8443], [443, 9443], [443]]\n")),
            vec![
                "splicer.site[0].backend[2].ports[2] = [443]: not two ports (allowed: two ports from 1 to 65535, the listener's and the server's, as in [443, 8443])".to_owned(),
                "splicer.site[0].backend[1].address = \"2001:db8:64::101\": splicer.site[0].backend[0] is the same server (allowed: each address and its ports once)".to_owned(),
                "splicer.site[0].backend[2].ports[1] = [443, 9443]: port 443 again (allowed: each port of a listener once)".to_owned(),
            ],
        ),
        (
            "a weight that is too large",
            with("", &(site("", "") + "weight = 1001\n")),
            vec!["splicer.site[0].backend[0].weight = 1001: out of range 0 to 1000 (allowed: a weight, 1 to 1000, or 0 for no new connections)".to_owned()],
        ),
        (
            "an identity that there is not",
            with("", &site("identity = \"proxy3\"", "")),
            vec!["splicer.site[0].identity = \"proxy3\": no such choice (allowed: \"none\", \"proxy1\", \"proxy2\" or \"embedded\")".to_owned()],
        ),
        (
            "an identity without a prefix",
            with("", &site("identity = \"embedded\"", "")),
            vec!["splicer.site[0].identity = \"embedded\": there is no client prefix (allowed: with `splicer.client-prefixes`, or another `identity`)".to_owned()],
        ),
        (
            "a prefix that is another, and one for nothing",
            with(embedded, &(site("identity = \"embedded\"\nclient-prefix = \"2001:db8:64:c2::/96\"", "") + &site("client-prefix = \"2001:db8:64:c1::/96\"", "").replace("site1", "site2"))),
            vec![
                "splicer.site[1].client-prefix = \"2001:db8:64:c1::/96\": `identity` is \"none\" (allowed: only with `identity = \"embedded\"`)".to_owned(),
                "splicer.site[0].client-prefix = \"2001:db8:64:c2::/96\": not among the client prefixes (allowed: one of `splicer.client-prefixes`)".to_owned(),
            ],
        ),
        (
            "RFC 6052 2.2: prefixes that an address does not fit behind, or not so",
            with("client-prefixes = [\"2001:db8:c1::/64\", \"2001:db8:64:c1:100::/96\"]", ""),
            vec![
                format!("splicer.client-prefixes[0] = \"2001:db8:c1::/64\": a length of 64 (allowed: {CLIENTS})"),
                format!("splicer.client-prefixes[1] = \"2001:db8:64:c1:100::/96\": bits 64 to 71 are not zero (allowed: {CLIENTS})"),
            ],
        ),
        (
            "prefixes that are somebody's",
            with("client-prefixes = [\"2001:db8:64:ff9b::/96\", \"2001:db8:64::/96\", \"2001:db8:64:c1::/96\", \"2001:db8:64:c1::/96\"]", "[[route]]\nprefix = \"2001:db8:64:c1::/96\"\nvia = \"2001:db8:64::5\"\n"),
            vec![
                "splicer.client-prefixes[0] = \"2001:db8:64:ff9b::/96\": overlaps the NAT64 prefix 2001:db8:64:ff9b::/96 of nat64.prefixes[0] (allowed: a prefix of its own, so that answers to clients are not translated)".to_owned(),
                format!("splicer.client-prefixes[1] = \"2001:db8:64::/96\": overlaps 2001:db8:64::/64, which is on the link of network `tenant0` (network[0].addresses6[0]) (allowed: {NOBODY})"),
                "route[2].prefix = \"2001:db8:64:c1::/96\": inside the client prefix 2001:db8:64:c1::/96 of splicer.client-prefixes[2]: never used (allowed: a prefix that is not the splicer's)".to_owned(),
                "splicer.client-prefixes[3] = \"2001:db8:64:c1::/96\": the same as splicer.client-prefixes[2] (allowed: each prefix once)".to_owned(),
                "route[2].prefix = \"2001:db8:64:c1::/96\": inside the client prefix 2001:db8:64:c1::/96 of splicer.client-prefixes[3]: never used (allowed: a prefix that is not the splicer's)".to_owned(),
            ],
        ),
        (
            "sources that are not the gateway's",
            with("sources = [\"2001:db8:64::9\", \"2001:db8:64::1\", \"2001:db8:64::1\"]", ""),
            vec![
                "splicer.sources[2] = \"2001:db8:64::1\": splicer.sources[1] is the same address (allowed: each address once)".to_owned(),
                "splicer.sources[0] = \"2001:db8:64::9\": not an address of the gateway (allowed: an address of a [[network]] or of a [[vrrp.router]])".to_owned(),
            ],
        ),
        (
            "no source, said and unsaid",
            with("sources = []", ""),
            vec!["splicer.sources = []: empty (allowed: one or more)".to_owned()],
        ),
        (
            "no source at all",
            with("", "").replace("addresses6 = [\"2001:db8:64::1/64\"]", "on-link = [\"2001:db8:64::/64\"]"),
            vec!["splicer: no tenant network has an IPv6 address of the gateway, from which connections to servers could come (allowed: `sources` with addresses of the gateway)".to_owned()],
        ),
        (
            "port maps that clash with listeners, mappings and each other",
            with("", &(port_map("tcp", "203.0.113.80:443", "[2001:db8:64::101]:443") + &port_map("udp", "203.0.113.80:443", "[2001:db8:64::101]:443") + static_80 + &port_map("tcp", "203.0.113.80:2201", "[2001:db8:64::102]:22") + &port_map("tcp", "203.0.113.80:2202", "[2001:db8:64::101]:22"))),
            vec![
                "splicer.port-map[0].outside = \"203.0.113.80:443\": splicer.listener[0] has this address and port of tcp already (allowed: each address and port once)".to_owned(),
                "splicer.port-map[2].outside = \"203.0.113.80:2201\": nat64.static[0].outside has this address and port of tcp already (allowed: each address and port once)".to_owned(),
                "splicer.port-map[3].inside = \"[2001:db8:64::101]:22\": nat64.static[0].inside has this server of tcp already (allowed: each server's address and port once (RFC 6146 3.1))".to_owned(),
            ],
        ),
        (
            "a static mapping at a listener",
            with("", &static_80.replace(":2201", ":443")),
            vec!["nat64.static[0].outside = \"203.0.113.80:443\": splicer.listener[0] has this address and port of tcp already (allowed: each address and port once)".to_owned()],
        ),
        (
            "a port map from the pool, to nobody",
            with("", &port_map("tcp", "203.0.113.5:22", "[2001:db8:64::1]:22")),
            vec![
                "splicer.port-map[0].outside = \"203.0.113.5:22\": in the NAT64 pool 203.0.113.0/28 of nat64.pool[0] (allowed: an address outside the pools)".to_owned(),
                "splicer.port-map[0].inside = \"[2001:db8:64::1]:22\": 2001:db8:64::1 is an address of the gateway itself (network[0].addresses6[0]) (allowed: the address of a server)".to_owned(),
            ],
        ),
        (
            "a range of ports with others in it",
            with("port-map-range = \"203.0.113.80:400-2300\"", &port_map("udp", "203.0.113.80:2201", "[2001:db8:64::101]:22")),
            vec!["splicer.port-map-range = \"203.0.113.80:400-2300\": holds port 443 of splicer.listener[0] (allowed: ports that nothing else has)".to_owned()],
        ),
        (
            "ranges that are none",
            with("port-map-range = \"203.0.113.80:30000\"", ""),
            vec![format!("splicer.port-map-range = \"203.0.113.80:30000\": not a range of ports (allowed: {RANGE})")],
        ),
        (
            "a check of nothing",
            with("", &site("", "[splicer.site.health]\nport = 443\nrise = 0\n")),
            vec![
                "splicer.site[0].health.rise = 0: out of range 1 to 100 (allowed: a number of checks, 1 to 100)".to_owned(),
                "splicer.site[0].health.port = 443: `check` is \"none\" (allowed: only with `check = \"tcp\"` or `check = \"tls\"`)".to_owned(),
                "splicer.site[0].health.rise = 0: `check` is \"none\" (allowed: only with `check = \"tcp\"` or `check = \"tls\"`)".to_owned(),
            ],
        ),
        (
            "a check that waits longer than it pauses, of no port",
            with("", &site("", "[splicer.site.health]\ncheck = \"tls\"\ninterval = \"1s\"\ntimeout = \"2s\"\n")),
            vec![
                "splicer.site[0].health.timeout = \"2s\": longer than `interval` (allowed: a length of time not longer than `interval`)".to_owned(),
                "splicer.site[0].health.port: missing (allowed: the servers' port that is tried, 1 to 65535)".to_owned(),
            ],
        ),
        (
            "a check that never rests",
            with("", &site("", "[splicer.site.health]\ncheck = \"tcp\"\nport = 443\ninterval = \"50ms\"\n")),
            vec!["splicer.site[0]: health: an interval of 100 ms to a day is allowed".to_owned()],
        ),
        (
            "bounds of nothing",
            with("limits = { connections = 0, memory = 5, hello = 70000, head = 100, new-burst = 5 }", ""),
            vec![
                "splicer.limits.new-burst = 5: `new-per-second` is \"off\" (allowed: only with `new-per-second`)".to_owned(),
                "splicer.limits.connections = 0: out of range 1 to 1048576 (allowed: a number of connections, 1 to 1048576)".to_owned(),
                "splicer.limits.memory = 5: the unit is missing (allowed: 1MiB to 64GiB, as in \"64MiB\" (units KiB, MiB, GiB))".to_owned(),
                "splicer.limits.hello = 70000: out of range 1024 to 65536 (allowed: a number of octets, 1024 to 65536)".to_owned(),
                "splicer.limits.head = 100: out of range 1024 to 65536 (allowed: a number of octets, 1024 to 65536)".to_owned(),
            ],
        ),
        (
            "RFC 7323 2.3: a window scale that is too large",
            with("tcp = { window-scale = 15 }", ""),
            vec!["splicer.tcp.window-scale = 15: out of range 0 to 14 (allowed: a window scale, 0 to 14)".to_owned()],
        ),
        (
            "more spliced connections than sessions",
            with("", "[capacity]\nsessions = 5000\nspliced = 5001\n"),
            vec!["capacity.spliced = 5001: 5001, more than the sessions, which are 5000 (allowed: at most 5000)".to_owned()],
        ),
    ];
    let mut wrong = String::new();
    for (what, text, mut want) in rows {
        // In any order: errors are told by lines.
        let mut got = said(&text);
        got.sort();
        want.sort();
        // A row that ends with a colon says only where and what of a longer message.
        let same =
            |(got, want): (&String, &String)| got == want || want.ends_with(": ") && got.starts_with(&**want);
        if got.len() != want.len() || !got.iter().zip(&want).all(same) {
            wrong += &format!("{what}\n got {got:#?}\nwant {want:#?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn port_maps_need_nat64_and_listeners_only_an_uplink_with_ipv4() {
    let alone = |text: String| text.split("[nat64]").next().unwrap().to_owned();
    let splicer =
        |keys: &str, more: &str| format!("{}\n[splicer]\n{keys}\n{TLS}{more}", alone(LAB.to_owned()));
    assert!(good(&splicer("", &site("", ""))).nat64.is_none());
    let allowed = "there is no [nat64], which translates what comes to it (allowed: only with [nat64])";
    let both = splicer(
        "port-map-range = \"203.0.113.80:30000-30009\"",
        &port_map("tcp", "203.0.113.80:2201", "[2001:db8:64::101]:22"),
    );
    assert_eq!(
        said(&both),
        [
            format!("splicer.port-map-range = \"203.0.113.80:30000-30009\": {allowed}"),
            format!("splicer.port-map[0].outside = \"203.0.113.80:2201\": {allowed}"),
        ]
    );
    let six = splicer("", "").replace("addresses4 = [\"192.0.2.2/24\"]\n", "");
    let six = six.replace("[[route]]\nprefix = \"0.0.0.0/0\"\nvia = \"192.0.2.1\"\n", "");
    assert!(
        said(&six).iter().any(|e| e.starts_with("splicer: no uplink has an IPv4 address")),
        "{:?}",
        said(&six)
    );
}

/// The example in `etc` has every setting of the splicer, and what stands for a default has that value.
pub(super) fn the_examples_settings_are_defaults(all: &Config, plain: &Config) {
    assert_eq!(plain.splicer, None);
    let all = all.splicer.as_ref().unwrap();
    let bare = good(&with("", "")).splicer.unwrap();
    assert_eq!((all.limits, all.timeouts, all.tcp), (bare.limits, bare.timeouts, bare.tcp));
    assert_eq!((all.listeners.len(), all.sites.len(), all.port_maps.len()), (2, 2, 1));
    let said = &all.sites[0];
    let plain = &good(&with("", &site("", "[splicer.site.health]\ncheck = \"tls\"\nport = 443\n")))
        .splicer
        .unwrap()
        .sites[0];
    assert_eq!((said.health, said.identity), (plain.health, plain.identity));
    assert_eq!((said.backends[0].weight, said.backends[0].draining), (plain.backends[0].weight, false));
}

#[test]
fn every_default_of_the_splicer_is_its_own() {
    let plan = plan(&with("", &site("", "")), None).splicer.unwrap();
    let (ours, theirs) = (&*plan.config, causeway_splicer::Config::default());
    assert_eq!((&ours.limits, &ours.timeouts, &ours.tcp), (&theirs.limits, &theirs.timeouts, &theirs.tcp));
    assert_eq!(plan.sites[0].health, causeway_splicer::site::Health::default());
    assert_eq!((plan.sites[0].identity, plan.port_map_range), (Identity::default(), None));
    assert_eq!(ours.generation, 1);
}

#[test]
fn every_setting_of_the_splicer_reaches_it() {
    let keys = "client-prefixes = [\"2001:db8:64:c1::/96\", \"2001:db8:64:c2::/96\"]\n\
                port-map-range = \"203.0.113.81:30000-39999\"\n\
                sources = [\"2001:db8:ffff::2\", \"2001:db8:64::1\"]\n\
                tcp = { window-scale = 3, timestamps = false, sack = false }\n\
                limits = { connections = 1, per-client = 2, memory = \"3MiB\", hello = 4096, head = 5120, \
                new-per-second = 6, new-burst = 7 }\n\
                timeouts = { first-octet = \"1s\", hello = \"2s\", connect = \"3s\", handover = \"4s\", \
                established = \"5s\", closing = \"6s\", terminated = \"7s\" }";
    let listener = "[[splicer.listener]]\naddress = \"203.0.113.79\"\nport = 8080\nhttp = true\ntls = true\n\
                    redirect = true\ndefault-site = \"*.Wild.example\"\n";
    let wild = "[[splicer.site]]\nname = \"*.wild.EXAMPLE\"\nidentity = \"embedded\"\n\
                client-prefix = \"2001:db8:64:c2::/96\"\nredirect = false\n[splicer.site.health]\ncheck = \"tcp\"\n\
                port = 7\ninterval = \"1s\"\nrise = 9\nfall = 8\n";
    let alpn = format!(
        "[[splicer.site.alpn]]\nprotocol = \"acme-tls/1\"\n{}",
        VM2.replace("site.backend", "site.alpn.backend")
    );
    let text = with(
        keys,
        &format!(
            "{listener}{wild}{VM1}ports = [[443, 8443], [8080, 80]]\nweight = 7\n{VM2}draining = true\n{alpn}{}",
            site("identity = \"proxy1\"", "")
                + &site("identity = \"proxy2\"", "").replace("site1", "site2")
                + &site("identity = \"embedded\"", "").replace("site1", "site3")
                + &port_map("udp", "203.0.113.82:53", "[2001:db8:64::101]:53")
        ),
    );
    let plan = plan(&text, None);
    let s = plan.splicer.as_ref().unwrap();
    let c = &*s.config;
    // In the order of addresses and ports, not of the file.
    let listeners: Vec<_> = c.listeners.iter().map(|l| (l.address.to_string(), l.port)).collect();
    assert_eq!(listeners, [("203.0.113.79".to_owned(), 8080), ("203.0.113.80".to_owned(), 443)]);
    let l = c.listener("203.0.113.79".parse().unwrap(), 8080).unwrap();
    assert_eq!(
        (l.tls, l.http, l.redirect, l.default_site.as_deref()),
        (true, true, true, Some("*.wild.example"))
    );
    assert_eq!(c.sources, ["2001:db8:ffff::2", "2001:db8:64::1"].map(|a| Some(a.parse().unwrap())));
    let prefixes = ["2001:db8:64:c1::/96", "2001:db8:64:c2::/96"].map(|p| Some(p.parse().unwrap()));
    assert_eq!(c.client_prefixes, prefixes);
    let l = &c.limits;
    assert_eq!((l.peeks, l.peeks_per_client, l.octets, l.opened_per_client), (1, 2, 3 << 20, (6, 7)));
    assert_eq!((l.hello_octets, l.head_octets), (4096, 5120));
    let t = &c.timeouts;
    // A half-closed connection may be silent for as long as an open one, unless it is said.
    let seconds = [
        t.first_octet,
        t.hello,
        t.connect,
        t.handover,
        t.established,
        t.half_closed,
        t.closing,
        t.terminated,
    ];
    assert_eq!(seconds.map(|t| t.as_secs()), [1, 2, 3, 4, 5, 5, 6, 7]);
    assert_eq!((c.tcp.window_scale, c.tcp.timestamps, c.tcp.sack), (3, false, false));
    let range = PortMapRange { address: "203.0.113.81".parse().unwrap(), first: 30_000, last: 39_999 };
    assert_eq!(s.port_map_range, Some(range));
    let [one, two] = ["2001:db8:64::101", "2001:db8:64::102"].map(|a| a.parse().unwrap());
    let wild = &s.sites[0];
    assert_eq!(
        (wild.name.as_str(), wild.identity, wild.redirect),
        ("*.wild.example", Identity::Embedded(1), Some(false))
    );
    assert_eq!(
        wild.backends,
        [
            Backend { address: one, ports: vec![(443, 8443), (8080, 80)], weight: 7, draining: false },
            Backend { address: two, ports: vec![], weight: 100, draining: true },
        ]
    );
    assert_eq!(
        wild.alpn,
        [(b"acme-tls/1".to_vec(), vec![Backend { draining: false, ..wild.backends[1].clone() }])]
    );
    let h = &wild.health;
    assert_eq!(
        (h.check, h.interval.as_secs(), h.timeout.as_secs(), h.rise, h.fall),
        (Check::Tcp(7), 1, 1, 9, 8)
    );
    let told: Vec<Identity> = s.sites[1..].iter().map(|s| s.identity).collect();
    assert_eq!(told, [Identity::Proxy1, Identity::Proxy2, Identity::Embedded(0)]);
    assert_eq!(s.sites[1].redirect, None);
    // Uplinks answer for all addresses, those of port maps and of the range too.
    let addresses =
        ["203.0.113.79", "203.0.113.80", "203.0.113.81", "203.0.113.82"].map(|a| a.parse().unwrap());
    assert_eq!(s.addresses, addresses);
    let uplink =
        plan.active.interfaces.by_name("uplink0").and_then(|id| plan.active.interfaces.get(id)).unwrap();
    assert_eq!(uplink.service4, addresses);
    for a in addresses {
        let mine = uplink.proxy4.iter().filter(|p| p.contains(a)).count();
        assert_eq!((mine, uplink.owns4(a)), (1, true), "{a}");
    }
    let tenant =
        plan.active.interfaces.by_name("tenant0").and_then(|id| plan.active.interfaces.get(id)).unwrap();
    assert_eq!((tenant.service4.len(), tenant.proxy4.len()), (0, 0));
    // And the port map is NAT64's.
    let nat64 = &plan.nat64.as_ref().unwrap().config;
    let translated: Vec<Prefix4> = nat64.addresses().collect();
    assert!(translated.contains(&"203.0.113.82/32".parse().unwrap()), "{translated:?}");
}

#[test]
fn port_maps_on_request_join_those_of_the_file_and_contradict_none() {
    let c = good(&with(
        "port-map-range = \"203.0.113.80:30000-39999\"",
        &port_map("tcp", "203.0.113.80:2201", "[2001:db8:64::101]:22"),
    ));
    let map = |port, inside: &str| causeway_nat64::StaticMapping {
        protocol: 6,
        outside: ("203.0.113.80".parse().unwrap(), port),
        inside: (inside.parse().unwrap(), 22),
    };
    let build = |maps: &[_]| Plan::build_with(&c, &facts(), None, maps).map(|_| ());
    assert!(build(&[map(30_000, "2001:db8:64::102")]).is_ok());
    for (port, inside) in [(2201, "2001:db8:64::102"), (30_000, "2001:db8:64::101")] {
        let error = build(&[map(port, inside)]).unwrap_err();
        assert!(matches!(error, crate::plan::PlanError::Nat64(_)), "{error}");
    }
}

/// A session knows its source and its client prefix by their numbers.
#[test]
fn a_reload_moves_no_source_and_no_client_prefix() {
    let keys = |prefixes: &str| format!("client-prefixes = [{prefixes}]");
    let (one, two) = ("\"2001:db8:64:c1::/96\"", "\"2001:db8:64:c2::/96\"");
    let to = |prefix: &str| site(&format!("identity = \"embedded\"\nclient-prefix = {prefix}"), "");
    let first = plan(&with(&keys(&format!("{one}, {two}")), &to(two)), None);
    let second = plan(&with(&keys(two), &to(two)), Some(&first));
    let s = second.splicer.as_ref().unwrap();
    assert_eq!(s.config.client_prefixes, [None, Some("2001:db8:64:c2::/96".parse().unwrap())]);
    assert_eq!((s.sites[0].identity, s.config.generation), (Identity::Embedded(1), 2));
    let third = plan(&with(&keys(&format!("{two}, {one}")), &to(one)), Some(&second));
    assert_eq!(third.splicer.unwrap().sites[0].identity, Identity::Embedded(0));
}

#[test]
fn connections_to_servers_come_from_one_address_of_each_tenant_network_a_virtual_routers_first() {
    let sources = |text: &str| -> Vec<String> {
        good(text).splicer.unwrap().sources.iter().map(ToString::to_string).collect()
    };
    assert_eq!(sources(&with("", "")), ["2001:db8:64::1"]);
    let vrrp = "[vrrp]\npriority = 100\n[[vrrp.router]]\nnetwork = \"tenant0\"\nvrid = 1\n\
                addresses = [\"fe80::64\", \"2001:db8:64::fe\"]\n";
    assert_eq!(sources(&with("", vrrp)), ["2001:db8:64::fe"]);
    let second = "[[network]]\nname = \"tenant1\"\nport = \"tenant0\"\nvlan = 5\nrole = \"tenant\"\n\
                  addresses6 = [\"2001:db8:65::1/64\", \"2001:db8:65::2/64\"]\n";
    assert_eq!(sources(&with("", second)), ["2001:db8:64::1", "2001:db8:65::1"]);
    assert_eq!(sources(&with("sources = [\"2001:db8:ffff::2\"]", second)), ["2001:db8:ffff::2"]);
}

#[test]
fn rfc9568_6_4_2_a_standby_gateway_answers_for_no_proxy_address() {
    let vrrp = "[vrrp]\npriority = 100\n[[vrrp.router]]\nnetwork = \"uplink0\"\nvrid = 1\naddresses = [\"192.0.2.9\"]\n";
    let plan = plan(&with("", &format!("{}{vrrp}", site("", ""))), None);
    let owns = |active| {
        let address = "203.0.113.80".parse().unwrap();
        plan.view(active)
            .interfaces
            .iter()
            .any(|(_, i)| i.owns4(address) || i.proxy4.iter().any(|p| p.contains(address)))
    };
    assert!(owns(true) && !owns(false));
}

#[test]
fn changes_of_the_splicer_are_told_by_name_and_none_needs_a_restart() {
    let sites = site("", "")
        + &site("", "").replace("site1", "site2")
        + &port_map("tcp", "203.0.113.80:2201", "[2001:db8:64::101]:22");
    let old = good(&with("", &sites));
    let told = |text: &str| -> Vec<String> {
        let new = good(text);
        assert_eq!(restart_needed(&old, &new), [], "{text}");
        changes(&old, &new).into_iter().map(|c| c.key).collect()
    };
    assert_eq!(told(LAB), ["splicer"]);
    // The first site goes: the second is not told as another.
    assert_eq!(told(&with("", &sites.replacen(&site("", ""), "", 1))), ["splicer.site[site1.example]"]);
    assert_eq!(
        told(&with("", &sites.replacen(VM1, &format!("{VM1}weight = 5\n{VM2}"), 1))),
        [
            "splicer.site[site1.example].backend[2001:db8:64::101].weight",
            "splicer.site[site1.example].backend[2001:db8:64::102]",
        ]
    );
    assert_eq!(
        told(&with("", &sites.replace("]:22", "]:23"))),
        ["splicer.port-map[tcp 203.0.113.80:2201].inside"]
    );
    let second = sites.clone() + &TLS.replace("443", "993");
    assert_eq!(told(&with("", &second)), ["splicer.listener[203.0.113.80:993]"]);
    assert_eq!(
        told(&with("", &sites).replace("tls = true", "tls = true\nhttp = true")),
        ["splicer.listener[203.0.113.80:443].http"]
    );
    assert_eq!(told(&with("timeouts = { hello = \"1s\" }", &sites)), ["splicer.timeouts.hello"]);
    // Room in the flow table does.
    let room = with("", &sites) + "[capacity]\nspliced = 77\n";
    let keys: Vec<String> = restart_needed(&old, &good(&room)).into_iter().map(|c| c.key).collect();
    assert_eq!(keys, ["capacity.spliced"]);
}

#[test]
fn what_deserves_a_second_look_is_noted() {
    let notes =
        |text: &str| good(text).notes.into_iter().filter(|n| n.starts_with("splicer")).collect::<Vec<_>>();
    let not_global = "splicer.listener[0].address: 203.0.113.80 is not globally reachable (203.0.113.0/24, RFC 5737); somebody has to translate it again";
    assert_eq!(notes(&with("", &site("", ""))), [not_global]);
    let far = site("", "").replace("2001:db8:64::101", "2001:db8:6::10") + "ports = [[993, 1]]\n";
    assert_eq!(
        notes(&with("timeouts = { established = \"1h\" }", &far)),
        [
            not_global,
            "splicer.site[0].backend[0].ports[0]: no listener has port 993",
            "splicer.site[0].backend[0].address: no tenant network may send from 2001:db8:6::10 (see `sources`)",
            "splicer.timeouts.established: 1h is less than the 2h4m of RFC 5382 5",
        ]
    );
}

#[test]
fn the_resolved_plan_tells_all_of_it() {
    let text = with(
        "client-prefixes = [\"2001:db8:64:c1::/96\"]\nlimits = { new-per-second = 50 }",
        &(site(
            "identity = \"embedded\"\nredirect = true",
            "[splicer.site.health]\ncheck = \"tls\"\nport = 443\n",
        ) + "ports = [[443, 8443]]\ndraining = true\n"
            + &port_map("udp", "203.0.113.80:53", "[2001:db8:64::101]:53")),
    );
    let out = good(&text).render();
    let lines: Vec<String> =
        out.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "splicer at 203.0.113.80",
        "one client opens 50 connections a second and 100 at once, at each worker",
        "listener 203.0.113.80:443 TLS",
        "site site1.example clients are under 2001:db8:64:c1::/96, HTTP is redirected to HTTPS",
        "servers 2001:db8:64::101 ports 443 to 8443, weight 100, draining",
        "health TLS to port 443 every 5s, for 2s; up after 2, down after 3",
        "port map udp 203.0.113.80:53 is [2001:db8:64::101]:53",
        "port maps on request none",
        "spliced 32768 (profile)",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line:?} is not in\n{out}");
    }
}

#[test]
fn the_labs_gateways_have_the_same_splicer() {
    let [one, two] =
        [include_str!("../../../etc/lab.toml"), include_str!("../../../etc/lab-gw2.toml")].map(good);
    assert_eq!(one.splicer, two.splicer);
    let s = one.splicer.unwrap();
    assert_eq!(s.sources[0].to_string(), "2001:db8:64::1");
    let sites: Vec<(&str, IdentityKind)> = s.sites.iter().map(|s| (s.name.as_str(), s.identity)).collect();
    let none = IdentityKind::None;
    assert_eq!(
        sites,
        [("site1.example", none), ("site2.example", IdentityKind::Proxy2), ("*.wild.example", none)]
    );
    assert_eq!(s.addresses(), ["203.0.113.80".parse::<Ipv4Addr>().unwrap()]);
}

#[test]
fn tens_of_thousands_of_sites_are_checked_in_no_time() {
    let sites: String = (0..20_000)
        .map(|n| format!("[[splicer.site]]\nname = \"s{n}.example\"\n[[splicer.site.backend]]\naddress = \"2001:db8:64::{:x}\"\n", n % 5000 + 2))
        .collect();
    let began = std::time::Instant::now();
    assert_eq!(good(&with("", &sites)).splicer.unwrap().sites.len(), 20_000);
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "{:?}", began.elapsed());
}
