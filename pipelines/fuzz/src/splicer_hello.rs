//! What clients of the splicer send first. The first octet of an input says how it is cut; the rest is the client's.

use causeway_splicer::answer::{self, status};
use causeway_splicer::hello::name::{self, Host};
use causeway_splicer::hello::{Protocol, Request, Sniffed, Sniffer};
use causeway_splicer::site::Identity;
use causeway_splicer::{Config, identity};
use causeway_testkit::hello::{Hello, extension, record, records, vector16};
use std::net::{Ipv4Addr, SocketAddrV4};

/// The same by all cuts; the protocol, and what was found.
fn sniffed(cuts: u8, octets: &[u8]) -> (Protocol, Sniffed) {
    let limits = Config::default().limits;
    let mut whole = Sniffer::new(true, true, &limits);
    let found = whole.more(octets);
    let mut parts = Sniffer::new(true, true, &limits);
    let (mut end, mut step, mut last) = (0, usize::from(cuts), Sniffed::More);
    while last == Sniffed::More && end < octets.len() {
        step = (step * 5 + 3) % 1021;
        end = octets.len().min(end + 1 + step % (1 + usize::from(cuts)));
        last = parts.more(&octets[..end]);
    }
    assert_eq!((&last, parts.protocol()), (&found, whole.protocol()));
    if let Sniffed::Bad(why) = found {
        let words = answer::bad(why, whole.protocol());
        match whole.protocol() {
            Protocol::Tls => assert!(words.is_empty() || words.starts_with(&[21, 3, 3, 0, 2, 2])),
            Protocol::Http1 => assert!(words.starts_with(b"HTTP/1.1 4")),
            Protocol::Http2 { .. } => assert!(words.starts_with(&[0, 0, 0, 4])),
            Protocol::Unknown => assert_eq!(words, b""),
        }
    }
    (whole.protocol(), found)
}

fn is_name(octets: &[u8]) -> bool {
    matches!(name::host(octets), Some(Host::Name(name)) if name.as_bytes() == octets)
}

/// ClientHellos: what is read is what plain loops find; a header for its server can be made of it.
pub fn hello(b: &[u8]) {
    read_hello(b);
}

/// As [`hello`]; says if there was one.
pub(crate) fn read_hello(b: &[u8]) -> bool {
    let Some((&cuts, octets)) = b.split_first() else { return false };
    let (_, Sniffed::Tls(hello)) = sniffed(cuts, octets) else { return false };
    let message = plain_message(octets);
    let (mut names, mut lists, mut encrypted) = (Vec::new(), Vec::new(), false);
    for (kind, data) in plain_extensions(&message) {
        match kind {
            // One name, or none of the type of names.
            extension::SERVER_NAME => {
                names.extend((data[2] == 0).then(|| data[5..5 + u16at(data, 3)].to_vec()))
            }
            extension::ALPN => lists.push(data.to_vec()),
            extension::ENCRYPTED_CLIENT_HELLO => encrypted = true,
            _ => {}
        }
    }
    if let Some(name) = &hello.server_name {
        assert!(is_name(name.as_bytes()));
        // Names of other types may be ahead of it.
        if let [first] = &names[..] {
            let theirs = first.to_ascii_lowercase();
            assert_eq!(name.as_bytes(), theirs.strip_suffix(b".").unwrap_or(&theirs));
        }
    } else {
        assert!(names.is_empty());
    }
    let ours: Vec<u8> = hello.alpn.iter().flat_map(|name| [&[name.len() as u8][..], name].concat()).collect();
    match &lists[..] {
        [list] => assert_eq!(list[..], vector16(&ours)),
        _ => assert!(lists.is_empty() && ours.is_empty()),
    }
    assert_eq!(hello.encrypted, encrypted);

    let end = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 99), 40_000);
    let mut header = Vec::new();
    identity::header(Identity::Proxy2, end, end, hello.server_name.as_deref(), &hello.alpn, &mut header);
    assert!(header.len() <= identity::HEADER_OCTETS);
    assert_eq!(u16at(&header, 14), header.len() - 16);
    true
}

fn u16at(octets: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([octets[at], octets[at + 1]]))
}

/// The message out of its records, known to be whole.
fn plain_message(mut octets: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while octets.len() >= 5 && octets[0] == 22 {
        let end = octets.len().min(5 + u16at(octets, 3));
        message.extend_from_slice(&octets[5..end]);
        octets = &octets[end..];
    }
    let all = 4 + u32::from_be_bytes([0, message[1], message[2], message[3]]) as usize;
    message.truncate(all);
    assert_eq!(message.len(), all);
    message
}

/// Types and data of the extensions of a message that has been read.
fn plain_extensions(message: &[u8]) -> Vec<(u16, &[u8])> {
    let mut at = 4 + 2 + 32;
    at += 1 + usize::from(message[at]);
    at += 2 + u16at(message, at);
    at += 1 + usize::from(message[at]);
    let mut list = Vec::new();
    if at == message.len() {
        return list;
    }
    assert_eq!(at + 2 + u16at(message, at), message.len());
    at += 2;
    while at < message.len() {
        let end = at + 4 + u16at(message, at + 2);
        list.push((u16::from_be_bytes([message[at], message[at + 1]]), &message[at + 4..end]));
        at = end;
    }
    list
}

/// Heads of HTTP/1 and header blocks of HTTP/2: where a host is found, plain loops find the same and no other; a
/// redirect made of it is one answer with one Location.
pub fn host(b: &[u8]) {
    read_host(b);
}

/// As [`host`]; says if there was one.
pub(crate) fn read_host(b: &[u8]) -> bool {
    let Some((&cuts, octets)) = b.split_first() else { return false };
    let (protocol, Sniffed::Http(request)) = sniffed(cuts, octets) else { return false };
    assert_eq!(request.http2, matches!(protocol, Protocol::Http2 { .. }));
    if request.http2 {
        plain_block(octets, &request)
    } else {
        plain_head(octets, &request)
    }
    if let Some(target) = &request.target {
        assert!(target.starts_with('/') && target.bytes().all(|octet| octet.is_ascii_graphic()));
        redirected(&request, target, protocol);
    }
    request.host.is_some()
}

/// The first head, line by line.
fn plain_head(octets: &[u8], request: &Request) {
    let text = String::from_utf8_lossy(octets).to_ascii_lowercase();
    let head = text.trim_start_matches("\r\n").split("\r\n\r\n").next().expect("a part");
    let mut lines = head.split("\r\n");
    let first: Vec<&str> = lines.next().expect("a line").split(' ').collect();
    let &[method, target, _] = &first[..] else { panic!("{first:?}") };
    let fields: Vec<(&str, &str)> = lines.map(|l| l.split_once(':').expect("a colon")).collect();
    assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']));
    assert!(fields.iter().all(|(name, _)| !name.is_empty() && !name.contains([' ', '\t'])));
    let of =
        |name: &str| fields.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.trim()).collect::<Vec<_>>();
    let hosts = of("host");
    assert!(hosts.len() <= 1 && of("content-length").len() <= 1);
    assert!(of("content-length").is_empty() || of("transfer-encoding").is_empty());
    assert!(of("transfer-encoding").last().is_none_or(|value| value.ends_with("chunked")));
    let authority = match target {
        _ if method == "connect" => target,
        _ if target.starts_with('/') || target == "*" => hosts.first().unwrap_or(&""),
        _ => target.split_once("://").expect("a scheme").1.split(['/', '?']).next().expect("a part"),
    };
    same_host(authority.as_bytes(), request);
}

/// The first header block by the decoder of another library.
fn plain_block(octets: &[u8], request: &Request) {
    let (mut block, mut rest) = (Vec::new(), &octets[24..]);
    loop {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let (kind, flags, mut data) = (rest[3], rest[4], &rest[9..9 + length]);
        rest = &rest[9 + length..];
        if kind == 1 {
            if flags & 8 != 0 {
                data = &data[1..data.len() - usize::from(data[0])];
            }
            if flags & 0x20 != 0 {
                data = &data[5..];
            }
        }
        if matches!(kind, 1 | 9) {
            block.extend_from_slice(data);
            if flags & 4 != 0 {
                break;
            }
        }
    }
    let fields = loona_hpack::Decoder::new().decode(&block).expect("a block");
    let of =
        |name: &[u8]| fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_slice()).collect::<Vec<_>>();
    assert!(fields.iter().all(|(_, value)| !value.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n'))));
    let authority = [of(b":authority"), of(b"host")].concat();
    assert!(!authority.is_empty() && authority.iter().all(|a| a.eq_ignore_ascii_case(authority[0])));
    same_host(&authority[0].to_ascii_lowercase(), request);
}

/// What was found is what this authority, in lower case, says.
fn same_host(authority: &[u8], request: &Request) {
    let Some(name) = &request.host else {
        let of_names = |octet: &u8| octet.is_ascii_lowercase() || *octet == b'_';
        assert!(authority.starts_with(b"[") || !authority.iter().any(of_names));
        return;
    };
    assert!(is_name(name.as_bytes()));
    let end = authority.iter().position(|octet| *octet == b':').unwrap_or(authority.len());
    let theirs = &authority[..end];
    assert_eq!(name.as_bytes(), theirs.strip_suffix(b".").unwrap_or(theirs));
}

fn redirected(request: &Request, target: &str, protocol: Protocol) {
    let name = request.host.as_deref().unwrap_or("none.example");
    let octets = answer::redirect(name, target, protocol);
    if request.http2 {
        assert!(octets.starts_with(&[0, 0, 0, 4]));
        return;
    }
    let text = str::from_utf8(&octets).expect("text");
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert!(lines.ends_with(&["", ""]));
    let long = lines[0].starts_with(&format!("HTTP/1.1 {} ", status::FIELDS_TOO_LARGE));
    assert_eq!(lines.len(), if long { 6 } else { 7 });
    assert!(long || lines[1] == format!("Location: https://{name}{target}"));
}

/// Clients that there are, and what the issue of bad input names.
pub(crate) fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let browser = Hello::browser("www.site1.example");
    let named = Hello::named("site1.example");
    let two_names = [&[0][..], &vector16(b"a.example"), &[0], &vector16(b"b.example")].concat();
    let hellos: Vec<(&str, Vec<u8>)> = vec![
        ("named", named.octets()),
        ("browser", browser.octets()),
        ("browser-in-records", records(&browser.message(), &[5, 1, 400])),
        ("records-of-one", records(&named.message(), &[1])),
        ("encrypted", browser.clone().with(extension::ENCRYPTED_CLIENT_HELLO, &[0; 60]).octets()),
        ("challenge", named.clone().alpn(&[b"acme-tls/1"]).octets()),
        ("nothing", Hello::default().octets()),
        ("address", Hello::named("192.0.2.1").octets()),
        ("dot", Hello::named("site1.example.").octets()),
        ("nul", Hello::named("site1.example\0").octets()),
        ("two-names", Hello::default().with(extension::SERVER_NAME, &vector16(&two_names)).octets()),
        ("alert-between", [&named.octets()[..30], &record(21, &[1, 0])].concat()),
        ("empty-record", [record(22, &[]), named.octets()].concat()),
        ("huge", record(22, &[1, 0xff, 0xff, 0xff])),
        ("early-data", [named.octets(), record(23, &[7; 50])].concat()),
    ];
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let octets = u16::try_from(payload.len()).expect("short").to_be_bytes();
        [&[0][..], &octets, &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let opened = |frames: &[Vec<u8>]| {
        let settings = frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]);
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &frames.concat()].concat()
    };
    let block = b"\x82\x86\x84\x41\x0dsite1.example\x40\x01a\x01b\xbe\x7a\x85\xf2\xb2\x4a\x87\xff";
    let padded = [&[2, 0, 0, 0, 0, 9][..], block, &[0; 2]].concat();
    let curl = "Host: site1.example\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
    let heads: Vec<(&str, Vec<u8>)> = vec![
        ("curl", format!("GET /a?b HTTP/1.1\r\n{curl}").into_bytes()),
        ("absolute", format!("\r\nGET http://site2.example:80?a HTTP/1.1\r\n{curl}").into_bytes()),
        ("connect", format!("CONNECT site1.example:443 HTTP/1.1\r\n{curl}").into_bytes()),
        ("asterisk", format!("OPTIONS * HTTP/1.1\r\n{curl}").into_bytes()),
        ("old", b"GET / HTTP/1.0\r\n\r\n".to_vec()),
        ("older", b"GET /\r\n".to_vec()),
        ("two-hosts", format!("GET / HTTP/1.1\r\nHost: a.example\r\n{curl}").into_bytes()),
        ("folded", format!("GET / HTTP/1.1\r\nA: b\r\n c\r\n{curl}").into_bytes()),
        ("space", format!("GET / HTTP/1.1\r\nA : b\r\n{curl}").into_bytes()),
        ("bare", format!("GET / HTTP/1.1\nA: b\n{curl}").into_bytes()),
        ("body", format!("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n{curl}5\r\n").into_bytes()),
        (
            "both",
            format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n{curl}")
                .into_bytes(),
        ),
        ("address", b"GET /\xc3\xaf\" HTTP/1.1\r\nHost: [2001:db8::80]:80\r\n\r\n".to_vec()),
        ("h2", opened(&[frame(1, 5, 1, block)])),
        ("h2-padded", opened(&[frame(8, 0, 0, &[0, 0, 1, 0]), frame(1, 0x2d, 3, &padded)])),
        (
            "h2-parts",
            opened(&[frame(1, 0, 1, &block[..7]), frame(9, 0, 1, b""), frame(9, 4, 1, &block[7..])]),
        ),
        ("h2-settings", opened(&[frame(4, 1, 0, b"")])),
    ];
    let rows = if target == "splice_hello" { hellos } else { heads };
    let cut =
        |name: &str, octets: &[u8], cuts: u8| (format!("{name}-{cuts:02x}"), [&[cuts], octets].concat());
    rows.iter().flat_map(|(name, octets)| [0, 7, 0xff].map(|cuts| cut(name, octets, cuts))).collect()
}
