//! The client has said where it wants to go: a server is chosen and asked, or the client is told why not.

use super::connection::{Connection, Phase, Queue};
use super::cookie::Agreed;
use super::side::Side;
use super::side::Sockets;
use super::{Nobody, PORT_TRIES, Peek, Trigger, at_mut, key_of, pair_of_session};
use crate::answer;
use crate::config::{CLIENT_PREFIX, Config, Listener};
use crate::hello::{Protocol, Sniffed};
use crate::identity;
use crate::site::route::Words;
use crate::site::{Identity, Reason, Route, route};
use crate::splice;
use causeway_core::{Counter, Ctx, DropReason, FrameSource, Instant, Verdict};
use causeway_flowtable::{Guard, InsideKey, Lookup, OWN_ADDRESS, Session};
use causeway_tcp::Ends;
use causeway_tcp::options::Options;
use causeway_wire::l4::PROTO_TCP;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

impl Peek {
    /// The client has said where it wants to go, or cannot be served.
    pub(super) fn route<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        slot: u32,
        listener: &Listener,
        said: &Sniffed,
    ) {
        let seed = self.next_random();
        let Some(c) = at_mut(&mut self.slots, slot) else { return };
        let table = self.sites.load();
        let route = route(&self.config, listener, &table, said, c.pair.remote4);
        if let Some(counter) = route.counter() {
            ctx.counters.add(counter, 1);
        }
        let protocol = c.sniffer.protocol();
        let target = match route {
            Route::To(target) => target,
            Route::Redirect { host, target, .. } => {
                tell(c, answer::redirect(&host, &target, protocol), ctx.now);
                return;
            }
            Route::Answer(reason) => {
                let octets = words(reason, said, protocol);
                tell(c, octets, ctx.now);
                return;
            }
        };
        let (name, alpn): (Option<&str>, &[Vec<u8>]) = match said {
            Sniffed::Tls(hello) => (hello.server_name.as_deref(), &hello.alpn),
            Sniffed::Http(request) => (request.host.as_deref(), &[]),
            Sniffed::More | Sniffed::Bad(_) => (None, &[]),
        };
        let socket = |a: u32, port| SocketAddrV4::new(Ipv4Addr::from_bits(a), port);
        let (from, to) = (socket(c.pair.remote4, c.pair.remote_port), socket(c.pair.out4, c.pair.out_port));
        let queue = &mut c.to_server.octets;
        identity::header(target.identity(), from, to, name, alpn, queue);
        c.header = u32::try_from(queue.len()).unwrap_or(0);
        if queue.is_empty() {
            std::mem::swap(queue, &mut c.hello);
        } else {
            queue.extend_from_slice(&c.hello);
            c.hello.clear();
        }
        c.order = Some(target.order(ctx.now, seed));
        c.target = Some(target);
        c.tries = 0;
        // From here on its window does not open further: what it has sent is to be handed over.
        c.client.frozen = Some(c.client.acked.wrapping_add(c.client.window));
        self.connect(ctx, guard, slot);
    }

    /// The server that was tried has failed.
    pub(super) fn next_server<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>, slot: u32) {
        let Some(c) = at_mut(&mut self.slots, slot) else { return };
        if let Some(target) = &c.target
            && let Some(number) = c.order.as_ref().and_then(|o| o.get(c.tries))
            && let Some((_, known)) = target.server(number)
        {
            known.failed(ctx.now);
        }
        c.tries += 1;
        let pair = c.pair;
        if let Some(server) = c.server.take() {
            self.keep(server.sockets);
        }
        // A session gets an inside key only once.
        if let Lookup::Hit(session) = guard.lookup(&key_of(pair)) {
            guard.end(&session, &mut Nobody);
        }
        if self.make_session(ctx, guard, pair, slot).is_err() {
            ctx.counters.add(Counter::SpliceNoLine, 1);
            self.end(ctx, guard, slot, true, false);
            return;
        }
        self.connect(ctx, guard, slot);
        self.look_after(ctx, guard, slot, Some(Trigger::NotYet));
    }

    /// Opens a connection to the next server, or tells the client that there is none.
    pub(super) fn connect<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>, slot: u32) {
        let now = ctx.now;
        let (random, isn) = (self.next_random(), self.next_random() as u32);
        let Some(c) = at_mut(&mut self.slots, slot) else { return };
        let number = c.order.as_ref().and_then(|o| o.get(c.tries));
        let to = number.and_then(|n| c.target.as_ref()?.address(n, c.pair.out_port));
        let Some((to, target)) = to.zip(c.target.as_ref()) else {
            ctx.counters.add(Counter::SpliceServersFailed, 1);
            let protocol = c.sniffer.protocol();
            let octets = failed(protocol);
            tell(c, octets, now);
            return;
        };
        let from = match (target.identity(), target.source) {
            (Identity::Embedded(place), Some(source)) => Some((CLIENT_PREFIX + place, source)),
            _ => own_source(&self.config, *to.ip()),
        };
        let client_port = target.source.map(|_| c.pair.remote_port);
        let key = from.and_then(|(prefix, source)| {
            let ports =
                std::iter::successors(Some(random), |r| Some(r.rotate_left(13).wrapping_mul(0x2545_f491)));
            let ports = ports.map(|r| 1024 + u16::try_from(r % 64_512).unwrap_or(0));
            let ports = client_port.into_iter().chain(ports).take(PORT_TRIES);
            let Lookup::Hit(session) = guard.lookup(&key_of(c.pair)) else { return None };
            let mut line = guard.take_spliced()?;
            for port in ports {
                let key = InsideKey {
                    src6: to.ip().to_bits(),
                    dst4: if prefix >= OWN_ADDRESS { 0 } else { c.pair.remote4 },
                    src_port: to.port(),
                    dst_port: port,
                    protocol: PROTO_TCP,
                    prefix,
                };
                let ends = splice::Ends {
                    client: (Ipv4Addr::from_bits(c.pair.remote4), c.pair.remote_port),
                    listener: (Ipv4Addr::from_bits(c.pair.out4), c.pair.out_port),
                    server: (*to.ip(), to.port()),
                    own: (source, port),
                };
                match guard.add_inside(&session, key, line, ends.checksum_delta()) {
                    Ok(()) => return Some((source, port)),
                    Err(e) => line = e.into_line(),
                }
            }
            None
        });
        let Some((source, port)) = key else {
            ctx.counters.add(Counter::SpliceNoLine, 1);
            let protocol = c.sniffer.protocol();
            tell(c, failed(protocol), now);
            return;
        };
        let ends = Ends { local: SocketAddrV6::new(source, port, 0, 0).into(), remote: to.into() };
        let sockets = self.spare.pop().unwrap_or_else(Sockets::new);
        match Side::connecting(&mut self.stack6, sockets, ends, isn, now) {
            Ok(server) => {
                c.server = Some(server);
                c.phase = Phase::Connecting(now);
            }
            Err(sockets) => {
                ctx.counters.add(Counter::SpliceNoLine, 1);
                tell(c, failed(c.sniffer.protocol()), now);
                self.keep(sockets);
            }
        }
    }

    /// An ICMPv6 error of a kind that means "not there" about the SYN with number `seq` of the connection with this key:
    /// another server is tried (RFC 1122 4.2.3.9).
    pub fn unreachable<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        session: &Session<'_>,
        seq: u32,
    ) -> Verdict {
        let slot = session.aux();
        let Some(c) = at_mut(&mut self.slots, slot).filter(|c| c.pair == pair_of_session(session)) else {
            return Verdict::Drop(DropReason::SpliceNoConnection);
        };
        let opening = c.server.as_ref().is_some_and(|s| s.is_opening() && s.ours == seq);
        if !opening {
            return Verdict::Drop(DropReason::SplicePeekBad);
        }
        ctx.counters.add(Counter::SpliceServersRefused, 1);
        self.next_server(ctx, guard, slot);
        Verdict::Consume
    }
}

/// The client gets these words, and then the end.
fn tell(c: &mut Connection, octets: Vec<u8>, now: Instant) {
    c.phase = Phase::Answer(now);
    c.client.frozen = None;
    c.to_client = Queue { octets, at: 0 };
    c.to_client.pour(&mut c.client);
    if c.to_client.is_empty() {
        c.client.close();
    }
}

fn words(reason: Reason, said: &Sniffed, protocol: Protocol) -> Vec<u8> {
    if let Reason::Bad(bad) = reason {
        return answer::bad(bad, protocol);
    }
    match reason.words(said) {
        Words::Alert(description) => answer::tls_alert(description),
        Words::Status { status, .. } => answer::http(status, protocol),
        Words::Silence => Vec::new(),
    }
}

/// No server took the connection.
fn failed(protocol: Protocol) -> Vec<u8> {
    match protocol {
        Protocol::Tls => answer::tls_alert(answer::alert::INTERNAL_ERROR),
        _ => answer::http(answer::status::BAD_GATEWAY, protocol),
    }
}

/// The gateway's own address that a server is asked from: of those in use the one that has most in common with the
/// server's (RFC 6724 5, rule 8).
pub(crate) fn own_source(config: &Config, server: Ipv6Addr) -> Option<(u8, Ipv6Addr)> {
    let all = config.sources.iter().enumerate().filter_map(|(n, s)| Some((u8::try_from(n).ok()?, (*s)?)));
    let best = all.max_by_key(|(_, s)| (s.to_bits() ^ server.to_bits()).leading_zeros())?;
    Some((OWN_ADDRESS.checked_add(best.0)?, best.1))
}

/// What a server is offered: just what the client has agreed to with us.
pub(super) fn offer(agreed: &Agreed, told: u16, client_clock: u32) -> Options {
    Options {
        mss: Some(agreed.mss.min(told)),
        window_scale: agreed.scale,
        sack_permitted: agreed.sack,
        timestamps: agreed.timestamps.then_some((client_clock, 0)),
    }
}
