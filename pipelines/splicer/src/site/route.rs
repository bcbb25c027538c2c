//! Where a connection goes, by what its client has said: a pure function of the configuration, the table and the first
//! octets.
//!
//! ```text
//!  neither TLS nor HTTP is taken ----------------------------------> default site
//!  TLS:  server name known -> first ALPN rule that fits -----------> its servers, else those of the site
//!  HTTP: host known -> redirect (but for ACME challenges) | -------> servers of the site
//!  no name, or one that is not known ------------------------------> default site, else refused in the client's protocol
//! ```

use super::{Backend, Entry, Identity, Order, Server, SiteTable, check};
use crate::config::{Config, Listener};
use crate::hello::{Bad, ClientHello, Request, Sniffed};
use causeway_core::{Counter, Instant};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;

/// Where challenges of HTTP-01 are (RFC 8555 8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Where a connection goes.
#[derive(Debug, Clone)]
pub enum Route {
    /// To one of a set of servers.
    To(Target),
    /// Nowhere: the client is told to come back by `https:`.
    Redirect {
        /// The name that it asked for.
        host: String,
        /// Path and query.
        target: String,
        /// In the words of HTTP/2.
        http2: bool,
    },
    /// Nowhere.
    Answer(Reason),
}

/// Why a connection goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It named no site, and there is no default one.
    NoName,
    /// It named a site that is not known, and there is no default one.
    UnknownName,
    /// The same with an encrypted hello (RFC 9849), the name of which only its server could read.
    UnknownOuterName,
    /// No server of its set may get connections now.
    NoServer,
    /// The site's servers want to see clients under a client prefix that is not configured.
    NoClientPrefix,
    /// Its first octets are not to be served.
    Bad(Bad),
}

/// What a client that goes nowhere is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Words {
    /// A fatal alert of TLS with this description (RFC 8446 6).
    Alert(u8),
    /// A response of HTTP with this status.
    Status {
        /// The status.
        status: u16,
        /// In the words of HTTP/2.
        http2: bool,
    },
    /// Nothing: its protocol is not known.
    Silence,
}

/// Descriptions of alerts (RFC 8446 6, RFC 6066 3).
mod alert {
    pub(super) const DECODE_ERROR: u8 = 50;
    pub(super) const INTERNAL_ERROR: u8 = 80;
    pub(super) const UNRECOGNIZED_NAME: u8 = 112;
}

impl Reason {
    /// What the client is told, given what it said.
    #[must_use]
    pub fn words(self, said: &Sniffed) -> Words {
        let status = |status| Words::Status { status, http2: false };
        match (self, said) {
            // RFC 6066 3: a name that the server does not recognise. A hello without any cannot be served either.
            (Self::NoName | Self::UnknownName | Self::UnknownOuterName, Sniffed::Tls(_)) => {
                Words::Alert(alert::UNRECOGNIZED_NAME)
            }
            (Self::NoServer | Self::NoClientPrefix, Sniffed::Tls(_)) => Words::Alert(alert::INTERNAL_ERROR),
            // RFC 9110 15.5.20: whoever named a site came to the wrong place. Without a name there is nothing here.
            (Self::UnknownName | Self::UnknownOuterName, Sniffed::Http(r)) => {
                Words::Status { status: 421, http2: r.http2 }
            }
            (Self::NoName, Sniffed::Http(r)) => Words::Status { status: 404, http2: r.http2 },
            (Self::NoServer | Self::NoClientPrefix, Sniffed::Http(r)) => {
                Words::Status { status: 503, http2: r.http2 }
            }
            (Self::Bad(Bad::Hello | Bad::HelloTooLong), _) => Words::Alert(alert::DECODE_ERROR),
            (Self::Bad(Bad::ServerName), _) => Words::Alert(alert::UNRECOGNIZED_NAME),
            // RFC 9112 3.2: no host, or more than one, is a bad request.
            (Self::Bad(Bad::Request | Bad::Host), _) => status(400),
            // RFC 6585 5.
            (Self::Bad(Bad::RequestTooLong), _) => status(431),
            (Self::Bad(Bad::Protocol), _) | (_, Sniffed::More | Sniffed::Bad(_)) => Words::Silence,
        }
    }

    /// What counts it.
    #[must_use]
    pub const fn counter(self) -> Counter {
        match self {
            Self::NoName => Counter::SpliceNoName,
            Self::UnknownName => Counter::SpliceUnknownName,
            Self::UnknownOuterName => Counter::SpliceUnknownOuterName,
            Self::NoServer => Counter::SpliceNoServer,
            Self::NoClientPrefix => Counter::SpliceNoClientPrefix,
            Self::Bad(Bad::Protocol) => Counter::SpliceBadProtocol,
            Self::Bad(Bad::Hello) => Counter::SpliceBadHello,
            Self::Bad(Bad::HelloTooLong) => Counter::SpliceHelloTooLong,
            Self::Bad(Bad::ServerName) => Counter::SpliceBadServerName,
            Self::Bad(Bad::Request) => Counter::SpliceBadRequest,
            Self::Bad(Bad::RequestTooLong) => Counter::SpliceRequestTooLong,
            Self::Bad(Bad::Host) => Counter::SpliceBadHost,
        }
    }
}

/// A set of servers, and how they are told who the client is.
#[derive(Debug, Clone)]
pub struct Target {
    /// The site.
    pub entry: Arc<Entry>,
    /// The rule for ALPN that fits, by its number; nothing for the site's servers for everybody.
    pub rule: Option<u8>,
    /// The client did not ask for this site.
    pub by_default: bool,
    /// Where connections to servers come from, if the client's address is in it: [`Identity::Embedded`]. Nothing: from the
    /// gateway's own address.
    pub source: Option<Ipv6Addr>,
}

impl Target {
    /// How its servers are told who the client is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.entry.site.identity
    }

    /// The order in which its servers are tried for one connection; `seed` is chance.
    #[must_use]
    pub fn order(&self, now: Instant, seed: u64) -> Order {
        let (backends, servers) = self.entry.set(self.rule);
        Order::new(backends, servers, now, seed)
    }

    /// The server of this number in an [`Order`].
    #[must_use]
    pub fn server(&self, number: u8) -> Option<(&Backend, &Arc<Server>)> {
        let (backends, servers) = self.entry.set(self.rule);
        let n = usize::from(number);
        Some((backends.get(n)?, servers.get(n)?))
    }

    /// The address and port of the server of this number, for connections to this port of a listener.
    #[must_use]
    pub fn address(&self, number: u8, listener: u16) -> Option<SocketAddrV6> {
        let (backend, _) = self.server(number)?;
        Some(SocketAddrV6::new(backend.address, backend.port(listener), 0, 0))
    }
}

impl Route {
    /// What counts it; nothing for a connection to the site that it named.
    #[must_use]
    pub const fn counter(&self) -> Option<Counter> {
        match self {
            Self::To(Target { by_default: false, .. }) => None,
            Self::To(_) => Some(Counter::SpliceDefaultSite),
            Self::Redirect { .. } => Some(Counter::SpliceRedirected),
            Self::Answer(reason) => Some(reason.counter()),
        }
    }
}

/// Where a connection to `listener` goes, whose client at this IPv4 address has said `said`. [`Sniffed::More`] stands for a
/// client that has said nothing yet, which only listeners for neither TLS nor HTTP can serve.
#[must_use]
pub fn route(config: &Config, listener: &Listener, table: &SiteTable, said: &Sniffed, client: u32) -> Route {
    let by_default = |why: Reason| {
        let entry = listener.default_site.as_deref().and_then(|name| table.get(name));
        entry.map(|entry| (entry, true)).ok_or(why)
    };
    let named = |name: Option<&str>, unknown: Reason| match name {
        None => by_default(Reason::NoName),
        Some(name) => table.find(name).map_or_else(|| by_default(unknown), |entry| Ok((entry, false))),
    };
    let found = match said {
        _ if !listener.tls && !listener.http => by_default(Reason::NoName).map(|found| (found, None)),
        Sniffed::Tls(hello) => {
            let unknown = if hello.encrypted { Reason::UnknownOuterName } else { Reason::UnknownName };
            named(hello.server_name.as_deref(), unknown).map(|found| (found, rule(found.0, hello)))
        }
        Sniffed::Http(request) => {
            // An address names the listener and no site (RFC 9110 4.2.3 does not tell them apart; certificates and tables do).
            let host = request.host.as_deref().filter(|h| !is_address(h));
            named(host, Reason::UnknownName).map(|found| (found, None))
        }
        Sniffed::Bad(bad) => Err(Reason::Bad(*bad)),
        Sniffed::More => by_default(Reason::NoName).map(|found| (found, None)),
    };
    let ((entry, by_default), rule) = match found {
        Ok(found) => found,
        Err(reason) => return Route::Answer(reason),
    };
    if let Sniffed::Http(request) = said
        && let Some(redirect) = redirect(listener, entry, request)
    {
        return redirect;
    }
    let source = match entry.site.identity {
        Identity::Embedded(place) => {
            let prefix = config.client_prefixes.get(usize::from(place)).copied().flatten();
            let Some(prefix) = prefix else { return Route::Answer(Reason::NoClientPrefix) };
            // RFC 6052 2.2: with 96 bits of prefix the address is the last 32.
            Some(Ipv6Addr::from_bits(prefix.address().to_bits() & !0xffff_ffff | u128::from(client)))
        }
        _ => None,
    };
    let (backends, servers) = entry.set(rule);
    let usable = |(b, s): (&Backend, &Arc<Server>)| !b.draining && b.weight > 0 && s.is_up();
    if !backends.iter().zip(servers).any(usable) {
        return Route::Answer(Reason::NoServer);
    }
    Route::To(Target { entry: Arc::clone(entry), rule, by_default, source })
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()
}

/// The first rule for a protocol that the client would speak. The site's order counts, as a server's does (RFC 7301 3.2).
fn rule(entry: &Entry, hello: &ClientHello) -> Option<u8> {
    let at = entry.site.alpn.iter().position(|(protocol, _)| hello.alpn.contains(protocol))?;
    u8::try_from(at).ok().filter(|_| at < check::ALPN_RULES)
}

/// A redirect, if the site or else the listener wants it, the request has a target that can be had elsewhere, and it is no
/// challenge of ACME.
fn redirect(listener: &Listener, entry: &Entry, request: &Request) -> Option<Route> {
    if !entry.site.redirect.unwrap_or(listener.redirect) {
        return None;
    }
    let (host, target) = (request.host.as_ref()?, request.target.as_ref()?);
    // RFC 8555 8.3: the server that asked for the certificate has to see it, whoever is redirected otherwise.
    if target.starts_with(CHALLENGES) {
        return None;
    }
    Some(Route::Redirect { host: host.clone(), target: target.clone(), http2: request.http2 })
}

#[cfg(test)]
mod tests;
