//! Two workers on one shared table, half of the return traffic arriving at the other worker, beside the
//! same two on private tables, and beside one worker alone: rates, in turns within one run.
//!
//! Each worker is a thread on a core of its own and alternates bursts from inside and from outside, in
//! random flow order. All flows of a worker are sent from inside by that worker; with a shared table, each
//! return packet comes to either worker. A window counts only if the processor was not taken away in it
//! (see [`causeway_benches::clocks::Quiet`]) and the other worker went on meanwhile; the rate is that of
//! the translation alone, by the median of those windows.
//!
//! Whether the machine really has two cores is measured too: two threads that only compute, over one.
//!
//! Environment: `BENCH_FLOWS`, flows of both workers together (default 200000), `CAUSEWAY_COMMIT`.

#![forbid(unsafe_code)]

use causeway_benches::clocks::{Quiet, Tsc, met, min_median};
use causeway_benches::stage::{Direction, Flow, Frames, Gateway, Order, Size, Stage};
use causeway_benches::{Rng, measured_on, smoke};
use causeway_core::{BURST, Duration};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Octets of the packets, as IPv4.
const OCTETS: usize = 46;
/// Shared over private, and two over one where there are two cores.
const GOALS: (f64, f64) = (0.9, 1.8);
/// Bursts of a window: short, so that many windows are left alone.
const BURSTS: usize = 16;

/// A counter on a cache line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Progress(AtomicU64);

/// One worker's part: a stage, what it sends from inside, and what it gets from outside.
struct Part {
    stage: Stage,
    inside: Vec<Flow>,
    outside: Vec<Flow>,
}

/// What one thread measured.
struct Measured {
    /// Clocks a packet.
    windows: Vec<f64>,
    kept: u64,
    thrown: u64,
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    // Where that core may not be used, the kernel decides.
    let _ = sched_setaffinity(None, &set);
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs the parts at once, each for so long, and gives what each measured.
fn run(parts: Vec<Part>, seconds: f64) -> Vec<Measured> {
    let count = parts.len();
    let progress = [Progress::default(), Progress::default()];
    let (barrier, stop) = (Barrier::new(count), AtomicBool::new(false));
    let (progress, barrier, stop) = (&progress, &barrier, &stop);
    std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(|(id, part)| {
                scope.spawn(move || {
                    pin(id % cores());
                    barrier.wait();
                    let other = (count == 2).then(|| &progress[1 - id].0);
                    let measured = work(part, &progress[id].0, other, stop, seconds);
                    stop.store(true, Ordering::Relaxed);
                    measured
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("the thread ends")).collect()
    })
}

fn work(
    mut part: Part,
    own: &AtomicU64,
    other: Option<&AtomicU64>,
    stop: &AtomicBool,
    seconds: f64,
) -> Measured {
    let mut quiet = Quiet::new(part.stage.tsc.clone());
    let (mut out, mut back) = (Frames::new(OCTETS, Direction::Out), Frames::new(OCTETS, Direction::In));
    let mut sides = [part.inside, part.outside].map(|flows| {
        part.stage.flows = flows;
        let order: Order = part.stage.order();
        (std::mem::take(&mut part.stage.flows), order)
    });
    let begin = Instant::now();
    let started = part.stage.rig.now;
    let mut windows = Vec::new();
    while !stop.load(Ordering::Relaxed) && begin.elapsed().as_secs_f64() < seconds {
        // Time goes on for the flows as it does for us.
        part.stage.rig.now = started + begin.elapsed();
        let before = other.map(|o| o.load(Ordering::Relaxed));
        let (clocks, good) = quiet.window(|| {
            let mut clocks = 0;
            for n in 0..BURSTS {
                let side = n % 2;
                std::mem::swap(&mut part.stage.flows, &mut sides[side].0);
                let frames = if side == 0 { &mut out } else { &mut back };
                clocks += part.stage.burst(frames, &mut sides[side].1);
                std::mem::swap(&mut part.stage.flows, &mut sides[side].0);
                own.fetch_add(1, Ordering::Relaxed);
            }
            clocks
        });
        let moved = other.zip(before).map(|(o, b)| o.load(Ordering::Relaxed) - b);
        if good && moved.is_none_or(|m| m as usize >= BURSTS / 2) {
            windows.push(clocks as f64 / (BURSTS * BURST) as f64);
        } else if good {
            // The other worker stood still: nothing was shared.
            quiet.kept -= 1;
            quiet.thrown += 1;
        }
    }
    Measured { windows, kept: quiet.kept, thrown: quiet.thrown }
}

/// One worker alone with all flows.
fn one(tsc: &Tsc, flows: u32, seconds: f64) -> Vec<Measured> {
    let gateway = Gateway::new(Size::of(flows + 1000));
    let mut stage = gateway.stage(0, tsc);
    stage.open(0..flows);
    let all = std::mem::take(&mut stage.flows);
    run(vec![Part { stage, inside: all.clone(), outside: all }], seconds)
}

/// Two workers with a table each.
fn private(tsc: &Tsc, flows: u32, seconds: f64) -> Vec<Measured> {
    let part = |from: u32| {
        let gateway = Gateway::new(Size::of(flows / 2 + 1000));
        let mut stage = gateway.stage(0, tsc);
        stage.open(from..from + flows / 2);
        let own = std::mem::take(&mut stage.flows);
        Part { stage, inside: own.clone(), outside: own }
    };
    run(vec![part(0), part(flows / 2)], seconds)
}

/// Two workers with one table; each gets half of the return traffic, of everybody's flows.
fn shared(tsc: &Tsc, flows: u32, seconds: f64) -> Vec<Measured> {
    let gateway = Gateway::new(Size { workers: 2, ..Size::of(flows + 2000) });
    let (mut a, mut b) = (gateway.stage(0, tsc), gateway.stage(1, tsc));
    a.open(0..flows / 2);
    b.open(flows / 2..flows);
    let (of_a, of_b) = (std::mem::take(&mut a.flows), std::mem::take(&mut b.flows));
    let all: Vec<Flow> = of_a.iter().chain(&of_b).copied().collect();
    run(
        vec![
            Part { stage: a, inside: of_a, outside: all.clone() },
            Part { stage: b, inside: of_b, outside: all },
        ],
        seconds,
    )
}

/// Millions of packets a second, all workers together.
fn rate(tsc: &Tsc, measured: &[Measured]) -> f64 {
    measured.iter().map(|m| tsc.ghz() * 1000.0 / min_median(m.windows.clone()).1).sum()
}

fn windows(measured: &[Measured]) -> (u64, u64) {
    (measured.iter().map(|m| m.kept).sum(), measured.iter().map(|m| m.thrown).sum())
}

/// What two threads that only compute get done, over what one does.
fn two_cores() -> f64 {
    let work = |threads: usize| {
        let barrier = &Barrier::new(threads);
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..threads)
                .map(|id| {
                    scope.spawn(move || {
                        pin(id % cores());
                        barrier.wait();
                        let (begin, mut rng, mut done) = (Instant::now(), Rng(id as u64), 0u64);
                        while begin.elapsed() < Duration::from_millis(100) {
                            (0..10_000).for_each(|_| {
                                black_box(rng.next_u64());
                            });
                            done += 1;
                        }
                        done as f64
                    })
                })
                .collect();
            all.into_iter().map(|t| t.join().expect("the thread ends")).sum::<f64>()
        })
    };
    // Others take cores away now and then: the best of some is what the machine can.
    let best = |threads| (0..7).map(|_| work(threads)).fold(0.0, f64::max);
    best(2) / best(1)
}

fn main() {
    let test = smoke();
    println!("INFO {}", measured_on());
    if cores() < 2 {
        println!("RESULT two-workers cores=1 measured=no");
        return;
    }
    let tsc = Tsc::new();
    let flows = std::env::var("BENCH_FLOWS").map_or(200_000, |n| n.trim().parse().expect("a number"));
    let (flows, rounds, seconds) = if test { (2_000, 1, 0.05) } else { (flows, 5, 1.5) };
    let (mut over_private, mut over_one) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let got = [one(&tsc, flows, seconds), private(&tsc, flows, seconds), shared(&tsc, flows, seconds)];
        let [one, private, shared] = [&got[0], &got[1], &got[2]].map(|m| rate(&tsc, m));
        let [(_, thrown_one), (kept_private, thrown_private), (kept_shared, thrown_shared)] =
            [&got[0], &got[1], &got[2]].map(|m| windows(m));
        println!(
            "RESULT two-workers-round round={round} flows={flows} one_million_per_s={one:.2} private_million_per_s={private:.2} \
             shared_million_per_s={shared:.2} shared_over_private={:.3} shared_over_one={:.3} windows_private={kept_private} \
             windows_shared={kept_shared} thrown_away={}",
            shared / private,
            shared / one,
            thrown_one + thrown_private + thrown_shared,
        );
        if !(shared / private).is_nan() {
            over_private.push(shared / private);
        }
        if !(shared / one).is_nan() {
            over_one.push(shared / one);
        }
    }
    let (over_private, over_one) = (min_median(over_private).1, min_median(over_one).1);
    println!(
        "RESULT two-workers flows={flows} rounds={rounds} shared_over_private={over_private:.3} goal={} goal_by_median={} \
         shared_over_one={over_one:.3} goal_one={} goal_one_by_median={} two_cores_compute={:.2}",
        GOALS.0,
        met(over_private >= GOALS.0),
        GOALS.1,
        met(over_one >= GOALS.1),
        two_cores(),
    );
}
