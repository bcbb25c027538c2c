//! The API: HTTP on the control socket. Whoever may open the socket may do everything.
//!
//! | method and path | answer |
//! | --- | --- |
//! | GET /v1/ready | 200 once the gateway forwards |
//! | GET /v1/sessions | a page of sessions; `protocol`, `source`, `remote`, `outside`, `cursor`, `limit` |
//! | GET /v1/mappings | a page of mappings; `protocol`, `source`, `outside`, `static`, `cursor`, `limit` |
//! | GET /v1/pool | how much of each pool address and protocol is in use |
//! | GET /v1/subscribers | subscribers with what they have; `source`, `tenant`, `limit` |
//! | GET /v1/neighbors | all neighbours |
//! | GET /v1/counters | all counters, per worker and in total |
//! | GET /v1/ports | all ports |
//! | GET /v1/vrrp | where the virtual routers stand; `vrrp` is null without any |
//! | GET /v1/ra | what is advertised on each network |
//! | /v1/leases... | see `lease_api` |
//! | /v1/dns... | see `dns` |
//! | /v1/splicer, /v1/sites..., /v1/portmaps | see `site_api` |
//! | GET /v1/plan | the resolved configuration and its generation |
//! | POST /v1/reload | reads the configuration file again |
//!
//! Every answer is a JSON object. An error has `error` with the text; a refused reload also has
//! `needs_restart` (409) or `errors` (422). 503: the gateway is starting or stopping.

use super::introspect::{
    Introspect, MappingQuery, PAGE, PlanReport, Protocol, SUBSCRIBERS_PAGE, SessionQuery, SubscriberQuery,
    counter_rows,
};
use super::state::{self, ReloadRefused, State};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tracing::error;

/// Rows of a page if the request does not say.
const DEFAULT_LIMIT: usize = 100;

/// Answers requests until told to stop.
pub(super) async fn run(listener: UnixListener, state: Arc<State>, mut stopped: watch::Receiver<bool>) {
    let app = Router::new()
        .route("/v1/ready", get(ready))
        .route("/v1/sessions", get(sessions))
        .route("/v1/mappings", get(mappings))
        .route("/v1/pool", get(pool))
        .route("/v1/subscribers", get(subscribers))
        .route("/v1/neighbors", get(neighbors))
        .route("/v1/counters", get(counters))
        .route("/v1/ports", get(ports))
        .merge(super::lease_api::routes())
        .merge(super::dns::routes())
        .merge(super::site_api::routes())
        .route("/v1/vrrp", get(vrrp))
        .route("/v1/ra", get(router_advertisements))
        .route("/v1/plan", get(plan))
        .route("/v1/reload", post(reload))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "no such path") })
        .method_not_allowed_fallback(|| async {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "not with this method")
        })
        .with_state(state);
    let mut stop = stopped.clone();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    });
    let deadline = async move {
        // A client that keeps its connection open does not keep the gateway from ending.
        let _ = stop.wait_for(|stop| *stop).await;
        tokio::time::sleep(super::STOP_WITHIN).await;
    };
    tokio::select! {
        outcome = server => if let Err(e) = outcome {
            error!("control socket: {e}");
        },
        () = deadline => {}
    }
}

pub(super) fn refuse(status: StatusCode, message: impl Into<String>) -> Response {
    (status, Json(json!({ "error": message.into() }))).into_response()
}

/// Asks the gateway on a thread that may block.
pub(super) async fn ask<T, F>(state: &State, question: F) -> Result<T, Response>
where
    T: Send + 'static,
    F: FnOnce(&dyn Introspect) -> T + Send + 'static,
{
    let Some(gateway) = state.gateway() else {
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "the gateway is starting or stopping"));
    };
    tokio::task::spawn_blocking(move || question(gateway.as_ref())).await.map_err(|e| {
        error!("a request was interrupted: {e}");
        refuse(StatusCode::INTERNAL_SERVER_ERROR, "the request was interrupted")
    })
}

pub(super) fn answer(outcome: Result<Value, Response>) -> Response {
    match outcome {
        Ok(value) => Json(value).into_response(),
        Err(response) => response,
    }
}

async fn ready(Shared(state): Shared<Arc<State>>) -> Response {
    let name = state.config().gateway.name.to_string();
    if state.is_ready() {
        return Json(json!({ "ready": true, "name": name })).into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        Json(json!({ "ready": false, "name": name, "error": "the gateway is starting or stopping" })),
    )
        .into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionParameters {
    protocol: Option<Protocol>,
    source: Option<String>,
    remote: Option<String>,
    outside: Option<String>,
    cursor: Option<u64>,
    limit: Option<usize>,
}

/// The limit of a page of at most `most` rows.
pub(super) fn limit(wanted: Option<usize>, most: usize) -> Result<usize, String> {
    let limit = wanted.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > most {
        return Err(format!("limit={limit}: 1 to {most} are allowed"));
    }
    Ok(limit)
}

impl SessionParameters {
    fn query(self) -> Result<SessionQuery, String> {
        let limit = limit(self.limit, PAGE)?;
        Ok(SessionQuery {
            protocol: self.protocol,
            source: self.source.as_deref().map(super::client::prefix6).transpose()?,
            remote: self.remote.as_deref().map(super::client::prefix).transpose()?,
            outside: self.outside.as_deref().map(super::client::prefix4).transpose()?,
            cursor: self.cursor.unwrap_or(0),
            limit,
        })
    }
}

async fn sessions(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<SessionParameters>, QueryRejection>,
) -> Response {
    let query = match parameters.map_err(|e| e.body_text()).and_then(|Query(p)| p.query()) {
        Ok(query) => query,
        Err(e) => return refuse(StatusCode::BAD_REQUEST, e),
    };
    answer(ask(&state, move |g| json!(g.sessions(&query))).await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MappingParameters {
    protocol: Option<Protocol>,
    source: Option<String>,
    outside: Option<String>,
    #[serde(rename = "static")]
    fixed: Option<bool>,
    cursor: Option<u64>,
    limit: Option<usize>,
}

impl MappingParameters {
    fn query(self) -> Result<MappingQuery, String> {
        Ok(MappingQuery {
            protocol: self.protocol,
            source: self.source.as_deref().map(super::client::prefix6).transpose()?,
            outside: self.outside.as_deref().map(super::client::prefix4).transpose()?,
            fixed: self.fixed,
            cursor: self.cursor.unwrap_or(0),
            limit: limit(self.limit, PAGE)?,
        })
    }
}

async fn mappings(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<MappingParameters>, QueryRejection>,
) -> Response {
    let query = match parameters.map_err(|e| e.body_text()).and_then(|Query(p)| p.query()) {
        Ok(query) => query,
        Err(e) => return refuse(StatusCode::BAD_REQUEST, e),
    };
    answer(ask(&state, move |g| json!(g.mappings(&query))).await)
}

async fn pool(Shared(state): Shared<Arc<State>>) -> Response {
    answer(ask(&state, |g| json!({ "pool": g.pool() })).await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscriberParameters {
    source: Option<String>,
    tenant: Option<String>,
    limit: Option<usize>,
}

impl SubscriberParameters {
    fn query(self) -> Result<SubscriberQuery, String> {
        Ok(SubscriberQuery {
            source: self.source.as_deref().map(super::client::prefix6).transpose()?,
            tenant: self.tenant,
            limit: limit(self.limit, SUBSCRIBERS_PAGE)?,
        })
    }
}

async fn subscribers(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<SubscriberParameters>, QueryRejection>,
) -> Response {
    let query = match parameters.map_err(|e| e.body_text()).and_then(|Query(p)| p.query()) {
        Ok(query) => query,
        Err(e) => return refuse(StatusCode::BAD_REQUEST, e),
    };
    answer(ask(&state, move |g| json!(g.subscribers(&query))).await)
}

async fn neighbors(Shared(state): Shared<Arc<State>>) -> Response {
    let rows = ask(&state, |g| g.neighbors()).await.map(|mut rows| {
        for row in &mut rows {
            if let Some(record) = state.neighbors.get(&row.interface, row.address) {
                row.since = Some(record.since);
                row.moves = record.moves;
            }
        }
        json!({ "neighbors": rows })
    });
    answer(rows)
}

async fn counters(Shared(state): Shared<Arc<State>>) -> Response {
    let shared = Arc::clone(&state);
    let rows = ask(&state, move |g| json!({ "counters": counter_rows(&g.counters(), &shared.counters) }));
    answer(rows.await)
}

async fn ports(Shared(state): Shared<Arc<State>>) -> Response {
    answer(ask(&state, |g| json!({ "ports": g.ports() })).await)
}

async fn vrrp(Shared(state): Shared<Arc<State>>) -> Response {
    answer(ask(&state, |g| json!({ "vrrp": g.vrrp() })).await)
}

async fn router_advertisements(Shared(state): Shared<Arc<State>>) -> Response {
    answer(ask(&state, |g| json!({ "ra": g.router_advertisements() })).await)
}

async fn plan(Shared(state): Shared<Arc<State>>) -> Response {
    let config = state.config();
    let report = ask(&state, move |g| {
        json!(PlanReport { generations: g.generations(), config: json!(*config), text: config.render() })
    });
    answer(report.await)
}

async fn reload(Shared(state): Shared<Arc<State>>) -> Response {
    // On a task of its own: a client that goes away does not interrupt a reload.
    let task = tokio::spawn(async move { state::reload(&state).await });
    match task.await {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(refused)) => {
            let message = refused.to_string();
            let (status, body) = match refused {
                ReloadRefused::NotReady => (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": message })),
                ReloadRefused::BadConfig(errors) => {
                    (StatusCode::UNPROCESSABLE_ENTITY, json!({ "error": message, "errors": errors }))
                }
                ReloadRefused::NeedsRestart(keys, changes) => (
                    StatusCode::CONFLICT,
                    json!({ "error": message, "needs_restart": keys, "changes": changes }),
                ),
                ReloadRefused::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": message })),
            };
            (status, Json(body)).into_response()
        }
        Err(e) => refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("the reload was interrupted: {e}")),
    }
}
