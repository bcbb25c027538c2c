//! Established flows with and without the check of leased sources.
//!
//! Every flow is a host's of its own, and every host has a lease; there are as many leases as are asked for,
//! those of hosts that send and others. Windows without and with the check take turns in one run.

use causeway_benches::clocks::{Quiet, Tsc, min_median};
use causeway_benches::stage::{Direction, Frames, Gateway, Size};
use causeway_benches::{Rng, WINDOW};
use causeway_core::{BURST, Class, Duration, Interfaces, Prefix6, Validation};
use causeway_flowtable::Bindings;
use causeway_forward::SourceGuard;
use causeway_testkit::{lab_interfaces, mac};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Flows of the same host have numbers in sequence; these are of different ones.
const APART: u32 = 64;
/// Hosts that send, at most.
const SENDERS: u32 = 100_000;

/// Measures with so many leases.
pub(crate) fn measure(tsc: &Tsc, leases: u32, windows: usize) {
    let senders = leases.min(SENDERS);
    let gateway = Gateway::new(Size::of(senders + 10_000));
    let mut stage = gateway.stage(0, tsc);
    stage.open((0..senders).map(|n| n * APART));
    let mut rng = Rng(44);
    let bindings = Bindings::new(leases, [rng.next_u64(), rng.next_u64()]).expect("memory");
    let bind = |a: u128| {
        let single = Prefix6::new(Ipv6Addr::from_bits(a), 128).expect("an address");
        bindings.set(0, single, mac(0x77)).expect("room");
    };
    stage.flows.iter().for_each(|f| bind(f.host6()));
    (senders..leases).for_each(|n| bind(0x2001_0db8_0064 << 80 | 1 << 64 | u128::from(n)));
    assert_eq!(bindings.len(), leases);
    let octets = bindings.octets();
    let bindings = Arc::new(bindings);
    let guard = |validation| {
        let mut list = lab_interfaces();
        list[0].validation = validation;
        SourceGuard::new(&Interfaces::new(list), Arc::clone(&bindings))
    };
    let guards = [guard(Validation::Prefix), guard(Validation::Leased)];
    let mut frames = Frames::new(46, Direction::Out);
    let mut order = stage.order();
    let mut quiet = Quiet::new(tsc.clone());
    // Without the check, with it; clocks of all, and of the check.
    let mut all = [Vec::new(), Vec::new()];
    let mut checks = [Vec::new(), Vec::new()];
    for _ in 0..windows {
        for (at, guard) in guards.iter().enumerate() {
            let ((whole, check), good) = quiet.window(|| {
                let (mut whole, mut check) = (0, 0);
                for _ in 0..WINDOW {
                    for at in 0..BURST {
                        frames.fill(at, stage.flows[order.step()]);
                    }
                    let mut classes = [Ok(Class::Nat64In); BURST];
                    let before = tsc.raw();
                    guard.check(&frames.packets, &mut classes);
                    let checked = tsc.raw() - before;
                    assert!(classes.iter().all(|c| *c == Ok(Class::Nat64In)), "every source is bound");
                    let translated = stage.translate(&mut frames);
                    frames.restore();
                    let clocks = checked + translated;
                    stage.rig.advance(Duration::from_nanos((clocks as f64 / tsc.ghz()) as u64));
                    (whole, check) = (whole + clocks, check + checked);
                }
                (whole, check)
            });
            if good {
                let per_packet = |clocks: u64| clocks as f64 / (WINDOW * BURST) as f64;
                all[at].push(per_packet(whole));
                checks[at].push(per_packet(check));
            }
        }
    }
    let [(off_min, off), (on_min, on)] = all.map(min_median);
    let [(_, branch), (check_min, check)] = checks.map(min_median);
    println!(
        "RESULT translate leased-sources leases={leases} senders={senders} off_min={off_min:.0} off_median={off:.0} \
         on_min={on_min:.0} on_median={on:.0} added_median={:.0} check_min={check_min:.0} check_median={check:.0} \
         off_check_median={branch:.1} octets_per_lease={:.0} windows={} thrown_away={}",
        on - off,
        octets as f64 / f64::from(leases),
        quiet.kept,
        quiet.thrown,
    );
}
