//! The whole worker on plain memory and virtual time.

use arrayvec::ArrayVec;
use causeway::config::Config;
use causeway::plan::{Plan, PortFacts};
use causeway::worker::{Clock, DnsShared, Shared, Worker};
use causeway_core::{BURST, Counters, Frame, HeapFrame, HeapSource, Instant, Queues};
use causeway_flowtable::{Bindings, FlowTable};
use causeway_neighbor::Resolved;
use causeway_wire::MacAddr;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// Ports' own link-layer addresses.
pub(crate) const TENANT: MacAddr = MacAddr([2, 0, 0, 0, 0x64, 3]);
pub(crate) const UPLINK: MacAddr = MacAddr([2, 0, 0, 0, 0x64, 4]);

/// A gateway with a tenant network and an uplink; `pool` is NAT64's, in `[vrrp]` are three virtual routers.
pub(crate) fn text(pool: &str, vrrp: bool) -> String {
    let own = |v: bool, text: &'static str| if v == vrrp { text } else { "" };
    format!(
        r#"
[gateway]
name = "bench"
profile = "veth"
[dns]
servers = ["2001:db8:64::53"]
search = ["example"]
[[port]]
name = "tenant0"
device = "net_af_packet0,iface=tenant0"
[[port]]
name = "uplink0"
device = "net_af_packet1,iface=uplink0"
[[network]]
name = "tenant0"
port = "tenant0"
role = "tenant"
{}
[network.ra]
[[network]]
name = "uplink0"
port = "uplink0"
role = "uplink"
addresses6 = ["2001:db8:ffff::3/64"]
addresses4 = ["192.0.2.3/24"]
[[route]]
prefix = "::/0"
via = "2001:db8:ffff::1"
[[route]]
prefix = "0.0.0.0/0"
via = "192.0.2.1"
[nat64]
prefixes = ["2001:db8:64:ff9b::/96"]
pool = ["{pool}"]
{}
"#,
        if vrrp {
            "on-link = [\"2001:db8:64::/64\"]"
        } else {
            "addresses6 = [\"2001:db8:64::1/64\"]\nlink-local = \"fe80::1\""
        },
        own(
            true,
            r#"
[vrrp]
priority = 100
interval = "100ms"
[[vrrp.router]]
network = "tenant0"
vrid = 64
addresses = ["fe80::1", "2001:db8:64::1"]
[[vrrp.router]]
network = "uplink0"
vrid = 64
addresses = ["fe80::2", "2001:db8:ffff::2"]
[[vrrp.router]]
network = "uplink0"
vrid = 64
addresses = ["192.0.2.2"]
"#
        ),
    )
}

/// The plan of a configuration.
pub(crate) fn plan(text: &str) -> Plan {
    let config = Config::parse("bench", text).unwrap_or_else(|e| panic!("{e}"));
    let port = |name: &str, mac| PortFacts { name: name.to_owned(), mac, mtu: 1500 };
    Plan::build(&config, &[port("tenant0", TENANT), port("uplink0", UPLINK)], None).expect("a good plan")
}

/// What is to come in by the tenant's port, and what went out.
#[derive(Default)]
pub(crate) struct Wires {
    pub(crate) rx: ArrayVec<HeapFrame, BURST>,
    /// Octets of the last frames; kept only while `keep`.
    pub(crate) tx: Vec<Vec<u8>>,
    pub(crate) keep: bool,
    pub(crate) sent: usize,
}

pub(crate) struct MemQueues(Rc<RefCell<Wires>>);

impl Queues for MemQueues {
    type Frame = HeapFrame;

    fn ports(&self) -> u16 {
        2
    }

    fn rx(&mut self, port: u16, into: &mut ArrayVec<HeapFrame, BURST>) {
        if port == 0 {
            into.extend(self.0.borrow_mut().rx.drain(..));
        }
    }

    fn tx(&mut self, _: u16, frames: &mut ArrayVec<HeapFrame, BURST>) {
        let wires = &mut *self.0.borrow_mut();
        wires.sent += frames.len();
        if wires.keep {
            wires.tx.extend(frames.iter().map(|f| f.bytes().to_vec()));
        }
        frames.clear();
    }
}

#[derive(Clone, Default)]
pub(crate) struct VirtualClock(pub(crate) Rc<Cell<u64>>);

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        Instant::from_micros(self.0.get())
    }
}

/// A gateway with one worker.
pub(crate) struct Gateway {
    pub(crate) wires: Rc<RefCell<Wires>>,
    pub(crate) clock: VirtualClock,
    pub(crate) shared: Arc<Shared<HeapFrame>>,
    pub(crate) worker: Worker<MemQueues, HeapSource, VirtualClock>,
}

impl Gateway {
    pub(crate) fn new(text: &str) -> Self {
        let plan = Arc::new(plan(text));
        let table = FlowTable::new(&causeway_flowtable::Config {
            sessions: 1024,
            mappings: 1024,
            spliced: 0,
            workers: 1,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        });
        let resolved = Arc::new(Resolved::new(&plan.neighbor, 1));
        let bindings = Arc::new(Bindings::new(1, [5, 6]).expect("memory"));
        let mut shared = Shared::new(table.expect("memory"), resolved, bindings, 1);
        shared.dns = plan
            .dns64
            .as_ref()
            .map(|config| DnsShared::new(&config.cache, [8; 32], [9; 16]).expect("memory"));
        let shared = Arc::new(shared);
        let (wires, clock) = (Rc::<RefCell<Wires>>::default(), VirtualClock::default());
        clock.0.set(1_000_000);
        let worker = Worker::new(
            0,
            Arc::clone(&shared),
            clock.clone(),
            plan,
            MemQueues(Rc::clone(&wires)),
            HeapSource::new(usize::MAX),
        );
        Self { wires, clock, shared, worker: worker.expect("the first worker") }
    }

    /// Polls once, so much later than the last time.
    pub(crate) fn poll_after(&mut self, us: u64) {
        self.clock.0.set(self.clock.0.get() + us);
        self.worker.poll();
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.mailboxes[0].counters
    }
}
