//! Two gateways, one content of the lease store.
//!
//! ```text
//!  pair    which of the two may give out what: pure
//!  merge   what a lease is after both changed it: pure
//!  codec   messages and their octets
//!  auth    who is at the other end
//!  link    the connection and its threads
//! ```
//! Each gateway has a store of its own and writes what it does there first. Then it tells the other, which
//! writes the same and acknowledges it; only then does the answer leave. A gateway that missed something is
//! told when the two are connected again, from the event log, or by all leases if the log does not go back
//! that far.

pub(super) mod auth;
pub(super) mod codec;
pub(super) mod link;
pub(super) mod merge;
pub(super) mod pair;

pub use pair::Standing;
