//! The states of a session of the splicer, as the flow table's control word has them.
//!
//! ```text
//!  Peek -> Open -> ClientFin ---+-> BothFin
//!   |        +---> ServerFin ---+
//!   +-- ends      any -> Reset
//! ```

/// A state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Terminated: every segment is its owner's alone. The session's `aux` is the owner's place for it. Only the owner
    /// ends it, or moves it on.
    Peek = 0,
    /// Spliced; both ends are open.
    Open = 1,
    /// The client has closed its half.
    ClientFin = 2,
    /// The server has closed its half.
    ServerFin = 3,
    /// Both have.
    BothFin = 4,
    /// One has reset it.
    Reset = 5,
}

impl State {
    /// From a control word. What is none (it never is) counts as reset.
    #[inline(always)]
    #[must_use]
    pub const fn from_u8(state: u8) -> Self {
        match state {
            0 => Self::Peek,
            1 => Self::Open,
            2 => Self::ClientFin,
            3 => Self::ServerFin,
            4 => Self::BothFin,
            _ => Self::Reset,
        }
    }
}
