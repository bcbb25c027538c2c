//! Messages as an independent parser reads them.

use super::super::Remote;
use super::*;
use netflow_parser::variable_versions::ipfix::FlowSetBody;
use netflow_parser::{NetflowPacket, NetflowParser};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Octets of the smallest message that may be configured.
const LEAST: usize = 512 - 48;

const KINDS: [Kind; 9] = [
    Kind::SessionCreated,
    Kind::SessionEnded,
    Kind::MappingCreated,
    Kind::MappingEnded,
    Kind::BlockGiven,
    Kind::BlockReturned,
    Kind::AddressesExhausted,
    Kind::TooManySessions,
    Kind::TooManyMappings,
];

fn event(kind: Kind) -> NatEvent {
    NatEvent {
        kind,
        at_ms: 0x0102_0304_0506,
        protocol: 17,
        src6: "2001:db8:64::101".parse().unwrap(),
        src_port: 4000,
        out4: Ipv4Addr::new(203, 0, 113, 5),
        out_port: 2048,
        last_port: 2303,
        remote: None,
        limit: 1_000_000,
    }
}

fn to_server(kind: Kind) -> NatEvent {
    let remote = Remote {
        six: "2001:db8:64:ff9b::198.51.100.10".parse().unwrap(),
        four: Ipv4Addr::new(198, 51, 100, 10),
        port: 53,
    };
    NatEvent { remote: Some(remote), ..event(kind) }
}

/// A record as the parser names its fields, each with its octets.
type Decoded = Vec<(String, Vec<u8>)>;

/// A message taken apart by the parser, which has to understand all of it.
fn decode(parser: &mut NetflowParser, octets: &[u8]) -> (u32, u32, u32, Vec<Decoded>) {
    let result = parser.parse_bytes(octets);
    assert!(result.error.is_none(), "{:?}", result.error);
    let [NetflowPacket::IPFix(message)] = &result.packets[..] else { panic!("{:?}", result.packets) };
    assert_eq!((message.header.version, usize::from(message.header.length)), (10, octets.len()));
    let mut out = Vec::new();
    for set in &message.flowsets {
        match &set.body {
            FlowSetBody::Template(_) | FlowSetBody::Templates(_) => {}
            FlowSetBody::Data(data) => {
                assert!(data.padding.is_empty());
                for record in &data.fields {
                    out.push(
                        record
                            .iter()
                            .map(|(field, value)| {
                                let name = format!("{field:?}");
                                let name = name.trim_start_matches("IANA(").trim_end_matches(')').to_owned();
                                let mut octets = Vec::new();
                                value.write_be_bytes(&mut octets).unwrap();
                                (name, octets)
                            })
                            .collect(),
                    );
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let h = &message.header;
    (h.export_time, h.sequence_number, h.observation_domain_id, out)
}

/// A parser that has been sent the templates.
fn parser() -> NetflowParser {
    let mut parser = NetflowParser::default();
    let mut m = Message::new(LEAST);
    m.add_templates();
    assert_eq!(m.records(), 0);
    assert_eq!(decode(&mut parser, m.finish(0, 0, 1)).3, Vec::<Decoded>::new());
    parser
}

/// What the tables of RFC 8158 4.6 want of an event, written down a second time.
fn wanted(e: &NatEvent) -> Decoded {
    let f = |name: &str, octets: &[u8]| (name.to_owned(), octets.to_vec());
    let number = match e.kind {
        Kind::AddressesExhausted => 3,
        Kind::SessionCreated => 6,
        Kind::SessionEnded => 7,
        Kind::MappingCreated => 10,
        Kind::MappingEnded => 11,
        Kind::TooManySessions | Kind::TooManyMappings => 13,
        Kind::BlockGiven => 16,
        Kind::BlockReturned => 17,
    };
    let mut out = vec![f("ObservationTimeMilliseconds", &e.at_ms.to_be_bytes()), f("NatEvent", &[number])];
    match e.kind {
        Kind::AddressesExhausted => out.push(f("NatPoolId", &[0; 4])),
        Kind::TooManySessions | Kind::TooManyMappings => {
            let (quota, limit) = match e.kind {
                Kind::TooManySessions => (1, "MaxSessionEntries"),
                _ => (2, "MaxBibEntries"),
            };
            out.push(f("NatQuotaExceededEvent", &[0, 0, 0, quota]));
            out.push(f(limit, &e.limit.to_be_bytes()));
        }
        _ => {
            out.push(f("SourceIpv6address", &e.src6.octets()));
            out.push(f("PostNATSourceIpv4Address", &e.out4.octets()));
        }
    }
    match e.kind {
        Kind::BlockGiven | Kind::BlockReturned => {
            out.push(f("PortRangeStart", &e.out_port.to_be_bytes()));
            out.push(f("PortRangeEnd", &e.last_port.to_be_bytes()));
        }
        Kind::SessionCreated | Kind::SessionEnded | Kind::MappingCreated | Kind::MappingEnded => {
            out.push(f("ProtocolIdentifier", &[e.protocol]));
            out.push(f("SourceTransportPort", &e.src_port.to_be_bytes()));
            out.push(f("PostNAPTSourceTransportPort", &e.out_port.to_be_bytes()));
        }
        _ => {}
    }
    if let (Kind::SessionCreated | Kind::SessionEnded, Some(r)) = (e.kind, e.remote) {
        out.push(f("DestinationIpv6Address", &r.six.octets()));
        out.push(f("PostNATDestinationIpv4Address", &r.four.octets()));
        out.push(f("DestinationTransportPort", &r.port.to_be_bytes()));
        out.push(f("PostNAPTDestinationTransportPort", &r.port.to_be_bytes()));
    }
    out
}

/// The same without regard to how names are spelt.
fn plain(records: Vec<Decoded>) -> Vec<Decoded> {
    let plain = |d: Decoded| d.into_iter().map(|(name, v)| (name.to_ascii_lowercase(), v)).collect();
    records.into_iter().map(plain).collect()
}

#[test]
fn rfc7011_3_a_message_octet_by_octet() {
    let mut m = Message::new(LEAST);
    assert!(m.is_empty());
    assert!(m.add(&event(Kind::MappingCreated)));
    let wanted: Vec<u8> = [
        // Header: version, length, export time, sequence number, observation domain.
        &[0, 10, 0, 54, 0x65, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 9][..],
        // Set: id, length.
        &[1, 2, 0, 38],
        &[0, 0, 1, 2, 3, 4, 5, 6, 10],
        &[0x20, 1, 0xd, 0xb8, 0, 0x64, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
        &[203, 0, 113, 5, 17, 0x0f, 0xa0, 8, 0],
    ]
    .concat();
    assert_eq!(m.finish(7, 0x6500_0001, 9), wanted);
    // The same for another collector, whose session began later.
    let mut other = wanted;
    other[11] = 1;
    assert_eq!(m.finish(1, 0x6500_0001, 9), other);
    m.clear();
    assert!(m.is_empty() && m.records() == 0);
}

#[test]
fn rfc8158_4_6_templates_fit_the_smallest_packet_and_have_ids_from_256() {
    let mut m = Message::new(LEAST);
    m.add_templates();
    let octets = m.finish(0, 0, 1).to_vec();
    assert!(octets.len() <= 300 && octets.len() <= LEAST, "{}", octets.len());
    let result = NetflowParser::default().parse_bytes(&octets);
    let [NetflowPacket::IPFix(message)] = &result.packets[..] else { panic!("{:?}", result.packets) };
    let FlowSetBody::Templates(templates) = &message.flowsets[0].body else { panic!("{message:?}") };
    assert_eq!(templates.iter().map(|t| t.template_id).collect::<Vec<_>>(), (256..263).collect::<Vec<_>>());
    assert!(templates.iter().all(|t| t.fields.len() == usize::from(t.field_count)));
}

/// RFC 8158 4.6.10.
#[test]
fn rfc8158_4_6_every_event_has_its_fields_and_its_number() {
    let mut parser = parser();
    for kind in KINDS {
        for e in [event(kind), to_server(kind)] {
            let mut m = Message::new(LEAST);
            assert!(m.add(&e));
            let (.., records) = decode(&mut parser, m.finish(0, 0, 1));
            assert_eq!(plain(records), plain(vec![wanted(&e)]), "{e:?}");
        }
    }
}

#[test]
fn rfc8158_4_1_without_a_remote_end_no_field_names_one() {
    for kind in KINDS {
        let fields = Template::of(&event(kind)).fields;
        assert!(fields.iter().all(|(element, _)| ![11, 28, 226, 228].contains(element)), "{kind:?}");
    }
}

#[test]
fn records_of_one_kind_share_a_set_and_full_is_full() {
    let mut m = Message::new(LEAST);
    let e = event(Kind::SessionEnded);
    let mut n = 0;
    while m.add(&e) {
        n += 1;
    }
    assert_eq!((n, m.records()), ((LEAST - 20) / 34, (LEAST as u32 - 20) / 34));
    let octets = m.finish(0, 0, 1);
    assert_eq!(octets.len(), 20 + n * 34);
    let length = u16::try_from(n * 34 + 4).unwrap().to_be_bytes();
    assert_eq!(octets[16..20], [1, 0, length[0], length[1]], "one set");
}

fn events() -> impl Strategy<Value = Vec<NatEvent>> {
    let remote = proptest::option::of(
        (any::<u128>(), any::<u32>(), any::<u16>()).prop_map(|(six, four, port)| Remote {
            six: six.into(),
            four: four.into(),
            port,
        }),
    );
    let one = (
        proptest::sample::select(&KINDS[..]),
        (0u64..1 << 48, any::<u8>(), any::<u128>(), any::<u16>()),
        (any::<u32>(), any::<u16>(), any::<u16>(), any::<u32>()),
        remote,
    )
        .prop_map(
            |(kind, (at_ms, protocol, src6, src_port), (out4, out_port, last_port, limit), remote)| {
                NatEvent {
                    kind,
                    at_ms,
                    protocol,
                    src6: Ipv6Addr::from_bits(src6),
                    src_port,
                    out4: Ipv4Addr::from_bits(out4),
                    out_port,
                    last_port,
                    remote,
                    limit,
                }
            },
        );
    proptest::collection::vec(one, 0..80)
}

proptest! {
    /// Whatever happens, in whatever order: another parser reads what was written, and no message is too
    /// long.
    #[test]
    fn rfc7011_what_is_written_is_what_is_read(events in events(), most in LEAST..1500, domain: u32, start: u32) {
        let mut parser = parser();
        let mut m = Message::new(most);
        let (mut read, mut sequence) = (Vec::new(), start);
        let mut send = |m: &mut Message| {
            let records = m.records();
            let octets = m.finish(sequence, 1_700_000_000, domain);
            assert!(octets.len() <= most);
            let (export_s, got_sequence, got_domain, records_read) = decode(&mut parser, octets);
            assert_eq!((export_s, got_sequence, got_domain), (1_700_000_000, sequence, domain));
            assert_eq!(records_read.len(), records as usize);
            sequence = sequence.wrapping_add(records);
            read.extend(records_read);
            m.clear();
        };
        for e in &events {
            if !m.add(e) {
                send(&mut m);
                prop_assert!(m.add(e), "the smallest message has room for any record");
            }
        }
        if !m.is_empty() {
            send(&mut m);
        }
        prop_assert_eq!(plain(read), plain(events.iter().map(wanted).collect()));
    }
}
