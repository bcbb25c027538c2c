//! From the workers' logs to sockets and lines.

use super::*;
use crate::testing::FakeGateway;
use causeway_nat64::{LogOptions, Options};
use std::net::UdpSocket;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

const LAB: &str = include_str!("../../testing/gateway.toml");
const ALL: LogOptions = LogOptions { blocks: true, mappings: true, sessions: true, destinations: true };
const S: Duration = Duration::from_secs(1);
/// Wall time when the workers' clock shows 1 s.
const WALL: Duration = Duration::from_millis(1_700_000_001_500);

fn config(log: &str) -> Arc<Config> {
    Arc::new(Config::parse("t", &format!("{LAB}\n[nat64.log]\n{log}\n")).unwrap())
}

fn record(event: LogEvent) -> LogRecord {
    LogRecord {
        at: Instant::from_micros(400_000),
        event,
        protocol: 17,
        src6: "2001:db8:64::101".parse::<Ipv6Addr>().unwrap().to_bits(),
        src_port: 4000,
        out4: Ipv4Addr::new(203, 0, 113, 5).to_bits(),
        out_port: 2048,
        last_port: 0,
        remote4: Ipv4Addr::new(198, 51, 100, 10).to_bits(),
        remote_port: 53,
        prefix: 0,
    }
}

fn nat64(prefix: &str) -> Arc<causeway_nat64::Config> {
    let options = Options {
        prefixes: vec![prefix.parse().unwrap()],
        pool: vec!["203.0.113.0/28".parse().unwrap()],
        ..Options::default()
    };
    Arc::new(causeway_nat64::Config::new(options).unwrap())
}

struct Rig {
    gateway: FakeGateway,
    config: Arc<Config>,
    logger: NatLogger,
    counters: Counters,
    now: std::time::Instant,
}

impl Rig {
    fn new(log: &str) -> Self {
        let gateway = FakeGateway::new(0);
        gateway.now_us.store(1_000_000, Ordering::Relaxed);
        *gateway.nat64.lock().unwrap() = Some(nat64("2001:db8:64:ff9b::/96"));
        let config = config(log);
        let logger = NatLogger::new(Arc::clone(&config));
        Self { gateway, config, logger, counters: Counters::new(), now: std::time::Instant::now() }
    }

    fn turn(&mut self) -> Left {
        let Self { gateway, config, logger, counters, now } = self;
        logger.turn(config, Some(gateway), counters, *now, WALL)
    }

    fn count(&self) -> [u64; 4] {
        use Counter::{IpfixRecordsLost, IpfixRecordsSent, Nat64LogLost, Nat64LogRecords};
        [Nat64LogRecords, Nat64LogLost, IpfixRecordsSent, IpfixRecordsLost].map(|c| self.counters.get(c))
    }
}

/// Runs something and gives the JSON lines that it logged.
fn lines(f: impl FnOnce()) -> Vec<serde_json::Value> {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(b);
            Ok(b.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, f);
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn collector() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = format!("\"{}\"", socket.local_addr().unwrap());
    (socket, address)
}

fn messages(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut b = [0; 2000];
    std::iter::from_fn(|| socket.recv(&mut b).ok().map(|n| b[..n].to_vec())).collect()
}

#[test]
fn rfc8158_4_3_events_have_the_numbers_of_the_rfc() {
    let numbers = [
        (LogEvent::SessionCreated, 6),
        (LogEvent::SessionEnded, 7),
        (LogEvent::MappingCreated, 10),
        (LogEvent::MappingEnded, 11),
        (LogEvent::BlockGiven, 16),
        (LogEvent::BlockReturned, 17),
    ];
    for (event, number) in numbers {
        assert_eq!(Kind::of(event).number(), number, "{event:?}");
    }
    assert_eq!(Kind::AddressesExhausted.number(), 3);
    assert_eq!((Kind::TooManySessions.number(), Kind::TooManySessions.quota()), (13, 1));
    assert_eq!((Kind::TooManyMappings.number(), Kind::TooManyMappings.quota()), (13, 2));
}

#[test]
fn events_are_lines_with_a_field_for_each_value() {
    let mut rig = Rig::new("sessions = true\ndestinations = true\nblocks = true\ntrace = true");
    let block = LogRecord {
        last_port: 2303,
        remote4: 0,
        remote_port: 0,
        protocol: 0,
        ..record(LogEvent::BlockGiven)
    };
    rig.gateway.logs[0].write(&ALL, record(LogEvent::SessionCreated));
    rig.gateway.logs[1].write(&ALL, block);
    rig.gateway.logs[1].write(&LogOptions { destinations: false, ..ALL }, record(LogEvent::MappingEnded));
    let lines = lines(|| assert_eq!(rig.turn(), Left::Nothing));
    let fields: Vec<_> = lines.iter().map(|l| l["fields"].clone()).collect();
    assert!(lines.iter().all(|l| l["target"] == "causeway::nat64" && l["level"] == "INFO"), "{lines:?}");
    // 0.6 s before the turn.
    let at_ms = 1_700_000_000_900u64;
    assert_eq!(
        fields[0],
        serde_json::json!({
            "message": "NAT64 event", "event": "session-created", "nat_event": 6, "at_ms": at_ms,
            "protocol": "udp", "src6": "2001:db8:64::101", "src_port": 4000, "out4": "203.0.113.5",
            "out_port": 2048, "dst6": "2001:db8:64:ff9b::c633:640a", "dst4": "198.51.100.10", "dst_port": 53
        })
    );
    assert_eq!(
        fields[1],
        serde_json::json!({
            "message": "NAT64 event", "event": "block-given", "nat_event": 16, "at_ms": at_ms,
            "src6": "2001:db8:64::101", "out4": "203.0.113.5", "first_port": 2048, "last_port": 2303
        })
    );
    assert_eq!(
        fields[2],
        serde_json::json!({
            "message": "NAT64 event", "event": "mapping-ended", "nat_event": 11, "at_ms": at_ms,
            "protocol": "udp", "src6": "2001:db8:64::101", "src_port": 4000, "out4": "203.0.113.5",
            "out_port": 2048
        })
    );
    assert_eq!(rig.count(), [3, 0, 0, 0]);
}

#[test]
fn records_go_to_collectors_and_lines_are_only_written_if_wanted() {
    let (socket, address) = collector();
    let mut rig = Rig::new(&format!("mappings = true\ncollectors = [{address}]"));
    rig.gateway.logs[0].write(&ALL, LogRecord { remote4: 0, ..record(LogEvent::MappingCreated) });
    let lines = lines(|| {
        assert_eq!(rig.turn(), Left::Nothing);
        rig.now += S;
        assert_eq!(rig.turn(), Left::Nothing);
    });
    assert!(lines.is_empty(), "{lines:?}");
    let got = messages(&socket);
    assert_eq!(got.len(), 3, "templates twice, and the record");
    let m = &got[2];
    // Export time; then the record: its time, its event, its host.
    assert_eq!(m[4..8], 1_700_000_001u32.to_be_bytes());
    assert_eq!((&m[16..18], &m[20..28], m[28]), (&[1, 2][..], &1_700_000_000_900u64.to_be_bytes()[..], 10));
    assert_eq!(rig.count(), [1, 0, 1, 0]);
}

#[test]
fn wall_time_that_is_set_is_followed() {
    let mut source = Source::default();
    let gateway = FakeGateway::new(0);
    gateway.now_us.store(5_000_000, Ordering::Relaxed);
    source.look(&gateway, 100_000_000);
    let r = LogRecord { at: Instant::from_micros(4_999_000), ..record(LogEvent::SessionEnded) };
    assert_eq!(source.event(&r).at_ms, 99_999);
    source.look(&gateway, 200_000_000);
    assert_eq!(source.event(&r).at_ms, 199_999);
    // A clock of before 1970 is no reason to fail.
    source.look(&gateway, 0);
    assert_eq!(source.event(&r).at_ms, 0);
}

#[test]
fn a_session_of_a_prefix_that_has_just_gone_still_says_where_it_went() {
    let gateway = FakeGateway::new(0);
    let old = nat64("2001:db8:64:ff9b::/96");
    *gateway.nat64.lock().unwrap() = Some(Arc::clone(&old));
    let mut source = Source::default();
    source.look(&gateway, 0);
    let options = Options { prefixes: vec!["2001:db8:65::/96".parse().unwrap()], ..old.options().clone() };
    *gateway.nat64.lock().unwrap() = Some(Arc::new(old.successor(options).unwrap()));
    source.look(&gateway, 0);
    let six = |prefix| {
        let r = LogRecord { prefix, ..record(LogEvent::SessionEnded) };
        source.event(&r).remote.unwrap().six.to_string()
    };
    assert_eq!(six(0), "2001:db8:64:ff9b::c633:640a");
    assert_eq!(six(1), "2001:db8:65::c633:640a");
    assert_eq!(six(200), "::");
}

#[test]
fn lost_records_are_counted_once_and_told() {
    let mut rig = Rig::new("sessions = true\ntrace = true");
    // The fake's logs have room for 64.
    for _ in 0..100 {
        rig.gateway.logs[1].write(&ALL, record(LogEvent::SessionCreated));
    }
    let said = lines(|| {
        rig.turn();
        rig.turn();
    });
    assert_eq!(rig.count(), [64, 36, 0, 0]);
    let warnings: Vec<_> = said.iter().filter(|l| l["level"] == "WARN").collect();
    assert!(matches!(&warnings[..], [w] if w["fields"]["lost"] == 36), "{warnings:?}");
}

#[test]
fn a_turn_is_bounded() {
    let mut rig = Rig::new("sessions = true");
    rig.gateway.logs[0] = Arc::new(Log::new(3 * AT_ONCE));
    for _ in 0..2 * AT_ONCE + 1 {
        rig.gateway.logs[0].write(&ALL, record(LogEvent::SessionCreated));
    }
    assert_eq!((rig.turn(), rig.count()[0]), (Left::More, AT_ONCE as u64));
    assert_eq!((rig.turn(), rig.count()[0]), (Left::More, 2 * AT_ONCE as u64));
    assert_eq!((rig.turn(), rig.count()[0]), (Left::Nothing, 2 * AT_ONCE as u64 + 1));
}

#[test]
fn what_workers_wrote_last_is_sent_when_the_gateway_is_gone() {
    let (socket, address) = collector();
    let mut rig = Rig::new(&format!("sessions = true\ncollectors = [{address}]"));
    rig.turn();
    rig.gateway.logs[1].write(&ALL, record(LogEvent::SessionEnded));
    let Rig { config, logger, counters, now, .. } = &mut rig;
    logger.turn(config, None, counters, *now, WALL);
    assert_eq!(messages(&socket).len(), 3, "at once");
    assert_eq!(rig.count(), [1, 0, 1, 0]);
}

#[test]
fn a_reload_sends_what_there_is_to_the_old_collectors_first() {
    let ((old, to_old), (new, to_new)) = (collector(), collector());
    let mut rig = Rig::new(&format!("sessions = true\ncollectors = [{to_old}]"));
    rig.gateway.logs[0].write(&ALL, record(LogEvent::SessionCreated));
    rig.turn();
    rig.config = config(&format!("sessions = true\ncollectors = [{to_new}]"));
    rig.turn();
    assert_eq!(messages(&old).len(), 3);
    rig.gateway.logs[0].write(&ALL, record(LogEvent::SessionEnded));
    rig.turn();
    rig.now += S;
    rig.turn();
    assert_eq!((messages(&old).len(), messages(&new).len()), (0, 3));
    assert_eq!(rig.count(), [2, 0, 2, 0]);
}

#[test]
fn rfc8158_5_2_exhaustion_is_told_once_in_a_while() {
    let mut rig = Rig::new("exhaustion = true\ntrace = true");
    let c = Arc::clone(&rig.gateway.counters[1]);
    c.as_ref().drop(DropReason::Nat64PoolFull);
    let events = |lines: Vec<serde_json::Value>| -> Vec<String> {
        lines.iter().map(|l| l["fields"]["event"].as_str().unwrap_or("?").to_owned()).collect()
    };
    assert_eq!(
        events(lines(|| assert_eq!(rig.turn(), Left::Nothing))),
        Vec::<String>::new(),
        "of before, perhaps long ago"
    );
    let mut said = Vec::new();
    // A thousand drops in 12 seconds.
    for n in 0..120 {
        c.as_ref().drop(DropReason::Nat64PoolFull);
        if n == 60 {
            c.as_ref().drop(DropReason::Nat64TableFull);
        }
        rig.now += S / 10;
        said.extend(events(lines(|| assert_eq!(rig.turn(), Left::Nothing))));
    }
    assert_eq!(said, ["addresses-exhausted", "too-many-sessions", "addresses-exhausted"]);
    rig.now += 60 * S;
    assert_eq!(events(lines(|| assert_eq!(rig.turn(), Left::Nothing))), Vec::<String>::new(), "nothing new");
    // The fuller part of the table is the one that is full.
    c.add(Counter::Nat64MappingsCreated, 5);
    c.as_ref().drop(DropReason::Nat64TableFull);
    let said = lines(|| assert_eq!(rig.turn(), Left::Nothing));
    assert_eq!(said[0]["fields"]["event"], "too-many-mappings");
    assert_eq!(said[0]["fields"]["limit"], rig.config.resolved.mappings);
    rig.config = config("sessions = true\ntrace = true");
    rig.now += 60 * S;
    c.as_ref().drop(DropReason::Nat64PoolFull);
    assert_eq!(events(lines(|| assert_eq!(rig.turn(), Left::Nothing))), Vec::<String>::new(), "off");
    rig.config = config("exhaustion = true\ntrace = true");
    let again = lines(|| assert_eq!(rig.turn(), Left::Nothing));
    assert_eq!(events(again), Vec::<String>::new(), "what happened while it was off is not told later");
    c.as_ref().drop(DropReason::Nat64PoolFull);
    assert_eq!(events(lines(|| assert_eq!(rig.turn(), Left::Nothing))), ["addresses-exhausted"]);
}
