use super::super::tests::{
    CLIENT, CLIENT_PORT, OWN, OWN_PORT, PROXY, SERVER, World, constants, from_client, from_server,
};
use super::super::{Constants, Scales, engage};
use super::*;
use causeway_flowtable::Tick;
use causeway_testkit::{Inner, check_packet_with, ip4, ip6, poke, tcp as seg};

const ROUTER4: &str = "192.0.2.77";
const ROUTER6: &str = "2001:db8:64::77";
const STAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6];

/// What became of an error.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Passed(Vec<u8>),
    Dropped(DropReason),
    Peek,
    Nobodys,
}

fn error(w: &mut World, side: Side, octets: &[u8]) -> Fate {
    let from = if side == Side::Client { "uplink0" } else { "tenant0" };
    let mut packet = w.rig.packet(from, octets);
    let guard = w.worker.enter();
    let mut ctx = w.rig.ctx();
    let whose = match side {
        Side::Client => w.splice.error4(&mut ctx, &guard, &mut packet),
        Side::Server => w.splice.error6(&mut ctx, &guard, &mut packet),
    };
    match whose {
        Whose::Spliced(Verdict::Forward { .. }) => {
            let out = packet.bytes().to_vec();
            assert_eq!(
                check_packet_with(&out, Inner::Header),
                Ok(()),
                "{}",
                causeway_testkit::describe(&out)
            );
            Fate::Passed(out)
        }
        Whose::Spliced(Verdict::Drop(reason)) => Fate::Dropped(reason),
        Whose::Spliced(other) => panic!("{other:?}"),
        Whose::Peek(..) => Fate::Peek,
        Whose::Nobodys => Fate::Nobodys,
    }
}

/// What the server sent, and what the client's router saw of it.
fn to_client(w: &mut World) -> (Vec<u8>, Vec<u8>) {
    let sent = seg(8443, OWN_PORT).seq(7_000_100).ack(500).window(640).options(&STAMPS).payload(&[9; 1300]);
    let sent = from_server(&sent);
    let seen = w.passes(Side::Server, sent.clone());
    (sent, seen)
}

fn to_server(w: &mut World) -> (Vec<u8>, Vec<u8>) {
    let sent =
        seg(CLIENT_PORT, 443).seq(2_000).ack(0x1234_5678).window(640).options(&STAMPS).payload(&[9; 1300]);
    let sent = from_client(&sent);
    let seen = w.passes(Side::Client, sent.clone());
    (sent, seen)
}

#[test]
fn rfc7915_4_2_a_narrow_link_to_the_client_is_told_to_the_server_about_its_own_segment() {
    let mut w = World::spliced(&constants());
    let (sent, seen) = to_client(&mut w);
    let about = &seen[..548];
    let Fate::Passed(out) =
        error(&mut w, Side::Client, &ip4(ROUTER4, PROXY).ttl(9).icmp_error(3, 4, 1400, about))
    else {
        panic!("not passed on")
    };
    assert_eq!(out[8..24], OWN.parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(out[24..40], SERVER.parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!((out[7], &out[40..42]), (8, &[2, 0][..]));
    assert_eq!(out[44..48], 1420u32.to_be_bytes());
    // The segment as the server sent it, but for the hops that it has come.
    assert_eq!(out[48..55], sent[..7]);
    assert_eq!(out[56..], sent[8..8 + out.len() - 56]);
    w.rig.assert_counted(&[("splice-to-clients", 1), ("splice-icmp-passed", 1)]);
}

#[test]
fn rfc7915_5_2_a_narrow_link_to_the_server_is_told_to_the_client_about_its_own_segment() {
    let mut w = World::spliced(&constants());
    let (sent, seen) = to_server(&mut w);
    let packet = ip6(ROUTER6, OWN).icmp_error(2, 0, 1400, &seen[..1200]);
    let Fate::Passed(out) = error(&mut w, Side::Server, &packet) else { panic!("not passed on") };
    assert_eq!(out[12..20], [PROXY, CLIENT].map(|a| a.parse::<Ipv4Addr>().unwrap().octets()).concat());
    assert_eq!(out[20..22], [3, 4]);
    assert_eq!(out[26..28], 1380u16.to_be_bytes());
    assert_eq!(out.len(), 576);
    // Addresses, ports, numbers, options and checksum as the client had them.
    assert_eq!(out[40..48], sent[12..20]);
    assert_eq!(out[48..], sent[20..20 + out.len() - 48]);
    w.rig.assert_counted(&[("splice-to-servers", 1), ("splice-icmp-passed", 1)]);
}

#[test]
fn eight_octets_of_the_segment_are_enough() {
    let mut w = World::spliced(&constants());
    let (sent, seen) = to_client(&mut w);
    let packet = ip4(ROUTER4, PROXY).icmp_error(3, 1, 0, &seen[..28]);
    let Fate::Passed(out) = error(&mut w, Side::Client, &packet) else { panic!("not passed on") };
    assert_eq!((&out[40..42], &out[88..96]), (&[1, 0][..], &sent[40..48]));
    let (sent, seen) = to_server(&mut w);
    let packet = ip6(ROUTER6, OWN).icmp_error(1, 4, 0, &seen[..48]);
    let Fate::Passed(out) = error(&mut w, Side::Server, &packet) else { panic!("not passed on") };
    assert_eq!((&out[20..22], &out[48..56]), (&[3, 3][..], &sent[20..28]));
    // With one octet less nothing can be said.
    let packet = ip6(ROUTER6, OWN).icmp_error(1, 4, 0, &seen[..47]);
    assert_eq!(error(&mut w, Side::Server, &packet), Fate::Dropped(DropReason::SpliceIcmpBad));
}

#[test]
fn rfc1191_5_and_rfc8200_5_mtus_are_within_what_the_links_and_ipv6_allow() {
    let mut w = World::spliced(&constants());
    let (_, seen) = to_client(&mut w);
    for (stated, want) in
        [(0u32, 1280u32), (68, 1280), (1260, 1280), (1261, 1281), (1500, 1500), (9000, 1500)]
    {
        let packet = ip4(ROUTER4, PROXY).icmp_error(3, 4, stated, &seen[..60]);
        let Fate::Passed(out) = error(&mut w, Side::Client, &packet) else { panic!("not passed on") };
        assert_eq!(out[44..48], want.to_be_bytes(), "{stated}");
    }
    let (_, seen) = to_server(&mut w);
    for (stated, want) in [(0u32, 1260u16), (1280, 1260), (1400, 1380), (9000, 1480)] {
        let packet = ip6(ROUTER6, OWN).icmp_error(2, 0, stated, &seen[..100]);
        let Fate::Passed(out) = error(&mut w, Side::Server, &packet) else { panic!("not passed on") };
        assert_eq!(out[26..28], want.to_be_bytes(), "{stated}");
    }
}

#[test]
fn rfc7915_kinds_and_codes() {
    let mut w = World::spliced(&constants());
    let (_, seen) = to_client(&mut w);
    let pairs: [(u8, u8, Option<[u8; 2]>); 12] = [
        (3, 0, Some([1, 0])),
        (3, 2, Some([4, 1])),
        (3, 3, Some([1, 4])),
        (3, 5, Some([1, 0])),
        (3, 10, Some([1, 1])),
        (3, 13, Some([1, 1])),
        (3, 14, None),
        (3, 16, None),
        (11, 0, Some([3, 0])),
        (11, 1, Some([3, 1])),
        (11, 2, None),
        (12, 0, None),
    ];
    for (kind, code, want) in pairs {
        let packet = ip4(ROUTER4, PROXY).icmp_error(kind, code, 0, &seen[..60]);
        match (error(&mut w, Side::Client, &packet), want) {
            (Fate::Passed(out), Some(want)) => assert_eq!(out[40..42], want, "{kind} {code}"),
            (fate, None) => assert_eq!(fate, Fate::Dropped(DropReason::SpliceIcmpType), "{kind} {code}"),
            (fate, _) => panic!("{kind} {code}: {fate:?}"),
        }
    }
    let (_, seen) = to_server(&mut w);
    let pairs: [(u8, u8, Option<[u8; 2]>); 9] = [
        (1, 0, Some([3, 1])),
        (1, 1, Some([3, 10])),
        (1, 3, Some([3, 1])),
        (1, 4, Some([3, 3])),
        (3, 0, Some([11, 0])),
        (3, 1, Some([11, 1])),
        (4, 0, None),
        (4, 1, Some([3, 2])),
        (100, 0, None),
    ];
    for (kind, code, want) in pairs {
        let packet = ip6(ROUTER6, OWN).icmp_error(kind, code, 0, &seen[..100]);
        match (error(&mut w, Side::Server, &packet), want) {
            (Fate::Passed(out), Some(want)) => assert_eq!(out[20..22], want, "{kind} {code}"),
            (fate, None) => assert_eq!(fate, Fate::Dropped(DropReason::SpliceIcmpType), "{kind} {code}"),
            (fate, _) => panic!("{kind} {code}: {fate:?}"),
        }
    }
}

#[test]
fn rfc5927_4_1_an_error_about_what_was_never_sent_is_dropped() {
    let mut w = World::spliced(&constants());
    let far = seg(443, CLIENT_PORT).seq(0x1234_5678u32.wrapping_add(1 << 30)).ack(1);
    let packet = ip4(ROUTER4, PROXY).icmp_error(3, 4, 1400, &ip4(PROXY, CLIENT).tcp(&far));
    assert_eq!(error(&mut w, Side::Client, &packet), Fate::Dropped(DropReason::SpliceIcmpForged));
    let far = seg(OWN_PORT, 8443).seq(0x4000_0000).ack(1);
    let packet = ip6(ROUTER6, OWN).icmp_error(2, 0, 1280, &ip6(OWN, SERVER).tcp(&far));
    assert_eq!(error(&mut w, Side::Server, &packet), Fate::Dropped(DropReason::SpliceIcmpForged));
    w.rig.assert_counted(&[]);
}

#[test]
fn errors_about_others_are_left_alone_and_those_about_terminated_connections_are_their_owners() {
    let mut w = World::terminated(false);
    let mine4 = ip4(ROUTER4, PROXY).icmp_error(3, 4, 1400, &ip4(PROXY, CLIENT).tcp(&seg(443, CLIENT_PORT)));
    let mine6 = ip6(ROUTER6, OWN).icmp_error(2, 0, 1280, &ip6(OWN, SERVER).tcp(&seg(OWN_PORT, 8443)));
    assert_eq!(error(&mut w, Side::Client, &mine4), Fate::Peek);
    assert_eq!(error(&mut w, Side::Server, &mine6), Fate::Peek);
    let others = [
        ip4(ROUTER4, PROXY).icmp_error(3, 4, 1400, &ip4(PROXY, CLIENT).tcp(&seg(443, 1))),
        ip4(ROUTER4, PROXY).icmp_error(3, 3, 0, &ip4(PROXY, CLIENT).udp(443, CLIENT_PORT, b"x")),
        ip4(ROUTER4, PROXY).echo_request(1, 1, b"x"),
        ip4(ROUTER4, "203.0.113.81").icmp_error(3, 4, 1400, &ip4(PROXY, CLIENT).tcp(&seg(443, CLIENT_PORT))),
    ];
    for packet in others {
        assert_eq!(error(&mut w, Side::Client, &packet), Fate::Nobodys);
    }
    let others = [
        ip6(ROUTER6, OWN).icmp_error(2, 0, 1280, &ip6(OWN, SERVER).tcp(&seg(1, 8443))),
        ip6(ROUTER6, OWN).icmp_error(2, 0, 1280, &ip6("2001:db8:64::9", SERVER).tcp(&seg(OWN_PORT, 8443))),
        ip6(ROUTER6, OWN).echo_request(1, 1, b"x"),
    ];
    for packet in others {
        assert_eq!(error(&mut w, Side::Server, &packet), Fate::Nobodys);
    }
    w.rig.assert_counted(&[]);
}

#[test]
fn errors_that_are_damaged_are_dropped() {
    let mut w = World::spliced(&constants());
    let (_, seen) = to_client(&mut w);
    let good = ip4(ROUTER4, PROXY).icmp_error(3, 4, 1400, &seen[..60]);
    let bad = Fate::Dropped(DropReason::SpliceIcmpBad);
    assert_eq!(error(&mut w, Side::Client, &poke(good.clone(), 22, &[1])), bad);
    assert_eq!(error(&mut w, Side::Client, &poke(good, 28, &[0x65])), bad);
    let (_, seen) = to_server(&mut w);
    let good = ip6(ROUTER6, OWN).icmp_error(2, 0, 1280, &seen[..100]);
    assert_eq!(error(&mut w, Side::Server, &poke(good, 42, &[1])), bad);
}

#[test]
fn windows_that_were_rescaled_do_not_keep_an_error_from_its_way() {
    let mut w = World::spliced(&constants());
    let scales = Scales { client: 0, to_client: 7, server: 2, to_server: 0 };
    {
        let tick = Tick::at(w.rig.now);
        let guard = w.worker.enter();
        let mut all = Vec::new();
        guard.sessions(0, u32::MAX, |s| all.push(*s));
        assert!(engage(&all[0], &Constants { scales, ..constants() }, tick));
    }
    let (sent, seen) = to_client(&mut w);
    let packet = ip4(ROUTER4, PROXY).icmp_error(3, 4, 1400, &seen[..100]);
    let Fate::Passed(out) = error(&mut w, Side::Client, &packet) else { panic!("not passed on") };
    // 640 is a multiple of 32.
    assert_eq!(out[88..148], sent[40..100]);
}
