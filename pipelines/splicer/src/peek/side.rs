//! One of the two TCP connections of a client that is not spliced yet: a socket of `smoltcp` behind a shifter.
//!
//! ```text
//!  wire:    number + shift | windows scaled  | timestamps, SACK
//!  smoltcp: number         | at most 65,535  | none
//! ```
//! The shifter checks what `smoltcp` does not: timestamps (RFC 7323 5), and who may reset (RFC 5961 3).

use causeway_core::{Duration, Instant};
use causeway_tcp::options::{self, Options};
use causeway_tcp::{Ends, Head, Segment, Stack, segment};
use causeway_wire::l4::tcp::{self, ACK, FIN, RST, SYN};
use causeway_wire::{ipv4, ipv6, put16, put32};
use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};

/// Octets of the receive buffer of each side. Larger ones would not make connections that stay terminated faster: where
/// much is under way at once, the stack waits ever longer for what is lost or late (it selects nothing, keeps few pieces
/// that are out of order, and does not take its patience back before it measures anew).
pub(super) const RECEIVE: usize = 8192;
/// Octets of the send buffer of each side.
pub(super) const SEND: usize = 8192;
/// Octets of memory that a side holds.
pub(super) const OCTETS: usize = RECEIVE + SEND + size_of::<Side>() + 512;
/// How far an acknowledgement may be behind what was sent: more than the largest window (RFC 5961 5.2).
const OLDEST: u32 = 1 << 17;
/// How often a reset or SYN inside a connection is answered (RFC 5961 7).
const CHALLENGES: Duration = Duration::from_secs(1);

/// A socket in a set of its own, to be used again when its connection has ended: nothing is allocated or cleared for a
/// new one.
pub(super) struct Sockets {
    set: SocketSet<'static>,
    handle: SocketHandle,
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sockets").finish_non_exhaustive()
    }
}

impl Sockets {
    pub(super) fn new() -> Self {
        let socket = Socket::new(SocketBuffer::new(vec![0; RECEIVE]), SocketBuffer::new(vec![0; SEND]));
        let mut set = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = set.add(socket);
        Self { set, handle }
    }

    pub(super) fn socket(&self) -> &Socket<'static> {
        self.set.get(self.handle)
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }
}

/// What a segment is, before the stack sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// To be given to it.
    Good,
    /// A reset that ends the connection.
    Reset,
    /// Not to be believed; to be answered, if it is time for that, with where the connection is (RFC 5961 3.2, 4.2).
    Challenge,
    /// An old duplicate by its timestamp (RFC 7323 5.3 R1), or without one: answered in the same way.
    Old,
    /// Data behind the end that was declared (RFC 9293 3.10.7.4), or a SYN-ACK that fits nothing.
    Bad,
}

#[derive(Debug)]
pub(super) struct Side {
    pub(super) ends: Ends,
    pub(super) sockets: Sockets,
    /// What is added to the stack's sequence numbers for the wire.
    pub(super) shift: u32,
    /// Our first number, and the other end's (nothing before its SYN).
    pub(super) ours: u32,
    pub(super) theirs: Option<u32>,
    /// Scale of the windows that come, and of those that go.
    pub(super) scale_in: u8,
    pub(super) scale_out: u8,
    /// What the other end wants in every segment, and its latest timestamp; the first one, if it is a server.
    pub(super) timestamps: bool,
    pub(super) ts_recent: u32,
    pub(super) ts_first: Option<u32>,
    /// Our timestamp of the last segment.
    pub(super) ts_value: u32,
    /// The wire's view of us: what follows the last that was sent, what was acknowledged, and the window in octets.
    pub(super) sent_end: u32,
    pub(super) acked: u32,
    pub(super) window: u32,
    /// The last window that the other end offered, in octets.
    pub(super) their_window: u32,
    /// Octets that were taken from the receive buffer.
    taken: u32,
    /// From here on the right edge of the window stays where it is.
    pub(super) frozen: Option<u32>,
    challenged: Option<Instant>,
}

/// What a SYN of ours offers, or is answered with.
pub(super) type Offer = Options;

impl Side {
    fn new(ends: Ends, sockets: Sockets) -> Self {
        Self {
            ends,
            sockets,
            shift: 0,
            ours: 0,
            theirs: None,
            scale_in: 0,
            scale_out: 0,
            timestamps: false,
            ts_recent: 0,
            ts_first: None,
            ts_value: 0,
            sent_end: 0,
            acked: 0,
            window: 0,
            their_window: 0,
            taken: 0,
            frozen: None,
            challenged: None,
        }
    }

    /// A connection that a client has opened by acknowledging `ours`, the number that its SYN (`theirs`) was answered
    /// with; `mss` is the data of the largest segment to it. Gives the sockets back if the stack would not have it.
    pub(super) fn accepted(
        stack: &mut Stack,
        sockets: Sockets,
        ends: Ends,
        (theirs, mss, ours): (u32, u16, u32),
        now: Instant,
    ) -> Result<Self, Sockets> {
        let mut side = Self::new(ends, sockets);
        let socket = side.sockets.socket_mut();
        socket.abort();
        socket.set_nagle_enabled(false);
        if socket.listen(ends.local).is_err() {
            return Err(side.sockets);
        }
        // The SYN once more, to the stack alone; its answer tells the number that the stack has chosen.
        stack.outgoing().clear();
        let syn = Head { seq: theirs, ack: 0, flags: SYN, window: 0 };
        let mut packet = stack.buffer();
        write(&mut packet, &ends, syn, Some(mss), &[]);
        stack.give(ends.local.ip(), &mut side.sockets.set, packet, now);
        stack.poll(ends.local.ip(), &mut side.sockets.set, now);
        let answer = stack.outgoing().pop();
        stack.outgoing().clear();
        let Some(head) = answer.as_deref().and_then(head_of) else { return Err(side.sockets) };
        if let Some(answer) = answer {
            stack.give_back(answer);
        }
        side.shift = ours.wrapping_sub(head.seq);
        side.ours = ours;
        side.theirs = Some(theirs);
        side.sent_end = ours.wrapping_add(1);
        side.acked = theirs.wrapping_add(1);
        side.window = u32::from(head.window);
        Ok(side)
    }

    /// A connection to a server whose first number on the wire is `ours`. Its SYN is to be sent.
    pub(super) fn connecting(
        stack: &mut Stack,
        sockets: Sockets,
        ends: Ends,
        ours: u32,
        now: Instant,
    ) -> Result<Self, Sockets> {
        let mut side = Self::new(ends, sockets);
        let socket = side.sockets.socket_mut();
        socket.abort();
        socket.set_nagle_enabled(false);
        stack.outgoing().clear();
        if stack.connect(socket, ends.local, ends.remote).is_err() {
            return Err(side.sockets);
        }
        stack.poll(ends.local.ip(), &mut side.sockets.set, now);
        let Some(head) = stack.outgoing().last().and_then(|p| head_of(p)) else { return Err(side.sockets) };
        side.shift = ours.wrapping_sub(head.seq);
        side.ours = ours;
        side.sent_end = ours.wrapping_add(1);
        Ok(side)
    }

    pub(super) fn state(&self) -> State {
        self.sockets.socket().state()
    }

    /// True until both ends know each other's numbers.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.state(), State::SynSent | State::SynReceived)
    }

    /// True if nothing of it is left to be done: closed, or only waiting for duplicates.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state(), State::Closed | State::Listen | State::TimeWait)
    }

    /// True if the other end has closed its half.
    pub(super) fn is_half_closed(&self) -> bool {
        matches!(self.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait)
    }

    /// True if the other end will send nothing more, and all that it sent has been read.
    pub(super) fn is_read_out(&self) -> bool {
        (self.is_half_closed() || self.state() == State::Closed) && self.sockets.socket().recv_queue() == 0
    }

    /// True if the other end has acknowledged everything that it was sent, our FIN included if there is one.
    pub(super) fn is_acknowledged(&self) -> bool {
        let fin_open = matches!(self.state(), State::FinWait1 | State::Closing | State::LastAck);
        !self.is_opening() && self.sockets.socket().send_queue() == 0 && !fin_open
    }

    /// What the next octet from the other end is numbered, on the wire.
    pub(super) fn expected(&self) -> u32 {
        let queued = u32::try_from(self.sockets.socket().recv_queue()).unwrap_or(0);
        let fin = u32::from(self.is_half_closed());
        let first = self.theirs.unwrap_or(0).wrapping_add(1);
        first.wrapping_add(self.taken).wrapping_add(queued).wrapping_add(fin)
    }

    /// True if this number is in the window that the other end was told.
    pub(super) fn is_in_window(&self, seq: u32) -> bool {
        let end = self.acked.wrapping_add(self.window.max(1));
        !segment::before(seq, self.expected()) && segment::before(seq, end)
    }

    /// Looks at a segment before the stack does. `expected` is the next number that would be in order.
    pub(super) fn judge(&mut self, segment: &Segment<'_>, options: &Options, expected: u32) -> Judged {
        let head = segment.head;
        if self.state() == State::SynSent {
            if head.has(ACK) && head.ack != self.sent_end {
                return Judged::Bad;
            }
            // RFC 9293 3.10.7.3: a reset counts if it acknowledges our SYN. Nobody opens from both ends.
            return match (head.has(RST), head.has(SYN), head.has(ACK)) {
                (true, _, true) => Judged::Reset,
                (false, true, true) => Judged::Good,
                _ => Judged::Bad,
            };
        }
        if head.has(SYN) {
            return Judged::Challenge;
        }
        if head.has(RST) {
            // RFC 5961 3.2: who only knows where the window is does not end the connection.
            // An end that has lost all takes the number from our last acknowledgement, which may be behind what has come.
            return if head.seq == expected || head.seq == self.acked {
                Judged::Reset
            } else if self.is_in_window(head.seq) {
                Judged::Challenge
            } else {
                Judged::Bad
            };
        }
        if !head.has(ACK) {
            return Judged::Bad;
        }
        // RFC 5961 5.2: what was never sent cannot be acknowledged, and nobody is so far behind.
        let oldest = self.sent_end.wrapping_sub(OLDEST);
        if segment::before(self.sent_end, head.ack) || segment::before(head.ack, oldest) {
            return Judged::Challenge;
        }
        if self.timestamps {
            // RFC 7323 3.2: agreed to, it is in every segment.
            let Some((value, _)) = options.timestamps else { return Judged::Old };
            if segment::before(value, self.ts_recent) {
                return Judged::Old;
            }
            // RFC 7323 4.3 (2), of segments that are in the window alone (5.3 R2): a stranger's guess would make everything
            // that comes after it look old.
            let touches = head.seq == self.acked || segment::before(self.acked, segment.end());
            if touches && !segment::before(self.acked, head.seq) {
                self.ts_recent = value;
            }
        }
        if self.is_half_closed() && segment.data > 0 && segment::before(expected, segment.end()) {
            return Judged::Bad;
        }
        Judged::Good
    }

    /// The segment that a SYN or reset in the connection is answered with, if it is time for one: who has lost the
    /// connection will answer it with a reset that is right.
    pub(super) fn challenge(&mut self, clock: u32, now: Instant) -> Option<Vec<u8>> {
        if self.challenged.is_some_and(|last| now.since(last) < CHALLENGES) {
            return None;
        }
        self.challenged = Some(now);
        Some(self.bare_ack(clock))
    }

    /// A segment that says where we are.
    pub(super) fn bare_ack(&mut self, clock: u32) -> Vec<u8> {
        let head = Head { seq: self.sent_end, ack: self.acked, flags: ACK, window: self.scaled(self.window) };
        self.ts_value = clock;
        let options =
            Options { timestamps: self.timestamps.then_some((clock, self.ts_recent)), ..Options::default() };
        let mut packet = Vec::new();
        emit(&mut packet, &self.ends, head, &options, &[], 0);
        packet
    }

    fn scaled(&self, octets: u32) -> u16 {
        // Rounded up: a small window must not become none.
        let unit = 1u32 << self.scale_out;
        u16::try_from(octets.div_ceil(unit)).unwrap_or(u16::MAX)
    }

    /// Gives the stack a segment, as `(head, data)`. Window scale is applied here.
    pub(super) fn give(
        &mut self,
        stack: &mut Stack,
        head: Head,
        mss: Option<u16>,
        data: &[u8],
        now: Instant,
    ) {
        // What was left there by a connection that has ended is nobody's.
        stack.outgoing().clear();
        let scale = if head.has(SYN) { 0 } else { self.scale_in };
        self.their_window = u32::from(head.window) << scale;
        let window = u16::try_from(self.their_window).unwrap_or(u16::MAX);
        let mut head = head;
        let mut data = data;
        // The scale may have made more of the window than there is: a FIN behind octets that are cut off is not to be seen.
        if !head.has(SYN) {
            let room = self.acked.wrapping_add(self.window).wrapping_sub(head.seq);
            let room = if room < 1 << 31 { usize::try_from(room).unwrap_or(0) } else { 0 };
            if data.len() > room && room > 0 {
                data = &data[..room];
                head.flags &= !FIN;
            }
        }
        let head = Head { ack: head.ack.wrapping_sub(self.shift), window, ..head };
        let mut packet = stack.buffer();
        write(&mut packet, &self.ends, head, mss, data);
        stack.give(self.ends.local.ip(), &mut self.sockets.set, packet, now);
    }

    /// Lets the stack send, and hands what it sends on, ready for the wire.
    pub(super) fn flush(
        &mut self,
        stack: &mut Stack,
        offer: Option<&Offer>,
        clock: u32,
        now: Instant,
        mut send: impl FnMut(&[u8]),
    ) {
        stack.poll(self.ends.local.ip(), &mut self.sockets.set, now);
        if stack.outgoing().is_empty() {
            return;
        }
        let mut out = stack.buffer();
        let mut list = std::mem::take(stack.outgoing());
        for packet in list.drain(..) {
            if let Some((mut head, data)) = parts(&packet) {
                head.seq = head.seq.wrapping_add(self.shift);
                let syn = head.has(SYN);
                let mut options = Options::default();
                if syn {
                    options = offer.copied().unwrap_or_default();
                }
                if !syn && self.timestamps {
                    options.timestamps = Some((clock, self.ts_recent));
                }
                if let Some((value, _)) = options.timestamps {
                    self.ts_value = value;
                }
                if !head.has(RST) {
                    let mut window = u32::from(head.window);
                    if let Some(edge) = self.frozen.filter(|_| head.has(ACK)) {
                        let left = edge.wrapping_sub(head.ack);
                        window = if left < 1 << 30 { window.min(left) } else { 0 };
                    }
                    if head.has(ACK) {
                        self.acked = head.ack;
                    }
                    self.window = window;
                    if !syn {
                        head.window = self.scaled(window);
                    }
                    let control = u32::from(syn) + u32::from(head.has(FIN));
                    let end =
                        head.seq.wrapping_add(control).wrapping_add(u32::try_from(data.len()).unwrap_or(0));
                    if segment::before(self.sent_end, end) {
                        self.sent_end = end;
                    }
                }
                emit(&mut out, &self.ends, head, &options, data, super::low16(head.seq ^ clock));
                send(&out);
            }
            stack.give_back(packet);
        }
        *stack.outgoing() = list;
        stack.give_back(out);
    }

    /// Reads what has come: `f` gets octets and says how many it has taken.
    pub(super) fn read(&mut self, mut f: impl FnMut(&[u8]) -> usize) -> usize {
        let mut all = 0;
        loop {
            let socket = self.sockets.socket_mut();
            if socket.recv_queue() == 0 || !socket.can_recv() {
                return all;
            }
            let taken = socket.recv(|octets| {
                let n = f(octets).min(octets.len());
                (n, n)
            });
            let Ok(taken @ 1..) = taken else { return all };
            self.taken = self.taken.wrapping_add(u32::try_from(taken).unwrap_or(0));
            all += taken;
        }
    }

    /// Hands octets to be sent; says how many there was room for.
    pub(super) fn send(&mut self, octets: &[u8]) -> usize {
        self.sockets.socket_mut().send_slice(octets).unwrap_or(0)
    }

    pub(super) fn close(&mut self) {
        self.sockets.socket_mut().close();
    }

    /// When the stack wants to be polled.
    pub(super) fn poll_at(&self, stack: &mut Stack, now: Instant) -> Option<Instant> {
        stack.poll_at(self.ends.local.ip(), &self.sockets.set, now)
    }
}

/// The header and the data of a packet that the stack wrote.
fn parts(packet: &[u8]) -> Option<(Head, &[u8])> {
    let at = if packet.first()? >> 4 == 6 { ipv6::HEADER } else { ipv4::HEADER };
    let t = packet.get(at..).filter(|t| t.len() >= tcp::HEADER)?;
    let header = usize::from(t[tcp::DATA_OFFSET] >> 4) * 4;
    let head = Head {
        seq: causeway_wire::be32(t, tcp::SEQ),
        ack: causeway_wire::be32(t, tcp::ACK_NO),
        flags: t[tcp::FLAGS],
        window: causeway_wire::be16(t, tcp::WINDOW),
    };
    Some((head, t.get(header..)?))
}

fn head_of(packet: &[u8]) -> Option<Head> {
    parts(packet).map(|(head, _)| head)
}

/// The packet that the stack is given: no options but the size of segments, no checksum.
fn write(packet: &mut Vec<u8>, ends: &Ends, head: Head, mss: Option<u16>, data: &[u8]) {
    let options = Options { mss, ..Options::default() };
    body(packet, (ends.remote, ends.local), head, &options, data);
}

/// A packet of ours for the wire. `id` is the Identification over IPv4.
pub(super) fn emit(packet: &mut Vec<u8>, ends: &Ends, head: Head, options: &Options, data: &[u8], id: u16) {
    body(packet, (ends.local, ends.remote), head, options, data);
    segment::finish(packet, 0, id);
}

fn body(
    packet: &mut Vec<u8>,
    (from, to): (std::net::SocketAddr, std::net::SocketAddr),
    head: Head,
    options: &Options,
    data: &[u8],
) {
    let header = tcp::HEADER + options.octets();
    let length = header + data.len();
    segment::ip_header(packet, from.ip(), to.ip(), length);
    let at = packet.len() - length;
    let t = &mut packet[at..];
    put16(t, 0, from.port());
    put16(t, 2, to.port());
    put32(t, tcp::SEQ, head.seq);
    put32(t, tcp::ACK_NO, if head.has(ACK) { head.ack } else { 0 });
    t[tcp::DATA_OFFSET] = u8::try_from((header / 4) << 4).unwrap_or(0x50);
    t[tcp::FLAGS] = head.flags;
    put16(t, tcp::WINDOW, head.window);
    options.emit(&mut t[tcp::HEADER..header]);
    t[header..].copy_from_slice(data);
}

/// Octets of data that fit beside options into a segment of `mss` octets.
pub(super) fn data_octets(mss: u16, timestamps: bool) -> u16 {
    mss.saturating_sub(if timestamps { options::TIMESTAMPS as u16 } else { 0 }).max(48)
}
