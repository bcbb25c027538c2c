use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A small generator for tests (splitmix64).
fn next(s: &mut u64) -> u64 {
    *s = s.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *s;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn every_port_of_a_range_can_be_had_once() {
    let b = PortBitmap::new();
    let mut s = 1;
    let range = 1000..=2999u16;
    let mut seen = BTreeSet::new();
    for _ in 0..2000 {
        let p = b.alloc(next(&mut s), range.clone(), None).expect("ports are left");
        assert!(range.contains(&p));
        assert!(seen.insert(p), "{p} was given twice");
    }
    assert_eq!(b.alloc(next(&mut s), range.clone(), None), None);
    assert_eq!(b.in_use(), 2000);
    assert!(b.free(1500));
    assert!(!b.free(1500));
    assert_eq!(b.alloc(next(&mut s), range, None), Some(1500));
}

#[test]
fn all_65536_ports_can_be_had_and_the_last_ones_are_found() {
    let b = PortBitmap::new();
    let mut s = 2;
    for _ in 0..65536 {
        b.alloc(next(&mut s), 0..=u16::MAX, None).expect("ports are left");
    }
    assert_eq!(b.alloc(0, 0..=u16::MAX, None), None);
    for p in [0u16, 63, 64, 4095, 4096, 65535] {
        assert!(b.free(p));
        assert_eq!(b.alloc(next(&mut s), 0..=u16::MAX, None), Some(p));
    }
}

#[test]
fn rfc4787_4_2_2_parity_is_kept_if_asked_for() {
    let b = PortBitmap::new();
    let mut s = 3;
    for _ in 0..32256 {
        assert_eq!(b.alloc(next(&mut s), 1024..=u16::MAX, Some(Parity::Even)).map(|p| p & 1), Some(0));
    }
    assert_eq!(b.alloc(next(&mut s), 1024..=u16::MAX, Some(Parity::Even)), None);
    assert_eq!(b.alloc(next(&mut s), 1024..=u16::MAX, Some(Parity::Odd)).map(|p| p & 1), Some(1));
    assert_eq!(b.in_use(), 32257);
    assert_eq!(Parity::of(7), Parity::Odd);
}

#[test]
fn rfc6056_3_3_1_first_choices_spread_over_the_whole_range() {
    let mut s = 4;
    let mut octiles = [0u32; 8];
    for _ in 0..8000 {
        let b_port = PortBitmap::new().alloc(next(&mut s), 1024..=u16::MAX, None).unwrap();
        octiles[usize::from((b_port - 1024) / 8064)] += 1;
    }
    // Even would be 1000 each; five standard deviations are about 150.
    assert!(octiles.iter().all(|n| (850..1150).contains(n)), "{octiles:?}");
}

#[test]
fn an_empty_range_has_no_port() {
    let b = PortBitmap::new();
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    let range = 10..=9u16;
    assert_eq!(b.alloc(7, range, None), None);
    assert_eq!(b.alloc(u64::MAX, 9..=9, None), Some(9));
    assert_eq!(b.alloc(u64::MAX, 9..=9, None), None);
}

#[test]
fn a_held_port_rests_for_two_rotations() {
    let b = PortBitmap::new();
    assert!(b.take(80));
    assert!(!b.take(80));
    assert!(b.free_held(80));
    assert!(!b.free_held(80), "it rests already");
    assert_eq!(b.alloc(0, 80..=80, None), None);
    assert_eq!(b.rotate(), 0);
    assert!(!b.free_held(80), "it rests in the older set");
    assert_eq!(b.alloc(0, 80..=80, None), None);
    assert_eq!(b.rotate(), 1);
    assert_eq!(b.in_use(), 0);
    assert_eq!(b.alloc(0, 80..=80, None), Some(80));
}

#[test]
fn a_rest_can_end_early_and_only_what_rests_is_freed() {
    let b = PortBitmap::new();
    for p in 60..=200 {
        assert!(b.take(p));
    }
    assert!(b.any_live(0..=65535) && b.any_live(60..=60) && b.any_live(128..=300));
    assert!(!b.any_live(0..=59) && !b.any_live(201..=65535));
    for p in 60..=150 {
        assert!(b.free_held(p));
        if p == 100 {
            assert_eq!(b.rotate(), 0);
        }
    }
    assert!(!b.any_live(0..=150) && b.any_live(0..=151));
    assert_eq!(b.end_rest(90..=110), 21);
    assert_eq!((b.end_rest(90..=110), b.in_use()), (0, 120));
    assert_eq!(b.alloc(0, 90..=90, None), Some(90));
    assert!(b.any_live(90..=90));
    assert_eq!(b.end_rest(0..=65535), 70);
    assert_eq!((b.rotate(), b.rotate(), b.in_use()), (0, 0, 51));
}

#[test]
fn threads_never_share_a_port_and_none_is_lost() {
    let b = PortBitmap::new();
    let owner: Vec<_> = (0..=u16::MAX).map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|t| {
        for id in 1..=3u32 {
            let (b, owner) = (&b, &owner);
            t.spawn(move || {
                let mut s = u64::from(id) << 40;
                let mut mine = Vec::new();
                for _ in 0..60_000 {
                    let r = next(&mut s);
                    // A narrow range keeps it nearly full, where races matter.
                    if r & 3 != 0 {
                        if let Some(p) = b.alloc(next(&mut s), 5000..=5199, None) {
                            assert_eq!(owner[usize::from(p)].swap(id, Ordering::SeqCst), 0);
                            mine.push(p);
                        }
                    } else if !mine.is_empty() {
                        let p = mine.swap_remove(usize::try_from(r >> 8).unwrap() % mine.len());
                        assert_eq!(owner[usize::from(p)].swap(0, Ordering::SeqCst), id);
                        assert!(b.free(p));
                    }
                }
                for p in mine {
                    owner[usize::from(p)].store(0, Ordering::SeqCst);
                    assert!(b.free(p));
                }
            });
        }
    });
    assert_eq!(b.in_use(), 0);
    let mut s = 9;
    for _ in 0..200 {
        assert!(b.alloc(next(&mut s), 5000..=5199, None).is_some(), "a port was lost");
    }
}

proptest! {
    #[test]
    fn agrees_with_a_set(ops in proptest::collection::vec((0u8..4, any::<u64>(), any::<u16>(), 0u16..200), 1..300)) {
        let b = PortBitmap::new();
        let mut model = BTreeSet::new();
        for (op, random, lo, len) in ops {
            let hi = lo.saturating_add(len);
            let parity = match op { 0 => None, 1 => Some(Parity::Even), _ => Some(Parity::Odd) };
            if op == 3 {
                prop_assert_eq!(b.free(lo), model.remove(&lo));
                continue;
            }
            let fits = |p: &u16| parity.is_none_or(|x| Parity::of(*p) == x);
            match b.alloc(random, lo..=hi, parity) {
                Some(p) => {
                    prop_assert!((lo..=hi).contains(&p) && fits(&p));
                    prop_assert!(model.insert(p));
                }
                None => prop_assert!((lo..=hi).filter(fits).all(|p| model.contains(&p))),
            }
            prop_assert_eq!(b.in_use() as usize, model.len());
        }
    }
}

#[test]
fn a_claimed_port_is_taken_whether_it_was_free_rested_or_was_taken() {
    let b = PortBitmap::new();
    assert!(b.take(7) && b.take(8) && b.free_held(8));
    for port in [7, 8, 9] {
        b.claim(port);
        assert!(b.is_taken(port));
    }
    assert_eq!(b.in_use(), 3);
    // What rested does not come back under its new owner.
    assert_eq!((b.rotate(), b.rotate()), (0, 0));
    assert!(b.is_taken(8) && b.free(8) && !b.is_taken(8));
}
