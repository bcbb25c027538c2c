//! Hostile frames: good ones with something done to them. Strategies for `proptest`; failing cases
//! shrink towards the good frame.

use proptest::prelude::*;
use proptest::sample::Index;

/// One thing done to a frame.
#[derive(Debug, Clone)]
pub enum Mutation {
    /// Cut to a part of its length.
    Truncate(Index),
    /// Octets put behind it.
    Extend(Vec<u8>),
    /// One bit turned over.
    FlipBit(Index, u8),
    /// One octet replaced.
    Set(Index, u8),
    /// A 16-bit length field replaced: where they stand is known for both families.
    LieLength(Index, u16),
    /// A 16-bit field moved by little.
    Nudge(Index, i8),
    /// A part taken out.
    CutOut(Index, u8),
    /// A part repeated.
    Repeat(Index, u8),
}

/// Where lengths, offsets and protocol numbers stand, counted from the network-layer header: of IPv4
/// (header length, total length, fragment offset, protocol), of UDP and TCP behind 20 octets, of IPv6
/// (payload length, next header), of extension headers and UDP and TCP behind 40 octets.
const LENGTH_FIELDS: [usize; 16] = [0, 2, 4, 5, 6, 8, 24, 32, 40, 41, 42, 44, 48, 49, 52, 56];

impl Mutation {
    /// Does it to the frame whose network-layer header begins at `l3`.
    pub fn apply(&self, frame: &mut Vec<u8>, l3: usize) {
        if frame.is_empty() {
            return;
        }
        let n = frame.len();
        match self {
            Self::Truncate(at) => frame.truncate(at.index(n)),
            Self::Extend(more) => frame.extend_from_slice(more),
            Self::FlipBit(at, bit) => frame[at.index(n)] ^= 1 << (bit % 8),
            Self::Set(at, octet) => frame[at.index(n)] = *octet,
            Self::LieLength(at, value) => {
                let at = l3 + LENGTH_FIELDS[at.index(LENGTH_FIELDS.len())];
                if let Some(field) = frame.get_mut(at..at + 2) {
                    field.copy_from_slice(&value.to_be_bytes());
                }
            }
            Self::Nudge(at, by) => {
                let at = at.index(n);
                if let Some(field) = frame.get_mut(at..at + 2) {
                    let value = u16::from_be_bytes([field[0], field[1]]).wrapping_add_signed(i16::from(*by));
                    field.copy_from_slice(&value.to_be_bytes());
                }
            }
            Self::CutOut(at, octets) => {
                let at = at.index(n);
                drop(frame.drain(at..n.min(at + usize::from(*octets))));
            }
            Self::Repeat(at, octets) => {
                let at = at.index(n);
                let part = frame[at..n.min(at + usize::from(*octets))].to_vec();
                drop(frame.splice(at..at, part));
            }
        }
    }
}

/// Any one mutation.
pub fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        any::<Index>().prop_map(Mutation::Truncate),
        proptest::collection::vec(any::<u8>(), 1..64).prop_map(Mutation::Extend),
        (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Mutation::FlipBit(at, bit)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, octet)| Mutation::Set(at, octet)),
        (any::<Index>(), lie()).prop_map(|(at, value)| Mutation::LieLength(at, value)),
        (any::<Index>(), any::<i8>()).prop_map(|(at, by)| Mutation::Nudge(at, by)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, octets)| Mutation::CutOut(at, octets)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, octets)| Mutation::Repeat(at, octets)),
    ]
}

/// Values that length fields are trusted with too easily.
fn lie() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(7),
        Just(19),
        Just(39),
        Just(u16::MAX),
        Just(0x7fff),
        Just(0x4400),
        any::<u16>()
    ]
}

/// One of the good frames with none to five things done to it. `l3` is where their network-layer header
/// begins: 0 for packets, 14 for untagged frames.
///
/// # Panics
/// When there is no good frame.
pub fn hostile(good: Vec<Vec<u8>>, l3: usize) -> impl Strategy<Value = Vec<u8>> {
    assert!(!good.is_empty(), "nothing to start from");
    (proptest::sample::select(good), proptest::collection::vec(mutation(), 0..6)).prop_map(
        move |(mut frame, list)| {
            for m in &list {
                m.apply(&mut frame, l3);
            }
            frame
        },
    )
}

/// Good packets of all kinds, from `src6` to `dst6` and from `src4` to `dst4`, to start from: each begins
/// at its network-layer header.
#[must_use]
pub fn samples(src6: &str, dst6: &str, src4: &str, dst4: &str) -> Vec<Vec<u8>> {
    use crate::{fragments4, fragments6, ip4, ip6, tcp};
    let (six, four) = (ip6(src6, dst6), ip4(src4, dst4));
    let mut list = vec![
        six.udp(4000, 53, b"a question of some octets"),
        six.udp(4000, 53, b""),
        six.tcp(&tcp(4000, 443).syn().seq(1).options(&[2, 4, 5, 0xa0, 1, 3, 3, 7])),
        six.tcp(&tcp(4000, 443).ack(9).psh().payload(&[7; 600])),
        six.echo_request(7, 1, &[0; 56]),
        six.echo_reply(7, 1, &[0; 56]),
        six.clone().hop_by_hop(&[5, 2, 0, 0]).dest_options(&[]).udp(1, 2, b"options"),
        six.clone().routing(0, 1, &[0; 20]).final_dst("::").udp(1, 2, b"routing"),
        six.clone().fragment(0, false, 77).udp(1, 2, b"atomic"),
        six.clone().auth(1, 2, &[0; 12]).udp(1, 2, b"auth"),
        six.clone().raw(59, b""),
        six.clone().raw(132, &[0; 40]),
        ip6(dst6, src6).icmp_error(1, 4, 0, &six.udp(4000, 53, b"unreachable")),
        ip6(dst6, src6).icmp_error(2, 0, 1280, &six.udp(4000, 53, &[0; 1000])),
        ip6(src6, dst6).icmp_error(3, 0, 0, &ip6(dst6, src6).udp(53, 4000, b"exceeded")),
        ip6("fe80::1", "ff02::1").ns(dst6, Some(crate::mac(1))),
        ip6("fe80::1", "fe80::2").na(src6, true, true, true, Some(crate::mac(1))),
        four.udp(4000, 53, b"a question of some octets"),
        four.udp_without_checksum(4000, 53, b"no checksum"),
        four.tcp(&tcp(4000, 443).syn().seq(1).options(&[2, 4, 5, 0xa0])),
        four.tcp(&tcp(443, 4000).fin().ack(9).payload(&[7; 600])),
        four.echo_request(7, 1, &[0; 56]),
        four.echo_reply(7, 1, &[0; 56]),
        four.clone().options(&[7, 7, 4, 0, 0, 0, 0, 0]).udp(1, 2, b"record route"),
        four.clone().options(&[131, 7, 4, 0, 0, 0, 0, 0]).udp(1, 2, b"source route"),
        four.raw(132, &[0; 40]),
        ip4(src4, dst4).icmp_error(3, 4, 1400, &ip4(dst4, src4).udp(53, 4000, &[0; 400])),
        ip4(src4, dst4).icmp_error(11, 0, 0, &ip4(dst4, src4).tcp(&tcp(443, 4000).ack(1))),
    ];
    list.extend(fragments6(&six.udp(1, 2, &[3; 2000]), 1280, 5));
    list.extend(fragments4(&four.df(false).udp(1, 2, &[3; 2000]), 1280, 5));
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check_packet, describe};

    fn good() -> Vec<Vec<u8>> {
        samples("2001:db8:64::101", "2001:db8:6::10", "198.51.100.10", "203.0.113.1")
    }

    #[test]
    fn the_samples_are_good() {
        for p in good() {
            check_packet(&p).unwrap_or_else(|e| panic!("{e}: {}", describe(&p)));
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_the_checkers_panic(frame in hostile(good(), 0)) {
            let _ = check_packet(&frame);
            let _ = describe(&frame);
            let _ = crate::reassemble(&[&frame]);
        }
    }
}
