use super::*;
use crate::{check_packet, mac};

#[test]
fn every_builder_makes_packets_that_the_checker_takes() {
    let six = ip6("2001:db8::1", "2001:db8::2").traffic_class(0xb8).flow_label(0xabcde).hop_limit(3);
    let four = ip4("192.0.2.1", "198.51.100.1").tos(0xb9).id(7).ttl(3);
    let segment = tcp(1, 2).syn().seq(3).ack(4).window(5).options(&[2, 4, 5, 0xb4]).payload(b"odd");
    for p in [
        six.udp(1, 2, b"abc"),
        six.tcp(&segment),
        six.echo_request(1, 2, b"abc"),
        six.echo_reply(1, 2, b"abcd"),
        six.ns("2001:db8::2", Some(mac(1))),
        six.na("2001:db8::2", true, false, true, Some(mac(1))),
        six.rs(None),
        six.icmp_error(2, 0, 1280, &six.udp(1, 2, b"abc")),
        six.clone().hop_by_hop(&[5, 2, 0, 0]).dest_options(&[1, 0]).auth(1, 2, &[9; 12]).udp(1, 2, b"abc"),
        six.clone()
            .routing(2, 1, &[0, 0, 0, 0, 0x20, 1, 13, 184, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9])
            .final_dst("2001:db8::9")
            .udp(1, 2, b"abc"),
        six.fragment(0, false, 9).udp(1, 2, b"abc"),
        four.udp(1, 2, b"abc"),
        four.udp_without_checksum(1, 2, b"abc"),
        four.tcp(&segment),
        four.clone().options(&[1, 1, 1, 0]).echo_request(1, 2, b"abc"),
        four.echo_reply(1, 2, b"abc"),
        four.icmp_error(3, 4, 1280, &four.udp(1, 2, b"abc")),
    ] {
        check_packet(&p).unwrap();
    }
}

#[test]
fn fields_stand_where_the_rfcs_put_them() {
    let p = ip6("2001:db8::1", "2001:db8::2")
        .traffic_class(0xb8)
        .flow_label(0xabcde)
        .hop_limit(3)
        .udp(1, 2, b"abc");
    assert_eq!(p[..8], [0x6b, 0x8a, 0xbc, 0xde, 0, 11, 17, 3]);
    let p = ip4("192.0.2.1", "198.51.100.1").tos(0xb9).id(7).ttl(3).udp(1, 2, b"abc");
    assert_eq!(p[..10], [0x45, 0xb9, 0, 31, 0, 7, 0x40, 0, 3, 17]);
    assert_eq!(p[12..28], [192, 0, 2, 1, 198, 51, 100, 1, 0, 1, 0, 2, 0, 11, p[26], p[27]]);
    let ns = ip6("fe80::1", "ff02::1:ff00:2").ns("fe80::2", Some(mac(5)));
    assert_eq!((ns[7], ns[40], ns[41]), (255, 135, 0));
    assert_eq!(ns[48..64], "fe80::2".parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(ns[64..], [1, 1, 2, 0, 0, 0, 0, 5]);
    let a = arp_request(mac(5), "192.0.2.1", "192.0.2.2");
    assert_eq!(a[..8], [0, 1, 8, 0, 6, 4, 0, 1]);
    assert_eq!(a[8..], [2, 0, 0, 0, 0, 5, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2]);
}

#[test]
fn frames_have_their_tags_and_ethertype() {
    let p = ip4("192.0.2.1", "198.51.100.1").udp(1, 2, b"");
    let plain = eth(mac(1), mac(2)).carry(&p);
    assert_eq!(plain[..14], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    assert_eq!(plain[14..], p);
    let tagged = eth(mac(1), mac(2)).vlan(100).carry(&ip6("::1", "::2").udp(1, 2, b""));
    assert_eq!(tagged[12..18], [0x81, 0, 0, 100, 0x86, 0xdd]);
    let twice =
        eth(mac(1), mac(2)).vlan(7).vlan(8).carry(&arp_reply(mac(1), "192.0.2.1", mac(2), "192.0.2.2"));
    assert_eq!(twice[12..22], [0x81, 0, 0, 7, 0x81, 0, 0, 8, 8, 6]);
    assert_eq!(pad60(plain).len(), 60);
}
