//! Segments made by hand: what a stranger may send.

use super::*;

/// A client that makes its segments itself.
pub(super) struct Raw {
    pub(super) ends: Ends,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) stamps: Option<(u32, u32)>,
}

impl Raw {
    pub(super) fn new(port: u16) -> Self {
        let remote = SocketAddr::new(PROXY.parse().unwrap(), 80);
        // From where we stand, it is the remote end.
        let ends = Ends { local: SocketAddr::new(CLIENT.parse().unwrap(), port), remote };
        Self { ends, seq: 0x7fff_fff0, ack: 0, stamps: None }
    }

    pub(super) fn segment(&self, flags: u8, seq: u32, data: &[u8]) -> Vec<u8> {
        let options = Options {
            mss: (flags & SYN != 0).then_some(1460),
            timestamps: self.stamps,
            window_scale: (flags & SYN != 0).then_some(7),
            ..Options::default()
        };
        let mut packet = Vec::new();
        let head = Head { seq, ack: self.ack, flags, window: 60_000 };
        super::super::side::emit(&mut packet, &self.ends, head, &options, data, 1);
        packet
    }

    /// Opens a connection; its acknowledgement may have data.
    pub(super) fn open(&mut self, w: &mut World, data: &[u8]) -> Verdict {
        let verdict = w.gateway(&self.segment(SYN, self.seq, &[]));
        assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
        let answer = last(w);
        assert_eq!((answer.0.flags, answer.0.ack), (SYN | ACK, self.seq.wrapping_add(1)));
        self.ack = answer.0.seq.wrapping_add(1);
        self.seq = self.seq.wrapping_add(1);
        if let (Some(stamps), Some((value, _))) = (&mut self.stamps, answer.1.timestamps) {
            stamps.1 = value;
        }
        let verdict = w.gateway(&self.segment(ACK, self.seq, data));
        self.seq = self.seq.wrapping_add(data.len() as u32);
        verdict
    }
}

pub(super) fn last(w: &World) -> (Head, Options) {
    let packet = w.sent.last().expect("something was sent");
    let s = segment::parse(packet, causeway_core::IfId(1)).unwrap();
    (s.head, s.options())
}

pub(super) fn world() -> World {
    World::new(config(), vec![site("site1.example", Identity::None, &[VM1])])
}

#[test]
fn rfc4987_3_6_a_syn_is_answered_and_nothing_is_kept() {
    let mut w = world();
    for n in 0..20_000u16 {
        let raw = Raw { seq: u32::from(n) * 77_777, stamps: Some((1, 0)), ..Raw::new(1024 + n) };
        assert!(matches!(w.gateway(&raw.segment(SYN, raw.seq, &[])), Verdict::Forward { .. }));
        w.network.clear();
        w.sent.truncate(1);
    }
    assert_eq!((w.terminated(), w.counted("splice-cookies")), (0, 20_000));
    let guard = w.worker.enter();
    let mut sessions = 0;
    guard.sessions(0, 4096, |_| sessions += 1);
    assert_eq!(sessions, 0);
}

#[test]
fn rfc9293_3_7_1_what_is_agreed_to_is_in_the_syn_ack() {
    let mut w = world();
    let raw = Raw { stamps: Some((5, 0)), ..Raw::new(40_000) };
    let _ = w.gateway(&raw.segment(SYN, raw.seq, &[]));
    let (_, options) = last(&w);
    assert_eq!((options.mss, options.window_scale, options.sack_permitted), (Some(1440), Some(7), false));
    assert_eq!(options.timestamps.unwrap().1, 5);
}

#[test]
fn rfc9293_3_10_7_1_segments_of_no_connection_are_reset_and_resets_are_not_answered() {
    let mut w = world();
    let mut raw = Raw::new(40_000);
    raw.ack = 99;
    for (flags, reset) in
        [(ACK, true), (ACK | FIN, true), (SYN | ACK, true), (RST, false), (RST | ACK, false)]
    {
        w.sent.clear();
        let verdict = w.gateway(&raw.segment(flags, 5, &[]));
        assert_eq!(verdict, Verdict::Drop(causeway_core::DropReason::SpliceNoConnection));
        assert_eq!(w.sent.len(), usize::from(reset), "{flags:x}");
        if reset {
            assert_eq!((last(&w).0.flags & RST, last(&w).0.seq), (RST, 99));
        }
    }
    // An old cookie is none.
    let _ = w.gateway(&raw.segment(SYN, raw.seq, &[]));
    raw.ack = last(&w).0.seq.wrapping_add(1);
    w.rig.advance(Duration::from_secs(200));
    let late = w.gateway(&raw.segment(ACK, raw.seq.wrapping_add(1), &[]));
    assert_eq!(late, Verdict::Drop(causeway_core::DropReason::SpliceNoConnection));
    assert_eq!(w.terminated(), 0);
}

#[test]
fn rfc5961_3_2_only_the_exact_reset_ends_a_connection() {
    let mut w = world();
    let mut raw = Raw::new(40_000);
    assert_eq!(raw.open(&mut w, b"GET"), Verdict::Consume);
    assert_eq!(w.terminated(), 1);
    w.sent.clear();
    let challenged = Verdict::Drop(causeway_core::DropReason::SpliceChallenged);
    assert_eq!(w.gateway(&raw.segment(RST, raw.seq.wrapping_add(1), &[])), challenged);
    assert_eq!(w.gateway(&raw.segment(SYN, raw.seq, &[])), challenged);
    // Once a second, and it tells where the connection is.
    assert_eq!(w.sent.len(), 1);
    assert_eq!((last(&w).0.flags, last(&w).0.seq), (ACK, raw.ack));
    let far = w.gateway(&raw.segment(RST, raw.seq.wrapping_sub(7), &[]));
    assert_eq!(far, Verdict::Drop(causeway_core::DropReason::SplicePeekBad));
    assert_eq!(w.terminated(), 1);
    assert_eq!(w.gateway(&raw.segment(RST, raw.seq, &[])), Verdict::Consume);
    assert_eq!((w.terminated(), w.counted("splice-clients-reset")), (0, 1));
}

#[test]
fn rfc7323_5_3_an_old_timestamp_is_not_believed_and_none_is_neither() {
    let mut w = world();
    let mut raw = Raw { stamps: Some((1000, 0)), ..Raw::new(40_000) };
    assert_eq!(raw.open(&mut w, b"G"), Verdict::Consume);
    let old = Verdict::Drop(causeway_core::DropReason::SpliceOldTimestamp);
    let echo = raw.stamps.unwrap().1;
    raw.stamps = Some((999, echo));
    assert_eq!(w.gateway(&raw.segment(ACK, raw.seq, b"E")), old);
    raw.stamps = None;
    assert_eq!(w.gateway(&raw.segment(ACK, raw.seq, b"E")), old);
    raw.stamps = Some((1001, echo));
    assert_eq!(
        w.gateway(&raw.segment(ACK, raw.seq, b"ET / HTTP/1.1\r\nHost: site1.example\r\n\r\n")),
        Verdict::Consume
    );
    // It has come to a server.
    assert!(w.sent.iter().any(|p| p[0] >> 4 == 6));
}

#[test]
fn the_first_octet_and_the_hello_have_to_come_in_time() {
    let mut w = world();
    // The host at the client's address knows nothing of them.
    w.mangle = |_| false;
    let (mut silent, mut slow) = (Raw::new(40_000), Raw::new(40_001));
    let _ = (silent.open(&mut w, b""), slow.open(&mut w, b"G"));
    assert_eq!(w.terminated(), 2);
    // One octet a second is no hello, whatever is in it.
    for _ in 0..11 {
        w.run(Duration::from_secs(1), |_| false);
        if w.counted("splice-hello-late") == 1 {
            break;
        }
        let _ = w.gateway(&slow.segment(ACK, slow.seq, b"G"));
        slow.seq = slow.seq.wrapping_add(1);
    }
    assert_eq!(w.terminated(), 0);
    assert_eq!((w.counted("splice-first-octet-late"), w.counted("splice-hello-late")), (1, 1));
    let resets = w.sent.iter().filter(|p| p[33] & RST != 0).count();
    assert!(resets >= 2, "{resets}");
}

#[test]
fn a_client_and_all_clients_have_only_so_many_connections() {
    let mut config = config();
    (config.limits.peeks, config.limits.peeks_per_client) = (3, 2);
    let mut w = World::new(config, vec![]);
    for (port, left) in [(40_000, 1), (40_001, 2), (40_002, 2)] {
        let _ = Raw::new(port).open(&mut w, b"G");
        assert_eq!(w.terminated(), left);
    }
    assert_eq!(last(&w).0.flags & RST, RST);
    let mut other = |n: u8| {
        let mut raw = Raw::new(40_000);
        raw.ends.local = SocketAddr::new(IpAddr::from([198, 51, 100, n]), 40_000);
        raw.open(&mut w, b"G")
    };
    assert_eq!(other(1), Verdict::Consume);
    assert_eq!(other(2), Verdict::Drop(causeway_core::DropReason::SplicePeeksFull));
}

#[test]
fn a_flood_of_acknowledgements_opens_nothing() {
    let mut w = world();
    let mut dice = Dice(9);
    for n in 0..20_000u32 {
        let mut raw = Raw::new(1024 + (n % 60_000) as u16);
        raw.ack = dice.roll(1 << 32) as u32;
        let _ = w.gateway(&raw.segment(ACK, dice.roll(1 << 32) as u32, b"x"));
        w.network.clear();
        w.sent.clear();
    }
    assert_eq!(w.terminated(), 0);
}

#[test]
fn a_server_that_resets_or_never_acknowledges_ends_both_connections() {
    // It takes the connection and then says nothing: everything but its SYN-ACK is lost.
    let mut w = world();
    w.servers[0].listen(80);
    w.mangle = |p| p[0] >> 4 == 4 || p[24..40] == p[8..24] || p[53] & SYN != 0;
    w.client.connect((PROXY, 80), 40_000);
    w.client.to_send = REQUEST.to_vec();
    assert!(w.run(Duration::from_secs(30), |w| w.counted("splice-handover-late") == 1));
    assert!(w.run(Duration::from_secs(1), |w| w.client.state() == State::Closed));
    assert_eq!(w.terminated(), 0);
    // It resets what it has taken.
    let mut w = world();
    w.servers[0].listen(80);
    w.mangle = |p| p[0] >> 4 == 4 || p[53] & SYN != 0;
    w.client.connect((PROXY, 80), 40_000);
    w.client.to_send = REQUEST.to_vec();
    assert!(w.run(Duration::from_secs(5), |w| w.counted("splice-servers-opened") == 1));
    w.mangle = |_| true;
    w.servers[0].tcp().abort();
    assert!(w.run(Duration::from_secs(5), |w| w.client.state() == State::Closed));
    assert_eq!((w.terminated(), w.counted("splice-servers-reset")), (0, 1));
}

#[test]
fn whatever_both_ends_send_is_bounded_and_over_in_the_end() {
    for seed in 0..40 {
        let mut config = config();
        (config.limits.peeks, config.limits.peeks_per_client) = (6, 6);
        let mut w = World::new(config, vec![site("site1.example", Identity::Proxy1, &[VM1])]);
        w.mangle = |_| false;
        let mut dice = Dice(seed);
        let mut clients: Vec<Raw> =
            (0..4).map(|n| Raw { stamps: (n % 2 == 0).then_some((5, 0)), ..Raw::new(40_000 + n) }).collect();
        // What servers are asked by, newest last: our end, what follows our last segment, and our clock.
        let mut asked: Vec<(SocketAddr, u32, u32)> = Vec::new();
        for _ in 0..400 {
            let before = w.sent.len();
            let (who, what) = (dice.roll(4) as usize, dice.roll(14));
            let off = if dice.roll(8) == 0 { dice.roll(5000) as u32 } else { 0 };
            let c = &mut clients[who];
            let packet = match what {
                0 => c.segment(SYN, c.seq.wrapping_sub(1), &[]),
                1 | 2 => c.segment(ACK, c.seq.wrapping_add(off), &[]),
                3 | 4 => {
                    let seq = c.seq.wrapping_add(off);
                    c.seq = c.seq.wrapping_add(REQUEST.len() as u32);
                    c.segment(ACK, seq, REQUEST)
                }
                5 => c.segment(ACK | FIN, c.seq.wrapping_add(off), &[]),
                6 => c.segment(RST, c.seq.wrapping_add(off), &[]),
                7..=12 if !asked.is_empty() => {
                    let (local, end, echo) =
                        asked[asked.len() - 1 - dice.roll(asked.len().min(3) as u64) as usize];
                    let ends = Ends { local: SocketAddr::new(VM1.parse().unwrap(), 80), remote: local };
                    let flags = [SYN | ACK, ACK, ACK, ACK | FIN, RST | ACK, ACK][what as usize - 7];
                    let syn = flags & SYN != 0;
                    let options = Options {
                        mss: (syn && dice.roll(4) > 0).then_some(1440),
                        window_scale: (syn && dice.roll(4) > 0).then_some(5),
                        sack_permitted: false,
                        timestamps: (dice.roll(4) > 0).then_some((77, echo)),
                    };
                    let seq = if syn { 1000 } else { 1001 + off };
                    let data: &[u8] = if what == 12 { &[9; 700] } else { &[] };
                    let head = Head { seq, ack: end.wrapping_add(off), flags, window: 5000 };
                    let mut packet = Vec::new();
                    super::super::side::emit(&mut packet, &ends, head, &options, data, 0);
                    packet
                }
                _ => {
                    w.run(Duration::from_millis(dice.roll(3000)), |_| false);
                    continue;
                }
            };
            let _ = w.gateway(&packet);
            for packet in &w.sent[before..] {
                let s = segment::parse(packet, causeway_core::IfId(1)).unwrap();
                if s.ends.local == clients[who].ends.local {
                    let c = &mut clients[who];
                    if s.head.flags & SYN != 0 {
                        c.ack = s.head.seq.wrapping_add(1);
                        c.seq = s.head.ack;
                    }
                    if let (Some(own), Some((value, _))) = (&mut c.stamps, s.options().timestamps) {
                        own.1 = value;
                    }
                } else if s.ends.remote.is_ipv6() {
                    asked.push((s.ends.remote, s.end(), s.options().timestamps.map_or(0, |t| t.0)));
                }
            }
            assert!(w.terminated() <= 6, "seed {seed}");
        }
        w.run(Duration::from_secs(100), |_| false);
        assert_eq!(w.terminated(), 0, "seed {seed}");
    }
}
