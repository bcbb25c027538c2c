//! The flow table beside `dashmap` and a locked `HashMap`, in the same run.
//!
//! Flows are looked up in random order, so that caches do not flatter anybody. Sizes are 1 K, 100 K and
//! 1 M flows, and 10 M with `BENCH_FULL=1`. After criterion's own report come lines that begin with
//! `RESULT`: medians over short windows in which the contestants take turns, so that noise of the
//! machine meets all of them, and their ratios. Times are processor time of the measuring thread:
//! another process's time slice does not count.

#![forbid(unsafe_code)]

use causeway_benches::{Rng, measured_on};
use causeway_flowtable::{
    BULK, Config, CreateError, Created, Ctl, Fate, FlowTable, Guard, InsideKey, Kind, Lookup, MapInsideKey,
    Mapping, MappingError, NewKey, NewMapping, NewSession, OutsideKey, PortSource, Reserved, Session,
    Sweeper, Tick,
};
use criterion::{BenchmarkId, Criterion, Throughput};
use dashmap::DashMap;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::sync::{Arc, Barrier, RwLock};
use std::time::Duration;

/// Processor time of this thread.
fn cpu_time() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// A stretch of this thread's processor time.
struct Stopwatch(Duration);

impl Stopwatch {
    fn start() -> Self {
        Self(cpu_time())
    }
    fn elapsed(&self) -> Duration {
        cpu_time().saturating_sub(self.0)
    }
}

/// What a peer map keeps for a flow.
type Value = [u64; 6];

/// A hasher about as cheap as the table's own, so that a peer is not only measured by its SipHash.
#[derive(Default, Clone)]
struct FoldHasher(u64);

impl Hasher for FoldHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }
    fn write_u8(&mut self, v: u8) {
        self.write_u64(u64::from(v));
    }
    fn write_u16(&mut self, v: u16) {
        self.write_u64(u64::from(v));
    }
    fn write_u32(&mut self, v: u32) {
        self.write_u64(u64::from(v));
    }
    fn write_u64(&mut self, v: u64) {
        let m = u128::from(self.0 ^ v ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = m as u64 ^ (m >> 64) as u64;
    }
    fn write_u128(&mut self, v: u128) {
        self.write_u64(v as u64);
        self.write_u64((v >> 64) as u64);
    }
}

type Fast = BuildHasherDefault<FoldHasher>;

fn key(i: u64) -> InsideKey {
    let mut r = Rng(i);
    let x = r.next_u64();
    InsideKey {
        src6: 0x2001_0db8_0064_0000_0000_0000_0000_0000 | u128::from(i >> 6),
        dst4: x as u32,
        src_port: 1024 + (i & 63) as u16,
        dst_port: 443,
        protocol: if x >> 63 == 0 { 6 } else { 17 },
        prefix: 0,
    }
}

/// Ports of as many addresses as it takes.
struct Ports(u64);

impl PortSource for Ports {
    fn reserve(&mut self) -> Option<(u32, u16)> {
        self.0 += 1;
        Some((0xcb00_7100 + (self.0 >> 16) as u32, self.0 as u16))
    }
    fn release(&mut self, _: u32, _: u16) {}
}

struct Forget;

impl Sweeper for Forget {
    fn judge(&mut self, _: &Session<'_>, _: Ctl, _: Tick) -> Fate {
        Fate::Keep
    }
    fn session_ended(&mut self, _: &Session<'_>) {}
    fn mapping_ended(&mut self, _: &Mapping<'_>) {}
}

/// Creates a flow with a mapping of its own.
fn create<'g>(
    g: &'g Guard<'_>,
    k: InsideKey,
    ports: &mut Ports,
) -> Result<Created<Session<'g>>, CreateError<MappingError>> {
    let new = NewSession {
        key: NewKey::Inside(k),
        kind: Kind::Nat64,
        owner: 0,
        subscriber: 1,
        plan_generation: 0,
        state: 0,
        flags: 0,
        tick: Tick(0),
        aux: 0,
    };
    g.create_session(&new, || {
        let mapping = NewMapping {
            key: MapInsideKey { src6: k.src6, port: k.src_port, protocol: k.protocol, pool: 0 },
            owner: 0,
            flags: 0,
            subscriber: 1,
            plan_generation: 0,
            pinned: false,
            aux: 0,
        };
        let m = g.create_mapping(&mapping, ports)?.into_inner();
        Ok(Reserved::translated(m, k.dst4, k.dst_port, 0))
    })
}

/// All contestants, with the same flows.
struct Arena {
    n: usize,
    table: Arc<FlowTable>,
    dash: DashMap<InsideKey, Value>,
    dash_fast: DashMap<InsideKey, Value, Fast>,
    locked: RwLock<HashMap<InsideKey, Value>>,
    /// In random order.
    inside: Vec<InsideKey>,
    outside: Vec<OutsideKey>,
    inserted: usize,
}

impl Arena {
    fn new(n: usize) -> Self {
        let flows = u32::try_from(n).expect("few enough flows");
        let table = FlowTable::new(&Config {
            // Room for the flows that `insert` and `mixed` add.
            sessions: flows + 4096,
            mappings: flows + 4096,
            spliced: 0,
            workers: 3,
            control_readers: 0,
            seed: [1, 2, 3, 4],
        })
        .expect("memory for the table");
        let mut inside: Vec<_> = (0..n as u64).map(key).collect();
        Rng(1).shuffle(&mut inside);
        let mut outside = Vec::with_capacity(n);
        let (dash, dash_fast) =
            (DashMap::with_capacity(n), DashMap::with_capacity_and_hasher(n, Fast::default()));
        let mut locked = HashMap::with_capacity(n);
        let mut worker = table.worker(0).expect("worker 0 is free");
        let mut ports = Ports(0);
        let mut inserted = 0;
        for (i, k) in inside.iter().enumerate() {
            let g = worker.enter();
            if let Ok(Created::Fresh(s)) = create(&g, *k, &mut ports) {
                inserted += 1;
                outside.extend(s.outside_key());
            }
            dash.insert(*k, [i as u64; 6]);
            dash_fast.insert(*k, [i as u64; 6]);
            locked.insert(*k, [i as u64; 6]);
        }
        drop(worker);
        // Another order than that of insertion, which is that of memory.
        Rng(2).shuffle(&mut inside);
        Rng(3).shuffle(&mut outside);
        Self { n, table, dash, dash_fast, locked: RwLock::new(locked), inside, outside, inserted }
    }

    /// `count` flows from `from` on, around the end, in bursts.
    fn bursts<K>(keys: &[K], from: usize, count: usize) -> impl Iterator<Item = &[K]> {
        let from = from % keys.len();
        keys[from..].chunks(BULK).chain(keys.chunks(BULK).cycle()).take(count.div_ceil(BULK))
    }

    fn bulk(&self, worker: u8, from: usize, count: usize) -> Duration {
        let mut w = self.table.worker(worker).expect("a free worker");
        let mut sum = 0u64;
        let start = Stopwatch::start();
        for burst in Self::bursts(&self.inside, from, count) {
            let g = w.enter();
            let mut out = [Lookup::Miss; BULK];
            g.lookup_inside(burst, &mut out);
            for s in out.iter().take(burst.len()).filter_map(|o| o.hit()) {
                sum = sum.wrapping_add(u64::from(s.out_port()));
            }
        }
        black_box(sum);
        start.elapsed()
    }

    fn bulk_outside(&self, worker: u8, from: usize, count: usize) -> Duration {
        let mut w = self.table.worker(worker).expect("a free worker");
        let mut sum = 0u64;
        let start = Stopwatch::start();
        for burst in Self::bursts(&self.outside, from, count) {
            let g = w.enter();
            let mut out = [Lookup::Miss; BULK];
            g.lookup_outside(burst, &mut out);
            for s in out.iter().take(burst.len()).filter_map(|o| o.hit()) {
                sum = sum.wrapping_add(u64::from(s.src_port()));
            }
        }
        black_box(sum);
        start.elapsed()
    }

    /// Bulk lookups of flows that do not exist.
    fn bulk_miss(&self, worker: u8, from: usize, count: usize) -> Duration {
        let mut w = self.table.worker(worker).expect("a free worker");
        let mut hits = 0usize;
        let start = Stopwatch::start();
        for burst in Self::bursts(&self.inside, from, count) {
            let g = w.enter();
            let mut absent = [burst[0]; BULK];
            for (a, k) in absent.iter_mut().zip(burst) {
                *a = InsideKey { dst_port: 444, ..*k };
            }
            let mut out = [Lookup::Miss; BULK];
            g.lookup_inside(&absent[..burst.len()], &mut out);
            hits += out.iter().filter(|o| o.hit().is_some()).count();
        }
        assert_eq!(black_box(hits), 0);
        start.elapsed()
    }

    fn single(&self, worker: u8, from: usize, count: usize) -> Duration {
        let mut w = self.table.worker(worker).expect("a free worker");
        let mut sum = 0u64;
        let start = Stopwatch::start();
        for burst in Self::bursts(&self.inside, from, count) {
            let g = w.enter();
            for k in burst {
                if let Lookup::Hit(s) = g.lookup(k) {
                    sum = sum.wrapping_add(u64::from(s.out_port()));
                }
            }
        }
        black_box(sum);
        start.elapsed()
    }

    fn dash(&self, from: usize, count: usize) -> Duration {
        let mut sum = 0u64;
        let start = Stopwatch::start();
        for burst in Self::bursts(&self.inside, from, count) {
            for k in burst {
                if let Some(v) = self.dash.get(k) {
                    sum = sum.wrapping_add(v[3]);
                }
            }
        }
        black_box(sum);
        start.elapsed()
    }

    fn dash_fast(&self, from: usize, count: usize) -> Duration {
        let mut sum = 0u64;
        let start = Stopwatch::start();
        for burst in Self::bursts(&self.inside, from, count) {
            for k in burst {
                if let Some(v) = self.dash_fast.get(k) {
                    sum = sum.wrapping_add(v[3]);
                }
            }
        }
        black_box(sum);
        start.elapsed()
    }

    fn locked(&self, from: usize, count: usize) -> Duration {
        let mut sum = 0u64;
        let start = Stopwatch::start();
        for burst in Self::bursts(&self.inside, from, count) {
            for k in burst {
                if let Ok(map) = self.locked.read()
                    && let Some(v) = map.get(k)
                {
                    sum = sum.wrapping_add(v[3]);
                }
            }
        }
        black_box(sum);
        start.elapsed()
    }

    /// A burst of new flows with mappings is created, and ended in the next burst. Counts creations.
    fn churn(&self, worker: u8, count: usize) -> Duration {
        let mut w = self.table.worker(worker).expect("a free worker");
        // Ports and keys of its own for each worker.
        let mut ports = Ports(u64::from(worker) << 40 | 0x1_0000_0000);
        let mut next = (u64::from(worker) + 1) << 48;
        let mut made: Vec<InsideKey> = Vec::with_capacity(BULK);
        let start = Stopwatch::start();
        for _ in 0..count.div_ceil(BULK) {
            let mut g = w.enter();
            for k in made.drain(..) {
                if let Lookup::Hit(s) = g.lookup(&k) {
                    g.end(&s, &mut Forget);
                }
            }
            for _ in 0..BULK {
                next += 1;
                let k = key(next);
                while create(&g, k, &mut ports).is_err() {
                    // The other thread has no processor and is inside the table: nothing is reused
                    // before it goes on. A gateway would drop the packet; here it costs no time.
                    drop(g);
                    std::thread::sleep(Duration::from_millis(1));
                    g = w.enter();
                }
                made.push(k);
            }
        }
        let took = start.elapsed();
        let g = w.enter();
        for k in made {
            if let Lookup::Hit(s) = g.lookup(&k) {
                g.end(&s, &mut Forget);
            }
        }
        took
    }

    fn dash_churn(&self, worker: u8, count: usize) -> Duration {
        let mut next = (u64::from(worker) + 1) << 48;
        let mut made: Vec<InsideKey> = Vec::with_capacity(BULK);
        let start = Stopwatch::start();
        for _ in 0..count.div_ceil(BULK) {
            for k in made.drain(..) {
                self.dash.remove(&k);
            }
            for _ in 0..BULK {
                next += 1;
                let k = key(next);
                self.dash.insert(k, [next; 6]);
                made.push(k);
            }
        }
        let took = start.elapsed();
        for k in made {
            self.dash.remove(&k);
        }
        took
    }

    /// Of each burst, 30 are looked up and refreshed, one flow is new, and the last new one ends.
    fn mixed(&self, worker: u8, from: usize, count: usize) -> Duration {
        let mut w = self.table.worker(worker).expect("a free worker");
        let mut ports = Ports(u64::from(worker) << 40 | 0x2_0000_0000);
        let mut next = (u64::from(worker) + 1) << 48 | 1 << 40;
        let mut last = None;
        let start = Stopwatch::start();
        for (tick, burst) in (0u32..).zip(Self::bursts(&self.inside, from, count)) {
            let g = w.enter();
            let mut out = [Lookup::Miss; BULK];
            let n = burst.len().min(BULK - 2);
            g.lookup_inside(&burst[..n], &mut out);
            for s in out.iter().take(n).filter_map(|o| o.hit()) {
                s.touch(Tick(tick >> 12));
            }
            if let Some(k) = last.take()
                && let Lookup::Hit(s) = g.lookup(&k)
            {
                g.end(&s, &mut Forget);
            }
            next += 1;
            let k = key(next);
            if create(&g, k, &mut ports).is_ok() {
                last = Some(k);
            }
        }
        let took = start.elapsed();
        let g = w.enter();
        if let Some(k) = last
            && let Lookup::Hit(s) = g.lookup(&k)
        {
            g.end(&s, &mut Forget);
        }
        took
    }

    fn dash_mixed(&self, worker: u8, from: usize, count: usize) -> Duration {
        let mut next = (u64::from(worker) + 1) << 48 | 1 << 40;
        let mut last = None;
        let mut sum = 0;
        let start = Stopwatch::start();
        for burst in Self::bursts(&self.inside, from, count) {
            for k in burst.iter().take(BULK - 2) {
                if let Some(mut v) = self.dash.get_mut(k) {
                    v[0] = v[0].wrapping_add(1);
                    sum ^= v[3];
                }
            }
            if let Some(k) = last.take() {
                self.dash.remove(&k);
            }
            next += 1;
            let k = key(next);
            self.dash.insert(k, [next; 6]);
            last = Some(k);
        }
        black_box(sum);
        let took = start.elapsed();
        if let Some(k) = last {
            self.dash.remove(&k);
        }
        took
    }
}

/// Runs `f` on `threads` threads at once; gives the longest time.
fn on(threads: u8, f: impl Fn(u8) -> Duration + Sync) -> Duration {
    if threads == 1 {
        return f(0);
    }
    let barrier = Barrier::new(usize::from(threads));
    std::thread::scope(|s| {
        let all: Vec<_> = (0..threads)
            .map(|id| {
                let (f, barrier) = (&f, &barrier);
                s.spawn(move || {
                    barrier.wait();
                    f(id)
                })
            })
            .collect();
        all.into_iter().map(|t| t.join().expect("a bench thread")).max().unwrap_or_default()
    })
}

type Run<'a> = (&'static str, Box<dyn Fn(u8, usize, usize) -> Duration + Sync + 'a>);

fn contestants(a: &Arena) -> Vec<Run<'_>> {
    vec![
        ("bulk", Box::new(|w, from, n| a.bulk(w, from, n))),
        ("bulk-outside", Box::new(|w, from, n| a.bulk_outside(w, from, n))),
        ("bulk-miss", Box::new(|w, from, n| a.bulk_miss(w, from, n))),
        ("single", Box::new(|w, from, n| a.single(w, from, n))),
        ("dashmap-get", Box::new(|_, from, n| a.dash(from, n))),
        ("dashmap-fasthash-get", Box::new(|_, from, n| a.dash_fast(from, n))),
        ("rwlock-hashmap-get", Box::new(|_, from, n| a.locked(from, n))),
        ("insert-end", Box::new(|w, _, n| a.churn(w, n))),
        ("dashmap-insert-remove", Box::new(|w, _, n| a.dash_churn(w, n))),
        ("mixed", Box::new(|w, from, n| a.mixed(w, from, n))),
        ("dashmap-mixed", Box::new(|w, from, n| a.dash_mixed(w, from, n))),
    ]
}

fn sizes() -> Vec<usize> {
    let mut v = vec![1_000, 100_000, 1_000_000];
    if std::env::var("BENCH_FULL").is_ok_and(|x| x == "1") {
        v.push(10_000_000);
    }
    v
}

fn label(n: usize) -> String {
    if n >= 1_000_000 { format!("{}M", n / 1_000_000) } else { format!("{}K", n / 1000) }
}

/// Criterion's report: one thread, each contestant by itself.
fn criterion_report(c: &mut Criterion, a: &Arena) {
    let mut group = c.benchmark_group("flowtable");
    group.throughput(Throughput::Elements(1));
    for (name, run) in contestants(a) {
        let mut from = 0usize;
        group.bench_function(BenchmarkId::new(name, label(a.n)), |b| {
            b.iter_custom(|n| {
                // Whole bursts, each time another part of the flows.
                let n = usize::try_from(n).unwrap_or(usize::MAX).next_multiple_of(BULK);
                from = from.wrapping_add(n);
                run(0, from, n)
            });
        });
    }
    group.finish();
}

/// Short windows in turn; prints medians and ratios.
fn results(a: &Arena, threads: u8) {
    const ROUNDS: usize = 15;
    let window = (a.n / 4).clamp(20_000, 200_000) / BULK * BULK;
    let runs = contestants(a);
    let mut ns = vec![Vec::new(); runs.len()];
    for round in 0..=ROUNDS {
        for ((_, run), ns) in runs.iter().zip(&mut ns) {
            let took = on(threads, |id| {
                let from = round * window + usize::from(id) * a.n / 2;
                run(id, from / BULK * BULK, window)
            });
            // The first round warms up. Time per operation as one thread sees it.
            if round > 0 {
                ns.push(took.as_secs_f64() * 1e9 / window as f64);
            }
        }
    }
    let mut medians = HashMap::new();
    for ((name, _), ns) in runs.iter().zip(&mut ns) {
        ns.sort_by(f64::total_cmp);
        let (least, median) = (ns[0], ns[ns.len() / 2]);
        medians.insert(*name, median);
        println!(
            "RESULT bench=flowtable case={name} flows={} threads={threads} ns_per_op={median:.1} ns_min={least:.1} mops_all_threads={:.2}",
            label(a.n),
            f64::from(threads) * 1e3 / median
        );
    }
    for (what, ours, theirs) in [
        ("bulk_vs_dashmap", "bulk", "dashmap-get"),
        ("bulk_vs_dashmap_fasthash", "bulk", "dashmap-fasthash-get"),
        ("bulk_vs_rwlock_hashmap", "bulk", "rwlock-hashmap-get"),
        ("single_vs_dashmap", "single", "dashmap-get"),
        ("insert_vs_dashmap", "insert-end", "dashmap-insert-remove"),
        ("mixed_vs_dashmap", "mixed", "dashmap-mixed"),
    ] {
        println!(
            "RESULT bench=flowtable ratio={what} flows={} threads={threads} times_faster={:.2}",
            label(a.n),
            medians[theirs] / medians[ours]
        );
    }
    if a.n == 1_000_000 && threads == 1 {
        let x = medians["dashmap-get"] / medians["bulk"];
        println!(
            "RESULT bench=flowtable gate=bulk_vs_dashmap_1M times_faster={x:.2} wanted=3.00 met={}",
            x >= 3.0
        );
    }
}

fn memory() {
    let c = Config {
        sessions: 1_000_000,
        mappings: 1_000_000,
        spliced: 0,
        workers: 2,
        control_readers: 1,
        seed: [0; 4],
    };
    let octets = c.octets_per_flow();
    println!(
        "RESULT bench=flowtable gate=octets_per_nat64_flow octets={octets:.2} wanted=160 met={}",
        octets <= 160.0
    );
    let table = FlowTable::new(&c).expect("memory for the table");
    let mut w = table.worker(0).expect("worker 0 is free");
    let mut ports = Ports(0);
    let mut first = None;
    let mut inserted = 0u32;
    let start = Stopwatch::start();
    for i in 0..1_000_000u64 {
        let g = w.enter();
        match create(&g, key(i), &mut ports) {
            Ok(_) => inserted += 1,
            Err(_) => {
                first.get_or_insert(i);
            }
        }
    }
    let rate = f64::from(inserted) / start.elapsed().as_secs_f64();
    let s = table.stats();
    println!(
        "RESULT bench=flowtable gate=insertable_at_1M percent={:.2} first_refusal_at_percent={:.2} wanted=95 met={} flows_per_second={rate:.0} octets_taken={} pages={:?}",
        f64::from(inserted) / 1e4,
        first.map_or(100.0, |i| i as f64 / 1e4),
        first.is_none_or(|i| i >= 950_000),
        s.octets,
        s.pages,
    );
}

fn main() {
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    let quick = std::env::var("BENCH_QUICK").is_ok_and(|x| x == "1");
    println!("RESULT bench=flowtable {}", measured_on());
    memory();
    for n in sizes() {
        let a = Arena::new(n);
        println!("# {} flows, {} inserted, pages {:?}", n, a.inserted, a.table.stats().pages);
        if !quick {
            criterion_report(&mut c, &a);
        }
        for threads in [1, 2] {
            results(&a, threads);
        }
    }
    c.final_summary();
}
