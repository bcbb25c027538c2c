use super::*;
use hickory_proto::op::{Edns as TheirEdns, Message, MessageType, OpCode, Query as TheirQuery};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, Record as TheirRecord, RecordType, rdata};
use proptest::prelude::*;

/// A header with these counts.
fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let words = [0x1234, flags].into_iter().chain(counts);
    words.flat_map(u16::to_be_bytes).collect()
}

const QUESTION: &[u8] = b"\x03wWw\x07example\x00\x00\x1c\x00\x01";

fn query(additional: &[&[u8]]) -> Vec<u8> {
    let count = additional.len() as u16;
    [&header(flags::RD, [1, 0, 0, count]), QUESTION, &additional.concat()].concat()
}

/// An OPT record with options.
fn opt(udp_octets: u16, ttl: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (code, value) in options {
        data.extend(code.to_be_bytes());
        data.extend((value.len() as u16).to_be_bytes());
        data.extend_from_slice(value);
    }
    let mut b = vec![0, 0, 41];
    b.extend(udp_octets.to_be_bytes());
    b.extend(ttl.to_be_bytes());
    b.extend((data.len() as u16).to_be_bytes());
    [b, data].concat()
}

#[test]
fn a_plain_query_is_read_in_place() {
    let b = query(&[]);
    let q = parse_query(&b).unwrap();
    assert_eq!((q.id, q.flags, q.qtype, q.qclass), (0x1234, flags::RD, 28, 1));
    assert_eq!((q.name, q.question_end, q.edns), (&b"\x03wWw\x07example\x00"[..], b.len(), None));
    assert!(!q.dnssec_ok() && !q.checking_disabled());
}

#[test]
fn rfc6891_6_1_options_are_read() {
    let cookie = [7; 24];
    let b = query(&[&opt(1232, 0x8000, &[(8, b"xyz"), (10, &cookie), (12, &[0; 9]), (3, b"")])]);
    let q = parse_query(&b).unwrap();
    let e = q.edns.unwrap();
    assert_eq!((e.udp_octets, e.version, e.dnssec_ok), (1232, 0, true));
    assert_eq!((e.cookie, e.padding, e.nsid), (Some(&cookie[..]), true, true));
    assert!(q.dnssec_ok());
    let b = query(&[&opt(512, 0x7fff, &[])]);
    let e = parse_query(&b).unwrap().edns.unwrap();
    assert_eq!((e.dnssec_ok, e.cookie, e.padding, e.nsid), (false, None, false, false));
}

#[test]
fn what_is_no_query_is_told_apart_by_cause() {
    use QueryError::*;
    let good = query(&[]);
    let patched = |at: usize, octets: &[u8]| {
        let mut b = good.clone();
        b[at..at + octets.len()].copy_from_slice(octets);
        b
    };
    let with_opt = |opt: Vec<u8>| query(&[&opt]);
    let long_name: Vec<u8> = [vec![[&[63][..], &[b'a'; 63]].concat(); 4].concat(), vec![0]].concat();
    let bomb: Vec<u8> = [[1, b'a'].repeat(128), vec![0]].concat();
    let tail = [0, 1, 0, 1];
    let named = |name: &[u8]| [&header(0, [1, 0, 0, 0]), name, &tail].concat();
    let mut named_opt = opt(512, 0, &[]);
    named_opt.splice(..1, [1, b'a', 0]);
    let mut lying = opt(512, 0, &[(10, &[1; 8])]);
    *lying.last_chunk_mut::<10>().unwrap().first_mut().unwrap() = 0xff;
    let rows: Vec<(&str, Vec<u8>, QueryError, Option<u16>)> = vec![
        ("nothing", vec![], Short, None),
        ("11 octets", good[..11].to_vec(), Short, None),
        ("a response", patched(2, &[0x81]), Response, None),
        ("opcode NOTIFY", patched(2, &[0x20]), Opcode, Some(4)),
        ("opcode UPDATE", patched(2, &[0x28]), Opcode, Some(4)),
        ("no question", header(0, [0; 4]), Questions, Some(1)),
        ("two questions", patched(4, &[0, 2]), Questions, Some(1)),
        ("256 questions", patched(4, &[1, 0]), Questions, Some(1)),
        ("an answer", patched(6, &[0, 1]), Sections, Some(1)),
        ("an authority", patched(8, &[0, 1]), Sections, Some(1)),
        ("many additional records", patched(10, &[0, 5]), Sections, Some(1)),
        ("a name that does not end", good[..16].to_vec(), Name, Some(1)),
        ("a name without its end", good[..24].to_vec(), Name, Some(1)),
        ("a compressed name", named(&[0xc0, 12]), Name, Some(1)),
        ("a name that leads to itself", named(&[1, b'a', 0xc0, 12]), Name, Some(1)),
        ("label type 01", named(&[0x41, b'a', 0]), Name, Some(1)),
        ("label type 10", named(&[0x81, b'a', 0]), Name, Some(1)),
        ("a name of 257 octets", named(&long_name), Name, Some(1)),
        ("a name of 128 labels", named(&bomb), Name, Some(1)),
        ("no type", good[..25].to_vec(), Truncated, Some(1)),
        ("half a class", good[..28].to_vec(), Truncated, Some(1)),
        ("an additional record that is not there", patched(10, &[0, 1]), Truncated, Some(1)),
        ("half an OPT", query(&[&opt(512, 0, &[])[..10]]), Truncated, Some(1)),
        ("OPT with a name", with_opt(named_opt), Opt, Some(1)),
        ("an option beyond its record", with_opt(lying), Opt, Some(1)),
        (
            "half an option",
            query(&[&[opt(512, 0, &[])[..10].to_vec(), vec![3, 0, 3, 0]].concat()]),
            Opt,
            Some(1),
        ),
        ("two OPT", query(&[&opt(512, 0, &[]), &opt(512, 0, &[])]), SecondOpt, Some(1)),
        ("a cookie of no octets", with_opt(opt(512, 0, &[(10, b"")])), Cookie, Some(1)),
        ("a cookie of 9", with_opt(opt(512, 0, &[(10, &[1; 9])])), Cookie, Some(1)),
        ("a cookie of 41", with_opt(opt(512, 0, &[(10, &[1; 41])])), Cookie, Some(1)),
        ("EDNS version 1", with_opt(opt(512, 0x1_0000, &[(10, &[1; 9])])), Version, Some(16)),
        ("octets behind the question", [good.clone(), vec![0]].concat(), Trailing, Some(1)),
        ("octets behind OPT", [with_opt(opt(512, 0, &[])), vec![0]].concat(), Trailing, Some(1)),
        (
            "only a cookie",
            [header(0, [0, 0, 0, 1]), opt(512, 0, &[(10, &[1; 8])])].concat(),
            CookieOnly,
            Some(0),
        ),
        ("only an OPT", [header(0, [0, 0, 0, 1]), opt(512, 0, &[])].concat(), Questions, Some(1)),
    ];
    for (what, octets, error, code) in rows {
        assert_eq!(parse_query(&octets), Err(error), "{what}");
        assert_eq!(error.rcode(), code, "{what}");
    }
}

#[test]
fn rfc1035_2_3_4_names_of_255_octets_are_taken() {
    let name = [vec![[&[62][..], &[b'a'; 62]].concat(); 4].concat(), vec![1, b'b', 0]].concat();
    assert_eq!(name.len(), 255);
    let b = [&header(0, [1, 0, 0, 0]), &name[..], &[0, 1, 0, 1]].concat();
    assert_eq!(parse_query(&b).unwrap().name, name);
    let name = [[1, b'a'].repeat(127), vec![0]].concat();
    assert_eq!(name.len(), 255);
    let b = [&header(0, [1, 0, 0, 0]), &name[..], &[0, 1, 0, 1]].concat();
    assert_eq!(parse_query(&b).unwrap().name, name);
    let root = [&header(0, [1, 0, 0, 0])[..], &[0, 0, 2, 0, 1]].concat();
    assert_eq!(parse_query(&root).unwrap().name, [0]);
}

#[test]
fn other_additional_records_are_passed_over() {
    let tsig = [&[3, b'k', b'e', b'y', 0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 4][..], &[1; 4]].concat();
    let b = query(&[&opt(1400, 0, &[]), &tsig]);
    assert_eq!(parse_query(&b).unwrap().edns.unwrap().udp_octets, 1400);
    let b = query(&[&tsig, &opt(1400, 0, &[])]);
    assert_eq!(parse_query(&b).unwrap().edns.unwrap().udp_octets, 1400);
}

#[test]
fn names_are_lowered_octet_by_octet_and_lengths_stay() {
    let mut out = [0xa5; 12];
    assert_eq!(lower_name(b"\x03AzZ\x02\xc3@\x00", &mut out), 8);
    assert_eq!(out, *b"\x03azz\x02\xc3@\x00\xa5\xa5\xa5\xa5");
    assert_eq!(lower_name(b"\x03ABC\x00", &mut out[..2]), 2);
}

#[test]
fn rfc1035_4_1_4_pointers_lead_back_or_nowhere() {
    let mut out = [0; NAME_OCTETS];
    //           0      3    5          9   11
    let b = b"\x01a\x00\x01b\xc0\x00\x01c\xc0\x03\xc0\x0b\xc0\x12\xc0\xff";
    let mut name = |at: usize| expand_name(b, at, &mut out).map(|(n, next)| (out[..n].to_vec(), next));
    assert_eq!(name(0), Some((b"\x01a\x00".to_vec(), 3)));
    assert_eq!(name(3), Some((b"\x01b\x01a\x00".to_vec(), 7)));
    assert_eq!(name(7), Some((b"\x01c\x01b\x01a\x00".to_vec(), 11)));
    for (at, what) in [(11, "itself"), (13, "what is behind it"), (15, "beyond the end"), (17, "the end")] {
        assert_eq!(name(at), None, "a pointer to {what}");
    }
    // Each pointer leads back, and the name grows by what it passes again and again.
    let mut long = vec![63];
    long.extend([b'x'; 63]);
    long.extend([0]);
    for n in 0..5u16 {
        let to = if n == 0 { 0 } else { 65 + (n - 1) * 66 };
        long.extend([&[63][..], &[b'y'; 63], &(0xc000 | to).to_be_bytes()].concat());
    }
    let lengths: Vec<_> =
        (0..5).map(|n| expand_name(&long, 65 + n * 66, &mut out).map(|(octets, _)| octets)).collect();
    assert_eq!(lengths, [Some(129), Some(193), None, None, None]);
}

#[test]
fn records_end_after_the_first_that_is_not_there() {
    let record = |owner: &[u8], data: &[u8]| {
        [owner, &[0, 1, 0, 1, 0, 0, 0, 60], &(data.len() as u16).to_be_bytes(), data].concat()
    };
    let mut b = [&header(0x8180, [1, 1, 1, 1]), QUESTION].concat();
    b.extend(record(&[0xc0, 12], &[192, 0, 2, 1]));
    b.extend(record(b"\x01a\x00", &[]));
    let cut = b.len();
    b.extend(record(&[0], &[1; 7]));
    let all: Vec<Record<'_>> = records(&b).unwrap().map(Result::unwrap).collect();
    let kinds: Vec<_> = all.iter().map(|r| (r.section, r.ttl, r.data.len())).collect();
    assert_eq!(kinds, [(Section::Answer, 60, 4), (Section::Authority, 60, 0), (Section::Additional, 60, 7)]);
    assert_eq!((all[0].owner_at, all[0].data), (29, &[192, 0, 2, 1][..]));
    assert_eq!(be_ttl(&b, &all[1]), 60);
    let seen: Vec<bool> = records(&b[..cut]).unwrap().map(|r| r.is_ok()).collect();
    assert_eq!(seen, [true, true, false]);
    assert!(records(&b[..15]).is_err() && records(&b[..5]).is_err());
}

fn be_ttl(b: &[u8], r: &Record<'_>) -> u32 {
    u32::from_be_bytes(b[r.ttl_at..r.ttl_at + 4].try_into().unwrap())
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..20)
}

fn name() -> impl Strategy<Value = Name> {
    proptest::collection::vec(label(), 0..8).prop_map(|labels| Name::from_labels(labels).unwrap())
}

fn wire(name: &Name) -> Vec<u8> {
    let mut b = Vec::new();
    for label in name.iter() {
        b.push(label.len() as u8);
        b.extend_from_slice(label);
    }
    b.push(0);
    b
}

prop_compose! {
    fn a_query()(
        id in any::<u16>(),
        (rd, cd, ad) in any::<(bool, bool, bool)>(),
        name in name(),
        qtype in any::<u16>(),
        edns in proptest::option::of((any::<u16>(), any::<bool>(), proptest::option::of(8usize..9), 0usize..40)),
    ) -> Message {
        let mut m = Message::new(id, MessageType::Query, OpCode::Query);
        m.metadata.recursion_desired = rd;
        m.metadata.checking_disabled = cd;
        m.metadata.authentic_data = ad;
        m.add_query(TheirQuery::query(name, RecordType::from(qtype)));
        if let Some((octets, dnssec_ok, cookie, padding)) = edns {
            let mut e = TheirEdns::new();
            e.set_max_payload(octets).set_dnssec_ok(dnssec_ok);
            if let Some(n) = cookie {
                e.options_mut().insert(EdnsOption::Unknown(10, vec![7; n]));
            }
            if padding > 0 {
                e.options_mut().insert(EdnsOption::Unknown(12, vec![0; padding]));
            }
            m.set_edns(e);
        }
        m
    }
}

/// What we take, hickory takes, and both read the same.
fn agrees(b: &[u8]) -> Result<(), TestCaseError> {
    let Ok(q) = parse_query(b) else { return Ok(()) };
    let Ok(theirs) = Message::from_vec(b) else {
        // Only for the contents of records and options that we pass over.
        prop_assert!(b.len() > q.question_end, "{:02x?}", b);
        return Ok(());
    };
    let m = &theirs.metadata;
    prop_assert_eq!((q.id, q.flags & flags::RD != 0), (m.id, m.recursion_desired));
    prop_assert_eq!(
        (q.checking_disabled(), q.flags & flags::AD != 0),
        (m.checking_disabled, m.authentic_data)
    );
    prop_assert_eq!(theirs.queries.len(), 1);
    let question = &theirs.queries[0];
    prop_assert_eq!(q.name, wire(question.name()));
    prop_assert_eq!((q.qtype, q.qclass), (question.query_type().into(), question.query_class().into()));
    prop_assert_eq!(q.edns.is_some(), theirs.edns.is_some());
    if let (Some(ours), Some(e)) = (q.edns, &theirs.edns) {
        // Hickory reads sizes below 512 as 512.
        prop_assert_eq!(ours.udp_octets.max(512), e.max_payload().max(512));
        prop_assert_eq!((ours.version, ours.dnssec_ok), (e.version(), e.flags().dnssec_ok));
        prop_assert_eq!(ours.cookie.is_some(), e.option(EdnsCode::Cookie).is_some());
        prop_assert_eq!(ours.padding, e.option(EdnsCode::Padding).is_some());
    }
    Ok(())
}

proptest! {
    #[test]
    fn queries_that_hickory_writes_are_read_as_it_reads_them(m in a_query()) {
        let b = m.to_vec().unwrap();
        prop_assert!(parse_query(&b).is_ok(), "{:?}", parse_query(&b));
        agrees(&b)?;
    }

    #[test]
    fn queries_with_changed_octets_are_refused_or_read_as_hickory_reads_them(
        m in a_query(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut b = m.to_vec().unwrap();
        for (at, octet) in changes {
            let at = at.index(b.len());
            b[at] = octet;
        }
        if let Some(cut) = cut {
            b.truncate(cut.index(b.len()));
        }
        agrees(&b)?;
    }

    #[test]
    fn any_octets_are_walked_without_leaving_them(b in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..220) {
        agrees(&b)?;
        let mut out = [0; NAME_OCTETS];
        if let Some((n, next)) = expand_name(&b, at, &mut out) {
            prop_assert!(n <= NAME_OCTETS && next <= b.len());
            prop_assert_eq!(skip_name(&b, at), Some(next));
        }
        if let Ok(walk) = records(&b) {
            for r in walk.flatten() {
                prop_assert!(r.data_at + r.data.len() <= b.len() && r.ttl_at + 6 == r.data_at);
            }
        }
    }

    #[test]
    fn records_are_found_where_hickory_wrote_them(
        q in name(),
        owners in proptest::collection::vec((name(), any::<u32>(), any::<[u8; 16]>()), 0..6),
    ) {
        let mut m = Message::response(7, OpCode::Query);
        m.add_query(TheirQuery::query(q, RecordType::AAAA));
        for (n, (owner, ttl, data)) in owners.iter().enumerate() {
            let r = TheirRecord::from_rdata(owner.clone(), *ttl, RData::AAAA(rdata::AAAA((*data).into())));
            match n % 3 {
                0 => { m.add_answer(r); }
                1 => { m.add_authority(r); }
                _ => { m.add_additional(r); }
            }
        }
        let b = m.to_vec().unwrap();
        let mut walk = records(&b).unwrap();
        let ours: Vec<Record<'_>> = walk.by_ref().map(Result::unwrap).collect();
        prop_assert_eq!(walk.position(), b.len());
        let theirs: Vec<&TheirRecord> = m.all_sections().collect();
        prop_assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            let mut out = [0; NAME_OCTETS];
            let (n, _) = expand_name(&b, ours.owner_at, &mut out).unwrap();
            prop_assert_eq!(&out[..n], &wire(&theirs.name)[..]);
            prop_assert_eq!((ours.ttl, be_ttl(&b, ours), ours.rtype), (theirs.ttl, theirs.ttl, 28));
            let RData::AAAA(a) = &theirs.data else { panic!() };
            prop_assert_eq!(ours.data, &a.0.octets());
        }
    }
}
