//! A question to an upstream resolver in wire form, and whether a message can be its answer (RFC 1035 4.1,
//! RFC 5452 9.1, RFC 6891 6.1).

use crate::question::{NAME_OCTETS, Question, WireName};
use causeway_core::DropReason;
use causeway_wire::be16;
use rand::Rng;

/// Octets of a message's header.
pub(super) const HEADER: usize = 12;
/// Octets of the largest answer over UDP that we ask for: no fragments on any usual path.
pub(super) const EDNS_OCTETS: u16 = 1232;
/// Octets of the largest answer over UDP to a question without EDNS (RFC 1035 4.2.1).
const PLAIN_OCTETS: usize = 512;

const QR: u16 = 1 << 15;
const OPCODE: u16 = 0xf << 11;
const TC: u16 = 1 << 9;
const RD: u16 = 1 << 8;
const AD: u16 = 1 << 5;
const CD: u16 = 1 << 4;
const CLASS_IN: u16 = 1;
const TYPE_OPT: u16 = 41;
const DO: u32 = 1 << 15;

const FORMERR: u8 = 1;
const NOTIMP: u8 = 4;

/// A question as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    /// The ID, random.
    pub(super) id: u16,
    /// The name in the case that was sent.
    pub(super) name: WireName,
    /// The type.
    pub(super) qtype: u16,
    /// It has an OPT record.
    pub(super) edns: bool,
    /// The case is random, and an answer that does not keep it is none.
    pub(super) cased: bool,
}

/// What the header of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The lower four bits of the response code.
    pub(super) rcode: u8,
    /// It was cut.
    pub(super) truncated: bool,
    /// It repeats no question: all that can be learnt from it is the response code.
    pub(super) bare: bool,
}

/// Why a message is not the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// Too short, a question, or of another opcode.
    NotAnswer,
    /// The ID is another.
    Id,
    /// The question is another.
    Question,
    /// Everything fits but the case of the name.
    Case,
    /// It is longer than may be sent over UDP.
    Oversize,
}

impl Mismatch {
    pub(super) const fn reason(self) -> DropReason {
        match self {
            Self::NotAnswer => DropReason::Dns64UpstreamNotAnswer,
            Self::Id => DropReason::Dns64UpstreamId,
            Self::Question => DropReason::Dns64UpstreamQuestion,
            Self::Case => DropReason::Dns64UpstreamCase,
            Self::Oversize => DropReason::Dns64UpstreamOversize,
        }
    }
}

/// The name with each of its letters in a random case.
pub(super) fn mixed(name: &WireName, random: &mut impl Rng) -> WireName {
    let (mut bits, mut left) = (0u64, 0);
    let mut flip = |octet: u8| {
        // Octets of length are below 64, letters are not.
        if !octet.is_ascii_alphabetic() {
            return octet;
        }
        if left == 0 {
            (bits, left) = (random.next_u64(), 64);
        }
        let upper = bits & 1 == 1;
        bits >>= 1;
        left -= 1;
        if upper { octet.to_ascii_uppercase() } else { octet.to_ascii_lowercase() }
    };
    name.iter().map(|o| flip(*o)).collect()
}

impl Query {
    /// The message.
    pub(super) fn octets(&self, question: &Question) -> Vec<u8> {
        let mut flags = RD | AD;
        if question.checking_disabled {
            flags |= CD;
        }
        let mut b = Vec::with_capacity(HEADER + NAME_OCTETS + 4 + 11);
        // RFC 6840 5.7: AD in a question asks for AD in the answer, whether or not signatures are wanted.
        for word in [self.id, flags, 1, 0, 0, u16::from(self.edns)] {
            b.extend(word.to_be_bytes());
        }
        b.extend(self.name.iter());
        b.extend(self.qtype.to_be_bytes());
        b.extend(CLASS_IN.to_be_bytes());
        if self.edns {
            b.push(0);
            b.extend(TYPE_OPT.to_be_bytes());
            b.extend(EDNS_OCTETS.to_be_bytes());
            let extended = if question.dnssec_ok { DO } else { 0 };
            b.extend(extended.to_be_bytes());
            b.extend([0, 0]);
        }
        b
    }

    /// Whether this is an answer over UDP.
    pub(super) fn check_datagram(&self, octets: &[u8]) -> Result<Head, Mismatch> {
        let most = if self.edns { usize::from(EDNS_OCTETS) } else { PLAIN_OCTETS };
        let head = self.check(octets);
        if octets.len() > most { head.and(Err(Mismatch::Oversize)) } else { head }
    }

    /// Whether this is an answer (RFC 5452 9.1: ID and question are the question's own).
    pub(super) fn check(&self, octets: &[u8]) -> Result<Head, Mismatch> {
        if octets.len() < HEADER {
            return Err(Mismatch::NotAnswer);
        }
        let flags = be16(octets, 2);
        if flags & QR == 0 || flags & OPCODE != 0 {
            return Err(Mismatch::NotAnswer);
        }
        if be16(octets, 0) != self.id {
            return Err(Mismatch::Id);
        }
        let [.., low] = flags.to_be_bytes();
        let rcode = low & 0xf;
        let mut head = Head { rcode, truncated: flags & TC != 0, bare: false };
        let questions = be16(octets, 4);
        if questions == 0 {
            // RFC 6891 7: servers that do not know EDNS answer so, and some of them with nothing but a header.
            if self.edns && matches!(rcode, FORMERR | NOTIMP) && octets.len() == HEADER {
                head.bare = true;
                return Ok(head);
            }
            return Err(Mismatch::Question);
        }
        let end = HEADER + self.name.len();
        let Some(name) = octets.get(HEADER..end) else { return Err(Mismatch::Question) };
        let about = octets.get(end..end + 4).map(|b| (be16(b, 0), be16(b, 2)));
        // Everything but the name must fit before its case may count for anything.
        if questions != 1
            || about != Some((self.qtype, CLASS_IN))
            || !name.eq_ignore_ascii_case(self.name.as_slice())
        {
            return Err(Mismatch::Question);
        }
        if self.cased && name != self.name.as_slice() {
            return Err(Mismatch::Case);
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, MessageType, OpCode};
    use hickory_proto::rr::{DNSClass, RecordType};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn question(dnssec_ok: bool, checking_disabled: bool) -> Question {
        let name = b"\x03www\x07example\x00".iter().copied().collect();
        Question { name, qtype: 28, dnssec_ok, checking_disabled }
    }

    fn query(edns: bool) -> Query {
        let name = b"\x03wWw\x07eXaMpLe\x00".iter().copied().collect();
        Query { id: 0xbeef, name, qtype: 28, edns, cased: true }
    }

    fn answer() -> Vec<u8> {
        let mut b = query(false).octets(&question(false, false));
        b[2] |= 0x80;
        b
    }

    #[test]
    fn rfc6891_6_1_2_a_question_is_read_by_hickory_with_its_flags() {
        for (edns, dnssec_ok, cd) in [(true, true, true), (true, false, false), (false, false, true)] {
            let octets = query(edns).octets(&question(dnssec_ok, cd));
            let m = Message::from_vec(&octets).expect("a message");
            assert_eq!((m.id, m.message_type, m.op_code), (0xbeef, MessageType::Query, OpCode::Query));
            assert_eq!((m.recursion_desired, m.authentic_data, m.checking_disabled), (true, true, cd));
            let [q] = &m.queries[..] else { panic!("one question") };
            assert_eq!((q.query_type(), q.query_class()), (RecordType::AAAA, DNSClass::IN));
            assert_eq!(q.name().to_string(), "wWw.eXaMpLe.");
            let opt = m.edns.as_ref().map(|e| (e.max_payload(), e.version(), e.flags().dnssec_ok));
            assert_eq!(opt, edns.then_some((1232, 0, dnssec_ok)));
        }
    }

    #[test]
    fn rfc5452_9_1_an_answer_fits_its_question_in_everything() {
        let plain = Head { rcode: 0, truncated: false, bare: false };
        assert_eq!(query(false).check_datagram(&answer()), Ok(plain));
        let with = |at: usize, value: u8| {
            let mut b = answer();
            b[at] = value;
            query(false).check_datagram(&b)
        };
        assert_eq!(with(0, 0xbf), Err(Mismatch::Id));
        assert_eq!(with(1, 0xee), Err(Mismatch::Id));
        assert_eq!(with(2, 0x01), Err(Mismatch::NotAnswer), "a question");
        assert_eq!(with(2, 0xa1), Err(Mismatch::NotAnswer), "opcode NOTIFY");
        assert_eq!(with(2, 0x83), Ok(Head { truncated: true, ..plain }));
        assert_eq!(with(3, 0x82), Ok(Head { rcode: 2, ..plain }));
        assert_eq!(with(5, 0), Err(Mismatch::Question), "no question");
        assert_eq!(with(5, 2), Err(Mismatch::Question), "two questions");
        assert_eq!(with(12, 2), Err(Mismatch::Question), "other labels");
        assert_eq!(with(13, b'x'), Err(Mismatch::Question), "another name");
        assert_eq!(with(13, b'W'), Err(Mismatch::Case));
        assert_eq!(with(26, 1), Err(Mismatch::Question), "another type");
        assert_eq!(with(28, 3), Err(Mismatch::Question), "another class");
        for cut in 0..answer().len() {
            assert!(query(false).check(&answer()[..cut]).is_err(), "{cut} octets");
        }
        let any_case = Query { cased: false, ..query(false) };
        let mut upper = answer();
        upper[13] = b'W';
        assert_eq!(any_case.check(&upper), Ok(plain));
    }

    #[test]
    fn what_fits_but_for_its_case_fits_in_everything_else() {
        let mut b = answer();
        b[13] = b'W';
        b[28] = 3;
        assert_eq!(query(false).check(&b), Err(Mismatch::Question));
    }

    #[test]
    fn rfc6891_7_a_header_alone_may_say_that_edns_is_not_known() {
        let mut b = answer();
        b.truncate(HEADER);
        (b[3], b[5]) = (1, 0);
        let head = Head { rcode: 1, truncated: false, bare: true };
        assert_eq!(query(true).check(&b), Ok(head));
        assert_eq!(query(false).check(&b), Err(Mismatch::Question), "it was not asked with EDNS");
        b[3] = 2;
        assert_eq!(query(true).check(&b), Err(Mismatch::Question), "SERVFAIL is about a question");
    }

    #[test]
    fn rfc6891_6_2_3_longer_than_asked_for_is_refused() {
        let with = |edns: bool, octets: usize| {
            let mut b = answer();
            b.resize(octets, 0);
            query(edns).check_datagram(&b)
        };
        assert!(with(true, 1232).is_ok() && with(false, 512).is_ok());
        assert_eq!(with(true, 1233), Err(Mismatch::Oversize));
        assert_eq!(with(false, 513), Err(Mismatch::Oversize));
    }

    #[test]
    fn letters_get_a_random_case_and_nothing_else_changes() {
        let mut random = StdRng::from_seed([7; 32]);
        let mut name = WireName::new();
        name.push(63);
        name.extend(
            b"abcdefghijklmnopqrstuvwxyz0123456789-_.@[`{abcdefghijklmnopqrstu".iter().copied().take(63),
        );
        name.push(0);
        let all: Vec<WireName> = (0..64).map(|_| mixed(&name, &mut random)).collect();
        for other in &all {
            assert!(other.eq_ignore_ascii_case(&name));
            assert!(other.iter().zip(&name).all(|(a, b)| a == b || b.is_ascii_alphabetic()));
        }
        for at in 1..27 {
            let upper = all.iter().filter(|n| n[at].is_ascii_uppercase()).count();
            assert!((8..56).contains(&upper), "letter {at} is in upper case {upper} times of 64");
        }
    }
}
