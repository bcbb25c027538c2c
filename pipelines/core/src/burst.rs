//! A packet with what is known of it, bursts of packets, and the outbox.

use crate::frame::Frame;
use crate::net::{Egress, IfId, Via};
use arrayvec::ArrayVec;
use causeway_wire::MacAddr;

/// The most frames that a worker takes from one queue at a time.
pub const BURST: usize = 32;

/// Packets on their way through one stage.
pub type Burst<F> = ArrayVec<Packet<F>, BURST>;

/// What a packet is, as far as the choice of its stage goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// IPv6 towards the NAT64 prefix.
    Nat64In,
    /// IPv4 towards the NAT64 pool.
    Nat64Out,
    /// IPv4 towards an address at which connections are spliced.
    SpliceOut,
    /// IPv6 towards an address that spliced connections come from, as their servers see them.
    SpliceIn,
    /// Other IPv6 that is not for us.
    Forward6,
    /// For the gateway itself: ARP, neighbour discovery, echo, and later DNS, DHCPv6 and so on.
    Local,
}

/// What is known of a packet. Offsets count from the start of the network-layer header, which is also
/// the start of the frame: classification takes the link layer off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The interface that it came in by; [`IfId::NONE`] for what we originate.
    pub ingress: IfId,
    /// EtherType: 0x86dd, 0x0800 or 0x0806.
    pub ethertype: u16,
    /// Link-layer source; all zeros for what we originate.
    pub src_mac: MacAddr,
    /// True if the link-layer destination was a group address (broadcast included).
    pub l2_group: bool,
    /// True for any fragment, the first included.
    pub fragment: bool,
    /// The upper-layer protocol behind all extension headers.
    pub protocol: u8,
    /// Where that protocol's header begins; for a later fragment, where its payload begins.
    pub l4: u16,
    /// How often the packet was classified again.
    pub again: u8,
    /// The hop limit or TTL was already decreased on the way through this gateway (a translated packet
    /// that is forwarded must lose only one).
    pub hop_done: bool,
    /// Where it is to leave, once that is known (a packet that waits for its next hop, or that goes to
    /// another worker, carries it along).
    pub egress: Egress,
    /// A note of the stage that said `Held`, for its own `hold`.
    pub note: u32,
}

impl Meta {
    /// Nothing known yet: of a packet that we originate.
    #[must_use]
    pub const fn originated() -> Self {
        Self {
            ingress: IfId::NONE,
            ethertype: causeway_wire::ethernet::ETHERTYPE_IPV6,
            src_mac: MacAddr([0; 6]),
            l2_group: false,
            fragment: false,
            protocol: 0,
            l4: 0,
            again: 0,
            hop_done: true,
            egress: Egress::new(IfId::NONE, Via::Mac(MacAddr([0; 6]))),
            note: 0,
        }
    }
}

/// A frame that begins at its network-layer header, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<F> {
    /// The octets, from the network-layer header to the end of the packet (padding is gone).
    pub frame: F,
    /// What is known.
    pub meta: Meta,
}

impl<F: Frame> Packet<F> {
    /// The octets of the packet.
    #[inline(always)]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.frame.bytes()
    }

    /// The octets of the packet, to change.
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.frame.bytes_mut()
    }
}

/// A packet on its way to the worker that owns its state.
#[derive(Debug)]
pub enum Handoff<F> {
    /// To be processed by the owner as this class.
    Process(Class, Packet<F>),
    /// To be sent by the owner through `packet.meta.egress` (its next hop is being resolved there).
    Send(Packet<F>),
}

/// How many packets one stage may originate in one call.
pub const OUTBOX: usize = 64;

/// Packets that a stage originates or multiplies, each with where it leaves. Bounded.
#[derive(Debug)]
pub struct Outbox<F> {
    list: ArrayVec<Packet<F>, OUTBOX>,
}

impl<F: Frame> Default for Outbox<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Frame> Outbox<F> {
    /// An empty outbox.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: ArrayVec::new_const() }
    }

    /// Adds a packet.
    ///
    /// # Errors
    /// Gives the packet back when the outbox is full.
    #[inline]
    pub fn push(&mut self, mut packet: Packet<F>, egress: Egress) -> Result<(), Packet<F>> {
        packet.meta.egress = egress;
        self.list.try_push(packet).map_err(|e| e.element())
    }

    /// How many more packets there is room for.
    #[inline]
    #[must_use]
    pub const fn room(&self) -> usize {
        OUTBOX - self.list.len()
    }

    /// True when nothing waits.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes all packets out, in order; where each leaves is in its `meta.egress`.
    #[inline]
    pub fn drain(&mut self) -> impl Iterator<Item = Packet<F>> + '_ {
        self.list.drain(..)
    }
}
