use super::super::{Config, changes, restart_needed};
use super::*;

const LAB: &str = include_str!("../../testing/gateway.toml");

fn parse(log: &str) -> Result<Config, Vec<String>> {
    Config::parse("t", &format!("{LAB}\n[nat64.log]\n{log}\n")).map_err(|errors| {
        errors
            .list()
            .iter()
            .map(|e| format!("{}: {}", e.key, e.to_string().split_once(": ").unwrap().1))
            .collect()
    })
}

fn log(text: &str) -> NatLog {
    parse(text).unwrap().nat64.unwrap().log
}

fn notes(text: &str) -> Vec<String> {
    parse(text).unwrap().notes.into_iter().filter(|n| n.starts_with("nat64.log")).collect()
}

const HERE: &str = "collectors = [\"192.0.2.10:4739\"]";

#[test]
fn rfc6888_4_by_default_nothing_is_logged() {
    let lab = Config::parse("t", LAB).unwrap();
    let log = lab.nat64.unwrap().log;
    assert_eq!(log, NatLog::default());
    assert_eq!(log.options(), LogOptions::default());
    assert_eq!(log.render(), ("nothing".to_owned(), "-".to_owned()));
    // Nor does anybody write what goes nowhere.
    assert_eq!(super::tests::log("sessions = true\nmappings = true").options(), LogOptions::default());
}

#[test]
fn all_keys_are_read() {
    let got = log(
        "blocks = true\nmappings = true\nsessions = true\ndestinations = true\nexhaustion = true\ntrace = true\n\
         collectors = [\"192.0.2.10:4739\", \"[2001:db8:ffff::10]:9995\", \"127.0.0.1:4739\", \"[::1]:4739\"]\n\
         observation-domain = 4294967295\ntemplate-interval = \"90s\"\ntemplate-messages = 50\n\
         packet-octets = 9000",
    );
    assert!(got.blocks && got.mappings && got.sessions && got.destinations && got.exhaustion && got.trace);
    let to: Vec<String> = got.collectors.iter().map(ToString::to_string).collect();
    assert_eq!(to, ["192.0.2.10:4739", "[2001:db8:ffff::10]:9995", "127.0.0.1:4739", "[::1]:4739"]);
    assert_eq!((got.observation_domain.number(), got.template_messages.get()), (u32::MAX, 50));
    assert_eq!((got.template_interval.duration().as_secs(), got.packet_octets.octets()), (90, 9000));
    let options = LogOptions { blocks: true, mappings: true, sessions: true, destinations: true };
    assert_eq!(got.options(), options);
    let (what, to) = got.render();
    assert_eq!(what, "port blocks, mappings, sessions with destinations, exhaustion");
    assert!(to.starts_with("IPFIX to 192.0.2.10:4739, IPFIX to [2001:db8:ffff::10]:9995,"), "{to}");
    assert!(to.contains("this log") && to.contains("at most 9000 octets"), "{to}");
}

#[test]
fn bad_values_are_named_with_what_is_allowed() {
    const COLLECTOR: &str =
        "(allowed: a unicast address and a port, as in \"192.0.2.10:4739\" or \"[2001:db8:ffff::10]:4739\")";
    let bad = |text: &str, problem: &str| {
        let said = parse(text).unwrap_err();
        assert!(said.iter().any(|s| s.contains(problem)), "{text}: {said:?}");
    };
    for (address, problem) in [
        ("192.0.2.10", "not an address and a port"),
        ("collector.example:4739", "not an address and a port"),
        ("192.0.2.10:0", "port 0 is nobody's"),
        ("192.0.2.10:65536", "not an address and a port"),
        ("0.0.0.0:4739", "not a unicast address"),
        ("255.255.255.255:4739", "not a unicast address"),
        ("224.0.0.1:4739", "not a unicast address"),
        ("[ff02::1]:4739", "not a unicast address"),
        ("[::]:4739", "not a unicast address"),
        ("[::ffff:192.0.2.10]:4739", "not a unicast address"),
        ("[fe80::1]:4739", "a link-local address says nothing of its link"),
    ] {
        let said = parse(&format!("collectors = [\"{address}\"]")).unwrap_err();
        let wanted = format!("nat64.log.collectors[0] = \"{address}\": {problem} {COLLECTOR}");
        assert!(matches!(&said[..], [one] if one.ends_with(&wanted)), "{said:?} {wanted}");
    }
    bad("collectors = [\"192.0.2.2:4739\"]", "an address of the gateway itself");
    bad("collectors = [\"[2001:db8:64::1]:4739\"]", "an address of the gateway itself");
    bad("collectors = [\"192.0.2.10:1\", \"192.0.2.10:1\"]", "nat64.log.collectors[0] is the same collector");
    let nine: Vec<String> = (1..10).map(|n| format!("\"192.0.2.10:{n}\"")).collect();
    bad(&format!("collectors = [{}]", nine.join(", ")), "too many collectors (allowed: at most 8)");
    bad("observation-domain = -1", "out of range 0 to 4294967295");
    bad("observation-domain = 4294967296", "out of range 0 to 4294967295");
    bad("template-interval = \"500ms\"", "out of range 1s to 1h");
    bad("template-interval = 60", "the unit is missing");
    bad("template-messages = 0", "out of range 1 to 1000000");
    bad("packet-octets = 511", "out of range 512 to 9000");
    bad("sessions = 1", "wrong type: expected a boolean, found an integer");
    bad("destinations = true", "`sessions` is off, and only its records have destinations");
    bad("session = true", "unknown key; did you mean `sessions`?");
}

#[test]
fn what_deserves_a_second_look_is_noted() {
    assert_eq!(notes(""), Vec::<String>::new());
    assert_eq!(notes(&format!("mappings = true\n{HERE}")), Vec::<String>::new());
    assert!(notes("mappings = true")[0].contains("neither `trace` nor a collector"));
    assert!(notes(HERE)[0].contains("all off"));
    // RFC 6888 4, REQ-12.
    let destinations = notes(&format!("sessions = true\ndestinations = true\nmappings = true\n{HERE}"));
    assert!(matches!(&destinations[..], [one] if one.contains("REQ-12")), "{destinations:?}");
    // RFC 8158 4.6.1.
    let both = notes(&format!("sessions = true\nmappings = true\n{HERE}"));
    assert!(matches!(&both[..], [one] if one.contains("RFC 8158 4.6.1")), "{both:?}");
}

#[test]
fn all_of_it_changes_without_a_restart() {
    let (a, b) = (parse("").unwrap(), parse(&format!("sessions = true\ntrace = true\n{HERE}")).unwrap());
    let keys: Vec<String> = changes(&a, &b).into_iter().map(|c| c.key).collect();
    assert_eq!(keys, ["nat64.log.collectors", "nat64.log.sessions", "nat64.log.trace"]);
    assert_eq!(restart_needed(&a, &b), []);
}
