//! What clients send to port 53 as a question, against `hickory-proto`.

use causeway_core::Prefix6;
use causeway_dns64::Answer;
use causeway_dns64::cookie::Cookies;
use causeway_dns64::respond::{Reply, Stored, Transport, reject, respond};
use causeway_wire::dns::{self, Query};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as TheirQuery};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::{IpAddr, Ipv6Addr};

const CLIENT: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 0x101));
/// Octets of our largest answer over UDP.
const OURS: u16 = 1232;

/// The octets of a query are behind one that says how many records its answer has. What we take, hickory takes and reads
/// the same; what is answered is a message that hickory reads, of no more octets than the client takes.
pub fn query(b: &[u8]) {
    answered(b);
}

/// As [`query`]; says if it was answered with records.
pub(crate) fn answered(b: &[u8]) -> bool {
    let Some((&dice, b)) = b.split_first() else { return false };
    let cookies = Cookies::new([dice; 16]);
    let transport = if dice & 0x80 == 0 { Transport::Udp } else { Transport::Tcp };
    let how = Reply { transport, udp_octets: OURS, stale_ttl: 30, cookies: &cookies, now_secs: 77 };
    let mut out = vec![0xa5; 66_000];
    let (n, answered) = match dns::parse_query(b) {
        Err(why) => {
            let n = reject(b, why, CLIENT, &mut out, &how);
            assert_eq!(n == 0, why.rcode().is_none());
            (n, false)
        }
        Ok(q) => {
            same(b, &q);
            let answer = answer(&q, dice);
            let prefix: Prefix6 = "2001:db8:64:ff9b::/96".parse().expect("a prefix");
            let stored = answer.as_ref().map(|a| Stored::aged(a, u32::from(dice)));
            let Some(stored) = stored else { return false };
            (respond(&q, CLIENT, stored, Some(prefix), &mut out, &how), true)
        }
    };
    assert!(out[n..].iter().all(|octet| *octet == 0xa5), "behind the answer");
    if n == 0 {
        return false;
    }
    let m = Message::from_vec(&out[..n]).expect("a message");
    assert_eq!(m.metadata.message_type, MessageType::Response);
    assert_eq!(out[..2], b[..2]);
    if let Ok(q) = dns::parse_query(b) {
        let most = q.edns.map_or(512, |e| e.udp_octets.clamp(512, OURS));
        assert!(transport == Transport::Tcp || n <= usize::from(most), "{n} octets of {most}");
        assert_eq!(out[dns::HEADER..q.question_end], b[dns::HEADER..q.question_end]);
        assert_eq!(m.edns.is_some(), q.edns.is_some());
        assert!(!m.metadata.authentic_data || m.answers.is_empty());
        if m.metadata.truncation {
            assert!(m.answers.is_empty());
        }
    }
    answered
}

/// An answer of so many addresses, all of them made, as it would be in the cache.
fn answer(q: &Query<'_>, dice: u8) -> Option<Answer> {
    let mut name = vec![0; q.name.len()];
    dns::lower_name(q.name, &mut name);
    let mut m = Message::response(0, OpCode::Query);
    m.metadata.authentic_data = true;
    // Only names that hickory takes are in the cache.
    let owner = labels(&name)?;
    let mut question = TheirQuery::query(owner.clone(), RecordType::AAAA);
    question.set_query_class(q.qclass.into());
    m.add_query(question);
    let n = usize::from(dice & 0x3f);
    for i in 0..n {
        m.add_answer(Record::from_rdata(owner.clone(), 300, RData::AAAA(AAAA(Ipv6Addr::from(i as u128)))));
    }
    m.add_additional(Record::from_rdata(Name::root(), 300, RData::A(A::new(192, 0, 2, 1))));
    Answer::from_message(&m, &(0..n).collect::<Vec<_>>(), 300).ok()
}

fn labels(name: &[u8]) -> Option<Name> {
    let (mut labels, mut rest) = (Vec::new(), name);
    while let Some((&length, tail)) = rest.split_first().filter(|(l, _)| **l > 0) {
        let (label, tail) = tail.split_at_checked(usize::from(length))?;
        labels.push(label);
        rest = tail;
    }
    Name::from_labels(labels).ok().map(|mut name| {
        name.set_fqdn(true);
        name
    })
}

fn same(b: &[u8], q: &Query<'_>) {
    // Contents of records and options that we pass over may be what hickory does not like.
    let Ok(theirs) = Message::from_vec(b) else {
        assert!(b.len() > q.question_end);
        return;
    };
    let m = &theirs.metadata;
    assert_eq!((q.id, m.message_type, m.op_code), (m.id, MessageType::Query, OpCode::Query));
    assert_eq!(q.flags & dns::flags::RD != 0, m.recursion_desired);
    assert_eq!(q.checking_disabled(), m.checking_disabled);
    assert_eq!(theirs.queries.len(), 1);
    let question = &theirs.queries[0];
    assert_eq!(q.qtype, question.query_type().into());
    assert_eq!(q.qclass, question.query_class().into());
    assert_eq!(labels(q.name).as_ref(), Some(question.name()));
    assert_eq!(q.edns.is_some(), theirs.edns.is_some());
    if let (Some(ours), Some(e)) = (q.edns, &theirs.edns) {
        assert_eq!(ours.udp_octets.max(512), e.max_payload().max(512));
        assert_eq!((ours.version, ours.dnssec_ok), (e.version(), e.flags().dnssec_ok));
        assert_eq!(ours.padding, e.option(EdnsCode::Padding).is_some());
        if let Some(EdnsOption::Unknown(_, cookie)) = e.option(EdnsCode::Cookie) {
            assert!(ours.cookie.is_some() && matches!(cookie.len(), 8 | 16..=40));
        }
    }
}

/// Queries of clients that there are, and what the issue of bad input names.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let plain = |name: &str, edns: Option<Edns>| {
        let mut m = Message::new(0x1234, MessageType::Query, OpCode::Query);
        m.metadata.recursion_desired = true;
        m.add_query(TheirQuery::query(Name::from_ascii(name).expect("a name"), RecordType::AAAA));
        m.edns = edns;
        m.to_vec().expect("a message")
    };
    let edns = |options: &[(u16, usize)]| {
        let mut e = Edns::new();
        e.set_max_payload(1232).set_dnssec_ok(options.len() == 1);
        for (code, octets) in options {
            e.options_mut().insert(EdnsOption::Unknown(*code, vec![1; *octets]));
        }
        Some(e)
    };
    let header = |counts: [u8; 8]| [&[0x12, 0x34, 1, 0][..], &counts].concat();
    let one = [0, 1, 0, 0, 0, 0, 0, 0];
    let tail = [0, 28, 0, 1];
    let bomb = [[1, b'a'].repeat(255), vec![0]].concat();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("plain", plain("v4only.example.", None)),
        ("root", plain(".", None)),
        ("mixed-case", plain("V4oNlY.eXaMpLe.", edns(&[]))),
        ("dnssec-ok-and-cookie", plain("v4only.example.", edns(&[(10, 8)]))),
        ("both-cookies-and-padding", plain("v4only.example.", edns(&[(10, 24), (12, 60), (3, 0)]))),
        ("cookie-of-9", plain("v4only.example.", edns(&[(10, 9)]))),
        ("longest-label", plain(&format!("{}.example.", "a".repeat(63)), edns(&[]))),
        ("compression-loop", [&header(one), &[0xc0, 12][..], &tail].concat()),
        ("label-and-loop", [&header(one), &[1, b'a', 0xc0, 12][..], &tail].concat()),
        ("label-bomb", [&header(one), &bomb[..], &tail].concat()),
        ("truncated-name", [&header(one), &[63, b'a', b'b'][..]].concat()),
        ("many-questions", [&header([0xff, 0xff, 0, 0, 0, 0, 0, 0]), &[0][..], &tail].concat()),
        ("class-chaos", [&header(one), &[0, 0, 16, 0, 3][..]].concat()),
        ("type-any", [&header(one), &[0, 0, 255, 0, 255][..]].concat()),
        ("response", [&[0x12, 0x34, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, 0][..], &tail].concat()),
    ];
    let dice = [0u8, 1, 17, 18, 0x3f, 0xbf];
    let with = |name: &str, octets: &[u8], d: u8| (format!("{name}-{d:02x}"), [&[d], octets].concat());
    rows.iter().flat_map(|(name, octets)| dice.map(|d| with(name, octets, d))).collect()
}
