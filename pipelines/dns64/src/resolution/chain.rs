//! A question, and the further questions that the CNAME and DNAME records in its answers make necessary
//! (RFC 1034 3.6.2, RFC 6672, RFC 6147 5.1.5).

use crate::answer::{FetchError, Fetched};
use crate::config::CacheSettings;
use crate::policy::{NOERROR, NXDOMAIN};
use crate::question::{NAME_OCTETS, Question, WireName};
use crate::resolution::wire_name;
use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable};

/// CNAME records that are followed for one question.
pub const MAX_LINKS: usize = 16;

/// One question until the end of its chain.
#[derive(Debug)]
pub struct Chase {
    question: Question,
    /// The name that was asked for last.
    name: Name,
    /// The chain so far.
    chain: Vec<Record>,
    links: usize,
    authentic: bool,
}

/// What came of it.
#[derive(Debug)]
pub enum Progress {
    /// This has to be known too.
    Ask(Box<Question>),
    /// The whole answer.
    Got(Box<Got>),
    /// There is none.
    Failed(FetchError),
    /// The chain is a circle, or too long.
    Broken,
}

/// An answer with its whole chain. TTLs count from now.
#[derive(Debug)]
pub struct Got {
    /// The message; ID 0, without OPT.
    pub message: Message,
    /// The response code: 0 or 3.
    pub rcode: u8,
    /// The name at the end of the chain.
    pub end: Name,
    /// Links of the chain.
    pub links: usize,
    /// There are records of the type that was asked for at its end.
    pub has_data: bool,
    /// Seconds for which an SOA record says that there is nothing (RFC 2308 5).
    pub soa_ttl: Option<u32>,
}

impl Got {
    /// True if there is what was asked for.
    #[must_use]
    pub const fn is_positive(&self) -> bool {
        self.rcode == NOERROR && self.has_data
    }

    /// Seconds that it may be kept. RFC 2308 5: negative answers as long as their SOA record says, and not at
    /// all without one.
    #[must_use]
    pub fn lifetime(&self, cache: &CacheSettings) -> u32 {
        let answers = shortest(&self.message.answers).min(cache.max_ttl);
        if self.is_positive() {
            answers
        } else {
            answers.min(self.soa_ttl.unwrap_or(0)).min(cache.max_negative_ttl)
        }
    }
}

impl Chase {
    /// Begins with `question`, which the caller asks.
    #[must_use]
    pub fn new(question: &Question) -> Self {
        Self {
            question: question.clone(),
            name: wire_name(&question.name),
            chain: Vec::new(),
            links: 0,
            authentic: true,
        }
    }

    /// Takes the answer to the question asked last.
    #[must_use]
    pub fn on(&mut self, result: Result<Fetched, FetchError>, cache: &CacheSettings) -> Progress {
        let Fetched { mut message, age, .. } = match result {
            Ok(fetched) => fetched,
            Err(error) => return Progress::Failed(error),
        };
        let rcode = rcode(&message);
        if !matches!(rcode, NOERROR | NXDOMAIN) {
            return Progress::Failed(FetchError::Failed(rcode));
        }
        clean(&mut message);
        let walk = match walk(&self.name, self.question.qtype, &mut message.answers) {
            Some(walk) if self.links + walk.links <= MAX_LINKS => walk,
            _ => return Progress::Broken,
        };
        let soa = soa_ttl(&message, &walk.end).map(|ttl| ttl.saturating_sub(age));
        // RFC 2181 5.2: what is left of each record's time.
        for records in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            for record in records {
                record.ttl = record.ttl.min(cache.max_ttl).saturating_sub(age);
            }
        }
        self.links += walk.links;
        self.authentic &= message.metadata.authentic_data;
        self.chain.append(&mut message.answers);
        // A resolver that followed the chain says with an SOA record that there is nothing at its end (RFC 2308 2.2).
        if rcode == NOERROR && walk.links > 0 && !walk.has_data && soa.is_none() {
            let Some(question) = question_about(&walk.end, &self.question) else { return Progress::Broken };
            self.name = walk.end;
            return Progress::Ask(Box::new(question));
        }
        message.answers = std::mem::take(&mut self.chain);
        message.metadata.authentic_data = self.authentic;
        Progress::Got(Box::new(Got {
            message,
            rcode,
            end: walk.end,
            links: self.links,
            has_data: walk.has_data,
            soa_ttl: soa,
        }))
    }
}

/// Where a chain leads.
struct Walk {
    end: Name,
    links: usize,
    has_data: bool,
}

/// Follows the chain from `name` through `answers`; nothing if it is a circle, or too long. CNAME records that
/// DNAME records stand for (RFC 6672 3.1) are added where they are missing.
fn walk(name: &Name, qtype: u16, answers: &mut Vec<Record>) -> Option<Walk> {
    let wanted = RecordType::from(qtype);
    let mut end = name.clone();
    for links in 0..=MAX_LINKS {
        let own = |r: &&Record| r.name == end;
        if answers.iter().filter(own).any(|r| r.record_type() == wanted) {
            return Some(Walk { end, links, has_data: true });
        }
        let target = answers.iter().filter(own).find_map(|r| match &r.data {
            RData::CNAME(CNAME(target)) => Some(target.clone()),
            _ => None,
        });
        end = match target {
            Some(target) => target,
            None => match answers.iter().find_map(|r| rewritten(r, &end)) {
                None => return Some(Walk { end, links, has_data: false }),
                Some((target, ttl)) => {
                    let target = target?;
                    answers.push(Record::from_rdata(end, ttl, RData::CNAME(CNAME(target.clone()))));
                    target
                }
            },
        };
    }
    None
}

/// What `name` becomes by a DNAME record (RFC 6672 2.2), and the TTL of that. The name in it is missing if it would be
/// too long.
fn rewritten(record: &Record, name: &Name) -> Option<(Option<Name>, u32)> {
    let RData::Unknown { code: RecordType::DNAME, rdata } = &record.data else { return None };
    // RFC 6672 2.3: not the owner itself, only what is under it.
    if !record.name.zone_of(name) || record.name == *name {
        return None;
    }
    let target = Name::read(&mut BinDecoder::new(&rdata.anything)).ok()?;
    let labels = name.iter().count() - record.name.iter().count();
    let under = Name::from_labels(name.iter().take(labels)).ok();
    let made = under.and_then(|u| u.append_domain(&target).ok());
    Some((made.filter(|n| n.len() < NAME_OCTETS), record.ttl))
}

/// The same question about another name.
fn question_about(name: &Name, question: &Question) -> Option<Question> {
    let octets = name.to_lowercase().to_bytes().ok()?;
    let name = WireName::try_from(octets.as_slice()).ok()?;
    Some(Question { name, ..question.clone() })
}

/// What a resolver may tell of a message, and nothing else.
fn clean(message: &mut Message) {
    let from = message.metadata;
    let mut clean = Message::new(0, MessageType::Response, OpCode::Query);
    clean.metadata.recursion_available = true;
    clean.metadata.authentic_data = from.authentic_data;
    clean.metadata.response_code = from.response_code;
    clean.answers = std::mem::take(&mut message.answers);
    clean.authorities = std::mem::take(&mut message.authorities);
    clean.additionals = std::mem::take(&mut message.additionals);
    *message = clean;
}

/// The response code of a message, as far as the header has it; 255 if it is none of those.
#[must_use]
pub fn rcode(message: &Message) -> u8 {
    u8::try_from(u16::from(message.metadata.response_code)).unwrap_or(u8::MAX)
}

/// Seconds for which the SOA record in the authority section says that there is nothing (RFC 2308 5): the lesser of
/// its TTL and its last field.
fn soa_ttl(message: &Message, end: &Name) -> Option<u32> {
    message.authorities.iter().find_map(|r| match &r.data {
        RData::SOA(soa) if r.name.zone_of(end) => Some(r.ttl.min(soa.minimum)),
        _ => None,
    })
}

/// The message with a TTL of at most `ttl` at its SOA records, so that who hears it keeps it no longer (RFC 2308 5).
#[must_use]
pub fn with_soa_ttl(mut message: Message, ttl: u32) -> Message {
    for record in &mut message.authorities {
        if record.record_type() == RecordType::SOA {
            record.ttl = record.ttl.min(ttl);
        }
    }
    message
}

/// The TTL of the record that ends first.
#[must_use]
pub fn shortest(records: &[Record]) -> u32 {
    records.iter().map(|r| r.ttl).min().unwrap_or(u32::MAX)
}

/// The type that an RRSIG record is about (RFC 4034 3.1.1); nothing for other records.
#[must_use]
pub fn covered(record: &Record) -> Option<u16> {
    match &record.data {
        RData::Unknown { code: RecordType::RRSIG, rdata } => {
            let (first, _) = rdata.anything.split_first_chunk::<2>()?;
            Some(u16::from_be_bytes(*first))
        }
        _ => None,
    }
}

/// True for records that a chain is made of, and their signatures.
#[must_use]
pub fn is_link(record: &Record) -> bool {
    let kind = covered(record).map_or(record.record_type(), RecordType::from);
    matches!(kind, RecordType::CNAME | RecordType::DNAME)
}
