//! The splicer at workers: what becomes of connections that it terminates when the gateway ends, or stands by.

use crate::plan::PortFacts;
use crate::worker::first_hop::tests::{MAC4, clear, is_active, mac, run, sent, step, text};
use crate::worker::tests::{GW_UPLINK, Lab, ROUTER, TENANT, UPLINK, lab_text};
use causeway_testkit::{arp_reply, eth, ip4, tcp};
use causeway_wire::MacAddr;
use causeway_wire::l4::tcp::RST;

const PROXY: &str = "203.0.113.80";
const CLIENT: &str = "198.51.100.99";
const SPLICER: &str = r#"
[splicer]
[[splicer.listener]]
address = "203.0.113.80"
port = 80
http = true
[[splicer.site]]
name = "site1.example"
[[splicer.site.backend]]
address = "2001:db8:64::101"
"#;

/// A client opens a connection, and says nothing yet: its SYN at the first worker, its ACK at another.
fn open(lab: &mut Lab, gateway: (MacAddr, &str), port: u16, worker: usize) {
    let syn = ip4(CLIENT, PROXY).tcp(&tcp(port, 80).syn().seq(999));
    lab.send(0, UPLINK, &eth(gateway.0, ROUTER).carry(&syn));
    let found = arp_reply(ROUTER, "192.0.2.1", gateway.0, gateway.1);
    lab.send(0, UPLINK, &eth(gateway.0, ROUTER).carry(&found));
    let out = std::mem::take(&mut lab.wires.borrow_mut().tx[UPLINK]);
    let answer = out.iter().find(|f| f[12..14] == [8, 0] && f[36..38] == port.to_be_bytes());
    let seq = u32::from_be_bytes(answer.expect("a SYN-ACK")[38..42].try_into().unwrap());
    let ack = ip4(CLIENT, PROXY).tcp(&tcp(port, 80).seq(1000).ack(seq.wrapping_add(1)));
    lab.send(worker, UPLINK, &eth(gateway.0, ROUTER).carry(&ack));
}

/// Ports of clients that were sent a reset, from where.
fn resets(frames: &[(MacAddr, MacAddr, Vec<u8>)]) -> Vec<(MacAddr, u16)> {
    let is = |p: &[u8]| p[0] >> 4 == 4 && p[9] == 6 && p[33] & RST != 0 && p[12..16] == [203, 0, 113, 80];
    let mut list: Vec<_> = frames
        .iter()
        .filter(|(_, _, p)| is(p))
        .map(|(_, src, p)| (*src, u16::from_be_bytes([p[22], p[23]])))
        .collect();
    list.sort_by_key(|r| r.1);
    list
}

fn vrrp(n: u8, priority: u8) -> Lab {
    let port = |name: &str, at| PortFacts { name: name.to_owned(), mac: mac(n, at), mtu: 1500 };
    Lab::with_ports(1, &(text(n, priority) + SPLICER), &[port("tenant0", 1), port("uplink0", 2)])
}

#[test]
fn a_gateway_that_ends_resets_the_connections_that_it_terminates() {
    let mut lab = Lab::with(2, &(lab_text() + SPLICER));
    for n in 0..100 {
        open(&mut lab, (GW_UPLINK, "192.0.2.2"), 40_000 + n, usize::from(n % 2));
    }
    assert_eq!(lab.shared.table.stats().sessions, 100);
    sent(&lab, UPLINK);
    lab.mark();
    for worker in &mut lab.workers {
        assert!(worker.may_stop());
        worker.drain();
    }
    let told: Vec<u16> = resets(&sent(&lab, UPLINK)).iter().map(|r| r.1).collect();
    assert_eq!(told, (40_000..40_100).collect::<Vec<_>>());
    lab.assert_moved(&[("splice-stopped", 100)]);
    assert_eq!(lab.shared.table.stats().sessions, 0);
}

#[test]
fn one_that_leaves_to_another_says_so_while_it_has_the_addresses() {
    let mut labs = [vrrp(3, 200), vrrp(4, 100)];
    run(&mut labs, 1_000);
    for n in 0..40 {
        open(&mut labs[0], (MAC4, "192.0.2.2"), 40_000 + n, 0);
    }
    clear(&labs);
    let (mut waited, mut told) = (0, Vec::new());
    let mut first = true;
    while !labs[0].workers[0].may_stop() {
        let frames = [TENANT, UPLINK].map(|port| sent(&labs[0], port));
        told.extend(resets(&frames[1]));
        // Its priority of 0 reaches the other.
        if std::mem::take(&mut first) {
            for (port, frames) in [TENANT, UPLINK].into_iter().zip(frames) {
                for (dst, src, packet) in frames {
                    let kind = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
                    labs[1].give(0, port, &eth(dst, src).carry_as(kind, &packet));
                }
            }
        }
        clear(&labs);
        step(&mut labs);
        waited += 1;
        assert!(waited < 200);
    }
    assert!(is_active(&labs[1]));
    let want: Vec<_> = (40_000..40_040).map(|port| (MAC4, port)).collect();
    told.sort_by_key(|r| r.1);
    assert_eq!(told, want, "from the virtual router's link-layer address");
    // Nothing after it has left.
    clear(&labs);
    labs[0].workers[0].drain();
    assert!(resets(&sent(&labs[0], UPLINK)).is_empty());
}

#[test]
fn one_that_becomes_standby_says_nothing_and_forgets() {
    let mut labs = [vrrp(3, 200), vrrp(4, 100)];
    // The lower one was alone for a while.
    run(&mut labs[1..], 1_000);
    for n in 0..40 {
        open(&mut labs[1], (MAC4, "192.0.2.2"), 40_000 + n, 0);
    }
    assert_eq!(labs[1].shared.table.stats().sessions, 40);
    clear(&labs);
    for _ in 0..20_000 {
        step(&mut labs);
        assert!(resets(&sent(&labs[1], UPLINK)).is_empty());
        clear(&labs);
    }
    assert_eq!((is_active(&labs[0]), is_active(&labs[1])), (true, false));
    assert_eq!(labs[1].shared.table.stats().sessions, 0);
    // Whoever speaks is told by the one that has the address now.
    let data = ip4(CLIENT, PROXY).tcp(&tcp(40_007, 80).seq(1000).ack(77).payload(b"GET"));
    labs[0].send(0, UPLINK, &eth(MAC4, ROUTER).carry(&data));
    let found = arp_reply(ROUTER, "192.0.2.1", MAC4, "192.0.2.2");
    labs[0].send(0, UPLINK, &eth(MAC4, ROUTER).carry(&found));
    assert_eq!(resets(&sent(&labs[0], UPLINK)), [(MAC4, 40_007)]);
}
