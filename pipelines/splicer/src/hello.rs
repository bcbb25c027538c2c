//! What the first octets of a client say about where it wants to go.
//!
//! ```text
//!  22 3 ..            TLS: records -> ClientHello (RFC 8446 4.1.2, 5.1) -> SNI, ALPN
//!  PRI * HTTP/2.0 ..  frames -> first header block (RFC 9113 3.4, 6.2) -> :authority
//!  a token or CR      lines -> head of a request (RFC 9112 2.1) -> Host, or the target's authority
//! ```
//!
//! Nothing is kept of the octets, but how far they were looked at: the caller has them, and shows all of them each time.
//! So a client that sends them one by one costs no more than one that sends them together. What comes behind the
//! ClientHello or the head is not looked at: whoever is behind the site reads it, from its first octet on, as does the
//! rest of the connection. Not here: SSL 2.0 hellos (RFC 6176 forbids them), `Upgrade` to HTTP/2 (it is an HTTP/1.1
//! request, and its server's matter), clients of HTTP/2 that send no request before the server's SETTINGS.

mod hpack;
mod http1;
mod http2;
pub mod name;
#[cfg(test)]
mod tests;
mod tls;

use crate::config::Limits;

/// What a TLS client says of itself, in clear.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The server's name in lower case (RFC 6066 3), checked to be one that a site can have.
    pub server_name: Option<String>,
    /// The protocols that it would speak, in its order (RFC 7301 3.1).
    pub alpn: Vec<Vec<u8>>,
    /// There is an inner hello that only the server can read (RFC 9849): the name is the outer one.
    pub encrypted: bool,
}

/// What an HTTP client says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The site's name in lower case, without port.
    pub host: Option<String>,
    /// For a redirect: the path and query, to be put behind the host. Nothing where none can be made (`*`, CONNECT).
    pub target: Option<String>,
    /// HTTP/2 with prior knowledge (RFC 9113 3.3).
    pub http2: bool,
}

/// What the first octets of a client come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sniffed {
    /// More is needed.
    More,
    /// A whole ClientHello.
    Tls(ClientHello),
    /// A whole head of a request, or of HTTP/2's first header block.
    Http(Request),
    /// Not to be served.
    Bad(Bad),
}

/// Why a client is not served, whatever sites there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bad {
    /// Neither of the protocols that the listener takes.
    Protocol,
    /// TLS: lengths that contradict each other, or a ClientHello that cannot be read.
    Hello,
    /// TLS: longer than is read.
    HelloTooLong,
    /// TLS: a server name that is no name (RFC 6066 3).
    ServerName,
    /// HTTP: a head that cannot be read, or in the shapes by which requests are smuggled (RFC 9112 11.2).
    Request,
    /// HTTP: longer than is read.
    RequestTooLong,
    /// HTTP: no host, several, or one that is no name (RFC 9112 3.2).
    Host,
}

/// The protocol of a client, as far as it is known: whoever answers needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// Not known, or none that is read here: there are no words to refuse such a client with.
    #[default]
    Unknown,
    /// TLS.
    Tls,
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 in clear.
    Http2 {
        /// The stream of the first request; 0 if there was none yet.
        stream: u32,
    },
}

/// Reads what one client sends first. Make a new one for each connection; it is small and has nothing on the heap.
#[derive(Debug, Clone)]
pub struct Sniffer {
    tls: bool,
    http: bool,
    hello_octets: usize,
    head_octets: usize,
    progress: Progress,
}

/// How far the octets were looked at.
#[derive(Debug, Clone, Copy)]
enum Progress {
    Unknown,
    /// Neither.
    Other,
    Tls(tls::Records),
    Http1(http1::Lines),
    Http2(http2::Frames),
}

impl Sniffer {
    /// For a client of a listener that takes TLS, HTTP, or both. Of `limits`, `hello_octets` and `head_octets` count.
    #[must_use]
    pub fn new(tls: bool, http: bool, limits: &Limits) -> Self {
        // RFC 8446 4: no more fits in a handshake message of interest; the limit of the configuration is never higher.
        let hello_octets = limits.hello_octets.min(HELLO_OCTETS);
        Self { tls, http, hello_octets, head_octets: limits.head_octets, progress: Progress::Unknown }
    }

    /// The protocol, as far as the octets until now tell. Who speaks none that is taken here is answered in the one that
    /// is, if it is one.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match &self.progress {
            Progress::Other if !self.http => Protocol::Tls,
            Progress::Other if !self.tls => Protocol::Http1,
            Progress::Unknown | Progress::Other => Protocol::Unknown,
            Progress::Tls(_) => Protocol::Tls,
            Progress::Http1(_) => Protocol::Http1,
            Progress::Http2(frames) => Protocol::Http2 { stream: frames.stream() },
        }
    }

    /// Looks at `octets`: everything that the client has sent, from its first octet on. After [`Sniffed::More`], come
    /// again with more of them; after anything else, do not. What is found depends on the octets only, never on how
    /// they were cut.
    pub fn more(&mut self, octets: &[u8]) -> Sniffed {
        if let Progress::Unknown = self.progress {
            match self.told_apart(octets) {
                Ok(Some(progress)) => self.progress = progress,
                Ok(None) => return Sniffed::More,
                Err(bad) => {
                    self.progress = Progress::Other;
                    return Sniffed::Bad(bad);
                }
            }
        }
        match &mut self.progress {
            Progress::Unknown => Sniffed::More,
            Progress::Other => Sniffed::Bad(Bad::Protocol),
            Progress::Tls(records) => records.more(octets, self.hello_octets),
            Progress::Http1(lines) => lines.more(octets, self.head_octets),
            Progress::Http2(frames) => frames.more(octets, self.head_octets),
        }
    }

    /// The protocol by its first octets. Nothing: they are too few.
    fn told_apart(&self, octets: &[u8]) -> Result<Option<Progress>, Bad> {
        let Some(first) = octets.first() else { return Ok(None) };
        match *first {
            tls::HANDSHAKE if self.tls => Ok(Some(Progress::Tls(tls::Records::default()))),
            // RFC 9112 2.2: an empty line may come ahead of a request; RFC 9110 9.1: a method is a token.
            octet if self.http && (octet == b'\r' || http1::is_token(octet)) => {
                let seen = octets.len().min(http2::PREFACE.len());
                Ok(if octets[..seen] != http2::PREFACE[..seen] {
                    Some(Progress::Http1(http1::Lines::default()))
                } else if seen == http2::PREFACE.len() {
                    Some(Progress::Http2(http2::Frames::default()))
                } else {
                    None
                })
            }
            _ => Err(Bad::Protocol),
        }
    }
}

/// No ClientHello of more octets is read, whatever the configuration says.
pub const HELLO_OCTETS: usize = 65_536;
