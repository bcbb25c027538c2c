//! What hosts boot with: DNS, router advertisements, DHCPv6, virtual routers.

use super::super::{
    Config, DhcpServer, Dhcpv6, Dns, EncryptedDns, Network, Ra, RaPrefix, Reservation, SourceValidation, Vrrp,
};
use super::{list, or};
use crate::cli::table::Table;
use causeway_core::net::Role;
use std::fmt::Write as _;

/// Reservations that are listed one by one.
const LISTED: usize = 100;

pub(super) const fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// What a network has besides its addresses.
pub(super) fn network(t: &mut Table, n: &Network, c: &Config) {
    let link_local = n.virtual_link_local.iter().map(ToString::to_string);
    let moving: Vec<String> = link_local
        .chain(n.virtual6.iter().map(ToString::to_string))
        .chain(n.virtual4.iter().map(ToString::to_string))
        .collect();
    if !moving.is_empty() {
        t.pair("  virtual router", list(&moving));
    }
    if n.role != Role::Tenant {
        return;
    }
    let validation = match n.source_validation {
        SourceValidation::Off => "nothing is checked",
        SourceValidation::Prefix => "what it may send from",
        SourceValidation::Leased => "addresses leased, delegated or reserved to the sender",
    };
    t.pair("  sources checked", format!("{}: {validation}", n.source_validation));
    if n.dhcpv6_relays {
        t.pair("  DHCPv6 relays", "believed");
    }
    if let Some(uri) = &n.captive_portal {
        t.pair("  captive portal", uri);
    }
    match &n.ra {
        None => t.pair("  RA", "none"),
        Some(r) => ra(t, r, n, c),
    }
    match &n.dhcpv6 {
        None => t.pair("  DHCPv6", "none"),
        Some(d) => {
            t.pair("  DHCPv6", leases(d));
            dhcpv6(t, d, &n.reservations);
            if !n.ntp.is_empty() {
                t.pair("    NTP", list(&n.ntp));
            }
        }
    }
}

fn ra(t: &mut Table, r: &Ra, n: &Network, c: &Config) {
    let flags = format!("managed {}, other {}", yes_no(r.managed), yes_no(r.other));
    let router = if r.router_lifetime.is_zero() {
        "no default router".to_owned()
    } else {
        format!("default router for {}, preference {}", r.router_lifetime, r.preference)
    };
    t.pair("  RA", format!("every {} to {}: {flags}, {router}", r.min_interval, r.max_interval));
    t.pair("    asked for", format!("answered by {}", r.solicited));
    for p in &r.prefixes {
        t.pair("    prefix", prefix(p));
    }
    for route in &r.routes {
        let text = format!("{}, preference {}, {}", route.prefix, route.preference, route.lifetime);
        t.pair("    route", text);
    }
    t.pair(
        "    hop limit",
        if r.hop_limit.get() == 0 { "unsaid".to_owned() } else { r.hop_limit.to_string() },
    );
    t.pair("    MTU", if r.mtu { n.mtu.octets().to_string() } else { "unsaid".to_owned() });
    t.pair("    MAC address", if r.link_layer { "said" } else { "unsaid" });
    t.pair("    reachable time", or(r.reachable_time, "unsaid"));
    t.pair("    retransmit time", or(r.retransmit_time, "unsaid"));
    let pref64 = c.nat64.as_ref().filter(|_| r.pref64).and_then(|n| n.prefixes.first());
    t.pair("    PREF64", or(pref64, "none"));
    let dns = match (r.dns, c.dns.is_empty()) {
        (false, _) => "unsaid".to_owned(),
        (true, true) => "nothing to say".to_owned(),
        (true, false) => format!("as below, for {}", r.dns_lifetime),
    };
    t.pair("    DNS", dns);
}

fn prefix(p: &RaPrefix) -> String {
    format!(
        "{}: on-link {}, autonomous {}, valid {}, preferred {}",
        p.prefix,
        yes_no(p.on_link),
        yes_no(p.autonomous),
        p.valid_lifetime,
        p.preferred_lifetime
    )
}

fn leases(d: &Dhcpv6) -> String {
    format!("leases valid {}, preferred {}", d.valid_lifetime, d.preferred_lifetime)
}

fn dhcpv6(t: &mut Table, d: &Dhcpv6, reservations: &[Reservation]) {
    t.pair("    renewed after", format!("{}, rebound after {}", or(d.t1, "half"), or(d.t2, "four fifths")));
    t.pair("    pools", list(&d.pools));
    let delegate: Vec<String> =
        d.delegate.iter().map(|d| format!("/{}s of {}", d.length.bits(), d.prefix)).collect();
    t.pair("    delegates", list(&delegate));
    t.pair("    rapid commit", yes_no(d.rapid_commit));
    for (name, value) in [
        ("    boot file", d.boot_file_url.as_ref().map(ToString::to_string)),
        ("    SOL_MAX_RT", d.sol_max_rt.map(|v| v.to_string())),
        ("    INF_MAX_RT", d.inf_max_rt.map(|v| v.to_string())),
        ("    refresh", d.information_refresh.map(|v| v.to_string())),
    ] {
        if let Some(value) = value {
            t.pair(name, value);
        }
    }
    for r in reservations.iter().take(LISTED) {
        t.pair("    reserved", reservation(r));
    }
    if reservations.len() > LISTED {
        t.pair("    reserved", format!("and {} more", reservations.len() - LISTED));
    }
}

fn reservation(r: &Reservation) -> String {
    let iaid = r.iaid.map_or_else(String::new, |iaid| format!(" IAID {iaid}"));
    let who = match (&r.mac, &r.interface_id, &r.duid) {
        (Some(mac), ..) => format!("MAC {mac}"),
        (None, Some(id), _) => format!("interface-id {id}"),
        (None, None, Some(duid)) => format!("DUID {duid}{iaid}"),
        (None, None, None) => "nobody".to_owned(),
    };
    let boot = r.boot_file_url.as_ref().map(|url| format!("boots {url}"));
    let what: Vec<String> = r
        .addresses
        .iter()
        .map(ToString::to_string)
        .chain(r.prefixes.iter().map(ToString::to_string))
        .chain(boot)
        .collect();
    format!("{} for {who}", list(&what))
}

/// The sections of their own; empty if there are none.
pub(super) fn sections(c: &Config) -> String {
    let mut out = String::new();
    for table in [dns(&c.dns), c.dhcpv6.as_ref().map(server), c.vrrp.as_ref().map(vrrp)].into_iter().flatten()
    {
        let _ = writeln!(out, "{table}");
    }
    out
}

fn dns(d: &Dns) -> Option<Table> {
    if d.is_empty() {
        return None;
    }
    let mut t = Table::pairs();
    t.pair("dns servers", list(&d.servers));
    t.pair("  search", list(&d.search));
    for e in &d.encrypted {
        t.pair("  encrypted", encrypted(e));
    }
    Some(t)
}

fn encrypted(e: &EncryptedDns) -> String {
    let port = e.port.map_or_else(String::new, |port| format!(", port {port}"));
    let path = e.doh_path.as_ref().map_or_else(String::new, |path| format!(", path {path}"));
    format!("{} at {} by {}, priority {}{port}{path}", e.name, list(&e.addresses), list(&e.alpn), e.priority)
}

fn server(s: &DhcpServer) -> Table {
    let mut t = Table::pairs();
    t.pair("dhcpv6 leases", s.leases.path().display());
    t.pair("  at most", format!("{}, of one client {} of each kind", s.capacity, s.per_client));
    t.pair("  server DUID", or(s.duid.as_ref(), "the one kept with the leases"));
    t.pair("  preference", s.preference);
    t.pair("  addresses rest", format!("{}, declined ones {}", s.hold, s.decline_hold));
    t.pair("  history", s.history);
    t.pair("  messages", format!("{} a second and worker, {} at once", s.rate, s.burst));
    t.pair("  of one client", format!("{} a second, {} at once", s.client_rate, s.client_burst));
    match &s.peer {
        None => t.pair("  peer", "none"),
        Some(peer) => {
            let ends: Vec<String> = [("listens at", &peer.listen), ("connects to", &peer.connect)]
                .into_iter()
                .filter_map(|(what, end)| Some(format!("{what} {}", end.as_ref()?)))
                .collect();
            t.pair("  peer", list(&ends));
            t.pair("    secret", peer.secret_file.path().display());
            t.pair("    acknowledges", format!("within {}", peer.ack_timeout));
            t.pair("    alone", format!("{} after it was lost", peer.alone_after));
        }
    }
    for link in &s.links {
        t.pair("  link", format!("{}: {}, {}", link.name, list(&link.prefixes), leases(&link.dhcpv6)));
        dhcpv6(&mut t, &link.dhcpv6, &link.reservations);
        if !link.ntp.is_empty() {
            t.pair("    NTP", list(&link.ntp));
        }
        if let Some(uri) = &link.captive_portal {
            t.pair("    captive portal", uri);
        }
    }
    t
}

fn vrrp(v: &Vrrp) -> Table {
    let mut t = Table::pairs();
    t.pair("vrrp priority", v.priority);
    t.pair("  advertises every", v.interval);
    let preempt = match (v.preempt, v.preempt_delay.duration().is_zero()) {
        (false, _) => "no".to_owned(),
        (true, true) => "at once".to_owned(),
        (true, false) => format!("after {}", v.preempt_delay),
    };
    t.pair("  preempts", preempt);
    t.pair(
        "  accepts",
        if v.accept { "packets to its addresses" } else { "nothing but neighbour discovery" },
    );
    t.pair("  checksum IPv4", v.checksum4);
    for r in &v.routers {
        t.pair("  virtual router", format!("{} on {}: {}", r.vrid, r.network, list(&r.addresses)));
    }
    let k = &v.track;
    t.pair("  link down", if k.link { "ends all virtual routers" } else { "is no matter" });
    for hop in &k.next_hops {
        t.pair("  next hop", format!("{} on {} takes {}", hop.address, hop.network, hop.penalty));
    }
    t.pair("  worker stalled", format!("takes {}", k.worker_penalty));
    t.pair("  flow table full", format!("takes {}", k.table_penalty));
    t
}
