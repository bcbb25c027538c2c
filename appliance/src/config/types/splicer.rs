//! Values of `[splicer]`.

use super::address::{Nat64Prefix, reached4};
use super::name;
use crate::config::read::{self, Read};
use causeway_core::net::Prefix6;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::Ipv4Addr;
use toml::de::DeValue;

/// The name of a site: a domain name in lower case, or `*.` and one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SiteName(String);

impl SiteName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Read for SiteName {
    const ALLOWED: &'static str = "a domain name in ASCII without a final dot, as in \"www.example.com\", or `*.` and one for all names below it, as in \"*.example.com\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        let below = text.strip_prefix("*.").unwrap_or(text);
        name::domain(below)?;
        // RFC 1123 2.1: the last label of a name is not all digits, so that no address is one.
        if below.rsplit('.').next().is_some_and(|label| label.bytes().all(|c| c.is_ascii_digit())) {
            return Err("the last label is a number".to_owned());
        }
        // RFC 4343 3: names are compared without regard to case.
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// A prefix under which servers see clients' addresses: 96 bits, of which bits 64 to 71 are zero (RFC 6052 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct ClientPrefix(Prefix6);

impl ClientPrefix {
    /// The prefix.
    #[must_use]
    pub const fn prefix(self) -> Prefix6 {
        self.0
    }
}

impl fmt::Display for ClientPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Read for ClientPrefix {
    const ALLOWED: &'static str =
        "an IPv6 prefix of length 96 whose bits 64 to 71 are zero, as in 2001:db8:64:c1::/96";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let prefix = Nat64Prefix::read(value)?.prefix();
        if prefix.len() == 96 { Ok(Self(prefix)) } else { Err(format!("a length of {}", prefix.len())) }
    }
}

/// Ports of an IPv4 address, as in `203.0.113.80:20000-29999`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange4 {
    address: Ipv4Addr,
    ports: super::PortRange,
}

impl PortRange4 {
    /// The address, one that a host can have.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// The ports.
    #[must_use]
    pub const fn ports(self) -> super::PortRange {
        self.ports
    }

    /// True if the port is one of them.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr, port: u16) -> bool {
        address == self.address && (self.ports.first()..=self.ports.last()).contains(&port)
    }
}

impl fmt::Display for PortRange4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.ports)
    }
}

impl Serialize for PortRange4 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Read for PortRange4 {
    const ALLOWED: &'static str =
        "a unicast IPv4 address and a range of ports, as in \"203.0.113.80:20000-29999\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let wrong = || "not an address and a range of ports".to_owned();
        let (address, ports) = read::string(value)?.split_once(':').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let ports = super::PortRange::parse(ports)?;
        if !reached4(address) {
            return Err("no address of a host".to_owned());
        }
        Ok(Self { address, ports })
    }
}

/// A port of a listener, and the server's port for it; written as `[443, 8443]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct PortsAt(u16, u16);

impl PortsAt {
    /// The listener's port; not 0.
    #[must_use]
    pub const fn listener(self) -> u16 {
        self.0
    }

    /// The server's port; not 0.
    #[must_use]
    pub const fn server(self) -> u16 {
        self.1
    }
}

impl fmt::Display for PortsAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.0, self.1)
    }
}

impl Read for PortsAt {
    const ALLOWED: &'static str =
        "two ports from 1 to 65535, the listener's and the server's, as in [443, 8443]";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let Some(array) = value.as_array() else { return Err(read::wrong_type("an array", value)) };
        let mut ports = array.iter().map(|element| super::PortNumber::read(element.get_ref()));
        match (ports.next(), ports.next(), ports.next()) {
            (Some(listener), Some(server), None) => Ok(Self(listener?.get(), server?.get())),
            _ => Err("not two ports".to_owned()),
        }
    }
}
