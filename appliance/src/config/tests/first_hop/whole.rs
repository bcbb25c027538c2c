//! What is noted, what needs a restart, what people read, and how long checking takes.

use super::*;

fn notes(text: &str) -> Vec<String> {
    parse(text).unwrap_or_else(|e| panic!("{e}")).notes
}

#[test]
fn what_is_allowed_but_hardly_meant_is_noted() {
    let plain = notes(PAIR);
    let ra = |keys: &str| pair_with("[network.ra]\n", &format!("[network.ra]\n{keys}\n"));
    for (what, text, note) in [
        (
            "addresses of the hosts' own",
            ra("autonomous = true"),
            "network[0].ra.autonomous: hosts make addresses of their own in 2001:db8:64::/64, which source-validation = \"leased\" then drops",
        ),
        (
            "no router",
            ra("router-lifetime = \"0s\""),
            "network[0].ra.router-lifetime: hosts of network `tenant0` do not take this gateway for their default one, and DHCPv6 has none to tell",
        ),
        (
            "DHCPv6 that nobody is sent to",
            ra("managed = false"),
            "network[0].ra.managed: false, although network `tenant0` has DHCPv6: hosts do not ask for addresses",
        ),
        (
            "DNS that is forgotten",
            ra("dns-lifetime = \"1m\""),
            "network[0].ra.dns-lifetime: 1m is less than `max-interval`: hosts forget their DNS servers in between (RFC 8106 5.1)",
        ),
        (
            "no advertisements",
            pair_with("[network.ra]\n", ""),
            "network[0].dhcpv6: without [network.ra] hosts learn no default gateway; DHCPv6 has none to tell",
        ),
        (
            "no servers",
            pair_with("servers = [\"2001:db8:64::53\"]\n", ""),
            "dns.servers: none: hosts are told no DNS server",
        ),
        (
            "anybody's addresses",
            pair_with("source-validation = \"leased\"", "source-validation = \"off\""),
            "network[0].source-validation: hosts may send from anybody's addresses (BCP 38)",
        ),
        (
            "RFC 8910 2: a portal with an address",
            pair_with("https://portal.example/api", "https://[2001:db8::1]/"),
            "network[0].captive-portal: a URI with an address instead of a name (RFC 8910 2)",
        ),
        (
            "no peer",
            pair_with(
                "[dhcpv6.peer]\nlisten = \"unix:/run/causeway/pair.sock\"\nsecret-file = \"/etc/causeway/pair.secret\"\n",
                "",
            ),
            "dhcpv6.peer: missing, although there is [vrrp]: the other gateway does not know the leases",
        ),
        (
            "more than can be kept",
            pair_with("::1fff\"]", "::1fff\", \"2001:db8:64::1:0-2001:db8:64::ffff:0\"]"),
            "dhcpv6.capacity: pools, delegations and reservations hold more than the 1000000 leases that are kept at once; each network is sure of an even part of half of them",
        ),
        (
            "an address of ours in a pool",
            pair_with("2001:db8:64::1000-", "2001:db8:64::50-"),
            "network[0].dhcpv6.pools[0]: 2001:db8:64::53 is an address of the gateway itself (vrrp.router[0].addresses[2]) and not leased",
        ),
        (
            "RFC 9568 5.2.4: the owner",
            pair_with("[vrrp]\n", "[vrrp]\npriority = 255\n"),
            "vrrp.priority: 255 is for the owner of the addresses; no other gateway may have it (RFC 9568 5.2.4)",
        ),
        (
            "a family that does not move",
            pair_with("[[vrrp.router]]\nnetwork = \"uplink0\"\nvrid = 64\naddresses = [\"192.0.2.2\"]\n", ""),
            "vrrp: network `uplink0` has no virtual router of ipv4: nothing there moves to another gateway",
        ),
        (
            "hosts behind a relay that may not send",
            pair_with(
                "[dhcpv6.peer]",
                "[[dhcpv6.link]]\nname = \"far\"\nprefixes = [\"2001:db8:200::/64\"]\n[dhcpv6.peer]",
            ),
            "dhcpv6.link[0].prefixes[0]: no tenant network may send from 2001:db8:200::/64 (see `sources`)",
        ),
    ] {
        assert!(!plain.iter().any(|n| n == note), "{what} is noted anyway");
        let found = notes(&text);
        assert!(found.iter().any(|n| n == note), "{what}: {note:?} is not among {found:#?}");
    }
    // RFC 4862 5.5.3(d): a prefix that no host can make addresses in.
    let short = ra("autonomous = true")
        .replace("on-link = [\"2001:db8:64::/64\"]", "on-link = [\"2001:db8:64::/60\"]");
    assert!(
        notes(&short)
            .iter()
            .any(|n| n.ends_with("is no /64: hosts make no addresses in it (RFC 4862 5.5.3)"))
    );
    // Advertisements and a server for nobody.
    let alone = notes(&format!("{LAB}\n[dhcpv6]\n[dns]\nsearch = [\"example\"]\n"));
    for note in [
        "dhcpv6: no network has [network.dhcpv6], and there is no [[dhcpv6.link]]: nothing is leased",
        "dns: no network has [network.ra] or [network.dhcpv6]: nobody is told",
    ] {
        assert!(alone.iter().any(|n| n == note), "{note}: {alone:?}");
    }
}

#[test]
fn only_what_is_opened_at_the_start_needs_a_restart() {
    let old = parse(PAIR).unwrap();
    let keys = |text: &str| -> (Vec<String>, Vec<String>) {
        let new = parse(text).unwrap_or_else(|e| panic!("{e}"));
        let key = |c: Change| c.key;
        (
            changes(&old, &new).into_iter().map(key).collect(),
            restart_needed(&old, &new).into_iter().map(key).collect(),
        )
    };
    let live = |from: &str, to: &str, expected: &[&str]| {
        let (changed, restart) = keys(&pair_with(from, to));
        assert_eq!(changed, expected, "{to}");
        assert!(restart.is_empty(), "{restart:?}");
    };
    let restart = |from: &str, to: &str, expected: &[&str]| {
        assert_eq!(keys(&pair_with(from, to)).1, expected, "{to}");
    };
    live("servers = [\"2001:db8:64::53\"]", "servers = [\"2001:db8:64::54\"]", &["dns.servers"]);
    live(
        "name = \"dns.example\"",
        "name = \"dns2.example\"",
        &["dns.encrypted[dns.example]", "dns.encrypted[dns2.example]"],
    );
    live("[network.ra]\n", "[network.ra]\nmanaged = false\n", &["network[tenant0].ra.managed"]);
    live("[network.ra]\n", "", &["network[tenant0].ra"]);
    live(
        "[network.ra]\n",
        "[network.ra]\nautonomous = true\n",
        &["network[tenant0].ra.prefix[2001:db8:64::/64].autonomous"],
    );
    live("::1fff\"]", "::2fff\"]", &["network[tenant0].dhcpv6.pools"]);
    live(
        "addresses = [\"2001:db8:64::101\"]",
        "addresses = [\"2001:db8:64::111\"]",
        &["network[tenant0].reservation[02:00:00:00:01:01].addresses"],
    );
    live(
        "source-validation = \"leased\"",
        "source-validation = \"prefix\"",
        &["network[tenant0].source-validation"],
    );
    live("[dhcpv6.peer]", "[dhcpv6]\nhold = \"2h\"\n[dhcpv6.peer]", &["dhcpv6.hold"]);
    live("[vrrp]\n", "[vrrp]\npriority = 90\ninterval = \"100ms\"\n", &["vrrp.interval", "vrrp.priority"]);
    live(", \"2001:db8:64::53\"]\n\n[[vrrp", "]\n\n[[vrrp", &["vrrp.router[tenant0 64 ipv6].addresses"]);
    live("[vrrp]\n", "[vrrp]\ntrack = { worker-penalty = 9 }\n", &["vrrp.track.worker-penalty"]);

    restart("[dhcpv6.peer]", "[dhcpv6]\nleases = \"/srv/leases.db\"\n[dhcpv6.peer]", &["dhcpv6.leases"]);
    restart("[dhcpv6.peer]", "[dhcpv6]\ncapacity = 5000\n[dhcpv6.peer]", &["dhcpv6.capacity"]);
    // What the lease thread was started with. A worker with another DUID than the thread would drop all.
    restart("[dhcpv6.peer]", "[dhcpv6]\nhistory = \"90d\"\n[dhcpv6.peer]", &["dhcpv6.history"]);
    restart(
        "[dhcpv6.peer]",
        "[dhcpv6]\nduid = \"00:03:00:01:02:00:00:00:00:09\"\n[dhcpv6.peer]",
        &["dhcpv6.duid"],
    );
    restart("secret-file", "ack-timeout = \"1s\"\nsecret-file", &["dhcpv6.peer.ack-timeout"]);
    restart("secret-file", "alone-after = \"9s\"\nsecret-file", &["dhcpv6.peer.alone-after"]);
    restart("listen = \"unix:/run/causeway/pair.sock\"", "listen = \"[::1]:6470\"", &["dhcpv6.peer.listen"]);
    restart(
        "listen = \"unix:/run/causeway/pair.sock\"",
        "connect = \"[::1]:6470\"",
        &["dhcpv6.peer.connect", "dhcpv6.peer.listen"],
    );
    restart("/etc/causeway/pair.secret", "/etc/causeway/other.secret", &["dhcpv6.peer.secret-file"]);
    restart(
        "[dhcpv6.peer]\nlisten = \"unix:/run/causeway/pair.sock\"\nsecret-file = \"/etc/causeway/pair.secret\"\n",
        "",
        &["dhcpv6.peer"],
    );
    restart(
        "vrid = 64\naddresses = [\"192.0.2.2\"]",
        "vrid = 65\naddresses = [\"192.0.2.2\"]",
        &["vrrp.router[uplink0 64 ipv4]", "vrrp.router[uplink0 65 ipv4]"],
    );
    restart(
        "[[vrrp.router]]\nnetwork = \"uplink0\"\nvrid = 64\naddresses = [\"192.0.2.2\"]\n",
        "",
        &["vrrp.router[uplink0 64 ipv4]"],
    );
    // All of VRRP, and all of DHCPv6.
    let (start, end) = (PAIR.find("[vrrp]").unwrap(), PAIR.find("[[route]]").unwrap());
    let text = format!("{}{}", &PAIR[..start], &PAIR[end..])
        .replace("on-link = [\"2001:db8:64::/64\"]", "addresses6 = [\"2001:db8:64::1/64\"]");
    assert_eq!(keys(&text).1, ["vrrp"]);
    let [plain, leasing] = ["", "[network.dhcpv6]\n"].map(|section| {
        parse(&LAB.replace("link-local = \"fe80::1\"\n", &format!("link-local = \"fe80::1\"\n{section}")))
            .unwrap()
    });
    for (old, new) in [(&plain, &leasing), (&leasing, &plain)] {
        let keys: Vec<String> = restart_needed(old, new).into_iter().map(|c| c.key).collect();
        assert_eq!(keys, ["dhcpv6"]);
    }
}

#[test]
fn people_read_all_of_it() {
    let keys = "[dhcpv6]\n[[dhcpv6.link]]\nname = \"far\"\nprefixes = [\"2001:db8:200::/64\"]\npools = [\"2001:db8:200::1-2001:db8:200::9\"]\n";
    let text = pair_with("[dhcpv6.peer]", &format!("{keys}[dhcpv6.peer]")).replace(
        "[vrrp]\n",
        "[vrrp]\npreempt-delay = \"5s\"\ntrack = { next-hops = [{ address = \"192.0.2.1\", penalty = 50 }] }\n",
    );
    let text = parse(&text).unwrap_or_else(|e| panic!("{e}")).render();
    let lines: Vec<String> =
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "virtual router fe80::1, 2001:db8:64::1/64, 2001:db8:64::53/64",
        "sources checked leased: addresses leased, delegated or reserved to the sender",
        "may send from 2001:db8:64::/64, 2001:db8:64:8000::/56",
        "captive portal https://portal.example/api",
        "RA every 3m18s to 10m: managed yes, other yes, default router for 30m, preference medium",
        "asked for answered by unicast",
        "prefix 2001:db8:64::/64: on-link yes, autonomous no, valid 30d, preferred 7d",
        "hop limit 64",
        "PREF64 2001:db8:64:ff9b::/96",
        "DNS as below, for 30m",
        "DHCPv6 leases valid 12h, preferred 8h",
        "renewed after half, rebound after four fifths",
        "pools 2001:db8:64::1000-2001:db8:64::1fff",
        "delegates /64s of 2001:db8:64:8000::/56",
        "reserved 2001:db8:64::101 for MAC 02:00:00:00:01:01",
        "NTP 2001:db8:64::123",
        "dns servers 2001:db8:64::53",
        "search example",
        "encrypted doh.example at 2001:db8:64::53, 2001:db8:6::53 by h2, h3, priority 2, port 8443, path /dns-query{?dns}",
        "dhcpv6 leases /var/lib/causeway/gw1/leases.db",
        "at most 1000000, of one client 8 of each kind",
        "server DUID the one kept with the leases",
        "addresses rest 1h, declined ones 1d",
        "history 365d",
        "messages 50000 a second and worker, 10000 at once",
        "of one client 20 a second, 40 at once",
        "peer listens at unix:/run/causeway/pair.sock",
        "acknowledges within 200ms",
        "alone 5s after it was lost",
        "link far: 2001:db8:200::/64, leases valid 12h, preferred 8h",
        "vrrp priority 100",
        "advertises every 1s",
        "preempts after 5s",
        "accepts packets to its addresses",
        "checksum IPv4 rfc9568",
        "virtual router 64 on uplink0: fe80::2, 2001:db8:ffff::2",
        "next hop 192.0.2.1 on uplink0 takes 50",
        "link down ends all virtual routers",
        "worker stalled takes 50",
        "flow table full takes 20",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn a_hundred_thousand_reservations_are_no_trouble() {
    let mut sections = String::new();
    for n in 0..100_000u32 {
        let [_, b, c, d] = n.to_be_bytes();
        sections += &format!(
            "[[network.reservation]]\nmac = \"02:00:01:{b:02x}:{c:02x}:{d:02x}\"\naddresses = [\"2001:db8:64::{b:x}:{c:02x}{d:02x}:7777\"]\n"
        );
        if n < 256 {
            sections += &format!("prefixes = [\"2001:db8:64:80{n:02x}::/64\"]\n");
        }
    }
    let text = pair_with("[[network.reservation]]\n", &format!("{sections}[[network.reservation]]\n"));
    let began = std::time::Instant::now();
    let c = parse(&text).unwrap_or_else(|e| panic!("{}", e.list()[0]));
    assert_eq!(c.networks[0].reservations.len(), 100_002);
    assert_eq!(c.networks[0].sources.len(), 2, "what a delegation holds is one source with it");
    let one_more = text.replace("[vrrp]\n", "[vrrp]\npriority = 7\n");
    assert_eq!(changes(&c, &parse(&one_more).unwrap()).len(), 1);
    assert_eq!(dhcpv6_of(&c, b"").unwrap().links[0].reservations.len(), 100_002);
    // Seconds at the very worst; what grows with the square of the number takes many minutes.
    assert!(began.elapsed() < secs(60), "{:?}", began.elapsed());
}

#[test]
fn delegated_prefixes_that_nothing_holds_together_are_bounded() {
    let many: String = (0..257u32)
        .map(|n| {
            format!(
                "[[network.reservation]]\nmac = \"02:00:02:00:{:02x}:{:02x}\"\nprefixes = [\"2001:db8:{:x}::/48\"]\n",
                n >> 8,
                n & 0xff,
                0x1000 + n
            )
        })
        .collect();
    let text = pair_with("[[network.reservation]]\n", &format!("{many}[[network.reservation]]\n"));
    assert_eq!(
        said(&text),
        [
            "network[0].reservation[255].prefixes[0] = \"2001:db8:10ff::/48\": more than 256 delegated prefixes that nothing holds together (allowed: prefixes inside one of `delegate` or of the network's `sources`)"
        ]
    );
    // With one prefix that holds them there is nothing to add.
    parse(&text.replace("source-validation", "sources = [\"2001:db8:1000::/36\"]\nsource-validation"))
        .unwrap_or_else(|e| panic!("{e}"));
}
