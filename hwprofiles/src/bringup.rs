//! Brings ports and cores up on Capsule's runtime, runs workers on them, and ends them.
//!
//! ```text
//!  Spec -> preflight -> name lock -> Capsule's Runtime (EAL, pools, ports, threads) -> Gateway
//!  Gateway::run -> one PollLoop per worker core -> SIGINT, SIGTERM or StopHandle
//!       -> workers drain -> ports close -> pools counted and freed -> EAL ends -> StopReport
//! ```
//!
//! A process brings up one gateway: DPDK starts once. What can be refused by name is refused before it
//! starts, and nothing stays behind then.
//!
//! Needed at run time: CAP_NET_RAW, CAP_NET_ADMIN and CAP_IPC_LOCK for kernel interfaces; the files in
//! `/dev/vfio` for cards; a run-time folder that can be written (`/run/causeway`, and `/var/run/dpdk` for
//! EAL). Huge pages need no mount: EAL runs with `--in-memory`.
//!
//! Not handled: secondary processes, ports that come and go, workers that change cores.

mod affinity;
mod control;
mod error;
mod lock;
mod preflight;
mod spec;
mod worker;

pub use affinity::control_affinity;
pub use control::{Control, ControlError, Link, MacFilter, PortStats};
pub use error::{BringupError, Right};
pub use spec::{Device, Idle, Memory, ParseDeviceError, PortSpec, RssSpec, Spec, Vdev, VdevDriver};
pub use worker::{LEAVE_WITHIN, PollLoop, StopHandle};

use crate::mbuf::MempoolSource;
use crate::queues::{DpdkQueues, QueuePair};
use affinity::CpuSet;
use capsule::{Runtime, UnixSignal};
use capsule_ffi as ffi;
use capsule_ffi::fault::{Fault, Step};
use causeway_wire::MacAddr;
use lock::NameLock;
use preflight::Decided;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;
use worker::{Shared, Worker};

/// Frames that each worker's thread keeps to itself, so that most allocations touch nothing shared.
const POOL_CACHE_FRAMES: usize = 256;

/// How often the main thread looks whether the workers have ended.
const STOP_CHECK: Duration = Duration::from_millis(20);

/// A port that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// Its name in the configuration.
    pub name: String,
    /// Its device, with all arguments.
    pub device: String,
    /// The driver that has it, as DPDK names it.
    pub driver: String,
    /// Its own MAC address.
    pub mac: MacAddr,
    /// Largest packet in octets, without the Ethernet header.
    pub mtu: u16,
    /// Queue pairs that are in use: as many as there are workers.
    pub rx_queues: u16,
    /// The device can filter for more MAC addresses than its own.
    pub has_mac_filter: bool,
    /// It takes frames for every MAC address.
    pub promiscuous: bool,
    /// Fields that spread packets over queues (DPDK's `RTE_ETH_RSS_*`); 0 if the device does not say.
    pub rss_fields: u64,
    /// Receive offloads that are on (DPDK's `RTE_ETH_RX_OFFLOAD_*`).
    pub rx_offloads: u64,
    /// Transmit offloads that are on (DPDK's `RTE_ETH_TX_OFFLOAD_*`).
    pub tx_offloads: u64,
    /// Its number in DPDK.
    dpdk_port: u16,
}

/// What a worker gets to start with, on its own thread.
#[derive(Debug)]
pub struct WorkerInit {
    /// Number of the worker, from 0.
    pub id: u16,
    /// How many there are.
    pub workers: u16,
    /// The core that it is pinned to.
    pub core: u16,
    /// Its queues, one pair on each port.
    pub queues: DpdkQueues,
    /// Fresh frames.
    pub source: MempoolSource,
}

/// Why a gateway stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// A signal: SIGINT or SIGTERM.
    Signal(i32),
    /// [`StopHandle::stop`].
    Asked,
}

/// How a gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopReport {
    /// Frames that were not given back when ports were closed. Anything but 0 is a fault.
    pub frames_in_use: u32,
    /// Why it stopped.
    pub cause: StopCause,
}

/// Ports and cores that are up, ready to run workers.
///
/// Meant to be run: a gateway that is dropped without leaves its threads parked until the process ends.
pub struct Gateway {
    // First, so that ports are given back as they were before the runtime closes them.
    release: Release,
    runtime: Runtime,
    spec: Spec,
    ports: Vec<PortInfo>,
    warnings: Vec<String>,
    shared: Arc<Shared>,
    hangup: Arc<dyn Fn()>,
    all_cpus: CpuSet,
    // Last, so that the name is free only when all else is gone.
    _lock: NameLock,
}

/// Ends the access of control threads, takes promiscuous modes back, and ends the handing out of frames.
struct Release(Control);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.close();
        ffi::pool::close();
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("spec", &self.spec)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

static USED: AtomicBool = AtomicBool::new(false);

impl Gateway {
    /// Brings everything up, up to but not including the start of the ports. Pins the calling thread to
    /// the main core, and blocks SIGHUP, SIGINT and SIGTERM in it until [`run`](Self::run) is ready for
    /// them; other threads that the process has should block them too.
    ///
    /// # Errors
    /// See [`BringupError`].
    pub fn bring_up(mut spec: Spec) -> Result<Self, BringupError> {
        spec.fill_in();
        let decided = preflight::check(&spec)?;
        let lock = NameLock::take(&spec.app_group)?;
        if USED.swap(true, Ordering::AcqRel) {
            return Err(BringupError::AlreadyUp);
        }
        let all_cpus = CpuSet::of_this_thread()
            .map_err(|source| BringupError::Os { what: "asking which CPUs may be used".into(), source })?;
        ffi::log::redirect(log_line)
            .map_err(|source| BringupError::Os { what: "taking DPDK's log".into(), source })?;
        let signals = Signals::block();
        let built = build(&spec, &decided, &all_cpus);
        let (runtime, ports, release) = match built {
            Ok(built) => built,
            Err(error) => {
                // SAFETY: the runtime is gone, and with it all that used DPDK; its threads are parked.
                let _ = unsafe { ffi::rte_eal_cleanup() };
                let _ = all_cpus.apply();
                signals.restore();
                return Err(error);
            }
        };
        affinity::keep_for_control(control_cpus(&all_cpus, &spec));
        Ok(Self {
            release,
            runtime,
            ports,
            warnings: decided.warnings,
            shared: Arc::new(Shared::default()),
            hangup: Arc::new(|| ()),
            all_cpus,
            spec,
            _lock: lock,
        })
    }

    /// The ports, in the order of the configuration.
    #[must_use]
    pub fn ports(&self) -> &[PortInfo] {
        &self.ports
    }

    /// What is not as fast as it could be, and why.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Access to the ports for control threads.
    #[must_use]
    pub fn control(&self) -> Control {
        self.release.0.clone()
    }

    /// Stops the gateway from inside the process.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.shared))
    }

    /// Calls this on SIGHUP, on the main thread; it should be quick.
    pub fn on_hangup(&mut self, hangup: impl Fn() + 'static) {
        self.hangup = Arc::new(hangup);
    }

    /// Starts the ports and runs a loop on each worker core, made there by `make`, until SIGINT, SIGTERM
    /// or [`StopHandle::stop`]. Then workers drain, ports are closed, and frames are counted.
    ///
    /// A loop must keep its queues, its source and its frames to itself.
    ///
    /// # Errors
    /// [`BringupError::WorkerPanicked`] when a worker panicked (the gateway is stopped in order all the
    /// same), or what kept the ports from starting.
    pub fn run<P, F>(self, make: F) -> Result<StopReport, BringupError>
    where
        P: PollLoop + 'static,
        F: Fn(WorkerInit) -> P + Send + Sync + 'static,
    {
        // In this order, so that an early return lets go of the name last and of the ports first.
        let Self { _lock, mut runtime, spec, ports, shared, hangup, all_cpus, release, .. } = self;
        let make = Arc::new(make);
        let workers = u16::try_from(spec.worker_cores.len()).unwrap_or(u16::MAX);
        shared.running.store(usize::from(workers), Ordering::Release);
        for (id, core) in (0u16..).zip(&spec.worker_cores) {
            let pairs: Vec<QueuePair> =
                ports.iter().map(|p| QueuePair { port: p.dpdk_port, queue: id }).collect();
            let rings = pairs
                .iter()
                .zip(&spec.ports)
                .filter(|(_, port)| port.device.vdev_driver() == Some(VdevDriver::Ring))
                .map(|(pair, _)| *pair)
                .collect::<Vec<_>>();
            let (core, idle) = (*core, spec.idle);
            let (make, shared) = (Arc::clone(&make), Arc::clone(&shared));
            runtime
                .add_pipeline_to_core(usize::from(core), move |_| {
                    Worker::new(id, idle, rings, shared, move || make(init(id, workers, core, pairs)))
                })
                .map_err(|e| BringupError::Runtime(e.to_string()))?;
        }

        let signal = Arc::new(AtomicI32::new(0));
        install_stop(&mut runtime, &spec, &shared, &signal, hangup)?;

        // When it fails, the ports did not start, and workers were never let run.
        let failed = runtime.execute().err().map(|e| explain(&spec, None, &e.to_string()));
        drop(release);
        // Closes ports, counts and frees pools, ends EAL.
        drop(runtime);
        let _ = all_cpus.apply();
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some((worker, message)) = shared.first_panic() {
            return Err(BringupError::WorkerPanicked { worker, message });
        }
        let cause = match signal.load(Ordering::Acquire) {
            0 => StopCause::Asked,
            number => StopCause::Signal(number),
        };
        Ok(StopReport { frames_in_use: ffi::pool::in_use_at_end(), cause })
    }
}

/// What a worker starts with. On its own thread, which is pinned, and has a pool on its node.
fn init(id: u16, workers: u16, core: u16, pairs: Vec<QueuePair>) -> WorkerInit {
    // SAFETY: reads files, no more.
    let node = unsafe { ffi::numa_node_of_cpu(i32::from(core)) };
    let source = MempoolSource::on_socket(node);
    // SAFETY: Capsule set up a queue pair for each core, in the order of the cores, and starts ports
    // before it lets workers run; this worker is the only one with this number.
    let queues = unsafe { DpdkQueues::new(pairs.into_boxed_slice()) };
    let source = source.unwrap_or_else(|| unreachable!("a pool was made for the node of every core"));
    WorkerInit { id, workers, core, queues, source }
}

/// Teaches the runtime to stop in our order: signals tell workers, and the last signal, which the main
/// thread sends itself when all workers have ended, ends the wait.
fn install_stop(
    runtime: &mut Runtime,
    spec: &Spec,
    shared: &Arc<Shared>,
    signal: &Arc<AtomicI32>,
    hangup: Arc<dyn Fn()>,
) -> Result<(), BringupError> {
    let (stop, first) = (Arc::clone(shared), Arc::clone(signal));
    runtime.set_on_signal(move |which| {
        let number = match which {
            UnixSignal::SIGHUP => {
                hangup();
                return false;
            }
            UnixSignal::SIGINT => libc::SIGINT,
            UnixSignal::SIGTERM => libc::SIGTERM,
        };
        if stop.running.load(Ordering::Acquire) == 0 {
            return true;
        }
        if !stop.stopping.swap(true, Ordering::AcqRel) {
            first.store(number, Ordering::Release);
        }
        false
    });
    let watched = Arc::clone(shared);
    let unblocked = AtomicBool::new(false);
    runtime
        .add_periodic_task_to_core(
            usize::from(spec.main_core),
            move || {
                // This runs only where the runtime waits for signals, so its handlers are in place.
                if !unblocked.swap(true, Ordering::AcqRel) {
                    Signals::unblock();
                }
                if watched.running.load(Ordering::Acquire) == 0 {
                    // SAFETY: sends a signal to this thread, which handles it.
                    let _ = unsafe { libc::raise(libc::SIGTERM) };
                }
            },
            STOP_CHECK,
        )
        .map_err(|e| BringupError::Runtime(e.to_string()))?;
    Ok(())
}

/// Hands settings over, and has Capsule build its runtime.
fn build(
    spec: &Spec,
    decided: &Decided,
    all_cpus: &CpuSet,
) -> Result<(Runtime, Vec<PortInfo>, Release), BringupError> {
    let config = serde_json::from_value(capsule_config(spec, decided))
        .map_err(|e| BringupError::Runtime(format!("its configuration: {e}")))?;
    ffi::pool::set_frame_octets(spec.frame_octets());
    ffi::port::clear();
    for port in &spec.ports {
        ffi::port::set(&port.device.name(), settings(port));
    }
    let _ = (ffi::fault::take(), ffi::log::take_complaints());
    // SAFETY: reads a number.
    let cleared_before = unsafe { ffi::cw_fanout_cleared() };
    let runtime = Runtime::build(config).map_err(|e| {
        let _ = all_cpus.apply();
        explain(spec, Some(decided), &e.to_string())
    })?;
    fragments_arrive_singly(spec, cleared_before)?;
    let mut ports = spec.ports.iter().map(port_info).collect::<Result<Vec<_>, _>>()?;
    // From here on an error takes back what was done to the ports: this goes before the runtime does.
    let (mut result, control) = (Ok(()), Control::new(Vec::new()));
    let release = Release(control.clone());
    for info in &mut ports {
        if result.is_ok() && !info.has_mac_filter {
            result = control::promiscuous(info);
        }
    }
    control.set_ports(ports.clone());
    match result {
        Ok(()) => Ok((runtime, ports, release)),
        Err(error) => Err(BringupError::NoPermission {
            what: error.to_string(),
            right: Right::NetAdmin,
            dpdk: ffi::log::take_complaints(),
        }),
    }
}

/// Every queue of an AF_PACKET port joins a fan-out group, and every one of these calls must have gone
/// through our `setsockopt`, or the kernel reassembles fragments on that port.
fn fragments_arrive_singly(spec: &Spec, before: u32) -> Result<(), BringupError> {
    // SAFETY: reads a number.
    let cleared = unsafe { ffi::cw_fanout_cleared() }.wrapping_sub(before);
    let af_packet = spec.ports.iter().filter(|p| p.device.vdev_driver() == Some(VdevDriver::AfPacket));
    let (mut sockets, mut first) = (0u32, None);
    for port in af_packet {
        first.get_or_insert(&port.name);
        if let Device::Vdev(vdev) = &port.device {
            sockets += vdev.arg("qpairs").and_then(|n| n.parse::<u32>().ok()).unwrap_or(1);
        }
    }
    match first {
        Some(port) if cleared < sockets => Err(BringupError::WouldReassemble { port: port.clone() }),
        _ => Ok(()),
    }
}

/// Capsule's configuration. Never read from arguments or files of Capsule's.
fn capsule_config(spec: &Spec, decided: &Decided) -> serde_json::Value {
    let mut args = vec!["--no-telemetry"];
    let memory = decided.memory_mib.to_string();
    // Either way nothing is shared with other processes, and no file is left behind. EAL takes
    // `--in-memory` with huge pages only.
    if decided.huge_pages {
        args.push("--in-memory");
    } else {
        args.extend(["--no-shconf", "--no-huge", "-m", &memory]);
    }
    if spec.ports.iter().all(|p| matches!(p.device, Device::Vdev(_))) {
        // No card is ours, so none is touched, and addresses need not be physical.
        args.extend(["--no-pci", "--iova-mode=va"]);
    }
    let ports: Vec<serde_json::Value> = spec
        .ports
        .iter()
        .map(|port| {
            let mut value = serde_json::json!({
                "name": port.name,
                "device": port.device.name(),
                "cores": spec.worker_cores,
                "rxd": port.rx_descriptors,
                "txd": port.tx_descriptors,
                "promiscuous": false,
                "multicast": true,
            });
            if let Device::Vdev(vdev) = &port.device
                && !vdev.args().is_empty()
            {
                value["args"] = vdev.args().into();
            }
            value
        })
        .collect();
    let frames = usize::try_from(spec.mempool_frames).unwrap_or(usize::MAX);
    serde_json::json!({
        "app_name": "causeway",
        "app_group": spec.app_group,
        "master_core": spec.main_core,
        "cores": decided.extra_cores,
        "mempool": {
            "capacity": frames,
            // DPDK wants a pool that is half as large again as a cache, and workers must not starve
            // each other with what they keep.
            "cache_size": POOL_CACHE_FRAMES.min(frames / (4 * (spec.worker_cores.len() + 1))),
        },
        "ports": ports,
        "dpdk_args": args.join(" "),
    })
}

/// What Capsule cannot be told.
fn settings(port: &PortSpec) -> ffi::port::Settings {
    let when = |on: bool, bits: u64| if on { bits } else { 0 };
    ffi::port::Settings {
        mtu: Some(port.mtu),
        rss_fields: port.rss.fields,
        rss_key: port.rss.key.clone(),
        rx_offloads: when(
            port.rx_checksums,
            ffi::CW_RX_OFFLOAD_IPV4_CKSUM | ffi::CW_RX_OFFLOAD_TCP_CKSUM | ffi::CW_RX_OFFLOAD_UDP_CKSUM,
        ),
        tx_offloads: when(
            port.tx_checksums,
            ffi::CW_TX_OFFLOAD_IPV4_CKSUM | ffi::CW_TX_OFFLOAD_TCP_CKSUM | ffi::CW_TX_OFFLOAD_UDP_CKSUM,
        ),
    }
}

/// What a port turned out to be.
fn port_info(port: &PortSpec) -> Result<PortInfo, BringupError> {
    let device = port.device.name();
    let outcome = ffi::port::outcome(&device)
        .ok_or_else(|| BringupError::Runtime(format!("port `{}` was not configured", port.name)))?;
    let mut info = ffi::rte_eth_dev_info::default();
    // SAFETY: the structure can be written; the port is there.
    let known = unsafe { ffi::rte_eth_dev_info_get(outcome.port, &raw mut info) };
    let mut address = ffi::rte_ether_addr::default();
    // SAFETY: the address can be written; the port is there.
    let has_mac = unsafe { ffi::rte_eth_macaddr_get(outcome.port, &raw mut address) };
    let refused = |step, errno: i32| BringupError::DeviceRefused {
        port: port.name.clone(),
        device: device.clone(),
        step,
        reason: ffi::error_text(errno.abs()),
        dpdk: ffi::log::take_complaints(),
    };
    if known < 0 {
        return Err(refused("asking what it can do", known));
    }
    if has_mac < 0 {
        return Err(refused("asking for its MAC address", has_mac));
    }
    let driver = if info.driver_name.is_null() {
        String::new()
    } else {
        // SAFETY: the driver's name is a static text that ends in NUL.
        unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
    };
    Ok(PortInfo {
        name: port.name.clone(),
        device: port.device.to_string(),
        driver,
        mac: MacAddr(address.addr_bytes),
        mtu: port.mtu,
        rx_queues: outcome.queues,
        has_mac_filter: info.max_mac_addrs > 1,
        promiscuous: false,
        rss_fields: outcome.rss_fields,
        rx_offloads: outcome.rx_offloads,
        tx_offloads: outcome.tx_offloads,
        dpdk_port: outcome.port,
    })
}

/// Makes an error of what failed last. Capsule's own text is what is left if no call to DPDK failed.
fn explain(spec: &Spec, decided: Option<&Decided>, capsule: &str) -> BringupError {
    let dpdk = ffi::log::take_complaints();
    let Some(Fault { step, subject, errno }) = ffi::fault::take() else {
        // Capsule compares numbers of queues itself, and names only what the device has.
        if let Some(queues) = capsule.split('\'').nth(1).and_then(|n| n.parse().ok()) {
            return too_few_queues(spec, queues);
        }
        return BringupError::Runtime(capsule.to_owned());
    };
    let reason = ffi::error_text(errno);
    let port = spec.ports.iter().find(|p| p.device.name() == subject);
    let named = port.map_or_else(|| subject.clone(), |p| p.name.clone());
    let device = port.map_or_else(|| subject.clone(), |p| p.device.to_string());
    let forbidden = [libc::EPERM, libc::EACCES].contains(&errno)
        || dpdk
            .iter()
            .any(|line| line.contains("Operation not permitted") || line.contains("Permission denied"));
    let refused = |step| BringupError::DeviceRefused {
        port: named.clone(),
        device: device.clone(),
        step,
        reason: reason.clone(),
        dpdk: dpdk.clone(),
    };
    match step {
        Step::Eal if forbidden => {
            BringupError::NoPermission { what: "starting DPDK".into(), right: Right::Unknown, dpdk }
        }
        Step::Eal => BringupError::Dpdk { reason, dpdk },
        Step::RegisterThread => {
            BringupError::Dpdk { reason: format!("a worker's thread was not taken: {reason}"), dpdk }
        }
        Step::PinThread => BringupError::Dpdk { reason: format!("a thread was not pinned: {reason}"), dpdk },
        Step::Pool => BringupError::NoMemory {
            what: subject,
            need_mib: decided.map_or(0, |d| d.memory_mib),
            have_mib: decided.map_or(0, |d| preflight::free_mib(d.huge_pages)),
            hint: "lower mempool_frames, or give more huge pages",
            dpdk,
        },
        Step::FindDevice if forbidden => BringupError::NoPermission {
            what: format!("port `{named}`: making device `{device}`"),
            right: Right::NetAdmin,
            dpdk,
        },
        Step::FindDevice => BringupError::DeviceMissing {
            port: named.clone(),
            device: device.clone(),
            hint: "its driver did not make it".into(),
            dpdk,
        },
        Step::Configure => refused("configuring queues, MTU and offloads"),
        Step::Descriptors => refused("setting numbers of descriptors"),
        Step::RxQueue => refused("setting up a receive queue"),
        Step::TxQueue => refused("setting up a transmit queue"),
        Step::Start => refused("starting"),
    }
}

fn too_few_queues(spec: &Spec, queues: u16) -> BringupError {
    // Ports come up in order, so it is the first one that has not been configured.
    let port = spec.ports.iter().find(|p| ffi::port::outcome(&p.device.name()).is_none());
    BringupError::TooFewQueues {
        port: port.map(|p| p.name.clone()).unwrap_or_default(),
        device: port.map(|p| p.device.to_string()).unwrap_or_default(),
        queues,
        workers: u16::try_from(spec.worker_cores.len()).unwrap_or(u16::MAX),
        af_packet: port.is_some_and(|p| p.device.vdev_driver() == Some(VdevDriver::AfPacket)),
    }
}

/// Where control threads may run.
fn control_cpus(all: &CpuSet, spec: &Spec) -> CpuSet {
    let mut set = *all;
    if spec.idle == Idle::Spin {
        for core in &spec.worker_cores {
            set.remove(*core);
        }
    }
    if set.cpus().next().is_some() { set } else { *all }
}

fn log_line(level: ffi::log::Level, line: &str) {
    use ffi::log::Level;
    match level {
        Level::Error => tracing::error!(target: "dpdk", "{line}"),
        Level::Warning => tracing::warn!(target: "dpdk", "{line}"),
        Level::Info => tracing::info!(target: "dpdk", "{line}"),
        Level::Debug => tracing::debug!(target: "dpdk", "{line}"),
    }
}

/// Which signals the calling thread holds back.
///
/// Between here and the wait of [`Gateway::run`] a signal would find no handler and kill the process.
/// Threads that the runtime makes inherit this, and so leave signals to the main thread.
struct Signals(libc::sigset_t);

impl Signals {
    fn set() -> libc::sigset_t {
        // SAFETY: a set of signals is a row of bits; the call below makes it a proper empty one.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set can be written.
        let _ = unsafe { libc::sigemptyset(&raw mut set) };
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the set is a proper one, and the signals exist.
            let _ = unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        set
    }

    fn block() -> Self {
        let (set, mut before) = (Self::set(), Self::set());
        // SAFETY: both are proper sets of signals.
        let _ = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
        Self(before)
    }

    fn unblock() {
        let set = Self::set();
        // SAFETY: it is a proper set of signals, and the old one is not asked for.
        let _ = unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    }

    fn restore(&self) {
        // SAFETY: it is a proper set of signals, and the old one is not asked for.
        let _ = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}
