//! The section `[splicer]`.

use super::Item;
use crate::config::read::{At, Section};
use crate::config::splicer::{
    AlpnRule, Backend, Health, Listener, PortMap, Site, SpliceLimits, SpliceTcp, SpliceTimeouts, Splicer,
};
use crate::config::types::{
    Alpn, Burst, Checks, ClientPrefix, Endpoint4, Endpoint6, Host4, Host6, IdentityKind, InputOctets,
    MemorySize, Pause, PeekedConnections, PortNumber, PortRange4, PortsAt, SessionRate, SiteName,
    StaticProtocol, Timeout, TriedBy, Weight, WindowScale,
};

#[derive(Debug)]
pub(in crate::config) struct SplicerDraft {
    pub(in crate::config) at: At,
    pub(in crate::config) sources: Option<Vec<Item<Host6>>>,
    /// Those, or what is taken without; from the checks.
    pub(in crate::config) resolved_sources: Vec<Host6>,
    pub(in crate::config) client_prefixes: Vec<Item<ClientPrefix>>,
    pub(in crate::config) port_map_range: Option<Item<PortRange4>>,
    pub(in crate::config) limits: SpliceLimits,
    pub(in crate::config) timeouts: SpliceTimeouts,
    tcp: SpliceTcp,
    pub(in crate::config) listeners: Vec<ListenerDraft>,
    pub(in crate::config) sites: Vec<SiteDraft>,
    pub(in crate::config) port_maps: Vec<PortMapDraft>,
}

#[derive(Debug)]
pub(in crate::config) struct ListenerDraft {
    pub(in crate::config) at: At,
    pub(in crate::config) address: Option<Item<Host4>>,
    pub(in crate::config) port: Option<Item<PortNumber>>,
    pub(in crate::config) tls: bool,
    pub(in crate::config) http: bool,
    pub(in crate::config) default_site: Option<Item<SiteName>>,
    redirect: bool,
}

#[derive(Debug)]
pub(in crate::config) struct SiteDraft {
    pub(in crate::config) at: At,
    pub(in crate::config) name: Option<Item<SiteName>>,
    pub(in crate::config) identity: Item<IdentityKind>,
    pub(in crate::config) client_prefix: Option<Item<ClientPrefix>>,
    redirect: Option<bool>,
    health: Health,
    pub(in crate::config) backends: Vec<BackendDraft>,
    pub(in crate::config) alpn: Vec<AlpnDraft>,
}

#[derive(Debug)]
pub(in crate::config) struct AlpnDraft {
    pub(in crate::config) protocol: Option<Item<Alpn>>,
    pub(in crate::config) backends: Vec<BackendDraft>,
}

#[derive(Debug)]
pub(in crate::config) struct BackendDraft {
    pub(in crate::config) at: At,
    pub(in crate::config) address: Option<Item<Host6>>,
    pub(in crate::config) ports: Vec<Item<PortsAt>>,
    weight: Weight,
    draining: bool,
}

#[derive(Debug)]
pub(in crate::config) struct PortMapDraft {
    pub(in crate::config) protocol: Option<StaticProtocol>,
    pub(in crate::config) outside: Option<Item<Endpoint4>>,
    pub(in crate::config) inside: Option<Item<Endpoint6>>,
}

pub(super) fn splicer(s: Section<'_, '_>) -> Option<SplicerDraft> {
    if !s.present() {
        return None;
    }
    let sources = s.list("sources");
    if s.is_empty_array("sources") {
        s.error("sources", "empty", "one or more");
    }
    let draft = SplicerDraft {
        at: s.at.clone(),
        sources: s.has("sources").then_some(sources),
        resolved_sources: Vec::new(),
        client_prefixes: s.list("client-prefixes"),
        port_map_range: s.optional("port-map-range"),
        limits: limits(s.section("limits")),
        timeouts: timeouts(s.section("timeouts")),
        tcp: tcp(s.section("tcp")),
        listeners: s.sections("listener").into_iter().map(listener).collect(),
        sites: s.sections("site").into_iter().map(site).collect(),
        port_maps: s.sections("port-map").into_iter().map(port_map).collect(),
    };
    s.finish();
    Some(draft)
}

fn limits(s: Section<'_, '_>) -> SpliceLimits {
    if s.has("new-burst") && !s.has("new-per-second") {
        s.error("new-burst", "`new-per-second` is \"off\"", "only with `new-per-second`");
    }
    let limits = SpliceLimits {
        connections: s.or("connections", PeekedConnections::literal(8192)),
        per_client: s.or("per-client", PeekedConnections::literal(256)),
        memory: s.or("memory", MemorySize::literal_mib(256)),
        hello: s.or("hello", InputOctets::literal(65_536)),
        head: s.or("head", InputOctets::literal(16_384)),
        new_per_second: s.or("new-per-second", SessionRate::OFF),
        new_burst: s.or("new-burst", Burst::literal(100)),
    };
    s.finish();
    limits
}

fn timeouts(s: Section<'_, '_>) -> SpliceTimeouts {
    let established = s.or("established", Timeout::literal(7440));
    let timeouts = SpliceTimeouts {
        first_octet: s.or("first-octet", Pause::literal(10)),
        hello: s.or("hello", Pause::literal(10)),
        connect: s.or("connect", Pause::literal(5)),
        handover: s.or("handover", Pause::literal(10)),
        established,
        half_closed: s.or("half-closed", established),
        closing: s.or("closing", Timeout::literal(30)),
        terminated: s.or("terminated", Timeout::literal(3600)),
    };
    s.finish();
    timeouts
}

fn tcp(s: Section<'_, '_>) -> SpliceTcp {
    let tcp = SpliceTcp {
        window_scale: s.or("window-scale", WindowScale::literal(7)),
        timestamps: s.or("timestamps", true),
        sack: s.or("sack", true),
    };
    s.finish();
    tcp
}

fn listener(s: Section<'_, '_>) -> ListenerDraft {
    let draft = ListenerDraft {
        at: s.at.clone(),
        address: s.required("address"),
        port: s.required("port"),
        tls: s.or("tls", false),
        http: s.or("http", false),
        default_site: s.optional("default-site"),
        redirect: s.or("redirect", false),
    };
    if !draft.tls && !draft.http && !s.has("default-site") {
        s.error(
            "default-site",
            "missing",
            "the name of a [[splicer.site]], or `tls = true`, or `http = true`, by which clients say one",
        );
    }
    if draft.redirect && !draft.http {
        s.error("redirect", "`http` is false", "only with `http = true`");
    }
    s.finish();
    draft
}

fn site(s: Section<'_, '_>) -> SiteDraft {
    let draft = SiteDraft {
        at: s.at.clone(),
        name: s.required("name"),
        identity: Item { at: s.place("identity"), value: s.or("identity", IdentityKind::None) },
        client_prefix: s.optional("client-prefix"),
        redirect: s.optional("redirect").map(|item| item.value),
        health: health(s.section("health")),
        backends: backends(&s),
        alpn: s.sections("alpn").into_iter().map(alpn).collect(),
    };
    if s.has("client-prefix") && draft.identity.value != IdentityKind::Embedded {
        let problem = format!("`identity` is \"{}\"", draft.identity.value);
        s.error("client-prefix", problem, "only with `identity = \"embedded\"`");
    }
    s.finish();
    draft
}

fn alpn(s: Section<'_, '_>) -> AlpnDraft {
    let draft = AlpnDraft { protocol: s.required("protocol"), backends: backends(&s) };
    s.finish();
    draft
}

fn backends(s: &Section<'_, '_>) -> Vec<BackendDraft> {
    let sections = s.sections("backend");
    if !s.has("backend") {
        s.error("backend", "missing", format!("one or more sections [[{}.backend]]", unnumbered(&s.at.path)));
    } else if s.is_empty_array("backend") {
        s.error("backend", "empty", "one or more");
    }
    sections.into_iter().map(backend).collect()
}

/// A key path without the numbers of elements, as sections are written.
fn unnumbered(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

fn backend(s: Section<'_, '_>) -> BackendDraft {
    let draft = BackendDraft {
        at: s.at.clone(),
        address: s.required("address"),
        ports: s.list("ports"),
        weight: s.or("weight", Weight::literal(100)),
        draining: s.or("draining", false),
    };
    s.finish();
    draft
}

fn health(s: Section<'_, '_>) -> Health {
    let check = s.or("check", TriedBy::None);
    let interval = s.or("interval", Pause::literal(5));
    let timeout = s.optional::<Pause>("timeout").map(|item| item.value);
    if timeout.is_some_and(|timeout| timeout > interval) {
        s.error("timeout", "longer than `interval`", "a length of time not longer than `interval`");
    }
    let health = Health {
        check,
        port: s.optional("port").map(|item| item.value),
        interval,
        timeout: timeout.unwrap_or_else(|| Pause::literal(2).min(interval)),
        rise: s.or("rise", Checks::literal(2)),
        fall: s.or("fall", Checks::literal(3)),
    };
    if check == TriedBy::None {
        for key in ["port", "interval", "timeout", "rise", "fall"] {
            if s.has(key) {
                s.error(key, "`check` is \"none\"", "only with `check = \"tcp\"` or `check = \"tls\"`");
            }
        }
    } else if !s.has("port") {
        s.error("port", "missing", "the servers' port that is tried, 1 to 65535");
    }
    s.finish();
    health
}

fn port_map(s: Section<'_, '_>) -> PortMapDraft {
    let draft = PortMapDraft {
        protocol: s.required("protocol").map(|item| item.value),
        outside: s.required("outside"),
        inside: s.required("inside"),
    };
    s.finish();
    draft
}

fn values<T>(items: Vec<Item<T>>) -> Vec<T> {
    items.into_iter().map(|item| item.value).collect()
}

impl SplicerDraft {
    /// The section, if everything that it needs was read.
    pub(in crate::config) fn build(self) -> Option<Splicer> {
        let client_prefixes = values(self.client_prefixes);
        let first = client_prefixes.first().copied();
        Some(Splicer {
            sources: self.resolved_sources,
            client_prefixes,
            port_map_range: self.port_map_range.map(|item| item.value),
            limits: self.limits,
            timeouts: self.timeouts,
            tcp: self.tcp,
            listeners: self.listeners.into_iter().map(ListenerDraft::build).collect::<Option<_>>()?,
            sites: self.sites.into_iter().map(|site| site.build(first)).collect::<Option<_>>()?,
            port_maps: self.port_maps.into_iter().map(PortMapDraft::build).collect::<Option<_>>()?,
        })
    }
}

impl ListenerDraft {
    fn build(self) -> Option<Listener> {
        Some(Listener {
            address: self.address?.value,
            port: self.port?.value,
            tls: self.tls,
            http: self.http,
            default_site: self.default_site.map(|item| item.value),
            redirect: self.redirect,
        })
    }
}

impl SiteDraft {
    fn build(self, first: Option<ClientPrefix>) -> Option<Site> {
        let embedded = self.identity.value == IdentityKind::Embedded;
        Some(Site {
            name: self.name?.value,
            identity: self.identity.value,
            client_prefix: self.client_prefix.map(|item| item.value).or(first).filter(|_| embedded),
            redirect: self.redirect,
            health: self.health,
            backends: self.backends.into_iter().map(BackendDraft::build).collect::<Option<_>>()?,
            alpn: self.alpn.into_iter().map(AlpnDraft::build).collect::<Option<_>>()?,
        })
    }
}

impl AlpnDraft {
    fn build(self) -> Option<AlpnRule> {
        Some(AlpnRule {
            protocol: self.protocol?.value,
            backends: self.backends.into_iter().map(BackendDraft::build).collect::<Option<_>>()?,
        })
    }
}

impl BackendDraft {
    fn build(self) -> Option<Backend> {
        Some(Backend {
            address: self.address?.value,
            ports: values(self.ports),
            weight: self.weight,
            draining: self.draining,
        })
    }
}

impl PortMapDraft {
    fn build(self) -> Option<PortMap> {
        Some(PortMap { protocol: self.protocol?, outside: self.outside?.value, inside: self.inside?.value })
    }
}
