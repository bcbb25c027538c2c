//! The worker's side: a packet to UDP port 547 becomes a [`Request`] on its way to the engine, and an
//! [`Answer`] becomes a packet.
//!
//! What a stranger sends costs no more than its headers until two limits have let it pass: one for each
//! client, one for the worker. What comes by a relay has the relay's link-layer address; there the client's
//! limit is asked once the message has told the client.

use crate::config::Config;
use crate::message;
use crate::request::{Answer, Request, SERVER_PORT};
use causeway_core::udp::{self, BadDatagram, Datagram};
use causeway_core::{
    Counter, Ctx, DropReason, Egress, Event, FrameSource, IfId, Instant, Interface, Packet, TokenBucket,
    Verdict, Via,
};
use causeway_wire::ipv6::Ipv6Repr;
use causeway_wire::l4::PROTO_UDP;
use crossbeam::queue::ArrayQueue;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// RFC 9915 7.1: all servers and relays on the link.
pub const ALL_RELAYS_AND_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// RFC 9915 7.1: all servers of the site, for relays.
pub const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);

/// Token buckets of clients: clients that share one by chance share its tokens.
const BUCKETS: usize = 4096;

/// DHCPv6 at a worker.
#[derive(Debug)]
pub struct Stage {
    config: Arc<Config>,
    all: TokenBucket,
    clients: Box<[TokenBucket]>,
    hasher: RandomState,
}

impl Stage {
    /// A stage for this configuration.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        let (all, clients) = buckets(&config);
        Self { config, all, clients, hasher: RandomState::new() }
    }

    /// Takes over another configuration.
    pub fn set_config(&mut self, config: Arc<Config>) {
        if (config.rate, config.client_rate) != (self.config.rate, self.config.client_rate) {
            (self.all, self.clients) = buckets(&config);
        }
        self.config = config;
    }

    /// Handles a packet to UDP port 547 of ours or of a group of ours: checks and parses it, and pushes what
    /// it asks for onto the ring to control.
    pub fn receive<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        packet: &Packet<S::Frame>,
        requests: &ArrayQueue<Box<Request>>,
    ) -> Verdict {
        match self.request(ctx, packet) {
            Err(why) => Verdict::Drop(why),
            Ok(request) => match requests.push(Box::new(request)) {
                Err(_) => Verdict::Drop(DropReason::Dhcp6RingFull),
                Ok(()) => {
                    ctx.counters.add(Counter::Dhcp6Asked, 1);
                    Verdict::Consume
                }
            },
        }
    }

    fn request<S: FrameSource>(
        &mut self,
        ctx: &Ctx<'_, S>,
        packet: &Packet<S::Frame>,
    ) -> Result<Request, DropReason> {
        let meta = &packet.meta;
        if meta.fragment {
            return Err(DropReason::LocalFragment);
        }
        let ip = Ipv6Repr::parse(packet.bytes()).map_err(|_| DropReason::LocalMalformed)?;
        let link = ctx.interfaces.get(meta.ingress).map(Interface::link).ok_or(DropReason::Dhcp6NoLink)?;
        let Datagram { src, payload, .. } = udp::parse(packet).map_err(bad)?;
        let relayed = message::is_relayed(payload);
        if !relayed {
            self.check_client(&ip, link)?;
        } else if !self.config.relays.contains(&meta.ingress) {
            // Who poses as a relay could be any client: it is to be one only where the configuration says so.
            return Err(DropReason::Dhcp6RelayUntrusted);
        }
        // The client's limit first: what it sends beyond that takes nothing from the others.
        if !relayed && !self.take_of(meta.src_mac, ctx.now) {
            return Err(DropReason::Dhcp6ClientLimited);
        }
        if !self.all.take(ctx.now) {
            return Err(DropReason::Dhcp6RateLimited);
        }
        let received = message::parse(payload).map_err(message::MessageError::reason)?;
        // Where the worker is not told our DUID (the store made it), the engine looks.
        let ours = &self.config.server_duid;
        if !ours.is_empty() && received.message.server_id.as_ref().is_some_and(|id| id != ours) {
            return Err(DropReason::Dhcp6OtherServer);
        }
        let request = Request {
            interface: meta.ingress,
            link,
            source: ip.src,
            source_port: src.port(),
            mac: meta.src_mac,
            arrived: ctx.now,
            worker: ctx.worker,
            received,
        };
        if request.link_address().is_some_and(|link| !is_behind(ctx, meta.ingress, link)) {
            return Err(DropReason::Dhcp6RelayElsewhere);
        }
        if let Some(relay) = request.nearest() {
            let client = (relay.peer_address, relay.client_mac);
            if !self.take_of(client, ctx.now) {
                return Err(DropReason::Dhcp6ClientLimited);
            }
        }
        Ok(request)
    }

    /// What is asked of a message that came from a client itself.
    fn check_client(&self, ip: &Ipv6Repr, number: u32) -> Result<(), DropReason> {
        // RFC 9915 17: from the link-local address of the interface that is to be configured.
        if !ip.src.is_unicast_link_local() {
            return Err(DropReason::Dhcp6BadSource);
        }
        // RFC 9915 16: servers take no unicast from clients; ff05::1:3 is for relays (7.1).
        if ip.dst != ALL_RELAYS_AND_SERVERS {
            return Err(DropReason::Dhcp6BadDestination);
        }
        if !self.config.links.iter().any(|link| link.link == Some(number)) {
            return Err(DropReason::Dhcp6NoLink);
        }
        Ok(())
    }

    fn take_of(&mut self, client: impl Hash, now: Instant) -> bool {
        let at = usize::try_from(self.hasher.hash_one(client) % BUCKETS as u64).unwrap_or(0);
        self.clients[at].take(now)
    }

    /// Sends an answer, and tells of what it gives.
    #[expect(clippy::boxed_local, reason = "it comes off a ring in its box")]
    pub fn answer<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, answer: Box<Answer>) {
        let mut answer = *answer;
        let sent = match (&answer.octets, interface_of(ctx, &answer)) {
            (Err(why), _) => Err(*why),
            (Ok(_), None) => Err(DropReason::Dhcp6NetworkGone),
            (Ok(octets), Some(interface)) => {
                answer.interface = interface;
                send(ctx, &answer, octets)
            }
        };
        match sent {
            Err(why) => {
                ctx.counters.drop(why);
                return;
            }
            // There was no frame, which is counted.
            Ok(false) => return,
            Ok(true) => {}
        }
        ctx.counters.add(Counter::Dhcp6Answered, 1);
        ctx.counters.add(Counter::Dhcp6Leased, u64::from(answer.leased));
        ctx.counters.add(Counter::Dhcp6NoneAvailable, u64::from(answer.none_available));
        ctx.counters.add(Counter::Dhcp6OptionsLeftOut, u64::from(answer.left_out));
        if let Some((address, mac)) = answer.given {
            ctx.events.push(Event::LeaseGiven { interface: answer.interface, address, mac });
        }
        if let Some((address, count)) = answer.declined {
            ctx.counters.add(Counter::Dhcp6Declined, u64::from(count));
            let (interface, mac) = (answer.interface, answer.mac);
            ctx.events.push(Event::LeaseDeclined { interface, address, mac });
        }
    }
}

/// The interface that a request came in by, if there is one on its link: a plan that was adopted meanwhile may
/// have given its number to another network.
fn interface_of<S: FrameSource>(ctx: &Ctx<'_, S>, answer: &Answer) -> Option<IfId> {
    let is_it = |i: &Interface| i.link() == answer.link;
    if ctx.interfaces.get(answer.interface).is_some_and(is_it) {
        return Some(answer.interface);
    }
    ctx.interfaces.iter().find(|(_, i)| is_it(i)).map(|(id, _)| id)
}

fn buckets(config: &Config) -> (TokenBucket, Box<[TokenBucket]>) {
    let of = |(rate, burst): (u32, u32)| TokenBucket::new(rate, burst);
    (of(config.rate), vec![of(config.client_rate); BUCKETS].into_boxed_slice())
}

/// True if a relay on this network may speak for the link of this address: hosts behind it send from there
/// (BCP 38). Otherwise anybody, from anywhere, could release or take what belongs to a host that it names.
fn is_behind<S: FrameSource>(ctx: &Ctx<'_, S>, ingress: IfId, link: Ipv6Addr) -> bool {
    ctx.interfaces.get(ingress).is_some_and(|i| i.sources6.iter().any(|p| p.contains(link)))
}

const fn bad(why: BadDatagram) -> DropReason {
    match why {
        BadDatagram::Malformed => DropReason::Dhcp6BadUdp,
        BadDatagram::Checksum => DropReason::Dhcp6BadChecksum,
    }
}

/// Sends a message; false if there was no frame for it.
fn send<S: FrameSource>(ctx: &mut Ctx<'_, S>, answer: &Answer, octets: &[u8]) -> Result<bool, DropReason> {
    let egress = if answer.destination.is_unicast_link_local() {
        // RFC 9915 18.3.10: out of the interface that the message came in by. Where its sender is, its frame
        // has told; a neighbour need not be looked for.
        Egress::new(answer.interface, Via::Mac(answer.mac))
    } else {
        ctx.routes.lookup6(answer.destination).ok_or(DropReason::NoRoute)?
    };
    let interface = ctx.interfaces.get(egress.interface()).ok_or(DropReason::NoRoute)?;
    let to = SocketAddr::from((answer.destination, answer.port));
    let from = SocketAddr::from((interface.source6(answer.destination), SERVER_PORT));
    let headers = udp::headers(to.ip());
    let length = headers + octets.len();
    if length > usize::from(interface.mtu) {
        return Err(DropReason::Dhcp6AnswerTooLong);
    }
    ctx.send_new(egress, PROTO_UDP, length, DropReason::Dhcp6AnswerTooLong, |b| {
        b[headers..].copy_from_slice(octets);
        udp::emit(b, from, to)
    })
}

#[cfg(test)]
mod tests;
