//! Values of `[dns64]`.

use super::address::reached4;
use super::client::unicast6;
use super::lifetime::CacheTtl;
use crate::config::read::{self, Read};
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use toml::de::DeValue;

/// A recursive resolver: an address of a host, and a port, 53 unless it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resolver(SocketAddr);

impl Resolver {
    /// Its address and port.
    #[must_use]
    pub const fn address(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.port() == causeway_dns64::config::PORT { self.0.ip().fmt(f) } else { self.0.fmt(f) }
    }
}

impl Serialize for Resolver {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for Resolver {
    const ALLOWED: &'static str = "the address of a resolver, as in \"198.51.100.53\" or \"2001:db8:6::53\", with its port if that is not 53, as in \"198.51.100.53:5353\" or \"[2001:db8:6::53]:5353\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        let alone = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, causeway_dns64::config::PORT));
        let at: SocketAddr = alone.or_else(|_| text.parse()).map_err(|_| "not an address".to_owned())?;
        if let SocketAddr::V6(six) = at
            && (six.scope_id() != 0 || six.flowinfo() != 0)
        {
            return Err("an address with a zone".to_owned());
        }
        let host = match at.ip() {
            IpAddr::V4(a) => reached4(a),
            IpAddr::V6(a) => unicast6(a),
        };
        if !host {
            return Err("no address that a resolver is reached by".to_owned());
        }
        if at.port() == 0 { Err("port 0 is nobody's".to_owned()) } else { Ok(Self(at)) }
    }
}

/// Octets of memory, 1 MiB to 64 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemorySize(u64);

/// Units, the largest first.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl MemorySize {
    pub(in crate::config) const fn literal_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// In octets.
    #[must_use]
    pub fn octets(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) =
            UNITS.into_iter().find(|(_, size)| self.0.is_multiple_of(*size)).unwrap_or(("KiB", 1 << 10));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl Serialize for MemorySize {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for MemorySize {
    const ALLOWED: &'static str = "1MiB to 64GiB, as in \"64MiB\" (units KiB, MiB, GiB)";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        if value.is_integer() {
            return Err("the unit is missing".to_owned());
        }
        let text = read::string(value)?;
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| "not a size".to_owned())?;
        if unit.is_empty() {
            return Err("the unit is missing".to_owned());
        }
        let (_, size) = UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("`{unit}` is no unit here"))?;
        number
            .checked_mul(size)
            .filter(|octets| (1 << 20..=64 << 30).contains(octets))
            .map(Self)
            .ok_or_else(|| "out of range 1MiB to 64GiB".to_owned())
    }
}

/// For how long an answer that has expired may be used (RFC 8767), or `"off"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleFor(Option<CacheTtl>);

impl StaleFor {
    /// `"off"`.
    pub const OFF: Self = Self(None);

    /// The length of time; nothing for `"off"`.
    #[must_use]
    pub const fn get(self) -> Option<CacheTtl> {
        self.0
    }
}

impl fmt::Display for StaleFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl Serialize for StaleFor {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for StaleFor {
    const ALLOWED: &'static str = "whole seconds, 1s to 7d, as in \"1d\", or \"off\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        if value.as_str() == Some("off") {
            Ok(Self(None))
        } else {
            CacheTtl::read(value).map(|v| Self(Some(v)))
        }
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
    fn a_resolver_is_an_address_of_a_host_with_port_53_or_another() {
        for (text, at) in [
            ("198.51.100.53", "198.51.100.53:53"),
            ("198.51.100.53:5353", "198.51.100.53:5353"),
            ("2001:db8:6::53", "[2001:db8:6::53]:53"),
            ("[2001:db8:6::53]:5353", "[2001:db8:6::53]:5353"),
        ] {
            let resolver: Resolver = read(&format!("\"{text}\"")).unwrap();
            assert_eq!((resolver.address(), resolver.to_string().as_str()), (at.parse().unwrap(), text));
        }
        assert_eq!(read::<Resolver>("\"198.51.100.53:53\"").unwrap().to_string(), "198.51.100.53");
        for bad in [
            "",
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.251",
            "255.255.255.255",
            "169.254.0.1",
            "::",
            "::1",
            "ff02::fb",
            "fe80::53",
            "::ffff:198.51.100.53",
            "198.51.100.53:0",
            "198.51.100.53:65536",
            "[2001:db8::53]",
            "[fe80::1%2]:53",
            "dns.example",
            "198.51.100.0/24",
        ] {
            assert!(read::<Resolver>(&format!("\"{bad}\"")).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units_and_bounds() {
        for text in ["1MiB", "64MiB", "1536KiB", "64GiB"] {
            assert_eq!(read::<MemorySize>(&format!("\"{text}\"")).unwrap().to_string(), text);
        }
        assert_eq!(read::<MemorySize>("\"1024MiB\"").unwrap().to_string(), "1GiB");
        assert_eq!(read::<MemorySize>("\"64MiB\"").unwrap().octets(), 64 << 20);
        for (bad, why) in [
            ("67108864", "the unit is missing"),
            ("\"67108864\"", "the unit is missing"),
            ("\"MiB\"", "not a size"),
            ("\"-1MiB\"", "not a size"),
            ("\"64MB\"", "`MB` is no unit here"),
            ("\"64 MiB\"", "` MiB` is no unit here"),
            ("\"1023KiB\"", "out of range 1MiB to 64GiB"),
            ("\"65GiB\"", "out of range 1MiB to 64GiB"),
            ("\"18446744073709551615GiB\"", "out of range 1MiB to 64GiB"),
        ] {
            assert_eq!(read::<MemorySize>(bad).unwrap_err(), why, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn sizes_print_what_they_read(kib in 1u64 << 10..=64 << 20) {
            let size = MemorySize(kib << 10);
            prop_assert_eq!(read::<MemorySize>(&format!("\"{size}\"")).unwrap(), size);
        }
    }
}
