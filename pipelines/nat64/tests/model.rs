//! Random sequences of packets from both sides, of time and of reloads, beside a model of RFC 6146 3.1 to 3.5
//! that is plain maps: who gets through, what a host looks like from outside, and how long things live.

mod common;

use causeway_core::{Counter, DropReason, Duration};
use causeway_nat64::rfc6146::tcp_fsm::{Event, Lifetime, Side, State};
use causeway_nat64::{Filtering, Options, Timeouts};
use causeway_testkit::{check_packet, ip4, ip6, tcp};
use common::*;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

const HOSTS: [&str; 2] = [VM1, VM2];
const REMOTES: [&str; 3] = ["198.51.100.10", "198.51.100.11", "198.51.100.99"];
const PORTS: [u16; 2] = [53, 5353];
const POOLS: [&[&str]; 3] = [&["203.0.113.0/28"], &["203.0.113.0/28", "192.0.2.128/28"], &["192.0.2.128/28"]];
const FILTERS: [Filtering; 3] =
    [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];
/// RFC 6146 4, but for TCP_EST, so that sequences get that far.
const ESTABLISHED: u64 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Upper {
    Udp,
    Tcp,
    Icmp,
}

/// What happens in a sequence. Numbers are places in the lists above.
#[derive(Debug, Clone)]
enum Step {
    /// A packet from inside; for TCP with these control bits.
    Out { host: usize, port: u16, to: Remote, upper: Upper, flags: u8 },
    /// A packet from outside to the mapping of this host and port, if there is one.
    In { host: usize, port: u16, from: Remote, upper: Upper, flags: u8 },
    /// A TCP segment from outside to some port of the pool.
    Stranger { from: Remote, port: u16, flags: u8 },
    /// Seconds pass.
    Pass(u64),
    /// Another configuration.
    Reload { filter: usize, pool: usize },
}

/// Address and port.
type Remote = (usize, usize);

fn step() -> impl Strategy<Value = Step> {
    let flags =
        || prop_oneof![3 => Just(0x02u8), 2 => Just(0x12), 1 => Just(0x10), 1 => Just(0x11), 1 => Just(0x04)];
    let upper = || prop_oneof![2 => Just(Upper::Udp), 4 => Just(Upper::Tcp), 1 => Just(Upper::Icmp)];
    let remote = || (0usize..3, 0usize..2);
    prop_oneof![
        5 => (0usize..2, 0u16..3, remote(), upper(), flags())
            .prop_map(|(host, port, to, upper, flags)| Step::Out { host, port, to, upper, flags }),
        5 => (0usize..2, 0u16..3, remote(), upper(), flags())
            .prop_map(|(host, port, from, upper, flags)| Step::In { host, port, from, upper, flags }),
        1 => (remote(), any::<u16>(), flags())
            .prop_map(|(from, port, flags)| Step::Stranger { from, port, flags }),
        2 => prop_oneof![1u64..10, 1u64..400].prop_map(Step::Pass),
        1 => (0usize..3, 0usize..3).prop_map(|(filter, pool)| Step::Reload { filter, pool }),
    ]
}

/// A session table entry: when it was last renewed, and the state of TCP.
#[derive(Debug, Clone, Copy)]
struct Open {
    seen: u64,
    state: Option<State>,
}

/// Whose mapping.
type Inside = (usize, u16, Upper);
/// The pool's address and port.
type Outside = (Ipv4Addr, u16);

#[derive(Debug, Default)]
struct Model {
    now: u64,
    filter: usize,
    pool: usize,
    bib: HashMap<Inside, Outside>,
    sessions: HashMap<(Inside, Remote), Open>,
    /// SYNs that wait: until when.
    syns: HashMap<(Outside, Remote), u64>,
    /// Errors and probes that were due.
    told: usize,
    probed: u64,
}

/// What the model says of a packet.
#[derive(Debug, PartialEq, Eq)]
enum Says {
    Through,
    Dropped(DropReason),
    Waits,
}

impl Model {
    fn in_pool(&self, a: Ipv4Addr) -> bool {
        POOLS[self.pool].iter().any(|p| p.parse::<causeway_core::Prefix4>().unwrap().contains(a))
    }

    /// Ends what is due.
    fn sweep(&mut self) {
        let (now, mut ended) = (self.now, Vec::new());
        // A stored SYN is due long before a session that was opened beside it.
        let over: Vec<_> = self.syns.iter().filter(|(_, d)| **d <= now).map(|(k, _)| *k).collect();
        for key in over {
            self.syns.remove(&key);
            let open = self.owner(key.0).is_some_and(|i| self.sessions.contains_key(&(i, key.1)));
            self.told += usize::from(!open && self.in_pool(key.0.0));
        }
        for (key, o) in &mut self.sessions {
            let (life, state) = match (key.0.2, o.state) {
                (Upper::Udp, _) => (300, None),
                (Upper::Icmp, _) => (60, None),
                (Upper::Tcp, s) if s.map(State::lifetime) == Some(Lifetime::Established) => (ESTABLISHED, s),
                (Upper::Tcp, s) => (240, s),
            };
            let gone = !POOLS[self.pool]
                .iter()
                .any(|p| p.parse::<causeway_core::Prefix4>().unwrap().contains(self.bib[&key.0].0));
            if gone || now - o.seen > life {
                if !gone && state == Some(State::Established) {
                    *o = Open { seen: now, state: Some(State::Trans) };
                    self.probed += 1;
                } else {
                    ended.push(*key);
                }
            }
        }
        for key in ended {
            self.sessions.remove(&key);
        }
        self.bib.retain(|inside, _| self.sessions.keys().any(|(i, _)| i == inside));
    }

    /// Who has this TCP mapping.
    fn owner(&self, out: Outside) -> Option<Inside> {
        self.bib.iter().find(|(i, o)| i.2 == Upper::Tcp && **o == out).map(|(i, _)| *i)
    }

    /// A packet of a session that is there.
    fn follow(&mut self, key: (Inside, Remote), side: Side, flags: u8) -> bool {
        let now = self.now;
        let Some(o) = self.sessions.get_mut(&key) else { return false };
        match o.state {
            Some(state) => {
                let step = state.on(Event::of(side, flags));
                o.state = Some(step.next);
                if step.renew {
                    o.seen = now;
                }
            }
            None if side == Side::V6 => o.seen = now,
            None => {}
        }
        true
    }

    /// From inside. `got` is what the host looked like from outside, if the packet came through.
    fn out(&mut self, inside: Inside, to: Remote, flags: u8, got: Option<Outside>) -> Says {
        if self.follow((inside, to), Side::V6, flags) {
            return Says::Through;
        }
        let mut state = None;
        if inside.2 == Upper::Tcp {
            state = State::open(Event::of(Side::V6, flags));
            if state.is_none() {
                // CLOSED, any other packet.
                let known = self.bib.contains_key(&inside);
                return if known { Says::Through } else { Says::Dropped(DropReason::Nat64NoSession) };
            }
        }
        let Some(got) = got else { return Says::Through };
        let out = *self.bib.entry(inside).or_insert(got);
        if state.is_some() && self.syns.get(&(out, to)).is_some_and(|d| *d > self.now) {
            self.syns.remove(&(out, to));
            state = Some(State::Established);
        }
        self.sessions.insert((inside, to), Open { seen: self.now, state });
        Says::Through
    }

    /// From outside to a mapping, or to none.
    fn inward(
        &mut self,
        out: Outside,
        inside: Option<Inside>,
        from: Remote,
        upper: Upper,
        flags: u8,
    ) -> Says {
        let Some(inside) = inside else {
            return self.refused(out, from, upper, flags, DropReason::Nat64NoBib);
        };
        if self.follow((inside, from), Side::V4, flags) {
            return Says::Through;
        }
        let lets_in = match FILTERS[self.filter] {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => self.sessions.keys().any(|(i, r)| *i == inside && r.0 == from.0),
            Filtering::AddressAndPortDependent => false,
        };
        if !lets_in {
            return self.refused(out, from, upper, flags, DropReason::Nat64Filtered);
        }
        let state = if upper == Upper::Tcp { State::open(Event::of(Side::V4, flags)) } else { None };
        if upper != Upper::Tcp || state.is_some() {
            self.sessions.insert((inside, from), Open { seen: self.now, state });
        }
        Says::Through
    }

    fn refused(&mut self, out: Outside, from: Remote, upper: Upper, flags: u8, why: DropReason) -> Says {
        if upper != Upper::Tcp || flags != 0x02 || !self.in_pool(out.0) {
            return Says::Dropped(why);
        }
        if self.syns.contains_key(&(out, from)) {
            return Says::Dropped(DropReason::Nat64SynAgain);
        }
        self.syns.insert((out, from), self.now + 6);
        Says::Waits
    }
}

fn segment(src: u16, dst: u16, flags: u8) -> causeway_testkit::Tcp {
    let t = tcp(src, dst);
    let t = if flags & 0x02 != 0 { t.syn() } else { t };
    let t = if flags & 0x10 != 0 { t.ack(1) } else { t };
    let t = if flags & 0x01 != 0 { t.fin() } else { t };
    if flags & 0x04 != 0 { t.rst() } else { t }
}

fn plan(filter: usize, pool: usize, generation: u16) -> Options {
    Options {
        timeouts: Timeouts { tcp_established: Duration::from_secs(ESTABLISHED), ..Timeouts::default() },
        hold_down: Duration::ZERO,
        filtering: FILTERS[filter],
        pool: POOLS[pool].iter().map(|p| p.parse().unwrap()).collect(),
        generation,
        ..options()
    }
}

/// An echo has no port of the remote end.
fn remote(upper: Upper, r: Remote) -> Remote {
    if upper == Upper::Icmp { (r.0, 0) } else { r }
}

/// The gateway sweeps, and everything that it says then was due. Gives errors and probes.
fn swept(g: &mut Gateway) -> usize {
    let mut sent = 0;
    for _ in 0..8 {
        g.sweep();
        for p in g.rig.sent() {
            let b = &p.octets;
            assert!((b[0] >> 4 == 4 && b[20..22] == [3, 3]) || (b[0] >> 4 == 6 && b[6] == 6));
            sent += 1;
        }
    }
    sent
}

fn says(fate: &Fate) -> Says {
    match fate {
        Fate::Sent(..) => Says::Through,
        Fate::Dropped(r) => Says::Dropped(*r),
        Fate::Held => Says::Waits,
        Fate::Other(o) => panic!("{o}"),
    }
}

fn one_step(g: &mut Gateway, m: &mut Model, step: &Step, generation: u16) -> Result<(), TestCaseError> {
    match *step {
        Step::Pass(s) => {
            g.rig.advance(Duration::from_secs(s));
            m.now += s;
            let before = m.told + usize::try_from(m.probed).unwrap();
            m.sweep();
            prop_assert_eq!(swept(g), m.told + usize::try_from(m.probed).unwrap() - before);
        }
        Step::Reload { filter, pool } => {
            g.reconfigure(plan(filter, pool, generation));
            (m.filter, m.pool) = (filter, pool);
            m.sweep();
            prop_assert_eq!(swept(g), 0);
        }
        Step::Out { host, port, to, upper, flags } => {
            let (inside, to) = ((host, port, upper), remote(upper, to));
            let dst = g.nat.config().prefixes().get(0).unwrap().embed(v4(REMOTES[to.0]));
            let (b, src_port) = (ip6(HOSTS[host], dst), 4000 + port);
            let p = match upper {
                Upper::Udp => b.udp(src_port, PORTS[to.1], b"x"),
                Upper::Tcp => b.tcp(&segment(src_port, PORTS[to.1], flags)),
                Upper::Icmp => b.echo_request(src_port, 1, b"x"),
            };
            let fate = g.six(&p);
            let got = match &fate {
                Fate::Sent(b, _) => {
                    check_packet(b).map_err(TestCaseError::fail)?;
                    let at = if upper == Upper::Icmp { 24 } else { 20 };
                    let out = Ipv4Addr::new(b[12], b[13], b[14], b[15]);
                    Some((out, u16::from_be_bytes([b[at], b[at + 1]])))
                }
                _ => None,
            };
            prop_assert_eq!(m.out(inside, to, flags, got), says(&fate));
            if let (Some(got), Some(known)) = (got, m.bib.get(&inside)) {
                prop_assert_eq!(got, *known, "RFC 4787 REQ-1: one mapping for all destinations");
                prop_assert!(m.in_pool(got.0));
            }
        }
        Step::In { host, port, from, upper, flags } => {
            let (inside, from) = ((host, port, upper), remote(upper, from));
            let Some(out) = m.bib.get(&inside).copied() else { return Ok(()) };
            let b = ip4(REMOTES[from.0], out.0);
            let p = match upper {
                Upper::Udp => b.udp(PORTS[from.1], out.1, b"y"),
                Upper::Tcp => b.tcp(&segment(PORTS[from.1], out.1, flags)),
                Upper::Icmp => b.echo_reply(out.1, 1, b"y"),
            };
            let fate = g.four(&p);
            prop_assert_eq!(m.inward(out, Some(inside), from, upper, flags), says(&fate));
            if let Fate::Sent(b, _) = fate {
                check_packet(&b).map_err(TestCaseError::fail)?;
                prop_assert_eq!(&b[24..40], &v6(HOSTS[host]).octets()[..]);
                let at = if upper == Upper::Icmp { 44 } else { 42 };
                prop_assert_eq!(u16::from_be_bytes([b[at], b[at + 1]]), 4000 + port);
            }
        }
        Step::Stranger { from, port, flags } => {
            let first: causeway_core::Prefix4 = POOLS[m.pool][0].parse().unwrap();
            let out = (first.address(), port);
            let p = ip4(REMOTES[from.0], out.0).tcp(&segment(PORTS[from.1], port, flags));
            let fate = g.four(&p);
            let owner = m.owner(out);
            prop_assert_eq!(m.inward(out, owner, from, Upper::Tcp, flags), says(&fate));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rfc6146_3_random_sequences_follow_the_model(
        filter in 0usize..3, steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut g = Gateway::with(plan(filter, 0, 0));
        let mut m = Model { filter, ..Model::default() };
        for (generation, step) in (1u16..).zip(&steps) {
            one_step(&mut g, &mut m, step, generation)?;
            prop_assert_eq!((g.sessions(), g.mappings()), (m.sessions.len(), m.bib.len()), "after {:?}", step);
            let in_use: u32 = g.nat.pool().usage().map(|u| u.in_use).sum();
            prop_assert_eq!(in_use as usize, m.bib.len(), "as many ports as mappings");
            let outs: HashSet<_> = m.bib.iter().map(|(i, o)| (i.2, *o)).collect();
            prop_assert_eq!(outs.len(), m.bib.len(), "no two mappings look the same");
        }
        prop_assert_eq!(g.rig.counters.get(Counter::Nat64Probes), m.probed);
        prop_assert_eq!(g.rig.counters.get(Counter::IcmpErrorsSent), m.told as u64);
        // All of it ends: twice TCP_EST and TCP_TRANS.
        for _ in 0..4 {
            g.rig.advance(Duration::from_secs(ESTABLISHED + 1));
            swept(&mut g);
        }
        prop_assert_eq!((g.sessions(), g.permissions(), g.mappings(), g.nat.held()), (0, 0, 0, 0));
        prop_assert_eq!(g.table.used_index_words(), (0, 0));
        prop_assert_eq!(g.nat.pool().usage().map(|u| u.in_use).sum::<u32>(), 0);
    }
}
