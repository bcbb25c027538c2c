//! The moment of the splice: what the flow table's line is told, and what the client is sent of what was held.

use super::connection::Connection;
use super::side::emit;
use crate::state::State;
use causeway_flowtable::{Session, Tick};
use causeway_tcp::Head;
use causeway_tcp::options::Options;
use causeway_wire::l4::tcp::{ACK, FIN};
use smoltcp::socket::tcp::State as Tcp;
use std::sync::atomic::Ordering::Relaxed;

/// Options in use, as octet 1 of the line's state has them.
mod used {
    pub(super) const SACK: u8 = 1;
    pub(super) const SACK_BLANK: u8 = 2;
    pub(super) const TIMESTAMPS: u8 = 4;
}
