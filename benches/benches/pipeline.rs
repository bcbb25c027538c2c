//! The whole worker loop on DPDK, without a device: `net_null` in and out, on one core.
//!
//! Two loops over the same queues and the same frames, in turns within one run:
//! - `macswap`: receive, swap the two MAC addresses, send;
//! - `nat64`: the appliance's worker, translating established UDP flows of 64-octet frames.
//!
//! `net_null` hands out frames with whatever they held, so the queues write each frame anew (`fill`).
//! That is part of both loops; its own cost is measured too, and the ratio is given with and without it. Flows come in random
//! order, so that caches do not flatter us. Windows in which the processor was taken away do not count; least and median
//! of the others are printed.
//!
//! Environment: `PIPELINE_FLOWS` (default 1, 1 K, 100 K, 1 M, and 10 M with `BENCH_FULL=1`), `CAUSEWAY_COMMIT`.

mod dpdk;

use arrayvec::ArrayVec;
use causeway_benches::clocks::{Quiet, Tsc, min_median};
use causeway_benches::{measured_on, smoke};
use causeway_core::{BURST, Frame, Queues};
use causeway_hwprofiles::mbuf::MbufFrame;
use criterion::Criterion;
use dpdk::{Nat64, Queue, Source, on_worker, window};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Packets of one window.
const WINDOW: u64 = 2 * 1024;
/// Windows of each loop.
const WINDOWS: usize = 2_001;

struct Bench {
    queue: Queue,
    burst: ArrayVec<MbufFrame, BURST>,
    source: Source,
}

impl Bench {
    fn macswap(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            self.queue.rx(from, &mut self.burst);
            for frame in &mut self.burst {
                let (to, from) = frame.bytes_mut()[..12].split_at_mut(6);
                to.swap_with_slice(from);
            }
            self.queue.tx(to, &mut self.burst);
            self.burst.clear();
        }
    }

    /// What writing the frames costs, without receiving and sending them.
    fn fill(&mut self) {
        let q = &mut *self.queue.0.borrow_mut();
        for frame in &mut self.burst {
            q.fill(frame);
            black_box(frame.bytes());
        }
    }

    fn run(&mut self) {
        // `cargo test --benches` runs this to see that it works: one small round is enough then.
        let test = smoke();
        let windows = if test { 3 } else { WINDOWS };
        let tsc = Tsc::new();
        let ghz = tsc.ghz();
        println!("INFO {}", measured_on());
        let full = std::env::var("BENCH_FULL").is_ok_and(|v| v == "1");
        let flows = std::env::var("PIPELINE_FLOWS").unwrap_or_else(|_| {
            let text = if test { "1000" } else { "1,1000,100000,1000000" };
            if full { format!("{text},10000000") } else { text.to_owned() }
        });
        let mut criterion = Criterion::default()
            .configure_from_args()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        for flows in flows.split(',').map(|n| n.trim().parse::<u32>().expect("numbers of flows")) {
            let mut nat64 = Nat64::new(&self.queue, self.source.clone(), flows, 0);
            let (mut swap, mut nat, mut fill) = (Vec::new(), Vec::new(), Vec::new());
            let mut quiet = Quiet::new(tsc.clone());
            for _ in 0..windows {
                swap.extend(window(&mut quiet, WINDOW, || self.macswap()));
                nat.extend(window(&mut quiet, WINDOW, || {
                    nat64.worker.poll();
                }));
                self.queue.0.borrow_mut().inner.rx(0, &mut self.burst);
                fill.extend(window(&mut quiet, WINDOW, || self.fill()));
                self.burst.clear();
            }
            nat64.check(flows);
            let ((swap_min, swap), (nat_min, nat), (_, fill)) =
                (min_median(swap), min_median(nat), min_median(fill));
            println!(
                "RESULT bench=pipeline flows={flows} nat64_ns={nat:.1} nat64_ns_min={nat_min:.1} macswap_ns={swap:.1} \
                 macswap_ns_min={swap_min:.1} fill_ns={fill:.1} nat64_clocks={:.0} nat64_clocks_min={:.0} ratio={:.2} ratio_of_least={:.2} \
                 ratio_without_fill={:.2} windows={} thrown_away={} target={}",
                nat * ghz,
                nat_min * ghz,
                nat / swap,
                nat_min / swap_min,
                (nat - fill) / (swap - fill),
                quiet.kept,
                quiet.thrown,
                if flows <= 1000 { "3.00" } else { "6.00" },
            );
            let mut group = criterion.benchmark_group(format!("pipeline/{flows}"));
            group.throughput(criterion::Throughput::Elements(BURST as u64));
            group.bench_function("nat64", |b| {
                b.iter_custom(|n| {
                    timed(n, || {
                        nat64.worker.poll();
                    })
                });
            });
            group.bench_function("macswap", |b| b.iter_custom(|n| timed(n, || self.macswap())));
            group.finish();
            nat64.worker.drain();
        }
    }
}

fn timed(polls: u64, mut poll: impl FnMut()) -> Duration {
    let begin = Instant::now();
    for _ in 0..polls {
        poll();
    }
    begin.elapsed()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    on_worker(|queue, source| Bench { queue, burst: ArrayVec::new(), source }.run())?;
    Ok(())
}
