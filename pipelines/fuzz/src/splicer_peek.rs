//! The splicer's stage: random histories of clients and a server, some of whose segments fit their connections.

use arc_swap::ArcSwap;
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{Class, Duration, HeapSource, IfId, Verdict};
use causeway_flowtable::{Config as TableConfig, FlowTable, Worker};
use causeway_splicer::config::{Config, Listener};
use causeway_splicer::site::{Backend, Health, Identity, Servers, Site, SiteTable};
use causeway_splicer::stage::{Secrets, Stage};
use causeway_tcp::options::Options;
use causeway_tcp::segment;
use causeway_testkit::{Rig, check_packet};
use causeway_wire::l4::tcp::{self, ACK, FIN, RST, SYN};
use causeway_wire::{put16, put32};
use std::net::SocketAddr;
use std::sync::Arc;

/// Octets of a step: what, who, two numbers.
const STEP: usize = 4;
const STEPS: usize = 300;
const PEEKS: u32 = 3;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: site1.example\r\n\r\n";
const CONTROL: [u8; 8] = [SYN, ACK, ACK | FIN, RST, RST | ACK, SYN | ACK, FIN, 0];

/// Who speaks to the gateway, and what it believes.
struct Peer {
    own: SocketAddr,
    gateway: SocketAddr,
    seq: u32,
    ack: u32,
    stamps: (u32, u32),
}

impl Peer {
    fn packet(&self, flags: u8, off: u8, shape: u8, data: &[u8]) -> Vec<u8> {
        let near = if off < 0xc0 { 0 } else { u32::from(off & 0x3f).wrapping_sub(16).wrapping_mul(97) };
        let syn = flags & SYN != 0;
        let options = Options {
            mss: (syn && shape & 1 == 0).then_some(1460),
            window_scale: (syn && shape & 2 == 0).then_some(shape >> 4),
            sack_permitted: syn && shape & 4 == 0,
            timestamps: (shape & 8 == 0).then_some(self.stamps),
        };
        let header = tcp::HEADER + options.octets();
        let mut packet = Vec::new();
        segment::ip_header(&mut packet, self.own.ip(), self.gateway.ip(), header + data.len());
        let at = packet.len() - header - data.len();
        let t = &mut packet[at..];
        put16(t, 0, self.own.port());
        put16(t, 2, self.gateway.port());
        put32(t, tcp::SEQ, self.seq.wrapping_add(near));
        put32(t, tcp::ACK_NO, if flags & ACK != 0 { self.ack } else { 0 });
        t[tcp::DATA_OFFSET] = u8::try_from(header * 4).unwrap_or(0x50);
        t[tcp::FLAGS] = flags;
        put16(t, tcp::WINDOW, u16::from(off) * 200);
        options.emit(&mut t[tcp::HEADER..header]);
        t[header..].copy_from_slice(data);
        segment::finish(&mut packet, 0, 1);
        packet
    }
}

struct World {
    rig: Rig,
    worker: Worker,
    stage: Stage,
}

impl World {
    fn new() -> Self {
        let listener = |port, http, default: Option<&str>| Listener {
            address: "203.0.113.80".parse().expect("an address"),
            port,
            tls: false,
            http,
            default_site: default.map(str::to_owned),
            redirect: false,
        };
        let mut config = Config {
            listeners: vec![listener(80, true, None), listener(81, false, Some("site1.example"))],
            sources: vec![Some("2001:db8:64::1".parse().expect("an address"))],
            ..Config::default()
        };
        (config.limits.peeks, config.limits.peeks_per_client) = (PEEKS, 2);
        let site = Site {
            name: "site1.example".to_owned(),
            backends: vec![Backend {
                address: "2001:db8:64::101".parse().expect("an address"),
                ports: vec![(81, 80)],
                weight: 1,
                draining: false,
            }],
            alpn: vec![],
            identity: Identity::Proxy1,
            redirect: None,
            health: Health::default(),
        };
        let sites = Arc::new(ArcSwap::from_pointee(SiteTable::of([site], &mut Servers::new())));
        let table = FlowTable::new(&TableConfig {
            sessions: 64,
            mappings: 0,
            spliced: 64,
            workers: 1,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        })
        .expect("memory");
        let secrets = Secrets { seed: [7; 32], cookies: [9; 16] };
        Self {
            rig: Rig::lab(),
            worker: table.worker(0).expect("a worker"),
            stage: Stage::new(Arc::new(config), sites, IcmpErrors::new(100, 100), 0, secrets, None),
        }
    }

    /// Gives the gateway a packet; what it sends.
    fn give(&mut self, octets: &[u8]) -> Vec<Vec<u8>> {
        self.rig.source = HeapSource::new(1000);
        let four = octets[0] >> 4 == 4;
        let mut packets = [self.rig.packet(if four { "uplink0" } else { "tenant0" }, octets)];
        let mut verdicts = [Verdict::Consume];
        for again in 0..2 {
            packets[0].meta.again = again;
            let guard = self.worker.enter();
            let mut ctx = self.rig.ctx();
            if four {
                self.stage.clients(&mut ctx, &guard, &mut packets, &mut verdicts);
            } else {
                self.stage.servers(&mut ctx, &guard, &mut packets, &mut verdicts);
            }
            if !matches!(verdicts[0], Verdict::Again(Class::SpliceOut | Class::SpliceIn)) {
                break;
            }
        }
        let mut sent = self.sent();
        if matches!(verdicts[0], Verdict::Forward { .. }) {
            let octets = packets[0].bytes().to_vec();
            assert_eq!(check_packet(&octets), Ok(()));
            sent.push(octets);
        }
        sent
    }

    /// Lets time pass; what the gateway sends.
    fn pass(&mut self, time: Duration) -> Vec<Vec<u8>> {
        self.rig.source = HeapSource::new(1000);
        self.rig.advance(time);
        {
            let guard = self.worker.enter();
            let mut ctx = self.rig.ctx();
            self.stage.tick(&mut ctx, &guard);
        }
        self.sent()
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        self.rig.sent().into_iter().map(|l| l.octets).collect()
    }

    /// Sessions of connections that the gateway terminates.
    fn terminated(&mut self) -> u32 {
        let guard = self.worker.enter();
        let mut count = 0;
        guard.sessions(0, 64, |s| count += u32::from(s.is_live() && s.ctl().state() == 0));
        count
    }
}

/// Everything that is sent is well-formed, what is kept is bounded, and nothing is left when nobody says anything more.
pub fn sequence(octets: &[u8]) {
    let mut w = World::new();
    let peer = |own: &str, gateway: &str| Peer {
        own: own.parse().expect("an address"),
        gateway: gateway.parse().expect("an address"),
        seq: 0x7fff_fff0,
        ack: 0,
        stamps: (5, 0),
    };
    let mut peers = vec![
        peer("198.51.100.9:40000", "203.0.113.80:80"),
        peer("198.51.100.9:40001", "203.0.113.80:81"),
        peer("198.51.100.10:40000", "203.0.113.80:80"),
        peer("198.51.100.11:40000", "203.0.113.80:81"),
        peer("[2001:db8:64::101]:80", "[2001:db8:64::1]:9"),
    ];
    for step in octets.chunks_exact(STEP).take(STEPS) {
        let &[what, who, off, shape] = step else { return };
        let who = usize::from(who) % peers.len();
        let p = &mut peers[who];
        let sent = match what & 0x1f {
            n @ 0..8 => {
                let flags = CONTROL[usize::from(n)];
                let packet = p.packet(flags, off, shape, &[]);
                let control = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
                p.seq = p.seq.wrapping_add(control);
                w.give(&packet)
            }
            n @ 8..24 => {
                let data: &[u8] = match n {
                    8..16 => REQUEST,
                    16..20 => &[0x5a; 900],
                    _ => b"G",
                };
                let packet = p.packet(ACK, off, shape, data);
                p.seq = p.seq.wrapping_add(data.len() as u32);
                w.give(&packet)
            }
            _ => {
                p.stamps.0 = p.stamps.0.wrapping_add(u32::from(off));
                w.pass(Duration::from_millis(u64::from(off) * u64::from(shape)))
            }
        };
        for packet in sent {
            let s = segment::parse(&packet, IfId(1)).expect("what is sent can be read");
            // The server speaks to whoever spoke to it last.
            let of = |p: &&mut Peer| p.own == s.ends.local;
            let Some(p) = peers.iter_mut().find(of) else { continue };
            p.gateway = s.ends.remote;
            p.ack = s.end();
            if s.head.flags & (SYN | ACK) == SYN | ACK {
                p.seq = s.head.ack;
            }
            if let Some((value, _)) = s.options().timestamps {
                p.stamps.1 = value;
            }
        }
        assert!(w.terminated() <= PEEKS);
    }
    // An hour of idleness is what a terminated connection may have.
    for secs in [1, 10, 10, 10, 3700, 3700, 10, 10] {
        w.pass(Duration::from_secs(secs));
    }
    assert_eq!(w.terminated(), 0);
}

/// Histories to begin with.
#[must_use]
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let list: [(&str, &[[u8; STEP]]); 5] = [
        (
            "http-and-spliced",
            &[[0, 0, 0, 0], [1, 0, 0, 0], [8, 0, 0, 0], [5, 4, 0, 0], [1, 4, 0, 0], [16, 4, 0, 0], [16, 0, 0, 0]],
        ),
        ("no-octets-ahead", &[[0, 1, 0, 0], [1, 1, 0, 0], [5, 4, 0, 0], [1, 4, 0, 0], [16, 4, 0, 0], [2, 4, 0, 0]]),
        ("refused", &[[0, 0, 0, 0], [8, 0, 0, 0], [4, 4, 0, 0], [31, 0, 255, 255]]),
        ("no-timestamps-at-the-server", &[[0, 0, 0, 0], [8, 0, 0, 0], [5, 4, 0, 8], [1, 4, 0, 8], [16, 4, 0, 8]]),
        ("silence", &[[0, 0, 0, 0], [1, 0, 0, 0], [31, 0, 255, 255], [20, 0, 0, 0], [31, 0, 255, 255]]),
    ];
    list.into_iter().map(|(name, steps)| (name.to_owned(), steps.concat())).collect()
}
