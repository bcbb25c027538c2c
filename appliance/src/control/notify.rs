//! Telling systemd how the service is: sd_notify(3), a datagram to the socket that `NOTIFY_SOCKET` names.
//! Without that variable everything here does nothing.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use tracing::debug;

/// A way to the service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The way that the environment names.
    #[must_use]
    pub fn from_env() -> Self {
        let period = std::env::var("WATCHDOG_USEC").ok().and_then(|v| v.parse().ok());
        Self::new(std::env::var_os("NOTIFY_SOCKET").as_deref(), period)
    }

    /// A way to `socket`: a path, or `@` and an abstract name. `watchdog_us` is how often, in microseconds, the
    /// manager wants a sign of life.
    #[must_use]
    pub fn new(socket: Option<&std::ffi::OsStr>, watchdog_us: Option<u64>) -> Self {
        let address = socket.and_then(|name| match name.as_encoded_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok(),
            [b'/', ..] => SocketAddr::from_pathname(name).ok(),
            _ => None,
        });
        let to = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        if let Some((socket, _)) = &to {
            // A manager that does not read must not hold up control.
            let _ = socket.set_nonblocking(true);
        }
        let watchdog = watchdog_us.filter(|us| *us > 0).map(Duration::from_micros).filter(|_| to.is_some());
        Self { to, watchdog }
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.to
            && let Err(e) = socket.send_to_addr(message.as_bytes(), address)
        {
            debug!("service manager not told: {e}");
        }
    }

    /// The service answers.
    pub fn ready(&self) {
        self.send("READY=1\nSTATUS=forwarding");
    }

    /// The service reads its configuration again; [`ready`](Self::ready) ends that.
    pub fn reloading(&self) {
        self.send("STATUS=reloading");
    }

    /// The service is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// A sign of life.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Within which time the manager wants a sign of life, if it does.
    #[must_use]
    pub const fn watchdog_period(&self) -> Option<Duration> {
        self.watchdog
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    fn received(socket: &UnixDatagram) -> String {
        let mut b = [0u8; 256];
        let n = socket.recv(&mut b).unwrap();
        String::from_utf8(b[..n].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_behind_a_path_is_told() {
        let dir = TempDir::new();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let n = Notifier::new(Some(path.as_os_str()), Some(3_000_000));
        n.ready();
        assert!(received(&manager).starts_with("READY=1\n"));
        n.alive();
        assert_eq!(received(&manager), "WATCHDOG=1");
        n.stopping();
        assert!(received(&manager).starts_with("STOPPING=1\n"));
        assert_eq!(n.watchdog_period(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_manager_behind_an_abstract_name_is_told() {
        let name = format!("causeway-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notifier::new(Some(format!("@{name}").as_ref()), None).ready();
        assert!(received(&manager).starts_with("READY=1\n"));
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        for socket in
            [None, Some("".as_ref()), Some("relative".as_ref()), Some("/nonexistent/socket".as_ref())]
        {
            let n = Notifier::new(socket, Some(1));
            n.ready();
            n.alive();
        }
        assert_eq!(Notifier::new(None, Some(1)).watchdog_period(), None);
    }
}
