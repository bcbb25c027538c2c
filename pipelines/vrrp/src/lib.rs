//! Virtual routers: VRRP version 3 (RFC 9568) for IPv6 and IPv4.
//!
//! All virtual routers of a gateway are one group, because the flows of its NAT64 are: they are active on
//! every network together, or on none.
//!
//! ```text
//!  config   what is configured           machine  RFC 9568 6, as a value
//!  packet   RFC 9568 5, and the checks   group    all virtual routers as one
//!           that need the message only   stage    packets in, packets out
//!  shared   what workers and control see
//! ```
//!
//! A worker that runs the [`Stage`] does this at each poll:
//!
//! ```text
//!  shared.beat(now); receive(..) for each VRRP packet
//!  match tick(now) {
//!      Some(Active) => take the active view; advertise; announce; router advertisements; publish_active(true)
//!      Some(Backup) => take the standby view; advertise
//!      None         => advertise
//!  }
//! ```
//!
//! Not here: the virtual link-layer addresses and the addresses themselves, which are in the plan's views;
//! what tracking looks at, which is control's; version 2 (RFC 3768) and unicast peers.

#![forbid(unsafe_code)]

pub mod config;
pub mod group;
pub mod machine;
pub mod packet;
pub mod shared;
pub mod stage;
#[cfg(test)]
mod testing;

pub use config::{Config, Peer4Checksum, VirtualRouter};
pub use group::Phase;
pub use packet::{OWNER, PROTOCOL, group4, group6};
pub use shared::{Shared, Status};
pub use stage::{Stage, Transition, is_from_afar};
