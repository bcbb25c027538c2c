//! The TCP state machine of a session (RFC 6146 3.5.2.2, changed by RFC 7857 2).
//!
//! A pure value: a segment is an [`Event`], the result says the next state and whether the segment
//! renews the session's lifetime. Lifetimes are counted from the last renewal, so a state has no
//! deadline of its own: [`State::lifetime`] names the timeout that the state waits for.
//!
//! Departures from RFC 6146, each from a newer RFC or for one:
//! - RFC 7857 2.2: a RST also counts where one side has sent its FIN: the session becomes transitory.
//! - RFC 7857 2.2: a RST in `V4 INIT` or `V6 INIT` changes nothing; those states are transitory already.
//! - RFC 9293 3.6.1 and RFC 6191: a SYN behind both FINs reuses the same ports for a new connection. RFC
//!   6146 would let the old session run out under it. Here it opens the session again.
//!
//! Not here: storing a first IPv4 SYN (the session does not exist yet while it is stored) and
//! the probe at the end of an established session's life (the sweep decides that by `Lifetime`).

use causeway_wire::l4::tcp;

/// Where a TCP session is.
///
/// ```text
///                         no session
///                  V6 SYN |        | V4 SYN
///                         v        v
///                     V6 INIT    V4 INIT
///                  V4 SYN |        | V6 SYN
///                         v        v
///      data  +-------->  ESTABLISHED  <-----------+  any but RST
///            |          /     |      \            |
///            |   V4 FIN/      |RST    \V6 FIN     |
///            |        v       |        v          |
///            |  V4 FIN RCV    |    V6 FIN RCV     |
///            |    |   \ RST   |   RST /    |      |
///            |    |    +----> v <----+     |      |
///            |    |         TRANS ---------|------+
///            |    | V6 FIN             V4 FIN
///            |    +-----> V4+V6 FIN RCV <--+
///            |                | V6 SYN, V4 SYN: as from "no session"
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// A SYN from the IPv4 side waits for the one from the IPv6 side.
    V4Init = 1,
    /// A SYN from the IPv6 side waits for the one from the IPv4 side.
    V6Init = 2,
    /// Both sides have sent their SYN.
    Established = 3,
    /// The IPv4 side has sent its FIN.
    V4FinRcv = 4,
    /// The IPv6 side has sent its FIN.
    V6FinRcv = 5,
    /// Both sides have sent their FIN.
    V4V6FinRcv = 6,
    /// A RST was seen, or the session is being probed: it ends unless something else is heard.
    Trans = 7,
}

/// Which timeout a session waits for, counted from the last packet that renewed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lifetime {
    /// The first SYN was not answered yet (RFC 6146 4: TCP_TRANS; RFC 7857 2.1 has it apart).
    Opening,
    /// `tcp_trans`: transitory (RFC 6146 4: TCP_TRANS).
    Transitory,
    /// `tcp_established` (RFC 6146 4: TCP_EST).
    Established,
}

/// What a segment means for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A SYN (with or without ACK) from the IPv6 side.
    V6Syn,
    /// A SYN (with or without ACK) from the IPv4 side.
    V4Syn,
    /// A FIN from the IPv6 side.
    V6Fin,
    /// A FIN from the IPv4 side.
    V4Fin,
    /// A RST from the IPv6 side.
    V6Rst,
    /// A RST from the IPv4 side.
    V4Rst,
    /// Any other segment from the IPv6 side.
    V6Other,
    /// Any other segment from the IPv4 side.
    V4Other,
}

/// Which side a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// From the IPv6 host.
    V6,
    /// From the IPv4 host.
    V4,
}

/// What becomes of the session after a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Step {
    /// The next state.
    pub next: State,
    /// True if the lifetime of the next state starts anew.
    pub renew: bool,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::V6Syn,
        Self::V4Syn,
        Self::V6Fin,
        Self::V4Fin,
        Self::V6Rst,
        Self::V4Rst,
        Self::V6Other,
        Self::V4Other,
    ];

    /// The event that a segment with these control bits is. RST goes before SYN and SYN before FIN: what
    /// ends or opens a connection counts first (RFC 9293 3.10.7.4 looks at them in this order).
    #[inline(always)]
    #[must_use]
    pub const fn of(side: Side, flags: u8) -> Self {
        let v6 = matches!(side, Side::V6);
        if flags & tcp::RST != 0 {
            if v6 { Self::V6Rst } else { Self::V4Rst }
        } else if flags & tcp::SYN != 0 {
            if v6 { Self::V6Syn } else { Self::V4Syn }
        } else if flags & tcp::FIN != 0 {
            if v6 { Self::V6Fin } else { Self::V4Fin }
        } else if v6 {
            Self::V6Other
        } else {
            Self::V4Other
        }
    }
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::V4Init,
        Self::V6Init,
        Self::Established,
        Self::V4FinRcv,
        Self::V6FinRcv,
        Self::V4V6FinRcv,
        Self::Trans,
    ];

    /// The state with this number, as it is kept in a flow entry.
    #[inline(always)]
    #[must_use]
    pub const fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::V4Init,
            2 => Self::V6Init,
            3 => Self::Established,
            4 => Self::V4FinRcv,
            5 => Self::V6FinRcv,
            6 => Self::V4V6FinRcv,
            7 => Self::Trans,
            _ => return None,
        })
    }

    /// The name that users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4Init => "v4-init",
            Self::V6Init => "v6-init",
            Self::Established => "established",
            Self::V4FinRcv => "v4-fin-rcv",
            Self::V6FinRcv => "v6-fin-rcv",
            Self::V4V6FinRcv => "v4-v6-fin-rcv",
            Self::Trans => "trans",
        }
    }

    /// The state of a session that this segment opens. Nothing for a segment that opens none
    /// (RFC 6146 3.5.2.2, CLOSED: only a SYN makes a session).
    #[inline]
    #[must_use]
    pub const fn open(event: Event) -> Option<Self> {
        match event {
            Event::V6Syn => Some(Self::V6Init),
            Event::V4Syn => Some(Self::V4Init),
            _ => None,
        }
    }

    /// What a segment makes of the session. Every segment of a session is forwarded.
    #[inline(always)]
    #[must_use]
    pub const fn on(self, event: Event) -> Step {
        use Event as E;
        use State as S;
        let (next, renew) = match (self, event) {
            // RFC 6146 3.5.2.2, V4 INIT: only the other side's SYN opens; the rest renews nothing.
            (S::V4Init, E::V6Syn) => (S::Established, true),
            // A SYN sent again is still the start of the same connection.
            (S::V4Init, _) => (S::V4Init, false),

            // RFC 6146 3.5.2.2, V6 INIT: the server's SYN opens, the client's SYN sent again renews.
            (S::V6Init, E::V4Syn) => (S::Established, true),
            (S::V6Init, E::V6Syn) => (S::V6Init, true),
            (S::V6Init, _) => (S::V6Init, false),

            // RFC 6146 3.5.2.2, ESTABLISHED.
            (S::Established, E::V4Fin) => (S::V4FinRcv, true),
            (S::Established, E::V6Fin) => (S::V6FinRcv, true),
            (S::Established, E::V4Rst | E::V6Rst) => (S::Trans, true),
            (S::Established, _) => (S::Established, true),

            // RFC 6146 3.5.2.2, V4 FIN RCV and V6 FIN RCV: half closed, still in use.
            (S::V4FinRcv, E::V6Fin) | (S::V6FinRcv, E::V4Fin) => (S::V4V6FinRcv, true),
            // RFC 7857 2.2: a RST leaves four minutes, whatever the state of an open connection.
            (S::V4FinRcv | S::V6FinRcv, E::V4Rst | E::V6Rst) => (S::Trans, true),
            (S::V4FinRcv, _) => (S::V4FinRcv, true),
            (S::V6FinRcv, _) => (S::V6FinRcv, true),

            // RFC 6191 2: a new connection over the same ports.
            (S::V4V6FinRcv, E::V6Syn) => (S::V6Init, true),
            (S::V4V6FinRcv, E::V4Syn) => (S::V4Init, true),
            // RFC 6146 3.5.2.2, V4 FIN + V6 FIN RCV: forwarded, and nothing prolongs it.
            (S::V4V6FinRcv, _) => (S::V4V6FinRcv, false),

            // RFC 6146 3.5.2.2, TRANS: whoever still speaks was not reset.
            (S::Trans, E::V4Rst | E::V6Rst) => (S::Trans, false),
            (S::Trans, _) => (S::Established, true),
        };
        Step { next, renew }
    }

    /// Which timeout ends a session in this state.
    #[inline]
    #[must_use]
    pub const fn lifetime(self) -> Lifetime {
        match self {
            Self::Established | Self::V4FinRcv | Self::V6FinRcv => Lifetime::Established,
            Self::V4Init | Self::V6Init => Lifetime::Opening,
            Self::V4V6FinRcv | Self::Trans => Lifetime::Transitory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc6146_3_5_2_2_every_state_and_every_event() {
        use State::*;
        // Next state for V6Syn, V4Syn, V6Fin, V4Fin, V6Rst, V4Rst, V6Other, V4Other; true: renewed.
        let table: [(State, [(State, bool); 8]); 7] = [
            (
                V4Init,
                [
                    (Established, true),
                    (V4Init, false),
                    (V4Init, false),
                    (V4Init, false),
                    (V4Init, false),
                    (V4Init, false),
                    (V4Init, false),
                    (V4Init, false),
                ],
            ),
            (
                V6Init,
                [
                    (V6Init, true),
                    (Established, true),
                    (V6Init, false),
                    (V6Init, false),
                    (V6Init, false),
                    (V6Init, false),
                    (V6Init, false),
                    (V6Init, false),
                ],
            ),
            (
                Established,
                [
                    (Established, true),
                    (Established, true),
                    (V6FinRcv, true),
                    (V4FinRcv, true),
                    (Trans, true),
                    (Trans, true),
                    (Established, true),
                    (Established, true),
                ],
            ),
            (
                V4FinRcv,
                [
                    (V4FinRcv, true),
                    (V4FinRcv, true),
                    (V4V6FinRcv, true),
                    (V4FinRcv, true),
                    (Trans, true),
                    (Trans, true),
                    (V4FinRcv, true),
                    (V4FinRcv, true),
                ],
            ),
            (
                V6FinRcv,
                [
                    (V6FinRcv, true),
                    (V6FinRcv, true),
                    (V6FinRcv, true),
                    (V4V6FinRcv, true),
                    (Trans, true),
                    (Trans, true),
                    (V6FinRcv, true),
                    (V6FinRcv, true),
                ],
            ),
            (
                V4V6FinRcv,
                [
                    (V6Init, true),
                    (V4Init, true),
                    (V4V6FinRcv, false),
                    (V4V6FinRcv, false),
                    (V4V6FinRcv, false),
                    (V4V6FinRcv, false),
                    (V4V6FinRcv, false),
                    (V4V6FinRcv, false),
                ],
            ),
            (
                Trans,
                [
                    (Established, true),
                    (Established, true),
                    (Established, true),
                    (Established, true),
                    (Trans, false),
                    (Trans, false),
                    (Established, true),
                    (Established, true),
                ],
            ),
        ];
        assert_eq!(table.map(|(s, _)| s), State::ALL.map(|s| s), "each state once, in order");
        for (state, row) in table {
            for (event, (next, renew)) in Event::ALL.into_iter().zip(row) {
                assert_eq!(state.on(event), Step { next, renew }, "{state:?} on {event:?}");
            }
        }
    }

    #[test]
    fn rfc6146_3_5_2_2_closed_only_a_syn_makes_a_session() {
        for event in Event::ALL {
            let want = match event {
                Event::V6Syn => Some(State::V6Init),
                Event::V4Syn => Some(State::V4Init),
                _ => None,
            };
            assert_eq!(State::open(event), want);
        }
    }

    #[test]
    fn rfc6146_4_states_and_their_timeouts() {
        for state in State::ALL {
            let open = matches!(state, State::Established | State::V4FinRcv | State::V6FinRcv);
            assert_eq!(state.lifetime() == Lifetime::Established, open, "{state:?}");
            let opening = matches!(state, State::V4Init | State::V6Init);
            assert_eq!(state.lifetime() == Lifetime::Opening, opening, "{state:?}");
        }
    }

    #[test]
    fn rfc9293_3_10_7_4_the_order_of_the_control_bits() {
        for flags in 0..=255u8 {
            for side in [Side::V6, Side::V4] {
                let want = match (side, flags & tcp::RST != 0, flags & tcp::SYN != 0, flags & tcp::FIN != 0) {
                    (Side::V6, true, ..) => Event::V6Rst,
                    (Side::V4, true, ..) => Event::V4Rst,
                    (Side::V6, _, true, _) => Event::V6Syn,
                    (Side::V4, _, true, _) => Event::V4Syn,
                    (Side::V6, _, _, true) => Event::V6Fin,
                    (Side::V4, _, _, true) => Event::V4Fin,
                    (Side::V6, ..) => Event::V6Other,
                    (Side::V4, ..) => Event::V4Other,
                };
                assert_eq!(Event::of(side, flags), want);
            }
        }
    }

    #[test]
    fn states_survive_the_flow_entry() {
        for state in State::ALL {
            assert_eq!(State::from_u8(state as u8), Some(state));
        }
        assert_eq!(State::from_u8(0), None);
        assert_eq!(State::from_u8(8), None);
    }

    proptest! {
        #[test]
        fn a_session_is_established_only_after_both_syns(events in proptest::collection::vec(0usize..8, 1..60)) {
            let mut state: Option<State> = None;
            let (mut syn6, mut syn4) = (false, false);
            for n in events {
                let event = Event::ALL[n];
                if state.is_none() {
                    state = State::open(event);
                } else {
                    state = state.map(|s| s.on(event).next);
                }
                if state.is_some() {
                    syn6 |= event == Event::V6Syn;
                    syn4 |= event == Event::V4Syn;
                }
                if state.is_some_and(|s| s.lifetime() == Lifetime::Established) {
                    prop_assert!(syn6 && syn4);
                }
            }
        }

        #[test]
        fn rfc7857_2_2_after_a_reset_only_resets_leave_it_transitory(
            start in 0usize..7, resets in proptest::collection::vec(any::<bool>(), 1..10),
        ) {
            let mut state = State::ALL[start];
            for v6 in resets {
                state = state.on(if v6 { Event::V6Rst } else { Event::V4Rst }).next;
                prop_assert_ne!(state.lifetime(), Lifetime::Established);
            }
        }
    }
}
