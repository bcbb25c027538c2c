use super::super::tests::{however_cut, sniffed, sniffer};
use super::super::{HELLO_OCTETS, Progress, Sniffer};
use super::*;
use crate::Config;
use causeway_testkit::hello::{Hello, extension, message, record, records, vector8, vector16};
use proptest::prelude::*;

fn named(name: &str) -> ClientHello {
    ClientHello { server_name: Some(name.into()), ..ClientHello::default() }
}

/// SNI with this list, as it is.
fn with_list(list: &[u8]) -> Sniffed {
    sniffed(&Hello::default().with(extension::SERVER_NAME, list).octets())
}

#[test]
fn rfc6066_3_a_hello_is_found_by_its_name_however_it_is_cut() {
    let hello = Hello::named("Site1.Example").octets();
    assert_eq!(however_cut(&hello), Sniffed::Tls(named("site1.example")));
    // What comes behind it (early data) is the server's.
    let early = [&hello[..], &record(20, &[1]), &record(23, &[5; 99])].concat();
    assert_eq!(however_cut(&early), Sniffed::Tls(named("site1.example")));
}

#[test]
fn rfc8446_4_2_8_a_browsers_hello_with_a_post_quantum_share_is_read() {
    let hello = Hello::browser("www.site1.example");
    let octets = hello.octets();
    assert!((1700..2000).contains(&octets.len()), "{}", octets.len());
    let expected = ClientHello {
        server_name: Some("www.site1.example".into()),
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        encrypted: false,
    };
    assert_eq!(however_cut(&octets), Sniffed::Tls(expected.clone()));
    // RFC 9849 6.1: with an inner hello (or the pretence of one), the name is the outer one's.
    let outer = hello.with(extension::ENCRYPTED_CLIENT_HELLO, &[0; 200]).octets();
    assert_eq!(however_cut(&outer), Sniffed::Tls(ClientHello { encrypted: true, ..expected }));
}

#[test]
fn sniffing_a_browsers_hello_copies_no_more_than_names() {
    let octets = Hello::browser("www.site1.example").octets();
    let mut found = Sniffed::More;
    let info = allocation_counter::measure(|| found = sniffed(&octets));
    assert!(matches!(found, Sniffed::Tls(_)), "{found:?}");
    // Cipher suites, compression methods, two lists and what they hold, the name: of 1,800 octets, not 300 at a time.
    assert!(info.count_total <= 10, "{info:?}");
    assert!(info.bytes_max <= 512, "{info:?}");
    // A client that sends nothing, or not enough, costs nothing at all.
    let info = allocation_counter::measure(|| {
        let mut sniffer = sniffer(true, true);
        assert!((0..octets.len()).all(|n| sniffer.more(&octets[..n]) == Sniffed::More));
    });
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[test]
fn rfc8446_5_1_records_cut_a_hello_anywhere() {
    let hello = Hello::browser("site1.example");
    let expected = sniffed(&hello.octets());
    assert!(matches!(expected, Sniffed::Tls(_)));
    let message = hello.message();
    for sizes in
        [&[1][..], &[1, 2000], &[3, 1, 2000], &[4, 2000], &[5, 7, 11], &[1400], &[message.len() - 1, 1]]
    {
        assert_eq!(however_cut(&records(&message, sizes)), expected, "{sizes:?}");
    }
    for n in 1..message.len() {
        assert_eq!(sniffed(&records(&message, &[n, 1 << 14])), expected, "cut at {n}");
    }
}

#[test]
fn rfc8446_5_1_empty_and_oversized_records_and_others_between_are_refused() {
    let hello = Hello::named("site1.example").message();
    let (a, b) = (record(22, &hello[..20]), record(22, &hello[20..]));
    let bad = Sniffed::Bad(Bad::Hello);
    assert_eq!(however_cut(&[&record(22, &[])[..], &a, &b].concat()), bad);
    assert_eq!(however_cut(&[&a[..], &record(22, &[]), &b].concat()), bad);
    assert_eq!(however_cut(&[&a[..], &record(21, &[1, 0]), &b].concat()), bad);
    assert_eq!(however_cut(&[&a[..], &[22, 2, 1]].concat()), bad);
    let huge = Hello::named("site1.example").with(21, &vec![0; 20_000]).message();
    assert!(matches!(sniffed(&records(&huge, &[1 << 14])), Sniffed::Tls(_)));
    assert_eq!(sniffed(&records(&huge, &[(1 << 14) + 1])), bad);
    // Not a ClientHello, whatever comes.
    assert_eq!(however_cut(&record(22, &[2])), bad);
    assert_eq!(however_cut(&record(22, &message(1, &[]))), bad);
}

#[test]
fn a_hello_of_64_kib_is_read_and_a_longer_one_is_refused_when_it_says_so() {
    let with = |octets: usize| {
        let hello = Hello::named("site1.example").with(21, &[0; 40_000]).message().len();
        Hello::named("site1.example").with(21, &[0; 40_000]).with(22, &vec![0; octets - hello - 4]).message()
    };
    // 65,536 octets in five records.
    let longest = with(HELLO_OCTETS - 4 * RECORD_HEADER);
    let octets = records(&longest, &[1 << 14]);
    assert_eq!(octets.len(), HELLO_OCTETS);
    assert_eq!(sniffed(&octets), Sniffed::Tls(named("site1.example")));
    let octets = records(&with(longest.len() + 1), &[1 << 14]);
    assert_eq!(sniffed(&octets[..HELLO_OCTETS - 1]), Sniffed::More);
    assert_eq!(sniffed(&octets[..HELLO_OCTETS]), Sniffed::Bad(Bad::HelloTooLong));
    assert_eq!(sniffed(&octets), Sniffed::Bad(Bad::HelloTooLong));
    // One that says that it is longer is not waited for.
    assert_eq!(however_cut(&record(22, &[1, 1, 0, 0])), Sniffed::Bad(Bad::HelloTooLong));
    assert_eq!(however_cut(&record(22, &[1, 0xff, 0xff, 0xff])), Sniffed::Bad(Bad::HelloTooLong));
    // The configuration's limit holds if it is lower, whatever else has come.
    let mut limits = Config::default().limits;
    limits.hello_octets = 1000;
    let octets = Hello::browser("site1.example").octets();
    assert_eq!(Sniffer::new(true, true, &limits).more(&octets), Sniffed::Bad(Bad::HelloTooLong));
    // One octet a record: 65,536 octets hold a sixth of that.
    let octets = records(&with(60_000), &[1]);
    assert_eq!(sniffed(&octets), Sniffed::Bad(Bad::HelloTooLong));
}

#[test]
fn a_hello_sent_octet_by_octet_in_records_of_one_octet_is_looked_at_once() {
    let octets = records(&Hello::named("site1.example").with(21, &[0; 10_000]).message(), &[1]);
    let mut sniffer = sniffer(true, false);
    let mut steps = 0;
    for n in 0..octets.len() {
        assert_eq!(sniffer.more(&octets[..n]), Sniffed::More);
        let Progress::Tls(records) = sniffer.progress else { continue };
        // Never behind by more than the record that is being sent.
        assert!(n - records.record <= RECORD_HEADER, "{n}");
        steps += 1;
    }
    assert_eq!(steps, octets.len() - 1);
    assert_eq!(sniffer.more(&octets), Sniffed::Tls(named("site1.example")));
}

#[test]
fn rfc8446_4_2_lying_lengths_and_extensions_that_come_twice_are_refused() {
    let bad = Sniffed::Bad(Bad::Hello);
    let hello = Hello::browser("site1.example");
    // Each length in the hello one too small and one too large, the message's own after that.
    let message = hello.message();
    let body = 4 + 2 + 32;
    let lengths = [body, body + 33, body + 33 + 2 + 12, body + 33 + 2 + 12 + 2];
    for at in lengths {
        for change in [1_u8, 0xff] {
            let mut lying = message.clone();
            // Of the two octets of a longer length, the lower one.
            let low = if at == body || at == lengths[2] { at } else { at + 1 };
            lying[low] = lying[low].wrapping_add(change);
            assert_eq!(sniffed(&records(&lying, &[1 << 14])), bad, "length at {at}, {change}");
        }
    }
    for twice in [extension::SERVER_NAME, extension::ALPN, extension::ENCRYPTED_CLIENT_HELLO] {
        let data = hello
            .extensions
            .iter()
            .find(|(kind, _)| *kind == twice)
            .map_or(vec![0], |(_, data)| data.clone());
        let hello = Hello::default().with(twice, &data).with(twice, &data);
        assert_eq!(sniffed(&hello.octets()), bad, "{twice}");
    }
    // Cut anywhere, with lengths that say that this is all.
    let body = &message[4..];
    for n in 0..body.len() {
        let cut = sniffed(&records(&causeway_testkit::hello::message(1, &body[..n]), &[1 << 14]));
        // Only the message without any extension is one, too.
        let whole = n == 2 + 32 + 33 + 14 + 2;
        assert_eq!(cut, if whole { Sniffed::Tls(ClientHello::default()) } else { bad.clone() }, "cut at {n}");
    }
}

#[test]
fn thousands_of_extensions_are_passed_over() {
    let mut hello = Hello::default();
    for n in 0..10_000 {
        hello = hello.with(0x1000 + n, &[]);
    }
    assert_eq!(sniffed(&hello.server_name(b"site1.example").octets()), Sniffed::Tls(named("site1.example")));
}

#[test]
fn rfc6066_3_names_that_are_none_are_refused() {
    let long = format!("{}.example", ["abcdefghi"; 25].join("."));
    let label = "a".repeat(64);
    let names: &[&[u8]] = &[
        b"",
        b".",
        b"..",
        b".example",
        b"a..example",
        b"site1.example..",
        b"192.0.2.1",
        b"192.0.2",
        b"2001:db8::1",
        b"[2001:db8::1]",
        b"site1.example\0",
        b"site1.example\0.evil.example",
        b"site1 .example",
        b"site1.example:443",
        b"*.example",
        b"site1.example/",
        "s\u{ef}te.example".as_bytes(),
        b"s\xefte.example",
        label.as_bytes(),
        long.as_bytes(),
    ];
    for name in names {
        let hello = Hello::default().server_name(name).octets();
        assert_eq!(however_cut(&hello), Sniffed::Bad(Bad::ServerName), "{}", name.escape_ascii());
    }
    for (name, read) in [
        ("SITE1.example", "site1.example"),
        ("site1.example.", "site1.example"),
        ("my_site.example", "my_site.example"),
        ("xn--ste-jma.example", "xn--ste-jma.example"),
        ("localhost", "localhost"),
        ("1.2.3.4a", "1.2.3.4a"),
        (&long[long.len() - 253..], &long[long.len() - 253..]),
        (&label[1..], &label[1..]),
    ] {
        assert_eq!(sniffed(&Hello::named(name).octets()), Sniffed::Tls(named(read)), "{name}");
    }
}

#[test]
fn rfc6066_3_a_list_has_one_name_and_nothing_else() {
    let entry = |kind: u8, name: &[u8]| [&[kind][..], &vector16(name)].concat();
    let one = entry(0, b"site1.example");
    assert_eq!(with_list(&vector16(&one)), Sniffed::Tls(named("site1.example")));
    // Names of other types have never been given; they are passed over.
    let other = [entry(1, b"\0\0"), one.clone(), entry(7, b"")].concat();
    assert_eq!(with_list(&vector16(&other)), Sniffed::Tls(named("site1.example")));
    assert_eq!(with_list(&vector16(&entry(1, b"x"))), Sniffed::Tls(ClientHello::default()));
    let two = [one.clone(), entry(0, b"site2.example")].concat();
    assert_eq!(with_list(&vector16(&two)), Sniffed::Bad(Bad::ServerName));
    let bad = Sniffed::Bad(Bad::Hello);
    // Nothing (only servers send that), an empty list, one that is cut, one with something behind it.
    assert_eq!(with_list(&[]), bad);
    assert_eq!(with_list(&[0, 0]), bad);
    assert_eq!(with_list(&vector16(&one)[..10]), bad);
    assert_eq!(with_list(&[&vector16(&one)[..], &[0]].concat()), bad);
    assert_eq!(with_list(&vector16(&one[..10])), bad);
    assert_eq!(with_list(&vector16(&[&one[..], &[0, 0]].concat())), bad);
}

#[test]
fn rfc7301_3_1_a_list_of_protocols_is_read_whole_or_not_at_all() {
    let with = |data: &[u8]| sniffed(&Hello::default().with(extension::ALPN, data).octets());
    let protocols = |names: &[&[u8]]| {
        let alpn = names.iter().map(|name| name.to_vec()).collect();
        Sniffed::Tls(ClientHello { alpn, ..ClientHello::default() })
    };
    assert_eq!(sniffed(&Hello::default().alpn(&[b"acme-tls/1"]).octets()), protocols(&[b"acme-tls/1"]));
    // RFC 8701 3.1: names of GREASE are names like others, which no rule has.
    assert_eq!(
        sniffed(&Hello::default().alpn(&[b"\x0a\x0a", b"h2"]).octets()),
        protocols(&[b"\x0a\x0a", b"h2"])
    );
    let bad = Sniffed::Bad(Bad::Hello);
    let list = vector8(b"h2");
    assert_eq!(with(&vector16(&list)), protocols(&[b"h2"]));
    assert_eq!(with(&[]), bad);
    assert_eq!(with(&vector16(&[])), bad);
    assert_eq!(with(&vector16(&[&list[..], &[0]].concat())), bad);
    assert_eq!(with(&vector16(&list[..2])), bad);
    assert_eq!(with(&[&vector16(&list)[..], &[0]].concat()), bad);
    assert_eq!(with(&vector16(&vector8(b"x").repeat(600))), bad);
}

proptest! {
    /// Whatever is written at whatever place, the result does not depend on the cut, and a hello that is still read says
    /// what it said, or something that a site can be called.
    #[test]
    fn a_damaged_hello_is_read_the_same_however_it_is_cut(
        damage in prop::collection::vec((0_usize..300, any::<u8>()), 0..4),
        size in 1_usize..300,
        cut in 0_usize..400,
    ) {
        let mut message = Hello::named("site1.example").alpn(&[b"h2"]).with(21, &[0; 40]).message();
        for (at, octet) in damage {
            let at = at % message.len();
            message[at] = octet;
        }
        let octets = records(&message, &[size]);
        let whole = sniffed(&octets);
        let mut in_parts = sniffer(true, true);
        let found = match in_parts.more(&octets[..cut.min(octets.len())]) {
            Sniffed::More => in_parts.more(&octets),
            found => found,
        };
        prop_assert_eq!(&found, &whole);
        if let Sniffed::Tls(ClientHello { server_name: Some(name), .. }) = whole {
            prop_assert_eq!(name::host(name.as_bytes()), Some(Host::Name(name)));
        }
    }
}
