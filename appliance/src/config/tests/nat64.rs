//! The settings of NAT64: subscribers, tenants, allocation, static mappings, translation.

use super::*;
use crate::plan::nat64_options;
use causeway_nat64 as core;

const LIMITS: &str = "[nat64.subscribers]\nprefix-length = 128\n";

/// The lab's configuration with further keys in `[nat64]`, and further sections at the end.
fn with(keys: &str, sections: &str) -> String {
    lab_with("[nat64]", &format!("[nat64]\n{keys}")) + sections
}

/// The lab's configuration with further keys in `[nat64.subscribers]`, and further sections.
fn limited(keys: &str, sections: &str) -> String {
    lab_with(LIMITS, &format!("{LIMITS}{keys}\n{sections}"))
}

fn tenant(name: &str, prefixes: &str, more: &str) -> String {
    format!("[[nat64.tenant]]\nname = \"{name}\"\nprefixes = [{prefixes}]\n{more}\n")
}

fn mapping(protocol: &str, outside: &str, inside: &str) -> String {
    format!("[[nat64.static]]\nprotocol = \"{protocol}\"\noutside = \"{outside}\"\ninside = \"{inside}\"\n")
}

const VM1: &str = "\"2001:db8:64::101/128\"";
const VM2: &str = "\"2001:db8:64::102/128\"";

#[test]
fn every_bad_value_of_nat64_is_named_with_its_key_and_what_is_allowed() {
    const SPAN: &str = "1s to 30d, as in \"2m\" (units d, h, m, s, ms in this order), or \"off\"";
    const OUTSIDE: &str = "a unicast IPv4 address and a port, as in \"203.0.113.5:2222\"";
    const INSIDE: &str = "a unicast IPv6 address in brackets and a port, as in \"[2001:db8:64::101]:22\"";
    const BLOCK: &str = "a number of ports that is a power of two, 8 to 16384";
    let rows: Vec<(&str, String, Vec<String>)> = vec![
        (
            "a hold-down without unit",
            with("hold-down = 120", ""),
            vec![format!("nat64.hold-down = 120: the unit is missing (allowed: {SPAN})")],
        ),
        (
            "a hold-down of nothing",
            with("hold-down = \"0s\"", ""),
            vec![format!("nat64.hold-down = \"0s\": zero (allowed: {SPAN})")],
        ),
        (
            "a hold-down that never ends",
            with("hold-down = \"31d\"", ""),
            vec![format!("nat64.hold-down = \"31d\": out of range 1s to 30d (allowed: {SPAN})")],
        ),
        (
            "a parity that is no boolean",
            with("keep-parity = \"yes\"", ""),
            vec!["nat64.keep-parity = \"yes\": wrong type: expected a boolean, found a string (allowed: true or false)".to_owned()],
        ),
        (
            "an octet of nine bits",
            with("tos = 256\ntraffic-class = \"keep\"", ""),
            vec![
                "nat64.tos = 256: out of range 0 to 255 (allowed: \"copy\", or the octet to write instead, 0 to 255)".to_owned(),
                "nat64.traffic-class = \"keep\": no such choice (allowed: \"copy\", or the octet to write instead, 0 to 255)".to_owned(),
            ],
        ),
        (
            "a policy for DF that there is not",
            with("df = \"copy\"", ""),
            vec!["nat64.df = \"copy\": no such choice (allowed: \"by-size\", \"always\" or \"never\")".to_owned()],
        ),
        (
            "a policy for zero checksums that there is not",
            with("udp-zero-checksum = 0", ""),
            vec!["nat64.udp-zero-checksum = 0: wrong type: expected a string, found an integer (allowed: \"compute\", \"drop\" or \"forward\")".to_owned()],
        ),
        (
            "a segment that is too small",
            with("mss-clamp = 215", ""),
            vec!["nat64.mss-clamp = 215: out of range 216 to 9560 (allowed: octets of a TCP segment, 216 to 9560, or \"off\")".to_owned()],
        ),
        (
            "a source of errors that is nobody",
            with("icmp-source = \"127.0.0.1\"", ""),
            vec!["nat64.icmp-source = \"127.0.0.1\": no address of a host (allowed: a unicast IPv4 address, as in 192.0.2.2)".to_owned()],
        ),
        (
            "a key that is nearly one",
            with("hold-dwn = \"1m\"", ""),
            vec!["nat64.hold-dwn = \"1m\": unknown key; did you mean `hold-down`? (allowed: ".to_owned()],
        ),
        (
            "a wait for fragments that is too short",
            with("timeouts = { fragment = \"500ms\" }", ""),
            vec!["nat64.timeouts.fragment = \"500ms\": out of range 1s to 30d (allowed: 1s to 30d, as in \"5m\" or \"2h4m\" (units d, h, m, s, ms in this order))".to_owned()],
        ),
        (
            "a prefix length beyond the address",
            limited("", "").replace("prefix-length = 128", "prefix-length = 129"),
            vec!["nat64.subscribers.prefix-length = 129: out of range 1 to 128 (allowed: the length of an IPv6 prefix, 1 to 128)".to_owned()],
        ),
        (
            "no subscriber at all",
            limited("capacity = 0", ""),
            vec!["nat64.subscribers.capacity = 0: out of range 1 to 16777216 (allowed: a number of subscribers, 1 to 16777216)".to_owned()],
        ),
        (
            "limits of nothing",
            limited("ports-max = 0\nsessions-max = 0\nnew-sessions-per-second = 0", ""),
            vec![
                "nat64.subscribers.ports-max = 0: out of range 1 to 65535 (allowed: a number of ports, 1 to 65535, or \"off\")".to_owned(),
                "nat64.subscribers.sessions-max = 0: out of range 1 to 536870912 (allowed: a number of sessions, 1 to 536870912, or \"off\")".to_owned(),
                "nat64.subscribers.new-sessions-per-second = 0: out of range 1 to 1000000 (allowed: a number a second, 1 to 1000000, or \"off\")".to_owned(),
            ],
        ),
        (
            "a most that is less than the least",
            limited("ports-min = 200\nports-max = 100", ""),
            vec!["nat64.subscribers.ports-max = 100: 100, less than `ports-min`, which is 200 (allowed: 200 or more, or \"off\")".to_owned()],
        ),
        (
            "more ports promised than there are",
            limited("ports-min = 101", "").replace("[nat64]", "[nat64]\nports = \"2000-2099\""),
            vec!["nat64.subscribers.ports-min = 101: 101 ports of a range that has 100 (2000-2099) (allowed: 0 to 100)".to_owned()],
        ),
        (
            "a tenant that inherits a least larger than its own most",
            limited("ports-min = 200", &tenant("shop", VM1, "ports-max = 100")),
            vec!["nat64.tenant[0].ports-max = 100: 100, less than `ports-min`, which is 200 (allowed: 200 or more, or \"off\")".to_owned()],
        ),
        (
            "a tenant without hosts",
            with("", "[[nat64.tenant]]\nname = \"shop\"\n"),
            vec!["nat64.tenant[0].prefixes: missing (allowed: one or more IPv6 prefixes of the tenant's hosts)".to_owned()],
        ),
        (
            "a tenant with an empty list of hosts",
            with("", &tenant("shop", "", "")),
            vec!["nat64.tenant[0].prefixes = []: empty (allowed: one or more)".to_owned()],
        ),
        (
            "two tenants of one name",
            with("", &(tenant("shop", VM1, "") + &tenant("shop", VM2, ""))),
            vec!["nat64.tenant[1].name = \"shop\": nat64.tenant[0].name is the same tenant name (allowed: each tenant name once)".to_owned()],
        ),
        (
            "tenants that overlap",
            with("", &(tenant("shop", VM1, "") + &tenant("all", "\"2001:db8:64::/64\"", ""))),
            vec!["nat64.tenant[0].prefixes[0] = \"2001:db8:64::101/128\": overlaps 2001:db8:64::/64 of nat64.tenant[1].prefixes[0] (allowed: prefixes without addresses in common)".to_owned()],
        ),
        (
            "a tenant of translated addresses",
            with("", &tenant("shop", "\"2001:db8:64:ff9b::/64\"", "")),
            vec!["nat64.tenant[0].prefixes[0] = \"2001:db8:64:ff9b::/64\": overlaps the NAT64 prefix 2001:db8:64:ff9b::/96 of nat64.prefixes[0] (allowed: a prefix that is not translated)".to_owned()],
        ),
        (
            "a tenant of a group",
            with("", &tenant("shop", "\"ff02::/16\"", "")),
            vec!["nat64.tenant[0].prefixes[0] = \"ff02::/16\": no host sends from there through NAT64 (allowed: a unicast prefix of hosts)".to_owned()],
        ),
        (
            "a tenant's pool out of the shared one",
            with("", &tenant("shop", VM1, "pool = [\"203.0.113.4/30\"]")),
            vec!["nat64.tenant[0].pool[0] = \"203.0.113.4/30\": overlaps 203.0.113.0/28 of nat64.pool[0] (allowed: pools without addresses in common)".to_owned()],
        ),
        (
            "a tenant's pool with an own address",
            with("", &tenant("shop", VM1, "pool = [\"192.0.2.2\"]")),
            vec!["nat64.tenant[0].pool[0] = \"192.0.2.2\": holds 192.0.2.2, an address of the gateway itself (network[1].addresses4[0]) (allowed: addresses that nobody else has)".to_owned()],
        ),
        (
            "a mode that there is not",
            with("", "[nat64.allocation]\nmode = \"random\"\n"),
            vec!["nat64.allocation.mode = \"random\": no such choice (allowed: \"single\", \"blocks\" or \"deterministic\")".to_owned()],
        ),
        (
            "a block that is no power of two",
            with("", "[nat64.allocation]\nmode = \"blocks\"\nblock-size = 100\n"),
            vec![format!("nat64.allocation.block-size = 100: no power of two (allowed: {BLOCK})")],
        ),
        (
            "a block that is too small",
            with("", "[nat64.allocation]\nmode = \"blocks\"\nblock-size = 4\n"),
            vec![format!("nat64.allocation.block-size = 4: out of range 8 to 16384 (allowed: {BLOCK})")],
        ),
        (
            "blocks where there are none",
            with("", "[nat64.allocation]\nblock-size = 64\nhosts = []\n"),
            vec![
                "nat64.allocation.block-size = 64: the mode is \"single\" (allowed: only with mode = \"blocks\")".to_owned(),
                "nat64.allocation.hosts = []: the mode is \"single\" (allowed: only with mode = \"deterministic\")".to_owned(),
            ],
        ),
        (
            "a block larger than the range of ports",
            with("ports = \"2000-2099\"", "[nat64.allocation]\nmode = \"blocks\"\nblock-size = 128\n"),
            vec!["nat64.allocation.block-size = 128: a block of 128 ports of a range that has 100 (2000-2099) (allowed: smaller blocks)".to_owned()],
        ),
        (
            "the default block, larger than the range of ports",
            with("ports = \"2000-2099\"", "[nat64.allocation]\nmode = \"blocks\"\n"),
            vec!["nat64.allocation: a block of 256 ports of a range that has 100 (2000-2099) (allowed: smaller blocks)".to_owned()],
        ),
        (
            "less than a block at most",
            limited("ports-max = 100", "[nat64.allocation]\nmode = \"blocks\"\nblock-size = 128\n"),
            vec!["nat64.subscribers.ports-max = 100: 100, less than a block of 128 ports (allowed: 128 or more, or \"off\")".to_owned()],
        ),
        (
            "RFC 7422: calculation without hosts",
            with("", "[nat64.allocation]\nmode = \"deterministic\"\n"),
            vec!["nat64.allocation.hosts: missing (allowed: one or more IPv6 prefixes in which subscribers are)".to_owned()],
        ),
        (
            "RFC 7422: hosts twice",
            with("", "[nat64.allocation]\nmode = \"deterministic\"\nhosts = [\"2001:db8:64::100/124\", \"2001:db8:64::108/125\"]\n"),
            vec!["nat64.allocation.hosts[1] = \"2001:db8:64::108/125\": overlaps 2001:db8:64::100/124 of nat64.allocation.hosts[0] (allowed: prefixes without addresses in common)".to_owned()],
        ),
        (
            "RFC 7422: less than a subscriber",
            with("", "[nat64.allocation]\nmode = \"deterministic\"\nhosts = [\"2001:db8:64::100/124\"]\n").replace("prefix-length = 128", "prefix-length = 64"),
            vec!["nat64.allocation.hosts[0] = \"2001:db8:64::100/124\": longer than nat64.subscribers.prefix-length, which is 64 (allowed: a prefix of length 64 or less)".to_owned()],
        ),
        (
            "a static mapping of a protocol without ports",
            with("", &mapping("icmp", "203.0.113.5:1", "[2001:db8:64::101]:1")),
            vec!["nat64.static[0].protocol = \"icmp\": no such choice (allowed: \"tcp\" or \"udp\")".to_owned()],
        ),
        (
            "a static mapping without ports",
            with("", &mapping("tcp", "203.0.113.5", "2001:db8:64::101")),
            vec![
                format!("nat64.static[0].outside = \"203.0.113.5\": not an IPv4 address and a port (allowed: {OUTSIDE})"),
                format!("nat64.static[0].inside = \"2001:db8:64::101\": not an IPv6 address and a port (allowed: {INSIDE})"),
            ],
        ),
        (
            "a static mapping that is not finished",
            with("", "[[nat64.static]]\nprotocol = \"tcp\"\n"),
            vec![
                format!("nat64.static[0].outside: missing (allowed: {OUTSIDE})"),
                format!("nat64.static[0].inside: missing (allowed: {INSIDE})"),
            ],
        ),
        (
            "RFC 6146 3.1: an outside port twice, and a server twice",
            with(
                "",
                &(mapping("tcp", "203.0.113.5:2222", "[2001:db8:64::101]:22")
                    + &mapping("tcp", "203.0.113.5:2222", "[2001:db8:64::102]:22")
                    + &mapping("tcp", "203.0.113.5:2223", "[2001:db8:64::101]:22")
                    + &mapping("udp", "203.0.113.5:2222", "[2001:db8:64::101]:22")),
            ),
            vec![
                "nat64.static[1].outside = \"203.0.113.5:2222\": nat64.static[0].outside has this address and port of tcp already (allowed: each outside address and port once)".to_owned(),
                "nat64.static[2].inside = \"[2001:db8:64::101]:22\": nat64.static[0].inside has this server of tcp already (allowed: each server's address and port once (RFC 6146 3.1))".to_owned(),
            ],
        ),
        (
            "a static mapping on the gateway's own address",
            with("", &mapping("tcp", "192.0.2.2:2222", "[2001:db8:64::1]:22")),
            vec![
                "nat64.static[0].outside = \"192.0.2.2:2222\": 192.0.2.2 is an address of the gateway itself (network[1].addresses4[0]) (allowed: an address that nobody else has)".to_owned(),
                "nat64.static[0].inside = \"[2001:db8:64::1]:22\": 2001:db8:64::1 is an address of the gateway itself (network[0].addresses6[0]) (allowed: the address of a server)".to_owned(),
            ],
        ),
        (
            "a static mapping on the router's address",
            with("", &mapping("udp", "192.0.2.1:53", "[2001:db8:64::101]:53")),
            vec!["nat64.static[0].outside = \"192.0.2.1:53\": 192.0.2.1 is the router of route[1].via (allowed: an address that nobody else has)".to_owned()],
        ),
        (
            "a static mapping to a translated address",
            with("", &mapping("udp", "203.0.113.5:53", "[2001:db8:64:ff9b::1]:53")),
            vec!["nat64.static[0].inside = \"[2001:db8:64:ff9b::1]:53\": in the NAT64 prefix 2001:db8:64:ff9b::/96 of nat64.prefixes[0] (allowed: the address of a server)".to_owned()],
        ),
        (
            "a static mapping on another tenant's address",
            with(
                "",
                &(tenant("shop", VM2, "pool = [\"203.0.113.16\"]")
                    + &mapping("tcp", "203.0.113.16:22", "[2001:db8:64::101]:22")),
            ),
            vec!["nat64.static[0].outside = \"203.0.113.16:22\": in the pool of tenant `shop`, whose prefixes do not hold 2001:db8:64::101 (allowed: an address of a shared pool, or of no pool)".to_owned()],
        ),
        (
            "RFC 6052 3.1: a static mapping on a documentation address under the well-known prefix",
            with("", &mapping("tcp", "203.0.113.5:22", "[2001:db8:64::101]:22"))
                .replace("2001:db8:64:ff9b::/96", "64:ff9b::/96")
                .replace("203.0.113.0/28", "198.200.0.0/28"),
            vec!["nat64.static[0].outside = \"203.0.113.5:22\": not global (203.0.113.0/24, RFC 5737), but nat64.prefixes[0] is the well-known prefix (allowed: a global IPv4 address, or a prefix of the network's own (RFC 6052 3.1))".to_owned()],
        ),
        (
            "RFC 7422: too few ports for each",
            with("", "[nat64.allocation]\nmode = \"deterministic\"\nhosts = [\"2001:db8:64::/108\"]\n"),
            vec!["nat64.allocation: 16 pool addresses leave each of the 1048576 subscribers of the deterministic hosts 0 ports; at least 8 are needed".to_owned()],
        ),
        (
            "more blocks than a subscriber can have",
            limited("ports-max = 1000", "[nat64.allocation]\nmode = \"blocks\"\nblock-size = 8\n"),
            vec!["nat64.subscribers.ports-max = 1000: 1000 ports of all are 125 blocks of 8; at most 32 blocks are possible".to_owned()],
        ),
        (
            "ports promised to a tenant where they are calculated",
            with(
                "",
                &(tenant("shop", VM1, "ports-min = 5")
                    + "[nat64.allocation]\nmode = \"deterministic\"\nhosts = [\"2001:db8:64::/120\"]\n"),
            ),
            vec!["nat64.tenant[0].ports-min = 5: ports-min of `shop` is 5; with deterministic allocation every subscriber has its ports: allowed is 0".to_owned()],
        ),
        (
            "too many tenants",
            with("", &(0..1025).map(|n| tenant(&format!("t{n}"), &format!("\"2001:db8:64::1:{n:x}/128\""), "")).collect::<String>()),
            vec!["nat64.tenant[1024].prefixes[0] = \"2001:db8:64::1:400/128\": there are 1025 tenants; at most 1024 are possible".to_owned()],
        ),
    ];
    let mut wrong = String::new();
    for (what, text, expected) in rows {
        let found = said(&text);
        // The list of all keys is long, and grows: a message that ends in "(allowed: " stands for it.
        let same =
            |(f, e): (&String, &String)| f == e || (e.ends_with("(allowed: ") && f.starts_with(e.as_str()));
        if found.len() != expected.len() || !found.iter().zip(&expected).all(same) {
            wrong.push_str(&format!("{what}:\n  found    {found:#?}\n  expected {expected:#?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_default_of_nat64_is_the_translators_own() {
    let text = LAB.replace(LIMITS, "");
    let c = parse(&text).unwrap();
    let (ours, theirs) = (nat64_options(c.nat64.as_ref().unwrap(), &[], 0), core::Options::default());
    assert_eq!((ours.first_port, ours.last_port), (theirs.first_port, theirs.last_port));
    assert_eq!((ours.filtering, ours.timeouts), (theirs.filtering, theirs.timeouts));
    assert_eq!((ours.hold_down, ours.keep_parity), (theirs.hold_down, theirs.keep_parity));
    assert_eq!((ours.policy, ours.icmp_source), (theirs.policy, theirs.icmp_source));
    assert_eq!((ours.allocation, ours.static_mappings), (theirs.allocation, theirs.static_mappings));
    // A burst says nothing without a rate.
    let mut subscribers = ours.subscribers;
    assert_eq!(subscribers.limits.new_sessions_per_second, None);
    subscribers.limits.new_sessions_burst = 0;
    assert_eq!(subscribers, theirs.subscribers);
}

#[test]
fn every_setting_of_nat64_reaches_the_translator() {
    let keys = "filtering = \"address-dependent\"\nhold-down = \"off\"\nkeep-parity = false\ntos = 0\n\
                traffic-class = 184\ndf = \"always\"\nudp-zero-checksum = \"drop\"\nmss-clamp = 1220\n\
                identify-routers = false\nicmp-source = \"192.0.2.2\"\ntimeouts = { fragment = \"5s\" }";
    let limits = "ports-min = 16\nports-max = 1024\nsessions-max = 5000\nnew-sessions-per-second = 50\n\
                  new-sessions-burst = 7\ncapacity = 1000\n";
    let sections = tenant("shop", VM1, "pool = [\"203.0.113.16\"]\nports-max = \"off\"\nsessions-max = 9")
        + &tenant("bank", VM2, "")
        + "[nat64.allocation]\nmode = \"blocks\"\nblock-size = 64\n"
        + &mapping("tcp", "203.0.113.5:2222", "[2001:db8:64::102]:22")
        + &mapping("udp", "203.0.113.77:53", "[2001:db8:64::102]:53");
    let c = parse(&limited(limits, &sections).replace("[nat64]", &format!("[nat64]\n{keys}"))).unwrap();
    let n = c.nat64.as_ref().unwrap();
    let o = nat64_options(n, &[], 0x1_0005);
    assert_eq!((o.generation, o.filtering), (5, core::Filtering::AddressDependent));
    assert_eq!((o.hold_down.as_secs(), o.keep_parity, o.timeouts.fragment.as_secs()), (0, false, 5));
    assert_eq!(
        o.policy,
        core::Policy {
            tos: core::ClassPolicy::Set(0),
            traffic_class: core::ClassPolicy::Set(184),
            df: core::DfPolicy::Always,
            udp_zero: core::UdpZero::Drop,
            lowest_ipv6_mtu: 1280,
            clamp_mss: Some(1220),
            identify_routers: false,
        }
    );
    assert_eq!(o.icmp_source, Some(Ipv4Addr::new(192, 0, 2, 2)));
    let limits = core::Limits {
        ports_min: 16,
        ports_max: Some(1024),
        sessions_max: Some(5000),
        new_sessions_per_second: Some(50),
        new_sessions_burst: 7,
    };
    let tenant = |name: &str, prefix: &str| core::Tenant {
        name: name.to_owned(),
        prefixes: vec![prefix.parse().unwrap()],
        limits,
        pool: Vec::new(),
    };
    let shop = core::Tenant {
        // What a tenant does not say is as for others.
        limits: core::Limits { ports_max: None, sessions_max: Some(9), ..limits },
        pool: vec!["203.0.113.16/32".parse().unwrap()],
        ..tenant("shop", "2001:db8:64::101/128")
    };
    assert_eq!(
        o.subscribers,
        core::Subscribers {
            prefix_length: 128,
            limits,
            tenants: vec![shop, tenant("bank", "2001:db8:64::102/128")],
            capacity: 1000,
        }
    );
    assert_eq!(o.allocation, core::Allocation::Blocks { ports: 64 });
    let inside = "2001:db8:64::102".parse().unwrap();
    let fixed = |protocol, outside: [u8; 4], out_port, port| core::StaticMapping {
        protocol,
        outside: (outside.into(), out_port),
        inside: (inside, port),
    };
    assert_eq!(
        o.static_mappings,
        [fixed(6, [203, 0, 113, 5], 2222, 22), fixed(17, [203, 0, 113, 77], 53, 53)]
    );
    // Everything that NAT64 answers for is asked for on the uplink and taken from it.
    let addresses: Vec<String> = core::Config::new(o).unwrap().addresses().map(|p| p.to_string()).collect();
    assert_eq!(addresses, ["203.0.113.0/28", "203.0.113.16/32", "203.0.113.77/32"]);
    // And all of it is in the plan that people read.
    let text = c.render();
    for line in [
        "  filtering            address-dependent",
        "  ports rest           off",
        "  UDP parity           not kept",
        "  type of service      0",
        "  traffic class        184",
        "  DF                   always",
        "  UDP checksum zero    drop",
        "  TCP MSS clamp        1220",
        "  errors name routers  no",
        "  errors come from     192.0.2.2",
        "  subscribers          each /128, at most 1000 at once",
        "    may have           16 to 1024 ports of each protocol, 5000 sessions, 50 new ones a second and 7 at once",
        "  tenant shop          2001:db8:64::101/128",
        "    pool               203.0.113.16/32",
        "    may have           16 to any number of ports of each protocol, 9 sessions, 50 new ones a second and 7 at once",
        "  allocation           blocks of 64 ports",
        "  static tcp           203.0.113.5:2222 is [2001:db8:64::102]:22",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn rfc7422_hosts_are_calculated_in_the_order_of_the_file() {
    let text = with(
        "",
        "[nat64.allocation]\nmode = \"deterministic\"\nhosts = [\"2001:db8:64::200/120\", \"2001:db8:64::100/120\"]\n",
    );
    let n = parse(&text).unwrap().nat64.unwrap();
    let hosts = ["2001:db8:64::200/120", "2001:db8:64::100/120"].map(|p| p.parse().unwrap());
    assert_eq!(nat64_options(&n, &[], 0).allocation, core::Allocation::Deterministic { hosts: hosts.into() });
}

#[test]
fn hosts_that_nobody_may_be_are_noted() {
    let text = with(
        "",
        &(tenant("far", "\"2001:db8:99::/64\"", "")
            + &mapping("tcp", "203.0.113.5:22", "[2001:db8:98::1]:22")),
    );
    let notes = parse(&text).unwrap().notes;
    for note in [
        "nat64.tenant[0].prefixes[0]: no tenant network may send from 2001:db8:99::/64 (see `sources`)",
        "nat64.static[0].inside: no tenant network may send from 2001:db8:98::1 (see `sources`)",
    ] {
        assert!(notes.iter().any(|n| n == note), "{note}: {notes:?}");
    }
}

#[test]
fn changes_of_nat64_are_told_by_name_and_only_the_subscriber_table_needs_a_restart() {
    let statics = mapping("tcp", "203.0.113.5:2222", "[2001:db8:64::101]:22");
    let shop = tenant("shop", VM1, "pool = [\"203.0.113.16\"]");
    let old = parse(&with("", &format!("{shop}{statics}"))).unwrap();
    let keys = |text: &str| -> (Vec<String>, Vec<String>) {
        let new = parse(text).unwrap_or_else(|e| panic!("{e}"));
        let key = |c: Change| c.key;
        (
            changes(&old, &new).into_iter().map(key).collect(),
            restart_needed(&old, &new).into_iter().map(key).collect(),
        )
    };
    let none: Vec<String> = Vec::new();
    let live = |text: &str, expected: &[&str]| {
        assert_eq!(keys(text), (expected.iter().map(ToString::to_string).collect(), none.clone()));
    };
    live(
        &with("hold-down = \"off\"\ntos = 0\ndf = \"never\"\nmss-clamp = 1220", &format!("{shop}{statics}")),
        &["nat64.df", "nat64.hold-down", "nat64.mss-clamp", "nat64.tos"],
    );
    live(
        &with("", &format!("{}{statics}", tenant("shop", VM1, "pool = [\"203.0.113.17\"]\nports-max = 5"))),
        &["nat64.tenant[shop].pool", "nat64.tenant[shop].ports-max"],
    );
    // Another tenant or static mapping in front does not rename those that were there.
    live(&with("", &format!("{}{shop}{statics}", tenant("bank", VM2, ""))), &["nat64.tenant[bank]"]);
    let more = mapping("udp", "203.0.113.5:2222", "[2001:db8:64::102]:22");
    live(&with("", &format!("{shop}{more}{statics}")), &["nat64.static[udp 203.0.113.5:2222]"]);
    live(
        &with("", &format!("{shop}{}", statics.replace("::101", "::102"))),
        &["nat64.static[tcp 203.0.113.5:2222].inside"],
    );
    live(
        &with("", &format!("{shop}{statics}[nat64.allocation]\nmode = \"blocks\"\n")),
        &["nat64.allocation.block-size", "nat64.allocation.mode"],
    );
    let larger = limited("capacity = 70000\nports-max = 100", &format!("{shop}{statics}"));
    let (changed, restart) = keys(&larger);
    assert!(changed.contains(&"nat64.subscribers.ports-max".to_owned()), "{changed:?}");
    assert_eq!(restart, ["nat64.subscribers.capacity"]);
}

#[test]
fn thousands_of_tenants_and_static_mappings_are_checked_in_no_time() {
    let mut sections = String::new();
    for n in 0..4000u32 {
        if n < 1000 {
            sections += &tenant(&format!("t{n}"), &format!("\"2001:db8:64::1:{n:x}/128\""), "");
        }
        sections += &mapping("tcp", &format!("203.0.113.5:{}", n + 1), &format!("[2001:db8:64::1:{n:x}]:22"));
    }
    let began = std::time::Instant::now();
    let n = parse(&with("", &sections)).unwrap().nat64.unwrap();
    assert_eq!((n.tenants.len(), n.static_mappings.len()), (1000, 4000));
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "{:?}", began.elapsed());
}
