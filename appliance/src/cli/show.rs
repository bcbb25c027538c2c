//! `causeway show`: asks the running gateway and lays the answer out.

use super::Show;
use super::table::{Align, Table};
use crate::control::client::{self, Client, ClientError};
use crate::control::dns::DnsReport;
use crate::control::introspect::{
    CounterKind, CounterRow, Generations, MappingPage, MappingRow, NeighborRow, PAGE, PlanReport, PoolRow,
    PortRow, RaRow, ReloadReport, SUBSCRIBERS_PAGE, SessionPage, SessionRow, SubscriberPage, SubscriberRow,
    VrrpReport,
};
use crate::control::lease_api::{self, LeasePage, LeaseRow};
use crate::control::leases::LeaseStatus;
use crate::control::site_api::SplicerReport;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::IpAddr;

/// An answer, for programs and for people.
pub(super) struct Shown {
    pub(super) json: Value,
    pub(super) text: String,
}

/// Asks for what is to be shown.
pub(super) fn fetch(client: &Client, what: Show) -> Result<Shown, ClientError> {
    match what {
        Show::Sessions { protocol, source, remote, outside, limit, .. } => {
            let filter = parameters([
                ("protocol", protocol.map(|p| p.to_string())),
                ("source", source),
                ("remote", remote),
                ("outside", outside),
            ]);
            sessions(client, &filter, limit)
        }
        Show::Mappings { protocol, source, outside, fixed, limit, .. } => {
            let filter = parameters([
                ("protocol", protocol.map(|p| p.to_string())),
                ("source", source),
                ("outside", outside),
                ("static", fixed.then(|| "true".to_owned())),
            ]);
            mappings(client, &filter, limit)
        }
        Show::Pool { protocol, outside, tenant, .. } => {
            let value = client.get("/v1/pool")?;
            let mut rows: Vec<PoolRow> = rows(client, &value, "pool")?;
            let outside = outside.as_deref().and_then(|p| client::prefix4(p).ok());
            rows.retain(|row| {
                protocol.is_none_or(|p| p == row.protocol)
                    && outside.is_none_or(|p| p.contains(row.address))
                    && (tenant.is_none() || tenant == row.tenant)
            });
            Ok(Shown { text: pool(&rows), json: json!({ "pool": rows }) })
        }
        Show::Subscribers { source, tenant, limit, .. } => {
            let limit = if limit == 0 { SUBSCRIBERS_PAGE } else { limit.min(SUBSCRIBERS_PAGE) };
            let filter = parameters([("source", source), ("tenant", tenant)]);
            let page = client.get(&format!("/v1/subscribers?limit={limit}{filter}"))?;
            let SubscriberPage { mut subscribers, more } = parse(client, page)?;
            subscribers.sort_by(|a, b| (&a.name, a.prefix).cmp(&(&b.name, b.prefix)));
            let mut text = subscriber_table(&subscribers);
            note_more(&mut text, subscribers.len(), more);
            Ok(Shown { json: json!({ "subscribers": subscribers, "more": more }), text })
        }
        Show::Neighbors { network, .. } => {
            let value = client.get("/v1/neighbors")?;
            let mut rows: Vec<NeighborRow> = rows(client, &value, "neighbors")?;
            rows.retain(|row| network.as_ref().is_none_or(|name| *name == row.interface));
            rows.sort_by(|a, b| (&a.interface, a.address).cmp(&(&b.interface, b.address)));
            Ok(Shown { text: neighbors(&rows), json: json!({ "neighbors": rows }) })
        }
        Show::Counters { all, drops, workers, .. } => {
            let value = client.get("/v1/counters")?;
            let mut rows: Vec<CounterRow> = rows(client, &value, "counters")?;
            rows.retain(|row| !drops || row.kind == CounterKind::Drop);
            Ok(Shown { text: counters(&rows, all, workers), json: json!({ "counters": rows }) })
        }
        Show::Ports { .. } => {
            let value = client.get("/v1/ports")?;
            let rows: Vec<PortRow> = rows(client, &value, "ports")?;
            Ok(Shown { text: ports(&rows), json: value })
        }
        Show::Leases { address, mac, network, active, limit, .. } => {
            let filter = parameters([
                ("address", address),
                ("mac", mac),
                ("network", network),
                ("active", active.then(|| "true".to_owned())),
            ]);
            let wanted = if limit == 0 { usize::MAX } else { limit };
            let (mut rows, mut after) = (Vec::<LeaseRow>::new(), Some(String::new()));
            while let Some(at) = after.take()
                && rows.len() < wanted
            {
                let some = (wanted - rows.len()).min(lease_api::PAGE);
                let behind = if at.is_empty() { at } else { format!("&after={at}") };
                let page = client.get(&format!("/v1/leases?limit={some}{filter}{behind}"))?;
                let page: LeasePage = parse(client, page)?;
                rows.extend(page.leases);
                after = page.next;
            }
            let more = after.is_some();
            let mut text = fetch_leases(&rows);
            note_more(&mut text, rows.len(), more);
            Ok(Shown { json: json!({ "leases": rows, "more": more }), text })
        }
        Show::Peer { .. } => {
            let value = client.get("/v1/leases/status")?;
            let status: LeaseStatus = rows1(client, &value, "status")?;
            Ok(Shown { text: lease_status(&status, &value["leases"]), json: value })
        }
        Show::Vrrp { .. } => {
            let value = client.get("/v1/vrrp")?;
            let report: Option<VrrpReport> = rows1(client, &value, "vrrp")?;
            let text = report.map_or_else(|| "no virtual routers are configured\n".to_owned(), |r| vrrp(&r));
            Ok(Shown { text, json: value })
        }
        Show::Dns { .. } => {
            let value = client.get("/v1/dns")?;
            let report: Option<DnsReport> = rows1(client, &value, "dns")?;
            let text =
                report.map_or_else(|| "no [dns64] is configured\n".to_owned(), |r| super::dns::report(&r));
            Ok(Shown { text, json: value })
        }
        Show::Splicer { .. } => {
            let value = client.get("/v1/splicer")?;
            let report: Option<SplicerReport> = rows1(client, &value, "splicer")?;
            let text = report
                .map_or_else(|| "no [splicer] is configured\n".to_owned(), |r| super::sites::report(&r));
            Ok(Shown { text, json: value })
        }
        Show::Ra { .. } => {
            let value = client.get("/v1/ra")?;
            let rows: Vec<RaRow> = rows(client, &value, "ra")?;
            Ok(Shown { text: router_advertisements(&rows), json: value })
        }
        Show::Plan { .. } => {
            let value = client.get("/v1/plan")?;
            let report: PlanReport = parse(client, value.clone())?;
            let text = format!("{}\n{}", generations(&report.generations), report.text);
            Ok(Shown { json: value, text })
        }
    }
}

pub(super) fn parse<T: DeserializeOwned>(client: &Client, value: Value) -> Result<T, ClientError> {
    serde_json::from_value(value).map_err(|e| ClientError::Broken {
        path: client.socket().to_owned(),
        problem: format!("the answer is not what this version expects: {e}"),
    })
}

/// One value of an answer.
fn rows1<T: DeserializeOwned>(client: &Client, value: &Value, key: &str) -> Result<T, ClientError> {
    parse(client, value.get(key).cloned().unwrap_or_default())
}

/// Leases as a table.
pub(super) fn fetch_leases(rows: &[LeaseRow]) -> String {
    let mut t = Table::new(&[
        ("ADDRESS", Align::Left),
        ("STATE", Align::Left),
        ("MAC", Align::Left),
        ("NETWORK", Align::Left),
        ("VALID UNTIL", Align::Left),
        ("IDENTITY", Align::Left),
        ("IAID", Align::Right),
    ]);
    for l in rows {
        t.row([
            super::leases::address(l),
            if l.kind == "registered" { format!("{} (registered)", l.state) } else { l.state.clone() },
            l.mac.clone().unwrap_or_else(|| "-".to_owned()),
            l.network.clone(),
            super::leases::readable(l.valid_until),
            l.identity.clone(),
            l.iaid.to_string(),
        ]);
    }
    t.to_string()
}

fn lease_status(s: &LeaseStatus, counts: &Value) -> String {
    let mut text = format!(
        "leases: {} active, {} free, {} declined\n",
        counts["active"], counts["free"], counts["declined"]
    );
    let _ = writeln!(text, "this gateway {}", if s.active { "answers" } else { "stands by" });
    let _ = writeln!(
        text,
        "requests: {} in {} groups (the largest {}), {} changes; {} while standing by",
        s.requests, s.groups, s.largest_group, s.changes, s.ignored
    );
    let d = &s.disk;
    match (&d.error, d.writable) {
        (Some(error), false) => {
            let _ = writeln!(text, "disk: CANNOT BE WRITTEN: {error}");
        }
        _ => {
            let _ = writeln!(
                text,
                "disk: writable, {} commits, the last took {} us, the longest {} us",
                d.commits, d.last_commit_us, d.longest_commit_us
            );
        }
    }
    let p = &s.peer;
    let standing = serde_json::to_value(p.standing).ok();
    let standing = standing.as_ref().and_then(Value::as_str).unwrap_or("?");
    let _ = writeln!(
        text,
        "peer: {standing}, {}, {} groups acknowledged, {} changes received, {} conflicts",
        if p.connected { "connected" } else { "not connected" },
        p.acknowledged,
        p.received,
        p.conflicts
    );
    if let Some(why) = &p.ended {
        let _ = writeln!(text, "peer: the last connection ended: {why}");
    }
    text
}

fn vrrp(r: &VrrpReport) -> String {
    let mut text = format!("state: {} for {} s\n", r.state, r.since_s);
    let _ = writeln!(
        text,
        "priority: {} (configured: {}), an advertisement every {} ms",
        r.effective_priority, r.priority, r.interval_ms
    );
    if let Some(address) = r.last_active {
        let _ = writeln!(text, "last other active router: {address}");
    }
    let _ = writeln!(
        text,
        "advertisements: {} sent, {} received; became active {} times, backup {} times",
        r.adverts_sent, r.adverts_received, r.became_active, r.became_backup
    );
    for reason in &r.tracking {
        let _ = writeln!(text, "lowered: {reason}");
    }
    let mut t = Table::new(&[
        ("NETWORK", Align::Left),
        ("VRID", Align::Right),
        ("MAC", Align::Left),
        ("FROM", Align::Left),
        ("ADDRESSES", Align::Left),
    ]);
    for v in &r.routers {
        let addresses: Vec<String> = v.addresses.iter().map(ToString::to_string).collect();
        t.row([
            v.network.clone(),
            v.vrid.to_string(),
            v.mac.clone(),
            v.source.to_string(),
            addresses.join(", "),
        ]);
    }
    text + &t.to_string()
}

fn router_advertisements(rows: &[RaRow]) -> String {
    if rows.is_empty() {
        return "no network has router advertisements\n".to_owned();
    }
    let mut text = String::new();
    for r in rows {
        let flag = |on: bool, name: &str| if on { format!(" {name}") } else { String::new() };
        let _ = writeln!(
            text,
            "{}: from {}, every {} to {} s",
            r.network, r.source, r.interval_s.1, r.interval_s.0
        );
        let _ = writeln!(
            text,
            "  router lifetime {} s, flags{}{}{}",
            r.router_lifetime_s,
            flag(r.managed, "M"),
            flag(r.other, "O"),
            r.mtu.map(|mtu| format!(", MTU {mtu}")).unwrap_or_default()
        );
        let mut list = |what: &str, items: Vec<String>| {
            if !items.is_empty() {
                let _ = writeln!(text, "  {what}: {}", items.join(", "));
            }
        };
        list(
            "prefixes",
            r.prefixes.iter().map(|(p, flags)| format!("{p} {flags}").trim_end().to_owned()).collect(),
        );
        list("routes", r.routes.iter().map(ToString::to_string).collect());
        list("DNS servers", r.dns_servers.iter().map(ToString::to_string).collect());
        list("search list", r.search.clone());
        list("NAT64 prefixes", r.pref64.iter().map(ToString::to_string).collect());
        list("withdrawn", r.withdrawn.iter().map(|(what, s)| format!("{what} for {s} s")).collect());
    }
    text
}

fn rows<T: DeserializeOwned>(client: &Client, value: &Value, key: &str) -> Result<Vec<T>, ClientError> {
    parse(client, value.get(key).cloned().unwrap_or_default())
}

/// What follows the limit in the address of a listing: the filters that are given.
fn parameters<const N: usize>(pairs: [(&str, Option<String>); N]) -> String {
    let given = pairs.into_iter().filter_map(|(key, value)| Some(format!("&{key}={}", value?)));
    given.collect()
}

/// Fetches pages of `/v1/WHAT` until there are `limit` rows (0: all) or no more pages; the rows, and true if
/// there may be more. `open` takes a page apart.
fn pages<P: DeserializeOwned, R>(
    client: &Client,
    what: &str,
    filter: &str,
    limit: usize,
    open: fn(P) -> (Vec<R>, Option<u64>),
) -> Result<(Vec<R>, bool), ClientError> {
    let wanted = if limit == 0 { usize::MAX } else { limit };
    let mut rows: Vec<R> = Vec::new();
    let mut cursor = Some(0u64);
    while let Some(at) = cursor
        && rows.len() < wanted
    {
        let page_limit = (wanted - rows.len()).min(PAGE);
        let page = client.get(&format!("/v1/{what}?cursor={at}&limit={page_limit}{filter}"))?;
        let (some, next) = open(parse(client, page)?);
        rows.extend(some);
        // A cursor that does not move would never end.
        cursor = next.filter(|next| *next > at);
    }
    rows.truncate(wanted);
    Ok((rows, cursor.is_some()))
}

pub(super) fn note_more(text: &mut String, rows: usize, more: bool) {
    if more {
        let _ = writeln!(text, "There may be more than these {rows}: see --limit.");
    }
}

fn sessions(client: &Client, filter: &str, limit: usize) -> Result<Shown, ClientError> {
    let open = |page: SessionPage| (page.sessions, page.next);
    let (rows, more) = pages(client, "sessions", filter, limit, open)?;
    let mut text = session_table(&rows);
    note_more(&mut text, rows.len(), more);
    Ok(Shown { json: json!({ "sessions": rows, "more": more }), text })
}

fn mappings(client: &Client, filter: &str, limit: usize) -> Result<Shown, ClientError> {
    let open = |page: MappingPage| (page.mappings, page.next);
    let (rows, more) = pages(client, "mappings", filter, limit, open)?;
    let mut text = mapping_table(&rows);
    note_more(&mut text, rows.len(), more);
    Ok(Shown { json: json!({ "mappings": rows, "more": more }), text })
}

/// An address and a port, as RFC 5952 6 writes them.
fn endpoint(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(a) => format!("{a}:{port}"),
        IpAddr::V6(a) => format!("[{a}]:{port}"),
    }
}

/// Seconds with the two largest units that are not zero, as in `2h4m`.
fn seconds(s: u64) -> String {
    let units = [(s / 86_400, "d"), (s / 3600 % 24, "h"), (s / 60 % 60, "m"), (s % 60, "s")];
    let Some(first) = units.iter().position(|(n, _)| *n > 0) else { return "0s".to_owned() };
    units[first..].iter().take(2).filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect()
}

fn session_table(rows: &[SessionRow]) -> String {
    if rows.is_empty() {
        return "no sessions\n".to_owned();
    }
    let mut t = Table::new(&[
        ("PROTO", Align::Left),
        ("INSIDE", Align::Left),
        ("REMOTE", Align::Left),
        ("OUTSIDE", Align::Left),
        ("STATE", Align::Left),
        ("IDLE", Align::Right),
        ("EXPIRES", Align::Right),
    ]);
    for r in rows {
        let outside = match (r.outside, r.outside_port) {
            (Some(a), Some(port)) => endpoint(IpAddr::V4(a), port),
            (Some(a), None) => a.to_string(),
            _ => "-".to_owned(),
        };
        t.row([
            r.protocol.to_string(),
            endpoint(IpAddr::V6(r.inside), r.inside_port),
            // ICMP has one identifier for both sides.
            if r.remote_port == 0 { r.remote.to_string() } else { endpoint(r.remote, r.remote_port) },
            outside,
            r.state.clone(),
            seconds(r.idle_s),
            seconds(r.expires_s),
        ]);
    }
    t.to_string()
}

fn mapping_table(rows: &[MappingRow]) -> String {
    if rows.is_empty() {
        return "no mappings\n".to_owned();
    }
    let mut t = Table::new(&[
        ("PROTO", Align::Left),
        ("INSIDE", Align::Left),
        ("OUTSIDE", Align::Left),
        ("KIND", Align::Left),
        ("SESSIONS", Align::Right),
    ]);
    for r in rows {
        t.row([
            r.protocol.to_string(),
            endpoint(IpAddr::V6(r.inside), r.inside_port),
            endpoint(IpAddr::V4(r.outside), r.outside_port),
            if r.fixed { "static" } else { "dynamic" }.to_owned(),
            r.sessions.to_string(),
        ]);
    }
    t.to_string()
}

fn subscriber_table(rows: &[SubscriberRow]) -> String {
    if rows.is_empty() {
        return "no subscribers are accounted\n".to_owned();
    }
    let mut t = Table::new(&[
        ("PREFIX", Align::Left),
        ("TENANT", Align::Left),
        ("ADDRESS", Align::Left),
        ("SESSIONS", Align::Right),
        ("UDP", Align::Right),
        ("TCP", Align::Right),
        ("ICMP", Align::Right),
        ("BLOCKS", Align::Right),
        ("REFUSED", Align::Right),
    ]);
    for r in rows {
        let refused = r.refused.ports.saturating_add(r.refused.sessions).saturating_add(r.refused.rate);
        t.row([
            r.prefix.to_string(),
            r.name.clone().unwrap_or_else(|| "-".to_owned()),
            r.address.map_or_else(|| "-".to_owned(), |a| a.to_string()),
            r.sessions.to_string(),
            r.ports.udp.to_string(),
            r.ports.tcp.to_string(),
            r.ports.icmp.to_string(),
            r.blocks.len().to_string(),
            refused.to_string(),
        ]);
    }
    t.to_string()
}

fn pool(rows: &[PoolRow]) -> String {
    if rows.is_empty() {
        return "no pool addresses\n".to_owned();
    }
    let mut t = Table::new(&[
        ("ADDRESS", Align::Left),
        ("TENANT", Align::Left),
        ("PROTO", Align::Left),
        ("IN USE", Align::Right),
        ("OF", Align::Right),
        ("PERCENT", Align::Right),
    ]);
    for r in rows {
        t.row([
            r.address.to_string(),
            r.tenant.clone().unwrap_or_else(|| "-".to_owned()),
            r.protocol.to_string(),
            r.in_use.to_string(),
            r.of.to_string(),
            (u64::from(r.in_use) * 100 / u64::from(r.of.max(1))).to_string(),
        ]);
    }
    t.to_string()
}

fn neighbors(rows: &[NeighborRow]) -> String {
    if rows.is_empty() {
        return "no neighbours\n".to_owned();
    }
    let mut t = Table::new(&[
        ("NETWORK", Align::Left),
        ("ADDRESS", Align::Left),
        ("MAC", Align::Left),
        ("STATE", Align::Left),
        ("AGE", Align::Right),
        ("MOVES", Align::Right),
    ]);
    for r in rows {
        t.row([
            r.interface.clone(),
            r.address.to_string(),
            r.mac.clone().unwrap_or_else(|| "-".to_owned()),
            r.state.clone(),
            seconds(r.age_s),
            r.moves.to_string(),
        ]);
    }
    t.to_string()
}

fn counters(rows: &[CounterRow], all: bool, per_worker: bool) -> String {
    let shown: Vec<&CounterRow> = rows.iter().filter(|r| all || r.total > 0).collect();
    if shown.is_empty() {
        return "all counters are zero\n".to_owned();
    }
    let workers = if per_worker { shown.iter().map(|r| r.workers.len()).max().unwrap_or(0) } else { 0 };
    let heads: Vec<String> = (0..workers).map(|w| format!("WORKER {w}")).collect();
    let mut columns = vec![("NAME", Align::Left), ("TOTAL", Align::Right)];
    columns.extend(heads.iter().map(|head| (head.as_str(), Align::Right)));
    columns.push(("MEANING", Align::Left));
    let mut t = Table::new(&columns);
    for r in shown {
        let mut cells = vec![r.name.clone(), r.total.to_string()];
        cells.extend((0..workers).map(|w| r.workers.get(w).map_or_else(String::new, ToString::to_string)));
        cells.push(r.doc.clone());
        t.row(cells);
    }
    t.to_string()
}

fn ports(rows: &[PortRow]) -> String {
    let mut t = Table::new(&[
        ("PORT", Align::Left),
        ("DEVICE", Align::Left),
        ("DRIVER", Align::Left),
        ("MAC", Align::Left),
        ("MTU", Align::Right),
        ("QUEUES", Align::Right),
        ("LINK", Align::Left),
        ("FILTER", Align::Left),
        ("NETWORKS", Align::Left),
    ]);
    for r in rows {
        let link = match r.link {
            Some(true) => "up",
            Some(false) => "down",
            None => "-",
        };
        t.row([
            r.name.clone(),
            r.device.clone(),
            r.driver.clone(),
            r.mac.clone(),
            r.mtu.to_string(),
            r.rx_queues.to_string(),
            link.to_owned(),
            if r.promiscuous { "in software" } else { "in the device" }.to_owned(),
            r.networks.join(", "),
        ]);
    }
    t.to_string()
}

fn generations(g: &Generations) -> String {
    let workers: Vec<String> = g.workers.iter().map(ToString::to_string).collect();
    if g.workers.iter().all(|w| *w == g.newest) {
        format!("generation {}, in use by all {} workers", g.newest, g.workers.len())
    } else {
        format!("generation {}; workers use {}", g.newest, workers.join(", "))
    }
}

/// The outcome of a reload.
pub(super) fn reload(report: &Value) -> String {
    let Ok(report) = serde_json::from_value::<ReloadReport>(report.clone()) else {
        return "reloaded\n".to_owned();
    };
    let mut out = String::new();
    if report.changes.is_empty() {
        out.push_str("nothing has changed\n");
    } else {
        let _ = writeln!(out, "reloaded: {}", generations(&report.generations));
        for change in &report.changes {
            let _ = writeln!(out, "  {change}");
        }
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_show_their_two_largest_units() {
        for (s, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (7440, "2h4m"), (90_061, "1d1h"), (86_460, "1d")]
        {
            assert_eq!(seconds(s), text);
        }
    }

    #[test]
    fn rfc5952_6_an_ipv6_endpoint_has_brackets() {
        assert_eq!(endpoint("2001:db8::1".parse().unwrap(), 80), "[2001:db8::1]:80");
        assert_eq!(endpoint("192.0.2.1".parse().unwrap(), 80), "192.0.2.1:80");
    }
}
