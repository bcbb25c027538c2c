//! What benches on DPDK share: queues of `net_null` that write the frames they hand out, and the appliance's
//! worker on them.
//!
//! `net_null` hands out frames with whatever they held, so the queues write each frame anew (`fill`).

use arrayvec::ArrayVec;
use causeway::config::Config;
use causeway::plan::{Plan, PortFacts};
use causeway::worker::{Shared, TscClock, Worker};
use causeway_benches::Rng;
use causeway_benches::clocks::Quiet;
use causeway_core::{BURST, Counter, Frame, FrameSource, Queues};
use causeway_flowtable::FlowTable;
use causeway_hwprofiles::bringup::{
    BringupError, Gateway, Idle, Memory, PollLoop, PortSpec, Spec, StopHandle, WorkerInit,
};
use causeway_hwprofiles::mbuf::{MbufFrame, MempoolSource};
use causeway_hwprofiles::queues::DpdkQueues;
use causeway_neighbor::Resolved;
use causeway_testkit::{arp_reply, eth, ip6, mac};
use causeway_wire::MacAddr;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

pub(crate) const TENANT: MacAddr = mac(1);
pub(crate) const UPLINK: MacAddr = mac(2);
pub(crate) const VM: MacAddr = mac(3);
pub(crate) const ROUTER: MacAddr = mac(4);

pub(crate) const CONFIG: &str = r#"
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
pool = ["203.0.113.0/24"]
timeouts = { udp = "12h" }

[neighbor]
reachable-time = "1h"
"#;

/// A frame of flow 0: 64 octets, UDP. Other flows differ in the last four octets of the source, in the
/// source port and in the checksum.
pub(crate) fn template() -> [u8; 64] {
    let packet = ip6("2001:db8:64::", "2001:db8:64:ff9b::198.51.100.10").udp(0, 53, b"xx");
    eth(TENANT, VM).carry(&packet).try_into().expect("64 octets")
}

/// Which flow comes next.
pub(crate) enum Order {
    /// One after the other, from this one on.
    Next(u32),
    Random(Rng),
}

/// Queues that write the frames they hand out.
pub(crate) struct Filled {
    pub(crate) inner: DpdkQueues,
    pub(crate) template: [u8; 64],
    /// The sum of the flow-dependent words is zero in the template.
    checksum: u16,
    pub(crate) flows: u32,
    pub(crate) order: Order,
    /// Frames for the uplink to receive, whole.
    pub(crate) uplink: VecDeque<Vec<u8>>,
    /// How many more frames the tenant port may receive; all if nothing.
    pub(crate) left: Option<u32>,
}

impl Filled {
    pub(crate) fn new(inner: DpdkQueues) -> Self {
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
    pub(crate) fn fill(&mut self, frame: &mut MbufFrame) {
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
pub(crate) struct Queue(pub(crate) Rc<RefCell<Filled>>);

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
pub(crate) struct Source(pub(crate) Rc<RefCell<MempoolSource>>);

impl FrameSource for Source {
    type Frame = MbufFrame;

    fn alloc(&mut self) -> Option<MbufFrame> {
        self.0.borrow_mut().alloc()
    }
}

/// The appliance's worker with a table of its own.
pub(crate) struct Nat64 {
    pub(crate) worker: Worker<Queue, Source, TscClock>,
    pub(crate) shared: Arc<Shared<MbufFrame>>,
}

impl Nat64 {
    /// With `flows` flows, all open, and room for `spare` more.
    pub(crate) fn new(queue: &Queue, source: Source, flows: u32, spare: u32) -> Self {
        let config = Config::parse("bench", CONFIG).unwrap_or_else(|e| panic!("{e}"));
        let port = |name: &str, mac| PortFacts { name: name.to_owned(), mac, mtu: 1500 };
        let plan = Plan::build(&config, &[port("tenant0", TENANT), port("uplink0", UPLINK)], None);
        let plan = Arc::new(plan.expect("the configuration is good"));
        let capacity = (flows + spare).max(1024);
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
        let bindings = Arc::new(causeway_flowtable::Bindings::new(1, [5, 6]).expect("memory for a binding"));
        let shared = Arc::new(Shared::new(table, resolved, bindings, 1));
        let worker = Worker::new(0, Arc::clone(&shared), TscClock::new(), plan, queue.clone(), source);
        let mut nat64 = Self { worker: worker.expect("the first worker"), shared };
        nat64.establish(queue, flows);
        nat64
    }

    /// Opens every flow once.
    pub(crate) fn establish(&mut self, queue: &Queue, flows: u32) {
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
    pub(crate) fn check(&self, flows: u32) {
        let c = &self.shared.mailboxes[0].counters;
        assert_eq!(c.get(Counter::Nat64SessionsCreated), u64::from(flows));
        let drops: Vec<_> = c.nonzero().into_iter().filter(|(name, _)| name.starts_with("drop.")).collect();
        assert!(drops.is_empty(), "{drops:?}");
        assert_eq!(c.get(Counter::Nat64V6ToV4), c.get(Counter::RxFrames) - 1);
    }
}

/// Nanoseconds a packet over one window; nothing if the processor was taken away in it.
pub(crate) fn window(quiet: &mut Quiet, packets: u64, mut poll: impl FnMut()) -> Option<f64> {
    let tsc = quiet.tsc().clone();
    let (clocks, good) = quiet.window(|| {
        let before = tsc.raw();
        for _ in 0..packets / BURST as u64 {
            poll();
        }
        tsc.raw() - before
    });
    good.then_some(clocks as f64 / tsc.ghz() / packets as f64)
}

/// Brings up two `net_null` ports and one worker core, and does `work` there, once.
pub(crate) fn on_worker<W>(work: W) -> Result<(), BringupError>
where
    W: Fn(Queue, Source) + Send + Sync + 'static,
{
    let port = |n: usize| {
        let device = format!("net_null{n},size=64,copy=0").parse().unwrap_or_else(|e| panic!("{e}"));
        PortSpec::new(["tenant0", "uplink0"][n], device)
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
        ports: vec![port(0), port(1)],
    })?;
    gateway.warnings().iter().for_each(|w| println!("INFO {w}"));
    let (stop, work) = (gateway.stop_handle(), Arc::new(work));
    let report = gateway.run(move |init| {
        let WorkerInit { queues, source, .. } = init;
        Once {
            queue: Queue(Rc::new(RefCell::new(Filled::new(queues)))),
            source: Source(Rc::new(RefCell::new(source))),
            work: Arc::clone(&work),
            stop: stop.clone(),
            done: false,
        }
    })?;
    assert_eq!(report.frames_in_use, 0, "every frame was given back");
    Ok(())
}

struct Once<W> {
    queue: Queue,
    source: Source,
    work: Arc<W>,
    stop: StopHandle,
    done: bool,
}

impl<W: Fn(Queue, Source)> PollLoop for Once<W> {
    fn poll(&mut self) -> bool {
        // The runtime polls on until it sees that it is to stop.
        if !std::mem::replace(&mut self.done, true) {
            (self.work)(self.queue.clone(), self.source.clone());
            self.stop.stop();
        }
        true
    }

    fn drain(&mut self) {}
}
