//! An answer, ready to be kept and to be given to any client that asks the same question.

use crate::question::Question;
use causeway_wire::dns::{self, flags};
use hickory_proto::op::Message;

/// An answer in wire form, with what has to be patched in it for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Header, question and records, without OPT. ID 0; QR, AA, TC, RA, AD and the response code as they are to be
    /// told; RD, CD and the opcode are taken from the question; the name of the question is in lower case.
    pub octets: Vec<u8>,
    /// Offsets of all TTL fields.
    pub ttls: Vec<u16>,
    /// Offsets of the data of AAAA records that were synthesised: 12 octets of zero and the IPv4 address there. The
    /// prefix of the client's view is put in when the answer is given (RFC 6052 2.2).
    pub synthesised: Vec<u16>,
    /// Seconds that it may be kept; 0 if it may not.
    pub ttl: u32,
    /// What RFC 8914 has to say about it, if anything.
    pub extended_error: Option<u16>,
}

/// Why a message is no answer that can be kept and given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It has no question, or several.
    #[error("the message has {0} questions, not one")]
    Questions(usize),
    /// Its response code needs an OPT record.
    #[error("response code {0} needs an OPT record")]
    Code(u16),
    /// It cannot be written, or would be longer than a message can be.
    #[error("the message cannot be written")]
    Encoding,
    /// What is said to be synthesised is no AAAA record of 12 octets of zero and an IPv4 address.
    #[error("record {0} of the answer section is no AAAA record to put a prefix into")]
    NotSynthesised(usize),
}

impl Answer {
    /// Writes a message. `synthesised` are places in its answer section of AAAA records that were made: their data are 12
    /// octets of zero and the IPv4 address. `ttl` is for how many seconds it may be kept. OPT and signature of the
    /// message, its ID and what an answer takes from the question are left out.
    ///
    /// # Errors
    /// See [`AnswerError`].
    pub fn from_message(message: &Message, synthesised: &[usize], ttl: u32) -> Result<Self, AnswerError> {
        if message.queries.len() != 1 {
            return Err(AnswerError::Questions(message.queries.len()));
        }
        let code = message.metadata.response_code;
        if code.high() != 0 {
            return Err(AnswerError::Code(code.into()));
        }
        let mut octets = if message.edns.is_some() || message.signature.is_some() {
            let mut plain = message.clone();
            (plain.edns, plain.signature) = (None, None);
            plain.to_vec()
        } else {
            message.to_vec()
        }
        .map_err(|_| AnswerError::Encoding)?;
        let question_end = dns::question_end(&octets).ok_or(AnswerError::Encoding)?;
        let head = octets.get_mut(..question_end).ok_or(AnswerError::Encoding)?;
        let kept = u16::from_be_bytes([head[2], head[3]])
            & (flags::AA | flags::TC | flags::RA | flags::AD | flags::RCODE)
            | flags::QR;
        head[..2].fill(0);
        head[2..4].copy_from_slice(&kept.to_be_bytes());
        head[dns::HEADER..question_end - 4].make_ascii_lowercase();

        let (ttls, places) = offsets(&octets, synthesised)?;
        // A message that is too long is written without what does not fit.
        if ttls.len() != message.answers.len() + message.authorities.len() + message.additionals.len() {
            return Err(AnswerError::Encoding);
        }
        Ok(Self { octets, ttls, synthesised: places, ttl, extended_error: None })
    }

    /// The response code, 0 to 15.
    #[must_use]
    pub fn rcode(&self) -> u8 {
        self.octets.get(3).map_or(0, |octet| octet & 0x0f)
    }

    /// Number of records in the answer section.
    #[must_use]
    pub fn answers(&self) -> u16 {
        self.octets.get(6..8).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
    }
}

/// Offsets of all TTLs, and of the data of these records of the answer section.
fn offsets(octets: &[u8], synthesised: &[usize]) -> Result<(Vec<u16>, Vec<u16>), AnswerError> {
    let offset = |at: usize| u16::try_from(at).map_err(|_| AnswerError::Encoding);
    let (mut ttls, mut places) = (Vec::new(), Vec::new());
    for (n, record) in dns::records(octets).map_err(|_| AnswerError::Encoding)?.enumerate() {
        let record = record.map_err(|_| AnswerError::Encoding)?;
        ttls.push(offset(record.ttl_at)?);
        if record.section == dns::Section::Answer && synthesised.contains(&n) {
            if record.rtype != crate::question::TYPE_AAAA
                || record.data.len() != 16
                || record.data[..12] != [0; 12]
            {
                return Err(AnswerError::NotSynthesised(n));
            }
            places.push(offset(record.data_at)?);
        }
    }
    if let Some(missing) = synthesised.get(places.len()).filter(|_| places.len() != synthesised.len()) {
        return Err(AnswerError::NotSynthesised(*missing));
    }
    Ok((ttls, places))
}

/// Something that was learnt from upstream, after all checks, for [`crate::resolution`].
#[derive(Debug, Clone)]
pub struct Fetched {
    /// What was asked.
    pub question: Question,
    /// The message without OPT, scrubbed: answer section = records of the question's name and of what its CNAME and
    /// DNAME records lead to, with their RRSIG; authority = SOA, NS, NSEC, NSEC3, RRSIG within the name's zone;
    /// additional = nothing but addresses that belong to them. TTLs are capped.
    pub message: hickory_proto::op::Message,
    /// Seconds that have passed since it came.
    pub age: u32,
}

/// Why nothing was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No upstream answered in time.
    #[error("no upstream answered in time")]
    Timeout,
    /// Upstreams answered with a failure: the response code (SERVFAIL, REFUSED, NOTIMP, FORMERR).
    #[error("upstream answered with response code {0}")]
    Failed(u8),
    /// Answers were unusable.
    #[error("upstream's answers were unusable")]
    Unusable,
    /// Too much is under way.
    #[error("too many questions are under way")]
    Busy,
}

#[cfg(test)]
mod tests;
