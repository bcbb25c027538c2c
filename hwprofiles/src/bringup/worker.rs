//! A worker: our own pipeline in Capsule's executor.
//!
//! ```text
//!  executor -> poll the loop 32 times -> yield (timers, shutdown) -> ...
//!                 nothing to do, often: sleep, if the gateway backs off
//!                 stop asked for: drain, drop the loop, done
//! ```
//!
//! Capsule drops the pipelines of its main core after it has freed the pools. So it is not Capsule that
//! ends a worker: on the first signal workers are told to stop, and only when all of them have given
//! back what they held is Capsule let go on.

use super::spec::Idle;
use crate::mbuf::MbufFrame;
use crate::queues::{QueuePair, rx_burst};
use arrayvec::ArrayVec;
use causeway_core::BURST;
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What a worker does, over and over.
pub trait PollLoop {
    /// Takes a burst from each queue and works on it. True if there was anything to do.
    fn poll(&mut self) -> bool;

    /// A stop was asked for: true once the loop may end. Until then it is polled on, for
    /// [`LEAVE_WITHIN`] at most (another gateway is about to take over, and meanwhile packets still come).
    fn may_stop(&mut self) -> bool {
        true
    }

    /// The last call: gives back every frame that the loop still holds.
    fn drain(&mut self);
}

/// How long a loop may put off its end.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// Polls between two yields to the executor. Fewer cost more per packet (the executor asks the kernel
/// for the time and for events), more make signals and timers wait.
const POLLS_PER_YIELD: u32 = 32;

/// Polls in a row without anything to do, before the first sleep.
const IDLE_POLLS: u32 = 256;

/// The first sleep, and the longest.
const SLEEP: (Duration, Duration) = (Duration::from_micros(10), Duration::from_micros(80));

/// What workers and the main thread tell each other.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Workers are to end.
    pub(crate) stopping: AtomicBool,
    /// Workers that have not ended.
    pub(crate) running: AtomicUsize,
    /// Panics: worker and message.
    panics: Mutex<Vec<(u16, String)>>,
}

impl Shared {
    pub(crate) fn panicked(&self, worker: u16, cause: &(dyn Any + Send)) {
        let message = cause
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| cause.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        self.panics.lock().unwrap_or_else(PoisonError::into_inner).push((worker, message));
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn first_panic(&self) -> Option<(u16, String)> {
        self.panics.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }
}

/// Stops a gateway from anywhere in the process, as SIGTERM does from outside.
#[derive(Debug, Clone)]
pub struct StopHandle(pub(crate) Arc<Shared>);

impl StopHandle {
    /// Asks for the stop, and does not wait for it.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }

    /// True once a stop was asked for, by whomever.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }
}

/// A worker as Capsule sees it.
pub(crate) struct Worker<P: PollLoop> {
    id: u16,
    work: Option<P>,
    idle: Idle,
    idle_polls: u32,
    sleep: Duration,
    /// Queues that are rings in memory: what is in them at the end is given back.
    rings: Vec<QueuePair>,
    shared: Arc<Shared>,
    /// When this worker learned that it is to end.
    leaving: Option<Instant>,
}

// Nothing in a worker points into it.
impl<P: PollLoop> Unpin for Worker<P> {}

impl<P: PollLoop> Worker<P> {
    /// Makes the loop, here on the worker's thread.
    pub(crate) fn new(
        id: u16,
        idle: Idle,
        rings: Vec<QueuePair>,
        shared: Arc<Shared>,
        make: impl FnOnce() -> P,
    ) -> Self {
        let work = match catch_unwind(AssertUnwindSafe(make)) {
            Ok(work) => Some(work),
            Err(cause) => {
                shared.panicked(id, &*cause);
                None
            }
        };
        if idle == Idle::Backoff {
            // The kernel lets a sleep last 50 us longer than asked, to gather wake-ups. Sleeps here are
            // of that order.
            // SAFETY: sets a number of this thread.
            let _ = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, libc::c_ulong::from(1u8)) };
        }
        Self { id, work, idle, idle_polls: 0, sleep: SLEEP.0, rings, shared, leaving: None }
    }

    /// Polls until the next yield. A panic ends the loop, and asks the gateway to stop.
    #[inline]
    fn turn(&mut self) {
        let Some(work) = &mut self.work else { return };
        let idle_polls = &mut self.idle_polls;
        let turned = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..POLLS_PER_YIELD {
                if work.poll() {
                    *idle_polls = 0;
                } else {
                    *idle_polls = idle_polls.saturating_add(1);
                }
            }
        }));
        if let Err(cause) = turned {
            self.shared.panicked(self.id, &*cause);
            let work = self.work.take();
            // The loop's frames go back as it is dropped. A second panic would leave them out, which
            // the report of the stop shows.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(work)));
        }
    }

    /// Sleeps if there was nothing to do for long. Sleeps grow while nothing comes.
    #[inline]
    fn rest(&mut self) {
        if self.idle == Idle::Spin {
            std::hint::spin_loop();
        } else if self.idle_polls < IDLE_POLLS {
            self.sleep = SLEEP.0;
        } else {
            std::thread::sleep(self.sleep);
            self.sleep = (self.sleep * 2).min(SLEEP.1);
            // A few polls more before the next sleep, so that a packet's answer is not slept over.
            self.idle_polls = IDLE_POLLS - POLLS_PER_YIELD;
        }
    }

    /// True if the loop has to go, or wants to.
    fn may_stop(&mut self) -> bool {
        let since = self.leaving.get_or_insert_with(Instant::now);
        // A worker that panicked waits for nobody, and nobody for it.
        if since.elapsed() >= LEAVE_WITHIN || self.shared.first_panic().is_some() {
            return true;
        }
        let Some(work) = &mut self.work else { return true };
        catch_unwind(AssertUnwindSafe(|| work.may_stop())).unwrap_or(true)
    }

    /// Gives everything back. Once.
    fn finish(&mut self) {
        if let Some(mut work) = self.work.take() {
            let drained = catch_unwind(AssertUnwindSafe(move || {
                work.drain();
                drop(work);
            }));
            if let Err(cause) = drained {
                self.shared.panicked(self.id, &*cause);
            }
        }
        for pair in self.rings.drain(..) {
            loop {
                let mut left = ArrayVec::<MbufFrame, BURST>::new();
                rx_burst(pair, &mut left);
                if left.is_empty() {
                    break;
                }
            }
        }
        self.shared.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<P: PollLoop> Future for Worker<P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let worker = self.get_mut();
        if worker.shared.stopping.load(Ordering::Acquire) && worker.may_stop() {
            worker.finish();
            return Poll::Ready(());
        }
        worker.turn();
        worker.rest();
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<P: PollLoop> capsule::batch::Pipeline for Worker<P> {
    fn name(&self) -> &str {
        "causeway"
    }

    fn run_once(&mut self) {
        self.turn();
    }
}
