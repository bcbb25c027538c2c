use super::super::super::testing::lease;
use super::*;
use causeway_dhcpv6::{Identity, Kind, LeaseEvent, State};
use proptest::prelude::*;

fn any_lease() -> impl Strategy<Value = Lease> {
    let octets = |most| prop::collection::vec(any::<u8>(), 1..most);
    let who = prop_oneof![
        any::<[u8; 6]>().prop_map(|m| Identity::Mac(MacAddr(m))),
        (any::<u128>(), octets(40)).prop_map(|(l, id)| Identity::Interface { link: l.into(), id: id.into() }),
        octets(130).prop_map(|d| Identity::Duid(d.into())),
    ];
    let times = any::<[u64; 3]>();
    (
        who,
        octets(130),
        any::<Option<[u8; 6]>>(),
        any::<u128>(),
        0u8..=128,
        0usize..9,
        times,
        any::<u32>(),
        "[a-z]{0,20}",
    )
        .prop_map(|(identity, duid, mac, address, length, codes, times, iaid, link)| Lease {
            kind: [Kind::Address, Kind::Prefix, Kind::Registered][codes % 3],
            address: address.into(),
            length,
            link: link.into(),
            identity,
            duid: duid.into(),
            iaid,
            mac: mac.map(MacAddr),
            state: [State::Active, State::Free, State::Declined][codes / 3],
            preferred_until: times[0],
            valid_until: times[1],
            since: times[2],
        })
}

fn any_record() -> impl Strategy<Value = Record> {
    (any_lease(), any::<[u64; 5]>(), 0u8..7).prop_map(|(lease, n, event)| Record {
        seq: n[0],
        seen: n[1],
        event: event_of(event).unwrap(),
        first: n[2],
        at: n[3],
        times: n[4],
        current: n[4] % 2 == 0,
        lease,
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let position = (
        any::<[u8; 16]>(),
        any::<u64>(),
        any::<u64>(),
        any::<Option<bool>>(),
        prop::collection::vec(any::<u8>(), 0..130),
    )
        .prop_map(|(node, head, have, odd, duid)| {
            Message::Position(Position { node, head, have, odd, fixed: head % 2 == 0, duid: duid.into() })
        });
    prop_oneof![
        position,
        prop::collection::vec(any_record(), 0..5).prop_map(Message::Records),
        prop::collection::vec(any_record(), 0..5).prop_map(Message::Snapshot),
        any::<u64>().prop_map(Message::SnapshotEnd),
        any::<u64>().prop_map(Message::End),
        any::<u64>().prop_map(Message::Ack),
        Just(Message::Ask),
        Just(Message::Give),
        any::<u64>().prop_map(Message::Ping),
        any::<u64>().prop_map(Message::Pong),
        "[a-z ]{0,40}".prop_map(Message::Refuse),
    ]
}

proptest! {
    #[test]
    fn what_is_emitted_is_read_back(message in any_message()) {
        let (code, octets) = message.emit();
        prop_assert_eq!(Message::parse(code, &octets), Ok(Some(message)));
    }

    #[test]
    fn what_is_cut_or_has_more_is_refused(message in any_message(), at in any::<prop::sample::Index>()) {
        let (code, mut octets) = message.emit();
        if !octets.is_empty() {
            let cut = Message::parse(code, &octets[..at.index(octets.len())]);
            prop_assert!(cut.is_err(), "{:?}", cut);
        }
        octets.push(0);
        prop_assert!(Message::parse(code, &octets).is_err());
    }

    #[test]
    fn any_octets_are_read_or_refused(code in 0u16..14, octets in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(Some(message)) = Message::parse(code, &octets) {
            let again = message.emit();
            prop_assert_eq!(Message::parse(again.0, &again.1), Ok(Some(message)));
        }
    }
}

#[test]
fn a_message_of_the_most_and_longest_records_fits_in_a_frame() {
    let mut l = lease(1, 1, 1);
    l.duid = vec![1; 130].into();
    // No longer than the message that it came in.
    l.identity = Identity::Interface { link: l.address, id: vec![2; 4096].into() };
    l.link = "x".repeat(100).into();
    let record = Record {
        seq: 1,
        seen: 1,
        event: LeaseEvent::Given,
        first: 1,
        at: 1,
        times: 1,
        current: true,
        lease: l,
    };
    let (_, octets) = Message::Records(vec![record; RECORDS_MAX]).emit();
    assert!(octets.len() + HEAD + TAG <= FRAME_MAX, "{}", octets.len());
}

#[test]
fn values_that_no_field_has_are_refused_by_name() {
    let record = Record {
        seq: 1,
        seen: 1,
        event: LeaseEvent::Given,
        first: 1,
        at: 1,
        times: 1,
        current: true,
        lease: lease(1, 1, 1),
    };
    let (code, good) = Message::Records(vec![record]).emit();
    // Behind the count and eight numbers.
    for (at, value, name) in
        [(66, 7, "event"), (67, 3, "kind"), (68, 3, "state"), (69, 129, "length"), (70, 8, "flags")]
    {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(Message::parse(code, &bad), Err(CodecError::Bad(name)));
    }
    let many = [u16::try_from(RECORDS_MAX + 1).unwrap().to_be_bytes().to_vec(), vec![0; 100]].concat();
    assert_eq!(Message::parse(2, &many), Err(CodecError::Bad("count")));
    assert_eq!(Message::parse(12, b"of a later version"), Ok(None));
}
