//! The control socket: one process owns it, and one that died leaves nothing in the way.
//!
//! A lock file beside the socket says who owns it; the kernel drops the lock with the process, however
//! that ends. Who holds the lock may remove a socket that is left over. The socket is made under another
//! name, gets its mode, and is then renamed: it is never there with a mode that is too wide.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Mode of the socket: owner and group.
const MODE: u32 = 0o660;
/// Mode of its folder if we make it.
const DIR_MODE: u32 = 0o755;

/// Why a control socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process has it.
    #[error("another causeway{} runs on the control socket {}", process(.pid), .path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The other process, if it told.
        pid: Option<u32>,
    },
    /// Something else is in its place.
    #[error("control socket {}: there is a file of another kind in its place", .path.display())]
    NotASocket {
        /// The socket.
        path: PathBuf,
    },
    /// The system refused.
    #[error("control socket {}: {what}: {error}", .path.display())]
    Io {
        /// The socket, its folder or its lock.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What came of it.
        error: io::Error,
    },
}

fn process(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// A control socket that this process owns. Dropping it removes the socket and its lock file.
#[derive(Debug)]
pub(super) struct Claim {
    listener: UnixListener,
    paths: Paths,
    _lock: File,
}

/// The files of a claim.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    socket: PathBuf,
    lock: PathBuf,
}

impl Paths {
    fn new(socket: &Path) -> Self {
        let beside = |suffix: &str| {
            let mut name = socket.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Self { socket: socket.to_owned(), lock: beside(".lock") }
    }

    /// Removes the files. Only for who owns them.
    fn remove(&self) {
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_file(&self.lock);
    }
}

impl Claim {
    /// The socket, listening, for tokio.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Before the lock goes: afterwards they might be another's.
        self.paths.remove();
    }
}

/// Removes the files of a claim whose process is about to end without dropping it.
pub(super) fn abandon(socket: &Path) {
    Paths::new(socket).remove();
}

/// Takes a control socket.
pub(super) fn claim(path: &Path) -> Result<Claim, SocketError> {
    let paths = Paths::new(path);
    let io = |what: &'static str| {
        let path = path.to_owned();
        move |error| SocketError::Io { path, what, error }
    };
    if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir).map_err(io("making its folder"))?;
    }
    let lock = lock(&paths)?;
    // The lock is ours; from here on an error has to take the file away again.
    match listen(&paths) {
        Ok(listener) => Ok(Claim { listener, paths, _lock: lock }),
        Err(e) => {
            let _ = std::fs::remove_file(&paths.lock);
            drop(lock);
            Err(e)
        }
    }
}

fn lock(paths: &Paths) -> Result<File, SocketError> {
    let io = |what: &'static str| {
        let path = paths.lock.clone();
        move |error| SocketError::Io { path, what, error }
    };
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&paths.lock)
            .map_err(io("opening its lock"))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = file.take(32).read_to_string(&mut text);
                return Err(SocketError::InUse { path: paths.socket.clone(), pid: text.trim().parse().ok() });
            }
            Err(e) => return Err(io("locking")(e.into())),
        }
        // The owner before us may have removed the file between our opening and our locking it: then
        // our lock is on a file that nobody else will ever see.
        let ours = file.metadata().map_err(io("looking at its lock"))?;
        let there = std::fs::metadata(&paths.lock);
        if !there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            continue;
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(io("writing its lock"))?;
        return Ok(file);
    }
}

fn listen(paths: &Paths) -> Result<UnixListener, SocketError> {
    let path = &paths.socket;
    let io = |what: &'static str| {
        let path = path.clone();
        move |error| SocketError::Io { path, what, error }
    };
    if let Ok(there) = std::fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(SocketError::NotASocket { path: path.clone() });
        }
        // Somebody who answers without holding the lock is not one of us, but is alive.
        if UnixStream::connect(path).is_ok() {
            return Err(SocketError::InUse { path: path.clone(), pid: None });
        }
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new).map_err(io("opening"))?;
    std::fs::set_permissions(&new, Permissions::from_mode(MODE))
        .map_err(io("setting its mode"))
        .and_then(|()| std::fs::rename(&new, path).map_err(io("putting it in place")))
        .inspect_err(|_| drop(std::fs::remove_file(&new)))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    fn names(dir: &TempDir) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_second_instance_is_refused_and_told_of_the_first() {
        let dir = TempDir::new();
        let path = dir.path().join("gw.sock");
        let first = claim(&path).unwrap();
        let e = claim(&path).unwrap_err().to_string();
        assert!(e.contains(&format!("process {}", std::process::id())) && e.contains("gw.sock"), "{e}");
        assert!(UnixStream::connect(&path).is_ok(), "the first one is not disturbed");
        drop(first);
        assert_eq!(names(&dir), Vec::<String>::new(), "nothing is left behind");
        drop(claim(&path).unwrap());
    }

    #[test]
    fn a_socket_whose_process_died_is_replaced() {
        let dir = TempDir::new();
        let path = dir.path().join("gw.sock");
        drop(UnixListener::bind(&path).unwrap());
        std::fs::write(dir.path().join("gw.sock.lock"), "1\n").unwrap();
        assert!(UnixStream::connect(&path).is_err());
        let _claim = claim(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_socket_that_answers_without_a_lock_is_left_alone() {
        let dir = TempDir::new();
        let path = dir.path().join("gw.sock");
        let _other = UnixListener::bind(&path).unwrap();
        assert!(matches!(claim(&path), Err(SocketError::InUse { pid: None, .. })));
        assert_eq!(names(&dir), ["gw.sock"]);
    }

    #[test]
    fn a_file_in_its_place_is_left_alone() {
        let dir = TempDir::new();
        let path = dir.path().join("gw.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(claim(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(names(&dir), ["gw.sock"]);
    }

    #[test]
    fn the_socket_is_for_owner_and_group_only() {
        let dir = TempDir::new();
        let path = dir.path().join("sub/gw.sock");
        let _claim = claim(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_with_its_reason() {
        let e = claim(Path::new("/proc/nonexistent/gw.sock")).unwrap_err().to_string();
        assert!(e.contains("/proc/nonexistent/gw.sock") && e.contains("folder"), "{e}");
    }

    #[test]
    fn of_many_that_start_at_once_one_wins() {
        let dir = TempDir::new();
        let path = dir.path().join("gw.sock");
        let start = std::sync::Barrier::new(8);
        let claims: Vec<_> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    s.spawn(|| {
                        start.wait();
                        claim(&path)
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(claims.iter().filter(|c| c.is_ok()).count(), 1);
        assert!(claims.iter().all(|c| matches!(c, Ok(_) | Err(SocketError::InUse { .. }))));
    }
}
