//! Streams of octets from end to end.

use super::*;

fn data(n: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..n).map(|_| dice.roll(256) as u8).collect()
}

/// Everything that both ends are sent arrives; true if the gateway is left with nothing.
fn exchanged(w: &mut World, server: usize, to_server: &[u8], to_client: &[u8]) {
    let done = w.run(Duration::from_secs(120), |w| {
        w.servers[server].read.len() >= to_server.len() && w.client.read.len() >= to_client.len()
    });
    assert!(
        done,
        "{} of {} to the server ({:?}), {} of {} to the client ({:?})",
        w.servers[server].read.len(),
        to_server.len(),
        w.servers[server].state(),
        w.client.read.len(),
        to_client.len(),
        w.client.state(),
    );
    assert!(w.servers[server].read == to_server, "the server read something else");
    assert!(w.client.read == to_client, "the client read something else");
}

fn closes(w: &mut World, server: usize) {
    w.client.closes = true;
    let done = w.run(Duration::from_secs(60), |w| {
        matches!(w.client.state(), State::TimeWait | State::Closed)
            && matches!(w.servers[server].state(), State::TimeWait | State::Closed)
    });
    assert!(done, "{:?} {:?}", w.client.state(), w.servers[server].state());
}

#[test]
fn a_request_reaches_the_site_and_the_connection_is_spliced() {
    let mut w = World::new(config(), vec![site("site1.example", Identity::None, &[VM1])]);
    w.servers[0].listen(80);
    w.servers[0].to_send = data(100_000, 3);
    w.client.connect((PROXY, 80), 40_000);
    w.client.to_send = REQUEST.to_vec();
    exchanged(&mut w, 0, REQUEST, &data(100_000, 3));
    assert_eq!(w.terminated(), 0);
    assert_eq!((w.counted("splice-accepted"), w.counted("splice-servers-opened")), (1, 1));
    assert!(w.counted("splice-to-clients") > 60);
    closes(&mut w, 0);
}

#[test]
fn streams_stay_whole_over_the_splice_whatever_is_lost_doubled_or_late() {
    for (round, (stamps, loss, spread)) in
        [(true, 0, 3000), (false, 0, 3000), (true, 5, 3000), (false, 5, 2000), (true, 15, 500)]
            .into_iter()
            .enumerate()
    {
        for (identity, header) in [(Identity::None, 0), (Identity::Proxy2, 28), (Identity::Embedded(0), 0)] {
            let mut w = World::new(config(), vec![site("site1.example", identity, &[VM1])]);
            w.dice = Dice(round as u64 * 7 + 5);
            (w.loss, w.double, w.spread) = (loss, 5, spread);
            w.client = Host::new(CLIENT, stamps.then_some(client_clock as fn() -> u32));
            w.servers[0].listen(80);
            let (up, down) = ([REQUEST, &data(60_000, 1)].concat(), data(60_000, 2));
            w.servers[0].to_send = down.clone();
            w.client.connect((PROXY, 80), 40_000);
            w.client.to_send = up.clone();
            let done = w.run(Duration::from_secs(300), |w| {
                w.servers[0].read.len() >= up.len() + header && w.client.read.len() >= down.len()
            });
            let server = w.servers[0].read.clone();
            assert!(done, "{round} {identity:?}: {} {}", server.len(), w.client.read.len());
            assert!(server.ends_with(&up) && w.client.read == down, "{round} {identity:?}");
            if header != 0 {
                // 12 octets of signature, and the addresses of version 2 (28), with the host as a TLV.
                assert_eq!(server[..12], *b"\r\n\r\n\0\r\nQUIT\n");
            }
            assert_eq!(w.terminated(), 0, "{round} {identity:?}");
            assert_eq!(w.counted("splice-accepted"), 1);
            closes(&mut w, 0);
        }
    }
}

#[test]
fn a_server_that_speaks_first_is_not_kept_waiting() {
    let mut w = World::new(config(), vec![site("site1.example", Identity::Proxy1, &[VM1])]);
    w.servers[0].listen(2525);
    w.servers[0].to_send = b"220 ready\r\n".to_vec();
    w.client.connect((PROXY, 2525), 40_000);
    let before = w.rig.now;
    assert!(w.run(Duration::from_secs(5), |w| w.client.read == b"220 ready\r\n"));
    assert!(w.rig.now.since(before) < Duration::from_millis(50));
    assert_eq!(w.servers[0].read, b"PROXY TCP4 198.51.100.99 203.0.113.80 40000 2525\r\n");
    assert_eq!(w.terminated(), 0);
    w.client.to_send = b"QUIT\r\n".to_vec();
    assert!(w.run(Duration::from_secs(5), |w| w.servers[0].read.ends_with(b"QUIT\r\n")));
    closes(&mut w, 0);
}

#[test]
fn a_connection_with_nothing_ahead_is_spliced_with_the_servers_syn_ack() {
    let mut w = World::new(config(), vec![site("site1.example", Identity::None, &[VM1])]);
    w.servers[0].listen(2525);
    w.client.connect((PROXY, 2525), 40_000);
    assert!(w.run(Duration::from_secs(5), |w| w.servers[0].state() == State::Established));
    assert_eq!(w.terminated(), 0);
    w.client.to_send = data(30_000, 1);
    w.servers[0].to_send = data(30_000, 2);
    exchanged(&mut w, 0, &data(30_000, 1), &data(30_000, 2));
    closes(&mut w, 0);
}

#[test]
fn rfc7323_3_2_a_server_without_the_timestamps_that_were_promised_is_served_terminated() {
    let mut w = World::new(config(), vec![site("site1.example", Identity::None, &[VM1])]);
    w.servers[0] = Host::new(VM1, None);
    (w.loss, w.double, w.spread) = (3, 3, 2000);
    w.servers[0].listen(80);
    let (up, down) = ([REQUEST, &data(50_000, 1)].concat(), data(50_000, 2));
    (w.client.to_send, w.servers[0].to_send) = (up.clone(), down.clone());
    w.client.connect((PROXY, 80), 40_000);
    exchanged(&mut w, 0, &up, &down);
    assert_eq!((w.terminated(), w.counted("splice-stays-for-timestamps")), (1, 1));
    closes(&mut w, 0);
    w.run(Duration::from_secs(15), |_| false);
    assert_eq!(w.terminated(), 0);
}

#[test]
fn a_connection_that_stays_terminated_ends_when_it_is_idle() {
    let mut w = World::new(config(), vec![site("site1.example", Identity::None, &[VM1])]);
    w.servers[0] = Host::new(VM1, None);
    w.servers[0].listen(80);
    w.client.connect((PROXY, 80), 40_000);
    w.client.to_send = REQUEST.to_vec();
    assert!(w.run(Duration::from_secs(5), |w| w.servers[0].read == REQUEST));
    w.run(Duration::from_secs(70), |_| false);
    assert_eq!((w.terminated(), w.counted("splice-terminated-idle")), (0, 1));
    assert_eq!((w.client.state(), w.servers[0].state()), (State::Closed, State::Closed));
}

#[test]
fn a_server_that_refuses_or_is_silent_gives_way_to_the_next() {
    for silent in [false, true] {
        let mut w = World::new(config(), vec![site("site1.example", Identity::None, &[VM1, VM2])]);
        if silent {
            w.servers.clear();
        }
        w.servers.push(Host::new(VM2, Some(server_clock)));
        w.servers.last_mut().unwrap().listen(80);
        let last = w.servers.len() - 1;
        // One of a few clients gets the wrong one first.
        for port in 40_000..40_008 {
            w.client = Host::new(CLIENT, Some(client_clock));
            let server = &mut w.servers[last];
            *server = Host::new(VM2, Some(server_clock));
            server.listen(80);
            server.to_send = b"hello".to_vec();
            w.client.connect((PROXY, 80), port);
            w.client.to_send = REQUEST.to_vec();
            assert!(w.run(Duration::from_secs(10), |w| w.client.read == b"hello"), "{silent} {port}");
            w.network.clear();
        }
        let failed = w.counted(if silent { "splice-servers-silent" } else { "splice-servers-refused" });
        assert!(failed > 0, "{silent}");
        assert_eq!(w.terminated(), 0);
    }
}

#[test]
fn without_any_server_the_client_is_told_and_closed_in_order() {
    let mut w = World::new(config(), vec![site("site1.example", Identity::None, &[VM1])]);
    w.client.connect((PROXY, 80), 40_000);
    w.client.to_send = REQUEST.to_vec();
    assert!(w.run(Duration::from_secs(5), |w| w.client.read.starts_with(b"HTTP/1.1 502 ")));
    assert_eq!((w.counted("splice-servers-refused"), w.counted("splice-servers-failed")), (1, 1));
    assert!(w.run(Duration::from_secs(5), |w| w.client.state() == State::Closed && w.terminated() == 0));
}

#[test]
fn rfc9110_15_5_20_who_names_no_site_of_ours_is_told() {
    let mut w = World::new(config(), vec![site("site1.example", Identity::None, &[VM1])]);
    w.client.connect((PROXY, 80), 40_000);
    w.client.to_send = b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n".to_vec();
    (w.loss, w.spread) = (10, 1000);
    assert!(w.run(Duration::from_secs(20), |w| w.client.read.starts_with(b"HTTP/1.1 421 ")));
    assert_eq!(w.counted("splice-unknown-name"), 1);
    assert!(w.run(Duration::from_secs(20), |w| w.client.state() == State::Closed && w.terminated() == 0));
}

#[test]
fn rfc6066_3_a_tls_client_gets_an_alert_and_a_long_hello_is_read_over_many_segments() {
    let hello = causeway_testkit::hello::Hello::browser("site1.example").with(0x7777, &[7; 30_000]).octets();
    let mut w = World::new(config(), vec![site("site1.example", Identity::None, &[VM1])]);
    (w.loss, w.double, w.spread) = (5, 5, 3000);
    w.servers[0].listen(443);
    w.servers[0].to_send = data(5000, 9);
    w.client.connect((PROXY, 443), 40_000);
    w.client.to_send = hello.clone();
    exchanged(&mut w, 0, &hello, &data(5000, 9));
    assert_eq!(w.terminated(), 0);

    let mut w = World::new(config(), vec![]);
    w.client.connect((PROXY, 443), 40_000);
    w.client.to_send = causeway_testkit::hello::Hello::browser("site1.example").octets();
    assert!(w.run(Duration::from_secs(5), |w| w.client.read == [21, 3, 3, 0, 2, 2, 112]));
}

#[test]
fn half_closed_before_the_splice_the_answer_still_comes() {
    let mut w = World::new(config(), vec![site("site1.example", Identity::None, &[VM1])]);
    w.servers[0].listen(80);
    w.servers[0].follows = false;
    w.client.connect((PROXY, 80), 40_000);
    w.client.to_send = REQUEST.to_vec();
    w.client.closes = true;
    assert!(w.run(Duration::from_secs(5), |w| w.servers[0].state() == State::CloseWait));
    assert!(w.run(Duration::from_secs(1), |w| w.terminated() == 0));
    assert_eq!(w.servers[0].read, REQUEST);
    w.servers[0].to_send = data(20_000, 1);
    w.servers[0].closes = true;
    assert!(w.run(Duration::from_secs(5), |w| w.client.read == data(20_000, 1)));
    assert!(w.run(Duration::from_secs(5), |w| w.servers[0].state() == State::Closed));
}
