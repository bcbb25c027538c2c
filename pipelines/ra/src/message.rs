//! Whole advertisements: octets that are made once and copied for each that is sent.
//!
//! What does not fit the link's MTU goes on in a further advertisement (RFC 4861 6.2.3); each has the same header and
//! the source link-layer address.

use crate::config::Advertised;
use crate::options::{self, MAX_OCTETS, NdOption, VALID_AT, scaled, seconds};
use crate::withdrawn::{self, Gone};
use causeway_core::classify::ALL_NODES;
use causeway_core::{Frame, Instant, Interface, NoRoom};
use causeway_wire::ipv6::{self, Ipv6Repr, next_header};
use causeway_wire::l4::icmp;
use causeway_wire::{MacAddr, checksum, put16, put32};
use smoltcp::time::Duration as Time;
use smoltcp::wire::{Icmpv6Packet, NdiscRepr, NdiscRouterFlags};
use std::net::Ipv6Addr;

/// The hop limit of every message of neighbour discovery (RFC 4861 4.2).
pub(crate) const HOP_LIMIT: u8 = 255;
/// Octets of an advertisement without options.
pub(crate) const FIXED: usize = 16;
/// Where the flags stand.
const FLAGS_AT: usize = 5;
/// The most octets of a packet, whatever the MTU: what any device takes as one buffer.
const MAX_PACKET: usize = 1500;
/// The most advertisements that one network's settings may need.
pub(crate) const MAX_MESSAGES: usize = 8;

/// Who speaks on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Speaker {
    /// RFC 4861 4.2: the source is our link-local address; where a virtual router is active, its.
    pub(crate) source: Ipv6Addr,
    /// The link-layer address that goes with it.
    pub(crate) mac: MacAddr,
    /// They are a virtual router's.
    pub(crate) shared: bool,
    /// Octets that one packet may have.
    room: usize,
}

impl Speaker {
    pub(crate) fn of(interface: &Interface) -> Self {
        let source = interface.link_local;
        let mac = interface.mac_of(source.into());
        let shared = interface.real.as_ref().is_some_and(|real| !real.addrs.contains(&source.into()));
        Self { source, mac, shared, room: usize::from(interface.mtu).clamp(ipv6::MIN_MTU, MAX_PACKET) }
    }
}

/// An advertisement as an IPv6 packet, but for its destination, its checksum and lifetimes that are counted down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    octets: Box<[u8]>,
    source: Ipv6Addr,
    /// Where a valid lifetime stands that ends at a fixed time, and when.
    dated: Vec<(usize, Instant)>,
}

impl Message {
    /// Writes the packet into an empty frame.
    pub(crate) fn write<F: Frame>(&self, frame: &mut F, dst: Ipv6Addr, now: Instant) -> Result<(), NoRoom> {
        frame.truncate(0);
        frame.push_back(self.octets.len())?;
        let b = frame.bytes_mut();
        b.copy_from_slice(&self.octets);
        b[ipv6::DST..ipv6::HEADER].copy_from_slice(&dst.octets());
        for (at, until) in &self.dated {
            put32(b, *at, seconds(until.since(now)));
        }
        let message = &mut b[ipv6::HEADER..];
        let octets = u32::try_from(message.len()).map_err(|_| NoRoom)?;
        let pseudo = checksum::pseudo6(self.source, dst, next_header::ICMPV6, octets);
        let sum = !checksum::fold(checksum::sum(message, pseudo));
        put16(message, icmp::CHECKSUM, sum);
        Ok(())
    }
}

/// What an advertisement says in which situation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Occasion<'a> {
    /// The settings, after what is withdrawn.
    Regular(&'a [Gone]),
    /// The gateway ends (RFC 4861 6.2.5): router and routes are gone (RFC 4191 4).
    Final,
    /// The settings are gone as a whole.
    Ceased(&'a [Gone]),
    /// The router is gone from this address (RFC 4861 6.2.8).
    Moved,
}

/// One option's octets, and when the valid lifetime in it ends, if that is at a fixed time.
type Written = (Vec<u8>, Option<Instant>);

/// The advertisements that say all this. Also says how many options had to be left out, because they cannot be
/// written or do not fit; there are none for settings that passed [`Config::check`](crate::Config::check).
pub(crate) fn build(a: &Advertised, speaker: &Speaker, occasion: Occasion<'_>) -> (Vec<Message>, usize) {
    let link_layer =
        if a.link_layer { NdOption::LinkLayer(speaker.mac).emit().unwrap_or_default() } else { Vec::new() };
    // Options have whole units of eight.
    let room = (speaker.room - ipv6::HEADER - FIXED - link_layer.len()) & !7;
    let mut left_out = 0;
    let mut options: Vec<Written> = Vec::new();
    for (option, until) in said(a, occasion, room) {
        match option.emit() {
            Some(octets) if octets.len() <= room => options.push((octets, until)),
            _ => left_out += 1,
        }
    }
    let lifetime = match occasion {
        Occasion::Regular(_) => u16::try_from(a.router_lifetime.as_secs()).unwrap_or(u16::MAX),
        _ => 0,
    };
    let mut messages = Vec::new();
    let mut rest = options.as_slice();
    loop {
        let mut used = 0;
        let fit = rest.iter().take_while(|(o, _)| {
            used += o.len();
            used <= room
        });
        let (now, later) = rest.split_at(fit.count());
        messages.push(message(a, speaker, lifetime, &link_layer, now));
        rest = later;
        if rest.is_empty() || messages.len() == MAX_MESSAGES {
            return (messages, left_out + rest.len());
        }
    }
}

/// The options, in the order that they go out. What is withdrawn comes first, so that of two that a host takes
/// for the same thing the one that holds comes last.
fn said<'a>(a: &'a Advertised, occasion: Occasion<'a>, room: usize) -> Vec<(NdOption<'a>, Option<Instant>)> {
    let gone = match occasion {
        Occasion::Moved => return Vec::new(),
        Occasion::Final => {
            let route = |r: &crate::RouteInfo| NdOption::Route {
                prefix: r.prefix,
                preference: r.preference,
                lifetime: 0,
            };
            return a.routes.iter().map(|r| (route(r), None)).collect();
        }
        Occasion::Ceased(gone) => return withdrawn::options(gone),
        Occasion::Regular(gone) => gone,
    };
    let dns = seconds(a.dns_lifetime);
    let mut all: Vec<NdOption<'a>> = Vec::new();
    all.extend(a.mtu.map(NdOption::Mtu));
    all.extend(a.prefixes.iter().map(|p| NdOption::Prefix {
        prefix: p.prefix,
        on_link: p.on_link,
        autonomous: p.autonomous,
        valid: seconds(p.valid),
        preferred: seconds(p.preferred),
    }));
    all.extend(a.pref64.iter().map(|p| NdOption::Pref64 { prefix: p.prefix, scaled: scaled(p.lifetime) }));
    let most = (room.min(MAX_OCTETS) - 8) / 16;
    all.extend(a.dns_servers.chunks(most).map(|servers| NdOption::DnsServers { servers, lifetime: dns }));
    all.extend(
        search(&a.search, room.min(MAX_OCTETS) - 8).map(|names| NdOption::Search { names, lifetime: dns }),
    );
    all.extend(a.routes.iter().map(|r| NdOption::Route {
        prefix: r.prefix,
        preference: r.preference,
        lifetime: seconds(r.lifetime),
    }));
    all.extend(a.encrypted_dns.iter().map(|e| NdOption::Encrypted { dns: e, lifetime: dns }));
    all.extend(a.captive_portal.as_deref().map(NdOption::CaptivePortal));
    let gone = withdrawn::options(gone).into_iter();
    gone.chain(all.into_iter().map(|option| (option, None))).collect()
}

/// The search list in pieces whose names together have at most `room` octets; a name that is none is alone.
fn search(names: &[String], room: usize) -> impl Iterator<Item = &[String]> {
    let octets = |text: &String| options::name(text).map_or(usize::MAX, |wire| wire.len());
    let mut rest = names;
    std::iter::from_fn(move || {
        let mut used = 0usize;
        let fit = rest.iter().take_while(|text| {
            used = used.saturating_add(octets(text));
            used <= room
        });
        let count = fit.count().max(1).min(rest.len());
        let (now, later) = rest.split_at(count);
        rest = later;
        (!now.is_empty()).then_some(now)
    })
}

fn message(
    a: &Advertised,
    speaker: &Speaker,
    router_lifetime: u16,
    link_layer: &[u8],
    options: &[Written],
) -> Message {
    let octets = FIXED + link_layer.len() + options.iter().map(|(o, _)| o.len()).sum::<usize>();
    let mut b = vec![0; ipv6::HEADER + octets];
    let ip = Ipv6Repr {
        src: speaker.source,
        dst: ALL_NODES,
        next_header: next_header::ICMPV6,
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        flow_label: 0,
        payload_octets: octets,
    };
    // Both write into room that was made for them.
    let _ = ip.emit(&mut b);
    let mut flags = NdiscRouterFlags::empty();
    flags.set(NdiscRouterFlags::MANAGED, a.managed);
    flags.set(NdiscRouterFlags::OTHER, a.other);
    let millis = |d: causeway_core::Duration| {
        Time::from_millis(u64::from(u32::try_from(d.as_millis()).unwrap_or(u32::MAX)))
    };
    let header = NdiscRepr::RouterAdvert {
        hop_limit: a.hop_limit,
        flags,
        router_lifetime: Time::from_secs(u64::from(router_lifetime)),
        reachable_time: millis(a.reachable_time),
        retrans_time: millis(a.retransmit_time),
        lladdr: None,
        mtu: None,
        prefix_info: None,
    };
    header.emit(&mut Icmpv6Packet::new_unchecked(&mut b[ipv6::HEADER..]));
    // RFC 4191 2.2: the preference of a router that is none is medium.
    if router_lifetime != 0 {
        b[ipv6::HEADER + FLAGS_AT] |= options::preference_bits(a.preference) << 3;
    }
    let (mut at, mut dated) = (ipv6::HEADER + FIXED, Vec::new());
    for (octets, until) in
        std::iter::once((link_layer, None)).chain(options.iter().map(|(o, u)| (o.as_slice(), *u)))
    {
        b[at..at + octets.len()].copy_from_slice(octets);
        dated.extend(until.map(|until| (at + VALID_AT, until)));
        at += octets.len();
    }
    Message { octets: b.into(), source: speaker.source, dated }
}

#[cfg(test)]
pub(crate) mod tests;
