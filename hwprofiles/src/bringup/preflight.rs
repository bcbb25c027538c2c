//! What can be found out before DPDK starts. DPDK starts once in a process and says little when it
//! fails, so all that can be refused by name is refused here.

use super::affinity::CpuSet;
use super::error::{BringupError, Right};
use super::spec::{Device, Idle, LINK_OCTETS, Memory, PortSpec, Spec, VdevDriver, is_name};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::path::Path;

/// Octets of a mebibyte.
const MIB: u64 = 1 << 20;

/// MTUs that a port may have: the least that IPv6 allows (RFC 8200 5), and what cards agree on.
const MTUS: std::ops::RangeInclusive<u16> = 1280..=9600;

/// What was decided.
#[derive(Debug)]
pub(crate) struct Decided {
    /// Frames live on huge pages.
    pub(crate) huge_pages: bool,
    /// MiB that EAL takes, where it takes all at once.
    pub(crate) memory_mib: u64,
    /// Cores that are brought up only so that their NUMA nodes get a pool.
    pub(crate) extra_cores: Vec<u16>,
    /// What will cost speed.
    pub(crate) warnings: Vec<String>,
}

/// Checks everything, and decides where frames live.
pub(crate) fn check(spec: &Spec) -> Result<Decided, BringupError> {
    names(spec)?;
    ranges(spec)?;
    let usable = cores(spec)?;
    for port in &spec.ports {
        device(port)?;
    }
    let mut warnings = Vec::new();
    if !capsule_ffi::TESTED {
        warnings.push(format!("{} was never tested with Causeway; 22.11 is", capsule_ffi::dpdk_version()));
    }
    let extra_cores = extra_cores(spec, &usable, &mut warnings);
    let (huge_pages, memory_mib) = memory(spec, &extra_cores, &mut warnings)?;
    if spec.idle == Idle::Spin && usable.cpus().count() <= spec.worker_cores.len() {
        warnings.push(
            "workers spin on every core that this process may use: control has to share with them".into(),
        );
    }
    Ok(Decided { huge_pages, memory_mib, extra_cores, warnings })
}

fn names(spec: &Spec) -> Result<(), BringupError> {
    if spec.ports.is_empty() {
        return Err(BringupError::NoPorts);
    }
    if !is_name(&spec.app_group) {
        return Err(BringupError::BadName { what: "app group", name: spec.app_group.clone() });
    }
    let (mut seen, mut devices, mut interfaces) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for port in &spec.ports {
        if !is_name(&port.name) {
            return Err(BringupError::BadName { what: "port name", name: port.name.clone() });
        }
        if !seen.insert(port.name.as_str()) {
            return Err(BringupError::Duplicate { what: "port name", name: port.name.clone() });
        }
        if !devices.insert(port.device.name()) {
            return Err(BringupError::Duplicate { what: "device", name: port.device.name() });
        }
        if let Device::Vdev(vdev) = &port.device
            && let Some(interface) = vdev.kernel_interface()
            && !interfaces.insert(interface)
        {
            return Err(BringupError::Duplicate { what: "interface", name: interface.to_owned() });
        }
    }
    Ok(())
}

fn ranges(spec: &Spec) -> Result<(), BringupError> {
    let check = |what: String, value: u64, range: std::ops::RangeInclusive<u64>| {
        let allowed = format!("{} to {}", range.start(), range.end());
        if range.contains(&value) { Ok(()) } else { Err(BringupError::OutOfRange { what, value, allowed }) }
    };
    // Queues of all ports full, and bursts in the hands of workers, must leave frames over.
    let queues = u64::try_from(spec.worker_cores.len()).unwrap_or(u64::MAX);
    let descriptors: u64 =
        spec.ports.iter().map(|p| u64::from(p.rx_descriptors) + u64::from(p.tx_descriptors)).sum();
    let holds_frames = |p: &PortSpec| matches!(p.device, Device::Pci(_));
    let least =
        if spec.ports.iter().any(holds_frames) { queues * (descriptors + 512) } else { queues * 1024 };
    check("mempool_frames".into(), u64::from(spec.mempool_frames), least.min(1 << 26)..=1 << 26)?;
    for port in &spec.ports {
        let mtus = u64::from(*MTUS.start())..=u64::from(*MTUS.end());
        check(format!("port `{}`: mtu", port.name), u64::from(port.mtu), mtus)?;
        for (what, value) in
            [("rx_descriptors", port.rx_descriptors), ("tx_descriptors", port.tx_descriptors)]
        {
            check(format!("port `{}`: {what}", port.name), u64::from(value), 32..=32_768)?;
        }
    }
    Ok(())
}

/// Checks that threads can be pinned to all the cores, and says which could be.
fn cores(spec: &Spec) -> Result<CpuSet, BringupError> {
    let os = |source| BringupError::Os { what: "asking which CPUs may be used".into(), source };
    let usable = CpuSet::of_this_thread().map_err(os)?;
    let bad = |core: u16, why: String| BringupError::BadCore { core, why, usable: usable.ranges() };
    if spec.worker_cores.is_empty() {
        return Err(bad(spec.main_core, "no worker core is given, and a gateway needs at least one".into()));
    }
    let mut seen = BTreeSet::new();
    for core in &spec.worker_cores {
        if !seen.insert(*core) {
            return Err(bad(*core, "it is given to two workers".into()));
        }
    }
    let most = capsule_ffi::RTE_MAX_LCORE;
    if u32::from(spec.main_core) >= most {
        return Err(bad(spec.main_core, format!("DPDK's main thread must be on a core below {most}")));
    }
    for core in std::iter::once(&spec.main_core).chain(&spec.worker_cores) {
        if !usable.has(*core) {
            let there = Path::new(&format!("/sys/devices/system/cpu/cpu{core}")).exists();
            let why = if there { "this process may not run on it" } else { "this machine does not have it" };
            return Err(bad(*core, why.into()));
        }
    }
    Ok(usable)
}

fn device(port: &PortSpec) -> Result<(), BringupError> {
    match &port.device {
        Device::Pci(address) => pci(port, &address.to_string()),
        Device::Vdev(vdev) => {
            if let Some(interface) = vdev.kernel_interface() {
                kernel_interface(port, interface)?;
            }
            if vdev.driver() == VdevDriver::AfPacket {
                packet_socket(port)?;
            }
            Ok(())
        }
    }
}

/// A card must be there, and bound to a driver that hands it to user space.
fn pci(port: &PortSpec, address: &str) -> Result<(), BringupError> {
    let folder = Path::new("/sys/bus/pci/devices").join(address);
    if !folder.exists() {
        return Err(BringupError::DeviceMissing {
            port: port.name.clone(),
            device: address.to_owned(),
            hint: "see lspci -D for addresses".into(),
            dpdk: Vec::new(),
        });
    }
    let link = std::fs::read_link(folder.join("driver")).ok();
    let driver = link.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    match driver.as_deref() {
        Some("uio_pci_generic" | "igb_uio" | "mlx4_core" | "mlx5_core" | "mana") => Ok(()),
        Some("vfio-pci") => vfio(port, &folder),
        other => Err(BringupError::NotBound {
            port: port.name.clone(),
            device: address.to_owned(),
            driver: other.unwrap_or("no driver").to_owned(),
        }),
    }
}

fn vfio(port: &PortSpec, folder: &Path) -> Result<(), BringupError> {
    let Ok(group) = std::fs::read_link(folder.join("iommu_group")) else { return Ok(()) };
    let Some(group) = group.file_name() else { return Ok(()) };
    let file = Path::new("/dev/vfio").join(group);
    match std::fs::OpenOptions::new().read(true).write(true).open(&file) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(BringupError::NoPermission {
            what: format!("port `{}`: {}", port.name, file.display()),
            right: Right::Vfio,
            dpdk: Vec::new(),
        }),
        // Busy and the like are for DPDK to say: it opens the group in its own way.
        _ => Ok(()),
    }
}

/// A kernel interface must be there, in this network namespace, and carry the MTU.
fn kernel_interface(port: &PortSpec, interface: &str) -> Result<(), BringupError> {
    let missing = || BringupError::DeviceMissing {
        port: port.name.clone(),
        device: port.device.to_string(),
        hint: format!("no interface {interface} in this network namespace, see ip link"),
        dpdk: Vec::new(),
    };
    let name = CString::new(interface).map_err(|_| missing())?;
    // SAFETY: the name ends in NUL.
    if unsafe { libc::if_nametoindex(name.as_ptr()) } == 0 {
        return Err(missing());
    }
    let has = interface_mtu(&name).map_err(|source| BringupError::Os {
        what: format!("port `{}`: asking for the MTU of {interface}", port.name),
        source,
    })?;
    if has < u32::from(port.mtu) {
        return Err(BringupError::InterfaceMtu {
            port: port.name.clone(),
            interface: interface.to_owned(),
            wanted: port.mtu,
            has,
        });
    }
    Ok(())
}

fn interface_mtu(name: &CString) -> io::Result<u32> {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: the arguments are valid, whatever comes of them.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the socket was just opened and is nobody else's.
    let owned = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: a request is plain memory, for which all zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: the socket is open, and the request is of the kind that this asks for.
    let result = unsafe { libc::ioctl(socket, libc::SIOCGIFMTU, &raw mut request) };
    drop(owned);
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled in the MTU.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(u32::try_from(mtu).unwrap_or(0))
}

fn packet_socket(port: &PortSpec) -> Result<(), BringupError> {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: the arguments are valid. Protocol 0 receives nothing.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket >= 0 {
        // SAFETY: the socket was just opened and is nobody else's.
        drop(unsafe { OwnedFd::from_raw_fd(socket) });
        return Ok(());
    }
    let source = io::Error::last_os_error();
    let what = format!("port `{}`: opening a packet socket", port.name);
    Err(match source.kind() {
        io::ErrorKind::PermissionDenied => {
            BringupError::NoPermission { what, right: Right::PacketSocket, dpdk: Vec::new() }
        }
        _ => BringupError::Os { what, source },
    })
}

/// The NUMA node of a CPU.
fn node_of(core: u16) -> i32 {
    // SAFETY: reads files, no more.
    unsafe { capsule_ffi::numa_node_of_cpu(i32::from(core)) }
}

/// A card on a node where no worker is needs a pool there all the same: it comes with a core.
fn extra_cores(spec: &Spec, usable: &CpuSet, warnings: &mut Vec<String>) -> Vec<u16> {
    let mut nodes: BTreeSet<i32> =
        spec.worker_cores.iter().chain([&spec.main_core]).map(|c| node_of(*c)).collect();
    let mut extra = Vec::new();
    for port in &spec.ports {
        let Device::Pci(address) = &port.device else { continue };
        let file = Path::new("/sys/bus/pci/devices").join(address.to_string()).join("numa_node");
        let node = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok());
        let Some(node) = node.filter(|node| *node >= 0) else { continue };
        if spec.worker_cores.iter().all(|core| node_of(*core) != node) {
            warnings.push(format!(
                "port `{}` is on NUMA node {node}, and no worker is: every frame crosses between nodes",
                port.name
            ));
        }
        if nodes.insert(node) {
            extra.extend(usable.cpus().find(|core| node_of(*core) == node));
        }
    }
    extra
}

/// Where frames live, and how much of it EAL takes.
fn memory(spec: &Spec, extra: &[u16], warnings: &mut Vec<String>) -> Result<(bool, u64), BringupError> {
    let nodes: BTreeSet<i32> =
        spec.worker_cores.iter().chain([&spec.main_core]).chain(extra).map(|core| node_of(*core)).collect();
    let need_mib = needed_mib(spec, nodes.len());
    let huge_mib = huge_pages_free_mib(Path::new(HUGE_PAGES));
    let huge = match spec.memory {
        Memory::Auto => huge_mib >= need_mib,
        Memory::HugePages if huge_mib < need_mib => {
            return Err(BringupError::NoMemory {
                what: "the pool of frames on huge pages".into(),
                need_mib,
                have_mib: huge_mib,
                hint: "set vm.nr_hugepages (2 MiB each), or memory = \"auto\"",
                dpdk: Vec::new(),
            });
        }
        Memory::HugePages => true,
        Memory::Ordinary => false,
    };
    if !huge {
        if let Some(have_mib) = available_mib().filter(|have| *have < need_mib) {
            return Err(BringupError::NoMemory {
                what: "the pool of frames".into(),
                need_mib,
                have_mib,
                hint: "lower mempool_frames, or free memory",
                dpdk: Vec::new(),
            });
        }
        if spec.memory == Memory::Auto {
            warnings.push(format!(
                "frames are on ordinary 4 KiB pages: {need_mib} MiB of huge pages are needed and {huge_mib} MiB are \
                 free. Large pools cost more TLB misses for every packet, and cards need an IOMMU (vfio-pci). For \
                 huge pages: sysctl vm.nr_hugepages={}",
                need_mib.div_ceil(2)
            ));
        }
        if nodes.len() > 1 {
            warnings.push("without huge pages all frames are on one NUMA node".into());
        }
    }
    Ok((huge, need_mib))
}

/// MiB for the pools, and for all else that EAL and drivers take.
fn needed_mib(spec: &Spec, pools: usize) -> u64 {
    // An mbuf and its bookkeeping, headroom, frame; DPDK pads elements to spread them over channels.
    let element =
        64 + 128 + 64 + u64::from(capsule_ffi::pool::HEADROOM_OCTETS) + u64::from(spec.frame_octets());
    let ring = u64::from(spec.mempool_frames).next_power_of_two() * 8;
    let pool = u64::from(spec.mempool_frames) * element + ring;
    let ports = 4 * MIB * u64::try_from(spec.ports.len()).unwrap_or(0);
    let pools = u64::try_from(pools).unwrap_or(1);
    (pool * pools + ports + 64 * MIB).div_ceil(MIB)
}

/// MiB that are free, of the pages that frames live on.
pub(crate) fn free_mib(huge: bool) -> u64 {
    if huge { huge_pages_free_mib(Path::new(HUGE_PAGES)) } else { available_mib().unwrap_or(0) }
}

/// Where the kernel keeps its accounts of huge pages.
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

fn huge_pages_free_mib(root: &Path) -> u64 {
    let Ok(sizes) = root.read_dir() else { return 0 };
    sizes
        .flatten()
        .filter_map(|size| {
            let kib: u64 =
                size.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let free: u64 =
                std::fs::read_to_string(size.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
            Some(kib * free / 1024)
        })
        .sum()
}

fn available_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// The frame size that holds every port's MTU is what [`Spec::frame_octets`] says; this is here so that
/// the two cannot drift apart.
const _: () = assert!(*MTUS.end() + LINK_OCTETS < capsule_ffi::pool::MOST_FRAME_OCTETS);

#[cfg(test)]
mod tests;
