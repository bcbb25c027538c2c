//! A disk that is full or read-only. A small file system is mounted for it, which takes root; without, these
//! tests say so and do nothing, and `store/tests.rs` has what is left of them.

use super::*;
use std::path::PathBuf;
use std::process::Command;

/// A file system in memory, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "causeway-test"])
            .arg(dir.path())
            .output();
        if mounted.is_ok_and(|o| o.status.success()) {
            return Some(Self(dir));
        }
        eprintln!("not done: a file system can only be mounted by root");
        None
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Serves clients 1 and 2, calls `break_it`, and looks at what is left; then `mend` and everything is back.
fn survives(dir: &Path, break_it: impl FnOnce(&Path), mend: impl FnOnce(&Path)) {
    let path = dir.join("leases.db");
    let clock = Clock::new();
    let mut g = Gateway::start(config(&path, None), server(10), &clock, 64);
    let (first, valid) = g.exchange(1, Want::Address).unwrap();
    g.exchange(2, Want::Address).unwrap();
    break_it(dir);
    clock.pass(10);
    // New ones are refused in words; nothing is lost.
    until("the disk refuses", || {
        let _ = g.exchange(3, Want::Address);
        !g.control().status().disk.writable
    });
    assert_eq!(g.exchange(4, Want::Address), None);
    let status = g.control().status().disk;
    assert_eq!((status.writable, status.refusals), (false, 1));
    assert!(status.error.is_some() && status.refuses_since.is_some());
    // Who has a lease keeps it, for as long as the disk says.
    assert_eq!(g.exchange(1, Want::Address), Some((first, valid)));
    // Many at once, while the store tries again.
    let numbers: Vec<u64> = (10..50).map(|client| g.ask(1, client, Want::Address)).collect();
    let answered: Vec<bool> =
        numbers.iter().map(|n| g.answer(1, *n, Duration::from_secs(20)).unwrap().given.is_some()).collect();
    assert_eq!(answered, [false; 40]);
    mend(dir);
    until("the disk serves again", || g.control().status().disk.writable);
    let renewed = g.exchange(1, Want::Address).unwrap();
    assert_eq!(renewed, (first, clock.now() + VALID));
    let (new, _) = g.exchange(4, Want::Address).unwrap();
    assert_eq!(g.control().status().disk.refusals, 1);
    drop(g);
    let g = Gateway::start(config(&path, None), server(10), &clock, 64);
    let bound = g.bound.0.lock().unwrap().clone();
    assert_eq!((bound.get(&first), bound.get(&new)), (Some(&mac(1)), Some(&mac(4))));
}

#[test]
fn a_full_disk_renews_what_is_known_and_refuses_new_leases_in_words() {
    let Some(disk) = SmallDisk::mount("2m") else { return };
    let fill = |dir: &Path| {
        let full = std::fs::write(dir.join("filling"), vec![0; 2 << 20]);
        assert!(full.is_err(), "the disk is full now");
    };
    survives(&disk.path(), fill, |dir| std::fs::remove_file(dir.join("filling")).unwrap());
}

/// Makes files unchangeable, also for who has them open, or changeable again.
fn immutable(dir: &Path, sign: &str) -> bool {
    let files = ["leases.db", "leases.db-wal"].map(|name| dir.join(name));
    Command::new("chattr").arg(format!("{sign}i")).args(files).output().is_ok_and(|o| o.status.success())
}

#[test]
fn a_disk_that_turned_read_only_renews_what_is_known_and_refuses_new_leases_in_words() {
    // A file system cannot be mounted read-only while files are open for writing; the attribute can be set.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    drop(Store::open(&path).unwrap());
    std::fs::write(dir.path().join("leases.db-wal"), b"").unwrap();
    if !immutable(dir.path(), "+") || std::fs::OpenOptions::new().write(true).open(&path).is_ok() {
        let _ = immutable(dir.path(), "-");
        eprintln!("not done: only root on some file systems can make a file unchangeable");
        return;
    }
    assert!(immutable(dir.path(), "-"));
    survives(dir.path(), |d| assert!(immutable(d, "+")), |d| assert!(immutable(d, "-")));
}
