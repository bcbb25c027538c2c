//! A file that version 1 of the tables made is carried over with all that is in it.

use super::*;

/// Makes a file of version 1, as that version did, with a given, twice renewed and a released lease, a prefix, and what
/// the peer did.
fn make(path: &Path) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(schema::MIGRATIONS[0]).unwrap();
    db.execute_batch(
        "INSERT INTO meta VALUES ('node', x'000102030405060708090a0b0c0d0e0f'), ('duid', x'0004aabb'),
            ('head', x'0000000000000009'), ('peer-seq', x'0000000000000003'), ('pruned', x'0000000000000001'),
            ('peer', x'07070707070707070707070707070707');
        INSERT INTO links VALUES (3, 'tenant'), (5, 'rack 7');
        INSERT INTO lengths VALUES (64);
        INSERT INTO leases VALUES
            (0, x'20010db8006400000000000000000001', 128, 3, NULL, x'000101', 1, x'020000000001', 0,
                500, 600, 100, 4, 0, 4, 2, 300),
            (0, x'20010db8006400000000000000000002', 128, 3, x'02', x'000102', 1, x'020000000002', 1,
                0, 400, 110, 5, 3, 5, 0, 0),
            (1, x'20010db8006500000000000000000000', 64, 5, NULL, x'000103', 9, x'020000000003', 0,
                9223372036854775807, 9223372036854775807, 120, 0, 2, 6, 0, 0);
        INSERT INTO events VALUES
            (2, 0, 0, 0, 100, 100, 1, 0, x'20010db8006400000000000000000001', 128, 3, NULL, x'000101', 1,
                x'020000000001', 0, 150, 200, 100),
            (4, 0, 0, 1, 300, 350, 2, 0, x'20010db8006400000000000000000001', 128, 3, NULL, x'000101', 1,
                x'020000000001', 0, 500, 600, 100),
            (5, 0, 3, 2, 400, 400, 1, 0, x'20010db8006400000000000000000002', 128, 3, x'02', x'000102', 1,
                x'020000000002', 1, 0, 400, 110),
            (6, 1, 0, 0, 120, 120, 1, 1, x'20010db8006500000000000000000000', 64, 5, NULL, x'000103', 9,
                x'020000000003', 0, 9223372036854775807, 9223372036854775807, 120);",
    )
    .unwrap();
    db.pragma_update(None, "application_id", 0x4357_4c53).unwrap();
    db.pragma_update(None, "user_version", 1).unwrap();
}

#[test]
fn a_store_of_version_1_is_carried_over_with_all_of_its_leases_and_history() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    make(&path);
    for _ in 0..2 {
        let store = Store::open(&path).unwrap();
        let version: i32 = store.db.query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap();
        assert_eq!(
            (version, store.head(), store.peer_seq(), store.peer().unwrap()),
            (2, 9, 3, Some([7; 16]))
        );
        assert_eq!(store.duid().unwrap().as_deref(), Some(&[0, 4, 0xaa, 0xbb][..]));
        let read = all(&store);
        let brief: Vec<_> = read.iter().map(|l| (l.address, l.state, l.valid_until, &*l.link)).collect();
        let prefix: Ipv6Addr = "2001:db8:65::".parse().unwrap();
        assert_eq!(
            brief,
            [
                (address(1), State::Active, 600, "tenant"),
                (address(2), State::Free, 400, "tenant"),
                (prefix, State::Active, u64::MAX, "rack 7")
            ]
        );
        assert_eq!(read[1].identity, Identity::Duid(vec![0, 1, 2].into()));
        let version = store.version(&key_of(Kind::Address, address(1))).unwrap().unwrap();
        assert_eq!(version, Version { own: 4, peer: 0, event: 4, renewals: 2, renewed: 300 });
        assert_eq!(
            events(&store),
            [
                (LeaseEvent::Given, 100, 100, 1, 0),
                (LeaseEvent::Renewed, 300, 350, 2, 0),
                (LeaseEvent::Released, 400, 400, 1, 0),
                (LeaseEvent::Given, 120, 120, 1, 1),
            ]
        );
        assert_eq!(store.after(0, 10).unwrap(), Missed::Pruned);
        let Missed::Records(missed) = store.after(2, 10).unwrap() else { panic!("not pruned") };
        assert_eq!(
            missed.iter().map(|r| (r.seq, r.seen, r.current)).collect::<Vec<_>>(),
            [(4, 0, true), (5, 3, true)]
        );
        let reader = Reader::open(&path).unwrap();
        let who = reader.who(address(1), 320).unwrap();
        assert_eq!((who[0].event, who[0].times, who[0].held), (LeaseEvent::Renewed, 2, true));
        assert_eq!(
            reader.who("2001:db8:65::99".parse().unwrap(), 130).unwrap()[0].lease.link,
            "rack 7".into()
        );
        assert_eq!(reader.history_of(mac(1), 0, 1000, 10).unwrap().len(), 2);
    }
    // A renewal goes on with the count, and takes the place of what version 1 wrote.
    let mut store = Store::open(&path).unwrap();
    let before = store.lease(Kind::Address, address(1)).unwrap().unwrap();
    let after = Lease { valid_until: 900, ..before.clone() };
    let records = store.commit(&[change(700, LeaseEvent::Renewed, after, Some(&before))]).unwrap();
    assert_eq!((records[0].seq, records[0].times, records[0].first), (10, 3, 300));
    store.fold_all().unwrap();
    assert_eq!(events(&store).len(), 4);
}
