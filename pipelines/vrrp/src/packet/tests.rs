use super::*;
use crate::testing::{Msg, ip};
use proptest::prelude::*;

fn around(src: &str, checksum4: Peer4Checksum) -> Around {
    let src = ip(src);
    Around { src, dst: group(src.is_ipv6()).0, checksum4 }
}

fn emitted(around: &Around, priority: u8, interval_cs: u16, addresses: &[&str]) -> Vec<u8> {
    let addresses: Vec<IpAddr> = addresses.iter().map(|a| ip(a)).collect();
    let mut b = vec![0xa5; octets(around.src.is_ipv6(), addresses.len())];
    emit(&mut b, around, 64, priority, interval_cs, &addresses).unwrap();
    b
}

const TENANT: [&str; 3] = ["fe80::1", "2001:db8:64::1", "2001:db8:64::53"];

#[test]
fn rfc9568_5_1_and_7_3_groups_and_their_link_layer_addresses() {
    assert_eq!(group(true), (ip("ff02::12"), "33:33:00:00:00:12".parse().unwrap()));
    assert_eq!(group(false), (ip("224.0.0.18"), "01:00:5e:00:00:12".parse().unwrap()));
}

#[test]
fn rfc9568_5_2_8_the_checksum_over_ipv6_has_a_pseudo_header() {
    let around = around("fe80::ff:fe00:6401", Peer4Checksum::Rfc9568);
    let b = emitted(&around, 200, 10, &TENANT);
    let head = [0x31, 64, 200, 3, 0, 10, 0x4a, 0x62];
    assert_eq!(b[..8], head);
    assert_eq!(b[8..24], "fe80::1".parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(b.len(), 8 + 48);
    let advert = Advert::parse(&b, &around).unwrap();
    assert!(advert.addresses().eq(TENANT.map(ip)));
    assert_eq!(advert.judge(), Ok(()));
    // From or to another address it is wrong.
    for (src, dst) in [("fe80::ff:fe00:6402", "ff02::12"), ("fe80::ff:fe00:6401", "ff02::13")] {
        let other = Around { src: ip(src), dst: ip(dst), ..around };
        assert_eq!(Advert::parse(&b, &other), Err(Refused::Checksum));
    }
}

#[test]
fn rfc9568_5_2_8_the_checksum_over_ipv4_is_of_the_message_alone() {
    let settled = around("192.0.2.3", Peer4Checksum::Rfc9568);
    let b = emitted(&settled, 100, 100, &["192.0.2.2"]);
    assert_eq!(b, [0x31, 64, 100, 1, 0, 100, 0xa8, 0x57, 192, 0, 2, 2]);
    // As keepalived has it (RFC 5798 5.2.8 read so), if configured.
    let keepalived = around("192.0.2.3", Peer4Checksum::PseudoHeader);
    let k = emitted(&keepalived, 100, 100, &["192.0.2.2"]);
    assert_eq!(k[6..8], [0x05, 0xc5]);
    // Neither takes the other's.
    assert!(Advert::parse(&b, &settled).is_ok() && Advert::parse(&k, &keepalived).is_ok());
    assert_eq!(Advert::parse(&b, &keepalived), Err(Refused::Checksum));
    assert_eq!(Advert::parse(&k, &settled), Err(Refused::Checksum));
}

#[test]
fn rfc9568_5_2_6_reserved_bits_are_sent_as_zero_and_ignored() {
    let around = around("fe80::3", Peer4Checksum::Rfc9568);
    let b = emitted(&around, 1, 0xffff, &TENANT);
    assert_eq!(b[4..6], [0x0f, 0xff], "12 bits of the interval, and nothing else");
    let m = Msg { interval: 0xf00a, ..Msg::new("fe80::3", 1, &TENANT) };
    assert_eq!(Advert::parse(&m.message(), &around).unwrap().interval_cs, 10);
}

// RFC 9568 7.1, 5.2.2, 5.2.5, 5.2.9.
#[test]
fn rfc9568_7_1_each_check_of_the_message_has_its_own_answer() {
    let around = around("fe80::3", Peer4Checksum::Rfc9568);
    let right = || Msg::new("fe80::3", 100, &TENANT);
    let parse = |m: Msg| {
        let b = m.message();
        let advert = Advert::parse(&b, &around)?;
        advert.judge()
    };
    assert_eq!(parse(right()), Ok(()));
    let rows = [
        (Msg { version_type: 0x21, ..right() }, Refused::Version2),
        (Msg { version_type: 0x41, ..right() }, Refused::Version),
        (Msg { version_type: 0x01, ..right() }, Refused::Version),
        (Msg { version_type: 0x32, ..right() }, Refused::Type),
        (Msg { version_type: 0x30, ..right() }, Refused::Type),
        (Msg { count: Some(4), ..right() }, Refused::Length),
        (Msg { count: Some(2), ..right() }, Refused::Length),
        (Msg { more: vec![0; 8], ..right() }, Refused::Length),
        (Msg { more: vec![0], ..right() }, Refused::Length),
        (Msg { wrong: 1, ..right() }, Refused::Checksum),
        (Msg { addresses: vec![], ..right() }, Refused::NoAddress),
        (Msg { interval: 0, ..right() }, Refused::ZeroInterval),
        (Msg { interval: 0xf000, ..right() }, Refused::ZeroInterval),
        (Msg::new("fe80::3", 100, &["2001:db8:64::1", "fe80::1"]), Refused::FirstAddress),
    ];
    for (m, want) in rows {
        assert_eq!(parse(m.clone()), Err(want), "{m:?}");
    }
    let b = right().message();
    for n in 0..b.len() {
        assert_eq!(Advert::parse(&b[..n], &around), Err(Refused::Length), "{n} octets");
    }
    // A version that is told apart is so by its first octet alone.
    assert_eq!(Advert::parse(&[0x21], &around), Err(Refused::Version2));
}

#[test]
fn rfc9568_7_1_the_checks_are_made_in_order() {
    // Everything is wrong: the first check decides, and once that is mended the next.
    let around = around("fe80::3", Peer4Checksum::Rfc9568);
    let mut m = Msg {
        version_type: 0x22,
        count: Some(9),
        wrong: 7,
        interval: 0,
        ..Msg::new("fe80::3", 100, &["2001:db8:64::1"])
    };
    let parse = |m: &Msg| Advert::parse(&m.message(), &around).and_then(|a| a.judge());
    assert_eq!(parse(&m), Err(Refused::Version2));
    m.version_type = 0x32;
    assert_eq!(parse(&m), Err(Refused::Type));
    m.version_type = 0x31;
    assert_eq!(parse(&m), Err(Refused::Length));
    m.count = None;
    assert_eq!(parse(&m), Err(Refused::Checksum));
    m.wrong = 0;
    assert_eq!(parse(&m), Err(Refused::ZeroInterval));
    m.interval = 1;
    assert_eq!(parse(&m), Err(Refused::FirstAddress));
    m.addresses[0] = ip("fe80::1");
    assert_eq!(parse(&m), Ok(()));
}

// RFC 9568 5.2.9.
#[test]
fn nothing_is_written_into_a_slice_of_another_length() {
    let around = around("192.0.2.3", Peer4Checksum::Rfc9568);
    for n in [0, 8, 11, 13, 100] {
        assert!(emit(&mut vec![0; n], &around, 1, 1, 1, &[ip("192.0.2.2")]).is_err(), "{n}");
    }
    // RFC 9568 5.2.9: one family; an address of the other one is not written.
    let mut b = vec![0; 12];
    emit(&mut b, &around, 1, 1, 1, &[ip("fe80::1"), ip("192.0.2.2")]).unwrap();
    assert_eq!((b[3], &b[8..]), (1, &[192, 0, 2, 2][..]));
    let many = vec![ip("192.0.2.2"); 256];
    assert!(emit(&mut vec![0; 8 + 4 * 256], &around, 1, 1, 1, &many).is_err(), "the count has eight bits");
}

fn any_address(ipv6: bool) -> impl Strategy<Value = IpAddr> {
    any::<u128>().prop_map(move |w| {
        if ipv6 { Ipv6Addr::from_bits(w).into() } else { Ipv4Addr::from_bits(w as u32).into() }
    })
}

proptest! {
    #[test]
    fn emit_then_parse(
        (src, dst, addresses) in any::<bool>().prop_flat_map(|six| {
            (any_address(six), any_address(six), proptest::collection::vec(any_address(six), 0..8))
        }),
        vrid: u8, priority: u8, interval_cs in 0u16..4096, pseudo: bool,
    ) {
        let checksum4 = if pseudo { Peer4Checksum::PseudoHeader } else { Peer4Checksum::Rfc9568 };
        let around = Around { src, dst, checksum4 };
        let mut b = vec![0xa5; octets(src.is_ipv6(), addresses.len())];
        emit(&mut b, &around, vrid, priority, interval_cs, &addresses).unwrap();
        let a = Advert::parse(&b, &around).unwrap();
        prop_assert_eq!((a.vrid, a.priority, a.interval_cs), (vrid, priority, interval_cs));
        prop_assert!(a.addresses().eq(addresses.iter().copied()));
        // The same as the octets of the test's own builder.
        let m = Msg {
            version_type: 0x31, vrid, priority, count: None, interval: interval_cs, addresses, src, dst,
            hops: 255, pseudo4: pseudo, more: vec![], wrong: 0,
        };
        let theirs = m.message();
        prop_assert_eq!(&b[..6], &theirs[..6]);
        prop_assert_eq!(&b[8..], &theirs[8..]);
        prop_assert_eq!(&b[6..8], &theirs[6..8]);
    }

    #[test]
    fn any_octet_that_changes_is_noticed_or_means_nothing(at in 0usize..56, bit in 0u8..8) {
        let around = around("fe80::3", Peer4Checksum::Rfc9568);
        let mut b = Msg::new("fe80::3", 100, &TENANT).message();
        b[at] ^= 1 << bit;
        prop_assert!(Advert::parse(&b, &around).is_err());
    }

    #[test]
    fn parse_never_panics(b in proptest::collection::vec(any::<u8>(), 0..100), six: bool, version: bool) {
        let around = around(if six { "fe80::3" } else { "192.0.2.3" }, Peer4Checksum::Rfc9568);
        let mut b = b;
        if let (true, Some(first)) = (version, b.first_mut()) {
            *first = 0x31;
        }
        if let Ok(a) = Advert::parse(&b, &around) {
            let _ = a.judge();
            prop_assert_eq!(a.addresses().count() * if six { 16 } else { 4 } + HEADER, b.len());
        }
    }
}
