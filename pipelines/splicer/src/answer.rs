//! What clients are told whom no server is found for: an alert of TLS (RFC 8446 6), an answer of HTTP/1 (RFC 9112 4), or
//! frames of HTTP/2 (RFC 9113). After each of them the connection is closed.
//!
//! No answer of HTTP has content: whether it may (RFC 9110 9.3.2) depends on the method.

use crate::hello::{Bad, Protocol};

/// Alerts (RFC 8446 6, RFC 6066 3), all of them fatal.
pub mod alert {
    /// Not what comes first in TLS.
    pub const UNEXPECTED_MESSAGE: u8 = 10;
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
        (_, Protocol::Unknown) => Vec::new(),
        (Bad::Protocol, Protocol::Tls) => tls_alert(alert::UNEXPECTED_MESSAGE),
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

#[cfg(test)]
mod tests {
    use super::*;
    use httlib_hpack::Decoder;

    const H2: Protocol = Protocol::Http2 { stream: 5 };

    /// Frames: type, flags, stream, payload.
    fn frames(octets: &[u8]) -> Vec<(u8, u8, u32, &[u8])> {
        let (mut frames, mut rest) = (Vec::new(), octets);
        while let Some(([a, b, c, kind, flags, s @ ..], behind)) = rest.split_first_chunk::<9>() {
            let (payload, behind) = behind.split_at(u32::from_be_bytes([0, *a, *b, *c]) as usize);
            frames.push((*kind, *flags, u32::from_be_bytes(*s), payload));
            rest = behind;
        }
        assert!(rest.is_empty());
        frames
    }

    fn fields(block: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        Decoder::default().decode(&mut block.to_vec(), &mut fields).expect("a header block");
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).expect("text");
        fields.iter().map(|(name, value, _)| (text(name), text(value))).collect()
    }

    #[test]
    fn rfc6066_3_an_unknown_name_is_a_fatal_alert() {
        let alert = tls_unrecognized_name();
        assert_eq!(alert, [21, 3, 3, 0, 2, 2, 112]);
        let (_, record) = tls_parser::parse_tls_plaintext(&alert).expect("a record");
        assert!(matches!(&record.msg[..], [tls_parser::TlsMessage::Alert(_)]), "{record:?}");
        assert_eq!(tls_alert(alert::INTERNAL_ERROR), [21, 3, 3, 0, 2, 2, 80]);
    }

    // And RFC 9112 9.6.
    #[test]
    fn rfc9112_4_answers_are_read_by_a_client() {
        for status in [400, 404, 421, 431, 502, 503, 504] {
            let octets = http(status, Protocol::Http1);
            let mut fields = [httparse::EMPTY_HEADER; 8];
            let mut response = httparse::Response::new(&mut fields);
            assert_eq!(response.parse(&octets), Ok(httparse::Status::Complete(octets.len())));
            assert_eq!((response.code, response.version), (Some(status), Some(1)));
            assert!(response.reason.is_some_and(|reason| !reason.is_empty()), "{status}");
            // RFC 9112 6.3: it ends where it says; 9.6: and so does the connection.
            let of = |name: &str| {
                response.headers.iter().find(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value)
            };
            assert_eq!((of("content-length"), of("connection")), (Some(&b"0"[..]), Some(&b"close"[..])));
            assert_eq!(of("location"), None);
        }
    }

    #[test]
    fn rfc9110_15_4_9_a_redirect_leads_to_the_same_at_https() {
        let octets = redirect("site1.example", "/a?b=%20", Protocol::Http1);
        let text = str::from_utf8(&octets).expect("text");
        assert!(text.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{text}");
        assert!(text.contains("\r\nLocation: https://site1.example/a?b=%20\r\n"), "{text}");
        let octets = redirect("site1.example", "/a?b=%20", H2);
        let [_, _, (HEADERS, _, 5, block), _] = frames(&octets)[..] else { panic!("{octets:x?}") };
        assert!(fields(block).contains(&("location".into(), "https://site1.example/a?b=%20".into())));
        // None that a client would not read, and that is longer than a frame.
        let long = format!("/{}", "a".repeat(20_000));
        assert_eq!(redirect("site1.example", &long, Protocol::Http1), http(431, Protocol::Http1));
        assert_eq!(redirect("site1.example", &long, H2), http(431, H2));
        let longest = redirect("site1.example", &long[..TARGET_OCTETS], H2);
        assert!(frames(&longest)[2].3.len() > TARGET_OCTETS);
        assert!(
            fields(frames(&longest)[2].3).iter().any(|(_, value)| value.ends_with(&long[..TARGET_OCTETS]))
        );
    }

    #[test]
    fn rfc9113_3_4_an_answer_begins_with_settings_and_ends_the_stream_and_the_connection() {
        let octets = http(421, H2);
        let frames = frames(&octets);
        assert_eq!(frames[..2], [(SETTINGS, 0, 0, &[][..]), (SETTINGS, ACK, 0, &[])]);
        let (kind, flags, stream, block) = frames[2];
        assert_eq!((kind, flags, stream), (HEADERS, END_HEADERS | END_STREAM, 5));
        let expected = [(":status", "421"), ("cache-control", "no-store"), ("content-length", "0")];
        assert_eq!(fields(block), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(frames[3..], [(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0][..])]);
    }

    #[test]
    fn rfc9113_5_4_1_without_a_request_the_connection_ends_with_an_error() {
        let octets = bad(Bad::Request, Protocol::Http2 { stream: 0 });
        let expected: [(u8, u8, u32, &[u8]); 3] =
            [(SETTINGS, 0, 0, &[]), (SETTINGS, ACK, 0, &[]), (GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 1])];
        assert_eq!(frames(&octets), expected);
    }

    #[test]
    fn each_reason_is_told_in_the_words_of_the_protocol() {
        let all = [
            Bad::Protocol,
            Bad::Hello,
            Bad::HelloTooLong,
            Bad::ServerName,
            Bad::Request,
            Bad::RequestTooLong,
            Bad::Host,
        ];
        for why in all {
            assert_eq!(bad(why, Protocol::Unknown), b"", "{why:?}");
            let http = bad(why, Protocol::Http1);
            let tls = bad(why, Protocol::Tls);
            let (status, description) = match why {
                Bad::Protocol => ("HTTP/1.1 400 ", 10),
                Bad::RequestTooLong => ("HTTP/1.1 431 ", 50),
                Bad::ServerName => ("HTTP/1.1 400 ", 112),
                _ => ("HTTP/1.1 400 ", 50),
            };
            assert!(http.starts_with(status.as_bytes()), "{why:?}");
            assert_eq!(tls, tls_alert(description), "{why:?}");
        }
        // Words are for those who understand them.
        for protocol in [Protocol::Unknown, Protocol::Tls] {
            assert_eq!(super::http(404, protocol), b"");
            assert_eq!(redirect("site1.example", "/", protocol), b"");
        }
    }
}
