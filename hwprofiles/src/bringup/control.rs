//! What control may ask of ports while workers run. None of it is for the path of packets.

use super::PortInfo;
use capsule_ffi as ffi;
use causeway_wire::MacAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a port counted since it started. Drivers count what they can; the rest stays 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Octets received.
    pub rx_octets: u64,
    /// Octets sent.
    pub tx_octets: u64,
    /// Frames that the device dropped because its queue was full.
    pub rx_missed: u64,
    /// Frames that the device received broken.
    pub rx_errors: u64,
    /// Frames that the device failed to send.
    pub tx_errors: u64,
    /// Times that the pool had no frame to receive into.
    pub rx_no_frame: u64,
}

/// Whether a port has a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// It has.
    pub up: bool,
    /// Its speed in Mbit/s; 0 if the device does not know.
    pub speed_mbps: u32,
}

/// How a port was made to take frames for a MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacFilter {
    /// The device filters for it.
    Filtered,
    /// The device has no filters, or none left: the port takes everything, and software must look.
    Promiscuous,
}

/// Why a port could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The gateway has ended.
    #[error("the gateway has ended")]
    Ended,
    /// There is no port of that number.
    #[error("there is no port number {0}")]
    NoSuchPort(u16),
    /// A filter is for one station.
    #[error("{0} is no address of a station: filters are for unicast addresses")]
    NotUnicast(MacAddr),
    /// The device refused.
    #[error("port `{port}`: {what}: {reason}")]
    Refused {
        /// The port.
        port: String,
        /// What was asked.
        what: &'static str,
        /// DPDK's error.
        reason: String,
    },
}

/// Access to ports for control threads. Cheap to clone; answers [`ControlError::Ended`] once the gateway
/// has ended.
#[derive(Debug, Clone)]
pub struct Control(Arc<Mutex<Option<Vec<PortInfo>>>>);

impl Control {
    pub(crate) fn new(ports: Vec<PortInfo>) -> Self {
        Self(Arc::new(Mutex::new(Some(ports))))
    }

    /// Says which ports there are.
    pub(crate) fn set_ports(&self, ports: Vec<PortInfo>) {
        *self.lock() = Some(ports);
    }

    /// Ends all access, after a call that is under way. Kernel interfaces keep the mode that a port puts
    /// them in, so it is taken back here.
    pub(crate) fn close(&self) {
        for info in self.lock().take().unwrap_or_default() {
            if info.promiscuous {
                // SAFETY: a port that is gone is an error.
                let _ = unsafe { ffi::rte_eth_promiscuous_disable(info.dpdk_port) };
            }
        }
    }

    // One call at a time: DPDK's functions for control take no locks themselves.
    fn lock(&self) -> MutexGuard<'_, Option<Vec<PortInfo>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        port: u16,
        ask: impl FnOnce(&mut PortInfo) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let mut ports = self.lock();
        let ports = ports.as_mut().ok_or(ControlError::Ended)?;
        let info = ports.get_mut(usize::from(port)).ok_or(ControlError::NoSuchPort(port))?;
        ask(info)
    }

    /// The ports, as they are now.
    ///
    /// # Errors
    /// [`ControlError::Ended`].
    pub fn ports(&self) -> Result<Vec<PortInfo>, ControlError> {
        self.lock().clone().ok_or(ControlError::Ended)
    }

    /// What a port counted. Ports are numbered in the order of the configuration.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn stats(&self, port: u16) -> Result<PortStats, ControlError> {
        self.with(port, |info| {
            let mut stats = ffi::rte_eth_stats::default();
            // SAFETY: the structure can be written; a port that is gone is an error.
            let result = unsafe { ffi::rte_eth_stats_get(info.dpdk_port, &raw mut stats) };
            refused(info, "counters", result)?;
            Ok(PortStats {
                rx_frames: stats.ipackets,
                tx_frames: stats.opackets,
                rx_octets: stats.ibytes,
                tx_octets: stats.obytes,
                rx_missed: stats.imissed,
                rx_errors: stats.ierrors,
                tx_errors: stats.oerrors,
                rx_no_frame: stats.rx_nombuf,
            })
        })
    }

    /// Whether a port has a link.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn link(&self, port: u16) -> Result<Link, ControlError> {
        self.with(port, |info| {
            let mut speed_mbps = 0;
            // SAFETY: the number can be written; a port that is gone is an error.
            let up = unsafe { ffi::cw_link_is_up(info.dpdk_port, &raw mut speed_mbps) };
            refused(info, "link", up)?;
            // DPDK's AF_PACKET port says that its link is up whatever the kernel's interface says.
            let up = up > 0 && kernel_interface(&info.device).and_then(running).unwrap_or(true);
            Ok(Link { up, speed_mbps })
        })
    }

    /// Makes a port take frames for another MAC address of ours.
    ///
    /// # Errors
    /// See [`ControlError`]; a device without room for filters is none of them.
    pub fn add_mac(&self, port: u16, mac: MacAddr) -> Result<MacFilter, ControlError> {
        if !mac.is_unicast() {
            return Err(ControlError::NotUnicast(mac));
        }
        self.with(port, |info| {
            if info.has_mac_filter {
                let mut address = ffi::rte_ether_addr { addr_bytes: mac.0 };
                // SAFETY: the address can be read; a port that is gone is an error.
                let result = unsafe { ffi::rte_eth_dev_mac_addr_add(info.dpdk_port, &raw mut address, 0) };
                let full = [-libc::ENOSPC, -libc::ENOTSUP].contains(&result);
                if !full {
                    return refused(info, "MAC filter", result).map(|()| MacFilter::Filtered);
                }
            }
            promiscuous(info)?;
            Ok(MacFilter::Promiscuous)
        })
    }

    /// Takes a MAC address back that [`add_mac`](Self::add_mac) added. One that is not there is no error.
    /// A port that became promiscuous stays so.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn remove_mac(&self, port: u16, mac: MacAddr) -> Result<(), ControlError> {
        self.with(port, |info| {
            if !info.has_mac_filter {
                return Ok(());
            }
            let mut address = ffi::rte_ether_addr { addr_bytes: mac.0 };
            // SAFETY: the address can be read; a port that is gone is an error.
            let result = unsafe { ffi::rte_eth_dev_mac_addr_remove(info.dpdk_port, &raw mut address) };
            if result == -libc::ENOTSUP { Ok(()) } else { refused(info, "MAC filter", result) }
        })
    }

    /// Frames that are out of their pools at this moment, and how many there are in all.
    ///
    /// # Errors
    /// [`ControlError::Ended`].
    pub fn frames(&self) -> Result<(u32, u32), ControlError> {
        // Held while asking, so that no pool is freed meanwhile.
        let ports = self.lock();
        ports.as_ref().ok_or(ControlError::Ended)?;
        Ok(ffi::pool::usage())
    }
}

/// The kernel interface that a device is on: the value of its argument `iface`.
fn kernel_interface(device: &str) -> Option<&str> {
    device.split(',').find_map(|argument| argument.strip_prefix("iface="))
}

/// Whether a kernel interface of this network namespace has a carrier (netdevice(7), IFF_RUNNING); nothing if
/// the kernel does not say.
fn running(interface: &str) -> Option<bool> {
    if interface.is_empty() || interface.len() >= libc::IFNAMSIZ {
        return None;
    }
    // SAFETY: zeros are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: makes a socket, which is closed below.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return None;
    }
    // SAFETY: the request can be read and written, and its name ends with a zero.
    let result = unsafe { libc::ioctl(socket, libc::SIOCGIFFLAGS, &raw mut request) };
    // SAFETY: the socket is ours.
    let _ = unsafe { libc::close(socket) };
    if result < 0 {
        return None;
    }
    // SAFETY: the call above has written the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Some(libc::c_int::from(flags) & libc::IFF_RUNNING != 0)
}

fn refused(info: &PortInfo, what: &'static str, result: i32) -> Result<(), ControlError> {
    if result >= 0 {
        return Ok(());
    }
    Err(ControlError::Refused { port: info.name.clone(), what, reason: ffi::error_text(-result) })
}

/// Lets a port take everything.
pub(crate) fn promiscuous(info: &mut PortInfo) -> Result<(), ControlError> {
    if !info.promiscuous {
        // SAFETY: a port that is gone is an error.
        let result = unsafe { ffi::rte_eth_promiscuous_enable(info.dpdk_port) };
        // A device that has no such mode takes everything, or has nothing to filter.
        if result != -libc::ENOTSUP {
            refused(info, "promiscuous mode", result)?;
        }
        info.promiscuous = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_whether_its_interfaces_run() {
        assert_eq!(running("lo"), Some(true));
        assert_eq!(running("no-such-if0"), None);
        assert_eq!(running("a-name-that-is-far-too-long"), None);
        assert_eq!(kernel_interface("net_af_packet0,iface=lo,qpairs=1"), Some("lo"));
        assert_eq!(kernel_interface("0000:3b:00.0"), None);
    }
}
