use super::*;
use crate::site::Servers;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::Ipv6Addr;

const HEALTH: Health = Health {
    check: Check::Tls(443),
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    rise: 2,
    fall: 3,
};

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn address(n: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n))
}

#[test]
fn every_state_and_outcome_leads_where_the_figure_says() {
    use Standing::{Down, New, Up};
    for (state, success, then) in [
        (New, true, Up { failed: 0 }),
        (New, false, Down { succeeded: 0 }),
        (Up { failed: 0 }, true, Up { failed: 0 }),
        (Up { failed: 2 }, true, Up { failed: 0 }),
        (Up { failed: 0 }, false, Up { failed: 1 }),
        (Up { failed: 1 }, false, Up { failed: 2 }),
        (Up { failed: 2 }, false, Down { succeeded: 0 }),
        (Down { succeeded: 0 }, false, Down { succeeded: 0 }),
        (Down { succeeded: 1 }, false, Down { succeeded: 0 }),
        (Down { succeeded: 0 }, true, Down { succeeded: 1 }),
        (Down { succeeded: 1 }, true, Up { failed: 0 }),
    ] {
        assert_eq!(state.on(success, &HEALTH), then, "{state:?} {success}");
    }
    assert!(New.is_up() && Up { failed: 2 }.is_up() && !Down { succeeded: 1 }.is_up());
}

proptest! {
    /// It is down if and only if the newest run of `fall` failures (or a first check that failed) is newer than the newest
    /// run of `rise` successes.
    #[test]
    fn random_outcomes_go_by_runs(outcomes in prop::collection::vec(any::<bool>(), 1..60), rise in 1..5u16, fall in 1..5u16) {
        let health = Health { rise, fall, ..HEALTH };
        let (mut standing, mut up, mut run) = (Standing::New, outcomes[0], 0u16);
        for (n, success) in outcomes.iter().enumerate() {
            standing = standing.on(*success, &health);
            run = if n > 0 && outcomes[n - 1] == *success { run + 1 } else { 1 };
            up = match success {
                true if run >= rise => true,
                false if run >= fall => false,
                _ => up,
            };
            prop_assert_eq!(standing.is_up(), up, "after {} of {:?}", n + 1, &outcomes);
        }
    }
}

fn connects(actions: &[Action]) -> Vec<(CheckId, SocketAddrV6)> {
    let connect = |a: &Action| match *a {
        Action::Connect { id, to, tls: true } => Some((id, to)),
        _ => None,
    };
    actions.iter().filter_map(connect).collect()
}

/// Ticks until a check begins.
fn next(checker: &mut Checker, ms: &mut u64) -> (CheckId, SocketAddrV6) {
    for _ in 0..100_000 {
        let (actions, _) = checker.tick(at(*ms));
        if let Some(found) = connects(&actions).first() {
            return *found;
        }
        *ms += 1;
    }
    panic!("nothing is checked");
}

#[test]
fn a_server_is_checked_each_interval_goes_down_comes_up_and_is_forgotten_with_its_sites() {
    let mut servers = Servers::new();
    let mut checker = Checker::new(servers.fresh(), 1);
    let server = servers.get(address(1), &HEALTH);
    let mut ms = 10_000;
    let (first, to) = next(&mut checker, &mut ms);
    assert_eq!(to, SocketAddrV6::new(address(1), 443, 0, 0));
    assert!(ms < 11_000, "a new server is checked soon");
    assert_eq!(checker.result(first, true, at(ms + 1)), None);
    assert_eq!(checker.result(first, false, at(ms + 2)), None, "one result for each check");
    let began = ms;
    let mut outcomes = Vec::new();
    for success in [false, false, false, true, true] {
        let (id, to) = next(&mut checker, &mut ms);
        outcomes.push((checker.result(id, success, at(ms + 1)), server.is_up()));
        let change = |up| Some(Change { server: to, up });
        let wanted = match outcomes.len() {
            3 => (change(false), false),
            4 => (None, false),
            5 => (change(true), true),
            _ => (None, true),
        };
        assert_eq!(*outcomes.last().unwrap(), wanted);
    }
    assert_eq!(ms, began + 5 * 5000);
    assert_eq!(checker.count(), 1);
    drop(server);
    let (actions, changes) = checker.tick(at(ms + 5000));
    assert!(actions.is_empty() && changes.is_empty());
    assert_eq!(checker.count(), 0);
}

#[test]
fn what_takes_too_long_is_given_up_and_a_late_answer_changes_nothing() {
    let mut servers = Servers::new();
    let mut checker = Checker::new(servers.fresh(), 7);
    let server = servers.get(address(1), &HEALTH);
    let mut ms = 0;
    let (id, to) = next(&mut checker, &mut ms);
    assert!(checker.tick(at(ms + 1999)).0.is_empty());
    let (actions, changes) = checker.tick(at(ms + 2000));
    assert_eq!(&actions[..], [Action::Abandon { id }]);
    assert_eq!(&changes[..], [Change { server: to, up: false }]);
    assert!(!server.is_up(), "the first check decides");
    assert_eq!(checker.result(id, true, at(ms + 2001)), None);
    assert!(!server.is_up());
    ms += 2000;
    let (next_id, _) = next(&mut checker, &mut ms);
    assert_ne!(id, next_id);
}

#[test]
fn a_thousand_servers_are_checked_in_time_and_few_at_once() {
    let mut servers = Servers::new();
    let mut checker = Checker::new(servers.fresh(), 3);
    let kept: Vec<Arc<Server>> = (0..1000).map(|n| servers.get(address(n), &HEALTH)).collect();
    let mut tried: HashMap<Ipv6Addr, u32> = HashMap::new();
    let (mut under_way, mut most): (Vec<CheckId>, usize) = (Vec::new(), 0);
    for ms in 0..20_000 {
        let (actions, _) = checker.tick(at(ms));
        for (id, to) in connects(&actions) {
            *tried.entry(*to.ip()).or_default() += 1;
            under_way.push(id);
        }
        most = most.max(under_way.len());
        if ms % 50 == 0 {
            for id in under_way.drain(..) {
                let _ = checker.result(id, true, at(ms));
            }
        }
    }
    assert!((50..=UNDER_WAY).contains(&most), "{most}");
    assert!(tried.len() == 1000 && tried.values().all(|n| *n == 4), "{tried:?}");
    assert!(kept.iter().all(|s| s.is_up()));
    // Stalled ones: never more at once than may be, and each is given up.
    let stalled = Health { interval: Duration::from_secs(2), ..HEALTH };
    let kept: Vec<Arc<Server>> = (0..1000).map(|n| servers.get(address(n), &stalled)).collect();
    for ms in 20_000..60_000 {
        checker.tick(at(ms));
        assert!(checker.under_way <= UNDER_WAY);
    }
    assert!(kept.iter().all(|s| !s.is_up()));
    assert!(checker.deadlines.len() <= 2 * UNDER_WAY, "{}", checker.deadlines.len());
}

#[test]
fn the_place_of_a_server_that_is_gone_is_used_again_and_not_by_its_last_check() {
    let mut servers = Servers::new();
    let mut checker = Checker::new(servers.fresh(), 9);
    let gone = servers.get(address(1), &HEALTH);
    let mut ms = 0;
    let (old, _) = next(&mut checker, &mut ms);
    drop(gone);
    let (actions, changes) = checker.tick(at(ms + 2000));
    assert_eq!((actions.len(), changes.len(), checker.count()), (1, 0, 0));
    let new = servers.get(address(2), &HEALTH);
    ms += 2001;
    let (id, to) = next(&mut checker, &mut ms);
    assert_eq!((id.slot, *to.ip()), (old.slot, address(2)));
    assert_eq!(checker.result(old, false, at(ms)), None);
    assert!(new.is_up());
    assert_eq!(checker.result(id, false, at(ms)), Some(Change { server: to, up: false }));
}
