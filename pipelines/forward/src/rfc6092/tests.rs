use super::*;
use crate::tests::table;
use crate::{Config, Forward, Inbound, Isolation, Timeouts};
use causeway_core::{Duration, IfId, Verdict};
use causeway_flowtable::{Mapping, Sweeper, Worker};
use causeway_testkit::{Rig, Tcp, describe, fragments6, ip6, tcp as segment};
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::Arc;

const VM1: &str = "2001:db8:64::101";
const VM2: &str = "2001:db8:64::102";
const OTHER: &str = "2001:db8:65::101";
const FAR: &str = "2001:db8:6::10";

/// The lab with its first tenant network closed.
struct Net {
    rig: Rig,
    config: Arc<Config>,
    stage: Forward,
    worker: Worker,
}

struct Sweep<'a>(Expiry<'a>);

impl Sweeper for Sweep<'_> {
    fn judge(&mut self, session: &Session<'_>, ctl: Ctl, now: Tick) -> Fate {
        self.0.judge(session, ctl, now)
    }

    fn session_ended(&mut self, session: &Session<'_>) {
        self.0.session_ended(session);
    }

    fn mapping_ended(&mut self, _: &Mapping<'_>) {}
}

impl Net {
    fn new() -> Self {
        Self::with(&[0], &Isolation::default(), 64)
    }

    fn with(closed: &[u16], isolation: &Isolation, sessions: u32) -> Self {
        let rig = Rig::lab();
        let mut config = Config::new(&rig.interfaces, isolation, 1_000_000, 1000).unwrap();
        for n in closed {
            config = config.with_inbound(IfId(*n), Inbound::Closed).unwrap();
        }
        let config = Arc::new(config.with_timeouts(&Timeouts::default()));
        let worker = table(sessions).worker(0).unwrap();
        Self { rig, stage: Forward::new(Arc::clone(&config)), config, worker }
    }

    /// What becomes of a packet.
    fn pass(&mut self, ingress: &str, octets: &[u8]) -> Result<(), DropReason> {
        let mut packets = [self.rig.packet(ingress, octets)];
        let mut verdicts = [Verdict::Consume];
        self.stage.process(&mut self.rig.ctx(), &self.worker.enter(), &mut packets, &mut verdicts);
        match verdicts[0] {
            Verdict::Forward { .. } => Ok(()),
            Verdict::Drop(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn out(&mut self, octets: &[u8]) {
        assert_eq!(self.pass("tenant0", octets), Ok(()), "{}", describe(octets));
    }

    #[track_caller]
    fn comes_in(&mut self, octets: &[u8]) {
        assert_eq!(self.pass("uplink0", octets), Ok(()), "{}", describe(octets));
    }

    #[track_caller]
    fn refused(&mut self, octets: &[u8]) {
        assert_eq!(self.pass("uplink0", octets), Err(DropReason::InboundClosed), "{}", describe(octets));
    }

    /// Lets time pass, and the sweep go round.
    fn wait(&mut self, secs: u64) {
        self.rig.advance(Duration::from_secs(secs));
        let expiry = Expiry { config: &self.config, counters: &self.rig.counters };
        self.worker.enter().sweep(10_000, Tick::at(self.rig.now), &mut Sweep(expiry));
    }
}

fn udp(src: &str, dst: &str, ports: (u16, u16)) -> Vec<u8> {
    ip6(src, dst).udp(ports.0, ports.1, b"datagram")
}

fn out_tcp(s: &Tcp) -> Vec<u8> {
    ip6(VM1, FAR).tcp(s)
}

fn in_tcp(s: &Tcp) -> Vec<u8> {
    ip6(FAR, VM1).tcp(s)
}

#[test]
fn rfc6092_3_3_rec34_what_nobody_inside_began_is_refused_and_told_so() {
    let mut net = Net::new();
    let syn = in_tcp(&segment(4000, 22).syn());
    net.refused(&syn);
    let sent = net.rig.sent();
    assert_eq!(sent[0].octets, ip6("2001:db8:ffff::2", FAR).icmp_error(1, 1, 0, &syn));
    net.rig.assert_counted(&[("icmp-errors-sent", 1)]);
    net.refused(&in_tcp(&segment(443, 4000).ack(1)));
    net.refused(&udp(FAR, VM1, (53, 4000)));
    net.refused(&ip6(FAR, VM1).raw(50, &[0; 32]));
    net.refused(&ip6(FAR, VM1).raw(59, b""));
}

#[test]
fn rfc6092_3_2_1_answers_come_in_from_the_very_address_and_port() {
    let mut net = Net::new();
    net.out(&udp(VM1, FAR, (4000, 53)));
    net.rig.assert_counted(&[("forwarded6", 1), ("forward6-sessions-created", 1)]);
    net.comes_in(&udp(FAR, VM1, (53, 4000)));
    net.out(&udp(VM1, FAR, (4000, 53)));
    net.rig.assert_counted(&[("forwarded6", 2)]);
    net.refused(&udp(FAR, VM1, (54, 4000)));
    net.refused(&udp(FAR, VM1, (53, 4001)));
    net.refused(&udp(FAR, VM2, (53, 4000)));
    net.refused(&udp("2001:db8:6::11", VM1, (53, 4000)));
    net.refused(&in_tcp(&segment(53, 4000).ack(1)));
}

#[test]
fn rfc6092_3_2_3_rec14_udp_is_remembered_for_five_minutes() {
    let mut net = Net::new();
    net.out(&udp(VM1, FAR, (4000, 53)));
    net.wait(299);
    net.comes_in(&udp(FAR, VM1, (53, 4000)));
    net.wait(299);
    net.comes_in(&udp(FAR, VM1, (53, 4000)));
    net.rig.assert_counted(&[("forwarded6", 3), ("forward6-sessions-created", 1)]);
    net.wait(301);
    net.rig.assert_counted(&[("forward6-sessions-ended", 1)]);
    net.refused(&udp(FAR, VM1, (53, 4000)));
}

#[test]
fn rfc6092_3_3_rec35_tcp_is_remembered_by_its_state() {
    let mut net = Net::new();
    // A SYN that is not answered: four minutes.
    net.out(&out_tcp(&segment(4000, 80).syn()));
    net.wait(241);
    net.refused(&in_tcp(&segment(80, 4000).syn().ack(1)));
    // A handshake: two hours and four minutes.
    net.out(&out_tcp(&segment(4000, 80).syn()));
    net.comes_in(&in_tcp(&segment(80, 4000).syn().ack(1)));
    net.out(&out_tcp(&segment(4000, 80).ack(1)));
    net.wait(2 * 3600 + 239);
    net.comes_in(&in_tcp(&segment(80, 4000).ack(1).payload(b"late")));
    // FIN from both: four minutes.
    net.comes_in(&in_tcp(&segment(80, 4000).ack(1).fin()));
    net.wait(1000);
    net.out(&out_tcp(&segment(4000, 80).ack(2).fin()));
    net.wait(239);
    net.comes_in(&in_tcp(&segment(80, 4000).ack(3)));
    net.wait(241);
    net.refused(&in_tcp(&segment(80, 4000).ack(3)));
}

#[test]
fn rfc7857_2_2_a_reset_only_shortens_the_wait() {
    let mut net = Net::new();
    net.out(&out_tcp(&segment(4000, 80).syn()));
    net.comes_in(&in_tcp(&segment(80, 4000).syn().ack(1)));
    net.out(&out_tcp(&segment(4000, 80).ack(1)));
    net.comes_in(&in_tcp(&segment(80, 4000).rst()));
    net.wait(239);
    // The inside host did not take it for true.
    net.out(&out_tcp(&segment(4000, 80).ack(1).payload(b"still here")));
    net.wait(3600);
    net.comes_in(&in_tcp(&segment(80, 4000).ack(1)));
    net.out(&out_tcp(&segment(4000, 80).rst()));
    net.wait(241);
    net.refused(&in_tcp(&segment(80, 4000).ack(1)));
    // A reset begins nothing.
    net.out(&out_tcp(&segment(4001, 80).rst()));
    net.refused(&in_tcp(&segment(80, 4001).ack(1)));
}

#[test]
fn echo_goes_out_and_not_in() {
    let mut net = Net::new();
    net.refused(&ip6(FAR, VM1).echo_reply(7, 1, b"ping"));
    net.refused(&ip6(FAR, VM1).echo_request(7, 1, b"ping"));
    net.out(&ip6(VM1, FAR).echo_request(7, 1, b"ping"));
    net.comes_in(&ip6(FAR, VM1).echo_reply(7, 1, b"ping"));
    net.refused(&ip6(FAR, VM1).echo_request(7, 1, b"ping"));
    net.refused(&ip6(FAR, VM1).echo_reply(8, 1, b"ping"));
    net.out(&ip6(VM1, FAR).echo_reply(9, 1, b"an answer to nothing"));
    net.refused(&ip6(FAR, VM1).echo_reply(9, 1, b"ping"));
    net.wait(61);
    net.refused(&ip6(FAR, VM1).echo_reply(7, 1, b"ping"));
}

#[test]
fn rfc6092_3_2_1_rec10_errors_come_in_only_about_known_flows_and_refresh_nothing() {
    let mut net = Net::new();
    let router = "2001:db8:9::1";
    let error = |kind, about: &[u8]| ip6(router, VM1).icmp_error(kind, 0, 1280, about);
    net.refused(&error(2, &udp(VM1, FAR, (4000, 53))));
    net.out(&udp(VM1, FAR, (4000, 53)));
    for kind in 1..=4 {
        net.comes_in(&error(kind, &udp(VM1, FAR, (4000, 53))));
    }
    net.comes_in(&error(1, &ip6(VM1, FAR).dest_options(&[]).udp(4000, 53, b"behind an option")));
    net.comes_in(&error(1, &udp(VM1, FAR, (4000, 53))[..48]));
    net.refused(&error(1, &udp(VM1, FAR, (4001, 53))));
    net.refused(&error(1, &udp(VM2, FAR, (4000, 53))));
    net.refused(&error(1, &udp(VM1, FAR, (4000, 53))[..43]));
    net.refused(&error(1, &udp(VM1, FAR, (4000, 53))[..39]));
    net.refused(&error(5, &udp(VM1, FAR, (4000, 53))));
    net.refused(&error(1, &ip6(VM1, FAR).fragment(9, false, 1).raw(17, &[0; 16])));
    net.out(&ip6(VM1, FAR).echo_request(7, 1, b"probe"));
    net.comes_in(&error(3, &ip6(VM1, FAR).echo_request(7, 1, b"probe")));
    net.refused(&error(3, &ip6(VM1, FAR).echo_reply(7, 1, b"probe")));
    net.wait(299);
    net.comes_in(&error(1, &udp(VM1, FAR, (4000, 53))));
    net.wait(2);
    net.refused(&udp(FAR, VM1, (53, 4000)));
}

#[test]
fn errors_and_fragments_leave_without_a_flow() {
    let mut net = Net::new();
    net.out(&ip6(VM1, FAR).icmp_error(1, 4, 0, &udp(FAR, VM1, (1, 2))));
    for piece in &fragments6(&ip6(VM1, FAR).udp(4000, 53, &[0; 3000]), 1280, 5)[1..] {
        net.out(piece);
    }
    net.rig.assert_counted(&[("forwarded6", 3)]);
}

#[test]
fn later_fragments_follow_a_first_one_that_came_in() {
    let mut net = Net::new();
    let pieces = fragments6(&ip6(FAR, VM1).udp(53, 4000, &[7; 3000]), 1280, 0xdead_beef);
    net.refused(&pieces[0]);
    net.out(&udp(VM1, FAR, (4000, 53)));
    net.refused(&pieces[1]);
    for piece in &pieces {
        net.comes_in(piece);
    }
    net.rig.sent();
    let other = fragments6(&ip6(FAR, VM1).udp(53, 4000, &[7; 3000]), 1280, 0xdead_bee0);
    net.refused(&other[1]);
    net.wait(11);
    net.refused(&pieces[2]);
    // A first fragment too short to show its ports.
    net.refused(&ip6(FAR, VM1).fragment(0, true, 1).raw(6, &[0; 8]));
}

#[test]
fn an_option_header_before_the_ports_changes_nothing() {
    let mut net = Net::new();
    net.out(&ip6(VM1, FAR).dest_options(&[]).udp(4000, 53, b""));
    net.comes_in(&ip6(FAR, VM1).hop_by_hop(&[]).udp(53, 4000, b""));
    let long = (0..12).fold(ip6(FAR, VM1), |p, _| p.dest_options(&[])).udp(53, 4000, b"");
    net.refused(&long);
}

#[test]
fn protocols_without_ports_are_remembered_by_their_addresses() {
    let mut net = Net::new();
    net.out(&ip6(VM1, FAR).raw(50, &[0; 32]));
    net.comes_in(&ip6(FAR, VM1).raw(50, &[0; 32]));
    net.refused(&ip6(FAR, VM2).raw(50, &[0; 32]));
    net.refused(&ip6(FAR, VM1).raw(47, &[0; 32]));
    net.out(&ip6(VM1, FAR).raw(132, &[0, 1, 0, 2, 0, 0, 0, 0]));
    net.comes_in(&ip6(FAR, VM1).raw(132, &[0, 2, 0, 1, 0, 0, 0, 0]));
    net.refused(&ip6(FAR, VM1).raw(132, &[0, 3, 0, 1, 0, 0, 0, 0]));
}

#[test]
fn the_network_itself_and_open_networks_are_not_concerned() {
    let mut net = Net::new();
    net.out(&udp(VM1, VM2, (1, 2)));
    net.comes_in(&udp(FAR, OTHER, (1, 2)));
    assert_eq!(net.pass("tenant1", &udp(OTHER, FAR, (1, 2))), Ok(()));
    net.rig.assert_counted(&[("forwarded6", 3)]);
}

#[test]
fn between_two_tenant_networks_the_closed_one_begins() {
    let mut net = Net::with(&[0], &Isolation::Off, 64);
    let refused = Err(DropReason::InboundClosed);
    assert_eq!(net.pass("tenant1", &udp(OTHER, VM1, (1, 2))), refused);
    net.out(&udp(VM1, OTHER, (2, 1)));
    assert_eq!(net.pass("tenant1", &udp(OTHER, VM1, (1, 2))), Ok(()));
    // Both closed: neither begins, and the refused packet opens nothing at its own side.
    let mut net = Net::with(&[0, 2], &Isolation::Off, 64);
    assert_eq!(net.pass("tenant1", &udp(OTHER, VM1, (1, 2))), refused);
    assert_eq!(net.pass("tenant0", &udp(VM1, OTHER, (2, 1))), refused);
    assert_eq!(net.pass("tenant1", &udp(OTHER, VM1, (1, 2))), refused);
    net.rig.assert_counted(&[("icmp-errors-sent", 3)]);
}

#[test]
fn a_full_table_refuses_new_flows_and_keeps_old_ones() {
    let mut net = Net::with(&[0], &Isolation::default(), 64);
    let mut created = 0;
    let full = loop {
        match net.pass("tenant0", &udp(VM1, FAR, (created + 1, 53))) {
            Ok(()) => created += 1,
            Err(reason) => break reason,
        }
        assert!(created < 1000, "a table of 64 took {created} flows");
    };
    assert_eq!(full, DropReason::ForwardTableFull);
    assert!(created >= 48, "{created}");
    assert_eq!(net.rig.sent(), [], "our own trouble is nobody's error");
    net.comes_in(&udp(FAR, VM1, (53, 1)));
    net.out(&udp(VM1, FAR, (1, 53)));
    net.wait(301);
    net.out(&udp(VM1, FAR, (9999, 53)));
}

#[test]
fn one_burst_may_hold_both_kinds_and_the_same_new_flow_twice() {
    let mut net = Net::new();
    net.out(&udp(VM1, FAR, (1, 53)));
    net.rig.assert_counted(&[("forwarded6", 1), ("forward6-sessions-created", 1)]);
    let rows = [
        ("tenant0", udp(VM1, FAR, (2, 53)), true),
        ("uplink0", udp(FAR, VM1, (53, 1)), true),
        ("uplink0", udp(FAR, VM1, (53, 9)), false),
        ("tenant0", udp(VM1, FAR, (2, 53)), true),
        ("tenant0", ip6(VM1, FAR).hop_limit(1).udp(1, 53, b""), false),
    ];
    // More than one vector.
    let rows: Vec<_> = rows.iter().cycle().take(70).collect();
    let mut packets: Vec<_> = rows.iter().map(|(ingress, p, _)| net.rig.packet(ingress, p)).collect();
    let mut verdicts = vec![Verdict::Consume; rows.len()];
    net.stage.process(&mut net.rig.ctx(), &net.worker.enter(), &mut packets, &mut verdicts);
    for ((_, p, passes), v) in rows.iter().zip(&verdicts) {
        assert_eq!(matches!(v, Verdict::Forward { .. }), *passes, "{v:?} {}", describe(p));
    }
    net.rig.assert_counted(&[("forwarded6", 42), ("forward6-sessions-created", 1), ("icmp-errors-sent", 28)]);
}

#[test]
fn every_phase_meets_every_segment() {
    use Phase::{Closing, Established, Opening};
    use Way::{In, Out};
    let (syn, ack, fin, rst) = (tcp::SYN, tcp::ACK, tcp::FIN, tcp::RST);
    // Phase, flags, way, segment: phase and flags afterwards.
    let rows = [
        (Opening, 0, Out, syn, Opening, 0),
        (Opening, 0, Out, ack, Opening, 0),
        (Opening, 0, Out, fin | ack, Opening, FIN_OUT),
        (Opening, 0, Out, rst, Closing, 0),
        (Opening, 0, In, syn | ack, Opening, ANSWERED),
        (Opening, 0, In, syn, Opening, ANSWERED),
        (Opening, 0, In, ack, Established, ANSWERED),
        (Opening, 0, In, fin | ack, Established, ANSWERED | FIN_IN),
        (Opening, 0, In, rst, Closing, 0),
        (Opening, ANSWERED, Out, syn, Opening, ANSWERED),
        (Opening, ANSWERED, Out, ack, Established, ANSWERED),
        (Opening, ANSWERED, Out, fin | ack, Established, ANSWERED | FIN_OUT),
        (Established, ANSWERED, Out, ack, Established, ANSWERED),
        (Established, ANSWERED, Out, syn, Established, ANSWERED),
        (Established, ANSWERED, Out, fin | ack, Established, ANSWERED | FIN_OUT),
        (Established, ANSWERED, Out, rst, Closing, ANSWERED),
        (Established, ANSWERED, In, syn, Established, ANSWERED),
        (Established, ANSWERED, In, ack, Established, ANSWERED),
        (Established, ANSWERED, In, fin | ack, Established, ANSWERED | FIN_IN),
        (Established, ANSWERED, In, rst, Closing, ANSWERED),
        (Established, ANSWERED | FIN_OUT, In, fin | ack, Closing, ANSWERED | FIN_IN | FIN_OUT),
        (Established, ANSWERED | FIN_IN, Out, fin | ack, Closing, ANSWERED | FIN_IN | FIN_OUT),
        (Closing, ANSWERED, Out, ack, Established, ANSWERED),
        (Closing, ANSWERED, In, ack, Established, ANSWERED),
        (Closing, ANSWERED, In, rst, Closing, ANSWERED),
        (Closing, ANSWERED, Out, syn, Opening, 0),
        (Closing, ANSWERED | FIN_IN | FIN_OUT, Out, ack, Closing, ANSWERED | FIN_IN | FIN_OUT),
        (Closing, ANSWERED | FIN_IN | FIN_OUT, In, ack, Closing, ANSWERED | FIN_IN | FIN_OUT),
        (Closing, ANSWERED | FIN_IN | FIN_OUT, In, syn, Closing, ANSWERED | FIN_IN | FIN_OUT),
        (Closing, ANSWERED | FIN_IN | FIN_OUT, Out, syn, Opening, 0),
        (Closing, ANSWERED | FIN_IN | FIN_OUT, Out, rst, Closing, ANSWERED | FIN_IN | FIN_OUT),
    ];
    for (phase, flags, way, control, phase_after, flags_after) in rows {
        let got = on_tcp(phase, flags, way, control);
        assert_eq!(got, (phase_after, flags_after), "{phase:?} {flags:#x} {way:?} {control:#x}");
    }
    // And whatever comes: a phase of TCP's follows, and only a new SYN from inside forgets flags.
    for phase in [Opening, Established, Closing] {
        for (flags, control, way) in
            (0..8).flat_map(|f| (0..=255u8).flat_map(move |c| [In, Out].map(|way| (f, c, way))))
        {
            let (after, kept) = on_tcp(phase, flags, way, control);
            assert!(matches!(after, Opening | Established | Closing));
            assert!(kept & flags == flags || (after == Opening && way == Out && phase == Closing));
            assert_eq!(Phase::of(after as u8), after);
        }
    }
}

proptest! {
    #[test]
    fn a_datagram_comes_in_exactly_if_its_mirror_image_went_out(
        steps in proptest::collection::vec((any::<bool>(), 0u8..2, 0u8..2, 0u16..3, 0u16..3), 1..60),
    ) {
        let mut net = Net::new();
        let mut went_out = HashSet::new();
        for (out, host, far, a, b) in steps {
            let host_address = [VM1, VM2][usize::from(host)];
            let far_address = [FAR, "2001:db8:6::11"][usize::from(far)];
            let flow = (host, far, a, b);
            if out {
                prop_assert_eq!(net.pass("tenant0", &udp(host_address, far_address, (a, b))), Ok(()));
                went_out.insert(flow);
            } else {
                let passed = net.pass("uplink0", &udp(far_address, host_address, (b, a)));
                let want = if went_out.contains(&flow) { Ok(()) } else { Err(DropReason::InboundClosed) };
                prop_assert_eq!(passed, want);
            }
        }
    }

    #[test]
    fn hostile_packets_never_get_into_a_closed_network(
        octets in causeway_testkit::mutate::hostile(
            causeway_testkit::mutate::samples(FAR, VM1, "192.0.2.9", "203.0.113.1"), 0),
    ) {
        let mut net = Net::new();
        // To the closed network; whatever it is, nobody inside began it.
        let mut octets = octets;
        if octets.len() >= 40 {
            octets[24..32].copy_from_slice(&"2001:db8:64::".parse::<std::net::Ipv6Addr>().unwrap().octets()[..8]);
            prop_assert!(net.pass("uplink0", &octets).is_err());
        }
    }
}
