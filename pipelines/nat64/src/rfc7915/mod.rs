//! Translation of headers without state (RFC 7915): what both directions share.
//!
//! ```text
//!  v6_to_v4   IPv6 [extension headers] upper  ->  IPv4 upper      the start moves up, the payload stays
//!  v4_to_v6   IPv4 [options] upper  ->  IPv6 [Fragment] upper     the start moves down
//!  icmp       errors: type, code, pointer, MTU, and the packet inside
//!  mss        the largest segment that a SYN asks for
//!  fragment   an IPv4 packet that is too large for IPv6 and may be fragmented
//! ```
//!
//! Addresses and ports come from the caller, who found a session or a mapping.

pub(crate) mod fragment;
pub(crate) mod icmp;
mod mss;
pub(crate) mod v4_to_v6;
pub(crate) mod v6_to_v4;

use causeway_core::DropReason;
use causeway_wire::{be16, checksum, put16};

/// What the traffic class or type of service octet of the result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClassPolicy {
    /// The octet is copied (RFC 7915 4.1 and 5.1: the default).
    #[default]
    Copy,
    /// This octet is written instead, for networks that give the octet another meaning.
    Set(u8),
}

impl ClassPolicy {
    #[inline(always)]
    pub(crate) const fn of(self, octet: u8) -> u8 {
        match self {
            Self::Copy => octet,
            Self::Set(v) => v,
        }
    }
}

/// When an IPv4 result that is no fragment says Don't Fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DfPolicy {
    /// RFC 7915 5.1: clear up to 1,260 octets, set above.
    #[default]
    BySize,
    /// Always set, for paths on which fragments are lost anyway.
    Always,
    /// Never set, for paths on which ICMP errors are lost.
    Never,
}

/// What becomes of UDP from IPv4 whose checksum is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UdpZero {
    /// A checksum is computed over the whole datagram (RFC 7915 4.5: the default). Fragments wait until all
    /// of it is there (RFC 6146 3.4).
    #[default]
    Compute,
    /// The datagram is dropped.
    Drop,
    /// It stays zero, for tunnels whose both ends obey RFC 6935 and RFC 6936.
    Forward,
}

/// The knobs of translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Type of service of IPv4 results.
    pub tos: ClassPolicy,
    /// Traffic class of IPv6 results.
    pub traffic_class: ClassPolicy,
    /// Don't-Fragment of IPv4 results.
    pub df: DfPolicy,
    /// UDP without a checksum from IPv4.
    pub udp_zero: UdpZero,
    /// IPv4 packets without DF whose result would be larger than this many octets are fragmented
    /// (RFC 7915 4). 1280 to 9600.
    pub lowest_ipv6_mtu: u16,
    /// The largest segment that a TCP SYN may ask for, in octets; larger ones are lowered to it, in both
    /// directions. Nothing: left alone (the default). 216 to 9560.
    pub clamp_mss: Option<u16>,
    /// Errors in which an IPv4 address stands for an IPv6 router carry the router's own address too
    /// (RFC 6791 3.1, RFC 5837).
    pub identify_routers: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            tos: ClassPolicy::Copy,
            traffic_class: ClassPolicy::Copy,
            df: DfPolicy::BySize,
            udp_zero: UdpZero::Compute,
            lowest_ipv6_mtu: 1280,
            clamp_mss: None,
            identify_routers: true,
        }
    }
}

/// IPv4 results up to this many octets have DF clear (RFC 7915 5.1): as IPv6 they fit any link.
pub(crate) const DF_CLEAR_OCTETS: usize = 1260;

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self::silent(reason)
    }
}

/// Why a packet is not translated, and what its sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: DropReason,
    pub(crate) tell: Tell,
}

/// What the sender of a refused packet is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    Nothing,
    /// Nothing yet: it waits (a SYN from outside).
    Later,
    /// The hop limit or TTL ran out.
    TimeExceeded,
    /// A field of the header that is at this octet.
    BadField {
        pointer: u32,
    },
    /// A source route (IPv4 only).
    SourceRouteFailed,
    /// No route to the destination.
    NoRoute,
    /// Nothing to translate it to: no port, no room.
    AddressUnreachable,
    /// A protocol that no mapping is made for.
    Protocol,
    /// It is not translated (IPv6 only; IPv4 senders of such packets are strangers).
    Prohibited,
    /// Too large; what the sender's own packets may have, in octets.
    TooBig {
        mtu: u32,
    },
}

impl Refusal {
    #[inline]
    pub(crate) const fn silent(reason: DropReason) -> Self {
        Self { reason, tell: Tell::Nothing }
    }

    #[inline]
    pub(crate) const fn telling(reason: DropReason, tell: Tell) -> Self {
        Self { reason, tell }
    }
}

/// What is above the network layer, as far as NAT64 translates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Upper {
    /// TCP with these control bits.
    Tcp { flags: u8 },
    /// UDP.
    Udp,
    /// ICMP or ICMPv6 echo.
    Echo { request: bool },
    /// An ICMP or ICMPv6 error.
    Error,
    /// The payload of a fragment other than the first.
    #[default]
    Later,
}

/// What a Fragment header or the fragment fields of IPv4 say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frag {
    /// In units of eight octets.
    pub(crate) offset: u16,
    pub(crate) more: bool,
    pub(crate) id: u32,
}

impl Frag {
    /// RFC 6946 2: a fragment that is a whole packet.
    pub(crate) const fn is_atomic(self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// What an echo's checksum gains from IPv6 to IPv4, besides what the session knows: `delta` holds the
/// addresses and identifiers, this adds the upper-layer length of the pseudo-header (RFC 8200 8.1; an
/// ICMPv4 checksum has none) and the change of the type.
#[inline(always)]
pub(crate) fn echo_delta(delta: u16, upper_octets: u32, v6_type_code: u16, v4_type_code: u16) -> u16 {
    let gained = u64::from(delta) + u64::from(v4_type_code);
    checksum::fold(gained + u64::from(!checksum::fold(u64::from(upper_octets) + u64::from(v6_type_code))))
}

/// Applies a difference to the checksum field at `at`.
#[inline(always)]
fn adjust(b: &mut [u8], at: usize, delta: u16) {
    let sum = checksum::apply(be16(b, at), delta);
    put16(b, at, sum);
}
