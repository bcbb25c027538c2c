//! The way to IPFIX collectors: UDP sockets of the control plane, sequence numbers, templates (RFC 7011 8.4,
//! 10.3).
//!
//! Every collector gets every message (RFC 7011 10.3.5). Its socket is its transport session: when that has
//! to be opened again, the collector sees another source port, sequence numbers begin at zero, and
//! templates are sent first.
//!
//! What a socket does not take is lost and counted. It counts in the sequence number, so that the
//! collector knows that something is missing (RFC 7011 10.3.2).

use super::NatEvent;
use super::ipfix::Message;
use crate::config::NatLog;
use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How long a record waits for others to share its message, at most.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// How long until a socket that could not be had is tried again, and until a collector that was not
/// there gets templates again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Octets in front of a message in its packet: IPv6 and UDP. Over IPv4 they are 20 fewer.
const IN_FRONT: u16 = 48;

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Records, once for each collector.
    pub(super) records: u64,
    /// Records that were not sent, once for each collector.
    pub(super) lost: u64,
}

/// Something is wrong with a collector.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) collector: SocketAddr,
    pub(super) error: Error,
}

#[derive(Debug)]
struct Collector {
    to: SocketAddr,
    socket: Option<UdpSocket>,
    /// When the socket was last asked for.
    tried: Option<Instant>,
    /// Data records of this transport session so far, modulo 2^32.
    sequence: u32,
    /// When templates were last sent.
    templates: Option<Instant>,
    /// Messages since then.
    messages: u32,
    /// Nobody was there to take the last message.
    refused: bool,
}

impl Collector {
    const fn new(to: SocketAddr) -> Self {
        Self { to, socket: None, tried: None, sequence: 0, templates: None, messages: 0, refused: false }
    }

    /// Opens the socket if there is none, at most once in a while.
    fn open(&mut self, now: Instant, trouble: &mut impl FnMut(Trouble)) {
        if self.socket.is_some() || self.tried.is_some_and(|at| now.duration_since(at) < AGAIN_AFTER) {
            return;
        }
        self.tried = Some(now);
        match socket(self.to) {
            Ok(socket) => {
                (self.sequence, self.messages, self.templates, self.refused) = (0, 0, None, false);
                self.socket = Some(socket);
            }
            Err(error) => trouble(Trouble { collector: self.to, error }),
        }
    }

    /// Sends a finished message. False if it is lost.
    fn send(&mut self, octets: &[u8], trouble: &mut impl FnMut(Trouble)) -> bool {
        let Some(socket) = &self.socket else { return false };
        let mut outcome = socket.send(octets);
        // The answer to an earlier message: that one met nobody, this one has not been sent yet.
        if matches!(&outcome, Err(e) if e.kind() == ErrorKind::ConnectionRefused) {
            self.refused = true;
            outcome = socket.send(octets);
        }
        match outcome {
            Ok(_) => true,
            Err(error) => {
                // Full or too large is no fault of the socket; anything else may be (an address that is
                // no longer ours, say).
                let keep = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused);
                if !keep && error.raw_os_error() != Some(EMSGSIZE) {
                    self.socket = None;
                }
                trouble(Trouble { collector: self.to, error });
                false
            }
        }
    }
}

/// errno(3): the message is larger than the path takes.
const EMSGSIZE: i32 = 90;

fn socket(to: SocketAddr) -> Result<UdpSocket, Error> {
    let any: SocketAddr =
        if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    Ok(socket)
}

/// Collects records into messages and sends them. Time is a parameter.
#[derive(Debug)]
pub(super) struct Exporter {
    collectors: Vec<Collector>,
    message: Message,
    templates: Message,
    /// When the first record of the message came.
    began: Option<Instant>,
    domain: u32,
    template_interval: Duration,
    template_messages: u32,
    packet_octets: u16,
    /// Seconds since 1970, as of the last call.
    wall_s: u32,
    sent: Sent,
}

impl Exporter {
    /// An exporter as the configuration wants it.
    pub(super) fn new(log: &NatLog) -> Self {
        let mut exporter = Self {
            collectors: Vec::new(),
            message: Message::new(0),
            templates: Message::new(0),
            began: None,
            domain: 0,
            template_interval: Duration::ZERO,
            template_messages: 0,
            packet_octets: 0,
            wall_s: 0,
            sent: Sent::default(),
        };
        exporter.set(log);
        exporter
    }

    /// Takes over another configuration. A collector that stays keeps its transport session, unless the
    /// observation domain changed. What was collected has to be flushed before.
    pub(super) fn reconfigure(&mut self, log: &NatLog) {
        if self.domain != log.observation_domain.number() {
            self.collectors.clear();
        }
        self.set(log);
    }

    fn set(&mut self, log: &NatLog) {
        let mut before = std::mem::take(&mut self.collectors);
        self.collectors = (log.collectors.iter().map(|c| c.address()))
            .map(|to| match before.iter().position(|c| c.to == to) {
                Some(n) => before.swap_remove(n),
                None => Collector::new(to),
            })
            .collect();
        self.domain = log.observation_domain.number();
        self.template_interval = log.template_interval.duration();
        self.template_messages = log.template_messages.get();
        if self.packet_octets != log.packet_octets.octets() {
            self.packet_octets = log.packet_octets.octets();
            let most = usize::from(self.packet_octets - IN_FRONT);
            (self.message, self.templates) = (Message::new(most), Message::new(most));
        }
    }

    /// True if there are collectors.
    pub(super) fn is_on(&self) -> bool {
        !self.collectors.is_empty()
    }

    /// Adds a record; a full message is sent.
    pub(super) fn add(&mut self, event: &NatEvent, now: Instant, trouble: &mut impl FnMut(Trouble)) {
        if !self.is_on() {
            return;
        }
        if !self.message.add(event) {
            self.flush(now, trouble);
            // It fits now: the least packet has room for the largest record.
            let _ = self.message.add(event);
        }
        self.began.get_or_insert(now);
    }

    /// Sockets, templates and records whose time has come. `wall_s` is in seconds since 1970. Gives what was
    /// sent since the last call.
    pub(super) fn tick(&mut self, now: Instant, wall_s: u32, trouble: &mut impl FnMut(Trouble)) -> Sent {
        self.wall_s = wall_s;
        self.send_templates(now, trouble);
        if self.began.is_some_and(|at| now.duration_since(at) >= FLUSH_AFTER) {
            self.flush(now, trouble);
        }
        std::mem::take(&mut self.sent)
    }

    /// Sends what there is.
    pub(super) fn flush(&mut self, now: Instant, trouble: &mut impl FnMut(Trouble)) {
        self.began = None;
        if self.message.is_empty() {
            return;
        }
        self.send_templates(now, trouble);
        let records = self.message.records();
        for collector in &mut self.collectors {
            let octets = self.message.finish(collector.sequence, self.wall_s, self.domain);
            if collector.send(octets, trouble) {
                self.sent.records += u64::from(records);
            } else {
                self.sent.lost += u64::from(records);
            }
            collector.sequence = collector.sequence.wrapping_add(records);
            collector.messages = collector.messages.saturating_add(1);
        }
        self.message.clear();
    }

    /// Sends templates to whom they are due.
    fn send_templates(&mut self, now: Instant, trouble: &mut impl FnMut(Trouble)) {
        for collector in &mut self.collectors {
            collector.open(now, trouble);
            if collector.socket.is_none() {
                continue;
            }
            // RFC 7011 8.4: more than once, and in a message of their own, before the first record.
            let copies = match collector.templates {
                None => 2,
                Some(at) => {
                    let since = now.duration_since(at);
                    let due = since >= self.template_interval
                        || collector.messages >= self.template_messages
                        // Whoever was not there has not heard the last ones.
                        || (collector.refused && since >= AGAIN_AFTER);
                    usize::from(due)
                }
            };
            for _ in 0..copies {
                self.templates.clear();
                self.templates.add_templates();
                let octets = self.templates.finish(collector.sequence, self.wall_s, self.domain);
                (collector.templates, collector.messages, collector.refused) = (Some(now), 0, false);
                if !collector.send(octets, trouble) {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
