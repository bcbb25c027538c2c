use super::*;
use crate::config::{CacheSettings, Stale};
use crate::question::{Question, TYPE_AAAA, Variant};
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::AAAA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::str::FromStr;
use std::time::Duration;

fn settings() -> CacheSettings {
    CacheSettings {
        octets: 1 << 20,
        max_ttl: 3600,
        max_negative_ttl: 900,
        failure_ttl: 5,
        prefetch: true,
        stale: None,
    }
}

fn with_stale() -> CacheSettings {
    let stale = Stale { for_seconds: 1000, ttl: 30, after: Duration::from_millis(1800) };
    CacheSettings { stale: Some(stale), ..settings() }
}

fn answer(name: &str, code: ResponseCode, addresses: &[&str], ttl: u32) -> Answer {
    let name = Name::from_str(name).unwrap();
    let mut m = Message::response(0, OpCode::Query);
    m.metadata.response_code = code;
    m.add_query(Query::query(name.clone(), RecordType::AAAA));
    for a in addresses {
        m.add_answer(Record::from_rdata(name.clone(), ttl, RData::AAAA(AAAA(a.parse().unwrap()))));
    }
    Answer::from_message(&m, &[], ttl).unwrap()
}

fn good(name: &str, ttl: u32) -> Answer {
    answer(name, ResponseCode::NoError, &["2001:db8::1"], ttl)
}

fn key(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in Name::from_str(name).unwrap().iter() {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
    }
    wire.push(0);
    let question = Question {
        name: wire.iter().copied().collect(),
        qtype: TYPE_AAAA,
        dnssec_ok: false,
        checking_disabled: false,
    };
    question.key(Variant::Native).to_vec()
}

/// What is found: fresh or stale, response code, seconds left, prefetch, recheck later.
fn find(c: &Cache, name: &str, now: u64) -> Option<(&'static str, u8, u32, bool, bool)> {
    let (k, mut room) = (key(name), Scratch::new());
    let seen = |what, e: EntryRef<'_>| Some((what, e.stored.rcode(), e.ttl, e.prefetch, e.recheck_later));
    match c.get(c.hash(&k), &k, now, &mut room) {
        Found::Miss => None,
        Found::Fresh(e) => seen("fresh", e),
        Found::Stale(e) => seen("stale", e),
    }
}

#[test]
fn rfc1035_3_2_1_answers_are_good_for_their_ttl_and_no_longer() {
    let c = Cache::new(&settings()).unwrap();
    assert_eq!(find(&c, "a.example.", 100), None);
    c.put(&key("a.example."), &good("a.example.", 60), 100).unwrap();
    assert_eq!(find(&c, "a.example.", 100), Some(("fresh", 0, 60, false, false)));
    assert_eq!(find(&c, "a.example.", 159), Some(("fresh", 0, 1, false, false)));
    assert_eq!(find(&c, "a.example.", 160), None);
    // Another worker's clock may be behind.
    assert_eq!(find(&c, "a.example.", 99), Some(("fresh", 0, 60, false, false)));
    assert_eq!(find(&c, "b.example.", 100), None);
    assert_eq!(c.put(&key("z.example."), &good("z.example.", 0), 100), Err(NotKept::NoTtl));
}

#[test]
fn no_answer_is_kept_longer_than_the_settings_say() {
    let c = Cache::new(&settings()).unwrap();
    let rows = [
        ("an answer", good("a.", 10_000), 3600),
        ("rfc2308_5 NODATA", answer("a.", ResponseCode::NoError, &[], 10_000), 900),
        ("rfc2308_5 NXDOMAIN", answer("a.", ResponseCode::NXDomain, &[], 10_000), 900),
        ("rfc9520_3_2 SERVFAIL", answer("a.", ResponseCode::ServFail, &[], 10_000), 5),
        ("rfc9520_3_2 REFUSED", answer("a.", ResponseCode::Refused, &[], 3), 3),
    ];
    for (what, answer, seconds) in rows {
        c.put(&key("a."), &answer, 0).unwrap();
        assert!(find(&c, "a.", seconds - 1).is_some_and(|f| f.2 == 1), "{what}");
        assert_eq!(find(&c, "a.", seconds), None, "{what}");
    }
}

#[test]
fn all_settings_but_the_memory_can_change_while_answers_are_there() {
    let c = Cache::new(&settings()).unwrap();
    c.put(&key("a."), &good("a.", 60), 0).unwrap();
    assert_eq!(find(&c, "a.", 60), None);
    c.set_settings(&CacheSettings { max_ttl: 10, max_negative_ttl: 20, failure_ttl: 2, ..with_stale() });
    assert_eq!(find(&c, "a.", 60), Some(("stale", 0, 0, false, false)));
    assert_eq!(find(&c, "a.", 59), Some(("fresh", 0, 1, false, false)), "what is there keeps its time");
    for (name, answer, seconds) in [
        ("b.", good("b.", 10_000), 10),
        ("c.", answer("c.", ResponseCode::NXDomain, &[], 10_000), 10),
        ("d.", answer("d.", ResponseCode::ServFail, &[], 10_000), 2),
    ] {
        c.put(&key(name), &answer, 0).unwrap();
        assert_eq!(find(&c, name, 0).map(|f| (f.0, f.2)), Some(("fresh", seconds)), "{name}");
    }
    let hot = |c: &Cache| (0..8).any(|_| find(c, "b.", 9).is_some_and(|f| f.3));
    c.set_settings(&CacheSettings { prefetch: false, ..settings() });
    assert!(!hot(&c));
    assert_eq!(find(&c, "a.", 60), None, "expired answers are not used any more");
    c.set_settings(&settings());
    assert!(hot(&c));
    let before = c.stats().octets;
    c.set_settings(&CacheSettings { octets: 64 << 20, ..settings() });
    assert_eq!(c.stats().octets, before);
}

#[test]
fn the_whole_answer_comes_back() {
    let c = Cache::new(&settings()).unwrap();
    let mut a = good("a.example.", 60);
    a.extended_error = Some(22);
    c.put(&key("a.example."), &a, 7).unwrap();
    let (k, mut room) = (key("a.example."), Scratch::new());
    let Found::Fresh(e) = c.get(c.hash(&k), &k, 17, &mut room) else { panic!() };
    let s = e.stored;
    assert_eq!((s.age, s.extended_error, s.is_stale(), s.is_synthesised()), (10, Some(22), false, false));
    assert_eq!(s.flags, u16::from_be_bytes([a.octets[2], a.octets[3]]));
    assert_eq!(s.counts[..], a.octets[6..12]);
    assert_eq!(s.records, &a.octets[usize::from(s.question_end)..]);
    let Offsets::Octets(ttls) = s.ttls else { panic!() };
    assert_eq!(ttls, a.ttls[0].to_ne_bytes());
}

#[test]
fn a_name_asked_for_often_is_asked_for_again_once_before_its_end() {
    let c = Cache::new(&settings()).unwrap();
    c.put(&key("hot."), &good("hot.", 100), 0).unwrap();
    c.put(&key("cold."), &good("cold.", 100), 0).unwrap();
    for now in [1, 2, 50] {
        assert_eq!(find(&c, "hot.", now).map(|f| f.3), Some(false));
    }
    assert_eq!(find(&c, "hot.", 89), Some(("fresh", 0, 11, false, false)), "not near its end");
    assert_eq!(find(&c, "cold.", 91), Some(("fresh", 0, 9, false, false)), "asked for once");
    assert_eq!(find(&c, "hot.", 91), Some(("fresh", 0, 9, true, false)));
    assert_eq!(find(&c, "hot.", 92), Some(("fresh", 0, 8, false, false)), "somebody does");
    c.put(&key("hot."), &good("hot.", 100), 92).unwrap();
    assert_eq!(find(&c, "hot.", 190), Some(("fresh", 0, 2, false, false)), "asked for once since");

    let off = Cache::new(&CacheSettings { prefetch: false, ..settings() }).unwrap();
    off.put(&key("hot."), &good("hot.", 100), 0).unwrap();
    for _ in 0..9 {
        assert_eq!(find(&off, "hot.", 95).map(|f| f.3), Some(false));
    }
}

#[test]
fn rfc8767_4_expired_answers_are_found_as_such_for_a_while() {
    let c = Cache::new(&with_stale()).unwrap();
    c.put(&key("a."), &good("a.", 60), 0).unwrap();
    assert_eq!(find(&c, "a.", 59), Some(("fresh", 0, 1, false, false)));
    assert_eq!(find(&c, "a.", 60), Some(("stale", 0, 0, false, false)));
    assert_eq!(find(&c, "a.", 1059), Some(("stale", 0, 0, false, false)));
    assert_eq!(find(&c, "a.", 1060), None);
    // Failures are not worth it.
    c.put(&key("b."), &answer("b.", ResponseCode::ServFail, &[], 60), 0).unwrap();
    assert_eq!(find(&c, "b.", 5), None);
}

#[test]
fn rfc8767_5_a_failure_does_not_take_the_place_of_an_expired_answer() {
    let c = Cache::new(&with_stale()).unwrap();
    let failure = answer("a.", ResponseCode::ServFail, &[], 5);
    c.put(&key("a."), &answer("a.", ResponseCode::NXDomain, &[], 60), 0).unwrap();
    assert_eq!(c.put(&key("a."), &failure, 100), Err(NotKept::StaleKept));
    assert_eq!(find(&c, "a.", 100), Some(("stale", 3, 0, false, true)), "not asked for again at once");
    assert_eq!(find(&c, "a.", 129), Some(("stale", 3, 0, false, true)));
    assert_eq!(find(&c, "a.", 130), Some(("stale", 3, 0, false, false)));
    c.put(&key("a."), &good("a.", 60), 131).unwrap();
    assert_eq!(find(&c, "a.", 131), Some(("fresh", 0, 60, false, false)));
    // One that is too old does not stay.
    assert_eq!(c.put(&key("a."), &failure, 5000), Ok(()));
    assert_eq!(find(&c, "a.", 5001), Some(("fresh", 2, 4, false, false)));
    assert_eq!(c.stats().entries, 1);
}

#[test]
fn a_name_is_forgotten_with_all_under_it() {
    let c = Cache::new(&settings()).unwrap();
    let names = ["example.", "a.example.", "b.a.example.", "ba.example.", "xexample.", "example.a.", "."];
    let fill = || names.iter().for_each(|n| c.put(&key(n), &good(n, 60), 0).unwrap());
    let left = || names.iter().filter(|n| find(&c, n, 1).is_some()).copied().collect::<Vec<_>>();
    fill();
    assert_eq!(c.forget(b"\x01a\x07example\x00"), 2);
    assert_eq!(left(), ["example.", "ba.example.", "xexample.", "example.a.", "."]);
    fill();
    assert_eq!(c.forget(b"\x07example\x00"), 4);
    assert_eq!(left(), ["xexample.", "example.a.", "."]);
    assert_eq!(c.forget(b"\x00"), 3);
    fill();
    c.clear();
    assert_eq!((left().len(), c.stats().entries), (0, 0));
}

#[test]
fn what_is_too_long_is_not_kept_and_counted() {
    let c = Cache::new(&settings()).unwrap();
    let addresses = vec!["2001:db8::1"; 200];
    let long = answer("a.", ResponseCode::NoError, &addresses, 60);
    assert_eq!(c.put(&key("a."), &long, 0), Err(NotKept::Put(PutError::TooLong)));
    assert_eq!((c.stats().entries, c.stats().refused), (0, 1));
    let broken = Answer { octets: vec![0; 11], ..long };
    assert_eq!(c.put(&key("a."), &broken, 0), Err(NotKept::Malformed));
}

#[test]
fn every_cache_has_a_hash_of_its_own() {
    let (a, b) = (Cache::new(&settings()).unwrap(), Cache::new(&settings()).unwrap());
    assert!((0..8).any(|n: u8| a.hash(&[n]) != b.hash(&[n])));
    assert!(Cache::new(&CacheSettings { octets: 100, ..settings() }).is_err());
}
