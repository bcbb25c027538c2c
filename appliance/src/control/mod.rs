//! The control plane: everything of a running gateway that moves no packets.
//!
//! ```text
//!  causeway show|reload -> unix socket -> server --+-> Introspect (the running workers)
//!  SIGHUP ------------------------------> reload --+
//!  workers' rings -> events -> master map of neighbours, log
//!  workers' logs --> natlog -> log, IPFIX collectors
//!  lookups, samples of questions <-> dns -> log
//!  workers' heartbeats -> watchdog -> log, end of the process
//! ```
//!
//! It is one thread with a tokio runtime, plus that runtime's threads for calls that block. It has to be
//! started before DPDK's EAL: a thread that is made later inherits a mask with one core, and fights the
//! worker there.

pub mod client;
pub mod dns;
mod events;
pub mod introspect;
pub mod lease_api;
pub mod leases;
mod natlog;
mod notify;
mod server;
pub mod site_api;
pub mod sites;
mod socket;
mod state;
pub mod track;
mod watchdog;

pub use introspect::Introspect;
pub use notify::Notifier;
pub use socket::SocketError;
pub use watchdog::{Finding, Watchdog};

use crate::config::Config;
use crate::log::Logs;
use state::State;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{error, info};

/// How often workers' events are fetched.
const DRAIN_EVERY: Duration = Duration::from_millis(10);
/// How often heartbeats are looked at.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// How long requests that are being answered may take when control stops.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// What is done when a worker has stalled for longer than `watchdog.abort`: gets the message.
pub type OnDead = Box<dyn Fn(&str) + Send>;

/// What control is started with.
pub struct ControlSpec {
    /// The configuration that the gateway starts with.
    pub config: Arc<Config>,
    /// The file that a reload reads.
    pub file: PathBuf,
    /// The logs, whose filter a reload may change.
    pub logs: Logs,
    /// What to do about a dead worker; [`exit_on_dead`] ends the process.
    pub on_dead: OnDead,
    /// Whether SIGHUP reloads. Off in tests, where the process is not ours.
    pub sighup: bool,
}

/// Ends the process with exit code 1. Returning is no choice: the worker may hold anything.
#[must_use]
pub fn exit_on_dead() -> OnDead {
    Box::new(|message| {
        if tracing::enabled!(tracing::Level::ERROR) {
            error!("{message}");
        } else {
            eprintln!("causeway: {message}");
        }
        std::process::exit(1);
    })
}

/// Control could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The control socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The thread or its runtime cannot be had.
    #[error("control plane: {0}")]
    Io(#[from] std::io::Error),
}

/// Control, running. Dropping it stops it.
pub struct ControlHandle {
    state: Arc<State>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    socket: PathBuf,
}

impl std::fmt::Debug for ControlHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlHandle").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Takes the socket and starts the control thread. Until a gateway is [attached](ControlHandle::attach),
/// requests are answered with 503.
///
/// # Errors
/// [`StartError`], and then nothing is left behind.
pub fn start(spec: ControlSpec) -> Result<ControlHandle, StartError> {
    let path = spec.config.control.socket.path().to_owned();
    let claim = socket::claim(&path)?;
    let (stop, stopped) = watch::channel(false);
    let state = Arc::new(State::new(spec.config, spec.file, spec.logs, Notifier::from_env()));
    let shared = Arc::clone(&state);
    let (ready, started) = std::sync::mpsc::channel();
    let (sighup, on_dead) = (spec.sighup, spec.on_dead);
    let thread = std::thread::Builder::new().name("cw-control".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("cw-control-io")
            .max_blocking_threads(8)
            .build()
        {
            Ok(runtime) => runtime,
            Err(e) => {
                let _ = ready.send(Err(e));
                return;
            }
        };
        runtime.block_on(serve(&claim, shared, stopped, &ready, sighup, on_dead));
        runtime.shutdown_timeout(STOP_WITHIN);
        drop(claim);
    })?;
    started
        .recv()
        .unwrap_or_else(|_| Err(std::io::Error::other("the control thread ended at once")))
        .inspect_err(|_| {
            let _ = stop.send(true);
        })?;
    info!(socket = %path.display(), "control socket is open");
    Ok(ControlHandle { state, stop, thread: Some(thread), socket: path })
}

async fn serve(
    claim: &socket::Claim,
    state: Arc<State>,
    stopped: watch::Receiver<bool>,
    ready: &std::sync::mpsc::Sender<std::io::Result<()>>,
    sighup: bool,
    on_dead: OnDead,
) {
    let setup = || -> std::io::Result<_> {
        let listener = tokio::net::UnixListener::from_std(claim.listener()?)?;
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = if sighup { Some(signal(SignalKind::hangup())?) } else { None };
        Ok((listener, hangup))
    };
    let (listener, hangup) = match setup() {
        Ok(parts) => parts,
        Err(e) => {
            let _ = ready.send(Err(e));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let events = tokio::spawn(events::run(Arc::clone(&state), DRAIN_EVERY));
    let natlog = tokio::spawn(natlog::run(Arc::clone(&state), DRAIN_EVERY, stopped.clone()));
    let resolver = tokio::spawn(dns::run(Arc::clone(&state), DRAIN_EVERY));
    let watch = tokio::spawn(watchdog::run(Arc::clone(&state), CHECK_EVERY, on_dead));
    let track = tokio::spawn(track::run(Arc::clone(&state), track::EVERY));
    let reload = hangup.map(|hangup| tokio::spawn(reload_on(hangup, Arc::clone(&state))));
    server::run(listener, state, stopped).await;
    events.abort();
    resolver.abort();
    track.abort();
    watch.abort();
    if let Some(reload) = reload {
        reload.abort();
    }
    // It ends by itself, after what the workers wrote last.
    let _ = tokio::time::timeout(STOP_WITHIN, natlog).await;
}

/// SIGHUP reads the configuration again.
async fn reload_on(mut hangup: tokio::signal::unix::Signal, state: Arc<State>) {
    while hangup.recv().await.is_some() {
        info!("SIGHUP: reading the configuration again");
        // The outcome is logged where it happens.
        let _ = state::reload(&state).await;
    }
}

impl ControlHandle {
    /// Hands the running gateway over: from now on requests are answered, events fetched, workers
    /// watched. The gateway counts as ready, and systemd is told so, once every worker has polled.
    pub fn attach(&self, gateway: Arc<dyn Introspect>) {
        self.state.attach(Some(gateway));
    }

    /// Lets go of the gateway before its workers end, so that the watchdog does not take that for a
    /// stall. Requests are answered with 503 again.
    pub fn detach(&self) {
        self.state.attach(None);
        self.state.notifier.stopping();
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Stops: the gateway is let go of, the socket removed and the thread ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.detach();
            let _ = self.stop.send(true);
            if thread.join().is_err() {
                error!("the control thread panicked");
            }
        }
    }
}

impl Drop for ControlHandle {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
