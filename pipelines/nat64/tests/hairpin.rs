//! Hairpinning (RFC 6146 3.8, RFC 4787 6, RFC 5382 7.2, RFC 5508 5): hosts inside reach each other by their
//! outside addresses, and errors find their way back.

mod common;

use causeway_core::DropReason;
use causeway_core::route::{Route4, Route6, Target};
use causeway_nat64::{Filtering, Options};
use causeway_testkit::{Rig, check_packet, ip6, lab_interfaces, tcp};
use common::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn g_prefix(a: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(v6("2001:db8:64:ff9b::").to_bits() | u128::from(a.to_bits()))
}

/// Source address, source port and destination port of an IPv6 packet.
fn ends(b: &[u8]) -> (Ipv6Addr, u16, u16) {
    let port = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
    (Ipv6Addr::from(<[u8; 16]>::try_from(&b[8..24]).unwrap()), port(40), port(42))
}

#[test]
fn rfc5382_7_2_req_8_a_whole_tcp_connection_between_two_hosts() {
    let mut g = Gateway::lab();
    let server = g.open(&ip6(VM2, SERVER6).tcp(&tcp(22, 80).syn()));
    let to_server = ip6(VM1, g_prefix(server.0));
    let got = g.six(&to_server.tcp(&tcp(4000, server.1).syn())).sent();
    check_packet(&got).unwrap();
    let (client6, client_port, port) = ends(&got);
    assert_eq!(port, 22);
    // REQ-8a: the source is an outside address and port.
    let client = (g.nat.config().prefixes().extract(client6).unwrap().1, client_port);
    assert!(g.nat.pool().contains(client.0));
    let to_client = ip6(VM2, client6);
    for (from_server, segment) in [
        (true, tcp(22, client_port).syn().ack(1)),
        (false, tcp(4000, server.1).ack(1).payload(b"hello")),
        (true, tcp(22, client_port).ack(6).payload(b"hello back")),
        (false, tcp(4000, server.1).fin().ack(1)),
        (true, tcp(22, client_port).fin().ack(1)),
    ] {
        let got = g.six(&if from_server { to_client.tcp(&segment) } else { to_server.tcp(&segment) }).sent();
        check_packet(&got).unwrap();
        let want =
            if from_server { (g_prefix(server.0), server.1, 4000) } else { (client6, client_port, 22) };
        assert_eq!(ends(&got), want);
    }
    // Both halves are sessions of their own, and know that both sides have closed.
    let remote = (server.0.to_string(), client.0.to_string());
    assert_eq!(g.state(client, (&remote.0, server.1), 6), Some(6));
    assert_eq!(g.state(server, (&remote.1, client.1), 6), Some(6));
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 7),
        ("nat64-v4-to-v6", 6),
        ("nat64-hairpin", 6),
        ("nat64-sessions-created", 3),
        ("nat64-mappings-created", 2),
    ]);
}

#[test]
fn rfc6146_3_8_hairpinned_packets_are_filtered_as_any_other() {
    let mut g = Gateway::with(Options { filtering: Filtering::AddressDependent, ..options() });
    let b = g.open(&ip6(VM2, SERVER6).udp(7000, 53, b""));
    let p = ip6(VM1, g_prefix(b.0)).udp(4000, b.1, b"x");
    assert_eq!(g.six(&p).dropped(), DropReason::Nat64Filtered);
    // VM1 has sent to VM2's address, so VM2 gets in; and with that VM1, too.
    let a = g.open(&ip6(VM1, SERVER6).udp(4000, 53, b""));
    let got = g.six(&ip6(VM2, g_prefix(a.0)).udp(7000, a.1, b"x")).sent();
    assert_eq!(got, ip6(g_prefix(b.0), VM1).hop_limit(63).udp(b.1, 4000, b"x"));
    assert!(matches!(g.six(&p), Fate::Sent(..)));
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 5),
        ("nat64-v4-to-v6", 2),
        ("nat64-hairpin", 3),
        ("nat64-sessions-created", 4),
        ("nat64-mappings-created", 2),
        ("nat64-permissions-created", 4),
    ]);
}

#[test]
fn rfc5508_5_req_7_a_hairpinned_query_that_meets_a_mapping() {
    // An echo has one identifier, which the first half of the way replaces: it meets a mapping of the other
    // host only if that has the same one. Here there is one identifier for each address.
    let o = Options { first_port: 3000, last_port: 3000, ..options() };
    let found = (0..200).find_map(|_| {
        let mut g = Gateway::with(o.clone());
        let a = g.open(&ip6(VM1, SERVER6).echo_request(5, 1, b""));
        let b = g.open(&ip6(VM2, SERVER6).echo_request(6, 1, b""));
        (a.0 != b.0 && (a.1, b.1) == (3000, 3000)).then_some((g, a, b))
    });
    let (mut g, a, b) = found.expect("one of two hundred gateways gives two hosts different addresses");
    let got = g.six(&ip6(VM1, g_prefix(b.0)).echo_request(5, 9, b"ping")).sent();
    check_packet(&got).unwrap();
    assert_eq!(got, ip6(g_prefix(a.0), VM2).hop_limit(63).echo_request(6, 9, b"ping"));
    let got = g.six(&ip6(VM2, g_prefix(a.0)).echo_reply(6, 9, b"ping")).sent();
    assert_eq!(got, ip6(g_prefix(b.0), VM1).hop_limit(63).echo_reply(5, 9, b"ping"));
    assert_eq!(g.sessions(), 4);
}

#[test]
fn rfc5508_5_req_7_errors_of_hosts_about_hairpinned_tcp_and_udp_turn_back() {
    let mut g = Gateway::lab();
    let t = g.open(&ip6(VM2, SERVER6).tcp(&tcp(22, 80).syn()));
    let u = g.open(&ip6(VM2, SERVER6).udp(53, 80, b""));
    for p in
        [ip6(VM1, g_prefix(t.0)).tcp(&tcp(4000, t.1).syn()), ip6(VM1, g_prefix(u.0)).udp(4000, u.1, b"x")]
    {
        let got = g.six(&p).sent();
        let error = g.six(&ip6(VM2, ends(&got).0).icmp(1, 4, [0; 4], &got)).sent();
        check_packet(&error).unwrap();
        // REQ-7a: to the source of the packet inside, after its translation.
        assert_eq!((&error[24..40], &error[40..42]), (&v6(VM1).octets()[..], &[1, 4][..]));
        let mut inner = error[48..].to_vec();
        inner[7] = p[7];
        assert_eq!(inner, p);
    }
}

#[test]
fn rfc6146_3_8_the_gateways_own_error_about_a_hairpinned_packet_turns_back() {
    let mut g = Gateway::lab();
    let mut interfaces = lab_interfaces();
    interfaces[2].mtu = 1300;
    let six = Route6 { prefix: "::/0".parse().unwrap(), target: via("2001:db8:ffff::1") };
    let four = Route4 { prefix: "0.0.0.0/0".parse().unwrap(), target: via("192.0.2.1") };
    g.rig = Rig::new(interfaces, &[six], &[four]).unwrap();
    // A host behind a link with a small MTU.
    let b = g.open(&ip6("2001:db8:65::9", SERVER6).udp(7000, 53, b""));
    let p = ip6(VM1, g_prefix(b.0)).udp(4000, b.1, &[7; 1360]);
    assert_eq!(g.six(&p).dropped(), DropReason::Nat64TooBig);
    let sent = g.rig.sent();
    assert_eq!(sent.len(), 1);
    let e = &sent[0].octets;
    assert_eq!((&e[24..40], &e[40..42]), (&v6(VM1).octets()[..], &[2, 0][..]), "packet too big");
    assert_eq!(e[44..48], 1300u32.to_be_bytes());
    // It is about what VM1 sent.
    assert_eq!((&e[56..72], &e[72..88]), (&v6(VM1).octets()[..], &g_prefix(b.0).octets()[..]));
    assert_eq!(e[88..92], p[40..44]);
    // With what the link carries it goes through.
    let p = ip6(VM1, g_prefix(b.0)).udp(4000, b.1, &[7; 1240]);
    assert!(matches!(g.six(&p), Fate::Sent(..)));
}

fn via<A: std::str::FromStr<Err = std::net::AddrParseError>>(gateway: &str) -> Target<A> {
    Target::Via { gateway: gateway.parse().unwrap(), interface: None }
}
