//! The gateway on devices that need no kernel interface: as root or not, without huge pages.

mod common;

use arrayvec::ArrayVec;
use causeway_core::{BURST, Frame, FrameSource, Queues};
use causeway_hwprofiles::bringup::{
    BringupError, Control, ControlError, Gateway, Idle, MacFilter, Memory, PollLoop, PortSpec, Spec,
    StopCause, StopReport, WorkerInit, control_affinity,
};
use causeway_hwprofiles::mbuf::{MbufFrame, MempoolSource};
use causeway_hwprofiles::queues::DpdkQueues;
use causeway_wire::MacAddr;
use common::{Case, alone};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn main() -> ExitCode {
    common::run(&[
        Case {
            name: "sigterm_under_load_ends_cleanly_with_every_frame_given_back",
            inside: forward_until_signalled,
            outside: |running| {
                running.wait_for("forwarding");
                running.signal(libc::SIGTERM);
            },
        },
        Case {
            name: "sigint_under_load_ends_cleanly_with_every_frame_given_back",
            inside: forward_until_signalled,
            outside: |running| {
                running.wait_for("forwarding");
                running.signal(libc::SIGINT);
            },
        },
        Case {
            name: "sighup_calls_the_hook_and_does_not_stop",
            inside: hangup,
            outside: |running| {
                running.wait_for("forwarding");
                running.signal(libc::SIGHUP);
                running.wait_for("hung up");
                running.signal(libc::SIGTERM);
            },
        },
        alone("a_header_of_another_size_never_moves_the_payload", headroom),
        alone("what_is_sent_into_a_ring_comes_back_and_what_does_not_fit_stays_in_order", ring),
        alone("an_empty_pool_says_so_and_fills_again", pool),
        alone("jumbo_frames_fit_when_the_mtu_asks_for_them", jumbo),
        alone("a_frame_that_is_kept_past_the_end_is_reported_and_stays_valid", leak),
        alone("a_worker_that_panics_stops_the_gateway_in_order", panicking),
        alone("a_worker_whose_start_panics_stops_the_gateway_in_order", panicking_start),
        alone("workers_share_the_main_core_and_are_numbered_by_core", two_workers),
        alone("worker_threads_are_known_to_dpdk", registered),
        alone("a_stop_before_the_start_is_not_lost", early_stop),
        alone("a_second_gateway_of_the_same_name_is_refused", same_name),
        alone("a_second_gateway_in_one_process_is_refused", second),
        alone("more_workers_than_queue_pairs_are_refused_with_both_numbers", too_many_workers),
        alone("a_device_that_its_driver_does_not_make_is_named", broken_device),
        alone("nothing_is_left_behind", nothing_left),
        alone("control_threads_get_their_cpus_back", control_cpus),
        alone("control_reads_ports_until_the_end_and_not_after", control),
    ])
}

/// Cores that this process may use.
fn cpus() -> Vec<u16> {
    // SAFETY: a set of CPUs is a row of bits.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set can be written, and its size is given.
    assert_eq!(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) }, 0);
    // SAFETY: the numbers are inside the set.
    (0..1024u16).filter(|c| unsafe { libc::CPU_ISSET(usize::from(*c), &set) }).collect()
}

fn spec(devices: &[&str]) -> Spec {
    let cpus = cpus();
    let ports = devices.iter().enumerate().map(|(n, d)| PortSpec::new(&format!("p{n}"), d.parse().unwrap()));
    Spec {
        app_group: format!("cw-test-{}", std::process::id()),
        main_core: cpus[0],
        worker_cores: vec![*cpus.last().unwrap()],
        mempool_frames: 4095,
        frame_octets: 0,
        idle: Idle::Backoff,
        memory: Memory::Ordinary,
        ports: ports.collect(),
    }
}

/// A loop made of a function that says when it is done; then it stops the gateway.
struct Once<F: FnMut(&mut DpdkQueues, &mut MempoolSource)> {
    queues: DpdkQueues,
    source: MempoolSource,
    work: F,
    stop: causeway_hwprofiles::bringup::StopHandle,
}

impl<F: FnMut(&mut DpdkQueues, &mut MempoolSource)> PollLoop for Once<F> {
    fn poll(&mut self) -> bool {
        if !self.stop.is_stopping() {
            (self.work)(&mut self.queues, &mut self.source);
            self.stop.stop();
        }
        false
    }

    fn drain(&mut self) {}
}

/// Runs a function once in a worker.
fn once(
    spec: Spec,
    work: impl FnMut(&mut DpdkQueues, &mut MempoolSource) + Clone + Send + Sync + 'static,
) -> StopReport {
    let gateway = Gateway::bring_up(spec).unwrap();
    let stop = gateway.stop_handle();
    gateway
        .run(move |init: WorkerInit| Once {
            queues: init.queues,
            source: init.source,
            work: work.clone(),
            stop: stop.clone(),
        })
        .unwrap()
}

const CLEAN: StopReport = StopReport { frames_in_use: 0, cause: StopCause::Asked };

/// Forwards between ports, swapping addresses, and holds some frames all the time.
struct Forward {
    queues: DpdkQueues,
    source: MempoolSource,
    held: ArrayVec<MbufFrame, BURST>,
    polls: u64,
    frames: u64,
}

impl Forward {
    fn new(init: WorkerInit) -> Self {
        Self { queues: init.queues, source: init.source, held: ArrayVec::new(), polls: 0, frames: 0 }
    }
}

impl PollLoop for Forward {
    fn poll(&mut self) -> bool {
        let before = self.frames;
        while !self.held.is_full() {
            self.held.push(self.source.alloc().expect("the pool is large enough"));
        }
        for port in 0..self.queues.ports() {
            let mut burst = ArrayVec::new();
            self.queues.rx(port, &mut burst);
            self.frames += burst.len() as u64;
            for frame in &mut burst {
                let (to, from) = frame.bytes_mut()[..12].split_at_mut(6);
                to.swap_with_slice(from);
            }
            self.queues.tx(self.queues.ports() - 1 - port, &mut burst);
        }
        self.polls += 1;
        if self.polls == 10_000 {
            println!("forwarding");
        }
        self.frames > before
    }

    fn drain(&mut self) {
        assert!(self.polls == 0 || self.held.is_full());
        self.held.clear();
    }
}

fn forward_until_signalled() {
    let spec = Spec { idle: Idle::Spin, ..spec(&["net_null0,size=64", "net_null1,size=64"]) };
    let gateway = Gateway::bring_up(spec).unwrap();
    assert!(gateway.ports().iter().all(|p| p.driver == "net_null" && !p.has_mac_filter && p.promiscuous));
    let report = gateway.run(Forward::new).unwrap();
    assert_eq!(report.frames_in_use, 0);
    assert!(matches!(report.cause, StopCause::Signal(libc::SIGTERM | libc::SIGINT)), "{report:?}");
}

fn hangup() {
    let mut gateway = Gateway::bring_up(spec(&["net_null0", "net_null1"])).unwrap();
    gateway.on_hangup(|| println!("hung up"));
    let report = gateway.run(Forward::new).unwrap();
    assert_eq!(report, StopReport { frames_in_use: 0, cause: StopCause::Signal(libc::SIGTERM) });
}

fn headroom() {
    let report = once(spec(&["net_null0"]), |_, source| {
        let mut frame = source.alloc().unwrap();
        assert_eq!((frame.octets(), frame.segments(), frame.headroom()), (0, 1, 128));
        // An IPv6 packet with a payload.
        frame.push_back(40 + 1000).unwrap();
        for (n, octet) in frame.bytes_mut().iter_mut().enumerate() {
            *octet = u8::try_from(n % 251).unwrap();
        }
        let payload = frame.bytes()[40..].to_vec();
        let at = frame.bytes()[40..].as_ptr();
        // To IPv4 and back, with a fragment header and a tagged Ethernet header, a hundred times.
        for _ in 0..100 {
            frame.pull_front(40).unwrap();
            frame.push_front(20).unwrap();
            assert_eq!((frame.bytes()[20..].as_ptr(), frame.octets()), (at, 1020));
            frame.bytes_mut()[..20].fill(0x45);
            frame.pull_front(20).unwrap();
            frame.push_front(48).unwrap();
            frame.bytes_mut()[..48].fill(0x60);
            frame.push_front(18).unwrap();
            assert_eq!(frame.bytes()[66..].as_ptr(), at);
            frame.pull_front(26).unwrap();
            assert_eq!((frame.bytes()[40..].as_ptr(), frame.octets()), (at, 1040));
        }
        assert_eq!(frame.bytes()[40..], payload);
        assert_eq!(frame.packet_octets(), 1040);
        // What does not fit is refused and changes nothing.
        let (front, back) = (frame.headroom(), frame.tailroom());
        assert!(frame.push_front(front + 1).is_err());
        assert!(frame.push_back(back + 1).is_err());
        assert!(frame.pull_front(1041).is_err());
        assert!(frame.push_front(1 << 17).is_err());
        assert_eq!((frame.bytes()[40..].as_ptr(), frame.octets()), (at, 1040));
        frame.truncate(2000);
        assert_eq!(frame.octets(), 1040);
        frame.truncate(41);
        assert_eq!((frame.octets(), frame.packet_octets()), (41, 41));
        frame.push_back(frame.tailroom()).unwrap();
        frame.push_front(frame.headroom()).unwrap();
        assert_eq!((frame.headroom(), frame.tailroom(), frame.octets()), (0, 0, 2048 + 128));
        assert_eq!(frame.rss_hash(), None);
    });
    assert_eq!(report, CLEAN);
}

fn ring() {
    let report = once(spec(&["net_ring0"]), |queues, source| {
        // A port that is not there gives and takes nothing.
        let mut burst = ArrayVec::<MbufFrame, BURST>::new();
        queues.rx(1, &mut burst);
        assert!(burst.is_empty());
        let mut sent = 0u16;
        let left = loop {
            while !burst.is_full() {
                let mut frame = source.alloc().unwrap();
                frame.push_back(64).unwrap();
                frame.bytes_mut()[..2].copy_from_slice(&sent.to_be_bytes());
                sent += 1;
                burst.push(frame);
            }
            let before = burst.len();
            queues.tx(0, &mut burst);
            if !burst.is_empty() {
                assert!(burst.len() <= before);
                break burst.len();
            }
        };
        let number = |frame: &MbufFrame| u16::from_be_bytes([frame.bytes()[0], frame.bytes()[1]]);
        let first_left = sent - u16::try_from(left).unwrap();
        assert!(first_left > 32, "the ring took {first_left} frames");
        let numbers: Vec<u16> = burst.iter().map(number).collect();
        assert_eq!(numbers, (first_left..sent).collect::<Vec<_>>());
        burst.clear();
        let mut next = 0;
        while next < 100 {
            let mut back = ArrayVec::<MbufFrame, BURST>::new();
            queues.rx(0, &mut back);
            for frame in &back {
                assert_eq!((number(frame), frame.octets()), (next, 64));
                next += 1;
            }
        }
        // The rest stays in the ring, for the stop to find.
    });
    assert_eq!(report, CLEAN);
}

fn pool() {
    let report = once(spec(&["net_null0"]), |_, source| {
        for _ in 0..3 {
            let mut all = Vec::new();
            while let Some(frame) = source.alloc() {
                all.push(frame);
            }
            assert_eq!(all.len(), 4095);
        }
    });
    assert_eq!(report, CLEAN);
}

fn jumbo() {
    let mut spec = spec(&["net_null0"]);
    spec.ports[0].mtu = 9000;
    let report = once(spec, |_, source| {
        let mut frame = source.alloc().unwrap();
        assert!(frame.tailroom() >= 9022, "{frame:?}");
        frame.push_back(9022).unwrap();
        frame.bytes_mut().fill(0x5a);
        assert_eq!((frame.octets(), frame.segments(), frame.headroom()), (9022, 1, 128));
    });
    assert_eq!(report, CLEAN);
}

fn leak() {
    static KEPT: std::sync::Mutex<Option<MbufFrame>> = std::sync::Mutex::new(None);
    let spec = spec(&["net_null0"]);
    let group = spec.app_group.clone();
    let report = once(spec, |_, source| {
        let mut frame = source.alloc().unwrap();
        frame.push_back(5).unwrap();
        frame.bytes_mut().copy_from_slice(b"still");
        *KEPT.lock().unwrap() = Some(frame);
    });
    assert_eq!(report.frames_in_use, 1);
    let frame = KEPT.lock().unwrap().take().unwrap();
    assert_eq!(frame.bytes(), b"still");
    drop(frame);
    gone(&group);
}

struct Panics(Forward);

impl PollLoop for Panics {
    fn poll(&mut self) -> bool {
        assert!(self.0.polls < 100, "on purpose");
        self.0.poll()
    }

    fn drain(&mut self) {
        unreachable!("a loop that panicked is not called again");
    }
}

fn panicking() {
    let gateway = Gateway::bring_up(spec(&["net_null0"])).unwrap();
    match gateway.run(|init| Panics(Forward::new(init))) {
        Err(BringupError::WorkerPanicked { worker: 0, message }) => assert_eq!(message, "on purpose"),
        other => panic!("{other:?}"),
    }
    assert_eq!(capsule_ffi::pool::in_use_at_end(), 0);
}

fn panicking_start() {
    let gateway = Gateway::bring_up(spec(&["net_null0"])).unwrap();
    let made = gateway.run(|init| -> Forward { panic!("no worker {}", init.id) });
    assert!(matches!(made, Err(BringupError::WorkerPanicked { worker: 0, .. })), "{made:?}");
}

fn two_workers() {
    let cpus = cpus();
    if cpus.len() < 2 {
        println!("skipped: this machine has one core");
        return;
    }
    // Given in the wrong order on purpose; the main core is a worker's core.
    let spec = Spec { worker_cores: vec![cpus[1], cpus[0]], ..spec(&["net_null0"]) };
    let gateway = Gateway::bring_up(spec).unwrap();
    assert_eq!(gateway.ports()[0].rx_queues, 2);
    let stop = gateway.stop_handle();
    let seen = Arc::new(AtomicU32::new(0));
    let all = Arc::clone(&seen);
    let report = gateway
        .run(move |init| {
            assert_eq!((init.workers, init.core), (2, cpus[usize::from(init.id)]));
            // SAFETY: has no preconditions.
            let cpu = unsafe { libc::sched_getcpu() };
            assert_eq!(cpu, i32::from(init.core));
            seen.fetch_or(1 << init.id, Ordering::SeqCst);
            let (seen, stop) = (Arc::clone(&seen), stop.clone());
            Once {
                queues: init.queues,
                source: init.source,
                work: move |_: &mut DpdkQueues, _: &mut MempoolSource| {
                    while seen.load(Ordering::SeqCst) != 3 {
                        std::thread::yield_now();
                    }
                },
                stop,
            }
        })
        .unwrap();
    assert_eq!((report, all.load(Ordering::SeqCst)), (CLEAN, 3));
}

fn registered() {
    let report = once(spec(&["net_null0"]), |_, _| {
        // SAFETY: reads a variable of this thread.
        assert_ne!(unsafe { capsule_ffi::_rte_lcore_id() }, u32::MAX);
    });
    assert_eq!(report, CLEAN);
}

fn early_stop() {
    let gateway = Gateway::bring_up(spec(&["net_null0"])).unwrap();
    gateway.stop_handle().stop();
    assert_eq!(gateway.run(Forward::new).unwrap(), CLEAN);
}

fn same_name() {
    let first = Gateway::bring_up(spec(&["net_null0"])).unwrap();
    match Gateway::bring_up(spec(&["net_null1"])) {
        Err(BringupError::NameInUse { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    first.stop_handle().stop();
    assert_eq!(first.run(Forward::new).unwrap(), CLEAN);
}

fn second() {
    assert_eq!(once(spec(&["net_null0"]), |_, _| ()), CLEAN);
    assert!(matches!(Gateway::bring_up(spec(&["net_null1"])), Err(BringupError::AlreadyUp)));
}

fn too_many_workers() {
    let cpus = cpus();
    if cpus.len() < 2 {
        println!("skipped: this machine has one core");
        return;
    }
    // A port that reads one file has one queue pair. The file holds a header of libpcap's, and no packets.
    let file = std::env::temp_dir().join(format!("causeway-{}.pcap", std::process::id()));
    let header = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1].map(u32::to_ne_bytes).concat();
    std::fs::write(&file, header).unwrap();
    let device = format!("net_pcap0,rx_pcap={0},tx_pcap={0}.out", file.display());
    let spec = Spec { worker_cores: cpus[..2].to_vec(), ..spec(&["net_null0", &device]) };
    let group = spec.app_group.clone();
    let up = Gateway::bring_up(spec);
    std::fs::remove_file(&file).unwrap();
    let _ = std::fs::remove_file(format!("{}.out", file.display()));
    match up {
        Err(BringupError::TooFewQueues { port, queues: 1, workers: 2, .. }) => assert_eq!(port, "p1"),
        other => panic!("{other:?}"),
    }
    gone(&group);
    assert_eq!(cpus, self::cpus(), "the main thread got its CPUs back");
}

fn broken_device() {
    let spec = spec(&["net_pcap0,rx_pcap=/nonexistent/causeway.pcap"]);
    let group = spec.app_group.clone();
    let error = Gateway::bring_up(spec).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, BringupError::DeviceMissing { .. }), "{text}");
    assert!(text.contains("`p0`") && text.contains("/nonexistent/causeway.pcap"), "{text}");
    gone(&group);
}

/// Nothing of a gateway of this name is left in the run-time folders.
fn gone(group: &str) {
    let mut folders = vec!["/run/causeway".into(), "/var/run/dpdk".into(), std::env::temp_dir().join("dpdk")];
    folders.extend(std::env::var_os("XDG_RUNTIME_DIR").map(|f| std::path::PathBuf::from(f).join("dpdk")));
    for folder in folders {
        let Ok(entries) = folder.read_dir() else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(!name.contains(group), "{} is left", entry.path().display());
        }
    }
}

fn nothing_left() {
    let spec = spec(&["net_null0"]);
    let group = spec.app_group.clone();
    assert_eq!(once(spec, |_, _| ()), CLEAN);
    gone(&group);
}

fn control_cpus() {
    let before = cpus();
    let gateway = Gateway::bring_up(spec(&["net_null0"])).unwrap();
    assert_eq!(cpus().len(), 1, "the main thread is pinned");
    let after = std::thread::spawn(|| {
        assert_eq!(cpus().len(), 1, "and so is what it starts");
        control_affinity().unwrap();
        cpus()
    });
    assert_eq!(after.join().unwrap(), before);
    gateway.stop_handle().stop();
    assert_eq!(gateway.run(Forward::new).unwrap(), CLEAN);
    assert_eq!(cpus(), before);
}

fn control() {
    let gateway = Gateway::bring_up(spec(&["net_null0,size=64", "net_null1,size=64"])).unwrap();
    assert!(gateway.warnings().is_empty(), "ordinary pages were asked for: {:?}", gateway.warnings());
    let control: Control = gateway.control();
    let stop = gateway.stop_handle();
    let asked = control.clone();
    let watcher = std::thread::spawn(move || {
        while asked.stats(1).unwrap().tx_frames < 100_000 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(asked.stats(0).unwrap().rx_frames >= 100_000);
        let (used, all) = asked.frames().unwrap();
        assert!(used >= 32 && all == 4095, "{used} of {all}");
        assert!(asked.link(0).unwrap().up);
        assert_eq!(asked.stats(2), Err(ControlError::NoSuchPort(2)));
        assert_eq!(asked.add_mac(0, MacAddr([0, 0, 0x5e, 0, 2, 64])), Ok(MacFilter::Promiscuous));
        assert_eq!(asked.remove_mac(0, MacAddr([0, 0, 0x5e, 0, 2, 64])), Ok(()));
        assert!(matches!(asked.add_mac(0, MacAddr::BROADCAST), Err(ControlError::NotUnicast(_))));
        assert_eq!(asked.ports().unwrap().len(), 2);
        stop.stop();
    });
    assert_eq!(gateway.run(Forward::new).unwrap(), CLEAN);
    watcher.join().unwrap();
    assert_eq!(control.stats(0), Err(ControlError::Ended));
    assert_eq!(control.frames(), Err(ControlError::Ended));
}
