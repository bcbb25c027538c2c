//! Answers to questions that are not asked upstream: blocked and local names, ipv4only.arpa (RFC 7050, RFC 8880),
//! names of addresses under the prefix (RFC 6147 5.3.1), names that never leave a host's network (RFC 6761,
//! RFC 7686), and questions for all types (RFC 8482).

use crate::policy::{IPV4ONLY, NOERROR, NXDOMAIN, Policy, Special, is_synthesised};
use crate::question::{Question, TYPE_A, TYPE_AAAA};
use crate::resolution::{placeholder, response, wire_name};
use causeway_core::Counter;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{A, AAAA, HINFO, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of ipv4only.arpa (RFC 7050 8.2).
pub const IPV4ONLY_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// Seconds that what is fixed by an RFC is good for. RFC 7050 4 has at least an hour for ipv4only.arpa.
const FIXED_TTL: u32 = 3600;
/// Seconds that "there is none" of ours is good for: the configuration may change. RFC 8880's example has this too.
const NEGATIVE_TTL: u32 = 60;
/// RFC 8914 4.16: Blocked.
const EDE_BLOCKED: u16 = 15;

/// An answer of ours.
pub(crate) struct Local {
    /// It, and the places of AAAA records in its answer section that get a view's prefix; nothing if something has to
    /// be asked first.
    pub message: Option<(Message, Vec<usize>)>,
    /// Seconds that it is good for.
    pub ttl: u32,
    /// RFC 8914's code.
    pub extended_error: Option<u16>,
    /// What it is, for people.
    pub why: &'static str,
    /// How it is counted.
    pub counter: Counter,
}

/// The answer to a question that has a special meaning for this view.
pub(crate) fn answer(question: &Question, special: Special, view: u16, policy: &Policy) -> Local {
    match special {
        Special::Blocked(at) => {
            let zone = wire_name(question.name.get(usize::from(at)..).unwrap_or_default());
            let mut local =
                none(question, NXDOMAIN, &zone, NEGATIVE_TTL, "the name is blocked for this view");
            local.extended_error = Some(EDE_BLOCKED);
            local.counter = Counter::Dns64Blocked;
            local
        }
        Special::Local(number) => configured(question, number, view, policy),
        Special::Ipv4Only => {
            let [a, b] = IPV4ONLY_ADDRESSES;
            let why = "ipv4only.arpa is answered here, with the prefix of the view (RFC 8880 7.1)";
            let zone = wire_name(IPV4ONLY);
            let mut local = match question.qtype {
                TYPE_A => data(question, [a, b].map(|v4| RData::A(A(v4))), false, FIXED_TTL, why),
                // RFC 8880 7.1: whatever DO and CD say; and RFC 7050 3 has these even under the well-known prefix.
                TYPE_AAAA => {
                    data(question, [a, b].map(|v4| RData::AAAA(AAAA(placeholder(v4)))), true, FIXED_TTL, why)
                }
                _ => none(question, NOERROR, &zone, NEGATIVE_TTL, why),
            };
            local.counter = Counter::Dns64Ipv4Only;
            local
        }
        Special::UnderIpv4Only => {
            let why = "there is nothing under ipv4only.arpa (RFC 8880 7.1)";
            let mut local = none(question, NXDOMAIN, &wire_name(IPV4ONLY), NEGATIVE_TTL, why);
            local.counter = Counter::Dns64Ipv4Only;
            local
        }
        Special::Reverse(v4) => {
            let mut local = if IPV4ONLY_ADDRESSES.contains(&v4) {
                let why = "the addresses of ipv4only.arpa have its name (RFC 8880 7.2.1)";
                data(question, [RData::PTR(PTR(wire_name(IPV4ONLY)))], false, FIXED_TTL, why)
            } else {
                let why =
                    "the address is under a NAT64 prefix (RFC 6147 5.3.1): its IPv4 address is looked for";
                Local { message: None, ttl: 0, extended_error: None, why, counter: Counter::Dns64Reverse }
            };
            local.counter = Counter::Dns64Reverse;
            local
        }
        Special::Localhost => {
            let why = "localhost is answered here (RFC 6761 6.3)";
            match question.qtype {
                TYPE_A => data(question, [RData::A(A(Ipv4Addr::LOCALHOST))], false, FIXED_TTL, why),
                TYPE_AAAA => data(question, [RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))], false, FIXED_TTL, why),
                _ => none(question, NOERROR, &wire_name(&question.name), FIXED_TTL, why),
            }
        }
        Special::Nonexistent => {
            let zone = question.name.len().checked_sub(tld_octets(&question.name));
            let zone = wire_name(zone.and_then(|at| question.name.get(at..)).unwrap_or_default());
            none(
                question,
                NXDOMAIN,
                &zone,
                FIXED_TTL,
                "the name is never looked up (RFC 6761 6.4, RFC 7686 2)",
            )
        }
        Special::Any => {
            // RFC 8482 4.2.
            let why = "all types are asked for: one record says that this is not done (RFC 8482)";
            let hinfo = HINFO::from_bytes(Box::from(&b"RFC8482"[..]), Box::default());
            let mut local = data(question, [RData::HINFO(hinfo)], false, FIXED_TTL, why);
            if let Some((message, _)) = &mut local.message {
                message.metadata.authoritative = false;
            }
            local.counter = Counter::Dns64Any;
            local
        }
    }
}

/// A name of the view's own.
fn configured(question: &Question, number: u32, view: u16, policy: &Policy) -> Local {
    let why = "the name is answered here by configuration";
    let name = policy
        .view(view)
        .and_then(|v| usize::try_from(number).ok().and_then(|n| v.local.get(n)).map(|local| (v, local)));
    let Some((v, local)) = name else {
        return none(question, NXDOMAIN, &wire_name(&question.name), NEGATIVE_TTL, why);
    };
    let v4: Vec<Ipv4Addr> = local.addresses.iter().filter_map(|a| ipv4(*a)).collect();
    let v6: Vec<Ipv6Addr> = local.addresses.iter().filter_map(|a| ipv6(*a)).collect();
    match question.qtype {
        TYPE_A if !v4.is_empty() => {
            data(question, v4.into_iter().map(|a| RData::A(A(a))), false, local.ttl, why)
        }
        TYPE_AAAA if !v6.is_empty() => {
            data(question, v6.into_iter().map(|a| RData::AAAA(AAAA(a))), false, local.ttl, why)
        }
        TYPE_AAAA if is_synthesised(v, &question.name, question.checking_disabled) => {
            let usable: Vec<Ipv4Addr> =
                v4.into_iter().filter(|a| policy.address(view, *a).is_used()).collect();
            if usable.is_empty() {
                return none(question, NOERROR, &wire_name(&question.name), local.ttl, why);
            }
            let why = "the name is answered here by configuration, with AAAA records made of its A records";
            data(
                question,
                usable.into_iter().map(|a| RData::AAAA(AAAA(placeholder(a)))),
                true,
                local.ttl,
                why,
            )
        }
        _ => none(question, NOERROR, &wire_name(&question.name), local.ttl, why),
    }
}

const fn ipv4(a: IpAddr) -> Option<Ipv4Addr> {
    match a {
        IpAddr::V4(a) => Some(a),
        IpAddr::V6(_) => None,
    }
}

const fn ipv6(a: IpAddr) -> Option<Ipv6Addr> {
    match a {
        IpAddr::V4(_) => None,
        IpAddr::V6(a) => Some(a),
    }
}

/// Octets of the last label of a name, with the root's.
fn tld_octets(name: &[u8]) -> usize {
    let mut rest = name;
    while let Some((&length, tail)) = rest.split_first() {
        match tail.get(usize::from(length)..) {
            Some([0]) | None => break,
            Some(next) => rest = next,
        }
    }
    rest.len()
}

/// Records of the question's name; `synthesised` if all of them get the view's prefix.
fn data(
    question: &Question,
    records: impl IntoIterator<Item = RData>,
    synthesised: bool,
    ttl: u32,
    why: &'static str,
) -> Local {
    let mut message = response(question, NOERROR);
    message.metadata.authoritative = true;
    let name = wire_name(&question.name);
    message.answers = records.into_iter().map(|r| Record::from_rdata(name.clone(), ttl, r)).collect();
    let places = if synthesised { (0..message.answers.len()).collect() } else { Vec::new() };
    Local { message: Some((message, places)), ttl, extended_error: None, why, counter: Counter::Dns64Local }
}

/// That there is none.
fn none(question: &Question, rcode: u8, zone: &Name, ttl: u32, why: &'static str) -> Local {
    let mut message = negative(question, rcode, zone, ttl);
    message.metadata.authoritative = true;
    Local {
        message: Some((message, Vec::new())),
        ttl,
        extended_error: None,
        why,
        counter: Counter::Dns64Local,
    }
}

/// A negative answer with an SOA record of ours (RFC 2308 2), so that it is kept for `ttl` seconds.
pub(crate) fn negative(question: &Question, rcode: u8, zone: &Name, ttl: u32) -> Message {
    let mut message = response(question, rcode);
    let soa = SOA::new(
        wire_name(b"\x09localhost\x00"),
        wire_name(b"\x06nobody\x07invalid\x00"),
        1,
        3600,
        1200,
        604_800,
        ttl,
    );
    message.authorities = vec![Record::from_rdata(zone.clone(), ttl, RData::SOA(soa))];
    message
}
