//! Neighbor Solicitation and Advertisement (RFC 4861 4.3, 4.4): octets to meaning and back, and the
//! checks of RFC 4861 7.1.

use crate::arp::resize;
use causeway_core::{DropReason, Frame, NoRoom};
use causeway_wire::ipv6::{self, Ipv6Repr, next_header};
use causeway_wire::l4::icmp;
use causeway_wire::{MacAddr, checksum, put16};
use smoltcp::wire::{
    EthernetAddress, Icmpv6Packet, NdiscNeighborFlags, NdiscOption, NdiscOptionType, NdiscRepr,
};
use std::net::Ipv6Addr;

/// The hop limit of every ND message (RFC 4861 7.1): it proves that the sender is on the link.
pub(crate) const HOP_LIMIT: u8 = 255;
/// Octets of an ICMPv6 NS or NA without options.
const FIXED: usize = 24;
/// Octets of a link-layer address option for Ethernet.
const OPTION: usize = 8;

/// A solicitation or an advertisement that passed the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nd {
    Solicit {
        target: Ipv6Addr,
        /// From the Source Link-Layer Address option.
        mac: Option<MacAddr>,
    },
    Advert {
        target: Ipv6Addr,
        solicited: bool,
        override_: bool,
        /// From the Target Link-Layer Address option.
        mac: Option<MacAddr>,
    },
}

/// Parses the ICMPv6 message `b` of type NS or NA; its checksum was checked. `ip` is the header.
pub(crate) fn parse(ip: &Ipv6Repr, b: &[u8]) -> Result<Nd, DropReason> {
    // RFC 4861 7.1.1, 7.1.2: the hop limit is still 255, so no router forwarded the message.
    if ip.hop_limit != HOP_LIMIT {
        return Err(DropReason::NdHopLimit);
    }
    // RFC 4861 7.1.1, 7.1.2: code 0, and at least 24 octets.
    let message = Icmpv6Packet::new_checked(b).map_err(|_| DropReason::NdMalformed)?;
    if message.msg_code() != 0 || b.len() < FIXED {
        return Err(DropReason::NdMalformed);
    }
    // RFC 4861 7.1.1, 7.1.2: the target is not a multicast address.
    let target = message.target_addr();
    if target.is_multicast() {
        return Err(DropReason::NdMalformed);
    }
    let solicit = b[icmp::TYPE] == icmp::V6_NEIGHBOR_SOLICIT;
    let wanted =
        if solicit { NdiscOptionType::SourceLinkLayerAddr } else { NdiscOptionType::TargetLinkLayerAddr };
    let mut mac = None;
    let mut rest = &b[FIXED..];
    while !rest.is_empty() {
        if rest.len() < 2 {
            return Err(DropReason::NdMalformed);
        }
        let option = NdiscOption::new_unchecked(rest);
        let octets = usize::from(option.data_len()) * 8;
        // RFC 4861 7.1.1, 7.1.2: every option is longer than zero; and it has to be there in full.
        if octets == 0 || octets > rest.len() {
            return Err(DropReason::NdMalformed);
        }
        // RFC 4861 7.1.1, 7.1.2: other options are skipped, whatever they hold.
        if option.option_type() == wanted && mac.is_none() {
            // RFC 2464 6: one unit of eight octets for Ethernet.
            let address = rest[2..OPTION].try_into().map(MacAddr);
            match address {
                Ok(a) if octets == OPTION && a.is_unicast() => mac = Some(a),
                _ => return Err(DropReason::NdMalformed),
            }
        }
        rest = &rest[octets..];
    }
    if !solicit {
        let flags = message.neighbor_flags();
        let solicited = flags.contains(NdiscNeighborFlags::SOLICITED);
        // RFC 4861 7.1.2: what goes to a group answers nobody's solicitation.
        if solicited && ip.dst.is_multicast() {
            return Err(DropReason::NdMalformed);
        }
        let override_ = flags.contains(NdiscNeighborFlags::OVERRIDE);
        return Ok(Nd::Advert { target, solicited, override_, mac });
    }
    if ip.src.is_unspecified() {
        // RFC 4861 7.1.1: a probe for duplicates goes to a solicited-node group, and names no
        // link-layer address.
        let group = ip.dst.to_bits() & !0x00ff_ffff
            == causeway_core::classify::solicited_node(Ipv6Addr::UNSPECIFIED).to_bits();
        if !group || mac.is_some() {
            return Err(DropReason::NdMalformed);
        }
    }
    Ok(Nd::Solicit { target, mac })
}

/// A message to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NdOut {
    pub(crate) src: Ipv6Addr,
    pub(crate) dst: Ipv6Addr,
    pub(crate) message: Message,
}

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Solicit {
        target: Ipv6Addr,
        mac: MacAddr,
    },
    /// Always from a router (flag R).
    Advert {
        target: Ipv6Addr,
        mac: MacAddr,
        solicited: bool,
        override_: bool,
    },
}

impl NdOut {
    /// Writes the packet into a frame, which is made to fit.
    pub(crate) fn emit<F: Frame>(&self, frame: &mut F) -> Result<(), NoRoom> {
        let octets = FIXED + OPTION;
        resize(frame, ipv6::HEADER + octets)?;
        let b = frame.bytes_mut();
        let ip = Ipv6Repr {
            src: self.src,
            dst: self.dst,
            next_header: next_header::ICMPV6,
            hop_limit: HOP_LIMIT,
            traffic_class: 0,
            flow_label: 0,
            payload_octets: octets,
        };
        ip.emit(b).map_err(|_| NoRoom)?;
        let repr = match self.message {
            Message::Solicit { target, mac } => NdiscRepr::NeighborSolicit {
                target_addr: target,
                lladdr: Some(EthernetAddress(mac.0).into()),
            },
            Message::Advert { target, mac, solicited, override_ } => {
                // RFC 4861 4.4: a router says that it is one in every advertisement.
                let mut flags = NdiscNeighborFlags::ROUTER;
                flags.set(NdiscNeighborFlags::SOLICITED, solicited);
                flags.set(NdiscNeighborFlags::OVERRIDE, override_);
                NdiscRepr::NeighborAdvert {
                    flags,
                    target_addr: target,
                    lladdr: Some(EthernetAddress(mac.0).into()),
                }
            }
        };
        let b = &mut b[ipv6::HEADER..];
        repr.emit(&mut Icmpv6Packet::new_unchecked(&mut *b));
        put16(b, icmp::CHECKSUM, 0);
        let pseudo = checksum::pseudo6(self.src, self.dst, next_header::ICMPV6, octets as u32);
        let sum = !checksum::fold(checksum::sum(b, pseudo));
        put16(b, icmp::CHECKSUM, sum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_core::HeapFrame;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn emit_then_parse(src: u128, dst: u128, target: u128, mac: [u8; 6], advert: bool, solicited: bool, override_: bool, before in 0usize..200) {
            let (src, dst, target, mac) = (Ipv6Addr::from(src), Ipv6Addr::from(dst), Ipv6Addr::from(target), MacAddr(mac));
            prop_assume!(mac.is_unicast() && !target.is_multicast() && !dst.is_multicast());
            let message = if advert { Message::Advert { target, mac, solicited, override_ } } else { Message::Solicit { target, mac } };
            let mut frame = HeapFrame::new(&vec![0xa5; before]);
            NdOut { src, dst, message }.emit(&mut frame).unwrap();
            let b = frame.bytes();
            let ip = Ipv6Repr::parse(b).unwrap();
            prop_assert_eq!((ip.src, ip.dst, ip.hop_limit, b.len()), (src, dst, 255, 72));
            let icmp = Icmpv6Packet::new_checked(&b[40..]).unwrap();
            prop_assert!(icmp.verify_checksum(&src, &dst));
            let want = if advert { Nd::Advert { target, solicited, override_, mac: Some(mac) } } else { Nd::Solicit { target, mac: Some(mac) } };
            prop_assert_eq!(parse(&ip, &b[40..]), Ok(want));
        }

        #[test]
        fn parse_never_panics(src: u128, dst: u128, hop: bool, mut b: Vec<u8>, advert: bool) {
            if let Some(first) = b.first_mut() {
                *first = if advert { icmp::V6_NEIGHBOR_ADVERT } else { icmp::V6_NEIGHBOR_SOLICIT };
            }
            let ip = Ipv6Repr {
                src: src.into(), dst: dst.into(), next_header: 58, hop_limit: if hop { 255 } else { 64 },
                traffic_class: 0, flow_label: 0, payload_octets: b.len(),
            };
            let _ = parse(&ip, &b);
        }
    }
}
