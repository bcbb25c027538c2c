//! The kernel NIC interface, which DPDK gave up: Debian's 22.11 is built without it and 23.11 removed
//! it. Capsule links against these functions and calls them only for ports that ask for KNI; each
//! fails cleanly.

use crate::bindings::rte_mempool;
use crate::mbuf::rte_mbuf;
use std::ffi::{c_char, c_int, c_uint};

/// A handle that is never made.
#[derive(Debug)]
#[repr(C)]
pub struct rte_kni {
    _none: [u8; 0],
}

/// What Capsule fills in before it asks for an interface.
#[derive(Debug, Default, Clone, Copy)]
#[expect(non_camel_case_types, reason = "the name that Capsule uses")]
pub struct rte_kni_conf {
    /// Name of the interface.
    pub name: [c_char; 32],
    /// Group.
    pub group_id: u16,
    /// Octets of a frame.
    pub mbuf_size: c_uint,
    /// Its MAC address.
    pub mac_addr: [u8; 6],
}

/// What Capsule wants to be called for.
#[derive(Debug, Default, Clone, Copy)]
#[expect(non_camel_case_types, reason = "the name that Capsule uses")]
pub struct rte_kni_ops {
    /// The port.
    pub port_id: u16,
    /// The MTU was changed.
    pub change_mtu: Option<unsafe extern "C" fn(u16, c_uint) -> c_int>,
    /// The interface was set up or down.
    pub config_network_if: Option<unsafe extern "C" fn(u16, u8) -> c_int>,
    /// The MAC address was changed.
    pub config_mac_address: Option<unsafe extern "C" fn(u16, *mut u8) -> c_int>,
    /// Promiscuous mode was changed (the name is Capsule's).
    pub config_promiscusity: Option<unsafe extern "C" fn(u16, u8) -> c_int>,
}

macro_rules! gone {
    ($($(#[doc = $doc:literal])+ $name:ident($($argument:ty),*) $(-> $result:ty = $value:expr)?;)*) => {$(
        $(#[doc = $doc])+
        ///
        /// # Safety
        /// None is needed: it touches nothing.
        pub unsafe fn $name($(_: $argument),*) $(-> $result)? { $($value)? }
    )*};
}

gone! {
    /// Says that KNI is not supported.
    rte_kni_init(c_uint) -> c_int = -libc::ENOTSUP;
    /// Gives no interface.
    rte_kni_alloc(*mut rte_mempool, *const rte_kni_conf, *mut rte_kni_ops) -> *mut rte_kni = std::ptr::null_mut();
    /// Says that KNI is not supported.
    rte_kni_release(*mut rte_kni) -> c_int = -libc::ENOTSUP;
    /// Says that KNI is not supported.
    rte_kni_handle_request(*mut rte_kni) -> c_int = -libc::ENOTSUP;
    /// Receives nothing.
    rte_kni_rx_burst(*mut rte_kni, *mut *mut rte_mbuf, c_uint) -> c_uint = 0;
    /// Sends nothing; the frames stay the caller's.
    rte_kni_tx_burst(*mut rte_kni, *mut *mut rte_mbuf, c_uint) -> c_uint = 0;
    /// An empty name.
    rte_kni_get_name(*const rte_kni) -> *const c_char = c"".as_ptr();
    /// Closes nothing.
    rte_kni_close();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kni_fails_and_says_that_it_is_not_supported() {
        // SAFETY: the functions of this module touch nothing.
        assert_eq!(unsafe { rte_kni_init(1) }, -libc::ENOTSUP);
        // SAFETY: as above.
        let made = unsafe { rte_kni_alloc(std::ptr::null_mut(), std::ptr::null(), std::ptr::null_mut()) };
        assert!(made.is_null());
        // SAFETY: as above.
        assert_eq!(unsafe { rte_kni_tx_burst(std::ptr::null_mut(), std::ptr::null_mut(), 3) }, 0);
    }
}
