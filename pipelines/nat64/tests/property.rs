//! Random packets against the oracle, and hostile frames. Random sequences are in `model.rs`.

mod common;

use causeway_core::{DropReason, Frame, HeapFrame, Packet, Verdict};
use causeway_nat64::Options;
use causeway_testkit::mutate::{hostile, samples};
use causeway_testkit::nat64_oracle::{self, Flow};
use causeway_testkit::{Ip6, check_packet, describe, fragments4, fragments6, ip4, ip6, reassemble, tcp};
use common::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const PREFIXES: [&str; 6] = [
    "2001:db8::/32",
    "2001:db8:100::/40",
    "2001:db8:122::/48",
    "2001:db8:122:300::/56",
    "2001:db8:122:344::/64",
    "2001:db8:64:ff9b::/96",
];

#[derive(Debug, Clone)]
struct Sample {
    prefix: usize,
    host: u64,
    server: u32,
    protocol: u8,
    ports: (u16, u16),
    class: u8,
    hops: u8,
    chain: Vec<u8>,
    flags: u8,
    data: Vec<u8>,
    reply: Vec<u8>,
    df: bool,
    options: usize,
}

fn sample() -> impl Strategy<Value = Sample> {
    let flow =
        (0usize..6, any::<u64>(), 0x0100_0000u32..0x7f00_0000, prop_oneof![Just(6u8), Just(17), Just(1)]);
    let header =
        (any::<(u16, u16)>(), any::<u8>(), 2u8.., proptest::collection::vec(0u8..4, 0..3), any::<u8>());
    let size = prop_oneof![0usize..64, 1180usize..1260, 0usize..1400];
    let data = (size.clone(), size, any::<u8>()).prop_map(|(a, b, s)| {
        let fill =
            |n: usize, k: u8| (0..n).map(|i| (i as u8).wrapping_mul(k).wrapping_add(s)).collect::<Vec<u8>>();
        (fill(a, 31), fill(b, 17))
    });
    (flow, header, data, any::<bool>(), 0usize..4).prop_map(
        |(
            (prefix, host, server, protocol),
            (ports, class, hops, chain, flags),
            (data, reply),
            df,
            options,
        )| Sample {
            prefix,
            host,
            server,
            protocol,
            ports,
            class,
            hops,
            chain,
            flags,
            data,
            reply,
            df,
            options,
        },
    )
}

/// Adds extension headers that are skipped.
fn chained(mut b: Ip6, chain: &[u8]) -> Ip6 {
    for (n, c) in chain.iter().enumerate() {
        b = match c {
            0 if n == 0 => b.hop_by_hop(&[1, 4, 0, 0, 0, 0]),
            1 => b.routing(4, 0, &[0; 4]),
            _ => b.dest_options(&[1, 4, 0, 0, 0, 0]),
        };
    }
    b
}

/// Somebody complains about a packet.
#[derive(Debug, Clone)]
struct Complaint {
    protocol: u8,
    data: Vec<u8>,
    /// Octets of the upper layer that are repeated in the error, at most.
    kept: usize,
    class: u8,
    hops: u8,
    df: bool,
    id: u32,
    options: usize,
    first_of_many: bool,
    /// Type and code of the ICMP error, and of the ICMPv6 error.
    four: (u8, u8),
    six: (u8, u8),
    word: u32,
    extension: Option<Vec<u8>>,
}

impl Complaint {
    /// The body of the error and, if it has an extension, the length before that in words.
    fn body(&self, whole: &[u8], head: usize, word: usize) -> (Vec<u8>, u8) {
        // Words are counted in one octet.
        let mut b = whole[..whole.len().min(head + self.kept).min(1000)].to_vec();
        let Some(extension) = &self.extension else { return (b, 0) };
        b.resize(b.len().next_multiple_of(word).max(128), 0);
        let words = u8::try_from(b.len() / word).unwrap();
        b.extend(extension);
        (b, words)
    }
}

fn complaint() -> impl Strategy<Value = Complaint> {
    let four =
        prop_oneof![(Just(3u8), 0u8..17), (Just(11u8), 0u8..2), (Just(12u8), 0u8..4), (4u8..7, 0u8..2)];
    let six =
        prop_oneof![(Just(1u8), 0u8..8), (Just(2u8), Just(0u8)), (Just(3u8), 0u8..2), (Just(4u8), 0u8..4)];
    let protocol = prop_oneof![Just(6u8), Just(17), Just(1)];
    let octets = |n| proptest::collection::vec(any::<u8>(), 0..n);
    let data = prop_oneof![octets(64), octets(1300)];
    let packet = (protocol, data, 8usize..1300, any::<u8>(), any::<u8>(), any::<bool>(), any::<u32>());
    let objects = proptest::collection::vec(any::<[u8; 4]>(), 1..12).prop_map(|w| w.concat());
    let kinds = (0usize..4, any::<bool>(), four, six, any::<u32>(), proptest::option::of(objects));
    (packet, kinds).prop_map(
        |(
            (protocol, data, kept, class, hops, df, id),
            (options, first_of_many, four, six, word, extension),
        )| {
            Complaint {
                protocol,
                data,
                kept,
                class,
                hops,
                df,
                id,
                options,
                first_of_many,
                four,
                six,
                word,
                extension,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_translated_packet_equals_the_oracles(s in sample()) {
        let mut g = Gateway::with(Options { prefixes: vec![PREFIXES[s.prefix].parse().unwrap()], ..options() });
        let host6 = Ipv6Addr::from_bits(0x2001_0db8_0064_0000 << 64 | u128::from(s.host));
        prop_assume!(!g.nat.config().prefixes().contains(host6) || s.prefix == 0);
        // Under the /32 everything of the lab is under the prefix: take a host from elsewhere.
        let host6 = if s.prefix == 0 { Ipv6Addr::from_bits(0x2001_0db9 << 96 | u128::from(s.host)) } else { host6 };
        g.rig.routes = open_routes(&g);
        let remote4 = Ipv4Addr::from_bits(s.server);
        let remote6 = g.nat.config().prefixes().get(0).unwrap().embed(remote4);
        let (hp, rp) = s.ports;
        let b = chained(ip6(host6, remote6).traffic_class(s.class).hop_limit(s.hops), &s.chain);
        let p = match s.protocol {
            17 => b.udp(hp, rp, &s.data),
            6 => b.tcp(&tcp(hp, rp).syn().payload(&s.data)),
            _ => b.echo_request(hp, rp, &s.data),
        };
        let got = g.six(&p).sent();
        check_packet(&got).map_err(|e| TestCaseError::fail(format!("{e}: {}", describe(&got))))?;
        let at = if s.protocol == 1 { 24 } else { 20 };
        let out = (Ipv4Addr::new(got[12], got[13], got[14], got[15]), u16::from_be_bytes([got[at], got[at + 1]]));
        prop_assert!(g.nat.pool().contains(out.0) && out.1 >= 1024);
        let rp = if s.protocol == 1 { 0 } else { rp };
        let f = Flow { host6, host_port: hp, remote4, remote6, remote_port: rp, out4: out.0, out_port: out.1 };
        let want = nat64_oracle::v6_to_v4(&p, &f, &choice(id_of(&got))).unwrap();
        prop_assert_eq!(&got, &want, "{} not {}", describe(&got), describe(&want));

        // And back. The payload and the ports are what they were.
        let options: &[u8] = [&[][..], &[1, 1, 1, 0], &[7, 7, 4, 0, 0, 0, 0, 0], &[148, 4, 0, 0]][s.options];
        let b = ip4(remote4, out.0).tos(s.class).ttl(s.hops).df(s.df).id(0x4321).options(options);
        let p = match s.protocol {
            17 => b.udp(rp, out.1, &s.reply),
            6 => b.tcp(&tcp(rp, out.1).syn().ack(9).payload(&s.reply)),
            _ => b.echo_reply(out.1, s.ports.1, &s.reply),
        };
        let fate = g.four(&p);
        let want = nat64_oracle::v4_to_v6(&p, &f, &choice(0)).unwrap();
        let first = fate.sent();
        let mut all = vec![first];
        all.extend(g.rig.sent().into_iter().map(|l| l.octets));
        let cut = !s.df && want.len() > 1280;
        prop_assert_eq!(all.len() > 1, cut);
        let got = if cut { reassemble(&all).map_err(TestCaseError::fail)? } else { all.remove(0) };
        prop_assert_eq!(&got, &want, "{} not {}", describe(&got), describe(&want));
        check_packet(&got).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&got[got.len() - s.reply.len()..], &s.reply[..]);

        // An error about what the server got, and one about what the host got, whole or cut.
        let keep = |b: &[u8]| b[..b.len().min(20 + 8 + usize::from(s.flags) * 3).min(548)].to_vec();
        let sent4 = keep(&want_v4(&mut g, host6, remote6, &s));
        let e = ip4(remote4, out.0).icmp(11, 0, [0; 4], &sent4);
        let got = g.four(&e).sent();
        let want = nat64_oracle::v4_to_v6(&e, &f, &choice(0)).unwrap();
        prop_assert_eq!(&got, &want, "{} not {}", describe(&got), describe(&want));
        let sent6: Vec<u8> = want_v6(&mut g, remote4, out, &s);
        let sent6 = sent6[..sent6.len().min(48 + 8 + usize::from(s.flags) * 3).min(1200)].to_vec();
        let e = ip6(host6, remote6).icmp(1, 4, [0; 4], &sent6);
        let got = g.six(&e).sent();
        let want = nat64_oracle::v6_to_v4(&e, &f, &choice(id_of(&got))).unwrap();
        prop_assert_eq!(&got, &want, "{} not {}", describe(&got), describe(&want));
    }

    #[test]
    fn fragments_equal_the_oracles_fragment_by_fragment(
        n in 1300usize..4000, mtu in 200usize..1400, protocol in prop_oneof![Just(6u8), Just(17)], id: u16, class: u8,
    ) {
        let mut g = Gateway::lab();
        let data: Vec<u8> = (0..n).map(|i| i as u8).collect();
        let six = ip6(VM1, SERVER6);
        let open = if protocol == 17 { six.udp(4000, 53, b"") } else { six.tcp(&tcp(4000, 53).syn()) };
        let out = g.open(&open);
        let f = flow(VM1, 4000, 53, out);
        let b = ip4(SERVER, out.0).tos(class).df(false);
        let whole = if protocol == 17 { b.udp(53, out.1, &data) } else { b.tcp(&tcp(53, out.1).ack(1).payload(&data)) };
        for p in fragments4(&whole, mtu, id) {
            let got = g.four(&p).sent();
            let more = g.rig.sent();
            if more.is_empty() {
                prop_assert_eq!(&got, &nat64_oracle::v4_to_v6(&p, &f, &choice(0)).unwrap());
            } else {
                prop_assert!(p.len() + 28 > 1280);
            }
        }
    }

    #[test]
    fn fragments_to_ipv4_equal_the_oracles_fragment_by_fragment(
        n in 1600usize..4000, mtu in 1280usize..1500, protocol in prop_oneof![Just(6u8), Just(17)], id: u32, class: u8,
        chain in proptest::collection::vec(0u8..4, 0..3),
    ) {
        let mut g = Gateway::lab();
        let data: Vec<u8> = (0..n).map(|i| i as u8).collect();
        let b = ip6(VM1, SERVER6).traffic_class(class);
        let whole = if protocol == 17 { b.udp(4000, 53, &data) } else { b.tcp(&tcp(4000, 53).syn().payload(&data)) };
        let (mut out, mut left) = (None, Vec::new());
        for p in fragments6(&whole, mtu, id) {
            // Extension headers before the Fragment header.
            let offset = u16::from_be_bytes([p[42], p[43]]);
            let p = chained(ip6(VM1, SERVER6).traffic_class(class), &chain)
                .fragment(offset >> 3, offset & 1 == 1, id)
                .raw(protocol, &p[48..]);
            let got = g.six(&p).sent();
            let out = *out.get_or_insert_with(|| {
                (Ipv4Addr::new(got[12], got[13], got[14], got[15]), u16::from_be_bytes([got[20], got[21]]))
            });
            let f = flow(VM1, 4000, 53, out);
            prop_assert_eq!(&got, &nat64_oracle::v6_to_v4(&p, &f, &choice(0)).unwrap());
            left.push(got);
        }
        let whole = reassemble(&left).map_err(TestCaseError::fail)?;
        check_packet(&whole).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&whole[whole.len() - n..], &data[..]);
    }

    /// Errors of every kind, about packets of every kind, whole, cut, fragmented, with options and extension
    /// headers, with and without extensions behind them.
    #[test]
    fn every_error_equals_the_oracles(e in complaint()) {
        let mut g = Gateway::lab();
        let opening = match e.protocol {
            17 => ip6(VM1, SERVER6).udp(4000, 53, b""),
            6 => ip6(VM1, SERVER6).tcp(&tcp(4000, 53).syn()),
            _ => ip6(VM1, SERVER6).echo_request(4000, 1, b""),
        };
        let out = g.open(&opening);
        let f = flow(VM1, 4000, if e.protocol == 1 { 0 } else { 53 }, out);
        let _ = g.rig.sent();

        // About what the server got.
        let options: &[u8] = [&[][..], &[1, 1, 1, 0], &[7, 7, 4, 0, 0, 0, 0, 0], &[148, 4, 0, 0]][e.options];
        let b = ip4(out.0, SERVER).tos(e.class).ttl(e.hops).df(e.df).id(e.id as u16).options(options);
        let upper = match e.protocol {
            17 => ip4(out.0, SERVER).udp(out.1, 53, &e.data),
            6 => ip4(out.0, SERVER).tcp(&tcp(out.1, 53).ack(1).payload(&e.data)),
            _ => ip4(out.0, SERVER).echo_request(out.1, 1, &e.data),
        };
        let upper = &upper[20..];
        let whole = match e.first_of_many && e.protocol != 1 {
            true => b.df(false).fragment(0, true).raw(e.protocol, &upper[..upper.len() / 8 * 8]),
            false => b.raw(e.protocol, upper),
        };
        let (kind, code) = e.four;
        let (body, words) = e.body(&whole, 20 + options.len(), 4);
        let mut word = e.word.to_be_bytes();
        word[1] = words;
        let p = ip4(SERVER, out.0).icmp(kind, code, word, &body);
        match (g.four(&p), nat64_oracle::v4_to_v6(&p, &f, &choice(0))) {
            (Fate::Sent(got, _), Some(want)) => {
                prop_assert_eq!(&got, &want, "{} not {}", describe(&got), describe(&want));
            }
            (Fate::Dropped(DropReason::Nat64IcmpType), None) => {}
            (got, want) => prop_assert!(false, "{:?}, not {:?}", got, want),
        }

        // About what the host got.
        let b = ip6(SERVER6, VM1).traffic_class(e.class).hop_limit(e.hops);
        let upper = match e.protocol {
            17 => ip6(SERVER6, VM1).udp(53, 4000, &e.data),
            6 => ip6(SERVER6, VM1).tcp(&tcp(53, 4000).ack(1).payload(&e.data)),
            _ => ip6(SERVER6, VM1).echo_reply(4000, 1, &e.data),
        };
        let upper = &upper[40..];
        let protocol = if e.protocol == 1 { 58 } else { e.protocol };
        let (whole, head) = match e.first_of_many && e.protocol != 1 {
            true => (b.fragment(0, true, e.id).raw(protocol, &upper[..upper.len() / 8 * 8]), 48),
            false => (b.raw(protocol, upper), 40),
        };
        let (kind, code) = e.six;
        let (body, words) = e.body(&whole, head, 8);
        let mut word = e.word.to_be_bytes();
        if matches!(kind, 1 | 3) {
            word[0] = words;
        }
        // Of Packet Too Big and Parameter Problem the octets that are told are within reason.
        if matches!(kind, 2 | 4) {
            word = (e.word % if kind == 2 { 10_000 } else { 45 }).to_be_bytes();
        }
        let p = ip6(VM1, SERVER6).icmp(kind, code, word, &body);
        match (g.six(&p), nat64_oracle::v6_to_v4(&p, &f, &choice(0))) {
            (Fate::Sent(got, _), Some(_)) => {
                let want = nat64_oracle::v6_to_v4(&p, &f, &choice(id_of(&got))).unwrap();
                prop_assert_eq!(&got, &want, "{} not {}", describe(&got), describe(&want));
            }
            (Fate::Dropped(DropReason::Nat64IcmpType), None) => {}
            (got, want) => prop_assert!(false, "{:?}, not {:?}", got, want),
        }
        prop_assert!(g.rig.sent().is_empty());
    }

    #[test]
    fn any_octets_get_one_verdict_and_no_panic(
        octets in proptest::collection::vec(any::<u8>(), 0..200), six: bool, version: bool, fix: bool,
    ) {
        let mut octets = octets;
        if version && !octets.is_empty() {
            octets[0] = if six { 0x60 } else { 0x45 };
        }
        if fix && octets.len() >= 40 {
            let n = octets.len() as u16;
            if six {
                octets[4..6].copy_from_slice(&(n - 40).to_be_bytes());
                octets[24..36].copy_from_slice(&v6(SERVER6).octets()[..12]);
                octets[7] |= 2;
            } else {
                octets[2..4].copy_from_slice(&n.to_be_bytes());
                octets[16..20].copy_from_slice(&[203, 0, 113, 1]);
                octets[8] |= 2;
            }
        }
        let mut g = Gateway::lab();
        one_verdict(&mut g, &octets, six);
    }

    #[test]
    fn hostile_frames_get_one_verdict_and_no_panic(
        six in proptest::collection::vec(hostile(samples(VM1, SERVER6, SERVER, "203.0.113.1"), 0), 1..8),
    ) {
        let mut g = Gateway::lab();
        g.open(&ip6(VM1, SERVER6).udp(4000, 53, b""));
        for p in six {
            one_verdict(&mut g, &p, true);
            one_verdict(&mut g, &p, false);
        }
    }
}

/// Routes for hosts anywhere.
fn open_routes(g: &Gateway) -> causeway_core::Routes {
    use causeway_core::route::{Route4, Route6, Target};
    let tenant = g.rig.interface("tenant0");
    let six = Route6 { prefix: "2000::/3".parse().unwrap(), target: Target::OnLink(tenant) };
    let gateway = Target::Via { gateway: v4("192.0.2.1"), interface: None };
    let four = Route4 { prefix: "0.0.0.0/0".parse().unwrap(), target: gateway };
    causeway_core::Routes::build(&g.rig.interfaces, &[six], &[four]).unwrap()
}

/// A small packet of the flow as the server gets it.
fn want_v4(g: &mut Gateway, host6: Ipv6Addr, remote6: Ipv6Addr, s: &Sample) -> Vec<u8> {
    let data = &s.data[..s.data.len().min(500)];
    let b = ip6(host6, remote6);
    g.six(&match s.protocol {
        17 => b.udp(s.ports.0, s.ports.1, data),
        6 => b.tcp(&tcp(s.ports.0, s.ports.1).ack(1).payload(data)),
        _ => b.echo_request(s.ports.0, 1, data),
    })
    .sent()
}

/// A small packet of the flow as the host gets it.
fn want_v6(g: &mut Gateway, remote4: Ipv4Addr, out: (Ipv4Addr, u16), s: &Sample) -> Vec<u8> {
    let data = &s.reply[..s.reply.len().min(1000)];
    let b = ip4(remote4, out.0);
    g.four(&match s.protocol {
        17 => b.udp(s.ports.1, out.1, data),
        6 => b.tcp(&tcp(s.ports.1, out.1).ack(1).payload(data)),
        _ => b.echo_reply(out.1, 1, data),
    })
    .sent()
}

/// Whatever the octets: no panic, and a verdict that was set.
fn one_verdict(g: &mut Gateway, octets: &[u8], six: bool) {
    let mut meta =
        g.rig.packet(if six { "tenant0" } else { "uplink0" }, &ip6(VM1, SERVER6).udp(1, 2, b"")).meta;
    meta.ethertype = if six { 0x86dd } else { 0x0800 };
    let mut list = [Packet { frame: HeapFrame::new(octets), meta }];
    let mut verdicts = [Verdict::Consume];
    let guard = g.worker.enter();
    let mut ctx = g.rig.ctx();
    if six {
        g.nat.v6_to_v4(&mut ctx, &guard, &mut list, &mut verdicts);
    } else {
        g.nat.v4_to_v6(&mut ctx, &guard, &mut list, &mut verdicts);
    }
    assert_ne!(verdicts[0], Verdict::Consume);
    let [packet] = list;
    if verdicts[0] == Verdict::Held {
        g.nat.hold(&mut ctx, &guard, packet);
    } else if let Verdict::Forward { .. } = verdicts[0] {
        // What leaves has the lengths that it says.
        let b = packet.frame.bytes();
        let octets =
            if six { u16::from_be_bytes([b[2], b[3]]) } else { u16::from_be_bytes([b[4], b[5]]) + 40 };
        assert_eq!(usize::from(octets), b.len());
        assert_eq!(b[0] >> 4, if six { 4 } else { 6 });
    }
    let _ = ctx.outbox.drain().count();
}
