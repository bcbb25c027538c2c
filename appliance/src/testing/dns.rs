//! A resolver that knows two names.

use crate::control::dns::{CacheRow, DnsReport, UpstreamRow, ViewRow};
use causeway_dns64::Config;
use causeway_dns64::explain::{Explained, Lookup, Step};
use causeway_dns64::status::{Sample, UpstreamStatus, UpstreamsStatus};
use causeway_dns64::{Question, Variant};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A name that it never answers about.
pub(crate) const SILENT: &[u8] = b"\x06silent\x07example\x00";

/// What control sees of a resolver.
#[derive(Debug, Default)]
pub(crate) struct FakeResolver {
    /// Its settings; nothing without a resolver.
    pub(crate) config: Mutex<Option<Arc<Config>>>,
    /// It takes no lookups.
    pub(crate) busy: AtomicBool,
    /// What it was asked.
    pub(crate) lookups: Mutex<Vec<Lookup>>,
    pub(crate) explained: Mutex<VecDeque<Box<Explained>>>,
    pub(crate) samples: Mutex<VecDeque<Sample>>,
    /// What it was told to forget; nothing for everything.
    pub(crate) flushed: Mutex<Vec<Option<Vec<u8>>>>,
}

impl FakeResolver {
    /// Two workers of two upstreams, the second of which does not answer.
    pub(crate) fn report(&self, config: &Config) -> DnsReport {
        let status = |asked, answered, srtt_us, down| UpstreamStatus {
            asked: AtomicU64::new(asked),
            answered: AtomicU64::new(answered),
            timeouts: AtomicU64::new(asked - answered),
            srtt_us: AtomicU32::new(srtt_us),
            down: AtomicBool::new(down),
            loses_case: AtomicBool::new(down),
        };
        let address = |n: usize| config.upstreams.get(n).copied();
        let worker = |first: UpstreamStatus, second: UpstreamStatus| {
            let list: Vec<(SocketAddr, UpstreamStatus)> =
                [address(0), address(1)].into_iter().flatten().zip([first, second]).collect();
            Arc::new(UpstreamsStatus { list })
        };
        let workers = [
            worker(status(100, 99, 1500, false), status(3, 0, 0, true)),
            worker(status(20, 20, 12_345, false), status(0, 0, 0, false)),
        ];
        DnsReport {
            listen: config.listen.clone(),
            upstreams: UpstreamRow::all(&config.upstreams, &workers),
            cache: Some(CacheRow {
                octets: 64 << 20,
                octets_used: 10_000,
                entries: 7,
                evictions: 2,
                refused: 1,
            }),
            rates: Vec::new(),
            views: ViewRow::all(config),
        }
    }

    /// Answers at once, but for [`SILENT`].
    pub(crate) fn lookup(&self, lookup: Box<Lookup>) -> bool {
        if self.busy.load(Ordering::Relaxed) {
            return false;
        }
        if lookup.question.name.as_slice() != SILENT {
            self.explained.lock().unwrap().push_back(Box::new(explained(&lookup)));
        }
        self.lookups.lock().unwrap().push(*lookup);
        true
    }
}

/// An AAAA record made of 198.51.100.10, or nothing for what is called `dropped.`
fn explained(lookup: &Lookup) -> Explained {
    let q = &lookup.question;
    let a = Question { qtype: 1, ..q.clone() };
    let steps = vec![
        Step::Cached { question: q.clone(), variant: Variant::Native, ttl: 59 },
        Step::Asked {
            question: a,
            upstream: Some("198.51.100.53:53".parse().unwrap()),
            took_ms: 2,
            outcome: "NOERROR\u{1b}[2J".to_owned(),
        },
        Step::Decided("made of A records (RFC 6147 5.1.7)"),
    ];
    if q.name.as_slice() == b"\x07dropped\x00" {
        return Explained { id: lookup.id, steps: vec![Step::Local("blocked")], answer: None };
    }
    let mut octets = vec![0, 0, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    octets.extend(&q.name);
    octets.extend([0, 28, 0, 1, 0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16]);
    octets.extend("2001:db8:64:ff9b::c633:640a".parse::<std::net::Ipv6Addr>().unwrap().octets());
    Explained { id: lookup.id, steps, answer: Some(octets) }
}
