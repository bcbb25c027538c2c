//! Options of TCP: read leniently, written in the order that everybody is used to.

/// Option kinds.
mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const TIMESTAMPS: u8 = 8;
}

/// Octets of the timestamps option with the two octets before it that put it on a boundary (RFC 7323 appendix A).
pub const TIMESTAMPS: usize = 12;
/// Octets that [`Options::emit`] writes at most.
pub const LONGEST: usize = 24;
/// The largest window scale; larger ones count as this (RFC 7323 2.3).
pub const LARGEST_SCALE: u8 = 14;

/// What the options of a segment say. Those that are not known, or have a wrong length, are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// The largest segment that the sender takes (RFC 9293 3.7.1).
    pub mss: Option<u16>,
    /// How far its windows are to be shifted, 0 to 14 (RFC 7323 2.2).
    pub window_scale: Option<u8>,
    /// It understands selective acknowledgements (RFC 2018 2).
    pub sack_permitted: bool,
    /// Its clock and what it echoes (RFC 7323 3.2).
    pub timestamps: Option<(u32, u32)>,
}

impl Options {
    /// Reads the octets between header and data.
    #[must_use]
    pub fn parse(mut octets: &[u8]) -> Self {
        let mut options = Self::default();
        loop {
            match octets {
                [kind::END, ..] | [] | [_] => return options,
                [kind::NOP, rest @ ..] => octets = rest,
                [kind, length, ..] => {
                    let length = usize::from(*length);
                    // RFC 9293 3.1: a length counts its own two octets.
                    let Some(body) = octets.get(2..length) else { return options };
                    match (*kind, body) {
                        (kind::MSS, &[a, b]) => options.mss = Some(u16::from_be_bytes([a, b])),
                        (kind::WINDOW_SCALE, &[n]) => options.window_scale = Some(n.min(LARGEST_SCALE)),
                        (kind::SACK_PERMITTED, []) => options.sack_permitted = true,
                        (kind::TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                            let pair = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
                            options.timestamps = Some(pair);
                        }
                        _ => {}
                    }
                    octets = &octets[length..];
                }
            }
        }
    }

    /// Octets that [`Options::emit`] writes: a multiple of four.
    #[must_use]
    pub const fn octets(&self) -> usize {
        let mut n = 0;
        if self.mss.is_some() {
            n += 4;
        }
        if self.timestamps.is_some() {
            n += TIMESTAMPS;
        } else if self.sack_permitted {
            n += 4;
        }
        if self.window_scale.is_some() {
            n += 4;
        }
        n
    }

    /// Writes them to the beginning of `out`, which has room for [`Options::octets`]; nothing is written where it has
    /// not.
    pub fn emit(&self, out: &mut [u8]) {
        let Some(mut out) = out.get_mut(..self.octets()) else { return };
        let mut put = |octets: &[u8]| {
            let (head, rest) = std::mem::take(&mut out).split_at_mut(octets.len());
            head.copy_from_slice(octets);
            out = rest;
        };
        if let Some(mss) = self.mss {
            let [a, b] = mss.to_be_bytes();
            put(&[kind::MSS, 4, a, b]);
        }
        let sack = if self.sack_permitted { [kind::SACK_PERMITTED, 2] } else { [kind::NOP; 2] };
        if self.timestamps.is_some() || self.sack_permitted {
            if self.timestamps.is_none() {
                put(&[kind::NOP; 2]);
            }
            put(&sack);
        }
        if let Some((value, echo)) = self.timestamps {
            put(&[kind::TIMESTAMPS, 10]);
            put(&value.to_be_bytes());
            put(&echo.to_be_bytes());
        }
        if let Some(scale) = self.window_scale {
            put(&[kind::NOP, kind::WINDOW_SCALE, 3, scale]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn anything() -> impl Strategy<Value = Options> {
        let ts = proptest::option::of(any::<(u32, u32)>());
        (proptest::option::of(any::<u16>()), proptest::option::of(0u8..=14), any::<bool>(), ts).prop_map(
            |(mss, window_scale, sack_permitted, timestamps)| Options {
                mss,
                window_scale,
                sack_permitted,
                timestamps,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(options in anything()) {
            let mut octets = [0xa5; LONGEST];
            let n = options.octets();
            options.emit(&mut octets);
            prop_assert_eq!(n % 4, 0);
            prop_assert_eq!(Options::parse(&octets[..n]), options);
            prop_assert!(octets[n..].iter().all(|&o| o == 0xa5));
        }

        #[test]
        fn rfc9293_3_1_any_octets_are_read_without_harm(octets in proptest::collection::vec(any::<u8>(), 0..48)) {
            let _ = Options::parse(&octets);
        }
    }

    #[test]
    fn rfc7323_2_3_a_scale_above_14_counts_as_14() {
        assert_eq!(Options::parse(&[3, 3, 200]).window_scale, Some(14));
    }

    #[test]
    fn rfc9293_3_1_options_of_wrong_length_end_or_are_passed_over() {
        let with_mss = |before: &[u8]| Options::parse(&[before, &[2, 4, 5, 6]].concat()).mss;
        assert_eq!(with_mss(&[3, 2]), Some(0x506));
        assert_eq!(with_mss(&[254, 4, 1, 2]), Some(0x506));
        for endless in [&[254, 0][..], &[254, 1], &[254, 200], &[0]] {
            assert_eq!(with_mss(endless), None, "{endless:?}");
        }
    }
}
