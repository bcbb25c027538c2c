//! ICMP and ICMPv6 errors: which are sent, from where to where, and what they hold. Every error that
//! leaves the rig has its lengths and checksums judged by the test kit.

use causeway_core::icmp_error::{Error4, Error6, IcmpErrors, Unreachable4, Unreachable6};
use causeway_core::{Duration, Egress, HeapFrame, HeapSource, Packet, Via};
use causeway_testkit::{Leaving, Rig, fragments4, fragments6, ip4, ip6, lab_interfaces, mac, poke, tcp};

const VM1: &str = "2001:db8:64::101";
const FAR: &str = "2001:db8:6::10";
const HOST4: &str = "198.51.100.10";
const POOL: &str = "203.0.113.1";

const NO_ROUTE: Error6 = Error6::Unreachable(Unreachable6::NoRoute);

fn errors() -> IcmpErrors {
    IcmpErrors::new(10, 1000)
}

/// What is sent about this packet.
fn about6(rig: &mut Rig, packet: &Packet<HeapFrame>, error: Error6) -> Vec<Leaving> {
    errors().send6(&mut rig.ctx(), packet, error);
    rig.sent()
}

fn about4(rig: &mut Rig, packet: &Packet<HeapFrame>, error: Error4) -> Vec<Leaving> {
    errors().send4(&mut rig.ctx(), packet, error);
    rig.sent()
}

#[test]
fn rfc4443_3_each_error_has_its_type_code_and_field() {
    let about = ip6(VM1, FAR).udp(4000, 53, b"question");
    for (error, kind, code, word) in [
        (NO_ROUTE, 1, 0, 0),
        (Error6::Unreachable(Unreachable6::AdminProhibited), 1, 1, 0),
        (Error6::Unreachable(Unreachable6::BeyondScope), 1, 2, 0),
        (Error6::Unreachable(Unreachable6::Address), 1, 3, 0),
        (Error6::Unreachable(Unreachable6::Port), 1, 4, 0),
        (Error6::Unreachable(Unreachable6::SourcePolicy), 1, 5, 0),
        (Error6::Unreachable(Unreachable6::RejectRoute), 1, 6, 0),
        (Error6::PacketTooBig { mtu: 1400 }, 2, 0, 1400),
        (Error6::HopLimitExceeded, 3, 0, 0),
        (Error6::ReassemblyTime, 3, 1, 0),
        (Error6::HeaderField { pointer: 42 }, 4, 0, 42),
        (Error6::NextHeader { pointer: 40 }, 4, 1, 40),
        (Error6::Option { pointer: 48 }, 4, 2, 48),
    ] {
        let mut rig = Rig::lab();
        let p = rig.packet("tenant0", &about);
        let octets = ip6("2001:db8:64::1", VM1).icmp_error(kind, code, word, &about);
        let egress = rig.egress("tenant0", VM1);
        assert_eq!(about6(&mut rig, &p, error), [Leaving { egress, octets }], "{error:?}");
        rig.assert_counted(&[("icmp-errors-sent", 1)]);
    }
}

#[test]
fn rfc792_each_error_has_its_type_code_and_field() {
    let about = ip4(HOST4, POOL).udp(4000, 53, b"question");
    for (error, kind, code, word) in [
        (Error4::Unreachable(Unreachable4::Net), 3, 0, 0),
        (Error4::Unreachable(Unreachable4::Host), 3, 1, 0),
        (Error4::Unreachable(Unreachable4::Protocol), 3, 2, 0),
        (Error4::Unreachable(Unreachable4::Port), 3, 3, 0),
        (Error4::Unreachable(Unreachable4::FragmentationNeeded { mtu: 1400 }), 3, 4, 1400),
        (Error4::Unreachable(Unreachable4::SourceRoute), 3, 5, 0),
        (Error4::Unreachable(Unreachable4::HostProhibited), 3, 10, 0),
        (Error4::Unreachable(Unreachable4::AdminProhibited), 3, 13, 0),
        (Error4::TtlExceeded, 11, 0, 0),
        (Error4::ReassemblyTime, 11, 1, 0),
        (Error4::HeaderField { pointer: 20 }, 12, 0, 20 << 24),
    ] {
        let mut rig = Rig::lab();
        let p = rig.packet("uplink0", &about);
        // RFC 1812 4.3.2.5: precedence 6.
        let octets = ip4("192.0.2.2", HOST4).tos(0xc0).icmp_error(kind, code, word, &about);
        let egress = rig.egress("uplink0", "192.0.2.1");
        assert_eq!(about4(&mut rig, &p, error), [Leaving { egress, octets }], "{error:?}");
        rig.assert_counted(&[("icmp-errors-sent", 1)]);
    }
}

#[test]
fn rfc4443_2_4_c_as_much_as_fits_1280_octets() {
    for (payload, octets) in [(1184, 1280), (1183, 1279), (1185, 1280), (1452, 1280)] {
        let mut rig = Rig::lab();
        let about = ip6(VM1, FAR).udp(1, 2, &vec![7; payload]);
        let p = rig.packet("tenant0", &about);
        let sent = about6(&mut rig, &p, Error6::PacketTooBig { mtu: 1280 });
        assert_eq!(sent[0].octets.len(), octets);
        assert_eq!(sent[0].octets[48..], about[..octets - 48]);
    }
}

#[test]
fn rfc1812_4_3_2_3_as_much_as_fits_576_octets() {
    for (payload, octets) in [(520, 576), (519, 575), (521, 576), (1472, 576)] {
        let mut rig = Rig::lab();
        let about = ip4(HOST4, POOL).udp(1, 2, &vec![7; payload]);
        let p = rig.packet("uplink0", &about);
        let sent = about4(&mut rig, &p, Error4::TtlExceeded);
        assert_eq!(sent[0].octets.len(), octets);
        assert_eq!(sent[0].octets[28..], about[..octets - 28]);
    }
}

/// Asserts that nothing is sent and nothing counted, for each of these packets.
fn silent6(why: &str, packets: &[Vec<u8>], error: Error6) {
    for octets in packets {
        let mut rig = Rig::lab();
        let p = rig.packet("tenant0", octets);
        assert_eq!(about6(&mut rig, &p, error), [], "{why}: {}", causeway_testkit::describe(octets));
        rig.assert_counted(&[]);
    }
}

fn silent4(why: &str, packets: &[Vec<u8>]) {
    for octets in packets {
        let mut rig = Rig::lab();
        let p = rig.packet("uplink0", octets);
        let error = Error4::Unreachable(Unreachable4::Host);
        assert_eq!(about4(&mut rig, &p, error), [], "{why}: {}", causeway_testkit::describe(octets));
        rig.assert_counted(&[]);
    }
}

#[test]
fn rfc4443_2_4_e_1_no_error_about_an_error() {
    let inner = ip6(FAR, VM1).udp(1, 2, b"inner");
    let errors: Vec<Vec<u8>> = (0u8..128).map(|kind| ip6(VM1, FAR).icmp_error(kind, 0, 0, &inner)).collect();
    silent6("an error", &errors, NO_ROUTE);
    let hidden = [
        ip6(VM1, FAR).dest_options(&[]).icmp_error(3, 0, 0, &inner),
        ip6(VM1, FAR).fragment(0, false, 1).icmp_error(3, 0, 0, &inner),
        ip6(VM1, FAR).raw(58, b""),
    ];
    silent6("an error behind extension headers, or what may be one", &hidden, NO_ROUTE);
    let mut rig = Rig::lab();
    let p = rig.packet("tenant0", &ip6(VM1, FAR).echo_request(1, 1, b"ping"));
    assert_eq!(about6(&mut rig, &p, NO_ROUTE).len(), 1, "an informational message may be reported");
}

#[test]
fn rfc4443_2_4_e_2_no_error_about_a_redirect() {
    silent6("a redirect", &[ip6(VM1, FAR).icmp(137, 0, [0; 4], &[0; 32])], NO_ROUTE);
}

#[test]
fn rfc4443_2_4_e_3_nothing_about_groups_but_too_big_and_unknown_options() {
    let packet = ip6(VM1, "ff0e::1234").udp(1, 2, b"to all");
    for error in [
        NO_ROUTE,
        Error6::HopLimitExceeded,
        Error6::HeaderField { pointer: 1 },
        Error6::NextHeader { pointer: 6 },
    ] {
        silent6("to a group", std::slice::from_ref(&packet), error);
    }
    for error in [Error6::PacketTooBig { mtu: 1280 }, Error6::Option { pointer: 42 }] {
        let mut rig = Rig::lab();
        let p = rig.packet("tenant0", &packet);
        let sent = about6(&mut rig, &p, error);
        assert_eq!(sent[0].octets[8..24], "2001:db8:64::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    }
}

#[test]
fn rfc4443_2_4_e_4_and_5_nothing_about_link_layer_groups_but_too_big() {
    let mut rig = Rig::lab();
    let mut p = rig.packet("tenant0", &ip6(VM1, FAR).udp(1, 2, b"x"));
    p.meta.l2_group = true;
    assert_eq!(about6(&mut rig, &p, NO_ROUTE), []);
    assert_eq!(about6(&mut rig, &p, Error6::PacketTooBig { mtu: 1280 }).len(), 1);
}

#[test]
fn rfc4443_2_4_e_6_nothing_to_sources_that_are_no_single_node() {
    let from = |src: &str| ip6(src, FAR).udp(1, 2, b"x");
    let none = [from("::"), from("ff02::1"), from("::1"), from("2001:db8:64::1"), from("2001:db8:ffff::2")];
    silent6("no single other node", &none, Error6::PacketTooBig { mtu: 1280 });
}

#[test]
fn later_fragments_are_not_reported_first_ones_are() {
    let pieces = fragments6(&ip6(VM1, FAR).udp(1, 2, &[0; 3000]), 1280, 7);
    silent6("a later fragment", &pieces[1..], Error6::HopLimitExceeded);
    let mut rig = Rig::lab();
    let p = rig.packet("tenant0", &pieces[0]);
    assert_eq!(about6(&mut rig, &p, Error6::HopLimitExceeded).len(), 1);
}

#[test]
fn rfc8883_a_chain_that_cannot_be_walked_is_reported_only_as_a_parameter_problem() {
    let long = (0..12).fold(ip6(VM1, FAR), |p, _| p.dest_options(&[])).udp(1, 2, b"");
    let cut = poke(ip6(VM1, FAR).dest_options(&[]).udp(1, 2, b""), 41, &[200]);
    silent6("unwalkable", &[long.clone(), cut], Error6::HopLimitExceeded);
    let mut rig = Rig::lab();
    let p = rig.packet("tenant0", &long);
    assert_eq!(about6(&mut rig, &p, Error6::HeaderField { pointer: 40 }).len(), 1);
}

#[test]
fn rfc1122_3_2_2_no_error_about_an_error() {
    let inner = ip4(POOL, HOST4).udp(1, 2, b"inner");
    let kinds = (0u8..=255).filter(|kind| !matches!(kind, 0 | 8 | 9 | 10 | 13..=18 | 42 | 43));
    let errors: Vec<Vec<u8>> = kinds.map(|kind| ip4(HOST4, POOL).icmp_error(kind, 0, 0, &inner)).collect();
    silent4("an error or unknown", &errors);
    silent4("may be an error", &[ip4(HOST4, POOL).raw(1, b"")]);
    let mut rig = Rig::lab();
    let p = rig.packet("uplink0", &ip4(HOST4, POOL).echo_request(1, 1, b"ping"));
    assert_eq!(about4(&mut rig, &p, Error4::TtlExceeded).len(), 1);
}

/// RFC 5508 7 (REQ-10e).
#[test]
fn rfc1812_4_3_2_7_nothing_about_groups_later_fragments_or_strange_sources() {
    let to = |dst: &str| ip4(HOST4, dst).udp(1, 2, b"x");
    let groups = ["224.0.0.1", "255.255.255.255", "192.0.2.255", "192.0.2.0", "0.0.0.0"];
    silent4("to a group", &groups.map(to));
    let from = |src: &str| ip4(src, POOL).udp(1, 2, b"x");
    let sources = [
        "0.0.0.0",
        "0.0.0.1",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.255",
        "192.0.2.2",
    ];
    silent4("from no single host", &sources.map(from));
    let pieces = fragments4(&ip4(HOST4, POOL).df(false).udp(1, 2, &[0; 2000]), 1000, 7);
    silent4("a later fragment", &pieces[1..]);
    let mut rig = Rig::lab();
    let p = rig.packet("uplink0", &pieces[0]);
    assert_eq!(about4(&mut rig, &p, Error4::ReassemblyTime).len(), 1);
    let mut p = rig.packet("uplink0", &to(POOL));
    p.meta.l2_group = true;
    assert_eq!(about4(&mut rig, &p, Error4::TtlExceeded), []);
}

#[test]
fn rfc4443_2_4_f_errors_are_rate_limited() {
    let mut rig = Rig::lab();
    let p = rig.packet("tenant0", &ip6(VM1, FAR).tcp(&tcp(1, 2).syn()));
    let mut errors = IcmpErrors::new(10, 3);
    for _ in 0..50 {
        errors.send6(&mut rig.ctx(), &p, NO_ROUTE);
    }
    assert_eq!(rig.sent().len(), 3);
    rig.assert_counted(&[("icmp-errors-sent", 3), ("icmp-errors-limited", 47)]);
    rig.advance(Duration::from_millis(250));
    for _ in 0..50 {
        errors.send6(&mut rig.ctx(), &p, NO_ROUTE);
    }
    assert_eq!(rig.sent().len(), 2);
    rig.assert_counted(&[("icmp-errors-sent", 2), ("icmp-errors-limited", 48)]);
}

#[test]
fn what_may_not_be_reported_costs_no_token() {
    let mut rig = Rig::lab();
    let mut errors = IcmpErrors::new(0, 1);
    let error = rig.packet("tenant0", &ip6(VM1, FAR).icmp_error(1, 0, 0, &ip6(FAR, VM1).udp(1, 2, b"")));
    errors.send6(&mut rig.ctx(), &error, NO_ROUTE);
    let good = rig.packet("tenant0", &ip6(VM1, FAR).udp(1, 2, b""));
    errors.send6(&mut rig.ctx(), &good, NO_ROUTE);
    assert_eq!(rig.sent().len(), 1);
    rig.assert_counted(&[("icmp-errors-sent", 1)]);
}

#[test]
fn rfc4443_2_2_the_source_is_the_address_that_the_packet_was_for_if_it_is_ours() {
    let mut rig = Rig::lab();
    // To the uplink address, from a tenant.
    let p = rig.packet("tenant0", &ip6(VM1, "2001:db8:ffff::2").udp(1, 9, b""));
    let sent = about6(&mut rig, &p, Error6::Unreachable(Unreachable6::Port));
    assert_eq!(sent[0].octets[8..24], "2001:db8:ffff::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    let p = rig.packet("uplink0", &ip4(HOST4, "192.0.2.2").udp(1, 9, b""));
    let sent = about4(&mut rig, &p, Error4::Unreachable(Unreachable4::Port));
    assert_eq!(sent[0].octets[12..16], [192, 0, 2, 2]);
}

#[test]
fn rfc4291_2_5_6_a_link_local_sender_is_answered_from_link_local_on_its_link() {
    let mut rig = Rig::lab();
    let about = ip6("fe80::77", FAR).udp(1, 2, b"");
    let p = rig.packet("tenant0", &about);
    let egress = Egress::new(rig.interface("tenant0"), Via::Mac(mac(0x77)));
    let octets = ip6("fe80::1", "fe80::77").icmp_error(1, 2, 0, &about);
    assert_eq!(
        about6(&mut rig, &p, Error6::Unreachable(Unreachable6::BeyondScope)),
        [Leaving { egress, octets }]
    );
}

#[test]
fn without_a_route_back_the_neighbor_that_handed_it_over_gets_it() {
    let mut rig = Rig::new(lab_interfaces(), &[], &[]).unwrap();
    let egress = Egress::new(rig.interface("uplink0"), Via::Mac(mac(0x77)));
    let p = rig.packet("uplink0", &ip6(FAR, VM1).udp(1, 2, b""));
    assert_eq!(about6(&mut rig, &p, NO_ROUTE)[0].egress, egress);
    let p = rig.packet("uplink0", &ip4(HOST4, POOL).udp(1, 2, b""));
    assert_eq!(about4(&mut rig, &p, Error4::TtlExceeded)[0].egress, egress);
    let mut p = rig.packet("uplink0", &ip6(FAR, VM1).udp(1, 2, b""));
    p.meta = causeway_core::Meta::originated();
    assert_eq!(about6(&mut rig, &p, NO_ROUTE), [], "nobody handed over what is our own");
}

#[test]
fn an_interface_without_a_global_address_borrows_one() {
    let mut interfaces = lab_interfaces();
    interfaces[0].addrs6.clear();
    let mut rig = Rig::new(interfaces, &[], &[]).unwrap();
    let p = rig.packet("tenant0", &ip6(VM1, FAR).udp(1, 2, b""));
    let sent = about6(&mut rig, &p, NO_ROUTE);
    assert_eq!(sent[0].octets[8..24], "2001:db8:ffff::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
}

#[test]
fn an_empty_pool_is_a_counted_drop_and_no_error() {
    let mut rig = Rig::lab();
    rig.source = HeapSource::new(0);
    let p = rig.packet("tenant0", &ip6(VM1, FAR).udp(1, 2, b""));
    assert_eq!(about6(&mut rig, &p, NO_ROUTE), []);
    rig.assert_counted(&[("drop.no-frame", 1)]);
}

#[test]
fn a_full_outbox_is_a_counted_drop_and_no_error() {
    let mut rig = Rig::lab();
    let p = rig.packet("tenant0", &ip6(VM1, FAR).udp(1, 2, b""));
    let mut errors = errors();
    for _ in 0..70 {
        errors.send6(&mut rig.ctx(), &p, NO_ROUTE);
    }
    assert_eq!(rig.sent().len(), 64);
    rig.assert_counted(&[("icmp-errors-sent", 64), ("drop.outbox-full", 6)]);
}

proptest::proptest! {
    #[test]
    fn whatever_the_packet_the_error_is_well_formed_or_not_sent(
        octets in causeway_testkit::mutate::hostile(causeway_testkit::mutate::samples(VM1, FAR, HOST4, POOL), 0),
        l2_group: bool,
    ) {
        let mut rig = Rig::lab();
        let mut errors = errors();
        let mut p = rig.packet("tenant0", &octets);
        p.meta.l2_group = l2_group;
        errors.send6(&mut rig.ctx(), &p, Error6::PacketTooBig { mtu: 1280 });
        errors.send6(&mut rig.ctx(), &p, Error6::HeaderField { pointer: 6 });
        errors.send6(&mut rig.ctx(), &p, NO_ROUTE);
        errors.send4(&mut rig.ctx(), &p, Error4::TtlExceeded);
        // What is inside may be as wrong as the packet was: only the error itself is judged here.
        for p in rig.outbox.drain() {
            let b = p.frame.clone();
            let b = causeway_core::Frame::bytes(&b);
            let outer = causeway_testkit::check_packet_with(b, causeway_testkit::Inner::Header);
            proptest::prop_assert!(outer.is_ok() || outer.clone().is_err_and(|e| e.starts_with("inside")), "{:?}", outer);
        }
    }
}
