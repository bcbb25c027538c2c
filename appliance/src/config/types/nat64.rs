//! Values of `[nat64]` and its sections.

use super::address::reached4;
use super::client::unicast6;
use super::number::{Entries, PerSecond, Ports, SegmentOctets, Timeout};
use crate::config::read::{self, Read};
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use toml::de::DeValue;

/// Makes a value that may be `"off"`.
macro_rules! or_off {
    ($($(#[$doc:meta])* $name:ident($inner:ident, $what:literal);)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(Option<$inner>);

        impl $name {
            /// `"off"`.
            pub const OFF: Self = Self(None);

            /// The value; nothing for `"off"`.
            #[must_use]
            pub const fn get(self) -> Option<$inner> {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    Some(value) => value.fmt(f),
                    None => f.write_str("off"),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                match self.0 {
                    Some(value) => value.serialize(s),
                    None => s.serialize_str("off"),
                }
            }
        }

        impl Read for $name {
            const ALLOWED: &'static str = $what;

            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                if value.as_str() == Some("off") { Ok(Self(None)) } else { $inner::read(value).map(|v| Self(Some(v))) }
            }
        }
    )+};
}

or_off! {
    /// How long a port rests before somebody else gets it (RFC 6888 3, REQ-8), or `"off"`.
    HoldDown(Timeout, "1s to 30d, as in \"2m\" (units d, h, m, s, ms in this order), or \"off\"");

    /// The largest TCP segment that a SYN may ask for, or `"off"`.
    MssClamp(SegmentOctets, "octets of a TCP segment, 216 to 9560, or \"off\"");

    /// The most ports of one protocol that a subscriber has at once (RFC 6888 3, REQ-4), or `"off"`.
    PortsMax(Ports, "a number of ports, 1 to 65535, or \"off\"");

    /// The most sessions that a subscriber has at once (RFC 6888 3, REQ-5), or `"off"`.
    SessionsMax(Entries, "a number of sessions, 1 to 536870912, or \"off\"");

    /// The new sessions a second of a subscriber, or `"off"`.
    SessionRate(PerSecond, "a number a second, 1 to 1000000, or \"off\"");
}

impl HoldDown {
    /// RFC 6888 3, REQ-8: two minutes.
    pub const DEFAULT: Self = Self(Some(Timeout::literal(120)));
}

/// What becomes of the type of service or traffic class octet: copied, or replaced by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassOctet {
    /// Copied (RFC 7915 4.1 and 5.1).
    Copy,
    /// Replaced.
    Set(u8),
}

impl fmt::Display for ClassOctet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy => f.write_str("copy"),
            Self::Set(octet) => octet.fmt(f),
        }
    }
}

impl Serialize for ClassOctet {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Copy => s.serialize_str("copy"),
            Self::Set(octet) => octet.serialize(s),
        }
    }
}

impl Read for ClassOctet {
    const ALLOWED: &'static str = "\"copy\", or the octet to write instead, 0 to 255";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        if value.as_str() == Some("copy") {
            return Ok(Self::Copy);
        }
        if value.is_str() {
            return Err("no such choice".to_owned());
        }
        let octet = read::integer(value, 0..=255)?;
        u8::try_from(octet).map(Self::Set).map_err(|e| e.to_string())
    }
}

/// An IPv4 address that a host can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Host4(Ipv4Addr);

impl Host4 {
    /// The address.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        self.0
    }
}

impl fmt::Display for Host4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Read for Host4 {
    const ALLOWED: &'static str = "a unicast IPv4 address, as in 192.0.2.2";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let a: Ipv4Addr = read::string(value)?.parse().map_err(|_| "not an IPv4 address".to_owned())?;
        if reached4(a) { Ok(Self(a)) } else { Err("no address of a host".to_owned()) }
    }
}

/// An IPv4 address and port, as in `203.0.113.5:2222`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint4 {
    address: Ipv4Addr,
    port: u16,
}

impl Endpoint4 {
    /// The address, one that a host can have.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// The port; not 0.
    #[must_use]
    pub const fn port(self) -> u16 {
        self.port
    }
}

impl fmt::Display for Endpoint4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

impl Serialize for Endpoint4 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for Endpoint4 {
    const ALLOWED: &'static str = "a unicast IPv4 address and a port, as in \"203.0.113.5:2222\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let at: SocketAddrV4 =
            read::string(value)?.parse().map_err(|_| "not an IPv4 address and a port".to_owned())?;
        let address = *at.ip();
        if at.port() == 0 {
            return Err("port 0 is nobody's".to_owned());
        }
        if !reached4(address) {
            return Err("no address of a host".to_owned());
        }
        Ok(Self { address, port: at.port() })
    }
}

/// An IPv6 address and port, as in `[2001:db8:64::101]:22`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint6 {
    address: Ipv6Addr,
    port: u16,
}

impl Endpoint6 {
    /// The address, a unicast one that is not link-local.
    #[must_use]
    pub const fn address(self) -> Ipv6Addr {
        self.address
    }

    /// The port; not 0.
    #[must_use]
    pub const fn port(self) -> u16 {
        self.port
    }
}

impl fmt::Display for Endpoint6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]:{}", self.address, self.port)
    }
}

impl Serialize for Endpoint6 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for Endpoint6 {
    const ALLOWED: &'static str =
        "a unicast IPv6 address in brackets and a port, as in \"[2001:db8:64::101]:22\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let at: SocketAddrV6 =
            read::string(value)?.parse().map_err(|_| "not an IPv6 address and a port".to_owned())?;
        let a = *at.ip();
        if at.port() == 0 {
            return Err("port 0 is nobody's".to_owned());
        }
        if !unicast6(a) || at.scope_id() != 0 {
            return Err("no address that a server is reached by".to_owned());
        }
        Ok(Self { address: a, port: at.port() })
    }
}

/// Ports of a block: a power of two from 8 to 16,384.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct BlockSize(u16);

impl BlockSize {
    /// What is taken if the file does not say: 252 blocks of the ports from 1024 on.
    pub const DEFAULT: Self = Self(256);

    /// The number of ports.
    #[must_use]
    pub const fn ports(self) -> u16 {
        self.0
    }
}

impl Read for BlockSize {
    const ALLOWED: &'static str = "a number of ports that is a power of two, 8 to 16384";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let n = read::integer(value, 8..=16_384)?;
        let n = u16::try_from(n).map_err(|e| e.to_string())?;
        if n.is_power_of_two() { Ok(Self(n)) } else { Err("no power of two".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::de::DeTable;

    fn read<T: Read>(value: &str) -> Result<T, String> {
        let text = format!("x = {value}");
        let table = DeTable::parse(&text).unwrap();
        let value = table.get_ref().get("x").unwrap();
        T::read(value.get_ref())
    }

    #[test]
    fn rfc6888_3_req_8_a_port_rests_two_minutes_by_default() {
        assert_eq!(HoldDown::DEFAULT.get().unwrap().duration().as_secs(), 120);
        assert_eq!(read("\"off\""), Ok(HoldDown::OFF));
        assert_eq!(read::<HoldDown>("\"0s\"").unwrap_err(), "zero");
    }

    #[test]
    fn endpoints_read_what_they_print() {
        for text in ["\"203.0.113.5:2222\"", "\"192.0.2.255:65535\""] {
            assert_eq!(format!("\"{}\"", read::<Endpoint4>(text).unwrap()), text);
        }
        for text in ["\"[2001:db8:64::101]:22\"", "\"[2001:db8::]:1\""] {
            assert_eq!(format!("\"{}\"", read::<Endpoint6>(text).unwrap()), text);
        }
    }

    #[test]
    fn endpoints_of_nobody_are_refused() {
        for bad in [
            "\"203.0.113.5\"",
            "\"203.0.113.5:0\"",
            "\"203.0.113.5:65536\"",
            "\"127.0.0.1:80\"",
            "\"224.0.0.1:80\"",
            "\"0.0.0.0:80\"",
            "\"255.255.255.255:80\"",
            "\"169.254.0.1:80\"",
            "80",
        ] {
            assert!(read::<Endpoint4>(bad).is_err(), "{bad}");
        }
        for bad in [
            "\"2001:db8:64::101:22\"",
            "\"[2001:db8:64::101]\"",
            "\"[2001:db8:64::101]:0\"",
            "\"[fe80::1]:22\"",
            "\"[fe80::1%2]:22\"",
            "\"[ff02::1]:22\"",
            "\"[::1]:22\"",
            "\"[::]:22\"",
            "\"[::ffff:192.0.2.1]:22\"",
            "\"203.0.113.5:22\"",
        ] {
            assert!(read::<Endpoint6>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_class_is_copied_or_an_octet() {
        assert_eq!(read("\"copy\""), Ok(ClassOctet::Copy));
        assert_eq!(read("0"), Ok(ClassOctet::Set(0)));
        assert_eq!(read("0xb8"), Ok(ClassOctet::Set(0xb8)));
        for bad in ["256", "-1", "\"set\"", "true", "1.0"] {
            assert!(read::<ClassOctet>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn blocks_are_powers_of_two() {
        for good in [8, 16, 256, 16_384] {
            assert_eq!(read::<BlockSize>(&good.to_string()).map(BlockSize::ports), Ok(good));
        }
        for bad in ["0", "4", "100", "32768", "\"256\""] {
            assert!(read::<BlockSize>(bad).is_err(), "{bad}");
        }
    }
}
