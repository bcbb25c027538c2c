//! `Streams` against hosts with a `smoltcp` of their own, over a network that loses and reorders packets. Every packet
//! that is sent is checked, and all counters are.

use super::*;
use crate::config::Tcp;
use causeway_core::{IfId, Instant, Via};
use causeway_testkit::{assert_counters, check_packet};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpCidr};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

mod hosts;
mod raw;
mod table;

const SEED: [u8; 32] = [7; 32];
const SERVER: &str = "[2001:db8:64::53]:53";
/// Addresses of the gateway.
const OURS: [&str; 4] = ["2001:db8:64::53", "192.0.2.53", "2001:db8:ffff::2", "192.0.2.2"];
const SERVER4: &str = "192.0.2.53:53";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn settings() -> Tcp {
    Tcp { connections: 64, per_client: 8, idle: Duration::from_secs(10), pipelined: 16 }
}

fn egress() -> Egress {
    Egress::new(IfId(0), Via::Ip6("fe80::9".parse().unwrap()))
}

/// A message with a number as ID, filled up to a length.
fn message(id: u16, octets: usize) -> Vec<u8> {
    let mut m = vec![0x5a; octets];
    m[..2].copy_from_slice(&id.to_be_bytes());
    m[octets - 1] = id.to_be_bytes()[1];
    m
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// Random numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[derive(Default)]
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
        c.medium = Medium::Ip;
        c.max_transmission_unit = 1500;
        c
    }
}

/// A host with one address and one socket, and what it has read.
struct Host {
    address: IpAddr,
    interface: Interface,
    cable: Cable,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    to_send: Vec<u8>,
    read: Vec<u8>,
    reads: bool,
}

impl Host {
    fn new(address: &str, receive: usize) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let mut cable = Cable::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = u64::from(address.to_string().len() as u32) * 77;
        let mut interface = Interface::new(config, &mut cable, smoltcp::time::Instant::ZERO);
        let bits = if address.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|l| l.push(IpCidr::new(address.into(), bits)).unwrap());
        let mut socket = Socket::new(SocketBuffer::new(vec![0; receive]), SocketBuffer::new(vec![0; 65_535]));
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(vec![]);
        let socket = sockets.add(socket);
        Self {
            address,
            interface,
            cable,
            sockets,
            socket,
            to_send: Vec::new(),
            read: Vec::new(),
            reads: true,
        }
    }

    fn tcp(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn connect(&mut self, to: &str, port: u16) {
        let local = SocketAddr::new(self.address, port);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        socket.connect(self.interface.context(), at(to), local).unwrap();
    }

    fn listen(&mut self) {
        let local = SocketAddr::new(self.address, 53);
        self.tcp().listen(local).unwrap();
    }

    /// Takes all whole messages that it has read.
    fn messages(&mut self) -> Vec<Vec<u8>> {
        let mut list = Vec::new();
        while let Some((length, rest)) = self.read.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if rest.len() < length {
                break;
            }
            list.push(rest[..length].to_vec());
            self.read.drain(..2 + length);
        }
        list
    }

    fn state(&mut self) -> State {
        self.tcp().state()
    }

    fn work(&mut self, now: Instant) {
        let time = smoltcp::time::Instant::from_micros(i64::try_from(now.as_micros()).unwrap());
        self.interface.poll(time, &mut self.cable, &mut self.sockets);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        if self.reads {
            while socket.can_recv() {
                let got = socket.recv(|b| (b.len(), b.to_vec())).unwrap();
                self.read.extend(got);
            }
        }
        if socket.may_send() && !self.to_send.is_empty() {
            let n = socket.send_slice(&self.to_send).unwrap();
            self.to_send.drain(..n);
        }
        self.interface.poll(time, &mut self.cable, &mut self.sockets);
    }

    fn wakes(&mut self, now: Instant) -> Option<Instant> {
        let time = smoltcp::time::Instant::from_micros(i64::try_from(now.as_micros()).unwrap());
        let at = self.interface.poll_at(time, &self.sockets)?;
        Some(Instant::from_micros(u64::try_from(at.total_micros()).unwrap()))
    }
}

/// `Streams`, hosts and a network between them.
struct World {
    now: Instant,
    streams: Streams,
    counters: Counters,
    events: Vec<Event>,
    hosts: Vec<Host>,
    /// Packets under way, by when they arrive.
    network: BTreeMap<(Instant, u64), Vec<u8>>,
    count: u64,
    dice: Dice,
    /// Packets lost, of a hundred.
    loss: u64,
    /// By how many microseconds they are late, at most.
    spread: u64,
    accept: bool,
    /// All that `streams` has sent.
    sent: Vec<Vec<u8>>,
}

impl World {
    fn new(config: &Tcp) -> Self {
        Self {
            now: Instant::from_micros(1_000_000_000),
            streams: Streams::new(config, 64, SEED),
            counters: Counters::new(),
            events: Vec::new(),
            hosts: Vec::new(),
            network: BTreeMap::new(),
            count: 0,
            dice: Dice(1),
            loss: 0,
            spread: 0,
            accept: true,
            sent: Vec::new(),
        }
    }

    fn carry(&mut self, packet: Vec<u8>) {
        if self.dice.roll(100) < self.loss {
            return;
        }
        let late = Duration::from_micros(200 + if self.spread > 0 { self.dice.roll(self.spread) } else { 0 });
        self.count += 1;
        self.network.insert((self.now + late, self.count), packet);
    }

    /// Calls `streams`, and sees to what it puts out.
    fn with<R>(&mut self, f: impl FnOnce(&mut Streams, Instant, &mut Output) -> R) -> R {
        let mut out = Output::default();
        let result = f(&mut self.streams, self.now, &mut out);
        if self.streams.connections().0 < 100 {
            self.streams.assert_consistent();
        }
        out.count(&self.counters);
        self.events.append(&mut out.events);
        for (_, packet) in out.packets {
            check_packet(&packet).unwrap();
            assert!(packet.len() <= MTU, "{} octets", packet.len());
            self.sent.push(packet.clone());
            self.carry(packet);
        }
        result
    }

    fn receive(&mut self, packet: &[u8]) -> Result<(), causeway_core::DropReason> {
        let accept = self.accept;
        let result = self.with(|s, now, out| s.receive(packet, accept, egress(), now, out));
        if let Err(why) = result {
            self.counters.drop(why);
        }
        result
    }

    fn send(&mut self, conn: Conn, message: &[u8]) -> Result<(), SendError> {
        self.with(|s, now, out| s.send(conn, message, now, out))
    }

    fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// What arrives now, and what is due now.
    fn step(&mut self) {
        while let Some((&key, _)) = self.network.first_key_value().filter(|((at, _), _)| *at <= self.now) {
            let packet = self.network.remove(&key).unwrap();
            let to: IpAddr = match packet[0] >> 4 {
                6 => causeway_wire::ipv6::addr(&packet, 24).into(),
                _ => <[u8; 4]>::try_from(&packet[16..20]).unwrap().into(),
            };
            match self.hosts.iter_mut().find(|h| h.address == to) {
                Some(host) => host.cable.coming.push_back(packet),
                None if OURS.iter().any(|a| to == a.parse::<IpAddr>().unwrap()) => {
                    let _ = self.receive(&packet);
                }
                // To somebody whom a test plays itself.
                None => {}
            }
        }
        self.with(|s, now, out| s.poll(1000, now, out));
        self.let_hosts_work();
    }

    fn let_hosts_work(&mut self) {
        for n in 0..self.hosts.len() {
            self.hosts[n].work(self.now);
            for packet in std::mem::take(&mut self.hosts[n].cable.going) {
                self.carry(packet);
            }
        }
    }

    /// Lets time go by until `done` or for so long; `app` sees every step.
    fn run(&mut self, length: Duration, mut app: impl FnMut(&mut Self)) {
        let end = self.now + length;
        while self.now < end {
            self.step();
            app(self);
            self.let_hosts_work();
            let mut next = end;
            let arrival = self.network.first_key_value().map(|((at, _), _)| *at);
            let now = self.now;
            let wakes = self.hosts.iter_mut().filter_map(|h| h.wakes(now)).min();
            for at in [arrival, wakes, self.streams.next_deadline()].into_iter().flatten() {
                next = next.min(at);
            }
            self.now = next.max(self.now + Duration::from_micros(50)).min(end);
        }
        self.step();
        app(self);
    }

    /// Answers every message of a client with itself.
    fn echo(&mut self) {
        for event in self.take_events() {
            match event {
                Event::Message { conn, side: Side::Server, octets, .. } => self.send(conn, &octets).unwrap(),
                other => self.events.push(other),
            }
        }
    }

    fn seconds(&mut self, n: u64) {
        self.run(Duration::from_secs(n), |_| {});
    }

    #[track_caller]
    fn assert_counted(&self, want: &[(&str, u64)]) {
        assert_counters(&self.counters, want);
    }
}
