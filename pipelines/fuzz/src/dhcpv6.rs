//! DHCPv6: the parser against the shape of what it takes, and the engine against what clients were told.

use causeway_core::{Duration, IfId, Instant};
use causeway_dhcpv6::message::{self, DUID_OCTETS, MOST_IAS, Received};
use causeway_dhcpv6::{
    Change, Config, Delegation, Engine, Grant, Kind, Lease, Link, Options, Pool, Request, Reservation, State,
};
use causeway_wire::MacAddr;
use dhcproto::Decodable;
use dhcproto::v6::{DhcpOption, Message, MessageType};
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

const SERVER: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0x64, 1];

/// A message: what is taken keeps the bounds, and is what `dhcproto` reads where that is strict enough.
pub fn message(octets: &[u8]) {
    let Ok(received) = message::parse(octets) else { return };
    let m = &received.message;
    assert!(m.ias.len() <= MOST_IAS && received.relays.len() <= 9 && octets.len() <= message::MOST_OCTETS);
    assert!([&m.client_id, &m.server_id].into_iter().flatten().all(|id| DUID_OCTETS.contains(&id.len())));
    assert!(m.client_id.is_some() || m.ask == message::Ask::Information);
    assert!(!(m.ask.names_server() && m.server_id.is_none()));
    assert!(!(m.ask.names_no_server() && m.server_id.is_some()));
    let mut numbers: Vec<_> = m.ias.iter().map(|ia| (ia.kind, ia.iaid)).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), m.ias.len());
    // What a client's engine answers can be read again.
    answered(&mut fresh(), &request(received, MacAddr([2, 0, 0, 0, 1, 9])), 1_800_000_000, Grant::All);
}

fn a(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn config() -> Config {
    let reserved = |n: u8| Reservation {
        mac: Some(MacAddr([2, 0, 0, 0, 1, n])),
        interface_id: None,
        duid: None,
        iaid: None,
        addresses: vec![Ipv6Addr::from_bits(a("2001:db8:64::100").to_bits() + u128::from(n))],
        prefixes: vec![],
        boot_file_url: Some("tftp://[2001:db8::1]/boot".to_owned()),
    };
    Config {
        server_duid: SERVER[..].into(),
        preference: 255,
        links: vec![Link {
            name: "tenant0".into(),
            link: Some(0),
            prefixes: vec!["2001:db8:64::/64".parse().expect("a prefix")],
            pools: vec![Pool { first: a("2001:db8:64::1000"), last: a("2001:db8:64::1005") }],
            delegations: vec![Delegation {
                prefix: "2001:db8:64:8000::/62".parse().expect("a prefix"),
                length: 64,
            }],
            reservations: vec![reserved(1), reserved(2)],
            excluded: vec![a("2001:db8:64::1")],
            preferred: Duration::from_secs(1000),
            valid: Duration::from_secs(2000),
            t1: None,
            t2: None,
            rapid_commit: true,
            options: Options {
                dns_servers: vec![a("2001:db8:64::53")],
                search: vec!["example".to_owned()],
                ..Options::default()
            },
        }],
        per_client: 3,
        capacity: 50,
        hold: Duration::from_secs(600),
        decline_hold: Duration::from_secs(3000),
        relays: vec![causeway_core::IfId(0), causeway_core::IfId(1), causeway_core::IfId(2)],
        client_rate: (1, 1),
        rate: (1, 1),
    }
}

fn fresh() -> Engine {
    Engine::new(Arc::new(config()), std::iter::empty())
}

fn request(received: Received, mac: MacAddr) -> Request {
    Request {
        interface: IfId(0),
        link: 0,
        source: mac.link_local(),
        source_port: 546,
        mac,
        arrived: Instant::ZERO,
        worker: 0,
        received,
    }
}

/// Handles a request; its answer, if there is one, can be read again, and says to the client no more than the
/// engine keeps. Gives the changes.
fn answered(engine: &mut Engine, request: &Request, now: u64, grant: Grant) -> Vec<Change> {
    let outcome = engine.handle(request, now, grant);
    let answer = outcome.answer.expect("always one");
    let octets = match (&answer.octets, outcome.why) {
        (Err(why), Some(same)) => {
            assert_eq!(*why, same);
            return outcome.changes;
        }
        (octets, None) => octets.as_ref().expect("a message"),
        (Ok(_), Some(why)) => panic!("an answer, and {why:?}"),
    };
    if request.received.relays.is_empty() {
        let read = Message::from_bytes(octets).expect("a message");
        assert_eq!(read.xid(), request.received.message.transaction);
        let known = [MessageType::Reply, MessageType::Advertise];
        assert!(known.contains(&read.msg_type()));
        let id = read.opts().iter().find_map(|o| match o {
            DhcpOption::ClientId(id) => Some(&id[..]),
            _ => None,
        });
        assert_eq!(id, request.received.message.client_id.as_deref());
    }
    outcome.changes
}

/// What is on the disk must be what the engine has; and an address is one client's until its lease is over.
fn keep(kept: &mut HashMap<(Kind, Ipv6Addr), Lease>, changes: &[Change], now: u64) {
    for c in changes {
        let key = (c.after.kind, c.after.address);
        let before = kept.insert(key, c.after.clone());
        assert_eq!(before, c.before);
        if let Some(before) = before.filter(|b| b.identity != c.after.identity) {
            assert_eq!(before.state, State::Free, "taken from who has it: {c:?}");
            assert!(before.valid_until <= now);
        }
    }
}

/// A sequence of messages, each behind a row of four octets: who sends it (low bits) and whether the disk
/// refuses it (the highest), the time that passes before it in units of 16 s, and its length.
pub fn engine(mut rest: &[u8]) {
    let mut engine = fresh();
    let (mut now, mut kept) = (1_800_000_000, HashMap::new());
    let mut steps = 0;
    while let Some(([who, pass, high, low], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (octets, after) = after.split_at(length);
        rest = after;
        steps += 1;
        if steps > 200 {
            return;
        }
        now += u64::from(*pass) * 16;
        let expired = engine.expire(now, 5);
        keep(&mut kept, &expired, now);
        let Ok(received) = message::parse(octets) else { continue };
        let request = request(received, MacAddr([2, 0, 0, 0, 1, who & 7]));
        let grant = match who >> 4 & 3 {
            0 | 1 => Grant::All,
            2 => Grant::Known,
            _ => Grant::Share { odd: who & 8 != 0, parted: now },
        };
        let mut changes = answered(&mut engine, &request, now, grant);
        if who & 0x80 != 0 {
            engine.undo(&changes);
            changes = answered(&mut engine, &request, now, Grant::ReadOnly);
            assert!(changes.is_empty());
        }
        keep(&mut kept, &changes, now);
        assert_eq!(engine.count(), kept.len());
        assert!(engine.leases().all(|l| kept.get(&(l.kind, l.address)) == Some(&l)));
        assert!(kept.len() <= 50 + 4);
    }
}

fn option(code: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short option");
    [&code.to_be_bytes()[..], &length.to_be_bytes(), content].concat()
}

fn client_message(kind: u8, iaid: u8, address: &str) -> Vec<u8> {
    let shown = option(5, &[&a(address).octets()[..], &[0; 8]].concat());
    let prefix = option(26, &[&[0; 8][..], &[64], &[0; 16]].concat());
    let head = [0, 0, 0, iaid, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut message = vec![kind, 1, 2, 3];
    message.extend(option(1, &[0, 3, 0, 1, 2, 0, 0, 0, 1, iaid]));
    if matches!(kind, 3 | 5 | 8 | 9) {
        message.extend(option(2, &SERVER));
    }
    if kind != 11 {
        message.extend(option(3, &[&head[..], &shown].concat()));
        message.extend(option(25, &[&head[..], &prefix].concat()));
    }
    message.extend(option(6, &[0, 23, 0, 24, 0, 59]));
    message.extend(option(8, &[0, 0]));
    if kind == 1 {
        message.extend(option(14, &[]));
    }
    message
}

fn relayed(inner: &[u8]) -> Vec<u8> {
    let mut message = vec![12, 0];
    message.extend(a("2001:db8:64::").octets());
    message.extend(a("fe80::9").octets());
    message.extend(option(18, b"port1"));
    message.extend(option(37, &[0, 0, 0, 9, 1]));
    message.extend(option(79, &[0, 1, 2, 0, 0, 0, 1, 3]));
    message.extend(option(9, inner));
    message
}

/// Each kind of message, directly and by one and two relays; and rows of them from several clients.
pub(crate) fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let kinds = [1u8, 3, 4, 5, 6, 8, 9, 11];
    let mut list = Vec::new();
    for kind in kinds {
        let direct = client_message(kind, 1, "2001:db8:64::1001");
        let once = relayed(&direct);
        list.push((format!("kind-{kind:02}-twice-relayed"), relayed(&once)));
        list.push((format!("kind-{kind:02}-relayed"), once));
        list.push((format!("kind-{kind:02}"), direct));
    }
    if target == "dhcpv6_message" {
        return list;
    }
    let step = |who: u8, pass: u8, message: &[u8]| {
        let length = u16::try_from(message.len()).expect("a short message").to_be_bytes();
        [&[who, pass][..], &length, message].concat()
    };
    let rows = [0u8, 0x80, 0x20, 0x30].map(|mode| {
        let of = |who: u8| {
            [3u8, 5, 6, 9, 3, 8]
                .iter()
                .map(move |kind| step(mode | who, 0, &client_message(*kind, who, "2001:db8:64::1001")))
        };
        let steps: Vec<Vec<u8>> = (1..4).flat_map(of).collect();
        let over = (1..4).map(|who| step(who, 250, &client_message(1, who, "2001:db8:64::1002")));
        (format!("row-{mode:02x}"), steps.into_iter().chain(over).flatten().collect())
    });
    list.iter().map(|(name, m)| (name.clone(), step(9, 1, m))).chain(rows).collect()
}
