//! DPDK 22.11 under the names and shapes that Capsule 0.1.5 expects of `capsule-ffi` 0.1.5.
//!
//! Capsule's own FFI crate needs DPDK 19.11. `[patch.crates-io]` puts this crate in its place, so that
//! Capsule is used as published while the bindings come from the headers of the installed DPDK.
//!
//! Besides bindings there are wrappers where Capsule asks for what is gone, or cannot ask for what we
//! need: [`eal`] translates arguments and gives Capsule's threads an EAL identity, [`port`] puts
//! settings into a port that Capsule has no words for, [`pool`] sizes frames, [`log`] takes DPDK's log,
//! and [`fault`] remembers which call failed on what. The function of a wrapper has the name and the
//! signature of what it wraps.
//!
//! DPDK 22.11 is tested. 24.11 is unverified: this crate and Capsule compile against its headers, and
//! have not run on it ([`TESTED`]). Capsule's features `pcap-dump` and `testils` are not served.
//!
//! Not handled: secondary processes, and KNI, which DPDK gave up (see [`kni`]).

pub mod args;
pub mod eal;
pub mod fault;
pub mod kni;
pub mod log;
pub mod mbuf;
pub mod numa;
pub mod pool;
pub mod port;

mod bindings {
    #![allow(
        dead_code,
        missing_docs,
        non_camel_case_types,
        non_snake_case,
        non_upper_case_globals,
        unreachable_pub,
        unnecessary_transmutes,
        unsafe_op_in_unsafe_fn,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::undocumented_unsafe_blocks,
        clippy::multiple_unsafe_ops_per_block,
        clippy::semicolon_if_nothing_returned,
        clippy::cast_possible_wrap,
        reason = "made by bindgen from the headers of DPDK"
    )]
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
pub use eal::{rte_eal_cleanup, rte_eal_init, rte_thread_set_affinity};
pub use kni::*;
pub use mbuf::rte_mbuf;
pub use numa::numa_node_of_cpu;
pub use pool::{rte_mempool_free, rte_pktmbuf_pool_create};
pub use port::{
    rte_eth_dev_adjust_nb_rx_tx_desc, rte_eth_dev_configure, rte_eth_dev_get_port_by_name, rte_eth_dev_start,
    rte_eth_rx_queue_setup, rte_eth_tx_queue_setup,
};

/// Receive modes of a port, under the names of DPDK 19.11.
pub mod rte_eth_rx_mq_mode {
    /// Values are C's `unsigned int`.
    pub type Type = std::ffi::c_uint;
    /// One queue, or none of the ways to choose one.
    pub const ETH_MQ_RX_NONE: Type = 0;
    /// The queue is chosen by a hash of addresses and ports.
    pub const ETH_MQ_RX_RSS: Type = 1;
}

/// Whether this crate was run and tested on the version of DPDK that it was built for.
pub const TESTED: bool = !cfg!(dpdk_24_11);

/// The version of the DPDK library that is loaded, for instance `DPDK 22.11.11`.
#[must_use]
pub fn dpdk_version() -> String {
    // SAFETY: the function has no preconditions.
    let text = unsafe { bindings::rte_version() };
    // SAFETY: DPDK gives a static text that ends in NUL.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// What an error number of DPDK means.
#[must_use]
pub fn error_text(errno: i32) -> String {
    // SAFETY: any number is allowed; unknown ones have a text too.
    let text = unsafe { bindings::rte_strerror(errno) };
    if text.is_null() {
        return format!("error {errno}");
    }
    // SAFETY: DPDK gives a text that ends in NUL and is good until this thread asks again.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
