//! Leases of the DHCPv6 server: kept on disk, kept the same at two gateways, and told to the workers.
//!
//! ```text
//!  worker -> ring of requests --+                                   +-> ring of answers -> worker
//!                               v                                   |
//!              thread: handle a group -> store (one commit) -> peer -> bindings
//!                         ^ undo, read-only    on disk      acknowledged
//! ```
//! [`thread`] is the only writer of all of it. [`store`] is SQLite, and knows who had an address when; [`sync`] is
//! the other gateway of a pair.

mod engine;
mod handle;
mod store;
mod sync;
mod thread;

pub use engine::LeasedSources;
pub use handle::{DiskReport, LeaseControl, LeaseStatus, PeerReport, ReleaseError};
pub use store::{
    Attribution, Counts, Incorporated, LeaseQuery, Missed, NodeId, Reader, Record, Store, StoreError,
};
pub use sync::Standing;
pub use sync::link::LinkError;
pub use thread::{Handled, Leases, Opened, Rings, Spec, StartError, open, time_of_day};

use causeway_dhcpv6::{Change, Grant, Lease, UnixSeconds};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the lease thread is told by the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasesConfig {
    /// The store's file.
    pub path: PathBuf,
    /// The server's DUID; nothing: made once and kept in the store, or the peer's.
    pub duid: Option<Box<[u8]>>,
    /// How long history is kept after the lease that it is about has ended.
    pub history: Duration,
    /// The other gateway, if there is one.
    pub peer: Option<PeerConfig>,
}

/// The other gateway of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Where it may connect to us.
    pub listen: Option<Endpoint>,
    /// Where we connect to it.
    pub connect: Option<Endpoint>,
    /// File with the secret that both know, at least 16 octets, not readable by others; white space at its end
    /// does not count.
    pub secret_file: PathBuf,
    /// How long an answer waits for the peer to have the lease, before the peer counts as lost.
    pub ack_timeout: Duration,
    /// How long after that no new leases are given.
    pub alone_after: Duration,
}

/// An end of the connection between two gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An address and TCP port of a management network.
    Tcp(SocketAddr),
    /// A socket on this machine.
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What the lease thread wants of a DHCPv6 server: [`causeway_dhcpv6::Engine`], or a smaller one in tests.
pub trait Leasing: Send + Sized + 'static {
    /// Its configuration.
    type Config: Send + Sync + 'static;
    /// What workers ask.
    type Request: Send + 'static;
    /// What they are answered.
    type Answer: Send + 'static;

    /// The server with these leases.
    fn build(config: Arc<Self::Config>, leases: &mut dyn Iterator<Item = Lease>) -> Self;
    /// A configuration with this DUID of the server.
    fn with_duid(config: &Self::Config, duid: &[u8]) -> Self::Config;
    /// Takes a new configuration over.
    fn reconfigure(&mut self, config: Arc<Self::Config>, now: UnixSeconds) -> Vec<Change>;
    /// Handles a request.
    fn handle(&mut self, request: &Self::Request, now: UnixSeconds, grant: Grant) -> Handled<Self::Answer>;
    /// Takes changes back, the last first: as if what made them had never been.
    fn undo(&mut self, changes: &[Change]);
    /// The lease under this key is this one from now on, as another gateway or the administrator says.
    fn adopt(&mut self, lease: Lease);
    /// Ends leases that were not renewed, at most `most`.
    fn expire(&mut self, now: UnixSeconds, most: usize) -> Vec<Change>;
    /// The worker that asked.
    fn worker(request: &Self::Request) -> u16;
}

/// Who may send from which address, as workers read it. Called by the lease thread alone, after the change is
/// on disk.
pub trait LeaseSink: Send {
    /// The lease is in use.
    fn set(&self, lease: &Lease);
    /// It is not any more.
    fn remove(&self, lease: &Lease);
    /// True if links have other places than leases were told for: all have to be told anew.
    fn have_moved(&self) -> bool {
        false
    }
    /// The lease is in use, on a link that may have moved.
    fn set_anew(&self, lease: &Lease) {
        self.set(lease);
    }
    /// All leases were told anew.
    fn settled(&self) {}
}

/// For gateways on which nothing is validated by leases.
impl LeaseSink for () {
    fn set(&self, _: &Lease) {}
    fn remove(&self, _: &Lease) {}
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
