//! A gateway in a test: the stage over a flow table, in the lab's network.
#![allow(dead_code, reason = "each test file uses its part")]

use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{Class, DropReason, Duration, Egress, Frame, HeapFrame, Packet, Verdict};
use causeway_flowtable::{FlowTable, Lookup, OutsideKey, Tick, Worker};
use causeway_nat64::{Config, Nat64, Options, Pool4, Subscribers, is_permission};
use causeway_testkit::nat64_oracle::{Choice, Flow};
use causeway_testkit::{Rig, check_packet, describe};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub(crate) const VM1: &str = "2001:db8:64::101";
pub(crate) const VM2: &str = "2001:db8:64::102";
pub(crate) const SERVER: &str = "198.51.100.10";
pub(crate) const SERVER6: &str = "2001:db8:64:ff9b::198.51.100.10";
pub(crate) const CLIENT: &str = "198.51.100.99";

pub(crate) fn v6(s: &str) -> Ipv6Addr {
    s.parse().unwrap()
}

pub(crate) fn v4(s: &str) -> Ipv4Addr {
    s.parse().unwrap()
}

/// The lab's NAT64: every host is a subscriber.
pub(crate) fn options() -> Options {
    Options {
        prefixes: vec!["2001:db8:64:ff9b::/96".parse().unwrap()],
        pool: vec!["203.0.113.0/28".parse().unwrap()],
        subscribers: Subscribers { prefix_length: 128, ..Subscribers::default() },
        ..Options::default()
    }
}

pub(crate) struct Gateway {
    pub(crate) rig: Rig,
    pub(crate) table: Arc<FlowTable>,
    pub(crate) worker: Worker,
    pub(crate) nat: Nat64<HeapFrame>,
}

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    Sent(Vec<u8>, Egress),
    Dropped(DropReason),
    Held,
    Other(String),
}

impl Fate {
    #[track_caller]
    pub(crate) fn sent(self) -> Vec<u8> {
        match self {
            Self::Sent(b, _) => b,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn dropped(self) -> DropReason {
        match self {
            Self::Dropped(r) => r,
            Self::Sent(b, _) => panic!("sent {}", describe(&b)),
            other => panic!("{other:?}"),
        }
    }
}

impl Gateway {
    pub(crate) fn lab() -> Self {
        Self::with(options())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::sized(options, 1000)
    }

    pub(crate) fn sized(options: Options, flows: u32) -> Self {
        let table = FlowTable::new(&causeway_flowtable::Config {
            sessions: flows,
            mappings: flows,
            spliced: 0,
            workers: 1,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        })
        .unwrap();
        Self::with_table(options, &table, 0, None)
    }

    /// A worker of this number on a shared table, and on a shared pool if there is one.
    pub(crate) fn with_table(
        options: Options,
        table: &Arc<FlowTable>,
        worker: u8,
        pool: Option<Arc<Pool4>>,
    ) -> Self {
        let config = Arc::new(Config::new(options).unwrap());
        let pool = pool.unwrap_or_else(|| Arc::new(Pool4::new(&config)));
        let (table, worker) = (Arc::clone(table), table.worker(worker).unwrap());
        let nat = Nat64::new(config, pool, IcmpErrors::new(1_000_000, 1_000_000));
        Self { rig: Rig::lab(), table, worker, nat }
    }

    /// Hands over several packets at once; hairpins go round once.
    pub(crate) fn vector(&mut self, ingress: &str, packets: &[Vec<u8>], six: bool) -> Vec<Fate> {
        let mut list: Vec<Packet<HeapFrame>> = packets.iter().map(|p| self.rig.packet(ingress, p)).collect();
        let mut verdicts = vec![Verdict::Consume; list.len()];
        let guard = self.worker.enter();
        let mut ctx = self.rig.ctx();
        self.nat.poll(&mut ctx, &guard);
        if six {
            self.nat.v6_to_v4(&mut ctx, &guard, &mut list, &mut verdicts);
        } else {
            self.nat.v4_to_v6(&mut ctx, &guard, &mut list, &mut verdicts);
        }
        let mut fates = Vec::new();
        for (mut packet, mut verdict) in list.drain(..).zip(verdicts) {
            let (packet, verdict) = (&mut packet, &mut verdict);
            if *verdict == Verdict::Again(Class::Nat64Out) {
                packet.meta.again += 1;
                check_packet(packet.bytes()).unwrap();
                self.nat.v4_to_v6(
                    &mut ctx,
                    &guard,
                    std::slice::from_mut(packet),
                    std::slice::from_mut(verdict),
                );
            }
            fates.push(match *verdict {
                Verdict::Forward { egress } => {
                    check_meta(packet);
                    Fate::Sent(packet.frame.bytes().to_vec(), egress)
                }
                Verdict::Drop(reason) => Fate::Dropped(reason),
                Verdict::Held => {
                    self.nat.hold(&mut ctx, &guard, packet.clone());
                    Fate::Held
                }
                other => Fate::Other(format!("{other:?}")),
            });
        }
        fates
    }

    pub(crate) fn six(&mut self, packet: &[u8]) -> Fate {
        self.vector("tenant0", &[packet.to_vec()], true).remove(0)
    }

    pub(crate) fn four(&mut self, packet: &[u8]) -> Fate {
        self.vector("uplink0", &[packet.to_vec()], false).remove(0)
    }

    /// Sends from inside and gives the pool address and port that the flow got.
    #[track_caller]
    pub(crate) fn open(&mut self, packet: &[u8]) -> (Ipv4Addr, u16) {
        let b = self.six(packet).sent();
        check_packet(&b).unwrap();
        let l4 = usize::from(b[0] & 15) * 4;
        let at = if b[9] == 1 { l4 + 4 } else { l4 };
        (Ipv4Addr::new(b[12], b[13], b[14], b[15]), u16::from_be_bytes([b[at], b[at + 1]]))
    }

    /// Lets time pass and the sweep go over everything, several times.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.rig.advance(time);
        self.sweep();
    }

    pub(crate) fn sweep(&mut self) {
        for _ in 0..4 {
            let guard = self.worker.enter();
            let mut ctx = self.rig.ctx();
            self.nat.sweep(&mut ctx, &guard, 1 << 20);
        }
    }

    /// The state of a session, found by its outside key.
    pub(crate) fn state(&mut self, out: (Ipv4Addr, u16), remote: (&str, u16), protocol: u8) -> Option<u8> {
        let key = OutsideKey {
            out4: out.0.to_bits(),
            remote4: v4(remote.0).to_bits(),
            out_port: out.1,
            remote_port: remote.1,
            protocol,
        };
        match self.worker.enter().lookup(&key) {
            Lookup::Hit(s) => Some(s.ctl().state()),
            _ => None,
        }
    }

    pub(crate) fn tick(&self) -> Tick {
        Tick::at(self.rig.now)
    }

    pub(crate) fn sessions(&mut self) -> usize {
        let mut n = 0;
        let guard = self.worker.enter();
        guard.sessions(0, u32::MAX, |s| n += usize::from(!is_permission(s)));
        n
    }

    /// Remote addresses that were let in to a mapping.
    pub(crate) fn permissions(&mut self) -> usize {
        let mut n = 0;
        let guard = self.worker.enter();
        guard.sessions(0, u32::MAX, |s| n += usize::from(is_permission(s)));
        n
    }

    /// Takes over another configuration, as a reload does.
    pub(crate) fn reconfigure(&mut self, options: Options) {
        let config = Arc::new(self.nat.config().successor(options).unwrap());
        let pool = Arc::new(self.nat.pool().successor(&config));
        self.nat.reconfigure(config, pool);
    }

    pub(crate) fn mappings(&mut self) -> usize {
        let mut n = 0;
        let guard = self.worker.enter();
        guard.mappings(0, u32::MAX, |_| n += 1);
        n
    }
}

/// What the stage says about its result has to be what the next stage would find.
fn check_meta(p: &Packet<HeapFrame>) {
    let b = p.frame.bytes();
    let (ethertype, l4, protocol) = if b[0] >> 4 == 4 {
        (0x0800, 20, b[9])
    } else if b[6] == 44 {
        (0x86dd, 48, b[40])
    } else {
        (0x86dd, 40, b[6])
    };
    assert_eq!((p.meta.ethertype, p.meta.l4, p.meta.protocol), (ethertype, l4, protocol));
    assert!(p.meta.hop_done);
}

/// The oracle's view of a flow from `host` to the server.
pub(crate) fn flow(host: &str, host_port: u16, remote_port: u16, out: (Ipv4Addr, u16)) -> Flow {
    Flow {
        host6: v6(host),
        host_port,
        remote4: v4(SERVER),
        remote6: v6(SERVER6),
        remote_port,
        out4: out.0,
        out_port: out.1,
    }
}

/// The oracle's view of the lab's links.
pub(crate) fn choice(id: u16) -> Choice {
    Choice { id, mtu6: 1500, mtu4: 1500, hops: 1, router4: v4("192.0.2.2"), router6: v6(SERVER6) }
}

/// The Identification of an IPv4 packet.
pub(crate) fn id_of(b: &[u8]) -> u16 {
    u16::from_be_bytes([b[4], b[5]])
}
