//! Rows of the resolver's part of the API. Fields are added, never renamed.

use super::type_name;
use causeway_core::net::Prefix6;
use causeway_dns64::explain::{Explained, Step};
use causeway_dns64::question::display_name;
use causeway_dns64::status::UpstreamsStatus;
use causeway_dns64::{Question, Variant};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How the resolver is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsReport {
    /// Addresses that it answers at.
    pub listen: Vec<Ipv6Addr>,
    /// The resolvers that it asks.
    pub upstreams: Vec<UpstreamRow>,
    /// Its cache.
    pub cache: Option<CacheRow>,
    /// What it counts, with the rate over about the last second.
    pub rates: Vec<RateRow>,
    /// What clients see; the first is that of those that no view names.
    pub views: Vec<ViewRow>,
}

/// An upstream resolver, over all workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamRow {
    /// Its address and port.
    pub address: SocketAddr,
    /// Questions sent to it.
    pub asked: u64,
    /// Answers that were taken.
    pub answered: u64,
    /// Questions that it did not answer in time.
    pub timeouts: u64,
    /// Smoothed time of an answer in microseconds, at the worker where it is longest; nothing before the first.
    pub srtt_us: Option<u32>,
    /// How many workers do not ask it because it does not answer.
    pub down_at: u16,
    /// It was seen to change the case of names.
    pub loses_case: bool,
}

impl UpstreamRow {
    /// A row for each upstream, out of what the workers wrote.
    pub(crate) fn all(upstreams: &[SocketAddr], workers: &[Arc<UpstreamsStatus>]) -> Vec<Self> {
        upstreams.iter().map(|address| Self::of(*address, workers)).collect()
    }

    fn of(address: SocketAddr, workers: &[Arc<UpstreamsStatus>]) -> Self {
        let mut row = Self {
            address,
            asked: 0,
            answered: 0,
            timeouts: 0,
            srtt_us: None,
            down_at: 0,
            loses_case: false,
        };
        let mine = workers.iter().flat_map(|w| &w.list).filter(|(a, _)| *a == address);
        for (_, status) in mine {
            row.asked = row.asked.wrapping_add(status.asked.load(Ordering::Relaxed));
            row.answered = row.answered.wrapping_add(status.answered.load(Ordering::Relaxed));
            row.timeouts = row.timeouts.wrapping_add(status.timeouts.load(Ordering::Relaxed));
            row.srtt_us = row.srtt_us.max(Some(status.srtt_us.load(Ordering::Relaxed)).filter(|us| *us > 0));
            row.down_at = row.down_at.saturating_add(u16::from(status.down.load(Ordering::Relaxed)));
            row.loses_case |= status.loses_case.load(Ordering::Relaxed);
        }
        row
    }
}

/// The cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRow {
    /// Memory that it has, in octets.
    pub octets: u64,
    /// Memory in use, in octets.
    pub octets_used: u64,
    /// Answers in it.
    pub entries: u64,
    /// Answers that had to make room for others.
    pub evictions: u64,
    /// Answers that were not kept: too large, no room, or others were writing.
    #[serde(default)]
    pub refused: u64,
}

/// A counter and its rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateRow {
    /// Its name, as among all counters.
    pub name: String,
    /// Its value over all workers.
    pub total: u64,
    /// How much it grew a second.
    pub per_second: u64,
}

/// What a group of clients sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewRow {
    /// Its name.
    pub name: String,
    /// What AAAA records are made with; nothing without DNS64.
    pub prefix: Option<Prefix6>,
    /// Prefixes of its clients.
    pub clients: usize,
    /// It has rules of synthesis of its own, so that its AAAA answers are not cached.
    pub own_rules: bool,
}

impl ViewRow {
    /// A row for each view.
    #[must_use]
    pub(crate) fn all(config: &causeway_dns64::Config) -> Vec<Self> {
        let row = |(n, view): (u16, &causeway_dns64::config::View)| Self {
            name: view.name.to_string(),
            prefix: view.prefix,
            clients: config.clients.iter().filter(|(_, of)| *of == n).count(),
            own_rules: view.synthesis.is_some(),
        };
        (0u16..).zip(&config.views).map(row).collect()
    }
}

/// What came of a lookup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedRow {
    /// What was asked: name and type.
    pub question: String,
    /// For clients of which view.
    pub view: String,
    /// What was done, in order.
    pub steps: Vec<StepRow>,
    /// The answer as a client would get it; nothing if it would get none.
    pub answer: Option<AnswerRow>,
}

/// One step of a lookup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "step")]
pub enum StepRow {
    /// The name is answered here.
    Local {
        /// Why.
        why: String,
    },
    /// An answer was in the cache.
    Cached {
        /// To what.
        question: String,
        /// `native`, `synthesised` or `always`.
        variant: String,
        /// Seconds that it is still good for.
        ttl: u32,
    },
    /// Upstream was asked.
    Asked {
        /// What.
        question: String,
        /// Whom; nothing if nobody answered.
        upstream: Option<SocketAddr>,
        /// Milliseconds until the end.
        took_ms: u32,
        /// The response code, or why there is none.
        outcome: String,
    },
    /// What was made of it.
    Decided {
        /// What, with the clause.
        what: String,
    },
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRow {
    /// Octets of the message.
    pub octets: usize,
    /// The response code, as in `NOERROR`.
    pub rcode: String,
    /// Flags that are set, as in `qr`, `rd`, `ra`, `ad`.
    pub flags: Vec<String>,
    /// The answer section.
    pub answer: Vec<RecordRow>,
    /// The authority section.
    pub authority: Vec<RecordRow>,
    /// The additional section, without OPT.
    pub additional: Vec<RecordRow>,
    /// Why it cannot be shown, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unreadable: Option<String>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRow {
    /// The owner's name.
    pub name: String,
    /// TTL in seconds.
    pub ttl: u32,
    /// The type.
    pub r#type: String,
    /// The data as text.
    pub data: String,
}

/// A response code for people.
pub(super) fn rcode_name(code: u16) -> String {
    match ResponseCode::from(0, u8::try_from(code & 15).unwrap_or(0)) {
        _ if code > 15 => format!("RCODE{code}"),
        ResponseCode::Unknown(code) => format!("RCODE{code}"),
        known => format!("{known:?}").to_ascii_uppercase(),
    }
}

/// Text of strangers for a terminal: no control characters.
fn visible(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if c.is_control() {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

fn question_text(q: &Question) -> String {
    format!("{} {}", display_name(&q.name), type_name(q.qtype))
}

impl From<&Step> for StepRow {
    fn from(step: &Step) -> Self {
        match step {
            Step::Local(why) => Self::Local { why: (*why).to_owned() },
            Step::Cached { question, variant, ttl } => Self::Cached {
                question: question_text(question),
                variant: match variant {
                    Variant::Native => "native",
                    Variant::Synthesised => "synthesised",
                    Variant::Always => "always",
                }
                .to_owned(),
                ttl: *ttl,
            },
            Step::Asked { question, upstream, took_ms, outcome } => Self::Asked {
                question: question_text(question),
                upstream: *upstream,
                took_ms: *took_ms,
                outcome: visible(outcome),
            },
            Step::Decided(what) => Self::Decided { what: (*what).to_owned() },
        }
    }
}

impl From<&Record> for RecordRow {
    fn from(record: &Record) -> Self {
        let data = match &record.data {
            // RFC 3597 5.
            RData::Unknown { rdata, .. } => {
                let octets = &rdata.anything;
                let hex: String = octets.iter().map(|o| format!("{o:02x}")).collect();
                format!("\\# {} {hex}", octets.len())
            }
            known => visible(&known.to_string()),
        };
        Self {
            name: visible(&record.name.to_string()),
            ttl: record.ttl,
            r#type: type_name(record.record_type().into()),
            data: data.trim_end().to_owned(),
        }
    }
}

impl AnswerRow {
    fn new(octets: &[u8]) -> Self {
        let message = match Message::from_vec(octets) {
            Ok(message) => message,
            Err(e) => {
                return Self {
                    octets: octets.len(),
                    unreadable: Some(visible(&e.to_string())),
                    ..Self::default()
                };
            }
        };
        let m = &message.metadata;
        let flags = [
            ("qr", m.message_type == hickory_proto::op::MessageType::Response),
            ("aa", m.authoritative),
            ("tc", m.truncation),
            ("rd", m.recursion_desired),
            ("ra", m.recursion_available),
            ("ad", m.authentic_data),
            ("cd", m.checking_disabled),
        ];
        let rows = |records: &[Record]| records.iter().map(RecordRow::from).collect();
        Self {
            octets: octets.len(),
            rcode: rcode_name(m.response_code.into()),
            flags: flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned()).collect(),
            answer: rows(&message.answers),
            authority: rows(&message.authorities),
            additional: rows(&message.additionals),
            unreadable: None,
        }
    }
}

impl ExplainedRow {
    /// Of a question for the clients of the view of this name.
    pub(super) fn new(question: &Question, view: &str, explained: &Explained) -> Self {
        Self {
            question: question_text(question),
            view: view.to_owned(),
            steps: explained.steps.iter().map(StepRow::from).collect(),
            answer: explained.answer.as_deref().map(AnswerRow::new),
        }
    }
}
