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

mod spliced;

use causeway_benches::clocks::{Figure, Gather, Tsc, met};
use causeway_benches::stage::{Direction, Gateway, Size};
use causeway_benches::{WINDOW, measured_on, smoke};
use causeway_core::BURST;
use spliced::{Frames, Stage};

/// Octets of the smallest IPv4 packet that fills an Ethernet frame.
const SMALLEST: usize = 46;
/// How much a spliced packet may cost, in NAT64 packets.
const GOAL: f64 = 1.5;
/// Octets of a connection, at most.
const GOAL_OCTETS: f64 = 256.0;

/// As the NAT64 stage of the benches measures its own.
fn established(stage: &mut Stage, direction: Direction) -> Figure {
    let mut frames = Frames::new(direction);
    let mut gather = Gather::new(stage.tsc.clone());
    let bursts = (stage.flows() as usize * 2 / BURST).clamp(WINDOW * 60, WINDOW * 1250);
    for _ in 0..bursts / WINDOW {
        gather.window(WINDOW * BURST, || (0..WINDOW).map(|_| stage.next_burst(&mut frames)).sum());
    }
    gather.figure()
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
            let Figure { min, median, kept, thrown } = established(&mut stage, direction);
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
        let octets = stage.worker.table().stats().octets as f64 / f64::from(stage.flows());
        println!(
            "RESULT splice memory connections={flows} octets={octets:.1} goal={GOAL_OCTETS} goal_reached={}",
            met(octets <= GOAL_OCTETS)
        );
    }
}
