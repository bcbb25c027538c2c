//! What the parts of control share, and how a reload goes.

use super::dns::{Lookups, Rates};
use super::events::NeighborMap;
use super::introspect::{Generations, Introspect, ReloadError, ReloadReport};
use super::notify::Notifier;
use crate::config::{self, Config, ConfigErrors};
use crate::log::Logs;
use causeway_core::Counters;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tracing::{error, info, warn};

/// What the parts of control share.
pub(super) struct State {
    gateway: RwLock<Option<Arc<dyn Introspect>>>,
    /// Every worker of the gateway has polled.
    ready: AtomicBool,
    config: Mutex<Arc<Config>>,
    file: PathBuf,
    logs: Logs,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    /// Neighbours as workers told of them.
    pub(super) neighbors: NeighborMap,
    /// What control itself counts. Only the task of the mapping log writes it.
    pub(super) counters: Counters,
    /// Lookups that somebody waits for.
    pub(super) lookups: Lookups,
    /// How fast the resolver counts.
    pub(super) dns_rates: Rates,
    /// How fast the splicer counts.
    pub(super) splicer_rates: Rates,
    /// The service manager.
    pub(super) notifier: Notifier,
}

/// Why a reload did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadRefused {
    #[error("the gateway is starting or stopping")]
    NotReady,
    #[error("{0}")]
    BadConfig(ConfigErrors),
    #[error("needs a restart: {}", .0.join(", "))]
    NeedsRestart(Vec<String>, Vec<config::Change>),
    #[error("{0}")]
    Failed(String),
}

impl State {
    pub(super) fn new(config: Arc<Config>, file: PathBuf, logs: Logs, notifier: Notifier) -> Self {
        let most = usize::try_from(config.neighbor.capacity.get()).unwrap_or(usize::MAX);
        Self {
            gateway: RwLock::new(None),
            ready: AtomicBool::new(false),
            config: Mutex::new(config),
            file,
            logs,
            reloading: tokio::sync::Mutex::new(()),
            neighbors: NeighborMap::new(most),
            counters: Counters::new(),
            lookups: Lookups::default(),
            dns_rates: Rates::of("dns64-"),
            splicer_rates: Rates::of("splice-"),
            notifier,
        }
    }

    /// The running gateway, if there is one.
    pub(super) fn gateway(&self) -> Option<Arc<dyn Introspect>> {
        self.gateway.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn attach(&self, gateway: Option<Arc<dyn Introspect>>) {
        self.ready.store(false, Ordering::Release);
        *self.gateway.write().unwrap_or_else(PoisonError::into_inner) = gateway;
    }

    /// True if the gateway forwards packets.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Looks whether a gateway that was not ready is so now, and tells.
    pub(super) fn look_whether_ready(&self, gateway: &dyn Introspect) {
        if !self.is_ready() && (0..gateway.workers()).all(|worker| gateway.heartbeat(worker) > 0) {
            self.ready.store(true, Ordering::Release);
            self.notifier.ready();
            info!("ready");
        }
    }

    /// Waits until no other change of the plan is under way, and keeps others waiting.
    pub(super) async fn reloading(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.reloading.lock().await
    }

    /// The configuration in use.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes the control socket of a process that is about to end without unwinding.
    pub(super) fn abandon(&self) {
        super::socket::abandon(self.config().control.socket.path());
    }

    /// Reads the file again and makes it the configuration in use, or leaves everything as it is.
    fn reload(&self) -> Result<ReloadReport, ReloadRefused> {
        let gateway = self.gateway().ok_or(ReloadRefused::NotReady)?;
        let new = Arc::new(Config::load(&self.file).map_err(ReloadRefused::BadConfig)?);
        let old = self.config();
        let restart = config::restart_needed(&old, &new);
        if !restart.is_empty() {
            let keys = restart.iter().map(|change| change.key.clone()).collect();
            return Err(ReloadRefused::NeedsRestart(keys, restart));
        }
        let changes = config::changes(&old, &new);
        let generations: Generations = if changes.is_empty() {
            gateway.generations()
        } else {
            let done = gateway.reload(Arc::clone(&new)).map_err(|e| match e {
                ReloadError::NeedsRestart { needs_restart } => {
                    ReloadRefused::NeedsRestart(needs_restart, Vec::new())
                }
                ReloadError::Failed(why) => ReloadRefused::Failed(why),
            })?;
            if let Err(e) = self.logs.set_filter(&new.log.filter) {
                warn!("{e}; the old one stays");
            }
            done
        };
        let notes = new.notes.clone();
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(ReloadReport { generations, changes, notes })
    }
}

/// Reloads on a thread that may block, logs the outcome and returns it.
pub(super) async fn reload(state: &Arc<State>) -> Result<ReloadReport, ReloadRefused> {
    let _one = state.reloading.lock().await;
    state.notifier.reloading();
    let shared = Arc::clone(state);
    let outcome = tokio::task::spawn_blocking(move || shared.reload())
        .await
        .unwrap_or_else(|e| Err(ReloadRefused::Failed(format!("the reload was interrupted: {e}"))));
    if state.is_ready() {
        state.notifier.ready();
    }
    match &outcome {
        Ok(report) => {
            info!(generation = report.generations.newest, changes = report.changes.len(), "reloaded");
            for change in &report.changes {
                info!("changed: {change}");
            }
            for note in report.notes.iter().filter(|_| !report.changes.is_empty()) {
                warn!("{note}");
            }
        }
        Err(ReloadRefused::BadConfig(errors)) => {
            for e in errors.list() {
                error!("{e}");
            }
            error!(mistakes = errors.list().len(), "not reloaded, the running configuration stays in use");
        }
        Err(e) => error!("not reloaded, the running configuration stays in use: {e}"),
    }
    outcome
}
