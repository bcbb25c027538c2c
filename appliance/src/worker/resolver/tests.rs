//! DNS64 in the whole worker: in which poll answers leave, and which worker has what.

use crate::worker::tests::{Lab, ROUTER, TENANT, UPLINK, VM1};
use causeway_testkit::{check_packet, eth, ip4, ip6};
use causeway_wire::{MacAddr, be16};

const DNS64: &str = "2001:db8:64::1";
const UPSTREAM: &str = "198.51.100.53";
const AAAA: u16 = 28;
const A: u16 = 1;
const NAME: &[u8] = b"\x06v4only\x07example\x00";

/// The lab's gateway with a resolver on its own address, all neighbours known.
fn lab(workers: u16) -> Lab {
    let text = include_str!("../../testing/gateway.toml");
    let text = text.replace("[gateway]", &format!("[gateway]\nworkers = {workers}"));
    let text = format!("{text}\n[dns64]\nlisten = [\"{DNS64}\"]\nupstreams = [\"{UPSTREAM}\"]\n");
    let mut lab = Lab::with(workers, &text);
    lab.resolve_all();
    lab
}

fn question(id: u16, qtype: u16) -> Vec<u8> {
    let mut m = id.to_be_bytes().to_vec();
    m.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    m.extend(NAME);
    m.extend(qtype.to_be_bytes());
    m.extend([0, 1]);
    m
}

/// What the upstream says to a question of ours: an A record, or that there is nothing.
fn answer(asked: &[u8]) -> Vec<u8> {
    let end = 12 + NAME.len() + 4;
    let mut m = asked[..end].to_vec();
    (m[2], m[3]) = (0x81, 0x80);
    let a = be16(asked, end - 4) == A;
    m[6..12].copy_from_slice(&[0, u8::from(a), 0, u8::from(!a), 0, 0]);
    if a {
        m.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 198, 51, 100, 10]);
    } else {
        // SOA of example., which the question's name has at its eighth octet.
        m.extend([0xc0, 12 + 7, 0, 6, 0, 1, 0, 0, 1, 44, 0, 24, 0xc0, 19, 0xc0, 19]);
        m.extend([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 60]);
    }
    m
}

fn ask(lab: &mut Lab, worker: usize, id: u16) {
    let packet = ip6("2001:db8:64::101", DNS64).udp(4000, 53, &question(id, AAAA));
    lab.give(worker, TENANT, &eth(MacAddr([2, 0, 0, 0, 0, 1]), VM1).carry(&packet));
}

/// Frames that left a port, from the network layer on.
fn left(lab: &Lab, port: usize) -> Vec<Vec<u8>> {
    let frames = std::mem::take(&mut lab.wires.borrow_mut().tx[port]);
    let packets: Vec<Vec<u8>> = frames.into_iter().map(|f| f[14..].to_vec()).collect();
    packets.iter().for_each(|p| check_packet(p).unwrap());
    packets
}

/// The upstream answers all that it was asked, each answer at this worker's queue; gives how much that was.
fn upstream_answers(lab: &mut Lab, worker: usize) -> usize {
    let mut answered = 0;
    loop {
        lab.settle();
        let asked = left(lab, UPLINK);
        if asked.is_empty() {
            return answered;
        }
        for q in asked {
            assert_eq!(q[16..20], [198, 51, 100, 53]);
            let port = be16(&q, 20);
            let packet = ip4(UPSTREAM, "192.0.2.2").udp(53, port, &answer(&q[28..]));
            lab.give(worker, UPLINK, &eth(MacAddr([2, 0, 0, 0, 0, 2]), ROUTER).carry(&packet));
            answered += 1;
        }
    }
}

fn is_synthesised(packet: &[u8], id: u16) -> bool {
    let address = "2001:db8:64:ff9b::c633:640a".parse::<std::net::Ipv6Addr>().unwrap().octets();
    packet.windows(16).any(|w| w == address) && be16(packet, 48) == id
}

#[test]
fn an_answer_from_the_cache_leaves_in_the_poll_that_brought_the_question() {
    let mut lab = lab(1);
    ask(&mut lab, 0, 1);
    assert_eq!(upstream_answers(&mut lab, 0), 2);
    assert!(is_synthesised(&left(&lab, TENANT)[0], 1));
    for id in 2..34 {
        ask(&mut lab, 0, id);
    }
    lab.mark();
    assert!(lab.workers[0].poll());
    let answers = left(&lab, TENANT);
    assert_eq!(answers.len(), 32);
    assert!((2..).zip(&answers).all(|(id, a)| is_synthesised(a, id)));
    lab.assert_moved(&[
        ("dns64-answered-synthesised", 32),
        ("dns64-cache-hits", 32),
        ("dns64-noerror", 32),
        ("dns64-queries", 32),
    ]);
}

#[test]
fn whichever_worker_a_question_and_an_answer_come_to_each_is_asked_once() {
    for (at, back) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut lab = lab(2);
        ask(&mut lab, at, 7);
        ask(&mut lab, 1 - at, 8);
        assert_eq!(upstream_answers(&mut lab, back), 2, "AAAA and A, once each");
        let mut answers = left(&lab, TENANT);
        answers.sort_by_key(|a| be16(a, 48));
        assert_eq!(answers.len(), 2);
        assert!(is_synthesised(&answers[0], 7) && is_synthesised(&answers[1], 8));
        // What one worker has learnt all have.
        for worker in [0, 1] {
            ask(&mut lab, worker, 9);
            lab.workers[worker].poll();
            assert_eq!(left(&lab, TENANT).len(), 1, "worker {worker}");
        }
    }
}

#[test]
fn a_port_at_which_nothing_is_asked_is_answered_as_any_other() {
    let mut lab = lab(1);
    let packet = ip4("198.51.100.99", "192.0.2.2").udp(4000, 33_434, b"traceroute");
    lab.give(0, UPLINK, &eth(MacAddr([2, 0, 0, 0, 0, 2]), ROUTER).carry(&packet));
    lab.settle();
    let left = left(&lab, UPLINK);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0][20..22], [3, 3], "port unreachable");
}
