//! Two TCP stacks that never saw the other's numbers, with the splice and a bad network between them: both streams
//! arrive whole.
//!
//! The connection is spliced from its first SYN on, with any shifts, which is harder than from the hello on.

use super::*;
use proptest::prelude::*;
use smoltcp::iface::{Config as StackConfig, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State as TcpState};
use smoltcp::wire::{HardwareAddress, IpCidr};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

#[derive(Debug, Default)]
struct Cable {
    coming: VecDeque<Vec<u8>>,
    going: Vec<Vec<u8>>,
}

struct Coming(Vec<u8>);
struct Going<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Coming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Going<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let r = f(&mut packet);
        self.0.push(packet);
        r
    }
}

impl Device for Cable {
    type RxToken<'a> = Coming;
    type TxToken<'a> = Going<'a>;
    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Coming, Going<'_>)> {
        Some((Coming(self.coming.pop_front()?), Going(&mut self.going)))
    }
    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Going<'_>> {
        Some(Going(&mut self.going))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut c = DeviceCapabilities::default();
        (c.medium, c.max_transmission_unit) = (Medium::Ip, 1480);
        c
    }
}

/// A host with one socket, what it has to say and what it has heard.
struct Host {
    interface: Interface,
    cable: Cable,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    left: VecDeque<u8>,
    heard: Vec<u8>,
}

impl Host {
    fn new(address: &str, seed: u64, buffer: usize, stamps: bool, says: &[u8]) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let mut cable = Cable::default();
        let mut config = StackConfig::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut cable, smoltcp::time::Instant::ZERO);
        let bits = if address.is_ipv4() { 0 } else { 64 };
        interface.update_ip_addrs(|l| l.push(IpCidr::new(address.into(), bits)).unwrap());
        let buffers = || SocketBuffer::new(vec![0; buffer]);
        let mut socket = Socket::new(buffers(), buffers());
        if stamps {
            // Each end has a clock of its own; this one begins where it wraps.
            socket.set_tsval_generator(Some(|| u32::MAX - 3));
        }
        let mut sockets = SocketSet::new(vec![]);
        let socket = sockets.add(socket);
        Self { interface, cable, sockets, socket, left: says.iter().copied().collect(), heard: Vec::new() }
    }

    fn tcp(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn work(&mut self, now: u64, hears: usize) {
        let time = smoltcp::time::Instant::from_micros(i64::try_from(now).unwrap());
        self.interface.poll(time, &mut self.cable, &mut self.sockets);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        let mut room = hears;
        while room > 0 && socket.can_recv() {
            let got = socket.recv(|b| (b.len().min(room), b[..b.len().min(room)].to_vec())).unwrap();
            room -= got.len();
            self.heard.extend(got);
        }
        if socket.may_send() {
            let (a, _) = self.left.as_slices();
            let n = socket.send_slice(a).unwrap();
            self.left.drain(..n);
            if self.left.is_empty() {
                socket.close();
            }
        }
        self.interface.poll(time, &mut self.cable, &mut self.sockets);
    }
}

/// How bad the network is.
#[derive(Debug, Clone)]
struct Weather {
    seed: u64,
    loss: u64,
    twice: u64,
    spread: u64,
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }
}

/// Where the octet of the window scale stands in a SYN, from the start of TCP.
fn scale_at(tcp: &[u8]) -> Option<usize> {
    let mut at = 20;
    while at < usize::from(tcp[12] >> 4) * 4 {
        match tcp[at] {
            0 => return None,
            1 => at += 1,
            3 => return Some(at + 2),
            _ => at += usize::from(tcp[at + 1]),
        }
    }
    None
}

/// Puts another window scale into a SYN, with its checksum.
fn rescaled(mut b: Vec<u8>, l4: usize, at: usize, scale: u8) -> Vec<u8> {
    let word = |b: &[u8]| u64::from(b[l4 + at]) << if at.is_multiple_of(2) { 8 } else { 0 };
    let old = word(&b);
    b[l4 + at] = scale;
    let sum = u16::from_be_bytes([b[l4 + 16], b[l4 + 17]]);
    let sum = checksum::apply(sum, checksum::delta(old, word(&b)));
    b[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
    b
}

/// Lets two hosts talk until both have said all, and gives what each heard.
fn talk(c: &Constants, weather: &Weather, buffers: (usize, usize), says: (&[u8], &[u8]), slow_reader: bool) {
    let mut dice = Dice(weather.seed);
    let mut client = Host::new(CLIENT, weather.seed, buffers.0, c.timestamps, says.0);
    let mut server = Host::new(SERVER, !weather.seed, buffers.1, c.timestamps, says.1);
    let mut constants = *c;
    let mut w = World::terminated(false);
    server.tcp().listen(8443).unwrap();
    let to = SocketAddr::new(PROXY.parse().unwrap(), 443);
    let from = SocketAddr::new(CLIENT.parse().unwrap(), CLIENT_PORT);
    let socket = client.sockets.get_mut::<Socket<'_>>(client.socket);
    socket.connect(client.interface.context(), to, from).unwrap();
    let mut network: BTreeMap<(u64, u64), (Side, Vec<u8>)> = BTreeMap::new();
    let (mut now, mut count) = (0u64, 0u64);
    let mut opened = [false; 2];
    let done = |h: &mut Host| {
        // A slow reader may have something left to read.
        matches!(h.tcp().state(), TcpState::Closed | TcpState::TimeWait) && h.tcp().recv_queue() == 0
    };
    for _ in 0..200_000 {
        let hears = if slow_reader { 700 } else { usize::MAX };
        client.work(now, hears);
        server.work(now, usize::MAX);
        for (side, host) in [(Side::Client, &mut client), (Side::Server, &mut server)] {
            for packet in host.cable.going.drain(..) {
                let times = if dice.roll(100) < weather.loss {
                    0
                } else {
                    1 + u64::from(dice.roll(100) < weather.twice)
                };
                for _ in 0..times {
                    count += 1;
                    network.insert((now + 500 + dice.roll(weather.spread), count), (side, packet.clone()));
                }
            }
        }
        if done(&mut client) && done(&mut server) {
            break;
        }
        // To the next arrival, or the next thing that a host has to do.
        let wakes = [&mut client, &mut server].into_iter().filter_map(|h| {
            let time = smoltcp::time::Instant::from_micros(i64::try_from(now).unwrap());
            h.interface.poll_at(time, &h.sockets).map(|t| u64::try_from(t.total_micros()).unwrap())
        });
        let next = wakes.chain(network.keys().next().map(|k| k.0)).min().unwrap_or(now + 1000);
        let next = if slow_reader { next.min(now + 2_000) } else { next };
        w.rig.now = causeway_core::Instant::from_micros(3_600_000_000 + next);
        now = next.max(now + 1);
        while let Some(entry) = network.first_entry().filter(|e| e.key().0 <= now) {
            let (side, packet) = entry.remove();
            let l4 = if side == Side::Client { 20 } else { 40 };
            let syn = packet[l4 + 13] & tcp::SYN != 0;
            if syn && let Some(at) = scale_at(&packet[l4..]) {
                let scale = packet[l4 + at];
                match side {
                    Side::Client => (constants.scales.client, constants.scales.to_server) = (scale, scale),
                    Side::Server => constants.scales.server = scale,
                }
            }
            // Once for each side: a SYN that comes again, late, would undo what was seen since.
            if syn && !std::mem::replace(&mut opened[usize::from(side == Side::Server)], true) {
                let seq =
                    u32::from_be_bytes([packet[l4 + 4], packet[l4 + 5], packet[l4 + 6], packet[l4 + 7]]);
                match side {
                    Side::Client => (constants.client_isn, constants.client_seq_end) = (seq, seq),
                    Side::Server => (constants.server_isn, constants.server_seq_end) = (seq, seq),
                }
                w.engage(&constants);
            }
            let mut out = w.passes(side, packet);
            // The client was told another scale than the server's, long before it was known.
            if syn
                && side == Side::Server
                && let Some(at) = scale_at(&out[20..])
            {
                out = rescaled(out, 20, at, constants.scales.to_client);
            }
            if side == Side::Client { &mut server } else { &mut client }.cable.coming.push_back(out);
        }
    }
    assert!(client.heard == says.1, "the client heard {} of {} octets", client.heard.len(), says.1.len());
    assert!(server.heard == says.0, "the server heard {} of {} octets", server.heard.len(), says.0.len());
    // Who is through with it answers what comes late with a reset (RFC 9293 3.10.7.1).
    assert!(matches!(w.state(), Some(State::BothFin | State::Reset)), "{:?}", w.state());
    assert_eq!(w.rig.counters.get(Counter::SpliceResetsDoubted), 0);
}

fn octets(n: usize, seed: u8) -> Vec<u8> {
    (0..n).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn both_streams_arrive_whole_through_loss_disorder_and_repetition(
        deltas in any::<(u32, u32, u32, u32)>(),
        (timestamps, server_sack, slow_reader) in any::<(bool, bool, bool)>(),
        to_client in 0u8..=8,
        buffers in (2_000usize..300_000, 2_000usize..300_000),
        sizes in (0usize..60_000, 0usize..150_000),
        weather in (any::<u64>(), 0u64..6, 0u64..6, 0u64..8_000)
            .prop_map(|(seed, loss, twice, spread)| Weather { seed, loss, twice, spread }),
    ) {
        let c = Constants {
            client_seq_delta: deltas.0,
            server_seq_delta: deltas.1,
            client_ts_delta: deltas.2,
            server_ts_delta: deltas.3,
            timestamps,
            client_sack: true,
            server_sack,
            scales: Scales { to_client, ..Scales::default() },
            ..constants()
        };
        let says = (octets(sizes.0, 1), octets(sizes.1, 2));
        talk(&c, &weather, buffers, (&says.0, &says.1), slow_reader);
    }
}
