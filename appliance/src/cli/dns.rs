//! `causeway dns`: how a name is looked up, step by step, and forgetting cached answers.

use super::show::parse;
use super::table::{Align, Table};
use super::{FAILED, OK, Output, ShowArgs, asked};
use crate::control::dns::{self, AnswerRow, DnsReport, ExplainedRow, RecordRow, StepRow};
use clap::{Args, Subcommand};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

/// What is done with the resolver.
#[derive(Debug, Subcommand)]
pub(super) enum Dns {
    /// Look a name up as for a client, and say how: what was in the cache, who was asked, what was made of it.
    #[command(after_help = LOOKUP_HELP)]
    Lookup(LookupArgs),
    /// Forget cached answers.
    Flush(FlushArgs),
}

const LOOKUP_HELP: &str = "\
Exit codes:
  0  there is an answer, also if it says that there is no such name
  1  there is none, or it says that something failed
  2  bad usage
  3  no gateway runs there";

#[derive(Debug, Args)]
pub(super) struct LookupArgs {
    #[command(flatten)]
    common: ShowArgs,
    /// The name, absolute with or without a final dot; or an address, whose name is looked up.
    // (`--name` is the gateway's.)
    #[arg(id = "question", value_name = "NAME", value_parser = name)]
    name: String,
    /// The record type; AAAA, or PTR for an address, if it is not said.
    #[arg(value_name = "TYPE", value_parser = record_type)]
    r#type: Option<String>,
    /// As clients of this view see it, instead of those that no view names.
    #[arg(long, value_name = "VIEW", value_parser = super::name, conflicts_with = "client")]
    view: Option<String>,
    /// As this client sees it.
    #[arg(long, value_name = "IPV6")]
    client: Option<Ipv6Addr>,
    /// As for a client that wants DNSSEC records (flag DO).
    #[arg(long)]
    dnssec: bool,
    /// As for a client that validates itself (flag CD).
    #[arg(long)]
    cd: bool,
}

#[derive(Debug, Args)]
pub(super) struct FlushArgs {
    #[command(flatten)]
    common: ShowArgs,
    /// Only answers about this name and names under it.
    // (`--name` is the gateway's.)
    #[arg(id = "question", value_name = "NAME", value_parser = name)]
    name: Option<String>,
}

/// A name or an address.
fn name(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    dns::parse_name(text).map(|_| text.to_owned())
}

fn record_type(text: &str) -> Result<String, String> {
    dns::parse_type(text).map(|_| text.to_owned())
}

/// A value in the address of a request (RFC 3986 2.1).
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, octet| {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            let _ = write!(out, "%{octet:02X}");
        }
        out
    })
}

/// The name that is meant; that of an address is where it is looked up by.
fn meant(text: &str) -> (String, bool) {
    text.parse().map_or_else(|_| (text.to_owned(), false), |address| (dns::reverse_name(address), true))
}

impl LookupArgs {
    fn path(&self) -> String {
        let (name, address) = meant(&self.name);
        let mut path = format!("/v1/dns/lookup?name={}", encoded(&name));
        let wanted = self.r#type.clone().or_else(|| address.then(|| "PTR".to_owned()));
        let client = self.client.map(|a| a.to_string());
        for (key, value) in [("type", &wanted), ("view", &self.view), ("client", &client)] {
            if let Some(value) = value {
                let _ = write!(path, "&{key}={}", encoded(value));
            }
        }
        for (key, on) in [("dnssec", self.dnssec), ("cd", self.cd)] {
            if on {
                let _ = write!(path, "&{key}=true");
            }
        }
        path
    }
}

pub(super) fn execute(what: &Dns, out: &mut Output) -> u8 {
    let common = match what {
        Dns::Lookup(a) => &a.common,
        Dns::Flush(a) => &a.common,
    };
    asked(&common.socket, common.json, out, |client| match what {
        Dns::Lookup(a) => {
            let value = client.get(&a.path())?;
            let row: ExplainedRow = parse(client, value.clone())?;
            Ok((value, explained(&row), if answered(&row) { OK } else { FAILED }))
        }
        Dns::Flush(a) => {
            let name = a.name.as_deref().map(|name| format!("?name={}", encoded(&meant(name).0)));
            let value = client.post(&format!("/v1/dns/flush{}", name.unwrap_or_default()))?;
            let text = format!("{} answers are forgotten\n", value["forgotten"]);
            Ok((value, text, OK))
        }
    })
}

fn answered(row: &ExplainedRow) -> bool {
    row.answer.as_ref().is_some_and(|a| matches!(a.rcode.as_str(), "NOERROR" | "NXDOMAIN"))
}

fn explained(row: &ExplainedRow) -> String {
    let mut text = format!("{}, as clients of view {} see it\n", row.question, row.view);
    for (n, step) in (1..).zip(&row.steps) {
        let _ = writeln!(text, "{n:>3}. {}", self::step(step));
    }
    match &row.answer {
        None => text.push_str("no answer\n"),
        Some(a) => text.push_str(&answer(a)),
    }
    text
}

fn step(step: &StepRow) -> String {
    match step {
        StepRow::Local { why } => format!("answered here: {why}"),
        StepRow::Cached { question, variant, ttl } => {
            format!("cached: {question} ({variant}), good for {ttl} s")
        }
        StepRow::Asked { question, upstream, took_ms, outcome } => {
            let whom = upstream.map_or_else(|| "upstream".to_owned(), |a| a.to_string());
            format!("asked {whom}: {question}: {outcome}, after {took_ms} ms")
        }
        StepRow::Decided { what } => what.clone(),
    }
}

fn answer(a: &AnswerRow) -> String {
    if let Some(why) = &a.unreadable {
        return format!("answer: {} octets that cannot be read: {why}\n", a.octets);
    }
    let mut text = format!("answer: {}, flags {}, {} octets\n", a.rcode, a.flags.join(" "), a.octets);
    for (what, records) in [("", &a.answer), ("authority", &a.authority), ("additional", &a.additional)] {
        if !records.is_empty() {
            if !what.is_empty() {
                let _ = writeln!(text, "{what}:");
            }
            text.push_str(&self::records(records));
        }
    }
    text
}

fn records(rows: &[RecordRow]) -> String {
    let mut t = Table::pairs();
    for r in rows {
        t.row([format!("  {}", r.name), r.ttl.to_string(), r.r#type.clone(), r.data.clone()]);
    }
    t.to_string()
}

/// `causeway show dns`.
pub(super) fn report(r: &DnsReport) -> String {
    let mut text = String::new();
    let listen: Vec<String> = r.listen.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "answers at: {}", listen.join(", "));
    if let Some(c) = &r.cache {
        let _ = writeln!(
            text,
            "cache: {} answers in {} of {} KiB, {} had to make room for others",
            c.entries,
            c.octets_used.div_ceil(1024),
            c.octets / 1024,
            c.evictions
        );
    }
    let mut t = Table::new(&[
        ("UPSTREAM", Align::Left),
        ("STATE", Align::Left),
        ("ASKED", Align::Right),
        ("ANSWERED", Align::Right),
        ("TIMEOUTS", Align::Right),
        ("SRTT MS", Align::Right),
        ("CASE", Align::Left),
    ]);
    for u in &r.upstreams {
        let state = match u.down_at {
            0 => "up".to_owned(),
            1 => "DOWN at 1 worker".to_owned(),
            n => format!("DOWN at {n} workers"),
        };
        t.row([
            u.address.to_string(),
            state,
            u.asked.to_string(),
            u.answered.to_string(),
            u.timeouts.to_string(),
            u.srtt_us.map_or_else(|| "-".to_owned(), |us| format!("{}.{:03}", us / 1000, us % 1000)),
            if u.loses_case { "lost" } else { "kept" }.to_owned(),
        ]);
    }
    let _ = write!(text, "\n{t}");
    let mut t = Table::new(&[
        ("VIEW", Align::Left),
        ("AAAA MADE WITH", Align::Left),
        ("CLIENTS", Align::Right),
        ("CACHED", Align::Left),
    ]);
    for v in &r.views {
        t.row([
            v.name.clone(),
            v.prefix.map_or_else(|| "-".to_owned(), |p| p.to_string()),
            v.clients.to_string(),
            if v.own_rules { "all but AAAA" } else { "all" }.to_owned(),
        ]);
    }
    let _ = write!(text, "\n{t}");
    let counted: Vec<_> = r.rates.iter().filter(|row| row.total > 0).collect();
    if !counted.is_empty() {
        let mut t =
            Table::new(&[("COUNTER", Align::Left), ("A SECOND", Align::Right), ("TOTAL", Align::Right)]);
        for row in counted {
            t.row([row.name.clone(), row.per_second.to_string(), row.total.to_string()]);
        }
        let _ = write!(text, "\n{t}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3986_2_1_what_is_no_letter_is_encoded() {
        assert_eq!(encoded(r"a.b-_~\065 &=%"), "a.b-_~%5C065%20%26%3D%25");
    }

    #[test]
    fn an_address_is_looked_up_by_its_name() {
        assert_eq!(meant("192.0.2.1"), ("1.2.0.192.in-addr.arpa.".to_owned(), true));
        assert_eq!(meant("v4only.example"), ("v4only.example".to_owned(), false));
    }
}
