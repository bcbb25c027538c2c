//! The mapping log: fixed-size records that workers write and control reads (RFC 6888 4, REQ-12; RFC 8158).
//!
//! ```text
//!  session, mapping, block begins or ends -> Log (one a worker) -> control -> `tracing`, IPFIX
//! ```
//! A worker never waits for control: a record that finds no room is lost and counted. Nothing is written
//! for packets of a session that is there already.

use crate::config::{Config, LogOptions};
use causeway_core::Instant;
use causeway_flowtable::{Mapping, Session};
use crossbeam::queue::ArrayQueue;
use std::sync::atomic::{AtomicU64, Ordering};

/// What happened. Control gives each the natEvent number of RFC 8158.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogEvent {
    /// A session began.
    SessionCreated,
    /// A session ended.
    SessionEnded,
    /// A mapping began.
    MappingCreated,
    /// A mapping ended.
    MappingEnded,
    /// A subscriber got a block of ports: `out_port` to `last_port` of `out4`, for all protocols.
    BlockGiven,
    /// A subscriber returned a block of ports.
    BlockReturned,
}

/// One record. What an event does not have is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRecord {
    /// When, by the worker's clock.
    pub at: Instant,
    /// What.
    pub event: LogEvent,
    /// UDP, TCP or ICMP, by protocol number; 0 for blocks.
    pub protocol: u8,
    /// The IPv6 host; for blocks, the subscriber's prefix.
    pub src6: u128,
    /// The host's port or identifier.
    pub src_port: u16,
    /// The pool address.
    pub out4: u32,
    /// The port or identifier on the pool address; the first one of a block.
    pub out_port: u16,
    /// The last port of a block.
    pub last_port: u16,
    /// The remote end; 0 unless destinations are logged.
    pub remote4: u32,
    /// Its port.
    pub remote_port: u16,
    /// The NAT64 prefix of a session, by number; 0 unless destinations are logged.
    pub prefix: u8,
}

impl LogRecord {
    /// An event of a session. Says where the session goes; [`Log::write`] leaves that out unless it is
    /// asked for.
    #[must_use]
    pub fn of_session(at: Instant, event: LogEvent, session: &Session<'_>) -> Self {
        Self {
            at,
            event,
            protocol: session.protocol(),
            src6: session.src6(),
            src_port: session.src_port(),
            out4: session.out4(),
            out_port: session.out_port(),
            last_port: 0,
            remote4: session.remote4(),
            remote_port: session.remote_port(),
            prefix: session.prefix(),
        }
    }

    /// An event of a mapping.
    #[must_use]
    pub fn of_mapping(at: Instant, event: LogEvent, mapping: &Mapping<'_>) -> Self {
        Self {
            at,
            event,
            protocol: mapping.protocol(),
            src6: mapping.src6(),
            src_port: mapping.src_port(),
            out4: mapping.out4(),
            out_port: mapping.out_port(),
            last_port: 0,
            remote4: 0,
            remote_port: 0,
            prefix: 0,
        }
    }
}

/// Logs that a session began or ended, if that is wanted.
#[inline]
pub(crate) fn session(log: Option<&Log>, config: &Config, at: Instant, event: LogEvent, s: &Session<'_>) {
    if config.options().log.sessions {
        write(log, config, LogRecord::of_session(at, event, s));
    }
}

/// Logs that a mapping began or ended, if that is wanted.
#[inline]
pub(crate) fn mapping(log: Option<&Log>, config: &Config, at: Instant, event: LogEvent, m: &Mapping<'_>) {
    if config.options().log.mappings {
        write(log, config, LogRecord::of_mapping(at, event, m));
    }
}

#[cold]
#[inline(never)]
fn write(log: Option<&Log>, config: &Config, record: LogRecord) {
    if let Some(log) = log {
        log.write(&config.options().log, record);
    }
}

/// Records of one worker on their way to control. Written by that worker alone, read by control alone.
#[derive(Debug)]
pub struct Log {
    records: ArrayQueue<LogRecord>,
    lost: AtomicU64,
}

impl Log {
    /// Room for `records` records, at least one.
    #[must_use]
    pub fn new(records: usize) -> Self {
        Self { records: ArrayQueue::new(records.max(1)), lost: AtomicU64::new(0) }
    }

    /// Adds one, if `options` want its event; what they do not want of it is left out.
    #[inline]
    pub fn write(&self, options: &LogOptions, mut record: LogRecord) {
        let wanted = match record.event {
            LogEvent::SessionCreated | LogEvent::SessionEnded => options.sessions,
            LogEvent::MappingCreated | LogEvent::MappingEnded => options.mappings,
            LogEvent::BlockGiven | LogEvent::BlockReturned => options.blocks,
        };
        if !wanted {
            return;
        }
        // RFC 6888 4, REQ-12: nobody learns where a host went unless the operator asked for it.
        if !options.destinations {
            (record.remote4, record.remote_port, record.prefix) = (0, 0, 0);
        }
        if self.records.push(record).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that wait for control.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.records.len()
    }

    /// Takes the oldest record. For control.
    pub fn take(&self) -> Option<LogRecord> {
        self.records.pop()
    }

    /// Records that found no room so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
