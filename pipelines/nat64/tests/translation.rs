//! Headers, one clause at a time, and every result equal to the oracle's.

mod common;

use causeway_core::DropReason;
use causeway_nat64::{ClassPolicy, DfPolicy, Options, Policy, UdpZero};
use causeway_testkit::nat64_oracle;
use causeway_testkit::{Tcp, check_packet, ip4, ip6, poke, reassemble, tcp};
use common::*;
use std::net::Ipv4Addr;

fn udp6(n: usize) -> Vec<u8> {
    ip6(VM1, SERVER6).udp(4000, 53, &vec![7; n])
}

fn with_policy(f: impl FnOnce(&mut Policy)) -> Gateway {
    let mut o = options();
    f(&mut o.policy);
    Gateway::with(o)
}

fn syn() -> Tcp {
    tcp(5000, 80).syn()
}

/// RFC 7915 4.1, RFC 7915 4.2, RFC 7915 4.5, RFC 7915 5, RFC 7915 5.5, RFC 5508 3.1 (REQ-1), RFC 6888 3 (REQ-1).
#[test]
fn rfc7915_5_1_every_protocol_equals_the_oracle_and_comes_back() {
    let mut g = Gateway::lab();
    let host = ip6(VM1, SERVER6).hop_limit(33).traffic_class(0xb9);
    for (p, protocol) in [
        (host.udp(4000, 53, b"question"), 17),
        (host.tcp(&syn().payload(b"x")), 6),
        (host.echo_request(77, 1, b"ping pong"), 1),
    ] {
        let b = g.six(&p).sent();
        check_packet(&b).unwrap();
        let own = if protocol == 1 { 24 } else { 20 };
        let out = (Ipv4Addr::new(b[12], b[13], b[14], b[15]), u16::from_be_bytes([b[own], b[own + 1]]));
        assert!((1024..).contains(&out.1) && (203, 0, 113) == (b[12], b[13], b[14]));
        let (hp, rp) = match protocol {
            17 => (4000, 53),
            6 => (5000, 80),
            _ => (77, 0),
        };
        let f = flow(VM1, hp, rp, out);
        assert_eq!(b, nat64_oracle::v6_to_v4(&p, &f, &choice(id_of(&b))).unwrap());
        let back = ip4(SERVER, out.0).ttl(9).tos(0x1a);
        let reply = match protocol {
            17 => back.udp(53, out.1, b"answer"),
            6 => back.tcp(&tcp(80, out.1).syn().payload(b"yy")),
            _ => back.echo_reply(out.1, 1, b"ping pong"),
        };
        let b = g.four(&reply).sent();
        check_packet(&b).unwrap();
        assert_eq!(b, nat64_oracle::v4_to_v6(&reply, &f, &choice(0)).unwrap());
        assert_eq!((b[7], (b[0] << 4) | (b[1] >> 4)), (8, 0x1a));
    }
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 3),
        ("nat64-v4-to-v6", 3),
        ("nat64-sessions-created", 3),
        ("nat64-mappings-created", 3),
    ]);
}

/// RFC 7915 5.
#[test]
fn rfc7915_5_1_df_by_size_and_a_real_identification() {
    let mut g = Gateway::lab();
    let frag = |b: &[u8]| u16::from_be_bytes([b[6], b[7]]);
    // 1260 octets of IPv4: 20 header, 8 UDP, 1232 payload.
    let small = g.six(&udp6(1232)).sent();
    assert_eq!((small.len(), frag(&small)), (1260, 0));
    let large = g.six(&udp6(1233)).sent();
    assert_eq!((large.len(), frag(&large)), (1261, 0x4000));
    let ids: std::collections::HashSet<u16> = (0..100).map(|_| id_of(&g.six(&udp6(1)).sent())).collect();
    assert_eq!(ids.len(), 100);

    let mut always = with_policy(|p| p.df = DfPolicy::Always);
    assert_eq!(frag(&always.six(&udp6(1)).sent()), 0x4000);
    let mut never = with_policy(|p| p.df = DfPolicy::Never);
    assert_eq!(frag(&never.six(&udp6(1300)).sent()), 0);
}

#[test]
fn rfc7915_4_1_5_1_traffic_class_is_copied_or_set() {
    let mut g = with_policy(|p| {
        p.tos = ClassPolicy::Set(0x10);
        p.traffic_class = ClassPolicy::Set(0x20);
    });
    let out = g.open(&ip6(VM1, SERVER6).traffic_class(0xff).udp(1, 2, b""));
    let b = g.six(&ip6(VM1, SERVER6).traffic_class(0xff).udp(1, 2, b"")).sent();
    assert_eq!(b[1], 0x10);
    let b = g.four(&ip4(SERVER, out.0).tos(0xff).udp(2, out.1, b"")).sent();
    assert_eq!((b[0] << 4) | (b[1] >> 4), 0x20);
    check_packet(&b).unwrap();
}

/// RFC 7915 4.1 and 5.1, RFC 4443 3.3, RFC 5508 7.2 (REQ-10a).
#[test]
fn rfc8200_3_and_rfc1812_5_3_1_the_last_hop_is_answered() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let _ = g.rig.sent();
    for hops in [0, 1] {
        let p = ip6(VM1, SERVER6).hop_limit(hops).udp(4000, 53, b"x");
        assert_eq!(g.six(&p).dropped(), DropReason::HopLimit);
        let sent = g.rig.sent();
        assert_eq!((sent.len(), sent[0].octets[40], sent[0].octets[41]), (1, 3, 0));
        assert_eq!(&sent[0].octets[24..40], &v6(VM1).octets());
        let p = ip4(SERVER, out.0).ttl(hops).udp(53, out.1, b"x");
        assert_eq!(g.four(&p).dropped(), DropReason::HopLimit);
        let sent = g.rig.sent();
        assert_eq!((sent.len(), sent[0].octets[20], sent[0].octets[21]), (1, 11, 0));
    }
    assert_eq!(g.six(&ip6(VM1, SERVER6).hop_limit(2).udp(4000, 53, b"x")).sent()[8], 1);
}

#[test]
fn rfc7915_5_1_extension_headers_are_skipped() {
    let mut g = Gateway::lab();
    let chains = [
        ip6(VM1, SERVER6).hop_by_hop(&[1, 4, 0, 0, 0, 0]),
        ip6(VM1, SERVER6).dest_options(&[1, 4, 0, 0, 0, 0]),
        ip6(VM1, SERVER6)
            .hop_by_hop(&[1, 4, 0, 0, 0, 0])
            .dest_options(&[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ip6(VM1, SERVER6).routing(4, 0, &[0; 4]),
        ip6(VM1, SERVER6).fragment(0, false, 0x1234_5678),
        ip6(VM1, SERVER6).dest_options(&[1, 4, 0, 0, 0, 0]).fragment(0, false, 0x1234_5678),
    ];
    let out = g.open(&udp6(1));
    for chain in chains {
        let p = chain.udp(4000, 53, b"data");
        let b = g.six(&p).sent();
        assert_eq!(b, nat64_oracle::v6_to_v4(&p, &flow(VM1, 4000, 53, out), &choice(id_of(&b))).unwrap());
        assert_eq!(b.len(), 20 + 8 + 4);
    }
}

#[test]
fn rfc7915_5_1_1_an_atomic_fragment_becomes_a_packet_with_its_identification() {
    let mut g = Gateway::lab();
    let b = g.six(&ip6(VM1, SERVER6).fragment(0, false, 0xdead_beef).udp(4000, 53, &[0; 1300])).sent();
    assert_eq!((id_of(&b), &b[6..8]), (0xbeef, &[0, 0][..]));
}

/// RFC 5508 7.5 (REQ-10b), RFC 4443 3.4.
#[test]
fn rfc7915_5_1_segments_left_are_answered_with_a_pointer() {
    let mut g = Gateway::lab();
    let segments = [&[0; 4][..], &v6(SERVER6).octets()].concat();
    let chain = ip6(VM1, SERVER6).hop_by_hop(&[1, 4, 0, 0, 0, 0]).routing(4, 1, &segments);
    let p = chain.final_dst(SERVER6).udp(4000, 53, b"x");
    assert_eq!(g.six(&p).dropped(), DropReason::Nat64SourceRoute);
    let sent = g.rig.sent();
    // Parameter Problem, erroneous header field, pointing at segments left: 40 + 8 + 3.
    assert_eq!(&sent[0].octets[40..42], &[4, 0]);
    assert_eq!(&sent[0].octets[44..48], &51u32.to_be_bytes());
    assert_eq!(g.sessions(), 0);
}

#[test]
fn rfc7915_4_1_options_are_skipped_but_a_source_route_is_refused() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let f = flow(VM1, 4000, 53, out);
    let _ = g.rig.sent();
    // Record route, timestamp, router alert, no-operation and end, and a source route that has run out.
    for options in [
        &[7u8, 7, 4, 0, 0, 0, 0, 0][..],
        &[1, 1, 1, 0],
        &[148, 4, 0, 0],
        &[131, 7, 8, 192, 0, 2, 1, 0],
        &[137, 3, 4, 1],
    ] {
        let p = ip4(SERVER, out.0).options(options).udp(53, out.1, b"data");
        let b = g.four(&p).sent();
        assert_eq!(b, nat64_oracle::v4_to_v6(&p, &f, &choice(0)).unwrap(), "{options:?}");
        assert_eq!(b.len(), 52);
    }
    for options in [[131, 7, 4, 192, 0, 2, 1, 0], [137, 7, 4, 192, 0, 2, 1, 0], [1, 131, 7, 4, 192, 0, 2, 1]]
    {
        let p = ip4(SERVER, out.0).options(&options).udp(53, out.1, b"data");
        assert_eq!(g.four(&p).dropped(), DropReason::Nat64SourceRoute);
        let sent = g.rig.sent();
        assert_eq!((sent[0].octets[20], sent[0].octets[21]), (3, 5), "source route failed");
    }
    // Options that contradict themselves.
    for options in [[7, 0, 0, 0], [7, 9, 0, 0], [1, 1, 1, 7]] {
        let p = ip4(SERVER, out.0).options(&options).udp(53, out.1, b"data");
        assert_eq!(g.four(&p).dropped(), DropReason::Ip4BadLength);
    }
}

/// RFC 6935 5, RFC 6936 5.
#[test]
fn rfc7915_4_5_udp_without_checksum_is_computed_dropped_or_forwarded() {
    let p = |out: (Ipv4Addr, u16)| ip4(SERVER, out.0).udp_without_checksum(53, out.1, b"no checksum");
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let b = g.four(&p(out)).sent();
    check_packet(&b).unwrap();
    assert_eq!(b, nat64_oracle::v4_to_v6(&p(out), &flow(VM1, 4000, 53, out), &choice(0)).unwrap());

    let mut g = with_policy(|p| p.udp_zero = UdpZero::Drop);
    let out = g.open(&udp6(1));
    assert_eq!(g.four(&p(out)).dropped(), DropReason::Nat64ZeroChecksum);

    let mut g = with_policy(|p| p.udp_zero = UdpZero::Forward);
    let out = g.open(&udp6(1));
    let b = g.four(&p(out)).sent();
    assert_eq!(&b[46..48], &[0, 0]);
    assert_eq!(&b[48..], b"no checksum");
}

/// RFC 6935 5.
#[test]
fn rfc8200_8_1_zero_udp_checksum_is_refused() {
    let mut g = Gateway::lab();
    assert_eq!(g.six(&poke(udp6(3), 46, &[0, 0])).dropped(), DropReason::Nat64ZeroChecksum);
}

#[test]
fn rfc768_a_computed_zero_is_sent_as_all_ones() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(2));
    // Payloads of two octets run through all sums: in each direction one of them gives zero.
    let (mut ones6, mut ones4) = (0, 0);
    for n in 0..=u16::MAX {
        let b = g.six(&ip6(VM1, SERVER6).udp(4000, 53, &n.to_be_bytes())).sent();
        assert_ne!(&b[26..28], &[0, 0]);
        ones6 += u32::from(b[26..28] == [0xff, 0xff]);
        let b = g.four(&ip4(SERVER, out.0).udp(53, out.1, &n.to_be_bytes())).sent();
        assert_ne!(&b[46..48], &[0, 0]);
        ones4 += u32::from(b[46..48] == [0xff, 0xff]);
        if n.is_multiple_of(4096) || ones6 + ones4 > 0 {
            check_packet(&b).unwrap();
        }
    }
    assert!(ones6 >= 1 && ones4 >= 1, "{ones6} {ones4}");
}

/// RFC 5508 8 (REQ-11), RFC 5508 7 (REQ-10c).
#[test]
fn rfc7915_5_2_and_4_2_other_icmp_is_dropped_silently() {
    let mut g = Gateway::lab();
    let out = g.open(&ip6(VM1, SERVER6).echo_request(7, 1, b""));
    for kind in [130, 131, 132, 133, 134, 135, 136, 137, 138, 143, 200, 255] {
        let p = ip6(VM1, SERVER6).icmp(kind, 0, [0; 4], b"12345678");
        assert_eq!(g.six(&p).dropped(), DropReason::Nat64IcmpType, "{kind}");
    }
    for kind in [1, 2, 4, 5, 6, 9, 10, 13, 14, 15, 16, 17, 18, 30, 40, 42, 255] {
        let p = ip4(SERVER, out.0).icmp(kind, 0, [0; 4], b"12345678");
        assert_eq!(g.four(&p).dropped(), DropReason::Nat64IcmpType, "{kind}");
    }
    assert!(g.rig.sent().is_empty());
}

#[test]
fn rfc6146_3_4_other_protocols_are_dropped_and_told() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let _ = g.rig.sent();
    for protocol in [33, 41, 47, 50, 59, 132, 136] {
        let p = ip6(VM1, SERVER6).raw(protocol, &[0; 40]);
        assert_eq!(g.six(&p).dropped(), DropReason::Nat64Protocol);
        let told = g.rig.sent().remove(0).octets;
        check_packet(&told).unwrap();
        assert_eq!((&told[24..40], told[40], told[41]), (&v6(VM1).octets()[..], 1, 4), "{protocol}");
        assert_eq!(&told[48..], &p);
        let p = ip4(SERVER, out.0).raw(protocol, &[0; 40]);
        assert_eq!(g.four(&p).dropped(), DropReason::Nat64Protocol);
        let told = g.rig.sent().remove(0).octets;
        check_packet(&told).unwrap();
        assert_eq!((&told[16..20], told[20], told[21]), (&v4(SERVER).octets()[..], 3, 2), "{protocol}");
        assert_eq!(&told[28..], &p);
    }
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 1),
        ("nat64-sessions-created", 1),
        ("nat64-mappings-created", 1),
        ("icmp-errors-sent", 14),
    ]);
    // What an authentication header protects would not survive.
    let p = ip6(VM1, SERVER6).auth(1, 1, &[0; 12]).udp(4000, 53, b"x");
    assert_eq!(g.six(&p).dropped(), DropReason::Nat64Protocol);
    // ICMP over IPv6 and ICMPv6 over IPv4 are other protocols.
    assert_eq!(
        g.six(&ip6(VM1, SERVER6).raw(1, &[8, 0, 0, 0, 0, 0, 0, 0])).dropped(),
        DropReason::Nat64Protocol
    );
    assert_eq!(
        g.four(&ip4(SERVER, out.0).raw(58, &[128, 0, 0, 0, 0, 0, 0, 0])).dropped(),
        DropReason::Nat64Protocol
    );
}

#[test]
fn rfc7915_4_2_igmp_is_dropped_silently() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    for kind in [0x11, 0x12, 0x16, 0x17, 0x22] {
        let p = ip4(SERVER, out.0).raw(2, &[kind, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(g.four(&p).dropped(), DropReason::Nat64Protocol);
    }
    assert!(g.rig.sent().is_empty());
}

#[test]
fn transport_headers_that_contradict_themselves_are_dropped() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let bad = DropReason::Nat64BadTransport;
    let udp = udp6(10);
    assert_eq!(g.six(&poke(udp.clone(), 44, &[0, 7])).dropped(), bad, "shorter than its header");
    assert_eq!(g.six(&poke(udp, 44, &[0, 19])).dropped(), bad, "longer than the packet");
    assert_eq!(g.six(&ip6(VM1, SERVER6).raw(17, &[0; 7])).dropped(), bad);
    assert_eq!(g.six(&ip6(VM1, SERVER6).raw(6, &[0; 19])).dropped(), bad);
    assert_eq!(g.six(&ip6(VM1, SERVER6).raw(58, &[128, 0, 0, 0])).dropped(), bad);
    let segment = ip6(VM1, SERVER6).tcp(&syn());
    assert_eq!(g.six(&poke(segment.clone(), 52, &[0x40])).dropped(), bad, "data offset 4");
    assert_eq!(g.six(&poke(segment, 52, &[0x60])).dropped(), bad, "data offset beyond the packet");
    let udp = ip4(SERVER, out.0).udp(53, out.1, &[0; 10]);
    assert_eq!(g.four(&poke(udp, 24, &[0, 19])).dropped(), bad);
    assert_eq!(g.four(&ip4(SERVER, out.0).raw(6, &[0; 19])).dropped(), bad);
}

#[test]
fn rfc7915_5_too_large_for_ipv4_is_told_with_the_larger_header() {
    let mut g = Gateway::lab();
    let mut interfaces = causeway_testkit::lab_interfaces();
    interfaces[1].mtu = 1400;
    g.rig.interfaces = causeway_core::Interfaces::new(interfaces);
    assert_eq!(g.six(&udp6(1400 - 28)).sent().len(), 1400);
    assert_eq!(g.six(&udp6(1401 - 28)).dropped(), DropReason::Nat64TooBig);
    let sent = g.rig.sent();
    assert_eq!((sent[0].octets[40], &sent[0].octets[44..48]), (2, &1420u32.to_be_bytes()[..]));
}

/// RFC 4787 10 (REQ-13), RFC 5508 7.1.1 (REQ-10a), RFC 1191 4, RFC 6864 4.3.
#[test]
fn rfc7915_4_1_df_and_too_large_is_told_with_the_smaller_header() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let _ = g.rig.sent();
    // 1480 octets of IPv4 are 1500 of IPv6.
    assert_eq!(g.four(&ip4(SERVER, out.0).udp(53, out.1, &[1; 1452])).sent().len(), 1500);
    let p = ip4(SERVER, out.0).udp(53, out.1, &[1; 1453]);
    assert_eq!(g.four(&p).dropped(), DropReason::Nat64TooBig);
    let sent = g.rig.sent();
    assert_eq!((sent[0].octets[20], sent[0].octets[21]), (3, 4));
    assert_eq!(&sent[0].octets[26..28], &1480u16.to_be_bytes());
}

/// RFC 7915 4.1; RFC 4787 10 (REQ-13a), RFC 5508 7.1.1 (REQ-10a): in order.
#[test]
fn rfc7915_4_too_large_for_ipv6_without_df_is_fragmented() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let payload: Vec<u8> = (0..4000u32).map(|n| n as u8).collect();
    for (n, parts) in [(1232usize, 1usize), (1233, 2), (1472, 2), (2448, 2), (2456, 2), (2457, 3), (4000, 4)]
    {
        let p = ip4(SERVER, out.0).df(false).id(0xabcd).udp(53, out.1, &payload[..n]);
        let first = g.four(&p).sent();
        let rest: Vec<Vec<u8>> = g.rig.sent().into_iter().map(|l| l.octets).collect();
        let mut all = vec![first];
        all.extend(rest);
        assert_eq!(all.len(), parts, "{n}");
        assert!(all.iter().all(|p| p.len() <= 1280));
        let whole = ip6(SERVER6, VM1).hop_limit(63).udp(53, 4000, &payload[..n]);
        if parts == 1 {
            assert_eq!(all[0], whole);
            continue;
        }
        assert!(all.iter().all(|p| p[6] == 44 && p[44..48] == [0, 0, 0xab, 0xcd]));
        all.reverse();
        assert_eq!(reassemble(&all).unwrap(), whole);
    }
}

#[test]
fn fragments_that_the_outbox_or_the_pool_has_no_room_for_are_dropped() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    g.rig.source = causeway_core::HeapSource::new(1);
    let p = ip4(SERVER, out.0).df(false).udp(53, out.1, &[1; 4000]);
    assert_eq!(g.four(&p).dropped(), DropReason::NoFrame);
    g.rig.source = causeway_core::HeapSource::new(1000);
    let _ = g.rig.sent();
    let many: Vec<Vec<u8>> = (0..30).map(|_| p.clone()).collect();
    let fates = g.vector("uplink0", &many, false);
    let full = fates.iter().filter(|f| **f == Fate::Dropped(DropReason::OutboxFull)).count();
    // Three more frames each, 64 at most.
    assert_eq!(full, 30 - 21);
}

#[test]
fn a_lowest_mtu_above_the_minimum_fragments_later() {
    let mut g = with_policy(|p| p.lowest_ipv6_mtu = 1400);
    let out = g.open(&udp6(1));
    let p = |n| ip4(SERVER, out.0).df(false).udp(53, out.1, &vec![1; n]);
    assert_eq!(g.four(&p(1400 - 48)).sent().len(), 1400);
    assert!(g.rig.sent().is_empty());
    assert!(g.four(&p(1401 - 48)).sent().len() <= 1400);
    assert_eq!(g.rig.sent().len(), 1);
}

#[test]
fn rfc6052_2_2_suffix_bits_are_ignored_also_by_the_checksum() {
    let o = Options { prefixes: vec!["2001:db8:aa::/48".parse().unwrap()], ..options() };
    let mut g = Gateway::with(o);
    let plain = "2001:db8:aa:c633:64:a00::";
    assert_eq!(g.nat.config().prefixes().extract(v6(plain)), Some((0, v4(SERVER))));
    let first = g.six(&ip6(VM1, plain).udp(4000, 53, b"abc")).sent();
    for dst in
        ["2001:db8:aa:c633:64:a00::1", "2001:db8:aa:c633:64:aff:ffff:ffff", "2001:db8:aa:c633:ff64:a00::"]
    {
        let b = g.six(&ip6(VM1, dst).udp(4000, 53, b"abc")).sent();
        check_packet(&b).unwrap();
        assert_eq!((&b[12..24], &b[26..]), (&first[12..24], &first[26..]), "{dst}");
    }
    assert_eq!(g.sessions(), 1);
}

#[test]
fn several_prefixes_are_told_apart_and_share_a_mapping() {
    let list = ["2001:db8:64:ff9b::/96", "2001:db8:aa::/48", "64:ff9b::/96"];
    let mut g = Gateway::with(Options { prefixes: list.map(|p| p.parse().unwrap()).to_vec(), ..options() });
    let a = g.open(&ip6(VM1, SERVER6).udp(4000, 53, b""));
    // The same destination under another prefix would be the same flow outside.
    let same = g.six(&ip6(VM1, "2001:db8:aa:c633:64:a00::").udp(4000, 53, b""));
    assert_eq!(same.dropped(), DropReason::Nat64Conflict);
    let b = g.open(&ip6(VM1, "2001:db8:aa:c633:64:a00::").udp(4000, 54, b""));
    assert_eq!(a, b, "one mapping, whichever prefix");
    let back = g.four(&ip4(SERVER, b.0).udp(54, b.1, b"")).sent();
    assert_eq!(&back[8..24], &v6("2001:db8:aa:c633:64:a00::").octets());
    let wkp = g.six(&ip6(VM1, "64:ff9b::198.51.100.10").udp(4000, 55, b""));
    assert_eq!(wkp.dropped(), DropReason::Nat64BadDestination, "RFC 6052 3.1");
    assert_eq!(g.open(&ip6(VM1, "64:ff9b::9.9.9.9").udp(4000, 53, b"")), a);
}

#[test]
fn destinations_that_no_router_forwards_are_refused() {
    let mut g = Gateway::lab();
    for v4 in ["0.0.0.1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        let dst = g.nat.config().prefixes().get(0).unwrap().embed(v4.parse().unwrap());
        assert_eq!(g.six(&ip6(VM1, dst).udp(1, 2, b"")).dropped(), DropReason::Nat64BadDestination, "{v4}");
    }
    assert_eq!((g.sessions(), g.mappings()), (0, 0));
}

/// RFC 6146 5.4.
#[test]
fn rfc6146_3_5_a_source_under_the_prefix_is_dropped() {
    let mut g = Gateway::lab();
    let p = ip6("2001:db8:64:ff9b::203.0.113.1", SERVER6).udp(1, 2, b"");
    assert_eq!(g.six(&p).dropped(), DropReason::Nat64LoopedSource);
}

#[test]
fn rfc9293_3_7_1_the_segment_size_is_clamped_only_if_asked_for() {
    let mss = |b: &[u8], at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
    let options = [2, 4, 0x05, 0xb4];
    let request = ip6(VM1, SERVER6).tcp(&syn().options(&options));
    for (clamp, want) in [(None, 1460), (Some(1220), 1220), (Some(1500), 1460)] {
        let mut g = with_policy(|p| p.clamp_mss = clamp);
        let out = g.open(&request);
        let b = g.six(&request).sent();
        check_packet(&b).unwrap();
        assert_eq!(mss(&b, 42), want);
        let b = g.four(&ip4(SERVER, out.0).tcp(&tcp(80, out.1).syn().ack(1).options(&options))).sent();
        check_packet(&b).unwrap();
        assert_eq!(mss(&b, 62), want);
        // Without SYN the octets mean nothing.
        let b = g.six(&ip6(VM1, SERVER6).tcp(&tcp(5000, 80).ack(1).options(&options))).sent();
        assert_eq!(mss(&b, 42), 1460);
    }
}
