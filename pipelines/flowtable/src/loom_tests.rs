//! Models for loom: every interleaving of the table's races, up to a number of preemptions.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p causeway-flowtable --release loom`. Under `cfg(loom)`
//! buckets have two words, batches one slot, and a key's window in the neighbour map two entries.

use crate::hash::Hasher;
use crate::index::{Index, Probe, Refused, Same, Side};
use crate::ports::PortBitmap;
use crate::seqmap::SeqMap;
use crate::sync::{AtomicU64, Ordering};
use crate::*;
use loom::thread;
use std::sync::Arc;

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut b = loom::model::Builder::new();
    b.preemption_bound = Some(preemptions);
    b.max_branches = 1_000_000;
    b.check(f);
}

// ---- the index by itself

/// Index words of one key for slots 0, 1 and 2; the control says who is dying.
struct Bare {
    index: Index,
    probe: Probe,
    dying: [AtomicU64; 3],
}

impl Bare {
    fn new() -> Arc<Self> {
        let index = Index::new(4).unwrap();
        // A key whose two buckets are two.
        let h = Hasher::new([1, 2, 3, 4]);
        let mut probes = (0..).map(|i| Probe::new(h.two(5, i), Side::Inside));
        let probe = probes.find(|p| !std::ptr::eq(index.first(p), index.second(p))).unwrap();
        Arc::new(Self { index, probe, dying: std::array::from_fn(|_| AtomicU64::new(0)) })
    }

    fn judge(&self, slot: u32) -> Same {
        if self.dying[slot as usize].load(Ordering::SeqCst) == 0 { Same::Yes } else { Same::Dying }
    }

    fn insert(&self, slot: u32) -> Result<(), Refused> {
        self.index.insert(&self.probe, slot, 0, |s| self.judge(s))
    }

    fn members(&self) -> Vec<u32> {
        let mut v = Vec::new();
        let _: Option<()> = self.index.find(&self.probe, |s| {
            v.push(s);
            None
        });
        v.sort_unstable();
        v.dedup();
        v
    }
}

#[test]
fn loom_two_inserters_of_one_key_leave_exactly_one() {
    model(4, || {
        let b = Bare::new();
        let other = Arc::clone(&b);
        let t = thread::spawn(move || other.insert(1));
        let mine = b.insert(0);
        let theirs = t.join().unwrap();
        let winners = usize::from(mine.is_ok()) + usize::from(theirs.is_ok());
        assert_eq!(winners, 1, "{mine:?} {theirs:?}");
        assert_eq!(b.members(), [if mine.is_ok() { 0 } else { 1 }]);
        assert_eq!(b.index.used_words(), 1);
    });
}

#[test]
fn loom_three_inserters_of_one_key_leave_at_most_one() {
    model(2, || {
        let b = Bare::new();
        let threads: Vec<_> = [1, 2]
            .map(|slot| {
                let b = Arc::clone(&b);
                thread::spawn(move || b.insert(slot))
            })
            .into();
        let mut results = vec![b.insert(0)];
        results.extend(threads.into_iter().map(|t| t.join().unwrap()));
        let winners: Vec<u32> = (0..3).filter(|i| results[*i as usize].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert_eq!(b.members(), winners);
        assert_eq!(b.index.used_words(), 1);
    });
}

#[test]
fn loom_an_inserter_beside_the_end_of_the_old_entry_leaves_at_most_one() {
    model(4, || {
        let b = Bare::new();
        b.insert(0).unwrap();
        let other = Arc::clone(&b);
        let t = thread::spawn(move || {
            other.dying[0].store(1, Ordering::SeqCst);
            other.index.remove(&other.probe, 0, 0);
        });
        let mine = b.insert(1);
        t.join().unwrap();
        match mine {
            Ok(()) => assert_eq!(b.members(), [1]),
            Err(Refused::Exists(0)) => assert_eq!(b.members(), [] as [u32; 0]),
            other => panic!("{other:?}"),
        }
        assert_eq!(b.index.used_words(), u64::from(mine.is_ok()));
    });
}

#[test]
fn loom_two_inserters_beside_the_end_of_the_old_entry_leave_at_most_one() {
    model(2, || {
        let b = Bare::new();
        b.insert(0).unwrap();
        let (ender, inserter) = (Arc::clone(&b), Arc::clone(&b));
        let e = thread::spawn(move || {
            ender.dying[0].store(1, Ordering::SeqCst);
            ender.index.remove(&ender.probe, 0, 0);
        });
        let t = thread::spawn(move || inserter.insert(2));
        let mine = b.insert(1);
        e.join().unwrap();
        let theirs = t.join().unwrap();
        assert!(!(mine.is_ok() && theirs.is_ok()));
        assert_eq!(b.index.used_words(), u64::from(mine.is_ok() || theirs.is_ok()));
    });
}

#[test]
fn loom_an_inserter_in_the_stash_and_one_in_a_bucket_leave_exactly_one() {
    model(3, || {
        let b = Bare::new();
        // Both buckets are full of other keys; one word of them is given back meanwhile.
        for filler in 10..14 {
            b.index.insert(&b.probe, filler, 0, |_| Same::No).unwrap();
        }
        let judge = |s: u32| if s < 3 { Same::Yes } else { Same::No };
        let other = Arc::clone(&b);
        let t = thread::spawn(move || {
            assert!(other.index.remove(&other.probe, 10, 0));
            other.index.insert(&other.probe, 1, 0, judge)
        });
        let mine = b.index.insert(&b.probe, 0, 0, judge);
        let theirs = t.join().unwrap();
        let winners = usize::from(mine.is_ok()) + usize::from(theirs.is_ok());
        assert_eq!(winners, 1, "{mine:?} {theirs:?}");
        let mut members = b.members();
        members.retain(|s| *s < 3);
        assert_eq!(members, [if mine.is_ok() { 0 } else { 1 }]);
        assert_eq!(b.index.used_words(), 4);
        assert_eq!(b.index.has_stash(), b.index.stash_words() == 1);
    });
}

// ---- the whole table

const KEY: InsideKey = InsideKey { src6: 5, dst4: 7, src_port: 1000, dst_port: 443, protocol: 17, prefix: 0 };
const REPLY: OutsideKey = OutsideKey { out4: 9, remote4: 7, out_port: 4000, remote_port: 443, protocol: 17 };
const MAPPED: MapInsideKey = MapInsideKey { src6: 5, port: 1000, protocol: 17, pool: 0 };

fn table() -> Arc<FlowTable> {
    FlowTable::new(&Config {
        sessions: 1,
        mappings: 1,
        spliced: 0,
        workers: 2,
        control_readers: 1,
        seed: [1, 2, 3, 4],
    })
    .unwrap()
}

fn new_session(key: NewKey) -> NewSession {
    NewSession {
        key,
        kind: Kind::Nat64,
        owner: 0,
        subscriber: 0,
        plan_generation: 0,
        state: 0,
        flags: 0,
        tick: Tick(1),
        aux: 0,
    }
}

fn new_mapping(pinned: bool) -> NewMapping {
    NewMapping { key: MAPPED, owner: 0, flags: 0, subscriber: 0, plan_generation: 0, pinned, aux: 0 }
}

#[derive(Default)]
struct Ended {
    sessions: u32,
    mappings: u32,
}

impl Sweeper for Ended {
    fn judge(&mut self, _: &Session<'_>, ctl: Ctl, now: Tick) -> Fate {
        if now.since(ctl.last_seen()) > 0 { Fate::End } else { Fate::Keep }
    }
    fn session_ended(&mut self, _: &Session<'_>) {
        self.sessions += 1;
    }
    fn mapping_ended(&mut self, _: &Mapping<'_>) {
        self.mappings += 1;
    }
}

/// Creates the flow from the inside, as NAT64 does: mapping by lookup, else new.
fn create<'g>(g: &'g Guard<'_>) -> Result<Created<Session<'g>>, CreateError<MappingError>> {
    g.create_session(&new_session(NewKey::Inside(KEY)), || {
        let known = g.lookup_mapping_inside(&MAPPED).hit().and_then(|m| m.acquire());
        let m = match known {
            Some(m) => m,
            None => g.create_mapping(&new_mapping(false), &mut FixedPort::new(9, 4000))?.into_inner(),
        };
        Ok(Reserved::translated(m, KEY.dst4, KEY.dst_port, 0))
    })
}

/// Creates the flow from the outside: there has to be a mapping.
fn create_from_outside<'g>(g: &'g Guard<'_>) -> Result<Created<Session<'g>>, CreateError<MappingError>> {
    let key = MapOutsideKey { out4: REPLY.out4, port: REPLY.out_port, protocol: REPLY.protocol };
    let m = g.lookup_mapping_outside(&key).hit().expect("it is pinned");
    let inside = InsideKey { src6: m.src6(), src_port: m.src_port(), ..KEY };
    g.create_session(&new_session(NewKey::Inside(inside)), || {
        let m = m.acquire().ok_or(MappingError::Building)?;
        Ok(Reserved::translated(m, KEY.dst4, KEY.dst_port, 0))
    })
}

fn live(t: &Arc<FlowTable>) -> (usize, usize) {
    let mut r = t.reader().unwrap();
    let g = r.enter();
    let (mut s, mut m) = (0, 0);
    g.sessions(0, u32::MAX, |_| s += 1);
    g.mappings(0, u32::MAX, |_| m += 1);
    (s, m)
}

#[test]
fn loom_two_workers_create_one_flow() {
    model(2, || {
        let t = table();
        let (mut a, mut b) = (t.worker(0).unwrap(), t.worker(1).unwrap());
        let other = thread::spawn(move || {
            let g = b.enter();
            matches!(create(&g), Ok(Created::Fresh(_)))
        });
        let g = a.enter();
        let mine = matches!(create(&g), Ok(Created::Fresh(_)));
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "exactly one made it");
        let s = g.lookup(&KEY).hit().expect("it is there");
        assert_eq!(g.lookup(&REPLY), Lookup::Hit(s));
        assert_eq!(s.mapping().map(|m| m.references()), Some(1));
        assert_eq!((live(&t), t.used_index_words()), ((1, 1), (2, 2)));
    });
}

#[test]
fn loom_inside_and_outside_create_one_flow() {
    model(2, || {
        let t = table();
        let (mut a, mut b) = (t.worker(0).unwrap(), t.worker(1).unwrap());
        {
            let g = a.enter();
            drop(g.create_mapping(&new_mapping(true), &mut FixedPort::new(9, 4000)).unwrap());
        }
        let other = thread::spawn(move || {
            let g = b.enter();
            matches!(create_from_outside(&g), Ok(Created::Fresh(_)))
        });
        let g = a.enter();
        let mine = matches!(create(&g), Ok(Created::Fresh(_)));
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "exactly one made it");
        let s = g.lookup(&REPLY).hit().expect("it is there");
        assert_eq!(g.lookup(&KEY), Lookup::Hit(s));
        assert_eq!(s.mapping().map(|m| m.references()), Some(2));
        assert_eq!((live(&t), t.used_index_words()), ((1, 1), (2, 2)));
    });
}

#[test]
fn loom_a_reader_sees_a_flow_whole_or_not_at_all() {
    model(2, || {
        let t = table();
        let mut a = t.worker(0).unwrap();
        let mut r = t.reader().unwrap();
        let reader = thread::spawn(move || {
            let g = r.enter();
            for found in [g.lookup(&KEY), g.lookup(&REPLY)] {
                if let Lookup::Hit(s) = found {
                    assert_eq!((s.inside_key(), s.outside_key()), (Some(KEY), Some(REPLY)));
                    assert_eq!((g.lookup(&KEY), g.lookup(&REPLY)), (Lookup::Hit(s), Lookup::Hit(s)));
                    let m = s.mapping().expect("a mapping");
                    assert!(m.is_live() && m.references() == 1 && m.inside_key() == MAPPED);
                    assert_eq!((s.ctl().last_seen(), s.plan_generation()), (Tick(1), 0));
                }
            }
        });
        let g = a.enter();
        assert!(matches!(create(&g), Ok(Created::Fresh(_))));
        reader.join().unwrap();
    });
}

#[test]
fn loom_creation_beside_expiry_of_the_same_flow() {
    model(2, || {
        let t = table();
        let (mut a, mut b) = (t.worker(0).unwrap(), t.worker(1).unwrap());
        {
            let g = a.enter();
            assert!(create(&g).is_ok());
        }
        let other = thread::spawn(move || {
            let g = b.enter();
            let s = g.lookup(&KEY).hit().expect("nobody else ends it");
            let mut ended = Ended::default();
            assert!(g.end(&s, &mut ended));
            (ended.sessions, ended.mappings)
        });
        let g = a.enter();
        let mine = create(&g);
        let fresh = matches!(mine, Ok(Created::Fresh(_)));
        let (sessions, mut mappings) = other.join().unwrap();
        assert_eq!(sessions, 1);
        // A mapping that lost its last reference when nobody looked is the sweep's.
        let mut ended = Ended::default();
        g.sweep(u32::MAX, Tick(1), &mut ended);
        mappings += ended.mappings;
        if fresh {
            let s = g.lookup(&KEY).hit().expect("the new one");
            assert_eq!(g.lookup(&REPLY), Lookup::Hit(s));
            let m = s.mapping().unwrap();
            assert!(m.is_live() && m.references() == 1);
            assert_eq!(g.lookup_mapping_inside(&MAPPED), Lookup::Hit(m));
            assert_eq!((live(&t), t.used_index_words()), ((1, 1), (2, 2)));
            assert!(mappings <= 1);
        } else {
            assert_eq!((live(&t), t.used_index_words()), ((0, 0), (0, 0)));
            assert!(mappings >= 1);
        }
        let s = t.stats();
        assert_eq!(s.mappings_ended, u64::from(mappings));
        assert_eq!(s.mappings_created - s.mappings_ended, u64::from(fresh));
    });
}

#[test]
fn loom_a_refresh_is_not_lost_and_one_party_ends_a_flow() {
    model(2, || {
        let t = table();
        let (mut a, mut b) = (t.worker(0).unwrap(), t.worker(1).unwrap());
        {
            let g = a.enter();
            assert!(create(&g).is_ok());
        }
        let other = thread::spawn(move || {
            let g = b.enter();
            let mut ended = Ended::default();
            g.sweep(u32::MAX, Tick(2), &mut ended);
            ended.sessions
        });
        let g = a.enter();
        let refreshed = g.lookup(&KEY).hit().is_some_and(|s| s.touch(Tick(2)));
        let mut ended = Ended::default();
        g.sweep(u32::MAX, Tick(2), &mut ended);
        let theirs = other.join().unwrap();
        assert_eq!(ended.sessions + theirs, u32::from(!refreshed));
        assert_eq!(g.lookup(&KEY).hit().is_some(), refreshed);
    });
}

#[test]
fn loom_a_reader_never_sees_a_slot_that_is_used_again() {
    model(2, || {
        let t = table();
        let mut a = t.worker(0).unwrap();
        let mut r = t.reader().unwrap();
        let native = |n: u128| NativeKey { src6: n, dst6: n, src_port: 1, dst_port: 2, protocol: 6 };
        {
            let g = a.enter();
            assert!(g.create_single(&new_session(NewKey::Native(native(1)))).is_ok());
        }
        let reader = thread::spawn(move || {
            let g = r.enter();
            if let Lookup::Hit(s) = g.lookup(&native(1)) {
                // Ended or not: under the guard it is still the flow that was looked up.
                assert_eq!(s.native_key(), Some(native(1)));
                assert_eq!(s.ctl().generation(), 0);
            }
        });
        let slot;
        {
            let g = a.enter();
            let s = g.lookup(&native(1)).hit().unwrap();
            slot = s.slot();
            assert!(g.end(&s, &mut Ended::default()));
        }
        for _ in 0..2 {
            drop(a.enter());
        }
        {
            // As many as it takes to get the slot again, if it may be had.
            let g = a.enter();
            for n in 2..4 {
                if let Ok(made) = g.create_single(&new_session(NewKey::Native(native(n)))) {
                    let s = made.into_inner();
                    assert!(s.slot() != slot || s.ctl().generation() == 1);
                }
            }
        }
        reader.join().unwrap();
    });
}

// ---- a second key for a session in use

/// The way in of the connection that [`accept`] makes.
const WAY_IN: InsideKey =
    InsideKey { src6: 5, dst4: 0, src_port: 443, dst_port: 1025, protocol: 6, prefix: OWN_ADDRESS };

fn accepted(remote_port: u16) -> OutsideKey {
    OutsideKey { out4: 9, remote4: 7, out_port: 443, remote_port, protocol: 6 }
}

fn splice_table() -> Arc<FlowTable> {
    FlowTable::new(&Config {
        sessions: 2,
        mappings: 1,
        spliced: 2,
        workers: 2,
        control_readers: 1,
        seed: [1, 2, 3, 4],
    })
    .unwrap()
}

fn accept(g: &Guard<'_>, remote_port: u16) {
    let new = NewSession { kind: Kind::Spliced, ..new_session(NewKey::Outside(accepted(remote_port))) };
    assert!(matches!(g.create_single(&new), Ok(Created::Fresh(_))));
}

fn add(g: &Guard<'_>, remote_port: u16) -> bool {
    let s = g.lookup(&accepted(remote_port)).hit().expect("it is there");
    let line = g.take_spliced().expect("a line");
    line.client_seq_delta.store(77, Ordering::Relaxed);
    if g.add_inside(&s, WAY_IN, line, 0x1234).is_err() {
        return false;
    }
    s.transition(|c| Some(c.with_state(1))).is_some()
}

#[test]
fn loom_two_sessions_want_one_inside_key_and_one_gets_it() {
    model(2, || {
        let t = splice_table();
        let (mut a, mut b) = (t.worker(0).unwrap(), t.worker(1).unwrap());
        {
            let g = a.enter();
            accept(&g, 1);
            accept(&g, 2);
        }
        let other = thread::spawn(move || add(&b.enter(), 2));
        let g = a.enter();
        let mine = add(&g, 1);
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "exactly one has it");
        let s = g.lookup(&WAY_IN).hit().expect("somebody has it");
        assert_eq!(s.remote_port(), if mine { 1 } else { 2 });
        let loser = g.lookup(&accepted(if mine { 2 } else { 1 })).hit().expect("still there");
        assert!(loser.inside_key().is_none() && loser.spliced().is_none());
        assert_eq!(t.used_index_words(), (3, 0));
    });
}

#[test]
fn loom_a_key_is_added_beside_the_end_of_its_session() {
    model(2, || {
        let t = splice_table();
        let (mut a, mut b) = (t.worker(0).unwrap(), t.worker(1).unwrap());
        accept(&a.enter(), 1);
        let other = thread::spawn(move || {
            let g = b.enter();
            let s = g.lookup(&accepted(1)).hit().expect("nobody else ends it");
            assert!(g.end(&s, &mut Ended::default()));
        });
        {
            let g = a.enter();
            if let Lookup::Hit(s) = g.lookup(&accepted(1)) {
                let line = g.take_spliced().expect("a line");
                match g.add_inside(&s, WAY_IN, line, 0) {
                    Ok(()) | Err(AddError::Ended(_)) => {}
                    Err(e) => panic!("{e}"),
                }
            }
        }
        other.join().unwrap();
        let g = a.enter();
        assert_eq!((g.lookup(&WAY_IN), g.lookup(&accepted(1))), (Lookup::Miss, Lookup::Miss));
        assert_eq!(t.used_index_words(), (0, 0), "no word stays behind");
    });
}

#[test]
fn loom_whoever_finds_a_session_by_its_added_key_sees_all_of_it() {
    model(3, || {
        let t = splice_table();
        let (mut a, mut b) = (t.worker(0).unwrap(), t.worker(1).unwrap());
        accept(&a.enter(), 1);
        let other = thread::spawn(move || {
            let g = b.enter();
            if let Lookup::Hit(s) = g.lookup(&WAY_IN) {
                assert_eq!((s.inside_key(), s.outside_key()), (Some(WAY_IN), Some(accepted(1))));
                assert_eq!(s.checksum_delta(), 0x1234);
            }
            let s = g.lookup(&accepted(1)).hit().expect("all the time");
            if s.ctl().state() == 1 {
                let line = s.spliced().expect("it was there before the state");
                assert_eq!(line.client_seq_delta.load(Ordering::Relaxed), 77);
                assert_eq!(g.lookup(&WAY_IN), Lookup::Hit(s));
            }
        });
        assert!(add(&a.enter(), 1));
        other.join().unwrap();
    });
}

// ---- the smaller parts

#[test]
fn loom_two_workers_never_get_the_same_slot() {
    model(3, || {
        let t = table();
        let (a, b) = (t.sessions.cache(), t.sessions.cache());
        let before = t.sessions.take(&a).unwrap();
        let t2 = Arc::clone(&t);
        let other = thread::spawn(move || {
            let x = t2.sessions.take(&b).unwrap();
            let y = t2.sessions.take(&b).unwrap();
            t2.sessions.give(&b, x);
            t2.sessions.spill(&b);
            let z = t2.sessions.take(&b).unwrap();
            (y, z)
        });
        t.sessions.give(&a, before);
        t.sessions.spill(&a);
        let x = t.sessions.take(&a).unwrap();
        let (y, z) = other.join().unwrap();
        assert!(x != y && y != z && x != z);
    });
}

#[test]
fn loom_neighbours_entries_are_copied_whole() {
    model(3, || {
        let m = Arc::new(SeqMap::new(1, [1, 2]));
        let key = |k: u64| [k, k + 1, k + 2];
        // Two keys that want the same entry.
        let twin = (2..).find(|k| std::ptr::eq(m.home(&key(1)), m.home(&key(*k)))).unwrap();
        m.insert(&key(1), 100).unwrap();
        let w = Arc::clone(&m);
        let writer = thread::spawn(move || {
            assert_eq!(w.remove(&key(1)), Some(100));
            w.insert(&key(twin), twin * 100).unwrap();
        });
        for k in [1, twin] {
            assert!(m.get(&key(k)).is_none_or(|v| v == k * 100));
        }
        m.iterate(0, usize::MAX, |k, v| assert_eq!((k, v), (&key(k[0]), k[0] * 100)));
        writer.join().unwrap();
        assert_eq!((m.get(&key(1)), m.get(&key(twin)), m.len()), (None, Some(twin * 100), 1));
    });
}

#[test]
fn loom_two_writers_of_different_keys_do_not_disturb_each_other() {
    model(3, || {
        let m = Arc::new(SeqMap::new(2, [1, 2]));
        let w = Arc::clone(&m);
        let writer = thread::spawn(move || w.insert(&[2, 0, 0], 200).is_ok());
        let mine = m.insert(&[1, 0, 0], 100).is_ok();
        let theirs = writer.join().unwrap();
        assert_eq!(m.get(&[1, 0, 0]), mine.then_some(100));
        assert_eq!(m.get(&[2, 0, 0]), theirs.then_some(200));
        assert_eq!(m.len(), u32::from(mine) + u32::from(theirs));
        assert!(mine || theirs);
    });
}

// ---- bindings

fn host(n: u128) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::from_bits(n)
}

fn single(n: u128) -> causeway_core::Prefix6 {
    causeway_core::Prefix6::new(host(n), 128).unwrap()
}

fn station(n: u128) -> causeway_wire::MacAddr {
    causeway_wire::MacAddr([2, 0, 0, 0, 0, n as u8])
}

#[test]
fn loom_a_binding_that_is_moved_is_never_missed() {
    model(3, || {
        let b = Arc::new(Bindings::new(5, [1, 2]).unwrap());
        let at = |n: u128| b.buckets_of(1, host(n));
        // Two bindings in each of two buckets, and a fifth that may be in these buckets only: the first
        // has to move to its other one.
        let [a, c] = at(1);
        let mut others = (2..).map(|n| (n, at(n)));
        let beside = others.find(|(_, p)| p[0] == a).unwrap().0;
        let fifth = others.find(|(_, p)| p[0] == a && p[1] != c).unwrap();
        let third = others.find(|(_, p)| p[0] == fifth.1[1]).unwrap().0;
        let fourth = others.find(|(_, p)| p[0] == fifth.1[1]).unwrap().0;
        for n in [1, beside, third, fourth] {
            b.set(1, single(n), station(n)).unwrap();
        }
        assert_eq!(b.moves(), 0);
        let w = Arc::clone(&b);
        let writer = thread::spawn(move || w.set(1, single(fifth.0), station(fifth.0)).unwrap());
        assert_eq!(b.lookup(1, host(1)), Some(station(1)));
        assert!(b.lookup(1, host(fifth.0)).is_none_or(|m| m == station(fifth.0)));
        writer.join().unwrap();
        assert_eq!(b.moves(), 1);
        for n in [1, beside, third, fourth, fifth.0] {
            assert_eq!(b.lookup(1, host(n)), Some(station(n)));
        }
    });
}

#[test]
fn loom_a_binding_is_never_seen_under_another_address() {
    model(3, || {
        let b = Arc::new(Bindings::new(1, [1, 2]).unwrap());
        let home = b.buckets_of(1, host(1))[0];
        let twin = (2..).find(|n| b.buckets_of(1, host(*n))[0] == home).unwrap();
        b.set(1, single(1), station(1)).unwrap();
        let w = Arc::clone(&b);
        let writer = thread::spawn(move || {
            assert_eq!(w.remove(1, single(1)), Some(station(1)));
            w.set(1, single(twin), station(twin)).unwrap();
        });
        for n in [1, twin] {
            assert!(b.lookup(1, host(n)).is_none_or(|m| m == station(n)));
        }
        writer.join().unwrap();
        assert_eq!((b.lookup(1, host(1)), b.lookup(1, host(twin)), b.len()), (None, Some(station(twin)), 1));
    });
}

#[test]
fn loom_a_binding_that_goes_to_another_station_is_always_there() {
    model(3, || {
        let b = Arc::new(Bindings::new(1, [1, 2]).unwrap());
        b.set(1, single(1), station(1)).unwrap();
        let w = Arc::clone(&b);
        let writer = thread::spawn(move || w.set(1, single(1), station(2)).unwrap());
        assert!([Some(station(1)), Some(station(2))].contains(&b.lookup(1, host(1))));
        writer.join().unwrap();
        assert_eq!(b.lookup(1, host(1)), Some(station(2)));
    });
}

#[test]
fn loom_a_binding_is_not_missed_when_another_one_that_shares_its_bits_goes() {
    model(3, || {
        // One word of the filter for all.
        let b = Arc::new(Bindings::new(2, [1, 2]).unwrap());
        b.set(1, single(1), station(1)).unwrap();
        b.set(1, single(2), station(2)).unwrap();
        let w = Arc::clone(&b);
        let writer = thread::spawn(move || {
            assert_eq!(w.remove(1, single(2)), Some(station(2)));
            w.set(1, single(3), station(3)).unwrap();
        });
        assert_eq!(b.lookup_exact(1, host(1)), Some(station(1)));
        assert!(b.lookup_exact(1, host(3)).is_none_or(|m| m == station(3)));
        writer.join().unwrap();
        assert_eq!((b.lookup_exact(1, host(2)), b.lookup_exact(1, host(3))), (None, Some(station(3))));
    });
}

#[test]
fn loom_a_port_that_comes_back_while_its_word_fills_up_is_found() {
    model(3, || {
        let b = Arc::new(PortBitmap::new());
        for p in 1..128 {
            assert!(b.take(p));
        }
        let other = Arc::clone(&b);
        let t = thread::spawn(move || assert!(other.free(5)));
        let mine = b.alloc(0, 0..=63, None);
        t.join().unwrap();
        let left = match mine {
            Some(0) => 5,
            Some(5) => 0,
            other => panic!("{other:?}"),
        };
        // From another word, which is full, so that only the summary leads there.
        assert_eq!(b.alloc(u64::MAX, 0..=127, None), Some(left));
    });
}
