//! A connection that is not spliced yet, or never will be, and how far it is.

use super::cookie::{Agreed, Pair};
use super::side::{self, Side};
use crate::hello::Sniffer;
use crate::site::{Order, Target};
use causeway_core::{Duration, Instant};
use causeway_tcp::segment;

/// Octets of a server that are kept until the splice, at most: what it was told as its window, and a segment.
pub(super) const HELD: usize = 16 * 1024;
/// Octets that each connection counts at least: what one with a hello of a usual size needs until it is spliced. They
/// are taken when it is accepted, so that only those that want more can find that there is no more.
pub(super) const RESERVED: usize = size_of::<Connection>() + 2 * side::OCTETS + 4096;
/// How long a client may take to read an answer and to close.
const CLOSING: Duration = Duration::from_secs(5);

/// How far a connection is.
///
/// ```text
///  Hello -> Connecting -> Handover -> (spliced)
///    |          |  ^ next     +-----> Relay, where something cannot be matched
///    +----------+--> Answer
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client has not said yet where it wants to go; since when it is open, and when its first octet came.
    Hello(Instant, Option<Instant>),
    /// A server is asked; since when.
    Connecting(Instant),
    /// The server is sent what is ahead of the splice; since when.
    Handover(Instant),
    /// Terminated for good; when something came last.
    Relay(Instant),
    /// The client is told why not, and the connection closed; since when.
    Answer(Instant),
}

/// What is overdue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    FirstOctet,
    Hello,
    Connect,
    Handover,
    Idle,
    Closing,
}

impl Phase {
    /// By when something has to happen, and what it means if it has not.
    pub(super) fn due(self, t: &crate::config::Timeouts) -> (Instant, Overdue) {
        match self {
            Self::Hello(since, None) => (since + t.first_octet, Overdue::FirstOctet),
            Self::Hello(_, Some(first)) => (first + t.hello, Overdue::Hello),
            Self::Connecting(since) => (since + t.connect, Overdue::Connect),
            Self::Handover(since) => (since + t.handover, Overdue::Handover),
            Self::Relay(last) => (last + t.terminated, Overdue::Idle),
            Self::Answer(since) => (since + CLOSING, Overdue::Closing),
        }
    }
}

/// Octets that wait to be sent, from `at` on.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) octets: Vec<u8>,
    pub(super) at: usize,
}

impl Queue {
    pub(super) const fn is_empty(&self) -> bool {
        self.at == self.octets.len()
    }

    /// Hands to `side` what it has room for.
    pub(super) fn pour(&mut self, side: &mut Side) {
        while !self.is_empty() {
            let sent = side.send(&self.octets[self.at..]);
            if sent == 0 {
                return;
            }
            self.at += sent;
        }
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) pair: Pair,
    pub(super) agreed: Agreed,
    pub(super) phase: Phase,
    pub(super) client: Side,
    pub(super) server: Option<Side>,
    pub(super) sniffer: Sniffer,
    /// Where the timestamps that the client sees stand, and since when: see [`Connection::clock`].
    pub(super) clock: (u32, Instant),
    /// What the client was told as the largest segment.
    pub(super) told: u16,
    /// What the client has sent until its site was known.
    pub(super) hello: Vec<u8>,
    /// Identity header and hello, on their way to the server.
    pub(super) to_server: Queue,
    /// Octets of the identity header.
    pub(super) header: u32,
    /// An answer, on its way to the client.
    pub(super) to_client: Queue,
    /// What the server has sent ahead of the splice, and whether it has closed behind that.
    pub(super) held: Vec<u8>,
    pub(super) held_fin: bool,
    /// The server has agreed to selective acknowledgements.
    pub(super) server_sack: bool,
    pub(super) target: Option<Target>,
    pub(super) order: Option<Order>,
    pub(super) tries: usize,
    /// What is noted of it: when it is looked after, and how many octets it counts.
    pub(super) timer: Option<Instant>,
    pub(super) counted: usize,
}

impl Connection {
    /// Octets of memory that it holds, or that are kept for it.
    pub(super) fn octets(&self) -> usize {
        let sides = 1 + usize::from(self.server.is_some());
        let all = size_of::<Self>()
            + sides * side::OCTETS
            + self.hello.capacity()
            + self.to_server.octets.capacity()
            + self.to_client.octets.capacity()
            + self.held.capacity();
        all.max(RESERVED)
    }

    /// The timestamp of a segment to the client (RFC 7323 3.2). It stands still until there is a server, and goes by
    /// the server's from then on: whatever the client echoes later is then an echo of something that the server has
    /// said. Where the connection stays terminated, it goes by ours.
    pub(super) fn clock(&self, now: Instant) -> u32 {
        let (base, since) = self.clock;
        let gone = match (&self.phase, &self.server) {
            (Phase::Relay(_), _) => super::clock(now).wrapping_sub(super::clock(since)),
            (_, Some(Side { ts_recent, ts_first: Some(first), .. })) => ts_recent.wrapping_sub(*first),
            _ => 0,
        };
        let value = base.wrapping_add(gone);
        if segment::before(value, self.client.ts_value) { self.client.ts_value } else { value }
    }

    /// True if nothing is left that would have to be sent by us again: see [`Phase::Handover`].
    pub(super) fn is_ready(&self) -> bool {
        let Some(server) = &self.server else { return false };
        let client = self.client.sockets.socket();
        matches!(self.phase, Phase::Handover(_))
            && self.to_server.is_empty()
            && client.recv_queue() == 0
            && server.is_acknowledged()
            && (!self.client.is_half_closed() || server_has_fin(server))
    }
}

fn server_has_fin(server: &Side) -> bool {
    use smoltcp::socket::tcp::State;
    matches!(server.state(), State::FinWait2 | State::TimeWait | State::Closed)
}
