//! Fragments through stateful NAT64 (RFC 6146 3.4, RFC 7915 4.1, 5.1.1).

mod common;

use causeway_core::{DropReason, Duration};
use causeway_nat64::{Options, Timeouts, UdpZero};
use causeway_testkit::{check_packet, fragments4, fragments6, ip4, ip6, poke, reassemble, tcp};
use common::*;
use std::net::Ipv4Addr;

/// Hands the fragments over one by one; gives everything that left, in order.
fn through(g: &mut Gateway, ingress: &str, parts: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let six = ingress == "tenant0";
    let mut left = Vec::new();
    for p in parts {
        for fate in g.vector(ingress, std::slice::from_ref(p), six) {
            if let Fate::Sent(b, _) = fate {
                left.push(b);
            }
        }
        left.extend(g.rig.sent().into_iter().map(|l| l.octets));
    }
    left
}

/// All orders of a few things.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for o in orders(n - 1) {
        for at in 0..n {
            let mut o = o.clone();
            o.insert(at, n - 1);
            all.push(o);
        }
    }
    all
}

fn payload(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// What the host sends, by protocol, and what it is as IPv4 from this pool address and port.
fn packets(protocol: u8, n: usize) -> (Vec<u8>, impl Fn((Ipv4Addr, u16)) -> Vec<u8>) {
    let data = payload(n);
    let six = ip6(VM1, SERVER6);
    let whole = match protocol {
        17 => six.udp(4000, 53, &data),
        6 => six.tcp(&tcp(4000, 53).syn().payload(&data)),
        _ => six.echo_request(4000, 3, &data),
    };
    let four = move |out: (Ipv4Addr, u16)| {
        let b = ip4(out.0, SERVER).ttl(63).df(false);
        match protocol {
            17 => b.udp(out.1, 53, &data),
            6 => b.tcp(&tcp(out.1, 53).syn().payload(&data)),
            _ => b.echo_request(out.1, 3, &data),
        }
    };
    (whole, four)
}

fn port_of(whole: &[u8]) -> (Ipv4Addr, u16) {
    let at = if whole[9] == 1 { 24 } else { 20 };
    (
        Ipv4Addr::new(whole[12], whole[13], whole[14], whole[15]),
        u16::from_be_bytes([whole[at], whole[at + 1]]),
    )
}

/// RFC 4787 11 (REQ-14).
#[test]
fn rfc6146_3_4_fragments_to_ipv4_in_every_order() {
    for protocol in [17, 6, 1] {
        for order in orders(4) {
            let mut g = Gateway::lab();
            let (whole, want) = packets(protocol, 4000);
            let parts = fragments6(&whole, 1280, 0x0003_1234);
            assert_eq!(parts.len(), 4);
            let parts: Vec<_> = order.iter().map(|n| parts[*n].clone()).collect();
            let left = through(&mut g, "tenant0", &parts);
            assert_eq!(left.len(), 4, "{protocol} {order:?}");
            assert!(left.iter().all(|p| p[4..6] == [0x12, 0x34] && p[6] & 0x40 == 0));
            let got = reassemble(&left).unwrap();
            check_packet(&got).unwrap();
            let mut want = want(port_of(&got));
            // The Identification is the fragments', and so is the header checksum.
            want[4..6].copy_from_slice(&got[4..6]);
            want[10..12].copy_from_slice(&got[10..12]);
            assert_eq!(got, want, "{protocol} {order:?}");
            assert_eq!(g.nat.held(), 0);
            g.rig.assert_counted(&[
                ("nat64-v6-to-v4", 4),
                ("nat64-sessions-created", 1),
                ("nat64-mappings-created", 1),
            ]);
        }
    }
}

/// RFC 4787 11 (REQ-14).
#[test]
fn rfc6146_3_4_fragments_to_ipv6_in_every_order() {
    for protocol in [17u8, 6, 1] {
        for order in orders(4) {
            let mut g = Gateway::lab();
            let (first, _) = packets(protocol, 10);
            let out = g.open(&first);
            let data = payload(5000);
            let b = ip4(SERVER, out.0).df(false);
            let whole = match protocol {
                17 => b.udp(53, out.1, &data),
                6 => b.tcp(&tcp(53, out.1).syn().ack(1).payload(&data)),
                _ => b.echo_reply(out.1, 3, &data),
            };
            // Fragments of IPv4 that are larger than 1280 octets as IPv6: they are cut once more.
            let parts = fragments4(&whole, 1500, 0xbeef);
            assert_eq!(parts.len(), 4);
            let parts: Vec<_> = order.iter().map(|n| parts[*n].clone()).collect();
            let left = through(&mut g, "uplink0", &parts);
            assert!(left.iter().all(|p| p.len() <= 1280 && p[6] == 44 && p[44..48] == [0, 0, 0xbe, 0xef]));
            let got = reassemble(&left).unwrap();
            check_packet(&got).unwrap();
            let six = ip6(SERVER6, VM1).hop_limit(63);
            let want = match protocol {
                17 => six.udp(53, 4000, &data),
                6 => six.tcp(&tcp(53, 4000).syn().ack(1).payload(&data)),
                _ => six.echo_reply(4000, 3, &data),
            };
            assert_eq!(got, want, "{protocol} {order:?}");
            assert_eq!(g.nat.held(), 0);
        }
    }
}

#[test]
fn fragments_of_one_vector_find_each_other() {
    for protocol in [17, 6, 1] {
        let mut g = Gateway::lab();
        let (whole, _) = packets(protocol, 6000);
        let mut parts = fragments6(&whole, 1280, 7);
        parts.reverse();
        let fates = g.vector("tenant0", &parts, true);
        let mut left: Vec<Vec<u8>> =
            fates.into_iter().filter_map(|f| if let Fate::Sent(b, _) = f { Some(b) } else { None }).collect();
        left.extend(g.rig.sent().into_iter().map(|l| l.octets));
        check_packet(&reassemble(&left).unwrap()).unwrap();
        assert_eq!(g.nat.held(), 0);
    }
}

#[test]
fn a_ping_of_65000_octets_goes_there_and_back() {
    let mut g = Gateway::lab();
    let data = payload(65_000);
    let parts = fragments6(&ip6(VM1, SERVER6).echo_request(77, 1, &data), 1500, 99);
    let left = through(&mut g, "tenant0", &parts);
    let got = reassemble(&left).unwrap();
    check_packet(&got).unwrap();
    let out = port_of(&got);
    let reply = ip4(SERVER, out.0).df(false).echo_reply(out.1, 1, &data);
    let mut left = through(&mut g, "uplink0", &fragments4(&reply, 1500, 5));
    // The outbox does not hold all of it at once: the rest goes at the next polls.
    for _ in 0..10 {
        let guard = g.worker.enter();
        g.nat.poll(&mut g.rig.ctx(), &guard);
        drop(guard);
        left.extend(g.rig.sent().into_iter().map(|l| l.octets));
    }
    assert_eq!(reassemble(&left).unwrap(), ip6(SERVER6, VM1).hop_limit(63).echo_reply(77, 1, &data));
    assert_eq!(g.nat.held(), 0);
}

/// RFC 6146 3.4.
#[test]
fn rfc6146_4_fragments_wait_two_seconds_at_least_and_then_end() {
    let mut g = Gateway::lab();
    let (whole, _) = packets(17, 3000);
    let parts = fragments6(&whole, 1280, 7);
    assert_eq!(g.six(&parts[1]), Fate::Held);
    assert_eq!(g.six(&parts[2]), Fate::Held);
    g.rig.advance(Duration::from_millis(1999));
    poll(&mut g);
    assert_eq!(g.nat.held(), 2);
    g.rig.advance(Duration::from_millis(2));
    poll(&mut g);
    assert_eq!(g.nat.held(), 0);
    g.rig.assert_counted(&[("drop.nat64-fragment-timeout", 2)]);
    // The first alone is translated; what comes then waits for nobody it knows.
    assert!(matches!(g.six(&parts[0]), Fate::Sent(..)));
}

fn poll(g: &mut Gateway) {
    for _ in 0..200 {
        let guard = g.worker.enter();
        g.nat.poll(&mut g.rig.ctx(), &guard);
    }
}

#[test]
fn rfc5722_4_overlapping_fragments_spoil_their_packet() {
    let mut g = Gateway::lab();
    let (whole, _) = packets(17, 4000);
    let parts = fragments6(&whole, 1280, 7);
    assert!(matches!(g.six(&parts[0]), Fate::Sent(..)));
    assert!(matches!(g.six(&parts[1]), Fate::Sent(..)));
    // One that begins eight octets before the end of another.
    let from = u16::try_from((1280 - 48) / 8 - 1).unwrap();
    let overlap = ip6(VM1, SERVER6).fragment(from, true, 7).raw(17, &[0; 64]);
    assert_eq!(g.six(&overlap).dropped(), DropReason::Nat64FragmentOverlap);
    assert_eq!(g.six(&parts[2]).dropped(), DropReason::Nat64Fragment);
    // The same fragment twice is an overlap too.
    let again = fragments6(&whole, 1280, 8);
    assert!(matches!(g.six(&again[0]), Fate::Sent(..)));
    assert_eq!(g.six(&again[0]).dropped(), DropReason::Nat64FragmentOverlap);
    // What waits goes with it.
    let waiting = fragments6(&whole, 1280, 9);
    assert_eq!(g.six(&waiting[1]), Fate::Held);
    assert_eq!(g.six(&waiting[1]).dropped(), DropReason::Nat64FragmentOverlap);
    assert_eq!(g.nat.held(), 0);
}

#[test]
fn a_second_end_or_octets_behind_the_end_spoil_the_packet() {
    let mut g = Gateway::lab();
    let part = |offset, more, n, id| ip6(VM1, SERVER6).fragment(offset, more, id).raw(17, &vec![1; n]);
    assert_eq!(g.six(&part(10, false, 20, 1)), Fate::Held);
    assert_eq!(g.six(&part(20, false, 20, 1)).dropped(), DropReason::Nat64FragmentOverlap);
    assert_eq!(g.six(&part(10, false, 20, 2)), Fate::Held);
    assert_eq!(g.six(&part(20, true, 16, 2)).dropped(), DropReason::Nat64FragmentOverlap);
    assert_eq!(g.six(&part(10, true, 64, 3)), Fate::Held);
    assert_eq!(g.six(&part(4, false, 9, 3)).dropped(), DropReason::Nat64FragmentOverlap);
    assert_eq!(g.nat.held(), 0);
}

/// RFC 6146 3.4.
#[test]
fn rfc1858_3_and_rfc3128_2_tiny_fragments_are_dropped() {
    let mut g = Gateway::lab();
    let (segment, _) = packets(6, 100);
    let out = g.open(&segment);
    // The ports alone, without the control bits.
    let tiny = ip6(VM1, SERVER6).fragment(0, true, 1).raw(6, &segment[40..56]);
    assert_eq!(g.six(&tiny).dropped(), DropReason::Nat64BadTransport);
    let tiny = ip4(SERVER, out.0).fragment(0, true).raw(6, &segment[40..56]);
    assert_eq!(g.four(&tiny).dropped(), DropReason::Nat64BadTransport);
    // A second fragment inside the header, which could rewrite it, and one with nothing in it.
    for (offset, payload) in [(1, &segment[48..64]), (2, &segment[56..64]), (3, &segment[..0])] {
        let p = ip6(VM1, SERVER6).fragment(offset, false, 2).raw(6, payload);
        assert_eq!(g.six(&p).dropped(), DropReason::Nat64Fragment, "{offset}");
    }
    // A second fragment that would rewrite them.
    let inside = ip4(SERVER, out.0).fragment(1, true).raw(6, &[0; 16]);
    assert_eq!(g.four(&inside).dropped(), DropReason::Nat64Fragment);
}

#[test]
fn rfc8200_4_5_lengths_that_no_fragment_has() {
    let mut g = Gateway::lab();
    let odd = ip6(VM1, SERVER6).fragment(0, true, 1).raw(17, &[0; 21]);
    assert_eq!(g.six(&odd).dropped(), DropReason::Nat64Fragment);
    let beyond = ip6(VM1, SERVER6).fragment(8191, false, 1).raw(17, &[0; 16]);
    assert_eq!(g.six(&beyond).dropped(), DropReason::Nat64Fragment);
    let beyond = ip4(SERVER, "203.0.113.1").fragment(8191, false).raw(17, &[0; 16]);
    assert_eq!(g.four(&beyond).dropped(), DropReason::Nat64Fragment);
    let odd = ip4(SERVER, "203.0.113.1").fragment(0, true).raw(17, &[0; 21]);
    assert_eq!(g.four(&odd).dropped(), DropReason::Nat64Fragment);
}

#[test]
fn rfc6146_3_4_fragmented_udp_without_checksum_gets_one_in_every_order() {
    for n in [3000, 3001] {
        for order in orders(3) {
            let mut g = Gateway::lab();
            let (first, _) = packets(17, 10);
            let out = g.open(&first);
            let data = payload(n);
            let whole = ip4(SERVER, out.0).df(false).udp_without_checksum(53, out.1, &data);
            let parts = fragments4(&whole, 1280, 0x4711);
            assert_eq!(parts.len(), 3);
            let mut left = Vec::new();
            for (n, part) in order.iter().enumerate() {
                // Nothing leaves before everything is there.
                assert!(left.is_empty());
                left = through(&mut g, "uplink0", std::slice::from_ref(&parts[*part]));
                assert_eq!(g.nat.held(), if n < 2 { n + 1 } else { 0 }, "{order:?}");
            }
            let got = reassemble(&left).unwrap();
            check_packet(&got).unwrap();
            assert_eq!(got, ip6(SERVER6, VM1).hop_limit(63).udp(53, 4000, &data), "{order:?}");
            g.rig.assert_counted(&[
                ("nat64-v6-to-v4", 1),
                ("nat64-v4-to-v6", 3),
                ("nat64-sessions-created", 1),
                ("nat64-mappings-created", 1),
            ]);
        }
    }
}

#[test]
fn rfc6146_3_4_fragmented_udp_without_checksum_is_dropped_silently_if_it_does_not_come_together() {
    let mut g = Gateway::lab();
    let (first, _) = packets(17, 10);
    let out = g.open(&first);
    let _ = g.rig.sent();
    let whole = ip4(SERVER, out.0).df(false).udp_without_checksum(53, out.1, &payload(3000));
    // A part is missing.
    let parts = fragments4(&whole, 1280, 1);
    assert_eq!((g.four(&parts[0]), g.four(&parts[2])), (Fate::Held, Fate::Held));
    g.rig.advance(Duration::from_millis(2001));
    poll(&mut g);
    assert_eq!(g.nat.held(), 0);
    // The length of UDP is not that of the parts.
    let parts = fragments4(&poke(whole, 24, &[0x0b, 0xbf]), 1280, 2);
    assert_eq!(
        (g.four(&parts[0]), g.four(&parts[1]), g.four(&parts[2])),
        (Fate::Held, Fate::Held, Fate::Held)
    );
    assert_eq!(g.nat.held(), 0);
    // It is as large as a datagram can be, in more parts than are held of one.
    let parts =
        fragments4(&ip4(SERVER, out.0).df(false).udp_without_checksum(53, out.1, &payload(65_000)), 576, 3);
    let fates: Vec<_> = parts.iter().map(|p| g.four(p)).collect();
    assert_eq!(fates.iter().filter(|f| **f == Fate::Held).count(), 64);
    assert!(fates[64..].iter().all(|f| *f == Fate::Dropped(DropReason::Nat64FragmentFull)));
    assert!(g.rig.sent().is_empty());
    let dropped = ("drop.nat64-fragment-timeout", 2);
    g.rig.assert_counted(&[
        ("nat64-v6-to-v4", 1),
        ("nat64-sessions-created", 1),
        ("nat64-mappings-created", 1),
        dropped,
        ("drop.nat64-bad-transport", 1),
        ("drop.nat64-fragment", 2),
    ]);
}

#[test]
fn rfc7915_4_5_fragmented_udp_without_checksum_is_forwarded_or_dropped_as_configured() {
    let with = |udp_zero| {
        let mut o = options();
        o.policy.udp_zero = udp_zero;
        let mut g = Gateway::with(o);
        let out = g.open(&packets(17, 10).0);
        let whole = ip4(SERVER, out.0).df(false).udp_without_checksum(53, out.1, &payload(3000));
        (g, fragments4(&whole, 1280, 1))
    };
    let (mut g, parts) = with(UdpZero::Forward);
    let left = through(&mut g, "uplink0", &parts);
    assert_eq!(left[0][48 + 6..48 + 8], [0, 0]);
    assert_eq!(reassemble(&left).unwrap()[48..], payload(3000));
    let (mut g, parts) = with(UdpZero::Drop);
    assert_eq!(g.four(&parts[0]).dropped(), DropReason::Nat64ZeroChecksum);
    assert_eq!(g.four(&parts[1]).dropped(), DropReason::Nat64Fragment);
}

#[test]
fn rfc7915_5_1_1_extension_headers_behind_a_fragment_header_are_refused() {
    let mut g = Gateway::lab();
    let options = [1, 4, 0, 0, 0, 0];
    let chain = |offset, more| ip6(VM1, SERVER6).fragment(offset, more, 7).dest_options(&options);
    let routing = ip6(VM1, SERVER6).fragment(0, false, 7).routing(4, 0, &[0; 4]);
    let auth = ip6(VM1, SERVER6).fragment(0, false, 7).auth(1, 1, &[0; 12]);
    for b in [chain(0, false), chain(0, true), routing, auth] {
        assert_eq!(g.six(&b.udp(4000, 53, &[0; 64])).dropped(), DropReason::Nat64Fragment);
    }
    let later = ip6(VM1, SERVER6).fragment(9, false, 7).raw(60, &[0; 64]);
    assert_eq!(g.six(&later).dropped(), DropReason::Nat64Fragment);
    // ESP is no extension header here, but another protocol.
    let esp = ip6(VM1, SERVER6).fragment(0, false, 7).raw(50, &[0; 64]);
    assert_eq!(g.six(&esp).dropped(), DropReason::Nat64Protocol);
    assert_eq!((g.sessions(), g.nat.held()), (0, 0));
}

#[test]
fn a_first_fragment_that_gets_no_session_takes_its_packet_along() {
    let mut g = Gateway::lab();
    let parts = fragments4(&ip4(SERVER, "203.0.113.1").df(false).udp(53, 9, &payload(3000)), 1280, 1);
    assert_eq!(g.four(&parts[1]), Fate::Held);
    assert_eq!(g.four(&parts[0]).dropped(), DropReason::Nat64NoBib);
    assert_eq!(g.four(&parts[2]).dropped(), DropReason::Nat64Fragment);
    assert_eq!(g.nat.held(), 0);
    g.rig.assert_counted(&[("drop.nat64-fragment", 1)]);
}

/// RFC 4787 11 (REQ-14a).
#[test]
fn rfc6146_3_4_and_5_3_waiting_is_bounded_in_number() {
    let mut g = Gateway::with(Options {
        timeouts: Timeouts { fragment: Duration::from_secs(30), ..Timeouts::default() },
        ..options()
    });
    let later = |id, n: u16| ip6(VM1, SERVER6).fragment(100 + n, true, id).raw(17, &[1; 8]);
    // Of one packet.
    let mut held = 0;
    for n in 0..200 {
        match g.six(&later(1, n)) {
            Fate::Held => held += 1,
            other => assert_eq!(other.dropped(), DropReason::Nat64FragmentFull),
        }
    }
    assert_eq!((held, g.nat.held()), (64, 64));
    // Of all.
    for id in 2..2000 {
        let _ = g.six(&later(id, 0));
    }
    assert!(g.nat.held() <= 256, "{}", g.nat.held());
    // Whoever comes now still gets through, if in order.
    let (whole, _) = packets(17, 3000);
    for p in fragments6(&whole, 1280, 0xabcdef) {
        assert!(matches!(g.six(&p), Fate::Sent(..)));
    }
    g.rig.advance(Duration::from_secs(31));
    poll(&mut g);
    assert_eq!(g.nat.held(), 0);
}

#[test]
fn rfc6146_3_8_fragments_are_hairpinned_in_every_order() {
    for order in orders(3) {
        let mut g = Gateway::lab();
        let b = g.open(&ip6(VM2, SERVER6).udp(7000, 53, b""));
        let vm2 = g.nat.config().prefixes().get(0).unwrap().embed(b.0);
        let data = payload(3000);
        let parts = fragments6(&ip6(VM1, vm2).udp(4000, b.1, &data), 1280, 0x5555);
        assert_eq!(parts.len(), 3);
        let mut left = Vec::new();
        for n in &order {
            match g.six(&parts[*n]) {
                Fate::Sent(b, _) => left.push(b),
                Fate::Held => {}
                other => panic!("{other:?}"),
            }
            left.extend(g.rig.sent().into_iter().map(|l| l.octets));
        }
        poll(&mut g);
        left.extend(g.rig.sent().into_iter().map(|l| l.octets));
        let got = reassemble(&left).unwrap_or_else(|e| panic!("{order:?}: {e}"));
        check_packet(&got).unwrap();
        assert_eq!(&got[got.len() - 3000..], &data);
        assert_eq!(g.nat.held(), 0);
    }
}

/// Two packets whose release has to go on at the next poll, because the outbox is full.
#[test]
fn every_release_that_found_no_room_goes_on() {
    let mut g = Gateway::lab();
    let whole = |port| ip6(VM1, SERVER6).udp(port, 53, &payload(9000));
    let (a, b) = (fragments6(&whole(4000), 200, 1), fragments6(&whole(4001), 200, 2));
    let (a_first, a_rest) = a.split_first().unwrap();
    let (b_first, b_rest) = b.split_first().unwrap();
    for part in a_rest.iter().chain(b_rest) {
        assert_eq!(g.six(part), Fate::Held);
    }
    let fates = g.vector("tenant0", &[a_first.clone(), b_first.clone()], true);
    assert!(fates.iter().all(|f| matches!(f, Fate::Sent(..))), "{fates:?}");
    let mut left = g.rig.sent().len();
    for _ in 0..8 {
        poll(&mut g);
        left += g.rig.sent().len();
    }
    assert_eq!((g.nat.held(), left), (0, a_rest.len() + b_rest.len()));
}
