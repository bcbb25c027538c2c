//! Segments made by hand: what no well-behaved host sends, and floods.

use super::*;
use causeway_core::DropReason;
use causeway_testkit::{Tcp as Segment, ip4, ip6, poke, tcp};
use causeway_wire::{be16, be32};

/// What of a packet that was sent is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: &'static str,
    pub(super) window: u16,
    pub(super) data: usize,
}

pub(super) fn seen(packet: &[u8]) -> Seen {
    let t = &packet[if packet[0] >> 4 == 6 { 40 } else { 20 }..];
    let flags = match t[13] & 0x17 {
        0x02 => "SYN",
        0x12 => "SYN ACK",
        0x10 => "ACK",
        0x11 => "FIN ACK",
        0x04 => "RST",
        0x14 => "RST ACK",
        other => panic!("flags {other:x}"),
    };
    let data = t.len() - usize::from(t[12] >> 4) * 4;
    Seen { seq: be32(t, 4), ack: be32(t, 8), flags, window: be16(t, 14), data }
}

/// A client that is played by hand.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) seq: u32,
    pub(super) ack: u32,
}

impl Peer {
    pub(super) fn new(n: u32) -> Self {
        Self {
            address: format!("2001:db8:64:{:x}::1", n >> 12),
            port: 10_000 + (n & 0xfff) as u16,
            seq: n.wrapping_mul(2_654_435_761),
            ack: 0,
        }
    }

    pub(super) fn packet(&self, segment: &Segment) -> Vec<u8> {
        ip6(&*self.address, "2001:db8:64::53").tcp(segment)
    }

    pub(super) fn segment(&self) -> Segment {
        tcp(self.port, 53).seq(self.seq).ack(self.ack)
    }

    pub(super) fn syn(&self) -> Vec<u8> {
        self.packet(&tcp(self.port, 53).seq(self.seq).syn().options(&[2, 4, 5, 0xa0]))
    }

    pub(super) fn say(&self, segment: &Segment) -> Vec<u8> {
        self.packet(segment)
    }

    /// The handshake up to the acknowledgement, which is returned.
    pub(super) fn greet(&mut self, w: &mut World) -> Vec<u8> {
        let before = w.sent.len();
        w.receive(&self.syn()).unwrap();
        let answer = seen(&w.sent[before]);
        assert_eq!((answer.flags, answer.ack, answer.data), ("SYN ACK", self.seq.wrapping_add(1), 0));
        assert_eq!(w.sent.len(), before + 1);
        self.seq = answer.ack;
        self.ack = answer.seq.wrapping_add(1);
        self.packet(&self.segment())
    }

    pub(super) fn open(n: u32, w: &mut World) -> Self {
        let mut peer = Self::new(n);
        let ack = peer.greet(w);
        w.receive(&ack).unwrap();
        peer
    }

    /// Sends octets.
    pub(super) fn write(&mut self, w: &mut World, octets: &[u8]) {
        let packet = self.packet(&self.segment().psh().payload(octets));
        w.receive(&packet).unwrap();
        self.seq = self.seq.wrapping_add(octets.len() as u32);
    }

    pub(super) fn conn(&mut self, w: &mut World) -> Conn {
        self.write(w, &framed(&message(1, 20)));
        match w.take_events()[..] {
            [Event::Message { conn, .. }] => conn,
            ref other => panic!("{other:?}"),
        }
    }
}

#[test]
fn rfc4987_3_6_a_flood_of_syns_leaves_nothing_and_pushes_nobody_out() {
    let mut w = World::new(&settings());
    let mut peers: Vec<Peer> = (0..8).map(|n| Peer::open(n, &mut w)).collect();
    let held = w.streams.octets();
    for n in 0..100_000 {
        // Of a /64 each.
        let mut attacker = Peer::new(n << 12);
        attacker.address = format!("2001:db8:{:x}:{:x}::1", 256 + (n >> 16), n & 0xffff);
        let _ = w.receive(&attacker.syn());
        w.network.clear();
    }
    assert_eq!((w.streams.connections(), w.streams.octets()), ((8, 0), held));
    // Who was connected still is, and a new one gets in.
    for peer in &mut peers {
        let conn = peer.conn(&mut w);
        w.send(conn, &message(1, 20)).unwrap();
    }
    let mut late = Peer::open(9 << 12, &mut w);
    late.conn(&mut w);
    let counted: HashMap<String, u64> = w.counters.nonzero().into_iter().collect();
    assert_eq!((counted["dns-tcp-accepted"], counted["dns-tcp-received"]), (9, 9));
    assert_eq!(counted.keys().filter(|k| k.starts_with("drop.")).count(), 0, "{counted:?}");
}

#[test]
fn one_client_opens_no_more_connections_than_it_may_in_a_second() {
    let mut w = World::new(&settings());
    let mut taken = 0;
    for n in 0..1000 {
        taken += u64::from(w.receive(&Peer::new(n).syn()).is_ok());
    }
    assert_eq!(taken, 500);
    // Another is not held back by that.
    w.receive(&Peer::new(1 << 12).syn()).unwrap();
    w.assert_counted(&[("drop.dns-tcp-client-limited", 500)]);
}

#[test]
fn rfc9293_3_10_7_1_acknowledgements_of_nothing_are_reset_but_not_without_limit() {
    let mut w = World::new(&settings());
    for n in 0..3000 {
        let mut peer = Peer::new(n);
        peer.ack = n.wrapping_mul(40_503);
        assert_eq!(w.receive(&peer.say(&peer.segment())), Err(DropReason::DnsTcpNoConnection));
    }
    assert_eq!(w.sent.len(), 1000);
    let reset = seen(&w.sent[7]);
    assert_eq!((reset.flags, reset.seq), ("RST", 7 * 40_503));
    assert_eq!(w.streams.connections(), (0, 0));
    w.assert_counted(&[("drop.dns-tcp-no-connection", 3000), ("dns-tcp-resets-limited", 2000)]);
}

#[test]
fn rfc9293_3_10_7_1_what_a_reset_is_answered_with_and_what_not() {
    let mut w = World::new(&settings());
    let peer = Peer { ack: 77, ..Peer::new(1) };
    let other_port = |s: Segment| ip6(&*peer.address, "2001:db8:64::53").tcp(&s);
    // A reset, never.
    assert_eq!(w.receive(&peer.say(&peer.segment().rst())), Err(DropReason::DnsTcpNoConnection));
    assert!(w.sent.is_empty());
    // A SYN for a port that nobody listens at: its number and what it fills are acknowledged.
    let syn = other_port(tcp(5, 54).seq(100).syn().payload(b"abc"));
    assert_eq!(w.receive(&syn), Err(DropReason::DnsTcpNoConnection));
    let want = Seen { seq: 0, ack: 104, flags: "RST ACK", window: 0, data: 0 };
    assert_eq!(seen(w.sent.last().unwrap()), want);
    // A SYN of somebody who is not served.
    w.accept = false;
    assert_eq!(w.receive(&peer.syn()), Err(DropReason::DnsTcpRefused));
    let want = Seen { seq: 0, ack: peer.seq.wrapping_add(1), flags: "RST ACK", window: 0, data: 0 };
    assert_eq!(seen(w.sent.last().unwrap()), want);
    // SYN and ACK: somebody thinks that we have asked.
    w.accept = true;
    assert_eq!(w.receive(&peer.say(&peer.segment().syn())), Err(DropReason::DnsTcpNoConnection));
    assert_eq!(seen(w.sent.last().unwrap()), Seen { seq: 77, ack: 0, flags: "RST", window: 0, data: 0 });
    w.assert_counted(&[("drop.dns-tcp-no-connection", 3), ("drop.dns-tcp-refused", 1)]);
}

#[test]
fn the_cookie_is_good_for_the_segment_behind_a_lost_one_but_not_for_ever() {
    let mut w = World::new(&settings());
    let mut peer = Peer::new(1);
    peer.greet(&mut w);
    let stream = framed(&message(1, 40));
    let start = peer.seq;
    // The acknowledgement and the first segment are lost.
    peer.seq = start.wrapping_add(2);
    peer.write(&mut w, &stream[2..]);
    assert!(w.events.is_empty());
    peer.seq = start;
    peer.write(&mut w, &stream[..2]);
    assert!(matches!(&w.take_events()[..], [Event::Message { octets, .. }] if *octets == message(1, 40)));
    let mut late = Peer::new(2);
    let ack = late.greet(&mut w);
    w.now = w.now + Duration::from_secs(128);
    assert_eq!(w.receive(&ack), Err(DropReason::DnsTcpNoConnection));
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-received", 1), ("drop.dns-tcp-no-connection", 1)]);
}

#[test]
fn rfc7766_6_2_3_a_client_that_wants_more_loses_its_own_idle_connection() {
    let mut w = World::new(&Tcp { per_client: 2, ..settings() });
    let mut a = Peer::open(1, &mut w);
    w.now = w.now + Duration::from_millis(1);
    let mut b = Peer::open(2, &mut w);
    w.now = w.now + Duration::from_millis(1);
    // The first is used again: the second has been idle for longer.
    let conn = a.conn(&mut w);
    w.send(conn, &message(1, 20)).unwrap();
    let ack = a.segment().ack(a.ack.wrapping_add(22));
    w.receive(&a.say(&ack)).unwrap();
    w.sent.clear();
    let mut c = Peer::open(3, &mut w);
    assert!(matches!(w.take_events()[..], [Event::Closed { why: Why::Evicted, .. }]));
    let reset = w.sent.iter().map(|p| seen(p)).find(|s| s.flags == "RST ACK").unwrap();
    assert_eq!((reset.seq, reset.ack), (b.ack, b.seq));
    b.seq = b.seq.wrapping_add(1);
    // While both have a question under way, nobody else gets in.
    a.ack = a.ack.wrapping_add(22);
    a.conn(&mut w);
    c.conn(&mut w);
    assert_eq!(w.receive(&Peer::new(4).syn()), Err(DropReason::DnsTcpClientFull));
    // Other clients do.
    Peer::open(1 << 12, &mut w);
    assert_eq!(w.streams.connections(), (3, 0));
    w.assert_counted(&[
        ("dns-tcp-accepted", 4),
        ("dns-tcp-evicted", 1),
        ("dns-tcp-received", 3),
        ("dns-tcp-sent", 1),
        ("drop.dns-tcp-client-full", 1),
    ]);
}

#[test]
fn rfc7766_6_2_3_the_connection_that_was_idle_longest_gives_way_and_one_in_use_does_not() {
    let mut w = World::new(&Tcp { connections: 4, ..settings() });
    let mut peers = Vec::new();
    for n in 0..4 {
        let mut peer = Peer::open(n << 12, &mut w);
        let conn = peer.conn(&mut w);
        w.send(conn, &message(1, 20)).unwrap();
        peer.ack = peer.ack.wrapping_add(22);
        w.receive(&peer.say(&peer.segment())).unwrap();
        peers.push(peer);
        w.now = w.now + Duration::from_millis(1);
    }
    let _ = peers[0].conn(&mut w);
    Peer::open(9 << 12, &mut w);
    assert_eq!(w.streams.connections(), (4, 0));
    let events = w.take_events();
    assert!(matches!(events[..], [Event::Closed { why: Why::Evicted, .. }]), "{events:?}");
    // The one that came second is gone.
    let gone = w.receive(&peers[1].say(&peers[1].segment()));
    assert_eq!(gone, Err(DropReason::DnsTcpNoConnection));
    for peer in [0, 2, 3] {
        w.receive(&peers[peer].say(&peers[peer].segment())).unwrap();
    }
    for peer in [2, 3] {
        let _ = peers[peer].conn(&mut w);
    }
    let mut last = Peer::open(10 << 12, &mut w);
    assert!(matches!(w.take_events()[..], [Event::Closed { why: Why::Evicted, .. }]));
    let _ = last.conn(&mut w);
    // All are in use; also who has a cookie is turned away.
    assert_eq!(w.receive(&Peer::new(11 << 12).syn()), Err(DropReason::DnsTcpFull));
    w.assert_counted(&[
        ("dns-tcp-accepted", 6),
        ("dns-tcp-evicted", 2),
        ("dns-tcp-received", 8),
        ("dns-tcp-sent", 4),
        ("drop.dns-tcp-full", 1),
        ("drop.dns-tcp-no-connection", 1),
    ]);
}

#[test]
fn a_cookie_does_not_get_in_where_there_is_no_room_any_more() {
    let mut w = World::new(&Tcp { connections: 1, ..settings() });
    let mut first = Peer::new(1 << 12);
    let mut second = Peer::new(2 << 12);
    let acks = [first.greet(&mut w), second.greet(&mut w)];
    w.receive(&acks[0]).unwrap();
    let _ = first.conn(&mut w);
    assert_eq!(w.receive(&acks[1]), Err(DropReason::DnsTcpFull));
    assert_eq!(seen(w.sent.last().unwrap()).flags, "RST");
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-received", 1), ("drop.dns-tcp-full", 1)]);
}

#[test]
fn rfc5961_3_2_only_a_reset_that_is_exact_ends_a_connection() {
    let mut w = World::new(&settings());
    let mut peer = Peer::open(1, &mut w);
    let conn = peer.conn(&mut w);
    w.sent.clear();
    let reset = |seq: u32| peer.say(&tcp(peer.port, 53).seq(seq).rst());
    // Outside of the window: nothing.
    for seq in [peer.seq.wrapping_sub(1), peer.seq.wrapping_add(5000), peer.seq.wrapping_add(1 << 31)] {
        assert_eq!(w.receive(&reset(seq)), Err(DropReason::DnsTcpChallenged));
    }
    assert!(w.sent.is_empty());
    // In it: an acknowledgement, once a second (RFC 5961 7).
    for seq in [1, 2, 3000] {
        assert_eq!(w.receive(&reset(peer.seq.wrapping_add(seq))), Err(DropReason::DnsTcpChallenged));
    }
    assert_eq!(w.sent.len(), 1);
    let challenge = seen(&w.sent[0]);
    assert_eq!((challenge.flags, challenge.seq), ("ACK", peer.ack));
    // The stack has not acknowledged the question yet; the window is what was told.
    assert_eq!(challenge.ack, peer.seq.wrapping_sub(22));
    assert!(w.events.is_empty());
    // Exact: over.
    w.receive(&reset(peer.seq)).unwrap();
    assert_eq!(w.take_events(), [Event::Closed { conn, side: Side::Server, why: Why::Reset }]);
    assert_eq!(w.send(conn, &message(1, 20)), Err(SendError::Closed));
    assert_eq!(w.streams.connections(), (0, 0));
    w.assert_counted(&[
        ("dns-tcp-accepted", 1),
        ("dns-tcp-peer-reset", 1),
        ("dns-tcp-received", 1),
        ("drop.dns-tcp-challenged", 6),
    ]);
}

#[test]
fn rfc5961_4_2_a_syn_inside_a_connection_is_challenged_and_who_lost_it_can_end_it() {
    let mut w = World::new(&settings());
    let mut peer = Peer::open(1, &mut w);
    let conn = peer.conn(&mut w);
    w.sent.clear();
    for seq in [peer.seq, peer.seq.wrapping_add(100), 5] {
        let syn = peer.say(&tcp(peer.port, 53).seq(seq).syn());
        assert_eq!(w.receive(&syn), Err(DropReason::DnsTcpChallenged));
    }
    assert_eq!(w.sent.len(), 1);
    let challenge = seen(&w.sent[0]);
    assert_eq!(challenge.flags, "ACK");
    // It has been acknowledged up to here as far as the wire knows; let it be all.
    w.now = w.now + Duration::from_millis(20);
    w.with(|s, now, out| s.poll(10, now, out));
    let acked = seen(w.sent.last().unwrap());
    w.receive(&peer.say(&tcp(peer.port, 53).seq(acked.ack).rst())).unwrap();
    assert_eq!(w.take_events(), [Event::Closed { conn, side: Side::Server, why: Why::Reset }]);
    w.assert_counted(&[
        ("dns-tcp-accepted", 1),
        ("dns-tcp-peer-reset", 1),
        ("dns-tcp-received", 1),
        ("drop.dns-tcp-challenged", 3),
    ]);
}

#[test]
fn what_is_no_dns_resets_the_connection() {
    for (start, octets) in [(&[0u8, 0][..], 0), (&[0, 11], 11), (&[16, 1], 10), (b"GET / HTTP/1.1", 0)] {
        let mut w = World::new(&settings());
        let mut peer = Peer::open(1, &mut w);
        w.sent.clear();
        peer.write(&mut w, &[start, &vec![0; octets]].concat());
        assert!(matches!(w.take_events()[..], [Event::Closed { why: Why::BadMessage, .. }]));
        assert_eq!(w.streams.connections(), (0, 0));
        assert_eq!(seen(&w.sent[0]).flags, "RST ACK");
        w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-bad-message", 1)]);
    }
}

#[test]
fn who_sends_a_question_too_slowly_is_reset() {
    let mut w = World::new(&settings());
    let mut peer = Peer::open(1, &mut w);
    peer.write(&mut w, &[0]);
    for _ in 0..9 {
        w.seconds(1);
        // Also the smallest progress does not lengthen its time.
        peer.write(&mut w, &[20]);
    }
    assert!(w.events.is_empty());
    w.seconds(2);
    assert!(matches!(w.take_events()[..], [Event::Closed { why: Why::Slow, .. }]));
    assert_eq!(seen(w.sent.last().unwrap()).flags, "RST ACK");
    assert_eq!(w.streams.connections(), (0, 0));
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-too-slow", 1)]);
}

#[test]
fn rfc9293_3_7_1_segments_are_no_larger_than_the_other_end_takes_and_ours_are_told() {
    let mut w = World::new(&settings());
    let mut peer = Peer::new(1);
    let syn = peer.packet(&tcp(peer.port, 53).seq(peer.seq).syn().options(&[1, 2, 4, 2, 24]));
    w.receive(&syn).unwrap();
    let answer = w.sent[0].clone();
    // RFC 6691 2, RFC 8200 5: 1280 less the headers.
    assert_eq!(answer[60..], [2, 4, 4, 196]);
    let told = seen(&answer);
    (peer.seq, peer.ack) = (told.ack, told.seq.wrapping_add(1));
    let conn = peer.conn(&mut w);
    w.sent.clear();
    w.send(conn, &message(1, 4000)).unwrap();
    let sizes: Vec<usize> = w.sent.iter().map(|p| seen(p).data).collect();
    assert_eq!((sizes.iter().max(), sizes.iter().sum::<usize>()), (Some(&536), 4002));
    // Over IPv4 the header is shorter, and routers may fragment (RFC 791 3.2).
    let syn = ip4("198.51.100.9", "192.0.2.53").tcp(&tcp(7, 53).syn());
    w.receive(&syn).unwrap();
    let answer = w.sent.last().unwrap();
    assert_eq!((answer[40..].to_vec(), be16(answer, 6)), (vec![2, 4, 4, 216], 0));
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-received", 1), ("dns-tcp-sent", 1)]);
}

#[test]
fn a_handle_of_a_connection_that_is_over_does_not_reach_the_one_in_its_place() {
    let mut w = World::new(&Tcp { connections: 1, ..settings() });
    let mut first = Peer::open(1 << 12, &mut w);
    let old = first.conn(&mut w);
    w.receive(&first.say(&tcp(first.port, 53).seq(first.seq).rst())).unwrap();
    let mut second = Peer::open(2 << 12, &mut w);
    w.take_events();
    let new = second.conn(&mut w);
    assert_eq!((old.slot, old == new), (new.slot, false));
    assert_eq!(w.send(old, &message(1, 20)), Err(SendError::Closed));
    w.with(|s, now, out| s.close(old, now, out));
    w.with(|s, now, out| s.unanswered(old, now, out));
    w.send(new, &message(1, 20)).unwrap();
    w.assert_counted(&[
        ("dns-tcp-accepted", 2),
        ("dns-tcp-peer-reset", 1),
        ("dns-tcp-received", 2),
        ("dns-tcp-sent", 1),
    ]);
}

#[test]
fn rfc4007_4_equal_link_local_addresses_on_two_networks_are_two_clients() {
    let mut w = World::new(&settings());
    let two = Egress::new(IfId(1), Via::Ip6("fe80::9".parse().unwrap()));
    let mut peer = Peer { address: "fe80::9".to_owned(), ..Peer::new(1) };
    let ack = peer.greet(&mut w);
    let elsewhere = w.with(|s, now, out| s.receive(&ack, true, two, now, out));
    assert_eq!(elsewhere, Err(DropReason::DnsTcpNoConnection));
    w.receive(&ack).unwrap();
    peer.write(&mut w, &framed(&message(1, 20)));
    let events = w.take_events();
    let [Event::Message { remote: SocketAddr::V6(remote), .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((remote.scope_id(), remote.port()), (1, peer.port));
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-received", 1)]);
}

#[test]
fn what_cannot_be_a_segment_is_dropped_for_its_reason() {
    use DropReason as D;
    let mut w = World::new(&settings());
    let peer = Peer::new(1);
    let syn = peer.syn();
    let to = |src: &str, dst: &str| ip6(src, dst).tcp(&tcp(5, 53).syn());
    let with = |s: Segment| peer.say(&s);
    let rows: Vec<(&str, Vec<u8>, D)> = vec![
        ("nothing", vec![], D::DnsTcpMalformed),
        ("no IP", poke(syn.clone(), 0, &[0x50]), D::DnsTcpMalformed),
        ("cut", syn[..59].to_vec(), D::DnsTcpMalformed),
        ("another protocol", poke(syn.clone(), 6, &[17]), D::DnsTcpMalformed),
        ("a header of 16 octets", poke(syn.clone(), 52, &[0x40]), D::DnsTcpMalformed),
        ("a header that is longer than all", poke(syn.clone(), 52, &[0xf0]), D::DnsTcpMalformed),
        ("a wrong checksum", poke(syn.clone(), 44, &[1, 2, 3, 4]), D::DnsTcpBadChecksum),
        ("from all", to("ff02::1", "2001:db8:64::53"), D::DnsTcpMalformed),
        ("from nobody", to("::", "2001:db8:64::53"), D::DnsTcpMalformed),
        ("from itself", to("::1", "2001:db8:64::53"), D::DnsTcpMalformed),
        ("to all", to("2001:db8::1", "ff02::1"), D::DnsTcpMalformed),
        ("SYN and FIN", with(tcp(5, 53).syn().fin()), D::DnsTcpMalformed),
        ("SYN and RST", with(tcp(5, 53).syn().rst()), D::DnsTcpMalformed),
        ("from port 0", with(tcp(0, 53).syn()), D::DnsTcpMalformed),
        ("to port 0", with(tcp(5, 0).syn()), D::DnsTcpMalformed),
        (
            "from where it goes to (RFC 9293 3.10.7.2)",
            ip6("2001:db8:64::53", "2001:db8:64::53").tcp(&tcp(53, 53).syn()),
            D::DnsTcpMalformed,
        ),
        (
            "a fragment",
            ip6("2001:db8:64::1", "2001:db8:64::53")
                .fragment(0, true, 7)
                .tcp(&tcp(5, 53).syn().payload(&[0; 4])),
            D::LocalFragment,
        ),
        (
            "an IPv4 fragment",
            ip4("198.51.100.9", "192.0.2.53").fragment(0, true).tcp(&tcp(5, 53).syn().payload(&[0; 4])),
            D::LocalFragment,
        ),
        ("IPv4 from all", ip4("255.255.255.255", "192.0.2.53").tcp(&tcp(5, 53).syn()), D::DnsTcpMalformed),
    ];
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for (what, packet, want) in rows {
        assert_eq!(w.receive(&packet), Err(want), "{what}");
        *counted.entry(format!("drop.{}", want.name())).or_default() += 1;
    }
    assert!(w.sent.is_empty());
    let counted: Vec<(&str, u64)> = counted.iter().map(|(k, n)| (k.as_str(), *n)).collect();
    w.assert_counted(&counted);
    // RFC 6946 4, RFC 8200 4.6: these are as good as others.
    let atomic = ip6("2001:db8:64::1", "2001:db8:64::53").fragment(0, false, 7).tcp(&tcp(5, 53).syn());
    let padded = ip6("2001:db8:64::1", "2001:db8:64::53").dest_options(&[]).tcp(&tcp(6, 53).syn());
    for packet in [atomic, padded] {
        w.receive(&packet).unwrap();
    }
    assert_eq!(w.sent.len(), 2);
}

#[test]
fn a_connection_costs_the_memory_that_is_stated_and_there_are_as_many_as_allowed() {
    let many = Tcp { connections: 2000, per_client: 2000, ..settings() };
    let mut w = World::new(&many);
    for n in 0..2000 {
        let mut peer = Peer::open(n << 12 | 1, &mut w);
        // Half a question of the longest kind.
        peer.write(&mut w, &[15, 255]);
        peer.write(&mut w, &[0; 1200]);
    }
    assert_eq!(w.streams.connections(), (2000, 0));
    let each = w.streams.octets() / 2000;
    assert!((10_000..=SERVER_OCTETS - 4096).contains(&each), "{each}");
    // Nothing is due: looking for what is finds that at once.
    let due = w.streams.next_deadline().unwrap();
    assert!(due > w.now);
    w.seconds(30);
    assert_eq!((w.streams.connections(), w.streams.octets()), ((0, 0), 0));
    w.streams.assert_consistent();
    assert_eq!(w.streams.next_deadline(), None);
    w.assert_counted(&[("dns-tcp-accepted", 2000), ("dns-tcp-too-slow", 2000)]);
}
