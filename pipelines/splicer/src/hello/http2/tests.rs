use super::super::Protocol;
use super::super::tests::{however_cut, sniffed, sniffer};
use super::*;
use proptest::prelude::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The preface, SETTINGS as curl has them, and these frames.
fn opened(frames: &[Vec<u8>]) -> Vec<u8> {
    let settings = [0, 3, 0, 0, 0, 100, 0, 4, 0, 0xa0, 0, 0];
    [PREFACE, &frame(kind::SETTINGS, 0, 0, &settings), &frames.concat()].concat()
}

/// Literals that are not kept, without Huffman code (RFC 7541 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let string = |s: &str| [&[u8::try_from(s.len()).expect("short")][..], s.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], string(name), string(value)].concat()).collect()
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/a?b"), (":authority", "Site1.Example:80")];

fn with(fields: &[(&str, &str)]) -> Sniffed {
    sniffed(&opened(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &block(fields))]))
}

fn found(host: Option<&str>, target: Option<&str>) -> Sniffed {
    Sniffed::Http(Request { host: host.map(Into::into), target: target.map(Into::into), http2: true })
}

fn site1() -> Sniffed {
    found(Some("site1.example"), Some("/a?b"))
}

#[test]
fn rfc9113_3_4_a_client_with_prior_knowledge_is_found_by_its_authority() {
    let request = frame(kind::HEADERS, flag::END_HEADERS | 1, 1, &block(&GET));
    assert_eq!(however_cut(&opened(std::slice::from_ref(&request))), site1());
    // What a client may send ahead of its request, as browsers and libraries do; frames nobody knows are passed over.
    let ahead = [
        frame(kind::WINDOW_UPDATE, 0, 0, &[0x3f, 0xff, 0, 1]),
        frame(kind::PRIORITY, 0, 3, &[0, 0, 0, 0, 200]),
        frame(kind::PING, 0, 0, &[0; 8]),
        frame(kind::SETTINGS, 0, 0, &[]),
        frame(0x10, 0, 0, &[0, 0, 0, 1]),
        frame(0xbe, 0xff, 77, b"grease"),
    ];
    assert_eq!(however_cut(&opened(&[&ahead[..], std::slice::from_ref(&request)].concat())), site1());
    // What is behind it is the server's.
    assert_eq!(
        however_cut(&[opened(&[request]), b"\xff\xff\xff nothing that is a frame".to_vec()].concat()),
        site1()
    );
}

#[test]
fn rfc9113_5_1_1_the_stream_of_the_request_is_told() {
    for stream in [1, 3, 13, 0x7fff_ffff] {
        let octets = opened(&[frame(kind::HEADERS, flag::END_HEADERS, stream, &block(&GET))]);
        let mut sniffer = sniffer(true, true);
        assert_eq!(
            (sniffer.more(&octets[..octets.len() - 1]), sniffer.protocol()),
            (Sniffed::More, Protocol::Http2 { stream: 0 })
        );
        assert_eq!((sniffer.more(&octets), sniffer.protocol()), (site1(), Protocol::Http2 { stream }));
    }
}

#[test]
fn rfc9113_6_2_and_6_10_padding_priority_and_continuations() {
    let block = block(&GET);
    let padded = [&[3, 0x80, 0, 0, 0, 9][..], &block, &[0; 3]].concat();
    let flags = flag::END_HEADERS | flag::PADDED | flag::PRIORITY;
    assert_eq!(however_cut(&opened(&[frame(kind::HEADERS, flags, 1, &padded)])), site1());
    for n in 0..=block.len() {
        let (a, b) = block.split_at(n);
        let parts = [
            frame(kind::HEADERS, 0, 1, a),
            frame(kind::CONTINUATION, 0, 1, &[]),
            frame(kind::CONTINUATION, flag::END_HEADERS, 1, b),
        ];
        assert_eq!(sniffed(&opened(&parts)), site1(), "cut at {n}");
    }
    let bad = Sniffed::Bad(Bad::Request);
    let all = u8::try_from(block.len()).expect("short");
    for (what, frames) in [
        (
            "padding longer than the frame",
            vec![frame(kind::HEADERS, 12, 1, &[&[all + 1][..], &block].concat())],
        ),
        ("padded without a length", vec![frame(kind::HEADERS, 12, 1, &[])]),
        ("priority cut", vec![frame(kind::HEADERS, flag::END_HEADERS | flag::PRIORITY, 1, &[0; 4])]),
        ("another frame between", vec![frame(kind::HEADERS, 0, 1, &block), frame(kind::PING, 0, 0, &[0; 8])]),
        (
            "another stream between",
            vec![frame(kind::HEADERS, 0, 1, &block), frame(kind::CONTINUATION, 4, 3, &[])],
        ),
        ("a part of nothing", vec![frame(kind::CONTINUATION, 4, 1, &block)]),
    ] {
        assert_eq!(however_cut(&opened(&frames)), bad, "{what}");
    }
}

#[test]
fn rfc9113_4_and_6_frames_that_no_client_sends_here_are_refused() {
    let bad = Sniffed::Bad(Bad::Request);
    for first in [
        frame(kind::HEADERS, 4, 1, &block(&GET)),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        frame(0xbe, 0, 0, &[]),
    ] {
        assert_eq!(however_cut(&[PREFACE, &first].concat()), bad, "SETTINGS come first");
    }
    for frame in [
        frame(kind::SETTINGS, 0, 1, &[]),
        frame(kind::SETTINGS, 0, 0, &[0; 5]),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        frame(kind::HEADERS, 4, 0, &block(&GET)),
        frame(kind::HEADERS, 4, 2, &block(&GET)),
        frame(kind::PRIORITY, 0, 0, &[0; 5]),
        frame(kind::PRIORITY, 0, 1, &[0; 4]),
        frame(kind::PING, 0, 0, &[0; 7]),
        frame(kind::PING, flag::ACK, 0, &[0; 8]),
        frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3]),
        frame(kind::DATA, 0, 1, &[]),
        frame(kind::RST_STREAM, 0, 1, &[0; 4]),
        frame(kind::PUSH_PROMISE, 4, 1, &[0; 4]),
        frame(kind::GOAWAY, 0, 0, &[0; 8]),
        frame(0xbe, 0, 0, &vec![0; FRAME_OCTETS + 1])[..FRAME_HEADER].to_vec(),
    ] {
        assert_eq!(however_cut(&opened(std::slice::from_ref(&frame))), bad, "{frame:x?}");
    }
}

#[test]
fn rfc9113_8_3_1_the_host_of_a_request() {
    let get = &GET[..3];
    let and = |more: &[(&str, &str)]| with(&[get, more].concat());
    assert_eq!(and(&[("host", "site1.example")]), site1());
    assert_eq!(and(&[(":authority", "site1.example"), ("host", "Site1.example")]), site1());
    assert_eq!(and(&[(":authority", "203.0.113.80")]), found(None, Some("/a?b")));
    for bad in [
        &[][..],
        &[(":authority", "site1.example"), ("host", "site2.example")],
        &[("host", "site1.example"), ("host", "site1.example")],
        &[(":authority", "evil@site1.example")],
        &[(":authority", "site1..example")],
    ] {
        assert_eq!(and(bad), Sniffed::Bad(Bad::Host), "{bad:?}");
    }
    let authority = (":authority", "site1.example:443");
    assert_eq!(with(&[(":method", "CONNECT"), authority]), found(Some("site1.example"), None));
    assert_eq!(
        with(&[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), authority]),
        found(Some("site1.example"), None)
    );
}

#[test]
fn rfc9113_8_2_and_8_3_malformed_requests_are_refused() {
    let and = |more: &[(&str, &str)]| with(&[&GET[..], more].concat());
    for bad in [
        (":method", "GET"),
        (":authority", "site1.example"),
        (":status", "200"),
        (":protocol", "websocket"),
        ("Host", "site1.example"),
        ("a b", "c"),
        ("", "c"),
        ("a:b", "c"),
        ("a", "b\r\nhost: site2.example"),
        ("a", "b\0"),
        ("a", " b"),
        ("a", "b\t"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("content-length", "-5"),
        ("content-length", ""),
    ] {
        assert_eq!(and(&[bad]), Sniffed::Bad(Bad::Request), "{bad:?}");
    }
    assert_eq!(and(&[("a", "b"), (":path", "/")]), Sniffed::Bad(Bad::Request), "pseudo-headers come first");
    assert_eq!(and(&[("content-length", "5"), ("content-length", "5")]), Sniffed::Bad(Bad::Request));
    assert_eq!(and(&[("te", "trailers"), ("a", ""), ("cookie", "b"), ("content-length", "5")]), site1());
    // RFC 9113 8.3.1: each of three is there, once.
    for without in &GET[..3] {
        let fields: Vec<_> = GET.iter().filter(|field| *field != without).copied().collect();
        assert_eq!(with(&fields), Sniffed::Bad(Bad::Request), "without {without:?}");
    }
    for path in ["", "a", "*", "/a b", "/#a", "http://site2.example/"] {
        let fields = [GET[0], GET[1], (":path", path), GET[3]];
        assert_eq!(with(&fields), Sniffed::Bad(Bad::Request), "{path}");
    }
    let connect = [(":method", "CONNECT"), (":path", "/"), GET[3]];
    assert_eq!(with(&connect), Sniffed::Bad(Bad::Request), "RFC 9113 8.5");
}

#[test]
fn rfc7541_c_4_1_a_block_in_huffman_code_and_tables_is_read() {
    let request = [
        0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ];
    let octets = opened(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &request)]);
    assert_eq!(however_cut(&octets), found(Some("www.example.com"), Some("/")));
}

#[test]
fn rfc7541_blocks_that_are_cut_or_lie_are_refused() {
    let good = [&block(&GET)[..], &block(&[("a", "b")])].concat();
    let ends: Vec<usize> = (0..=GET.len()).map(|n| block(&GET[..n]).len()).collect();
    for n in 0..good.len() {
        let cut = sniffed(&opened(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &good[..n])]));
        // Where a field ends, the block is whole; the authority is the last that is needed.
        let expected = match ends.iter().position(|end| *end == n) {
            Some(4) => site1(),
            Some(1..=3) => Sniffed::Bad(Bad::Host),
            _ => Sniffed::Bad(Bad::Request),
        };
        assert_eq!(cut, expected, "cut at {n}");
    }
    let tail = block(&GET);
    for (what, ahead) in [
        ("index 0", &[0x80][..]),
        ("an index that nobody has", &[0xff, 0]),
        ("an index without end", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("a name that nobody has", &[0x7f, 0x20, 1, b'a']),
        ("a table larger than is allowed", &[0x3f, 0xe2, 0x1f]),
        ("three sizes", &[0x20, 0x20, 0x3f, 0xe1, 0x1f]),
        ("a string longer than all", &[0, 0x7f, 0xff, 0x7f]),
        ("Huffman code that ends in nothing", &[0, 1, b'a', 0x81, 0x00]),
        ("Huffman code with its end inside", &[0, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]),
    ] {
        let octets = opened(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &[ahead, &tail].concat())]);
        assert_eq!(sniffed(&octets), Sniffed::Bad(Bad::Request), "{what}");
    }
    // RFC 7541 4.2: at its beginning a block may change the table's size twice, but not later.
    let twice = [&[0x20, 0x3f, 0xe1, 0x1f][..], &tail].concat();
    assert_eq!(sniffed(&opened(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &twice)])), site1());
    let late = [&tail[..], &[0x20]].concat();
    assert_eq!(
        sniffed(&opened(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &late)])),
        Sniffed::Bad(Bad::Request)
    );
}

#[test]
fn a_small_block_that_stands_for_a_huge_one_is_refused_early() {
    // A field of 4 KiB, kept, and then named by one octet each, thousands of times.
    let value = "v".repeat(3900);
    let mut bomb = block(&GET);
    bomb.extend_from_slice(&[0x40, 1, b'a', 0x7f, 0xbd, 0x1d]);
    bomb.extend_from_slice(value.as_bytes());
    bomb.resize(bomb.len() + 8000, 0xbe);
    let octets = opened(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &bomb)]);
    let mut found = Sniffed::More;
    let info = allocation_counter::measure(|| found = sniffed(&octets));
    assert_eq!(found, Sniffed::Bad(Bad::RequestTooLong));
    assert!(info.bytes_max < 100_000 && info.count_total < 1000, "{info:?}");
}

#[test]
fn continuations_without_end_are_bounded() {
    let mut octets = opened(&[frame(kind::HEADERS, 0, 1, &[])]);
    while octets.len() < 16_384 {
        octets.extend_from_slice(&frame(kind::CONTINUATION, 0, 1, &[]));
    }
    let mut sniffer = sniffer(false, true);
    for n in 0..16_384 {
        assert_eq!(sniffer.more(&octets[..n]), Sniffed::More);
    }
    assert_eq!(sniffer.more(&octets), Sniffed::Bad(Bad::RequestTooLong));
}

proptest! {
    /// Any octets as a header block, and any frames: never a panic, and the same however cut.
    #[test]
    fn any_block_and_any_frames_are_read_the_same_however_they_are_cut(
        ahead in prop::collection::vec(any::<u8>(), 0..24),
        kinds in prop::collection::vec((0_u8..11, any::<u8>(), 0_u32..4, 0_usize..12), 0..4),
        cut in 0_usize..300,
    ) {
        let mut frames: Vec<Vec<u8>> =
            kinds.iter().map(|(kind, flags, stream, octets)| frame(*kind, *flags, *stream, &ahead[..ahead.len().min(*octets)])).collect();
        frames.push(frame(kind::HEADERS, flag::END_HEADERS, 1, &[&ahead[..], &block(&GET)].concat()));
        let octets = opened(&frames);
        let whole = sniffed(&octets);
        prop_assert_ne!(&whole, &Sniffed::More);
        let mut in_two = sniffer(true, true);
        let found = match in_two.more(&octets[..cut.min(octets.len())]) {
            Sniffed::More => in_two.more(&octets),
            found => found,
        };
        prop_assert_eq!(&found, &whole);
    }
}
