//! DPDK's log, taken from its stream: handed line by line to a hook, and the last complaints kept, so
//! that an error can say what DPDK said about it.

use crate::bindings as c;
use std::collections::VecDeque;
use std::ffi::c_char;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It does not work.
    Error,
    /// It works, but not as it might.
    Warning,
    /// Worth knowing.
    Info,
    /// For those who look for a fault.
    Debug,
}

impl Level {
    /// The level that a number of DPDK's stands for (1 is worst).
    const fn from_dpdk(level: u32) -> Self {
        match level {
            0..=4 => Self::Error,
            5 => Self::Warning,
            6 | 7 => Self::Info,
            _ => Self::Debug,
        }
    }
}

/// How many complaints are kept.
const KEPT: usize = 16;

static COMPLAINTS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
static HOOK: OnceLock<fn(Level, &str)> = OnceLock::new();

/// Takes DPDK's log from now on, and gives each line to the hook.
///
/// The first call counts: a process has one log. DPDK logs on the path of packets only when something
/// is wrong with a device.
///
/// # Errors
/// When the C library has no room for a stream.
pub fn redirect(hook: fn(Level, &str)) -> io::Result<()> {
    if HOOK.set(hook).is_err() {
        return Ok(());
    }
    // SAFETY: `sink` has the type that the shim calls, and lives as long as the process.
    match unsafe { c::cw_log_to(Some(sink)) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The last lines that were errors or warnings, oldest first; they are forgotten by this.
#[must_use]
pub fn take_complaints() -> Vec<String> {
    COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
}

unsafe extern "C" fn sink(level: u32, text: *const c_char, octets: usize) {
    if text.is_null() || octets == 0 {
        return;
    }
    // SAFETY: the shim passes the buffer of a stream, with its length, for the time of this call.
    let text = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), octets) };
    // No panic may unwind into C.
    let _ = std::panic::catch_unwind(|| take(Level::from_dpdk(level), &String::from_utf8_lossy(text)));
}

fn take(level: Level, text: &str) {
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        if level <= Level::Warning {
            let mut kept = COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(line.to_owned());
        }
        if let Some(hook) = HOOK.get() {
            hook(level, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_complaints_are_kept_and_only_complaints() {
        let _ = take_complaints();
        take(Level::Info, "all is well\n");
        for n in 0..KEPT + 2 {
            take(Level::Error, &format!("fault {n}\n\n"));
        }
        let kept = take_complaints();
        assert_eq!(kept.len(), KEPT);
        assert_eq!((kept[0].as_str(), kept[KEPT - 1].as_str()), ("fault 2", "fault 17"));
        assert_eq!(take_complaints(), Vec::<String>::new());
    }

    #[test]
    fn levels_of_dpdk_are_told_apart() {
        let levels = [1, 4, 5, 6, 7, 8].map(Level::from_dpdk);
        use Level::{Debug, Error, Info, Warning};
        assert_eq!(levels, [Error, Error, Warning, Info, Info, Debug]);
    }
}
