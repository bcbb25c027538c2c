use super::*;
use proptest::prelude::*;

const TIMING: Timing = Timing { min: Duration::from_secs(200), max: Duration::from_secs(600) };

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn after(state: State, last: Option<Instant>, event: Event, now: Instant) -> Schedule {
    let mut s = Schedule { state, last };
    s.on(event, now, TIMING, &mut Random::new(1));
    s
}

#[test]
fn rfc4861_10_the_constants() {
    assert_eq!((INITIAL, FINAL), (3, 3));
    assert_eq!((INITIAL_INTERVAL.as_secs(), MIN_DELAY.as_secs(), ANSWER_DELAY.as_millis()), (16, 3, 500));
}

/// Every state and every event, with the last advertisement long ago.
#[test]
fn rfc4861_6_2_every_state_and_every_event() {
    use State::{Advertising, Ceasing, Quiet};
    let now = at(1000);
    let begun = Advertising { initial: 3, due: now };
    let advertising = Advertising { initial: 1, due: at(1100) };
    let ceasing = Ceasing { left: 2, due: at(1001) };
    let table = [
        (Quiet, Event::Begin, begun),
        (Quiet, Event::Changed, begun),
        (Quiet, Event::Solicited, Quiet),
        (Quiet, Event::Cease, Quiet),
        (Quiet, Event::Stop, Quiet),
        (Quiet, Event::Sent, Quiet),
        (advertising, Event::Begin, begun),
        (advertising, Event::Changed, begun),
        (advertising, Event::Cease, Ceasing { left: 3, due: now }),
        (advertising, Event::Stop, Quiet),
        (ceasing, Event::Begin, begun),
        (ceasing, Event::Changed, begun),
        (ceasing, Event::Solicited, ceasing),
        (ceasing, Event::Cease, ceasing),
        (ceasing, Event::Stop, Quiet),
        (ceasing, Event::Sent, Ceasing { left: 1, due: at(1003) }),
        (Ceasing { left: 1, due: now }, Event::Sent, Quiet),
    ];
    for (state, event, want) in table {
        let got = after(state, Some(at(10)), event, now);
        assert_eq!(got.state, want, "{state:?} {event:?}");
        assert_eq!(got.last, Some(if event == Event::Sent { now } else { at(10) }), "{state:?} {event:?}");
    }
    // Those with a random part.
    let Advertising { initial: 1, due } = after(advertising, Some(at(10)), Event::Solicited, now).state
    else {
        panic!()
    };
    assert!(now <= due && due <= now + ANSWER_DELAY);
    let Advertising { initial: 0, due } = after(advertising, Some(at(10)), Event::Sent, now).state else {
        panic!()
    };
    assert!(at(1200) <= due && due <= at(1600));
    assert_eq!(
        after(Advertising { initial: 3, due: now }, None, Event::Sent, now).state,
        Advertising { initial: 2, due: at(1016) }
    );
}

#[test]
fn rfc4861_6_2_4_the_first_three_are_at_most_16_seconds_apart() {
    for seed in 0..200 {
        let (mut s, mut random) = (Schedule::default(), Random::new(seed));
        s.on(Event::Begin, at(100), TIMING, &mut random);
        let mut sent = Vec::new();
        for _ in 0..5 {
            let due = s.due().unwrap();
            s.on(Event::Sent, due, TIMING, &mut random);
            sent.push(due);
        }
        let apart: Vec<Duration> = sent.windows(2).map(|w| w[1].since(w[0])).collect();
        assert_eq!(sent[0], at(100));
        assert_eq!(apart[..2], [INITIAL_INTERVAL; 2]);
        assert!(apart[2..].iter().all(|d| (TIMING.min..=TIMING.max).contains(d)), "{apart:?}");
    }
}

#[test]
fn rfc4861_6_2_6_many_questions_have_one_answer_delayed_from_the_first() {
    let (mut s, mut random) = (Schedule::default(), Random::new(3));
    s.on(Event::Begin, at(0), TIMING, &mut random);
    s.on(Event::Sent, at(0), TIMING, &mut random);
    s.on(Event::Solicited, at(10), TIMING, &mut random);
    let first = s.due().unwrap();
    assert!(at(10) <= first && first <= at(10) + ANSWER_DELAY);
    for ms in 0..400 {
        s.on(Event::Solicited, at(10) + Duration::from_millis(ms), TIMING, &mut random);
        assert!(s.due().unwrap() <= first);
    }
}

#[test]
fn rfc4861_6_2_6_a_question_just_after_an_answer_waits_for_the_three_seconds() {
    for seed in 0..200 {
        let (mut s, mut random) = (Schedule::default(), Random::new(seed));
        s.on(Event::Begin, at(0), TIMING, &mut random);
        s.on(Event::Sent, at(0), TIMING, &mut random);
        s.on(Event::Solicited, at(1), TIMING, &mut random);
        let due = s.due().unwrap();
        assert!(at(3) <= due && due <= at(3) + ANSWER_DELAY, "{due:?}");
    }
}

#[test]
fn rfc4861_6_2_6_one_that_is_due_anyway_is_not_put_off() {
    let due = at(1000) + Duration::from_micros(1);
    let soon = State::Advertising { initial: 0, due };
    for _ in 0..50 {
        assert!(after(soon, None, Event::Solicited, at(1000)).due().unwrap() <= due);
    }
}

#[test]
fn rfc4861_6_2_4_a_change_is_told_at_once_and_again_but_not_within_three_seconds() {
    let state = State::Advertising { initial: 0, due: at(1400) };
    let got = after(state, Some(at(998)), Event::Changed, at(1000));
    assert_eq!(got.state, State::Advertising { initial: 3, due: at(1001) });
}

#[test]
fn rfc4861_6_2_5_three_final_ones_and_no_more() {
    let (mut s, mut random) = (Schedule::default(), Random::new(9));
    s.on(Event::Begin, at(0), TIMING, &mut random);
    s.on(Event::Sent, at(0), TIMING, &mut random);
    s.on(Event::Cease, at(1), TIMING, &mut random);
    let mut sent = Vec::new();
    while let Some(due) = s.due() {
        s.on(Event::Sent, due, TIMING, &mut random);
        sent.push(due);
    }
    assert_eq!(sent, [at(3), at(6), at(9)]);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Pass(u64),
    On(Event),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event = prop_oneof![
        1 => Just(Event::Begin), 2 => Just(Event::Changed), 8 => Just(Event::Solicited),
        1 => Just(Event::Cease), 1 => Just(Event::Stop)
    ];
    let step = prop_oneof![
        3 => (0u64..5_000).prop_map(Step::Pass),
        1 => (0u64..900_000).prop_map(Step::Pass),
        3 => event.prop_map(Step::On)
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    /// Virtual hours of anything that may happen: the bounds of RFC 4861 6.2.4 and 6.2.6 hold between any two.
    #[test]
    fn rfc4861_6_2_whatever_happens_the_bounds_hold(
        seed: u64, steps in steps(), max in 4u64..1800, share in 0u64..=75, late in 0u64..50,
    ) {
        let max = Duration::from_secs(max);
        let min = (max * u32::try_from(share).unwrap() / 100).max(MIN_DELAY);
        let timing = Timing { min, max };
        let (mut s, mut random) = (Schedule::default(), Random::new(seed));
        let mut now = at(3600);
        let mut last: Option<Instant> = None;
        let mut asked: Option<Instant> = None;
        // Something other than time alone made the next one due.
        let mut caused = true;
        let mut run = 0u8;
        for step in steps {
            match step {
                Step::On(event) => {
                    s.on(event, now, timing, &mut random);
                    match event {
                        Event::Solicited if s.due().is_some() => asked = asked.or(Some(now)),
                        Event::Stop | Event::Cease => asked = None,
                        _ => {}
                    }
                    caused = true;
                    if matches!(event, Event::Begin | Event::Changed) {
                        run = 0;
                    }
                }
                Step::Pass(ms) => {
                    let end = now + Duration::from_millis(ms);
                    while let Some(due) = s.due().filter(|due| *due <= end) {
                        // Polled a little late.
                        now = now.max(due) + Duration::from_micros(late);
                        if let Some(last) = last {
                            let apart = now.since(last);
                            prop_assert!(apart >= MIN_DELAY, "{apart:?} after the last");
                            if !caused {
                                let least = if run < INITIAL { min.min(INITIAL_INTERVAL) } else { min };
                                prop_assert!(apart >= least, "{apart:?}, {run} since the beginning");
                                let most = max.max(MIN_DELAY) + Duration::from_micros(late);
                                prop_assert!(apart <= most, "{apart:?}");
                            }
                        }
                        if let Some(asked) = asked.take() {
                            let most = MIN_DELAY + ANSWER_DELAY + Duration::from_micros(late);
                            prop_assert!(now.since(asked) <= most, "answered after {:?}", now.since(asked));
                        }
                        let ceasing = matches!(s.state, State::Ceasing { .. });
                        s.on(Event::Sent, now, timing, &mut random);
                        last = Some(now);
                        caused = ceasing;
                        run = run.saturating_add(1);
                    }
                    now = now.max(end);
                }
            }
        }
    }
}
