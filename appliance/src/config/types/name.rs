//! Names and texts that hosts are told: domain names, ALPN identifiers, URIs.

use crate::config::read::{self, Read};
use serde::Serialize;
use std::fmt;
use toml::de::DeValue;

/// Makes a text that was checked.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident($check:path, $what:literal);)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Read for $name {
            const ALLOWED: &'static str = $what;

            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                let text = read::string(value)?;
                $check(text)?;
                Ok(Self(text.to_owned()))
            }
        }
    )+};
}

texts! {
    /// A domain name in ASCII, without a final dot: labels of 1 to 63 letters, digits, `-` and `_`,
    /// together at most 253 octets (RFC 1035 2.3.4).
    DomainName(domain, "a domain name in ASCII without a final dot, as in \"example.com\"");

    /// An ALPN identifier (RFC 7301 6), as in `dot`, `h2` or `doq`.
    Alpn(alpn, "an ALPN identifier, as in \"dot\", \"h2\" or \"doq\"");

    /// A relative URI template of DNS over HTTPS with the variable `dns` (RFC 9461 5).
    DohPath(doh_path, "a relative URI template with the variable dns, as in \"/dns-query{?dns}\"");

    /// URI of a captive portal's API (RFC 8908 4.1, RFC 8910 2): at most 255 octets.
    PortalUri(
        portal,
        "a URI that begins with https:// (RFC 8908), or \"urn:ietf:params:capport:unrestricted\", of at most 255 octets"
    );

    /// URL of a boot file (RFC 5970 3.1): at most 512 octets.
    BootUrl(boot, "a URL of at most 512 octets, as in \"http://[2001:db8:64::9]/boot.efi\"");
}

/// RFC 8910 2: what says that nothing keeps hosts captive.
const UNRESTRICTED: &str = "urn:ietf:params:capport:unrestricted";

pub(super) fn domain(text: &str) -> Result<(), String> {
    // RFC 5890 2.3.2.1.
    if !text.is_ascii() {
        return Err(
            "not ASCII: a label of another script is written as an A-label, as in xn--bcher-kva".to_owned()
        );
    }
    if text.ends_with('.') {
        return Err("a final dot".to_owned());
    }
    if text.len() > 253 {
        return Err("longer than 253 octets".to_owned());
    }
    for label in text.split('.') {
        if !(1..=63).contains(&label.len()) {
            return Err("a label has 1 to 63 octets".to_owned());
        }
        let good = label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
        // RFC 1123 2.1.
        if !good || label.starts_with('-') || label.ends_with('-') {
            return Err(format!("`{label}` is no label"));
        }
    }
    Ok(())
}

fn alpn(text: &str) -> Result<(), String> {
    // RFC 7301 3.1: 1 to 255 octets. What is registered for DNS has far fewer, all of them visible; RFC 9460
    // A.1 would want commas and backslashes escaped.
    let good = (1..=32).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_graphic() && !b",\\\"".contains(&c));
    if good { Ok(()) } else { Err("not an ALPN identifier".to_owned()) }
}

fn doh_path(text: &str) -> Result<(), String> {
    uri(text, 255)?;
    // RFC 9461 5: relative to the origin, and with the variable.
    if !text.starts_with('/') {
        return Err("not relative to the server's root".to_owned());
    }
    let variable = text
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .flat_map(|(inside, _)| inside.trim_start_matches(['?', '&', '/', '+', '#', '.', ';']).split(','))
        .any(|name| name == "dns");
    if variable { Ok(()) } else { Err("the variable `dns` is missing".to_owned()) }
}

fn uri(text: &str, most: usize) -> Result<(), String> {
    if text.is_empty() {
        return Err("empty".to_owned());
    }
    if text.len() > most {
        return Err(format!("longer than {most} octets"));
    }
    // RFC 3986 2: visible ASCII.
    if text.bytes().all(|c| c.is_ascii_graphic() && !b"\"<>\\^`".contains(&c)) {
        Ok(())
    } else {
        Err("a character that no URI has".to_owned())
    }
}

fn portal(text: &str) -> Result<(), String> {
    uri(text, 255)?;
    let host = text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    if host || text == UNRESTRICTED { Ok(()) } else { Err("not a URI of HTTPS".to_owned()) }
}

fn boot(text: &str) -> Result<(), String> {
    uri(text, 512)?;
    let good = text.split_once("://").is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c))
            && !rest.is_empty()
    });
    if good { Ok(()) } else { Err("not a URL".to_owned()) }
}

impl DomainName {
    /// Octets that it takes in a packet (RFC 1035 3.1): a length before each label, and a zero at the end.
    #[must_use]
    pub fn encoded_octets(&self) -> usize {
        self.0.len() + 2
    }

    /// Appends it as it stands in a packet, without compression (RFC 1035 3.1).
    pub fn encode(&self, out: &mut Vec<u8>) {
        for label in self.0.split('.') {
            // A label has at most 63 octets.
            out.push(u8::try_from(label.len()).unwrap_or(63));
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
    }

    /// It in wire form and in lower case, which is how names are compared (RFC 4343 3).
    #[must_use]
    pub fn wire(&self) -> causeway_dns64::question::WireName {
        let mut octets = Vec::new();
        self.encode(&mut octets);
        // Lengths are below the letters. A name has at most 255 octets.
        octets
            .into_iter()
            .take(causeway_dns64::question::NAME_OCTETS)
            .map(|o| o.to_ascii_lowercase())
            .collect()
    }
}

impl Alpn {
    /// True for DNS over HTTPS, which needs a path (RFC 9461 5).
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.0 == "h2" || self.0 == "h3" || self.0.starts_with("http/")
    }
}

impl PortalUri {
    /// True if the server is named by an address, which RFC 8910 2 advises against.
    #[must_use]
    pub fn has_address(&self) -> bool {
        let host = self.0.strip_prefix("https://").unwrap_or_default();
        let host = host.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        host.starts_with('[')
            || host.split(':').next().is_some_and(|h| h.parse::<std::net::Ipv4Addr>().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc1035_2_3_4_names_have_labels_of_at_most_63_octets() {
        let long = format!("{}.example", "a".repeat(63));
        for good in ["example", "a.b.c.example", "_dns.resolver.arpa", "xn--bcher-kva.example", &long] {
            assert_eq!(domain(good), Ok(()), "{good}");
        }
        let (label, name) = ("a".repeat(64), ["abcdefg"; 32].join("."));
        for bad in
            ["", ".", "example.", "a..b", "-a.example", "a-.example", "a b", "b\u{fc}cher", &label, &name]
        {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rfc1035_3_1_a_name_is_encoded_as_labels_and_a_zero() {
        let mut out = Vec::new();
        let name = DomainName("dns.example".to_owned());
        name.encode(&mut out);
        assert_eq!(out, b"\x03dns\x07example\x00");
        assert_eq!(out.len(), name.encoded_octets());
    }

    #[test]
    fn rfc9461_5_a_doh_path_is_relative_and_has_the_variable() {
        for good in ["/dns-query{?dns}", "/q{?dns,ct}", "/{dns}", "/a{?x}{&dns}"] {
            assert_eq!(doh_path(good), Ok(()), "{good}");
        }
        for bad in
            ["", "/dns-query", "dns-query{?dns}", "https://a/{?dns}", "/q{?dnss}", "/q{?dns", "/q {?dns}"]
        {
            assert!(doh_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rfc8908_4_1_a_captive_portal_is_a_uri_of_https() {
        let exact = format!("https://a/{}", "x".repeat(245));
        for good in ["https://portal.example/api", UNRESTRICTED, &exact] {
            assert_eq!(portal(good), Ok(()), "{good}");
        }
        let long = format!("{exact}x");
        for bad in
            ["", "http://portal.example", "https://", "https:///x", "portal.example", "https://a b", &long]
        {
            assert!(portal(bad).is_err(), "{bad}");
        }
        for (uri, address) in [
            ("https://192.0.2.1/x", true),
            ("https://192.0.2.1:8443", true),
            ("https://[2001:db8::1]/", true),
            ("https://me@192.0.2.1/", true),
            ("https://portal.example/192.0.2.1", false),
            (UNRESTRICTED, false),
        ] {
            assert_eq!(PortalUri(uri.to_owned()).has_address(), address, "{uri}");
        }
    }

    #[test]
    fn rfc5970_3_1_a_boot_file_has_a_url() {
        for good in ["http://[2001:db8::9]/boot.efi", "tftp://boot.example/x", "nfs+x://a"] {
            assert_eq!(boot(good), Ok(()), "{good}");
        }
        for bad in ["", "boot.efi", "/srv/boot.efi", "http://", "://a", "1x://a", "http://a/ b"] {
            assert!(boot(bad).is_err(), "{bad}");
        }
    }
}
