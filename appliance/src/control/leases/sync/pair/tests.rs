use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

const ALONE_AFTER: Duration = Duration::from_secs(5);

fn before(together: UnixSeconds) -> Past {
    Past { together, ..Past::default() }
}

fn pair(odd: bool, past: Past, now: Instant) -> Pair {
    let mut pair = Pair::new(odd, ALONE_AFTER, past, now);
    assert_eq!(pair.on(Input::Active(true), now), None);
    pair
}

/// All states that a pair can be in, by name.
fn states(now: Instant) -> Vec<(&'static str, State)> {
    let connected = |sent_end, got_end, token, asked, wanted| State::Connected {
        sent_end,
        got_end,
        token,
        asked,
        wanted,
    };
    use Token::{Nobody, Ours, Theirs};
    vec![
        ("apart", State::Apart { since: now }),
        ("sent", connected(true, false, Nobody, false, false)),
        ("got", connected(false, true, Nobody, false, false)),
        ("nobody", connected(true, true, Nobody, false, false)),
        ("asked", connected(true, true, Nobody, true, false)),
        ("ours", connected(true, true, Ours, false, false)),
        ("wanted", connected(true, true, Ours, false, true)),
        ("theirs", connected(true, true, Theirs, false, false)),
        ("theirs, asked", connected(true, true, Theirs, true, false)),
    ]
}

/// An input, the state that it leads to, and what is sent.
type Row = (Input, &'static str, Option<Output>);

#[test]
fn every_state_and_input() {
    use Input::{Active, Asked, Down, Echo, Given, GotEnd, SentEnd, Takeover};
    use Output::{Ask, Give};
    let now = Instant::now();
    let name = |state: State| states(now).into_iter().find(|(_, s)| *s == state).map_or("?", |(n, _)| n);
    // For an active, even gateway: what becomes of each state, and what is sent.
    let table: [(&str, [Row; 9]); 9] = [
        (
            "apart",
            [
                (SentEnd, "sent", None),
                (GotEnd, "got", None),
                (Down, "apart", None),
                (Active(true), "apart", None),
                (Active(false), "apart", None),
                (Asked, "apart", None),
                (Given, "apart", None),
                (Echo(9), "apart", None),
                (Takeover, "apart", None),
            ],
        ),
        (
            "sent",
            [
                (SentEnd, "sent", None),
                (GotEnd, "asked", Some(Ask)),
                (Down, "apart", None),
                (Active(true), "sent", None),
                // A peer that asks has told us everything, so these come behind its end; they do no harm.
                (Active(false), "sent", None),
                (Asked, "?", Some(Give)),
                (Given, "?", None),
                (Echo(9), "sent", None),
                (Takeover, "sent", None),
            ],
        ),
        (
            "got",
            [
                (SentEnd, "asked", Some(Ask)),
                (GotEnd, "got", None),
                (Down, "apart", None),
                (Active(true), "got", None),
                (Active(false), "got", None),
                (Asked, "got", None),
                (Given, "got", None),
                (Echo(9), "got", None),
                (Takeover, "got", None),
            ],
        ),
        (
            "nobody",
            [
                (SentEnd, "asked", Some(Ask)),
                (GotEnd, "asked", Some(Ask)),
                (Down, "apart", None),
                (Active(true), "asked", Some(Ask)),
                (Active(false), "nobody", None),
                (Asked, "theirs", Some(Give)),
                (Given, "ours", None),
                (Echo(9), "nobody", None),
                (Takeover, "nobody", None),
            ],
        ),
        (
            "asked",
            [
                (SentEnd, "asked", None),
                (GotEnd, "asked", None),
                (Down, "apart", None),
                (Active(true), "asked", None),
                (Active(false), "asked", None),
                (Asked, "?", None),
                (Given, "ours", None),
                (Echo(9), "asked", None),
                (Takeover, "asked", None),
            ],
        ),
        (
            "ours",
            [
                (SentEnd, "ours", None),
                (GotEnd, "ours", None),
                (Down, "apart", None),
                (Active(true), "ours", None),
                (Active(false), "ours", None),
                (Asked, "wanted", None),
                (Given, "ours", None),
                (Echo(9), "ours", None),
                (Takeover, "ours", None),
            ],
        ),
        (
            "wanted",
            [
                (SentEnd, "wanted", None),
                (GotEnd, "wanted", None),
                (Down, "apart", None),
                (Active(true), "wanted", None),
                (Active(false), "theirs", Some(Give)),
                (Asked, "wanted", None),
                (Given, "wanted", None),
                (Echo(9), "wanted", None),
                (Takeover, "wanted", None),
            ],
        ),
        (
            "theirs",
            [
                (SentEnd, "theirs, asked", Some(Ask)),
                (GotEnd, "theirs, asked", Some(Ask)),
                (Down, "apart", None),
                (Active(true), "theirs, asked", Some(Ask)),
                (Active(false), "theirs", None),
                (Asked, "theirs", Some(Give)),
                (Given, "ours", None),
                (Echo(9), "theirs", None),
                (Takeover, "theirs", None),
            ],
        ),
        (
            "theirs, asked",
            [
                (SentEnd, "theirs, asked", None),
                (GotEnd, "theirs, asked", None),
                (Down, "apart", None),
                (Active(true), "theirs, asked", None),
                (Active(false), "theirs, asked", None),
                (Asked, "theirs", Some(Give)),
                (Given, "ours", None),
                (Echo(9), "theirs, asked", None),
                (Takeover, "theirs, asked", None),
            ],
        ),
    ];
    for (from, rows) in table {
        for (input, to, output) in rows {
            let mut p = pair(false, before(1), now);
            p.state = states(now).into_iter().find(|(n, _)| *n == from).unwrap().1;
            let said = p.on(input, now);
            assert_eq!((name(p.state), said), (to, output), "{from} on {input:?}");
            let together = ["nobody", "asked", "ours", "wanted", "theirs", "theirs, asked"].contains(&from);
            let expected = if input == Echo(9) && together { 9 } else { 1 };
            assert_eq!(p.past.together, expected, "{from} on {input:?}");
            assert_eq!(p.past.takeover, input == Takeover && from == "apart", "{from} on {input:?}");
        }
    }
}

#[test]
fn both_ask_at_once_and_the_even_one_has_it() {
    let now = Instant::now();
    for odd in [false, true] {
        let mut p = pair(odd, before(1), now);
        let _ = p.on(Input::SentEnd, now);
        assert_eq!(p.on(Input::GotEnd, now), Some(Output::Ask));
        let said = p.on(Input::Asked, now);
        assert_eq!(said, odd.then_some(Output::Give));
        assert_eq!(p.standing(now), Standing::Following);
    }
}

#[test]
fn who_stops_being_active_before_the_token_comes_hands_it_back_to_who_wants_it() {
    let now = Instant::now();
    let mut even = pair(false, before(1), now);
    let mut odd = pair(true, before(1), now);
    for p in [&mut even, &mut odd] {
        let _ = p.on(Input::SentEnd, now);
        assert_eq!(p.on(Input::GotEnd, now), Some(Output::Ask));
    }
    // Both asked; the even one leaves it to the odd one, whose answer is under way.
    assert_eq!(odd.on(Input::Asked, now), Some(Output::Give));
    assert_eq!(even.on(Input::Active(false), now), None);
    assert_eq!(even.on(Input::Asked, now), None);
    assert_eq!(even.on(Input::Given, now), Some(Output::Give));
    assert_eq!(odd.on(Input::Given, now), None);
    assert_eq!((odd.grant(now), even.grant(now)), (Grant::All, Grant::Known));
}

#[test]
fn a_gateway_that_lost_its_peer_waits_then_gives_from_its_half() {
    let now = Instant::now();
    let mut p = pair(true, before(1000), now);
    for (input, standing, grant) in [
        (Input::SentEnd, Standing::CatchingUp, Grant::Known),
        (Input::GotEnd, Standing::Following, Grant::Known),
        (Input::Given, Standing::Leading, Grant::All),
        (Input::Echo(2000), Standing::Leading, Grant::All),
        (Input::Down, Standing::Waiting, Grant::Known),
    ] {
        let _ = p.on(input, now);
        assert_eq!((p.standing(now), p.grant(now)), (standing, grant), "{input:?}");
    }
    let later = now + ALONE_AFTER;
    assert_eq!(p.grant(later - Duration::from_millis(1)), Grant::Known);
    assert_eq!(p.grant(later), Grant::Share { odd: true, parted: 2000 });
    let _ = p.on(Input::Takeover, later);
    assert_eq!((p.standing(later), p.grant(later)), (Standing::TakenOver, Grant::All));
    // The takeover ends before the peer may count on us.
    let _ = p.on(Input::GotEnd, later);
    assert_eq!(p.grant(later), Grant::All);
    let _ = p.on(Input::SentEnd, later);
    assert_eq!((p.grant(later), p.past().takeover), (Grant::Known, false));
}

#[test]
fn a_store_that_met_its_peer_and_was_never_together_with_it_gives_nothing_new() {
    let now = Instant::now();
    let later = now + ALONE_AFTER;
    let fresh = pair(false, Past::default(), now);
    assert_eq!((fresh.standing(later), fresh.grant(later)), (Standing::Unsure, Grant::Known));
    // One that met nobody has its half, after a while; until it meets one that has leases.
    let mut first = pair(false, before(3000), now);
    assert_eq!(first.grant(now), Grant::Known);
    assert_eq!(first.grant(later), Grant::Share { odd: false, parted: 3000 });
    let _ = first.on(Input::Stranger, later);
    assert_eq!(first.grant(later), Grant::Known);
    // Together, it is told when.
    for input in [Input::SentEnd, Input::GotEnd, Input::Echo(4000), Input::Down] {
        let _ = first.on(input, later);
    }
    assert_eq!(first.grant(later + ALONE_AFTER), Grant::Share { odd: false, parted: 4000 });
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    End,
    Ask,
    Give,
}

/// Two gateways, and what is under way between them.
#[derive(Debug)]
struct World {
    pairs: [Pair; 2],
    /// The connection that each end believes in; messages of another one do not arrive.
    believes: [Option<u32>; 2],
    under_way: [VecDeque<(u32, Sent)>; 2],
    told: [bool; 2],
    connections: u32,
    now: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Connect,
    Notice(usize),
    Tell(usize),
    Deliver(usize),
    Active(usize, bool),
    Restart(usize),
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Connect),
        2 => (0usize..2).prop_map(Step::Notice),
        4 => (0usize..2).prop_map(Step::Tell),
        8 => (0usize..2).prop_map(Step::Deliver),
        3 => (0usize..2, any::<bool>()).prop_map(|(n, a)| Step::Active(n, a)),
        1 => (0usize..2).prop_map(Step::Restart),
        2 => (0u64..8).prop_map(Step::Pass),
    ]
}

impl World {
    fn input(&mut self, n: usize, input: Input) {
        let said = self.pairs[n].on(input, self.now);
        if let (Some(output), Some(connection)) = (said, self.believes[n]) {
            let sent = if output == Output::Ask { Sent::Ask } else { Sent::Give };
            self.under_way[n].push_back((connection, sent));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            // Each end notices for itself that the connection before is gone.
            Step::Connect => {
                if self.believes == [None, None] {
                    self.connections += 1;
                    self.believes = [Some(self.connections); 2];
                    self.told = [false; 2];
                    self.under_way = [VecDeque::new(), VecDeque::new()];
                }
            }
            Step::Notice(n) => {
                self.believes[n] = None;
                self.input(n, Input::Down);
            }
            Step::Tell(n) => {
                if let (Some(connection), false) = (self.believes[n], self.told[n]) {
                    self.told[n] = true;
                    self.input(n, Input::SentEnd);
                    self.under_way[n].push_back((connection, Sent::End));
                }
            }
            Step::Deliver(from) => {
                let to = 1 - from;
                if let Some((connection, sent)) = self.under_way[from].pop_front()
                    && self.believes[to] == Some(connection)
                {
                    self.input(
                        to,
                        match sent {
                            Sent::End => Input::GotEnd,
                            Sent::Ask => Input::Asked,
                            Sent::Give => Input::Given,
                        },
                    );
                }
            }
            Step::Active(n, active) => self.input(n, Input::Active(active)),
            Step::Restart(n) => {
                self.believes[n] = None;
                self.pairs[n] = Pair::new(n == 1, ALONE_AFTER, self.pairs[n].past(), self.now);
            }
            Step::Pass(seconds) => self.now += Duration::from_secs(seconds),
        }
    }

    /// The rules of the module, seen from outside.
    fn check(&self) {
        let grants = [self.pairs[0].grant(self.now), self.pairs[1].grant(self.now)];
        let same = self.believes[0].is_some() && self.believes[0] == self.believes[1];
        assert!(!(same && grants == [Grant::All; 2]), "both give everything: {self:?}");
        for n in 0..2 {
            let other = 1 - n;
            if grants[n] != Grant::All {
                continue;
            }
            // Who gives everything waits for the other's word, and while it can come the other gives nothing.
            assert!(self.pairs[n].together(), "{self:?}");
            if same {
                assert_eq!(grants[other], Grant::Known, "{self:?}");
            }
        }
        if let [Grant::Share { odd: a, .. }, Grant::Share { odd: b, .. }] = grants {
            assert_ne!(a, b, "one half for both: {self:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn whatever_happens_between_them_no_two_give_the_same(steps in prop::collection::vec(any_step(), 1..120)) {
        let now = Instant::now();
        let mut world = World {
            pairs: [Pair::new(false, ALONE_AFTER, before(1), now), Pair::new(true, ALONE_AFTER, before(1), now)],
            believes: [None; 2],
            under_way: [VecDeque::new(), VecDeque::new()],
            told: [false; 2],
            connections: 0,
            now,
        };
        for step in steps {
            world.step(step);
            world.check();
        }
    }

    #[test]
    fn a_pair_that_is_left_alone_comes_together_and_the_active_one_leads(
        steps in prop::collection::vec(any_step(), 0..40),
        active in 0usize..2,
    ) {
        let now = Instant::now();
        let mut world = World {
            pairs: [Pair::new(false, ALONE_AFTER, before(1), now), Pair::new(true, ALONE_AFTER, before(1), now)],
            believes: [None; 2],
            under_way: [VecDeque::new(), VecDeque::new()],
            told: [false; 2],
            connections: 0,
            now,
        };
        steps.into_iter().for_each(|step| world.step(step));
        // A half connection ends, and a new one is made.
        for step in [Step::Notice(0), Step::Notice(1), Step::Connect, Step::Tell(0), Step::Tell(1)] {
            world.step(step);
        }
        world.step(Step::Active(active, true));
        world.step(Step::Active(1 - active, false));
        for _ in 0..20 {
            world.step(Step::Deliver(0));
            world.step(Step::Deliver(1));
        }
        prop_assert_eq!(world.pairs[active].grant(world.now), Grant::All);
        prop_assert_eq!(world.pairs[1 - active].grant(world.now), Grant::Known);
    }
}
