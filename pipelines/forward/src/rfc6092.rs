//! Closed networks: what their hosts began comes back in, and nothing else (RFC 6092 3).
//!
//! ```text
//!  leaves a closed network:  flow known? -> refresh it       enters one:  flow known? -> refresh it
//!                                    no  -> remember it                           no  -> refused
//! ```
//!
//! Flows live in the shared flow table under one key for both directions, the inside host first:
//!
//! | protocol | ports of the key |
//! | --- | --- |
//! | TCP, UDP, UDP-Lite, SCTP, DCCP | its ports |
//! | ICMPv6 echo | the identifier, 0 |
//! | a fragmented packet that may come in | the Identification, under protocol 44 |
//! | others | 0, 0 |
//!
//! A packet that comes in has to match address and port of both ends (RFC 6092 allows to be laxer for
//! UDP; a network that is closed by choice is not). An ICMPv6 error has to be about a known flow
//! (RFC 6092 3.2.1 REC-10) and does not refresh it. Later fragments follow a first fragment that came in.
//! Echo requests from outside are refused, although RFC 4890 4.3.1 would let them in: they begin a
//! conversation.
//!
//! Not handled: later fragments that overtake their first one (refused), the exceptions of RFC 6092 3.2.4
//! for IPsec from outside, sequence numbers of TCP.

use crate::config::Ticks;
use causeway_core::{Counter, Counters, DropReason, Frame, Packet};
use causeway_flowtable::{
    CreateError, Created, Ctl, Fate, Guard, Kind, Lookup, NativeKey, NewKey, NewSession, Reserved, Session,
    Tick,
};
use causeway_wire::be16;
use causeway_wire::ipv6::{self, next_header as nh};
use causeway_wire::l4::{icmp, tcp};
use std::convert::Infallible;

/// Protocols that begin with a source and a destination port.
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// Which way a packet goes, as the closed network sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// What a session is at the moment; its state in the flow table.
///
/// ```text
///            answered, and acknowledged      FIN from both, or RST
///   Opening ---------------------------> Established ------------> Closing
///      ^                                     ^                      |    |
///      |                                     +----------------------+    |
///      |                                       after a RST: anything     |
///      +-----------------------------------------------------------------+
///                                            a new SYN from inside
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Opening = 1,
    Established = 2,
    Closing = 3,
    Udp = 4,
    Echo = 5,
    Other = 6,
    Fragment = 7,
}

impl Phase {
    const fn of(state: u8) -> Self {
        match state {
            1 => Self::Opening,
            2 => Self::Established,
            3 => Self::Closing,
            4 => Self::Udp,
            5 => Self::Echo,
            7 => Self::Fragment,
            _ => Self::Other,
        }
    }

    const fn timeout(self, t: &Ticks) -> u32 {
        match self {
            Self::Established => t.tcp_established,
            Self::Opening | Self::Closing => t.tcp_transitory,
            Self::Udp => t.udp,
            Self::Echo => t.echo,
            Self::Other => t.other,
            Self::Fragment => t.fragment,
        }
    }
}

/// Flag of a TCP session: the inside has sent a FIN.
const FIN_OUT: u8 = 1;
/// Flag of a TCP session: the outside has sent a FIN.
const FIN_IN: u8 = 2;
/// Flag of a TCP session: the outside has sent anything but a RST.
const ANSWERED: u8 = 4;

/// A TCP segment's effect on phase and flags.
const fn on_tcp(phase: Phase, flags: u8, way: Way, control: u8) -> (Phase, u8) {
    // A RST may be forged or out of window, so it only shortens the wait (as in RFC 7857 2.2).
    if control & tcp::RST != 0 {
        return (Phase::Closing, flags);
    }
    let out = matches!(way, Way::Out);
    // RFC 9293 3.6.1: a connection in TIME-WAIT may be opened anew.
    if out && matches!(phase, Phase::Closing) && control & (tcp::SYN | tcp::ACK) == tcp::SYN {
        return (Phase::Opening, 0);
    }
    let mut flags = flags | if out { 0 } else { ANSWERED };
    if control & tcp::FIN != 0 {
        flags |= if out { FIN_OUT } else { FIN_IN };
    }
    if flags & (FIN_IN | FIN_OUT) == FIN_IN | FIN_OUT {
        return (Phase::Closing, flags);
    }
    let done = if out { flags & ANSWERED != 0 && control & tcp::ACK != 0 } else { control & tcp::SYN == 0 };
    match phase {
        Phase::Opening if !done => (Phase::Opening, flags),
        _ => (Phase::Established, flags),
    }
}

/// What a packet has to do with flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// It belongs to the flow of this key, or would begin it.
    Flow { key: NativeKey, phase: Phase, control: u8, fragment: Option<NativeKey> },
    /// It is an error about the flow of this key.
    Error { key: NativeKey },
    /// It is a later fragment of the packet of this key.
    Later { key: NativeKey },
    /// It belongs to none, or that cannot be seen.
    Opaque,
}

impl Subject {
    /// Reads a packet that goes this way. Its fixed header is there.
    #[inline]
    pub(crate) fn of<F: Frame>(packet: &Packet<F>, way: Way) -> Self {
        let b = packet.bytes();
        let (mut inside, mut outside) = (be128(b, ipv6::SRC), be128(b, ipv6::DST));
        if way == Way::In {
            (inside, outside) = (outside, inside);
        }
        let key = |src_port, dst_port, protocol| NativeKey {
            src6: inside,
            dst6: outside,
            src_port,
            dst_port,
            protocol,
        };
        let (protocol, at) = (packet.meta.protocol, usize::from(packet.meta.l4));
        let mut fragment = None;
        if packet.meta.fragment {
            let Ok(ipv6::Walk { fragment: Some(f), .. }) = ipv6::walk(b, b[ipv6::NEXT_HEADER]) else {
                return Self::Opaque;
            };
            #[expect(clippy::cast_possible_truncation, reason = "the two halves of the Identification")]
            let whole = key((f.id >> 16) as u16, f.id as u16, nh::FRAGMENT);
            if f.offset != 0 {
                return Self::Later { key: whole };
            }
            fragment = Some(whole);
        }
        let upper = b.get(at..).unwrap_or_default();
        let flow = |ports: (u16, u16), phase, control| Self::Flow {
            key: key(ports.0, ports.1, protocol),
            phase,
            control,
            fragment,
        };
        match protocol {
            nh::TCP => match (ports(upper, way), upper.get(tcp::FLAGS)) {
                (Some(p), Some(control)) => flow(p, Phase::Opening, *control),
                // RFC 7112 5: a first fragment without its whole header chain may be refused.
                _ => Self::Opaque,
            },
            nh::UDP | UDP_LITE | SCTP | DCCP => match ports(upper, way) {
                Some(p) => flow(p, Phase::Udp, 0),
                None => Self::Opaque,
            },
            nh::ICMPV6 => {
                let begins = if way == Way::Out { icmp::V6_ECHO_REQUEST } else { icmp::V6_ECHO_REPLY };
                match upper {
                    [kind, _, _, _, a, b, ..] if *kind == begins => {
                        flow((u16::from_be_bytes([*a, *b]), 0), Phase::Echo, 0)
                    }
                    [1..=4, ..] if way == Way::In => about(upper, inside),
                    _ => Self::Opaque,
                }
            }
            // The chain could not be walked, or nothing follows it.
            nh::HOP_BY_HOP | nh::ROUTING | nh::FRAGMENT | nh::DEST_OPTIONS | nh::AUTH => Self::Opaque,
            _ => flow((0, 0), Phase::Other, 0),
        }
    }
}

fn be128(b: &[u8], at: usize) -> u128 {
    ipv6::addr(b, at).to_bits()
}

/// The port of the inside host and that of the outside host.
fn ports(upper: &[u8], way: Way) -> Option<(u16, u16)> {
    let h = upper.first_chunk::<4>()?;
    let (src, dst) = (be16(h, 0), be16(h, 2));
    Some(if way == Way::Out { (src, dst) } else { (dst, src) })
}

/// The flow that an error, which came in for `inside`, is about: the packet in it went out.
fn about(error: &[u8], inside: u128) -> Subject {
    let about = error.get(icmp::HEADER..).unwrap_or_default();
    if about.len() < ipv6::HEADER || about[0] >> 4 != 6 || be128(about, ipv6::SRC) != inside {
        return Subject::Opaque;
    }
    let Ok(walk) = ipv6::walk(about, about[ipv6::NEXT_HEADER]) else { return Subject::Opaque };
    if walk.fragment.is_some_and(|f| f.offset != 0) {
        return Subject::Opaque;
    }
    let upper = about.get(walk.at..).unwrap_or_default();
    let found = match walk.protocol {
        nh::TCP | nh::UDP | UDP_LITE | SCTP | DCCP => ports(upper, Way::Out),
        nh::ICMPV6 if upper.len() >= icmp::HEADER && upper[icmp::TYPE] == icmp::V6_ECHO_REQUEST => {
            Some((be16(upper, icmp::IDENT), 0))
        }
        nh::ICMPV6 => None,
        _ => Some((0, 0)),
    };
    let Some((src_port, dst_port)) = found else { return Subject::Opaque };
    let key = NativeKey {
        src6: inside,
        dst6: be128(about, ipv6::DST),
        src_port,
        dst_port,
        protocol: walk.protocol,
    };
    Subject::Error { key }
}

/// The flows of one call: the table, the time, and where they are counted.
#[derive(Clone, Copy)]
pub(crate) struct Flows<'a, 'g> {
    pub(crate) guard: &'a Guard<'g>,
    pub(crate) tick: Tick,
    pub(crate) counters: &'a Counters,
}

impl Flows<'_, '_> {
    /// Whether a packet may enter a closed network. `found` is what the table has under the subject's key.
    pub(crate) fn enters(&self, subject: &Subject, found: Lookup<Session<'_>>) -> Result<(), DropReason> {
        let session = match found {
            Lookup::Hit(session) => session,
            // Its first packet is on its way out at this moment, through another worker.
            Lookup::Building => return Ok(()),
            Lookup::Miss => return Err(DropReason::InboundClosed),
        };
        match subject {
            Subject::Flow { control, fragment, .. } => {
                if !refresh(&session, Way::In, *control, self.tick) {
                    return Err(DropReason::InboundClosed);
                }
                if let Some(key) = fragment {
                    self.begin(*key, Phase::Fragment)?;
                }
                Ok(())
            }
            Subject::Error { .. } | Subject::Later { .. } => Ok(()),
            Subject::Opaque => Err(DropReason::InboundClosed),
        }
    }

    /// Remembers the flow of a packet that leaves a closed network.
    pub(crate) fn leaves(&self, subject: &Subject, found: Lookup<Session<'_>>) -> Result<(), DropReason> {
        let Subject::Flow { key, phase, control, .. } = subject else { return Ok(()) };
        match found {
            Lookup::Hit(session) if refresh(&session, Way::Out, *control, self.tick) => Ok(()),
            Lookup::Building => Ok(()),
            // A RST begins nothing.
            _ if *phase == Phase::Opening && control & tcp::RST != 0 => Ok(()),
            _ => self.begin(*key, *phase),
        }
    }

    fn begin(&self, key: NativeKey, phase: Phase) -> Result<(), DropReason> {
        let new = NewSession {
            key: NewKey::Native(key),
            kind: Kind::Native6,
            owner: self.guard.worker(),
            subscriber: 0,
            plan_generation: 0,
            state: phase as u8,
            flags: 0,
            tick: self.tick,
            aux: 0,
        };
        match self.guard.create_session(&new, || Ok::<_, Infallible>(Reserved::nothing())) {
            Ok(Created::Fresh(_)) => self.counters.add(Counter::Forward6SessionsCreated, 1),
            Ok(Created::Existing(session)) => {
                session.touch(self.tick);
            }
            // Another worker remembers it at this moment.
            Err(CreateError::Building) => {}
            Err(CreateError::SessionsFull | CreateError::IndexFull | CreateError::Conflict) => {
                return Err(DropReason::ForwardTableFull);
            }
            Err(CreateError::Reserve(never)) => match never {},
        }
        Ok(())
    }
}

/// Notes a packet of a known flow; false if the flow has ended meanwhile.
fn refresh(session: &Session<'_>, way: Way, control: u8, tick: Tick) -> bool {
    let phase = Phase::of(session.ctl().state());
    if !matches!(phase, Phase::Opening | Phase::Established | Phase::Closing) {
        return session.touch(tick);
    }
    let step = |ctl: Ctl| {
        let (phase, flags) = on_tcp(Phase::of(ctl.state()), ctl.flags(), way, control);
        (phase as u8 != ctl.state() || flags != ctl.flags())
            .then(|| ctl.with_state(phase as u8).with_flags(flags).with_last_seen(tick))
    };
    session.transition(step).is_some() && session.touch(tick)
}

/// Judges the flows of closed networks when the flow table is swept. For the [`Sweeper`] of the worker,
/// which asks the function that a session is of.
///
/// [`Sweeper`]: causeway_flowtable::Sweeper
#[derive(Debug, Clone, Copy)]
pub struct Expiry<'a> {
    /// The settings in force.
    pub config: &'a crate::Config,
    /// The worker's counters.
    pub counters: &'a Counters,
}

impl Expiry<'_> {
    /// Whether a session of [`Kind::Native6`] goes on. Others are kept.
    #[must_use]
    pub fn judge(&self, session: &Session<'_>, ctl: Ctl, now: Tick) -> Fate {
        let timeout = Phase::of(ctl.state()).timeout(&self.config.timeouts);
        if session.kind() == Kind::Native6 && now.since(ctl.last_seen()) > timeout {
            Fate::End
        } else {
            Fate::Keep
        }
    }

    /// Counts a session that has ended, if it is of [`Kind::Native6`].
    pub fn session_ended(&self, session: &Session<'_>) {
        if session.kind() == Kind::Native6 {
            self.counters.add(Counter::Forward6SessionsEnded, 1);
        }
    }
}

#[cfg(test)]
mod tests;
