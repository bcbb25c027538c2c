//! Devices: DPDK's virtual ones, and PCI addresses.

use crate::config::read::{self, Read};
use serde::Serialize;
use toml::de::DeValue;

/// DPDK's virtual devices that Causeway runs on.
const VDEVS: [&str; 7] =
    ["net_af_packet", "net_af_xdp", "net_null", "net_ring", "net_pcap", "net_tap", "net_memif"];

/// A DPDK virtual device with its arguments, as in `net_af_packet0,iface=tenant0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Vdev(String);

impl Vdev {
    /// The whole text, as EAL takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The device without its arguments, as in `net_af_packet0`.
    #[must_use]
    pub fn device(&self) -> &str {
        self.0.split(',').next().unwrap_or_default()
    }

    /// The driver, as in `net_af_packet`.
    #[must_use]
    pub fn driver(&self) -> &str {
        self.device().trim_end_matches(|c: char| c.is_ascii_digit())
    }

    /// The argument of this name.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.0
            .split(',')
            .skip(1)
            .filter_map(|arg| arg.split_once('='))
            .find(|(k, _)| *k == name)
            .map(|(_, v)| v)
    }
}

impl Read for Vdev {
    const ALLOWED: &'static str = "net_af_packet, net_af_xdp, net_null, net_ring, net_pcap, net_tap or net_memif, \
                                   a number, and arguments, as in \"net_af_packet0,iface=tenant0\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        // EAL takes the text as one argument; nothing in it may look like another.
        if text.is_empty() || text.len() > 200 || !text.bytes().all(|c| c.is_ascii_graphic()) {
            return Err("not a device".to_owned());
        }
        let vdev = Self(text.to_owned());
        if !VDEVS.contains(&vdev.driver()) || vdev.device() == vdev.driver() {
            return Err(format!("`{}` is no device that is known", vdev.device()));
        }
        for argument in text.split(',').skip(1) {
            let good = argument.split_once('=').is_some_and(|(k, v)| !k.is_empty() && !v.is_empty());
            if !good {
                return Err(format!("`{argument}` is no argument of the form name=value"));
            }
        }
        if ["net_af_packet", "net_af_xdp"].contains(&vdev.driver()) {
            // Linux: interface names have at most 15 octets and no slash.
            let iface = vdev.argument("iface").ok_or("the argument iface=NAME is missing")?;
            if iface.len() > 15 || iface.contains('/') || iface == "." || iface == ".." {
                return Err(format!("`{iface}` cannot be the name of a network interface"));
            }
        }
        Ok(vdev)
    }
}

/// The address of a PCI device: domain, bus, device and function, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct PciAddress(String);

impl PciAddress {
    /// The text, in lower case, as in `0000:3b:00.0`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Read for PciAddress {
    const ALLOWED: &'static str = "domain:bus:device.function in hexadecimal, as in \"0000:3b:00.0\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        let wrong = || "not a PCI address".to_owned();
        let field = |part: Option<&str>, digits: usize, most: u32| {
            part.filter(|p| p.len() == digits && p.bytes().all(|c| c.is_ascii_hexdigit()))
                .and_then(|p| u32::from_str_radix(p, 16).ok())
                .is_some_and(|n| n <= most)
        };
        let (rest, function) = text.split_once('.').ok_or_else(wrong)?;
        let mut parts = rest.split(':');
        let good = field(parts.next(), 4, 0xffff)
            && field(parts.next(), 2, 0xff)
            && field(parts.next(), 2, 0x1f)
            && parts.next().is_none()
            && field(Some(function), 1, 7);
        if good { Ok(Self(text.to_ascii_lowercase())) } else { Err(wrong()) }
    }
}
