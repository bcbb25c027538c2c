//! ICMP errors in both directions (RFC 7915 4.2, 4.3, 5.2, 5.3, RFC 4884, RFC 5508).

mod common;

use causeway_core::{DropReason, Duration};
use causeway_nat64::Options;
use causeway_testkit::nat64_oracle;
use causeway_testkit::{check_packet, describe, ip4, ip6, poke, tcp};
use common::*;
use std::net::Ipv4Addr;

const ROUTER: &str = "198.51.100.1";

/// A gateway with a UDP flow, and the two packets of it as each side sees them.
struct Flowing {
    g: Gateway,
    out: (Ipv4Addr, u16),
    /// What the IPv4 side got from the host.
    sent4: Vec<u8>,
    /// What the IPv6 side got from the server.
    sent6: Vec<u8>,
}

fn flowing(payload: usize) -> Flowing {
    let mut g = Gateway::lab();
    let request = ip6(VM1, SERVER6).udp(4000, 53, &vec![1; payload]);
    let out = g.open(&request);
    let sent4 = g.six(&request).sent();
    let sent6 = g.four(&ip4(SERVER, out.0).udp(53, out.1, &vec![2; payload])).sent();
    let _ = g.rig.sent();
    Flowing { g, out, sent4, sent6 }
}

fn word(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// RFC 7915 4.3, RFC 5382 7.3 (REQ-9), RFC 4787 9 (REQ-12b), RFC 4884 5.5.
#[test]
fn rfc7915_4_2_every_type_and_code_to_ipv6_equals_the_oracle() {
    let Flowing { mut g, out, sent4, .. } = flowing(30);
    let f = flow(VM1, 4000, 53, out);
    let mut translated = 0;
    for kind in 0..=255u8 {
        for code in 0..=20u8 {
            if matches!(kind, 0 | 8) {
                continue;
            }
            let word = if kind == 12 { word(9 << 24) } else { word(1400) };
            let p = ip4(SERVER, out.0).icmp(kind, code, word, &sent4);
            let want = nat64_oracle::v4_to_v6(&p, &f, &choice(0));
            // Codes of Time Exceeded are passed on as they are; the oracle knows the two that exist.
            if kind == 11 && code > 1 {
                continue;
            }
            match (g.four(&p), want) {
                (Fate::Sent(b, _), Some(want)) => {
                    check_packet(&b).unwrap();
                    assert_eq!(b, want, "{kind} {code}: {} not {}", describe(&b), describe(&want));
                    translated += 1;
                }
                (Fate::Dropped(DropReason::Nat64IcmpType), None) => {}
                (got, want) => panic!("{kind} {code}: {got:?}, not {want:?}"),
            }
        }
    }
    assert_eq!(translated, 15 + 2 + 2);
    assert!(g.rig.sent().is_empty());
}

/// RFC 7915 5.3, RFC 5382 7.3 (REQ-9).
#[test]
fn rfc7915_5_2_every_type_and_code_to_ipv4_equals_the_oracle() {
    let Flowing { mut g, out, sent6, .. } = flowing(30);
    let f = flow(VM1, 4000, 53, out);
    let mut translated = 0;
    for kind in 0..128u8 {
        for code in 0..=20u8 {
            if (kind == 3 && code > 1) || (kind == 2 && code > 0) {
                continue;
            }
            let word = if kind == 4 { word(7) } else { word(1300) };
            let word = if matches!(kind, 1 | 3) { [0; 4] } else { word };
            let p = ip6(VM1, SERVER6).icmp(kind, code, word, &sent6);
            match (g.six(&p), nat64_oracle::v6_to_v4(&p, &f, &choice(0))) {
                (Fate::Sent(b, _), Some(_)) => {
                    check_packet(&b).unwrap();
                    let want = nat64_oracle::v6_to_v4(&p, &f, &choice(id_of(&b))).unwrap();
                    assert_eq!(b, want, "{kind} {code}: {} not {}", describe(&b), describe(&want));
                    translated += 1;
                }
                (Fate::Dropped(DropReason::Nat64IcmpType), None) => {}
                (got, want) => panic!("{kind} {code}: {got:?}, not {want:?}"),
            }
        }
    }
    assert_eq!(translated, 5 + 1 + 2 + 2);
}

#[test]
fn rfc7915_4_2_5_2_every_pointer_equals_the_oracle() {
    let Flowing { mut g, out, sent4, sent6 } = flowing(30);
    let f = flow(VM1, 4000, 53, out);
    for pointer in 0..=255u8 {
        let p = ip4(SERVER, out.0).icmp(12, 0, [pointer, 0, 0, 0], &sent4);
        match nat64_oracle::v4_to_v6(&p, &f, &choice(0)) {
            Some(want) => assert_eq!(g.four(&p).sent(), want, "{pointer}"),
            None => assert_eq!(g.four(&p).dropped(), DropReason::Nat64IcmpType, "{pointer}"),
        }
        let p = ip6(VM1, SERVER6).icmp(4, 0, word(u32::from(pointer)), &sent6);
        match nat64_oracle::v6_to_v4(&p, &f, &choice(0)) {
            Some(_) => {
                let b = g.six(&p).sent();
                assert_eq!(b, nat64_oracle::v6_to_v4(&p, &f, &choice(id_of(&b))).unwrap(), "{pointer}");
            }
            None => assert_eq!(g.six(&p).dropped(), DropReason::Nat64IcmpType, "{pointer}"),
        }
    }
    let p = ip6(VM1, SERVER6).icmp(4, 0, word(u32::MAX), &sent6);
    assert_eq!(g.six(&p).dropped(), DropReason::Nat64IcmpType);
}

#[test]
fn rfc7915_4_2_mtu_with_floor_and_rfc1191_7_plateaus() {
    let Flowing { mut g, out, sent4, .. } = flowing(1400);
    assert_eq!(sent4.len(), 1428);
    let mtu6 = |g: &mut Gateway, told: u16| {
        let p = ip4(ROUTER, out.0).icmp(3, 4, word(u32::from(told)), &sent4[..60]);
        let b = g.four(&p).sent();
        assert_eq!(b[40..42], [2, 0]);
        u32::from_be_bytes([b[44], b[45], b[46], b[47]])
    };
    // 20 octets more, at least 1280, at most the links'.
    for (told, want) in
        [(1400, 1420), (1480, 1500), (1500, 1500), (9000, 1500), (1260, 1280), (600, 1280), (68, 1280)]
    {
        assert_eq!(mtu6(&mut g, told), want, "{told}");
    }
    // A router that says nothing: the plateau below 1428 octets is 1006.
    assert_eq!(mtu6(&mut g, 0), 1280);
}

#[test]
fn rfc7915_5_2_mtu_to_ipv4() {
    let Flowing { mut g, sent6, .. } = flowing(1400);
    let mtu4 = |g: &mut Gateway, told: u32| {
        let p = ip6("2001:db8:64::fe", SERVER6).icmp(2, 0, word(told), &sent6[..100]);
        let b = g.six(&p).sent();
        assert_eq!(b[20..22], [3, 4]);
        u16::from_be_bytes([b[26], b[27]])
    };
    for (told, want) in [(1500, 1480), (1280, 1260), (9000, 1480), (u32::MAX, 1480), (0, 68), (40, 68)] {
        assert_eq!(mtu4(&mut g, told), want, "{told}");
    }
}

#[test]
fn rfc5508_4_2_1_req_4_and_4_2_2_req_5_errors_find_their_session_in_both_directions() {
    let mut g = Gateway::lab();
    let host = ip6(VM1, SERVER6);
    for (request, reply) in [
        (host.udp(4000, 53, b"question"), 17u8),
        (host.tcp(&tcp(4000, 53).syn().payload(b"early")), 6),
        (host.echo_request(4000, 9, b"ping"), 1),
        (host.echo_reply(4001, 9, b"pong"), 1),
    ] {
        let out = g.open(&request);
        let sent4 = g.six(&request).sent();
        let rp = if reply == 1 { 0 } else { 53 };
        let hp = if request[40] == 129 { 4001 } else { 4000 };
        let f = flow(VM1, hp, rp, out);
        let p = ip4(SERVER, out.0).icmp(3, 1, [0; 4], &sent4);
        let b = g.four(&p).sent();
        check_packet(&b).unwrap();
        assert_eq!(b, nat64_oracle::v4_to_v6(&p, &f, &choice(0)).unwrap());

        let back = ip4(SERVER, out.0);
        let back = match reply {
            17 => back.udp(53, out.1, b"answer"),
            6 => back.tcp(&tcp(53, out.1).syn().ack(1)),
            _ => back.echo_request(out.1, 9, b"from outside"),
        };
        let sent6 = g.four(&back).sent();
        let p = ip6(VM1, SERVER6).icmp(1, 4, [0; 4], &sent6);
        let b = g.six(&p).sent();
        check_packet(&b).unwrap();
        assert_eq!(b, nat64_oracle::v6_to_v4(&p, &f, &choice(id_of(&b))).unwrap());
    }
}

/// RFC 4787 9 (REQ-12), RFC 5382 7.3 (REQ-10).
#[test]
fn rfc6146_3_5_and_rfc5508_4_3_req_6_errors_never_renew_a_session() {
    let Flowing { mut g, out, sent4, sent6 } = flowing(10);
    for _ in 0..29 {
        g.pass(Duration::from_secs(10));
        g.four(&ip4(SERVER, out.0).icmp(3, 1, [0; 4], &sent4)).sent();
        g.six(&ip6(VM1, SERVER6).icmp(1, 0, [0; 4], &sent6)).sent();
    }
    g.pass(Duration::from_secs(11));
    assert_eq!(g.sessions(), 0);
    assert_eq!(
        g.four(&ip4(SERVER, out.0).icmp(3, 1, [0; 4], &sent4)).dropped(),
        DropReason::Nat64IcmpNoSession
    );
}

#[test]
fn rfc5508_4_2_1_req_4_and_4_2_2_req_5_errors_about_packets_that_nobody_sent_are_dropped() {
    let Flowing { mut g, out, sent4, sent6 } = flowing(10);
    let other_port = poke(sent4.clone(), 20, &[0x11, 0x11]);
    assert_eq!(
        g.four(&ip4(SERVER, out.0).icmp(3, 1, [0; 4], &other_port)).dropped(),
        DropReason::Nat64IcmpNoSession
    );
    // The packet inside has to come from where the error goes.
    let p = ip4(SERVER, "203.0.113.14").icmp(3, 1, [0; 4], &sent4);
    let elsewhere =
        if out.0 == v4("203.0.113.14") { ip4(SERVER, "203.0.113.13").icmp(3, 1, [0; 4], &sent4) } else { p };
    assert_eq!(g.four(&elsewhere).dropped(), DropReason::Nat64IcmpNoSession);
    let p = ip6(VM1, "2001:db8:64:ff9b::198.51.100.11").icmp(1, 4, [0; 4], &sent6);
    assert_eq!(g.six(&p).dropped(), DropReason::Nat64IcmpNoSession);
    let stranger = ip6("2001:db8:6::10", VM1).udp(1, 2, b"");
    assert_eq!(
        g.six(&ip6(VM1, SERVER6).icmp(1, 4, [0; 4], &stranger)).dropped(),
        DropReason::Nat64IcmpNoSession
    );
    assert!(g.rig.sent().is_empty(), "RFC 4443 2.4(e.1): nothing is said about an error");
}

/// RFC 6146 3.4, RFC 5508 4.1 (REQ-3).
#[test]
fn rfc7915_4_3_5_3_wrong_checksums_short_and_nested_errors_are_dropped() {
    let Flowing { mut g, out, sent4, sent6 } = flowing(10);
    let four = ip4(SERVER, out.0).icmp(3, 1, [0; 4], &sent4);
    assert_eq!(g.four(&poke(four, 22, &[0, 1])).dropped(), DropReason::Nat64BadChecksum);
    let six = ip6(VM1, SERVER6).icmp(1, 0, [0; 4], &sent6);
    assert_eq!(g.six(&poke(six, 42, &[0, 1])).dropped(), DropReason::Nat64BadChecksum);
    let bad = DropReason::Nat64BadTransport;
    for n in [0, 1, 19, 20, 27] {
        assert_eq!(g.four(&ip4(SERVER, out.0).icmp(3, 1, [0; 4], &sent4[..n])).dropped(), bad, "{n}");
    }
    for n in [0, 1, 39, 40, 47] {
        assert_eq!(g.six(&ip6(VM1, SERVER6).icmp(1, 0, [0; 4], &sent6[..n])).dropped(), bad, "{n}");
    }
    let nested = ip4(out.0, SERVER).icmp(3, 1, [0; 4], &sent4);
    assert_eq!(g.four(&ip4(SERVER, out.0).icmp(3, 1, [0; 4], &nested)).dropped(), DropReason::Nat64IcmpType);
    let nested = ip6(SERVER6, VM1).icmp(1, 0, [0; 4], &sent6);
    assert_eq!(g.six(&ip6(VM1, SERVER6).icmp(1, 0, [0; 4], &nested)).dropped(), DropReason::Nat64IcmpType);
    let later = ip4(out.0, SERVER).fragment(10, false).raw(17, &[0; 40]);
    assert_eq!(g.four(&ip4(SERVER, out.0).icmp(3, 1, [0; 4], &later)).dropped(), DropReason::Nat64Fragment);
    // Eight octets of the upper layer are enough (RFC 792).
    let b = g.four(&ip4(SERVER, out.0).icmp(3, 1, [0; 4], &sent4[..28])).sent();
    check_packet(&b).unwrap();
    assert_eq!(b.len(), 40 + 8 + 40 + 8);
}

#[test]
fn rfc4443_2_4_c_an_error_fits_the_lowest_mtu_and_rfc1812_4_3_2_3_or_576_octets() {
    let Flowing { mut g, out, sent4, sent6 } = flowing(1300);
    let b = g.four(&ip4(SERVER, out.0).icmp(11, 0, [0; 4], &sent4)).sent();
    check_packet(&b).unwrap();
    assert_eq!(b.len(), 1280);
    let b = g.six(&ip6(VM1, SERVER6).icmp(3, 0, [0; 4], &sent6[..1232])).sent();
    check_packet(&b).unwrap();
    assert_eq!(b.len(), 576);
}

/// RFC 6791 3.2.
#[test]
fn rfc7915_6_and_rfc6791_4_a_router_inside_gets_an_address_that_is_ours() {
    let Flowing { mut g, out, sent6, .. } = flowing(10);
    let p = ip6("2001:db8:64::fe", SERVER6).icmp(3, 0, [0; 4], &sent6);
    let b = g.six(&p).sent();
    assert_eq!(b[12..16], [192, 0, 2, 2], "the gateway's own on the way out");
    let from_host = g.six(&ip6(VM1, SERVER6).icmp(1, 4, [0; 4], &sent6)).sent();
    assert_eq!(from_host[12..16], out.0.octets());

    let mut g = Gateway::with(Options { icmp_source: Some(v4("192.0.2.77")), ..options() });
    let out = g.open(&ip6(VM1, SERVER6).udp(4000, 53, b""));
    let sent6 = g.four(&ip4(SERVER, out.0).udp(53, out.1, b"")).sent();
    let b = g.six(&ip6("2001:db8:64::fe", SERVER6).icmp(3, 0, [0; 4], &sent6)).sent();
    assert_eq!(b[12..16], [192, 0, 2, 77]);
}

/// RFC 5837 4.1, RFC 5837 6, RFC 6791 4.
#[test]
fn rfc5837_4_a_router_inside_is_named_in_an_extension() {
    let Flowing { mut g, sent6, .. } = flowing(10);
    let error = ip6("2001:db8:64::fe", SERVER6).icmp(3, 0, [0; 4], &sent6);
    let b = g.six(&error).sent();
    // The datagram is padded to 128 octets: 32 words.
    assert_eq!((b[20], b[25], b.len()), (11, 32, 28 + 128 + 28));
    let extension = &b[156..];
    assert_eq!(extension[..2], [0x20, 0]);
    assert_eq!(extension[4..12], [0, 24, 2, 4, 0, 2, 0, 0]);
    assert_eq!(extension[12..], v6("2001:db8:64::fe").octets());
    let sum: u32 = extension.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    let from = ip4("192.0.2.2", SERVER).ttl(63).df(false).id(id_of(&b));
    assert_eq!(b, from.icmp(11, 0, [0, 32, 0, 0], &b[28..]));
    // The host's own errors need no name, and neither does anybody who is not asked to give one.
    let own = g.six(&ip6(VM1, SERVER6).icmp(1, 4, [0; 4], &sent6)).sent();
    assert_eq!(own[25], 0);
    let mut o = options();
    o.policy.identify_routers = false;
    let mut g = Gateway::with(o);
    let out = g.open(&ip6(VM1, SERVER6).udp(4000, 53, b""));
    let sent6 = g.four(&ip4(SERVER, out.0).udp(53, out.1, b"")).sent();
    let b = g.six(&ip6("2001:db8:64::fe", SERVER6).icmp(3, 0, [0; 4], &sent6)).sent();
    check_packet(&b).unwrap();
    assert_eq!(b[25], 0);
}

/// RFC 7915 4.1: an illegal source of an error is translated. RFC 4787 9 (REQ-12a).
#[test]
fn rfc7915_4_2_a_router_outside_keeps_its_address_under_the_prefix() {
    let Flowing { mut g, out, sent4, .. } = flowing(10);
    for router in [ROUTER, "10.1.2.3"] {
        let b = g.four(&ip4(router, out.0).icmp(11, 0, [0; 4], &sent4)).sent();
        check_packet(&b).unwrap();
        assert_eq!(b[20..24], v4(router).octets());
        assert_eq!(b[40..42], [3, 0]);
    }
}

#[test]
fn rfc6052_3_1_a_private_router_is_not_named_under_the_well_known_prefix() {
    let mut g = Gateway::with(Options { prefixes: vec!["64:ff9b::/96".parse().unwrap()], ..options() });
    let request = ip6(VM1, "64:ff9b::9.9.9.9").udp(4000, 53, b"");
    let out = g.open(&request);
    let sent4 = g.six(&request).sent();
    let b = g.four(&ip4("10.1.2.3", out.0).icmp(11, 0, [0; 4], &sent4)).sent();
    assert_eq!(b[8..24], v6("64:ff9b::9.9.9.9").octets());
    // And a stranger with such an address does not get in.
    let p = ip4("10.1.2.3", out.0).udp(1, out.1, b"");
    assert_eq!(g.four(&p).dropped(), DropReason::Nat64BadSource);
}

#[test]
fn rfc7915_4_3_5_3_the_packet_inside_keeps_its_fragment_fields() {
    let Flowing { mut g, out, sent4, sent6 } = flowing(40);
    // A first fragment inside: more to come, Identification 0x1234.
    let upper = &sent4[20..68];
    let inside = ip4(out.0, SERVER).id(0x1234).fragment(0, true).raw(17, upper);
    let p = ip4(SERVER, out.0).icmp(11, 1, [0; 4], &inside);
    let f = flow(VM1, 4000, 53, out);
    let b = g.four(&p).sent();
    assert_eq!(b, nat64_oracle::v4_to_v6(&p, &f, &choice(0)).unwrap());
    assert_eq!(b[48 + 6], 44);
    let inside = ip6(SERVER6, VM1).fragment(0, true, 0x0001_2345).raw(17, &sent6[40..88]);
    let p = ip6(VM1, SERVER6).icmp(3, 1, [0; 4], &inside);
    let b = g.six(&p).sent();
    assert_eq!(b, nat64_oracle::v6_to_v4(&p, &f, &choice(id_of(&b))).unwrap());
    assert_eq!(b[28 + 4..28 + 8], [0x23, 0x45, 0x20, 0]);
}

/// An extension structure of RFC 4884: version 2, a checksum, and one object of RFC 4950 (a label).
fn extension() -> Vec<u8> {
    let mut e = vec![0x20, 0, 0, 0, 0, 8, 1, 1, 0x12, 0x34, 0x51, 0xff];
    let sum: u32 = e.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    e[2..4].copy_from_slice(&sum.to_be_bytes());
    e
}

fn padded(mut b: Vec<u8>, to: usize) -> Vec<u8> {
    b.resize(to, 0);
    b
}

/// RFC 4884 4.6, RFC 4884 6, RFC 5837 5.
#[test]
fn rfc7915_4_2_5_2_and_rfc4884_4_extensions_move_with_their_length_to_ipv6() {
    for n in [10, 60, 92, 100, 103] {
        let Flowing { mut g, out, sent4, .. } = flowing(n);
        let datagram = padded(sent4.clone(), sent4.len().next_multiple_of(4).max(128));
        let words = u8::try_from(datagram.len() / 4).unwrap();
        let body = [datagram, extension()].concat();
        for kind in [3u8, 11] {
            let b = g.four(&ip4(ROUTER, out.0).icmp(kind, 0, [0, words, 0, 0], &body)).sent();
            let stated = usize::from(b[44]) * 8;
            assert!(stated >= 128, "{stated}");
            assert_eq!(&b[48 + stated..], &extension()[..], "{n}");
            // The packet inside is what it is without extensions, then zeros.
            let plain = g.four(&ip4(ROUTER, out.0).icmp(kind, 0, [0; 4], &sent4)).sent();
            let inner = &plain[48..];
            assert_eq!(&b[48..48 + inner.len()], inner);
            assert!(b[48 + inner.len()..48 + stated].iter().all(|o| *o == 0));
            // The same by the builder, with its checksum.
            let from = ip6("2001:db8:64:ff9b::198.51.100.1", VM1).hop_limit(63);
            assert_eq!(b, from.icmp(b[40], b[41], [b[44], 0, 0, 0], &b[48..]));
        }
        // Packet Too Big has no room for a length: the extension is left out.
        let b = g.four(&ip4(ROUTER, out.0).icmp(3, 4, [0, words, 0x05, 0x78], &body)).sent();
        assert_eq!((b[40], u32::from_be_bytes([b[44], b[45], b[46], b[47]])), (2, 1420));
        assert!(!b.windows(12).any(|w| w == extension()));
    }
}

/// RFC 4884 6, RFC 5837 5.
#[test]
fn rfc7915_4_2_5_2_and_rfc4884_4_extensions_move_with_their_length_to_ipv4() {
    for n in [10, 80, 100, 101] {
        let Flowing { mut g, out, sent6, .. } = flowing(n);
        let datagram = padded(sent6.clone(), sent6.len().next_multiple_of(8).max(128));
        let words = u8::try_from(datagram.len() / 8).unwrap();
        let body = [datagram, extension()].concat();
        for kind in [1u8, 3] {
            let b = g.six(&ip6(VM1, SERVER6).icmp(kind, 0, [words, 0, 0, 0], &body)).sent();
            let stated = usize::from(b[25]) * 4;
            assert!(stated >= 128, "{stated}");
            assert_eq!(&b[28 + stated..], &extension()[..], "{n}");
            let plain = g.six(&ip6(VM1, SERVER6).icmp(kind, 0, [0; 4], &sent6)).sent();
            let inner = &plain[28..];
            assert_eq!(&b[28..28 + inner.len()], inner);
            assert!(b[28 + inner.len()..28 + stated].iter().all(|o| *o == 0));
            // The same by the builder, with its checksums.
            let from = ip4(out.0, SERVER).ttl(63).df(false).id(id_of(&b));
            assert_eq!(b, from.icmp(b[20], b[21], [0, b[25], 0, 0], &b[28..]));
        }
    }
}

/// RFC 4884 7.
#[test]
fn rfc7915_4_2_and_rfc4884_4_a_length_beyond_the_packet_is_refused_and_a_large_datagram_is_cut() {
    let Flowing { mut g, out, sent4, .. } = flowing(1000);
    let p = ip4(ROUTER, out.0).icmp(11, 0, [0, 255, 0, 0], &sent4[..200]);
    assert_eq!(g.four(&p).dropped(), DropReason::Nat64BadTransport);
    let body = [sent4[..1020].to_vec(), extension()].concat();
    let b = g.four(&ip4(ROUTER, out.0).icmp(11, 0, [0, 255, 0, 0], &body)).sent();
    assert!(b.len() <= 1280);
    assert_eq!(&b[b.len() - 12..], &extension()[..]);
    assert_eq!(usize::from(b[44]) * 8, b.len() - 48 - 12);
}

/// RFC 5508 5 (REQ-7), RFC 7857 12.
#[test]
fn rfc6146_3_8_an_error_about_a_hairpinned_packet_reaches_its_sender() {
    let mut g = Gateway::lab();
    let b = g.open(&ip6(VM2, SERVER6).udp(7000, 53, b""));
    let vm2_outside = g.nat.config().prefixes().get(0).unwrap().embed(b.0);
    let p = ip6(VM1, vm2_outside).udp(4000, b.1, b"to a closed port");
    let got = g.six(&p).sent();
    // VM2 answers with port unreachable.
    let seen = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&got[8..24]).unwrap());
    let error = g.six(&ip6(VM2, seen).icmp(1, 4, [0; 4], &got)).sent();
    check_packet(&error).unwrap();
    assert_eq!(error[24..40], v6(VM1).octets());
    assert_eq!(error[8..24], vm2_outside.octets());
    assert_eq!(error[40..42], [1, 4]);
    // Inside is what VM1 sent, but for the hops it lost.
    let mut inner = error[48..].to_vec();
    inner[7] = p[7];
    assert_eq!(inner, p);
}

#[test]
fn an_error_with_a_hop_limit_of_one_dies_quietly() {
    let Flowing { mut g, out, sent4, sent6 } = flowing(10);
    let p = ip4(SERVER, out.0).ttl(1).icmp(3, 1, [0; 4], &sent4);
    assert_eq!(g.four(&p).dropped(), DropReason::HopLimit);
    let p = ip6(VM1, SERVER6).hop_limit(1).icmp(1, 1, [0; 4], &sent6);
    assert_eq!(g.six(&p).dropped(), DropReason::HopLimit);
    assert!(g.rig.sent().is_empty());
}
