//! Which CPUs a thread may run on.
//!
//! EAL pins the main thread, and every thread started from it afterwards inherits that: control threads
//! would fight a poller for its core. So the mask from before is kept, and control threads take it back.

use libc::cpu_set_t;
use std::fmt::Write as _;
use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;

/// A set of CPUs.
#[derive(Clone, Copy)]
pub(crate) struct CpuSet(cpu_set_t);

impl CpuSet {
    pub(crate) fn empty() -> Self {
        // SAFETY: a set of CPUs is a row of bits; all zero is the empty set.
        Self(unsafe { std::mem::zeroed() })
    }

    #[cfg(test)]
    pub(crate) fn add(&mut self, cpu: u16) {
        if usize::from(cpu) < CPUS {
            // SAFETY: the number is inside the set.
            unsafe { libc::CPU_SET(usize::from(cpu), &mut self.0) };
        }
    }

    pub(crate) fn remove(&mut self, cpu: u16) {
        if usize::from(cpu) < CPUS {
            // SAFETY: the number is inside the set.
            unsafe { libc::CPU_CLR(usize::from(cpu), &mut self.0) };
        }
    }

    pub(crate) fn has(&self, cpu: u16) -> bool {
        // SAFETY: the number is inside the set.
        usize::from(cpu) < CPUS && unsafe { libc::CPU_ISSET(usize::from(cpu), &self.0) }
    }

    pub(crate) fn cpus(&self) -> impl Iterator<Item = u16> + '_ {
        (0..u16::try_from(CPUS).unwrap_or(u16::MAX)).filter(|cpu| self.has(*cpu))
    }

    /// The set of the calling thread.
    pub(crate) fn of_this_thread() -> io::Result<Self> {
        let mut set = Self::empty();
        // SAFETY: the set can be written, and its size is given.
        match unsafe { libc::sched_getaffinity(0, size_of::<cpu_set_t>(), &raw mut set.0) } {
            0 => Ok(set),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Makes it the set of the calling thread.
    pub(crate) fn apply(&self) -> io::Result<()> {
        // SAFETY: the set can be read, and its size is given.
        match unsafe { libc::sched_setaffinity(0, size_of::<cpu_set_t>(), &raw const self.0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// As ranges: `0-3,8`.
    pub(crate) fn ranges(&self) -> String {
        let mut text = String::new();
        let mut cpus = self.cpus().peekable();
        while let Some(first) = cpus.next() {
            let mut last = first;
            while cpus.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a text cannot fail.
            let _ = match last - first {
                0 => write!(text, "{comma}{first}"),
                _ => write!(text, "{comma}{first}-{last}"),
            };
        }
        text
    }
}

/// CPUs that a set has room for.
const CPUS: usize = size_of::<cpu_set_t>() * 8;

static CONTROL: Mutex<Option<CpuSet>> = Mutex::new(None);

/// Keeps the set for control threads.
pub(crate) fn keep_for_control(set: CpuSet) {
    *CONTROL.lock().unwrap_or_else(PoisonError::into_inner) = Some(set);
}

/// Lets the calling thread run where control threads may: on every CPU that the process had at first,
/// without the cores of workers that spin, if others are left.
///
/// For threads that are started after bring-up, as their first act. Before bring-up it does nothing.
///
/// # Errors
/// When the kernel refuses, for instance because CPUs were taken away from the process.
pub fn control_affinity() -> io::Result<()> {
    match *CONTROL.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(set) => set.apply(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_print_as_ranges() {
        let mut set = CpuSet::empty();
        assert_eq!(set.ranges(), "");
        for cpu in [0, 1, 2, 5, 7, 8] {
            set.add(cpu);
        }
        assert_eq!(set.ranges(), "0-2,5,7-8");
        set.remove(1);
        assert_eq!(set.ranges(), "0,2,5,7-8");
        set.add(u16::MAX);
        assert!(!set.has(u16::MAX));
    }

    #[test]
    fn a_pinned_thread_gets_the_full_mask_back() {
        std::thread::spawn(|| {
            let all = CpuSet::of_this_thread().unwrap();
            keep_for_control(all);
            let mut one = CpuSet::empty();
            one.add(all.cpus().next().unwrap());
            one.apply().unwrap();
            assert_eq!(CpuSet::of_this_thread().unwrap().ranges(), one.ranges());
            control_affinity().unwrap();
            assert_eq!(CpuSet::of_this_thread().unwrap().ranges(), all.ranges());
        })
        .join()
        .unwrap();
    }
}
