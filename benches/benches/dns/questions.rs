//! Names, their answers, and questions about them as frames.

use super::gateway::TENANT;
use causeway_dns64::{Answer, Question, Variant};
use causeway_testkit::{check_packet, eth, ip6, mac};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{AAAA, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::Ipv6Addr;

const HOST: &str = "2001:db8:64::101";
const SERVICE: &str = "2001:db8:64::53";
const TTL: u32 = 86_400;
/// Octets in front of a message in a frame.
const HEADERS: usize = 14 + 40 + 8;

/// How is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As stub resolvers of our days ask.
    Edns,
    /// Without EDNS.
    Plain,
    /// With a cookie.
    Cookie,
    /// For names that do not exist.
    Missing,
}

fn name(n: usize, form: Form) -> Name {
    let text =
        if form == Form::Missing { format!("n{n}.missing.example.") } else { format!("h{n}.hosts.example.") };
    Name::from_ascii(text).expect("a name")
}

const fn address(n: usize) -> u128 {
    0xcb00_0000 + n as u128
}

/// What is in the cache: addresses, and names that do not exist.
pub(crate) fn answers(names: usize) -> impl Iterator<Item = (Vec<u8>, Answer)> {
    (0..names).flat_map(|n| [Form::Edns, Form::Missing].map(|form| answer(n, form)))
}

fn answer(n: usize, form: Form) -> (Vec<u8>, Answer) {
    let name = name(n, form);
    let mut m = Message::response(0, OpCode::Query);
    m.metadata.recursion_available = true;
    m.add_query(Query::query(name.clone(), RecordType::AAAA));
    let mut made = Vec::new();
    if form == Form::Missing {
        m.metadata.response_code = ResponseCode::NXDomain;
        let own = |text: &str| Name::from_ascii(text).expect("a name");
        let soa = SOA::new(own("ns.example."), own("hostmaster.example."), 1, 7200, 3600, 86_400, 900);
        m.add_authority(Record::from_rdata(own("example."), TTL, RData::SOA(soa)));
    } else {
        m.add_answer(Record::from_rdata(name.clone(), TTL, RData::AAAA(AAAA(Ipv6Addr::from(address(n))))));
        made.push(0);
    }
    let mut wire = Vec::new();
    for label in name.iter() {
        wire.push(u8::try_from(label.len()).expect("a label"));
        wire.extend_from_slice(label);
    }
    wire.push(0);
    let question = Question {
        name: wire.iter().copied().collect(),
        qtype: RecordType::AAAA.into(),
        dnssec_ok: false,
        checking_disabled: false,
    };
    let answer = Answer::from_message(&m, &made, TTL).expect("an answer");
    (question.key(Variant::Synthesised).to_vec(), answer)
}

/// A question as it comes in.
pub(crate) fn question(n: usize, form: Form) -> Vec<u8> {
    let mut m = Message::new(u16::try_from(n % 65_536).unwrap_or(0), MessageType::Query, OpCode::Query);
    m.metadata.recursion_desired = true;
    m.add_query(Query::query(name(n, form), RecordType::AAAA));
    if form != Form::Plain {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        if form == Form::Cookie {
            edns.options_mut().insert(EdnsOption::Unknown(10, vec![5; 8]));
        }
        m.set_edns(edns);
    }
    let message = m.to_vec().expect("a message");
    eth(TENANT, mac(9)).carry(&ip6(HOST, SERVICE).udp(5353, 53, &message))
}

/// Panics unless a frame is the answer.
pub(crate) fn check(n: usize, form: Form, frame: &[u8]) {
    check_packet(&frame[14..]).expect("a good packet");
    assert_eq!(frame[..6], mac(9).0);
    let m = Message::from_vec(&frame[HEADERS..]).expect("a message");
    assert_eq!(m.queries[0].name(), &name(n, form));
    assert_eq!(m.edns.is_some(), form != Form::Plain);
    if form == Form::Missing {
        assert_eq!((m.metadata.response_code, m.authorities.len()), (ResponseCode::NXDomain, 1));
    } else {
        let prefix: Ipv6Addr = "2001:db8:64:ff9b::".parse().expect("an address");
        let want = RData::AAAA(AAAA(Ipv6Addr::from(prefix.to_bits() | address(n))));
        assert_eq!(m.answers.iter().map(|r| &r.data).collect::<Vec<_>>(), [&want]);
    }
}
