//! Folding changes nothing of what is there: a store that is folded at odd moments and opened again says what one says
//! that keeps everything in mind.

use super::super::super::testing::Dice;
use super::*;
use std::collections::BTreeMap;

/// What a store should say: every event but those whose place others took, and the latest lease of each key.
#[derive(Default)]
struct Model {
    events: Vec<(u64, LeaseEvent, u64, u64, u64, Lease)>,
    leases: BTreeMap<Key, Lease>,
}

impl Model {
    fn take(&mut self, record: &Record) {
        if record.times > 1 {
            let place = self.events.iter().rposition(|(.., lease)| {
                (lease.kind, lease.address) == (record.lease.kind, record.lease.address)
            });
            self.events.remove(place.expect("what was renewed before"));
        }
        let r = record.clone();
        self.leases.insert(key_of(r.lease.kind, r.lease.address), r.lease.clone());
        self.events.push((r.seq, r.event, r.first, r.at, r.times, r.lease));
    }

    fn who(&self, address: Ipv6Addr, at: u64) -> Option<(LeaseEvent, u64, Lease)> {
        let of_it = self.events.iter().filter(|(_, _, first, _, _, l)| l.address == address && *first <= at);
        let last = of_it.max_by_key(|(id, _, first, ..)| (*first, *id));
        last.map(|(_, event, _, last, _, lease)| (*event, *last, lease.clone()))
    }

    fn of_mac(&self, client: u8, from: u64, to: u64) -> Vec<(LeaseEvent, u64, Lease)> {
        let mut found: Vec<_> = self
            .events
            .iter()
            .filter(|(_, _, first, at, _, l)| {
                l.mac == Some(mac(client)) && *first <= to && (*at >= from || l.valid_until >= from)
            })
            .collect();
        found.sort_by_key(|(id, _, first, ..)| std::cmp::Reverse((*first, *id)));
        found.into_iter().map(|(_, event, _, last, _, lease)| (*event, *last, lease.clone())).collect()
    }
}

/// The writer and a reader say what the model says.
fn agree(store: &Store, reader: &Reader, model: &Model, dice: &mut Dice, now: u64) {
    let leases: Vec<Lease> = model.leases.values().cloned().collect();
    assert_eq!(all(store), leases);
    assert_eq!(reader.leases(&LeaseQuery { limit: 10_000, ..LeaseQuery::default() }).unwrap(), leases);
    let n = u16::try_from(dice.below(40)).unwrap();
    let key = key_of(Kind::Address, address(n));
    assert_eq!(store.lease(Kind::Address, address(n)).unwrap().as_ref(), model.leases.get(&key));
    let snapshot = store.snapshot(Some((Kind::Address, address(n))), 7).unwrap();
    let behind = model.leases.range((std::ops::Bound::Excluded(key), std::ops::Bound::Unbounded));
    assert_eq!(
        snapshot.into_iter().map(|r| r.lease).collect::<Vec<_>>(),
        behind.take(7).map(|(_, l)| l.clone()).collect::<Vec<_>>()
    );
    let at = now.saturating_sub(u64::from(dice.below(200_000)));
    let who = reader.who(address(n), at).unwrap();
    assert_eq!(who.into_iter().next().map(|a| (a.event, a.last, a.lease)), model.who(address(n), at));
    let client = u8::try_from(dice.below(8)).unwrap();
    let from = at.saturating_sub(u64::from(dice.below(50_000)));
    let of = reader.history_of(mac(client), from, at, 10_000).unwrap();
    assert_eq!(
        of.into_iter().map(|a| (a.event, a.last, a.lease)).collect::<Vec<_>>(),
        model.of_mac(client, from, at)
    );
    let seq = model
        .events
        .get(dice.below(1 + u32::try_from(model.events.len()).unwrap()) as usize)
        .map_or(0, |e| e.0);
    let Missed::Records(missed) = store.after(seq, 50).unwrap() else { panic!("nothing was pruned") };
    let expected: Vec<_> = model.events.iter().filter(|e| e.0 > seq).take(50).map(|e| e.0).collect();
    assert_eq!(missed.iter().map(|r| r.seq).collect::<Vec<_>>(), expected);
    for record in missed {
        let newer =
            model.events.iter().any(|(id, .., l)| *id > record.seq && l.address == record.lease.address);
        assert_eq!(record.current, !newer);
    }
}

#[test]
fn folding_at_any_moment_changes_nothing_of_what_is_told() {
    let mut dice = Dice::new();
    println!("seed {:#x}", dice.0);
    let (_dir, path, mut store) = store();
    let (mut reader, mut model, mut now) = (Reader::open(&path).unwrap(), Model::default(), 1_000_000);
    let (mut opened, mut folded, mut merged) = (0, 0, 0);
    for step in 0..1500 {
        match dice.below(20) {
            0..8 => {
                let mut changes: Vec<Change> = Vec::new();
                for _ in 0..1 + dice.below(12) {
                    now += u64::from(dice.below(4000));
                    let n = u16::try_from(dice.below(40)).unwrap();
                    let earlier = changes.iter().rev().find(|c| c.after.address == address(n));
                    let before = earlier.map(|c| c.after.clone());
                    let before =
                        before.or_else(|| model.leases.get(&key_of(Kind::Address, address(n))).cloned());
                    let (event, after) = match (&before, dice.below(5)) {
                        (Some(b), 0..3) if b.state == State::Active => {
                            (LeaseEvent::Renewed, Lease { valid_until: now + 5000, ..b.clone() })
                        }
                        (Some(b), 3) => (
                            LeaseEvent::Released,
                            Lease { state: State::Free, valid_until: now, ..b.clone() },
                        ),
                        _ => {
                            let client = u8::try_from(dice.below(8)).unwrap();
                            (LeaseEvent::Given, Lease { since: now, ..lease(n, client, now + 5000) })
                        }
                    };
                    changes.push(change(now, event, after, before.as_ref()));
                }
                store.commit(&changes).unwrap().iter().for_each(|r| model.take(r));
            }
            8..16 => folded += usize::from(store.fold(1 + dice.below(8) as usize).unwrap()),
            16 => merged += usize::from((0..20).any(|_| store.merge(1 + dice.below(8) as usize).unwrap())),
            17 => agree(&store, &reader, &model, &mut dice, now),
            18 => {
                // As a process that was killed leaves it: nothing is done at the end.
                drop(store);
                store = Store::open(&path).unwrap();
                reader = Reader::open(&path).unwrap();
                opened += 1;
            }
            _ => agree(&store, &Reader::open(&path).unwrap(), &model, &mut dice, now),
        }
        if step % 300 == 299 {
            store.fold_all().unwrap();
            while store.merge(100).unwrap() {
                merged += 1;
            }
            for _ in 0..100 {
                store.prune(0, 100).unwrap();
            }
            assert_eq!(store.unfolded(), 0);
            let count =
                |table| store.db.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get(0));
            let (segments, blocks): (i64, i64) = (count("segments").unwrap(), count("by_address").unwrap());
            assert!(segments < 8 && blocks < 8 + 60, "{segments} segments, {blocks} blocks");
            let rows: i64 = store.db.query_row("SELECT count(*) FROM log", [], |r| r.get(0)).unwrap();
            assert_eq!(rows, 0);
            let live: u64 = segments::all(&store.db, store.folded).unwrap().iter().map(|s| s.live).sum();
            assert_eq!(usize::try_from(live).unwrap(), model.events.len(), "what segments say is there");
            agree(&store, &reader, &model, &mut dice, now);
        }
    }
    assert!(opened > 10 && folded > 100 && merged > 0, "{opened} times opened, {folded} and {merged} slices");
}

#[test]
fn a_slice_that_the_disk_refuses_is_done_when_it_does_not() {
    let (_dir, path, mut store) = store();
    let changes: Vec<Change> =
        (0..4000).map(|n| change(1, LeaseEvent::Given, lease(n, 1, 100), None)).collect();
    store.commit(&changes).unwrap();
    store.limit_pages(store.pages() + 5);
    let mut refused = None;
    for _ in 0..1000 {
        match store.fold(16) {
            Ok(true) => {}
            other => {
                refused = Some(other);
                break;
            }
        }
    }
    assert!(matches!(refused, Some(Err(StoreError::Sql { .. }))), "{refused:?}");
    assert!(store.fold(16).is_err());
    assert_eq!(all(&store).len(), 4000, "half folded");
    store.limit_pages(1 << 20);
    store.fold_all().unwrap();
    assert_eq!((all(&store).len(), events(&store).len(), store.unfolded()), (4000, 4000, 0));
    drop(store);
    assert_eq!(all(&Store::open(&path).unwrap()).len(), 4000);
}

#[test]
fn damage_in_the_log_and_in_leases_is_found_at_the_start() {
    let (_dir, path, mut store) = store();
    let changes: Vec<Change> =
        (0..100).map(|n| change(1, LeaseEvent::Given, lease(n, 1, 100), None)).collect();
    store.commit(&changes[..50]).unwrap();
    store.fold_all().unwrap();
    store.commit(&changes[50..]).unwrap();
    let spoil = |table: &str, undo: bool| {
        let db = Connection::open(&path).unwrap();
        let (id, body): (i64, Vec<u8>) = if table == "log" {
            db.query_row("SELECT id, body FROM log", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap()
        } else {
            db.query_row("SELECT 0, body FROM leases LIMIT 1 OFFSET 20", [], |r| Ok((r.get(0)?, r.get(1)?)))
                .unwrap()
        };
        let mut other = body.clone();
        let at = other.len() - 3;
        other[at] ^= 4;
        let _ = (id, undo);
        db.execute(&format!("UPDATE {table} SET body = ?1 WHERE body = ?2"), (&other, &body)).unwrap();
        (body, other)
    };
    drop(store);
    for table in ["log", "leases"] {
        let (sound, bad) = spoil(table, false);
        let refused = Store::open(&path).and_then(|s| s.load(|l| l.count()));
        assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{table}: {refused:?}");
        let db = Connection::open(&path).unwrap();
        db.execute(&format!("UPDATE {table} SET body = ?1 WHERE body = ?2"), (&sound, &bad)).unwrap();
    }
    assert_eq!(all(&Store::open(&path).unwrap()).len(), 100);
}

#[test]
fn renewals_of_many_leases_leave_no_more_history_than_leases() {
    let (_dir, _path, mut store) = store();
    let mut leases: Vec<Lease> = (0..1000).map(|n| lease(n, 1, 100)).collect();
    for round in 0..20u64 {
        for part in 0..10 {
            let changes: Vec<Change> = leases[part * 100..][..100]
                .iter_mut()
                .map(|l| {
                    let before = l.clone();
                    l.valid_until += 10;
                    change(100 + round, LeaseEvent::Renewed, l.clone(), Some(&before))
                })
                .collect();
            store.commit(&changes).unwrap();
        }
        store.fold_all().unwrap();
    }
    assert_eq!(events(&store).len(), 1000);
    let blocks: i64 = store.db.query_row("SELECT count(*) FROM history", [], |r| r.get(0)).unwrap();
    assert!(blocks < 40, "{blocks} blocks");
    for _ in 0..100 {
        store.prune(0, 100).unwrap();
    }
    let index: i64 = store.db.query_row("SELECT count(*) FROM by_address", [], |r| r.get(0)).unwrap();
    let segments: i64 = store.db.query_row("SELECT count(*) FROM segments", [], |r| r.get(0)).unwrap();
    assert!(index < 20 && segments <= 4, "{segments} segments, {index} blocks of them");
}

#[test]
fn sqlites_log_begins_anew_while_commits_go_on() {
    let (_dir, path, mut store) = store();
    let log = schema::beside(&path, "-wal");
    let (mut ended, mut longest) = (0, 0);
    for round in 0..400u16 {
        let changes: Vec<Change> =
            (0..100).map(|n| change(1, LeaseEvent::Given, lease(round * 100 + n, 1, 100), None)).collect();
        store.commit(&changes).unwrap();
        store.tidy(200, false, 1).unwrap();
        ended += usize::from(store.checkpoint());
        longest = longest.max(std::fs::metadata(&log).unwrap().len());
    }
    let file = std::fs::metadata(&path).unwrap().len();
    assert!(ended > 2 && file > 2 << 20, "moved {ended} times, {file} octets");
    // A commit moves it at 128 MiB.
    assert!(longest < 16 << 20, "{longest} octets");
    assert_eq!(all(&store).len(), 40_000);
}
