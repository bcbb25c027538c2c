//! What control reads: how the upstream resolvers do, and samples of questions.

use crate::question::WireName;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// Of one upstream at one worker. The worker writes, control reads.
#[derive(Debug, Default)]
pub struct UpstreamStatus {
    /// Questions sent to it.
    pub asked: AtomicU64,
    /// Answers that were taken.
    pub answered: AtomicU64,
    /// Questions that it did not answer in time.
    pub timeouts: AtomicU64,
    /// Smoothed time of an answer, in microseconds; 0 before the first.
    pub srtt_us: AtomicU32,
    /// True while it is not asked because it does not answer.
    pub down: AtomicBool,
    /// True if it was seen to change the case of names.
    pub loses_case: AtomicBool,
}

/// All upstreams at one worker, in the order of the configuration.
#[derive(Debug)]
pub struct UpstreamsStatus {
    /// Each with its address.
    pub list: Vec<(SocketAddr, UpstreamStatus)>,
}

/// A question that was sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Who asked.
    pub client: IpAddr,
    /// The name in wire form.
    pub name: WireName,
    /// The type.
    pub qtype: u16,
    /// The response code.
    pub rcode: u8,
    /// It was answered from the cache.
    pub cached: bool,
    /// AAAA records were made.
    pub synthesised: bool,
    /// Microseconds until the answer.
    pub took_us: u32,
}
