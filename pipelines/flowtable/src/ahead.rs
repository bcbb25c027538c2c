//! What a creation will touch, brought close before its turn.
//!
//! A new session writes to two buckets of the session index and to a line of its own; a new mapping to
//! as many again. One after the other each would wait for memory. A worker that has a burst of first
//! packets asks for all of it before it creates the first one. Everything here is a hint or a lookup:
//! nothing is changed, and a creation finds out for itself what is true by then.

use crate::guard::{BULK, Guard, Lookup};
use crate::index::Probe;
use crate::key::{Key, MapInsideKey, MapOutsideKey, OutsideKey};
use crate::mapping::Mapping;
use crate::prefetch::prefetch_read;

impl<'w> Guard<'w> {
    /// Brings the slot close that a session gets which is created after `before` others.
    #[inline]
    pub fn expect_session_slot(&self, before: usize) {
        self.table.sessions.expect(&self.pool.sessions, before);
    }

    /// Brings the slot close that a mapping gets which is created after `before` others.
    #[inline]
    pub fn expect_mapping_slot(&self, before: usize) {
        self.table.mappings.expect(&self.pool.mappings, before);
    }

    /// Brings close where a session's outside key will be inserted.
    #[inline]
    pub fn expect_outside(&self, key: &OutsideKey) {
        let probe = Probe::new(key.hash(&self.table.hasher), key.side());
        self.table.session_index.prefetch(&probe);
    }

    /// Brings close where a mapping's outside key will be inserted.
    #[inline]
    pub fn expect_mapping_outside(&self, key: &MapOutsideKey) {
        let probe = Probe::new(key.hash(&self.table.hasher), key.side());
        self.table.mapping_index.prefetch(&probe);
    }

    /// Looks up mappings by their inside keys; result `i` is that of key `i`. Wait-free. The cache
    /// misses of up to [`BULK`] keys overlap, and both buckets of a key are close afterwards.
    ///
    /// Looks at as many keys as both slices have.
    pub fn lookup_mappings_inside<'g>(&'g self, keys: &[MapInsideKey], out: &mut [Lookup<Mapping<'g>>]) {
        let lines = self.table.mappings.lines();
        if lines.is_empty() {
            out.fill(Lookup::Miss);
            return;
        }
        let index = &self.table.mapping_index;
        for (keys, out) in keys.chunks(BULK).zip(out.chunks_mut(BULK)) {
            let mut probes = [Probe::default(); BULK];
            for (key, probe) in keys.iter().zip(&mut probes) {
                *probe = Probe::new(key.hash(&self.table.hasher), key.side());
                index.prefetch(probe);
            }
            for probe in &probes[..keys.len()] {
                let slot = index.first(probe).any(probe).or_else(|| index.second(probe).any(probe));
                if let Some(line) = slot.and_then(|s| lines.get(s as usize)) {
                    prefetch_read(line);
                }
            }
            for ((key, probe), out) in keys.iter().zip(&probes).zip(out) {
                *out = self.probe_mapping(probe, key);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{Config, FixedPort, FlowTable, Lookup, MapInsideKey, MapOutsideKey, NewMapping, OutsideKey};

    #[test]
    fn mappings_are_found_in_bulk_as_one_by_one_and_hints_change_nothing() {
        let table = FlowTable::new(&Config {
            sessions: 200,
            mappings: 200,
            spliced: 0,
            workers: 1,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        })
        .unwrap();
        let mut worker = table.worker(0).unwrap();
        let guard = worker.enter();
        let key = |n: u16| MapInsideKey { src6: u128::from(n) << 70, port: n, protocol: 17, pool: 0 };
        let mut held = Vec::new();
        for n in (0..200).step_by(2) {
            let new = NewMapping {
                key: key(n),
                owner: 0,
                flags: 0,
                subscriber: 0,
                plan_generation: 1,
                pinned: false,
                aux: 0,
            };
            guard.expect_mapping_slot(usize::from(n));
            guard.expect_session_slot(usize::from(n));
            guard.expect_mapping_outside(&MapOutsideKey { out4: 1, port: n, protocol: 17 });
            guard.expect_outside(&OutsideKey {
                out4: 1,
                remote4: 2,
                out_port: n,
                remote_port: 3,
                protocol: 17,
            });
            held.push(guard.create_mapping(&new, &mut FixedPort::new(1, n)).unwrap().into_inner());
        }
        let keys: Vec<MapInsideKey> = (0..200).map(key).collect();
        let mut found = vec![Lookup::Building; 200];
        guard.lookup_mappings_inside(&keys, &mut found);
        for (n, (key, found)) in (0u16..).zip(keys.iter().zip(&found)) {
            assert_eq!(*found, guard.lookup_mapping_inside(key));
            assert_eq!(found.hit().map(|m| m.out_port()), (n % 2 == 0).then_some(n));
        }
        let stats = table.stats();
        assert_eq!((stats.sessions, stats.mappings), (0, 100));
    }
}
