//! An answer, ready to be kept and to be given to any client that asks the same question.

use crate::question::Question;
use hickory_proto::op::Message;
use thiserror::Error;

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

/// Why a message cannot be kept as an [`Answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// It cannot be written, or is too long.
    #[error("the message cannot be written")]
    Encoding,
}

impl Answer {
    /// Writes `message`, which has one question and no OPT; `synthesised` are the places of AAAA records in its answer
    /// section that were made here.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn from_message(message: &Message, synthesised: &[usize], ttl: u32) -> Result<Self, AnswerError> {
        let octets = message.to_vec().map_err(|_| AnswerError::Encoding)?;
        let mut ttls = Vec::new();
        let mut places = Vec::new();
        let skip = |mut at: usize| -> Option<usize> {
            loop {
                match *octets.get(at)? {
                    0 => return Some(at + 1),
                    c if c >= 0xc0 => return Some(at + 2),
                    n => at += 1 + usize::from(n),
                }
            }
        };
        let records = message.answers.len() + message.authorities.len() + message.additionals.len();
        let mut walk = || -> Option<()> {
            let mut at = skip(12)? + 4;
            for n in 0..records {
                let fixed = skip(at)?;
                ttls.push(u16::try_from(fixed + 4).ok()?);
                let length = u16::from_be_bytes([*octets.get(fixed + 8)?, *octets.get(fixed + 9)?]);
                if synthesised.contains(&n) {
                    places.push(u16::try_from(fixed + 10).ok()?);
                }
                at = fixed + 10 + usize::from(length);
            }
            (at == octets.len()).then_some(())
        };
        walk().ok_or(AnswerError::Encoding)?;
        Ok(Self { octets, ttls, synthesised: places, ttl, extended_error: None })
    }

    /// The response code.
    #[must_use]
    pub fn rcode(&self) -> u8 {
        self.octets.get(3).map_or(2, |o| o & 15)
    }
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
