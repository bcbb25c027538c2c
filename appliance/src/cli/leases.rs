//! `causeway leases`: who had which address, and taking leases back.

use super::show::{fetch_leases, parse};
use super::table::{Align, Table};
use super::{FAILED, OK, Output, ShowArgs, asked};
use crate::control::client::Client;
use crate::control::lease_api::{AttributionRow, LeaseRow};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::net::Ipv6Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is done with leases.
#[derive(Debug, Subcommand)]
pub(super) enum Leases {
    /// Who has an address, or had it at some time (also as part of a delegated prefix).
    #[command(after_help = WHO_HELP)]
    Who(WhoArgs),
    /// What a MAC address was given, the newest first.
    Of(OfArgs),
    /// Take a lease back. The host is not told, and uses the address until it asks again.
    Release(ReleaseArgs),
    /// Say that the other gateway of the pair is out of service, and will not come back without being told
    /// everything: new leases are given from all pools.
    Takeover(TakeoverArgs),
}

const WHO_HELP: &str = "\
Exit codes:
  0  somebody has it, or had it then
  1  nobody had it, or the gateway refused
  2  bad usage
  3  no gateway runs there";

#[derive(Debug, Args)]
pub(super) struct WhoArgs {
    #[command(flatten)]
    common: ShowArgs,
    /// The address.
    #[arg(value_name = "IPV6")]
    address: Ipv6Addr,
    /// When: as in 2026-03-01T12:00:00Z, or seconds since 1970. Without it now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct OfArgs {
    #[command(flatten)]
    common: ShowArgs,
    /// The MAC address.
    #[arg(value_name = "MAC", value_parser = super::mac)]
    mac: String,
    /// Only from this time on.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<u64>,
    /// Only until this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<u64>,
    /// At most so many, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    common: ShowArgs,
    /// The address, or the first of the prefix.
    #[arg(value_name = "IPV6")]
    address: Ipv6Addr,
}

#[derive(Debug, Args)]
pub(super) struct TakeoverArgs {
    #[command(flatten)]
    common: ShowArgs,
}

/// Seconds since 1970, from themselves or from RFC 3339.
fn time(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let parsed = humantime::parse_rfc3339_weak(text)
        .map_err(|e| format!("{e}; a time as in 2026-03-01T12:00:00Z, or seconds since 1970, is allowed"))?;
    parsed.duration_since(UNIX_EPOCH).map(|d| d.as_secs()).map_err(|_| "before 1970".to_owned())
}

/// A time for people.
pub(super) fn readable(seconds: u64) -> String {
    match UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) {
        // The library writes years of four digits only.
        Some(at) if seconds < 253_402_300_800 => humantime::format_rfc3339_seconds(at).to_string(),
        _ => "for ever".to_owned(),
    }
}

pub(super) fn execute(what: &Leases, out: &mut Output) -> u8 {
    let common = match what {
        Leases::Who(a) => &a.common,
        Leases::Of(a) => &a.common,
        Leases::Release(a) => &a.common,
        Leases::Takeover(a) => &a.common,
    };
    asked(&common.socket, common.json, out, |client| {
        let value = match what {
            Leases::Who(a) => {
                let at = a.at.map(|at| format!("&at={at}")).unwrap_or_default();
                client.get(&format!("/v1/leases/who?address={}{at}", a.address))
            }
            Leases::Of(a) => {
                let from = a.from.map(|t| format!("&from={t}")).unwrap_or_default();
                let to = a.to.map(|t| format!("&to={t}")).unwrap_or_default();
                client.get(&format!("/v1/leases/of?mac={}&limit={}{from}{to}", a.mac, a.limit))
            }
            Leases::Release(a) => client.post(&format!("/v1/leases/release?address={}", a.address)),
            Leases::Takeover(_) => client.post("/v1/leases/takeover"),
        }?;
        let (text, code) = text(client, what, &value)?;
        Ok((value, text, code))
    })
}

fn text(
    client: &Client,
    what: &Leases,
    value: &Value,
) -> Result<(String, u8), crate::control::client::ClientError> {
    let part = |key: &str| value.get(key).cloned().unwrap_or_default();
    Ok(match what {
        Leases::Who(a) => {
            let rows: Vec<AttributionRow> = parse(client, part("who"))?;
            let held = rows.iter().any(|row| row.held);
            let when = a.at.map_or_else(
                || readable(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())),
                readable,
            );
            let mut text = if held { String::new() } else { format!("nobody had {} at {when}\n", a.address) };
            if !rows.is_empty() {
                text.push_str(&history(&rows));
            }
            (text, if held { OK } else { FAILED })
        }
        Leases::Of(_) => {
            let rows: Vec<AttributionRow> = parse(client, part("history"))?;
            (history(&rows), OK)
        }
        Leases::Release(_) => {
            let rows: Vec<LeaseRow> = parse(client, part("released"))?;
            (fetch_leases(&rows), OK)
        }
        Leases::Takeover(_) => ("new leases are given from all pools\n".to_owned(), OK),
    })
}

fn history(rows: &[AttributionRow]) -> String {
    let mut t = Table::new(&[
        ("ADDRESS", Align::Left),
        ("EVENT", Align::Left),
        ("AT", Align::Left),
        ("MAC", Align::Left),
        ("NETWORK", Align::Left),
        ("SINCE", Align::Left),
        ("VALID UNTIL", Align::Left),
        ("DUID", Align::Left),
        ("IAID", Align::Right),
    ]);
    for r in rows {
        let l = &r.lease;
        let event = if r.times > 1 { format!("{} ({} times)", r.event, r.times) } else { r.event.clone() };
        t.row([
            address(l),
            event,
            readable(r.last),
            l.mac.clone().unwrap_or_else(|| "-".to_owned()),
            l.network.clone(),
            readable(l.since),
            readable(l.valid_until),
            l.duid.clone(),
            l.iaid.to_string(),
        ]);
    }
    t.to_string()
}

/// A prefix with its length, an address without.
pub(super) fn address(l: &LeaseRow) -> String {
    if l.length == 128 { l.address.to_string() } else { format!("{}/{}", l.address, l.length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        assert_eq!(time("1700000000"), Ok(1_700_000_000));
        assert_eq!(time("2023-11-14T22:13:20Z"), Ok(1_700_000_000));
        assert!(time("yesterday").unwrap_err().contains("seconds since 1970"));
        assert_eq!(readable(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(readable(u64::MAX), "for ever");
    }
}
