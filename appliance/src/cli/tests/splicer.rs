//! Sites and port maps by the command line.

use super::*;
use crate::control::introspect::ReloadError;

const SPLICER: &str = r#"
[splicer]
client-prefixes = ["2001:db8:64:c1::/96"]
port-map-range = "203.0.113.80:20000-20001"

[[splicer.listener]]
address = "203.0.113.80"
port = 443
tls = true

[[splicer.site]]
name = "file.example"
[[splicer.site.backend]]
address = "2001:db8:64::101"

[[splicer.port-map]]
protocol = "tcp"
outside = "203.0.113.80:2201"
inside = "[2001:db8:64::101]:22"
"#;

fn splicing() -> Rig {
    let rig = Rig::with(0, SPLICER);
    let config = Config::load(&rig.dir.path().join("gw.toml")).unwrap();
    let splicer = crate::plan::splicer::splicer_of(&config, 1, None).unwrap();
    *rig.gateway.splicer.lock().unwrap() = Some(Arc::clone(&splicer.config));
    rig.gateway.sites.configure(Some((&splicer.config, &splicer.sites))).unwrap();
    rig.gateway.port_maps.open().unwrap();
    rig
}

impl Rig {
    /// Runs `causeway ARGS --socket SOCKET`, which has to fail; exit code and what it says.
    fn fails(&self, args: &[&str]) -> (u8, String) {
        let mut all = args.to_vec();
        all.extend(["--socket", &self.socket]);
        let (code, out, err) = causeway(&all);
        assert!(code != OK && out.is_empty(), "{args:?}: {out}");
        (code, err)
    }
}

#[test]
fn sites_are_set_listed_drained_and_removed() {
    let rig = splicing();
    let said = rig.ok(&[
        "sites",
        "set",
        "*.Wild.example",
        "--server",
        "2001:db8:64::101,weight=30,port=443:8443",
        "--server",
        "2001:db8:64::102",
        "--alpn",
        "acme-tls/1=2001:db8:64::103",
        "--identity",
        "embedded",
        "--check",
        "tls:8443",
        "--interval",
        "10s",
        "--redirect",
        "true",
    ]);
    assert_eq!(said, "site *.wild.example is new\n");
    assert_eq!(
        rig.ok(&["sites", "list"]),
        "\
SITE            ORIGIN  IDENTITY  SERVER            FOR         STATE  WEIGHT  OPENED  FAILED
*.wild.example  api     embedded  2001:db8:64::101  -           up         30       0       0
                                  2001:db8:64::102  -           up        100       0       0
                                  2001:db8:64::103  acme-tls/1  up        100       0       0
file.example    config  -         2001:db8:64::101  -           up        100       0       0
"
    );
    let found = rig.gateway.sites.shared([0; 32], [0; 16]).sites.load_full();
    assert_eq!(found.find("a.b.wild.example").unwrap().site.backends[0].ports, [(443, 8443)]);
    let said = rig.ok(&["sites", "drain", "*.wild.example", "2001:db8:64::102"]);
    assert_eq!(said, "2001:db8:64::102 gets no new connections of *.wild.example\n");
    let one = rig.ok(&["sites", "list", "*.wild.example"]);
    for line in
        ["check              tls:8443 every 10s, within 2s, rise 2, fall 3", "443 at 8443", "draining"]
    {
        assert!(one.contains(line), "{one}");
    }
    let json = rig.json(&["sites", "list"]);
    assert_eq!(json["sites"][0]["site"]["health"]["check"], "tls");
    assert_eq!(json["sites"][0]["servers"][1]["state"], "draining");
    rig.ok(&["sites", "remove", "*.wild.example"]);
    assert_eq!(rig.json(&["sites", "list"])["sites"].as_array().unwrap().len(), 1);
    let (code, err) = rig.fails(&["sites", "remove", "*.wild.example"]);
    assert_eq!((code, err.as_str()), (FAILED, "causeway: there is no site `*.wild.example`\n"));
    let (code, err) = rig.fails(&["sites", "set", "file.example", "--server", "2001:db8:64::102"]);
    assert!(code == FAILED && err.contains("configuration file"), "{err}");
    let (code, err) = rig.fails(&["sites", "set", "192.0.2.1", "--server", "2001:db8:64::102"]);
    assert!(code == BAD_CONFIG && err.contains("an address is no name"), "{err}");
}

#[test]
fn without_a_splicer_there_are_no_sites() {
    let rig = Rig::new(0);
    for args in [&["sites", "list"][..], &["portmaps", "list"], &["sites", "remove", "a.example"]] {
        let (code, err) = rig.fails(args);
        assert_eq!((code, err.as_str()), (FAILED, "causeway: no [splicer] is configured\n"), "{args:?}");
    }
    assert_eq!(rig.ok(&["show", "splicer"]), "no [splicer] is configured\n");
}

#[test]
fn port_maps_are_given_out_by_a_new_plan_and_not_without_one() {
    let rig = splicing();
    let plans = || rig.gateway.reloads.lock().unwrap().len();
    let add = ["portmaps", "add", "[2001:db8:64::102]:22"];
    assert_eq!(rig.ok(&add), "tcp 203.0.113.80:20000 leads to [2001:db8:64::102]:22\n");
    assert_eq!(rig.ok(&add), "tcp 203.0.113.80:20000 leads to [2001:db8:64::102]:22, as before\n");
    assert_eq!(plans(), 1, "nothing new, no new plan");
    *rig.gateway.refuse.lock().unwrap() = Some(ReloadError::Failed("workers 1 hang".to_owned()));
    let (code, err) = rig.fails(&["portmaps", "add", "[2001:db8:64::103]:22"]);
    assert!(code == FAILED && err.contains("workers 1 hang"), "{err}");
    *rig.gateway.refuse.lock().unwrap() = Some(ReloadError::Failed("workers 1 hang".to_owned()));
    rig.fails(&["portmaps", "remove", "203.0.113.80:20000"]);
    assert_eq!(
        rig.ok(&["portmaps", "list"]),
        "\
PROTO  OUTSIDE             SERVER                 ORIGIN
tcp    203.0.113.80:2201   [2001:db8:64::101]:22  config
tcp    203.0.113.80:20000  [2001:db8:64::102]:22  api
"
    );
    let (code, err) = rig.fails(&["portmaps", "remove", "203.0.113.80:2201"]);
    assert!(code == FAILED && err.contains("configuration file"), "{err}");
    let had = rig.ok(&["portmaps", "add", "[2001:db8:64::101]:22"]);
    assert_eq!(had, "tcp 203.0.113.80:2201 leads to [2001:db8:64::101]:22, as before\n");
    let (_, err) = rig.fails(&["portmaps", "add", "[2001:db8:64::101]:22", "--port", "20001"]);
    assert!(err.contains("203.0.113.80:2201 leads to [2001:db8:64::101]:22 already"), "{err}");
    let udp = rig.json(&["portmaps", "add", "[2001:db8:64::102]:53", "--udp", "--port", "20001"]);
    assert_eq!(udp["port_map"]["outside"], "203.0.113.80:20001");
    rig.ok(&["portmaps", "remove", "203.0.113.80:20000"]);
    assert_eq!((plans(), rig.json(&["portmaps", "list"])["port_maps"].as_array().unwrap().len()), (3, 2));
}

#[test]
fn the_splicer_for_people() {
    let rig = splicing();
    rig.gateway.counters[1].add(causeway_core::Counter::SpliceUnknownName, 3);
    rig.gateway.now_us.fetch_add(2_000_000, std::sync::atomic::Ordering::Relaxed);
    rig.ok(&["portmaps", "add", "[2001:db8:64::102]:22"]);
    let mut text = String::new();
    for _ in 0..1000 {
        text = rig.ok(&["show", "splicer"]);
        if text.contains("splice-unknown-name") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for line in [
        "203.0.113.80:443  yes  -     -         -",
        "sites            1, 1 of the configuration, 0 of the API",
        "servers          1 up, 0 down",
        "port maps        2; on request from 203.0.113.80:20000-20001",
        "client prefixes  2001:db8:64:c1::/96",
        "room for         1000 spliced connections",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let counted = text.lines().find(|l| l.starts_with("splice-unknown-name "));
    assert!(counted.is_some_and(|l| l.ends_with(" 3")), "{text}");
}
