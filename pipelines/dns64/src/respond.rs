//! From a stored answer to the message that a client gets, in place and without allocating.
//!
//! ```text
//!  stored:  flags, counts |                                    | records, TTLs and prefix to be patched
//!  query:   ID, RD, CD    | question, in the case it was sent  |                                         | OPT?
//!  given:   header        | question                           | records                                 | OPT
//! ```
//! Names of records that are compressed to the question's name get its case, as of any server.

use crate::cookie::{CLIENT_OCTETS, Cookies, SERVER_OCTETS};
use causeway_core::net::Prefix6;
use causeway_wire::dns::{self, Edns, Query, QueryError, flags, rcode};
use causeway_wire::{be16, be32, put16, put32};
use std::net::IpAddr;

/// RFC 8914 4.4: Stale Answer.
pub const EXTENDED_STALE: u16 = 3;
/// RFC 8914 4.20: Stale NXDOMAIN Answer.
pub const EXTENDED_STALE_NXDOMAIN: u16 = 19;
/// RFC 8467 4.1: answers are padded to a multiple of so many octets.
const PADDED_TO: usize = 468;

/// How a message goes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram: what is too long is cut (TC).
    Udp,
    /// Over TCP: up to 65,535 octets.
    Tcp,
}

/// What is the same for all answers of a worker at a time.
#[derive(Debug)]
pub struct Reply<'a> {
    /// How it goes.
    pub transport: Transport,
    /// Octets of the largest answer that we send over UDP, and take: 512 or more (RFC 6891 6.2.3).
    pub udp_octets: u16,
    /// TTL of expired answers, in seconds (RFC 8767 4).
    pub stale_ttl: u32,
    /// For the COOKIE option.
    pub cookies: &'a Cookies,
    /// Seconds of the gateway's clock, for the COOKIE option.
    pub now_secs: u64,
}

/// Offsets in a message, as they are at hand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Offsets<'a> {
    Words(&'a [u16]),
    /// Two octets each, in the machine's order.
    Octets(&'a [u8]),
}

impl Offsets<'_> {
    #[inline(always)]
    fn each(self, mut f: impl FnMut(usize)) {
        match self {
            Self::Words(words) => words.iter().for_each(|w| f(usize::from(*w))),
            Self::Octets(octets) => {
                octets.as_chunks().0.iter().for_each(|w| f(usize::from(u16::from_ne_bytes(*w))));
            }
        }
    }

    const fn is_empty(self) -> bool {
        match self {
            Self::Words(words) => words.is_empty(),
            Self::Octets(octets) => octets.is_empty(),
        }
    }
}

/// An answer as it is kept, from the cache or just made.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    pub(crate) flags: u16,
    /// Numbers of records, as in the header.
    pub(crate) counts: [u8; 6],
    /// Where its records begin.
    pub(crate) question_end: u16,
    pub(crate) ttls: Offsets<'a>,
    pub(crate) synthesised: Offsets<'a>,
    /// All behind the question.
    pub(crate) records: &'a [u8],
    pub(crate) extended_error: Option<u16>,
    pub(crate) age: u32,
    pub(crate) stale: bool,
}

impl<'a> Stored<'a> {
    /// An answer that was just made, and so has no age.
    #[must_use]
    pub fn fresh(answer: &'a crate::Answer) -> Self {
        Self::aged(answer, 0)
    }

    /// An answer that was made `age` seconds ago.
    #[must_use]
    pub fn aged(answer: &'a crate::Answer, age: u32) -> Self {
        let octets = answer.octets.as_slice();
        // Whatever is not an answer reads as a failure.
        let end = dns::question_end(octets).unwrap_or(dns::HEADER);
        let head = octets.first_chunk::<{ dns::HEADER }>();
        let mut counts = [0; 6];
        if let Some(head) = head {
            counts.copy_from_slice(&head[6..]);
        }
        Self {
            flags: head.map_or(rcode::SERVFAIL, |h| u16::from_be_bytes([h[2], h[3]])),
            counts,
            question_end: u16::try_from(end).unwrap_or(0),
            ttls: Offsets::Words(&answer.ttls),
            synthesised: Offsets::Words(&answer.synthesised),
            records: octets.get(end..).unwrap_or_default(),
            extended_error: answer.extended_error,
            age,
            stale: false,
        }
    }

    /// The response code, 0 to 15.
    #[must_use]
    pub const fn rcode(&self) -> u8 {
        (self.flags & flags::RCODE) as u8
    }

    /// AAAA records in it were made of A records.
    #[must_use]
    pub const fn is_synthesised(&self) -> bool {
        !self.synthesised.is_empty()
    }

    /// It has expired (RFC 8767).
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.stale
    }
}

/// The IPv6 address of an IPv4 address under a prefix of 32, 40, 48, 56, 64 or 96 bits, its u-octet and suffix zero (RFC
/// 6052 2.2).
#[inline(always)]
#[must_use]
pub const fn embed(prefix: Prefix6, v4: u32) -> u128 {
    let bits = prefix.address().to_bits();
    if prefix.len() >= 96 {
        return bits | v4 as u128;
    }
    // The address in one piece behind the prefix; what reaches beyond bit 63 goes around the u-octet.
    let whole = (v4 as u128) << 96 >> prefix.len();
    let first = whole & !(u64::MAX as u128);
    bits | first | (whole & u64::MAX as u128) >> 8
}

/// Octets that a message to this client may have.
#[inline(always)]
fn limit(edns: Option<&Edns<'_>>, out: usize, how: &Reply<'_>) -> usize {
    let most = match how.transport {
        // RFC 6891 6.2.3: a client that says less than 512 means 512.
        Transport::Udp => {
            edns.map_or(dns::PLAIN_OCTETS, |e| e.udp_octets.min(how.udp_octets).max(dns::PLAIN_OCTETS))
        }
        Transport::Tcp => u16::MAX,
    };
    out.min(usize::from(most))
}

/// Writes the answer to `query`; gives its octets, or 0 if not even the question fits into `out`.
///
/// Records that do not fit are left out: those of the additional section without saying so, all others with flag TC
/// (RFC 2181 9). `prefix` is the one of the client's view: an answer with synthesised records cannot be given without,
/// and becomes SERVFAIL.
#[inline]
pub fn respond(
    query: &Query<'_>,
    client: IpAddr,
    stored: Stored<'_>,
    prefix: Option<Prefix6>,
    out: &mut [u8],
    how: &Reply<'_>,
) -> usize {
    let synthesised = !stored.synthesised.is_empty();
    let question_end = query.question_end;
    let mismatch = usize::from(stored.question_end) != question_end;
    if mismatch || (synthesised && prefix.is_none()) {
        return refuse(query, client, rcode::SERVFAIL, None, out, how);
    }
    let edns = query.edns.as_ref();
    let limit = limit(edns, out.len(), how);
    let extended = match (stored.stale, stored.flags & flags::RCODE) {
        (true, rcode::NXDOMAIN) => Some(EXTENDED_STALE_NXDOMAIN),
        (true, _) => Some(EXTENDED_STALE),
        (false, _) => stored.extended_error,
    };
    let opt = edns.map_or(0, |e| opt_octets(e, extended));
    let Some(out) = out.get_mut(..limit) else { return 0 };
    let records_end = question_end + stored.records.len();
    if records_end + opt > limit {
        return respond_short(query, client, stored, prefix, extended, out, how);
    }
    let mut word = stored.flags | query.flags & (flags::RD | flags::CD);
    // RFC 6147 5.5: what we made nobody has signed. RFC 6840 5.8: AD is for those who ask for it, or for DNSSEC.
    if synthesised || (query.flags & flags::AD == 0 && edns.is_none_or(|e| !e.dnssec_ok)) {
        word &= !flags::AD;
    }
    let Some(head) = out.get_mut(..question_end) else { return 0 };
    put_head(head, query, word, stored.counts, edns.is_some());
    let Some(records) = out.get_mut(question_end..records_end) else { return 0 };
    records.copy_from_slice(stored.records);
    if let Some(written) = out.get_mut(..records_end) {
        patch(written, &stored, prefix, how.stale_ttl);
    }
    match edns {
        None => records_end,
        Some(e) => put_opt(out, records_end, e, rcode::NOERROR, extended, client, how),
    }
}

/// TTLs and prefix, of what was written.
#[inline(always)]
fn patch(out: &mut [u8], stored: &Stored<'_>, prefix: Option<Prefix6>, stale_ttl: u32) {
    stored.ttls.each(|at| {
        if let Some(ttl) = out.get_mut(at..at + 4) {
            let now = if stored.stale { stale_ttl } else { be32(ttl, 0).saturating_sub(stored.age) };
            put32(ttl, 0, now);
        }
    });
    let Some(prefix) = prefix else { return };
    stored.synthesised.each(|at| {
        if let Some(data) = out.get_mut(at..at + 16) {
            let v4 = be32(data, 12);
            data.copy_from_slice(&embed(prefix, v4).to_be_bytes());
        }
    });
}

/// An answer that does not fit.
#[cold]
fn respond_short(
    query: &Query<'_>,
    client: IpAddr,
    stored: Stored<'_>,
    prefix: Option<Prefix6>,
    extended: Option<u16>,
    out: &mut [u8],
    how: &Reply<'_>,
) -> usize {
    let edns = query.edns.as_ref();
    let opt = edns.map_or(0, |e| opt_octets(e, extended));
    let Some(octets) = without_additional(&stored).filter(|n| query.question_end + n + opt <= out.len())
    else {
        let code = stored.flags & flags::RCODE;
        return error(query, client, code, extended, stored.flags | flags::TC, out, how);
    };
    let mut counts = stored.counts;
    counts[4..].fill(0);
    let records = stored.records.get(..octets).unwrap_or_default();
    respond(query, client, Stored { counts, records, ..stored }, prefix, out, how)
}

/// Octets of the answer and authority sections, if there is something behind them that can be left out.
fn without_additional(stored: &Stored<'_>) -> Option<usize> {
    let additional = be16(&stored.counts, 4);
    let others = usize::from(be16(&stored.counts, 0)) + usize::from(be16(&stored.counts, 2));
    if additional == 0 {
        return None;
    }
    let mut at = 0;
    for _ in 0..others {
        let fixed = dns::skip_name(stored.records, at)?;
        at = fixed + 10 + usize::from(be16(stored.records.get(fixed + 8..fixed + 10)?, 0));
    }
    (at <= stored.records.len()).then_some(at)
}

/// Writes an answer without records, with this response code (0 to 15, or BADVERS); gives its octets, or 0 if it does
/// not fit into `out`.
pub fn refuse(
    query: &Query<'_>,
    client: IpAddr,
    rcode: u16,
    extended_error: Option<u16>,
    out: &mut [u8],
    how: &Reply<'_>,
) -> usize {
    error(query, client, rcode, extended_error, flags::QR | flags::RA, out, how)
}

fn error(
    query: &Query<'_>,
    client: IpAddr,
    code: u16,
    extended: Option<u16>,
    word: u16,
    out: &mut [u8],
    how: &Reply<'_>,
) -> usize {
    let edns = query.edns.as_ref();
    let limit = limit(edns, out.len(), how);
    let needed = query.question_end + edns.map_or(0, |e| opt_octets(e, extended));
    let Some(out) = out.get_mut(..limit).filter(|out| out.len() >= needed) else { return 0 };
    let word = word & !(flags::RCODE | flags::AD | flags::AA) | code & flags::RCODE;
    let word = word | query.flags & (flags::OPCODE | flags::RD | flags::CD);
    let Some(head) = out.get_mut(..query.question_end) else { return 0 };
    put_head(head, query, word, [0; 6], edns.is_some());
    match edns {
        None => query.question_end,
        Some(e) => put_opt(out, query.question_end, e, code, extended, client, how),
    }
}

/// Writes what the sender of octets that are no query is told: header, the question if it can be read, and OPT if there
/// was one. Gives its octets; 0 if it is told nothing.
#[cold]
pub fn reject(octets: &[u8], why: QueryError, client: IpAddr, out: &mut [u8], how: &Reply<'_>) -> usize {
    let (Some(code), Some(h)) = (why.rcode(), octets.first_chunk::<{ dns::HEADER }>()) else { return 0 };
    let flags = u16::from_be_bytes([h[2], h[3]]);
    // Other opcodes have other things than a question behind the header.
    let end = if flags & flags::OPCODE == 0 { dns::question_end(octets) } else { None };
    let end = end.unwrap_or(dns::HEADER);
    let question = octets.get(dns::HEADER..end).unwrap_or_default();
    let (name, rest) = question.split_at(question.len().saturating_sub(4));
    // RFC 6891 7: an OPT record is answered by one. The cookie is given where it could be read.
    let cookie = match why {
        QueryError::CookieOnly => find_cookie(octets),
        _ => None,
    };
    let opt_seen = matches!(
        why,
        QueryError::Version
            | QueryError::CookieOnly
            | QueryError::Cookie
            | QueryError::Opt
            | QueryError::SecondOpt
    );
    let edns = opt_seen.then_some(Edns {
        udp_octets: dns::PLAIN_OCTETS,
        version: 0,
        dnssec_ok: false,
        cookie,
        padding: false,
        nsid: false,
    });
    let query = Query {
        id: u16::from_be_bytes([h[0], h[1]]),
        flags,
        name,
        qtype: rest.first_chunk().map_or(0, |b| u16::from_be_bytes(*b)),
        qclass: rest.last_chunk().map_or(0, |b| u16::from_be_bytes(*b)),
        question_end: end,
        edns,
    };
    refuse(&query, client, code, None, out, how)
}

/// The cookie of a query without question, which was found to be right.
fn find_cookie(octets: &[u8]) -> Option<&[u8]> {
    let opt = dns::records(octets).ok()?.filter_map(Result::ok).find(|r| r.rtype == dns::TYPE_OPT)?;
    let mut rest = opt.data;
    while let Some((head, tail)) = rest.split_at_checked(4) {
        let (value, tail) = tail.split_at_checked(usize::from(be16(head, 2)))?;
        if be16(head, 0) == dns::OPTION_COOKIE {
            return Some(value);
        }
        rest = tail;
    }
    None
}

/// Writes header and question into octets that are as long. A query without name (an error) has no question.
#[inline(always)]
fn put_head(head: &mut [u8], query: &Query<'_>, word: u16, counts: [u8; 6], opt: bool) {
    let (Some(fixed), name) = (head.first_chunk_mut::<{ dns::HEADER }>(), query.name) else { return };
    fixed[..2].copy_from_slice(&query.id.to_be_bytes());
    fixed[2..4].copy_from_slice(&word.to_be_bytes());
    fixed[4..6].copy_from_slice(&u16::from(!name.is_empty()).to_be_bytes());
    fixed[6..].copy_from_slice(&counts);
    let additional = be16(&counts, 4).saturating_add(u16::from(opt));
    put16(fixed, 10, additional);
    if let Some(question) = head.get_mut(dns::HEADER..)
        && question.len() == name.len() + 4
    {
        question[..name.len()].copy_from_slice(name);
        put16(question, name.len(), query.qtype);
        put16(question, name.len() + 2, query.qclass);
    }
}

/// Octets of the OPT record without padding.
#[inline(always)]
fn opt_octets(edns: &Edns<'_>, extended: Option<u16>) -> usize {
    let cookie = if edns.cookie.is_some() { 4 + CLIENT_OCTETS + SERVER_OCTETS } else { 0 };
    dns::OPT_HEADER + cookie + if extended.is_some() { 6 } else { 0 }
}

/// Writes the OPT record (RFC 6891 6.1.2); gives its end. Room for [`opt_octets`] is there.
#[inline(always)]
fn put_opt(
    out: &mut [u8],
    at: usize,
    edns: &Edns<'_>,
    rcode: u16,
    extended: Option<u16>,
    client: IpAddr,
    how: &Reply<'_>,
) -> usize {
    let room = out.len();
    let Some(opt) = out.get_mut(at..) else { return 0 };
    let mut octets = opt_octets(edns, extended);
    let Some(fixed) = opt.first_chunk_mut::<{ dns::OPT_HEADER }>() else { return 0 };
    // Root, OPT, our size, the high bits of the response code, version 0, DO as it came (RFC 3225 3).
    fixed[..3].copy_from_slice(&[0, 0, 41]);
    put16(fixed, 3, how.udp_octets);
    put16(fixed, 5, rcode >> 4 << 8);
    put16(fixed, 7, u16::from(edns.dnssec_ok) << 15);
    put16(fixed, 9, 0);
    if octets != dns::OPT_HEADER || edns.padding {
        octets = put_options(opt, at, room, edns, extended, client, how);
    }
    at + octets
}

/// Writes the options behind the fixed part of an OPT record, and their length; gives the record's octets.
fn put_options(
    opt: &mut [u8],
    before: usize,
    room: usize,
    edns: &Edns<'_>,
    extended: Option<u16>,
    client: IpAddr,
    how: &Reply<'_>,
) -> usize {
    let mut at = dns::OPT_HEADER;
    if let Some(theirs) = edns.cookie.and_then(<[u8]>::first_chunk::<CLIENT_OCTETS>) {
        #[expect(clippy::cast_possible_truncation, reason = "RFC 9018 4.3: a serial number")]
        let ours = how.cookies.make(theirs, client, how.now_secs as u32);
        if let Some(b) = opt.get_mut(at..at + 4 + CLIENT_OCTETS + SERVER_OCTETS) {
            put16(b, 0, dns::OPTION_COOKIE);
            put16(b, 2, (CLIENT_OCTETS + SERVER_OCTETS) as u16);
            b[4..4 + CLIENT_OCTETS].copy_from_slice(theirs);
            b[4 + CLIENT_OCTETS..].copy_from_slice(&ours);
            at += b.len();
        }
    }
    if let Some(code) = extended
        && let Some(b) = opt.get_mut(at..at + 6)
    {
        put16(b, 0, dns::OPTION_EXTENDED_ERROR);
        put16(b, 2, 2);
        put16(b, 4, code);
        at += b.len();
    }
    if edns.padding {
        // RFC 7830 4: who pads is answered padded, within what fits.
        let without = before + at + 4;
        let padded = without.next_multiple_of(PADDED_TO).min(room);
        if let Some(octets) = padded.checked_sub(without)
            && let Some(b) = opt.get_mut(at..at + 4 + octets)
        {
            b.fill(0);
            put16(b, 0, dns::OPTION_PADDING);
            put16(b, 2, u16::try_from(octets).unwrap_or(0));
            at += b.len();
        }
    }
    put16(opt, 9, u16::try_from(at - dns::OPT_HEADER).unwrap_or(0));
    at
}

#[cfg(test)]
mod tests;
