//! ClientHellos: RFC 8446 4.1.2, in records (RFC 8446 5.1); SNI (RFC 6066 3), ALPN (RFC 7301 3.1), ECH (RFC 9849 5).
//!
//! ```text
//!  | 22 3 x len | 1 len ...   | 22 3 x len | ... | 22 3 x len | ...          |
//!  '- record ---' '- ClientHello, cut anywhere, its own header too -'
//! ```
//!
//! Records are put together here; `tls-parser` reads the message. Of its extensions only those three are read: what the
//! others hold is between the client and its server. Versions, cipher suites and so on are not judged.

use super::name::{self, Host};
use super::{Bad, ClientHello, Sniffed};
use tls_parser::{SNIType, TlsExtension};

#[cfg(test)]
mod tests;

/// The content type of handshake records.
pub(super) const HANDSHAKE: u8 = 22;
const RECORD_HEADER: usize = 5;
/// RFC 8446 5.1: octets of a record, at most.
const RECORD_OCTETS: usize = 1 << 14;
const CLIENT_HELLO: u8 = 1;
/// Type and length of a handshake message.
const MESSAGE_HEADER: usize = 4;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// Octets of a list of protocols, at most. Those that there are take less than a hundred; each would be an allocation.
const ALPN_OCTETS: usize = 1024;

/// How far the records were looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Records {
    /// Where the first record begins that is not passed.
    record: usize,
    /// Octets of the message in the records before.
    before: usize,
    /// The first octets of the message: its type and length.
    header: [u8; MESSAGE_HEADER],
}

impl Records {
    pub(super) fn more(&mut self, octets: &[u8], limit: usize) -> Sniffed {
        let seen = &octets[..octets.len().min(limit)];
        match self.whole(seen, limit) {
            Ok(Some(message_octets)) => {
                // Nearly always all of it is in one record, and need not be copied.
                let read = match self.before {
                    0 => seen
                        .get(self.record + RECORD_HEADER..)
                        .and_then(|m| m.get(..message_octets))
                        .map(read),
                    _ => Some(read(&together(seen, message_octets))),
                };
                match read {
                    Some(Ok(hello)) => Sniffed::Tls(hello),
                    Some(Err(bad)) => Sniffed::Bad(bad),
                    None => Sniffed::Bad(Bad::Hello),
                }
            }
            Ok(None) if octets.len() >= limit => Sniffed::Bad(Bad::HelloTooLong),
            Ok(None) => Sniffed::More,
            Err(bad) => Sniffed::Bad(bad),
        }
    }

    /// Octets of the message, header included, once all of it has been seen.
    fn whole(&mut self, seen: &[u8], limit: usize) -> Result<Option<usize>, Bad> {
        loop {
            let here = &seen[self.record.min(seen.len())..];
            let first = self.record == 0;
            if here.first().is_some_and(|kind| *kind != HANDSHAKE) {
                // RFC 8446 5.1: nothing comes between the records of a message.
                return Err(Bad::Hello);
            }
            if here.get(1).is_some_and(|major| *major != 3) {
                return Err(if first { Bad::Protocol } else { Bad::Hello });
            }
            let Some((header, data)) = here.split_at_checked(RECORD_HEADER) else { return Ok(None) };
            let octets = usize::from(u16::from_be_bytes([header[3], header[4]]));
            // RFC 8446 5.1: no empty record of a handshake, and none of more than 2^14 octets.
            if octets == 0 || octets > RECORD_OCTETS {
                return Err(Bad::Hello);
            }
            let data = &data[..data.len().min(octets)];
            for (at, octet) in self.header.iter_mut().skip(self.before).zip(data) {
                *at = *octet;
            }
            let message = self.before + data.len();
            if message >= 1 && self.header[0] != CLIENT_HELLO {
                return Err(Bad::Hello);
            }
            if message >= MESSAGE_HEADER {
                let [_, a, b, c] = self.header;
                let all = MESSAGE_HEADER + u32::from_be_bytes([0, a, b, c]) as usize;
                // It is refused as soon as it says so, not once it has been sent.
                if all + RECORD_HEADER > limit {
                    return Err(Bad::HelloTooLong);
                }
                if message >= all {
                    return Ok(Some(all));
                }
            }
            if data.len() < octets {
                return Ok(None);
            }
            (self.record, self.before) = (self.record + RECORD_HEADER + octets, message);
        }
    }
}

/// The message out of its records, which are known to hold it.
fn together(seen: &[u8], octets: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(octets);
    let mut rest = seen;
    while let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER)
        && message.len() < octets
    {
        let data = behind.len().min(usize::from(u16::from_be_bytes([header[3], header[4]])));
        message.extend_from_slice(&behind[..data.min(octets - message.len())]);
        rest = &behind[data..];
    }
    message
}

/// Reads a message that is whole.
fn read(message: &[u8]) -> Result<ClientHello, Bad> {
    let body = message.get(MESSAGE_HEADER..).ok_or(Bad::Hello)?;
    let (rest, contents) = tls_parser::parse_tls_handshake_client_hello(body).map_err(|_| Bad::Hello)?;
    // What is left over are extensions that are longer than what holds them, or shorter.
    if !rest.is_empty() {
        return Err(Bad::Hello);
    }
    let mut hello = ClientHello::default();
    let mut extensions = contents.ext.unwrap_or_default();
    let (mut has_name, mut has_alpn) = (false, false);
    while !extensions.is_empty() {
        let (kind, data, rest) = extension(extensions).ok_or(Bad::Hello)?;
        extensions = rest;
        // RFC 8446 4.2: no two extensions of one type.
        match kind {
            SERVER_NAME if std::mem::replace(&mut has_name, true) => return Err(Bad::Hello),
            SERVER_NAME => hello.server_name = server_name(data)?,
            ALPN if std::mem::replace(&mut has_alpn, true) => return Err(Bad::Hello),
            ALPN => hello.alpn = alpn(data)?,
            ENCRYPTED_CLIENT_HELLO if hello.encrypted => return Err(Bad::Hello),
            ENCRYPTED_CLIENT_HELLO => hello.encrypted = true,
            // RFC 8701 3.1: unknown ones, those of GREASE among them, are passed over.
            _ => {}
        }
    }
    Ok(hello)
}

/// The first of some extensions: its type, its data, and those behind.
fn extension(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let ([a, b, c, d], rest) = octets.split_first_chunk::<4>()?;
    let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*c, *d])))?;
    Some((u16::from_be_bytes([*a, *b]), data, rest))
}

/// RFC 6066 3.
fn server_name(data: &[u8]) -> Result<Option<String>, Bad> {
    let Ok((_, TlsExtension::SNI(names))) = tls_parser::parse_tls_extension_sni_content(data) else {
        return Err(Bad::Hello);
    };
    // The parser stops at what it cannot read; all must have been read.
    if names.is_empty() || data.len() != 2 + names.iter().map(|(_, name)| 3 + name.len()).sum::<usize>() {
        return Err(Bad::Hello);
    }
    let mut found = None;
    for (kind, name) in names {
        if kind != SNIType::HostName {
            continue;
        }
        // RFC 6066 3: one name of a type; ASCII, and no addresses.
        match name::host(name) {
            Some(Host::Name(name)) if found.is_none() => found = Some(name),
            _ => return Err(Bad::ServerName),
        }
    }
    Ok(found)
}

/// RFC 7301 3.1.
fn alpn(data: &[u8]) -> Result<Vec<Vec<u8>>, Bad> {
    if data.len() > ALPN_OCTETS {
        return Err(Bad::Hello);
    }
    let Ok((_, TlsExtension::ALPN(names))) = tls_parser::parse_tls_extension_alpn_content(data) else {
        return Err(Bad::Hello);
    };
    let octets: usize = names.iter().map(|name| 1 + name.len()).sum();
    if names.is_empty() || data.len() != 2 + octets || names.iter().any(|name| name.is_empty()) {
        return Err(Bad::Hello);
    }
    Ok(names.into_iter().map(<[u8]>::to_vec).collect())
}
