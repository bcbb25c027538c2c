//! Several workers on the same few flows, from both sides, with expiry and a reader: for five seconds,
//! or for `CAUSEWAY_STRESS_SECS`. Also run under the address and thread sanitizers (see `scripts/test`).

#![cfg(not(loom))]

use causeway_flowtable::ports::{Parity, PortBitmap};
use causeway_flowtable::*;
use std::collections::{HashMap, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const POOL: u32 = 0xcb00_7100;
const WORKERS: u8 = 3;
const PORTS: std::ops::RangeInclusive<u16> = 2000..=2063;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The pool, with a second opinion on who has which port.
struct Pool {
    ports: PortBitmap,
    taken: Vec<AtomicU32>,
}

struct Source<'a> {
    pool: &'a Pool,
    random: u64,
}

impl PortSource for Source<'_> {
    fn reserve(&mut self) -> Option<(u32, u16)> {
        let parity = [None, Some(Parity::Even), Some(Parity::Odd)][(self.random % 3) as usize];
        let port = self.pool.ports.alloc(self.random, PORTS, parity)?;
        assert_eq!(
            self.pool.taken[usize::from(port)].swap(1, Ordering::SeqCst),
            0,
            "port {port} given twice"
        );
        Some((POOL, port))
    }
    fn release(&mut self, out4: u32, port: u16) {
        assert_eq!(out4, POOL);
        self.pool.give(port);
    }
}

impl Pool {
    fn give(&self, port: u16) {
        assert_eq!(self.taken[usize::from(port)].swap(0, Ordering::SeqCst), 1, "port {port} freed twice");
        assert!(self.ports.free(port));
    }
}

struct Expiry<'a> {
    pool: &'a Pool,
    timeout: u32,
}

impl Sweeper for Expiry<'_> {
    fn judge(&mut self, s: &Session<'_>, ctl: Ctl, now: Tick) -> Fate {
        assert!(s.src6() >> 64 == 0x2001_0db8_0064_0000, "a session that was never written");
        if now.since(ctl.last_seen()) >= self.timeout { Fate::End } else { Fate::Keep }
    }
    fn session_ended(&mut self, s: &Session<'_>) {
        assert_eq!(s.ctl().lifecycle(), Lifecycle::Dying);
    }
    fn mapping_ended(&mut self, m: &Mapping<'_>) {
        assert_eq!(m.references(), 0);
        self.pool.give(m.out_port());
    }
}

fn key(n: u64) -> InsideKey {
    InsideKey {
        src6: 0x2001_0db8_0064_0000 << 64 | u128::from(n % 5),
        dst4: 0xc633_6400 + (n / 5 % 3) as u32,
        src_port: 1000 + (n / 15 % 8) as u16,
        dst_port: 443,
        protocol: 17,
        prefix: 0,
    }
}
const KEYS: u64 = 5 * 3 * 8;

fn map_key(k: &InsideKey) -> MapInsideKey {
    MapInsideKey { src6: k.src6, port: k.src_port, protocol: k.protocol, pool: 0 }
}

fn new_session(k: InsideKey, tick: Tick) -> NewSession {
    NewSession {
        key: NewKey::Inside(k),
        kind: Kind::Nat64,
        owner: 0,
        subscriber: 1,
        plan_generation: 0,
        state: 0,
        flags: 0,
        tick,
        aux: 0,
    }
}

type Made<'g> = Result<Created<Session<'g>>, CreateError<MappingError>>;

fn create_inside<'g>(g: &'g Guard<'_>, k: InsideKey, tick: Tick, pool: &Pool, random: u64) -> Made<'g> {
    g.create_session(&new_session(k, tick), || {
        let m = match g.lookup_mapping_inside(&map_key(&k)).hit().and_then(|m| m.acquire()) {
            Some(m) => m,
            None => {
                let new = NewMapping {
                    key: map_key(&k),
                    owner: 0,
                    flags: 0,
                    subscriber: 1,
                    plan_generation: 0,
                    pinned: false,
                    aux: 0,
                };
                g.create_mapping(&new, &mut Source { pool, random })?.into_inner()
            }
        };
        Ok(Reserved::translated(m, k.dst4, k.dst_port, 0))
    })
}

/// A packet from outside to some port: if there is a mapping, its flow is made.
fn create_outside<'g>(g: &'g Guard<'_>, n: u64, tick: Tick) -> Option<Made<'g>> {
    let port = PORTS.start() + (n % 64) as u16;
    let m = g.lookup_mapping_outside(&MapOutsideKey { out4: POOL, port, protocol: 17 }).hit()?;
    let k = InsideKey { src6: m.src6(), src_port: m.src_port(), ..key(n) };
    Some(g.create_session(&new_session(k, tick), || {
        let m = m.acquire().ok_or(MappingError::Building)?;
        Ok(Reserved::translated(m, k.dst4, k.dst_port, 0))
    }))
}

/// Two lookups in a row find the same session, unless the first has ended.
fn check_hit(g: &Guard<'_>, k: &InsideKey, s: &Session<'_>) {
    assert_eq!(s.inside_key(), Some(*k), "a session of another key");
    let outside = s.outside_key().expect("it has two keys");
    assert_eq!((outside.remote4, outside.remote_port), (k.dst4, k.dst_port));
    for again in [g.lookup(k), g.lookup(&outside)] {
        if again != Lookup::Hit(*s) {
            assert!(!s.is_live(), "{again:?} instead of {s:?}");
        }
    }
    let m = s.mapping().expect("it has a mapping");
    let (references, live) = (m.references(), m.is_live());
    assert!(!s.is_live() || (references > 0 && live), "a live session of a dead mapping");
    assert_eq!((m.src6(), m.src_port(), m.out_port()), (k.src6, k.src_port, outside.out_port));
}

/// While nobody works: everything fits together.
fn check_all(table: &FlowTable, reader: &mut Reader, pool: &Pool) {
    let g = reader.enter();
    let (mut sessions, mut mappings) = (HashMap::new(), HashSet::new());
    let mut references: HashMap<u16, u32> = HashMap::new();
    assert_eq!(
        g.sessions(0, u32::MAX, |s| {
            let k = s.inside_key().expect("an inside key");
            assert!(sessions.insert(k, s.slot()).is_none(), "two live sessions for {k:?}");
            assert_eq!(g.lookup(&k), Lookup::Hit(*s));
            assert_eq!(g.lookup(&s.outside_key().expect("an outside key")), Lookup::Hit(*s));
            let m = s.mapping().expect("a mapping");
            assert!(m.is_live());
            *references.entry(m.out_port()).or_default() += 1;
        }),
        None
    );
    g.mappings(0, u32::MAX, |m| {
        assert!(mappings.insert(m.inside_key()), "two live mappings for {m:?}");
        assert_eq!(g.lookup_mapping_inside(&m.inside_key()), Lookup::Hit(*m));
        assert_eq!(g.lookup_mapping_outside(&m.outside_key()), Lookup::Hit(*m));
        assert_eq!(m.references(), references.get(&m.out_port()).copied().unwrap_or(0));
        assert!(pool.ports.is_taken(m.out_port()));
    });
    assert!(references.len() <= mappings.len());
    assert_eq!(pool.ports.in_use() as usize, mappings.len(), "a port was lost");
    let s = table.stats();
    assert_eq!((s.sessions as usize, s.mappings as usize), (sessions.len(), mappings.len()));
    assert_eq!(table.used_index_words(), (sessions.len() as u64 * 2, mappings.len() as u64 * 2));
}

/// Seconds for one of two tests.
fn secs() -> u64 {
    std::env::var("CAUSEWAY_STRESS_SECS").ok().and_then(|s| s.parse::<u64>().ok()).unwrap_or(5).div_ceil(2)
}

#[test]
fn workers_on_the_same_flows_from_both_sides_with_expiry() {
    run(4000, 1000);
}

/// Fewer slots than keys: full tables, starved workers, and endings that are put off.
#[test]
fn the_same_in_a_table_that_is_too_small() {
    run(90, 40);
}

fn run(slots: u32, mappings: u32) {
    let secs = secs();
    let until = Instant::now() + Duration::from_secs(secs);
    let table = FlowTable::new(&Config {
        sessions: slots,
        mappings,
        spliced: 0,
        workers: WORKERS,
        control_readers: 2,
        seed: [3, 1, 4, 1],
    })
    .expect("a small table");
    let pool = Pool { ports: PortBitmap::new(), taken: (0..=u16::MAX).map(|_| AtomicU32::new(0)).collect() };
    let clock = AtomicU32::new(0);
    let (stop, barrier) = (AtomicBool::new(false), Barrier::new(usize::from(WORKERS)));
    let [fresh, existing, building, full, ended, rounds] = std::array::from_fn(|_| AtomicU64::new(0));
    std::thread::scope(|scope| {
        for id in 0..WORKERS {
            let (table, pool, clock, stop, barrier) = (&table, &pool, &clock, &stop, &barrier);
            let (fresh, existing, building, full, ended, rounds) =
                (&fresh, &existing, &building, &full, &ended, &rounds);
            scope.spawn(move || {
                let mut w = table.worker(id).expect("the worker's handle");
                let mut rng = Rng(u64::from(id) << 56 | secs);
                while !stop.load(Ordering::SeqCst) {
                    for _ in 0..4000 {
                        // Often the same small part of the keys at the same time.
                        let tick = Tick(clock.load(Ordering::Relaxed));
                        let g = w.enter();
                        let near = rng.below(4) * 30;
                        let keys: [InsideKey; 8] =
                            std::array::from_fn(|_| key((near + rng.below(12)) % KEYS));
                        let mut out = [Lookup::Miss; 8];
                        g.lookup_inside(&keys, &mut out);
                        for (k, found) in keys.iter().zip(out) {
                            match found {
                                Lookup::Hit(s) => {
                                    check_hit(&g, k, &s);
                                    match rng.below(16) {
                                        0 => {
                                            let done = g.end(&s, &mut Expiry { pool, timeout: 0 });
                                            ended.fetch_add(u64::from(done), Ordering::Relaxed);
                                        }
                                        1..8 if s.touch(tick) => {
                                            let c = s.transition(|c| {
                                                Some(c.with_state(c.state().wrapping_add(1)))
                                            });
                                            assert!(c.is_none_or(|c| c.lifecycle() == Lifecycle::Live));
                                        }
                                        _ => {}
                                    }
                                }
                                Lookup::Building => {
                                    building.fetch_add(1, Ordering::Relaxed);
                                }
                                Lookup::Miss => {
                                    let made = if rng.below(3) == 0 {
                                        create_outside(&g, rng.next(), tick)
                                    } else {
                                        Some(create_inside(&g, *k, tick, pool, rng.next()))
                                    };
                                    match made {
                                        None => {}
                                        Some(Ok(Created::Fresh(s))) => {
                                            fresh.fetch_add(1, Ordering::Relaxed);
                                            check_hit(&g, &s.inside_key().expect("inside"), &s);
                                        }
                                        Some(Ok(Created::Existing(s))) => {
                                            existing.fetch_add(1, Ordering::Relaxed);
                                            check_hit(&g, &s.inside_key().expect("inside"), &s);
                                        }
                                        Some(Err(CreateError::Building)) => {
                                            building.fetch_add(1, Ordering::Relaxed);
                                        }
                                        Some(Err(CreateError::Conflict)) => panic!("an outside key twice"),
                                        Some(Err(_)) => {
                                            full.fetch_add(1, Ordering::Relaxed);
                                        }
                                    }
                                }
                            }
                        }
                        if rng.below(4) == 0 {
                            let swept = g.sweep(32, tick, &mut Expiry { pool, timeout: 3 });
                            ended.fetch_add(u64::from(swept.sessions), Ordering::Relaxed);
                        }
                        if rng.below(64) == 0 {
                            clock.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    // All stand still; one looks at everything.
                    if barrier.wait().is_leader() {
                        let mut reader = table.reader().expect("a reader's handle");
                        check_all(table, &mut reader, pool);
                        rounds.fetch_add(1, Ordering::Relaxed);
                        if Instant::now() >= until {
                            stop.store(true, Ordering::SeqCst);
                        }
                    }
                    barrier.wait();
                }
            });
        }
        let (table, stop) = (&table, &stop);
        scope.spawn(move || {
            let mut r = table.reader().expect("a reader's handle");
            while !stop.load(Ordering::SeqCst) {
                let mut at = Some(0);
                while let Some(from) = at {
                    let g = r.enter();
                    at = g.sessions(from, 16, |s| {
                        let k = s.inside_key().expect("an inside key");
                        assert!(k.src6 >> 64 == 0x2001_0db8_0064_0000 && k.dst_port == 443);
                    });
                }
                std::thread::yield_now();
            }
        });
    });
    let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
    println!(
        "rounds {} fresh {} existing {} building {} full {} ended {} {:?}",
        count(&rounds),
        count(&fresh),
        count(&existing),
        count(&building),
        count(&full),
        count(&ended),
        table.stats()
    );
    assert!(count(&fresh) > 1000 && count(&ended) > 1000, "too little happened");
    // The rest expires, and nothing is left.
    let mut w = table.worker(0).expect("the worker's handle");
    for _ in 0..200 {
        w.enter().sweep(
            u32::MAX,
            Tick(clock.load(Ordering::Relaxed) + 1000),
            &mut Expiry { pool: &pool, timeout: 1 },
        );
    }
    assert_eq!(count(&fresh), table.stats().sessions_ended);
    assert_eq!(table.used_index_words(), (0, 0));
    assert_eq!(pool.ports.in_use(), 0);
    check_all(&table, &mut table.reader().expect("a reader's handle"), &pool);
    // Every slot that is promised can be had again by each worker.
    drop(w);
    for id in 0..WORKERS {
        // What the other workers retired and cached is theirs; they come in turn to give it back.
        for _ in 0..64 {
            for w in 0..WORKERS {
                drop(table.worker(w).expect("a worker's handle").enter());
            }
        }
        let mut w = table.worker(id).expect("the worker's handle");
        let g = w.enter();
        for n in 0..slots {
            let native = NativeKey {
                src6: 0x2001_0db8_0064_0000 << 64 | u128::from(n),
                dst6: 1,
                src_port: 2,
                dst_port: 3,
                protocol: 6,
            };
            let new = NewSession {
                key: NewKey::Native(native),
                kind: Kind::Native6,
                ..new_session(key(0), Tick(0))
            };
            assert!(matches!(g.create_single(&new), Ok(Created::Fresh(_))), "a promised slot");
        }
        drop(g);
        let mut left = slots;
        for _ in 0..1000 {
            left -= w.enter().sweep(u32::MAX, Tick(1), &mut Expiry { pool: &pool, timeout: 1 }).sessions;
        }
        assert_eq!(left, 0);
    }
    assert_eq!(table.used_index_words(), (0, 0));
}

/// Bindings that stay are always found by readers, while others come and go and push them about.
#[test]
fn bindings_are_read_while_they_are_written() {
    use causeway_core::Prefix6;
    use causeway_wire::MacAddr;
    use std::net::Ipv6Addr;
    const STAY: u32 = 2_000;
    const ROOM: u32 = 10_000;
    let secs = std::env::var("CAUSEWAY_STRESS_SECS").ok().and_then(|s| s.parse().ok()).unwrap_or(5u64);
    let bindings = Bindings::new(ROOM, [7, 9]).unwrap();
    let address = |n: u32| Ipv6Addr::from_bits(0x2001_0db8_0064 << 80 | u128::from(n));
    let prefix = |n: u32| Prefix6::new(address(n), 128).unwrap();
    // Two stations for each address: the one that it has, and the one that it may move to.
    let station = |n: u32, other: bool| {
        let [a, b, c, d] = n.to_be_bytes();
        MacAddr([2, u8::from(other), a, b, c, d])
    };
    for n in 0..STAY {
        bindings.set(5, prefix(n), station(n, false)).unwrap();
    }
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|s| {
        for r in 0..3 {
            let (bindings, stop, reads) = (&bindings, &stop, &reads);
            s.spawn(move || {
                let mut rng = Rng(r);
                while !stop.load(Ordering::Relaxed) {
                    let asked: [u32; 16] = std::array::from_fn(|_| rng.below(u64::from(2 * ROOM)) as u32);
                    let prepared = asked.map(|n| bindings.prefetch(5, address(n)));
                    for (n, asked) in asked.iter().zip(&prepared) {
                        let found = bindings.find(asked);
                        let good = [Some(station(*n, false)), Some(station(*n, true))].contains(&found);
                        assert!(good || found.is_none() && *n >= STAY, "{found:?} for {n}");
                    }
                    reads.fetch_add(16, Ordering::Relaxed);
                }
            });
        }
        let mut rng = Rng(99);
        let mut there = vec![false; 2 * ROOM as usize];
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(secs) || reads.load(Ordering::Relaxed) == 0 {
            for _ in 0..1000 {
                let n = rng.below(u64::from(2 * ROOM)) as u32;
                let there = &mut there[n as usize];
                if n < STAY {
                    bindings.set(5, prefix(n), station(n, rng.below(2) == 1)).unwrap();
                } else if *there {
                    assert!(bindings.remove(5, prefix(n)).is_some());
                    *there = false;
                } else {
                    *there = bindings.set(5, prefix(n), station(n, false)).is_ok();
                    assert!(*there || bindings.len() == ROOM, "refused with room left");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        let left = there.iter().filter(|t| **t).count() as u32;
        assert_eq!(bindings.len(), STAY + left);
    });
    println!("{} reads, {} bindings", reads.load(Ordering::Relaxed), bindings.len());
}
