//! Spliced connections without peers, and bursts of their segments.

use arrayvec::ArrayVec;
use causeway_benches::Rng;
use causeway_benches::clocks::Tsc;
use causeway_benches::stage::Direction;
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
/// The listener's address; its port is 443.
pub(crate) const PROXY: u32 = 0xcb00_7150;
const STAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6];

/// Connection `n`: 64 of a client and of a server.
#[derive(Clone, Copy)]
pub(crate) struct Flow(pub(crate) u32);

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
pub(crate) struct Frames {
    pub(crate) packets: Vec<Packet<HeapFrame>>,
    direction: Direction,
    meta: Meta,
    like: Vec<u8>,
}

impl Frames {
    /// `In` is from clients, as with NAT64.
    pub(crate) fn new(direction: Direction) -> Self {
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

    pub(crate) fn fill(&mut self, at: usize, f: Flow) {
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

    pub(crate) fn restore(&mut self) {
        for p in &mut self.packets {
            match self.direction {
                Direction::Out => p.frame.push_front(20).expect("the room that was there before"),
                Direction::In => p.frame.pull_front(20).expect("the octets that were there before"),
            }
        }
    }
}

/// A splice, its table full of connections.
pub(crate) struct Stage {
    pub(crate) rig: Rig,
    pub(crate) worker: Worker,
    splice: Splice,
    pub(crate) tsc: Tsc,
    /// The connections in random order, and which is next.
    order: Vec<u32>,
    at: usize,
}

impl Stage {
    pub(crate) fn new(flows: u32, tsc: &Tsc) -> Self {
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
        let mut order: Vec<u32> = (0..flows).collect();
        rng.shuffle(&mut order);
        Self { rig, worker, splice, tsc: tsc.clone(), order, at: 0 }
    }

    pub(crate) fn burst(&mut self, frames: &mut Frames) -> u64 {
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

    /// How many connections there are.
    pub(crate) fn flows(&self) -> u32 {
        self.order.len() as u32
    }

    /// A burst of the next connections: clocks.
    pub(crate) fn next_burst(&mut self, frames: &mut Frames) -> u64 {
        for place in 0..BURST {
            if self.at == self.order.len() {
                self.at = 0;
                if self.order.len() >= 100_000 {
                    // Every packet writes its session.
                    self.rig.advance(Duration::from_millis(250));
                }
            }
            frames.fill(place, Flow(self.order[self.at]));
            self.at += 1;
        }
        let clocks = self.burst(frames);
        self.rig.advance(Duration::from_nanos((clocks as f64 / self.tsc.ghz()) as u64));
        clocks
    }
}
