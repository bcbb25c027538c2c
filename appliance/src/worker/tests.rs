//! The whole pipeline on plain memory and virtual time: frames in on ports, frames out on ports, the whole
//! counter difference.

use super::*;
use crate::config::Config;
use crate::plan::PortFacts;
use causeway_core::{Duration, HeapFrame, HeapSource};
use causeway_testkit::{Snapshot, arp_reply, arp_request, check_packet, eth, ip4, ip6, mutate, pad60, tcp};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::rc::Rc;

pub(super) const VM1: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
const VM2: MacAddr = MacAddr([2, 0, 0, 0, 1, 2]);
pub(super) const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0xff, 1]);
const GW_TENANT: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(super) const GW_UPLINK: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(super) const TENANT: usize = 0;
pub(super) const UPLINK: usize = 1;

/// The wires of all ports: what is to come in for each worker, and what went out.
#[derive(Default)]
pub(super) struct Wires {
    pub(super) rx: Vec<Vec<VecDeque<Vec<u8>>>>,
    pub(super) tx: Vec<Vec<Vec<u8>>>,
    /// How many frames a transmit queue takes in one call; all if nothing.
    tx_room: Option<usize>,
}

pub(super) struct MemQueues {
    worker: usize,
    pub(super) wires: Rc<RefCell<Wires>>,
}

impl Queues for MemQueues {
    type Frame = HeapFrame;

    fn ports(&self) -> u16 {
        2
    }

    fn rx(&mut self, port: u16, into: &mut ArrayVec<HeapFrame, BURST>) {
        let queue = &mut self.wires.borrow_mut().rx[self.worker][usize::from(port)];
        while !into.is_full() {
            match queue.pop_front() {
                Some(octets) => into.push(HeapFrame::new(&octets)),
                None => return,
            }
        }
    }

    fn tx(&mut self, port: u16, frames: &mut ArrayVec<HeapFrame, BURST>) {
        let mut wires = self.wires.borrow_mut();
        let n = wires.tx_room.unwrap_or(BURST).min(frames.len());
        let sent = frames.drain(..n).map(|f| f.bytes().to_vec()).collect::<Vec<_>>();
        wires.tx[usize::from(port)].extend(sent);
    }
}

#[derive(Clone, Default)]
pub(super) struct VirtualClock(pub(super) Rc<Cell<u64>>);

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        Instant::from_micros(self.0.get())
    }
}

pub(super) struct Lab {
    pub(super) wires: Rc<RefCell<Wires>>,
    pub(super) clock: VirtualClock,
    pub(super) shared: Arc<Shared<HeapFrame>>,
    pub(super) workers: Vec<Worker<MemQueues, HeapSource, VirtualClock>>,
    pub(super) plan: Arc<Plan>,
    marks: Vec<Snapshot>,
}

pub(super) fn lab_text() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/testing/gateway.toml")).unwrap()
}

fn facts() -> Vec<PortFacts> {
    let port = |name: &str, mac| PortFacts { name: name.to_owned(), mac, mtu: 1500 };
    vec![port("tenant0", GW_TENANT), port("uplink0", GW_UPLINK)]
}

impl Lab {
    fn new(workers: u16) -> Self {
        Self::with(workers, &lab_text())
    }

    pub(super) fn with(workers: u16, text: &str) -> Self {
        Self::with_ports(workers, text, &facts())
    }

    pub(super) fn with_ports(workers: u16, text: &str, ports: &[PortFacts]) -> Self {
        let config = Config::parse("lab.toml", text).unwrap_or_else(|e| panic!("{e}"));
        let plan = Arc::new(Plan::build(&config, ports, None).unwrap());
        let table = FlowTable::new(&causeway_flowtable::Config {
            sessions: 1024,
            mappings: 1024,
            spliced: 64,
            workers: workers as u8,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        })
        .unwrap();
        let resolved = Arc::new(Resolved::new(&plan.neighbor, workers));
        let mut shared = Shared::new(table, resolved, Arc::new(Bindings::new(64, [5, 6]).unwrap()), workers);
        shared.dns =
            plan.dns64.as_ref().map(|config| DnsShared::new(&config.cache, [6; 32], [7; 16]).unwrap());
        shared.splicer = plan.splicer.as_ref().map(|splicer| {
            let mut servers = causeway_splicer::site::Servers::new();
            let sites = SiteTable::of(splicer.sites.clone(), &mut servers);
            let sites = Arc::new(ArcSwap::from_pointee(sites));
            SplicerShared { sites, fresh: servers.fresh(), secret: [8; 32], cookies: [9; 16] }
        });
        let shared = Arc::new(shared);
        let wires = Rc::new(RefCell::new(Wires {
            rx: (0..workers).map(|_| vec![VecDeque::new(); 2]).collect(),
            tx: vec![Vec::new(); 2],
            tx_room: None,
        }));
        let clock = VirtualClock::default();
        clock.0.set(3_600_000_000);
        let make = |id: u16| {
            let queues = MemQueues { worker: usize::from(id), wires: Rc::clone(&wires) };
            let source = HeapSource::new(1_000_000);
            Worker::new(id, Arc::clone(&shared), clock.clone(), Arc::clone(&plan), queues, source).unwrap()
        };
        let workers: Vec<_> = (0..workers).map(make).collect();
        let marks = workers.iter().map(|_| Snapshot::default()).collect();
        let mut lab = Self { wires, clock, shared, workers, plan, marks };
        lab.mark();
        lab
    }

    /// Everybody's link-layer address is known.
    fn resolved(workers: u16) -> Self {
        let mut lab = Self::new(workers);
        lab.resolve_all();
        lab
    }

    pub(super) fn resolve_all(&mut self) {
        for (vm, mac) in [("2001:db8:64::101", VM1), ("2001:db8:64::102", VM2)] {
            // Anything towards the server makes the gateway ask; the server answers.
            self.send(0, UPLINK, &eth(GW_UPLINK, ROUTER).carry(&ip6("2001:db8:6::10", vm).udp(1, 1, b"")));
            let na = ip6(vm, "2001:db8:64::1").na(vm, false, true, true, Some(mac));
            self.send(0, TENANT, &eth(GW_TENANT, mac).carry(&na));
        }
        let to4 = ip6("2001:db8:64::101", "2001:db8:64:ff9b::192.0.2.1").udp(9, 9, b"");
        self.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&to4));
        self.send(
            0,
            UPLINK,
            &eth(GW_UPLINK, ROUTER).carry(&arp_reply(ROUTER, "192.0.2.1", GW_UPLINK, "192.0.2.2")),
        );
        let to6 = ip6("2001:db8:64::101", "2001:db8:6::10").udp(9, 9, b"");
        self.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&to6));
        let na = ip6("2001:db8:ffff::1", "2001:db8:ffff::2").na(
            "2001:db8:ffff::1",
            true,
            true,
            true,
            Some(ROUTER),
        );
        self.send(0, UPLINK, &eth(GW_UPLINK, ROUTER).carry(&na));
        self.settle();
        for port in [TENANT, UPLINK] {
            self.sent(port);
        }
        self.mark();
    }

    pub(super) fn give(&self, worker: usize, port: usize, frame: &[u8]) {
        self.wires.borrow_mut().rx[worker][port].push_back(frame.to_vec());
    }

    pub(super) fn send(&mut self, worker: usize, port: usize, frame: &[u8]) {
        self.give(worker, port, frame);
        self.settle();
    }

    /// Polls all workers until nobody has anything to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..10 {
            let busy = self.workers.iter_mut().map(Worker::poll).fold(false, |a, b| a | b);
            if !busy {
                return;
            }
        }
        panic!("the workers do not come to rest");
    }

    /// Polls for a length of virtual time, in steps of 10 ms.
    fn pass(&mut self, d: Duration) {
        for _ in 0..d.as_millis() / 10 {
            self.clock.0.set(self.clock.0.get() + 10_000);
            self.workers.iter_mut().for_each(|w| {
                w.poll();
            });
        }
    }

    /// Packets that left a port since the last call, each with its link-layer destination. Every length
    /// and checksum is right.
    pub(super) fn sent(&self, port: usize) -> Vec<(MacAddr, Vec<u8>)> {
        let frames = std::mem::take(&mut self.wires.borrow_mut().tx[port]);
        frames
            .into_iter()
            .map(|f| {
                let own = [GW_TENANT, GW_UPLINK][port];
                assert_eq!(f[6..12], own.0, "the source is our own address");
                let packet = f[14..].to_vec();
                if f[12..14] != [8, 6] {
                    check_packet(&packet).unwrap_or_else(|e| panic!("{e}: {packet:02x?}"));
                }
                (MacAddr(f[..6].try_into().unwrap()), packet)
            })
            .collect()
    }

    pub(super) fn mark(&mut self) {
        self.marks = self.shared.mailboxes.iter().map(|m| Snapshot::of(&m.counters)).collect();
    }

    /// What moved since the last mark, all workers together, without what every frame moves.
    pub(super) fn moved(&self) -> Vec<(String, u64)> {
        const ALWAYS: [&str; 6] =
            ["rx-frames", "rx-octets", "tx-frames", "tx-octets", "busy-polls", "idle-polls"];
        let mut all = std::collections::BTreeMap::new();
        for (mark, m) in self.marks.iter().zip(&self.shared.mailboxes) {
            for (name, n) in mark.diff(&m.counters) {
                if !ALWAYS.contains(&name.as_str()) {
                    *all.entry(name).or_insert(0) += n;
                }
            }
        }
        all.into_iter().collect()
    }

    #[track_caller]
    pub(super) fn assert_moved(&self, want: &[(&str, u64)]) {
        let want: Vec<(String, u64)> = want.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
        assert_eq!(self.moved(), want);
    }

    fn out_port(packet: &[u8]) -> u16 {
        u16::from_be_bytes([packet[20], packet[21]])
    }
}

#[test]
fn an_ipv6_only_server_talks_to_an_ipv4_only_one_from_the_first_packet_on() {
    let mut lab = Lab::new(1);
    let question = ip6("2001:db8:64::101", "2001:db8:64:ff9b::198.51.100.10").udp(4000, 53, b"question");
    lab.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&question));
    // The way out is not known yet: the packet waits, and the gateway asks for its router.
    let asked = lab.sent(UPLINK);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].0, MacAddr::BROADCAST);
    lab.send(
        0,
        UPLINK,
        &pad60(eth(GW_UPLINK, ROUTER).carry(&arp_reply(ROUTER, "192.0.2.1", GW_UPLINK, "192.0.2.2"))),
    );
    let out = lab.sent(UPLINK);
    assert_eq!(out.len(), 1);
    let (mac, packet) = &out[0];
    assert_eq!(*mac, ROUTER);
    assert_eq!(packet[16..20], [198, 51, 100, 10]);
    assert_eq!(packet[12..15], [203, 0, 113]);
    assert_eq!(&packet[28..], b"question");

    let src = source4(packet);
    let answer = ip4("198.51.100.10", src).udp(53, Lab::out_port(packet), b"an answer");
    lab.send(0, UPLINK, &eth(GW_UPLINK, ROUTER).carry(&answer));
    // Now the server has to be found.
    let asked = lab.sent(TENANT);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].0.to_string(), "33:33:ff:00:01:01");
    let na = ip6("2001:db8:64::101", "2001:db8:64::1").na("2001:db8:64::101", false, true, true, Some(VM1));
    lab.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&na));
    let back = lab.sent(TENANT);
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].0, VM1);
    assert_eq!(&back[0].1[48..], b"an answer");
    lab.assert_moved(&[
        ("arp-sent", 1),
        ("nat64-mappings-created", 1),
        ("nat64-sessions-created", 1),
        ("nat64-v4-to-v6", 1),
        ("nat64-v6-to-v4", 1),
        ("neighbors-resolved", 2),
        ("next-hop-held", 2),
        ("ns-sent", 1),
    ]);
}

fn source4(packet: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from_octets(packet[12..16].try_into().unwrap())
}

#[test]
fn a_full_burst_of_each_kind_goes_its_way_in_one_poll() {
    let mut lab = Lab::resolved(1);
    for n in 0..16u16 {
        let nat = ip6("2001:db8:64::101", "2001:db8:64:ff9b::198.51.100.10").udp(5000 + n, 53, b"x");
        let native = ip6("2001:db8:64::101", "2001:db8:6::10").udp(5000 + n, 53, b"x");
        lab.give(0, TENANT, &eth(GW_TENANT, VM1).carry(&nat));
        lab.give(0, TENANT, &eth(GW_TENANT, VM1).carry(&native));
    }
    assert!(lab.workers[0].poll());
    let out = lab.sent(UPLINK);
    assert_eq!(out.iter().filter(|(_, p)| p[0] >> 4 == 4).count(), 16);
    assert_eq!(out.iter().filter(|(_, p)| p[0] >> 4 == 6).count(), 16);
    lab.assert_moved(&[
        ("forwarded6", 16),
        ("nat64-mappings-created", 16),
        ("nat64-sessions-created", 16),
        ("nat64-v6-to-v4", 16),
    ]);
}

#[test]
fn rfc6146_3_8_a_server_reaches_another_one_by_its_pool_address() {
    let mut lab = Lab::resolved(1);
    let first = ip6("2001:db8:64::102", "2001:db8:64:ff9b::198.51.100.10").udp(7000, 53, b"x");
    lab.send(0, TENANT, &eth(GW_TENANT, VM2).carry(&first));
    let out = lab.sent(UPLINK);
    let (a, port) = (&out[0].1[12..16], Lab::out_port(&out[0].1));
    let public = format!("2001:db8:64:ff9b::{}.{}.{}.{}", a[0], a[1], a[2], a[3]);
    lab.mark();
    let turn = ip6("2001:db8:64::101", public.as_str()).udp(7001, port, b"hairpin");
    lab.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&turn));
    let got = lab.sent(TENANT);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].0, VM2);
    assert_eq!(&got[0].1[48..], b"hairpin");
    assert_eq!(got[0].1[7], 63, "one gateway takes one hop");
    assert!(lab.sent(UPLINK).is_empty());
    let moved = lab.moved();
    assert!(moved.contains(&("nat64-hairpin".to_owned(), 1)), "{moved:?}");
    assert!(!moved.iter().any(|(name, _)| name.starts_with("drop.")), "{moved:?}");
}

#[test]
fn what_the_device_does_not_take_is_dropped_and_counted() {
    let mut lab = Lab::resolved(1);
    lab.wires.borrow_mut().tx_room = Some(5);
    for n in 0..20u16 {
        let p = ip6("2001:db8:64::101", "2001:db8:6::10").udp(5000 + n, 53, b"x");
        lab.give(0, TENANT, &eth(GW_TENANT, VM1).carry(&p));
    }
    lab.settle();
    assert_eq!(lab.sent(UPLINK).len(), 5);
    lab.assert_moved(&[("drop.tx-full", 15), ("forwarded6", 20)]);
}

#[test]
fn a_neighbour_has_one_owner_whichever_worker_meets_it() {
    let mut lab = Lab::new(2);
    // Both workers have packets for the same servers; each server has one owner.
    for vm in 0x200..0x220u16 {
        let dst = format!("2001:db8:64::{vm:x}");
        for worker in [0, 1] {
            let p = ip6("2001:db8:6::10", dst.as_str()).udp(1, 2, b"x");
            lab.give(worker, UPLINK, &eth(GW_UPLINK, ROUTER).carry(&p));
        }
    }
    lab.settle();
    let asked = lab.sent(TENANT);
    assert_eq!(asked.len(), 32, "one solicitation each");
    // The answers come to either worker.
    for vm in 0x200..0x220u16 {
        let src = format!("2001:db8:64::{vm:x}");
        let na = ip6(src.as_str(), "2001:db8:64::1").na(src.as_str(), false, true, true, Some(VM1));
        lab.give(usize::from(vm % 2), TENANT, &eth(GW_TENANT, VM1).carry(&na));
    }
    lab.settle();
    assert_eq!(lab.sent(TENANT).len(), 64, "both packets to each");
    let moved = lab.moved();
    assert!(moved.iter().any(|(name, n)| name == "handed-off" && *n > 20), "{moved:?}");
    assert!(moved.contains(&("neighbors-resolved".to_owned(), 32)), "{moved:?}");
    assert!(!moved.iter().any(|(name, _)| name.starts_with("drop.")), "{moved:?}");
}

#[test]
fn a_session_made_by_one_worker_is_there_for_the_other() {
    let mut lab = Lab::resolved(2);
    let syn = ip6("2001:db8:64::101", "2001:db8:64:ff9b::198.51.100.10").tcp(&tcp(4000, 80).syn().seq(1));
    lab.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&syn));
    let out = lab.sent(UPLINK);
    let src = source4(&out[0].1);
    let back = ip4("198.51.100.10", src).tcp(&tcp(80, Lab::out_port(&out[0].1)).syn().ack(2).seq(9));
    lab.send(1, UPLINK, &eth(GW_UPLINK, ROUTER).carry(&back));
    let got = lab.sent(TENANT);
    assert_eq!((got.len(), got[0].0), (1, VM1));
    lab.assert_moved(&[
        ("nat64-mappings-created", 1),
        ("nat64-sessions-created", 1),
        ("nat64-v4-to-v6", 1),
        ("nat64-v6-to-v4", 1),
    ]);
}

#[test]
fn sessions_end_after_their_timeout_and_their_ports_come_back() {
    let mut lab = Lab::resolved(1);
    lab.pass(Duration::from_secs(320));
    lab.mark();
    for port in 6000..6100u16 {
        let p = ip6("2001:db8:64::101", "2001:db8:64:ff9b::198.51.100.10").udp(port, 53, b"x");
        lab.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&p));
    }
    assert_eq!(lab.shared.table.stats().sessions, 100);
    lab.pass(Duration::from_secs(295));
    assert_eq!(lab.shared.table.stats().sessions, 100, "not before their time");
    lab.pass(Duration::from_secs(15));
    assert_eq!((lab.shared.table.stats().sessions, lab.shared.table.stats().mappings), (0, 0));
    let moved = lab.moved();
    assert!(moved.contains(&("nat64-sessions-ended".to_owned(), 100)), "{moved:?}");
    assert!(moved.contains(&("nat64-mappings-ended".to_owned(), 100)), "{moved:?}");
}

#[test]
fn rfc8158_4_what_begins_and_ends_is_in_the_workers_log_and_a_reload_turns_that_on_and_off() {
    use causeway_nat64::LogEvent::{MappingCreated, MappingEnded, SessionCreated, SessionEnded};
    let on = "\n[nat64.log]\nmappings = true\nsessions = true\ntrace = true\n";
    let mut lab = Lab::with(1, &(lab_text() + on));
    lab.resolve_all();
    let taken = |lab: &Lab| {
        let log = &lab.shared.mailboxes[0].log;
        std::iter::from_fn(|| log.take()).map(|r| (r.event, r.src_port)).collect::<Vec<_>>()
    };
    lab.pass(Duration::from_secs(320));
    taken(&lab);
    let flow = |port| {
        let p = ip6("2001:db8:64::101", "2001:db8:64:ff9b::198.51.100.10").udp(port, 53, b"x");
        eth(GW_TENANT, VM1).carry(&p)
    };
    lab.send(0, TENANT, &flow(6000));
    assert_eq!(taken(&lab), [(MappingCreated, 6000), (SessionCreated, 6000)]);
    lab.pass(Duration::from_secs(310));
    assert_eq!(taken(&lab), [(SessionEnded, 6000), (MappingEnded, 6000)]);
    let config = Config::parse("lab.toml", &lab_text()).unwrap();
    let next = Arc::new(Plan::build(&config, &facts(), Some((&lab.plan, lab.clock.now()))).unwrap());
    lab.shared.mailboxes[0].plans.push(next).unwrap();
    lab.settle();
    lab.send(0, TENANT, &flow(6001));
    lab.pass(Duration::from_secs(310));
    assert_eq!((lab.shared.table.stats().sessions, taken(&lab)), (0, vec![]));
    assert_eq!(lab.shared.mailboxes[0].log.lost(), 0);
}

#[test]
fn a_new_plan_is_adopted_between_polls_and_sessions_that_it_allows_live_on() {
    let mut lab = Lab::resolved(2);
    let flow = ip6("2001:db8:64::101", "2001:db8:64:ff9b::198.51.100.10").udp(4000, 53, b"x");
    lab.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&flow));
    let before = lab.sent(UPLINK)[0].1.clone();
    let adopt = |lab: &mut Lab, text: &str| {
        let config = Config::parse("lab.toml", text).unwrap();
        let plan = Arc::new(Plan::build(&config, &facts(), Some((&lab.plan, lab.clock.now()))).unwrap());
        lab.plan = Arc::clone(&plan);
        for m in &lab.shared.mailboxes {
            m.plans.push(Arc::clone(&plan)).unwrap();
        }
        lab.workers.iter_mut().for_each(|w| {
            w.poll();
        });
        for m in &lab.shared.mailboxes {
            assert_eq!(m.generation.load(Ordering::Acquire), plan.generation);
            assert_eq!(m.retired.pop().map(|p| p.generation), Some(plan.generation - 1));
            let adopted = std::iter::from_fn(|| m.events.pop())
                .any(|e| matches!(e, Event::PlanAdopted { generation, .. } if generation == plan.generation));
            assert!(adopted);
        }
    };
    // A wider pool: the flow keeps its address and port.
    adopt(&mut lab, &lab_text().replace("203.0.113.0/28", "203.0.113.0/27"));
    lab.send(1, TENANT, &eth(GW_TENANT, VM1).carry(&flow));
    assert_eq!(lab.sent(UPLINK)[0].1[12..22], before[12..22]);
    // Another pool: the flow ends, and the next packet makes a new one there.
    adopt(&mut lab, &lab_text().replace("203.0.113.0/28", "203.0.113.64/28"));
    lab.pass(Duration::from_secs(10));
    lab.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&flow));
    let after = lab.sent(UPLINK);
    assert!((64..80).contains(&after[after.len() - 1].1[15]), "{after:?}");
}

#[test]
fn rfc6146_3_5_2_2_a_syn_from_outside_waits_whichever_worker_meets_the_other_half() {
    // One port for all, so that the server gets the one that the stranger chose.
    let text = lab_text().replace("203.0.113.0/28", "203.0.113.7/32");
    let text = text.replace("[nat64]\n", "[nat64]\nports = \"2000-2000\"\n");
    let mut lab = Lab::with(2, &text);
    let syn = |port| ip4("198.51.100.10", "203.0.113.7").tcp(&tcp(port, 2000).syn());
    let outside = eth(GW_UPLINK, ROUTER);
    lab.send(0, UPLINK, &outside.carry(&syn(80)));
    lab.send(0, UPLINK, &outside.carry(&syn(81)));
    lab.pass(Duration::from_secs(5));
    assert_eq!(lab.shared.table.stats().sessions, 0);
    let inside = ip6("2001:db8:64::101", "2001:db8:64:ff9b::198.51.100.10").tcp(&tcp(5000, 80).syn());
    lab.send(1, TENANT, &eth(GW_TENANT, VM1).carry(&inside));
    lab.send(
        0,
        UPLINK,
        &eth(GW_UPLINK, ROUTER).carry(&arp_reply(ROUTER, "192.0.2.1", GW_UPLINK, "192.0.2.2")),
    );
    lab.pass(Duration::from_secs(2));
    let to_peer: Vec<_> = lab.sent(UPLINK).into_iter().filter(|(mac, _)| *mac == ROUTER).collect();
    let errors: Vec<_> = to_peer.iter().filter(|(_, p)| p[9] == 1).collect();
    assert_eq!(errors.len(), 1, "only the one that nobody met is told");
    assert_eq!((&errors[0].1[20..22], &errors[0].1[28..]), (&[3, 3][..], &syn(81)[..]));
    let moved = lab.moved();
    for name in ["nat64-simultaneous-opens", "drop.nat64-syn-met", "drop.nat64-syn-timeout"] {
        assert!(moved.contains(&(name.to_owned(), 1)), "{name}: {moved:?}");
    }
}

#[test]
fn rfc6146_3_5_2_2_an_idle_connection_is_probed_before_it_ends() {
    let mut lab = Lab::resolved(1);
    let host = ip6("2001:db8:64::101", "2001:db8:64:ff9b::198.51.100.10");
    lab.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&host.tcp(&tcp(5000, 80).syn())));
    let syn = lab.sent(UPLINK).remove(0).1;
    let answer = ip4("198.51.100.10", source4(&syn)).tcp(&tcp(80, Lab::out_port(&syn)).syn().ack(1));
    lab.send(0, UPLINK, &eth(GW_UPLINK, ROUTER).carry(&answer));
    lab.sent(TENANT);
    lab.clock.0.set(lab.clock.0.get() + 7_441_000_000);
    lab.pass(Duration::from_secs(5));
    // The neighbour entry is old: it is asked for again.
    let na = ip6("2001:db8:64::101", "2001:db8:64::1").na("2001:db8:64::101", false, true, true, Some(VM1));
    lab.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&na));
    lab.pass(Duration::from_secs(1));
    let probes: Vec<_> = lab.sent(TENANT).into_iter().filter(|(_, p)| p[0] >> 4 == 6 && p[6] == 6).collect();
    let want = ip6("2001:db8:64:ff9b::198.51.100.10", "2001:db8:64::101");
    let want = want.hop_limit(64).tcp(&tcp(80, 5000).ack(0).window(0));
    assert_eq!(probes, [(VM1, want)]);
    // The host answers: the server hears of it, and the session goes on.
    lab.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&host.tcp(&tcp(5000, 80).seq(1).ack(1))));
    lab.pass(Duration::from_secs(300));
    assert_eq!(lab.shared.table.stats().sessions, 1);
}

#[test]
fn a_stopping_worker_gives_back_what_it_holds() {
    let mut lab = Lab::new(1);
    let p = ip6("2001:db8:64::101", "2001:db8:6::10").udp(1, 2, b"x");
    lab.send(0, TENANT, &eth(GW_TENANT, VM1).carry(&p));
    let packet = Packet { frame: HeapFrame::new(b"x"), meta: causeway_core::Meta::originated() };
    lab.shared.mailboxes[0].handoff.push(Handoff::Send(packet)).unwrap();
    lab.mark();
    lab.workers[0].drain();
    lab.assert_moved(&[("drop.shutdown", 2)]);
    assert!(lab.shared.mailboxes[0].handoff.is_empty());
}

#[test]
fn the_gateway_answers_for_its_own_addresses() {
    let mut lab = Lab::resolved(1);
    lab.send(
        0,
        UPLINK,
        &pad60(eth(MacAddr::BROADCAST, ROUTER).carry(&arp_request(ROUTER, "192.0.2.1", "192.0.2.2"))),
    );
    lab.send(
        0,
        UPLINK,
        &eth(GW_UPLINK, ROUTER).carry(&ip4("192.0.2.1", "192.0.2.2").echo_request(1, 1, b"ping")),
    );
    lab.send(
        0,
        TENANT,
        &eth(GW_TENANT, VM1).carry(&ip6("2001:db8:64::101", "fe80::1").echo_request(1, 1, b"ping")),
    );
    assert_eq!(lab.sent(UPLINK).len(), 2);
    assert_eq!(lab.sent(TENANT).len(), 1);
    lab.assert_moved(&[("arp-answered", 1), ("echo-answered", 2)]);
}

/// Frames that begin as good ones of either side.
fn hostile() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let inside = mutate::samples(
        "2001:db8:64::101",
        "2001:db8:64:ff9b::198.51.100.10",
        "198.51.100.10",
        "203.0.113.1",
    );
    let native = mutate::samples("2001:db8:64::101", "2001:db8:6::10", "192.0.2.1", "192.0.2.2");
    let own = mutate::samples("2001:db8:64::101", "2001:db8:64::1", "198.51.100.10", "192.0.2.2");
    let tenant: Vec<_> =
        [&inside, &native, &own].into_iter().flatten().map(|p| eth(GW_TENANT, VM1).carry(p)).collect();
    let back = mutate::samples("2001:db8:6::10", "2001:db8:64::101", "198.51.100.10", "203.0.113.1");
    let uplink: Vec<_> = [&inside, &native, &own, &back]
        .into_iter()
        .flatten()
        .map(|p| eth(GW_UPLINK, ROUTER).carry(p))
        .collect();
    prop_oneof![
        (Just(TENANT), mutate::hostile(tenant, 14)),
        (Just(UPLINK), mutate::hostile(uplink, 14)),
        (0usize..2, proptest::collection::vec(any::<u8>(), 0..300)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever comes in: no panic, at most one reason each, and whatever leaves has right lengths and
    /// its own checksum right (a transport checksum that came in wrong leaves wrong).
    #[test]
    fn hostile_frames_have_one_reason_each_and_never_break_anything(frames in proptest::collection::vec(hostile(), 1..40)) {
        let mut lab = Lab::resolved(2);
        let mut dropped = 0;
        for (n, (port, frame)) in frames.iter().enumerate() {
            lab.mark();
            lab.give(n % 2, *port, frame);
            lab.settle();
            let moved = lab.moved();
            let drops: u64 = moved.iter().filter(|(name, _)| name.starts_with("drop.")).map(|(_, n)| n).sum();
            // A fragment that spoils its packet takes those with it that waited: each still counts once.
            dropped += drops;
            prop_assert!(dropped <= n as u64 + 1, "{moved:?} for {frame:02x?}");
            let out: Vec<Vec<u8>> = lab.wires.borrow_mut().tx.iter_mut().flat_map(std::mem::take).collect();
            let waits = lab.workers.iter().any(|w| {
                w.stages.neighbors.waiting() > 0 || w.stages.nat64.as_ref().is_some_and(|n| n.held() > 0)
            });
            // Neighbour discovery and ARP that say nothing new are consumed without a count.
            let quiet = matches!(frame.get(12..14), Some([0x86, 0xdd] | [8, 6]));
            let traces = drops + out.len() as u64 + moved.len() as u64;
            prop_assert!(traces > 0 || waits || quiet, "vanished without a trace: {frame:02x?}");
        }
        // The honest still get through.
        lab.pass(Duration::from_secs(2));
        lab.wires.borrow_mut().tx.iter_mut().for_each(Vec::clear);
        let p = ip6("2001:db8:64::102", "2001:db8:64:ff9b::198.51.100.10").udp(40_000, 53, b"honest");
        lab.send(0, TENANT, &eth(GW_TENANT, VM2).carry(&p));
        let out = lab.sent(UPLINK);
        prop_assert!(out.iter().any(|(_, p)| p.ends_with(b"honest")), "{out:?}");
    }
}
