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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proxy_header::{ParseConfig, ProxyHeader};
    use std::net::{Ipv4Addr, SocketAddr};

    const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 99), 40_000);
    const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 80), 443);

    fn made(kind: Identity, name: Option<&str>, alpn: &[&[u8]]) -> Vec<u8> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.to_vec()).collect();
        let mut out = Vec::new();
        header(kind, CLIENT, PROXY, name, &alpn, &mut out);
        out
    }

    #[test]
    fn proxy_protocol_2_1_version_1_is_a_line() {
        let line = b"PROXY TCP4 198.51.100.99 203.0.113.80 40000 443\r\n";
        assert_eq!(made(Identity::Proxy1, Some("site1.example"), &[b"h2"]), line);
        // The longest line that there is.
        let longest = SocketAddrV4::new(Ipv4Addr::BROADCAST, u16::MAX);
        let mut out = Vec::new();
        header(Identity::Proxy1, longest, longest, None, &[], &mut out);
        assert_eq!(out.len(), 56);
    }

    #[test]
    fn proxy_protocol_2_2_version_2_is_a_header_with_what_is_known() {
        let plain = [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
            &[198, 51, 100, 99, 203, 0, 113, 80, 0x9c, 0x40, 0x01, 0xbb],
        ]
        .concat();
        assert_eq!(made(Identity::Proxy2, None, &[]), plain);
        let full = made(Identity::Proxy2, Some("site1.example"), &[b"h2", b"http/1.1"]);
        let tlvs = [&b"\x01\0\x0e\0\x0c\x02h2\x08http/1.1"[..], b"\x02\0\x0dsite1.example"].concat();
        assert_eq!(full[..14], plain[..14]);
        assert_eq!(full[14..16], u16::try_from(12 + tlvs.len()).expect("short").to_be_bytes());
        assert_eq!(full[16..28], plain[16..]);
        assert_eq!(full[28..], tlvs);
    }

    #[test]
    fn kinds_without_a_header_have_none_and_what_is_there_stays() {
        assert_eq!(made(Identity::None, Some("site1.example"), &[b"h2"]), b"");
        assert_eq!(made(Identity::Embedded(3), Some("site1.example"), &[b"h2"]), b"");
        let mut out = b"before".to_vec();
        header(Identity::Proxy1, CLIENT, PROXY, None, &[], &mut out);
        header(Identity::Proxy2, CLIENT, PROXY, None, &[], &mut out);
        assert!(out.starts_with(b"beforePROXY TCP4 "));
        assert!(out.windows(14).any(|w| w == b"\r\n\r\n\0\r\nQUIT\n\x21\x11"));
    }

    #[test]
    fn a_list_of_protocols_that_servers_have_no_room_for_is_left_out() {
        let long = vec![b'x'; 253];
        assert_eq!(made(Identity::Proxy2, None, &[&long]).len(), 28 + 3 + PROTOCOLS_OCTETS);
        assert_eq!(made(Identity::Proxy2, None, &[&long, b"y"]).len(), 28);
        let name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert_eq!(made(Identity::Proxy2, Some(&name), &[&long]).len(), HEADER_OCTETS);
    }

    proptest! {
        /// Against the parser of another library.
        #[test]
        fn a_header_is_read_as_it_was_meant(
            client in any::<([u8; 4], u16)>(),
            proxy in any::<([u8; 4], u16)>(),
            name in prop::option::of("[a-z]{1,63}(\\.[a-z]{1,20}){0,4}"),
            alpn in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..4),
            second in any::<bool>(),
        ) {
            let [client, proxy] = [client, proxy].map(|(ip, port)| SocketAddrV4::new(ip.into(), port));
            let mut out = Vec::new();
            let kind = if second { Identity::Proxy2 } else { Identity::Proxy1 };
            header(kind, client, proxy, name.as_deref(), &alpn, &mut out);
            prop_assert!(out.len() <= HEADER_OCTETS);
            out.extend_from_slice(b"the client's own");
            let (read, octets) = ProxyHeader::parse(&out, ParseConfig::default()).expect("a header");
            prop_assert_eq!(&out[octets..], b"the client's own");
            let address = read.proxied_address().expect("addresses");
            prop_assert_eq!((address.source, address.destination), (SocketAddr::V4(client), SocketAddr::V4(proxy)));
            let of = |kind: u8| read.tlvs().filter_map(Result::ok).find_map(|tlv| match tlv {
                proxy_header::Tlv::Authority(name) if kind == 2 => Some(name.as_bytes().to_vec()),
                proxy_header::Tlv::Alpn(list) if kind == 1 => Some(list.to_vec()),
                _ => None,
            });
            prop_assert_eq!(of(2), name.filter(|_| second).map(String::into_bytes));
            let list: Vec<u8> = alpn.iter().flat_map(|name| [&[name.len() as u8][..], name].concat()).collect();
            let list = [&(list.len() as u16).to_be_bytes()[..], &list].concat();
            prop_assert_eq!(of(1), Some(list).filter(|_| second && !alpn.is_empty()));
        }
    }
}
