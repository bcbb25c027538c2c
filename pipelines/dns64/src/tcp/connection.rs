//! One connection: a socket of `smoltcp`, messages in and out of it, and by when what has to happen.

use super::framing::{FramingError, Reader};
use super::{ANSWERING, BACKLOG, CLOSING, LONGEST_QUESTION, OPENING, SENDING, Side};
use causeway_core::{Duration, Egress, Instant};
use causeway_tcp::{Ends, Head, Segment, Stack, segment};
use causeway_wire::l4::tcp::{ACK, FIN, RST, SYN};
use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use std::collections::VecDeque;

/// Octets of the receive and the send buffer of a connection of a client.
pub(super) const SERVER_BUFFERS: (usize, usize) = (4096, 8192);
/// The same of a connection to an upstream.
const CLIENT_BUFFERS: (usize, usize) = (16_384, 4096);
/// The longest message from an upstream.
const LONGEST_ANSWER: usize = 65_535;
/// How soon the stack is looked after again at the soonest.
const TICK: Duration = Duration::from_millis(1);
/// How often a reset or SYN inside a connection is answered (RFC 5961 7).
const CHALLENGES: Duration = Duration::from_secs(1);

/// How far a connection is, as its user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// To an upstream, not yet open; by when it has to be.
    Opening(Instant),
    /// Messages come and go.
    Open,
    /// None any more for its user; by when the other end has to have closed it too.
    Closing(Instant),
    /// Closed by both ends. Kept for what is still on its way (RFC 9293 3.6.1: TIME-WAIT).
    Lingering,
}

/// What a connection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The other end sent a reset.
    Reset,
    /// What came is no DNS.
    BadMessage,
}

/// What is overdue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    Opening,
    Closing,
    Idle,
    Slow,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ends: Ends,
    pub(super) side: Side,
    pub(super) egress: Egress,
    pub(super) phase: Phase,
    /// Whom it counts for, of those who have opened connections to us.
    pub(super) client: Option<u128>,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// What is added to the stack's sequence numbers for the wire.
    shift: u32,
    /// The wire's view of us: what follows the last that was sent, what was acknowledged, and the window.
    sent_end: u32,
    acked: u32,
    window: u16,
    /// Sequence number of the first octet of data from the other end; nothing before its SYN.
    first: Option<u32>,
    /// Octets that were taken from the receive buffer since.
    taken: u32,
    reader: Reader,
    /// What has no room in the send buffer yet.
    backlog: VecDeque<u8>,
    /// Octets handed to be sent, ever, and of each message that is not acknowledged its end in them and since when.
    queued: u64,
    unacked: VecDeque<(u64, Instant)>,
    /// Questions without an answer.
    pub(super) under_way: u16,
    /// When the last message was complete, in either direction.
    exchanged: Instant,
    /// When the first octet of the message came that is not complete.
    begun: Option<Instant>,
    challenged: Option<Instant>,
    /// What is noted of it in the tables of `Streams`.
    pub(super) noted: Noted,
}

/// Where a connection stands in ordered tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) deadline: Option<Instant>,
    pub(super) idle: Option<Instant>,
    /// Octets of `backlog`.
    pub(super) backlog: usize,
}

impl Connection {
    fn new(ends: Ends, side: Side, egress: Egress, phase: Phase, now: Instant) -> Self {
        let (receive, send) = match side {
            Side::Server => SERVER_BUFFERS,
            Side::Client => CLIENT_BUFFERS,
        };
        let mut socket = Socket::new(SocketBuffer::new(vec![0; receive]), SocketBuffer::new(vec![0; send]));
        // A message is written as a whole; nothing is gained by waiting for more.
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(socket);
        Self {
            ends,
            side,
            egress,
            phase,
            client: None,
            sockets,
            handle,
            shift: 0,
            sent_end: 0,
            acked: 0,
            window: 0,
            first: None,
            taken: 0,
            reader: Reader::default(),
            backlog: VecDeque::new(),
            queued: 0,
            unacked: VecDeque::new(),
            under_way: 0,
            exchanged: now,
            begun: None,
            challenged: None,
            noted: Noted::default(),
        }
    }

    /// A connection that a client has opened by acknowledging `ours`, the number that its SYN was answered with.
    /// `theirs` is the number of that SYN. Nothing if the stack would not have it.
    pub(super) fn accepted(
        stack: &mut Stack,
        ends: Ends,
        egress: Egress,
        (theirs, mss, ours): (u32, u16, u32),
        now: Instant,
    ) -> Option<Self> {
        let mut c = Self::new(ends, Side::Server, egress, Phase::Open, now);
        c.sockets.get_mut::<Socket<'_>>(c.handle).listen(ends.local).ok()?;
        // The SYN once more, to the stack alone; its answer tells the number that the stack has chosen.
        let syn = Head { seq: theirs, ack: 0, flags: SYN, window: 0 };
        let packet = segment::emit(ends.remote, ends.local, syn, Some(mss), 0);
        c.give(stack, packet, now);
        c.poll(stack, now);
        let answer = stack.outgoing().pop();
        stack.outgoing().clear();
        let (head, _) = segment::finish(&mut answer?, 0, 0)?;
        c.shift = ours.wrapping_sub(head.seq);
        c.sent_end = ours.wrapping_add(1);
        c.acked = head.ack;
        c.window = head.window;
        c.first = Some(theirs.wrapping_add(1));
        Some(c)
    }

    /// A connection to an upstream whose first number on the wire is `ours`. Its SYN is to be sent. Nothing if the
    /// stack would not have it.
    pub(super) fn connecting(
        stack: &mut Stack,
        ends: Ends,
        egress: Egress,
        ours: u32,
        now: Instant,
    ) -> Option<Self> {
        let mut c = Self::new(ends, Side::Client, egress, Phase::Opening(now + OPENING), now);
        let socket = c.sockets.get_mut::<Socket<'_>>(c.handle);
        stack.connect(socket, ends.local, ends.remote).ok()?;
        c.poll(stack, now);
        let (head, _) = segment::finish(stack.outgoing().last_mut()?, 0, 0)?;
        c.shift = ours.wrapping_sub(head.seq);
        Some(c)
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    /// True until both ends know each other's numbers.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.state(), State::SynSent | State::SynReceived)
    }

    /// True if nothing of it is left in the stack.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state(), State::Closed | State::Listen)
    }

    /// True if both ends have closed it.
    pub(super) fn is_lingering(&self) -> bool {
        self.state() == State::TimeWait
    }

    /// True while messages may be sent.
    pub(super) fn may_send(&self) -> bool {
        matches!(self.state(), State::Established | State::CloseWait)
    }

    /// True if the other end will send nothing more, and all that it sent has been read.
    pub(super) fn is_read_out(&self) -> bool {
        self.sockets.get::<Socket<'_>>(self.handle).recv_queue() == 0 && self.is_half_closed()
    }

    /// True if nothing waits to be moved to the send buffer.
    pub(super) fn is_written_out(&self) -> bool {
        self.backlog.is_empty()
    }

    /// Since when it is of no use to anybody, if it is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Opening(_) => None,
            Phase::Open => (self.under_way == 0 && self.unacked.is_empty()).then_some(self.exchanged),
            // These go first.
            Phase::Closing(_) | Phase::Lingering => Some(Instant::ZERO),
        }
    }

    /// Octets that wait for room in the send buffer.
    pub(super) fn backlog_octets(&self) -> usize {
        self.backlog.len()
    }

    /// Octets of memory that it holds.
    pub(super) fn octets(&self) -> usize {
        let (receive, send) = match self.side {
            Side::Server => SERVER_BUFFERS,
            Side::Client => CLIENT_BUFFERS,
        };
        size_of::<Self>()
            + size_of::<SocketStorage<'_>>()
            + receive
            + send
            + self.reader.octets()
            + self.backlog.capacity()
            + self.unacked.capacity() * size_of::<(u64, Instant)>()
    }

    /// True if the other end has closed its half.
    pub(super) fn is_half_closed(&self) -> bool {
        matches!(self.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait)
    }

    /// What the next octet from the other end is numbered, on the wire.
    pub(super) fn expected(&self) -> u32 {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        let queued = u32::try_from(socket.recv_queue()).unwrap_or(0);
        let fin = u32::from(self.is_half_closed());
        self.first.unwrap_or(0).wrapping_add(self.taken).wrapping_add(queued).wrapping_add(fin)
    }

    /// True if a sequence number is in the window that the other end was told.
    pub(super) fn is_in_window(&self, seq: u32) -> bool {
        let end = self.acked.wrapping_add(u32::from(self.window));
        !segment::before(seq, self.expected()) && segment::before(seq, end)
    }

    /// The segment that a SYN or reset in the connection is answered with, if it is time for one (RFC 5961 3.2, 4.2): who
    /// has lost the connection will answer it with a reset that is right.
    pub(super) fn challenge(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.challenged.is_some_and(|last| now.since(last) < CHALLENGES) {
            return None;
        }
        self.challenged = Some(now);
        let head = Head { seq: self.sent_end, ack: self.acked, flags: ACK, window: self.window };
        Some(segment::emit(self.ends.local, self.ends.remote, head, None, 0))
    }

    /// Gives the stack a segment.
    pub(super) fn receive(&mut self, stack: &mut Stack, segment: &Segment<'_>, now: Instant) {
        let alone = self.state() == State::SynSent;
        let packet = segment::for_stack(&self.ends, segment.octets, self.shift);
        self.give(stack, packet, now);
        if alone && self.state() != State::SynSent && segment.head.has(SYN) {
            self.first = Some(segment.head.seq.wrapping_add(1));
        }
        let held = self.sockets.get::<Socket<'_>>(self.handle).send_queue();
        let acked = self.queued.saturating_sub(u64::try_from(held + self.backlog.len()).unwrap_or(u64::MAX));
        while self.unacked.front().is_some_and(|&(end, _)| end <= acked) {
            self.unacked.pop_front();
        }
    }

    fn give(&mut self, stack: &mut Stack, packet: Vec<u8>, now: Instant) {
        stack.give(self.ends.local.ip(), &mut self.sockets, packet, now);
    }

    fn poll(&mut self, stack: &mut Stack, now: Instant) {
        stack.poll(self.ends.local.ip(), &mut self.sockets, now);
    }

    /// Takes a message that is complete, if there is one and no more than `pipelined` of this side are under way.
    pub(super) fn next_message(&mut self, pipelined: u16, now: Instant) -> Result<Option<Vec<u8>>, End> {
        let longest = match self.side {
            Side::Server => LONGEST_QUESTION,
            Side::Client => LONGEST_ANSWER,
        };
        // RFC 7766 6.2.1.1 lets clients send many questions at once. They stay in the receive buffer, and the window
        // closes, while as many as we take are under way or their answers are not read.
        let open = self.phase == Phase::Open;
        if self.side == Side::Server && open && (self.under_way >= pipelined || !self.backlog.is_empty()) {
            return Ok(None);
        }
        loop {
            let (reader, socket) = (&mut self.reader, self.sockets.get_mut::<Socket<'_>>(self.handle));
            if socket.recv_queue() == 0 || !socket.can_recv() {
                return Ok(None);
            }
            let result = socket.recv(|octets| {
                if !open {
                    return (octets.len(), Ok((octets.len(), None)));
                }
                match reader.take(octets, longest) {
                    Ok((taken, message)) => (taken, Ok((taken, message))),
                    Err(e) => (octets.len(), Err(e)),
                }
            });
            let (taken, message) = match result {
                Ok(Ok(got)) => got,
                Ok(Err(FramingError::TooShort | FramingError::TooLong)) => return Err(End::BadMessage),
                Err(_) => return Ok(None),
            };
            self.taken = self.taken.wrapping_add(u32::try_from(taken).unwrap_or(0));
            if let Some(message) = message {
                self.begun = None;
                self.exchanged = now;
                match self.side {
                    Side::Server => self.under_way = self.under_way.saturating_add(1),
                    Side::Client => self.under_way = self.under_way.saturating_sub(1),
                }
                return Ok(Some(message));
            }
            if self.reader.is_inside() && self.begun.is_none() {
                self.begun = Some(now);
            }
            if taken == 0 {
                return Ok(None);
            }
        }
    }

    /// True if a message of `octets` may be handed to be sent.
    pub(super) fn has_room(&self, octets: usize) -> bool {
        self.backlog.len() + octets + 2 <= BACKLOG
    }

    /// Hands a message to be sent.
    pub(super) fn queue(&mut self, message: &[u8], now: Instant) {
        // RFC 7766 8: length and message go out together.
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        self.backlog.extend(length.to_be_bytes());
        self.backlog.extend(message);
        self.queued += u64::try_from(message.len() + 2).unwrap_or(0);
        self.unacked.push_back((self.queued, now));
        self.exchanged = now;
        match self.side {
            Side::Server => self.under_way = self.under_way.saturating_sub(1),
            Side::Client => self.under_way = self.under_way.saturating_add(1),
        }
    }

    /// A question gets no answer.
    pub(super) fn unanswered(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.exchanged = now;
    }

    /// Moves what waits into the send buffer as far as it has room.
    pub(super) fn fill(&mut self) {
        if !self.may_send() || self.backlog.is_empty() {
            return;
        }
        loop {
            let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
            let sent = socket.send_slice(self.backlog.as_slices().0).unwrap_or(0);
            if sent == 0 {
                break;
            }
            self.backlog.drain(..sent);
        }
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
    }

    /// Lets the stack send. What is to go out is left in it.
    pub(super) fn flush(&mut self, stack: &mut Stack, now: Instant) {
        self.poll(stack, now);
    }

    /// What the stack has to send, ready for the wire. `id` gives Identifications.
    pub(super) fn packets(
        &mut self,
        stack: &mut Stack,
        mut id: impl FnMut() -> u16,
        mut send: impl FnMut(Vec<u8>),
    ) {
        for mut packet in stack.outgoing().drain(..) {
            let Some((head, end)) = segment::finish(&mut packet, self.shift, id()) else { continue };
            if !head.has(RST) {
                if head.has(ACK) {
                    self.acked = head.ack;
                }
                self.window = head.window;
                if head.has(SYN | FIN) || segment::before(self.sent_end, end) || self.sent_end == 0 {
                    self.sent_end = end;
                }
            }
            send(packet);
        }
    }

    /// Closes our half, behind what is in the send buffer. It is none any more for its user.
    pub(super) fn close(&mut self, now: Instant) {
        self.phase = Phase::Closing(now + CLOSING);
        self.reader = Reader::default();
        self.backlog = VecDeque::new();
        self.unacked = VecDeque::new();
        self.socket().close();
    }

    /// Ends it with a reset.
    pub(super) fn abort(&mut self) {
        self.socket().abort();
    }

    /// By when something of this level has to happen, and what it means if it has not.
    fn due(&self, idle: Duration) -> (Instant, Overdue) {
        match self.phase {
            Phase::Opening(by) => (by, Overdue::Opening),
            Phase::Closing(by) => (by, Overdue::Closing),
            // The stack knows.
            Phase::Lingering => (Instant::from_micros(u64::MAX), Overdue::Closing),
            Phase::Open => {
                let allowed = if self.under_way > 0 { idle.max(ANSWERING) } else { idle };
                let quiet = (self.exchanged + allowed, Overdue::Idle);
                // What others send little by little is no exchange, nor is what they do not read.
                let writing = self.begun.map(|since| (since + idle, Overdue::Slow));
                let reading = self.unacked.front().map(|&(_, since)| (since + SENDING, Overdue::Slow));
                [writing, reading].into_iter().flatten().min_by_key(|&(by, _)| by).unwrap_or(quiet)
            }
        }
    }

    /// What is overdue.
    pub(super) fn overdue(&self, idle: Duration, now: Instant) -> Option<Overdue> {
        let (by, what) = self.due(idle);
        (by <= now).then_some(what)
    }

    /// When it is to be looked after next.
    pub(super) fn deadline(&mut self, stack: &mut Stack, idle: Duration, now: Instant) -> Instant {
        let own = self.due(idle).0;
        match stack.poll_at(self.ends.local.ip(), &self.sockets, now) {
            None => own,
            Some(at) => own.min(at.max(now + TICK)),
        }
    }
}
