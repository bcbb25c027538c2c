//! What is asked: the question as it is looked up, and what sort of answer is wanted.

use arrayvec::ArrayVec;
use std::fmt;

/// Octets of the longest name (RFC 1035 2.3.4).
pub const NAME_OCTETS: usize = 255;
/// Record type A.
pub const TYPE_A: u16 = 1;
/// Record type PTR.
pub const TYPE_PTR: u16 = 12;
/// Record type AAAA.
pub const TYPE_AAAA: u16 = 28;

/// A domain name in wire form, in lower case, with the root's octet at its end, without compression.
pub type WireName = ArrayVec<u8, NAME_OCTETS>;

/// A question of class IN. Questions that are equal have equal answers.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The name, in lower case.
    pub name: WireName,
    /// The record type.
    pub qtype: u16,
    /// DNSSEC records are wanted: flag DO (RFC 3225).
    pub dnssec_ok: bool,
    /// The resolver asked is not to validate: flag CD (RFC 4035 3.2.2).
    pub checking_disabled: bool,
}

/// What sort of answer is meant. There is one for all views, whatever their prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Variant {
    /// As it came from upstream.
    Native = 0,
    /// With AAAA records made of A records where there is no usable AAAA record (RFC 6147 5.1).
    Synthesised = 1,
    /// With AAAA records made of A records, even if there are others.
    Always = 2,
}

/// Octets of the longest [`Question::key`].
pub const KEY_OCTETS: usize = NAME_OCTETS + 3;

impl Question {
    /// What an answer of this sort is found by in the cache: name, type, and an octet of flags and variant.
    #[must_use]
    pub fn key(&self, variant: Variant) -> ArrayVec<u8, KEY_OCTETS> {
        key(&self.name, self.qtype, self.dnssec_ok, self.checking_disabled, variant)
    }

    /// The same question about another type.
    #[must_use]
    pub fn of_type(&self, qtype: u16) -> Self {
        Self { qtype, ..self.clone() }
    }
}

/// As [`Question::key`], of a name that must be in lower case and of no more than [`NAME_OCTETS`] (what is beyond is left
/// out).
#[must_use]
pub fn key(
    name: &[u8],
    qtype: u16,
    dnssec_ok: bool,
    checking_disabled: bool,
    variant: Variant,
) -> ArrayVec<u8, KEY_OCTETS> {
    let mut key = ArrayVec::new();
    key.extend(name.iter().take(NAME_OCTETS).copied());
    key.extend(qtype.to_be_bytes());
    key.push(variant as u8 | u8::from(dnssec_ok) << 4 | u8::from(checking_disabled) << 5);
    key
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} do={} cd={}", self.dnssec_ok, self.checking_disabled)
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", display_name(&self.name), hickory_proto::rr::RecordType::from(self.qtype))
    }
}

/// A name in wire form as text (RFC 1035 5.1), for logs and people.
#[must_use]
pub fn display_name(name: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = name;
    while let Some((&length, tail)) = rest.split_first() {
        if length == 0 || usize::from(length) > tail.len() {
            break;
        }
        let (label, tail) = tail.split_at(usize::from(length));
        for &octet in label {
            match octet {
                b'.' | b'\\' => text.extend(['\\', char::from(octet)]),
                0x21..=0x7e => text.push(char::from(octet)),
                _ => text.push_str(&format!("\\{octet:03}")),
            }
        }
        text.push('.');
        rest = tail;
    }
    if text.is_empty() {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &[u8]) -> Question {
        Question {
            name: name.iter().copied().collect(),
            qtype: TYPE_AAAA,
            dnssec_ok: false,
            checking_disabled: false,
        }
    }

    #[test]
    fn questions_that_differ_in_anything_have_different_keys() {
        let q = question(b"\x01a\x00");
        let mut keys = vec![q.key(Variant::Native), q.key(Variant::Synthesised), q.key(Variant::Always)];
        keys.push(q.of_type(TYPE_A).key(Variant::Native));
        keys.push(Question { dnssec_ok: true, ..q.clone() }.key(Variant::Native));
        keys.push(Question { checking_disabled: true, ..q }.key(Variant::Native));
        keys.push(question(b"\x01b\x00").key(Variant::Native));
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }

    #[test]
    fn names_are_printed_with_escapes() {
        assert_eq!(question(b"\x03a.b\x01\x07\x07example\x00").to_string(), "a\\.b.\\007.example. AAAA");
        assert_eq!(display_name(b"\x00"), ".");
        assert_eq!(display_name(b"\x05ab"), ".");
    }
}
