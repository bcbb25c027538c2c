//! What the splicer is told: listeners, where connections to servers come from, limits and times. Sites are not here
//! but in [`crate::site`]: they change without a plan.

use causeway_core::{Duration, Prefix6};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Numbers of prefixes that clients' addresses are put into begin here, among the prefix numbers of the flow table's
/// inside keys (`causeway_flowtable::InsideKey::prefix`); those of NAT64 are below.
pub const CLIENT_PREFIX: u8 = 0x40;
/// Sources of connections to servers, at most.
pub const SOURCES: usize = 64;
/// Prefixes for clients' addresses, at most.
pub const CLIENT_PREFIXES: usize = 16;

/// Everything that a plan says of the splicer. Immutable; workers share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Generation of the plan, modulo 2^16.
    pub generation: u16,
    /// Sorted by address and port; no two have both.
    pub listeners: Vec<Listener>,
    /// The gateway's addresses that connections to servers come from. Place `n` is number `OWN_ADDRESS + n` in inside
    /// keys, and stays that address's over reloads ([`Config::successor`]); a place that is not in use is empty.
    pub sources: Vec<Option<Ipv6Addr>>,
    /// Prefixes of 96 bits for clients' addresses (RFC 6052 2.2). Place `n` is number [`CLIENT_PREFIX`]` + n`, as with
    /// `sources`.
    pub client_prefixes: Vec<Option<Prefix6>>,
    /// Bounds.
    pub limits: Limits,
    /// Times.
    pub timeouts: Timeouts,
    /// What is promised to clients before their server is known.
    pub tcp: Tcp,
}

/// An IPv4 address and TCP port at which clients are served by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
    /// TLS is taken, and routed by SNI (RFC 6066 3).
    pub tls: bool,
    /// HTTP is taken, and routed by Host (RFC 9110 7.2) or `:authority` (RFC 9113 8.3.1).
    pub http: bool,
    /// Whoever names no site, or one that is not known, comes to this one (its name as in the table); without, such
    /// clients are refused in the words of their protocol. A listener for neither TLS nor HTTP must have one: its
    /// clients are not waited for.
    pub default_site: Option<String>,
    /// HTTP requests are redirected to the same at `https:` unless the site says otherwise, but for HTTP-01 challenges
    /// (RFC 8555 8.3).
    pub redirect: bool,
}

/// Bounds, for each worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are not spliced yet, or never will be, at most.
    pub peeks: u32,
    /// The same of one client address.
    pub peeks_per_client: u32,
    /// Octets that all of them may hold together, buffers included.
    pub octets: usize,
    /// Octets of a ClientHello, its record headers included (at most 65,536).
    pub hello_octets: usize,
    /// Octets of the head of an HTTP request.
    pub head_octets: usize,
    /// Connections that one client address may open in a second, and at once. Zero is no limit.
    pub opened_per_client: (u32, u32),
}

/// Times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the first octet of a client.
    pub first_octet: Duration,
    /// From the first octet until the site is known.
    pub hello: Duration,
    /// Until a server has opened its connection.
    pub connect: Duration,
    /// Until a server has acknowledged what was sent to it ahead of the splice.
    pub handover: Duration,
    /// How long a spliced connection may be silent while both ends are open (RFC 5382 5, REQ-5: at least 2 h 4 min).
    pub established: Duration,
    /// The same once one end has closed.
    pub half_closed: Duration,
    /// The same once both have closed, or one has reset it.
    pub closing: Duration,
    /// How long a connection that stays terminated may be silent.
    pub terminated: Duration,
}

/// What is promised to clients before their server is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// Window scale (RFC 7323 2.2), 0 to 14.
    pub window_scale: u8,
    /// Timestamps (RFC 7323 3) are agreed to.
    pub timestamps: bool,
    /// Selective acknowledgements (RFC 2018) are agreed to.
    pub sack: bool,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            generation: 0,
            listeners: Vec::new(),
            sources: Vec::new(),
            client_prefixes: Vec::new(),
            limits: Limits {
                peeks: 8192,
                peeks_per_client: 256,
                octets: 256 << 20,
                hello_octets: 65_536,
                head_octets: 16_384,
                opened_per_client: (0, 0),
            },
            timeouts: Timeouts {
                first_octet: seconds(10),
                hello: seconds(10),
                connect: seconds(5),
                handover: seconds(10),
                established: seconds(2 * 3600 + 4 * 60),
                half_closed: seconds(2 * 3600 + 4 * 60),
                closing: seconds(30),
                terminated: seconds(3600),
            },
            tcp: Tcp { window_scale: 7, timestamps: true, sack: true },
        }
    }
}

impl Config {
    /// The listener at this address and port.
    #[must_use]
    pub fn listener(&self, address: Ipv4Addr, port: u16) -> Option<&Listener> {
        let at = self.listeners.binary_search_by_key(&(address, port), |l| (l.address, l.port)).ok()?;
        self.listeners.get(at)
    }

    /// This configuration with the places of sources and client prefixes as `before` had them, so that flows of an
    /// older plan keep their meaning. What `before` had and this one has not is left out: flows from it end.
    #[must_use]
    pub fn successor(mut self, before: &Self) -> Self {
        self.sources = placed(&self.sources, &before.sources);
        self.client_prefixes = placed(&self.client_prefixes, &before.client_prefixes);
        self
    }
}

/// `new` in the places that `old` has for them, the rest in places that `old` left empty, then behind.
fn placed<T: Copy + PartialEq>(new: &[Option<T>], old: &[Option<T>]) -> Vec<Option<T>> {
    let kept = |item: &Option<T>| item.filter(|i| new.contains(&Some(*i)));
    let mut out: Vec<Option<T>> = old.iter().map(kept).collect();
    for item in new.iter().flatten() {
        if out.contains(&Some(*item)) {
            continue;
        }
        // Not where the old plan had another: a flow of that plan would be taken for one of this.
        match (0..out.len()).find(|&n| out[n].is_none() && old.get(n).is_none_or(Option::is_none)) {
            Some(n) => out[n] = Some(*item),
            None => out.push(Some(*item)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_keeps_its_number_over_a_reload_and_takes_nobody_elses() {
        let [a, b, c]: [Ipv6Addr; 3] = [1, 2, 3].map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, n));
        let with = |sources: &[Option<Ipv6Addr>]| Config { sources: sources.to_vec(), ..Config::default() };
        let first = with(&[Some(a), Some(b)]);
        let second = with(&[Some(c), Some(b)]).successor(&first);
        assert_eq!(second.sources, [None, Some(b), Some(c)]);
        // A plan later nobody has a flow from the first place any more that would be believed.
        assert_eq!(
            with(&[Some(a), Some(b), Some(c)]).successor(&second).sources,
            [Some(a), Some(b), Some(c)]
        );
    }
}
