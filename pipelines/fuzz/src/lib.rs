//! What the fuzz targets do with the octets that they are given, and what they begin with.
//!
//! Every target compares: with `etherparse`, with plain loops of the test kit, or with a slow way of
//! getting the same. A target is a function here, so that `cargo test` can run all named seeds through
//! all targets without a fuzzer. `scripts/fuzz` runs the fuzzer.
//!
//! The corpora are not files: [`seeds`] builds them by name. An input that made a target fail becomes
//! a row of [`found`], with a name that says what was wrong, in the commit that fixes it.

#![forbid(unsafe_code)]

pub mod dhcpv6;
pub mod dns_query;
pub mod dns_tcp;
pub mod dns_upstream;
pub mod nat64;
pub mod ra;
pub mod splicer_hello;
pub mod splicer_rewrite;
pub mod splicer_peek;
pub mod vrrp;

use causeway_core::classify::Classifier;
use causeway_core::icmp_error::{Error4, Error6, IcmpErrors, Unreachable4, Unreachable6};
use causeway_core::route::{Route6, Target};
use causeway_core::{Class, HeapFrame, IfId, Interfaces, Packet, Prefix6, Routes, Verdict, Via};
use causeway_forward::{Config, Forward, Inbound, Isolation};
use causeway_testkit::mutate::samples;
use causeway_testkit::{Inner, Rig, check_packet_with, eth, lab_interfaces, upper_layer};
use causeway_wire::checksum as sums;
use causeway_wire::ethernet::{self, EthernetRepr};
use causeway_wire::ipv4::{self, Ipv4Repr};
use causeway_wire::ipv6::{self, Ipv6Repr};
use causeway_wire::{MacAddr, WireError};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// All targets by name.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("wire", wire),
    ("ipv6_walk", ipv6_walk),
    ("checksum", checksum),
    ("routes", routes),
    ("classify", classify),
    ("icmp_error", icmp_error),
    ("forward", forward),
    ("local", local),
    ("translate", translate),
    ("nat64_oracle6", nat64::oracle6),
    ("nat64_oracle4", nat64::oracle4),
    ("nat64_state", nat64::state),
    ("dhcpv6_message", dhcpv6::message),
    ("dhcpv6_engine", dhcpv6::engine),
    ("dns_query", dns_query::query),
    ("dns_tcp", dns_tcp::sequence),
    ("dns_upstream", dns_upstream::upstream),
    ("dns_sequence", dns_upstream::sequence),
    ("vrrp", vrrp::sequence),
    ("ra", ra::ra),
    ("splice_hello", splicer_hello::hello),
    ("splice_host", splicer_hello::host),
    ("splice_rewrite", splicer_rewrite::rewrite),
    ("splice_peek", splicer_peek::sequence),
];

const VM1: &str = "2001:db8:64::101";
const FAR: &str = "2001:db8:6::10";
const HOST4: &str = "198.51.100.10";
const POOL4: &str = "203.0.113.1";

/// The header parsers against `etherparse`: where one takes a header, so does the other, and both read
/// the same.
pub fn wire(b: &[u8]) {
    if let Ok(e) = EthernetRepr::parse(b) {
        let (theirs, rest) = etherparse::Ethernet2Header::from_slice(b).expect("14 octets are there");
        assert_eq!((e.dst.0, e.src.0), (theirs.destination, theirs.source));
        if e.vlan.is_some() {
            let (tag, _) = etherparse::SingleVlanHeader::from_slice(rest).expect("4 octets are there");
            assert_eq!((e.vlan, e.ethertype), (Some(tag.vlan_id.value()), tag.ether_type.0));
        } else {
            assert_eq!(e.ethertype, theirs.ether_type.0);
            assert_ne!(e.ethertype, ethernet::ETHERTYPE_VLAN);
        }
    }
    let theirs = etherparse::Ipv4Header::from_slice(b).ok().map(|(h, _)| h);
    match (Ipv4Repr::parse(b), theirs) {
        (Ok(ours), Some(h)) => {
            assert_eq!((ours.src, ours.dst), (h.source.into(), h.destination.into()));
            assert_eq!((ours.protocol, ours.ttl, ours.id), (h.protocol.0, h.time_to_live, h.identification));
            assert_eq!(ours.tos, h.dscp.value() << 2 | h.ecn.value());
            assert_eq!((ours.header_octets, ours.total_octets), (h.header_len(), usize::from(h.total_len)));
            assert_eq!(ours.frag & ipv4::OFFSET_MASK, h.fragment_offset.value());
            assert_eq!(ours.frag & ipv4::MF != 0, h.more_fragments);
            assert_eq!(ours.frag & ipv4::DF != 0, h.dont_fragment);
            // etherparse forgets the reserved flag, which counts in the sum.
            if ours.frag & 0x8000 == 0 {
                // RFC 1624 3: 0x0000 and 0xffff are the same number; a receiver takes both.
                let stated = if h.header_checksum == 0xffff { 0 } else { h.header_checksum };
                assert_eq!(h.calc_header_checksum(), stated);
            }
        }
        (Ok(ours), None) => panic!("etherparse refuses {ours:?}"),
        (Err(WireError::BadVersion | WireError::Truncated | WireError::BadLength), _) => {}
        (Err(WireError::BadChecksum), h) => {
            let h = h.expect("the header is there");
            if b[6] & 0x80 == 0 {
                assert_ne!(h.calc_header_checksum(), h.header_checksum);
            }
        }
    }
    let theirs = etherparse::Ipv6Header::from_slice(b).ok();
    match (Ipv6Repr::parse(b), theirs) {
        (Ok(ours), Some((h, rest))) => {
            assert_eq!((ours.src, ours.dst), (h.source.into(), h.destination.into()));
            assert_eq!((ours.next_header, ours.hop_limit), (h.next_header.0, h.hop_limit));
            assert_eq!((ours.traffic_class, ours.flow_label), (h.traffic_class, h.flow_label.value()));
            assert_eq!(ours.payload_octets, usize::from(h.payload_length));
            assert!(rest.len() >= ours.payload_octets);
            let mut again = [0xa5; ipv6::HEADER];
            ours.emit(&mut again).expect("40 octets are there");
            assert_eq!(again, b[..ipv6::HEADER]);
        }
        (Ok(ours), None) => panic!("etherparse refuses {ours:?}"),
        (Err(WireError::Truncated), Some((h, rest))) => assert!(rest.len() < usize::from(h.payload_length)),
        (Err(_), Some(_)) => panic!("only etherparse takes it"),
        (Err(_), None) => {}
    }
}

/// The walk over extension headers against that of the test kit.
pub fn ipv6_walk(b: &[u8]) {
    let Ok(ip) = Ipv6Repr::parse(b) else { return };
    let b = &b[..ipv6::HEADER + ip.payload_octets];
    match (ipv6::walk(b, ip.next_header), upper_layer(b)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!((ours.protocol, ours.at), (theirs.protocol, theirs.at));
            assert_eq!(ours.fragment.map(|f| (f.offset, f.more)), theirs.fragment);
            assert!(theirs.extension_headers <= ipv6::MAX_EXTENSION_HEADERS && ours.at <= b.len());
            if let Some(at) = ours.segments_left_at {
                assert!(b[at] != 0 && at < ours.at);
            }
            if let Some(f) = ours.fragment {
                assert_eq!(f.id, u32::from_be_bytes([b[f.at + 4], b[f.at + 5], b[f.at + 6], b[f.at + 7]]));
            }
        }
        (Ok(ours), Err(e)) => panic!("{ours:?}, but {e}"),
        (Err(e), Ok(theirs)) => {
            assert!(theirs.extension_headers > ipv6::MAX_EXTENSION_HEADERS, "{e:?}, but {theirs:?}");
        }
        (Err(_), Err(_)) => {}
    }
}

/// Checksums: the fast sum against the plain loop, and the incremental update against both.
pub fn checksum(b: &[u8]) {
    let plain = |b: &[u8]| {
        let words = b.chunks(2).map(|w| u64::from(w[0]) << 8 | w.get(1).map_or(0, |o| u64::from(*o)));
        let sum: u64 = words.sum();
        (0..4).fold(sum, |s, _| (s & 0xffff) + (s >> 16))
    };
    assert_eq!(u64::from(sums::fold(sums::sum(b, 0))), plain(b));
    let Some((new, old)) = b.split_first_chunk::<16>() else { return };
    if old.len() < 20 {
        return;
    }
    // Sixteen octets of the rest are replaced; where, the first of them says.
    let at = usize::from(new[0]) % ((old.len() - 16) / 2) * 2;
    let mut after = old.to_vec();
    after[at..at + 16].copy_from_slice(new);
    let delta = sums::delta(sums::sum(&old[at..at + 16], 0), sums::sum(new, 0));
    let updated = sums::apply(sums::checksum(old), delta);
    let right = sums::checksum(&after);
    // RFC 1624 3: the two zeros may stand for each other.
    assert!(
        updated == right || updated ^ right == 0xffff && (updated == 0 || right == 0),
        "{updated} {right}"
    );
}

/// The route lookup against a linear scan. Octets are prefixes and then addresses, eighteen each.
pub fn routes(b: &[u8]) {
    let mut words = b.chunks_exact(18).map(|c| {
        let mut o = [0; 16];
        o.copy_from_slice(&c[2..]);
        // Few distinct bits, so that prefixes nest.
        let a = u128::from_be_bytes(o) & !(0x00ff_ffff_u128 << 64);
        (c[0] % 129, c[1], a)
    });
    let count = usize::from(b.first().copied().unwrap_or(0)) % 24;
    let mut list: Vec<Route6> = Vec::new();
    for (len, target, a) in words.by_ref().take(count) {
        let prefix = Prefix6::containing(Ipv6Addr::from_bits(a), len).expect("at most 128");
        let target =
            if target % 5 == 0 { Target::Unreachable } else { Target::OnLink(IfId(u16::from(target) % 3)) };
        if list.iter().all(|r| r.prefix != prefix) {
            list.push(Route6 { prefix, target });
        }
    }
    let mut bare = lab_interfaces();
    bare.iter_mut().for_each(|i| i.addrs6.clear());
    let bare = Interfaces::new(bare);
    list.retain(|r| Routes::build(&bare, std::slice::from_ref(r), &[]).is_ok());
    let table = Routes::build(&bare, &list, &[]).expect("each route alone is right");
    for (_, _, a) in words {
        let dst = Ipv6Addr::from_bits(a);
        let routable = !dst.is_multicast() && !dst.is_unicast_link_local();
        let best = list.iter().filter(|r| routable && r.prefix.contains(dst)).max_by_key(|r| r.prefix.len());
        let want = best.and_then(|r| match r.target {
            Target::OnLink(interface) => Some((interface, Via::Ip6(dst))),
            Target::Via { .. } | Target::Unreachable => None,
        });
        assert_eq!(table.lookup6(dst).map(|e| (e.interface(), e.via())), want, "{dst}");
    }
}

fn classifier() -> Classifier {
    let nat64 = vec!["2001:db8:64:ff9b::/96".parse().expect("a prefix")];
    let pool = vec!["203.0.113.0/28".parse().expect("a prefix")];
    Classifier::new(&Interfaces::new(lab_interfaces()), &[Vec::new(), Vec::new()], nat64, pool)
}

fn classified(frame: &[u8]) -> Option<(Class, Packet<HeapFrame>)> {
    let (port, frame) = frame.split_first()?;
    classifier().classify(u16::from(*port) % 3, HeapFrame::new(&frame[..frame.len().min(9000)])).ok()
}

/// Classification of any frame; the first octet is the port. What gets through is a packet of exactly the
/// length that its header states, and what is known of it is true.
pub fn classify(b: &[u8]) {
    let Some((class, packet)) = classified(b) else { return };
    let (p, meta) = (packet.bytes(), packet.meta);
    assert!(b.len() >= p.len() && meta.src_mac.is_unicast() && !meta.hop_done && meta.again == 0);
    assert!(usize::from(meta.ingress.0) < lab_interfaces().len());
    match meta.ethertype {
        ethernet::ETHERTYPE_ARP => assert_eq!(class, Class::Local),
        ethernet::ETHERTYPE_IPV4 => {
            let ours = Ipv4Repr::parse(p).expect("it was parsed before");
            assert_eq!(ours.total_octets, p.len());
            assert_eq!((meta.protocol, usize::from(meta.l4)), (ours.protocol, ours.header_octets));
            assert_eq!(meta.fragment, ours.is_fragment());
            assert!(!meta.l2_group || class == Class::Local);
        }
        ethernet::ETHERTYPE_IPV6 => {
            let ours = Ipv6Repr::parse(p).expect("it was parsed before");
            assert_eq!(ipv6::HEADER + ours.payload_octets, p.len());
            assert!(!meta.l2_group || class == Class::Local);
            match upper_layer(p) {
                Ok(u) if u.extension_headers <= ipv6::MAX_EXTENSION_HEADERS => {
                    assert_eq!((meta.protocol, usize::from(meta.l4)), (u.protocol, u.at));
                    assert_eq!(meta.fragment, u.fragment.is_some_and(|(offset, more)| more || offset != 0));
                }
                // What the gateway looks into has been walked.
                _ => assert_eq!(class, Class::Forward6),
            }
        }
        other => panic!("EtherType {other:#06x} got through"),
    }
}

/// Judges what was sent: the error itself has to be right whatever it is about.
fn judge(rig: &mut Rig) {
    for p in rig.outbox.drain() {
        match check_packet_with(p.bytes(), Inner::Header) {
            Ok(()) => {}
            Err(e) if e.starts_with("inside the ICMP error") => {}
            Err(e) => panic!("{e}: {}", causeway_testkit::describe(p.bytes())),
        }
    }
}

/// Errors about any packet, whole or not. The first octet chooses the error.
pub fn icmp_error(b: &[u8]) {
    let Some((choice, octets)) = b.split_first() else { return };
    let mut rig = Rig::lab();
    let mut errors = IcmpErrors::new(10, 10);
    let mut packet =
        rig.packet(["tenant0", "uplink0"][usize::from(choice & 1)], &octets[..octets.len().min(9000)]);
    packet.meta.l2_group = choice & 2 != 0;
    let pointer = u32::from(*choice);
    let six = [
        Error6::Unreachable(Unreachable6::NoRoute),
        Error6::PacketTooBig { mtu: 1400 },
        Error6::HopLimitExceeded,
        Error6::HeaderField { pointer },
        Error6::Option { pointer },
    ];
    let four = [
        Error4::Unreachable(Unreachable4::FragmentationNeeded { mtu: 1400 }),
        Error4::TtlExceeded,
        Error4::HeaderField { pointer: *choice },
    ];
    errors.send6(&mut rig.ctx(), &packet, six[usize::from(choice >> 2) % six.len()]);
    errors.send4(&mut rig.ctx(), &packet, four[usize::from(choice >> 2) % four.len()]);
    judge(&mut rig);
}

/// The tenant network is closed in every second run: the flow label decides.
fn want_closed(packet: &Packet<HeapFrame>) -> bool {
    packet.bytes()[3] & 1 == 1
}

const TABLE: causeway_flowtable::Config = causeway_flowtable::Config {
    sessions: 64,
    mappings: 0,
    spliced: 0,
    workers: 1,
    control_readers: 1,
    seed: [1, 2, 3, 4],
};

/// Classification and forwarding of any frame: a verdict for each, the packet unchanged but for its hop
/// limit, and errors that are right.
pub fn forward(b: &[u8]) {
    let Some((Class::Forward6, packet)) = classified(b) else { return };
    let mut rig = Rig::lab();
    let mut config = Config::new(&rig.interfaces, &Isolation::default(), 10, 10).expect("the lab is right");
    if want_closed(&packet) {
        config = config.with_inbound(IfId(0), Inbound::Closed).expect("a tenant network");
    }
    let mut stage = Forward::new(Arc::new(config));
    let mut want = packet.bytes().to_vec();
    let mut packets = [packet];
    let mut verdicts = [Verdict::Consume];
    let table = causeway_flowtable::FlowTable::new(&TABLE).expect("a small table");
    let mut worker = table.worker(0).expect("nobody else is worker 0");
    stage.process(&mut rig.ctx(), &worker.enter(), &mut packets, &mut verdicts);
    match verdicts[0] {
        Verdict::Forward { egress } => {
            want[ipv6::HOP_LIMIT] -= 1;
            let mtu = rig.interfaces.get(egress.interface()).expect("an interface").mtu;
            assert!(want[ipv6::HOP_LIMIT] > 0 && want.len() <= usize::from(mtu));
            let src = ipv6::addr(&want, ipv6::SRC);
            assert!(!src.is_unicast_link_local() && !src.is_unspecified() && !src.is_multicast());
        }
        Verdict::Drop(_) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(packets[0].bytes(), want);
    judge(&mut rig);
}

/// Frames one after the other: each behind its port and its length, both at most 11 bits wide.
fn frames(b: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = b;
    std::iter::from_fn(move || {
        let (length, more) = rest.split_first_chunk::<2>()?;
        let octets = usize::from(u16::from_be_bytes(*length) & 0x7ff).min(more.len());
        let (frame, behind) = more.split_at(octets);
        rest = behind;
        Some(frame)
    })
    .take(16)
}

/// Frames for the gateway itself: ARP, ND, echo, and whatever else. One after the other into one
/// neighbour table, with a second between them.
pub fn local(b: &[u8]) {
    let mut rig = Rig::lab();
    let config = causeway_neighbor::Config {
        capacity: 64,
        per_interface: 32,
        incomplete: 16,
        incomplete_per_interface: 8,
        learned: 16,
        learned_per_interface: 8,
        queue_frames: 16,
        ..causeway_neighbor::Config::default()
    };
    let shared = Arc::new(causeway_neighbor::Resolved::new(&config, 1));
    let mut neighbors =
        causeway_neighbor::Neighbors::new(&config, shared, 0, &rig.interfaces).expect("right");
    let mut errors = IcmpErrors::new(10, 10);
    for frame in frames(b) {
        let Some((class, mut packet)) = classified(frame) else { continue };
        let octets = packet.bytes().len();
        if class == Class::Local {
            let verdict = neighbors.local(&mut rig.ctx(), &mut errors, &mut packet);
            match verdict {
                Verdict::Forward { egress } => {
                    assert!(rig.interfaces.get(egress.interface()).is_some());
                    reply(packet.bytes());
                }
                Verdict::Consume | Verdict::Drop(_) => {}
                other => panic!("{other:?}"),
            }
            assert!(octets < 9001);
        } else if let Some(egress) = destination(&rig, packet.bytes()) {
            // Something to look a next hop up for.
            packet.meta.egress = egress;
            if neighbors.resolve(&rig.ctx(), &egress) == causeway_neighbor::Resolution::Hold {
                neighbors.hold(&mut rig.ctx(), &mut errors, packet);
            }
        }
        for p in rig.outbox.drain() {
            reply(p.bytes());
        }
        rig.advance(causeway_core::Duration::from_secs(1));
        neighbors.tick(&mut rig.ctx(), &mut errors, 64);
        for p in rig.outbox.drain() {
            reply(p.bytes());
        }
        rig.take_events();
    }
}

fn destination(rig: &Rig, b: &[u8]) -> Option<causeway_core::Egress> {
    match b[0] >> 4 {
        6 => rig.routes.lookup6(ipv6::addr(b, ipv6::DST)),
        _ => None,
    }
}

/// Judges what the gateway says itself. What waited for its next hop goes out as it came, and an ICMP
/// error may be about something wrong.
fn reply(b: &[u8]) {
    if b[0] >> 4 != 4 && b[0] >> 4 != 6 {
        assert_eq!(b.len(), 28, "ARP for Ethernet and IPv4");
        return;
    }
    let own = [&b[8..24], &[0; 16]];
    let ours = lab_interfaces().iter().any(|i| b[0] >> 4 == 6 && i.owns6(ipv6::addr(own[0], 0)));
    if let (true, Err(e)) = (ours, check_packet_with(b, Inner::Header)) {
        assert!(e.starts_with("inside the ICMP error"), "{e}: {}", causeway_testkit::describe(b));
    }
}

/// NAT64, both ways, frames one after the other over one flow table. Whatever comes out of a packet that
/// was right is right.
pub fn translate(b: &[u8]) {
    translated(b);
}

/// As [`translate`]; gives how many packets came out.
fn translated(b: &[u8]) -> usize {
    use causeway_nat64::{Config, Nat64, Options, Pool4};
    let mut rig = Rig::lab();
    let options = Options {
        prefixes: vec!["2001:db8:64:ff9b::/96".parse().expect("a prefix")],
        pool: vec!["203.0.113.1/32".parse().expect("a prefix")],
        first_port: 4000,
        last_port: 4015,
        ..Options::default()
    };
    let config = Arc::new(Config::new(options).expect("right"));
    let pool = Arc::new(Pool4::new(&config));
    let mut nat64 = Nat64::<HeapFrame>::new(config, pool, IcmpErrors::new(10, 10));
    let table = causeway_flowtable::FlowTable::new(&causeway_flowtable::Config { mappings: 64, ..TABLE });
    let table = table.expect("a small table");
    let mut worker = table.worker(0).expect("nobody else is worker 0");
    // A fragment that was wrong may wait, and come out later.
    let mut right = true;
    let mut translated = 0;
    for frame in frames(b) {
        let Some((class, packet)) = classified(frame) else { continue };
        right &= causeway_testkit::check_packet(packet.bytes()).is_ok();
        let mut packets = [packet];
        let mut verdicts = [Verdict::Consume];
        let guard = worker.enter();
        for (n, class) in [class, Class::Nat64Out].into_iter().enumerate() {
            match class {
                Class::Nat64In => nat64.v6_to_v4(&mut rig.ctx(), &guard, &mut packets, &mut verdicts),
                Class::Nat64Out => nat64.v4_to_v6(&mut rig.ctx(), &guard, &mut packets, &mut verdicts),
                Class::Forward6 | Class::Local | Class::SpliceOut | Class::SpliceIn => break,
            }
            match verdicts[0] {
                Verdict::Forward { egress } => {
                    assert!(rig.interfaces.get(egress.interface()).is_some());
                    let out = packets[0].bytes();
                    let judged = check_packet_with(out, Inner::Header);
                    assert!(!right || judged.is_ok(), "{judged:?}: {}", causeway_testkit::describe(out));
                    translated += 1;
                }
                Verdict::Held => {
                    let [packet] = packets;
                    nat64.hold(&mut rig.ctx(), &guard, packet);
                    break;
                }
                // A hairpin: once more, the other way.
                Verdict::Again(again) => {
                    assert_eq!((n, again), (0, Class::Nat64Out));
                    continue;
                }
                Verdict::Drop(_) | Verdict::Consume | Verdict::Owner(_) => {}
            }
            break;
        }
        drop(guard);
        for p in rig.outbox.drain() {
            let judged = check_packet_with(p.bytes(), Inner::Header);
            assert!(!right || judged.is_ok(), "{judged:?}: {}", causeway_testkit::describe(p.bytes()));
        }
        rig.take_events();
        rig.advance(causeway_core::Duration::from_millis(300));
    }
    translated
}

/// What a target begins with, by name.
#[must_use]
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let packets: Vec<Vec<u8>> =
        [samples(VM1, FAR, HOST4, POOL4), samples(FAR, VM1, HOST4, "192.0.2.2")].concat();
    let frame = |n: usize, p: &[u8]| {
        let port = u8::from(n % 2 == 1 || p[0] >> 4 == 4);
        let to = MacAddr([2, 0, 0, 0, 0x64, port + 1]);
        [&[port][..], &eth(to, causeway_testkit::mac(9)).carry(p)].concat()
    };
    let named = |what: &str, octets: Vec<u8>, n: usize| (format!("{what}-{n:02}"), octets);
    let mut list: Vec<(String, Vec<u8>)> = match target {
        "wire" | "ipv6_walk" | "checksum" => {
            packets.into_iter().enumerate().map(|(n, p)| named("packet", p, n)).collect()
        }
        "classify" | "forward" => packets
            .iter()
            .enumerate()
            .flat_map(|(n, p)| [named("frame", frame(n, p), n), named("other-port", frame(n + 1, p), n)])
            .collect(),
        "icmp_error" => packets
            .into_iter()
            .enumerate()
            .map(|(n, p)| named("about", [&[n as u8 * 4][..], &p].concat(), n))
            .collect(),
        "local" => sequences(&[samples(VM1, "2001:db8:64::1", HOST4, "192.0.2.2"), neighbors(), packets]),
        "ra" => sequences(&[ra::packets(), neighbors()]),
        "translate" => {
            let out = samples(VM1, "2001:db8:64:ff9b::c633:640a", HOST4, POOL4);
            let hairpin = samples(VM1, "2001:db8:64:ff9b::cb00:7101", HOST4, POOL4);
            sequences(&[out, hairpin])
        }
        "routes" => {
            let row = |len: u8, target: u8, a: &str| {
                [&[len, target][..], &a.parse::<Ipv6Addr>().expect("an address").octets()].concat()
            };
            let nested = [
                row(4, 1, "::"),
                row(48, 2, "2001:db8:64::"),
                row(64, 3, "2001:db8:64:1::"),
                row(128, 5, FAR),
            ];
            let asked = [row(0, 0, "2001:db8:64:1::9"), row(0, 0, FAR), row(0, 0, "2001:db8:64::1")];
            vec![named("nested", [nested.concat(), asked.concat()].concat(), 0)]
        }
        "vrrp" => vrrp::seeds(),
        "splice_hello" | "splice_host" => splicer_hello::seeds(target),
        "splice_rewrite" => splicer_rewrite::seeds(),
        "dns_query" => dns_query::seeds(),
        "dns_tcp" => dns_tcp::seeds(),
        "splice_peek" => splicer_peek::seeds(),
        "dhcpv6_message" | "dhcpv6_engine" => dhcpv6::seeds(target),
        "dns_upstream" | "dns_sequence" => dns_upstream::seeds(target),
        _ => nat64::seeds(target),
    };
    list.extend(found(target));
    list
}

/// ARP and ND as the lab's hosts send them.
fn neighbors() -> Vec<Vec<u8>> {
    use causeway_testkit::{arp_reply, arp_request, ip6, mac};
    vec![
        arp_request(mac(9), "192.0.2.1", "192.0.2.2"),
        arp_reply(mac(9), "192.0.2.1", MacAddr([2, 0, 0, 0, 0x64, 2]), "192.0.2.2"),
        arp_request(mac(9), "0.0.0.0", "192.0.2.2"),
        ip6(VM1, "ff02::1:ff00:1").ns("2001:db8:64::1", Some(mac(9))),
        ip6("fe80::9", "fe80::1").ns("fe80::1", Some(mac(9))),
        ip6("::", "ff02::1:ff00:1").ns("fe80::1", None),
        ip6(VM1, "fe80::1").na(VM1, false, true, true, Some(mac(9))),
        ip6(VM1, "ff02::1").na(VM1, false, false, true, Some(mac(9))),
        ip6("fe80::9", "ff02::2").rs(Some(mac(9))),
        ip6(VM1, "2001:db8:64::1").echo_request(1, 2, b"ping"),
    ]
}

/// Each packet alone, and all of each list in rows of eight, framed and behind their lengths.
fn sequences(lists: &[Vec<Vec<u8>>]) -> Vec<(String, Vec<u8>)> {
    let framed = |p: &Vec<u8>| {
        let port = u8::from(p[0] >> 4 != 6);
        let frame = eth(MacAddr([2, 0, 0, 0, 0x64, port + 1]), causeway_testkit::mac(9)).carry(p);
        let octets = u16::try_from(frame.len() + 1).expect("a short frame").to_be_bytes();
        [&octets[..], &[port], &frame].concat()
    };
    let mut list = Vec::new();
    for (l, packets) in lists.iter().enumerate() {
        for (n, p) in packets.iter().enumerate() {
            list.push((format!("single-{l}-{n:02}"), framed(p)));
        }
        for (n, row) in packets.chunks(8).enumerate() {
            list.push((format!("row-{l}-{n:02}"), row.iter().flat_map(framed).collect()));
        }
    }
    list
}

/// Inputs that once made a target fail, by what was wrong.
fn found(target: &str) -> Vec<(String, Vec<u8>)> {
    let rows: &[(&str, &str, &[u8])] = &[(
        "wire",
        "reserved-flag-of-ipv4",
        &[
            69, 1, 0, 38, 255, 0, 192, 255, 64, 17, 212, 134, 198, 51, 100, 10, 203, 0, 113, 1, 15, 160, 0,
            53, 0, 19, 0, 0, 110, 111, 32, 99, 104, 101, 99, 107, 115, 117, 109,
        ],
    )];
    rows.iter().filter(|(t, ..)| *t == target).map(|(_, name, b)| ((*name).to_owned(), b.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_seed_goes_through_every_target() {
        for (target, run) in TARGETS {
            assert!(!seeds(target).is_empty(), "{target} begins with nothing");
            for (name, octets) in TARGETS.iter().flat_map(|(t, _)| seeds(t)) {
                println!("{target} {name}");
                run(&octets);
            }
        }
    }

    #[test]
    fn the_seeds_reach_what_the_targets_are_for() {
        let classes: Vec<Class> =
            seeds("classify").iter().filter_map(|(_, b)| classified(b)).map(|c| c.0).collect();
        assert!(classes.iter().filter(|c| **c == Class::Forward6).count() > 10, "{classes:?}");
        assert!(classes.contains(&Class::Nat64Out) && classes.contains(&Class::Local), "{classes:?}");
        let out: usize = seeds("translate").iter().map(|(_, b)| translated(b)).sum();
        assert!(out > 20, "only {out} packets come out of NAT64");
        let dns = seeds("dns_query").iter().filter(|(_, b)| dns_query::answered(b)).count();
        assert!(dns > 40, "only {dns} questions are answered");
        let (mut one, mut all) = (0, 0);
        for (_, b) in seeds("ra") {
            let (more_one, more_all) = ra::advertised(&b);
            (one, all) = (one + more_one, all + more_all);
        }
        assert!(one > 20 && all > 40, "{one} advertisements to one, {all} to all");
        let hellos = seeds("splice_hello").iter().filter(|(_, b)| splicer_hello::read_hello(b)).count();
        let hosts = seeds("splice_host").iter().filter(|(_, b)| splicer_hello::read_host(b)).count();
        assert_eq!((hellos, hosts), (9 * 3, 8 * 3), "clients that can be sent to a site");
        let spliced: usize = seeds("splice_rewrite").iter().map(|(_, b)| splicer_rewrite::passed(b)).sum();
        assert!(spliced > 300, "only {spliced} segments are passed on");
    }
}
