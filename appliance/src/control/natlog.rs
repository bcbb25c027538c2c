//! The mapping log (RFC 6888 4, RFC 8158): what workers wrote of sessions, mappings and port blocks, given
//! wall time and sent on.
//!
//! ```text
//!  worker's Log -+
//!  worker's Log -+-> drain -> NatEvent -+-> tracing, target causeway::nat64
//!  counters ------> exhaustion ---------+-> ipfix (encoding) -> export (UDP)
//! ```
//! A turn takes a bounded number of records from each worker. Exhaustion is seen from counters, so it costs
//! the packet path nothing and is told at most once in [`EXHAUSTION_EVERY`] (RFC 8158 5.2).

mod export;
mod ipfix;

use super::introspect::Introspect;
use super::state::State;
use crate::config::{Config, NatLog};
use crate::log::RateLimited;
use causeway_core::{Counter, Counters, DropReason, Instant};
use causeway_nat64::rfc6052::Prefix;
use causeway_nat64::{Log, LogEvent, LogRecord};
use causeway_wire::l4::{PROTO_ICMP, PROTO_TCP, PROTO_UDP};
use export::{Exporter, Trouble};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tracing::{info, warn};

/// Records taken from one worker in one go; then other tasks of control get a turn.
const AT_ONCE: usize = 1024;
/// How often exhaustion of one kind is told.
const EXHAUSTION_EVERY: Duration = Duration::from_secs(10);

/// What happened to the NAT, by its natEvent of RFC 8158 4.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    SessionCreated,
    SessionEnded,
    MappingCreated,
    MappingEnded,
    BlockGiven,
    BlockReturned,
    AddressesExhausted,
    TooManySessions,
    TooManyMappings,
}

impl Kind {
    const fn of(event: LogEvent) -> Self {
        match event {
            LogEvent::SessionCreated => Self::SessionCreated,
            LogEvent::SessionEnded => Self::SessionEnded,
            LogEvent::MappingCreated => Self::MappingCreated,
            LogEvent::MappingEnded => Self::MappingEnded,
            LogEvent::BlockGiven => Self::BlockGiven,
            LogEvent::BlockReturned => Self::BlockReturned,
        }
    }

    /// RFC 8158 4.3: natEvent.
    const fn number(self) -> u8 {
        match self {
            Self::AddressesExhausted => 3,
            Self::SessionCreated => 6,
            Self::SessionEnded => 7,
            Self::MappingCreated => 10,
            Self::MappingEnded => 11,
            Self::TooManySessions | Self::TooManyMappings => 13,
            Self::BlockGiven => 16,
            Self::BlockReturned => 17,
        }
    }

    /// RFC 8158 4.4: natQuotaExceededEvent; 0 for what is none.
    const fn quota(self) -> u32 {
        match self {
            Self::TooManySessions => 1,
            Self::TooManyMappings => 2,
            _ => 0,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::SessionCreated => "session-created",
            Self::SessionEnded => "session-ended",
            Self::MappingCreated => "mapping-created",
            Self::MappingEnded => "mapping-ended",
            Self::BlockGiven => "block-given",
            Self::BlockReturned => "block-returned",
            Self::AddressesExhausted => "addresses-exhausted",
            Self::TooManySessions => "too-many-sessions",
            Self::TooManyMappings => "too-many-mappings",
        }
    }
}

/// Where a session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remote {
    /// As the IPv6 host sees it; `::` if its prefix is gone for longer than a reload.
    six: Ipv6Addr,
    four: Ipv4Addr,
    port: u16,
}

/// One event, ready to be sent anywhere. What an event does not have is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NatEvent {
    kind: Kind,
    /// Milliseconds since 1970.
    at_ms: u64,
    protocol: u8,
    src6: Ipv6Addr,
    src_port: u16,
    out4: Ipv4Addr,
    out_port: u16,
    last_port: u16,
    remote: Option<Remote>,
    /// The limit that was reached.
    limit: u32,
}

impl NatEvent {
    const fn exhausted(kind: Kind, at_ms: u64, limit: u32) -> Self {
        Self {
            kind,
            at_ms,
            protocol: 0,
            src6: Ipv6Addr::UNSPECIFIED,
            src_port: 0,
            out4: Ipv4Addr::UNSPECIFIED,
            out_port: 0,
            last_port: 0,
            remote: None,
            limit,
        }
    }

    /// Into the gateway's own log.
    fn trace(&self) {
        let (event, nat_event, at_ms) = (self.kind.name(), self.kind.number(), self.at_ms);
        match self.kind {
            Kind::AddressesExhausted => {
                info!(target: "causeway::nat64", event, nat_event, at_ms, "NAT64 event");
            }
            Kind::TooManySessions | Kind::TooManyMappings => {
                info!(target: "causeway::nat64", event, nat_event, at_ms, limit = self.limit, "NAT64 event");
            }
            Kind::BlockGiven | Kind::BlockReturned => {
                info!(target: "causeway::nat64", event, nat_event, at_ms, src6 = %self.src6, out4 = %self.out4,
                    first_port = self.out_port, last_port = self.last_port, "NAT64 event");
            }
            _ => {
                let dst6 = self.remote.map(|r| tracing::field::display(r.six));
                let dst4 = self.remote.map(|r| tracing::field::display(r.four));
                let dst_port = self.remote.map(|r| r.port);
                info!(target: "causeway::nat64", event, nat_event, at_ms, protocol = protocol(self.protocol),
                    src6 = %self.src6, src_port = self.src_port, out4 = %self.out4, out_port = self.out_port,
                    dst6, dst4, dst_port, "NAT64 event");
            }
        }
    }
}

const fn protocol(number: u8) -> &'static str {
    match number {
        PROTO_TCP => "tcp",
        PROTO_UDP => "udp",
        PROTO_ICMP => "icmp",
        _ => "other",
    }
}

/// Causes of log lines that strangers can bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Cause {
    Lost,
    Collector(SocketAddr),
}

/// What was seen of the running gateway, kept so that what its workers wrote last is not lost when they
/// end.
#[derive(Debug, Default)]
struct Source {
    logs: Vec<Arc<Log>>,
    /// Records lost so far, as counted before.
    lost: u64,
    /// Wall time at the origin of the workers' clock, in microseconds since 1970.
    origin_us: i128,
    /// NAT64's settings that `prefixes` were taken from.
    nat64: Option<Arc<causeway_nat64::Config>>,
    /// Prefixes by number. A number is not used again at the reload that frees it, so records of sessions
    /// that ended then still find theirs.
    prefixes: Vec<Option<Prefix>>,
}

impl Source {
    fn look(&mut self, gateway: &dyn Introspect, wall_us: i128) {
        let logs = gateway.nat_logs();
        let same =
            logs.len() == self.logs.len() && logs.iter().zip(&self.logs).all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            *self = Self { logs, ..Self::default() };
        }
        // Read every time: wall time may be set, and then records follow it.
        self.origin_us = wall_us - i128::from(gateway.now().as_micros());
        let nat64 = gateway.nat64();
        let known = |b: &Arc<_>| self.nat64.as_ref().is_some_and(|a| Arc::ptr_eq(a, b));
        if let Some(config) = nat64.filter(|config| !known(config)) {
            self.prefixes.resize(usize::from(u8::MAX) + 1, None);
            for (number, known) in (0..=u8::MAX).zip(&mut self.prefixes) {
                *known = config.prefixes().get(number).copied().or(*known);
            }
            self.nat64 = Some(config);
        }
    }

    fn event(&self, r: &LogRecord) -> NatEvent {
        let at_us = self.origin_us + i128::from(r.at.as_micros());
        let four = Ipv4Addr::from_bits(r.remote4);
        let remote = (r.remote4 != 0).then(|| Remote {
            six: (self.prefixes.get(usize::from(r.prefix)).copied().flatten())
                .map_or(Ipv6Addr::UNSPECIFIED, |p| p.embed(four)),
            four,
            port: r.remote_port,
        });
        NatEvent {
            kind: Kind::of(r.event),
            at_ms: u64::try_from(at_us / 1000).unwrap_or(0),
            protocol: r.protocol,
            src6: Ipv6Addr::from_bits(r.src6),
            src_port: r.src_port,
            out4: Ipv4Addr::from_bits(r.out4),
            out_port: r.out_port,
            last_port: r.last_port,
            remote,
            limit: 0,
        }
    }
}

/// What ran out, seen from the workers' counters.
#[derive(Debug, Default)]
struct Exhaustion {
    /// Packets dropped so far for want of a port, and of room in the flow table. Nothing before the first
    /// look.
    seen: Option<[u64; 2]>,
    told: [Option<std::time::Instant>; 2],
}

impl Exhaustion {
    /// What has run out since the last look and was not told a moment ago: 0 the pool, 1 the flow table.
    fn look(&mut self, counters: &[Arc<Counters>], now: std::time::Instant) -> [bool; 2] {
        let sum = |reason| counters.iter().fold(0u64, |sum, c| sum.wrapping_add(c.dropped(reason)));
        let dropped = [sum(DropReason::Nat64PoolFull), sum(DropReason::Nat64TableFull)];
        let before = self.seen.replace(dropped).unwrap_or(dropped);
        std::array::from_fn(|n| {
            let due = self.told[n].is_none_or(|at| now.duration_since(at) >= EXHAUSTION_EVERY);
            let tell = dropped[n] != before[n] && due;
            if tell {
                self.told[n] = Some(now);
            }
            tell
        })
    }
}

/// Which of the flow table's two parts is the fuller one.
fn fuller(config: &Config, counters: &[Arc<Counters>]) -> (Kind, u32) {
    let now = |created, ended| {
        let sum = |counter| counters.iter().fold(0u64, |sum, c| sum.wrapping_add(c.get(counter)));
        u128::from(sum(created).saturating_sub(sum(ended)))
    };
    let sessions = now(Counter::Nat64SessionsCreated, Counter::Nat64SessionsEnded);
    let mappings = now(Counter::Nat64MappingsCreated, Counter::Nat64MappingsEnded);
    let most = &config.resolved;
    if mappings * u128::from(most.sessions) > sessions * u128::from(most.mappings) {
        (Kind::TooManyMappings, most.mappings)
    } else {
        (Kind::TooManySessions, most.sessions)
    }
}

/// Fetches records and sends them on.
struct NatLogger {
    config: Arc<Config>,
    /// The section of `config` that counts.
    log: NatLog,
    exporter: Exporter,
    source: Source,
    exhaustion: Exhaustion,
    limits: RateLimited<Cause>,
    started: std::time::Instant,
}

/// What a turn left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    More,
}

impl NatLogger {
    fn new(config: Arc<Config>) -> Self {
        let log = section(&config);
        Self {
            exporter: Exporter::new(&log),
            log,
            config,
            source: Source::default(),
            exhaustion: Exhaustion::default(),
            // Five lines of a cause at once, and then one a second.
            limits: RateLimited::new(1, 5, 16),
            started: std::time::Instant::now(),
        }
    }

    /// One turn: takes what workers wrote, within bounds, and sends what is due. `counters` are control's
    /// own.
    fn turn(
        &mut self,
        config: &Arc<Config>,
        gateway: Option<&dyn Introspect>,
        counters: &Counters,
        now: std::time::Instant,
        wall: Duration,
    ) -> Left {
        let mut troubles = Vec::new();
        let mut trouble = |t: Trouble| troubles.push(t);
        if !Arc::ptr_eq(config, &self.config) {
            let log = section(config);
            if log != self.log {
                self.exporter.flush(now, &mut trouble);
                self.exporter.reconfigure(&log);
                // What ran out while nobody wanted to know is not told later.
                self.exhaustion = Exhaustion::default();
                self.log = log;
            }
            self.config = Arc::clone(config);
        }
        if let Some(gateway) = gateway {
            self.source.look(gateway, i128::try_from(wall.as_micros()).unwrap_or(i128::MAX));
        }
        let wall_s = u32::try_from(wall.as_secs() & 0xffff_ffff).unwrap_or(0);
        // First, so that sockets are open and templates sent before the first record.
        let early = self.exporter.tick(now, wall_s, &mut trouble);
        let mut records = 0;
        let mut left = Left::Nothing;
        for worker in &self.source.logs {
            for _ in 0..AT_ONCE {
                let Some(record) = worker.take() else { break };
                records += 1;
                let event = self.source.event(&record);
                self.exporter.add(&event, now, &mut trouble);
                if self.log.trace {
                    event.trace();
                }
            }
            if worker.waiting() > 0 {
                left = Left::More;
            }
        }
        if let (Some(gateway), true) = (gateway, self.log.exhaustion && self.log.goes_somewhere()) {
            let of_workers = gateway.counters();
            let [pool, table] = self.exhaustion.look(&of_workers, now);
            let at_ms = u64::try_from(wall.as_millis()).unwrap_or(0);
            let pool = pool.then_some((Kind::AddressesExhausted, 0));
            let table = table.then(|| fuller(&self.config, &of_workers));
            for (kind, limit) in pool.into_iter().chain(table) {
                let event = NatEvent::exhausted(kind, at_ms, limit);
                self.exporter.add(&event, now, &mut trouble);
                if self.log.trace {
                    event.trace();
                }
            }
        }
        if gateway.is_none() {
            // Nobody writes any more: what there is goes now.
            self.exporter.flush(now, &mut trouble);
        }
        let late = self.exporter.tick(now, wall_s, &mut trouble);
        let lost_before =
            std::mem::replace(&mut self.source.lost, self.source.logs.iter().map(|l| l.lost()).sum());
        let lost = self.source.lost.saturating_sub(lost_before);
        counters.add(Counter::Nat64LogRecords, records);
        counters.add(Counter::Nat64LogLost, lost);
        counters.add(Counter::IpfixRecordsSent, early.records + late.records);
        counters.add(Counter::IpfixRecordsLost, early.lost + late.lost);
        self.complain(lost, troubles, now);
        left
    }

    fn complain(&mut self, lost: u64, troubles: Vec<Trouble>, now: std::time::Instant) {
        let since = now.duration_since(self.started);
        let now = Instant::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
        if lost > 0
            && let Some(kept_back) = self.limits.allow(Cause::Lost, now)
        {
            warn!(lost, kept_back, "the mapping log lost records: a worker's ring to control was full");
        }
        for Trouble { collector, error } in troubles {
            if let Some(kept_back) = self.limits.allow(Cause::Collector(collector), now) {
                warn!(%collector, %error, kept_back, "cannot send IPFIX to a collector");
            }
        }
    }
}

/// What a configuration says of the mapping log; without NAT64 there is none.
fn section(config: &Config) -> NatLog {
    config.nat64.as_ref().map_or_else(NatLog::default, |n| n.log.clone())
}

/// Keeps the mapping log until control stops, and then sends what is left.
pub(super) async fn run(state: Arc<State>, every: Duration, mut stopped: watch::Receiver<bool>) {
    let mut logger = NatLogger::new(state.config());
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        let stop = tokio::select! {
            _ = tick.tick() => false,
            _ = stopped.wait_for(|stop| *stop) => true,
        };
        loop {
            let gateway = state.gateway();
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now = std::time::Instant::now();
            let left = logger.turn(&state.config(), gateway.as_deref(), &state.counters, now, wall);
            if left == Left::Nothing {
                break;
            }
            drop(gateway);
            tokio::task::yield_now().await;
        }
        if stop {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
