use super::*;
use crate::Config;

pub(super) fn sniffer(tls: bool, http: bool) -> Sniffer {
    Sniffer::new(tls, http, &Config::default().limits)
}

/// All octets at once.
pub(super) fn sniffed(octets: &[u8]) -> Sniffed {
    sniffer(true, true).more(octets)
}

/// The same cut anywhere comes to the same: octet by octet, and in two parts at each octet of the first and last 200.
pub(super) fn however_cut(octets: &[u8]) -> Sniffed {
    let whole = sniffed(octets);
    let mut one_by_one = sniffer(true, true);
    let found =
        (0..=octets.len()).map(|n| one_by_one.more(&octets[..n])).find(|found| *found != Sniffed::More);
    assert_eq!(found.as_ref().unwrap_or(&Sniffed::More), &whole, "octet by octet");
    for n in (0..octets.len()).filter(|n| *n < 200 || n + 200 > octets.len()) {
        let mut in_two = sniffer(true, true);
        let found = match in_two.more(&octets[..n]) {
            Sniffed::More => in_two.more(octets),
            found => found,
        };
        assert_eq!(found, whole, "cut at {n}");
    }
    whole
}

#[test]
fn protocols_are_told_apart_on_one_port() {
    let tls = causeway_testkit::hello::Hello::named("site1.example").octets();
    let http = b"GET / HTTP/1.1\r\nHost: site1.example\r\n\r\n";
    assert!(matches!(sniffed(&tls), Sniffed::Tls(_)));
    assert!(matches!(sniffed(http), Sniffed::Http(_)));
    assert_eq!(sniffed(&[]), Sniffed::More);
    // What a listener does not take is refused at its first octet, in the words of what it takes.
    for (tls_too, http_too, octet, protocol) in [
        (false, true, tls[0], Protocol::Http1),
        (true, false, http[0], Protocol::Tls),
        (true, true, 0xff, Protocol::Unknown),
    ] {
        let mut sniffer = sniffer(tls_too, http_too);
        assert_eq!((sniffer.more(b""), sniffer.protocol()), (Sniffed::More, Protocol::Unknown));
        assert_eq!((sniffer.more(&[octet]), sniffer.protocol()), (Sniffed::Bad(Bad::Protocol), protocol));
    }
    for first in [0, b'\n', b' ', 0x15, 0x17, 0x80, 0xff] {
        assert_eq!(sniffed(&[first]), Sniffed::Bad(Bad::Protocol), "{first:#x}");
    }
    // An SSH client, at a port where none is awaited, waits for the server or says a line that is no request.
    assert_eq!(however_cut(b"SSH-2.0-OpenSSH_9.2\r\n"), Sniffed::Bad(Bad::Request));
    assert_eq!(however_cut(b"\x16\x02\x01"), Sniffed::Bad(Bad::Protocol));
}

#[test]
fn the_protocol_is_known_as_soon_as_the_octets_tell() {
    let mut sniffer = sniffer(true, true);
    assert_eq!((sniffer.more(b""), sniffer.protocol()), (Sniffed::More, Protocol::Unknown));
    assert_eq!((sniffer.more(b"PRI"), sniffer.protocol()), (Sniffed::More, Protocol::Unknown));
    assert_eq!((sniffer.more(b"PRIX"), sniffer.protocol()), (Sniffed::More, Protocol::Http1));
    let mut sniffer = tests::sniffer(true, true);
    assert_eq!((sniffer.more(&[22]), sniffer.protocol()), (Sniffed::More, Protocol::Tls));
    let mut sniffer = tests::sniffer(true, true);
    assert_eq!(
        (sniffer.more(http2::PREFACE), sniffer.protocol()),
        (Sniffed::More, Protocol::Http2 { stream: 0 })
    );
    assert!(size_of::<Sniffer>() <= 72, "{}", size_of::<Sniffer>());
}
