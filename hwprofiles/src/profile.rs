//! Hardware profiles: what a device can do, what Causeway makes of it, and where each fact is from.
//!
//! A profile is a TOML file. Those in `profiles/` are compiled in; a directory of further ones can be
//! loaded, so that a vendor writes his own. A file is parsed into types in which bad values cannot be
//! built: [`HwProfile`] has no public fields, and only [`HwProfile::parse`] makes one.
//!
//! ```text
//!  profiles/*.toml -> build -> HwProfile -> check (does a configuration fit the device?)
//!                                        -> rss   (which worker gets a packet, which port brings it back)
//!                                        -> render, Serialize (`causeway hw list`, `hw show`)
//! ```
//!
//! Nothing here needs DPDK: bits that DPDK's interface fixes are given as numbers.

#![forbid(unsafe_code)]

mod build;
mod check;
mod render;
pub mod rss;
mod types;

pub use build::{Problem, ProfileError};
pub use check::{CheckError, Checked, Demand, Direction, Notice};
pub use render::{render_list, render_show};
pub(crate) use render::{table, wrap};
pub use rss::{
    Addresses, Family, NoPrediction, PortField, PortSteering, RssPacket, RssPredictor, Toeplitz, Transport,
};
pub use types::*;

use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A hardware profile: a family of devices behind one driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HwProfile {
    name: String,
    summary: String,
    driver: Driver,
    devices: Vec<DeviceKind>,
    #[serde(skip)]
    limits: Limits,
    queues: Queues,
    descriptors: Descriptors,
    rss: Rss,
    offloads: Offloads,
    frame: FrameSize,
    filters: Filters,
    mempool: Mempool,
    cores: Cores,
    capacity: Capacity,
    quirks: Vec<Quirk>,
    sources: Sources,
}

/// The profiles that are compiled in, each with the name of its file.
const FILES: &[(&str, &str)] = &[
    ("veth.toml", include_str!("../profiles/veth.toml")),
    ("null.toml", include_str!("../profiles/null.toml")),
    ("ixgbe.toml", include_str!("../profiles/ixgbe.toml")),
    ("i40e.toml", include_str!("../profiles/i40e.toml")),
    ("ice.toml", include_str!("../profiles/ice.toml")),
    ("igb.toml", include_str!("../profiles/igb.toml")),
    ("igc.toml", include_str!("../profiles/igc.toml")),
];

/// A broken one is left out here and fails the test `every_profile_that_is_compiled_in_is_a_good_one`.
static BUILTIN: LazyLock<Vec<HwProfile>> =
    LazyLock::new(|| FILES.iter().filter_map(|(file, text)| HwProfile::parse(file, text).ok()).collect());

/// Why profiles could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A directory or file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Files that are not profiles: all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Bad(Vec<ProfileError>),
    /// Two files of the directory have one name or one device.
    #[error("{}: {what} is in profile `{first}` already (each name and device once)", path.display())]
    Twice {
        /// The later file.
        path: PathBuf,
        /// What is there twice.
        what: String,
        /// Profile that had it first.
        first: String,
    },
}

impl HwProfile {
    /// Parses a profile. `file` is how errors name it.
    ///
    /// # Errors
    /// [`ProfileError`] with everything that is wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProfileError> {
        build::profile(file, text)
    }

    /// The profiles that are compiled in.
    #[must_use]
    pub fn builtin() -> &'static [Self] {
        &BUILTIN
    }

    /// Loads every `*.toml` of a directory, in the order of their names.
    ///
    /// # Errors
    /// [`LoadError`] if anything cannot be read, any file is no profile, or two files claim one name or
    /// one device.
    pub fn load_dir(directory: &Path) -> Result<Vec<Self>, LoadError> {
        let io = |path: &Path, source| LoadError::Io { path: path.to_owned(), source };
        let mut paths = std::fs::read_dir(directory)
            .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>())
            .map_err(|e| io(directory, e))?;
        paths.retain(|path| path.extension().is_some_and(|e| e == "toml"));
        paths.sort();

        let mut profiles: Vec<Self> = Vec::new();
        let mut bad = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(&path).map_err(|e| io(&path, e))?;
            match Self::parse(&path.display().to_string(), &text) {
                Err(e) => bad.push(e),
                Ok(profile) => {
                    let clash =
                        profiles.iter().find_map(|p| p.clashes_with(&profile).map(|what| (what, &p.name)));
                    if let Some((what, first)) = clash {
                        return Err(LoadError::Twice { path, what, first: first.clone() });
                    }
                    profiles.push(profile);
                }
            }
        }
        if bad.is_empty() { Ok(profiles) } else { Err(LoadError::Bad(bad)) }
    }

    /// The built-in profile of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        by_name(Self::builtin(), name)
    }

    /// The built-in profile for the device with this id.
    #[must_use]
    pub fn matching(id: PciId) -> Option<&'static Self> {
        matching(Self::builtin(), id).map(|(profile, _)| profile)
    }

    fn clashes_with(&self, other: &Self) -> Option<String> {
        if self.name == other.name {
            return Some(format!("name `{}`", other.name));
        }
        let ids = other.devices.iter().flat_map(|d| &d.pci);
        ids.copied().find(|id| self.device(*id).is_some()).map(|id| format!("device {id}"))
    }

    /// The name that configurations use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for, in one line.
    #[must_use]
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The driver.
    #[must_use]
    pub const fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The devices, by kind. Empty for a virtual device.
    #[must_use]
    pub fn devices(&self) -> &[DeviceKind] {
        &self.devices
    }

    /// The kind of device that has this id.
    #[must_use]
    pub fn device(&self, id: PciId) -> Option<&DeviceKind> {
        self.devices.iter().find(|d| d.pci.contains(&id))
    }

    /// What the device with this id can do; the family's limits for a virtual device or an unknown id.
    #[must_use]
    pub fn limits(&self, id: Option<PciId>) -> Limits {
        id.and_then(|id| self.device(id)).map_or(self.limits, |d| d.limits)
    }

    /// Numbers of queues, of the family.
    #[must_use]
    pub const fn queues(&self) -> Queues {
        self.queues
    }

    /// Ring sizes.
    #[must_use]
    pub const fn descriptors(&self) -> Descriptors {
        self.descriptors
    }

    /// Receive-side scaling.
    #[must_use]
    pub const fn rss(&self) -> &Rss {
        &self.rss
    }

    /// Checksum offloads.
    #[must_use]
    pub const fn offloads(&self) -> &Offloads {
        &self.offloads
    }

    /// Frame sizes, of the family.
    #[must_use]
    pub const fn frame(&self) -> FrameSize {
        self.frame
    }

    /// Filters, of the family.
    #[must_use]
    pub const fn filters(&self) -> Filters {
        self.filters
    }

    /// The pool of frames.
    #[must_use]
    pub const fn mempool(&self) -> Mempool {
        self.mempool
    }

    /// Workers.
    #[must_use]
    pub const fn cores(&self) -> Cores {
        self.cores
    }

    /// Capacity of the flow table.
    #[must_use]
    pub const fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// What an operator should know.
    #[must_use]
    pub fn quirks(&self) -> &[Quirk] {
        &self.quirks
    }

    /// Where the facts are from.
    #[must_use]
    pub const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Foretells which of `queues` queues a packet comes in by, on the device with this id.
    ///
    /// # Errors
    /// [`NoPrediction`] if the device's hash is not known well enough, or RSS does not reach so many
    /// queues.
    pub fn rss_predictor(&self, id: Option<PciId>, queues: u16) -> Result<RssPredictor, NoPrediction> {
        let limits = self.limits(id);
        RssPredictor::new(&self.name, &self.rss, limits.rss_table, limits.rss_queues, queues)
    }
}

/// The profile of this name. A later profile wins over an earlier one, so that loaded profiles, put
/// behind the built-in ones, replace them.
#[must_use]
pub fn by_name<'a>(profiles: &'a [HwProfile], name: &str) -> Option<&'a HwProfile> {
    profiles.iter().rev().find(|p| p.name == name)
}

/// The profile for the device with this id, and the kind of device that it is. A later profile wins.
#[must_use]
pub fn matching(profiles: &[HwProfile], id: PciId) -> Option<(&HwProfile, &DeviceKind)> {
    profiles.iter().rev().find_map(|p| p.device(id).map(|d| (p, d)))
}

/// The built-in profiles and, behind them, those of a directory if one is given.
///
/// # Errors
/// As [`HwProfile::load_dir`].
pub fn all(directory: Option<&Path>) -> Result<Vec<HwProfile>, LoadError> {
    let mut profiles = HwProfile::builtin().to_vec();
    if let Some(directory) = directory {
        profiles.extend(HwProfile::load_dir(directory)?);
    }
    Ok(profiles)
}

#[cfg(test)]
mod tests;
