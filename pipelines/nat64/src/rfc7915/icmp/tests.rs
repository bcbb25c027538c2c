use super::*;
use proptest::prelude::*;

const MTUS: Mtus = Mtus { v6: 1500, v4: 1500 };

#[test]
fn rfc7915_5_2_mtu_to_ipv4_is_20_less_and_never_above_the_links() {
    assert_eq!(mtu_to_v4(1480, false, MTUS), 1460);
    assert_eq!(mtu_to_v4(9000, false, MTUS), 1480);
    assert_eq!(mtu_to_v4(9000, false, Mtus { v6: 9000, v4: 1400 }), 1400);
    assert_eq!(mtu_to_v4(u32::MAX, false, Mtus { v6: u32::MAX, v4: u32::MAX }), 65_535);
}

#[test]
fn rfc7915_5_2_a_fragment_header_inside_counts_in_the_mtu() {
    assert_eq!(mtu_to_v4(1480, true, MTUS), 1452);
    assert_eq!(mtu_to_v4(9000, true, MTUS), 1472);
    assert_eq!(mtu_to_v4(9000, true, Mtus { v6: 9000, v4: 1400 }), 1400);
}

#[test]
fn rfc1191_7_each_plateau_is_the_next_below_the_packet() {
    let far = Mtus { v6: 70_000, v4: 70_000 };
    for w in PLATEAUS.windows(2) {
        assert_eq!(mtu_to_v6(0, w[0], far), (u32::from(w[1]) + 20).max(1280));
        assert_eq!(mtu_to_v6(0, w[1] + 1, far), (u32::from(w[1]) + 20).max(1280));
    }
    assert_eq!(mtu_to_v6(0, 0, far), 1280);
}

#[test]
fn rfc8200_5_no_mtu_below_1280_is_told() {
    for told in 0..=u16::MAX {
        assert!((1280..=1520).contains(&mtu_to_v6(u32::from(told), 1500, Mtus { v6: 1520, v4: 1500 })));
    }
}

#[test]
fn rfc7915_5_2_pointers_lead_back_where_they_can() {
    for p in 0..=255u8 {
        let Some(six) = pointer_to_v6(p) else { continue };
        let back = pointer_to_v4(u32::from(six)).unwrap();
        assert!(back == p || matches!((p, back), (3, 2) | (13..=15, 12) | (17..=19, 16)), "{p} {six} {back}");
    }
}

fn new<A: Copy>(a: A) -> New<A> {
    New {
        src: a,
        dst: a,
        inner_src: a,
        inner_dst: a,
        port: 9,
        delta: 0x1234,
        class: 0,
        hop_limit: 3,
        id: 7,
        df: false,
        mtus: MTUS,
        router6: None,
    }
}

proptest! {
    /// Whatever is inside, with a checksum that is right: no panic, and no more than the limits.
    #[test]
    fn any_error_is_translated_or_dropped(
        kind in 1u8..5, code in 0u8..6, word: [u8; 4], inner in proptest::collection::vec(any::<u8>(), 0..1400),
        shape: bool,
    ) {
        let (a6, a4) = (Ipv6Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
        let mut out = [0xa5; SCRATCH];
        let mut b = vec![0u8; 40];
        b.extend([kind, code, 0, 0]);
        b.extend(word);
        b.extend(&inner);
        if shape && b.len() >= 60 {
            b[48] = 0x60;
            b[54] = 17;
        }
        let octets = (b.len() - 40) as u32;
        let sum = !checksum::fold(checksum::sum(&b[40..], checksum::pseudo6(a6, a6, 58, octets)));
        put16(&mut b, 42, sum);
        if let Ok(e) = parse6(&b, 40, a6, a6) {
            let n = to_v4(&b, &e, &new(a4), &mut out).unwrap();
            prop_assert!((56..=MAX_V4).contains(&n));
            prop_assert_eq!(usize::from(be16(&out, 2)), n);
            prop_assert_eq!(checksum::fold(checksum::sum(&out[20..n], 0)), 0xffff);
        }

        let kind = [3u8, 11, 12, 3][usize::from(kind - 1)];
        let mut b = vec![0u8; 20];
        b.extend([kind, code, 0, 0]);
        b.extend(word);
        b.extend(&inner);
        if shape && b.len() >= 60 {
            b[28] = 0x45;
            (b[34], b[35]) = (0, 0);
            b[37] = 17;
        }
        let sum = checksum::checksum(&b[20..]);
        put16(&mut b, 22, sum);
        if let Ok(e) = parse4(&b, 20) {
            let n = to_v6(&b, &e, &new(a6), &mut out).unwrap();
            prop_assert!((88..=MAX_V6).contains(&n));
            prop_assert_eq!(usize::from(be16(&out, 4)), n - 40);
            let pseudo = checksum::pseudo6(a6, a6, 58, (n - 40) as u32);
            prop_assert_eq!(checksum::fold(checksum::sum(&out[40..n], pseudo)), 0xffff);
        }
    }

    /// RFC 4884 4: the datagram before an extension is a whole number of words and at least 128 octets.
    #[test]
    fn the_body_stays_within_its_limits(
        head in 20usize..50, upper in 0usize..1500, extension in 0usize..1300, six: bool,
    ) {
        let (at, max, word) = if six { (48, MAX_V6, 8) } else { (28, MAX_V4, 4) };
        let mut out = [0xa5; SCRATCH];
        let (end, words) = body(&mut out, at, &vec![1; head], &vec![2; upper], &vec![3; extension], max, word);
        prop_assert!(end <= max && end >= at + head);
        if words == 0 {
            prop_assert_eq!(end, at + head + upper.min(max - at - head));
        } else {
            let datagram = usize::from(words) * word;
            prop_assert!(datagram >= MIN_DATAGRAM);
            prop_assert_eq!(end, at + datagram + extension);
            prop_assert!(out[at + datagram..end].iter().all(|o| *o == 3));
        }
    }
}
