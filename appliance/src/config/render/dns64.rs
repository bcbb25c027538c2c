//! The resolver.

use super::super::{DEFAULT_VIEW, Dns64, DnsRules, LocalName};
use super::first_hop::yes_no;
use super::{list, or};
use crate::cli::table::Table;

/// Names, prefixes and views that are listed one by one.
const LISTED: usize = 100;

pub(super) fn table(d: &Dns64) -> Table {
    let mut t = Table::pairs();
    t.pair("dns64 upstreams", list(&d.upstreams));
    t.pair("  answers at", list(&d.listen));
    t.pair(
        "  asks",
        format!(
            "for up to {} and {} times, from ports {}, with random case: {}",
            d.timeout,
            d.tries,
            d.ports,
            yes_no(d.case)
        ),
    );
    t.pair("  under way", format!("{} questions at each worker", d.in_flight));
    t.pair("  cache", format!("{}, popular names are refreshed: {}", d.cache, yes_no(d.prefetch)));
    t.pair(
        "  answers kept",
        format!("{}, negative ones {}, failures {}", d.max_ttl, d.max_negative_ttl, d.failure_ttl),
    );
    t.pair(
        "  stale answers",
        match d.stale.get() {
            None => "never".to_owned(),
            Some(most) => {
                format!("for {most} after their end, after {}, with TTL {}", d.stale_after, d.stale_ttl)
            }
        },
    );
    t.pair("  UDP answers", format!("up to {} octets", d.udp_size));
    t.pair(
        "  one client",
        format!(
            "a /{}: {} questions a second, {} at once, {} under way, at each worker",
            d.client_length, d.client_rate, d.client_burst, d.client_in_flight
        ),
    );
    t.pair(
        "  TCP",
        format!(
            "{} connections at each worker, {} of a client, idle for {}, {} questions at once",
            d.tcp.connections, d.tcp.per_client, d.tcp.idle, d.tcp.pipelined
        ),
    );
    t.pair(
        "  logs",
        match d.sample_every.get() {
            0 => "no questions".to_owned(),
            1 => "each question".to_owned(),
            n => format!("one of {n} questions"),
        },
    );
    rules(&mut t, DEFAULT_VIEW, &d.clients, &d.rules, None);
    for view in d.views.iter().take(LISTED) {
        rules(&mut t, view.name.as_str(), &view.clients, &view.rules, Some(&d.rules));
    }
    if d.views.len() > LISTED {
        t.pair("  views", format!("and {} more", d.views.len() - LISTED));
    }
    t
}

/// A list of which the end may be left out.
fn some<T: std::fmt::Display>(items: &[T]) -> String {
    match items.get(..LISTED) {
        Some(first) if items.len() > LISTED => format!("{} and {} more", list(first), items.len() - LISTED),
        _ => list(items),
    }
}

fn rules(
    t: &mut Table,
    name: &str,
    clients: &[causeway_core::Prefix6],
    r: &DnsRules,
    outer: Option<&DnsRules>,
) {
    t.pair(
        &format!("  view {name}"),
        if clients.is_empty() { "for nobody".to_owned() } else { format!("for {}", some(clients)) },
    );
    t.pair("    AAAA made with", or(r.prefix, "nothing: none are made"));
    for (what, names, same) in [
        ("    always for", &r.always, outer.map(|o| o.always == r.always)),
        ("    never for", &r.never, outer.map(|o| o.never == r.never)),
        ("    blocked", &r.block, outer.map(|o| o.block == r.block)),
    ] {
        if !names.is_empty() && same != Some(true) {
            t.pair(what, some(names));
        }
    }
    if outer.is_none_or(|o| {
        (&o.exclude_aaaa, &o.exclude_a, &o.only_a) != (&r.exclude_aaaa, &r.exclude_a, &r.only_a)
    }) {
        t.pair("    AAAA left out", some(&r.exclude_aaaa));
        t.pair("    A not used", some(&r.exclude_a));
        t.pair("    A used", if r.only_a.is_empty() { "all others".to_owned() } else { some(&r.only_a) });
    }
    if outer.is_none_or(|o| o.on_failure != r.on_failure) {
        let what = match r.on_failure {
            super::super::OnFailure::Fail => "is told",
            super::super::OnFailure::Synthesise => "counts as no AAAA",
        };
        t.pair("    a failure", what);
    }
    let told = |l: &&LocalName| outer.is_none_or(|o| !o.local.contains(l));
    for l in r.local.iter().filter(told).take(LISTED) {
        t.pair("    local", format!("{}: {}, TTL {}", l.name, list(&l.addresses), l.ttl));
    }
    let locals = r.local.iter().filter(told).count();
    if locals > LISTED {
        t.pair("    local", format!("and {} more", locals - LISTED));
    }
}
