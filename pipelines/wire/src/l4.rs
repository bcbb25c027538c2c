//! TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792) and ICMPv6 (RFC 4443): offsets and flags.

/// Protocol number of ICMP.
pub const PROTO_ICMP: u8 = 1;
/// Protocol number of TCP.
pub const PROTO_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTO_UDP: u8 = 17;
/// Protocol number of ICMPv6.
pub const PROTO_ICMPV6: u8 = 58;

/// Offset of the source port of TCP and UDP.
pub const SRC_PORT: usize = 0;
/// Offset of the destination port of TCP and UDP.
pub const DST_PORT: usize = 2;

/// TCP.
pub mod tcp {
    /// Octets of a header without options.
    pub const HEADER: usize = 20;
    /// Offset of the sequence number.
    pub const SEQ: usize = 4;
    /// Offset of the acknowledgement number.
    pub const ACK_NO: usize = 8;
    /// Offset of the data offset, in the high four bits, in units of four octets.
    pub const DATA_OFFSET: usize = 12;
    /// Offset of the control bits.
    pub const FLAGS: usize = 13;
    /// Offset of the window.
    pub const WINDOW: usize = 14;
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 16;
    /// Control bit: no more data from sender.
    pub const FIN: u8 = 0x01;
    /// Control bit: synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Control bit: reset.
    pub const RST: u8 = 0x04;
    /// Control bit: acknowledgement.
    pub const ACK: u8 = 0x10;
}

/// UDP.
pub mod udp {
    /// Octets of the header.
    pub const HEADER: usize = 8;
    /// Offset of the length.
    pub const LENGTH: usize = 4;
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 6;
}

/// ICMP and ICMPv6, which share their first octets.
pub mod icmp {
    /// Octets of the header.
    pub const HEADER: usize = 8;
    /// Offset of the type.
    pub const TYPE: usize = 0;
    /// Offset of the code.
    pub const CODE: usize = 1;
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 2;
    /// Offset of the identifier of an echo.
    pub const IDENT: usize = 4;
    /// Offset of the sequence number of an echo.
    pub const SEQUENCE: usize = 6;
    /// ICMP Echo Reply (RFC 792).
    pub const V4_ECHO_REPLY: u8 = 0;
    /// ICMP Destination Unreachable (RFC 792).
    pub const V4_DST_UNREACHABLE: u8 = 3;
    /// ICMP Echo (RFC 792).
    pub const V4_ECHO_REQUEST: u8 = 8;
    /// ICMP Time Exceeded (RFC 792).
    pub const V4_TIME_EXCEEDED: u8 = 11;
    /// ICMP Parameter Problem (RFC 792).
    pub const V4_PARAM_PROBLEM: u8 = 12;
    /// ICMPv6 Destination Unreachable (RFC 4443 3.1).
    pub const V6_DST_UNREACHABLE: u8 = 1;
    /// ICMPv6 Packet Too Big (RFC 4443 3.2).
    pub const V6_PACKET_TOO_BIG: u8 = 2;
    /// ICMPv6 Time Exceeded (RFC 4443 3.3).
    pub const V6_TIME_EXCEEDED: u8 = 3;
    /// ICMPv6 Parameter Problem (RFC 4443 3.4).
    pub const V6_PARAM_PROBLEM: u8 = 4;
    /// ICMPv6 Echo Request (RFC 4443 4.1).
    pub const V6_ECHO_REQUEST: u8 = 128;
    /// ICMPv6 Echo Reply (RFC 4443 4.2).
    pub const V6_ECHO_REPLY: u8 = 129;
    /// Router Solicitation (RFC 4861 4.1).
    pub const V6_ROUTER_SOLICIT: u8 = 133;
    /// Router Advertisement (RFC 4861 4.2).
    pub const V6_ROUTER_ADVERT: u8 = 134;
    /// Neighbor Solicitation (RFC 4861 4.3).
    pub const V6_NEIGHBOR_SOLICIT: u8 = 135;
    /// Neighbor Advertisement (RFC 4861 4.4).
    pub const V6_NEIGHBOR_ADVERT: u8 = 136;
    /// Redirect (RFC 4861 4.5).
    pub const V6_REDIRECT: u8 = 137;
}
