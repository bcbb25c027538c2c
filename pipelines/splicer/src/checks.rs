//! The connections by which servers are found to be up. One worker opens them; what another receives for one is handed
//! over, since each has an entry in the flow table while it lasts (`Kind::Local`, under its inside key).
//!
//! Nothing waits for them: a check costs a few segments, is reset as soon as it has told what it can, and there are no
//! more than [`UNDER_WAY`] at once.

use crate::config::Config;
use crate::peek::opening::own_source;
use crate::site::Server;
use crate::site::health::{Action, CheckId, Checker, UNDER_WAY, tls};
use causeway_core::{Counter, Ctx, DropReason, Duration, Frame, FrameSource, Instant, Packet, Verdict};
use causeway_flowtable::{
    Created, Ctl, Fate, Guard, InsideKey, Kind, Mapping, NewKey, NewSession, OWN_ADDRESS, Session, Sweeper,
    Tick,
};
use causeway_tcp::Stack;
use causeway_tcp::segment::{self, Ends};
use causeway_wire::ethernet;
use causeway_wire::l4::PROTO_TCP;
use crossbeam::queue::SegQueue;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Weak};

/// The longest packet of a check: the least MTU of IPv6 (RFC 8200 5).
const MTU: usize = 1280;
/// Octets of a check's receive and send buffer: an answer's first octets, and a ClientHello.
const BUFFERS: (usize, usize) = (64, 512);
/// Ports that checks come from, and how many of them are tried.
const PORTS: std::ops::Range<u16> = 32_768..61_000;
const PORT_TRIES: usize = 8;
/// How often the connections of checks are looked after: retransmissions need no more.
const LOOKED_AFTER: Duration = Duration::from_millis(20);

/// A connection of a check.
#[derive(Debug)]
struct Visit {
    id: CheckId,
    key: InsideKey,
    ends: Ends,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    tls: bool,
    said: bool,
}

/// The checks of a gateway, at one of its workers.
#[derive(Debug)]
pub struct Checks {
    checker: Checker,
    stack: Stack,
    visits: Vec<Visit>,
    random: StdRng,
    looked_after: Instant,
}

/// Ends the entries of checks; nothing else hangs on them.
struct Forget;

impl Sweeper for Forget {
    fn judge(&mut self, _: &Session<'_>, _: Ctl, _: Tick) -> Fate {
        Fate::Keep
    }
    fn session_ended(&mut self, _: &Session<'_>) {}
    fn mapping_ended(&mut self, _: &Mapping<'_>) {}
}

impl Checks {
    /// Checks of the servers that appear in `fresh`. `seed` has to be unforeseeable.
    #[must_use]
    pub fn new(fresh: Arc<SegQueue<Weak<Server>>>, seed: [u8; 32]) -> Self {
        let mut random = StdRng::from_seed(seed);
        Self {
            checker: Checker::new(fresh, random.random()),
            stack: Stack::new(random.random(), MTU),
            visits: Vec::new(),
            random,
            looked_after: Instant::ZERO,
        }
    }

    /// True if this is a connection of a check.
    #[must_use]
    pub fn is_one(session: &Session<'_>) -> bool {
        session.kind() == Kind::Local && session.inside_key().is_some_and(|k| k.prefix >= OWN_ADDRESS)
    }

    /// What is due. Costs next to nothing while no check is.
    pub fn tick<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>, config: &Config) {
        let (actions, changes) = self.checker.tick(ctx.now);
        for action in actions {
            match action {
                Action::Connect { id, to, tls } => {
                    // That we have no room for it says nothing of the server: else a flood that fills the flow
                    // table would take all of them down.
                    if !self.open(ctx, guard, config, id, to, tls) {
                        self.checker.undecided(id, ctx.now);
                    }
                }
                Action::Abandon { id } => {
                    if let Some(at) = self.visits.iter().position(|v| v.id == id) {
                        self.close(ctx, guard, at);
                    }
                }
            }
        }
        for change in changes {
            note(ctx, change.up);
        }
        if ctx.now.since(self.looked_after) >= LOOKED_AFTER {
            self.looked_after = ctx.now;
            for at in (0..self.visits.len()).rev() {
                self.look_after(ctx, guard, at);
            }
        }
    }

    /// Gives up all that are under way, without a word, and takes nothing from it.
    pub fn leave(&mut self, guard: &Guard<'_>) {
        for visit in self.visits.drain(..) {
            self.checker.undecided(visit.id, Instant::ZERO);
            if let Some(session) = guard.lookup(&visit.key).hit() {
                guard.end(&session, &mut Forget);
            }
        }
    }

    /// A segment from a server, of a check of this worker's.
    pub fn receive<F: Frame, S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        session: &Session<'_>,
        packet: &Packet<F>,
    ) -> Verdict {
        let key = session.inside_key();
        let Some(at) = self.visits.iter().position(|v| Some(v.key) == key) else {
            // Of a stage that was here before.
            guard.end(session, &mut Forget);
            return Verdict::Drop(DropReason::SpliceCheckOver);
        };
        let Ok(segment) = segment::parse(packet.bytes(), packet.meta.ingress) else {
            return Verdict::Drop(DropReason::SpliceBadSegment);
        };
        let visit = &mut self.visits[at];
        let stacked = segment::for_stack(&visit.ends, segment.octets, 0);
        self.stack.give(visit.ends.local.ip(), &mut visit.sockets, stacked, ctx.now);
        self.look_after(ctx, guard, at);
        Verdict::Consume
    }

    /// Opens a connection. False if there is no way.
    fn open<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        config: &Config,
        id: CheckId,
        to: SocketAddrV6,
        tls: bool,
    ) -> bool {
        let Some((own, key)) = self.reserve(ctx, guard, config, to) else { return false };
        let buffers = (SocketBuffer::new(vec![0; BUFFERS.0]), SocketBuffer::new(vec![0; BUFFERS.1]));
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(Socket::new(buffers.0, buffers.1));
        let ends = Ends { local: own, remote: SocketAddr::V6(to) };
        self.visits.push(Visit { id, key, ends, sockets, handle, tls, said: false });
        let at = self.visits.len() - 1;
        let visit = &mut self.visits[at];
        let socket = visit.sockets.get_mut::<Socket<'_>>(handle);
        if self.stack.connect(socket, ends.local, ends.remote).is_err() {
            self.close(ctx, guard, at);
            return false;
        }
        ctx.counters.add(Counter::SpliceChecks, 1);
        self.flush(ctx, at);
        true
    }

    /// An address and port of ours that no other connection to `to` has, and an entry in the flow table for it.
    fn reserve<S: FrameSource>(
        &mut self,
        ctx: &Ctx<'_, S>,
        guard: &Guard<'_>,
        config: &Config,
        to: SocketAddrV6,
    ) -> Option<(SocketAddr, InsideKey)> {
        if self.visits.len() >= UNDER_WAY {
            return None;
        }
        // From where its connections come.
        let (prefix, own) = own_source(config, *to.ip())?;
        for _ in 0..PORT_TRIES {
            let port = self.random.random_range(PORTS);
            let key = InsideKey {
                src6: to.ip().to_bits(),
                dst4: 0,
                src_port: to.port(),
                dst_port: port,
                protocol: PROTO_TCP,
                prefix,
            };
            let new = NewSession {
                key: NewKey::Inside(key),
                kind: Kind::Local,
                owner: u8::try_from(ctx.worker).ok()?,
                subscriber: 0,
                plan_generation: config.generation,
                state: 0,
                flags: 0,
                tick: Tick::at(ctx.now),
                aux: 0,
            };
            if let Ok(Created::Fresh(_)) = guard.create_single(&new) {
                return Some((SocketAddr::new(IpAddr::V6(own), port), key));
            }
        }
        None
    }

    /// Lets a connection send, and sees how far it is.
    fn look_after<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>, at: usize) {
        let Some(visit) = self.visits.get_mut(at) else { return };
        let socket = visit.sockets.get_mut::<Socket<'_>>(visit.handle);
        let result = match socket.state() {
            State::SynSent | State::SynReceived => None,
            State::Closed | State::Listen | State::TimeWait => Some(false),
            _ if !visit.tls => Some(true),
            _ => {
                if !visit.said {
                    let _ = socket.send_slice(&tls::hello(self.random.random()));
                    visit.said = true;
                }
                let mut seen = [0; BUFFERS.0];
                let octets = socket.peek_slice(&mut seen).unwrap_or(0);
                let answer = tls::is_answer(&seen[..octets]);
                if answer.is_none() && !socket.may_recv() { Some(false) } else { answer }
            }
        };
        match result {
            None => self.flush(ctx, at),
            Some(success) => {
                let id = visit.id;
                self.close(ctx, guard, at);
                if let Some(change) = self.checker.result(id, success, ctx.now) {
                    note(ctx, change.up);
                }
            }
        }
    }

    /// Resets a connection and forgets it.
    fn close<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>, at: usize) {
        if let Some(visit) = self.visits.get_mut(at) {
            visit.sockets.get_mut::<Socket<'_>>(visit.handle).abort();
        }
        self.flush(ctx, at);
        let visit = self.visits.swap_remove(at);
        if let Some(session) = guard.lookup(&visit.key).hit() {
            guard.end(&session, &mut Forget);
        }
    }

    /// Sends what the stack has to say.
    fn flush<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, at: usize) {
        let Some(visit) = self.visits.get_mut(at) else { return };
        self.stack.poll(visit.ends.local.ip(), &mut visit.sockets, ctx.now);
        let IpAddr::V6(to) = visit.ends.remote.ip() else { return };
        while let Some(mut octets) = self.stack.outgoing().pop() {
            // A check sends one segment at a time: their order is no matter.
            if segment::finish(&mut octets, 0, 0).is_some() {
                send(ctx, to, &octets);
            }
            self.stack.give_back(octets);
        }
    }
}

/// Counts a change of a server's standing.
fn note<S: FrameSource>(ctx: &Ctx<'_, S>, up: bool) {
    ctx.counters.add(if up { Counter::SpliceServersUp } else { Counter::SpliceServersDown }, 1);
}

fn send<S: FrameSource>(ctx: &mut Ctx<'_, S>, to: std::net::Ipv6Addr, octets: &[u8]) {
    let Some(egress) = ctx.routes.lookup6(to) else { return ctx.counters.drop(DropReason::NoRoute) };
    let Some(mut packet) = ctx.originate() else { return };
    if packet.frame.push_back(octets.len()).is_err() {
        return ctx.counters.drop(DropReason::NoHeadroom);
    }
    packet.bytes_mut().copy_from_slice(octets);
    let m = &mut packet.meta;
    (m.ethertype, m.protocol, m.l4) = (ethernet::ETHERTYPE_IPV6, PROTO_TCP, 40);
    ctx.send(packet, egress);
}

#[cfg(test)]
mod tests;
