//! One gateway of a name at a time: a locked file in the run-time folder, removed at the end.

use super::BringupError;
use super::error::Right;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Holds a name; dropping it lets go.
#[derive(Debug)]
pub(crate) struct NameLock {
    path: PathBuf,
    // Closing the file unlocks it.
    _file: File,
}

impl NameLock {
    /// Takes the name, in `/run/causeway` for root, else in the user's own run-time folder.
    pub(crate) fn take(name: &str) -> Result<Self, BringupError> {
        Self::take_in(&folder(), name)
    }

    fn take_in(folder: &Path, name: &str) -> Result<Self, BringupError> {
        let path = folder.join(format!("{name}.lock"));
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => BringupError::NoPermission {
                what: format!("lock file {}", path.display()),
                right: Right::Folder,
                dpdk: Vec::new(),
            },
            _ => BringupError::Os { what: format!("lock file {}", path.display()), source },
        };
        loop {
            std::fs::create_dir_all(folder).map_err(failed)?;
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .create(true)
                .mode(0o644)
                .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW);
            let mut file = match options.open(&path) {
                // The folder was removed by a gateway that ended just now.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed)?,
            };
            // SAFETY: the file is open.
            if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::WouldBlock {
                    return Err(failed(error));
                }
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(BringupError::NameInUse { name: name.to_owned(), pid, lock: path });
            }
            // Whoever had it may have removed the file between our opening and our locking.
            let ours = file.metadata().map_err(failed)?;
            if std::fs::metadata(&path)
                .is_ok_and(|there| there.ino() == ours.ino() && there.dev() == ours.dev())
            {
                file.set_len(0).map_err(failed)?;
                file.rewind().map_err(failed)?;
                writeln!(file, "{}", std::process::id()).map_err(failed)?;
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        // Before the lock goes, so that nobody locks a file that is about to vanish unseen.
        let _ = std::fs::remove_file(&self.path);
        if let Some(folder) = self.path.parent() {
            // Stays if anything else is in it.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// The run-time folder of this user.
fn folder() -> PathBuf {
    // SAFETY: has no preconditions and cannot fail.
    let user = unsafe { libc::geteuid() };
    if user == 0 {
        return PathBuf::from("/run/causeway");
    }
    std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()).map_or_else(
        || std::env::temp_dir().join(format!("causeway-{user}")),
        |folder| PathBuf::from(folder).join("causeway"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_held_once_named_when_refused_and_nothing_is_left_behind() {
        let folder = std::env::temp_dir().join(format!("causeway-lock-{}", std::process::id()));
        let first = NameLock::take_in(&folder, "gw").unwrap();
        let other = NameLock::take_in(&folder, "gw2").unwrap();
        match NameLock::take_in(&folder, "gw") {
            Err(BringupError::NameInUse { name, pid, .. }) => {
                assert_eq!((name.as_str(), pid), ("gw", Some(std::process::id())));
            }
            other => panic!("{other:?}"),
        }
        drop(first);
        let again = NameLock::take_in(&folder, "gw").unwrap();
        drop((again, other));
        assert!(!folder.exists());
    }
}
