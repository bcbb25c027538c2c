//! Packets for the gateway itself, as far as they are ARP, ND or echo. One frame at a time.
//!
//! | packet | what becomes of it |
//! | --- | --- |
//! | ARP request, NS for an address of ours | becomes the reply, in the same frame |
//! | ARP reply, NA of a neighbour we look for or know | its state machine, then consumed |
//! | ARP, NA that claims an address of ours | defended, told to control, consumed |
//! | echo request | becomes the reply, in the same frame |
//! | UDP | port unreachable, then dropped |
//! | everything else | dropped with a reason |

use crate::Neighbors;
use crate::announce::announce_one;
use crate::arp::Arp;
use crate::errors::Errors;
use crate::learn::Lesson;
use crate::nd::{self, Message, Nd, NdOut};
use crate::resolve::owns4;
use crate::resolved::{Key, LinkId};
use crate::{echo, learn};
use causeway_core::classify::ALL_NODES;
use causeway_core::{
    Counter, Ctx, DropReason, Egress, Event, Frame, FrameSource, IfId, Interface, Interfaces, Meta, Packet,
    Verdict, Via,
};
use causeway_wire::ipv4::Ipv4Repr;
use causeway_wire::ipv6::{self, Ipv6Repr};
use causeway_wire::l4::{PROTO_ICMP, PROTO_ICMPV6, PROTO_UDP, icmp};
use causeway_wire::{MacAddr, WireError, checksum, ethernet};
use std::net::{IpAddr, Ipv6Addr};

impl<F: Frame> Neighbors<F> {
    /// The worker that has to process this packet instead of this one, because it owns the neighbour
    /// that the packet tells news of. Call it before [`local`](Self::local), and hand the packet over if
    /// there is one.
    ///
    /// Questions to us can be answered anywhere. When more of them come than a worker may pass on in a
    /// second, the rest stay here: they are answered, and teach nothing.
    #[must_use]
    pub fn owner_of(&mut self, interfaces: &Interfaces, packet: &Packet<F>) -> Option<u16> {
        if self.shared.workers() < 2 {
            return None;
        }
        let interface = interfaces.get(packet.meta.ingress)?;
        let (address, mac) = news(interface, packet)?;
        let key = Key::new(LinkId::of(interface), address);
        let owner = self.shared.owner(&key);
        if owner == self.worker {
            return None;
        }
        // A question from a neighbour that is known by this link-layer address tells nothing.
        match mac {
            Some(mac) if self.shared.get(&key).is_some_and(|p| p.mac == mac) => None,
            Some(_) if !self.news.take(self.ticked) => None,
            _ => Some(owner),
        }
    }

    /// Handles a packet for the gateway itself. With [`Verdict::Forward`] the packet has become the
    /// reply.
    pub fn local<S, E>(&mut self, ctx: &mut Ctx<'_, S>, errors: &mut E, packet: &mut Packet<F>) -> Verdict
    where
        S: FrameSource<Frame = F>,
        E: Errors<S>,
    {
        let interfaces = ctx.interfaces;
        let Some(interface) = interfaces.get(packet.meta.ingress) else {
            return Verdict::Drop(DropReason::LocalNoService);
        };
        let result = match packet.meta.ethertype {
            ethernet::ETHERTYPE_ARP => self.arp(ctx, interface, packet),
            ethernet::ETHERTYPE_IPV6 => self.local6(ctx, errors, interface, packet),
            ethernet::ETHERTYPE_IPV4 => self.local4(ctx, errors, packet),
            _ => Err(DropReason::EthUnknownType),
        };
        match result {
            Ok(Some(egress)) => Verdict::Forward { egress },
            Ok(None) => Verdict::Consume,
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// RFC 826, RFC 5227.
    fn arp<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        interface: &Interface,
        packet: &mut Packet<F>,
    ) -> Result<Option<Egress>, DropReason> {
        let arp = Arp::parse(packet.bytes())?;
        let id = packet.meta.ingress;
        if interface.owns_mac(arp.sender_mac) {
            return Err(DropReason::OwnSource);
        }
        let target_ours = owns4(interface, arp.target);
        if owns4(interface, arp.sender) {
            // RFC 5227 2.4: somebody uses an address of ours.
            self.conflict(ctx, id, interface, arp.sender.into(), arp.sender_mac, true);
            return Ok(None);
        }
        let question = !arp.reply && target_ours;
        if arp.sender.is_unspecified() {
            // RFC 5227 2.1.1: a probe; whoever sends it wants to use the target, and sees from the answer
            // that it is taken. There is no sender to learn of.
            if !question {
                return Err(DropReason::ArpNotOurs);
            }
            self.conflict(ctx, id, interface, arp.target.into(), arp.sender_mac, false);
            return answer_arp(ctx, interface, packet, &arp);
        }
        let sender = IpAddr::V4(arp.sender);
        let heard = Lesson::Heard { mac: arp.sender_mac };
        if question {
            // RFC 826: the sender of a question to us is learned.
            self.learn(ctx, id, sender, heard, Some(arp.sender_mac));
            return answer_arp(ctx, interface, packet, &arp);
        }
        // RFC 826 updates what is known from any packet; here only from replies to us, broadcast or not
        // (RFC 5227 2.6), and from announcements (RFC 5227 3). Third parties' chatter teaches nothing.
        let known = if arp.reply && target_ours {
            self.learn(ctx, id, sender, Lesson::ArpReply { mac: arp.sender_mac }, None)
        } else if arp.sender == arp.target {
            self.learn(ctx, id, sender, heard, None)
        } else {
            false
        };
        if known { Ok(None) } else { Err(DropReason::ArpNotOurs) }
    }

    fn local6<S, E>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        errors: &mut E,
        interface: &Interface,
        packet: &mut Packet<F>,
    ) -> Result<Option<Egress>, DropReason>
    where
        S: FrameSource<Frame = F>,
        E: Errors<S>,
    {
        let ip = Ipv6Repr::parse(packet.bytes()).map_err(|e| match e {
            WireError::BadVersion => DropReason::Ip6BadVersion,
            _ => DropReason::Ip6Truncated,
        })?;
        if packet.meta.fragment {
            return Err(DropReason::LocalFragment);
        }
        if packet.meta.protocol != PROTO_ICMPV6 {
            if packet.meta.protocol == PROTO_UDP && !ip.dst.is_multicast() {
                errors.port_unreachable(ctx, packet);
            }
            return Err(DropReason::LocalNoService);
        }
        let (l4, end) = (usize::from(packet.meta.l4), ipv6::HEADER + ip.payload_octets);
        let message = packet.bytes().get(l4..end).ok_or(DropReason::LocalMalformed)?;
        if l4 < ipv6::HEADER || message.len() < 4 {
            return Err(DropReason::LocalMalformed);
        }
        let kind = message[icmp::TYPE];
        // RFC 4861 7.1.1, 7.1.2, 6.1: said first, because off-link senders must not learn more.
        let is_nd = (icmp::V6_ROUTER_SOLICIT..=icmp::V6_REDIRECT).contains(&kind);
        if is_nd && ip.hop_limit != nd::HOP_LIMIT {
            return Err(DropReason::NdHopLimit);
        }
        let octets = u32::try_from(message.len()).map_err(|_| DropReason::LocalMalformed)?;
        // RFC 4443 2.3: over the pseudo-header too.
        let pseudo = checksum::pseudo6(ip.src, ip.dst, PROTO_ICMPV6, octets);
        if checksum::fold(checksum::sum(message, pseudo)) != 0xffff {
            return Err(DropReason::LocalBadChecksum);
        }
        match kind {
            icmp::V6_NEIGHBOR_SOLICIT | icmp::V6_NEIGHBOR_ADVERT => {
                // RFC 6980 5: not with a Fragment header, even where nothing was cut.
                let walk = ipv6::walk(&packet.bytes()[..end], ip.next_header);
                if walk.map_err(|_| DropReason::NdMalformed)?.fragment.is_some() {
                    return Err(DropReason::NdMalformed);
                }
                match nd::parse(&ip, message)? {
                    Nd::Solicit { target, mac } => self.solicited(ctx, interface, packet, &ip, target, mac),
                    Nd::Advert { target, solicited, override_, mac } => {
                        let lesson = Lesson::Answer { mac, solicited, override_ };
                        self.advertised(ctx, interface, packet, target, lesson)
                    }
                }
            }
            icmp::V6_ROUTER_SOLICIT | icmp::V6_ROUTER_ADVERT | icmp::V6_REDIRECT => {
                Err(DropReason::NdIgnored)
            }
            icmp::V6_ECHO_REQUEST => self.echo6(ctx, interface, packet, &ip, l4),
            _ if ip.dst.is_multicast() => Err(DropReason::MulticastNotOurs),
            _ => Err(DropReason::LocalNoService),
        }
    }

    /// RFC 4861 7.2.3, 7.2.4.
    fn solicited<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        interface: &Interface,
        packet: &mut Packet<F>,
        ip: &Ipv6Repr,
        target: Ipv6Addr,
        mac: Option<MacAddr>,
    ) -> Result<Option<Egress>, DropReason> {
        let (id, src_mac) = (packet.meta.ingress, packet.meta.src_mac);
        if interface.owns_mac(src_mac) || interface.owns6(ip.src) {
            return Err(DropReason::OwnSource);
        }
        if !interface.owns6(target) {
            return Err(DropReason::NdNotOurs);
        }
        let probe = ip.src.is_unspecified();
        let (dst, to) = if probe {
            // RFC 4862 5.4.3, 5.4.4: somebody is about to use an address of ours; told to all nodes that
            // it is taken.
            self.conflict(ctx, id, interface, target.into(), src_mac, false);
            (ALL_NODES, MacAddr::from_ipv6_multicast(ALL_NODES))
        } else {
            if self.is_anothers(interface, ip.src, mac, src_mac) {
                return Err(DropReason::NdNotBound);
            }
            if let Some(mac) = mac {
                self.learn(ctx, id, ip.src.into(), Lesson::Heard { mac }, Some(mac));
            }
            (ip.src, mac.unwrap_or(src_mac))
        };
        // RFC 4861 7.2.4: solicited unless it goes to all nodes; ours is not anycast, so it overrides.
        let message = Message::Advert {
            target,
            mac: interface.mac_of(target.into()),
            solicited: !probe,
            override_: true,
        };
        NdOut { src: target, dst, message }.emit(&mut packet.frame).map_err(|_| DropReason::NoHeadroom)?;
        packet.meta = Meta { ethertype: packet.meta.ethertype, ..Meta::originated() };
        ctx.counters.add(Counter::NsAnswered, 1);
        Ok(Some(Egress::new(id, Via::Mac(to))))
    }

    /// RFC 4861 7.2.5, RFC 9131.
    fn advertised<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        interface: &Interface,
        packet: &Packet<F>,
        target: Ipv6Addr,
        lesson: Lesson,
    ) -> Result<Option<Egress>, DropReason> {
        let (id, src_mac) = (packet.meta.ingress, packet.meta.src_mac);
        if interface.owns_mac(src_mac) {
            return Err(DropReason::OwnSource);
        }
        if interface.owns6(target) {
            // RFC 4862 5.4.4: an advertisement for an address that is ours.
            self.conflict(ctx, id, interface, target.into(), src_mac, true);
            return Ok(None);
        }
        let told = match lesson {
            Lesson::Answer { mac, .. } => mac,
            Lesson::ArpReply { mac } | Lesson::Heard { mac } => Some(mac),
        };
        if self.is_anothers(interface, target, told, src_mac) {
            return Err(DropReason::NdNotBound);
        }
        // RFC 9131 4: a router makes an entry of an advertisement that nobody asked for.
        let create = match lesson {
            Lesson::Answer { mac, solicited: false, .. } => mac,
            _ => None,
        };
        let known = self.learn(ctx, id, target.into(), lesson, create);
        if known { Ok(None) } else { Err(DropReason::NdNotOurs) }
    }

    /// RFC 4443 4.2.
    fn echo6<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &Ctx<'_, S>,
        interface: &Interface,
        packet: &mut Packet<F>,
        ip: &Ipv6Repr,
        l4: usize,
    ) -> Result<Option<Egress>, DropReason> {
        let (id, bytes) = (packet.meta.ingress, packet.bytes());
        if ipv6::HEADER + ip.payload_octets < l4 + icmp::HEADER || bytes[l4 + icmp::CODE] != 0 {
            return Err(DropReason::LocalMalformed);
        }
        if ip.src.is_unspecified() || ip.src.is_multicast() {
            return Err(DropReason::Ip6BadAddress);
        }
        // RFC 4443 4.2: the reply comes from the address that was asked; for a group, from one of the
        // interface that the request came in by.
        let src = if ip.dst.is_multicast() { interface.source6(ip.src) } else { ip.dst };
        let anywhere = || !src.is_unicast_link_local() && ctx.interfaces.iter().any(|(_, i)| i.owns6(src));
        if !interface.owns6(src) && !anywhere() {
            return Err(DropReason::LocalNoService);
        }
        let egress = if ip.src.is_unicast_link_local() {
            Egress::new(id, Via::Ip6(ip.src))
        } else {
            ctx.routes.lookup6(ip.src).ok_or(DropReason::NoRoute)?
        };
        self.may_answer(ctx, egress, ipv6::HEADER + ip.payload_octets)?;
        packet.frame.truncate(ipv6::HEADER + ip.payload_octets);
        echo::reply6(&mut packet.frame, ip, l4, src)?;
        packet.meta = Meta { protocol: PROTO_ICMPV6, l4: ipv6::HEADER as u16, ..Meta::originated() };
        ctx.counters.add(Counter::EchoAnswered, 1);
        Ok(Some(egress))
    }

    fn local4<S, E>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        errors: &mut E,
        packet: &mut Packet<F>,
    ) -> Result<Option<Egress>, DropReason>
    where
        S: FrameSource<Frame = F>,
        E: Errors<S>,
    {
        let ip = Ipv4Repr::parse(packet.bytes()).map_err(|e| match e {
            WireError::BadVersion => DropReason::Ip4BadVersion,
            WireError::BadLength => DropReason::Ip4BadLength,
            WireError::BadChecksum => DropReason::Ip4BadChecksum,
            WireError::Truncated => DropReason::Ip4Truncated,
        })?;
        if !ctx.interfaces.iter().any(|(_, i)| i.owns4(ip.dst)) {
            return Err(DropReason::Ip4NotOurs);
        }
        // RFC 1122 3.2.1.3: addresses that nobody sends from.
        if ip.src.is_unspecified() || ip.src.is_multicast() || ip.src.is_broadcast() || ip.src.is_loopback() {
            return Err(DropReason::Ip4BadAddress);
        }
        if ip.is_fragment() {
            return Err(DropReason::LocalFragment);
        }
        if ip.protocol != PROTO_ICMP {
            if ip.protocol == PROTO_UDP {
                errors.port_unreachable(ctx, packet);
            }
            return Err(DropReason::LocalNoService);
        }
        let message = &packet.bytes()[ip.header_octets..ip.total_octets];
        if message.len() < icmp::HEADER {
            return Err(DropReason::LocalMalformed);
        }
        if checksum::fold(checksum::sum(message, 0)) != 0xffff {
            return Err(DropReason::LocalBadChecksum);
        }
        if message[icmp::TYPE] != icmp::V4_ECHO_REQUEST {
            return Err(DropReason::LocalNoService);
        }
        if message[icmp::CODE] != 0 {
            return Err(DropReason::LocalMalformed);
        }
        let egress = ctx.routes.lookup4(ip.src).ok_or(DropReason::NoRoute)?;
        self.may_answer(ctx, egress, ip.total_octets)?;
        packet.frame.truncate(ip.total_octets);
        echo::reply4(&mut packet.frame, &ip)?;
        packet.meta = Meta {
            ethertype: ethernet::ETHERTYPE_IPV4,
            protocol: PROTO_ICMP,
            l4: causeway_wire::ipv4::HEADER as u16,
            ..Meta::originated()
        };
        ctx.counters.add(Counter::EchoAnswered, 1);
        Ok(Some(egress))
    }

    /// An echo reply of this size fits its way, and there is a token left for it.
    fn may_answer<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &Ctx<'_, S>,
        egress: Egress,
        octets: usize,
    ) -> Result<(), DropReason> {
        let interface = ctx.interfaces.get(egress.interface()).ok_or(DropReason::NoRoute)?;
        if octets > usize::from(interface.mtu) {
            return Err(DropReason::TooBig);
        }
        if self.echo.take(ctx.now) { Ok(()) } else { Err(DropReason::LocalRateLimited) }
    }

    /// Somebody else claims an address of ours. Told, and with `defend` answered by an announcement, at
    /// most once in the defend interval (RFC 5227 2.4 (c)).
    fn conflict<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        id: IfId,
        interface: &Interface,
        address: IpAddr,
        mac: MacAddr,
        defend: bool,
    ) {
        ctx.counters.add(Counter::AddressConflicts, 1);
        let Some(link) = self.links.get_mut(usize::from(id.0)) else { return };
        if link.conflict.is_some_and(|at| ctx.now.since(at) < self.config.defend_interval) {
            return;
        }
        link.conflict = Some(ctx.now);
        ctx.events.push(Event::AddressConflict { interface: id, address, mac });
        if defend {
            announce_one(ctx, id, interface, address);
        }
    }
}

/// Turns a question into its answer (RFC 826).
fn answer_arp<F: Frame, S: FrameSource<Frame = F>>(
    ctx: &Ctx<'_, S>,
    interface: &Interface,
    packet: &mut Packet<F>,
    question: &Arp,
) -> Result<Option<Egress>, DropReason> {
    let answer = Arp {
        reply: true,
        sender_mac: interface.mac_of(question.target.into()),
        sender: question.target,
        target_mac: question.sender_mac,
        target: question.sender,
    };
    answer.emit(&mut packet.frame).map_err(|_| DropReason::NoHeadroom)?;
    let id = packet.meta.ingress;
    packet.meta = Meta { ethertype: ethernet::ETHERTYPE_ARP, ..Meta::originated() };
    ctx.counters.add(Counter::ArpAnswered, 1);
    Ok(Some(Egress::new(id, Via::Mac(question.sender_mac))))
}

/// The neighbour that a packet tells news of, and for a mere question its link-layer address. Quick and
/// rough: nothing is checked that [`Neighbors::local`] will check.
fn news<F: Frame>(interface: &Interface, packet: &Packet<F>) -> Option<(IpAddr, Option<MacAddr>)> {
    let b = packet.bytes();
    let (address, mac) = match packet.meta.ethertype {
        ethernet::ETHERTYPE_ARP => {
            let arp = Arp::parse(b).ok()?;
            if !owns4(interface, arp.target) && arp.sender != arp.target {
                return None;
            }
            (IpAddr::V4(arp.sender), (!arp.reply).then_some(arp.sender_mac))
        }
        ethernet::ETHERTYPE_IPV6 if packet.meta.protocol == PROTO_ICMPV6 => {
            let message = b.get(usize::from(packet.meta.l4)..)?;
            match *message.first()? {
                icmp::V6_NEIGHBOR_ADVERT if message.len() >= 24 => (ipv6::addr(message, 8).into(), None),
                icmp::V6_NEIGHBOR_SOLICIT if b.len() >= ipv6::HEADER => {
                    let ip = Ipv6Repr::parse(b).ok()?;
                    match nd::parse(&ip, message).ok()? {
                        Nd::Solicit { mac: Some(mac), .. } => (ip.src.into(), Some(mac)),
                        _ => return None,
                    }
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    learn::on_link(interface, address).then_some((address, mac))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod views;
