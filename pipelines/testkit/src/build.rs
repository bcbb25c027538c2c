//! Packet builders. A chain of setters, ended by what the packet carries, gives its octets:
//!
//! ```
//! use causeway_testkit::{eth, ip6, mac, tcp};
//! let packet = ip6("2001:db8:64::101", "2001:db8:6::10").hop_limit(1).udp(4000, 53, b"question");
//! let syn = ip6("2001:db8:64::101", "2001:db8:6::10").tcp(&tcp(4000, 443).syn().seq(7));
//! let frame = eth(mac(1), mac(2)).vlan(100).carry(&packet);
//! # assert_eq!(frame.len(), 18 + 40 + 8 + 8);
//! # assert_eq!(syn.len(), 60);
//! ```
//!
//! Every length and checksum is right unless a setter says otherwise; tests that want wrong ones change
//! octets with [`poke`].

use causeway_wire::MacAddr;
use etherparse as ep;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An IPv6 address, or the text of one.
pub trait Addr6 {
    /// The address.
    ///
    /// # Panics
    /// When the text is not an address.
    fn addr6(self) -> Ipv6Addr;
}

impl Addr6 for Ipv6Addr {
    fn addr6(self) -> Ipv6Addr {
        self
    }
}

impl Addr6 for &str {
    fn addr6(self) -> Ipv6Addr {
        self.parse().unwrap_or_else(|e| panic!("`{self}`: {e}"))
    }
}

/// An IPv4 address, or the text of one.
pub trait Addr4 {
    /// The address.
    ///
    /// # Panics
    /// When the text is not an address.
    fn addr4(self) -> Ipv4Addr;
}

impl Addr4 for Ipv4Addr {
    fn addr4(self) -> Ipv4Addr {
        self
    }
}

impl Addr4 for &str {
    fn addr4(self) -> Ipv4Addr {
        self.parse().unwrap_or_else(|e| panic!("`{self}`: {e}"))
    }
}

/// An Ethernet header, waiting for what it carries.
#[derive(Debug, Clone)]
pub struct Eth {
    dst: MacAddr,
    src: MacAddr,
    vlans: Vec<u16>,
}

/// An Ethernet header without a tag.
#[must_use]
pub const fn eth(dst: MacAddr, src: MacAddr) -> Eth {
    Eth { dst, src, vlans: Vec::new() }
}

impl Eth {
    /// Adds an 802.1Q tag, outermost first. `id` is at most 4095.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlans.push(id);
        self
    }

    /// The frame that carries this IPv4, IPv6 or ARP packet; which of them shows in its first octet.
    #[must_use]
    pub fn carry(&self, packet: &[u8]) -> Vec<u8> {
        let ethertype = match packet.first().map(|o| o >> 4) {
            Some(4) => ep::EtherType::IPV4,
            Some(6) => ep::EtherType::IPV6,
            // ARP begins with its hardware type, 1.
            _ => ep::EtherType::ARP,
        };
        self.carry_as(ethertype.0, packet)
    }

    /// The frame that carries these octets under this EtherType.
    ///
    /// # Panics
    /// When a VLAN identifier is larger than 4095.
    #[must_use]
    pub fn carry_as(&self, ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let first =
            if self.vlans.is_empty() { ep::EtherType(ethertype) } else { ep::EtherType::VLAN_TAGGED_FRAME };
        let header = ep::Ethernet2Header { source: self.src.0, destination: self.dst.0, ether_type: first };
        let mut frame = header.to_bytes().to_vec();
        for (n, id) in self.vlans.iter().enumerate() {
            let last = n + 1 == self.vlans.len();
            let tag = ep::SingleVlanHeader {
                pcp: ep::VlanPcp::ZERO,
                drop_eligible_indicator: false,
                vlan_id: ep::VlanId::try_new(*id).expect("a VLAN identifier is at most 4095"),
                ether_type: if last { ep::EtherType(ethertype) } else { ep::EtherType::VLAN_TAGGED_FRAME },
            };
            frame.extend_from_slice(&tag.to_bytes());
        }
        frame.extend_from_slice(packet);
        frame
    }
}

/// The frame padded to the least that Ethernet sends: 60 octets without its check sequence. The padding
/// is 0xa5, not zero, so that a checksum which counts it comes out wrong.
#[must_use]
pub fn pad60(mut frame: Vec<u8>) -> Vec<u8> {
    if frame.len() < 60 {
        frame.resize(60, 0xa5);
    }
    frame
}

/// The packet with the octets at `at` replaced.
///
/// # Panics
/// When `at` or the end of `octets` lies outside the packet.
#[must_use]
pub fn poke(mut packet: Vec<u8>, at: usize, octets: &[u8]) -> Vec<u8> {
    packet[at..at + octets.len()].copy_from_slice(octets);
    packet
}

/// An ARP packet for Ethernet and IPv4 (RFC 826), without its Ethernet header.
#[must_use]
pub fn arp(
    op: u16,
    sender_mac: MacAddr,
    sender: impl Addr4,
    target_mac: MacAddr,
    target: impl Addr4,
) -> Vec<u8> {
    ep::ArpEthIpv4Packet {
        operation: ep::ArpOperation(op),
        sender_mac: sender_mac.0,
        sender_ipv4: sender.addr4().octets(),
        target_mac: target_mac.0,
        target_ipv4: target.addr4().octets(),
    }
    .to_bytes()
    .to_vec()
}

/// An ARP request, without its Ethernet header.
#[must_use]
pub fn arp_request(sender_mac: MacAddr, sender: impl Addr4, target: impl Addr4) -> Vec<u8> {
    arp(1, sender_mac, sender, MacAddr([0; 6]), target)
}

/// An ARP reply, without its Ethernet header.
#[must_use]
pub fn arp_reply(
    sender_mac: MacAddr,
    sender: impl Addr4,
    target_mac: MacAddr,
    target: impl Addr4,
) -> Vec<u8> {
    arp(2, sender_mac, sender, target_mac, target)
}

/// A TCP header and payload, waiting for its IP header.
#[derive(Debug, Clone)]
pub struct Tcp {
    header: ep::TcpHeader,
    payload: Vec<u8>,
}

/// A TCP segment with no flag set, sequence number 0, window 65,535 and no payload.
#[must_use]
pub fn tcp(src_port: u16, dst_port: u16) -> Tcp {
    Tcp { header: ep::TcpHeader::new(src_port, dst_port, 0, u16::MAX), payload: Vec::new() }
}

impl Tcp {
    /// Sets SYN.
    #[must_use]
    pub const fn syn(mut self) -> Self {
        self.header.syn = true;
        self
    }

    /// Sets FIN.
    #[must_use]
    pub const fn fin(mut self) -> Self {
        self.header.fin = true;
        self
    }

    /// Sets RST.
    #[must_use]
    pub const fn rst(mut self) -> Self {
        self.header.rst = true;
        self
    }

    /// Sets PSH.
    #[must_use]
    pub const fn psh(mut self) -> Self {
        self.header.psh = true;
        self
    }

    /// Sets the sequence number.
    #[must_use]
    pub const fn seq(mut self, n: u32) -> Self {
        self.header.sequence_number = n;
        self
    }

    /// Sets ACK and the acknowledgement number.
    #[must_use]
    pub const fn ack(mut self, n: u32) -> Self {
        self.header.ack = true;
        self.header.acknowledgment_number = n;
        self
    }

    /// Sets the window field.
    #[must_use]
    pub const fn window(mut self, n: u16) -> Self {
        self.header.window_size = n;
        self
    }

    /// Sets the options: at most 40 octets; padded to a multiple of four.
    ///
    /// # Panics
    /// When there are more.
    #[must_use]
    pub fn options(mut self, raw: &[u8]) -> Self {
        self.header.set_options_raw(raw).expect("TCP options are at most 40 octets");
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, octets: &[u8]) -> Self {
        self.payload = octets.to_vec();
        self
    }

    fn finish(&self, checksum: u16) -> Vec<u8> {
        let mut header = self.header.clone();
        header.checksum = checksum;
        [header.to_bytes().as_slice(), &self.payload].concat()
    }
}

#[derive(Debug, Clone)]
enum Extension {
    Options { kind: ep::IpNumber, body: Vec<u8> },
    Routing { kind: u8, left: u8, data: Vec<u8> },
    Fragment { offset: u16, more: bool, id: u32 },
    Auth { spi: u32, sequence: u32, icv: Vec<u8> },
}

/// An IPv6 header with its extension headers, waiting for what it carries.
#[derive(Debug, Clone)]
pub struct Ip6 {
    src: Ipv6Addr,
    dst: Ipv6Addr,
    final_dst: Ipv6Addr,
    hop_limit: Option<u8>,
    traffic_class: u8,
    flow_label: u32,
    chain: Vec<Extension>,
}

/// An IPv6 header: hop limit 64 (255 for neighbour discovery), traffic class and flow label 0.
#[must_use]
pub fn ip6(src: impl Addr6, dst: impl Addr6) -> Ip6 {
    let dst = dst.addr6();
    Ip6 {
        src: src.addr6(),
        dst,
        final_dst: dst,
        hop_limit: None,
        traffic_class: 0,
        flow_label: 0,
        chain: Vec::new(),
    }
}

impl Ip6 {
    /// Sets the hop limit.
    #[must_use]
    pub const fn hop_limit(mut self, n: u8) -> Self {
        self.hop_limit = Some(n);
        self
    }

    /// Sets the traffic class.
    #[must_use]
    pub const fn traffic_class(mut self, n: u8) -> Self {
        self.traffic_class = n;
        self
    }

    /// Sets the flow label: 20 bits.
    #[must_use]
    pub const fn flow_label(mut self, n: u32) -> Self {
        self.flow_label = n;
        self
    }

    /// Adds a Hop-by-Hop Options header with these options, padded.
    #[must_use]
    pub fn hop_by_hop(self, options: &[u8]) -> Self {
        self.options(ep::IpNumber::IPV6_HEADER_HOP_BY_HOP, options)
    }

    /// Adds a Destination Options header with these options, padded.
    #[must_use]
    pub fn dest_options(self, options: &[u8]) -> Self {
        self.options(ep::IpNumber::IPV6_DESTINATION_OPTIONS, options)
    }

    fn options(mut self, kind: ep::IpNumber, options: &[u8]) -> Self {
        let mut body = options.to_vec();
        // RFC 8200 4.2: one octet of padding is Pad1, more is PadN.
        match (8 - (body.len() + 2) % 8) % 8 {
            0 => {}
            1 => body.push(0),
            n => {
                body.extend_from_slice(&[1, (n - 2) as u8]);
                body.resize(body.len() + n - 2, 0);
            }
        }
        self.chain.push(Extension::Options { kind, body });
        self
    }

    /// Adds a Routing header of this type. `data` is what follows segments left, and is 4 octets more
    /// than a multiple of 8.
    #[must_use]
    pub fn routing(mut self, kind: u8, segments_left: u8, data: &[u8]) -> Self {
        self.chain.push(Extension::Routing { kind, left: segments_left, data: data.to_vec() });
        self
    }

    /// The destination that checksums use (RFC 8200 8.1) when a Routing header still has segments left.
    #[must_use]
    pub fn final_dst(mut self, dst: impl Addr6) -> Self {
        self.final_dst = dst.addr6();
        self
    }

    /// Adds a Fragment header. `offset` is in units of eight octets. With offset 0 and no more fragments
    /// it is an atomic fragment; otherwise end the chain with [`raw`](Self::raw).
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool, id: u32) -> Self {
        self.chain.push(Extension::Fragment { offset, more, id });
        self
    }

    /// Adds an Authentication header. `icv` is a multiple of four octets.
    #[must_use]
    pub fn auth(mut self, spi: u32, sequence: u32, icv: &[u8]) -> Self {
        self.chain.push(Extension::Auth { spi, sequence, icv: icv.to_vec() });
        self
    }

    fn pseudo(&self) -> ep::Ipv6Header {
        ep::Ipv6Header {
            source: self.src.octets(),
            destination: self.final_dst.octets(),
            ..Default::default()
        }
    }

    /// The packet with these octets behind the last extension header, under this protocol number.
    ///
    /// # Panics
    /// When lengths do not fit their fields.
    #[must_use]
    pub fn raw(&self, protocol: u8, upper: &[u8]) -> Vec<u8> {
        let mut next = ep::IpNumber(protocol);
        let mut payload = upper.to_vec();
        for extension in self.chain.iter().rev() {
            let (kind, octets) = match extension {
                Extension::Options { kind, body } => (
                    *kind,
                    ep::Ipv6RawExtHeader::new_raw(next, body).expect("whole units of 8").to_bytes().to_vec(),
                ),
                Extension::Routing { kind, left, data } => {
                    let body = [&[*kind, *left][..], data].concat();
                    let h = ep::Ipv6RawExtHeader::new_raw(next, &body).expect("whole units of 8");
                    (ep::IpNumber::IPV6_ROUTE_HEADER, h.to_bytes().to_vec())
                }
                Extension::Fragment { offset, more, id } => {
                    let offset = ep::IpFragOffset::try_new(*offset).expect("the offset has 13 bits");
                    let h = ep::Ipv6FragmentHeader::new(next, offset, *more, *id);
                    (ep::IpNumber::IPV6_FRAGMENTATION_HEADER, h.to_bytes().to_vec())
                }
                Extension::Auth { spi, sequence, icv } => {
                    let h = ep::IpAuthHeader::new(next, *spi, *sequence, icv).expect("whole units of 4");
                    (ep::IpNumber::AUTHENTICATION_HEADER, h.to_bytes().to_vec())
                }
            };
            next = kind;
            payload = [octets, payload].concat();
        }
        let header = ep::Ipv6Header {
            traffic_class: self.traffic_class,
            flow_label: ep::Ipv6FlowLabel::try_new(self.flow_label).expect("the flow label has 20 bits"),
            payload_length: u16::try_from(payload.len()).expect("no jumbograms"),
            next_header: next,
            hop_limit: self.hop_limit.unwrap_or(64),
            source: self.src.octets(),
            destination: self.dst.octets(),
        };
        [&header.to_bytes()[..], &payload].concat()
    }

    /// The packet with a UDP datagram.
    ///
    /// # Panics
    /// When the payload does not fit.
    #[must_use]
    pub fn udp(&self, src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
        let header =
            ep::UdpHeader::with_ipv6_checksum(src_port, dst_port, &self.pseudo(), payload).expect("it fits");
        self.raw(17, &[&header.to_bytes()[..], payload].concat())
    }

    /// The packet with a TCP segment.
    ///
    /// # Panics
    /// When the payload does not fit.
    #[must_use]
    pub fn tcp(&self, segment: &Tcp) -> Vec<u8> {
        let sum = segment.header.calc_checksum_ipv6(&self.pseudo(), &segment.payload).expect("it fits");
        self.raw(6, &segment.finish(sum))
    }

    /// The packet with an ICMPv6 message: type, code, the four octets behind the checksum, and the rest.
    ///
    /// # Panics
    /// When the body does not fit.
    #[must_use]
    pub fn icmp(&self, kind: u8, code: u8, word: [u8; 4], body: &[u8]) -> Vec<u8> {
        let message = ep::Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: word };
        let (src, dst) = (self.src.octets(), self.final_dst.octets());
        let header = ep::Icmpv6Header::with_checksum(message, src, dst, body).expect("it fits");
        self.raw(58, &[header.to_bytes().as_slice(), body].concat())
    }

    /// The packet with an echo request.
    #[must_use]
    pub fn echo_request(&self, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
        self.icmp(128, 0, pair(id, sequence), data)
    }

    /// The packet with an echo reply.
    #[must_use]
    pub fn echo_reply(&self, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
        self.icmp(129, 0, pair(id, sequence), data)
    }

    /// The packet with an ICMPv6 error: type, code, its 32-bit field (unused, MTU or pointer), and as much
    /// of the packet that it is about as the caller hands over.
    #[must_use]
    pub fn icmp_error(&self, kind: u8, code: u8, word: u32, about: &[u8]) -> Vec<u8> {
        self.icmp(kind, code, word.to_be_bytes(), about)
    }

    /// The packet with a Neighbor Solicitation (RFC 4861 4.3), with a source link-layer address option
    /// if there is one to give. The hop limit is 255 unless set.
    #[must_use]
    pub fn ns(&self, target: impl Addr6, source: Option<MacAddr>) -> Vec<u8> {
        let body = [&target.addr6().octets()[..], &link_layer(1, source)].concat();
        self.nd().icmp(135, 0, [0; 4], &body)
    }

    /// The packet with a Neighbor Advertisement (RFC 4861 4.4), with a target link-layer address option
    /// if there is one to give. The hop limit is 255 unless set.
    #[must_use]
    pub fn na(
        &self,
        target: impl Addr6,
        router: bool,
        solicited: bool,
        overrides: bool,
        mac: Option<MacAddr>,
    ) -> Vec<u8> {
        let flags = u8::from(router) << 7 | u8::from(solicited) << 6 | u8::from(overrides) << 5;
        let body = [&target.addr6().octets()[..], &link_layer(2, mac)].concat();
        self.nd().icmp(136, 0, [flags, 0, 0, 0], &body)
    }

    /// The packet with a Router Solicitation (RFC 4861 4.1). The hop limit is 255 unless set.
    #[must_use]
    pub fn rs(&self, source: Option<MacAddr>) -> Vec<u8> {
        self.nd().icmp(133, 0, [0; 4], &link_layer(1, source))
    }

    fn nd(&self) -> Self {
        Self { hop_limit: self.hop_limit.or(Some(255)), ..self.clone() }
    }
}

fn pair(a: u16, b: u16) -> [u8; 4] {
    let (a, b) = (a.to_be_bytes(), b.to_be_bytes());
    [a[0], a[1], b[0], b[1]]
}

/// A link-layer address option (RFC 4861 4.6.1): one unit of eight octets.
fn link_layer(kind: u8, mac: Option<MacAddr>) -> Vec<u8> {
    mac.map_or_else(Vec::new, |m| [&[kind, 1][..], &m.0].concat())
}

/// An IPv4 header, waiting for what it carries.
#[derive(Debug, Clone)]
pub struct Ip4 {
    header: ep::Ipv4Header,
}

/// An IPv4 header: TTL 64, type of service and Identification 0, Don't-Fragment set.
#[must_use]
pub fn ip4(src: impl Addr4, dst: impl Addr4) -> Ip4 {
    Ip4 {
        header: ep::Ipv4Header {
            source: src.addr4().octets(),
            destination: dst.addr4().octets(),
            time_to_live: 64,
            dont_fragment: true,
            ..Default::default()
        },
    }
}

impl Ip4 {
    /// Sets the time to live.
    #[must_use]
    pub const fn ttl(mut self, n: u8) -> Self {
        self.header.time_to_live = n;
        self
    }

    /// Sets the type of service octet.
    ///
    /// # Panics
    /// Never: both parts have their bits.
    #[must_use]
    pub fn tos(mut self, n: u8) -> Self {
        self.header.dscp = ep::IpDscp::try_new(n >> 2).expect("six bits");
        self.header.ecn = ep::IpEcn::try_new(n & 3).expect("two bits");
        self
    }

    /// Sets the Identification.
    #[must_use]
    pub const fn id(mut self, n: u16) -> Self {
        self.header.identification = n;
        self
    }

    /// Sets or clears Don't-Fragment.
    #[must_use]
    pub const fn df(mut self, on: bool) -> Self {
        self.header.dont_fragment = on;
        self
    }

    /// Makes it a fragment: `offset` is in units of eight octets. End the chain with [`raw`](Self::raw).
    ///
    /// # Panics
    /// When the offset has more than 13 bits.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.header.fragment_offset = ep::IpFragOffset::try_new(offset).expect("the offset has 13 bits");
        self.header.more_fragments = more;
        self.header.dont_fragment = false;
        self
    }

    /// Sets the options: at most 40 octets, a multiple of four.
    ///
    /// # Panics
    /// When they are not.
    #[must_use]
    pub fn options(mut self, raw: &[u8]) -> Self {
        self.header.options = raw.try_into().expect("options are at most 40 octets, in whole words");
        self
    }

    /// The packet with these octets behind the header, under this protocol number.
    ///
    /// # Panics
    /// When they do not fit.
    #[must_use]
    pub fn raw(&self, protocol: u8, upper: &[u8]) -> Vec<u8> {
        let mut header = self.header.clone();
        header.protocol = ep::IpNumber(protocol);
        header.set_payload_len(upper.len()).expect("it fits");
        header.header_checksum = header.calc_header_checksum();
        [header.to_bytes().as_slice(), upper].concat()
    }

    /// The packet with a UDP datagram.
    ///
    /// # Panics
    /// When the payload does not fit.
    #[must_use]
    pub fn udp(&self, src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
        let header =
            ep::UdpHeader::with_ipv4_checksum(src_port, dst_port, &self.header, payload).expect("it fits");
        self.raw(17, &[&header.to_bytes()[..], payload].concat())
    }

    /// The packet with a UDP datagram whose sender made no checksum (RFC 768: zero).
    ///
    /// # Panics
    /// When the payload does not fit.
    #[must_use]
    pub fn udp_without_checksum(&self, src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
        let header =
            ep::UdpHeader::without_ipv4_checksum(src_port, dst_port, payload.len()).expect("it fits");
        self.raw(17, &[&header.to_bytes()[..], payload].concat())
    }

    /// The packet with a TCP segment.
    ///
    /// # Panics
    /// When the payload does not fit.
    #[must_use]
    pub fn tcp(&self, segment: &Tcp) -> Vec<u8> {
        let sum = segment.header.calc_checksum_ipv4(&self.header, &segment.payload).expect("it fits");
        self.raw(6, &segment.finish(sum))
    }

    /// The packet with an ICMP message: type, code, the four octets behind the checksum, and the rest.
    #[must_use]
    pub fn icmp(&self, kind: u8, code: u8, word: [u8; 4], body: &[u8]) -> Vec<u8> {
        let message = ep::Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: word };
        let header = ep::Icmpv4Header::with_checksum(message, body);
        self.raw(1, &[header.to_bytes().as_slice(), body].concat())
    }

    /// The packet with an echo request.
    #[must_use]
    pub fn echo_request(&self, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
        self.icmp(8, 0, pair(id, sequence), data)
    }

    /// The packet with an echo reply.
    #[must_use]
    pub fn echo_reply(&self, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
        self.icmp(0, 0, pair(id, sequence), data)
    }

    /// The packet with an ICMP error: type, code, its 32-bit field (unused, next-hop MTU or pointer), and
    /// as much of the packet that it is about as the caller hands over.
    #[must_use]
    pub fn icmp_error(&self, kind: u8, code: u8, word: u32, about: &[u8]) -> Vec<u8> {
        self.icmp(kind, code, word.to_be_bytes(), about)
    }
}

#[cfg(test)]
mod tests;
