//! Echo replies, made of the request in place (RFC 4443 4.2, RFC 792, RFC 1122 3.2.2.6).
//!
//! The checksum is not computed anew but corrected (RFC 1624), so that damage on the way is not
//! certified by us. Options and extension headers of the request are not sent back: of IPv4 options
//! only Record Route and Timestamp would have to be (RFC 1122 3.2.2.6), and those are not supported.

use causeway_core::{DropReason, Frame};
use causeway_wire::ipv4::{self, Ipv4Repr};
use causeway_wire::ipv6::{self, Ipv6Repr, next_header};
use causeway_wire::l4::icmp;
use causeway_wire::{be16, checksum, put16};
use std::net::Ipv6Addr;

/// Hop limit and TTL of a reply (RFC 1700: the default).
const HOPS: u8 = 64;

/// Changes type and checksum of an echo to those of the reply.
fn turn(message: &mut [u8], reply: u8, addresses: u16) {
    let old = u64::from(be16(message, icmp::TYPE));
    message[icmp::TYPE] = reply;
    let change = checksum::delta(old, u64::from(be16(message, icmp::TYPE)));
    let field = be16(message, icmp::CHECKSUM);
    put16(message, icmp::CHECKSUM, checksum::apply(checksum::apply(field, change), addresses));
}

/// Turns an ICMPv6 echo request, whose ICMPv6 header is at `l4`, into the reply from `src`. The caller
/// checked lengths and checksum.
pub(crate) fn reply6<F: Frame>(
    frame: &mut F,
    ip: &Ipv6Repr,
    l4: usize,
    src: Ipv6Addr,
) -> Result<(), DropReason> {
    let gone = l4 - ipv6::HEADER;
    frame.pull_front(gone).map_err(|_| DropReason::LocalMalformed)?;
    let b = frame.bytes_mut();
    let header = Ipv6Repr {
        src,
        dst: ip.src,
        next_header: next_header::ICMPV6,
        hop_limit: HOPS,
        traffic_class: ip.traffic_class,
        flow_label: 0,
        payload_octets: ip.payload_octets - gone,
    };
    header.emit(b).map_err(|_| DropReason::LocalMalformed)?;
    // Swapped addresses have the same sum; only another source (the request went to a group) has not.
    let addresses = checksum::delta(checksum::sum6(ip.dst), checksum::sum6(src));
    turn(&mut b[ipv6::HEADER..], icmp::V6_ECHO_REPLY, addresses);
    Ok(())
}

/// Turns an ICMP echo into the reply. The caller checked lengths and checksum.
pub(crate) fn reply4<F: Frame>(frame: &mut F, ip: &Ipv4Repr) -> Result<(), DropReason> {
    let gone = ip.header_octets - ipv4::HEADER;
    frame.pull_front(gone).map_err(|_| DropReason::LocalMalformed)?;
    let b = frame.bytes_mut();
    // RFC 1812 4.3.2.5: the reply has the type of service of the request. It is atomic (RFC 6864 4.1),
    // so the Identification means nothing.
    let header = Ipv4Repr {
        src: ip.dst,
        dst: ip.src,
        ttl: HOPS,
        id: 0,
        frag: ipv4::DF,
        header_octets: ipv4::HEADER,
        total_octets: ip.total_octets - gone,
        ..*ip
    };
    header.emit(b).map_err(|_| DropReason::LocalMalformed)?;
    turn(&mut b[ipv4::HEADER..], icmp::V4_ECHO_REPLY, 0);
    Ok(())
}
