//! DNS messages (RFC 1035, 6891), as far as the fast path looks at them: the question of a query with its OPT record,
//! and where the records of a message are.
//!
//! ```text
//!  header (12) | question: name, type, class | answer | authority | additional with OPT
//! ```
//! Nothing here allocates. What records mean is not looked at: `hickory-proto` does that, off the fast path.

/// Octets of the header.
pub const HEADER: usize = 12;
/// Octets of the longest name in wire form (RFC 1035 2.3.4).
pub const NAME_OCTETS: usize = 255;
/// Octets of the longest label (RFC 1035 2.3.4).
pub const LABEL_OCTETS: usize = 63;
/// Octets of an OPT record without options (RFC 6891 6.1.2).
pub const OPT_HEADER: usize = 11;
/// Octets of an answer over UDP that everyone takes (RFC 1035 2.3.4).
pub const PLAIN_OCTETS: u16 = 512;
/// Records in the additional section of a query that are looked at: OPT, and a few that are passed over.
pub const MAX_ADDITIONAL: u16 = 4;

/// Bits of the second word of the header.
pub mod flags {
    /// A response.
    pub const QR: u16 = 0x8000;
    /// The four bits of the opcode.
    pub const OPCODE: u16 = 0x7800;
    /// Authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion desired.
    pub const RD: u16 = 0x0100;
    /// Recursion available.
    pub const RA: u16 = 0x0080;
    /// Authentic data (RFC 4035 3.2.3).
    pub const AD: u16 = 0x0020;
    /// Checking disabled (RFC 4035 3.2.2).
    pub const CD: u16 = 0x0010;
    /// The four bits of the response code.
    pub const RCODE: u16 = 0x000f;
}

/// Response codes (RFC 1035 4.1.1, RFC 6891 9).
pub mod rcode {
    /// No error.
    pub const NOERROR: u16 = 0;
    /// The query could not be read.
    pub const FORMERR: u16 = 1;
    /// The server failed.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// Not implemented.
    pub const NOTIMP: u16 = 4;
    /// Refused.
    pub const REFUSED: u16 = 5;
    /// A version of EDNS that is not spoken.
    pub const BADVERS: u16 = 16;
}

/// Record type OPT.
pub const TYPE_OPT: u16 = 41;
/// Option NSID (RFC 5001).
pub const OPTION_NSID: u16 = 3;
/// Option COOKIE (RFC 7873 4).
pub const OPTION_COOKIE: u16 = 10;
/// Option Padding (RFC 7830 3).
pub const OPTION_PADDING: u16 = 12;
/// Option Extended DNS Error (RFC 8914 2).
pub const OPTION_EXTENDED_ERROR: u16 = 15;
/// Flag DO in the TTL field of OPT (RFC 3225 3).
const DNSSEC_OK: u16 = 0x8000;

/// A query with one question, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// Its ID.
    pub id: u16,
    /// The second word of its header, see [`flags`].
    pub flags: u16,
    /// The name as sent, in wire form with the root's octet, not compressed.
    pub name: &'a [u8],
    /// The type asked for.
    pub qtype: u16,
    /// The class asked for.
    pub qclass: u16,
    /// Offset of the octet behind the question.
    pub question_end: usize,
    /// What its OPT record says, if it has one.
    pub edns: Option<Edns<'a>>,
}

impl Query<'_> {
    /// DNSSEC records are wanted: flag DO (RFC 3225 3).
    #[inline]
    #[must_use]
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|e| e.dnssec_ok)
    }

    /// The resolver is not to validate: flag CD (RFC 4035 3.2.2).
    #[inline]
    #[must_use]
    pub const fn checking_disabled(&self) -> bool {
        self.flags & flags::CD != 0
    }
}

/// The OPT record of a query (RFC 6891 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns<'a> {
    /// Octets of the largest answer that the client takes over UDP, as it says.
    pub udp_octets: u16,
    /// The version of EDNS: 0, or the query is an error.
    pub version: u8,
    /// Flag DO (RFC 3225 3).
    pub dnssec_ok: bool,
    /// The COOKIE option (RFC 7873 4): 8 octets of the client's, then none or 8 to 32 of the server's.
    pub cookie: Option<&'a [u8]>,
    /// The query is padded (RFC 7830).
    pub padding: bool,
    /// The server's name is asked for (RFC 5001).
    pub nsid: bool,
}

/// Why octets are no query that can be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryError {
    /// Less than a header.
    Short,
    /// A response.
    Response,
    /// Another opcode than QUERY.
    Opcode,
    /// Not exactly one question.
    Questions,
    /// There are records in the answer or authority section, or too many in the additional section.
    Sections,
    /// The question's name: compressed, too long, of unknown labels, or not all there.
    Name,
    /// Type and class of the question are not there, or a record is not all there.
    Truncated,
    /// An OPT record with a name, or with options that do not fit (RFC 6891 6.1.2).
    Opt,
    /// A second OPT record (RFC 6891 6.1.1).
    SecondOpt,
    /// A COOKIE option of a length that there is not (RFC 7873 5.2.2).
    Cookie,
    /// Octets behind the last record.
    Trailing,
    /// A version of EDNS that is not spoken (RFC 6891 6.1.3).
    Version,
    /// No question, but a cookie: the client asks for a server's cookie only (RFC 7873 5.4). No error.
    CookieOnly,
}

impl QueryError {
    /// The response code that the sender is told; nothing if it is not answered at all: what is no query could be
    /// an answer to an answer.
    #[must_use]
    pub const fn rcode(self) -> Option<u16> {
        match self {
            Self::Short | Self::Response => None,
            Self::Opcode => Some(rcode::NOTIMP),
            Self::Version => Some(rcode::BADVERS),
            Self::CookieOnly => Some(rcode::NOERROR),
            Self::Questions
            | Self::Sections
            | Self::Name
            | Self::Truncated
            | Self::Opt
            | Self::SecondOpt
            | Self::Cookie
            | Self::Trailing => Some(rcode::FORMERR),
        }
    }
}

#[inline(always)]
fn word(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

#[inline(always)]
fn long(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// Reads a query: a header, one question and, in the additional section, at most one OPT record. Other records there
/// (TSIG, SIG(0)) are passed over.
///
/// # Errors
/// A cause each; [`QueryError::rcode`] says what the sender is told.
#[inline]
pub fn parse_query(octets: &[u8]) -> Result<Query<'_>, QueryError> {
    let Some(h) = octets.first_chunk::<HEADER>() else { return Err(QueryError::Short) };
    let flags = u16::from_be_bytes([h[2], h[3]]);
    if flags & flags::QR != 0 {
        return Err(QueryError::Response);
    }
    if flags & flags::OPCODE != 0 {
        return Err(QueryError::Opcode);
    }
    // The answer and authority sections are empty in a query for records of a name (RFC 1035 4.1).
    if h[6..10] != [0; 4] {
        return Err(QueryError::Sections);
    }
    let additional = u16::from_be_bytes([h[10], h[11]]);
    if additional > MAX_ADDITIONAL {
        return Err(QueryError::Sections);
    }
    let id = u16::from_be_bytes([h[0], h[1]]);
    if h[4..6] != [0, 1] {
        if h[4..6] == [0, 0]
            && parse_additional(octets, HEADER, additional)?.is_some_and(|e| e.cookie.is_some())
        {
            return Err(QueryError::CookieOnly);
        }
        return Err(QueryError::Questions);
    }
    let name_end = plain_name_end(octets, HEADER).ok_or(QueryError::Name)?;
    let question_end = name_end + 4;
    let (Some(qtype), Some(qclass)) = (word(octets, name_end), word(octets, name_end + 2)) else {
        return Err(QueryError::Truncated);
    };
    let edns = parse_additional(octets, question_end, additional)?;
    let name = octets.get(HEADER..name_end).unwrap_or_default();
    Ok(Query { id, flags, name, qtype, qclass, question_end, edns })
}

/// The additional section of a query, which must be its end.
#[inline(always)]
fn parse_additional(octets: &[u8], from: usize, records: u16) -> Result<Option<Edns<'_>>, QueryError> {
    let mut at = from;
    let mut edns = None;
    for _ in 0..records {
        let owner_end = skip_name(octets, at).ok_or(QueryError::Truncated)?;
        let Some(fixed) = octets.get(owner_end..).and_then(<[u8]>::first_chunk::<10>) else {
            return Err(QueryError::Truncated);
        };
        let data_at = owner_end + 10;
        let end = data_at + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = octets.get(data_at..end).ok_or(QueryError::Truncated)?;
        if u16::from_be_bytes([fixed[0], fixed[1]]) == TYPE_OPT {
            if edns.is_some() {
                return Err(QueryError::SecondOpt);
            }
            // RFC 6891 6.1.2: the owner is the root.
            if owner_end != at + 1 {
                return Err(QueryError::Opt);
            }
            edns = Some(parse_opt(fixed, data)?);
        }
        at = end;
    }
    if at == octets.len() { Ok(edns) } else { Err(QueryError::Trailing) }
}

/// An OPT record: type, class, TTL and length, and the options.
#[inline(always)]
fn parse_opt<'a>(fixed: &[u8; 10], data: &'a [u8]) -> Result<Edns<'a>, QueryError> {
    let version = fixed[5];
    // RFC 6891 6.1.3: how other versions are to be read is unknown.
    if version != 0 {
        return Err(QueryError::Version);
    }
    let mut edns = Edns {
        udp_octets: u16::from_be_bytes([fixed[2], fixed[3]]),
        version,
        dnssec_ok: u16::from_be_bytes([fixed[6], fixed[7]]) & DNSSEC_OK != 0,
        cookie: None,
        padding: false,
        nsid: false,
    };
    let mut rest = data;
    while !rest.is_empty() {
        let (Some(code), Some(octets)) = (word(rest, 0), word(rest, 2)) else { return Err(QueryError::Opt) };
        let end = 4 + usize::from(octets);
        let (Some(value), Some(tail)) = (rest.get(4..end), rest.get(end..)) else {
            return Err(QueryError::Opt);
        };
        match code {
            OPTION_COOKIE => {
                if !matches!(value.len(), 8 | 16..=40) {
                    return Err(QueryError::Cookie);
                }
                // RFC 7873 5.2: of several, the first counts.
                edns.cookie = edns.cookie.or(Some(value));
            }
            OPTION_PADDING => edns.padding = true,
            OPTION_NSID => edns.nsid = true,
            _ => {}
        }
        rest = tail;
    }
    Ok(edns)
}

/// The octet behind a name that is not compressed.
#[inline(always)]
fn plain_name_end(octets: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let label = *octets.get(at)?;
        at += 1;
        if label == 0 {
            break;
        }
        // RFC 1035 4.1.4: two bits set are a pointer; one is nothing.
        if label > 63 {
            return None;
        }
        at += usize::from(label);
        if at - from >= NAME_OCTETS {
            return None;
        }
    }
    Some(at)
}

/// The octet behind the question of a message that has exactly one, whose name is not compressed; nothing if there is
/// none such.
#[must_use]
pub fn question_end(octets: &[u8]) -> Option<usize> {
    if word(octets, 4)? != 1 {
        return None;
    }
    let end = plain_name_end(octets, HEADER)? + 4;
    (end <= octets.len()).then_some(end)
}

/// The octet behind the name at `at`, which may end in a pointer; what the pointer leads to is not looked at. Nothing
/// if the name is not all there, too long, or of unknown labels.
#[inline]
#[must_use]
pub fn skip_name(octets: &[u8], at: usize) -> Option<usize> {
    let from = at;
    let mut at = at;
    loop {
        let label = *octets.get(at)?;
        match label {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(label),
            0xc0.. => return (at + 2 <= octets.len()).then_some(at + 2),
            _ => return None,
        }
        if at - from >= NAME_OCTETS {
            return None;
        }
    }
}

/// Copies the name at `at` without compression, as it stands in case. Gives the octets of the copy and the octet
/// behind the name in the message. Nothing if the name is not all there, longer than 255 octets, of unknown labels, or
/// has a pointer that does not lead to before the labels that it ends (so that there is no loop).
#[must_use]
pub fn expand_name(octets: &[u8], at: usize, out: &mut [u8; NAME_OCTETS]) -> Option<(usize, usize)> {
    let (mut at, mut written, mut next) = (at, 0, None);
    let mut before = at;
    loop {
        let label = *octets.get(at)?;
        match label {
            0 => {
                *out.get_mut(written)? = 0;
                return Some((written + 1, next.unwrap_or(at + 1)));
            }
            1..=63 => {
                let end = at + 1 + usize::from(label);
                let piece = octets.get(at..end)?;
                out.get_mut(written..written + piece.len())?.copy_from_slice(piece);
                written += piece.len();
                at = end;
            }
            0xc0.. => {
                let to = usize::from(word(octets, at)? & 0x3fff);
                if to >= before {
                    return None;
                }
                next = next.or(Some(at + 2));
                before = to;
                at = to;
            }
            _ => return None,
        }
    }
}

/// Copies a name in lower case (RFC 4343 3); gives how many octets fitted. Octets that are lengths of labels are below
/// those of letters.
#[inline]
pub fn lower_name(name: &[u8], out: &mut [u8]) -> usize {
    let n = name.len().min(out.len());
    for (to, from) in out.iter_mut().zip(name) {
        *to = from.to_ascii_lowercase();
    }
    n
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Answer.
    Answer,
    /// Authority.
    Authority,
    /// Additional.
    Additional,
}

/// A record of a message, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its section.
    pub section: Section,
    /// Offset of its owner's name, which may be compressed.
    pub owner_at: usize,
    /// Its type.
    pub rtype: u16,
    /// Its class.
    pub class: u16,
    /// Offset of its TTL.
    pub ttl_at: usize,
    /// Its TTL as it stands, in seconds.
    pub ttl: u32,
    /// Offset of its data.
    pub data_at: usize,
    /// Its data, in which names may be compressed.
    pub data: &'a [u8],
}

/// A message is not what its counts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadMessage;

/// Walks over the records of a message.
///
/// # Errors
/// [`BadMessage`] if there is no header, or the questions are not all there.
pub fn records(octets: &[u8]) -> Result<Records<'_>, BadMessage> {
    let count = |at| word(octets, at).ok_or(BadMessage);
    let left = [count(6)?, count(8)?, count(10)?];
    let mut at = HEADER;
    for _ in 0..count(4)? {
        at = skip_name(octets, at).ok_or(BadMessage)? + 4;
    }
    if at > octets.len() { Err(BadMessage) } else { Ok(Records { octets, at, left }) }
}

/// See [`records`]. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    octets: &'a [u8],
    at: usize,
    left: [u16; 3],
}

impl Records<'_> {
    /// Offset of the record that comes next, or of the end of the last.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BadMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.left.iter().position(|n| *n > 0)?;
        let section = [Section::Answer, Section::Authority, Section::Additional][at];
        self.left[at] -= 1;
        let record = record(self.octets, self.at, section);
        match &record {
            Some(r) => self.at = r.data_at + r.data.len(),
            None => self.left = [0; 3],
        }
        Some(record.ok_or(BadMessage))
    }
}

fn record(octets: &[u8], owner_at: usize, section: Section) -> Option<Record<'_>> {
    let at = skip_name(octets, owner_at)?;
    let data_at = at + 10;
    let data = octets.get(data_at..data_at + usize::from(word(octets, at + 8)?))?;
    Some(Record {
        section,
        owner_at,
        rtype: word(octets, at)?,
        class: word(octets, at + 2)?,
        ttl_at: at + 4,
        ttl: long(octets, at + 4)?,
        data_at,
        data,
    })
}

#[cfg(test)]
mod tests;
