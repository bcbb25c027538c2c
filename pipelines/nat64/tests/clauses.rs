//! Clauses that no other file has: one after the other, named after the section that they are in.

mod common;

use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{DropReason, Duration};
use causeway_nat64::{Config, ConfigError, Nat64, Options, Timeouts};
use causeway_testkit::nat64_oracle::{self, Flow};
use causeway_testkit::{check_packet, fragments4, ip4, ip6, poke, tcp};
use common::*;
use std::net::Ipv4Addr;

fn udp6(n: usize) -> Vec<u8> {
    ip6(VM1, SERVER6).udp(4000, 53, &vec![7; n])
}

fn udp4(out: (Ipv4Addr, u16), n: usize) -> Vec<u8> {
    ip4(SERVER, out.0).udp(53, out.1, &vec![9; n])
}

fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

/// Everything that was sent besides, as octets.
fn told(g: &mut Gateway) -> Vec<Vec<u8>> {
    g.rig.sent().into_iter().map(|l| l.octets).collect()
}

/// A gateway with another MTU on its uplink or tenant side.
fn with_mtu(interface: usize, mtu: u16) -> Gateway {
    let mut g = Gateway::lab();
    let mut interfaces = causeway_testkit::lab_interfaces();
    interfaces[interface].mtu = mtu;
    g.rig.interfaces = causeway_core::Interfaces::new(interfaces);
    g
}

/// RFC 6146 3.5.4.
#[test]
fn rfc7915_1_and_6_the_mapping_of_rfc6052_is_used_for_every_prefix_length() {
    for (prefix, remote6) in [
        ("2001:db8::/32", "2001:db8:c633:640a::"),
        ("2001:db8:100::/40", "2001:db8:1c6:3364:a::"),
        ("2001:db8:122::/48", "2001:db8:122:c633:64:a00::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c6:33:640a::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c6:3364:a00:0"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::198.51.100.10"),
    ] {
        let mut g = Gateway::with(Options { prefixes: vec![prefix.parse().unwrap()], ..options() });
        let host = if prefix.ends_with("/32") { "2001:db9::1" } else { VM1 };
        let b = g.six(&ip6(host, remote6).udp(4000, 53, b"x")).sent();
        assert_eq!(b[16..20], v4(SERVER).octets(), "{prefix}");
        g.rig.assert_counted(&[
            ("nat64-v6-to-v4", 1),
            ("nat64-sessions-created", 1),
            ("nat64-mappings-created", 1),
        ]);
    }
}

#[test]
fn rfc7915_1_4_what_is_too_large_is_told_or_fragmented() {
    let mut g = with_mtu(1, 1400);
    let out = g.open(&udp6(1));
    let _ = g.rig.sent();
    assert_eq!(g.six(&udp6(1401 - 28)).dropped(), DropReason::Nat64TooBig);
    let all = told(&mut g);
    assert_eq!((all.len(), all[0][40], be16(&all[0], 46)), (1, 2, 1420));
    // Towards IPv6 with DF, and without.
    let mut g = with_mtu(0, 1300);
    let again = g.open(&udp6(1));
    let _ = g.rig.sent();
    assert_eq!(g.four(&udp4(again, 1281 - 28)).dropped(), DropReason::Nat64TooBig);
    let all = told(&mut g);
    assert_eq!((all.len(), all[0][20], all[0][21], be16(&all[0], 26)), (1, 3, 4, 1280));
    let b = g.four(&ip4(SERVER, again.0).df(false).udp(53, again.1, &[9; 1281 - 28])).sent();
    assert!(b.len() <= 1280 && b[6] == 44);
    assert_eq!(told(&mut g).len(), 1);
    assert_ne!(out.1, 0);
}

#[test]
fn rfc7915_4_no_fragment_header_without_need() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    for n in [0, 1, 500, 1231, 1232] {
        let b = g.four(&ip4(SERVER, out.0).df(false).udp(53, out.1, &vec![1; n])).sent();
        assert_eq!((b[6], b.len()), (17, 48 + n));
    }
    // With DF even above the lowest IPv6 MTU.
    for n in [1232, 1233, 1452] {
        let b = g.four(&udp4(out, n)).sent();
        assert_eq!((b[6], b.len()), (17, 48 + n));
    }
    assert!(told(&mut g).is_empty());
}

#[test]
fn rfc7915_4_1_the_lowest_ipv6_mtu_is_configurable() {
    for lowest in [1280u16, 1300, 1400, 1500] {
        let mut o = options();
        o.policy.lowest_ipv6_mtu = lowest;
        let mut g = Gateway::with(o);
        let out = g.open(&udp6(1));
        let _ = g.rig.sent();
        let most = usize::from(lowest) - 48;
        let p = |n: usize| ip4(SERVER, out.0).df(false).udp(53, out.1, &vec![1; n]);
        let whole = g.four(&p(most)).sent();
        assert_eq!((whole.len(), whole[6], told(&mut g).len()), (usize::from(lowest), 17, 0));
        let first = g.four(&p(most + 1)).sent();
        let rest = told(&mut g);
        assert_eq!((first[6], rest.len()), (44, 1));
        assert!(first.len() <= usize::from(lowest) && first.len() + 8 > usize::from(lowest));
    }
    let mut o = options();
    o.policy.lowest_ipv6_mtu = 1279;
    assert_eq!(Config::new(o).unwrap_err(), ConfigError::LowestIpv6Mtu(1279));
}

#[test]
fn rfc7915_4_and_5_a_flow_keeps_its_order() {
    let mut g = Gateway::lab();
    let numbered = |n: u8| ip6(VM1, SERVER6).udp(4000, 53, &[n]);
    // The first of them makes the session, between packets of others.
    let mut packets: Vec<Vec<u8>> = (0..32).map(numbered).collect();
    for n in (0..32).step_by(5) {
        packets.insert(n, ip6(VM2, SERVER6).tcp(&tcp(7000 + n as u16, 80).syn()));
    }
    let fates = g.vector("tenant0", &packets, true);
    let sent: Vec<Vec<u8>> = fates.into_iter().map(Fate::sent).collect();
    let mine: Vec<u8> = sent.iter().filter(|b| b[9] == 17).map(|b| b[28]).collect();
    assert_eq!(mine, (0..32).collect::<Vec<u8>>());
    let first = sent.iter().find(|b| b[9] == 17).unwrap();
    let out = (Ipv4Addr::new(first[12], first[13], first[14], first[15]), be16(first, 20));
    let replies: Vec<Vec<u8>> = (0..32).map(|n| ip4(SERVER, out.0).udp(53, out.1, &[n])).collect();
    let sent = g.vector("uplink0", &replies, false).into_iter().map(Fate::sent);
    assert_eq!(sent.map(|b| b[48]).collect::<Vec<u8>>(), (0..32).collect::<Vec<u8>>());
}

#[test]
fn rfc7915_4_1_every_field_of_the_ipv6_header() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    for (tos, ttl, options) in
        [(0u8, 2u8, &[][..]), (0xff, 255, &[1, 1, 1, 0]), (0xb8, 64, &[7, 7, 4, 0, 0, 0, 0, 0])]
    {
        let p = ip4(SERVER, out.0).tos(tos).ttl(ttl).id(0xabcd).options(options).udp(53, out.1, b"abc");
        let b = g.four(&p).sent();
        check_packet(&b).unwrap();
        let mut want = vec![0x60 | tos >> 4, tos << 4, 0, 0, 0, 11, 17, ttl - 1];
        want.extend(v6(SERVER6).octets());
        want.extend(v6(VM1).octets());
        assert_eq!(b[..40], want);
        assert_eq!((be16(&b, 40), be16(&b, 42), &b[48..]), (53, 4000, &b"abc"[..]));
    }
}

#[test]
fn rfc7915_4_1_every_field_of_the_fragment_header() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let whole = ip4(SERVER, out.0).df(false).udp(53, out.1, &[3; 1500]);
    for (n, p) in fragments4(&whole, 576, 0xfedc).iter().enumerate() {
        let b = g.four(p).sent();
        assert_eq!((b[6], b[40], b[41]), (44, 17, 0));
        assert_eq!(usize::from(be16(&b, 4)), p.len() - 20 + 8);
        let (offset, more) = (be16(p, 6) & 0x1fff, be16(p, 6) & 0x2000 != 0);
        assert_eq!(be16(&b, 42), offset << 3 | u16::from(more), "{n}");
        assert_eq!(b[44..48], [0, 0, 0xfe, 0xdc]);
    }
    let ping = g.open(&ip6(VM1, SERVER6).echo_request(5, 1, b""));
    let whole = ip4(SERVER, ping.0).df(false).echo_reply(ping.1, 1, &[3; 900]);
    let parts = fragments4(&whole, 576, 0x1111);
    assert_eq!(g.four(&parts[0]), Fate::Held);
    assert_eq!(g.four(&parts[1]), Fate::Held);
    let sent = told(&mut g);
    assert_eq!((sent.len(), sent[0][40], sent[1][40]), (2, 58, 58));
}

#[test]
fn rfc7915_4_1_illegal_sources_are_dropped_silently() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let _ = g.rig.sent();
    for src in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.9.9", "224.0.0.1", "240.0.0.1", "255.255.255.255"]
    {
        let p = ip4(src, out.0).udp(53, out.1, b"x");
        assert_eq!(g.four(&p).dropped(), DropReason::Nat64BadSource, "{src}");
    }
    assert!(told(&mut g).is_empty());
    assert_eq!(g.sessions(), 1);
}

#[test]
fn rfc7915_5_1_illegal_sources_are_dropped_silently() {
    let mut g = Gateway::lab();
    for src in ["::", "::1", "ff02::1", "fe80::2"] {
        let p = ip6(src, SERVER6).udp(4000, 53, b"x");
        assert_eq!(g.six(&p).dropped(), DropReason::Nat64BadSource, "{src}");
    }
    assert!(told(&mut g).is_empty());
    assert_eq!((g.sessions(), g.mappings()), (0, 0));
}

#[test]
fn rfc7915_4_2_5_2_echoes_change_their_type_and_checksum() {
    let mut g = Gateway::lab();
    for reply in [false, true] {
        let b = ip6(VM1, SERVER6);
        let p = if reply { b.echo_reply(5, 6, b"odd") } else { b.echo_request(5, 6, b"odd") };
        let b = g.six(&p).sent();
        check_packet(&b).unwrap();
        assert_eq!((b[9], b[20], b[21], be16(&b, 26)), (1, if reply { 0 } else { 8 }, 0, 6));
        let out = (Ipv4Addr::new(b[12], b[13], b[14], b[15]), be16(&b, 24));
        let b = ip4(SERVER, out.0);
        let p = if reply { b.echo_reply(out.1, 9, b"odd") } else { b.echo_request(out.1, 9, b"odd") };
        let b = g.four(&p).sent();
        check_packet(&b).unwrap();
        assert_eq!((b[6], b[40], b[41], be16(&b, 44), be16(&b, 46)), (58, 128 + u8::from(reply), 0, 5, 9));
    }
}

#[test]
fn rfc7915_4_4_5_4_senders_of_dropped_packets_are_told_why() {
    let mut g = Gateway::with(Options {
        prefixes: vec!["64:ff9b::/96".parse().unwrap(), "2001:db8:64:ff9b::/96".parse().unwrap()],
        ..options()
    });
    let out = g.open(&udp6(1));
    let _ = g.rig.sent();
    let six = |dst| ip6(VM1, dst).udp(4000, 53, b"x");
    for (p, reason, kind, code) in [
        (six("64:ff9b::10.0.0.1"), DropReason::Nat64BadDestination, 1, 1),
        (six("2001:db8:64:ff9b::127.0.0.1"), DropReason::Nat64BadDestination, 1, 1),
        (ip6(VM1, SERVER6).raw(132, &[0; 12]), DropReason::Nat64Protocol, 1, 4),
        (ip6(VM1, SERVER6).hop_limit(1).udp(4000, 53, b"x"), DropReason::HopLimit, 3, 0),
    ] {
        assert_eq!(g.six(&p).dropped(), reason);
        let all = told(&mut g);
        assert_eq!((all.len(), all[0][40], all[0][41]), (1, kind, code), "{reason:?}");
        assert_eq!(all[0][48..], p);
    }
    // What contradicts itself is dropped silently, as its receiver would do it.
    assert_eq!(g.six(&poke(udp6(3), 46, &[0, 0])).dropped(), DropReason::Nat64ZeroChecksum);
    assert_eq!(g.six(&poke(udp6(3), 44, &[0, 99])).dropped(), DropReason::Nat64BadTransport);
    // Nobody is told anything about ICMPv6 or ICMP errors.
    let sent4 = g.six(&udp6(1)).sent();
    let error = ip4(SERVER, out.0).ttl(1).icmp(3, 1, [0; 4], &sent4);
    assert_eq!(g.four(&error).dropped(), DropReason::HopLimit);
    let error = ip6(VM1, "64:ff9b::10.0.0.1").icmp(1, 4, [0; 4], &six("64:ff9b::10.0.0.1"));
    assert_eq!(g.six(&error).dropped(), DropReason::Nat64IcmpNoSession);
    let p = ip4(SERVER, out.0).ttl(1).udp(53, out.1, b"x");
    assert_eq!(g.four(&p).dropped(), DropReason::HopLimit);
    let all = told(&mut g);
    assert_eq!((all.len(), all[0][20], all[0][21]), (1, 11, 0));
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 2),
        ("nat64-sessions-created", 1),
        ("nat64-mappings-created", 1),
        ("icmp-errors-sent", 5),
    ]);
}

/// RFC 5508 7 (REQ-9) lets policy keep ICMP errors from being sent.
#[test]
fn rfc7915_4_4_5_4_errors_can_be_limited_or_turned_off() {
    for (rate, burst, want) in [(0, 0, 0), (1, 5, 5), (1_000_000, 1_000_000, 40)] {
        let mut g = Gateway::lab();
        let (config, pool) = (g.nat.config().clone(), g.nat.pool().clone());
        g.nat = Nat64::new(config, pool, IcmpErrors::new(rate, burst));
        for _ in 0..40 {
            let p = ip6(VM1, SERVER6).hop_limit(1).udp(4000, 53, b"x");
            assert_eq!(g.six(&p).dropped(), DropReason::HopLimit);
        }
        assert_eq!(told(&mut g).len(), want, "{rate} {burst}");
        let mut counted = vec![("icmp-errors-sent", want as u64), ("icmp-errors-limited", 40 - want as u64)];
        counted.retain(|c| c.1 != 0);
        g.rig.assert_counted(&counted);
    }
}

/// RFC 7915 5: what was wrong before stays wrong, so that the receiver finds it.
#[test]
fn rfc7915_4_5_5_5_a_wrong_checksum_stays_wrong() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(10));
    let segment = ip6(VM1, SERVER6).tcp(&tcp(5000, 80).syn().payload(b"x"));
    let tcp_out = g.open(&segment);
    let ping = ip6(VM1, SERVER6).echo_request(5, 6, b"ping");
    let ping_out = g.open(&ping);
    let wrong = |p: &[u8], at: usize| poke(p.to_vec(), at, &[p[at] ^ 0x55]);
    for (p, last) in [(udp6(10), 49), (segment, 60), (ping, 50)] {
        check_packet(&p).unwrap();
        let b = g.six(&wrong(&p, last)).sent();
        assert!(check_packet(&b).unwrap_err().contains("checksum"));
    }
    for (p, last) in [
        (udp4(out, 10), 30),
        (ip4(SERVER, tcp_out.0).tcp(&tcp(80, tcp_out.1).syn().ack(1).payload(b"x")), 40),
        (ip4(SERVER, ping_out.0).echo_reply(ping_out.1, 6, b"ping"), 30),
    ] {
        check_packet(&p).unwrap();
        let b = g.four(&wrong(&p, last)).sent();
        assert!(check_packet(&b).unwrap_err().contains("checksum"));
    }
}

#[test]
fn rfc7915_5_1_every_field_of_the_ipv4_header() {
    let mut g = Gateway::lab();
    for (class, hops, n) in [(0u8, 2u8, 0usize), (0xff, 255, 1232), (0x2e, 64, 1233)] {
        let p = ip6(VM1, SERVER6).traffic_class(class).hop_limit(hops).hop_by_hop(&[1, 4, 0, 0, 0, 0]).udp(
            4000,
            53,
            &vec![1; n],
        );
        let b = g.six(&p).sent();
        check_packet(&b).unwrap();
        assert_eq!((b[0], b[1], usize::from(be16(&b, 2))), (0x45, class, 28 + n));
        assert_eq!(be16(&b, 6), if 28 + n > 1260 { 0x4000 } else { 0 });
        assert_eq!((b[8], b[9], &b[16..20]), (hops - 1, 17, &v4(SERVER).octets()[..]));
        assert!(g.nat.pool().contains(Ipv4Addr::new(b[12], b[13], b[14], b[15])));
    }
}

#[test]
fn rfc7915_5_1_1_every_field_of_a_fragment() {
    let mut g = Gateway::lab();
    g.open(&udp6(1));
    let upper = &ip6(VM1, SERVER6).udp(4000, 53, &[5; 2000])[40..];
    let base = ip6(VM1, SERVER6).hop_by_hop(&[1, 4, 0, 0, 0, 0]).traffic_class(0x44);
    for (offset, more) in [(0usize, true), (1000, true), (1400, false)] {
        let end = if offset == 0 {
            1000
        } else if more {
            1400
        } else {
            upper.len()
        };
        let p = base.clone().fragment((offset / 8) as u16, more, 0x8765_4321).raw(17, &upper[offset..end]);
        let b = g.six(&p).sent();
        // All extension headers are left out of the length, DF is clear.
        assert_eq!(usize::from(be16(&b, 2)), 20 + end - offset);
        assert_eq!((id_of(&b), be16(&b, 6)), (0x4321, (offset / 8) as u16 | if more { 0x2000 } else { 0 }));
        assert_eq!((b[1], b[9], b[8]), (0x44, 17, 63));
    }
}

/// RFC 5508 4.1 (REQ-3a).
#[test]
fn rfc5508_4_1_req_3_the_checksum_of_the_inner_header_is_checked() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let sent4 = g.six(&udp6(1)).sent();
    let _ = g.rig.sent();
    let bad = poke(sent4.clone(), 8, &[sent4[8].wrapping_sub(1)]);
    let p = ip4(SERVER, out.0).icmp(3, 1, [0; 4], &bad);
    assert_eq!(g.four(&p).dropped(), DropReason::Nat64BadChecksum);
    assert!(told(&mut g).is_empty());
    g.four(&ip4(SERVER, out.0).icmp(3, 1, [0; 4], &sent4)).sent();
}

/// RFC 5508 4.1 (REQ-3b).
#[test]
fn rfc5508_4_1_req_3_options_inside_are_stepped_over() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let plain = ip4(out.0, SERVER).udp(out.1, 53, b"inside");
    let optional = ip4(out.0, SERVER).options(&[7, 7, 4, 0, 0, 0, 0, 0]).udp(out.1, 53, b"inside");
    let [want, got] = [plain, optional].map(|i| g.four(&ip4(SERVER, out.0).icmp(3, 1, [0; 4], &i)).sent());
    assert_eq!(got, want);
    assert_eq!(be16(&got, 48 + 40), 4000);
}

/// RFC 5508 4.1 (REQ-3c).
#[test]
fn rfc5508_4_1_req_3_the_transport_checksum_inside_is_not_checked() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(9));
    let sent4 = g.six(&udp6(9)).sent();
    let wrong = poke(sent4.clone(), 26, &[sent4[26] ^ 0x10]);
    let b = g.four(&ip4(SERVER, out.0).icmp(3, 3, [0; 4], &wrong)).sent();
    assert_eq!((b[40], b[41]), (1, 4));
    // It is updated all the same: as wrong as it was.
    let right = g.four(&ip4(SERVER, out.0).icmp(3, 3, [0; 4], &sent4)).sent();
    assert_eq!(b[48..48 + 46], right[48..48 + 46]);
    assert_ne!(b[48 + 46], right[48 + 46]);
}

/// RFC 5508 7.1.2 (REQ-10a) and RFC 4787 9 (REQ-12b).
#[test]
fn rfc5508_7_1_2_packet_too_big_of_others_reaches_whom_it_concerns() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1400));
    let sent4 = g.six(&udp6(1400)).sent();
    let b = g.four(&ip4("198.51.100.1", out.0).icmp(3, 4, [0, 0, 0x05, 0x14], &sent4[..28])).sent();
    check_packet(&b).unwrap();
    assert_eq!((&b[24..40], b[40], be16(&b, 46)), (&v6(VM1).octets()[..], 2, 1320));
    let sent6 = g.four(&udp4(out, 1400)).sent();
    let b = g.six(&ip6("2001:db8:64::fe", SERVER6).icmp(2, 0, [0, 0, 0x05, 0x14], &sent6[..600])).sent();
    check_packet(&b).unwrap();
    assert_eq!((&b[16..20], b[20], b[21], be16(&b, 26)), (&v4(SERVER).octets()[..], 3, 4, 1280));
}

#[test]
fn rfc7915_5_2_packet_too_big_below_1280_is_passed_on() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let sent6 = g.four(&udp4(out, 1000)).sent();
    for (told, want) in [(1279u16, 1259), (600, 580), (88, 68), (87, 68), (0, 68)] {
        let [hi, lo] = told.to_be_bytes();
        let b = g.six(&ip6(VM1, SERVER6).icmp(2, 0, [0, 0, hi, lo], &sent6)).sent();
        assert_eq!(be16(&b, 26), want, "{told}");
    }
    // A Fragment header inside counts.
    let inside = ip6(SERVER6, VM1).fragment(0, true, 7).raw(17, &sent6[40..88]);
    let b = g.six(&ip6(VM1, SERVER6).icmp(2, 0, [0, 0, 0x05, 0xdc], &inside)).sent();
    assert_eq!(be16(&b, 26), 1472);
}

#[test]
fn rfc6052_3_1_packets_of_the_well_known_prefix_and_private_addresses_are_dropped() {
    let mut g = Gateway::with(Options { prefixes: vec!["64:ff9b::/96".parse().unwrap()], ..options() });
    for dst in ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "192.0.2.1", "198.18.0.1"] {
        let dst = format!("64:ff9b::{dst}");
        assert_eq!(
            g.six(&ip6(VM1, dst.as_str()).udp(1, 2, b"")).dropped(),
            DropReason::Nat64BadDestination,
            "{dst}"
        );
    }
    assert_eq!((g.sessions(), g.mappings()), (0, 0));
}

/// RFC 8215 5, RFC 8215 6.
#[test]
fn rfc6052_3_4_the_well_known_and_network_specific_prefixes_work_side_by_side() {
    let prefixes = ["64:ff9b::/96", "2001:db8:64:ff9b::/96", "64:ff9b:1:fffe::/96"];
    let mut g = Gateway::with(Options {
        prefixes: prefixes.iter().map(|p| p.parse().unwrap()).collect(),
        ..options()
    });
    let mut outs = Vec::new();
    for (n, prefix) in prefixes.iter().enumerate() {
        let remote6 = format!("{}9.9.9.9", prefix.trim_end_matches("/96"));
        let out = g.open(&ip6(VM1, remote6.as_str()).udp(4000 + n as u16, 53, b"x"));
        let b = g.four(&ip4("9.9.9.9", out.0).udp(53, out.1, b"y")).sent();
        assert_eq!(b[8..24], v6(&remote6).octets(), "{prefix}");
        outs.push(out);
    }
    outs.dedup();
    assert_eq!(outs.len(), 3);
}

#[test]
fn rfc6146_3_a_prefix_and_a_pool_address_are_needed() {
    assert!(matches!(
        Config::new(Options { prefixes: vec![], ..options() }).unwrap_err(),
        ConfigError::Prefix(_)
    ));
    assert_eq!(Config::new(Options { pool: vec![], ..options() }).unwrap_err(), ConfigError::EmptyPool);
}

#[test]
fn rfc6146_3_4_the_time_to_wait_for_fragments_is_configurable() {
    assert_eq!(Timeouts::default().fragment, Duration::from_secs(2));
    let timeouts = Timeouts { fragment: Duration::from_secs(9), ..Timeouts::default() };
    let mut g = Gateway::with(Options { timeouts, ..options() });
    let later = ip6(VM1, SERVER6).fragment(8, false, 7).raw(17, &[1; 8]);
    assert_eq!(g.six(&later), Fate::Held);
    g.rig.advance(Duration::from_millis(8999));
    g.sweep();
    assert_eq!(g.nat.held(), 1);
    g.rig.advance(Duration::from_millis(2));
    for _ in 0..100 {
        g.sweep();
    }
    assert_eq!(g.nat.held(), 0);
}

#[test]
fn rfc6146_3_5_only_the_prefix_and_the_pool_are_processed() {
    let mut g = Gateway::lab();
    g.open(&udp6(1));
    let p = ip6(VM1, "2001:db8:6::10").udp(4000, 53, b"x");
    assert_eq!(g.six(&p).dropped(), DropReason::Nat64BadDestination);
    assert_eq!(g.four(&ip4(SERVER, "192.0.2.2").udp(53, 4000, b"x")).dropped(), DropReason::Nat64NoBib);
    assert_eq!((g.sessions(), g.mappings()), (1, 1));
}

/// RFC 4787 4.2.1 (REQ-3), RFC 5382 7.1 (REQ-7), RFC 6888 5 (REQ-13): every port is given once, until all
/// are. RFC 6888 3 (REQ-11): then nobody loses one.
#[test]
fn rfc6146_3_5_1_1_3_5_2_3_no_port_is_given_twice() {
    for protocol in [17, 6, 1] {
        let pool = vec!["203.0.113.1/32".parse().unwrap()];
        let mut g = Gateway::with(Options { pool, first_port: 2000, last_port: 2299, ..options() });
        let p = |n: u16| {
            let b = ip6(VM1, SERVER6);
            match protocol {
                17 => b.udp(3000 + n, 53, b""),
                6 => b.tcp(&tcp(3000 + n, 80).syn()),
                _ => b.echo_request(3000 + n, 1, b""),
            }
        };
        let outs: std::collections::HashSet<_> = (0..300).map(|n| g.open(&p(n))).collect();
        assert_eq!(outs.len(), 300);
        assert!(outs.iter().all(|o| (2000..=2299).contains(&o.1)));
        // Another protocol has ports of its own.
        let other = if protocol == 17 {
            ip6(VM1, SERVER6).tcp(&tcp(3000, 80).syn())
        } else {
            ip6(VM1, SERVER6).udp(3000, 53, b"")
        };
        assert!(outs.contains(&g.open(&other)));
        let _ = g.rig.sent();
        // RFC 6888 3 (REQ-11b): the next one is dropped and told.
        assert_eq!(g.six(&p(300)).dropped(), DropReason::Nat64PoolFull);
        let all = told(&mut g);
        assert_eq!((all.len(), all[0][40], all[0][41]), (1, 1, 3));
        let again: std::collections::HashSet<_> = (0..300).map(|n| g.open(&p(n))).collect();
        assert_eq!(again, outs);
    }
}

/// RFC 7857 5 and RFC 7857 6: mappings and filters are made for each protocol apart.
#[test]
fn rfc7857_5_6_mappings_and_filters_are_of_one_protocol() {
    let mut g = Gateway::lab();
    let out = g.open(&udp6(1));
    let segment = ip4(SERVER, out.0).tcp(&tcp(53, out.1).ack(1));
    assert_eq!(g.four(&segment).dropped(), DropReason::Nat64NoBib);
    let ping = ip4(SERVER, out.0).echo_request(out.1, 1, b"");
    assert_eq!(g.four(&ping).dropped(), DropReason::Nat64NoBib);
    g.open(&ip6(VM1, SERVER6).tcp(&tcp(4000, 53).syn()));
    assert_eq!(g.mappings(), 2);
}

/// RFC 5508 3.1 (REQ-1a), RFC 7857 11.
#[test]
fn rfc6146_3_5_3_an_icmp_query_has_a_session_of_its_own() {
    let mut g = Gateway::lab();
    let ping = |dst: &str, id| ip6(VM1, dst).echo_request(id, 1, b"ping");
    let out = g.open(&ping(SERVER6, 7));
    // RFC 5508 3.1 (REQ-1a): the same identifier for every remote end.
    assert_eq!(g.open(&ping("2001:db8:64:ff9b::198.51.100.99", 7)), out);
    assert_eq!((g.mappings(), g.sessions()), (1, 2));
    // The same address as for everything else of this host, another identifier for another one.
    let udp = g.open(&udp6(1));
    let other = g.open(&ping(SERVER6, 8));
    assert_eq!((udp.0, other.0), (out.0, out.0));
    assert_ne!(other.1, out.1);
    let b = g.four(&ip4(SERVER, out.0).echo_reply(out.1, 1, b"ping")).sent();
    check_packet(&b).unwrap();
    assert_eq!((&b[24..40], b[40], be16(&b, 44)), (&v6(VM1).octets()[..], 129, 7));
    // Without a mapping nothing gets in.
    let strange = ip4(SERVER, out.0).echo_request(out.1 ^ 0x4000, 1, b"");
    assert_eq!(g.four(&strange).dropped(), DropReason::Nat64NoBib);
    // Each ends a minute after its last packet from inside; RFC 7857 11: the mapping with its last session.
    g.pass(Duration::from_secs(59));
    g.six(&ping(SERVER6, 7)).sent();
    g.pass(Duration::from_secs(2));
    assert_eq!((g.sessions(), g.mappings()), (2, 2));
    g.pass(Duration::from_secs(60));
    assert_eq!(g.sessions(), 1);
}

/// RFC 6146 3.7: the packet says what the tuple says. RFC 6146 3.6.1, RFC 6146 3.6.2.
#[test]
fn rfc6146_3_6_the_outgoing_tuple_is_mapping_and_rfc6052_address() {
    let mut g = Gateway::lab();
    for (p, q, protocol) in [
        (ip6(VM1, SERVER6).udp(4000, 53, b"x"), 4000, 17u8),
        (ip6(VM1, SERVER6).tcp(&tcp(4000, 53).syn()), 4000, 6),
        (ip6(VM1, SERVER6).echo_request(4000, 1, b""), 4000, 1),
    ] {
        let out = g.open(&p);
        let b = g.six(&p).sent();
        let remote_port = if protocol == 1 { 0 } else { 53 };
        let f = Flow { remote_port, ..flow(VM1, q, 53, out) };
        assert_eq!(b, nat64_oracle::v6_to_v4(&p, &f, &choice(id_of(&b))).unwrap());
        let (src, dst) = (out.0.octets(), v4(SERVER).octets());
        assert_eq!((&b[12..16], &b[16..20], b[9]), (&src[..], &dst[..], protocol));
    }
}

/// RFC 4787 8 (REQ-11): neither time nor load changes what a mapping is.
#[test]
fn rfc4787_8_req_11_a_mapping_stays_what_it_is() {
    let mut g = Gateway::sized(options(), 4000);
    let out = g.open(&udp6(1));
    for n in 0..1000u16 {
        g.open(&ip6(VM2, SERVER6).udp(10_000 + n, 53, b""));
        if n % 100 == 0 {
            g.pass(Duration::from_secs(60));
            assert_eq!(g.open(&udp6(1)), out);
            assert_eq!(g.four(&udp4(out, 1)).sent()[24..40], v6(VM1).octets());
        }
    }
    assert_eq!(g.open(&ip6(VM1, "2001:db8:64:ff9b::198.51.100.99").udp(4000, 99, b"")), out);
}

#[test]
fn rfc6888_3_req_3_the_pool_is_any_number_of_ranges() {
    let pool = ["203.0.113.0/28", "192.0.2.64/32", "198.51.100.128/31"].map(|p| p.parse().unwrap()).to_vec();
    let mut g = Gateway::sized(Options { pool, ..options() }, 4000);
    let mut seen = std::collections::HashSet::new();
    for n in 0..600u32 {
        let host = format!("2001:db8:64::{n:x}:1");
        seen.insert(g.open(&ip6(host.as_str(), SERVER6).udp(4000, 53, b"")).0);
    }
    for a in ["192.0.2.64", "198.51.100.128", "198.51.100.129", "203.0.113.0", "203.0.113.15"] {
        assert!(seen.contains(&v4(a)), "{a}: {seen:?}");
    }
    assert_eq!(seen.len(), 19);
}
