//! New connections of the splicer: from the SYN of a TLS client until its segments are rewritten. No device, no I/O.
//!
//! Bursts of 32 connections go through the stage step by step: SYN (answered with a cookie), ACK (a connection), a
//! ClientHello of a browser (read, routed, a server asked), SYN-ACK of the server (the hello goes out), ACK of the server
//! (spliced, and rewritten to the client). What arrives is put together outside of the clock, all that the stage does is
//! inside of it. A `RESULT` line says clocks of the TSC for a connection, minimum and median over rounds, and how many
//! connections a second and core that is; another one the parts of the steps. The last one says how many connections came
//! about while somebody sent a million SYNs a second from forged sources between them.
//!
//! Environment: `CAUSEWAY_COMMIT`.

#![forbid(unsafe_code)]

use arc_swap::ArcSwap;
use causeway_benches::clocks::{Quiet, Tsc, met, min_median};
use causeway_benches::{Rng, measured_on, smoke};
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{BURST, Class, Ctx, Duration, Frame, FrameSource, HeapFrame, IfId, Packet, Verdict};
use causeway_flowtable::{
    Config as TableConfig, Ctl, Fate, FlowTable, Mapping, Session, Sweeper, Tick, Worker,
};
use causeway_splicer::config::{Config, Listener};
use causeway_splicer::site::{Backend, Health, Identity, Servers, Site, SiteTable};
use causeway_splicer::stage::{Secrets, Stage};
use causeway_tcp::options::Options;
use causeway_tcp::segment;
use causeway_testkit::{Rig, hello::Hello};
use causeway_wire::l4::tcp::{self, ACK, SYN};
use causeway_wire::{put16, put32};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Connections a second and core to reach.
const GOAL: f64 = 200_000.0;
const PROXY: &str = "203.0.113.80";
const SERVER: &str = "2001:db8:64::101";
/// The share of connections that has to come about under a flood.
const GOAL_FLOODED: f64 = 0.99;
/// Virtual time of a round.
const ROUND: Duration = Duration::from_micros(200);
/// SYNs of a flood ahead of each step of a round: a million a second, and a few more.
const FLOOD: usize = 42;
/// Steps of a connection.
const STEPS: [&str; 5] = ["syn", "ack", "hello", "syn-ack", "acknowledged"];

/// Frames that are used again.
#[derive(Default)]
struct Pool(Vec<HeapFrame>);

impl FrameSource for Pool {
    type Frame = HeapFrame;

    fn alloc(&mut self) -> Option<HeapFrame> {
        Some(self.0.pop().unwrap_or_else(|| HeapFrame::new(&[])))
    }
}

struct Nobody;

impl Sweeper for Nobody {
    fn judge(&mut self, _: &Session<'_>, _: Ctl, _: Tick) -> Fate {
        Fate::End
    }
    fn session_ended(&mut self, _: &Session<'_>) {}
    fn mapping_ended(&mut self, _: &Mapping<'_>) {}
}

struct Bench {
    rig: Rig,
    pool: Pool,
    worker: Worker,
    stage: Stage,
    tsc: Tsc,
    hello: Vec<u8>,
    /// Packets that the stage has sent of its own.
    sent: Vec<Vec<u8>>,
    clocks: [u64; STEPS.len()],
    /// Connections that came about, and whether SYNs of others come between their segments.
    spliced: usize,
    flooded: bool,
    rng: Rng,
}

/// What one end says.
struct Says {
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    seq: u32,
    ack: u32,
    flags: u8,
    stamps: (u32, u32),
}

impl Says {
    fn packet(&self, data: &[u8]) -> Vec<u8> {
        let syn = self.flags & SYN != 0;
        let options = Options {
            mss: syn.then_some(1460),
            window_scale: syn.then_some(7),
            sack_permitted: syn,
            timestamps: Some(self.stamps),
        };
        let header = tcp::HEADER + options.octets();
        let mut packet = Vec::new();
        segment::ip_header(&mut packet, self.from.0, self.to.0, header + data.len());
        let at = packet.len() - header - data.len();
        let t = &mut packet[at..];
        put16(t, 0, self.from.1);
        put16(t, 2, self.to.1);
        put32(t, tcp::SEQ, self.seq);
        put32(t, tcp::ACK_NO, self.ack);
        t[tcp::DATA_OFFSET] = u8::try_from(header / 4 * 16).unwrap_or(0x50);
        t[tcp::FLAGS] = self.flags;
        put16(t, tcp::WINDOW, 64_000);
        options.emit(&mut t[tcp::HEADER..header]);
        t[header..].copy_from_slice(data);
        segment::finish(&mut packet, 0, 1);
        packet
    }
}

impl Bench {
    fn new() -> Self {
        let listener = Listener {
            address: PROXY.parse().expect("an address"),
            port: 443,
            tls: true,
            http: false,
            default_site: None,
            redirect: false,
        };
        let mut config = Config {
            listeners: vec![listener],
            sources: vec![Some("2001:db8:64::1".parse().expect("an address"))],
            ..Config::default()
        };
        config.limits.peeks_per_client = 1000;
        let backend = Backend {
            address: SERVER.parse().expect("an address"),
            ports: vec![],
            weight: 1,
            draining: false,
        };
        // Ten thousand sites.
        let sites = (0..10_000).map(|n| Site {
            name: format!("site{n}.example"),
            backends: vec![backend.clone()],
            alpn: vec![],
            identity: Identity::None,
            redirect: None,
            health: Health::default(),
        });
        let sites = Arc::new(ArcSwap::from_pointee(SiteTable::of(sites, &mut Servers::new())));
        let table = FlowTable::new(&TableConfig {
            sessions: 1 << 16,
            mappings: 0,
            spliced: 1 << 16,
            workers: 1,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        })
        .expect("memory");
        let secrets = Secrets { seed: [7; 32], cookies: [9; 16] };
        Self {
            rig: Rig::lab(),
            pool: Pool::default(),
            worker: table.worker(0).expect("a worker"),
            stage: Stage::new(Arc::new(config), sites, IcmpErrors::new(1, 1), 0, secrets, None),
            tsc: Tsc::new(),
            hello: Hello::browser("site777.example").octets(),
            sent: Vec::new(),
            clocks: [0; STEPS.len()],
            spliced: 0,
            flooded: false,
            rng: Rng(6),
        }
    }

    /// SYNs of nobody, answered and forgotten.
    fn flood(&mut self) {
        let proxy: IpAddr = PROXY.parse().expect("an address");
        let mut left = FLOOD;
        while left > 0 {
            let octets: Vec<Vec<u8>> = (0..left.min(BURST))
                .map(|_| {
                    let random = self.rng.next_u64();
                    let source = Ipv4Addr::from_bits(0x0b00_0000 + (random >> 8) as u32 % 0x7000_0000);
                    let from = (IpAddr::V4(source), 1024 + (random % 60_000) as u16);
                    let seq = (random >> 32) as u32;
                    Says { from, to: (proxy, 443), seq, ack: 0, flags: SYN, stamps: (5, 0) }.packet(&[])
                })
                .collect();
            left -= octets.len();
            self.burst("uplink0", &octets);
        }
    }

    /// A step of a round; gives what the stage forwards.
    fn step(&mut self, step: usize, ingress: &str, octets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        if self.flooded {
            self.flood();
        }
        if octets.is_empty() {
            return Vec::new();
        }
        let (clocks, forwarded) = self.burst(ingress, octets);
        self.clocks[step] += clocks;
        forwarded
    }

    /// A burst through the stage: its clocks, and what it forwards.
    fn burst(&mut self, ingress: &str, octets: &[Vec<u8>]) -> (u64, Vec<Vec<u8>>) {
        let mut packets: Vec<Packet<HeapFrame>> =
            octets.iter().map(|o| self.rig.packet(ingress, o)).collect();
        let mut verdicts = [Verdict::Consume; BURST];
        let verdicts = &mut verdicts[..packets.len()];
        let four = octets[0][0] >> 4 == 4;
        self.sent.clear();
        let clocks = {
            let Rig { now, counters, outbox, events, interfaces, routes, .. } = &mut self.rig;
            let mut ctx = Ctx {
                now: *now,
                worker: 0,
                workers: 1,
                counters,
                outbox,
                source: &mut self.pool,
                events,
                interfaces,
                routes,
            };
            let guard = self.worker.enter();
            let before = self.tsc.raw();
            if four {
                self.stage.clients(&mut ctx, &guard, &mut packets, verdicts);
            } else {
                self.stage.servers(&mut ctx, &guard, &mut packets, verdicts);
            }
            if verdicts.contains(&Verdict::Again(Class::SpliceIn)) {
                for p in &mut packets {
                    p.meta.again = 1;
                }
                self.stage.servers(&mut ctx, &guard, &mut packets, verdicts);
            }
            self.stage.tick(&mut ctx, &guard);
            self.tsc.raw() - before
        };
        for mut packet in self.rig.outbox.drain() {
            self.sent.push(packet.bytes().to_vec());
            packet.frame.truncate(0);
            self.pool.0.push(packet.frame);
        }
        let forwarded = |(p, v): (&Packet<HeapFrame>, &Verdict)| {
            matches!(v, Verdict::Forward { .. }).then(|| p.bytes().to_vec())
        };
        (clocks, packets.iter().zip(&*verdicts).filter_map(forwarded).collect())
    }

    /// A burst of connections.
    fn round(&mut self, number: u32) {
        let proxy: IpAddr = PROXY.parse().expect("an address");
        let server: IpAddr = SERVER.parse().expect("an address");
        self.rig.advance(ROUND);
        let clients: Vec<((IpAddr, u16), u32)> = (0..BURST as u32)
            .map(|n| {
                let address = IpAddr::V4(Ipv4Addr::from_bits(0xc633_6400 | (n * 7 + number) & 0xff));
                ((address, 1024 + ((number * 32 + n) % 60_000) as u16), number.wrapping_mul(0x9e37_79b9) + n)
            })
            .collect();
        let says = |client: &((IpAddr, u16), u32), seq: u32, ack: u32, flags: u8, echo: u32, data: &[u8]| {
            Says { from: client.0, to: (proxy, 443), seq, ack, flags, stamps: (number, echo) }.packet(data)
        };
        let syns: Vec<Vec<u8>> = clients.iter().map(|c| says(c, c.1, 0, SYN, 0, &[])).collect();
        let answers = self.step(0, "uplink0", &syns);
        let agreed: Vec<(u32, u32)> = answers
            .iter()
            .map(|a| {
                let s = segment::parse(a, IfId(1)).expect("a segment");
                (s.head.seq.wrapping_add(1), s.options().timestamps.expect("timestamps").0)
            })
            .collect();
        let second = |data: &[u8]| -> Vec<Vec<u8>> {
            let with = clients.iter().zip(&agreed);
            with.map(|(c, a)| says(c, c.1.wrapping_add(1), a.0, ACK, a.1, data)).collect()
        };
        let acks = second(&[]);
        self.step(1, "uplink0", &acks);
        let hellos = second(&self.hello);
        self.step(2, "uplink0", &hellos);
        let asked: Vec<((IpAddr, u16), u32, u32)> = self
            .sent
            .iter()
            .filter(|p| p[0] >> 4 == 6)
            .map(|p| {
                let s = segment::parse(p, IfId(0)).expect("a segment");
                let from = s.ends.remote;
                (
                    (from.ip(), from.port()),
                    s.head.seq.wrapping_add(1),
                    s.options().timestamps.expect("timestamps").0,
                )
            })
            .collect();
        let replies = |seq: u32, flags: u8, more: usize| -> Vec<Vec<u8>> {
            let says = asked.iter().map(|&(to, ack, echo)| {
                let ack = ack.wrapping_add(more as u32);
                Says { from: (server, 443), to, seq, ack, flags, stamps: (number, echo) }.packet(&[])
            });
            says.collect()
        };
        let syn_acks = replies(1000, SYN | ACK, 0);
        self.step(3, "tenant0", &syn_acks);
        let acks = replies(1001, ACK, self.hello.len());
        let rewritten = self.step(4, "tenant0", &acks);
        self.spliced += rewritten.len();
        let guard = self.worker.enter();
        let mut from = Some(0);
        while let Some(at) = from {
            from = guard.sessions(at, 1 << 12, |s| {
                guard.end(s, &mut Nobody);
            });
        }
    }
}

fn main() {
    let mut bench = Bench::new();
    let rounds = if smoke() { 20 } else { 4000 };
    let mut quiet = Quiet::new(bench.tsc.clone());
    let mut all: Vec<f64> = Vec::new();
    let mut parts: Vec<Vec<f64>> = vec![Vec::new(); STEPS.len()];
    for n in 0..rounds {
        bench.clocks = [0; STEPS.len()];
        let ((), good) = quiet.window(|| bench.round(n));
        // The first rounds make what later ones use again.
        if n < 10 || (!good && !smoke()) {
            continue;
        }
        let per = |clocks: u64| clocks as f64 / BURST as f64;
        all.push(per(bench.clocks.iter().sum()));
        for (list, clocks) in parts.iter_mut().zip(bench.clocks) {
            list.push(per(clocks));
        }
    }
    let (min, median) = min_median(all);
    let rate = bench.tsc.ghz() * 1e9 / median;
    println!(
        "RESULT hello clocks_min={min:.0} clocks_median={median:.0} connections_per_second={rate:.0} goal={GOAL:.0} {}",
        met(rate >= GOAL)
    );
    print!("RESULT hello-steps");
    for (name, list) in STEPS.iter().zip(parts) {
        print!(" {name}={:.0}", min_median(list).1);
    }
    println!(" hello_octets={}", bench.hello.len());
    assert_eq!(bench.spliced, rounds as usize * BURST, "each connection is spliced");
    (bench.spliced, bench.flooded) = (0, true);
    let flooded = rounds.min(500);
    for n in 0..flooded {
        bench.round(rounds + n);
    }
    let share = bench.spliced as f64 / f64::from(flooded) / BURST as f64;
    let rate = (FLOOD * STEPS.len()) as f64 / ROUND.as_micros() as f64;
    println!(
        "RESULT hello flooded connections={} syns_per_second={rate:.2}e6 came_about={share:.4} goal={GOAL_FLOODED} {}",
        flooded as usize * BURST,
        met(share > GOAL_FLOODED)
    );
    println!("RESULT hello windows kept={} thrown={} {}", quiet.kept, quiet.thrown, measured_on());
}
