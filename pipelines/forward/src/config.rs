//! Who may talk to whom.

use causeway_core::{Duration, IfId, Interfaces, Role};
use causeway_flowtable::Tick;
use std::fmt;

/// Whether hosts outside a network may begin a conversation with hosts in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inbound {
    /// They may: the network hosts services. The default.
    #[default]
    Open,
    /// They may not; answers to what the network's own hosts began come in.
    Closed,
}

/// Whether tenant networks reach each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Isolation {
    /// They do not, but for these pairs, which do in both directions. The default, with no pairs: tenants
    /// of a hosting network are strangers.
    On {
        /// Pairs of tenant networks, in either order.
        allow: Vec<(IfId, IfId)>,
    },
    /// They all do.
    Off,
}

impl Default for Isolation {
    fn default() -> Self {
        Self::On { allow: Vec::new() }
    }
}

/// What cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// A pair that is exempt from isolation names an interface that is no tenant network.
    NotATenant {
        /// The interface.
        interface: IfId,
    },
    /// A pair that is exempt from isolation names one network twice.
    SameNetwork {
        /// The interface.
        interface: IfId,
    },
    /// An uplink is said to be closed.
    ClosedUplink {
        /// The interface.
        interface: IfId,
    },
    /// An inbound policy is for an interface that does not exist.
    NoSuchInterface {
        /// The interface.
        interface: IfId,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATenant { interface } => {
                write!(f, "isolation: interface number {} is no tenant network", interface.0)
            }
            Self::SameNetwork { interface } => {
                write!(f, "isolation: a pair names interface number {} twice", interface.0)
            }
            Self::ClosedUplink { interface } => {
                write!(f, "inbound: interface number {} is an uplink, which cannot be closed", interface.0)
            }
            Self::NoSuchInterface { interface } => {
                write!(f, "inbound: there is no interface number {}", interface.0)
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// How long the flows of closed networks are remembered without a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP whose handshake is done (RFC 6092 REC-35: at least 2 hours and 4 minutes; the default).
    pub tcp_established: Duration,
    /// TCP that is opening or closing (RFC 6092 REC-35: at least 4 minutes; the default).
    pub tcp_transitory: Duration,
    /// UDP and its like (RFC 6092 REC-14: at least 2 minutes; by default 5).
    pub udp: Duration,
    /// Echo (by default 60 seconds).
    pub echo: Duration,
    /// Everything else (by default 5 minutes).
    pub other: Duration,
    /// Between the first fragment of a packet and its later ones (by default 10 seconds).
    pub fragment: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_established: Duration::from_secs(2 * 3600 + 4 * 60),
            tcp_transitory: Duration::from_secs(4 * 60),
            udp: Duration::from_secs(5 * 60),
            echo: Duration::from_secs(60),
            other: Duration::from_secs(5 * 60),
            fragment: Duration::from_secs(10),
        }
    }
}

/// Timeouts as the sweep compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ticks {
    pub(crate) tcp_established: u32,
    pub(crate) tcp_transitory: u32,
    pub(crate) udp: u32,
    pub(crate) echo: u32,
    pub(crate) other: u32,
    pub(crate) fragment: u32,
}

impl Ticks {
    fn of(t: &Timeouts) -> Self {
        Self {
            tcp_established: Tick::covering(t.tcp_established),
            tcp_transitory: Tick::covering(t.tcp_transitory),
            udp: Tick::covering(t.udp),
            echo: Tick::covering(t.echo),
            other: Tick::covering(t.other),
            fragment: Tick::covering(t.fragment),
        }
    }
}

/// What forwarding has to know of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// The largest packet, in octets.
    pub(crate) mtu: u16,
    pub(crate) tenant: bool,
    pub(crate) closed: bool,
}

/// Settings of the forwarding stage: a part of a plan, immutable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    links: Vec<Link>,
    /// True if all tenant networks reach each other.
    mixed: bool,
    /// Pairs that do although others do not: both orders of each, sorted.
    allow: Vec<(IfId, IfId)>,
    /// True if a network is closed.
    pub(crate) any_closed: bool,
    pub(crate) timeouts: Ticks,
    pub(crate) errors_rate_pps: u32,
    pub(crate) errors_burst: u32,
}

impl Config {
    /// Settings for these interfaces: every network open, `isolation` between tenant networks, and at
    /// most `errors_rate_pps` ICMPv6 errors a second in the long run and `errors_burst` at once, per
    /// worker (RFC 4443 2.4(f)).
    ///
    /// # Errors
    /// When `isolation` names what is no tenant network, or one twice.
    pub fn new(
        interfaces: &Interfaces,
        isolation: &Isolation,
        errors_rate_pps: u32,
        errors_burst: u32,
    ) -> Result<Self, ConfigError> {
        let link =
            |i: &causeway_core::Interface| Link { mtu: i.mtu, tenant: i.role == Role::Tenant, closed: false };
        let links: Vec<Link> = interfaces.iter().map(|(_, i)| link(i)).collect();
        let (mixed, pairs) = match isolation {
            Isolation::On { allow } => (false, &allow[..]),
            Isolation::Off => (true, &[][..]),
        };
        let mut allow = Vec::new();
        for &(a, b) in pairs {
            for interface in [a, b] {
                if !links.get(usize::from(interface.0)).is_some_and(|l| l.tenant) {
                    return Err(ConfigError::NotATenant { interface });
                }
            }
            if a == b {
                return Err(ConfigError::SameNetwork { interface: a });
            }
            allow.extend([(a, b), (b, a)]);
        }
        allow.sort_unstable();
        allow.dedup();
        let timeouts = Ticks::of(&Timeouts::default());
        Ok(Self { links, mixed, allow, any_closed: false, timeouts, errors_rate_pps, errors_burst })
    }

    /// The same with this inbound policy for one tenant network.
    ///
    /// # Errors
    /// When there is no such interface, or an uplink is to be closed.
    pub fn with_inbound(mut self, interface: IfId, inbound: Inbound) -> Result<Self, ConfigError> {
        let Some(link) = self.links.get_mut(usize::from(interface.0)) else {
            return Err(ConfigError::NoSuchInterface { interface });
        };
        if inbound == Inbound::Closed && !link.tenant {
            return Err(ConfigError::ClosedUplink { interface });
        }
        link.closed = inbound == Inbound::Closed;
        self.any_closed = self.links.iter().any(|l| l.closed);
        Ok(self)
    }

    /// The same with these timeouts for the flows of closed networks.
    #[must_use]
    pub fn with_timeouts(self, timeouts: &Timeouts) -> Self {
        Self { timeouts: Ticks::of(timeouts), ..self }
    }

    #[inline(always)]
    pub(crate) fn link(&self, id: IfId) -> Option<Link> {
        self.links.get(usize::from(id.0)).copied()
    }

    /// True if two different tenant networks reach each other.
    #[inline(always)]
    pub(crate) fn mixes(&self, from: IfId, to: IfId) -> bool {
        self.mixed || self.allow.binary_search(&(from, to)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_testkit::lab_interfaces;

    fn config(allow: &[(u16, u16)]) -> Result<Config, ConfigError> {
        let allow = allow.iter().map(|(a, b)| (IfId(*a), IfId(*b))).collect();
        Config::new(&Interfaces::new(lab_interfaces()), &Isolation::On { allow }, 100, 10)
    }

    #[test]
    fn pairs_count_in_both_orders() {
        let c = config(&[(2, 0)]).unwrap();
        assert!(c.mixes(IfId(0), IfId(2)) && c.mixes(IfId(2), IfId(0)));
        assert!(!config(&[]).unwrap().mixes(IfId(0), IfId(2)));
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused_by_name() {
        assert_eq!(config(&[(0, 1)]).unwrap_err(), ConfigError::NotATenant { interface: IfId(1) });
        assert_eq!(config(&[(9, 0)]).unwrap_err(), ConfigError::NotATenant { interface: IfId(9) });
        assert_eq!(config(&[(2, 2)]).unwrap_err(), ConfigError::SameNetwork { interface: IfId(2) });
        let closed = |n| config(&[]).unwrap().with_inbound(IfId(n), Inbound::Closed);
        assert_eq!(closed(1).unwrap_err(), ConfigError::ClosedUplink { interface: IfId(1) });
        assert_eq!(closed(7).unwrap_err(), ConfigError::NoSuchInterface { interface: IfId(7) });
        assert!(closed(0).unwrap().any_closed);
        assert!(!closed(0).unwrap().with_inbound(IfId(0), Inbound::Open).unwrap().any_closed);
        assert!(closed(1).unwrap_err().to_string().contains("cannot be closed"));
    }
}
