//! What has to be asked for a question, and what its answer is (RFC 6147): a state machine.
//!
//! ```text
//!            +-- AAAA that count, NXDOMAIN ------------------------------------> that answer
//!            +-- failed: on-failure "fail" ------------------------------------> SERVFAIL
//!  Aaaa -----+-- failed: "synthesise", SERVFAIL --> Unchecked --(answered)-----> SERVFAIL: it was bogus
//!            |                                         | (failed too)
//!            +-- none that counts; failed otherwise ---+--> A --- usable ------> AAAA made of A (5.1.7)
//!                                                           +---- none --------> there is none (5.1.6)
//!                                                           +---- NXDOMAIN, failed --> that (5.1.6)
//!  AlwaysA --+-- usable -------------------------------------------------------> AAAA made of A
//!            +-- NXDOMAIN, failed ---------------------------------------------> that
//!            +-- none ------------------------------> AlwaysAaaa --------------> that answer
//!  Native ---- any ------------------------------------------------------------> that answer
//!  Reverse --- any ------------------------------------------------------------> the same under ip6.arpa (5.3.1)
//! ```
//! Each box is a [`chain::Chase`]: a question and those for the rest of its CNAME chain, if upstream did not follow
//! it. Nothing here knows a clock, a socket or the cache.

pub mod chain;

use crate::answer::{Answer, FetchError, Fetched};
use crate::config::{CacheSettings, OnFailure};
use crate::explain;
use crate::policy::{self, Address, NOERROR, NXDOMAIN, Policy, SERVFAIL, Special};
use crate::question::{Question, TYPE_A, TYPE_AAAA, Variant};
use crate::special;
use arrayvec::ArrayVec;
use causeway_core::Counter;
use chain::{Chase, Got, Progress};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{AAAA, CNAME, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Seconds that a synthesised record is good for at most if no SOA record says more (RFC 6147 5.1.7).
pub const TTL_WITHOUT_SOA: u32 = 600;

/// RFC 8914 4.7: DNSSEC Bogus.
const EDE_BOGUS: u16 = 6;
/// RFC 8914 4.23: No Reachable Authority.
const EDE_UNREACHABLE: u16 = 22;
/// RFC 8914 4.24: Network Error.
const EDE_NETWORK: u16 = 23;
/// Response code YXDOMAIN: a DNAME record makes a name that is too long (RFC 6672 2.2).
const YXDOMAIN: u8 = 6;

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// To find out this (in the cache, as [`Variant::Native`], or from upstream) and to hand it to
    /// [`Resolution::on`].
    Fetch(Question),
    /// Nothing: this is the answer.
    Done(Finished),
}

/// The end of a [`Resolution`].
#[derive(Debug)]
pub struct Finished {
    /// The answer. Its TTL is that of the shortest-lived record that it depends on.
    pub answer: Answer,
    /// It may be kept, for all clients, under the key of the question and `variant`.
    pub cacheable: bool,
    /// The sort of answer.
    pub variant: Variant,
    /// What happened, to be counted once.
    pub counted: Counted,
}

/// Events and how often each happened.
pub type Counted = ArrayVec<(Counter, u32), 8>;

/// The work on one question.
#[derive(Debug)]
pub struct Resolution {
    question: Question,
    variant: Variant,
    view: u16,
    policy: Arc<Policy>,
    state: State,
    chase: Chase,
    /// An address was treated as this view has it, and not as all do.
    of_view: bool,
    counted: Counted,
    steps: ArrayVec<explain::Step, 12>,
}

/// What is being found out.
#[derive(Debug)]
enum State {
    /// The answer as it is.
    Native,
    /// Whether there are AAAA records.
    Aaaa,
    /// Whether a server's failure means that the answer is bogus.
    Unchecked,
    /// What can be made of A records.
    A(NoAaaa),
    /// The same, without having asked for AAAA records.
    AlwaysA,
    /// Whether there are AAAA records after all; the lifetime of the answer that had no A records that can be used.
    AlwaysAaaa(Box<Got>),
    /// What the name of an IPv4 address is.
    Reverse,
    /// Nothing: it is over.
    Over,
}

/// Why A records are asked for.
#[derive(Debug)]
enum NoAaaa {
    /// This answer says that there are no AAAA records.
    Empty(Box<Got>),
    /// There were only such as count as not there, or the question failed.
    Otherwise,
}

impl Resolution {
    /// Begins to find an answer of the sort `variant`, as [`Policy::decide`] had it, for a client with this view.
    #[must_use]
    pub fn start(question: &Question, variant: Variant, view: u16, policy: &Arc<Policy>) -> (Self, Step) {
        // There is nothing to be made for other types (RFC 6147 5.3.3).
        let variant = if question.qtype == TYPE_AAAA { variant } else { Variant::Native };
        let (state, first) = match variant {
            Variant::Native => (State::Native, question.clone()),
            Variant::Synthesised => (State::Aaaa, question.clone()),
            Variant::Always => (State::AlwaysA, question.of_type(TYPE_A)),
        };
        let mut this = Self::new(question, variant, view, policy, state, &first);
        if variant == Variant::Always {
            this.decided("always synthesised for this view: A records are asked for first");
        }
        (this, Step::Fetch(first))
    }

    /// Answers a question that is answered here. Some need to know something from upstream all the same.
    #[must_use]
    pub fn special(question: &Question, special: Special, view: u16, policy: &Arc<Policy>) -> (Self, Step) {
        let first = match special {
            Special::Reverse(v4) => Question { name: policy::in_addr_arpa(v4), ..question.clone() },
            _ => question.clone(),
        };
        let mut this = Self::new(question, Variant::Native, view, policy, State::Over, &first);
        // Such answers are a view's own.
        this.of_view = true;
        let local = special::answer(question, special, view, policy);
        this.count(local.counter, 1);
        this.note(explain::Step::Local(local.why));
        match local.message {
            Some((message, synthesised)) => {
                let step = this.finish(message, &synthesised, local.ttl, local.extended_error);
                (this, step)
            }
            None => {
                this.state = State::Reverse;
                (this, Step::Fetch(first))
            }
        }
    }

    fn new(
        question: &Question,
        variant: Variant,
        view: u16,
        policy: &Arc<Policy>,
        state: State,
        first: &Question,
    ) -> Self {
        Self {
            question: question.clone(),
            variant,
            view,
            policy: Arc::clone(policy),
            state,
            chase: Chase::new(first),
            of_view: false,
            counted: Counted::new(),
            steps: ArrayVec::new(),
        }
    }

    /// What the question is about.
    #[must_use]
    pub const fn question(&self) -> &Question {
        &self.question
    }

    /// The sort of answer that is wanted.
    #[must_use]
    pub const fn variant(&self) -> Variant {
        self.variant
    }

    /// The view that it is for.
    #[must_use]
    pub const fn view(&self) -> u16 {
        self.view
    }

    /// Why it went as it did, since the last call.
    pub fn take_steps(&mut self) -> impl Iterator<Item = explain::Step> {
        std::mem::take(&mut self.steps).into_iter()
    }

    /// Takes what came of the last [`Step::Fetch`]. Never to be called after [`Step::Done`]; it then says
    /// that there was a failure.
    #[must_use]
    pub fn on(&mut self, result: Result<Fetched, FetchError>) -> Step {
        if matches!(self.state, State::Unchecked) {
            return self.on_unchecked(&result);
        }
        let cache = &self.policy.config().cache;
        let outcome = match self.chase.on(result, cache) {
            Progress::Ask(question) => {
                self.count(Counter::Dns64ChainFollowed, 1);
                self.decided(
                    "upstream did not follow the chain to its end: the rest is asked for (RFC 6147 5.1.5)",
                );
                return Step::Fetch(*question);
            }
            Progress::Got(got) => Ok(got),
            Progress::Failed(error) => Err(error),
            Progress::Broken => {
                self.count(Counter::Dns64ChainBroken, 1);
                Err(FetchError::Unusable)
            }
        };
        match std::mem::replace(&mut self.state, State::Over) {
            State::Native => match outcome {
                Ok(got) => self.finish_native(*got),
                Err(error) => self.fail(error),
            },
            State::Aaaa => self.on_aaaa(outcome),
            State::A(reason) => self.on_a(reason, outcome),
            State::AlwaysA => self.on_always_a(outcome),
            State::AlwaysAaaa(empty) => self.on_always_aaaa(*empty, outcome),
            State::Reverse => self.on_reverse(outcome),
            State::Unchecked | State::Over => self.fail(FetchError::Unusable),
        }
    }

    /// RFC 6147 5.1.1 to 5.1.4.
    fn on_aaaa(&mut self, outcome: Result<Box<Got>, FetchError>) -> Step {
        let mut got = match outcome {
            Ok(got) => got,
            Err(error) => return self.on_failed_aaaa(error),
        };
        // RFC 6147 5.1.2: a name that does not exist has no A records either.
        if got.rcode == NXDOMAIN {
            self.decided("the name does not exist, and NXDOMAIN stays NXDOMAIN (RFC 6147 5.1.2)");
            return self.finish_native(*got);
        }
        let excluded = self.exclude(&mut got);
        if got.has_data {
            self.decided(if excluded {
                "there are AAAA records; those that count as not there are left out (RFC 6147 5.1.4)"
            } else {
                "there are AAAA records, so that none are made (RFC 6147 5.1.1)"
            });
            return self.finish_native(*got);
        }
        let reason = if excluded {
            self.decided(
                "all AAAA records are such as count as not there (RFC 6147 5.1.4): A records are asked for",
            );
            NoAaaa::Otherwise
        } else {
            self.decided("there is no AAAA record (RFC 6147 5.1.6): A records are asked for");
            NoAaaa::Empty(got)
        };
        self.ask_a(reason)
    }

    /// RFC 6147 5.1.2 and 5.1.3 take any failure for "no AAAA record". Here that is only done if it is configured:
    /// a name with IPv6 would move to NAT64 whenever a server has a bad moment.
    fn on_failed_aaaa(&mut self, error: FetchError) -> Step {
        let open = self.policy.synthesis(self.view).on_failure == OnFailure::Synthesise;
        match error {
            FetchError::Failed(code) if open && code == SERVFAIL => {
                // RFC 6147 5.5: what does not validate is a failure, and never diverted. Upstream says SERVFAIL for
                // that too (RFC 4035 5.5); then it has an answer for those who do not want it checked.
                self.decided(
                    "SERVFAIL: asked again with CD, to see whether the answer is bogus (RFC 6147 5.5)",
                );
                self.state = State::Unchecked;
                Step::Fetch(Question { checking_disabled: true, ..self.question.clone() })
            }
            FetchError::Timeout | FetchError::Failed(_) | FetchError::Unusable if open => self.fail_open(),
            _ => {
                self.count(Counter::Dns64FailedClosed, 1);
                self.decided("the question for AAAA records failed, which does not say that there are none");
                self.fail(error)
            }
        }
    }

    fn on_unchecked(&mut self, result: &Result<Fetched, FetchError>) -> Step {
        self.state = State::Over;
        let answered = match result {
            Ok(fetched) => matches!(chain::rcode(&fetched.message), NOERROR | NXDOMAIN),
            Err(_) => false,
        };
        if answered {
            self.count(Counter::Dns64Bogus, 1);
            self.decided("there is an answer, but only unchecked: it is bogus, and a failure (RFC 6147 5.5)");
            return self.fail_with(SERVFAIL, Some(EDE_BOGUS), self.policy.config().cache.failure_ttl);
        }
        self.fail_open()
    }

    fn fail_open(&mut self) -> Step {
        self.count(Counter::Dns64FailedOpen, 1);
        self.decided("the failure counts as \"no AAAA record\", as configured (RFC 6147 5.1.2): A records are asked for");
        self.ask_a(NoAaaa::Otherwise)
    }

    fn ask_a(&mut self, reason: NoAaaa) -> Step {
        self.state = State::A(reason);
        self.ask(self.question.of_type(TYPE_A))
    }

    fn ask(&mut self, question: Question) -> Step {
        self.chase = Chase::new(&question);
        Step::Fetch(question)
    }

    /// RFC 6147 5.1.6 and 5.1.7.
    fn on_a(&mut self, reason: NoAaaa, outcome: Result<Box<Got>, FetchError>) -> Step {
        let a = match outcome {
            Ok(a) => a,
            Err(error) => {
                self.decided("the question for A records failed, and that is the answer (RFC 6147 5.1.6)");
                return self.fail(error);
            }
        };
        if a.rcode == NXDOMAIN {
            self.decided("the question for A records says that there is no such name (RFC 6147 5.1.6)");
            return self.finish_none(*a, None);
        }
        let bound = match &reason {
            NoAaaa::Empty(empty) => empty.soa_ttl.unwrap_or(TTL_WITHOUT_SOA),
            NoAaaa::Otherwise => TTL_WITHOUT_SOA,
        };
        if let Some((message, synthesised)) = self.synthesise(&a, bound) {
            return self.finish_synthesised(message, &synthesised);
        }
        self.decided("there is no A record that can be used either (RFC 6147 5.1.6)");
        // RFC 6147 5.4: the answer to the client's own question; where there is none without records that must not be
        // given (5.1.4), that to the question for A records, as 5.1.6 has it.
        match reason {
            NoAaaa::Empty(empty) => self.finish_none(*empty, Some(&a)),
            NoAaaa::Otherwise => self.finish_none(*a, None),
        }
    }

    fn on_always_a(&mut self, outcome: Result<Box<Got>, FetchError>) -> Step {
        let a = match outcome {
            Ok(a) => a,
            Err(error) => return self.fail(error),
        };
        if a.rcode == NXDOMAIN {
            self.decided("the name does not exist, and NXDOMAIN stays NXDOMAIN (RFC 6147 5.1.2)");
            return self.finish_none(*a, None);
        }
        if let Some((message, synthesised)) = self.synthesise(&a, TTL_WITHOUT_SOA) {
            return self.finish_synthesised(message, &synthesised);
        }
        self.decided("there is no A record that can be used: AAAA records are asked for");
        self.state = State::AlwaysAaaa(a);
        self.ask(self.question.clone())
    }

    fn on_always_aaaa(&mut self, a: Got, outcome: Result<Box<Got>, FetchError>) -> Step {
        let mut got = match outcome {
            Ok(got) => got,
            Err(error) => return self.fail(error),
        };
        let excluded = self.exclude(&mut got);
        if got.has_data || got.rcode == NXDOMAIN {
            self.decided("there are AAAA records only, or no such name");
            return self.finish_native(*got);
        }
        if excluded { self.finish_none(a, None) } else { self.finish_none(*got, Some(&a)) }
    }

    /// RFC 6147 5.3.1 (2) and RFC 8880 7.2.1.
    fn on_reverse(&mut self, outcome: Result<Box<Got>, FetchError>) -> Step {
        let mut got = match outcome {
            Ok(got) => *got,
            Err(error) => return self.fail(error),
        };
        let name = wire_name(&self.question.name);
        got.message.metadata.authentic_data = false;
        if !got.has_data {
            self.decided("the IPv4 address has no name, so that no CNAME record is made (RFC 6147 5.3.1)");
            let ttl = got.lifetime(&self.policy.config().cache);
            let message = special::negative(&self.question, got.rcode, &name, ttl);
            return self.finish(message, &[], ttl, None);
        }
        let ttl = got.lifetime(&self.policy.config().cache);
        if got.links == 0 {
            self.decided("CNAME record to the name of the IPv4 address (RFC 6147 5.3.1)");
            let target = got.end.clone();
            got.message.answers.insert(0, Record::from_rdata(name, ttl, RData::CNAME(CNAME(target))));
        } else {
            // RFC 6147 5.3.1: no chain is made longer.
            self.decided(
                "the name of the IPv4 address is told under this name, without its chain (RFC 8880 7.2.1)",
            );
            let end = &got.end;
            let records = got.message.answers.drain(..).filter(|r| r.name == *end);
            let records: Vec<Record> = records
                .filter_map(|r| match r.data {
                    RData::PTR(PTR(target)) => {
                        Some(Record::from_rdata(name.clone(), ttl, RData::PTR(PTR(target))))
                    }
                    _ => None,
                })
                .collect();
            got.message.answers = records;
        }
        self.finish(got.message, &[], ttl, None)
    }

    /// Leaves out AAAA records that count as not there (RFC 6147 5.1.4), and those in a NAT64 prefix, with the
    /// signature of what they were part of. True if there were any.
    fn exclude(&mut self, got: &mut Got) -> bool {
        let rules = self.policy.synthesis(self.view);
        let (mut excluded, mut in_prefix) = (0u32, 0u32);
        let mut owners: Vec<Name> = Vec::new();
        got.message.answers.retain(|r| {
            let RData::AAAA(AAAA(a)) = r.data else { return true };
            let counter = if rules.exclude_aaaa.iter().any(|p| p.contains(a)) {
                &mut excluded
            } else if self.policy.is_in_a_prefix(a) {
                &mut in_prefix
            } else {
                return true;
            };
            *counter = counter.saturating_add(1);
            if !owners.contains(&r.name) {
                owners.push(r.name.clone());
            }
            false
        });
        if owners.is_empty() {
            return false;
        }
        got.message.answers.retain(|r| chain::covered(r) != Some(TYPE_AAAA) || !owners.contains(&r.name));
        got.message.metadata.authentic_data = false;
        got.has_data =
            got.message.answers.iter().any(|r| r.name == got.end && r.record_type() == RecordType::AAAA);
        self.count(Counter::Dns64AaaaExcluded, excluded);
        self.count(Counter::Dns64AaaaInPrefix, in_prefix);
        true
    }

    /// The answer with AAAA records made of A records (RFC 6147 5.1.7, 5.4), and their places in the answer section;
    /// nothing if there is no A record that can be used.
    fn synthesise(&mut self, a: &Got, bound: u32) -> Option<(Message, Vec<usize>)> {
        let mut answers = Vec::with_capacity(a.message.answers.len());
        let mut synthesised = Vec::new();
        let mut refused = 0u32;
        for record in &a.message.answers {
            match &record.data {
                RData::A(v4) if record.name == a.end => {
                    let treatment = self.policy.address(self.view, v4.0);
                    self.of_view |= matches!(treatment, Address::UsedHere | Address::RefusedHere);
                    if !treatment.is_used() {
                        refused = refused.saturating_add(1);
                        continue;
                    }
                    // RFC 6147 5.1.7: no longer than there is no AAAA record.
                    let ttl = record.ttl.min(bound);
                    synthesised.push(answers.len());
                    answers.push(Record::from_rdata(
                        record.name.clone(),
                        ttl,
                        RData::AAAA(AAAA(placeholder(v4.0))),
                    ));
                }
                // RFC 6147 5.1.5: the chain stays, and is signed. The signature of the A records is of what is not there
                // any more.
                _ if chain::is_link(record) => answers.push(record.clone()),
                _ => {}
            }
        }
        self.count(Counter::Dns64AddressRefused, refused);
        if synthesised.is_empty() {
            return None;
        }
        // RFC 6147 5.4 and 5.3.2: authority and additional sections of the last answer, as they are.
        let mut message = a.message.clone();
        message.answers = answers;
        // Not even if both answers were authentic (RFC 6147 5.5 (2) would have it so): what we made is not.
        message.metadata.authentic_data = false;
        Some((message, synthesised))
    }

    fn finish_synthesised(&mut self, message: Message, synthesised: &[usize]) -> Step {
        self.count(Counter::Dns64Synthesised, 1);
        self.decided("AAAA records are made of A records (RFC 6147 5.1.7)");
        let ttl = chain::shortest(&message.answers).min(self.policy.config().cache.max_ttl);
        self.finish(message, synthesised, ttl, None)
    }

    /// As it came, but for its question.
    fn finish_native(&mut self, got: Got) -> Step {
        let ttl = got.lifetime(&self.policy.config().cache);
        let message = if got.is_positive() { got.message } else { chain::with_soa_ttl(got.message, ttl) };
        self.finish(message, &[], ttl, None)
    }

    /// There is nothing. Whoever hears that there is not may forget it when the other answer, of which nothing could
    /// be made either, ends.
    fn finish_none(&mut self, got: Got, other: Option<&Got>) -> Step {
        let cache = &self.policy.config().cache;
        let mut ttl = got.lifetime(cache).min(cache.max_negative_ttl);
        if let Some(other) = other {
            ttl = ttl.min(other.lifetime(cache));
        }
        let mut message = chain::with_soa_ttl(got.message, ttl);
        // What was asked for last may be of another type than what the client wants to hear of: its chain is left.
        message.answers.retain(chain::is_link);
        self.finish(message, &[], ttl, None)
    }

    fn fail(&mut self, error: FetchError) -> Step {
        let (rcode, extended_error) = failure_code(error);
        self.fail_with(rcode, extended_error, failure_ttl(error, &self.policy.config().cache))
    }

    fn fail_with(&mut self, rcode: u8, extended_error: Option<u16>, ttl: u32) -> Step {
        let message = response(&self.question, rcode);
        self.finish(message, &[], ttl, extended_error)
    }

    /// Puts the header and the question in order (RFC 6147 5.4) and writes it.
    fn finish(&mut self, mut message: Message, synthesised: &[usize], ttl: u32, ede: Option<u16>) -> Step {
        self.state = State::Over;
        let authoritative = message.metadata.authoritative;
        message.metadata.authoritative = authoritative && self.of_view && self.variant == Variant::Native;
        message.queries = vec![query(&self.question)];
        let mut answer = Answer::from_message(&message, synthesised, ttl)
            .or_else(|_| Answer::from_message(&response(&self.question, SERVFAIL), &[], 0))
            .unwrap_or_else(|_| no_answer());
        answer.extended_error = ede;
        let own = self.of_view || !self.policy.reads_cache(self.view, self.variant);
        Step::Done(Finished {
            cacheable: answer.ttl > 0 && !own,
            answer,
            variant: self.variant,
            counted: std::mem::take(&mut self.counted),
        })
    }

    fn count(&mut self, counter: Counter, n: u32) {
        if n == 0 {
            return;
        }
        match self.counted.iter_mut().find(|(c, _)| *c == counter) {
            Some((_, count)) => *count = count.saturating_add(n),
            // There are fewer that one resolution can meet than there is room for.
            None => drop(self.counted.try_push((counter, n))),
        }
    }

    fn decided(&mut self, why: &'static str) {
        self.note(explain::Step::Decided(why));
    }

    fn note(&mut self, step: explain::Step) {
        // What is over that is only told to people.
        drop(self.steps.try_push(step));
    }
}

/// What was learnt, ready for the cache as an answer of the sort [`Variant::Native`]; nothing if it is not to be
/// kept, as with chains that upstream did not follow to their end.
#[must_use]
pub fn native(fetched: &Fetched, cache: &CacheSettings) -> Option<Answer> {
    let question = &fetched.question;
    let Progress::Got(got) = Chase::new(question).on(Ok(fetched.clone()), cache) else { return None };
    let ttl = got.lifetime(cache);
    let positive = got.is_positive();
    let mut message = if positive { got.message } else { chain::with_soa_ttl(got.message, ttl) };
    message.queries = vec![query(question)];
    message.metadata.authoritative = false;
    Answer::from_message(&message, &[], ttl).ok().filter(|a| a.ttl > 0)
}

/// A failure, ready for the cache (RFC 9520 3.2); nothing if it is not to be kept.
#[must_use]
pub fn failure(question: &Question, error: FetchError, cache: &CacheSettings) -> Option<Answer> {
    let (rcode, extended_error) = failure_code(error);
    let mut answer = Answer::from_message(&response(question, rcode), &[], failure_ttl(error, cache)).ok()?;
    answer.extended_error = extended_error;
    (answer.ttl > 0).then_some(answer)
}

/// What a client is told of a failure, with RFC 8914's code.
const fn failure_code(error: FetchError) -> (u8, Option<u16>) {
    match error {
        FetchError::Timeout => (SERVFAIL, Some(EDE_UNREACHABLE)),
        FetchError::Unusable => (SERVFAIL, Some(EDE_NETWORK)),
        // The name is at fault, and the client can know it.
        FetchError::Failed(YXDOMAIN) => (YXDOMAIN, None),
        FetchError::Failed(_) | FetchError::Busy => (SERVFAIL, None),
    }
}

/// Seconds that a failure is remembered (RFC 9520 3.2). That we were busy says nothing about the name.
const fn failure_ttl(error: FetchError, cache: &CacheSettings) -> u32 {
    match error {
        FetchError::Busy => 0,
        _ => cache.failure_ttl,
    }
}

/// An empty response of a resolver.
pub(crate) fn response(question: &Question, rcode: u8) -> Message {
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.metadata.recursion_available = true;
    message.metadata.response_code = ResponseCode::from(0, rcode);
    message.queries = vec![query(question)];
    message
}

fn query(question: &Question) -> Query {
    Query::query(wire_name(&question.name), RecordType::from(question.qtype))
}

/// A name in wire form for `hickory`; the root if it is no name.
pub(crate) fn wire_name(name: &[u8]) -> Name {
    Name::read(&mut BinDecoder::new(name)).unwrap_or_else(|_| Name::root())
}

/// An IPv4 address as [`Answer::synthesised`] wants it: behind twelve octets of zero.
pub(crate) fn placeholder(v4: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(v4.to_bits()))
}

/// A server failure about nothing: what is left if not even a failure could be written.
fn no_answer() -> Answer {
    Answer {
        octets: vec![0, 0, 0x80, 0x82, 0, 0, 0, 0, 0, 0, 0, 0],
        ttls: Vec::new(),
        synthesised: Vec::new(),
        ttl: 0,
        extended_error: None,
    }
}

#[cfg(test)]
mod tests;
