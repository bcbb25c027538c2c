//! The lease thread with the real server and a real file, without workers: 4-message exchanges a second with
//! every lease on disk before its Reply, and memory with many leases.
//!
//! Clients that are new each send a Solicit and, when its Advertise is back, a Request. Their messages are
//! octets that are parsed as a worker parses them, and go through the rings that workers use. `disk` is the
//! time that commits took, of the time that the exchanges took.
//!
//! Environment: `BENCH_LEASES` (leases in the store before it starts, default 100000), `BENCH_EXCHANGES`
//! (default 100000), `BENCH_DIR` (where the file is; default the folder for temporary files),
//! `CAUSEWAY_COMMIT`.

#![forbid(unsafe_code)]

use causeway::control::leases::{LeasesConfig, Rings, Spec, Store, open, time_of_day};
use causeway_benches::{measured_on, smoke};
use causeway_core::{Duration, IfId, Instant as Moment};
use causeway_dhcpv6::{
    Answer, Change, Config, Engine, Identity, Kind, Lease, LeaseEvent, Link, Options, Pool, Request, State,
    message,
};
use causeway_wire::MacAddr;
use crossbeam::queue::ArrayQueue;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The first address of the pool.
const FIRST: u128 = 0x2001_0db8_0064_0000_0000_0000_1000_0000;
/// Addresses of the pool.
const POOL: u128 = 1 << 23;
/// Room in a ring, as between a worker and the lease thread.
const RING: usize = 1024;

fn setting(name: &str, default: u32, when_smoke: u32) -> u32 {
    if smoke() {
        return when_smoke;
    }
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Octets of memory in use, or at most so far.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(what));
    line.and_then(|l| l.trim_start_matches(':').trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
        * 1024
}

fn server(duid: &[u8]) -> Config {
    let link = Link {
        name: "tenant".into(),
        interface: Some(IfId(0)),
        prefixes: vec!["2001:db8:64::/64".parse().expect("a prefix")],
        pools: vec![Pool { first: FIRST.into(), last: (FIRST + POOL - 1).into() }],
        delegations: Vec::new(),
        reservations: Vec::new(),
        excluded: Vec::new(),
        preferred: Duration::from_secs(8 * 3600),
        valid: Duration::from_secs(12 * 3600),
        t1: None,
        t2: None,
        rapid_commit: false,
        options: Options { dns_servers: vec![Ipv6Addr::from(FIRST)], ..Options::default() },
    };
    Config {
        server_duid: duid.into(),
        preference: 255,
        links: vec![link],
        per_client: 8,
        capacity: 4_000_000,
        hold: Duration::from_secs(3600),
        decline_hold: Duration::from_secs(86_400),
        client_rate: (1000, 1000),
        rate: (1_000_000, 1_000_000),
    }
}

fn mac(client: u32) -> MacAddr {
    let [a, b, c, d] = client.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

fn duid(client: u32) -> Vec<u8> {
    [&[0, 1, 0, 1, 0x2d, 0, 0, 0][..], &mac(client).0].concat()
}

/// Leases that are there before the thread starts, each with a client of its own.
fn fill(path: &Path, leases: u32) {
    let mut store = Store::open(path).expect("a store");
    let now = time_of_day();
    let numbers: Vec<u32> = (0..leases).collect();
    for part in numbers.chunks(20_000) {
        let changes: Vec<Change> = part
            .iter()
            .map(|n| {
                let lease = Lease {
                    kind: Kind::Address,
                    // From the end, so that the clients to come do not start in the midst of them.
                    address: (FIRST + POOL - 1 - u128::from(*n)).into(),
                    length: 128,
                    link: "tenant".into(),
                    identity: Identity::Mac(mac(u32::MAX - n)),
                    duid: duid(u32::MAX - n).into(),
                    iaid: 1,
                    mac: Some(mac(u32::MAX - n)),
                    state: State::Active,
                    preferred_until: now + 8 * 3600,
                    valid_until: now + 12 * 3600,
                    since: now,
                };
                Change { at: now, event: LeaseEvent::Given, after: lease, before: None }
            })
            .collect();
        store.commit(&changes).expect("a commit");
    }
}

/// A Solicit (without a server) or a Request (with one).
fn octets(client: u32, server: Option<&[u8]>) -> Vec<u8> {
    let option = |code: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&[0, code][..], &length, content].concat()
    };
    let [_, a, b, c] = client.to_be_bytes();
    let mut out = vec![if server.is_some() { 3 } else { 1 }, a, b, c];
    out.extend(option(1, &duid(client)));
    out.extend(server.map_or_else(Vec::new, |s| option(2, s)));
    out.extend(option(3, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
    out.extend(option(6, &[0, 23, 0, 24]));
    out
}

/// What a worker makes of a frame.
fn request(client: u32, server: Option<&[u8]>) -> Box<Request> {
    let received = message::parse(&octets(client, server)).expect("a good message");
    Box::new(Request {
        interface: IfId(0),
        source: "fe80::1".parse().expect("an address"),
        source_port: 546,
        mac: mac(client),
        arrived: Moment::ZERO,
        worker: 0,
        received,
    })
}

fn main() {
    let (leases, exchanges) =
        (setting("BENCH_LEASES", 100_000, 1000), setting("BENCH_EXCHANGES", 100_000, 500));
    println!("leases: {}", measured_on());
    let parent = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = parent.join(format!("causeway-bench-leases-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let outcome = std::panic::catch_unwind(|| measure(&dir, leases, exchanges));
    let _ = std::fs::remove_dir_all(&dir);
    if outcome.is_err() {
        std::process::exit(1);
    }
}

fn measure(dir: &Path, leases: u32, exchanges: u32) {
    let path = dir.join("leases.db");
    let begun = Instant::now();
    fill(&path, leases);
    println!("leases: filled={leases} took_s={:.2}", begun.elapsed().as_secs_f64());
    let before = memory("VmRSS");
    let config = LeasesConfig {
        path: path.clone(),
        duid: None,
        history: std::time::Duration::from_secs(365 * 86_400),
        peer: None,
    };
    let begun = Instant::now();
    let opened = open(config).expect("the store");
    let duid: Box<[u8]> = opened.duid().into();
    let requests = Arc::new(ArrayQueue::new(RING));
    let answers: Arc<ArrayQueue<Box<Answer>>> = Arc::new(ArrayQueue::new(RING));
    let running = opened
        .start(Spec::<Engine> {
            server: Arc::new(server(&duid)),
            rings: vec![Rings { requests: Arc::clone(&requests), answers: Arc::clone(&answers) }],
            bindings: Box::new(()),
            active: Box::new(|| true),
            clock: Box::new(time_of_day),
        })
        .expect("the thread");
    println!(
        "leases: loaded={leases} took_s={:.2} rss_mib={} of_which_before_mib={}",
        begun.elapsed().as_secs_f64(),
        memory("VmRSS") >> 20,
        before >> 20,
    );
    let begun = Instant::now();
    let (mut next, mut done, mut under_way) = (0u32, 0u32, 0usize);
    // Requests that follow an Advertise wait here if the ring is full.
    let mut asking: Vec<u32> = Vec::new();
    while done < exchanges {
        let mut idle = true;
        while let Some(answer) = answers.pop() {
            idle = false;
            let octets = answer.octets.as_ref().expect("an answer");
            let client =
                u32::from_be_bytes([answer.mac.0[2], answer.mac.0[3], answer.mac.0[4], answer.mac.0[5]]);
            match octets[0] {
                2 => asking.push(client),
                7 => {
                    assert!(answer.leased, "a Reply without an address");
                    done += 1;
                    under_way -= 1;
                }
                other => panic!("a message of type {other}"),
            }
        }
        while let Some(client) = asking.pop() {
            if requests.push(request(client, Some(&duid))).is_err() {
                asking.push(client);
                break;
            }
        }
        while under_way < RING && next < exchanges && asking.is_empty() {
            if requests.push(request(next, None)).is_err() {
                break;
            }
            next += 1;
            under_way += 1;
        }
        if idle {
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let status = running.control().status();
    println!(
        "leases: exchanges={exchanges} per_second={:.0} groups={} requests_per_group={:.0} commits={} \
         commit_ms={:.2} disk={:.0}% rss_mib={} most_mib={}",
        f64::from(exchanges) / took,
        status.groups,
        f64::from(2 * exchanges) / f64::from(u32::try_from(status.groups).unwrap_or(u32::MAX).max(1)),
        status.disk.commits,
        f64::from(u32::try_from(status.disk.all_commits_us).unwrap_or(u32::MAX))
            / f64::from(u32::try_from(status.disk.commits).unwrap_or(u32::MAX).max(1))
            / 1000.0,
        f64::from(u32::try_from(status.disk.all_commits_us).unwrap_or(u32::MAX)) / took / 10_000.0,
        memory("VmRSS") >> 20,
        memory("VmHWM") >> 20,
    );
    running.stop();
    let store = Store::open(&path).expect("the store again");
    let kept = store.load(|all| all.count()).expect("all leases");
    assert_eq!(kept, usize::try_from(leases + exchanges).unwrap_or(0), "leases on disk");
}
