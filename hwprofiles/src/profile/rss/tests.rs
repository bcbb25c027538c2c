use super::*;
use crate::profile::{HwProfile, PciId};
use proptest::prelude::*;

/// The key of the Microsoft RSS specification, "Verifying the RSS Hash Calculation".
const MICROSOFT: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
    0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
    0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// The definition, bit by bit: what the table must agree with.
fn by_definition(key: &[u8], input: &[u8]) -> u32 {
    let key_bit = |n: usize| u32::from(key[n / 8] >> (7 - n % 8) & 1);
    (0..input.len() * 8)
        .filter(|n| input[n / 8] >> (7 - n % 8) & 1 != 0)
        .fold(0, |sum, n| sum ^ (0..32).fold(0, |window, b| window << 1 | key_bit(n + b)))
}

fn v4(src: [u8; 4], dst: [u8; 4]) -> Addresses {
    Addresses::V4 { src: src.into(), dst: dst.into() }
}

fn v6(src: &str, dst: &str) -> Addresses {
    Addresses::V6 { src: src.parse().unwrap(), dst: dst.parse().unwrap() }
}

#[test]
fn microsoft_rss_verification_suite_ipv4() {
    let t = Toeplitz::new(&MICROSOFT).unwrap();
    // Source, destination, hash of addresses, hash of addresses and ports.
    let rows = [
        (([66, 9, 149, 187], 2794), ([161, 142, 100, 80], 1766), 0x323e_8fc2, 0x51cc_c178),
        (([199, 92, 111, 2], 14230), ([65, 69, 140, 83], 4739), 0xd718_262a, 0xc626_b0ea),
        (([24, 19, 198, 95], 12898), ([12, 22, 207, 184], 38024), 0xd2d0_a5de, 0x5c2b_394a),
        (([38, 27, 205, 30], 48228), ([209, 142, 163, 6], 2217), 0x8298_9176, 0xafc7_327f),
        (([153, 39, 163, 191], 44251), ([202, 188, 127, 2], 1303), 0x5d18_09c5, 0x10e8_28a2),
    ];
    for ((src, sport), (dst, dport), plain, with_ports) in rows {
        assert_eq!(t.hash_tuple(v4(src, dst), None), plain, "{src:?}");
        assert_eq!(t.hash_tuple(v4(src, dst), Some((sport, dport))), with_ports, "{src:?}");
    }
}

#[test]
fn microsoft_rss_verification_suite_ipv6() {
    let t = Toeplitz::new(&MICROSOFT).unwrap();
    let rows = [
        ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc1_8cd5, 0x4020_7d3d),
        ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0f0c_461c, 0xdde5_1bbf),
        (
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            "fe80::200:f8ff:fe21:67cf",
            38024,
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];
    for (src, sport, dst, dport, plain, with_ports) in rows {
        assert_eq!(t.hash_tuple(v6(src, dst), None), plain, "{src}");
        assert_eq!(t.hash_tuple(v6(src, dst), Some((sport, dport))), with_ports, "{src}");
    }
}

#[test]
fn a_short_key_is_refused() {
    assert!(Toeplitz::new(&MICROSOFT[..39]).is_none());
    assert!(Toeplitz::new(&[]).is_none());
}

/// A profile that foretells, with a key and a table size of our choice.
fn profile(key: &[u8], table: u16) -> HwProfile {
    let key: String = key.iter().map(|o| format!("{o:02x}")).collect();
    let text = include_str!("../../../profiles/ixgbe.toml")
        .replace("key = \"6d5a\"", &format!("key = \"{key}\""))
        .replace("\ntable = 128\nqueues = 16", &format!("\ntable = {table}\nqueues = 16"));
    HwProfile::parse("test", &text).unwrap()
}

fn tcp4(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> RssPacket {
    RssPacket { addresses: v4(src, dst), transport: Transport::Tcp { src: sport, dst: dport } }
}

#[test]
fn the_table_says_which_worker() {
    let p = profile(&MICROSOFT, 128).rss_predictor(None, 5).unwrap();
    let packet = tcp4([66, 9, 149, 187], 2794, [161, 142, 100, 80], 1766);
    assert_eq!(p.hash(&packet), Some(0x51cc_c178));
    // Entry 0x78 of a table of 128 filled round robin with 5 queues.
    assert_eq!(p.rss_worker_for(&packet), 0x78 % 5);
    let fragment = RssPacket { transport: Transport::Fragment, ..packet };
    assert_eq!(p.hash(&fragment), Some(0x323e_8fc2));
    assert_eq!(p.rss_worker_for(&fragment), (0xc2 & 127) % 5);
    let icmp = RssPacket { transport: Transport::Other, ..packet };
    assert_eq!(p.hash(&icmp), Some(0x323e_8fc2));
}

#[test]
fn a_packet_without_a_hash_field_goes_to_queue_0() {
    let text = include_str!("../../../profiles/ixgbe.toml").replace("\"ipv6\", ", "");
    let p = HwProfile::parse("test", &text).unwrap().rss_predictor(None, 4).unwrap();
    let icmp = RssPacket { addresses: v6("2001:db8::1", "2001:db8::2"), transport: Transport::Other };
    assert_eq!(p.hash(&icmp), None);
    assert_eq!(p.rss_worker_for(&icmp), 0);
    let udp = RssPacket { transport: Transport::Udp { src: 1, dst: 2 }, ..icmp };
    assert!(p.hash(&udp).is_some());
}

#[test]
fn no_prediction_where_the_hash_is_not_known() {
    let x540 = PciId { vendor: 0x8086, device: 0x1528 };
    let x550 = PciId { vendor: 0x8086, device: 0x1563 };
    let of = |name| HwProfile::by_name(name).unwrap();
    assert!(matches!(of("veth").rss_predictor(None, 1), Err(NoPrediction::NoHash { .. })));
    assert!(matches!(of("null").rss_predictor(None, 1), Err(NoPrediction::NoHash { .. })));
    assert!(matches!(of("ice").rss_predictor(None, 2), Err(NoPrediction::Unverified { .. })));
    assert!(matches!(of("i40e").rss_predictor(None, 2), Err(NoPrediction::Unverified { .. })));
    assert_eq!(
        of("ixgbe").rss_predictor(Some(x540), 17).unwrap_err().to_string(),
        "profile `ixgbe`: RSS spreads over 1 to 16 queues, not 17"
    );
    assert_eq!(of("ixgbe").rss_predictor(Some(x550), 17).unwrap().queues(), 17);
    assert!(of("ixgbe").rss_predictor(Some(x550), 0).is_err());
}

#[test]
fn the_symmetric_key_brings_both_directions_to_one_worker() {
    for name in ["ixgbe", "igb", "igc"] {
        let p = HwProfile::by_name(name).unwrap().rss_predictor(None, 4).unwrap();
        let mut queues = std::collections::HashSet::new();
        for port in 1024..1100 {
            let there = tcp4([192, 0, 2, 1], port, [198, 51, 100, 7], 443);
            let back = tcp4([198, 51, 100, 7], 443, [192, 0, 2, 1], port);
            assert_eq!(p.rss_worker_for(&there), p.rss_worker_for(&back));
            queues.insert(p.rss_worker_for(&there));
        }
        assert_eq!(queues.len(), 4, "{name}: flows are spread");
    }
}

#[test]
fn the_built_in_key_reaches_every_queue_with_few_port_bits() {
    // Return traffic of NAT64: its destination port is the one that is chosen.
    for (name, queues) in [("ixgbe", 16u16), ("igb", 8), ("igc", 4), ("igc", 3)] {
        let free = 0x00ff;
        let p = HwProfile::by_name(name).unwrap().rss_predictor(None, queues).unwrap();
        let s = p.steering(Family::V4, true, PortField::Destination, free).unwrap();
        // With 3 queues the whole table of 128 decides, with a power of two as few bits as that.
        let deciding: u32 = if queues.is_power_of_two() { queues.into() } else { 128 };
        assert_eq!(s.ports_per_index(), 256 / deciding, "{name}: the other bits are left to choose from");
        let hash = p.hash(&tcp4([198, 51, 100, 10], 80, [203, 0, 113, 5], 4096)).unwrap();
        let mut seen = std::collections::HashSet::new();
        for queue in 0..queues {
            let port = s.port_for(hash, 4096, queue, 0).unwrap();
            assert_eq!((port ^ 4096) & !free, 0, "only free bits change");
            assert_eq!(p.rss_worker_for(&tcp4([198, 51, 100, 10], 80, [203, 0, 113, 5], port)), queue);
            seen.insert(port);
        }
        assert_eq!(seen.len(), usize::from(queues));
        assert_eq!(s.port_for(hash, 4096, queues, 0), None, "there is no such queue");
    }
}

#[test]
fn too_few_free_bits_are_said_so() {
    let p = HwProfile::by_name("ixgbe").unwrap().rss_predictor(None, 16).unwrap();
    assert!(p.steering(Family::V4, true, PortField::Destination, 0x0007).is_none());
    assert!(p.steering(Family::V4, true, PortField::Destination, 0).is_none());
    // One queue needs no bit at all.
    let one = HwProfile::by_name("ixgbe").unwrap().rss_predictor(None, 1).unwrap();
    assert_eq!(
        one.steering(Family::V4, false, PortField::Destination, 0).unwrap().port_for(77, 5, 0, 9),
        Some(5)
    );
}

#[test]
fn ports_that_are_not_hashed_cannot_steer() {
    let text = include_str!("../../../profiles/ixgbe.toml").replace("\"ipv4-udp\", ", "");
    let p = HwProfile::parse("test", &text).unwrap().rss_predictor(None, 4).unwrap();
    assert!(p.steering(Family::V4, false, PortField::Destination, 0xffff).is_none());
    assert!(p.steering(Family::V4, true, PortField::Destination, 0xffff).is_some());
}

proptest! {
    #[test]
    fn the_table_agrees_with_the_definition(key: [u8; 32], more: [u8; 8], input in prop::collection::vec(any::<u8>(), 0..=36)) {
        let key: Vec<u8> = key.into_iter().chain(more).collect();
        prop_assert_eq!(Toeplitz::new(&key).unwrap().hash(&input), by_definition(&key, &input));
    }

    #[test]
    fn octets_behind_the_fortieth_change_nothing(key: [u8; 32], more: [u8; 20], input: [u8; 32]) {
        let key: Vec<u8> = key.into_iter().chain(more).collect();
        let short = Toeplitz::new(&key[..40]).unwrap();
        prop_assert_eq!(Toeplitz::new(&key).unwrap().hash(&input), short.hash(&input));
    }

    #[test]
    fn the_hash_is_linear(a: [u8; 32], b: [u8; 32]) {
        let t = Toeplitz::new(&MICROSOFT).unwrap();
        let sum: Vec<u8> = a.iter().zip(b).map(|(x, y)| x ^ y).collect();
        prop_assert_eq!(t.hash(&sum), t.hash(&a) ^ t.hash(&b));
    }

    /// Whatever the key, the table, the number of queues and the free bits: if there is a steering, the
    /// port that it gives leads to the queue that was asked for, and differs in free bits only.
    #[test]
    fn a_steered_port_leads_to_its_queue(
        key in prop::collection::vec(any::<u8>(), 40),
        table in prop::sample::select(vec![16u16, 64, 128, 512, 2048]),
        queues in 1u16..=16,
        free: u16,
        v6 in any::<bool>(),
        tcp in any::<bool>(),
        source in any::<bool>(),
        octets: [u8; 32],
        ports: (u16, u16),
        nth: u32,
    ) {
        prop_assume!(key.iter().any(|o| *o != 0));
        let p = profile(&key, table).rss_predictor(None, queues).unwrap();
        let (family, addresses) = if v6 {
            let src: [u8; 16] = octets[..16].try_into().unwrap();
            let dst: [u8; 16] = octets[16..].try_into().unwrap();
            (Family::V6, Addresses::V6 { src: src.into(), dst: dst.into() })
        } else {
            (Family::V4, v4(octets[..4].try_into().unwrap(), octets[4..8].try_into().unwrap()))
        };
        let packet = |(src, dst): (u16, u16)| RssPacket {
            addresses,
            transport: if tcp { Transport::Tcp { src, dst } } else { Transport::Udp { src, dst } },
        };
        let field = if source { PortField::Source } else { PortField::Destination };
        if let Some(s) = p.steering(family, tcp, field, free) {
            let base = if source { ports.0 } else { ports.1 };
            let hash = p.hash(&packet(ports)).unwrap();
            for queue in 0..queues {
                let port = s.port_for(hash, base, queue, nth).unwrap();
                prop_assert_eq!((port ^ base) & !free, 0);
                let steered = packet(if source { (port, ports.1) } else { (ports.0, port) });
                prop_assert_eq!(p.rss_worker_for(&steered), queue);
            }
            // A port that is right already is left alone.
            prop_assert_eq!(s.port_for(hash, base, p.rss_worker_for(&packet(ports)), 0), Some(base));
            // Different numbers give different ports.
            let count = s.ports_per_index().min(64);
            let all: std::collections::HashSet<_> =
                (0..count).map(|n| s.port_for(hash, base, queues - 1, n).unwrap()).collect();
            prop_assert_eq!(all.len(), count as usize);
        }
    }

    /// No solution is missed: if the free bits reach every entry by trial, there is a steering.
    #[test]
    fn a_steering_is_found_if_there_is_one(key in prop::collection::vec(any::<u8>(), 40), free in 0u16..256, bits in 0u32..4) {
        prop_assume!(key.iter().any(|o| *o != 0));
        let queues = 1u16 << bits;
        let p = profile(&key, 128).rss_predictor(None, queues).unwrap();
        let reached: std::collections::HashSet<u16> = (0..=255u16)
            .filter(|port| port & !free == 0)
            .map(|port| p.rss_worker_for(&tcp4([192, 0, 2, 1], 443, [203, 0, 113, 1], port)))
            .collect();
        let steering = p.steering(Family::V4, true, PortField::Destination, free);
        prop_assert_eq!(steering.is_some(), reached.len() == usize::from(queues));
    }
}
