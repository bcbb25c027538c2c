//! DNS over TCP: random histories of clients and upstreams, some of whose segments fit their connections.

use causeway_core::{Duration, Egress, IfId, Instant, Via};
use causeway_dns64::config::Tcp;
use causeway_dns64::tcp::{BACKLOG, CLIENT_OCTETS, Conn, Event, MTU, Output, SERVER_OCTETS, Side, Streams};
use causeway_testkit::{check_packet, ip4, ip6, tcp};
use causeway_wire::{be16, be32};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Octets before the data of a step: what, who, two numbers, how much data.
const STEP: usize = 5;
const STEPS: usize = 300;
const CLIENTS: [&str; 5] =
    ["2001:db8:64::101", "2001:db8:64::102", "2001:db8:65::101", "198.51.100.9", "fe80::9"];
const UPSTREAMS: [&str; 2] = ["2001:db8:6::53", "198.51.100.53"];

fn settings() -> Tcp {
    Tcp { connections: 4, per_client: 2, idle: Duration::from_secs(3), pipelined: 2 }
}

/// One who speaks to `Streams`, and what it believes of the connection.
struct Peer {
    address: IpAddr,
    port: u16,
    ours: SocketAddr,
    seq: u32,
    ack: u32,
}

impl Peer {
    fn all() -> Vec<Self> {
        let peer = |n: usize, address: &str, client: bool| {
            let address: IpAddr = address.parse().expect("an address");
            let n = n as u16;
            let ours = match (client, address.is_ipv6()) {
                (true, true) => SocketAddr::new("2001:db8:64::53".parse().expect("an address"), 53),
                (true, false) => SocketAddr::new("192.0.2.53".parse().expect("an address"), 53),
                (false, true) => SocketAddr::new("2001:db8:ffff::2".parse().expect("an address"), 5000 + n),
                (false, false) => SocketAddr::new("192.0.2.2".parse().expect("an address"), 5000 + n),
            };
            let port = if client { 40_000 + n } else { 53 };
            Self { address, port, ours, seq: u32::from(n).wrapping_mul(0x4567_89ab), ack: 0 }
        };
        let clients = CLIENTS.iter().enumerate().map(|(n, a)| peer(n, a, true));
        clients.chain(UPSTREAMS.iter().enumerate().map(|(n, a)| peer(n, a, false))).collect()
    }

    fn packet(&self, segment: &causeway_testkit::Tcp) -> Vec<u8> {
        match (self.address, self.ours.ip()) {
            (IpAddr::V6(from), IpAddr::V6(to)) => ip6(from, to).tcp(segment),
            (IpAddr::V4(from), IpAddr::V4(to)) => ip4(from, to).tcp(segment),
            _ => unreachable!("addresses of one family"),
        }
    }

    /// A segment with these flags, a little off if the numbers say so.
    fn segment(&mut self, flags: u8, off: (u8, u8), data: &[u8]) -> Vec<u8> {
        let near = |n: u8| if n < 0xc0 { 0 } else { u32::from(n & 0x3f).wrapping_sub(16).wrapping_mul(97) };
        let seq = self.seq.wrapping_add(near(off.0));
        let mut segment = tcp(self.port, self.ours.port()).seq(seq).window(u16::from(off.1) << 8);
        if flags & 0x10 != 0 {
            segment = segment.ack(self.ack.wrapping_add(near(off.1)));
        }
        for (bit, set) in [(1, causeway_testkit::Tcp::fin as fn(_) -> _), (4, causeway_testkit::Tcp::rst)] {
            if flags & bit != 0 {
                segment = set(segment);
            }
        }
        if flags & 2 != 0 {
            segment = segment.syn().options(&data[..data.len().min(40)]);
        } else {
            segment = segment.payload(data);
        }
        if off.0 < 0xe0 {
            let control = u32::from(flags & 1) + u32::from(flags >> 1 & 1);
            let data = if flags & 2 == 0 { data.len() as u32 } else { 0 };
            self.seq = seq.wrapping_add(data).wrapping_add(control);
        }
        self.packet(&segment)
    }

    /// Learns from what it is sent.
    fn hear(&mut self, segment: &[u8]) {
        let (seq, ack, flags) = (be32(segment, 4), be32(segment, 8), segment[13]);
        if flags & 2 != 0 {
            self.ack = seq.wrapping_add(1);
            if flags & 0x10 != 0 {
                self.seq = ack;
            }
        } else if seq == self.ack {
            let data = segment.len() - usize::from(segment[12] >> 4) * 4;
            self.ack = seq.wrapping_add(data as u32).wrapping_add(u32::from(flags & 1));
        }
    }
}

/// How often what happened.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    connected: usize,
    messages: [usize; 2],
    closed: usize,
    sent: usize,
}

struct World {
    seen: Seen,
    streams: Streams,
    now: Instant,
    peers: Vec<Peer>,
    open: Vec<Conn>,
    over: BTreeSet<Conn>,
}

impl World {
    fn with<R>(&mut self, f: impl FnOnce(&mut Streams, Instant, &mut Output) -> R) -> R {
        let mut out = Output::default();
        let result = f(&mut self.streams, self.now, &mut out);
        for (_, packet) in &out.packets {
            assert_eq!(check_packet(packet), Ok(()));
            assert!(packet.len() <= MTU);
            let (to, at): (IpAddr, usize) = if packet[0] >> 4 == 6 {
                (causeway_wire::ipv6::addr(packet, 24).into(), 40)
            } else {
                (<[u8; 4]>::try_from(&packet[16..20]).expect("four octets").into(), 20)
            };
            let segment = &packet[at..];
            let port = (be16(segment, 2), be16(segment, 0));
            if let Some(peer) =
                self.peers.iter_mut().find(|p| p.address == to && (p.port, p.ours.port()) == port)
            {
                peer.hear(segment);
            }
        }
        for event in out.events {
            match event {
                Event::Connected { conn } => {
                    assert!(!self.over.contains(&conn));
                    self.seen.connected += 1;
                }
                Event::Message { conn, octets, side, .. } => {
                    self.seen.messages[usize::from(side == Side::Client)] += 1;
                    assert!(!self.over.contains(&conn) && octets.len() >= 12);
                    if !self.open.contains(&conn) {
                        self.open.push(conn);
                    }
                }
                Event::Closed { conn, .. } => {
                    self.seen.closed += 1;
                    assert!(self.over.insert(conn), "told twice, or after it was closed here");
                    self.open.retain(|&c| c != conn);
                }
            }
        }
        let (servers, clients) = self.streams.connections();
        assert!(servers <= 4 && clients <= self.peers.len());
        let each = 2 * BACKLOG;
        let most = servers * (SERVER_OCTETS + each) + clients * (CLIENT_OCTETS + each);
        assert!(self.streams.octets() <= most);
        result
    }
}

/// A history: each step is five octets and the data that they tell the length of.
pub fn sequence(octets: &[u8]) {
    let _ = history(octets);
}

fn history(mut rest: &[u8]) -> Seen {
    let mut w = World {
        seen: Seen::default(),
        streams: Streams::new(&settings(), 64, [9; 32]),
        now: Instant::from_micros(1_000_000_000),
        peers: Peer::all(),
        open: Vec::new(),
        over: BTreeSet::new(),
    };
    let egress = Egress::new(IfId(0), Via::Ip6("fe80::9".parse().expect("an address")));
    for _ in 0..STEPS {
        let Some((&[what, who, a, b, length], after)) = rest.split_first_chunk::<STEP>() else { break };
        let (data, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let count = w.peers.len();
        let peer = &mut w.peers[usize::from(who) % count];
        let packet = match what & 0x0f {
            0 => data.to_vec(),
            1 | 2 => peer.segment(2, (0, b), data),
            3 => peer.segment(b, (a, b), data),
            // A message, or a part of one.
            4..=6 => {
                let framed = [&[0, length.max(12)][..], data].concat();
                peer.segment(0x18, (a, 0xbf), if what & 0x10 == 0 { &framed } else { data })
            }
            7 | 8 => peer.segment(0x10 | (what >> 4 & 7), (a, b), data),
            9 | 10 => {
                let conn = w.open.get(usize::from(who) % w.open.len().max(1)).copied();
                let Some(conn) = conn else { continue };
                let message = vec![a; 12 + usize::from(b) * usize::from(length)];
                let sent = w.with(|s, now, out| s.send(conn, &message, now, out));
                w.seen.sent += usize::from(sent.is_ok());
                assert!(sent.is_ok() || message.len() > 65_535 || w.over.contains(&conn));
                continue;
            }
            11 => {
                let Some(conn) = w.open.pop() else { continue };
                if a & 1 == 0 {
                    w.with(|s, now, out| s.close(conn, now, out));
                    // Nothing more is told of it.
                    w.over.insert(conn);
                } else {
                    w.with(|s, now, out| s.unanswered(conn, now, out));
                }
                continue;
            }
            12 => {
                let (local, remote) = (peer.ours, SocketAddr::new(peer.address, peer.port));
                if local.port() == 53 {
                    continue;
                }
                if let Ok(conn) = w.with(|s, now, out| s.connect(local, remote, egress, now, out)) {
                    w.open.push(conn);
                }
                continue;
            }
            _ => {
                w.now = w.now + Duration::from_millis(u64::from(a) << (b & 7));
                w.with(|s, now, out| s.poll(usize::from(who) % 8, now, out));
                continue;
            }
        };
        let accept = what & 0x80 == 0;
        let _ = w.with(|s, now, out| s.receive(&packet, accept, egress, now, out));
    }
    // Left alone, nothing stays.
    for _ in 0..2000 {
        let Some(at) = w.streams.next_deadline() else { break };
        w.now = w.now.max(at);
        w.with(|s, now, out| s.poll(8, now, out));
    }
    assert_eq!((w.streams.connections(), w.streams.octets()), ((0, 0), 0));
    w.seen
}

/// Named beginnings.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let step = |what: u8, who: u8, a: u8, b: u8, data: &[u8]| {
        [&[what, who, a, b, data.len() as u8][..], data].concat()
    };
    let syn = |who| step(1, who, 0, 0xbf, &[2, 4, 5, 0xa0]);
    let ack = |who| step(7, who, 0, 0xbf, &[]);
    let ask = |who| step(4, who, 0, 0, &[1; 20]);
    let answer = |b| step(9, 0, 3, b, &[0; 100]);
    let wait = |a| step(15, 7, a, 4, &[]);
    let list: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("question", vec![syn(0), ack(0), ask(0), answer(1), ack(0), step(8, 0, 0, 0xbf, &[])]),
        ("cookie-with-question", vec![syn(3), ask(3), answer(200), ack(3), ack(3), wait(200)]),
        ("half-closed", vec![syn(1), ask(1), step(0x17, 1, 0, 0xbf, &[]), answer(1), ack(1), wait(255)]),
        ("pipelined", vec![syn(2), ask(2), ask(2), ask(2), answer(9), answer(9), ack(2), ask(2)]),
        (
            "per-client",
            vec![syn(0), ack(0), syn(1), ack(1), ask(0), syn(4), ack(4), syn(2), ack(2), syn(3), ack(3)],
        ),
        (
            "upstream",
            vec![
                step(12, 5, 0, 0, &[]),
                step(3, 5, 0, 0x12, &[]),
                step(9, 0, 1, 1, &[0; 30]),
                ask(5),
                step(7, 5, 0, 0xbf, &[]),
                step(0x17, 5, 0, 0xbf, &[]),
                wait(255),
            ],
        ),
        (
            "upstream4-resets",
            vec![step(12, 6, 0, 0, &[]), step(3, 6, 0, 0x14, &[]), step(12, 6, 0, 0, &[]), wait(255)],
        ),
        (
            "reset-nearby",
            vec![syn(0), ack(0), step(3, 0, 0xd5, 0x14, &[]), step(3, 0, 0, 0x14, &[]), wait(9)],
        ),
        (
            "slow",
            vec![syn(0), ack(0), step(0x14, 0, 0, 0, &[0]), wait(255), step(0x14, 0, 0, 0, &[20]), wait(255)],
        ),
        ("no-room", vec![syn(0), ack(0), ask(0), answer(255), ask(0), answer(255), ask(0), answer(255)]),
        (
            "zero-window",
            vec![syn(0), step(7, 0, 0, 0, &[]), ask(0), answer(80), step(7, 0, 0, 0, &[]), wait(255)],
        ),
    ];
    list.into_iter().map(|(name, steps)| (name.to_owned(), steps.concat())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_reach_what_the_target_is_for() {
        let mut all = Seen::default();
        for (name, octets) in seeds() {
            let s = history(&octets);
            println!("{name}: {s:?}");
            all.connected += s.connected;
            all.messages = [all.messages[0] + s.messages[0], all.messages[1] + s.messages[1]];
            all.closed += s.closed;
            all.sent += s.sent;
        }
        assert!(all.connected > 0 && all.messages[0] >= 10 && all.messages[1] > 0, "{all:?}");
        assert!(all.closed > 5 && all.sent > 5, "{all:?}");
    }
}
