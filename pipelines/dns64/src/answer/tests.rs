use super::*;
use hickory_proto::op::{Edns, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::str::FromStr;

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

fn aaaa(owner: &str, ttl: u32, address: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::AAAA(AAAA(address.parse().unwrap())))
}

fn message(question: &str) -> Message {
    let mut m = Message::response(0x7777, OpCode::Query);
    m.metadata.recursion_desired = true;
    m.metadata.checking_disabled = true;
    m.metadata.recursion_available = true;
    m.metadata.authentic_data = true;
    m.add_query(Query::query(name(question), RecordType::AAAA));
    m
}

#[test]
fn an_answer_reads_as_its_message_without_what_a_question_brings() {
    let mut m = message("WwW.Example.");
    m.add_answer(Record::from_rdata(name("www.example."), 60, RData::CNAME(CNAME(name("x.example.")))));
    m.add_answer(aaaa("x.example.", 50, "::192.0.2.1"));
    m.add_answer(aaaa("x.example.", 40, "2001:db8::1"));
    m.add_authority(Record::from_rdata(name("example."), 30, RData::A(A::new(192, 0, 2, 1))));
    m.set_edns(Edns::new());
    let a = Answer::from_message(&m, &[1], 17).unwrap();
    assert_eq!((a.rcode(), a.answers(), a.ttl, a.extended_error), (0, 3, 17, None));

    let back = Message::from_vec(&a.octets).unwrap();
    assert_eq!(back.metadata.id, 0);
    assert!(!back.metadata.recursion_desired && !back.metadata.checking_disabled);
    assert!(back.metadata.recursion_available && back.metadata.authentic_data);
    assert_eq!(&a.octets[12..25], b"\x03www\x07example\x00");
    assert_eq!((&back.answers, &back.authorities), (&m.answers, &m.authorities));
    assert!(back.edns.is_none());

    let ttl = |at: &u16| u32::from_be_bytes(a.octets[usize::from(*at)..][..4].try_into().unwrap());
    assert_eq!(a.ttls.iter().map(ttl).collect::<Vec<_>>(), [60, 50, 40, 30]);
    let places: Vec<&[u8]> = a.synthesised.iter().map(|at| &a.octets[usize::from(*at)..][..16]).collect();
    assert_eq!(places, [&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]]);
}

#[test]
fn answers_without_records_have_nothing_to_patch() {
    let mut m = message("x.example.");
    m.metadata.response_code = ResponseCode::NXDomain;
    let a = Answer::from_message(&m, &[], 5).unwrap();
    assert_eq!((a.rcode(), a.answers(), &a.ttls, &a.synthesised), (3, 0, &vec![], &vec![]));
    let root = Answer::from_message(&message("."), &[], 5).unwrap();
    assert_eq!(root.octets.len(), 12 + 5);
}

#[test]
fn messages_that_are_no_answers_are_refused() {
    let none = Message::response(1, OpCode::Query);
    assert_eq!(Answer::from_message(&none, &[], 1), Err(AnswerError::Questions(0)));
    let mut two = message("a.");
    two.add_query(Query::query(name("b."), RecordType::A));
    assert_eq!(Answer::from_message(&two, &[], 1), Err(AnswerError::Questions(2)));
    let mut version = message("a.");
    version.metadata.response_code = ResponseCode::BADVERS;
    assert_eq!(Answer::from_message(&version, &[], 1), Err(AnswerError::Code(16)));
}

#[test]
fn only_aaaa_records_of_an_ipv4_address_can_be_synthesised() {
    let mut m = message("a.");
    m.add_answer(Record::from_rdata(name("a."), 60, RData::A(A::new(192, 0, 2, 1))));
    m.add_answer(aaaa("a.", 60, "2001:db8::192.0.2.1"));
    m.add_answer(aaaa("a.", 60, "::192.0.2.1"));
    m.add_authority(aaaa("a.", 60, "::192.0.2.1"));
    for wrong in [0, 1] {
        assert_eq!(Answer::from_message(&m, &[wrong], 1), Err(AnswerError::NotSynthesised(wrong)));
    }
    // Not in the answer section, and not there.
    for wrong in [3, 4] {
        assert!(matches!(Answer::from_message(&m, &[2, wrong], 1), Err(AnswerError::NotSynthesised(_))));
    }
    assert_eq!(Answer::from_message(&m, &[2], 1).unwrap().synthesised.len(), 1);
}

#[test]
fn what_does_not_fit_into_a_message_is_no_answer() {
    let mut m = message("a.");
    for n in 0..3000u32 {
        m.add_answer(aaaa("a.", n, "2001:db8::1"));
    }
    assert_eq!(Answer::from_message(&m, &[], 1), Err(AnswerError::Encoding));
    m.answers.truncate(2100);
    let a = Answer::from_message(&m, &[], 1).unwrap();
    assert!(a.octets.len() > 55_000);
    assert_eq!(a.ttls.len(), 2100);
}
