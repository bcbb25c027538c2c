//! Prefetch hints behind safe functions.

/// Asks the processor to bring the cache line of `t` close, for reading. Only a hint: nothing is read,
/// and nothing happens on processors without it.
#[inline(always)]
pub fn prefetch_read<T>(t: &T) {
    prefetch(std::ptr::from_ref(t).cast());
}

/// As [`prefetch_read`], for element `at` of a slice; does nothing if there is no such element.
#[inline(always)]
pub fn prefetch_read_at<T>(s: &[T], at: usize) {
    if let Some(t) = s.get(at) {
        prefetch_read(t);
    }
}

#[inline(always)]
fn prefetch(p: *const i8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint that reads nothing the program can see and never faults, whatever the
    // address; SSE, which it needs, is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = p;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_element_and_none_may_be_named() {
        let v = [1u64, 2, 3];
        prefetch_read(&v);
        for at in [0, 2, 3, usize::MAX] {
            prefetch_read_at(&v, at);
        }
        assert_eq!(v, [1, 2, 3]);
    }
}
