//! Sites: which names lead to which servers.
//!
//! ```text
//!  control: Site -> Servers -> Entry --with--> SiteTable --ArcSwap--> workers: route -> Target -> Order of servers
//!                      |
//!                      +-> Checker (one worker) -> connections of its own -> Server: up or down
//! ```

pub mod balance;
pub mod check;
pub mod health;
pub mod name;
pub mod route;
pub mod server;
pub mod table;

pub use balance::Order;
pub use check::SiteError;

pub use health::{Action, Checker};
pub use route::{Reason, Route, Target, route};
pub use server::{Server, Servers};
pub use table::{Entry, SiteTable};

use causeway_core::Duration;
use std::net::Ipv6Addr;

/// A site as control has it, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// What clients ask for: a name in lower case, A-labels only, without a dot at its end; or `*.` and a name, for all
    /// names below it at any depth. The longest that fits counts, and an exact one before all.
    pub name: String,
    /// Where its connections go.
    pub backends: Vec<Backend>,
    /// Other servers for some clients, by the first protocol of theirs that is listed here (ALPN, RFC 7301), in this
    /// order. Never empty sets of servers.
    pub alpn: Vec<(Vec<u8>, Vec<Backend>)>,
    /// How servers are told who the client is.
    pub identity: Identity,
    /// HTTP requests are redirected to `https:`; nothing: as the listener does.
    pub redirect: Option<bool>,
    /// How its servers are found to be up.
    pub health: Health,
}

/// A server of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its address.
    pub address: Ipv6Addr,
    /// Ports: of the listener, and of the server for it. A listener's port that is not here is the server's too.
    pub ports: Vec<(u16, u16)>,
    /// Its part of new connections, among the servers of its set: 0 to 1000; 0 gets none.
    pub weight: u16,
    /// It gets no new connections; those that it has go on.
    pub draining: bool,
}

/// How a server is told who the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Identity {
    /// It is not told: connections come from an address of the gateway.
    #[default]
    None,
    /// A line of text ahead of everything (PROXY protocol version 1).
    Proxy1,
    /// A binary header ahead of everything (PROXY protocol version 2), with TLVs for SNI and ALPN.
    Proxy2,
    /// The source address of its connections is the client's, in the configuration's client prefix of this place
    /// (RFC 6052 2.2).
    Embedded(u8),
}

/// How servers are found to be up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Health {
    /// What is tried.
    pub check: Check,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many in a row that succeed make a server that was down one that is up.
    pub rise: u16,
    /// So many in a row that fail make it one that is down.
    pub fall: u16,
}

/// What is tried at a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Check {
    /// Nothing: it counts as up, but for a short while after it refused a connection.
    #[default]
    None,
    /// A TCP connection to this port.
    Tcp(u16),
    /// The same, and it answers a ClientHello with a record of TLS.
    Tls(u16),
}

impl Check {
    /// The port that is tried.
    #[must_use]
    pub const fn port(self) -> Option<u16> {
        match self {
            Self::None => None,
            Self::Tcp(port) | Self::Tls(port) => Some(port),
        }
    }
}

impl Backend {
    /// The server's port for connections that came to this port of a listener.
    #[must_use]
    pub fn port(&self, listener: u16) -> u16 {
        self.ports.iter().find(|(of, _)| *of == listener).map_or(listener, |(_, port)| *port)
    }
}

impl Default for Health {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { check: Check::None, interval: seconds(5), timeout: seconds(2), rise: 2, fall: 3 }
    }
}
