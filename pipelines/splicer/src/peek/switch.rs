//! The moment of the splice: what the flow table's line is told, and what the client is sent of what was held.

use super::connection::Connection;
use super::side::{data_octets, emit};
use crate::splice::{self, Closed, Constants, Scales};
use crate::state::State;
use causeway_flowtable::{Session, Tick};
use causeway_tcp::Head;
use causeway_tcp::options::Options;
use causeway_wire::l4::tcp::{ACK, FIN};
use std::sync::atomic::Ordering::Relaxed;

/// Octets of data in a segment of what was held: with headers and timestamps below the smallest MTU of IPv6.
const DATA: usize = 1200;

/// Tells the line, and lets every worker rewrite. False if the session has ended.
pub(super) fn engage(c: &Connection, session: &Session<'_>, tick: Tick) -> bool {
    let Some(server) = &c.server else { return false };
    let (Some(client_isn), Some(server_isn)) = (c.client.theirs, server.theirs) else { return false };
    let held = u32::try_from(c.held.len()).unwrap_or(0) + u32::from(c.held_fin);
    let constants = Constants {
        client_isn,
        server_isn,
        // The octet behind the client's SYN follows our SYN and the identity header.
        client_seq_delta: server.ours.wrapping_add(c.header).wrapping_sub(client_isn),
        server_seq_delta: c.client.ours.wrapping_sub(server_isn),
        client_seq_end: c.client.expected(),
        server_seq_end: server_isn.wrapping_add(1).wrapping_add(held),
        timestamps: c.agreed.timestamps,
        // The server was given the client's own.
        client_ts_delta: 0,
        // RFC 7323 5.3: the clock that the client sees goes on, not back.
        server_ts_delta: server.ts_first.map_or(0, |first| c.clock.0.wrapping_sub(first)),
        client_sack: c.agreed.sack,
        server_sack: c.agreed.sack && c.server_sack,
        scales: if c.agreed.scale.is_some() {
            Scales {
                client: c.client.scale_in,
                to_client: c.client.scale_out,
                server: server.scale_in,
                to_server: server.scale_out,
            }
        } else {
            Scales::default()
        },
        closed: Closed { client: c.client.is_half_closed(), server: c.held_fin },
    };
    splice::engage(session, &constants, tick)
}

/// Sends the client what was held and fits into its window, as the server's octets that they are: what of it is lost, or
/// does not fit, comes again from the server.
/// `more` says that a segment of the server follows, which acknowledges what the client has sent.
pub(super) fn release(c: &Connection, clock: u32, more: bool, mut send: impl FnMut(&[u8])) {
    let Some(server) = &c.server else { return };
    let ack = c.client.expected();
    if c.held.is_empty() && !c.held_fin && (more || c.client.acked == ack) {
        return;
    }
    let unit = 1u32 << c.client.scale_out;
    let options = Options {
        timestamps: c.agreed.timestamps.then_some((clock, c.client.ts_recent)),
        ..Options::default()
    };
    let size = DATA.min(usize::from(data_octets(c.agreed.mss, c.agreed.timestamps)));
    let window = u16::try_from(server.their_window / unit).unwrap_or(u16::MAX);
    let mut head = Head { seq: c.client.ours.wrapping_add(1), ack, flags: ACK, window };
    let mut packet = Vec::new();
    // Nothing was sent to the client before.
    let room = usize::try_from(c.client.their_window).unwrap_or(usize::MAX);
    let mut rest = &c.held[..c.held.len().min(room)];
    let fin = c.held_fin && c.held.len() < room;
    loop {
        let (data, behind) = rest.split_at(rest.len().min(size));
        rest = behind;
        if rest.is_empty() && fin {
            head.flags |= FIN;
        }
        #[expect(clippy::cast_possible_truncation, reason = "any Identification will do")]
        emit(&mut packet, &c.client.ends, head, &options, data, head.seq as u16);
        send(&packet);
        head.seq = head.seq.wrapping_add(u32::try_from(data.len()).unwrap_or(0));
        if rest.is_empty() {
            return;
        }
    }
}

/// What a server is answered with that sends its SYN-ACK once more when its connection is spliced. Nothing if it is
/// another connection's.
pub(super) fn again(session: &Session<'_>, head: Head) -> Option<Head> {
    let line = session.spliced()?;
    let state = State::from_u8(session.ctl().state());
    let isn = u32::try_from(line.isn.load(Relaxed) & 0xffff_ffff).ok()?;
    let seq = line.client_seq_end.load(Relaxed).wrapping_add(line.client_seq_delta.load(Relaxed));
    // Its window is the client's, which comes with the next segment of the client's.
    let fits = state == State::Open && head.has(ACK) && head.seq == isn;
    fits.then(|| Head { seq, ack: isn.wrapping_add(1), flags: ACK, window: head.window.min(1024) })
}
