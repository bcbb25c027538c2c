//! DNS over TCP (RFC 7766), to clients and to upstreams, on `smoltcp`.
//!
//! ```text
//!  segment -> its ends -> connection: shift -> smoltcp socket -> framing -> Event::Message
//!               |                                  ^                            |
//!               | none                             +-- backlog <--- send <------+
//!               v
//!             SYN: answered with a cookie, nothing kept (RFC 4987 3.6)
//!             ACK of a cookie: a connection, if there is room, or an idle one to give way
//!             else: reset (RFC 9293 3.10.7.1)
//! ```
//! One stack serves all connections; each has a socket of its own. `smoltcp` chooses its sequence numbers itself: we
//! shift them, so that the wire sees the cookie (to clients) or an unforeseeable number (to upstreams). What RFC 5961
//! says of resets and SYNs inside a connection is seen to before `smoltcp` sees the segment.
//!
//! Nothing is larger than 1,280 octets, the least that every IPv6 link carries, so that no path is too narrow; over
//! IPv4 routers may fragment. The send buffer is below the initial window of RFC 6928, there is no congestion control
//! beyond it and the retransmission timer (RFC 6298).
//!
//! Not here: window scaling, timestamps, selective acknowledgements, TCP Fast Open, EDNS keepalive (RFC 7828).

mod connection;
mod cookie;
mod framing;
mod streams;

pub use streams::Streams;

use causeway_core::{Counter, Counters, Duration, Egress};
use std::net::SocketAddr;

/// Octets of the largest packet that is sent: the smallest MTU of IPv6 (RFC 8200 5).
pub const MTU: usize = 1280;
/// Octets of the longest message that is taken from a client. Longer ones would be no questions.
pub const LONGEST_QUESTION: usize = 4096;
/// Connections to upstreams at a worker, at most.
pub const OUTGOING: usize = 256;
/// Octets that wait to be sent at a connection, at most; a connection that would have more is reset.
pub const BACKLOG: usize = 256 * 1024;
/// Octets that wait to be sent at all connections of a worker together, at most.
pub const BACKLOG_ALL: usize = 16 * 1024 * 1024;
/// Octets of memory that a connection holds while nothing waits to be sent, at most: to a client.
pub const SERVER_OCTETS: usize = 20 * 1024;
/// The same, to an upstream.
pub const CLIENT_OCTETS: usize = 96 * 1024;
/// How long a connection to an upstream may take to be opened.
pub const OPENING: Duration = Duration::from_secs(10);
/// How long a message may take to be acknowledged after it was handed to [`Streams::send`].
pub const SENDING: Duration = Duration::from_secs(20);
/// How long a question may go without an answer until its connection counts as idle in spite of it.
pub const ANSWERING: Duration = Duration::from_secs(30);
/// How long the other end may take to close its half after we have closed ours.
pub const CLOSING: Duration = Duration::from_secs(5);

/// A connection, until [`Event::Closed`] tells that it is none any more. Later uses are refused, also if its place was
/// taken by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conn {
    slot: u32,
    generation: u32,
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// A client of ours: we are asked.
    Server,
    /// We did: an upstream is asked.
    Client,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection to an upstream is open.
    Connected {
        /// Which.
        conn: Conn,
    },
    /// A message came. From a client, it is to be followed by [`Streams::send`] or [`Streams::unanswered`] for the same
    /// connection: only so many of its messages are handed on before.
    Message {
        /// On which connection.
        conn: Conn,
        /// Who opened it.
        side: Side,
        /// Our end.
        local: SocketAddr,
        /// The other end. A link-local address has the number of its interface, and one, as scope.
        remote: SocketAddr,
        /// The message without its length: at least a header of 12 octets.
        octets: Vec<u8>,
    },
    /// A connection is none any more, through no call of [`Streams::close`]. Comes once for each.
    Closed {
        /// Which.
        conn: Conn,
        /// Who opened it.
        side: Side,
        /// Why.
        why: Why,
    },
}

/// Why a connection is none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The other end closed it, and has all answers.
    Peer,
    /// The other end reset it, or did not want it.
    Reset,
    /// It could not be opened in time.
    Timeout,
    /// It was idle (RFC 7766 6.2.3).
    Idle,
    /// It was idle and another needed its place.
    Evicted,
    /// The other end sends or reads too slowly.
    Slow,
    /// What came was no DNS message, or one that is too long.
    BadMessage,
    /// [`Streams::retain`] took it away.
    Gone,
}

/// Why a connection cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// There are as many as there may be.
    #[error("there are as many connections to upstreams as there may be")]
    Full,
    /// There is one between these ends already.
    #[error("there is a connection between these addresses and ports")]
    InUse,
    /// No connection can have these ends.
    #[error("no connection can have these addresses and ports")]
    Unaddressable,
}

/// Why a message cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is none any more.
    #[error("the connection is closed")]
    Closed,
    /// It is shorter than a header or longer than 65,535 octets.
    #[error("no message has this length")]
    Length,
    /// The other end does not read what it was sent; the connection was reset.
    #[error("the other end does not read what it was sent")]
    Slow,
}

/// What is to be done after a call, in order.
#[derive(Debug, Default)]
pub struct Output {
    /// Packets to be sent, beginning with the IP header.
    pub packets: Vec<(Egress, Vec<u8>)>,
    /// What happened.
    pub events: Vec<Event>,
    /// What is to be counted, once for each entry.
    pub counts: Vec<Counter>,
}

impl Output {
    /// Counts what is to be counted.
    pub fn count(&mut self, counters: &Counters) {
        for counter in self.counts.drain(..) {
            counters.add(counter, 1);
        }
    }
}

#[cfg(test)]
mod tests;
