//! From text to a profile: what TOML says, checked, and nothing else. Everything wrong with a file is
//! found in one go, each with its key path, its value and what is allowed.

use super::HwProfile;
use super::rss::MIN_KEY_OCTETS;
use super::types::*;
use serde::Deserialize;
use std::fmt;
use std::fmt::Display;
use std::ops::RangeInclusive;

/// One thing that is wrong with a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key, such as `descriptors.rx.default` or `device[2].pci[0]`. Empty for the whole file.
    pub key: String,
    /// The value as it stands, or what is the matter with it.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, allowed } = self;
        if key.is_empty() {
            write!(f, "{value}")?;
        } else {
            write!(f, "{key} = {value}")?;
        }
        if allowed.is_empty() { Ok(()) } else { write!(f, " (allowed: {allowed})") }
    }
}

/// A file is not a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileError {
    /// The file, as the caller named it.
    pub file: String,
    /// Everything that is wrong with it. At least one.
    pub problems: Vec<Problem>,
}

impl Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {problem}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for ProfileError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    summary: String,
    driver: RawDriver,
    #[serde(default)]
    device: Vec<RawDevice>,
    queues: RawQueues,
    descriptors: RawDescriptors,
    rss: RawRss,
    offloads: RawOffloads,
    frame: RawFrame,
    filters: RawFilters,
    mempool: RawMempool,
    cores: RawCores,
    capacity: RawCapacity,
    sources: Sources,
    #[serde(default)]
    quirk: Vec<RawQuirk>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDriver {
    name: String,
    bus: Bus,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawDevice {
    name: String,
    pci: Vec<String>,
    max_rx_queues: Option<i64>,
    max_tx_queues: Option<i64>,
    rss_queues: Option<i64>,
    rss_table: Option<i64>,
    mac_filters: Option<i64>,
    max_frame_octets: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawQueues {
    max_rx: i64,
    max_tx: i64,
    default: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDescriptors {
    rx: RawRing,
    tx: RawRing,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRing {
    min: i64,
    max: i64,
    multiple: i64,
    default: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawHash {
    None,
    Kernel,
    Toeplitz,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRss {
    hash: RawHash,
    fields: Option<Vec<RssField>>,
    key: Option<String>,
    key_octets: Option<i64>,
    table: Option<i64>,
    queues: Option<i64>,
    prediction: Option<Prediction>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawOffloads {
    rx: Vec<Checksum>,
    tx: Vec<Checksum>,
    rx_enabled: Vec<Checksum>,
    tx_enabled: Vec<Checksum>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawFrame {
    max_octets: i64,
    overhead_octets: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFilters {
    mac: i64,
    vlan: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawMempool {
    frames: i64,
    room_octets: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawCores {
    default_workers: i64,
    max_workers: i64,
    numa: Numa,
    idle: Idle,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCapacity {
    sessions: i64,
    mappings: i64,
    spliced: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuirk {
    applies: Option<String>,
    text: String,
    source: String,
}

/// Collects problems while a profile is built.
#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn bad(&mut self, key: impl Into<String>, value: impl Display, allowed: impl Into<String>) {
        self.problems.push(Problem { key: key.into(), value: value.to_string(), allowed: allowed.into() });
    }

    /// The value if it is in the range; else a problem, and the lowest allowed value to go on with.
    fn number<T>(&mut self, key: &str, value: i64, range: RangeInclusive<T>) -> T
    where
        T: TryFrom<i64> + PartialOrd + Copy + Display,
    {
        match T::try_from(value) {
            Ok(v) if range.contains(&v) => v,
            _ => {
                self.bad(key, value, format!("{} to {}", range.start(), range.end()));
                *range.start()
            }
        }
    }

    /// A text that is not empty and has no line breaks or other control characters.
    fn text(&mut self, key: &str, value: &str) {
        if value.trim().is_empty() || value.chars().any(char::is_control) {
            self.bad(key, format!("`{}`", value.escape_debug()), "a line of text");
        }
    }

    fn ring(&mut self, key: &str, raw: &RawRing) -> Ring {
        let before = self.problems.len();
        let multiple = self.number(&format!("{key}.multiple"), raw.multiple, 1u16..=1024);
        let min = self.number(&format!("{key}.min"), raw.min, 1u16..=32_768);
        let max = self.number(&format!("{key}.max"), raw.max, 1u16..=32_768);
        let default = self.number(&format!("{key}.default"), raw.default, 1u16..=32_768);
        let ring = Ring { min, max, multiple, default };
        if self.problems.len() == before {
            if min > max {
                self.bad(format!("{key}.min"), min, format!("at most max, which is {max}"));
            }
            for (name, n) in [("min", min), ("max", max), ("default", default)] {
                if !n.is_multiple_of(multiple) {
                    self.bad(format!("{key}.{name}"), n, format!("a multiple of {multiple}"));
                }
            }
            if min <= max && default.is_multiple_of(multiple) && !ring.allows(default) {
                self.bad(format!("{key}.default"), default, format!("{min} to {max}"));
            }
        }
        ring
    }

    fn checksums(&mut self, key: &str, list: &[Checksum], of: Option<(&str, &[Checksum])>) {
        for (n, checksum) in list.iter().enumerate() {
            let name = checksum.name();
            if list[..n].contains(checksum) {
                self.bad(format!("{key}[{n}]"), format!("`{name}`"), "each once");
            }
            if let Some((what, all)) = of
                && !all.contains(checksum)
            {
                self.bad(format!("{key}[{n}]"), format!("`{name}`"), format!("those in {what}"));
            }
        }
    }
}

const QUEUES: RangeInclusive<u16> = 1..=1024;
const MAC_FILTERS: RangeInclusive<u16> = 0..=4096;
const FRAME: RangeInclusive<u16> = 1518..=65_535;
const WORKERS: RangeInclusive<u16> = 1..=128;

fn is_name(text: &str, extra: u8) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == extra)
}

fn table_size(checker: &mut Checker, key: &str, value: i64) -> u16 {
    let size = checker.number(key, value, 2u16..=4096);
    if !size.is_power_of_two() {
        checker.bad(key, size, "a power of two from 2 to 4096");
        return 2;
    }
    size
}

/// RSS with the number of queues and the table size that go with it.
fn rss(checker: &mut Checker, raw: &RawRss, max_rx: u16) -> (Rss, u16, u16) {
    let toeplitz = matches!(raw.hash, RawHash::Toeplitz);
    let given = [
        ("rss.fields", raw.fields.is_some()),
        ("rss.key", raw.key.is_some()),
        ("rss.key-octets", raw.key_octets.is_some()),
        ("rss.table", raw.table.is_some()),
        ("rss.queues", raw.queues.is_some()),
        ("rss.prediction", raw.prediction.is_some()),
    ];
    for (key, there) in given {
        match (toeplitz, there) {
            (true, false) => checker.bad(key, "nothing", "needed with rss.hash = \"toeplitz\""),
            (false, true) => checker.bad(key, "a value", "only with rss.hash = \"toeplitz\""),
            _ => {}
        }
    }
    if !toeplitz {
        return match raw.hash {
            RawHash::Kernel => (Rss::Kernel, 1, 1),
            _ => (Rss::None, 1, 1),
        };
    }

    let list = raw.fields.clone().unwrap_or_default();
    if raw.fields.is_some() && list.is_empty() {
        checker.bad("rss.fields", "[]", "at least one field");
    }
    for (n, field) in list.iter().enumerate() {
        if list[..n].contains(field) {
            checker.bad(format!("rss.fields[{n}]"), format!("`{}`", field.name()), "each once");
        }
    }
    let octets = match raw.key_octets {
        Some(octets) => checker.number("rss.key-octets", octets, MIN_KEY_OCTETS..=RssKey::MAX_OCTETS),
        None => MIN_KEY_OCTETS,
    };
    let pattern = raw.key.clone().unwrap_or_else(|| "00".to_owned());
    let key = RssKey::repeat(&pattern, octets).or_else(|| {
        checker.bad(
            "rss.key",
            format!("`{}`", pattern.escape_debug()),
            format!("hexadecimal octets that repeat to {octets} octets"),
        );
        RssKey::repeat("00", MIN_KEY_OCTETS)
    });
    if let Some(key) = &key
        && raw.key.is_some()
        && key.octets().iter().all(|o| *o == 0)
        && checker.problems.iter().all(|p| p.key != "rss.key")
    {
        checker.bad("rss.key", format!("`{pattern}`"), "not all zeros: every packet would get the same hash");
    }
    let table = table_size(checker, "rss.table", raw.table.unwrap_or(2));
    let queues = checker.number("rss.queues", raw.queues.unwrap_or(1), 1..=max_rx.min(table));
    let rss = match key {
        Some(key) => Rss::Toeplitz {
            fields: list.into_iter().collect(),
            key,
            prediction: raw.prediction.unwrap_or(Prediction::Unverified),
        },
        None => Rss::None,
    };
    (rss, queues, table)
}

fn devices(
    checker: &mut Checker,
    raw: &[RawDevice],
    bus: Bus,
    base: Limits,
    toeplitz: bool,
    default_workers: u16,
) -> Vec<DeviceKind> {
    match (bus, raw.is_empty()) {
        (Bus::Pci, true) => {
            checker.bad("device", "nothing", "at least one [[device]] with driver.bus = \"pci\"");
        }
        (Bus::Vdev, false) => checker.bad("device", "a table", "no [[device]] with driver.bus = \"vdev\""),
        _ => {}
    }
    let mut seen: Vec<PciId> = Vec::new();
    let mut kinds = Vec::new();
    for (n, device) in raw.iter().enumerate() {
        let key = |name: &str| format!("device[{n}].{name}");
        checker.text(&key("name"), &device.name);
        if device.pci.is_empty() {
            checker.bad(key("pci"), "[]", "at least one id");
        }
        let mut pci = Vec::new();
        for (i, text) in device.pci.iter().enumerate() {
            let key = format!("device[{n}].pci[{i}]");
            match text.parse::<PciId>() {
                Ok(id) if seen.contains(&id) => checker.bad(key, format!("`{id}`"), "each id once"),
                Ok(id) => {
                    seen.push(id);
                    pci.push(id);
                }
                Err(e) => checker.bad(key, format!("`{}`", text.escape_debug()), e.to_string()),
            }
        }
        let mut limits = base;
        let mut set = |to: &mut u16, name: &str, value: Option<i64>, range: RangeInclusive<u16>| {
            if let Some(value) = value {
                *to = checker.number(&format!("device[{n}].{name}"), value, range);
            }
        };
        set(&mut limits.max_rx_queues, "max-rx-queues", device.max_rx_queues, QUEUES);
        set(&mut limits.max_tx_queues, "max-tx-queues", device.max_tx_queues, QUEUES);
        set(&mut limits.mac_filters, "mac-filters", device.mac_filters, MAC_FILTERS);
        set(&mut limits.max_frame_octets, "max-frame-octets", device.max_frame_octets, FRAME);
        if toeplitz {
            if let Some(size) = device.rss_table {
                limits.rss_table = table_size(checker, &key("rss-table"), size);
            }
            let most = limits.max_rx_queues.min(limits.rss_table);
            match device.rss_queues {
                Some(queues) => limits.rss_queues = checker.number(&key("rss-queues"), queues, 1..=most),
                None => limits.rss_queues = limits.rss_queues.min(most),
            }
        } else {
            for (name, there) in
                [("rss-table", device.rss_table.is_some()), ("rss-queues", device.rss_queues.is_some())]
            {
                if there {
                    checker.bad(key(name), "a value", "only with rss.hash = \"toeplitz\"");
                }
            }
        }
        let pairs = limits.max_rx_queues.min(limits.max_tx_queues);
        let spread = if toeplitz { pairs.min(limits.rss_queues) } else { pairs };
        if spread < default_workers {
            checker.bad(
                "cores.default-workers",
                default_workers,
                format!("at most {spread}, for `{}`", device.name),
            );
        }
        kinds.push(DeviceKind { name: device.name.clone(), pci, limits });
    }
    kinds
}

/// Parses and checks a profile. `file` is how messages name it.
pub(super) fn profile(file: &str, text: &str) -> Result<HwProfile, ProfileError> {
    let one = |key: String, value: String| ProfileError {
        file: file.to_owned(),
        problems: vec![Problem { key, value, allowed: String::new() }],
    };
    let document = toml::Deserializer::parse(text)
        .map_err(|e| one(String::new(), format!("not TOML: {}", e.message().trim())))?;
    let raw: Raw = serde_path_to_error::deserialize(document).map_err(|e| {
        let path = e.path().to_string();
        one(if path == "." { String::new() } else { path }, e.inner().message().trim().to_owned())
    })?;

    let mut checker = Checker::default();
    if !is_name(&raw.name, b'-') {
        checker.bad(
            "name",
            format!("`{}`", raw.name.escape_debug()),
            "1 to 32 lower-case letters, digits and hyphens",
        );
    }
    checker.text("summary", &raw.summary);
    if !raw.driver.name.starts_with("net_") || !is_name(&raw.driver.name, b'_') {
        checker.bad(
            "driver.name",
            format!("`{}`", raw.driver.name.escape_debug()),
            "the name of a DPDK poll-mode driver, such as net_ixgbe",
        );
    }

    let max_rx = checker.number("queues.max-rx", raw.queues.max_rx, QUEUES);
    let max_tx = checker.number("queues.max-tx", raw.queues.max_tx, QUEUES);
    let default = checker.number("queues.default", raw.queues.default, 1..=max_rx.min(max_tx));
    let queues = Queues { max_rx, max_tx, default };
    let descriptors = Descriptors {
        rx: checker.ring("descriptors.rx", &raw.descriptors.rx),
        tx: checker.ring("descriptors.tx", &raw.descriptors.tx),
    };
    let (rss, rss_queues, rss_table) = rss(&mut checker, &raw.rss, max_rx);

    let offloads = Offloads {
        rx: raw.offloads.rx,
        tx: raw.offloads.tx,
        rx_enabled: raw.offloads.rx_enabled,
        tx_enabled: raw.offloads.tx_enabled,
    };
    checker.checksums("offloads.rx", &offloads.rx, None);
    checker.checksums("offloads.tx", &offloads.tx, None);
    checker.checksums("offloads.rx-enabled", &offloads.rx_enabled, Some(("offloads.rx", &offloads.rx)));
    checker.checksums("offloads.tx-enabled", &offloads.tx_enabled, Some(("offloads.tx", &offloads.tx)));

    let frame = FrameSize {
        max_octets: checker.number("frame.max-octets", raw.frame.max_octets, FRAME),
        overhead_octets: checker.number("frame.overhead-octets", raw.frame.overhead_octets, 14u16..=64),
    };
    let filters = Filters {
        mac: checker.number("filters.mac", raw.filters.mac, MAC_FILTERS),
        vlan: checker.number("filters.vlan", raw.filters.vlan, 0u16..=4096),
    };
    let mempool = Mempool {
        frames: checker.number("mempool.frames", raw.mempool.frames, 1023..=MAX_FRAMES),
        // Headroom and the smallest frame that every device receives.
        room_octets: checker.number("mempool.room-octets", raw.mempool.room_octets, 1664u16..=65_535),
    };
    let max_workers = checker.number("cores.max-workers", raw.cores.max_workers, WORKERS);
    let cores = Cores {
        default_workers: checker.number("cores.default-workers", raw.cores.default_workers, 1..=max_workers),
        max_workers,
        numa: raw.cores.numa,
        idle: raw.cores.idle,
    };
    let capacity = Capacity {
        sessions: checker.number("capacity.sessions", raw.capacity.sessions, 1024u32..=268_435_456),
        mappings: checker.number("capacity.mappings", raw.capacity.mappings, 1024u32..=268_435_456),
        spliced: checker.number("capacity.spliced", raw.capacity.spliced, 0u32..=268_435_456),
    };
    let pairs = max_rx.min(max_tx);
    if raw.device.is_empty() && cores.default_workers > pairs {
        checker.bad(
            "cores.default-workers",
            cores.default_workers,
            format!("at most {pairs}, one for a queue pair"),
        );
    }
    if capacity.spliced > capacity.sessions {
        checker.bad(
            "capacity.spliced",
            capacity.spliced,
            format!("at most sessions, which is {}", capacity.sessions),
        );
    }

    let base = Limits {
        max_rx_queues: max_rx,
        max_tx_queues: max_tx,
        rss_queues,
        rss_table,
        mac_filters: filters.mac,
        max_frame_octets: frame.max_octets,
    };
    let toeplitz = matches!(raw.rss.hash, RawHash::Toeplitz);
    let devices = devices(&mut checker, &raw.device, raw.driver.bus, base, toeplitz, cores.default_workers);

    for (name, text) in raw.sources.iter() {
        checker.text(&format!("sources.{name}"), text);
    }
    let mut quirks = Vec::new();
    for (n, quirk) in raw.quirk.into_iter().enumerate() {
        if let Some(applies) = &quirk.applies {
            checker.text(&format!("quirk[{n}].applies"), applies);
        }
        checker.text(&format!("quirk[{n}].text"), &quirk.text);
        checker.text(&format!("quirk[{n}].source"), &quirk.source);
        quirks.push(Quirk { applies: quirk.applies, text: quirk.text, source: quirk.source });
    }

    if !checker.problems.is_empty() {
        return Err(ProfileError { file: file.to_owned(), problems: checker.problems });
    }
    Ok(HwProfile {
        name: raw.name,
        summary: raw.summary,
        driver: Driver { name: raw.driver.name, bus: raw.driver.bus },
        devices,
        limits: base,
        queues,
        descriptors,
        rss,
        offloads,
        frame,
        filters,
        mempool,
        cores,
        capacity,
        sources: raw.sources,
        quirks,
    })
}
