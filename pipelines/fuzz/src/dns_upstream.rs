//! DNS64 and its upstream: what is left of any answer, and clients' questions and upstream's answers in any order.

use causeway_core::{Duration, HeapFrame, Instant, Packet, Verdict, udp};
use causeway_dns64::cache::Cache;
use causeway_dns64::config::{
    CacheSettings, Config, Limits, OnFailure, Stale, Synthesis, Tcp, Upstream, View,
};
use causeway_dns64::policy::NameSet;
use causeway_dns64::question::WireName;
use causeway_dns64::stage::{Outcome, Rings, Stage};
use causeway_dns64::status::{UpstreamStatus, UpstreamsStatus};
use causeway_dns64::upstream::{Action, StreamEvent, Upstreams};
use causeway_dns64::{Answer, Question};
use causeway_testkit::{Inner, Rig, check_packet_with, ip4, ip6};
use crossbeam::queue::ArrayQueue;
use hickory_proto::op::Message;
use hickory_proto::rr::DNSClass;
use std::net::SocketAddr;
use std::sync::Arc;

const SERVICE: &str = "2001:db8:64::53";
const UPSTREAM: &str = "198.51.100.53";
const OURS: &str = "192.0.2.2";
const MAX_TTL: u32 = 86_400;
const HEADER: usize = 12;

/// Names that are asked for, in wire form.
const NAMES: [&[u8]; 4] =
    [b"\x03www\x07example\x00", b"\x01b\x07example\x00", b"\x00", b"\x01*\x03www\x07example\x00"];
/// Types that are asked for: AAAA, A, PTR, MX, CNAME, DNAME, RRSIG, ANY.
const TYPES: [u16; 8] = [28, 1, 12, 15, 5, 39, 46, 255];

fn config(case: bool) -> Config {
    let prefix = |text: &str| text.parse().expect("a prefix");
    Config {
        listen: vec![SERVICE.parse().expect("an address")],
        clients: vec![(prefix("2001:db8:64::/64"), 0)],
        views: vec![View {
            name: "all".into(),
            prefix: Some(prefix("2001:db8:64:ff9b::/96")),
            synthesis: None,
            always: NameSet::default(),
            never: NameSet::default(),
            blocked: NameSet::default(),
            local: vec![],
        }],
        synthesis: Synthesis {
            exclude_aaaa: vec![prefix("::ffff:0:0/96")],
            exclude_a: vec![],
            only_a: vec![],
            on_failure: OnFailure::Fail,
        },
        upstreams: vec![SocketAddr::new(UPSTREAM.parse().expect("an address"), 53)],
        upstream: Upstream {
            patience: Duration::from_secs(4),
            tries: 3,
            in_flight: 16,
            ports: (20_000, 20_999),
            case,
        },
        cache: CacheSettings {
            octets: 1 << 20,
            max_ttl: MAX_TTL,
            max_negative_ttl: 900,
            failure_ttl: 5,
            prefetch: true,
            stale: Some(Stale { for_seconds: 60, ttl: 30, after: Duration::from_secs(1) }),
        },
        limits: Limits { client_bits: 128, rate: (1000, 1000), in_flight: 8 },
        tcp: Tcp { connections: 8, per_client: 4, idle: Duration::from_secs(10), pipelined: 8 },
        udp_octets: 1232,
        sample_every: 3,
    }
}

fn status(config: &Config) -> Arc<UpstreamsStatus> {
    let list = config.upstreams.iter().map(|a| (*a, UpstreamStatus::default())).collect();
    Arc::new(UpstreamsStatus { list })
}

/// An answer to a question of ours: its ID and question, and flags, counts and records as they come: two octets, one for
/// each section, and the rest.
fn answer(asked: &[u8], said: &[u8]) -> Option<Vec<u8>> {
    let ([high, low, an, ns, ar], records) = said.split_first_chunk::<5>()?;
    let end = HEADER + asked[HEADER..].iter().position(|o| *o == 0)? + 5;
    let head = [asked[0], asked[1], 0x80 | high & 0x07, *low, 0, 1, 0, *an, 0, *ns, 0, *ar];
    Some([&head[..], &asked[HEADER..end], records].concat())
}

/// One question and one answer: behind an octet that chooses the question and one that chooses UDP or TCP, what
/// [`answer`] takes; or, if so chosen, the message as it is.
pub fn upstream(octets: &[u8]) {
    asked_once(octets);
}

/// As [`upstream`]; true if something was learnt.
fn asked_once(octets: &[u8]) -> bool {
    let Some(([which, way], said)) = octets.split_first_chunk::<2>() else { return false };
    let config = config(way & 4 != 0);
    let mut upstreams = Upstreams::new(&config, 0, 1, status(&config), [*which; 32]);
    let name: WireName = NAMES[usize::from(which & 3)].iter().copied().collect();
    let question = Question {
        name,
        qtype: TYPES[usize::from(which >> 2 & 7)],
        dnssec_ok: which & 0x20 != 0,
        checking_disabled: which & 0x40 != 0,
    };
    let (mut now, mut out) = (Instant::from_micros(1), vec![]);
    upstreams.fetch(&question, now, &mut out).expect("nothing else is under way");
    let from = config.upstreams[0];
    let (tcp, raw) = (way & 1 != 0, way & 2 != 0);
    let mut rounds = 0;
    // The same answer to all that is asked, until nothing more is.
    while !out.is_empty() && rounds < 100 {
        rounds += 1;
        for action in std::mem::take(&mut out) {
            match action {
                Action::SendUdp { from_port, octets: asked, .. } => {
                    let cut = [0x83, 0x80, 0, 0, 0];
                    let said = if tcp { &cut[..] } else { said };
                    let said = if raw && !tcp { Some(said.to_vec()) } else { answer(&asked, said) };
                    if let Some(said) = said {
                        let _ = upstreams.on_datagram(from, from_port, &said, now, &mut out);
                    }
                }
                Action::OpenTcp { token, octets: asked, .. } => {
                    let said = if raw { Some(said.to_vec()) } else { answer(&asked, said) };
                    let event = said.as_deref().map_or(StreamEvent::Closed, StreamEvent::Message);
                    upstreams.on_stream(token, event, now, &mut out);
                }
                Action::Done(done) => {
                    assert_eq!(done.question, question);
                    if let Ok(fetched) = &done.result {
                        judge(&question, &fetched.message);
                    }
                    assert_eq!(upstreams.in_flight(), 0);
                    return done.result.is_ok();
                }
                Action::CloseTcp { .. } | Action::Count(..) => {}
            }
        }
    }
    // It was no answer: the fetch ends by itself.
    for _ in 0..1000 {
        let Some(due) = upstreams.next_deadline() else { break };
        now = now.max(due);
        upstreams.tick(now, &mut out);
        if out.iter().any(|a| matches!(a, Action::Done(_))) {
            assert!(now <= Instant::from_micros(1) + config.upstream.patience);
            return false;
        }
        out.clear();
    }
    panic!("the fetch did not end");
}

/// What is left of an answer keeps its promises.
fn judge(question: &Question, message: &Message) {
    let sections = [&message.answers, &message.authorities, &message.additionals];
    let signature = |kind: u16| matches!(kind, 46 | 47 | 50);
    for r in sections.into_iter().flatten() {
        assert!(r.dns_class == DNSClass::IN && r.ttl <= MAX_TTL);
        let kind = u16::from(r.record_type());
        assert!(
            question.dnssec_ok || !signature(kind) || matches!(question.qtype, 255) || kind == question.qtype
        );
    }
    assert!(message.edns.is_none() && message.queries.len() == 1 && !message.metadata.truncation);
    assert_eq!(message.queries[0].name().to_string(), message.queries[0].name().to_lowercase().to_string());
    assert!(message.authorities.len() <= 64 && message.additionals.len() <= 64);
    // It can be kept; what was kept can be read.
    if let Ok(kept) = Answer::from_message(message, &[], 60) {
        assert!(kept.ttls.len() == sections.iter().map(|s| s.len()).sum::<usize>());
        Message::from_vec(&kept.octets).expect("what was written can be read");
    }
}

/// A question of a client's in wire form.
fn query(id: u8, which: u8) -> Vec<u8> {
    let mut b = vec![id, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    b.extend(NAMES[usize::from(which & 3)]);
    b.extend(TYPES[usize::from(which >> 2 & 7)].to_be_bytes());
    b.extend([0, 1]);
    b.extend([0, 0, 41, 4, 0xd0, 0, 0, which & 0x80, 0, 0, 0]);
    b
}

struct Lab {
    rig: Rig,
    stage: Stage,
    /// Questions of ours: port and message.
    asked: Vec<(u16, Vec<u8>)>,
    questions: usize,
    answers: usize,
}

impl Lab {
    fn with<T>(&mut self, run: impl FnOnce(&mut Rig, &mut Stage, &Rings<'_>) -> T) -> T {
        let (lookups, explained, samples) = (ArrayQueue::new(1), ArrayQueue::new(1), ArrayQueue::new(1));
        let rings = Rings { lookups: &lookups, explained: &explained, samples: &samples };
        let result = run(&mut self.rig, &mut self.stage, &rings);
        for leaving in self.rig.sent() {
            self.left(&leaving.octets);
        }
        result
    }

    fn receive(&mut self, interface: &str, octets: &[u8]) {
        let mut packet: Packet<HeapFrame> = self.rig.packet(interface, octets);
        let outcome = self.with(|rig, stage, rings| stage.receive(&mut rig.ctx(), &mut packet, rings));
        if let Some(Outcome::Verdict(Verdict::Forward { .. })) = outcome {
            self.left(packet.bytes());
        }
    }

    /// A packet left: it is a good one, to the upstream or to a client who asked.
    fn left(&mut self, octets: &[u8]) {
        check_packet_with(octets, Inner::Header).expect("a good packet");
        let four = octets[0] >> 4 == 4;
        let packet = self.rig.packet(if four { "uplink0" } else { "tenant0" }, octets);
        let Ok(datagram) = udp::parse(&packet) else { return };
        if four {
            self.asked.push((datagram.src.port(), datagram.payload.to_vec()));
        } else {
            self.answers += 1;
            assert!(datagram.payload.len() <= 1232);
            let [_, _, flags, ..] = *datagram.payload else { panic!("too short") };
            assert!(flags & 0x80 != 0);
        }
    }
}

/// A sequence of questions, answers and time, each behind a row of four octets: what it is, a choice, and the length
/// of what belongs to it.
pub fn sequence(octets: &[u8]) {
    served(octets);
}

/// As [`sequence`]; gives how many questions of clients were answered.
fn served(mut rest: &[u8]) -> usize {
    let settings = Arc::new(config(true));
    let cache = Arc::new(Cache::new(&settings.cache).expect("a cache"));
    let stage = Stage::new(Arc::clone(&settings), cache, status(&settings), (0, 1), [7; 32], [9; 16]);
    let mut lab = Lab { rig: Rig::lab(), stage, asked: vec![], questions: 0, answers: 0 };
    let mut steps = 0;
    while let Some(([what, which, high, low], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len()).min(1200);
        let (octets, after) = after.split_at(length);
        rest = after;
        steps += 1;
        if steps > 200 {
            break;
        }
        let client = format!("2001:db8:64::{}", 0x101 + u16::from(what >> 6));
        let last = lab.asked.len().checked_sub(1 + usize::from(which >> 6)).map(|at| lab.asked[at].clone());
        match (what & 7, last) {
            (0 | 1, _) => {
                lab.questions += 1;
                lab.receive("tenant0", &ip6(client.as_str(), SERVICE).udp(4000, 53, &query(steps, *which)));
            }
            (2, _) => {
                lab.questions += 1;
                lab.receive("tenant0", &ip6(client.as_str(), SERVICE).udp(4000, 53, octets));
            }
            (3 | 4, Some((port, asked))) => {
                if let Some(said) = answer(&asked, octets) {
                    lab.receive("uplink0", &ip4(UPSTREAM, OURS).udp(53, port, &said));
                }
            }
            (5, Some((port, _))) => lab.receive("uplink0", &ip4(UPSTREAM, OURS).udp(53, port, octets)),
            (6, _) => {
                lab.rig.advance(Duration::from_millis(u64::from(*which) * 40));
                lab.with(|rig, stage, rings| stage.tick(&mut rig.ctx(), rings));
            }
            _ => {
                let settings = Arc::new(config(which & 1 != 0));
                let status = status(&settings);
                lab.stage.set_config(settings, status);
            }
        }
        assert!(lab.answers <= lab.questions, "nobody is answered twice");
    }
    // Who asked gets an answer, or the question was none that is answered.
    for _ in 0..200 {
        lab.rig.advance(Duration::from_millis(50));
        lab.with(|rig, stage, rings| stage.tick(&mut rig.ctx(), rings));
    }
    assert!(lab.answers <= lab.questions);
    lab.answers
}

/// Records by name: what they are, and how many there are of them in each section.
fn said() -> Vec<(&'static str, [u8; 5], Vec<u8>)> {
    let record = |owner: &[u8], kind: u8, data: &[u8]| {
        let length = u16::try_from(data.len()).expect("short data").to_be_bytes();
        [owner, &[0, kind, 0, 1, 0, 0, 0, 60], &length, data].concat()
    };
    let at = b"\xc0\x0c";
    let a = record(at, 1, &[198, 51, 100, 10]);
    let aaaa = record(at, 28, &[0x20, 1, 0xd, 0xb8, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let soa = record(
        b"\x07example\x00",
        6,
        &[&b"\x01n\xc0\x10\x01m\xc0\x10"[..], &[0, 0, 0, 9].repeat(5)].concat(),
    );
    let ns = record(b"\x07example\x00", 2, b"\x01n\xc0\x10");
    let cname = record(at, 5, b"\x01b\xc0\x10");
    let at_b = record(b"\x01b\xc0\x10", 1, &[198, 51, 100, 11]);
    let dname = record(b"\xc0\x10", 39, b"\x05other\x00");
    let circle = record(b"\x01b\xc0\x10", 5, b"\x03www\xc0\x10");
    let signature = record(at, 46, &[&[0, 1][..], &[1; 16], b"\x07example\x00", &[7; 64]].concat());
    let nsec = record(b"\x01a\x07example\x00", 47, b"\x01z\x07example\x00\x00\x01\x40");
    let foreign = record(b"\x04bank\x00", 1, &[192, 0, 2, 66]);
    let long = [record(at, 1, &[198, 51, 100, 10]), vec![0xff; 9]].concat();
    let ttl = [&at[..], &[0, 1, 0, 1, 0x80, 0, 0, 0, 0, 4, 198, 51, 100, 10]].concat();
    let zero = record(at, 1, &[0, 0, 0, 0]);
    let opt = vec![0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0];
    vec![
        ("a", [1, 0x80, 1, 0, 1], [a.clone(), opt.clone()].concat()),
        ("aaaa", [1, 0xa0, 1, 0, 0], aaaa),
        ("no-data", [1, 0x80, 0, 1, 0], soa.clone()),
        ("nxdomain", [1, 0x83, 0, 1, 1], [soa.clone(), opt.clone()].concat()),
        ("servfail", [1, 0x82, 0, 0, 1], opt.clone()),
        ("formerr", [1, 0x81, 0, 0, 0], vec![]),
        ("badvers", [1, 0x80, 0, 0, 1], [&opt[..5], &[1], &opt[6..]].concat()),
        ("cut", [3, 0x80, 0, 0, 0], vec![]),
        ("chain", [1, 0x80, 2, 0, 0], [cname.clone(), at_b].concat()),
        ("circle", [1, 0x80, 2, 0, 0], [cname, circle].concat()),
        ("dname", [1, 0x80, 1, 0, 0], dname),
        ("signed", [1, 0xa0, 2, 2, 0], [a.clone(), signature, soa, nsec].concat()),
        ("referral", [1, 0x80, 0, 1, 0], ns),
        ("out-of-bailiwick", [1, 0x80, 2, 0, 1], [a, foreign.clone(), foreign].concat()),
        ("octets-behind", [1, 0x80, 1, 0, 0], long),
        ("ttl-2-31", [1, 0x80, 1, 0, 0], ttl),
        ("a-of-zero", [1, 0x80, 1, 0, 0], zero),
        (
            "compression-loop",
            [1, 0x80, 1, 0, 0],
            b"\xc0\x1d\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04abcd".to_vec(),
        ),
        ("more-than-is-there", [1, 0x80, 255, 255, 255], opt),
    ]
}

pub(crate) fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut list = Vec::new();
    if target == "dns_upstream" {
        for (name, head, records) in said() {
            for (how, which, way) in [("udp", 4, 4), ("tcp", 0x24, 1), ("aaaa", 0x20, 0), ("any", 0x7c, 0)] {
                list.push((format!("{name}-{how}"), [&[which, way][..], &head, &records].concat()));
            }
        }
        return list;
    }
    let step = |what: u8, which: u8, octets: &[u8]| {
        let length = u16::try_from(octets.len()).expect("a short message").to_be_bytes();
        [&[what, which][..], &length, octets].concat()
    };
    for (name, head, records) in said() {
        let said = [&head[..], &records].concat();
        // Asked for AAAA, answered so and then once more, asked again, and time.
        let row = [
            step(0, 0, &[]),
            step(3, 0, &said),
            step(3, 0, &said),
            step(0x40, 0, &[]),
            step(6, 250, &[]),
            step(3, 0x40, &said),
            step(7, 0, &[]),
            step(0x80, 0x84, &[]),
            step(5, 0, &said),
            step(6, 100, &[]),
        ];
        list.push((format!("row-{name}"), row.concat()));
    }
    list.push((
        "raw-questions".to_owned(),
        [step(2, 0, &query(1, 0)), step(2, 0, &query(1, 0)[..20])].concat(),
    ));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_reach_what_the_targets_are_for() {
        let learnt: Vec<String> =
            seeds("dns_upstream").into_iter().filter(|(_, b)| asked_once(b)).map(|(name, _)| name).collect();
        for name in [
            "a-udp",
            "a-tcp",
            "aaaa-aaaa",
            "no-data-udp",
            "nxdomain-tcp",
            "chain-udp",
            "dname-udp",
            "signed-tcp",
        ] {
            assert!(learnt.iter().any(|n| n == name), "{name} is not among {learnt:?}");
        }
        for refused in
            ["circle", "referral", "octets-behind", "compression-loop", "more-than-is-there", "servfail"]
        {
            assert!(
                !learnt.iter().any(|n| n.starts_with(refused) && n.ends_with("p")),
                "{refused}: {learnt:?}"
            );
        }
        for (name, octets) in seeds("dns_sequence").iter().filter(|(name, _)| name.starts_with("row")) {
            assert!(served(octets) > 0, "{name}: nobody was answered");
        }
    }
}
