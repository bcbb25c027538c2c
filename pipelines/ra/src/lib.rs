//! Router advertisements: what is advertised on each network, when, and to whom (RFC 4861 6.2).

#![forbid(unsafe_code)]

pub mod config;

pub use config::{Advertised, Config, EncryptedDns, Pref64, Preference, PrefixInfo, RouteInfo};
