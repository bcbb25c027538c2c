//! Questions and answers are written as text:
//! `NOERROR ad; an www.example 300 A 192.0.2.1; au example 900 SOA 60` is a message with flag AD, one record in its
//! answer section and an SOA record with 60 in its last field. A `*` ends records that get a view's prefix.

mod events;
mod here;
mod rules;

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

fn always() -> View {
    View { always: names(&["example"]), ..view("a", Some(PREFIX)) }
}
