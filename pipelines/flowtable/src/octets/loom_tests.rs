//! Models for loom. Buckets have two slots, blocks two words of contents in an entry's first and four in its second, and
//! an entry at most two blocks. A value tells its key in every word.

use super::*;
use loom::thread;
use std::sync::Arc;

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut b = loom::model::Builder::new();
    b.preemption_bound = Some(preemptions);
    b.max_branches = 1_000_000;
    b.check(f);
}

/// A map of one bucket pair and few blocks.
fn map(blocks: usize) -> Arc<OctetMap> {
    Arc::new(OctetMap::new((blocks + 1) * BLOCK_OCTETS, [1, 2, 3, 4]).unwrap())
}

/// Keys of one octet that share a bucket.
fn twins<const N: usize>(m: &OctetMap) -> [u8; N] {
    let mut of_one = (0..=255).filter(|k| m.place(m.hash(&[*k])) == 0);
    std::array::from_fn(|_| of_one.next().unwrap())
}

fn put(m: &OctetMap, key: u8, round: u8, octets: usize) -> Result<Put, PutError> {
    m.put(m.hash(&[key]), &[key], u64::from(round), &[&vec![key ^ round; octets]])
}

/// The round that a whole value is of; nothing if there is none.
fn round_of(m: &OctetMap, key: u8) -> Option<u8> {
    let mut room = Room::new();
    let hit = m.get(m.hash(&[key]), &[key], &mut room)?;
    let round = u8::try_from(hit.stamp).unwrap();
    assert!(hit.value.iter().all(|o| *o == key ^ round), "{key} {round} {:?}", hit.value);
    Some(round)
}

/// Nothing is lost: what is not in entries is free.
fn whole(m: &OctetMap) {
    m.clear();
    assert_eq!((m.stats().entries, m.stats().used_octets), (0, 0));
    let free = std::iter::from_fn(|| m.pop().or_else(|| m.never_used())).count();
    assert_eq!(free, m.blocks as usize);
}

#[test]
fn loom_a_reader_sees_the_old_or_the_new_value_whole() {
    model(3, || {
        let m = map(3);
        let [a] = twins(&m);
        put(&m, a, 1, 10).unwrap();
        let w = Arc::clone(&m);
        let writer = thread::spawn(move || {
            let _ = put(&w, a, 2, 20);
        });
        let seen = round_of(&m, a);
        assert!(matches!(seen, None | Some(1 | 2)));
        writer.join().unwrap();
        assert_eq!(round_of(&m, a), Some(2));
        whole(&m);
    });
}

#[test]
fn loom_blocks_that_are_used_again_under_a_reader_are_noticed() {
    model(2, || {
        let m = map(3);
        let [a, b] = twins(&m);
        put(&m, a, 1, 10).unwrap();
        let w = Arc::clone(&m);
        let writer = thread::spawn(move || {
            // The same block for another key, and another for the same.
            w.remove(w.hash(&[a]), &[a]);
            let _ = put(&w, b, 2, 3);
            let _ = put(&w, a, 3, 12);
        });
        let seen = round_of(&m, a);
        assert!(matches!(seen, None | Some(1 | 3)), "{seen:?}");
        writer.join().unwrap();
        assert_eq!((round_of(&m, a), round_of(&m, b)), (Some(3), Some(2)));
        whole(&m);
    });
}

#[test]
fn loom_two_writers_of_one_key_leave_exactly_one_entry() {
    model(3, || {
        let m = map(4);
        let [a] = twins(&m);
        let w = Arc::clone(&m);
        let writer = thread::spawn(move || put(&w, a, 2, 3));
        let mine = put(&m, a, 1, 3);
        let theirs = writer.join().unwrap();
        assert!(mine.is_ok() || theirs.is_ok());
        assert_eq!(m.stats().entries, 1);
        let left = round_of(&m, a);
        assert!(left == Some(1) && mine.is_ok() || left == Some(2) && theirs.is_ok(), "{left:?}");
        let mut n = 0;
        m.sweep(0, u32::MAX, &mut Room::new(), |_, _, _| {
            n += 1;
            false
        });
        assert_eq!(n, 1);
        whole(&m);
    });
}

#[test]
fn loom_two_writers_that_need_each_others_room_lose_no_block() {
    model(1, || {
        let m = map(3);
        let [a, b, c] = twins(&m);
        put(&m, a, 1, 3).unwrap();
        let w = Arc::clone(&m);
        let writer = thread::spawn(move || put(&w, b, 2, 30).is_ok());
        let mine = put(&m, c, 3, 30).is_ok();
        let theirs = writer.join().unwrap();
        assert!(round_of(&m, b).is_none_or(|r| r == 2 && theirs));
        assert!(round_of(&m, c).is_none_or(|r| r == 3 && mine));
        whole(&m);
    });
}

#[test]
fn loom_an_entry_is_claimed_by_one_reader_at_most() {
    model(3, || {
        let m = map(3);
        let [a] = twins(&m);
        put(&m, a, 1, 3).unwrap();
        let claim = move |m: &OctetMap| {
            let mut room = Room::new();
            let hit = m.get(m.hash(&[a]), &[a], &mut room).unwrap();
            m.claim(hit.handle)
        };
        let o = Arc::clone(&m);
        let other = thread::spawn(move || claim(&o));
        let mine = claim(&m);
        assert_eq!(u32::from(mine) + u32::from(other.join().unwrap()), 1);
    });
}
