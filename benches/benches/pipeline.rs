//! The whole worker loop on DPDK, without a device: `net_null` in and out, on one core.
//!
//! Two loops over the same queues and the same frames, in turns within one run:
//! - `macswap`: receive, swap the two MAC addresses, send;
//! - `nat64`: the appliance's worker, translating established UDP flows of 64-octet frames.
//!
//! `net_null` hands out frames with whatever they held, so the queues write each frame anew (`fill`).
//! That is part of both loops; its own cost is measured too, and the ratio is given with and without it. Flows come in random
//! order, so that caches do not flatter us. Windows with stolen time show in the median, not in the
//! least; both are printed.
//!
//! Environment: `PIPELINE_FLOWS` (default `1000,1000000`), `CAUSEWAY_COMMIT`.

use arrayvec::ArrayVec;
use causeway::config::Config;
use causeway::plan::{Plan, PortFacts};
use causeway::worker::{Shared, TscClock, Worker};
use causeway_benches::{Rng, measured_on};
use causeway_core::{BURST, Counter, Frame, FrameSource, Queues};
use causeway_flowtable::FlowTable;
use causeway_hwprofiles::bringup::{Gateway, Idle, Memory, PollLoop, PortSpec, Spec, StopHandle, WorkerInit};
use causeway_hwprofiles::mbuf::{MbufFrame, MempoolSource};
use causeway_hwprofiles::queues::DpdkQueues;
use causeway_neighbor::Resolved;
use causeway_testkit::{arp_reply, eth, ip6, mac};
use causeway_wire::MacAddr;
use criterion::Criterion;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Packets of one window.
const WINDOW: u64 = 32 * 1024;
/// Windows of each loop; an odd number has a median.
const WINDOWS: usize = 101;

const TENANT: MacAddr = mac(1);
const UPLINK: MacAddr = mac(2);
const VM: MacAddr = mac(3);
const ROUTER: MacAddr = mac(4);

const CONFIG: &str = r#"
[gateway]
name = "bench"
profile = "null"

[[port]]
name = "tenant0"
device = "net_null0"

[[port]]
name = "uplink0"
device = "net_null1"

[[network]]
name = "tenant0"
port = "tenant0"
role = "tenant"
addresses6 = ["2001:db8:64::1/64"]
link-local = "fe80::1"

[[network]]
name = "uplink0"
port = "uplink0"
role = "uplink"
addresses4 = ["192.0.2.2/24"]

[[route]]
prefix = "0.0.0.0/0"
via = "192.0.2.1"

[nat64]
prefixes = ["2001:db8:64:ff9b::/96"]
pool = ["203.0.113.0/26"]
timeouts = { udp = "12h" }

[neighbor]
reachable-time = "1h"
"#;

/// A frame of flow 0: 64 octets, UDP. Other flows differ in the last four octets of the source, in the
/// source port and in the checksum.
fn template() -> [u8; 64] {
    let packet = ip6("2001:db8:64::", "2001:db8:64:ff9b::198.51.100.10").udp(0, 53, b"xx");
    eth(TENANT, VM).carry(&packet).try_into().expect("64 octets")
}

/// Which flow comes next.
enum Order {
    /// One after the other, from this one on.
    Next(u32),
    Random(Rng),
}

/// Queues that write the frames they hand out.
struct Filled {
    inner: DpdkQueues,
    template: [u8; 64],
    /// The sum of the flow-dependent words is zero in the template.
    checksum: u16,
    flows: u32,
    order: Order,
    /// Frames for the uplink to receive, whole.
    uplink: VecDeque<Vec<u8>>,
    /// How many more frames the tenant port may receive; all if nothing.
    left: Option<u32>,
}

impl Filled {
    fn new(inner: DpdkQueues) -> Self {
        let template = template();
        let checksum = u16::from_be_bytes([template[60], template[61]]);
        Self {
            inner,
            template,
            checksum,
            flows: 1,
            order: Order::Next(0),
            uplink: VecDeque::new(),
            left: None,
        }
    }

    #[inline]
    fn fill(&mut self, frame: &mut MbufFrame) {
        let n = match &mut self.order {
            Order::Next(n) => {
                *n += 1;
                *n - 1
            }
            #[expect(clippy::cast_possible_truncation, reason = "below the number of flows")]
            Order::Random(rng) => ((u64::from(rng.next_u64() as u32) * u64::from(self.flows)) >> 32) as u32,
        };
        // Sixteen ports of each of many hosts. Host numbers begin above the gateway's own.
        let (host, port) = ((n >> 4) + 0x1_0000, (n & 15) as u16 + 5000);
        let b = &mut frame.bytes_mut()[..64];
        b.copy_from_slice(&self.template);
        b[34..38].copy_from_slice(&host.to_be_bytes());
        b[54..56].copy_from_slice(&port.to_be_bytes());
        let sum = u32::from(!self.checksum) + (host >> 16) + (host & 0xffff) + u32::from(port);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
        // RFC 8200 8.1: what sums up to zero is sent as all ones.
        let checksum = if sum == 0xffff { sum } else { !sum };
        b[60..62].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// The queues, shared by the loops in turn.
#[derive(Clone)]
struct Queue(Rc<RefCell<Filled>>);

impl Queues for Queue {
    type Frame = MbufFrame;

    fn ports(&self) -> u16 {
        2
    }

    #[inline]
    fn rx(&mut self, port: u16, into: &mut ArrayVec<MbufFrame, BURST>) {
        let q = &mut *self.0.borrow_mut();
        if port == 1 {
            let Some(octets) = q.uplink.pop_front() else { return };
            q.inner.rx(1, into);
            into.truncate(1);
            if let Some(frame) = into.first_mut() {
                frame.truncate(octets.len());
                frame.bytes_mut().copy_from_slice(&octets);
            }
            return;
        }
        if q.left == Some(0) {
            return;
        }
        q.inner.rx(0, into);
        if let Some(left) = &mut q.left {
            into.truncate(*left as usize);
            *left -= into.len() as u32;
        }
        for frame in into {
            q.fill(frame);
        }
    }

    #[inline]
    fn tx(&mut self, port: u16, frames: &mut ArrayVec<MbufFrame, BURST>) {
        self.0.borrow_mut().inner.tx(port, frames);
    }
}

/// The pool, shared by the workers in turn.
#[derive(Clone)]
struct Source(Rc<RefCell<MempoolSource>>);

impl FrameSource for Source {
    type Frame = MbufFrame;

    fn alloc(&mut self) -> Option<MbufFrame> {
        self.0.borrow_mut().alloc()
    }
}

/// The appliance's worker with a table of its own.
struct Nat64 {
    worker: Worker<Queue, Source, TscClock>,
    shared: Arc<Shared<MbufFrame>>,
}

impl Nat64 {
    fn new(queue: &Queue, source: Source, flows: u32) -> Self {
        let config = Config::parse("bench", CONFIG).unwrap_or_else(|e| panic!("{e}"));
        let port = |name: &str, mac| PortFacts { name: name.to_owned(), mac, mtu: 1500 };
        let plan = Plan::build(&config, &[port("tenant0", TENANT), port("uplink0", UPLINK)], None);
        let plan = Arc::new(plan.expect("the configuration is good"));
        let capacity = flows.max(1024);
        let table = FlowTable::new(&causeway_flowtable::Config {
            sessions: capacity,
            mappings: capacity,
            spliced: 0,
            workers: 1,
            control_readers: 1,
            seed: [0x1234_5678, 2, 3, 4],
        })
        .expect("memory for the table");
        let resolved = Arc::new(Resolved::new(&plan.neighbor, 1));
        let shared = Arc::new(Shared::new(table, resolved, 1));
        let worker = Worker::new(0, Arc::clone(&shared), TscClock::new(), plan, queue.clone(), source);
        let mut nat64 = Self { worker: worker.expect("the first worker"), shared };
        nat64.establish(queue, flows);
        nat64
    }

    /// Opens every flow once.
    fn establish(&mut self, queue: &Queue, flows: u32) {
        let answer = eth(UPLINK, ROUTER).carry(&arp_reply(ROUTER, "192.0.2.1", UPLINK, "192.0.2.2"));
        {
            let q = &mut *queue.0.borrow_mut();
            (q.flows, q.order, q.left) = (flows, Order::Next(0), Some(1));
        }
        self.worker.poll();
        queue.0.borrow_mut().uplink.push_back(answer);
        self.worker.poll();
        queue.0.borrow_mut().left = Some(flows - 1);
        while queue.0.borrow().left != Some(0) {
            self.worker.poll();
        }
        let q = &mut *queue.0.borrow_mut();
        (q.left, q.order) = (None, Order::Random(Rng(u64::from(flows))));
        let c = &self.shared.mailboxes[0].counters;
        let (made, translated) = (c.get(Counter::Nat64SessionsCreated), c.get(Counter::Nat64V6ToV4));
        assert_eq!((made, translated), (u64::from(flows), u64::from(flows)), "{:?}", c.nonzero());
    }

    /// Everything so far was a translated packet of a flow that was there, and left.
    fn check(&self, flows: u32) {
        let c = &self.shared.mailboxes[0].counters;
        assert_eq!(c.get(Counter::Nat64SessionsCreated), u64::from(flows));
        let drops: Vec<_> = c.nonzero().into_iter().filter(|(name, _)| name.starts_with("drop.")).collect();
        assert!(drops.is_empty(), "{drops:?}");
        assert_eq!(c.get(Counter::Nat64V6ToV4), c.get(Counter::RxFrames) - 1);
    }
}

/// Nanoseconds a packet over one window.
fn window(clock: &quanta::Clock, packets: u64, mut poll: impl FnMut()) -> f64 {
    let before = clock.raw();
    for _ in 0..packets / BURST as u64 {
        poll();
    }
    clock.delta_as_nanos(before, clock.raw()) as f64 / packets as f64
}

/// Least and median.
fn summary(mut v: Vec<f64>) -> (f64, f64) {
    v.sort_by(f64::total_cmp);
    (v[0], v[v.len() / 2])
}

struct Bench {
    queue: Queue,
    burst: ArrayVec<MbufFrame, BURST>,
    source: Source,
    stop: StopHandle,
    done: bool,
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
        let clock = quanta::Clock::new();
        println!("INFO {}", measured_on());
        let flows = std::env::var("PIPELINE_FLOWS").unwrap_or_else(|_| "1000,1000000".to_owned());
        let mut criterion = Criterion::default()
            .configure_from_args()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        for flows in flows.split(',').map(|n| n.trim().parse::<u32>().expect("numbers of flows")) {
            let mut nat64 = Nat64::new(&self.queue, self.source.clone(), flows);
            let (mut swap, mut nat, mut fill) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..WINDOWS {
                swap.push(window(&clock, WINDOW, || self.macswap()));
                nat.push(window(&clock, WINDOW, || {
                    nat64.worker.poll();
                }));
                self.queue.0.borrow_mut().inner.rx(0, &mut self.burst);
                fill.push(window(&clock, WINDOW, || self.fill()));
                self.burst.clear();
            }
            nat64.check(flows);
            let ((swap_min, swap), (nat_min, nat), (_, fill)) = (summary(swap), summary(nat), summary(fill));
            println!(
                "RESULT bench=pipeline flows={flows} nat64_ns={nat:.1} nat64_ns_min={nat_min:.1} macswap_ns={swap:.1} \
                 macswap_ns_min={swap_min:.1} fill_ns={fill:.1} ratio={:.2} ratio_of_least={:.2} ratio_without_fill={:.2} target={}",
                nat / swap,
                nat_min / swap_min,
                (nat - fill) / (swap - fill),
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

impl PollLoop for Bench {
    fn poll(&mut self) -> bool {
        // The runtime polls on until it sees that it is to stop.
        if !std::mem::replace(&mut self.done, true) {
            self.run();
            self.stop.stop();
        }
        true
    }

    fn drain(&mut self) {
        self.burst.clear();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = |n: usize| -> Result<PortSpec, Box<dyn std::error::Error>> {
        let device = format!("net_null{n},size=64,copy=0").parse()?;
        Ok(PortSpec::new(["tenant0", "uplink0"][n], device))
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let gateway = Gateway::bring_up(Spec {
        app_group: format!("bench-{}", std::process::id()),
        main_core: 0,
        worker_cores: vec![if cores > 1 { 1 } else { 0 }],
        mempool_frames: 8191,
        frame_octets: 2048,
        idle: Idle::Spin,
        memory: Memory::Auto,
        ports: vec![port(0)?, port(1)?],
    })?;
    gateway.warnings().iter().for_each(|w| println!("INFO {w}"));
    let stop = gateway.stop_handle();
    let report = gateway.run(move |init| {
        let WorkerInit { queues, source, .. } = init;
        Bench {
            queue: Queue(Rc::new(RefCell::new(Filled::new(queues)))),
            burst: ArrayVec::new(),
            source: Source(Rc::new(RefCell::new(source))),
            stop: stop.clone(),
            done: false,
        }
    })?;
    assert_eq!(report.frames_in_use, 0, "every frame was given back");
    Ok(())
}
