//! The checks of what others send (RFC 4861 6.1).

use crate::message::HOP_LIMIT;
use causeway_core::{DropReason, Frame, Packet};
use causeway_wire::ipv6::{self, Ipv6Repr};
use causeway_wire::l4::{PROTO_ICMPV6, icmp};
use causeway_wire::{MacAddr, WireError, checksum};
use smoltcp::wire::{NdiscOption, NdiscOptionType};
use std::net::Ipv6Addr;

/// Octets of a solicitation without options.
const SOLICIT: usize = 8;
/// Octets of an advertisement without options.
const ADVERT: usize = 16;

/// A message that passed the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A host asks for a router.
    Solicit {
        source: Ipv6Addr,
        /// From the Source Link-Layer Address option.
        mac: Option<MacAddr>,
    },
    /// Somebody says that it is a router.
    Advert { source: Ipv6Addr },
    /// Somebody says that another router is better.
    Redirect,
}

/// Parses and checks a packet of ICMPv6 type 133, 134 or 137.
pub(crate) fn check<F: Frame>(packet: &Packet<F>) -> Result<Heard, DropReason> {
    let b = packet.bytes();
    let ip = Ipv6Repr::parse(b).map_err(|e| match e {
        WireError::BadVersion => DropReason::Ip6BadVersion,
        _ => DropReason::Ip6Truncated,
    })?;
    if packet.meta.fragment {
        return Err(DropReason::LocalFragment);
    }
    if packet.meta.protocol != PROTO_ICMPV6 {
        return Err(DropReason::LocalNoService);
    }
    let (l4, end) = (usize::from(packet.meta.l4), ipv6::HEADER + ip.payload_octets);
    let message = b.get(l4..end).ok_or(DropReason::LocalMalformed)?;
    if l4 < ipv6::HEADER || message.len() < 4 {
        return Err(DropReason::LocalMalformed);
    }
    let kind = message[icmp::TYPE];
    if !matches!(kind, icmp::V6_ROUTER_SOLICIT | icmp::V6_ROUTER_ADVERT | icmp::V6_REDIRECT) {
        return Err(DropReason::LocalNoService);
    }
    // RFC 4861 6.1.1, 6.1.2: no router has forwarded it.
    if ip.hop_limit != HOP_LIMIT {
        return Err(DropReason::NdHopLimit);
    }
    let octets = u32::try_from(message.len()).map_err(|_| DropReason::LocalMalformed)?;
    // RFC 4443 2.3: over the pseudo-header too.
    let pseudo = checksum::pseudo6(ip.src, ip.dst, PROTO_ICMPV6, octets);
    if checksum::fold(checksum::sum(message, pseudo)) != 0xffff {
        return Err(DropReason::LocalBadChecksum);
    }
    // RFC 6980 5: not with a Fragment header, even where nothing was cut.
    let walk = ipv6::walk(&b[..end], ip.next_header).map_err(|_| DropReason::NdMalformed)?;
    if walk.fragment.is_some() {
        return Err(DropReason::NdMalformed);
    }
    let fixed = match kind {
        icmp::V6_ROUTER_SOLICIT => SOLICIT,
        icmp::V6_ROUTER_ADVERT => ADVERT,
        _ => return Ok(Heard::Redirect),
    };
    // RFC 4861 6.1.1, 6.1.2: code 0, and all of the fixed part.
    if message[icmp::CODE] != 0 || message.len() < fixed {
        return Err(DropReason::NdMalformed);
    }
    let mac = link_layer(&message[fixed..])?;
    if kind == icmp::V6_ROUTER_ADVERT {
        // RFC 4861 6.1.2: a router speaks from its link-local address.
        if !ip.src.is_unicast_link_local() {
            return Err(DropReason::NdMalformed);
        }
        return Ok(Heard::Advert { source: ip.src });
    }
    // RFC 4861 6.1.1: who has no address names no link-layer address. And nobody's address is a group's.
    if ip.src.is_multicast() || (ip.src.is_unspecified() && mac.is_some()) {
        return Err(DropReason::NdMalformed);
    }
    Ok(Heard::Solicit { source: ip.src, mac })
}

/// The source link-layer address among the options.
fn link_layer(mut rest: &[u8]) -> Result<Option<MacAddr>, DropReason> {
    let mut mac = None;
    while !rest.is_empty() {
        if rest.len() < 2 {
            return Err(DropReason::NdMalformed);
        }
        let option = NdiscOption::new_unchecked(rest);
        let octets = usize::from(option.data_len()) * 8;
        // RFC 4861 6.1.1, 6.1.2: every option is longer than zero; and it has to be there in full.
        if octets == 0 || octets > rest.len() {
            return Err(DropReason::NdMalformed);
        }
        // RFC 4861 6.1.1, 6.1.2: other options are skipped, whatever they hold.
        if option.option_type() == NdiscOptionType::SourceLinkLayerAddr && mac.is_none() {
            // RFC 2464 6: one unit of eight octets for Ethernet.
            let address = rest[2..8].try_into().map(MacAddr);
            match address {
                Ok(a) if octets == 8 && a.is_unicast() => mac = Some(a),
                _ => return Err(DropReason::NdMalformed),
            }
        }
        rest = &rest[octets..];
    }
    Ok(mac)
}
