//! State (RFC 6146).
//!
//! ```text
//!  tcp_fsm  the TCP state machine, a pure value
//!  bib      mappings: an IPv6 address and port, and the IPv4 address and port that stand for it
//!  session  sessions: following them, judging how long they live
//!  permission  which remote addresses may use a mapping, where that is asked
//!  statics  mappings that are always there
//!  syn      SYNs from outside that wait for the one from inside
//!  fragments  fragments that follow the first of their packet, or wait for it
//! ```
//! Entries live in the flow table, which all workers share; nothing here keeps state of its own.

pub(crate) mod bib;
pub(crate) mod fragments;
pub(crate) mod permission;
pub mod session;
pub(crate) mod statics;
pub(crate) mod syn;
pub mod tcp_fsm;
