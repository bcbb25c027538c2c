//! SYN cookies (RFC 4987 3.6): the initial sequence number that a SYN is answered with holds all that is to be known of
//! the connection when it is acknowledged, what its options were included. Until then nothing is kept, so that there is
//! nothing to be filled up.
//!
//! ```text
//!  our number = F(ends) + client's number + slot << 24 + check << 9 + agreed       check: 15 bits of a hash of ends, slot,
//!  slot: time, in units of 64 seconds    agreed: size 3 | scale 4 | SACK 1 | timestamps 1     client's number and agreed
//! ```
//! F moves numbers up as the client's do and as time goes by (RFC 9293 3.4.1).

use causeway_core::Instant;
use causeway_tcp::keyed_hash;

/// Seconds of a time slot. A cookie is good for the rest of its slot and all of the next one.
const SLOT_SECS: u64 = 64;
/// Sizes of segments that clients can ask for; the largest that is not larger than what is asked for counts.
const SIZES: [u16; 8] = [64, 536, 1220, 1360, 1400, 1440, 1452, 1460];
/// Places for what is remembered of SYNs.
const HINTS: usize = 4096;
/// Stands for no window scale.
const NO_SCALE: u32 = 15;
const CHECK: u32 = 0x7fff;

/// The two ends of a client's connection: proxy address and port, client's address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    pub(super) out4: u32,
    pub(super) out_port: u16,
    pub(super) remote4: u32,
    pub(super) remote_port: u16,
}

impl Pair {
    fn octets(self) -> [u8; 12] {
        let words = u128::from(self.out4) << 64
            | u128::from(self.remote4) << 32
            | u128::from(self.out_port) << 16
            | u128::from(self.remote_port);
        let [_, _, _, _, rest @ ..] = words.to_be_bytes();
        rest
    }
}

/// What client and gateway have agreed to in SYN and SYN-ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Agreed {
    /// The largest segment that the client takes, options not counted (RFC 6691).
    pub(super) mss: u16,
    /// The client's window scale, if windows are scaled.
    pub(super) scale: Option<u8>,
    /// Selective acknowledgements.
    pub(super) sack: bool,
    /// Timestamps.
    pub(super) timestamps: bool,
}

impl Agreed {
    fn encode(self) -> u32 {
        let size = SIZES.iter().rposition(|&s| s <= self.mss).unwrap_or(0);
        u32::try_from(size).unwrap_or(0)
            | self.scale.map_or(NO_SCALE, |s| u32::from(s.min(14))) << 3
            | u32::from(self.sack) << 7
            | u32::from(self.timestamps) << 8
    }

    fn decode(bits: u32) -> Self {
        let scale = (bits >> 3) & 15;
        Self {
            mss: SIZES[(bits & 7) as usize],
            scale: u8::try_from(scale).ok().filter(|_| scale != NO_SCALE),
            sack: bits & 1 << 7 != 0,
            timestamps: bits & 1 << 8 != 0,
        }
    }
}

/// Makes and checks cookies.
#[derive(Debug)]
pub(super) struct Cookies {
    keys: (u64, u64),
    /// For [`Cookies::check_bits`]: apart from the keys, since a client may find out about these by its own cookies.
    mixes: (u64, u64),
    /// The client's number of SYNs that came lately, by their ends: a help for when the first segment behind one comes
    /// after the second. Later ones overwrite earlier ones.
    hints: Box<[Hint]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Hint {
    tag: u32,
    client: u32,
}

impl Cookies {
    pub(super) fn new(keys: (u64, u64)) -> Self {
        let mixes = (keyed_hash(keys, b"mix"), keyed_hash(keys, b"spread") | 1);
        Self { keys, mixes, hints: vec![Hint::default(); HINTS].into_boxed_slice() }
    }

    /// The number to answer a SYN with, whose own number is `client`, and what is added to the clock for timestamps
    /// towards this client, so that they tell nobody how long the gateway runs (RFC 7323 5.4).
    pub(super) fn make(&mut self, pair: Pair, client: u32, agreed: Agreed, now: Instant) -> (u32, u32) {
        let base = self.base(pair);
        let (place, tag) = place(base);
        self.hints[place] = Hint { tag, client };
        let slot = now.as_secs() / SLOT_SECS;
        let bits = agreed.encode();
        let low = self.check_bits(base, slot, client, bits) << 9 | bits;
        let cookie = low32(base).wrapping_add(client).wrapping_add(low32(slot) << 24).wrapping_add(low);
        (cookie, low32(base.rotate_left(13)) ^ 0x5bd1_e995)
    }

    /// What a segment with sequence number `seq` opens that acknowledges `cookie`: the client's initial number, and what
    /// was agreed to. Nothing if this is no cookie, or one that is too old.
    pub(super) fn check(&self, pair: Pair, seq: u32, cookie: u32, now: Instant) -> Option<(u32, Agreed)> {
        let base = self.base(pair);
        let (place, tag) = place(base);
        let hint = self.hints[place];
        let plain = seq.wrapping_sub(1);
        let hinted = (hint.tag == tag && hint.client != plain).then_some(hint.client);
        // What is remembered first: a later segment's number would be taken for a first one's by chance, 1 in 2^15.
        [hinted, Some(plain)].into_iter().flatten().find_map(|client| {
            let rest = cookie.wrapping_sub(low32(base)).wrapping_sub(client);
            (0..=1).find_map(|age| {
                let slot = (now.as_secs() / SLOT_SECS).checked_sub(age)?;
                if low32(slot) & 0xff != rest >> 24 {
                    return None;
                }
                let bits = rest & 0x1ff;
                let good = self.check_bits(base, slot, client, bits) == (rest >> 9) & CHECK;
                good.then(|| (client, Agreed::decode(bits)))
            })
        })
    }

    fn base(&self, pair: Pair) -> u64 {
        keyed_hash(self.keys, &pair.octets())
    }

    /// Nobody but the client has ever seen anything that `base` went into, so that what is multiplied by it is as good as
    /// hashed once more; the second round spreads the low bits upwards.
    fn check_bits(&self, base: u64, slot: u64, client: u32, bits: u32) -> u32 {
        let said = u64::from(client) << 32 ^ slot << 9 ^ u64::from(bits);
        let once = (said ^ self.mixes.0).wrapping_mul(base | 1).wrapping_add(base.rotate_left(32));
        low32((once ^ once >> 32).wrapping_mul(self.mixes.1) >> 49) & CHECK
    }
}

fn place(base: u64) -> (usize, u32) {
    let high = low32(base >> 32);
    (usize::try_from(high).unwrap_or(0) % HINTS, high)
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

    const PAIR: Pair = Pair { out4: 0xcb00_7150, out_port: 443, remote4: 0xc633_6463, remote_port: 40_000 };

    fn agreed() -> impl Strategy<Value = Agreed> {
        (0..8usize, proptest::option::of(0u8..=14), any::<bool>(), any::<bool>())
            .prop_map(|(size, scale, sack, timestamps)| Agreed { mss: SIZES[size], scale, sack, timestamps })
    }

    proptest! {
        #[test]
        fn rfc4987_3_6_what_was_agreed_to_comes_back(
            agreed in agreed(), client in any::<u32>(), at in 0u64..1 << 40, age in 0u64..64, ahead in 0u32..3000,
        ) {
            let mut cookies = Cookies::new((1, 2));
            let now = Instant::from_micros(at);
            let (cookie, _) = cookies.make(PAIR, client, agreed, now);
            let later = now + Duration::from_secs(age);
            let first = client.wrapping_add(1);
            prop_assert_eq!(cookies.check(PAIR, first, cookie, later), Some((client, agreed)));
            // The second segment may come first.
            prop_assert_eq!(cookies.check(PAIR, first.wrapping_add(ahead), cookie, later), Some((client, agreed)));
            prop_assert_eq!(cookies.check(PAIR, first, cookie, now + Duration::from_secs(129)), None);
        }

        #[test]
        fn rfc4987_3_6_a_guess_is_no_cookie(seq in any::<u32>(), guess in any::<u32>(), port in any::<u16>()) {
            // 2 slots of 2^23 values: 128 cases find one with a chance of 2^-15.
            let cookies = Cookies::new((3, 4));
            let pair = Pair { remote_port: port, ..PAIR };
            prop_assert_eq!(cookies.check(pair, seq, guess, Instant::from_micros(1 << 40)), None);
        }
    }

    #[test]
    fn rfc9293_3_7_1_sizes_are_rounded_down() {
        let of =
            |mss| Agreed::decode(Agreed { mss, scale: None, sack: false, timestamps: false }.encode()).mss;
        assert_eq!([0, 63, 535, 1300, 1439, 9000].map(of), [64, 64, 64, 1220, 1400, 1460]);
    }

    #[test]
    fn another_key_or_pair_makes_other_numbers() {
        let agreed = Agreed { mss: 1460, scale: Some(7), sack: true, timestamps: true };
        let mut a = Cookies::new((1, 2));
        let (cookie, _) = a.make(PAIR, 7, agreed, Instant::ZERO);
        assert_eq!(Cookies::new((1, 3)).check(PAIR, 8, cookie, Instant::ZERO), None);
        assert_eq!(a.check(Pair { remote4: 1, ..PAIR }, 8, cookie, Instant::ZERO), None);
    }
}
