//! Memory that is taken once, at start: huge pages if there are any, else transparent huge pages.

use std::ops::Deref;

/// What kind of pages the kernel gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pages {
    /// Reserved huge pages (`MAP_HUGETLB`).
    Huge,
    /// Ordinary pages that the kernel was asked to join to transparent huge pages.
    Transparent,
    /// Ordinary pages: the region is too small for more, or the kernel refused.
    Small,
}

/// Values that may be made of zeroed memory.
///
/// # Safety
/// All-zero octets must be a valid value, and dropping a value must do nothing.
pub(crate) unsafe trait Zeroed: Sync + Send {
    /// The value that all-zero octets are.
    #[cfg(loom)]
    fn zeroed() -> Self;
}

/// A fixed array of zeroed values.
#[cfg(not(loom))]
pub(crate) struct Region<T: Zeroed> {
    at: std::ptr::NonNull<T>,
    len: usize,
    octets: usize,
    pages: Pages,
}

#[cfg(not(loom))]
const HUGE: usize = 2 << 20;

#[cfg(not(loom))]
impl<T: Zeroed> Region<T> {
    /// Takes room for `len` values.
    pub(crate) fn new(len: usize) -> std::io::Result<Self> {
        let want = size_of::<T>().checked_mul(len).ok_or(std::io::ErrorKind::OutOfMemory)?.max(1);
        if want >= HUGE {
            let octets = want.checked_next_multiple_of(HUGE).ok_or(std::io::ErrorKind::OutOfMemory)?;
            if let Ok(at) = map(octets, libc::MAP_HUGETLB | libc::MAP_POPULATE) {
                return Ok(Self { at: at.cast(), len, octets, pages: Pages::Huge });
            }
            let at = map(octets, 0)?;
            // SAFETY: the range was mapped just now with this length and nothing else knows of it; the
            // advice changes no contents.
            let refused = unsafe { libc::madvise(at.as_ptr().cast(), octets, libc::MADV_HUGEPAGE) };
            let pages = if refused == 0 { Pages::Transparent } else { Pages::Small };
            return Ok(Self { at: at.cast(), len, octets, pages });
        }
        let octets = want.next_multiple_of(4096);
        Ok(Self { at: map(octets, 0)?.cast(), len, octets, pages: Pages::Small })
    }

    /// Octets taken from the kernel.
    pub(crate) const fn octets(&self) -> usize {
        self.octets
    }

    /// What the kernel gave.
    pub(crate) const fn pages(&self) -> Pages {
        self.pages
    }
}

#[cfg(not(loom))]
fn map(octets: usize, flags: libc::c_int) -> std::io::Result<std::ptr::NonNull<u8>> {
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory that
    // the program has.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            octets,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    std::ptr::NonNull::new(at.cast()).ok_or_else(|| std::io::ErrorKind::OutOfMemory.into())
}

#[cfg(not(loom))]
impl<T: Zeroed> Deref for Region<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the region was mapped with at least `len` values' octets, is page-aligned, lives as
        // long as `self`, and zeroed octets (or what was written through `&T` since) are valid values.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

#[cfg(not(loom))]
impl<T: Zeroed> Drop for Region<T> {
    fn drop(&mut self) {
        // SAFETY: exactly this range was mapped by `new`, and no borrow of it outlives `self`.
        unsafe {
            libc::munmap(self.at.as_ptr().cast(), self.octets);
        }
    }
}

#[cfg(not(loom))]
// SAFETY: the region owns its memory, and `T` may be used and sent across threads (`Zeroed` asks it).
unsafe impl<T: Zeroed> Send for Region<T> {}
#[cfg(not(loom))]
// SAFETY: as for `Send`: `&Region<T>` gives `&[T]` only.
unsafe impl<T: Zeroed> Sync for Region<T> {}

/// Under loom atomics are no plain words, so the values are made one by one.
#[cfg(loom)]
pub(crate) struct Region<T: Zeroed>(Box<[T]>);

#[cfg(loom)]
impl<T: Zeroed> Region<T> {
    pub(crate) fn new(len: usize) -> std::io::Result<Self> {
        Ok(Self((0..len).map(|_| T::zeroed()).collect()))
    }

    pub(crate) const fn octets(&self) -> usize {
        0
    }

    pub(crate) const fn pages(&self) -> Pages {
        Pages::Small
    }
}

#[cfg(loom)]
impl<T: Zeroed> Deref for Region<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Zeroed> std::fmt::Debug for Region<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Region({} values)", self.len())
    }
}
