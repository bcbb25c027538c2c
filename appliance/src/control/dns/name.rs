//! Names and types as people write them.

use causeway_dns64::question::{NAME_OCTETS, WireName};
use hickory_proto::rr::RecordType;
use std::net::IpAddr;

/// Octets of the longest label (RFC 1035 2.3.4).
const LABEL_OCTETS: usize = 63;

/// A name as text (RFC 1035 5.1: `\.` and `\065` stand for octets), absolute whether it ends with a dot or not, in
/// wire form and in lower case.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_name(text: &str) -> Result<WireName, String> {
    let bad = |why: &str| format!("`{}` is no domain name: {why}", text.escape_debug());
    if !text.is_ascii() {
        // RFC 5890 2.3.2.1.
        return Err(bad("a label of another script is written as an A-label, as in xn--bcher-kva"));
    }
    let mut labels: Vec<Vec<u8>> = vec![Vec::new()];
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        let octet = match octet {
            b'.' => {
                labels.push(Vec::new());
                continue;
            }
            b'\\' => {
                escaped(&mut rest).ok_or_else(|| bad("a backslash without a character or three digits"))?
            }
            other => other,
        };
        if let Some(label) = labels.last_mut() {
            label.push(octet.to_ascii_lowercase());
        }
    }
    // The root's label is not written, or is what comes behind the final dot.
    if labels.last().is_some_and(Vec::is_empty) {
        labels.pop();
    }
    if text == "." {
        labels.clear();
    } else if labels.is_empty() {
        return Err(bad("it is empty"));
    }
    let mut name = WireName::new();
    for label in labels {
        if label.is_empty() || label.len() > LABEL_OCTETS {
            return Err(bad("a label has 1 to 63 octets"));
        }
        // The root's octet has to fit as well.
        if name.len() + label.len() + 2 > NAME_OCTETS {
            return Err(bad("longer than 255 octets"));
        }
        name.push(u8::try_from(label.len()).unwrap_or(0));
        name.extend(label);
    }
    name.push(0);
    Ok(name)
}

/// The octet behind a backslash.
fn escaped(rest: &mut std::str::Bytes<'_>) -> Option<u8> {
    let first = rest.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let digits = [first, rest.next()?, rest.next()?];
    digits.iter().all(u8::is_ascii_digit).then_some(())?;
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

/// A record type: its name, `TYPE65` (RFC 3597 5), or its number.
///
/// # Errors
/// What is allowed, in words.
pub fn parse_type(text: &str) -> Result<u16, String> {
    let upper = text.to_ascii_uppercase();
    let number = upper.strip_prefix("TYPE").unwrap_or(&upper);
    if let Ok(number) = number.parse() {
        return Ok(number);
    }
    let known: Result<RecordType, _> = upper.parse();
    known
        .map(u16::from)
        .map_err(|_| format!("`{}` is no record type, as in AAAA, MX or TYPE65", text.escape_debug()))
}

/// A record type for people.
#[must_use]
pub fn type_name(number: u16) -> String {
    match RecordType::from(number) {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

/// The name that an address is looked up by (RFC 1035 3.5, RFC 3596 2.5), as text.
#[must_use]
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(a) => {
            let octets = a.octets();
            let nibbles = octets.iter().rev().map(|o| format!("{:x}.{:x}.", o & 15, o >> 4));
            nibbles.collect::<String>() + "ip6.arpa."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_dns64::question::display_name;
    use proptest::prelude::*;

    #[test]
    fn rfc1035_5_1_names_are_absolute_lower_case_and_may_have_escapes() {
        for (text, wire) in [
            ("v4only.Example", &b"\x06v4only\x07example\x00"[..]),
            ("v4only.example.", b"\x06v4only\x07example\x00"),
            (".", b"\x00"),
            (r"a\.b.\007", b"\x03a.b\x01\x07\x00"),
            (r"\\", b"\x01\\\x00"),
            (r"\255\065", b"\x02\xffa\x00"),
        ] {
            assert_eq!(parse_name(text).unwrap().as_slice(), wire, "{text}");
        }
        let label = "a".repeat(64);
        let long = ["abcdefg"; 32].join(".");
        for bad in
            ["", "..", ".a", "a..b", "b\u{fc}cher.example", r"a\", r"a\25", r"a\256", r"a\2x5", &label, &long]
        {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
        let longest = format!("{}.a", ["abcdefg"; 31].join("."));
        assert_eq!(parse_name(&longest).map(|n| n.len()), Ok(251));
    }

    #[test]
    fn rfc3597_5_types_have_names_or_numbers() {
        for (text, number) in
            [("AAAA", 28), ("aaaa", 28), ("TYPE28", 28), ("type65280", 65_280), ("65", 65), ("ANY", 255)]
        {
            assert_eq!(parse_type(text), Ok(number), "{text}");
        }
        for bad in ["", "TYPE", "TYPE65536", "FOO", "-1"] {
            assert!(parse_type(bad).is_err(), "{bad}");
        }
        assert_eq!((type_name(28).as_str(), type_name(65_280).as_str()), ("AAAA", "TYPE65280"));
    }

    #[test]
    fn rfc3596_2_5_an_address_is_looked_up_by_its_nibbles() {
        assert_eq!(reverse_name("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa.");
        assert_eq!(
            reverse_name("2001:db8::567:89ab".parse().unwrap()),
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
        );
    }

    proptest! {
        #[test]
        fn names_read_what_they_print(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=20), 0..8)) {
            let mut wire = WireName::new();
            for label in labels {
                wire.push(u8::try_from(label.len()).unwrap());
                wire.extend(label.iter().map(u8::to_ascii_lowercase));
            }
            wire.push(0);
            prop_assert_eq!(parse_name(&display_name(&wire)).unwrap(), wire);
        }

        #[test]
        fn any_text_is_a_name_or_refused(text in "\\PC{0,300}") {
            if let Ok(name) = parse_name(&text) {
                prop_assert!(name.len() <= NAME_OCTETS && name.last() == Some(&0));
            }
        }
    }
}
