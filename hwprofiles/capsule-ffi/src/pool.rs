//! Pools of frames: Capsule makes them with frames of 2 KiB, and measures nothing when it frees them.

use crate::bindings::{self as c, rte_mempool};
use crate::eal;
use crate::fault::{self, Step};
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

mod raw {
    use super::{c_char, c_int, c_uint, rte_mempool};
    unsafe extern "C" {
        pub(super) fn rte_pktmbuf_pool_create(
            name: *const c_char,
            n: c_uint,
            cache_size: c_uint,
            priv_size: u16,
            data_room_size: u16,
            socket_id: c_int,
        ) -> *mut rte_mempool;
        pub(super) fn rte_mempool_free(pool: *mut rte_mempool);
    }
}

/// Octets that DPDK leaves free before a frame.
pub const HEADROOM_OCTETS: u16 = c::RTE_PKTMBUF_HEADROOM as u16;

/// Octets behind the headroom that Capsule asks for, and that drivers count on.
pub const LEAST_FRAME_OCTETS: u16 = 2048;

/// The longest frame that a pool can be made for: headroom and frame are one 16-bit number.
pub const MOST_FRAME_OCTETS: u16 = (u16::MAX - HEADROOM_OCTETS) / 64 * 64;

static FRAME_OCTETS: AtomicU16 = AtomicU16::new(LEAST_FRAME_OCTETS);
static OPEN: AtomicBool = AtomicBool::new(false);
static IN_USE_AT_END: AtomicU32 = AtomicU32::new(0);

/// A pool that is there.
#[derive(Debug)]
struct Pool {
    socket: c_int,
    pool: *mut rte_mempool,
}

// SAFETY: a pool may be used from any thread; the list it stands in decides how long it lives.
unsafe impl Send for Pool {}

static POOLS: Mutex<Vec<Pool>> = Mutex::new(Vec::new());

fn pools() -> MutexGuard<'static, Vec<Pool>> {
    POOLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets how many octets a frame of pools made from now on can hold, headroom not counted.
///
/// Less than [`LEAST_FRAME_OCTETS`] counts as that, more than [`MOST_FRAME_OCTETS`] as that; what is
/// between is rounded up to whole cache lines.
pub fn set_frame_octets(octets: u16) {
    let octets = octets.clamp(LEAST_FRAME_OCTETS, MOST_FRAME_OCTETS);
    FRAME_OCTETS.store(octets.next_multiple_of(64), Ordering::Release);
}

/// What [`set_frame_octets`] made of what it got.
#[must_use]
pub fn frame_octets() -> u16 {
    FRAME_OCTETS.load(Ordering::Acquire)
}

/// Makes a pool whose frames have the size that was set, whatever Capsule asks for.
///
/// # Safety
/// `name` ends in NUL; EAL runs.
pub unsafe fn rte_pktmbuf_pool_create(
    name: *const c_char,
    n: c_uint,
    cache_size: c_uint,
    priv_size: u16,
    data_room_size: u16,
    socket_id: c_int,
) -> *mut rte_mempool {
    let room = data_room_size.max(HEADROOM_OCTETS + frame_octets());
    // SAFETY: the caller's promise is the one that this needs.
    let pool = unsafe { raw::rte_pktmbuf_pool_create(name, n, cache_size, priv_size, room, socket_id) };
    if pool.is_null() {
        // SAFETY: the caller says that the name ends in NUL.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        fault::note(
            Step::Pool,
            format!("{name}: {n} frames of {room} octets on node {socket_id}"),
            eal::errno(),
        );
    } else {
        pools().push(Pool { socket: socket_id, pool });
        OPEN.store(true, Ordering::Release);
    }
    pool
}

/// Frees a pool, and notes how many of its frames were not given back. A pool that lacks frames is
/// left in place, so that whoever holds one does not hold freed memory.
///
/// # Safety
/// `pool` is null, or came from [`rte_pktmbuf_pool_create`] and is freed once; apart from frames that
/// are out, nobody uses it any more.
pub unsafe fn rte_mempool_free(pool: *mut rte_mempool) {
    let mut pools = pools();
    if let Some(at) = pools.iter().position(|p| p.pool == pool) {
        pools.swap_remove(at);
        // SAFETY: the pool was in the list, so it is still there.
        let in_use = unsafe { c::rte_mempool_in_use_count(pool) };
        if in_use > 0 {
            IN_USE_AT_END.fetch_add(in_use, Ordering::AcqRel);
            return;
        }
    }
    // SAFETY: the caller's promise is the one that this needs, and no frame is out.
    unsafe { raw::rte_mempool_free(pool) };
}

/// True when a pool could not be freed because frames of it are out.
#[must_use]
pub fn has_leaked() -> bool {
    in_use_at_end() > 0
}

/// The pool on a NUMA node, or null. It is there until Capsule's runtime is dropped.
#[must_use]
pub fn on_socket(socket: c_int) -> *mut rte_mempool {
    pools().iter().find(|p| p.socket == socket).map_or(std::ptr::null_mut(), |p| p.pool)
}

/// True while frames can be had: from the first pool until [`close`].
#[inline]
#[must_use]
pub fn is_open() -> bool {
    OPEN.load(Ordering::Acquire)
}

/// Ends the handing out of frames, before pools are freed. No worker may be allocating any more.
pub fn close() {
    OPEN.store(false, Ordering::Release);
}

/// How many pools there are.
#[must_use]
pub fn count() -> usize {
    pools().len()
}

/// Frames of all pools that are out at this moment, and how many there are; frames in the caches of
/// threads are not out. For control: it walks the caches.
#[must_use]
pub fn usage() -> (u32, u32) {
    pools().iter().fold((0, 0), |(used, all), p| {
        // SAFETY: pools in the list are there, and the lock keeps them there.
        let in_use = unsafe { c::rte_mempool_in_use_count(p.pool) };
        // SAFETY: as above.
        let size = unsafe { (*p.pool).size };
        (used + in_use, all + size)
    })
}

/// Frames that were still out when their pools should have been freed.
#[must_use]
pub fn in_use_at_end() -> u32 {
    IN_USE_AT_END.load(Ordering::Acquire)
}
