//! What is in this machine: its PCI Ethernet devices with the profile that fits each, and what is missing
//! before DPDK can have them.
//!
//! Everything is read from sysfs and nothing is changed. The root of the file system is a parameter, so
//! that tests build a machine out of files.
//!
//! ```text
//!  sys/bus/pci/devices/ADDRESS/{vendor,device,class,revision,numa_node,driver,iommu_group,net/,physfn}
//!  sys/kernel/mm/hugepages, sys/devices/system/node/nodeN/hugepages
//!  sys/class/iommu, sys/kernel/iommu_groups, sys/bus/pci/drivers/vfio-pci
//! ```

#![forbid(unsafe_code)]

use crate::profile::{HwProfile, PciId, matching};
use crate::profile::{table, wrap};
use serde::Serialize;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// PCI base class and subclass of an Ethernet controller.
const CLASS_ETHERNET: u32 = 0x0200;

/// Drivers through which DPDK drives a device from user space.
const USER_SPACE_DRIVERS: [&str; 3] = ["vfio-pci", "igb_uio", "uio_pci_generic"];

/// What keeps DPDK from a device, or makes it worse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "missing", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Missing {
    /// No profile has the device's id.
    NoProfile {
        /// The id.
        id: PciId,
    },
    /// It is a virtual function, and profiles are for physical ones.
    VirtualFunction,
    /// No driver has it.
    NotBound {
        /// Address of the device.
        address: String,
    },
    /// The kernel's own driver has it.
    KernelDriver {
        /// Address of the device.
        address: String,
        /// The driver.
        driver: String,
    },
    /// The kernel uses the link: whoever is connected through it is cut off when the device is taken.
    LinkInUse {
        /// Name of the link.
        interface: String,
    },
    /// A driver without IOMMU protection has it.
    NoProtection {
        /// The driver.
        driver: String,
    },
    /// It is in no IOMMU group, so vfio-pci cannot take it.
    NoIommuGroup,
    /// The machine has no IOMMU, or it is off.
    IommuOff,
    /// The driver vfio-pci is not there.
    NoVfio,
    /// There are no huge pages.
    NoHugePages,
    /// There are huge pages, but other processes have all of them.
    HugePagesTaken,
    /// There are no huge pages on the device's NUMA node.
    NoHugePagesOnNode {
        /// The node.
        node: u16,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProfile { id } => {
                write!(f, "no profile for {id}: write one, or use profile `veth` on its link")
            }
            Self::VirtualFunction => f.write_str("a virtual function: profiles are for physical functions"),
            Self::NotBound { address } => {
                write!(f, "no driver has it: bind it with `dpdk-devbind.py -b vfio-pci {address}`")
            }
            Self::KernelDriver { address, driver } => {
                write!(f, "the kernel driver {driver} has it: `dpdk-devbind.py -b vfio-pci {address}` takes it")
            }
            Self::LinkInUse { interface } => {
                write!(f, "the link {interface} is up: taking the device cuts off whatever uses it")
            }
            Self::NoProtection { driver } => {
                write!(f, "bound to {driver}, which has no IOMMU protection: vfio-pci is better")
            }
            Self::NoIommuGroup => f.write_str("it is in no IOMMU group, so vfio-pci cannot take it"),
            Self::IommuOff => f.write_str(
                "no IOMMU, or it is off: turn VT-d or AMD-Vi on and boot with `intel_iommu=on iommu=pt` (Intel)",
            ),
            Self::NoVfio => f.write_str("the driver vfio-pci is not there: `modprobe vfio-pci`"),
            Self::NoHugePages => {
                f.write_str("no huge pages: `sysctl vm.nr_hugepages=1024`, or hugepages=1024 at boot")
            }
            Self::HugePagesTaken => f.write_str("huge pages are there, but none is free"),
            Self::NoHugePagesOnNode { node } => write!(f, "no huge pages on the device's NUMA node {node}"),
        }
    }
}

/// A network link of the kernel on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// True if its operational state is up.
    pub up: bool,
}

/// An Ethernet device on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PciDevice {
    /// Its address, such as `0000:3b:00.0`.
    pub address: String,
    /// Vendor and device number.
    pub id: PciId,
    /// Revision, which tells steppings apart.
    pub revision: u8,
    /// The driver that has it.
    pub driver: Option<String>,
    /// Its NUMA node, where the machine has several.
    pub numa_node: Option<u16>,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// The kernel's links on it.
    pub links: Vec<Link>,
    /// True for a virtual function.
    pub virtual_function: bool,
    /// The profile that fits.
    pub profile: Option<String>,
    /// What kind of device it is, as its profile says.
    pub kind: Option<String>,
    /// True if nothing is missing that DPDK cannot do without.
    pub ready: bool,
    /// What is missing.
    pub missing: Vec<Missing>,
}

/// Huge pages of one size, on one NUMA node or in all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// The NUMA node; nothing for the whole machine.
    pub node: Option<u16>,
    /// Size of a page, in KiB.
    pub size_kib: u64,
    /// How many there are.
    pub total: u64,
    /// How many are free.
    pub free: u64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detection {
    /// The Ethernet devices, by address.
    pub devices: Vec<PciDevice>,
    /// Huge pages: the machine's, then those of each node.
    pub huge_pages: Vec<HugePages>,
    /// True if there is an IOMMU and it is on.
    pub iommu: bool,
    /// True if the driver vfio-pci is there.
    pub vfio: bool,
    /// What the machine as a whole is missing.
    pub missing: Vec<Missing>,
}

/// Why the machine could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct DetectError {
    /// What could not be read.
    pub path: std::path::PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Text of a file without the white space at its ends. A file of sysfs that cannot be read is one that
/// does not apply.
fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|t| t.trim().to_owned())
}

fn hex(path: &Path) -> Option<u32> {
    u32::from_str_radix(text(path)?.strip_prefix("0x")?, 16).ok()
}

fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

/// Last part of what a symbolic link points to.
fn target(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned())
}

/// Names in a directory, sorted; none if there is no such directory.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn huge_pages(directory: &Path, node: Option<u16>) -> Vec<HugePages> {
    names(directory)
        .iter()
        .filter_map(|name| {
            let size_kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let total = number(&directory.join(name).join("nr_hugepages"))?;
            let free = number(&directory.join(name).join("free_hugepages"))?;
            Some(HugePages { node, size_kib, total, free })
        })
        .collect()
}

/// Reads one device; nothing if it is no Ethernet controller.
fn device(path: &Path, address: &str) -> Option<PciDevice> {
    if hex(&path.join("class"))? >> 8 != CLASS_ETHERNET {
        return None;
    }
    let vendor = u16::try_from(hex(&path.join("vendor"))?).ok()?;
    let device = u16::try_from(hex(&path.join("device"))?).ok()?;
    // Links hang on the device itself, or on the virtio device within it.
    let within =
        names(path).into_iter().filter(|name| name.starts_with("virtio")).map(|name| path.join(name));
    let links = std::iter::once(path.to_owned())
        .chain(within)
        .map(|parent| parent.join("net"))
        .flat_map(|net| names(&net).into_iter().map(move |name| (net.join(&name), name)))
        .map(|(path, name)| Link {
            name,
            up: text(&path.join("operstate")).is_some_and(|state| state == "up"),
        })
        .collect();
    Some(PciDevice {
        address: address.to_owned(),
        id: PciId { vendor, device },
        revision: hex(&path.join("revision")).and_then(|r| u8::try_from(r).ok()).unwrap_or(0),
        driver: target(&path.join("driver")),
        // The kernel says -1 where there is one node only.
        numa_node: number(&path.join("numa_node")),
        iommu_group: target(&path.join("iommu_group")).and_then(|group| group.parse().ok()),
        links,
        virtual_function: fs::symlink_metadata(path.join("physfn")).is_ok(),
        profile: None,
        kind: None,
        ready: false,
        missing: Vec::new(),
    })
}

/// Looks at the machine whose file system begins at `root` (`/`), with these profiles (a later one wins).
///
/// # Errors
/// [`DetectError`] if the list of PCI devices is there and cannot be read. A machine without a PCI bus has
/// no devices, which is no error.
pub fn detect(root: &Path, profiles: &[HwProfile]) -> Result<Detection, DetectError> {
    let sys = root.join("sys");
    let bus = sys.join("bus/pci/devices");
    let addresses = match fs::read_dir(&bus) {
        Ok(_) => names(&bus),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(DetectError { path: bus, source }),
    };
    let mut devices: Vec<PciDevice> = addresses.iter().filter_map(|a| device(&bus.join(a), a)).collect();

    let mut pages = huge_pages(&sys.join("kernel/mm/hugepages"), None);
    let nodes = sys.join("devices/system/node");
    for name in names(&nodes) {
        if let Some(node) = name.strip_prefix("node").and_then(|n| n.parse().ok()) {
            pages.extend(huge_pages(&nodes.join(&name).join("hugepages"), Some(node)));
        }
    }
    let count = |node: Option<u16>| {
        let of_node = pages.iter().filter(|p| p.node == node);
        of_node.fold((0, 0), |(total, free), p| (total + p.total, free + p.free))
    };
    let iommu =
        !names(&sys.join("class/iommu")).is_empty() || !names(&sys.join("kernel/iommu_groups")).is_empty();
    let vfio = sys.join("bus/pci/drivers/vfio-pci").is_dir();

    let mut missing = Vec::new();
    match count(None) {
        (0, _) => missing.push(Missing::NoHugePages),
        (_, 0) => missing.push(Missing::HugePagesTaken),
        _ => {}
    }
    if !devices.is_empty() {
        if !iommu {
            missing.push(Missing::IommuOff);
        }
        if !vfio {
            missing.push(Missing::NoVfio);
        }
    }

    for d in &mut devices {
        let found = matching(profiles, d.id);
        d.profile = found.map(|(profile, _)| profile.name().to_owned());
        d.kind = found.map(|(_, kind)| kind.name.clone());
        if d.virtual_function {
            d.missing.push(Missing::VirtualFunction);
        } else if d.profile.is_none() {
            d.missing.push(Missing::NoProfile { id: d.id });
        }
        let bound = match d.driver.as_deref() {
            None => {
                d.missing.push(Missing::NotBound { address: d.address.clone() });
                false
            }
            Some("vfio-pci") => true,
            Some(driver) if USER_SPACE_DRIVERS.contains(&driver) => {
                d.missing.push(Missing::NoProtection { driver: driver.to_owned() });
                true
            }
            Some(driver) => {
                let driver = driver.to_owned();
                d.missing.push(Missing::KernelDriver { address: d.address.clone(), driver });
                false
            }
        };
        for link in d.links.iter().filter(|l| l.up) {
            d.missing.push(Missing::LinkInUse { interface: link.name.clone() });
        }
        if iommu && d.iommu_group.is_none() {
            d.missing.push(Missing::NoIommuGroup);
        }
        if let Some(node) = d.numa_node
            && pages.iter().any(|p| p.node == Some(node))
            && count(Some(node)).0 == 0
            && count(None).0 != 0
        {
            d.missing.push(Missing::NoHugePagesOnNode { node });
        }
        d.ready = bound && d.profile.is_some() && !d.virtual_function;
    }
    Ok(Detection { devices, huge_pages: pages, iommu, vfio, missing })
}

/// What was found, for people.
#[must_use]
pub fn render_detect(found: &Detection) -> String {
    let mut out = String::new();
    if found.devices.is_empty() {
        out.push_str("No PCI Ethernet device. Profile `veth` works on any Linux interface.\n");
    } else {
        let head = ["ADDRESS", "ID", "REV", "KIND", "PROFILE", "DRIVER", "NUMA", "IOMMU", "LINKS", "READY"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        for d in &found.devices {
            let links = d.links.iter().map(|l| format!("{}{}", l.name, if l.up { " (up)" } else { "" }));
            let links = links.collect::<Vec<_>>().join(" ");
            lines.push(vec![
                d.address.clone(),
                d.id.to_string(),
                format!("{:02x}", d.revision),
                or_dash(d.kind.clone()),
                or_dash(d.profile.clone()),
                or_dash(d.driver.clone()),
                or_dash(d.numa_node.map(|n| n.to_string())),
                or_dash(d.iommu_group.map(|n| n.to_string())),
                if links.is_empty() { "-".to_owned() } else { links },
                if d.ready { "yes" } else { "no" }.to_owned(),
            ]);
        }
        out.push_str(&table(&lines));
        for d in found.devices.iter().filter(|d| !d.missing.is_empty()) {
            out.push_str(&format!("\n{}\n", d.address));
            for missing in &d.missing {
                out.push_str(&format!("  - {}\n", wrap(&missing.to_string(), 4)));
            }
        }
    }
    out.push_str("\nmachine\n");
    let yes = |there: bool| if there { "yes" } else { "no" };
    out.push_str(&format!("  IOMMU on: {}, vfio-pci: {}\n", yes(found.iommu), yes(found.vfio)));
    for pages in found.huge_pages.iter().filter(|p| p.total > 0) {
        let node = pages.node.map_or("all nodes".to_owned(), |n| format!("node {n}"));
        let HugePages { size_kib, total, free, .. } = pages;
        out.push_str(&format!("  huge pages of {size_kib} KiB, {node}: {total}, {free} free\n"));
    }
    for missing in &found.missing {
        out.push_str(&format!("  - {}\n", wrap(&missing.to_string(), 4)));
    }
    out
}

#[cfg(test)]
mod tests;
