//! What clients are told whom no server is found for: an alert of TLS (RFC 8446 6), an answer of HTTP/1 (RFC 9112 4), or
//! frames of HTTP/2 (RFC 9113). After each of them the connection is closed.
//!
//! No answer of HTTP has content: whether it may (RFC 9110 9.3.2) depends on the method.

use crate::hello::{Bad, Protocol};

/// Alerts (RFC 8446 6, RFC 6066 3), all of them fatal.
pub mod alert {
    /// A field is out of range, or a length is wrong.
    pub const DECODE_ERROR: u8 = 50;
    /// The server does not know why it cannot go on, and it is not the client's fault.
    pub const INTERNAL_ERROR: u8 = 80;
    /// No server of that name.
    pub const UNRECOGNIZED_NAME: u8 = 112;
}

/// The status codes that are used here (RFC 9110 15).
pub mod status {
    /// The request cannot be read, or has no host that could be a site's.
    pub const BAD_REQUEST: u16 = 400;
    /// There is no such site.
    pub const NOT_FOUND: u16 = 404;
    /// There is no such site here: the connection is for others.
    pub const MISDIRECTED: u16 = 421;
    /// The head is too long (RFC 6585 5).
    pub const FIELDS_TOO_LARGE: u16 = 431;
    /// The site's server answers with nothing of use.
    pub const BAD_GATEWAY: u16 = 502;
    /// The site has no server now.
    pub const UNAVAILABLE: u16 = 503;
    /// The site's server does not answer.
    pub const GATEWAY_TIMEOUT: u16 = 504;
    /// The same, at `https:`, with the same method.
    pub const PERMANENT_REDIRECT: u16 = 308;
}

/// What HTTP/2 is told about a connection (RFC 9113 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Error {
    No = 0,
    Protocol = 1,
}

/// A redirect is made for paths and queries of so many octets (RFC 9110 4.1 asks for 8,000).
const TARGET_OCTETS: usize = 8192;

/// A fatal alert.
#[must_use]
pub fn tls_alert(description: u8) -> Vec<u8> {
    // RFC 8446 5.1: the version of a record that is not a ClientHello's.
    vec![21, 3, 3, 0, 2, 2, description]
}

/// RFC 6066 3: no server of the name that the client asked for.
#[must_use]
pub fn tls_unrecognized_name() -> Vec<u8> {
    tls_alert(alert::UNRECOGNIZED_NAME)
}

/// An answer with this status code, for a client of HTTP: nothing for others.
#[must_use]
pub fn http(status: u16, protocol: Protocol) -> Vec<u8> {
    respond(status, None, protocol)
}

/// A redirect to `https:` at this host, for a path and query as [`crate::hello::Request::target`] has them. Nothing for
/// clients who do not speak HTTP.
#[must_use]
pub fn redirect(host: &str, target: &str, protocol: Protocol) -> Vec<u8> {
    // Its client would not read it, and it is not to be longer than a frame (RFC 9113 4.2).
    if target.len() > TARGET_OCTETS {
        return http(status::FIELDS_TOO_LARGE, protocol);
    }
    respond(status::PERMANENT_REDIRECT, Some(&format!("https://{host}{target}")), protocol)
}

/// What to tell a client who is not served whatever sites there are. Nothing: close without a word.
#[must_use]
pub fn bad(why: Bad, protocol: Protocol) -> Vec<u8> {
    match (why, protocol) {
        (Bad::Protocol, _) | (_, Protocol::Unknown) => Vec::new(),
        (Bad::ServerName, Protocol::Tls) => tls_unrecognized_name(),
        (_, Protocol::Tls) => tls_alert(alert::DECODE_ERROR),
        (Bad::RequestTooLong, _) => http(status::FIELDS_TOO_LARGE, protocol),
        (_, Protocol::Http1 | Protocol::Http2 { .. }) => http(status::BAD_REQUEST, protocol),
    }
}

fn respond(status: u16, location: Option<&str>, protocol: Protocol) -> Vec<u8> {
    match protocol {
        Protocol::Unknown | Protocol::Tls => Vec::new(),
        Protocol::Http1 => http1(status, location),
        Protocol::Http2 { stream } => http2(status, location, stream),
    }
}

fn http1(status: u16, location: Option<&str>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    if let Some(location) = location {
        head.push_str("Location: ");
        head.push_str(location);
        head.push_str("\r\n");
    }
    // RFC 9112 9.6: the connection ends here, whatever else the client has sent.
    head.push_str("Content-Length: 0\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n");
    head.into_bytes()
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn http2(status: u16, location: Option<&str>, stream: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    // RFC 9113 3.4: a server's SETTINGS come first, and the client's are acknowledged.
    frame(&mut out, SETTINGS, 0, 0, &[]);
    frame(&mut out, SETTINGS, ACK, 0, &[]);
    let error = if stream == 0 { Error::Protocol } else { Error::No };
    if stream != 0 {
        // RFC 7541 6.2.2: literals that are not kept, of names in the static table: `:status` is 8 there, `location` 46
        // (RFC 7541 Appendix A). No Huffman code.
        let mut block = Vec::with_capacity(16);
        literal(&mut block, 8, status.to_string().as_bytes());
        literal(&mut block, 24, b"no-store");
        literal(&mut block, 28, b"0");
        if let Some(location) = location {
            literal(&mut block, 46, location.as_bytes());
        }
        frame(&mut out, HEADERS, END_HEADERS | END_STREAM, stream, &block);
    }
    // RFC 9113 6.8: nothing behind that stream has been looked at.
    let goaway = [stream.to_be_bytes(), (error as u32).to_be_bytes()].concat();
    frame(&mut out, GOAWAY, 0, 0, &goaway);
    out
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let octets = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&octets[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// RFC 7541 6.2.2 and 5.2.
fn literal(block: &mut Vec<u8>, name: usize, value: &[u8]) {
    integer(block, name, 15);
    integer(block, value.len(), 127);
    block.extend_from_slice(value);
}

/// RFC 7541 5.1. The bits ahead of the prefix are zero.
fn integer(block: &mut Vec<u8>, value: usize, most: u8) {
    let Some(mut rest) = value.checked_sub(usize::from(most)) else {
        block.push(u8::try_from(value).unwrap_or(most));
        return;
    };
    block.push(most);
    while rest >= 128 {
        block.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    block.push((rest & 0x7f) as u8);
}

/// RFC 9110 15. Clients do not read it.
fn reason(status: u16) -> &'static str {
    match status {
        status::PERMANENT_REDIRECT => "Permanent Redirect",
        status::BAD_REQUEST => "Bad Request",
        status::NOT_FOUND => "Not Found",
        status::MISDIRECTED => "Misdirected Request",
        status::FIELDS_TOO_LARGE => "Request Header Fields Too Large",
        status::BAD_GATEWAY => "Bad Gateway",
        status::UNAVAILABLE => "Service Unavailable",
        status::GATEWAY_TIMEOUT => "Gateway Timeout",
        _ => "",
    }
}
