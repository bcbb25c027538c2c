//! NAT64 against the oracle of the test kit, and its state over random histories.
//!
//! The octets are choices: what kind of packet, which fields, how long. So most inputs are packets that get
//! through, and the fuzzer looks for the ones that should not, or come out wrong.

use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{Class, Duration, HeapFrame, Packet, Verdict};
use causeway_flowtable::{FlowTable, Worker};
use causeway_nat64::{
    Allocation, Config, Filtering, Limits, Nat64, Options, Pool4, StaticMapping, Subscribers, Tenant,
    Timeouts, UdpZero,
};
use causeway_testkit::nat64_oracle::{self, Choice, Flow};
use causeway_testkit::{
    Inner, Ip6, Rig, Tcp, check_packet_with, describe, fragments4, fragments6, ip4, ip6, reassemble, tcp,
};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const VM1: &str = "2001:db8:64::101";
const SERVER: &str = "198.51.100.10";
const SERVER6: &str = "2001:db8:64:ff9b::198.51.100.10";

/// Octets as choices. When they run out, all further choices are zero.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.octet(), self.octet()])
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.word()) % n
    }

    fn coin(&mut self) -> bool {
        self.octet() & 1 == 1
    }

    /// Up to `most` octets of payload, from few octets of input.
    fn payload(&mut self, most: usize) -> Vec<u8> {
        let (n, a, b) = (self.below(most + 1), self.octet(), self.octet());
        (0..n).map(|i| (i as u8).wrapping_mul(a).wrapping_add(b)).collect()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A stage over a table of its own.
struct Gateway {
    rig: Rig,
    worker: Worker,
    nat: Nat64<HeapFrame>,
    // The worker's table.
    _table: Arc<FlowTable>,
}

impl Gateway {
    fn new(options: Options) -> Option<Self> {
        let config = Arc::new(Config::new(options).ok()?);
        let pool = Arc::new(Pool4::new(&config));
        let table = FlowTable::new(&causeway_flowtable::Config {
            sessions: 256,
            mappings: 256,
            spliced: 0,
            workers: 1,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        })
        .expect("a small table");
        let worker = table.worker(0).expect("nobody else is worker 0");
        let nat = Nat64::new(config, pool, IcmpErrors::new(1000, 1000));
        Some(Self { rig: Rig::lab(), worker, nat, _table: table })
    }

    /// What leaves when this packet came in: nothing if it was dropped or waits.
    fn pass(&mut self, octets: &[u8]) -> Option<Vec<u8>> {
        let six = octets.first().is_some_and(|o| o >> 4 == 6);
        let mut packets = [self.rig.packet(if six { "tenant0" } else { "uplink0" }, octets)];
        let mut verdicts = [Verdict::Consume];
        let guard = self.worker.enter();
        let mut ctx = self.rig.ctx();
        if six {
            self.nat.v6_to_v4(&mut ctx, &guard, &mut packets, &mut verdicts);
        } else {
            self.nat.v4_to_v6(&mut ctx, &guard, &mut packets, &mut verdicts);
        }
        if verdicts[0] == Verdict::Again(Class::Nat64Out) {
            self.nat.v4_to_v6(&mut ctx, &guard, &mut packets, &mut verdicts);
        }
        let [packet] = packets;
        match verdicts[0] {
            Verdict::Forward { .. } => Some(packet.bytes().to_vec()),
            Verdict::Held => {
                self.nat.hold(&mut ctx, &guard, packet);
                None
            }
            Verdict::Drop(_) | Verdict::Consume | Verdict::Owner(_) => None,
            other => panic!("{other:?}"),
        }
    }

    fn sweep(&mut self) {
        let guard = self.worker.enter();
        let mut ctx = self.rig.ctx();
        self.nat.sweep(&mut ctx, &guard, 1 << 16);
    }

    /// What left besides. Its headers are right whatever it is about.
    fn others(&mut self) -> Vec<Vec<u8>> {
        let list: Vec<Vec<u8>> =
            self.rig.outbox.drain().map(|p: Packet<HeapFrame>| p.bytes().to_vec()).collect();
        self.rig.take_events();
        list
    }
}

fn lab() -> Options {
    Options {
        prefixes: vec!["2001:db8:64:ff9b::/96".parse().expect("a prefix")],
        pool: vec!["203.0.113.0/30".parse().expect("a prefix")],
        ..Options::default()
    }
}

fn choice(id: u16) -> Choice {
    Choice {
        id,
        mtu6: 1500,
        mtu4: 1500,
        hops: 1,
        router4: Ipv4Addr::new(192, 0, 2, 2),
        router6: SERVER6.parse().expect("an address"),
    }
}

/// The address and port behind which `packet`, which goes out, is seen.
fn outside(b: &[u8]) -> (Ipv4Addr, u16) {
    let at = if b[9] == 1 { 24 } else { 20 };
    (Ipv4Addr::new(b[12], b[13], b[14], b[15]), u16::from_be_bytes([b[at], b[at + 1]]))
}

fn segment(c: &mut Choices<'_>, src: u16, dst: u16) -> Tcp {
    let t = tcp(src, dst);
    let t = match c.below(6) {
        0 | 1 => t.syn(),
        2 => t.syn().ack(7),
        3 => t.fin().ack(9),
        4 => t.rst(),
        _ => t.ack(5),
    };
    if c.coin() { t.options(&[2, 4, 5, 0xb4]) } else { t }
}

/// One flow, opened, and one packet of it, or an error about one: the result is the oracle's, or nothing
/// where the oracle has nothing. Gives whether a packet came out.
fn one_of_a_flow(b: &[u8], six: bool) -> bool {
    let mut c = Choices(b);
    let mut options = lab();
    options.policy.udp_zero = UdpZero::Compute;
    let mut g = Gateway::new(options).expect("right");
    let protocol = [17u8, 6, 1][c.below(3)];
    let (host_port, remote_port) = (c.word(), c.word());
    let open = match protocol {
        17 => ip6(VM1, SERVER6).udp(host_port, remote_port, b""),
        6 => ip6(VM1, SERVER6).tcp(&tcp(host_port, remote_port).syn()),
        _ => ip6(VM1, SERVER6).echo_request(host_port, 1, b""),
    };
    let out = outside(&g.pass(&open).expect("the first packet of a flow gets out"));
    let flow = Flow {
        host6: VM1.parse().expect("an address"),
        host_port,
        remote4: SERVER.parse().expect("an address"),
        remote6: SERVER6.parse().expect("an address"),
        remote_port: if protocol == 1 { 0 } else { remote_port },
        out4: out.0,
        out_port: out.1,
    };
    let error = c.coin();
    let p = match (six, error) {
        (true, false) => packet6(&mut c, &flow, protocol),
        (false, false) => packet4(&mut c, &flow, protocol),
        (true, true) => error6(&mut c, &flow, protocol),
        (false, true) => error4(&mut c, &flow, protocol),
    };
    let want = |id| {
        if six {
            nat64_oracle::v6_to_v4(&p, &flow, &choice(id))
        } else {
            nat64_oracle::v4_to_v6(&p, &flow, &choice(id))
        }
    };
    let got = g.pass(&p);
    let others = g.others();
    match (&got, want(0)) {
        (None, None) => {}
        (Some(got), Some(_)) => {
            let id = if six { u16::from_be_bytes([got[4], got[5]]) } else { 0 };
            let want = want(id).expect("it was there");
            let whole = if others.is_empty() {
                got.clone()
            } else {
                // RFC 7915 4: too large for IPv6, and cut.
                let all: Vec<Vec<u8>> = std::iter::once(got.clone()).chain(others).collect();
                assert!(!six && want.len() > 1280 && all.iter().all(|p| p.len() <= 1280));
                reassemble(&all).expect("parts of one packet")
            };
            assert_eq!(whole, want, "{} not {}", describe(&whole), describe(&want));
        }
        (got, want) => panic!(
            "{} of {}, not {}",
            got.as_ref().map_or_else(|| "nothing".to_owned(), |b| describe(b)),
            describe(&p),
            want.map_or_else(|| "nothing".to_owned(), |b| describe(&b)),
        ),
    }
    // Somebody changes a few octets of it: nothing is promised but that a header that leaves is right.
    let mut bad = p;
    for _ in 0..=c.below(4) {
        let (at, value) = (c.below(bad.len()), c.octet());
        bad[at] = value;
    }
    bad[0] = bad[0] & 0x0f | if six { 0x60 } else { 0x40 };
    if let Some(b) = g.pass(&bad) {
        header_is_right(&b);
    }
    g.others().iter().for_each(|b| header_is_right(b));
    got.is_some()
}

fn header_is_right(b: &[u8]) {
    if b[0] >> 4 == 4 {
        let (h, rest) = etherparse::Ipv4Header::from_slice(b).expect("a header");
        assert_eq!(usize::from(h.total_len), b.len());
        assert_eq!(h.calc_header_checksum(), h.header_checksum);
        assert!(h.time_to_live > 0 && rest.len() == b.len() - h.header_len());
    } else {
        let (h, rest) = etherparse::Ipv6Header::from_slice(b).expect("a header");
        assert_eq!(usize::from(h.payload_length), rest.len());
        assert!(h.hop_limit > 0);
    }
}

/// Extension headers that are skipped, or a whole packet in a fragment.
fn chained(c: &mut Choices<'_>, mut b: Ip6) -> Ip6 {
    for n in 0..c.below(4) {
        b = match c.below(4) {
            0 if n == 0 => b.hop_by_hop(&[1, 4, 0, 0, 0, 0]),
            1 => b.routing(4, 0, &[0; 4]),
            2 => b.dest_options(&[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            _ => b.dest_options(&[1, 4, 0, 0, 0, 0]),
        };
    }
    b
}

fn packet6(c: &mut Choices<'_>, f: &Flow, protocol: u8) -> Vec<u8> {
    let b = ip6(f.host6, f.remote6).traffic_class(c.octet()).hop_limit(c.octet().max(2));
    let b = chained(c, b);
    let id = u32::from(c.word()) << 16 | u32::from(c.word());
    let fragment = c.below(4);
    let b = match fragment {
        0 => b.fragment(0, false, id),
        // The first of several; an echo would wait for the others.
        1 if protocol != 1 => b.fragment(0, true, id),
        _ => b,
    };
    let data = c.payload(1350);
    let data = if fragment == 1 && protocol != 1 { &data[..data.len() / 8 * 8] } else { &data[..] };
    match protocol {
        17 => b.udp(f.host_port, f.remote_port, data),
        6 => {
            let t = segment(c, f.host_port, f.remote_port);
            let header = t.clone().payload(b"");
            // Whole units of eight octets, its header counted.
            let extra = if fragment == 1 { ip6(f.host6, f.remote6).tcp(&header).len() % 8 } else { 0 };
            let data = if extra == 0 { data.to_vec() } else { [data, &[0; 8][..8 - extra]].concat() };
            b.tcp(&t.payload(&data))
        }
        _ if c.coin() => b.echo_request(f.host_port, c.word(), data),
        _ => b.echo_reply(f.host_port, c.word(), data),
    }
}

fn packet4(c: &mut Choices<'_>, f: &Flow, protocol: u8) -> Vec<u8> {
    let b = ip4(f.remote4, f.out4).tos(c.octet()).ttl(c.octet().max(2)).id(c.word()).df(c.coin());
    let b = b.options([&[][..], &[1, 1, 1, 0], &[7, 7, 4, 0, 0, 0, 0, 0], &[148, 4, 0, 0]][c.below(4)]);
    let data = c.payload(1400);
    match protocol {
        17 if c.coin() => b.udp_without_checksum(f.remote_port, f.out_port, &data),
        17 => b.udp(f.remote_port, f.out_port, &data),
        6 => b.tcp(&segment(c, f.remote_port, f.out_port).payload(&data)),
        _ if c.coin() => b.echo_request(f.out_port, c.word(), &data),
        _ => b.echo_reply(f.out_port, c.word(), &data),
    }
}

/// The packet inside an error, as much of it as is kept, and an extension behind it: with its length.
fn body(c: &mut Choices<'_>, whole: &[u8], head: usize, word: usize) -> (Vec<u8>, u8) {
    let kept = whole.len().min(head + 8 + c.below(1000)).min(1000);
    let mut b = whole[..kept].to_vec();
    if c.coin() {
        return (b, 0);
    }
    b.resize(b.len().next_multiple_of(word).max(128), 0);
    let words = u8::try_from(b.len() / word).expect("at most 255 words");
    b.extend(c.payload(60));
    // Extensions are whole words.
    b.truncate(b.len() / 4 * 4);
    (b, words)
}

fn error6(c: &mut Choices<'_>, f: &Flow, protocol: u8) -> Vec<u8> {
    let b = ip6(f.remote6, f.host6).traffic_class(c.octet()).hop_limit(c.octet());
    let data = c.payload(1200);
    let whole = match protocol {
        17 => b.udp(f.remote_port, f.host_port, &data),
        6 => b.tcp(&tcp(f.remote_port, f.host_port).ack(1).payload(&data)),
        _ => b.echo_reply(f.host_port, 1, &data),
    };
    let first = protocol != 1 && c.coin();
    let whole = if first {
        b.fragment(0, true, 77).raw(protocol, &whole[40..40 + (whole.len() - 40) / 8 * 8])
    } else {
        whole
    };
    let (inside, words) = body(c, &whole, if first { 48 } else { 40 }, 8);
    let kind = c.octet() % 6;
    let code = if matches!(kind, 2 | 3) { c.octet() & u8::from(kind == 3) } else { c.octet() % 8 };
    let word = match kind {
        1 | 3 => [words, 0, 0, 0],
        2 => u32::from(c.word()).to_be_bytes(),
        _ => u32::from(c.octet() % 50).to_be_bytes(),
    };
    ip6(f.host6, f.remote6).hop_limit(c.octet().max(2)).icmp(kind, code, word, &inside)
}

fn error4(c: &mut Choices<'_>, f: &Flow, protocol: u8) -> Vec<u8> {
    let options: &[u8] = [&[][..], &[1, 1, 1, 0], &[7, 7, 4, 0, 0, 0, 0, 0]][c.below(3)];
    let b = ip4(f.out4, f.remote4).tos(c.octet()).ttl(c.octet()).id(c.word()).df(c.coin()).options(options);
    let data = c.payload(1200);
    let whole = match protocol {
        17 => b.udp(f.out_port, f.remote_port, &data),
        6 => b.tcp(&tcp(f.out_port, f.remote_port).ack(1).payload(&data)),
        _ => b.echo_request(f.out_port, 1, &data),
    };
    let head = 20 + options.len();
    let whole = if protocol != 1 && c.coin() {
        b.df(false).fragment(0, true).raw(protocol, &whole[head..head + (whole.len() - head) / 8 * 8])
    } else {
        whole
    };
    let (inside, words) = body(c, &whole, head, 4);
    let kind = [3, 11, 12, 4, 5][c.below(5)];
    let code = if kind == 11 { c.octet() & 1 } else { c.octet() % 17 };
    let [hi, lo] = c.word().to_be_bytes();
    let word = [if kind == 12 { hi % 24 } else { 0 }, words, hi, lo];
    ip4(f.remote4, f.out4).ttl(c.octet().max(2)).icmp(kind, code, word, &inside)
}

/// From IPv6 to IPv4, errors included: each result is the oracle's.
pub fn oracle6(b: &[u8]) {
    one_of_a_flow(b, true);
}

/// From IPv4 to IPv6, errors included: each result is the oracle's.
pub fn oracle4(b: &[u8]) {
    one_of_a_flow(b, false);
}

/// Any configuration with a small pool.
fn options(c: &mut Choices<'_>, generation: u16) -> Options {
    let prefixes = [
        vec!["2001:db8:64:ff9b::/96"],
        vec!["2001:db8:64:ff9b::/96", "2001:db8:122::/48"],
        vec!["2001:db8:122::/48", "2001:db8:64:ff9b::/96"],
    ];
    let pools = [vec!["203.0.113.0/30"], vec!["203.0.113.0/31"], vec!["203.0.113.2/31", "203.0.113.8/32"]];
    let first_port = [1000u16, 1024, 4000, 60_000][c.below(4)];
    let s = |c: &mut Choices<'_>| Duration::from_secs(1 + u64::from(c.octet() % 60));
    let limits = |c: &mut Choices<'_>| Limits {
        ports_min: u16::from(c.octet() % 9),
        ports_max: c.coin().then_some(u16::from(c.octet() % 32)),
        sessions_max: c.coin().then_some(u32::from(c.octet() % 32)),
        new_sessions_per_second: c.coin().then_some(u32::from(c.octet() % 16)),
        new_sessions_burst: u32::from(c.octet() % 16),
    };
    let allocation = match c.below(4) {
        0 => Allocation::Blocks { ports: 8 << c.below(3) },
        1 => Allocation::Deterministic { hosts: vec!["2001:db8:64::/62".parse().expect("a prefix")] },
        _ => Allocation::Single,
    };
    let static_mappings = (0..c.below(3) as u16)
        .map(|n| StaticMapping {
            protocol: if n == 0 { 17 } else { 6 },
            outside: (Ipv4Addr::new(203, 0, 113, 1 + n as u8), 4000 + n),
            inside: (Ipv6Addr::from_bits(0x2001_0db8_0064_0000 << 64 | 0x101), 7000 + n),
        })
        .collect();
    let tenants = if c.coin() {
        vec![Tenant {
            name: "a".to_owned(),
            prefixes: vec!["2001:db8:64:1::/64".parse().expect("a prefix")],
            limits: limits(c),
            pool: if c.coin() { vec!["203.0.113.12/31".parse().expect("a prefix")] } else { Vec::new() },
        }]
    } else {
        Vec::new()
    };
    Options {
        prefixes: prefixes[c.below(3)].iter().map(|p| p.parse().expect("a prefix")).collect(),
        pool: pools[c.below(3)].iter().map(|p| p.parse().expect("a prefix")).collect(),
        first_port,
        last_port: first_port + 15 + c.word() % 256,
        filtering: [
            Filtering::EndpointIndependent,
            Filtering::AddressDependent,
            Filtering::AddressAndPortDependent,
        ][c.below(3)],
        timeouts: Timeouts {
            udp: s(c),
            tcp_established: s(c),
            tcp_opening: s(c),
            tcp_transitory: s(c),
            tcp_incoming_syn: s(c),
            icmp: s(c),
            fragment: s(c),
        },
        hold_down: Duration::from_secs(u64::from(c.octet() % 10)),
        keep_parity: c.coin(),
        generation,
        subscribers: Subscribers {
            prefix_length: [64, 128, 56][c.below(3)],
            limits: limits(c),
            tenants,
            capacity: 1 + u32::from(c.octet() % 8),
        },
        allocation,
        static_mappings,
        ..lab()
    }
}

/// A history of packets from both sides, time and reloads. Nothing wrong leaves; and when everybody is
/// silent for long enough, nothing is left of it but what is configured.
pub fn state(b: &[u8]) {
    lived(b);
}

/// As [`state`]; gives how many packets were translated.
fn lived(b: &[u8]) -> usize {
    let mut c = Choices(b);
    let mut generation = 1;
    let Some(mut g) = Gateway::new(options(&mut c, generation)) else { return 0 };
    let mut seen: Vec<(Ipv4Addr, u16, u8)> = Vec::new();
    let mut translated = 0;
    for _ in 0..200 {
        if c.is_empty() {
            break;
        }
        let host = Ipv6Addr::from_bits(
            0x2001_0db8_0064_0000 << 64 | (c.below(3) as u128) << 64 | 0x101 + c.below(4) as u128,
        );
        let remote4 = [Ipv4Addr::new(198, 51, 100, 10), Ipv4Addr::new(198, 51, 100, 99)][c.below(2)];
        let prefix = *g
            .nat
            .config()
            .prefixes()
            .all()
            .nth(c.below(2))
            .unwrap_or_else(|| g.nat.config().prefixes().all().next().expect("at least one"));
        let ports = [53, 54, 4000, 7000, 80];
        let (own, remote) = (4000 + c.below(20) as u16, ports[c.below(ports.len())]);
        let packets = match c.below(12) {
            0..=3 => vec![open(&mut c, ip6(host, prefix.embed(remote4)), own, remote)],
            4 if !seen.is_empty() => {
                // To another host behind the gateway.
                let (a, p, _) = seen[c.below(seen.len())];
                vec![open(&mut c, ip6(host, prefix.embed(a)), own, p)]
            }
            5..=7 if !seen.is_empty() => {
                let (a, p, protocol) = seen[c.below(seen.len())];
                let b = ip4(remote4, a).df(false);
                vec![match protocol {
                    17 => b.udp(remote, p, &c.payload(40)),
                    6 => b.tcp(&segment(&mut c, remote, p)),
                    _ => b.echo_request(p, 1, b"ping"),
                }]
            }
            8 => {
                let a = Ipv4Addr::new(203, 0, 113, c.octet() % 16);
                vec![ip4(remote4, a).tcp(&segment(&mut c, remote, own))]
            }
            9 => {
                let whole = ip6(host, prefix.embed(remote4)).udp(own, remote, &c.payload(4000));
                let mut parts = fragments6(&whole, 1280, u32::from(c.octet()));
                let n = parts.len();
                parts.rotate_left(c.below(n));
                parts.truncate(1 + c.below(n));
                parts
            }
            10 if !seen.is_empty() => {
                let (a, p, _) = seen[c.below(seen.len())];
                let data = c.payload(4000);
                let b = ip4(remote4, a).df(false);
                let whole =
                    if c.coin() { b.udp(remote, p, &data) } else { b.udp_without_checksum(remote, p, &data) };
                let mut parts = fragments4(&whole, 576 + c.below(900), c.word());
                let n = parts.len();
                parts.rotate_left(c.below(n));
                parts.truncate(1 + c.below(n));
                parts
            }
            _ => {
                if c.below(4) == 0 {
                    generation += 1;
                    let config = g.nat.config().successor(options(&mut c, generation));
                    if let Ok(config) = config.map(Arc::new) {
                        let pool = Arc::new(g.nat.pool().successor(&config));
                        g.nat.reconfigure(config, pool);
                        seen.clear();
                    }
                } else {
                    g.rig.advance(Duration::from_millis(u64::from(c.word()) % 20_000));
                    g.sweep();
                }
                Vec::new()
            }
        };
        for p in packets {
            if let Some(b) = g.pass(&p) {
                translated += 1;
                well_formed(&b);
                if b[0] >> 4 == 4 && b[6] & 0x1f == 0 && b[7] == 0 {
                    let (a, port) = outside(&b);
                    seen.push((a, port, b[9]));
                    // An error about it finds its way back, or does not; in any case in good order.
                    if c.below(8) == 0 {
                        let e = ip4(remote4, a).icmp(3, c.octet() % 16, [0; 4], &b[..b.len().min(60)]);
                        if let Some(b) = g.pass(&e) {
                            well_formed(&b);
                        }
                    }
                }
            }
            g.others().iter().for_each(|b| well_formed(b));
        }
    }
    // Silence. Everything that is not configured goes, and every port comes back.
    for _ in 0..8 {
        g.rig.advance(Duration::from_secs(200));
        for _ in 0..300 {
            g.sweep();
            g.others().iter().for_each(|b| well_formed(b));
            if g.nat.held() == 0 {
                break;
            }
        }
    }
    assert_eq!(g.nat.held(), 0, "fragments wait");
    let (mut sessions, mut mappings) = (0, 0);
    let guard = g.worker.enter();
    guard.sessions(0, u32::MAX, |_| sessions += 1);
    guard.mappings(0, u32::MAX, |_| mappings += 1);
    let configured = g.nat.config().options().static_mappings.len();
    assert!(sessions == 0 && mappings <= configured, "{sessions} sessions, {mappings} mappings");
    translated
}

fn open(c: &mut Choices<'_>, b: Ip6, own: u16, remote: u16) -> Vec<u8> {
    match c.below(3) {
        0 => b.udp(own, remote, &c.payload(40)),
        1 => b.tcp(&segment(c, own, remote)),
        _ => b.echo_request(own, 1, b"ping"),
    }
}

fn well_formed(b: &[u8]) {
    let judged = check_packet_with(b, Inner::Header);
    assert!(judged.is_ok(), "{judged:?}: {}", describe(b));
}

/// Choices that reach each part, by name.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let n = match target {
        "nat64_oracle6" | "nat64_oracle4" => 64u32,
        "nat64_state" => 48,
        _ => return Vec::new(),
    };
    let octets = if target == "nat64_state" { 1500 } else { 64 };
    (0..n)
        .map(|n| {
            // A plain generator: any octets will do, if they are many and always the same.
            let mut x = n.wrapping_mul(0x9e37_79b9) | 1;
            let row = (0..octets).map(|_| {
                x ^= x << 13;
                x ^= x >> 17;
                x ^= x << 5;
                (x >> 11) as u8
            });
            (format!("choices-{n:02}"), row.collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_testkit::check_packet;

    #[test]
    fn the_seeds_reach_what_the_targets_are_for() {
        for (target, six) in [("nat64_oracle6", true), ("nat64_oracle4", false)] {
            let out = seeds(target).iter().filter(|(_, b)| one_of_a_flow(b, six)).count();
            assert!(out > 20, "{target}: only {out} packets come out");
        }
        let out: usize = seeds("nat64_state").iter().map(|(_, b)| lived(b)).sum();
        assert!(out > 500, "only {out} packets come out");
    }

    #[test]
    fn what_the_oracle_makes_is_well_formed() {
        for (_, b) in seeds("nat64_oracle4") {
            let mut c = Choices(&b);
            let f = Flow {
                host6: VM1.parse().expect("an address"),
                host_port: 1,
                remote4: SERVER.parse().expect("an address"),
                remote6: SERVER6.parse().expect("an address"),
                remote_port: 2,
                out4: Ipv4Addr::new(203, 0, 113, 1),
                out_port: 3,
            };
            check_packet(&packet4(&mut c, &f, 17)).expect("right");
        }
    }
}
