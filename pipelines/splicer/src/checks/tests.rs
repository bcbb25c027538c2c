//! Checks of servers that answer, refuse, are silent, or say something else.

use super::*;
use crate::site::{Check, Health, Servers};
use causeway_core::{HeapSource, IfId};
use causeway_flowtable::{Config as TableConfig, FlowTable, Worker};
use causeway_testkit::{Rig, Tcp, ip6, tcp};
use causeway_wire::l4::tcp::{ACK, FIN, RST, SYN};
use std::net::Ipv6Addr;

const OWN: &str = "2001:db8:64::1";
const OTHER: &str = "2001:db8:65::1";
const VM1: &str = "2001:db8:64::101";

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Answers a hello with these octets.
    Says(&'static [u8]),
    /// The same, an octet in each segment.
    Drips(&'static [u8]),
    Refuses,
    Silent,
    /// Opens, and answers to nothing.
    Stalls,
    /// Opens, and closes when it is spoken to.
    Closes,
}

const ALERT: &[u8] = b"\x15\x03\x03\x00\x02\x02\x28";

fn health(check: Check) -> Health {
    Health { check, interval: Duration::from_secs(5), timeout: Duration::from_secs(2), rise: 2, fall: 3 }
}

struct World {
    rig: Rig,
    worker: Worker,
    servers: Servers,
    checks: Checks,
    config: Config,
    does: Does,
    /// What the checker has sent: control bits and octets of data.
    seen: Vec<(u8, usize)>,
}

impl World {
    fn new(does: Does) -> Self {
        let table = FlowTable::new(&TableConfig {
            sessions: 512,
            mappings: 0,
            spliced: 0,
            workers: 1,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        })
        .unwrap();
        let servers = Servers::new();
        let checks = Checks::new(servers.fresh(), [3; 32]);
        let sources = [OTHER, OWN].map(|a| Some(a.parse().unwrap()));
        let config = Config { sources: sources.to_vec(), ..Config::default() };
        let worker = table.worker(0).unwrap();
        Self { rig: Rig::lab(), worker, servers, checks, config, does, seen: Vec::new() }
    }

    fn answers(&self, packet: &[u8]) -> Vec<Vec<u8>> {
        let s = segment::parse(packet, IfId(0)).unwrap();
        let (SocketAddr::V6(to), SocketAddr::V6(from)) = (s.ends.local, s.ends.remote) else { panic!() };
        assert_eq!(*from.ip(), OWN.parse::<Ipv6Addr>().unwrap(), "the nearest of the sources");
        let segment = |f: &dyn Fn(Tcp) -> Tcp| {
            ip6(*to.ip(), *from.ip()).tcp(&f(tcp(to.port(), from.port()).ack(s.end()).window(5000)))
        };
        if self.does == Does::Silent || s.head.has(RST) {
            return vec![];
        }
        if s.head.has(SYN) {
            return match self.does {
                Does::Refuses => vec![segment(&|t| t.rst())],
                _ => vec![segment(&|t| t.syn().seq(500).options(&[2, 4, 5, 160]))],
            };
        }
        if s.data == 0 {
            return vec![];
        }
        match self.does {
            Does::Says(octets) => vec![segment(&|t| t.seq(501).payload(octets))],
            Does::Drips(octets) => (0u32..)
                .zip(octets.chunks(1))
                .map(|(n, octet)| segment(&|t| t.seq(501 + n).payload(octet)))
                .collect(),
            Does::Closes => vec![segment(&|t| t.seq(501).fin())],
            _ => vec![segment(&|t| t.seq(501))],
        }
    }

    fn give(&mut self, packet: &[u8]) -> Option<Verdict> {
        let packet = self.rig.packet("tenant0", packet);
        let guard = self.worker.enter();
        let key = {
            let s = segment::parse(packet.bytes(), IfId(0)).ok()?;
            let (prefix, _) = crate::splice::number_of(
                &self.config,
                match s.ends.local.ip() {
                    IpAddr::V6(a) => a,
                    IpAddr::V4(_) => return None,
                },
            )?;
            let IpAddr::V6(from) = s.ends.remote.ip() else { return None };
            InsideKey {
                src6: from.to_bits(),
                dst4: 0,
                src_port: s.ends.remote.port(),
                dst_port: s.ends.local.port(),
                protocol: PROTO_TCP,
                prefix,
            }
        };
        let session = guard.lookup(&key).hit()?;
        assert!(Checks::is_one(&session));
        Some(self.checks.receive(&mut self.rig.ctx(), &guard, &session, &packet))
    }

    fn turn(&mut self) {
        self.rig.source = HeapSource::new(1000);
        let guard = self.worker.enter();
        self.checks.tick(&mut self.rig.ctx(), &guard, &self.config);
        drop(guard);
        for _ in 0..20 {
            let sent = self.rig.sent();
            if sent.is_empty() {
                return;
            }
            for packet in sent {
                let s = segment::parse(&packet.octets, IfId(0)).unwrap();
                self.seen.push((s.head.flags & (SYN | ACK | FIN | RST), s.data));
                for answer in self.answers(&packet.octets) {
                    let _ = self.give(&answer);
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 10 {
            self.rig.advance(Duration::from_millis(10));
            self.turn();
        }
    }

    fn sessions(&mut self) -> usize {
        let guard = self.worker.enter();
        let mut count = 0;
        guard.sessions(0, 512, |s| count += usize::from(s.is_live()));
        count
    }

    fn server(&mut self, check: Check) -> Arc<Server> {
        self.servers.get(VM1.parse().unwrap(), &health(check))
    }
}

#[test]
fn rfc9293_3_6_a_tcp_check_opens_and_resets() {
    let mut w = World::new(Does::Stalls);
    let server = w.server(Check::Tcp(80));
    w.run(Duration::from_secs(2));
    assert!(server.is_up());
    assert_eq!(w.seen.first(), Some(&(SYN, 0)));
    assert!(w.seen.last().is_some_and(|s| s.0 & RST != 0), "{:?}", w.seen);
    assert_eq!((w.sessions(), w.checks.visits.len()), (0, 0));
    w.rig.assert_counted(&[("splice-checks", 1)]);
    w.run(Duration::from_secs(10));
    w.rig.assert_counted(&[("splice-checks", 2)]);
}

#[test]
fn rise_and_fall_of_a_server_that_refuses_for_a_while() {
    let mut w = World::new(Does::Refuses);
    let server = w.server(Check::Tcp(80));
    w.run(Duration::from_secs(2));
    assert!(!server.is_up(), "the first check decides");
    w.rig.assert_counted(&[("splice-checks", 1), ("splice-servers-down", 1)]);
    w.does = Does::Stalls;
    w.run(Duration::from_secs(5));
    assert!(!server.is_up(), "one success is not two");
    w.run(Duration::from_secs(5));
    assert!(server.is_up());
    w.rig.assert_counted(&[("splice-checks", 2), ("splice-servers-up", 1)]);
    w.does = Does::Refuses;
    w.run(Duration::from_secs(10));
    assert!(server.is_up(), "two failures are not three");
    w.run(Duration::from_secs(5));
    assert!(!server.is_up());
    w.rig.assert_counted(&[("splice-checks", 3), ("splice-servers-down", 1)]);
    assert_eq!((w.sessions(), w.checks.visits.len()), (0, 0));
}

#[test]
fn a_tls_check_wants_a_record_of_tls() {
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    const LONG: &[u8] = &[22; 1000];
    for (does, up) in [
        (Does::Says(ALERT), true),
        (Does::Says(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76"), true),
        (Does::Drips(ALERT), true),
        (Does::Says(HTTP), false),
        (Does::Drips(HTTP), false),
        (Does::Says(LONG), false),
        (Does::Says(b"\x16\x03"), false),
        (Does::Says(b"\x16\x03\x03\x00\x00"), false),
        (Does::Stalls, false),
        (Does::Closes, false),
        (Does::Refuses, false),
        (Does::Silent, false),
    ] {
        let mut w = World::new(does);
        let server = w.server(Check::Tls(443));
        w.run(Duration::from_millis(3200));
        assert_eq!(server.is_up(), up, "{does:?}");
        assert_eq!((w.sessions(), w.checks.visits.len()), (0, 0), "{does:?}");
        let down = [("splice-checks", 1), ("splice-servers-down", 1)];
        w.rig.assert_counted(&down[..if up { 1 } else { 2 }]);
        // RFC 9293 3.9.1: what was opened is reset, so that it hangs nowhere.
        if !matches!(does, Does::Refuses | Does::Silent) {
            assert!(w.seen.iter().any(|s| s.0 & RST != 0), "{does:?}: {:?}", w.seen);
        }
    }
}

#[test]
fn rfc5961_spoofed_segments_to_a_checks_port_decide_nothing() {
    let mut w = World::new(Does::Silent);
    let server = w.server(Check::Tcp(80));
    while w.checks.visits.is_empty() {
        w.run(Duration::from_millis(10));
    }
    let (port, seq) = (w.checks.visits[0].key.dst_port, 0x1234_5678);
    let from = |f: &dyn Fn(Tcp) -> Tcp| ip6(VM1, OWN).tcp(&f(tcp(80, port).seq(seq).window(100)));
    for packet in [
        from(&|t| t.rst()),
        from(&|t| t.rst().ack(99)),
        from(&|t| t.syn().ack(99)),
        from(&|t| t.ack(99).payload(b"x")),
        from(&|t| t.fin().ack(99)),
        from(&|t| t.options(&[3, 255, 1, 1])),
        from(&|t| t.options(&[5, 0, 2, 0])),
    ] {
        let verdict = w.give(&packet);
        assert!(matches!(verdict, Some(Verdict::Consume)), "{verdict:?}");
        w.turn();
        assert_eq!((w.checks.visits.len(), server.is_up()), (1, true));
    }
    // A wrong checksum.
    let mut bad = from(&|t| t.rst());
    let last = bad.len() - 2;
    bad[last] ^= 1;
    let packet = w.rig.packet("tenant0", &bad);
    let guard = w.worker.enter();
    let session = guard.lookup(&w.checks.visits[0].key).hit().unwrap();
    let verdict = w.checks.receive(&mut w.rig.ctx(), &guard, &session, &packet);
    assert_eq!(verdict, Verdict::Drop(DropReason::SpliceBadSegment));
    drop(guard);
    // Its time ends it.
    w.run(Duration::from_millis(2100));
    assert_eq!((w.checks.visits.len(), w.sessions(), server.is_up()), (0, 0, false));
}

#[test]
fn that_there_is_no_room_for_a_check_says_nothing_of_a_server() {
    let mut w = World::new(Does::Stalls);
    let server = w.server(Check::Tcp(80));
    w.run(Duration::from_secs(2));
    assert!(server.is_up());
    // Somebody fills the flow table.
    let fill = |w: &mut World| {
        let guard = w.worker.enter();
        for n in 0..20_000 {
            let key = InsideKey {
                src6: n,
                dst4: 0,
                src_port: 1,
                dst_port: 1,
                protocol: PROTO_TCP,
                prefix: OWN_ADDRESS,
            };
            let _ = guard.create_single(&NewSession {
                key: NewKey::Inside(key),
                kind: Kind::Local,
                owner: 0,
                subscriber: 0,
                plan_generation: 0,
                state: 0,
                flags: 0,
                tick: Tick::at(w.rig.now),
                aux: 0,
            });
        }
    };
    fill(&mut w);
    w.run(Duration::from_secs(60));
    assert!(server.is_up());
    w.rig.assert_counted(&[("splice-checks", 1)]);
    // Nor that there is no address to come from.
    let mut w = World::new(Does::Stalls);
    w.config.sources = vec![None];
    let server = w.server(Check::Tcp(80));
    w.run(Duration::from_secs(60));
    assert!(server.is_up());
    // It is checked as soon as there is one.
    w.config.sources = vec![Some(OWN.parse().unwrap())];
    w.does = Does::Refuses;
    w.run(Duration::from_secs(6));
    assert!(!server.is_up());
}

#[test]
fn whoever_checks_next_finds_all_servers() {
    let mut w = World::new(Does::Refuses);
    let server = w.server(Check::Tcp(80));
    w.run(Duration::from_millis(1200));
    assert!(!server.is_up());
    // A standby forgets its checks, one under way too, and the stage is made anew.
    w.does = Does::Silent;
    while w.checks.visits.is_empty() {
        w.run(Duration::from_millis(10));
    }
    w.seen.clear();
    let guard = w.worker.enter();
    w.checks.leave(&guard);
    drop(guard);
    assert_eq!((w.sessions(), w.checks.visits.len()), (0, 0));
    w.checks = Checks::new(w.servers.fresh(), [4; 32]);
    assert!(w.rig.sent().is_empty() && w.seen.is_empty());
    w.does = Does::Stalls;
    w.run(Duration::from_secs(2));
    assert!(server.is_up(), "its first check decides again");
    // One whose site is gone is forgotten.
    drop(server);
    w.checks = Checks::new(w.servers.fresh(), [5; 32]);
    w.rig.assert_counted(&[("splice-checks", 3), ("splice-servers-down", 1)]);
    w.run(Duration::from_secs(20));
    w.rig.assert_counted(&[]);
}

#[test]
fn many_servers_are_checked_a_bounded_number_at_once() {
    let mut w = World::new(Does::Silent);
    let address = |n: u16| Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 1, n);
    let all: Vec<_> = (0..400).map(|n| w.servers.get(address(n), &health(Check::Tcp(80)))).collect();
    let mut most = 0;
    for _ in 0..400 {
        w.run(Duration::from_millis(10));
        most = most.max(w.checks.visits.len());
    }
    assert_eq!(most, UNDER_WAY);
    w.run(Duration::from_secs(5));
    assert!(all.iter().all(|s| !s.is_up()));
}
