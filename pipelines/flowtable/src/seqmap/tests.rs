use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering as O};

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

#[test]
fn the_whole_capacity_can_be_used_and_more_is_refused() {
    let m = SeqMap::new(5000, SEED);
    for i in 0..5000u64 {
        assert_eq!(m.insert(&[i, 0, 7], i * 3), Ok(None));
    }
    assert_eq!(m.insert(&[9999, 0, 7], 1), Err(MapFull));
    assert_eq!(m.len(), 5000);
    for i in 0..5000u64 {
        assert_eq!(m.get(&[i, 0, 7]), Some(i * 3));
    }
    assert_eq!(m.get(&[9999, 0, 7]), None);
    assert_eq!(m.insert(&[17, 0, 7], 5), Ok(Some(51)), "a known key is no new one");
    assert_eq!(m.remove(&[17, 0, 7]), Some(5));
    assert_eq!(m.get(&[17, 0, 7]), None);
    assert_eq!(m.insert(&[9999, 0, 7], 1), Ok(None));
}

#[test]
fn iteration_in_slices_sees_every_key_once() {
    let m = SeqMap::new(1000, SEED);
    for i in 0..700u64 {
        m.insert(&[i, i, i], i).unwrap();
    }
    let mut seen = Vec::new();
    let mut at = Some(0);
    while let Some(from) = at {
        at = m.iterate(from, 37, |k, v| {
            assert_eq!(k, &[v, v, v]);
            seen.push(v);
        });
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..700).collect::<Vec<_>>());
    assert_eq!(m.iterate(usize::MAX, 1, |_, _| {}), None);
}

#[test]
fn a_reader_never_sees_one_keys_value_under_another_key() {
    // Two writers with keys of their own crowd a tiny map; values tell their keys.
    let m = SeqMap::new(4, SEED);
    let stop = AtomicBool::new(false);
    let hits = AtomicU64::new(0);
    std::thread::scope(|s| {
        let writers: Vec<_> = (0..2u64)
            .map(|id| {
                let (m, hits) = (&m, &hits);
                s.spawn(move || {
                    // On a busy machine the reader may get a core late: writers go on until it has seen
                    // something, a few minutes at most.
                    for round in 0..2_000_000_000u64 {
                        if round >= 150_000 && hits.load(O::Relaxed) > 0 {
                            break;
                        }
                        let k = (id << 32) | (round % 5);
                        if m.insert(&[k, k ^ 1, k ^ 2], (k << 8) | (round & 0xff)).is_ok() && round % 3 != 0 {
                            assert!(m.remove(&[k, k ^ 1, k ^ 2]).is_some(), "the writer's own key was gone");
                        }
                    }
                })
            })
            .collect();
        let reader = s.spawn(|| {
            while !stop.load(O::Relaxed) {
                for k in [0, 1, 2, 3, 4, 1 << 32, (1 << 32) | 1, (1 << 32) | 2, (1 << 32) | 3, (1 << 32) | 4]
                {
                    if let Some(v) = m.get(&[k, k ^ 1, k ^ 2]) {
                        assert_eq!(v >> 8, k);
                        hits.fetch_add(1, O::Relaxed);
                    }
                }
                m.iterate(0, usize::MAX, |key, v| assert_eq!(v >> 8, key[0]));
            }
        });
        for w in writers {
            w.join().unwrap();
        }
        stop.store(true, O::Relaxed);
        reader.join().unwrap();
        assert!(hits.load(O::Relaxed) > 0);
    });
}

proptest! {
    #[test]
    fn agrees_with_a_hash_map(ops in proptest::collection::vec((0u8..4, 0u64..40, any::<u64>()), 1..400)) {
        let m = SeqMap::new(24, SEED);
        let mut model = HashMap::new();
        for (op, k, v) in ops {
            let key = [k, !k, k << 7];
            match op {
                0 | 1 => match m.insert(&key, v) {
                    Ok(old) => prop_assert_eq!(old, model.insert(k, v)),
                    Err(MapFull) => prop_assert!(!model.contains_key(&k) && model.len() == 24),
                },
                2 => prop_assert_eq!(m.remove(&key), model.remove(&k)),
                _ => {
                    let expected = model.get_mut(&k).map(|x| std::mem::replace(x, v));
                    prop_assert_eq!(m.update(&key, v), expected);
                }
            }
            prop_assert_eq!(m.get(&key), model.get(&k).copied());
            prop_assert_eq!(m.len() as usize, model.len());
        }
    }
}
