//! Classification: from a frame off the wire to a packet with a class, or a reason to drop it.
//!
//! ```text
//!  Ethernet -> our MAC? -> VLAN to interface -> IPv4 / IPv6 header -> addresses sane?
//!   -> source allowed on this network (BCP 38)? -> own address | NAT64 prefix | pool | proxy | the rest
//! ```
//!
//! The link layer comes off the frame, padding behind the packet too; what later stages need of them is
//! in [`Meta`]. IPv6 extension headers are walked (RFC 8200 4) for everything that the gateway looks
//! into; for forwarded packets a chain that cannot be walked is no reason to drop them.
//!
//! Not handled: QinQ, IPv4 towards tenant networks, jumbograms (RFC 2675).

use crate::burst::{Class, Meta, Packet};
use crate::counters::DropReason;
use crate::frame::Frame;
use crate::net::{IfId, Interfaces, Prefix4, Prefix6, Role, Validation};
use arrayvec::ArrayVec;
use causeway_wire::ethernet::{self, EthernetRepr};
use causeway_wire::ipv4::Ipv4Repr;
use causeway_wire::ipv6::{self, Ipv6Repr};
use causeway_wire::l4::{self, icmp};
use causeway_wire::{MacAddr, WireError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most link-layer addresses that one port answers to (its own and virtual ones).
pub const MACS_PER_PORT: usize = 32;

/// A small set of addresses that nearly every packet is not in: one word tells that for most.
#[derive(Debug, Clone, Default)]
struct AddrSet<T> {
    bloom: u64,
    sorted: Vec<T>,
}

impl<T: Ord + Copy + Into<u128>> AddrSet<T> {
    fn new(mut list: Vec<T>) -> Self {
        list.sort_unstable();
        list.dedup();
        let bloom = list.iter().fold(0, |b, a| b | Self::bit(*a));
        Self { bloom, sorted: list }
    }

    /// One of 64 bits, from all octets of the address.
    #[inline(always)]
    fn bit(a: T) -> u64 {
        let w: u128 = a.into();
        #[expect(clippy::cast_possible_truncation, reason = "both halves go into the mix")]
        let folded = (w as u64) ^ ((w >> 64) as u64);
        1 << (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
    }

    #[inline(always)]
    fn contains(&self, a: T) -> bool {
        self.bloom & Self::bit(a) != 0 && self.sorted.binary_search(&a).is_ok()
    }
}

#[derive(Debug, Clone, Default)]
struct PortClass {
    macs: ArrayVec<MacAddr, MACS_PER_PORT>,
    untagged: Option<IfId>,
    /// VLAN identifier and interface, sorted by the former.
    vlans: Vec<(u16, IfId)>,
}

#[derive(Debug, Clone)]
struct IfClass {
    tenant: bool,
    /// Any source that is not ours is good.
    any_source: bool,
    mtu: usize,
    link_local: Ipv6Addr,
    more_link_local: Vec<Ipv6Addr>,
    sources6: Vec<Prefix6>,
    groups: AddrSet<u128>,
    groups4: Vec<Ipv4Addr>,
}

impl IfClass {
    /// True if `a` is a link-local address of ours.
    #[inline(always)]
    fn owns_link_local(&self, a: Ipv6Addr) -> bool {
        a == self.link_local || (!self.more_link_local.is_empty() && self.more_link_local.contains(&a))
    }
}

/// What classification has to know of a plan. Immutable.
#[derive(Debug, Clone, Default)]
pub struct Classifier {
    ports: Vec<PortClass>,
    ifs: Vec<IfClass>,
    own6: AddrSet<u128>,
    own4: AddrSet<u32>,
    nat64: Vec<Prefix6>,
    /// Inside the NAT64 prefixes, and not translated.
    native6: Vec<Prefix6>,
    /// Addresses of ours that accept nothing but neighbour discovery.
    no_accept: Vec<IpAddr>,
    pool: Vec<Prefix4>,
    /// What only tenants send from, and what nobody sends from (the NAT64 prefixes).
    inside6: Vec<Prefix6>,
    /// What the splicer's packets are known by; nothing without it.
    splicer: Option<Box<SplicerClass>>,
    /// Nothing but what is for us, while another gateway forwards (RFC 9568 6.4.2).
    standby: bool,
}

/// What the splicer's packets are known by.
#[derive(Debug, Clone)]
struct SplicerClass {
    /// Addresses that clients connect to.
    proxies: AddrSet<u32>,
    /// Addresses of ours that connections to servers come from.
    sources: AddrSet<u128>,
    /// Prefixes of clients, as servers see them.
    clients: Vec<Prefix6>,
}

impl SplicerClass {
    #[inline(always)]
    fn is_client(&self, a: Ipv6Addr) -> bool {
        self.clients.iter().any(|p| p.contains(a))
    }
}

/// TCP, or an ICMPv6 error (RFC 4443 2.1), in one piece: what can be of a connection.
#[inline(always)]
fn of_connection6<F: Frame>(packet: &Packet<F>) -> bool {
    if packet.meta.fragment {
        return false;
    }
    match packet.meta.protocol {
        ipv6::next_header::TCP => true,
        ipv6::next_header::ICMPV6 => {
            let kind = packet.bytes().get(usize::from(packet.meta.l4)).copied();
            kind.is_some_and(|kind| kind < icmp::V6_ECHO_REQUEST)
        }
        _ => false,
    }
}

/// The class of a packet to a proxy address: echo requests and protocols that have no ports are for the gateway
/// itself.
#[cold]
fn to_proxy<F: Frame>(packet: &Packet<F>) -> Class {
    match packet.meta.protocol {
        l4::PROTO_TCP | l4::PROTO_UDP => Class::SpliceOut,
        l4::PROTO_ICMP if packet.meta.fragment => Class::SpliceOut,
        l4::PROTO_ICMP => match packet.bytes().get(usize::from(packet.meta.l4)) {
            Some(&icmp::V4_ECHO_REQUEST) => Class::Local,
            _ => Class::SpliceOut,
        },
        _ => Class::Local,
    }
}

impl Classifier {
    /// A classifier for these interfaces.
    ///
    /// `port_macs` lists, for each port, the link-layer addresses it answers to besides those of its
    /// interfaces; addresses beyond [`MACS_PER_PORT`] are not taken. `nat64` are the NAT64 prefixes,
    /// `pool` the IPv4 addresses that NAT64 translates to.
    #[must_use]
    pub fn new(
        interfaces: &Interfaces,
        port_macs: &[Vec<MacAddr>],
        nat64: Vec<Prefix6>,
        pool: Vec<Prefix4>,
    ) -> Self {
        let mut ports: Vec<PortClass> = vec![PortClass::default(); port_macs.len()];
        let (mut own6, mut own4, mut ifs, mut no_accept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (id, i) in interfaces.iter() {
            let n = usize::from(i.port);
            if ports.len() <= n {
                ports.resize(n + 1, PortClass::default());
            }
            match i.vlan {
                None => ports[n].untagged = Some(id),
                Some(vlan) => ports[n].vlans.push((vlan, id)),
            }
            let real = i.real.as_ref().map(|real| real.mac);
            for mac in [Some(i.mac), i.mac4, real].into_iter().flatten() {
                add_mac(&mut ports[n], mac);
            }
            let mut unicast = vec![i.link_local];
            unicast.extend(i.addrs6.iter().map(|(a, _)| *a));
            unicast.extend(&i.service6);
            // RFC 4861 7.2.1 and RFC 4291 2.8: a router listens to all nodes, all routers and the
            // solicited-node group of each of its addresses.
            let mut groups = vec![ALL_NODES.to_bits(), ALL_ROUTERS.to_bits()];
            let link_local = unicast.iter().chain(&i.more_link_local);
            groups.extend(link_local.map(|a| solicited_node(*a).to_bits()));
            groups.extend(i.groups6.iter().map(|a| a.to_bits()));
            own6.extend(unicast.iter().skip(1).map(|a| a.to_bits()));
            own4.extend(i.addrs4.iter().map(|(a, _)| a.to_bits()));
            no_accept.extend(&i.no_accept);
            ifs.push(IfClass {
                tenant: i.role == Role::Tenant,
                any_source: i.role == Role::Tenant && i.validation == Validation::Off,
                mtu: usize::from(i.mtu),
                link_local: i.link_local,
                more_link_local: i.more_link_local.clone(),
                groups4: i.groups4.clone(),
                sources6: i.sources6.clone(),
                groups: AddrSet::new(groups),
            });
        }
        ports.iter_mut().for_each(|port| port.vlans.sort_unstable());
        for (port, macs) in ports.iter_mut().zip(port_macs) {
            macs.iter().for_each(|m| add_mac(port, *m));
        }
        let tenants = ifs.iter().filter(|i| i.tenant).flat_map(|i| &i.sources6);
        let inside6 = tenants.chain(&nat64).copied().collect();
        let (own6, own4) = (AddrSet::new(own6), AddrSet::new(own4));
        let native6 = Vec::new();
        let splicer = None;
        Self { ports, ifs, own6, own4, nat64, native6, no_accept, pool, inside6, splicer, standby: false }
    }

    /// Gives the splicer its packets: those from clients to `proxies`, which are looked at before the NAT64 pool, and
    /// those from servers to `sources`, addresses of ours, or to what is under `clients`. Of the latter two only TCP
    /// and ICMPv6 errors, in one piece: all else at `sources` is for us as ever, and under `clients` for nobody.
    ///
    /// Nobody sends from `proxies` or from `clients`. Echo requests to `proxies` are for us.
    #[must_use]
    pub fn with_splicer(mut self, proxies: &[Ipv4Addr], sources: &[Ipv6Addr], clients: Vec<Prefix6>) -> Self {
        self.splicer = Some(Box::new(SplicerClass {
            proxies: AddrSet::new(proxies.iter().map(|a| a.to_bits()).collect()),
            sources: AddrSet::new(sources.iter().map(|a| a.to_bits()).collect()),
            clients,
        }));
        self
    }

    /// Forwards and translates nothing: another gateway is the active one (RFC 9568 6.4.2).
    #[must_use]
    pub const fn standing_by(mut self) -> Self {
        self.standby = true;
        self
    }

    /// Leaves these prefixes inside the NAT64 prefixes untranslated, because a route leads to them (RFC 7915
    /// 5.6, RFC 6888 3, REQ-6): packets to them are forwarded, and packets from them may come in.
    #[must_use]
    pub fn with_native(mut self, prefixes: Vec<Prefix6>) -> Self {
        self.native6 = prefixes;
        self
    }

    /// True if packets to `dst` are translated to IPv4.
    #[inline]
    #[must_use]
    pub fn translates(&self, dst: Ipv6Addr) -> bool {
        self.nat64.iter().any(|p| p.contains(dst)) && !self.is_native(dst)
    }

    #[inline(always)]
    fn is_native(&self, a: Ipv6Addr) -> bool {
        self.native6.iter().any(|p| p.contains(a))
    }

    /// True if some tenant sends from `a`.
    #[cold]
    fn is_tenants(&self, a: Ipv6Addr) -> bool {
        self.ifs.iter().filter(|i| i.tenant).flat_map(|i| &i.sources6).any(|p| p.contains(a))
    }

    /// Classifies a frame that came in on `port`, and gives it as a packet.
    ///
    /// # Errors
    /// The reason to drop it; the frame is given back to its pool.
    pub fn classify<F: Frame>(&self, port: u16, frame: F) -> Result<(Class, Packet<F>), DropReason> {
        let mut packet = Packet { frame, meta: Meta::originated() };
        self.classify_in_place(port, &mut packet).map(|class| (class, packet))
    }

    /// Classifies a packet whose frame came in on `port` and begins at its Ethernet header; nothing is
    /// known of it yet. Afterwards the frame begins at its network-layer header and ends with the packet,
    /// and the rest is filled in.
    ///
    /// # Errors
    /// The reason to drop it.
    #[inline]
    pub fn classify_in_place<F: Frame>(
        &self,
        port: u16,
        packet: &mut Packet<F>,
    ) -> Result<Class, DropReason> {
        let eth = EthernetRepr::parse(packet.bytes()).map_err(|_| DropReason::EthTruncated)?;
        if !eth.src.is_unicast() {
            return Err(DropReason::EthBadSource);
        }
        let p = self.ports.get(usize::from(port)).ok_or(DropReason::EthUnknownVlan)?;
        let l2_group = eth.dst.is_multicast();
        if !l2_group && !p.macs.contains(&eth.dst) {
            return Err(DropReason::NotOurMac);
        }
        let ingress = match eth.vlan {
            // 802.1Q: identifier 0 is a priority tag and names no VLAN.
            None | Some(0) => p.untagged,
            Some(v) => p.vlans.binary_search_by_key(&v, |(vlan, _)| *vlan).ok().map(|at| p.vlans[at].1),
        }
        .ok_or(DropReason::EthUnknownVlan)?;
        let interface = self.ifs.get(usize::from(ingress.0)).ok_or(DropReason::EthUnknownVlan)?;

        packet.frame.pull_front(eth.header_octets()).map_err(|_| DropReason::EthTruncated)?;
        packet.meta.ingress = ingress;
        packet.meta.ethertype = eth.ethertype;
        packet.meta.src_mac = eth.src;
        packet.meta.l2_group = l2_group;
        packet.meta.hop_done = false;

        let class = match eth.ethertype {
            ethernet::ETHERTYPE_IPV6 => self.ipv6(p, interface, packet)?,
            ethernet::ETHERTYPE_IPV4 => self.ipv4(interface, packet)?,
            ethernet::ETHERTYPE_ARP => Class::Local,
            _ => return Err(DropReason::EthUnknownType),
        };
        // RFC 1122 3.3.6: what came to a link-layer group but is for a single station goes no further.
        if l2_group && class != Class::Local {
            return Err(DropReason::EthGroupUnicast);
        }
        if self.standby && class != Class::Local {
            return Err(DropReason::VrrpNotActive);
        }
        Ok(class)
    }

    #[inline]
    fn ipv6<F: Frame>(
        &self,
        port: &PortClass,
        interface: &IfClass,
        packet: &mut Packet<F>,
    ) -> Result<Class, DropReason> {
        let ip = Ipv6Repr::parse(packet.bytes()).map_err(|e| match e {
            WireError::BadVersion => DropReason::Ip6BadVersion,
            _ => DropReason::Ip6Truncated,
        })?;
        let octets = ipv6::HEADER + ip.payload_octets;
        if octets > interface.mtu {
            return Err(DropReason::EthOversized);
        }
        packet.frame.truncate(octets);

        // RFC 4291 2.5.2, 2.5.3, 2.5.5, 2.7: addresses that are never on the wire.
        if never_source6(ip.src) || never_destination6(ip.dst) {
            return Err(DropReason::Ip6BadAddress);
        }
        let local = if ip.dst.is_multicast() {
            if !interface.groups.contains(ip.dst.to_bits()) {
                return Err(DropReason::MulticastNotOurs);
            }
            true
        } else {
            interface.owns_link_local(ip.dst) || self.own6.contains(ip.dst.to_bits())
        };
        if interface.owns_link_local(ip.src) || self.own6.contains(ip.src.to_bits()) {
            // RFC 4862 5.4: somebody else who claims an address of ours says so in neighbour discovery.
            // From our own MAC address it is our own message, which a switch sent back (5.4.3).
            let claim = local
                && ip.next_header == ipv6::next_header::ICMPV6
                && !port.macs.contains(&packet.meta.src_mac);
            if !claim {
                return Err(DropReason::OwnSource);
            }
            self.walk(Class::Local, ip.next_header, packet)?;
            return Ok(Class::Local);
        }
        let link_scope = ip.src.is_unspecified() || ip.src.is_unicast_link_local();
        if link_scope {
            // RFC 4291 2.5.6: link-local stays on the link; the unspecified address is for ND only.
            if !local {
                return Err(DropReason::LinkLocalScope);
            }
            if ip.src.is_unspecified() && ip.next_header != ipv6::next_header::ICMPV6 {
                return Err(DropReason::Ip6BadAddress);
            }
        } else {
            // What is under a client prefix is said by the splicer alone.
            if self.splicer.as_ref().is_some_and(|s| s.is_client(ip.src)) {
                return Err(DropReason::SpoofedSource);
            }
            // BCP 38 (RFC 2827): a network sends only from its own prefixes, and the rest of the
            // Internet (BCP 84, RFC 3704 2.2) from none of them.
            let within = |prefixes: &[Prefix6]| prefixes.iter().any(|p| p.contains(ip.src));
            let allowed = if interface.any_source {
                !within(&self.nat64) || self.is_native(ip.src)
            } else if interface.tenant {
                within(&interface.sources6)
            } else {
                !within(&self.inside6) || self.is_native(ip.src) && !self.is_tenants(ip.src)
            };
            if !allowed {
                return Err(DropReason::SpoofedSource);
            }
        }

        let splicer = self.splicer.as_deref();
        let class = if local {
            Class::Local
        } else if splicer.is_some_and(|s| s.is_client(ip.dst)) {
            Class::SpliceIn
        } else if self.translates(ip.dst) {
            Class::Nat64In
        } else {
            Class::Forward6
        };
        self.walk(class, ip.next_header, packet)?;
        if class == Class::SpliceIn && !of_connection6(packet) {
            return Err(DropReason::SpliceNotTcp);
        }
        // Also at an address of a virtual router that accepts nothing (RFC 9568 6.1): it is passed on.
        if local && splicer.is_some_and(|s| s.sources.contains(ip.dst.to_bits())) && of_connection6(packet) {
            return Ok(Class::SpliceIn);
        }
        if local && !self.no_accept.is_empty() && !self.accepts6(ip.dst, packet) {
            return Err(DropReason::VrrpNoAccept);
        }
        Ok(class)
    }

    /// RFC 9568 6.1: without accept mode only neighbour discovery is accepted at a virtual router's address
    /// (6.4.3: Neighbor Solicitations and Advertisements are, in any case).
    #[cold]
    fn accepts6<F: Frame>(&self, dst: Ipv6Addr, packet: &Packet<F>) -> bool {
        if !self.no_accept.contains(&dst.into()) {
            return true;
        }
        let kind = packet.bytes().get(usize::from(packet.meta.l4)).copied();
        packet.meta.protocol == ipv6::next_header::ICMPV6
            && !packet.meta.fragment
            && kind.is_some_and(|k| (icmp::V6_ROUTER_SOLICIT..=icmp::V6_REDIRECT).contains(&k))
    }

    /// Finds the upper layer behind the extension headers.
    #[inline]
    fn walk<F: Frame>(&self, class: Class, first: u8, packet: &mut Packet<F>) -> Result<(), DropReason> {
        use ipv6::next_header as nh;
        packet.meta.protocol = first;
        packet.meta.l4 = ipv6::HEADER as u16;
        if matches!(first, nh::TCP | nh::UDP | nh::ICMPV6) {
            return Ok(());
        }
        match ipv6::walk(packet.bytes(), first) {
            Ok(w) => {
                packet.meta.protocol = w.protocol;
                packet.meta.l4 = u16::try_from(w.at).map_err(|_| DropReason::Ip6BadExtension)?;
                packet.meta.fragment = w.fragment.is_some_and(|f| f.more || f.offset != 0);
                Ok(())
            }
            // RFC 8200 4: a forwarding node does not look at them.
            Err(_) if class == Class::Forward6 => Ok(()),
            Err(_) => Err(DropReason::Ip6BadExtension),
        }
    }

    #[inline]
    fn ipv4<F: Frame>(&self, interface: &IfClass, packet: &mut Packet<F>) -> Result<Class, DropReason> {
        let ip = Ipv4Repr::parse(packet.bytes()).map_err(|e| match e {
            WireError::BadVersion => DropReason::Ip4BadVersion,
            WireError::BadLength => DropReason::Ip4BadLength,
            WireError::BadChecksum => DropReason::Ip4BadChecksum,
            WireError::Truncated => DropReason::Ip4Truncated,
        })?;
        if ip.total_octets > interface.mtu {
            return Err(DropReason::EthOversized);
        }
        packet.frame.truncate(ip.total_octets);
        packet.meta.protocol = ip.protocol;
        packet.meta.l4 = u16::try_from(ip.header_octets).map_err(|_| DropReason::Ip4BadLength)?;
        packet.meta.fragment = ip.is_fragment();

        if never_source4(ip.src) || ip.dst.is_unspecified() || ip.dst.is_loopback() {
            return Err(DropReason::Ip4BadAddress);
        }
        let group = ip.dst.is_multicast() && interface.groups4.contains(&ip.dst);
        if ip.dst.is_broadcast() || ip.dst.is_multicast() && !group {
            return Err(DropReason::MulticastNotOurs);
        }
        if self.own4.contains(ip.src.to_bits()) || self.pool.iter().any(|p| p.contains(ip.src)) {
            return Err(DropReason::OwnSource);
        }
        if interface.tenant {
            // Tenant networks are IPv6-only: no IPv4 source is theirs.
            return Err(DropReason::SpoofedSource);
        }
        if let Some(splicer) = &self.splicer {
            if splicer.proxies.contains(ip.src.to_bits()) {
                return Err(DropReason::OwnSource);
            }
            if splicer.proxies.contains(ip.dst.to_bits()) {
                return Ok(to_proxy(packet));
            }
        }
        if self.pool.iter().any(|p| p.contains(ip.dst)) {
            Ok(Class::Nat64Out)
        } else if group || self.own4.contains(ip.dst.to_bits()) {
            // RFC 9568 6.1: `Accept_Mode`; ARP does not come here.
            if !self.no_accept.is_empty() && self.no_accept.contains(&ip.dst.into()) {
                return Err(DropReason::VrrpNoAccept);
            }
            Ok(Class::Local)
        } else {
            Err(DropReason::Ip4NotOurs)
        }
    }
}

/// All nodes on the link (RFC 4291 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on the link (RFC 4291 2.7.1).
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// The solicited-node multicast address of `a` (RFC 4291 2.7.1).
#[must_use]
pub const fn solicited_node(a: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).to_bits();
    Ipv6Addr::from_bits(PREFIX | (a.to_bits() & 0x00ff_ffff))
}

fn add_mac(port: &mut PortClass, mac: MacAddr) {
    if !port.macs.contains(&mac) {
        let _ = port.macs.try_push(mac);
    }
}

/// Loopback, or an IPv4-mapped address.
#[inline(always)]
const fn never_on_the_wire6(w: u128) -> bool {
    w == 1 || w >> 32 == 0xffff
}

#[inline(always)]
const fn never_source6(a: Ipv6Addr) -> bool {
    a.is_multicast() || never_on_the_wire6(a.to_bits())
}

#[inline(always)]
const fn never_destination6(a: Ipv6Addr) -> bool {
    a.to_bits() == 0 || never_on_the_wire6(a.to_bits())
}

/// RFC 1812 5.3.7 and RFC 6890: this network, loopback, multicast, reserved and broadcast.
#[inline(always)]
const fn never_source4(a: Ipv4Addr) -> bool {
    let first = a.octets()[0];
    first == 0 || first == 127 || first >= 224
}

#[cfg(test)]
mod tests;
