//! Settings of ports that Capsule has no words for, put in where Capsule configures the port.
//!
//! They are handed over before ([`set`]), by the name of the device, and what came of them can be
//! asked for afterwards ([`outcome`]): devices are not all able to do all.

use crate::bindings::{
    self as c, rte_eth_conf, rte_eth_dev_info, rte_eth_rxconf, rte_eth_txconf, rte_mempool,
};
use crate::fault::{self, Step};
use crate::pool;
use crate::rte_eth_rx_mq_mode;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::sync::{Mutex, MutexGuard, PoisonError};

mod raw {
    use super::{c_char, c_int, c_uint, rte_eth_conf, rte_eth_rxconf, rte_eth_txconf, rte_mempool};
    unsafe extern "C" {
        pub(super) fn rte_eth_dev_get_port_by_name(name: *const c_char, port: *mut u16) -> c_int;
        pub(super) fn rte_eth_dev_configure(port: u16, rx: u16, tx: u16, conf: *const rte_eth_conf) -> c_int;
        pub(super) fn rte_eth_dev_adjust_nb_rx_tx_desc(port: u16, rx: *mut u16, tx: *mut u16) -> c_int;
        pub(super) fn rte_eth_dev_start(port: u16) -> c_int;
        pub(super) fn rte_eth_rx_queue_setup(
            port: u16,
            queue: u16,
            descriptors: u16,
            socket: c_uint,
            conf: *const rte_eth_rxconf,
            pool: *mut rte_mempool,
        ) -> c_int;
        pub(super) fn rte_eth_tx_queue_setup(
            port: u16,
            queue: u16,
            descriptors: u16,
            socket: c_uint,
            conf: *const rte_eth_txconf,
        ) -> c_int;
    }
}

/// What is wanted of a port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Largest packet in octets without its link-layer header; nothing leaves DPDK's 1500.
    pub mtu: Option<u16>,
    /// Fields that receive-side scaling hashes (`CW_RSS_*`); 0 leaves Capsule's choice.
    pub rss_fields: u64,
    /// Key of receive-side scaling; empty leaves the device's.
    pub rss_key: Vec<u8>,
    /// Receive offloads (`CW_RX_OFFLOAD_*`); those that the device lacks are left out.
    pub rx_offloads: u64,
    /// Transmit offloads (`CW_TX_OFFLOAD_*`); those that the device lacks are left out.
    pub tx_offloads: u64,
}

/// What a port was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Its number in DPDK.
    pub port: u16,
    /// Queue pairs.
    pub queues: u16,
    /// MTU that the device was told; 0 if it kept its own.
    pub mtu: u16,
    /// Fields that are hashed; 0 with one queue.
    pub rss_fields: u64,
    /// Receive offloads that are on.
    pub rx_offloads: u64,
    /// Transmit offloads that are on.
    pub tx_offloads: u64,
}

#[derive(Debug, Default)]
struct Registry {
    wanted: BTreeMap<String, Settings>,
    names: BTreeMap<u16, String>,
    outcomes: BTreeMap<String, Outcome>,
}

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { wanted: BTreeMap::new(), names: BTreeMap::new(), outcomes: BTreeMap::new() });

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands over what is wanted of a device, before Capsule brings it up. The name is the one that DPDK
/// knows it by (`net_af_packet0`, `0000:3b:00.0`).
pub fn set(device: &str, settings: Settings) {
    registry().wanted.insert(device.to_owned(), settings);
}

/// What the device was given, once it is configured.
#[must_use]
pub fn outcome(device: &str) -> Option<Outcome> {
    registry().outcomes.get(device).copied()
}

/// Forgets all settings and outcomes.
pub fn clear() {
    *registry() = Registry::default();
}

fn name_of(port: u16) -> String {
    registry().names.get(&port).cloned().unwrap_or_else(|| format!("port {port}"))
}

fn noted(step: Step, port: u16, result: c_int) -> c_int {
    if result < 0 {
        fault::note(step, name_of(port), result);
    }
    result
}

/// Finds a port by the name of its device, and remembers the name.
///
/// # Safety
/// `name` ends in NUL, `port` can be written.
pub unsafe fn rte_eth_dev_get_port_by_name(name: *const c_char, port: *mut u16) -> c_int {
    // SAFETY: the caller's promise is the one that this needs.
    let result = unsafe { raw::rte_eth_dev_get_port_by_name(name, port) };
    // SAFETY: the caller says that the name ends in NUL.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    if result < 0 {
        fault::note(Step::FindDevice, name, result);
    } else {
        // SAFETY: the call succeeded, so it wrote the number.
        registry().names.insert(unsafe { port.read() }, name);
    }
    result
}

/// Configures a port as Capsule wants it, and as the settings say.
///
/// # Safety
/// `conf` points to a configuration.
pub unsafe fn rte_eth_dev_configure(port: u16, rx: u16, tx: u16, conf: *const rte_eth_conf) -> c_int {
    // SAFETY: the caller says that it can be read.
    let mut conf = unsafe { conf.read() };
    let mut info = rte_eth_dev_info::default();
    // SAFETY: `info` can be written; an unknown port is an error, not undefined.
    let known = unsafe { c::rte_eth_dev_info_get(port, &raw mut info) };
    if known < 0 {
        return noted(Step::Configure, port, known);
    }
    let name = name_of(port);
    let settings = registry().wanted.get(&name).cloned().unwrap_or_default();
    // The key must stay where it is until the call below returns; DPDK copies it.
    let mut key = settings.rss_key.clone();
    let outcome = apply(&settings, &mut key, &info, port, rx, &mut conf);

    // SAFETY: `conf` is ours, and the key that it points to lives until the end of this function.
    let result = unsafe { raw::rte_eth_dev_configure(port, rx, tx, &raw const conf) };
    if result >= 0 {
        registry().outcomes.insert(name, outcome);
    }
    noted(Step::Configure, port, result)
}

/// Puts the settings into Capsule's configuration, as far as the device can follow.
fn apply(
    settings: &Settings,
    key: &mut [u8],
    info: &rte_eth_dev_info,
    port: u16,
    queues: u16,
    conf: &mut rte_eth_conf,
) -> Outcome {
    let mut outcome = Outcome { port, queues, ..Outcome::default() };
    if let Some(mtu) = settings.mtu {
        // Drivers of kernel interfaces state a fixed longest frame and never enforce it, yet DPDK
        // compares the MTU with it: there the interface's own MTU is what counts.
        let kernel_interface = info.if_index != 0 && u32::from(mtu) + ETHERNET_OCTETS > info.max_rx_pktlen;
        if !kernel_interface {
            conf.rxmode.mtu = u32::from(mtu);
            outcome.mtu = mtu;
        }
    }
    if queues > 1 {
        if settings.rss_fields != 0 {
            conf.rxmode.mq_mode = rte_eth_rx_mq_mode::ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = settings.rss_fields & info.flow_type_rss_offloads;
        }
        if conf.rx_adv_conf.rss_conf.rss_hf == 0 {
            // A device that hashes nothing on request spreads as it likes (AF_PACKET, for one).
            conf.rxmode.mq_mode = rte_eth_rx_mq_mode::ETH_MQ_RX_NONE;
        } else if !key.is_empty() && key.len() == usize::from(info.hash_key_size) {
            conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
            conf.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size;
        }
        outcome.rss_fields = conf.rx_adv_conf.rss_conf.rss_hf;
        // Without this some drivers leave the hash out of the frame's descriptor.
        if outcome.rss_fields != 0 {
            conf.rxmode.offloads |= c::CW_RX_OFFLOAD_RSS_HASH & info.rx_offload_capa;
        }
    }
    conf.rxmode.offloads |= settings.rx_offloads & info.rx_offload_capa;
    conf.txmode.offloads |= settings.tx_offloads & info.tx_offload_capa;
    // Fast free promises that all frames of a queue come from one pool. With a pool on each NUMA node,
    // a frame that is forwarded between ports of two nodes would break the promise.
    if pool::count() > 1 {
        conf.txmode.offloads &= !c::DEV_TX_OFFLOAD_MBUF_FAST_FREE;
    }
    outcome.rx_offloads = conf.rxmode.offloads;
    outcome.tx_offloads = conf.txmode.offloads;
    outcome
}

/// Octets of an Ethernet header and its check sequence, as DPDK counts them around an MTU.
const ETHERNET_OCTETS: u32 = 18;

/// Rounds numbers of descriptors to what the device can.
///
/// # Safety
/// Both pointers are null or can be written.
pub unsafe fn rte_eth_dev_adjust_nb_rx_tx_desc(port: u16, rx: *mut u16, tx: *mut u16) -> c_int {
    // SAFETY: the caller's promise is the one that this needs.
    noted(Step::Descriptors, port, unsafe { raw::rte_eth_dev_adjust_nb_rx_tx_desc(port, rx, tx) })
}

/// Sets up a receive queue.
///
/// # Safety
/// `conf` is null or can be read; `pool` is a pool that lives until the port is closed.
pub unsafe fn rte_eth_rx_queue_setup(
    port: u16,
    queue: u16,
    descriptors: u16,
    socket: c_uint,
    conf: *const rte_eth_rxconf,
    pool: *mut rte_mempool,
) -> c_int {
    // SAFETY: the caller's promise is the one that this needs.
    let result = unsafe { raw::rte_eth_rx_queue_setup(port, queue, descriptors, socket, conf, pool) };
    noted(Step::RxQueue, port, result)
}

/// Sets up a transmit queue.
///
/// # Safety
/// `conf` is null or can be read.
pub unsafe fn rte_eth_tx_queue_setup(
    port: u16,
    queue: u16,
    descriptors: u16,
    socket: c_uint,
    conf: *const rte_eth_txconf,
) -> c_int {
    // SAFETY: the caller's promise is the one that this needs.
    let result = unsafe { raw::rte_eth_tx_queue_setup(port, queue, descriptors, socket, conf) };
    noted(Step::TxQueue, port, result)
}

/// Starts a port.
///
/// # Safety
/// Its queues are set up.
pub unsafe fn rte_eth_dev_start(port: u16) -> c_int {
    // SAFETY: the caller's promise is the one that this needs.
    noted(Step::Start, port, unsafe { raw::rte_eth_dev_start(port) })
}

#[cfg(test)]
mod tests;
