use super::*;
use crate::Config;
use crate::resolve::tests::{Gate, TENANT_MAC, UPLINK_MAC, VM1};
use crate::{Reachability, Resolution};
use causeway_core::{Duration, HeapSource};
use causeway_testkit::{arp, arp_reply, arp_request, check_packet, ip4, ip6, mac, poke, tcp};
use proptest::prelude::*;

/// What a row expects of the packet itself.
enum Fate {
    /// It becomes this packet and leaves by the interface it came in by, to this link-layer address.
    Becomes(Vec<u8>, MacAddr),
    /// It becomes this packet and leaves through the route.
    Routed(Vec<u8>, &'static str, &'static str),
    Dropped(DropReason),
}
use Fate::{Becomes, Dropped, Routed};

/// One sentence, where the frame comes in, the frame, what becomes of it, and all counters that moved.
type Row = (&'static str, &'static str, Vec<u8>, Fate, &'static [(&'static str, u64)]);

fn run(rows: Vec<Row>) {
    for (sentence, ingress, octets, fate, counted) in rows {
        let mut g = Gate::new(Config::default());
        let (verdict, after) = g.local(ingress, &octets);
        match fate {
            Becomes(want, to) => {
                let egress = Egress::new(g.rig.interface(ingress), Via::Mac(to));
                assert_eq!(verdict, Verdict::Forward { egress }, "{sentence}");
                assert_eq!(after, want, "{sentence}");
            }
            Routed(want, interface, via) => {
                let egress = g.rig.egress(interface, via);
                assert_eq!(verdict, Verdict::Forward { egress }, "{sentence}");
                assert_eq!(after, want, "{sentence}");
                check_packet(&after).expect(sentence);
            }
            Dropped(reason) => assert_eq!(verdict, Verdict::Drop(reason), "{sentence}"),
        }
        println!("{sentence}");
        g.rig.assert_counted(counted);
    }
}

const GW: &str = "2001:db8:64::1";
const ANSWERED: &[(&str, u64)] = &[("ns-answered", 1)];

fn gw_na(to: &str, target: &str) -> Vec<u8> {
    ip6(target, to).na(target, true, true, true, Some(TENANT_MAC))
}

#[test]
fn rfc4861_7_2_4_solicitations_for_own_addresses() {
    let asked = ip6(VM1, "ff02::1:ff00:1");
    run(vec![
        (
            "by the group, with a link-layer address: it is answered there",
            "tenant0",
            asked.ns(GW, Some(mac(9))),
            Becomes(gw_na(VM1, GW), mac(9)),
            ANSWERED,
        ),
        (
            "by unicast, without one: the answer goes where the frame came from",
            "tenant0",
            ip6(VM1, GW).ns(GW, None),
            Becomes(gw_na(VM1, GW), mac(0x77)),
            ANSWERED,
        ),
        (
            "for the link-local address",
            "tenant0",
            ip6("fe80::9", "ff02::1:ff00:1").ns("fe80::1", Some(mac(9))),
            Becomes(gw_na("fe80::9", "fe80::1"), mac(9)),
            ANSWERED,
        ),
        (
            "for an address on another link",
            "tenant0",
            ip6(VM1, "ff02::1:ff00:2").ns("fe80::2", Some(mac(9))),
            Dropped(DropReason::NdNotOurs),
            &[],
        ),
        (
            "for a neighbour's address",
            "tenant0",
            asked.ns("2001:db8:64::102", Some(mac(9))),
            Dropped(DropReason::NdNotOurs),
            &[],
        ),
        (
            "from ourselves, looped back",
            "tenant0",
            ip6("fe80::1", "ff02::1:ff00:1").ns(GW, Some(mac(9))),
            Dropped(DropReason::OwnSource),
            &[],
        ),
    ]);
}

#[test]
fn rfc4862_5_4_3_a_probe_for_an_address_of_ours_is_told_to_all_nodes() {
    let mut g = Gate::new(Config::default());
    let probe = ip6("::", "ff02::1:ff00:1").ns(GW, None);
    let (verdict, after) = g.local("tenant0", &probe);
    let all = MacAddr::from_ipv6_multicast(ALL_NODES);
    let egress = Egress::new(IfId(0), Via::Mac(all));
    assert_eq!(verdict, Verdict::Forward { egress });
    assert_eq!(after, ip6(GW, "ff02::1").na(GW, true, false, true, Some(TENANT_MAC)));
    let address = GW.parse().unwrap();
    assert_eq!(g.rig.take_events(), [Event::AddressConflict { interface: IfId(0), address, mac: mac(0x77) }]);
    // Answered each time, told once in ten seconds.
    assert!(matches!(g.local("tenant0", &probe).0, Verdict::Forward { .. }));
    assert!(g.rig.take_events().is_empty());
    g.rig.advance(Duration::from_secs(10));
    assert!(matches!(g.local("tenant0", &probe).0, Verdict::Forward { .. }));
    assert_eq!(g.rig.take_events().len(), 1);
    g.rig.assert_counted(&[("ns-answered", 3), ("address-conflicts", 3)]);
}

/// The ICMPv6 checksum made right again after a change.
fn fixed(mut b: Vec<u8>) -> Vec<u8> {
    let ip = Ipv6Repr::parse(&b).unwrap();
    causeway_wire::put16(&mut b, 42, 0);
    let pseudo = checksum::pseudo6(ip.src, ip.dst, 58, ip.payload_octets as u32);
    let sum = !checksum::fold(checksum::sum(&b[40..], pseudo));
    causeway_wire::put16(&mut b, 42, sum);
    b
}

/// An NS whose options are these octets.
fn ns_with(options: &[u8]) -> Vec<u8> {
    let target: Ipv6Addr = GW.parse().unwrap();
    ip6(VM1, GW).hop_limit(255).icmp(135, 0, [0; 4], &[&target.octets()[..], options].concat())
}

#[test]
fn rfc4861_7_1_1_solicitations_that_are_not_valid() {
    use DropReason::{LocalBadChecksum, LocalFragment, NdHopLimit, NdMalformed};
    let ns = || ip6(VM1, GW).ns(GW, Some(mac(9)));
    let drop = |sentence, octets, reason| (sentence, "tenant0", octets, Dropped(reason), &[][..]);
    run(vec![
        drop("hop limit 254: it came through a router", ip6(VM1, GW).hop_limit(254).ns(GW, None), NdHopLimit),
        drop("wrong checksum", poke(ns(), 42, &[1, 2]), LocalBadChecksum),
        drop("code not zero", fixed(poke(ns(), 41, &[1])), NdMalformed),
        drop(
            "shorter than 24 octets",
            ip6(VM1, GW).hop_limit(255).icmp(135, 0, [0; 4], &[0; 15]),
            NdMalformed,
        ),
        drop("multicast target", ip6(VM1, GW).ns("ff02::1", Some(mac(9))), NdMalformed),
        drop("option of length zero", ns_with(&[1, 0, 2, 0, 0, 0, 0, 9]), NdMalformed),
        drop(
            "option of length zero behind a good one",
            ns_with(&[1, 1, 2, 0, 0, 0, 0, 9, 14, 0]),
            NdMalformed,
        ),
        drop("unknown option of length zero", ns_with(&[14, 0, 0, 0, 0, 0, 0, 0]), NdMalformed),
        drop("option cut", ns_with(&[1, 2, 2, 0, 0, 0, 0, 9]), NdMalformed),
        drop("option of one octet", ns_with(&[1]), NdMalformed),
        drop("link-layer address of a group", ns_with(&[1, 1, 3, 0, 0, 0, 0, 9]), NdMalformed),
        drop("link-layer address of another medium", ns_with(&[&[1, 2], &[2; 14][..]].concat()), NdMalformed),
        drop("unspecified source to a unicast address", ip6("::", GW).ns(GW, None), NdMalformed),
        drop("unspecified source to all nodes", ip6("::", "ff02::1").ns(GW, None), NdMalformed),
        drop(
            "unspecified source with a link-layer address",
            ip6("::", "ff02::1:ff00:1").ns(GW, Some(mac(9))),
            NdMalformed,
        ),
        drop(
            "RFC 6980 5: in a fragment that is whole",
            ip6(VM1, GW).fragment(0, false, 7).ns(GW, Some(mac(9))),
            NdMalformed,
        ),
        drop(
            "RFC 6980 5: in a fragment",
            ip6(VM1, GW).hop_limit(255).fragment(0, true, 7).raw(58, &ns()[40..]),
            LocalFragment,
        ),
        (
            "options that are not for solicitations are skipped, whatever they hold",
            "tenant0",
            ns_with(&[3, 1, 9, 9, 9, 9, 9, 9, 1, 1, 2, 0, 0, 0, 0, 9, 253, 1, 0, 0, 0, 0, 0, 0]),
            Becomes(gw_na(VM1, GW), mac(9)),
            ANSWERED,
        ),
    ]);
}

#[test]
fn rfc4861_7_1_2_advertisements_that_are_not_valid() {
    use DropReason::{LocalBadChecksum, NdHopLimit, NdMalformed, NdNotOurs};
    let na = |dst: &str| ip6(VM1, dst).na(VM1, false, true, true, Some(mac(9)));
    let drop = |sentence, octets, reason| (sentence, "tenant0", octets, Dropped(reason), &[][..]);
    run(vec![
        drop("hop limit 64", ip6(VM1, GW).hop_limit(64).na(VM1, false, true, true, None), NdHopLimit),
        drop("wrong checksum", poke(na(GW), 42, &[1, 2]), LocalBadChecksum),
        drop("code not zero", fixed(poke(na(GW), 41, &[1])), NdMalformed),
        drop(
            "shorter than 24 octets",
            ip6(VM1, GW).hop_limit(255).icmp(136, 0, [0; 4], &[0; 8]),
            NdMalformed,
        ),
        drop("multicast target", ip6(VM1, GW).na("ff02::9", false, true, true, Some(mac(9))), NdMalformed),
        drop("solicited, to a group", na("ff02::1"), NdMalformed),
        drop("option of length zero", fixed(poke(na(GW), 65, &[0])), NdMalformed),
        drop("an answer that nobody asked for", na(GW), NdNotOurs),
        drop(
            "unasked, without a link-layer address",
            ip6(VM1, "ff02::1").na(VM1, false, false, true, None),
            NdNotOurs,
        ),
        drop(
            "unasked, for an address that is not on the link",
            ip6(VM1, "ff02::1").na("2001:db8:7::1", false, false, true, Some(mac(9))),
            NdNotOurs,
        ),
    ]);
}

#[test]
fn nd_that_is_for_others_is_ignored() {
    let ignored = |sentence, octets| (sentence, "tenant0", octets, Dropped(DropReason::NdIgnored), &[][..]);
    let raw = |kind, body: &[u8]| ip6("fe80::9", "ff02::1").hop_limit(255).icmp(kind, 0, [0; 4], body);
    run(vec![
        ignored("a router solicitation", ip6("fe80::9", "ff02::2").rs(Some(mac(9)))),
        ignored("a router advertisement", raw(134, &[0; 8])),
        ignored("a redirect", raw(137, &[0; 32])),
        (
            "a router solicitation from off the link",
            "tenant0",
            ip6("fe80::9", "ff02::2").hop_limit(3).rs(None),
            Dropped(DropReason::NdHopLimit),
            &[],
        ),
        (
            "a multicast listener report",
            "tenant0",
            ip6("fe80::9", "ff02::2").hop_limit(1).icmp(143, 0, [0; 4], &[]),
            Dropped(DropReason::MulticastNotOurs),
            &[],
        ),
    ]);
}

#[test]
fn rfc4862_5_4_4_an_advertisement_for_an_address_of_ours_is_defended_against() {
    let mut g = Gate::new(Config::default());
    let theft = ip6(GW, "ff02::1").na(GW, false, false, true, Some(mac(9)));
    assert_eq!(g.local("tenant0", &theft).0, Verdict::Consume);
    let sent = g.rig.sent();
    assert_eq!(sent[0].octets, ip6(GW, "ff02::1").na(GW, true, false, true, Some(TENANT_MAC)));
    let address = GW.parse().unwrap();
    assert_eq!(g.rig.take_events(), [Event::AddressConflict { interface: IfId(0), address, mac: mac(0x77) }]);
    // RFC 5227 2.4 (c) gives the interval; no storm between two that defend.
    for _ in 0..9 {
        g.rig.advance(Duration::from_secs(1));
        assert_eq!(g.local("tenant0", &theft).0, Verdict::Consume);
    }
    assert!(g.rig.sent().is_empty() && g.rig.take_events().is_empty());
    g.rig.assert_counted(&[("na-sent", 1), ("address-conflicts", 10)]);
}

#[test]
fn rfc826_and_rfc5227_arp() {
    use DropReason::{ArpMalformed, ArpNotOurs, OwnSource};
    let reply = |own: &str, to: &str| arp_reply(UPLINK_MAC, own, mac(1), to);
    let answered = &[("arp-answered", 1)][..];
    let drop = |sentence, octets, reason| (sentence, "uplink0", octets, Dropped(reason), &[][..]);
    run(vec![
        (
            "a question for our address",
            "uplink0",
            arp_request(mac(1), "192.0.2.1", "192.0.2.2"),
            Becomes(reply("192.0.2.2", "192.0.2.1"), mac(1)),
            answered,
        ),
        (
            "padded as Ethernet does",
            "uplink0",
            [arp_request(mac(1), "192.0.2.1", "192.0.2.2"), vec![0xa5; 18]].concat(),
            Becomes(reply("192.0.2.2", "192.0.2.1"), mac(1)),
            answered,
        ),
        (
            "for an address of the NAT64 pool",
            "uplink0",
            arp_request(mac(1), "192.0.2.1", "203.0.113.9"),
            Becomes(reply("203.0.113.9", "192.0.2.1"), mac(1)),
            answered,
        ),
        (
            "from somebody who is not on the link: answered, not learned",
            "uplink0",
            arp_request(mac(1), "198.51.100.1", "192.0.2.2"),
            Becomes(reply("192.0.2.2", "198.51.100.1"), mac(1)),
            answered,
        ),
        (
            "RFC 5227 2.1.1: a probe for our address",
            "uplink0",
            arp_request(mac(1), "0.0.0.0", "192.0.2.2"),
            Becomes(reply("192.0.2.2", "0.0.0.0"), mac(1)),
            &[("arp-answered", 1), ("address-conflicts", 1)],
        ),
        drop("a probe for another", arp_request(mac(1), "0.0.0.0", "192.0.2.7"), ArpNotOurs),
        drop("a question for another", arp_request(mac(1), "192.0.2.1", "192.0.2.7"), ArpNotOurs),
        drop(
            "an answer nobody asked for",
            arp_reply(mac(1), "192.0.2.1", UPLINK_MAC, "192.0.2.2"),
            ArpNotOurs,
        ),
        drop("an announcement of a stranger", arp_request(mac(1), "192.0.2.1", "192.0.2.1"), ArpNotOurs),
        drop("from ourselves", arp_request(UPLINK_MAC, "192.0.2.2", "192.0.2.1"), OwnSource),
        drop("an unknown operation", arp(9, mac(1), "192.0.2.1", mac(0), "192.0.2.2"), ArpMalformed),
        drop("from a group", arp_request(MacAddr::BROADCAST, "192.0.2.1", "192.0.2.2"), ArpMalformed),
        drop("cut", arp_request(mac(1), "192.0.2.1", "192.0.2.2")[..27].to_vec(), ArpMalformed),
        (
            "on a link where we have no IPv4",
            "tenant0",
            arp_request(mac(1), "192.0.2.1", "192.0.2.2"),
            Dropped(ArpNotOurs),
            &[],
        ),
    ]);
}

#[test]
fn rfc5227_2_4_somebody_else_uses_an_address_of_ours() {
    let mut g = Gate::new(Config::default());
    for ours in ["192.0.2.2", "203.0.113.3"] {
        for theft in [
            arp_request(mac(9), ours, "192.0.2.1"),
            arp_request(mac(9), ours, ours),
            arp_reply(mac(9), ours, mac(1), "192.0.2.1"),
        ] {
            assert_eq!(g.local("uplink0", &theft).0, Verdict::Consume);
        }
        let sent = g.rig.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].octets, arp_request(UPLINK_MAC, ours, ours));
        assert_eq!(sent[0].egress.via(), Via::Mac(MacAddr::BROADCAST));
        let address = ours.parse().unwrap();
        let event = Event::AddressConflict { interface: IfId(1), address, mac: mac(9) };
        assert_eq!(g.rig.take_events(), [event]);
        g.rig.assert_counted(&[("arp-sent", 1), ("address-conflicts", 3)]);
        g.rig.advance(Duration::from_secs(10));
    }
}

#[test]
fn rfc4443_4_2_echo_over_ipv6() {
    use DropReason::*;
    let data: Vec<u8> = (0..=255).collect();
    let far = "2001:db8:6::10";
    let (router, uplink) = ("2001:db8:ffff::1", "2001:db8:ffff::2");
    let counted = &[("echo-answered", 1)][..];
    let drop = |sentence, octets, reason| (sentence, "tenant0", octets, Dropped(reason), &[][..]);
    run(vec![
        (
            "from a tenant",
            "tenant0",
            ip6(VM1, GW).traffic_class(8).flow_label(77).echo_request(1, 2, &data),
            Routed(ip6(GW, VM1).traffic_class(8).echo_reply(1, 2, &data), "tenant0", VM1),
            counted,
        ),
        (
            "from the Internet to the uplink's address, with an odd number of octets",
            "uplink0",
            ip6(far, uplink).hop_limit(3).echo_request(1, 2, &data[..33]),
            Routed(ip6(uplink, far).echo_reply(1, 2, &data[..33]), "uplink0", router),
            counted,
        ),
        (
            "from the Internet to the tenant side",
            "uplink0",
            ip6(far, GW).echo_request(1, 2, b""),
            Routed(ip6(GW, far).echo_reply(1, 2, b""), "uplink0", router),
            counted,
        ),
        (
            "between link-local addresses",
            "tenant0",
            ip6("fe80::9", "fe80::1").echo_request(1, 2, &data),
            Routed(ip6("fe80::1", "fe80::9").echo_reply(1, 2, &data), "tenant0", "fe80::9"),
            counted,
        ),
        (
            "to all nodes: the answer comes from one of our addresses",
            "tenant0",
            ip6(VM1, "ff02::1").echo_request(1, 2, &data),
            Routed(ip6(GW, VM1).echo_reply(1, 2, &data), "tenant0", VM1),
            counted,
        ),
        (
            "to all nodes from a link-local address",
            "tenant0",
            ip6("fe80::9", "ff02::1").echo_request(1, 2, &data),
            Routed(ip6("fe80::1", "fe80::9").echo_reply(1, 2, &data), "tenant0", "fe80::9"),
            counted,
        ),
        (
            "with extension headers, which do not come back",
            "tenant0",
            ip6(VM1, GW).hop_by_hop(&[5, 2, 0, 0]).dest_options(&[]).echo_request(1, 2, &data),
            Routed(ip6(GW, VM1).echo_reply(1, 2, &data), "tenant0", VM1),
            counted,
        ),
        drop(
            "wrong checksum",
            poke(ip6(VM1, GW).echo_request(1, 2, &data), 48, &[0xff, 9]),
            LocalBadChecksum,
        ),
        drop("code not zero", ip6(VM1, GW).icmp(128, 1, [0; 4], &[]), LocalMalformed),
        drop("cut", ip6(VM1, GW).raw(58, &[128, 0]), LocalMalformed),
        drop(
            "a fragment",
            ip6(VM1, GW).fragment(0, true, 1).raw(58, &ip6(VM1, GW).echo_request(1, 2, &data)[40..]),
            LocalFragment,
        ),
        drop("an address of nobody", ip6(VM1, "2001:db8:64::9").echo_request(1, 2, &data), LocalNoService),
        drop(
            "the link-local address of another link",
            ip6(VM1, "fe80::2").echo_request(1, 2, &[]),
            LocalNoService,
        ),
        drop("no way back", ip6("::", GW).echo_request(1, 2, &data), Ip6BadAddress),
        drop("a reply that nobody asked for", ip6(VM1, GW).echo_reply(1, 2, &data), LocalNoService),
        drop("an error to us", ip6(VM1, GW).icmp_error(1, 0, 0, &[0; 48]), LocalNoService),
    ]);
}

#[test]
fn rfc792_echo_over_ipv4() {
    use DropReason::*;
    let data: Vec<u8> = (0..=250).collect();
    let (far, us, router) = ("198.51.100.10", "192.0.2.2", "192.0.2.1");
    let counted = &[("echo-answered", 1)][..];
    let drop = |sentence, octets, reason| (sentence, "uplink0", octets, Dropped(reason), &[][..]);
    run(vec![
        (
            "from the Internet; the type of service comes back (RFC 1812 4.3.2.5)",
            "uplink0",
            ip4(far, us).ttl(3).tos(0x20).id(99).df(false).echo_request(1, 2, &data),
            Routed(ip4(us, far).tos(0x20).echo_reply(1, 2, &data), "uplink0", router),
            counted,
        ),
        (
            "from the link",
            "uplink0",
            ip4(router, us).echo_request(1, 2, b""),
            Routed(ip4(us, router).echo_reply(1, 2, b""), "uplink0", router),
            counted,
        ),
        (
            "with options, which do not come back",
            "uplink0",
            ip4(router, us).options(&[7, 7, 4, 0, 0, 0, 0, 0]).echo_request(1, 2, &data),
            Routed(ip4(us, router).echo_reply(1, 2, &data), "uplink0", router),
            counted,
        ),
        drop("wrong checksum", poke(ip4(far, us).echo_request(1, 2, &data), 30, &[0xff]), LocalBadChecksum),
        drop("wrong header checksum", poke(ip4(far, us).echo_request(1, 2, &data), 8, &[9]), Ip4BadChecksum),
        drop("a fragment", ip4(far, us).fragment(0, true).raw(1, &[8; 16]), LocalFragment),
        drop("cut", ip4(far, us).raw(1, &[8, 0, 0, 0]), LocalMalformed),
        drop("code not zero", ip4(far, us).icmp(8, 3, [0; 4], &[]), LocalMalformed),
        drop("another query", ip4(far, us).icmp(13, 0, [0; 4], &[0; 12]), LocalNoService),
        drop("not to us", ip4(far, "192.0.2.77").echo_request(1, 2, &data), Ip4NotOurs),
        drop("from everybody", ip4("255.255.255.255", us).echo_request(1, 2, &data), Ip4BadAddress),
        drop("TCP", ip4(far, us).tcp(&tcp(1, 22).syn()), LocalNoService),
    ]);
}

#[test]
fn an_echo_reply_that_the_way_back_cannot_carry_is_not_made() {
    let mut g = Gate::new(Config::default());
    let mut list = causeway_testkit::lab_interfaces();
    list[1].mtu = 1400;
    g.rig.interfaces = Interfaces::new(list);
    let octets = |n| ip6("2001:db8:6::10", GW).echo_request(1, 2, &vec![0; n]);
    assert_eq!(g.local("tenant0", &octets(1353)).0, Verdict::Drop(DropReason::TooBig));
    assert!(matches!(g.local("tenant0", &octets(1352)).0, Verdict::Forward { .. }));
}

#[test]
fn echo_has_a_rate_and_what_is_wrong_does_not_use_it_up() {
    let mut g = Gate::new(Config { echo_rate_pps: 10, echo_burst: 3, ..Config::default() });
    let good = ip6(VM1, GW).echo_request(1, 2, b"x");
    for _ in 0..50 {
        let bad = poke(good.clone(), 48, &[0xee]);
        assert_eq!(g.local("tenant0", &bad).0, Verdict::Drop(DropReason::LocalBadChecksum));
    }
    let four = ip4("198.51.100.10", "192.0.2.2").echo_request(1, 2, b"x");
    assert!(matches!(g.local("uplink0", &four).0, Verdict::Forward { .. }));
    assert!(matches!(g.local("tenant0", &good).0, Verdict::Forward { .. }));
    assert!(matches!(g.local("tenant0", &good).0, Verdict::Forward { .. }));
    assert_eq!(g.local("tenant0", &good).0, Verdict::Drop(DropReason::LocalRateLimited));
    g.rig.advance(Duration::from_millis(100));
    assert!(matches!(g.local("tenant0", &good).0, Verdict::Forward { .. }));
    g.rig.assert_counted(&[("echo-answered", 4)]);
}

#[test]
fn rfc4443_3_1_udp_to_a_closed_port_is_told_to_its_sender() {
    let mut g = Gate::new(Config::default());
    let six = ip6(VM1, GW).udp(40_000, 33_434, b"traceroute");
    let four = ip4("198.51.100.10", "192.0.2.2").udp(40_000, 33_434, b"traceroute");
    let group = ip6(VM1, "ff02::1").udp(546, 547, b"x");
    assert_eq!(g.local("tenant0", &six).0, Verdict::Drop(DropReason::LocalNoService));
    assert_eq!(g.local("uplink0", &four).0, Verdict::Drop(DropReason::LocalNoService));
    assert_eq!(g.local("tenant0", &group).0, Verdict::Drop(DropReason::LocalNoService));
    let syn = ip6(VM1, GW).tcp(&tcp(1, 22).syn());
    assert_eq!(g.local("tenant0", &syn).0, Verdict::Drop(DropReason::LocalNoService));
    assert_eq!(g.errors.port, [six, four]);
}

#[test]
fn the_errors_that_are_sent_are_those_of_core() {
    use causeway_core::icmp_error::IcmpErrors;
    let mut g = Gate::new(Config::default());
    let mut errors = IcmpErrors::new(100, 10);
    let six = ip6(VM1, GW).udp(40_000, 33_434, b"traceroute");
    let mut packet = g.rig.packet("tenant0", &six);
    let verdict = g.n.local(&mut g.rig.ctx(), &mut errors, &mut packet);
    assert_eq!(verdict, Verdict::Drop(DropReason::LocalNoService));
    let sent = g.rig.sent();
    assert_eq!(sent[0].octets, ip6(GW, VM1).icmp_error(1, 4, 0, &six));
    // A next hop that does not answer: its packets' senders are told, but for our own pool.
    for (ingress, octets, want) in [
        ("uplink0", ip6("2001:db8:6::10", VM1).udp(1, 2, b"x"), 1),
        ("tenant0", ip4("203.0.113.1", "198.51.100.10").udp(1, 2, b"x"), 0),
    ] {
        let packet = g.rig.packet(ingress, &octets);
        errors.address_unreachable(&mut g.rig.ctx(), &packet);
        let sent = g.rig.sent();
        assert_eq!(sent.len(), want);
        for s in sent {
            assert_eq!(s.octets, ip6("2001:db8:ffff::2", "2001:db8:6::10").icmp_error(1, 3, 0, &octets));
        }
    }
}

fn mac_of(g: &mut Gate, who: &str) -> Option<MacAddr> {
    match g.resolve("tenant0", who) {
        Resolution::Ready(mac) => Some(mac),
        _ => None,
    }
}

fn state_of(g: &Gate) -> Vec<Reachability> {
    let mut states = Vec::new();
    g.n.shared.list(0, usize::MAX, g.rig.now, |n| states.push(n.state));
    states
}

#[test]
fn rfc4861_7_2_3_who_asks_us_is_known_and_stale() {
    let mut g = Gate::new(Config::default());
    let _ = g.local("tenant0", &ip6(VM1, "ff02::1:ff00:1").ns(GW, Some(mac(9))));
    assert_eq!(state_of(&g), [Reachability::Stale]);
    assert_eq!(mac_of(&mut g, VM1), Some(mac(9)));
    // Another link-layer address replaces the first; none at all changes nothing.
    let _ = g.local("tenant0", &ip6(VM1, GW).ns(GW, Some(mac(8))));
    let _ = g.local("tenant0", &ip6(VM1, GW).ns(GW, None));
    assert_eq!(mac_of(&mut g, VM1), Some(mac(8)));
    // Not from off the link, and not for a question that is not to us.
    let _ = g.local("tenant0", &ip6("2001:db8:7::9", GW).ns(GW, Some(mac(9))));
    let _ = g.local("tenant0", &ip6("2001:db8:64::7", GW).ns("2001:db8:64::8", Some(mac(7))));
    assert_eq!(state_of(&g).len(), 1);
    // ARP: RFC 826.
    let _ = g.local("uplink0", &arp_request(mac(1), "192.0.2.1", "192.0.2.2"));
    assert_eq!(g.resolve("uplink0", "192.0.2.1"), Resolution::Ready(mac(1)));
    let _ = g.local("uplink0", &arp_request(mac(2), "192.0.2.1", "192.0.2.1"));
    assert_eq!(g.resolve("uplink0", "192.0.2.1"), Resolution::Ready(mac(2)));
    for off in ["198.51.100.1", "192.0.2.0", "192.0.2.255"] {
        let _ = g.local("uplink0", &arp_request(mac(1), off, "192.0.2.2"));
        assert_eq!(g.resolve("uplink0", off), Resolution::Hold, "{off}");
    }
}

#[test]
fn rfc5227_2_6_an_arp_reply_answers_if_we_asked_and_else_only_corrects() {
    let mut g = Gate::new(Config::default());
    assert_eq!(g.send("uplink0", "192.0.2.1", b"x"), Resolution::Hold);
    g.rig.sent();
    let reply = |from| arp_reply(mac(from), "192.0.2.1", UPLINK_MAC, "192.0.2.2");
    let mut packet = g.rig.packet("uplink0", &reply(1));
    packet.meta.l2_group = true;
    let verdict = g.n.local(&mut g.rig.ctx(), &mut g.errors, &mut packet);
    assert_eq!((verdict, state_of(&g)), (Verdict::Consume, vec![Reachability::Reachable]));
    // Nobody asked: believed, but to be confirmed.
    assert_eq!(g.local("uplink0", &reply(2)).0, Verdict::Consume);
    assert_eq!(state_of(&g), [Reachability::Stale]);
    assert_eq!(g.resolve("uplink0", "192.0.2.1"), Resolution::Ready(mac(2)));
    assert_eq!(g.local("uplink0", &reply(2)).0, Verdict::Consume);
    assert_eq!(state_of(&g), [Reachability::Stale]);
}

#[test]
fn rfc9131_a_new_host_makes_itself_known_before_anybody_asks() {
    let mut g = Gate::new(Config::default());
    let na = ip6(VM1, "ff02::2").na(VM1, false, false, false, Some(mac(9)));
    assert_eq!(g.local("tenant0", &na).0, Verdict::Consume);
    assert_eq!(state_of(&g), [Reachability::Stale]);
    // RFC 9131 4: the first packet to it needs no resolution.
    assert_eq!(mac_of(&mut g, VM1), Some(mac(9)));
    // A second one without the override flag does not move it (RFC 4861 7.2.5).
    let na = ip6(VM1, "ff02::2").na(VM1, false, false, false, Some(mac(8)));
    assert_eq!(g.local("tenant0", &na).0, Verdict::Consume);
    assert_eq!(mac_of(&mut g, VM1), Some(mac(9)));
    let na = ip6(VM1, "ff02::1").na(VM1, false, false, true, Some(mac(8)));
    assert_eq!(g.local("tenant0", &na).0, Verdict::Consume);
    assert_eq!(mac_of(&mut g, VM1), Some(mac(8)));
}

#[test]
fn those_who_only_make_themselves_known_have_room_of_their_own_on_each_link() {
    let config = Config { learned: 40, learned_per_interface: 32, ..Config::default() };
    let mut g = Gate::new(config);
    // A confirmed neighbour, and one on another link that made itself known.
    assert_eq!(g.send("tenant0", VM1, b"x"), Resolution::Hold);
    let answer = ip6(VM1, GW).na(VM1, false, true, true, Some(mac(9)));
    assert_eq!(g.local("tenant0", &answer).0, Verdict::Consume);
    let other = "2001:db8:65::7";
    let _ = g.local("tenant1", &ip6(other, "fe80::1").ns("fe80::1", Some(mac(7))));
    for n in 0..10_000u32 {
        let from = format!("2001:db8:64::f:{n:x}");
        let _ = g.local("tenant0", &ip6(from.as_str(), GW).ns(GW, Some(mac(6))));
    }
    assert_eq!(g.n.shared.len(), 32 + 2);
    assert_eq!(mac_of(&mut g, VM1), Some(mac(9)));
    assert_eq!(g.resolve("tenant1", other), Resolution::Ready(mac(7)));
    // The newest of them are there.
    assert_eq!(mac_of(&mut g, "2001:db8:64::f:270f"), Some(mac(6)));
    assert_eq!(mac_of(&mut g, "2001:db8:64::f:0"), None);
    g.n.table.check();
}

#[test]
fn nothing_is_answered_into_a_frame_without_room() {
    // A frame of ours always has it; this one stands for a device with tight frames.
    let mut g = Gate::new(Config::default());
    g.rig.source = HeapSource::new(0);
    let ns = ip6(VM1, GW).ns(GW, None);
    let mut packet = g.rig.packet("tenant0", &ns);
    while packet.frame.push_back(1).is_ok() {}
    let spare = packet.frame.octets() - ns.len();
    packet.frame.pull_front(spare).unwrap();
    packet.frame.bytes_mut().copy_from_slice(&ns);
    let verdict = g.n.local(&mut g.rig.ctx(), &mut g.errors, &mut packet);
    assert_eq!(verdict, Verdict::Drop(DropReason::NoHeadroom));
}

fn good() -> Vec<Vec<u8>> {
    vec![
        ip6(VM1, "ff02::1:ff00:1").ns(GW, Some(mac(9))),
        ip6("::", "ff02::1:ff00:1").ns(GW, None),
        ip6(VM1, GW).na(VM1, false, true, true, Some(mac(9))),
        ip6("fe80::9", "ff02::2").rs(None),
        ip6(VM1, GW).echo_request(1, 2, b"abcdefg"),
        ip6(VM1, GW).hop_by_hop(&[]).dest_options(&[]).echo_request(1, 2, b"abcdefg"),
        ip6(VM1, GW).fragment(0, false, 1).ns(GW, None),
        ip6(VM1, GW).udp(1, 2, b"x"),
        ip4("198.51.100.10", "192.0.2.2").echo_request(1, 2, b"abcdefg"),
        ip4("198.51.100.10", "192.0.2.2").options(&[1; 8]).echo_request(1, 2, b"abcdefg"),
        arp_request(mac(1), "192.0.2.1", "192.0.2.2"),
        arp_reply(mac(1), "192.0.2.1", UPLINK_MAC, "192.0.2.2"),
    ]
}

fn one_fate(g: &mut Gate, packet: &mut Packet<causeway_core::HeapFrame>) -> Result<(), TestCaseError> {
    let _ = g.n.owner_of(&g.rig.interfaces, packet);
    let verdict = g.n.local(&mut g.rig.ctx(), &mut g.errors, packet);
    match verdict {
        Verdict::Forward { .. } => {
            let b = packet.bytes();
            if packet.meta.ethertype == ethernet::ETHERTYPE_ARP {
                prop_assert!(Arp::parse(b).is_ok_and(|a| a.reply));
            } else if let Err(e) = check_packet(b) {
                prop_assert!(false, "{e}: {b:02x?}");
            }
            let counted: u64 = [Counter::ArpAnswered, Counter::NsAnswered, Counter::EchoAnswered]
                .iter()
                .map(|c| g.rig.counters.get(*c))
                .sum();
            prop_assert_eq!(counted, 1);
        }
        Verdict::Consume | Verdict::Drop(_) => {}
        other => prop_assert!(false, "{other:?}"),
    }
    g.rig.sent();
    Ok(())
}

proptest! {
    #[test]
    fn random_octets_have_one_fate(
        octets in proptest::collection::vec(any::<u8>(), 0..120),
        ethertype in prop_oneof![Just(0x86ddu16), Just(0x0800), Just(0x0806), any::<u16>()],
        protocol in prop_oneof![Just(58u8), Just(1), Just(17), any::<u8>()],
        l4 in prop_oneof![Just(40u16), Just(48), 0u16..200, any::<u16>()],
        fragment: bool, l2_group: bool, ingress in 0u16..4,
    ) {
        let mut g = Gate::new(Config { capacity: 16, learned: 16, incomplete: 16, ..Config::default() });
        let mut packet = g.rig.packet("tenant0", &octets);
        packet.meta = Meta { ethertype, protocol, l4, fragment, l2_group, ingress: IfId(ingress), ..packet.meta };
        one_fate(&mut g, &mut packet)?;
    }

    #[test]
    fn damaged_packets_have_one_fate(
        octets in causeway_testkit::mutate::hostile(good(), 0),
        tenant: bool,
        known: bool,
        repair: bool,
    ) {
        let mut g = Gate::new(Config { capacity: 16, learned: 16, incomplete: 16, ..Config::default() });
        if known {
            let _ = g.send("tenant0", VM1, b"x");
            let _ = g.send("uplink0", "192.0.2.1", b"x");
            g.rig.sent();
        }
        // Repaired checksums let damage through to what is behind them.
        let octets = if repair && octets.len() >= 48 && Ipv6Repr::parse(&octets).is_ok_and(|ip| ip.payload_octets + 40 == octets.len()) {
            fixed(octets)
        } else {
            octets
        };
        let mut packet = g.rig.packet(if tenant { "tenant0" } else { "uplink0" }, &octets);
        one_fate(&mut g, &mut packet)?;
    }
}
