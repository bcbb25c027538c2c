use super::*;
use crate::machine::interval;
use causeway_core::{Duration, IfId};
use proptest::prelude::*;

const T0: Instant = Instant::from_micros(1_000_000_000);

fn router(interface: u16, vrid: u8, own: &str, addresses: &[&str]) -> VirtualRouter {
    let ip = |t: &str| t.parse().unwrap_or_else(|_| panic!("{t}"));
    VirtualRouter {
        interface: IfId(interface),
        vrid,
        addresses: addresses.iter().map(|a| ip(a)).collect(),
        source: ip(own),
    }
}

/// The lab's three virtual routers, with this gateway's own addresses: tenant side, uplink IPv6, uplink IPv4.
fn config(priority: u8, interval_cs: u16, own: [u8; 3]) -> Config {
    let six = |n: u8| format!("fe80::{n:x}");
    Config {
        routers: vec![
            router(0, 64, &six(own[0]), &["fe80::1", "2001:db8:64::1"]),
            router(1, 64, &six(own[1]), &["fe80::2", "2001:db8:ffff::2"]),
            router(1, 64, &format!("192.0.2.{}", own[2]), &["192.0.2.2"]),
        ],
        priority,
        interval_cs,
        preempt: true,
        preempt_delay: Duration::ZERO,
        accept: true,
        checksum4: crate::Peer4Checksum::Rfc9568,
    }
}

/// A small generator of numbers, so that a failing seed can be run again.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[derive(Debug)]
struct Gateway {
    config: Config,
    group: Option<Group>,
    transitions: usize,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    at: Instant,
    to: usize,
    member: usize,
    priority: u8,
    interval_cs: u16,
    from: IpAddr,
}

/// Gateways on three networks, which lose, delay and cut.
#[derive(Debug)]
struct World {
    now: Instant,
    random: Random,
    gateways: Vec<Gateway>,
    /// Which networks are whole; those that are not pass nothing.
    whole: [bool; 3],
    /// In a hundred.
    loss: u64,
    wire: Vec<InFlight>,
    /// How long more than one gateway, and none, were active just now.
    many: Duration,
    none: Duration,
}

const STEP: Duration = Duration::from_micros(500);
/// The longest that a message is on its way.
const DELIVERY: Duration = Duration::from_millis(2);

impl World {
    fn new(seed: u64, configs: Vec<Config>) -> Self {
        let gateways =
            configs.into_iter().map(|config| Gateway { config, group: None, transitions: 0 }).collect();
        Self {
            now: T0,
            random: Random(seed),
            gateways,
            whole: [true; 3],
            loss: 0,
            wire: Vec::new(),
            many: Duration::ZERO,
            none: Duration::ZERO,
        }
    }

    fn start(&mut self, n: usize) {
        let mut group = Group::new(&self.gateways[n].config);
        group.startup(self.now);
        self.gateways[n].group = Some(group);
        self.say(n);
    }

    fn start_all(&mut self) {
        (0..self.gateways.len()).for_each(|n| self.start(n));
    }

    /// Without a word, as by kill -9.
    fn crash(&mut self, n: usize) {
        self.gateways[n].group = None;
    }

    fn stop(&mut self, n: usize) {
        self.gateways[n].group.as_mut().unwrap().shutdown(self.now);
        self.say(n);
        self.gateways[n].group = None;
    }

    fn actives(&self) -> Vec<usize> {
        let active = |g: &Gateway| g.group.as_ref().is_some_and(|g| g.phase() == Phase::Active);
        (0..self.gateways.len()).filter(|n| active(&self.gateways[*n])).collect()
    }

    fn say(&mut self, n: usize) {
        let Some(group) = &mut self.gateways[n].group else { return };
        if !group.is_saying() {
            return;
        }
        let priority = group.parameters().priority;
        let sends: Vec<Option<Say>> = (0..3).map(|m| group.take_say(m)).collect();
        group.sent();
        for (member, send) in sends.into_iter().enumerate() {
            let Some(send) = send else { continue };
            let config = &self.gateways[n].config;
            let (interval_cs, from) = (config.interval_cs, config.routers[member].source);
            let priority = if send == Say::Stopping { 0 } else { priority };
            for to in (0..self.gateways.len()).filter(|to| *to != n) {
                if self.whole[member] && self.random.below(100) >= self.loss {
                    let at = self.now + Duration::from_micros(50 + self.random.below(1_900));
                    self.wire.push(InFlight { at, to, member, priority, interval_cs, from });
                }
            }
        }
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        let now = self.now;
        let (arrived, wire): (Vec<InFlight>, _) = self.wire.iter().partition(|m| m.at <= now);
        self.wire = wire;
        for m in arrived {
            let gateway = &mut self.gateways[m.to];
            let ours = gateway.config.routers[m.member].source;
            if let Some(group) = &mut gateway.group {
                let was = group.phase();
                let _ = group.heard(m.member, m.priority, m.interval_cs, (m.from, ours), now);
                gateway.transitions += usize::from(was != group.phase());
            }
            self.say(m.to);
        }
        for n in 0..self.gateways.len() {
            let gateway = &mut self.gateways[n];
            if let Some(group) = &mut gateway.group {
                let was = group.phase();
                group.timers(now);
                gateway.transitions += usize::from(was != group.phase());
                let phases: Vec<bool> = group.members.iter().map(|m| m.state.is_active()).collect();
                assert!(phases.iter().all(|p| *p == phases[0]), "members apart: {group:?}");
            }
            self.say(n);
        }
        let active = self.actives().len();
        self.many = if active > 1 { self.many + STEP } else { Duration::ZERO };
        self.none = if active == 0 { self.none + STEP } else { Duration::ZERO };
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
        }
    }

    /// Until these and no others are active; gives how long that took.
    #[track_caller]
    fn until(&mut self, want: &[usize], within: Duration) -> Duration {
        let begun = self.now;
        while self.actives() != want {
            self.step();
            let took = self.now - begun;
            assert!(took <= within, "after {took:?} active are {:?}, not {want:?}", self.actives());
        }
        self.now - begun
    }

    fn transitions(&self) -> usize {
        self.gateways.iter().map(|g| g.transitions).sum()
    }
}

fn down(priority: u8, interval_cs: u16) -> Duration {
    let p = Parameters { priority, interval_cs, preempt: true, preempt_delay: Duration::ZERO };
    p.active_down(interval_cs) + STEP
}

#[test]
fn rfc9568_6_4_the_best_becomes_active_and_the_next_takes_over_in_time() {
    for interval_cs in [1, 3, 10, 100] {
        let configs = vec![
            config(100, interval_cs, [5, 3, 4]),
            config(200, interval_cs, [3, 5, 3]),
            config(50, interval_cs, [4, 4, 5]),
        ];
        let mut w = World::new(1, configs);
        w.start_all();
        w.until(&[1], down(200, interval_cs));
        w.run(interval(interval_cs) * 20);
        assert_eq!((w.actives(), w.transitions()), (vec![1], 1), "the others listen");
        // kill -9: three of its intervals and the skew of the next best, from its last advert on.
        w.crash(1);
        w.until(&[0], down(100, interval_cs) + DELIVERY);
        // It comes back, and preempts.
        w.start(1);
        w.until(&[1], down(200, interval_cs) + DELIVERY);
        w.run(interval(interval_cs) * 20);
        assert_eq!((w.actives(), w.transitions()), (vec![1], 4));
        // An ordered stop: the skew only.
        w.stop(1);
        let skew = w.gateways[0].group.as_ref().unwrap().parameters().skew(interval_cs);
        w.until(&[0], skew + DELIVERY + STEP);
    }
}

#[test]
fn without_preemption_the_one_that_is_active_stays_so() {
    let calm = |c: Config| Config { preempt: false, ..c };
    let mut w = World::new(2, vec![calm(config(100, 10, [3; 3])), calm(config(200, 10, [4; 3]))]);
    w.start(0);
    w.until(&[0], down(100, 10));
    w.start(1);
    w.run(Duration::from_secs(10));
    assert_eq!((w.actives(), w.transitions()), (vec![0], 1));
    // RFC 9568 6.1: the owner preempts nevertheless.
    w.gateways[1].config.priority = 255;
    w.crash(1);
    w.start(1);
    w.until(&[1], DELIVERY + STEP);
}

#[test]
fn the_group_stays_backup_while_any_member_hears_an_active_router() {
    let mut w = World::new(3, vec![config(200, 10, [3; 3]), config(100, 10, [4; 3])]);
    w.start_all();
    w.until(&[0], down(200, 10));
    // Two of three networks are cut: what is heard on the third is enough.
    for whole in [[true, false, false], [false, true, false], [false, false, true]] {
        w.whole = whole;
        w.run(Duration::from_secs(5));
        assert_eq!((w.actives(), w.transitions()), (vec![0], 1), "{whole:?}");
    }
    w.whole = [false; 3];
    w.until(&[0, 1], down(100, 10) + DELIVERY);
}

#[test]
fn priority_zero_on_one_network_does_not_make_a_backup_active() {
    let mut w = World::new(4, vec![config(200, 100, [3; 3]), config(100, 100, [4; 3])]);
    w.start_all();
    w.until(&[0], down(200, 100));
    // Somebody on the tenant side says it over and over, from the active router's address.
    for _ in 0..20_000 {
        w.step();
        let group = w.gateways[1].group.as_mut().unwrap();
        let from = ("fe80::3".parse().unwrap(), "fe80::4".parse().unwrap());
        let _ = group.heard(0, 0, 100, from, w.now);
    }
    assert_eq!((w.actives(), w.transitions()), (vec![0], 1));
}

#[test]
fn a_better_router_on_one_network_makes_all_members_backup_at_once() {
    let mut w = World::new(5, vec![config(100, 100, [3; 3])]);
    w.start_all();
    w.until(&[0], down(100, 100));
    let group = w.gateways[0].group.as_mut().unwrap();
    let from = ("192.0.2.9".parse().unwrap(), "192.0.2.3".parse().unwrap());
    assert_eq!(group.heard(2, 101, 20, from, w.now), Outcome::Taken);
    assert_eq!(group.phase(), Phase::Backup);
    assert!((0..3).all(|m| group.take_say(m).is_none()), "it says nothing more");
    let want = w.now + Duration::from_micros(600_000 + 156 * 200_000 / 256);
    assert_eq!(group.deadline(), Some(want), "and waits by the interval of the better one");
}

#[test]
fn rfc9568_6_4_3_ties_are_decided_on_one_network_only() {
    // On each network another one has the greater address; the first member is the tenant side's.
    for (own, winner) in
        [([[3, 9, 9], [9, 3, 3]], 1), ([[9, 3, 3], [3, 9, 9]], 0), ([[4, 3, 3], [3, 4, 4]], 0)]
    {
        let mut w = World::new(6, vec![config(100, 10, own[0]), config(100, 10, own[1])]);
        w.start_all();
        w.until(&[0, 1], down(100, 10));
        w.until(&[winner], DELIVERY + STEP);
        w.run(Duration::from_secs(20));
        assert_eq!((w.actives(), w.transitions()), (vec![winner], 3), "{own:?}");
    }
}

#[test]
fn a_tie_is_decided_elsewhere_where_the_first_network_is_cut() {
    for (whole, winner) in [([false, true, true], 0), ([false, false, true], 1), ([true, false, false], 1)] {
        // By the tenant side it would be 1, by the uplink's IPv6 0, by its IPv4 1.
        let mut w = World::new(7, vec![config(100, 10, [3, 9, 3]), config(100, 10, [9, 3, 9])]);
        w.whole = whole;
        w.start_all();
        w.until(&[0, 1], down(100, 10));
        w.until(&[winner], down(100, 10) + interval(10) + DELIVERY);
        w.run(Duration::from_secs(20));
        assert_eq!((w.actives(), w.transitions()), (vec![winner], 3), "{whole:?}");
        // When it is whole again nothing changes.
        w.whole = [true; 3];
        w.run(Duration::from_secs(20));
        assert_eq!((w.actives(), w.transitions()), (vec![winner], 3), "{whole:?}");
    }
}

#[test]
fn tie_order_does_not_depend_on_the_order_of_configuration() {
    let straight = config(100, 10, [3; 3]);
    let ranks = |c: &Config| -> Vec<(usize, Vec<IpAddr>)> {
        let g = Group::new(c);
        let mut list: Vec<_> =
            g.members.iter().zip(&c.routers).map(|(m, r)| (m.rank, r.addresses.clone())).collect();
        list.sort();
        list
    };
    let mut other = straight.clone();
    other.routers.rotate_left(1);
    other.routers.iter_mut().for_each(|r| r.interface = IfId(7 - r.interface.0));
    assert_eq!(ranks(&straight), ranks(&other));
    assert!(ranks(&straight)[2].1[0].is_ipv4(), "IPv6 comes first");
}

#[test]
fn rfc9568_6_4_3_worse_routers_are_answered_but_not_as_often_as_they_like() {
    let mut w = World::new(8, vec![config(100, 100, [3; 3])]);
    w.start_all();
    w.until(&[0], down(100, 100));
    for (priority, theirs) in [(99, "fe80::9"), (0, "fe80::9"), (100, "fe80::2")] {
        w.run(Duration::from_secs(3));
        let group = w.gateways[0].group.as_mut().unwrap();
        let _ = group.take_say(0);
        let from = (theirs.parse().unwrap(), "fe80::3".parse().unwrap());
        assert_eq!(group.heard(0, priority, 100, from, w.now), Outcome::Taken);
        assert_eq!(group.take_say(0), Some(Say::Advert), "priority {priority}");
        assert_eq!((group.take_say(1), group.take_say(2)), (None, None), "and only where it was heard");
        // A thousand a second for ten seconds: four at once, then four a second; our own go on.
        let (mut answers, mut own) = (0, 0);
        for n in 0..10_000u64 {
            let now = w.now + Duration::from_millis(n);
            group.timers(now);
            own += usize::from(group.take_say(1).is_some());
            let _ = group.take_say(0);
            answers += usize::from(group.heard(0, priority, 100, from, now) == Outcome::Taken);
        }
        assert!((30..=44).contains(&answers), "{answers} answers");
        assert!((9..=11).contains(&own), "{own} adverts");
        w.now = w.now + Duration::from_secs(10);
    }
}

// RFC 9568 5.2.4.
#[test]
fn tracking_lowers_the_priority_to_no_less_than_1_and_never_the_owners() {
    let mut g = Group::new(&config(100, 10, [3; 3]));
    for (penalty, want) in [(0, 100), (50, 50), (99, 1), (100, 1), (255, 1), (0, 100)] {
        g.set_penalty(penalty);
        assert_eq!(g.parameters().priority, want);
    }
    let mut owner = Group::new(&config(255, 10, [3; 3]));
    owner.set_penalty(200);
    assert_eq!(owner.parameters().priority, 255);
    // Whoever is lowered below the other hands over, without an interval in which nobody is active.
    let mut w = World::new(9, vec![config(200, 10, [3; 3]), config(100, 10, [4; 3])]);
    w.start_all();
    w.until(&[0], down(200, 10));
    w.gateways[0].group.as_mut().unwrap().set_penalty(150);
    while w.actives() != [1] {
        w.step();
        assert!(w.none.is_zero() && w.many <= DELIVERY + STEP);
    }
    w.gateways[0].group.as_mut().unwrap().set_penalty(0);
    w.until(&[0], down(200, 10) + interval(10) + DELIVERY);
}

#[test]
fn a_new_configuration_goes_on_where_the_old_one_stood() {
    let mut w = World::new(10, vec![config(100, 100, [3; 3])]);
    w.start_all();
    w.until(&[0], down(100, 100));
    let group = w.gateways[0].group.take().unwrap();
    let next = config(120, 10, [3; 3]);
    let joined = group.successor(&next, &[Some(0), None, Some(2)], 0, w.now);
    assert_eq!((joined.phase(), joined.parameters().priority), (Phase::Active, 120));
    assert_eq!(joined.deadline(), Some(w.now), "and says so at once, also where it is new");
    // As backup a new member waits for as long as there may be an active router.
    let mut backup = Group::new(&config(100, 100, [3; 3]));
    backup.startup(w.now);
    let later = w.now + Duration::from_secs(3);
    let joined = backup.successor(&config(100, 100, [3; 3]), &[Some(0), None, Some(2)], 0, later);
    assert_eq!(joined.phase(), Phase::Backup);
    assert_eq!(joined.deadline(), Some(later + Duration::from_micros(3_609_375)));
    let same = backup.successor(&config(100, 100, [3; 3]), &[Some(0), Some(1), Some(2)], 0, later);
    assert_eq!(same.deadline(), backup.deadline());
    // Nothing to be active for.
    let none = Config { routers: vec![], ..config(100, 100, [3; 3]) };
    let empty = group.successor(&none, &[], 0, w.now);
    assert_eq!((empty.phase(), empty.deadline()), (Phase::Initialize, None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Two or three gateways over networks that lose, cut, crash and restart: once they are whole there is one
    /// active within three intervals, the skew and the delivery, never again two, and nothing flaps.
    #[test]
    fn however_bad_it_was_one_is_active_once_the_networks_heal(
        seed: u64,
        priorities in proptest::collection::vec(prop_oneof![Just(100u8), 1u8..=254], 2..=3),
        interval_cs in 1u16..=20,
        preempt: bool,
        addresses in Just([3u8, 4, 5]).prop_shuffle(),
        more in Just([3u8, 4, 5]).prop_shuffle(),
        rounds in 1usize..6,
    ) {
        let n = priorities.len();
        let configs: Vec<Config> = priorities
            .iter()
            .enumerate()
            .map(|(g, p)| Config { preempt, ..config(*p, interval_cs, [addresses[g], more[g], addresses[n - 1 - g]]) })
            .collect();
        let mut w = World::new(seed, configs);
        w.start_all();
        for _ in 0..rounds {
            w.loss = w.random.below(101);
            w.whole = [0, 1, 2].map(|_| w.random.below(3) > 0);
            let g = w.random.below(n as u64) as usize;
            match w.random.below(4) {
                0 => w.crash(g),
                1 if w.gateways[g].group.is_some() => w.stop(g),
                2 => w.start(g),
                _ => {}
            }
            let time = interval(interval_cs).mul_f64(w.random.below(80) as f64 / 10.0);
            w.run(time);
        }
        (w.loss, w.whole) = (0, [true; 3]);
        for g in 0..n {
            if w.gateways[g].group.is_none() {
                w.start(g);
            }
        }
        (w.many, w.none) = (Duration::ZERO, Duration::ZERO);
        let bound = down(1, interval_cs) + DELIVERY + STEP * 2;
        let healed = w.now;
        while w.now - healed < bound * 3 {
            w.step();
            prop_assert!(w.many <= bound, "two for {:?}: {:?}", w.many, w.actives());
            prop_assert!(w.none <= bound, "none for {:?}", w.none);
        }
        let settled = w.actives();
        prop_assert_eq!(settled.len(), 1);
        let best = priorities.iter().max().copied();
        if preempt {
            prop_assert_eq!(priorities.get(settled[0]).copied(), best);
        }
        let before = w.transitions();
        w.run(interval(interval_cs) * 40);
        prop_assert_eq!((w.actives(), w.transitions()), (settled, before), "it flaps");
    }
}
