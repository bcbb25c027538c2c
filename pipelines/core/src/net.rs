//! Networks: prefixes, logical interfaces and where a packet leaves.

use causeway_wire::MacAddr;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

macro_rules! prefix {
    ($(#[$doc:meta])* $name:ident, $addr:ty, $bits:ty, $width:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            addr: $bits,
            /// Ones where the prefix is: kept, because every packet is compared with several prefixes.
            mask: $bits,
            len: u8,
        }

        impl $name {
            /// The prefix of `len` bits that `addr` is in. Nothing if `len` is too large or bits
            /// behind the prefix are set.
            #[must_use]
            pub fn new(addr: $addr, len: u8) -> Option<Self> {
                let p = Self::containing(addr, len)?;
                (p.addr == addr.to_bits()).then_some(p)
            }

            /// The prefix of `len` bits that `addr` is in, other bits cleared. Nothing if `len` is
            /// too large.
            #[must_use]
            pub fn containing(addr: $addr, len: u8) -> Option<Self> {
                let mask = match len {
                    0 => 0,
                    1..=$width => <$bits>::MAX << ($width - len),
                    _ => return None,
                };
                Some(Self { addr: addr.to_bits() & mask, mask, len })
            }

            /// The first address.
            #[must_use]
            pub const fn address(self) -> $addr {
                <$addr>::from_bits(self.addr)
            }

            /// The last address.
            #[must_use]
            pub const fn last(self) -> $addr {
                <$addr>::from_bits(self.addr | !self.mask)
            }

            /// Number of bits.
            #[must_use]
            #[expect(clippy::len_without_is_empty, reason = "a prefix length is not a container's")]
            pub const fn len(self) -> u8 {
                self.len
            }

            /// True if `a` is in the prefix.
            #[inline(always)]
            #[must_use]
            pub const fn contains(self, a: $addr) -> bool {
                (a.to_bits() ^ self.addr) & self.mask == 0
            }

            /// True if the two have an address in common.
            #[must_use]
            pub fn overlaps(self, other: Self) -> bool {
                (self.addr ^ other.addr) & self.mask & other.mask == 0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.address(), self.len)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(s: &str) -> Result<Self, String> {
                let expected = concat!("an address, a slash and a length, as in ", $example);
                let (addr, len) = s.split_once('/').ok_or_else(|| format!("expected {expected}"))?;
                let addr: $addr = addr.parse().map_err(|_| format!("expected {expected}"))?;
                let len: u8 = len.parse().map_err(|_| format!("expected {expected}"))?;
                let p = Self::containing(addr, len)
                    .ok_or_else(|| format!("the length is at most {}", $width))?;
                if p.address() == addr {
                    Ok(p)
                } else {
                    Err(format!("bits behind the prefix are set; the prefix would be {p}"))
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(|e| de::Error::custom(format!("`{text}`: {e}")))
            }
        }
    };
}

prefix! {
    /// An IPv6 prefix without bits set behind it.
    Prefix6, Ipv6Addr, u128, 128, "2001:db8:64::/64"
}
prefix! {
    /// An IPv4 prefix without bits set behind it.
    Prefix4, Ipv4Addr, u32, 32, "203.0.113.0/28"
}

/// Number of a logical interface: an index into [`Interfaces`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfId(pub u16);

impl IfId {
    /// No interface: the ingress of a packet that we originate.
    pub const NONE: Self = Self(u16::MAX);
}

/// What is behind an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Servers of a tenant: source addresses are validated.
    Tenant,
    /// The rest of the Internet.
    Uplink,
}

/// Which source addresses a tenant network may send from (BCP 38, RFC 7039). Addresses of ours and the NAT64
/// prefixes are nobody's in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Validation {
    /// Any.
    Off,
    /// Those in the network's prefixes.
    #[default]
    Prefix,
    /// Of those only addresses and delegated prefixes that are bound on this link, each from the
    /// link-layer address that it is bound to.
    Leased,
}

/// A logical interface: a port, or one VLAN of a port.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Its name in the configuration.
    pub name: String,
    /// Number of the port (device) that it is on, as the worker counts them.
    pub port: u16,
    /// The VLAN, 1 to 4094; nothing for untagged frames.
    pub vlan: Option<u16>,
    /// What is behind it.
    pub role: Role,
    /// Our address on the link: the source of our frames, and what neighbour discovery tells for our IPv6
    /// addresses. While a virtual router of ours is active here, it is the virtual router's.
    pub mac: MacAddr,
    /// The same for IPv4 and ARP, where it is another one (the virtual router's for IPv4, RFC 9568 7.3).
    pub mac4: Option<MacAddr>,
    /// The port's own link-layer address and the addresses of ours that it stands for, while `mac` or
    /// `mac4` is a virtual router's; otherwise nothing.
    pub real: Option<Real>,
    /// The largest IP packet that the link carries, in octets: 1280 to 9600.
    pub mtu: u16,
    /// Our link-local address. Owned and answered for.
    pub link_local: Ipv6Addr,
    /// Our other IPv6 addresses on the link, each with its on-link prefix.
    pub addrs6: Vec<(Ipv6Addr, Prefix6)>,
    /// Our IPv4 addresses on the link, each with its on-link prefix.
    pub addrs4: Vec<(Ipv4Addr, Prefix4)>,
    /// IPv6 prefixes that are on the link besides those of our addresses.
    pub on_link6: Vec<Prefix6>,
    /// Further IPv6 addresses that we answer ND and echo for on this link.
    pub service6: Vec<Ipv6Addr>,
    /// Further IPv4 addresses that we answer ARP for on this link if asked (NAT64 pool, proxy).
    pub proxy4: Vec<Prefix4>,
    /// Further IPv4 addresses of ours: those that the splicer's clients connect to. Echo is answered for them; for ARP
    /// they are in `proxy4` as well.
    pub service4: Vec<Ipv4Addr>,
    /// Prefixes that a tenant behind the interface may send from (BCP 38). Empty on an uplink.
    pub sources6: Vec<Prefix6>,
    /// How far sources are checked, on a tenant network.
    pub validation: Validation,
    /// Addresses of ours that are answered for in ARP and neighbour discovery and accept nothing else: a
    /// virtual router's without accept mode (RFC 9568 6.1).
    pub no_accept: Vec<IpAddr>,
    /// Further link-local addresses of ours on the link.
    pub more_link_local: Vec<Ipv6Addr>,
    /// IPv6 multicast groups that we listen to besides those of neighbour discovery.
    pub groups6: Vec<Ipv6Addr>,
    /// IPv4 multicast groups that we listen to.
    pub groups4: Vec<Ipv4Addr>,
}

/// What of an interface stays with the port while a virtual router is active on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Real {
    /// The port's own link-layer address.
    pub mac: MacAddr,
    /// Addresses of ours that are not a virtual router's.
    pub addrs: Vec<IpAddr>,
}

/// An uplink without a name and without addresses, for values that are written out in part.
impl Default for Interface {
    fn default() -> Self {
        Self {
            name: String::new(),
            port: 0,
            vlan: None,
            role: Role::Uplink,
            mac: MacAddr::default(),
            mac4: None,
            real: None,
            mtu: 1500,
            link_local: Ipv6Addr::UNSPECIFIED,
            addrs6: Vec::new(),
            addrs4: Vec::new(),
            on_link6: Vec::new(),
            service6: Vec::new(),
            proxy4: Vec::new(),
            service4: Vec::new(),
            sources6: Vec::new(),
            validation: Validation::default(),
            no_accept: Vec::new(),
            more_link_local: Vec::new(),
            groups6: Vec::new(),
            groups4: Vec::new(),
        }
    }
}

impl Interface {
    /// The number of the link that it is on: the port in the high half, the VLAN (0: untagged) in the low
    /// half. Unlike the number of an interface, it means the same in every plan.
    #[inline(always)]
    #[must_use]
    pub fn link(&self) -> u32 {
        u32::from(self.port) << 16 | u32::from(self.vlan.unwrap_or(0))
    }

    /// True if `a` is an address of ours on this link.
    #[must_use]
    pub fn owns6(&self, a: Ipv6Addr) -> bool {
        self.link_local == a
            || self.addrs6.iter().any(|(own, _)| *own == a)
            || self.service6.contains(&a)
            || self.more_link_local.contains(&a)
    }

    /// The source of frames that carry IPv4 or ARP.
    #[inline(always)]
    #[must_use]
    pub fn mac4(&self) -> MacAddr {
        self.mac4.unwrap_or(self.mac)
    }

    /// The link-layer address that an address of ours is at: what ARP and neighbour discovery tell of it.
    #[must_use]
    pub fn mac_of(&self, a: IpAddr) -> MacAddr {
        match (&self.real, a) {
            (Some(real), _) if real.addrs.contains(&a) => real.mac,
            (_, IpAddr::V6(_)) => self.mac,
            (_, IpAddr::V4(_)) => self.mac4(),
        }
    }

    /// True if `mac` is a link-layer address of ours on this link.
    #[must_use]
    pub fn owns_mac(&self, mac: MacAddr) -> bool {
        mac == self.mac || mac == self.mac4() || self.real.as_ref().is_some_and(|real| real.mac == mac)
    }

    /// True if `a` is an IPv4 address of ours on this link.
    #[must_use]
    pub fn owns4(&self, a: Ipv4Addr) -> bool {
        self.addrs4.iter().any(|(own, _)| *own == a) || self.service4.contains(&a)
    }

    /// The IPv6 source for a packet that we originate towards `dst` on this link: link-local for
    /// link-local, else our first other address (RFC 6724 rule 2), else link-local.
    #[must_use]
    pub fn source6(&self, dst: Ipv6Addr) -> Ipv6Addr {
        if dst.is_unicast_link_local() || dst.is_multicast() {
            return self.link_local;
        }
        self.addrs6.first().map_or(self.link_local, |(a, _)| *a)
    }

    /// The IPv4 source for a packet that we originate towards `dst` on this link: an address that is
    /// on-link with it, else our first.
    #[must_use]
    pub fn source4(&self, dst: Ipv4Addr) -> Option<Ipv4Addr> {
        self.addrs4.iter().find(|(_, p)| p.contains(dst)).or_else(|| self.addrs4.first()).map(|(a, _)| *a)
    }
}

/// All interfaces of a plan.
#[derive(Debug, Clone, Default)]
pub struct Interfaces {
    list: Vec<Interface>,
}

impl Interfaces {
    /// The interfaces, numbered in this order.
    #[must_use]
    pub const fn new(list: Vec<Interface>) -> Self {
        Self { list }
    }

    /// The interface with this number, if there is one.
    #[inline]
    #[must_use]
    pub fn get(&self, id: IfId) -> Option<&Interface> {
        self.list.get(usize::from(id.0))
    }

    /// All interfaces with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (IfId, &Interface)> {
        (0u16..).map(IfId).zip(&self.list)
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.list.len()
    }

    /// The interface of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<IfId> {
        self.iter().find(|(_, i)| i.name == name).map(|(id, _)| id)
    }
}

/// How the link-layer destination is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// The neighbour with this IPv6 address.
    Ip6(Ipv6Addr),
    /// The neighbour with this IPv4 address.
    Ip4(Ipv4Addr),
    /// This link-layer address.
    Mac(MacAddr),
}

/// Where a packet leaves: an interface, and how the link-layer destination is found.
///
/// Three words, each written and read as a whole: it is copied several times a packet, and a copy that
/// reads a word whose parts were just written one by one would wait for the store buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Egress {
    /// Interface in the low 16 bits, kind of [`Via`] above.
    head: u64,
    /// The address, as [`Via`]'s kind has it; the higher half.
    high: u64,
    /// The lower half.
    low: u64,
}

const VIA_IP6: u64 = 0;
const VIA_IP4: u64 = 1 << 16;
const VIA_MAC: u64 = 2 << 16;

impl Egress {
    /// Out of `interface`, by `via`.
    #[inline(always)]
    #[must_use]
    pub const fn new(interface: IfId, via: Via) -> Self {
        let id = interface.0 as u64;
        match via {
            Via::Ip6(a) => {
                let w = a.to_bits();
                #[expect(clippy::cast_possible_truncation, reason = "both halves are kept")]
                Self { head: id | VIA_IP6, high: (w >> 64) as u64, low: w as u64 }
            }
            Via::Ip4(a) => Self { head: id | VIA_IP4, high: 0, low: a.to_bits() as u64 },
            Via::Mac(m) => {
                let [a, b, c, d, e, f] = m.0;
                Self { head: id | VIA_MAC, high: 0, low: u64::from_be_bytes([0, 0, a, b, c, d, e, f]) }
            }
        }
    }

    /// Through which interface.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are the interface")]
    pub const fn interface(self) -> IfId {
        IfId(self.head as u16)
    }

    /// To which neighbour.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "an IPv4 address was put there")]
    pub const fn via(self) -> Via {
        match self.head & !0xffff {
            VIA_IP6 => Via::Ip6(Ipv6Addr::from_bits((self.high as u128) << 64 | self.low as u128)),
            VIA_IP4 => Via::Ip4(Ipv4Addr::from_bits(self.low as u32)),
            _ => {
                let [_, _, a, b, c, d, e, f] = self.low.to_be_bytes();
                Via::Mac(MacAddr([a, b, c, d, e, f]))
            }
        }
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").field("interface", &self.interface()).field("via", &self.via()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_contain_and_overlap() {
        let p: Prefix6 = "2001:db8:64::/64".parse().unwrap();
        assert!(p.contains("2001:db8:64::101".parse().unwrap()));
        assert!(!p.contains("2001:db8:65::101".parse().unwrap()));
        assert!(p.overlaps("2001:db8:64::/48".parse().unwrap()));
        assert!(!p.overlaps("2001:db8:64:ff9b::/96".parse().unwrap()));
        let all: Prefix4 = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains(Ipv4Addr::BROADCAST));
        assert_eq!(all.last(), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn an_egress_gives_back_what_was_put_in() {
        let all = [
            Via::Ip6("2001:db8::1".parse().unwrap()),
            Via::Ip4(Ipv4Addr::new(192, 0, 2, 1)),
            Via::Mac(MacAddr([2, 0, 0, 0, 1, 255])),
        ];
        for via in all {
            for id in [IfId(0), IfId(7), IfId::NONE] {
                let e = Egress::new(id, via);
                assert_eq!((e.interface(), e.via()), (id, via));
            }
        }
        assert_ne!(Egress::new(IfId(1), all[0]), Egress::new(IfId(2), all[0]));
    }

    #[test]
    fn a_prefix_with_host_bits_is_refused_with_the_prefix_that_was_meant() {
        let e = "203.0.113.1/28".parse::<Prefix4>().unwrap_err();
        assert!(e.contains("203.0.113.0/28"), "{e}");
        for bad in ["", "203.0.113.0", "203.0.113.0/33", "203.0.113.0/x", "::/28"] {
            assert!(bad.parse::<Prefix4>().is_err(), "{bad}");
        }
    }
}
