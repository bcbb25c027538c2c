//! What a stage decides about a packet.

use crate::burst::Class;
use crate::counters::DropReason;
use crate::net::Egress;

/// The fate of a packet after a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Send it out of an interface.
    Forward {
        /// Where to.
        egress: Egress,
    },
    /// Classify it as this and go on; a second `Again` is a drop (`again-twice`).
    Again(Class),
    /// The stage wants to keep it: the worker hands the packet to that stage's `hold`, which takes it
    /// (the stage said so only because it has room).
    Held,
    /// Its state is another worker's, of this number: to be handed over, as the class that it has.
    Owner(u16),
    /// The stage is done with it (it was answered, or was for the gateway itself).
    Consume,
    /// Dropped, for exactly one reason.
    Drop(DropReason),
}
