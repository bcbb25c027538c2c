//! The part of the API that is about the resolver, and what control does for it.
//!
//! | method and path | answer |
//! | --- | --- |
//! | GET /v1/dns | upstreams, cache, rates and views; `dns` is null without a resolver |
//! | GET /v1/dns/lookup | looks a name up as for a client and says how; `name`, `type`, `view` or `client`, `dnssec`, `cd` |
//! | POST /v1/dns/flush | forgets cached answers: all, or those of `name` and of names under it |
//!
//! 404: no resolver is configured, or nobody answers that client. 503: too many lookups are under way. 504: no
//! worker answered in time.
//!
//! ```text
//!  lookup -> ring -> a worker: cache, upstream -> ring -> the request that waits for it
//!  samples of questions, from each worker's ring -> tracing, target causeway::dns
//! ```

mod name;
mod rows;
#[cfg(test)]
mod tests;

pub use name::{parse_name, parse_type, reverse_name, type_name};
pub use rows::{
    AnswerRow, CacheRow, DnsReport, ExplainedRow, RateRow, RecordRow, StepRow, UpstreamRow, ViewRow,
};

use super::introspect::Introspect;
use super::server::{answer, ask, refuse};
use super::state::State;
use crate::log::RateLimited;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use causeway_core::{Counter, Counters, DropReason, Instant};
use causeway_dns64::Question;
use causeway_dns64::config::Config;
use causeway_dns64::explain::{Explained, Lookup};
use causeway_dns64::question::{TYPE_AAAA, display_name};
use causeway_dns64::status::Sample;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::info;

/// How long a lookup may take. A client of the socket waits for half a minute.
const LOOKUP_WITHIN: Duration = Duration::from_secs(25);
/// Lookups that are waited for at once.
const LOOKUPS_MOST: usize = 16;
/// Samples taken from one worker in one go.
const AT_ONCE: usize = 256;
/// Samples that are logged a second, and at once; what is beyond is counted in the next line.
const SAMPLES: (u32, u32) = (1000, 1000);
/// Over what time rates are measured, at least.
const RATES_EVERY: Duration = Duration::from_secs(1);

/// Lookups that somebody waits for, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Box<Explained>>>>,
}

/// A lookup that is waited for. Dropping it ends the waiting.
#[derive(Debug)]
struct Awaited<'a> {
    lookups: &'a Lookups,
    id: u64,
    receiver: oneshot::Receiver<Box<Explained>>,
}

impl Lookups {
    /// Begins to wait; nothing if as many lookups are under way as may be.
    fn begin(&self) -> Option<Awaited<'_>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= LOOKUPS_MOST {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        waiting.insert(id, sender);
        Some(Awaited { lookups: self, id, receiver })
    }

    /// Hands a result to the one who waits for it, if somebody does.
    fn finish(&self, explained: Box<Explained>) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&explained.id);
        if let Some(sender) = waiting {
            let _ = sender.send(explained);
        }
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.lookups.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// How fast the counters of one function count.
#[derive(Debug)]
pub(super) struct Rates {
    /// What their names begin with.
    prefix: &'static str,
    measured: Mutex<Measured>,
}

#[derive(Debug, Default)]
struct Measured {
    last: Option<(Instant, Vec<u64>)>,
    rows: Vec<RateRow>,
}

/// Counters and drops whose names begin so, with their values over all workers.
fn of(prefix: &str, counters: &[Arc<Counters>]) -> Vec<(String, u64)> {
    let sum = |get: &dyn Fn(&Counters) -> u64| counters.iter().fold(0u64, |sum, c| sum.wrapping_add(get(c)));
    let counted = Counter::ALL
        .iter()
        .filter(|c| c.name().starts_with(prefix))
        .map(|c| (c.name().to_owned(), sum(&|all| all.get(*c))));
    let dropped = DropReason::ALL
        .iter()
        .filter(|r| r.name().starts_with(prefix))
        .map(|r| (format!("drop.{}", r.name()), sum(&|all| all.dropped(*r))));
    counted.chain(dropped).collect()
}

impl Rates {
    /// Of the counters and drops whose names begin so.
    pub(super) fn of(prefix: &'static str) -> Self {
        Self { prefix, measured: Mutex::default() }
    }

    /// Looks at the counters, if the last time was long enough ago.
    fn look(&self, counters: &[Arc<Counters>], now: Instant) {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let since = measured.last.as_ref().map(|(at, _)| now.since(*at));
        if since.is_some_and(|since| since < RATES_EVERY) {
            return;
        }
        let values = of(self.prefix, counters);
        let before = measured.last.take();
        let rate = |n: usize, total: u64| {
            let (Some((_, old)), Some(since)) = (&before, since) else { return 0 };
            let more = total.wrapping_sub(old.get(n).copied().unwrap_or(total));
            let us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX).max(1);
            u64::try_from(u128::from(more) * 1_000_000 / u128::from(us)).unwrap_or(u64::MAX)
        };
        measured.rows = values
            .iter()
            .enumerate()
            .map(|(n, (name, total))| RateRow {
                name: name.clone(),
                total: *total,
                per_second: rate(n, *total),
            })
            .collect();
        measured.last = Some((now, values.into_iter().map(|(_, total)| total).collect()));
    }

    pub(super) fn rows(&self) -> Vec<RateRow> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).rows.clone()
    }
}

/// Fetches what workers have for control, for as long as control runs.
pub(super) async fn run(state: Arc<State>, every: Duration) {
    let mut samples = Samples::new();
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        if let Some(gateway) = state.gateway() {
            while let Some(explained) = gateway.dns_explained() {
                state.lookups.finish(explained);
            }
            samples.drain(gateway.as_ref());
            let (counters, now) = (gateway.counters(), gateway.now());
            state.dns_rates.look(&counters, now);
            state.splicer_rates.look(&counters, now);
        }
    }
}

/// Logs samples of questions.
#[derive(Debug)]
struct Samples {
    limit: RateLimited<()>,
}

impl Samples {
    fn new() -> Self {
        Self { limit: RateLimited::new(SAMPLES.0, SAMPLES.1, 1) }
    }

    fn drain(&mut self, gateway: &dyn Introspect) {
        for worker in 0..gateway.workers() {
            for _ in 0..AT_ONCE {
                let Some(sample) = gateway.dns_sample(worker) else { break };
                if let Some(kept_back) = self.limit.allow((), gateway.now()) {
                    log(worker, &sample, kept_back);
                }
            }
        }
    }
}

fn log(worker: u16, s: &Sample, kept_back: u64) {
    info!(
        target: "causeway::dns",
        client = %s.client,
        name = display_name(&s.name),
        r#type = type_name(s.qtype),
        rcode = rows::rcode_name(u16::from(s.rcode)),
        cached = s.cached,
        synthesised = s.synthesised,
        took_us = s.took_us,
        worker,
        kept_back,
        "question"
    );
}

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/v1/dns", get(status))
        .route("/v1/dns/lookup", get(lookup))
        .route("/v1/dns/flush", post(flush))
}

fn no_resolver() -> Response {
    refuse(StatusCode::NOT_FOUND, "no [dns64] is configured")
}

async fn status(Shared(state): Shared<Arc<State>>) -> Response {
    let rates = state.dns_rates.rows();
    let report = ask(&state, move |g| {
        let report = g.dns().map(|report| DnsReport { rates, ..report });
        json!({ "dns": report })
    });
    answer(report.await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupParameters {
    name: String,
    r#type: Option<String>,
    view: Option<String>,
    client: Option<Ipv6Addr>,
    #[serde(default)]
    dnssec: bool,
    #[serde(default)]
    cd: bool,
}

/// What is asked, and for whom.
#[derive(Debug)]
struct Wanted {
    question: Question,
    view: Option<String>,
    client: Option<Ipv6Addr>,
}

impl LookupParameters {
    fn wanted(self) -> Result<Wanted, String> {
        if self.view.is_some() && self.client.is_some() {
            return Err("`view` and `client`: only one of them is allowed".to_owned());
        }
        let qtype = self.r#type.as_deref().map_or(Ok(TYPE_AAAA), parse_type)?;
        let question = Question {
            name: parse_name(&self.name)?,
            qtype,
            dnssec_ok: self.dnssec,
            checking_disabled: self.cd,
        };
        Ok(Wanted { question, view: self.view, client: self.client })
    }
}

/// The number of the view that is meant.
fn view_of(config: &Config, wanted: &Wanted) -> Result<u16, String> {
    if let Some(client) = wanted.client {
        let found = config.clients.iter().find(|(p, _)| p.contains(client));
        return found
            .map(|(_, view)| *view)
            .ok_or_else(|| format!("{client} is no configured client: it gets no answer"));
    }
    let Some(name) = &wanted.view else { return Ok(0) };
    (0u16..).zip(&config.views).find(|(_, view)| *view.name == **name).map(|(n, _)| n).ok_or_else(|| {
        let names: Vec<&str> = config.views.iter().map(|view| &*view.name).collect();
        format!("there is no view `{name}`; views: {}", names.join(", "))
    })
}

async fn lookup(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<LookupParameters>, QueryRejection>,
) -> Response {
    let wanted = match parameters.map_err(|e| e.body_text()).and_then(|Query(p)| p.wanted()) {
        Ok(wanted) => wanted,
        Err(e) => return refuse(StatusCode::BAD_REQUEST, e),
    };
    let config = match ask(&state, |g| g.dns64()).await {
        Ok(Some(config)) => config,
        Ok(None) => return no_resolver(),
        Err(response) => return response,
    };
    let view = match view_of(&config, &wanted) {
        Ok(view) => view,
        Err(e) => return refuse(StatusCode::NOT_FOUND, e),
    };
    match explained(&state, wanted.question.clone(), view).await {
        Ok(explained) => {
            let name = config.views.get(usize::from(view)).map_or("?", |view| &*view.name);
            answer(Ok(json!(ExplainedRow::new(&wanted.question, name, &explained))))
        }
        Err(response) => response,
    }
}

/// Has a worker look something up, and waits for what comes of it.
async fn explained(state: &State, question: Question, view: u16) -> Result<Box<Explained>, Response> {
    let busy = || refuse(StatusCode::SERVICE_UNAVAILABLE, "too many lookups are under way");
    let mut awaited = state.lookups.begin().ok_or_else(busy)?;
    let lookup = Box::new(Lookup { id: awaited.id, question, view });
    if !ask(state, move |g| g.dns_lookup(lookup)).await? {
        return Err(busy());
    }
    let late = || refuse(StatusCode::GATEWAY_TIMEOUT, "no worker answered in time");
    let received = tokio::time::timeout(LOOKUP_WITHIN, &mut awaited.receiver).await;
    received.map_err(|_| late())?.map_err(|_| late())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FlushParameters {
    name: Option<String>,
}

async fn flush(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<FlushParameters>, QueryRejection>,
) -> Response {
    let parsed = parameters
        .map_err(|e| e.body_text())
        .and_then(|Query(p)| p.name.as_deref().map(parse_name).transpose());
    let name = match parsed {
        Ok(name) => name,
        Err(e) => return refuse(StatusCode::BAD_REQUEST, e),
    };
    let flushed = ask(&state, move |g| {
        let forgotten = g.dns_flush(name.as_deref());
        if let Some(n) = forgotten {
            let what = name.as_deref().map(display_name);
            info!(name = what, forgotten = n, "answers of the DNS cache are forgotten");
        }
        forgotten
    });
    match flushed.await {
        Ok(Some(n)) => answer(Ok::<Value, Response>(json!({ "forgotten": n }))),
        Ok(None) => no_resolver(),
        Err(response) => response,
    }
}
