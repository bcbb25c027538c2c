//! Random sequences of everything that can happen.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Move {
    Ask(u8),
    Pass(u16),
    /// Something comes to the port of one of the last questions.
    Say(u8, Say),
    Stream(u8, Option<Say>),
    Unreachable(u8),
    Reload(u8),
}

#[derive(Debug, Clone, Copy)]
enum Say {
    Good,
    Code(u16),
    Cut,
    Lowered,
    WrongId,
    WrongSource,
    Header,
    Rubbish(u16),
}

fn any_say() -> impl Strategy<Value = Say> {
    prop_oneof![
        3 => Just(Say::Good),
        2 => (0u16..24).prop_map(Say::Code),
        1 => Just(Say::Cut),
        1 => Just(Say::Lowered),
        1 => Just(Say::WrongId),
        1 => Just(Say::WrongSource),
        1 => Just(Say::Header),
        1 => any::<u16>().prop_map(Say::Rubbish),
    ]
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (0u8..12).prop_map(Move::Ask),
        3 => (0u16..900).prop_map(Move::Pass),
        6 => (any::<u8>(), any_say()).prop_map(|(which, say)| Move::Say(which, say)),
        2 => (any::<u8>(), prop::option::of(any_say())).prop_map(|(which, say)| Move::Stream(which, say)),
        1 => (any::<u8>()).prop_map(Move::Unreachable),
        1 => (0u8..4).prop_map(Move::Reload),
    ]
}

fn say(octets: &[u8], what: Say) -> Vec<u8> {
    match what {
        Say::Good | Say::WrongSource => good(octets),
        Say::Code(code) => answer(octets, code, &[]),
        Say::Lowered => lowered(&good(octets)),
        Say::Cut => {
            let mut b = answer(octets, 0, &[]);
            b[2] |= 2;
            b
        }
        Say::WrongId => {
            let mut b = good(octets);
            b[1] ^= 1;
            b
        }
        Say::Header => [&octets[..2], &[0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
        Say::Rubbish(at) => {
            let mut b = good(octets);
            let at = usize::from(at) % b.len();
            b[at] ^= 0xff;
            b
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes, each fetch ends once, within its patience, and nothing stays open.
    #[test]
    fn random_sequences_end_every_fetch_once(moves in prop::collection::vec(any_move(), 0..120)) {
        let sets: [&[&str]; 4] = [&[ONE, TWO], &[ONE], &[TWO, FOREIGN], &[]];
        let mut w = World::new(sets[0]);
        let mut begun: HashMap<FetchId, Instant> = HashMap::new();
        let mut told = 0;
        for one in moves {
            match one {
                Move::Ask(n) => {
                    if let Ok(id) = w.ask(&format!("n{n}.example.")) {
                        // A fetch may have ended at once; its number is told all the same.
                        begun.entry(id).or_insert(w.now);
                    }
                }
                Move::Pass(n) => w.pass(ms(u64::from(n))),
                Move::Say(which, what) => {
                    let at = w.sent.len().checked_sub(1 + usize::from(which) % 6);
                    if let Some(q) = at.and_then(|at| w.sent.get(at)).cloned() {
                        let from = if matches!(what, Say::WrongSource) { s(FOREIGN) } else { q.to };
                        let _ = w.datagram(from, q.port, &say(&q.octets, what));
                    }
                }
                Move::Stream(which, what) => {
                    let at = w.opened.len().checked_sub(1 + usize::from(which) % 3);
                    if let Some((token, _, octets)) = at.and_then(|at| w.opened.get(at)).cloned() {
                        match what {
                            Some(what) => w.stream(token, StreamEvent::Message(&say(&octets, what))),
                            None => w.stream(token, StreamEvent::Closed),
                        }
                    }
                }
                Move::Unreachable(which) => {
                    let at = w.sent.len().checked_sub(1 + usize::from(which) % 6);
                    if let Some(q) = at.and_then(|at| w.sent.get(at)).cloned() {
                        w.unreachable(q.to, q.port);
                    }
                }
                Move::Reload(n) => {
                    let new = config(sets[usize::from(n)]);
                    w.u.set_config(&new, status(&new));
                }
            }
            for done in w.done.drain(..) {
                let began = begun.remove(&done.id);
                prop_assert!(began.is_some_and(|b| w.now.since(b) <= ms(4000 + 900)), "{:?} {:?}", done, began);
                prop_assert!(done.took <= ms(4000));
                told += 1;
            }
            prop_assert_eq!(begun.len(), w.u.in_flight());
            // Each try has one port, and each fetch a bounded number of tries.
            prop_assert!(w.u.ports.len() <= w.u.in_flight() * 3 * 4 + 2);
            prop_assert_eq!(w.u.timers.len(), w.u.in_flight());
        }
        w.pass(ms(4000));
        let left = w.done.len();
        prop_assert!(w.done.drain(..).all(|d| begun.remove(&d.id).is_some()));
        prop_assert!(begun.is_empty(), "{} told, {} at the end, {:?} never", told, left, begun);
        w.idle();
    }
}
