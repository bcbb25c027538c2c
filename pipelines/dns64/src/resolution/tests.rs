//! Questions and answers are written as text:
//! `NOERROR ad; an www.example 300 A 192.0.2.1; au example 900 SOA 60` is a message with flag AD, one record in its
//! answer section and an SOA record with 60 in its last field. A `*` ends records that get a view's prefix.

use super::*;
use crate::config::{Config, LocalName, Synthesis, View};
use crate::policy::tests::{PREFIX, config, ip6_arpa, names, view, wire};
use crate::policy::{Asked, CLASS_IN, Decision};
use crate::question::display_name;
use hickory_proto::rr::rdata::{A, HINFO, NS, NULL, SOA, TXT};
use hickory_proto::serialize::binary::BinEncodable;
use proptest::prelude::*;
use std::collections::HashMap;

fn name(text: &str) -> Name {
    wire_name(&wire(text))
}

fn type_of(text: &str) -> RecordType {
    text.parse().unwrap()
}

/// A record: name, TTL, type, data.
fn record(text: &str) -> Record {
    let mut parts = text.split_whitespace();
    let mut next = || parts.next().unwrap_or_else(|| panic!("{text}"));
    let (owner, ttl, kind, data) = (name(next()), next().parse().unwrap(), next(), next());
    let data = match kind {
        "A" => RData::A(A(data.parse().unwrap())),
        "AAAA" => RData::AAAA(AAAA(data.parse().unwrap())),
        "CNAME" => RData::CNAME(CNAME(name(data))),
        "PTR" => RData::PTR(PTR(name(data))),
        "NS" => RData::NS(NS(name(data))),
        "SOA" => RData::SOA(SOA::new(name("ns"), name("mail"), 1, 2, 3, 4, data.parse().unwrap())),
        "TXT" => RData::TXT(TXT::new(vec![data.into()])),
        "DNAME" => {
            RData::Unknown { code: RecordType::DNAME, rdata: NULL::with(name(data).to_bytes().unwrap()) }
        }
        "RRSIG" => {
            let mut octets = u16::from(type_of(data)).to_be_bytes().to_vec();
            octets.extend([13, 2, 0, 0, 1, 44]);
            RData::Unknown { code: RecordType::RRSIG, rdata: NULL::with(octets) }
        }
        other => panic!("{other}"),
    };
    Record::from_rdata(owner, ttl, data)
}

fn parse(text: &str) -> Message {
    let mut parts = text.split(';').map(str::trim);
    let head = parts.next().unwrap();
    let (rcode, flags) = head.split_once(' ').unwrap_or((head, ""));
    let mut message = Message::new(7, MessageType::Response, OpCode::Query);
    message.metadata.response_code = match rcode {
        "NOERROR" => ResponseCode::NoError,
        "NXDOMAIN" => ResponseCode::NXDomain,
        "SERVFAIL" => ResponseCode::ServFail,
        "YXDOMAIN" => ResponseCode::YXDomain,
        "BADVERS" => ResponseCode::BADVERS,
        other => panic!("{other}"),
    };
    message.metadata.authentic_data = flags.contains("ad");
    message.metadata.authoritative = flags.contains("aa");
    for part in parts {
        let (section, text) = part.split_once(' ').unwrap();
        match section {
            "an" => message.answers.push(record(text)),
            "au" => message.authorities.push(record(text)),
            "ad" => message.additionals.push(record(text)),
            other => panic!("{other}"),
        }
    }
    message
}

fn text_of(r: &Record) -> String {
    let data = match &r.data {
        RData::SOA(soa) => soa.minimum.to_string(),
        RData::CNAME(CNAME(n)) | RData::PTR(PTR(n)) | RData::NS(NS(n)) => n.to_string(),
        RData::Unknown { code: RecordType::RRSIG, .. } => {
            RecordType::from(chain::covered(r).unwrap()).to_string()
        }
        RData::Unknown { code: RecordType::DNAME, rdata } => {
            Name::read(&mut BinDecoder::new(&rdata.anything)).unwrap().to_string()
        }
        RData::TXT(_) => "text".to_owned(),
        other => other.to_string(),
    };
    let full = format!("{} {} {} {}", r.name, r.ttl, r.record_type(), data.trim_end_matches('.'));
    full.replacen(". ", " ", 1)
}

/// An answer as text, from its octets.
fn show(finished: &Finished) -> String {
    let answer = &finished.answer;
    let message = Message::from_vec(&answer.octets).unwrap();
    let m = &message.metadata;
    assert!(m.recursion_available && !m.truncation && m.message_type == MessageType::Response && m.id == 0);
    let mut text = match m.response_code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::YXDomain => "YXDOMAIN",
        other => panic!("{other}"),
    }
    .to_owned();
    if m.authentic_data {
        text.push_str(" ad");
    }
    if m.authoritative {
        text.push_str(" aa");
    }
    let mut synthesised = 0;
    for (section, records) in
        [("an", &message.answers), ("au", &message.authorities), ("ad", &message.additionals)]
    {
        for r in records {
            text.push_str(&format!("; {section} {}", text_of(r)));
            // The place of its data is known by the octets there.
            if let RData::AAAA(AAAA(a)) = r.data
                && answer
                    .synthesised
                    .iter()
                    .any(|at| answer.octets[usize::from(*at)..].starts_with(&a.octets()))
            {
                text.push_str(" *");
                synthesised += 1;
            }
        }
    }
    assert_eq!(answer.synthesised.len(), synthesised, "{text}");
    text
}

fn question(text: &str) -> Question {
    let mut parts = text.split_whitespace();
    let (owner, kind) = (parts.next().unwrap(), parts.next().unwrap());
    let flags: Vec<&str> = parts.collect();
    Question {
        name: if owner == "." { wire("") } else { wire(owner) },
        qtype: type_of(kind).into(),
        dnssec_ok: flags.contains(&"do"),
        checking_disabled: flags.contains(&"cd"),
    }
}

fn question_text(q: &Question) -> String {
    let mut text = format!("{} {}", display_name(&q.name).trim_end_matches('.'), RecordType::from(q.qtype));
    if q.dnssec_ok {
        text.push_str(" do");
    }
    if q.checking_disabled {
        text.push_str(" cd");
    }
    text
}

fn fetched(q: &Question, text: &str, age: u32) -> Result<Fetched, FetchError> {
    match text {
        "TIMEOUT" => Err(FetchError::Timeout),
        "BUSY" => Err(FetchError::Busy),
        "UNUSABLE" => Err(FetchError::Unusable),
        "FAILED" => Err(FetchError::Failed(SERVFAIL)),
        "REFUSED" => Err(FetchError::Failed(5)),
        text => Ok(Fetched { question: q.clone(), message: parse(text), age }),
    }
}

/// What came of a question, in text.
#[derive(Debug)]
struct Outcome {
    answer: String,
    asked: Vec<String>,
    finished: Finished,
    steps: Vec<explain::Step>,
}

impl Outcome {
    fn counted(&self) -> Vec<(&'static str, u32)> {
        let mut list: Vec<_> = self.finished.counted.iter().map(|(c, n)| (c.name(), *n)).collect();
        list.sort_unstable();
        list
    }
}

/// A gateway with one view, and what its upstream says.
struct Lab {
    config: Config,
    view: u16,
    age: u32,
    upstream: HashMap<String, String>,
}

impl Lab {
    fn new(upstream: &[(&str, &str)]) -> Self {
        Self::with(vec![view("a", Some(PREFIX))], upstream)
    }

    fn with(views: Vec<View>, upstream: &[(&str, &str)]) -> Self {
        let upstream = upstream.iter().map(|(q, a)| ((*q).to_owned(), (*a).to_owned())).collect();
        Self { config: config(&[], views), view: 0, age: 0, upstream }
    }

    fn on_failure(mut self, what: OnFailure) -> Self {
        self.config.synthesis.on_failure = what;
        self
    }

    /// Asks as a client would: decision, then whatever that needs. Each question may be asked once.
    fn ask(&self, text: &str) -> Outcome {
        let policy = Arc::new(Policy::new(Arc::new(self.config.clone())));
        let q = question(text);
        let asked = Asked {
            name: &q.name,
            qtype: q.qtype,
            qclass: CLASS_IN,
            recursion_desired: true,
            checking_disabled: q.checking_disabled,
        };
        let (mut resolution, mut step) = match policy.decide(self.view, &asked) {
            Decision::Lookup(variant) => Resolution::start(&q, variant, self.view, &policy),
            Decision::Special(special) => Resolution::special(&q, special, self.view, &policy),
            Decision::Refuse(rcode) => panic!("refused with {rcode}"),
        };
        let mut asked = Vec::new();
        loop {
            match step {
                Step::Fetch(wanted) => {
                    let key = question_text(&wanted);
                    let reply = self.upstream.get(&key).unwrap_or_else(|| panic!("asked for {key}"));
                    assert!(!asked.contains(&key), "asked again for {key}");
                    asked.push(key);
                    step = resolution.on(fetched(&wanted, reply, self.age));
                }
                Step::Done(finished) => {
                    let steps = resolution.take_steps().collect();
                    return Outcome { answer: show(&finished), asked, finished, steps };
                }
            }
        }
    }
}

const NODATA: &str = "NOERROR; au example 900 SOA 700";

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
        assert_eq!(outcome.counted(), [(counted, 1), ("dns64-syntheses", 1)]);
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
        assert_eq!(outcome.counted(), [("dns64-failed-open", 1), ("dns64-syntheses", 1)]);
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
    assert_eq!(outcome.counted(), [("dns64-aaaa-excluded", 2), ("dns64-syntheses", 1)]);
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
    assert_eq!(outcome.counted(), [("dns64-chain-followed", 4), ("dns64-syntheses", 1)]);
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
    assert_eq!(outcome.counted(), [("dns64-address-refused", 3), ("dns64-syntheses", 1)]);
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

fn always() -> View {
    View { always: names(&["example"]), ..view("a", Some(PREFIX)) }
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
        let views = vec![if *is_always { always() } else { view("a", Some(PREFIX)) }];
        let mut c = config(&[], views);
        c.synthesis.on_failure = *what;
        let policy = Arc::new(Policy::new(Arc::new(c)));
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
        let mut c = config(&[], vec![view("a", Some(PREFIX))]);
        c.synthesis.on_failure = if open { OnFailure::Synthesise } else { OnFailure::Fail };
        let policy = Arc::new(Policy::new(Arc::new(c)));
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
            let policy = Arc::new(Policy::new(Arc::new(config(&[], vec![view("a", Some(PREFIX))]))));
            let q = question("n.example AAAA");
            let (mut resolution, _) = Resolution::start(&q, Variant::Synthesised, 0, &policy);
            let _ = resolution.on(Ok(Fetched { question: q, message, age: 3 }));
        }
    }
}
