use super::*;
use proptest::prelude::*;

const STATES: [State; 6] =
    [State::Peek, State::Open, State::ClientFin, State::ServerFin, State::BothFin, State::Reset];
const EVENTS: [Event; 6] = [
    Event::Syn,
    Event::Rst,
    Event::Fin(Side::Client),
    Event::Fin(Side::Server),
    Event::Other,
    Event::Confirmed,
];

#[test]
fn every_state_and_event() {
    use State::{BothFin, ClientFin, Open, Peek, Reset, ServerFin};
    // By event: SYN, RST, the client's FIN, the server's FIN, anything else, a confirmed reset.
    let table = [
        (Peek, [Peek, Peek, Peek, Peek, Peek, Peek]),
        (Open, [Open, Reset, ClientFin, ServerFin, Open, Reset]),
        (ClientFin, [ClientFin, Reset, ClientFin, BothFin, ClientFin, Reset]),
        (ServerFin, [ServerFin, Reset, BothFin, ServerFin, ServerFin, Reset]),
        (BothFin, [BothFin, Reset, BothFin, BothFin, BothFin, Reset]),
        (Reset, [Reset, Reset, ClientFin, ServerFin, Open, Reset]),
    ];
    for ((state, wants), (at, known)) in table.into_iter().zip(STATES.into_iter().enumerate()) {
        assert_eq!((state, State::from_u8(at as u8)), (known, known));
        for (event, want) in EVENTS.into_iter().zip(wants) {
            let step = state.on(flags_of(state), event);
            assert_eq!(step.state, want, "{state:?} {event:?}");
            // Neither SYNs nor further resets keep a connection, and what is not spliced is kept by its owner.
            let renews = !(state == Peek || event == Event::Syn || (state, event) == (Reset, Event::Rst));
            assert_eq!(step.renew, renews, "{state:?} {event:?}");
        }
    }
}

proptest! {
    #[test]
    fn patience_ends_when_its_ticks_are_over(ticks in 0u32..100_000, micros in 0u64..20_000_000_000) {
        let patience = causeway_core::Duration::from_micros(micros);
        prop_assert_eq!(is_over(ticks, patience), ticks > Tick::covering(patience));
        for near in 0..4 {
            let patience = causeway_core::Duration::from_micros(u64::from(ticks) * TICK_MICROS);
            prop_assert_eq!(is_over(ticks + near, patience), ticks + near > Tick::covering(patience));
        }
    }

    #[test]
    fn who_has_closed_is_never_forgotten(events in proptest::collection::vec(0usize..EVENTS.len(), 0..50)) {
        let (mut state, mut flags) = (State::Open, 0);
        let (mut client, mut server) = (false, false);
        for event in events.into_iter().map(|n| EVENTS[n]) {
            let step = state.on(flags, event);
            (state, flags) = (step.state, step.flags);
            // The only reset that is believed for good is the client's own, until something else comes.
            prop_assert_eq!(is_confirmed(flags) && event != Event::Syn && event != Event::Rst, event == Event::Confirmed);
            client |= event == Event::Fin(Side::Client);
            server |= event == Event::Fin(Side::Server);
            prop_assert!(state != State::Peek);
            if state != State::Reset {
                let closed = super::super::Closed { client, server };
                prop_assert_eq!(state, closed.state());
            }
            prop_assert_eq!(step.state.on(flags, Event::Other).state, state_of(flags));
        }
    }

    #[test]
    fn control_bits_are_looked_at_in_the_order_of_rfc9293_3_10_7_4(flags: u8) {
        let want = match flags {
            f if f & 4 != 0 => Event::Rst,
            f if f & 2 != 0 => Event::Syn,
            f if f & 1 != 0 => Event::Fin(Side::Server),
            _ => Event::Other,
        };
        prop_assert_eq!(Event::of(Side::Server, flags), want);
    }
}
