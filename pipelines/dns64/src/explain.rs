//! Why an answer is what it is, step by step: for `causeway dns lookup`.

use crate::question::{Question, Variant};
use std::net::SocketAddr;

/// A lookup that control asks a worker for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Number that the result is told with.
    pub id: u64,
    /// The question.
    pub question: Question,
    /// The number of the view in [`crate::Config::views`].
    pub view: u16,
}

/// One step of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The name is answered here, blocked, or special (RFC 7050): why, in words.
    Local(&'static str),
    /// An answer was in the cache.
    Cached {
        /// Question and sort.
        question: Question,
        /// Sort of answer.
        variant: Variant,
        /// Seconds that it is still good for.
        ttl: u32,
    },
    /// Upstream was asked.
    Asked {
        /// What.
        question: Question,
        /// Whom; nothing if nobody answered.
        upstream: Option<SocketAddr>,
        /// Milliseconds until the end.
        took_ms: u32,
        /// Response code, or why there is none, in words.
        outcome: String,
    },
    /// What RFC 6147 made of it, in words with the clause.
    Decided(&'static str),
}

/// What came of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// As in [`Lookup`].
    pub id: u64,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// The answer as a client would get it, in wire form; nothing if the client would get none.
    pub answer: Option<Vec<u8>>,
}
