//! What virtual routers cost a worker.
//!
//! - `tick`: the election's part of a poll in which nothing is due: its beat, its timers, and the question
//!   whether there is something to say; while active and while backup.
//! - `poll`: a whole poll of a worker to which nothing came, with virtual routers and without.
//! - `active`: the poll in which a gateway with three virtual routers becomes active: its advertisements, all
//!   its addresses (NAT64's pool among them) and router advertisements were given to the queues at its end. The
//!   device's time is not in it. Each time another worker, with cold tables, does it.

use super::gateway::{Gateway, plan, text};
use causeway_benches::clocks::{Gather, Quiet, Tsc, met, min_median};
use causeway_benches::smoke;
use causeway_core::{Counter, Duration};
use causeway_testkit::Rig;
use causeway_vrrp::{Phase, Shared, Stage};
use std::hint::black_box;
use std::sync::Arc;

/// Calls of one window.
const CALLS: usize = 1024;
/// How long becoming active may take, in microseconds.
const GOAL_US: f64 = 10_000.0;

pub(crate) fn measure() {
    let tsc = Tsc::new();
    let windows = if smoke() { 3 } else { 1001 };
    for phase in [Phase::Backup, Phase::Active] {
        tick(&tsc, phase, windows);
    }
    polls(&tsc, windows);
    for (addresses, pool) in [(16, "203.0.113.0/28"), (1024, "100.64.0.0/22")] {
        active(&tsc, addresses, pool);
    }
}

fn tick(tsc: &Tsc, phase: Phase, windows: usize) {
    let config = plan(&text("203.0.113.0/28", true)).vrrp.expect("virtual routers");
    let shared = Arc::new(Shared::new());
    let mut rig = Rig::lab();
    let mut stage = Stage::new(config, Arc::clone(&shared));
    for _ in 0..if phase == Phase::Active { 2_000 } else { 1 } {
        let _ = stage.tick(rig.now);
        stage.advertise(&mut rig.ctx());
        rig.outbox.drain().for_each(drop);
        rig.source = causeway_core::HeapSource::new(1000);
        rig.advance(Duration::from_millis(1));
    }
    assert_eq!(stage.phase(), phase);
    let mut gather = Gather::new(tsc.clone());
    for _ in 0..windows {
        gather.window(CALLS, || {
            let begin = tsc.raw();
            for _ in 0..CALLS {
                shared.beat(black_box(rig.now));
                assert!(stage.tick(black_box(rig.now)).is_none());
                stage.advertise(&mut rig.ctx());
            }
            tsc.raw() - begin
        });
    }
    assert!(rig.outbox.is_empty(), "nothing was due");
    assert_eq!(stage.phase(), phase);
    let f = gather.figure();
    println!(
        "RESULT first_hop vrrp-tick routers=3 phase={} clocks_min={:.1} clocks={:.1} windows={} thrown_away={}",
        format!("{phase:?}").to_lowercase(),
        f.min,
        f.median,
        f.kept,
        f.thrown
    );
}

fn polls(tsc: &Tsc, windows: usize) {
    let make = |vrrp| Gateway::new(&text("203.0.113.0/28", vrrp));
    let mut both = [make(false), make(true)];
    for gateway in &mut both {
        // Until whoever may be active is, and what is sent at the start was sent.
        for _ in 0..60_000 {
            gateway.poll_after(1_000);
        }
    }
    assert_eq!(both[1].counters().get(Counter::VrrpBecameActive), 1);
    let mut gathers = [Gather::new(tsc.clone()), Gather::new(tsc.clone())];
    for _ in 0..windows {
        for (gateway, gather) in both.iter_mut().zip(&mut gathers) {
            // What was due since the last window.
            gateway.poll_after(1);
            gather.window(CALLS, || {
                let begin = tsc.raw();
                for _ in 0..CALLS {
                    gateway.poll_after(0);
                }
                tsc.raw() - begin
            });
        }
    }
    let [without, with] = gathers.map(Gather::figure);
    println!(
        "RESULT first_hop idle-poll clocks_without_vrrp={:.0} clocks_with_3_routers={:.0} more_of_least={:.1} more={:.1} \
         windows={} thrown_away={}",
        without.median,
        with.median,
        with.min - without.min,
        with.median - without.median,
        with.kept,
        with.thrown,
    );
}

fn active(tsc: &Tsc, addresses: u64, pool: &str) {
    let text = text(pool, true);
    let mut quiet = Quiet::new(tsc.clone());
    let (mut times, mut all, mut frames) = (Vec::new(), Vec::new(), 0);
    for _ in 0..if smoke() { 2 } else { 101 } {
        let mut gateway = Gateway::new(&text);
        let mut polls = 0;
        loop {
            let sent = gateway.wires.borrow().sent;
            let (clocks, good) = quiet.window(|| {
                let begin = tsc.raw();
                gateway.poll_after(1_000);
                tsc.raw() - begin
            });
            if gateway.counters().get(Counter::VrrpBecameActive) == 0 {
                polls += 1;
                assert!(polls < 10_000, "it does not become active");
                continue;
            }
            all.push(tsc.us(clocks));
            if good {
                times.push(tsc.us(clocks));
            }
            frames = gateway.wires.borrow().sent - sent;
            break;
        }
        let c = gateway.counters();
        // RFC 9568 6.4.2: all of it left before the poll ended, and packets may go.
        assert_eq!(c.get(Counter::VrrpAdvertsSent), 3, "one for each virtual router");
        assert!(c.get(Counter::ArpSent) > addresses, "every address was announced: {:?}", c.nonzero());
        assert_eq!(c.get(Counter::RaSent), 1, "{:?}", c.nonzero());
        assert!(gateway.shared.vrrp.is_active(causeway::worker::Clock::now(&gateway.clock)));
    }
    let longest = all.iter().copied().fold(0.0, f64::max);
    let ((least, median), (_, any)) = (min_median(times), min_median(all));
    println!(
        "RESULT first_hop becoming-active routers=3 pool={addresses} frames={frames} us_min={least:.0} us={median:.0} \
         us_with_preempted={any:.0} us_longest={longest:.0} goal_us={GOAL_US:.0} goal_median={} goal_longest={}",
        met(median.is_finite() && median <= GOAL_US || any <= GOAL_US),
        met(longest <= GOAL_US),
    );
}
