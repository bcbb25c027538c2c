//! Heads of HTTP/1 requests: RFC 9112 2.1, 3, 5 and 6, RFC 9110 7.2.
//!
//! `httparse` reads the head once all of its lines are there. Around it stands what a gateway must not let through to a
//! server that may read it in another way (RFC 9112 11.2): lines that end in a bare LF, a host that is not there, is
//! there twice or is no name, a length and a transfer coding together, lengths that differ, codings that do not end in
//! `chunked`. Spaces before a colon and folded lines are refused by `httparse`.

use super::name::{self, Host};
use super::{Bad, Request, Sniffed};
use httparse::{EMPTY_HEADER, Error, Header, Status};

#[cfg(test)]
mod tests;

/// Fields of a head, at most.
const FIELDS: usize = 128;

/// How far the lines were looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lines {
    /// Where the request line begins, once it has been seen.
    start: Option<usize>,
    /// Where the line begins that has no end yet.
    line: usize,
    /// How many octets of it, and of those before, have been looked at.
    seen: usize,
}

impl Lines {
    pub(super) fn more(&mut self, octets: &[u8], limit: usize) -> Sniffed {
        let all = &octets[..octets.len().min(limit)];
        while let Some(n) = all[self.seen..].iter().position(|octet| *octet == b'\n') {
            let end = self.seen + n + 1;
            let line = &all[self.line..end];
            (self.line, self.seen) = (end, end);
            // RFC 9112 2.2 lets a bare LF end a line; not all servers do.
            let Some(text) = line.strip_suffix(b"\r\n") else { return Sniffed::Bad(Bad::Request) };
            match self.start {
                // RFC 9112 2.2: empty lines ahead of the request are passed over.
                None if text.is_empty() => {}
                None if is_versioned(text) => self.start = Some(end - line.len()),
                None => return Sniffed::Bad(Bad::Request),
                Some(start) if text.is_empty() => {
                    return match read(&all[start..end]) {
                        Ok(request) => Sniffed::Http(request),
                        Err(bad) => Sniffed::Bad(bad),
                    };
                }
                Some(_) => {}
            }
        }
        self.seen = all.len();
        if octets.len() >= limit { Sniffed::Bad(Bad::RequestTooLong) } else { Sniffed::More }
    }
}

/// RFC 9110 5.6.2.
pub(super) fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// HTTP/0.9 has no version, and no line behind the first: it would be waited for in vain.
fn is_versioned(line: &[u8]) -> bool {
    line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0")
}

/// Reads a head that is whole.
fn read(head: &[u8]) -> Result<Request, Bad> {
    let mut fields = [EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(Status::Complete(octets)) if octets == head.len() => {}
        Err(Error::TooManyHeaders) => return Err(Bad::RequestTooLong),
        _ => return Err(Bad::Request),
    }
    let (Some(method), Some(path), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Bad::Request);
    };
    // RFC 9112 3.2: a fragment is not part of a target.
    if path.contains('#') {
        return Err(Bad::Request);
    }
    is_framed(request.headers, version)?;

    // RFC 9112 3.2: one Host, and that a valid one; RFC 9112 3.2.2: even where the target has the authority.
    let mut hosts = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    let field = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(Bad::Host),
        (Some(field), None) => name::authority(field.value.trim_ascii()).ok_or(Bad::Host)?,
        (None, _) if version >= 1 => return Err(Bad::Host),
        (None, _) => None,
    };
    let (host, target) = match (method, path) {
        // RFC 9112 3.2.3. The port is not left out.
        ("CONNECT", authority) if authority.contains(':') => {
            (Some(name::authority(authority.as_bytes()).flatten().ok_or(Bad::Host)?), None)
        }
        ("CONNECT", _) => return Err(Bad::Request),
        // RFC 9112 3.2.4.
        ("OPTIONS", "*") => (field, None),
        // RFC 9112 3.2.1.
        (_, origin) if origin.starts_with('/') => (field, Some(target(origin))),
        // RFC 9112 3.2.2: the target's authority counts, whatever Host says.
        (_, absolute) => {
            let (authority, behind) = split(absolute).ok_or(Bad::Request)?;
            let host = name::authority(authority.as_bytes()).flatten().ok_or(Bad::Host)?;
            (Some(host), Some(target(behind)))
        }
    };
    let host = match host {
        Some(Host::Name(name)) => Some(name),
        Some(Host::Address) | None => None,
    };
    Ok(Request { host, target, http2: false })
}

/// RFC 9112 6.1, 6.2 and 6.3: there is one way only to see where the body ends.
fn is_framed(fields: &[Header<'_>], version: u8) -> Result<(), Bad> {
    let values = |name: &'static str| {
        fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value.trim_ascii())
    };
    let mut lengths = values("content-length");
    let length = lengths.next();
    // RFC 9110 8.6: digits only; of several, even if they are equal, the message may be refused.
    if lengths.next().is_some()
        || length.is_some_and(|l| str::from_utf8(l).ok().and_then(|l| l.parse::<u64>().ok()).is_none())
        || length.is_some_and(|l| l.starts_with(b"+"))
    {
        return Err(Bad::Request);
    }
    let mut codings = values("transfer-encoding").flat_map(|value| value.split(|octet| *octet == b','));
    let Some(first) = codings.next() else { return Ok(()) };
    // RFC 9112 6.1: not together with a length, and not in HTTP/1.0.
    if length.is_some() || version == 0 {
        return Err(Bad::Request);
    }
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    // RFC 9112 6.3: of a request, the last coding is `chunked`; 6.1: and no other is.
    let mut last = first;
    for coding in codings {
        if is_chunked(last) {
            return Err(Bad::Request);
        }
        last = coding;
    }
    if is_chunked(last) { Ok(()) } else { Err(Bad::Request) }
}

/// The authority of a target in absolute form, and what is behind it.
fn split(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    Some(rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

/// A path and query as they may stand in a `Location` field (RFC 3986 3.3, 3.4): what is not allowed in a URI is
/// percent-encoded, and a path that is empty is `/` (RFC 9110 4.2.3).
pub(super) fn target(path: &str) -> String {
    let mut target = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        target.push('/');
    }
    for octet in path.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%[]".contains(&octet) {
            target.push(char::from(octet));
        } else {
            let digit = |n: u8| char::from(b"0123456789ABCDEF"[usize::from(n & 15)]);
            target.extend(['%', digit(octet >> 4), digit(octet)]);
        }
    }
    target
}
