use super::*;
use crate::config::{CacheSettings, Limits, OnFailure, Synthesis, Tcp, View};
use crate::policy::NameSet;
use causeway_core::Counters;
use causeway_testkit::Snapshot;
use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record};
use std::net::Ipv4Addr;

mod health;
mod random;

const ONE: &str = "198.51.100.53:53";
const TWO: &str = "[2001:db8:6::53]:53";
const FOREIGN: &str = "198.51.100.99:53";

fn s(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Tries as many as 3, patience 4 s, ports 10000 to 19999.
fn config(upstreams: &[&str]) -> Config {
    let synthesis =
        Synthesis { exclude_aaaa: vec![], exclude_a: vec![], only_a: vec![], on_failure: OnFailure::Fail };
    let view = View {
        name: "all".into(),
        prefix: None,
        synthesis: None,
        always: NameSet::default(),
        never: NameSet::default(),
        blocked: NameSet::default(),
        local: vec![],
    };
    Config {
        listen: vec![],
        clients: vec![],
        views: vec![view],
        synthesis,
        upstreams: upstreams.iter().map(|u| s(u)).collect(),
        upstream: config::Upstream {
            patience: ms(4000),
            tries: 3,
            in_flight: 100,
            ports: (10_000, 19_999),
            case: true,
        },
        cache: CacheSettings {
            octets: 1 << 20,
            max_ttl: 86_400,
            max_negative_ttl: 900,
            failure_ttl: 5,
            prefetch: false,
            stale: None,
        },
        limits: Limits { client_bits: 64, rate: (1000, 1000), in_flight: 100 },
        tcp: Tcp { connections: 10, per_client: 5, idle: ms(10_000), pipelined: 10 },
        udp_octets: 1232,
        sample_every: 0,
    }
}

fn status(config: &Config) -> Arc<UpstreamsStatus> {
    let list = config.upstreams.iter().map(|u| (*u, UpstreamStatus::default())).collect();
    Arc::new(UpstreamsStatus { list })
}

/// A datagram that went out.
#[derive(Debug, Clone)]
struct Sent {
    to: SocketAddr,
    port: u16,
    octets: Vec<u8>,
}

impl Sent {
    fn message(&self) -> Message {
        Message::from_vec(&self.octets).expect("a message")
    }

    fn is_probe(&self) -> bool {
        self.message().queries[0].name().is_root()
    }
}

/// An answer to a question, with these records.
fn answer(asked: &[u8], rcode: u16, records: &[Record]) -> Vec<u8> {
    let m = Message::from_vec(asked).expect("a message");
    let mut r = Message::response(m.metadata.id, OpCode::Query);
    r.metadata.recursion_available = true;
    let [_, low] = rcode.to_be_bytes();
    r.metadata.response_code = ResponseCode::from(u8::try_from(rcode >> 4).expect("a code"), low & 0xf);
    r.queries.clone_from(&m.queries);
    r.edns = m.edns.as_ref().map(|_| Edns::new());
    r.answers = records.to_vec();
    r.to_vec().expect("a message")
}

fn a_record(owner: &str) -> Record {
    let address = RData::A(A(Ipv4Addr::new(198, 51, 100, 10)));
    Record::from_rdata(Name::from_ascii(owner).expect("a name"), 60, address)
}

fn good(asked: &[u8]) -> Vec<u8> {
    let name = Message::from_vec(asked).expect("a message").queries[0].name().to_string();
    answer(asked, 0, &[a_record(&name)])
}

fn question(name: &str) -> Question {
    let name = decode::wire(&Name::from_ascii(name).expect("a name")).into_iter().collect();
    Question { name, qtype: 1, dnssec_ok: false, checking_disabled: false }
}

/// Upstreams, a clock, and what came out.
struct World {
    u: Upstreams,
    now: Instant,
    counters: Counters,
    mark: Snapshot,
    sent: Vec<Sent>,
    opened: Vec<(u64, SocketAddr, Vec<u8>)>,
    closed: Vec<u64>,
    done: Vec<Done>,
    status: Arc<UpstreamsStatus>,
}

impl World {
    fn of(config: &Config) -> Self {
        let status = status(config);
        let counters = Counters::new();
        Self {
            u: Upstreams::new(config, 0, 1, Arc::clone(&status), [3; 32]),
            now: Instant::from_micros(1_000_000),
            mark: Snapshot::of(&counters),
            counters,
            sent: vec![],
            opened: vec![],
            closed: vec![],
            done: vec![],
            status,
        }
    }

    fn new(upstreams: &[&str]) -> Self {
        Self::of(&config(upstreams))
    }

    fn run(&mut self, out: Vec<Action>) {
        for action in out {
            match action {
                Action::SendUdp { to, from_port, octets } => {
                    assert!(self.u.is_open(from_port) || self.u.in_flight() == 0);
                    self.sent.push(Sent { to, port: from_port, octets });
                }
                Action::OpenTcp { token, to, octets } => self.opened.push((token, to, octets)),
                Action::CloseTcp { token } => self.closed.push(token),
                Action::Done(done) => self.done.push(*done),
                Action::Count(counter, n) => self.counters.add(counter, n),
            }
        }
    }

    fn ask(&mut self, name: &str) -> Result<FetchId, FetchError> {
        let mut out = vec![];
        let id = self.u.fetch(&question(name), self.now, &mut out);
        self.run(out);
        id
    }

    /// Asks, and gives the datagram that goes out.
    fn asked(&mut self, name: &str) -> Sent {
        self.ask(name).expect("a fetch");
        self.sent()
    }

    /// The only datagram that went out and was not looked at yet.
    #[track_caller]
    fn sent(&mut self) -> Sent {
        assert_eq!(self.sent.len(), 1, "{:?}", self.sent);
        self.sent.remove(0)
    }

    fn datagram(&mut self, from: SocketAddr, port: u16, octets: &[u8]) -> Result<(), DropReason> {
        let mut out = vec![];
        let result = self.u.on_datagram(from, port, octets, self.now, &mut out);
        if let Err(why) = result {
            self.counters.drop(why);
        }
        self.run(out);
        result
    }

    fn answer(&mut self, to: &Sent, octets: &[u8]) -> Result<(), DropReason> {
        self.datagram(to.to, to.port, octets)
    }

    fn stream(&mut self, token: u64, event: StreamEvent<'_>) {
        let mut out = vec![];
        self.u.on_stream(token, event, self.now, &mut out);
        self.run(out);
    }

    fn unreachable(&mut self, to: SocketAddr, port: u16) -> bool {
        let mut out = vec![];
        let ours = self.u.on_unreachable(to, port, self.now, &mut out);
        self.run(out);
        ours
    }

    /// Lets time pass, and does what is due when it is due.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.u.next_deadline().filter(|due| *due <= end) {
            assert!(due >= self.now, "nothing is overdue");
            self.now = due;
            let mut out = vec![];
            self.u.tick(due, &mut out);
            self.run(out);
        }
        self.now = end;
    }

    /// Takes what came of the only fetch that is over.
    #[track_caller]
    fn done(&mut self) -> Done {
        assert_eq!(self.done.len(), 1, "{:?}", self.done);
        self.done.remove(0)
    }

    #[track_caller]
    fn counted(&mut self, want: &[(&str, u64)]) {
        self.mark.assert_diff(&self.counters, want);
        self.mark = Snapshot::of(&self.counters);
    }

    fn of_upstream(&self, at: usize) -> &UpstreamStatus {
        &self.status.list[at].1
    }

    /// Nothing is left open.
    #[track_caller]
    fn idle(&self) {
        let u = &self.u;
        let probes = u.peers.iter().filter(|p| p.probe.is_some()).count();
        assert_eq!((u.in_flight(), u.ports.len(), u.streams.len(), u.timers.len()), (0, probes, 0, 0));
        assert_eq!(u.free.len(), u.slots.len());
    }
}

fn error(done: &Done) -> Option<FetchError> {
    done.result.as_ref().err().copied()
}

#[test]
fn an_answer_ends_the_fetch_and_closes_the_port() {
    let mut w = World::new(&[ONE]);
    let id = w.ask("www.example.").expect("a fetch");
    let q = w.sent();
    assert_eq!(q.to, s(ONE));
    w.pass(ms(20));
    assert_eq!(w.answer(&q, &good(&q.octets)), Ok(()));
    let done = w.done();
    assert_eq!((done.id, done.upstream, done.took), (id, Some(s(ONE)), ms(20)));
    assert_eq!(done.question, question("www.example."));
    let fetched = done.result.expect("an answer");
    assert_eq!((fetched.age, fetched.question), (0, question("www.example.")));
    assert_eq!(fetched.message.answers, [a_record("www.example.")]);
    assert!(fetched.message.answers[0].name.eq_case(&Name::from_ascii("www.example.").expect("a name")));
    w.idle();
    // The same once more is too late.
    assert_eq!(w.answer(&q, &good(&q.octets)), Err(DropReason::Dns64UpstreamPort));
    w.counted(&[
        ("dns64-upstream-asked", 1),
        ("dns64-upstream-answered", 1),
        ("drop.dns64-upstream-port", 1),
    ]);
    let status = w.of_upstream(0);
    assert_eq!((status.asked.load(Relaxed), status.answered.load(Relaxed)), (1, 1));
    assert_eq!(status.srtt_us.load(Relaxed), 20_000);
}

#[test]
fn rfc5452_9_1_what_does_not_fit_is_refused_for_its_reason_and_the_answer_still_taken() {
    let mut w = World::new(&[ONE, TWO]);
    let q = w.asked("www.example.");
    let right = good(&q.octets);
    let with = |at: usize, value: u8| {
        let mut b = right.clone();
        b[at] ^= value;
        b
    };
    let other = s(if q.to == s(ONE) { TWO } else { ONE });
    let other_port = SocketAddr::new(q.to.ip(), 5353);
    let rows = [
        (s(FOREIGN), q.port, right.clone(), DropReason::Dns64UpstreamSource),
        (other, q.port, right.clone(), DropReason::Dns64UpstreamSource),
        (other_port, q.port, right.clone(), DropReason::Dns64UpstreamSource),
        (q.to, q.port ^ 1, right.clone(), DropReason::Dns64UpstreamPort),
        (q.to, q.port, with(0, 1), DropReason::Dns64UpstreamId),
        (q.to, q.port, with(1, 1), DropReason::Dns64UpstreamId),
        (q.to, q.port, q.octets.clone(), DropReason::Dns64UpstreamNotAnswer),
        (q.to, q.port, with(14, 1), DropReason::Dns64UpstreamQuestion),
        (q.to, q.port, right[..11].to_vec(), DropReason::Dns64UpstreamNotAnswer),
        (q.to, q.port, [&right[..], &[0; 1300]].concat(), DropReason::Dns64UpstreamOversize),
    ];
    for (from, port, octets, why) in rows {
        assert_eq!(w.datagram(from, port, &octets), Err(why));
        assert!(w.done.is_empty());
    }
    assert_eq!(w.answer(&q, &right), Ok(()));
    assert!(w.done().result.is_ok());
    w.counted(&[
        ("dns64-upstream-asked", 1),
        ("dns64-upstream-answered", 1),
        ("drop.dns64-upstream-source", 3),
        ("drop.dns64-upstream-port", 1),
        ("drop.dns64-upstream-id", 2),
        ("drop.dns64-upstream-not-answer", 2),
        ("drop.dns64-upstream-question", 1),
        ("drop.dns64-upstream-oversize", 1),
    ]);
    w.idle();
}

#[test]
fn rfc5452_9_2_ports_and_ids_are_random_and_the_workers_own() {
    let config = config(&[ONE]);
    for (worker, workers) in [(0u16, 1u16), (0, 3), (1, 3), (2, 3)] {
        let seed = [u8::try_from(worker).expect("a small number") + 1; 32];
        let mut u = Upstreams::new(&config, worker, workers, status(&config), seed);
        let mut out = vec![];
        for i in 0..100 {
            u.fetch(&question(&format!("n{i}.example.")), Instant::ZERO, &mut out).expect("a fetch");
        }
        let sent: Vec<(u16, u16)> = out
            .iter()
            .filter_map(|a| match a {
                Action::SendUdp { from_port, octets, .. } => {
                    Some((*from_port, u16::from_be_bytes([octets[0], octets[1]])))
                }
                _ => None,
            })
            .collect();
        assert_eq!(sent.len(), 100);
        assert!(sent.iter().all(|(port, _)| (10_000..20_000).contains(port) && port % workers == worker));
        let distinct = |list: Vec<u16>| list.into_iter().collect::<BTreeSet<_>>();
        let ports = distinct(sent.iter().map(|(port, _)| *port).collect());
        assert_eq!(ports.len(), 100, "a port is one question's");
        assert!(distinct(sent.iter().map(|(_, id)| *id).collect()).len() > 95);
        // All over the range, and in no order.
        assert!(distinct(ports.iter().map(|p| p / 1000).collect()).len() == 10);
        assert!(sent.windows(2).filter(|w| w[0].0 < w[1].0).count() < 80);
    }
}

#[test]
fn the_last_ports_of_a_range_are_used_and_none_outside_it() {
    let mut config = config(&[ONE]);
    config.upstream.ports = (65_533, 65_535);
    config.upstream.in_flight = 1000;
    for (worker, own) in [(0u16, vec![65_534u16]), (1, vec![65_533, 65_535])] {
        let mut u = Upstreams::new(&config, worker, 2, status(&config), [9; 32]);
        let mut ports = BTreeSet::new();
        for _ in 0..200 {
            ports.extend(u.port());
        }
        assert_eq!(ports.into_iter().collect::<Vec<_>>(), own);
    }
    // A worker may have none: then nothing is asked, and the caller is told.
    config.upstream.ports = (65_533, 65_533);
    let mut u = Upstreams::new(&config, 0, 2, status(&config), [9; 32]);
    let mut out = vec![];
    assert!(u.fetch(&question("www.example."), Instant::ZERO, &mut out).is_ok());
    let [Action::Count(Counter::Dns64UpstreamBusy, 1), Action::Done(done)] = &out[..] else {
        panic!("{out:?}")
    };
    assert_eq!(error(done), Some(FetchError::Busy));
}

#[test]
fn rfc5452_5_identical_questions_are_one_fetch_and_others_are_not() {
    let mut w = World::new(&[ONE]);
    let first = w.ask("www.example.").expect("a fetch");
    assert_eq!(w.ask("www.example."), Ok(first));
    assert_eq!(w.sent.len(), 1);
    let mut out = vec![];
    for other in [
        Question { dnssec_ok: true, ..question("www.example.") },
        Question { checking_disabled: true, ..question("www.example.") },
        question("www.example.").of_type(28),
    ] {
        assert_ne!(w.u.fetch(&other, w.now, &mut out), Ok(first));
    }
    w.run(out);
    assert_eq!((w.sent.len(), w.u.in_flight()), (4, 4));
    let q = w.sent.remove(0);
    w.answer(&q, &good(&q.octets)).expect("the answer");
    assert_eq!(w.done().id, first);
    // It is over: the same question is another fetch, also by its number.
    assert_ne!(w.ask("www.example."), Ok(first));
    w.counted(&[("dns64-upstream-asked", 5), ("dns64-upstream-merged", 1), ("dns64-upstream-answered", 1)]);
}

#[test]
fn no_more_than_so_many_are_under_way() {
    let mut w = World::new(&[ONE]);
    for i in 0..100 {
        w.ask(&format!("n{i}.example.")).expect("a fetch");
    }
    assert_eq!(w.ask("one.more.example."), Err(FetchError::Busy));
    assert!(w.ask("n7.example.").is_ok(), "one that is asked already costs nothing");
    w.counted(&[("dns64-upstream-asked", 100), ("dns64-upstream-busy", 1), ("dns64-upstream-merged", 1)]);
    let all = std::mem::take(&mut w.sent);
    for q in &all {
        w.answer(q, &good(&q.octets)).expect("the answer");
    }
    w.idle();
    assert!(w.ask("one.more.example.").is_ok() && w.u.slots.len() == 100);
}

#[test]
fn rfc7766_5_what_is_cut_comes_over_tcp_from_the_same_upstream() {
    let mut w = World::new(&[ONE, TWO]);
    let q = w.asked("www.example.");
    let mut cut = answer(&q.octets, 0, &[]);
    cut[2] |= 2;
    assert_eq!(w.answer(&q, &cut), Ok(()));
    let [(token, to, octets)] = &w.opened[..] else { panic!("{:?}", w.opened) };
    let (token, to, octets) = (*token, *to, octets.clone());
    assert_eq!(to, q.to);
    assert!(!w.u.is_open(q.port));
    w.pass(ms(50));
    // More than fits a datagram.
    let many: Vec<Record> = (0..200).map(|_| a_record("www.example.")).collect();
    let long = answer(&octets, 0, &many);
    assert!(long.len() > 1232);
    w.stream(token, StreamEvent::Message(&long));
    let done = w.done();
    assert_eq!(done.result.expect("an answer").message.answers.len(), 200);
    assert_eq!(w.closed, [token]);
    // What comes after that is nothing to us.
    w.stream(token, StreamEvent::Message(&long));
    w.stream(token, StreamEvent::Closed);
    assert!(w.done.is_empty() && w.closed == [token]);
    w.idle();
    w.counted(&[
        ("dns64-upstream-asked", 1),
        ("dns64-upstream-asked-tcp", 1),
        ("dns64-upstream-truncated", 1),
        ("dns64-upstream-answered", 2),
    ]);
}

/// A question of which the answer was cut, at an upstream; and its connection.
fn over_tcp(w: &mut World) -> (Sent, u64, Vec<u8>) {
    let q = w.asked("www.example.");
    let mut cut = answer(&q.octets, 0, &[]);
    cut[2] |= 2;
    w.answer(&q, &cut).expect("the answer");
    let (token, _, octets) = w.opened.pop().expect("a connection");
    (q, token, octets)
}

#[test]
fn a_connection_that_fails_lets_another_upstream_try() {
    let mut w = World::new(&[ONE, TWO]);
    let (q, token, _) = over_tcp(&mut w);
    w.stream(token, StreamEvent::Closed);
    let next = w.sent();
    assert_ne!(next.to, q.to);
    assert_eq!(w.answer(&next, &good(&next.octets)), Ok(()));
    assert!(w.done().result.is_ok());
    w.idle();
    // The same with one upstream: there is nobody left.
    let mut w = World::new(&[ONE]);
    let (_, token, _) = over_tcp(&mut w);
    w.stream(token, StreamEvent::Closed);
    assert_eq!(error(&w.done()), Some(FetchError::Timeout));
    w.idle();
}

#[test]
fn a_connection_that_is_too_slow_is_closed() {
    let mut w = World::new(&[ONE, TWO]);
    let (q, token, _) = over_tcp(&mut w);
    w.pass(ms(1499));
    assert!(w.closed.is_empty());
    w.pass(ms(1));
    assert_eq!(w.closed, [token]);
    let next = w.sent.iter().find(|s| !s.is_probe()).expect("another try");
    assert_ne!(next.to, q.to);
}

#[test]
fn rfc5452_9_1_over_tcp_the_answer_has_to_fit_too() {
    let mut w = World::new(&[ONE, TWO]);
    let (q, token, octets) = over_tcp(&mut w);
    let mut wrong = good(&octets);
    wrong[0] ^= 1;
    w.stream(token, StreamEvent::Message(&wrong));
    assert_eq!(w.closed, [token]);
    assert_ne!(w.sent().to, q.to);
    w.counted(&[
        ("dns64-upstream-asked", 2),
        ("dns64-upstream-asked-tcp", 1),
        ("dns64-upstream-truncated", 1),
        ("dns64-upstream-answered", 1),
        ("dns64-upstream-refused-tcp", 1),
    ]);
    // Rubbish in the right shell is refused too.
    let mut w = World::new(&[ONE]);
    let (_, token, octets) = over_tcp(&mut w);
    w.stream(token, StreamEvent::Message(&[&good(&octets)[..], &[1]].concat()));
    assert_eq!(error(&w.done()), Some(FetchError::Unusable));
    assert_eq!(w.counters.get(Counter::Dns64UpstreamRefusedTcp), 1);
}

#[test]
fn rfc6891_7_who_does_not_know_edns_is_asked_without() {
    let header_only = |q: &Sent| [&q.octets[..2], &[0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let whole = |q: &Sent, code: u16| answer(&q.octets, code, &[]);
    for code in [None, Some(1), Some(4), Some(16)] {
        let mut w = World::new(&[ONE]);
        let q = w.asked("www.example.");
        assert!(q.message().edns.is_some());
        let refusal = code.map_or_else(|| header_only(&q), |code| whole(&q, code));
        assert_eq!(w.answer(&q, &refusal), Ok(()), "{code:?}");
        let again = w.sent();
        assert!(again.message().edns.is_none() && again.to == q.to && again.port != q.port);
        w.answer(&again, &good(&again.octets)).expect("the answer");
        assert!(w.done().result.is_ok());
        w.counted(&[
            ("dns64-upstream-asked", 2),
            ("dns64-upstream-answered", 2),
            ("dns64-upstream-no-edns", 1),
        ]);
        // It is remembered.
        assert!(w.asked("other.example.").message().edns.is_none());
    }
}

#[test]
fn a_question_that_is_refused_with_and_without_edns_has_failed() {
    let mut w = World::new(&[ONE]);
    let q = w.asked("www.example.");
    w.answer(&q, &answer(&q.octets, 1, &[])).expect("the answer");
    let again = w.sent();
    w.answer(&again, &answer(&again.octets, 1, &[])).expect("the answer");
    assert_eq!(error(&w.done()), Some(FetchError::Failed(1)));
    assert!(w.asked("other.example.").message().edns.is_some(), "EDNS was not the reason");
}

#[test]
fn rfc6147_5_1_2_failures_are_asked_elsewhere_and_the_worst_is_told() {
    let rows: [(u16, u16, FetchError); 5] = [
        (2, 5, FetchError::Failed(2)),
        (5, 2, FetchError::Failed(2)),
        (5, 5, FetchError::Failed(5)),
        (2, 2, FetchError::Failed(2)),
        (5, 23, FetchError::Failed(2)),
    ];
    for (first, second, told) in rows {
        let mut w = World::new(&[ONE, TWO]);
        let q = w.asked("www.example.");
        w.answer(&q, &answer(&q.octets, first, &[])).expect("the answer");
        assert!(w.done.is_empty());
        let next = w.sent();
        assert_ne!(next.to, q.to);
        w.answer(&next, &answer(&next.octets, second, &[])).expect("the answer");
        let done = w.done();
        assert_eq!(error(&done), Some(told), "{first} {second}");
        assert!(done.upstream.is_some() && w.sent.is_empty(), "nobody is asked twice who has failed");
        w.counted(&[
            ("dns64-upstream-asked", 2),
            ("dns64-upstream-answered", 2),
            ("dns64-upstream-failures", 2),
        ]);
        w.idle();
    }
    // One that fails and one that answers.
    let mut w = World::new(&[ONE, TWO]);
    let q = w.asked("www.example.");
    w.answer(&q, &answer(&q.octets, 2, &[])).expect("the answer");
    let next = w.sent();
    w.answer(&next, &good(&next.octets)).expect("the answer");
    assert!(w.done().result.is_ok());
}

#[test]
fn nxdomain_is_an_answer() {
    let mut w = World::new(&[ONE, TWO]);
    let q = w.asked("www.example.");
    w.answer(&q, &answer(&q.octets, 3, &[])).expect("the answer");
    let fetched = w.done().result.expect("an answer");
    assert_eq!(fetched.message.metadata.response_code, ResponseCode::NXDomain);
    assert!(w.sent.is_empty());
}

/// The answer in lower case throughout.
fn lowered(octets: &[u8]) -> Vec<u8> {
    let mut b = octets.to_vec();
    let end = 12 + b[12..].iter().position(|o| *o == 0).expect("the root");
    b[12..end].make_ascii_lowercase();
    b
}

#[test]
fn an_upstream_that_loses_the_case_of_names_is_found_out_and_asked_without() {
    let mut w = World::new(&[ONE]);
    let q = w.asked("a-long-name-with-many-letters.example.");
    let name = |q: &Sent| q.message().queries[0].name().to_string();
    assert!(name(&q).contains(|c: char| c.is_ascii_uppercase()), "{}", name(&q));
    assert_eq!(w.answer(&q, &lowered(&good(&q.octets))), Err(DropReason::Dns64UpstreamCase));
    assert!(w.done.is_empty() && !w.of_upstream(0).loses_case.load(Relaxed), "anybody could have sent that");
    let again = w.sent();
    assert_eq!(name(&again), "a-long-name-with-many-letters.example.");
    assert!((again.to, again.port != q.port) == (q.to, true));
    assert_ne!(again.octets[..2], q.octets[..2]);
    assert_eq!(w.answer(&again, &good(&again.octets)), Ok(()));
    assert!(w.done().result.is_ok() && w.of_upstream(0).loses_case.load(Relaxed));
    assert_eq!(name(&w.asked("another-long-name.example.")), "another-long-name.example.");
    w.counted(&[
        ("dns64-upstream-asked", 3),
        ("dns64-upstream-answered", 1),
        ("drop.dns64-upstream-case", 1),
    ]);
}

#[test]
fn who_guesses_all_but_the_case_does_not_turn_it_off() {
    let mut w = World::new(&[ONE]);
    let q = w.asked("a-long-name-with-many-letters.example.");
    let forged = lowered(&answer(&q.octets, 3, &[]));
    assert_eq!(w.answer(&q, &forged), Err(DropReason::Dns64UpstreamCase));
    w.sent();
    // Once more is no other question, only a wrong answer.
    assert_eq!(w.answer(&q, &forged), Err(DropReason::Dns64UpstreamCase));
    assert!(w.sent.is_empty());
    // The upstream's own answer.
    assert_eq!(w.answer(&q, &good(&q.octets)), Ok(()));
    assert!(w.done().result.is_ok() && !w.of_upstream(0).loses_case.load(Relaxed));
    w.idle();
}

#[test]
fn without_random_case_any_case_will_do() {
    let mut config = config(&[ONE]);
    config.upstream.case = false;
    let mut w = World::of(&config);
    let q = w.asked("www.example.");
    assert_eq!(q.message().queries[0].name().to_string(), "www.example.");
    let mut upper = good(&q.octets);
    upper[13..16].make_ascii_uppercase();
    assert_eq!(w.answer(&q, &upper), Ok(()));
    let fetched = w.done().result.expect("an answer");
    assert_eq!(fetched.message.answers[0].name.to_string(), "www.example.");
}

#[test]
fn rfc5452_9_3_after_so_many_wrong_answers_the_question_goes_over_tcp() {
    let mut w = World::new(&[ONE, TWO]);
    let q = w.asked("www.example.");
    let mut forged = good(&q.octets);
    for guess in 0..10u8 {
        assert!(w.opened.is_empty());
        forged[0] = q.octets[0].wrapping_add(guess + 1);
        assert_eq!(w.answer(&q, &forged), Err(DropReason::Dns64UpstreamId));
    }
    assert_eq!(w.opened.len(), 1);
    assert_eq!(w.opened[0].1, q.to);
    // Even the right guess comes too late now.
    assert_eq!(w.answer(&q, &good(&q.octets)), Err(DropReason::Dns64UpstreamPort));
    let (token, _, octets) = w.opened.remove(0);
    w.stream(token, StreamEvent::Message(&good(&octets)));
    assert!(w.done().result.is_ok());
    w.idle();
    w.counted(&[
        ("dns64-upstream-asked", 1),
        ("dns64-upstream-asked-tcp", 1),
        ("dns64-upstream-answered", 1),
        ("dns64-upstream-guessed", 1),
        ("drop.dns64-upstream-id", 10),
        ("drop.dns64-upstream-port", 1),
    ]);
}

#[test]
fn an_answer_that_cannot_be_used_is_counted_and_another_upstream_asked() {
    let circle = |name: &str, to: &str| {
        let n = |t: &str| Name::from_ascii(t).expect("a name");
        Record::from_rdata(n(name), 60, RData::CNAME(CNAME(n(to))))
    };
    let twice = [circle("www.example.", "b.example."), circle("b.example.", "www.example.")];
    let mut w = World::new(&[ONE, TWO]);
    let q = w.asked("www.example.");
    assert_eq!(w.answer(&q, &answer(&q.octets, 0, &twice)), Err(DropReason::Dns64UpstreamUnusable));
    let next = w.sent();
    assert_ne!(next.to, q.to);
    let cut_short = good(&next.octets);
    let cut_short = &cut_short[..cut_short.len() - 13];
    assert_eq!(w.answer(&next, cut_short), Err(DropReason::Dns64UpstreamMalformed));
    assert_eq!(error(&w.done()), Some(FetchError::Unusable));
    w.counted(&[
        ("dns64-upstream-asked", 2),
        ("dns64-upstream-answered", 2),
        ("drop.dns64-upstream-unusable", 1),
        ("drop.dns64-upstream-malformed", 1),
    ]);
    w.idle();
}

#[test]
fn rfc5452_6_records_that_do_not_belong_there_are_counted() {
    let mut w = World::new(&[ONE]);
    let q = w.asked("www.example.");
    let records = [a_record("www.example."), a_record("www.bank.example."), a_record("evil.example.")];
    assert_eq!(w.answer(&q, &answer(&q.octets, 0, &records)), Ok(()));
    assert_eq!(w.done().result.expect("an answer").message.answers.len(), 1);
    w.counted(&[("dns64-upstream-asked", 1), ("dns64-upstream-answered", 1), ("dns64-upstream-scrubbed", 2)]);
}
