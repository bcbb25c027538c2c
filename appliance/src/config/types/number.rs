//! Numbers and lengths of time, each with its range.

use crate::config::read::{self, Read};
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;
use toml::de::DeValue;

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

    /// Octets of the largest TCP segment, 216 to 9560.
    SegmentOctets(u16, 216..=9560, "octets of a TCP segment, 216 to 9560").octets;

    /// A number of ports of one protocol, 1 to 65,535.
    Ports(u16, 1..=65_535, "a number of ports, 1 to 65535").get;

    /// A number of ports of one protocol that may be none, 0 to 65,535.
    PortsMin(u16, 0..=65_535, "a number of ports, 0 to 65535").get;

    /// A number of sessions at once, 0 to 1,000,000.
    Burst(u32, 0..=1_000_000, "a number of sessions, 0 to 1000000").get;

    /// A number of subscribers, 1 to 16,777,216.
    SubscriberEntries(u32, 1..=1 << 24, "a number of subscribers, 1 to 16777216").get;

    /// The length of an IPv6 prefix that subscribers have, 1 to 128.
    SubscriberLength(u8, 1..=128, "the length of an IPv6 prefix, 1 to 128").bits;

    /// Number of a CPU core, 0 to 1023.
    Core(u16, 0..=1023, "the number of a CPU core, 0 to 1023").number;

    /// A number of workers, 1 to 128.
    Workers(u16, 1..=128, "a number of workers, 1 to 128").get;

    /// An observation domain of IPFIX (RFC 7011 3.1): any number of 32 bits; 0 is for none in particular.
    Domain(u32, 0..=0xffff_ffff, "a number, 0 to 4294967295").number;

    /// A number of messages, 1 to 1,000,000.
    Messages(u32, 1..=1_000_000, "a number of messages, 1 to 1000000").get;

    /// The largest IP packet to a collector, in octets: 512 (RFC 7011 10.3.3, where nothing is known of
    /// the path) to 9000.
    PacketOctets(u16, 512..=9000, "octets of the largest packet, 512 to 9000").octets;

    /// The hop limit that hosts are told, 0 to 255; 0 leaves it to them (RFC 4861 4.2).
    HopLimit(u8, 0..=255, "a hop limit, 1 to 255, or 0 to leave it to the hosts").get;

    /// Priority of an encrypted resolver, 1 to 65,535; lower is better (RFC 9463 3.1.1, 3.1.5).
    ServicePriority(u16, 1..=65_535, "a priority, 1 to 65535; lower is better").get;

    /// A transport port, 1 to 65,535.
    PortNumber(u16, 1..=65_535, "a port, 1 to 65535").get;

    /// What a DHCPv6 server's Preference option says, 0 to 255 (RFC 9915 21.8).
    ServerPreference(u8, 0..=255, "a preference, 0 to 255").get;

    /// Leases of one client and kind, 1 to 64.
    PerClient(u16, 1..=64, "a number of leases, 1 to 64").get;

    /// A number of leases, 1 to 16,777,216.
    Leases(u32, 1..=1 << 24, "a number of leases, 1 to 16777216").get;

    /// An identity association identifier, any number of 32 bits (RFC 9915 12).
    Iaid(u32, 0..=0xffff_ffff, "a number, 0 to 4294967295").number;

    /// The length of a delegated prefix, 1 to 128.
    DelegatedLength(u8, 1..=128, "the length of a prefix, 1 to 128").bits;

    /// Octets of the largest DNS answer over UDP, 512 (RFC 1035 4.2.1) to 4096 (RFC 6891 6.2.5).
    AnswerOctets(u16, 512..=4096, "octets of the largest answer, 512 to 4096").octets;

    /// How often a DNS question is asked, 1 to 16.
    Tries(u8, 1..=16, "a number of tries, 1 to 16").get;

    /// A number of DNS questions under way, 1 to 32,768.
    Questions(u16, 1..=32_768, "a number of questions, 1 to 32768").get;

    /// A number of TCP connections, 1 to 16,384.
    Connections(u16, 1..=16_384, "a number of connections, 1 to 16384").get;

    /// Every how many questions one is logged, 0 to 1,000,000,000; 0 for none.
    SampleEvery(u32, 0..=1_000_000_000, "a number of questions, 1 to 1000000000, or 0 for none").get;

    /// Bits of an address that tell clients of DNS from each other, 48 to 128.
    ClientLength(u8, 48..=128, "the length of an IPv6 prefix, 48 to 128").bits;

    /// A number of connections of the splicer, 1 to 1,048,576.
    PeekedConnections(u32, 1..=1 << 20, "a number of connections, 1 to 1048576").get;

    /// Octets that a client may send before its site is known, 1024 to 65,536.
    InputOctets(u32, 1024..=65_536, "a number of octets, 1024 to 65536").octets;

    /// A window scale, 0 to 14 (RFC 7323 2.3).
    WindowScale(u8, 0..=14, "a window scale, 0 to 14").get;

    /// A server's part of new connections, 0 to 1000; 0 gets none.
    Weight(u16, 0..=1000, "a weight, 1 to 1000, or 0 for no new connections").get;

    /// A number of health checks in a row, 1 to 100.
    Checks(u16, 1..=100, "a number of checks, 1 to 100").get;

    /// A virtual router identifier, 1 to 255 (RFC 9568 5.2.3).
    Vrid(u8, 1..=255, "a virtual router identifier, 1 to 255").get;

    /// A VRRP priority, 1 to 255; 255 is the owner of the addresses (RFC 9568 5.2.4).
    VrrpPriority(u8, 1..=255, "a priority, 1 to 254, or 255 for the owner of the addresses").get;

    /// By how much a priority is lowered, 0 to 254.
    Penalty(u8, 0..=254, "a number to take from the priority, 0 to 254").get;

    /// A number of ring descriptors, 32 to 8192. What a device takes is in its hardware profile.
    Descriptors(u16, 32..=8192, "a number of descriptors, 32 to 8192").get;
}

/// Numbers that are defaults.
macro_rules! literals {
    ($($name:ident($int:ty)),+) => {$(
        impl $name {
            pub(in crate::config) const fn literal(n: $int) -> Self {
                Self(n)
            }
        }
    )+};
}

literals!(
    Neighbors(u32),
    Lookups(u32),
    Waiting(u32),
    Packets(u32),
    PerSecond(u32),
    Domain(u32),
    Messages(u32),
    PacketOctets(u16),
    PortsMin(u16),
    Burst(u32),
    SubscriberEntries(u32),
    SubscriberLength(u8),
    AnswerOctets(u16),
    Tries(u8),
    Questions(u16),
    Connections(u16),
    SampleEvery(u32),
    PeekedConnections(u32),
    InputOctets(u32),
    WindowScale(u8),
    Weight(u16),
    Checks(u16),
    ClientLength(u8),
    HopLimit(u8),
    ServicePriority(u16),
    ServerPreference(u8),
    PerClient(u16),
    Leases(u32),
    VrrpPriority(u8),
    Penalty(u8)
);

impl Mtu {
    /// The least MTU that IPv6 allows on a link (RFC 8200 5).
    pub const MIN: Self = Self(1280);
    /// Ethernet's (RFC 894, RFC 2464 2).
    pub const ETHERNET: Self = Self(1500);
}

/// A length of time from 1 ms to 365 days, written with units: `5m`, `2h4m`, `90s`, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    pub(in crate::config) const fn literal(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub(in crate::config) const fn literal_ms(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
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
                return Err(
                    if rest.is_empty() { "the unit is missing" } else { "not a length of time" }.to_owned()
                );
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
            pub(in crate::config) const fn literal(seconds: u64) -> Self {
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

    /// How often IPFIX templates are sent again (RFC 7011 8.4): 1 second to 1 hour.
    TemplateInterval(1_000, 3_600_000, "1s to 1h, as in \"1m\" (units h, m, s, ms in this order)");

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
        for bad in
            ["", "5", "m", "5x", "5m2h", "5m5m", "-5m", "5 m", "0s", "366d", "99999999999999999999s", "1.5s"]
        {
            assert!(Span::parse(bad).is_err(), "{bad}");
        }
    }
}
