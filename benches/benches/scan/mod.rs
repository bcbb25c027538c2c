//! What a scan of a tenant's /64 costs forwarding.
//!
//! A million packets a second, each to an address of the network that nobody has, come in by the uplink beside
//! packets to hosts that are there: a burst of the former whenever the worker's time says so, and bursts of the
//! latter without a pause. Both go the whole way from classification to the link-layer address
//! of the next hop. What counts is how many packets to hosts are left in a second, of those
//! that there are without the scan: at least nine of ten. Windows alone and with the scan take turns.
//!
//! Not in it: receiving and sending the frames, which a device does.

use causeway_benches::clocks::{Quiet, Tsc, met, min_median};
use causeway_benches::{Rng, WINDOW};
use causeway_core::classify::Classifier;
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{
    BURST, Class, Counter, DropReason, Duration, Frame, HeapFrame, HeapSource, Interfaces, Meta, Packet,
    Prefix6, Validation, Verdict,
};
use causeway_flowtable::{Bindings, FlowTable, Worker};
use causeway_forward::{Forward, Isolation, SourceGuard};
use causeway_neighbor::{Config, Neighbors, Resolution, Resolved};
use causeway_testkit::{Rig, ip6, lab_interfaces, mac};
use causeway_wire::MacAddr;
use causeway_wire::ethernet::{self, EthernetRepr};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Hosts that are there and resolved.
const HOSTS: u32 = 1_000;
/// Addresses that are scanned in a second.
const RATE: f64 = 1_000_000.0;
/// What forwarding may lose.
const GOAL: f64 = 0.10;
const NETWORK: u128 = 0x2001_0db8_0064 << 80;
const FIRST_HOST: u128 = NETWORK | 0x1_0000;
/// The uplink's port, and our link-layer address there.
const PORT: u16 = 1;
const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0x64, 2]);

const fn name(validation: Validation) -> &'static str {
    match validation {
        Validation::Off => "off",
        Validation::Prefix => "prefix",
        Validation::Leased => "leased",
    }
}

struct Gate {
    rig: Rig,
    classifier: Classifier,
    guard: SourceGuard,
    forward: Forward,
    neighbors: Neighbors<HeapFrame>,
    errors: IcmpErrors,
    flow: Worker,
    tsc: Tsc,
    rng: Rng,
    /// The packet that all are made of, with its Ethernet header.
    sample: Vec<u8>,
    scanned: u128,
    /// When the next burst of the scan is due, in microseconds.
    due: f64,
    /// Packets that found where to go.
    sent: Vec<Packet<HeapFrame>>,
}

impl Gate {
    fn new(tsc: &Tsc, validation: Validation) -> Self {
        let mut rig = Rig::lab();
        let mut list = lab_interfaces();
        list[0].validation = validation;
        rig.interfaces = Interfaces::new(list);
        let config = Config::default();
        let shared = Arc::new(Resolved::new(&config, 1));
        let mut neighbors = Neighbors::new(&config, shared, 0, &rig.interfaces).expect("settings");
        // Hosts have leases, and others too.
        let bindings = Bindings::new(1_000_000, [1, 2]).expect("memory");
        for n in 0..1_000_000 {
            let single = Prefix6::new(Ipv6Addr::from_bits(FIRST_HOST + n), 128).expect("an address");
            bindings.set(0, single, mac(9)).expect("room");
        }
        let bindings = Arc::new(bindings);
        neighbors.set_bindings(Some(Arc::clone(&bindings)));
        let table = FlowTable::new(&causeway_flowtable::Config {
            sessions: 64,
            mappings: 64,
            spliced: 0,
            workers: 1,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        });
        let forward =
            causeway_forward::Config::new(&rig.interfaces, &Isolation::On { allow: Vec::new() }, 1000, 100);
        let header = EthernetRepr { dst: OURS, src: mac(1), vlan: None, ethertype: ethernet::ETHERTYPE_IPV6 };
        let mut sample = vec![0; ethernet::HEADER];
        header.emit(&mut sample).expect("room for a header");
        sample.extend(ip6("2001:db8:6::10", "2001:db8:64::1:0").udp(7, 7, &[0x5a; 16]));
        let mut gate = Self {
            classifier: Classifier::new(&rig.interfaces, &[vec![], vec![]], vec![], vec![]),
            guard: SourceGuard::new(&rig.interfaces, bindings),
            forward: Forward::new(Arc::new(forward.expect("settings"))),
            neighbors,
            errors: IcmpErrors::new(1000, 100),
            flow: table.expect("memory").worker(0).expect("the worker is free"),
            tsc: tsc.clone(),
            rng: Rng(45),
            sample,
            scanned: 0,
            due: 0.0,
            sent: Vec::with_capacity(BURST),
            rig,
        };
        gate.tick();
        gate.due = gate.now();
        for n in 0..u128::from(HOSTS) {
            let a = Ipv6Addr::from_bits(FIRST_HOST + n);
            let told = ip6(a, "2001:db8:64::1").na(a, false, false, true, Some(mac(9)));
            let mut packet = gate.rig.packet("tenant0", &told);
            packet.meta.src_mac = mac(9);
            let ctx = &mut gate.rig.ctx();
            let _ = gate.neighbors.local(ctx, &mut gate.errors, &mut packet);
            // Confirmed, as if asked.
            let told = ip6(a, "2001:db8:64::1").na(a, false, true, true, Some(mac(9)));
            let mut packet = gate.rig.packet("tenant0", &told);
            packet.meta.src_mac = mac(9);
            let ctx = &mut gate.rig.ctx();
            assert_eq!(gate.neighbors.local(ctx, &mut gate.errors, &mut packet), Verdict::Consume);
        }
        gate
    }

    fn now(&self) -> f64 {
        self.rig.now.as_micros() as f64
    }

    fn tick(&mut self) {
        self.neighbors.tick(&mut self.rig.ctx(), &mut self.errors, 16);
        self.rig.outbox.drain().for_each(drop);
        self.rig.source = HeapSource::new(1000);
    }

    /// Makes a burst anew: frames that are gone, and what the others hold.
    fn fill(&mut self, packets: &mut Vec<Packet<HeapFrame>>, mut to: impl FnMut(&mut Self) -> u128) {
        while packets.len() < BURST {
            packets.push(Packet { frame: HeapFrame::new(&self.sample), meta: Meta::originated() });
        }
        for p in packets {
            let dst = to(self);
            let short = self.sample.len() - p.frame.octets();
            p.frame.push_front(short).expect("the room that was there");
            p.bytes_mut().copy_from_slice(&self.sample);
            p.bytes_mut()[ethernet::HEADER + 24..ethernet::HEADER + 40].copy_from_slice(&dst.to_be_bytes());
            p.meta = Meta::originated();
        }
    }

    /// A burst on its whole way; gives its clocks, and how many packets found where to go.
    fn run(&mut self, packets: &mut Vec<Packet<HeapFrame>>) -> (u64, usize) {
        let mut verdicts = [Verdict::Consume; BURST];
        let mut classes = [Ok(Class::Local); BURST];
        let before = self.tsc.raw();
        let guard = self.flow.enter();
        for (p, class) in packets.iter_mut().zip(&mut classes) {
            *class = self.classifier.classify_in_place(PORT, p);
        }
        self.guard.check(packets, &mut classes);
        self.forward.process(&mut self.rig.ctx(), &guard, packets, &mut verdicts);
        let mut resolved = [None; BURST];
        self.neighbors.resolve_all(&self.rig.ctx(), &verdicts, &mut resolved);
        for ((mut p, verdict), resolution) in packets.drain(..).zip(&verdicts).zip(resolved) {
            let (Verdict::Forward { egress }, Some(resolution)) = (verdict, resolution) else { continue };
            match resolution {
                Resolution::Ready(mac) => {
                    std::hint::black_box(mac);
                    // To be used again.
                    self.sent.push(p);
                }
                Resolution::Hold => {
                    p.meta.egress = *egress;
                    self.neighbors.hold(&mut self.rig.ctx(), &mut self.errors, p);
                }
                Resolution::Drop(reason) => self.rig.counters.drop(reason),
                Resolution::Owner(_) => unreachable!("there is one worker"),
            }
        }
        drop(guard);
        self.tick();
        let clocks = self.tsc.raw() - before;
        assert!(classes.iter().all(|c| *c == Ok(Class::Forward6)));
        self.rig.advance(Duration::from_nanos((clocks as f64 / self.tsc.ghz()) as u64));
        std::mem::swap(packets, &mut self.sent);
        (clocks, packets.len())
    }

    fn towards_hosts(&mut self, packets: &mut Vec<Packet<HeapFrame>>) -> u64 {
        self.fill(packets, |g| FIRST_HOST + g.rng.below(HOSTS as usize) as u128);
        let (clocks, ready) = self.run(packets);
        assert_eq!(ready, BURST, "hosts stay known");
        clocks
    }

    fn scan(&mut self, packets: &mut Vec<Packet<HeapFrame>>) -> u64 {
        self.fill(packets, |g| {
            g.scanned += 1;
            NETWORK | 0xdead << 48 | g.scanned
        });
        let (clocks, ready) = self.run(packets);
        assert_eq!(ready, 0, "nobody is there");
        clocks
    }
}

/// Measures on a network with this validation of sources.
pub(crate) fn measure(tsc: &Tsc, validation: Validation, windows: usize) {
    let mut gate = Gate::new(tsc, validation);
    let (mut hosts, mut strangers) = (Vec::new(), Vec::new());
    // Until the scan has taken all that it can get: a few seconds of it.
    for _ in 0..if windows > 3 { 20_000 } else { 1_000 } {
        gate.scan(&mut strangers);
        gate.rig.advance(Duration::from_micros(200));
    }
    let mut quiet = Quiet::new(tsc.clone());
    let (mut alone, mut beside, mut each) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..windows {
        let (clocks, good) =
            quiet.window(|| (0..WINDOW).map(|_| gate.towards_hosts(&mut hosts)).sum::<u64>());
        if good {
            alone.push(clocks as f64 / (WINDOW * BURST) as f64);
        }
        gate.due = gate.now();
        let ((ours, theirs, scans), good) = quiet.window(|| {
            let (mut ours, mut theirs, mut scans) = (0, 0, 0usize);
            for _ in 0..WINDOW {
                // What comes while the processor is taken away is lost at the device.
                gate.due = gate.due.max(gate.now() - 100.0);
                while gate.due <= gate.now() {
                    theirs += gate.scan(&mut strangers);
                    scans += 1;
                    gate.due += BURST as f64 / RATE * 1e6;
                }
                ours += gate.towards_hosts(&mut hosts);
            }
            (ours, theirs, scans)
        });
        if good && scans > 0 {
            beside.push((ours + theirs) as f64 / (WINDOW * BURST) as f64);
            each.push(theirs as f64 / (scans * BURST) as f64);
        }
    }
    let c = &gate.rig.counters;
    let ((alone_min, alone), (beside_min, beside), (each_min, each)) =
        (min_median(alone), min_median(beside), min_median(each));
    let lost = |alone: f64, beside: f64| 1.0 - alone / beside;
    println!(
        "RESULT overload scan validation={} rate={RATE:.0} hosts={HOSTS} alone_min={alone_min:.0} \
         alone_median={alone:.0} beside_min={beside_min:.0} beside_median={beside:.0} lost_of_least={:.3} lost={:.3} goal={GOAL:.2} \
         goal_by_least={} goal_by_median={} scanned_min={each_min:.0} scanned_median={each:.0} solicited={} table_full={} \
         not_bound={} windows={} thrown_away={}",
        name(validation),
        lost(alone_min, beside_min),
        lost(alone, beside),
        met(lost(alone_min, beside_min) <= GOAL),
        met(lost(alone, beside) <= GOAL),
        c.get(Counter::NsSent),
        c.dropped(DropReason::NextHopTableFull),
        c.dropped(DropReason::NextHopNotBound),
        quiet.kept,
        quiet.thrown,
    );
    let solicited = c.get(Counter::NsSent);
    assert!(validation != Validation::Leased || solicited == 0, "nobody was looked for");
}
