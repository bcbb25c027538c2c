//! `rte_mbuf`, written by hand so that the names of its fields do not depend on the version of DPDK
//! (24.11 put several of them into unnamed groups). That every field is where DPDK has it is checked
//! when compiling, against offsets that the C compiler worked out.

use crate::bindings::{self as c, rte_mempool};
use std::ffi::c_void;
use std::mem::{offset_of, size_of};

/// A frame's descriptor: 128 octets, in front of the frame's memory.
///
/// Fields that neither Capsule nor Causeway uses have no names.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct rte_mbuf {
    /// Start of the segment's memory; the frame's first octet is `data_off` behind it.
    pub buf_addr: *mut c_void,
    /// The same address as the device sees it.
    pub buf_iova: u64,
    /// Octets between `buf_addr` and the frame.
    pub data_off: u16,
    /// How many hold it.
    pub refcnt: u16,
    /// Segments of the frame; one is all that Causeway takes.
    pub nb_segs: u16,
    /// Port that the frame came from.
    pub port: u16,
    /// What the device found out, and what it is to do.
    pub ol_flags: u64,
    /// What the device thinks the packet is.
    pub packet_type: u32,
    /// Octets of all segments.
    pub pkt_len: u32,
    /// Octets of this segment.
    pub data_len: u16,
    /// VLAN tag that was taken off.
    pub vlan_tci: u16,
    /// Receive-side-scaling hash, if `ol_flags` says that there is one.
    pub hash_rss: u32,
    _hash_high: u32,
    _vlan_tci_outer: u16,
    /// Octets of the segment's memory, headroom included.
    pub buf_len: u16,
    /// Pool that the mbuf belongs to.
    pub pool: *mut rte_mempool,
    /// Next segment, or null.
    pub next: *mut rte_mbuf,
    _second_line: [u64; 7],
}

macro_rules! same_offset {
    ($($field:ident == $constant:ident),* $(,)?) => {
        $(const _: () = assert!(
            offset_of!(rte_mbuf, $field) == c::cw_mbuf_layout::$constant as usize,
            concat!("DPDK has ", stringify!($field), " elsewhere"),
        );)*
    };
}

same_offset! {
    buf_addr == CW_MBUF_BUF_ADDR,
    data_off == CW_MBUF_DATA_OFF,
    refcnt == CW_MBUF_REFCNT,
    nb_segs == CW_MBUF_NB_SEGS,
    port == CW_MBUF_PORT,
    ol_flags == CW_MBUF_OL_FLAGS,
    packet_type == CW_MBUF_PACKET_TYPE,
    pkt_len == CW_MBUF_PKT_LEN,
    data_len == CW_MBUF_DATA_LEN,
    vlan_tci == CW_MBUF_VLAN_TCI,
    hash_rss == CW_MBUF_HASH,
    buf_len == CW_MBUF_BUF_LEN,
    pool == CW_MBUF_POOL,
    next == CW_MBUF_NEXT,
}

const _: () = assert!(size_of::<rte_mbuf>() == c::cw_mbuf_layout::CW_MBUF_OCTETS as usize);
