//! The first header block of HTTP/2 with prior knowledge: RFC 9113 3.4, 4, 6 and 8.3, HPACK (RFC 7541).
//!
//! ```text
//!  PRI * HTTP/2.0 SM | SETTINGS | (SETTINGS, WINDOW_UPDATE, PING, PRIORITY, unknown ones)* | HEADERS | CONTINUATION*
//! ```

use super::hpack;
use super::http1;
use super::name::{self, Host};
use super::{Bad, Request, Sniffed};

#[cfg(test)]
mod tests;

/// RFC 9113 3.4.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// RFC 9113 4.2: octets of a frame, at most, as long as the server has said nothing else.
const FRAME_OCTETS: usize = 1 << 14;
/// Octets of all fields, uncompressed and 32 more for each (RFC 9113 6.5.2), at most.
const LIST_OCTETS: usize = 65_536;

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

mod flag {
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
    pub(super) const PRIORITY: u8 = 0x20;
}

/// How far the frames were looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frames {
    /// Where the first frame begins that is not passed.
    frame: usize,
    /// Where the HEADERS frame begins, once it has been passed.
    block: Option<usize>,
    /// The stream of the request, once there is one.
    stream: u32,
}

impl Default for Frames {
    fn default() -> Self {
        Self { frame: PREFACE.len(), block: None, stream: 0 }
    }
}

/// The header of a frame (RFC 9113 4.1).
#[derive(Debug, Clone, Copy)]
struct Frame {
    octets: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    /// The first frame of some octets, and what is behind its header.
    fn parse(octets: &[u8]) -> Option<(Self, &[u8])> {
        let ([a, b, c, kind, flags, s @ ..], rest) = octets.split_first_chunk::<FRAME_HEADER>()?;
        let octets = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        Some((
            Self { octets, kind: *kind, flags: *flags, stream: u32::from_be_bytes(*s) & 0x7fff_ffff },
            rest,
        ))
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Frames {
    /// The stream of the request; 0 if there is none yet.
    pub(super) fn stream(&self) -> u32 {
        self.stream
    }

    pub(super) fn more(&mut self, octets: &[u8], limit: usize) -> Sniffed {
        let seen = &octets[..octets.len().min(limit)];
        while let Some((frame, payload)) = seen.get(self.frame..).and_then(Frame::parse) {
            if !self.is_expected(frame) {
                return Sniffed::Bad(Bad::Request);
            }
            if payload.len() < frame.octets {
                break;
            }
            if frame.kind == kind::HEADERS {
                (self.block, self.stream) = (Some(self.frame), frame.stream);
            }
            self.frame += FRAME_HEADER + frame.octets;
            if let Some(block) = self.block
                && frame.has(flag::END_HEADERS)
            {
                let read = fragments(&seen[block..self.frame]).ok_or(Bad::Request).and_then(|b| read(&b));
                return match read {
                    Ok(request) => Sniffed::Http(request),
                    Err(bad) => Sniffed::Bad(bad),
                };
            }
        }
        if octets.len() >= limit { Sniffed::Bad(Bad::RequestTooLong) } else { Sniffed::More }
    }

    /// A frame that a client may send here.
    fn is_expected(&self, frame: Frame) -> bool {
        let Frame { octets, kind, stream, .. } = frame;
        if octets > FRAME_OCTETS {
            return false;
        }
        // RFC 9113 6.10: nothing else comes between the parts of a block.
        if self.block.is_some() {
            return kind == kind::CONTINUATION && stream == self.stream;
        }
        let acknowledges = frame.has(flag::ACK);
        match kind {
            // RFC 9113 6.5. There is nothing yet to acknowledge.
            kind::SETTINGS => stream == 0 && octets % 6 == 0 && !acknowledges,
            // RFC 9113 3.4: SETTINGS come first.
            _ if self.frame == PREFACE.len() => false,
            // RFC 9113 5.1.1: streams of clients are odd.
            kind::HEADERS => stream % 2 == 1,
            // RFC 9113 6.3.
            kind::PRIORITY => stream != 0 && octets == 5,
            // RFC 9113 6.7.
            kind::PING => stream == 0 && octets == 8 && !acknowledges,
            // RFC 9113 6.9.
            kind::WINDOW_UPDATE => octets == 4,
            // RFC 9113 5.1: not on a stream that nobody has opened; 8.4: clients push nothing. Whoever goes away already
            // wants nothing.
            kind::DATA | kind::RST_STREAM | kind::PUSH_PROMISE | kind::GOAWAY | kind::CONTINUATION => false,
            // RFC 9113 4.1: unknown ones are passed over.
            _ => true,
        }
    }
}

/// The header block out of its frames, which are known to be whole. Nothing if padding or priority do not fit.
fn fragments(frames: &[u8]) -> Option<Vec<u8>> {
    let mut block = Vec::with_capacity(frames.len());
    let mut rest = frames;
    while let Some((frame, behind)) = Frame::parse(rest) {
        let (mut data, next) = behind.split_at_checked(frame.octets)?;
        rest = next;
        if frame.kind == kind::HEADERS {
            // RFC 9113 6.2.
            if frame.has(flag::PADDED) {
                let (padding, behind) = data.split_first()?;
                data = behind.get(..behind.len().checked_sub(usize::from(*padding))?)?;
            }
            if frame.has(flag::PRIORITY) {
                data = data.get(5..)?;
            }
        }
        block.extend_from_slice(data);
    }
    Some(block)
}

/// Reads a header block.
fn read(block: &[u8]) -> Result<Request, Bad> {
    let (mut octets, mut fields) = (0, Fields::default());
    hpack::fields(block, |name, value| {
        octets += name.len() + value.len() + 32;
        if octets > LIST_OCTETS { Err(Bad::RequestTooLong) } else { fields.take(name, value) }
    })
    .map_err(|stop| match stop {
        hpack::Stop::Malformed => Bad::Request,
        hpack::Stop::Taker(bad) => bad,
    })?;
    fields.request()
}

/// What counts of the fields of a request.
#[derive(Debug, Default)]
struct Fields {
    /// A field that is no pseudo-header has been seen.
    regular: bool,
    method: Option<Vec<u8>>,
    scheme: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    authority: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    length: Option<Vec<u8>>,
}

impl Fields {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Bad> {
        // RFC 9113 8.2.1: what HTTP/1 would read as the end of a line, or not as a part of the value.
        let is_blank = |octet: Option<&u8>| octet.is_some_and(|o| matches!(o, b' ' | b'\t'));
        let is_bad = value.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n'));
        if is_bad || is_blank(value.first()) || is_blank(value.last()) {
            return Err(Bad::Request);
        }
        let slot = if name.starts_with(b":") {
            // RFC 9113 8.3: ahead of all others, each once, and none but these (8.5: `:protocol` only if asked for).
            match name {
                _ if self.regular => return Err(Bad::Request),
                b":method" => &mut self.method,
                b":scheme" => &mut self.scheme,
                b":path" => &mut self.path,
                b":authority" => &mut self.authority,
                _ => return Err(Bad::Request),
            }
        } else {
            self.regular = true;
            // RFC 9113 8.2: lower case.
            if name.is_empty() || !name.iter().all(|o| http1::is_token(*o) && !o.is_ascii_uppercase()) {
                return Err(Bad::Request);
            }
            match name {
                b"host" => &mut self.host,
                b"content-length" => &mut self.length,
                // RFC 9113 8.2.2: fields that are about a connection of HTTP/1.
                b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
                    return Err(Bad::Request);
                }
                b"te" if value != b"trailers" => return Err(Bad::Request),
                _ => return Ok(()),
            }
        };
        let why = if name == b"host" { Bad::Host } else { Bad::Request };
        if slot.replace(value.to_vec()).is_some() { Err(why) } else { Ok(()) }
    }

    fn request(self) -> Result<Request, Bad> {
        let method = self.method.filter(|m| !m.is_empty() && m.iter().all(|o| http1::is_token(*o)));
        let method = method.ok_or(Bad::Request)?;
        if self.length.is_some_and(|l| l.is_empty() || !l.iter().all(u8::is_ascii_digit)) {
            return Err(Bad::Request);
        }
        // RFC 9113 8.3.1: `:authority`, else Host. A Host that names another is a reason to refuse.
        let authority = match (self.authority, self.host) {
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(&host) => return Err(Bad::Host),
            (Some(authority), _) => authority,
            (None, Some(host)) => host,
            (None, None) => return Err(Bad::Host),
        };
        let host = match name::authority(&authority).ok_or(Bad::Host)? {
            Some(Host::Name(name)) => Some(name),
            Some(Host::Address) | None => None,
        };
        if method == b"CONNECT" {
            // RFC 9113 8.5.
            let is_plain = self.scheme.is_none() && self.path.is_none();
            return if is_plain {
                Ok(Request { host, target: None, http2: true })
            } else {
                Err(Bad::Request)
            };
        }
        // RFC 9113 8.3.1: both are there, and the path is not empty.
        if self.scheme.is_none_or(|scheme| scheme.is_empty()) {
            return Err(Bad::Request);
        }
        let path = self.path.and_then(|path| String::from_utf8(path).ok()).ok_or(Bad::Request)?;
        let is_plain = |c: char| !c.is_ascii_control() && !matches!(c, ' ' | '#');
        match path.as_str() {
            "*" if method == b"OPTIONS" => Ok(Request { host, target: None, http2: true }),
            path if path.starts_with('/') && path.chars().all(is_plain) => {
                Ok(Request { host, target: Some(http1::target(path)), http2: true })
            }
            _ => Err(Bad::Request),
        }
    }
}
