//! A lease, and what happens to it. What is here is what the store keeps.

use causeway_wire::MacAddr;
use std::net::Ipv6Addr;

/// Seconds since 1970.
pub type UnixSeconds = u64;

/// A DHCP unique identifier (RFC 9915 11): 3 to 130 octets.
pub type Duid = Box<[u8]>;

/// What is leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An address (IA_NA).
    Address,
    /// A prefix (IA_PD).
    Prefix,
    /// An address that the host made itself and registered (RFC 9686).
    Registered,
}

/// Whom a lease belongs to, whatever DUID it shows: the same server through PXE, installer and reinstall,
/// and never two servers with one cloned machine-id. The first that is known counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// The link-layer address: the source of the frame, or what the relay says of it (RFC 6939).
    Mac(MacAddr),
    /// The Interface-ID of the relay closest to the client (RFC 9915 21.18), with the relay's link-address.
    Interface {
        /// The link-address of the relay.
        link: Ipv6Addr,
        /// The option's content.
        id: Box<[u8]>,
    },
    /// The client identifier.
    Duid(Duid),
}

/// State of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// In use until `valid_until`.
    Active,
    /// Released by the client, or expired; kept so that the client gets the same again.
    Free,
    /// Declined: somebody else uses the address. Not given out until `valid_until`.
    Declined,
}

/// A lease: one address or prefix, which is its key together with `kind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What is leased.
    pub kind: Kind,
    /// The address, or the first of the prefix.
    pub address: Ipv6Addr,
    /// 128, or the length of the prefix.
    pub length: u8,
    /// Name of the link ([`crate::Link::name`]).
    pub link: Box<str>,
    /// Whom it belongs to.
    pub identity: Identity,
    /// The client identifier that it was asked for with.
    pub duid: Duid,
    /// The identity association.
    pub iaid: u32,
    /// The client's link-layer address, as far as it is known.
    pub mac: Option<MacAddr>,
    /// State.
    pub state: State,
    /// Preferred until then. Of a free one 0 if it did not just run out: it was released or withdrawn, and
    /// its holder knows.
    pub preferred_until: UnixSeconds,
    /// Valid until then; of a declined one the end of its quarantine.
    pub valid_until: UnixSeconds,
    /// When it was given to this identity.
    pub since: UnixSeconds,
}

/// What happened to a lease, for attribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseEvent {
    /// Given to a client that did not have it.
    Given,
    /// Renewed or rebound, or asked for again by who has it.
    Renewed,
    /// Released by the client.
    Released,
    /// Declined by the client.
    Declined,
    /// Not renewed in time.
    Expired,
    /// Registered by the host itself.
    Registered,
    /// Taken back by the configuration (a reservation of somebody else's) or by the administrator.
    Withdrawn,
}

/// A change that has to be on disk before its answer leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: UnixSeconds,
    /// What happened.
    pub event: LeaseEvent,
    /// The lease afterwards.
    pub after: Lease,
    /// The lease before, if there was one under this key: to take the change back if the disk refuses it.
    pub before: Option<Lease>,
}
