//! The splice as a stage: packets in, packets out, counters.

mod bytes;
mod streams;

use super::*;
use crate::config::Listener;
use causeway_core::{Duration, HeapFrame};
use causeway_flowtable::{FlowTable, Kind, NewKey, NewSession, Worker};
use causeway_testkit::{Rig, Tcp, check_packet, ip4, ip6, poke, tcp as seg};

pub(super) const CLIENT: &str = "198.51.100.99";
pub(super) const PROXY: &str = "203.0.113.80";
pub(super) const SERVER: &str = "2001:db8:64::101";
pub(super) const OWN: &str = "2001:db8:64::1";
/// The client in the prefix for clients.
const EMBEDDED: &str = "2001:db8:64:c11e::198.51.100.99";
pub(super) const CLIENT_PORT: u16 = 40_000;
pub(super) const OWN_PORT: u16 = 50_001;

/// A gateway of one worker with one connection, of which each test says how it is spliced.
#[derive(Debug)]
pub(super) struct World {
    pub(super) rig: Rig,
    pub(super) worker: Worker,
    pub(super) splice: Splice,
    pub(super) slow: Vec<u8>,
}

/// What most tests splice with.
pub(super) fn constants() -> Constants {
    Constants {
        client_isn: 1_000,
        server_isn: 7_000_000,
        client_seq_delta: 0xffff_0000,
        server_seq_delta: 0x1234_5678,
        client_seq_end: 1_001,
        server_seq_end: 7_000_001,
        timestamps: true,
        client_ts_delta: 0,
        server_ts_delta: 0x8000_0001,
        client_sack: true,
        server_sack: true,
        scales: Scales::default(),
        closed: Closed::default(),
    }
}

fn config() -> Config {
    Config {
        listeners: vec![Listener {
            address: PROXY.parse().unwrap(),
            port: 443,
            tls: true,
            http: false,
            default_site: None,
            redirect: false,
        }],
        sources: vec![None, Some(OWN.parse().unwrap())],
        client_prefixes: vec![Some("2001:db8:64:c11e::/96".parse().unwrap())],
        ..Config::default()
    }
}

impl World {
    /// A connection that is terminated still, whose own end is an address of ours or the embedded client.
    pub(super) fn terminated(embedded: bool) -> Self {
        let table = FlowTable::new(&causeway_flowtable::Config {
            sessions: 64,
            mappings: 0,
            spliced: 64,
            workers: 1,
            control_readers: 1,
            seed: [1, 2, 3, 4],
        })
        .unwrap();
        let rig = Rig::lab();
        let mut worker = table.worker(0).unwrap();
        {
            let guard = worker.enter();
            let session = guard
                .create_single(&NewSession {
                    key: NewKey::Outside(outside(CLIENT_PORT)),
                    kind: Kind::Spliced,
                    owner: 0,
                    subscriber: 0,
                    plan_generation: 0,
                    state: State::Peek as u8,
                    flags: 0,
                    tick: Tick::at(rig.now),
                    aux: 0,
                })
                .unwrap()
                .into_inner();
            let own = if embedded { EMBEDDED } else { OWN };
            let (prefix, dst4) = number_of(&config(), own.parse().unwrap()).unwrap();
            let key = InsideKey {
                src6: SERVER.parse::<Ipv6Addr>().unwrap().to_bits(),
                dst4,
                src_port: 8443,
                dst_port: OWN_PORT,
                protocol: 6,
                prefix,
            };
            let ends = Ends {
                client: (CLIENT.parse().unwrap(), CLIENT_PORT),
                listener: (PROXY.parse().unwrap(), 443),
                server: (SERVER.parse().unwrap(), 8443),
                own: (own.parse().unwrap(), OWN_PORT),
            };
            let line = guard.take_spliced().unwrap();
            guard.add_inside(&session, key, line, ends.checksum_delta()).unwrap();
        }
        let splice = Splice::new(Arc::new(config()), IcmpErrors::new(100, 100), 7);
        Self { rig, worker, splice, slow: Vec::new() }
    }

    /// A connection that is spliced.
    pub(super) fn spliced(constants: &Constants) -> Self {
        let mut w = Self::terminated(false);
        w.engage(constants);
        w
    }

    pub(super) fn engage(&mut self, constants: &Constants) {
        let tick = Tick::at(self.rig.now);
        let guard = self.worker.enter();
        let session = guard.lookup(&outside(CLIENT_PORT)).hit().unwrap();
        assert!(super::engage(&session, constants, tick));
    }

    /// The state of the connection; nothing if it has ended.
    pub(super) fn state(&mut self) -> Option<State> {
        let guard = self.worker.enter();
        guard.lookup(&outside(CLIENT_PORT)).hit().map(|s| State::from_u8(s.ctl().state()))
    }

    /// Sends a burst through; gives verdicts and what the packets are then. `slow` says who was told as such.
    pub(super) fn burst(&mut self, side: Side, octets: &[Vec<u8>]) -> Vec<(Verdict, Vec<u8>)> {
        let from = if side == Side::Client { "uplink0" } else { "tenant0" };
        let mut packets: Vec<Packet<HeapFrame>> = octets.iter().map(|o| self.rig.packet(from, o)).collect();
        let mut verdicts = vec![Verdict::Held; packets.len()];
        let mut slow = ArrayVec::new();
        let guard = self.worker.enter();
        let mut ctx = self.rig.ctx();
        match side {
            Side::Client => self.splice.clients(&mut ctx, &guard, &mut packets, &mut verdicts, &mut slow),
            Side::Server => self.splice.servers(&mut ctx, &guard, &mut packets, &mut verdicts, &mut slow),
        }
        self.slow = slow.to_vec();
        verdicts.into_iter().zip(packets.iter().map(|p| p.bytes().to_vec())).collect()
    }

    /// Sends one packet, which has to be passed on; gives what it became.
    pub(super) fn passes(&mut self, side: Side, octets: Vec<u8>) -> Vec<u8> {
        let (verdict, out) = self.burst(side, &[octets]).remove(0);
        let (interface, via) =
            if side == Side::Client { ("tenant0", SERVER) } else { ("uplink0", "192.0.2.1") };
        assert_eq!(verdict, Verdict::Forward { egress: self.rig.egress(interface, via) });
        assert_eq!(check_packet(&out), Ok(()), "{}", causeway_testkit::describe(&out));
        out
    }

    /// Runs the sweep over all slots.
    pub(super) fn sweep(&mut self, config: &Config) {
        let guard = self.worker.enter();
        let mut expiry = Expiry::new(config, &self.rig.counters);
        guard.sweep(u32::MAX, Tick::at(self.rig.now), &mut expiry);
    }
}

fn outside(remote_port: u16) -> OutsideKey {
    let v4 = |t: &str| t.parse::<Ipv4Addr>().unwrap().to_bits();
    OutsideKey { out4: v4(PROXY), remote4: v4(CLIENT), out_port: 443, remote_port, protocol: 6 }
}

/// From the client to the listener.
pub(super) fn from_client(t: &Tcp) -> Vec<u8> {
    ip4(CLIENT, PROXY).ttl(60).df(true).tcp(t)
}

/// From the server to us.
pub(super) fn from_server(t: &Tcp) -> Vec<u8> {
    ip6(SERVER, OWN).hop_limit(60).tcp(t)
}

fn client(seq: u32) -> Tcp {
    seg(CLIENT_PORT, 443).seq(seq).ack(1)
}

fn server(seq: u32) -> Tcp {
    seg(8443, OWN_PORT).seq(seq).ack(1)
}

#[test]
fn a_segment_of_each_side_becomes_the_other_sides() {
    let mut w = World::spliced(&constants());
    let sent = seg(CLIENT_PORT, 443).seq(5_000).ack(0x1234_5678 + 900).window(77).psh().payload(b"odd");
    let want = seg(OWN_PORT, 8443).seq(5_000u32.wrapping_add(0xffff_0000)).ack(900).window(77).psh();
    assert_eq!(
        w.passes(Side::Client, from_client(&sent)),
        ip6(OWN, SERVER).hop_limit(59).tcp(&want.payload(b"odd"))
    );
    let sent = seg(8443, OWN_PORT).seq(7_000_500).ack(900).window(5).payload(b"even");
    let want = seg(443, CLIENT_PORT).seq(7_000_500 + 0x1234_5678).ack(900 + 0x1_0000).window(5);
    let got = w.passes(Side::Server, from_server(&sent));
    assert_eq!(got, ip4(PROXY, CLIENT).ttl(59).df(false).id(8).tcp(&want.payload(b"even")));
    w.rig.assert_counted(&[("splice-to-servers", 1), ("splice-to-clients", 1)]);
}

#[test]
fn a_server_that_is_to_see_the_client_gets_segments_from_the_clients_address() {
    let mut w = World::terminated(true);
    w.engage(&constants());
    let got = w.passes(Side::Client, from_client(&client(5_000)));
    assert_eq!(got[8..24], EMBEDDED.parse::<Ipv6Addr>().unwrap().octets());
    let got = w.passes(Side::Server, ip6(SERVER, EMBEDDED).tcp(&server(7_000_500)));
    assert_eq!(got[16..20], [198, 51, 100, 99]);
}

#[test]
fn what_is_no_spliced_segment_is_told_as_slow_in_order_and_left_alone() {
    let mut w = World::spliced(&constants());
    let mine = from_client(&client(5_000));
    let strangers = ip4(CLIENT, PROXY).tcp(&seg(1, 443).syn());
    let udp = ip4(CLIENT, PROXY).udp(1, 443, b"x");
    let fragment = ip4(CLIENT, PROXY).fragment(0, true).raw(6, &[0; 24]);
    let sent = [strangers, mine, udp, fragment];
    let got = w.burst(Side::Client, &sent);
    assert_eq!(w.slow, [0, 2, 3]);
    for at in [0, 2, 3] {
        assert_eq!(got[at], (Verdict::Held, sent[at].clone()));
    }
    let sent = [
        ip6(SERVER, "2001:db8:64::9").tcp(&server(7_000_000)),
        from_server(&server(7_000_000)),
        ip6("2001:db8:64::102", OWN).tcp(&server(7_000_000)),
        ip6(SERVER, OWN).fragment(0, true, 1).raw(6, &[0; 24]),
    ];
    let got = w.burst(Side::Server, &sent);
    assert_eq!(w.slow, [0, 2, 3]);
    assert!(matches!(got[1].0, Verdict::Forward { .. }));
    w.rig.assert_counted(&[("splice-to-servers", 1), ("splice-to-clients", 1)]);
}

#[test]
fn a_connection_that_is_terminated_is_its_owners() {
    let mut w = World::terminated(false);
    for (side, sent) in [(Side::Client, from_client(&client(5_000))), (Side::Server, from_server(&server(1)))]
    {
        let got = w.burst(side, std::slice::from_ref(&sent));
        assert_eq!((got, &w.slow[..]), (vec![(Verdict::Held, sent)], &[0][..]));
    }
    w.rig.assert_counted(&[]);
}

#[test]
fn rfc9293_3_1_a_header_that_contradicts_itself_is_dropped() {
    let mut w = World::spliced(&constants());
    let good = from_client(&client(5_000));
    // A data offset of four words, of fifteen where there are five; an option longer than the header; one of no octets.
    let options = |raw: &[u8]| from_client(&client(5_000).options(raw));
    let sent = [
        poke(good.clone(), 32, &[0x40]),
        poke(good, 32, &[0xf0]),
        options(&[1, 1, 5, 40]),
        options(&[1, 1, 8, 0]),
        options(&[1, 1, 1, 8]),
    ];
    for (verdict, _) in w.burst(Side::Client, &sent) {
        assert_eq!(verdict, Verdict::Drop(DropReason::SpliceBadSegment));
    }
    assert_eq!(w.slow, []);
    w.rig.assert_counted(&[]);
}

#[test]
fn rfc7915_4_a_segment_that_does_not_fit_is_dropped_and_its_sender_told_what_would_have_fit() {
    let mut w = World::spliced(&constants());
    let payload = vec![7; 1500 - 40 - 20 + 1];
    let (verdict, left) = w.burst(Side::Client, &[from_client(&client(5_000).payload(&payload))]).remove(0);
    assert_eq!(verdict, Verdict::Drop(DropReason::SpliceTooBig));
    assert_eq!(left.len(), 1481, "as it came");
    let sent = w.rig.sent();
    // Type 3, code 4, 1480 octets (RFC 1191 4).
    assert_eq!(sent[0].octets[20..22], [3, 4]);
    assert_eq!(sent[0].octets[26..28], 1480u16.to_be_bytes());
    assert_eq!(check_packet(&sent[0].octets), Ok(()));
    w.passes(Side::Client, from_client(&client(5_000).payload(&payload[1..])));
    w.rig.assert_counted(&[("icmp-errors-sent", 1), ("splice-to-servers", 1)]);
}

#[test]
fn rfc1812_5_3_1_a_segment_that_has_come_too_far_is_dropped_and_its_sender_told() {
    let mut w = World::spliced(&constants());
    let sent = ip4(CLIENT, PROXY).ttl(1).tcp(&client(5_000));
    let (verdict, _) = w.burst(Side::Client, &[sent]).remove(0);
    assert_eq!(verdict, Verdict::Drop(DropReason::HopLimit));
    let sent = ip6(SERVER, OWN).hop_limit(1).tcp(&server(7_000_000));
    let (verdict, _) = w.burst(Side::Server, &[sent]).remove(0);
    assert_eq!(verdict, Verdict::Drop(DropReason::HopLimit));
    let kinds: Vec<u8> =
        w.rig.sent().iter().map(|l| l.octets[if l.octets[0] >> 4 == 4 { 20 } else { 40 }]).collect();
    assert_eq!(kinds, [11, 3]);
}

#[test]
fn rfc7323_2_2_windows_are_rescaled_but_for_those_of_syns() {
    let scales = Scales { client: 3, to_client: 7, server: 9, to_server: 3 };
    let mut w = World::spliced(&Constants { scales, ..constants() });
    let window = |b: Vec<u8>, at: usize| u16::from_be_bytes([b[at + 14], b[at + 15]]);
    for (sent, want) in [(0, 0), (1, 4), (100, 400), (16_383, 65_532), (16_384, 65_535), (65_535, 65_535)] {
        let got = w.passes(Side::Server, from_server(&server(7_000_000).window(sent)));
        assert_eq!(window(got, 20), want, "{sent} of the server");
        let got = w.passes(Side::Client, from_client(&client(5_000).window(sent)));
        assert_eq!(window(got, 40), sent, "the client's scale is what the server was told");
    }
    let got = w.passes(Side::Server, from_server(&server(7_000_000).syn().window(100)));
    assert_eq!(window(got, 20), 100);
    // The other way round it is rounded down, never more than there is, unless a sender would stop for good.
    let scales = Scales { server: 2, ..scales };
    let mut w = World::spliced(&Constants { scales, ..constants() });
    for (sent, want) in [(0, 0), (1, 1), (31, 1), (32, 1), (63, 1), (64, 2), (65_535, 2_047)] {
        assert_eq!(window(w.passes(Side::Server, from_server(&server(7_000_000).window(sent))), 20), want);
    }
}

#[test]
fn a_connection_is_followed_to_its_end_and_forgotten_when_it_is_silent() {
    let c = constants();
    let patience = |w: &mut World| {
        let mut seconds = 0;
        while w.state().is_some() {
            w.rig.advance(Duration::from_secs(1));
            seconds += 1;
            w.sweep(&config());
        }
        seconds
    };
    let (established, closing) = (2 * 3600 + 4 * 60, 30);
    // RFC 5382 5, REQ-5: not before 2 hours and 4 minutes.
    let mut w = World::spliced(&c);
    assert!((established..established + 3).contains(&patience(&mut w)));
    w.rig.assert_counted(&[("splice-ended-idle", 1)]);

    let mut w = World::spliced(&c);
    w.passes(Side::Client, from_client(&client(1_001).fin()));
    assert_eq!(w.state(), Some(State::ClientFin));
    w.passes(Side::Server, from_server(&server(7_000_001)));
    w.passes(Side::Server, from_server(&server(7_000_001).fin()));
    assert_eq!(w.state(), Some(State::BothFin));
    w.passes(Side::Client, from_client(&client(1_002)));
    assert_eq!(w.state(), Some(State::BothFin));
    assert!((closing..closing + 3).contains(&patience(&mut w)));
    w.rig.assert_counted(&[("splice-to-servers", 2), ("splice-to-clients", 2), ("splice-ended-closed", 1)]);
}

#[test]
fn a_connection_that_is_used_now_and_then_never_ends() {
    let mut w = World::spliced(&constants());
    for hour in 0..100 {
        w.rig.advance(Duration::from_secs(2 * 3600));
        w.sweep(&config());
        if hour % 2 == 0 {
            w.passes(Side::Client, from_client(&client(1_000)));
        } else {
            w.passes(Side::Server, from_server(&server(7_000_001)));
        }
    }
    assert_eq!(w.state(), Some(State::Open));
}

#[test]
fn rfc7857_2_2_a_reset_is_believed_until_somebody_goes_on() {
    let mut w = World::spliced(&Constants { closed: Closed { client: true, server: false }, ..constants() });
    w.passes(Side::Client, from_client(&client(1_001).rst()));
    assert_eq!(w.state(), Some(State::Reset));
    w.passes(Side::Server, from_server(&server(7_000_001)));
    assert_eq!(w.state(), Some(State::ClientFin));
    w.rig.assert_counted(&[("splice-to-servers", 1), ("splice-to-clients", 1)]);
}

#[test]
fn rfc5961_3_a_reset_far_from_what_was_sent_is_passed_on_and_changes_nothing() {
    let mut w = World::spliced(&constants());
    let far = 1_001u32.wrapping_add(PLAUSIBLE + 1);
    w.rig.advance(Duration::from_secs(3600));
    w.passes(Side::Client, from_client(&client(far).rst()));
    w.passes(Side::Client, from_client(&client(far).fin()));
    assert_eq!(w.state(), Some(State::Open));
    w.rig.assert_counted(&[("splice-to-servers", 2), ("splice-resets-doubted", 1)]);
    // As the connection goes on, what is plausible goes with it.
    let mut seq = 1_001u32;
    for _ in 0..600 {
        seq = seq.wrapping_add(NOTED_EVERY / 2);
        w.passes(Side::Client, from_client(&client(seq)));
    }
    w.passes(Side::Client, from_client(&client(1_001).rst()));
    assert_eq!(w.state(), Some(State::Open));
    w.passes(Side::Client, from_client(&client(seq).rst()));
    assert_eq!(w.state(), Some(State::Reset));
}

#[test]
fn rfc9293_3_6_1_a_client_may_open_its_next_connection_when_this_one_is_over() {
    let syn = |isn| from_client(&seg(CLIENT_PORT, 443).seq(isn).syn());
    for closed in [(false, false), (true, false), (false, true), (true, true)] {
        let closed = Closed { client: closed.0, server: closed.1 };
        let mut w = World::spliced(&Constants { closed, ..constants() });
        // RFC 5961 4: the server answers it, also an old one that comes late.
        w.passes(Side::Client, syn(1_000));
        if closed.state() != State::BothFin {
            w.passes(Side::Client, syn(9_000));
            assert_eq!(w.state(), Some(closed.state()));
            w.passes(Side::Server, from_server(&server(7_000_001).rst()));
        }
        let got = w.burst(Side::Client, &[syn(9_000)]);
        assert_eq!((got, &w.slow[..]), (vec![(Verdict::Held, syn(9_000))], &[0][..]));
        assert_eq!(w.state(), None);
        assert_eq!(w.rig.counters.get(Counter::SpliceEndedReused), 1);
    }
}

#[test]
fn rfc5961_4_2_a_syn_behind_a_reset_of_anybody_ends_nothing_until_the_client_confirms_it() {
    let syn = from_client(&seg(CLIENT_PORT, 443).seq(9_000).syn());
    let challenged = |w: &mut World| {
        let (verdict, _) = w.burst(Side::Client, std::slice::from_ref(&syn)).remove(0);
        assert_eq!((verdict, w.slow.len()), (Verdict::Drop(DropReason::SpliceChallenged), 0));
        assert_eq!(w.state(), Some(State::Reset));
        let sent = w.rig.sent();
        assert_eq!(sent.len(), 1);
        let octets = &sent[0].octets;
        let tcp = &octets[20..];
        assert_eq!((tcp[13], &octets[16..20], octets.len()), (tcp::ACK, &syn[12..16], 40));
        u32::from_be_bytes(tcp[8..12].try_into().unwrap())
    };
    // Whoever is still there goes on.
    let mut w = World::spliced(&constants());
    w.passes(Side::Client, from_client(&client(1_001).rst()));
    let number = challenged(&mut w);
    w.passes(Side::Client, from_client(&client(1_001)));
    assert_eq!(w.state(), Some(State::Open));
    // Whoever is not, says so with the number that it was asked with.
    w.passes(Side::Client, from_client(&client(1_001).rst()));
    assert_eq!(challenged(&mut w), number);
    w.passes(Side::Client, from_client(&client(number.wrapping_add(1)).rst()));
    challenged(&mut w);
    w.passes(Side::Client, from_client(&client(number).rst()));
    let got = w.burst(Side::Client, std::slice::from_ref(&syn));
    assert_eq!((got, &w.slow[..]), (vec![(Verdict::Held, syn.clone())], &[0][..]));
    assert_eq!(w.state(), None);
    assert_eq!(w.rig.counters.get(Counter::SpliceEndedReused), 1);
}

#[test]
fn a_reload_ends_connections_whose_addresses_are_gone_and_no_others() {
    let mut w = World::spliced(&constants());
    let next = Config { generation: 1, ..config() };
    w.sweep(&next);
    assert_eq!(w.state(), Some(State::Open));
    // It is of the new plan now.
    let without = |generation, listeners| {
        let sources = if listeners { vec![None, None] } else { config().sources };
        Config {
            generation,
            sources,
            listeners: if listeners { config().listeners } else { vec![] },
            ..config()
        }
    };
    w.sweep(&without(1, true));
    assert_eq!(w.state(), Some(State::Open));
    w.sweep(&without(2, false));
    assert_eq!(w.state(), None);
    w.rig.assert_counted(&[("splice-ended-config", 1)]);
    let mut w = World::spliced(&constants());
    w.splice.set_config(Arc::new(without(2, true)));
    let (verdict, _) = w.burst(Side::Client, &[from_client(&client(1_001))]).remove(0);
    assert_eq!(verdict, Verdict::Drop(DropReason::SpliceSourceGone));
    w.sweep(&without(2, true));
    assert_eq!(w.state(), None);
}

#[test]
fn a_terminated_connection_is_swept_only_if_its_owner_forgot_it_for_a_day() {
    let mut w = World::terminated(false);
    w.rig.advance(Duration::from_secs(24 * 3600 - 1));
    w.sweep(&config());
    assert_eq!(w.state(), Some(State::Peek));
    w.rig.advance(Duration::from_secs(2));
    w.sweep(&config());
    assert_eq!(w.state(), None);
    w.rig.assert_counted(&[]);
}

#[test]
fn one_segment_by_hand_goes_the_same_way() {
    let mut w = World::spliced(&constants());
    let mut one = |side, octets: &[u8]| {
        let mut packet = w.rig.packet(if side == Side::Client { "uplink0" } else { "tenant0" }, octets);
        let guard = w.worker.enter();
        let session = guard.lookup(&outside(CLIENT_PORT)).hit().unwrap();
        let mut ctx = w.rig.ctx();
        let verdict = match side {
            Side::Client => w.splice.one_client(&mut ctx, &guard, &session, &mut packet),
            Side::Server => w.splice.one_server(&mut ctx, &guard, &session, &mut packet),
        };
        (matches!(verdict, Verdict::Forward { .. }), packet.bytes().to_vec())
    };
    let (c, s) = (
        one(Side::Client, &from_client(&client(1_001))),
        one(Side::Server, &from_server(&server(7_000_001))),
    );
    let mut w = World::spliced(&constants());
    assert_eq!(c, (true, w.passes(Side::Client, from_client(&client(1_001)))));
    assert_eq!(s, (true, w.passes(Side::Server, from_server(&server(7_000_001)))));
}
