use super::*;
use crate::{fragments6, ip4, ip6, poke, tcp};
use proptest::prelude::*;

fn refused(b: &[u8], because: &str) {
    let e = check_packet(b).expect_err(because);
    assert!(e.contains(because), "{e}");
}

#[test]
fn lengths_that_lie_are_refused() {
    let six = ip6("2001:db8::1", "2001:db8::2");
    let four = ip4("192.0.2.1", "198.51.100.1");
    let u6 = six.udp(1, 2, b"abcd");
    refused(&u6[..51], "payload length");
    refused(&[&u6[..], &[0]].concat(), "payload length");
    refused(&u6[..39], "no IPv6 header");
    refused(&poke(u6.clone(), 44, &[0, 11]), "UDP length");
    refused(&poke(u6, 0, &[0x50]), "version 5");
    refused(&four.udp(1, 2, b"abcd")[..31], "total length");
    refused(&six.tcp(&tcp(1, 2))[..59], "payload length");
    refused(&poke(six.tcp(&tcp(1, 2)), 52, &[0x60]), "TCP header of 24");
    refused(&six.clone().dest_options(&[]).raw(17, b"")[..41], "payload length");
    refused(&poke(six.clone().dest_options(&[]).raw(17, b""), 41, &[1]), "goes beyond");
    refused(&[], "no octets");
    refused(&six.fragment(0, true, 1).raw(17, &[0; 9]), "not the last");
}

#[test]
fn rfc8200_8_1_a_zero_udp_checksum_is_refused_over_ipv6_alone() {
    refused(&poke(ip6("2001:db8::1", "2001:db8::2").udp(1, 2, b"abcd"), 46, &[0, 0]), "checksum zero");
    check_packet(&ip4("192.0.2.1", "198.51.100.1").udp_without_checksum(1, 2, b"abcd")).unwrap();
}

#[test]
fn rfc4443_2_4_c_an_error_is_no_larger_than_the_least_mtu() {
    let about = ip6("2001:db8::2", "2001:db8::1").udp(1, 2, &[0; 1400]);
    let error = |n: usize| ip6("2001:db8::1", "2001:db8::2").icmp_error(1, 0, 0, &about[..n]);
    check_packet(&error(1232)).unwrap();
    refused(&error(1233), "2.4(c)");
    let about = ip4("192.0.2.1", "198.51.100.1").udp(1, 2, &[0; 1000]);
    let error = |n: usize| ip4("198.51.100.1", "192.0.2.1").icmp_error(3, 1, 0, &about[..n]);
    check_packet(&error(548)).unwrap();
    check_packet(&error(28)).unwrap();
    refused(&error(549), "4.3.2.3");
    refused(&error(27), "only 27 octets");
}

#[test]
fn the_packet_inside_an_error_is_judged_too() {
    let about = ip4("192.0.2.1", "198.51.100.1").udp(1, 2, b"abcd");
    let four = ip4("198.51.100.1", "192.0.2.1");
    refused(
        &four.icmp_error(3, 1, 0, &poke(about.clone(), 8, &[1])),
        "inside the ICMP error: IPv4 header checksum",
    );
    let wrong = four.icmp_error(3, 1, 0, &poke(about.clone(), 30, &[1]));
    refused(&wrong, "inside the ICMP error: UDP checksum");
    check_packet_with(&wrong, Inner::Header).unwrap();
    let six = ip6("2001:db8::1", "2001:db8::2");
    refused(&six.icmp_error(1, 0, 0, &about), "IPv4 within IPv6");
    refused(&four.raw(58, &[0; 8]), "protocol 58 over IPv4");
}

#[test]
fn a_description_names_what_matters() {
    let p = ip6("2001:db8::1", "2001:db8::2").tcp(&tcp(1000, 443).syn());
    assert_eq!(describe(&p), "IPv6 2001:db8::1 > 2001:db8::2 hop 64 TCP 1000 > 443 syn");
    let f = fragments6(&ip6("2001:db8::1", "2001:db8::2").udp(1, 2, &[0; 2000]), 1280, 7);
    assert!(describe(&f[1]).contains("frag 1232+last id 0x7"), "{}", describe(&f[1]));
    assert!(describe(&poke(p, 56, &[0, 0])).contains("[bad: TCP checksum"));
}

proptest! {
    #[test]
    fn one_wrong_octet_behind_the_addresses_never_passes(at in 40usize..71, by in 1u8..=255) {
        let good = ip6("2001:db8::1", "2001:db8::2").udp(1000, 2000, b"twenty-three of octets!");
        prop_assert!(check_packet(&good).is_ok());
        let bad = good[at] ^ by;
        prop_assert!(check_packet(&poke(good, at, &[bad])).is_err());
    }

    #[test]
    fn one_wrong_octet_of_an_ipv4_packet_never_passes(at in 0usize..51, by in 1u8..=255) {
        let good = ip4("192.0.2.1", "198.51.100.1").id(3).udp(1000, 2000, b"twenty-three of octets!");
        prop_assert!(check_packet(&good).is_ok());
        let bad = good[at] ^ by;
        prop_assert!(check_packet(&poke(good, at, &[bad])).is_err());
    }

    #[test]
    fn no_octets_make_it_panic(b: Vec<u8>) {
        let _ = check_packet(&b);
        let _ = describe(&b);
    }
}
