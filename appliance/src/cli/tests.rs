//! The command line from end to end: arguments in, text and exit code out, a fake gateway in between.

use super::*;
use crate::control::client::Client;
use crate::log::Logs;
use crate::testing::{FakeGateway, TempDir};
use clap::CommandFactory as _;

const LAB: &str = include_str!("../testing/gateway.toml");

/// Runs a command line; exit code, standard output and standard error.
fn causeway(args: &[&str]) -> (u8, String, String) {
    let mut out = Output::default();
    let all = std::iter::once("causeway").chain(args.iter().copied());
    let code = match Cli::try_parse_from(all) {
        Ok(cli) => execute(cli.command, |_, _| Err("nothing to launch".into()), &mut out),
        Err(e) => {
            out.err = e.render().to_string();
            if e.use_stderr() { BAD_CONFIG } else { OK }
        }
    };
    (code, out.out, out.err)
}

struct Rig {
    dir: TempDir,
    socket: String,
    gateway: Arc<FakeGateway>,
    _control: ControlHandle,
}

impl Rig {
    fn new(sessions: usize) -> Self {
        Self::with(sessions, "")
    }

    /// With this in its configuration besides.
    fn with(sessions: usize, more: &str) -> Self {
        let dir = TempDir::new();
        let socket = dir.path().join("gw.sock").display().to_string();
        let file = dir.path().join("gw.toml");
        std::fs::write(&file, format!("{LAB}\n{more}\n[control]\nsocket = \"{socket}\"\n")).unwrap();
        let spec = ControlSpec {
            config: Arc::new(Config::load(&file).unwrap()),
            file,
            logs: Logs::foreign(),
            on_dead: Box::new(|message| panic!("{message}")),
            sighup: false,
        };
        let control = control::start(spec).unwrap();
        let gateway = Arc::new(FakeGateway::new(sessions));
        control.attach(Arc::<FakeGateway>::clone(&gateway));
        let client = Client::new(PathBuf::from(&socket));
        while client.get("/v1/ready").is_err() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Self { dir, socket, gateway, _control: control }
    }

    /// Gives the gateway a resolver with two upstreams and two views.
    fn resolving() -> Self {
        let rig = Self::new(0);
        let text = format!(
            "{LAB}\n[dns64]\nupstreams = [\"198.51.100.53\", \"2001:db8:6::53\"]\nlisten = [\"2001:db8:64::1\"]\n\
             [[dns64.view]]\nname = \"shop\"\nsources = [\"2001:db8:64::/80\"]\nonly-a = [\"198.51.100.0/24\"]\n"
        );
        let config = Config::parse("gw.toml", &text).unwrap();
        *rig.gateway.dns.config.lock().unwrap() = crate::plan::dns64::dns64_of(&config).map(Arc::new);
        rig
    }

    /// Runs `causeway ARGS --socket SOCKET`, which has to succeed, and gives its output.
    fn ok(&self, args: &[&str]) -> String {
        let mut all = args.to_vec();
        all.extend(["--socket", &self.socket]);
        let (code, out, err) = causeway(&all);
        assert_eq!((code, err.as_str()), (OK, ""), "{args:?}");
        out
    }

    fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        serde_json::from_str(&self.ok(&all)).unwrap()
    }
}

mod splicer;

#[test]
fn the_command_line_contradicts_itself_nowhere() {
    Cli::command().debug_assert();
}

#[test]
fn help_tells_the_exit_codes() {
    for args in [&["--help"][..], &["run", "--help"], &["check", "--help"], &["reload", "--help"]] {
        let (code, _, text) = causeway(args);
        assert_eq!(code, OK);
        for line in ["0  done", "1  it failed", "2  bad usage or bad configuration", "3  no gateway runs"] {
            assert!(text.contains(line), "{args:?}: {text}");
        }
    }
}

#[test]
fn sessions_for_people() {
    let rig = Rig::new(4);
    assert_eq!(
        rig.ok(&["show", "sessions"]),
        "\
PROTO  INSIDE                   REMOTE            OUTSIDE           STATE        IDLE  EXPIRES
tcp    [2001:db8:64::101]:1024  198.51.100.10:80  203.0.113.0:2048  established    3s     2h3m
udp    [2001:db8:64::102]:1025  198.51.100.10:80  203.0.113.1:2049  active         3s     2h3m
icmp   [2001:db8:64::101]:1026  198.51.100.10     203.0.113.2:2050  active         3s     2h3m
tcp    [2001:db8:64::102]:1027  198.51.100.10:80  203.0.113.3:2051  established    3s     2h3m
"
    );
    assert_eq!(Rig::new(0).ok(&["show", "sessions"]), "no sessions\n");
}

#[test]
fn sessions_are_gathered_over_pages_up_to_the_limit() {
    let rig = Rig::new(1234);
    let rows = |args: &[&str]| {
        let mut all = vec!["show", "sessions"];
        all.extend(args);
        let value = rig.json(&all);
        (value["sessions"].as_array().unwrap().len(), value["more"].as_bool().unwrap())
    };
    assert_eq!(rows(&[]), (100, true));
    assert_eq!(rows(&["--limit", "0"]), (1234, false));
    assert_eq!(rows(&["--limit", "1234"]), (1234, false));
    assert_eq!(rows(&["--limit", "1233"]), (1233, true));
    assert_eq!(rows(&["--limit", "0", "--protocol", "udp"]), (411, false));
    assert_eq!(rows(&["--limit", "0", "--source", "2001:db8:64::101"]), (617, false));
    assert_eq!(rows(&["--limit", "0", "--remote", "192.0.2.0/24"]), (0, false));
    assert_eq!(rows(&["--limit", "0", "--outside", "203.0.113.15"]), (77, false));
    assert!(rig.ok(&["show", "sessions"]).ends_with("There may be more than these 100: see --limit.\n"));
}

#[test]
fn mappings_for_people_and_for_programs() {
    let rig = Rig::new(3);
    assert_eq!(
        rig.ok(&["show", "mappings"]),
        "\
PROTO  INSIDE                   OUTSIDE           KIND     SESSIONS
tcp    [2001:db8:64::101]:1024  203.0.113.0:2048  static          1
udp    [2001:db8:64::102]:1025  203.0.113.1:2049  dynamic         1
icmp   [2001:db8:64::101]:1026  203.0.113.2:2050  dynamic         1
"
    );
    assert_eq!(Rig::new(0).ok(&["show", "mappings"]), "no mappings\n");
    let only = rig.json(&["show", "mappings", "--static"]);
    assert_eq!(
        only,
        json!({ "more": false, "mappings": [{
            "protocol": "tcp", "inside": "2001:db8:64::101", "inside_port": 1024, "outside": "203.0.113.0",
            "outside_port": 2048, "static": true, "sessions": 1,
        }] })
    );
}

#[test]
fn mappings_are_gathered_over_pages_up_to_the_limit() {
    let rig = Rig::new(1234);
    let rows = |args: &[&str]| {
        let mut all = vec!["show", "mappings"];
        all.extend(args);
        let value = rig.json(&all);
        (value["mappings"].as_array().unwrap().len(), value["more"].as_bool().unwrap())
    };
    assert_eq!(rows(&[]), (100, true));
    assert_eq!(rows(&["--limit", "0"]), (1234, false));
    assert_eq!(rows(&["--limit", "0", "--protocol", "udp"]), (411, false));
    assert_eq!(rows(&["--limit", "0", "--source", "2001:db8:64::101"]), (617, false));
    assert_eq!(rows(&["--limit", "0", "--outside", "203.0.113.15"]), (77, false));
    assert_eq!(rows(&["--limit", "0", "--outside", "203.0.113.15", "--static"]), (0, false));
}

#[test]
fn the_use_of_the_pool_is_shown_per_address_and_protocol() {
    let rig = Rig::new(0);
    assert_eq!(
        rig.ok(&["show", "pool"]),
        "\
ADDRESS       TENANT  PROTO  IN USE     OF  PERCENT
203.0.113.1   -       udp         3  64512        0
203.0.113.1   -       tcp     32256  64512       50
203.0.113.16  shop    tcp     64512  64512      100
"
    );
    let rows = |args: &[&str]| {
        let mut all = vec!["show", "pool"];
        all.extend(args);
        rig.json(&all)["pool"].as_array().unwrap().len()
    };
    assert_eq!((rows(&[]), rows(&["--protocol", "tcp"]), rows(&["--protocol", "icmp"])), (3, 2, 0));
    assert_eq!((rows(&["--tenant", "shop"]), rows(&["--outside", "203.0.113.0/28"])), (1, 2));
    assert_eq!(rig.ok(&["show", "pool", "--tenant", "nobody"]), "no pool addresses\n");
}

#[test]
fn subscribers_are_shown_with_what_they_have() {
    let rig = Rig::new(0);
    assert_eq!(
        rig.ok(&["show", "subscribers"]),
        "\
PREFIX                TENANT  ADDRESS       SESSIONS  UDP  TCP  ICMP  BLOCKS  REFUSED
2001:db8:64:1::/64    -       -                    0    0    0     0       0        0
2001:db8:64::102/128  shop    203.0.113.16         3    2    1     0       1        8
"
    );
    let rows = |args: &[&str]| {
        let mut all = vec!["show", "subscribers"];
        all.extend(args);
        let value = rig.json(&all);
        let prefixes = value["subscribers"].as_array().unwrap().iter().map(|r| r["prefix"].clone());
        (prefixes.collect::<Vec<_>>(), value["more"].as_bool().unwrap())
    };
    assert_eq!(rows(&["--limit", "1"]), (vec![json!("2001:db8:64:1::/64")], true));
    assert_eq!(rows(&["--limit", "0", "--tenant", "shop"]), (vec![json!("2001:db8:64::102/128")], false));
    assert_eq!(rows(&["--source", "2001:db8:64:1::7"]), (vec![json!("2001:db8:64:1::/64")], false));
    assert_eq!(rows(&["--source", "2001:db8:64::/48"]).0.len(), 2);
    let text = rig.ok(&["show", "subscribers", "--source", "2001:db8:99::1"]);
    assert_eq!(text, "no subscribers are accounted\n");
    let row = rig.json(&["show", "subscribers", "--tenant", "shop"])["subscribers"][0].clone();
    assert_eq!(row["refused"], json!({ "ports": 0, "sessions": 7, "rate": 1 }));
    assert_eq!(row["blocks"][0]["first"], 2048);
}

#[test]
fn rfc7422_the_calculation_answers_both_ways() {
    let dir = TempDir::new();
    let file = dir.path().join("gw.toml").display().to_string();
    let hosts = "\n[nat64.allocation]\nmode = \"deterministic\"\nhosts = [\"2001:db8:64::100/120\"]\n";
    std::fs::write(&file, LAB.to_owned() + hosts).unwrap();
    let ask = |what: &str, json: bool| {
        let mut args = vec!["nat64", "deterministic", "--config", &file, what];
        args.extend(json.then_some("--json"));
        causeway(&args)
    };
    // 256 subscribers over 16 addresses: 16 of each, 4032 of 64512 ports for each.
    let (code, out, err) = ask("2001:db8:64::112", false);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (OK, "subscriber  2001:db8:64::112/128\naddress     203.0.113.1\nports       9088-13119\n", "")
    );
    for what in ["2001:db8:64::112", "203.0.113.1:9088", "203.0.113.1:13119"] {
        let (code, out, _) = ask(what, true);
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(code, OK);
        assert_eq!(
            answer,
            json!({ "subscriber": "2001:db8:64::112/128", "address": "203.0.113.1", "first_port": 9088, "last_port": 13119 })
        );
    }
    for nobody in ["2001:db8:64::200", "203.0.113.1:1023", "192.0.2.9:2000"] {
        let (code, out, err) = ask(nobody, false);
        assert_eq!((code, out.as_str()), (FAILED, ""));
        assert_eq!(err, format!("causeway: {nobody} belongs to no subscriber\n"));
        assert!(ask(nobody, true).1.contains("\"error\""));
    }
    for bad in ["203.0.113.1", "2001:db8:64::/64", "vm1"] {
        assert_eq!(ask(bad, false).0, BAD_CONFIG, "{bad}");
    }
    std::fs::write(&file, LAB).unwrap();
    let (code, _, err) = ask("2001:db8:64::112", false);
    assert_eq!(
        (code, err.as_str()),
        (BAD_CONFIG, "causeway: nat64.allocation.mode is not \"deterministic\"\n")
    );
    std::fs::write(&file, LAB.replace("203.0.113.0/28", "x")).unwrap();
    let (code, out, err) = ask("2001:db8:64::112", true);
    assert!(
        code == BAD_CONFIG && out.contains("nat64.pool[0]") && err.contains("nat64.pool[0]"),
        "{out}{err}"
    );
}

#[test]
fn counters_for_people_and_for_programs() {
    let rig = Rig::new(0);
    assert_eq!(
        rig.ok(&["show", "counters"]),
        "\
NAME                 TOTAL  MEANING
rx-frames              120  Frames received.
drop.spoofed-source      1  The source address is not one that the network may send from (BCP 38).
"
    );
    assert_eq!(
        rig.ok(&["show", "counters", "--drops", "--workers"]),
        "\
NAME                 TOTAL  WORKER 0  WORKER 1  MEANING
drop.spoofed-source      1         0         1  The source address is not one that the network may send from (BCP 38).
"
    );
    let rows = rig.json(&["show", "counters"])["counters"].as_array().unwrap().clone();
    let row = rows.iter().find(|r| r["name"] == "drop.spoofed-source").unwrap();
    assert_eq!((&row["total"], &row["kind"], &row["workers"]), (&json!(1), &json!("drop"), &json!([0, 1])));
    assert!(rows.iter().any(|r| r["name"] == "drop.no-route" && r["total"] == 0), "programs see zeros");
    assert!(rig.ok(&["show", "counters", "--all"]).contains("drop.no-route"));
}

#[test]
fn neighbors_are_sorted_and_chosen_by_network() {
    let rig = Rig::new(0);
    assert_eq!(
        rig.ok(&["show", "neighbors"]),
        "\
NETWORK  ADDRESS           MAC                STATE      AGE  MOVES
tenant0  2001:db8:64::101  02:00:00:00:01:01  reachable  12s      0
uplink0  192.0.2.1         02:00:00:00:01:01  reachable  12s      0
"
    );
    let rows = rig.json(&["show", "neighbors", "--network", "uplink0"]);
    assert_eq!(rows["neighbors"].as_array().unwrap().len(), 1);
}

#[test]
fn ports_and_plan() {
    let rig = Rig::new(0);
    assert_eq!(
        rig.ok(&["show", "ports"]),
        "\
PORT     DEVICE                        DRIVER         MAC                 MTU  QUEUES  LINK  FILTER       NETWORKS
tenant0  net_af_packet0,iface=tenant0  net_af_packet  02:00:00:00:00:01  1500       2  up    in software  tenant0
"
    );
    let plan = rig.ok(&["show", "plan"]);
    assert!(plan.starts_with("generation 1, in use by all 2 workers\n"), "{plan}");
    let check = causeway(&["check", "--config", &rig.dir.path().join("gw.toml").display().to_string()]).1;
    assert_eq!(plan.split_once('\n').unwrap().1, check, "the plan in use reads as the check did");
}

#[test]
fn reload_says_what_changed_and_what_needs_a_restart() {
    let rig = Rig::new(0);
    let file = rig.dir.path().join("gw.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(rig.ok(&["reload"]).lines().next(), Some("nothing has changed"));
    std::fs::write(&file, text.replace("203.0.113.0/28", "203.0.113.0/29")).unwrap();
    let out = rig.ok(&["reload"]);
    assert!(
        out.starts_with("reloaded: generation 2, in use by all 2 workers\n  nat64.pool: [\"203.0.113.0/28\"] -> [\"203.0.113.0/29\"]\n"),
        "{out}"
    );
    std::fs::write(&file, text.replace("iface=uplink0", "iface=uplink9")).unwrap();
    let (code, out, err) = causeway(&["reload", "--socket", &rig.socket]);
    assert_eq!((code, out.as_str()), (FAILED, ""));
    assert_eq!(
        err,
        "causeway: needs a restart: port[uplink0].device\n  port[uplink0].device: \"net_af_packet1,iface=uplink0\" -> \"net_af_packet1,iface=uplink9\"\n"
    );
    std::fs::write(&file, text.replace("203.0.113.0/28", "x")).unwrap();
    let (code, _, err) = causeway(&["reload", "--socket", &rig.socket]);
    assert_eq!(code, BAD_CONFIG);
    assert!(err.contains("nat64.pool[0] = \"x\""), "{err}");
    let (code, out, _) = causeway(&["reload", "--json", "--socket", &rig.socket]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &answer["errors"][0]["key"]), (BAD_CONFIG, &json!("nat64.pool[0]")));
}

#[test]
fn without_a_gateway_the_exit_code_is_3() {
    let dir = TempDir::new();
    let socket = dir.path().join("none.sock").display().to_string();
    for what in
        ["sessions", "mappings", "pool", "subscribers", "neighbors", "counters", "ports", "dns", "plan"]
    {
        let (code, out, err) = causeway(&["show", what, "--socket", &socket]);
        assert_eq!((code, out.as_str()), (NOT_RUNNING, ""), "{what}");
        assert_eq!(err, format!("causeway: no causeway runs on the control socket {socket}\n"));
    }
    let (code, out, _) = causeway(&["reload", "--json", "--socket", &socket]);
    assert_eq!(code, NOT_RUNNING);
    assert!(serde_json::from_str::<Value>(&out).unwrap()["error"].is_string());
    // A socket whose process is gone is no gateway either.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(causeway(&["show", "ports", "--socket", &socket]).0, NOT_RUNNING);
}

#[test]
fn a_lookup_says_step_by_step_what_a_client_gets() {
    let rig = Rig::resolving();
    assert_eq!(
        rig.ok(&["dns", "lookup", "V4only.Example.", "--client", "2001:db8:64::101"]),
        "\
v4only.example. AAAA, as clients of view shop see it
  1. cached: v4only.example. AAAA (native), good for 59 s
  2. asked 198.51.100.53:53: v4only.example. A: NOERROR\\u{1b}[2J, after 2 ms
  3. made of A records (RFC 6147 5.1.7)
answer: NOERROR, flags qr rd ra, 60 octets
  v4only.example.  60  AAAA  2001:db8:64:ff9b::c633:640a
"
    );
    let asked = rig.gateway.dns.lookups.lock().unwrap().clone();
    assert_eq!((asked.len(), asked[0].view, asked[0].question.qtype), (1, 1, 28));
    let value = rig.json(&["dns", "lookup", "192.0.2.1", "--view", "shop", "--cd", "--dnssec"]);
    assert_eq!(value["question"], "1.2.0.192.in-addr.arpa. PTR");
    let asked = rig.gateway.dns.lookups.lock().unwrap()[1].clone();
    assert!(asked.question.checking_disabled && asked.question.dnssec_ok);
    let (code, out, _) = causeway(&["dns", "lookup", "dropped", "--socket", &rig.socket]);
    let text = "dropped. AAAA, as clients of view default see it\n  1. answered here: blocked\nno answer\n";
    assert_eq!((code, out.as_str()), (FAILED, text));
    // A name may have any octets in it.
    rig.ok(&["dns", "lookup", r"a\.b\038c=\255", "TYPE65280"]);
    let asked = rig.gateway.dns.lookups.lock().unwrap()[3].clone();
    assert_eq!((asked.question.name.as_slice(), asked.question.qtype), (&b"\x07a.b&c=\xff\x00"[..], 65_280));
    let (code, _, err) = causeway(&["dns", "lookup", "a", "--view", "none", "--socket", &rig.socket]);
    assert_eq!((code, err.as_str()), (FAILED, "causeway: there is no view `none`; views: default, shop\n"));
}

#[test]
fn cached_answers_are_forgotten() {
    let rig = Rig::resolving();
    assert_eq!(rig.ok(&["dns", "flush"]), "3 answers are forgotten\n");
    assert_eq!(rig.ok(&["dns", "flush", "Example"]), "3 answers are forgotten\n");
    assert_eq!(*rig.gateway.dns.flushed.lock().unwrap(), [None, Some(b"\x07example\x00".to_vec())]);
    *rig.gateway.dns.config.lock().unwrap() = None;
    let (code, _, err) = causeway(&["dns", "flush", "--socket", &rig.socket]);
    assert_eq!((code, err.as_str()), (FAILED, "causeway: no [dns64] is configured\n"));
    assert_eq!(rig.ok(&["show", "dns"]), "no [dns64] is configured\n");
}

#[test]
fn the_resolver_for_people() {
    let rig = Rig::resolving();
    let text = rig.ok(&["show", "dns"]);
    let wanted = "\
answers at: 2001:db8:64::1
cache: 7 answers in 10 of 65536 KiB, 2 had to make room for others

UPSTREAM             STATE             ASKED  ANSWERED  TIMEOUTS  SRTT MS  CASE
198.51.100.53:53     up                  120       119         1   12.345  kept
[2001:db8:6::53]:53  DOWN at 1 worker      3         0         3        -  lost

VIEW     AAAA MADE WITH         CLIENTS  CACHED
default  2001:db8:64:ff9b::/96        1  all
shop     2001:db8:64:ff9b::/96        1  all but AAAA
";
    assert!(text.starts_with(wanted), "{text}");
}

#[test]
fn bad_usage_has_exit_code_2() {
    for args in [
        &[][..],
        &["fly"],
        &["show"],
        &["show", "sessions", "--protocol", "sctp"],
        &["show", "sessions", "--source", "198.51.100.1"],
        &["show", "sessions", "--limit", "-1"],
        &["show", "mappings", "--outside", "2001:db8::1"],
        &["show", "pool", "--protocol", "any"],
        &["show", "subscribers", "--tenant", "a b"],
        &["nat64"],
        &["nat64", "deterministic"],
        &["dns"],
        &["dns", "lookup"],
        &["dns", "lookup", "a..b"],
        &["dns", "lookup", "b\u{fc}cher.example"],
        &["dns", "lookup", "a", "FOO"],
        &["dns", "lookup", "a", "--client", "192.0.2.1"],
        &["dns", "lookup", "a", "--client", "2001:db8::1", "--view", "v"],
        &["dns", "flush", "a..b"],
        &["show", "ports", "--name", "a/b"],
        &["show", "ports", "--name", "a", "--socket", "/b"],
        &["run", "--config"],
        &["hw", "show", "nothing"],
    ] {
        let (code, out, err) = causeway(args);
        assert_eq!((code, out.as_str()), (BAD_CONFIG, ""), "{args:?}");
        assert!(!err.is_empty(), "{args:?}");
    }
}

#[test]
fn check_prints_the_plan_or_the_errors() {
    let dir = TempDir::new();
    let file = dir.path().join("gw.toml").display().to_string();
    std::fs::write(&file, LAB).unwrap();
    let (code, out, err) = causeway(&["check", "--config", &file]);
    assert_eq!((code, err.as_str()), (OK, ""));
    assert!(out.starts_with("gateway         cw-gw\nprofile         veth\n"), "{out}");
    let (code, out, _) = causeway(&["check", "--json", "--config", &file]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &answer["ok"], &answer["config"]["gateway"]["name"]),
        (OK, &json!(true), &json!("cw-gw"))
    );

    std::fs::write(&file, LAB.replace("\"203.0.113.0/28\"", "\"203.0.113.0/28\", 5")).unwrap();
    let (code, out, err) = causeway(&["check", "--config", &file]);
    assert_eq!((code, out.as_str()), (BAD_CONFIG, ""));
    assert!(
        err.starts_with(&file)
            && err.contains("nat64.pool[1] = 5: wrong type: expected a string, found an integer"),
        "{err}"
    );
    let (code, out, err) = causeway(&["check", "--json", "--config", &file]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str(), &answer["ok"]), (BAD_CONFIG, "", &json!(false)));
    assert_eq!(answer["errors"][0]["key"], "nat64.pool[1]");
}

#[test]
fn run_with_a_bad_configuration_starts_nothing() {
    let dir = TempDir::new();
    let file = dir.path().join("gw.toml").display().to_string();
    let socket = dir.path().join("gw.sock");
    let control = format!("\n[control]\nsocket = \"{}\"\n", socket.display());
    std::fs::write(&file, LAB.replace("veth", "cray") + &control).unwrap();
    let (code, _, err) = causeway(&["run", "--config", &file]);
    assert_eq!(code, BAD_CONFIG);
    assert!(err.contains("gateway.profile = \"cray\""), "{err}");
    // A start that fails takes the socket away again.
    std::fs::write(&file, LAB.to_owned() + &control).unwrap();
    assert_eq!(causeway(&["run", "--config", &file]).0, FAILED);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn run_on_a_socket_that_is_taken_has_exit_code_1() {
    let rig = Rig::new(0);
    let file = rig.dir.path().join("gw.toml").display().to_string();
    let (code, out, err) = causeway(&["run", "--config", &file]);
    assert_eq!((code, out.as_str()), (FAILED, ""));
    assert!(err.starts_with("causeway: another causeway (process ") && err.contains(&rig.socket), "{err}");
    assert_eq!(Client::new(PathBuf::from(&rig.socket)).get("/v1/ready").unwrap()["ready"], true);
}

#[test]
fn the_only_socket_of_the_folder_is_the_one_that_is_meant() {
    let dir = TempDir::new();
    assert_eq!(only_socket(dir.path()), Ok(None));
    std::fs::write(dir.path().join("a.sock"), "").unwrap();
    std::fs::write(dir.path().join("a.sock.lock"), "").unwrap();
    assert_eq!(only_socket(dir.path()), Ok(Some(dir.path().join("a.sock"))));
    std::fs::write(dir.path().join("b.sock"), "").unwrap();
    assert!(only_socket(dir.path()).unwrap_err().ends_with("--name: a, b"));
    assert_eq!(only_socket(Path::new("/nonexistent")), Ok(None));
}

#[test]
fn hardware_profiles_are_listed_and_shown() {
    let (code, out, _) = causeway(&["hw", "list"]);
    assert_eq!(code, OK);
    assert!(["veth", "null", "ixgbe", "ice"].iter().all(|name| out.contains(name)), "{out}");
    let (code, out, _) = causeway(&["hw", "list", "--json"]);
    let names = serde_json::from_str::<Value>(&out).unwrap()["profiles"].as_array().unwrap().len();
    assert!(code == OK && names >= 7);
    let (code, out, _) = causeway(&["hw", "show", "veth", "--json"]);
    assert_eq!((code, &serde_json::from_str::<Value>(&out).unwrap()["name"]), (OK, &json!("veth")));
    let empty = TempDir::new();
    let (code, out, _) = causeway(&["hw", "detect", "--json", "--root", &empty.path().display().to_string()]);
    assert_eq!((code, &serde_json::from_str::<Value>(&out).unwrap()["devices"]), (OK, &json!([])));
}
