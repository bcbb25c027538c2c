//! What of an upstream's answer is believed: the chain of CNAME and DNAME records from the question's name, what is at
//! its end, and what proves that.
//!
//! ```text
//!  answer section:     question's name --CNAME--> name --DNAME, CNAME--> name --> records of the question's type
//!  authority section:  SOA and NS of a zone that the last name is in; NSEC, NSEC3 and RRSIG within the zones of the chain
//!  additional section: addresses of names that the records above name
//! ```
//! Everything else is left out and counted (RFC 5452 6: nothing that was not asked for is believed).

use super::decode;
use crate::question::Question;
use causeway_core::DropReason;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::collections::HashSet;

/// Links of a chain that is followed.
const MOST_LINKS: usize = 16;
/// Records that are looked at in the authority and the additional section.
const MOST_BESIDE: usize = 64;
/// RFC 2181 8: a TTL with this bit is taken for zero.
const TTL_SIGN: u32 = 1 << 31;

const NXDOMAIN: u16 = 3;
const TYPE_ANY: u16 = 255;
/// Octets of an RRSIG's data before the signer's name (RFC 4034 3.1).
const BEFORE_SIGNER: usize = 18;

/// Why an answer cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It cannot be read.
    Malformed,
    /// CNAME or DNAME records lead in a circle, or to two places.
    Circle,
    /// There are too many of them.
    TooLong,
    /// A CNAME record that is not what the DNAME record beside it makes (RFC 6672 3.1), or a name that it makes too
    /// long.
    Dname,
    /// NXDOMAIN, and records of the type that was asked for (RFC 6604 3).
    Contradiction,
    /// A referral: the upstream is no resolver for the name (RFC 2308 2.2.1).
    Referral,
}

impl Unusable {
    pub(super) const fn reason(self) -> DropReason {
        match self {
            Self::Malformed => DropReason::Dns64UpstreamMalformed,
            Self::Circle | Self::TooLong | Self::Dname | Self::Contradiction | Self::Referral => {
                DropReason::Dns64UpstreamUnusable
            }
        }
    }
}

/// What is left of an answer.
#[derive(Debug, Clone)]
pub(super) struct Scrubbed {
    /// The message, with the question in lower case, without OPT.
    pub(super) message: Message,
    /// Records that do not belong there.
    pub(super) left_out: u64,
}

/// Leaves of an answer (of response code NOERROR or NXDOMAIN) what belongs there. No TTL is longer than `max_ttl`
/// seconds.
pub(super) fn scrub(question: &Question, mut from: Message, max_ttl: u32) -> Result<Scrubbed, Unusable> {
    let (qname, _) = decode::name(&question.name).ok_or(Unusable::Malformed)?;
    let mut left_out = 0;
    let mut answers = usable(std::mem::take(&mut from.answers), max_ttl, &mut left_out);
    let mut authority = usable(std::mem::take(&mut from.authorities), max_ttl, &mut left_out);
    let mut additional = usable(std::mem::take(&mut from.additionals), max_ttl, &mut left_out);
    for section in [&mut authority, &mut additional] {
        left_out += count(section.len().saturating_sub(MOST_BESIDE));
        section.truncate(MOST_BESIDE);
    }
    if !question.dnssec_ok {
        // RFC 4035 3.2.1: who did not ask for these gets none; it is nothing to count if the upstream sent them.
        for section in [&mut answers, &mut authority, &mut additional] {
            section.retain(|r| !is_proof(r) || u16::from(r.record_type()) == question.qtype);
        }
    }
    let chain = Chain::follow(question, qname.clone(), &mut answers)?;
    left_out += count(answers.len());
    let denied = u16::from(from.metadata.response_code) == NXDOMAIN;
    if denied && chain.at_end {
        return Err(Unusable::Contradiction);
    }
    let kept = beside(&chain, authority, &mut left_out);
    let is = |kind: RecordType| kept.iter().any(|r| r.record_type() == kind);
    // RFC 2308 2.2.1: NS without SOA, and nothing else, sends the asker elsewhere. It does not say that there is no data.
    if !denied && chain.records.is_empty() && is(RecordType::NS) && !is(RecordType::SOA) {
        return Err(Unusable::Referral);
    }
    let named = targets(chain.records.iter().chain(&kept));
    let before = additional.len();
    additional.retain(|r| {
        let kind = covered(r).unwrap_or_else(|| r.record_type());
        matches!(kind, RecordType::A | RecordType::AAAA) && named.contains(&r.name)
    });
    left_out += count(before - additional.len());
    let mut message = Message::response(0, from.metadata.op_code);
    message.metadata = from.metadata;
    message.metadata.id = 0;
    message.metadata.truncation = false;
    message.add_query(Query::query(qname, RecordType::from(question.qtype)));
    message.answers = chain.records;
    message.authorities = kept;
    message.additionals = additional;
    Ok(Scrubbed { message, left_out })
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// The records of class IN, with TTLs within bounds.
fn usable(records: Vec<Record>, max_ttl: u32, left_out: &mut u64) -> Vec<Record> {
    let before = records.len();
    let bound = |mut r: Record| {
        // RFC 2181 8.
        r.ttl = if r.ttl & TTL_SIGN == 0 { r.ttl.min(max_ttl) } else { 0 };
        r
    };
    let kept: Vec<Record> = records.into_iter().filter(|r| r.dns_class == DNSClass::IN).map(bound).collect();
    *left_out += count(before - kept.len());
    kept
}

fn is_proof(record: &Record) -> bool {
    matches!(record.record_type(), RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3)
}

/// The data of a record type that `hickory-proto` does not read.
fn raw(record: &Record, kind: RecordType) -> Option<&[u8]> {
    match &record.data {
        RData::Unknown { code, rdata } if *code == kind => Some(&rdata.anything),
        _ => None,
    }
}

/// The type that an RRSIG record is about.
fn covered(record: &Record) -> Option<RecordType> {
    let [high, low, ..] = *raw(record, RecordType::RRSIG)? else { return None };
    Some(RecordType::from(u16::from_be_bytes([high, low])))
}

/// The zone that an RRSIG record is of.
fn signer(record: &Record) -> Option<Name> {
    let data = raw(record, RecordType::RRSIG)?;
    decode::name(data.get(BEFORE_SIGNER..)?).map(|(name, _)| name)
}

/// Where a DNAME record leads to.
fn dname_target(record: &Record) -> Option<Name> {
    match decode::name(raw(record, RecordType::DNAME)?)? {
        (name, []) => Some(name),
        _ => None,
    }
}

/// True if the name is below the other, and not the other itself.
fn below(name: &Name, above: &Name) -> bool {
    above.zone_of(name) && above != name
}

/// Labels, a wildcard's included.
fn labels(name: &Name) -> usize {
    name.iter().len()
}

/// RFC 6672 2.2: the name with the DNAME's owner at its end replaced by the target.
fn substitute(name: &Name, owner: &Name, target: &Name) -> Option<Name> {
    let kept = labels(name).checked_sub(labels(owner))?;
    Name::from_labels(name.iter().take(kept).chain(target.iter())).ok()
}

/// The chain from the question's name.
struct Chain {
    /// The names, the question's first.
    names: Vec<Name>,
    /// The records, in the chain's order.
    records: Vec<Record>,
    /// There are records of the question's type at its end.
    at_end: bool,
}

impl Chain {
    /// Takes the chain out of the records of the answer section.
    fn follow(question: &Question, qname: Name, from: &mut Vec<Record>) -> Result<Self, Unusable> {
        let mut chain = Self { names: vec![qname], records: Vec::new(), at_end: false };
        let wanted = |r: &Record| question.qtype == TYPE_ANY || u16::from(r.record_type()) == question.qtype;
        while let Some(name) = chain.names.last().cloned() {
            if chain.take(from, |r| r.name == name && wanted(r)) {
                let kind = RecordType::from(question.qtype);
                chain.signatures(from, &name, kind);
                chain.at_end = true;
                break;
            }
            let Some(next) = chain.link(from, &name)? else { break };
            if chain.names.contains(&next) {
                return Err(Unusable::Circle);
            }
            if chain.names.len() > MOST_LINKS {
                return Err(Unusable::TooLong);
            }
            chain.names.push(next);
        }
        Ok(chain)
    }

    /// Takes the DNAME and CNAME records at a name; gives where they lead, if they do.
    fn link(&mut self, from: &mut Vec<Record>, name: &Name) -> Result<Option<Name>, Unusable> {
        let alias = |r: &Record| match &r.data {
            RData::CNAME(target) if r.name == *name => Some(spelled(&target.0, name)),
            _ => None,
        };
        let mut targets = from.iter().filter_map(alias);
        let target = targets.next();
        // RFC 2181 10.1: one CNAME record for a name.
        if targets.any(|other| Some(&other) != target.as_ref()) {
            return Err(Unusable::Circle);
        }
        // RFC 6672 2.3: the DNAME nearest to the root counts, there is nothing below it. One may lead twice.
        let dname = |r: &&Record| r.record_type() == RecordType::DNAME && below(name, &r.name);
        let owner = from.iter().chain(&self.records).filter(dname).map(|r| r.name.clone()).min_by_key(labels);
        let Some(owner) = owner else {
            if target.is_some() {
                self.take(from, |r| r.name == *name && r.record_type() == RecordType::CNAME);
                self.signatures(from, name, RecordType::CNAME);
            }
            return Ok(target);
        };
        let at_owner = |r: &Record| r.name == owner && r.record_type() == RecordType::DNAME;
        if self.take(from, at_owner) {
            self.signatures(from, &owner, RecordType::DNAME);
        }
        let mut leads = self.records.iter().filter(|r| at_owner(r)).map(|r| (dname_target(r), r.ttl));
        let (lead, ttl) = leads.next().ok_or(Unusable::Dname)?;
        if leads.any(|(other, _)| other != lead) {
            return Err(Unusable::Dname);
        }
        // RFC 6672 2.2: a name that would be too long is YXDOMAIN, which is not what the upstream said.
        let made = lead.and_then(|lead| substitute(name, &owner, &lead)).ok_or(Unusable::Dname)?;
        match target {
            Some(target) if target == made => {
                let at_name = |r: &Record| r.name == *name && r.record_type() == RecordType::CNAME;
                self.take(from, at_name);
                // What is not the DNAME record's is the question's, in the case that it was sent in.
                for record in self.records.iter_mut().filter(|r| at_name(r)) {
                    record.data = RData::CNAME(CNAME(made.clone()));
                }
            }
            Some(_) => return Err(Unusable::Dname),
            None => {
                // RFC 6672 3.1: the CNAME has the DNAME's TTL.
                let data = RData::CNAME(CNAME(made.clone()));
                self.records.push(Record::from_rdata(name.clone(), ttl, data));
            }
        }
        Ok(Some(made))
    }

    /// Moves the records that fit to the chain, with one TTL for all (RFC 2181 5.2); false if there are none.
    fn take(&mut self, from: &mut Vec<Record>, fits: impl Fn(&Record) -> bool) -> bool {
        let start = self.records.len();
        self.records.extend(from.extract_if(.., |r| fits(r)));
        self.respell(start);
        let set = &mut self.records[start..];
        // Records of several types come only where all types were asked for; they are no set.
        let one = set.first().map(Record::record_type);
        if set.iter().all(|r| Some(r.record_type()) == one) && one != Some(RecordType::RRSIG) {
            let ttl = set.iter().map(|r| r.ttl).min().unwrap_or(0);
            set.iter_mut().for_each(|r| r.ttl = ttl);
        }
        !set.is_empty()
    }

    /// Moves the signatures of a set to the chain.
    fn signatures(&mut self, from: &mut Vec<Record>, name: &Name, kind: RecordType) {
        let start = self.records.len();
        self.records.extend(from.extract_if(.., |r| r.name == *name && covered(r) == Some(kind)));
        self.respell(start);
    }

    /// Spells the owners of the records from here on as the name that the chain has come to, and what of the target of a
    /// CNAME record is of that name, too: some servers repeat the question's name, whose case was random.
    fn respell(&mut self, start: usize) {
        let Some(name) = self.names.last() else { return };
        for r in &mut self.records[start..] {
            r.name = spelled(&r.name, name);
            if let RData::CNAME(target) = &mut r.data {
                target.0 = spelled(&target.0, name);
            }
        }
    }
}

/// A name with the labels at its end that another name ends in, too, spelled as they are there.
fn spelled(name: &Name, like: &Name) -> Name {
    let common =
        name.iter().rev().zip(like.iter().rev()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
    let own = labels(name) - common;
    let tail = like.iter().skip(labels(like) - common);
    Name::from_labels(name.iter().take(own).chain(tail)).unwrap_or_else(|_| name.clone())
}

/// What of the authority section belongs to the chain.
fn beside(chain: &Chain, mut from: Vec<Record>, left_out: &mut u64) -> Vec<Record> {
    let before = from.len();
    let last = chain.names.last();
    // The zone that the last name is in: the deepest SOA, else the deepest NS. A SOA beside data says nothing.
    let deepest = |kind: RecordType| {
        let of_last = |r: &&Record| r.record_type() == kind && last.is_some_and(|l| r.name.zone_of(l));
        from.iter().filter(of_last).map(|r| r.name.clone()).max_by_key(labels)
    };
    let soa = deepest(RecordType::SOA).filter(|_| !chain.at_end);
    let ns = deepest(RecordType::NS).filter(|owner| soa.as_ref().is_none_or(|soa| soa == owner));
    let apexes: Vec<Name> = [&soa, &ns].into_iter().flatten().cloned().collect();
    let mut kept: Vec<Record> = Vec::new();
    if let Some(owner) = &soa {
        // RFC 2308 3: one SOA.
        let at = from.iter().position(|r| r.record_type() == RecordType::SOA && r.name == *owner);
        kept.extend(at.map(|at| from.remove(at)));
    }
    if let Some(owner) = &ns {
        kept.extend(from.extract_if(.., |r| r.record_type() == RecordType::NS && r.name == *owner));
    }
    // RRSIG records tell the zone of the NSEC and NSEC3 records of a chain that passes through several.
    let signatures: Vec<(Name, RecordType, Name)> = from
        .iter()
        .filter_map(|r| Some((r.name.clone(), covered(r)?, signer(r)?)))
        .filter(|(owner, _, zone)| zone.zone_of(owner) && chain.names.iter().any(|name| zone.zone_of(name)))
        .collect();
    let denial = |r: &mut Record| {
        let kind = r.record_type();
        matches!(kind, RecordType::NSEC | RecordType::NSEC3)
            && (apexes.iter().any(|apex| apex.zone_of(&r.name))
                || signatures.iter().any(|(owner, about, _)| *owner == r.name && *about == kind))
    };
    kept.extend(from.extract_if(.., denial));
    let sets: HashSet<(Name, RecordType)> = kept.iter().map(|r| (r.name.clone(), r.record_type())).collect();
    let signature = |r: &mut Record| {
        covered(r).is_some_and(|kind| sets.contains(&(r.name.clone(), kind)))
            && signer(r).is_some_and(|zone| zone.zone_of(&r.name))
    };
    kept.extend(from.extract_if(.., signature));
    *left_out += count(before - kept.len());
    for r in &mut kept {
        r.name = chain.names.iter().fold(r.name.clone(), |name, like| spelled(&name, like));
    }
    kept
}

/// The names that records name hosts by.
fn targets<'a>(records: impl Iterator<Item = &'a Record>) -> HashSet<Name> {
    let target = |r: &'a Record| match &r.data {
        RData::NS(name) => Some(name.0.clone()),
        RData::MX(mx) => Some(mx.exchange.clone()),
        RData::SRV(srv) => Some(srv.target.clone()),
        RData::HTTPS(https) => Some(service(&https.0.target_name, &r.name)),
        RData::SVCB(svcb) => Some(service(&svcb.target_name, &r.name)),
        RData::NAPTR(naptr) => Some(naptr.replacement.clone()),
        _ => None,
    };
    records.filter_map(target).filter(|name| !name.is_root()).collect()
}

/// RFC 9460 2.5: the root stands for the owner.
fn service(target: &Name, owner: &Name) -> Name {
    if target.is_root() { owner.clone() } else { target.clone() }
}

#[cfg(test)]
mod tests;
