//! DHCPv6 (RFC 9915): messages to meaning and back, the leases, and what is answered.
//!
//! ```text
//!  worker:  frame -> stage -> Request ----ring----> engine (control's lease thread): leases, disk
//!           frame <- stage <- Answer  <---ring----    after the disk has it
//! ```

#![forbid(unsafe_code)]

pub mod config;
pub mod engine;
pub mod lease;
pub mod message;
mod reply;
pub mod request;
pub mod stage;
#[cfg(test)]
mod testing;

pub use config::{Config, Delegation, Link, Options, Pool, Reservation};
pub use engine::{Engine, Grant, Outcome};
pub use lease::{Change, Duid, Identity, Kind, Lease, LeaseEvent, State, UnixSeconds};
pub use request::{Answer, Request};
pub use stage::Stage;
