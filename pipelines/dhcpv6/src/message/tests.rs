//! What is refused and why, and that nothing makes the parser panic.

use super::*;
use crate::testing::*;
use dhcproto::v6::MessageType as M;
use dhcproto::v6::{DhcpOptions, IATA};
use proptest::prelude::*;
use std::collections::HashSet;

fn client() -> DhcpOption {
    DhcpOption::ClientId(duid(1))
}

fn server() -> DhcpOption {
    DhcpOption::ServerId(SERVER.to_vec())
}

fn ia(content: &[u8]) -> DhcpOption {
    raw(3, &[&[0; 12], content].concat())
}

// RFC 9915 16, RFC 9915 16.2, RFC 9915 16.4, RFC 9915 16.5, RFC 9915 16.6, RFC 9915 16.7, RFC 9915 16.8,
// RFC 9915 16.9, RFC 9915 16.12, RFC 9915 16.14, RFC 9915 19.1.2, RFC 9915 21, RFC 9915 21.22.
#[test]
fn every_way_to_be_wrong_has_its_own_reason() {
    use MessageError as E;
    let many: Vec<DhcpOption> = (0..33).map(|n| ia_na(n, &[])).collect();
    let cut = |n: usize| {
        let mut octets = octets(M::Solicit, &[client(), ia_na(1, &["2001:db8::1"])]);
        octets.truncate(octets.len() - n);
        octets
    };
    let solicit = |options: &[DhcpOption]| octets(M::Solicit, &[&[client()], options].concat());
    let inner = solicit(&[ia_na(1, &[])]);
    let nested = |n: u8| (0..n).fold(inner.clone(), |m, hop| relayed(hop.min(8), "::", "fe80::1", &[], &m));
    let rows: Vec<(&str, Vec<u8>, MessageError)> = vec![
        ("nothing", vec![], E::Truncated),
        ("a header that is cut", vec![1, 2, 3], E::Truncated),
        ("an option that is cut", cut(1), E::Truncated),
        ("an option header that is cut", solicit(&[]).into_iter().chain([0, 3, 0]).collect(), E::Truncated),
        ("an option cut inside an IA", solicit(&[ia(&[0, 5, 0, 24, 1])]), E::Truncated),
        (
            "an option cut inside an address",
            solicit(&[ia(&[&[0, 5, 0, 26][..], &[0; 26]].concat())]),
            E::Truncated,
        ),
        ("rfc9915_16 a server's message", octets(M::Advertise, &[client(), server()]), E::Type),
        ("rfc9915_16 a Reply", octets(M::Reply, &[client(), server()]), E::Type),
        ("rfc9915_16 a Reconfigure", octets(M::Reconfigure, &[client(), server()]), E::Type),
        ("rfc9915_16_14 a Relay-reply", octets(M::RelayRepl, &[]), E::Type),
        ("rfc9915_16 an unknown type", octets(M::Unknown(200), &[client()]), E::Type),
        ("rfc9915_16_2 a Solicit without client", octets(M::Solicit, &[ia_na(1, &[])]), E::NoClientId),
        ("rfc9915_16_2 a Solicit to a server", solicit(&[server()]), E::ServerId),
        ("rfc9915_16_4 a Request without server", octets(M::Request, &[client()]), E::NoServerId),
        ("rfc9915_16_5 a Confirm to a server", octets(M::Confirm, &[client(), server()]), E::ServerId),
        ("rfc9915_16_6 a Renew without server", octets(M::Renew, &[client()]), E::NoServerId),
        ("rfc9915_16_7 a Rebind to a server", octets(M::Rebind, &[client(), server()]), E::ServerId),
        ("rfc9915_16_8 a Decline without server", octets(M::Decline, &[client()]), E::NoServerId),
        ("rfc9915_16_9 a Release without client", octets(M::Release, &[server()]), E::NoClientId),
        ("rfc9915_16_12 an IA for information", octets(M::InformationRequest, &[ia_na(1, &[])]), E::Ia),
        ("rfc9915_11_1 an empty DUID", octets(M::Solicit, &[raw(1, &[])]), E::Duid),
        ("rfc9915_11_1 a DUID without content", octets(M::Solicit, &[raw(1, &[0, 3])]), E::Duid),
        ("rfc9915_11_1 a DUID too long", octets(M::Solicit, &[raw(1, &[3; 131])]), E::Duid),
        ("two clients", solicit(&[client()]), E::Duplicate),
        ("two option requests", solicit(&[wants(&[23]), wants(&[24])]), E::Duplicate),
        ("two elapsed times", solicit(&[raw(8, &[0, 0]), raw(8, &[0, 0])]), E::Duplicate),
        ("rapid twice", solicit(&[raw(14, &[]), raw(14, &[])]), E::Duplicate),
        ("rfc9915_21_14 a rapid commit with content", solicit(&[raw(14, &[1])]), E::OptionLength),
        ("rfc9915_21_9 an elapsed time of an octet", solicit(&[raw(8, &[1])]), E::OptionLength),
        ("rfc9915_21_7 half an option code", solicit(&[raw(6, &[0, 23, 0])]), E::OptionLength),
        ("rfc9915_21_13 a status of an octet", solicit(&[raw(13, &[0])]), E::OptionLength),
        ("rfc9915_21_4 an IA without T2", solicit(&[raw(3, &[0; 11])]), E::OptionLength),
        ("rfc9915_21_6 half an address", solicit(&[ia(&[0, 5, 0, 2, 1, 2])]), E::OptionLength),
        (
            "rfc9915_21_22 a prefix of 129 bits",
            solicit(&[raw(25, &[&[0; 12][..], &[0, 26, 0, 25], &[0; 8], &[129], &[0; 16]].concat())]),
            E::PrefixLength,
        ),
        ("rfc9915_21_4 one IAID twice", solicit(&[ia_na(1, &[]), ia_na(1, &[])]), E::DuplicateIa),
        ("hundreds of IAs", solicit(&many), E::TooManyIas),
        ("a message too long", solicit(&[raw(4000, &[0; 4090])]), E::TooLong),
        ("rfc9915_19_1_2 ten relays", nested(10), E::Hops),
        ("rfc9915_19_1_2 a hop count too high", relayed(9, "::", "fe80::1", &[], &inner), E::Hops),
        ("rfc9915_9_1 a relay without message", [&[12, 0][..], &[0; 32]].concat(), E::NothingRelayed),
        ("a relay that is cut", [&[12, 0][..], &[0; 31]].concat(), E::Truncated),
        ("a relay that carries nothing", relayed(0, "::", "fe80::1", &[], &[]), E::Truncated),
        (
            "a relay's address without type",
            relayed(0, "::", "fe80::1", &[raw(79, &[0])], &inner),
            E::OptionLength,
        ),
        (
            "a relay's interface twice",
            relayed(0, "::", "fe80::1", &[raw(18, b"a"), raw(18, b"a")], &inner),
            E::Duplicate,
        ),
        (
            "a remote-id without number",
            relayed(0, "::", "fe80::1", &[raw(37, &[0; 4])], &inner),
            E::OptionLength,
        ),
    ];
    for (what, octets, why) in &rows {
        assert_eq!(parse(octets).map(|_| ()), Err(*why), "{what}");
    }
    let covered: HashSet<DropReason> = rows.iter().map(|(_, _, why)| why.reason()).collect();
    assert_eq!(covered, MessageError::ALL.iter().map(|why| why.reason()).collect());
    assert_eq!(covered.len(), MessageError::ALL.len());
    // Nine relays are as many as there can be.
    assert_eq!(parse(&nested(9)).map(|r| r.relays.len()), Ok(9));
}

// RFC 9915 21.5: IA_TA is one of them.
#[test]
fn rfc9915_16_options_that_are_not_known_are_not_there() {
    // What dhcproto would choke on: lengths that it subtracts from, and reads past.
    let unknown =
        [raw(999, &[1, 2, 3]), raw(16, &[]), raw(17, &[1]), raw(11, &[]), raw(56, &[0]), raw(24, &[0xc0])];
    // RFC 9915 21.5: IA_TA is obsolete.
    let ta = DhcpOption::IATA(IATA { id: 1, opts: DhcpOptions::new() });
    let with = octets(M::Solicit, &[&[client(), ia_na(1, &[])], &unknown[..], &[ta]].concat());
    assert_eq!(parse(&with), parse(&octets(M::Solicit, &[client(), ia_na(1, &[])])));
    // Inside an IA as well.
    let inside = ia(&[0, 13, 0, 0, 0, 17, 0, 1, 9]);
    assert!(parse(&octets(M::Solicit, &[client(), inside])).is_ok());
}

#[test]
fn what_a_client_says_is_read() {
    let options = [
        client(),
        ia_na(7, &["2001:db8::7", "::"]),
        ia_pd(7, &["2001:db8:8000::/49"]),
        wants(&[23, 144]),
        raw(14, &[]),
    ];
    let r = parse(&octets(M::Solicit, &options)).expect("fine");
    assert!(r.relays.is_empty());
    let m = r.message;
    assert_eq!((m.ask, m.transaction, m.rapid_commit), (Ask::Solicit, [0xaa, 0xbb, 0xcc], true));
    assert_eq!((m.client_id.as_deref(), m.server_id), (Some(&duid(1)[..]), None));
    assert_eq!(m.wants, [23, 144]);
    let shown = |text: &str, length| Shown { address: a(text), length };
    let want = [
        Ia { kind: IaKind::Addresses, iaid: 7, shown: vec![shown("2001:db8::7", 128), shown("::", 128)] },
        Ia { kind: IaKind::Prefixes, iaid: 7, shown: vec![shown("2001:db8:8000::", 49)] },
    ];
    assert_eq!(m.ias, want);
}

#[test]
fn rfc9915_9_1_what_relays_say_is_read() {
    let inner = octets(M::Solicit, &[client()]);
    let options =
        [raw(18, b"eth1"), raw(37, &[0, 0, 0, 9, 1]), raw(79, &[0, 1, 2, 0, 0, 0, 1, 9]), raw(135, &[0, 0])];
    let near = relayed(0, "2001:db8:77::1", "fe80::9", &options, &inner);
    let r = parse(&relayed(1, "::", "2001:db8:77::2", &[], &near)).expect("fine");
    assert_eq!((r.relays[0].hop_count, r.relays[0].peer_address), (1, a("2001:db8:77::2")));
    let near = &r.relays[1];
    assert_eq!((near.link_address, near.peer_address), (a("2001:db8:77::1"), a("fe80::9")));
    assert_eq!((near.interface_id.as_deref(), near.client_mac), (Some(&b"eth1"[..]), Some(mac(9))));
    assert_eq!((near.remote_id.as_deref(), near.relay_port), (Some(&[0, 0, 0, 9, 1][..]), Some(0)));
}

#[test]
fn rfc9915_11_1_duids_of_every_length() {
    for octets_of_duid in 0..=200 {
        let message = octets(M::Solicit, &[raw(1, &vec![0; octets_of_duid])]);
        assert_eq!(parse(&message).is_ok(), (3..=130).contains(&octets_of_duid), "{octets_of_duid}");
    }
}

/// Options as they might be, or not quite.
fn option() -> impl Strategy<Value = DhcpOption> {
    let code = prop_oneof![0u16..30, prop::sample::select(vec![37u16, 56, 79, 135, 144]), any::<u16>()];
    prop_oneof![
        4 => (code, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(code, content)| raw(code, &content)),
        1 => (0u32..3).prop_map(|n| ia_na(n, &["2001:db8::1"])),
        1 => (0u32..3).prop_map(|n| ia_pd(n, &["2001:db8::/64"])),
        1 => Just(client()),
        1 => Just(server()),
    ]
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&octets);
    }

    #[test]
    fn no_options_make_it_panic_and_what_is_read_keeps_the_bounds(
        kind in 0u8..14,
        options in prop::collection::vec(option(), 0..8),
        relays in 0u8..3,
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut octets = octets(M::from(kind), &options);
        for hop in 0..relays {
            octets = relayed(hop, "::", "fe80::1", &options, &octets);
        }
        if let Some(cut) = cut {
            octets.truncate(cut.index(octets.len()));
        }
        if let Ok(r) = parse(&octets) {
            prop_assert!(r.message.ias.len() <= MOST_IAS && r.relays.len() <= 9);
            prop_assert!(r.message.client_id.iter().all(|id| DUID_OCTETS.contains(&id.len())));
            prop_assert!(r.message.ias.iter().flat_map(|ia| &ia.shown).all(|s| s.length <= 128));
        }
    }
}
