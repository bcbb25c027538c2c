use super::*;
use crate::{Errors, Neighbor};
use causeway_core::{HeapFrame, HeapSource, Meta, Verdict};
use causeway_testkit::{Leaving, Rig, arp_reply, ip4, ip6, lab_interfaces, mac};
use std::collections::HashMap;
use std::net::Ipv6Addr;

/// Keeps what would be sent back.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) address: Vec<Vec<u8>>,
    pub(crate) port: Vec<Vec<u8>>,
}

impl Errors<HeapSource> for Recorder {
    fn address_unreachable(&mut self, _: &mut Ctx<'_, HeapSource>, packet: &Packet<HeapFrame>) {
        self.address.push(packet.bytes().to_vec());
    }

    fn port_unreachable(&mut self, _: &mut Ctx<'_, HeapSource>, packet: &Packet<HeapFrame>) {
        self.port.push(packet.bytes().to_vec());
    }
}

/// One worker in the lab.
pub(crate) struct Gate {
    pub(crate) rig: Rig,
    pub(crate) n: Neighbors<HeapFrame>,
    pub(crate) errors: Recorder,
}

pub(crate) const VM1: &str = "2001:db8:64::101";
pub(crate) const TENANT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0x64, 1]);
pub(crate) const UPLINK_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0x64, 2]);

impl Gate {
    pub(crate) fn new(config: Config) -> Self {
        let shared = Arc::new(Resolved::new(&config, 1));
        Self::member(config, shared, 0)
    }

    pub(crate) fn member(config: Config, shared: Arc<Resolved>, worker: u16) -> Self {
        let mut rig = Rig::lab();
        rig.source = HeapSource::new(1_000_000);
        rig.worker = (worker, shared.workers());
        let n = Neighbors::new(&config, shared, worker, &rig.interfaces).unwrap();
        let mut gate = Self { rig, n, errors: Recorder::default() };
        // Brings the timers to the present, as a worker's first loop does.
        gate.tick();
        gate
    }

    /// Goes on with these interfaces.
    pub(crate) fn set_interfaces(&mut self, list: Vec<Interface>) {
        self.rig.interfaces = Interfaces::new(list);
        self.n.set_interfaces(&self.rig.interfaces, &self.rig.counters);
    }

    /// As `local`, in a frame from this station.
    pub(crate) fn local_from(&mut self, from: MacAddr, interface: &str, octets: &[u8]) -> (Verdict, Vec<u8>) {
        let mut packet = self.rig.packet(interface, octets);
        packet.meta.src_mac = from;
        let verdict = self.n.local(&mut self.rig.ctx(), &mut self.errors, &mut packet);
        (verdict, packet.bytes().to_vec())
    }

    pub(crate) fn resolve(&mut self, interface: &str, via: &str) -> Resolution {
        let egress = self.rig.egress(interface, via);
        self.n.resolve(&self.rig.ctx(), &egress)
    }

    /// As the worker does: a packet that leaves through this interface to this next hop.
    pub(crate) fn send(&mut self, interface: &str, via: &str, octets: &[u8]) -> Resolution {
        let egress = self.rig.egress(interface, via);
        let resolution = self.n.resolve(&self.rig.ctx(), &egress);
        match resolution {
            Resolution::Hold => self.hold(interface, via, octets),
            Resolution::Drop(reason) => self.rig.counters.drop(reason),
            Resolution::Ready(_) | Resolution::Owner(_) => {}
        }
        resolution
    }

    /// A packet that is to wait, whatever was found for it.
    pub(crate) fn hold(&mut self, interface: &str, via: &str, octets: &[u8]) {
        let mut packet = Packet { frame: HeapFrame::new(octets), meta: Meta::originated() };
        packet.meta.egress = self.rig.egress(interface, via);
        self.n.hold(&mut self.rig.ctx(), &mut self.errors, packet);
    }

    pub(crate) fn local(&mut self, interface: &str, octets: &[u8]) -> (Verdict, Vec<u8>) {
        let mut packet = self.rig.packet(interface, octets);
        let verdict = self.n.local(&mut self.rig.ctx(), &mut self.errors, &mut packet);
        (verdict, packet.bytes().to_vec())
    }

    pub(crate) fn tick(&mut self) {
        self.n.tick(&mut self.rig.ctx(), &mut self.errors, 1_000_000);
    }

    /// Lets time pass in small steps, with a tick in each; gives what was sent.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Leaving> {
        let mut sent = Vec::new();
        let steps = time.as_millis() / 10;
        for _ in 0..steps {
            self.rig.advance(Duration::from_millis(10));
            self.tick();
            sent.extend(self.rig.sent());
        }
        sent
    }

    /// Lets time pass until something is sent; gives that.
    fn pass_until_sent(&mut self, most: Duration) -> Vec<Leaving> {
        let end = self.rig.now + most;
        while self.rig.now < end {
            let sent = self.pass(Duration::from_millis(10));
            if !sent.is_empty() {
                return sent;
            }
        }
        Vec::new()
    }

    /// A solicited answer from a tenant.
    pub(crate) fn answer(&mut self, who: &str, from: MacAddr) -> Verdict {
        let link = "tenant0";
        self.local(link, &ip6(who, "2001:db8:64::1").na(who, false, true, true, Some(from))).0
    }

    pub(crate) fn listed(&self) -> Vec<Neighbor> {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.n.shared.list(at, 100, self.rig.now, |n| all.push(n));
        }
        all
    }

    pub(crate) fn known(&mut self, who: &str, from: MacAddr) {
        assert_eq!(self.send("tenant0", who, b"x"), Resolution::Hold);
        assert_eq!(self.answer(who, from), Verdict::Consume);
        self.rig.sent();
    }
}

fn data(n: u8) -> Vec<u8> {
    ip6("2001:db8:6::10", VM1).udp(7, 7, &[n])
}

fn to(gate: &Gate, interface: &str, to: MacAddr) -> Egress {
    Egress::new(gate.rig.interface(interface), Via::Mac(to))
}

fn group(target: &str) -> (Ipv6Addr, MacAddr) {
    let g = solicited_node(target.parse().unwrap());
    (g, MacAddr::from_ipv6_multicast(g))
}

#[test]
fn rfc4861_7_2_2_looked_for_at_its_group_and_waiting_packets_follow_the_answer_in_order() {
    let mut g = Gate::new(Config::default());
    for n in 0..3 {
        assert_eq!(g.send("tenant0", VM1, &data(n)), Resolution::Hold);
    }
    let (dst, to_group) = group(VM1);
    let want = ip6("2001:db8:64::1", dst).ns(VM1, Some(TENANT_MAC));
    assert_eq!(g.rig.sent(), [Leaving { egress: to(&g, "tenant0", to_group), octets: want }]);
    g.rig.assert_counted(&[("ns-sent", 1), ("next-hop-held", 3)]);

    assert_eq!(g.answer(VM1, mac(9)), Verdict::Consume);
    let want = [0, 1, 2].map(|n| Leaving { egress: to(&g, "tenant0", mac(9)), octets: data(n) });
    assert_eq!(g.rig.sent(), want);
    g.rig.assert_counted(&[("neighbors-resolved", 1)]);
    let address = VM1.parse().unwrap();
    assert_eq!(g.rig.take_events(), [Event::NeighborResolved { interface: IfId(0), address, mac: mac(9) }]);
    assert_eq!(g.resolve("tenant0", VM1), Resolution::Ready(mac(9)));
    let [one] = g.listed()[..] else { panic!("{:?}", g.listed()) };
    let state = (one.address, one.mac, one.state, one.age_secs);
    assert_eq!(state, (address, mac(9), Reachability::Reachable, 0));
    assert_eq!(one.link.interface(&g.rig.interfaces), Some(IfId(0)));
}

#[test]
fn rfc4861_7_2_2_link_local_neighbours_are_asked_from_the_link_local_address() {
    let mut g = Gate::new(Config::default());
    let _ = g.send("tenant0", "fe80::77", &data(0));
    let (dst, _) = group("fe80::77");
    assert_eq!(g.rig.sent()[0].octets, ip6("fe80::1", dst).ns("fe80::77", Some(TENANT_MAC)));
}

#[test]
fn rfc4861_7_2_2_no_answer_to_three_and_the_sender_is_told() {
    let mut g = Gate::new(Config::default());
    let _ = g.send("tenant0", VM1, &data(0));
    let _ = g.send("tenant0", VM1, &data(1));
    assert_eq!(g.rig.sent().len(), 1);
    assert_eq!(g.pass(Duration::from_millis(990)).len(), 0);
    assert_eq!(g.pass(Duration::from_millis(40)).len(), 1);
    assert_eq!(g.pass(Duration::from_millis(1020)).len(), 1);
    assert!(g.errors.address.is_empty());
    assert_eq!(g.pass(Duration::from_millis(1020)).len(), 0);
    assert_eq!(g.errors.address, [data(0), data(1)]);
    g.rig.assert_counted(&[
        ("ns-sent", 3),
        ("next-hop-held", 2),
        ("neighbors-failed", 1),
        ("drop.next-hop-unreachable", 2),
    ]);
    let address = VM1.parse().unwrap();
    assert_eq!(g.rig.take_events(), [Event::NeighborUnreachable { interface: IfId(0), address }]);
}

#[test]
fn rfc6583_6_2_a_dead_address_is_not_asked_for_again_at_once() {
    let mut g = Gate::new(Config::default());
    let _ = g.send("tenant0", VM1, &data(0));
    g.pass(Duration::from_millis(3100));
    g.rig.assert_counted(&[
        ("ns-sent", 3),
        ("next-hop-held", 1),
        ("neighbors-failed", 1),
        ("drop.next-hop-unreachable", 1),
    ]);
    for n in 0..100 {
        assert_eq!(g.send("tenant0", VM1, &data(n)), Resolution::Hold);
    }
    assert!(g.rig.sent().is_empty());
    assert_eq!(g.errors.address.len(), 101);
    g.rig.assert_counted(&[("drop.next-hop-unreachable", 100)]);
    g.pass(Duration::from_secs(3));
    let _ = g.send("tenant0", VM1, &data(0));
    assert_eq!(g.rig.sent().len(), 1);
    // A late answer is taken all the same.
    g.pass(Duration::from_millis(3100));
    assert_eq!(g.answer(VM1, mac(9)), Verdict::Consume);
    assert_eq!(g.resolve("tenant0", VM1), Resolution::Ready(mac(9)));
}

#[test]
fn rfc4861_7_2_2_a_full_queue_loses_its_oldest_packet() {
    let mut g = Gate::new(Config::default());
    for n in 0..10 {
        let _ = g.send("tenant0", VM1, &data(n));
    }
    g.rig.sent();
    g.rig.assert_counted(&[("ns-sent", 1), ("next-hop-held", 10), ("drop.next-hop-queue-full", 2)]);
    let _ = g.answer(VM1, mac(9));
    let got: Vec<_> = g.rig.sent().into_iter().map(|l| l.octets).collect();
    assert_eq!(got, (2..10).map(data).collect::<Vec<_>>());
}

#[test]
fn when_half_of_the_arena_is_taken_every_next_hop_keeps_one_packet() {
    let mut g = Gate::new(Config { queue_frames: 16, ..Config::default() });
    let vm = |n: u16| format!("2001:db8:64::{n:x}");
    for n in 1..3 {
        for _ in 0..8 {
            let _ = g.send("tenant0", &vm(0x200 + n), &data(0));
        }
    }
    // The second was cut to one when the half was reached; dead ones never lock out the next.
    for n in 0..7 {
        let _ = g.send("tenant0", &vm(0x300 + n), &data(9));
        let _ = g.send("tenant0", &vm(0x300 + n), &data(9));
    }
    assert_eq!(g.n.waiting(), 16);
    let last = vm(0x306);
    g.rig.sent();
    let _ = g.answer(&last, mac(9));
    assert_eq!(g.rig.sent().len(), 1);
}

#[test]
fn rfc826_an_ipv4_next_hop_is_asked_for_by_broadcast_and_polled_by_unicast() {
    let mut g = Gate::new(Config::default());
    let router = "192.0.2.1";
    let packet = ip4("203.0.113.1", "198.51.100.10").udp(1, 2, b"x");
    assert_eq!(g.send("uplink0", router, &packet), Resolution::Hold);
    let request = causeway_testkit::arp_request(UPLINK_MAC, "192.0.2.2", router);
    let sent = g.rig.sent();
    assert_eq!(sent, [Leaving { egress: to(&g, "uplink0", MacAddr::BROADCAST), octets: request }]);
    let reply = arp_reply(mac(1), router, UPLINK_MAC, "192.0.2.2");
    assert_eq!(g.local("uplink0", &reply).0, Verdict::Consume);
    assert_eq!(g.rig.sent(), [Leaving { egress: to(&g, "uplink0", mac(1)), octets: packet }]);
    g.rig.assert_counted(&[("arp-sent", 1), ("next-hop-held", 1), ("neighbors-resolved", 1)]);

    // RFC 1122 2.3.2.1 (2): aged, in use: polled at its own address.
    g.pass(Duration::from_secs(46));
    assert_eq!(g.resolve("uplink0", router), Resolution::Ready(mac(1)));
    let polls = g.pass_until_sent(Duration::from_secs(8));
    let poll = causeway_testkit::arp(1, UPLINK_MAC, "192.0.2.2", mac(1), router);
    assert_eq!(polls[0], Leaving { egress: to(&g, "uplink0", mac(1)), octets: poll });
    assert_eq!(g.local("uplink0", &reply).0, Verdict::Consume);
    assert_eq!(g.listed()[0].state, Reachability::Reachable);
}

#[test]
fn rfc4861_7_3_a_neighbour_in_use_is_refreshed_without_losing_a_packet() {
    let mut g = Gate::new(Config::default());
    g.known(VM1, mac(9));
    let probe = ip6("2001:db8:64::1", VM1).ns(VM1, Some(TENANT_MAC));
    let mut probes = 0;
    let mut seen: HashMap<&str, u32> = HashMap::new();
    for _ in 0..6000 {
        assert_eq!(g.resolve("tenant0", VM1), Resolution::Ready(mac(9)));
        *seen.entry(g.listed()[0].state.name()).or_default() += 1;
        for l in g.pass(Duration::from_millis(100)) {
            assert_eq!((l.egress, l.octets), (to(&g, "tenant0", mac(9)), probe.clone()));
            probes += 1;
            let _ = g.answer(VM1, mac(9));
        }
    }
    // A round is 15 to 45 s reachable, at most 2 s stale, 5 s delay, then one probe.
    assert!((600 / 53..=600 / 20).contains(&probes), "{probes}");
    assert!(seen["reachable"] > 3000 && seen["delay"] > 400 && seen["stale"] > 0, "{seen:?}");
    // Confirmed at each probe, so its age never grew beyond a round.
    assert!(g.listed()[0].age_secs <= 56);
}

#[test]
fn rfc4861_7_3_3_a_neighbour_that_stops_answering_is_probed_three_times_and_forgotten() {
    let mut g = Gate::new(Config::default());
    g.known(VM1, mac(9));
    g.pass(Duration::from_secs(46));
    assert_eq!(g.listed()[0].state, Reachability::Stale);
    g.rig.take_events();
    g.rig.assert_counted(&[("ns-sent", 1), ("next-hop-held", 1), ("neighbors-resolved", 1)]);
    assert_eq!(g.resolve("tenant0", VM1), Resolution::Ready(mac(9)));
    let probes = g.pass(Duration::from_secs(12));
    assert_eq!(probes.len(), 3);
    assert!(probes.iter().all(|p| p.egress == to(&g, "tenant0", mac(9))));
    let address = VM1.parse().unwrap();
    assert_eq!(g.rig.take_events(), [Event::NeighborUnreachable { interface: IfId(0), address }]);
    g.rig.assert_counted(&[("ns-sent", 3), ("neighbors-failed", 1)]);
    assert!(g.listed().is_empty());
    // It may have moved: the next packet asks everybody at once.
    assert_eq!(g.send("tenant0", VM1, &data(0)), Resolution::Hold);
    assert_eq!(g.rig.sent()[0].egress, to(&g, "tenant0", group(VM1).1));
}

#[test]
fn a_neighbour_that_nobody_uses_is_left_alone_and_forgotten_after_the_idle_time() {
    let mut g = Gate::new(Config { idle_time: Duration::from_secs(300), ..Config::default() });
    g.known(VM1, mac(9));
    assert!(g.pass(Duration::from_secs(300)).is_empty());
    assert_eq!(g.listed()[0].state, Reachability::Stale);
    assert!(g.pass(Duration::from_secs(50)).is_empty());
    assert!(g.listed().is_empty());
    assert!(g.n.table.live().next().is_none());
}

#[test]
fn groups_and_given_addresses_need_no_neighbour() {
    let mut g = Gate::new(Config::default());
    let m = |o| Resolution::Ready(MacAddr(o));
    assert_eq!(g.resolve("tenant0", "ff02::1"), m([0x33, 0x33, 0, 0, 0, 1]));
    assert_eq!(g.resolve("uplink0", "239.129.2.3"), m([1, 0, 0x5e, 1, 2, 3]));
    assert_eq!(g.resolve("uplink0", "255.255.255.255"), m([0xff; 6]));
    let given = Egress::new(IfId::NONE, Via::Mac(mac(5)));
    assert_eq!(g.n.resolve(&g.rig.ctx(), &given), Resolution::Ready(mac(5)));
    let unreachable = Resolution::Drop(DropReason::NextHopUnreachable);
    let gone = Egress::new(IfId(77), Via::Ip6(VM1.parse().unwrap()));
    assert_eq!(g.n.resolve(&g.rig.ctx(), &gone), unreachable);
    for nobody in ["::", "::1", "0.0.0.0", "127.0.0.1"] {
        assert_eq!(g.resolve("uplink0", nobody), unreachable);
    }
}

#[test]
fn a_next_hop_that_cannot_be_asked_for_is_unreachable() {
    let mut g = Gate::new(Config::default());
    // No IPv4 address on the tenant's link to ask from, and an address of our own.
    for via in ["192.0.2.9", "2001:db8:64::1", "fe80::1"] {
        let _ = g.send("tenant0", via, &data(0));
    }
    assert!(g.rig.sent().is_empty());
    g.rig.assert_counted(&[("drop.next-hop-unreachable", 3)]);
}

/// The RFC's case: a scan of a /64 that is faster than anything can be resolved.
#[test]
fn rfc6583_a_scan_neither_evicts_nor_starves_resolved_neighbours() {
    let config = Config { capacity: 64, per_interface: 64, ..Config::default() };
    let mut g = Gate::new(config);
    let vm = |n: u32| format!("2001:db8:64::1:{n:x}");
    for n in 0..60 {
        g.known(&vm(n), mac(n as u8));
        g.pass(Duration::from_millis(10));
    }
    // One of them was a neighbour before, and has to be found during the scan.
    let former = vm(59);
    let slot = g.n.table.find(&g.key(&former), g.n.shared.hash(&g.key(&former))).unwrap();
    g.n.forget(&g.rig.counters, slot);
    g.rig.assert_counted(&[("ns-sent", 60), ("next-hop-held", 60), ("neighbors-resolved", 60)]);

    let mut scanned = 0u32;
    let mut solicited = 0u64;
    let (mut lost, mut used) = (0, 0);
    let mut found = None;
    for step in 0..2000u32 {
        for _ in 0..100 {
            scanned += 1;
            let target = format!("2001:db8:64::f:{:x}:{:x}", scanned >> 16, scanned & 0xffff);
            let _ = g.send("tenant0", &target, &data(0));
        }
        // Those that are resolved stay so, whether they are in use (the first ten) or not.
        for n in 0..10 {
            used += 1;
            lost += u32::from(!matches!(g.resolve("tenant0", &vm(n)), Resolution::Ready(_)));
        }
        if step == 1000 {
            assert_eq!(g.send("tenant0", &former, &data(7)), Resolution::Hold);
        }
        for l in g.pass(Duration::from_millis(10)) {
            solicited += 1;
            // Only hosts that exist answer.
            let target = ipv6_target(&l.octets);
            for n in 0..60 {
                if target == vm(n) {
                    let _ = g.answer(&vm(n), mac(n as u8));
                    g.rig.sent();
                    found = found.or((n == 59).then_some(step));
                }
            }
        }
    }
    assert_eq!((lost, used), (0, 20_000));
    assert_eq!(found, Some(1000), "a former neighbour is found at once");
    assert_eq!(g.listed().len(), 60);
    // 20 s at 500 a second, a burst of 100, three solicitations each.
    assert!(solicited <= (20 * 500 + 100) * 3 + 600, "{solicited}");
    assert!(g.n.waiting() <= config.queue_frames);
    assert!(g.n.table.total().incomplete <= config.incomplete_per_interface);
    assert!(g.rig.counters.dropped(DropReason::NextHopTableFull) > 150_000);
}

/// Strangers are refused before anything is done for them; whoever comes before them is not.
#[test]
fn rfc6583_7_1_when_no_stranger_may_be_looked_for_familiar_neighbours_and_those_looked_for_still_may_wait() {
    let config = Config { resolutions_rate_pps: 1, resolutions_burst: 3, ..Config::default() };
    let mut g = Gate::new(config);
    let bindings = Bindings::new(10, [1, 2]).unwrap();
    bindings.set(0, "2001:db8:64::7/128".parse().unwrap(), mac(7)).unwrap();
    g.n.set_bindings(Some(Arc::new(bindings)));
    g.known("2001:db8:64::8", mac(8));
    let former = g.key("2001:db8:64::8");
    g.n.forget(&g.rig.counters, g.n.table.find(&former, g.n.shared.hash(&former)).unwrap());
    for stranger in ["2001:db8:64::dead:1", "2001:db8:64::dead:2"] {
        assert_eq!(g.send("tenant0", stranger, &data(0)), Resolution::Hold);
    }
    g.rig.assert_counted(&[("ns-sent", 3), ("next-hop-held", 3), ("neighbors-resolved", 1)]);
    let full = Resolution::Drop(DropReason::NextHopTableFull);
    assert_eq!(g.send("tenant0", "2001:db8:64::dead:3", &data(0)), full);
    g.rig.assert_counted(&[("drop.next-hop-table-full", 1)]);
    for familiar in ["2001:db8:64::dead:1", "2001:db8:64::8", "2001:db8:64::7"] {
        assert_eq!(g.send("tenant0", familiar, &data(0)), Resolution::Hold, "{familiar}");
    }
    g.rig.assert_counted(&[("ns-sent", 2), ("next-hop-held", 3)]);
    // An address of ours is nobody's, whatever else is scarce; and another network has a rate of its own.
    assert_eq!(g.send("tenant0", "2001:db8:64::1", &data(0)), Resolution::Hold);
    g.rig.assert_counted(&[("drop.next-hop-unreachable", 1)]);
    assert_eq!(g.send("tenant1", "2001:db8:65::dead", &data(0)), Resolution::Hold);
    g.rig.assert_counted(&[("ns-sent", 1), ("next-hop-held", 1)]);
    g.rig.advance(Duration::from_secs(1));
    assert_eq!(g.send("tenant0", "2001:db8:64::dead:3", &data(0)), Resolution::Hold);
    g.rig.assert_counted(&[("ns-sent", 1), ("next-hop-held", 1)]);
}

#[test]
fn rfc6583_a_scan_of_one_network_does_not_touch_another() {
    let mut g = Gate::new(Config::default());
    for n in 0..5000u32 {
        let _ = g.send("tenant0", &format!("2001:db8:64::f:{n:x}"), &data(0));
        g.rig.sent();
    }
    assert!(g.rig.counters.dropped(DropReason::NextHopTableFull) >= 4900);
    assert_eq!(g.send("tenant1", "2001:db8:65::101", &data(0)), Resolution::Hold);
    assert_eq!(g.rig.sent().len(), 1);
}

impl Gate {
    pub(crate) fn key(&self, who: &str) -> Key {
        Key::new(LinkId::of(self.rig.interfaces.get(IfId(0)).unwrap()), who.parse().unwrap())
    }
}

fn ipv6_target(octets: &[u8]) -> String {
    causeway_wire::ipv6::addr(octets, 48).to_string()
}

#[test]
fn a_full_table_gives_the_place_of_a_neighbour_that_is_not_in_use() {
    let config = Config { capacity: 4, per_interface: 4, ..Config::default() };
    let mut g = Gate::new(config);
    let vm = |n: u32| format!("2001:db8:64::1:{n:x}");
    for n in 0..4 {
        g.known(&vm(n), mac(n as u8));
        g.pass(Duration::from_millis(10));
    }
    // All four are reachable: the fifth gets its packet, but no place.
    assert_eq!(g.send("tenant0", &vm(5), &data(5)), Resolution::Hold);
    g.rig.sent();
    let _ = g.answer(&vm(5), mac(5));
    assert_eq!(g.rig.sent(), [Leaving { egress: to(&g, "tenant0", mac(5)), octets: data(5) }]);
    assert_eq!(g.resolve("tenant0", &vm(5)), Resolution::Hold);
    assert_eq!(g.listed().len(), 4);
    // Three of them stay in use.
    for _ in 0..60 {
        for n in 1..4 {
            let _ = g.resolve("tenant0", &vm(n));
        }
        for l in g.pass(Duration::from_secs(1)) {
            let who = ipv6_target(&l.octets);
            let from = if let Via::Mac(m) = l.egress.via() { m } else { unreachable!() };
            let _ = g.answer(&who, from);
        }
    }
    g.known(&vm(6), mac(6));
    assert_eq!(g.resolve("tenant0", &vm(6)), Resolution::Ready(mac(6)));
    assert_eq!(g.resolve("tenant0", &vm(0)), Resolution::Hold);
    for n in 1..4 {
        assert_eq!(g.resolve("tenant0", &vm(n)), Resolution::Ready(mac(n as u8)));
    }
}

#[test]
fn a_full_gateway_takes_the_place_from_the_network_that_has_most() {
    let config = Config { capacity: 6, per_interface: 5, ..Config::default() };
    let mut g = Gate::new(config);
    let vm = |n: u32| format!("2001:db8:64::1:{n:x}");
    for n in 0..5 {
        g.known(&vm(n), mac(n as u8));
    }
    g.pass(Duration::from_secs(46));
    let other = |n: u32| format!("2001:db8:65::1:{n:x}");
    for n in 0..3 {
        let who = other(n);
        assert_eq!(g.send("tenant1", &who, b"x"), Resolution::Hold);
        let na = ip6(who.as_str(), "fe80::1").na(who.as_str(), false, true, true, Some(mac(7)));
        assert_eq!(g.local("tenant1", &na).0, Verdict::Consume);
        g.rig.sent();
        assert_eq!(g.resolve("tenant1", &who), Resolution::Ready(mac(7)));
        assert_eq!(g.listed().len(), 6);
    }
    // Its limit is reached too, whatever room there is elsewhere.
    let of =
        |g: &Gate, id| g.listed().iter().filter(|n| n.link.interface(&g.rig.interfaces) == Some(id)).count();
    assert_eq!((of(&g, IfId(0)), of(&g, IfId(2))), (3, 3));
    g.n.table.check();
}

#[test]
fn rfc6583_7_1_a_former_neighbour_has_a_rate_of_its_own() {
    let mut g = Gate::new(Config { resolutions_burst: 20, ..Config::default() });
    g.known(VM1, mac(9));
    let slot = g.n.table.find(&g.key(VM1), g.n.shared.hash(&g.key(VM1))).unwrap();
    g.n.forget(&g.rig.counters, slot);
    for n in 0..100 {
        let _ = g.send("tenant0", &format!("2001:db8:64::f:{n:x}"), &data(0));
    }
    assert_eq!(g.rig.sent().len(), 19);
    let _ = g.send("tenant0", VM1, &data(0));
    assert_eq!(g.rig.sent().len(), 1);
}

#[test]
fn addresses_that_were_given_up_make_room_for_new_ones() {
    let config = Config {
        incomplete: 8,
        incomplete_per_interface: 8,
        failed_time: Duration::from_secs(60),
        ..Config::default()
    };
    let mut g = Gate::new(config);
    let dead = |n: u32| format!("2001:db8:64::f:{n:x}");
    for n in 0..6 {
        let _ = g.send("tenant0", &dead(n), &data(0));
    }
    g.pass(Duration::from_secs(4));
    assert_eq!(g.n.table.failed(), 6);
    for n in 6..12 {
        let _ = g.send("tenant0", &dead(n), &data(0));
    }
    assert_eq!((g.rig.sent().len(), g.n.table.failed(), g.n.table.total().incomplete), (6, 2, 6));
    // The oldest went first: asked for again, it is a new one; the newest is still known to be dead.
    g.pass(Duration::from_secs(4));
    let _ = g.send("tenant0", &dead(11), &data(0));
    assert!(g.rig.sent().is_empty());
    let _ = g.send("tenant0", &dead(0), &data(0));
    assert_eq!(g.rig.sent().len(), 1);
}

#[test]
fn a_neighbour_that_made_itself_known_is_told_of_once_it_is_confirmed() {
    let mut g = Gate::new(Config::default());
    let ns = |from| ip6(VM1, "2001:db8:64::1").ns("2001:db8:64::1", Some(mac(from)));
    let _ = g.local("tenant0", &ns(9));
    let _ = g.local("tenant0", &ns(8));
    assert!(g.rig.take_events().is_empty());
    let event = |mac| Event::NeighborResolved { interface: IfId(0), address: VM1.parse().unwrap(), mac };
    assert_eq!(g.answer(VM1, mac(8)), Verdict::Consume);
    assert_eq!(g.rig.take_events(), [event(mac(8))]);
    assert_eq!(g.answer(VM1, mac(8)), Verdict::Consume);
    assert!(g.rig.take_events().is_empty());
    // From then on a move is news.
    let _ = g.local("tenant0", &ns(7));
    assert_eq!(g.rig.take_events(), [event(mac(7))]);
}

#[test]
fn only_use_since_it_became_stale_has_a_neighbour_probed() {
    let mut g = Gate::new(Config::default());
    g.known(VM1, mac(9));
    while g.listed()[0].state != Reachability::Stale {
        g.pass(Duration::from_millis(10));
    }
    // Used, and confirmed before anybody looked.
    assert_eq!(g.resolve("tenant0", VM1), Resolution::Ready(mac(9)));
    assert_eq!(g.answer(VM1, mac(9)), Verdict::Consume);
    assert_eq!(g.listed()[0].state, Reachability::Reachable);
    assert!(g.pass(Duration::from_secs(70)).is_empty());
    assert_eq!(g.listed()[0].state, Reachability::Stale);
}

#[test]
fn what_the_outbox_has_no_room_for_follows_at_the_next_tick() {
    let mut g = Gate::new(Config::default());
    for n in 0..8 {
        let _ = g.send("tenant0", VM1, &data(n));
    }
    g.rig.sent();
    while g.rig.outbox.room() > 3 {
        let p = g.rig.packet("tenant0", &data(99));
        let e = to(&g, "tenant0", mac(1));
        g.rig.ctx().send(p, e);
    }
    let _ = g.answer(VM1, mac(9));
    assert_eq!(g.n.waiting(), 5);
    assert_eq!(g.rig.sent().len(), 64);
    let rest: Vec<_> = g.pass(Duration::from_millis(20)).into_iter().map(|l| l.octets).collect();
    assert_eq!(rest, (3..8).map(data).collect::<Vec<_>>());
    g.rig.assert_counted(&[("ns-sent", 1), ("next-hop-held", 8), ("neighbors-resolved", 1)]);
}

#[test]
fn a_tick_does_no_more_than_its_budget_and_leaves_the_rest_for_the_next() {
    let mut g = Gate::new(Config::default());
    for n in 0..20 {
        let _ = g.send("tenant0", &format!("2001:db8:64::1:{n:x}"), &data(0));
    }
    g.rig.sent();
    g.rig.advance(Duration::from_millis(1100));
    for _ in 0..4 {
        g.n.tick(&mut g.rig.ctx(), &mut g.errors, 5);
        assert_eq!(g.rig.sent().len(), 5);
    }
    g.n.tick(&mut g.rig.ctx(), &mut g.errors, 5);
    assert!(g.rig.sent().is_empty());
}

#[test]
fn at_shutdown_all_waiting_packets_are_given_back_and_counted() {
    let mut g = Gate::new(Config::default());
    for n in 0..5 {
        let _ = g.send("tenant0", &format!("2001:db8:64::1:{n:x}"), &data(0));
        let _ = g.send("tenant0", &format!("2001:db8:64::1:{n:x}"), &data(1));
    }
    g.rig.sent();
    assert_eq!(g.n.drain(&g.rig.counters), 10);
    assert_eq!(g.n.waiting(), 0);
    g.rig.assert_counted(&[("ns-sent", 5), ("next-hop-held", 10), ("drop.shutdown", 10)]);
}

#[test]
fn a_new_plan_renumbers_links_and_forgets_those_that_are_gone() {
    let mut g = Gate::new(Config::default());
    g.known(VM1, mac(9));
    assert_eq!(g.send("tenant1", "2001:db8:65::101", &data(1)), Resolution::Hold);
    g.rig.sent();
    g.rig.take_events();
    // tenant1 goes, tenant0 becomes the last, its address moves to where a neighbour was.
    let [mut tenant0, uplink, _] = <[_; 3]>::try_from(lab_interfaces()).unwrap();
    g.known("2001:db8:64::200", mac(8));
    tenant0.service6.push("2001:db8:64::200".parse().unwrap());
    g.rig.interfaces = Interfaces::new(vec![uplink, tenant0]);
    g.n.set_interfaces(&g.rig.interfaces, &g.rig.counters);
    g.n.table.check();
    assert_eq!(g.resolve("tenant0", VM1), Resolution::Ready(mac(9)));
    let [one] = g.listed()[..] else { panic!("{:?}", g.listed()) };
    assert_eq!(one.link.interface(&g.rig.interfaces), Some(IfId(1)));
    g.rig.assert_counted(&[
        ("ns-sent", 3),
        ("next-hop-held", 3),
        ("neighbors-resolved", 2),
        ("drop.next-hop-unreachable", 1),
    ]);
    // Its timers go on, under the new number.
    g.pass(Duration::from_secs(46));
    let _ = g.resolve("tenant0", VM1);
    let probes = g.pass_until_sent(Duration::from_secs(8));
    assert_eq!(probes[0].egress, Egress::new(IfId(1), Via::Mac(mac(9))));
    // And back: more interfaces than ever.
    g.rig.interfaces = Interfaces::new(lab_interfaces());
    g.n.set_interfaces(&g.rig.interfaces, &g.rig.counters);
    assert_eq!(g.resolve("tenant0", VM1), Resolution::Ready(mac(9)));
    assert_eq!(g.send("tenant1", "2001:db8:65::102", &data(1)), Resolution::Hold);
    g.n.table.check();
}

#[test]
fn one_worker_owns_a_neighbour_and_all_use_it() {
    let config = Config::default();
    let shared = Arc::new(Resolved::new(&config, 2));
    let mut gates = [0, 1].map(|w| Gate::member(config, Arc::clone(&shared), w));
    let owner = usize::from(shared.owner(&gates[0].key(VM1)));
    let other = 1 - owner;
    assert_eq!(gates[other].send("tenant0", VM1, &data(0)), Resolution::Owner(owner as u16));
    assert_eq!(gates[owner].send("tenant0", VM1, &data(0)), Resolution::Hold);
    gates[owner].rig.sent();

    // The answer comes in where RSS likes.
    let na = ip6(VM1, "2001:db8:64::1").na(VM1, false, true, true, Some(mac(9)));
    let packet = gates[0].rig.packet("tenant0", &na);
    let of = |g: &mut Gate| g.n.owner_of(&g.rig.interfaces, &packet);
    assert_eq!(of(&mut gates[other]), Some(owner as u16));
    assert_eq!(of(&mut gates[owner]), None);
    // Taken at the wrong worker it teaches nothing.
    assert_eq!(gates[other].answer(VM1, mac(9)), Verdict::Drop(DropReason::NdNotOurs));
    assert_eq!(gates[owner].answer(VM1, mac(9)), Verdict::Consume);
    for g in &mut gates {
        assert_eq!(g.resolve("tenant0", VM1), Resolution::Ready(mac(9)));
    }
    // Use by the other worker alone keeps it fresh.
    for g in &mut gates {
        g.rig.sent();
        g.pass(Duration::from_secs(46));
    }
    assert_eq!(gates[owner].listed()[0].state, Reachability::Stale);
    assert_eq!(gates[other].resolve("tenant0", VM1), Resolution::Ready(mac(9)));
    assert_eq!(gates[owner].pass_until_sent(Duration::from_secs(8)).len(), 1);
    assert_eq!(gates[owner].listed()[0].state, Reachability::Probe);
}

#[test]
fn rfc6583_a_scan_cannot_fill_the_ring_between_workers() {
    let config = Config::default();
    let shared = Arc::new(Resolved::new(&config, 2));
    let mut g = Gate::member(config, Arc::clone(&shared), 0);
    let mut over = 0u32;
    for n in 0..10_000u32 {
        over += u32::from(g.resolve("tenant0", &format!("2001:db8:64::f:{n:x}")) == Resolution::Owner(1));
    }
    assert_eq!(over, config.resolutions_burst * 4);
    // Nor can a flood of questions from made-up neighbours; answers still pass.
    let mut over = 0u32;
    for n in 0..10_000u32 {
        let from = format!("2001:db8:64::f:{n:x}");
        let ns = ip6(from.as_str(), "fe80::1").ns("fe80::1", Some(mac(9)));
        let packet = g.rig.packet("tenant0", &ns);
        over += u32::from(g.n.owner_of(&g.rig.interfaces, &packet).is_some());
    }
    assert_eq!(over, config.resolutions_burst * 4);
    let who =
        (256..999u32).map(|n| format!("2001:db8:64::{n:x}")).find(|a| shared.owner(&g.key(a)) == 1).unwrap();
    let na = ip6(who.as_str(), "fe80::1").na(who.as_str(), false, true, true, Some(mac(9)));
    let packet = g.rig.packet("tenant0", &na);
    assert_eq!(g.n.owner_of(&g.rig.interfaces, &packet), Some(1));
    // A known neighbour's question is no news.
    let ns = ip6(who.as_str(), "fe80::1").ns("fe80::1", Some(mac(9)));
    let packet = g.rig.packet("tenant0", &ns);
    g.rig.advance(Duration::from_secs(1));
    g.tick();
    assert_eq!(g.n.owner_of(&g.rig.interfaces, &packet), Some(1));
    let mut owner = Gate::member(config, Arc::clone(&shared), 1);
    assert!(matches!(owner.local("tenant0", &ns).0, Verdict::Forward { .. }));
    assert_eq!(g.n.owner_of(&g.rig.interfaces, &packet), None);
    assert!(matches!(g.local("tenant0", &ns).0, Verdict::Forward { .. }));
}

#[test]
fn rfc4861_7_2_6_and_rfc5227_2_3_own_addresses_are_announced_twice() {
    let mut g = Gate::new(Config::default());
    g.n.announce(g.rig.now);
    let first = g.pass(Duration::from_millis(10));
    let na = |who: &str| ip6(who, "ff02::1").na(who, true, false, true, Some(TENANT_MAC));
    assert_eq!(first[0].octets, na("fe80::1"));
    assert_eq!(first[1].octets, na("2001:db8:64::1"));
    let arp: Vec<_> = first.iter().filter(|l| l.octets.len() == 28).collect();
    let own = causeway_testkit::arp_request(UPLINK_MAC, "192.0.2.2", "192.0.2.2");
    assert_eq!(arp, [&Leaving { egress: to(&g, "uplink0", MacAddr::BROADCAST), octets: own }]);
    assert_eq!(g.pass(Duration::from_millis(1980)), []);
    assert_eq!(g.pass(Duration::from_millis(30)), first);
    assert_eq!(g.pass(Duration::from_secs(10)), []);
    g.rig.assert_counted(&[("na-sent", 12), ("arp-sent", 2)]);
}

#[test]
fn more_addresses_than_the_outbox_holds_are_announced_over_several_ticks() {
    let mut g = Gate::new(Config { announcements: 1, ..Config::default() });
    let mut list = lab_interfaces();
    list[0].service6 = (0..200u16).map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 5, n)).collect();
    g.rig.interfaces = Interfaces::new(list);
    g.n.set_interfaces(&g.rig.interfaces, &g.rig.counters);
    g.n.announce(g.rig.now);
    let all = g.pass(Duration::from_millis(100));
    assert_eq!(all.len(), 207);
    g.rig.assert_counted(&[("na-sent", 206), ("arp-sent", 1)]);
}

#[test]
fn an_empty_pool_costs_a_solicitation_and_nothing_else() {
    let mut g = Gate::new(Config::default());
    g.rig.source = HeapSource::new(0);
    let _ = g.send("tenant0", VM1, &data(0));
    g.rig.assert_counted(&[("next-hop-held", 1), ("drop.no-frame", 1)]);
    g.rig.source = HeapSource::new(10);
    assert_eq!(g.pass(Duration::from_millis(1020)).len(), 1);
    let _ = g.answer(VM1, mac(9));
    assert_eq!(g.rig.sent().len(), 1);
}

mod conservation {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Op {
        Send(u8),
        Answer(u8, u8, bool, bool),
        Ask(u8, u8),
        Pass(u16),
        Tick(u8),
        Plan(bool),
        Drain,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            8 => (0u8..24).prop_map(Op::Send),
            4 => (0u8..24, 1u8..4, any::<bool>(), any::<bool>()).prop_map(|(w, m, s, o)| Op::Answer(w, m, s, o)),
            2 => (0u8..24, 1u8..4).prop_map(|(w, m)| Op::Ask(w, m)),
            3 => (0u16..8000).prop_map(Op::Pass),
            3 => (0u8..8).prop_map(Op::Tick),
            1 => any::<bool>().prop_map(Op::Plan),
            1 => Just(Op::Drain),
        ]
    }

    fn small() -> Config {
        Config {
            capacity: 6,
            per_interface: 4,
            incomplete: 8,
            incomplete_per_interface: 6,
            learned: 4,
            learned_per_interface: 3,
            resolutions_rate_pps: 5,
            resolutions_burst: 10,
            queue_per_hop: 3,
            queue_frames: 12,
            idle_time: Duration::from_secs(60),
            ..Config::default()
        }
    }

    proptest! {
        #[test]
        fn every_packet_has_exactly_one_fate_and_tables_agree(ops in proptest::collection::vec(op(), 1..120)) {
            let mut g = Gate::new(small());
            let (mut given, mut sent) = (0u32, Vec::new());
            let name = |who: u8| {
                let (link, net) = if who.is_multiple_of(3) { ("tenant1", 65) } else { ("tenant0", 64) };
                (link, format!("2001:db8:{net}::1:{who:x}"))
            };
            for op in ops {
                match op {
                    Op::Send(who) => {
                        let (link, a) = name(who);
                        if g.rig.interfaces.by_name(link).is_none() { continue; }
                        let octets = ip6("2001:db8:6::10", a.as_str()).udp(7, 7, &given.to_be_bytes());
                        match g.send(link, &a, &octets) {
                            Resolution::Hold => given += 1,
                            Resolution::Drop(reason) => {
                                // What is refused at once would have been refused for the same reason.
                                prop_assert_eq!(reason, DropReason::NextHopTableFull);
                                let before = (g.rig.counters.dropped(reason), g.n.table.total());
                                g.hold(link, &a, &octets);
                                let after = (g.rig.counters.dropped(reason), g.n.table.total());
                                prop_assert_eq!((before.0 + 1, before.1), after);
                                given += 2;
                            }
                            Resolution::Ready(_) | Resolution::Owner(_) => {}
                        }
                    }
                    Op::Answer(who, m, s, o) => {
                        let (link, a) = name(who);
                        if g.rig.interfaces.by_name(link).is_none() { continue; }
                        let na = ip6(a.as_str(), "fe80::1").na(a.as_str(), false, s, o, Some(mac(m)));
                        let _ = g.local(link, &na);
                    }
                    Op::Ask(who, m) => {
                        let (link, a) = name(who);
                        if g.rig.interfaces.by_name(link).is_none() { continue; }
                        let ns = ip6(a.as_str(), "fe80::1").ns("fe80::1", Some(mac(m)));
                        let (verdict, _) = g.local(link, &ns);
                        let answered = matches!(verdict, Verdict::Forward { .. });
                        prop_assert!(answered);
                    }
                    Op::Pass(ms) => g.rig.advance(Duration::from_millis(u64::from(ms))),
                    Op::Tick(budget) => g.n.tick(&mut g.rig.ctx(), &mut g.errors, usize::from(budget)),
                    Op::Plan(all) => {
                        let mut list = lab_interfaces();
                        if !all { list.truncate(2); }
                        g.rig.interfaces = Interfaces::new(list);
                        g.n.set_interfaces(&g.rig.interfaces, &g.rig.counters);
                    }
                    Op::Drain => { let _ = g.n.drain(&g.rig.counters); }
                }
                sent.extend(g.rig.sent().into_iter().filter(|l| l.octets[6] == 17));
                g.n.table.check();
                // What all read is what the owner knows.
                let known = g.n.table.live().filter(|e| e.state.unwrap().mac().is_some()).count();
                prop_assert_eq!(g.n.shared.len() as usize, known);
                for n in g.listed() {
                    let key = Key::new(n.link, n.address);
                    let slot = g.n.table.find(&key, g.n.shared.hash(&key)).unwrap();
                    prop_assert_eq!(g.n.table.entry(slot).state.unwrap().mac(), Some(n.mac));
                }
                let total = g.n.table.total();
                prop_assert!(total.confirmed <= 6 && total.learned <= 4 && total.incomplete <= 8, "{:?}", total);
                prop_assert!(g.n.waiting() <= 12);
                let dropped: u64 = [
                    DropReason::NextHopUnreachable, DropReason::NextHopQueueFull,
                    DropReason::NextHopTableFull, DropReason::Shutdown,
                ].iter().map(|r| g.rig.counters.dropped(*r)).sum();
                prop_assert_eq!(sent.len() as u64 + dropped + g.n.waiting() as u64, u64::from(given));
            }
            let mut numbers: Vec<_> = sent.iter().map(|l| l.octets[48..52].to_vec()).collect();
            numbers.sort();
            numbers.dedup();
            prop_assert_eq!(numbers.len(), sent.len(), "a packet was sent twice");
        }
    }
}
