use super::super::tests::{however_cut, sniffed, sniffer};
use super::super::{Protocol, Sniffer};
use super::*;
use crate::Config;
use proptest::prelude::*;

fn found(host: Option<&str>, target: Option<&str>) -> Sniffed {
    Sniffed::Http(Request { host: host.map(Into::into), target: target.map(Into::into), http2: false })
}

/// A head of these lines.
fn head(lines: &[&str]) -> Vec<u8> {
    [lines.join("\r\n").as_bytes(), b"\r\n\r\n"].concat()
}

const HOST: &str = "Host: site1.example";

fn rows(expected: &Sniffed, rows: &[(&str, &[&str])]) {
    for (what, lines) in rows {
        assert_eq!(however_cut(&head(lines)), *expected, "{what}");
    }
}

// And RFC 9112 2.2.
#[test]
fn rfc9112_3_2_a_request_is_found_by_its_host_however_it_is_cut() {
    let site = |target: &str| found(Some("site1.example"), Some(target));
    rows(
        &site("/"),
        &[
            ("plain", &["GET / HTTP/1.1", HOST]),
            ("a port", &["GET / HTTP/1.1", "Host: site1.example:80"]),
            ("an empty port", &["GET / HTTP/1.1", "Host: site1.example:"]),
            ("capitals", &["GET / HTTP/1.1", "HOST:Site1.EXAMPLE"]),
            ("spaces around", &["GET / HTTP/1.1", "host: \t site1.example \t"]),
            ("a dot at its end", &["GET / HTTP/1.1", "Host: site1.example."]),
            (
                "other fields around",
                &["POST / HTTP/1.1", "A: b", HOST, "Content-Length: 5", "Connection: keep-alive"],
            ),
            (
                "an upgrade is the server's matter",
                &["GET / HTTP/1.1", HOST, "Upgrade: websocket", "Connection: Upgrade"],
            ),
            ("HTTP/1.0", &["GET / HTTP/1.0", HOST]),
            ("a method nobody knows", &["BREW / HTTP/1.1", HOST]),
        ],
    );
    let behind = [&head(&["POST / HTTP/1.1", HOST, "Content-Length: 9"])[..], b"\n\0 bad \n\xff"].concat();
    assert_eq!(however_cut(&behind), site("/"), "what is behind the head is the server's");
    let path = "/.well-known/acme-challenge/a_b-c?x=%20&y#".trim_end_matches('#');
    assert_eq!(however_cut(&head(&[&format!("GET {path} HTTP/1.1"), HOST])), site(path));
    // RFC 9112 2.2: empty lines ahead.
    assert_eq!(however_cut(&[b"\r\n\r\n", &head(&["GET / HTTP/1.1", HOST])[..]].concat()), site("/"));
}

#[test]
fn rfc9112_3_2_requests_that_name_no_site_are_told_as_such() {
    rows(
        &found(None, Some("/")),
        &[
            ("RFC 9112 3.2: HTTP/1.0 without Host", &["GET / HTTP/1.0"]),
            ("RFC 9110 7.2: an empty Host", &["GET / HTTP/1.1", "Host:"]),
            ("an IPv4 address", &["GET / HTTP/1.1", "Host: 203.0.113.80:80"]),
            ("an IPv6 address", &["GET / HTTP/1.1", "Host: [2001:db8::80]:80"]),
            ("an address in absolute form", &["GET http://203.0.113.80 HTTP/1.1", HOST]),
        ],
    );
}

#[test]
fn rfc9112_3_2_without_one_good_host_there_is_no_site() {
    let long = format!("Host: {}", "a.".repeat(128));
    rows(
        &Sniffed::Bad(Bad::Host),
        &[
            ("none", &["GET / HTTP/1.1", "A: b"]),
            ("two", &["GET / HTTP/1.1", HOST, "Host: site2.example"]),
            ("the same twice", &["GET / HTTP/1.1", HOST, HOST]),
            ("two in one", &["GET / HTTP/1.1", "Host: site1.example, site2.example"]),
            ("user information", &["GET / HTTP/1.1", "Host: evil@site1.example"]),
            ("a path", &["GET / HTTP/1.1", "Host: site1.example/x"]),
            ("a port that is none", &["GET / HTTP/1.1", "Host: site1.example:8o"]),
            ("a port too high", &["GET / HTTP/1.1", "Host: site1.example:65536"]),
            ("two ports", &["GET / HTTP/1.1", "Host: site1.example:80:80"]),
            ("a port only", &["GET / HTTP/1.1", "Host: :80"]),
            ("percent-encoded", &["GET / HTTP/1.1", "Host: site1%2eexample"]),
            ("no name", &["GET / HTTP/1.1", "Host: site1..example"]),
            ("no address", &["GET / HTTP/1.1", "Host: [2001:db8::g]"]),
            ("behind an address", &["GET / HTTP/1.1", "Host: [2001:db8::1]x"]),
            ("not closed", &["GET / HTTP/1.1", "Host: [2001:db8::1"]),
            ("not ASCII", &["GET / HTTP/1.1", "Host: s\u{ef}te.example"]),
            ("too long", &["GET / HTTP/1.1", &long]),
            ("HTTP/1.0 with two", &["GET / HTTP/1.0", HOST, HOST]),
            ("absolute, and none", &["GET http://site1.example/ HTTP/1.1"]),
            ("absolute without a host", &["GET http:///x HTTP/1.1", HOST]),
            ("absolute with user information", &["GET http://evil@site1.example/ HTTP/1.1", HOST]),
        ],
    );
}

#[test]
fn rfc9112_3_2_2_the_authority_of_an_absolute_target_counts() {
    let rows = [
        ("http://site1.example/a?b=c", "/a?b=c"),
        ("HTTP://Site1.Example:80/a", "/a"),
        ("https://site1.example", "/"),
        ("http://site1.example?b", "/?b"),
        ("http://site1.example//b://c/", "//b://c/"),
    ];
    for (absolute, target) in rows {
        let head = head(&[&format!("GET {absolute} HTTP/1.1"), "Host: site2.example"]);
        assert_eq!(however_cut(&head), found(Some("site1.example"), Some(target)), "{absolute}");
    }
}

#[test]
fn rfc9112_3_2_3_and_3_2_4_connect_and_asterisk_have_no_target_to_redirect_to() {
    let site = found(Some("site1.example"), None);
    rows(
        &site,
        &[
            ("OPTIONS *", &["OPTIONS * HTTP/1.1", HOST]),
            ("CONNECT", &["CONNECT site1.example:443 HTTP/1.1", "Host: site1.example:443"]),
        ],
    );
    rows(
        &Sniffed::Bad(Bad::Request),
        &[
            ("GET *", &["GET * HTTP/1.1", HOST]),
            ("CONNECT without a port", &["CONNECT site1.example HTTP/1.1", HOST]),
            ("GET of an authority", &["GET site1.example:80 HTTP/1.1", HOST]),
            ("a relative path", &["GET index.html HTTP/1.1", HOST]),
            ("another scheme", &["GET ftp://site1.example/ HTTP/1.1", HOST]),
        ],
    );
    rows(&Sniffed::Bad(Bad::Host), &[("CONNECT nowhere", &["CONNECT :443 HTTP/1.1", HOST])]);
}

// RFC 9112 2.2, 5.1, 5.2, 6.1, 6.3.
#[test]
fn rfc9112_11_2_shapes_by_which_requests_are_smuggled_are_refused() {
    rows(
        &Sniffed::Bad(Bad::Request),
        &[
            ("5.1: a space before the colon", &["POST / HTTP/1.1", HOST, "Content-Length : 5"]),
            ("5.1: of Host", &["GET / HTTP/1.1", "Host : site1.example"]),
            ("5.2: a folded line", &["GET / HTTP/1.1", HOST, "A: b", " c"]),
            ("5.2: Host folded", &["GET / HTTP/1.1", "Host:", " site1.example"]),
            ("2.2: a space ahead of the first field", &["GET / HTTP/1.1", " Host: site2.example", HOST]),
            ("no colon", &["GET / HTTP/1.1", HOST, "Nothing"]),
            ("no name", &["GET / HTTP/1.1", HOST, ": x"]),
            ("NUL in a name", &["GET / HTTP/1.1", HOST, "A\0: b"]),
            ("NUL in a value", &["GET / HTTP/1.1", HOST, "A: b\0"]),
            ("a bare CR in a value", &["GET / HTTP/1.1", HOST, "A: b\rTransfer-Encoding: chunked"]),
            ("a bare CR in the request line", &["GET / HTTP/1.1\rX: y HTTP/1.1", HOST]),
            ("a bare LF", &["GET / HTTP/1.1", "Host: site1.example\nA: b"]),
            (
                "6.1: length and coding",
                &["POST / HTTP/1.1", HOST, "Content-Length: 5", "Transfer-Encoding: chunked"],
            ),
            (
                "6.1: coding and length",
                &["POST / HTTP/1.1", HOST, "transfer-encoding: chunked", "content-length: 5"],
            ),
            ("6.1: a coding in HTTP/1.0", &["POST / HTTP/1.0", HOST, "Transfer-Encoding: chunked"]),
            ("6.3: not chunked", &["POST / HTTP/1.1", HOST, "Transfer-Encoding: gzip"]),
            ("6.3: not chunked at last", &["POST / HTTP/1.1", HOST, "Transfer-Encoding: chunked, gzip"]),
            ("6.1: chunked twice", &["POST / HTTP/1.1", HOST, "Transfer-Encoding: chunked, chunked"]),
            (
                "6.1: in two fields",
                &["POST / HTTP/1.1", HOST, "Transfer-Encoding: chunked", "Transfer-Encoding: x"],
            ),
            ("almost chunked", &["POST / HTTP/1.1", HOST, "Transfer-Encoding: xchunked"]),
            ("chunked with a parameter", &["POST / HTTP/1.1", HOST, "Transfer-Encoding: chunked;x=y"]),
            ("an empty coding", &["POST / HTTP/1.1", HOST, "Transfer-Encoding:"]),
            (
                "6.3: lengths that differ",
                &["POST / HTTP/1.1", HOST, "Content-Length: 5", "Content-Length: 6"],
            ),
            ("6.3: a list of lengths", &["POST / HTTP/1.1", HOST, "Content-Length: 5, 5"]),
            ("a length with a sign", &["POST / HTTP/1.1", HOST, "Content-Length: +5"]),
            ("a negative length", &["POST / HTTP/1.1", HOST, "Content-Length: -1"]),
            ("a length of nothing", &["POST / HTTP/1.1", HOST, "Content-Length:"]),
            ("a length of hexadecimal", &["POST / HTTP/1.1", HOST, "Content-Length: 0x5"]),
            ("a length past 64 bits", &["POST / HTTP/1.1", HOST, "Content-Length: 18446744073709551616"]),
        ],
    );
    rows(
        &found(Some("site1.example"), Some("/")),
        &[
            ("6.1: another coding below", &["POST / HTTP/1.1", HOST, "Transfer-Encoding: gzip, Chunked"]),
            (
                "6.1: in two fields",
                &["POST / HTTP/1.1", HOST, "Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
            ),
        ],
    );
    assert_eq!(
        however_cut(b"GET / HTTP/1.1\nHost: site1.example\n\n"),
        Sniffed::Bad(Bad::Request),
        "2.2: bare LFs"
    );
}

#[test]
fn rfc9112_3_request_lines_that_are_none_are_refused() {
    rows(
        &Sniffed::Bad(Bad::Request),
        &[
            ("HTTP/0.9", &["GET /"]),
            ("no target", &["GET HTTP/1.1", HOST]),
            ("two spaces", &["GET  / HTTP/1.1", HOST]),
            ("a tab", &["GET\t/ HTTP/1.1", HOST]),
            ("a space behind", &["GET / HTTP/1.1 ", HOST]),
            ("four words", &["GET / x HTTP/1.1", HOST]),
            ("another version", &["GET / HTTP/2.0", HOST]),
            ("no version that there is", &["GET / HTTP/1.10", HOST]),
            ("lower case", &["GET / http/1.1", HOST]),
            ("a method that is none", &["G@T / HTTP/1.1", HOST]),
            ("a fragment", &["GET /#x HTTP/1.1", HOST]),
            ("a control octet", &["GET /\x01 HTTP/1.1", HOST]),
        ],
    );
    // A 0.9 client sends its line and waits: it is not waited for.
    assert_eq!(sniffed(b"GET /\r\n"), Sniffed::Bad(Bad::Request));
}

#[test]
fn rfc3986_3_3_a_redirects_target_has_only_what_a_uri_may_have() {
    let head = head(&["GET /s\u{ef}te\"<x>\\?a=b|c&d='%2F' HTTP/1.1", HOST]);
    let target = "/s%C3%AFte%22%3Cx%3E%5C?a=b%7Cc&d='%2F'";
    assert_eq!(however_cut(&head), found(Some("site1.example"), Some(target)));
}

#[test]
fn a_head_that_is_too_long_is_refused_and_never_looked_at_twice() {
    let limit = Config::default().limits.head_octets;
    let exact = {
        let fixed = head(&["GET / HTTP/1.1", HOST, "A: "]).len();
        head(&["GET / HTTP/1.1", HOST, &format!("A: {}", "a".repeat(limit - fixed))])
    };
    assert_eq!(exact.len(), limit);
    assert_eq!(sniffed(&exact), found(Some("site1.example"), Some("/")));
    let longer = [&exact[..exact.len() - 4], b"a\r\n\r\n"].concat();
    assert_eq!(sniffed(&longer[..limit - 1]), Sniffed::More);
    assert_eq!(sniffed(&longer), Sniffed::Bad(Bad::RequestTooLong));
    // Lines without end, and a line without end.
    for unit in [&b"A: b\r\n"[..], b"a", b"\r\n"] {
        let mut endless = b"GET / HTTP/1.1\r\n".to_vec();
        if unit == b"\r\n" {
            endless.clear();
        }
        while endless.len() < limit {
            endless.extend_from_slice(unit);
        }
        let mut sniffer = sniffer(false, true);
        for n in 0..limit {
            assert_eq!(sniffer.more(&endless[..n]), Sniffed::More);
        }
        assert_eq!(sniffer.more(&endless), Sniffed::Bad(Bad::RequestTooLong));
    }
    // More fields than any client has.
    let mut lines = vec!["GET / HTTP/1.1", HOST];
    lines.resize(FIELDS + 1, "A: b");
    assert_eq!(sniffed(&head(&lines)), found(Some("site1.example"), Some("/")));
    lines.push("A: b");
    assert_eq!(sniffed(&head(&lines)), Sniffed::Bad(Bad::RequestTooLong));
    let mut limits = Config::default().limits;
    limits.head_octets = 32;
    assert_eq!(Sniffer::new(true, true, &limits).more(&exact), Sniffed::Bad(Bad::RequestTooLong));
}

proptest! {
    /// Heads made of pieces that matter: however cut, the same; a host that is found is a name; and a Host is never
    /// found in a head that has two.
    #[test]
    fn a_head_of_any_pieces_is_read_the_same_however_it_is_cut(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "GET / HTTP/1.1\r\n", "GET http://site1.example/ HTTP/1.1\r\n", "Host: site1.example\r\n", "hOST:b.example\r\n",
            "Host:\r\n", "Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n", "\r\n", "\r\n", "\n", " ", "\0", "A: b\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\r",
        ]), 1..9),
        cut in 0_usize..200,
    ) {
        let text = pieces.concat();
        let octets = text.as_bytes();
        let whole = sniffed(octets);
        let mut in_two = sniffer(true, true);
        let found = match in_two.more(&octets[..cut.min(octets.len())]) {
            Sniffed::More => in_two.more(octets),
            found => found,
        };
        prop_assert_eq!(&found, &whole);
        if let Sniffed::Http(request) = whole {
            prop_assert_eq!(in_two.protocol(), Protocol::Http1);
            if let Some(name) = request.host {
                prop_assert_eq!(name::host(name.as_bytes()), Some(Host::Name(name)));
            }
            let head = text.trim_start_matches("\r\n").split("\r\n\r\n").next().unwrap_or_default().to_lowercase();
            prop_assert!(head.matches("host:").count() <= 1, "{}", head);
            prop_assert!(!(head.contains("content-length") && head.contains("transfer-encoding")), "{}", head);
        }
    }
}
