//! The whole stage between a client and servers with a `smoltcp` of their own, over a network that loses, doubles and
//! reorders packets. Every packet that is sent is checked.

use crate::config::{Config, Listener, Timeouts};
use crate::site::{Backend, Health, Identity, Servers, Site, SiteTable};
use crate::stage::{Secrets, Stage};
use arc_swap::ArcSwap;
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{Class, Duration, HeapSource, Instant, Verdict};
use causeway_flowtable::{Config as TableConfig, FlowTable, Worker};
use causeway_tcp::options::Options;
use causeway_tcp::{Ends, Head, segment};
use causeway_testkit::{Rig, check_packet, describe};
use causeway_wire::l4::tcp::{ACK, FIN, RST, SYN};
use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpCidr};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

mod bounds;
mod raw;
mod relayed;
mod streams;

const PROXY: &str = "203.0.113.80";
const CLIENT: &str = "198.51.100.99";
const SOURCE: &str = "2001:db8:64::1";
const VM1: &str = "2001:db8:64::101";
const VM2: &str = "2001:db8:64::102";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: site1.example\r\n\r\n";

/// Random numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

thread_local! {
    static MILLIS: Cell<u32> = const { Cell::new(0) };
}

fn client_clock() -> u32 {
    // Soon past its end.
    MILLIS.get().wrapping_add(0xffff_f000)
}

fn server_clock() -> u32 {
    MILLIS.get().wrapping_add(0x1234_5678)
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
    /// Closes when all is sent.
    closes: bool,
    /// Closes when the other end has closed.
    follows: bool,
}

impl Host {
    fn new(address: &str, timestamps: Option<fn() -> u32>) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let mut cable = Cable::default();
        let mut config = InterfaceConfig::new(HardwareAddress::Ip);
        config.random_seed = 77 + address.to_string().len() as u64;
        let mut interface = Interface::new(config, &mut cable, smoltcp::time::Instant::ZERO);
        let bits = if address.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|l| l.push(IpCidr::new(address.into(), bits)).unwrap());
        // Two sizes: other window scales.
        let octets = if address.is_ipv4() { 200_000 } else { 400_000 };
        let mut socket = Socket::new(SocketBuffer::new(vec![0; octets]), SocketBuffer::new(vec![0; 65_535]));
        socket.set_nagle_enabled(false);
        socket.set_tsval_generator(timestamps);
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
            closes: false,
            follows: true,
        }
    }

    fn tcp(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn connect(&mut self, to: (&str, u16), port: u16) {
        let to = SocketAddr::new(to.0.parse().unwrap(), to.1);
        let local = SocketAddr::new(self.address, port);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        socket.connect(self.interface.context(), to, local).unwrap();
    }

    fn listen(&mut self, port: u16) {
        let local = SocketAddr::new(self.address, port);
        self.tcp().listen(local).unwrap();
    }

    fn state(&mut self) -> State {
        self.tcp().state()
    }

    fn work(&mut self, now: Instant) {
        let time = smoltcp::time::Instant::from_micros(i64::try_from(now.as_micros()).unwrap());
        self.interface.poll(time, &mut self.cable, &mut self.sockets);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        while socket.can_recv() {
            let got = socket.recv(|b| (b.len(), b.to_vec())).unwrap();
            self.read.extend(got);
        }
        if socket.may_send() && !self.to_send.is_empty() {
            let n = socket.send_slice(&self.to_send).unwrap();
            self.to_send.drain(..n);
        }
        let done = self.to_send.is_empty() && socket.may_send();
        if done && (self.closes || self.follows && socket.state() == State::CloseWait) {
            socket.close();
        }
        self.interface.poll(time, &mut self.cable, &mut self.sockets);
    }

    fn wakes(&mut self, now: Instant) -> Option<Instant> {
        let time = smoltcp::time::Instant::from_micros(i64::try_from(now.as_micros()).unwrap());
        let at = self.interface.poll_at(time, &self.sockets)?;
        Some(Instant::from_micros(u64::try_from(at.total_micros()).unwrap()))
    }
}

fn site(name: &str, identity: Identity, servers: &[&str]) -> Site {
    let backend =
        |a: &&str| Backend { address: a.parse().unwrap(), ports: vec![], weight: 1, draining: false };
    Site {
        name: name.to_owned(),
        backends: servers.iter().map(backend).collect(),
        alpn: vec![],
        identity,
        redirect: None,
        health: Health::default(),
    }
}

fn config() -> Config {
    let listener = |port, tls, http, default: Option<&str>| Listener {
        address: PROXY.parse().unwrap(),
        port,
        tls,
        http,
        default_site: default.map(str::to_owned),
        redirect: false,
    };
    Config {
        listeners: vec![
            listener(80, false, true, None),
            listener(443, true, false, None),
            listener(2525, false, false, Some("site1.example")),
        ],
        sources: vec![Some(SOURCE.parse().unwrap())],
        client_prefixes: vec![Some("2001:db8:64:c::/96".parse().unwrap())],
        timeouts: Timeouts { terminated: Duration::from_secs(60), ..Config::default().timeouts },
        ..Config::default()
    }
}

/// The stage, hosts and a network between them.
struct World {
    rig: Rig,
    worker: Worker,
    stage: Stage,
    client: Host,
    servers: Vec<Host>,
    /// Packets under way, by when they arrive.
    network: BTreeMap<(Instant, u64), Vec<u8>>,
    count: u64,
    dice: Dice,
    /// Packets lost and doubled, of a hundred, and by how many microseconds late at most.
    loss: u64,
    double: u64,
    spread: u64,
    /// What the gateway has sent.
    sent: Vec<Vec<u8>>,
    /// What becomes of packets on the network.
    mangle: fn(&mut Vec<u8>) -> bool,
}

impl World {
    fn new(config: Config, sites: Vec<Site>) -> Self {
        let table = FlowTable::new(&TableConfig {
            sessions: 4096,
            mappings: 0,
            spliced: 1024,
            workers: 1,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        })
        .unwrap();
        let mut servers = Servers::new();
        let sites = Arc::new(ArcSwap::from_pointee(SiteTable::of(sites, &mut servers)));
        let stage = Stage::new(
            Arc::new(config),
            sites,
            IcmpErrors::new(100, 100),
            0,
            Secrets { seed: [7; 32], cookies: [9; 16] },
            None,
        );
        Self {
            rig: Rig::lab(),
            worker: table.worker(0).unwrap(),
            stage,
            client: Host::new(CLIENT, Some(client_clock)),
            servers: vec![Host::new(VM1, Some(server_clock))],
            network: BTreeMap::new(),
            count: 0,
            dice: Dice(1),
            loss: 0,
            double: 0,
            spread: 0,
            sent: Vec::new(),
            mangle: |_| true,
        }
    }

    fn carry(&mut self, mut packet: Vec<u8>) {
        if !(self.mangle)(&mut packet) || self.dice.roll(100) < self.loss {
            return;
        }
        let copies = 1 + u64::from(self.dice.roll(100) < self.double);
        for _ in 0..copies {
            let late = 200 + if self.spread > 0 { self.dice.roll(self.spread) } else { 0 };
            self.count += 1;
            self.network.insert((self.rig.now + Duration::from_micros(late), self.count), packet.clone());
        }
    }

    /// Gives the gateway a packet; says what it decided.
    fn gateway(&mut self, octets: &[u8]) -> Verdict {
        self.rig.source = HeapSource::new(1000);
        let four = octets[0] >> 4 == 4;
        let mut packets = [self.rig.packet(if four { "uplink0" } else { "tenant0" }, octets)];
        let mut verdicts = [Verdict::Consume];
        for again in 0..2 {
            packets[0].meta.again = again;
            let guard = self.worker.enter();
            let mut ctx = self.rig.ctx();
            if four {
                self.stage.clients(&mut ctx, &guard, &mut packets, &mut verdicts);
            } else {
                self.stage.servers(&mut ctx, &guard, &mut packets, &mut verdicts);
            }
            if !matches!(verdicts[0], Verdict::Again(Class::SpliceOut | Class::SpliceIn)) {
                break;
            }
        }
        self.collect();
        if matches!(verdicts[0], Verdict::Forward { .. }) {
            let out = packets[0].bytes().to_vec();
            if let Err(e) = check_packet(&out) {
                panic!("malformed: {e}: {}", describe(&out));
            }
            self.sent.push(out.clone());
            self.carry(out);
        }
        verdicts[0]
    }

    fn collect(&mut self) {
        for l in self.rig.sent() {
            self.sent.push(l.octets.clone());
            self.carry(l.octets);
        }
    }

    fn tick(&mut self) {
        self.rig.source = HeapSource::new(1000);
        {
            let guard = self.worker.enter();
            let mut ctx = self.rig.ctx();
            self.stage.tick(&mut ctx, &guard);
        }
        self.collect();
    }

    /// Lets a time pass, or less if `until` holds before.
    fn run(&mut self, time: Duration, mut until: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.rig.now + time;
        loop {
            MILLIS.set(u32::try_from(self.rig.now.as_millis()).unwrap());
            let now = self.rig.now;
            self.client.work(now);
            for s in &mut self.servers {
                s.work(now);
            }
            let mut going = std::mem::take(&mut self.client.cable.going);
            for s in &mut self.servers {
                going.append(&mut s.cable.going);
            }
            for packet in going {
                self.carry(packet);
            }
            self.tick();
            if until(self) {
                return true;
            }
            let arrives = self.network.keys().next().map(|k| k.0);
            let wakes =
                self.servers.iter_mut().map(|s| s.wakes(now)).chain([self.client.wakes(now)]).flatten().min();
            let steps = now + Duration::from_millis(20);
            let next = [arrives, wakes, Some(steps)].into_iter().flatten().min().unwrap();
            if next >= end {
                self.rig.now = end;
                return false;
            }
            self.rig.now = next.max(now + Duration::from_micros(1));
            while let Some(entry) = self.network.first_entry()
                && entry.key().0 <= self.rig.now
            {
                let packet = entry.remove();
                let to: IpAddr = if packet[0] >> 4 == 4 {
                    IpAddr::from(<[u8; 4]>::try_from(&packet[16..20]).unwrap())
                } else {
                    IpAddr::from(<[u8; 16]>::try_from(&packet[24..40]).unwrap())
                };
                if to == self.client.address {
                    self.client.cable.coming.push_back(packet);
                } else if let Some(s) = self.servers.iter_mut().find(|s| s.address == to) {
                    s.cable.coming.push_back(packet);
                } else if to == PROXY.parse::<IpAddr>().unwrap() || to.is_ipv6() {
                    let _ = self.gateway(&packet);
                }
            }
        }
    }

    /// Sessions that are the gateway's own, of connections that it terminates.
    fn terminated(&mut self) -> usize {
        let guard = self.worker.enter();
        let mut count = 0;
        guard.sessions(0, 4096, |s| count += usize::from(s.is_live() && s.ctl().state() == 0));
        count
    }

    fn counted(&self, name: &str) -> u64 {
        causeway_core::Counter::ALL
            .iter()
            .find(|c| c.name() == name)
            .map(|c| self.rig.counters.get(*c))
            .unwrap_or_else(|| panic!("{name}"))
    }
}
