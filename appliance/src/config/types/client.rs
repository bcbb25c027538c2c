//! Hosts, and what tells them apart: addresses, ranges of them, MAC addresses, DHCP identifiers.

use super::address::reached4;
use crate::config::read::{self, Read};
use causeway_wire::MacAddr;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// True for an IPv6 address that one host can be reached by from other links.
pub(super) fn unicast6(a: Ipv6Addr) -> bool {
    !(a.is_unspecified()
        || a.is_loopback()
        || a.is_multicast()
        || a.is_unicast_link_local()
        || a.to_ipv4_mapped().is_some())
}

fn address6(text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_| "not an IPv6 address".to_owned())
}

/// An IPv6 address of a host, not link-local.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Host6(Ipv6Addr);

impl Host6 {
    /// The address as that of a host, if it can be one's.
    pub(in crate::config) fn of(a: Ipv6Addr) -> Option<Self> {
        unicast6(a).then_some(Self(a))
    }

    /// The address.
    #[must_use]
    pub const fn address(self) -> Ipv6Addr {
        self.0
    }
}

impl fmt::Display for Host6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Read for Host6 {
    const ALLOWED: &'static str = "a unicast IPv6 address other than a link-local one, as in 2001:db8:64::53";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let a = address6(read::string(value)?)?;
        if unicast6(a) { Ok(Self(a)) } else { Err("no address that a host is reached by".to_owned()) }
    }
}

/// A range of IPv6 addresses, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    first: Ipv6Addr,
    last: Ipv6Addr,
}

impl AddressRange {
    /// The first address.
    #[must_use]
    pub const fn first(self) -> Ipv6Addr {
        self.first
    }

    /// The last address, not below the first.
    #[must_use]
    pub const fn last(self) -> Ipv6Addr {
        self.last
    }

    /// True if `a` is one of them.
    #[must_use]
    pub fn contains(self, a: Ipv6Addr) -> bool {
        (self.first..=self.last).contains(&a)
    }

    /// True if the two have an address in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// How many addresses there are; at most 2^128 - 1 is said.
    #[must_use]
    pub fn count(self) -> u128 {
        (self.last.to_bits() - self.first.to_bits()).saturating_add(1)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Serialize for AddressRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for AddressRange {
    const ALLOWED: &'static str =
        "two unicast IPv6 addresses, the lower one first, as in \"2001:db8:64::1000-2001:db8:64::1fff\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let (first, last) = read::string(value)?.split_once('-').ok_or("not a range of addresses")?;
        let (first, last) = (address6(first.trim())?, address6(last.trim())?);
        if first > last {
            return Err("the range is empty".to_owned());
        }
        if !unicast6(first) || !unicast6(last) {
            return Err("no addresses that hosts are reached by".to_owned());
        }
        Ok(Self { first, last })
    }
}

/// A MAC address of one station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(MacAddr);

impl Mac {
    /// The address.
    #[must_use]
    pub const fn address(self) -> MacAddr {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for Mac {
    const ALLOWED: &'static str = "the MAC address of one station, as in \"02:00:00:00:01:01\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let mac: MacAddr = read::string(value)?.parse().map_err(|_| "not a MAC address".to_owned())?;
        if mac.is_unicast() { Ok(Self(mac)) } else { Err("not an address of one station".to_owned()) }
    }
}

/// Octets in hexadecimal, separated by colons or by nothing.
fn hexadecimal(text: &str) -> Option<Box<[u8]>> {
    let octet = |pair: &str| {
        let good = pair.len() == 2 && pair.bytes().all(|c| c.is_ascii_hexdigit());
        good.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
    };
    if text.contains(':') {
        return text.split(':').map(octet).collect();
    }
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| text.get(at..at + 2).and_then(octet)).collect()
}

fn write_hexadecimal(f: &mut fmt::Formatter<'_>, octets: &[u8], between: &str) -> fmt::Result {
    for (n, octet) in octets.iter().enumerate() {
        write!(f, "{}{octet:02x}", if n > 0 { between } else { "" })?;
    }
    Ok(())
}

/// A DHCP unique identifier: a type and 1 to 128 octets (RFC 9915 11.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Duid(Box<[u8]>);

impl Duid {
    /// Its octets, 3 to 130.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Duid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hexadecimal(f, &self.0, ":")
    }
}

impl Serialize for Duid {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for Duid {
    const ALLOWED: &'static str =
        "3 to 130 octets in hexadecimal, as in \"00:03:00:01:02:00:00:00:01:01\" (RFC 9915 11)";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let octets = hexadecimal(read::string(value)?).ok_or("not octets in hexadecimal")?;
        if (3..=130).contains(&octets.len()) {
            Ok(Self(octets))
        } else {
            Err(format!("{} octets", octets.len()))
        }
    }
}

/// What a relay calls the port that a client is on (RFC 9915 21.18): text, or octets in hexadecimal
/// behind `0x`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InterfaceId(Box<[u8]>);

impl InterfaceId {
    /// Its octets, 1 to 255.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for InterfaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::str::from_utf8(&self.0).ok();
        match text.filter(|text| !text.starts_with("0x") && !text.chars().any(char::is_control)) {
            Some(text) => f.write_str(text),
            None => {
                f.write_str("0x")?;
                write_hexadecimal(f, &self.0, "")
            }
        }
    }
}

impl Serialize for InterfaceId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for InterfaceId {
    const ALLOWED: &'static str =
        "1 to 255 octets: a text, as in \"ge-0/0/1\", or 0x and hexadecimal, as in \"0x0a01\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        let octets: Box<[u8]> = match text.strip_prefix("0x") {
            Some(text) => hexadecimal(text).ok_or("not octets in hexadecimal")?,
            None => text.as_bytes().into(),
        };
        if (1..=255).contains(&octets.len()) {
            Ok(Self(octets))
        } else {
            Err(format!("{} octets", octets.len()))
        }
    }
}

/// A unicast address of either family, and link-local only in fe80::/64: what a router can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct UnicastAddress(IpAddr);

impl UnicastAddress {
    /// The address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.0
    }

    /// True for a link-local IPv6 address.
    #[must_use]
    pub const fn is_link_local6(self) -> bool {
        matches!(self.0, IpAddr::V6(a) if a.is_unicast_link_local())
    }
}

impl fmt::Display for UnicastAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Read for UnicastAddress {
    const ALLOWED: &'static str = "a unicast address without a length, as in fe80::1 or 192.0.2.2";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let a: IpAddr = read::string(value)?.parse().map_err(|_| "not an address".to_owned())?;
        let good = match a {
            IpAddr::V4(a) => reached4(a),
            IpAddr::V6(a) if a.is_unicast_link_local() => {
                // RFC 4291 2.5.6 and 2.6.1.
                a.segments()[..4] == [0xfe80, 0, 0, 0] && a.segments()[4..] != [0; 4]
            }
            IpAddr::V6(a) => unicast6(a),
        };
        if good { Ok(Self(a)) } else { Err("not an address that a router can have".to_owned()) }
    }
}

/// Where the other gateway of a pair is: an address and a TCP port, or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PeerAddress {
    /// An address and a TCP port.
    Tcp(SocketAddr),
    /// The absolute path of a Unix socket, at most 100 octets.
    Unix(PathBuf),
}

impl PeerAddress {
    /// The path of a Unix socket.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for PeerAddress {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for PeerAddress {
    const ALLOWED: &'static str = "an address and a TCP port, as in \"[2001:db8:ffff::3]:6470\", or \"unix:\" and an absolute path of at most 100 octets";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        if let Some(path) = text.strip_prefix("unix:") {
            let good = path.starts_with('/') && path.len() <= 100 && !path.contains('\0');
            return if good { Ok(Self::Unix(path.into())) } else { Err("not a path of a socket".to_owned()) };
        }
        let at: SocketAddr = text.parse().map_err(|_| "not an address and a port".to_owned())?;
        if at.port() == 0 {
            return Err("port 0 is nobody's".to_owned());
        }
        if at.ip().is_multicast() {
            return Err("not an address of one machine".to_owned());
        }
        Ok(Self::Tcp(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use toml::de::DeTable;

    fn read<T: Read>(value: &str) -> Result<T, String> {
        let text = format!("x = {value}");
        let table = DeTable::parse(&text).unwrap();
        let value = table.get_ref().get("x").unwrap();
        T::read(value.get_ref())
    }

    #[test]
    fn ranges_know_their_addresses() {
        let r = |a: &str, b: &str| read::<AddressRange>(&format!("\"{a}-{b}\"")).unwrap();
        let range = r("2001:db8:64::1000", "2001:db8:64::1fff");
        assert_eq!(
            (range.count(), range.to_string().as_str()),
            (4096, "2001:db8:64::1000-2001:db8:64::1fff")
        );
        assert!(range.contains(range.first()) && range.contains(range.last()));
        assert!(range.overlaps(r("2001:db8:64::1fff", "2001:db8:64::2000")));
        assert!(!range.overlaps(r("2001:db8:64::2000", "2001:db8:64::2000")));
        assert_eq!(r("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff").count(), 1 << 96);
        for bad in
            ["2001:db8::1", "2001:db8::2-2001:db8::1", "fe80::1-fe80::2", "2001:db8::1-ff02::1", "::-::1"]
        {
            assert!(read::<AddressRange>(&format!("\"{bad}\"")).is_err(), "{bad}");
        }
    }

    #[test]
    fn rfc9915_11_1_a_duid_has_3_to_130_octets() {
        let duid = read::<Duid>("\"0003000102:0000000101\"");
        assert!(duid.is_err(), "colons or none, not some");
        for text in ["\"00:03:00:01:02:00:00:00:01:01\"", "\"00030001020000000101\""] {
            assert_eq!(read::<Duid>(text).unwrap().octets(), [0, 3, 0, 1, 2, 0, 0, 0, 1, 1]);
        }
        let of = |octets: usize| read::<Duid>(&format!("\"{}\"", "ab".repeat(octets))).is_ok();
        assert_eq!([of(2), of(3), of(130), of(131)], [false, true, true, false]);
        for bad in
            ["\"\"", "\"zz:00:00\"", "\"000\"", "\"0:1:2:3\"", "\"+1+2+3\"", "3", "\"\u{fc}\u{fc}\u{fc}\""]
        {
            assert!(read::<Duid>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_interface_id_is_text_or_hexadecimal() {
        assert_eq!(read::<InterfaceId>("\"ge-0/0/1\"").unwrap().octets(), b"ge-0/0/1");
        assert_eq!(read::<InterfaceId>("\"0x0a01\"").unwrap().octets(), [0x0a, 1]);
        for bad in ["\"\"", "\"0x\"", "\"0x0\"", "\"0xzz\"", "7"] {
            assert!(read::<InterfaceId>(bad).is_err(), "{bad}");
        }
        assert!(read::<InterfaceId>(&format!("\"{}\"", "x".repeat(256))).is_err());
    }

    #[test]
    fn peers_are_sockets_of_either_kind() {
        for good in ["[2001:db8:ffff::3]:6470", "192.0.2.3:1", "unix:/run/causeway-lab/pair.sock"] {
            assert_eq!(read::<PeerAddress>(&format!("\"{good}\"")).unwrap().to_string(), good);
        }
        for bad in
            ["", "unix:", "unix:pair.sock", "192.0.2.3", "192.0.2.3:0", "[ff02::1]:1", "gw2.example:6470"]
        {
            assert!(read::<PeerAddress>(&format!("\"{bad}\"")).is_err(), "{bad}");
        }
    }

    #[test]
    fn macs_are_of_one_station() {
        assert!(read::<Mac>("\"02:00:00:00:01:01\"").is_ok());
        for bad in ["ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "01:00:5e:00:00:12", "02:00:00:00:01", "x"] {
            assert!(read::<Mac>(&format!("\"{bad}\"")).is_err(), "{bad}");
        }
    }

    #[test]
    fn virtual_addresses_are_unicast() {
        for good in ["fe80::1", "2001:db8:64::1", "192.0.2.2", "fe80::200:5eff:fe00:240"] {
            assert_eq!(read::<UnicastAddress>(&format!("\"{good}\"")).unwrap().to_string(), good);
        }
        for bad in [
            "fe80::",
            "fe80:1::1",
            "febf::1",
            "ff02::1",
            "::",
            "::1",
            "192.0.2.2/24",
            "224.0.0.18",
            "169.254.0.1",
        ] {
            assert!(read::<UnicastAddress>(&format!("\"{bad}\"")).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn identifiers_read_what_they_print(octets in proptest::collection::vec(any::<u8>(), 3..=130)) {
            let duid = Duid(octets.clone().into());
            prop_assert_eq!(&read::<Duid>(&format!("\"{duid}\"")).unwrap(), &duid);
            let id = InterfaceId(octets.into());
            let printed = toml::Value::String(id.to_string()).to_string();
            prop_assert_eq!(&read::<InterfaceId>(&printed).unwrap(), &id);
        }
    }
}
