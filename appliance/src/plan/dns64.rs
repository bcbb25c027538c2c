//! What the resolver is told of a configuration.

use super::Plan;
use crate::config::{self, Config, DEFAULT_VIEW, DnsRules};
use causeway_core::Prefix6;
use causeway_dns64::config::{
    CacheSettings, Limits, LocalName, OnFailure, Stale, Synthesis, Tcp, Upstream, View,
};
use causeway_dns64::policy::NameSet;
use causeway_dns64::status::{UpstreamStatus, UpstreamsStatus};
use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;

/// The settings of the resolver, if it is configured. View 0 is that of the clients that no view names.
#[must_use]
pub fn dns64_of(config: &Config) -> Option<causeway_dns64::Config> {
    let d = config.dns64.as_ref()?;
    let synthesis = synthesis(&d.rules);
    let first = view(DEFAULT_VIEW, &d.rules, &synthesis);
    let views = d.views.iter().map(|v| view(v.name.as_str(), &v.rules, &synthesis));
    Some(causeway_dns64::Config {
        listen: d.listen.iter().map(|a| a.address()).collect(),
        clients: clients(d),
        views: std::iter::once(first).chain(views).collect(),
        upstreams: d.upstreams.iter().map(|r| r.address()).collect(),
        upstream: Upstream {
            patience: d.timeout.duration(),
            tries: d.tries.get(),
            in_flight: d.in_flight.get(),
            ports: (d.ports.first(), d.ports.last()),
            case: d.case,
        },
        cache: CacheSettings {
            octets: d.cache.octets(),
            max_ttl: d.max_ttl.seconds(),
            max_negative_ttl: d.max_negative_ttl.seconds(),
            failure_ttl: d.failure_ttl.seconds(),
            prefetch: d.prefetch,
            stale: d.stale.get().map(|most| Stale {
                for_seconds: most.seconds(),
                ttl: d.stale_ttl.seconds(),
                after: d.stale_after.duration(),
            }),
        },
        limits: Limits {
            client_bits: d.client_length.bits(),
            rate: (d.client_rate.get(), d.client_burst.get()),
            in_flight: d.client_in_flight.get(),
        },
        tcp: Tcp {
            connections: d.tcp.connections.get(),
            per_client: d.tcp.per_client.get(),
            idle: d.tcp.idle.duration(),
            pipelined: d.tcp.pipelined.get(),
        },
        udp_octets: d.udp_size.octets(),
        sample_every: d.sample_every.get(),
        synthesis,
    })
}

/// Who has which view, the longest prefixes first.
fn clients(d: &config::Dns64) -> Vec<(Prefix6, u16)> {
    let first = d.clients.iter().map(|p| (*p, 0));
    let others = (1u16..).zip(&d.views).flat_map(|(n, view)| view.clients.iter().map(move |p| (*p, n)));
    let mut all: Vec<(Prefix6, u16)> = first.chain(others).collect();
    all.sort_by_key(|(p, _)| (Reverse(p.len()), p.address()));
    all
}

fn names(list: &[config::DomainName]) -> NameSet {
    NameSet::new(list.iter().map(config::DomainName::wire).collect())
}

fn view(name: &str, rules: &DnsRules, of_all: &Synthesis) -> View {
    let synthesis = synthesis(rules);
    View {
        name: name.into(),
        prefix: rules.prefix.map(config::Nat64Prefix::prefix),
        // Answers of a view with rules of its own are not kept: no view multiplies the cache.
        synthesis: (synthesis != *of_all).then_some(synthesis),
        always: names(&rules.always),
        never: names(&rules.never),
        blocked: names(&rules.block),
        local: rules
            .local
            .iter()
            .map(|l| LocalName { name: l.name.wire(), addresses: l.addresses.clone(), ttl: l.ttl.seconds() })
            .collect(),
    }
}

fn synthesis(rules: &DnsRules) -> Synthesis {
    Synthesis {
        exclude_aaaa: rules.exclude_aaaa.clone(),
        exclude_a: rules.exclude_a.clone(),
        only_a: rules.only_a.clone(),
        on_failure: match rules.on_failure {
            config::OnFailure::Fail => OnFailure::Fail,
            config::OnFailure::Synthesise => OnFailure::Synthesise,
        },
    }
}

/// True if answers that were cached under `old` settings may be others than those that `new` ones would make: the cache
/// is shared by all views that have the rules of all, and by all prefixes of one kind.
#[must_use]
pub fn outdates(old: &causeway_dns64::Config, new: &causeway_dns64::Config) -> bool {
    let prefixes = |c: &causeway_dns64::Config| {
        let mut all: Vec<Prefix6> = c.views.iter().filter_map(|v| v.prefix).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    old.synthesis != new.synthesis || prefixes(old) != prefixes(new)
}

/// Where workers write how upstreams do: one for each worker. Those of the plan before go on if they are of the same
/// upstreams.
pub(super) fn status_of(
    dns64: Option<&causeway_dns64::Config>,
    workers: u16,
    before: Option<&Plan>,
) -> Vec<Arc<UpstreamsStatus>> {
    let Some(dns64) = dns64 else { return Vec::new() };
    let old = before.map_or(&[][..], |plan| &plan.dns64_status);
    let same = |s: &&Arc<UpstreamsStatus>| s.list.iter().map(|(address, _)| address).eq(&dns64.upstreams);
    let of = |n: usize| old.get(n).filter(same).map_or_else(|| Arc::new(fresh(&dns64.upstreams)), Arc::clone);
    (0..usize::from(workers)).map(of).collect()
}

fn fresh(upstreams: &[SocketAddr]) -> UpstreamsStatus {
    UpstreamsStatus { list: upstreams.iter().map(|a| (*a, UpstreamStatus::default())).collect() }
}
