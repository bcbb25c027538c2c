//! Connections through the stage, segment by segment, at two workers that share one flow table.

use super::*;
use crate::config::Listener;
use crate::site::{Backend, Health, Identity, Servers, Site};
use causeway_core::{Duration, HeapSource, IfId};
use causeway_flowtable::{
    Config as TableConfig, FlowTable, Kind, NewKey, NewSession, OutsideKey, Tick, Worker,
};
use causeway_tcp::segment;
use causeway_testkit::{Rig, Tcp, check_packet, describe, ip4, ip6, tcp};
use causeway_wire::l4::tcp::{ACK, FIN, RST, SYN};

const PROXY: &str = "203.0.113.80";
const CLIENT: &str = "198.51.100.99";
const OWN: &str = "2001:db8:64::1";
const VM1: &str = "2001:db8:64::101";
const VM2: &str = "2001:db8:64::102";
const EMBEDDED: &str = "2001:db8:64:c::198.51.100.99";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: site1.example\r\n\r\n";
const SLOTS: u32 = 256;

fn config() -> Config {
    let listener = Listener {
        address: PROXY.parse().unwrap(),
        port: 80,
        tls: false,
        http: true,
        default_site: None,
        redirect: false,
    };
    Config {
        listeners: vec![listener],
        sources: vec![Some(OWN.parse().unwrap())],
        client_prefixes: vec![Some("2001:db8:64:c::/96".parse().unwrap())],
        ..Config::default()
    }
}

fn site(servers: &[&str]) -> Site {
    let backend =
        |a: &&str| Backend { address: a.parse().unwrap(), ports: vec![], weight: 1, draining: false };
    Site {
        name: "site1.example".to_owned(),
        backends: servers.iter().map(backend).collect(),
        alpn: vec![],
        identity: Identity::None,
        redirect: None,
        health: Health::default(),
    }
}

/// Two workers.
struct World {
    rigs: Vec<Rig>,
    workers: Vec<Worker>,
    stages: Vec<Stage>,
    sites: Arc<ArcSwap<SiteTable>>,
    /// What was sent since it was last looked at, by any of them.
    sent: Vec<Vec<u8>>,
}

fn stage_of(worker: u8, config: Config, sites: &Arc<ArcSwap<SiteTable>>, seed: u8) -> Stage {
    let secrets = Secrets { seed: [seed; 32], cookies: [9; 16] };
    Stage::new(Arc::new(config), Arc::clone(sites), IcmpErrors::new(100, 100), worker, secrets, None)
}

impl World {
    fn new(servers: &[&str]) -> Self {
        let table = FlowTable::new(&TableConfig {
            sessions: SLOTS,
            mappings: 0,
            spliced: 64,
            workers: 2,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        })
        .unwrap();
        let sites = Arc::new(ArcSwap::from_pointee(SiteTable::of([site(servers)], &mut Servers::new())));
        let rig = |n| {
            let mut rig = Rig::lab();
            rig.worker = (n, 2);
            rig
        };
        Self {
            rigs: vec![rig(0), rig(1)],
            workers: vec![table.worker(0).unwrap(), table.worker(1).unwrap()],
            stages: vec![stage_of(0, config(), &sites, 5), stage_of(1, config(), &sites, 6)],
            sites,
            sent: Vec::new(),
        }
    }

    /// Gives a worker a packet: once more where it says so, and to the owner where it is another's. What it leaves as
    /// is among what was sent.
    fn give(&mut self, n: usize, octets: &[u8]) -> Verdict {
        self.rigs[n].source = HeapSource::new(1000);
        let four = octets[0] >> 4 == 4;
        let mut packets = [self.rigs[n].packet(if four { "uplink0" } else { "tenant0" }, octets)];
        let mut verdicts = [Verdict::Consume];
        for again in 0..2 {
            packets[0].meta.again = again;
            let guard = self.workers[n].enter();
            let mut ctx = self.rigs[n].ctx();
            if four {
                self.stages[n].clients(&mut ctx, &guard, &mut packets, &mut verdicts);
            } else {
                self.stages[n].servers(&mut ctx, &guard, &mut packets, &mut verdicts);
            }
            if !matches!(verdicts[0], Verdict::Again(Class::SpliceOut | Class::SpliceIn)) {
                break;
            }
        }
        self.collect(n);
        if matches!(verdicts[0], Verdict::Forward { .. }) {
            let out = packets[0].bytes().to_vec();
            check_packet(&out).unwrap_or_else(|e| panic!("{e}: {}", describe(&out)));
            self.sent.push(out);
        }
        verdicts[0]
    }

    fn collect(&mut self, n: usize) {
        let sent = self.rigs[n].sent();
        self.sent.extend(sent.into_iter().map(|l| l.octets));
    }

    fn tick(&mut self, n: usize, later: Duration) {
        for rig in &mut self.rigs {
            rig.advance(later);
        }
        self.rigs[n].source = HeapSource::new(1000);
        let guard = self.workers[n].enter();
        self.stages[n].tick(&mut self.rigs[n].ctx(), &guard);
        drop(guard);
        self.collect(n);
    }

    fn stop(&mut self, n: usize) -> bool {
        let guard = self.workers[n].enter();
        let done = self.stages[n].stop(&mut self.rigs[n].ctx(), &guard);
        drop(guard);
        self.collect(n);
        done
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    /// What was sent: to whom, control bits, sequence number, acknowledgement, data.
    fn said(&mut self) -> Vec<Said> {
        self.take().iter().map(|p| Said::of(p)).collect()
    }

    /// Live sessions.
    fn sessions(&mut self) -> usize {
        let guard = self.workers[0].enter();
        let mut count = 0;
        guard.sessions(0, SLOTS, |s| count += usize::from(s.is_live()));
        count
    }

    fn counted(&self, name: &str) -> u64 {
        let counter = causeway_core::Counter::ALL.iter().find(|c| c.name() == name).expect("a counter");
        self.rigs.iter().map(|r| r.counters.get(*counter)).sum()
    }
}

/// A segment that the gateway has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    to: std::net::SocketAddr,
    from: u16,
    flags: u8,
    seq: u32,
    ack: u32,
    data: Vec<u8>,
}

impl Said {
    fn of(packet: &[u8]) -> Self {
        let s = segment::parse(packet, IfId(1)).unwrap();
        // Where it comes from is the remote end of whoever gets it.
        let (to, from) = (s.ends.local, s.ends.remote.port());
        let h = s.head;
        let flags = h.flags & (SYN | ACK | FIN | RST);
        Self { to, from, flags, seq: h.seq, ack: h.ack, data: s.payload().to_vec() }
    }
}

/// Both ends of a connection, each with its next sequence number and the other's.
#[derive(Debug, Clone, Copy)]
struct Ends {
    port: u16,
    client: (u32, u32),
    own_port: u16,
    server: (u32, u32),
}

impl Ends {
    fn as_client(&self, f: impl FnOnce(Tcp) -> Tcp) -> Vec<u8> {
        let segment = tcp(self.port, 80).seq(self.client.0).ack(self.client.1).window(60_000);
        ip4(CLIENT, PROXY).tcp(&f(segment))
    }

    fn as_server(&self, f: impl FnOnce(Tcp) -> Tcp) -> Vec<u8> {
        let segment = tcp(80, self.own_port).seq(self.server.0).ack(self.server.1).window(60_000);
        ip6(VM1, OWN).tcp(&f(segment))
    }
}

/// The SYN and the ACK of a client, which come to different workers: the second owns the connection.
fn accepted(w: &mut World, port: u16, owner: usize) -> Ends {
    let syn = ip4(CLIENT, PROXY).tcp(&tcp(port, 80).syn().seq(999).options(&[2, 4, 5, 180]));
    assert!(matches!(w.give(1 - owner, &syn), Verdict::Forward { .. }));
    let answer = w.said().pop().unwrap();
    assert_eq!((answer.flags, answer.ack, answer.to.port()), (SYN | ACK, 1000, port));
    let ends = Ends { port, client: (1000, answer.seq + 1), own_port: 0, server: (0, 0) };
    assert_eq!(w.give(owner, &ends.as_client(|t| t)), Verdict::Consume);
    ends
}

/// As far as the SYN to the server.
fn connecting(w: &mut World, port: u16, owner: usize) -> Ends {
    let mut e = accepted(w, port, owner);
    w.take();
    assert_eq!(w.give(owner, &e.as_client(|t| t.payload(REQUEST))), Verdict::Consume);
    e.client.0 += REQUEST.len() as u32;
    let syn = w.said().into_iter().find(|s| s.to.is_ipv6()).unwrap();
    assert_eq!((syn.flags, syn.to.port()), (SYN, 80));
    (e.own_port, e.server) = (syn.from, (0x7000_0000, syn.seq + 1));
    e
}

/// As far as the server has everything but has acknowledged nothing of it.
fn handed_over(w: &mut World, port: u16, owner: usize) -> Ends {
    let mut e = connecting(w, port, owner);
    assert_eq!(w.give(owner, &e.as_server(|t| t.syn().options(&[2, 4, 5, 160]))), Verdict::Consume);
    e.server.0 += 1;
    let got: Vec<u8> = w.said().into_iter().filter(|s| s.to.is_ipv6()).flat_map(|s| s.data).collect();
    assert_eq!(got, REQUEST);
    e.server.1 += REQUEST.len() as u32;
    e
}

/// Spliced; by its owner.
fn spliced(w: &mut World, port: u16, owner: usize) -> Ends {
    let e = handed_over(w, port, owner);
    // The server's acknowledgement, now the client's.
    assert!(matches!(w.give(owner, &e.as_server(|t| t)), Verdict::Forward { .. }));
    w.take();
    e
}

#[test]
fn a_whole_connection_from_syn_to_fin_through_both_workers() {
    let mut w = World::new(&[VM1]);
    let mut e = spliced(&mut w, 40_000, 1);
    assert_eq!((w.sessions(), w.stages[1].peek.count()), (1, 0));
    // Any worker rewrites now, both ways, and keeps numbers and data.
    for n in [0, 1] {
        assert!(matches!(w.give(n, &e.as_server(|t| t.psh().payload(b"page"))), Verdict::Forward { .. }));
        let got = w.said().pop().unwrap();
        assert_eq!(
            (got.to.port(), got.seq, got.ack, got.data),
            (40_000, e.client.1, e.client.0, b"page".to_vec())
        );
        (e.server.0, e.client.1) = (e.server.0 + 4, e.client.1 + 4);
        assert!(matches!(w.give(n, &e.as_client(|t| t.payload(b"more"))), Verdict::Forward { .. }));
        let got = w.said().pop().unwrap();
        assert_eq!((got.to.port(), got.from, got.seq, got.ack), (80, e.own_port, e.server.1, e.server.0));
        assert_eq!(got.data, b"more");
        (e.client.0, e.server.1) = (e.client.0 + 4, e.server.1 + 4);
    }
    // Both close.
    assert!(matches!(w.give(0, &e.as_client(Tcp::fin)), Verdict::Forward { .. }));
    (e.client.0, e.server.1) = (e.client.0 + 1, e.server.1 + 1);
    assert!(matches!(w.give(1, &e.as_server(Tcp::fin)), Verdict::Forward { .. }));
    (e.server.0, e.client.1) = (e.server.0 + 1, e.client.1 + 1);
    assert!(matches!(w.give(1, &e.as_client(|t| t)), Verdict::Forward { .. }));
    let flags: Vec<u8> = w.said().iter().map(|s| s.flags).collect();
    assert_eq!(flags, [FIN | ACK, FIN | ACK, ACK]);
    // Gone some time later, by any worker's sweep.
    let tick = Tick::at(w.rigs[0].now + Duration::from_secs(40));
    let guard = w.workers[0].enter();
    let mut expiry = w.stages[0].expiry(&w.rigs[0].counters);
    for _ in 0..3 {
        guard.sweep(SLOTS, tick, &mut expiry);
    }
    drop(guard);
    assert_eq!((w.sessions(), w.counted("splice-ended-closed")), (0, 1));
    w.rigs[0].assert_counted(&[
        ("splice-cookies", 1),
        ("splice-ended-closed", 1),
        ("splice-to-clients", 1),
        ("splice-to-servers", 2),
    ]);
    w.rigs[1].assert_counted(&[
        ("splice-accepted", 1),
        ("splice-engaged", 1),
        ("splice-servers-opened", 1),
        ("splice-to-clients", 3),
        ("splice-to-servers", 2),
    ]);
}

#[test]
fn a_connection_that_is_terminated_is_its_owners_alone() {
    let mut w = World::new(&[VM1]);
    let e = accepted(&mut w, 40_000, 1);
    let said = e.as_client(|t| t.payload(REQUEST));
    assert_eq!(w.give(0, &said), Verdict::Owner(1));
    assert_eq!(w.give(0, &e.as_client(Tcp::rst)), Verdict::Owner(1));
    let mut w = World::new(&[VM1]);
    let e = connecting(&mut w, 40_001, 0);
    assert_eq!(w.give(1, &e.as_server(|t| t.syn())), Verdict::Owner(0));
    // A server's unreachability as well, wherever the error comes.
    let syn = tcp(e.own_port, 80).syn().seq(e.server.1 - 1);
    let about = ip6(OWN, VM1).tcp(&syn);
    let error = ip6("2001:db8:64::ff", OWN).icmp_error(1, 3, 0, &about);
    assert_eq!(w.give(1, &error), Verdict::Owner(0));
    w.rigs[1].assert_counted(&[("splice-cookies", 1)]);
}

#[test]
fn what_is_no_listeners_goes_to_nat64_and_what_is_no_servers_to_the_gateway() {
    let mut w = World::new(&[VM1]);
    let about = |port| ip4(PROXY, CLIENT).tcp(&tcp(port, 4000).seq(7).ack(8));
    for (what, packet) in [
        ("UDP", ip4(CLIENT, PROXY).udp(4000, 80, b"x")),
        ("another port", ip4(CLIENT, PROXY).tcp(&tcp(4000, 22).syn())),
        ("a fragment", ip4(CLIENT, PROXY).fragment(0, true).tcp(&tcp(4000, 80).payload(&[0; 12]))),
        ("a fragment behind", ip4(CLIENT, PROXY).fragment(64, false).raw(6, &[0; 24])),
        ("an error about nobody's", ip4("192.0.2.1", PROXY).icmp_error(3, 3, 0, &about(80))),
        (
            "an error about UDP",
            ip4("192.0.2.1", PROXY).icmp_error(3, 3, 0, &ip4(PROXY, CLIENT).udp(80, 4000, b"")),
        ),
        ("a fragment of ICMP", ip4(CLIENT, PROXY).fragment(0, true).raw(1, &[8; 16])),
    ] {
        assert_eq!(w.give(0, &packet), Verdict::Again(Class::Nat64Out), "{what}");
    }
    let about = ip6(OWN, VM1).tcp(&tcp(50_000, 80).syn());
    for (what, packet) in [
        ("a segment", ip6(VM1, OWN).tcp(&tcp(80, 50_000).ack(1))),
        ("a SYN", ip6(VM1, OWN).tcp(&tcp(80, 50_000).syn())),
        ("an error", ip6("2001:db8:64::ff", OWN).icmp_error(1, 3, 0, &about)),
        ("an error about UDP", ip6(VM1, OWN).icmp_error(1, 4, 0, &ip6(OWN, VM1).udp(1, 2, b""))),
    ] {
        assert_eq!(w.give(0, &packet), Verdict::Again(Class::Local), "{what}");
    }
    assert!(w.take().is_empty());
    w.rigs[0].assert_counted(&[]);
    // A client's address is nobody's but ours.
    let no_connection = Verdict::Drop(DropReason::SpliceNoConnection);
    assert_eq!(w.give(0, &ip6(VM1, EMBEDDED).tcp(&tcp(80, 50_000).seq(1).ack(77))), no_connection);
    let reset = w.said().pop().unwrap();
    assert_eq!((reset.flags, reset.seq, reset.from), (RST, 77, 50_000));
    assert_eq!(w.give(0, &ip6(VM1, EMBEDDED).tcp(&tcp(80, 50_000).rst())), no_connection);
    assert!(w.take().is_empty());
}

/// A port map's flow is NAT64's: the same address, and errors about it are for NAT64 to translate.
#[test]
fn an_error_about_a_port_maps_segment_is_nat64s() {
    let mut w = World::new(&[VM1]);
    let key = |a: &str| a.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
    let outside = OutsideKey {
        out4: key(PROXY),
        remote4: key(CLIENT),
        out_port: 2201,
        remote_port: 40_000,
        protocol: PROTO_TCP,
    };
    for state in [0, 3] {
        let guard = w.workers[0].enter();
        let new = NewSession {
            key: NewKey::Outside(OutsideKey { remote_port: 40_000 + u16::from(state), ..outside }),
            kind: Kind::Nat64,
            owner: 0,
            subscriber: 0,
            plan_generation: 0,
            state,
            flags: 0,
            tick: Tick::at(w.rigs[0].now),
            aux: 0,
        };
        guard.create_single(&new).unwrap();
        drop(guard);
        let port = 40_000 + u16::from(state);
        let about = ip4(PROXY, CLIENT).tcp(&tcp(2201, port).seq(7).ack(8));
        let error = ip4("192.0.2.1", PROXY).icmp_error(3, 4, 1400, &about);
        assert_eq!(w.give(0, &error), Verdict::Again(Class::Nat64Out), "state {state}");
        let segment = ip4(CLIENT, PROXY).tcp(&tcp(port, 2201).seq(1).ack(1));
        assert_eq!(w.give(0, &segment), Verdict::Again(Class::Nat64Out), "state {state}");
    }
    w.rigs[0].assert_counted(&[]);
}

#[test]
fn rfc5927_5_2_only_an_error_about_its_syn_ends_an_attempt_and_the_next_server_is_tried() {
    let mut w = World::new(&[VM1, VM2]);
    let e = connecting_to(&mut w);
    let (server, own_port, seq) = e;
    let other = if server == VM1 { VM2 } else { VM1 };
    let about = |seq| ip6(OWN, server).tcp(&tcp(own_port, 80).syn().seq(seq));
    let error = |kind, code, seq| ip6("2001:db8:64::ff", OWN).icmp_error(kind, code, 1280, &about(seq));
    let bad = Verdict::Drop(DropReason::SplicePeekBad);
    assert_eq!(w.give(0, &error(1, 3, seq.wrapping_add(1))), bad);
    assert_eq!(w.give(0, &error(2, 0, seq)), Verdict::Drop(DropReason::SplicePeekIcmp));
    assert_eq!(w.give(0, &error(3, 0, seq)), Verdict::Drop(DropReason::SplicePeekIcmp));
    assert!(w.take().is_empty());
    assert_eq!(w.give(0, &error(1, 3, seq)), Verdict::Consume);
    let syn = w.said().into_iter().find(|s| s.flags == SYN).unwrap();
    assert_eq!(syn.to.ip(), other.parse::<std::net::IpAddr>().unwrap());
    // The same again is about nobody's now.
    assert_eq!(w.give(0, &error(1, 3, seq)), Verdict::Again(Class::Local));
    assert_eq!(w.counted("splice-servers-refused"), 1);
    // And about the client's side nothing is believed while it is terminated.
    let about = ip4(PROXY, CLIENT).tcp(&tcp(80, 40_000).seq(1).ack(2));
    let error = ip4("192.0.2.1", PROXY).icmp_error(3, 1, 0, &about);
    assert_eq!(w.give(0, &error), Verdict::Drop(DropReason::SplicePeekIcmp));
    assert_eq!((w.sessions(), w.stages[0].peek.count()), (1, 1));
}

/// The server that is tried first, where from, and with which number.
fn connecting_to(w: &mut World) -> (&'static str, u16, u32) {
    let e = accepted(w, 40_000, 0);
    w.take();
    assert_eq!(w.give(0, &e.as_client(|t| t.payload(REQUEST))), Verdict::Consume);
    let syn = w.said().into_iter().find(|s| s.flags == SYN).unwrap();
    let server = if syn.to.ip().to_string() == VM1 { VM1 } else { VM2 };
    (server, syn.from, syn.seq)
}

#[test]
fn errors_about_a_spliced_connection_reach_the_other_end_by_either_worker() {
    let mut w = World::new(&[VM1]);
    let mut e = spliced(&mut w, 40_000, 1);
    assert!(matches!(w.give(0, &e.as_server(|t| t.payload(&[7; 1000]))), Verdict::Forward { .. }));
    let segment = w.take().pop().unwrap();
    e.server.0 += 1000;
    for n in [0, 1] {
        let error = ip4("192.0.2.1", PROXY).icmp_error(3, 4, 600, &segment[..68.min(segment.len())]);
        assert!(matches!(w.give(n, &error), Verdict::Forward { .. }));
        let told = w.take().pop().unwrap();
        // RFC 7915 4.2: too big, with the 20 octets that IPv6 adds, but no less than its least MTU.
        assert_eq!((told[40], u32::from_be_bytes(told[44..48].try_into().unwrap())), (2, 1280));
    }
    assert!(matches!(w.give(1, &e.as_client(|t| t.payload(b"x"))), Verdict::Forward { .. }));
    let segment = w.take().pop().unwrap();
    for n in [0, 1] {
        let error = ip6("2001:db8:64::ff", OWN).icmp_error(2, 0, 1280, &segment);
        assert!(matches!(w.give(n, &error), Verdict::Forward { .. }));
        let told = w.take().pop().unwrap();
        assert_eq!((told[20], told[21], u16::from_be_bytes([told[26], told[27]])), (3, 4, 1260));
    }
    assert_eq!(w.counted("splice-icmp-passed"), 4);
}

#[test]
fn a_stage_that_is_made_anew_resets_what_the_one_before_has_left() {
    let mut w = World::new(&[VM1]);
    let e = connecting(&mut w, 40_000, 0);
    let kept = spliced(&mut w, 40_001, 0);
    w.stages[0] = stage_of(0, config(), &w.sites.clone(), 77);
    assert_eq!(w.sessions(), 2);
    w.take();
    // The other worker still hands it over; the owner knows nothing of it and says so.
    assert_eq!(w.give(1, &e.as_client(|t| t.payload(b"x"))), Verdict::Owner(0));
    let gone = Verdict::Drop(DropReason::SpliceNoConnection);
    assert_eq!(w.give(0, &e.as_client(|t| t.payload(b"x"))), gone);
    let reset = w.said().pop().unwrap();
    assert_eq!((reset.flags, reset.seq, reset.to.port()), (RST, e.client.1, 40_000));
    // Then the server's has no session: it is for the gateway's own TCP to refuse.
    assert_eq!(w.give(0, &e.as_server(|t| t.syn())), Verdict::Again(Class::Local));
    // The server may have been first.
    let e = connecting(&mut w, 40_002, 0);
    w.stages[0] = stage_of(0, config(), &w.sites.clone(), 78);
    assert_eq!(w.give(0, &e.as_server(|t| t.syn())), gone);
    // A place that somebody else has now is not taken for the old one's.
    let e = connecting(&mut w, 40_003, 0);
    w.stages[0] = stage_of(0, config(), &w.sites.clone(), 79);
    let other = connecting(&mut w, 40_004, 0);
    assert_eq!(w.give(0, &e.as_client(|t| t.payload(b"x"))), gone);
    assert_eq!(w.give(0, &other.as_server(|t| t.syn().options(&[2, 4, 5, 160]))), Verdict::Consume);
    // What was spliced goes on.
    assert!(matches!(w.give(0, &kept.as_client(|t| t.payload(b"x"))), Verdict::Forward { .. }));
    assert_eq!((w.sessions(), w.stages[0].peek.count()), (2, 1));
}

#[test]
fn a_client_whose_connection_is_of_no_stage_any_more_opens_another_with_the_same_port() {
    let mut w = World::new(&[VM1]);
    let _ = connecting(&mut w, 40_000, 0);
    w.stages[0] = stage_of(0, config(), &w.sites.clone(), 77);
    w.take();
    let syn = ip4(CLIENT, PROXY).tcp(&tcp(40_000, 80).syn().seq(5999));
    assert!(matches!(w.give(0, &syn), Verdict::Forward { .. }));
    let answer = w.said().pop().unwrap();
    let e = Ends { port: 40_000, client: (6000, answer.seq + 1), own_port: 0, server: (0, 0) };
    assert_eq!(w.give(1, &e.as_client(|t| t.payload(REQUEST))), Verdict::Consume);
    assert_eq!((w.sessions(), w.stages[1].peek.count()), (1, 1));
}

#[test]
fn another_plan_leaves_connections_alone() {
    let mut w = World::new(&[VM1]);
    let peeking = handed_over(&mut w, 40_000, 0);
    let spliced = spliced_beside(&mut w, 40_001);
    let fresh = accepted(&mut w, 40_002, 0);
    w.take();
    // Another generation, another source before ours, and other limits.
    let new = Config {
        generation: 1,
        sources: vec![Some("2001:db8:65::1".parse().unwrap()), Some(OWN.parse().unwrap())],
        limits: crate::config::Limits { peeks: 0, ..config().limits },
        ..config()
    }
    .successor(&config());
    let new = Arc::new(new);
    for stage in &mut w.stages {
        stage.set_config(Arc::clone(&new));
    }
    assert!(matches!(w.give(0, &peeking.as_server(|t| t)), Verdict::Forward { .. }));
    for e in [peeking, spliced] {
        assert!(matches!(w.give(1, &e.as_client(|t| t.payload(b"x"))), Verdict::Forward { .. }));
        assert_eq!(w.said().pop().unwrap().from, e.own_port);
    }
    assert_eq!(w.give(0, &fresh.as_client(|t| t.payload(REQUEST))), Verdict::Consume);
    assert!(w.said().iter().any(|s| s.flags == SYN), "it is routed");
    let guard = w.workers[0].enter();
    let tick = Tick::at(w.rigs[0].now);
    guard.sweep(SLOTS, tick, &mut w.stages[0].expiry(&w.rigs[0].counters));
    drop(guard);
    assert_eq!(w.sessions(), 3, "the sweep leaves them as well");
    // Lower limits are for new ones.
    let syn = ip4(CLIENT, PROXY).tcp(&tcp(40_003, 80).syn().seq(999));
    assert!(matches!(w.give(0, &syn), Verdict::Forward { .. }));
    let answer = w.said().pop().unwrap();
    let e = Ends { port: 40_003, client: (1000, answer.seq + 1), own_port: 0, server: (0, 0) };
    assert_eq!(w.give(0, &e.as_client(|t| t)), Verdict::Drop(DropReason::SplicePeeksFull));
    // A listener that is gone: who has not said yet where to is reset; a source that is gone: its connections end.
    let mut w = World::new(&[VM1]);
    let spliced = spliced_beside(&mut w, 40_001);
    let fresh = accepted(&mut w, 40_002, 0);
    w.take();
    let new = Config { generation: 1, listeners: vec![], sources: vec![None], ..config() };
    w.stages[0].set_config(Arc::new(new));
    assert_eq!(w.give(0, &fresh.as_client(|t| t.payload(b"G"))), Verdict::Consume);
    assert_eq!(w.said().iter().map(|s| s.flags).collect::<Vec<_>>(), [RST | ACK]);
    let gone = w.give(0, &spliced.as_client(|t| t.payload(b"x")));
    assert_eq!(gone, Verdict::Drop(DropReason::SpliceSourceGone));
    let guard = w.workers[0].enter();
    guard.sweep(SLOTS, tick, &mut w.stages[0].expiry(&w.rigs[0].counters));
    drop(guard);
    assert_eq!((w.sessions(), w.counted("splice-ended-config")), (0, 1));
}

fn spliced_beside(w: &mut World, port: u16) -> Ends {
    let e = handed_over(w, port, 0);
    assert!(matches!(w.give(0, &e.as_server(|t| t)), Verdict::Forward { .. }));
    w.take();
    e
}

#[test]
fn a_stop_resets_both_ends_of_what_is_terminated_a_bounded_number_at_once() {
    let mut w = World::new(&[VM1]);
    let kept = spliced(&mut w, 39_000, 0);
    for n in 0..40 {
        let _ = connecting(&mut w, 40_000 + n, 0);
    }
    assert_eq!(w.stages[0].peek.count(), 40);
    w.take();
    assert!(!w.stop(0), "more than fits into one outbox");
    assert!(w.sent.len() <= 64);
    // Meanwhile nobody gets in; a SYN comes again, by when there may be somebody else.
    let stopping = Verdict::Drop(DropReason::SpliceStopping);
    let before = w.sent.len();
    let syn = ip4(CLIENT, PROXY).tcp(&tcp(50_000, 80).syn().seq(999));
    assert_eq!(w.give(0, &syn), stopping);
    assert_eq!(w.sent.len(), before);
    assert_eq!(w.give(0, &ip4(CLIENT, PROXY).tcp(&tcp(50_000, 80).seq(9).ack(9))), stopping);
    assert_eq!(w.said().pop().unwrap().flags, RST);
    let mut rounds = 1;
    while !w.stop(0) {
        rounds += 1;
    }
    assert!(rounds < 4, "{rounds}");
    assert_eq!((w.counted("splice-stopped"), w.sessions()), (40, 1));
    assert!(w.said().iter().all(|s| s.flags & RST != 0));
    assert!(matches!(w.give(0, &kept.as_client(|t| t)), Verdict::Forward { .. }), "spliced ones are let be");
    // It goes on after all.
    w.tick(0, Duration::from_millis(1));
    let _ = accepted(&mut w, 51_000, 0);
}

#[test]
fn whoever_leaves_its_addresses_to_another_says_nothing() {
    let mut w = World::new(&[VM1]);
    let kept = spliced(&mut w, 39_000, 0);
    for n in 0..40 {
        let _ = connecting(&mut w, 40_000 + n, 0);
    }
    w.take();
    let guard = w.workers[0].enter();
    w.stages[0].leave(&guard);
    drop(guard);
    w.tick(0, Duration::from_secs(100));
    assert!(w.take().is_empty());
    assert_eq!((w.sessions(), w.stages[0].peek.count(), w.stages[0].peek.octets()), (1, 0, 0));
    assert!(matches!(w.give(0, &kept.as_client(|t| t)), Verdict::Forward { .. }));
}

#[test]
fn a_check_of_a_worker_that_is_no_checker_any_more_is_dropped() {
    let mut w = World::new(&[VM1]);
    let guard = w.workers[0].enter();
    let key = InsideKey {
        src6: VM1.parse::<std::net::Ipv6Addr>().unwrap().to_bits(),
        dst4: 0,
        src_port: 80,
        dst_port: 40_000,
        protocol: PROTO_TCP,
        prefix: causeway_flowtable::OWN_ADDRESS,
    };
    let new = NewSession {
        key: NewKey::Inside(key),
        kind: Kind::Local,
        owner: 0,
        subscriber: 0,
        plan_generation: 0,
        state: 0,
        flags: 0,
        tick: Tick::at(w.rigs[0].now),
        aux: 0,
    };
    guard.create_single(&new).unwrap();
    drop(guard);
    let segment = ip6(VM1, OWN).tcp(&tcp(80, 40_000).syn().ack(1));
    assert_eq!(w.give(0, &segment), Verdict::Drop(DropReason::SpliceCheckOver));
    assert_eq!(w.give(1, &segment), Verdict::Owner(0));
    // An error about it is nobody's: not that of a connection with the same place.
    let about = ip6(OWN, VM1).tcp(&tcp(40_000, 80).syn());
    let error = ip6("2001:db8:64::ff", OWN).icmp_error(1, 3, 0, &about);
    assert_eq!(w.give(0, &error), Verdict::Again(Class::Local));
}
