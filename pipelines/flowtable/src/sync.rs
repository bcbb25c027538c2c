//! Atomics: the standard library's, or loom's under `cfg(loom)`. Nothing else in the crate names either.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Stands between a `SeqCst` exchange and `SeqCst` loads behind it that must not be taken earlier. The
/// language's total order of `SeqCst` accesses says so already; loom treats such accesses as acquire and
/// release only, and knows the total order of fences.
#[inline(always)]
pub(crate) fn total_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
