//! Connections that stay terminated because something cannot be matched: both streams all the same, and their ends.

use super::*;
use causeway_wire::checksum;

fn data(n: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..n).map(|_| dice.roll(256) as u8).collect()
}

/// Changes one option of the SYN to a server and of its answer: `change` gets the option, and may write over it.
fn option_of_syn(packet: &mut [u8], kind: u8, change: impl Fn(&mut [u8])) {
    if packet[0] >> 4 != 6 || packet[53] & SYN == 0 {
        return;
    }
    let mut at = 60;
    while at < 40 + usize::from(packet[52] >> 4) * 4 && packet[at] != 0 {
        let octets = if packet[at] == 1 { 1 } else { usize::from(packet[at + 1]) };
        if packet[at] == kind {
            change(&mut packet[at..at + octets]);
        }
        at += octets;
    }
    packet[56..58].fill(0);
    let address = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap().into();
    let upper = u32::try_from(packet.len() - 40).unwrap();
    let sum = checksum::pseudo6(address(8), address(24), 6, upper);
    let sum = !checksum::fold(checksum::sum(&packet[40..], sum));
    packet[56..58].copy_from_slice(&sum.to_be_bytes());
}

fn without_scale(packet: &mut [u8]) -> bool {
    option_of_syn(packet, 3, |o| o.fill(1));
    true
}

fn with_small_segments(packet: &mut [u8]) -> bool {
    option_of_syn(packet, 2, |o| o[2..].copy_from_slice(&1000u16.to_be_bytes()));
    true
}

fn relayed(mangle: fn(&mut Vec<u8>) -> bool, stamps: bool) -> World {
    let mut w = World::new(config(), vec![site("site1.example", Identity::Proxy1, &[VM1])]);
    w.mangle = mangle;
    w.client = Host::new(CLIENT, stamps.then_some(client_clock as fn() -> u32));
    w.servers[0] = Host::new(VM1, None);
    w.servers[0].listen(80);
    w.client.connect((PROXY, 80), 40_000);
    w
}

const HEADER: &[u8] = b"PROXY TCP4 198.51.100.99 203.0.113.80 40000 80\r\n";

#[test]
fn what_a_server_lacks_keeps_a_connection_terminated_and_both_streams_whole() {
    for (mangle, stamps, counter) in [
        ((|p| without_scale(p)) as fn(&mut Vec<u8>) -> bool, false, "splice-stays-for-scale"),
        (|p| with_small_segments(p), false, "splice-stays-for-mss"),
        (|_| true, true, "splice-stays-for-timestamps"),
    ] {
        for bad in [false, true] {
            let mut w = relayed(mangle, stamps);
            if bad {
                (w.loss, w.double, w.spread) = (3, 3, 2000);
            }
            let (up, down) = ([REQUEST, &data(150_000, 1)].concat(), data(150_000, 2));
            (w.client.to_send, w.servers[0].to_send) = (up.clone(), down.clone());
            // The client closes its half as soon as it has said all; the server goes on, and closes after it.
            w.client.closes = true;
            w.servers[0].follows = true;
            let done = w.run(Duration::from_secs(200), |w| {
                w.client.read.len() >= down.len() && w.servers[0].read.len() >= HEADER.len() + up.len()
            });
            let states = (w.client.state(), w.servers[0].state(), w.terminated());
            assert!(done, "{counter} {bad} {states:?}: {} {}", w.client.read.len(), w.servers[0].read.len());
            assert!(w.client.read == down && w.servers[0].read == [HEADER, &up].concat(), "{counter}");
            assert_eq!(w.counted(counter), 1);
            assert_eq!(w.counted("splice-to-clients") + w.counted("splice-to-servers"), 0);
            if counter.ends_with("mss") {
                let most = w.sent.iter().filter(|p| p[0] >> 4 == 6).map(Vec::len).max();
                assert!(most.is_some_and(|n| n <= 1060), "{most:?}");
            }
            let over = w.run(Duration::from_secs(90), |w| w.terminated() == 0);
            assert!(over, "{counter} {bad}: {:?} {:?}", w.client.state(), w.servers[0].state());
        }
    }
}

#[test]
fn rfc9293_3_6_a_half_of_a_terminated_connection_stays_open_while_the_other_is_closed() {
    let mut w = relayed(|p| without_scale(p), false);
    w.client.to_send = REQUEST.to_vec();
    w.client.closes = true;
    w.servers[0].follows = false;
    assert!(w.run(Duration::from_secs(5), |w| w.servers[0].state() == State::CloseWait));
    w.run(Duration::from_secs(20), |_| false);
    assert_eq!((w.terminated(), w.client.state()), (1, State::FinWait2));
    w.servers[0].to_send = data(40_000, 5);
    w.servers[0].closes = true;
    assert!(w.run(Duration::from_secs(20), |w| w.client.read == data(40_000, 5)));
    assert!(w.run(Duration::from_secs(20), |w| w.terminated() == 0));
    // The other way round.
    let mut w = relayed(|p| without_scale(p), false);
    w.servers[0].to_send = data(40_000, 6);
    w.servers[0].closes = true;
    w.client.follows = false;
    w.client.to_send = REQUEST.to_vec();
    assert!(w.run(Duration::from_secs(20), |w| w.client.read == data(40_000, 6)));
    assert!(w.run(Duration::from_secs(5), |w| w.client.state() == State::CloseWait));
    w.client.to_send = data(40_000, 7);
    w.client.closes = true;
    let all = [HEADER, REQUEST, &data(40_000, 7)].concat();
    assert!(w.run(Duration::from_secs(20), |w| w.servers[0].read == all));
    assert!(w.run(Duration::from_secs(20), |w| w.terminated() == 0));
}

#[test]
fn a_reset_of_either_end_of_a_terminated_connection_ends_the_other() {
    for client in [true, false] {
        let mut w = relayed(|p| without_scale(p), false);
        w.client.to_send = REQUEST.to_vec();
        assert!(w.run(Duration::from_secs(5), |w| w.servers[0].read.ends_with(REQUEST)));
        assert_eq!(w.terminated(), 1);
        if client {
            w.client.tcp().abort();
        } else {
            w.servers[0].tcp().abort();
        }
        let over = w.run(Duration::from_secs(5), |w| {
            (w.client.state(), w.servers[0].state()) == (State::Closed, State::Closed)
        });
        assert!(over && w.terminated() == 0, "{client}");
        let counter = if client { "splice-clients-reset" } else { "splice-servers-reset" };
        assert_eq!(w.counted(counter), 1);
    }
}
