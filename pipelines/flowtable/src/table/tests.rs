use crate::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

const POOL: u32 = 0xcb00_7100;

fn config(sessions: u32) -> Config {
    Config { sessions, mappings: sessions, spliced: 8, workers: 2, control_readers: 1, seed: [1, 2, 3, 4] }
}

fn table(sessions: u32) -> Arc<FlowTable> {
    FlowTable::new(&config(sessions)).unwrap()
}

/// The host of flow `n`; flows with the same `n >> 8` share a mapping where `dst` differs only.
fn inside(host: u32, port: u16, dst: u32) -> InsideKey {
    InsideKey {
        src6: 0x2001_0db8_0064_0000_0000_0000_0000_0000 | u128::from(host),
        dst4: dst,
        src_port: port,
        dst_port: 443,
        protocol: 17,
        prefix: 0,
    }
}

fn outside(out_port: u16, dst: u32) -> OutsideKey {
    OutsideKey { out4: POOL, remote4: dst, out_port, remote_port: 443, protocol: 17 }
}

fn new_session(key: NewKey, tick: u32) -> NewSession {
    NewSession {
        key,
        kind: Kind::Nat64,
        owner: 3,
        subscriber: 70_000,
        plan_generation: 9,
        state: 1,
        flags: 2,
        tick: Tick(tick),
        aux: 77,
    }
}

fn new_mapping(k: &InsideKey) -> NewMapping {
    NewMapping {
        key: MapInsideKey { src6: k.src6, port: k.src_port, protocol: k.protocol, pool: 0 },
        owner: 1,
        flags: 5,
        subscriber: 70_000,
        plan_generation: 9,
        pinned: false,
        aux: 0,
    }
}

/// Creates the flow as a NAT64 would.
fn create<'g>(
    g: &'g Guard<'_>,
    k: InsideKey,
    tick: u32,
    ports: &mut impl PortSource,
) -> Result<Created<Session<'g>>, CreateError<MappingError>> {
    g.create_session(&new_session(NewKey::Inside(k), tick), || {
        let m = g.create_mapping(&new_mapping(&k), ports)?.into_inner();
        Ok(Reserved::translated(m, k.dst4, k.dst_port, 0x1234))
    })
}

/// Counts upwards, and takes back.
#[derive(Default)]
struct Ports {
    next: u16,
    used: BTreeSet<u16>,
}

impl PortSource for Ports {
    fn reserve(&mut self) -> Option<(u32, u16)> {
        self.next += 1;
        assert!(self.used.insert(self.next));
        Some((POOL, self.next))
    }
    fn release(&mut self, out4: u32, out_port: u16) {
        assert_eq!(out4, POOL);
        assert!(self.used.remove(&out_port));
    }
}

/// Ends what was not seen for `timeout` ticks, and notes what ended.
struct Old<'a> {
    timeout: u32,
    ports: &'a mut Ports,
    sessions: u32,
}

impl Sweeper for Old<'_> {
    fn judge(&mut self, _: &Session<'_>, ctl: Ctl, now: Tick) -> Fate {
        if now.since(ctl.last_seen()) >= self.timeout { Fate::End } else { Fate::Keep }
    }
    fn session_ended(&mut self, s: &Session<'_>) {
        assert_eq!(s.ctl().lifecycle(), Lifecycle::Dying);
        self.sessions += 1;
    }
    fn mapping_ended(&mut self, m: &Mapping<'_>) {
        assert!(self.ports.used.remove(&m.out_port()), "port {} was not in use", m.out_port());
    }
}

#[test]
fn a_one_to_one_nat64_flow_takes_at_most_160_octets() {
    for workers in [1, 8] {
        let octets = Config { workers, spliced: 0, ..config(1_000_000) }.octets_per_flow();
        assert!((152.0..=160.0).contains(&octets), "{octets}");
    }
}

#[test]
fn bad_sizes_are_refused_by_name() {
    for (c, word) in [
        (Config { sessions: 0, ..config(1) }, "sessions is 0; it must be 1 to"),
        (Config { mappings: MAX_SLOTS + 1, ..config(1) }, "mappings is"),
        (Config { workers: 0, ..config(1) }, "workers is 0"),
    ] {
        let e = FlowTable::new(&c).unwrap_err().to_string();
        assert!(e.starts_with(word), "{e}");
    }
}

#[test]
fn every_field_comes_back() {
    let t = table(10);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let k = inside(5, 1000, 0xc633_640a);
    let mut ports = Ports { next: 3999, ..Ports::default() };
    let Ok(Created::Fresh(s)) = create(&g, k, 6, &mut ports) else { panic!("not created") };
    assert_eq!(s.inside_key(), Some(k));
    assert_eq!(s.outside_key(), Some(outside(4000, k.dst4)));
    assert_eq!(s.native_key(), None);
    assert_eq!((s.kind(), s.owner(), s.subscriber()), (Kind::Nat64, 3, 70_000));
    assert_eq!((s.plan_generation(), s.checksum_delta(), s.aux()), (9, 0x1234, 77));
    assert_eq!((s.src6(), s.remote4(), s.src_port(), s.dst_port()), (k.src6, k.dst4, 1000, 443));
    assert_eq!((s.out4(), s.out_port(), s.remote_port()), (POOL, 4000, 443));
    assert_eq!((s.protocol(), s.prefix()), (17, 0));
    assert!(s.spliced().is_none());
    s.set_aux(78);
    assert_eq!((s.aux(), s.checksum_delta(), s.plan_generation()), (78, 0x1234, 9));
    let c = s.ctl();
    assert_eq!((c.lifecycle(), c.state(), c.flags(), c.last_seen()), (Lifecycle::Live, 1, 2, Tick(6)));
    let m = s.mapping().unwrap();
    assert_eq!(m.inside_key(), new_mapping(&k).key);
    assert_eq!(m.outside_key(), MapOutsideKey { out4: POOL, port: 4000, protocol: 17 });
    assert_eq!((m.owner(), m.flags(), m.subscriber(), m.plan_generation()), (1, 5, 70_000, 9));
    assert_eq!((m.references(), m.is_pinned()), (1, false));
    assert_eq!(g.lookup_mapping_inside(&m.inside_key()), Lookup::Hit(m));
    assert_eq!(g.lookup_mapping_outside(&m.outside_key()), Lookup::Hit(m));
    assert_eq!(g.lookup_mapping_outside(&MapOutsideKey { port: 4001, ..m.outside_key() }), Lookup::Miss);
}

#[test]
fn every_part_of_a_key_counts() {
    let t = table(10);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let k = inside(5, 1000, 7);
    let s = create(&g, k, 0, &mut Ports::default()).unwrap().into_inner();
    assert_eq!(g.lookup(&k), Lookup::Hit(s));
    for other in [
        InsideKey { src6: k.src6 ^ 1, ..k },
        InsideKey { src6: k.src6 ^ 1 << 127, ..k },
        InsideKey { dst4: 8, ..k },
        InsideKey { src_port: 1001, ..k },
        InsideKey { dst_port: 444, ..k },
        InsideKey { protocol: 6, ..k },
        InsideKey { prefix: 1, ..k },
    ] {
        assert_eq!(g.lookup(&other), Lookup::Miss);
    }
    let o = outside(1, 7);
    assert_eq!(g.lookup(&o), Lookup::Hit(s));
    for other in [
        OutsideKey { out4: POOL + 1, ..o },
        OutsideKey { remote4: 8, ..o },
        OutsideKey { out_port: 2, ..o },
        OutsideKey { remote_port: 444, ..o },
        OutsideKey { protocol: 6, ..o },
    ] {
        assert_eq!(g.lookup(&other), Lookup::Miss);
    }
}

#[test]
fn native_flows_have_one_key_for_both_directions_and_never_meet_others() {
    let t = table(10);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let k = NativeKey { src6: 5, dst6: 6 << 64 | 7, src_port: 1000, dst_port: 443, protocol: 6 };
    let new = NewSession { kind: Kind::Native6, ..new_session(NewKey::Native(k), 0) };
    let Ok(Created::Fresh(s)) = g.create_single(&new) else { panic!("not created") };
    assert_eq!(g.create_single(&new), Ok(Created::Existing(s)));
    assert_eq!(
        (s.kind(), s.native_key(), s.inside_key(), s.outside_key()),
        (Kind::Native6, Some(k), None, None)
    );
    assert_eq!((s.dst6(), s.mapping(), s.spliced().is_some()), (k.dst6, None, false));
    let mut out = [Lookup::Miss; 3];
    let swapped = NativeKey { src6: k.dst6, dst6: k.src6, src_port: 443, dst_port: 1000, ..k };
    g.lookup_native(&[swapped, k, NativeKey { dst6: 6 << 64 | 8, ..k }], &mut out);
    assert_eq!(out, [Lookup::Miss, Lookup::Hit(s), Lookup::Miss]);
    assert_eq!(
        g.lookup(&InsideKey { src6: 5, dst4: 0, src_port: 1000, dst_port: 443, protocol: 6, prefix: 0 }),
        Lookup::Miss
    );
    let mut ports = Ports::default();
    assert!(g.end(&s, &mut Old { timeout: 0, ports: &mut ports, sessions: 0 }));
    assert_eq!(t.used_index_words(), (0, 0));
}

#[test]
fn local_flows_have_one_key_towards_an_own_address() {
    let t = table(10);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let six = InsideKey { prefix: OWN_ADDRESS + 2, dst4: 0, ..inside(5, 53, 0) };
    let new = NewSession { kind: Kind::Local, ..new_session(NewKey::Inside(six), 0) };
    let a = g.create_single(&new).unwrap().into_inner();
    assert_eq!((a.kind(), a.owner(), a.inside_key(), a.outside_key()), (Kind::Local, 3, Some(six), None));
    let four = outside(443, 0xc633_6463);
    let new = NewSession { kind: Kind::Local, ..new_session(NewKey::Outside(four), 0) };
    let b = g.create_single(&new).unwrap().into_inner();
    assert_eq!((b.kind(), b.inside_key(), b.outside_key()), (Kind::Local, None, Some(four)));
    assert_eq!((g.lookup(&six), g.lookup(&four)), (Lookup::Hit(a), Lookup::Hit(b)));
    assert_eq!(g.create_single(&new), Ok(Created::Existing(b)));
    let mut ports = Ports::default();
    let mut old = Old { timeout: 0, ports: &mut ports, sessions: 0 };
    assert!(g.end(&a, &mut old) && g.end(&b, &mut old));
    assert_eq!(t.used_index_words(), (0, 0));
}

#[test]
fn a_spliced_flow_towards_an_own_address_keeps_the_client_and_gets_a_line() {
    let t = table(10);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let server = InsideKey { prefix: OWN_ADDRESS, dst4: 0, protocol: 6, ..inside(1, 443, 0) };
    let client = OutsideKey { protocol: 6, remote_port: 5555, ..outside(443, 0xc633_6463) };
    let line = g.take_spliced().unwrap();
    line.server_seq_delta.store(99, std::sync::atomic::Ordering::Relaxed);
    let new = NewSession { kind: Kind::Spliced, ..new_session(NewKey::Inside(server), 0) };
    let s = g
        .create_session(&new, || {
            Ok::<_, ()>(Reserved { outside: Some(client), spliced: Some(line), ..Reserved::nothing() })
        })
        .unwrap()
        .into_inner();
    assert_eq!((s.inside_key(), s.outside_key()), (Some(server), Some(client)));
    assert_eq!((g.lookup(&server), g.lookup(&client)), (Lookup::Hit(s), Lookup::Hit(s)));
    assert_eq!(s.spliced().unwrap().server_seq_delta.load(std::sync::atomic::Ordering::Relaxed), 99);
    // The line comes back with the session, and clean.
    let mut ports = Ports::default();
    assert!(g.end(&s, &mut Old { timeout: 0, ports: &mut ports, sessions: 0 }));
    drop(g);
    let total = t.spliced.lines().len();
    for round in 0..3 {
        for _ in 0..4 {
            drop(w.enter());
        }
        let g = w.enter();
        let lines: Vec<_> = std::iter::from_fn(|| g.take_spliced()).collect();
        assert_eq!(lines.len(), total, "round {round}");
        assert!(lines.iter().all(|l| l.server_seq_delta.load(std::sync::atomic::Ordering::Relaxed) == 0));
    }
}

#[test]
fn a_flow_that_is_being_built_is_neither_there_nor_absent() {
    let t = table(10);
    let (mut w, mut other) = (t.worker(0).unwrap(), t.worker(1).unwrap());
    let g = w.enter();
    let g2 = other.enter();
    let k = inside(5, 1000, 7);
    let mut ports = Ports::default();
    let made = g.create_session(&new_session(NewKey::Inside(k), 0), || {
        assert_eq!(g2.lookup(&k), Lookup::Building);
        let mut bulk = [Lookup::Miss];
        g2.lookup_inside(&[k], &mut bulk);
        assert_eq!(bulk, [Lookup::Building]);
        assert_eq!(create(&g2, k, 0, &mut Ports::default()), Err(CreateError::Building));
        let m = g.create_mapping(&new_mapping(&k), &mut ports)?.into_inner();
        assert_eq!(g2.lookup(&outside(1, 7)), Lookup::Miss);
        Ok::<_, MappingError>(Reserved::translated(m, k.dst4, k.dst_port, 0))
    });
    let s = made.unwrap().into_inner();
    assert_eq!(create(&g2, k, 0, &mut Ports::default()), Ok(Created::Existing(s)));
    assert_eq!(g2.lookup(&outside(1, 7)), Lookup::Hit(s));
    assert_eq!(t.stats().races_lost, 2);
}

#[test]
fn a_failed_creation_leaves_nothing_behind() {
    let t = table(10);
    let mut w = t.worker(0).unwrap();
    let mut ports = Ports::default();
    let k = inside(5, 1000, 7);
    for _ in 0..1000 {
        let g = w.enter();
        // Nothing reserved.
        let e = g.create_session(&new_session(NewKey::Inside(k), 0), || Err("no port"));
        assert_eq!(e, Err(CreateError::Reserve("no port")));
        // A mapping was made, and then the caller gave up: the sweep ends it.
        let e = g.create_session(&new_session(NewKey::Inside(k), 0), || {
            let _reference = g.create_mapping(&new_mapping(&k), &mut ports).unwrap();
            Err("gave up")
        });
        assert_eq!(e, Err(CreateError::Reserve("gave up")));
        let mut old = Old { timeout: 9, ports: &mut ports, sessions: 0 };
        assert_eq!(g.sweep(u32::MAX, Tick(0), &mut old), Swept { sessions: 0, mappings: 1 });
        assert!(ports.used.is_empty());
        // The outside key contradicts the inside key.
        let e = g.create_session(&new_session(NewKey::Inside(k), 0), || {
            Ok::<_, ()>(Reserved { outside: Some(outside(9, 8)), ..Reserved::nothing() })
        });
        assert_eq!(e, Err(CreateError::Conflict));
        assert_eq!(t.used_index_words(), (0, 0));
    }
}

#[test]
fn a_panic_in_reserve_leaves_nothing_behind() {
    let t = table(10);
    let mut w = t.worker(0).unwrap();
    let k = inside(5, 1000, 7);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let g = w.enter();
        let _ = g.create_session(&new_session(NewKey::Inside(k), 0), || -> Result<Reserved<'_>, ()> {
            panic!("a bug of the caller's")
        });
    }));
    assert!(panicked.is_err());
    let g = w.enter();
    assert_eq!(g.lookup(&k), Lookup::Miss);
    assert_eq!(t.used_index_words(), (0, 0));
    assert!(create(&g, k, 0, &mut Ports::default()).is_ok());
}

#[test]
fn an_outside_key_is_taken_once() {
    let t = table(10);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let mut ports = Ports::default();
    let k = inside(5, 1000, 7);
    let s = create(&g, k, 0, &mut ports).unwrap().into_inner();
    // Another prefix, the same mapping and destination: the replies could not be told apart.
    let twin = InsideKey { prefix: 1, ..k };
    assert_eq!(create(&g, twin, 0, &mut ports), Err(CreateError::Conflict));
    assert_eq!((g.lookup(&twin), g.lookup(&outside(1, 7))), (Lookup::Miss, Lookup::Hit(s)));
    assert_eq!(s.mapping().map(|m| m.references()), Some(1));
    // A port of a mapping that the source does not know of is passed over.
    let other = inside(6, 1000, 7);
    let mut again = Ports::default();
    let s2 = create(&g, other, 0, &mut again).unwrap().into_inner();
    assert_eq!(s2.out_port(), 2);
    let fixed = g.create_mapping(&new_mapping(&inside(7, 1, 0)), &mut FixedPort::new(POOL, 1));
    assert_eq!(fixed.unwrap_err(), MappingError::Conflict);
}

#[test]
fn rfc6146_3_1_a_mapping_lives_as_long_as_its_sessions() {
    let t = table(10);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let mut ports = Ports::default();
    let (a, b) = (inside(5, 1000, 7), inside(5, 1000, 8));
    let sa = create(&g, a, 0, &mut ports).unwrap().into_inner();
    let sb = create(&g, b, 0, &mut ports).unwrap().into_inner();
    assert_eq!(sa.out_port(), sb.out_port(), "RFC 6146 3.5.1.1: one mapping for one source");
    let m = sa.mapping().unwrap();
    assert_eq!(m.references(), 2);
    let mut old = Old { timeout: 0, ports: &mut ports, sessions: 0 };
    assert!(g.end(&sa, &mut old));
    assert!(!g.end(&sa, &mut old), "it ends once");
    assert!(m.is_live());
    let held = m.acquire().unwrap();
    assert!(g.end(&sb, &mut old));
    assert!(m.is_live(), "a reference is held");
    g.release_mapping(held, &mut old);
    assert!(!m.is_live() && m.acquire().is_none());
    assert_eq!(old.sessions, 2);
    assert!(ports.used.is_empty());
    assert_eq!(t.used_index_words(), (0, 0));
}

#[test]
fn a_static_mapping_stays_until_it_is_unpinned() {
    let t = table(10);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let mut ports = Ports::default();
    let k = inside(5, 80, 7);
    let new = NewMapping { pinned: true, ..new_mapping(&k) };
    drop(g.create_mapping(&new, &mut ports).unwrap());
    let m = g.lookup_mapping_inside(&new.key).hit().unwrap();
    assert_eq!((m.references(), m.is_pinned()), (1, true));
    let s = create(&g, k, 0, &mut ports).unwrap().into_inner();
    let mut old = Old { timeout: 0, ports: &mut ports, sessions: 0 };
    assert!(g.end(&s, &mut old));
    assert_eq!(g.sweep(u32::MAX, Tick(9), &mut old), Swept::default());
    assert!(m.is_live());
    assert!(g.unpin(&m, &mut old));
    assert!(!g.unpin(&m, &mut old));
    assert!(!m.is_live() && ports.used.is_empty());
}

#[test]
fn a_refresh_is_never_lost() {
    let t = table(10);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let mut ports = Ports::default();
    let s = create(&g, inside(5, 1000, 7), 10, &mut ports).unwrap().into_inner();
    let judged = s.ctl();
    assert!(s.touch(Tick(11)));
    let mut old = Old { timeout: 0, ports: &mut ports, sessions: 0 };
    assert!(!g.end_judged(&s, judged, &mut old), "it was refreshed after it was judged");
    assert!(s.touch(Tick(9)), "a clock that is behind takes nothing back");
    assert_eq!(s.ctl().last_seen(), Tick(11));
    let c = s.transition(|c| Some(c.with_state(4).with_flags(1).with_last_seen(Tick(12)))).unwrap();
    assert_eq!((c.state(), c.flags(), c.last_seen(), s.ctl()), (4, 1, Tick(12), c));
    assert_eq!(s.transition(|_| None), Some(c));
    assert_eq!(s.transition(|_| Some(Ctl(0))).map(Ctl::lifecycle), Some(Lifecycle::Live));
    assert!(g.end(&s, &mut old));
    assert!(!s.touch(Tick(13)) && s.transition(Some).is_none());
}

#[test]
fn the_sweep_ends_what_is_due_and_goes_round() {
    let t = table(100);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let mut ports = Ports::default();
    for i in 0..100u16 {
        create(&g, inside(u32::from(i), 1, 7), u32::from(i), &mut ports).unwrap();
    }
    let mut old = Old { timeout: 50, ports: &mut ports, sessions: 0 };
    let slots = u32::try_from(t.sessions.lines().len()).unwrap();
    let mut ended = 0;
    for _ in 0..slots.div_ceil(7) {
        ended += g.sweep(7, Tick(99), &mut old).sessions;
    }
    assert_eq!((ended, old.sessions), (50, 50));
    assert_eq!(ports.used.len(), 50);
    for i in 0..100u16 {
        assert_eq!(g.lookup(&inside(u32::from(i), 1, 7)).hit().is_some(), i > 49, "{i}");
    }
    let s = t.stats();
    assert_eq!((s.sessions, s.mappings, s.sessions_created, s.sessions_ended), (50, 50, 100, 50));
}

#[test]
fn full_is_an_error_and_slots_come_back_when_readers_have_left() {
    let t = table(64);
    let total = u32::try_from(t.sessions.lines().len()).unwrap();
    let mut w = t.worker(0).unwrap();
    let mut reader = t.reader().unwrap();
    assert!(t.reader().is_none(), "there is only one");
    let mut ports = Ports::default();
    let g = w.enter();
    let mut n = 0;
    while create(&g, inside(n, 1, 7), 0, &mut ports).is_ok() {
        n += 1;
    }
    assert!((64..=total).contains(&n), "{n}");
    assert_eq!(create(&g, inside(n, 1, 7), 0, &mut ports), Err(CreateError::SessionsFull));
    assert_eq!((t.stats().no_slot, t.stats().starved), (2, 0));
    let first = g.lookup(&inside(0, 1, 7)).hit().unwrap();
    let slot = first.slot();
    let inside_reader = reader.enter();
    assert!(g.end(&first, &mut Old { timeout: 0, ports: &mut ports, sessions: 0 }));
    drop(g);
    for _ in 0..10 {
        let g = w.enter();
        assert_eq!(create(&g, inside(n, 1, 7), 0, &mut ports), Err(CreateError::SessionsFull));
    }
    assert_eq!(t.stats().starved, 10);
    drop(inside_reader);
    for _ in 0..3 {
        drop(w.enter());
    }
    let g = w.enter();
    let s = create(&g, inside(n, 1, 7), 0, &mut ports).unwrap().into_inner();
    assert_eq!((s.slot(), s.ctl().generation()), (slot, 1));
    assert_eq!(g.lookup(&inside(0, 1, 7)), Lookup::Miss);
}

#[test]
fn ending_is_put_off_and_counted_while_too_many_wait() {
    let t = table(6000);
    let mut w = t.worker(0).unwrap();
    let mut reader = t.reader().unwrap();
    let stalled = reader.enter();
    let mut ports = Ports::default();
    let mut all = Old { timeout: 0, ports: &mut ports, sessions: 0 };
    let g = w.enter();
    for i in 0..6000u32 {
        let k = NativeKey { src6: u128::from(i), dst6: 1, src_port: 2, dst_port: 3, protocol: 17 };
        g.create_single(&new_session(NewKey::Native(k), 0)).unwrap();
    }
    let ended = g.sweep(u32::MAX, Tick(1), &mut all).sessions;
    assert!((1000..1024).contains(&ended), "{ended}");
    assert_eq!(t.stats().end_refused, u64::from(6000 - ended));
    drop(g);
    drop(stalled);
    let mut rest = 0;
    for _ in 0..200 {
        rest += w.enter().sweep(u32::MAX, Tick(1), &mut all).sessions;
    }
    assert_eq!(ended + rest, 6000);
    assert_eq!(t.used_index_words(), (0, 0));
}

#[test]
fn a_handle_is_had_once_and_may_be_had_again() {
    let t = table(64);
    let w = t.worker(1).unwrap();
    assert_eq!((w.id(), t.worker(1).is_none(), t.worker(2).is_none()), (1, true, true));
    drop(w);
    assert!(t.worker(1).is_some());
    let r = t.reader().unwrap();
    drop(r);
    assert!(t.reader().is_some());
}

#[test]
fn listings_in_slices_see_every_live_entry_once() {
    let t = table(300);
    let mut w = t.worker(0).unwrap();
    let mut ports = Ports::default();
    let g = w.enter();
    for i in 0..250 {
        create(&g, inside(i, 1, 7), 0, &mut ports).unwrap();
    }
    let mut reader = t.reader().unwrap();
    let (mut hosts, mut mapped) = (BTreeSet::new(), BTreeSet::new());
    let mut at = Some(0);
    while let Some(from) = at {
        at = reader.enter().sessions(from, 33, |s| assert!(hosts.insert(s.src6())));
    }
    let mut at = Some(0);
    while let Some(from) = at {
        at = reader.enter().mappings(from, 33, |m| assert!(mapped.insert(m.src6())));
    }
    assert_eq!((hosts.len(), mapped.len()), (250, 250));
    assert_eq!(reader.enter().sessions(u32::MAX, 1, |_| {}), None);
}

#[test]
fn bulk_lookups_of_any_length_agree_with_single_ones() {
    let t = table(5000);
    let mut w = t.worker(0).unwrap();
    let mut ports = Ports::default();
    let g = w.enter();
    for i in 0..4000 {
        create(&g, inside(i, 1, 7), 0, &mut ports).unwrap();
    }
    for len in [0usize, 1, 2, 31, 32, 33, 64, 100] {
        for start in (0..4500u32).step_by(97) {
            let keys: Vec<_> =
                (start..).take(len).map(|i| inside(i.wrapping_mul(7919) % 4500, 1, 7)).collect();
            let mut out = vec![Lookup::Building; len];
            g.lookup_inside(&keys, &mut out);
            for (k, o) in keys.iter().zip(&out) {
                assert_eq!(*o, g.lookup(k));
                assert_eq!(
                    o.hit().and_then(|s| s.inside_key()),
                    (k.src6 as u32 & 0xffff < 4000).then_some(*k)
                );
            }
        }
    }
}

#[test]
fn at_least_95_percent_of_a_million_flows_with_both_keys_can_be_inserted() {
    const N: u32 = 1_000_000;
    let t = FlowTable::new(&Config { workers: 1, ..config(N) }).unwrap();
    let mut w = t.worker(0).unwrap();
    let mut first_failure = None;
    let mut failed = 0;
    struct Many(u32);
    impl PortSource for Many {
        fn reserve(&mut self) -> Option<(u32, u16)> {
            self.0 += 1;
            Some((POOL + (self.0 >> 16), self.0 as u16))
        }
        fn release(&mut self, _: u32, _: u16) {}
    }
    let mut ports = Many(0);
    for i in 0..N {
        let g = w.enter();
        match create(&g, inside(i / 50, (i % 50) as u16, 7 + i), 0, &mut ports) {
            Ok(Created::Fresh(_)) => {}
            other => {
                assert!(other.is_err());
                failed += 1;
                first_failure.get_or_insert(i);
            }
        }
    }
    println!("of {N} flows {failed} failed, the first at {first_failure:?}");
    assert!(first_failure.is_none_or(|i| i >= N / 100 * 95));
    assert!(failed < 10, "{failed}");
}

#[derive(Debug, Clone)]
enum Op {
    Create { host: u32, port: u16, dst: u32 },
    Native { host: u32 },
    End { host: u32, port: u16, dst: u32 },
    Touch { host: u32, port: u16, dst: u32 },
    Tick,
    Sweep(u32),
    Leave,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let flow = || (0u32..4, 0u16..3, 0u32..3);
    proptest::collection::vec(
        prop_oneof![
            6 => flow().prop_map(|(host, port, dst)| Op::Create { host, port, dst }),
            2 => (0u32..6).prop_map(|host| Op::Native { host }),
            2 => flow().prop_map(|(host, port, dst)| Op::End { host, port, dst }),
            3 => flow().prop_map(|(host, port, dst)| Op::Touch { host, port, dst }),
            2 => Just(Op::Tick),
            3 => (1u32..700).prop_map(Op::Sweep),
            2 => Just(Op::Leave),
        ],
        1..250,
    )
}

proptest! {
    #[test]
    fn agrees_with_a_hash_map(ops in ops(), seed: [u64; 4]) {
        const TIMEOUT: u32 = 3;
        let t = FlowTable::new(&Config { seed, sessions: 20, mappings: 20, ..config(20) }).unwrap();
        let mut w = t.worker(0).unwrap();
        let mut ports = Ports::default();
        // Flow: out port and when it was last seen.
        let mut flows: HashMap<InsideKey, (u16, u32)> = HashMap::new();
        let mut natives: HashMap<NativeKey, u32> = HashMap::new();
        let mut now = 0;
        let native = |host: u32| NativeKey { src6: u128::from(host), dst6: 9, src_port: 1, dst_port: 2, protocol: 6 };
        for op in ops {
            let g = w.enter();
            match op {
                Op::Create { host, port, dst } => {
                    let k = inside(host, port, dst);
                    let shared = flows.iter().find(|(o, _)| (o.src6, o.src_port) == (k.src6, k.src_port)).map(|(_, v)| v.0);
                    match create(&g, k, now, &mut ports) {
                        Ok(Created::Fresh(s)) => {
                            if let Some(p) = shared {
                                prop_assert_eq!(s.out_port(), p);
                            }
                            prop_assert!(flows.insert(k, (s.out_port(), now)).is_none());
                        }
                        Ok(Created::Existing(s)) => prop_assert_eq!(s.out_port(), flows[&k].0),
                        Err(e) => prop_assert!(false, "{e:?}"),
                    }
                }
                Op::Native { host } => {
                    let made = g.create_single(&new_session(NewKey::Native(native(host)), now)).unwrap();
                    prop_assert_eq!(matches!(made, Created::Fresh(_)), !natives.contains_key(&native(host)));
                    natives.entry(native(host)).or_insert(now);
                }
                Op::End { host, port, dst } => {
                    let k = inside(host, port, dst);
                    let known = flows.remove(&k);
                    let s = g.lookup(&k).hit();
                    prop_assert_eq!(s.is_some(), known.is_some());
                    if let Some(s) = s {
                        let mut end = Old { timeout: 0, ports: &mut ports, sessions: 0 };
                        prop_assert!(g.end(&s, &mut end));
                    }
                }
                Op::Touch { host, port, dst } => {
                    let k = inside(host, port, dst);
                    if let Some((out_port, seen)) = flows.get_mut(&k) {
                        let s = g.lookup(&outside(*out_port, dst)).hit().unwrap();
                        prop_assert!(s.touch(Tick(now)));
                        *seen = now;
                    } else {
                        prop_assert_eq!(g.lookup(&k), Lookup::Miss);
                    }
                }
                Op::Tick => now += 1,
                Op::Sweep(slots) => {
                    let mut sweeper = Old { timeout: TIMEOUT, ports: &mut ports, sessions: 0 };
                    // At least one round, so that the oracle knows what is left.
                    let total = u32::try_from(t.sessions.lines().len()).unwrap();
                    for _ in 0..total.div_ceil(slots) {
                        g.sweep(slots, Tick(now), &mut sweeper);
                    }
                    flows.retain(|_, (_, seen)| now - *seen < TIMEOUT);
                    natives.retain(|_, seen| now - *seen < TIMEOUT);
                }
                Op::Leave => {}
            }
            for (k, (out_port, _)) in &flows {
                let s = g.lookup(k).hit();
                prop_assert!(s.is_some());
                prop_assert_eq!(g.lookup(&outside(*out_port, k.dst4)).hit(), s);
                prop_assert!(ports.used.contains(out_port));
            }
            for k in natives.keys() {
                prop_assert!(g.lookup(k).hit().is_some());
            }
            let mapped: BTreeSet<_> = flows.keys().map(|k| (k.src6, k.src_port)).collect();
            prop_assert_eq!(ports.used.len(), mapped.len());
            let s = t.stats();
            prop_assert_eq!((s.sessions as usize, s.mappings as usize), (flows.len() + natives.len(), mapped.len()));
            prop_assert_eq!(t.used_index_words(), (flows.len() as u64 * 2 + natives.len() as u64, mapped.len() as u64 * 2));
        }
    }
}

/// A connection from client port `n`, accepted at the proxy's address.
fn accept<'g>(g: &'g Guard<'_>, n: u16) -> Session<'g> {
    let key = OutsideKey { out4: POOL, remote4: 7, out_port: 443, remote_port: n, protocol: 6 };
    let new = NewSession { kind: Kind::Spliced, ..new_session(NewKey::Outside(key), 5) };
    g.create_single(&new).unwrap().into_inner()
}

/// The way to the server, from own port `port`.
const fn way_in(port: u16) -> InsideKey {
    InsideKey {
        src6: 0x2001_0db8 << 96 | 5,
        dst4: 0,
        src_port: 8443,
        dst_port: port,
        protocol: 6,
        prefix: OWN_ADDRESS + 3,
    }
}

#[test]
fn a_session_from_outside_gets_its_inside_key_later() {
    let t = table(8);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let s = accept(&g, 1000);
    assert_eq!((s.inside_key(), s.spliced().is_none()), (None, true));
    let line = g.take_spliced().unwrap();
    line.server_seq_delta.store(99, crate::sync::Ordering::Relaxed);
    g.add_inside(&s, way_in(40_000), line, 0xbeef).unwrap();
    assert_eq!(g.lookup(&way_in(40_000)), Lookup::Hit(s));
    assert_eq!(g.lookup(&s.outside_key().unwrap()), Lookup::Hit(s));
    assert_eq!(s.inside_key(), Some(way_in(40_000)));
    assert_eq!((s.checksum_delta(), s.aux(), s.owner(), s.subscriber()), (0xbeef, 77, 3, 70_000));
    assert_eq!(s.spliced().unwrap().server_seq_delta.load(crate::sync::Ordering::Relaxed), 99);
    // Not twice.
    let again = g.add_inside(&s, way_in(40_001), g.take_spliced().unwrap(), 0);
    assert!(matches!(again, Err(AddError::Unfit(_))));
    drop(again);
    assert_eq!(s.inside_key(), Some(way_in(40_000)));
    assert_eq!(t.used_index_words(), (2, 0));
}

#[test]
fn a_key_that_is_taken_is_refused_and_the_line_serves_for_another_port() {
    let t = table(8);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let (a, b) = (accept(&g, 1000), accept(&g, 1001));
    g.add_inside(&a, way_in(40_000), g.take_spliced().unwrap(), 1).unwrap();
    let refused = g.add_inside(&b, way_in(40_000), g.take_spliced().unwrap(), 2).unwrap_err();
    assert!(matches!(refused, AddError::Taken(_)));
    assert_eq!((b.inside_key(), b.spliced().is_none(), b.is_live()), (None, true, true));
    g.add_inside(&b, way_in(40_001), refused.into_line(), 3).unwrap();
    assert_eq!(g.lookup(&way_in(40_000)), Lookup::Hit(a));
    assert_eq!(g.lookup(&way_in(40_001)), Lookup::Hit(b));
    assert_eq!((b.checksum_delta(), t.stats().races_lost), (3, 1));
}

#[test]
fn a_key_for_another_client_or_protocol_is_refused() {
    let t = table(8);
    let mut w = t.worker(0).unwrap();
    let g = w.enter();
    let s = accept(&g, 1000);
    let embedded = InsideKey { prefix: 0x40, dst4: 7, ..way_in(1000) };
    for key in [InsideKey { dst4: 8, ..embedded }, InsideKey { protocol: 17, ..way_in(1) }] {
        assert!(matches!(g.add_inside(&s, key, g.take_spliced().unwrap(), 0), Err(AddError::Unfit(_))));
    }
    g.add_inside(&s, embedded, g.take_spliced().unwrap(), 0).unwrap();
    assert_eq!(g.lookup(&embedded), Lookup::Hit(s));
}

#[test]
fn lines_of_sessions_that_got_them_later_come_back_with_their_ends() {
    let t = table(8);
    let mut w = t.worker(0).unwrap();
    // Many more than there are lines.
    for round in 0..2000u16 {
        let g = w.enter();
        let s = accept(&g, round);
        let line = g.take_spliced().unwrap();
        if round % 3 == 0 {
            assert!(g.end(&s, &mut Nobody));
            assert!(matches!(g.add_inside(&s, way_in(round), line, 0), Err(AddError::Ended(_))));
        } else {
            g.add_inside(&s, way_in(round), line, 0).unwrap();
            assert!(g.end(&s, &mut Nobody));
        }
        assert_eq!(g.lookup(&way_in(round)), Lookup::Miss);
    }
    assert_eq!((t.used_index_words(), t.stats().sessions), ((0, 0), 0));
}

struct Nobody;

impl Sweeper for Nobody {
    fn judge(&mut self, _: &Session<'_>, _: Ctl, _: Tick) -> Fate {
        Fate::Keep
    }
    fn session_ended(&mut self, _: &Session<'_>) {}
    fn mapping_ended(&mut self, _: &Mapping<'_>) {}
}
