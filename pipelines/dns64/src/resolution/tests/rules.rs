//! RFC 6147, clause by clause, and what goes with it.

use super::*;

/// RFC 6147 5.1: they are asked for first.
#[test]
fn rfc6147_5_1_1_aaaa_records_are_passed_and_none_are_made() {
    let reply = "NOERROR ad; an dual.example 300 AAAA 2001:db8:6::10; au example 900 NS ns.example; \
                 ad ns.example 900 A 192.0.2.1";
    let lab = Lab::new(&[("dual.example AAAA", reply)]);
    let outcome = lab.ask("dual.example AAAA");
    assert_eq!(outcome.answer, reply);
    assert_eq!(outcome.finished.variant, Variant::Synthesised);
    assert!(outcome.finished.cacheable);
    assert_eq!(outcome.finished.answer.ttl, 300);
    assert_eq!(outcome.counted(), []);
}

#[test]
fn rfc6147_5_1_2_nxdomain_stays_nxdomain() {
    let reply = "NXDOMAIN ad; au example 900 SOA 700";
    let outcome = Lab::new(&[("none.example AAAA", reply)]).ask("none.example AAAA");
    assert_eq!(outcome.answer, "NXDOMAIN ad; au example 700 SOA 700");
    assert_eq!(outcome.asked, ["none.example AAAA"]);
    assert_eq!(outcome.finished.answer.ttl, 700);
    // At the end of a chain too (RFC 6604 3).
    let reply = "NXDOMAIN; an www.example 60 CNAME none.example; au example 900 SOA 700";
    let outcome = Lab::new(&[("www.example AAAA", reply)]).ask("www.example AAAA");
    assert_eq!(outcome.answer, reply.replace("900", "60"));
    assert_eq!(outcome.finished.answer.ttl, 60);
}

#[test]
fn rfc6147_5_1_2_a_failure_does_not_mean_that_there_is_no_aaaa_record_unless_configured() {
    for (reply, ede) in [
        ("FAILED", None),
        ("REFUSED", None),
        ("TIMEOUT", Some(EDE_UNREACHABLE)),
        ("UNUSABLE", Some(EDE_NETWORK)),
        ("SERVFAIL", None),
    ] {
        let outcome = Lab::new(&[("a.example AAAA", reply)]).ask("a.example AAAA");
        assert_eq!(outcome.answer, "SERVFAIL", "{reply}");
        assert_eq!(outcome.counted(), [("dns64-failed-closed", 1)], "{reply}");
        assert_eq!(outcome.finished.answer.extended_error, ede, "{reply}");
        // RFC 9520 3.2: a failure is remembered.
        assert_eq!((outcome.finished.answer.ttl, outcome.finished.cacheable), (5, true), "{reply}");
    }
    for (reply, counted) in [("REFUSED", "dns64-failed-open"), ("UNUSABLE", "dns64-failed-open")] {
        let upstream = [("a.example AAAA", reply), ("a.example A", "NOERROR; an a.example 900 A 192.0.2.1")];
        let outcome = Lab::new(&upstream).on_failure(OnFailure::Synthesise).ask("a.example AAAA");
        assert_eq!(outcome.answer, "NOERROR; an a.example 600 AAAA ::c000:201 *");
        assert_eq!(outcome.counted(), [(counted, 1), ("dns64-synthesised", 1)]);
    }
}

#[test]
fn rfc6147_5_1_3_a_timeout_is_a_failure() {
    let upstream = [("a.example AAAA", "TIMEOUT"), ("a.example A", "NOERROR; an a.example 60 A 192.0.2.1")];
    let closed = Lab::new(&upstream).ask("a.example AAAA");
    assert_eq!((closed.answer.as_str(), closed.asked.len()), ("SERVFAIL", 1));
    let open = Lab::new(&upstream).on_failure(OnFailure::Synthesise).ask("a.example AAAA");
    assert_eq!(open.answer, "NOERROR; an a.example 60 AAAA ::c000:201 *");
}

#[test]
fn being_busy_is_remembered_of_nobody() {
    for what in [OnFailure::Fail, OnFailure::Synthesise] {
        let outcome = Lab::new(&[("a.example AAAA", "BUSY")]).on_failure(what).ask("a.example AAAA");
        assert_eq!(outcome.answer, "SERVFAIL");
        assert!(!outcome.finished.cacheable);
    }
}

#[test]
fn rfc6147_5_5_a_bogus_answer_is_never_diverted() {
    // The A records would validate; the answer about AAAA records is there for who does not check it.
    for unchecked in [NODATA, "NOERROR; an a.example 60 AAAA 2001:db8::1", "NXDOMAIN; au example 9 SOA 9"] {
        let upstream = [
            ("a.example AAAA do", "FAILED"),
            ("a.example AAAA do cd", unchecked),
            ("a.example A do", "NOERROR; an a.example 60 A 192.0.2.1"),
        ];
        let outcome = Lab::new(&upstream).on_failure(OnFailure::Synthesise).ask("a.example AAAA do");
        assert_eq!(outcome.answer, "SERVFAIL", "{unchecked}");
        assert_eq!(outcome.asked, ["a.example AAAA do", "a.example AAAA do cd"]);
        assert_eq!(outcome.finished.answer.extended_error, Some(EDE_BOGUS));
        assert_eq!(outcome.counted(), [("dns64-bogus", 1)]);
    }
    // A server that fails with and without checks has a bad moment.
    for unchecked in ["FAILED", "TIMEOUT", "SERVFAIL"] {
        let upstream = [
            ("a.example AAAA", "FAILED"),
            ("a.example AAAA cd", unchecked),
            ("a.example A", "NOERROR; an a.example 60 A 192.0.2.1"),
        ];
        let outcome = Lab::new(&upstream).on_failure(OnFailure::Synthesise).ask("a.example AAAA");
        assert_eq!(outcome.answer, "NOERROR; an a.example 60 AAAA ::c000:201 *", "{unchecked}");
        assert_eq!(outcome.counted(), [("dns64-failed-open", 1), ("dns64-synthesised", 1)]);
    }
    // Bogus A records fail, whatever is configured.
    for what in [OnFailure::Fail, OnFailure::Synthesise] {
        let upstream = [("a.example AAAA do", NODATA), ("a.example A do", "FAILED")];
        let outcome = Lab::new(&upstream).on_failure(what).ask("a.example AAAA do");
        assert_eq!(outcome.answer, "SERVFAIL");
    }
}

#[test]
fn rfc6147_5_1_4_excluded_aaaa_records_are_left_out() {
    let reply = "NOERROR ad; an m.example 300 AAAA ::ffff:192.0.2.1; an m.example 300 AAAA 2001:db8::1; \
                 an m.example 300 RRSIG AAAA";
    let outcome = Lab::new(&[("m.example AAAA do", reply)]).ask("m.example AAAA do");
    // What was signed is not what is told.
    assert_eq!(outcome.answer, "NOERROR; an m.example 300 AAAA 2001:db8::1");
    assert_eq!(outcome.counted(), [("dns64-aaaa-excluded", 1)]);
    assert!(outcome.finished.cacheable);
}

#[test]
fn rfc6147_5_1_4_an_answer_of_excluded_aaaa_records_only_is_empty() {
    let aaaa =
        ("m.example AAAA", "NOERROR; an m.example 300 AAAA ::ffff:1.2.3.4; an m.example 300 AAAA ::ffff:0:0");
    let a = ("m.example A", "NOERROR; an m.example 900 A 192.0.2.1");
    let outcome = Lab::new(&[aaaa, a]).ask("m.example AAAA");
    assert_eq!(outcome.answer, "NOERROR; an m.example 600 AAAA ::c000:201 *");
    assert_eq!(outcome.counted(), [("dns64-aaaa-excluded", 2), ("dns64-synthesised", 1)]);
    // And if there is no A record, there is nothing: never the excluded ones.
    let outcome = Lab::new(&[aaaa, ("m.example A", NODATA)]).ask("m.example AAAA");
    assert_eq!(outcome.answer, "NOERROR; au example 700 SOA 700");
    assert_eq!(outcome.finished.answer.ttl, 700);
}

#[test]
fn rfc6147_5_1_4_the_excluded_ranges_are_configured() {
    let mut lab = Lab::new(&[
        ("m.example AAAA", "NOERROR; an m.example 300 AAAA 2001:db8:bad::1"),
        ("m.example A", "NOERROR; an m.example 60 A 192.0.2.1"),
        ("n.example AAAA", "NOERROR; an n.example 300 AAAA ::ffff:1.2.3.4"),
    ]);
    lab.config.synthesis.exclude_aaaa = vec!["2001:db8:bad::/48".parse().unwrap()];
    assert_eq!(lab.ask("m.example AAAA").answer, "NOERROR; an m.example 60 AAAA ::c000:201 *");
    assert_eq!(lab.ask("n.example AAAA").answer, "NOERROR; an n.example 300 AAAA ::ffff:1.2.3.4");
}

#[test]
fn aaaa_records_in_a_nat64_prefix_are_no_servers_to_tell() {
    // Of any view: what is cached is for all.
    let views = vec![view("a", Some(PREFIX)), view("b", Some("2001:db8:77::/48"))];
    let lab = Lab::with(
        views,
        &[
            (
                "l.example AAAA",
                "NOERROR; an l.example 300 AAAA 2001:db8:64:ff9b::a00:1; an l.example 300 AAAA 2001:db8:77::1",
            ),
            ("l.example A", NODATA),
        ],
    );
    let outcome = lab.ask("l.example AAAA");
    assert_eq!(outcome.answer, "NOERROR; au example 700 SOA 700");
    assert_eq!(outcome.counted(), [("dns64-aaaa-in-prefix", 2)]);
}

/// RFC 6147 5.1.7: what is made has the name of the A record.
#[test]
fn rfc6147_5_1_5_chains_are_part_of_the_answer() {
    let upstream = [
        (
            "www.example AAAA do",
            "NOERROR ad; an www.example 50 CNAME web.example; an www.example 50 RRSIG CNAME; au example 900 SOA 700",
        ),
        (
            "www.example A do",
            "NOERROR ad; an www.example 50 CNAME web.example; an www.example 50 RRSIG CNAME; \
          an web.example 300 A 192.0.2.1; an web.example 300 A 192.0.2.2; an web.example 300 RRSIG A; au example 900 NS ns.example",
        ),
    ];
    let outcome = Lab::new(&upstream).ask("www.example AAAA do");
    // RFC 6147 5.5: only the signature of what was made is dropped, and AD is not set.
    assert_eq!(
        outcome.answer,
        "NOERROR; an www.example 50 CNAME web.example; an www.example 50 RRSIG CNAME; an web.example 300 AAAA ::c000:201 *; \
         an web.example 300 AAAA ::c000:202 *; au example 900 NS ns.example"
    );
    assert_eq!(outcome.finished.answer.ttl, 50);
}

#[test]
fn rfc6147_5_1_5_chains_that_upstream_did_not_follow_are_followed() {
    let upstream = [
        ("a.example AAAA", "NOERROR ad; an a.example 50 CNAME b.example"),
        ("b.example AAAA", "NOERROR ad; an b.example 60 CNAME c.example; an c.example 60 CNAME d.example"),
        ("d.example AAAA", NODATA),
        ("a.example A", "NOERROR; an a.example 50 CNAME b.example"),
        ("b.example A", "NOERROR; an b.example 60 CNAME c.example; an c.example 60 CNAME d.example"),
        ("d.example A", "NOERROR; an d.example 800 A 192.0.2.1"),
    ];
    let outcome = Lab::new(&upstream).ask("a.example AAAA");
    assert_eq!(
        outcome.answer,
        "NOERROR; an a.example 50 CNAME b.example; an b.example 60 CNAME c.example; an c.example 60 CNAME d.example; \
         an d.example 700 AAAA ::c000:201 *"
    );
    assert_eq!(outcome.counted(), [("dns64-chain-followed", 4), ("dns64-synthesised", 1)]);
    // The same for other types; what is at the end is as authentic as its chain.
    let upstream = [
        ("a.example TXT", "NOERROR; an a.example 50 CNAME b.example"),
        ("b.example TXT", "NOERROR ad; an b.example 60 TXT x"),
    ];
    let outcome = Lab::new(&upstream).ask("a.example TXT");
    assert_eq!(outcome.answer, "NOERROR; an a.example 50 CNAME b.example; an b.example 60 TXT text");
    // An end that does not answer is a failure, and one that does not exist is no name.
    let first = ("a.example A", "NOERROR; an a.example 50 CNAME b.example");
    assert_eq!(Lab::new(&[first, ("b.example A", "TIMEOUT")]).ask("a.example A").answer, "SERVFAIL");
    assert_eq!(
        Lab::new(&[first, ("b.example A", "NXDOMAIN; au example 90 SOA 70")]).ask("a.example A").answer,
        "NXDOMAIN; an a.example 50 CNAME b.example; au example 50 SOA 70"
    );
    // The name alone is asked for when it is what is asked for.
    let outcome = Lab::new(&[("a.example CNAME", first.1)]).ask("a.example CNAME");
    assert_eq!(outcome.answer, first.1);
}

#[test]
fn chains_that_are_circles_or_too_long_are_failures() {
    let circle = "NOERROR; an a.example 50 CNAME b.example; an b.example 50 CNAME a.example";
    let outcome = Lab::new(&[("a.example AAAA", circle)]).ask("a.example AAAA");
    assert_eq!(outcome.answer, "SERVFAIL");
    assert_eq!(outcome.counted(), [("dns64-chain-broken", 1), ("dns64-failed-closed", 1)]);
    // A circle in steps: names are asked for again until there are too many links.
    let policy = Arc::new(Policy::new(Arc::new(config(&[], vec![view("a", Some(PREFIX))]))));
    let q = question("n0.example A");
    for (circle, most) in [(true, chain::MAX_LINKS), (false, chain::MAX_LINKS)] {
        let (mut resolution, mut step) = Resolution::start(&q, Variant::Native, 0, &policy);
        let mut fetches = 0;
        let finished = loop {
            match step {
                Step::Fetch(wanted) => {
                    fetches += 1;
                    let owner = display_name(&wanted.name);
                    let target = if circle { "n0.example".to_owned() } else { format!("n{fetches}.example") };
                    let reply = format!("NOERROR; an {} 50 CNAME {target}", owner.trim_end_matches('.'));
                    step = resolution.on(fetched(&wanted, &reply, 0));
                }
                Step::Done(finished) => break finished,
            }
        };
        assert_eq!(show(&finished), "SERVFAIL");
        assert!(fetches <= most + 1, "{fetches}");
    }
}

#[test]
fn rfc6672_3_1_dname_records_make_cname_records() {
    let upstream = [
        ("x.old.example AAAA", "NOERROR; an old.example 80 DNAME new.example; au example 900 SOA 700"),
        ("x.old.example A", "NOERROR; an old.example 80 DNAME new.example; an x.new.example 300 A 192.0.2.1"),
    ];
    let outcome = Lab::new(&upstream).ask("x.old.example AAAA");
    assert_eq!(
        outcome.answer,
        "NOERROR; an old.example 80 DNAME new.example; an x.new.example 300 AAAA ::c000:201 *; \
         an x.old.example 80 CNAME x.new.example"
    );
    // Where the server made it, it stays the only one.
    let made = "NOERROR; an old.example 80 DNAME new.example; an x.old.example 80 CNAME x.new.example; \
                an x.new.example 300 AAAA 2001:db8::1";
    assert_eq!(Lab::new(&[("x.old.example AAAA", made)]).ask("x.old.example AAAA").answer, made);
    // RFC 6672 2.3: the owner of a DNAME record is not renamed itself.
    let own = "NOERROR; an old.example 80 DNAME new.example; au example 900 SOA 700";
    let outcome = Lab::new(&[("old.example TXT", own)]).ask("old.example TXT");
    assert_eq!(outcome.asked.len(), 1);
    // RFC 6672 2.2: a name that gets too long is none.
    let long = ["a123456789b123456789c123456789d123456789e123456789f123456789"; 4].join(".");
    let reply = format!("NOERROR; an long.example 80 DNAME {}.example", &long[..180]);
    let asked = format!("{}.long.example A", &long[..120]);
    let outcome = Lab::new(&[(asked.as_str(), reply.as_str())]).ask(&asked);
    assert_eq!((outcome.answer.as_str(), outcome.counted()), ("SERVFAIL", vec![("dns64-chain-broken", 1)]));
    let outcome = Lab::new(&[(asked.as_str(), "YXDOMAIN")]).ask(&asked);
    assert_eq!(outcome.answer, "YXDOMAIN");
}

/// RFC 6147 5.4.
#[test]
fn rfc6147_5_1_6_without_a_records_the_answer_is_that_to_the_clients_question() {
    let upstream = [
        ("n.example AAAA", "NOERROR ad; au example 900 SOA 700; au example 900 RRSIG SOA"),
        ("n.example A", "NOERROR; au example 900 SOA 300"),
    ];
    let outcome = Lab::new(&upstream).ask("n.example AAAA");
    // No longer than there is no A record.
    assert_eq!(outcome.answer, "NOERROR ad; au example 300 SOA 700; au example 900 RRSIG SOA");
    assert_eq!(outcome.finished.answer.ttl, 300);
    assert!(outcome.finished.cacheable);
    assert_eq!(outcome.counted(), []);
}

#[test]
fn rfc6147_5_1_6_a_failure_or_nxdomain_of_the_question_for_a_records_is_the_answer() {
    for (reply, expected) in [
        ("FAILED", "SERVFAIL"),
        ("TIMEOUT", "SERVFAIL"),
        ("NXDOMAIN; au example 90 SOA 70", "NXDOMAIN; au example 70 SOA 70"),
    ] {
        let outcome = Lab::new(&[("n.example AAAA", NODATA), ("n.example A", reply)]).ask("n.example AAAA");
        assert_eq!(outcome.answer, expected);
    }
}

#[test]
fn rfc6147_5_1_7_the_ttl_is_the_lesser_of_that_of_the_a_record_and_of_the_soa_record() {
    for (negative, ttl, expected) in [
        ("NOERROR; au example 900 SOA 700", 5000, 700),
        ("NOERROR; au example 400 SOA 700", 5000, 400),
        ("NOERROR; au example 900 SOA 700", 30, 30),
        ("NOERROR; au example 86400 SOA 86400", 5000, 5000),
        // Without an SOA record, or with one of another zone: 600 seconds at most.
        ("NOERROR", 5000, 600),
        ("NOERROR", 599, 599),
        ("NOERROR; au example 900 NS ns.example", 5000, 600),
        ("NOERROR; au other 20 SOA 20", 5000, 600),
    ] {
        let a = format!("NOERROR; an n.example {ttl} A 192.0.2.1");
        let outcome =
            Lab::new(&[("n.example AAAA", negative), ("n.example A", a.as_str())]).ask("n.example AAAA");
        assert_eq!(
            outcome.answer,
            format!("NOERROR; an n.example {expected} AAAA ::c000:201 *"),
            "{negative}"
        );
        assert_eq!(outcome.finished.answer.ttl, expected);
    }
}

#[test]
fn rfc2181_5_2_what_was_in_the_cache_is_good_for_what_is_left() {
    let mut lab = Lab::new(&[
        ("n.example AAAA", "NOERROR; au example 900 SOA 700"),
        ("n.example A", "NOERROR; an n.example 500 A 192.0.2.1"),
        ("o.example AAAA", "NOERROR; au example 900 SOA 700"),
        ("o.example A", "NOERROR; an o.example 5000 A 192.0.2.1"),
        ("p.example A", "NOERROR; an p.example 50 A 192.0.2.1"),
    ]);
    lab.age = 100;
    assert_eq!(lab.ask("n.example AAAA").answer, "NOERROR; an n.example 400 AAAA ::c000:201 *");
    assert_eq!(lab.ask("o.example AAAA").answer, "NOERROR; an o.example 600 AAAA ::c000:201 *");
    let over = lab.ask("p.example A");
    assert_eq!(over.answer, "NOERROR; an p.example 0 A 192.0.2.1");
    assert!(!over.finished.cacheable);
}

#[test]
fn rfc2308_5_negative_answers_are_kept_as_long_as_their_soa_record_says() {
    for (reply, ttl) in [
        ("NOERROR; au example 900 SOA 700", 700),
        ("NXDOMAIN; au example 400 SOA 700", 400),
        // At most what is configured.
        ("NXDOMAIN; au example 86400 SOA 86400", 3600),
        // Not at all without one.
        ("NOERROR", 0),
        ("NXDOMAIN; au example 900 NS ns.example", 0),
        ("NXDOMAIN; au other 900 SOA 900", 0),
    ] {
        let outcome = Lab::new(&[("n.example TXT", reply)]).ask("n.example TXT");
        assert_eq!((outcome.finished.answer.ttl, outcome.finished.cacheable), (ttl, ttl > 0), "{reply}");
        let q = question("n.example TXT");
        let kept = native(&fetched(&q, reply, 0).unwrap(), &config(&[], Vec::new()).cache);
        assert_eq!(kept.map(|a| a.ttl), (ttl > 0).then_some(ttl), "{reply}");
    }
    let outcome = Lab::new(&[("n.example TXT", "NXDOMAIN; au example 86400 SOA 86400")]).ask("n.example TXT");
    assert_eq!(outcome.answer, "NXDOMAIN; au example 3600 SOA 86400", "and clients keep it no longer");
}

#[test]
fn ttls_are_no_longer_than_configured() {
    let mut lab =
        Lab::new(&[("n.example A", "NOERROR; an n.example 90000 A 192.0.2.1; au example 90000 NS ns")]);
    lab.config.cache.max_ttl = 1000;
    let outcome = lab.ask("n.example A");
    assert_eq!(outcome.answer, "NOERROR; an n.example 1000 A 192.0.2.1; au example 1000 NS ns");
    assert_eq!(outcome.finished.answer.ttl, 1000);
}

#[test]
fn rfc6147_5_3_2_the_additional_section_is_passed_unchanged() {
    let a = "NOERROR; an n.example 60 A 192.0.2.1; au example 900 NS ns.example; ad ns.example 900 A 192.0.2.7; \
             ad ns.example 900 AAAA ::ffff:1.2.3.4; ad ns.example 900 RRSIG A";
    let outcome = Lab::new(&[("n.example AAAA", NODATA), ("n.example A", a)]).ask("n.example AAAA");
    assert_eq!(outcome.answer, a.replacen("A 192.0.2.1", "AAAA ::c000:201 *", 1));
}

#[test]
fn rfc6147_5_3_3_other_records_are_passed_unchanged() {
    for reply in [
        "NOERROR ad; an n.example 60 A 0.0.0.0; an n.example 60 RRSIG A",
        "NOERROR; an n.example 60 A 192.0.2.1; ad n.example 60 AAAA ::ffff:1.2.3.4",
    ] {
        assert_eq!(Lab::new(&[("n.example A do", reply)]).ask("n.example A do").answer, reply);
    }
}

#[test]
fn rfc6147_5_4_the_header_is_a_resolvers_and_the_question_the_clients() {
    let upstream = [
        ("n.example AAAA", "NOERROR aa; au example 900 SOA 700"),
        ("n.example A", "NOERROR aa; an n.example 60 A 192.0.2.1"),
    ];
    let outcome = Lab::new(&upstream).ask("n.example AAAA");
    let message = Message::from_vec(&outcome.finished.answer.octets).unwrap();
    assert_eq!(message.queries.len(), 1);
    assert_eq!(message.queries[0].name(), &name("n.example"));
    assert_eq!(message.queries[0].query_type(), RecordType::AAAA);
    assert!(!message.metadata.authoritative);
    assert_eq!(
        Lab::new(&[("n.example A", upstream[1].1)]).ask("n.example A").answer,
        upstream[1].1.replace(" aa", "")
    );
}

/// RFC 6147 3 too.
#[test]
fn rfc6147_5_5_with_cd_the_client_gets_what_upstream_has() {
    for flags in ["do cd", "cd"] {
        let q = format!("n.example AAAA {flags}");
        for reply in [
            "NOERROR; au example 700 SOA 700; au example 900 RRSIG SOA",
            "NOERROR; an n.example 60 AAAA ::ffff:1.2.3.4; an n.example 60 RRSIG AAAA",
        ] {
            let outcome = Lab::new(&[(q.as_str(), reply)]).ask(&q);
            assert_eq!(outcome.answer, reply);
            assert_eq!(outcome.finished.variant, Variant::Native);
        }
    }
}

#[test]
fn rfc6147_5_5_with_do_both_answers_are_asked_for_with_do_and_ad_is_never_on_what_was_made() {
    let upstream = [
        ("n.example AAAA do", "NOERROR ad; au example 900 SOA 700; au example 900 RRSIG SOA"),
        ("n.example A do", "NOERROR ad; an n.example 60 A 192.0.2.1; an n.example 60 RRSIG A"),
    ];
    let outcome = Lab::new(&upstream).ask("n.example AAAA do");
    assert_eq!(outcome.answer, "NOERROR; an n.example 60 AAAA ::c000:201 *");
    assert_eq!(outcome.asked, ["n.example AAAA do", "n.example A do"]);
}

#[test]
fn a_records_that_are_no_hosts_are_not_synthesised() {
    let a = "NOERROR; an n.example 60 A 0.0.0.0; an n.example 60 A 224.0.0.1; an n.example 60 A 192.0.2.1; \
             an n.example 60 A 127.0.0.1";
    let outcome = Lab::new(&[("n.example AAAA", NODATA), ("n.example A", a)]).ask("n.example AAAA");
    assert_eq!(outcome.answer, "NOERROR; an n.example 60 AAAA ::c000:201 *");
    assert_eq!(outcome.counted(), [("dns64-address-refused", 3), ("dns64-synthesised", 1)]);
    let a = "NOERROR; an n.example 60 A 0.0.0.0; an n.example 60 RRSIG A";
    let outcome = Lab::new(&[("n.example AAAA", NODATA), ("n.example A", a)]).ask("n.example AAAA");
    assert_eq!(outcome.answer, "NOERROR; au example 60 SOA 700");
    assert_eq!(outcome.counted(), [("dns64-address-refused", 1)]);
    // Where the answer to the client's question cannot be given, what is left of the other has no A records.
    let aaaa = "NOERROR; an n.example 60 AAAA ::ffff:1.2.3.4";
    let outcome = Lab::new(&[("n.example AAAA", aaaa), ("n.example A", a)]).ask("n.example AAAA");
    assert_eq!(outcome.answer, "NOERROR");
    assert_eq!(outcome.finished.answer.ttl, 60, "as long as there is that A record");
}

/// RFC 6147 5.1.7: which addresses may be used is configured.
#[test]
fn rules_of_a_views_own_are_obeyed_and_their_answers_not_cached() {
    let synthesis = Synthesis {
        exclude_aaaa: vec!["2001:db8:bad::/48".parse().unwrap()],
        exclude_a: Vec::new(),
        only_a: vec!["192.0.2.0/24".parse().unwrap()],
        on_failure: OnFailure::Synthesise,
    };
    let own = View { synthesis: Some(synthesis), ..view("own", Some(PREFIX)) };
    let mut lab = Lab::with(
        vec![view("a", Some(PREFIX)), own],
        &[
            ("n.example AAAA", "REFUSED"),
            ("n.example A", "NOERROR; an n.example 60 A 192.0.2.1; an n.example 60 A 198.51.100.1"),
            ("n.example TXT", "NOERROR; an n.example 60 TXT x"),
        ],
    );
    assert_eq!(lab.ask("n.example AAAA").answer, "SERVFAIL");
    lab.view = 1;
    let outcome = lab.ask("n.example AAAA");
    assert_eq!(outcome.answer, "NOERROR; an n.example 60 AAAA ::c000:201 *");
    assert!(!outcome.finished.cacheable);
    assert!(outcome.finished.answer.ttl > 0);
    assert!(lab.ask("n.example TXT").finished.cacheable, "what upstream says is for all");
}

#[test]
fn rfc6052_3_1_what_only_some_views_may_have_is_not_cached_for_all() {
    let views = vec![view("wkp", Some("64:ff9b::/96")), view("nsp", Some(PREFIX))];
    let mut lab = Lab::with(
        views,
        &[
            ("p.example AAAA", NODATA),
            ("p.example A", "NOERROR; an p.example 60 A 10.0.0.1; an p.example 60 A 9.9.9.9"),
            ("g.example AAAA", NODATA),
            ("g.example A", "NOERROR; an g.example 60 A 9.9.9.9"),
        ],
    );
    for (view, p) in [
        (0, "NOERROR; an p.example 60 AAAA ::909:909 *"),
        (1, "NOERROR; an p.example 60 AAAA ::a00:1 *; an p.example 60 AAAA ::909:909 *"),
    ] {
        lab.view = view;
        let outcome = lab.ask("p.example AAAA");
        assert_eq!(outcome.answer, p);
        assert!(!outcome.finished.cacheable);
        let outcome = lab.ask("g.example AAAA");
        assert_eq!(outcome.answer, "NOERROR; an g.example 60 AAAA ::909:909 *");
        assert!(outcome.finished.cacheable);
    }
    // Without that mixture there is one answer.
    lab.config.views.pop();
    lab.view = 0;
    let outcome = lab.ask("p.example AAAA");
    assert_eq!(outcome.answer, "NOERROR; an p.example 60 AAAA ::909:909 *");
    assert!(outcome.finished.cacheable);
}

#[test]
fn names_that_are_always_synthesised_are_so_even_with_aaaa_records() {
    let a = ("n.example A", "NOERROR; an n.example 900 A 192.0.2.1");
    let lab =
        Lab::with(vec![always()], &[a, ("n.example AAAA", "NOERROR; an n.example 60 AAAA 2001:db8::1")]);
    let outcome = lab.ask("n.example AAAA");
    assert_eq!(outcome.answer, "NOERROR; an n.example 600 AAAA ::c000:201 *");
    assert_eq!((outcome.asked.len(), outcome.finished.variant), (1, Variant::Always));
    for (a, aaaa, expected) in [
        // Without A records the others are better than none.
        (
            NODATA,
            "NOERROR ad; an n.example 60 AAAA 2001:db8::1",
            "NOERROR ad; an n.example 60 AAAA 2001:db8::1",
        ),
        (NODATA, "NOERROR; an n.example 60 AAAA ::ffff:1.2.3.4", "NOERROR; au example 700 SOA 700"),
        (
            "NOERROR; an n.example 60 A 0.0.0.0",
            "NOERROR; au example 90 SOA 90",
            "NOERROR; au example 60 SOA 90",
        ),
        (NODATA, "TIMEOUT", "SERVFAIL"),
        (NODATA, "NXDOMAIN; au example 9 SOA 9", "NXDOMAIN; au example 9 SOA 9"),
        ("NXDOMAIN; au example 9 SOA 9", "", "NXDOMAIN; au example 9 SOA 9"),
        ("FAILED", "", "SERVFAIL"),
        ("TIMEOUT", "", "SERVFAIL"),
    ] {
        let lab = Lab::with(vec![always()], &[("n.example A", a), ("n.example AAAA", aaaa)]);
        assert_eq!(lab.ask("n.example AAAA").answer, expected, "{a} {aaaa}");
    }
}

#[test]
fn names_that_are_never_synthesised_are_as_upstream_has_them() {
    let never = View { never: names(&["example"]), ..view("a", Some(PREFIX)) };
    let reply = "NOERROR; au example 700 SOA 700";
    let outcome = Lab::with(vec![never], &[("n.example AAAA", reply)]).ask("n.example AAAA");
    assert_eq!((outcome.answer.as_str(), outcome.finished.variant), (reply, Variant::Native));
}
