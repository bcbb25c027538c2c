//! The resolver's part of the API, with a fake resolver behind it.

use super::*;
use crate::testing::FakeGateway;
use std::net::IpAddr;

fn wire(name: &str) -> causeway_dns64::question::WireName {
    parse_name(name).unwrap()
}

fn explained(id: u64) -> Box<Explained> {
    Box::new(Explained { id, steps: Vec::new(), answer: None })
}

#[test]
fn lookups_are_bounded_and_leave_nothing_behind() {
    let lookups = Lookups::default();
    let mut all: Vec<_> = (0..LOOKUPS_MOST).map(|_| lookups.begin().unwrap()).collect();
    assert!(lookups.begin().is_none(), "no more than {LOOKUPS_MOST}");
    let mut last = all.pop().unwrap();
    lookups.finish(explained(last.id));
    assert_eq!(last.receiver.try_recv().unwrap().id, last.id);
    // One that was given up makes room, and its late result is nobody's.
    let id = all[0].id;
    drop(all.remove(0));
    lookups.finish(explained(id));
    assert!(lookups.begin().is_some());
    drop((all, last));
    assert!(lookups.waiting.lock().unwrap().is_empty());
    assert_ne!(lookups.begin().unwrap().id, id, "numbers are not used again");
}

#[test]
fn rates_are_measured_over_a_second_at_least_and_over_all_workers() {
    let Some(counter) = Counter::ALL.iter().find(|c| c.name().starts_with("dns64-")) else {
        panic!("the resolver counts nothing");
    };
    let workers = [Arc::new(Counters::new()), Arc::new(Counters::new())];
    let at = |ms: u64| Instant::from_micros(ms * 1000);
    let rates = Rates::of("dns64-");
    let row = |rates: &Rates| {
        let rows = rates.rows();
        rows.iter().find(|row| row.name == counter.name()).map(|row| (row.total, row.per_second))
    };
    workers[0].add(*counter, 1000);
    rates.look(&workers, at(5_000));
    assert_eq!(row(&rates), Some((1000, 0)), "nothing to compare with");
    workers[0].add(*counter, 300);
    workers[1].add(*counter, 700);
    rates.look(&workers, at(5_999));
    assert_eq!(row(&rates), Some((1000, 0)), "too early");
    rates.look(&workers, at(7_000));
    assert_eq!(row(&rates), Some((2000, 500)));
    rates.look(&workers, at(8_000));
    assert_eq!(row(&rates), Some((2000, 0)));
    assert!(rates.rows().iter().all(|r| r.name.starts_with("dns64-") || r.name.starts_with("drop.dns64-")));
}

#[test]
fn samples_are_taken_from_every_ring_and_limited() {
    let gateway = FakeGateway::new(0);
    let sample = Sample {
        client: IpAddr::V6("2001:db8:64::101".parse().unwrap()),
        name: wire("v4only.example"),
        qtype: 28,
        rcode: 0,
        cached: true,
        synthesised: true,
        took_us: 12,
    };
    let most = usize::try_from(SAMPLES.1).unwrap();
    gateway.dns.samples.lock().unwrap().extend(std::iter::repeat_n(sample, most + AT_ONCE));
    let mut samples = Samples::new();
    samples.drain(&gateway);
    assert_eq!(gateway.dns.samples.lock().unwrap().len(), most, "a turn is bounded");
    while !gateway.dns.samples.lock().unwrap().is_empty() {
        samples.drain(&gateway);
    }
    // By the workers' clock no time has passed: the bucket is empty, and what it kept back is counted.
    assert_eq!(samples.limit.allow((), Instant::ZERO), None);
    let kept_back = samples.limit.allow((), Instant::from_micros(1_000_000));
    assert_eq!(kept_back, Some(u64::try_from(AT_ONCE).unwrap() + 1));
}

#[test]
fn a_view_is_meant_by_its_name_or_by_a_client() {
    let text = format!(
        "{}\n{}",
        include_str!("../../testing/gateway.toml"),
        "[dns64]\nupstreams = [\"198.51.100.53\"]\nlisten = [\"2001:db8:64::1\"]\n\
         [[dns64.view]]\nname = \"plain\"\nsources = [\"2001:db8:64::/80\"]\ndns64 = false\n"
    );
    let config = crate::config::Config::parse("test.toml", &text).unwrap();
    let config = crate::plan::dns64::dns64_of(&config).unwrap();
    let view = |view: Option<&str>, client: Option<&str>| {
        let parameters = LookupParameters {
            name: "a".to_owned(),
            r#type: None,
            view: view.map(ToOwned::to_owned),
            client: client.map(|a| a.parse().unwrap()),
            dnssec: false,
            cd: false,
        };
        parameters.wanted().and_then(|wanted| view_of(&config, &wanted))
    };
    assert_eq!(
        (view(None, None), view(Some("default"), None), view(Some("plain"), None)),
        (Ok(0), Ok(0), Ok(1))
    );
    assert_eq!(view(None, Some("2001:db8:64::101")), Ok(1), "the longest prefix");
    assert_eq!(view(None, Some("2001:db8:64:0:1::1")), Ok(0));
    assert!(view(None, Some("2001:db8:65::1")).unwrap_err().contains("no configured client"));
    assert_eq!(view(Some("other"), None).unwrap_err(), "there is no view `other`; views: default, plain");
    assert!(view(Some("plain"), Some("2001:db8:64::101")).unwrap_err().contains("only one"));
}

#[test]
fn rfc3597_5_data_of_unknown_types_is_shown_as_octets_and_text_without_control_characters() {
    let mut octets = vec![0, 0, 0x81, 0x83, 0, 0, 0, 2, 0, 0, 0, 0];
    octets.extend(b"\x01a\x00\xff\x00\x00\x01\x00\x00\x00\x05\x00\x02\xab\xcd");
    octets.extend(b"\x01a\x00\x00\x10\x00\x01\x00\x00\x00\x05\x00\x05\x04\x1b[2J");
    let question = Question { name: wire("a"), qtype: 65_280, dnssec_ok: false, checking_disabled: false };
    let row = ExplainedRow::new(&question, "default", &Explained { answer: Some(octets), ..*explained(1) });
    assert_eq!(row.question, "a. TYPE65280");
    let answer = row.answer.unwrap();
    assert_eq!((answer.rcode.as_str(), answer.flags.join(" ").as_str()), ("NXDOMAIN", "qr rd ra"));
    assert_eq!(
        (answer.answer[0].r#type.as_str(), answer.answer[0].data.as_str()),
        ("TYPE65280", "\\# 2 abcd")
    );
    assert!(!answer.answer[1].data.chars().any(char::is_control), "{:?}", answer.answer[1].data);
    let broken =
        ExplainedRow::new(&question, "default", &Explained { answer: Some(vec![0; 5]), ..*explained(1) });
    assert!(broken.answer.unwrap().unreadable.is_some());
}
