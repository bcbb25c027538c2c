//! The sections `[nat64.subscribers]`, `[[nat64.tenant]]`, `[nat64.allocation]` and `[[nat64.static]]`.

use super::{Item, Nat64, Nat64Draft};
use crate::config::nat64::{Allocation, Limits, StaticMapping, Subscribers, Tenant};
use crate::config::read::{At, Section};
use crate::config::types::{
    AllocationMode, BlockSize, Endpoint4, Endpoint6, Name, PortsMax, PortsMin, StaticProtocol,
    SubscriberEntries, SubscriberLength,
};
use causeway_core::net::{Prefix4, Prefix6};

/// Limits that were read, and where those stand that others depend on.
#[derive(Debug)]
pub(in crate::config) struct LimitsDraft {
    pub(in crate::config) limits: Limits,
    /// Of `ports-min`, or of its section where it is missing.
    pub(in crate::config) ports_min: At,
    /// Of `ports-max`, the same.
    pub(in crate::config) ports_max: At,
}

#[derive(Debug)]
pub(in crate::config) struct TenantDraft {
    pub(in crate::config) name: Option<Item<Name>>,
    pub(in crate::config) prefixes: Vec<Item<Prefix6>>,
    pub(in crate::config) pool: Vec<Item<Prefix4>>,
    pub(in crate::config) limits: LimitsDraft,
}

#[derive(Debug)]
pub(in crate::config) struct AllocationDraft {
    pub(in crate::config) at: At,
    pub(in crate::config) mode: AllocationMode,
    pub(in crate::config) block_size: Option<Item<BlockSize>>,
    pub(in crate::config) hosts: Vec<Item<Prefix6>>,
}

#[derive(Debug)]
pub(in crate::config) struct StaticDraft {
    pub(in crate::config) protocol: Option<StaticProtocol>,
    pub(in crate::config) outside: Option<Item<Endpoint4>>,
    pub(in crate::config) inside: Option<Item<Endpoint6>>,
}

/// The limits of a section; what it does not say is as in `otherwise`.
fn limits(s: &Section<'_, '_>, otherwise: &Limits) -> LimitsDraft {
    let limits = Limits {
        ports_min: s.or::<PortsMin>("ports-min", otherwise.ports_min),
        ports_max: s.or::<PortsMax>("ports-max", otherwise.ports_max),
        sessions_max: s.or("sessions-max", otherwise.sessions_max),
        new_sessions_per_second: s.or("new-sessions-per-second", otherwise.new_sessions_per_second),
        new_sessions_burst: s.or("new-sessions-burst", otherwise.new_sessions_burst),
    };
    LimitsDraft { limits, ports_min: s.place("ports-min"), ports_max: s.place("ports-max") }
}

pub(super) fn subscribers(s: Section<'_, '_>) -> (Subscribers, LimitsDraft) {
    let limits = limits(&s, &Limits::NONE);
    let subscribers = Subscribers {
        prefix_length: s.or("prefix-length", SubscriberLength::literal(64)),
        limits: limits.limits,
        capacity: s.or("capacity", SubscriberEntries::literal(65_536)),
    };
    s.finish();
    (subscribers, limits)
}

pub(super) fn tenant(s: Section<'_, '_>, otherwise: &Limits) -> TenantDraft {
    let draft = TenantDraft {
        name: s.required("name"),
        prefixes: s.list("prefixes"),
        pool: s.list("pool"),
        limits: limits(&s, otherwise),
    };
    if !s.has("prefixes") {
        s.error("prefixes", "missing", "one or more IPv6 prefixes of the tenant's hosts");
    } else if s.is_empty_array("prefixes") {
        s.error("prefixes", "empty", "one or more");
    }
    s.finish();
    draft
}

pub(super) fn allocation(s: Section<'_, '_>) -> AllocationDraft {
    let draft = AllocationDraft {
        at: s.at.clone(),
        mode: s.or("mode", AllocationMode::Single),
        block_size: s.optional("block-size"),
        hosts: s.list("hosts"),
    };
    for (key, mode) in [("block-size", AllocationMode::Blocks), ("hosts", AllocationMode::Deterministic)] {
        if s.has(key) && draft.mode != mode {
            let problem = format!("the mode is \"{}\"", draft.mode);
            s.error(key, problem, format!("only with mode = \"{mode}\""));
        }
    }
    if draft.mode == AllocationMode::Deterministic && !s.has("hosts") {
        s.error("hosts", "missing", "one or more IPv6 prefixes in which subscribers are");
    } else if draft.mode == AllocationMode::Deterministic && s.is_empty_array("hosts") {
        s.error("hosts", "empty", "one or more");
    }
    s.finish();
    draft
}

pub(super) fn static_mapping(s: Section<'_, '_>) -> StaticDraft {
    let draft = StaticDraft {
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

impl TenantDraft {
    fn build(self) -> Option<Tenant> {
        Some(Tenant {
            name: self.name?.value,
            prefixes: values(self.prefixes),
            pool: values(self.pool),
            limits: self.limits.limits,
        })
    }
}

impl AllocationDraft {
    /// Ports of a block, if there were blocks.
    pub(in crate::config) fn block_size(&self) -> BlockSize {
        self.block_size.as_ref().map_or(BlockSize::DEFAULT, |item| item.value)
    }

    fn build(self) -> Allocation {
        match self.mode {
            AllocationMode::Single => Allocation::Single,
            AllocationMode::Blocks => Allocation::Blocks { block_size: self.block_size() },
            AllocationMode::Deterministic => Allocation::Deterministic { hosts: values(self.hosts) },
        }
    }
}

impl StaticDraft {
    fn build(self) -> Option<StaticMapping> {
        Some(StaticMapping {
            protocol: self.protocol?,
            outside: self.outside?.value,
            inside: self.inside?.value,
        })
    }
}

impl Nat64Draft {
    /// The section, if everything that it needs was read.
    pub(super) fn build(self) -> Option<Nat64> {
        Some(Nat64 {
            prefixes: values(self.prefixes),
            pool: values(self.pool),
            ports: self.ports,
            filtering: self.filtering,
            lowest_ipv6_mtu: self.lowest_ipv6_mtu,
            timeouts: self.timeouts,
            log: self.log.log,
            hold_down: self.hold_down,
            keep_parity: self.keep_parity,
            tos: self.tos,
            traffic_class: self.traffic_class,
            df: self.df,
            udp_zero_checksum: self.udp_zero_checksum,
            mss_clamp: self.mss_clamp,
            identify_routers: self.identify_routers,
            icmp_source: self.icmp_source.map(|item| item.value),
            subscribers: self.subscribers,
            tenants: self.tenants.into_iter().map(TenantDraft::build).collect::<Option<_>>()?,
            allocation: self.allocation.build(),
            static_mappings: self
                .static_mappings
                .into_iter()
                .map(StaticDraft::build)
                .collect::<Option<_>>()?,
        })
    }
}
