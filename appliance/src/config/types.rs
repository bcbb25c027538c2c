//! Leaf types of the configuration. A value of such a type is a good one: there is no other way to make
//! it than to parse it.

mod address;
mod client;
mod device;
mod dns64;
mod lifetime;
mod name;
mod nat64;
mod number;
mod splicer;

pub use address::{LinkLocal, Nat64Prefix, Prefix, Target};
pub(super) use address::{Written, host4, unicast4};
pub use client::{AddressRange, Duid, Host6, InterfaceId, Mac, PeerAddress, UnicastAddress};
pub use device::{PciAddress, Vdev};
pub use dns64::{MemorySize, Resolver, StaleFor};
pub use lifetime::{
    AckTimeout, AloneAfter, CacheTtl, Delay, DnsLifetime, FailureTtl, History, IdleAfter, LeaseLifetime,
    Lifetime, LocalTtl, MaxInterval, MinInterval, Patience, Refresh, Rest, RetryMost, RouterLifetime,
    StaleAfter, StaleTtl, VrrpInterval,
};
pub use name::{Alpn, BootUrl, DohPath, DomainName, PortalUri};
pub use nat64::{
    BlockSize, ClassOctet, Endpoint4, Endpoint6, HoldDown, Host4, MssClamp, PortsMax, SessionRate,
    SessionsMax,
};
pub use number::{
    AnswerOctets, Burst, Checks, ClientLength, Connections, Core, DelegatedLength, Descriptors, Domain,
    Entries, HopLimit, Iaid, InputOctets, Leases, Lookups, Messages, Mtu, Neighbors, PacketOctets, Packets,
    Pause, PeekedConnections, Penalty, PerClient, PerSecond, PortNumber, Ports, PortsMin, Questions,
    SampleEvery, SegmentOctets, ServerPreference, ServicePriority, Span, SpanOrOff, SubscriberEntries,
    SubscriberLength, TemplateInterval, Timeout, Tries, Vlan, Vrid, VrrpPriority, Waiting, Weight,
    WindowScale, Workers,
};
pub use splicer::{ClientPrefix, PortRange4, PortsAt, SiteName};

use super::read::{self, Read};
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;
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
    const ALLOWED: &'static str =
        "1 to 32 letters, digits, `-`, `_` and `.`, beginning with a letter or digit";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        Self::new(read::string(value)?).ok_or_else(|| "not a name".to_owned())
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
        Self::parse(read::string(value)?)
    }
}

impl PortRange {
    pub(in crate::config) fn parse(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').ok_or("not a range of ports")?;
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| "not a range of ports".to_owned());
        let (first, last) = (port(first)?, port(last)?);
        if first == 0 {
            return Err("port 0 is nobody's".to_owned());
        }
        if first > last { Err("the range is empty".to_owned()) } else { Ok(Self { first, last }) }
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
        if path.is_absolute() && !text.contains('\0') {
            Ok(Self(path))
        } else {
            Err("not an absolute path".to_owned())
        }
    }
}

/// Makes an enum whose values are written as words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident($what:literal) { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// What a host may send from (BCP 38).
    SourceValidation("\"off\", \"prefix\" or \"leased\"") {
        /// Anything.
        Off = "off",
        /// Addresses of the network's prefixes.
        Prefix = "prefix",
        /// Addresses that were leased, delegated or reserved to it, and its link-local address.
        Leased = "leased",
    }
}

words! {
    /// Preference of a router or a route over others (RFC 4191 2.1).
    RouterPreference("\"low\", \"medium\" or \"high\"") {
        /// Less than others.
        Low = "low",
        /// Like others.
        Medium = "medium",
        /// More than others.
        High = "high",
    }
}

words! {
    /// To whom an answer to a router solicitation goes (RFC 4861 6.2.6).
    Solicited("\"unicast\" or \"multicast\"") {
        /// To the one who asked, if it has an address.
        Unicast = "unicast",
        /// To all hosts of the link.
        Multicast = "multicast",
    }
}

words! {
    /// How the checksum of VRRP over IPv4 is computed (RFC 9568 5.2.8).
    Checksum4("\"rfc9568\" or \"pseudo-header\"") {
        /// As the RFC has it.
        Rfc9568 = "rfc9568",
        /// With a pseudo-header, as some other implementations do.
        PseudoHeader = "pseudo-header",
    }
}

words! {
    /// An address family.
    AddressFamily("\"ipv6\" or \"ipv4\"") {
        /// IPv6.
        Ipv6 = "ipv6",
        /// IPv4.
        Ipv4 = "ipv4",
    }
}

words! {
    /// Who may answer to a NAT64 mapping (RFC 6146 3.5, RFC 4787 5).
    Filtering("\"endpoint-independent\", \"address-dependent\" or \"address-and-port-dependent\"") {
        /// Everybody.
        EndpointIndependent = "endpoint-independent",
        /// Only addresses that the inside host has sent to through the mapping, from any port.
        AddressDependent = "address-dependent",
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

words! {
    /// What a failure of the question for AAAA records means (RFC 6147 5.1.2, 5.1.3).
    OnFailure("\"fail\" or \"synthesise\"") {
        /// A failure, which the client is told.
        Fail = "fail",
        /// That there are none: AAAA records are made of A records.
        Synthesise = "synthesise",
    }
}

words! {
    /// When an IPv4 packet that is no fragment says Don't Fragment (RFC 7915 5.1).
    DontFragment("\"by-size\", \"always\" or \"never\"") {
        /// Clear up to 1,260 octets, set above.
        BySize = "by-size",
        /// Always set.
        Always = "always",
        /// Never set.
        Never = "never",
    }
}

words! {
    /// What becomes of UDP from IPv4 whose checksum is zero (RFC 7915 4.5).
    UdpZeroChecksum("\"compute\", \"drop\" or \"forward\"") {
        /// A checksum is computed.
        Compute = "compute",
        /// The datagram is dropped.
        Drop = "drop",
        /// It stays zero (RFC 6935, RFC 6936).
        Forward = "forward",
    }
}

words! {
    /// A protocol of static mappings.
    StaticProtocol("\"tcp\" or \"udp\"") {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
    }
}

words! {
    /// How a server is told who the client is.
    IdentityKind("\"none\", \"proxy1\", \"proxy2\" or \"embedded\"") {
        /// It is not told: connections come from an address of the gateway.
        None = "none",
        /// A line of text ahead of everything (PROXY protocol version 1).
        Proxy1 = "proxy1",
        /// A binary header ahead of everything (PROXY protocol version 2).
        Proxy2 = "proxy2",
        /// Connections come from the client's address under a client prefix (RFC 6052 2.2).
        Embedded = "embedded",
    }
}

words! {
    /// What is tried at a server to find out whether it is up.
    TriedBy("\"none\", \"tcp\" or \"tls\"") {
        /// Nothing.
        None = "none",
        /// A TCP connection.
        Tcp = "tcp",
        /// The same, and an answer to a ClientHello.
        Tls = "tls",
    }
}

words! {
    /// How ports are given to subscribers.
    AllocationMode("\"single\", \"blocks\" or \"deterministic\"") {
        /// One by one.
        Single = "single",
        /// In blocks of consecutive ports.
        Blocks = "blocks",
        /// By calculation (RFC 7422).
        Deterministic = "deterministic",
    }
}
