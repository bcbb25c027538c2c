//! A spliced connection over random histories: whatever its ends send comes out as their other end would have had it.
//!
//! The octets are choices, as in `nat64`. What comes out is read by `etherparse`. Payload says its own place in its
//! stream, so that a segment that ends up elsewhere is seen.

use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{BURST, Duration, Verdict};
use causeway_flowtable::{FlowTable, InsideKey, Kind, NewKey, NewSession, OutsideKey, Tick, Worker};
use causeway_splicer::config::Listener;
use causeway_splicer::splice::icmp::Whose;
use causeway_splicer::splice::{Closed, Constants, Ends, Expiry, Scales, Side, Splice, engage, number_of};
use causeway_splicer::{Config, State};
use causeway_testkit::{Inner, Rig, check_packet, check_packet_with, describe, ip4, ip6, tcp};
use etherparse::{SlicedPacket, TcpOptionElement, TransportSlice};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 99);
const PROXY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const SERVER: &str = "2001:db8:64::101";
const OWN: &str = "2001:db8:64::1";
const PORTS: (u16, u16, u16, u16) = (40_000, 443, 8443, 50_001);

/// Octets as choices. When they run out, all further choices are zero.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u32 {
        u32::from_be_bytes([self.octet(), self.octet(), self.octet(), self.octet()])
    }

    fn coin(&mut self) -> bool {
        self.octet() & 1 == 1
    }
}

/// A segment, as its end means it. Edges and echo are in the other end's numbers as this one knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    seq: u32,
    ack: Option<u32>,
    window: u16,
    flags: u8,
    stamps: Option<(u32, u32)>,
    edges: Vec<(u32, u32)>,
    payload: Vec<u8>,
}

/// What stream `side` has from `from` on.
fn stream(side: Side, from: u32, octets: usize) -> Vec<u8> {
    let salt = if side == Side::Client { 0x5a } else { 0xc3 };
    (0..octets as u32).map(|i| from.wrapping_add(i).to_le_bytes().iter().fold(salt, |a, b| a ^ b)).collect()
}

struct Gateway {
    rig: Rig,
    worker: Worker,
    splice: Splice,
    config: Config,
    constants: Constants,
}

fn outside() -> OutsideKey {
    let (remote_port, out_port, ..) = PORTS;
    OutsideKey { out4: PROXY.to_bits(), remote4: CLIENT.to_bits(), out_port, remote_port, protocol: 6 }
}

impl Gateway {
    fn new(constants: Constants) -> Self {
        let listener = Listener {
            address: PROXY,
            port: PORTS.1,
            tls: true,
            http: false,
            default_site: None,
            redirect: false,
        };
        let own: Ipv6Addr = OWN.parse().expect("an address");
        let config = Config { listeners: vec![listener], sources: vec![Some(own)], ..Config::default() };
        let table = FlowTable::new(&causeway_flowtable::Config {
            sessions: 16,
            mappings: 0,
            spliced: 16,
            workers: 1,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        })
        .expect("a small table");
        let rig = Rig::lab();
        let mut worker = table.worker(0).expect("nobody else is worker 0");
        {
            let guard = worker.enter();
            let new = NewSession {
                key: NewKey::Outside(outside()),
                kind: Kind::Spliced,
                owner: 0,
                subscriber: 0,
                plan_generation: 0,
                state: State::Peek as u8,
                flags: 0,
                tick: Tick::at(rig.now),
                aux: 0,
            };
            let session = guard.create_single(&new).expect("room").into_inner();
            let server: Ipv6Addr = SERVER.parse().expect("an address");
            let (prefix, dst4) = number_of(&config, own).expect("it is configured");
            let key = InsideKey {
                src6: server.to_bits(),
                dst4,
                src_port: PORTS.2,
                dst_port: PORTS.3,
                protocol: 6,
                prefix,
            };
            let ends = Ends {
                client: (CLIENT, PORTS.0),
                listener: (PROXY, PORTS.1),
                server: (server, PORTS.2),
                own: (own, PORTS.3),
            };
            let line = guard.take_spliced().expect("a line");
            guard.add_inside(&session, key, line, ends.checksum_delta()).expect("a free key");
            assert!(engage(&session, &constants, Tick::at(rig.now)));
        }
        let splice = Splice::new(Arc::new(config.clone()), IcmpErrors::new(1000, 1000), 0);
        Self { rig, worker, splice, config, constants }
    }

    /// What leaves when this segment came in.
    fn pass(&mut self, side: Side, octets: &[u8]) -> Option<Vec<u8>> {
        let mut packets = [self.rig.packet(if side == Side::Client { "uplink0" } else { "tenant0" }, octets)];
        let mut verdicts = [Verdict::Held];
        let mut slow = arrayvec::ArrayVec::<u8, BURST>::new();
        let guard = self.worker.enter();
        let mut ctx = self.rig.ctx();
        match side {
            Side::Client => self.splice.clients(&mut ctx, &guard, &mut packets, &mut verdicts, &mut slow),
            Side::Server => self.splice.servers(&mut ctx, &guard, &mut packets, &mut verdicts, &mut slow),
        }
        assert_eq!(verdicts[0] == Verdict::Held, slow[..] == [0]);
        match verdicts[0] {
            Verdict::Forward { .. } => Some(packets[0].bytes().to_vec()),
            Verdict::Held => {
                assert_eq!(packets[0].bytes(), octets, "what is slow was not touched");
                None
            }
            Verdict::Drop(_) => None,
            other => panic!("{other:?}"),
        }
    }

    /// The same with an ICMP error.
    fn error(&mut self, side: Side, octets: &[u8]) {
        let mut packet = self.rig.packet(if side == Side::Client { "uplink0" } else { "tenant0" }, octets);
        let guard = self.worker.enter();
        let mut ctx = self.rig.ctx();
        let whose = match side {
            Side::Client => self.splice.error4(&mut ctx, &guard, &mut packet),
            Side::Server => self.splice.error6(&mut ctx, &guard, &mut packet),
        };
        if let Whose::Spliced(Verdict::Forward { .. }) = whose {
            let judged = check_packet_with(packet.bytes(), Inner::Header);
            assert!(judged.is_ok(), "{judged:?}: {}", describe(packet.bytes()));
        }
    }

    fn open(&mut self) -> bool {
        self.worker.enter().lookup(&outside()).hit().is_some()
    }

    /// What the other end has to get.
    fn expected(&self, side: Side, s: &Segment) -> Segment {
        let c = &self.constants;
        let (seq, ack, ts, echo, from, to) = match side {
            Side::Client => (
                c.client_seq_delta,
                c.server_seq_delta,
                c.client_ts_delta,
                c.server_ts_delta,
                c.scales.client,
                c.scales.to_server,
            ),
            Side::Server => (
                c.server_seq_delta,
                c.client_seq_delta,
                c.server_ts_delta,
                c.client_ts_delta,
                c.scales.server,
                c.scales.to_client,
            ),
        };
        let mut out = s.clone();
        out.seq = s.seq.wrapping_add(seq);
        out.ack = s.ack.map(|a| a.wrapping_sub(ack));
        if s.flags & 2 == 0 {
            let window = u16::try_from((u64::from(s.window) << from) >> to).unwrap_or(u16::MAX);
            out.window = window.max(u16::from(s.window != 0));
        }
        if c.timestamps {
            let echoed = |e: u32| if s.ack.is_some() { e.wrapping_sub(echo) } else { e };
            out.stamps = s.stamps.map(|(v, e)| (v.wrapping_add(ts), echoed(e)));
        }
        match (c.client_sack, c.server_sack) {
            (true, true) => {
                for (a, b) in &mut out.edges {
                    (*a, *b) = (a.wrapping_sub(ack), b.wrapping_sub(ack));
                }
            }
            (true, false) => out.edges.clear(),
            (false, _) => {}
        }
        out
    }
}

/// A segment of the choices' making, and its options as octets.
fn segment(c: &mut Choices<'_>, side: Side, base: u32) -> (Segment, Vec<u8>) {
    let flags = c.octet() & 0x17;
    // Near what was seen, or anywhere.
    let seq = if c.coin() { base.wrapping_add(c.word() % 100_000) } else { c.word() };
    let ack = (flags & 0x10 != 0).then(|| c.word());
    let window = c.word() as u16;
    let mut raw = Vec::new();
    let pad = |raw: &mut Vec<u8>, n: u8| raw.extend(vec![1; usize::from(n % 4)]);
    pad(&mut raw, c.octet());
    let stamps = c.coin().then(|| (c.word(), c.word()));
    if let Some((v, e)) = stamps {
        raw.extend([8, 10]);
        raw.extend(v.to_be_bytes());
        raw.extend(e.to_be_bytes());
    }
    pad(&mut raw, c.octet());
    let edges: Vec<_> = (0..c.octet() % 3).map(|_| (c.word(), c.word())).collect();
    if !edges.is_empty() {
        raw.extend([5, 2 + 8 * edges.len() as u8]);
        for (a, b) in &edges {
            raw.extend(a.to_be_bytes());
            raw.extend(b.to_be_bytes());
        }
    }
    pad(&mut raw, c.octet());
    let octets = usize::from(c.octet()) * 5;
    (Segment { seq, ack, window, flags, stamps, edges, payload: stream(side, seq, octets) }, raw)
}

/// Reads a packet with `etherparse`.
fn read(b: &[u8]) -> Segment {
    let packet = SlicedPacket::from_ip(b).expect("a packet");
    let Some(TransportSlice::Tcp(t)) = packet.transport else { panic!("no TCP: {}", describe(b)) };
    let (mut stamps, mut edges) = (None, Vec::new());
    for option in t.options_iterator() {
        match option.expect("whole options") {
            TcpOptionElement::Timestamp(v, e) => stamps = Some((v, e)),
            TcpOptionElement::SelectiveAcknowledgement(first, more) => {
                edges.push(first);
                edges.extend(more.into_iter().flatten());
            }
            _ => {}
        }
    }
    let bit = |on: bool, flag: u8| if on { flag } else { 0 };
    Segment {
        seq: t.sequence_number(),
        ack: t.ack().then(|| t.acknowledgment_number()),
        window: t.window_size(),
        flags: bit(t.fin(), 1) | bit(t.syn(), 2) | bit(t.rst(), 4) | bit(t.ack(), 16),
        stamps,
        edges,
        payload: t.payload().to_vec(),
    }
}

/// The target.
pub fn rewrite(b: &[u8]) {
    passed(b);
}

/// As [`rewrite`]; gives how many segments were passed on.
pub(crate) fn passed(b: &[u8]) -> usize {
    let mut c = Choices(b);
    let scale = |c: &mut Choices<'_>| c.octet() % 15;
    let (client_isn, server_isn) = (c.word(), c.word());
    let mut g = Gateway::new(Constants {
        client_isn,
        server_isn,
        client_seq_end: client_isn,
        server_seq_end: server_isn,
        client_seq_delta: c.word(),
        server_seq_delta: c.word(),
        client_ts_delta: c.word(),
        server_ts_delta: c.word(),
        timestamps: c.coin(),
        client_sack: c.coin(),
        server_sack: c.coin(),
        scales: Scales {
            client: scale(&mut c),
            to_client: scale(&mut c),
            server: scale(&mut c),
            to_server: scale(&mut c),
        },
        closed: Closed { client: c.coin(), server: c.coin() },
    });
    let mut passed = 0;
    for _ in 0..100 {
        if c.0.is_empty() {
            break;
        }
        let side = if c.coin() { Side::Client } else { Side::Server };
        let (base, delta) = match side {
            Side::Client => (client_isn, g.constants.client_seq_delta),
            Side::Server => (server_isn, g.constants.server_seq_delta),
        };
        match c.octet() % 8 {
            0 => {
                g.rig.advance(Duration::from_millis(u64::from(c.word() % 20_000_000)));
                let guard = g.worker.enter();
                let mut expiry = Expiry::new(&g.config, &g.rig.counters);
                guard.sweep(64, Tick::at(g.rig.now), &mut expiry);
                continue;
            }
            kind => {
                let (s, raw) = segment(&mut c, side, base);
                let (src, dst) = match side {
                    Side::Client => (PORTS.0, PORTS.1),
                    Side::Server => (PORTS.2, PORTS.3),
                };
                let mut t = tcp(src, dst).seq(s.seq).window(s.window).options(&raw).payload(&s.payload);
                t = s.ack.map_or(t.clone(), |a| t.ack(a));
                t = if s.flags & 1 != 0 { t.fin() } else { t };
                t = if s.flags & 2 != 0 { t.syn() } else { t };
                t = if s.flags & 4 != 0 { t.rst() } else { t };
                let sent = match side {
                    Side::Client => ip4(CLIENT, PROXY).tcp(&t),
                    Side::Server => ip6(SERVER, OWN).tcp(&t),
                };
                let Some(out) = g.pass(side, &sent) else {
                    // RFC 5961 4.2: behind a reset that may be anybody's, a client is asked about its SYN.
                    let challenged = side == Side::Client && s.flags & 6 == 2;
                    assert!(!g.open() || sent.len() > 1460 || challenged, "lost: {}", describe(&sent));
                    continue;
                };
                passed += 1;
                assert_eq!(check_packet(&out), Ok(()), "{}", describe(&out));
                let got = read(&out);
                assert_eq!(got, g.expected(side, &s));
                assert_eq!(got.payload, stream(side, got.seq.wrapping_sub(delta), got.payload.len()));
                // An error about it, whole or cut, and damaged at times.
                if kind == 1 {
                    let cut = out.len().min(28 + usize::from(c.octet()));
                    let (code, word, other) = (c.octet(), c.word(), c.octet() % 4);
                    let mut e = match side {
                        Side::Client => {
                            ip6("2001:db8:64::77", OWN).icmp_error(1 + other, code % 7, word, &out[..cut])
                        }
                        Side::Server => {
                            let kind = [3, 3, 11, 12][usize::from(other)];
                            ip4("192.0.2.77", PROXY).icmp_error(kind, code % 16, word, &out[..cut])
                        }
                    };
                    if c.octet() == 0 {
                        let at = usize::from(c.octet()) % e.len();
                        e[at] ^= c.octet();
                    }
                    let other_side = if side == Side::Client { Side::Server } else { Side::Client };
                    g.error(other_side, &e);
                }
            }
        }
        g.rig.outbox.drain().for_each(drop);
    }
    passed
}

/// Choices, by name.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    (0..48u32)
        .map(|n| {
            let mut x = n.wrapping_mul(0x9e37_79b9) | 1;
            let row = (0..1200).map(|_| {
                x ^= x << 13;
                x ^= x >> 17;
                x ^= x << 5;
                (x >> 11) as u8
            });
            (format!("choices-{n:02}"), row.collect())
        })
        .collect()
}
