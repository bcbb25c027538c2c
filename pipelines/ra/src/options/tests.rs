use super::*;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

/// An option as a host reads it, by plain code that shares nothing with the emitters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    LinkLayer(MacAddr),
    Mtu(u32),
    Prefix { prefix: Prefix6, on_link: bool, autonomous: bool, valid: u32, preferred: u32 },
    Route { prefix: Prefix6, preference: Preference, lifetime: u32 },
    DnsServers(Vec<Ipv6Addr>, u32),
    Search(Vec<String>, u32),
    Encrypted(EncryptedDns, u32),
    Pref64(Prefix6, u32),
    CaptivePortal(String),
}

fn be16(b: &[u8]) -> usize {
    usize::from(b[0]) << 8 | usize::from(b[1])
}

fn be32(b: &[u8]) -> u32 {
    u32::from_be_bytes(b[..4].try_into().unwrap())
}

fn addr(b: &[u8]) -> Ipv6Addr {
    let mut all = [0; 16];
    all[..b.len().min(16)].copy_from_slice(&b[..b.len().min(16)]);
    all.into()
}

fn read_name(b: &[u8]) -> (String, &[u8]) {
    let (mut labels, mut rest) = (Vec::new(), b);
    while rest[0] != 0 {
        let n = usize::from(rest[0]);
        assert!(n < 64, "a compressed name");
        labels.push(String::from_utf8(rest[1..=n].to_vec()).unwrap());
        rest = &rest[n + 1..];
    }
    (labels.join("."), &rest[1..])
}

fn read_encrypted(b: &[u8]) -> EncryptedDns {
    let part = |b: &'_ [u8]| (b[2..2 + be16(b)].to_vec(), b[2 + be16(b)..].to_vec());
    let (wire, rest) = part(b);
    let (name, end) = read_name(&wire);
    assert!(end.is_empty(), "the name does not fill its field");
    let priority = 0;
    let nothing =
        EncryptedDns { priority, name, addresses: vec![], alpn: vec![], port: None, doh_path: None };
    if rest.iter().all(|o| *o == 0) {
        return nothing;
    }
    let (addresses, rest) = part(&rest);
    assert_eq!(addresses.len() % 16, 0);
    let addresses = addresses.chunks(16).map(addr).collect();
    let (params, padding) = part(&rest);
    assert!(padding.iter().all(|o| *o == 0) && padding.len() < 8);
    let mut dns = EncryptedDns { addresses, ..nothing };
    let (mut rest, mut last) = (&params[..], None);
    while !rest.is_empty() {
        let key = be16(rest);
        assert!(last < Some(key), "RFC 9460 2.2: keys in order, each once");
        last = Some(key);
        let value = &rest[4..4 + be16(&rest[2..])];
        match key {
            1 => {
                let mut ids = value;
                while !ids.is_empty() {
                    let n = usize::from(ids[0]);
                    dns.alpn.push(String::from_utf8(ids[1..=n].to_vec()).unwrap());
                    ids = &ids[n + 1..];
                }
            }
            3 => dns.port = Some(u16::try_from(be16(value)).unwrap()),
            7 => dns.doh_path = Some(String::from_utf8(value.to_vec()).unwrap()),
            _ => panic!("parameter {key}"),
        }
        rest = &rest[4 + value.len()..];
    }
    dns
}

/// Reads all options of a message, as a host does.
pub(crate) fn read(mut b: &[u8]) -> Vec<Seen> {
    let mut all = Vec::new();
    while !b.is_empty() {
        let units = usize::from(b[1]);
        assert!(units > 0);
        let (o, rest) = b.split_at(units * 8);
        b = rest;
        let body = &o[2..];
        all.push(match o[0] {
            1 => Seen::LinkLayer(MacAddr(o[2..8].try_into().unwrap())),
            5 => {
                assert_eq!(o[2..4], [0, 0]);
                Seen::Mtu(be32(&o[4..]))
            }
            3 => {
                assert_eq!((units, o[3] & 0x3f, be32(&o[12..])), (4, 0, 0));
                Seen::Prefix {
                    prefix: Prefix6::new(addr(&o[16..]), o[2]).unwrap(),
                    on_link: o[3] & 0x80 != 0,
                    autonomous: o[3] & 0x40 != 0,
                    valid: be32(&o[4..]),
                    preferred: be32(&o[8..]),
                }
            }
            24 => {
                let needed = if o[2] == 0 {
                    1
                } else if o[2] <= 64 {
                    2
                } else {
                    3
                };
                assert_eq!((units, o[3] & 0xe7), (needed, 0));
                Seen::Route {
                    prefix: Prefix6::new(addr(&o[8..]), o[2]).unwrap(),
                    preference: [Preference::Medium, Preference::High, Preference::Medium, Preference::Low]
                        [usize::from(o[3] >> 3 & 3)],
                    lifetime: be32(&o[4..]),
                }
            }
            25 => {
                assert!(units >= 3 && units % 2 == 1 && be16(body) == 0);
                Seen::DnsServers(o[8..].chunks(16).map(addr).collect(), be32(&o[4..]))
            }
            31 => {
                assert!(units >= 2 && be16(body) == 0);
                let (mut names, mut rest) = (Vec::new(), &o[8..]);
                while rest.iter().any(|o| *o != 0) {
                    let (name, after) = read_name(rest);
                    names.push(name);
                    rest = after;
                }
                assert!(rest.len() < 8);
                Seen::Search(names, be32(&o[4..]))
            }
            37 => {
                let end = body.iter().rposition(|o| *o != 0).unwrap() + 1;
                assert!(body.len() - end < 8);
                Seen::CaptivePortal(String::from_utf8(body[..end].to_vec()).unwrap())
            }
            38 => {
                assert_eq!(units, 2);
                let word = be16(body);
                let len = [96, 64, 56, 48, 40, 32][word & 7];
                Seen::Pref64(Prefix6::new(addr(&o[4..16]), len).unwrap(), (word >> 3) as u32 * 8)
            }
            144 => {
                let priority = u16::try_from(be16(body)).unwrap();
                Seen::Encrypted(EncryptedDns { priority, ..read_encrypted(&o[8..]) }, be32(&o[4..]))
            }
            kind => panic!("option {kind}"),
        });
    }
    all
}

fn p(text: &str) -> Prefix6 {
    text.parse().unwrap()
}

/// The octets of some hexadecimal digits.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|d| (d[0] << 4 | d[1]) as u8).collect()
}

fn resolver() -> EncryptedDns {
    EncryptedDns {
        priority: 1,
        name: "dns.example".to_owned(),
        addresses: vec!["2001:db8:64::53".parse().unwrap()],
        alpn: vec!["dot".to_owned(), "h2".to_owned()],
        port: Some(853),
        doh_path: Some("/q{?dns}".to_owned()),
    }
}

#[test]
fn rfc4861_4_6_link_layer_prefix_and_mtu_as_they_stand_on_the_wire() {
    let mac = MacAddr([2, 0, 0, 0, 0x64, 1]);
    assert_eq!(NdOption::LinkLayer(mac).emit().unwrap(), hex("01 01 02 00 00 00 64 01"));
    assert_eq!(NdOption::Mtu(9000).emit().unwrap(), hex("05 01 00 00 00 00 23 28"));
    let prefix = NdOption::Prefix {
        prefix: p("2001:db8:64::/64"),
        on_link: true,
        autonomous: false,
        valid: 2_592_000,
        preferred: 604_800,
    };
    let want = hex("03 04 40 80 00278d00 00093a80 00000000 20010db8 00640000 00000000 00000000");
    assert_eq!(prefix.emit().unwrap(), want);
}

#[test]
fn rfc4191_2_1_the_codes_of_the_preferences() {
    let bits = [Preference::High, Preference::Medium, Preference::Low].map(preference_bits);
    assert_eq!(bits, [0b01, 0b00, 0b11]);
}

#[test]
fn rfc4191_2_3_a_route_has_as_many_octets_as_its_prefix_needs() {
    let route = |prefix, preference| {
        NdOption::Route { prefix: p(prefix), preference, lifetime: 1800 }.emit().unwrap()
    };
    assert_eq!(route("::/0", Preference::Low), hex("18 01 00 18 00000708"));
    assert_eq!(route("2001:db8::/32", Preference::High), hex("18 02 20 08 00000708 20010db8 00000000"));
    assert_eq!(route("2001:db8:64::/64", Preference::Medium), hex("18 02 40 00 00000708 20010db8 00640000"));
    let long = hex("18 03 60 00 00000708 20010db8 0064ff9b 00000000 00000000");
    assert_eq!(route("2001:db8:64:ff9b::/96", Preference::Medium), long);
}

#[test]
fn rfc8106_5_1_servers_share_a_lifetime() {
    let servers: [Ipv6Addr; 2] = ["2001:db8:64::53".parse().unwrap(), "fe80::53".parse().unwrap()];
    let got = NdOption::DnsServers { servers: &servers, lifetime: 1800 }.emit().unwrap();
    let want = "19 05 0000 00000708 20010db8 00640000 00000000 00000053 fe800000 00000000 00000000 00000053";
    assert_eq!(got, hex(want));
    assert_eq!(NdOption::DnsServers { servers: &[], lifetime: 1800 }.emit(), None);
}

#[test]
fn rfc8106_5_2_names_are_labels_one_after_the_other_padded_with_zeros() {
    let names = ["example".to_owned(), "a.example.".to_owned()];
    let got = NdOption::Search { names: &names, lifetime: u32::MAX }.emit().unwrap();
    // Nine octets, eleven octets, and four of padding.
    let want = "1f 04 0000 ffffffff 07 6578616d706c65 00 01 61 07 6578616d706c65 00 00000000";
    assert_eq!(got, hex(want));
    assert_eq!(NdOption::Search { names: &[], lifetime: 1 }.emit(), None);
}

#[test]
fn rfc1035_3_1_names_that_are_none_are_not_written() {
    let long = "a".repeat(63);
    for good in ["a", "a.", &long, &[&long[..]; 3].join("."), "xn--bcher-kva.example"] {
        assert!(name(good).is_some(), "{good}");
    }
    let whole = [&long[..], &long, &long, &"b".repeat(61)].join(".");
    assert_eq!(name(&whole).map(|wire| wire.len()), Some(255));
    for bad in ["", ".", "a..b", ".a", &"a".repeat(64), &format!("{whole}b"), "bücher.example"] {
        assert_eq!(name(bad), None, "{bad}");
    }
}

#[test]
fn rfc8781_4_lifetime_and_length_share_a_word() {
    let option = NdOption::Pref64 { prefix: p("2001:db8:64:ff9b::/96"), scaled: 225 };
    assert_eq!(option.emit().unwrap(), hex("26 02 0708 20010db8 0064ff9b 00000000"));
    for (len, code) in [(96, 0), (64, 1), (56, 2), (48, 3), (40, 4), (32, 5)] {
        let prefix = Prefix6::containing("2001:db8:64:ff00::".parse().unwrap(), len).unwrap();
        let octets = NdOption::Pref64 { prefix, scaled: 8191 }.emit().unwrap();
        assert_eq!(octets[2..4], [0xff, 0xf8 | code]);
    }
    assert_eq!(NdOption::Pref64 { prefix: p("2001:db8::/33"), scaled: 1 }.emit(), None);
}

#[test]
fn rfc8781_4_1_lifetimes_are_rounded_up_to_eight_seconds() {
    let rows = [
        (0, 0),
        (1, 1),
        (7, 1),
        (8, 1),
        (9, 2),
        (1800, 225),
        (65_528, 8191),
        (65_535, 8191),
        (1 << 40, 8191),
    ];
    for (seconds, want) in rows {
        assert_eq!(scaled(Duration::from_secs(seconds)), want, "{seconds} s");
    }
}

#[test]
fn rfc8910_2_3_the_uri_is_padded_with_zeros() {
    let got = NdOption::CaptivePortal("https://p.example/").emit().unwrap();
    assert_eq!(got, hex("25 03 68747470733a2f2f702e6578616d706c652f 00000000"));
    assert_eq!(NdOption::CaptivePortal("").emit(), None);
}

#[test]
fn rfc9463_6_1_name_addresses_and_parameters() {
    let dns = resolver();
    let got = NdOption::Encrypted { dns: &dns, lifetime: 1800 }.emit().unwrap();
    let want = "90 09 0001 00000708 000d 03646e73 076578616d706c65 00
        0010 20010db8 00640000 00000000 00000053
        001d 0001 0007 03646f74 026832 0003 0002 0355 0007 0008 2f717b3f646e737d";
    assert_eq!(got, hex(want));
}

#[test]
fn rfc9463_3_1_6_a_name_alone_has_no_other_fields() {
    let dns = EncryptedDns { addresses: vec![], alpn: vec![], port: None, doh_path: None, ..resolver() };
    let got = NdOption::Encrypted { dns: &dns, lifetime: 1800 }.emit().unwrap();
    assert_eq!(got, hex("90 03 0001 00000708 000d 03646e73 076578616d706c65 00 00"));
}

#[test]
fn an_option_longer_than_255_units_is_not_written() {
    let most = "u".repeat(MAX_OCTETS - 2);
    assert_eq!(NdOption::CaptivePortal(&most).emit().map(|o| o.len()), Some(MAX_OCTETS));
    assert_eq!(NdOption::CaptivePortal(&format!("{most}u")).emit(), None);
    let servers = vec![Ipv6Addr::LOCALHOST; 128];
    assert!(NdOption::DnsServers { servers: &servers[..127], lifetime: 0 }.emit().is_some());
    assert_eq!(NdOption::DnsServers { servers: &servers, lifetime: 0 }.emit(), None);
}

/// Emits, checks what all options have in common, and reads it back.
fn once(option: &NdOption<'_>) -> Result<Seen, TestCaseError> {
    let octets = option.emit().ok_or_else(|| TestCaseError::fail("not written"))?;
    prop_assert_eq!(octets.len() % 8, 0);
    prop_assert_eq!(octets.len() / 8, usize::from(octets[1]));
    let mut all = read(&octets);
    prop_assert_eq!(all.len(), 1);
    Ok(all.remove(0))
}

fn names() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-z0-9-]{1,20}", 1..5).prop_map(|labels| labels.join("."))
}

fn prefixes() -> impl Strategy<Value = Prefix6> {
    (any::<u128>(), 0u8..=128).prop_map(|(a, len)| Prefix6::containing(a.into(), len).unwrap())
}

pub(crate) fn resolvers() -> impl Strategy<Value = EncryptedDns> {
    let addresses = proptest::collection::vec(any::<u128>().prop_map(Ipv6Addr::from), 1..5);
    let alpn = proptest::collection::vec("[a-z0-9]{1,8}", 1..4);
    let path = proptest::option::of("/[a-z]{0,12}\\{\\?dns\\}");
    (1u16.., names(), addresses, alpn, proptest::option::of(1u16..), path).prop_map(
        |(priority, name, addresses, alpn, port, doh_path)| EncryptedDns {
            priority,
            name,
            addresses,
            alpn,
            port,
            doh_path,
        },
    )
}

proptest! {
    #[test]
    fn emit_then_parse(
        prefix in prefixes(), on_link: bool, autonomous: bool, valid: u32, preferred: u32, lifetime: u32, mtu: u16,
        mac: [u8; 6], servers in proptest::collection::vec(any::<u128>().prop_map(Ipv6Addr::from), 1..100),
        search in proptest::collection::vec(names(), 1..8), dns in resolvers(), scaled in 0u16..8192,
        uri in "[a-z:/.]{1,200}", preference in 0usize..3,
    ) {
        let preference = [Preference::Low, Preference::Medium, Preference::High][preference];
        prop_assert_eq!(once(&NdOption::LinkLayer(MacAddr(mac)))?, Seen::LinkLayer(MacAddr(mac)));
        prop_assert_eq!(once(&NdOption::Mtu(mtu))?, Seen::Mtu(u32::from(mtu)));
        let option = NdOption::Prefix { prefix, on_link, autonomous, valid, preferred };
        prop_assert_eq!(once(&option)?, Seen::Prefix { prefix, on_link, autonomous, valid, preferred });
        let option = NdOption::Route { prefix, preference, lifetime };
        prop_assert_eq!(once(&option)?, Seen::Route { prefix, preference, lifetime });
        prop_assert_eq!(once(&NdOption::DnsServers { servers: &servers, lifetime })?, Seen::DnsServers(servers, lifetime));
        prop_assert_eq!(once(&NdOption::Search { names: &search, lifetime })?, Seen::Search(search, lifetime));
        prop_assert_eq!(once(&NdOption::Encrypted { dns: &dns, lifetime })?, Seen::Encrypted(dns, lifetime));
        prop_assert_eq!(once(&NdOption::CaptivePortal(&uri))?, Seen::CaptivePortal(uri));
        for len in [32, 40, 48, 56, 64, 96] {
            let prefix = Prefix6::containing(prefix.address(), len).unwrap();
            prop_assert_eq!(once(&NdOption::Pref64 { prefix, scaled })?, Seen::Pref64(prefix, u32::from(scaled) * 8));
        }
    }

    /// smoltcp reads the first three as well.
    #[test]
    fn smoltcp_reads_what_a_host_reads(prefix in prefixes(), on_link: bool, autonomous: bool, valid: u32, preferred: u32) {
        let octets = NdOption::Prefix { prefix, on_link, autonomous, valid, preferred }.emit().unwrap();
        let parsed = NdiscOptionRepr::parse(&NdiscOption::new_checked(&octets[..]).unwrap()).unwrap();
        let NdiscOptionRepr::PrefixInformation(info) = parsed else { panic!("{parsed:?}") };
        prop_assert_eq!((info.prefix, info.prefix_len), (prefix.address(), prefix.len()));
        prop_assert_eq!(info.flags.contains(NdiscPrefixInfoFlags::ON_LINK), on_link);
        prop_assert_eq!(info.flags.contains(NdiscPrefixInfoFlags::ADDRCONF), autonomous);
        prop_assert_eq!((info.valid_lifetime.secs(), info.preferred_lifetime.secs()), (u64::from(valid), u64::from(preferred)));
    }
}
