//! Packets in, packets out: clients on one side, an upstream on the other, virtual time.

use super::*;
use crate::config::{CacheSettings, Limits, Stale, Synthesis, Upstream, View};
use crate::policy::NameSet;
use crate::status::UpstreamStatus;
use causeway_core::{Duration, HeapFrame};
use causeway_testkit::{Rig, check_packet, ip4, ip6, poke};
use causeway_wire::MacAddr;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

const SERVICE: &str = "2001:db8:64::53";
const VM1: &str = "2001:db8:64::101";
const UPSTREAM: &str = "198.51.100.53";

fn config() -> Config {
    Config {
        listen: vec![SERVICE.parse().unwrap()],
        clients: vec![("2001:db8:64::/64".parse().unwrap(), 0)],
        views: vec![View {
            name: "default".into(),
            prefix: Some("2001:db8:64:ff9b::/96".parse().unwrap()),
            synthesis: None,
            always: NameSet::default(),
            never: NameSet::default(),
            blocked: NameSet::default(),
            local: Vec::new(),
        }],
        synthesis: Synthesis {
            exclude_aaaa: vec!["::ffff:0:0/96".parse().unwrap()],
            exclude_a: Vec::new(),
            only_a: Vec::new(),
            on_failure: crate::config::OnFailure::Fail,
        },
        upstreams: vec![SocketAddr::new(UPSTREAM.parse().unwrap(), 53)],
        upstream: Upstream {
            patience: Duration::from_secs(5),
            tries: 3,
            in_flight: 64,
            ports: (20_000, 29_999),
            case: false,
        },
        cache: CacheSettings {
            octets: 1 << 20,
            max_ttl: 86_400,
            max_negative_ttl: 3_600,
            failure_ttl: 5,
            prefetch: false,
            stale: None,
        },
        limits: Limits { client_bits: 128, rate: (1000, 100), in_flight: 8 },
        tcp: crate::config::Tcp {
            connections: 16,
            per_client: 4,
            idle: Duration::from_secs(10),
            pipelined: 8,
        },
        udp_octets: 1232,
        sample_every: 0,
    }
}

struct Lab {
    rig: Rig,
    stage: Stage,
    lookups: ArrayQueue<Box<Lookup>>,
    explained: ArrayQueue<Box<Explained>>,
    samples: ArrayQueue<Sample>,
}

/// What was asked of the upstream.
#[derive(Debug)]
struct Asked {
    port: u16,
    message: Message,
}

impl Asked {
    fn qtype(&self) -> RecordType {
        self.message.queries[0].query_type()
    }
}

impl Lab {
    fn new(config: Config) -> Self {
        Self::of_workers(config, (0, 1))
    }

    fn of_workers(config: Config, worker: (u16, u16)) -> Self {
        let status = UpstreamsStatus {
            list: config.upstreams.iter().map(|a| (*a, UpstreamStatus::default())).collect(),
        };
        let cache = Arc::new(Cache::new(&config.cache).unwrap());
        let mut rig = Rig::lab();
        rig.worker = worker;
        Self {
            rig,
            stage: Stage::new(Arc::new(config), cache, Arc::new(status), worker, [7; 32], [9; 16]),
            lookups: ArrayQueue::new(4),
            explained: ArrayQueue::new(4),
            samples: ArrayQueue::new(4),
        }
    }

    fn receive(&mut self, interface: &str, octets: &[u8]) -> (Option<Outcome>, Packet<HeapFrame>) {
        let mut packet = self.rig.packet(interface, octets);
        packet.meta.src_mac = MacAddr([2, 0, 0, 0, 1, 1]);
        let rings = Rings { lookups: &self.lookups, explained: &self.explained, samples: &self.samples };
        let outcome = self.stage.receive(&mut self.rig.ctx(), &mut packet, &rings);
        (outcome, packet)
    }

    fn tick(&mut self) {
        let rings = Rings { lookups: &self.lookups, explained: &self.explained, samples: &self.samples };
        self.stage.tick(&mut self.rig.ctx(), &rings);
    }

    /// A client asks; the answer if it came in the question's own frame.
    fn ask(&mut self, client: &str, query: &[u8]) -> Result<Option<Message>, DropReason> {
        let (outcome, packet) = self.receive("tenant0", &ip6(client, SERVICE).udp(4000, 53, query));
        match outcome.expect("it is DNS") {
            Outcome::Verdict(Verdict::Drop(why)) => Err(why),
            Outcome::Verdict(Verdict::Consume) => Ok(None),
            Outcome::Verdict(Verdict::Forward { egress }) => {
                assert_eq!(egress.via(), Via::Mac(MacAddr([2, 0, 0, 0, 1, 1])), "back to where it came from");
                Ok(Some(self.given(client, packet.bytes())))
            }
            other => panic!("{other:?}"),
        }
    }

    /// An answer to a client, which must be a good packet.
    fn given(&self, client: &str, octets: &[u8]) -> Message {
        check_packet(octets).unwrap();
        let packet = self.rig.packet("tenant0", octets);
        let datagram = udp::parse(&packet).unwrap();
        assert_eq!(datagram.src, SocketAddr::new(SERVICE.parse().unwrap(), 53));
        assert_eq!(datagram.dst, SocketAddr::new(client.parse().unwrap(), 4000));
        Message::from_vec(datagram.payload).unwrap()
    }

    /// What left: questions to the upstream, and answers to clients.
    fn sent(&mut self) -> (Vec<Asked>, Vec<Message>) {
        let (mut asked, mut given) = (Vec::new(), Vec::new());
        for leaving in self.rig.sent() {
            let b = &leaving.octets;
            check_packet(b).unwrap();
            if b[0] >> 4 == 4 {
                let packet = self.rig.packet("uplink0", b);
                let datagram = udp::parse(&packet).unwrap();
                assert_eq!(datagram.dst, SocketAddr::new(UPSTREAM.parse().unwrap(), 53));
                assert_eq!(leaving.egress.interface(), self.rig.interface("uplink0"));
                let message = Message::from_vec(datagram.payload).unwrap();
                asked.push(Asked { port: datagram.src.port(), message });
            } else {
                let to = ipv6::addr(b, ipv6::DST).to_string();
                given.push(self.given(&to, b));
            }
        }
        (asked, given)
    }

    /// The upstream answers with these records.
    fn answer(&mut self, asked: &Asked, rcode: ResponseCode, answers: &[Record], soa: bool) {
        let mut message = Message::new(asked.message.metadata.id, MessageType::Response, OpCode::Query);
        message.metadata.response_code = rcode;
        message.metadata.recursion_desired = true;
        message.metadata.recursion_available = true;
        message.queries.clone_from(&asked.message.queries);
        message.answers = answers.to_vec();
        if soa {
            let example = name("example.");
            let soa = SOA::new(example.clone(), example.clone(), 1, 1, 1, 1, 60);
            message.authorities.push(Record::from_rdata(example, 300, RData::SOA(soa)));
        }
        message.edns = Some(Edns::new());
        let octets = message.to_vec().unwrap();
        let packet = ip4(UPSTREAM, "192.0.2.2").udp(53, asked.port, &octets);
        let (outcome, _) = self.receive("uplink0", &packet);
        assert_eq!(outcome, Some(Outcome::Verdict(Verdict::Consume)));
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn query(text: &str, qtype: RecordType) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries = vec![Query::query(name(text), qtype)];
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.edns = Some(edns);
    message.to_vec().unwrap()
}

fn a(owner: &str, ttl: u32, address: [u8; 4]) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A(address.into())))
}

fn addresses(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .filter_map(|r| match &r.data {
            RData::AAAA(AAAA(a)) => Some(a.to_string()),
            _ => None,
        })
        .collect()
}

/// Asks for AAAA records of a name that has only A records, through to the answer.
fn resolve_v4only(lab: &mut Lab, text: &str) -> Message {
    assert_eq!(lab.ask(VM1, &query(text, RecordType::AAAA)), Ok(None));
    let (asked, given) = lab.sent();
    assert!(given.is_empty());
    assert_eq!(asked.iter().map(Asked::qtype).collect::<Vec<_>>(), [RecordType::AAAA]);
    lab.answer(&asked[0], ResponseCode::NoError, &[], true);
    let (asked, given) = lab.sent();
    assert!(given.is_empty());
    assert_eq!(asked.iter().map(Asked::qtype).collect::<Vec<_>>(), [RecordType::A]);
    lab.answer(&asked[0], ResponseCode::NoError, &[a(text, 300, [198, 51, 100, 10])], false);
    let (asked, mut given) = lab.sent();
    assert!(asked.is_empty());
    assert_eq!(given.len(), 1);
    given.remove(0)
}

#[test]
fn rfc6147_5_1_7_a_miss_is_resolved_once_and_a_hit_leaves_in_the_questions_own_frame() {
    let mut lab = Lab::new(config());
    let first = resolve_v4only(&mut lab, "v4only.example.");
    assert_eq!(addresses(&first), ["2001:db8:64:ff9b::c633:640a"]);
    assert_eq!(first.metadata.id, 0x1234);
    lab.rig.assert_counted(&[
        ("dns64-queries", 1),
        ("dns64-cache-misses", 1),
        ("dns64-noerror", 1),
        ("dns64-synthesised", 1),
        ("dns64-answered-synthesised", 1),
        ("dns64-upstream-asked", 2),
        ("dns64-upstream-answered", 2),
    ]);
    lab.rig.advance(Duration::from_secs(10));
    // RFC 6147 5.1.7: TTL of the A record, at most that of the SOA's; and it grows less.
    let second = lab.ask(VM1, &query("V4only.EXAMPLE.", RecordType::AAAA)).unwrap().expect("a hit");
    assert_eq!(addresses(&second), addresses(&first));
    assert_eq!(second.queries[0].name().to_string(), "V4only.EXAMPLE.");
    assert_eq!(second.answers[0].ttl, first.answers[0].ttl - 10);
    let (asked, given) = lab.sent();
    assert!(asked.is_empty() && given.is_empty());
    lab.rig.assert_counted(&[
        ("dns64-queries", 1),
        ("dns64-cache-hits", 1),
        ("dns64-noerror", 1),
        ("dns64-answered-synthesised", 1),
    ]);
}

#[test]
fn whoever_is_no_client_gets_nothing() {
    let mut lab = Lab::new(config());
    let q = query("v4only.example.", RecordType::AAAA);
    assert_eq!(lab.ask("2001:db8:65::1", &q), Err(DropReason::Dns64NotClient));
    let (asked, given) = lab.sent();
    assert!(asked.is_empty() && given.is_empty());
    lab.rig.assert_counted(&[]);
    // Nor is it DNS at another address of ours, or over IPv4.
    let (outcome, _) = lab.receive("tenant0", &ip6(VM1, "2001:db8:64::1").udp(4000, 53, &q));
    assert_eq!(outcome, None);
    let (outcome, _) = lab.receive("uplink0", &ip4("198.51.100.10", "192.0.2.2").udp(4000, 53, &q));
    assert_eq!(outcome, None);
}

#[test]
fn identical_questions_under_way_are_asked_once_and_all_are_answered() {
    let mut lab = Lab::new(config());
    let q = query("v6only.example.", RecordType::AAAA);
    let clients: Vec<String> = (1..=20).map(|n| format!("2001:db8:64::{n:x}")).collect();
    for client in &clients {
        assert_eq!(lab.ask(client, &q), Ok(None));
    }
    let (asked, _) = lab.sent();
    assert_eq!(asked.len(), 1);
    let aaaa = RData::AAAA(AAAA("2001:db8:6::10".parse().unwrap()));
    let record = Record::from_rdata(name("v6only.example."), 60, aaaa);
    lab.answer(&asked[0], ResponseCode::NoError, &[record], false);
    let (_, given) = lab.sent();
    assert_eq!(given.len(), clients.len());
    assert!(given.iter().all(|m| addresses(m) == ["2001:db8:6::10"]));
    assert_eq!(lab.stage.engine.waiting(), 0);
    lab.rig.assert_counted(&[
        ("dns64-queries", 20),
        ("dns64-cache-misses", 20),
        ("dns64-merged", 19),
        ("dns64-noerror", 20),
        ("dns64-upstream-asked", 1),
        ("dns64-upstream-answered", 1),
    ]);
}

#[test]
fn one_client_has_only_so_many_questions_under_way_and_others_go_on() {
    let mut lab = Lab::new(config());
    let limit = usize::from(config().limits.in_flight);
    for n in 0..limit {
        assert_eq!(lab.ask(VM1, &query(&format!("n{n}.example."), RecordType::AAAA)), Ok(None));
    }
    let more = lab.ask(VM1, &query("more.example.", RecordType::AAAA));
    assert_eq!(more, Err(DropReason::Dns64ClientBusy));
    assert_eq!(lab.ask("2001:db8:64::102", &query("more.example.", RecordType::AAAA)), Ok(None));
    assert_eq!(lab.stage.engine.waiting(), limit + 1);
}

#[test]
fn a_client_asks_only_so_often() {
    let mut settings = config();
    settings.limits.rate = (10, 5);
    let mut lab = Lab::new(settings);
    resolve_v4only(&mut lab, "v4only.example.");
    let q = query("v4only.example.", RecordType::AAAA);
    let answered = (0..20).filter(|_| lab.ask(VM1, &q).is_ok()).count();
    assert_eq!(answered, 4);
    assert_eq!(lab.ask(VM1, &q), Err(DropReason::Dns64ClientLimited));
    assert!(lab.ask("2001:db8:64::102", &q).is_ok());
}

#[test]
fn an_upstream_that_does_not_answer_is_a_server_failure_in_the_end() {
    let mut lab = Lab::new(config());
    assert_eq!(lab.ask(VM1, &query("v4only.example.", RecordType::AAAA)), Ok(None));
    let mut given = Vec::new();
    for _ in 0..120 {
        lab.rig.advance(Duration::from_millis(100));
        lab.tick();
        given.extend(lab.sent().1);
    }
    assert_eq!(given.len(), 1);
    assert_eq!(given[0].metadata.response_code, ResponseCode::ServFail);
    assert_eq!(lab.stage.engine.waiting(), 0);
    // RFC 9520 3.2: the failure is remembered for a while... which has passed by now, or not: no second question is
    // lost either way.
    let (asked, _) = lab.sent();
    assert!(asked.is_empty());
}

#[test]
fn rfc8767_5_an_answer_that_has_expired_is_better_than_none() {
    let mut settings = config();
    settings.cache.stale = Some(Stale { for_seconds: 3600, ttl: 30, after: Duration::from_millis(1800) });
    let mut lab = Lab::new(settings);
    let first = resolve_v4only(&mut lab, "v4only.example.");
    lab.rig.advance(Duration::from_secs(600));
    assert_eq!(lab.ask(VM1, &query("v4only.example.", RecordType::AAAA)), Ok(None), "a fresh one is wanted");
    drop(lab.sent());
    lab.rig.advance(Duration::from_millis(1700));
    lab.tick();
    assert!(lab.sent().1.is_empty(), "there is still time");
    lab.rig.advance(Duration::from_millis(200));
    lab.tick();
    let (_, given) = lab.sent();
    assert_eq!(given.len(), 1);
    assert_eq!(addresses(&given[0]), addresses(&first));
    assert_eq!(given[0].answers[0].ttl, 30);
}

#[test]
fn a_question_belongs_to_one_worker_and_an_answer_to_the_worker_of_its_port() {
    let mut owned = [0; 2];
    for n in 0..32 {
        let q = query(&format!("n{n}.example."), RecordType::AAAA);
        let packet = ip6(VM1, SERVICE).udp(4000, 53, &q);
        let mut owners = Vec::new();
        for worker in 0..2 {
            let mut lab = Lab::of_workers(config(), (worker, 2));
            let (outcome, handed) = lab.receive("tenant0", &packet);
            match outcome.unwrap() {
                Outcome::Owner(owner) => {
                    assert_ne!(owner, worker);
                    assert_eq!(handed.bytes(), packet, "as it came");
                    // The owner takes it, and does not hand it on.
                    let mut there = Lab { stage: lab.stage, ..Lab::of_workers(config(), (owner, 2)) };
                    let mut handed = handed;
                    let rings = Rings {
                        lookups: &there.lookups,
                        explained: &there.explained,
                        samples: &there.samples,
                    };
                    let outcome = there.stage.receive(&mut there.rig.ctx(), &mut handed, &rings);
                    assert_eq!(outcome, Some(Outcome::Verdict(Verdict::Consume)));
                    owners.push(owner);
                }
                Outcome::Verdict(Verdict::Consume) => owners.push(worker),
                other => panic!("{other:?}"),
            }
        }
        owned[usize::from(owners[0])] += 1;
    }
    assert!(owned.iter().all(|n| *n > 4), "{owned:?}");
    let mut lab = Lab::of_workers(config(), (0, 2));
    let (outcome, _) = lab.receive("uplink0", &ip4(UPSTREAM, "192.0.2.2").udp(53, 20_001, &[0; 20]));
    assert_eq!(outcome, Some(Outcome::Owner(1)));
}

#[test]
fn what_comes_to_a_port_at_which_nothing_is_open_is_nobodys() {
    let mut lab = Lab::new(config());
    let (outcome, _) = lab.receive("uplink0", &ip4(UPSTREAM, "192.0.2.2").udp(53, 20_001, &[0; 20]));
    assert_eq!(outcome, None);
    lab.rig.assert_counted(&[]);
}

#[test]
fn bad_datagrams_and_messages_are_counted_and_refused() {
    let mut lab = Lab::new(config());
    let q = query("v4only.example.", RecordType::AAAA);
    let good = ip6(VM1, SERVICE).udp(4000, 53, &q);
    let (outcome, _) = lab.receive("tenant0", &poke(good.clone(), 60, &[0xff]));
    assert_eq!(outcome, Some(Outcome::Verdict(Verdict::Drop(DropReason::Dns64BadChecksum))));
    let (outcome, _) = lab.receive("tenant0", &poke(good, 44, &[0xff, 0xff]));
    assert_eq!(outcome, Some(Outcome::Verdict(Verdict::Drop(DropReason::Dns64BadUdp))));
    assert_eq!(lab.ask(VM1, &q[..11]), Err(DropReason::Dns64Unanswerable));
    let mut response = q.clone();
    response[2] |= 0x80;
    assert_eq!(lab.ask(VM1, &response), Err(DropReason::Dns64Unanswerable));
    assert_eq!(lab.ask(VM1, &[0; 1300]), Err(DropReason::Dns64TooLong));
    let mut update = q.clone();
    update[2] |= 5 << 3;
    let answer = lab.ask(VM1, &update).unwrap().expect("an answer");
    assert_eq!(answer.metadata.response_code, ResponseCode::NotImp);
    let mut two = q;
    two[5] = 2;
    let (outcome, packet) = lab.receive("tenant0", &ip6(VM1, SERVICE).udp(4000, 53, &two));
    assert!(matches!(outcome, Some(Outcome::Verdict(Verdict::Forward { .. }))));
    assert_eq!(packet.bytes()[51] & 15, 1, "FORMERR");
    check_packet(packet.bytes()).unwrap();
}

#[test]
fn extension_headers_before_a_question_are_left_out_of_the_answer() {
    let mut lab = Lab::new(config());
    resolve_v4only(&mut lab, "v4only.example.");
    let q = query("v4only.example.", RecordType::AAAA);
    let packet = ip6(VM1, SERVICE).dest_options(&[]).udp(4000, 53, &q);
    let (outcome, answer) = lab.receive("tenant0", &packet);
    assert!(matches!(outcome, Some(Outcome::Verdict(Verdict::Forward { .. }))));
    assert_eq!(addresses(&lab.given(VM1, answer.bytes())).len(), 1);
    // A miss with them too.
    let q = query("other.example.", RecordType::AAAA);
    let (outcome, _) = lab.receive("tenant0", &ip6(VM1, SERVICE).dest_options(&[]).udp(4000, 53, &q));
    assert_eq!(outcome, Some(Outcome::Verdict(Verdict::Consume)));
}

#[test]
fn a_lookup_of_control_tells_each_step_and_then_that_it_is_cached() {
    let mut lab = Lab::new(config());
    let question = Question {
        name: b"\x06v4only\x07example\x00".iter().copied().collect(),
        qtype: TYPE_AAAA,
        dnssec_ok: false,
        checking_disabled: false,
    };
    let lookup = |id| Box::new(Lookup { id, question: question.clone(), view: 0 });
    lab.lookups.push(lookup(1)).unwrap();
    lab.tick();
    let (asked, _) = lab.sent();
    lab.answer(&asked[0], ResponseCode::NoError, &[], true);
    let (asked, _) = lab.sent();
    lab.answer(&asked[0], ResponseCode::NoError, &[a("v4only.example.", 300, [198, 51, 100, 10])], false);
    let told = lab.explained.pop().expect("an explanation");
    assert_eq!(told.id, 1);
    let steps = format!("{:?}", told.steps);
    assert_eq!(steps.matches("Asked").count(), 2, "{steps}");
    let decided = steps.rfind("Decided").expect("a decision");
    assert!(decided > steps.rfind("Asked").unwrap_or(0), "in the order in which it was done: {steps}");
    let answer = Message::from_vec(&told.answer.expect("an answer")).unwrap();
    assert_eq!(addresses(&answer), ["2001:db8:64:ff9b::c633:640a"]);
    lab.lookups.push(lookup(2)).unwrap();
    lab.tick();
    let told = lab.explained.pop().expect("an explanation");
    assert!(matches!(told.steps[..], [crate::explain::Step::Cached { variant: Variant::Synthesised, .. }]));
    assert!(lab.sent().0.is_empty());
}

#[test]
fn one_question_in_so_many_is_sampled() {
    let mut settings = config();
    settings.sample_every = 3;
    let mut lab = Lab::new(settings);
    resolve_v4only(&mut lab, "v4only.example.");
    let q = query("v4only.example.", RecordType::AAAA);
    for _ in 0..5 {
        lab.ask(VM1, &q).unwrap().expect("a hit");
    }
    let samples: Vec<Sample> = std::iter::from_fn(|| lab.samples.pop()).collect();
    assert_eq!(samples.len(), 2);
    assert!(samples.iter().all(|s| s.cached && s.synthesised && s.client == VM1.parse::<IpAddr>().unwrap()));
}

#[test]
fn a_reload_keeps_the_cache_and_takes_the_new_view() {
    let mut lab = Lab::new(config());
    resolve_v4only(&mut lab, "v4only.example.");
    let mut settings = config();
    settings.views[0].prefix = Some("2001:db8:ffff:64::/96".parse().unwrap());
    let status = UpstreamsStatus {
        list: settings.upstreams.iter().map(|a| (*a, UpstreamStatus::default())).collect(),
    };
    lab.stage.set_config(Arc::new(settings), Arc::new(status));
    let answer = lab.ask(VM1, &query("v4only.example.", RecordType::AAAA)).unwrap().expect("a hit");
    assert_eq!(addresses(&answer), ["2001:db8:ffff:64::c633:640a"]);
}

#[test]
fn rfc1122_3_2_2_1_an_upstream_that_cannot_be_reached_is_not_waited_for_where_there_is_another() {
    let mut settings = config();
    settings.upstreams.push(SocketAddr::new("2001:db8:6::53".parse().unwrap(), 53));
    let mut lab = Lab::new(settings);
    assert_eq!(lab.ask(VM1, &query("www.example.", RecordType::AAAA)), Ok(None));
    let first = lab.rig.sent().remove(0).octets;
    // The other one is known to answer: else the time runs on, for errors are easily forged.
    let error = if first[0] >> 4 == 4 {
        ip4("198.51.100.53", "192.0.2.2").icmp_error(3, 3, 0, &first)
    } else {
        ip6("2001:db8:6::53", "2001:db8:ffff::2").icmp_error(1, 4, 0, &first)
    };
    let (outcome, _) = lab.receive("uplink0", &error);
    assert_eq!(outcome, Some(Outcome::Verdict(Verdict::Consume)));
    let sent = lab.rig.sent();
    assert_eq!(sent.len(), 2, "the other upstream is asked, and this one is probed");
    // A port of which nothing was sent, and a checksum that is wrong.
    let (outcome, _) = lab.receive("uplink0", &poke(error.clone(), error.len() - 20, &[0xde, 0xad]));
    assert_eq!(outcome, None);
    let other = ip4("198.51.100.53", "192.0.2.2").icmp_error(
        3,
        3,
        0,
        &ip4("192.0.2.2", UPSTREAM).udp(25_000, 53, b"x"),
    );
    let (outcome, _) = lab.receive("uplink0", &other);
    assert_eq!(outcome, None);
}

#[test]
fn an_answer_that_is_asked_for_often_is_asked_for_again_before_it_expires() {
    let mut settings = config();
    settings.cache.prefetch = true;
    let mut lab = Lab::new(settings);
    let first = resolve_v4only(&mut lab, "v4only.example.");
    let q = query("v4only.example.", RecordType::AAAA);
    let ttl = u64::from(first.answers[0].ttl);
    for _ in 0..10 {
        lab.ask(VM1, &q).unwrap().expect("a hit");
    }
    assert!(lab.sent().0.is_empty(), "it has just come");
    lab.rig.advance(Duration::from_secs(ttl - 2));
    lab.ask(VM1, &q).unwrap().expect("a hit");
    // Upstream is asked, though all that the answer was made of is in the cache too.
    for _ in 0..2 {
        let (asked, _) = lab.sent();
        assert_eq!(asked.len(), 1);
        let a_record = a("v4only.example.", 300, [198, 51, 100, 10]);
        let records = if asked[0].qtype() == RecordType::A { vec![a_record] } else { Vec::new() };
        lab.answer(&asked[0], ResponseCode::NoError, &records, records.is_empty());
    }
    lab.rig.advance(Duration::from_secs(10));
    let answer = lab.ask(VM1, &q).unwrap().expect("a hit, though the first answer has expired");
    assert_eq!(u64::from(answer.answers[0].ttl), ttl - 10);
}

#[test]
fn what_is_foreseen_of_a_question_is_where_its_answer_is() {
    let mut lab = Lab::new(config());
    resolve_v4only(&mut lab, "v4only.example.");
    let mut scratch = Scratch::new();
    let mut foreseen = |q: &[u8], dnssec_ok, checking_disabled| {
        let packet = lab.rig.packet("tenant0", &ip6(VM1, SERVICE).udp(4000, 53, q));
        let hash = lab.stage.foresee(&packet).expect("a question");
        lab.stage.prefetch(hash, false);
        lab.stage.prefetch(hash, true);
        let name = b"\x06v4only\x07example\x00";
        let key = key(name, TYPE_AAAA, dnssec_ok, checking_disabled, Variant::Synthesised);
        assert_eq!(hash, lab.stage.cache.hash(&key));
        matches!(lab.stage.cache.get(hash, &key, lab.rig.now.as_secs(), &mut scratch), Found::Fresh(_))
    };
    let plain = query("V4only.example.", RecordType::AAAA);
    assert!(foreseen(&plain, false, false));
    let mut message = Message::from_vec(&plain).unwrap();
    message.metadata.checking_disabled = true;
    message.edns.as_mut().unwrap().set_dnssec_ok(true);
    assert!(!foreseen(&message.to_vec().unwrap(), true, true));
    // Anything may be there: nothing is believed.
    for cut in 0..plain.len() {
        let packet = lab.rig.packet("tenant0", &ip6(VM1, SERVICE).udp(4000, 53, &plain[..cut]));
        if let Some(hash) = lab.stage.foresee(&packet) {
            lab.stage.prefetch(hash, true);
        }
    }
}
