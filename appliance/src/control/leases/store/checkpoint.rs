//! What SQLite's write-ahead log has is moved to the file beside the commits, not by one of them.
//!
//! A thread with a connection of its own moves most of it, which keeps no commit waiting but for the disk. What was
//! written meanwhile is little: the writer moves that itself, so that all of the log is moved and it can begin anew.

use super::{Store, schema};
use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use rusqlite::Connection;
use std::path::PathBuf;
use std::thread::JoinHandle;
use tracing::debug;

/// Octets written to the log before they are moved.
const OCTETS: usize = if cfg!(test) { 1 << 19 } else { 32 << 20 };
/// Octets of a page.
const PAGE: usize = 4096;

/// The thread, and how far it is.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Octets that were written to the log since it was asked last, about.
    written: usize,
    helper: Option<Helper>,
}

#[derive(Debug)]
struct Helper {
    wake: Option<Sender<()>>,
    done: Receiver<()>,
    busy: bool,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    fn start(path: PathBuf) -> std::io::Result<Self> {
        let (wake, woken) = bounded::<()>(1);
        let (told, done) = bounded(1);
        let work = move || {
            let mut connection = None;
            for () in woken {
                if connection.is_none() {
                    connection =
                        schema::connect(&path, false).inspect_err(|e| debug!("no checkpoint: {e}")).ok();
                }
                if connection.as_ref().is_some_and(|db| !move_log(db)) {
                    connection = None;
                }
                if told.send(()).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("cw-checkpoint".to_owned()).spawn(work)?;
        Ok(Self { wake: Some(wake), done, busy: false, thread: Some(thread) })
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Checkpoints {
    /// Takes note of octets that were written, in so many pages besides.
    pub(super) fn wrote(&mut self, octets: usize, pages: usize) {
        self.written += octets + pages * PAGE;
    }
}

impl Store {
    /// Has the write-ahead log moved to the file if it has become long; to be called now and then. True if it was moved
    /// to its end just now, which takes as long as some commits. A disk that refuses is no error here: the log becomes
    /// longer, and if it has no room a commit says so.
    pub fn checkpoint(&mut self) -> bool {
        let due = self.checkpoints.written >= OCTETS;
        if self.checkpoints.helper.is_none() && due {
            let started = Helper::start(self.path.clone());
            self.checkpoints.helper = started.inspect_err(|e| debug!("no checkpoint: {e}")).ok();
        }
        let Some(helper) = &mut self.checkpoints.helper else { return false };
        if helper.busy {
            match helper.done.try_recv() {
                Err(TryRecvError::Empty) => return false,
                // It has panicked; there will be another.
                Err(TryRecvError::Disconnected) => self.checkpoints.helper = None,
                Ok(()) => helper.busy = false,
            }
            return move_log(&self.db);
        }
        if due && let Some(wake) = &helper.wake {
            self.checkpoints.written = 0;
            helper.busy = wake.try_send(()).is_ok();
        }
        false
    }
}

/// Moves what can be moved without waiting for anybody. True if nothing failed.
fn move_log(db: &Connection) -> bool {
    let moved = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    moved.inspect_err(|e| debug!("no checkpoint: {e}")).is_ok()
}
