use super::*;
use proptest::prelude::*;

const NOW: Instant = Instant::from_micros(1_000_000_000);

fn ms(n: u64) -> Instant {
    NOW + Duration::from_millis(n)
}

/// Priority 100, every second.
const P: Parameters =
    Parameters { priority: 100, interval_cs: 100, preempt: true, preempt_delay: Duration::ZERO };

/// 3 s and 156/256 s, in microseconds.
const DOWN: Duration = Duration::from_micros(3_609_375);
const SKEW: Duration = Duration::from_micros(609_375);

fn backup(active_down: Instant) -> State {
    State::Backup { active_down, active_interval_cs: 100, lower_since: None }
}

fn heard(priority: u8, wins_tie: bool) -> Event {
    Event::Heard(Heard { priority, interval_cs: 20, wins_tie })
}

/// Down at the interval of `heard`: 600 ms and 156/256 of 200 ms.
fn follows(now: Instant) -> State {
    let active_down = now + Duration::from_micros(721_875);
    State::Backup { active_down, active_interval_cs: 20, lower_since: None }
}

#[test]
fn rfc9568_6_1_skew_and_down_interval_follow_the_active_routers_interval() {
    assert_eq!((P.skew(100), P.active_down(100)), (SKEW, DOWN));
    assert_eq!(P.active_down(1), Duration::from_nanos(36_093_750), "30 ms and 156/256 of 10 ms");
    let best = Parameters { priority: 254, ..P };
    assert_eq!(best.active_down(100), Duration::from_nanos(3_007_812_500));
    let least = Parameters { priority: 1, ..P };
    assert!(least.skew(4095) < interval(4095), "the skew is less than an interval");
    assert_eq!(interval(4095), Duration::from_millis(40_950));
}

/// Every state with every event: what becomes of it. The deadlines are in the past, at `now`, and in the future.
#[test]
fn rfc9568_6_4_every_state_with_every_event() {
    use Action as A;
    let due = backup(NOW);
    let waiting = backup(ms(1));
    let active_due = State::Active { adver: NOW };
    let active = State::Active { adver: ms(1) };
    let anew = State::Active { adver: ms(1000) };
    let down = backup(NOW + DOWN);
    let soon = State::Backup { active_down: NOW + SKEW, active_interval_cs: 100, lower_since: None };
    let follow = Event::Follow { interval_cs: 20 };
    #[rustfmt::skip]
    let table: &[(State, Event, State, Action)] = &[
        (State::Initialize, Event::Startup,      down,              A::None),
        (State::Initialize, Event::Shutdown,     State::Initialize, A::None),
        (State::Initialize, Event::Timer,        State::Initialize, A::None),
        (State::Initialize, heard(0, false),     State::Initialize, A::None),
        (State::Initialize, heard(99, true),     State::Initialize, A::None),
        (State::Initialize, heard(100, false),   State::Initialize, A::None),
        (State::Initialize, heard(100, true),    State::Initialize, A::None),
        (State::Initialize, heard(255, true),    State::Initialize, A::None),
        (State::Initialize, follow,              State::Initialize, A::None),

        (waiting,           Event::Startup,      waiting,           A::None),
        (waiting,           Event::Shutdown,     State::Initialize, A::None),
        (waiting,           Event::Timer,        waiting,           A::None),
        (due,               Event::Timer,        anew,              A::BecomeActive),
        (down,              heard(0, false),     soon,              A::None),
        (down,              heard(0, true),      soon,              A::None),
        (waiting,           heard(0, false),     waiting,           A::None),
        (waiting,           heard(99, true),     waiting,           A::None),
        (waiting,           heard(1, true),      waiting,           A::None),
        (waiting,           heard(100, false),   follows(NOW),      A::None),
        (waiting,           heard(100, true),    follows(NOW),      A::None),
        (waiting,           heard(101, false),   follows(NOW),      A::None),
        (waiting,           heard(255, false),   follows(NOW),      A::None),
        (waiting,           follow,              waiting,           A::None),

        (active,            Event::Startup,      active,            A::None),
        (active,            Event::Shutdown,     State::Initialize, A::Resign),
        (active,            Event::Timer,        active,            A::None),
        (active_due,        Event::Timer,        anew,              A::Advertise),
        (active,            heard(0, true),      anew,              A::Answer),
        (active,            heard(99, true),     active,            A::Answer),
        (active,            heard(1, true),      active,            A::Answer),
        (active,            heard(100, false),   active,            A::Answer),
        (active,            heard(100, true),    follows(NOW),      A::BecomeBackup),
        (active,            heard(101, false),   follows(NOW),      A::BecomeBackup),
        (active,            heard(255, false),   follows(NOW),      A::BecomeBackup),
        (active,            follow,              follows(NOW),      A::BecomeBackup),
    ];
    for (state, event, next, action) in table {
        assert_eq!(state.on(*event, NOW, &P), (*next, *action), "{state:?} {event:?}");
    }
    // Preempt_Mode off changes one row (RFC 9568 6.4.2): a lower priority is obeyed as well.
    let calm = Parameters { preempt: false, ..P };
    for (state, event, next, action) in table {
        let want = match (state, event) {
            (State::Backup { .. }, Event::Heard(h)) if (1..100).contains(&h.priority) => {
                (follows(NOW), A::None)
            }
            _ => (*next, *action),
        };
        assert_eq!(state.on(*event, NOW, &calm), want, "without preemption: {state:?} {event:?}");
    }
    // The owner (RFC 9568 6.4.1) is active at once and preempts whatever the mode is.
    let owner = Parameters { priority: OWNER, preempt: false, ..P };
    assert_eq!(State::Initialize.on(Event::Startup, NOW, &owner), (anew, A::BecomeActive));
    assert_eq!(waiting.on(heard(254, true), NOW, &owner), (waiting, A::None));
    assert_eq!(active.on(heard(254, true), NOW, &owner), (active, A::Answer));
    assert_eq!(active.on(heard(255, false), NOW, &owner), (active, A::Answer));
}

#[test]
fn rfc9568_6_4_3_adverts_keep_step_and_never_come_in_a_row() {
    let mut state = State::Active { adver: NOW };
    // Late by up to a part of the interval each time: they stay in step with the first.
    for n in 0..50u64 {
        let (next, action) = state.on(Event::Timer, ms(n * 1000 + n % 7), &P);
        assert_eq!((next, action), (State::Active { adver: ms((n + 1) * 1000) }, Action::Advertise));
        state = next;
    }
    // After a pause of many intervals one is sent, and the next an interval later.
    let late = ms(50_000 + 7_300);
    let (next, action) = state.on(Event::Timer, late, &P);
    assert_eq!(action, Action::Advertise);
    assert_eq!(next, State::Active { adver: late + Duration::from_secs(1) });
    assert_eq!(next.on(Event::Timer, late, &P), (next, Action::None));
}

#[test]
fn rfc9568_6_4_2_priority_zero_ends_the_waiting() {
    let (state, _) = backup(NOW + DOWN).on(heard(0, false), NOW, &P);
    assert_eq!(state.deadline(), Some(NOW + SKEW));
    // However often it is said, it is not put off.
    let again = (0..600).fold(state, |s, n| s.on(heard(0, false), ms(n), &P).0);
    assert_eq!(again, state);
    assert_eq!(again.on(Event::Timer, NOW + SKEW, &P).1, Action::BecomeActive);
}

#[test]
fn a_router_of_lower_priority_is_heard_for_the_delay_and_then_preempted() {
    let p = Parameters { preempt_delay: Duration::from_secs(5), ..P };
    let mut state = State::Initialize.on(Event::Startup, NOW, &p).0;
    let low = Event::Heard(Heard { priority: 50, interval_cs: 100, wins_tie: false });
    let mut became = None;
    for n in 0..200u64 {
        let now = ms(n * 100);
        if n % 10 == 0 && became.is_none() {
            state = state.on(low, now, &p).0;
        }
        let (next, action) = state.on(Event::Timer, now, &p);
        state = next;
        if action == Action::BecomeActive {
            became.get_or_insert(n * 100);
        }
    }
    // Heard from 0 to 4 s; the timer of the one at 4 s runs for 3.609 s more.
    assert_eq!(became, Some(7700));
    // A better one that shows up meanwhile begins the waiting anew.
    let waiting = State::Backup { active_down: ms(10), active_interval_cs: 100, lower_since: Some(NOW) };
    let (state, _) = waiting.on(heard(100, false), ms(5), &p);
    assert!(matches!(state, State::Backup { lower_since: None, .. }));
    // With nobody there is nobody to hear: no delay.
    let alone = State::Initialize.on(Event::Startup, NOW, &p).0;
    assert_eq!(alone.on(Event::Timer, NOW + DOWN, &p).1, Action::BecomeActive);
}

fn any_event() -> impl Strategy<Value = Event> {
    let heard = (any::<u8>(), 1u16..=4095, any::<bool>()).prop_map(|(priority, interval_cs, wins_tie)| {
        Event::Heard(Heard { priority, interval_cs, wins_tie })
    });
    prop_oneof![
        1 => Just(Event::Startup),
        1 => Just(Event::Shutdown),
        6 => Just(Event::Timer),
        6 => heard,
        1 => (1u16..=4095).prop_map(|interval_cs| Event::Follow { interval_cs }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_actions_fit_states_and_deadlines_are_bounded(
        events in proptest::collection::vec((any_event(), 0u64..5_000_000), 1..200),
        priority in 1u8..=255, interval_cs in 1u16..=4095, preempt: bool, delay_ms in 0u64..100_000,
    ) {
        let p = Parameters { priority, interval_cs, preempt, preempt_delay: Duration::from_millis(delay_ms) };
        let mut state = State::Initialize;
        let mut now = NOW;
        for (event, us) in events {
            now = now + Duration::from_micros(us);
            let (next, action) = state.on(event, now, &p);
            let (was, is) = (state.is_active(), next.is_active());
            prop_assert_eq!(action == Action::BecomeActive, !was && is, "{:?} {:?}", state, event);
            prop_assert_eq!(action == Action::Resign, was && next == State::Initialize);
            prop_assert_eq!(action == Action::BecomeBackup, was && matches!(next, State::Backup { .. }));
            if matches!(action, Action::Advertise | Action::Answer) {
                prop_assert!(was && is);
            }
            // No stranger can make us wait longer than his own interval lets him.
            let longest = now + p.active_down(4095);
            prop_assert!(next.deadline().is_none_or(|d| d <= longest));
            if let State::Active { adver } = next {
                prop_assert!(adver <= now + interval(interval_cs), "an advert is put off");
            }
            state = next;
        }
    }
}
