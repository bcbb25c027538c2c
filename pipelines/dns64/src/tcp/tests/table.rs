//! Every state of a connection of a client, and every event; and random sequences of them.

use super::raw::{Peer, seen};
use super::*;
use causeway_core::DropReason;
use causeway_testkit::tcp;
use proptest::prelude::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The SYN was answered.
    Cookie,
    /// Open, nothing asked yet.
    Open,
    /// Part of a question came.
    Inside,
    /// A question is under way.
    Asked,
    /// The answer was sent and is not acknowledged.
    Answered,
    /// A question is under way, and the client has closed its half.
    HalfClosed,
    /// We have closed our half.
    Closing,
    /// Both have; we were first.
    TimeWait,
    /// Over.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Ack,
    Question,
    Half,
    NoDns,
    Syn,
    Fin,
    Reset,
    ResetNearby,
    Send,
    Unanswered,
    Close,
    Idle,
    Late,
}

const STATES: [At; 9] = [
    At::Cookie,
    At::Open,
    At::Inside,
    At::Asked,
    At::Answered,
    At::HalfClosed,
    At::Closing,
    At::TimeWait,
    At::Gone,
];
const EVENTS: [On; 13] = [
    On::Ack,
    On::Question,
    On::Half,
    On::NoDns,
    On::Syn,
    On::Fin,
    On::Reset,
    On::ResetNearby,
    On::Send,
    On::Unanswered,
    On::Close,
    On::Idle,
    On::Late,
];

/// A world in a state: the client as it knows itself, and the handle if there is one.
fn reach(at: At) -> (World, Peer, Option<Conn>) {
    let mut w = World::new(&settings());
    let mut peer = Peer::new(1);
    let ack = peer.greet(&mut w);
    if at == At::Cookie {
        w.sent.clear();
        return (w, peer, None);
    }
    w.receive(&ack).unwrap();
    let conn = (matches!(at, At::Asked | At::Answered | At::HalfClosed | At::Closing | At::TimeWait))
        .then(|| peer.conn(&mut w));
    // What was acknowledged is told, so that a reset can be exact on both sides.
    w.now = w.now + Duration::from_millis(20);
    w.with(|s, now, out| s.poll(10, now, out));
    match at {
        At::Cookie | At::Open | At::Asked => {}
        At::Inside => peer.write(&mut w, &[0, 20, 1]),
        At::Answered => w.send(conn.unwrap(), &message(1, 20)).unwrap(),
        At::HalfClosed => {
            w.receive(&peer.say(&peer.segment().fin())).unwrap();
            peer.seq = peer.seq.wrapping_add(1);
        }
        At::Closing | At::TimeWait => {
            w.with(|s, now, out| s.close(conn.unwrap(), now, out));
            peer.ack = peer.ack.wrapping_add(1);
            if at == At::TimeWait {
                w.receive(&peer.say(&peer.segment().fin())).unwrap();
                peer.seq = peer.seq.wrapping_add(1);
            }
        }
        At::Gone => {
            w.receive(&peer.say(&peer.segment().rst())).unwrap();
        }
    }
    w.take_events();
    w.sent.clear();
    (w, peer, conn)
}

/// What an event leads to: how it was taken, what the user is told, what is sent first, and how many connections there
/// are then.
type Outcome = (Result<(), DropReason>, &'static str, &'static str, usize);

fn happen(w: &mut World, peer: &Peer, conn: Option<Conn>, on: On) -> Outcome {
    let nobody = Conn { slot: 0, generation: 99 };
    let conn = conn.unwrap_or(nobody);
    let segment = peer.segment();
    let mut result = Ok(());
    match on {
        On::Ack => result = w.receive(&peer.say(&segment)),
        On::Question => result = w.receive(&peer.say(&segment.payload(&framed(&message(2, 20))))),
        On::Half => result = w.receive(&peer.say(&segment.payload(&[0]))),
        On::NoDns => result = w.receive(&peer.say(&segment.payload(&[0, 0, 0, 0]))),
        On::Syn => result = w.receive(&peer.say(&tcp(peer.port, 53).seq(peer.seq).syn())),
        On::Fin => result = w.receive(&peer.say(&segment.fin())),
        On::Reset => result = w.receive(&peer.say(&segment.rst())),
        On::ResetNearby => {
            let nearby = segment.seq(peer.seq.wrapping_add(9)).rst();
            result = w.receive(&peer.say(&nearby));
        }
        On::Send => {
            let _ = w.send(conn, &message(1, 20));
        }
        On::Unanswered => w.with(|s, now, out| s.unanswered(conn, now, out)),
        On::Close => w.with(|s, now, out| s.close(conn, now, out)),
        On::Idle | On::Late => {
            w.now = w.now + Duration::from_secs(if on == On::Idle { 11 } else { 60 });
            w.with(|s, now, out| s.poll(10, now, out));
        }
    }
    let told = match w.take_events()[..] {
        [] => "",
        [Event::Message { .. }] => "message",
        [Event::Message { .. }, Event::Closed { why: Why::BadMessage, .. }] => "message, bad",
        [Event::Closed { why: Why::Peer, .. }] => "peer",
        [Event::Closed { why: Why::Reset, .. }] => "reset",
        [Event::Closed { why: Why::Idle, .. }] => "idle",
        [Event::Closed { why: Why::Slow, .. }] => "slow",
        [Event::Closed { why: Why::BadMessage, .. }] => "bad",
        ref other => panic!("{other:?}"),
    };
    let sent = w.sent.first().map_or("", |p| match (seen(p).flags, seen(p).data) {
        ("ACK", 1..) => "data",
        ("FIN ACK", 1..) => "data FIN",
        (flags, _) => flags,
    });
    w.streams.assert_consistent();
    (result, told, sent, w.streams.connections().0)
}

/// What has to come of it.
fn want(at: At, on: On) -> Outcome {
    use {At::*, On::*};
    let challenged = Err(DropReason::DnsTcpChallenged);
    let nobody = Err(DropReason::DnsTcpNoConnection);
    let alive = usize::from(!matches!(at, Cookie | Gone));
    let quiet = (Ok(()), "", "", alive);
    match (at, on) {
        // Nothing is known of it, but its acknowledgement opens the connection, with all that it carries.
        (Cookie, Ack | Half) => (Ok(()), "", "", 1),
        (Cookie, Question) => (Ok(()), "message", "", 1),
        (Cookie, NoDns) => (Ok(()), "bad", "RST ACK", 0),
        (Cookie, Fin) => (Ok(()), "peer", "FIN ACK", 1),
        (Cookie | Gone, Syn) => (Ok(()), "", "SYN ACK", 0),
        (Cookie | Gone, Reset | ResetNearby) => (nobody, "", "", 0),
        // The cookie is still good, and this would be its acknowledgement.
        (Gone, Ack | Half) => (Ok(()), "", "", 1),
        (Gone, Question) => (Ok(()), "message", "", 1),
        (Gone, NoDns) => (Ok(()), "bad", "RST ACK", 0),
        (Gone, Fin) => (Ok(()), "peer", "FIN ACK", 1),
        (Cookie | Gone, Send | Unanswered | Close | Idle | Late) => (Ok(()), "", "", 0),

        // Handles of messages that did not come.
        (Open | Inside, Send | Unanswered | Close) => quiet,
        (Open | Inside | Asked | Answered | HalfClosed | Closing, Syn) => (challenged, "", "ACK", 1),
        // RFC 9293 3.6.1: as a new connection.
        (TimeWait, Syn) => (Ok(()), "", "SYN ACK", 0),
        (Closing | TimeWait, Reset) => (Ok(()), "", "", 0),
        (_, Reset) => (Ok(()), "reset", "", 0),
        (_, ResetNearby) => (challenged, "", "ACK", 1),

        (Open | Asked, Ack | Half) => quiet,
        (Open | Asked, Question) => (Ok(()), "message", "", 1),
        (Inside, Ack | Half | Question) => match on {
            // The rest of the first question, and three octets that begin none.
            Question => (Ok(()), "message, bad", "RST ACK", 0),
            _ => quiet,
        },
        // The client's number has not got the answer yet.
        (Answered, Ack | Half) => quiet,
        (Answered, Question) => (Ok(()), "message", "", 1),
        (Open | Asked | Answered, NoDns) => (Ok(()), "bad", "RST ACK", 0),
        (Inside, NoDns) => quiet,
        (Open | Inside, Fin) => (Ok(()), "peer", "FIN ACK", 1),
        (Asked, Fin) => (Ok(()), "", "ACK", 1),
        (Answered, Fin) => (Ok(()), "peer", "FIN ACK", 1),

        // Its half is closed: what comes behind that is none of its data.
        (HalfClosed | TimeWait, Question | Half | NoDns) => (Err(DropReason::DnsTcpMalformed), "", "", 1),
        (HalfClosed, Ack | Fin) => quiet,
        (HalfClosed, Send) => (Ok(()), "peer", "data FIN", 1),
        (HalfClosed, Unanswered) => (Ok(()), "peer", "FIN ACK", 1),

        (Asked | Answered, Send) => (Ok(()), "", "data", 1),
        (Asked | Answered, Unanswered) => quiet,
        (Asked | Answered | HalfClosed, Close) => (Ok(()), "", "FIN ACK", 1),

        (Open, Idle | Late) => (Ok(()), "idle", "FIN ACK", 1),
        (Inside, Idle | Late) => (Ok(()), "slow", "RST ACK", 0),
        // A question under way is waited for, then it is not.
        (Asked | HalfClosed, Idle) => quiet,
        (Asked | HalfClosed, Late) => (Ok(()), "idle", "FIN ACK", 1),
        // It is sent again (RFC 6298), and given up later.
        (Answered, Idle) => (Ok(()), "", "data", 1),
        (Answered, Late) => (Ok(()), "slow", "RST ACK", 0),

        // Nobody reads any more.
        (Closing, Ack | Question | Half | NoDns) => quiet,
        (Closing, Fin) => (Ok(()), "", "ACK", 1),
        (Closing, Idle | Late) => (Ok(()), "", "RST ACK", 0),
        (TimeWait, Ack | Fin) => quiet,
        (Closing | TimeWait, Send | Unanswered | Close) => quiet,
        (TimeWait, Idle | Late) => (Ok(()), "", "", 0),
    }
}

#[test]
fn every_event_in_every_state_leads_where_it_has_to() {
    let mut wrong = Vec::new();
    for at in STATES {
        for on in EVENTS {
            let (mut w, peer, conn) = reach(at);
            let got = happen(&mut w, &peer, conn, on);
            if got != want(at, on) {
                wrong.push(format!("{at:?} {on:?}: {got:?}, not {:?}", want(at, on)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a random sequence is made of.
#[derive(Debug, Clone, Copy)]
struct Random {
    what: u8,
    who: u8,
    number: u16,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn random_sequences_keep_all_bounds_and_tables(
        list in proptest::collection::vec((any::<u8>(), 0u8..6, any::<u16>()), 1..200)
    ) {
        let config = Tcp { connections: 4, per_client: 2, idle: Duration::from_secs(3), pipelined: 2 };
        let mut w = World::new(&config);
        let mut peers: Vec<Peer> = (0..6).map(|n| Peer::new((n / 3) << 12 | n)).collect();
        let mut conns: Vec<Conn> = Vec::new();
        let mut closed: Vec<Conn> = Vec::new();
        for (what, who, number) in list {
            let step = Random { what, who, number };
            random_step(&mut w, &mut peers, &mut conns, step);
            // The peers learn what they were sent.
            for packet in w.sent.drain(..) {
                let to = causeway_wire::be16(&packet, 42);
                if let Some(peer) = peers.iter_mut().find(|p| p.port == to) {
                    let s = seen(&packet);
                    if s.flags == "SYN ACK" {
                        (peer.seq, peer.ack) = (s.ack, s.seq.wrapping_add(1));
                    } else if s.seq == peer.ack && number % 3 > 0 {
                        let fin = u32::from(s.flags == "FIN ACK");
                        peer.ack = peer.ack.wrapping_add(u32::try_from(s.data).unwrap()).wrapping_add(fin);
                    }
                }
            }
            for event in w.take_events() {
                match event {
                    Event::Message { conn, .. } => {
                        prop_assert!(!closed.contains(&conn));
                        conns.push(conn);
                    }
                    Event::Closed { conn, .. } => {
                        prop_assert!(!closed.contains(&conn));
                        closed.push(conn);
                    }
                    Event::Connected { .. } => prop_assert!(false),
                }
            }
            w.streams.assert_consistent();
            prop_assert!(w.streams.connections().0 <= 4);
            prop_assert!(w.streams.octets() <= 4 * (SERVER_OCTETS + 2 * BACKLOG));
        }
        // Left alone, nothing stays.
        w.network.clear();
        w.run(Duration::from_secs(200), |w| w.network.clear());
        prop_assert_eq!(w.streams.connections(), (0, 0));
        prop_assert_eq!(w.streams.octets(), 0);
    }
}

fn random_step(w: &mut World, peers: &mut [Peer], conns: &mut Vec<Conn>, step: Random) {
    let Random { what, who, number } = step;
    let peer = &mut peers[usize::from(who)];
    let near = u32::from(number % 8);
    let segment = peer.segment();
    let data: Vec<u8> = match number % 4 {
        0 => framed(&message(number, 12 + usize::from(number % 50))),
        1 => vec![0],
        2 => vec![20; usize::from(number % 100)],
        _ => framed(&message(1, 12))[..usize::from(number % 14)].to_vec(),
    };
    match what % 16 {
        0 | 1 => drop(w.receive(&peer.syn())),
        2 | 3 => drop(w.receive(&peer.say(&segment))),
        4..=7 => {
            // In order, and acknowledged as far as it is known.
            let _ = w.receive(&peer.say(&segment.psh().payload(&data)));
            peer.seq = peer.seq.wrapping_add(data.len() as u32);
        }
        8 => {
            let early = segment.seq(peer.seq.wrapping_add(near)).payload(&data);
            let _ = w.receive(&peer.say(&early.window(number)));
        }
        9 => {
            let _ = w.receive(&peer.say(&segment.fin()));
            peer.seq = peer.seq.wrapping_add(u32::from(number % 2));
        }
        10 => drop(w.receive(&peer.say(&segment.seq(peer.seq.wrapping_add(near)).rst()))),
        11 => drop(w.receive(&peer.say(&segment.ack(peer.ack.wrapping_add(near))))),
        12 | 13 => {
            if let Some(conn) = conns.pop() {
                let _ = w.send(conn, &message(1, 12 + usize::from(number)));
            }
        }
        14 => {
            if let Some(conn) = conns.pop() {
                w.with(
                    |s, now, out| {
                        if number % 2 == 0 { s.close(conn, now, out) } else { s.unanswered(conn, now, out) }
                    },
                );
            }
        }
        _ => {
            w.now = w.now + Duration::from_millis(u64::from(number % 4000));
            w.with(|s, now, out| s.poll(usize::from(number % 5), now, out));
        }
    }
}
