use super::*;
use proptest::prelude::*;

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);

const T: Timing = Timing {
    reachable: Duration::from_secs(30),
    search: Duration::from_secs(1),
    retrans: Duration::from_secs(1),
    delay: Duration::from_secs(5),
    stale_check: Duration::from_secs(2),
    idle: Duration::from_secs(600),
    failed: Duration::from_secs(3),
    multicast_tries: 3,
    unicast_tries: 3,
};

/// `S'` is Stale at B; then what is sent (`+m`, `+u`), what becomes of waiting packets (`+w` sent, `+f`
/// failed), and whom to tell (`!r`, `!u`).
fn show(step: Step) -> String {
    let letter = match step.state {
        None => ".",
        Some(State::Incomplete { .. }) => "I",
        Some(State::Reachable { .. }) => "R",
        Some(State::Stale { .. }) => "S",
        Some(State::Delay { .. }) => "D",
        Some(State::Probe { .. }) => "P",
        Some(State::Failed { .. }) => "F",
    };
    let other = if step.state.and_then(|s| s.mac()) == Some(B) { "'" } else { "" };
    let solicit = match step.solicit {
        Solicit::No => "",
        Solicit::Multicast => "+m",
        Solicit::Unicast(mac) => {
            assert_eq!(mac, A);
            "+u"
        }
    };
    let waiting = match step.waiting {
        Waiting::Keep => "",
        Waiting::Send => "+w",
        Waiting::Fail => "+f",
    };
    let notice = match step.notice {
        Notice::None => "",
        Notice::Resolved => "!r",
        Notice::Unreachable => "!u",
    };
    format!("{letter}{other}{solicit}{waiting}{notice}")
}

#[test]
fn rfc4861_c_every_state_and_every_event() {
    let t0 = Instant::from_micros(1_000_000_000);
    let due = t0 + Duration::from_secs(1);
    let answer = |mac, solicited, override_| Event::Answer { mac, solicited, override_ };
    // In the order of the columns below. All but the second at the deadline or after it.
    let events = [
        (Event::Used, due),
        (Event::Timer, t0),
        (Event::Timer, due),
        (Event::Heard { mac: A }, due),
        (Event::Heard { mac: B }, due),
        (answer(None, false, true), due),
        (answer(None, true, false), due),
        (answer(Some(A), false, false), due),
        (answer(Some(A), false, true), due),
        (answer(Some(A), true, false), due),
        (answer(Some(A), true, true), due),
        (answer(Some(B), false, false), due),
        (answer(Some(B), false, true), due),
        (answer(Some(B), true, false), due),
        (answer(Some(B), true, true), due),
        (Event::Verify, t0),
    ];
    let old = Instant::from_micros(1);
    #[rustfmt::skip]
    let rows: [(State, [&str; 16]); 9] = [
        //                                            used early due     heard: A     B         no address: S=0 S=1  A: -    O        S        SO       B: -      O         S         SO        verify
        (State::Incomplete { sent: 1, next: due },   ["I", "I", "I+m",    "S+w!r", "S'+w!r", "I", "I", "S+w!r", "S+w!r", "R+w!r", "R+w!r", "S'+w!r", "S'+w!r", "R'+w!r", "R'+w!r", "I"]),
        (State::Incomplete { sent: 3, next: due },   ["I", "I", "F+f!u",  "S+w!r", "S'+w!r", "I", "I", "S+w!r", "S+w!r", "R+w!r", "R+w!r", "S'+w!r", "S'+w!r", "R'+w!r", "R'+w!r", "I"]),
        (State::Failed { until: due },               ["F", "F", ".",      "S+w!r", "S'+w!r", "F", "F", "S+w!r", "S+w!r", "R+w!r", "R+w!r", "S'+w!r", "S'+w!r", "R'+w!r", "R'+w!r", "F"]),
        (State::Reachable { mac: A, until: due },    ["R", "R", "S",      "R",     "S'!r",   "R", "R", "R",     "R",     "R",     "R",     "S",      "S'!r",   "S",      "R'!r", "R"]),
        (State::Stale { mac: A, since: t0, check: due },
                                                     ["D", "S", "S",      "S",     "S'!r",   "S", "R", "S",     "S",     "R",     "R",     "S",      "S'!r",   "S",      "R'!r", "P+u"]),
        (State::Stale { mac: A, since: old, check: due },
                                                     ["D", "S", ".",      "S",     "S'!r",   "S", "R", "S",     "S",     "R",     "R",     "S",      "S'!r",   "S",      "R'!r", "P+u"]),
        (State::Delay { mac: A, until: due },        ["D", "D", "P+u",    "D",     "S'!r",   "D", "R", "D",     "D",     "R",     "R",     "D",      "S'!r",   "D",      "R'!r", "P+u"]),
        (State::Probe { mac: A, sent: 1, next: due },["P", "P", "P+u",    "P",     "S'!r",   "P", "R", "P",     "P",     "R",     "R",     "P",      "S'!r",   "P",      "R'!r", "P"]),
        (State::Probe { mac: A, sent: 3, next: due },["P", "P", ".!u",    "P",     "S'!r",   "P", "R", "P",     "P",     "R",     "R",     "P",      "S'!r",   "P",      "R'!r", "P"]),
    ];
    for (state, want) in rows {
        for ((event, now), want) in events.into_iter().zip(want) {
            assert_eq!(show(state.on(event, now, &T)), want, "{state:?} on {event:?}");
        }
    }
}

#[test]
fn rfc4861_10_the_constants_are_the_deadlines() {
    let now = Instant::from_micros(7);
    let after = |d| now + Duration::from_secs(d);
    let begun = State::begin(now, &T);
    assert_eq!(begun.state, Some(State::Incomplete { sent: 1, next: after(1) }));
    assert_eq!(begun.solicit, Solicit::Multicast);
    let confirm = Event::Answer { mac: Some(A), solicited: true, override_: true };
    let reachable = State::Reachable { mac: A, until: after(30) };
    assert_eq!(begun.state.unwrap().on(confirm, now, &T).state, Some(reachable));
    // A second confirmation lasts from then on.
    let later = after(20);
    let again = reachable.on(confirm, later, &T).state;
    assert_eq!(again, Some(State::Reachable { mac: A, until: later + T.reachable }));
    let stale = State::learned(A, now, &T);
    assert_eq!(stale.on(Event::Used, now, &T).state, Some(State::Delay { mac: A, until: after(5) }));
    let delay = State::Delay { mac: A, until: now };
    assert_eq!(delay.on(Event::Timer, now, &T).state, Some(State::Probe { mac: A, sent: 1, next: after(1) }));
}

fn event() -> impl Strategy<Value = Event> {
    let mac = || prop_oneof![Just(A), Just(B)];
    prop_oneof![
        1 => Just(Event::Used),
        1 => Just(Event::Verify),
        3 => Just(Event::Timer),
        1 => mac().prop_map(|mac| Event::Heard { mac }),
        2 => (proptest::option::of(mac()), any::<bool>(), any::<bool>())
            .prop_map(|(mac, solicited, override_)| Event::Answer { mac, solicited, override_ }),
    ]
}

proptest! {
    #[test]
    fn any_sequence_keeps_the_invariants(events in proptest::collection::vec((event(), 0u64..8_000_000), 1..60)) {
        let mut now = Instant::from_micros(1_000_000);
        let mut state = State::begin(now, &T).state.unwrap();
        let mut unanswered = 0;
        for (event, us) in events {
            now = now + Duration::from_micros(us);
            let step = state.on(event, now, &T);
            let Some(next) = step.state else {
                // Only time takes a neighbour away.
                prop_assert_eq!(event, Event::Timer);
                state = State::begin(now, &T).state.unwrap();
                unanswered = 0;
                continue;
            };
            // Waiting packets leave exactly when there is somewhere to send them.
            prop_assert_eq!(step.waiting == Waiting::Send, state.mac().is_none() && next.mac().is_some());
            prop_assert_eq!(step.waiting == Waiting::Fail, matches!((state, next), (State::Incomplete { .. }, State::Failed { .. })));
            // Trust comes from a solicited answer alone.
            let confirmed = matches!(next, State::Reachable { .. }) && next != state;
            let answered = matches!(event, Event::Answer { solicited: true, .. });
            prop_assert!(!confirmed || answered);
            // What changed has its deadline ahead of it.
            prop_assert!(next == state || next.deadline() > now);
            // A known address is never lost by a message.
            prop_assert!(state.mac().is_none() || next.mac().is_some());
            unanswered = if step.solicit == Solicit::No { unanswered } else { unanswered + 1 };
            if !matches!(next, State::Incomplete { .. } | State::Probe { .. }) {
                unanswered = 0;
            }
            prop_assert!(unanswered <= 3);
            state = next;
        }
    }

    #[test]
    fn a_neighbour_that_is_silent_is_gone_after_bounded_time(events in proptest::collection::vec(event(), 0..20)) {
        let mut now = Instant::from_micros(1_000_000);
        let mut state = State::begin(now, &T).state;
        for e in events {
            state = state.and_then(|s| s.on(e, now, &T).state);
        }
        let end = now + T.reachable + T.idle + T.stale_check + T.failed + Duration::from_secs(20);
        while let Some(s) = state {
            now = s.deadline().max(now);
            prop_assert!(now <= end);
            state = s.on(Event::Timer, now, &T).state;
        }
    }
}
