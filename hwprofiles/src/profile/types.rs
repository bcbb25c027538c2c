//! The parts of a profile. They are built by [`super::build`] only, which refuses bad values.

use super::rss::MIN_KEY_OCTETS;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Vendor and device number of a PCI function, written `8086:10fb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciId {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl Serialize for PciId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// A text is not a PCI id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a PCI id is two numbers of four hexadecimal digits, such as 8086:10fb")]
pub struct ParsePciIdError;

impl FromStr for PciId {
    type Err = ParsePciIdError;

    fn from_str(text: &str) -> Result<Self, ParsePciIdError> {
        let number = |t: &str| {
            let good = t.len() == 4 && t.bytes().all(|c| c.is_ascii_hexdigit());
            if good { u16::from_str_radix(t, 16).map_err(|_| ParsePciIdError) } else { Err(ParsePciIdError) }
        };
        let (vendor, device) = text.split_once(':').ok_or(ParsePciIdError)?;
        Ok(Self { vendor: number(vendor)?, device: number(device)? })
    }
}

/// How DPDK reaches the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bus {
    /// A PCI function, matched by its id.
    Pci,
    /// A virtual device, named in the configuration.
    Vdev,
}

/// What a worker does after polls that found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Polls on: lowest latency, a core at 100%.
    Spin,
    /// Sleeps for at most 100 us after a number of empty polls.
    Backoff,
}

/// Where workers run, seen from the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numa {
    /// Only on the device's own NUMA node.
    Same,
    /// On the device's own node; another one is a warning.
    Prefer,
    /// Anywhere.
    Any,
}

/// The driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Driver {
    /// Name of DPDK's poll-mode driver, such as `net_ixgbe`.
    pub name: String,
    /// How the device is reached.
    pub bus: Bus,
}

/// Devices of a family that share limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeviceKind {
    /// What they are sold as.
    pub name: String,
    /// Their ids. At least one.
    pub pci: Vec<PciId>,
    /// What these devices can do: the profile's limits with their own in place.
    pub limits: Limits,
}

/// What may differ between the devices of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Limits {
    /// The most receive queues, 1 to 1024.
    pub max_rx_queues: u16,
    /// The most transmit queues, 1 to 1024.
    pub max_tx_queues: u16,
    /// The most queues that RSS spreads over; 1 where there is no RSS.
    pub rss_queues: u16,
    /// Entries of the redirection table: a power of two; 1 where there is no RSS.
    pub rss_table: u16,
    /// Unicast addresses that the device filters by, its own included; 0 for none (it runs promiscuous).
    pub mac_filters: u16,
    /// The largest frame, in octets on the wire: Ethernet header and frame check sequence included.
    pub max_frame_octets: u16,
}

/// Numbers of queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Queues {
    /// The most receive queues.
    pub max_rx: u16,
    /// The most transmit queues.
    pub max_tx: u16,
    /// Queue pairs of a port when the configuration does not say how many workers there are.
    pub default: u16,
}

/// Sizes that a descriptor ring may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Ring {
    /// The fewest descriptors.
    pub min: u16,
    /// The most descriptors.
    pub max: u16,
    /// The number is a multiple of this.
    pub multiple: u16,
    /// Taken when the configuration says nothing.
    pub default: u16,
}

impl Ring {
    /// True if a ring may have `n` descriptors.
    #[must_use]
    pub const fn allows(&self, n: u16) -> bool {
        n >= self.min && n <= self.max && n.is_multiple_of(self.multiple)
    }
}

/// The rings of a queue pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Descriptors {
    /// Receive.
    pub rx: Ring,
    /// Transmit.
    pub tx: Ring,
}

macro_rules! rss_fields {
    ($($(#[$doc:meta])+ $name:ident = $text:literal, $bit:literal;)+) => {
        /// A kind of packet that RSS hashes, and with it what is hashed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum RssField {
            $($(#[$doc])+ #[serde(rename = $text)] $name,)+
        }

        impl RssField {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name in profiles.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Its bit in `rte_eth_rss_conf::rss_hf`: the position after which DPDK's RTE_ETH_RSS_ flags
            /// are defined in `rte_ethdev.h`.
            #[must_use]
            pub const fn rte_bit(self) -> u32 {
                match self { $(Self::$name => $bit,)+ }
            }
        }
    };
}

rss_fields! {
    /// Any IPv4 packet that no finer field takes: addresses.
    Ipv4 = "ipv4", 2;
    /// IPv4 fragments: addresses.
    Ipv4Frag = "ipv4-frag", 3;
    /// TCP over IPv4: addresses and ports.
    Ipv4Tcp = "ipv4-tcp", 4;
    /// UDP over IPv4: addresses and ports.
    Ipv4Udp = "ipv4-udp", 5;
    /// SCTP over IPv4.
    Ipv4Sctp = "ipv4-sctp", 6;
    /// IPv4 with another protocol: addresses.
    Ipv4Other = "ipv4-other", 7;
    /// Any IPv6 packet that no finer field takes: addresses.
    Ipv6 = "ipv6", 8;
    /// IPv6 fragments: addresses.
    Ipv6Frag = "ipv6-frag", 9;
    /// TCP over IPv6: addresses and ports.
    Ipv6Tcp = "ipv6-tcp", 10;
    /// UDP over IPv6: addresses and ports.
    Ipv6Udp = "ipv6-udp", 11;
    /// SCTP over IPv6.
    Ipv6Sctp = "ipv6-sctp", 12;
    /// IPv6 with another protocol: addresses.
    Ipv6Other = "ipv6-other", 13;
    /// IPv6 with extension headers, whose addresses replace those of the header.
    Ipv6Ex = "ipv6-ex", 15;
    /// TCP over IPv6 with extension headers.
    Ipv6TcpEx = "ipv6-tcp-ex", 16;
    /// UDP over IPv6 with extension headers.
    Ipv6UdpEx = "ipv6-udp-ex", 17;
}

/// A set of hash fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RssFields(u64);

impl RssFields {
    /// True if the field is in the set.
    #[inline]
    #[must_use]
    pub const fn contains(self, field: RssField) -> bool {
        self.0 >> field.rte_bit() & 1 != 0
    }

    /// The fields of the set.
    pub fn iter(self) -> impl Iterator<Item = RssField> {
        RssField::ALL.iter().copied().filter(move |f| self.contains(*f))
    }

    /// The set as DPDK takes it: `rte_eth_rss_conf::rss_hf`.
    #[must_use]
    pub const fn rte_bits(self) -> u64 {
        self.0
    }

    /// True if the set has no field.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<RssField> for RssFields {
    fn from_iter<I: IntoIterator<Item = RssField>>(fields: I) -> Self {
        Self(fields.into_iter().fold(0, |set, f| set | 1 << f.rte_bit()))
    }
}

impl Serialize for RssFields {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter())
    }
}

/// A hash key, as long as the device wants it: 40 to 128 octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RssKey(Box<[u8]>);

impl RssKey {
    /// The longest key that is accepted, in octets.
    pub const MAX_OCTETS: usize = 128;

    /// A key of `octets` octets made by repeating `pattern`, which has hexadecimal digits only. Nothing if
    /// the pattern does not fit a whole number of times, or the length is out of range.
    #[must_use]
    pub fn repeat(pattern: &str, octets: usize) -> Option<Self> {
        if !(MIN_KEY_OCTETS..=Self::MAX_OCTETS).contains(&octets)
            || !pattern.bytes().all(|c| c.is_ascii_hexdigit())
        {
            return None;
        }
        if pattern.is_empty() || !pattern.len().is_multiple_of(2) || !octets.is_multiple_of(pattern.len() / 2)
        {
            return None;
        }
        let pattern: Vec<u8> = (0..pattern.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&pattern[at..at + 2], 16).ok())
            .collect::<Option<_>>()?;
        Some(Self(pattern.iter().copied().cycle().take(octets).collect()))
    }

    /// The octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// True if both directions of a flow get the same hash: the key repeats every 16 bits (Woo and Park,
    /// "Scalable TCP Session Monitoring with Symmetric Receive-side Scaling", KAIST 2012).
    #[must_use]
    pub fn is_symmetric(&self) -> bool {
        self.0.iter().zip(&self.0[2..]).all(|(a, b)| a == b)
    }
}

impl fmt::Display for RssKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|o| write!(f, "{o:02x}"))
    }
}

impl Serialize for RssKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Whether software can repeat the device's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prediction {
    /// The device documents the hash of the Microsoft RSS specification.
    Microsoft,
    /// Nobody has shown how the device hashes: no queue is foretold.
    Unverified,
}

/// Receive-side scaling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "hash", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Rss {
    /// One queue gets everything, or the queues of a port are not filled by a hash.
    None,
    /// The kernel spreads flows by a hash of its own (AF_PACKET's fanout).
    Kernel,
    /// The device spreads flows by a Toeplitz hash.
    #[non_exhaustive]
    Toeplitz {
        /// What it can hash. Causeway turns all of them on.
        fields: RssFields,
        /// The key that Causeway sets.
        key: RssKey,
        /// Whether software can repeat the hash.
        prediction: Prediction,
    },
}

/// A checksum that a device computes or checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// The IPv4 header's.
    Ipv4,
    /// TCP's.
    Tcp,
    /// UDP's.
    Udp,
}

impl Checksum {
    /// Its name in profiles.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Its bit in DPDK's receive offloads (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM, UDP_CKSUM, TCP_CKSUM). The
    /// transmit offloads have the same positions.
    #[must_use]
    pub const fn rte_bit(self) -> u32 {
        match self {
            Self::Ipv4 => 1,
            Self::Udp => 2,
            Self::Tcp => 3,
        }
    }
}

/// Checksum offloads: what the device has and what Causeway turns on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Offloads {
    /// Checked on receive.
    pub rx: Vec<Checksum>,
    /// Computed on transmit.
    pub tx: Vec<Checksum>,
    /// Those of `rx` that Causeway turns on.
    pub rx_enabled: Vec<Checksum>,
    /// Those of `tx` that Causeway turns on.
    pub tx_enabled: Vec<Checksum>,
}

/// Frame sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FrameSize {
    /// The largest frame, in octets on the wire: Ethernet header and frame check sequence included.
    pub max_octets: u16,
    /// What the driver adds to an MTU to get a frame: 18 for header and check sequence, and 4 for each
    /// VLAN tag that it reckons with.
    pub overhead_octets: u16,
}

/// Filters of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Filters {
    /// Unicast addresses that the device filters by, its own included; 0 for none: the port runs
    /// promiscuous and foreign frames are dropped in software.
    pub mac: u16,
    /// VLANs that the device filters by, 0 to 4096.
    pub vlan: u16,
}

/// The most frames that a pool may have.
pub const MAX_FRAMES: u32 = 16_777_215;

/// The pool of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Mempool {
    /// The fewest frames of the whole process; more are taken where queues and rings need more.
    pub frames: u32,
    /// Octets of data room of a frame, headroom (128) included.
    pub room_octets: u16,
}

/// Workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cores {
    /// How many there are when the configuration does not say.
    pub default_workers: u16,
    /// The most there can be.
    pub max_workers: u16,
    /// Where they run.
    pub numa: Numa,
    /// What they do when there is nothing to do.
    pub idle: Idle,
}

/// Capacity of the flow table. The configuration may set other numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capacity {
    /// Sessions.
    pub sessions: u32,
    /// Mappings.
    pub mappings: u32,
    /// Spliced flows; each is a session as well.
    pub spliced: u32,
}

impl Capacity {
    /// About how much memory that takes, in octets: 64 for a session, 48 for a mapping, 20 of index for
    /// each (two keys of 8 octets at 80% load), 64 more for a spliced flow.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        self.sessions as u64 * 84 + self.mappings as u64 * 68 + self.spliced as u64 * 64
    }
}

/// Something about the device that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Quirk {
    /// Which of the devices; nothing for all.
    pub applies: Option<String>,
    /// What it is, and what Causeway does about it.
    pub text: String,
    /// Where that is from.
    pub source: String,
}

/// Where the facts of a profile are from: a datasheet, a constant of a driver, or our own choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Sources {
    /// Names and ids.
    pub device: String,
    /// Numbers of queues.
    pub queues: String,
    /// Ring sizes.
    pub descriptors: String,
    /// RSS.
    pub rss: String,
    /// Checksum offloads.
    pub offloads: String,
    /// Frame sizes.
    pub frame: String,
    /// Filters.
    pub filters: String,
    /// The pool.
    pub mempool: String,
    /// Workers.
    pub cores: String,
    /// Capacity.
    pub capacity: String,
}

impl Sources {
    /// All of them, each with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("device", &self.device),
            ("queues", &self.queues),
            ("descriptors", &self.descriptors),
            ("rss", &self.rss),
            ("offloads", &self.offloads),
            ("frame", &self.frame),
            ("filters", &self.filters),
            ("mempool", &self.mempool),
            ("cores", &self.cores),
            ("capacity", &self.capacity),
        ]
        .into_iter()
        .map(|(name, text)| (name, text.as_str()))
    }
}
