//! The part of the API that is about the splicer: sites, port maps, how it is doing.
//!
//! | method and path | answer |
//! | --- | --- |
//! | GET /v1/splicer | listeners, sites, servers, port maps, rates; `splicer` is null without one |
//! | GET /v1/sites | a page of sites by name; `after`, `limit` |
//! | GET /v1/sites/NAME | a site; `*.example` is the name of a wildcard |
//! | PUT /v1/sites/NAME | sets a site of the API; `SiteSpec` in JSON |
//! | DELETE /v1/sites/NAME | removes one; connections that it has go on |
//! | POST /v1/sites/NAME/drain | `server`: no new connections for it; with `undo=true` again some |
//! | GET /v1/portmaps | all port maps |
//! | POST /v1/portmaps | gives out a port; `protocol`, `server`, and `port` for a certain one |
//! | DELETE /v1/portmaps | takes one back; `protocol`, `outside` |
//!
//! 404: no splicer is configured, or no such site or port map. 409: it is the configuration's, or somebody else's. 422: what
//! was sent is no site. 503: it cannot be kept on disk. 507: there is no room.

use super::introspect::{Introspect, Protocol};
use super::server::{answer, ask, limit, refuse};
use super::sites::{PAGE, PortMapRefusal, SiteCounts, SiteRefusal, SiteSpec, Sites, Wanted};
use super::state::State;
use crate::config::Config;
use crate::control::dns::RateRow;
use crate::plan::{PortMapRange, splicer};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use causeway_core::Instant;
use causeway_core::net::Prefix6;
use causeway_nat64::StaticMapping;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::{Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use tracing::info;

/// The splicer of a running gateway, but for its sites.
#[derive(Debug, Clone)]
pub struct SplicerFacts {
    /// Its settings.
    pub config: Arc<causeway_splicer::Config>,
    /// Spliced connections that the flow table has room for.
    pub capacity: u32,
}

/// How the splicer is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplicerReport {
    /// Where clients are served by name.
    pub listeners: Vec<ListenerRow>,
    /// Addresses that connections to servers come from.
    pub sources: Vec<Ipv6Addr>,
    /// Prefixes under which servers see clients' addresses.
    pub client_prefixes: Vec<Prefix6>,
    /// How many sites and servers there are.
    pub sites: SiteCounts,
    /// Port maps in use.
    pub port_maps: usize,
    /// Ports that are given out on request, as in `203.0.113.80:20000-29999`.
    pub port_map_range: Option<String>,
    /// Spliced connections that the flow table has room for.
    pub capacity: u32,
    /// What it counts, with the rate over about the last second.
    pub rates: Vec<RateRow>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerRow {
    /// Its address and port.
    pub address: SocketAddrV4,
    /// TLS is taken.
    pub tls: bool,
    /// HTTP is taken.
    pub http: bool,
    /// HTTP is redirected to HTTPS.
    pub redirect: bool,
    /// The site of those that name none.
    pub default_site: Option<String>,
    /// False if that site is not there: its clients are refused.
    pub default_known: bool,
}

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/v1/splicer", get(status))
        .route("/v1/sites", get(list))
        .route("/v1/sites/{name}", get(one).put(set).delete(remove))
        .route("/v1/sites/{name}/drain", post(drain))
        .route("/v1/portmaps", get(port_maps).post(add_port_map).delete(remove_port_map))
}

/// Why there is no answer.
struct Refusal(StatusCode, String);

impl From<SiteRefusal> for Refusal {
    fn from(e: SiteRefusal) -> Self {
        let status = match e {
            SiteRefusal::NoSplicer | SiteRefusal::Unknown(_) | SiteRefusal::NoServer(..) => {
                StatusCode::NOT_FOUND
            }
            SiteRefusal::Configured(_) => StatusCode::CONFLICT,
            SiteRefusal::Bad(..) => StatusCode::UNPROCESSABLE_ENTITY,
            SiteRefusal::Full => StatusCode::INSUFFICIENT_STORAGE,
            SiteRefusal::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, e.to_string())
    }
}

impl From<PortMapRefusal> for Refusal {
    fn from(e: PortMapRefusal) -> Self {
        let status = match e {
            PortMapRefusal::NoRange | PortMapRefusal::Unknown(..) => StatusCode::NOT_FOUND,
            PortMapRefusal::Taken(..) | PortMapRefusal::Configured(..) => StatusCode::CONFLICT,
            PortMapRefusal::Protocol | PortMapRefusal::Server(_) | PortMapRefusal::NotInRange { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            PortMapRefusal::Full | PortMapRefusal::Enough(_) => StatusCode::INSUFFICIENT_STORAGE,
            PortMapRefusal::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            PortMapRefusal::Gateway(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, e.to_string())
    }
}

/// Asks on a thread that may block.
async fn with<F>(state: &State, question: F) -> Response
where
    F: FnOnce(&dyn Introspect) -> Result<Value, Refusal> + Send + 'static,
{
    match ask(state, question).await {
        Ok(Ok(value)) => answer(Ok(value)),
        Ok(Err(Refusal(status, why))) => refuse(status, why),
        Err(response) => response,
    }
}

async fn with_sites<F>(state: &State, question: F) -> Response
where
    F: FnOnce(&Sites, Instant) -> Result<Value, SiteRefusal> + Send + 'static,
{
    with(state, move |g| question(&g.sites(), g.now()).map_err(Refusal::from)).await
}

fn parsed<P>(parameters: Result<Query<P>, QueryRejection>) -> Result<P, Box<Response>> {
    parameters.map(|Query(p)| p).map_err(|e| Box::new(refuse(StatusCode::BAD_REQUEST, e.body_text())))
}

/// The range of ports that are given out.
fn range(config: &Config) -> Option<PortMapRange> {
    let range = config.splicer.as_ref()?.port_map_range?;
    Some(PortMapRange { address: range.address(), first: range.ports().first(), last: range.ports().last() })
}

/// All static mappings of a configuration, those of its port maps among them.
pub(crate) fn fixed(config: &Config) -> Vec<StaticMapping> {
    let Some(nat64) = &config.nat64 else { return Vec::new() };
    crate::plan::nat64_options(nat64, &splicer::port_maps(config), 0).static_mappings
}

/// The port maps on request that can be in use in a configuration.
pub(crate) fn usable(maps: &super::sites::PortMaps, config: &Config) -> Vec<StaticMapping> {
    maps.usable(range(config), &fixed(config))
}

async fn status(Shared(state): Shared<Arc<State>>) -> Response {
    let (rates, config) = (state.splicer_rates.rows(), state.config());
    let report = ask(&state, move |g| {
        let report = g.splicer().map(|facts| {
            let (sites, maps) = (g.sites(), g.port_maps());
            let range = range(&config);
            let rows = maps.rows(range, &splicer::port_maps(&config), &fixed(&config));
            SplicerReport {
                listeners: listeners(&facts.config, &sites),
                sources: facts.config.sources.iter().flatten().copied().collect(),
                client_prefixes: facts.config.client_prefixes.iter().flatten().copied().collect(),
                sites: sites.counts(),
                port_maps: rows.iter().filter(|row| row.in_use).count(),
                port_map_range: range.map(|r| format!("{}:{}-{}", r.address, r.first, r.last)),
                capacity: facts.capacity,
                rates,
            }
        });
        json!({ "splicer": report })
    });
    answer(report.await)
}

fn listeners(config: &causeway_splicer::Config, sites: &Sites) -> Vec<ListenerRow> {
    let row = |l: &causeway_splicer::config::Listener| ListenerRow {
        address: SocketAddrV4::new(l.address, l.port),
        tls: l.tls,
        http: l.http,
        redirect: l.redirect,
        default_site: l.default_site.clone(),
        default_known: l.default_site.as_deref().is_none_or(|name| sites.has(name)),
    };
    config.listeners.iter().map(row).collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParameters {
    after: Option<String>,
    limit: Option<usize>,
}

async fn list(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<ListParameters>, QueryRejection>,
) -> Response {
    let p = match parsed(parameters) {
        Ok(p) => p,
        Err(response) => return *response,
    };
    let limit = match limit(p.limit, PAGE) {
        Ok(limit) => limit,
        Err(e) => return refuse(StatusCode::BAD_REQUEST, e),
    };
    with(&state, move |g| {
        g.splicer().ok_or(SiteRefusal::NoSplicer)?;
        Ok(json!(g.sites().page(p.after.as_deref().unwrap_or(""), limit, g.now())))
    })
    .await
}

async fn one(Shared(state): Shared<Arc<State>>, Path(name): Path<String>) -> Response {
    with_sites(&state, move |sites, now| Ok(json!({ "site": sites.get(&name, now)? }))).await
}

async fn set(Shared(state): Shared<Arc<State>>, Path(name): Path<String>, body: Bytes) -> Response {
    with_sites(&state, move |sites, now| {
        let bad = |why: String| SiteRefusal::Bad(name.clone(), why);
        let spec: SiteSpec = serde_json::from_slice(&body).map_err(|e| bad(e.to_string()))?;
        if !spec.name.is_empty() && spec.name != name {
            return Err(bad(format!("the name in it is `{}`", spec.name)));
        }
        let (site, created) = sites.set(&SiteSpec { name, ..spec }, now)?;
        Ok(json!({ "site": site, "created": created }))
    })
    .await
}

async fn remove(Shared(state): Shared<Arc<State>>, Path(name): Path<String>) -> Response {
    with_sites(&state, move |sites, _| sites.remove(&name).map(|()| json!({ "removed": name }))).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainParameters {
    server: Ipv6Addr,
    #[serde(default)]
    undo: bool,
}

async fn drain(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
    parameters: Result<Query<DrainParameters>, QueryRejection>,
) -> Response {
    let p = match parsed(parameters) {
        Ok(p) => p,
        Err(response) => return *response,
    };
    with_sites(&state, move |sites, now| Ok(json!({ "site": sites.drain(&name, p.server, !p.undo, now)? })))
        .await
}

async fn port_maps(Shared(state): Shared<Arc<State>>) -> Response {
    let config = state.config();
    with(&state, move |g| {
        g.splicer().ok_or(SiteRefusal::NoSplicer)?;
        let rows = g.port_maps().rows(range(&config), &splicer::port_maps(&config), &fixed(&config));
        Ok(json!({ "port_maps": rows }))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddParameters {
    protocol: Protocol,
    server: SocketAddrV6,
    port: Option<u16>,
}

async fn add_port_map(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<AddParameters>, QueryRejection>,
) -> Response {
    let p = match parsed(parameters) {
        Ok(p) => p,
        Err(response) => return *response,
    };
    let wanted = Wanted { protocol: p.protocol, server: p.server, port: p.port };
    changed(state, move |g, config| {
        let range = range(config).ok_or(PortMapRefusal::NoRange)?;
        let maps = g.port_maps();
        let (row, created) = maps.add(&wanted, range, &fixed(config))?;
        if created && let Err(e) = g.reload(Arc::clone(config)) {
            // It was not there before, so that only the disk can keep it from going again.
            maps.remove(row.protocol, row.outside)?;
            return Err(PortMapRefusal::Gateway(e.to_string()).into());
        }
        info!(outside = %row.outside, inside = %row.inside, protocol = %row.protocol, created, "port map");
        Ok(json!({ "port_map": row, "created": created }))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveParameters {
    protocol: Protocol,
    outside: SocketAddrV4,
}

async fn remove_port_map(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<RemoveParameters>, QueryRejection>,
) -> Response {
    let p = match parsed(parameters) {
        Ok(p) => p,
        Err(response) => return *response,
    };
    changed(state, move |g, config| {
        g.splicer().ok_or(SiteRefusal::NoSplicer)?;
        let maps = g.port_maps();
        let row = maps.remove(p.protocol, p.outside).map_err(|e| {
            let of_file = splicer::port_maps(config).iter().any(|m| {
                m.outside == (*p.outside.ip(), p.outside.port())
                    && super::sites::named(m.protocol) == p.protocol
            });
            match e {
                PortMapRefusal::Unknown(outside, protocol) if of_file => {
                    PortMapRefusal::Configured(outside, protocol)
                }
                e => e,
            }
        })?;
        if let Err(e) = g.reload(Arc::clone(config)) {
            maps.restore(&row);
            return Err(PortMapRefusal::Gateway(e.to_string()).into());
        }
        info!(outside = %row.outside, inside = %row.inside, protocol = %row.protocol, "port map is removed");
        Ok(json!({ "port_map": row }))
    })
    .await
}

/// Does something after which there is a new plan, on a task of its own: a client that goes away does not interrupt it.
async fn changed<F>(state: Arc<State>, change: F) -> Response
where
    F: FnOnce(&dyn Introspect, &Arc<Config>) -> Result<Value, Refusal> + Send + 'static,
{
    let task = tokio::spawn(async move {
        let _one = state.reloading().await;
        let config = state.config();
        with(&state, move |g| change(g, &config)).await
    });
    task.await.unwrap_or_else(|e| {
        refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("the request was interrupted: {e}"))
    })
}
