//! Control as a whole: a fake gateway behind a real socket, and the real client.

use super::client::{Client, ClientError};
use super::introspect::{CounterRow, MappingPage, NeighborRow, ReloadError, SessionPage};
use super::*;
use crate::config::Name;
use crate::testing::{FakeGateway, TempDir};
use causeway_core::{Event, IfId};
use causeway_wire::MacAddr;
use serde_json::Value;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Instant;

const LAB: &str = include_str!("../testing/gateway.toml");

/// A control plane of a test's own, in a folder of its own.
struct Rig {
    dir: TempDir,
    control: Option<ControlHandle>,
    gateway: Arc<FakeGateway>,
    dead: Arc<Mutex<Vec<String>>>,
}

impl Rig {
    fn text(dir: &TempDir, more: &str) -> String {
        format!("{LAB}\n{more}\n[control]\nsocket = \"{}\"\n", dir.path().join("gw.sock").display())
    }

    fn spec(dir: &TempDir, dead: &Arc<Mutex<Vec<String>>>) -> ControlSpec {
        let file = dir.path().join("gw.toml");
        let dead = Arc::clone(dead);
        ControlSpec {
            config: Arc::new(Config::load(&file).unwrap()),
            file,
            logs: Logs::foreign(),
            on_dead: Box::new(move |message| dead.lock().unwrap().push(message.to_owned())),
            sighup: false,
        }
    }

    fn with(gateway: FakeGateway, more: &str) -> Self {
        let dir = TempDir::new();
        std::fs::write(dir.path().join("gw.toml"), Self::text(&dir, more)).unwrap();
        let dead = Arc::default();
        let control = start(Self::spec(&dir, &dead)).unwrap();
        let gateway = Arc::new(gateway);
        control.attach(Arc::<FakeGateway>::clone(&gateway));
        wait_for("the gateway is ready", || control.state.is_ready());
        Self { dir, control: Some(control), gateway, dead }
    }

    fn new() -> Self {
        Self::with(FakeGateway::new(10), "")
    }

    fn client(&self) -> Client {
        Client::new(self.dir.path().join("gw.sock"))
    }

    fn get(&self, path: &str) -> Value {
        self.client().get(path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// The status and the whole answer of a call that is refused.
    fn refused(outcome: Result<Value, ClientError>) -> (u16, Value) {
        match outcome {
            Err(ClientError::Refused { status, body }) => (status, body),
            other => panic!("{other:?}"),
        }
    }

    fn rewrite(&self, from: &str, to: &str) {
        let file = self.dir.path().join("gw.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
    }
}

fn wait_for(what: &str, mut met: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !met() {
        assert!(Instant::now() < until, "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_the_gateway_tells_comes_through_the_socket() {
    let rig = Rig::new();
    assert_eq!(rig.get("/v1/ready"), serde_json::json!({ "ready": true, "name": "cw-gw" }));
    let page: SessionPage = serde_json::from_value(rig.get("/v1/sessions")).unwrap();
    assert_eq!((page.sessions, page.next), (rig.gateway.sessions.clone(), None));
    let neighbors: Vec<NeighborRow> =
        serde_json::from_value(rig.get("/v1/neighbors")["neighbors"].clone()).unwrap();
    assert_eq!(neighbors, rig.gateway.neighbors);
    assert_eq!(rig.get("/v1/ports")["ports"][0]["mac"], "02:00:00:00:00:01");
    let plan = rig.get("/v1/plan");
    assert_eq!(plan["generations"], serde_json::json!({ "newest": 1, "workers": [1, 1] }));
    assert_eq!(plan["config"]["nat64"]["pool"][0], "203.0.113.0/28");
    assert!(plan["text"].as_str().unwrap().contains("2001:db8:64:ff9b::/96"));
}

#[test]
fn counters_come_with_totals_each_workers_share_and_meaning() {
    let rig = Rig::new();
    let rows: Vec<CounterRow> = serde_json::from_value(rig.get("/v1/counters")["counters"].clone()).unwrap();
    let row = |name: &str| rows.iter().find(|r| r.name == name).unwrap();
    assert_eq!((row("rx-frames").total, &row("rx-frames").workers), (120, &vec![100, 20]));
    assert_eq!((row("drop.spoofed-source").total, &row("drop.spoofed-source").workers), (1, &vec![0, 1]));
    assert_eq!(row("drop.no-route").total, 0, "zeros are there too");
    assert!(rows.iter().all(|r| !r.doc.is_empty()));
    let all = causeway_core::Counter::ALL.len() + causeway_core::DropReason::ALL.len();
    assert_eq!(rows.len(), all);
}

#[test]
fn the_mapping_log_reaches_a_collector_and_its_counters_the_socket_and_the_last_record_is_sent_at_the_end() {
    use causeway_nat64::{LogEvent, LogOptions, LogRecord};
    let collector = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    collector.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let address = collector.local_addr().unwrap();
    let mut rig = Rig::with(
        FakeGateway::new(0),
        &format!("[nat64.log]\nmappings = true\ncollectors = [\"{address}\"]"),
    );
    let wanted = LogOptions { mappings: true, ..LogOptions::default() };
    let write = |gateway: &FakeGateway| {
        let record = LogRecord {
            at: causeway_core::Instant::ZERO,
            event: LogEvent::MappingCreated,
            protocol: 17,
            src6: 1,
            src_port: 4000,
            out4: 2,
            out_port: 2048,
            last_port: 0,
            remote4: 0,
            remote_port: 0,
            prefix: 0,
        };
        gateway.logs[1].write(&wanted, record);
    };
    let data = |sequence: u32| {
        let mut b = [0; 2000];
        loop {
            let n = collector.recv(&mut b).unwrap();
            // Not templates (set 2) but records (set 258).
            if b[16..18] == [1, 2] {
                assert_eq!((n, &b[8..12]), (54, &sequence.to_be_bytes()[..]));
                return;
            }
        }
    };
    write(&rig.gateway);
    data(0);
    let rows: Vec<CounterRow> = serde_json::from_value(rig.get("/v1/counters")["counters"].clone()).unwrap();
    let row = |name: &str| rows.iter().find(|r| r.name == name).map(|r| (r.total, r.workers.clone()));
    assert_eq!(row("nat64-log-records"), Some((1, vec![0, 0])));
    assert_eq!(row("ipfix-records-sent"), Some((1, vec![0, 0])));
    assert_eq!(
        (row("nat64-log-lost"), row("ipfix-records-lost")),
        (Some((0, vec![0; 2])), Some((0, vec![0; 2])))
    );
    // Workers end: what they wrote last is not lost.
    write(&rig.gateway);
    rig.control.take().unwrap().stop();
    data(1);
}

#[test]
fn sessions_are_filtered_and_come_in_pages() {
    let rig = Rig::with(FakeGateway::new(250), "");
    let page = |query: &str| -> SessionPage {
        serde_json::from_value(rig.get(&format!("/v1/sessions{query}"))).unwrap()
    };
    let first = page("?limit=60");
    assert_eq!((first.sessions.len(), first.next), (60, Some(60)));
    let second = page("?limit=1000&cursor=60");
    assert_eq!((second.sessions.len(), second.next), (100, Some(160)), "a page looks at so many slots");
    assert!(
        page("?protocol=icmp&limit=50").sessions.iter().all(|r| r.protocol == introspect::Protocol::Icmp)
    );
    assert!(page("?source=2001:db8:64::102").sessions.iter().all(|r| r.inside.octets()[15] == 2));
    assert_eq!(page("?remote=192.0.2.0/24").sessions, []);
    assert_eq!(
        page("?outside=203.0.113.5/32&limit=1").sessions[0].outside,
        Some("203.0.113.5".parse().unwrap())
    );
    for bad in [
        "?limit=0",
        "?limit=1001",
        "?protocol=sctp",
        "?source=198.51.100.1",
        "?remote=x",
        "?cursor=-1",
        "?colour=red",
    ] {
        let (status, body) = Rig::refused(rig.client().get(&format!("/v1/sessions{bad}")));
        assert_eq!(status, 400, "{bad}: {body}");
        assert!(body["error"].is_string(), "{bad}: {body}");
    }
}

#[test]
fn mappings_are_filtered_and_come_in_pages() {
    let rig = Rig::with(FakeGateway::new(250), "");
    let page = |query: &str| -> MappingPage {
        serde_json::from_value(rig.get(&format!("/v1/mappings{query}"))).unwrap()
    };
    let all = page("");
    assert_eq!((all.mappings.len(), all.next), (100, Some(100)));
    assert_eq!(page("?cursor=200&limit=1000").mappings.len(), 50);
    let fixed = page("?static=true");
    assert_eq!((fixed.mappings.len(), fixed.mappings[0].fixed), (1, true));
    assert_eq!(page("?static=false").mappings.len(), 99);
    for bad in ["?static=yes", "?limit=0", "?remote=192.0.2.1", "?source=192.0.2.1"] {
        let (status, body) = Rig::refused(rig.client().get(&format!("/v1/mappings{bad}")));
        assert_eq!((status, body["error"].is_string()), (400, true), "{bad}");
    }
    assert_eq!(rig.get("/v1/pool")["pool"].as_array().unwrap().len(), 3);
}

#[test]
fn what_is_no_request_is_refused_with_a_reason() {
    let rig = Rig::new();
    assert_eq!(Rig::refused(rig.client().get("/v2/sessions")).0, 404);
    assert_eq!(Rig::refused(rig.client().post("/v1/sessions")).0, 405);
    assert_eq!(Rig::refused(rig.client().get("/v1/reload")).0, 405);
}

#[test]
fn octets_that_are_no_http_do_no_harm() {
    use std::io::{Read as _, Write as _};
    let rig = Rig::new();
    for junk in [&b"\0\0\0\0\r\n\r\n"[..], &[0xff; 100_000], b"GET / HTTP/9.9\r\n\r\n", b""] {
        let mut stream = std::os::unix::net::UnixStream::connect(rig.dir.path().join("gw.sock")).unwrap();
        let _ = stream.write_all(junk);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(rig.get("/v1/ready")["ready"], true);
}

#[test]
fn before_a_gateway_is_attached_and_after_it_is_let_go_the_answer_is_503() {
    let dir = TempDir::new();
    std::fs::write(dir.path().join("gw.toml"), Rig::text(&dir, "")).unwrap();
    let control = start(Rig::spec(&dir, &Arc::default())).unwrap();
    let client = Client::new(dir.path().join("gw.sock"));
    for path in [
        "/v1/ready",
        "/v1/sessions",
        "/v1/mappings",
        "/v1/pool",
        "/v1/neighbors",
        "/v1/counters",
        "/v1/ports",
        "/v1/plan",
    ] {
        let (status, body) = Rig::refused(client.get(path));
        assert_eq!(
            (status, body["error"].as_str()),
            (503, Some("the gateway is starting or stopping")),
            "{path}"
        );
    }
    assert_eq!(Rig::refused(client.post("/v1/reload")).0, 503);
    // A gateway whose workers have not polled yet can be looked at, but is not ready.
    let gateway = Arc::new(FakeGateway::new(0));
    gateway.alive.store(false, Ordering::Relaxed);
    control.attach(Arc::<FakeGateway>::clone(&gateway));
    assert!(client.get("/v1/ports").is_ok());
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(Rig::refused(client.get("/v1/ready")).0, 503);
    gateway.alive.store(true, Ordering::Relaxed);
    wait_for("the gateway is ready", || client.get("/v1/ready").is_ok());
    control.detach();
    assert_eq!(Rig::refused(client.get("/v1/ready")).0, 503);
    assert_eq!(Rig::refused(client.get("/v1/ports")).0, 503);
    control.stop();
    assert!(matches!(client.get("/v1/ready"), Err(ClientError::NotRunning(_))));
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["gw.toml"], "nothing is left behind");
}

#[test]
fn stopping_does_not_wait_for_a_client_that_stays() {
    let mut rig = Rig::new();
    let _idle = std::os::unix::net::UnixStream::connect(rig.dir.path().join("gw.sock")).unwrap();
    let began = Instant::now();
    rig.control.take().unwrap().stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_second_instance_on_the_same_socket_is_an_error_and_the_first_goes_on() {
    let rig = Rig::new();
    let e = start(Rig::spec(&rig.dir, &Arc::default())).unwrap_err().to_string();
    assert!(e.starts_with("another causeway (process ") && e.contains("gw.sock"), "{e}");
    assert_eq!(rig.get("/v1/ready")["ready"], true);
}

#[test]
fn a_reload_hands_the_new_configuration_over_and_says_what_changed() {
    let rig = Rig::new();
    rig.rewrite("203.0.113.0/28", "203.0.113.0/29");
    let report = rig.client().post("/v1/reload").unwrap();
    assert_eq!(report["generations"]["newest"], 2);
    assert_eq!(report["changes"][0]["key"], "nat64.pool");
    assert_eq!(rig.gateway.reloads.lock().unwrap()[0].nat64.as_ref().unwrap().pool[0].len(), 29);
    assert_eq!(rig.get("/v1/plan")["config"]["nat64"]["pool"][0], "203.0.113.0/29");
    // The same file again changes nothing, and the workers are left alone.
    let report = rig.client().post("/v1/reload").unwrap();
    assert_eq!(
        (report["changes"].as_array().unwrap().len(), report["generations"]["newest"].as_u64()),
        (0, Some(2))
    );
    assert_eq!(rig.gateway.reloads.lock().unwrap().len(), 1);
}

#[test]
fn a_reload_that_needs_a_restart_is_refused_by_name_with_nothing_applied() {
    let rig = Rig::new();
    rig.rewrite("iface=uplink0", "iface=uplink1");
    rig.rewrite("203.0.113.0/28", "203.0.113.0/29");
    let (status, body) = Rig::refused(rig.client().post("/v1/reload"));
    assert_eq!(status, 409);
    assert_eq!(body["needs_restart"], serde_json::json!(["port[uplink0].device"]));
    assert_eq!(body["error"], "needs a restart: port[uplink0].device");
    assert!(rig.gateway.reloads.lock().unwrap().is_empty());
    assert_eq!(rig.get("/v1/plan")["config"]["nat64"]["pool"][0], "203.0.113.0/28");
}

#[test]
fn a_reload_of_a_bad_file_is_refused_with_its_errors() {
    let rig = Rig::new();
    rig.rewrite("203.0.113.0/28", "203.0.113.1/28");
    let (status, body) = Rig::refused(rig.client().post("/v1/reload"));
    assert_eq!((status, body["errors"][0]["key"].as_str()), (422, Some("nat64.pool[0]")));
    std::fs::remove_file(rig.dir.path().join("gw.toml")).unwrap();
    let (status, body) = Rig::refused(rig.client().post("/v1/reload"));
    assert_eq!(status, 422);
    assert!(body["error"].as_str().unwrap().contains("cannot be read"), "{body}");
    assert!(rig.gateway.reloads.lock().unwrap().is_empty());
}

#[test]
fn what_the_gateway_refuses_stays_out() {
    let rig = Rig::new();
    rig.rewrite("203.0.113.0/28", "203.0.113.0/29");
    *rig.gateway.refuse.lock().unwrap() =
        Some(ReloadError::NeedsRestart { needs_restart: vec!["x".to_owned()] });
    assert_eq!(Rig::refused(rig.client().post("/v1/reload")).0, 409);
    *rig.gateway.refuse.lock().unwrap() = Some(ReloadError::Failed("no memory".to_owned()));
    let (status, body) = Rig::refused(rig.client().post("/v1/reload"));
    assert_eq!((status, body["error"].as_str()), (500, Some("no memory")));
    // The third attempt still sees the change.
    assert_eq!(rig.client().post("/v1/reload").unwrap()["changes"][0]["key"], "nat64.pool");
}

#[test]
fn reloads_at_the_same_time_happen_one_after_the_other() {
    let rig = Rig::new();
    rig.rewrite("203.0.113.0/28", "203.0.113.0/29");
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| rig.client().post("/v1/reload").unwrap());
        }
    });
    assert_eq!(rig.gateway.reloads.lock().unwrap().len(), 1);
}

#[test]
fn events_of_workers_reach_the_map_of_neighbours() {
    let rig = Rig::new();
    let address = "2001:db8:64::101".parse().unwrap();
    let resolved =
        |last| Event::NeighborResolved { interface: IfId(0), address, mac: MacAddr([2, 0, 0, 0, 1, last]) };
    rig.gateway.events.lock().unwrap().extend([resolved(1), resolved(1), resolved(9)]);
    let row = || rig.get("/v1/neighbors")["neighbors"][1].clone();
    wait_for("the neighbour moved", || row()["moves"] == 1);
    assert!(row()["since"].as_u64().is_some_and(|s| s > 1_600_000_000), "{}", row());
    rig.gateway.events.lock().unwrap().push_back(Event::NeighborUnreachable { interface: IfId(0), address });
    wait_for("the neighbour is forgotten", || row()["since"].is_null());
}

#[test]
fn a_flood_of_events_is_bounded_and_control_goes_on_answering() {
    let rig = Rig::new();
    {
        let mut events = rig.gateway.events.lock().unwrap();
        for n in 0..200_000u32 {
            let address = std::net::Ipv4Addr::from(0xc633_6400 + n).into();
            events.push_back(Event::NeighborResolved {
                interface: IfId(1),
                address,
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
            });
            events.push_back(Event::AddressConflict {
                interface: IfId(1),
                address,
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
            });
        }
    }
    assert_eq!(rig.get("/v1/ready")["ready"], true);
    wait_for("all events are fetched", || rig.gateway.events.lock().unwrap().is_empty());
    let known = rig.control.as_ref().unwrap().state.neighbors.len();
    assert_eq!(known, 65_536, "as many as neighbor.capacity");
}

#[test]
fn a_worker_that_hangs_ends_the_process() {
    let rig = Rig::with(FakeGateway::new(0), "[watchdog]\nwarn = \"300ms\"\nabort = \"700ms\"");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(rig.dead.lock().unwrap().is_empty(), "workers that poll are left alone");
    rig.gateway.alive.store(false, Ordering::Relaxed);
    wait_for("the watchdog speaks", || !rig.dead.lock().unwrap().is_empty());
    let message = rig.dead.lock().unwrap()[0].clone();
    assert!(
        message.starts_with("worker 0 has not polled for ") && message.contains("watchdog.abort"),
        "{message}"
    );
    assert!(!rig.dir.path().join("gw.sock").exists(), "the socket is gone before the process ends");
}

#[test]
fn the_end_of_the_lease_thread_ends_the_process() {
    let rig = Rig::new();
    std::thread::sleep(Duration::from_millis(600));
    assert!(rig.dead.lock().unwrap().is_empty());
    rig.gateway.leases_ended.store(true, Ordering::Relaxed);
    wait_for("the watchdog speaks", || !rig.dead.lock().unwrap().is_empty());
    assert!(rig.dead.lock().unwrap()[0].starts_with("the lease thread has ended"));
}

#[test]
fn the_default_socket_has_the_gateways_name() {
    let name = Name::new("cw-gw").unwrap();
    assert_eq!(crate::config::default_socket(&name), Path::new("/run/causeway/cw-gw.sock"));
}

#[test]
fn sighup_reloads() {
    let dir = TempDir::new();
    let file = dir.path().join("gw.toml");
    let text = Rig::text(&dir, "");
    std::fs::write(&file, &text).unwrap();
    let spec = ControlSpec { sighup: true, ..Rig::spec(&dir, &Arc::default()) };
    let control = start(spec).unwrap();
    let gateway = Arc::new(FakeGateway::new(0));
    control.attach(Arc::<FakeGateway>::clone(&gateway));
    let hangup = || {
        let done =
            std::process::Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status();
        assert!(done.unwrap().success());
    };
    std::fs::write(&file, text.replace("203.0.113.0/28", "203.0.113.0/29")).unwrap();
    hangup();
    wait_for("the configuration is taken over", || gateway.reloads.lock().unwrap().len() == 1);
    // A bad one is not, and the next good one is.
    std::fs::write(&file, "nonsense").unwrap();
    hangup();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(gateway.reloads.lock().unwrap().len(), 1);
    std::fs::write(&file, &text).unwrap();
    hangup();
    wait_for("the configuration is taken over", || gateway.reloads.lock().unwrap().len() == 2);
}

/// A gateway with a resolver that has two upstreams and two views.
fn resolving() -> Rig {
    let text = "[dns64]\nupstreams = [\"198.51.100.53\", \"2001:db8:6::53\"]\nlisten = [\"2001:db8:64::1\"]\n\
                [[dns64.view]]\nname = \"plain\"\nsources = [\"2001:db8:64::/80\"]\ndns64 = false\n";
    let rig = Rig::with(FakeGateway::new(0), text);
    let config = crate::plan::dns64::dns64_of(&rig.control.as_ref().unwrap().state.config());
    *rig.gateway.dns.config.lock().unwrap() = config.map(Arc::new);
    rig
}

#[test]
fn a_lookup_goes_to_a_worker_and_comes_back_with_its_steps() {
    let rig = resolving();
    let row = rig.get("/v1/dns/lookup?name=V4only.Example&dnssec=true&client=2001:db8:64::101");
    assert_eq!(
        (row["question"].as_str(), row["view"].as_str()),
        (Some("v4only.example. AAAA"), Some("plain"))
    );
    assert_eq!(row["steps"][1]["step"], "asked");
    assert_eq!(row["steps"][1]["outcome"], "NOERROR\\u{1b}[2J", "nothing that a terminal would obey");
    assert_eq!(row["answer"]["answer"][0]["data"], "2001:db8:64:ff9b::c633:640a");
    let asked = rig.gateway.dns.lookups.lock().unwrap()[0].clone();
    assert_eq!((asked.view, asked.question.dnssec_ok, asked.question.checking_disabled), (1, true, false));
    assert_eq!(rig.get("/v1/dns/lookup?name=dropped")["answer"], Value::Null);
}

#[test]
fn a_lookup_that_cannot_be_is_refused_with_the_reason() {
    let rig = resolving();
    for (path, status, why) in [
        ("/v1/dns/lookup", 400, "name"),
        ("/v1/dns/lookup?name=a..b", 400, "no domain name"),
        ("/v1/dns/lookup?name=a&type=FOO", 400, "no record type"),
        ("/v1/dns/lookup?name=a&view=x", 404, "views: default, plain"),
        ("/v1/dns/lookup?name=a&client=2001:db8:9::1", 404, "no configured client"),
        ("/v1/dns/lookup?name=a&colour=red", 400, "colour"),
    ] {
        let (got, body) = Rig::refused(rig.client().get(path));
        assert!(got == status && body["error"].as_str().unwrap().contains(why), "{path}: {got} {body}");
    }
    rig.gateway.dns.busy.store(true, Ordering::Relaxed);
    assert_eq!(Rig::refused(rig.client().get("/v1/dns/lookup?name=a")).0, 503);
    *rig.gateway.dns.config.lock().unwrap() = None;
    for (status, body) in [
        Rig::refused(rig.client().get("/v1/dns/lookup?name=a")),
        Rig::refused(rig.client().post("/v1/dns/flush")),
    ] {
        assert_eq!((status, body["error"].as_str()), (404, Some("no [dns64] is configured")));
    }
    assert_eq!(rig.get("/v1/dns")["dns"], Value::Null);
}

#[test]
fn what_is_forgotten_is_everything_or_a_name() {
    let rig = resolving();
    for path in ["/v1/dns/flush", "/v1/dns/flush?name=Example."] {
        assert_eq!(rig.client().post(path).unwrap()["forgotten"], 3);
    }
    assert_eq!(Rig::refused(rig.client().post("/v1/dns/flush?name=a..b")).0, 400);
    let flushed = rig.gateway.dns.flushed.lock().unwrap().clone();
    assert_eq!(flushed, [None, Some(b"\x07example\x00".to_vec())]);
}

#[test]
fn the_resolvers_state_is_that_of_all_workers() {
    let rig = resolving();
    let dns = rig.get("/v1/dns")["dns"].clone();
    let (first, second) = (&dns["upstreams"][0], &dns["upstreams"][1]);
    assert_eq!(
        (&first["asked"], &first["answered"], &first["timeouts"]),
        (&120.into(), &119.into(), &1.into())
    );
    assert_eq!((&first["srtt_us"], &first["down_at"]), (&12_345.into(), &0.into()), "the slowest worker's");
    assert_eq!(
        (&second["srtt_us"], &second["down_at"], &second["loses_case"]),
        (&Value::Null, &1.into(), &true.into())
    );
    assert_eq!(
        dns["views"][1],
        serde_json::json!({ "name": "plain", "prefix": null, "clients": 1, "own_rules": false })
    );
    wait_for("the rates are measured", || !rig.get("/v1/dns")["dns"]["rates"].as_array().unwrap().is_empty());
}
