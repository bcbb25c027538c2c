mod fold;
mod version1;

use super::super::testing::{address, lease, mac};
use super::*;
use causeway_dhcpv6::Identity;
use std::io::{Seek as _, Write as _};

fn store() -> (tempfile::TempDir, PathBuf, Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    let store = Store::open(&path).unwrap();
    (dir, path, store)
}

fn all(store: &Store) -> Vec<Lease> {
    store.load(|leases| leases.collect()).unwrap()
}

fn change(at: UnixSeconds, event: LeaseEvent, after: Lease, before: Option<&Lease>) -> Change {
    Change { at, event, after, before: before.cloned() }
}

/// Leases of each kind, identity and state, and of extreme values.
pub(super) fn zoo() -> Vec<Lease> {
    let mut of_port = lease(2, 2, u64::MAX);
    of_port.identity = Identity::Interface { link: address(9), id: b"ge-0/0/7"[..].into() };
    of_port.mac = None;
    let mut of_duid = lease(3, 3, 50);
    of_duid.identity = Identity::Duid(of_duid.duid.clone());
    of_duid.state = State::Declined;
    let mut of_other_duid = lease(4, 4, 60);
    of_other_duid.identity = Identity::Duid(vec![7; 130].into());
    of_other_duid.state = State::Free;
    let mut of_other_mac = lease(5, 5, 70);
    of_other_mac.identity = Identity::Mac(mac(99));
    of_other_mac.iaid = u32::MAX;
    let mut prefix = lease(0, 6, 80);
    (prefix.kind, prefix.length, prefix.link) = (Kind::Prefix, 64, "rack 7".into());
    let mut registered = lease(1, 1, 90);
    registered.kind = Kind::Registered;
    let mut zero = lease(0, 0, 0);
    (zero.kind, zero.length, zero.address) = (Kind::Prefix, 0, Ipv6Addr::UNSPECIFIED);
    vec![lease(1, 1, 100), of_port, of_duid, of_other_duid, of_other_mac, prefix, registered, zero]
}

#[test]
fn what_was_committed_is_there_after_the_next_start() {
    let (_dir, path, mut store) = store();
    let mut leases = zoo();
    let changes: Vec<Change> =
        leases.iter().map(|l| change(10, LeaseEvent::Given, l.clone(), None)).collect();
    let records = store.commit(&changes).unwrap();
    assert_eq!(records.iter().map(|r| r.seq).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    let (node, duid) = (store.node(), store.duid_or_new().unwrap());
    assert_eq!((&duid[..2], duid.len()), (&[0, 4][..], 18), "RFC 9915 11.5: DUID-UUID");
    drop(store);
    let store = Store::open(&path).unwrap();
    let mut read = all(&store);
    let order = |l: &Lease| (kind_code(l.kind), l.address);
    read.sort_by_key(order);
    leases.sort_by_key(order);
    assert_eq!(read, leases);
    assert_eq!((store.head(), store.node(), store.duid_or_new().unwrap()), (8, node, duid));
    assert_eq!(store.lease(Kind::Registered, address(1)).unwrap().unwrap().kind, Kind::Registered);
    assert_eq!(store.lease(Kind::Prefix, address(1)).unwrap(), None);
}

#[test]
fn a_second_process_is_kept_away() {
    let (_dir, path, store) = store();
    assert!(matches!(Store::open(&path), Err(StoreError::InUse { .. })));
    drop(store);
    assert!(Store::open(&path).is_ok());
}

#[test]
fn a_damaged_file_is_an_error_that_says_what_to_do_and_is_never_replaced() {
    let (_dir, path, mut store) = store();
    let changes: Vec<Change> =
        (0..500).map(|n| change(1, LeaseEvent::Given, lease(n, 1, 100), None)).collect();
    store.commit(&changes).unwrap();
    drop(store);
    let sound = std::fs::read(&path).unwrap();
    let damage = |what: &dyn Fn(&mut Vec<u8>)| {
        let mut octets = sound.clone();
        what(&mut octets);
        std::fs::write(&path, &octets).unwrap();
        let refused = match Store::open(&path) {
            Ok(store) => store.load(|l| l.count()).map(|_| ()),
            Err(e) => Err(e),
        };
        let e = refused.unwrap_err();
        assert!(matches!(e, StoreError::Damaged { .. }), "{e}");
        assert!(e.to_string().contains("backup") && e.to_string().contains("leases.db-wal"), "{e}");
        assert!(std::fs::read(&path).unwrap() == octets, "the file is left as it is");
    };
    damage(&|o| o.clear());
    damage(&|o| o[..100].fill(0));
    damage(&|o| o.truncate(o.len() / 2));
    damage(&|o| o[4096..].fill(0x5a));
    damage(&|o| *o = b"leases = []\n".repeat(1000));
    std::fs::write(&path, &sound).unwrap();
    assert_eq!(all(&Store::open(&path).unwrap()).len(), 500);
}

#[test]
fn a_log_without_its_file_is_not_taken_for_a_new_store() {
    let (_dir, path, store) = store();
    drop(store);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(schema::beside(&path, "-wal"), b"what was committed last").unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Damaged { .. })));
    assert!(!path.exists());
}

#[test]
fn a_start_that_was_cut_short_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/leases.db");
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let mut half = File::create(schema::beside(&path, ".new")).unwrap();
    half.write_all(b"half a file").unwrap();
    half.rewind().unwrap();
    assert_eq!(Store::open(&path).unwrap().head(), 0);
}

#[test]
fn a_later_format_is_refused_by_its_number() {
    let (_dir, path, store) = store();
    store.db.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    drop(store);
    assert!(
        matches!(Store::open(&path), Err(StoreError::Newer { version, .. }) if version == schema::VERSION + 1)
    );
}

#[test]
fn a_commit_that_the_disk_refuses_leaves_nothing_behind() {
    let (_dir, path, mut store) = store();
    let mut first = lease(1, 1, 100);
    first.link = "known".into();
    store.commit(&[change(1, LeaseEvent::Given, first.clone(), None)]).unwrap();
    store.limit_pages(store.pages());
    let many: Vec<Change> = (0..4000)
        .map(|n| {
            let mut l = lease(n, 2, 200);
            l.link = "made by the commit that fails".into();
            change(2, LeaseEvent::Given, l, None)
        })
        .collect();
    let e = store.commit(&many).unwrap_err();
    assert!(
        matches!(&e, StoreError::Sql { error, .. }
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull)),
        "{e}"
    );
    assert_eq!((all(&store), store.head()), (vec![first], 1));
    assert!(store.probe().is_ok(), "what needs no room goes on");
    store.limit_pages(1 << 20);
    // The link's number of the failed transaction is not used again by mistake.
    let records = store.commit(&many).unwrap();
    assert_eq!((records[0].seq, store.head(), all(&store).len()), (2, 4001, 4000));
    drop(store);
    let store = Store::open(&path).unwrap();
    assert!(all(&store).iter().all(|l| &*l.link == "made by the commit that fails"));
}

/// Events of the store: what, first, last, times, origin.
fn events(store: &Store) -> Vec<(LeaseEvent, u64, u64, u64, u8)> {
    let mut all = Vec::new();
    store
        .view()
        .events(0, &mut |e| {
            all.push((e.event, e.first, e.at, e.times, u8::from(e.peers.is_some())));
            Ok(true)
        })
        .unwrap();
    all
}

#[test]
fn renewals_of_a_day_are_one_event_that_counts_them() {
    let (_dir, _path, mut store) = store();
    let given = lease(1, 1, 100);
    store.commit(&[change(10, LeaseEvent::Given, given.clone(), None)]).unwrap();
    let mut before = given;
    for (n, at) in [20, 30, 40, 20 + FOLD_WITHIN].into_iter().enumerate() {
        let mut renewed = before.clone();
        renewed.valid_until = at + 100;
        let records =
            store.commit(&[change(at, LeaseEvent::Renewed, renewed.clone(), Some(&before))]).unwrap();
        assert_eq!(records[0].seq, u64::try_from(n).unwrap() + 2, "a folded event has a new number");
        before = renewed;
    }
    // Another system on the same server is another tenure.
    let mut other = before.clone();
    other.duid = vec![0, 4, 9].into();
    store.commit(&[change(FOLD_WITHIN + 30, LeaseEvent::Renewed, other, Some(&before))]).unwrap();
    assert_eq!(
        events(&store),
        [
            (LeaseEvent::Given, 10, 10, 1, 0),
            (LeaseEvent::Renewed, 20, 40, 3, 0),
            (LeaseEvent::Renewed, FOLD_WITHIN + 20, FOLD_WITHIN + 20, 1, 0),
            (LeaseEvent::Renewed, FOLD_WITHIN + 30, FOLD_WITHIN + 30, 1, 0),
        ]
    );
}

#[test]
fn attribution_tells_who_had_an_address_when() {
    let (_dir, path, mut store) = store();
    let first = Lease { since: 10, ..lease(1, 1, 110) };
    let renewed = Lease { valid_until: 160, ..first.clone() };
    let released = Lease { state: State::Free, valid_until: 120, ..renewed.clone() };
    let second = Lease { since: 500, ..lease(1, 2, 600) };
    let mut prefix = Lease { kind: Kind::Prefix, length: 64, ..lease(0, 3, 1000) };
    prefix.address = "2001:db8:64::".parse().unwrap();
    store
        .commit(&[
            change(5, LeaseEvent::Given, prefix, None),
            change(10, LeaseEvent::Given, first.clone(), None),
            change(60, LeaseEvent::Renewed, renewed.clone(), Some(&first)),
            change(120, LeaseEvent::Released, released.clone(), Some(&renewed)),
            change(500, LeaseEvent::Given, second, Some(&released)),
        ])
        .unwrap();
    let reader = Reader::open(&path).unwrap();
    // The address itself: which event, held, by whom.
    let said = |at| {
        let found = reader.who(address(1), at).unwrap();
        let exact = found.iter().find(|a| a.lease.kind == Kind::Address);
        exact.map(|a| (a.event, a.held, a.lease.mac.unwrap()))
    };
    assert_eq!(said(9), None);
    assert_eq!(said(10), Some((LeaseEvent::Given, true, mac(1))));
    assert_eq!(said(59), Some((LeaseEvent::Given, true, mac(1))));
    assert_eq!(said(119), Some((LeaseEvent::Renewed, true, mac(1))));
    assert_eq!(said(120), Some((LeaseEvent::Released, false, mac(1))));
    assert_eq!(said(500), Some((LeaseEvent::Given, true, mac(2))));
    assert_eq!(said(600), Some((LeaseEvent::Given, false, mac(2))), "not renewed, and not yet swept either");
    // The prefix that it is in comes after it.
    let found = reader.who(address(1), 60).unwrap();
    assert_eq!(
        found.iter().map(|a| (a.lease.kind, a.held)).collect::<Vec<_>>(),
        [(Kind::Address, true), (Kind::Prefix, true)]
    );
    assert_eq!(reader.who(address(2), 60).unwrap().len(), 1, "an address of the prefix that nobody leased");
    // By link-layer address, the newest first.
    let of = |client, from, to| {
        let found = reader.history_of(mac(client), from, to, 10).unwrap();
        found.iter().map(|a| a.event).collect::<Vec<_>>()
    };
    assert_eq!(of(1, 0, 1000), [LeaseEvent::Released, LeaseEvent::Renewed, LeaseEvent::Given]);
    assert_eq!(of(1, 0, 59), [LeaseEvent::Given]);
    assert_eq!(of(1, 200, 1000), []);
    assert_eq!(of(2, 550, 560), [LeaseEvent::Given]);
}

#[test]
fn history_is_pruned_in_slices_by_age_and_never_what_is_still_in_use() {
    let (_dir, path, mut store) = store();
    let for_ever = Lease { valid_until: u64::MAX, ..lease(999, 9, 0) };
    let mut changes = vec![change(1, LeaseEvent::Given, for_ever, None)];
    for n in 0..100 {
        let l = lease(n, 1, 50);
        let over = Lease { state: State::Free, ..l.clone() };
        changes.push(change(u64::from(n), LeaseEvent::Given, l.clone(), None));
        changes.push(change(u64::from(n), LeaseEvent::Expired, over, Some(&l)));
    }
    store.commit(&changes).unwrap();
    assert_eq!(store.prune(60, 30).unwrap(), 0, "what is only in the log is too young");
    store.fold_all().unwrap();
    let mut gone = Vec::new();
    for _ in 0..20 {
        gone.push(store.prune(60, 30).unwrap());
    }
    // Clients 0 to 59, two events each; a block or two are looked at in each slice.
    assert_eq!(gone.iter().sum::<usize>(), 120);
    assert!(gone.iter().all(|n| *n <= 100) && gone[19] == 0, "{gone:?}");
    assert_eq!((events(&store).len(), all(&store).len()), (81, 101), "leases are not history");
    let reader = Reader::open(&path).unwrap();
    assert!(reader.who(address(999), 1000).unwrap()[0].held);
    assert_eq!(store.prune(u64::MAX >> 2, 1000).unwrap(), 79, "the newest stays, and with it the numbering");
    drop(store);
    assert_eq!(Store::open(&path).unwrap().head(), 201);
}

#[test]
fn listings_are_paged_and_filtered() {
    let (_dir, path, mut store) = store();
    let mut changes: Vec<Change> = (0..10)
        .map(|n| change(1, LeaseEvent::Given, lease(n, u8::try_from(n).unwrap(), 100), None))
        .collect();
    changes[3].after.state = State::Free;
    changes[4].after.state = State::Declined;
    changes[5].after.link = "other".into();
    store.commit(&changes).unwrap();
    let reader = Reader::open(&path).unwrap();
    let list = |query: LeaseQuery| {
        let found = reader.leases(&query).unwrap();
        found.iter().map(|l| l.address.segments()[7]).collect::<Vec<_>>()
    };
    let base = || LeaseQuery { limit: 4, ..LeaseQuery::default() };
    assert_eq!(list(base()), [0, 1, 2, 3]);
    assert_eq!(list(LeaseQuery { after: Some((Kind::Address, address(7))), ..base() }), [8, 9]);
    assert_eq!(list(LeaseQuery { mac: Some(mac(6)), ..base() }), [6]);
    assert_eq!(list(LeaseQuery { address: Some(address(4)), ..base() }), [4]);
    assert_eq!(list(LeaseQuery { link: Some("other".to_owned()), ..base() }), [5]);
    assert_eq!(list(LeaseQuery { link: Some("no such".to_owned()), ..base() }), [0; 0]);
    assert_eq!(list(LeaseQuery { active: true, limit: 5, ..base() }), [0, 1, 2, 5, 6]);
    assert_eq!(reader.counts().unwrap(), Counts { active: 8, free: 1, declined: 1 });
}

/// What the peer of a store would be told of `changes`.
fn told(seq: u64, seen: u64, event: LeaseEvent, lease: Lease) -> Record {
    Record { seq, seen, event, first: seq, at: seq, times: 1, current: true, lease }
}

#[test]
fn what_the_peer_did_is_taken_once_and_in_its_order() {
    let (_dir, path, mut store) = store();
    store.meet([7; 16]).unwrap();
    let base = store.head();
    let given = lease(1, 1, 100);
    let renewed = Lease { valid_until: 200, ..given.clone() };
    let first =
        [told(3, 0, LeaseEvent::Given, given.clone()), told(4, 0, LeaseEvent::Renewed, renewed.clone())];
    let taken = store.incorporate(&first, Some(4)).unwrap();
    assert_eq!(taken, [Incorporated::Taken(given), Incorporated::Taken(renewed.clone())]);
    assert_eq!(store.incorporate(&first, Some(4)).unwrap(), [Incorporated::Known, Incorporated::Known]);
    assert_eq!((store.peer_seq(), store.head()), (4, base + 2));
    // Ours on top of theirs says so.
    let released = Lease { state: State::Free, ..renewed.clone() };
    let records = store.commit(&[change(9, LeaseEvent::Released, released, Some(&renewed))]).unwrap();
    assert_eq!((records[0].seq, records[0].seen), (base + 3, 4));
    // Only what was done here is for the peer.
    assert_eq!(store.after(base, 10).unwrap(), Missed::Records(records));
    drop(store);
    let mut store = Store::open(&path).unwrap();
    assert_eq!((store.peer_seq(), store.head()), (4, base + 3));
    store.meet([7; 16]).unwrap();
    assert_eq!(store.head(), base + 3, "the same peer is no news");
}

#[test]
fn changes_made_apart_are_merged_and_what_follows_is_not() {
    let (_dir, _path, mut store) = store();
    store.meet([7; 16]).unwrap();
    let ours = Lease { since: 20, ..lease(1, 1, 100) };
    let own = store.commit(&[change(20, LeaseEvent::Given, ours, None)]).unwrap()[0].seq;
    // The other gave it to somebody else, earlier, and had not seen ours.
    let theirs = Lease { since: 10, ..lease(1, 2, 90) };
    let merged = store.incorporate(&[told(5, 0, LeaseEvent::Given, theirs.clone())], Some(5)).unwrap();
    assert_eq!(merged, [Incorporated::Merged { lease: theirs.clone(), conflict: true }]);
    assert_eq!(store.lease(Kind::Address, address(1)).unwrap(), Some(theirs.clone()));
    // From there on it knows ours: a plain change.
    let over = Lease { state: State::Free, ..theirs };
    let taken = store.incorporate(&[told(6, own, LeaseEvent::Released, over.clone())], Some(6)).unwrap();
    assert_eq!(taken, [Incorporated::Taken(over)]);
}

#[test]
fn a_peer_that_was_replaced_needs_everything() {
    let (_dir, _path, mut store) = store();
    store.meet([7; 16]).unwrap();
    let theirs: Vec<Record> =
        (0..5).map(|n| told(u64::from(n) + 1, 0, LeaseEvent::Given, lease(n, 1, 100))).collect();
    store.incorporate(&theirs, Some(5)).unwrap();
    let ours = change(1, LeaseEvent::Given, lease(9, 2, 100), None);
    store.commit(&[ours]).unwrap();
    assert_eq!(store.snapshot(None, 10).unwrap().len(), 1, "what came from the peer is known to it");
    let before = store.head();
    store.meet([8; 16]).unwrap();
    assert_eq!((store.peer_seq(), store.head()), (0, before + 1));
    assert_eq!(store.after(0, 10).unwrap(), Missed::Pruned);
    let part = store.snapshot(None, 4).unwrap();
    let last = part[3].lease.address;
    let rest = store.snapshot(Some((Kind::Address, last)), 4).unwrap();
    assert_eq!((part.len(), rest.len()), (4, 2));
    assert!(part.iter().chain(&rest).all(|r| (r.seq, r.seen) == (before + 1, 0)));
    assert_eq!(store.after(before + 1, 10).unwrap(), Missed::Records(Vec::new()));
}

#[test]
fn a_peer_that_missed_what_was_pruned_needs_everything() {
    let (_dir, _path, mut store) = store();
    let over = Lease { state: State::Free, ..lease(1, 1, 5) };
    store
        .commit(&[
            change(1, LeaseEvent::Given, lease(1, 1, 5), None),
            change(2, LeaseEvent::Expired, over, None),
            change(100, LeaseEvent::Given, lease(2, 1, 200), None),
        ])
        .unwrap();
    store.fold_all().unwrap();
    assert_eq!(store.prune(50, 10).unwrap(), 2);
    assert_eq!(store.after(1, 10).unwrap(), Missed::Pruned);
    assert!(matches!(store.after(2, 10).unwrap(), Missed::Records(r) if r.len() == 1));
}

#[test]
fn what_no_longer_is_does_not_win_over_what_was_done_apart() {
    let (_dir, _path, mut store) = store();
    let (_other_dir, _other_path, mut other) = self::store();
    for s in [&mut store, &mut other] {
        s.meet([7; 16]).unwrap();
    }
    // There it was given and taken back before anybody was told; here it was given meanwhile.
    let base = other.head();
    let never = Lease { since: 5, ..lease(1, 2, 900) };
    let back = Lease { state: State::Free, valid_until: 6, preferred_until: 0, ..never.clone() };
    other.commit(&[change(5, LeaseEvent::Given, never.clone(), None)]).unwrap();
    other.commit(&[change(6, LeaseEvent::Withdrawn, back, Some(&never))]).unwrap();
    let ours = Lease { since: 20, ..lease(1, 1, 120) };
    store.commit(&[change(20, LeaseEvent::Given, ours.clone(), None)]).unwrap();
    let Missed::Records(missed) = other.after(base, 10).unwrap() else { panic!("nothing was pruned") };
    assert_eq!(missed.iter().map(|r| r.current).collect::<Vec<_>>(), [false, true]);
    let merged = store.incorporate(&missed, Some(base + 2)).unwrap();
    assert_eq!(merged, [Incorporated::Known, Incorporated::Merged { lease: ours, conflict: false }]);
    assert_eq!(events(&store).iter().filter(|e| e.4 == 1).count(), 2, "history has both");
}
