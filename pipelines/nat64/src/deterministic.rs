//! Ports by calculation (RFC 7422): no log is needed to know whose port it was.
//!
//! ```text
//!  subscriber n  -->  pool address n / p,  ports lo + (n mod p) * e  to  lo + (n mod p) * e + e - 1
//! ```
//! where `p` is the number of subscribers of one address (rounded up) and `e` the number of ports of each:
//! the sequential algorithm of RFC 7422 2, without an overflow pool (its D is 0). System ports are left
//! out (RFC 7422 2, step 1). ICMP identifiers are shared out as ports are. Within its ports a subscriber
//! gets a random one (RFC 7422 2, step 3).

use crate::config::{Allocation, Config, Options, SubscriberError};
use causeway_core::{Prefix4, Prefix6};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// The fewest ports of each protocol that a subscriber may be left with.
pub(crate) const MIN_PORTS: u32 = 8;

/// The first port that is no system port (RFC 6335 6).
pub(crate) const USER_PORTS: u16 = 1024;

/// Which ports are whose, both ways. A pure function of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deterministic {
    /// Prefixes of hosts, each with the number of its first subscriber, in the order of addresses.
    hosts: Vec<(Prefix6, u32)>,
    length: u8,
    /// Pool prefixes, each with the number of its first address.
    pool: Vec<(Prefix4, u32)>,
    first_port: u16,
    subscribers: u32,
    per_address: u32,
    ports: u16,
}

impl Deterministic {
    /// The calculation of a configuration; nothing if ports are given out another way.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        config.deterministic().cloned()
    }

    /// # Errors
    /// What does not fit together.
    pub(crate) fn new(options: &Options) -> Result<Option<Self>, SubscriberError> {
        let Allocation::Deterministic { hosts } = &options.allocation else { return Ok(None) };
        let length = options.subscribers.prefix_length;
        if hosts.is_empty() {
            return Err(SubscriberError::NoHosts);
        }
        let mut subscribers = 0u128;
        let mut list: Vec<(Prefix6, u32)> = Vec::new();
        for h in hosts {
            if h.len() > length {
                return Err(SubscriberError::LongHosts(*h, length));
            }
            if let Some((other, _)) = list.iter().find(|(o, _)| o.overlaps(*h)) {
                return Err(SubscriberError::HostsOverlap(Box::new([*other, *h])));
            }
            // What does not fit is refused below, before anybody uses the number.
            list.push((*h, u32::try_from(subscribers).unwrap_or(u32::MAX)));
            subscribers = subscribers
                .saturating_add(1u128.checked_shl(u32::from(length - h.len())).unwrap_or(u128::MAX));
        }
        list.sort();
        let (mut pool, mut addresses) = (Vec::new(), 0u32);
        for p in &options.pool {
            pool.push((*p, addresses));
            addresses += 1 << (32 - u32::from(p.len()));
        }
        let first_port = user_ports(options);
        let of = u32::from(options.last_port) - u32::from(first_port) + 1;
        let per_address = subscribers.div_ceil(u128::from(addresses.max(1)));
        let ports = u128::from(of) / per_address.max(1);
        let fits = u32::try_from(subscribers).ok().zip(u32::try_from(per_address).ok());
        let (Some((subscribers, per_address)), true) = (fits, ports >= u128::from(MIN_PORTS)) else {
            let ports = u32::try_from(ports).unwrap_or(0);
            return Err(SubscriberError::FewPorts { subscribers, addresses, ports });
        };
        let ports = u16::try_from(ports).unwrap_or(u16::MAX);
        Ok(Some(Self { hosts: list, length, pool, first_port, subscribers, per_address, ports }))
    }

    /// How many subscribers there is room for.
    #[must_use]
    pub const fn subscribers(&self) -> u32 {
        self.subscribers
    }

    /// Ports of each protocol that every subscriber has.
    #[must_use]
    pub const fn ports(&self) -> u16 {
        self.ports
    }

    /// The pool address and the ports of the subscriber that `host` belongs to; nothing if it is none of
    /// the configured ones. RFC 7422 2: function 1.
    #[must_use]
    pub fn ports_of(&self, host: Ipv6Addr) -> Option<(Ipv4Addr, RangeInclusive<u16>)> {
        let next = self.hosts.partition_point(|(p, _)| p.address() <= host);
        let (prefix, base) = next.checked_sub(1).and_then(|n| self.hosts.get(n))?;
        if !prefix.contains(host) {
            return None;
        }
        let within = (host.to_bits() ^ prefix.address().to_bits()).checked_shr(128 - u32::from(self.length));
        let n = base + u32::try_from(within.unwrap_or(0)).ok()?;
        let (address, place) = (n / self.per_address, n % self.per_address);
        let (p, base) = self.pool.iter().rev().find(|(_, base)| *base <= address)?;
        let first = u32::from(self.first_port) + place * u32::from(self.ports);
        let last = first + u32::from(self.ports) - 1;
        let ports = u16::try_from(first).ok()?..=u16::try_from(last).ok()?;
        Some((Ipv4Addr::from_bits(p.address().to_bits() + (address - base)), ports))
    }

    /// The subscriber that has `port` of `address`, nothing if nobody has. RFC 7422 2: function 2.
    #[must_use]
    pub fn subscriber_of(&self, address: Ipv4Addr, port: u16) -> Option<Prefix6> {
        let (p, base) = self.pool.iter().find(|(p, _)| p.contains(address))?;
        let address = base + (address.to_bits() - p.address().to_bits());
        let place = u32::from(port.checked_sub(self.first_port)?) / u32::from(self.ports);
        if place >= self.per_address {
            return None;
        }
        let n = u64::from(address) * u64::from(self.per_address) + u64::from(place);
        let n = u32::try_from(n).ok().filter(|n| *n < self.subscribers)?;
        let (prefix, base) =
            self.hosts.iter().filter(|(_, base)| *base <= n).max_by_key(|(_, base)| *base)?;
        let within = u128::from(n - base).checked_shl(128 - u32::from(self.length)).unwrap_or(0);
        Prefix6::new(Ipv6Addr::from_bits(prefix.address().to_bits() | within), self.length)
    }
}

/// The first port to give out, system ports left out as far as the range has others.
pub(crate) fn user_ports(options: &Options) -> u16 {
    if options.last_port < USER_PORTS { options.first_port } else { options.first_port.max(USER_PORTS) }
}

#[cfg(test)]
mod tests;
