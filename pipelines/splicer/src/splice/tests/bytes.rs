//! Every octet of rewritten segments, against segments that another program made.

use super::*;
use proptest::prelude::*;

/// An option, as the test thinks of it.
#[derive(Debug, Clone)]
enum Option6 {
    Nop,
    Stamps(u32, u32),
    Sack(Vec<u32>),
    /// Kind and content of one that is nobody's concern.
    Other(u8, Vec<u8>),
}

fn option() -> impl Strategy<Value = Option6> {
    prop_oneof![
        3 => Just(Option6::Nop),
        2 => (any::<u32>(), any::<u32>()).prop_map(|(a, b)| Option6::Stamps(a, b)),
        2 => proptest::collection::vec(any::<u32>(), 2..=6).prop_map(Option6::Sack),
        1 => (100u8..200, proptest::collection::vec(any::<u8>(), 0..5)).prop_map(|(k, o)| Option6::Other(k, o)),
    ]
}

fn raw(options: &[Option6]) -> Vec<u8> {
    let mut b = Vec::new();
    for o in options {
        let mut one = Vec::new();
        match o {
            Option6::Nop => one.push(1),
            Option6::Stamps(v, e) => {
                one.extend([8, 10]);
                one.extend(v.to_be_bytes());
                one.extend(e.to_be_bytes());
            }
            Option6::Sack(edges) => {
                one.extend([5, 2 + 4 * edges.len() as u8]);
                edges.iter().for_each(|e| one.extend(e.to_be_bytes()));
            }
            Option6::Other(kind, content) => {
                one.extend([*kind, 2 + content.len() as u8]);
                one.extend(content);
            }
        }
        // Whole options only.
        if b.len() + one.len() <= 40 {
            b.extend(one);
        }
    }
    b
}

/// What the options have to become: by the words of the RFCs, not by the code.
fn expected(options: &[Option6], c: &Constants, side: Side, ack: bool) -> Vec<Option6> {
    let (theirs, ts, echo) = match side {
        Side::Client => (c.server_seq_delta, c.client_ts_delta, c.server_ts_delta),
        Side::Server => (c.client_seq_delta, c.server_ts_delta, c.client_ts_delta),
    };
    let change = |o: &Option6| match o.clone() {
        Option6::Stamps(v, e) if c.timestamps => {
            vec![Option6::Stamps(v.wrapping_add(ts), if ack { e.wrapping_sub(echo) } else { e })]
        }
        Option6::Sack(edges) if c.client_sack && c.server_sack => {
            vec![Option6::Sack(edges.iter().map(|e| e.wrapping_sub(theirs)).collect())]
        }
        Option6::Sack(edges) if c.client_sack => vec![Option6::Nop; 2 + 4 * edges.len()],
        other => vec![other],
    };
    options.iter().flat_map(change).collect()
}

/// Those of them that a header has room for.
fn fitting(options: Vec<Option6>) -> Vec<Option6> {
    let mut kept = Vec::new();
    for o in options {
        kept.push(o);
        let fits = kept.iter().map(|o| raw(std::slice::from_ref(o)).len()).sum::<usize>() <= 40;
        if !fits {
            kept.pop();
        }
    }
    kept
}

fn any_constants() -> impl Strategy<Value = Constants> {
    let deltas = any::<(u32, u32, u32, u32)>();
    let switches = any::<(bool, bool, bool)>();
    let scales = (0u8..=14, 0u8..=14, 0u8..=14, 0u8..=14);
    (deltas, switches, scales).prop_map(|((a, b, c, d), (timestamps, client_sack, server_sack), s)| {
        Constants {
            client_seq_delta: a,
            server_seq_delta: b,
            client_ts_delta: c,
            server_ts_delta: d,
            timestamps,
            client_sack,
            server_sack,
            scales: Scales { client: s.0, to_client: s.1, server: s.2, to_server: s.3 },
            ..constants()
        }
    })
}

fn window(sent: u16, from: u8, to: u8) -> u16 {
    let octets = u64::from(sent) << from;
    // Down, but never to none.
    u16::try_from(octets >> to).unwrap_or(u16::MAX).max(u16::from(octets != 0))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_octet_of_a_rewritten_segment_is_as_it_should_be(
        c in any_constants(),
        (seq, ack, wind) in any::<(u32, u32, u16)>(),
        (with_ack, fin, psh, from_client_side, ip_options) in any::<(bool, bool, bool, bool, bool)>(),
        options in proptest::collection::vec(option(), 0..8),
        payload in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let options = fitting(options);
        let side = if from_client_side { Side::Client } else { Side::Server };
        let make = |(src, dst): (u16, u16), seq: u32, ack: u32, wind: u16, options: &[Option6]| {
            let mut t = seg(src, dst).seq(seq).window(wind).options(&raw(options)).payload(&payload);
            if with_ack {
                t = t.ack(ack);
            }
            t = if psh { t.psh() } else { t };
            if fin { t.fin() } else { t }
        };
        let after = expected(&options, &c, side, with_ack);
        let mut w = World::spliced(&c);
        let s = c.scales;
        match side {
            Side::Client => {
                let sent = make((CLIENT_PORT, 443), seq, ack, wind, &options);
                let (seq, ack) = (seq.wrapping_add(c.client_seq_delta), ack.wrapping_sub(c.server_seq_delta));
                let want = make((OWN_PORT, 8443), seq, ack, window(wind, s.client, s.to_server), &after);
                let head = ip4(CLIENT, PROXY).ttl(60);
                let head = if ip_options { head.options(&[7, 7, 4, 0, 0, 0, 0, 0]) } else { head };
                let got = w.passes(side, head.tcp(&sent));
                prop_assert_eq!(got, ip6(OWN, SERVER).hop_limit(59).tcp(&want));
            }
            Side::Server => {
                let sent = make((8443, OWN_PORT), seq, ack, wind, &options);
                let (seq, ack) = (seq.wrapping_add(c.server_seq_delta), ack.wrapping_sub(c.client_seq_delta));
                let want = make((443, CLIENT_PORT), seq, ack, window(wind, s.server, s.to_client), &after);
                let head = ip6(SERVER, OWN).hop_limit(60);
                let head = if ip_options { head.dest_options(&[1, 4, 0, 0, 0, 0]) } else { head };
                let got = w.passes(side, head.tcp(&sent));
                prop_assert_eq!(got, ip4(PROXY, CLIENT).ttl(59).df(false).id(8).tcp(&want));
            }
        }
    }

    #[test]
    fn mutilated_packets_are_passed_on_right_or_not_at_all(
        (packet, from_client_side) in any::<bool>().prop_flat_map(|c| {
            let good = if c {
                vec![from_client(&client(1_001).options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]).payload(b"abc"))]
            } else {
                vec![from_server(&server(7_000_001).options(&[1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1]).payload(b"abc"))]
            };
            (causeway_testkit::mutate::hostile(good, 0), Just(c))
        }),
    ) {
        let side = if from_client_side { Side::Client } else { Side::Server };
        let mut w = World::spliced(&constants());
        // What has a wrong checksum goes on with a wrong one.
        let right = check_packet(&packet).is_ok();
        let (verdict, out) = w.burst(side, &[packet]).remove(0);
        if right && matches!(verdict, Verdict::Forward { .. }) {
            prop_assert_eq!(check_packet(&out), Ok(()));
        }
        prop_assert_eq!(w.slow.len(), usize::from(verdict == Verdict::Held));
    }
}
