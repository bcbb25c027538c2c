//! What is to be brought up.

use capsule_ffi::args::PciAddress;
use std::fmt;
use std::str::FromStr;

/// The longest name that DPDK takes for a device, an app group or a port.
const NAME_OCTETS: usize = 63;

/// A driver of virtual devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VdevDriver {
    /// A kernel interface through a packet socket with mapped rings.
    AfPacket,
    /// A kernel interface through an XDP socket.
    AfXdp,
    /// No device: receives without end, sends to nowhere.
    Null,
    /// A ring in memory: what is sent comes back.
    Ring,
    /// A kernel interface or files through libpcap.
    Pcap,
    /// A kernel interface that the port makes.
    Tap,
    /// Shared memory with another process.
    Memif,
}

impl VdevDriver {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::AfPacket, Self::AfXdp, Self::Null, Self::Ring, Self::Pcap, Self::Tap, Self::Memif];

    /// Its name in DPDK; a device's name begins with it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AfPacket => "net_af_packet",
            Self::AfXdp => "net_af_xdp",
            Self::Null => "net_null",
            Self::Ring => "net_ring",
            Self::Pcap => "net_pcap",
            Self::Tap => "net_tap",
            Self::Memif => "net_memif",
        }
    }
}

/// A virtual device: its name, and the arguments of its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vdev {
    driver: VdevDriver,
    name: String,
    args: Vec<(String, Option<String>)>,
}

impl Vdev {
    /// Its driver.
    #[must_use]
    pub const fn driver(&self) -> VdevDriver {
        self.driver
    }

    /// Its name in DPDK (`net_af_packet0`).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of an argument, if it is there and has one.
    #[must_use]
    pub fn arg(&self, key: &str) -> Option<&str> {
        self.args.iter().find(|(k, _)| k == key).and_then(|(_, value)| value.as_deref())
    }

    /// Adds an argument if it is not there yet: what the configuration says stands.
    pub(crate) fn default_arg(&mut self, key: &str, value: impl fmt::Display) {
        if self.args.iter().all(|(k, _)| k != key) {
            self.args.push((key.to_owned(), Some(value.to_string())));
        }
    }

    /// All arguments as DPDK reads them, without the name.
    #[must_use]
    pub fn args(&self) -> String {
        let texts: Vec<String> = self
            .args
            .iter()
            .map(|(key, value)| value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}")))
            .collect();
        texts.join(",")
    }

    /// The kernel interface that it takes frames from, where it needs one that is there already.
    #[must_use]
    pub fn kernel_interface(&self) -> Option<&str> {
        match self.driver {
            VdevDriver::AfPacket | VdevDriver::AfXdp => self.arg("iface"),
            VdevDriver::Pcap => self.arg("iface").or_else(|| self.arg("rx_iface")),
            VdevDriver::Null | VdevDriver::Ring | VdevDriver::Tap | VdevDriver::Memif => None,
        }
    }
}

/// The text names no device that Causeway can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDeviceError {
    /// Neither a PCI address nor a virtual device.
    #[error(
        "`{0}` is no device: give a PCI address like 0000:3b:00.0, or a virtual device like \
         net_af_packet0,iface=eth0 (drivers: net_af_packet, net_af_xdp, net_null, net_ring, net_pcap, net_tap, \
         net_memif)"
    )]
    Unknown(String),
    /// A character that DPDK would take for something else.
    #[error("`{0}` has a space or a control character, which no device name or argument can have")]
    BadCharacter(String),
    /// The driver needs an argument that is not there.
    #[error("`{device}` needs `{needs}`")]
    MissingArg {
        /// The device.
        device: String,
        /// What it needs.
        needs: &'static str,
    },
    /// The name is too long.
    #[error("`{0}` is longer than 63 octets")]
    TooLong(String),
}

/// Where a port's frames come from and go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// A device that DPDK makes (`net_af_packet0,iface=tenant0`).
    Vdev(Vdev),
    /// A card on the PCI bus.
    Pci(PciAddress),
}

impl Device {
    /// Its name in DPDK.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Vdev(vdev) => vdev.name.clone(),
            Self::Pci(address) => address.to_string(),
        }
    }

    /// The driver, if it is a virtual device.
    #[must_use]
    pub const fn vdev_driver(&self) -> Option<VdevDriver> {
        match self {
            Self::Vdev(vdev) => Some(vdev.driver),
            Self::Pci(_) => None,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vdev(vdev) if vdev.args.is_empty() => f.write_str(&vdev.name),
            Self::Vdev(vdev) => write!(f, "{},{}", vdev.name, vdev.args()),
            Self::Pci(address) => write!(f, "{address}"),
        }
    }
}

impl FromStr for Device {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, ParseDeviceError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Pci(address));
        }
        // EAL's arguments are cut at spaces.
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(ParseDeviceError::BadCharacter(text.to_owned()));
        }
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let driver = VdevDriver::ALL.into_iter().find(|driver| {
            // What follows the driver's name tells devices apart: digits, or `_name`.
            name.strip_prefix(driver.name()).is_some_and(|rest| {
                rest.bytes().all(|b| b.is_ascii_digit())
                    || rest
                        .strip_prefix('_')
                        .is_some_and(|r| r.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
            })
        });
        let Some(driver) = driver else { return Err(ParseDeviceError::Unknown(text.to_owned())) };
        if name.len() > NAME_OCTETS {
            return Err(ParseDeviceError::TooLong(name.to_owned()));
        }
        let args = parts
            .filter(|part| !part.is_empty())
            .map(|part| match part.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (part.to_owned(), None),
            })
            .collect();
        let vdev = Vdev { driver, name: name.to_owned(), args };
        let missing = match driver {
            VdevDriver::AfPacket | VdevDriver::AfXdp if vdev.arg("iface").is_none() => Some("iface=NAME"),
            VdevDriver::Pcap
                if ["iface", "rx_iface", "rx_pcap", "tx_pcap"].iter().all(|key| vdev.arg(key).is_none()) =>
            {
                Some("iface=NAME, rx_iface=NAME or rx_pcap=FILE")
            }
            _ => None,
        };
        match missing {
            Some(needs) => Err(ParseDeviceError::MissingArg { device: text.to_owned(), needs }),
            None => Ok(Self::Vdev(vdev)),
        }
    }
}

/// Receive-side scaling: how a device spreads packets over its queues.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RssSpec {
    /// Fields that are hashed, as bits of DPDK's `RTE_ETH_RSS_*`. 0 takes addresses, TCP, UDP and SCTP
    /// ports, as far as the device can.
    pub fields: u64,
    /// The key, of the length that the device has; empty takes the device's own.
    pub key: Vec<u8>,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Its name in the configuration; no two ports have the same.
    pub name: String,
    /// Its device.
    pub device: Device,
    /// Largest packet in octets, without the Ethernet header: 1280 (the least that IPv6 allows) to 9600.
    pub mtu: u16,
    /// Frames that a receive queue holds; rounded to what the device can.
    pub rx_descriptors: u16,
    /// Frames that a transmit queue holds; rounded to what the device can.
    pub tx_descriptors: u16,
    /// How packets are spread over workers.
    pub rss: RssSpec,
    /// Let the device check checksums of what comes in, where it can.
    pub rx_checksums: bool,
    /// Let the device fill in checksums of what goes out, where it can.
    pub tx_checksums: bool,
}

impl PortSpec {
    /// A port with MTU 1500, 512 descriptors each way, the device's own scaling and no offloads.
    #[must_use]
    pub fn new(name: &str, device: Device) -> Self {
        Self {
            name: name.to_owned(),
            device,
            mtu: 1500,
            rx_descriptors: 512,
            tx_descriptors: 512,
            rss: RssSpec::default(),
            rx_checksums: false,
            tx_checksums: false,
        }
    }
}

/// What a worker does when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Idle {
    /// Goes on asking: least delay, a core each.
    #[default]
    Spin,
    /// Sleeps, at most 100 microseconds at a time, after a number of polls without a frame.
    Backoff,
}

/// Where frames live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Memory {
    /// On huge pages if enough are free, else on ordinary ones, with a warning.
    #[default]
    Auto,
    /// On huge pages; without them bring-up fails.
    HugePages,
    /// On ordinary pages.
    Ordinary,
}

/// A whole gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Name that keeps two gateways on one machine apart: letters, digits, `-`, `_` and `.`.
    pub app_group: String,
    /// Core of the main thread, which waits for signals. It may be a worker's core too.
    pub main_core: u16,
    /// Cores of the workers. Worker numbers count from 0 in ascending order of their cores, and each
    /// worker has queue pair number `id` of every port.
    pub worker_cores: Vec<u16>,
    /// Frames in the pool of each NUMA node that workers are on.
    pub mempool_frames: u32,
    /// Octets that a frame can hold; what the largest MTU needs is the least that it becomes.
    pub frame_octets: u16,
    /// What workers do when there is nothing to do.
    pub idle: Idle,
    /// Where frames live.
    pub memory: Memory,
    /// The ports, in the order that [`Queues`](causeway_core::Queues) numbers them in.
    pub ports: Vec<PortSpec>,
}

/// Octets around the packet in a frame: an Ethernet header with two tags.
pub(crate) const LINK_OCTETS: u16 = 22;

impl Spec {
    /// Octets that frames need for the largest MTU, and at least what is asked for.
    pub(crate) fn frame_octets(&self) -> u16 {
        let needs = |port: &PortSpec| match &port.device {
            // The driver refuses frames that a whole slot would not fit into.
            Device::Vdev(vdev) if vdev.driver == VdevDriver::AfPacket => vdev
                .arg("framesz")
                .and_then(|slot| slot.parse::<u16>().ok())
                .unwrap_or(0)
                .saturating_sub(AF_PACKET_HEADER_OCTETS)
                .max(port.mtu.saturating_add(LINK_OCTETS)),
            _ => port.mtu.saturating_add(LINK_OCTETS),
        };
        let largest = self.ports.iter().map(needs).max().unwrap_or(0);
        largest
            .max(self.frame_octets)
            .clamp(capsule_ffi::pool::LEAST_FRAME_OCTETS, capsule_ffi::pool::MOST_FRAME_OCTETS)
            .next_multiple_of(64)
    }

    /// Gives virtual devices the arguments that follow from the rest, unless they were given.
    pub(crate) fn fill_in(&mut self) {
        self.worker_cores.sort_unstable();
        let workers = self.worker_cores.len();
        for port in &mut self.ports {
            let Device::Vdev(vdev) = &mut port.device else { continue };
            match vdev.driver {
                VdevDriver::AfPacket => {
                    // A slot of the ring holds the kernel's header, the link-layer header and the
                    // packet; longer ones arrive cut off. Two slots fill a page, or one fills pages.
                    let needs = u32::from(port.mtu) + u32::from(LINK_OCTETS) + AF_PACKET_SLOT_OCTETS;
                    let slot = if needs <= 2048 { 2048 } else { needs.next_multiple_of(4096) };
                    let block = slot.max(4096);
                    let slots = u32::from(port.rx_descriptors.max(port.tx_descriptors)).next_multiple_of(2);
                    vdev.default_arg("framesz", slot);
                    vdev.default_arg("blocksz", block);
                    vdev.default_arg("framecnt", slots);
                    vdev.default_arg("qpairs", workers);
                }
                VdevDriver::AfXdp => vdev.default_arg("queue_count", workers),
                VdevDriver::Null
                | VdevDriver::Ring
                | VdevDriver::Pcap
                | VdevDriver::Tap
                | VdevDriver::Memif => {}
            }
        }
    }
}

/// What the kernel puts before the link-layer header in a slot of a mapped packet ring, rounded up.
const AF_PACKET_SLOT_OCTETS: u32 = 96;

/// What the driver takes off a slot before it compares it with a frame: the header of version 2.
const AF_PACKET_HEADER_OCTETS: u16 = 32;

/// True for a name that can stand in a file name and in an argument.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_OCTETS
        && !text.starts_with('.')
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn devices_are_told_apart() {
        let device: Device = "0000:3b:00.0".parse().unwrap();
        assert!(matches!(device, Device::Pci(_)));
        for driver in VdevDriver::ALL {
            let text = format!("{}0,iface=eth0", driver.name());
            let device: Device = text.parse().unwrap();
            assert_eq!((device.vdev_driver(), device.to_string()), (Some(driver), text));
        }
        let device: Device = "net_af_packet_wan,iface=up0,qpairs=2".parse().unwrap();
        assert_eq!(device.name(), "net_af_packet_wan");
    }

    #[test]
    fn what_is_no_device_is_refused_with_what_is_wrong() {
        for text in ["", "eth0", "net_af_packetx,iface=a", "net_virtio0", "0000:3b:00.9"] {
            assert!(matches!(text.parse::<Device>(), Err(ParseDeviceError::Unknown(_))), "{text}");
        }
        assert!(matches!("net_null0,a b".parse::<Device>(), Err(ParseDeviceError::BadCharacter(_))));
        assert!(matches!("net_af_packet0".parse::<Device>(), Err(ParseDeviceError::MissingArg { .. })));
        assert!(matches!("net_pcap0".parse::<Device>(), Err(ParseDeviceError::MissingArg { .. })));
        let long = format!("net_null{}", "1".repeat(80));
        assert!(matches!(long.parse::<Device>(), Err(ParseDeviceError::TooLong(_))));
    }

    fn spec(device: &str, mtu: u16, workers: &[u16]) -> Spec {
        Spec {
            app_group: "test".into(),
            main_core: 0,
            worker_cores: workers.to_vec(),
            mempool_frames: 1023,
            frame_octets: 0,
            idle: Idle::Spin,
            memory: Memory::Auto,
            ports: vec![PortSpec { mtu, ..PortSpec::new("p", device.parse().unwrap()) }],
        }
    }

    #[test]
    fn an_af_packet_ring_has_slots_that_hold_the_mtu_and_a_queue_pair_for_each_worker() {
        let mut s = spec("net_af_packet0,iface=a", 1500, &[1, 0]);
        s.fill_in();
        assert_eq!(
            s.ports[0].device.to_string(),
            "net_af_packet0,iface=a,framesz=2048,blocksz=4096,framecnt=512,qpairs=2"
        );
        assert_eq!(s.worker_cores, [0, 1]);
        let mut s = spec("net_af_packet0,iface=a", 9000, &[1]);
        s.fill_in();
        assert!(s.ports[0].device.to_string().contains("framesz=12288,blocksz=12288"));
        assert_eq!(s.frame_octets(), 12_288);
    }

    #[test]
    fn what_the_configuration_says_of_a_device_stands() {
        let mut s = spec("net_af_packet0,iface=a,framesz=4096,qpairs=8", 1500, &[1]);
        s.fill_in();
        let text = s.ports[0].device.to_string();
        assert!(text.contains("framesz=4096") && text.contains("qpairs=8"), "{text}");
    }

    #[test]
    fn frames_hold_the_largest_mtu() {
        assert_eq!(spec("net_null0", 1500, &[1]).frame_octets(), 2048);
        assert_eq!(spec("net_null0", 9000, &[1]).frame_octets(), 9024);
        assert_eq!(Spec { frame_octets: 4000, ..spec("net_null0", 1500, &[1]) }.frame_octets(), 4032);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = text.parse::<Device>();
        }

        #[test]
        fn a_device_survives_its_text(n in 0u16..99, args in prop::collection::vec("[a-z]{1,8}=[a-z0-9./:]{0,8}", 0..4)) {
            let text = std::iter::once(format!("net_ring{n}")).chain(args).collect::<Vec<_>>().join(",");
            let device: Device = text.parse().unwrap();
            prop_assert_eq!(device.to_string(), text);
        }
    }
}
