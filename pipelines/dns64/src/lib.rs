//! DNS64 (RFC 6147): the resolver of an IPv6-only network. It forwards to recursive resolvers, makes AAAA records
//! of A records where a name has no IPv6 address, and answers from its cache in the poll that brought the
//! question.
//!
//! ```text
//!  question -> limits -> cache --hit--> the stored answer, patched in the question's own frame
//!                          |
//!                         miss -> engine -> resolution (what to ask, RFC 6147) -> upstream (whom, how often)
//!                                    ^          |                                    |
//!                                    +--- answer: cache, all who wait <--------------+
//! ```
//! A miss is handled by one worker for each question, so that one question is asked once.
//! [`resolution`] and [`upstream`] are state machines without clock, socket or cache.

#![forbid(unsafe_code)]

pub mod answer;
pub mod cache;
pub mod config;
pub mod cookie;
pub mod engine;
pub mod explain;
pub mod policy;
pub mod question;
pub mod resolution;
pub mod respond;
pub mod special;
pub mod stage;
pub mod status;
pub mod tcp;
pub mod upstream;

pub use answer::Answer;
pub use cache::Cache;
pub use config::Config;
pub use policy::Policy;
pub use question::{Question, Variant};
pub use stage::{Outcome, Rings, Stage};
