use super::*;
use crate::resolved::mix;
use causeway_core::Duration;
use causeway_wire::MacAddr;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

impl Table {
    /// Recounts everything that is kept by counting.
    pub(crate) fn check(&self) {
        let live: Vec<u32> = (0..self.slots()).filter(|s| self.entry(*s).state.is_some()).collect();
        let mut loads = vec![Load::default(); self.loads.len()];
        let (mut total, mut failed) = (Load::default(), 0);
        for slot in &live {
            let e = self.entry(*slot);
            assert_eq!(self.find(&e.key, e.hash), Some(*slot));
            assert_ne!(self.timers.of[*slot as usize], NIL, "no timer: {e:?}");
            let load = &mut loads[usize::from(e.interface.0)];
            for l in [load, &mut total] {
                match e.room {
                    Room::Incomplete => l.incomplete += 1,
                    Room::Learned => l.learned += 1,
                    Room::Stale | Room::Active => l.confirmed += 1,
                    Room::Failed => {}
                }
            }
            failed += usize::from(e.room == Room::Failed);
        }
        assert_eq!((loads, total, failed), (self.loads.clone(), self.total, self.failed));
        assert_eq!(self.index.iter().filter(|s| **s != NIL).count(), live.len());
        let free = self.classes.of.iter().filter(|l| **l == FREE as u32).count();
        assert_eq!(free + live.len(), self.entries.len());
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|e| e.state.is_some())
    }
}

const LIMITS: Limits = Limits {
    confirmed: 8,
    confirmed_per_link: 8,
    incomplete: 8,
    incomplete_per_link: 8,
    learned: 8,
    learned_per_link: 8,
};

const M: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn key(n: u8) -> (Key, u64) {
    // Few home positions, so that runs in the index are long.
    (Key::v4(crate::LinkId::NONE, Ipv4Addr::from([192, 0, 2, n])), u64::from(n % 4) << 20)
}

fn state(kind: u8, at: Instant) -> State {
    match kind {
        0 => State::Incomplete { sent: 1, next: at },
        1 => State::Reachable { mac: M, until: at },
        2 => State::Stale { mac: M, since: at, check: at },
        3 => State::Delay { mac: M, until: at },
        4 => State::Probe { mac: M, sent: 1, next: at },
        _ => State::Failed { until: at },
    }
}

proptest! {
    #[test]
    fn equals_a_map_of_the_standard_library(
        ops in proptest::collection::vec((0u8..4, 0u8..40, 0u8..6, any::<bool>(), 0u16..3), 0..300)
    ) {
        let mut table = Table::new(&LIMITS, 3);
        let mut model: HashMap<u8, u32> = HashMap::new();
        let now = Instant::ZERO;
        for (op, n, kind, proven, interface) in ops {
            let (k, h) = key(n);
            let found = table.find(&k, h);
            prop_assert_eq!(found, model.get(&n).copied());
            match (op, found) {
                (0, None) => {
                    let slot = table.insert(k, h, IfId(interface), state(kind, now), now);
                    prop_assert_eq!(slot.is_some(), model.len() < 24);
                    model.extend(slot.map(|s| (n, s)));
                }
                (1, Some(slot)) => table.set(slot, state(kind, now), proven, now),
                (2, Some(slot)) => table.renumber(slot, IfId(interface)),
                (3, Some(slot)) => {
                    table.remove(slot);
                    model.remove(&n);
                }
                _ => {}
            }
            table.check();
        }
    }

    #[test]
    fn timers_fire_after_their_time_and_soon(
        deadlines in proptest::collection::vec(0u64..30_000_000, 1..24),
        steps in proptest::collection::vec(1u64..900_000, 1..50),
        start in 0u64..1 << 40,
    ) {
        let mut table = Table::new(&LIMITS, 1);
        let zero = Instant::from_micros(start);
        // Brings the wheel to the present, as ticks do.
        prop_assert_eq!(table.due(zero), None);
        let mut wait: BTreeMap<u32, Instant> = BTreeMap::new();
        for (n, d) in (0u8..).zip(&deadlines) {
            let at = zero + Duration::from_micros(*d);
            let (k, _) = key(n);
            let slot = table.insert(k, mix(u64::from(n) + 1, u64::MAX / 3), IfId(0), state(3, at), zero).unwrap();
            wait.insert(slot, at);
        }
        let mut now = zero;
        let end = zero + Duration::from_secs(31);
        let mut steps = steps.iter().cycle();
        while now < end {
            now = now + Duration::from_micros(*steps.next().unwrap());
            let mut turns = 0;
            while let Some(slot) = table.due(now) {
                turns += 1;
                prop_assert!(turns < 200, "the wheel does not come to rest");
                match wait.get(&slot) {
                    Some(at) if *at <= now => drop(wait.remove(&slot)),
                    _ => table.arm(slot, table.entry(slot).state.unwrap().deadline()),
                }
            }
            // Nothing that was due is left, but for one slot of the wheel.
            let slack = Duration::from_micros(2 << WHEEL_SHIFT);
            prop_assert!(wait.values().all(|at| *at + slack > now), "{wait:?} at {now:?}");
        }
        prop_assert!(wait.is_empty());
    }
}

#[test]
fn after_a_long_sleep_every_timer_is_found_at_once() {
    let mut table = Table::new(&LIMITS, 1);
    for n in 0..8 {
        let (k, h) = key(n);
        let at = Instant::ZERO + Duration::from_secs(u64::from(n));
        table.insert(k, h, IfId(0), state(3, at), Instant::ZERO).unwrap();
    }
    let now = Instant::ZERO + Duration::from_secs(86_400);
    assert_eq!(std::iter::from_fn(|| table.due(now)).count(), 8);
}

#[test]
fn shares_of_workers_cover_the_whole_with_an_eighth_to_spare() {
    let c = Config::default();
    assert_eq!(Limits::of(&c, 1).confirmed, c.capacity);
    let l = Limits::of(&c, 4);
    assert_eq!(l.confirmed, c.capacity / 4 + c.capacity / 32);
    let tiny = Config { capacity: 1, learned: 1, incomplete: 1, ..c };
    let l = Limits::of(&tiny, 64);
    assert!(l.confirmed == 1 && l.learned == 1 && l.incomplete == 1);
}
