use super::*;
use proptest::prelude::*;

const LAB: &str = include_str!("../testing/gateway.toml");
const EXAMPLE: &str = include_str!("../../etc/causeway.toml");

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse("test.toml", text)
}

/// The lab's configuration with one piece of text replaced, which has to be there.
fn lab_with(from: &str, to: &str) -> String {
    assert!(LAB.contains(from), "the lab's configuration has no {from:?}");
    LAB.replacen(from, to, 1)
}

/// What is said of a text, without file and line.
fn said(text: &str) -> Vec<String> {
    let Err(errors) = parse(text) else { return Vec::new() };
    errors
        .list()
        .iter()
        .map(|e| {
            assert_eq!(e.file, "test.toml");
            let whole = e.to_string();
            let start = e.line.map_or_else(|| "test.toml: ".to_owned(), |line| format!("test.toml:{line}: "));
            whole.strip_prefix(&start).map_or(whole.clone(), ToOwned::to_owned)
        })
        .collect()
}

#[test]
fn rfc6146_4_the_default_timeouts_are_the_rfcs() {
    let t = parse(LAB).unwrap().nat64.unwrap().timeouts;
    let seconds =
        [t.udp, t.tcp_established, t.tcp_opening, t.tcp_transitory, t.tcp_incoming_syn, t.icmp, t.fragment]
            .map(|s| s.duration().as_secs());
    assert_eq!(seconds, [5 * 60, 2 * 3600 + 4 * 60, 4 * 60, 4 * 60, 6, 60, 2]);
}

#[test]
fn the_example_says_what_is_the_default_anyway() {
    // Every commented-out setting of the example, switched on: it must still be good, so that the
    // example cannot rot. Commented settings begin with `#` and no space, prose with `# `.
    parse(EXAMPLE).unwrap_or_else(|e| panic!("{e}"));
    let all: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            // A folder that is not there is an error; it would have to be made for this.
            Some(setting) if setting.starts_with("profile-dir") => line,
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => setting,
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    assert_ne!(all, EXAMPLE);
    let c = parse(&all).unwrap_or_else(|e| panic!("{e}"));
    let plain = parse(EXAMPLE).unwrap();
    // Settings that stand for a default have that value.
    assert_eq!(
        (c.icmp, c.neighbor, c.watchdog, &c.log),
        (plain.icmp, plain.neighbor, plain.watchdog, &plain.log)
    );
    first_hop::the_examples_settings_are_defaults(&c, &plain);
    dns64::the_examples_settings_are_defaults(&c, &plain);
    splicer::the_examples_settings_are_defaults(&c, &plain);
    let (all, plain) = (c.nat64.unwrap(), plain.nat64.unwrap());
    assert_eq!((all.timeouts, all.subscribers), (plain.timeouts, plain.subscribers));
    assert_eq!((all.tenants.len(), all.static_mappings.len()), (1, 1));
    // But for what has no default, they are all the same.
    let without =
        Nat64 { icmp_source: None, tenants: Vec::new(), static_mappings: Vec::new(), ..all.clone() };
    assert_eq!((all.icmp_source.is_some(), without), (true, plain));
}

/// Bad input, a row each: what is replaced in the lab's file, by what, and all that is said of it.
#[test]
fn every_bad_value_is_named_with_its_key_and_what_is_allowed() {
    const NAME: &str = "1 to 32 letters, digits, `-`, `_` and `.`, beginning with a letter or digit";
    const OWN6: &str =
        "a global unicast IPv6 address and the length of its on-link prefix, as in 2001:db8:64::1/64";
    const OWN4: &str = "a unicast IPv4 address and the length of its on-link prefix, as in 192.0.2.2/24";
    const PREFIX4: &str = "an IPv4 prefix without bits behind it, as in 203.0.113.0/28";
    const NAT64: &str = "an IPv6 prefix of length 32, 40, 48, 56, 64 or 96 whose bits 64 to 71 are zero, as in 2001:db8:64:ff9b::/96";
    const TIMEOUT: &str = "1s to 30d, as in \"5m\" or \"2h4m\" (units d, h, m, s, ms in this order)";
    let address6 = r#"addresses6 = ["2001:db8:64::1/64"]"#;
    let address4 = r#"addresses4 = ["192.0.2.2/24"]"#;
    let pool = r#"pool = ["203.0.113.0/28"]"#;
    let prefixes = r#"prefixes = ["2001:db8:64:ff9b::/96"]"#;
    let rows: Vec<(&str, &str, String, Vec<String>)> = vec![
        (
            "unknown key",
            "profile = \"veth\"",
            "profile = \"veth\"\nprofil = 1".to_owned(),
            vec!["gateway.profil = 1: unknown key; did you mean `profile`? (allowed: cores, main-core, name, profile, profile-dir, workers)".to_owned()],
        ),
        (
            "unknown section",
            "[nat64]",
            "[nat46]\nx = 1\n[nat64]".to_owned(),
            vec!["nat46: unknown key; did you mean `nat64`? (allowed: capacity, control, dhcpv6, dns, dns64, gateway, icmp, isolation, log, nat64, neighbor, network, port, route, splicer, vrrp, watchdog)".to_owned()],
        ),
        (
            "wrong type",
            "name = \"cw-gw\"",
            "name = 5".to_owned(),
            vec![format!("gateway.name = 5: wrong type: expected a string, found an integer (allowed: {NAME})")],
        ),
        (
            "a table where a value belongs",
            "profile = \"veth\"",
            "profile = { name = \"veth\" }".to_owned(),
            vec![format!("gateway.profile = {{ name = \"veth\" }}: wrong type: expected a string, found a table (allowed: {NAME})")],
        ),
        (
            "a value where an array belongs",
            pool,
            "pool = \"203.0.113.0/28\"".to_owned(),
            vec![format!("nat64.pool = \"203.0.113.0/28\": wrong type: expected an array, found a string (allowed: an array; each element: {PREFIX4})")],
        ),
        (
            "missing key",
            "name = \"cw-gw\"\n",
            String::new(),
            vec![format!("gateway.name: missing (allowed: {NAME})")],
        ),
        (
            "address outside its prefix",
            address6,
            "on-link = [\"2001:db8:64::/64\"]\naddresses6 = [\"2001:db8:65::1\"]".to_owned(),
            vec!["network[0].addresses6[0] = \"2001:db8:65::1\": outside the on-link prefixes of its network (allowed: an address in 2001:db8:64::/64, or one with the length of its own prefix)".to_owned()],
        ),
        (
            "address without a prefix",
            address4,
            "addresses4 = [\"192.0.2.2\"]".to_owned(),
            vec![
                format!("network[1].addresses4[0] = \"192.0.2.2\": the length of its on-link prefix is missing (allowed: {OWN4})"),
            ],
        ),
        (
            "NAT64 without an IPv4 uplink",
            address4,
            String::new(),
            vec![
                "route[1].via = \"192.0.2.1\": on the link of no network (allowed: the address of a router on one of the networks)".to_owned(),
                "nat64: no uplink has an IPv4 address (allowed: at least one [[network]] with role = \"uplink\" and `addresses4`)".to_owned(),
            ],
        ),
        (
            "link-local address outside its prefix",
            "link-local = \"fe80::1\"",
            "link-local = \"fe81::1\"".to_owned(),
            vec!["network[0].link-local = \"fe81::1\": outside fe80::/64 (allowed: an address in fe80::/64, as in fe80::1)".to_owned()],
        ),
        (
            "RFC 4291 2.6.1: the anycast address of routers",
            address6,
            "addresses6 = [\"2001:db8:64::/64\"]".to_owned(),
            vec![format!("network[0].addresses6[0] = \"2001:db8:64::/64\": the first address of a prefix is the Subnet-Router anycast address (allowed: {OWN6})")],
        ),
        (
            "RFC 1122 3.2.1.3: a broadcast address",
            address4,
            "addresses4 = [\"192.0.2.255/24\"]".to_owned(),
            vec![format!("network[1].addresses4[0] = \"192.0.2.255/24\": the network or broadcast address of 192.0.2.0/24 (allowed: {OWN4})")],
        ),
        (
            "the same address twice",
            address6,
            "addresses6 = [\"2001:db8:64::1/64\", \"2001:db8:64::1/64\"]".to_owned(),
            vec!["network[0].addresses6[1] = \"2001:db8:64::1/64\": the same address again (allowed: each address once)".to_owned()],
        ),
        (
            "networks that overlap",
            address6,
            "addresses6 = [\"2001:db8:ffff::1:1/112\"]".to_owned(),
            vec!["network[1].addresses6[0] = \"2001:db8:ffff::2/64\": its prefix 2001:db8:ffff::/64 overlaps 2001:db8:ffff::1:0/112 of network[0].addresses6[0] (allowed: networks without addresses in common)".to_owned()],
        ),
        (
            "pools that overlap",
            pool,
            "pool = [\"203.0.113.0/28\", \"203.0.113.8/29\"]".to_owned(),
            vec!["nat64.pool[1] = \"203.0.113.8/29\": overlaps 203.0.113.0/28 of nat64.pool[0] (allowed: pools without addresses in common)".to_owned()],
        ),
        (
            "a pool with an own address",
            pool,
            "pool = [\"203.0.113.0/28\", \"192.0.2.2\"]".to_owned(),
            vec!["nat64.pool[1] = \"192.0.2.2\": holds 192.0.2.2, an address of the gateway itself (network[1].addresses4[0]) (allowed: addresses that nobody else has)".to_owned()],
        ),
        (
            "a pool with the router's address",
            pool,
            "pool = [\"192.0.2.0/31\"]".to_owned(),
            vec!["nat64.pool[0] = \"192.0.2.0/31\": holds 192.0.2.1, the router of route[1].via (allowed: addresses that nobody else has)".to_owned()],
        ),
        (
            "a pool with bits behind its prefix",
            pool,
            "pool = [\"203.0.113.1/28\"]".to_owned(),
            vec![format!("nat64.pool[0] = \"203.0.113.1/28\": bits behind the prefix are set; the prefix would be 203.0.113.0/28 (allowed: {PREFIX4})")],
        ),
        (
            "an empty pool",
            pool,
            "pool = []".to_owned(),
            vec!["nat64.pool = []: empty (allowed: one or more)".to_owned()],
        ),
        (
            "a pool of multicast addresses",
            pool,
            "pool = [\"224.0.0.0/28\"]".to_owned(),
            vec!["nat64.pool[0] = \"224.0.0.0/28\": holds addresses that are no host's (allowed: unicast addresses that are routed to the gateway)".to_owned()],
        ),
        (
            "a pool that is too large",
            pool,
            "pool = [\"198.0.0.0/15\"]".to_owned(),
            vec!["nat64.pool[0] = \"198.0.0.0/15\": too many addresses in the pools together (allowed: at most 4096)".to_owned()],
        ),
        (
            "RFC 6052 3.1: documentation addresses under the well-known prefix",
            prefixes,
            "prefixes = [\"64:ff9b::/96\"]".to_owned(),
            vec!["nat64.pool[0] = \"203.0.113.0/28\": not global (203.0.113.0/24, RFC 5737), but nat64.prefixes[0] is the well-known prefix (allowed: global IPv4 addresses, or a prefix of the network's own (RFC 6052 3.1))".to_owned()],
        ),
        (
            "RFC 6052 2.2: a length that no NAT64 prefix has",
            prefixes,
            "prefixes = [\"2001:db8:64:ff9b::/80\"]".to_owned(),
            vec![format!("nat64.prefixes[0] = \"2001:db8:64:ff9b::/80\": a NAT64 prefix has no length of 80 (allowed: {NAT64})")],
        ),
        (
            "RFC 6052 2.2: bits 64 to 71",
            prefixes,
            "prefixes = [\"2001:db8:64:ff9b:100::/96\"]".to_owned(),
            vec![format!("nat64.prefixes[0] = \"2001:db8:64:ff9b:100::/96\": bits 64 to 71 are not zero (allowed: {NAT64})")],
        ),
        (
            "a prefix around the well-known one",
            prefixes,
            "prefixes = [\"64:ff9b::/64\"]".to_owned(),
            vec![format!("nat64.prefixes[0] = \"64:ff9b::/64\": holds the well-known prefix 64:ff9b::/96 and more (allowed: {NAT64})")],
        ),
        (
            "a NAT64 prefix inside a tenant's",
            prefixes,
            "prefixes = [\"2001:db8:64::/96\"]".to_owned(),
            vec!["nat64.prefixes[0] = \"2001:db8:64::/96\": overlaps 2001:db8:64::/64, which is on the link of network `tenant0` (network[0].addresses6[0]) (allowed: a prefix that no host has addresses of)".to_owned()],
        ),
        (
            "NAT64 prefixes that overlap",
            prefixes,
            "prefixes = [\"2001:db8:100::/40\", \"2001:db8:122:344::/96\"]".to_owned(),
            vec!["nat64.prefixes[1] = \"2001:db8:122:344::/96\": overlaps 2001:db8:100::/40 of nat64.prefixes[0] (allowed: prefixes without addresses in common)".to_owned()],
        ),
        (
            "zero capacity",
            "[[port]]",
            "[capacity]\nsessions = 0\n[[port]]".to_owned(),
            vec!["capacity.sessions = 0: out of range 1 to 536870912 (allowed: a number of entries, 1 to 536870912)".to_owned()],
        ),
        (
            "capacity as text",
            "[[port]]",
            "[capacity]\nmappings = \"many\"\n[[port]]".to_owned(),
            vec!["capacity.mappings = \"many\": wrong type: expected an integer, found a string (allowed: a number of entries, 1 to 536870912)".to_owned()],
        ),
        (
            "a port without a network",
            "[[network]]",
            "[[port]]\nname = \"spare\"\ndevice = \"net_af_packet2,iface=spare\"\n[[network]]".to_owned(),
            vec!["port[2].name = \"spare\": no network is on this port (allowed: a [[network]] with this `port` for each [[port]])".to_owned()],
        ),
        (
            "a port that is not there",
            "port = \"uplink0\"",
            "port = \"uplink1\"".to_owned(),
            vec![
                "port[1].name = \"uplink0\": no network is on this port (allowed: a [[network]] with this `port` for each [[port]])".to_owned(),
                "network[1].port = \"uplink1\": there is no such port (allowed: the name of a [[port]]: tenant0, uplink0)".to_owned(),
            ],
        ),
        (
            "one device twice",
            "net_af_packet1,iface=uplink0",
            "net_af_packet1,iface=tenant0".to_owned(),
            vec!["port[1].device = \"net_af_packet1,iface=tenant0\": `iface=tenant0` is used by port[0].device as well (allowed: each device once)".to_owned()],
        ),
        (
            "device and pci at once",
            "device = \"net_af_packet1,iface=uplink0\"",
            "device = \"net_af_packet1,iface=uplink0\"\npci = \"0000:3b:00.0\"".to_owned(),
            vec!["port[1].pci = \"0000:3b:00.0\": there is a `device` as well (allowed: either `device` or `pci`)".to_owned()],
        ),
        (
            "a PCI address that is none",
            "device = \"net_af_packet1,iface=uplink0\"",
            "pci = \"3b:00.0\"".to_owned(),
            vec!["port[1].pci = \"3b:00.0\": not a PCI address (allowed: domain:bus:device.function in hexadecimal, as in \"0000:3b:00.0\")".to_owned()],
        ),
        (
            "two networks of one name",
            "name = \"uplink0\"\nport",
            "name = \"tenant0\"\nport".to_owned(),
            vec!["network[1].name = \"tenant0\": network[0].name is the same network name (allowed: each network name once)".to_owned()],
        ),
        (
            "two networks of one link",
            "[[route]]",
            "[[network]]\nname = \"b\"\nport = \"tenant0\"\nrole = \"tenant\"\n[[route]]".to_owned(),
            vec!["network[2].port = \"tenant0\": network[0] has untagged frames of port `tenant0` already (allowed: another port or another `vlan`)".to_owned()],
        ),
        (
            "two networks of one VLAN",
            "[[route]]",
            "[[network]]\nname = \"a\"\nport = \"tenant0\"\nvlan = 7\nrole = \"tenant\"\n[[network]]\nname = \"b\"\nport = \"tenant0\"\nvlan = 7\nrole = \"tenant\"\n[[route]]".to_owned(),
            vec!["network[3].vlan = 7: network[2] has VLAN 7 of port `tenant0` already (allowed: another port or another `vlan`)".to_owned()],
        ),
        (
            "a VLAN that is reserved",
            "role = \"uplink\"",
            "role = \"uplink\"\nvlan = 4095".to_owned(),
            vec!["network[1].vlan = 4095: out of range 1 to 4094 (allowed: a VLAN identifier, 1 to 4094; leave the key out for untagged frames)".to_owned()],
        ),
        (
            "RFC 8200 5: an MTU that is too small",
            "role = \"uplink\"",
            "role = \"uplink\"\nmtu = 1279".to_owned(),
            vec!["network[1].mtu = 1279: out of range 1280 to 9600 (allowed: octets of the largest IP packet, 1280 to 9600)".to_owned()],
        ),
        (
            "an MTU that is too large",
            "role = \"uplink\"",
            "role = \"uplink\"\nmtu = 9601".to_owned(),
            vec!["network[1].mtu = 9601: out of range 1280 to 9600 (allowed: octets of the largest IP packet, 1280 to 9600)".to_owned()],
        ),
        (
            "a role that there is not",
            "role = \"uplink\"",
            "role = \"core\"".to_owned(),
            vec!["network[1].role = \"core\": not a role (allowed: \"tenant\" or \"uplink\")".to_owned()],
        ),
        (
            "what only tenants have",
            "role = \"uplink\"",
            "role = \"uplink\"\ninbound = \"closed\"".to_owned(),
            vec!["network[1].inbound = \"closed\": the network is an uplink (allowed: only for networks with role = \"tenant\")".to_owned()],
        ),
        (
            "BCP 38: another tenant's addresses among the sources",
            "[[route]]",
            "[[network]]\nname = \"b\"\nport = \"tenant0\"\nvlan = 7\nrole = \"tenant\"\nsources = [\"2001:db8:64::/48\"]\n[[route]]".to_owned(),
            vec!["network[2].sources[0] = \"2001:db8:64::/48\": overlaps 2001:db8:64::/64 of network[0].addresses6[0]: the tenant could send from another's addresses (allowed: prefixes of this tenant alone)".to_owned()],
        ),
        (
            "a router that is not on-link",
            "via = \"192.0.2.1\"",
            "via = \"198.51.100.1\"".to_owned(),
            vec!["route[1].via = \"198.51.100.1\": on the link of no network (allowed: an address in 192.0.2.0/24)".to_owned()],
        ),
        (
            "a router that is the gateway itself",
            "via = \"192.0.2.1\"",
            "via = \"192.0.2.2\"".to_owned(),
            vec!["route[1].via = \"192.0.2.2\": an address of the gateway itself (allowed: the address of another router)".to_owned()],
        ),
        (
            "a router of the other family",
            "via = \"192.0.2.1\"",
            "via = \"2001:db8:ffff::1\"".to_owned(),
            vec!["route[1].via = \"2001:db8:ffff::1\": not of the family of 0.0.0.0/0 (allowed: a router of the same family)".to_owned()],
        ),
        (
            "a link-local router on an unnamed link",
            "via = \"2001:db8:ffff::1\"",
            "via = \"fe80::99\"".to_owned(),
            vec!["route[0].via = \"fe80::99\": a link-local address says nothing of its link (allowed: with `network`, the name of its network)".to_owned()],
        ),
        (
            "a router on a network that is not there",
            "via = \"192.0.2.1\"",
            "via = \"192.0.2.1\"\nnetwork = \"up\"".to_owned(),
            vec!["route[1].network = \"up\": there is no such network (allowed: the name of a [[network]]: tenant0, uplink0)".to_owned()],
        ),
        (
            "a route twice",
            "prefix = \"0.0.0.0/0\"\nvia = \"192.0.2.1\"",
            "prefix = \"::/0\"\nvia = \"2001:db8:ffff::9\"".to_owned(),
            vec!["route[1].prefix = \"::/0\": route[0].prefix is the same destination (allowed: each destination once)".to_owned()],
        ),
        (
            "a route into the NAT64 prefix",
            "prefix = \"::/0\"",
            "prefix = \"2001:db8:64:ff9b::/96\"".to_owned(),
            vec!["route[0].prefix = \"2001:db8:64:ff9b::/96\": the NAT64 prefix of nat64.prefixes[0]: never used (allowed: a prefix that is not translated, or a part of one)".to_owned()],
        ),
        (
            "a route to what is on-link",
            "prefix = \"0.0.0.0/0\"",
            "prefix = \"192.0.2.0/24\"".to_owned(),
            vec!["route[1].prefix = \"192.0.2.0/24\": on the link already, by network[1].addresses4[0] (allowed: a prefix that is not on-link)".to_owned()],
        ),
        (
            "isolation for a network that is no tenant's",
            "[nat64]",
            "[isolation]\nallow = [[\"tenant0\", \"uplink0\"]]\n[nat64]".to_owned(),
            vec!["isolation.allow[0] = [\"tenant0\", \"uplink0\"]: `uplink0` is no tenant network (allowed: names of tenant networks: tenant0)".to_owned()],
        ),
        (
            "a pair of three",
            "[nat64]",
            "[isolation]\nallow = [[\"a\", \"b\", \"c\"]]\n[nat64]".to_owned(),
            vec!["isolation.allow[0] = [\"a\", \"b\", \"c\"]: not a pair (allowed: two names of tenant networks, as in [\"web\", \"db\"])".to_owned()],
        ),
        (
            "ports the wrong way round",
            "[nat64]",
            "[nat64]\nports = \"2000-1000\"".to_owned(),
            vec!["nat64.ports = \"2000-1000\": the range is empty (allowed: two ports from 1 to 65535, the lower one first, as in \"1024-65535\")".to_owned()],
        ),
        (
            "a time without unit",
            "[nat64]",
            "[nat64]\ntimeouts = { udp = 300 }".to_owned(),
            vec![format!("nat64.timeouts.udp = 300: the unit is missing (allowed: {TIMEOUT})")],
        ),
        (
            "a filtering that there is not",
            "[nat64]",
            "[nat64]\nfiltering = \"none\"".to_owned(),
            vec!["nat64.filtering = \"none\": no such choice (allowed: \"endpoint-independent\", \"address-dependent\" or \"address-and-port-dependent\")".to_owned()],
        ),
        (
            "a log level that there is not",
            "[nat64]",
            "[log]\nfilter = \"verbose\"\n[nat64]".to_owned(),
            vec!["log.filter = \"verbose\": `verbose` is no level (allowed: error, warn, info, debug, trace or off, also per module, as in \"info,causeway::control=debug\")".to_owned()],
        ),
        (
            "a watchdog that gives up before it warns",
            "[nat64]",
            "[watchdog]\nwarn = \"10s\"\nabort = \"5s\"\n[nat64]".to_owned(),
            vec!["watchdog.abort = \"5s\": shorter than `warn` (allowed: a length of time not shorter than `warn`, or \"off\")".to_owned()],
        ),
        (
            "a socket that is not absolute",
            "[nat64]",
            "[control]\nsocket = \"gw.sock\"\n[nat64]".to_owned(),
            vec!["control.socket = \"gw.sock\": not an absolute path (allowed: an absolute path)".to_owned()],
        ),
        (
            "more workers than cores",
            "profile = \"veth\"",
            "profile = \"veth\"\nworkers = 2\ncores = [1]".to_owned(),
            vec!["gateway.workers = 2: gateway.cores lists 1 cores (allowed: as many workers as cores, or only one of the two keys)".to_owned()],
        ),
        (
            "a core for two",
            "profile = \"veth\"",
            "profile = \"veth\"\ncores = [1]\nmain-core = 1".to_owned(),
            vec!["gateway.main-core = 1: gateway.cores[0] gives this core to a worker (allowed: a core of no worker)".to_owned()],
        ),
        (
            "a timeout that is too long",
            "[nat64]",
            "[nat64]\ntimeouts = { icmp = \"31d\" }".to_owned(),
            vec![format!("nat64.timeouts.icmp = \"31d\": out of range 1s to 30d (allowed: {TIMEOUT})")],
        ),
        (
            "RFC 4861 7.2.2: a queue without a place",
            "[nat64]",
            "[neighbor]\nqueue = 0\n[nat64]".to_owned(),
            vec!["neighbor.queue = 0: out of range 1 to 64 (allowed: a number of packets, 1 to 64)".to_owned()],
        ),
        (
            "a profile that there is not",
            "profile = \"veth\"",
            "profile = \"cray\"".to_owned(),
            vec!["gateway.profile = \"cray\": there is no such hardware profile (allowed: veth, null, ixgbe, i40e, ice, igb, igc)".to_owned()],
        ),
        (
            "a folder of profiles that there is not",
            "profile = \"veth\"",
            "profile = \"veth\"\nprofile-dir = \"/nonexistent\"".to_owned(),
            vec!["gateway.profile-dir = \"/nonexistent\": /nonexistent: No such file or directory (os error 2) (allowed: a folder of hardware profiles)".to_owned()],
        ),
        (
            "a PCI device under a profile for virtual ones",
            "device = \"net_af_packet1,iface=uplink0\"",
            "pci = \"0000:3b:00.0\"".to_owned(),
            vec!["port[1].pci = \"0000:3b:00.0\": profile `veth` is for virtual devices (allowed: `device` with a virtual device, or another profile)".to_owned()],
        ),
        (
            "more workers than the device has queues",
            "profile = \"veth\"",
            "profile = \"veth\"\nworkers = 128".to_owned(),
            vec!["gateway.workers = 128: profile `veth` cannot do 128 workers (allowed: 1 to 16)".to_owned()],
        ),
        (
            "descriptors that the device does not take",
            "iface=uplink0\"",
            "iface=uplink0\"\nrx-descriptors = 33".to_owned(),
            vec!["port[1].rx-descriptors = 33: profile `veth` cannot do 33 receive descriptors (allowed: 64 to 16384, a multiple of 1)".to_owned()],
        ),
        (
            "an old network key",
            "role = \"tenant\"",
            "role = \"tenant\"\naddress6 = []".to_owned(),
            vec!["network[0].address6 = []: unknown key; did you mean `addresses6`? (allowed: addresses4, addresses6, captive-portal, dhcpv6, dhcpv6-relays, inbound, link-local, mtu, name, ntp, on-link, port, ra, reservation, role, source-validation, sources, vlan)".to_owned()],
        ),
    ];
    let mut wrong = String::new();
    for (what, from, to, expected) in rows {
        let found = said(&lab_with(from, &to));
        if found != expected {
            wrong.push_str(&format!("{what}:\n  found    {found:#?}\n  expected {expected:#?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn an_empty_file_lists_what_has_to_be_there() {
    assert_eq!(
        said(""),
        [
            "gateway: missing (allowed: a section [gateway])",
            "port: missing (allowed: one or more sections [[port]])",
            "network: missing (allowed: one or more sections [[network]])",
        ]
    );
}

#[test]
fn a_text_that_is_not_toml_is_an_error_with_its_line() {
    let e = parse("[gateway]\nname = \n").unwrap_err();
    assert!(e.to_string().starts_with("test.toml:2: not TOML: "), "{e}");
    assert!(parse("[gateway]\n[gateway]\n").unwrap_err().to_string().contains("test.toml:2"));
}

#[test]
fn mistakes_are_collected_in_the_order_of_the_file() {
    let text = LAB.replace("role = \"tenant\"", "role = \"x\"").replace("203.0.113.0/28", "x");
    let e = parse(&text).unwrap_err();
    let keys: Vec<&str> = e.list().iter().map(|e| e.key.as_str()).collect();
    assert_eq!(keys, ["network[0].role", "nat64.pool[0]"]);
    assert!(e.list().windows(2).all(|w| w[0].line <= w[1].line));
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let e = Config::load(Path::new("/nonexistent/causeway.toml")).unwrap_err().to_string();
    assert!(e.starts_with("/nonexistent/causeway.toml: cannot be read: "), "{e}");
    let e = Config::load(Path::new("/proc/self")).unwrap_err().to_string();
    assert!(e.contains("cannot be read"), "{e}");
}

#[test]
fn what_is_allowed_but_odd_is_noted() {
    let short = parse(&lab_with("[nat64]", "[nat64]\ntimeouts = { udp = \"10s\" }")).unwrap();
    assert!(
        short.notes.iter().any(|n| n == "nat64.timeouts.udp: 10s is less than the 2m of RFC 4787 4.3"),
        "{:?}",
        short.notes
    );
    let routed =
        lab_with("[nat64]", "[[route]]\nprefix = \"2001:db8:9::/48\"\nvia = \"2001:db8:64::99\"\n[nat64]");
    let notes = parse(&routed).unwrap().notes;
    assert!(
        notes.iter().any(|n| n.starts_with("route[2].prefix: 2001:db8:9::/48 leads to tenant network")),
        "{notes:?}"
    );
    let native = lab_with(
        "[nat64]",
        "[[route]]\nprefix = \"2001:db8:64:ff9b::c633:6400/120\"\nvia = \"unreachable\"\n[nat64]",
    );
    let notes = parse(&native).unwrap().notes;
    assert!(notes.iter().any(|n| n.ends_with("packets to it are not translated")), "{notes:?}");
    let sourced = routed
        .replace("link-local = \"fe80::1\"", "link-local = \"fe80::1\"\nsources = [\"2001:db8:9::/48\"]");
    assert!(!parse(&sourced).unwrap().notes.iter().any(|n| n.starts_with("route[2]")));
}

#[test]
fn rfc6052_3_1_the_well_known_prefix_is_fine_with_global_addresses() {
    let text = lab_with("2001:db8:64:ff9b::/96", "64:ff9b::/96").replace("203.0.113.0/28", "198.200.0.0/28");
    let c = parse(&text).unwrap();
    assert!(c.nat64.unwrap().prefixes[0].is_well_known());
    assert!(c.notes.iter().any(|n| n.contains("only global IPv4 addresses can be reached")), "{:?}", c.notes);
    // RFC 8215: the local-use prefix does not mind.
    parse(&lab_with("2001:db8:64:ff9b::/96", "64:ff9b:1::/48")).unwrap();
}

#[test]
fn several_tenants_on_vlans_of_one_port() {
    let text = lab_with(
        "[[route]]",
        "[[network]]\nname = \"web\"\nport = \"tenant0\"\nvlan = 10\nrole = \"tenant\"\naddresses6 = [\"2001:db8:10::1/64\"]\n\
         link-local = \"fe80::1\"\nmtu = 1400\ninbound = \"closed\"\nsources = [\"2001:db8:1000::/48\"]\n\
         [[network]]\nname = \"db\"\nport = \"tenant0\"\nvlan = 11\nrole = \"tenant\"\non-link = [\"2001:db8:11::/64\"]\n\
         [isolation]\nallow = [[\"web\", \"db\"]]\n[[route]]",
    );
    let c = parse(&text).unwrap();
    let web = c.network(&Name::new("web").unwrap()).unwrap();
    assert_eq!(web.inbound, Inbound::Closed);
    assert_eq!(web.sources, ["2001:db8:10::/64".parse().unwrap(), "2001:db8:1000::/48".parse().unwrap()]);
    let db = c.network(&Name::new("db").unwrap()).unwrap();
    assert!(db.addresses6.is_empty() && db.link_local.is_none());
    assert_eq!(
        db.sources,
        ["2001:db8:11::/64".parse().unwrap()],
        "an on-link prefix needs no address of ours"
    );
    assert_eq!(c.port_mtu(&c.ports[0].name).map(Mtu::octets), Some(1500));
    assert_eq!(c.isolation.allow.len(), 1);
}

#[test]
fn routes_through_link_local_routers_and_to_nowhere() {
    let text = lab_with("via = \"2001:db8:ffff::1\"", "via = \"fe80::1\"\nnetwork = \"uplink0\"")
        .replace("[nat64]", "[[route]]\nprefix = \"2001:db8::/32\"\nvia = \"unreachable\"\n[nat64]");
    let c = parse(&text).unwrap();
    // fe80::1 is ours on the tenant's link, but a router's on the uplink.
    assert_eq!(c.routes[0].network.as_ref().map(Name::as_str), Some("uplink0"));
    assert_eq!((c.routes[2].via, c.routes[2].network.as_ref()), (Target::Unreachable, None));
}

#[test]
fn what_needs_a_restart_is_told_apart() {
    let lab = parse(LAB).unwrap();
    let keys = |text: &str| -> (Vec<String>, Vec<String>) {
        let new = parse(text).unwrap_or_else(|e| panic!("{e}"));
        let key = |c: Change| c.key;
        (
            changes(&lab, &new).into_iter().map(key).collect(),
            restart_needed(&lab, &new).into_iter().map(key).collect(),
        )
    };
    let none: Vec<String> = Vec::new();
    assert_eq!(keys(LAB), (none.clone(), none.clone()));
    assert_eq!(keys(&format!("# a remark\n{LAB}")), (none.clone(), none.clone()));
    assert_eq!(
        keys(&lab_with("203.0.113.0/28", "203.0.113.0/29")),
        (vec!["nat64.pool".to_owned()], none.clone())
    );
    assert_eq!(
        keys(&lab_with("iface=uplink0", "iface=uplink1")),
        (vec!["port[uplink0].device".to_owned()], vec!["port[uplink0].device".to_owned()])
    );
    assert_eq!(keys(&lab_with("[[port]]", "[capacity]\nsessions = 1000\n[[port]]")).1, ["capacity.sessions"]);
    assert_eq!(
        keys(&lab_with("profile = \"veth\"", "profile = \"veth\"\nworkers = 2")).1,
        ["gateway.workers"]
    );
    // Another network on a port that is there is no matter; a larger MTU than the port was opened with is.
    let network = "[[network]]\nname = \"web\"\nport = \"tenant0\"\nvlan = 10\nrole = \"tenant\"\n";
    let (changed, restart) = keys(&lab_with("[[route]]", &format!("{network}[[route]]")));
    assert_eq!((changed, restart), (vec!["network[web]".to_owned()], none.clone()));
    let small = lab_with("role = \"tenant\"", "role = \"tenant\"\nmtu = 1400");
    let larger = small.replacen("[[route]]", &format!("{network}[[route]]"), 1);
    let restart: Vec<String> = restart_needed(&parse(&small).unwrap(), &parse(&larger).unwrap())
        .into_iter()
        .map(|c| c.key)
        .collect();
    assert_eq!(restart, ["port[tenant0].mtu (the largest `mtu` of its networks)"]);
    // A smaller one is not.
    assert_eq!(keys(&lab_with("role = \"uplink\"", "role = \"uplink\"\nmtu = 1400")).1, none);
    // Routes are told apart by their prefix, not by their place.
    let (changed, _) = keys(&lab_with(
        "[[route]]",
        "[[route]]\nprefix = \"2001:db8::/32\"\nvia = \"unreachable\"\n[[route]]",
    ));
    assert_eq!(changed, ["route[2001:db8::/32]"]);
}

#[test]
fn the_order_of_ports_is_their_numbering() {
    let lab = parse(LAB).unwrap();
    let mut text = LAB.to_owned();
    let first = "[[port]]\nname = \"tenant0\"\ndevice = \"net_af_packet0,iface=tenant0\"\n";
    assert!(text.contains(first));
    text = text.replacen(first, "", 1).replacen("[[network]]", &format!("{first}\n[[network]]"), 1);
    let keys: Vec<String> = restart_needed(&lab, &parse(&text).unwrap()).into_iter().map(|c| c.key).collect();
    assert_eq!(keys, ["port"]);
    // Also where something else, which needs none, has changed as well.
    text = text.replace("203.0.113.0/28", "203.0.113.0/29");
    let keys: Vec<String> = restart_needed(&lab, &parse(&text).unwrap()).into_iter().map(|c| c.key).collect();
    assert_eq!(keys, ["port"]);
}

#[test]
fn a_hundred_thousand_routes_are_no_trouble() {
    let mut text = LAB.to_owned();
    for n in 0..100_000u32 {
        let (high, low) = (n >> 16, n & 0xffff);
        text.push_str(&format!(
            "[[route]]\nprefix = \"2001:db8:8{high:x}:{low:x}::/64\"\nvia = \"2001:db8:64::99\"\n"
        ));
    }
    let began = std::time::Instant::now();
    let all = parse(&text).unwrap();
    assert_eq!(all.routes.len(), 100_002);
    assert_eq!(all.notes.len(), NOTES_AND_ONE, "not a note for each");
    let one_less = parse(text.rsplit_once("[[route]]").unwrap().0).unwrap();
    let keys: Vec<String> = changes(&all, &one_less).into_iter().map(|c| c.key).collect();
    assert_eq!(keys, ["route[2001:db8:81:869f::/64]"]);
    // Seconds at the very worst; what grows with the square of the number takes many minutes.
    assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
}

const NOTES_AND_ONE: usize = 51;

/// Text that is nearly a configuration: lines of the lab's file and others, in any order, with characters
/// changed.
fn nearly_a_configuration() -> impl Strategy<Value = String> {
    let lines: Vec<String> = LAB
        .lines()
        .chain(EXAMPLE.lines())
        .map(|l| l.trim_start_matches('#').to_owned())
        .chain(
            [
                "[[[",
                "a = ",
                "[nat64.timeouts]",
                "x = [1,",
                "'''",
                "\u{feff}",
                "k = -0x1",
                "[a.b.c]",
                "\"\" = 1",
                "vlan = 1e9",
            ]
            .map(String::from),
        )
        .collect();
    let line = prop_oneof![
        8 => proptest::sample::select(lines),
        1 => "\\PC{0,40}",
        1 => "[a-z0-9-]{1,12} = (\"[^\"\\\\]{0,20}\"|[0-9]{1,25}|true|\\[\\]|\\{\\})",
    ];
    proptest::collection::vec(line, 0..40).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_text_panics(text: String) {
        let _ = parse(&text);
    }

    #[test]
    fn no_text_that_is_nearly_a_configuration_panics(text in nearly_a_configuration()) {
        match parse(&text) {
            Ok(config) => {
                let _ = config.render();
                prop_assert!(!config.networks.is_empty());
            }
            Err(e) => {
                prop_assert!(!e.list().is_empty());
                let _ = e.to_string();
            }
        }
    }

    #[test]
    fn changed_characters_of_the_labs_file_never_panic(at in 0..LAB.len(), with: char) {
        let mut text: Vec<char> = LAB.chars().collect();
        let at = at.min(text.len() - 1);
        text[at] = with;
        let text: String = text.into_iter().collect();
        if let Ok(c) = parse(&text) {
            let _ = (changes(&c, &parse(LAB).unwrap()), c.render());
        }
    }

    #[test]
    fn spans_parse_what_they_print(ms in 1u64..=365 * 86_400_000) {
        let mut text = String::new();
        for (unit, size) in [("h", 3_600_000), ("ms", 1)] {
            if ms / size > 0 && (unit == "h" || ms % 3_600_000 > 0) {
                text.push_str(&format!("{}{unit}", if unit == "h" { ms / size } else { ms % 3_600_000 }));
            }
        }
        let span = Span::parse(&text).unwrap();
        prop_assert_eq!(span.duration(), std::time::Duration::from_millis(ms));
        prop_assert_eq!(Span::parse(&span.to_string()), Ok(span));
    }
}

mod dns64;
mod first_hop;
mod nat64;
mod splicer;
