//! Sites as the API has them, and as they are kept: what may be said of one, in JSON. Fields are added, never renamed.

use super::SiteRefusal;
use causeway_core::net::Prefix6;
use causeway_splicer::site::name::normal_site;
use causeway_splicer::site::{Backend, Check, Health, Identity, Site};
use serde::{Deserialize, Serialize};
use std::net::Ipv6Addr;
use std::time::Duration;

/// The weight of a server that has none.
const WEIGHT: u16 = 100;

/// A site, as it is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteSpec {
    /// Its name; that of the path if it is left out.
    #[serde(default)]
    pub name: String,
    /// Its servers; at least one.
    pub backends: Vec<BackendSpec>,
    /// Other servers for clients that offer a protocol (RFC 7301); the first that fits counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<AlpnSpec>,
    /// How its servers are told who the client is.
    #[serde(default)]
    pub identity: IdentitySpec,
    /// For `embedded`: one of the configured client prefixes; the first if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_prefix: Option<Prefix6>,
    /// HTTP is redirected to HTTPS; as the listener does if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<bool>,
    /// How its servers are found to be up.
    #[serde(default)]
    pub health: HealthSpec,
}

/// A server of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSpec {
    /// Its address.
    pub address: Ipv6Addr,
    /// Ports of listeners, and those of the server for them; a port that is not here is the same at both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<(u16, u16)>,
    /// Its part of new connections, 0 to 1000.
    #[serde(default = "weight")]
    pub weight: u16,
    /// It gets no new connections, and keeps those that it has.
    #[serde(default)]
    pub draining: bool,
}

const fn weight() -> u16 {
    WEIGHT
}

/// Servers for clients that offer a protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlpnSpec {
    /// The protocol's identifier.
    pub protocol: String,
    /// The servers; at least one.
    pub backends: Vec<BackendSpec>,
}

/// How servers are told who the client is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum IdentitySpec {
    /// Not at all: connections come from an address of the gateway.
    #[default]
    None,
    /// PROXY protocol, version 1.
    Proxy1,
    /// PROXY protocol, version 2.
    Proxy2,
    /// Connections come from the client's address under a client prefix.
    Embedded,
}

/// What is tried at a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckSpec {
    /// Nothing.
    #[default]
    None,
    /// A TCP connection.
    Tcp,
    /// The same, and an answer to a ClientHello.
    Tls,
}

/// How servers are found to be up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSpec {
    /// What is tried.
    pub check: CheckSpec,
    /// The servers' port at which it is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Milliseconds between two checks.
    pub interval_ms: u64,
    /// Milliseconds until there has to be an answer.
    pub timeout_ms: u64,
    /// So many in a row that succeed make a server up.
    pub rise: u16,
    /// So many in a row that fail make it down.
    pub fall: u16,
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self::from(&Health::default())
    }
}

impl From<&Health> for HealthSpec {
    fn from(h: &Health) -> Self {
        Self {
            check: match h.check {
                Check::None => CheckSpec::None,
                Check::Tcp(_) => CheckSpec::Tcp,
                Check::Tls(_) => CheckSpec::Tls,
            },
            port: h.check.port(),
            interval_ms: ms(h.interval),
            timeout_ms: ms(h.timeout),
            rise: h.rise,
            fall: h.fall,
        }
    }
}

impl From<&Backend> for BackendSpec {
    fn from(b: &Backend) -> Self {
        Self { address: b.address, ports: b.ports.clone(), weight: b.weight, draining: b.draining }
    }
}

impl From<&BackendSpec> for Backend {
    fn from(b: &BackendSpec) -> Self {
        Self { address: b.address, ports: b.ports.clone(), weight: b.weight, draining: b.draining }
    }
}

impl SiteSpec {
    /// A site with nothing but servers.
    #[must_use]
    pub fn new(name: &str, backends: Vec<BackendSpec>) -> Self {
        Self {
            name: name.to_owned(),
            backends,
            alpn: Vec::new(),
            identity: IdentitySpec::None,
            client_prefix: None,
            redirect: None,
            health: HealthSpec::default(),
        }
    }

    /// A site in words of the API; `prefixes` are the client prefixes by their places.
    #[must_use]
    pub fn of(site: &Site, prefixes: &[Option<Prefix6>]) -> Self {
        let all = |list: &[Backend]| list.iter().map(BackendSpec::from).collect();
        let (identity, client_prefix) = match site.identity {
            Identity::None => (IdentitySpec::None, None),
            Identity::Proxy1 => (IdentitySpec::Proxy1, None),
            Identity::Proxy2 => (IdentitySpec::Proxy2, None),
            Identity::Embedded(place) => {
                (IdentitySpec::Embedded, prefixes.get(usize::from(place)).copied().flatten())
            }
        };
        let rule = |(protocol, list): &(Vec<u8>, Vec<Backend>)| AlpnSpec {
            protocol: String::from_utf8_lossy(protocol).into_owned(),
            backends: all(list),
        };
        Self {
            name: site.name.clone(),
            backends: all(&site.backends),
            alpn: site.alpn.iter().map(rule).collect(),
            identity,
            client_prefix,
            redirect: site.redirect,
            health: HealthSpec::from(&site.health),
        }
    }

    /// The site, checked.
    ///
    /// # Errors
    /// [`SiteRefusal::Bad`], with what is wrong.
    pub fn site(&self, prefixes: &[Option<Prefix6>]) -> Result<Site, SiteRefusal> {
        let bad = |why: String| SiteRefusal::Bad(self.name.clone(), why);
        let name = normal_site(&self.name).map_err(|e| bad(format!("name: {e}")))?;
        if self.identity != IdentitySpec::Embedded && self.client_prefix.is_some() {
            return Err(bad("client_prefix: only with identity `embedded`".to_owned()));
        }
        let identity = match self.identity {
            IdentitySpec::None => Identity::None,
            IdentitySpec::Proxy1 => Identity::Proxy1,
            IdentitySpec::Proxy2 => Identity::Proxy2,
            IdentitySpec::Embedded => {
                let fits = |p: &Option<Prefix6>| p.is_some_and(|p| self.client_prefix.is_none_or(|w| w == p));
                let place = prefixes.iter().position(fits).and_then(|place| u8::try_from(place).ok());
                Identity::Embedded(place.ok_or_else(|| {
                    let known: Vec<String> = prefixes.iter().flatten().map(ToString::to_string).collect();
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    bad(format!("client_prefix: not configured; client prefixes: {known}"))
                })?)
            }
        };
        let h = &self.health;
        let check = match (h.check, h.port) {
            (CheckSpec::None, None) => Check::None,
            (CheckSpec::None, Some(_)) => return Err(bad("health: a port, and nothing is tried".to_owned())),
            (CheckSpec::Tcp, Some(port)) => Check::Tcp(port),
            (CheckSpec::Tls, Some(port)) => Check::Tls(port),
            (_, None) => return Err(bad("health: the port to be tried is missing".to_owned())),
        };
        let all = |list: &[BackendSpec]| -> Vec<Backend> { list.iter().map(Backend::from).collect() };
        let site = Site {
            name,
            backends: all(&self.backends),
            alpn: self.alpn.iter().map(|r| (r.protocol.clone().into_bytes(), all(&r.backends))).collect(),
            identity,
            redirect: self.redirect,
            health: Health {
                check,
                interval: Duration::from_millis(h.interval_ms),
                timeout: Duration::from_millis(h.timeout_ms),
                rise: h.rise,
                fall: h.fall,
            },
        };
        site.check().map_err(|e| bad(e.to_string()))?;
        Ok(site)
    }
}
