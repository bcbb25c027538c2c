//! Port maps that were asked for while the gateway ran: ports of a proxy address that lead to one port of one server each,
//! kept on disk. They are static mappings of NAT64: the plan is made anew for each.

use super::store::{Row, Store, StoreError};
use crate::control::introspect::Protocol;
use crate::plan::PortMapRange;
use causeway_nat64::StaticMapping;
use causeway_splicer::site::check::can_be_server;
use causeway_wire::l4;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing::{info, warn};

/// Port maps of one server, at most.
const PER_SERVER: usize = 256;

/// Why a port map is not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum PortMapRefusal {
    /// There is no splicer, or none that gives out ports.
    #[error("no splicer.port-map-range is configured: there are no port maps on request")]
    NoRange,
    /// ICMP has no ports.
    #[error("only tcp and udp have ports")]
    Protocol,
    /// The server.
    #[error("{0}: not an address and port of a server")]
    Server(SocketAddrV6),
    /// The port that was asked for is not one that is given out.
    #[error("port {port}: {first} to {last} are given out")]
    NotInRange {
        /// The port.
        port: u16,
        /// The first that may be given out.
        first: u16,
        /// The last.
        last: u16,
    },
    /// Somebody else has it.
    #[error("{0} leads to {1} already")]
    Taken(SocketAddrV4, SocketAddrV6),
    /// All ports are given out.
    #[error("all ports are given out")]
    Full,
    /// The server has as many as it may.
    #[error("{0} has {PER_SERVER} port maps, and gets no more")]
    Enough(Ipv6Addr),
    /// No such one.
    #[error("there is no port map on request at {0}/{1}")]
    Unknown(SocketAddrV4, Protocol),
    /// It is in the configuration.
    #[error("{0}/{1} is in the configuration file: change it there and reload")]
    Configured(SocketAddrV4, Protocol),
    /// It cannot be kept.
    #[error("not done, because it cannot be kept: {0}")]
    Store(#[from] StoreError),
    /// The gateway did not make it so.
    #[error("{0}")]
    Gateway(String),
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The server's address and port.
    pub server: SocketAddrV6,
    /// The outside port; nothing: any that is free.
    pub port: Option<u16>,
}

/// A port map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapRow {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The proxy address and port.
    pub outside: SocketAddrV4,
    /// The server.
    pub inside: SocketAddrV6,
    /// `config` or `api`.
    pub origin: super::Origin,
    /// False for one that is kept and not in use: its port is not given out any more, or the configuration leads somewhere
    /// else from it, or to its server from somewhere else.
    pub in_use: bool,
}

type Key = (u8, Ipv4Addr, u16);

#[derive(Debug, Default)]
struct Maps {
    store: Option<Store>,
    maps: BTreeMap<Key, SocketAddrV6>,
    /// The port that was given out last, so that one that was given back rests for as long as others are free.
    last: u16,
}

/// All port maps on request.
#[derive(Debug)]
pub struct PortMaps {
    maps: Mutex<Maps>,
    path: PathBuf,
}

fn number(protocol: Protocol) -> Result<u8, PortMapRefusal> {
    match protocol {
        Protocol::Tcp => Ok(l4::PROTO_TCP),
        Protocol::Udp => Ok(l4::PROTO_UDP),
        Protocol::Icmp => Err(PortMapRefusal::Protocol),
    }
}

/// TCP or UDP of this number.
#[must_use]
pub const fn named(protocol: u8) -> Protocol {
    if protocol == l4::PROTO_UDP { Protocol::Udp } else { Protocol::Tcp }
}

fn stored(key: &Key, server: &SocketAddrV6) -> Row {
    Row {
        protocol: key.0,
        address: key.1.to_bits(),
        port: key.2,
        server: server.ip().octets(),
        server_port: server.port(),
    }
}

fn mapping(key: &Key, server: &SocketAddrV6) -> StaticMapping {
    StaticMapping { protocol: key.0, outside: (key.1, key.2), inside: (*server.ip(), server.port()) }
}

impl PortMaps {
    /// None yet; `path` is where they are kept.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { maps: Mutex::default(), path }
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads those that are kept, if that has not happened.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(&self) -> Result<(), StoreError> {
        let mut maps = self.lock();
        if maps.store.is_some() {
            return Ok(());
        }
        let store = Store::open(&self.path)?;
        for row in store.port_maps()? {
            let key = (row.protocol, Ipv4Addr::from_bits(row.address), row.port);
            let server = SocketAddrV6::new(Ipv6Addr::from(row.server), row.server_port, 0, 0);
            maps.maps.insert(key, server);
        }
        info!(port_maps = maps.maps.len(), "port maps on request");
        maps.store = Some(store);
        Ok(())
    }

    /// Those that can be in use beside `fixed`, the static mappings of the configuration: whose ports are given out, and that
    /// contradict none of those.
    #[must_use]
    pub fn usable(&self, range: Option<PortMapRange>, fixed: &[StaticMapping]) -> Vec<StaticMapping> {
        let maps = self.lock();
        let Some(range) = range else { return Vec::new() };
        let all = maps.maps.iter().map(|(key, server)| mapping(key, server));
        let (usable, others): (Vec<_>, Vec<_>) = all.partition(|m| fits(m, range, fixed));
        for m in others {
            let (address, port) = m.outside;
            warn!(
                "port map {address}:{port} is kept, and not in use: the configuration leaves no place for it"
            );
        }
        usable
    }

    /// Gives out a port. Which one, and whether it is new: a server that has one for this port of its, on request or by the
    /// configuration, keeps that.
    ///
    /// # Errors
    /// [`PortMapRefusal`]; nothing has changed then.
    pub fn add(
        &self,
        wanted: &Wanted,
        range: PortMapRange,
        fixed: &[StaticMapping],
    ) -> Result<(PortMapRow, bool), PortMapRefusal> {
        let protocol = number(wanted.protocol)?;
        let server = SocketAddrV6::new(*wanted.server.ip(), wanted.server.port(), 0, 0);
        if server.port() == 0 || !can_be_server(*server.ip()) {
            return Err(PortMapRefusal::Server(server));
        }
        let row = |key: &Key| PortMapRow {
            protocol: wanted.protocol,
            outside: SocketAddrV4::new(key.1, key.2),
            inside: server,
            origin: super::Origin::Api,
            in_use: true,
        };
        let inside = (*server.ip(), server.port());
        if let Some(m) = fixed.iter().find(|m| m.protocol == protocol && m.inside == inside) {
            // A mapping is the same in both directions (RFC 6146 3.1), so that a server's port has one outside port.
            let outside = SocketAddrV4::new(m.outside.0, m.outside.1);
            if wanted.port.is_some_and(|port| (range.address, port) != m.outside) {
                return Err(PortMapRefusal::Taken(outside, server));
            }
            let origin = super::Origin::Config;
            return Ok((
                PortMapRow { protocol: wanted.protocol, outside, inside: server, origin, in_use: true },
                false,
            ));
        }
        let mut maps = self.lock();
        let of_server = maps.maps.iter().filter(|(_, s)| s.ip() == server.ip());
        if let Some((key, _)) = of_server.clone().find(|(key, s)| key.0 == protocol && **s == server) {
            if wanted.port.is_none_or(|port| port == key.2) {
                return Ok((row(key), false));
            }
            return Err(PortMapRefusal::Taken(SocketAddrV4::new(key.1, key.2), server));
        }
        if of_server.count() >= PER_SERVER {
            return Err(PortMapRefusal::Enough(*server.ip()));
        }
        let holder = |port: u16| {
            let in_file = fixed.iter().find(|m| m.protocol == protocol && m.outside == (range.address, port));
            let in_file = in_file.map(|m| SocketAddrV6::new(m.inside.0, m.inside.1, 0, 0));
            in_file.or_else(|| maps.maps.get(&(protocol, range.address, port)).copied())
        };
        let port = match wanted.port {
            Some(port) if !(range.first..=range.last).contains(&port) => {
                return Err(PortMapRefusal::NotInRange { port, first: range.first, last: range.last });
            }
            Some(port) => match holder(port) {
                Some(other) => {
                    return Err(PortMapRefusal::Taken(SocketAddrV4::new(range.address, port), other));
                }
                None => port,
            },
            None => {
                let from =
                    if (range.first..range.last).contains(&maps.last) { maps.last + 1 } else { range.first };
                let round = (from..=range.last).chain(range.first..from);
                round.into_iter().find(|port| holder(*port).is_none()).ok_or(PortMapRefusal::Full)?
            }
        };
        let key = (protocol, range.address, port);
        if let Some(store) = &maps.store {
            store.put_port_map(&stored(&key, &server))?;
        }
        maps.maps.insert(key, server);
        maps.last = port;
        Ok((row(&key), true))
    }

    /// Takes a port back.
    ///
    /// # Errors
    /// [`PortMapRefusal`]; nothing has changed then.
    pub fn remove(&self, protocol: Protocol, outside: SocketAddrV4) -> Result<PortMapRow, PortMapRefusal> {
        let key = (number(protocol)?, *outside.ip(), outside.port());
        let mut maps = self.lock();
        let server = *maps.maps.get(&key).ok_or(PortMapRefusal::Unknown(outside, protocol))?;
        if let Some(store) = &maps.store {
            store.remove_port_map(&stored(&key, &server))?;
        }
        maps.maps.remove(&key);
        Ok(PortMapRow { protocol, outside, inside: server, origin: super::Origin::Api, in_use: false })
    }

    /// Puts one back that was removed, because the gateway would not.
    pub fn restore(&self, row: &PortMapRow) {
        let Ok(protocol) = number(row.protocol) else { return };
        let key = (protocol, *row.outside.ip(), row.outside.port());
        let mut maps = self.lock();
        if let Some(store) = &maps.store
            && let Err(e) = store.put_port_map(&stored(&key, &row.inside))
        {
            warn!("port map {}: {e}", row.outside);
        }
        maps.maps.insert(key, row.inside);
    }

    /// All, those of the configuration (`port_maps`) among them, by protocol and port; `fixed` are all of its static mappings.
    #[must_use]
    pub fn rows(
        &self,
        range: Option<PortMapRange>,
        port_maps: &[StaticMapping],
        fixed: &[StaticMapping],
    ) -> Vec<PortMapRow> {
        let row = |m: &StaticMapping, origin, in_use| PortMapRow {
            protocol: named(m.protocol),
            outside: SocketAddrV4::new(m.outside.0, m.outside.1),
            inside: SocketAddrV6::new(m.inside.0, m.inside.1, 0, 0),
            origin,
            in_use,
        };
        let maps = self.lock();
        let of_file = port_maps.iter().map(|m| row(m, super::Origin::Config, true));
        let of_api = maps.maps.iter().map(|(key, server)| {
            let m = mapping(key, server);
            row(&m, super::Origin::Api, range.is_some_and(|range| fits(&m, range, fixed)))
        });
        let mut rows: Vec<PortMapRow> = of_file.chain(of_api).collect();
        rows.sort_by_key(|r| (r.outside, r.protocol == Protocol::Udp));
        rows
    }
}

/// True if a port map can be in use in this configuration.
fn fits(m: &StaticMapping, range: PortMapRange, fixed: &[StaticMapping]) -> bool {
    let (address, port) = m.outside;
    let given = address == range.address && (range.first..=range.last).contains(&port);
    given
        && !fixed.iter().any(|f| f.protocol == m.protocol && (f.outside == m.outside || f.inside == m.inside))
}
