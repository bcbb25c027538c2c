//! ARP over Ethernet for IPv4 (RFC 826, RFC 5227): octets to meaning and back.

use causeway_core::{DropReason, Frame, NoRoom};
use causeway_wire::MacAddr;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};
use std::net::Ipv4Addr;

/// Octets of an ARP packet.
const OCTETS: usize = 28;

/// What an ARP packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arp {
    pub(crate) reply: bool,
    pub(crate) sender_mac: MacAddr,
    pub(crate) sender: Ipv4Addr,
    pub(crate) target_mac: MacAddr,
    pub(crate) target: Ipv4Addr,
}

impl Arp {
    /// Parses an ARP packet; octets behind it are padding.
    pub(crate) fn parse(b: &[u8]) -> Result<Self, DropReason> {
        let repr = ArpPacket::new_checked(b).and_then(|p| ArpRepr::parse(&p));
        let Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_hardware_addr,
            target_protocol_addr,
        }) = repr
        else {
            return Err(DropReason::ArpMalformed);
        };
        let reply = match operation {
            ArpOperation::Request => false,
            ArpOperation::Reply => true,
            ArpOperation::Unknown(_) => return Err(DropReason::ArpMalformed),
        };
        let sender_mac = MacAddr(source_hardware_addr.0);
        // RFC 1812 3.3.2: a router must not believe a reply that claims a group or broadcast address as
        // link-layer address.
        if !sender_mac.is_unicast() {
            return Err(DropReason::ArpMalformed);
        }
        Ok(Self {
            reply,
            sender_mac,
            sender: source_protocol_addr,
            target_mac: MacAddr(target_hardware_addr.0),
            target: target_protocol_addr,
        })
    }

    /// Writes the packet into a frame, which is made to fit.
    pub(crate) fn emit<F: Frame>(&self, frame: &mut F) -> Result<(), NoRoom> {
        resize(frame, OCTETS)?;
        let repr = ArpRepr::EthernetIpv4 {
            operation: if self.reply { ArpOperation::Reply } else { ArpOperation::Request },
            source_hardware_addr: EthernetAddress(self.sender_mac.0),
            source_protocol_addr: self.sender,
            target_hardware_addr: EthernetAddress(self.target_mac.0),
            target_protocol_addr: self.target,
        };
        repr.emit(&mut ArpPacket::new_unchecked(frame.bytes_mut()));
        Ok(())
    }
}

/// Shortens a frame, or grows it at its end.
pub(crate) fn resize<F: Frame>(frame: &mut F, octets: usize) -> Result<(), NoRoom> {
    match octets.checked_sub(frame.octets()) {
        Some(0) => Ok(()),
        Some(more) => frame.push_back(more),
        None => {
            frame.truncate(octets);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_core::HeapFrame;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn emit_then_parse(reply: bool, mac: [u8; 6], sender: u32, target_mac: [u8; 6], target: u32, before in 0usize..100) {
            let sender_mac = MacAddr(mac);
            prop_assume!(sender_mac.is_unicast());
            let arp = Arp { reply, sender_mac, sender: sender.into(), target_mac: MacAddr(target_mac), target: target.into() };
            let mut frame = HeapFrame::new(&vec![0xa5; before]);
            arp.emit(&mut frame).unwrap();
            prop_assert_eq!(frame.octets(), OCTETS);
            prop_assert_eq!(Arp::parse(frame.bytes()), Ok(arp));
        }

        #[test]
        fn parse_never_panics(b: Vec<u8>) {
            let _ = Arp::parse(&b);
        }
    }

    #[test]
    fn rfc826_only_ethernet_and_ipv4_are_understood() {
        let mut frame = HeapFrame::new(&[]);
        let arp = Arp {
            reply: false,
            sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            sender: Ipv4Addr::new(192, 0, 2, 1),
            target_mac: MacAddr([0; 6]),
            target: Ipv4Addr::new(192, 0, 2, 2),
        };
        arp.emit(&mut frame).unwrap();
        // Hardware type, protocol type, their lengths, operation, and a group as sender.
        for (at, octet) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3), (8, 0x33)] {
            let mut b = frame.bytes().to_vec();
            b[at] = octet;
            assert_eq!(Arp::parse(&b), Err(DropReason::ArpMalformed), "octet {at}");
        }
        assert_eq!(Arp::parse(&frame.bytes()[..27]), Err(DropReason::ArpMalformed));
    }
}
