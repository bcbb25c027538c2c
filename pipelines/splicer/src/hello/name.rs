//! Names of hosts as clients write them: RFC 1034 3.1, RFC 1123 2.1, RFC 6066 3, RFC 3986 3.2.2.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What a client calls the host that it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name: lower case, ASCII, without a dot at its end.
    Name(String),
    /// An address. No site is called so.
    Address,
}

/// Octets of a name, at most (RFC 1035 2.3.4: 255 on the wire).
pub const NAME_OCTETS: usize = 253;
/// Octets of a label, at most (RFC 1035 2.3.4).
pub const LABEL_OCTETS: usize = 63;

/// Reads a name. Nothing if it is none: empty, too long, with an empty or too long label, or with anything but letters,
/// digits, hyphens and underscores (which are in no host's name, but in the names of services that people use). A dot at
/// its end is taken off: it is the same name. A last label of digits only is an IPv4 address, or nothing (RFC 1123 2.1).
#[must_use]
pub fn host(octets: &[u8]) -> Option<Host> {
    let octets = octets.strip_suffix(b".").unwrap_or(octets);
    if octets.is_empty() || octets.len() > NAME_OCTETS {
        return None;
    }
    let (mut label, mut digits) = (0, true);
    for octet in octets {
        match octet {
            b'.' if label == 0 => return None,
            b'.' => (label, digits) = (0, true),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                label += 1;
                digits &= octet.is_ascii_digit();
                if label > LABEL_OCTETS {
                    return None;
                }
            }
            _ => return None,
        }
    }
    if label == 0 {
        return None;
    }
    let text = str::from_utf8(octets).ok()?;
    if digits {
        return text.parse::<Ipv4Addr>().ok().map(|_| Host::Address);
    }
    Some(Host::Name(text.to_ascii_lowercase()))
}

/// Reads a host and, if there is one, a port (RFC 9110 7.2, RFC 3986 3.2): the outer nothing if it is none, the inner one
/// if it is empty. The port may be empty, and must be a port; it is not told.
#[must_use]
pub fn authority(octets: &[u8]) -> Option<Option<Host>> {
    if let Some(literal) = octets.strip_prefix(b"[") {
        let end = literal.iter().position(|octet| *octet == b']')?;
        let (address, port) = literal.split_at(end);
        str::from_utf8(address).ok()?.parse::<Ipv6Addr>().ok()?;
        return is_port(&port[1..]).then_some(Some(Host::Address));
    }
    let end = octets.iter().position(|octet| *octet == b':').unwrap_or(octets.len());
    let (name, port) = octets.split_at(end);
    match (name.is_empty(), is_port(port)) {
        (_, false) => None,
        // RFC 9110 7.2: the field is empty if the target has no authority; a port without a host is no authority.
        (true, true) => port.is_empty().then_some(None),
        (false, true) => host(name).map(Some),
    }
}

/// Nothing, or a colon and a port, which may be empty (RFC 3986 3.2.3).
fn is_port(octets: &[u8]) -> bool {
    let Some((colon, digits)) = octets.split_first() else { return true };
    let number = digits.iter().try_fold(0_u16, |sum, octet| {
        let digit = octet.is_ascii_digit().then(|| u16::from(octet - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    });
    *colon == b':' && number.is_some()
}
