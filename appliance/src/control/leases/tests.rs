//! The lease thread with a small server, alone and in pairs.

mod disk;
mod killed;
mod pairs;

use super::testing::{Toy, ToyAnswer, ToyConfig, ToyRequest, Want, address, mac};
use super::*;
use causeway_dhcpv6::{Kind, LeaseEvent, State};
use causeway_flowtable::Bindings;
use causeway_wire::MacAddr;
use crossbeam::queue::ArrayQueue;
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

const VALID: u64 = 100;
const HOLD: u64 = 10;

type Queue<T> = Arc<ArrayQueue<Box<T>>>;

/// A lease thread, its workers' ends of the rings, and what it is told of the world.
struct Gateway {
    rings: Vec<(Queue<ToyRequest>, Queue<ToyAnswer>)>,
    leases: Option<Leases<Toy>>,
    active: Arc<AtomicBool>,
    bound: Bound,
    next: u64,
}

/// What workers would let pass.
#[derive(Clone, Default)]
struct Bound(Arc<Mutex<HashMap<Ipv6Addr, MacAddr>>>);

impl LeaseSink for Bound {
    fn set(&self, lease: &Lease) {
        self.0.lock().unwrap().insert(lease.address, lease.mac.unwrap());
    }

    fn remove(&self, lease: &Lease) {
        self.0.lock().unwrap().remove(&lease.address);
    }
}

#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_000_000)))
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

fn config(path: &Path, peer: Option<PeerConfig>) -> LeasesConfig {
    LeasesConfig { path: path.to_owned(), duid: None, history: Duration::from_secs(1_000_000), peer }
}

fn server(addresses: u16) -> Arc<ToyConfig> {
    Arc::new(ToyConfig { addresses, valid: VALID, hold: HOLD, duid: Box::default() })
}

impl Gateway {
    fn start(config: LeasesConfig, server: Arc<ToyConfig>, clock: &Clock, answers: usize) -> Self {
        let rings: Vec<_> =
            (0..2).map(|_| (Arc::new(ArrayQueue::new(64)), Arc::new(ArrayQueue::new(answers)))).collect();
        let active = Arc::new(AtomicBool::new(true));
        let bound = Bound::default();
        let (is_active, time) = (Arc::clone(&active), clock.clone());
        let spec = Spec {
            server,
            rings: rings
                .iter()
                .map(|(q, a)| Rings { requests: Arc::clone(q), answers: Arc::clone(a) })
                .collect(),
            bindings: Box::new(bound.clone()),
            active: Box::new(move || is_active.load(Ordering::Acquire)),
            clock: Box::new(move || time.now()),
        };
        let leases = Some(open(config).unwrap().start(spec).unwrap());
        Self { rings, leases, active, bound, next: 0 }
    }

    fn control(&self) -> LeaseControl<ToyConfig> {
        self.leases.as_ref().unwrap().control()
    }

    fn ask(&mut self, worker: u16, client: u8, want: Want) -> u64 {
        self.next += 1;
        let request = ToyRequest { client, want, worker, number: self.next };
        self.rings[usize::from(worker)].0.push(Box::new(request)).unwrap();
        self.next
    }

    /// The answer with this number, if it comes.
    fn answer(&self, worker: u16, number: u64, within: Duration) -> Option<ToyAnswer> {
        let until = Instant::now() + within;
        loop {
            while let Some(answer) = self.rings[usize::from(worker)].1.pop() {
                if answer.number == number {
                    return Some(*answer);
                }
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Asks and waits.
    fn exchange(&mut self, client: u8, want: Want) -> Option<(Ipv6Addr, u64)> {
        let number = self.ask(0, client, want);
        self.answer(0, number, Duration::from_secs(20)).expect("an answer").given
    }
}

/// Waits until something is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_answer_leaves_when_its_lease_is_on_disk_and_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    let clock = Clock::new();
    let mut g = Gateway::start(config(&path, None), server(4), &clock, 64);
    let reader = Reader::open(&path).unwrap();
    for client in 1..=4 {
        let (a, valid) = g.exchange(client, Want::Address).unwrap();
        assert_eq!((a, valid), (address(u16::from(client) - 1), clock.now() + VALID));
        let query = LeaseQuery { address: Some(a), limit: 10, ..LeaseQuery::default() };
        let on_disk = reader.leases(&query).unwrap();
        assert_eq!((on_disk[0].valid_until, on_disk[0].mac), (valid, Some(mac(client))));
        assert_eq!(g.bound.0.lock().unwrap()[&a], mac(client));
    }
    assert_eq!(g.exchange(5, Want::Address), None, "a clear answer, not silence");
    assert_eq!(g.exchange(1, Want::Release), None);
    assert!(!g.bound.0.lock().unwrap().contains_key(&address(0)));
    let status = g.control().status();
    assert_eq!((status.requests, status.changes, status.disk.writable), (6, 5, true));
    assert_eq!((status.disk.commits, status.peer.standing), (5, Standing::Single));
    // The next start knows all of it.
    drop(g);
    let mut g = Gateway::start(config(&path, None), server(4), &clock, 64);
    assert_eq!(g.bound.0.lock().unwrap().len(), 3);
    assert_eq!(g.exchange(3, Want::Address).unwrap().0, address(2));
    assert_eq!(g.exchange(5, Want::Address), None, "an address rests before somebody else gets it");
    clock.pass(HOLD);
    assert_eq!(g.exchange(5, Want::Address).unwrap().0, address(0));
}

#[test]
fn a_full_ring_of_answers_loses_nothing_and_keeps_nobody_else_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let mut g = Gateway::start(config(&dir.path().join("l.db"), None), server(100), &clock, 2);
    let numbers: Vec<u64> = (0..40).map(|client| g.ask(0, client, Want::Address)).collect();
    // Worker 0 takes no answers; worker 1 is served all the same.
    until("worker 0's ring is full", || g.rings[0].1.is_full());
    let number = g.ask(1, 77, Want::Address);
    assert!(g.answer(1, number, Duration::from_secs(20)).unwrap().given.is_some());
    let mut got = Vec::new();
    until("all answers", || {
        got.extend(g.rings[0].1.pop().map(|a| a.number));
        got.len() == numbers.len()
    });
    assert_eq!(got, numbers);
}

#[test]
fn a_standby_answers_nothing_and_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let mut g = Gateway::start(config(&dir.path().join("l.db"), None), server(4), &clock, 64);
    g.exchange(1, Want::Address).unwrap();
    g.active.store(false, Ordering::Release);
    until("it is a standby", || !g.control().status().active);
    let number = g.ask(0, 2, Want::Address);
    assert_eq!(g.answer(0, number, Duration::from_millis(100)), None);
    clock.pass(VALID + 1);
    std::thread::sleep(Duration::from_millis(50));
    let status = g.control().status();
    assert_eq!((status.ignored, status.expired, status.requests), (1, 0, 1));
    g.active.store(true, Ordering::Release);
    until("what ran out is ended", || g.control().status().expired == 1);
    assert!(g.bound.0.lock().unwrap().is_empty());
    assert_eq!(g.control().counts().unwrap(), Counts { active: 0, free: 1, declined: 0 });
}

#[test]
fn the_administrator_withdraws_and_asks_who_had_an_address() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let mut g = Gateway::start(config(&dir.path().join("l.db"), None), server(4), &clock, 64);
    let given = clock.now();
    let (a, _) = g.exchange(1, Want::Address).unwrap();
    clock.pass(5);
    let control = g.control();
    assert_eq!(control.release(address(3), None), Err(ReleaseError::NoLease(address(3))));
    assert_eq!(control.release(a, Some(Kind::Prefix)), Err(ReleaseError::NoLease(a)));
    let released = control.release(a, None).unwrap();
    assert_eq!((released[0].state, released[0].valid_until), (State::Free, clock.now()));
    assert_eq!(released[0].preferred_until, 0, "it did not run out: it does not have to rest");
    assert!(g.bound.0.lock().unwrap().is_empty());
    assert_eq!(control.release(a, None), Err(ReleaseError::NoLease(a)), "once");
    clock.pass(HOLD);
    assert_eq!(g.exchange(2, Want::Address).unwrap().0, a);
    let who = |at| {
        let found = control.who(a, at).unwrap();
        found.first().map(|f| (f.event, f.held, f.lease.mac.unwrap()))
    };
    assert_eq!(who(given - 1), None);
    assert_eq!(who(given + 4), Some((LeaseEvent::Given, true, mac(1))));
    assert_eq!(who(given + 5), Some((LeaseEvent::Withdrawn, false, mac(1))));
    assert_eq!(who(clock.now()), Some((LeaseEvent::Given, true, mac(2))));
    assert_eq!(control.takeover(), Err(ReleaseError::NoPeer));
    drop(g);
    assert_eq!(control.release(a, None), Err(ReleaseError::Gone));
}

#[test]
fn a_clock_that_goes_back_takes_no_time_from_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let mut g = Gateway::start(config(&dir.path().join("l.db"), None), server(1), &clock, 64);
    let (_, until) = g.exchange(1, Want::Address).unwrap();
    clock.0.fetch_sub(50, Ordering::Relaxed);
    assert_eq!(g.exchange(1, Want::Address).unwrap().1, until);
    assert_eq!(g.exchange(2, Want::Address), None);
}

#[test]
fn leases_follow_a_network_that_a_reload_moves_to_another_vlan() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let bindings = Arc::new(Bindings::new(16, [1, 2]).unwrap());
    let links = |vlan: u32| HashMap::from([(Box::from("tenant"), vlan)]);
    let sources = Arc::new(LeasedSources::new(Arc::clone(&bindings), links(10)));
    let (requests, answers) = (Arc::new(ArrayQueue::new(4)), Arc::new(ArrayQueue::new(4)));
    let spec = Spec::<Toy> {
        server: server(4),
        rings: vec![Rings { requests: Arc::clone(&requests), answers: Arc::clone(&answers) }],
        bindings: Box::new(Arc::clone(&sources)),
        active: Box::new(|| true),
        clock: Box::new(move || clock.now()),
    };
    let leases = open(config(&dir.path().join("l.db"), None)).unwrap().start(spec).unwrap();
    for number in [1, 2] {
        let client = u8::try_from(number).unwrap();
        let request = ToyRequest { client, want: Want::Address, worker: 0, number };
        requests.push(Box::new(request)).unwrap();
        until("an answer", || answers.pop().is_some());
    }
    let who = |vlan| [0, 1].map(|n| bindings.lookup(vlan, address(n)));
    assert_eq!((who(10), who(20)), ([Some(mac(1)), Some(mac(2))], [None; 2]));
    sources.set_links(links(20));
    leases.control().reconfigure(server(4)).unwrap();
    assert_eq!((who(10), who(20)), ([None; 2], [Some(mac(1)), Some(mac(2))]));
    // A network that is no more leaves nothing behind.
    sources.set_links(HashMap::new());
    leases.control().reconfigure(server(4)).unwrap();
    assert!(bindings.is_empty());
}
