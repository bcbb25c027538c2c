//! Each state with each event, and random sequences of events.

use super::*;

/// What upstream can say, one of each sort.
fn replies(qname: &str, qtype: RecordType) -> Vec<String> {
    let data = match qtype {
        RecordType::AAAA => "2001:db8::1",
        RecordType::A => "192.0.2.1",
        _ => "x",
    };
    let mut list: Vec<String> =
        ["TIMEOUT", "BUSY", "UNUSABLE", "FAILED", "REFUSED", "SERVFAIL", "YXDOMAIN", "BADVERS", "NOERROR"]
            .map(str::to_owned)
            .to_vec();
    list.push("NOERROR; au example 9 SOA 9".to_owned());
    list.push("NXDOMAIN; au example 9 SOA 9".to_owned());
    list.push(format!("NOERROR ad; an {qname} 9 {qtype} {data}; an {qname} 9 RRSIG {qtype}"));
    list.push(format!("NOERROR; an {qname} 9 CNAME further.{qname}"));
    list.push(format!("NOERROR; an {qname} 9 CNAME {qname}"));
    list.push(format!("NOERROR; an {qname} 9 AAAA ::ffff:1.2.3.4; an {qname} 9 A 0.0.0.0"));
    list
}

/// One view for all, and what becomes of failures.
fn policy(view: View, on_failure: OnFailure) -> Arc<Policy> {
    let mut c = config(&[], vec![view]);
    c.synthesis.on_failure = on_failure;
    Arc::new(Policy::new(Arc::new(c)))
}

/// Where each state leads with each event: to the end, or to which question. The names of states are those of the
/// figure.
#[test]
fn each_state_takes_each_event() {
    // Questions that lead to the state, each with its reply.
    let ways: [(&str, OnFailure, bool, &[&str]); 6] = [
        ("Aaaa", OnFailure::Fail, false, &[]),
        ("Aaaa, open", OnFailure::Synthesise, false, &[]),
        ("Unchecked", OnFailure::Synthesise, false, &["FAILED"]),
        ("A", OnFailure::Fail, false, &["NOERROR; au example 9 SOA 9"]),
        ("AlwaysA", OnFailure::Fail, true, &[]),
        ("AlwaysAaaa", OnFailure::Fail, true, &["NOERROR; au example 9 SOA 9"]),
    ];
    let fail = "SERVFAIL";
    let expected: [(&str, [&str; 15]); 6] = [
        (
            "Aaaa",
            [
                fail,
                fail,
                fail,
                fail,
                fail,
                fail,
                "YXDOMAIN",
                fail,
                "A",
                "A",
                "NXDOMAIN",
                "native",
                "further AAAA",
                fail,
                "A",
            ],
        ),
        (
            "Aaaa, open",
            [
                "A",
                fail,
                "A",
                "AAAA cd",
                "A",
                "AAAA cd",
                "A",
                "A",
                "A",
                "A",
                "NXDOMAIN",
                "native",
                "further AAAA",
                "A",
                "A",
            ],
        ),
        ("Unchecked", ["A", "A", "A", "A", "A", "A", "A", "A", fail, fail, fail, fail, fail, fail, fail]),
        (
            "A",
            [
                fail,
                fail,
                fail,
                fail,
                fail,
                fail,
                "YXDOMAIN",
                fail,
                "none",
                "none",
                "NXDOMAIN",
                "made",
                "further A",
                fail,
                "none",
            ],
        ),
        (
            "AlwaysA",
            [
                fail,
                fail,
                fail,
                fail,
                fail,
                fail,
                "YXDOMAIN",
                fail,
                "AAAA",
                "AAAA",
                "NXDOMAIN",
                "made",
                "further A",
                fail,
                "AAAA",
            ],
        ),
        (
            "AlwaysAaaa",
            [
                fail,
                fail,
                fail,
                fail,
                fail,
                fail,
                "YXDOMAIN",
                fail,
                "none",
                "none",
                "NXDOMAIN",
                "native",
                "further AAAA",
                fail,
                "none",
            ],
        ),
    ];
    for ((state, what, is_always, way), (same, row)) in ways.iter().zip(expected) {
        assert_eq!(*state, same);
        let policy = policy(if *is_always { always() } else { view("a", Some(PREFIX)) }, *what);
        let variant = if *is_always { Variant::Always } else { Variant::Synthesised };
        let q = question("n.example AAAA");
        for (event, expected) in row.iter().enumerate() {
            let (mut resolution, mut step) = Resolution::start(&q, variant, 0, &policy);
            for reply in *way {
                let Step::Fetch(wanted) = step else { panic!("{state}") };
                step = resolution.on(fetched(&wanted, reply, 0));
            }
            let Step::Fetch(wanted) = step else { panic!("{state}") };
            let reply = &replies("n.example", RecordType::from(wanted.qtype))[event];
            let got = match resolution.on(fetched(&wanted, reply, 0)) {
                Step::Fetch(next) => {
                    question_text(&next).replace("n.example ", "").replace("further.", "further ")
                }
                Step::Done(finished) => {
                    let text = show(&finished);
                    match text.split([';', ' ']).next().unwrap() {
                        "NOERROR" if text.contains('*') => "made".to_owned(),
                        "NOERROR" if text.contains("2001:db8::1") => "native".to_owned(),
                        "NOERROR" => "none".to_owned(),
                        other => other.to_owned(),
                    }
                }
            };
            assert_eq!(got, *expected, "{state}: {reply}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn every_sequence_of_events_ends_and_never_tells_what_must_not_be_told(
        events in proptest::collection::vec(0usize..15, 60),
        variant in prop_oneof![Just(Variant::Native), Just(Variant::Synthesised), Just(Variant::Always)],
        open in any::<bool>(),
        dnssec_ok in any::<bool>(),
        qtype in prop_oneof![Just("AAAA"), Just("A"), Just("TXT"), Just("CNAME")],
        age in 0u32..20,
    ) {
        let policy = policy(view("a", Some(PREFIX)), if open { OnFailure::Synthesise } else { OnFailure::Fail });
        let q = Question { dnssec_ok, ..question(&format!("n.example {qtype}")) };
        let (mut resolution, mut step) = Resolution::start(&q, variant, 0, &policy);
        let mut bogus_possible = false;
        for event in events {
            match step {
                Step::Fetch(wanted) => {
                    prop_assert_eq!(wanted.dnssec_ok, dnssec_ok);
                    prop_assert!(!wanted.checking_disabled || open);
                    bogus_possible |= wanted.checking_disabled;
                    let owner = display_name(&wanted.name);
                    let kind = RecordType::from(wanted.qtype);
                    let owner = owner.trim_end_matches('.');
                    let list = replies(if owner.len() > 180 { "n.example" } else { owner }, kind);
                    let reply = match (kind, &list[event]) {
                        (RecordType::CNAME, text) if text.contains(" CNAME x") => "NOERROR",
                        (_, text) => text.as_str(),
                    };
                    step = resolution.on(fetched(&wanted, reply, age));
                }
                Step::Done(ref finished) => {
                    let text = show(finished);
                    let native = qtype != "AAAA" || variant == Variant::Native;
                    prop_assert!(native || !text.contains("::ffff"), "{}", text);
                    prop_assert!(!(text.contains('*') && text.contains(" ad")), "{}", text);
                    prop_assert!(!text.contains('*') || !native, "{}", text);
                    prop_assert!(qtype != "AAAA" || variant == Variant::Native || !text.contains(" A "), "{}", text);
                    prop_assert!(finished.answer.ttl > 0 || !finished.cacheable);
                    prop_assert!(finished.answer.ttl <= 9);
                    prop_assert_eq!(finished.answer.rcode() == SERVFAIL && bogus_possible && !open, false);
                    return Ok(());
                }
            }
        }
        prop_assert!(false, "no end");
    }

    #[test]
    fn no_message_is_too_odd(octets in proptest::collection::vec(any::<u8>(), 0..120), answers in 0u8..4) {
        // A header with some answers over random octets, and what hickory makes of it.
        let mut message = vec![0, 0, 0x81, 0x80, 0, 0, 0, answers, 0, 1, 0, 0];
        message.extend(octets);
        if let Ok(message) = Message::from_vec(&message) {
            let policy = policy(view("a", Some(PREFIX)), OnFailure::Fail);
            let q = question("n.example AAAA");
            let (mut resolution, _) = Resolution::start(&q, Variant::Synthesised, 0, &policy);
            let _ = resolution.on(Ok(Fetched { question: q, message, age: 3 }));
        }
    }
}
