use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64 as Count, Ordering as O};

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

fn bindings(capacity: u32, seed: [u64; 2]) -> Bindings {
    Bindings::new(capacity, seed).unwrap()
}

fn address(n: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8_0064_0000_0000_0000_0000_0000 | n)
}

fn single(a: Ipv6Addr) -> Prefix6 {
    Prefix6::new(a, 128).unwrap()
}

fn within(a: Ipv6Addr, len: u8) -> Prefix6 {
    Prefix6::containing(a, len).unwrap()
}

fn host(n: u32) -> MacAddr {
    let [a, b, c, d] = n.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

#[test]
fn the_whole_capacity_can_be_used_and_more_is_refused() {
    for (capacity, seed) in [(1, 1), (2, 2), (7, 3), (100, 4), (1000, 5), (5000, 6), (70_000, 7), (70_000, 8)]
    {
        let b = bindings(capacity, [seed, !seed]);
        for i in 0..capacity {
            b.set(1, single(address(u128::from(i))), host(i)).unwrap();
        }
        assert_eq!(b.set(1, single(address(1 << 40)), host(0)), Err(MapFull));
        assert_eq!((b.len(), b.capacity()), (capacity, capacity));
        for i in 0..capacity {
            assert_eq!(b.lookup(1, address(u128::from(i))), Some(host(i)));
        }
        assert_eq!(b.lookup(1, address(1 << 40)), None);
        b.set(1, single(address(0)), host(9)).unwrap();
        assert_eq!(b.lookup(1, address(0)), Some(host(9)), "a known binding is no new one");
        assert_eq!(b.remove(1, single(address(0))), Some(host(9)));
        assert_eq!(b.remove(1, single(address(0))), None);
        assert_eq!(b.lookup(1, address(0)), None);
        b.set(1, single(address(1 << 40)), host(0)).unwrap();
    }
}

#[test]
fn a_million_bindings_take_less_than_64_mebibytes() {
    assert!(bindings(1_000_000, SEED).octets() < 64 << 20);
    assert_eq!(size_of::<Bucket>(), 64);
}

#[test]
fn a_binding_holds_on_its_own_link_only() {
    let b = bindings(10, SEED);
    b.set(1 << 16 | 7, single(address(1)), host(1)).unwrap();
    b.set(1 << 16, single(address(1)), host(2)).unwrap();
    assert_eq!(b.lookup(1 << 16 | 7, address(1)), Some(host(1)));
    assert_eq!(b.lookup(1 << 16, address(1)), Some(host(2)));
    for other in [0, 7, 2 << 16, u32::MAX] {
        assert_eq!(b.lookup(other, address(1)), None);
    }
}

#[test]
fn the_longest_prefix_decides_and_a_length_that_is_gone_costs_nothing() {
    let b = bindings(10, SEED);
    let a = address(0x8001_0000_0000_0000_0005);
    b.set(0, within(a, 56), host(56)).unwrap();
    b.set(0, within(a, 64), host(64)).unwrap();
    b.set(0, single(a), host(128)).unwrap();
    assert_eq!((b.lookup(0, a), b.lookup_exact(0, a)), (Some(host(128)), Some(host(128))));
    b.remove(0, single(a));
    assert_eq!((b.lookup(0, a), b.lookup_exact(0, a)), (Some(host(64)), None));
    b.remove(0, within(a, 64));
    assert_eq!(b.lookup(0, a), Some(host(56)));
    assert_eq!([b.lengths[0].load(O::Relaxed), b.lengths[1].load(O::Relaxed)], [1 << 56, 0]);
    b.remove(0, within(a, 56));
    assert_eq!(b.lookup(0, a), None);
    assert_eq!([b.lengths[0].load(O::Relaxed), b.lengths[1].load(O::Relaxed)], [0, 0]);
    // Every length there is.
    for len in 0..=128 {
        b.set(0, within(a, len), host(u32::from(len))).unwrap();
        assert_eq!(b.lookup(0, a), Some(host(u32::from(len))), "{len}");
        assert_eq!(b.find(&b.prefetch(0, a)), Some(host(u32::from(len))), "{len}");
        assert_eq!(b.remove(0, within(a, len)), Some(host(u32::from(len))));
    }
}

#[test]
fn readers_beside_a_writer_never_miss_a_binding_that_stays_nor_see_one_under_another_address() {
    // Bindings below `STAY` are there all the time; others come and go beside them in a full table, so
    // that those that stay are moved about.
    const STAY: u32 = 500;
    const ALL: u32 = 1000;
    let b = bindings(ALL, SEED);
    for i in 0..STAY {
        b.set(3, single(address(u128::from(i))), host(i)).unwrap();
    }
    let (stop, reads) = (AtomicBool::new(false), Count::new(0));
    std::thread::scope(|s| {
        for r in 0..2u32 {
            let (b, stop, reads) = (&b, &stop, &reads);
            s.spawn(move || {
                let mut i = r * 37;
                while !stop.load(O::Relaxed) {
                    i = (i + 1) % (2 * ALL);
                    let got = b.lookup(3, address(u128::from(i)));
                    if i < STAY {
                        assert_eq!(got, Some(host(i)));
                    } else {
                        assert!(got.is_none() || got == Some(host(i)), "{got:?} for {i}");
                    }
                    reads.fetch_add(1, O::Relaxed);
                }
            });
        }
        // On a busy machine the readers may get a core late: the writer goes on until they had some.
        let mut here = std::collections::VecDeque::new();
        let mut next = 0u32;
        for round in 0..2_000_000_000u32 {
            if round >= 200_000 && reads.load(O::Relaxed) > 200_000 {
                break;
            }
            if here.len() < (ALL - STAY) as usize {
                let n = STAY + next % (2 * ALL - STAY);
                next += 1;
                b.set(3, single(address(u128::from(n))), host(n)).unwrap();
                here.push_back(n);
            } else {
                for _ in 0..=round % 200 {
                    if let Some(n) = here.pop_front() {
                        assert_eq!(b.remove(3, single(address(u128::from(n)))), Some(host(n)));
                    }
                }
            }
        }
        stop.store(true, O::Relaxed);
    });
    assert!(b.moves() > 100, "bindings were moved");
    assert!(reads.load(O::Relaxed) > 100_000);
}

proptest! {
    #[test]
    fn agrees_with_a_hash_map(
        ops in proptest::collection::vec((0u8..4, 0u32..3, 0u128..40, prop::sample::select(vec![48u8, 64, 127, 128]), any::<u32>()), 1..400),
        seed in any::<[u64; 2]>(),
    ) {
        let b = bindings(24, seed);
        let mut model: HashMap<(u32, u8, Ipv6Addr), MacAddr> = HashMap::new();
        for (op, link, n, len, m) in ops {
            let a = address(n | n << 64);
            let p = within(a, len);
            let key = (link, len, p.address());
            if op < 2 {
                match b.set(link, p, host(m)) {
                    Ok(()) => { model.insert(key, host(m)); }
                    Err(MapFull) => prop_assert!(!model.contains_key(&key) && model.len() == 24),
                }
            } else if op == 2 {
                prop_assert_eq!(b.remove(link, p), model.remove(&key));
            }
            let longest = [128u8, 127, 64, 48].iter().find_map(|l| model.get(&(link, *l, within(a, *l).address())));
            prop_assert_eq!(b.lookup(link, a), longest.copied());
            prop_assert_eq!(b.len() as usize, model.len());
        }
    }
}

#[test]
fn what_is_not_bound_is_told_without_a_look_at_the_bindings() {
    let b = bindings(10_000, SEED);
    let prefix = within(address(0x8001_0000_0000_0000_0000), 64);
    for i in 0..9_000 {
        b.set(5, single(address(i)), host(1)).unwrap();
    }
    b.set(5, prefix, host(2)).unwrap();
    let looked_up =
        |from: u128, to: u128| (from..to).filter(|n| b.presence.maybe(b.ask(5, address(*n)).hash)).count();
    assert_eq!(looked_up(0, 9_000), 9_000);
    assert!(looked_up(1 << 40, (1 << 40) + 10_000) < 1_000);
    for i in 0..9_000 {
        assert_eq!(b.lookup_exact(5, address(i)), Some(host(1)));
        assert_eq!(b.remove(5, single(address(i))), Some(host(1)));
        assert_eq!(b.lookup_exact(5, address(i)), None);
    }
    assert_eq!(b.lookup(5, prefix.address()), Some(host(2)));
    b.remove(5, prefix);
    assert_eq!(looked_up(0, 20_000), 0);
}
