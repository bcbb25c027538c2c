//! Subscribers (RFC 6888 2): who is accounted together, and which pool set they use.
//!
//! ```text
//!  host --in a tenant's prefix--> the tenant, by name            its own pool set, or the shared one
//!       --otherwise-------------> its first `prefix_length` bits  the shared pool set
//! ```
//! - `book`: what each subscriber holds at this moment.
//!
//! Pool set 0 is shared. Every tenant with exit addresses of its own has a set with a number from 1 on,
//! which it keeps by its name when the configuration changes: mappings carry the number in their key.

pub(crate) mod book;

use crate::config::{Limits, Options, SubscriberError, Tenant};
use causeway_core::{Prefix4, Prefix6};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The most tenants of one gateway.
pub const MAX_TENANTS: usize = 1024;

/// The most tenants with exit addresses of their own.
pub const MAX_TENANT_POOLS: usize = 255;

/// The pool set that all share who have none of their own.
pub(crate) const SHARED: u8 = 0;

/// Whose host an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// Place of the tenant in the configuration.
    pub(crate) tenant: Option<usize>,
    /// The subscriber's prefix; a tenant's first one.
    pub(crate) prefix: u128,
    pub(crate) length: u8,
    /// The pool set.
    pub(crate) set: u8,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    first: u128,
    last: u128,
    tenant: usize,
}

/// Finds owners.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    /// Tenants' prefixes, in the order of their addresses; none overlaps another.
    ranges: Vec<Range>,
    owners: Vec<Owner>,
    length: u8,
    mask: u128,
    /// Numbers of pool sets, by tenants' names.
    numbers: Vec<(String, u8)>,
    /// Addresses of each pool set.
    pools: Vec<(u8, Vec<Prefix4>)>,
}

impl Who {
    /// `options` must have passed the checks. `before` is the configuration that ran until now.
    pub(crate) fn new(options: &Options, before: Option<&Self>) -> Result<Self, SubscriberError> {
        let s = &options.subscribers;
        let numbers = numbers(&s.tenants, before.map_or(&[], |b| &b.numbers))?;
        let number = |name: &str| numbers.iter().find(|(n, _)| n == name).map_or(SHARED, |(_, n)| *n);
        let mut pools = vec![(SHARED, options.pool.clone())];
        let (mut ranges, mut owners) = (Vec::new(), Vec::new());
        for (tenant, t) in s.tenants.iter().enumerate() {
            let first = t.prefixes.first().ok_or_else(|| SubscriberError::TenantNoPrefix(t.name.clone()))?;
            let set = number(&t.name);
            owners.push(Owner {
                tenant: Some(tenant),
                prefix: first.address().to_bits(),
                length: first.len(),
                set,
            });
            if set != SHARED {
                pools.push((set, t.pool.clone()));
            }
            ranges.extend(t.prefixes.iter().map(|p| Range {
                first: p.address().to_bits(),
                last: p.last().to_bits(),
                tenant,
            }));
        }
        ranges.sort_by_key(|r| r.first);
        let mask = u128::MAX.checked_shl(128 - u32::from(s.prefix_length)).unwrap_or(0);
        Ok(Self { ranges, owners, length: s.prefix_length, mask, numbers, pools })
    }

    /// Whose host `a` is.
    #[inline]
    pub(crate) fn owner(&self, a: Ipv6Addr) -> Owner {
        let a = a.to_bits();
        let next = self.ranges.partition_point(|r| r.first <= a);
        let range = next.checked_sub(1).and_then(|n| self.ranges.get(n)).filter(|r| a <= r.last);
        range.and_then(|r| self.owners.get(r.tenant)).copied().unwrap_or(Owner {
            tenant: None,
            prefix: a & self.mask,
            length: self.length,
            set: SHARED,
        })
    }

    /// The owner that a tenant is.
    pub(crate) fn tenant(&self, place: usize) -> Option<&Owner> {
        self.owners.get(place)
    }

    /// The pool sets with their addresses, the shared one first.
    pub(crate) fn pools(&self) -> &[(u8, Vec<Prefix4>)] {
        &self.pools
    }

    /// True if `a` is in any pool set.
    pub(crate) fn in_pool(&self, a: Ipv4Addr) -> bool {
        self.pools.iter().flat_map(|(_, p)| p).any(|p| p.contains(a))
    }
}

/// Numbers for tenants with pools: those that had one keep it, and others get one that nobody had just now.
fn numbers(tenants: &[Tenant], before: &[(String, u8)]) -> Result<Vec<(String, u8)>, SubscriberError> {
    let with_pool: Vec<&str> =
        tenants.iter().filter(|t| !t.pool.is_empty()).map(|t| t.name.as_str()).collect();
    if with_pool.len() > MAX_TENANT_POOLS {
        return Err(SubscriberError::TenantPools(with_pool.len()));
    }
    let mut list: Vec<(String, u8)> =
        before.iter().filter(|(n, _)| with_pool.contains(&n.as_str())).cloned().collect();
    for name in with_pool {
        if list.iter().any(|(n, _)| n == name) {
            continue;
        }
        let unused = |n: &u8| list.iter().all(|(_, m)| m != n);
        let fresh = (1..=u8::MAX).find(|n| unused(n) && before.iter().all(|(_, m)| m != n));
        let number = fresh.or_else(|| (1..=u8::MAX).find(unused));
        list.push((name.to_owned(), number.ok_or(SubscriberError::TenantPools(list.len()))?));
    }
    Ok(list)
}

/// True if these limits ask for accounting.
pub(crate) fn limited(l: &Limits) -> bool {
    l.ports_min > 0
        || l.ports_max.is_some()
        || l.sessions_max.is_some()
        || l.new_sessions_per_second.is_some()
}

/// A block of ports that a subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockUsage {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its first port.
    pub first: u16,
    /// Its last port.
    pub last: u16,
    /// Ports and identifiers of it that mappings have, of all protocols together.
    pub in_use: u32,
}

/// How often a subscriber was refused something since it was first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refused {
    /// A mapping, because it had all the ports that it may have or none was free.
    pub ports: u64,
    /// A session, because it had as many as it may have.
    pub sessions: u64,
    /// A session, because it opened them too fast.
    pub rate: u64,
}

/// What one subscriber has at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberUsage {
    /// The tenant's name, if it is one (and still configured).
    pub name: Option<String>,
    /// Its prefix; a tenant's first one.
    pub prefix: Prefix6,
    /// The pool address that it keeps (RFC 4787 4.1, REQ-2), once it has one.
    pub home: Option<Ipv4Addr>,
    /// Sessions.
    pub sessions: u32,
    /// Ports or identifiers that mappings have, by protocol in the order of
    /// [`PROTOCOLS`](crate::pool4::PROTOCOLS). Those that rest are not counted.
    pub ports: [u32; 3],
    /// Ports of each protocol that it gets whatever others have taken.
    pub promised: u32,
    /// Its blocks of ports.
    pub blocks: Vec<BlockUsage>,
    /// What it was refused.
    pub refused: Refused,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Subscribers;

    fn tenant(name: &str, prefixes: &[&str], pool: &[&str]) -> Tenant {
        Tenant {
            name: name.into(),
            prefixes: prefixes.iter().map(|p| p.parse().unwrap()).collect(),
            limits: Limits::default(),
            pool: pool.iter().map(|p| p.parse().unwrap()).collect(),
        }
    }

    fn options(tenants: Vec<Tenant>) -> Options {
        Options {
            pool: vec!["203.0.113.0/28".parse().unwrap()],
            subscribers: Subscribers { prefix_length: 56, tenants, ..Subscribers::default() },
            ..Options::default()
        }
    }

    #[test]
    fn a_host_is_its_tenants_or_its_prefixes() {
        let t = vec![
            tenant("b", &["2001:db8:b::/48", "2001:db8:0:ff::/64"], &["192.0.2.1/32"]),
            tenant("a", &["2001:db8:a::1/128"], &[]),
        ];
        let w = Who::new(&options(t), None).unwrap();
        let owner = |a: &str| {
            let o = w.owner(a.parse().unwrap());
            (o.tenant, Ipv6Addr::from_bits(o.prefix).to_string(), o.length, o.set)
        };
        for host in ["2001:db8:b::", "2001:db8:b:ffff:ffff:ffff:ffff:ffff", "2001:db8:0:ff::7"] {
            assert_eq!(owner(host), (Some(0), "2001:db8:b::".into(), 48, 1), "{host}");
        }
        assert_eq!(owner("2001:db8:a::1"), (Some(1), "2001:db8:a::1".into(), 128, 0));
        assert_eq!(owner("2001:db8:a::2"), (None, "2001:db8:a::".into(), 56, 0));
        assert_eq!(owner("2001:db8:0:1ff::7"), (None, "2001:db8:0:100::".into(), 56, 0));
        assert_eq!(owner("::"), (None, "::".into(), 56, 0));
    }

    #[test]
    fn pool_sets_keep_their_numbers_by_name() {
        let a = || tenant("a", &["2001:db8:a::/48"], &["192.0.2.1/32"]);
        let b = || tenant("b", &["2001:db8:b::/48"], &["192.0.2.2/32"]);
        let c = || tenant("c", &["2001:db8:c::/48"], &["192.0.2.3/32"]);
        let first = Who::new(&options(vec![a(), b()]), None).unwrap();
        let set = |w: &Who, host: &str| w.owner(host.parse().unwrap()).set;
        assert_eq!((set(&first, "2001:db8:a::1"), set(&first, "2001:db8:b::1")), (1, 2));
        let second = Who::new(&options(vec![c(), b()]), Some(&first)).unwrap();
        assert_eq!(set(&second, "2001:db8:b::1"), 2);
        assert_eq!(set(&second, "2001:db8:c::1"), 3, "a's number is not given to another at once");
        let third = Who::new(&options(vec![c(), b(), a()]), Some(&second)).unwrap();
        assert_eq!(set(&third, "2001:db8:a::1"), 1);
        assert!(third.in_pool(Ipv4Addr::new(192, 0, 2, 3)) && !third.in_pool(Ipv4Addr::new(192, 0, 2, 4)));
    }
}
