//! What the first octets of a client say about where it wants to go.

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
