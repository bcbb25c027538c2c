//! Virtual routers: VRRP version 3 (RFC 9568) for IPv6 and IPv4.
//!
//! All virtual routers of a gateway are one group, because the flows of its NAT64 are: they are active on
//! every network together, or on none.

#![forbid(unsafe_code)]

pub mod config;

pub use config::{Config, Peer4Checksum, VirtualRouter};
