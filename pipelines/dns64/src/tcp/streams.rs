//! All connections of a worker: who may have one, which segment is whose, and which is looked after when.

use super::connection::{Connection, End, Overdue, Phase, SERVER_BUFFERS};
use super::cookie::Cookies;
use super::{BACKLOG_ALL, Conn, ConnectError, Event, MTU, OUTGOING, Output, SendError, Side, Why};
use crate::config::{PORT, Tcp};
use causeway_core::{Counter, DropReason, Egress, Instant, TokenBucket};
use causeway_tcp::{Bad, Ends, Head, Segment, Stack, keyed_hash, segment};
use causeway_wire::l4::tcp::{self, ACK, RST, SYN};
use causeway_wire::{ipv4, ipv6};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

/// Token buckets of clients that open connections: clients that share one by chance share its tokens.
const BUCKETS: usize = 1024;
/// Connections that a client may open in a second, and at once.
const OPENED: (u32, u32) = (500, 500);
/// Resets sent in a second, and at once.
const RESETS: (u32, u32) = (1000, 1000);
/// Octets of a header and the two octets before it: nobody sends a shorter message.
const SHORTEST: usize = 12;

/// DNS over TCP at one worker: connections of clients, and connections to upstreams.
#[derive(Debug)]
pub struct Streams {
    config: Tcp,
    client_bits: u8,
    stack: Stack,
    cookies: Cookies,
    /// Key and count of what is random.
    random: ((u64, u64), u64),
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_ends: HashMap<Ends, u32>,
    /// The connections of each client, without those that are closing.
    clients: HashMap<u128, Vec<u32>>,
    /// How many there are of each side.
    counts: [usize; 2],
    /// By when which is to be looked after.
    timers: BTreeSet<(Instant, u32)>,
    /// Those of each side that could give way, by since when they have been of no use.
    idle: [BTreeSet<(Instant, u32)>; 2],
    /// Octets of all backlogs.
    backlog: usize,
    opened: Box<[TokenBucket]>,
    resets: TokenBucket,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

const fn side_index(side: Side) -> usize {
    match side {
        Side::Server => 0,
        Side::Client => 1,
    }
}

impl Streams {
    /// Without connections. `client_bits` are the bits of an address that tell clients from each other
    /// ([`crate::config::Limits::client_bits`]). `seed` has to be unforeseeable: cookies and sequence numbers come from
    /// it.
    #[must_use]
    pub fn new(config: &Tcp, client_bits: u8, seed: [u8; 32]) -> Self {
        let (words, _) = seed.as_chunks::<8>();
        let word = |n: usize| u64::from_le_bytes(words[n]);
        let random = (word(2), word(3));
        Self {
            config: config.clone(),
            client_bits: client_bits.clamp(1, 128),
            stack: Stack::new(keyed_hash(random, b"stack"), MTU),
            cookies: Cookies::new((word(0), word(1))),
            random: (random, 0),
            slots: Vec::new(),
            free: Vec::new(),
            by_ends: HashMap::new(),
            clients: HashMap::new(),
            counts: [0; 2],
            timers: BTreeSet::new(),
            idle: [BTreeSet::new(), BTreeSet::new()],
            backlog: 0,
            opened: vec![TokenBucket::new(OPENED.0, OPENED.1); BUCKETS].into_boxed_slice(),
            resets: TokenBucket::new(RESETS.0, RESETS.1),
        }
    }

    /// Takes over other settings. Lower limits hold for new connections.
    pub fn set_config(&mut self, config: &Tcp, client_bits: u8) {
        self.config = config.clone();
        self.client_bits = client_bits.clamp(1, 128);
    }

    /// How many connections there are, closing ones included: of clients, and to upstreams.
    #[must_use]
    pub const fn connections(&self) -> (usize, usize) {
        (self.counts[0], self.counts[1])
    }

    /// Octets of memory that connections hold.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.slots.iter().filter_map(|s| s.connection.as_ref()).map(|c| c.octets()).sum()
    }

    /// Handles a packet with a TCP segment for an address of ours: to port 53, or to a port that a connection was opened
    /// from. `accept` says whether its sender may open connections; `egress` is the way to it.
    ///
    /// # Errors
    /// The reason for which it is dropped. What it is answered with, if anything, is in `out`.
    pub fn receive(
        &mut self,
        packet: &[u8],
        accept: bool,
        egress: Egress,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), DropReason> {
        let segment = segment::parse(packet, egress.interface()).map_err(|bad| match bad {
            Bad::Malformed => DropReason::DnsTcpMalformed,
            Bad::Fragment => DropReason::LocalFragment,
            Bad::Checksum => DropReason::DnsTcpBadChecksum,
        })?;
        if let Some(&slot) = self.by_ends.get(&segment.ends)
            && let Some(c) = self.slots[index(slot)].connection.as_deref_mut()
        {
            c.egress = egress;
            if segment.head.has(SYN) && !c.is_opening() {
                // RFC 9293 3.6.1: a new connection may begin while an old one lingers, if its numbers are beyond.
                let again = c.is_lingering()
                    && !segment.head.has(ACK)
                    && segment::before(c.expected(), segment.head.seq.wrapping_add(1));
                if !again {
                    return Err(self.challenge(slot, now, out));
                }
                self.remove(slot);
            } else if segment.head.has(RST) && !c.is_opening() && segment.head.seq != c.expected() {
                // RFC 5961 3.2: who only knows where the window is does not end the connection.
                if c.is_in_window(segment.head.seq) {
                    return Err(self.challenge(slot, now, out));
                }
                return Err(DropReason::DnsTcpChallenged);
            } else if c.is_half_closed() && segment.data > 0 && segment::before(c.expected(), segment.end()) {
                // RFC 9293 3.10.7.4: nothing is behind the end that it has declared.
                return Err(DropReason::DnsTcpMalformed);
            } else {
                c.receive(&mut self.stack, &segment, now);
                self.look_after(slot, now, out);
                return Ok(());
            }
        }
        self.stray(&segment, accept, egress, now, out)
    }

    /// A segment of no connection.
    fn stray(
        &mut self,
        segment: &Segment<'_>,
        accept: bool,
        egress: Egress,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), DropReason> {
        let Segment { ends, head, .. } = *segment;
        // RFC 9293 3.10.7.1: a reset is not answered.
        if head.has(RST) {
            return Err(DropReason::DnsTcpNoConnection);
        }
        let opens = head.has(SYN) && !head.has(ACK);
        if ends.local.port() != PORT || !head.has(SYN | ACK) || (head.has(SYN) && !opens) {
            self.reset(segment, egress, now, out);
            return Err(DropReason::DnsTcpNoConnection);
        }
        if !accept {
            self.reset(segment, egress, now, out);
            return Err(DropReason::DnsTcpRefused);
        }
        let client = self.client_of(ends.remote.ip());
        if opens {
            if !self.may_open(client, now) {
                return Err(DropReason::DnsTcpClientLimited);
            }
            if let Err(why) = self.room_for(client) {
                self.reset(segment, egress, now, out);
                return Err(why);
            }
            let default = if ends.local.is_ipv6() { MTU - ipv6::HEADER - tcp::HEADER } else { 536 };
            let theirs = segment.mss().filter(|&m| m > 0).unwrap_or(u16::try_from(default).unwrap_or(536));
            let seq = self.cookies.make(&ends, head.seq, theirs, now);
            let window = u16::try_from(SERVER_BUFFERS.0).unwrap_or(u16::MAX);
            let answer = Head { seq, ack: head.seq.wrapping_add(1), flags: SYN | ACK, window };
            let id = self.next_id();
            let packet = segment::emit(ends.local, ends.remote, answer, Some(our_mss(&ends)), id);
            out.packets.push((egress, packet));
            return Ok(());
        }
        let cookie = head.ack.wrapping_sub(1);
        let window = u32::try_from(SERVER_BUFFERS.0).unwrap_or(0);
        let opened = self.cookies.check(&ends, head.seq, cookie, now).filter(|&(theirs, _)| {
            // It can be a later segment than the first, but not one that we would not have let come.
            head.seq.wrapping_sub(theirs.wrapping_add(1)) < window
        });
        let Some((theirs, mss)) = opened else {
            self.reset(segment, egress, now, out);
            return Err(DropReason::DnsTcpNoConnection);
        };
        if let Err(why) = self.room_for(client) {
            self.reset(segment, egress, now, out);
            return Err(why);
        }
        self.make_room(client, now, out);
        let connection = Connection::accepted(&mut self.stack, ends, egress, (theirs, mss, cookie), now);
        let Some(mut connection) = connection else {
            self.reset(segment, egress, now, out);
            return Err(DropReason::DnsTcpMalformed);
        };
        connection.receive(&mut self.stack, segment, now);
        if connection.is_opening() {
            // The stack did not like its options.
            return Err(DropReason::DnsTcpMalformed);
        }
        connection.client = Some(client);
        let slot = self.insert(connection);
        self.clients.entry(client).or_default().push(slot);
        out.counts.push(Counter::DnsTcpAccepted);
        self.look_after(slot, now, out);
        Ok(())
    }

    /// Opens a connection from `local` to the upstream at `remote`; [`Event::Connected`] tells when it is open. Messages
    /// may be sent before.
    ///
    /// # Errors
    /// Why there is none.
    pub fn connect(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        egress: Egress,
        now: Instant,
        out: &mut Output,
    ) -> Result<Conn, ConnectError> {
        let ends = Ends { local, remote };
        if !segment::can_be(&ends) {
            return Err(ConnectError::Unaddressable);
        }
        if let Some(&slot) = self.by_ends.get(&ends) {
            if !self.slots[index(slot)].connection.as_ref().is_some_and(|c| c.is_lingering()) {
                return Err(ConnectError::InUse);
            }
            self.remove(slot);
        }
        let at = side_index(Side::Client);
        if self.counts[at] >= OUTGOING {
            // Only those give way that nobody uses; an upstream's connection that is idle is kept for its next question.
            let closing = self.idle[at].first().filter(|&&(since, _)| since == Instant::ZERO).copied();
            let Some((_, slot)) = closing else { return Err(ConnectError::Full) };
            self.end(slot, None, now, out);
        }
        let ours = self.next_random32();
        let connection = Connection::connecting(&mut self.stack, ends, egress, ours, now);
        let connection = connection.ok_or(ConnectError::Unaddressable)?;
        let slot = self.insert(connection);
        self.look_after(slot, now, out);
        self.conn_of(slot).ok_or(ConnectError::Full)
    }

    /// Hands over a message to be sent: an answer to a client, a question to an upstream.
    ///
    /// # Errors
    /// Why it will not be sent.
    pub fn send(
        &mut self,
        conn: Conn,
        message: &[u8],
        now: Instant,
        out: &mut Output,
    ) -> Result<(), SendError> {
        if message.len() < SHORTEST || message.len() > usize::from(u16::MAX) {
            return Err(SendError::Length);
        }
        let full = self.backlog + message.len() + 2 > BACKLOG_ALL;
        let c = self.of(conn).ok_or(SendError::Closed)?;
        if full || !c.has_room(message.len()) {
            self.end(conn.slot, Some(Why::Slow), now, out);
            return Err(SendError::Slow);
        }
        c.queue(message, now);
        out.counts.push(Counter::DnsTcpSent);
        self.look_after(conn.slot, now, out);
        Ok(())
    }

    /// A message of a client gets no answer.
    pub fn unanswered(&mut self, conn: Conn, now: Instant, out: &mut Output) {
        if let Some(c) = self.of(conn) {
            c.unanswered(now);
            self.look_after(conn.slot, now, out);
        }
    }

    /// Closes a connection: behind what was handed over to be sent if that fits the send buffer, else with a reset.
    /// Nothing more is told of it.
    pub fn close(&mut self, conn: Conn, now: Instant, out: &mut Output) {
        let Some(c) = self.of(conn) else { return };
        if c.is_written_out() && !matches!(c.phase, Phase::Opening(_)) {
            self.begin_closing(conn.slot, now);
            self.look_after(conn.slot, now, out);
        } else {
            self.finish_off(conn.slot, now, out);
        }
    }

    /// An ICMP error told that the other end of these cannot be reached. Only a connection that is being opened is given
    /// up (RFC 5927 5.2).
    pub fn on_unreachable(&mut self, local: SocketAddr, remote: SocketAddr, now: Instant, out: &mut Output) {
        if let Some(&slot) = self.by_ends.get(&Ends { local, remote })
            && self.slots[index(slot)]
                .connection
                .as_ref()
                .is_some_and(|c| matches!(c.phase, Phase::Opening(_)))
        {
            self.end(slot, Some(Why::Reset), now, out);
        }
    }

    /// Forgets, without a packet, the connections whose local address is no longer ours.
    pub fn retain(&mut self, mut ours: impl FnMut(IpAddr) -> bool, out: &mut Output) {
        for slot in 0..u32::try_from(self.slots.len()).unwrap_or(0) {
            let gone = self.slots[index(slot)].connection.as_ref().is_some_and(|c| !ours(c.ends.local.ip()));
            if gone {
                self.tell_closed(slot, Why::Gone, out);
                self.remove(slot);
            }
        }
    }

    /// When [`Streams::poll`] is to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// Looks after connections whose time has come: `most` of them, those that have waited longest. Costs nothing for
    /// others.
    pub fn poll(&mut self, most: usize, now: Instant, out: &mut Output) {
        for _ in 0..most {
            let Some(&(_, slot)) = self.timers.first().filter(|&&(at, _)| at <= now) else { return };
            let idle = self.config.idle;
            let Some(c) = self.slots[index(slot)].connection.as_deref_mut() else {
                self.timers.pop_first();
                continue;
            };
            match c.overdue(idle, now) {
                None => self.look_after(slot, now, out),
                Some(Overdue::Idle) => {
                    out.counts.push(Counter::DnsTcpIdleClosed);
                    self.tell_closed(slot, Why::Idle, out);
                    self.begin_closing(slot, now);
                    self.look_after(slot, now, out);
                }
                Some(Overdue::Slow) => self.end(slot, Some(Why::Slow), now, out),
                Some(Overdue::Opening) => self.end(slot, Some(Why::Timeout), now, out),
                Some(Overdue::Closing) => self.finish_off(slot, now, out),
            }
        }
    }

    /// Reads, writes and sends what can be, and notes when to look again.
    fn look_after(&mut self, slot: u32, now: Instant, out: &mut Output) {
        let Some(conn) = self.conn_of(slot) else { return };
        let pipelined = self.config.pipelined.max(1);
        let Some(c) = self.slots[index(slot)].connection.as_deref_mut() else { return };
        if matches!(c.phase, Phase::Opening(_)) && c.may_send() {
            c.phase = Phase::Open;
            out.counts.push(Counter::DnsTcpOpened);
            out.events.push(Event::Connected { conn });
        }
        let end = loop {
            match c.next_message(pipelined, now) {
                Ok(Some(octets)) => {
                    out.counts.push(Counter::DnsTcpReceived);
                    let (side, Ends { local, remote }) = (c.side, c.ends);
                    out.events.push(Event::Message { conn, side, local, remote, octets });
                }
                Ok(None) if c.is_over() => break Some(End::Reset),
                Ok(None) => break None,
                Err(end) => break Some(end),
            }
        };
        match end {
            None => {}
            Some(End::BadMessage) => {
                out.counts.push(Counter::DnsTcpBadMessage);
                self.end(slot, Some(Why::BadMessage), now, out);
                return;
            }
            Some(End::Reset) => {
                // What the stack has yet to say, say it: it can be over because both ends are done.
                if !matches!(c.phase, Phase::Closing(_) | Phase::Lingering) {
                    out.counts.push(Counter::DnsTcpPeerReset);
                }
                self.send_out(slot, now, out);
                self.tell_closed(slot, Why::Reset, out);
                self.remove(slot);
                return;
            }
        }
        c.fill();
        // RFC 9293 3.10.4: who has closed its half still gets what it asked for.
        let served = c.side == Side::Client || (c.under_way == 0 && c.is_written_out());
        if c.phase == Phase::Open && c.is_read_out() && served {
            self.tell_closed(slot, Why::Peer, out);
            self.begin_closing(slot, now);
        }
        self.send_out(slot, now, out);
        let Some(c) = self.slots[index(slot)].connection.as_deref_mut() else { return };
        if c.is_over() {
            self.tell_closed(slot, Why::Reset, out);
            self.remove(slot);
            return;
        }
        if c.is_lingering() {
            c.phase = Phase::Lingering;
        }
        self.note(slot, now);
    }

    /// Lets a connection send.
    fn send_out(&mut self, slot: u32, now: Instant, out: &mut Output) {
        let (random, stack) = (&mut self.random, &mut self.stack);
        let Some(c) = self.slots[index(slot)].connection.as_deref_mut() else { return };
        c.flush(stack, now);
        let egress = c.egress;
        c.packets(stack, || id_of(random), |packet| out.packets.push((egress, packet)));
    }

    /// Keeps the ordered tables and sums right.
    fn note(&mut self, slot: u32, now: Instant) {
        let idle = self.config.idle;
        let Some(c) = self.slots[index(slot)].connection.as_deref_mut() else { return };
        let deadline = Some(c.deadline(&mut self.stack, idle, now));
        let noted = c.noted;
        if noted.deadline != deadline {
            if let Some(at) = noted.deadline {
                self.timers.remove(&(at, slot));
            }
            self.timers.extend(deadline.map(|at| (at, slot)));
        }
        let since = c.idle_since();
        let table = &mut self.idle[side_index(c.side)];
        if noted.idle != since {
            if let Some(at) = noted.idle {
                table.remove(&(at, slot));
            }
            table.extend(since.map(|at| (at, slot)));
        }
        let backlog = c.backlog_octets();
        self.backlog = self.backlog + backlog - noted.backlog;
        c.noted = super::connection::Noted { deadline, idle: since, backlog };
    }

    /// Ends a connection with a reset, told as `why` to its user.
    fn end(&mut self, slot: u32, why: Option<Why>, now: Instant, out: &mut Output) {
        if let Some(why) = why {
            if why == Why::Slow {
                out.counts.push(Counter::DnsTcpTooSlow);
            }
            self.tell_closed(slot, why, out);
        }
        self.finish_off(slot, now, out);
    }

    /// Resets and forgets a connection.
    fn finish_off(&mut self, slot: u32, now: Instant, out: &mut Output) {
        let Some(c) = self.slots[index(slot)].connection.as_deref_mut() else { return };
        // RFC 9293 3.10.5: nobody has answered yet, or both ends are done: there is nobody to tell.
        if !matches!(c.phase, Phase::Opening(_) | Phase::Lingering) {
            c.abort();
            self.send_out(slot, now, out);
        }
        self.remove(slot);
    }

    /// Our half is closed; the connection is none any more for its user.
    fn begin_closing(&mut self, slot: u32, now: Instant) {
        let Some(c) = self.slots[index(slot)].connection.as_deref_mut() else { return };
        c.close(now);
        self.leave_client(slot);
    }

    /// Tells the user, unless the connection was none for it any more.
    fn tell_closed(&self, slot: u32, why: Why, out: &mut Output) {
        if let (Some(conn), Some(c)) = (self.conn_of(slot), &self.slots[index(slot)].connection)
            && matches!(c.phase, Phase::Open | Phase::Opening(_))
        {
            out.events.push(Event::Closed { conn, side: c.side, why });
        }
    }

    fn insert(&mut self, connection: Connection) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.by_ends.insert(connection.ends, slot);
        self.counts[side_index(connection.side)] += 1;
        self.slots[index(slot)].connection = Some(Box::new(connection));
        slot
    }

    /// Forgets a connection, without telling anybody.
    fn remove(&mut self, slot: u32) {
        self.leave_client(slot);
        let place = &mut self.slots[index(slot)];
        let Some(c) = place.connection.take() else { return };
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
        self.by_ends.remove(&c.ends);
        let at = side_index(c.side);
        self.counts[at] -= 1;
        if let Some(by) = c.noted.deadline {
            self.timers.remove(&(by, slot));
        }
        if let Some(since) = c.noted.idle {
            self.idle[at].remove(&(since, slot));
        }
        self.backlog -= c.noted.backlog;
    }

    /// The connection no longer counts as one of its client's.
    fn leave_client(&mut self, slot: u32) {
        let Some(c) = &self.slots[index(slot)].connection else { return };
        if let Some(client) = c.client
            && let Some(list) = self.clients.get_mut(&client)
        {
            list.retain(|&s| s != slot);
            if list.is_empty() {
                self.clients.remove(&client);
            }
        }
    }

    /// Whether there is, or could be made, room for another connection of a client.
    fn room_for(&self, client: u128) -> Result<(), DropReason> {
        if self.client_is_full(client) {
            // One of its own would give way; then there is room for all as well.
            return self.idlest_of(client).map(|_| ()).ok_or(DropReason::DnsTcpClientFull);
        }
        let at = side_index(Side::Server);
        let full = self.counts[at] >= usize::from(self.config.connections);
        if full && self.idle[at].is_empty() { Err(DropReason::DnsTcpFull) } else { Ok(()) }
    }

    /// Makes it: RFC 7766 6.2.3 lets a server close connections that are idle when it needs their place.
    fn make_room(&mut self, client: u128, now: Instant, out: &mut Output) {
        let at = side_index(Side::Server);
        let own = if self.client_is_full(client) { self.idlest_of(client) } else { None };
        let full = self.counts[at] >= usize::from(self.config.connections);
        let any = if full { self.idle[at].first().map(|&(_, slot)| slot) } else { None };
        if let Some(slot) = own.or(any) {
            let told = out.events.len();
            self.end(slot, Some(Why::Evicted), now, out);
            if out.events.len() > told {
                out.counts.push(Counter::DnsTcpEvicted);
            }
        }
    }

    fn client_is_full(&self, client: u128) -> bool {
        let count = self.clients.get(&client).map_or(0, Vec::len);
        count >= usize::from(self.config.per_client)
    }

    fn idlest_of(&self, client: u128) -> Option<u32> {
        let slots = self.clients.get(&client)?.iter();
        let since = |&slot: &u32| Some((self.slots[index(slot)].connection.as_ref()?.noted.idle?, slot));
        slots.filter_map(since).min().map(|(_, slot)| slot)
    }

    fn client_of(&self, address: IpAddr) -> u128 {
        match address {
            IpAddr::V6(a) => a.to_bits() >> (128 - u32::from(self.client_bits)),
            IpAddr::V4(a) => a.to_ipv6_mapped().to_bits(),
        }
    }

    fn may_open(&mut self, client: u128, now: Instant) -> bool {
        let hash = keyed_hash(self.random.0, &client.to_be_bytes());
        let at = usize::try_from(hash % BUCKETS as u64).unwrap_or(0);
        self.opened[at].take(now)
    }

    /// Answers a segment of no connection with a reset (RFC 9293 3.10.7.1), if not too many were sent.
    fn reset(&mut self, segment: &Segment<'_>, egress: Egress, now: Instant, out: &mut Output) {
        if !self.resets.take(now) {
            out.counts.push(Counter::DnsTcpResetsLimited);
            return;
        }
        let head = if segment.head.has(ACK) {
            Head { seq: segment.head.ack, ack: 0, flags: RST, window: 0 }
        } else {
            Head { seq: 0, ack: segment.end(), flags: RST | ACK, window: 0 }
        };
        let id = self.next_id();
        out.packets.push((egress, segment::emit(segment.ends.local, segment.ends.remote, head, None, id)));
    }

    fn challenge(&mut self, slot: u32, now: Instant, out: &mut Output) -> DropReason {
        if let Some(c) = self.slots[index(slot)].connection.as_deref_mut()
            && let Some(packet) = c.challenge(now)
        {
            out.packets.push((c.egress, packet));
        }
        DropReason::DnsTcpChallenged
    }

    fn conn_of(&self, slot: u32) -> Option<Conn> {
        let place = self.slots.get(index(slot))?;
        place.connection.as_ref()?;
        Some(Conn { slot, generation: place.generation })
    }

    /// A connection that is one for its user.
    fn of(&mut self, conn: Conn) -> Option<&mut Connection> {
        let place = self.slots.get_mut(index(conn.slot))?;
        if place.generation != conn.generation {
            return None;
        }
        let connection = place.connection.as_deref_mut()?;
        matches!(connection.phase, Phase::Open | Phase::Opening(_)).then_some(connection)
    }

    /// Asserts that every table says what the connections say.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        let (mut counts, mut backlog, mut timers) = ([0; 2], 0, BTreeSet::new());
        let (mut idle, mut clients) =
            ([BTreeSet::new(), BTreeSet::new()], HashMap::<u128, BTreeSet<u32>>::new());
        for (n, place) in self.slots.iter().enumerate() {
            let Some(c) = &place.connection else {
                assert!(self.free.iter().any(|&f| index(f) == n));
                continue;
            };
            let slot = u32::try_from(n).unwrap();
            assert_eq!(self.by_ends.get(&c.ends), Some(&slot));
            counts[side_index(c.side)] += 1;
            assert_eq!(c.noted.backlog, c.backlog_octets());
            assert_eq!(c.noted.idle, c.idle_since());
            backlog += c.noted.backlog;
            timers.extend(c.noted.deadline.map(|at| (at, slot)));
            idle[side_index(c.side)].extend(c.noted.idle.map(|at| (at, slot)));
            if c.side == Side::Server && c.phase == Phase::Open {
                clients.entry(c.client.unwrap()).or_default().insert(slot);
            }
        }
        assert_eq!(timers.len(), counts[0] + counts[1]);
        assert_eq!((counts, backlog, self.by_ends.len()), (self.counts, self.backlog, timers.len()));
        assert_eq!(self.free.len() + timers.len(), self.slots.len());
        assert!(timers == self.timers && idle == self.idle);
        let listed = self.clients.iter().map(|(&k, l)| (k, l.iter().copied().collect()));
        assert_eq!(clients, listed.collect());
    }

    fn next_random32(&mut self) -> u32 {
        let r = next_random(&mut self.random);
        u32::try_from(r >> 32).unwrap_or(0)
    }

    fn next_id(&mut self) -> u16 {
        id_of(&mut self.random)
    }
}

/// The largest segment that we take.
fn our_mss(ends: &Ends) -> u16 {
    let header = if ends.local.is_ipv6() { ipv6::HEADER } else { ipv4::HEADER };
    u16::try_from(MTU - header - tcp::HEADER).unwrap_or(536)
}

fn next_random(random: &mut ((u64, u64), u64)) -> u64 {
    random.1 = random.1.wrapping_add(1);
    keyed_hash(random.0, &random.1.to_be_bytes())
}

fn id_of(random: &mut ((u64, u64), u64)) -> u16 {
    u16::try_from(next_random(random) & 0xffff).unwrap_or(0)
}

fn index(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}
