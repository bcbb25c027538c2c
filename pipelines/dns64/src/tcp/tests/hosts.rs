//! What hosts see.

use super::*;
use causeway_tcp::segment;

const VM1: &str = "2001:db8:64::101";
const UPSTREAM: &str = "[2001:db8:6::53]:53";

fn host_that_asks(world: &mut World, messages: &[Vec<u8>]) -> usize {
    let mut host = Host::new(VM1, 65_535);
    host.connect(SERVER, 40_000);
    host.to_send = messages.iter().flat_map(|m| framed(m)).collect();
    world.hosts.push(host);
    world.hosts.len() - 1
}

#[test]
fn rfc7766_8_a_question_is_answered_length_and_message_in_one_segment() {
    let mut w = World::new(&settings());
    let h = host_that_asks(&mut w, &[message(1, 40)]);
    w.run(Duration::from_secs(1), World::echo);
    assert_eq!(w.hosts[h].messages(), [message(1, 40)]);
    // Its headers have 60 octets.
    let with_data: Vec<usize> = w.sent.iter().map(Vec::len).filter(|&n| n > 64).collect();
    assert_eq!(with_data, [60 + 2 + 40]);
    assert_eq!(w.streams.connections(), (1, 0));
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-received", 1), ("dns-tcp-sent", 1)]);
}

#[test]
fn rfc7766_7_questions_are_taken_without_waiting_and_answered_in_any_order() {
    let mut w = World::new(&settings());
    let all: Vec<Vec<u8>> = (0..10).map(|n| message(n, 30 + usize::from(n))).collect();
    let h = host_that_asks(&mut w, &all);
    w.seconds(1);
    let mut asked = w.take_events();
    assert_eq!(asked.len(), 10);
    while let Some(Event::Message { conn, octets, side, local, remote }) = asked.pop() {
        assert_eq!((side, local), (Side::Server, at(SERVER)));
        assert_eq!(remote, SocketAddr::new(VM1.parse().unwrap(), 40_000));
        w.send(conn, &octets).unwrap();
    }
    w.seconds(1);
    let got = w.hosts[h].messages();
    assert_eq!(got, all.into_iter().rev().collect::<Vec<_>>());
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-received", 10), ("dns-tcp-sent", 10)]);
}

#[test]
fn rfc7766_6_2_1_1_more_questions_than_are_taken_at_once_wait_and_none_is_lost() {
    let mut w = World::new(&Tcp { pipelined: 3, idle: Duration::from_secs(60), ..settings() });
    let all: Vec<Vec<u8>> = (0..400).map(|n| message(n, 50)).collect();
    let h = host_that_asks(&mut w, &all);
    w.seconds(1);
    assert_eq!(w.events.len(), 3);
    let mut got = Vec::new();
    w.run(Duration::from_secs(20), |w| {
        let asked = w.take_events();
        assert!(asked.len() <= 3);
        for event in asked {
            let Event::Message { conn, octets, .. } = event else { panic!("{event:?}") };
            w.send(conn, &octets).unwrap();
        }
        got.extend(w.hosts[h].messages());
    });
    assert_eq!(got, all);
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-received", 400), ("dns-tcp-sent", 400)]);
}

#[test]
fn rfc7766_8_a_question_may_come_octet_by_octet() {
    let mut w = World::new(&settings());
    let h = host_that_asks(&mut w, &[]);
    let stream = [framed(&message(1, 20)), framed(&message(2, 33))].concat();
    let mut rest = stream.into_iter();
    let mut got = Vec::new();
    w.run(Duration::from_secs(2), |w| {
        if w.hosts[h].tcp().send_queue() == 0 {
            w.hosts[h].to_send.extend(rest.next());
        }
        w.echo();
        got.extend(w.hosts[h].messages());
    });
    assert_eq!(got, [message(1, 20), message(2, 33)]);
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-received", 2), ("dns-tcp-sent", 2)]);
}

/// Many hosts over a bad network: everything arrives, once, whole.
fn over_a_bad_network(server: &str, address: impl Fn(usize) -> String, octets: usize) {
    let mut w = World::new(&Tcp { per_client: 64, idle: Duration::from_secs(60), ..settings() });
    (w.loss, w.spread) = (15, 3000);
    const HOSTS: usize = 20;
    for n in 0..HOSTS {
        let mut host = Host::new(&address(n), 65_535);
        host.connect(server, 40_000 + n as u16);
        host.to_send = (0..10).flat_map(|id| framed(&message(id, 30 + n))).collect();
        w.hosts.push(host);
    }
    let mut got: Vec<Vec<Vec<u8>>> = vec![Vec::new(); HOSTS];
    w.run(Duration::from_secs(100), |w| {
        for event in w.take_events() {
            if let Event::Message { conn, octets: m, .. } = event {
                let id = u16::from_be_bytes([m[0], m[1]]);
                w.send(conn, &message(id, octets)).unwrap();
            }
        }
        for (n, list) in got.iter_mut().enumerate() {
            list.extend(w.hosts[n].messages());
        }
    });
    let want: Vec<Vec<u8>> = (0..10).map(|id| message(id, octets)).collect();
    for (n, list) in got.iter().enumerate() {
        assert_eq!(list.len(), 10, "host {n} is in {:?}", w.hosts[n].state());
        assert!(*list == want, "host {n}");
    }
    let counted: HashMap<String, u64> = w.counters.nonzero().into_iter().collect();
    assert_eq!((counted["dns-tcp-accepted"], counted["dns-tcp-received"]), (20, 200));
    assert_eq!(counted["dns-tcp-sent"], 200);
    assert!(!counted.contains_key("dns-tcp-too-slow") && !counted.contains_key("dns-tcp-peer-reset"));
}

#[test]
fn rfc9293_3_8_all_answers_arrive_over_a_network_that_loses_and_reorders() {
    over_a_bad_network(SERVER, |n| format!("2001:db8:64::1:{n:x}"), 300);
}

#[test]
fn rfc9293_3_8_long_answers_arrive_over_a_network_that_loses_and_reorders() {
    over_a_bad_network(SERVER, |n| format!("2001:db8:64::1:{n:x}"), 5000);
}

#[test]
fn rfc9293_3_8_all_answers_arrive_over_ipv4() {
    over_a_bad_network(SERVER4, |n| format!("198.51.100.{}", 128 + n), 700);
}

#[test]
fn rfc1035_4_2_2_the_longest_answer_arrives() {
    let mut w = World::new(&settings());
    let h = host_that_asks(&mut w, &[message(1, 40)]);
    w.run(Duration::from_secs(5), |w| {
        for event in w.take_events() {
            if let Event::Message { conn, .. } = event {
                w.send(conn, &message(9, 65_535)).unwrap();
                assert_eq!(w.send(conn, &[0; 65_536]), Err(SendError::Length));
                assert_eq!(w.send(conn, &[0; 11]), Err(SendError::Length));
            }
        }
    });
    assert_eq!(w.hosts[h].messages(), [message(9, 65_535)]);
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-received", 1), ("dns-tcp-sent", 1)]);
}

#[test]
fn rfc9293_3_10_4_who_closes_its_half_still_gets_its_answers() {
    let mut w = World::new(&settings());
    let h = host_that_asks(&mut w, &[message(1, 40), message(2, 40)]);
    w.run(Duration::from_millis(100), |w| {
        if w.hosts[h].to_send.is_empty() {
            w.hosts[h].tcp().close();
        }
    });
    let asked = w.take_events();
    assert_eq!(asked.len(), 2);
    for (n, event) in asked.into_iter().enumerate() {
        let Event::Message { conn, .. } = event else { panic!("{event:?}") };
        assert!(w.take_events().is_empty());
        w.send(conn, &message(n as u16, 3000)).unwrap();
    }
    w.seconds(1);
    assert!(matches!(w.events[..], [Event::Closed { why: Why::Peer, side: Side::Server, .. }]));
    assert_eq!(w.hosts[h].messages(), [message(0, 3000), message(1, 3000)]);
    assert_eq!(w.hosts[h].state(), State::TimeWait);
    // It has the TIME-WAIT, we have nothing.
    assert_eq!(w.streams.connections(), (0, 0));
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-received", 2), ("dns-tcp-sent", 2)]);
}

#[test]
fn rfc7766_6_2_3_a_connection_that_is_idle_is_closed() {
    let mut w = World::new(&settings());
    let h = host_that_asks(&mut w, &[message(1, 40)]);
    w.run(Duration::from_secs(1), World::echo);
    w.run(Duration::from_secs(8), |_| {});
    assert!(w.events.is_empty() && w.hosts[h].state() == State::Established);
    w.run(Duration::from_secs(3), |w| {
        if w.hosts[h].state() == State::CloseWait {
            w.hosts[h].tcp().close();
        }
    });
    assert!(matches!(w.take_events()[..], [Event::Closed { why: Why::Idle, .. }]));
    assert_eq!(w.hosts[h].state(), State::Closed);
    // TIME-WAIT is ours.
    assert_eq!(w.streams.connections(), (1, 0));
    w.assert_counted(&[
        ("dns-tcp-accepted", 1),
        ("dns-tcp-idle-closed", 1),
        ("dns-tcp-received", 1),
        ("dns-tcp-sent", 1),
    ]);
}

#[test]
fn rfc9293_3_6_1_the_ends_of_a_connection_in_time_wait_can_be_used_again() {
    // With a number beyond the old connection's, and with one before.
    for (seq, challenged) in [(2_000_000, 0), (5000, 1)] {
        let mut w = World::new(&settings());
        let mut peer = raw::Peer { seq: 10_000, ..raw::Peer::new(1) };
        let ack = peer.greet(&mut w);
        w.receive(&ack).unwrap();
        let conn = peer.conn(&mut w);
        w.with(|s, now, out| s.close(conn, now, out));
        let fin = raw::seen(w.sent.last().unwrap());
        assert_eq!((fin.flags, fin.seq, fin.ack), ("FIN ACK", peer.ack, peer.seq));
        w.receive(&peer.say(&peer.segment().ack(peer.ack + 1).fin())).unwrap();
        assert_eq!(w.streams.connections(), (1, 0));
        let mut again = raw::Peer { seq, ..peer.clone() };
        if challenged > 0 {
            assert_eq!(w.receive(&again.syn()), Err(causeway_core::DropReason::DnsTcpChallenged));
            // RFC 9293 3.10.7.3: the answer is none to its SYN; it says so, and tries again.
            let challenge = raw::seen(w.sent.last().unwrap());
            assert_eq!((challenge.flags, challenge.ack), ("ACK", peer.seq + 1));
            w.receive(&peer.say(&causeway_testkit::tcp(peer.port, 53).seq(challenge.ack).rst())).unwrap();
            assert_eq!(w.streams.connections(), (0, 0));
        }
        let ack = again.greet(&mut w);
        assert!(!segment::before(again.ack, peer.ack) || challenged > 0);
        w.receive(&ack).unwrap();
        again.conn(&mut w);
        assert_eq!(w.streams.connections(), (1, 0));
        let mut want = vec![("dns-tcp-accepted", 2), ("dns-tcp-received", 2)];
        if challenged > 0 {
            want.push(("drop.dns-tcp-challenged", 1));
        }
        w.assert_counted(&want);
    }
}

#[test]
fn time_wait_ends_by_itself() {
    let mut w = World::new(&settings());
    let h = host_that_asks(&mut w, &[message(1, 40)]);
    w.run(Duration::from_secs(12), |w| {
        w.echo();
        if w.hosts[h].state() == State::CloseWait {
            w.hosts[h].tcp().close();
        }
    });
    assert_eq!(w.streams.connections(), (1, 0));
    w.seconds(20);
    assert_eq!(w.streams.connections(), (0, 0));
    assert_eq!(w.streams.next_deadline(), None);
    assert_eq!(w.streams.octets(), 0);
    w.assert_counted(&[
        ("dns-tcp-accepted", 1),
        ("dns-tcp-idle-closed", 1),
        ("dns-tcp-received", 1),
        ("dns-tcp-sent", 1),
    ]);
}

#[test]
fn a_client_that_reads_nothing_is_bounded_in_memory_and_time() {
    let mut w = World::new(&Tcp { pipelined: 10, ..settings() });
    let all: Vec<Vec<u8>> = (0..600).map(|n| message(n, 40)).collect();
    let h = host_that_asks(&mut w, &all);
    w.hosts[h].reads = false;
    let (mut answered, mut most) = (0, 0);
    w.run(Duration::from_secs(60), |w| {
        for event in w.take_events() {
            match event {
                Event::Message { conn, .. } => {
                    w.send(conn, &message(1, 20_000)).unwrap();
                    answered += 1;
                }
                other => w.events.push(other),
            }
        }
        most = most.max(w.streams.octets());
        if w.events.is_empty() {
            return;
        }
        assert!(matches!(w.events[..], [Event::Closed { why: Why::Slow, .. }]));
    });
    // Its window and our send buffer have 9 answers, then 10 questions at most were under way.
    assert!(answered < 30, "{answered}");
    assert!(most < SERVER_OCTETS + 2 * BACKLOG, "{most}");
    assert_eq!(w.events.len(), 1);
    assert_eq!(w.streams.connections(), (0, 0));
    assert_eq!(w.streams.octets(), 0);
    w.assert_counted(&[
        ("dns-tcp-accepted", 1),
        ("dns-tcp-received", answered),
        ("dns-tcp-sent", answered),
        ("dns-tcp-too-slow", 1),
    ]);
}

#[test]
fn what_has_no_room_resets_the_connection() {
    let mut w = World::new(&Tcp { pipelined: 100, ..settings() });
    let all: Vec<Vec<u8>> = (0..20).map(|n| message(n, 20)).collect();
    let h = host_that_asks(&mut w, &all);
    w.hosts[h].reads = false;
    w.seconds(1);
    let asked = w.take_events();
    let mut results = Vec::new();
    for event in &asked {
        let Event::Message { conn, .. } = event else { panic!("{event:?}") };
        results.push(w.send(*conn, &message(1, 60_000)));
    }
    assert_eq!(results[..4], [Ok(()); 4]);
    assert_eq!(results[4], Err(SendError::Slow));
    assert_eq!(results[5..], [Err(SendError::Closed); 15]);
    assert!(matches!(w.events[..], [Event::Closed { why: Why::Slow, .. }]));
    w.seconds(1);
    assert_eq!(w.hosts[h].state(), State::Closed);
    w.assert_counted(&[
        ("dns-tcp-accepted", 1),
        ("dns-tcp-received", 20),
        ("dns-tcp-sent", 4),
        ("dns-tcp-too-slow", 1),
    ]);
}

#[test]
fn a_question_without_an_answer_does_not_keep_the_connection_for_ever() {
    let mut w = World::new(&settings());
    let _ = host_that_asks(&mut w, &[message(1, 40)]);
    w.seconds(29);
    assert!(matches!(w.take_events()[..], [Event::Message { .. }]));
    assert_eq!(w.streams.connections(), (1, 0));
    w.seconds(3);
    assert!(matches!(w.take_events()[..], [Event::Closed { why: Why::Idle, .. }]));
    // The host never closes its half.
    w.seconds(6);
    assert_eq!(w.streams.connections(), (0, 0));
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-idle-closed", 1), ("dns-tcp-received", 1)]);
}

#[test]
fn a_question_that_is_told_to_get_no_answer_no_longer_counts() {
    let mut w = World::new(&Tcp { pipelined: 1, ..settings() });
    let h = host_that_asks(&mut w, &[message(1, 40), message(2, 40)]);
    w.seconds(1);
    let [Event::Message { conn, .. }] = w.take_events()[..] else { panic!("one question") };
    w.with(|s, now, out| s.unanswered(conn, now, out));
    w.run(Duration::from_secs(1), World::echo);
    assert_eq!(w.hosts[h].messages(), [message(2, 40)]);
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-received", 2), ("dns-tcp-sent", 1)]);
}

#[test]
fn rfc7766_5_questions_go_to_an_upstream_and_long_answers_come_back() {
    for (loss, spread) in [(0, 0), (15, 3000)] {
        let mut w = World::new(&Tcp { idle: Duration::from_secs(60), ..settings() });
        (w.loss, w.spread) = (loss, spread);
        let mut upstream = Host::new("2001:db8:6::53", 65_535);
        upstream.listen();
        w.hosts.push(upstream);
        let local = at("[2001:db8:ffff::2]:50000");
        let conn = w.with(|s, now, out| s.connect(local, at(UPSTREAM), egress(), now, out)).unwrap();
        // Before it is open.
        w.send(conn, &message(1, 33)).unwrap();
        w.send(conn, &message(2, 34)).unwrap();
        let mut asked = Vec::new();
        w.run(Duration::from_secs(20), |w| {
            for m in w.hosts[0].messages() {
                let id = u16::from_be_bytes([m[0], m[1]]);
                w.hosts[0].to_send.extend(framed(&message(id, 65_535 - usize::from(id))));
                asked.push(m);
            }
        });
        assert_eq!(asked, [message(1, 33), message(2, 34)]);
        let events = w.take_events();
        let [
            Event::Connected { conn: a },
            Event::Message { conn: b, octets: one, side, local: l, remote },
            m2,
        ] = &events[..]
        else {
            panic!("{} events", events.len())
        };
        assert_eq!((*a, *b, *side, *l, *remote), (conn, conn, Side::Client, local, at(UPSTREAM)));
        let Event::Message { octets: two, .. } = m2 else { panic!("{m2:?}") };
        assert!(*one == message(1, 65_534) && *two == message(2, 65_533));
        assert!(w.streams.octets() <= CLIENT_OCTETS);
        w.with(|s, now, out| s.close(conn, now, out));
        assert_eq!(w.send(conn, &message(3, 40)), Err(SendError::Closed));
        w.run(Duration::from_secs(30), |w| {
            if w.hosts[0].state() == State::CloseWait {
                w.hosts[0].tcp().close();
            }
        });
        assert!(w.take_events().is_empty());
        assert_eq!(w.streams.connections(), (0, 0));
        w.assert_counted(&[("dns-tcp-opened", 1), ("dns-tcp-received", 2), ("dns-tcp-sent", 2)]);
    }
}

#[test]
fn an_upstream_that_closes_or_does_not_answer_is_told() {
    let mut w = World::new(&settings());
    let mut upstream = Host::new("192.0.2.53", 65_535);
    upstream.listen();
    w.hosts.push(upstream);
    let connect = |w: &mut World, local: &str, to: &str| {
        w.with(|s, now, out| s.connect(at(local), at(to), egress(), now, out))
    };
    let conn = connect(&mut w, "192.0.2.2:50000", SERVER4).unwrap();
    w.run(Duration::from_secs(1), |w| {
        if w.hosts[0].state() == State::Established {
            w.hosts[0].to_send = framed(&message(5, 2000));
            w.hosts[0].work(w.now);
            w.hosts[0].tcp().close();
        }
    });
    let events = w.take_events();
    assert_eq!(events[0], Event::Connected { conn });
    assert!(matches!(&events[1], Event::Message { octets, .. } if *octets == message(5, 2000)));
    assert_eq!(events[2..], [Event::Closed { conn, side: Side::Client, why: Why::Peer }]);
    assert_eq!(w.streams.connections(), (0, 0));
    // Now nobody listens: a reset.
    w.seconds(12);
    let conn = connect(&mut w, "192.0.2.2:50001", SERVER4).unwrap();
    w.seconds(1);
    assert_eq!(w.take_events(), [Event::Closed { conn, side: Side::Client, why: Why::Reset }]);
    // And nobody is there.
    w.loss = 100;
    let conn = connect(&mut w, "192.0.2.2:50002", SERVER4).unwrap();
    assert_eq!(connect(&mut w, "192.0.2.2:50002", SERVER4), Err(ConnectError::InUse));
    w.seconds(9);
    assert!(w.take_events().is_empty());
    w.seconds(2);
    assert_eq!(w.take_events(), [Event::Closed { conn, side: Side::Client, why: Why::Timeout }]);
    // Or a router says so (RFC 5927 5.2).
    let conn = connect(&mut w, "192.0.2.2:50003", SERVER4).unwrap();
    w.with(|s, now, out| s.on_unreachable(at("192.0.2.2:50003"), at(SERVER4), now, out));
    assert_eq!(w.take_events(), [Event::Closed { conn, side: Side::Client, why: Why::Reset }]);
    assert_eq!(w.streams.connections(), (0, 0));
    w.assert_counted(&[("dns-tcp-opened", 1), ("dns-tcp-peer-reset", 1), ("dns-tcp-received", 1)]);
}

#[test]
fn connections_to_upstreams_are_bounded_and_have_ends_that_can_be() {
    let mut w = World::new(&settings());
    w.loss = 100;
    let connect = |w: &mut World, local: &str, to: &str| {
        w.with(|s, now, out| s.connect(at(local), at(to), egress(), now, out))
    };
    for (local, remote) in [
        ("[::]:5000", UPSTREAM),
        ("[2001:db8::1]:0", UPSTREAM),
        ("192.0.2.1:5000", UPSTREAM),
        ("[ff02::1]:5000", UPSTREAM),
        ("[2001:db8::1]:5000", "[ff02::fb]:53"),
        ("192.0.2.1:5000", "255.255.255.255:53"),
        (UPSTREAM, UPSTREAM),
    ] {
        assert_eq!(connect(&mut w, local, remote), Err(ConnectError::Unaddressable), "{local} {remote}");
    }
    for n in 0..OUTGOING {
        connect(&mut w, &format!("[2001:db8:ffff::2]:{}", 2000 + n), UPSTREAM).unwrap();
    }
    assert_eq!(connect(&mut w, "[2001:db8:ffff::2]:9999", UPSTREAM), Err(ConnectError::Full));
    assert_eq!(w.streams.connections(), (0, OUTGOING));
    assert!(w.streams.octets() <= OUTGOING * CLIENT_OCTETS);
    w.seconds(11);
    assert_eq!(w.take_events().len(), OUTGOING);
    connect(&mut w, "[2001:db8:ffff::2]:9999", UPSTREAM).unwrap();
    w.assert_counted(&[]);
}

#[test]
fn connections_of_an_address_that_is_ours_no_longer_are_forgotten_without_a_packet() {
    let mut w = World::new(&settings());
    let _ = host_that_asks(&mut w, &[message(1, 40)]);
    w.run(Duration::from_secs(1), World::echo);
    let sent = w.sent.len();
    w.with(|s, _, out| s.retain(|a| a != at(SERVER).ip(), out));
    assert!(matches!(w.take_events()[..], [Event::Closed { why: Why::Gone, .. }]));
    assert_eq!((w.streams.connections(), w.sent.len()), ((0, 0), sent));
    assert_eq!(w.streams.next_deadline(), None);
    w.assert_counted(&[("dns-tcp-accepted", 1), ("dns-tcp-received", 1), ("dns-tcp-sent", 1)]);
}
