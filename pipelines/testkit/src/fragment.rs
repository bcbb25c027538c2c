//! Cuts packets into fragments and puts fragments together, by plain code.

use crate::check::{dissect, ones_sum};

/// Cuts an IPv6 packet into fragments of at most `mtu` octets (RFC 8200 4.5). The Hop-by-Hop and Routing
/// headers are repeated in each.
///
/// # Panics
/// When the packet is malformed or a fragment already, or `mtu` leaves no room for eight octets.
#[must_use]
pub fn fragments6(packet: &[u8], mtu: usize, id: u32) -> Vec<Vec<u8>> {
    let l = dissect(packet, false).expect("a packet to cut");
    assert!(l.version == 6 && l.fragment.is_none(), "not a whole IPv6 packet");
    let (start, kind_at) = l.fragmentable;
    let room = (mtu - start - 8) & !7;
    assert!(room > 0, "no room in an MTU of {mtu}");
    let body = &packet[start..];
    let mut list = Vec::new();
    for (n, piece) in body.chunks(room).enumerate() {
        let more = (n + 1) * room < body.len();
        let mut f = packet[..start].to_vec();
        let field = (n * room) as u16 | u16::from(more);
        f.extend_from_slice(&[packet[kind_at], 0]);
        f.extend_from_slice(&field.to_be_bytes());
        f.extend_from_slice(&id.to_be_bytes());
        f.extend_from_slice(piece);
        f[kind_at] = 44;
        let payload = (f.len() - 40) as u16;
        f[4..6].copy_from_slice(&payload.to_be_bytes());
        list.push(f);
    }
    list
}

/// Cuts an IPv4 packet into fragments of at most `mtu` octets (RFC 791 3.2). Don't-Fragment is cleared;
/// options are repeated in each.
///
/// # Panics
/// When the packet is malformed or a fragment already, or `mtu` leaves no room for eight octets.
#[must_use]
pub fn fragments4(packet: &[u8], mtu: usize, id: u16) -> Vec<Vec<u8>> {
    let l = dissect(packet, false).expect("a packet to cut");
    assert!(l.version == 4 && l.fragment.is_none(), "not a whole IPv4 packet");
    let room = (mtu - l.at) & !7;
    assert!(room > 0, "no room in an MTU of {mtu}");
    let body = &packet[l.at..];
    let mut list = Vec::new();
    for (n, piece) in body.chunks(room).enumerate() {
        let more = (n + 1) * room < body.len();
        let mut f = [&packet[..l.at], piece].concat();
        let total = f.len() as u16;
        f[2..4].copy_from_slice(&total.to_be_bytes());
        f[4..6].copy_from_slice(&id.to_be_bytes());
        let field = (n * room / 8) as u16 | u16::from(more) << 13;
        f[6..8].copy_from_slice(&field.to_be_bytes());
        seal4(&mut f, l.at);
        list.push(f);
    }
    list
}

/// Writes the header checksum.
fn seal4(f: &mut [u8], header: usize) {
    f[10..12].fill(0);
    let sum = !ones_sum(&[&f[..header]]);
    f[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Puts the fragments of one packet together, in any order, and checks that they fit: one packet, one
/// Identification, no hole, no overlap (RFC 5722), one last fragment.
///
/// # Errors
/// What does not fit.
pub fn reassemble<T: AsRef<[u8]>>(fragments: &[T]) -> Result<Vec<u8>, String> {
    let mut parts = Vec::new();
    let mut head = None;
    let mut one = None;
    for f in fragments {
        let b = f.as_ref();
        crate::check_packet(b)?;
        let l = dissect(b, false)?;
        let Some(frag) = l.fragment else { return Err("not a fragment".to_owned()) };
        let addresses = if l.version == 4 { b[12..20].to_vec() } else { b[8..40].to_vec() };
        // RFC 791 3.2 tells packets apart by the protocol too; RFC 8200 4.5 does not.
        let key = (addresses, frag.id, (l.version == 4).then_some(l.protocol));
        if *one.get_or_insert_with(|| key.clone()) != key {
            return Err("fragments of two packets".to_owned());
        }
        // Behind the Fragment header (IPv6), or behind the header (IPv4).
        let from = l.fragment_at.map_or(l.at, |at| at + 8);
        parts.push((usize::from(frag.offset) * 8, frag.more, b[from..].to_vec()));
        if frag.offset == 0 {
            head =
                Some((b[..l.fragment_at.unwrap_or(l.at)].to_vec(), l.clone(), b[l.fragment_at.unwrap_or(0)]));
        }
    }
    parts.sort_by_key(|p| p.0);
    let Some((mut packet, l, next)) = head else { return Err("no first fragment".to_owned()) };
    let header = packet.len();
    let mut end = 0;
    for (n, (offset, more, body)) in parts.iter().enumerate() {
        if *offset != end {
            return Err(format!("a hole or overlap: {offset} follows {end}"));
        }
        if *more == (n + 1 == parts.len()) {
            return Err(format!(
                "the fragment at {offset} says that {} follow",
                if *more { "more" } else { "none" }
            ));
        }
        packet.extend_from_slice(body);
        end += body.len();
    }
    if l.version == 6 {
        let payload = u16::try_from(packet.len() - 40).map_err(|e| e.to_string())?;
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
        // The number of the header behind goes to where that of the Fragment header stood.
        let at = last_kind(&packet, header);
        packet[at] = next;
    } else {
        let total = u16::try_from(packet.len()).map_err(|e| e.to_string())?;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet[6..8].fill(0);
        seal4(&mut packet, header);
    }
    Ok(packet)
}

/// Where the next-header field stands of the last header that ends at `end`.
fn last_kind(b: &[u8], end: usize) -> usize {
    let (mut kind_at, mut at) = (6, 40);
    while at < end {
        let octets = if b[kind_at] == 51 {
            (usize::from(b[at + 1]) + 2) * 4
        } else {
            (usize::from(b[at + 1]) + 1) * 8
        };
        kind_at = at;
        at += octets;
    }
    kind_at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check_packet, ip4, ip6};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cutting_and_putting_together_gives_the_packet_back(size in 0usize..4000, mtu in 100usize..1500, id: u32, hop: bool) {
            let data: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let six = ip6("2001:db8::1", "2001:db8::2");
            let six = if hop { six.hop_by_hop(&[5, 2, 0, 0]) } else { six };
            let six = six.udp(1, 2, &data);
            let pieces = fragments6(&six, mtu, id);
            prop_assert!(pieces.iter().all(|p| p.len() <= mtu && check_packet(p).is_ok()));
            prop_assert_eq!(reassemble(&pieces).unwrap(), six);
            let four = ip4("192.0.2.1", "198.51.100.1").df(false).id(id as u16).udp(1, 2, &data);
            let mut pieces = fragments4(&four, mtu, id as u16);
            pieces.reverse();
            prop_assert!(pieces.iter().all(|p| p.len() <= mtu && check_packet(p).is_ok()));
            if pieces.len() > 1 {
                prop_assert_eq!(reassemble(&pieces).unwrap(), four);
            }
        }
    }

    #[test]
    fn holes_overlaps_and_strangers_are_refused() {
        let six = ip6("2001:db8::1", "2001:db8::2").udp(1, 2, &[7; 3000]);
        let pieces = fragments6(&six, 1280, 9);
        assert_eq!(pieces.len(), 3);
        assert!(reassemble(&pieces[..2]).is_err());
        assert!(reassemble(&pieces[1..]).is_err());
        assert!(reassemble(&[&pieces[0], &pieces[2]]).is_err());
        assert!(reassemble(&[&pieces[0], &pieces[1], &pieces[1], &pieces[2]]).is_err());
        let other = fragments6(&six, 1280, 10);
        assert!(reassemble(&[&pieces[0], &other[1], &pieces[2]]).is_err());
    }
}
