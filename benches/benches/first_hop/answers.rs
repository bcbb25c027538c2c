//! Clocks of answers that hosts wait for: to a Router Solicitation, to a Neighbor Solicitation, to the one of duplicate
//! address detection, and the router advertisement behind a DHCPv6 Reply. From the packet as it was classified to
//! the packet that is to leave.
//!
//! `same-poll`: the whole worker is given full bursts of packets to translate with one question in the midst, and
//! each answer is among what left in that poll.

use super::gateway::{Gateway, TENANT, plan, text};
use causeway_benches::clocks::{Gather, Tsc, met};
use causeway_benches::smoke;
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{BURST, Counter, Duration, HeapFrame, HeapSource, Interfaces, Packet, Verdict};
use causeway_neighbor::{Neighbors, Resolved};
use causeway_testkit::{Rig, check_packet, eth, ip6, mac};
use causeway_wire::MacAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;

const POOL: &str = "203.0.113.0/28";
const HOST: &str = "2001:db8:64::101";
const OURS: &str = "2001:db8:64::1";
/// Solicited-node group of [`OURS`], and its link-layer address.
const GROUP: (&str, MacAddr) = ("ff02::1:ff00:1", MacAddr([0x33, 0x33, 0xff, 0, 0, 1]));
const ROUTERS: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 2]);
/// Of the packet and its answer, from the Ethernet payload on.
const ICMP_TYPE: usize = 40;

struct Gate {
    rig: Rig,
    ra: causeway_ra::Stage,
    neighbors: Neighbors<HeapFrame>,
    errors: IcmpErrors,
}

impl Gate {
    fn new() -> Self {
        let plan = plan(&text(POOL, false));
        let mut rig = Rig::lab();
        rig.interfaces = Interfaces::new(plan.active.interfaces.iter().map(|(_, i)| i.clone()).collect());
        let resolved = Arc::new(Resolved::new(&plan.neighbor, 1));
        let mut neighbors =
            Neighbors::new(&plan.neighbor, resolved, 0, &rig.interfaces).expect("good settings");
        let mut errors = IcmpErrors::new(1000, 100);
        let mut ra = causeway_ra::Stage::new(Arc::clone(&plan.ra), 0, 7);
        ra.became_active(&mut rig.ctx());
        neighbors.tick(&mut rig.ctx(), &mut errors, 16);
        rig.outbox.drain().for_each(drop);
        Self { rig, ra, neighbors, errors }
    }
}

/// What is asked, and the octets of the question.
enum Ask {
    Router(Vec<u8>),
    Neighbor(Vec<u8>),
    Lease,
}

fn one(tsc: &Tsc, name: &str, ask: &Ask, answer: u8, windows: usize) {
    let mut gate = Gate::new();
    let mut gather = Gather::new(tsc.clone());
    let host: Ipv6Addr = HOST.parse().expect("an address");
    let tenant = gate.rig.interface("tenant0");
    let mut octets = 0;
    for _ in 0..windows {
        // Limits on what hosts are answered are full again.
        gate.rig.advance(Duration::from_secs(2));
        gate.rig.source = HeapSource::new(1000);
        let question = match ask {
            Ask::Router(q) | Ask::Neighbor(q) => q.as_slice(),
            Ask::Lease => &[0x60],
        };
        let mut packets: Vec<Packet<HeapFrame>> =
            (0..BURST).map(|_| gate.rig.packet("tenant0", question)).collect();
        gather.window(BURST, || {
            let begin = tsc.raw();
            for packet in &mut packets {
                let ctx = &mut gate.rig.ctx();
                let verdict = match ask {
                    Ask::Router(_) => gate.ra.receive(ctx, packet),
                    Ask::Neighbor(_) => gate.neighbors.local(ctx, &mut gate.errors, packet),
                    Ask::Lease => {
                        gate.ra.unicast(ctx, tenant, host, mac(9));
                        Verdict::Consume
                    }
                };
                assert!(matches!(verdict, Verdict::Consume | Verdict::Forward { .. }), "{verdict:?}");
            }
            tsc.raw() - begin
        });
        let mut sent: Vec<Vec<u8>> = gate.rig.sent().into_iter().map(|p| p.octets).collect();
        // A question in the frame of which its answer is made.
        sent.extend(packets.iter().map(|p| p.bytes().to_vec()).filter(|b| b.get(ICMP_TYPE) == Some(&answer)));
        assert_eq!(sent.len(), BURST, "an answer to each: {:?}", gate.rig.counters.nonzero());
        assert!(sent.iter().all(|p| p[ICMP_TYPE] == answer && check_packet(p).is_ok()), "nothing else");
        octets = sent[0].len();
    }
    let f = gather.figure();
    println!(
        "RESULT first_hop answer to={name} octets={octets} clocks_min={:.0} clocks={:.0} ns={:.0} windows={} thrown_away={}",
        f.min,
        f.median,
        f.median / tsc.ghz(),
        f.kept,
        f.thrown
    );
}

/// Bursts with one question each, through the whole worker.
fn same_poll(name: &str, question: &[u8], answer: u8, polls: usize) {
    let mut gateway = Gateway::new(&text(POOL, false));
    let packet = ip6(HOST, "2001:db8:64:ff9b::198.51.100.10").udp(5000, 53, b"xx");
    let other = eth(TENANT, mac(9)).carry(&packet);
    for _ in 0..10_000 {
        gateway.poll_after(1_000);
    }
    gateway.wires.borrow_mut().keep = true;
    let mut answered = 0;
    for n in 0..polls {
        let mut wires = gateway.wires.borrow_mut();
        wires.tx.clear();
        wires.rx.extend((0..BURST).map(|at| HeapFrame::new(if at == n % BURST { question } else { &other })));
        drop(wires);
        // Slowly enough for the limits on answers.
        gateway.poll_after(10_000);
        let wires = gateway.wires.borrow();
        let is = |f: &&Vec<u8>| f[12..14] == [0x86, 0xdd] && f[20] == 58 && f[14 + ICMP_TYPE] == answer;
        let own = wires.tx.iter().filter(is).filter(|f| f[..6] == mac(9).0);
        answered += usize::from(own.count() == 1);
    }
    assert!(gateway.counters().get(Counter::Nat64V6ToV4) > 0, "{:?}", gateway.counters().nonzero());
    println!(
        "RESULT first_hop same-poll to={name} questions={polls} answered_in_the_same_poll={answered} goal_all={}",
        met(answered == polls)
    );
}

pub(crate) fn measure() {
    let tsc = Tsc::new();
    let windows = if smoke() { 3 } else { 2001 };
    let router = ip6("fe80::9", "ff02::2").hop_limit(255).rs(Some(mac(9)));
    let unicast = ip6(HOST, OURS).hop_limit(255).ns(OURS, Some(mac(9)));
    let group = ip6(HOST, GROUP.0).hop_limit(255).ns(OURS, Some(mac(9)));
    let duplicate = ip6("::", GROUP.0).hop_limit(255).ns(OURS, None);
    one(&tsc, "router-solicitation", &Ask::Router(router.clone()), 134, windows);
    one(&tsc, "dhcpv6-reply", &Ask::Lease, 134, windows);
    one(&tsc, "neighbor-solicitation", &Ask::Neighbor(group.clone()), 136, windows);
    one(&tsc, "neighbor-solicitation-unicast", &Ask::Neighbor(unicast), 136, windows);
    one(&tsc, "duplicate-detection", &Ask::Neighbor(duplicate), 136, windows);
    let polls = if smoke() { 64 } else { 2048 };
    same_poll("router-solicitation", &eth(ROUTERS, mac(9)).carry(&router), 134, polls);
    same_poll("neighbor-solicitation", &eth(GROUP.1, mac(9)).carry(&group), 136, polls);
}
