//! Checks of what subscribers may have, of how ports are given out, and of static mappings.

use super::{Allocation, Limits, Options, StaticMapping, Tenant};
use crate::deterministic::{MIN_PORTS, user_ports};
use crate::rfc6052::is_forwardable;
use crate::subscriber::{MAX_TENANT_POOLS, MAX_TENANTS};
use causeway_core::{Prefix4, Prefix6};
use causeway_wire::l4::{PROTO_TCP, PROTO_UDP};
use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use thiserror::Error;

/// The most blocks of ports of one subscriber.
pub const MAX_BLOCKS: usize = 32;

/// The most subscribers: 2^24.
pub const MAX_SUBSCRIBERS: u32 = 1 << 24;

/// What is wrong with subscribers, the allocation of ports or static mappings. "Who" is a tenant's name, or
/// `all` for those without one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubscriberError {
    /// The prefix length is out of range.
    #[error("the subscribers' prefix length is {0}; allowed is 1 to 128")]
    PrefixLength(u8),
    /// The capacity is out of range.
    #[error("the capacity is {0} subscribers; allowed is 1 to {MAX_SUBSCRIBERS}")]
    Capacity(u32),
    /// More than [`MAX_TENANTS`].
    #[error("there are {0} tenants; at most {MAX_TENANTS} are possible")]
    Tenants(usize),
    /// More than [`MAX_TENANT_POOLS`].
    #[error("{0} tenants have pools of their own; at most {MAX_TENANT_POOLS} are possible")]
    TenantPools(usize),
    /// A tenant has no name.
    #[error("a tenant's name is empty")]
    TenantUnnamed,
    /// Two tenants have one name.
    #[error("two tenants are named `{0}`")]
    TenantTwice(String),
    /// A tenant has no hosts.
    #[error("the tenant `{0}` has no prefixes")]
    TenantNoPrefix(String),
    /// A host would be of two tenants, or twice of one.
    #[error("{a} of the tenant `{1}` and {b} of the tenant `{2}` overlap", a = .0[0], b = .0[1])]
    TenantOverlap(Box<[Prefix6; 2]>, String, String),
    /// No port at all is allowed.
    #[error("ports-max of {0} is 0; allowed is 1 to 65535, or nothing for no limit")]
    NoPorts(String),
    /// More is promised than allowed.
    #[error("ports-min of {0} is {1}, more than its ports-max, {2}")]
    MinOverMax(String, u16, u16),
    /// No session at all is allowed.
    #[error("sessions-max of {0} is 0; allowed is 1 or more, or nothing for no limit")]
    NoSessions(String),
    /// No new session is ever allowed.
    #[error("new-sessions-per-second of {0} is {1}; allowed is 1 to 1000000000, or nothing for no limit")]
    Rate(String, u32),
    /// More is promised than a pool address can keep.
    #[error("ports-min of {0} is {1}; {2} is the most that can be promised there")]
    PortsMin(String, u16, u32),
    /// More is promised to tenants than the addresses that they share can keep.
    #[error(
        "the tenants' ports-min are {0} ports together; {1} is the most that the shared pool can promise"
    )]
    Minima(u64, u64),
    /// Ports are promised where they are given out by calculation.
    #[error(
        "ports-min of {0} is {1}; with deterministic allocation every subscriber has its ports: allowed is 0"
    )]
    MinDeterministic(String, u16),
    /// The block size is out of range.
    #[error("a block has {0} ports; allowed are the powers of two from 8 to 16384")]
    BlockPorts(u16),
    /// Not one block fits into the port range.
    #[error("no block of {0} ports, beginning at a multiple of that, fits into the ports {1} to {2}")]
    NoBlock(u16, u16, u16),
    /// A subscriber would need more blocks than it can have.
    #[error("{1} ports of {0} are {2} blocks of {3}; at most {MAX_BLOCKS} blocks are possible")]
    ManyBlocks(String, u16, u32, u16),
    /// Nobody is served by calculation.
    #[error("deterministic allocation has no hosts")]
    NoHosts,
    /// A prefix of hosts is no whole subscriber.
    #[error("{0} of the deterministic hosts is longer than the subscribers' prefix length, {1}")]
    LongHosts(Prefix6, u8),
    /// Two prefixes of hosts overlap.
    #[error("{a} and {b} of the deterministic hosts overlap", a = .0[0], b = .0[1])]
    HostsOverlap(Box<[Prefix6; 2]>),
    /// Each subscriber would get too few ports.
    #[error(
        "{addresses} pool addresses leave each of the {subscribers} subscribers of the deterministic hosts {ports} ports; at least {MIN_PORTS} are needed"
    )]
    FewPorts {
        /// Subscribers.
        subscribers: u128,
        /// Pool addresses.
        addresses: u32,
        /// Ports of each subscriber.
        ports: u32,
    },
    /// Hosts would have ports by calculation and a pool of their own.
    #[error(
        "{a} of the tenant `{1}`, which has a pool of its own, overlaps {b} of the deterministic hosts",
        a = .0[0],
        b = .0[1]
    )]
    DeterministicTenant(Box<[Prefix6; 2]>, String),
    /// A static mapping of another protocol.
    #[error("a static mapping has protocol {0}; allowed are 6 (TCP) and 17 (UDP)")]
    StaticProtocol(u8),
    /// A static mapping of port 0.
    #[error("a static mapping has port 0; allowed is 1 to 65535")]
    StaticPort,
    /// A static mapping's address is not unicast.
    #[error("{0} cannot be the outside address of a static mapping")]
    StaticAddress(Ipv4Addr),
    /// Two static mappings are reached at one place.
    #[error("two static mappings of protocol {0} are at {1}:{2}")]
    StaticOutside(u8, Ipv4Addr, u16),
    /// Two static mappings are of one server port.
    #[error("two static mappings of protocol {0} lead to [{1}]:{2}")]
    StaticInside(u8, Ipv6Addr, u16),
}

/// Blocks of `ports` ports within the range: numbers of the first and the last.
pub(crate) fn blocks_within(options: &Options, ports: u16) -> Option<(u16, u16)> {
    let first = u32::from(user_ports(options)).div_ceil(u32::from(ports));
    let last = ((u32::from(options.last_port) + 1) / u32::from(ports)).checked_sub(1)?;
    let (first, last) = (u16::try_from(first).ok()?, u16::try_from(last).ok()?);
    (first <= last).then_some((first, last))
}

/// Checks everything that is about subscribers, allocation and static mappings. The pool and the port
/// range have been checked.
pub(super) fn check(options: &Options) -> Result<(), SubscriberError> {
    let s = &options.subscribers;
    if !(1..=128).contains(&s.prefix_length) {
        return Err(SubscriberError::PrefixLength(s.prefix_length));
    }
    if !(1..=MAX_SUBSCRIBERS).contains(&s.capacity) {
        return Err(SubscriberError::Capacity(s.capacity));
    }
    check_tenants(&s.tenants)?;
    let units = Units::of(options)?;
    check_limits("all", &s.limits, &units, units.of_address / 2)?;
    let (mut sum, mut shared) = (0u64, 0u64);
    for t in &s.tenants {
        // On an address of its own a tenant may be promised everything.
        let most = if t.pool.is_empty() { units.of_address / 2 } else { units.of_address };
        let deterministic = units.deterministic && t.pool.is_empty();
        let units = Units { deterministic, ..units };
        check_limits(&format!("`{}`", t.name), &t.limits, &units, most)?;
        if t.pool.is_empty() {
            sum += u64::from(units.min(&t.limits));
        }
    }
    for p in &options.pool {
        shared += 1u64 << (32 - u32::from(p.len()));
    }
    // Each promise is at most half of an address: as long as they are half of all addresses together, one
    // address has room for the next one.
    let most = shared * u64::from(units.of_address / 2);
    if sum > most {
        let ports = u64::from(units.ports);
        return Err(SubscriberError::Minima(sum * ports, most * ports));
    }
    if let Allocation::Deterministic { hosts } = &options.allocation {
        for t in s.tenants.iter().filter(|t| !t.pool.is_empty()) {
            for p in &t.prefixes {
                if let Some(h) = hosts.iter().find(|h| h.overlaps(*p)) {
                    return Err(SubscriberError::DeterministicTenant(Box::new([*p, *h]), t.name.clone()));
                }
            }
        }
    }
    check_static(&options.static_mappings)
}

/// What is promised and kept: ports, or blocks.
#[derive(Debug, Clone, Copy)]
struct Units {
    /// How many one pool address has of each protocol.
    of_address: u32,
    /// Ports of one.
    ports: u16,
    deterministic: bool,
    blocks: bool,
}

impl Units {
    fn of(options: &Options) -> Result<Self, SubscriberError> {
        let all = u32::from(options.last_port) - u32::from(options.first_port) + 1;
        let single = Self { of_address: all, ports: 1, deterministic: false, blocks: false };
        Ok(match options.allocation {
            Allocation::Single => single,
            Allocation::Deterministic { .. } => Self { deterministic: true, ..single },
            Allocation::Blocks { ports } => {
                if !ports.is_power_of_two() || !(8..=16384).contains(&ports) {
                    return Err(SubscriberError::BlockPorts(ports));
                }
                let (first, last) = blocks_within(options, ports).ok_or(SubscriberError::NoBlock(
                    ports,
                    user_ports(options),
                    options.last_port,
                ))?;
                Self { of_address: u32::from(last - first) + 1, ports, deterministic: false, blocks: true }
            }
        })
    }

    fn min(&self, l: &Limits) -> u32 {
        u32::from(l.ports_min).div_ceil(u32::from(self.ports))
    }
}

fn check_limits(who: &str, l: &Limits, units: &Units, most: u32) -> Result<(), SubscriberError> {
    let name = || who.to_owned();
    match l.ports_max {
        Some(0) => return Err(SubscriberError::NoPorts(name())),
        Some(max) if l.ports_min > max => return Err(SubscriberError::MinOverMax(name(), l.ports_min, max)),
        _ => {}
    }
    if l.sessions_max == Some(0) {
        return Err(SubscriberError::NoSessions(name()));
    }
    if let Some(rate) = l.new_sessions_per_second.filter(|r| !(1..=1_000_000_000).contains(r)) {
        return Err(SubscriberError::Rate(name(), rate));
    }
    if units.deterministic && l.ports_min > 0 {
        return Err(SubscriberError::MinDeterministic(name(), l.ports_min));
    }
    if units.blocks {
        let ports = l.ports_max.unwrap_or(l.ports_min);
        let blocks = u32::from(ports).div_ceil(u32::from(units.ports));
        if usize::try_from(blocks).is_ok_and(|b| b > MAX_BLOCKS) {
            return Err(SubscriberError::ManyBlocks(name(), ports, blocks, units.ports));
        }
    }
    if units.min(l) > most {
        return Err(SubscriberError::PortsMin(name(), l.ports_min, most * u32::from(units.ports)));
    }
    Ok(())
}

fn check_tenants(tenants: &[Tenant]) -> Result<(), SubscriberError> {
    if tenants.len() > MAX_TENANTS {
        return Err(SubscriberError::Tenants(tenants.len()));
    }
    let mut names = HashSet::new();
    let mut prefixes: Vec<(Prefix6, &str)> = Vec::new();
    for t in tenants {
        if t.name.is_empty() {
            return Err(SubscriberError::TenantUnnamed);
        }
        if !names.insert(&t.name) {
            return Err(SubscriberError::TenantTwice(t.name.clone()));
        }
        if t.prefixes.is_empty() {
            return Err(SubscriberError::TenantNoPrefix(t.name.clone()));
        }
        prefixes.extend(t.prefixes.iter().map(|p| (*p, t.name.as_str())));
    }
    prefixes.sort();
    // In this order a prefix that overlaps any earlier one overlaps the one before it, or that one overlaps
    // an earlier one.
    for w in prefixes.windows(2) {
        if let [(a, of_a), (b, of_b)] = w
            && a.overlaps(*b)
        {
            return Err(SubscriberError::TenantOverlap(Box::new([*a, *b]), (*of_a).into(), (*of_b).into()));
        }
    }
    Ok(())
}

fn check_static(list: &[StaticMapping]) -> Result<(), SubscriberError> {
    let (mut outside, mut inside) = (HashSet::new(), HashSet::new());
    for m in list {
        if m.protocol != PROTO_TCP && m.protocol != PROTO_UDP {
            return Err(SubscriberError::StaticProtocol(m.protocol));
        }
        if m.outside.1 == 0 || m.inside.1 == 0 {
            return Err(SubscriberError::StaticPort);
        }
        if !is_forwardable(m.outside.0) {
            return Err(SubscriberError::StaticAddress(m.outside.0));
        }
        if !outside.insert((m.protocol, m.outside)) {
            return Err(SubscriberError::StaticOutside(m.protocol, m.outside.0, m.outside.1));
        }
        if !inside.insert((m.protocol, m.inside)) {
            return Err(SubscriberError::StaticInside(m.protocol, m.inside.0, m.inside.1));
        }
    }
    Ok(())
}

/// All pool prefixes, the shared ones first.
pub(super) fn all_pools(options: &Options) -> Vec<Prefix4> {
    let tenants = options.subscribers.tenants.iter().flat_map(|t| &t.pool);
    options.pool.iter().chain(tenants).copied().collect()
}

#[cfg(test)]
mod tests;
