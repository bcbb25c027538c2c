//! Spliced segments beside NAT64 packets: no device, no I/O.
//!
//! The same run measures both in the same way: established flows in random order, in bursts of 32, put together outside
//! of the clock. NAT64 has its smallest UDP packets, as in `translate`; the splice has segments as most are on the
//! Internet: timestamps, no payload beyond that (52 octets as IPv4).
//!
//! Lines that begin with `RESULT`:
//! - `established`: clocks of the TSC per packet, minimum and median over windows of 64 bursts, for both, and by how
//!   much the splice's are more. To reach: 1.5 times at most.
//! - `memory`: octets of a spliced connection, by the table's own count. To reach: 256 at most.
//!
//! Environment: `BENCH_FLOWS=1000,100000` instead of the usual sizes; `CAUSEWAY_COMMIT`.

#![forbid(unsafe_code)]

use arrayvec::ArrayVec;
use causeway_benches::clocks::{Figure, Gather, Tsc, met};
use causeway_benches::stage::{Direction, Gateway, Size};
use causeway_benches::{Rng, WINDOW, measured_on, smoke};
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::route::{Route4, Target};
use causeway_core::{BURST, Duration, Frame, HeapFrame, Interfaces, Meta, Packet, Routes, Verdict};
use causeway_flowtable::{
    FlowTable, InsideKey, Kind, NewKey, NewSession, OWN_ADDRESS, OutsideKey, Tick, Worker,
};
use causeway_splicer::splice::{Constants, Ends, Scales, Splice, engage};
use causeway_splicer::{Config, State};
use causeway_testkit::{Rig, ip4, ip6, lab_interfaces, tcp};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const SERVERS: u128 = 0x2001_0db8_0064 << 80;
const OWN: u128 = SERVERS | 1;
const PROXY: u32 = 0xcb00_7150;
/// Octets of the smallest IPv4 packet that fills an Ethernet frame.
const SMALLEST: usize = 46;
/// How much a spliced packet may cost, in NAT64 packets.
const GOAL: f64 = 1.5;
/// Octets of a connection, at most.
const GOAL_OCTETS: f64 = 256.0;
const STAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6];

/// Connection `n`: 64 of a client and of a server.
#[derive(Clone, Copy)]
struct Flow(u32);

impl Flow {
    const fn client(self) -> (u32, u16) {
        (0xc612_0000 + self.0 / 64, 10_000 + (self.0 % 64) as u16)
    }

    fn server(self) -> u128 {
        SERVERS | (u128::from(self.0 / 64) + 0x100)
    }

    const fn own_port(self) -> u16 {
        20_000 + (self.0 % 64) as u16
    }

    const fn outside(self) -> OutsideKey {
        let (remote4, remote_port) = self.client();
        OutsideKey { out4: PROXY, remote4, out_port: 443, remote_port, protocol: 6 }
    }

    fn inside(self) -> InsideKey {
        InsideKey {
            src6: self.server(),
            dst4: 0,
            src_port: 443,
            dst_port: self.own_port(),
            protocol: 6,
            prefix: OWN_ADDRESS,
        }
    }

    fn ends(self) -> Ends {
        let (client, port) = self.client();
        Ends {
            client: (Ipv4Addr::from_bits(client), port),
            listener: (Ipv4Addr::from_bits(PROXY), 443),
            server: (Ipv6Addr::from_bits(self.server()), 443),
            own: (Ipv6Addr::from_bits(OWN), self.own_port()),
        }
    }
}

/// A burst of segments to be filled again and again.
struct Frames {
    packets: Vec<Packet<HeapFrame>>,
    direction: Direction,
    meta: Meta,
    like: Vec<u8>,
}

impl Frames {
    /// `In` is from clients, as with NAT64.
    fn new(direction: Direction) -> Self {
        let rig = Rig::lab();
        let segment = tcp(1, 2).seq(1000).ack(2000).window(501).options(&STAMPS);
        let (interface, like) = match direction {
            Direction::Out => ("tenant0", ip6("2001:db8:64::101", "2001:db8:64::1").tcp(&segment)),
            Direction::In => ("uplink0", ip4("198.18.0.1", "203.0.113.80").tcp(&segment)),
        };
        let packets: Vec<_> = (0..BURST).map(|_| rig.packet(interface, &like)).collect();
        let meta = packets[0].meta;
        Self { packets, direction, meta, like }
    }

    fn fill(&mut self, at: usize, f: Flow) {
        let p = &mut self.packets[at];
        p.meta = self.meta;
        let b = p.bytes_mut();
        b.copy_from_slice(&self.like);
        match self.direction {
            Direction::Out => {
                b[8..24].copy_from_slice(&f.server().to_be_bytes());
                b[24..40].copy_from_slice(&OWN.to_be_bytes());
                b[40..42].copy_from_slice(&443u16.to_be_bytes());
                b[42..44].copy_from_slice(&f.own_port().to_be_bytes());
            }
            Direction::In => {
                let (client, port) = f.client();
                b[12..16].copy_from_slice(&client.to_be_bytes());
                b[16..20].copy_from_slice(&PROXY.to_be_bytes());
                b[20..22].copy_from_slice(&port.to_be_bytes());
                b[22..24].copy_from_slice(&443u16.to_be_bytes());
            }
        }
    }

    fn restore(&mut self) {
        for p in &mut self.packets {
            match self.direction {
                Direction::Out => p.frame.push_front(20).expect("the room that was there before"),
                Direction::In => p.frame.pull_front(20).expect("the octets that were there before"),
            }
        }
    }
}

struct Stage {
    rig: Rig,
    worker: Worker,
    splice: Splice,
    tsc: Tsc,
    flows: u32,
    rng: Rng,
}

impl Stage {
    fn new(flows: u32, tsc: &Tsc) -> Self {
        let mut rng = Rng(44);
        let table = FlowTable::new(&causeway_flowtable::Config {
            sessions: flows,
            mappings: 0,
            spliced: flows,
            workers: 1,
            control_readers: 1,
            seed: std::array::from_fn(|_| rng.next_u64()),
        })
        .expect("memory for the table");
        let mut rig = Rig::lab();
        let mut interfaces = lab_interfaces();
        let own = (Ipv6Addr::from_bits(OWN), "2001:db8:64::/64".parse().expect("a prefix"));
        interfaces[0].addrs6 = vec![own];
        rig.interfaces = Interfaces::new(interfaces);
        let default = Route4 {
            prefix: "0.0.0.0/0".parse().expect("a prefix"),
            target: Target::Via { gateway: Ipv4Addr::new(192, 0, 2, 1), interface: None },
        };
        rig.routes = Routes::build(&rig.interfaces, &[], &[default]).expect("routes");
        let config = Config { sources: vec![Some(Ipv6Addr::from_bits(OWN))], ..Config::default() };
        let splice = Splice::new(Arc::new(config), IcmpErrors::new(1000, 100), 0);
        let mut worker = table.worker(0).expect("the worker is free");
        let constants = Constants {
            client_seq_delta: 0x1234_5678,
            server_seq_delta: 0x9abc_def0,
            client_seq_end: 1000,
            server_seq_end: 1000,
            timestamps: true,
            server_ts_delta: 77,
            client_sack: true,
            server_sack: true,
            scales: Scales { client: 8, to_client: 7, server: 9, to_server: 8 },
            ..Constants::default()
        };
        let tick = Tick::at(rig.now);
        for n in 0..flows {
            let f = Flow(n);
            let guard = worker.enter();
            let new = NewSession {
                key: NewKey::Outside(f.outside()),
                kind: Kind::Spliced,
                owner: 0,
                subscriber: 0,
                plan_generation: 0,
                state: State::Peek as u8,
                flags: 0,
                tick,
                aux: 0,
            };
            let session = guard.create_single(&new).expect("room for it").into_inner();
            let line = guard.take_spliced().expect("a line for each");
            guard.add_inside(&session, f.inside(), line, f.ends().checksum_delta()).expect("a free key");
            assert!(engage(&session, &constants, tick));
        }
        Self { rig, worker, splice, tsc: tsc.clone(), flows, rng }
    }

    fn burst(&mut self, frames: &mut Frames) -> u64 {
        let mut verdicts = [Verdict::Consume; BURST];
        let mut slow: ArrayVec<u8, BURST> = ArrayVec::new();
        let guard = self.worker.enter();
        let mut ctx = self.rig.ctx();
        let before = self.tsc.raw();
        match frames.direction {
            Direction::Out => {
                self.splice.servers(&mut ctx, &guard, &mut frames.packets, &mut verdicts, &mut slow);
            }
            Direction::In => {
                self.splice.clients(&mut ctx, &guard, &mut frames.packets, &mut verdicts, &mut slow);
            }
        }
        let clocks = self.tsc.raw() - before;
        assert!(verdicts.iter().all(|v| matches!(v, Verdict::Forward { .. })), "{verdicts:?} {slow:?}");
        frames.restore();
        clocks
    }

    /// As the NAT64 stage of the benches measures it.
    fn established(&mut self, direction: Direction) -> Figure {
        let mut frames = Frames::new(direction);
        let mut order: Vec<u32> = (0..self.flows).collect();
        self.rng.shuffle(&mut order);
        let mut at = 0;
        let mut gather = Gather::new(self.tsc.clone());
        let bursts = (order.len() * 2 / BURST).clamp(WINDOW * 60, WINDOW * 1250);
        for _ in 0..bursts / WINDOW {
            gather.window(WINDOW * BURST, || {
                let mut sum = 0;
                for _ in 0..WINDOW {
                    for place in 0..BURST {
                        if at == order.len() {
                            at = 0;
                            if order.len() >= 100_000 {
                                // Every packet writes its session.
                                self.rig.advance(Duration::from_millis(250));
                            }
                        }
                        frames.fill(place, Flow(order[at]));
                        at += 1;
                    }
                    let clocks = self.burst(&mut frames);
                    self.rig.advance(Duration::from_nanos((clocks as f64 / self.tsc.ghz()) as u64));
                    sum += clocks;
                }
                sum
            });
        }
        gather.figure()
    }
}

fn main() {
    let test = smoke();
    println!("INFO {}", measured_on());
    let tsc = Tsc::new();
    println!("INFO TSC {:.3} GHz; random flow order, the stages alone", tsc.ghz());
    let mut sizes = vec![1_000u32, 1_000_000];
    if let Ok(flows) = std::env::var("BENCH_FLOWS") {
        sizes = flows.split(',').map(|n| n.trim().parse().expect("numbers of flows")).collect();
    } else if test {
        sizes.truncate(1);
    }
    for &flows in &sizes {
        let nat = |direction| {
            let gateway = Gateway::new(Size::of(flows));
            let mut stage = gateway.stage(0, &tsc);
            stage.open(0..flows);
            stage.established(SMALLEST, direction)
        };
        let both = [Direction::Out, Direction::In].map(nat);
        let mut stage = Stage::new(flows, &tsc);
        for (direction, nat) in [Direction::Out, Direction::In].into_iter().zip(both) {
            let Figure { min, median, kept, thrown } = stage.established(direction);
            println!(
                "RESULT splice established flows={flows} direction={} clocks_min={min:.0} clocks_median={median:.0} \
                 nat64_min={:.0} nat64_median={:.0} times_min={:.2} times_median={:.2} goal={GOAL} goal_by_min={} \
                 goal_by_median={} windows={kept} thrown_away={thrown}",
                direction.name(),
                nat.min,
                nat.median,
                min / nat.min,
                median / nat.median,
                met(min / nat.min <= GOAL),
                met(median / nat.median <= GOAL),
            );
        }
        let octets = stage.worker.table().stats().octets as f64 / f64::from(flows);
        println!(
            "RESULT splice memory connections={flows} octets={octets:.1} goal={GOAL_OCTETS} goal_reached={}",
            met(octets <= GOAL_OCTETS)
        );
    }
}
