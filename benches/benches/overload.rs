//! What strangers who open flows cost those who have some, when there is nothing left to give.
//!
//! A table (or a pool) is filled to the last entry (or port) and stays so. Bursts of established flows are
//! measured in turns, in the same run: alone, and each after a burst of 32 packets that want new flows and
//! are refused. The ratio is that of the clocks of an established packet; the goal is that it loses no more
//! than a tenth of its rate. What refusals themselves cost is printed as well: the share of the worker that
//! they take when every second burst is one.
//!
//! And what a scan of a tenant's network costs, and a flood of SYNs to the splicer: see `scan` and `flood`.
//!
//! Environment: `BENCH_FLOWS` (default 100000), `CAUSEWAY_COMMIT`.

#![forbid(unsafe_code)]

mod flood;
mod scan;
mod spliced;

use causeway_benches::clocks::{Tsc, met, min_median};
use causeway_benches::stage::{Direction, Flow, Frames, Gateway, Size, Stage};
use causeway_benches::{WINDOW, measured_on, smoke};
use causeway_core::{BURST, DropReason, Duration, Validation, Verdict};

/// Octets of the packets, as IPv4.
const OCTETS: usize = 46;
/// Clocks of an established packet under hammering, over those without, at most.
const GOAL: f64 = 1.10;
/// Ports of a pool address that are given out.
const PORTS: u32 = 64_512;

/// What is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    Table,
    Pool,
}

impl Full {
    const fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Pool => "pool",
        }
    }

    const fn reason(self) -> DropReason {
        match self {
            Self::Table => DropReason::Nat64TableFull,
            Self::Pool => DropReason::Nat64PoolFull,
        }
    }
}

/// Somebody who opens one flow after the other, each from a port and host of its own.
struct Hammer {
    frames: Frames,
    next: u32,
}

impl Hammer {
    /// A burst of new flows: its clocks, and how many were refused for `reason`.
    fn strike(&mut self, stage: &mut Stage, reason: DropReason) -> (u64, usize) {
        for at in 0..BURST {
            self.frames.fill(at, Flow::new(self.next));
            self.next = self.next.wrapping_add(1);
        }
        let mut verdicts = [Verdict::Consume; BURST];
        let clocks = stage.run(&mut self.frames, &mut verdicts);
        for (p, v) in self.frames.packets.iter_mut().zip(&verdicts) {
            if matches!(v, Verdict::Forward { .. }) {
                causeway_core::Frame::push_front(&mut p.frame, 20).expect("the room that was there");
            }
        }
        stage.empty_outbox();
        stage.rig.advance(Duration::from_nanos((clocks as f64 / stage.tsc.ghz()) as u64));
        (clocks, verdicts.iter().filter(|v| **v == Verdict::Drop(reason)).count())
    }
}

fn measure(tsc: &Tsc, full: Full, flows: u32, windows: usize) {
    let enough = Size::of(flows + 10_000);
    let gateway = Gateway::new(match full {
        Full::Table => Size { sessions: flows, ..enough },
        // A table with room for every port of the pool, and more.
        Full::Pool => {
            let addresses = flows.div_ceil(PORTS);
            Size { sessions: (addresses * 65_536).max(flows) * 2, addresses, ..enough }
        }
    });
    let mut stage = gateway.stage(0, tsc);
    stage.open(0..flows);
    let mut hammer = Hammer { frames: Frames::new(OCTETS, Direction::Out), next: flows.next_multiple_of(64) };
    // To the last entry: full is when nothing but refusals came for a while.
    let (mut calm, mut tries) = (0, 0);
    while calm < 100 {
        let (_, refused) = hammer.strike(&mut stage, full.reason());
        calm = if refused == BURST { calm + 1 } else { 0 };
        tries += 1;
        assert!(tries < 1_000_000, "it does not get full");
    }
    for direction in [Direction::Out, Direction::In] {
        let mut frames = Frames::new(OCTETS, direction);
        let mut order = stage.order();
        let (mut alone, mut hammered, mut refusal) = (Vec::new(), Vec::new(), Vec::new());
        let per_packet = |clocks: u64| clocks as f64 / (WINDOW * BURST) as f64;
        for _ in 0..windows {
            alone.push(per_packet((0..WINDOW).map(|_| stage.burst(&mut frames, &mut order)).sum()));
            let (mut ours, mut theirs) = (0, 0);
            for _ in 0..WINDOW {
                let (clocks, refused) = hammer.strike(&mut stage, full.reason());
                assert_eq!(refused, BURST, "it stays full");
                theirs += clocks;
                ours += stage.burst(&mut frames, &mut order);
            }
            hammered.push(per_packet(ours));
            refusal.push(per_packet(theirs));
        }
        let ((alone_min, alone), (hammered_min, hammered), (refusal_min, refusal)) =
            (min_median(alone), min_median(hammered), min_median(refusal));
        println!(
            "RESULT overload full={} flows={flows} sessions={} direction={} alone_min={alone_min:.0} alone_median={alone:.0} \
             hammered_min={hammered_min:.0} hammered_median={hammered:.0} ratio_of_least={:.2} ratio={:.2} goal={GOAL:.2} goal_by_least={} \
             goal_by_median={} refusal_min={refusal_min:.0} refusal_median={refusal:.0} refusals_share={:.2}",
            full.name(),
            gateway.table.stats().sessions,
            direction.name(),
            hammered_min / alone_min,
            hammered / alone,
            met(hammered_min / alone_min <= GOAL),
            met(hammered / alone <= GOAL),
            refusal / (refusal + hammered),
        );
    }
}

fn main() {
    let test = smoke();
    println!("INFO {}", measured_on());
    let tsc = Tsc::new();
    for validation in [Validation::Prefix, Validation::Leased] {
        scan::measure(&tsc, validation, if test { 3 } else { 501 });
    }
    let flows = std::env::var("BENCH_FLOWS").unwrap_or_else(|_| "100000".to_owned());
    let mut flows: Vec<u32> = flows.split(',').map(|n| n.trim().parse().expect("numbers of flows")).collect();
    if test {
        flows = vec![2_000];
    }
    for flows in flows {
        for full in [Full::Table, Full::Pool] {
            measure(&tsc, full, flows, if test { 3 } else { 151 });
        }
        flood::measure(&tsc, flows, if test { 3 } else { 151 });
    }
}
