//! Receive-side scaling computed in software: which queue a device gives a packet, and which port
//! number would bring a packet to a wanted queue.
//!
//! The hash is the Toeplitz hash of the Microsoft RSS specification ("RSS Hashing Types", "Verifying the
//! RSS Hash Calculation"). It is linear over GF(2): flipping one input bit always flips the same output
//! bits. So a port for a wanted queue is found by solving a small system of equations once, when the
//! profile's key is known, and by one table look-up afterwards. Nothing is tried in a loop.
//!
//! ```text
//!  source address | destination address | source port | destination port     4/16 + 4/16 + 2 + 2 octets
//!        each set bit i adds (exclusive or) the 32 key bits that begin at bit i
//!  low bits of the sum -> redirection table -> queue
//! ```
//!
//! Not handled: IPv6 packets with extension headers (devices differ in what they hash there), tunnels,
//! and the symmetric hash modes that some devices have besides.

use super::types::{Prediction, Rss, RssField, RssFields};
use serde::Serialize;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The most octets that are ever hashed: two IPv6 addresses and two ports.
const INPUT: usize = 36;

/// The fewest octets of key that hash [`INPUT`] octets: each input bit needs the 32 key bits from it on.
pub const MIN_KEY_OCTETS: usize = INPUT + 4;

/// The addresses of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addresses {
    /// IPv4.
    V4 {
        /// Source address.
        src: Ipv4Addr,
        /// Destination address.
        dst: Ipv4Addr,
    },
    /// IPv6.
    V6 {
        /// Source address.
        src: Ipv6Addr,
        /// Destination address.
        dst: Ipv6Addr,
    },
}

/// The transport of a packet as far as RSS tells transports apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP, not fragmented.
    Tcp {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
    },
    /// UDP, not fragmented.
    Udp {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
    },
    /// A fragment, the first one included.
    Fragment,
    /// Anything else: ICMP, ICMPv6 and so on.
    Other,
}

/// What RSS looks at in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RssPacket {
    /// The addresses.
    pub addresses: Addresses,
    /// The transport.
    pub transport: Transport,
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Which of the two ports may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortField {
    /// The source port of the packet that is received.
    Source,
    /// The destination port of the packet that is received: the NAT64 port of return traffic.
    Destination,
}

/// Octets in the order in which they are hashed.
struct Input {
    octets: [u8; INPUT],
    len: usize,
}

impl Input {
    fn new(addresses: Addresses, ports: Option<(u16, u16)>) -> Self {
        let mut octets = [0; INPUT];
        let mut len = match addresses {
            Addresses::V4 { src, dst } => {
                octets[..4].copy_from_slice(&src.octets());
                octets[4..8].copy_from_slice(&dst.octets());
                8
            }
            Addresses::V6 { src, dst } => {
                octets[..16].copy_from_slice(&src.octets());
                octets[16..32].copy_from_slice(&dst.octets());
                32
            }
        };
        if let Some((src, dst)) = ports {
            octets[len..len + 2].copy_from_slice(&src.to_be_bytes());
            octets[len + 2..len + 4].copy_from_slice(&dst.to_be_bytes());
            len += 4;
        }
        Self { octets, len }
    }

    fn as_slice(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

/// The Toeplitz hash under one key, as a table of 4.5 KiB: one look-up per four bits of input.
#[derive(Clone)]
pub struct Toeplitz {
    nibbles: Box<[[u32; 16]; INPUT * 2]>,
}

impl fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Toeplitz")
    }
}

impl Toeplitz {
    /// The hash under `key`, or nothing if the key has fewer than [`MIN_KEY_OCTETS`] octets. Octets of the
    /// key behind those are never reached by the inputs that are hashed here.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        if key.len() < MIN_KEY_OCTETS {
            return None;
        }
        let window = |bit: usize| {
            let word =
                key[bit / 8..].iter().chain([0; 8].iter()).take(8).fold(0u64, |w, o| w << 8 | u64::from(*o));
            (word << (bit % 8) >> 32) as u32
        };
        let mut nibbles = Box::new([[0u32; 16]; INPUT * 2]);
        for (n, row) in nibbles.iter_mut().enumerate() {
            for (value, sum) in row.iter_mut().enumerate() {
                // The most significant bit of the input comes first.
                *sum = (0..4).filter(|b| value & (8 >> b) != 0).fold(0, |sum, b| sum ^ window(n * 4 + b));
            }
        }
        Some(Self { nibbles })
    }

    /// The hash of up to 36 octets; octets behind those are ignored.
    #[must_use]
    pub fn hash(&self, input: &[u8]) -> u32 {
        self.nibbles.chunks_exact(2).zip(input).fold(0, |sum, (pair, octet)| {
            sum ^ pair[0][usize::from(octet >> 4)] ^ pair[1][usize::from(octet & 0x0f)]
        })
    }

    /// The hash of addresses, and of ports if there are any.
    #[must_use]
    pub fn hash_tuple(&self, addresses: Addresses, ports: Option<(u16, u16)>) -> u32 {
        self.hash(Input::new(addresses, ports).as_slice())
    }
}

/// Why the queue of a packet cannot be foretold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPrediction {
    /// The port has no RSS, or its hash is the kernel's own with a key that nobody tells.
    #[error("profile `{profile}`: the port has no hash that software could repeat")]
    NoHash {
        /// The profile.
        profile: String,
    },
    /// The device hashes, but nobody has shown that it does so as the specification says.
    #[error("profile `{profile}`: how the device hashes is not verified")]
    Unverified {
        /// The profile.
        profile: String,
    },
    /// More queues than RSS reaches, or none.
    #[error("profile `{profile}`: RSS spreads over 1 to {max} queues, not {queues}")]
    Queues {
        /// The profile.
        profile: String,
        /// What was asked for.
        queues: u16,
        /// What the device can do.
        max: u16,
    },
}

/// Foretells queues for one port: its key, its hash fields and its redirection table.
#[derive(Debug, Clone)]
pub struct RssPredictor {
    toeplitz: Toeplitz,
    fields: RssFields,
    /// Queue by the low bits of the hash. A power of two entries.
    table: Box<[u16]>,
    queues: u16,
}

impl RssPredictor {
    /// A predictor for `queues` queues that the table names round robin, as DPDK's Intel drivers fill it
    /// (`ixgbe_rss_configure`, `igb_rss_configure`, `igc_rss_configure`, `i40e_pf_reset_rss_reta`,
    /// `ice_init_rss`).
    pub(super) fn new(
        profile: &str,
        rss: &Rss,
        table: u16,
        max: u16,
        queues: u16,
    ) -> Result<Self, NoPrediction> {
        let Rss::Toeplitz { fields, key, prediction, .. } = rss else {
            return Err(NoPrediction::NoHash { profile: profile.to_owned() });
        };
        if *prediction != Prediction::Microsoft {
            return Err(NoPrediction::Unverified { profile: profile.to_owned() });
        }
        if queues == 0 || queues > max || queues > table {
            return Err(NoPrediction::Queues { profile: profile.to_owned(), queues, max: max.min(table) });
        }
        let toeplitz = Toeplitz::new(key.octets())
            .ok_or_else(|| NoPrediction::NoHash { profile: profile.to_owned() })?;
        Ok(Self { toeplitz, fields: *fields, table: (0..table).map(|i| i % queues).collect(), queues })
    }

    /// How many queues there are.
    #[must_use]
    pub const fn queues(&self) -> u16 {
        self.queues
    }

    /// The hash that the device computes, or nothing if the packet matches no hash field: such packets go
    /// to queue 0.
    #[must_use]
    pub fn hash(&self, packet: &RssPacket) -> Option<u32> {
        use RssField as F;
        let (tcp, udp, fragment, plain, other) = match packet.addresses {
            Addresses::V4 { .. } => (F::Ipv4Tcp, F::Ipv4Udp, F::Ipv4Frag, F::Ipv4, F::Ipv4Other),
            Addresses::V6 { .. } => (F::Ipv6Tcp, F::Ipv6Udp, F::Ipv6Frag, F::Ipv6, F::Ipv6Other),
        };
        let has = |field| self.fields.contains(field);
        let ports = match packet.transport {
            Transport::Tcp { src, dst } if has(tcp) => Some((src, dst)),
            Transport::Udp { src, dst } if has(udp) => Some((src, dst)),
            _ if has(plain) => None,
            Transport::Fragment if has(fragment) => None,
            Transport::Other if has(other) => None,
            _ => return None,
        };
        Some(self.toeplitz.hash_tuple(packet.addresses, ports))
    }

    /// The queue that the device puts the packet on, which is the number of the worker that polls it.
    #[must_use]
    pub fn rss_worker_for(&self, packet: &RssPacket) -> u16 {
        self.hash(packet).map_or(0, |hash| self.table[hash as usize & (self.table.len() - 1)])
    }

    /// Prepares the choice of one port so that a packet comes to a wanted queue. `free` has the bits set
    /// that may be chosen; `0x00ff` lets the low eight bits be chosen, `0xfffe` keeps the parity.
    ///
    /// Nothing if the device does not hash the ports of this family and transport, or if the free bits
    /// cannot reach every entry of the table.
    #[must_use]
    pub fn steering(&self, family: Family, tcp: bool, field: PortField, free: u16) -> Option<PortSteering> {
        let (needed, zero) = match (family, tcp) {
            (Family::V4, true) => (RssField::Ipv4Tcp, Self::ZERO4),
            (Family::V4, false) => (RssField::Ipv4Udp, Self::ZERO4),
            (Family::V6, true) => (RssField::Ipv6Tcp, Self::ZERO6),
            (Family::V6, false) => (RssField::Ipv6Udp, Self::ZERO6),
        };
        if !self.fields.contains(needed) {
            return None;
        }
        // The hash is linear and the hash of zeros is zero, so the hash of one set bit is its column.
        let column = |bit: u32| {
            let port = 1u16 << bit;
            let ports = match field {
                PortField::Source => (port, 0),
                PortField::Destination => (0, port),
            };
            self.toeplitz.hash_tuple(zero, Some(ports))
        };
        PortSteering::solve(column, free, &self.table, self.queues)
    }

    const ZERO4: Addresses = Addresses::V4 { src: Ipv4Addr::UNSPECIFIED, dst: Ipv4Addr::UNSPECIFIED };
    const ZERO6: Addresses = Addresses::V6 { src: Ipv6Addr::UNSPECIFIED, dst: Ipv6Addr::UNSPECIFIED };
}

/// Says which port brings a packet to a wanted queue: one look-up, no trial.
///
/// ```text
///   index of the table = low bits of the hash
///   wanted index  xor  index under any port  =  what the free port bits must add
///   port = that port  xor  flips[what must be added]
/// ```
#[derive(Debug, Clone)]
pub struct PortSteering {
    /// The bits of the hash that decide the queue.
    mask: u32,
    /// Which port bits to flip so that the index changes by the position in this table.
    flips: Box<[u16]>,
    /// Sets of port bits that leave the index as it is, independent of each other.
    idle: Box<[u16]>,
    /// For each queue the indices that name it.
    indices: Box<[Box<[u32]>]>,
}

impl PortSteering {
    fn solve(column: impl Fn(u32) -> u32, free: u16, table: &[u16], queues: u16) -> Option<Self> {
        // A table that repeats itself is decided by fewer bits: the fewer, the more ports fit.
        let mut span = table.len();
        while span > 1 && table.iter().enumerate().all(|(i, q)| *q == table[i % (span / 2)]) {
            span /= 2;
        }
        let mask = u32::try_from(span - 1).ok()?;

        // Walk the free bits from the lowest. One whose column is new to the span of those before it
        // doubles what can be reached; one whose column is not gives a set of bits that changes nothing.
        let mut flips: Vec<Option<u16>> = vec![None; span];
        flips[0] = Some(0);
        let mut idle = Vec::new();
        for bit in (0..16).filter(|b| free >> b & 1 != 0) {
            let change = (column(bit) & mask) as usize;
            if let Some(same) = flips[change] {
                idle.push(same | 1 << bit);
                continue;
            }
            let reached: Vec<(usize, u16)> =
                flips.iter().enumerate().filter_map(|(at, flip)| flip.map(|f| (at, f))).collect();
            for (at, flip) in reached {
                flips[at ^ change] = Some(flip | 1 << bit);
            }
        }
        let flips = flips.into_iter().collect::<Option<Box<[u16]>>>()?;
        let indices = (0..queues)
            .map(|queue| (0..=mask).filter(|i| table[*i as usize] == queue).collect::<Box<[u32]>>())
            .collect();
        Some(Self { mask, flips, idle: idle.into(), indices })
    }

    /// How many ports of the free bits lead to one entry of the table: a power of two.
    #[must_use]
    pub fn ports_per_index(&self) -> u32 {
        1 << self.idle.len()
    }

    /// The port, differing from `port` in free bits only, that brings the packet to `queue`. `hash` is the
    /// packet's hash under `port`. `nth` chooses among the ports that do so: numbers below
    /// [`ports_per_index`](Self::ports_per_index) give different ports, larger ones repeat. A port that
    /// leads to the queue already is its own number 0.
    ///
    /// Nothing if there is no such queue.
    #[must_use]
    pub fn port_for(&self, hash: u32, port: u16, queue: u16, nth: u32) -> Option<u16> {
        let indices = self.indices.get(usize::from(queue))?;
        let index = hash & self.mask;
        // Where several entries name the queue, the low bits of the hash choose among them, so that
        // flows stay spread.
        let wanted = match indices.binary_search(&index) {
            Ok(_) => index,
            Err(_) => *indices.get(index as usize % indices.len().max(1))?,
        };
        let flip = self.flips[(index ^ wanted) as usize];
        let other = self
            .idle
            .iter()
            .enumerate()
            .filter(|(i, _)| nth >> i & 1 != 0)
            .fold(0, |sum, (_, set)| sum ^ set);
        Some(port ^ flip ^ other)
    }
}

#[cfg(test)]
mod tests;
