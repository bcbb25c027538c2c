//! Names that a site can have: host names (RFC 1123 2.1, RFC 952) in A-label form (RFC 5890 2.3.2.1), with underscores
//! tolerated as clients and DNS tolerate them, and one leading `*.` for all names below another.

/// Octets of the longest name, without a dot at its end (RFC 1035 2.3.4).
pub const LONGEST: usize = 253;
/// Octets of the longest label (RFC 1035 2.3.4).
pub const LONGEST_LABEL: usize = 63;
/// Labels of a name, at most: each takes two octets of it at least, but for the last.
pub const LABELS: usize = LONGEST.div_ceil(2);

/// Why a name is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or nothing between two dots.
    #[error("a label is empty")]
    Empty,
    /// The whole name.
    #[error("longer than 253 octets")]
    TooLong,
    /// One label.
    #[error("a label is longer than 63 octets")]
    LabelTooLong,
    /// Letters beyond ASCII.
    #[error("not in ASCII; internationalised names are given as A-labels (`xn--...`)")]
    NotAscii,
    /// Other octets.
    #[error("letters, digits, `-` and `_` are allowed")]
    Octet,
    /// RFC 952's rule for hyphens.
    #[error("a label begins or ends with `-`")]
    Hyphen,
    /// What looks like an address (RFC 6066 3 allows no literal addresses; RFC 1123 2.1 tells them from names by the
    /// last label).
    #[error("an address is no name")]
    Address,
    /// `*` elsewhere than as the first label, or alone.
    #[error("`*` is allowed as the first label only, with a name behind it")]
    Wildcard,
}

/// Checks the name of a host, in lower case and without a dot at its end.
///
/// # Errors
/// What is wrong with it.
pub fn check_host(name: &str) -> Result<(), NameError> {
    if name.len() > LONGEST {
        return Err(NameError::TooLong);
    }
    let mut last = "";
    for label in name.split('.') {
        check_label(label)?;
        last = label;
    }
    // RFC 3696 2: no top-level domain is all digits, so whatever ends in one is an address.
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NameError::Address);
    }
    Ok(())
}

fn check_label(label: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::Empty);
    }
    if !label.is_ascii() {
        return Err(NameError::NotAscii);
    }
    if label.contains('*') {
        return Err(NameError::Wildcard);
    }
    if !label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_')) {
        return Err(NameError::Octet);
    }
    if label.len() > LONGEST_LABEL {
        return Err(NameError::LabelTooLong);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

/// Checks the name of a site: that of a host, or `*.` and one.
///
/// # Errors
/// What is wrong with it.
pub fn check_site(name: &str) -> Result<(), NameError> {
    if name.len() > LONGEST {
        return Err(NameError::TooLong);
    }
    check_host(name.strip_prefix("*.").unwrap_or(name))
}

/// The name of a site as people write it, in the form that the table has: lower case, no dot at its end.
///
/// # Errors
/// What is wrong with it.
pub fn normal_site(name: &str) -> Result<String, NameError> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    check_site(&name)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc1123_2_1_names_are_told_from_addresses_and_from_what_is_neither() {
        for good in ["a", "site1.example", "xn--bcher-kva.example", "1.example", "_dmarc.a-b.c", "0x7f.a1"] {
            assert_eq!(check_host(good), Ok(()), "{good}");
        }
        let label = "a".repeat(64);
        let long = format!("{}.ab", "abc.".repeat(63).trim_end_matches('.'));
        assert_eq!(long.len(), 254);
        let bad = [
            ("", NameError::Empty),
            (".", NameError::Empty),
            ("a..b", NameError::Empty),
            ("a.", NameError::Empty),
            ("A.example", NameError::Octet),
            ("a b", NameError::Octet),
            ("a\0b", NameError::Octet),
            ("[2001:db8::1]", NameError::Octet),
            ("2001:db8::1", NameError::Octet),
            ("bücher.example", NameError::NotAscii),
            ("-a.example", NameError::Hyphen),
            ("a-.example", NameError::Hyphen),
            ("192.0.2.1", NameError::Address),
            ("a.1", NameError::Address),
            ("*.example", NameError::Wildcard),
            (&label, NameError::LabelTooLong),
            (&long, NameError::TooLong),
        ];
        for (name, why) in bad {
            assert_eq!(check_host(name), Err(why), "{name:?}");
        }
    }

    #[test]
    fn rfc4592_2_1_1_a_wildcard_is_a_whole_first_label() {
        assert_eq!(normal_site("*.Wild.Example."), Ok("*.wild.example".to_owned()));
        assert_eq!(normal_site("*.com"), Ok("*.com".to_owned()));
        for bad in ["*", "*.", "a.*.example", "*a.example", "*.*.example"] {
            assert!(normal_site(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_normal_passes_and_stays(name in "[a-zA-Z0-9*_.-]{0,40}\\.?") {
            if let Ok(normal) = normal_site(&name) {
                prop_assert_eq!(check_site(&normal), Ok(()));
                prop_assert_eq!(normal_site(&normal), Ok(normal.clone()));
                prop_assert!(normal.split('.').count() <= LABELS);
            }
        }
    }
}
