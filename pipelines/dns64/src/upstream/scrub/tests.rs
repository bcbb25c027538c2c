use super::super::query::{Query as Sent, mixed};
use super::*;
use crate::question::WireName;
use hickory_proto::op::{Edns, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, MX, NS, NULL, SOA, TXT};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::net::{Ipv4Addr, Ipv6Addr};

const MAX_TTL: u32 = 86_400;

fn n(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(n(owner), ttl, data)
}

fn aaaa(owner: &str, last: u16) -> Record {
    let address = Ipv6Addr::new(0x2001, 0xdb8, 6, 0, 0, 0, 0, last);
    record(owner, 300, RData::AAAA(AAAA(address)))
}

fn a(owner: &str) -> Record {
    record(owner, 300, RData::A(A(Ipv4Addr::new(198, 51, 100, 10))))
}

fn cname(owner: &str, to: &str) -> Record {
    record(owner, 300, RData::CNAME(CNAME(n(to))))
}

fn ns(owner: &str, host: &str) -> Record {
    record(owner, 300, RData::NS(NS(n(host))))
}

fn soa(owner: &str) -> Record {
    record(owner, 300, RData::SOA(SOA::new(n("ns.example."), n("admin.example."), 1, 2, 3, 4, 60)))
}

fn unknown(owner: &str, kind: RecordType, data: Vec<u8>) -> Record {
    record(owner, 300, RData::Unknown { code: kind, rdata: NULL::with(data) })
}

fn dname(owner: &str, to: &str) -> Record {
    unknown(owner, RecordType::DNAME, decode::wire(&n(to)))
}

fn rrsig(owner: &str, kind: RecordType, zone: &str) -> Record {
    let mut data = u16::from(kind).to_be_bytes().to_vec();
    data.resize(BEFORE_SIGNER, 1);
    data.extend(decode::wire(&n(zone)));
    data.extend([7; 64]);
    unknown(owner, RecordType::RRSIG, data)
}

fn nsec(owner: &str) -> Record {
    unknown(owner, RecordType::NSEC, b"\x01z\x07example\x00\x00\x01\x40".to_vec())
}

fn question(name: &str, qtype: RecordType, dnssec_ok: bool) -> Question {
    let name: WireName = decode::wire(&n(name)).into_iter().collect();
    Question { name, qtype: qtype.into(), dnssec_ok, checking_disabled: false }
}

/// An answer of three sections.
#[derive(Default, Clone)]
struct Said {
    rcode: u16,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Said {
    fn message(&self) -> Message {
        let mut m = Message::response(77, hickory_proto::op::OpCode::Query);
        let [_, low] = self.rcode.to_be_bytes();
        m.metadata.response_code = ResponseCode::from_low(low);
        m.answers.clone_from(&self.answers);
        m.authorities.clone_from(&self.authorities);
        m.additionals.clone_from(&self.additionals);
        m
    }

    fn to(&self, question: &Question) -> Result<Scrubbed, Unusable> {
        scrub(question, self.message(), MAX_TTL)
    }
}

/// What is left of an answer section for www.example AAAA, and how many records are not.
fn answer_of(records: &[Record]) -> Result<(Vec<Record>, u64), Unusable> {
    let said = Said { answers: records.to_vec(), ..Said::default() };
    said.to(&question("www.example.", RecordType::AAAA, false)).map(|s| (s.message.answers, s.left_out))
}

#[test]
fn the_records_asked_for_pass_as_they_are() {
    let records = [aaaa("www.example.", 1), aaaa("www.example.", 2)];
    assert_eq!(answer_of(&records), Ok((records.to_vec(), 0)));
    let mut said = Said { answers: records.to_vec(), ..Said::default() }.message();
    (said.metadata.authentic_data, said.metadata.recursion_available) = (true, true);
    said.edns = Some(Edns::new());
    let m = scrub(&question("www.example.", RecordType::AAAA, false), said, MAX_TTL).expect("usable").message;
    assert!(m.metadata.authentic_data && m.metadata.recursion_available && m.edns.is_none());
    assert_eq!((m.metadata.id, m.queries.len()), (0, 1));
    assert!(m.queries[0].name().eq_case(&n("www.example.")) && m.queries[0].query_type() == RecordType::AAAA);
}

#[test]
fn rfc5452_6_records_of_other_names_and_types_are_left_out_and_counted() {
    let good = aaaa("www.example.", 1);
    let others = [
        aaaa("www.bank.example.", 2),
        a("www.example."),
        ns("example.", "ns.evil.example."),
        soa("example."),
    ];
    let all: Vec<Record> = others.iter().cloned().chain([good.clone()]).collect();
    assert_eq!(answer_of(&all), Ok((vec![good], 4)));
    // Without what was asked for, nothing is left.
    assert_eq!(answer_of(&others), Ok((vec![], 4)));
}

#[test]
fn rfc1034_3_6_2_a_chain_is_followed_in_its_order_however_it_is_sent() {
    let chain = [
        cname("www.example.", "b.example."),
        cname("b.example.", "c.other.example."),
        aaaa("c.other.example.", 1),
    ];
    let mut mixed_up = chain.to_vec();
    mixed_up.reverse();
    mixed_up.push(cname("d.example.", "c.other.example."));
    assert_eq!(answer_of(&mixed_up), Ok((chain.to_vec(), 1)));
    // A chain that ends elsewhere is as far as it goes.
    assert_eq!(answer_of(&chain[..2]), Ok((chain[..2].to_vec(), 0)));
    // A question for CNAME is answered by it.
    let said = Said { answers: chain.to_vec(), ..Said::default() };
    let s = said.to(&question("www.example.", RecordType::CNAME, false)).expect("usable");
    assert_eq!((&s.message.answers[..], s.left_out), (&chain[..1], 2));
}

#[test]
fn rfc1034_5_2_2_circles_and_long_chains_are_unusable() {
    let circle = [cname("www.example.", "b.example."), cname("b.example.", "WWW.example.")];
    assert_eq!(answer_of(&circle), Err(Unusable::Circle));
    assert_eq!(answer_of(&[cname("www.example.", "www.example.")]), Err(Unusable::Circle));
    let chain = |links: usize| -> Vec<Record> {
        let name = |i: usize| if i == 0 { "www.example.".to_owned() } else { format!("n{i}.example.") };
        let mut list: Vec<Record> = (0..links).map(|i| cname(&name(i), &name(i + 1))).collect();
        list.push(aaaa(&name(links), 1));
        list
    };
    assert_eq!(answer_of(&chain(16)), Ok((chain(16), 0)));
    assert_eq!(answer_of(&chain(17)), Err(Unusable::TooLong));
}

#[test]
fn rfc2181_10_1_a_name_has_one_canonical_name() {
    let two =
        [cname("www.example.", "b.example."), cname("www.example.", "c.example."), aaaa("b.example.", 1)];
    assert_eq!(answer_of(&two), Err(Unusable::Circle));
    let twice =
        [cname("www.example.", "b.example."), cname("www.example.", "B.example."), aaaa("b.example.", 1)];
    assert!(answer_of(&twice).is_ok());
    // Data beside it: the data was asked for.
    let beside = [cname("www.example.", "b.example."), aaaa("www.example.", 1)];
    assert_eq!(answer_of(&beside), Ok((vec![aaaa("www.example.", 1)], 1)));
}

#[test]
fn rfc6672_3_1_the_cname_beside_a_dname_is_what_it_makes() {
    let d = dname("example.", "other.example.net.");
    let c = cname("www.example.", "www.other.example.net.");
    let end = aaaa("www.other.example.net.", 1);
    let all = [end.clone(), c.clone(), d.clone()];
    assert_eq!(answer_of(&all), Ok((vec![d.clone(), c.clone(), end.clone()], 0)));
    // Left out by the upstream, it is made, with the DNAME's TTL.
    assert_eq!(answer_of(&[d.clone(), end.clone()]), Ok((vec![d.clone(), c, end.clone()], 0)));
    let lie = cname("www.example.", "www.evil.example.");
    assert_eq!(answer_of(&[d.clone(), lie, end.clone()]), Err(Unusable::Dname));
    // Two DNAME records at one name, one with rubbish behind its name, and one of elsewhere.
    let second = dname("example.", "more.example.net.");
    assert_eq!(answer_of(&[d, second, end]), Err(Unusable::Dname));
    let rubbish = unknown("example.", RecordType::DNAME, b"\x01a\x00\x00".to_vec());
    assert_eq!(answer_of(&[rubbish]), Err(Unusable::Dname));
    let elsewhere = dname("other.example.", "x.example.");
    assert_eq!(answer_of(&[elsewhere, aaaa("www.example.", 1)]), Ok((vec![aaaa("www.example.", 1)], 1)));
}

#[test]
fn rfc6672_2_2_a_name_that_becomes_too_long_is_unusable_and_the_owner_itself_is_not_led_away() {
    let long = |last: &str| format!("{}{last}.", "abcdefghijklmnopqrstuvwxyz.".repeat(9));
    // With `www.` 255 octets, and 256.
    assert!(answer_of(&[dname("example.", &long("abcdef"))]).is_ok());
    assert_eq!(answer_of(&[dname("example.", &long("abcdefg"))]), Err(Unusable::Dname));
    assert_eq!(answer_of(&[dname("www.example.", "x.example.")]), Ok((vec![], 1)));
    let asked = question("www.example.", RecordType::DNAME, false);
    let said = Said { answers: vec![dname("www.example.", "x.example.")], ..Said::default() };
    assert_eq!(said.to(&asked).map(|s| s.message.answers), Ok(said.answers));
}

#[test]
fn rfc6672_2_3_a_dname_circle_ends() {
    let grows = dname("example.", "a.example.");
    assert_eq!(answer_of(&[grows]), Err(Unusable::TooLong));
    // One that leads twice does so both times by the rule.
    let d = dname("example.", "other.");
    let chain = [d, cname("www.example.", "www.other."), cname("www.other.", "x.example.")];
    let with = |last: &str| [&chain[..], &[cname("x.example.", last)]].concat();
    assert_eq!(answer_of(&with("x.other.")), Ok((with("x.other."), 0)));
    assert_eq!(answer_of(&with("x.evil.")), Err(Unusable::Dname));
}

#[test]
fn rfc2181_8_ttls_with_the_top_bit_are_zero_and_others_are_capped() {
    for (sent, kept) in
        [(0, 0), (60, 60), (MAX_TTL, MAX_TTL), (MAX_TTL + 1, MAX_TTL), ((1 << 31) - 1, MAX_TTL)]
            .into_iter()
            .chain([(1 << 31, 0), (u32::MAX, 0)])
    {
        let mut one = aaaa("www.example.", 1);
        one.ttl = sent;
        let (left, _) = answer_of(&[one]).expect("usable");
        assert_eq!(left[0].ttl, kept, "{sent}");
    }
}

#[test]
fn rfc2181_5_2_a_set_has_one_ttl_the_lowest() {
    let mut set = [aaaa("www.example.", 1), aaaa("www.example.", 2), aaaa("www.example.", 3)];
    set[1].ttl = 7;
    let (left, _) = answer_of(&set).expect("usable");
    assert!(left.len() == 3 && left.iter().all(|r| r.ttl == 7));
}

#[test]
fn rfc1035_3_2_4_other_classes_are_left_out() {
    let mut chaos = aaaa("www.example.", 1);
    chaos.dns_class = DNSClass::CH;
    assert_eq!(answer_of(&[chaos, aaaa("www.example.", 2)]), Ok((vec![aaaa("www.example.", 2)], 1)));
}

fn negative(rcode: u16, authorities: Vec<Record>) -> Said {
    Said { rcode, authorities, ..Said::default() }
}

#[test]
fn rfc2308_2_negative_answers_keep_the_soa_of_the_names_zone() {
    for rcode in [0, 3] {
        let said = negative(
            rcode,
            vec![soa("other."), soa("example."), soa("www.example.evil."), ns("example.", "ns.example.")],
        );
        let s = said.to(&question("www.example.", RecordType::AAAA, false)).expect("usable");
        assert_eq!(s.message.authorities, [soa("example."), ns("example.", "ns.example.")]);
        assert_eq!((s.left_out, u16::from(s.message.metadata.response_code)), (2, rcode));
    }
    // The deepest counts; the root's is a zone of every name.
    let two = negative(3, vec![soa("."), soa("example.")]);
    let s = two.to(&question("www.example.", RecordType::AAAA, false)).expect("usable");
    assert_eq!((s.message.authorities, s.left_out), (vec![soa("example.")], 1));
    let root = negative(3, vec![soa(".")]);
    let s = root.to(&question("www.example.", RecordType::AAAA, false)).expect("usable");
    assert_eq!((s.message.authorities, s.left_out), (vec![soa(".")], 0));
}

#[test]
fn rfc6604_3_the_soa_is_of_the_zone_at_the_end_of_the_chain() {
    let answers = vec![cname("www.example.", "x.example.net.")];
    let said = Said {
        rcode: 3,
        answers,
        authorities: vec![soa("example."), soa("example.net.")],
        ..Said::default()
    };
    let s = said.to(&question("www.example.", RecordType::AAAA, false)).expect("usable");
    assert_eq!((s.message.authorities, s.left_out), (vec![soa("example.net.")], 1));
}

#[test]
fn rfc6604_3_nxdomain_with_the_data_contradicts_itself() {
    let said = Said { rcode: 3, answers: vec![aaaa("www.example.", 1)], ..Said::default() };
    let asked = question("www.example.", RecordType::AAAA, false);
    assert_eq!(said.to(&asked).map(|s| s.message.answers), Err(Unusable::Contradiction));
}

#[test]
fn rfc2308_2_2_1_a_referral_is_not_taken_for_no_data() {
    let referral = negative(0, vec![ns("example.", "ns.example.")]);
    let asked = question("www.example.", RecordType::AAAA, false);
    assert_eq!(referral.to(&asked).map(|_| ()), Err(Unusable::Referral));
    // Without anything it is no data (type 3), with SOA too (type 1 and 2), and beside an answer it is no referral.
    assert!(negative(0, vec![]).to(&asked).is_ok());
    assert!(negative(0, vec![ns("example.", "ns.example."), soa("example.")]).to(&asked).is_ok());
    let data = Said { answers: vec![aaaa("www.example.", 1)], ..referral };
    assert_eq!(data.to(&asked).map(|s| s.message.authorities.len()), Ok(1));
}

#[test]
fn a_soa_or_foreign_servers_beside_data_are_left_out() {
    let authorities =
        vec![soa("example."), ns("evil.", "ns.evil."), ns("example.", "ns.example."), a("www.example.")];
    let said = Said { answers: vec![aaaa("www.example.", 1)], authorities, ..Said::default() };
    let s = said.to(&question("www.example.", RecordType::AAAA, false)).expect("usable");
    assert_eq!((s.message.authorities, s.left_out), (vec![ns("example.", "ns.example.")], 3));
}

#[test]
fn rfc4035_3_2_1_signatures_go_to_those_who_asked_for_them() {
    let answers = vec![
        cname("www.example.", "b.example."),
        rrsig("www.example.", RecordType::CNAME, "example."),
        aaaa("b.example.", 1),
        rrsig("b.example.", RecordType::AAAA, "example."),
        rrsig("b.example.", RecordType::A, "example."),
    ];
    let said = Said { answers: answers.clone(), ..Said::default() };
    let s = said.to(&question("www.example.", RecordType::AAAA, true)).expect("usable");
    assert_eq!((&s.message.answers[..], s.left_out), (&answers[..4], 1));
    let s = said.to(&question("www.example.", RecordType::AAAA, false)).expect("usable");
    assert_eq!(s.message.answers, [answers[0].clone(), answers[2].clone()]);
    assert_eq!(s.left_out, 0, "the upstream could not know better");
    let asked = question("www.example.", RecordType::RRSIG, false);
    assert_eq!(said.to(&asked).map(|s| s.message.answers), Ok(vec![answers[1].clone()]));
}

#[test]
fn rfc4035_3_1_3_proofs_of_denial_are_kept_within_their_zone() {
    let authorities = vec![
        soa("example."),
        rrsig("example.", RecordType::SOA, "example."),
        nsec("a.example."),
        rrsig("a.example.", RecordType::NSEC, "example."),
        nsec("a.evil."),
        rrsig("a.evil.", RecordType::NSEC, "evil."),
        rrsig("a.example.", RecordType::NSEC, "evil."),
        rrsig("b.example.", RecordType::NSEC, "example."),
    ];
    let said = negative(3, authorities.clone());
    let s = said.to(&question("www.example.", RecordType::AAAA, true)).expect("usable");
    let mut left = s.message.authorities;
    left.sort();
    let mut kept = authorities[..4].to_vec();
    kept.sort();
    assert_eq!((left, s.left_out), (kept, 4));
    let s = said.to(&question("www.example.", RecordType::AAAA, false)).expect("usable");
    assert_eq!((s.message.authorities, s.left_out), (vec![soa("example.")], 0));
}

#[test]
fn rfc4035_3_1_3_3_the_proof_of_a_wildcard_is_kept_beside_data() {
    let answers = vec![aaaa("www.example.", 1), rrsig("www.example.", RecordType::AAAA, "example.")];
    let authorities = vec![nsec("v.example."), rrsig("v.example.", RecordType::NSEC, "example.")];
    let said = Said { answers, authorities: authorities.clone(), ..Said::default() };
    let s = said.to(&question("www.example.", RecordType::AAAA, true)).expect("usable");
    assert_eq!((s.message.authorities, s.left_out), (authorities, 0));
}

#[test]
fn additional_records_are_addresses_of_names_that_were_named() {
    let mx = record("example.", 300, RData::MX(MX::new(10, n("mail.example."))));
    let additionals = vec![
        a("mail.example."),
        aaaa("mail.example.", 1),
        rrsig("mail.example.", RecordType::A, "example."),
        a("www.bank.example."),
        record("mail.example.", 300, RData::TXT(TXT::new(vec!["x".to_owned()]))),
    ];
    let said = Said { answers: vec![mx], additionals: additionals.clone(), ..Said::default() };
    let s = said.to(&question("example.", RecordType::MX, true)).expect("usable");
    assert_eq!((&s.message.additionals[..], s.left_out), (&additionals[..3], 2));
    let s = said.to(&question("example.", RecordType::MX, false)).expect("usable");
    assert_eq!((&s.message.additionals[..], s.left_out), (&additionals[..2], 2));
}

#[test]
fn no_more_than_so_many_records_beside_the_answer_are_looked_at() {
    let many: Vec<Record> = (0..200u16).map(|i| nsec(&format!("n{i}.example."))).collect();
    let authorities = [vec![soa("example.")], many].concat();
    let s = negative(3, authorities).to(&question("www.example.", RecordType::AAAA, true)).expect("usable");
    assert_eq!((s.message.authorities.len(), s.left_out), (64, 137));
}

/// Names of a small world, so that random records meet.
fn any_name() -> impl Strategy<Value = Name> {
    prop::sample::select(vec![
        ".",
        "example.",
        "www.example.",
        "b.example.",
        "c.b.example.",
        "evil.",
        "www.evil.",
    ])
    .prop_map(n)
}

fn any_record() -> impl Strategy<Value = Record> {
    let types =
        prop::sample::select(vec![RecordType::AAAA, RecordType::CNAME, RecordType::NSEC, RecordType::SOA]);
    (any_name(), any_name(), 0u8..10, types, any::<u32>(), 0u8..12).prop_map(
        |(owner, to, kind, about, ttl, class)| {
            let (o, t) = (owner.to_string(), to.to_string());
            let mut r = match kind {
                0 => aaaa(&o, 1),
                1 => a(&o),
                2 | 3 => cname(&o, &t),
                4 => dname(&o, &t),
                5 => ns(&o, &t),
                6 => soa(&o),
                7 => rrsig(&o, about, &t),
                8 => nsec(&o),
                _ => unknown(&o, RecordType::RRSIG, vec![0]),
            };
            r.ttl = ttl;
            r.dns_class = if class == 0 { DNSClass::CH } else { DNSClass::IN };
            r
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn whatever_is_said_what_is_left_belongs_to_the_question(
        answers in prop::collection::vec(any_record(), 0..10),
        authorities in prop::collection::vec(any_record(), 0..8),
        additionals in prop::collection::vec(any_record(), 0..5),
        denied: bool, dnssec_ok: bool,
    ) {
        let said = Said { rcode: if denied { 3 } else { 0 }, answers, authorities, additionals };
        let asked = question("www.example.", RecordType::AAAA, dnssec_ok);
        if let Ok(s) = said.to(&asked) {
            let m = &s.message;
            let total = |m: &Message| m.answers.len() + m.authorities.len() + m.additionals.len();
            let all = m.answers.iter().chain(&m.authorities).chain(&m.additionals);
            for r in all {
                prop_assert!(r.ttl <= MAX_TTL && r.dns_class == DNSClass::IN);
                prop_assert!(dnssec_ok || !is_proof(r));
            }
            // The chain, once more and in another way: each owner is the question's name or where the record before leads.
            let mut names = vec![n("www.example.")];
            for r in &m.answers {
                let kind = covered(r).unwrap_or_else(|| r.record_type());
                let owned = if kind == RecordType::DNAME {
                    names.iter().any(|name| below(name, &r.name))
                } else {
                    names.contains(&r.name)
                };
                prop_assert!(owned, "{r} in {names:?}");
                if let RData::CNAME(to) = &r.data {
                    names.push(to.0.clone());
                }
                prop_assert!(matches!(kind, RecordType::AAAA | RecordType::CNAME | RecordType::DNAME));
            }
            for r in &m.authorities {
                let zone = signer(r).unwrap_or_else(|| r.name.clone());
                let near = names.iter().any(|name| zone.zone_of(name)) || is_proof(r);
                prop_assert!(near, "{r}");
            }
            prop_assert!(m.authorities.iter().filter(|r| r.record_type() == RecordType::SOA).count() <= 1);
            // Nothing is believed twice or made up but CNAMEs of DNAMEs.
            let dnames = m.answers.iter().filter(|r| r.record_type() == RecordType::DNAME).count();
            prop_assert!(total(m) <= total(&said.message()) + dnames);
            // It can be written, read again, and then nothing more is left out.
            let again = decode::decode(&m.to_vec().expect("a message")).expect("a message");
            let again = scrub(&asked, again, MAX_TTL).expect("usable");
            prop_assert_eq!(again.left_out, 0);
            prop_assert_eq!(&again.message.answers, &m.answers);
        }
    }

    #[test]
    fn octets_of_any_sort_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 12..300)) {
        if let Ok(m) = decode::decode(&octets) {
            let _ = scrub(&question("www.example.", RecordType::AAAA, true), m, MAX_TTL);
        }
    }

    #[test]
    fn names_that_a_server_spells_out_have_no_case_of_ours_either(seed: u8) {
        let mut random = StdRng::from_seed([seed; 32]);
        let any_case = |text: &str, random: &mut StdRng| {
            let name: WireName = decode::wire(&n(text)).into_iter().collect();
            decode::name(&mixed(&name, random)).expect("a name").0.to_string()
        };
        let mut of = |text: &str| any_case(text, &mut random);
        let said = Said {
            rcode: 3,
            answers: vec![
                cname(&of("www.example."), &of("b.www.example.")),
                rrsig(&of("www.example."), RecordType::CNAME, "example."),
                dname(&of("www.example."), "other.net."),
                cname(&of("b.www.example."), "b.other.net."),
            ],
            authorities: vec![soa(&of("net.")), nsec(&of("a.net."))],
            ..Said::default()
        };
        let asked = question("www.example.", RecordType::AAAA, true);
        let m = said.to(&asked).expect("usable").message;
        let owners: Vec<String> = m.answers.iter().map(|r| r.name.to_string().replace("B.", "b.")).collect();
        prop_assert_eq!(owners, ["www.example.", "www.example.", "www.example.", "b.www.example."]);
        let targets: Vec<String> = m.answers.iter().filter_map(|r| match &r.data {
            RData::CNAME(to) => Some(to.0.to_string().replace("B.", "b.")),
            _ => None,
        }).collect();
        prop_assert_eq!(targets, ["b.www.example.", "b.other.net."]);
        let beside: Vec<String> = m.authorities.iter().map(|r| r.name.to_string().replace("A.", "a.")).collect();
        prop_assert_eq!(beside, ["net.", "a.net."]);
    }

    /// Names that were asked for in random case come back in lower case wherever the upstream repeats ours.
    #[test]
    fn the_random_case_of_the_question_leaves_no_trace(seed: u8) {
        let mut random = StdRng::from_seed([seed; 32]);
        let asked = question("www.example.", RecordType::AAAA, false);
        let name = mixed(&asked.name, &mut random);
        let sent = Sent { id: 1, name, qtype: 28, edns: false, cased: true };
        let mut b = sent.octets(&asked);
        b[2] |= 0x80;
        b[7] = 2;
        // CNAME from the question's name to one under its parent, and AAAA there.
        b.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01b\xc0\x10");
        b.extend(b"\x01b\xc0\x10\x00\x1c\x00\x01\x00\x00\x00\x3c\x00\x10");
        b.extend([0x20, 1, 0xd, 0xb8, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        prop_assert!(sent.check(&b).is_ok());
        let s = scrub(&asked, decode::decode(&b).expect("a message"), MAX_TTL).expect("usable");
        let text: Vec<String> = s.message.answers.iter().map(ToString::to_string).collect();
        prop_assert_eq!(text, ["www.example. 60 IN CNAME b.example.", "b.example. 60 IN AAAA 2001:db8:6::1"]);
    }
}
