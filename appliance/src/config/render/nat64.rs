//! NAT64's finer settings, its subscribers and its static mappings.

use super::super::{Allocation, Limits, Nat64};
use super::{list, or};
use crate::cli::table::Table;

/// Tenants and static mappings that are listed one by one.
const LISTED: usize = 100;

pub(super) fn pairs(t: &mut Table, n: &Nat64) {
    t.pair("  fragments wait", n.timeouts.fragment);
    t.pair("  ports rest", n.hold_down);
    t.pair("  UDP parity", if n.keep_parity { "kept where possible" } else { "not kept" });
    t.pair("  type of service", n.tos);
    t.pair("  traffic class", n.traffic_class);
    t.pair("  DF", n.df);
    t.pair("  UDP checksum zero", n.udp_zero_checksum);
    t.pair("  TCP MSS clamp", n.mss_clamp);
    t.pair("  errors name routers", if n.identify_routers { "yes" } else { "no" });
    t.pair("  errors come from", or(n.icmp_source, "the gateway's own addresses"));
    let s = &n.subscribers;
    t.pair("  subscribers", format!("each /{}, at most {} at once", s.prefix_length, s.capacity));
    t.pair("    may have", limits(&s.limits));
    for tenant in n.tenants.iter().take(LISTED) {
        t.pair(&format!("  tenant {}", tenant.name), list(&tenant.prefixes));
        let pool = if tenant.pool.is_empty() { "shared".to_owned() } else { list(&tenant.pool) };
        t.pair("    pool", pool);
        t.pair("    may have", limits(&tenant.limits));
    }
    more(t, "  tenants", n.tenants.len());
    t.pair("  allocation", allocation(&n.allocation));
    for m in n.static_mappings.iter().take(LISTED) {
        t.pair(&format!("  static {}", m.protocol), format!("{} is {}", m.outside, m.inside));
    }
    more(t, "  static mappings", n.static_mappings.len());
}

fn more(t: &mut Table, what: &str, count: usize) {
    if count > LISTED {
        t.pair(what, format!("and {} more", count - LISTED));
    }
}

fn limits(l: &Limits) -> String {
    let or_any = |value: Option<String>, what: &str| match value {
        Some(n) => format!("{n} {what}"),
        None => format!("any number of {what}"),
    };
    let rate = match l.new_sessions_per_second.get() {
        Some(rate) => format!("{rate} new ones a second and {} at once", l.new_sessions_burst),
        None => "new ones at any rate".to_owned(),
    };
    format!(
        "{} to {} of each protocol, {}, {rate}",
        l.ports_min,
        or_any(l.ports_max.get().map(|n| n.to_string()), "ports"),
        or_any(l.sessions_max.get().map(|n| n.to_string()), "sessions"),
    )
}

fn allocation(a: &Allocation) -> String {
    match a {
        Allocation::Single => "ports one by one".to_owned(),
        Allocation::Blocks { block_size } => format!("blocks of {} ports", block_size.ports()),
        Allocation::Deterministic { hosts } => format!("deterministic for {}", list(hosts)),
    }
}
