use super::*;
use crate::config::{Allocation, Config, Options, Subscribers, Tenant};
use crate::pool4::index;
use causeway_core::Duration;
use causeway_wire::l4::{PROTO_TCP, PROTO_UDP};
use proptest::prelude::*;

const NOTHING: LogOptions =
    LogOptions { blocks: false, mappings: false, sessions: false, destinations: false };

fn note(s: u64) -> Note<'static> {
    Note { log: None, options: &NOTHING, now: Instant::from_micros(s * 1_000_000) }
}

fn host(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, u16::from(n), 0, 0, 0, 1)
}

fn options(min: u16, max: Option<u16>, blocks: bool, hold: u64) -> Options {
    let limits = Limits { ports_min: min, ports_max: max, ..Limits::default() };
    Options {
        prefixes: vec!["2001:db8:64:ff9b::/96".parse().unwrap()],
        pool: vec!["203.0.113.0/31".parse().unwrap()],
        first_port: 1024,
        last_port: 1024 + 63,
        hold_down: Duration::from_secs(hold),
        subscribers: Subscribers {
            limits,
            tenants: vec![Tenant {
                name: "acme".into(),
                prefixes: vec!["2001:db8:0:9::/64".parse().unwrap()],
                limits: Limits { ports_min: 12, ..Limits::default() },
                pool: Vec::new(),
            }],
            capacity: 16,
            ..Subscribers::default()
        },
        allocation: if blocks { Allocation::Blocks { ports: 8 } } else { Allocation::Single },
        ..Options::default()
    }
}

/// A mapping as the tests know it.
type Held = (Admitted, (Ipv4Addr, u16), u8);

fn open(p: &Pool4, n: u8, protocol: u8, random: u64, at: u64) -> Result<Held, DropReason> {
    let a = p.admit(host(n), note(at).now)?.expect("everybody is accounted");
    match p.give(Some(&a), host(n), 4000, protocol, random, &note(at)) {
        Ok(got) => Ok((a, got, protocol)),
        Err(e) => {
            p.cancel_session(a.number(), true);
            p.dismiss(&a);
            Err(e)
        }
    }
}

fn close(p: &Pool4, (a, got, protocol): Held, at: u64) {
    p.end_session(a.number());
    p.take_back(a.id, got, protocol, After::Rest, &note(at));
    p.dismiss(&a);
}

/// What is in use and owed never exceeds what there is.
fn check(p: &Pool4) {
    let kinds = if p.by_blocks() { BLOCKS..BLOCKS + 1 } else { 0..BLOCKS };
    for place in &p.places {
        for kind in kinds.clone() {
            let owed = place.shared.owed[kind].load(Ordering::SeqCst);
            let taken = Pool4::in_use(place, kind) + owed;
            assert!(taken <= p.all(kind), "{taken} of {} at kind {kind}", p.all(kind));
        }
    }
}

/// Nothing is in use, and only the tenant is owed anything.
fn check_empty(p: &Pool4) {
    let owed: Vec<u32> =
        (0..4).map(|k| p.places.iter().map(|a| a.shared.owed[k].load(Ordering::SeqCst)).sum()).collect();
    assert_eq!(owed, if p.by_blocks() { vec![0, 0, 0, 2] } else { vec![12, 12, 12, 0] });
    for a in &p.places {
        assert_eq!(a.shared.promised.load(Ordering::SeqCst), 0);
        // Whatever rests is free after that.
        for ports in &a.shared.ports {
            ports.rotate();
            ports.rotate();
            assert_eq!(ports.in_use(), 0);
        }
        for b in &a.blocks {
            b.given.rotate();
            b.given.rotate();
            assert_eq!(b.given.in_use(), 0);
        }
    }
    let book = p.book.as_ref().unwrap();
    assert_eq!((book.known(), book.each(|_, e, _| assert_eq!(e.sessions(), 0)).count()), (0, 1));
}

proptest! {
    #[test]
    fn rfc6888_3_req_4_promises_are_kept_whatever_happens(
        min in 1u16..=8,
        max in prop::option::of(8u16..=40),
        blocks in any::<bool>(),
        hold in prop::sample::select(vec![0u64, 20]),
        changes in prop::collection::vec((0u8..=9, any::<bool>(), any::<u64>(), 0u64..8), 1..400),
        reload in prop::option::of((1u16..=8, any::<bool>())),
    ) {
        let config = Config::new(options(min, max, blocks, hold)).unwrap();
        let mut p = Pool4::new(&config);
        let mut held: Vec<Held> = Vec::new();
        let (mut now, middle, mut min) = (0, changes.len() / 2, min);
        for (n, (who, more, random, later)) in changes.into_iter().enumerate() {
            now += later / 4;
            p.tick(note(now).now);
            let protocol = if random & 1 == 0 { PROTO_UDP } else { PROTO_TCP };
            if more {
                let u = p.subscribers().find(|u| u.prefix.contains(host(who)));
                let kind = index(protocol).unwrap();
                let promised = u.as_ref().map_or(0, |u| u.promised).min(u32::from(min));
                let has = u.map_or(0, |u| u.ports[kind]);
                match open(&p, who, protocol, random, now) {
                    Ok(h) => held.push(h),
                    Err(e) => prop_assert!(has >= promised, "{who} has {has} of {promised}: {e:?}"),
                }
            } else if !held.is_empty() {
                let at = usize::try_from(random % held.len() as u64).unwrap();
                close(&p, held.swap_remove(at), now);
            }
            check(&p);
            if n == middle && let Some((other, same)) = reload {
                // Promises in another unit are made at the next mapping, as far as there is room.
                min = if same { min.min(other) } else { 0 };
                let o = options(other, max, blocks == same, hold);
                p = p.successor(&config.successor(o).unwrap());
            }
        }
        if reload.is_none() {
            for h in held.drain(..) {
                close(&p, h, now);
                check(&p);
            }
            check_empty(&p);
        } else {
            for h in held.drain(..) {
                close(&p, h, now);
            }
            let book = p.book.as_ref().unwrap();
            prop_assert_eq!((book.known(), p.subscribers().count()), (0, 1));
        }
    }
}

#[test]
fn two_threads_leave_nothing_owed() {
    for blocks in [false, true] {
        let config = Config::new(options(6, Some(30), blocks, 0)).unwrap();
        let p = Pool4::new(&config);
        std::thread::scope(|scope| {
            for t in 0..2u64 {
                let p = &p;
                scope.spawn(move || {
                    let mut held: Vec<Held> = Vec::new();
                    let mut x = t + 1;
                    for n in 0..60_000u64 {
                        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        if x >> 62 != 0 {
                            let protocol = if x >> 61 & 1 == 0 { PROTO_UDP } else { PROTO_TCP };
                            let who = u8::try_from((x >> 50) % 10).unwrap();
                            held.extend(open(p, who, protocol, x.rotate_left(20), n / 1000));
                        } else {
                            for _ in 0..3.min(held.len()) {
                                let at = usize::try_from(x >> 40).unwrap() % held.len();
                                close(p, held.swap_remove(at), n / 1000);
                            }
                        }
                        if n % 64 == 0 {
                            p.subscribers().for_each(drop);
                        }
                    }
                    held.into_iter().for_each(|h| close(p, h, 100));
                });
            }
        });
        check(&p);
        check_empty(&p);
    }
}

#[test]
fn rfc6888_3_req_8_ports_rest_on_when_the_hold_down_becomes_longer() {
    let p = Pool4::new(&Config::new(options(0, Some(4), false, 1)).unwrap());
    let day = 1_000_000;
    let kept = open(&p, 1, PROTO_TCP, 7, day).unwrap();
    let rest = |p: &Pool4, at: u64| {
        let before: u32 = p.usage().map(|u| u.in_use).sum();
        let held = open(p, 1, PROTO_TCP, at, at).unwrap();
        close(p, held, at);
        p.usage().map(|u| u.in_use).sum::<u32>() - before
    };
    let rested: Vec<u32> = (0..5).map(|_| rest(&p, day)).collect();
    assert_eq!(rested, [1, 1, 1, 1, 0], "as many as it may have");
    let longer = p.successor(&Config::new(options(0, Some(4), false, 120)).unwrap());
    assert_eq!(rest(&longer, day + 1), 0);
    assert_eq!(rest(&longer, day + 1000), 1, "those of before rest no longer");
    close(&longer, kept, day + 1000);
}

#[test]
fn rfc6888_5_req_14_a_block_is_logged_with_the_tenants_present_prefix() {
    let log = Log::new(100);
    let logged = LogOptions { blocks: true, ..NOTHING };
    let note = |at: u64| Note { log: Some(&log), options: &logged, now: note(at).now };
    let first_of = |p: &Pool4, n: u8, ports: u32| {
        for r in 0..ports {
            let a = p.admit(host(n), note(1).now).unwrap().unwrap();
            let _ = p.give(Some(&a), host(n), 4000, PROTO_TCP, u64::from(r), &note(1)).unwrap();
        }
        let record = log.take().unwrap();
        assert_eq!(record.event, LogEvent::BlockGiven);
        Ipv6Addr::from_bits(record.src6).to_string()
    };
    let mut o = options(0, None, true, 0);
    let p = Pool4::new(&Config::new(o.clone()).unwrap());
    assert_eq!(first_of(&p, 9, 8), "2001:db8:0:9::");
    assert!(log.take().is_none());
    // The tenant moves, and somebody else gets its prefix.
    o.subscribers.tenants[0].prefixes = vec!["2001:db8:0:a::/64".parse().unwrap()];
    let next = p.successor(&Config::new(o).unwrap());
    assert_eq!(first_of(&next, 10, 1), "2001:db8:0:a::");
}

#[test]
fn rfc6888_3_req_4_blocks_that_static_mappings_are_in_are_not_promised() {
    let mut o = options(0, None, true, 0);
    o.pool = vec!["203.0.113.0/32".parse().unwrap()];
    o.subscribers.tenants[0].limits.ports_min = 32;
    for (n, port) in [1024, 1025, 1032].into_iter().enumerate() {
        o.static_mappings.push(crate::StaticMapping {
            protocol: [PROTO_TCP, PROTO_UDP][n % 2],
            outside: (Ipv4Addr::new(203, 0, 113, 0), port),
            inside: (host(7), 80 + port),
        });
    }
    let p = Pool4::new(&Config::new(o).unwrap());
    // Six blocks of eight are left, of which the tenant is promised four.
    let greedy = (0..64).filter(|r| open(&p, 1, PROTO_TCP, r << 40, 1).is_ok()).count();
    let promised = (0..64).filter(|r| open(&p, 9, PROTO_TCP, r << 40, 1).is_ok()).count();
    assert_eq!((greedy, promised), (16, 32));
}
