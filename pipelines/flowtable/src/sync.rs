//! Atomics: the standard library's, or loom's under `cfg(loom)`. Nothing else in the crate names either.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{Ordering, fence};
#[cfg(loom)]
pub(crate) use modelled::{AtomicU32, AtomicU64};

/// Stands between a `SeqCst` exchange and `SeqCst` loads behind it that must not be taken earlier. The
/// language's total order of `SeqCst` accesses says so already; loom treats such accesses as acquire and
/// release only, and knows the total order of fences.
#[inline(always)]
pub(crate) fn total_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// Loom's atomics, each behind a door.
///
/// Loom decides which orders of accesses to try by the last access of each atomic alone, and forgets
/// another thread's read once the writer has read the same atomic itself: read, read, write is then
/// never tried in another order, which is what every exchange after a load does. The door is a second
/// atomic that every access changes first (relaxed, so that it orders nothing), and so no access is
/// forgotten. What a load may see is still decided by loom on the atomic itself.
#[cfg(loom)]
mod modelled {
    use super::Ordering;
    use loom::sync::atomic as loom_atomic;

    macro_rules! modelled {
        ($name:ident, $value:ty) => {
            #[derive(Debug)]
            pub struct $name {
                value: loom_atomic::$name,
                door: loom_atomic::AtomicU32,
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::new(0)
                }
            }

            impl $name {
                pub fn new(value: $value) -> Self {
                    Self { value: loom_atomic::$name::new(value), door: loom_atomic::AtomicU32::new(0) }
                }

                fn enter(&self) {
                    self.door.fetch_add(1, Ordering::Relaxed);
                }

                pub fn load(&self, order: Ordering) -> $value {
                    self.enter();
                    self.value.load(order)
                }

                pub fn store(&self, v: $value, order: Ordering) {
                    self.enter();
                    self.value.store(v, order);
                }

                pub fn swap(&self, v: $value, order: Ordering) -> $value {
                    self.enter();
                    self.value.swap(v, order)
                }

                pub fn compare_exchange(
                    &self,
                    from: $value,
                    to: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.enter();
                    self.value.compare_exchange(from, to, success, failure)
                }

                pub fn fetch_add(&self, v: $value, order: Ordering) -> $value {
                    self.enter();
                    self.value.fetch_add(v, order)
                }

                pub fn fetch_sub(&self, v: $value, order: Ordering) -> $value {
                    self.enter();
                    self.value.fetch_sub(v, order)
                }

                pub fn fetch_and(&self, v: $value, order: Ordering) -> $value {
                    self.enter();
                    self.value.fetch_and(v, order)
                }

                pub fn fetch_or(&self, v: $value, order: Ordering) -> $value {
                    self.enter();
                    self.value.fetch_or(v, order)
                }
            }
        };
    }

    modelled!(AtomicU64, u64);
    modelled!(AtomicU32, u32);
}
