//! What a site must be like to get into the table.

use super::name::{self, NameError};
use super::{Backend, Check, Site};
use std::net::Ipv6Addr;

/// Servers of one set, at most.
pub const SERVERS: usize = 64;
/// Sets of servers for ALPN, at most.
pub const ALPN_RULES: usize = 16;
/// The largest weight.
pub const HEAVIEST: u16 = 1000;
/// Ports of a listener that a server may have another one for, at most.
pub const PORTS: usize = 64;
/// Seconds of the longest interval between two checks.
pub const LONGEST_INTERVAL: u64 = 86_400;

/// Why a site is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// Its name.
    #[error("name `{0}`: {1}")]
    Name(String, NameError),
    /// A set without servers.
    #[error("no servers: at least one is needed in each set")]
    NoServers,
    /// Too many servers.
    #[error("{0} servers: {SERVERS} are allowed in each set")]
    Servers(usize),
    /// The same server with the same ports twice in a set.
    #[error("server {0} is there twice")]
    Twice(Ipv6Addr),
    /// An address that no server has.
    #[error("server {0}: not the address of a host that can be reached")]
    Address(Ipv6Addr),
    /// A weight.
    #[error("weight {0}: 0 to {HEAVIEST} are allowed")]
    Weight(u16),
    /// A port.
    #[error("port 0 is no port")]
    Port,
    /// One listener's port twice, or too many.
    #[error("ports: each of a listener's once, at most {PORTS}")]
    Ports,
    /// The identifier of a protocol (RFC 7301 3.1).
    #[error("ALPN: identifiers have 1 to 255 octets, each is there once, {ALPN_RULES} are allowed")]
    Alpn,
    /// Health checks.
    #[error("health: {0}")]
    Health(&'static str),
}

/// True if a server can have this address: a unicast one (RFC 4291 2.4) that is neither this host's nor only of a link, and
/// not an IPv4 address in disguise.
#[must_use]
pub fn can_be_server(a: Ipv6Addr) -> bool {
    let unusable = a.is_unspecified()
        || a.is_loopback()
        || a.is_multicast()
        || a.is_unicast_link_local()
        || a.to_ipv4_mapped().is_some();
    !unusable
}

fn set(servers: &[Backend]) -> Result<(), SiteError> {
    match servers.len() {
        0 => return Err(SiteError::NoServers),
        n if n > SERVERS => return Err(SiteError::Servers(n)),
        _ => {}
    }
    for (n, server) in servers.iter().enumerate() {
        if !can_be_server(server.address) {
            return Err(SiteError::Address(server.address));
        }
        if servers[..n].iter().any(|s| (s.address, &s.ports) == (server.address, &server.ports)) {
            return Err(SiteError::Twice(server.address));
        }
        if server.weight > HEAVIEST {
            return Err(SiteError::Weight(server.weight));
        }
        if server.ports.iter().any(|(of, port)| *of == 0 || *port == 0) {
            return Err(SiteError::Port);
        }
        let twice = |n: usize| server.ports[..n].iter().any(|(of, _)| *of == server.ports[n].0);
        if server.ports.len() > PORTS || (0..server.ports.len()).any(twice) {
            return Err(SiteError::Ports);
        }
    }
    Ok(())
}

impl Site {
    /// Checks all that can be wrong with a site by itself.
    ///
    /// # Errors
    /// The first thing that is.
    pub fn check(&self) -> Result<(), SiteError> {
        name::check_site(&self.name).map_err(|e| SiteError::Name(self.name.clone(), e))?;
        set(&self.backends)?;
        if self.alpn.len() > ALPN_RULES {
            return Err(SiteError::Alpn);
        }
        for (n, (protocol, servers)) in self.alpn.iter().enumerate() {
            let known = self.alpn[..n].iter().any(|(p, _)| p == protocol);
            if known || protocol.is_empty() || protocol.len() > usize::from(u8::MAX) {
                return Err(SiteError::Alpn);
            }
            set(servers)?;
        }
        let h = &self.health;
        if h.check != Check::None {
            if h.check.port() == Some(0) {
                return Err(SiteError::Port);
            }
            if h.interval.as_millis() < 100 || h.interval.as_secs() > LONGEST_INTERVAL {
                return Err(SiteError::Health("an interval of 100 ms to a day is allowed"));
            }
            if h.timeout.is_zero() || h.timeout > h.interval {
                return Err(SiteError::Health("the timeout is not more than the interval, and not 0"));
            }
            if h.rise == 0 || h.fall == 0 {
                return Err(SiteError::Health("rise and fall are at least 1"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{Health, Identity};

    fn backend(n: u16) -> Backend {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, n);
        Backend { address, ports: Vec::new(), weight: 1, draining: false }
    }

    fn site() -> Site {
        Site {
            name: "site1.example".to_owned(),
            backends: vec![backend(1)],
            alpn: Vec::new(),
            identity: Identity::None,
            redirect: None,
            health: Health::default(),
        }
    }

    #[test]
    fn each_way_to_be_wrong_is_told() {
        assert_eq!(site().check(), Ok(()));
        let wrong = |change: &dyn Fn(&mut Site)| {
            let mut s = site();
            change(&mut s);
            s.check().unwrap_err()
        };
        assert!(matches!(
            wrong(&|s| s.name = "Site.example".to_owned()),
            SiteError::Name(_, NameError::Octet)
        ));
        assert_eq!(wrong(&|s| s.backends.clear()), SiteError::NoServers);
        assert_eq!(wrong(&|s| s.alpn.push((b"h2".to_vec(), Vec::new()))), SiteError::NoServers);
        assert_eq!(wrong(&|s| s.backends = (1..=65).map(backend).collect()), SiteError::Servers(65));
        assert_eq!(wrong(&|s| s.backends.push(backend(1))), SiteError::Twice(backend(1).address));
        let mut two = site();
        two.backends.push(Backend { ports: vec![(443, 8443)], ..backend(1) });
        assert_eq!(two.check(), Ok(()), "two servers of one host");
        for bad in ["::", "::1", "ff02::1", "fe80::1", "::ffff:192.0.2.1"] {
            let bad: Ipv6Addr = bad.parse().unwrap();
            assert_eq!(wrong(&|s| s.backends[0].address = bad), SiteError::Address(bad));
        }
        assert_eq!(wrong(&|s| s.backends[0].weight = 1001), SiteError::Weight(1001));
        assert_eq!(wrong(&|s| s.backends[0].ports = vec![(443, 0)]), SiteError::Port);
        assert_eq!(wrong(&|s| s.backends[0].ports = vec![(443, 1), (443, 2)]), SiteError::Ports);
        assert_eq!(wrong(&|s| s.alpn.push((Vec::new(), vec![backend(1)]))), SiteError::Alpn);
        assert_eq!(wrong(&|s| s.alpn = vec![(b"h2".to_vec(), vec![backend(1)]); 2]), SiteError::Alpn);
        assert_eq!(wrong(&|s| s.health.check = Check::Tcp(0)), SiteError::Port);
        let health = |change: &dyn Fn(&mut Health)| {
            wrong(&|s| {
                s.health.check = Check::Tls(443);
                change(&mut s.health);
            })
        };
        assert!(matches!(health(&|h| h.rise = 0), SiteError::Health(_)));
        assert!(matches!(health(&|h| h.timeout = h.interval * 2), SiteError::Health(_)));
        assert!(matches!(health(&|h| h.interval /= 1000), SiteError::Health(_)));
    }
}
