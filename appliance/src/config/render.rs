//! The resolved configuration for people.

mod dns64;
mod first_hop;
mod nat64;
mod splicer;

use super::{Config, Device, Isolation, Network};
use crate::cli::table::{Align, Table};
use causeway_core::net::Role;
use std::fmt::{Display, Write as _};

fn list<T: Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "-".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn or<T: Display>(value: Option<T>, otherwise: &str) -> String {
    value.map_or_else(|| otherwise.to_owned(), |v| v.to_string())
}

/// The whole configuration.
pub(super) fn render(c: &Config) -> String {
    let mut out = String::new();
    let g = &c.gateway;
    let r = &c.resolved;
    let by_profile = |given: bool| if given { "" } else { " (profile)" };
    let mut t = Table::pairs();
    t.pair("gateway", &g.name);
    t.pair("profile", &g.profile);
    t.pair(
        "workers",
        format!(
            "{}{}, {} when idle",
            r.workers,
            by_profile(g.workers.is_some() || !g.cores.is_empty()),
            r.idle
        ),
    );
    t.pair("cores", if g.cores.is_empty() { "chosen at start".to_owned() } else { list(&g.cores) });
    t.pair("main core", or(g.main_core, "chosen at start"));
    t.pair("sessions", format!("{}{}", r.sessions, by_profile(c.capacity.sessions.is_some())));
    t.pair("mappings", format!("{}{}", r.mappings, by_profile(c.capacity.mappings.is_some())));
    t.pair("spliced", format!("{}{}", r.spliced, by_profile(c.capacity.spliced.is_some())));
    t.pair("control socket", c.control.socket.path().display());
    t.pair("isolation", isolation(&c.isolation));
    t.pair(
        "watchdog",
        format!(
            "warns after {}, ends the process after {}",
            c.watchdog.warn,
            or(c.watchdog.abort.0, "(off)")
        ),
    );
    t.pair("log", format!("{} as {}", c.log.filter, c.log.format));
    let _ = writeln!(out, "{t}");

    let mut t = Table::new(&[("PORT", Align::Left), ("DEVICE", Align::Left), ("MTU", Align::Right)]);
    for p in &c.ports {
        let device = match &p.device {
            Device::Vdev(v) => v.as_str(),
            Device::Pci(a) => a.as_str(),
        };
        t.row([p.name.to_string(), device.to_owned(), or(c.port_mtu(&p.name).map(super::Mtu::octets), "-")]);
    }
    let _ = writeln!(out, "{t}");

    for n in &c.networks {
        let _ = writeln!(out, "{}", network(n, c));
    }

    if !c.routes.is_empty() {
        let mut t = Table::new(&[("ROUTE", Align::Left), ("VIA", Align::Left), ("NETWORK", Align::Left)]);
        for r in &c.routes {
            t.row([r.prefix.to_string(), r.via.to_string(), or(r.network.as_ref(), "-")]);
        }
        let _ = writeln!(out, "{t}");
    }

    out.push_str(&first_hop::sections(c));
    if let Some(d) = &c.dns64 {
        let _ = writeln!(out, "{}", dns64::table(d));
    }
    if let Some(s) = &c.splicer {
        let _ = writeln!(out, "{}", splicer::table(s));
    }

    let mut t = Table::pairs();
    match &c.nat64 {
        None => t.pair("nat64", "off"),
        Some(n) => {
            let addresses: u64 = n.pool.iter().map(|p| 1u64 << (32 - p.len())).sum();
            t.pair("nat64 prefixes", list(&n.prefixes));
            t.pair("  pool", format!("{} ({addresses} addresses)", list(&n.pool)));
            t.pair("  ports", format!("{} ({} per address and protocol)", n.ports, n.ports.count()));
            t.pair("  filtering", n.filtering);
            t.pair("  lowest IPv6 MTU", n.lowest_ipv6_mtu.octets());
            t.pair("  UDP timeout", n.timeouts.udp);
            t.pair("  TCP established", n.timeouts.tcp_established);
            t.pair("  TCP transitory", n.timeouts.tcp_transitory);
            t.pair("  TCP opening", n.timeouts.tcp_opening);
            t.pair("  TCP incoming SYN", n.timeouts.tcp_incoming_syn);
            t.pair("  ICMP timeout", n.timeouts.icmp);
            nat64::pairs(&mut t, n);
            let (logs, to) = n.log.render();
            t.pair("  logs", logs);
            t.pair("  log to", to);
        }
    }
    let i = &c.icmp;
    t.pair(
        "icmp errors",
        format!("{} a second, {} at once", i.errors_per_second.get(), i.errors_burst.get()),
    );
    t.pair("echo answers", format!("{} a second, {} at once", i.echo_per_second.get(), i.echo_burst.get()));
    let n = &c.neighbor;
    t.pair(
        "neighbors",
        format!(
            "{} known, {} looked for, {} packets wait for each",
            n.capacity.get(),
            n.incomplete.get(),
            n.queue.get()
        ),
    );
    t.pair("  reachable time", n.reachable_time);
    t.pair("  retransmit time", n.retransmit_time);
    t.pair("  new ones a second", n.resolutions_per_second.get());
    let _ = write!(out, "{t}");
    for note in &c.notes {
        let _ = write!(out, "\nnote: {note}");
    }
    if !c.notes.is_empty() {
        out.push('\n');
    }
    out
}

fn network(n: &Network, c: &Config) -> Table {
    let mut t = Table::pairs();
    let role = match n.role {
        Role::Tenant => "tenant",
        Role::Uplink => "uplink",
    };
    let vlan = n.vlan.map_or_else(String::new, |v| format!(", VLAN {}", v.id()));
    t.pair("network", format!("{} ({role}) on port {}{vlan}", n.name, n.port));
    t.pair("  IPv6", list(&n.addresses6));
    t.pair("  IPv4", list(&n.addresses4));
    t.pair("  link-local", or(n.link_local.map(super::LinkLocal::address), "from the MAC address"));
    t.pair(
        "  on-link",
        [list(&n.on_link6), list(&n.on_link4)].join(", ").replace("-, ", "").replace(", -", ""),
    );
    t.pair("  MTU", n.mtu.octets());
    if n.role == Role::Tenant {
        t.pair("  inbound", n.inbound);
        t.pair("  may send from", list(&n.sources));
    }
    first_hop::network(&mut t, n, c);
    t
}

fn isolation(i: &Isolation) -> String {
    if !i.enabled {
        return "off: tenant networks reach each other".to_owned();
    }
    if i.allow.is_empty() {
        return "on: tenant networks do not reach each other".to_owned();
    }
    let pairs: Vec<String> = i.allow.iter().map(|(a, b)| format!("{a} and {b}")).collect();
    format!("on, but for {}", pairs.join("; "))
}
