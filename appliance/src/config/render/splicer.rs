//! The splicer: listeners, sites, port maps.

use super::super::{AlpnRule, Backend, Health, IdentityKind, Listener, Site, Splicer, TriedBy};
use super::first_hop::yes_no;
use super::list;
use crate::cli::table::Table;

/// Listeners, sites and port maps that are listed one by one.
const LISTED: usize = 100;

pub(super) fn table(s: &Splicer) -> Table {
    let mut t = Table::pairs();
    t.pair("splicer", format!("at {}", list(&s.addresses())));
    t.pair(
        "  servers see",
        format!(
            "{} as clients, or PROXY, or the client under {}",
            list(&s.sources),
            list(&s.client_prefixes)
        ),
    );
    let l = &s.limits;
    t.pair(
        "  not spliced yet",
        format!(
            "{} connections, {} of a client, in {}, at each worker",
            l.connections, l.per_client, l.memory
        ),
    );
    t.pair("  reads", format!("hellos of {} octets, heads of {}", l.hello, l.head));
    t.pair(
        "  one client",
        match l.new_per_second.get() {
            Some(rate) => {
                format!("opens {rate} connections a second and {} at once, at each worker", l.new_burst)
            }
            None => "opens connections at any rate".to_owned(),
        },
    );
    let o = &s.timeouts;
    t.pair("  first octet within", o.first_octet);
    t.pair("  site known within", o.hello);
    t.pair("  server answers within", o.connect);
    t.pair("  handover within", o.handover);
    t.pair("  spliced", o.established);
    t.pair("  half closed", o.half_closed);
    t.pair("  closing", o.closing);
    t.pair("  not spliced at all", o.terminated);
    let c = &s.tcp;
    t.pair(
        "  TCP",
        format!(
            "window scale {}, timestamps: {}, selective acknowledgements: {}",
            c.window_scale,
            yes_no(c.timestamps),
            yes_no(c.sack)
        ),
    );
    for l in s.listeners.iter().take(LISTED) {
        t.pair(&format!("  listener {}:{}", l.address, l.port), listener(l));
    }
    more(&mut t, "  listeners", s.listeners.len());
    for site in s.sites.iter().take(LISTED) {
        self::site(&mut t, site);
    }
    more(&mut t, "  sites", s.sites.len());
    for m in s.port_maps.iter().take(LISTED) {
        t.pair(&format!("  port map {}", m.protocol), format!("{} is {}", m.outside, m.inside));
    }
    more(&mut t, "  port maps", s.port_maps.len());
    t.pair(
        "  port maps on request",
        s.port_map_range.map_or_else(|| "none".to_owned(), |range| format!("from {range}")),
    );
    t
}

fn more(t: &mut Table, what: &str, count: usize) {
    if count > LISTED {
        t.pair(what, format!("and {} more", count - LISTED));
    }
}

fn listener(l: &Listener) -> String {
    let what = match (l.tls, l.http) {
        (true, true) => "TLS and HTTP",
        (true, false) => "TLS",
        (false, true) => "HTTP",
        (false, false) => "any protocol",
    };
    let redirect = if l.redirect { ", HTTP is redirected to HTTPS" } else { "" };
    let others = match &l.default_site {
        Some(site) if l.tls || l.http => format!(", others go to {site}"),
        Some(site) => format!(", all go to {site}"),
        None => String::new(),
    };
    format!("{what}{redirect}{others}")
}

fn site(t: &mut Table, s: &Site) {
    let told = match s.identity {
        IdentityKind::None => "clients are not told".to_owned(),
        IdentityKind::Proxy1 => "clients are told by PROXY version 1".to_owned(),
        IdentityKind::Proxy2 => "clients are told by PROXY version 2".to_owned(),
        IdentityKind::Embedded => {
            format!("clients are under {}", s.client_prefix.map_or_else(String::new, |p| p.to_string()))
        }
    };
    let redirect = match s.redirect {
        Some(true) => ", HTTP is redirected to HTTPS",
        Some(false) => ", HTTP is never redirected",
        None => "",
    };
    t.pair(&format!("  site {}", s.name), format!("{told}{redirect}"));
    t.pair("    servers", servers(&s.backends));
    for AlpnRule { protocol, backends } in &s.alpn {
        t.pair(&format!("    for {protocol}"), servers(backends));
    }
    t.pair("    health", health(&s.health));
}

fn servers(backends: &[Backend]) -> String {
    let one = |b: &Backend| {
        let ports = if b.ports.is_empty() { String::new() } else { format!(" ports {},", list(&b.ports)) };
        let draining = if b.draining { ", draining" } else { "" };
        format!("{}{ports} weight {}{draining}", b.address, b.weight)
    };
    backends.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn health(h: &Health) -> String {
    let port = h.port.map_or(0, |p| p.get());
    let what = match h.check {
        TriedBy::None => return "not tried".to_owned(),
        TriedBy::Tcp => "TCP",
        TriedBy::Tls => "TLS",
    };
    format!(
        "{what} to port {port} every {}, for {}; up after {}, down after {}",
        h.interval, h.timeout, h.rise, h.fall
    )
}
