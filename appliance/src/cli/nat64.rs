//! `causeway nat64`: what follows from a configuration alone, without a running gateway.

use super::{BAD_CONFIG, FAILED, FileArgs, OK, Output};
use crate::cli::table::Table;
use crate::config::Config;
use crate::plan::nat64_options;
use causeway_core::Prefix6;
use causeway_nat64::Deterministic;
use clap::{Args, Subcommand};
use serde_json::json;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

/// What is computed.
#[derive(Debug, Subcommand)]
pub(super) enum Nat64 {
    /// Whose ports are whose where they are given out by calculation (RFC 7422).
    #[command(after_help = AFTER_HELP)]
    Deterministic(DeterministicArgs),
}

const AFTER_HELP: &str = "\
Exit codes:
  0  found
  1  it belongs to nobody
  2  bad usage, a bad configuration, or one whose ports are given out another way";

#[derive(Debug, Args)]
pub(super) struct DeterministicArgs {
    #[command(flatten)]
    file: FileArgs,
    /// An IPv6 host, to learn its outside address and ports; or an outside IPv4 address and port, as in
    /// 203.0.113.5:2222, to learn whose they are.
    #[arg(value_name = "ADDRESS6|ADDRESS4:PORT", value_parser = asked)]
    what: Asked,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Host(Ipv6Addr),
    Outside(Ipv4Addr, u16),
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(a) => a.fmt(f),
            Self::Outside(a, port) => write!(f, "{a}:{port}"),
        }
    }
}

fn asked(text: &str) -> Result<Asked, String> {
    if let Ok(a) = text.parse() {
        return Ok(Asked::Host(a));
    }
    let outside = text.parse().map(|a: SocketAddrV4| Asked::Outside(*a.ip(), a.port()));
    outside.map_err(|_| "neither an IPv6 address nor an IPv4 address and port".to_owned())
}

/// The answer: a subscriber, and what it has of each protocol.
struct Found {
    subscriber: Prefix6,
    address: Ipv4Addr,
    first_port: u16,
    last_port: u16,
}

pub(super) fn execute(what: &Nat64, out: &mut Output) -> u8 {
    let Nat64::Deterministic(args) = what;
    let config = match Config::load(&args.file.config) {
        Ok(config) => config,
        Err(errors) => {
            if args.json {
                out.json(&json!({ "errors": errors }));
            }
            out.err.push_str(&format!("{errors}\n"));
            return BAD_CONFIG;
        }
    };
    let calculation = match calculation(&config) {
        Ok(calculation) => calculation,
        Err(problem) => return refuse(&problem, BAD_CONFIG, args.json, out),
    };
    let Some(found) = find(&calculation, args.what) else {
        return refuse(&format!("{} belongs to no subscriber", args.what), FAILED, args.json, out);
    };
    if args.json {
        out.json(&json!({
            "subscriber": found.subscriber,
            "address": found.address,
            "first_port": found.first_port,
            "last_port": found.last_port,
        }));
    } else {
        let mut t = Table::pairs();
        t.pair("subscriber", found.subscriber);
        t.pair("address", found.address);
        t.pair("ports", format!("{}-{}", found.first_port, found.last_port));
        out.text(&t.to_string());
    }
    OK
}

fn refuse(problem: &str, code: u8, as_json: bool, out: &mut Output) -> u8 {
    if as_json {
        out.json(&json!({ "error": problem }));
    }
    out.error(problem);
    code
}

fn calculation(config: &Config) -> Result<Deterministic, String> {
    let nat64 = config.nat64.as_ref().ok_or("the configuration has no [nat64]")?;
    let checked =
        causeway_nat64::Config::new(nat64_options(nat64, &crate::plan::splicer::port_maps(config), 0))
            .map_err(|e| e.to_string())?;
    Deterministic::of(&checked).ok_or_else(|| "nat64.allocation.mode is not \"deterministic\"".to_owned())
}

fn find(calculation: &Deterministic, what: Asked) -> Option<Found> {
    let host = match what {
        Asked::Host(a) => a,
        Asked::Outside(a, port) => calculation.subscriber_of(a, port)?.address(),
    };
    let (address, ports) = calculation.ports_of(host)?;
    let subscriber = calculation.subscriber_of(address, *ports.start())?;
    Some(Found { subscriber, address, first_port: *ports.start(), last_port: *ports.end() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_host_or_an_outside_port() {
        assert_eq!(asked("2001:db8::1"), Ok(Asked::Host("2001:db8::1".parse().unwrap())));
        assert_eq!(asked("203.0.113.5:22"), Ok(Asked::Outside(Ipv4Addr::new(203, 0, 113, 5), 22)));
        for bad in ["203.0.113.5", "2001:db8::/64", "203.0.113.5:65536", "vm1", ""] {
            assert!(asked(bad).is_err(), "{bad}");
        }
    }
}
