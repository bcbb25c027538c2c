//! What is bounded, and what becomes of those who want more; servers that cannot be reached.

use super::raw::{Raw, last, world};
use super::*;
use crate::peek::connection::RESERVED;
use causeway_core::DropReason;
use causeway_testkit::build::ip6;
use causeway_testkit::hello::Hello;

#[test]
fn rfc7323_5_3_a_guess_outside_the_window_does_not_make_all_else_old() {
    let mut w = world();
    let mut raw = Raw { stamps: Some((1000, 0)), ..Raw::new(40_000) };
    assert_eq!(raw.open(&mut w, b"G"), Verdict::Consume);
    let echo = raw.stamps.unwrap().1;
    for off in [1u32 << 30, 70_000, 2000] {
        raw.stamps = Some((0x7000_0000, echo));
        let _ = w.gateway(&raw.segment(ACK, raw.seq.wrapping_sub(off), b"x"));
        let _ = w.gateway(&raw.segment(ACK, raw.seq.wrapping_add(off), b"x"));
    }
    raw.stamps = Some((1001, echo));
    let rest = b"ET / HTTP/1.1\r\nHost: site1.example\r\n\r\n";
    assert_eq!(w.gateway(&raw.segment(ACK, raw.seq, rest)), Verdict::Consume);
    assert!(w.sent.iter().any(|p| p[0] >> 4 == 6), "it has come to a server");
}

#[test]
fn rfc5961_5_2_what_was_never_sent_cannot_be_acknowledged() {
    let mut w = world();
    let mut raw = Raw::new(40_000);
    assert_eq!(raw.open(&mut w, b"GET"), Verdict::Consume);
    let right = raw.ack;
    w.sent.clear();
    for off in [1, 1 << 30, 0u32.wrapping_sub(1 << 18)] {
        raw.ack = right.wrapping_add(off);
        let verdict = w.gateway(&raw.segment(ACK, raw.seq, b" / HTTP/1.1\r\nHost: site1.example\r\n\r\n"));
        assert_eq!(verdict, Verdict::Drop(DropReason::SpliceChallenged));
    }
    assert_eq!(w.sent.len(), 1, "one answer a second");
    assert_eq!((last(&w).0.flags, last(&w).0.seq), (ACK, right));
}

#[test]
fn octets_are_kept_for_who_is_accepted_and_only_who_wants_more_finds_that_there_is_no_more() {
    let mut config = config();
    config.limits.octets = 2 * RESERVED + 20_000;
    let mut w = World::new(config, vec![site("site1.example", Identity::None, &[VM1])]);
    w.servers[0].listen(80);
    // Nothing of the hand-made connection comes to a host.
    w.mangle = |p| p[0] >> 4 == 6 || p[22..24] != [0x9c, 0x41] && p[20..22] != [0x9c, 0x41];
    let hello = Hello::browser("site1.example").with(0x7777, &[7; 50_000]).octets();
    let mut greedy = Raw::new(40_001);
    greedy.ends.remote.set_port(443);
    let _ = greedy.open(&mut w, b"");
    w.client.connect((PROXY, 80), 40_000);
    assert!(w.run(Duration::from_secs(1), |w| w.terminated() == 2));
    let mut third = Raw::new(40_002);
    assert_eq!(third.open(&mut w, b"G"), Verdict::Drop(DropReason::SplicePeeksFull));
    for part in hello.chunks(1200) {
        if w.counted("splice-octets-full") == 1 {
            break;
        }
        let _ = w.gateway(&greedy.segment(ACK, greedy.seq, part));
        greedy.seq = greedy.seq.wrapping_add(u32::try_from(part.len()).unwrap());
    }
    assert_eq!((w.counted("splice-octets-full"), w.terminated()), (1, 1));
    w.servers[0].to_send = b"hello".to_vec();
    w.client.to_send = REQUEST.to_vec();
    assert!(w.run(Duration::from_secs(5), |w| w.client.read == b"hello"));
    assert_eq!(w.terminated(), 0);
}

#[test]
fn a_gateway_that_stops_resets_all_that_it_terminates_and_accepts_nothing() {
    let mut w = world();
    for port in 0..100 {
        let _ = Raw::new(40_000 + port).open(&mut w, b"G");
    }
    assert_eq!(w.terminated(), 100);
    w.sent.clear();
    for calls in 0.. {
        w.rig.source = HeapSource::new(1000);
        let done = {
            let guard = w.worker.enter();
            let mut ctx = w.rig.ctx();
            w.stage.stop(&mut ctx, &guard)
        };
        w.collect();
        if done {
            assert!(calls > 0, "a bounded number in each call");
            break;
        }
        assert!(calls < 20);
    }
    assert_eq!((w.terminated(), w.counted("splice-stopped"), w.sent.len()), (0, 100, 100));
    assert!(w.sent.iter().all(|p| p[33] & RST != 0));
    let late = Raw::new(50_000);
    assert_eq!(w.gateway(&late.segment(SYN, 1, &[])), Verdict::Drop(DropReason::SpliceStopping));
}

/// The gateway's last SYN to a server.
fn syn_to_server(w: &World) -> Vec<u8> {
    w.sent.iter().rfind(|p| p[0] >> 4 == 6 && p[53] & SYN != 0).expect("a server was asked").clone()
}

#[test]
fn rfc5927_5_2_an_error_about_the_very_syn_leads_to_the_next_server_and_others_to_nothing() {
    let mut w = World::new(config(), vec![site("site1.example", Identity::None, &[VM1, VM2])]);
    w.mangle = |_| false;
    let mut raw = Raw::new(40_000);
    let _ = raw.open(&mut w, REQUEST);
    let syn = syn_to_server(&w);
    let error = |about: &[u8]| ip6("2001:db8:64::fe", SOURCE).icmp_error(1, 4, 0, about);
    let mut other = syn.clone();
    other[47] ^= 1;
    assert_eq!(w.gateway(&error(&other)), Verdict::Drop(DropReason::SplicePeekBad));
    assert_eq!((syn_to_server(&w), w.counted("splice-servers-refused")), (syn.clone(), 0));
    assert_eq!(w.gateway(&error(&syn)), Verdict::Consume);
    let second = syn_to_server(&w);
    assert_ne!(second[24..40], syn[24..40], "another server");
    assert_eq!(w.gateway(&error(&second)), Verdict::Consume);
    assert_eq!((w.counted("splice-servers-refused"), w.counted("splice-servers-failed")), (2, 1));
    assert!(w.sent.iter().any(|p| p[0] >> 4 == 4 && p.windows(12).any(|o| o == b"HTTP/1.1 502")));
    // An old error comes to nobody.
    assert!(!matches!(w.gateway(&error(&syn)), Verdict::Consume));
}

#[test]
fn every_cut_of_a_hello_comes_to_the_site_whole() {
    let hello = Hello::browser("site1.example").octets();
    for (port, all) in [(443, hello), (80, REQUEST.to_vec())] {
        for cut in 1..all.len() {
            let mut w = world();
            w.mangle = |_| false;
            let mut raw = Raw::new(40_000);
            raw.ends.remote.set_port(port);
            let _ = raw.open(&mut w, &all[..cut]);
            assert!(w.sent.iter().all(|p| p[0] >> 4 == 4), "{port} {cut}: too early");
            assert_eq!(w.gateway(&raw.segment(ACK, raw.seq, &all[cut..])), Verdict::Consume);
            let syn = syn_to_server(&w);
            let s = segment::parse(&syn, causeway_core::IfId(1)).unwrap();
            let ends = Ends { local: s.ends.local, remote: s.ends.remote };
            let head = Head { seq: 9, ack: s.end(), flags: SYN | ACK, window: 60_000 };
            let options = Options { mss: Some(1440), window_scale: Some(7), ..Options::default() };
            let mut packet = Vec::new();
            super::super::side::emit(&mut packet, &ends, head, &options, &[], 0);
            let (before, _) = (w.sent.len(), w.gateway(&packet));
            let got: Vec<u8> = w.sent[before..]
                .iter()
                .filter(|p| p[0] >> 4 == 6)
                .flat_map(|p| segment::parse(p, causeway_core::IfId(1)).unwrap().payload().to_vec())
                .collect();
            assert!(got == all, "{port} {cut}: {} of {}", got.len(), all.len());
        }
    }
}

#[test]
fn rfc9293_3_8_6_what_was_held_is_sent_to_the_client_as_far_as_its_window_goes() {
    for (window, sent) in [(0u16, 0usize), (1, 128), (60_000, 500)] {
        let mut w = world();
        w.mangle = |_| false;
        let mut raw = Raw::new(40_000);
        raw.ends.remote.set_port(2525);
        let _ = raw.open(&mut w, b"");
        let mut last = raw.segment(ACK, raw.seq, b"HELO\r\n");
        let at = 34;
        let sum = u16::from_be_bytes([last[36], last[37]]);
        let delta = causeway_wire::checksum::delta(60_000, u64::from(window));
        last[at..at + 2].copy_from_slice(&window.to_be_bytes());
        last[36..38].copy_from_slice(&causeway_wire::checksum::apply(sum, delta).to_be_bytes());
        assert_eq!(w.gateway(&last), Verdict::Consume);
        let syn = syn_to_server(&w);
        let s = segment::parse(&syn, causeway_core::IfId(1)).unwrap();
        let ends = Ends { local: s.ends.local, remote: s.ends.remote };
        let send = |w: &mut World, seq, ack, flags, data: &[u8]| {
            let options = Options {
                mss: (flags & SYN != 0).then_some(1440),
                window_scale: (flags & SYN != 0).then_some(7),
                ..Options::default()
            };
            let mut packet = Vec::new();
            let head = Head { seq, ack, flags, window: 60_000 };
            super::super::side::emit(&mut packet, &ends, head, &options, data, 0);
            w.gateway(&packet)
        };
        let _ = send(&mut w, 9, s.end(), SYN | ACK, b"");
        assert_eq!(send(&mut w, 10, s.end(), ACK, &[b'x'; 500]), Verdict::Consume);
        let before = w.sent.len();
        let _ = send(&mut w, 510, s.end().wrapping_add(6), ACK, b"");
        assert_eq!(w.terminated(), 0, "spliced");
        let octets: usize = w.sent[before..]
            .iter()
            .filter(|p| p[0] >> 4 == 4)
            .map(|p| segment::parse(p, causeway_core::IfId(1)).unwrap().data)
            .sum();
        assert_eq!(octets, sent, "{window}");
    }
}

#[test]
fn rfc5961_3_2_a_server_that_resets_while_its_octets_are_held_is_believed() {
    for held in [false, true] {
        let mut w = world();
        w.mangle = |_| false;
        let mut raw = Raw::new(40_000);
        let _ = raw.open(&mut w, REQUEST);
        let s_syn = syn_to_server(&w);
        let s = segment::parse(&s_syn, causeway_core::IfId(1)).unwrap();
        let ends = Ends { local: s.ends.local, remote: s.ends.remote };
        let send = |w: &mut World, seq, flags, data: &[u8]| {
            let options = Options {
                mss: (flags & SYN != 0).then_some(1440),
                window_scale: (flags & SYN != 0).then_some(7),
                ..Options::default()
            };
            let mut packet = Vec::new();
            let head = Head { seq, ack: s.end(), flags, window: 60_000 };
            super::super::side::emit(&mut packet, &ends, head, &options, data, 0);
            w.gateway(&packet)
        };
        let _ = send(&mut w, 9, SYN | ACK, b"");
        if held {
            let _ = send(&mut w, 10, ACK, b"220 ready\r\n");
            // In the window, but neither what is expected nor what was acknowledged.
            assert_eq!(send(&mut w, 50, RST | ACK, b""), Verdict::Drop(DropReason::SpliceChallenged));
        }
        assert_eq!(send(&mut w, 10, RST | ACK, b""), Verdict::Consume);
        assert_eq!((w.terminated(), w.counted("splice-servers-reset")), (0, 1));
        assert_eq!(last(&w).0.flags & RST, RST);
    }
}

#[test]
fn rfc9293_3_10_7_4_a_fin_behind_octets_that_do_not_fit_is_not_taken() {
    let mut w = world();
    w.mangle = |_| false;
    let mut raw = Raw::new(40_000);
    let edge = raw.seq.wrapping_add(1 + 8192);
    let _ = raw.open(&mut w, REQUEST);
    // Its server says nothing: what comes now stays in the buffer. The last segment goes 50 octets beyond it, as the
    // window's scale allows.
    while raw.seq != edge.wrapping_add(50) {
        let left = edge.wrapping_add(50).wrapping_sub(raw.seq);
        let octets = left.min(1000);
        let flags = if octets == left { ACK | FIN } else { ACK };
        let packet = raw.segment(flags, raw.seq, &vec![b'x'; octets as usize]);
        assert_eq!(w.gateway(&packet), Verdict::Consume);
        raw.seq = raw.seq.wrapping_add(octets);
    }
    w.run(Duration::from_millis(100), |_| false);
    let mut acks = w.sent.iter().filter(|p| p[0] >> 4 == 4).map(|p| {
        let s = segment::parse(p, causeway_core::IfId(1)).unwrap();
        (s.head.ack, s.head.window)
    });
    assert_eq!(acks.next_back(), Some((edge, 0)));
}
