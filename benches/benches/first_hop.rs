//! The first hop: what DHCPv6, router advertisements, neighbour discovery and VRRP cost.
//!
//! - `engine`: exchanges of four messages on one core, in memory, with few and many leases; octets a lease.
//! - `durable`: the lease thread with a real file, fed through the rings; memory with a million leases.
//! - `answers`: clocks of an answer to a Router Solicitation, to a Neighbor Solicitation and to a client that got
//!   a lease; and that answers leave in the poll that brought the question.
//! - `vrrp`: what the election costs a poll in which nothing is due, and how long becoming active takes.
//!
//! Each part runs in a process of its own, so that its memory is its own.
//!
//! Environment: `BENCH_PARTS` (some of the names above, by commas), `BENCH_LEASES` (numbers of leases, by commas;
//! default 1000, 100000 and 1000000, of which `durable` takes the larger two), `BENCH_EXCHANGES` (of `durable`;
//! default 50000), `BENCH_DIR` (where its file is; default /var/tmp), `CAUSEWAY_COMMIT`.

#![forbid(unsafe_code)]

#[path = "first_hop/answers.rs"]
mod answers;
#[path = "first_hop/clients.rs"]
mod clients;
#[path = "first_hop/durable.rs"]
mod durable;
#[path = "first_hop/engine.rs"]
mod engine;
#[path = "first_hop/gateway.rs"]
mod gateway;
#[path = "first_hop/vrrp.rs"]
mod vrrp;

use causeway_benches::{measured_on, smoke};
use std::process::{Command, ExitCode};

/// Names the part that a process is to run.
const PART: &str = "CAUSEWAY_BENCH_PART";
/// Numbers of leases, and when it is only to show that it works.
const LEASES: (&str, &str) = ("1000,100000,1000000", "100,2000");
/// From so many leases on the lease thread is measured.
const MANY: u32 = 2_000;

fn main() -> ExitCode {
    if let Ok(part) = std::env::var(PART) {
        run(&part);
        return ExitCode::SUCCESS;
    }
    println!("INFO {}", measured_on());
    let wanted = std::env::var("BENCH_PARTS").unwrap_or_default();
    let mut failed = false;
    for part in parts() {
        let name = part.split(' ').next().unwrap_or_default();
        if !wanted.is_empty() && !wanted.split(',').any(|w| w.trim() == name) {
            continue;
        }
        let this = std::env::current_exe().expect("this program");
        let done = Command::new(this).args(std::env::args_os().skip(1)).env(PART, &part).status();
        if !done.expect("a process").success() {
            eprintln!("first_hop: {part} failed");
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// All parts, those with a number of leases once for each.
fn parts() -> Vec<String> {
    let text = std::env::var("BENCH_LEASES").ok().filter(|_| !smoke());
    let text = text.unwrap_or_else(|| (if smoke() { LEASES.1 } else { LEASES.0 }).to_owned());
    let leases: Vec<u32> = text.split(',').map(|n| n.trim().parse().expect("numbers of leases")).collect();
    let mut parts: Vec<String> = leases.iter().map(|n| format!("engine {n}")).collect();
    parts.extend(leases.iter().filter(|n| **n >= MANY).map(|n| format!("durable {n}")));
    parts.extend(["answers", "vrrp"].map(str::to_owned));
    parts
}

fn run(part: &str) {
    let (name, rest) = part.split_once(' ').unwrap_or((part, ""));
    let number = || rest.split(' ').next().and_then(|n| n.parse::<u32>().ok()).expect("a number of leases");
    match name {
        "engine" => engine::measure(number()),
        "durable" => durable::measure(number()),
        "fill" => durable::fill(rest),
        "answers" => answers::measure(),
        "vrrp" => vrrp::measure(),
        other => panic!("no part `{other}`"),
    }
}
