//! Two gateways with real stores, threads and sockets, and a wire between them that can be cut.

use super::super::testing::Dice;
use super::*;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

const ACK: Duration = Duration::from_millis(150);
const ALONE: Duration = Duration::from_millis(300);

/// A wire: what connects to its front is connected to its back.
struct Wire {
    front: PathBuf,
    shared: Arc<WireState>,
}

#[derive(Default)]
struct WireState {
    open: AtomicBool,
    stalled: AtomicBool,
    end: AtomicBool,
    streams: Mutex<Vec<UnixStream>>,
}

impl Wire {
    fn new(front: PathBuf, back: PathBuf) -> Self {
        let listener = UnixListener::bind(&front).unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(WireState::default());
        shared.open.store(true, Ordering::Release);
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            while !state.end.load(Ordering::Acquire) {
                let Ok((a, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                if !state.open.load(Ordering::Acquire) {
                    continue;
                }
                let Ok(b) = UnixStream::connect(&back) else { continue };
                a.set_nonblocking(false).unwrap();
                let mut streams = state.streams.lock().unwrap();
                for (from, to) in [(&a, &b), (&b, &a)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || carry(&state, &from, &to));
                }
                streams.extend([a, b]);
            }
        });
        Self { front, shared }
    }

    fn cut(&self) {
        self.shared.open.store(false, Ordering::Release);
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn heal(&self) {
        self.shared.stalled.store(false, Ordering::Release);
        self.shared.open.store(true, Ordering::Release);
    }

    /// Nothing arrives, and nobody is told.
    fn stall(&self) {
        self.shared.stalled.store(true, Ordering::Release);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Release);
        self.cut();
    }
}

fn carry(state: &WireState, mut from: &UnixStream, mut to: &UnixStream) {
    let mut octets = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut octets) {
        while state.stalled.load(Ordering::Acquire) && !state.end.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if to.write_all(&octets[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// A pair: gateway 0 listens and has the even half, gateway 1 connects.
struct Two {
    dir: tempfile::TempDir,
    wire: Wire,
    clock: Clock,
    gateways: [Option<Gateway>; 2],
    addresses: u16,
}

impl Two {
    fn new(addresses: u16) -> Self {
        // In memory if there is such a place: what is tested is not the disk.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        for n in 0..2 {
            let path = dir.path().join(format!("secret{n}"));
            std::fs::write(&path, "a secret that both of them know\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let wire = Wire::new(dir.path().join("front"), dir.path().join("back"));
        Self { dir, wire, clock: Clock::new(), gateways: [None, None], addresses }
    }

    fn store(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("leases{n}.db"))
    }

    fn config(&self, n: usize) -> LeasesConfig {
        let back = Endpoint::Unix(self.dir.path().join("back"));
        let front = Endpoint::Unix(self.wire.front.clone());
        let (listen, connect) = if n == 0 { (Some(back), None) } else { (None, Some(front)) };
        let peer = PeerConfig {
            listen,
            connect,
            secret_file: self.dir.path().join(format!("secret{n}")),
            ack_timeout: ACK,
            alone_after: ALONE,
        };
        config(&self.store(n), Some(peer))
    }

    fn start(&mut self, n: usize, active: bool) {
        let g = Gateway::start(self.config(n), server(self.addresses), &self.clock, 64);
        g.active.store(active, Ordering::Release);
        self.gateways[n] = Some(g);
    }

    fn at(&mut self, n: usize) -> &mut Gateway {
        self.gateways[n].as_mut().expect("a running gateway")
    }

    fn standing(&mut self, n: usize) -> Standing {
        self.at(n).control().status().peer.standing
    }

    fn until(&mut self, n: usize, standing: Standing) {
        until(&format!("gateway {n} {standing:?}"), || self.standing(n) == standing);
    }

    fn leases(&self, n: usize) -> Vec<(Ipv6Addr, State, u64)> {
        let reader = Reader::open(&self.store(n)).unwrap();
        let all = reader.leases(&LeaseQuery { limit: 10_000, ..LeaseQuery::default() }).unwrap();
        all.into_iter().map(|l| (l.address, l.state, l.valid_until)).collect()
    }
}

#[test]
fn the_standby_has_every_lease_before_it_is_answered_and_takes_over() {
    let mut two = Two::new(200);
    // The first alone has leases before there is a second one: from its half, when none showed up.
    two.start(0, true);
    assert_eq!(two.at(0).exchange(0, Want::Address), None);
    two.until(0, Standing::Alone);
    for client in 0..30 {
        assert_eq!(two.at(0).exchange(client, Want::Address).unwrap().0, address(u16::from(client) * 2));
    }
    let duid = two.at(0).control().status().duid;
    two.start(1, false);
    two.until(0, Standing::Leading);
    two.until(1, Standing::Following);
    assert_eq!(two.at(1).control().status().duid, duid, "a new store takes the DUID of the one with leases");
    assert_eq!(two.leases(1), two.leases(0));
    for client in 30..60 {
        let (a, valid) = two.at(0).exchange(client, Want::Address).unwrap();
        assert!(two.leases(1).contains(&(a, State::Active, valid)), "before the answer left");
        assert_eq!(two.at(1).bound.0.lock().unwrap().get(&a), Some(&mac(client)));
    }
    two.at(0).exchange(3, Want::Release);
    until("the release", || two.leases(1).iter().any(|l| l.1 == State::Free));
    assert!(two.at(0).control().status().peer.acknowledged >= 30);
    // The active one goes away.
    two.gateways[0] = None;
    two.at(1).active.store(true, Ordering::Release);
    let held = two.leases(1).into_iter().find(|l| l.0 == address(58)).unwrap();
    two.clock.pass(1);
    let renewed = two.at(1).exchange(29, Want::Address);
    assert_eq!(renewed, Some((address(58), held.2 + 1)), "known leases at once");
    two.until(1, Standing::Alone);
    for client in 100..120 {
        let (a, _) = two.at(1).exchange(client, Want::Address).unwrap();
        assert_eq!(a.octets()[15] % 2, 1, "new ones from its half");
        assert_ne!(a, address(6), "not what the other may count as in use");
    }
    // It comes back, hears of it, and follows; then the second goes.
    two.start(0, false);
    two.until(1, Standing::Leading);
    two.until(0, Standing::Following);
    assert_eq!(two.leases(0), two.leases(1));
    // The virtual routers move without anybody's being lost: so does the right to give.
    two.at(1).active.store(false, Ordering::Release);
    two.at(0).active.store(true, Ordering::Release);
    two.until(0, Standing::Leading);
    assert_eq!(two.standing(1), Standing::Following);
    let conflicts = [0, 1].map(|n| two.at(n).control().status().peer.conflicts);
    assert_eq!(conflicts, [0, 0]);
}

#[test]
fn what_the_peer_does_not_acknowledge_is_not_answered_but_taken_back() {
    let mut two = Two::new(100);
    two.start(0, true);
    two.start(1, false);
    two.until(0, Standing::Leading);
    until("an echo", || two.at(0).control().status().peer.together.is_some());
    let (known, _) = two.at(0).exchange(1, Want::Address).unwrap();
    two.wire.stall();
    two.clock.pass(5);
    let begun = Instant::now();
    assert_eq!(two.at(0).exchange(2, Want::Address), None, "nothing new");
    assert!(begun.elapsed() >= ACK);
    let now = two.clock.now();
    assert_eq!(two.at(0).exchange(1, Want::Address), Some((known, now + VALID)), "renewals go on");
    assert!(two.leases(0).contains(&(address(1), State::Free, now)), "what nobody was told is over");
    assert_eq!(two.at(0).control().status().peer.lost, 1);
    two.until(0, Standing::Alone);
    let (new, _) = two.at(0).exchange(3, Want::Address).unwrap();
    assert_eq!(new.octets()[15] % 2, 0);
    two.wire.cut();
    two.wire.heal();
    two.until(0, Standing::Leading);
    until("the same again", || two.leases(0) == two.leases(1));
}

#[test]
fn the_administrator_says_that_the_peer_is_out_of_service() {
    let mut two = Two::new(10);
    two.start(1, true);
    two.until(1, Standing::Alone);
    for client in 0..5 {
        assert_eq!(two.at(1).exchange(client, Want::Address).unwrap().0, address(u16::from(client) * 2 + 1));
    }
    assert_eq!(two.at(1).exchange(5, Want::Address), None, "the other half is the other's");
    two.at(1).control().takeover().unwrap();
    two.until(1, Standing::TakenOver);
    assert_eq!(two.at(1).exchange(5, Want::Address).unwrap().0, address(0));
    // It is remembered, and over when the peer is there.
    two.gateways[1] = None;
    two.start(1, true);
    two.until(1, Standing::TakenOver);
    assert_eq!(two.at(1).exchange(6, Want::Address).unwrap().0, address(2));
    two.start(0, false);
    two.until(1, Standing::Leading);
    assert_eq!(two.at(1).control().takeover(), Err(ReleaseError::PeerIsThere));
    assert_eq!(two.leases(0), two.leases(1));
    // Two that both had leases before they met are one server from now on.
    let duids = [0, 1].map(|n| two.at(n).control().status().duid);
    assert_eq!(duids[0], duids[1]);
    two.gateways[1] = None;
    two.until(0, Standing::Alone);
}

#[test]
fn strangers_and_copies_are_refused() {
    let mut two = Two::new(10);
    let other = two.dir.path().join("secret1");
    std::fs::write(&other, "another secret, and as long").unwrap();
    two.start(0, true);
    two.start(1, false);
    until("a stranger is counted", || two.at(0).control().status().peer.strangers >= 1);
    assert!(!two.at(0).control().status().peer.connected);
    two.gateways = [None, None];
    // A copy of the store is not a second store.
    std::fs::copy(two.dir.path().join("secret0"), &other).unwrap();
    std::fs::copy(two.store(0), two.store(1)).unwrap();
    two.start(0, true);
    two.start(1, false);
    std::thread::sleep(Duration::from_millis(500));
    let connected = [0, 1].map(|n| two.at(n).control().status().peer.connected);
    assert_eq!(connected, [false, false]);
    // A secret that everybody can read is none.
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = sync::link::secret(&other).unwrap_err().to_string();
    assert!(refused.contains("644") && refused.contains("600"), "{refused}");
}

#[test]
fn a_standby_that_missed_more_than_history_has_gets_all_leases() {
    let mut two = Two::new(3000);
    two.start(0, true);
    two.start(1, false);
    two.until(0, Standing::Leading);
    until("an echo", || two.at(0).control().status().peer.together.is_some());
    two.gateways[1] = None;
    std::fs::remove_file(two.store(1)).unwrap();
    two.until(0, Standing::Alone);
    for client in 0..40 {
        two.at(0).exchange(client, Want::Address).unwrap();
    }
    // Another store: for the first it is a peer that has nothing.
    two.start(1, false);
    two.until(0, Standing::Leading);
    assert_eq!(two.leases(1), two.leases(0));
    assert_eq!(two.leases(1).len(), 40);
}

/// How long a client waits for an answer.
const GIVES_UP: Duration = Duration::from_secs(2);

/// What clients were told: who may use what, until when.
#[derive(Default)]
struct Told {
    by: HashMap<Ipv6Addr, (u8, u64)>,
    answers: usize,
    /// Clients that wait for an answer: of which gateway and number, since when. A client asks one thing at a time.
    waits: HashMap<u8, (usize, u64, Instant)>,
}

impl Told {
    fn take(&mut self, two: &mut Two) {
        let now = two.clock.now();
        for (n, gateway) in two.gateways.iter().enumerate() {
            for (_, answers) in gateway.iter().flat_map(|g| &g.rings) {
                while let Some(answer) = answers.pop() {
                    self.answers += 1;
                    match self.waits.get(&answer.client) {
                        Some((gateway, number, _)) if (*gateway, *number) == (n, answer.number) => {
                            self.waits.remove(&answer.client);
                        }
                        // It has given up on it.
                        _ => continue,
                    }
                    let Some((address, until)) = answer.given else { continue };
                    let mine = (answer.client, until);
                    if let Some((other, theirs)) = self.by.insert(address, mine) {
                        assert!(
                            other == answer.client || theirs <= now,
                            "{address} is {other}'s until {theirs}, and was given to {} at {now}",
                            answer.client
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn whatever_happens_to_a_pair_no_address_is_given_to_two_clients() {
    let mut dice = Dice::new();
    println!("seed {:#x}", dice.0);
    let mut below = |n: u32| dice.below(n);
    let mut two = Two::new(24);
    two.start(0, true);
    two.start(1, false);
    two.until(0, Standing::Leading);
    let mut told = Told::default();
    let end = Instant::now() + Duration::from_secs(10);
    let mut steps = [0; 8];
    while Instant::now() < end {
        let step = below(40) as usize;
        steps[step.min(7)] += 1;
        match step {
            0 => two.wire.cut(),
            1 => two.wire.stall(),
            2 | 3 => two.wire.heal(),
            4 => {
                let n = below(2) as usize;
                two.gateways[n] = None;
                told.waits.retain(|_, (gateway, ..)| *gateway != n);
                let active = below(2) == 0;
                two.start(n, active);
            }
            5 => {
                for n in 0..2 {
                    let active = below(3) > 0;
                    two.at(n).active.store(active, Ordering::Release);
                }
            }
            6 => two.clock.pass(u64::from(below(40))),
            _ => {
                // Several clients at both, at once.
                for _ in 0..below(6) {
                    let (n, client) = (below(2) as usize, u8::try_from(below(30)).unwrap());
                    if told.waits.get(&client).is_some_and(|(.., since)| since.elapsed() < GIVES_UP) {
                        continue;
                    }
                    let want = if below(5) == 0 { Want::Release } else { Want::Address };
                    if want == Want::Release {
                        // It stops using what it has, whatever becomes of the message.
                        told.by.retain(|_, (who, _)| *who != client);
                    }
                    let g = two.at(n);
                    if !g.rings[0].0.is_full() {
                        // A number that no gateway used before it was started anew.
                        g.next = g.next.max(u64::try_from(told.answers).unwrap() << 20);
                        let number = g.ask(0, client, want);
                        told.waits.insert(client, (n, number, Instant::now()));
                    }
                }
                std::thread::sleep(Duration::from_millis(u64::from(below(30))));
            }
        }
        told.take(&mut two);
    }
    println!("{} answers, steps {steps:?}", told.answers);
    assert!(told.answers > 50, "{} answers: nothing was tried", told.answers);
    // Left alone they come to be the same.
    two.wire.heal();
    two.at(0).active.store(true, Ordering::Release);
    two.at(1).active.store(false, Ordering::Release);
    two.until(0, Standing::Leading);
    let number = two.at(0).ask(0, 200, Want::Release);
    let _ = two.at(0).answer(0, number, Duration::from_secs(5));
    until("the same leases", || two.leases(0) == two.leases(1));
    let conflicts = [0, 1].map(|n| two.at(n).control().status().peer.conflicts);
    assert_eq!(conflicts, [0, 0]);
}
