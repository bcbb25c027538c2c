//! Leaf types of the configuration. A value of such a type is a good one: there is no other way to make
//! it than to parse it.

use super::read::{self, Read};
use causeway_core::net::{Prefix4, Prefix6, Role};
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// A name of something in the configuration: 1 to 32 of `a-z`, `A-Z`, `0-9`, `-`, `_` and `.`, and
/// the first is a letter or a digit. Safe in file names, logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// The name that `text` is.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let good = (1..=32).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
        good.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Read for Name {
    const ALLOWED: &'static str = "1 to 32 letters, digits, `-`, `_` and `.`, beginning with a letter or digit";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        Self::new(read::string(value)?).ok_or_else(|| "not a name".to_owned())
    }
}

/// Makes a whole number with a range.
macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($int:ty, $range:expr, $what:literal) . $get:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name($int);

        impl $name {
            /// The number.
            #[must_use]
            pub const fn $get(self) -> $int {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Read for $name {
            const ALLOWED: &'static str = $what;

            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                let n = read::integer(value, $range)?;
                <$int>::try_from(n).map(Self).map_err(|e| e.to_string())
            }
        }
    )+};
}

numbers! {
    /// The largest IP packet of a link, in octets: 1280 (RFC 8200 5) to 9600.
    Mtu(u16, 1280..=9600, "octets of the largest IP packet, 1280 to 9600").octets;

    /// A VLAN identifier, 1 to 4094 (IEEE 802.1Q: 0 and 4095 are reserved).
    Vlan(u16, 1..=4094, "a VLAN identifier, 1 to 4094; leave the key out for untagged frames").id;

    /// A number of flow table entries, 1 to 536,870,912.
    Entries(u32, 1..=1 << 29, "a number of entries, 1 to 536870912").get;

    /// A number of neighbours, 1 to 1,048,576.
    Neighbors(u32, 1..=1 << 20, "a number of neighbours, 1 to 1048576").get;

    /// A number of neighbours being looked for, 4 to 65,536.
    Lookups(u32, 4..=65_536, "a number of neighbours, 4 to 65536").get;

    /// Packets that wait for one neighbour, 1 (RFC 4861 7.2.2) to 64.
    Waiting(u32, 1..=64, "a number of packets, 1 to 64").get;

    /// A number of packets (a second, or at once), 0 to 1,000,000.
    Packets(u32, 0..=1_000_000, "a number of packets, 0 to 1000000").get;

    /// A number of events a second, 1 to 1,000,000.
    PerSecond(u32, 1..=1_000_000, "a number a second, 1 to 1000000").get;

    /// Number of a CPU core, 0 to 1023.
    Core(u16, 0..=1023, "the number of a CPU core, 0 to 1023").number;

    /// A number of workers, 1 to 128.
    Workers(u16, 1..=128, "a number of workers, 1 to 128").get;

    /// A number of ring descriptors, 32 to 8192. What a device takes is in its hardware profile.
    Descriptors(u16, 32..=8192, "a number of descriptors, 32 to 8192").get;
}

/// Numbers that are defaults.
macro_rules! literals {
    ($($name:ident($int:ty)),+) => {$(
        impl $name {
            pub(super) const fn literal(n: $int) -> Self {
                Self(n)
            }
        }
    )+};
}

literals!(Neighbors(u32), Lookups(u32), Waiting(u32), Packets(u32), PerSecond(u32));

impl Mtu {
    /// The least MTU that IPv6 allows on a link (RFC 8200 5).
    pub const MIN: Self = Self(1280);
    /// Ethernet's (RFC 894, RFC 2464 2).
    pub const ETHERNET: Self = Self(1500);
}

/// A length of time from 1 ms to 365 days, written with units: `5m`, `2h4m`, `90s`, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    pub(super) const fn literal(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The length of time.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Parses units in falling order, each at most once.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let mut units = UNITS.iter();
        let mut total_ms: u64 = 0;
        if rest.is_empty() {
            return Err("an empty length of time".to_owned());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| "not a length of time".to_owned())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let name = &rest[..letters];
            if name.is_empty() {
                return Err(if rest.is_empty() { "the unit is missing" } else { "not a length of time" }.to_owned());
            }
            let Some((_, ms)) = units.find(|(unit, _)| *unit == name) else {
                return Err(format!("`{name}` is no unit here"));
            };
            rest = &rest[letters..];
            total_ms = number
                .checked_mul(*ms)
                .and_then(|n| total_ms.checked_add(n))
                .filter(|n| *n <= 365 * 86_400_000)
                .ok_or("longer than 365 days")?;
        }
        if total_ms == 0 { Err("zero".to_owned()) } else { Ok(Self(Duration::from_millis(total_ms))) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        for (unit, size) in UNITS {
            if ms >= size {
                write!(f, "{}{unit}", ms / size)?;
                ms %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for Span {
    const ALLOWED: &'static str =
        "1ms to 365d, as numbers with the units d, h, m, s, ms in this order, as in \"5m\" or \"2h4m\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        if value.is_integer() {
            return Err("the unit is missing".to_owned());
        }
        Self::parse(read::string(value)?)
    }
}

/// Makes a length of time with a range.
macro_rules! spans {
    ($($(#[$doc:meta])* $name:ident($least:literal, $most:literal, $what:literal);)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Span);

        impl $name {
            pub(super) const fn literal(seconds: u64) -> Self {
                Self(Span::literal(seconds))
            }

            /// The length of time.
            #[must_use]
            pub const fn duration(self) -> Duration {
                self.0.duration()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Read for $name {
            const ALLOWED: &'static str = $what;

            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                let span = Span::read(value)?;
                if ($least..=$most).contains(&span.0.as_millis()) {
                    Ok(Self(span))
                } else {
                    Err(concat!("out of range ", $what).split(", as").next().unwrap_or_default().to_owned())
                }
            }
        }
    )+};
}

spans! {
    /// How long an idle session lives: 1 second to 30 days.
    Timeout(1_000, 2_592_000_000, "1s to 30d, as in \"5m\" or \"2h4m\" (units d, h, m, s, ms in this order)");

    /// A pause between two packets of a protocol: 10 ms to 1 hour.
    Pause(10, 3_600_000, "10ms to 1h, as in \"30s\" (units h, m, s, ms in this order)");
}

/// A length of time, or `"off"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SpanOrOff(#[serde(serialize_with = "span_or_off")] pub Option<Span>);

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn span_or_off<S: Serializer>(span: &Option<Span>, s: S) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => span.serialize(s),
        None => s.serialize_str("off"),
    }
}

impl Read for SpanOrOff {
    const ALLOWED: &'static str = "a length of time, as in \"10s\", or \"off\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        if value.as_str() == Some("off") { Ok(Self(None)) } else { Span::read(value).map(|s| Self(Some(s))) }
    }
}

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
pub(super) struct Written<A> {
    pub(super) address: A,
    pub(super) len: Option<u8>,
}

fn written<A: std::str::FromStr>(value: &DeValue<'_>, family: &str, longest: u8) -> Result<Written<A>, String> {
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
pub(super) fn host4(a: Ipv4Addr, prefix: Prefix4) -> Result<(), String> {
    if prefix.len() < 31 && (a == prefix.address() || a == prefix.last()) {
        return Err(format!("the network or broadcast address of {prefix}"));
    }
    Ok(())
}

/// True for an IPv4 address that a host can have (RFC 1122 3.2.1.3).
pub(super) fn unicast4(a: Ipv4Addr) -> bool {
    let first = a.octets()[0];
    first != 0 && first != 127 && first < 224
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
    const ALLOWED: &'static str =
        "an IPv6 prefix of length 32, 40, 48, 56, 64 or 96 whose bits 64 to 71 are zero, as in 2001:db8:64:ff9b::/96";

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

/// A range of transport ports (TCP and UDP) or ICMP identifiers, both ends included, none zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// RFC 6056 3.2: all but the well-known ones.
    pub const DEFAULT: Self = Self { first: 1024, last: 65_535 };

    /// The lowest port, at least 1.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// How many ports there are; never zero.
    #[must_use]
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for PortRange {
    const ALLOWED: &'static str = "two ports from 1 to 65535, the lower one first, as in \"1024-65535\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let (first, last) = read::string(value)?.split_once('-').ok_or("not a range of ports")?;
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| "not a range of ports".to_owned());
        let (first, last) = (port(first)?, port(last)?);
        if first == 0 {
            return Err("port 0 is nobody's".to_owned());
        }
        if first > last { Err("the range is empty".to_owned()) } else { Ok(Self { first, last }) }
    }
}

/// DPDK's virtual devices that Causeway runs on.
const VDEVS: [&str; 7] =
    ["net_af_packet", "net_af_xdp", "net_null", "net_ring", "net_pcap", "net_tap", "net_memif"];

/// A DPDK virtual device with its arguments, as in `net_af_packet0,iface=tenant0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Vdev(String);

impl Vdev {
    /// The whole text, as EAL takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The device without its arguments, as in `net_af_packet0`.
    #[must_use]
    pub fn device(&self) -> &str {
        self.0.split(',').next().unwrap_or_default()
    }

    /// The driver, as in `net_af_packet`.
    #[must_use]
    pub fn driver(&self) -> &str {
        self.device().trim_end_matches(|c: char| c.is_ascii_digit())
    }

    /// The argument of this name.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.0.split(',').skip(1).filter_map(|arg| arg.split_once('=')).find(|(k, _)| *k == name).map(|(_, v)| v)
    }
}

impl Read for Vdev {
    const ALLOWED: &'static str = "net_af_packet, net_af_xdp, net_null, net_ring, net_pcap, net_tap or net_memif, \
                                   a number, and arguments, as in \"net_af_packet0,iface=tenant0\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        // EAL takes the text as one argument; nothing in it may look like another.
        if text.is_empty() || text.len() > 200 || !text.bytes().all(|c| c.is_ascii_graphic()) {
            return Err("not a device".to_owned());
        }
        let vdev = Self(text.to_owned());
        if !VDEVS.contains(&vdev.driver()) || vdev.device() == vdev.driver() {
            return Err(format!("`{}` is no device that is known", vdev.device()));
        }
        for argument in text.split(',').skip(1) {
            let good = argument.split_once('=').is_some_and(|(k, v)| !k.is_empty() && !v.is_empty());
            if !good {
                return Err(format!("`{argument}` is no argument of the form name=value"));
            }
        }
        if ["net_af_packet", "net_af_xdp"].contains(&vdev.driver()) {
            // Linux: interface names have at most 15 octets and no slash.
            let iface = vdev.argument("iface").ok_or("the argument iface=NAME is missing")?;
            if iface.len() > 15 || iface.contains('/') || iface == "." || iface == ".." {
                return Err(format!("`{iface}` cannot be the name of a network interface"));
            }
        }
        Ok(vdev)
    }
}

/// The address of a PCI device: domain, bus, device and function, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct PciAddress(String);

impl PciAddress {
    /// The text, in lower case, as in `0000:3b:00.0`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Read for PciAddress {
    const ALLOWED: &'static str = "domain:bus:device.function in hexadecimal, as in \"0000:3b:00.0\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        let wrong = || "not a PCI address".to_owned();
        let field = |part: Option<&str>, digits: usize, most: u32| {
            part.filter(|p| p.len() == digits && p.bytes().all(|c| c.is_ascii_hexdigit()))
                .and_then(|p| u32::from_str_radix(p, 16).ok())
                .is_some_and(|n| n <= most)
        };
        let (rest, function) = text.split_once('.').ok_or_else(wrong)?;
        let mut parts = rest.split(':');
        let good = field(parts.next(), 4, 0xffff)
            && field(parts.next(), 2, 0xff)
            && field(parts.next(), 2, 0x1f)
            && parts.next().is_none()
            && field(Some(function), 1, 7);
        if good { Ok(Self(text.to_ascii_lowercase())) } else { Err(wrong()) }
    }
}

/// An absolute path of a file or folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct AbsolutePath(PathBuf);

impl AbsolutePath {
    pub(super) const fn known(path: PathBuf) -> Self {
        Self(path)
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Read for AbsolutePath {
    const ALLOWED: &'static str = "an absolute path";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        let path = PathBuf::from(text);
        if path.is_absolute() && !text.contains('\0') { Ok(Self(path)) } else { Err("not an absolute path".to_owned()) }
    }
}

/// Makes an enum whose values are written as words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident($what:literal) { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The word.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.word())
            }
        }

        impl Read for $name {
            const ALLOWED: &'static str = $what;

            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                match read::string(value)? {
                    $($text => Ok(Self::$variant),)+
                    _ => Err("no such choice".to_owned()),
                }
            }
        }
    };
}

words! {
    /// Whether hosts outside may begin a conversation with a tenant network over IPv6.
    Inbound("\"open\" or \"closed\"") {
        /// They may.
        Open = "open",
        /// Only packets of conversations that the tenant began are let in.
        Closed = "closed",
    }
}

words! {
    /// Who may answer to a NAT64 mapping (RFC 6146 3.5, RFC 4787 5).
    Filtering("\"endpoint-independent\" or \"address-and-port-dependent\"") {
        /// Everybody.
        EndpointIndependent = "endpoint-independent",
        /// Only addresses and ports that the inside host has sent to through the mapping.
        AddressAndPortDependent = "address-and-port-dependent",
    }
}

words! {
    /// How log lines are written.
    LogFormat("\"text\" or \"json\"") {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_parse_and_print_the_same() {
        for text in ["5m", "2h4m", "6s", "250ms", "365d", "1d1h1m1s1ms"] {
            assert_eq!(Span::parse(text).map(|s| s.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(Span::parse("90s").map(|s| s.to_string()), Ok("1m30s".to_owned()));
    }

    #[test]
    fn spans_without_unit_order_or_sense_are_refused() {
        for bad in ["", "5", "m", "5x", "5m2h", "5m5m", "-5m", "5 m", "0s", "366d", "99999999999999999999s", "1.5s"] {
            assert!(Span::parse(bad).is_err(), "{bad}");
        }
    }

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
            assert_eq!(p.embed(Ipv4Addr::new(192, 0, 2, 33)), expected.parse::<Ipv6Addr>().unwrap(), "{prefix}");
        }
    }
}
