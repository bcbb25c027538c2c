//! The section `[dns64]`.

use super::Item;
use crate::config::dns64::{Dns64, DnsRules, DnsTcp, DnsView, LocalName};
use crate::config::read::{At, Read, Section};
use crate::config::types::{
    AnswerOctets, CacheTtl, ClientLength, Connections, DomainName, FailureTtl, Host6, IdleAfter, LocalTtl,
    MemorySize, Messages, Name, Nat64Prefix, OnFailure, Patience, PerSecond, PortRange, Questions, Resolver,
    SampleEvery, StaleAfter, StaleFor, StaleTtl, Tries,
};
use causeway_core::net::{Prefix4, Prefix6};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

#[derive(Debug)]
pub(in crate::config) struct Dns64Draft {
    pub(in crate::config) at: At,
    pub(in crate::config) upstreams: Vec<Item<Resolver>>,
    pub(in crate::config) listen: Option<Vec<Item<Host6>>>,
    pub(in crate::config) clients: Option<Vec<Item<Prefix6>>>,
    pub(in crate::config) rules: RulesDraft,
    cache: MemorySize,
    pub(in crate::config) max_ttl: CacheTtl,
    pub(in crate::config) max_negative_ttl: Item<CacheTtl>,
    failure_ttl: FailureTtl,
    prefetch: bool,
    pub(in crate::config) stale: StaleFor,
    stale_ttl: StaleTtl,
    pub(in crate::config) stale_after: Item<StaleAfter>,
    udp_size: AnswerOctets,
    pub(in crate::config) timeout: Patience,
    tries: Tries,
    pub(in crate::config) in_flight: Questions,
    pub(in crate::config) ports: Item<PortRange>,
    case: bool,
    client_length: Option<ClientLength>,
    client_rate: PerSecond,
    client_burst: Messages,
    client_in_flight: Questions,
    sample_every: SampleEvery,
    tcp: DnsTcp,
    pub(in crate::config) views: Vec<ViewDraft>,
}

/// Rules as they are written in one place; what is not written is nothing.
#[derive(Debug)]
pub(in crate::config) struct RulesDraft {
    pub(in crate::config) dns64: Option<Item<bool>>,
    pub(in crate::config) prefix: Option<Item<Nat64Prefix>>,
    pub(in crate::config) always: Option<Vec<Item<DomainName>>>,
    pub(in crate::config) never: Option<Vec<Item<DomainName>>>,
    pub(in crate::config) block: Option<Vec<Item<DomainName>>>,
    exclude_aaaa: Option<Vec<Item<Prefix6>>>,
    exclude_a: Option<Vec<Item<Prefix4>>>,
    only_a: Option<Vec<Item<Prefix4>>>,
    on_failure: Option<OnFailure>,
    pub(in crate::config) local: Vec<LocalDraft>,
}

#[derive(Debug)]
pub(in crate::config) struct LocalDraft {
    pub(in crate::config) name: Option<Item<DomainName>>,
    pub(in crate::config) addresses: Vec<Item<IpAddr>>,
    ttl: LocalTtl,
}

#[derive(Debug)]
pub(in crate::config) struct ViewDraft {
    pub(in crate::config) at: At,
    pub(in crate::config) name: Option<Item<Name>>,
    pub(in crate::config) networks: Vec<Item<Name>>,
    pub(in crate::config) sources: Vec<Item<Prefix6>>,
    pub(in crate::config) rules: RulesDraft,
}

impl Read for IpAddr {
    const ALLOWED: &'static str = "an address, as in 2001:db8:64::80 or 192.0.2.80";

    fn read(value: &toml::de::DeValue<'_>) -> Result<Self, String> {
        crate::config::read::string(value)?.parse().map_err(|_| "not an address".to_owned())
    }
}

/// A list if the key is there.
fn list<T: Read>(s: &Section<'_, '_>, key: &'static str) -> Option<Vec<Item<T>>> {
    let items = s.list(key);
    s.has(key).then_some(items)
}

/// A value with its place, which is the section's if it is not written.
fn placed<T: Read>(s: &Section<'_, '_>, key: &'static str, default: T) -> Item<T> {
    Item { at: s.place(key), value: s.or(key, default) }
}

pub(super) fn dns64(s: Section<'_, '_>) -> Option<Dns64Draft> {
    if !s.present() {
        return None;
    }
    let t = s.section("tcp");
    let tcp = DnsTcp {
        connections: t.or("connections", Connections::literal(512)),
        per_client: t.or("per-client", Connections::literal(16)),
        idle: t.or("idle", IdleAfter::literal_ms(10_000)),
        pipelined: t.or("pipelined", Questions::literal(32)),
    };
    t.finish();
    let max_ttl = s.or("max-ttl", CacheTtl::literal_ms(86_400_000));
    let stale = s.or("stale", StaleFor::OFF);
    for key in ["stale-ttl", "stale-after"] {
        if s.has(key) && stale == StaleFor::OFF {
            s.error(key, "`stale` is \"off\"", "only with `stale`");
        }
    }
    let draft = Dns64Draft {
        at: s.at.clone(),
        upstreams: s.some("upstreams"),
        listen: list(&s, "listen"),
        clients: list(&s, "clients"),
        rules: rules(&s),
        cache: s.or("cache", MemorySize::literal_mib(64)),
        max_ttl,
        max_negative_ttl: placed(&s, "max-negative-ttl", max_ttl.min(CacheTtl::literal_ms(3_600_000))),
        failure_ttl: s.or("failure-ttl", FailureTtl::literal_ms(5_000)),
        prefetch: s.or("prefetch", true),
        stale,
        stale_ttl: s.or("stale-ttl", StaleTtl::literal_ms(30_000)),
        stale_after: placed(&s, "stale-after", StaleAfter::literal_ms(1_800)),
        udp_size: s.or("udp-size", AnswerOctets::literal(1232)),
        timeout: s.or("timeout", Patience::literal_ms(4_000)),
        tries: s.or("tries", Tries::literal(5)),
        in_flight: s.or("in-flight", Questions::literal(4096)),
        ports: placed(&s, "ports", PortRange::DEFAULT),
        case: s.or("case", true),
        client_length: s.optional("client-length").map(|item| item.value),
        client_rate: s.or("client-rate", PerSecond::literal(50_000)),
        client_burst: s.or("client-burst", Messages::literal(10_000)),
        client_in_flight: s.or("client-in-flight", Questions::literal(256)),
        sample_every: s.or("sample-every", SampleEvery::literal(0)),
        tcp,
        views: s.sections("view").into_iter().map(view).collect(),
    };
    if s.is_empty_array("listen") {
        s.error("listen", "empty", "one or more");
    }
    s.finish();
    Some(draft)
}

fn rules(s: &Section<'_, '_>) -> RulesDraft {
    RulesDraft {
        dns64: s.optional("dns64"),
        prefix: s.optional("prefix"),
        always: list(s, "always"),
        never: list(s, "never"),
        block: list(s, "block"),
        exclude_aaaa: list(s, "exclude-aaaa"),
        exclude_a: list(s, "exclude-a"),
        only_a: list(s, "only-a"),
        on_failure: s.optional("on-failure").map(|item| item.value),
        local: s.sections("local").into_iter().map(local).collect(),
    }
}

fn local(s: Section<'_, '_>) -> LocalDraft {
    let draft = LocalDraft {
        name: s.required("name"),
        addresses: s.some("addresses"),
        ttl: s.or("ttl", LocalTtl::literal_ms(300_000)),
    };
    s.finish();
    draft
}

fn view(s: Section<'_, '_>) -> ViewDraft {
    let draft = ViewDraft {
        at: s.at.clone(),
        name: s.required("name"),
        networks: s.list("networks"),
        sources: s.list("sources"),
        rules: rules(&s),
    };
    s.finish();
    draft
}

fn values<T>(items: &[Item<T>]) -> Vec<T>
where
    T: Clone,
{
    items.iter().map(|item| item.value.clone()).collect()
}

/// How names are compared (RFC 4343 3).
fn folded(name: &DomainName) -> String {
    name.as_str().to_ascii_lowercase()
}

impl RulesDraft {
    /// All names that are written here, as they are compared.
    pub(in crate::config) fn names(&self) -> impl Iterator<Item = &Item<DomainName>> {
        let lists = [&self.always, &self.never, &self.block];
        let listed = lists.into_iter().flatten().flatten();
        listed.chain(self.local.iter().filter_map(|l| l.name.as_ref()))
    }

    /// The rules: what is written here, and else what `otherwise` has. A name that is written here is in no other
    /// list of `otherwise`. `prefix` is what counts without any.
    fn build(&self, otherwise: Option<&DnsRules>, prefix: Option<Nat64Prefix>) -> Option<DnsRules> {
        let here: HashSet<String> = self.names().map(|item| folded(&item.value)).collect();
        let names =
            |written: &Option<Vec<Item<DomainName>>>, other: fn(&DnsRules) -> &Vec<DomainName>| match written
            {
                Some(items) => values(items),
                None => otherwise
                    .iter()
                    .flat_map(|rules| other(rules))
                    .filter(|name| !here.contains(&folded(name)))
                    .cloned()
                    .collect(),
            };
        let mut local = self.local.iter().map(LocalDraft::build).collect::<Option<Vec<_>>>()?;
        let inherited = otherwise.iter().flat_map(|rules| &rules.local);
        local.extend(inherited.filter(|l| !here.contains(&folded(&l.name))).cloned());
        let mapped = Prefix6::new(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
        let dns64 = self.dns64.as_ref().map_or_else(|| otherwise.is_none_or(|r| r.dns64), |item| item.value);
        let written = self.prefix.as_ref().map(|item| item.value);
        Some(DnsRules {
            dns64,
            prefix: written.or(prefix).filter(|_| dns64),
            always: names(&self.always, |r| &r.always),
            never: names(&self.never, |r| &r.never),
            block: names(&self.block, |r| &r.block),
            exclude_aaaa: match (&self.exclude_aaaa, otherwise) {
                (Some(items), _) => values(items),
                (None, Some(rules)) => rules.exclude_aaaa.clone(),
                (None, None) => mapped.into_iter().collect(),
            },
            exclude_a: match (&self.exclude_a, otherwise) {
                (Some(items), _) => values(items),
                (None, rules) => rules.map(|r| r.exclude_a.clone()).unwrap_or_default(),
            },
            only_a: match (&self.only_a, otherwise) {
                (Some(items), _) => values(items),
                (None, rules) => rules.map(|r| r.only_a.clone()).unwrap_or_default(),
            },
            on_failure: self
                .on_failure
                .unwrap_or_else(|| otherwise.map_or(OnFailure::Fail, |r| r.on_failure)),
            local,
        })
    }
}

impl LocalDraft {
    fn build(&self) -> Option<LocalName> {
        Some(LocalName {
            name: self.name.as_ref()?.value.clone(),
            addresses: values(&self.addresses),
            ttl: self.ttl,
        })
    }
}

impl Dns64Draft {
    /// The section, if everything that it needs was read. `prefix` is the first NAT64 prefix, `listen` and
    /// `clients` are what was found out of the other sections, `of_views` the clients of each view.
    pub(in crate::config) fn build(
        &self,
        prefix: Option<Nat64Prefix>,
        client_length: ClientLength,
        listen: Vec<Host6>,
        clients: Vec<Prefix6>,
        of_views: Vec<Vec<Prefix6>>,
    ) -> Option<Dns64> {
        let rules = self.rules.build(None, prefix)?;
        // A view that wants DNS64 where nobody else has it takes the prefix that the others would have.
        let prefix = self.rules.prefix.as_ref().map(|item| item.value).or(prefix);
        let views = self.views.iter().zip(of_views).map(|(view, clients)| {
            Some(DnsView {
                name: view.name.as_ref()?.value.clone(),
                networks: values(&view.networks),
                sources: values(&view.sources),
                clients,
                rules: view.rules.build(Some(&rules), prefix)?,
            })
        });
        Some(Dns64 {
            upstreams: values(&self.upstreams),
            listen,
            clients,
            views: views.collect::<Option<_>>()?,
            rules,
            cache: self.cache,
            max_ttl: self.max_ttl,
            max_negative_ttl: self.max_negative_ttl.value,
            failure_ttl: self.failure_ttl,
            prefetch: self.prefetch,
            stale: self.stale,
            stale_ttl: self.stale_ttl,
            stale_after: self.stale_after.value,
            udp_size: self.udp_size,
            timeout: self.timeout,
            tries: self.tries,
            in_flight: self.in_flight,
            ports: self.ports.value,
            case: self.case,
            client_length: self.client_length.unwrap_or(client_length),
            client_rate: self.client_rate,
            client_burst: self.client_burst,
            client_in_flight: self.client_in_flight,
            sample_every: self.sample_every,
            tcp: self.tcp,
        })
    }
}
