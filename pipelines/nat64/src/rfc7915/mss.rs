//! The maximum segment size of a SYN (RFC 9293 3.7.1), lowered on its way where that is asked for.
//!
//! For paths on which Packet Too Big is lost: TCP then never sends what would be too big.

use causeway_wire::l4::tcp;
use causeway_wire::{be16, checksum, put16};

/// Option kinds of RFC 9293 3.2.
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;

/// Lowers the maximum segment size of the SYN `b` (header and payload) to `most`, and puts its checksum
/// right. Options that cannot be walked are left alone, and so is a SYN without the option: RFC 9293
/// 3.7.1 has its sender expect 536 or 1220 octets then.
#[cold]
pub(super) fn clamp(b: &mut [u8], most: u16) {
    let Some(octets) = b.get(tcp::DATA_OFFSET).map(|o| usize::from(o >> 4) * 4) else { return };
    let mut at = tcp::HEADER;
    while at + 1 < octets.min(b.len()) {
        let step = match b[at] {
            END => return,
            NOTHING => 1,
            MSS if b[at + 1] == 4 && at + 4 <= octets.min(b.len()) => {
                let old = be16(b, at + 2);
                if old > most {
                    put16(b, at + 2, most);
                    // RFC 1624 3 works on aligned words; an option at an odd octet is in two of them.
                    let (old, new) = if at.is_multiple_of(2) {
                        (old, most)
                    } else {
                        (old.swap_bytes(), most.swap_bytes())
                    };
                    let delta = checksum::delta(u64::from(old), u64::from(new));
                    super::adjust(b, tcp::CHECKSUM, delta);
                }
                return;
            }
            _ => usize::from(b[at + 1]),
        };
        if step == 0 {
            return;
        }
        at += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_testkit::{check_packet, ip4, tcp as segment};
    use proptest::prelude::*;

    fn syn(options: &[u8]) -> Vec<u8> {
        ip4("192.0.2.1", "198.51.100.1").tcp(&segment(1, 2).syn().options(options).payload(b"data"))
    }

    #[test]
    fn rfc9293_3_7_1_a_larger_size_is_lowered_and_a_smaller_one_is_not() {
        for (options, want) in [
            (&[2u8, 4, 0x05, 0xb4][..], 1220),
            (&[2, 4, 0x04, 0x00], 1024),
            // At an odd octet, behind others.
            (&[1, 2, 4, 0x05, 0xb4, 1, 1, 0], 1220),
            (&[4, 2, 3, 3, 7, 2, 4, 0x05, 0xb4, 0, 0, 0], 1220),
        ] {
            let mut p = syn(options);
            clamp(&mut p[20..], 1220);
            check_packet(&p).unwrap();
            let at = 40 + options.windows(2).position(|w| w == [2, 4]).unwrap() + 2;
            assert_eq!(be16(&p, at), want);
        }
    }

    #[test]
    fn options_that_cannot_be_walked_are_left_alone() {
        for options in [
            &[][..],
            &[3, 0, 2, 4, 0x05, 0xb4, 0, 0],
            &[0, 2, 4, 9],
            &[2, 3, 9, 9],
            &[1, 1, 2, 4],
            &[8, 60, 2, 4],
        ] {
            let mut p = syn(options);
            let before = p.clone();
            clamp(&mut p[20..], 100);
            assert_eq!(p, before, "{options:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_do_not_panic(mut b in proptest::collection::vec(any::<u8>(), 0..80), most: u16) {
            clamp(&mut b, most);
        }
    }
}
