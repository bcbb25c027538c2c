//! NAT64 translation alone: no device, no I/O.
//!
//! Packets of established UDP flows, in random flow order, in bursts of 32. Each burst is put together
//! outside of the clock and translated inside of it, so that what is measured is the stage: parse, look
//! up, follow the session, find the route, rewrite. Sizes are 1, 1 K, 100 K and 1 M flows, and 10 M with
//! `BENCH_FULL=1`.
//!
//! Lines that begin with `RESULT` say clocks of the TSC per packet: the minimum and the median over
//! windows of 64 bursts. Windows in which the processor was taken away do not count; what else other work on
//! the machine does (to caches, to memory) shows in the median first.
//! - `established`: smallest packets (64 octets with the Ethernet header of IPv4, 28 octets of IPv4 and
//!   UDP headers in a packet of 46), both directions, beside the goal and the memory floor that
//!   [`causeway_benches::floor`] measures with the same numbers of lines in the same run.
//! - `lookup-alone`: the flow table's part of that.
//! - `larger-packets`: 512 and 1400 octets.
//! - `new-sessions`: bursts in which every packet opens a session; the pool has ports for all of them, and
//!   no hold-down.
//! - `expire`: bursts of forwarding between sweeps, while all other sessions end; see `expire`.
//! - `leased-sources`: the same flows where sources have to be leased, and where not; see `sources`.
//! - `memory`: octets of a flow.
//!
//! Environment: `BENCH_FULL=1`; `BENCH_FLOWS=1000,100000` instead of the usual sizes; `BENCH_PAGES=small`
//! to have no transparent huge pages; `BENCH_SWEEP=32` for other sweeps than the worker's; `BENCH_ONLY=6to4` or `4to6` goes round one direction at 1,000 flows
//! for a while (for a profiler); `CAUSEWAY_COMMIT`.

#![forbid(unsafe_code)]

mod sources;

use causeway::worker::SWEEP_AT_MOST;
use causeway_benches::clocks::{Figure, Gather, Quiet, Tsc, met, min_median};
use causeway_benches::floor::{self, Floor};
use causeway_benches::stage::{Direction, Flow, Frames, Gateway, Size, Stage};
use causeway_benches::{Rng, WINDOW, measured_on, smoke};
use causeway_core::{BURST, Counter, Duration};
use causeway_flowtable::Lookup;

/// Octets of the smallest IPv4 packet that fills an Ethernet frame.
const SMALLEST: usize = 46;

/// Clocks a packet to reach, for the number of flows.
const fn goal(flows: u32) -> u32 {
    match flows {
        0..=1 => 90,
        2..=1_000 => 110,
        1_001..=100_000 => 160,
        100_001..=1_000_000 => 210,
        _ => 330,
    }
}

/// New sessions to reach, in millions a second.
const GOAL_NEW: f64 = 2.5;
/// The longest delay of a burst by expiry, in microseconds.
const GOAL_EXPIRE: f64 = 50.0;
/// Octets of a flow, at most.
const GOAL_OCTETS: f64 = 160.0;

/// The table's part alone: bulk lookup of the same flows, and a read of each session found.
fn lookup(stage: &mut Stage, direction: Direction) -> Figure {
    let mut order = stage.order();
    let mut burst = |stage: &mut Stage| {
        let flows: [Flow; BURST] = std::array::from_fn(|_| stage.flows[order.step()]);
        let (inside, outside) = (flows.map(Flow::inside), flows.map(Flow::outside));
        let guard = stage.worker.enter();
        let mut found = [Lookup::Miss; BURST];
        let before = stage.tsc.raw();
        match direction {
            Direction::Out => guard.lookup_inside(&inside, &mut found),
            Direction::In => guard.lookup_outside(&outside, &mut found),
        }
        let read: u64 = found.iter().map(|f| f.hit().map_or(0, |s| u64::from(s.checksum_delta()))).sum();
        let clocks = stage.tsc.raw() - before;
        std::hint::black_box(read);
        assert!(found.iter().all(|f| f.hit().is_some()));
        clocks
    };
    let mut gather = Gather::new(stage.tsc.clone());
    for _ in 0..stage.bursts() / WINDOW {
        gather.window(WINDOW * BURST, || (0..WINDOW).map(|_| burst(stage)).sum());
    }
    gather.figure()
}

/// Established flows, both directions.
fn established(stage: &mut Stage) {
    let flows = stage.flows.len() as u32;
    let stats = stage.worker.table().stats();
    let (index, sessions) = floor::lines_of(&stats);
    // As much of the table as is in use: the index is spread over all its lines, sessions are not.
    let Floor { overlapped, dependent } =
        floor::measure(&stage.tsc, index, sessions.min(flows as usize), stage.bursts());
    let (pages, share) = floor::pages();
    for direction in [Direction::Out, Direction::In] {
        let name = direction.name();
        let Figure { min, median, .. } = lookup(stage, direction);
        println!(
            "RESULT translate lookup-alone flows={flows} direction={name} clocks_min={min:.0} clocks_median={median:.0}"
        );
        let Figure { min, median, kept, thrown } = stage.established(SMALLEST, direction);
        let goal = goal(flows);
        println!(
            "RESULT translate established flows={flows} direction={name} clocks_min={min:.0} \
             clocks_median={median:.0} ns_median={:.1} goal={goal} goal_by_min={} goal_by_median={} \
             floor_overlapped={:.0} floor_dependent={:.0} over_floor={:.0} pages={pages} huge_share={share:.2} \
             windows={kept} thrown_away={thrown}",
            median / stage.tsc.ghz(),
            met(min <= f64::from(goal)),
            met(median <= f64::from(goal)),
            overlapped.median,
            dependent.median,
            median - overlapped.median,
        );
        for octets in [512, 1400] {
            let Figure { min, median, .. } = stage.established(octets, direction);
            println!(
                "RESULT translate larger-packets flows={flows} direction={name} octets={octets} clocks_min={min:.0} clocks_median={median:.0}"
            );
        }
    }
}

/// Bursts in which every packet opens a session: `count` sessions more than there are, with mappings of
/// their own or on those that are there.
fn open_sessions(
    stage: &mut Stage,
    gather: &mut Gather,
    count: usize,
    bursts_a_window: usize,
    new_mapping: bool,
) {
    let mut frames = Frames::new(SMALLEST, Direction::Out);
    let have = stage.flows.len();
    let mut order = stage.order();
    let before = (stage.count(Counter::Nat64SessionsCreated), stage.count(Counter::Nat64MappingsCreated));
    let mut n = 0;
    for _ in 0..count / BURST / bursts_a_window {
        gather.window(bursts_a_window * BURST, || {
            let mut sum = 0;
            for _ in 0..bursts_a_window {
                for at in 0..BURST {
                    if new_mapping {
                        // As many flows of a host as it has already, from further hosts.
                        frames.fill(at, Flow::new((have.next_multiple_of(64) + n) as u32));
                    } else {
                        // The same host and port as a flow that is there, to another port of the server.
                        frames.fill(at, stage.flows[order.step()]);
                        frames.other_port(at, 100 + (n / have) as u16);
                    }
                    n += 1;
                }
                sum += stage.translate(&mut frames);
                frames.restore();
            }
            sum
        });
    }
    let made = stage.count(Counter::Nat64SessionsCreated) - before.0;
    let mapped = stage.count(Counter::Nat64MappingsCreated) - before.1;
    assert_eq!((made, mapped), (n as u64, if new_mapping { n as u64 } else { 0 }));
}

/// New sessions a second and core, at this many flows that are open already.
fn new_sessions(tsc: &Tsc, flows: u32, rounds: usize) {
    let more = (flows / 4).clamp(1_024, 500_000) as usize;
    let window = WINDOW.min(more / BURST / 2);
    for new_mapping in [false, true] {
        let mut gather = Gather::new(tsc.clone());
        for _ in 0..rounds {
            let gateway = Gateway::new(Size::of(flows + more as u32 + 1000));
            let mut stage = gateway.stage(0, tsc);
            stage.open(0..flows);
            open_sessions(&mut stage, &mut gather, more, window, new_mapping);
        }
        let Figure { min, median, kept, thrown } = gather.figure();
        let rate = tsc.ghz() * 1000.0 / median;
        println!(
            "RESULT translate new-sessions flows={flows} opened={} mapping={} hold_down=0 clocks_min={min:.0} \
             clocks_median={median:.0} million_per_s={rate:.2} million_per_s_best={:.2} goal={GOAL_NEW} goal_by_min={} goal_by_median={} \
             windows={kept} thrown_away={thrown}",
            more * rounds,
            if new_mapping { "new" } else { "existing" },
            tsc.ghz() * 1000.0 / min,
            met(tsc.ghz() * 1000.0 / min >= GOAL_NEW),
            met(rate >= GOAL_NEW),
        );
    }
}

/// Computes so many steps and touches no memory; gives its clocks.
fn compute(tsc: &Tsc, steps: u64) -> u64 {
    let (before, mut rng) = (tsc.raw(), Rng(1));
    for _ in 0..steps {
        std::hint::black_box(rng.next_u64());
    }
    tsc.raw() - before
}

/// Flows that go on while all others end.
const ALIVE: u32 = 1_000;

/// Ends `ending` sessions with their mappings, all due at once, and forwards a burst of other flows between
/// sweeps, which are as long as the worker's longest. What one sweep took is what it delayed the burst by.
///
/// Windows in which the processor was taken away do not count, as far as that can be known: an interrupt or
/// the hypervisor may come in between unseen. How much that is shows in `noise`: a loop that only computes,
/// as long as each sweep, in the window after it, and how much longer than that it took. So each round does
/// exactly the same from the start, and what counts is the worst of all sweeps by the least that each took
/// in any round: what our own work does, it does in every round.
fn expire(tsc: &Tsc, ending: u32, slots: u32, rounds: usize) {
    let mut frames = Frames::new(SMALLEST, Direction::Out);
    let steps = 100_000;
    let steps_per_us = (0..20).map(|_| steps as f64 / tsc.us(compute(tsc, steps))).fold(0.0, f64::max);
    // The least of each sweep over the rounds.
    let mut least: Vec<f64> = Vec::new();
    for _ in 0..rounds {
        let gateway = Gateway::new(Size::of(ending + ALIVE + 1000));
        let mut stage = gateway.stage(0, tsc);
        stage.open(0..ALIVE + ending);
        let ended_before = stage.count(Counter::Nat64SessionsEnded);
        stage.rig.advance(Duration::from_secs(400));
        stage.touch(ALIVE as usize);
        let mut next = 0;
        let mut burst = |stage: &mut Stage, quiet: &mut Quiet, slots: u32| {
            for at in 0..BURST {
                next = (next + 1) % ALIVE as usize;
                frames.fill(at, stage.flows[next]);
            }
            let (clocks, good) = quiet.window(|| stage.sweep_and_translate(&mut frames, slots));
            frames.restore();
            good.then_some(clocks)
        };
        let mut calm = Quiet::new(tsc.clone());
        let alone: Vec<f64> =
            (0..2_000).filter_map(|_| burst(&mut stage, &mut calm, 0)).map(|(_, b)| tsc.us(b)).collect();
        let mut quiet = Quiet::new(tsc.clone());
        let mut control = Quiet::new(tsc.clone());
        let (mut sweeps, mut bursts, mut noise) = (Vec::new(), Vec::new(), Vec::new());
        let mut number = 0;
        while gateway.table.stats().sessions > u64::from(ALIVE) {
            let measured = burst(&mut stage, &mut quiet, slots);
            if least.len() == number {
                least.push(f64::INFINITY);
            }
            number += 1;
            let Some((s, b)) = measured else { continue };
            least[number - 1] = least[number - 1].min(tsc.us(s));
            sweeps.push(tsc.us(s));
            bursts.push(tsc.us(b));
            // As long as that sweep, but nothing that could take longer by our own work.
            let steps = (tsc.us(s) * steps_per_us) as u64;
            let (took, good) = control.window(|| compute(tsc, steps));
            if good {
                noise.push(tsc.us(took) - tsc.us(s));
            }
        }
        assert_eq!(stage.count(Counter::Nat64SessionsEnded) - ended_before, u64::from(ending));
        sweeps.sort_by(f64::total_cmp);
        noise.sort_by(f64::total_cmp);
        let at = |v: &[f64], q: f64| v.get((v.len() as f64 * q) as usize).copied().unwrap_or(f64::NAN);
        let over = sweeps.iter().filter(|us| **us >= GOAL_EXPIRE).count();
        let last = |v: &[f64]| v.last().copied().unwrap_or(f64::NAN);
        let most = last(&sweeps);
        println!(
            "RESULT translate expire-round ending={ending} slots={slots} windows={} thrown_away={} \
             sweep_us_median={:.1} sweep_us_p999={:.1} sweep_us_worst={most:.1} over_goal={over} noise_us_p999={:.1} noise_us_worst={:.1} \
             burst_us={:.2} burst_us_without={:.2}",
            quiet.kept,
            quiet.thrown,
            at(&sweeps, 0.5),
            at(&sweeps, 0.999),
            at(&noise, 0.999),
            last(&noise),
            min_median(bursts).1,
            min_median(alone).1,
        );
    }
    let unseen = least.iter().filter(|us| us.is_infinite()).count();
    let worst = least.iter().copied().filter(|us| us.is_finite()).fold(0.0, f64::max);
    println!(
        "RESULT translate expire ending={ending} slots={slots} rounds={rounds} sweeps={} never_seen={unseen} worst_delay_us={worst:.1} \
         goal={GOAL_EXPIRE} goal_by_rounds={}",
        least.len(),
        met(worst < GOAL_EXPIRE),
    );
}

/// Octets of a flow: by the table's own count, and by all that the process has for them, the pool included.
/// Only of large tables: the parts of a small one are rounded up to huge pages.
fn memory(flows: u32, gateway: &Gateway, resident_before: u64) {
    let stats = gateway.table.stats();
    let each = |octets: f64| octets / f64::from(flows);
    let resident = floor::resident_octets().saturating_sub(resident_before) as f64;
    // What the bench itself keeps of a flow.
    let own = f64::from(flows) * size_of::<Flow>() as f64;
    let table = each(stats.octets as f64);
    println!(
        "RESULT translate memory flows={flows} table={table:.1} resident_all={:.1} pool_addresses={} goal={GOAL_OCTETS} goal_all={}",
        each(resident - own),
        gateway.addresses,
        met(each(resident - own) <= GOAL_OCTETS),
    );
}

fn main() {
    // `cargo test --benches` runs this to see that it works: one small round is enough then.
    let test = smoke();
    if std::env::var("BENCH_PAGES").is_ok_and(|v| v == "small") {
        rustix::thread::disable_transparent_huge_pages(true).expect("the kernel obeys");
    }
    println!("INFO {}", measured_on());
    let tsc = Tsc::new();
    println!("INFO TSC {:.3} GHz; smallest packets, random flow order, the stage alone", tsc.ghz());
    let mut sizes = vec![1u32, 1_000, 100_000, 1_000_000];
    if let Ok(flows) = std::env::var("BENCH_FLOWS") {
        sizes = flows.split(',').map(|n| n.trim().parse().expect("numbers of flows")).collect();
    } else if test {
        sizes.truncate(2);
    } else if std::env::var("BENCH_FULL").is_ok_and(|v| v == "1") {
        sizes.push(10_000_000);
    }
    if let Ok(only) = std::env::var("BENCH_ONLY") {
        let mut stage = Gateway::new(Size::of(10_000)).stage(0, &tsc);
        stage.open(0..1_000);
        let direction = if only == "4to6" { Direction::In } else { Direction::Out };
        for _ in 0..100 {
            let Figure { min, median, .. } = stage.established(SMALLEST, direction);
            println!(
                "RESULT translate profile direction={only} clocks_min={min:.0} clocks_median={median:.0}"
            );
        }
        return;
    }
    let slots = std::env::var("BENCH_SWEEP").map_or(SWEEP_AT_MOST, |n| n.trim().parse().expect("slots"));
    for &flows in &sizes {
        let resident = floor::resident_octets();
        let gateway = Gateway::new(Size::of(flows));
        let mut stage = gateway.stage(0, &tsc);
        stage.flows.reserve_exact(flows as usize);
        stage.open(0..flows);
        if flows >= 1_000_000 {
            memory(flows, &gateway, resident);
        }
        established(&mut stage);
        drop((stage, gateway));
        if flows >= 1_000 {
            new_sessions(&tsc, flows, if test { 1 } else { (2_000_000 / flows as usize).clamp(1, 40) });
        }
        if (100_000..=1_000_000).contains(&flows) {
            expire(&tsc, flows, slots, 3);
        }
    }
    if std::env::var_os("BENCH_FLOWS").is_none() {
        for leases in if test { vec![1_000] } else { vec![1_000, 1_000_000] } {
            sources::measure(&tsc, leases, if test { 3 } else { 501 });
        }
    }
    if test {
        expire(&tsc, 4_000, slots, 1);
    }
}
