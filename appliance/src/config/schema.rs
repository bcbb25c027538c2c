//! The sections and keys of the file: types, ranges, defaults, unknown keys. What contradicts what is
//! found in `checks`.

mod dhcpv6;
mod dns;
mod dns64;
mod nat64;
mod ra;
mod splicer;
mod vrrp;

use super::checks;
use super::error::ConfigErrors;
use super::natlog::{self, NatLogDraft};
use super::read::{self, At, Item, Read, Section, Source};
use super::types::Written;
use super::{
    AbsolutePath, Capacity, ClassOctet, Config, Control, Core, Descriptors, Device, Dns64, DontFragment,
    Filtering, Gateway, HoldDown, Host4, Host6, Icmp, Inbound, Isolation, LinkLocal, Log, LogFormat, Lookups,
    MssClamp, Mtu, Name, Nat64, Nat64Prefix, Neighbor, Neighbors, Packets, Pause, PciAddress, PerSecond,
    Port, PortNumber, PortRange, PortalUri, Prefix, Resolved, SourceValidation, Span, SpanOrOff, Subscribers,
    Target, Timeout, Timeouts, TrackedHop, UdpZeroChecksum, Vdev, Vlan, Waiting, Watchdog, Workers,
    default_socket,
};
use causeway_core::net::{Prefix4, Prefix6, Role};
pub(super) use dhcpv6::{Dhcpv6Draft, ReservationDraft, ServerDraft};
pub(super) use dns::DnsDraft;
pub(super) use dns64::{Dns64Draft, RulesDraft, ViewDraft};
pub(super) use nat64::{AllocationDraft, LimitsDraft, StaticDraft, TenantDraft};
pub(super) use ra::RaDraft;
pub(super) use splicer::{BackendDraft, SiteDraft, SplicerDraft};
use std::net::{Ipv4Addr, Ipv6Addr};
use toml::de::{DeTable, DeValue};
pub(super) use vrrp::RouterDraft;

/// What was read of the file, each value with its place; what was missing or bad is left out and noted.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) gateway: GatewayDraft,
    pub(super) capacity: Capacity,
    /// Where `capacity.spliced` stands.
    pub(super) spliced: At,
    pub(super) ports: Vec<PortDraft>,
    pub(super) networks: Vec<NetworkDraft>,
    pub(super) routes: Vec<RouteDraft>,
    pub(super) nat64: Option<Nat64Draft>,
    pub(super) dns: DnsDraft,
    pub(super) dns64: Option<Dns64Draft>,
    pub(super) splicer: Option<SplicerDraft>,
    pub(super) dhcpv6: ServerDraft,
    pub(super) vrrp: Option<vrrp::VrrpDraft>,
    pub(super) isolation: IsolationDraft,
    pub(super) icmp: Icmp,
    pub(super) neighbor: Neighbor,
    pub(super) log: Log,
    pub(super) watchdog: Watchdog,
    pub(super) socket: Option<AbsolutePath>,
}

#[derive(Debug)]
pub(super) struct GatewayDraft {
    pub(super) name: Option<Name>,
    pub(super) profile: Option<Item<Name>>,
    pub(super) profile_dir: Option<Item<AbsolutePath>>,
    pub(super) workers: Option<Item<Workers>>,
    pub(super) cores: Vec<Item<Core>>,
    pub(super) main_core: Option<Item<Core>>,
}

#[derive(Debug)]
pub(super) struct PortDraft {
    pub(super) at: At,
    pub(super) name: Option<Item<Name>>,
    pub(super) device: Option<Item<Device>>,
    pub(super) rx_descriptors: Option<Item<Descriptors>>,
    pub(super) tx_descriptors: Option<Item<Descriptors>>,
}

#[derive(Debug)]
pub(super) struct NetworkDraft {
    pub(super) at: At,
    pub(super) name: Option<Item<Name>>,
    pub(super) port: Option<Item<Name>>,
    pub(super) vlan: Option<Item<Vlan>>,
    pub(super) role: Option<Role>,
    pub(super) addresses6: Vec<Item<Written<Ipv6Addr>>>,
    pub(super) addresses4: Vec<Item<Written<Ipv4Addr>>>,
    pub(super) link_local: Option<Item<LinkLocal>>,
    pub(super) on_link: Vec<Item<Prefix>>,
    pub(super) mtu: Option<Item<Mtu>>,
    pub(super) inbound: Option<Item<Inbound>>,
    pub(super) sources: Vec<Item<Prefix6>>,
    pub(super) source_validation: Option<Item<SourceValidation>>,
    pub(super) dhcpv6_relays: Option<Item<bool>>,
    pub(super) captive_portal: Option<Item<PortalUri>>,
    pub(super) ntp: Vec<Item<Host6>>,
    pub(super) ra: Option<RaDraft>,
    pub(super) dhcpv6: Option<Dhcpv6Draft>,
    pub(super) reservations: Vec<ReservationDraft>,
}

#[derive(Debug)]
pub(super) struct RouteDraft {
    pub(super) prefix: Option<Item<Prefix>>,
    pub(super) via: Option<Item<Target>>,
    pub(super) network: Option<Item<Name>>,
}

#[derive(Debug)]
pub(super) struct Nat64Draft {
    pub(super) at: At,
    pub(super) prefixes: Vec<Item<Nat64Prefix>>,
    pub(super) pool: Vec<Item<Prefix4>>,
    pub(super) ports: PortRange,
    pub(super) filtering: Filtering,
    pub(super) lowest_ipv6_mtu: Mtu,
    pub(super) timeouts: Timeouts,
    pub(super) hold_down: HoldDown,
    pub(super) keep_parity: bool,
    pub(super) tos: ClassOctet,
    pub(super) traffic_class: ClassOctet,
    pub(super) df: DontFragment,
    pub(super) udp_zero_checksum: UdpZeroChecksum,
    pub(super) mss_clamp: MssClamp,
    pub(super) identify_routers: bool,
    pub(super) icmp_source: Option<Item<Host4>>,
    pub(super) subscribers: Subscribers,
    pub(super) limits: LimitsDraft,
    pub(super) tenants: Vec<TenantDraft>,
    pub(super) allocation: AllocationDraft,
    pub(super) static_mappings: Vec<StaticDraft>,
    pub(super) log: NatLogDraft,
}

#[derive(Debug)]
pub(super) struct IsolationDraft {
    pub(super) enabled: bool,
    pub(super) allow: Vec<Item<Pair>>,
}

/// Two names.
#[derive(Debug, Clone)]
pub(super) struct Pair(pub(super) Name, pub(super) Name);

impl Read for Pair {
    const ALLOWED: &'static str = "two names of tenant networks, as in [\"web\", \"db\"]";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let Some(array) = value.as_array() else { return Err(read::wrong_type("an array", value)) };
        let mut names = array.iter().map(|element| Name::read(element.get_ref()));
        match (names.next(), names.next(), names.next()) {
            (Some(a), Some(b), None) => Ok(Self(a?, b?)),
            _ => Err("not a pair".to_owned()),
        }
    }
}

/// A log filter that `tracing-subscriber` understands.
struct Filter(String);

impl Read for Filter {
    const ALLOWED: &'static str =
        "error, warn, info, debug, trace or off, also per module, as in \"info,causeway::control=debug\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        if text.trim().is_empty() {
            return Err("empty".to_owned());
        }
        tracing_subscriber::EnvFilter::try_new(text).map_err(|e| e.to_string())?;
        // Any word is a filter to `tracing` (the name of a target); a misspelt level would silence
        // everything.
        const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
        for directive in text.split(',') {
            if !directive.contains(['=', ':', '['])
                && !LEVELS.contains(&directive.trim().to_ascii_lowercase().as_str())
            {
                return Err(format!("`{directive}` is no level"));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// Reads a text into a configuration, or finds all that is wrong with it.
pub(super) fn parse(file: &str, text: &str) -> Result<Config, ConfigErrors> {
    let source = Source::new(file, text);
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        source.syntax(error);
    }
    // What a broken document leaves out would only be reported as missing.
    let config = if syntax.is_empty() {
        let draft = draft(&source, document.get_ref());
        checks::check(&source, draft)
    } else {
        None
    };
    match (ConfigErrors::new(source.into_errors()), config) {
        (None, Some(config)) => Ok(config),
        (Some(errors), _) => Err(errors),
        (None, None) => Err(ConfigErrors::one(super::ConfigError {
            file: file.to_owned(),
            line: None,
            key: String::new(),
            value: None,
            problem: "incomplete".to_owned(),
            allowed: None,
        })),
    }
}

fn draft<'t>(source: &Source<'_>, document: &'t DeTable<'t>) -> Draft {
    let root = Section::root(source, document);
    if !root.has("gateway") {
        root.error("gateway", "missing", "a section [gateway]");
    }
    for (key, what) in [("port", "[[port]]"), ("network", "[[network]]")] {
        if !root.has(key) {
            root.error(key, "missing", format!("one or more sections {what}"));
        }
    }
    let (capacity, spliced) = capacity(root.section("capacity"));
    let draft = Draft {
        gateway: gateway(root.section("gateway")),
        capacity,
        spliced,
        ports: root.sections("port").into_iter().map(port).collect(),
        networks: root.sections("network").into_iter().map(network).collect(),
        routes: root.sections("route").into_iter().map(route).collect(),
        nat64: nat64(root.section("nat64")),
        dns: dns::dns(root.section("dns")),
        dns64: dns64::dns64(root.section("dns64")),
        splicer: splicer::splicer(root.section("splicer")),
        dhcpv6: dhcpv6::server(root.section("dhcpv6")),
        vrrp: vrrp::vrrp(root.section("vrrp")),
        isolation: isolation(root.section("isolation")),
        icmp: icmp(root.section("icmp")),
        neighbor: neighbor(root.section("neighbor")),
        log: log(root.section("log")),
        watchdog: watchdog(root.section("watchdog")),
        socket: socket(root.section("control")),
    };
    root.finish();
    draft
}

fn gateway(s: Section<'_, '_>) -> GatewayDraft {
    if !s.present() {
        return GatewayDraft {
            name: None,
            profile: None,
            profile_dir: None,
            workers: None,
            cores: Vec::new(),
            main_core: None,
        };
    }
    let draft = GatewayDraft {
        name: s.required("name").map(|item| item.value),
        profile: s.required("profile"),
        profile_dir: s.optional("profile-dir"),
        workers: s.optional("workers"),
        cores: s.list("cores"),
        main_core: s.optional("main-core"),
    };
    s.finish();
    draft
}

fn capacity(s: Section<'_, '_>) -> (Capacity, At) {
    let draft = Capacity {
        sessions: s.optional("sessions").map(|item| item.value),
        mappings: s.optional("mappings").map(|item| item.value),
        spliced: s.optional("spliced").map(|item| item.value),
    };
    let spliced = s.place("spliced");
    s.finish();
    (draft, spliced)
}

fn port(s: Section<'_, '_>) -> PortDraft {
    let name = s.required("name");
    let vdev = s.optional::<Vdev>("device");
    let pci = s.optional::<PciAddress>("pci");
    match (s.has("device"), s.has("pci")) {
        (false, false) => s.error(
            "device",
            "missing",
            format!("`device` ({}) or `pci` ({})", Vdev::ALLOWED, PciAddress::ALLOWED),
        ),
        (true, true) => s.error("pci", "there is a `device` as well", "either `device` or `pci`"),
        _ => {}
    }
    let device = vdev
        .map(|item| Item { at: item.at, value: Device::Vdev(item.value) })
        .or_else(|| pci.map(|item| Item { at: item.at, value: Device::Pci(item.value) }));
    let (rx_descriptors, tx_descriptors) = (s.optional("rx-descriptors"), s.optional("tx-descriptors"));
    let at = s.at.clone();
    s.finish();
    PortDraft { at, name, device, rx_descriptors, tx_descriptors }
}

fn network(s: Section<'_, '_>) -> NetworkDraft {
    let draft = NetworkDraft {
        at: s.at.clone(),
        name: s.required("name"),
        port: s.required("port"),
        vlan: s.optional("vlan"),
        role: s.required("role").map(|item| item.value),
        addresses6: s.list("addresses6"),
        addresses4: s.list("addresses4"),
        link_local: s.optional("link-local"),
        on_link: s.list("on-link"),
        mtu: s.optional("mtu"),
        inbound: s.optional("inbound"),
        sources: s.list("sources"),
        source_validation: s.optional("source-validation"),
        dhcpv6_relays: s.optional("dhcpv6-relays"),
        captive_portal: s.optional("captive-portal"),
        ntp: s.list("ntp"),
        ra: ra::ra(s.section("ra")),
        dhcpv6: dhcpv6::dhcpv6(s.section("dhcpv6")),
        reservations: s.sections("reservation").into_iter().map(dhcpv6::reservation).collect(),
    };
    s.finish();
    draft
}

fn route(s: Section<'_, '_>) -> RouteDraft {
    let draft =
        RouteDraft { prefix: s.required("prefix"), via: s.required("via"), network: s.optional("network") };
    s.finish();
    draft
}

fn nat64(s: Section<'_, '_>) -> Option<Nat64Draft> {
    if !s.present() {
        return None;
    }
    for (key, allowed) in [("prefixes", Nat64Prefix::ALLOWED), ("pool", Prefix4::ALLOWED)] {
        if !s.has(key) {
            s.error(key, "missing", format!("one or more, each {allowed}"));
        }
    }
    let t = s.section("timeouts");
    let timeouts = Timeouts {
        udp: t.or("udp", Timeout::literal(300)),
        tcp_established: t.or("tcp-established", Timeout::literal(7440)),
        tcp_transitory: t.or("tcp-transitory", Timeout::literal(240)),
        tcp_opening: t.or("tcp-opening", Timeout::literal(240)),
        tcp_incoming_syn: t.or("tcp-incoming-syn", Timeout::literal(6)),
        icmp: t.or("icmp", Timeout::literal(60)),
        fragment: t.or("fragment", Timeout::literal(2)),
    };
    t.finish();
    let (subscribers, limits) = nat64::subscribers(s.section("subscribers"));
    let draft = Nat64Draft {
        at: s.at.clone(),
        prefixes: s.list("prefixes"),
        pool: s.list("pool"),
        ports: s.or("ports", PortRange::DEFAULT),
        filtering: s.or("filtering", Filtering::EndpointIndependent),
        lowest_ipv6_mtu: s.or("lowest-ipv6-mtu", Mtu::MIN),
        timeouts,
        hold_down: s.or("hold-down", HoldDown::DEFAULT),
        keep_parity: s.or("keep-parity", true),
        tos: s.or("tos", ClassOctet::Copy),
        traffic_class: s.or("traffic-class", ClassOctet::Copy),
        df: s.or("df", DontFragment::BySize),
        udp_zero_checksum: s.or("udp-zero-checksum", UdpZeroChecksum::Compute),
        mss_clamp: s.or("mss-clamp", MssClamp::OFF),
        identify_routers: s.or("identify-routers", true),
        icmp_source: s.optional("icmp-source"),
        tenants: s.sections("tenant").into_iter().map(|t| nat64::tenant(t, &subscribers.limits)).collect(),
        subscribers,
        limits,
        allocation: nat64::allocation(s.section("allocation")),
        static_mappings: s.sections("static").into_iter().map(nat64::static_mapping).collect(),
        log: natlog::read(s.section("log")),
    };
    for (key, empty) in [("prefixes", draft.prefixes.is_empty()), ("pool", draft.pool.is_empty())] {
        if s.is_empty_array(key) && empty {
            s.error(key, "empty", "one or more");
        }
    }
    s.finish();
    Some(draft)
}

fn isolation(s: Section<'_, '_>) -> IsolationDraft {
    let draft = IsolationDraft { enabled: s.or("enabled", true), allow: s.list("allow") };
    s.finish();
    draft
}

fn icmp(s: Section<'_, '_>) -> Icmp {
    let draft = Icmp {
        errors_per_second: s.or("errors-per-second", Packets::literal(1000)),
        errors_burst: s.or("errors-burst", Packets::literal(100)),
        echo_per_second: s.or("echo-per-second", Packets::literal(1000)),
        echo_burst: s.or("echo-burst", Packets::literal(200)),
    };
    s.finish();
    draft
}

fn neighbor(s: Section<'_, '_>) -> Neighbor {
    let draft = Neighbor {
        capacity: s.or("capacity", Neighbors::literal(65_536)),
        incomplete: s.or("incomplete", Lookups::literal(2048)),
        queue: s.or("queue", Waiting::literal(8)),
        resolutions_per_second: s.or("resolutions-per-second", PerSecond::literal(500)),
        reachable_time: s.or("reachable-time", Pause::literal(30)),
        retransmit_time: s.or("retransmit-time", Pause::literal(1)),
    };
    s.finish();
    draft
}

fn log(s: Section<'_, '_>) -> Log {
    let draft =
        Log { filter: s.or("filter", Filter("info".to_owned())).0, format: s.or("format", LogFormat::Text) };
    s.finish();
    draft
}

fn watchdog(s: Section<'_, '_>) -> Watchdog {
    let draft = Watchdog {
        warn: s.or("warn", Span::literal(2)),
        abort: s.or("abort", SpanOrOff(Some(Span::literal(30)))),
    };
    if draft.abort.0.is_some_and(|abort| abort < draft.warn) {
        s.error("abort", "shorter than `warn`", "a length of time not shorter than `warn`, or \"off\"");
    }
    s.finish();
    draft
}

fn socket(s: Section<'_, '_>) -> Option<AbsolutePath> {
    let socket = s.optional::<AbsolutePath>("socket");
    // unix(7): a socket's path has at most 107 octets, and the file beside it that locks it is longer.
    if socket.as_ref().is_some_and(|p| p.path().as_os_str().len() > 100) {
        s.error("socket", "too long", "an absolute path of at most 100 octets");
    }
    s.finish();
    socket.map(|item| item.value)
}

impl Draft {
    /// The configuration, if everything that it needs was read.
    pub(super) fn build(
        self,
        networks: Vec<super::Network>,
        routes: Vec<super::Route>,
        next_hops: Vec<TrackedHop>,
        dns64: Option<Dns64>,
        resolved: Resolved,
        notes: Vec<String>,
    ) -> Option<Config> {
        let gateway = self.gateway;
        let name = gateway.name?;
        let socket = self.socket.unwrap_or_else(|| AbsolutePath::known(default_socket(&name)));
        let served = !self.dhcpv6.links.is_empty() || networks.iter().any(|n| n.dhcpv6.is_some());
        let dhcpv6 = match self.dhcpv6.at.is_some() || served {
            true => Some(self.dhcpv6.build(&name)?),
            false => None,
        };
        let cores: Vec<Core> = gateway.cores.into_iter().map(|item| item.value).collect();
        Some(Config {
            gateway: Gateway {
                name,
                profile: gateway.profile?.value,
                profile_dir: gateway.profile_dir.map(|item| item.value),
                workers: gateway.workers.map(|item| item.value),
                cores,
                main_core: gateway.main_core.map(|item| item.value),
            },
            capacity: self.capacity,
            ports: self.ports.into_iter().map(PortDraft::build).collect::<Option<_>>()?,
            networks,
            routes,
            nat64: match self.nat64 {
                Some(n) => Some(n.build()?),
                None => None,
            },
            dns: self.dns.build()?,
            dns64,
            splicer: match self.splicer {
                Some(s) => Some(s.build()?),
                None => None,
            },
            dhcpv6,
            vrrp: match self.vrrp {
                Some(v) => Some(v.build(next_hops)?),
                None => None,
            },
            isolation: Isolation {
                enabled: self.isolation.enabled,
                allow: self.isolation.allow.into_iter().map(|item| (item.value.0, item.value.1)).collect(),
            },
            icmp: self.icmp,
            neighbor: self.neighbor,
            log: self.log,
            watchdog: self.watchdog,
            control: Control { socket },
            resolved,
            notes,
        })
    }
}

impl PortDraft {
    fn build(self) -> Option<Port> {
        Some(Port {
            name: self.name?.value,
            device: self.device?.value,
            rx_descriptors: self.rx_descriptors.map(|item| item.value),
            tx_descriptors: self.tx_descriptors.map(|item| item.value),
        })
    }
}
