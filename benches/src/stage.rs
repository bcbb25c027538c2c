//! A NAT64 stage of one worker, without a device, and the flows that are sent through it.

use crate::clocks::{Figure, Gather, Tsc};
use crate::{Rng, WINDOW};
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::route::{Route4, Target};
use causeway_core::{
    BURST, Counter, Duration, Frame, HeapFrame, HeapSource, Interfaces, Meta, Packet, Routes, Verdict,
};
use causeway_flowtable::{FlowTable, InsideKey, OutsideKey, Worker};
use causeway_nat64::{Config, Nat64, Options, Pool4, Subscribers};
use causeway_testkit::{Rig, ip4, ip6, lab_interfaces};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const PREFIX: u128 = 0x2001_0db8_0064_ff9b << 64;
const HOSTS: u128 = 0x2001_0db8_0064 << 80;
/// Flows of one host: few, so that hosts are many and spread over the pool.
const FLOWS_PER_HOST: u32 = 64;
const FIRST_PORT: u16 = 10_000;
/// Where flows go; other ports are free for further flows to the same servers.
const REMOTE_PORT: u16 = 53;
/// Ports of a pool address that the benches want to use, out of 64,512: hosts are spread at random.
const PORTS_PER_ADDRESS: u32 = 52_000;

/// One UDP flow as its packets need it.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Its number: says the host, its port and the server.
    pub n: u32,
    /// The pool address and port, once it is open.
    pub out4: u32,
    /// See `out4`.
    pub out_port: u16,
}

impl Flow {
    /// Flow `n`, not open yet.
    #[must_use]
    pub const fn new(n: u32) -> Self {
        Self { n, out4: 0, out_port: 0 }
    }

    /// The host's address.
    #[must_use]
    pub fn host6(self) -> u128 {
        HOSTS | (u128::from(self.n / FLOWS_PER_HOST) + 0x100)
    }

    /// The host's port.
    #[must_use]
    pub const fn host_port(self) -> u16 {
        FIRST_PORT + (self.n % FLOWS_PER_HOST) as u16
    }

    /// The server: 198.18.0.0/15 has enough.
    #[must_use]
    pub const fn remote4(self) -> u32 {
        0xc612_0000 | (self.n.wrapping_mul(0x9e37_79b1) >> 15)
    }

    /// As the table finds it from inside.
    #[must_use]
    pub fn inside(self) -> InsideKey {
        InsideKey {
            src6: self.host6(),
            dst4: self.remote4(),
            src_port: self.host_port(),
            dst_port: REMOTE_PORT,
            protocol: 17,
            prefix: 0,
        }
    }

    /// As the table finds it from outside.
    #[must_use]
    pub const fn outside(self) -> OutsideKey {
        OutsideKey {
            out4: self.out4,
            remote4: self.remote4(),
            out_port: self.out_port,
            remote_port: REMOTE_PORT,
            protocol: 17,
        }
    }
}

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a host inside to a server outside.
    Out,
    /// The other way.
    In,
}

impl Direction {
    /// For figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Out => "6to4",
            Self::In => "4to6",
        }
    }
}

/// A burst of equal UDP packets to be filled again and again.
#[derive(Debug)]
pub struct Frames {
    /// The packets.
    pub packets: Vec<Packet<HeapFrame>>,
    direction: Direction,
    meta: Meta,
}

impl Frames {
    /// Packets of `octets` octets as IPv4 (20 more as IPv6), at least 28.
    #[must_use]
    pub fn new(octets: usize, direction: Direction) -> Self {
        let rig = Rig::lab();
        let payload = vec![0x5a; octets - 28];
        let (interface, bytes) = match direction {
            Direction::Out => (
                "tenant0",
                ip6("2001:db8:64::101", "2001:db8:64:ff9b::198.18.0.1").udp(1, REMOTE_PORT, &payload),
            ),
            Direction::In => ("uplink0", ip4("198.18.0.1", "10.64.0.1").udp(REMOTE_PORT, 1, &payload)),
        };
        let packets: Vec<_> = (0..BURST).map(|_| rig.packet(interface, &bytes)).collect();
        let meta = packets[0].meta;
        Self { packets, direction, meta }
    }

    /// Writes packet `at` anew, for this flow.
    pub fn fill(&mut self, at: usize, f: Flow) {
        let p = &mut self.packets[at];
        p.meta = self.meta;
        let b = p.bytes_mut();
        match self.direction {
            Direction::Out => {
                let payload = (b.len() - 40) as u16;
                b[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 17, 64]);
                b[4..6].copy_from_slice(&payload.to_be_bytes());
                b[8..24].copy_from_slice(&f.host6().to_be_bytes());
                b[24..40].copy_from_slice(&(PREFIX | u128::from(f.remote4())).to_be_bytes());
                b[40..42].copy_from_slice(&f.host_port().to_be_bytes());
                b[42..44].copy_from_slice(&REMOTE_PORT.to_be_bytes());
                b[46..48].copy_from_slice(&[0x12, 0x34]);
            }
            Direction::In => {
                let octets = (b.len() as u16).to_be_bytes();
                b[..12].copy_from_slice(&[0x45, 0, octets[0], octets[1], 0, 1, 0x40, 0, 64, 17, 0, 0]);
                b[12..16].copy_from_slice(&f.remote4().to_be_bytes());
                b[16..20].copy_from_slice(&f.out4.to_be_bytes());
                b[20..22].copy_from_slice(&REMOTE_PORT.to_be_bytes());
                b[22..24].copy_from_slice(&f.out_port.to_be_bytes());
                b[26..28].copy_from_slice(&[0x12, 0x34]);
            }
        }
    }

    /// Sends packet `at`, just filled, to another port of the same server.
    pub fn other_port(&mut self, at: usize, port: u16) {
        self.packets[at].bytes_mut()[42..44].copy_from_slice(&port.to_be_bytes());
    }

    /// Gives translated packets the length back that they had.
    pub fn restore(&mut self) {
        for p in &mut self.packets {
            match self.direction {
                Direction::Out => p.frame.push_front(20).expect("the room that was there before"),
                Direction::In => p.frame.pull_front(20).expect("the octets that were there before"),
            }
        }
    }
}

/// What stages share: a table, a pool, a configuration.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// The table.
    pub table: Arc<FlowTable>,
    /// The pool.
    pub pool: Arc<Pool4>,
    config: Arc<Config>,
    /// Addresses of the pool.
    pub addresses: u32,
}

/// How large a gateway is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Sessions and mappings that fit.
    pub sessions: u32,
    /// Addresses in the pool.
    pub addresses: u32,
    /// Workers.
    pub workers: u8,
}

impl Size {
    /// Room for so many flows with a mapping each, for one worker.
    #[must_use]
    pub const fn of(sessions: u32) -> Self {
        Self { sessions, addresses: sessions.div_ceil(PORTS_PER_ADDRESS), workers: 1 }
    }
}

impl Gateway {
    /// A gateway with all ports above 1023 of its pool addresses, no hold-down (so that ports that come
    /// back can be had at once), and everything else as it comes.
    ///
    /// # Panics
    /// When there is no memory for it.
    #[must_use]
    pub fn new(size: Size) -> Self {
        // The pool as the prefixes that add up to the number of addresses.
        let (mut pool, mut at, mut left) = (Vec::new(), 0x0a40_0000u32, size.addresses.max(1));
        while left > 0 {
            let part = 1 << left.ilog2();
            let text = format!("{}/{}", Ipv4Addr::from_bits(at), 32 - left.ilog2());
            pool.push(text.parse().expect("a prefix"));
            (at, left) = (at + part, left - part);
        }
        let options = Options {
            prefixes: vec!["2001:db8:64:ff9b::/96".parse().expect("a prefix")],
            pool,
            hold_down: Duration::ZERO,
            // Hosts are spread over the pool: each is a subscriber.
            subscribers: Subscribers { prefix_length: 128, ..Subscribers::default() },
            ..Options::default()
        };
        let config = Arc::new(Config::new(options).expect("a configuration"));
        let pool = Arc::new(Pool4::new(&config));
        let mut rng = Rng(42);
        let table = FlowTable::new(&causeway_flowtable::Config {
            sessions: size.sessions,
            mappings: size.sessions,
            spliced: 0,
            workers: size.workers,
            control_readers: 1,
            seed: std::array::from_fn(|_| rng.next_u64()),
        })
        .expect("memory for the table");
        Self { table, pool, config, addresses: size.addresses.max(1) }
    }

    /// The stage of worker `id`, which nobody else has.
    ///
    /// # Panics
    /// When somebody has it.
    #[must_use]
    pub fn stage(&self, id: u8, tsc: &Tsc) -> Stage {
        let worker = self.table.worker(id).expect("the worker is free");
        let nat = Nat64::new(Arc::clone(&self.config), Arc::clone(&self.pool), IcmpErrors::new(1000, 100));
        let mut rig = Rig::lab();
        rig.worker = (u16::from(id), u16::from(self.table.config().workers));
        let mut interfaces = lab_interfaces();
        let own = (Ipv6Addr::from_bits(HOSTS | 1), "2001:db8:64::/64".parse().expect("a prefix"));
        interfaces[0].addrs6 = vec![own];
        rig.interfaces = Interfaces::new(interfaces);
        let default = Route4 {
            prefix: "0.0.0.0/0".parse().expect("a prefix"),
            target: Target::Via { gateway: Ipv4Addr::new(192, 0, 2, 1), interface: None },
        };
        rig.routes = Routes::build(&rig.interfaces, &[], &[default]).expect("routes");
        Stage { rig, worker, nat, tsc: tsc.clone(), flows: Vec::new(), rng: Rng(43 + u64::from(id)) }
    }
}

/// One worker's stage.
#[derive(Debug)]
pub struct Stage {
    /// Time, counters, routes.
    pub rig: Rig,
    /// The worker's handle.
    pub worker: Worker,
    /// The stage itself.
    pub nat: Nat64<HeapFrame>,
    /// The clock.
    pub tsc: Tsc,
    /// Flows that are open.
    pub flows: Vec<Flow>,
    /// Random order.
    pub rng: Rng,
}

impl Stage {
    /// Opens these flows and adds them to [`Stage::flows`] with what they look like from outside.
    ///
    /// # Panics
    /// When one cannot be opened.
    pub fn open(&mut self, numbers: impl IntoIterator<Item = u32>) {
        let mut frames = Frames::new(64, Direction::Out);
        let mut numbers = numbers.into_iter();
        loop {
            let part: Vec<Flow> = numbers.by_ref().take(BURST).map(Flow::new).collect();
            let Some(last) = part.last() else { return };
            // A part that is not full opens its last flow more than once.
            (0..BURST).for_each(|at| frames.fill(at, *part.get(at).unwrap_or(last)));
            self.translate(&mut frames);
            for (p, f) in frames.packets.iter().zip(&part) {
                let b = p.bytes();
                let out4 = u32::from_be_bytes([b[12], b[13], b[14], b[15]]);
                let out_port = u16::from_be_bytes([b[20], b[21]]);
                self.flows.push(Flow { out4, out_port, ..*f });
            }
            frames.restore();
        }
    }

    /// Translates a burst, without a look at the verdicts; gives its clocks.
    #[inline]
    pub fn run(&mut self, frames: &mut Frames, verdicts: &mut [Verdict; BURST]) -> u64 {
        let guard = self.worker.enter();
        let mut ctx = self.rig.ctx();
        let before = self.tsc.raw();
        match frames.direction {
            Direction::Out => self.nat.v6_to_v4(&mut ctx, &guard, &mut frames.packets, verdicts),
            Direction::In => self.nat.v4_to_v6(&mut ctx, &guard, &mut frames.packets, verdicts),
        }
        self.tsc.raw() - before
    }

    /// Translates a burst and gives its clocks.
    ///
    /// # Panics
    /// When a packet is not forwarded: a measurement of packets that were dropped would be none.
    #[inline]
    pub fn translate(&mut self, frames: &mut Frames) -> u64 {
        let mut verdicts = [Verdict::Consume; BURST];
        let clocks = self.run(frames, &mut verdicts);
        for v in verdicts {
            assert!(matches!(v, Verdict::Forward { .. }), "{v:?}");
        }
        clocks
    }

    /// Judges `slots` slots and translates a burst, under one guard as a worker does it; gives the clocks of
    /// both. The first includes what entering takes back of slots that were given up.
    ///
    /// # Panics
    /// As [`Stage::translate`].
    pub fn sweep_and_translate(&mut self, frames: &mut Frames, slots: u32) -> (u64, u64) {
        let mut verdicts = [Verdict::Consume; BURST];
        let before = self.tsc.raw();
        let guard = self.worker.enter();
        let mut ctx = self.rig.ctx();
        if slots > 0 {
            self.nat.sweep(&mut ctx, &guard, slots);
        }
        let between = self.tsc.raw();
        match frames.direction {
            Direction::Out => self.nat.v6_to_v4(&mut ctx, &guard, &mut frames.packets, &mut verdicts),
            Direction::In => self.nat.v4_to_v6(&mut ctx, &guard, &mut frames.packets, &mut verdicts),
        }
        let after = self.tsc.raw();
        assert!(verdicts.iter().all(|v| matches!(v, Verdict::Forward { .. })), "{verdicts:?}");
        (between - before, after - between)
    }

    /// Fills a burst with the next flows of `order`, translates it, and gives its clocks.
    pub fn burst(&mut self, frames: &mut Frames, order: &mut Order) -> u64 {
        for at in 0..BURST {
            frames.fill(at, self.flows[order.step()]);
        }
        let clocks = self.translate(frames);
        frames.restore();
        clocks
    }

    /// All flows in random order.
    pub fn order(&mut self) -> Order {
        let mut order: Vec<u32> = (0..self.flows.len() as u32).collect();
        self.rng.shuffle(&mut order);
        Order { order, at: 0 }
    }

    /// How many bursts a size is measured with: each flow twice, within limits, in whole windows.
    #[must_use]
    pub fn bursts(&self) -> usize {
        (self.flows.len() * 2 / BURST).clamp(WINDOW * 60, WINDOW * 1250)
    }

    /// Clocks a packet of established flows, over windows of [`WINDOW`] bursts.
    ///
    /// The flows' time goes on as the clock does, and from 100,000 flows on by at least a tick (a
    /// quarter second) for each round, so that every packet writes its session.
    pub fn established(&mut self, octets: usize, direction: Direction) -> Figure {
        let mut frames = Frames::new(octets, direction);
        let mut order = self.order();
        let mut gather = Gather::new(self.tsc.clone());
        for _ in 0..self.bursts() / WINDOW {
            gather.window(WINDOW * BURST, || {
                let mut sum = 0;
                for _ in 0..WINDOW {
                    if self.flows.len() >= 100_000 && order.begins() {
                        self.rig.advance(Duration::from_millis(250));
                    }
                    let clocks = self.burst(&mut frames, &mut order);
                    self.rig.advance(Duration::from_nanos((clocks as f64 / self.tsc.ghz()) as u64));
                    sum += clocks;
                }
                sum
            });
        }
        gather.figure()
    }

    /// Sends one packet of each of the first `count` flows, which makes them used now.
    pub fn touch(&mut self, count: usize) {
        let mut frames = Frames::new(64, Direction::Out);
        for from in (0..count).step_by(BURST) {
            for at in 0..BURST {
                frames.fill(at, self.flows[(from + at).min(count - 1)]);
            }
            self.translate(&mut frames);
            frames.restore();
        }
    }

    /// Takes out what the stage originated, and gives it fresh frames to originate more.
    pub fn empty_outbox(&mut self) {
        self.rig.outbox.drain().for_each(drop);
        self.rig.source = HeapSource::new(1000);
    }

    /// A counter's value.
    #[must_use]
    pub fn count(&self, c: Counter) -> u64 {
        self.rig.counters.get(c)
    }
}

/// Flows in random order, around and around.
#[derive(Debug)]
pub struct Order {
    order: Vec<u32>,
    at: usize,
}

impl Order {
    /// Which flow comes next.
    #[inline]
    pub fn step(&mut self) -> usize {
        if self.at == self.order.len() {
            self.at = 0;
        }
        self.at += 1;
        self.order[self.at - 1] as usize
    }

    /// True if the burst that comes next has the first flow of a round.
    #[must_use]
    pub const fn begins(&self) -> bool {
        self.at == 0 || self.at + BURST > self.order.len()
    }
}
