//! DNS64: what a question costs that is answered from the cache.
//!
//! - `cached`: questions for AAAA records that were synthesised, of many names in random order, through the whole
//!   worker, frame to frame: classified, checked, looked up, answered in their own frames, handed to the port. Full
//!   bursts, with and without EDNS, with a cookie, and of names that do not exist.
//!
//! `share_of_a_core_at_200k` is what 200,000 of them a second take from the forwarding of packets. Every answer of one
//! burst is read by `hickory-proto` and compared before anything is measured.
//!
//! Environment: `BENCH_NAMES` (default 50000), `CAUSEWAY_COMMIT`.

#![forbid(unsafe_code)]

#[path = "first_hop/gateway.rs"]
mod gateway;
#[path = "dns/questions.rs"]
mod questions;

use causeway_benches::clocks::{Gather, Tsc, met};
use causeway_benches::{Rng, measured_on, smoke};
use causeway_core::{BURST, Counter, HeapFrame};
use gateway::{Gateway, text};
use questions::{Form, answers, check, question};

/// Clocks of a question at most, for 1.5 million a second and core.
const GOAL: f64 = 1700.0;
/// Questions a second at which forwarding may lose a tenth.
const BESIDE: f64 = 200_000.0;
/// Microseconds between polls.
const POLL_US: u64 = 1000;

/// The gateway of the other benches, with a resolver in it.
fn resolver() -> Gateway {
    let addresses = r#"addresses6 = ["2001:db8:64::1/64", "2001:db8:64::53/64"]"#;
    let text = text("203.0.113.0/28", false).replace(r#"addresses6 = ["2001:db8:64::1/64"]"#, addresses);
    let rates = "client-rate = 1000000\nclient-burst = 1000000";
    Gateway::new(&format!("{text}\n[dns64]\nupstreams = [\"192.0.2.1\"]\ncache = \"64MiB\"\n{rates}\n"))
}

fn main() {
    println!("INFO {}", measured_on());
    let names = std::env::var("BENCH_NAMES").ok().map(|n| n.parse().expect("a number"));
    let names: usize = names.unwrap_or(if smoke() { 500 } else { 50_000 });
    let windows = if smoke() { 20 } else { 20_001 };
    let tsc = Tsc::new();
    let mut gateway = resolver();
    let cache = &gateway.shared.dns.as_ref().expect("a resolver").cache;
    for (key, answer) in answers(names) {
        cache.put(&key, &answer, 1).expect("room");
    }
    println!("INFO cache {:?}", cache.stats());
    for _ in 0..100 {
        gateway.poll_after(1000);
    }
    for form in [Form::Edns, Form::Plain, Form::Cookie, Form::Missing] {
        cached(&tsc, &mut gateway, names, form, windows);
    }
}

fn cached(tsc: &Tsc, gateway: &mut Gateway, names: usize, form: Form, windows: usize) {
    let mut rng = Rng(7);
    gateway.wires.borrow_mut().keep = true;
    let asked: Vec<usize> = (0..BURST).map(|_| rng.below(names)).collect();
    gateway.wires.borrow_mut().rx.extend(asked.iter().map(|n| HeapFrame::new(&question(*n, form))));
    gateway.poll_after(POLL_US);
    let sent = std::mem::take(&mut gateway.wires.borrow_mut().tx);
    assert_eq!(sent.len(), BURST, "{:?}", gateway.counters().nonzero());
    let octets = sent[0].len();
    asked.iter().zip(&sent).for_each(|(n, frame)| check(*n, form, frame));
    gateway.wires.borrow_mut().keep = false;

    let mut gather = Gather::new(tsc.clone());
    let before = gateway.counters().get(Counter::Dns64CacheHits);
    for _ in 0..windows {
        let frames = (0..BURST).map(|_| HeapFrame::new(&question(rng.below(names), form)));
        gateway.wires.borrow_mut().rx.extend(frames);
        gather.window(BURST, || {
            let begin = tsc.raw();
            gateway.poll_after(POLL_US);
            tsc.raw() - begin
        });
    }
    let hits = gateway.counters().get(Counter::Dns64CacheHits) - before;
    // Where too many names had one bucket the cache let one of them go.
    let all = (windows * BURST) as u64;
    assert!(hits <= all && hits >= all - all / 1000, "{hits} of {all}: {:?}", gateway.counters().nonzero());
    let f = gather.figure();
    let rate = tsc.ghz() * 1e9 / f.median;
    let share = 100.0 * BESIDE / rate;
    println!(
        "RESULT dns cached form={form:?} names={names} octets={octets} clocks_min={:.0} clocks={:.0} ns={:.0} \
         millions_a_second={:.2} goal_1.5={} share_of_a_core_at_200k={share:.1}% goal_10={} windows={} thrown_away={}",
        f.min,
        f.median,
        f.median / tsc.ghz(),
        rate / 1e6,
        met(f.median <= GOAL),
        met(share < 10.0),
        f.kept,
        f.thrown
    );
}
