//! Addresses, prefixes, and where routes lead.

use crate::config::read::{self, Read};
use causeway_core::net::{Prefix4, Prefix6, Role};
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use toml::de::DeValue;

impl Read for Prefix6 {
    const ALLOWED: &'static str = "an IPv6 prefix without bits behind it, as in 2001:db8:64::/64";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        read::string(value)?.parse()
    }
}

impl Read for Prefix4 {
    const ALLOWED: &'static str = "an IPv4 prefix without bits behind it, as in 203.0.113.0/28";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        // A single address is the prefix of itself: pools are often written so.
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Self::new(address, 32).ok_or_else(|| "not an IPv4 prefix".to_owned());
        }
        text.parse()
    }
}

/// A prefix of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// IPv4.
    V4(Prefix4),
    /// IPv6.
    V6(Prefix6),
}

impl Prefix {
    /// Number of bits.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a prefix length is not a container's")]
    pub const fn len(self) -> u8 {
        match self {
            Self::V4(p) => p.len(),
            Self::V6(p) => p.len(),
        }
    }

    /// True if `a` is of the same family and in the prefix.
    #[must_use]
    pub fn contains(self, a: IpAddr) -> bool {
        match (self, a) {
            (Self::V4(p), IpAddr::V4(a)) => p.contains(a),
            (Self::V6(p), IpAddr::V6(a)) => p.contains(a),
            _ => false,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(p) => p.fmt(f),
            Self::V6(p) => p.fmt(f),
        }
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for Prefix {
    const ALLOWED: &'static str =
        "an IPv4 or IPv6 prefix without bits behind it, as in 0.0.0.0/0 or 2001:db8:64::/64";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        if text.contains(':') { text.parse().map(Self::V6) } else { text.parse().map(Self::V4) }
    }
}

/// An own address as it is written: with the length of its on-link prefix, or without, and then it must
/// be in one of the network's `on-link` prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Written<A> {
    pub(in crate::config) address: A,
    pub(in crate::config) len: Option<u8>,
}

fn written<A: std::str::FromStr>(
    value: &DeValue<'_>,
    family: &str,
    longest: u8,
) -> Result<Written<A>, String> {
    let text = read::string(value)?;
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let address = address.parse().map_err(|_| format!("not an {family} address"))?;
    let len = match len {
        None => None,
        Some(len) => Some(
            len.parse()
                .ok()
                .filter(|len| (1..=longest).contains(len))
                .ok_or_else(|| format!("the length of its prefix is 1 to {longest}"))?,
        ),
    };
    Ok(Written { address, len })
}

impl Read for Written<Ipv6Addr> {
    const ALLOWED: &'static str =
        "a global unicast IPv6 address and the length of its on-link prefix, as in 2001:db8:64::1/64";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let w: Self = written(value, "IPv6", 128)?;
        let a = w.address;
        if a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.to_ipv4_mapped().is_some() {
            return Err("not a unicast address that a gateway can have".to_owned());
        }
        if a.is_unicast_link_local() {
            return Err("a link-local address belongs into `link-local`".to_owned());
        }
        // RFC 4291 2.6.1: the all-zero interface identifier is the anycast address of all routers of the
        // link. RFC 6164 5: there is none on /127 links.
        let zero_host = |len| len < 127 && Prefix6::new(a, len).is_some();
        if w.len.is_some_and(zero_host) {
            return Err("the first address of a prefix is the Subnet-Router anycast address".to_owned());
        }
        Ok(w)
    }
}

impl Read for Written<Ipv4Addr> {
    const ALLOWED: &'static str =
        "a unicast IPv4 address and the length of its on-link prefix, as in 192.0.2.2/24";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let w: Self = written(value, "IPv4", 32)?;
        if !unicast4(w.address) {
            return Err("not a unicast address that a gateway can have".to_owned());
        }
        if let Some(p) = w.len.and_then(|len| Prefix4::containing(w.address, len)) {
            host4(w.address, p)?;
        }
        Ok(w)
    }
}

/// RFC 1122 3.2.1.3: the first and the last address of an IPv4 prefix are no host's; RFC 3021: but they
/// are on /31 links.
pub(in crate::config) fn host4(a: Ipv4Addr, prefix: Prefix4) -> Result<(), String> {
    if prefix.len() < 31 && (a == prefix.address() || a == prefix.last()) {
        return Err(format!("the network or broadcast address of {prefix}"));
    }
    Ok(())
}

/// True for an IPv4 address that a host can have (RFC 1122 3.2.1.3).
pub(in crate::config) fn unicast4(a: Ipv4Addr) -> bool {
    let first = a.octets()[0];
    first != 0 && first != 127 && first < 224
}

/// True for an IPv4 address that one host can be reached by from other links.
pub(super) fn reached4(a: Ipv4Addr) -> bool {
    unicast4(a) && !a.is_link_local()
}

/// The link-local address of the gateway on a network, in fe80::/64 (RFC 4291 2.5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LinkLocal(Ipv6Addr);

impl LinkLocal {
    /// The address.
    #[must_use]
    pub const fn address(self) -> Ipv6Addr {
        self.0
    }
}

impl Read for LinkLocal {
    const ALLOWED: &'static str = "an address in fe80::/64, as in fe80::1";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let a: Ipv6Addr = read::string(value)?.parse().map_err(|_| "not an IPv6 address".to_owned())?;
        // RFC 4291 2.5.6: 54 bits of zeros stand between fe80::/10 and the interface identifier.
        if a.segments()[..4] != [0xfe80, 0, 0, 0] {
            return Err("outside fe80::/64".to_owned());
        }
        // RFC 4291 2.6.1: fe80:: is the Subnet-Router anycast address of the link.
        if a.segments()[4..] == [0; 4] {
            return Err("the Subnet-Router anycast address".to_owned());
        }
        Ok(Self(a))
    }
}

impl Read for Role {
    const ALLOWED: &'static str = "\"tenant\" or \"uplink\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match read::string(value)? {
            "tenant" => Ok(Self::Tenant),
            "uplink" => Ok(Self::Uplink),
            _ => Err("not a role".to_owned()),
        }
    }
}

/// Where a static route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To this router.
    Via(IpAddr),
    /// Nowhere: packets are answered with Destination Unreachable.
    Unreachable,
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Via(a) => a.fmt(f),
            Self::Unreachable => f.write_str("unreachable"),
        }
    }
}

impl Read for Target {
    const ALLOWED: &'static str = "the address of a router on one of the networks, or \"unreachable\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        if text == "unreachable" {
            return Ok(Self::Unreachable);
        }
        let a: IpAddr = text.parse().map_err(|_| "not an address".to_owned())?;
        let good = match a {
            IpAddr::V4(a) => unicast4(a),
            IpAddr::V6(a) => !(a.is_unspecified() || a.is_loopback() || a.is_multicast()),
        };
        if good { Ok(Self::Via(a)) } else { Err("not the address of a router".to_owned()) }
    }
}

/// A NAT64 prefix (RFC 6052 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Nat64Prefix(Prefix6);

impl Nat64Prefix {
    /// The prefix.
    #[must_use]
    pub const fn prefix(self) -> Prefix6 {
        self.0
    }

    /// True for 64:ff9b::/96 (RFC 6052 2.1).
    #[must_use]
    pub fn is_well_known(self) -> bool {
        self.0.len() == 96 && self.0.address().segments() == [0x64, 0xff9b, 0, 0, 0, 0, 0, 0]
    }

    /// The IPv6 form of an IPv4 address under this prefix (RFC 6052 2.2): the octets behind the prefix,
    /// with bits 64 to 71 kept zero.
    #[must_use]
    pub fn embed(self, a: Ipv4Addr) -> Ipv6Addr {
        let mut o = self.0.address().octets();
        let mut at = usize::from(self.0.len() / 8);
        for octet in a.octets() {
            at += usize::from(at == 8);
            o[at] = octet;
            at += 1;
        }
        Ipv6Addr::from(o)
    }
}

impl fmt::Display for Nat64Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Read for Nat64Prefix {
    const ALLOWED: &'static str = "an IPv6 prefix of length 32, 40, 48, 56, 64 or 96 whose bits 64 to 71 are zero, as in 2001:db8:64:ff9b::/96";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let p = Prefix6::read(value)?;
        // RFC 6052 2.2: these lengths only.
        if ![32, 40, 48, 56, 64, 96].contains(&p.len()) {
            return Err(format!("a NAT64 prefix has no length of {}", p.len()));
        }
        // RFC 6052 2.2: bits 64 to 71 are zero, also where they are part of a 96-bit prefix.
        if p.address().octets()[8] != 0 {
            return Err("bits 64 to 71 are not zero".to_owned());
        }
        // RFC 6052 2.1: 64:ff9b::/96 is the well-known prefix; its neighbourhood is not for others, but
        // for 64:ff9b:1::/48 (RFC 8215).
        let reserved = Prefix6::new(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
        let this = Self(p);
        if reserved.is_some_and(|r| r.overlaps(p)) && !this.is_well_known() {
            return Err("holds the well-known prefix 64:ff9b::/96 and more".to_owned());
        }
        let a = p.address();
        if a.is_multicast() || a.is_unicast_link_local() || a.is_unspecified() {
            return Err("not a unicast prefix".to_owned());
        }
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6052_2_2_an_address_is_embedded_behind_each_length() {
        // The table of RFC 6052 2.4.
        for (prefix, expected) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ] {
            let p = Nat64Prefix(prefix.parse().unwrap());
            assert_eq!(
                p.embed(Ipv4Addr::new(192, 0, 2, 33)),
                expected.parse::<Ipv6Addr>().unwrap(),
                "{prefix}"
            );
        }
    }
}
