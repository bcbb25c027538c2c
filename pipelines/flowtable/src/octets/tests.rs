use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering as O};

const SEED: [u64; 4] = [1, 2, 3, 4];

fn small() -> OctetMap {
    OctetMap::new(64 << 10, SEED).unwrap()
}

fn put(m: &OctetMap, key: &[u8], stamp: u64, value: &[u8]) -> Result<Put, PutError> {
    m.put(m.hash(key), key, stamp, &[value])
}

fn get(m: &OctetMap, key: &[u8]) -> Option<(u64, Vec<u8>)> {
    let mut room = Room::new();
    m.get(m.hash(key), key, &mut room).map(|h| (h.stamp, h.value.to_vec()))
}

/// A value that tells its key and its length, and that no mixture of two values looks like.
fn value_of(key: u64, n: usize, round: u64) -> Vec<u8> {
    let word = (key << 32 | round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut v: Vec<u8> = (0..n).map(|i| (word.rotate_left(i as u32) as u8).wrapping_add(i as u8)).collect();
    v.splice(..0, [key.to_le_bytes(), (n as u64).to_le_bytes(), round.to_le_bytes()].concat());
    v
}

fn is_whole(key: u64, v: &[u8]) -> bool {
    let word = |at: usize| u64::from_le_bytes(v[at..at + 8].try_into().unwrap());
    word(0) == key && v == value_of(key, word(8) as usize, word(16))
}

#[test]
fn what_was_put_in_is_found_until_it_is_taken_out() {
    let m = small();
    assert_eq!(get(&m, b"a"), None);
    assert_eq!(put(&m, b"a", 7, b"one"), Ok(Put::New));
    assert_eq!(m.put(m.hash(b"b"), b"b", 8, &[b"tw", b"", b"o"]), Ok(Put::New));
    assert_eq!(get(&m, b"a"), Some((7, b"one".to_vec())));
    assert_eq!(get(&m, b"b"), Some((8, b"two".to_vec())));
    assert_eq!(put(&m, b"a", 9, b"three"), Ok(Put::Replaced));
    assert_eq!(get(&m, b"a"), Some((9, b"three".to_vec())));
    assert_eq!((m.stats().entries, m.stats().used_octets), (2, 2 * BLOCK_OCTETS));
    assert!(m.remove(m.hash(b"a"), b"a"));
    assert!(!m.remove(m.hash(b"a"), b"a"));
    assert_eq!(get(&m, b"a"), None);
    m.clear();
    assert_eq!(get(&m, b"b"), None);
    assert_eq!((m.stats().entries, m.stats().used_octets), (0, 0));
    assert_eq!(m.stats().evicted, 0);
}

#[test]
fn every_length_that_fits_is_given_back_and_one_more_is_refused() {
    let m = small();
    for key_octets in [0, 1, 7, 8, 9, 15, 16, 17, 33, 223, 224, 225, 258] {
        let key: Vec<u8> = (0..key_octets).map(|i| (i * 7) as u8).collect();
        for n in (0..=MAX_OCTETS - key.len()).filter(|n| n % 97 < 3 || *n > MAX_OCTETS - key.len() - 3) {
            let value: Vec<u8> = (0..n).map(|i| (i % 251) as u8 ^ 0xa5).collect();
            put(&m, &key, n as u64, &value).unwrap();
            assert_eq!(get(&m, &key), Some((n as u64, value)));
        }
    }
    m.clear();
    let too_long = vec![0; MAX_OCTETS - 1];
    assert_eq!(put(&m, b"ab", 0, &too_long), Err(PutError::TooLong));
    assert_eq!((m.stats().entries, m.stats().refused, m.stats().used_octets), (0, 1, 0));
}

#[test]
fn memory_is_never_more_than_was_said_and_too_little_is_refused() {
    for octets in [0, 4096, 8191, OctetMap::new(0, SEED).map_or_else(least, |_| 0) - 4096] {
        assert!(matches!(OctetMap::new(octets, SEED), Err(OctetMapError::TooSmall { .. })), "{octets}");
    }
    let least = OctetMap::new(0, SEED).map_or_else(least, |_| 0);
    for octets in [least, 64 << 10, (64 << 10) + 4095, (2 << 20) - 1, 2 << 20, (5 << 20) + 77] {
        let m = OctetMap::new(octets, SEED).unwrap();
        assert!(m.stats().octets <= octets && m.stats().octets * 2 > octets, "{octets}: {:?}", m.stats());
        for i in 0..octets as u64 / 100 {
            put(&m, &i.to_le_bytes(), i, &[1; 100]).unwrap();
        }
        let s = m.stats();
        assert!(s.used_octets <= s.octets && s.used_octets * 10 > s.octets * 8, "{s:?}");
        assert!(s.evicted > 0 && s.entries * BLOCK_OCTETS as u64 <= s.octets as u64);
    }
}

fn least(e: OctetMapError) -> usize {
    match e {
        OctetMapError::TooSmall { least, .. } => least,
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_asked_for_stays_when_a_flood_of_others_comes() {
    let m = OctetMap::new(1 << 20, SEED).unwrap();
    let hot: Vec<[u8; 8]> = (0..500u64).map(|i| (1 << 40 | i).to_le_bytes()).collect();
    for k in &hot {
        put(&m, k, 0, b"hot").unwrap();
    }
    for i in 0..100_000u64 {
        put(&m, &i.to_le_bytes(), 0, b"flood").unwrap();
        if i % 4 == 0 {
            get(&m, &hot[(i / 4) as usize % hot.len()]);
        }
    }
    let kept = hot.iter().filter(|k| get(&m, *k).is_some()).count();
    assert!(kept > 490, "{kept} of 500");
    assert!(m.stats().evicted > 90_000);
}

#[test]
fn nearly_all_of_the_room_can_be_used_before_anything_goes() {
    let m = OctetMap::new(16 << 20, SEED).unwrap();
    let blocks = u64::from(m.blocks);
    for i in 0..blocks {
        put(&m, &i.to_le_bytes(), 0, b"x").unwrap();
    }
    let s = m.stats();
    assert!(s.evicted * 200 < blocks, "{} of {blocks} went early", s.evicted);
    assert!(blocks as usize * BLOCK_OCTETS * 100 > s.octets * 90, "the index is less than a tenth");
}

#[test]
fn an_entry_counts_its_askings_up_to_three_and_is_claimed_once() {
    let m = small();
    let mut room = Room::new();
    let h = m.hash(b"k");
    for round in 0..3 {
        put(&m, b"k", round, b"v").unwrap();
        for asked in [0, 1, 2, 3, 3, 3] {
            let hit = m.get(h, b"k", &mut room).unwrap();
            assert_eq!((hit.asked, hit.claimed), (asked, false));
        }
        let handle = m.get(h, b"k", &mut room).unwrap().handle;
        assert!(m.claim(handle));
        assert!(!m.claim(handle));
        assert!(m.get(h, b"k", &mut room).unwrap().claimed);
        // Whoever comes with an old handle claims nothing.
        put(&m, b"k", round, b"w").unwrap();
        assert!(!m.claim(handle));
    }
}

#[test]
fn a_sweep_in_slices_shows_every_entry_once_and_takes_out_what_is_meant() {
    let m = small();
    for i in 0..100u64 {
        put(&m, &i.to_le_bytes(), i, &vec![i as u8; i as usize]).unwrap();
    }
    let n = m.stats().entries;
    let mut room = Room::new();
    let (mut seen, mut at) = (Vec::new(), Some(0));
    while let Some(from) = at {
        at = m.sweep(from, 7, &mut room, |key, stamp, value| {
            assert_eq!((key, value), (&stamp.to_le_bytes()[..], &vec![stamp as u8; stamp as usize][..]));
            seen.push(stamp);
            stamp % 2 == 0
        });
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len() as u64, n);
    for i in seen {
        assert_eq!(get(&m, &i.to_le_bytes()).is_some(), i % 2 == 1);
    }
    assert_eq!(m.sweep(u32::MAX, 1, &mut room, |_, _, _| true), None);
}

#[test]
fn keys_of_one_bucket_push_each_other_out_one_at_a_time() {
    let m = small();
    let mut room = Room::new();
    let same: Vec<[u8; 8]> =
        (0..).map(u64::to_le_bytes).filter(|k| m.place(m.hash(k)) == 3).take(9).collect();
    for (n, k) in same.iter().enumerate() {
        put(&m, k, 0, b"v").unwrap();
        if n == 0 {
            m.get(m.hash(k), k, &mut room).unwrap();
        }
    }
    let there: Vec<bool> = same.iter().map(|k| get(&m, k).is_some()).collect();
    // Seven slots: of those that nobody asked for, the oldest went.
    assert_eq!(there, [true, false, false, true, true, true, true, true, true]);
    assert_eq!((m.stats().entries, m.stats().evicted), (7, 2));
}

#[test]
fn the_hash_depends_on_every_octet_the_length_and_the_seed() {
    let m = small();
    let other = OctetMap::new(64 << 10, [1, 2, 3, 5]).unwrap();
    for n in 0..60 {
        let key: Vec<u8> = (0..n).map(|i| i as u8).collect();
        assert_ne!(m.hash(&key), other.hash(&key));
        let longer = [key.clone(), vec![0]].concat();
        assert_ne!(m.hash(&key), m.hash(&longer));
        for at in 0..n {
            for bit in 0..8 {
                let mut k = key.clone();
                k[at] ^= 1 << bit;
                assert_ne!(m.hash(&key), m.hash(&k), "{n} {at}");
            }
        }
    }
}

#[test]
fn names_spread_evenly_over_buckets_and_tags() {
    let m = OctetMap::new(4 << 20, SEED).unwrap();
    let (n, cells) = (200_000u32, 1024usize);
    for bits in [0, 32] {
        let mut count = vec![0u32; cells];
        for i in 0..n {
            let key = format!("\u{4}h{i:06}\u{7}example\0\0\u{1c}\u{1}");
            count[(m.hash(key.as_bytes()) >> bits) as u32 as usize >> 22] += 1;
        }
        let want = f64::from(n) / cells as f64;
        let chi: f64 = count.iter().map(|c| (f64::from(*c) - want).powi(2) / want).sum();
        assert!((0.85..1.15).contains(&(chi / (cells - 1) as f64)), "{chi}");
    }
}

#[test]
fn readers_never_see_a_mixture_while_writers_crowd_a_tiny_map() {
    // Values of one to sixteen blocks of few keys, with evictions all the time.
    let m = small();
    let stop = AtomicBool::new(false);
    let hits = AtomicU64::new(0);
    std::thread::scope(|s| {
        let writers: Vec<_> = (0..2u64)
            .map(|id| {
                let (m, hits) = (&m, &hits);
                s.spawn(move || {
                    for round in 0..2_000_000_000u64 {
                        if round >= 60_000 && hits.load(O::Relaxed) > 1000 {
                            break;
                        }
                        let k = round.wrapping_mul(7 + id) % 40;
                        let n = (round.wrapping_mul(0x9e37_79b9) >> 7) as usize % 3700;
                        let _ = put(m, &k.to_le_bytes(), round, &value_of(k, n, round << 1 | id));
                        if round % 5 == 0 {
                            m.remove(m.hash(&(k ^ 1).to_le_bytes()), &(k ^ 1).to_le_bytes());
                        }
                    }
                })
            })
            .collect();
        let reader = s.spawn(|| {
            let mut room = Room::new();
            while !stop.load(O::Relaxed) {
                for k in 0..40u64 {
                    let key = k.to_le_bytes();
                    if let Some(hit) = m.get(m.hash(&key), &key, &mut room) {
                        assert!(is_whole(k, hit.value), "{k}");
                        hits.fetch_add(1, O::Relaxed);
                        m.claim(hit.handle);
                    }
                }
                m.sweep(0, u32::MAX, &mut room, |key, _, value| {
                    assert!(is_whole(u64::from_le_bytes(key.try_into().unwrap()), value));
                    false
                });
            }
        });
        for w in writers {
            w.join().unwrap();
        }
        stop.store(true, O::Relaxed);
        reader.join().unwrap();
    });
    assert!(hits.load(O::Relaxed) > 0);
    // Nothing was lost: all blocks are free, used or in entries.
    m.clear();
    assert_eq!((m.stats().entries, m.stats().used_octets), (0, 0));
    let free = std::iter::from_fn(|| m.pop().or_else(|| m.never_used())).count();
    assert_eq!(free, m.blocks as usize);
}

proptest! {
    #[test]
    fn agrees_with_a_hash_map_as_long_as_there_is_room(
        ops in proptest::collection::vec((0u8..5, 0u64..30, 0usize..600), 1..300)
    ) {
        let m = OctetMap::new(256 << 10, SEED).unwrap();
        let mut model = HashMap::new();
        for (n, (op, k, octets)) in ops.into_iter().enumerate() {
            let key = k.to_le_bytes()[..1 + k as usize % 8].to_vec();
            match op {
                0..=2 => {
                    let value = value_of(k, octets, n as u64);
                    let was = model.insert(key.clone(), (n as u64, value.clone()));
                    let is = put(&m, &key, n as u64, &value);
                    prop_assert_eq!(is, Ok(if was.is_some() { Put::Replaced } else { Put::New }));
                }
                3 => prop_assert_eq!(m.remove(m.hash(&key), &key), model.remove(&key).is_some()),
                _ => {}
            }
            prop_assert_eq!(get(&m, &key), model.get(&key).cloned());
            prop_assert_eq!(m.stats().entries as usize, model.len());
        }
    }
}
