//! Bad input, a row each: what is replaced, by what, and all that is said of it.

use super::*;

/// Rows, each with what is said of it as strings.
macro_rules! rows {
    ($(($what:expr, $from:expr, $to:expr, $said:expr $(,)?)),* $(,)?) => {
        vec![$(($what, $from, $to, list($said))),*]
    };
}

fn list(said: &[&str]) -> Vec<String> {
    said.iter().map(ToString::to_string).collect()
}

#[test]
fn every_bad_value_of_the_first_hop_is_named_with_its_key_and_what_is_allowed() {
    const HOST6: &str = "a unicast IPv6 address other than a link-local one, as in 2001:db8:64::53";
    const NAME: &str = "a domain name in ASCII without a final dot, as in \"example.com\"";
    const RANGE: &str =
        "two unicast IPv6 addresses, the lower one first, as in \"2001:db8:64::1000-2001:db8:64::1fff\"";
    const MAC: &str = "the MAC address of one station, as in \"02:00:00:00:01:01\"";
    const DUID: &str =
        "3 to 130 octets in hexadecimal, as in \"00:03:00:01:02:00:00:00:01:01\" (RFC 9915 11)";
    const LEASE: &str = "whole seconds, 1s to 365d, as in \"12h\"";
    const SERVERS: &str = "servers = [\"2001:db8:64::53\"]";
    const RA: &str = "[network.ra]\n";
    const POOLS: &str = "pools = [\"2001:db8:64::1000-2001:db8:64::1fff\"]";
    const DELEGATE: &str = "{ prefix = \"2001:db8:64:8000::/56\", length = 64 }";
    const MAC1: &str = "mac = \"02:00:00:00:01:01\"";
    const MAC1_LINE: &str = "mac = \"02:00:00:00:01:01\"\n";
    const ROUTER: &str = "addresses = [\"fe80::1\", \"2001:db8:64::1\", \"2001:db8:64::53\"]";
    const UPLINK: &str = "role = \"uplink\"\n";
    let many = |what: &str, n: usize| {
        (0..n).map(|n| format!("\"{what}{:x}\"", n + 1)).collect::<Vec<_>>().join(", ")
    };
    let rows: Vec<(&str, &str, String, Vec<String>)> = rows![
        // DNS.
        (
            "a server without a scope",
            SERVERS,
            "servers = [\"fe80::53\"]".into(),
            &[&format!(
                "dns.servers[0] = \"fe80::53\": no address that a host is reached by (allowed: {HOST6})"
            )],
        ),
        (
            "an IPv4 server",
            SERVERS,
            "servers = [\"192.0.2.53\"]".into(),
            &[&format!("dns.servers[0] = \"192.0.2.53\": not an IPv6 address (allowed: {HOST6})")],
        ),
        (
            "a server twice",
            SERVERS,
            "servers = [\"2001:db8::53\", \"2001:db8:0::53\"]".into(),
            &[
                "dns.servers[1] = \"2001:db8:0::53\": dns.servers[0] is the same address (allowed: each address once)",
            ],
        ),
        (
            "RFC 8106 5.1: more servers than fit",
            SERVERS,
            format!("servers = [{}]", many("2001:db8::", 92)),
            &[
                "dns.servers[89] = \"2001:db8::5a\": the option of router advertisements does not fit (RFC 8106 5.1) (allowed: at most 1444 octets for network `tenant0`)",
            ],
        ),
        (
            "a name with a final dot",
            "search = [\"example\"]",
            "search = [\"example.\"]".into(),
            &[&format!("dns.search[0] = \"example.\": a final dot (allowed: {NAME})")],
        ),
        (
            "a name twice",
            "search = [\"example\"]",
            "search = [\"example\", \"EXAMPLE\"]".into(),
            &["dns.search[1] = \"EXAMPLE\": dns.search[0] is the same name (allowed: each name once)"],
        ),
        (
            "RFC 9461 5: HTTPS without a path",
            "doh-path = \"/dns-query{?dns}\"\n",
            String::new(),
            &[
                "dns.encrypted[1].doh-path: missing (allowed: a path for DNS over HTTPS, as in \"/dns-query{?dns}\")",
            ],
        ),
        (
            "RFC 9461 5: a path without HTTPS",
            "alpn = [\"dot\"]",
            "alpn = [\"dot\"]\ndoh-path = \"/{?dns}\"".into(),
            &[
                "dns.encrypted[0].doh-path = \"/{?dns}\": no `alpn` speaks HTTP (allowed: only with \"h2\" or \"h3\" among `alpn`)",
            ],
        ),
        (
            "RFC 9463 3.1.1: a resolver that speaks nothing",
            "alpn = [\"dot\"]",
            "alpn = []".into(),
            &["dns.encrypted[0].alpn = []: empty (allowed: one or more)"],
        ),
        (
            "RFC 9463 3.1.5: priority zero",
            "priority = 2",
            "priority = 0".into(),
            &[
                "dns.encrypted[1].priority = 0: out of range 1 to 65535 (allowed: a priority, 1 to 65535; lower is better)",
            ],
        ),
        (
            "RFC 9463 6.1: a resolver with more addresses than fit",
            "addresses = [\"2001:db8:64::53\", \"2001:db8:6::53\"]",
            format!("addresses = [{}]", many("2001:db8::", 90)),
            &[
                "dns.encrypted[1].name = \"doh.example\": the option of router advertisements does not fit (RFC 9463 6.1) (allowed: at most 1444 octets for network `tenant0`)",
            ],
        ),
        // Networks.
        (
            "a check that there is not",
            "source-validation = \"leased\"",
            "source-validation = \"strict\"".into(),
            &[
                "network[0].source-validation = \"strict\": no such choice (allowed: \"off\", \"prefix\" or \"leased\")",
            ],
        ),
        (
            "RFC 8908 4.1: a portal without TLS",
            "https://portal.example/api",
            "http://portal.example/api".into(),
            &[
                "network[0].captive-portal = \"http://portal.example/api\": not a URI of HTTPS (allowed: a URI that begins with https:// (RFC 8908), or \"urn:ietf:params:capport:unrestricted\", of at most 255 octets)",
            ],
        ),
        (
            "what only tenants have",
            UPLINK,
            format!(
                "{UPLINK}source-validation = \"off\"\nntp = [\"2001:db8::1\"]\nra = {{}}\ndhcpv6 = {{}}\nreservation = [{{ mac = \"02:00:00:00:01:09\", addresses = [\"2001:db8:ffff::9\"] }}]\n"
            ),
            &[
                "network[1].source-validation = \"off\": the network is an uplink (allowed: only for networks with role = \"tenant\")",
                "network[1].ntp[0] = \"2001:db8::1\": the network is an uplink (allowed: only for networks with role = \"tenant\")",
                "network[1].ra: the network is an uplink (allowed: only for networks with role = \"tenant\")",
                "network[1].dhcpv6: the network is an uplink (allowed: only for networks with role = \"tenant\")",
                "network[1].reservation[0]: the network is an uplink (allowed: only for networks with role = \"tenant\")",
            ],
        ),
        // Router advertisements.
        (
            "RFC 4861 6.2.1: an interval that is too short",
            RA,
            format!("{RA}max-interval = \"3s\"\n"),
            &[
                "network[0].ra.max-interval = \"3s\": out of range 4s to 18h12m15s (allowed: whole seconds, 4s to 65535s, as in \"10m\")",
            ],
        ),
        (
            "RFC 4861 6.2.1: intervals that are too close",
            RA,
            format!("{RA}max-interval = \"20s\"\nmin-interval = \"16s\"\n"),
            &[
                "network[0].ra.min-interval = \"16s\": more than three quarters of `max-interval`, which is 20s (allowed: 3s to 15s)",
            ],
        ),
        (
            "RFC 4861 6.2.1: a lifetime that ends too early",
            RA,
            format!("{RA}router-lifetime = \"9m\"\n"),
            &[
                "network[0].ra.router-lifetime = \"9m\": shorter than `max-interval`, which is 10m (allowed: \"0s\", or 10m to 18h12m15s)",
            ],
        ),
        (
            "RFC 8319 4: a lifetime that cannot be said",
            RA,
            format!("{RA}router-lifetime = \"19h\"\n"),
            &[
                "network[0].ra.router-lifetime = \"19h\": out of range 0s to 18h12m15s (allowed: \"0s\", or whole seconds up to 65535s, as in \"30m\")",
            ],
        ),
        (
            "RFC 4191 2.2: a preference of no router",
            RA,
            format!("{RA}router-lifetime = \"0s\"\npreference = \"high\"\n"),
            &[
                "network[0].ra.preference = \"high\": `router-lifetime` is 0s (allowed: \"medium\" (RFC 4191 2.2))",
            ],
        ),
        (
            "RFC 4861 4.6.2: preferred for longer than valid",
            RA,
            format!("{RA}valid-lifetime = \"1d\"\npreferred-lifetime = \"2d\"\n"),
            &[
                "network[0].ra.preferred-lifetime = \"2d\": longer than `valid-lifetime`, which is 1d (allowed: at most the valid lifetime)",
            ],
        ),
        (
            "a prefix of another link",
            RA,
            format!("{RA}prefix = [{{ prefix = \"2001:db8:65::/64\" }}]\n"),
            &[
                "network[0].ra.prefix[0].prefix = \"2001:db8:65::/64\": not a prefix that network `tenant0` has on its link (allowed: 2001:db8:64::/64)",
            ],
        ),
        (
            "a prefix twice",
            RA,
            format!(
                "{RA}prefix = [{{ prefix = \"2001:db8:64::/64\" }}, {{ prefix = \"2001:db8:64::/64\" }}]\n"
            ),
            &[
                "network[0].ra.prefix[1].prefix = \"2001:db8:64::/64\": network[0].ra.prefix[0].prefix is the same prefix (allowed: each prefix once)",
            ],
        ),
        (
            "a route to a group",
            RA,
            format!("{RA}route = [{{ prefix = \"ff00::/8\" }}]\n"),
            &[
                "network[0].ra.route[0].prefix = \"ff00::/8\": not a destination that is routed (allowed: a unicast prefix)",
            ],
        ),
        (
            "RFC 4191 4: too many routes",
            RA,
            format!(
                "{RA}route = [{}]\n",
                (0..18)
                    .map(|n| format!("{{ prefix = \"2001:db8:{n:x}::/48\" }}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            &[
                "network[0].ra.route[17].prefix = \"2001:db8:11::/48\": too many routes (allowed: at most 17 (RFC 4191 4))",
            ],
        ),
        (
            "an unknown key",
            RA,
            format!("{RA}manage = true\n"),
            &[
                "network[0].ra.manage = true: unknown key; did you mean `managed`? (allowed: autonomous, dns, dns-lifetime, hop-limit, link-layer, managed, max-interval, min-interval, mtu, on-link, other, pref64, preference, preferred-lifetime, prefix, reachable-time, retransmit-time, route, router-lifetime, solicited, valid-lifetime)",
            ],
        ),
        // DHCPv6.
        (
            "a pool the wrong way round",
            POOLS,
            "pools = [\"2001:db8:64::2-2001:db8:64::1\"]".into(),
            &[&format!(
                "network[0].dhcpv6.pools[0] = \"2001:db8:64::2-2001:db8:64::1\": the range is empty (allowed: {RANGE})"
            )],
        ),
        (
            "a pool of another link",
            POOLS,
            "pools = [\"2001:db8:65::1-2001:db8:65::2\"]".into(),
            &[
                "network[0].dhcpv6.pools[0] = \"2001:db8:65::1-2001:db8:65::2\": not inside one prefix of network `tenant0` (allowed: a range in 2001:db8:64::/64)",
            ],
        ),
        (
            "pools that overlap",
            POOLS,
            "pools = [\"2001:db8:64::1000-2001:db8:64::1fff\", \"2001:db8:64::1fff-2001:db8:64::2000\"]"
                .into(),
            &[
                "network[0].dhcpv6.pools[1] = \"2001:db8:64::1fff-2001:db8:64::2000\": overlaps 2001:db8:64::1000-2001:db8:64::1fff of network[0].dhcpv6.pools[0] (allowed: pools without addresses in common)",
            ],
        ),
        (
            "delegation of what is on the link",
            DELEGATE,
            "{ prefix = \"2001:db8:64::/60\", length = 64 }".into(),
            &[
                "network[0].dhcpv6.delegate[0].prefix = \"2001:db8:64::/60\": overlaps 2001:db8:64::/64, which is on the link of network `tenant0` (network[0].on-link[0]) (allowed: a unicast prefix that no network and no link has)",
            ],
        ),
        (
            "delegation of what is translated",
            DELEGATE,
            "{ prefix = \"2001:db8:64:ff00::/56\", length = 64 }".into(),
            &[
                "network[0].dhcpv6.delegate[0].prefix = \"2001:db8:64:ff00::/56\": overlaps the NAT64 prefix 2001:db8:64:ff9b::/96 of nat64.prefixes[0] (allowed: a prefix that is not translated)",
            ],
        ),
        (
            "delegation of more than there is",
            DELEGATE,
            "{ prefix = \"2001:db8:64:8000::/56\", length = 48 }".into(),
            &[
                "network[0].dhcpv6.delegate[0].length = 48: shorter than 2001:db8:64:8000::/56 itself (allowed: 56 to 128)",
            ],
        ),
        (
            "delegation without a length",
            DELEGATE,
            "{ prefix = \"2001:db8:64:8000::/56\" }".into(),
            &["network[0].dhcpv6.delegate[0].length: missing (allowed: the length of a prefix, 1 to 128)"],
        ),
        (
            "a lease of nothing",
            POOLS,
            format!("{POOLS}\nvalid-lifetime = \"0s\""),
            &[&format!("network[0].dhcpv6.valid-lifetime = \"0s\": zero (allowed: {LEASE})")],
        ),
        (
            "RFC 9915 21.6: preferred for longer than valid",
            POOLS,
            format!("{POOLS}\nvalid-lifetime = \"1h\"\npreferred-lifetime = \"2h\""),
            &[
                "network[0].dhcpv6.preferred-lifetime = \"2h\": longer than `valid-lifetime`, which is 1h (allowed: at most the valid lifetime)",
            ],
        ),
        (
            "RFC 9915 21.4: T1 after T2, T2 after the end",
            POOLS,
            format!("{POOLS}\nt1 = \"9h\"\nt2 = \"8h30m\""),
            &[
                "network[0].dhcpv6.t1 = \"9h\": 9h is longer than `t2`, which is 8h30m (allowed: at most T2)",
                "network[0].dhcpv6.t2 = \"8h30m\": 8h30m is longer than the preferred lifetime, which is 8h (allowed: at most the preferred lifetime)",
            ],
        ),
        (
            "RFC 9915 21.24: a pause that is too short",
            POOLS,
            format!("{POOLS}\nsol-max-rt = \"30s\"\ninf-max-rt = 3600"),
            &[
                "network[0].dhcpv6.sol-max-rt = \"30s\": out of range 1m to 1d (allowed: whole seconds, 1m to 1d, as in \"1h\")",
                "network[0].dhcpv6.inf-max-rt = 3600: the unit is missing (allowed: whole seconds, 1m to 1d, as in \"1h\")",
            ],
        ),
        (
            "a reservation for a group",
            MAC1,
            "mac = \"01:00:5e:00:00:01\"".into(),
            &[&format!(
                "network[0].reservation[0].mac = \"01:00:5e:00:00:01\": not an address of one station (allowed: {MAC})"
            )],
        ),
        (
            "a reservation for nobody",
            MAC1_LINE,
            String::new(),
            &[
                "network[0].reservation[0].mac: nothing says whose it is (allowed: one of `mac`, `interface-id` and `duid`)",
            ],
        ),
        (
            "a reservation for two",
            MAC1,
            format!("{MAC1}\nduid = \"000300010200\""),
            &[
                "network[0].reservation[0].duid = \"000300010200\": there is `mac` as well (allowed: one of `mac`, `interface-id` and `duid`)",
            ],
        ),
        (
            "an IAID of nobody",
            MAC1,
            format!("{MAC1}\niaid = 1"),
            &["network[0].reservation[0].iaid = 1: there is no `duid` (allowed: only with `duid`)"],
        ),
        (
            "RFC 9915 11.1: a DUID that is too short",
            MAC1,
            "duid = \"0003\"".into(),
            &[&format!("network[0].reservation[0].duid = \"0003\": 2 octets (allowed: {DUID})")],
        ),
        (
            "a server known twice",
            MAC1,
            "mac = \"02:00:00:00:01:02\"".into(),
            &[
                "network[0].reservation[1].mac = \"02:00:00:00:01:02\": network[0].reservation[0].mac is the same MAC address (allowed: each MAC address once)",
            ],
        ),
        (
            "an address for two",
            "addresses = [\"2001:db8:64::101\"]",
            "addresses = [\"2001:db8:64::102\"]".into(),
            &[
                "network[0].reservation[1].addresses[0] = \"2001:db8:64::102\": network[0].reservation[0].addresses[0] is the same address (allowed: each address once)",
            ],
        ),
        (
            "an address of another link",
            "addresses = [\"2001:db8:64::101\"]",
            "addresses = [\"2001:db8:65::101\"]".into(),
            &[
                "network[0].reservation[0].addresses[0] = \"2001:db8:65::101\": not inside a prefix of network `tenant0` (allowed: an address in 2001:db8:64::/64)",
            ],
        ),
        (
            "the virtual router's address",
            "addresses = [\"2001:db8:64::101\"]",
            "addresses = [\"2001:db8:64::1\"]".into(),
            &[
                "network[0].reservation[0].addresses[0] = \"2001:db8:64::1\": an address of the gateway itself (vrrp.router[0].addresses[1]) (allowed: the address of a server)",
            ],
        ),
        (
            "RFC 4291 2.6.1: the anycast address of routers",
            "addresses = [\"2001:db8:64::101\"]",
            "addresses = [\"2001:db8:64::\"]".into(),
            &[
                "network[0].reservation[0].addresses[0] = \"2001:db8:64::\": the Subnet-Router anycast address of 2001:db8:64::/64 (allowed: the address of a server)",
            ],
        ),
        (
            "a prefix of another length than its delegation's",
            "addresses = [\"2001:db8:64::101\"]",
            "prefixes = [\"2001:db8:64:8010::/60\"]".into(),
            &[
                "network[0].reservation[0].prefixes[0] = \"2001:db8:64:8010::/60\": overlaps 2001:db8:64:8000::/56 of network[0].dhcpv6.delegate[0].prefix (allowed: a prefix of length 64 there, or one elsewhere)",
            ],
        ),
        (
            "a reservation of nothing",
            "addresses = [\"2001:db8:64::101\"]\n",
            String::new(),
            &[
                "network[0].reservation[0].addresses: missing (allowed: one or more of `addresses`, `prefixes` and `boot-file-url`)",
            ],
        ),
        // The server.
        (
            "a peer without ends",
            "listen = \"unix:/run/causeway/pair.sock\"\n",
            String::new(),
            &["dhcpv6.peer.listen: missing (allowed: `listen`, `connect` or both)"],
        ),
        (
            "a peer that is this gateway",
            "listen = \"unix:/run/causeway/pair.sock\"\n",
            "listen = \"[2001:db8::1]:1\"\nconnect = \"[2001:db8::1]:1\"\n".into(),
            &[
                "dhcpv6.peer.connect = \"[2001:db8::1]:1\": the same as `listen`: this gateway itself (allowed: where the other gateway listens)",
            ],
        ),
        (
            "a peer without a secret",
            "secret-file = \"/etc/causeway/pair.secret\"\n",
            String::new(),
            &["dhcpv6.peer.secret-file: missing (allowed: an absolute path)"],
        ),
        (
            "a peer that is given up before it can answer",
            "secret-file",
            "ack-timeout = \"2s\"\nalone-after = \"1s\"\nsecret-file".into(),
            &[
                "dhcpv6.peer.alone-after = \"1s\": shorter than `ack-timeout` (allowed: not shorter than `ack-timeout`)",
            ],
        ),
        (
            "leases beside the gateway",
            "[dhcpv6.peer]",
            "[dhcpv6]\nleases = \"leases.db\"\n[dhcpv6.peer]".into(),
            &["dhcpv6.leases = \"leases.db\": not an absolute path (allowed: an absolute path)"],
        ),
        (
            "more leases than can be kept",
            "[dhcpv6.peer]",
            "[dhcpv6]\ncapacity = 16777217\nper-client = 65\n[dhcpv6.peer]".into(),
            &[
                "dhcpv6.capacity = 16777217: out of range 1 to 16777216 (allowed: a number of leases, 1 to 16777216)",
                "dhcpv6.per-client = 65: out of range 1 to 64 (allowed: a number of leases, 1 to 64)",
            ],
        ),
        (
            "a link of a network's name and prefix",
            "[dhcpv6.peer]",
            "[[dhcpv6.link]]\nname = \"tenant0\"\nprefixes = [\"2001:db8:64::/48\"]\n[dhcpv6.peer]".into(),
            &[
                "network[0].dhcpv6.delegate[0].prefix = \"2001:db8:64:8000::/56\": overlaps 2001:db8:64::/48 of dhcpv6.link[0].prefixes[0] (allowed: a unicast prefix that no network and no link has)",
                "dhcpv6.link[0].name = \"tenant0\": a network has this name (allowed: a name of its own)",
                "dhcpv6.link[0].prefixes[0] = \"2001:db8:64::/48\": overlaps 2001:db8:64::/64, which is on the link of network `tenant0` (network[0].on-link[0]) (allowed: a prefix of no network)",
                "dhcpv6.link[0].prefixes[0] = \"2001:db8:64::/48\": overlaps the NAT64 prefix 2001:db8:64:ff9b::/96 of nat64.prefixes[0] (allowed: a prefix that is not translated)",
            ],
        ),
        (
            "a link without a prefix",
            "[dhcpv6.peer]",
            "[[dhcpv6.link]]\nname = \"far\"\n[dhcpv6.peer]".into(),
            &[
                "dhcpv6.link[0].prefixes: missing (allowed: one or more, each an IPv6 prefix without bits behind it, as in 2001:db8:64::/64)",
            ],
        ),
        // Virtual routers.
        (
            "RFC 9568 5.2.7: an interval that cannot be said",
            "[vrrp]\n",
            "[vrrp]\ninterval = \"41s\"\n".into(),
            &[
                "vrrp.interval = \"41s\": out of range 10ms to 40s950ms (allowed: 10ms to 40s950ms, a multiple of 10ms, as in \"1s\" or \"300ms\")",
            ],
        ),
        (
            "an interval between centiseconds",
            "[vrrp]\n",
            "[vrrp]\ninterval = \"15ms\"\n".into(),
            &[
                "vrrp.interval = \"15ms\": not a multiple of 10ms (allowed: 10ms to 40s950ms, a multiple of 10ms, as in \"1s\" or \"300ms\")",
            ],
        ),
        (
            "RFC 9568 5.2.4: priority zero",
            "[vrrp]\n",
            "[vrrp]\npriority = 0\n".into(),
            &[
                "vrrp.priority = 0: out of range 1 to 255 (allowed: a priority, 1 to 254, or 255 for the owner of the addresses)",
            ],
        ),
        (
            "RFC 9568 5.2.3: a router that has no number",
            "vrid = 64",
            "vrid = 0".into(),
            &[
                "vrrp.router[0].vrid = 0: out of range 1 to 255 (allowed: a virtual router identifier, 1 to 255)",
            ],
        ),
        (
            "a network that there is not",
            "network = \"tenant0\"",
            "network = \"tenant1\"".into(),
            &[
                "vrrp.router[0].network = \"tenant1\": there is no such network (allowed: the name of a [[network]]: tenant0, uplink0)",
            ],
        ),
        (
            "two routers of a network and family",
            "network = \"tenant0\"\nvrid = 64\naddresses = [\"fe80::1\", \"2001:db8:64::1\", \"2001:db8:64::53\"]",
            "network = \"uplink0\"\nvrid = 65\naddresses = [\"fe80::3\"]".into(),
            &[
                "vrrp.router[1].vrid = 64: vrrp.router[0].vrid is of network `uplink0` and ipv6 as well (allowed: one virtual router for each network and address family)",
            ],
        ),
        (
            "RFC 9568 5.2.9: link-local does not come first",
            ROUTER,
            "addresses = [\"2001:db8:64::1\", \"fe80::1\"]".into(),
            &[
                "vrrp.router[0].addresses[0] = \"2001:db8:64::1\": not link-local (allowed: a link-local address as the first one, and others after it (RFC 9568 5.2.9))",
                "vrrp.router[0].addresses[1] = \"fe80::1\": another link-local address (allowed: a link-local address as the first one, and others after it (RFC 9568 5.2.9))",
            ],
        ),
        (
            "two families",
            ROUTER,
            "addresses = [\"fe80::1\", \"192.0.2.7\"]".into(),
            &[
                "vrrp.router[0].addresses[1] = \"192.0.2.7\": not of the family of fe80::1 (allowed: addresses of one family; a [[vrrp.router]] for the other one)",
            ],
        ),
        (
            "an address that is not on the link",
            ROUTER,
            "addresses = [\"fe80::1\", \"2001:db8:65::1\"]".into(),
            &[
                "vrrp.router[0].addresses[1] = \"2001:db8:65::1\": not on the link of network `tenant0` (allowed: an address in 2001:db8:64::/64)",
            ],
        ),
        (
            "an own address",
            "[\"192.0.2.2\"]",
            "[\"192.0.2.3\"]".into(),
            &[
                "vrrp.router[2].addresses[0] = \"192.0.2.3\": an own address of network `uplink0` (allowed: an address that moves; each gateway has others of its own)",
            ],
        ),
        (
            "a broadcast address",
            "[\"192.0.2.2\"]",
            "[\"192.0.2.255\"]".into(),
            &[
                "vrrp.router[2].addresses[0] = \"192.0.2.255\": the network or broadcast address of 192.0.2.0/24 (allowed: an address that a router can have)",
            ],
        ),
        (
            "the own link-local address",
            "port = \"tenant0\"\n",
            "port = \"tenant0\"\nlink-local = \"fe80::1\"\n".into(),
            &[
                "vrrp.router[0].addresses[0] = \"fe80::1\": an own address of network `tenant0` (allowed: an address that moves; each gateway has others of its own)",
            ],
        ),
        (
            "an address twice",
            ROUTER,
            "addresses = [\"fe80::1\", \"2001:db8:64::1\", \"2001:db8:64::1\"]".into(),
            &[
                "vrrp.router[0].addresses[2] = \"2001:db8:64::1\": an own address of network `tenant0` (allowed: an address that moves; each gateway has others of its own)",
            ],
        ),
        (
            "no addresses",
            ROUTER,
            "addresses = []".into(),
            &["vrrp.router[0].addresses = []: empty (allowed: one or more)"],
        ),
        (
            "RFC 9568 5.1.1.1: IPv4 advertisements from nowhere",
            "network = \"uplink0\"\nvrid = 64\naddresses = [\"192.0.2.2\"]",
            "network = \"tenant0\"\nvrid = 64\naddresses = [\"192.0.2.66\"]".into(),
            &[
                "vrrp.router[2].network = \"tenant0\": network `tenant0` has no `addresses4` (allowed: a network with an IPv4 address of this gateway's own, which advertisements come from)",
                "vrrp.router[2].addresses[0] = \"192.0.2.66\": not on the link of network `tenant0` (allowed: the address of a router on one of the networks)",
            ],
        ),
        (
            "a route through the virtual router",
            "via = \"192.0.2.1\"",
            "via = \"192.0.2.2\"".into(),
            &[
                "route[1].via = \"192.0.2.2\": an address of the gateway itself (allowed: the address of another router)",
            ],
        ),
        (
            "a pool with the virtual router's address",
            "pool = [\"203.0.113.0/28\"]",
            "pool = [\"192.0.2.2\"]".into(),
            &[
                "nat64.pool[0] = \"192.0.2.2\": holds 192.0.2.2, an address of the gateway itself (vrrp.router[2].addresses[0]) (allowed: addresses that nobody else has)",
            ],
        ),
        (
            "a next hop that is not there",
            "[[vrrp.router]]",
            "[vrrp.track]\nnext-hops = [{ address = \"198.51.100.1\", penalty = 50 }]\n[[vrrp.router]]"
                .into(),
            &[
                "vrrp.track.next-hops[0].address = \"198.51.100.1\": on the link of no network (allowed: an address in 192.0.2.0/24)",
            ],
        ),
        (
            "a next hop of one link",
            "[[vrrp.router]]",
            "[vrrp.track]\nnext-hops = [{ address = \"fe80::99\", penalty = 50 }]\n[[vrrp.router]]".into(),
            &[
                "vrrp.track.next-hops[0].address = \"fe80::99\": a link-local address says nothing of its link (allowed: with `network`, the name of its network)",
            ],
        ),
        (
            "a next hop that is nobody else",
            "[[vrrp.router]]",
            "[vrrp.track]\nnext-hops = [{ address = \"192.0.2.2\", penalty = 50 }]\n[[vrrp.router]]".into(),
            &[
                "vrrp.track.next-hops[0].address = \"192.0.2.2\": an address of the gateway itself (allowed: the address of another router)",
            ],
        ),
        (
            "a next hop that takes too much",
            "[[vrrp.router]]",
            "[vrrp.track]\nnext-hops = [{ address = \"192.0.2.1\", penalty = 255 }]\n[[vrrp.router]]".into(),
            &[
                "vrrp.track.next-hops[0].penalty = 255: out of range 0 to 254 (allowed: a number to take from the priority, 0 to 254)",
            ],
        ),
    ];
    let mut wrong = String::new();
    for (what, from, to, expected) in rows {
        let found = said(&pair_with(from, &to));
        if found != expected {
            wrong.push_str(&format!("{what}:\n  found    {found:#?}\n  expected {expected:#?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn leased_sources_need_somebody_who_leases() {
    let text = PAIR.replace("[network.dhcpv6]\npools = [\"2001:db8:64::1000-2001:db8:64::1fff\"]\ndelegate = [{ prefix = \"2001:db8:64:8000::/56\", length = 64 }]\n", "");
    assert_eq!(
        said(&text),
        [
            "network[0].source-validation = \"leased\": the network has no [network.dhcpv6]: nobody could send anything (allowed: \"off\" or \"prefix\", or [network.dhcpv6] with pools or reservations)",
            "network[0].reservation[0]: the network has no [network.dhcpv6] (allowed: [[network.reservation]] only beside [network.dhcpv6])",
        ]
    );
}

#[test]
fn a_virtual_router_section_without_any_is_refused() {
    assert_eq!(
        said(&format!("{LAB}\n[vrrp]\n")),
        ["vrrp.router: missing (allowed: one or more sections [[vrrp.router]])"]
    );
}
