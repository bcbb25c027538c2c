use super::*;
use crate::frame::HeapFrame;
use crate::net::Interface;
use proptest::prelude::*;

const GW: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const VM: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
const TENANT: u16 = 0;
const UPLINK: u16 = 1;

fn interfaces() -> Interfaces {
    let tenant = Interface {
        name: "tenant0".into(),
        port: TENANT,
        vlan: None,
        role: Role::Tenant,
        mac: GW,
        mtu: 1500,
        link_local: "fe80::1".parse().unwrap(),
        addrs6: vec![("2001:db8:64::1".parse().unwrap(), "2001:db8:64::/64".parse().unwrap())],
        addrs4: vec![],
        service6: vec![],
        proxy4: vec![],
        sources6: vec!["2001:db8:64::/64".parse().unwrap()],
        ..Interface::default()
    };
    let tagged = Interface {
        name: "tenant7".into(),
        vlan: Some(7),
        link_local: "fe80::7".parse().unwrap(),
        addrs6: vec![("2001:db8:7::1".parse().unwrap(), "2001:db8:7::/64".parse().unwrap())],
        sources6: vec!["2001:db8:7::/64".parse().unwrap()],
        ..tenant.clone()
    };
    let uplink = Interface {
        name: "uplink0".into(),
        port: UPLINK,
        role: Role::Uplink,
        link_local: "fe80::2".parse().unwrap(),
        addrs6: vec![("2001:db8:ffff::2".parse().unwrap(), "2001:db8:ffff::/64".parse().unwrap())],
        addrs4: vec![("192.0.2.2".parse().unwrap(), "192.0.2.0/24".parse().unwrap())],
        sources6: vec![],
        ..tenant.clone()
    };
    Interfaces::new(vec![tenant, tagged, uplink])
}

fn classifier() -> Classifier {
    Classifier::new(
        &interfaces(),
        &[vec![], vec![]],
        vec!["2001:db8:64:ff9b::/96".parse().unwrap()],
        vec!["203.0.113.0/28".parse().unwrap()],
    )
}

fn eth(dst: MacAddr, vlan: Option<u16>, ethertype: u16, l3: &[u8]) -> Vec<u8> {
    let repr = EthernetRepr { dst, src: VM, vlan, ethertype };
    let mut b = vec![0; repr.header_octets()];
    repr.emit(&mut b).unwrap();
    b.extend_from_slice(l3);
    b
}

fn udp6(src: &str, dst: &str) -> Vec<u8> {
    let mut b = vec![0u8; 48];
    Ipv6Repr {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        next_header: 17,
        hop_limit: 64,
        traffic_class: 0,
        flow_label: 0,
        payload_octets: 8,
    }
    .emit(&mut b)
    .unwrap();
    b
}

fn udp4(src: &str, dst: &str) -> Vec<u8> {
    let mut b = vec![0u8; 28];
    Ipv4Repr {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        protocol: 17,
        ttl: 64,
        tos: 0,
        id: 0,
        frag: 0,
        header_octets: 20,
        total_octets: 28,
    }
    .emit(&mut b)
    .unwrap();
    b
}

fn class_of(port: u16, frame: &[u8]) -> Result<Class, DropReason> {
    classifier().classify(port, HeapFrame::new(frame)).map(|(class, _)| class)
}

fn from_tenant(src: &str, dst: &str) -> Result<Class, DropReason> {
    class_of(TENANT, &eth(GW, None, 0x86dd, &udp6(src, dst)))
}

fn from_uplink4(src: &str, dst: &str) -> Result<Class, DropReason> {
    class_of(UPLINK, &eth(GW, None, 0x0800, &udp4(src, dst)))
}

#[test]
fn each_destination_has_its_class() {
    assert_eq!(from_tenant("2001:db8:64::101", "2001:db8:64:ff9b::c633:640a"), Ok(Class::Nat64In));
    assert_eq!(from_tenant("2001:db8:64::101", "2001:db8:6::10"), Ok(Class::Forward6));
    assert_eq!(from_tenant("2001:db8:64::101", "2001:db8:64::1"), Ok(Class::Local));
    assert_eq!(from_tenant("2001:db8:64::101", "2001:db8:ffff::2"), Ok(Class::Local));
    assert_eq!(from_tenant("fe80::101", "fe80::1"), Ok(Class::Local));
    assert_eq!(from_uplink4("198.51.100.10", "203.0.113.15"), Ok(Class::Nat64Out));
    assert_eq!(from_uplink4("198.51.100.10", "192.0.2.2"), Ok(Class::Local));
    assert_eq!(from_uplink4("198.51.100.10", "203.0.113.16"), Err(DropReason::Ip4NotOurs));
}

/// RFC 6888 3 (REQ-6).
#[test]
fn rfc7915_5_6_a_more_specific_route_turns_translation_off() {
    let native = classifier().with_native(vec!["2001:db8:64:ff9b::c633:6400/120".parse().unwrap()]);
    let class = |src, dst| {
        let port = if src == "2001:db8:64::101" { TENANT } else { UPLINK };
        let frame = eth(GW, None, 0x86dd, &udp6(src, dst));
        native.classify(port, HeapFrame::new(&frame)).map(|(class, _)| class)
    };
    assert_eq!(class("2001:db8:64::101", "2001:db8:64:ff9b::c633:640a"), Ok(Class::Forward6));
    assert_eq!(class("2001:db8:64::101", "2001:db8:64:ff9b::c633:650a"), Ok(Class::Nat64In));
    // And back. Nobody else sends from under the prefix.
    assert_eq!(class("2001:db8:64:ff9b::c633:640a", "2001:db8:64::101"), Ok(Class::Forward6));
    let spoofed = Err(DropReason::SpoofedSource);
    assert_eq!(class("2001:db8:64:ff9b::c633:650a", "2001:db8:64::101"), spoofed);
    assert!(!native.translates("2001:db8:64:ff9b::c633:640a".parse().unwrap()));
    assert!(native.translates("2001:db8:64:ff9b::c633:650a".parse().unwrap()));
    assert!(!native.translates("2001:db8:6::10".parse().unwrap()));
}

#[test]
fn bcp38_an_untranslated_prefix_of_a_tenant_is_not_the_uplinks() {
    let mut list: Vec<Interface> = interfaces().iter().map(|(_, i)| i.clone()).collect();
    list[0].sources6.push("2001:db8:64:ff9b::c633:6400/120".parse().unwrap());
    let native = Classifier::new(
        &Interfaces::new(list),
        &[vec![], vec![]],
        vec!["2001:db8:64:ff9b::/96".parse().unwrap()],
        vec![],
    )
    .with_native(vec!["2001:db8:64:ff9b::c633:6400/120".parse().unwrap()]);
    let class = |port, src, dst| {
        let frame = eth(GW, None, 0x86dd, &udp6(src, dst));
        native.classify(port, HeapFrame::new(&frame)).map(|(class, _)| class)
    };
    assert_eq!(class(TENANT, "2001:db8:64:ff9b::c633:640a", "2001:db8:6::10"), Ok(Class::Forward6));
    let spoofed = class(UPLINK, "2001:db8:64:ff9b::c633:640a", "2001:db8:64::101");
    assert_eq!(spoofed, Err(DropReason::SpoofedSource));
}

#[test]
fn bcp38_a_tenant_sends_only_from_its_own_prefixes() {
    let spoofed = Err(DropReason::SpoofedSource);
    assert_eq!(from_tenant("2001:db8:65::101", "2001:db8:6::10"), spoofed);
    assert_eq!(from_tenant("2001:db8:65::101", "2001:db8:64:ff9b::c633:640a"), spoofed);
    assert_eq!(from_tenant("2001:db8:65::101", "2001:db8:64::1"), spoofed);
    assert_eq!(from_tenant("2001:db8:7::101", "2001:db8:6::10"), spoofed, "another network's prefix");
    assert_eq!(class_of(TENANT, &eth(GW, None, 0x0800, &udp4("198.51.100.1", "203.0.113.1"))), spoofed);
}

#[test]
fn bcp38_a_network_without_validation_sends_from_anywhere_but_from_us_and_the_nat64_prefix() {
    let mut list: Vec<Interface> = interfaces().iter().map(|(_, i)| i.clone()).collect();
    list[0].validation = Validation::Off;
    // Off is for tenant networks alone.
    list[2].validation = Validation::Off;
    let c = Classifier::new(
        &Interfaces::new(list),
        &[vec![], vec![]],
        vec!["2001:db8:64:ff9b::/96".parse().unwrap()],
        vec!["203.0.113.0/28".parse().unwrap()],
    )
    .with_native(vec!["2001:db8:64:ff9b::c633:6400/120".parse().unwrap()]);
    let class = |port, src, dst| {
        let frame = eth(GW, None, 0x86dd, &udp6(src, dst));
        c.classify(port, HeapFrame::new(&frame)).map(|(class, _)| class)
    };
    for src in ["2001:db8:64::101", "2001:db8:65::101", "2001:db8:7::101", "2001:db8:64:ff9b::c633:640a"] {
        assert_eq!(class(TENANT, src, "2001:db8:6::10"), Ok(Class::Forward6), "{src}");
    }
    assert_eq!(class(TENANT, "2001:db8:65::101", "2001:db8:64:ff9b::c633:650a"), Ok(Class::Nat64In));
    let (spoofed, own) = (Err(DropReason::SpoofedSource), Err(DropReason::OwnSource));
    assert_eq!(class(TENANT, "2001:db8:64:ff9b::c633:650a", "2001:db8:6::10"), spoofed);
    assert_eq!(class(TENANT, "2001:db8:64::1", "2001:db8:6::10"), own);
    assert_eq!(class(TENANT, "fe80::101", "2001:db8:6::10"), Err(DropReason::LinkLocalScope));
    assert_eq!(class(UPLINK, "2001:db8:64::102", "2001:db8:64::101"), spoofed);
    let four = eth(GW, None, 0x0800, &udp4("198.51.100.1", "203.0.113.1"));
    assert_eq!(c.classify(TENANT, HeapFrame::new(&four)).map(|(class, _)| class), spoofed);
}

#[test]
fn rfc9568_5_1_1_2_and_5_1_2_2_what_goes_to_the_groups_is_heard_or_dropped_and_never_forwarded() {
    let six = MacAddr([0x33, 0x33, 0, 0, 0, 0x12]);
    let four = MacAddr([1, 0, 0x5e, 0, 0, 0x12]);
    let mut list: Vec<Interface> = interfaces().iter().map(|(_, i)| i.clone()).collect();
    for member in [false, true] {
        let want = if member { Ok(Class::Local) } else { Err(DropReason::MulticastNotOurs) };
        for i in &mut list {
            i.groups6 = if member { vec!["ff02::12".parse().unwrap()] } else { vec![] };
            i.groups4 = if member { vec!["224.0.0.18".parse().unwrap()] } else { vec![] };
        }
        let new = |list: &Vec<Interface>| {
            Classifier::new(&Interfaces::new(list.clone()), &[vec![], vec![]], vec![], vec![])
        };
        for c in [new(&list), new(&list).standing_by()] {
            let class = |dst, ethertype, l3: &[u8]| {
                c.classify(UPLINK, HeapFrame::new(&eth(dst, None, ethertype, l3))).map(|(class, _)| class)
            };
            for hops in [1, 64, 255] {
                let mut p = udp6("fe80::9", "ff02::12");
                (p[6], p[7]) = (112, hops);
                assert_eq!(class(six, 0x86dd, &p), want, "hop limit {hops}");
                assert_eq!(class(GW, 0x86dd, &p), want, "to our own MAC address");
            }
            assert_eq!(class(four, 0x0800, &udp4("192.0.2.4", "224.0.0.18")), want);
            assert_eq!(class(GW, 0x0800, &udp4("192.0.2.4", "224.0.0.18")), want);
        }
    }
}

// RFC 9568 6.1, and 8.3.1: what is for such an address goes nowhere.
#[test]
fn rfc9568_6_1_without_accept_mode_a_virtual_address_takes_neighbour_discovery_alone() {
    let mut list: Vec<Interface> = interfaces().iter().map(|(_, i)| i.clone()).collect();
    list[0].no_accept = vec!["fe80::1".parse().unwrap(), "2001:db8:64::1".parse().unwrap()];
    list[2].no_accept = vec!["192.0.2.2".parse().unwrap()];
    let c = Classifier::new(&Interfaces::new(list), &[vec![], vec![]], vec![], vec![]);
    let class = |port, ethertype, l3: &[u8]| {
        c.classify(port, HeapFrame::new(&eth(GW, None, ethertype, l3))).map(|(class, _)| class)
    };
    let refused = Err(DropReason::VrrpNoAccept);
    for dst in ["fe80::1", "2001:db8:64::1"] {
        assert_eq!(class(TENANT, 0x86dd, &udp6("fe80::101", dst)), refused, "{dst}");
        assert_eq!(class(TENANT, 0x86dd, &udp6("2001:db8:64::101", dst)), refused, "{dst}");
        let mut icmp = udp6("fe80::101", dst);
        icmp[6] = 58;
        for (kind, want) in [(128, refused), (129, refused), (135, Ok(Class::Local)), (136, Ok(Class::Local))]
        {
            icmp[40] = kind;
            assert_eq!(class(TENANT, 0x86dd, &icmp), want, "type {kind} to {dst}");
        }
        // A later fragment begins with whatever it likes.
        let mut fragment = icmp.clone();
        fragment[4..6].copy_from_slice(&16u16.to_be_bytes());
        fragment[6] = 44;
        fragment.splice(40..40, [58, 0, 0, 8, 0, 0, 0, 1]);
        assert_eq!(class(TENANT, 0x86dd, &fragment), refused);
    }
    // The uplink's own IPv6 address is no virtual one.
    assert_eq!(class(UPLINK, 0x86dd, &udp6("2001:db8:6::10", "2001:db8:ffff::2")), Ok(Class::Local));
    assert_eq!(class(UPLINK, 0x0800, &udp4("198.51.100.10", "192.0.2.2")), refused);
    assert_eq!(class(UPLINK, 0x0806, &[0; 28]), Ok(Class::Local));
}

#[test]
fn rfc3704_2_2_the_internet_does_not_send_from_inside_prefixes() {
    let from = |src| class_of(UPLINK, &eth(GW, None, 0x86dd, &udp6(src, "2001:db8:64::101")));
    assert_eq!(from("2001:db8:65::101"), Ok(Class::Forward6));
    assert_eq!(from("2001:db8:64::102"), Err(DropReason::SpoofedSource));
    assert_eq!(from("2001:db8:64:ff9b::1"), Err(DropReason::SpoofedSource));
}

#[test]
fn nobody_else_sends_from_an_address_of_ours() {
    let own = Err(DropReason::OwnSource);
    assert_eq!(from_tenant("2001:db8:64::1", "2001:db8:6::10"), own);
    assert_eq!(from_tenant("fe80::1", "fe80::1"), own);
    assert_eq!(from_uplink4("192.0.2.2", "203.0.113.1"), own);
    assert_eq!(from_uplink4("203.0.113.3", "203.0.113.1"), own);
}

#[test]
fn rfc4862_5_4_who_claims_an_address_of_ours_is_heard_and_our_own_echo_is_not() {
    let mut na = udp6("fe80::1", "ff02::1");
    na[6] = 58;
    let group = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    let mut frame = eth(group, None, 0x86dd, &na);
    assert_eq!(class_of(TENANT, &frame), Ok(Class::Local));
    frame[6..12].copy_from_slice(&GW.0);
    assert_eq!(class_of(TENANT, &frame), Err(DropReason::OwnSource));
}

#[test]
fn rfc4291_2_5_6_link_local_stays_on_its_link() {
    assert_eq!(from_tenant("fe80::101", "2001:db8:6::10"), Err(DropReason::LinkLocalScope));
    assert_eq!(from_tenant("fe80::101", "2001:db8:64:ff9b::c633:640a"), Err(DropReason::LinkLocalScope));
    assert_eq!(from_tenant("::", "2001:db8:6::10"), Err(DropReason::LinkLocalScope));
    assert_eq!(from_tenant("::", "ff02::1"), Err(DropReason::Ip6BadAddress), "UDP from nowhere");
}

#[test]
fn rfc4291_addresses_that_are_never_on_the_wire_are_refused() {
    let bad = Err(DropReason::Ip6BadAddress);
    assert_eq!(from_tenant("::1", "2001:db8:6::10"), bad);
    assert_eq!(from_tenant("ff02::1", "2001:db8:6::10"), bad);
    assert_eq!(from_tenant("::ffff:192.0.2.1", "2001:db8:6::10"), bad);
    assert_eq!(from_tenant("2001:db8:64::101", "::"), bad);
    assert_eq!(from_tenant("2001:db8:64::101", "::1"), bad);
}

#[test]
fn rfc1812_5_3_7_martian_sources_are_refused() {
    for src in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        assert_eq!(from_uplink4(src, "203.0.113.1"), Err(DropReason::Ip4BadAddress), "{src}");
    }
    assert_eq!(from_uplink4("198.51.100.1", "255.255.255.255"), Err(DropReason::MulticastNotOurs));
}

#[test]
fn groups_that_a_router_listens_to_are_local_and_others_are_not_ours() {
    let to = |dst: &str| {
        let group = MacAddr::from_ipv6_multicast(dst.parse().unwrap());
        class_of(TENANT, &eth(group, None, 0x86dd, &udp6("fe80::101", dst)))
    };
    for dst in ["ff02::1", "ff02::2", "ff02::1:ff00:1"] {
        assert_eq!(to(dst), Ok(Class::Local), "{dst}");
    }
    for dst in ["ff02::16", "ff02::1:ff00:101", "ff05::2"] {
        assert_eq!(to(dst), Err(DropReason::MulticastNotOurs), "{dst}");
    }
}

#[test]
fn rfc1122_3_3_6_unicast_in_a_link_layer_group_goes_no_further() {
    let l3 = udp6("2001:db8:64::101", "2001:db8:6::10");
    assert_eq!(
        class_of(TENANT, &eth(MacAddr::BROADCAST, None, 0x86dd, &l3)),
        Err(DropReason::EthGroupUnicast)
    );
}

#[test]
fn vlans_lead_to_their_interface_and_unknown_ones_nowhere() {
    let l3 = udp6("2001:db8:7::101", "2001:db8:6::10");
    let c = classifier();
    let (class, p) = c.classify(TENANT, HeapFrame::new(&eth(GW, Some(7), 0x86dd, &l3))).unwrap();
    assert_eq!((class, p.meta.ingress), (Class::Forward6, IfId(1)));
    assert_eq!(p.bytes(), &l3[..]);
    assert_eq!(class_of(TENANT, &eth(GW, Some(8), 0x86dd, &l3)), Err(DropReason::EthUnknownVlan));
    assert_eq!(class_of(9, &eth(GW, None, 0x86dd, &l3)), Err(DropReason::EthUnknownVlan));
    let untagged = udp6("2001:db8:64::101", "2001:db8:6::10");
    assert_eq!(class_of(TENANT, &eth(GW, Some(0), 0x86dd, &untagged)), Ok(Class::Forward6), "a priority tag");
}

#[test]
fn frames_that_are_none_of_ours_have_a_reason_each() {
    let l3 = udp6("2001:db8:64::101", "2001:db8:6::10");
    assert_eq!(class_of(TENANT, &[0; 13]), Err(DropReason::EthTruncated));
    assert_eq!(class_of(TENANT, &eth(VM, None, 0x86dd, &l3)), Err(DropReason::NotOurMac));
    assert_eq!(class_of(TENANT, &eth(GW, None, 0x88cc, &l3)), Err(DropReason::EthUnknownType));
    let mut group_source = eth(GW, None, 0x86dd, &l3);
    group_source[6] |= 1;
    assert_eq!(class_of(TENANT, &group_source), Err(DropReason::EthBadSource));
    assert_eq!(class_of(TENANT, &eth(GW, None, 0x86dd, &l3[..47])), Err(DropReason::Ip6Truncated));
    assert_eq!(class_of(TENANT, &eth(GW, None, 0x86dd, &[0x45; 48])), Err(DropReason::Ip6BadVersion));
    let v4 = udp4("198.51.100.10", "203.0.113.1");
    assert_eq!(class_of(UPLINK, &eth(GW, None, 0x0800, &v4[..27])), Err(DropReason::Ip4Truncated));
    let mut bad_sum = v4;
    bad_sum[10] ^= 1;
    assert_eq!(class_of(UPLINK, &eth(GW, None, 0x0800, &bad_sum)), Err(DropReason::Ip4BadChecksum));
    let mut long = udp6("2001:db8:64::101", "2001:db8:6::10");
    long[4..6].copy_from_slice(&1461u16.to_be_bytes());
    long.resize(1501, 0);
    assert_eq!(class_of(TENANT, &eth(GW, None, 0x86dd, &long)), Err(DropReason::EthOversized));
}

#[test]
fn padding_behind_the_packet_is_cut() {
    let mut runt = udp4("198.51.100.10", "203.0.113.1");
    runt.resize(46, 0xee);
    let (_, p) = classifier().classify(UPLINK, HeapFrame::new(&eth(GW, None, 0x0800, &runt))).unwrap();
    assert_eq!(p.bytes().len(), 28);
    assert_eq!((p.meta.protocol, p.meta.l4, p.meta.fragment), (17, 20, false));
}

#[test]
fn extension_headers_are_walked_where_the_gateway_looks_behind_them() {
    let with_options = |dst: &str, octets: usize| {
        let mut b = udp6("2001:db8:64::101", dst);
        b[4..6].copy_from_slice(&16u16.to_be_bytes());
        b[6] = 60;
        b.splice(40..40, [17, octets as u8, 0, 0, 0, 0, 0, 0]);
        classifier()
            .classify(TENANT, HeapFrame::new(&eth(GW, None, 0x86dd, &b)))
            .map(|(_, p)| (p.meta.protocol, p.meta.l4))
    };
    assert_eq!(with_options("2001:db8:64:ff9b::c633:640a", 0), Ok((17, 48)));
    assert_eq!(with_options("2001:db8:64:ff9b::c633:640a", 9), Err(DropReason::Ip6BadExtension));
    assert_eq!(with_options("2001:db8:6::10", 9), Ok((60, 40)), "RFC 8200 4: forwarded all the same");
}

proptest! {
    #[test]
    fn random_octets_never_panic(port in 0u16..3, mut b in proptest::collection::vec(any::<u8>(), 0..200), kind in 0usize..4) {
        if b.len() >= 14 {
            b[..6].copy_from_slice(&GW.0);
            b[6] &= 0xfe;
            if kind < 3 {
                b[12..14].copy_from_slice(&[[0x86, 0xdd], [0x08, 0x00], [0x81, 0x00]][kind]);
            }
        }
        if let Ok((_, p)) = classifier().classify(port, HeapFrame::new(&b)) {
            prop_assert!(p.bytes().len() <= b.len());
            prop_assert!(p.meta.ethertype == 0x0806 || usize::from(p.meta.l4) <= p.bytes().len());
        }
    }
}

/// With the proxy address 203.0.113.80, connections to servers from our address on the tenant network, and clients
/// under a prefix.
fn splicing() -> Classifier {
    classifier().with_splicer(
        &["203.0.113.80".parse().unwrap()],
        &["2001:db8:64::1".parse().unwrap()],
        vec!["2001:db8:64:c1::/96".parse().unwrap()],
    )
}

/// A packet of another protocol, with this first octet of its payload.
fn of(mut packet: Vec<u8>, protocol: u8, first: u8) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        (packet[6], packet[40]) = (protocol, first);
    } else {
        (packet[9], packet[20]) = (protocol, first);
        checksum4(&mut packet);
    }
    packet
}

fn checksum4(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = !causeway_wire::checksum::fold(causeway_wire::checksum::sum(&packet[..20], 0));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn class_by(c: &Classifier, port: u16, packet: &[u8]) -> Result<Class, DropReason> {
    let ethertype = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
    c.classify(port, HeapFrame::new(&eth(GW, None, ethertype, packet))).map(|(class, _)| class)
}

#[test]
fn what_comes_to_a_proxy_address_is_the_splicers_but_for_echo_requests() {
    let c = splicing();
    let packet = |protocol, first| of(udp4("198.51.100.99", "203.0.113.80"), protocol, first);
    for (protocol, first, class) in [
        (6, 0, Class::SpliceOut),
        (17, 0, Class::SpliceOut),
        (1, 3, Class::SpliceOut),
        (1, 0, Class::SpliceOut),
        (1, 8, Class::Local),
        (47, 0, Class::Local),
    ] {
        assert_eq!(class_by(&c, UPLINK, &packet(protocol, first)), Ok(class), "protocol {protocol}, {first}");
    }
    // A fragment has no type; it goes where mappings are.
    for protocol in [6, 17, 1] {
        let mut fragment = packet(protocol, 8);
        fragment[6] = 0x20;
        checksum4(&mut fragment);
        assert_eq!(class_by(&c, UPLINK, &fragment), Ok(Class::SpliceOut), "protocol {protocol}");
    }
    // The neighbours of the address, and without the splicer.
    for (dst, class) in [("203.0.113.79", Err(DropReason::Ip4NotOurs)), ("203.0.113.1", Ok(Class::Nat64Out))]
    {
        assert_eq!(class_by(&c, UPLINK, &of(udp4("198.51.100.99", dst), 6, 0)), class, "{dst}");
    }
    assert_eq!(class_by(&classifier(), UPLINK, &packet(6, 0)), Err(DropReason::Ip4NotOurs));
    // Nobody else sends from it.
    let spoofed = of(udp4("203.0.113.80", "203.0.113.1"), 6, 0);
    assert_eq!(class_by(&c, UPLINK, &spoofed), Err(DropReason::OwnSource));
    let group = eth(MacAddr([0xff; 6]), None, 0x0800, &packet(6, 0));
    let class = c.classify(UPLINK, HeapFrame::new(&group)).map(|(class, _)| class);
    assert_eq!(class, Err(DropReason::EthGroupUnicast));
}

#[test]
fn a_proxy_address_that_has_static_mappings_is_the_splicers_first() {
    let c = Classifier::new(
        &interfaces(),
        &[vec![], vec![]],
        vec![],
        vec!["203.0.113.80/32".parse().unwrap(), "203.0.113.0/28".parse().unwrap()],
    )
    .with_splicer(&["203.0.113.80".parse().unwrap()], &[], vec![]);
    let to = |dst| class_by(&c, UPLINK, &of(udp4("198.51.100.99", dst), 6, 0));
    assert_eq!(to("203.0.113.80"), Ok(Class::SpliceOut));
    assert_eq!(to("203.0.113.5"), Ok(Class::Nat64Out));
}

#[test]
fn what_servers_send_to_our_sources_is_the_splicers_if_it_can_be_of_a_connection() {
    let c = splicing();
    for (dst, protocol, first, class) in [
        ("2001:db8:64::1", 6, 0, Class::SpliceIn),
        ("2001:db8:64::1", 58, 1, Class::SpliceIn),
        ("2001:db8:64::1", 58, 2, Class::SpliceIn),
        ("2001:db8:64::1", 58, 128, Class::Local),
        ("2001:db8:64::1", 58, 135, Class::Local),
        ("2001:db8:64::1", 17, 0, Class::Local),
        // No source: another address of ours, and the link-local one.
        ("2001:db8:ffff::2", 6, 0, Class::Local),
        ("fe80::1", 6, 0, Class::Local),
        ("2001:db8:6::10", 6, 0, Class::Forward6),
    ] {
        let packet = of(udp6("2001:db8:64::101", dst), protocol, first);
        assert_eq!(class_by(&c, TENANT, &packet), Ok(class), "{dst}, protocol {protocol}, {first}");
    }
    assert_eq!(class_by(&c, TENANT, &fragment6("2001:db8:64::1", 6)), Ok(Class::Local));
    // Servers may be elsewhere.
    assert_eq!(
        class_by(&c, UPLINK, &of(udp6("2001:db8:6::10", "2001:db8:64::1"), 6, 0)),
        Ok(Class::SpliceIn)
    );
}

/// The first fragment of a packet of vm1.
fn fragment6(dst: &str, protocol: u8) -> Vec<u8> {
    let mut fragment = udp6("2001:db8:64::101", dst);
    fragment[4..6].copy_from_slice(&16u16.to_be_bytes());
    fragment[6] = 44;
    fragment.splice(40..40, [protocol, 0, 0, 1, 0, 0, 0, 1]);
    fragment
}

#[test]
fn what_servers_send_to_embedded_clients_is_the_splicers_or_nobodys() {
    let c = splicing();
    let client = "2001:db8:64:c1::c633:6463";
    for (protocol, first, class) in [
        (6, 0, Ok(Class::SpliceIn)),
        (58, 1, Ok(Class::SpliceIn)),
        (58, 128, Err(DropReason::SpliceNotTcp)),
        (17, 0, Err(DropReason::SpliceNotTcp)),
        (59, 0, Err(DropReason::SpliceNotTcp)),
    ] {
        let packet = of(udp6("2001:db8:64::101", client), protocol, first);
        assert_eq!(class_by(&c, TENANT, &packet), class, "protocol {protocol}, {first}");
    }
    assert_eq!(class_by(&c, TENANT, &fragment6(client, 6)), Err(DropReason::SpliceNotTcp));
    let plain = of(udp6("2001:db8:64::101", client), 6, 0);
    assert_eq!(class_by(&classifier(), TENANT, &plain), Ok(Class::Forward6));
}

#[test]
fn bcp38_nobody_sends_from_under_a_client_prefix() {
    // A tenant whose sources hold it, one that is not checked, and the Internet.
    let mut list: Vec<Interface> = interfaces().iter().map(|(_, i)| i.clone()).collect();
    list[0].sources6.push("2001:db8:64::/48".parse().unwrap());
    list[1].validation = Validation::Off;
    let splicer = |list: &[Interface]| {
        Classifier::new(&Interfaces::new(list.to_vec()), &[vec![], vec![]], vec![], vec![]).with_splicer(
            &[],
            &[],
            vec!["2001:db8:64:c1::/96".parse().unwrap()],
        )
    };
    let c = splicer(&list);
    let packet = of(udp6("2001:db8:64:c1::c633:6463", "2001:db8:6::10"), 6, 0);
    let class = |vlan, port| {
        let frame = eth(GW, vlan, 0x86dd, &packet);
        c.classify(port, HeapFrame::new(&frame)).map(|(class, _)| class)
    };
    for (vlan, port) in [(None, TENANT), (Some(7), TENANT), (None, UPLINK)] {
        assert_eq!(class(vlan, port), Err(DropReason::SpoofedSource), "{vlan:?} {port}");
    }
}

#[test]
fn rfc9568_6_1_connections_from_a_virtual_address_pass_without_accept_mode() {
    let mut list: Vec<Interface> = interfaces().iter().map(|(_, i)| i.clone()).collect();
    list[0].no_accept = vec!["2001:db8:64::1".parse().unwrap()];
    let c = Classifier::new(&Interfaces::new(list), &[vec![], vec![]], vec![], vec![]).with_splicer(
        &[],
        &["2001:db8:64::1".parse().unwrap()],
        vec![],
    );
    let to = |protocol, first| {
        class_by(&c, TENANT, &of(udp6("2001:db8:64::101", "2001:db8:64::1"), protocol, first))
    };
    assert_eq!(to(6, 0), Ok(Class::SpliceIn));
    assert_eq!(to(17, 0), Err(DropReason::VrrpNoAccept));
    assert_eq!(to(58, 128), Err(DropReason::VrrpNoAccept));
}

#[test]
fn rfc9568_6_4_2_a_standby_gateway_splices_nothing() {
    let c = splicing().standing_by();
    let not_active = Err(DropReason::VrrpNotActive);
    let client = of(udp4("198.51.100.99", "203.0.113.80"), 6, 0);
    assert_eq!(class_by(&c, UPLINK, &client), not_active);
    for dst in ["2001:db8:64::1", "2001:db8:64:c1::c633:6463"] {
        let server = of(udp6("2001:db8:64::101", dst), 6, 0);
        assert_eq!(class_by(&c, TENANT, &server), not_active, "{dst}");
    }
    assert_eq!(class_by(&c, TENANT, &udp6("2001:db8:64::101", "2001:db8:64::1")), Ok(Class::Local));
}
