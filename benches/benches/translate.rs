//! NAT64 translation alone: no device, no I/O.
//!
//! Packets of established UDP flows, in random flow order, in bursts of 32. Each burst is put together
//! outside of the clock and translated inside of it, so that what is measured is the stage: parse, look
//! up, follow the session, find the route, rewrite. Sizes are 1 K, 100 K and 1 M flows, and 10 M with
//! `BENCH_FULL=1`; packets of 64, 512 and 1400 octets of IPv4 payload and header.
//!
//! Lines that begin with `RESULT` say clocks of the TSC per packet: the minimum and the median over
//! windows of 64 bursts. Other work on the machine shows in the median first.

#![forbid(unsafe_code)]

use causeway_benches::{Rng, measured_on};
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{BURST, Duration, Frame, HeapFrame, Interfaces, Packet, Routes, Verdict};
use causeway_flowtable::{FlowTable, InsideKey, Lookup, OutsideKey, Worker};
use causeway_nat64::{Config, Nat64, Options, Pool4, Subscribers};
use causeway_testkit::{Rig, ip4, ip6, lab_interfaces};
use quanta::Clock;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const PREFIX: u128 = 0x2001_0db8_0064_ff9b << 64;
const HOSTS: u128 = 0x2001_0db8_0064 << 80;
/// Flows of one host: few, so that hosts are many and spread over the pool.
const FLOWS_PER_HOST: u32 = 64;
const FIRST_PORT: u16 = 10_000;
/// Bursts of one window.
const WINDOW: usize = 64;

/// One flow as the packets need it.
#[derive(Clone, Copy)]
struct Flow {
    n: u32,
    out4: u32,
    out_port: u16,
}

impl Flow {
    fn host6(self) -> [u8; 16] {
        (HOSTS | (u128::from(self.n / FLOWS_PER_HOST) + 0x100)).to_be_bytes()
    }

    const fn host_port(self) -> u16 {
        FIRST_PORT + (self.n % FLOWS_PER_HOST) as u16
    }

    /// 198.18.0.0/15 has enough servers.
    const fn remote4(self) -> u32 {
        0xc612_0000 | (self.n.wrapping_mul(0x9e37_79b1) >> 15)
    }
}

struct Bench {
    rig: Rig,
    worker: Worker,
    nat: Nat64<HeapFrame>,
    clock: Clock,
    flows: Vec<Flow>,
    rng: Rng,
    /// Clocks of the TSC in a nanosecond.
    ghz: f64,
}

fn options(addresses: u32) -> Options {
    let len = 32 - addresses.next_power_of_two().trailing_zeros();
    Options {
        prefixes: vec!["2001:db8:64:ff9b::/96".parse().expect("a prefix")],
        pool: vec![format!("10.64.0.0/{len}").parse().expect("a prefix")],
        hold_down: Duration::ZERO,
        // Hosts are spread over the pool: each is a subscriber.
        subscribers: Subscribers { prefix_length: 128, ..Subscribers::default() },
        ..Options::default()
    }
}

impl Bench {
    fn new(flows: u32, sessions: u32) -> Self {
        let config = Arc::new(Config::new(options(sessions.div_ceil(30_000))).expect("a configuration"));
        let pool = Arc::new(Pool4::new(&config));
        let mut rng = Rng(42);
        let table = FlowTable::new(&causeway_flowtable::Config {
            sessions,
            mappings: sessions,
            spliced: 0,
            workers: 1,
            control_readers: 1,
            seed: std::array::from_fn(|_| rng.next_u64()),
        })
        .expect("memory for the table");
        let worker = table.worker(0).expect("the first worker");
        let nat = Nat64::new(config, pool, IcmpErrors::new(1, 1));
        let clock = Clock::new();
        let mut rig = Rig::lab();
        let mut interfaces = lab_interfaces();
        interfaces[0]
            .addrs6
            .push((Ipv6Addr::from_bits(HOSTS | 1), "2001:db8:64::/64".parse().expect("a prefix")));
        interfaces[0].addrs6.remove(0);
        rig.interfaces = Interfaces::new(interfaces);
        rig.routes = Routes::build(&rig.interfaces, &[], &[default_route()]).expect("routes");
        let ghz = tsc_ghz(&clock);
        let mut b = Self { rig, worker, nat, clock, flows: Vec::new(), rng, ghz };
        b.open(flows);
        b
    }

    /// Opens flows, and notes what they look like from outside.
    fn open(&mut self, flows: u32) {
        let mut packets = frames(64, true);
        let first = self.flows.len() as u32;
        let list: Vec<u32> = (first..first + flows).collect();
        for part in list.chunks(BURST) {
            let part: Vec<Flow> = part.iter().map(|n| Flow { n: *n, out4: 0, out_port: 0 }).collect();
            for (p, f) in packets.iter_mut().zip(&part) {
                fill6(p, *f);
            }
            self.six(&mut packets[..part.len()]);
            for (p, f) in packets.iter_mut().zip(part) {
                let b = p.bytes();
                let out4 = u32::from_be_bytes([b[12], b[13], b[14], b[15]]);
                let out_port = u16::from_be_bytes([b[20], b[21]]);
                self.flows.push(Flow { out4, out_port, ..f });
                restore6(p);
            }
        }
    }

    /// Translates a burst and gives its clocks.
    fn six(&mut self, packets: &mut [Packet<HeapFrame>]) -> u64 {
        let mut verdicts = [Verdict::Consume; BURST];
        let guard = self.worker.enter();
        let mut ctx = self.rig.ctx();
        let before = self.clock.raw();
        self.nat.v6_to_v4(&mut ctx, &guard, packets, &mut verdicts);
        let clocks = self.clock.raw() - before;
        forwarded(&verdicts[..packets.len()]);
        clocks
    }

    fn four(&mut self, packets: &mut [Packet<HeapFrame>]) -> u64 {
        let mut verdicts = [Verdict::Consume; BURST];
        let guard = self.worker.enter();
        let mut ctx = self.rig.ctx();
        let before = self.clock.raw();
        self.nat.v4_to_v6(&mut ctx, &guard, packets, &mut verdicts);
        let clocks = self.clock.raw() - before;
        forwarded(&verdicts[..packets.len()]);
        clocks
    }

    /// Clocks a packet: minimum and median over windows.
    fn established(&mut self, octets: usize, inside: bool) -> (f64, f64) {
        let mut packets = frames(octets, inside);
        let mut order: Vec<u32> = (0..self.flows.len() as u32).collect();
        self.rng.shuffle(&mut order);
        let bursts = (self.flows.len() * 2 / BURST).clamp(WINDOW * 60, 80_000);
        let mut at = 0;
        let mut windows = Vec::new();
        let mut sum = 0;
        for n in 1..=bursts {
            for p in &mut packets {
                let f = self.flows[order[at] as usize];
                at = (at + 1) % order.len();
                if inside { fill6(p, f) } else { fill4(p, f) }
            }
            sum += if inside { self.six(&mut packets) } else { self.four(&mut packets) };
            for p in &mut packets {
                if inside { restore6(p) } else { restore4(p) }
            }
            if n % WINDOW == 0 {
                windows.push(sum as f64 / (WINDOW * BURST) as f64);
                sum = 0;
            }
        }
        min_median(windows)
    }

    /// The table's part alone: bulk lookup of the same flows, and a read of each session found.
    fn floor(&mut self, inside: bool) -> (f64, f64) {
        let mut order: Vec<u32> = (0..self.flows.len() as u32).collect();
        self.rng.shuffle(&mut order);
        let bursts = (self.flows.len() * 2 / BURST).clamp(WINDOW * 60, 80_000);
        let (mut at, mut sum, mut windows) = (0, 0, Vec::new());
        for n in 1..=bursts {
            let flows: [Flow; BURST] =
                std::array::from_fn(|i| self.flows[order[(at + i) % order.len()] as usize]);
            at = (at + BURST) % order.len();
            let six = flows.map(|f| InsideKey {
                src6: u128::from_be_bytes(f.host6()),
                dst4: f.remote4(),
                src_port: f.host_port(),
                dst_port: 53,
                protocol: 17,
                prefix: 0,
            });
            let four = flows.map(|f| OutsideKey {
                out4: f.out4,
                remote4: f.remote4(),
                out_port: f.out_port,
                remote_port: 53,
                protocol: 17,
            });
            let guard = self.worker.enter();
            let mut found = [Lookup::Miss; BURST];
            let before = self.clock.raw();
            if inside {
                guard.lookup_inside(&six, &mut found);
            } else {
                guard.lookup_outside(&four, &mut found);
            }
            let read: u64 = found.iter().map(|f| f.hit().map_or(0, |s| u64::from(s.checksum_delta()))).sum();
            sum += self.clock.raw() - before;
            std::hint::black_box(read);
            assert!(found.iter().all(|f| f.hit().is_some()));
            if n % WINDOW == 0 {
                windows.push(sum as f64 / (WINDOW * BURST) as f64);
                sum = 0;
            }
        }
        min_median(windows)
    }

    fn report(&self, what: &str, fields: &str, (min, median): (f64, f64)) {
        let ns = median / self.ghz;
        println!(
            "RESULT translate {what} flows={} {fields} clocks_min={min:.0} clocks_median={median:.0} ns_median={ns:.1}",
            self.flows.len()
        );
    }

    /// New sessions a second and core: the clocks of bursts in which every packet opens one.
    fn new_sessions(&mut self, count: u32, new_mapping: bool) {
        let mut packets = frames(64, true);
        let mut windows = Vec::new();
        let (mut sum, mut in_window) = (0, 0);
        let have = self.flows.len() as u32;
        let mut n = 0;
        while n < count {
            for p in &mut packets {
                if new_mapping {
                    fill6(p, Flow { n: have + n, out4: 0, out_port: 0 });
                } else {
                    // The same host and port as a flow that is there, to another server.
                    let f = self.flows[self.rng.below(have as usize)];
                    fill6(p, f);
                    let to = (0xcb00_0000u32 | n).to_be_bytes();
                    p.bytes_mut()[36..40].copy_from_slice(&to);
                }
                n += 1;
            }
            sum += self.six(&mut packets);
            in_window += 1;
            packets.iter_mut().for_each(restore6);
            if in_window == WINDOW {
                windows.push(sum as f64 / (WINDOW * BURST) as f64);
                (sum, in_window) = (0, 0);
            }
        }
        let (min, median) = min_median(windows);
        let rate = self.ghz * 1000.0 / median;
        println!(
            "RESULT translate new-sessions flows={have} mapping={} count={n} clocks_min={min:.0} clocks_median={median:.0} million_per_s={rate:.2}",
            if new_mapping { "new" } else { "existing" },
        );
    }

    /// Ends everything that there is, slice by slice, and gives what one slice cost.
    fn expire(&mut self, slots: u32) {
        self.rig.advance(Duration::from_secs(400));
        let (mut ended, mut slices) = (0u64, Vec::new());
        let total = self.worker.table().stats().sessions;
        while self.worker.table().stats().sessions > 0 && slices.len() < 10_000_000 {
            let guard = self.worker.enter();
            let mut ctx = self.rig.ctx();
            let before = self.clock.raw();
            let swept = self.nat.sweep(&mut ctx, &guard, slots);
            slices.push((self.clock.raw() - before) as f64 / self.ghz / 1000.0);
            ended += u64::from(swept.sessions);
        }
        slices.sort_by(f64::total_cmp);
        let at = |q: f64| slices[((slices.len() - 1) as f64 * q) as usize];
        println!(
            "RESULT translate expire flows={total} slots={slots} ended={ended} slices={} us_median={:.2} us_p999={:.2} us_max={:.2}",
            slices.len(),
            at(0.5),
            at(0.999),
            at(1.0),
        );
    }
}

fn default_route() -> causeway_core::route::Route4 {
    causeway_core::route::Route4 {
        prefix: "0.0.0.0/0".parse().expect("a prefix"),
        target: causeway_core::route::Target::Via { gateway: Ipv4Addr::new(192, 0, 2, 1), interface: None },
    }
}

/// A burst of UDP packets, of `octets` octets as IPv4.
fn frames(octets: usize, inside: bool) -> Vec<Packet<HeapFrame>> {
    let rig = Rig::lab();
    let payload = vec![0x5a; octets - 28];
    let bytes = if inside {
        ip6("2001:db8:64::101", "2001:db8:64:ff9b::198.18.0.1").udp(1, 53, &payload)
    } else {
        ip4("198.18.0.1", "10.64.0.1").udp(53, 1, &payload)
    };
    (0..BURST).map(|_| rig.packet(if inside { "tenant0" } else { "uplink0" }, &bytes)).collect()
}

fn fill6(p: &mut Packet<HeapFrame>, f: Flow) {
    let b = p.bytes_mut();
    b[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 17, 64]);
    let payload = (b.len() - 40) as u16;
    b[4..6].copy_from_slice(&payload.to_be_bytes());
    b[8..24].copy_from_slice(&f.host6());
    b[24..40].copy_from_slice(&(PREFIX | u128::from(f.remote4())).to_be_bytes());
    b[40..42].copy_from_slice(&f.host_port().to_be_bytes());
    b[42..44].copy_from_slice(&53u16.to_be_bytes());
    b[46..48].copy_from_slice(&[0x12, 0x34]);
    p.meta.hop_done = false;
}

fn fill4(p: &mut Packet<HeapFrame>, f: Flow) {
    let b = p.bytes_mut();
    let octets = (b.len() as u16).to_be_bytes();
    b[..12].copy_from_slice(&[0x45, 0, octets[0], octets[1], 0, 1, 0x40, 0, 64, 17, 0, 0]);
    b[12..16].copy_from_slice(&f.remote4().to_be_bytes());
    b[16..20].copy_from_slice(&f.out4.to_be_bytes());
    b[20..22].copy_from_slice(&53u16.to_be_bytes());
    b[22..24].copy_from_slice(&f.out_port.to_be_bytes());
    b[26..28].copy_from_slice(&[0x12, 0x34]);
    p.meta.hop_done = false;
}

fn restore6(p: &mut Packet<HeapFrame>) {
    p.frame.push_front(20).expect("the room that was there before");
}

fn restore4(p: &mut Packet<HeapFrame>) {
    p.frame.pull_front(20).expect("the octets that were there before");
}

/// A measurement of packets that were dropped would be none.
fn forwarded(verdicts: &[Verdict]) {
    for v in verdicts {
        assert!(matches!(v, Verdict::Forward { .. }), "{v:?}");
    }
}

fn min_median(mut windows: Vec<f64>) -> (f64, f64) {
    windows.sort_by(f64::total_cmp);
    (windows[0], windows[windows.len() / 2])
}

/// Clocks of the TSC in a nanosecond.
fn tsc_ghz(clock: &Clock) -> f64 {
    let (t0, c0) = (std::time::Instant::now(), clock.raw());
    std::thread::sleep(Duration::from_millis(100));
    (clock.raw() - c0) as f64 / t0.elapsed().as_nanos() as f64
}

fn main() {
    // `cargo test --benches` runs this to see that it works: one small round is enough then.
    let test = std::env::args().any(|a| a == "--test");
    println!("RESULT translate machine {}", measured_on());
    let mut sizes = vec![1_000u32, 100_000, 1_000_000];
    if std::env::var("BENCH_FULL").is_ok_and(|v| v == "1") {
        sizes.push(10_000_000);
    }
    if test {
        sizes.truncate(1);
    }
    // For a profiler: `BENCH_ONLY=6to4` or `4to6` goes round one direction at 1,000 flows for a while.
    if let Ok(only) = std::env::var("BENCH_ONLY") {
        let mut b = Bench::new(1000, 10_000);
        for _ in 0..100 {
            let got = b.established(64, only == "6to4");
            b.report("profile", &format!("direction={only} octets=64"), got);
        }
        return;
    }
    for flows in sizes {
        let more = if test { 4096 } else { (flows / 4).clamp(16_384, 500_000) };
        let mut b = Bench::new(flows, flows + 2 * more + 1000);
        println!("RESULT translate table {:?}", b.worker.table().stats());
        for (inside, direction) in [(true, "6to4"), (false, "4to6")] {
            let got = b.floor(inside);
            b.report("lookup-alone", &format!("direction={direction}"), got);
            for octets in [64, 512, 1400] {
                let got = b.established(octets, inside);
                b.report("established", &format!("direction={direction} octets={octets}"), got);
            }
        }
        b.new_sessions(more, false);
        b.new_sessions(more, true);
        b.expire(256);
    }
}
