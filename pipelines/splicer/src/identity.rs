//! What servers are told of a client ahead of its own octets: PROXY protocol, versions 1 and 2 (HAProxy's
//! `proxy-protocol.txt`, sections 2.1 and 2.2).

use crate::site::Identity;
use ppp::v2::{Builder, Command, IPv4, Protocol, Type, Version};
use std::net::SocketAddrV4;

/// Octets that a header needs at most: 28, and two TLVs of which one has a name and the other a list of protocols.
pub const HEADER_OCTETS: usize = 28 + 3 + 253 + 3 + PROTOCOLS_OCTETS;
/// A longer list of protocols is left out: servers read headers into buffers that are small.
pub const PROTOCOLS_OCTETS: usize = 256;

/// Puts the header for `client`, who has connected to `proxy`, behind what `out` has. Nothing for kinds without one.
/// Version 2 has the name that the client asked for, from SNI or Host, as PP2_TYPE_AUTHORITY, and the protocols that it
/// would speak as PP2_TYPE_ALPN, in the form of the extension (RFC 7301 3.1): which of them is spoken is the server's
/// choice, and not made yet.
pub fn header(
    kind: Identity,
    client: SocketAddrV4,
    proxy: SocketAddrV4,
    server_name: Option<&str>,
    alpn: &[Vec<u8>],
    out: &mut Vec<u8>,
) {
    match kind {
        Identity::None | Identity::Embedded(_) => {}
        Identity::Proxy1 => {
            let (source, destination) = (*client.ip(), *proxy.ip());
            let line = ppp::v1::Addresses::new_tcp4(source, destination, client.port(), proxy.port());
            out.extend_from_slice(line.to_string().as_bytes());
        }
        Identity::Proxy2 => {
            let addresses = IPv4::new(*client.ip(), *proxy.ip(), client.port(), proxy.port());
            let list = protocols(alpn);
            let mut header =
                Ok(Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses)
                    .reserve_capacity(HEADER_OCTETS - 28));
            if let Some(list) = &list {
                header = header.and_then(|h| h.write_tlv(Type::ALPN, list));
            }
            if let Some(name) = server_name {
                header = header.and_then(|h| h.write_tlv(Type::Authority, name.as_bytes()));
            }
            // It fails only for more than 65,535 octets, which no name has.
            if let Ok(header) = header.and_then(Builder::build) {
                out.extend_from_slice(&header);
            }
        }
    }
}

/// The list as in the extension. Nothing if it is empty or too long.
fn protocols(alpn: &[Vec<u8>]) -> Option<Vec<u8>> {
    let octets: usize = alpn.iter().map(|name| 1 + name.len()).sum();
    if octets == 0 || 2 + octets > PROTOCOLS_OCTETS {
        return None;
    }
    let mut list = Vec::with_capacity(2 + octets);
    list.extend_from_slice(&u16::try_from(octets).ok()?.to_be_bytes());
    for name in alpn {
        list.push(u8::try_from(name.len()).ok()?);
        list.extend_from_slice(name);
    }
    Some(list)
}
