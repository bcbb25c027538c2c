use super::*;
use crate::Answer;
use hickory_proto::op::{Edns as TheirEdns, Message, MessageType, OpCode, Query as TheirQuery, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

const CLIENT: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

fn cookies() -> Cookies {
    Cookies::new(*b"0123456789abcdef")
}

fn how(cookies: &Cookies) -> Reply<'_> {
    Reply { transport: Transport::Udp, udp_octets: 1232, stale_ttl: 30, cookies, now_secs: 5000 }
}

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

fn aaaa(owner: &str, ttl: u32, a: Ipv6Addr) -> Record {
    Record::from_rdata(name(owner), ttl, RData::AAAA(AAAA(a)))
}

fn v4(n: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(Ipv4Addr::new(198, 51, 100, n).to_bits()))
}

fn response() -> Message {
    let mut m = Message::response(0, OpCode::Query);
    m.metadata.recursion_available = true;
    m.add_query(TheirQuery::query(name("www.example."), RecordType::AAAA));
    m
}

/// An answer of `n` synthesised records behind a CNAME record, and an address of a name server.
fn synthesised(n: u8) -> Answer {
    let mut m = response();
    m.add_answer(Record::from_rdata(name("www.example."), 100, RData::CNAME(CNAME(name("x.example.")))));
    for i in 0..n {
        m.add_answer(aaaa("x.example.", 60, v4(i)));
    }
    m.add_authority(Record::from_rdata(name("example."), 300, RData::NS(NS(name("ns.example.")))));
    m.add_additional(Record::from_rdata(name("ns.example."), 300, RData::A(A::new(192, 0, 2, 1))));
    Answer::from_message(&m, &(1..=usize::from(n)).collect::<Vec<_>>(), 60).unwrap()
}

fn native(ad: bool) -> Answer {
    let mut m = response();
    m.metadata.authentic_data = ad;
    m.add_answer(aaaa("www.example.", 60, "2001:db8::1".parse().unwrap()));
    Answer::from_message(&m, &[], 60).unwrap()
}

/// A query as a client sends it.
#[derive(Default, Clone)]
struct Ask {
    ad: bool,
    cd: bool,
    edns: Option<(u16, bool)>,
    cookie: Option<Vec<u8>>,
    padding: bool,
}

impl Ask {
    fn octets(&self) -> Vec<u8> {
        let mut m = Message::new(0xbeef, MessageType::Query, OpCode::Query);
        m.metadata.recursion_desired = true;
        m.metadata.authentic_data = self.ad;
        m.metadata.checking_disabled = self.cd;
        m.add_query(TheirQuery::query(Name::from_ascii("wWw.ExAmPlE.").unwrap(), RecordType::AAAA));
        if let Some((octets, dnssec_ok)) = self.edns {
            let mut e = TheirEdns::new();
            e.set_max_payload(octets).set_dnssec_ok(dnssec_ok);
            if let Some(cookie) = &self.cookie {
                e.options_mut().insert(EdnsOption::Unknown(10, cookie.clone()));
            }
            if self.padding {
                e.options_mut().insert(EdnsOption::Unknown(12, vec![0; 5]));
            }
            m.set_edns(e);
        }
        let mut b = m.to_vec().unwrap();
        // Hickory says at least 512.
        if let Some((octets, _)) = self.edns {
            let at = dns::question_end(&b).unwrap() + 3;
            put16(&mut b, at, octets);
        }
        b
    }
}

fn prefix() -> Prefix6 {
    "2001:db8:64:ff9b::/96".parse().unwrap()
}

/// What the client gets, and that the octets behind it were left alone.
fn give(ask: &Ask, stored: Stored<'_>, how: &Reply<'_>) -> Vec<u8> {
    let query = ask.octets();
    let query = dns::parse_query(&query).unwrap();
    let mut out = vec![0xa5; 70_000];
    let n = respond(&query, CLIENT, stored, Some(prefix()), &mut out, how);
    assert!(out[n..].iter().all(|b| *b == 0xa5));
    out.truncate(n);
    out
}

fn read(octets: &[u8]) -> Message {
    // Every octet belongs to a record.
    let mut walk = dns::records(octets).unwrap();
    assert!(walk.by_ref().all(|r| r.is_ok()));
    assert_eq!(walk.position(), octets.len());
    Message::from_vec(octets).unwrap()
}

fn option(m: &Message, code: u16) -> Option<Vec<u8>> {
    match m.edns.as_ref()?.option(EdnsCode::from(code))? {
        EdnsOption::Unknown(_, data) => Some(data.clone()),
        _ => None,
    }
}

#[test]
fn the_answer_has_the_questions_id_flags_and_case() {
    let (cookies, answer) = (cookies(), synthesised(2));
    let octets = give(&Ask { cd: true, ..Ask::default() }, Stored::aged(&answer, 7), &how(&cookies));
    assert_eq!(&octets[12..25], b"\x03wWw\x07ExAmPlE\x00");
    let m = read(&octets);
    assert_eq!((m.metadata.id, m.metadata.message_type), (0xbeef, MessageType::Response));
    assert!(m.metadata.recursion_desired && m.metadata.checking_disabled && m.metadata.recursion_available);
    assert!(!m.metadata.truncation && m.edns.is_none());
    // The owner that is compressed to the question has its case, too.
    assert_eq!(m.answers[0].name.to_ascii(), "wWw.ExAmPlE.");
    let ttls: Vec<u32> = m.all_sections().map(|r| r.ttl).collect();
    assert_eq!(ttls, [93, 53, 53, 293, 293]);
    let addresses: Vec<_> = m.answers[1..].iter().map(|r| r.data.clone()).collect();
    let made = |n| RData::AAAA(AAAA(format!("2001:db8:64:ff9b::198.51.100.{n}").parse().unwrap()));
    assert_eq!(addresses, [made(0), made(1)]);
}

#[test]
fn rfc6052_2_4_addresses_of_all_prefix_lengths() {
    // The table of text representations, with 192.0.2.33.
    let rows = [
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
    ];
    for (prefix, address) in rows {
        let made = embed(prefix.parse().unwrap(), u32::from_be_bytes([192, 0, 2, 33]));
        assert_eq!(Ipv6Addr::from_bits(made), address.parse::<Ipv6Addr>().unwrap(), "{prefix}");
    }
}

#[test]
fn an_answer_with_synthesised_records_is_not_given_without_a_prefix() {
    let (cookies, answer) = (cookies(), synthesised(1));
    let query = Ask::default().octets();
    let query = dns::parse_query(&query).unwrap();
    let mut out = [0; 512];
    let n = respond(&query, CLIENT, Stored::fresh(&answer), None, &mut out, &how(&cookies));
    let m = read(&out[..n]);
    assert_eq!((m.metadata.response_code, m.answers.len()), (ResponseCode::ServFail, 0));
}

#[test]
fn rfc6147_5_5_and_rfc6840_5_8_ad_is_told_to_who_asks_and_never_of_what_was_made() {
    let cookies = cookies();
    let mut made = synthesised(1);
    made.octets[3] |= 0x20;
    let rows = [
        (native(true), false, None, false),
        (native(true), true, None, true),
        (native(true), false, Some((1232, false)), false),
        (native(true), false, Some((1232, true)), true),
        (native(false), true, Some((1232, true)), false),
        (made, true, Some((1232, true)), false),
    ];
    for (n, (answer, ad, edns, told)) in rows.into_iter().enumerate() {
        let octets = give(&Ask { ad, edns, ..Ask::default() }, Stored::fresh(&answer), &how(&cookies));
        assert_eq!(read(&octets).metadata.authentic_data, told, "row {n}");
    }
}

#[test]
fn rfc6891_7_an_opt_record_is_answered_by_one() {
    let (cookies, answer) = (cookies(), native(false));
    for dnssec_ok in [false, true] {
        let ask = Ask { edns: Some((4096, dnssec_ok)), ..Ask::default() };
        let m = read(&give(&ask, Stored::fresh(&answer), &how(&cookies)));
        let e = m.edns.as_ref().unwrap();
        assert_eq!((e.max_payload(), e.version(), e.flags().dnssec_ok), (1232, 0, dnssec_ok));
        assert!(e.options().as_ref().is_empty());
        assert_eq!(m.answers.len(), 1);
    }
}

#[test]
fn rfc2181_9_what_does_not_fit_is_cut_and_said_so() {
    let cookies = cookies();
    // Room: 25 and 4 octets of question, 16 of CNAME, 28 for each address, 17 of NS, 16 of its address.
    let rows = [
        (10, None, 512, false),
        (40, None, 512, true),
        (40, Some((0, false)), 512, true),
        (10, Some((512, false)), 512, false),
        (40, Some((1232, false)), 1232, false),
        (40, Some((4096, false)), 1232, false),
        (60, Some((4096, false)), 1232, true),
        (60, Some((1000, true)), 1000, true),
    ];
    for (n, (records, edns, limit, cut)) in rows.into_iter().enumerate() {
        let answer = synthesised(records);
        let octets = give(&Ask { edns, ..Ask::default() }, Stored::fresh(&answer), &how(&cookies));
        let m = read(&octets);
        assert!(octets.len() <= limit, "row {n}");
        assert_eq!(m.metadata.truncation, cut, "row {n}");
        let counts = (m.answers.len(), m.authorities.len(), m.additionals.len());
        assert_eq!(counts, if cut { (0, 0, 0) } else { (1 + usize::from(records), 1, 1) }, "row {n}");
        assert_eq!(m.edns.is_some(), edns.is_some());
        assert_eq!(m.queries.len(), 1);
    }
    // Over TCP nothing is cut.
    let answer = synthesised(200);
    let tcp = Reply { transport: Transport::Tcp, ..how(&cookies) };
    let m = read(&give(&Ask::default(), Stored::fresh(&answer), &tcp));
    assert_eq!((m.metadata.truncation, m.answers.len()), (false, 201));
}

#[test]
fn rfc2181_9_additional_records_that_do_not_fit_are_left_out_in_silence() {
    let cookies = cookies();
    let mut seen = Vec::new();
    for records in 0..40 {
        let answer = synthesised(records);
        let octets = give(&Ask::default(), Stored::aged(&answer, 5), &how(&cookies));
        let m = read(&octets);
        assert!(octets.len() <= 512);
        if m.metadata.truncation {
            assert_eq!(m.answers.len(), 0);
        } else {
            assert_eq!(m.answers.len(), 1 + usize::from(records));
            assert!(m.all_sections().all(|r| matches!(r.ttl, 95 | 55 | 295)));
        }
        seen.push((m.metadata.truncation, m.additionals.len()));
    }
    seen.dedup();
    assert_eq!(seen, [(false, 1), (false, 0), (true, 0)]);
}

#[test]
fn rfc7873_5_2_a_cookie_is_answered_by_ours() {
    let (cookies, answer) = (cookies(), native(false));
    for theirs in [vec![9; 8], vec![9; 24], vec![9; 40]] {
        let ask = Ask { edns: Some((1232, false)), cookie: Some(theirs.clone()), ..Ask::default() };
        let m = read(&give(&ask, Stored::fresh(&answer), &how(&cookies)));
        let ours = option(&m, 10).unwrap();
        assert_eq!((ours.len(), &ours[..8]), (24, &theirs[..8]));
        assert_eq!(ours[8..], cookies.make(&theirs, CLIENT, 5000));
    }
    let none = Ask { edns: Some((1232, false)), ..Ask::default() };
    assert_eq!(option(&read(&give(&none, Stored::fresh(&answer), &how(&cookies))), 10), None);
}

#[test]
fn rfc8914_extended_errors_go_to_who_knows_edns() {
    let (cookies, mut answer) = (cookies(), native(false));
    answer.extended_error = Some(22);
    let ask = Ask { edns: Some((1232, false)), ..Ask::default() };
    assert_eq!(option(&read(&give(&ask, Stored::fresh(&answer), &how(&cookies))), 15), Some(vec![0, 22]));
    assert!(read(&give(&Ask::default(), Stored::fresh(&answer), &how(&cookies))).edns.is_none());
}

#[test]
fn rfc8767_4_expired_answers_have_a_ttl_of_their_own_and_say_so() {
    let cookies = cookies();
    let mut nxdomain = response();
    nxdomain.metadata.response_code = ResponseCode::NXDomain;
    let soa = SOA::new(name("ns.example."), name("h.example."), 1, 2, 3, 4, 5);
    nxdomain.add_authority(Record::from_rdata(name("example."), 900, RData::SOA(soa)));
    let nxdomain = Answer::from_message(&nxdomain, &[], 60).unwrap();
    let ask = Ask { edns: Some((1232, false)), ..Ask::default() };
    for (answer, code) in [(synthesised(2), EXTENDED_STALE), (nxdomain, EXTENDED_STALE_NXDOMAIN)] {
        let stored = Stored { stale: true, age: 4000, ..Stored::fresh(&answer) };
        let m = read(&give(&ask, stored, &how(&cookies)));
        assert!(m.all_sections().all(|r| r.ttl == 30));
        assert_eq!(option(&m, 15), Some(code.to_be_bytes().to_vec()));
    }
}

#[test]
fn rfc7830_4_who_pads_is_answered_padded() {
    let cookies = cookies();
    for (records, octets, want) in [(1, 1232, 468), (20, 1232, 936), (35, 1232, 1232), (41, 1232, 1232)] {
        let answer = synthesised(records);
        let ask = Ask { edns: Some((octets, false)), padding: true, ..Ask::default() };
        let octets = give(&ask, Stored::fresh(&answer), &how(&cookies));
        assert_eq!(octets.len(), want, "{records}");
        assert!(option(&read(&octets), 12).unwrap().iter().all(|o| *o == 0));
    }
}

#[test]
fn errors_have_the_question_and_the_code() {
    let cookies = cookies();
    let ask = Ask { edns: Some((1232, true)), cookie: Some(vec![1; 8]), cd: true, ..Ask::default() };
    let octets = ask.octets();
    let query = dns::parse_query(&octets).unwrap();
    for code in [rcode::FORMERR, rcode::SERVFAIL, rcode::NOTIMP, rcode::REFUSED] {
        let mut out = [0xa5; 512];
        let n = refuse(&query, CLIENT, code, Some(18), &mut out, &how(&cookies));
        let m = read(&out[..n]);
        assert_eq!((m.metadata.id, u16::from(m.metadata.response_code)), (0xbeef, code));
        assert!(m.metadata.recursion_desired && m.metadata.checking_disabled);
        assert!(m.metadata.recursion_available && !m.metadata.authentic_data && !m.metadata.truncation);
        assert_eq!(m.queries[0].name().to_ascii(), "wWw.ExAmPlE.");
        assert_eq!((option(&m, 10).unwrap().len(), option(&m, 15)), (24, Some(vec![0, 18])));
        // What does not fit is not written.
        for short in 0..n {
            assert_eq!(refuse(&query, CLIENT, code, Some(18), &mut out[..short], &how(&cookies)), 0);
        }
    }
}

#[test]
fn what_is_no_query_is_told_why_or_nothing() {
    let cookies = cookies();
    let good = Ask { edns: Some((1232, false)), cookie: Some(vec![1; 8]), ..Ask::default() }.octets();
    let end = dns::question_end(&good).unwrap();
    let changed = |at: usize, octet: u8| {
        let mut b = good.clone();
        b[at] = octet;
        b
    };
    let only_cookie = [&good[..4], &[0, 0], &good[6..12], &good[end..]].concat();
    let rows = [
        ("short", good[..11].to_vec(), None),
        ("a response", changed(2, 0x81), None),
        ("NOTIFY", changed(2, 0x21), Some((4, 0, false))),
        ("two questions", changed(5, 2), Some((1, 0, false))),
        ("a compressed name", changed(12, 0xc0), Some((1, 0, false))),
        ("trailing octets", [good.clone(), vec![7]].concat(), Some((1, 1, false))),
        ("EDNS version 1", changed(end + 6, 1), Some((16, 1, true))),
        (
            "a cookie of 7",
            {
                let mut b = changed(end + 14, 7);
                b.pop();
                b[end + 10] -= 1;
                b
            },
            Some((1, 1, true)),
        ),
        ("only a cookie", only_cookie, Some((0, 0, true))),
    ];
    for (what, octets, want) in rows {
        let why = dns::parse_query(&octets).unwrap_err();
        let mut out = [0xa5; 512];
        let n = reject(&octets, why, CLIENT, &mut out, &how(&cookies));
        let Some((code, questions, edns)) = want else {
            assert_eq!(n, 0, "{what}");
            continue;
        };
        let m = read(&out[..n]);
        assert_eq!((m.metadata.id, u16::from(m.metadata.response_code)), (0xbeef, code), "{what}");
        assert_eq!((m.queries.len(), m.edns.is_some()), (questions, edns), "{what}");
        assert_eq!(m.metadata.op_code, if what == "NOTIFY" { OpCode::Notify } else { OpCode::Query });
        assert_eq!(option(&m, 10).map(|c| c.len()), (what == "only a cookie").then_some(24), "{what}");
        assert_eq!(reject(&octets, why, CLIENT, &mut out[..11], &how(&cookies)), 0);
    }
}

fn a_name() -> impl Strategy<Value = Name> {
    proptest::collection::vec("[a-z]{1,12}", 1..5)
        .prop_map(|l| Name::from_labels(l.iter().map(|l| l.as_bytes())).unwrap())
}

proptest! {
    /// The oracle: what hickory would write for the same records with older TTLs and the prefix put in.
    #[test]
    fn what_a_client_gets_is_what_hickory_would_have_written(
        qname in a_name(),
        case in any::<u64>(),
        records in proptest::collection::vec((any::<bool>(), 100u32..5000, any::<u32>()), 0..20),
        age in 0u32..100,
        (rd, cd, ad, stored_ad) in any::<(bool, bool, bool, bool)>(),
        edns in proptest::option::of((512u16..1500, any::<bool>())),
        length in prop::sample::select(vec![32u8, 40, 48, 56, 64, 96]),
    ) {
        let prefix = Prefix6::containing("2001:db8:1234:5678::".parse().unwrap(), length).unwrap();
        let mut kept = Message::response(0, OpCode::Query);
        kept.metadata.recursion_available = true;
        kept.metadata.authentic_data = stored_ad;
        kept.add_query(TheirQuery::query(qname.clone(), RecordType::AAAA));
        let mut want = kept.clone();
        let mut made = Vec::new();
        for (n, (synthesised, ttl, v4)) in records.iter().enumerate() {
            let v6 = if *synthesised { made.push(n); u128::from(*v4) } else { 0x2001_0db8 << 96 | u128::from(*v4) };
            let rdata = |bits: u128| RData::AAAA(AAAA(Ipv6Addr::from_bits(bits)));
            kept.add_answer(Record::from_rdata(qname.clone(), *ttl, rdata(v6)));
            let given = if *synthesised { embed(prefix, *v4) } else { v6 };
            want.add_answer(Record::from_rdata(qname.clone(), ttl - age, rdata(given)));
        }
        let answer = Answer::from_message(&kept, &made, 100).unwrap();

        let mut query = Message::new(0x4321, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = rd;
        query.metadata.checking_disabled = cd;
        query.metadata.authentic_data = ad;
        query.add_query(TheirQuery::query(qname, RecordType::AAAA));
        if let Some((octets, dnssec_ok)) = edns {
            let mut e = TheirEdns::new();
            e.set_max_payload(octets).set_dnssec_ok(dnssec_ok);
            query.set_edns(e.clone());
            e.set_max_payload(1232);
            want.set_edns(e);
        }
        let mut octets = query.to_vec().unwrap();
        for (n, octet) in octets.iter_mut().skip(12).enumerate() {
            if octet.is_ascii_lowercase() && case >> (n % 64) & 1 == 1 && n < answer.octets.len() - 12 {
                *octet = octet.to_ascii_uppercase();
            }
            if *octet == 0 { break }
        }
        let asked = dns::parse_query(&octets).unwrap();
        let cookies = cookies();
        let mut out = [0xa5; 2000];
        let n = respond(&asked, CLIENT, Stored::aged(&answer, age), Some(prefix), &mut out, &how(&cookies));
        let limit = edns.map_or(512, |(o, _)| o.min(1232));
        let full = want.to_vec().unwrap().len();
        let got = read(&out[..n]);
        prop_assert_eq!(&out[12..asked.question_end], &octets[12..asked.question_end]);
        want.metadata.id = 0x4321;
        want.metadata.recursion_desired = rd;
        want.metadata.checking_disabled = cd;
        want.metadata.authentic_data =
            stored_ad && made.is_empty() && (ad || edns.is_some_and(|e| e.1)) && full <= usize::from(limit);
        if full > usize::from(limit) {
            want.metadata.truncation = true;
            want.answers.clear();
        }
        prop_assert_eq!(&got.metadata, &want.metadata);
        prop_assert_eq!(n, want.to_vec().unwrap().len());
        prop_assert_eq!(got.answers, want.answers);
        prop_assert_eq!(got.edns, want.edns);
    }

    #[test]
    fn any_octets_are_answered_by_a_message_or_not_at_all(
        b in proptest::collection::vec(any::<u8>(), 0..80), room in 0usize..600
    ) {
        let (cookies, answer) = (cookies(), synthesised(3));
        let mut out = vec![0xa5; room];
        let n = match dns::parse_query(&b) {
            Err(why) => reject(&b, why, CLIENT, &mut out, &how(&cookies)),
            Ok(q) => respond(&q, CLIENT, Stored::fresh(&answer), Some(prefix()), &mut out, &how(&cookies)),
        };
        if n > 0 {
            prop_assert!(n <= room && out[2] & 0x80 != 0 && out[..2] == b[..2]);
            prop_assert!(dns::records(&out[..n]).unwrap().all(|r| r.is_ok()));
        }
    }
}
