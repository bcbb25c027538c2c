//! SYN cookies (RFC 4987 3.6): the initial sequence number that a SYN is answered with holds all that is to be known
//! of the connection when it is acknowledged. Until then nothing is kept, so that there is nothing to be filled up.
//!
//! ```text
//!  our number = F(ends) + client's number + slot << 24 + (G(ends, slot) + check << 3 + size) mod 2^24
//!
//!  slot: time, in units of 64 seconds    check: 16 bits of a hash of ends, slot and client's number
//!  size: number of the size of segments that the client takes
//! ```
//! Numbers of one pair of ends go up as the client's do and as time goes by, as RFC 9293 3.4.1 wants: the check moves
//! them by no more than what the client's clock gains in two seconds.

use causeway_core::Instant;
use causeway_tcp::{Ends, keyed_hash};
use std::net::{IpAddr, SocketAddr};

/// Seconds of a time slot. A cookie is good for the rest of its slot and all of the next one.
const SLOT_SECS: u64 = 64;
/// Sizes of segments that clients can ask for; the largest that is not larger than what is asked for counts.
const SIZES: [u16; 8] = [64, 216, 536, 768, 1024, 1152, 1220, 1240];
/// Places for what is remembered of SYNs.
const HINTS: usize = 1024;
const LOW: u32 = 0x00ff_ffff;

/// Makes and checks cookies.
#[derive(Debug)]
pub(super) struct Cookies {
    keys: (u64, u64),
    /// The client's number of SYNs that came lately, by their ends: a help for when the first segment behind it is
    /// lost and the second is not. Later ones overwrite earlier ones.
    hints: Box<[Hint]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Hint {
    tag: u32,
    client: u32,
}

impl Cookies {
    pub(super) fn new(keys: (u64, u64)) -> Self {
        Self { keys, hints: vec![Hint::default(); HINTS].into_boxed_slice() }
    }

    /// The number to answer a SYN with, whose own number is `client`.
    pub(super) fn make(&mut self, ends: &Ends, client: u32, mss: u16, now: Instant) -> u32 {
        let base = self.hash(ends, None);
        let (place, tag) = place(base);
        self.hints[place] = Hint { tag, client };
        let slot = now.as_secs() / SLOT_SECS;
        let size = SIZES.iter().rposition(|&s| s <= mss).unwrap_or(0);
        let low = self.low(ends, slot, client).wrapping_add(u32::try_from(size).unwrap_or(0));
        low32(base).wrapping_add(client).wrapping_add(low32(slot) << 24).wrapping_add(low & LOW)
    }

    /// The lower 24 bits for the smallest size.
    fn low(&self, ends: &Ends, slot: u64, client: u32) -> u32 {
        let check = low32(self.hash(ends, Some((slot, Some(client))))) & 0xffff;
        low32(self.hash(ends, Some((slot, None)))).wrapping_add(check << 3)
    }

    /// What a segment with sequence number `seq` opens that acknowledges `cookie`: the client's initial number, and the
    /// largest segment that it takes. Nothing if this is no cookie, or one that is too old.
    pub(super) fn check(&self, ends: &Ends, seq: u32, cookie: u32, now: Instant) -> Option<(u32, u16)> {
        let base = self.hash(ends, None);
        let (place, tag) = place(base);
        let hint = self.hints[place];
        let hinted = (hint.tag == tag).then_some(hint.client);
        [hinted, Some(seq.wrapping_sub(1))].into_iter().flatten().find_map(|client| {
            let rest = cookie.wrapping_sub(low32(base)).wrapping_sub(client);
            (0..=1).find_map(|age| {
                let slot = (now.as_secs() / SLOT_SECS).checked_sub(age)?;
                let rest = rest.wrapping_sub(low32(slot) << 24);
                let size = rest.wrapping_sub(self.low(ends, slot, client)) & LOW;
                // The slot is in the upper octet, which the size must not have changed.
                let size = usize::try_from(size).ok().filter(|_| rest <= LOW)?;
                SIZES.get(size).map(|&size| (client, size))
            })
        })
    }

    fn hash(&self, ends: &Ends, more: Option<(u64, Option<u32>)>) -> u64 {
        let mut octets = [0u8; 54];
        octets[..16].copy_from_slice(&address(ends.local.ip()));
        octets[16..18].copy_from_slice(&ends.local.port().to_be_bytes());
        octets[18..34].copy_from_slice(&address(ends.remote.ip()));
        octets[34..36].copy_from_slice(&ends.remote.port().to_be_bytes());
        if let SocketAddr::V6(a) = ends.remote {
            octets[36..40].copy_from_slice(&a.scope_id().to_be_bytes());
        }
        if let Some((slot, client)) = more {
            octets[40] = 1;
            octets[41..49].copy_from_slice(&slot.to_be_bytes());
            if let Some(client) = client {
                octets[49] = 1;
                octets[50..].copy_from_slice(&client.to_be_bytes());
            }
        }
        keyed_hash(self.keys, &octets)
    }
}

fn place(base: u64) -> (usize, u32) {
    let high = low32(base >> 32);
    (usize::try_from(high).unwrap_or(0) % HINTS, high)
}

fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
const fn low32(n: u64) -> u32 {
    n as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_core::Duration;
    use proptest::prelude::*;

    fn ends(port: u16) -> Ends {
        Ends {
            local: "[2001:db8:64::53]:53".parse().unwrap(),
            remote: SocketAddr::new("2001:db8:64::101".parse().unwrap(), port),
        }
    }

    proptest! {
        #[test]
        fn rfc4987_3_6_a_cookie_tells_the_clients_number_and_its_size(
            port in 1u16.., client: u32, mss in 64u16..2000, secs in 0u64..1 << 33, age in 0u64..SLOT_SECS
        ) {
            let mut cookies = Cookies::new((1, 2));
            let now = Instant::from_micros(secs * 1_000_000);
            let cookie = cookies.make(&ends(port), client, mss, now);
            let later = now + Duration::from_secs(age);
            let (got, size) = cookies.check(&ends(port), client.wrapping_add(1), cookie, later).unwrap();
            prop_assert_eq!(got, client);
            prop_assert!(size <= mss && SIZES.iter().all(|&s| s <= size || s > mss));
        }

        #[test]
        fn rfc4987_3_6_what_is_not_the_cookie_opens_nothing(port in 1u16.., client: u32, other in 8u32..u32::MAX - 8) {
            let mut cookies = Cookies::new((3, 4));
            let now = Instant::from_micros(1_000_000_000);
            let cookie = cookies.make(&ends(port), client, 1220, now);
            let seq = client.wrapping_add(1);
            let elsewhere = ends(port ^ 1);
            let mut foreign = Cookies::new((3, 5));
            foreign.make(&ends(port), client, 1220, now);
            // One guess in 2^28 would be right.
            prop_assert!(cookies.check(&ends(port), seq, cookie.wrapping_add(other), now).is_none());
            prop_assert!(cookies.check(&ends(port), seq.wrapping_add(other), cookie, now) != Some((client.wrapping_add(other), 1220)));
            prop_assert!(cookies.check(&elsewhere, seq, cookie, now).is_none());
            prop_assert!(foreign.check(&ends(port), seq, cookie, now).is_none());
            let late = now + Duration::from_secs(2 * SLOT_SECS);
            prop_assert!(cookies.check(&ends(port), seq, cookie, late).is_none());
        }
    }

    #[test]
    fn a_lost_first_segment_does_not_lose_the_connection() {
        let mut cookies = Cookies::new((5, 6));
        let now = Instant::from_micros(7_000_000);
        let cookie = cookies.make(&ends(1000), 77, 1460, now);
        assert_eq!(cookies.check(&ends(1000), 80, cookie, now), Some((77, 1240)));
        // What was forgotten is no longer a help.
        cookies.hints.fill(Hint::default());
        assert_eq!(cookies.check(&ends(1000), 80, cookie, now), None);
        assert_eq!(cookies.check(&ends(1000), 78, cookie, now), Some((77, 1240)));
    }

    #[test]
    fn rfc9293_3_4_1_numbers_of_one_pair_of_ends_go_up() {
        let mut cookies = Cookies::new((7, 8));
        let at = |slot: u64| Instant::from_micros(slot * SLOT_SECS * 1_000_000);
        for slot in 0..100 {
            let a = cookies.make(&ends(1000), 1_000_000, 1220, at(slot));
            // RFC 6528 3: clients' numbers gain one every four microseconds: here two seconds.
            let b = cookies.make(&ends(1000), 1_600_000, 1220, at(slot));
            let c = cookies.make(&ends(1000), 1_600_000, 1220, at(slot + 2));
            assert!(causeway_tcp::segment::before(a, b) && causeway_tcp::segment::before(b, c));
        }
    }
}
