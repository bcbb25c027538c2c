//! Which call to DPDK failed last, and on what: Capsule's errors are texts of an error number without
//! the call, so the wrappers note it here for whoever makes a message of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A step of bringing up ports and cores that goes through a wrapper of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Start of the environment: memory, buses, drivers, devices.
    Eal,
    /// Giving a thread of Capsule's an identity in EAL.
    RegisterThread,
    /// Pinning a thread to its core.
    PinThread,
    /// Making a pool of frames.
    Pool,
    /// Finding the device by its name.
    FindDevice,
    /// Queues, receive-side scaling, offloads, MTU.
    Configure,
    /// Number of descriptors.
    Descriptors,
    /// A receive queue.
    RxQueue,
    /// A transmit queue.
    TxQueue,
    /// Starting the port.
    Start,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What was tried.
    pub step: Step,
    /// On what: a device, a pool, a core. Empty where the step says it all.
    pub subject: String,
    /// The error number, positive.
    pub errno: i32,
}

static LAST: Mutex<Option<Fault>> = Mutex::new(None);

fn last() -> MutexGuard<'static, Option<Fault>> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes a failure; a later one replaces it.
pub(crate) fn note(step: Step, subject: impl Into<String>, errno: i32) {
    *last() = Some(Fault { step, subject: subject.into(), errno: errno.abs() });
}

/// Takes the last failure out.
#[must_use]
pub fn take() -> Option<Fault> {
    last().take()
}
