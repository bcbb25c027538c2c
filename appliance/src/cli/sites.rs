//! `causeway sites`: which names lead to which servers, changed while the gateway runs.

use super::dns::encoded;
use super::show::{note_more, parse};
use super::table::{Align, Table};
use super::{BAD_CONFIG, OK, Output, ShowArgs, failed};
use crate::control::client::{Client, ClientError};
use crate::control::site_api::SplicerReport;
use crate::control::sites::{
    AlpnSpec, BackendSpec, CheckSpec, HealthSpec, IdentitySpec, Origin, PAGE, SitePage, SiteRow, SiteSpec,
};
use causeway_core::net::Prefix6;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::time::Duration;

/// What is done with sites.
#[derive(Debug, Subcommand)]
pub(super) enum SitesCommand {
    /// The sites and their servers, or one site.
    List(ListArgs),
    /// Set a site: a new one, or all there is to say of one that was set before. Sites of the configuration file are changed
    /// there.
    #[command(after_help = SET_HELP)]
    Set(Box<SetArgs>),
    /// Remove a site that was set. Connections that it has go on.
    Remove(NameArgs),
    /// Give a server no new connections; those that it has go on.
    Drain(DrainArgs),
}

const SET_HELP: &str = "\
A server is ADDRESS[,weight=N][,port=AT:OF]...[,draining]: AT is the port of a listener, OF the server's for it.

  causeway sites set www.example --server 2001:db8:64::101 --identity proxy2
  causeway sites set '*.example' --server 2001:db8:64::101,port=443:8443 --check tls:8443
  causeway sites set a.example --server 2001:db8:64::101,weight=10 --server 2001:db8:64::102,weight=90
  causeway sites set b.example --server 2001:db8:64::101 --alpn acme-tls/1=2001:db8:64::103";

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    common: ShowArgs,
    /// Only this one.
    #[arg(value_name = "SITE")]
    site: Option<String>,
    /// At most so many; 0 shows all.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

#[derive(Debug, Args)]
pub(super) struct NameArgs {
    #[command(flatten)]
    common: ShowArgs,
    /// The site's name; `*.example` for all names below one.
    #[arg(value_name = "SITE")]
    site: String,
}

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    common: ShowArgs,
    /// The site's name.
    #[arg(value_name = "SITE")]
    site: String,
    /// The server.
    #[arg(value_name = "IPV6")]
    server: Ipv6Addr,
    /// Give it new connections again.
    #[arg(long)]
    undo: bool,
}

#[derive(Debug, Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    common: ShowArgs,
    /// The site's name; `*.example` for all names below one.
    #[arg(value_name = "SITE")]
    site: String,
    /// A server; several times for several.
    #[arg(long = "server", value_name = "SERVER", required = true, value_parser = server)]
    servers: Vec<BackendSpec>,
    /// A server for clients that offer a protocol (ALPN); several times for several. Of rules for several protocols the first
    /// that fits counts.
    #[arg(long = "alpn", value_name = "PROTOCOL=SERVER", value_parser = alpn)]
    alpn: Vec<(String, BackendSpec)>,
    /// How servers are told who the client is.
    #[arg(long, value_enum, default_value = "none")]
    identity: IdentitySpec,
    /// For --identity embedded: which of the configured client prefixes; the first without it.
    #[arg(long, value_name = "PREFIX")]
    client_prefix: Option<Prefix6>,
    /// Whether HTTP is redirected to HTTPS; without it as the listener does.
    #[arg(long, value_name = "BOOL")]
    redirect: Option<bool>,
    /// What is tried at servers to see whether they are up: `tcp:PORT`, `tls:PORT`, or `none`.
    #[arg(long, value_name = "CHECK", default_value = "none", value_parser = check)]
    check: Tried,
    /// How often.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// How long an answer may take.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// So many in a row that succeed make a server up.
    #[arg(long, value_name = "N", default_value_t = 2)]
    rise: u16,
    /// So many in a row that fail make it down.
    #[arg(long, value_name = "N", default_value_t = 3)]
    fall: u16,
}

/// What is tried, and at which port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tried(CheckSpec, Option<u16>);

fn check(text: &str) -> Result<Tried, String> {
    let bad = || "`tcp:PORT`, `tls:PORT` or `none` is allowed".to_owned();
    if text == "none" {
        return Ok(Tried(CheckSpec::None, None));
    }
    let (what, port) = text.split_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    match what {
        "tcp" => Ok(Tried(CheckSpec::Tcp, Some(port))),
        "tls" => Ok(Tried(CheckSpec::Tls, Some(port))),
        _ => Err(bad()),
    }
}

fn server(text: &str) -> Result<BackendSpec, String> {
    let mut parts = text.split(',');
    let address = parts.next().unwrap_or_default();
    let address = address.parse().map_err(|_| format!("`{address}` is no IPv6 address"))?;
    let mut server = BackendSpec { address, ports: Vec::new(), weight: 100, draining: false };
    for part in parts {
        match part.split_once('=') {
            None if part == "draining" => server.draining = true,
            Some(("weight", n)) => {
                server.weight = n.parse().map_err(|_| format!("weight={n}: 0 to 1000 are allowed"))?;
            }
            Some(("port", ports)) => {
                let pair =
                    ports.split_once(':').and_then(|(at, of)| Some((at.parse().ok()?, of.parse().ok()?)));
                server.ports.push(pair.ok_or_else(|| format!("port={ports}: as in port=443:8443"))?);
            }
            _ => return Err(format!("`{part}`: weight=N, port=AT:OF and draining are allowed")),
        }
    }
    Ok(server)
}

fn alpn(text: &str) -> Result<(String, BackendSpec), String> {
    let (protocol, rest) = text.split_once('=').ok_or("as in h2=2001:db8:64::101")?;
    Ok((protocol.to_owned(), server(rest)?))
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl SetArgs {
    fn spec(&self) -> SiteSpec {
        let mut rules: Vec<AlpnSpec> = Vec::new();
        for (protocol, server) in &self.alpn {
            match rules.iter_mut().find(|rule| rule.protocol == *protocol) {
                Some(rule) => rule.backends.push(server.clone()),
                None => rules.push(AlpnSpec { protocol: protocol.clone(), backends: vec![server.clone()] }),
            }
        }
        let health = HealthSpec {
            check: self.check.0,
            port: self.check.1,
            interval_ms: millis(self.interval),
            timeout_ms: millis(self.timeout),
            rise: self.rise,
            fall: self.fall,
        };
        SiteSpec {
            alpn: rules,
            identity: self.identity,
            client_prefix: self.client_prefix,
            redirect: self.redirect,
            health,
            ..SiteSpec::new(&self.site, self.servers.clone())
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/sites/{}", encoded(name))
}

pub(super) fn execute(what: &SitesCommand, out: &mut Output) -> u8 {
    let common = match what {
        SitesCommand::List(a) => &a.common,
        SitesCommand::Set(a) => &a.common,
        SitesCommand::Remove(a) => &a.common,
        SitesCommand::Drain(a) => &a.common,
    };
    let client = match common.socket.client() {
        Ok(client) => client,
        Err(e) => {
            out.error(e);
            return BAD_CONFIG;
        }
    };
    match done(&client, what) {
        Ok((value, text)) => {
            if common.json {
                out.json(&value);
            } else {
                out.text(&text);
            }
            OK
        }
        Err(e) => failed(&e, common.json, out),
    }
}

fn done(client: &Client, what: &SitesCommand) -> Result<(Value, String), ClientError> {
    let one = |value: &Value| -> Result<SiteRow, ClientError> { parse(client, value["site"].clone()) };
    Ok(match what {
        SitesCommand::List(ListArgs { site: Some(name), .. }) => {
            let value = client.get(&path(name))?;
            let text = detail(&one(&value)?);
            (value, text)
        }
        SitesCommand::List(a) => list(client, a.limit)?,
        SitesCommand::Set(a) => {
            // What is said of a site has text and numbers only, so that it is always JSON.
            let value = client.put(&path(&a.site), &serde_json::to_value(a.spec()).unwrap_or_default())?;
            let row = one(&value)?;
            let how = if value["created"] == true { "is new" } else { "is changed" };
            let text = format!("site {} {how}\n", row.name);
            (value, text)
        }
        SitesCommand::Remove(a) => {
            let value = client.delete(&path(&a.site))?;
            (value, format!("site {} is removed; connections that it has go on\n", a.site))
        }
        SitesCommand::Drain(a) => {
            let undo = if a.undo { "&undo=true" } else { "" };
            let value = client.post(&format!("{}/drain?server={}{undo}", path(&a.site), a.server))?;
            let text = if a.undo {
                format!("{} gets connections of {} again\n", a.server, a.site)
            } else {
                format!("{} gets no new connections of {}\n", a.server, a.site)
            };
            (value, text)
        }
    })
}

fn list(client: &Client, limit: usize) -> Result<(Value, String), ClientError> {
    let wanted = if limit == 0 { usize::MAX } else { limit };
    let (mut rows, mut after) = (Vec::<SiteRow>::new(), Some(String::new()));
    while let Some(at) = after.take()
        && rows.len() < wanted
    {
        let some = (wanted - rows.len()).min(PAGE);
        let behind = if at.is_empty() { at } else { format!("&after={}", encoded(&at)) };
        let page: SitePage = parse(client, client.get(&format!("/v1/sites?limit={some}{behind}"))?)?;
        rows.extend(page.sites);
        after = page.next;
    }
    let more = after.is_some();
    let mut text = if rows.is_empty() { "no sites\n".to_owned() } else { table(&rows) };
    note_more(&mut text, rows.len(), more);
    Ok((json!({ "sites": rows, "more": more }), text))
}

const fn identity(identity: IdentitySpec) -> &'static str {
    match identity {
        IdentitySpec::None => "-",
        IdentitySpec::Proxy1 => "proxy1",
        IdentitySpec::Proxy2 => "proxy2",
        IdentitySpec::Embedded => "embedded",
    }
}

pub(super) const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Config => "config",
        Origin::Api => "api",
    }
}

fn table(rows: &[SiteRow]) -> String {
    let mut t = Table::new(&[
        ("SITE", Align::Left),
        ("ORIGIN", Align::Left),
        ("IDENTITY", Align::Left),
        ("SERVER", Align::Left),
        ("FOR", Align::Left),
        ("STATE", Align::Left),
        ("WEIGHT", Align::Right),
        ("OPENED", Align::Right),
        ("FAILED", Align::Right),
    ]);
    for row in rows {
        for (n, s) in row.servers.iter().enumerate() {
            let first = |text: &str| if n == 0 { text.to_owned() } else { String::new() };
            t.row([
                first(&row.name),
                first(origin(row.origin)),
                first(identity(row.site.identity)),
                s.address.to_string(),
                s.protocol.clone().unwrap_or_else(|| "-".to_owned()),
                s.state.clone(),
                s.weight.to_string(),
                s.opened.to_string(),
                s.failed.to_string(),
            ]);
        }
    }
    t.to_string()
}

fn detail(row: &SiteRow) -> String {
    let mut t = Table::pairs();
    let s = &row.site;
    t.pair("site", &row.name);
    t.pair("origin", origin(row.origin));
    let prefix = s.client_prefix.map(|p| format!(" in {p}")).unwrap_or_default();
    t.pair("identity", format!("{}{prefix}", identity(s.identity)));
    let redirect = match s.redirect {
        None => "as the listener does",
        Some(true) => "yes",
        Some(false) => "no",
    };
    t.pair("redirect to https", redirect);
    let h = &s.health;
    let tried = match (h.check, h.port) {
        (CheckSpec::Tcp, Some(port)) => format!("tcp:{port}"),
        (CheckSpec::Tls, Some(port)) => format!("tls:{port}"),
        _ => "none".to_owned(),
    };
    if h.check == CheckSpec::None {
        t.pair("check", tried);
    } else {
        let every = humantime::format_duration(Duration::from_millis(h.interval_ms));
        let within = humantime::format_duration(Duration::from_millis(h.timeout_ms));
        t.pair("check", format!("{tried} every {every}, within {within}, rise {}, fall {}", h.rise, h.fall));
    }
    let all = s.backends.iter().chain(s.alpn.iter().flat_map(|r| &r.backends));
    for b in all.filter(|b| !b.ports.is_empty()) {
        let ports: Vec<String> = b.ports.iter().map(|(at, of)| format!("{at} at {of}")).collect();
        t.pair("ports", format!("{}: {}", b.address, ports.join(", ")));
    }
    format!("{t}\n{}", table(std::slice::from_ref(row)))
}

/// `causeway show splicer`.
pub(super) fn report(r: &SplicerReport) -> String {
    let mut t = Table::new(&[
        ("LISTENER", Align::Left),
        ("TLS", Align::Left),
        ("HTTP", Align::Left),
        ("REDIRECT", Align::Left),
        ("DEFAULT SITE", Align::Left),
    ]);
    for l in &r.listeners {
        let yes = |yes: bool| if yes { "yes" } else { "-" }.to_owned();
        let site = l.default_site.clone().unwrap_or_else(|| "-".to_owned());
        let site = if l.default_known { site } else { format!("{site} (NOT THERE)") };
        t.row([l.address.to_string(), yes(l.tls), yes(l.http), yes(l.redirect), site]);
    }
    let mut text = format!("{t}\n");
    let list = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(", ") };
    let mut t = Table::pairs();
    let (s, down) = (&r.sites, r.sites.servers_down.iter().map(ToString::to_string).collect::<Vec<_>>());
    t.pair("sites", format!("{}, {} of the configuration, {} of the API", s.sites, s.of_config, s.of_api));
    let mut servers = format!("{} up, {} down", s.servers_up, down.len());
    if !down.is_empty() {
        let _ = write!(servers, ": {}", down.join(", "));
    }
    t.pair("servers", servers);
    let range = r
        .port_map_range
        .as_ref()
        .map_or_else(|| "none on request".to_owned(), |range| format!("on request from {range}"));
    t.pair("port maps", format!("{}; {range}", r.port_maps));
    t.pair("sources", list(r.sources.iter().map(ToString::to_string).collect()));
    t.pair("client prefixes", list(r.client_prefixes.iter().map(ToString::to_string).collect()));
    t.pair("room for", format!("{} spliced connections", r.capacity));
    text.push_str(&t.to_string());
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
    fn a_server_is_an_address_and_what_follows() {
        let got = server("2001:db8:64::101,weight=7,port=443:8443,port=80:8080,draining").unwrap();
        let wanted = BackendSpec {
            address: "2001:db8:64::101".parse().unwrap(),
            ports: vec![(443, 8443), (80, 8080)],
            weight: 7,
            draining: true,
        };
        assert_eq!(got, wanted);
        assert_eq!(server("2001:db8:64::101").map(|s| s.weight), Ok(100));
        for bad in
            ["192.0.2.1", "[2001:db8::1]:80", "::1,weight=x", "::1,port=1", "::1,port=1:99999", "::1,x", ""]
        {
            assert!(server(bad).is_err(), "{bad}");
        }
        assert_eq!(alpn("acme-tls/1=2001:db8:64::103,weight=1").unwrap().0, "acme-tls/1");
        assert!(alpn("h2").is_err());
    }

    #[test]
    fn a_check_is_a_protocol_and_a_port() {
        assert_eq!(check("none"), Ok(Tried(CheckSpec::None, None)));
        assert_eq!(check("tls:443"), Ok(Tried(CheckSpec::Tls, Some(443))));
        for bad in ["tcp", "tcp:", "udp:53", "tcp:65536", "443"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
