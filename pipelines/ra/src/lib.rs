//! Router advertisements: what is advertised on each network, when, and to whom (RFC 4861 6.2).
//!
//! ```text
//!  Config, per network -> Advertisements (octets, made once per plan, with what is withdrawn)
//!                              |
//!  solicitation, any worker -> Stage -> at once, to the one who asked
//!                                |
//!                                +--> Schedule (worker 0) -> to all nodes
//! ```
//!
//! A solicitation with a source address is answered in the same poll. RFC 4861 6.2.6 wants a random delay of
//! up to half a second before every answer, so that routers that heard the same solicitation do not answer
//! together; on our networks one gateway answers (the others stand by, RFC 9568 6.4.2), and a server that
//! boots should not wait. Answers to all nodes keep the delay, and the three seconds between them.
//!
//! Not handled: Secure Neighbor Discovery (RFC 3971), home agents (RFC 6275), advertisements on uplinks.

#![forbid(unsafe_code)]

mod advertisements;
pub mod config;
mod message;
mod options;
mod random;
mod receive;
mod schedule;
mod stage;
mod withdrawn;

pub use advertisements::Advertisements;
pub use config::{Advertised, Config, ConfigError, EncryptedDns, Pref64, Preference, PrefixInfo, RouteInfo};
pub use stage::Stage;
