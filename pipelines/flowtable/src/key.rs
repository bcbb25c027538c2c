//! Keys: what a packet says about its flow. Addresses and ports are numbers in host order.

use crate::hash::{Hash, Hasher};
use crate::index::Side;
use crate::mapping::MappingLine;
use crate::session::{KIND_NATIVE, SessionLine};

/// Prefix numbers from here on are no NAT64 prefixes but own addresses of the gateway: the flow ends at
/// the gateway's IPv6 address of that number, so no IPv4 address is in the inside key.
pub const OWN_ADDRESS: u8 = 0x80;

/// A flow as the inside sees it: the five-tuple of a packet from an IPv6 host towards the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InsideKey {
    /// The IPv6 host.
    pub src6: u128,
    /// The IPv4 address under the prefix; must be 0 where `prefix` is an own address.
    pub dst4: u32,
    /// The host's port, or the identifier of an ICMPv6 echo.
    pub src_port: u16,
    /// The port that the host sends to; 0 for echo.
    pub dst_port: u16,
    /// Upper-layer protocol, by one number for both sides (a NAT64 uses the same for ICMP and ICMPv6).
    pub protocol: u8,
    /// Number of the NAT64 prefix (below [`OWN_ADDRESS`]), or [`OWN_ADDRESS`] plus the number of an own
    /// address.
    pub prefix: u8,
}

/// A flow as the outside sees it: the five-tuple of a packet from an IPv4 host towards the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OutsideKey {
    /// The gateway's IPv4 address (of the pool, or an own one).
    pub out4: u32,
    /// The IPv4 host.
    pub remote4: u32,
    /// The gateway's port, or the identifier of an ICMP echo.
    pub out_port: u16,
    /// The host's port; 0 for echo.
    pub remote_port: u16,
    /// As in [`InsideKey`].
    pub protocol: u8,
}

/// A native IPv6 flow. There is one key for both directions: a packet from outside is looked up with
/// source and destination swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NativeKey {
    /// The inside host.
    pub src6: u128,
    /// The outside host.
    pub dst6: u128,
    /// The inside host's port.
    pub src_port: u16,
    /// The outside host's port.
    pub dst_port: u16,
    /// Upper-layer protocol.
    pub protocol: u8,
}

/// A mapping as the inside sees it (RFC 6146 3.1: IPv6 transport address).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapInsideKey {
    /// The IPv6 host.
    pub src6: u128,
    /// Its port or echo identifier.
    pub port: u16,
    /// As in [`InsideKey`].
    pub protocol: u8,
    /// Number of the pool set that the mapping draws from. Always 0 makes mappings independent of the
    /// NAT64 prefix.
    pub pool: u8,
}

/// A mapping as the outside sees it (RFC 6146 3.1: IPv4 transport address).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapOutsideKey {
    /// The pool's address.
    pub out4: u32,
    /// The port or echo identifier.
    pub port: u16,
    /// As in [`InsideKey`].
    pub protocol: u8,
}

#[inline(always)]
pub(crate) const fn halves(a: u128) -> (u64, u64) {
    ((a >> 64) as u64, a as u64)
}

/// What the table asks of a key.
pub(crate) trait Key: Copy {
    type Line;
    fn hash(&self, h: &Hasher) -> Hash;
    fn side(&self) -> Side;
    fn is_of(&self, line: &Self::Line) -> bool;
}

/// A key of sessions: [`InsideKey`], [`OutsideKey`] or [`NativeKey`].
#[expect(private_bounds, reason = "sealed")]
pub trait SessionKey: Key<Line = SessionLine> {}
impl SessionKey for InsideKey {}
impl SessionKey for OutsideKey {}
impl SessionKey for NativeKey {}

impl InsideKey {
    #[inline(always)]
    pub(crate) const fn w3(&self) -> u64 {
        let dst4 = if self.prefix < OWN_ADDRESS { self.dst4 } else { 0 };
        (dst4 as u64) << 32 | (self.src_port as u64) << 16 | self.dst_port as u64
    }

    /// True if a session with this key may have `remote4` as its outside host.
    pub(crate) const fn accepts_remote(&self, remote4: u32) -> bool {
        self.prefix >= OWN_ADDRESS || self.dst4 == remote4
    }

    #[inline(always)]
    const fn tail(&self) -> u64 {
        (self.prefix as u64) << 8 | self.protocol as u64
    }
}

impl Key for InsideKey {
    type Line = SessionLine;

    #[inline(always)]
    fn hash(&self, h: &Hasher) -> Hash {
        let (hi, lo) = halves(self.src6);
        h.four([hi, lo, self.w3(), self.tail()])
    }

    #[inline(always)]
    fn side(&self) -> Side {
        Side::Inside
    }

    #[inline(always)]
    fn is_of(&self, line: &SessionLine) -> bool {
        let (hi, lo) = halves(self.src6);
        let ports_only = if self.prefix < OWN_ADDRESS { u64::MAX } else { 0xffff_ffff };
        let differs = (line.w(1) ^ hi)
            | (line.w(2) ^ lo)
            | ((line.w(3) ^ self.w3()) & ports_only)
            | ((line.w(5) ^ self.tail()) & (KIND_NATIVE | 0xffff));
        differs == 0
    }
}

impl OutsideKey {
    #[inline(always)]
    pub(crate) const fn w4(&self) -> u64 {
        (self.out4 as u64) << 32 | (self.out_port as u64) << 16 | self.remote_port as u64
    }
}

impl Key for OutsideKey {
    type Line = SessionLine;

    #[inline(always)]
    fn hash(&self, h: &Hasher) -> Hash {
        h.two(self.w4(), u64::from(self.remote4) << 32 | u64::from(self.protocol))
    }

    #[inline(always)]
    fn side(&self) -> Side {
        Side::Outside
    }

    #[inline(always)]
    fn is_of(&self, line: &SessionLine) -> bool {
        let differs = (line.w(4) ^ self.w4())
            | ((line.w(3) >> 32) ^ u64::from(self.remote4))
            | ((line.w(5) ^ u64::from(self.protocol)) & (KIND_NATIVE | 0xff));
        differs == 0
    }
}

impl NativeKey {
    #[inline(always)]
    pub(crate) const fn w3(&self) -> u64 {
        (self.src_port as u64) << 16 | self.dst_port as u64
    }
}

impl Key for NativeKey {
    type Line = SessionLine;

    #[inline(always)]
    fn hash(&self, h: &Hasher) -> Hash {
        let ((a, b), (c, d)) = (halves(self.src6), halves(self.dst6));
        h.six([a, b, c, d, self.w3(), u64::from(self.protocol) | KIND_NATIVE])
    }

    #[inline(always)]
    fn side(&self) -> Side {
        Side::Inside
    }

    #[inline(always)]
    fn is_of(&self, line: &SessionLine) -> bool {
        let ((a, b), (c, d)) = (halves(self.src6), halves(self.dst6));
        let differs = (line.w(1) ^ a)
            | (line.w(2) ^ b)
            | (line.w(3) ^ self.w3())
            | (line.w(4) ^ c)
            | (line.w(6) ^ d)
            | ((line.w(5) ^ (KIND_NATIVE | u64::from(self.protocol))) & (KIND_NATIVE | 0xff));
        differs == 0
    }
}

impl Key for MapInsideKey {
    type Line = MappingLine;

    #[inline(always)]
    fn hash(&self, h: &Hasher) -> Hash {
        let (hi, lo) = halves(self.src6);
        h.four([hi, lo, u64::from(self.port), u64::from(self.pool) << 8 | u64::from(self.protocol)])
    }

    #[inline(always)]
    fn side(&self) -> Side {
        Side::Inside
    }

    #[inline(always)]
    fn is_of(&self, line: &MappingLine) -> bool {
        let (hi, lo) = halves(self.src6);
        let tail = u64::from(self.pool) << 8 | u64::from(self.protocol);
        let differs = (line.w(1) ^ hi)
            | (line.w(2) ^ lo)
            | ((line.w(3) ^ u64::from(self.port)) & 0xffff)
            | ((line.w(4) ^ tail) & 0xffff);
        differs == 0
    }
}

impl MapOutsideKey {
    /// As it stands in the mapping, without the inside port.
    #[inline(always)]
    pub(crate) const fn w3(&self) -> u64 {
        (self.out4 as u64) << 32 | (self.port as u64) << 16
    }
}

impl Key for MapOutsideKey {
    type Line = MappingLine;

    #[inline(always)]
    fn hash(&self, h: &Hasher) -> Hash {
        h.two(self.w3(), u64::from(self.protocol))
    }

    #[inline(always)]
    fn side(&self) -> Side {
        Side::Outside
    }

    #[inline(always)]
    fn is_of(&self, line: &MappingLine) -> bool {
        let differs = ((line.w(3) ^ self.w3()) & !0xffff) | ((line.w(4) ^ u64::from(self.protocol)) & 0xff);
        differs == 0
    }
}
