//! The mapping log: what workers write (RFC 6888 4, RFC 8158 4).

mod common;

use causeway_core::{Counter, DropReason, Duration};
use causeway_nat64::{Log, LogEvent, LogOptions, LogRecord, Options};
use causeway_testkit::{ip4, ip6, tcp};
use common::*;
use std::net::Ipv4Addr;
use std::sync::Arc;

const ALL: LogOptions = LogOptions { blocks: true, mappings: true, sessions: true, destinations: true };

/// A gateway with a log, and the log.
fn logging(log: LogOptions) -> (Gateway, Arc<Log>) {
    let mut g = Gateway::with(Options { log, ..options() });
    let log = Arc::new(Log::new(100));
    g.nat.set_log(Arc::clone(&log));
    (g, log)
}

fn taken(log: &Log) -> Vec<LogRecord> {
    std::iter::from_fn(|| log.take()).collect()
}

fn udp(to: u16) -> Vec<u8> {
    ip6(VM1, SERVER6).udp(4000, to, b"x")
}

/// What a mapping's record says.
fn mapping(g: &Gateway, event: LogEvent, protocol: u8, out: (Ipv4Addr, u16)) -> LogRecord {
    LogRecord {
        at: g.rig.now,
        event,
        protocol,
        src6: v6(VM1).to_bits(),
        src_port: 4000,
        out4: out.0.to_bits(),
        out_port: out.1,
        last_port: 0,
        remote4: 0,
        remote_port: 0,
        prefix: 0,
    }
}

fn session(
    g: &Gateway,
    event: LogEvent,
    protocol: u8,
    out: (Ipv4Addr, u16),
    remote: (&str, u16),
) -> LogRecord {
    LogRecord { remote4: v4(remote.0).to_bits(), remote_port: remote.1, ..mapping(g, event, protocol, out) }
}

#[test]
fn rfc8158_4_each_session_and_mapping_is_logged_once_when_it_begins_and_once_when_it_ends() {
    let (mut g, log) = logging(ALL);
    let out = g.open(&udp(53));
    assert_eq!(
        taken(&log),
        [
            mapping(&g, LogEvent::MappingCreated, 17, out),
            session(&g, LogEvent::SessionCreated, 17, out, (SERVER, 53)),
        ]
    );
    // A second destination is a session of the same mapping.
    g.rig.advance(Duration::from_secs(7));
    g.open(&udp(54));
    assert_eq!(taken(&log), [session(&g, LogEvent::SessionCreated, 17, out, (SERVER, 54))]);
    // Packets of sessions that are there are no event, in either direction.
    for _ in 0..5 {
        g.open(&udp(53));
        assert!(matches!(g.four(&ip4(SERVER, out.0).udp(53, out.1, b"y")), Fate::Sent(..)));
    }
    assert_eq!(taken(&log), []);
    g.pass(Duration::from_secs(400));
    let ended = taken(&log);
    assert_eq!(ended.len(), 3);
    for port in [53, 54] {
        assert!(ended.contains(&session(&g, LogEvent::SessionEnded, 17, out, (SERVER, port))), "{ended:?}");
    }
    assert_eq!(ended[2], mapping(&g, LogEvent::MappingEnded, 17, out), "after its last session");
    let c = &g.rig.counters;
    assert_eq!((c.get(Counter::Nat64SessionsCreated), c.get(Counter::Nat64SessionsEnded)), (2, 2));
    assert_eq!((c.get(Counter::Nat64MappingsCreated), c.get(Counter::Nat64MappingsEnded)), (1, 1));
    assert_eq!(log.lost(), 0);
}

#[test]
fn rfc8158_4_a_session_from_outside_is_logged_with_who_began_it() {
    let (mut g, log) = logging(ALL);
    let out = g.open(&udp(53));
    taken(&log);
    assert!(matches!(g.four(&ip4(CLIENT, out.0).udp(9999, out.1, b"hello")), Fate::Sent(..)));
    assert_eq!(taken(&log), [session(&g, LogEvent::SessionCreated, 17, out, (CLIENT, 9999))]);
    // What gets no session is not logged.
    assert_eq!(g.four(&ip4(CLIENT, out.0).udp(1, out.1 ^ 1, b"")).dropped(), DropReason::Nat64NoBib);
    assert_eq!(taken(&log), []);
}

#[test]
fn rfc8158_4_6_protocols_are_told_apart() {
    let (mut g, log) = logging(ALL);
    let t = g.open(&ip6(VM1, SERVER6).tcp(&tcp(4000, 80).syn()));
    let i = g.open(&ip6(VM1, SERVER6).echo_request(4000, 1, b""));
    let got = taken(&log);
    assert_eq!(got[1], session(&g, LogEvent::SessionCreated, 6, t, (SERVER, 80)));
    assert_eq!(got[2], mapping(&g, LogEvent::MappingCreated, 1, i));
    assert_eq!((got[3].event, got[3].protocol, got[3].out_port), (LogEvent::SessionCreated, 1, i.1));
}

#[test]
fn rfc6888_4_req_12_no_destination_unless_it_is_asked_for() {
    let (mut g, log) = logging(LogOptions { destinations: false, ..ALL });
    let out = g.open(&udp(53));
    g.pass(Duration::from_secs(400));
    let got = taken(&log);
    assert_eq!(got.len(), 4);
    for r in got {
        assert_eq!((r.remote4, r.remote_port, r.prefix), (0, 0, 0), "{r:?}");
        assert_eq!((r.out4, r.out_port), (out.0.to_bits(), out.1));
    }
}

#[test]
fn what_is_not_wanted_is_not_written() {
    use LogEvent::{MappingCreated, MappingEnded, SessionCreated, SessionEnded};
    let none = LogOptions::default();
    let cases: [(LogOptions, &[LogEvent]); 4] = [
        (none, &[]),
        (LogOptions { blocks: true, ..none }, &[]),
        (LogOptions { mappings: true, ..none }, &[MappingCreated, MappingEnded]),
        (LogOptions { sessions: true, ..none }, &[SessionCreated, SessionEnded]),
    ];
    for (options, wanted) in cases {
        let (mut g, log) = logging(options);
        g.open(&udp(53));
        g.pass(Duration::from_secs(400));
        let events: Vec<LogEvent> = taken(&log).iter().map(|r| r.event).collect();
        assert_eq!(events, wanted, "{options:?}");
        assert_eq!(g.rig.counters.get(Counter::Nat64SessionsEnded), 1);
    }
}

#[test]
fn a_full_log_loses_records_counts_them_and_delays_nobody() {
    let (mut g, _) = logging(LogOptions { sessions: true, ..LogOptions::default() });
    let log = Arc::new(Log::new(10));
    g.nat.set_log(Arc::clone(&log));
    for to in 1..=25 {
        g.open(&udp(to));
    }
    assert_eq!((g.sessions(), log.waiting(), log.lost()), (25, 10, 15));
    // The oldest are kept, in order.
    let ports: Vec<u16> = taken(&log).iter().map(|r| r.src_port).collect();
    assert_eq!(ports, [4000; 10]);
    g.open(&udp(26));
    assert_eq!((log.waiting(), log.lost()), (1, 15));
}

#[test]
fn a_session_that_finds_no_room_is_not_logged() {
    let mut g = Gateway::sized(Options { log: ALL, ..options() }, 8);
    let log = Arc::new(Log::new(20_000));
    g.nat.set_log(Arc::clone(&log));
    let mut refused = 0;
    for port in 1..5000 {
        refused += u32::from(matches!(g.six(&ip6(VM1, SERVER6).udp(port, 53, b"")), Fate::Dropped(_)));
    }
    assert!(refused > 0);
    let got = taken(&log);
    let count = |event| got.iter().filter(|r| r.event == event).count();
    let c = &g.rig.counters;
    assert_eq!(count(LogEvent::SessionCreated) as u64, c.get(Counter::Nat64SessionsCreated));
    assert_eq!(count(LogEvent::MappingCreated) as u64, c.get(Counter::Nat64MappingsCreated));
    assert_eq!(count(LogEvent::SessionCreated), g.sessions());
    // All that began ends.
    g.pass(Duration::from_secs(400));
    g.sweep();
    let got = [got, taken(&log)].concat();
    let count = |event| got.iter().filter(|r| r.event == event).count();
    assert_eq!(count(LogEvent::SessionCreated), count(LogEvent::SessionEnded));
    assert_eq!(count(LogEvent::MappingCreated), count(LogEvent::MappingEnded));
    assert_eq!((g.sessions(), g.mappings()), (0, 0));
}
