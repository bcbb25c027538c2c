//! Why a gateway did not come up, or did not end well. Each says what it is about and what to do.

use std::fmt;
use std::path::PathBuf;

/// A right that the process lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To open packet sockets and lock their rings in memory.
    PacketSocket,
    /// To change interfaces: promiscuous mode, new tap devices, XDP programs.
    NetAdmin,
    /// To use the device file of a card.
    Vfio,
    /// To write where something is kept.
    Folder,
    /// Any: DPDK said no more than that.
    Unknown,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PacketSocket => "run as root, or grant CAP_NET_RAW, CAP_NET_ADMIN and CAP_IPC_LOCK",
            Self::NetAdmin => "run as root, or grant CAP_NET_ADMIN and CAP_NET_RAW",
            Self::Vfio => "run as root, or give the user the group's file in /dev/vfio and a memlock limit for its memory",
            Self::Folder => "run as root, or as a user who may write there",
            Self::Unknown => "run as root, or grant what DPDK's message asks for",
        })
    }
}

/// Why a gateway did not come up, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BringupError {
    /// No port was given.
    #[error("no port is configured: a gateway needs at least one")]
    NoPorts,
    /// A name cannot be used.
    #[error("{what} `{name}` cannot be used: letters, digits, `-`, `_` and `.`, at most 63 of them")]
    BadName {
        /// Name of what.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Two ports have the same name or device.
    #[error("{what} `{name}` is used by two ports: give each its own")]
    Duplicate {
        /// What is the same.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A number is out of its range.
    #[error("{what} is {value}: {allowed}")]
    OutOfRange {
        /// Number of what.
        what: String,
        /// The number.
        value: u64,
        /// What is allowed.
        allowed: String,
    },
    /// A core cannot be used.
    #[error("core {core} cannot be used: {why}; usable are {usable}")]
    BadCore {
        /// The core.
        core: u16,
        /// Why not.
        why: String,
        /// Cores that this process may use.
        usable: String,
    },
    /// A gateway of this name is running.
    #[error("a gateway named `{name}` is running already (process {pid}, {lock}): stop it, or choose another name",
        pid = pid.map_or_else(|| "unknown".to_owned(), |p| p.to_string()), lock = lock.display())]
    NameInUse {
        /// The name.
        name: String,
        /// Who has it, if that can be seen.
        pid: Option<u32>,
        /// The file that says so.
        lock: PathBuf,
    },
    /// This process brought a gateway up before; DPDK starts once in a process.
    #[error("DPDK was started in this process before, and cannot be started twice: start a new process")]
    AlreadyUp,
    /// A device is not there.
    #[error("port `{port}`: device `{device}` is not there: {hint}{}", detail(.dpdk))]
    DeviceMissing {
        /// The port.
        port: String,
        /// Its device.
        device: String,
        /// What to do.
        hint: String,
        /// What DPDK said.
        dpdk: Vec<String>,
    },
    /// A card is there, but bound to a driver that DPDK cannot use.
    #[error(
        "port `{port}`: card {device} is bound to {driver}: bind it to vfio-pci (dpdk-devbind.py -b vfio-pci {device})"
    )]
    NotBound {
        /// The port.
        port: String,
        /// Its device.
        device: String,
        /// The driver that has it.
        driver: String,
    },
    /// The process may not do something that it has to.
    #[error("{what}: no permission: {right}{}", detail(.dpdk))]
    NoPermission {
        /// What it tried.
        what: String,
        /// What it lacks.
        right: Right,
        /// What DPDK said.
        dpdk: Vec<String>,
    },
    /// There is not enough memory.
    #[error("{what} needs {need_mib} MiB, and {have_mib} MiB are free: {hint}{}", detail(.dpdk))]
    NoMemory {
        /// What for.
        what: String,
        /// MiB that it takes.
        need_mib: u64,
        /// MiB that are there.
        have_mib: u64,
        /// What to do.
        hint: &'static str,
        /// What DPDK said.
        dpdk: Vec<String>,
    },
    /// A device has fewer queue pairs than there are workers.
    #[error("port `{port}`: device `{device}` has {queues} queue pairs, and there are {workers} workers: \
             configure at most {queues} worker cores{}", if *.af_packet { ", or qpairs=N on the device" } else { "" })]
    TooFewQueues {
        /// The port.
        port: String,
        /// Its device.
        device: String,
        /// Queue pairs of the device.
        queues: u16,
        /// Workers.
        workers: u16,
        /// Whether the device can be told to have more.
        af_packet: bool,
    },
    /// A kernel interface is set to a smaller MTU than the port.
    #[error(
        "port `{port}`: mtu is {wanted}, and interface {interface} has {has}: ip link set dev {interface} mtu {wanted}"
    )]
    InterfaceMtu {
        /// The port.
        port: String,
        /// The kernel interface.
        interface: String,
        /// MTU of the port.
        wanted: u16,
        /// MTU of the interface.
        has: u32,
    },
    /// A device refused a setting.
    #[error("port `{port}`: device `{device}`: {step} failed: {reason}{}", detail(.dpdk))]
    DeviceRefused {
        /// The port.
        port: String,
        /// Its device.
        device: String,
        /// What was tried.
        step: &'static str,
        /// DPDK's error.
        reason: String,
        /// What DPDK said.
        dpdk: Vec<String>,
    },
    /// DPDK did not start.
    #[error("DPDK did not start: {reason}{}", detail(.dpdk))]
    Dpdk {
        /// DPDK's error.
        reason: String,
        /// What DPDK said.
        dpdk: Vec<String>,
    },
    /// The kernel would put fragments together before the port sees them.
    #[error(
        "port `{port}`: the kernel would reassemble IPv4 fragments before they reach it, and this binary's \
             setsockopt is not the one in use: do not strip its dynamic symbols, do not link it statically"
    )]
    WouldReassemble {
        /// The port.
        port: String,
    },
    /// Capsule's runtime failed.
    #[error("the runtime failed: {0}")]
    Runtime(String),
    /// A worker panicked, and the gateway was stopped.
    #[error("worker {worker} panicked, and the gateway was stopped: {message}")]
    WorkerPanicked {
        /// The worker.
        worker: u16,
        /// The panic's message.
        message: String,
    },
    /// A call to the operating system failed.
    #[error("{what}: {source}")]
    Os {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// What DPDK said, behind an error's own words.
fn detail(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!(" (DPDK: {})", lines.join("; ")) }
}
