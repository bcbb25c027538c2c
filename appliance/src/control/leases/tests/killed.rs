//! kill -9 at any moment: a child process serves clients with the real server, a real file and real commits, and
//! says what it answered; it is killed again and again, and the file is looked at. In tests the store folds after a few
//! hundred events, so that many of the kills are amid that.

use super::super::testing::Dice;
use super::*;
use causeway_core::{Duration as Span, IfId, Instant as Moment};
use causeway_dhcpv6::message::{Ask, Ia, IaKind, Message, Received};
use causeway_dhcpv6::{Answer, Config, Engine, Link, Options, Pool, Request};
use dhcproto::v6::{DhcpOption, Message as Wire};
use dhcproto::{Decodable, Decoder};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

/// Tells the child where its store is; without it that test does nothing.
const CHILD: &str = "CAUSEWAY_TEST_LEASE_STORE";
const CLIENTS: u32 = 2000;
const LIFETIME: u64 = 40_000;

fn mac_of(client: u32) -> MacAddr {
    let [a, b, c, d] = client.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

fn server(duid: &[u8]) -> Config {
    let link = Link {
        name: "tenant".into(),
        link: Some(0),
        prefixes: vec!["2001:db8:64::/64".parse().unwrap()],
        // Fuller than full: some clients get nothing, and places are fought for.
        pools: vec![Pool {
            first: "2001:db8:64::1000".parse().unwrap(),
            last: "2001:db8:64::16ff".parse().unwrap(),
        }],
        delegations: Vec::new(),
        reservations: Vec::new(),
        excluded: Vec::new(),
        preferred: Span::from_secs(LIFETIME),
        valid: Span::from_secs(LIFETIME),
        t1: None,
        t2: None,
        rapid_commit: false,
        options: Options::default(),
    };
    Config {
        server_duid: duid.into(),
        preference: 255,
        links: vec![link],
        per_client: 8,
        capacity: 100_000,
        hold: Span::from_secs(3600),
        decline_hold: Span::from_secs(86_400),
        relays: vec![causeway_core::IfId(0), causeway_core::IfId(1), causeway_core::IfId(2)],
        client_rate: (1000, 1000),
        rate: (1_000_000, 1_000_000),
    }
}

fn request(client: u32, worker: u16, duid: &[u8]) -> Request {
    let mac = mac_of(client);
    Request {
        interface: IfId(0),
        link: 0,
        source: "fe80::1".parse().unwrap(),
        source_port: 546,
        mac,
        arrived: Moment::ZERO,
        worker,
        received: Received {
            relays: Vec::new(),
            message: Message {
                ask: Ask::Request,
                transaction: [0, 0, 1],
                client_id: Some([&[0, 3, 0, 1][..], &mac.0].concat().into()),
                server_id: Some(duid.into()),
                ias: vec![Ia { kind: IaKind::Addresses, iaid: 1, shown: Vec::new() }],
                wants: Vec::new(),
                rapid_commit: false,
            },
        },
    }
}

/// The address and valid lifetime that a Reply gives.
fn given(answer: &Answer) -> Option<(Ipv6Addr, u32)> {
    let reply = Wire::decode(&mut Decoder::new(answer.octets.as_ref().unwrap())).unwrap();
    let ia = reply.opts().iter().find_map(|o| match o {
        DhcpOption::IANA(ia) => Some(ia),
        _ => None,
    })?;
    ia.opts.iter().find_map(|o| match o {
        DhcpOption::IAAddr(a) => Some((a.addr, a.valid_life)),
        _ => None,
    })
}

/// Serves until it is killed.
#[test]
fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let opened = open(config(Path::new(&path), None)).unwrap();
    let duid: Box<[u8]> = opened.duid().into();
    let rings: Vec<_> =
        (0..2).map(|_| (Arc::new(ArrayQueue::new(256)), Arc::new(ArrayQueue::new(256)))).collect();
    let spec = Spec::<Engine> {
        server: Arc::new(server(&duid)),
        rings: rings.iter().map(|(q, a)| Rings { requests: Arc::clone(q), answers: Arc::clone(a) }).collect(),
        bindings: Box::new(()),
        active: Box::new(|| true),
        clock: Box::new(time_of_day),
    };
    let _leases = opened.start(spec).unwrap();
    let mut dice = Dice::new();
    let mut out = std::io::stdout().lock();
    writeln!(out, "READY").unwrap();
    loop {
        for (worker, (requests, answers)) in (0..).zip(&rings) {
            let sent = time_of_day();
            for _ in 0..64 {
                let client = dice.below(CLIENTS);
                if requests.push(Box::new(request(client, worker, &duid))).is_err() {
                    break;
                }
            }
            while let Some(answer) = answers.pop() {
                if let Some((address, valid)) = given(&answer) {
                    // No earlier than it was asked for a while ago; a second off is allowed for.
                    let until = sent.saturating_sub(2) + u64::from(valid);
                    writeln!(out, "LEASE {} {address} {until}", answer.mac).unwrap();
                }
            }
        }
        out.flush().unwrap();
        std::thread::sleep(Duration::from_micros(300));
    }
}

#[test]
fn a_kill_at_any_moment_loses_no_lease_that_was_answered_and_gives_none_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases.db");
    let mut dice = Dice::new();
    // What was ever told: to whom, and until when at least.
    let mut told: HashMap<Ipv6Addr, (String, u64)> = HashMap::new();
    let (mut answers, mut kills, mut amid) = (0, 0, 0);
    let end = Instant::now() + Duration::from_secs(60);
    while kills < 25 && Instant::now() < end {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["control::leases::tests::killed::child", "--exact", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line.ends_with("READY"));
        assert!(ready, "the child started");
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_micros(u64::from(dice.below(150_000))));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        for line in reader.join().unwrap() {
            // The last line may be cut.
            let words: Vec<&str> = line.split(' ').collect();
            let ["LEASE", mac, address, until] = words[..] else { continue };
            let (Ok(address), Ok(until), 17) = (address.parse(), until.parse::<u64>(), mac.len()) else {
                continue;
            };
            if until < LIFETIME {
                continue;
            }
            answers += 1;
            let before = told.entry(address).or_insert_with(|| (mac.to_owned(), 0));
            assert_eq!(before.0, mac, "{address} was given to two clients");
            before.1 = before.1.max(until);
        }
        let store = Store::open(&path).unwrap();
        let kept: HashMap<Ipv6Addr, Lease> =
            store.load(|leases| leases.map(|l| (l.address, l)).collect()).unwrap();
        for (address, (mac, until)) in &told {
            let lease = kept.get(address).unwrap_or_else(|| panic!("{address} of {mac} is lost"));
            assert_eq!((lease.mac.unwrap().to_string(), lease.state), (mac.clone(), State::Active));
            assert!(lease.valid_until >= *until, "{address}: {} instead of {until}", lease.valid_until);
        }
        // History says the same, of log and tables together.
        let reader = store.reader().unwrap();
        for (address, (mac, _)) in told.iter().take(50) {
            let who = reader.who(*address, u64::MAX >> 1).unwrap();
            assert_eq!(
                who.first().map(|a| a.lease.mac.unwrap().to_string()).as_ref(),
                Some(mac),
                "{address}"
            );
        }
        amid += usize::from(store.is_half_folded());
    }
    println!("{kills} kills, {amid} amid folding, {answers} answers, {} addresses", told.len());
    assert!(kills >= 5 && answers > 100, "{kills} kills, {answers} answers: nothing was tried");
    assert!(amid > 0, "no kill was amid folding");
}
