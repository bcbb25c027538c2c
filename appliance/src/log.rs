//! Logs: `tracing` to standard error, as text or JSON, and a limiter for what a stranger could make us
//! write. Workers never log; control does it for them.

use crate::config::{Log, LogFormat};
use causeway_core::{Instant, TokenBucket};
use std::collections::HashMap;
use std::hash::Hash;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Environment variable whose filter, if set, replaces the configuration's.
pub const FILTER_VARIABLE: &str = "CAUSEWAY_LOG";

/// Logs that are set up; their filter can be changed while they run.
#[derive(Debug, Clone)]
pub struct Logs {
    filter: Option<reload::Handle<EnvFilter, Registry>>,
    fixed: bool,
}

/// The filter cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("log filter `{filter}`: {problem}")]
pub struct FilterError {
    filter: String,
    problem: String,
}

/// Reads a filter. What the library for DNS messages says about them is left out unless it is asked for: strangers write
/// those messages.
fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    const DNS: &str = "hickory_proto";
    let quiet = if filter.contains(DNS) { String::new() } else { format!(",{DNS}=off") };
    EnvFilter::try_new(format!("{filter}{quiet}"))
        .map_err(|e| FilterError { filter: filter.to_owned(), problem: e.to_string() })
}

/// Sets up the logs of the process. If that was done before, the first setting stays.
///
/// # Errors
/// [`FilterError`] when the filter, of the configuration or of [`FILTER_VARIABLE`], is none.
pub fn init(log: &Log) -> Result<Logs, FilterError> {
    let variable = std::env::var(FILTER_VARIABLE).ok().filter(|v| !v.is_empty());
    let fixed = variable.is_some();
    let (filter, handle) = reload::Layer::new(parse(variable.as_deref().unwrap_or(&log.filter))?);
    let registry = tracing_subscriber::registry().with(filter);
    let done = match log.format {
        LogFormat::Text => {
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(false)).try_init()
        }
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
    };
    Ok(Logs { filter: done.is_ok().then_some(handle), fixed })
}

impl Logs {
    /// Logs that somebody else has set up.
    #[must_use]
    pub const fn foreign() -> Self {
        Self { filter: None, fixed: true }
    }

    /// Replaces the filter, unless [`FILTER_VARIABLE`] rules.
    ///
    /// # Errors
    /// [`FilterError`] when it is none.
    pub fn set_filter(&self, filter: &str) -> Result<(), FilterError> {
        let parsed = parse(filter)?;
        match &self.filter {
            Some(handle) if !self.fixed => handle
                .reload(parsed)
                .map_err(|e| FilterError { filter: filter.to_owned(), problem: e.to_string() }),
            _ => Ok(()),
        }
    }
}

/// Lets through a few messages per cause and counts the rest. The number of causes is bounded, too: those
/// beyond it share one bucket.
#[derive(Debug)]
pub struct RateLimited<K> {
    rate_pps: u32,
    burst: u32,
    causes: HashMap<K, Cause>,
    others: Cause,
    most: usize,
}

#[derive(Debug)]
struct Cause {
    bucket: TokenBucket,
    suppressed: u64,
}

impl Cause {
    fn new(rate_pps: u32, burst: u32) -> Self {
        Self { bucket: TokenBucket::new(rate_pps, burst), suppressed: 0 }
    }
}

impl<K: Eq + Hash> RateLimited<K> {
    /// At most `burst` messages of a cause at once and `rate_pps` a second in the long run, for up to
    /// `most` causes.
    #[must_use]
    pub fn new(rate_pps: u32, burst: u32, most: usize) -> Self {
        Self { rate_pps, burst, causes: HashMap::new(), others: Cause::new(rate_pps, burst), most }
    }

    /// Whether a message of this cause may be written now, and if so, how many of them were kept back
    /// since the last one.
    pub fn allow(&mut self, cause: K, now: Instant) -> Option<u64> {
        let (rate_pps, burst) = (self.rate_pps, self.burst);
        let room = self.causes.len() < self.most || self.causes.contains_key(&cause);
        let entry = if room {
            self.causes.entry(cause).or_insert_with(|| Cause::new(rate_pps, burst))
        } else {
            &mut self.others
        };
        if entry.bucket.take(now) {
            Some(std::mem::take(&mut entry.suppressed))
        } else {
            entry.suppressed = entry.suppressed.saturating_add(1);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_limited_alone_and_tells_what_it_kept_back() {
        let mut l = RateLimited::new(1, 2, 10);
        let t = Instant::from_micros(1_000_000);
        assert_eq!(
            (l.allow("a", t), l.allow("a", t), l.allow("a", t), l.allow("a", t)),
            (Some(0), Some(0), None, None)
        );
        assert_eq!(l.allow("b", t), Some(0), "another cause is not touched");
        let later = Instant::from_micros(2_500_000);
        assert_eq!(l.allow("a", later), Some(2));
        assert_eq!(l.allow("a", later), None);
    }

    #[test]
    fn causes_beyond_the_bound_share_a_bucket() {
        let mut l = RateLimited::new(0, 1, 2);
        let t = Instant::ZERO;
        assert_eq!(
            (l.allow(1, t), l.allow(2, t), l.allow(3, t), l.allow(4, t)),
            (Some(0), Some(0), Some(0), None)
        );
        assert_eq!(l.causes.len(), 2);
    }

    #[test]
    fn a_filter_that_is_none_is_refused_by_name() {
        let e = Logs::foreign().set_filter("a=b=c").unwrap_err();
        assert!(e.to_string().contains("a=b=c"), "{e}");
    }
}
