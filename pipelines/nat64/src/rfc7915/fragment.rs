//! Fragmenting what is too large for IPv6 and may be fragmented (RFC 7915 4, RFC 8200 4.5).
//!
//! ```text
//!  IPv6 | Fragment | payload .......................
//!  IPv6 | Fragment | first part     stays in the packet
//!  IPv6 | Fragment |    next parts, each in a frame of its own, in the outbox
//! ```

use causeway_core::{Ctx, DropReason, Egress, Frame, FrameSource, Packet};
use causeway_wire::{be16, ipv6, put16};

const HEAD: usize = ipv6::HEADER + ipv6::FRAGMENT_HEADER;

/// Cuts `packet`, IPv6 with a Fragment header directly behind the fixed header, into packets of at most
/// `mtu` octets. The first stays in `packet`; the others go to the outbox, towards `egress`.
///
/// # Errors
/// A reason to drop the rest of the packet: the outbox or the frame source has no room. Parts that are in
/// the outbox stay there; a receiver never completes such a packet.
#[cold]
pub(crate) fn split<S: FrameSource>(
    ctx: &mut Ctx<'_, S>,
    packet: &mut Packet<S::Frame>,
    mtu: usize,
    egress: Egress,
) -> Result<(), DropReason> {
    let octets = packet.frame.octets();
    // RFC 8200 4.5: every part but the last is a multiple of eight octets.
    let part = mtu.saturating_sub(HEAD) & !7;
    if octets <= mtu || octets < HEAD || part == 0 {
        return Ok(());
    }
    let payload = octets - HEAD;
    let parts = payload.div_ceil(part);
    if parts - 1 > ctx.outbox.room() {
        return Err(DropReason::OutboxFull);
    }
    let field = be16(packet.bytes(), ipv6::HEADER + 2);
    for n in 1..parts {
        let from = n * part;
        let to = payload.min(from + part);
        let mut frame = ctx.source.alloc().ok_or(DropReason::NoFrame)?;
        frame.push_back(HEAD + to - from).map_err(|_| DropReason::NoFrame)?;
        let (b, whole) = (frame.bytes_mut(), packet.bytes());
        b[..HEAD].copy_from_slice(&whole[..HEAD]);
        b[HEAD..].copy_from_slice(&whole[HEAD + from..HEAD + to]);
        set_lengths(b, to - from, field, from, n + 1 < parts);
        let part = Packet { frame, meta: packet.meta };
        if ctx.outbox.push(part, egress).is_err() {
            return Err(DropReason::OutboxFull);
        }
    }
    packet.frame.truncate(HEAD + part);
    set_lengths(packet.frame.bytes_mut(), part, field, 0, true);
    Ok(())
}

/// Writes the payload length, and the offset and flag for a part that begins `from` octets into a packet
/// whose own offset and flag were `field`.
fn set_lengths(b: &mut [u8], octets: usize, field: u16, from: usize, more: bool) {
    // Both fit: a packet has at most 65,575 octets, and its own end stays within 65,535.
    let payload = u16::try_from(octets + ipv6::FRAGMENT_HEADER).unwrap_or(u16::MAX);
    let from = u16::try_from(from).unwrap_or(u16::MAX) & !7;
    put16(b, ipv6::PAYLOAD_LEN, payload);
    let offset = (field & !7).saturating_add(from);
    put16(b, ipv6::HEADER + 2, offset | (field & 1) | u16::from(more));
}
