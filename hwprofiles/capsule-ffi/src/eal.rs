//! Start and end of EAL, and the identity of Capsule's threads in it.

use crate::args;
use crate::bindings::{self as c, rte_cpuset_t};
use crate::fault::{self, Step};
use crate::pool;
use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};

mod raw {
    use super::{c_char, c_int, rte_cpuset_t};
    unsafe extern "C" {
        pub(super) fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int;
        pub(super) fn rte_eal_cleanup() -> c_int;
        pub(super) fn rte_thread_set_affinity(set: *mut rte_cpuset_t) -> c_int;
    }
}

/// The lcore id of a thread that EAL does not know (`LCORE_ID_ANY`).
const NO_LCORE: u32 = u32::MAX;

static RUNNING: AtomicBool = AtomicBool::new(false);

/// True between a successful start of EAL and its end.
#[must_use]
pub fn is_running() -> bool {
    RUNNING.load(Ordering::Acquire)
}

/// Starts EAL with the arguments that Capsule wrote, in the words of today (see [`args`]).
///
/// # Safety
/// `argv` holds `argc` pointers to texts that end in NUL.
pub unsafe fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int {
    let mut words = Vec::new();
    for at in 0..usize::try_from(argc).unwrap_or(0) {
        // SAFETY: the caller says that there are `argc` pointers.
        let pointer = unsafe { argv.add(at) };
        // SAFETY: as above, so it can be read.
        let text = unsafe { pointer.read() };
        // SAFETY: the caller says that each text ends in NUL.
        words.push(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned());
    }
    // EAL keeps pointers into its arguments for good, so these are never freed.
    let mut pointers: Vec<*mut c_char> = Vec::new();
    for word in args::translate(&words) {
        // The words come from C texts, cut at no place: none has a NUL inside.
        let Ok(word) = CString::new(word) else { return -libc::EINVAL };
        pointers.push(word.into_raw());
    }
    let Ok(count) = c_int::try_from(pointers.len()) else { return -libc::E2BIG };
    pointers.push(std::ptr::null_mut());
    // SAFETY: `pointers` holds `count` texts and a null behind them, and all of it lives for ever.
    let parsed = unsafe { raw::rte_eal_init(count, Box::leak(pointers.into_boxed_slice()).as_mut_ptr()) };
    if parsed < 0 {
        fault::note(Step::Eal, "", errno());
        remove_runtime_folder();
    } else {
        RUNNING.store(true, Ordering::Release);
    }
    parsed
}

/// Ends EAL and removes the run-time folder that it made, if nothing else is in it.
///
/// Always 0: Capsule panics on anything else, in a destructor, and all that could be said is in the log.
///
/// # Safety
/// No thread uses DPDK any more, and all its ports are closed.
pub unsafe fn rte_eal_cleanup() -> c_int {
    if !RUNNING.swap(false, Ordering::AcqRel) {
        return 0;
    }
    remove_runtime_folder();
    // Frames that somebody still holds live in EAL's memory: it stays until the process ends.
    if !pool::has_leaked() {
        // SAFETY: EAL runs, and the caller says that nobody uses it any more.
        let _ = unsafe { raw::rte_eal_cleanup() };
    }
    0
}

/// Removes the folder in which EAL keeps what it shares with other processes. It stays when another
/// process of the same prefix has files in it.
fn remove_runtime_folder() {
    // SAFETY: gives the text of a static buffer, which is empty until EAL knows the folder.
    let folder = unsafe { c::rte_eal_get_runtime_dir() };
    if folder.is_null() {
        return;
    }
    // SAFETY: EAL gives a static text that ends in NUL.
    let folder = unsafe { CStr::from_ptr(folder) }.to_string_lossy();
    if !folder.is_empty() {
        let _ = std::fs::remove_dir(&*folder);
    }
}

/// Pins the calling thread, and makes it known to EAL if it is not.
///
/// Capsule's threads are not EAL's. A thread without an lcore id has no cache in front of the pool of
/// frames, which costs about 80 ns a packet; this is the one call that each of them makes first.
///
/// # Safety
/// `set` points to a set of CPUs.
pub unsafe fn rte_thread_set_affinity(set: *mut rte_cpuset_t) -> c_int {
    // SAFETY: reads a variable of this thread.
    let lcore = unsafe { c::_rte_lcore_id() };
    // SAFETY: EAL runs (the condition says so), and this thread is not registered yet.
    if is_running() && lcore == NO_LCORE && unsafe { c::rte_thread_register() } < 0 {
        fault::note(Step::RegisterThread, "", errno());
        return -errno();
    }
    // SAFETY: the caller's promise is the one that this needs.
    let pinned = unsafe { raw::rte_thread_set_affinity(set) };
    if pinned != 0 {
        fault::note(Step::PinThread, "", pinned);
    }
    pinned
}

/// The error number of the last call of this thread that failed, positive.
#[must_use]
pub fn errno() -> i32 {
    // SAFETY: reads a variable of this thread.
    unsafe { c::_rte_errno() }
}
