//! Time, upstreams that do not answer, and reloads.

use super::*;

#[test]
fn a_question_that_times_out_goes_to_another_upstream_and_the_late_answer_counts() {
    let mut w = World::new(&[ONE, TWO]);
    let q = w.asked("www.example.");
    w.pass(ms(799));
    assert!(w.sent.is_empty());
    w.pass(ms(1));
    // A probe to the one that did not answer, and the question to the other.
    let (probes, asked): (Vec<Sent>, Vec<Sent>) =
        std::mem::take(&mut w.sent).into_iter().partition(Sent::is_probe);
    assert_eq!((probes.len(), asked.len()), (1, 1));
    assert_eq!(probes[0].to, q.to);
    assert_ne!(asked[0].to, q.to);
    assert_ne!(asked[0].port, q.port);
    w.pass(ms(100));
    assert_eq!(w.answer(&q, &good(&q.octets)), Ok(()));
    let done = w.done();
    assert!(done.result.is_ok());
    assert_eq!((done.upstream, done.took), (Some(q.to), ms(900)));
    assert_eq!(w.answer(&asked[0], &good(&asked[0].octets)), Err(DropReason::Dns64UpstreamPort));
    w.idle();
    w.counted(&[
        ("dns64-upstream-asked", 2),
        ("dns64-upstream-answered", 1),
        ("dns64-upstream-timeouts", 1),
        ("dns64-upstream-probes", 1),
        ("drop.dns64-upstream-port", 1),
    ]);
}

#[test]
fn patience_ends_and_no_more_than_so_many_tries_are_made() {
    let mut w = World::new(&[ONE, TWO]);
    w.ask("www.example.").expect("a fetch");
    // The probes are answered, the question is not: its name is the trouble.
    let (mut asked, mut left) = (vec![], 4000);
    while left > 0 {
        for q in std::mem::take(&mut w.sent) {
            if q.is_probe() {
                assert_eq!(w.answer(&q, &answer(&q.octets, 2, &[])), Ok(()));
            } else {
                asked.push((4000 - left, q.to));
            }
        }
        assert!(w.done.is_empty());
        w.pass(ms(10));
        left -= 10;
    }
    let done = w.done();
    assert_eq!((error(&done), done.upstream, done.took), (Some(FetchError::Timeout), None, ms(4000)));
    assert_eq!(asked.len(), 3);
    assert_ne!(asked[0].1, asked[1].1);
    assert!(w.u.peers.iter().all(|p| p.health.down_since().is_none()), "resolvers that answer probes are up");
    w.idle();
}

#[test]
fn an_upstream_that_is_down_costs_one_timeout_and_not_one_per_query() {
    let mut w = World::new(&[ONE, TWO]);
    // The first answers nothing from now on.
    let dead = s(ONE);
    let mut slow = 0;
    for i in 0..200 {
        w.ask(&format!("n{i}.example.")).expect("a fetch");
        let before = w.now;
        while w.done.is_empty() {
            for q in std::mem::take(&mut w.sent) {
                if q.to != dead && !q.is_probe() {
                    w.answer(&q, &good(&q.octets)).expect("the answer");
                }
            }
            if w.done.is_empty() {
                w.pass(ms(5));
            }
        }
        assert!(w.done().result.is_ok());
        slow += u32::from(w.now.since(before) > ms(100));
        w.pass(ms(20));
    }
    assert_eq!(slow, 1, "questions that had to wait");
    assert!(w.of_upstream(0).down.load(Relaxed) && !w.of_upstream(1).down.load(Relaxed));
    assert_eq!(w.of_upstream(0).timeouts.load(Relaxed), 1);
    assert_eq!(w.of_upstream(0).asked.load(Relaxed), 1, "but for probes");
    assert_eq!(w.counters.get(Counter::Dns64UpstreamWentDown), 1);
    // It comes back: the next probe finds out, without anybody having to wait.
    w.sent.clear();
    let before = w.now;
    while w.sent.is_empty() {
        w.pass(ms(10));
    }
    assert!(w.now.since(before) < ms(20_000));
    let probe = w.sent();
    assert_eq!(probe.to, dead);
    assert_eq!(w.answer(&probe, &answer(&probe.octets, 5, &[])), Ok(()), "any answer shows that it lives");
    assert!(!w.of_upstream(0).down.load(Relaxed));
}

#[test]
fn while_all_are_down_a_short_outage_is_waited_for_and_a_long_one_is_not() {
    let mut w = World::new(&[ONE]);
    w.ask("first.example.").expect("a fetch");
    // Until the probe is lost too.
    while w.u.peers[0].health.down_since().is_none() {
        w.pass(ms(10));
    }
    w.sent.clear();
    w.done.clear();
    w.ask("waits.example.").expect("a fetch");
    assert!(w.sent.is_empty(), "nothing but probes goes to an upstream that is down");
    w.pass(ms(510));
    let probe = w.sent.iter().find(|q| q.is_probe()).cloned().expect("a probe after 500 ms");
    w.sent.clear();
    w.answer(&probe, &answer(&probe.octets, 0, &[])).expect("the answer");
    w.pass(ms(110));
    let q = w
        .sent
        .iter()
        .rev()
        .find(|q| !q.is_probe())
        .cloned()
        .expect("the question, now that there is an upstream");
    w.answer(&q, &good(&q.octets)).expect("the answer");
    assert!(w.done.iter().any(|d| d.result.is_ok() && d.question == question("waits.example.")));
    // Down for long: refused at once.
    w.ask("second.example.").expect("a fetch");
    w.pass(ms(12_000));
    (w.done, w.sent) = (vec![], vec![]);
    assert_eq!(w.ask("third.example."), Err(FetchError::Timeout));
    assert!(w.sent.is_empty() && w.done.is_empty());
    // Waiting has an end.
    w.idle();
}

#[test]
fn waiting_for_an_upstream_to_come_back_ends_after_a_second() {
    let mut w = World::new(&[ONE]);
    w.ask("first.example.").expect("a fetch");
    while w.u.peers[0].health.down_since().is_none() {
        w.pass(ms(10));
    }
    w.ask("waits.example.").expect("a fetch");
    w.done.clear();
    w.pass(ms(990));
    assert!(w.done.iter().all(|d| d.question != question("waits.example.")));
    w.pass(ms(20));
    let done = w.done.iter().find(|d| d.question == question("waits.example.")).expect("an end");
    assert_eq!((error(done), done.took), (Some(FetchError::Timeout), ms(1000)));
}

#[test]
fn rfc1122_4_1_3_3_an_icmp_error_moves_the_question_to_another_upstream_if_there_is_one() {
    let mut w = World::new(&[ONE, TWO]);
    let q = w.asked("www.example.");
    let other = s(if q.to == s(ONE) { TWO } else { ONE });
    assert!(!w.unreachable(other, q.port), "not sent there");
    assert!(!w.unreachable(q.to, q.port ^ 1), "not sent from there");
    assert!(w.unreachable(q.to, q.port));
    let next: Vec<Sent> = std::mem::take(&mut w.sent).into_iter().filter(|s| !s.is_probe()).collect();
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].to, other);
    // It may have been forged: the first is still heard.
    assert_eq!(w.answer(&q, &good(&q.octets)), Ok(()));
    assert!(w.done().result.is_ok());
    // With one upstream, errors cannot use up the tries.
    let mut w = World::new(&[ONE]);
    let q = w.asked("www.example.");
    for _ in 0..5 {
        assert!(w.unreachable(q.to, q.port));
    }
    assert!(w.sent.iter().all(Sent::is_probe) && w.done.is_empty());
    assert_eq!(w.answer(&q, &good(&q.octets)), Ok(()));
    w.sent.clear();
    // A probe that cannot arrive shows that the upstream is down.
    let q = w.asked("other.example.");
    w.pass(ms(500));
    let probe = w.sent.iter().find(|s| s.is_probe()).cloned().expect("a probe");
    assert!(w.unreachable(probe.to, probe.port));
    assert!(w.of_upstream(0).down.load(Relaxed));
    assert_eq!(w.answer(&q, &good(&q.octets)), Ok(()), "and this, that it is not");
    assert!(!w.of_upstream(0).down.load(Relaxed));
}

#[test]
fn the_fastest_upstream_is_asked_most_and_the_others_now_and_then() {
    let mut w = World::new(&[ONE, TWO]);
    let mut asked = [0u32; 2];
    for i in 0..1000 {
        let q = w.asked(&format!("n{i}.example."));
        let at = usize::from(q.to == s(TWO));
        asked[at] += 1;
        // The second is ten times as fast.
        w.pass(ms(if at == 0 { 50 } else { 5 }));
        w.answer(&q, &good(&q.octets)).expect("the answer");
        w.done();
    }
    assert!(asked[1] > 900 && (3..60).contains(&asked[0]), "{asked:?}");
    assert!(
        w.of_upstream(0).srtt_us.load(Relaxed) > 40_000 && w.of_upstream(1).srtt_us.load(Relaxed) < 6_000
    );
}

#[test]
fn a_reload_keeps_what_is_known_and_what_is_under_way() {
    let mut w = World::new(&[ONE, TWO]);
    let q = w.asked("www.example.");
    w.pass(ms(20));
    w.answer(&q, &good(&q.octets)).expect("the answer");
    w.done();
    let first = w.asked("under.way.example.");
    let gone = first.to;
    let stays = if gone == s(ONE) { TWO } else { ONE };
    let new = config(&[stays, FOREIGN]);
    w.status = status(&new);
    w.u.set_config(&new, Arc::clone(&w.status));
    // Its upstream is gone from the configuration, its answer still counts.
    assert_eq!(w.answer(&first, &good(&first.octets)), Ok(()));
    assert!(w.done().result.is_ok());
    for i in 0..50 {
        assert_ne!(w.asked(&format!("n{i}.example.")).to, gone);
    }
    // What was known of the one that stays.
    let known = w.u.peers.iter().find(|p| p.address == s(stays)).expect("it stays");
    assert_eq!(known.rtt.mean_us() > 0, q.to == s(stays));
    // To none at all.
    w.u.set_config(&config(&[]), status(&config(&[])));
    w.pass(ms(10_000));
    assert_eq!(w.done.len(), 50);
    w.idle();
    assert_eq!(w.ask("www.example."), Err(FetchError::Timeout));
}

#[test]
fn a_probe_of_an_upstream_that_is_gone_leaves_nothing_open() {
    let mut w = World::new(&[ONE]);
    w.ask("www.example.").expect("a fetch");
    w.pass(ms(900));
    assert!(w.u.peers[0].probe.is_some());
    let probe = w.sent.iter().find(|s| s.is_probe()).cloned().expect("a probe");
    w.u.set_config(&config(&[TWO]), status(&config(&[TWO])));
    assert_eq!(w.answer(&probe, &answer(&probe.octets, 0, &[])), Err(DropReason::Dns64UpstreamPort));
    w.pass(ms(10_000));
    assert!(w.u.ports.values().all(|o| *o == Owner::Probe(s(TWO))));
}

#[test]
fn a_probe_is_answered_by_its_upstream_only() {
    let mut w = World::new(&[ONE]);
    w.ask("www.example.").expect("a fetch");
    w.pass(ms(800));
    let probe = w.sent.iter().find(|s| s.is_probe()).cloned().expect("a probe");
    let right = answer(&probe.octets, 0, &[]);
    assert_eq!(w.datagram(s(FOREIGN), probe.port, &right), Err(DropReason::Dns64UpstreamSource));
    let mut other_id = right.clone();
    other_id[0] ^= 1;
    assert_eq!(w.answer(&probe, &other_id), Err(DropReason::Dns64UpstreamId));
    assert!(w.u.peers[0].probe.is_some());
    assert_eq!(w.answer(&probe, &right), Ok(()));
    assert!(w.u.peers[0].probe.is_none() && w.u.peers[0].health == Health::Up && !w.u.is_open(probe.port));
}

#[test]
fn a_tick_does_so_much_and_the_next_one_the_rest() {
    let mut w = World::new(&[ONE]);
    for i in 0..100 {
        w.ask(&format!("n{i}.example.")).expect("a fetch");
    }
    w.now = w.now + ms(800);
    let mut out = vec![];
    w.u.tick(w.now, &mut out);
    let timeouts = |out: &[Action]| {
        out.iter().filter(|a| matches!(a, Action::Count(Counter::Dns64UpstreamTimeouts, _))).count()
    };
    assert_eq!(timeouts(&out), MOST_PER_TICK);
    assert!(w.u.next_deadline().is_some_and(|due| due <= w.now));
    out.clear();
    w.u.tick(w.now, &mut out);
    assert_eq!(timeouts(&out), 100 - MOST_PER_TICK);
    assert!(w.u.next_deadline().is_some_and(|due| due > w.now));
}
