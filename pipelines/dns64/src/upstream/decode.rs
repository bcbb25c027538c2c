//! An upstream's message, read by `hickory-proto`, so that what is in it can be written into another message.
//!
//! RFC 3597 4: in old record types that hold names, names may be compressed, and `hickory-proto` keeps their data as it
//! came. The names are expanded here.

use super::query::HEADER;
use causeway_wire::be16;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

/// Records of a message that is read at all.
const MOST_RECORDS: u32 = 1024;

const TYPE_OPT: u16 = 41;

/// Where names are in the data of a record: the octets before the first, and how many follow each other there.
const fn layout(kind: u16) -> Option<(usize, usize)> {
    match kind {
        // MD, MF, MB, MG, MR and DNAME.
        3 | 4 | 7 | 8 | 9 | 39 => Some((0, 1)),
        // MINFO and RP.
        14 | 17 => Some((0, 2)),
        // AFSDB, RT and KX.
        18 | 21 | 36 => Some((2, 1)),
        // PX.
        26 => Some((2, 2)),
        // NXT.
        30 => Some((0, 1)),
        _ => None,
    }
}

/// Reads a message of which the header is known to be there. The name of its question becomes lower case, and with
/// it all names that point there: the case that it was asked with was random.
pub(super) fn decode(octets: &[u8]) -> Result<Message, DecodeError> {
    let mut octets = octets.to_vec();
    let counts = [6, 8, 10].map(|at| u32::from(be16(&octets, at)));
    if counts.iter().sum::<u32>() > MOST_RECORDS {
        return Err(DecodeError::InvalidEmptyRecord);
    }
    lower_question(&mut octets);
    let mut decoder = BinDecoder::new(&octets);
    let mut message = Message::read(&mut decoder)?;
    if !decoder.is_empty() {
        return Err(DecodeError::InvalidEmptyRecord);
    }
    let sections = [&message.answers, &message.authorities, &message.additionals];
    if sections.into_iter().flatten().any(|r| layout(r.record_type().into()).is_some()) {
        expand(&octets, counts, &mut message)?;
    }
    Ok(message)
}

fn lower_question(octets: &mut [u8]) {
    let mut at = HEADER;
    while let Some(&length) = octets.get(at) {
        let end = at + 1 + usize::from(length);
        if length == 0 || length > 63 || end > octets.len() {
            return;
        }
        octets[at + 1..end].make_ascii_lowercase();
        at = end;
    }
}

/// Walks over the records once more, and gives those with names inside data in which the names are whole.
fn expand(octets: &[u8], counts: [u32; 3], message: &mut Message) -> Result<(), DecodeError> {
    let mut decoder = BinDecoder::new(octets);
    decoder.read_slice(HEADER)?;
    for _ in 0..be16(octets, 4) {
        Query::read(&mut decoder)?;
    }
    let sections: [&mut Vec<Record>; 3] =
        [&mut message.answers, &mut message.authorities, &mut message.additionals];
    for (count, records) in counts.into_iter().zip(sections) {
        let mut records = records.iter_mut();
        for _ in 0..count {
            Name::read(&mut decoder)?;
            let kind = decoder.read_u16()?.unverified(/*a number to compare with*/);
            decoder.read_slice(6)?;
            let length = usize::from(decoder.read_u16()?.unverified(/*a slice of it is read below*/));
            // hickory keeps OPT out of the additional section.
            let record = if kind == TYPE_OPT { None } else { records.next() };
            let Some((before, names)) = layout(kind) else {
                decoder.read_slice(length)?;
                continue;
            };
            let data = whole(&mut decoder, length, before, names)?;
            if let Some(record) = record.filter(|r| u16::from(r.record_type()) == kind) {
                record.data = RData::Unknown { code: RecordType::from(kind), rdata: NULL::with(data) };
            }
        }
    }
    Ok(())
}

fn whole(
    decoder: &mut BinDecoder<'_>,
    length: usize,
    before: usize,
    names: usize,
) -> Result<Vec<u8>, DecodeError> {
    let end = decoder.index() + length;
    let mut data = decoder.read_slice(before)?.unverified(/*kept as it is*/).to_vec();
    for _ in 0..names {
        data.extend(wire(&Name::read(decoder)?));
    }
    let rest = end.checked_sub(decoder.index()).ok_or(DecodeError::InsufficientBytes)?;
    data.extend(decoder.read_slice(rest)?.unverified(/*kept as it is*/));
    if data.len() > usize::from(u16::MAX) {
        return Err(DecodeError::InsufficientBytes);
    }
    Ok(data)
}

/// A name in wire form, without compression.
pub(super) fn wire(name: &Name) -> Vec<u8> {
    let mut octets = Vec::with_capacity(name.len() + 1);
    for label in name.iter() {
        // No label is longer than 63 octets.
        octets.push(u8::try_from(label.len()).unwrap_or(0));
        octets.extend(label);
    }
    octets.push(0);
    octets
}

/// Reads a name that is not compressed, and gives what follows it.
pub(super) fn name(octets: &[u8]) -> Option<(Name, &[u8])> {
    let mut decoder = BinDecoder::new(octets);
    let name = Name::read(&mut decoder).ok()?;
    Some((name, &octets[decoder.index()..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::rdata::A;

    fn message(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut b = vec![0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 1];
        b.extend(b"\x03Www\x07eXample\x00");
        b.extend([kind.to_be_bytes(), [0, 1]].concat());
        b.extend([0xc0, 12]);
        b.extend([kind.to_be_bytes(), [0, 1]].concat());
        b.extend([0, 0, 0, 60]);
        b.extend(u16::try_from(data.len()).expect("short data").to_be_bytes());
        b.extend(data);
        b.extend([0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
        b
    }

    fn data_of(kind: u16, data: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let message = decode(&message(kind, data))?;
        assert!(message.edns.is_some());
        let RData::Unknown { rdata, .. } = &message.answers[0].data else { panic!("{:?}", message.answers) };
        Ok(rdata.anything.clone())
    }

    #[test]
    fn rfc3597_4_names_in_old_types_are_expanded() {
        let whole = |before: &[u8], names: usize, after: &[u8]| {
            [before, &b"\x01a\x07example\x00".repeat(names), after].concat()
        };
        for (kind, before, names) in
            [(3u16, 0, 1), (4, 0, 1), (7, 0, 1), (8, 0, 1), (9, 0, 1), (39, 0, 1), (14, 0, 2), (17, 0, 2)]
                .into_iter()
                .chain([(18, 2, 1), (21, 2, 1), (36, 2, 1), (26, 2, 2), (30, 0, 1)])
        {
            let before = vec![9; before];
            let rest: &[u8] = if kind == 30 { &[1, 2, 3] } else { &[] };
            let data = [&before[..], &b"\x01a\xc0\x10".repeat(names), rest].concat();
            assert_eq!(data_of(kind, &data).expect("a message"), whole(&before, names, rest), "type {kind}");
        }
        // Other types are left alone.
        assert_eq!(data_of(65000, b"\x01a\xc0\x10").expect("a message"), b"\x01a\xc0\x10");
    }

    #[test]
    fn rfc1035_4_1_4_names_that_do_not_end_in_their_data_are_refused() {
        assert!(data_of(39, b"\x01a\xc0").is_err());
        assert!(data_of(39, b"\x05a\xc0\x10").is_err());
        assert!(data_of(39, b"\xc0\xff").is_err(), "a pointer forwards");
        let at = u8::try_from(message(39, b"").len() - 11).expect("a short message");
        assert!(data_of(39, &[0xc0, at]).is_err(), "a pointer to itself");
    }

    #[test]
    fn the_question_becomes_lower_case_and_what_points_there() {
        let m = decode(&message(1, &[192, 0, 2, 1])).expect("a message");
        assert_eq!(m.queries[0].name().to_string(), "www.example.");
        assert_eq!(m.answers[0].name.to_string(), "www.example.");
        assert_eq!(m.answers[0].data, RData::A(A::new(192, 0, 2, 1)));
    }

    #[test]
    fn what_follows_the_last_record_is_refused_and_so_are_too_many_records() {
        let good = message(1, &[192, 0, 2, 1]);
        assert!(decode(&good).is_ok());
        assert!(decode(&[&good[..], &[0]].concat()).is_err());
        for cut in HEADER..good.len() {
            assert!(decode(&good[..cut]).is_err(), "{cut} octets");
        }
        let mut many = Message::new(1, MessageType::Response, OpCode::Query);
        let record = Record::from_rdata(Name::root(), 1, RData::A(A::new(192, 0, 2, 1)));
        many.answers = vec![record; 1024];
        assert!(decode(&many.to_vec().expect("a message")).is_ok());
        many.answers.push(many.answers[0].clone());
        assert!(decode(&many.to_vec().expect("a message")).is_err());
    }

    #[test]
    fn wire_form_and_back() {
        for text in [".", "example.", "a.b\\.c.example."] {
            let one = Name::from_ascii(text).expect("a name");
            let octets = wire(&one);
            let (again, rest) = name(&octets).expect("a name");
            assert!(again == one && rest.is_empty(), "{text}");
        }
        assert_eq!(name(b"\x01a"), None);
    }
}
