//! The options of a router advertisement, each as a value that writes its octets.
//!
//! | type | option | source |
//! | --- | --- | --- |
//! | 1 | source link-layer address | RFC 4861 4.6.1 |
//! | 3 | prefix information | RFC 4861 4.6.2 |
//! | 5 | MTU | RFC 4861 4.6.4 |
//! | 24 | route information | RFC 4191 2.3 |
//! | 25 | recursive DNS servers | RFC 8106 5.1 |
//! | 31 | DNS search list | RFC 8106 5.2 |
//! | 37 | captive portal | RFC 8910 2.3 |
//! | 38 | PREF64 | RFC 8781 4 |
//! | 144 | encrypted DNS | RFC 9463 6.1 |
//!
//! `smoltcp` writes the first three; it does not know the others.

use crate::config::{EncryptedDns, Preference};
use causeway_core::{Duration, Prefix6};
use causeway_wire::MacAddr;
use smoltcp::time::Duration as Time;
use smoltcp::wire::{
    EthernetAddress, NdiscOption, NdiscOptionRepr, NdiscPrefixInfoFlags, NdiscPrefixInformation,
};
use std::net::Ipv6Addr;

const ROUTE: u8 = 24;
const DNS_SERVERS: u8 = 25;
const SEARCH: u8 = 31;
const CAPTIVE_PORTAL: u8 = 37;
const PREF64: u8 = 38;
const ENCRYPTED_DNS: u8 = 144;

/// Where the valid lifetime stands in a prefix information option.
pub(crate) const VALID_AT: usize = 4;
/// The most octets of an option: 255 units of eight (RFC 4861 4.6).
pub(crate) const MAX_OCTETS: usize = 255 * 8;
/// The largest scaled lifetime: 13 bits (RFC 8781 4).
const MAX_SCALED: u16 = 8191;

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NdOption<'a> {
    LinkLayer(MacAddr),
    Mtu(u16),
    /// Lifetimes in seconds.
    Prefix {
        prefix: Prefix6,
        on_link: bool,
        autonomous: bool,
        valid: u32,
        preferred: u32,
    },
    Route {
        prefix: Prefix6,
        preference: Preference,
        lifetime: u32,
    },
    DnsServers {
        servers: &'a [Ipv6Addr],
        lifetime: u32,
    },
    Search {
        names: &'a [String],
        lifetime: u32,
    },
    Encrypted {
        dns: &'a EncryptedDns,
        lifetime: u32,
    },
    /// The lifetime in units of eight seconds.
    Pref64 {
        prefix: Prefix6,
        scaled: u16,
    },
    CaptivePortal(&'a str),
}

/// A lifetime in whole seconds; what does not fit is for ever (RFC 4861 4.6.2: all ones).
pub(crate) fn seconds(d: Duration) -> u32 {
    u32::try_from(d.as_secs()).unwrap_or(u32::MAX)
}

/// RFC 8781 4.1: in units of eight seconds, rounded up, so that what is not zero does not become zero.
pub(crate) fn scaled(d: Duration) -> u16 {
    u16::try_from(d.as_secs().div_ceil(8)).map_or(MAX_SCALED, |n| n.min(MAX_SCALED))
}

/// The bits of a preference, in the low end (RFC 4191 2.1).
pub(crate) const fn preference_bits(p: Preference) -> u8 {
    match p {
        Preference::High => 0b01,
        Preference::Medium => 0b00,
        Preference::Low => 0b11,
    }
}

/// A domain name as a sequence of labels that ends with the empty one, not compressed (RFC 1035 3.1). Nothing if
/// a label is empty or longer than 63 octets, the whole is longer than 255, or it is not ASCII.
pub(crate) fn name(text: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::with_capacity(text.len() + 2);
    for label in text.strip_suffix('.').unwrap_or(text).split('.') {
        let octets = u8::try_from(label.len()).ok().filter(|n| (1..=63).contains(n))?;
        if !label.is_ascii() {
            return None;
        }
        wire.push(octets);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    (wire.len() <= 255).then_some(wire)
}

impl NdOption<'_> {
    /// The octets: whole units of eight. Nothing when the option cannot be written: a name that is none, a prefix
    /// length that has no code, or more than 255 units.
    pub(crate) fn emit(&self) -> Option<Vec<u8>> {
        match *self {
            NdOption::LinkLayer(mac) => {
                Some(by_smoltcp(&NdiscOptionRepr::SourceLinkLayerAddr(EthernetAddress(mac.0).into())))
            }
            NdOption::Mtu(mtu) => Some(by_smoltcp(&NdiscOptionRepr::Mtu(u32::from(mtu)))),
            NdOption::Prefix { prefix, on_link, autonomous, valid, preferred } => {
                let mut flags = NdiscPrefixInfoFlags::empty();
                flags.set(NdiscPrefixInfoFlags::ON_LINK, on_link);
                flags.set(NdiscPrefixInfoFlags::ADDRCONF, autonomous);
                Some(by_smoltcp(&NdiscOptionRepr::PrefixInformation(NdiscPrefixInformation {
                    prefix_len: prefix.len(),
                    flags,
                    valid_lifetime: Time::from_secs(u64::from(valid)),
                    preferred_lifetime: Time::from_secs(u64::from(preferred)),
                    prefix: prefix.address(),
                })))
            }
            NdOption::Route { prefix, preference, lifetime } => {
                let mut body = vec![prefix.len(), preference_bits(preference) << 3];
                body.extend_from_slice(&lifetime.to_be_bytes());
                // RFC 4191 2.3: as many octets of the prefix as its length needs, in units of eight.
                let octets = usize::from(prefix.len().div_ceil(64)) * 8;
                body.extend_from_slice(&prefix.address().octets()[..octets]);
                ours(ROUTE, &body)
            }
            NdOption::DnsServers { servers, lifetime } => {
                let mut body = vec![0, 0];
                body.extend_from_slice(&lifetime.to_be_bytes());
                servers.iter().for_each(|s| body.extend_from_slice(&s.octets()));
                // RFC 8106 5.1: one address at least.
                if servers.is_empty() { None } else { ours(DNS_SERVERS, &body) }
            }
            NdOption::Search { names, lifetime } => {
                let mut body = vec![0, 0];
                body.extend_from_slice(&lifetime.to_be_bytes());
                for text in names {
                    body.extend_from_slice(&name(text)?);
                }
                // RFC 8106 5.2: one name at least.
                if names.is_empty() { None } else { ours(SEARCH, &body) }
            }
            NdOption::Encrypted { dns, lifetime } => encrypted(dns, lifetime),
            NdOption::Pref64 { prefix, scaled } => {
                // RFC 8781 4: the length as a code.
                let code = match prefix.len() {
                    96 => 0u16,
                    64 => 1,
                    56 => 2,
                    48 => 3,
                    40 => 4,
                    32 => 5,
                    _ => return None,
                };
                let mut body = (scaled.min(MAX_SCALED) << 3 | code).to_be_bytes().to_vec();
                body.extend_from_slice(&prefix.address().octets()[..12]);
                ours(PREF64, &body)
            }
            NdOption::CaptivePortal(uri) => {
                if uri.is_empty() {
                    None
                } else {
                    ours(CAPTIVE_PORTAL, uri.as_bytes())
                }
            }
        }
    }
}

/// RFC 9463 6.1, with the service parameters of RFC 9460 2.2 and 7 in the order of their numbers.
fn encrypted(dns: &EncryptedDns, lifetime: u32) -> Option<Vec<u8>> {
    let mut body = dns.priority.to_be_bytes().to_vec();
    body.extend_from_slice(&lifetime.to_be_bytes());
    sized(&mut body, &name(&dns.name)?)?;
    // RFC 9463 3.1.6: a resolver may be given by its name alone, and then without addresses and parameters. The
    // padding reads as two lengths of zero.
    if dns.addresses.is_empty() {
        return ours(ENCRYPTED_DNS, &body);
    }
    let addresses: Vec<u8> = dns.addresses.iter().flat_map(Ipv6Addr::octets).collect();
    sized(&mut body, &addresses)?;
    let mut params = Vec::new();
    if !dns.alpn.is_empty() {
        let mut ids = Vec::new();
        for id in &dns.alpn {
            ids.push(u8::try_from(id.len()).ok().filter(|n| *n > 0)?);
            ids.extend_from_slice(id.as_bytes());
        }
        param(&mut params, 1, &ids)?;
    }
    if let Some(port) = dns.port {
        param(&mut params, 3, &port.to_be_bytes())?;
    }
    if let Some(path) = &dns.doh_path {
        param(&mut params, 7, path.as_bytes())?;
    }
    sized(&mut body, &params)?;
    ours(ENCRYPTED_DNS, &body)
}

fn param(params: &mut Vec<u8>, key: u16, value: &[u8]) -> Option<()> {
    params.extend_from_slice(&key.to_be_bytes());
    sized(params, value)
}

/// Adds a length of 16 bits and what is that long.
fn sized(body: &mut Vec<u8>, part: &[u8]) -> Option<()> {
    body.extend_from_slice(&u16::try_from(part.len()).ok()?.to_be_bytes());
    body.extend_from_slice(part);
    Some(())
}

/// An option with this type and body, padded with zeros to a unit of eight.
fn ours(kind: u8, body: &[u8]) -> Option<Vec<u8>> {
    let units = (body.len() + 2).div_ceil(8);
    let mut b = vec![kind, u8::try_from(units).ok()?];
    b.extend_from_slice(body);
    b.resize(units * 8, 0);
    Some(b)
}

/// smoltcp leaves reserved fields alone, so it writes into zeros.
fn by_smoltcp(repr: &NdiscOptionRepr<'_>) -> Vec<u8> {
    let mut b = vec![0; repr.buffer_len()];
    repr.emit(&mut NdiscOption::new_unchecked(&mut b[..]));
    b
}

#[cfg(test)]
pub(crate) mod tests;
