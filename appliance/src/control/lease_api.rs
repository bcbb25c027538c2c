//! The part of the API that is about leases.
//!
//! | method and path | answer |
//! | --- | --- |
//! | GET /v1/leases | a page of leases; `address`, `mac`, `network`, `active`, `after`, `limit` |
//! | GET /v1/leases/who | who had an address; `address`, `at` |
//! | GET /v1/leases/of | what a link-layer address had; `mac`, `from`, `to`, `limit` |
//! | GET /v1/leases/status | how leasing, the disk and the peer are doing |
//! | POST /v1/leases/release | takes a lease back; `address` |
//! | POST /v1/leases/takeover | the other gateway of the pair is out of service |
//!
//! 404: no DHCPv6 is configured, or nothing is leased there. 409: what was ordered makes no sense now. 503: the
//! store cannot be read, or the thread does not answer.

use super::introspect::Introspect;
use super::leases::{Attribution, LeaseControl, LeaseQuery, LeaseStatus, ReleaseError, time_of_day};
use super::server::{answer, ask, limit, refuse};
use super::state::State;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use causeway_dhcpv6::{Identity, Kind, Lease, LeaseEvent, State as LeaseState, UnixSeconds};
use causeway_wire::MacAddr;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// What control asks of leases.
pub type Control = LeaseControl<causeway_dhcpv6::Config>;

/// The most rows of one answer.
pub const PAGE: usize = 1000;

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRow {
    /// `address`, `prefix` or `registered`.
    pub kind: String,
    /// The address, or the first of the prefix.
    pub address: Ipv6Addr,
    /// 128, or the length of the prefix.
    pub length: u8,
    /// Name of the network or link.
    pub network: String,
    /// The client's link-layer address, if known.
    pub mac: Option<String>,
    /// Whom it belongs to: `mac`, `interface-id` or `duid`, and which.
    pub identity: String,
    /// The client's DUID, in hexadecimal.
    pub duid: String,
    /// The identity association.
    pub iaid: u32,
    /// `active`, `free` or `declined`.
    pub state: String,
    /// When it was given to this client: seconds since 1970, as all times here.
    pub since: UnixSeconds,
    /// Preferred until.
    pub preferred_until: UnixSeconds,
    /// Valid until.
    pub valid_until: UnixSeconds,
}

/// Some leases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasePage {
    /// The leases.
    pub leases: Vec<LeaseRow>,
    /// What to give as `after` for the next page; nothing at the end.
    pub next: Option<String>,
}

/// What was so at a time that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributionRow {
    /// The event that says so: `given`, `renewed`, `released`, `declined`, `expired`, `registered` or
    /// `withdrawn`.
    pub event: String,
    /// When it happened; of several renewals in a row the first.
    pub first: UnixSeconds,
    /// Of several renewals in a row the last.
    pub last: UnixSeconds,
    /// How many renewals in a row these are.
    pub times: u64,
    /// True if the lease was in use at that time.
    pub held: bool,
    /// The lease after the event.
    pub lease: LeaseRow,
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|o| format!("{o:02x}")).collect()
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Address => "address",
        Kind::Prefix => "prefix",
        Kind::Registered => "registered",
    }
}

impl From<&Lease> for LeaseRow {
    fn from(l: &Lease) -> Self {
        Self {
            kind: kind_name(l.kind).to_owned(),
            address: l.address,
            length: l.length,
            network: l.link.to_string(),
            mac: l.mac.map(|m| m.to_string()),
            identity: match &l.identity {
                Identity::Mac(mac) => format!("mac {mac}"),
                Identity::Interface { link, id } => format!("interface-id {} at {link}", hex(id)),
                Identity::Duid(duid) => format!("duid {}", hex(duid)),
            },
            duid: hex(&l.duid),
            iaid: l.iaid,
            state: match l.state {
                LeaseState::Active => "active",
                LeaseState::Free => "free",
                LeaseState::Declined => "declined",
            }
            .to_owned(),
            since: l.since,
            preferred_until: l.preferred_until,
            valid_until: l.valid_until,
        }
    }
}

impl From<&Attribution> for AttributionRow {
    fn from(a: &Attribution) -> Self {
        Self {
            event: match a.event {
                LeaseEvent::Given => "given",
                LeaseEvent::Renewed => "renewed",
                LeaseEvent::Released => "released",
                LeaseEvent::Declined => "declined",
                LeaseEvent::Expired => "expired",
                LeaseEvent::Registered => "registered",
                LeaseEvent::Withdrawn => "withdrawn",
            }
            .to_owned(),
            first: a.first,
            last: a.last,
            times: a.times,
            held: a.held,
            lease: LeaseRow::from(&a.lease),
        }
    }
}

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/v1/leases", get(leases))
        .route("/v1/leases/who", get(who))
        .route("/v1/leases/of", get(history_of))
        .route("/v1/leases/status", get(status))
        .route("/v1/leases/release", post(release))
        .route("/v1/leases/takeover", post(takeover))
}

/// Asks the lease thread, on a thread that may block.
async fn with<F>(state: &State, question: F) -> Response
where
    F: FnOnce(&Control) -> Result<Value, Refusal> + Send + 'static,
{
    let asked = ask(state, move |g: &dyn Introspect| match g.leases() {
        Some(control) => question(&control),
        None => Err(Refusal(StatusCode::NOT_FOUND, "no DHCPv6 is configured".to_owned())),
    });
    match asked.await {
        Ok(Ok(value)) => answer(Ok(value)),
        Ok(Err(Refusal(status, why))) => refuse(status, why),
        Err(response) => response,
    }
}

/// Why there is no answer.
struct Refusal(StatusCode, String);

fn store(e: impl std::fmt::Display) -> Refusal {
    Refusal(StatusCode::SERVICE_UNAVAILABLE, e.to_string())
}

/// A page begins behind `KIND/ADDRESS`.
fn after(text: &str) -> Result<(Kind, Ipv6Addr), String> {
    let bad = || format!("after={text}: not what an earlier page gave as `next`");
    let (kind, address) = text.split_once('/').ok_or_else(bad)?;
    let kind = [Kind::Address, Kind::Prefix, Kind::Registered]
        .into_iter()
        .find(|k| kind_name(*k) == kind)
        .ok_or_else(bad)?;
    Ok((kind, address.parse().map_err(|_| bad())?))
}

fn address(text: &str) -> Result<Ipv6Addr, String> {
    let plain = text.split_once('/').map_or(text, |(address, _)| address);
    plain
        .parse()
        .map_err(|_| format!("address={text}: an IPv6 address, or the first of a prefix, is allowed"))
}

fn mac(text: &str) -> Result<MacAddr, String> {
    text.parse().map_err(|_| format!("mac={text}: a MAC address as in 02:00:00:00:01:01 is allowed"))
}

fn parsed<P, Q>(
    parameters: Result<Query<P>, QueryRejection>,
    take: impl FnOnce(P) -> Result<Q, String>,
) -> Result<Q, Refusal> {
    let taken = parameters.map_err(|e| e.body_text()).and_then(|Query(p)| take(p));
    taken.map_err(|e| Refusal(StatusCode::BAD_REQUEST, e))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseParameters {
    address: Option<String>,
    mac: Option<String>,
    network: Option<String>,
    #[serde(default)]
    active: bool,
    after: Option<String>,
    limit: Option<usize>,
}

async fn leases(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<LeaseParameters>, QueryRejection>,
) -> Response {
    let query = parsed(parameters, |p| {
        Ok(LeaseQuery {
            address: p.address.as_deref().map(address).transpose()?,
            mac: p.mac.as_deref().map(mac).transpose()?,
            link: p.network,
            active: p.active,
            after: p.after.as_deref().map(after).transpose()?,
            limit: limit(p.limit, PAGE)?,
        })
    });
    let query = match query {
        Ok(query) => query,
        Err(Refusal(status, why)) => return refuse(status, why),
    };
    with(&state, move |control| {
        let leases = control.leases(&query).map_err(store)?;
        let full = leases.len() == query.limit;
        let next = leases.last().filter(|_| full).map(|l| format!("{}/{}", kind_name(l.kind), l.address));
        Ok(json!(LeasePage { leases: leases.iter().map(LeaseRow::from).collect(), next }))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhoParameters {
    address: String,
    at: Option<UnixSeconds>,
}

async fn who(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<WhoParameters>, QueryRejection>,
) -> Response {
    let asked = match parsed(parameters, |p| Ok((address(&p.address)?, p.at))) {
        Ok(asked) => asked,
        Err(Refusal(status, why)) => return refuse(status, why),
    };
    with(&state, move |control| {
        let at = asked.1.unwrap_or_else(time_of_day);
        let found = control.who(asked.0, at).map_err(store)?;
        let rows: Vec<AttributionRow> = found.iter().map(AttributionRow::from).collect();
        Ok(json!({ "at": at, "who": rows }))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryParameters {
    mac: String,
    from: Option<UnixSeconds>,
    to: Option<UnixSeconds>,
    limit: Option<usize>,
}

async fn history_of(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<HistoryParameters>, QueryRejection>,
) -> Response {
    let asked = parsed(parameters, |p| Ok((mac(&p.mac)?, p.from, p.to, limit(p.limit, PAGE)?)));
    let (mac, from, to, limit) = match asked {
        Ok(asked) => asked,
        Err(Refusal(status, why)) => return refuse(status, why),
    };
    with(&state, move |control| {
        let to = to.unwrap_or_else(time_of_day);
        let found = control.history_of(mac, from.unwrap_or(0), to, limit).map_err(store)?;
        let rows: Vec<AttributionRow> = found.iter().map(AttributionRow::from).collect();
        Ok(json!({ "history": rows }))
    })
    .await
}

async fn status(Shared(state): Shared<Arc<State>>) -> Response {
    with(&state, |control| {
        let status: LeaseStatus = control.status();
        let counts = control.counts().map_err(store)?;
        Ok(json!({
            "status": status,
            "leases": { "active": counts.active, "free": counts.free, "declined": counts.declined },
        }))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseParameters {
    address: String,
}

fn refused(e: &ReleaseError) -> Refusal {
    let status = match e {
        ReleaseError::NoLease(_) => StatusCode::NOT_FOUND,
        ReleaseError::NoPeer | ReleaseError::PeerIsThere => StatusCode::CONFLICT,
        ReleaseError::Store(_) | ReleaseError::Gone => StatusCode::SERVICE_UNAVAILABLE,
    };
    Refusal(status, e.to_string())
}

async fn release(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<ReleaseParameters>, QueryRejection>,
) -> Response {
    let address = match parsed(parameters, |p| address(&p.address)) {
        Ok(address) => address,
        Err(Refusal(status, why)) => return refuse(status, why),
    };
    with(&state, move |control| {
        let released = control.release(address, None).map_err(|e| refused(&e))?;
        Ok(json!({ "released": released.iter().map(LeaseRow::from).collect::<Vec<_>>() }))
    })
    .await
}

async fn takeover(Shared(state): Shared<Arc<State>>) -> Response {
    with(&state, |control| {
        control.takeover().map_err(|e| refused(&e))?;
        Ok(json!({ "taken_over": true }))
    })
    .await
}
