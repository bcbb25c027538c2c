//! The mapping log: fixed-size records that workers write and control reads (RFC 6888 4, REQ-12; RFC 8158).
//!
//! A worker never waits for control: a record that finds no room is lost and counted.

use crate::config::LogOptions;
use causeway_core::Instant;
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
    /// The NAT64 prefix of a session, by number.
    pub prefix: u8,
}

/// Records of one worker on their way to control.
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
        if !options.destinations {
            (record.remote4, record.remote_port) = (0, 0);
        }
        if self.records.push(record).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
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
