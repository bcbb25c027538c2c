//! Several workers give sessions from outside the same few inside keys, while others look them up and end them: for a
//! second, or for `CAUSEWAY_STRESS_SECS`.

#![cfg(not(loom))]

use causeway_flowtable::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const WORKERS: u8 = 3;
const KEYS: u16 = 4;

struct Nobody;

impl Sweeper for Nobody {
    fn judge(&mut self, _: &Session<'_>, _: Ctl, _: Tick) -> Fate {
        Fate::End
    }
    fn session_ended(&mut self, _: &Session<'_>) {}
    fn mapping_ended(&mut self, _: &Mapping<'_>) {}
}

const fn inside(n: u16) -> InsideKey {
    InsideKey { src6: 77, dst4: 0, src_port: 443, dst_port: n, protocol: 6, prefix: OWN_ADDRESS }
}

#[test]
fn an_added_key_is_one_sessions_and_leads_to_all_of_it() {
    let secs = std::env::var("CAUSEWAY_STRESS_SECS").ok().and_then(|s| s.parse().ok()).unwrap_or(1u64);
    let table = FlowTable::new(&Config {
        sessions: 64,
        mappings: 0,
        spliced: 64,
        workers: WORKERS,
        control_readers: 1,
        seed: [1, 2, 3, 4],
    })
    .unwrap();
    let stop = AtomicBool::new(false);
    let (added, taken, ended, seen) =
        (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    // How many live sessions have each inside key, by those who gave and took it.
    let holders: [AtomicU64; KEYS as usize] = std::array::from_fn(|_| AtomicU64::new(0));
    let round = |w: &mut Worker, id: u8, n: u16| {
        let key = OutsideKey {
            out4: 9,
            remote4: u32::from(id),
            out_port: 443,
            remote_port: 1 + n % 7,
            protocol: 6,
        };
        let g = w.enter();
        let new = NewSession {
            key: NewKey::Outside(key),
            kind: Kind::Spliced,
            owner: id,
            subscriber: 0,
            plan_generation: 0,
            state: 0,
            flags: 0,
            tick: Tick(0),
            aux: 0,
        };
        let Ok(Created::Fresh(s)) = g.create_single(&new) else { return };
        let Some(line) = g.take_spliced() else {
            g.end(&s, &mut Nobody);
            return;
        };
        line.client_seq_delta.store(u32::from(id) << 16 | u32::from(n), Ordering::Relaxed);
        let place = n % KEYS;
        match g.add_inside(&s, inside(place), line, n) {
            Ok(()) => {
                added.fetch_add(1, Ordering::Relaxed);
                assert_eq!(
                    holders[usize::from(place)].fetch_add(1, Ordering::SeqCst),
                    0,
                    "two have key {place}"
                );
                s.transition(|c| Some(c.with_state(1)));
                assert_eq!(g.lookup(&inside(place)), Lookup::Hit(s));
                assert_eq!(g.lookup(&key), Lookup::Hit(s));
                holders[usize::from(place)].fetch_sub(1, Ordering::SeqCst);
            }
            Err(AddError::Taken(_)) => _ = taken.fetch_add(1, Ordering::Relaxed),
            Err(e) => panic!("{e}"),
        }
        if g.end(&s, &mut Nobody) {
            ended.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|threads| {
        for id in 0..WORKERS {
            let (table, stop, round) = (&table, &stop, &round);
            threads.spawn(move || {
                let mut w = table.worker(id).unwrap();
                let mut n = 0u16;
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_add(1);
                    round(&mut w, id, n);
                }
            });
        }
        let (table, stop, seen) = (&table, &stop, &seen);
        threads.spawn(move || {
            let mut r = table.reader().unwrap();
            while !stop.load(Ordering::Relaxed) {
                let g = r.enter();
                for n in 0..KEYS {
                    let Lookup::Hit(s) = g.lookup(&inside(n)) else { continue };
                    assert_eq!(s.inside_key(), Some(inside(n)));
                    assert_eq!(s.checksum_delta() % KEYS, n);
                    if s.ctl().state() == 1 {
                        let line = s.spliced().expect("there before the state");
                        let numbers = line.client_seq_delta.load(Ordering::Relaxed);
                        assert_eq!(numbers, s.remote4() << 16 | u32::from(s.checksum_delta()));
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        let begin = Instant::now();
        // On a busy machine until enough has happened.
        let enough = || {
            let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
            count(&added) > 1000 && count(seen) > 0 || begin.elapsed() > Duration::from_secs(20 + secs)
        };
        while begin.elapsed() < Duration::from_secs(secs) || !enough() {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{added:?} added, {taken:?} taken, {ended:?} ended, {seen:?} seen");
    assert!(added.load(Ordering::Relaxed) > 1000 && seen.load(Ordering::Relaxed) > 0);
    let mut w = table.worker(0).unwrap();
    for _ in 0..10 {
        w.enter().sweep(u32::MAX, Tick(1), &mut Nobody);
    }
    assert_eq!((table.used_index_words(), table.stats().sessions), ((0, 0), 0));
}
