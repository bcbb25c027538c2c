//! Bursts of first packets: what they touch is brought close for all of them before any is looked at,
//! and yet each finds what those before it left.

mod common;

use causeway_nat64::{Options, Subscribers};
use causeway_testkit::{ip6, tcp};
use common::*;
use proptest::prelude::*;

/// A small world, so that packets of a burst meet: three hosts, two ports, two servers, one of which may
/// not be spoken to.
fn packet(host: u8, port: u8, server: u8, what: u8) -> Vec<u8> {
    let host = format!("2001:db8:64::{:x}", 0x101 + u16::from(host % 3));
    let server = match server % 4 {
        0 | 1 => "198.51.100.10",
        2 => "198.51.100.99",
        _ => "127.0.0.1",
    };
    let p = ip6(host.as_str(), format!("2001:db8:64:ff9b::{server}").as_str());
    let port = 4000 + u16::from(port % 2);
    match what % 5 {
        0 | 1 => p.udp(port, 53, b"x"),
        2 => p.tcp(&tcp(port, 80).syn()),
        3 => p.tcp(&tcp(port, 80).ack(1)),
        _ => p.echo_request(port, 1, b"x"),
    }
}

fn kind(f: &Fate) -> String {
    match f {
        Fate::Sent(b, _) => format!("sent {}", b[9]),
        other => format!("{other:?}"),
    }
}

/// Ports that are taken, over all addresses and protocols.
fn ports(g: &Gateway) -> usize {
    g.nat.pool().usage().map(|u| u.in_use as usize).sum()
}

proptest! {
    #[test]
    fn a_burst_does_what_its_packets_do_one_by_one(
        bursts in prop::collection::vec(
            prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>()), 1..33), 1..4),
        few_ports in any::<bool>(),
    ) {
        let few = Options { pool: vec!["203.0.113.1/32".parse().unwrap()], last_port: 1027, ..options() };
        let o = if few_ports { few } else { options() };
        let (mut one, mut many) = (Gateway::with(o.clone()), Gateway::with(o));
        for burst in bursts {
            let packets: Vec<Vec<u8>> = burst.iter().map(|(a, b, c, d)| packet(*a, *b, *c, *d)).collect();
            let alone: Vec<Fate> = packets.iter().map(|p| one.six(p)).collect();
            let together = many.vector("tenant0", &packets, true);
            for (a, b) in alone.iter().zip(&together) {
                prop_assert_eq!(kind(a), kind(b));
            }
            prop_assert_eq!(one.sessions(), many.sessions());
            prop_assert_eq!(one.mappings(), many.mappings());
            // No port is taken without a mapping that has it.
            prop_assert_eq!(ports(&many), many.mappings());
        }
    }
}

#[test]
fn a_burst_of_first_packets_of_one_mapping_takes_one_port() {
    let mut g = Gateway::with(Options {
        subscribers: Subscribers { prefix_length: 128, ..Subscribers::default() },
        ..options()
    });
    let packets: Vec<Vec<u8>> = (0..32).map(|n| ip6(VM1, SERVER6).udp(4000, 1000 + n, b"x")).collect();
    let outs: std::collections::HashSet<_> = g
        .vector("tenant0", &packets, true)
        .into_iter()
        .map(|f| f.sent())
        .map(|b| (b[12..16].to_vec(), b[20..22].to_vec()))
        .collect();
    assert_eq!((outs.len(), g.sessions(), g.mappings(), ports(&g)), (1, 32, 1, 1));
}

#[test]
fn a_segment_behind_its_syn_in_one_burst_belongs_to_the_session() {
    let mut g = Gateway::lab();
    let packets = [
        ip6(VM1, SERVER6).tcp(&tcp(4000, 80).syn()),
        ip6(VM1, SERVER6).tcp(&tcp(4000, 80).ack(1)),
        ip6(VM2, SERVER6).tcp(&tcp(4000, 80).ack(1)),
    ];
    let fates = g.vector("tenant0", &packets, true);
    let (a, b) = (fates[0].clone().sent(), fates[1].clone().sent());
    assert_eq!(a[12..16], b[12..16]);
    assert_eq!(a[20..22], b[20..22]);
    assert_eq!(fates[2].clone().dropped(), causeway_core::DropReason::Nat64NoSession);
    assert_eq!((g.sessions(), g.mappings(), ports(&g)), (1, 1, 1));
}
