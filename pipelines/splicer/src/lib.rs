//! Splicer: TCP connections from IPv4 clients, routed by name and stitched to IPv6 servers in the flow table.
//!
//! ```text
//!  client's SYN -> cookie -> ACK -> peek: smoltcp behind a shifter -> hello -> site -> server
//!                                                                                        |
//!   one session of the flow table, rewritten packet by packet  <--- splice <---- all acknowledged
//! ```

#![forbid(unsafe_code)]

pub mod answer;
pub mod checks;
pub mod config;
pub mod hello;
pub mod identity;
pub mod peek;
pub mod site;
pub mod splice;
pub mod stage;
pub mod state;

pub use config::Config;
pub use peek::Peek;
pub use stage::{Secrets, Stage};
pub use state::State;
