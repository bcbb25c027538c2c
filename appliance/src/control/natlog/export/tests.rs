//! The exporter with real sockets on the loopback and time as a parameter.

use super::super::Kind;
use super::*;
use crate::config::Config;

const LAB: &str = include_str!("../../../testing/gateway.toml");

fn section(text: &str) -> NatLog {
    let config = Config::parse("t", &format!("{LAB}\n[nat64.log]\nsessions = true\n{text}\n")).unwrap();
    config.nat64.unwrap().log
}

/// A collector in a test.
struct Peer(UdpSocket);

impl Peer {
    fn new(address: &str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    fn v4() -> Self {
        Self::new("127.0.0.1:0")
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Messages that have come: sender's port, sequence number, id of the first set, octets.
    fn got(&self) -> Vec<(u16, u32, u16, usize)> {
        let mut out = Vec::new();
        let mut b = [0; 10_000];
        while let Ok((n, from)) = self.0.recv_from(&mut b) {
            assert!(n >= 20 && b[..2] == [0, 10] && usize::from(u16::from_be_bytes([b[2], b[3]])) == n);
            let sequence = u32::from_be_bytes(b[8..12].try_into().unwrap());
            out.push((from.port(), sequence, u16::from_be_bytes([b[16], b[17]]), n));
        }
        out
    }

    /// Sequence number and first set of the messages that have come.
    fn seen(&self) -> Vec<(u32, u16)> {
        self.got().into_iter().map(|(_, sequence, set, _)| (sequence, set)).collect()
    }
}

fn to(peers: &[&Peer], more: &str) -> NatLog {
    let list: Vec<String> = peers.iter().map(|p| format!("\"{}\"", p.address())).collect();
    section(&format!("collectors = [{}]\n{more}", list.join(", ")))
}

fn event(kind: Kind) -> NatEvent {
    NatEvent { src6: "2001:db8:64::101".parse().unwrap(), ..NatEvent::exhausted(kind, 1, 0) }
}

/// An exporter, its time, and what went wrong.
struct Rig {
    exporter: Exporter,
    now: Instant,
    troubles: Vec<Trouble>,
    sent: Sent,
}

impl Rig {
    fn new(log: &NatLog) -> Self {
        let (now, troubles) = (Instant::now(), Vec::new());
        Self { exporter: Exporter::new(log), now, troubles, sent: Sent::default() }
    }

    fn add(&mut self, records: usize) {
        for _ in 0..records {
            let troubles = &mut self.troubles;
            self.exporter.add(&event(Kind::SessionCreated), self.now, &mut |t| troubles.push(t));
        }
    }

    fn tick(&mut self) {
        let troubles = &mut self.troubles;
        let sent = self.exporter.tick(self.now, 1_700_000_000, &mut |t| troubles.push(t));
        self.sent.records += sent.records;
        self.sent.lost += sent.lost;
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.tick();
    }
}

const S: Duration = Duration::from_secs(1);

#[test]
fn rfc7011_8_4_templates_come_first_twice_and_again_after_the_interval() {
    let peer = Peer::v4();
    let mut r = Rig::new(&to(&[&peer], "template-interval = \"10s\""));
    r.tick();
    assert_eq!(peer.seen(), [(0, 2), (0, 2)]);
    for _ in 0..9 {
        r.pass(S);
    }
    assert_eq!(peer.seen(), []);
    r.pass(S);
    assert_eq!(peer.seen(), [(0, 2)], "also while there is nothing to say");
    assert_eq!(r.sent, Sent::default(), "templates are no records");
}

#[test]
fn rfc7011_3_1_the_sequence_number_counts_records_sent_before() {
    let peer = Peer::v4();
    let mut r = Rig::new(&to(&[&peer], ""));
    r.tick();
    peer.seen();
    r.add(3);
    r.pass(Duration::from_millis(499));
    assert_eq!(peer.seen(), [], "records share a message");
    r.pass(Duration::from_millis(1));
    assert_eq!(peer.seen(), [(0, 256)], "but not for long");
    r.add(4);
    r.pass(S);
    r.add(1);
    r.pass(S);
    assert_eq!(peer.seen(), [(3, 256), (7, 256)]);
    r.pass(60 * S);
    assert_eq!(peer.seen(), [(8, 2)], "templates do not count, but carry the number");
    assert_eq!(r.sent, Sent { records: 8, lost: 0 });
}

#[test]
fn rfc7011_10_3_3_no_message_is_larger_than_the_packet_allows_and_full_ones_leave_at_once() {
    for (octets, records) in [(512, 13), (1280, 35), (9000, 262)] {
        let peer = Peer::v4();
        let mut r = Rig::new(&to(&[&peer], &format!("packet-octets = {octets}")));
        r.tick();
        peer.seen();
        r.add(2 * records + 1);
        let got = peer.got();
        assert_eq!(got.iter().map(|g| g.1).collect::<Vec<_>>(), [0, records as u32], "{octets}");
        assert!(got.iter().all(|g| g.3 <= octets - 48 && g.3 > octets - 48 - 34), "{got:?}");
        r.pass(S);
        assert_eq!(peer.seen(), [(2 * records as u32, 256)]);
    }
}

#[test]
fn templates_come_again_after_so_many_messages() {
    let peer = Peer::v4();
    let mut r = Rig::new(&to(&[&peer], "template-messages = 3"));
    r.tick();
    peer.seen();
    for _ in 0..7 {
        r.add(1);
        r.pass(S);
    }
    let sets: Vec<u16> = peer.seen().into_iter().map(|(_, set)| set).collect();
    assert_eq!(sets, [256, 256, 256, 2, 256, 256, 256, 2, 256]);
}

#[test]
fn rfc7011_10_3_5_every_collector_gets_everything_by_ipv4_and_ipv6() {
    let (four, six) = (Peer::v4(), Peer::new("[::1]:0"));
    let mut r = Rig::new(&to(&[&four, &six], ""));
    r.tick();
    r.add(5);
    r.pass(S);
    for peer in [&four, &six] {
        assert_eq!(peer.seen(), [(0, 2), (0, 2), (0, 256)]);
    }
    assert_eq!(r.sent, Sent { records: 10, lost: 0 });
    assert!(r.troubles.is_empty(), "{:?}", r.troubles);
}

#[test]
fn a_collector_that_was_not_there_gets_templates_when_it_may_be_back() {
    let peer = Peer::v4();
    let address = peer.address();
    let mut r = Rig::new(&to(&[&peer], "template-interval = \"1h\""));
    drop(peer);
    r.tick();
    r.add(1);
    r.pass(S);
    r.add(1);
    r.pass(S);
    let peer = Peer::new(&address.to_string());
    r.pass(S);
    r.pass(S);
    let seen = peer.seen();
    assert!(!seen.is_empty() && seen.iter().all(|m| *m == (2, 2)), "two records are missing: {seen:?}");
    r.add(1);
    r.pass(S);
    assert_eq!(peer.seen(), [(2, 256)]);
    r.pass(60 * S);
    assert_eq!(peer.seen(), [], "it was there all the time");
}

#[test]
fn what_cannot_be_sent_is_counted_and_told() {
    // A path of the loopback's 65,536 octets takes everything; a broadcast address takes nothing.
    let log = section("collectors = [\"192.0.2.255:4739\"]");
    let mut r = Rig::new(&log);
    // Whether there is a route or not: nothing gets through, and no record is forgotten.
    r.exporter.collectors[0].to = "255.255.255.255:4739".parse().unwrap();
    r.tick();
    r.add(3);
    r.pass(S);
    assert_eq!(r.sent, Sent { records: 0, lost: 3 });
    let first = r.troubles.len();
    assert!(first >= 1, "{:?}", r.troubles);
    assert_eq!(r.troubles[0].collector, "255.255.255.255:4739".parse().unwrap());
    // The socket is tried again, once a second.
    for _ in 0..10 {
        r.pass(Duration::from_millis(50));
    }
    assert_eq!(r.troubles.len(), first);
    r.pass(S);
    assert_eq!(r.troubles.len(), first + 1);
}

#[test]
fn a_reload_keeps_the_session_of_a_collector_that_stays() {
    let (a, b) = (Peer::v4(), Peer::v4());
    let mut r = Rig::new(&to(&[&a], ""));
    r.tick();
    r.add(2);
    r.pass(S);
    let before = a.got();
    assert_eq!(before.len(), 3);
    r.exporter.reconfigure(&to(&[&b, &a], "packet-octets = 600"));
    r.tick();
    r.add(1);
    r.pass(S);
    let got = a.got();
    assert_eq!(got.iter().map(|g| (g.0, g.1, g.2)).collect::<Vec<_>>(), [(before[0].0, 2, 256)]);
    assert_eq!(b.seen(), [(0, 2), (0, 2), (0, 256)], "a session of its own");
    // Another observation domain is another session for everybody.
    r.exporter.reconfigure(&to(&[&a], "observation-domain = 7"));
    r.tick();
    r.add(1);
    r.pass(S);
    assert_eq!(a.seen(), [(0, 2), (0, 2), (0, 256)]);
    assert_eq!(b.seen(), []);
    r.exporter.reconfigure(&section(""));
    r.add(1);
    r.pass(S);
    assert!(!r.exporter.is_on() && a.seen().is_empty());
    assert_eq!(r.sent, Sent { records: 2 + 2 + 1, lost: 0 });
}
