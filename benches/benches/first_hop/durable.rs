//! The lease thread with the real server and a real file, without devices: 4-message exchanges a second with
//! every lease on disk (synchronous=FULL) before its Reply, and memory with many leases.
//!
//! Clients that are new each send a Solicit and, when its Advertise is back, a Request. Their messages are
//! octets that are parsed as a worker parses them, and go through the rings that workers use. `disk` is the share of
//! the time that commits took, waiting included; `fsync_ms` is what a small write and `fdatasync` take in the same
//! folder, which no commit can beat.
//!
//! Memory is that of leases in SQLite's cache, in the engine, and in the workers' table of leased sources.

use super::clients::{client, memory, octets, old_lease, request, server};
use causeway::control::leases::{LeasedSources, LeasesConfig, Rings, Spec, Store, open, time_of_day};
use causeway_benches::clocks::met;
use causeway_benches::smoke;
use causeway_dhcpv6::{Answer, Change, Engine, LeaseEvent, Request};
use causeway_flowtable::Bindings;
use crossbeam::queue::ArrayQueue;
use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Room in a ring, as between a worker and the lease thread.
const RING: usize = 2048;
/// Memory with a million leases, in MiB.
const GOAL_MIB: u64 = 1024;
const MILLION: u32 = 1_000_000;

/// Exchanges that are under way at once: what a shelf of servers makes, and all that the rings take.
const UNDER_WAY: [usize; 2] = [64, RING];

/// A folder of this bench's own on a real disk; gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let parent = std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from("/var/tmp"), Into::into);
        let path = parent.join(format!("causeway-bench-leases-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The kind of file system that a folder is on.
fn filesystem(folder: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let all = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    // Of two at the same place the later one counts.
    let own = all.filter(|(at, _)| folder.starts_with(at)).max_by_key(|(at, _)| at.len());
    own.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// Milliseconds that a small write takes until it is on disk: the median of some.
fn fsync_ms(folder: &Path) -> f64 {
    let path = folder.join("fsync");
    let mut file = std::fs::File::create(&path).expect("a file");
    let mut all: Vec<f64> = (0..if smoke() { 3 } else { 51 })
        .map(|_| {
            let begun = Instant::now();
            file.write_all(&[0x5a; 4096]).expect("room");
            file.sync_data().expect("a disk");
            begun.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let _ = std::fs::remove_file(&path);
    all[all.len() / 2]
}

/// Octets that this process has had written to disk.
fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("write_bytes: "));
    line.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Seconds of processor time that the lease thread has used.
fn lease_thread_s() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let stats = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("stat")).ok());
    let own = stats.filter(|s| s.contains("(cw-leases)"));
    let ticks = own.filter_map(|s| {
        let after = s.rsplit_once(')')?.1;
        let mut fields = after.split_whitespace().skip(11);
        Some(fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?)
    });
    // USER_HZ is 100 wherever Linux runs on what DPDK runs on.
    f64::from(ticks.sum::<u32>()) / 100.0
}

/// Part `fill NUMBER PATH`: leases that are there before the thread starts, each of a client of its own.
pub(crate) fn fill(rest: &str) {
    let (number, path) = rest.split_once(' ').expect("a number and a path");
    let leases: u32 = number.parse().expect("a number of leases");
    let mut store = Store::open(Path::new(path)).expect("a store");
    let now = time_of_day();
    let numbers: Vec<u32> = (0..leases).collect();
    for part in numbers.chunks(20_000) {
        let changes: Vec<Change> = part
            .iter()
            .map(|n| Change { at: now, event: LeaseEvent::Given, after: old_lease(*n, now), before: None })
            .collect();
        store.commit(&changes).expect("a commit");
    }
}

/// A worker without a device: what it has asked and been answered.
struct FakeWorker {
    requests: Arc<ArrayQueue<Box<Request>>>,
    answers: Arc<ArrayQueue<Box<Answer>>>,
    duid: Box<[u8]>,
    /// The next client.
    next: u32,
    /// Requests that follow an Advertise wait here if the ring is full.
    asking: Vec<u32>,
}

impl FakeWorker {
    /// So many exchanges, of which `most` are under way at once. Gives how long it took, in seconds.
    fn exchanges(&mut self, number: u32, most: usize) -> f64 {
        let begun = Instant::now();
        let (last, mut done, mut under_way) = (self.next + number, 0u32, 0usize);
        while done < number {
            let mut idle = true;
            while let Some(answer) = self.answers.pop() {
                idle = false;
                match answer.octets.as_ref().expect("an answer")[0] {
                    2 => self.asking.push(client(answer.mac)),
                    7 => {
                        assert!(answer.leased, "a Reply without an address");
                        done += 1;
                        under_way -= 1;
                    }
                    other => panic!("a message of type {other}"),
                }
            }
            while let Some(client) = self.asking.pop() {
                let asks = octets(client, Some(&self.duid));
                if self.requests.push(Box::new(request(client, &asks))).is_err() {
                    self.asking.push(client);
                    break;
                }
            }
            while under_way < most && self.next < last && self.asking.is_empty() {
                if self.requests.push(Box::new(request(self.next, &octets(self.next, None)))).is_err() {
                    break;
                }
                self.next += 1;
                under_way += 1;
            }
            if idle {
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
        }
        begun.elapsed().as_secs_f64()
    }
}

pub(crate) fn measure(leases: u32) {
    let folder = Folder::new();
    let path = folder.0.join("leases.db");
    let exchanges = std::env::var("BENCH_EXCHANGES").ok().and_then(|v| v.parse().ok()).unwrap_or(50_000);
    let exchanges: u32 = if smoke() { 300 } else { exchanges };
    // In a process of its own, whose memory is not counted.
    let this = std::env::current_exe().expect("this program");
    let filled = std::process::Command::new(this)
        .args(std::env::args_os().skip(1))
        .env(super::PART, format!("fill {leases} {}", path.display()))
        .status();
    assert!(filled.expect("a process").success(), "the store is filled");
    let fsync = fsync_ms(&folder.0);

    let begun = Instant::now();
    let config = LeasesConfig {
        path: path.clone(),
        duid: None,
        history: std::time::Duration::from_secs(365 * 86_400),
        peer: None,
    };
    let opened = open(config).expect("the store");
    let duid: Box<[u8]> = opened.duid().into();
    let bindings = Arc::new(Bindings::new(2 * MILLION, [1, 2]).expect("memory"));
    let links: HashMap<Box<str>, u32> = [("tenant".into(), 0)].into();
    let sources = Arc::new(LeasedSources::new(bindings, links));
    let requests = Arc::new(ArrayQueue::new(RING));
    let answers: Arc<ArrayQueue<Box<Answer>>> = Arc::new(ArrayQueue::new(RING));
    let running = opened
        .start(Spec::<Engine> {
            server: Arc::new(server(&duid)),
            rings: vec![Rings { requests: Arc::clone(&requests), answers: Arc::clone(&answers) }],
            bindings: Box::new(Arc::clone(&sources)),
            active: Box::new(|| true),
            clock: Box::new(time_of_day),
        })
        .expect("the thread");
    let mut worker = FakeWorker { requests, answers, duid, next: 0, asking: Vec::new() };
    // The first answer comes when all leases are loaded.
    worker.exchanges(1, 1);
    let loaded = begun.elapsed().as_secs_f64();
    let loaded_mib = memory("VmRSS") >> 20;

    for most in UNDER_WAY {
        let was = running.control().status();
        let (cpu, octets) = (lease_thread_s(), written());
        let took = worker.exchanges(exchanges, most);
        let (cpu, octets) = (lease_thread_s() - cpu, written() - octets);
        let is = running.control().status();
        // The kernel counts in hundredths of a second.
        let per_cpu = if cpu < 0.5 { "-".to_owned() } else { format!("{:.0}", f64::from(exchanges) / cpu) };
        let groups = is.groups - was.groups;
        let commits = is.disk.commits - was.disk.commits;
        let commit_us = is.disk.all_commits_us - was.disk.all_commits_us;
        println!(
            "RESULT first_hop durable leases={leases} under_way={most} exchanges={exchanges} \
             exchanges_per_second={:.0} groups={groups} requests_per_group={:.1} commits={commits} commit_ms={:.2} \
             longest_commit_ms={:.2} disk={:.2} kib_written_a_lease={:.1} lease_thread_cpu={:.2} exchanges_per_cpu_second={} fsync_ms={fsync:.2} filesystem={}",
            f64::from(exchanges) / took,
            2.0 * f64::from(exchanges) / groups.max(1) as f64,
            commit_us as f64 / commits.max(1) as f64 / 1000.0,
            is.disk.longest_commit_us as f64 / 1000.0,
            commit_us as f64 / took / 1e6,
            octets as f64 / 1024.0 / f64::from(exchanges),
            cpu / took,
            per_cpu,
            filesystem(&folder.0),
        );
    }
    assert_eq!(sources.full(), 0, "room for every lease among the sources");
    let most_mib = memory("VmHWM") >> 20;
    let goal = match leases {
        MILLION.. => format!(" goal_mib={GOAL_MIB} goal_memory={}", met(most_mib <= GOAL_MIB)),
        _ => String::new(),
    };
    println!(
        "RESULT first_hop memory leases={leases} started_s={loaded:.2} rss_mib={loaded_mib} \
         rss_after_exchanges_mib={} most_mib={most_mib} file_mib={}{goal}",
        memory("VmRSS") >> 20,
        std::fs::metadata(&path).map_or(0, |m| m.len()) >> 20,
    );
    running.stop();
    let store = Store::open(&path).expect("the store again");
    let kept = store.load(|all| all.count()).expect("all leases");
    assert_eq!(kept, (leases + worker.next) as usize, "leases on disk");
}
