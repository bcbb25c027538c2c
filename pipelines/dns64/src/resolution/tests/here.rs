//! What is answered here, why, and what is kept.

use super::*;

#[test]
fn blocked_names_do_not_exist() {
    let blocked = View { blocked: names(&["bad.example"]), ..view("a", Some(PREFIX)) };
    let lab = Lab::with(vec![blocked], &[]);
    for q in ["bad.example A", "x.y.bad.example AAAA do", "bad.example ANY", "bad.example TXT"] {
        let outcome = lab.ask(q);
        assert_eq!(outcome.answer, "NXDOMAIN aa; au bad.example 60 SOA 60");
        assert_eq!(outcome.finished.answer.extended_error, Some(15), "RFC 8914 4.16");
        assert!(!outcome.finished.cacheable);
        assert_eq!(outcome.counted(), [("dns64-blocked", 1)]);
    }
}

#[test]
fn local_names_have_what_is_configured_and_nothing_else() {
    let local = |n: &str, list: &[&str]| LocalName {
        name: wire(n),
        addresses: list.iter().map(|a| a.parse().unwrap()).collect(),
        ttl: 77,
    };
    let mut v = view("a", Some(PREFIX));
    v.local = vec![
        local("both.example", &["192.0.2.1", "2001:db8::1", "2001:db8::2"]),
        local("four.example", &["192.0.2.1", "127.0.0.1"]),
        local("loop.example", &["127.0.0.1"]),
        local("none.example", &[]),
        local("never.example", &["192.0.2.1"]),
    ];
    v.never = names(&["never.example"]);
    let mut plain = v.clone();
    plain.prefix = None;
    let mut lab = Lab::with(vec![v, plain], &[]);
    for (view, q, expected) in [
        (0, "both.example A", "NOERROR aa; an both.example 77 A 192.0.2.1"),
        (
            0,
            "both.example AAAA",
            "NOERROR aa; an both.example 77 AAAA 2001:db8::1; an both.example 77 AAAA 2001:db8::2",
        ),
        (0, "both.example TXT", "NOERROR aa; au both.example 77 SOA 77"),
        (0, "four.example AAAA", "NOERROR aa; an four.example 77 AAAA ::c000:201 *"),
        (0, "four.example AAAA cd", "NOERROR aa; au four.example 77 SOA 77"),
        (1, "four.example AAAA", "NOERROR aa; au four.example 77 SOA 77"),
        (0, "loop.example AAAA", "NOERROR aa; au loop.example 77 SOA 77"),
        (0, "loop.example A", "NOERROR aa; an loop.example 77 A 127.0.0.1"),
        (0, "none.example A", "NOERROR aa; au none.example 77 SOA 77"),
        (0, "never.example AAAA", "NOERROR aa; au never.example 77 SOA 77"),
    ] {
        lab.view = view;
        let outcome = lab.ask(q);
        assert_eq!(outcome.answer, expected, "{q}");
        assert_eq!(outcome.counted(), [("dns64-local", 1)]);
        assert!(!outcome.finished.cacheable);
    }
}

/// RFC 7050 3.4, RFC 7050 4, RFC 7050 5 and RFC 7050 8.2: what hosts look for; RFC 8880 5: whatever DNSSEC says.
#[test]
fn rfc8880_7_1_ipv4only_arpa_tells_the_prefix() {
    // RFC 8880 7.1: nothing is ever asked upstream. RFC 7050 3.4: under the well-known prefix too.
    for prefix in [PREFIX, "64:ff9b::/96", "2001:db8::/32"] {
        let mut v = view("a", Some(prefix));
        v.never = names(&["arpa"]);
        let mut lab = Lab::with(vec![v], &[]);
        lab.config.synthesis.only_a = vec!["198.51.100.0/24".parse().unwrap()];
        for flags in ["", "do", "cd", "do cd"] {
            let outcome = lab.ask(&format!("ipv4only.arpa AAAA {flags}"));
            assert_eq!(
                outcome.answer,
                "NOERROR aa; an ipv4only.arpa 3600 AAAA ::c000:aa *; an ipv4only.arpa 3600 AAAA ::c000:ab *"
            );
            assert_eq!(outcome.counted(), [("dns64-ipv4only", 1)]);
            let outcome = lab.ask(&format!("ipv4only.arpa A {flags}"));
            assert_eq!(
                outcome.answer,
                "NOERROR aa; an ipv4only.arpa 3600 A 192.0.0.170; an ipv4only.arpa 3600 A 192.0.0.171"
            );
        }
        for q in ["NS", "SOA", "TXT", "MX", "DNSKEY", "PTR"] {
            let outcome = lab.ask(&format!("ipv4only.arpa {q}"));
            assert_eq!(outcome.answer, "NOERROR aa; au ipv4only.arpa 60 SOA 60", "{q}");
        }
        for q in ["A", "AAAA", "DS", "TXT"] {
            let outcome = lab.ask(&format!("a.b.ipv4only.arpa {q}"));
            assert_eq!(outcome.answer, "NXDOMAIN aa; au ipv4only.arpa 60 SOA 60", "{q}");
        }
    }
    let reply = "NOERROR ad; au arpa 700 SOA 700; au arpa 900 RRSIG SOA";
    let outcome = Lab::new(&[("ipv4only.arpa DS do", reply)]).ask("ipv4only.arpa DS do");
    assert_eq!(outcome.answer, reply, "DS as any other");
}

const IN_ADDR: &str = "10.100.51.198.in-addr.arpa";

fn reverse_question() -> String {
    format!("{} PTR", ip6_arpa("2001:db8:64:ff9b::c633:640a".parse().unwrap()))
}

/// RFC 8880 7.2.1 as well.
#[test]
fn rfc6147_5_3_1_an_address_under_the_prefix_has_the_name_of_its_ipv4_address() {
    let upstream = format!("{IN_ADDR} PTR");
    let q = reverse_question();
    let ip6 = q.split_once(' ').unwrap().0;
    let reply = format!("NOERROR ad; an {IN_ADDR} 300 PTR v4only.example; au in-addr.arpa 900 NS ns.example");
    let outcome = Lab::new(&[(upstream.as_str(), reply.as_str())]).ask(&q);
    assert_eq!(
        outcome.answer,
        reply.replace(" ad; ", &format!("; an {ip6} 300 CNAME {IN_ADDR}; ")),
        "and AD is not on it"
    );
    assert_eq!(outcome.counted(), [("dns64-reverse", 1)]);
    assert!(!outcome.finished.cacheable, "what it is made of is");
    // RFC 6147 5.3.1: no chain is made longer than it is.
    let chain = format!(
        "NOERROR; an {IN_ADDR} 300 CNAME 10.net.example; an {IN_ADDR} 300 RRSIG CNAME; \
         an 10.net.example 200 PTR v4only.example; an 10.net.example 200 RRSIG PTR"
    );
    let outcome = Lab::new(&[(upstream.as_str(), chain.as_str())]).ask(&q);
    assert_eq!(outcome.answer, format!("NOERROR; an {ip6} 200 PTR v4only.example"));
    // RFC 6147 5.3.1: no CNAME record to nothing.
    for (reply, expected) in [
        ("NXDOMAIN ad; au in-addr.arpa 90 SOA 80", format!("NXDOMAIN; au {ip6} 80 SOA 80")),
        ("NOERROR; au in-addr.arpa 90 SOA 80", format!("NOERROR; au {ip6} 80 SOA 80")),
        ("TIMEOUT", "SERVFAIL".to_owned()),
        ("FAILED", "SERVFAIL".to_owned()),
    ] {
        let outcome = Lab::new(&[(upstream.as_str(), reply)]).ask(&q);
        assert_eq!(outcome.answer, expected);
    }
}

#[test]
fn rfc8880_7_2_1_the_addresses_of_ipv4only_arpa_have_its_name_without_asking() {
    for last in ["aa", "ab"] {
        let a = format!("2001:db8:64:ff9b::c000:{last}");
        let q = ip6_arpa(a.parse().unwrap());
        let outcome = Lab::new(&[]).ask(&format!("{q} PTR"));
        assert_eq!(outcome.answer, format!("NOERROR aa; an {q} 3600 PTR ipv4only.arpa"));
    }
}

#[test]
fn rfc8482_4_2_a_question_for_all_types_gets_one_record() {
    let outcome = Lab::new(&[]).ask("n.example ANY");
    let message = Message::from_vec(&outcome.finished.answer.octets).unwrap();
    let expected = HINFO::from_bytes(Box::from(&b"RFC8482"[..]), Box::default());
    assert_eq!(message.answers.len(), 1);
    assert_eq!(message.answers[0].data, RData::HINFO(expected));
    assert_eq!(outcome.counted(), [("dns64-any", 1)]);
}

#[test]
fn rfc6761_6_3_localhost_is_the_host_itself() {
    let lab = Lab::new(&[]);
    for (q, expected) in [
        ("localhost A", "NOERROR aa; an localhost 3600 A 127.0.0.1"),
        ("a.localhost AAAA", "NOERROR aa; an a.localhost 3600 AAAA ::1"),
        ("localhost MX", "NOERROR aa; au localhost 3600 SOA 3600"),
        ("a.invalid A", "NXDOMAIN aa; au invalid 3600 SOA 3600"),
        ("invalid A", "NXDOMAIN aa; au invalid 3600 SOA 3600"),
        ("a.b.onion AAAA", "NXDOMAIN aa; au onion 3600 SOA 3600"),
    ] {
        assert_eq!(lab.ask(q).answer, expected);
    }
}

#[test]
fn each_answer_says_why_it_is_so() {
    let upstream = [("n.example AAAA", NODATA), ("n.example A", "NOERROR; an n.example 60 A 192.0.2.1")];
    let outcome = Lab::new(&upstream).ask("n.example AAAA");
    let said: Vec<&str> = outcome
        .steps
        .iter()
        .map(|s| match s {
            explain::Step::Decided(why) | explain::Step::Local(why) => *why,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(said.len(), 2);
    assert!(said[0].contains("5.1.6") && said[1].contains("5.1.7"), "{said:?}");
    assert!(matches!(Lab::new(&[]).ask("localhost A").steps[..], [explain::Step::Local(_)]));
}

#[test]
fn what_is_kept_of_upstreams_answers_is_complete() {
    let cache = config(&[], Vec::new()).cache;
    let q = question("a.example A");
    let keep = |text: &str, age| native(&fetched(&q, text, age).unwrap(), &cache);
    assert_eq!(keep("NOERROR; an a.example 50 A 192.0.2.1", 10).map(|a| a.ttl), Some(40));
    assert_eq!(keep("NOERROR; an a.example 50 A 192.0.2.1", 50), None);
    // The rest of a chain that upstream did not follow would be missing.
    assert_eq!(keep("NOERROR; an a.example 50 CNAME b.example", 0), None);
    assert_eq!(keep("SERVFAIL", 0), None);
    assert_eq!(keep("BADVERS", 0), None);
    for (error, rcode) in
        [(FetchError::Timeout, SERVFAIL), (FetchError::Failed(5), SERVFAIL), (FetchError::Failed(6), 6)]
    {
        let kept = failure(&q, error, &cache).unwrap();
        assert_eq!((kept.rcode(), kept.ttl), (rcode, 5), "RFC 9520 3.2");
    }
    assert_eq!(failure(&q, FetchError::Busy, &cache), None);
}
