//! Who had this address when. History is the store's events: what was given, renewed (folded), and how it
//! ended.

use super::store::{event_of, kind_code};
use causeway_dhcpv6::{Kind, Lease, LeaseEvent, State, UnixSeconds};
use causeway_wire::MacAddr;
use rusqlite::{Connection, Row};
use std::net::Ipv6Addr;

/// Columns that an attribution is read from.
const COLUMNS: &str = "event, first, at, times, \
    kind, address, length, link, who, duid, iaid, mac, state, preferred, valid, since";

/// An event of history, and what it says about the time that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// What happened last, at or before that time.
    pub event: LeaseEvent,
    /// When; of folded renewals the first.
    pub first: UnixSeconds,
    /// When; of folded renewals the last.
    pub last: UnixSeconds,
    /// How many renewals are folded into it, from 1.
    pub times: u64,
    /// True if the lease was in use at that time.
    pub held: bool,
    /// The lease after the event.
    pub lease: Lease,
}

fn attribution(
    row: &Row<'_>,
    links: &dyn Fn(i64) -> Option<Box<str>>,
    at: UnixSeconds,
) -> rusqlite::Result<Attribution> {
    let number = |n: usize| row.get::<_, i64>(n).map(|n| u64::try_from(n).unwrap_or(0));
    let lease = super::store::read_lease(row, 4, links)?;
    Ok(Attribution {
        event: event_of(row.get(0)?).unwrap_or(LeaseEvent::Given),
        first: number(1)?,
        last: number(2)?,
        times: number(3)?,
        held: lease.state == State::Active && at < lease.valid_until,
        lease,
    })
}

/// Who had `address` at the time `at`: an answer for each kind of lease and each length of prefix that has
/// one, leased addresses first, then prefixes from the longest.
pub(super) fn who(
    db: &Connection,
    links: &dyn Fn(i64) -> Option<Box<str>>,
    lengths: &[u8],
    address: Ipv6Addr,
    at: UnixSeconds,
) -> rusqlite::Result<Vec<Attribution>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM events WHERE address = ?1 AND first <= ?2 AND kind = ?3 AND length = ?4 \
         ORDER BY first DESC, id DESC LIMIT 1"
    );
    let mut find = db.prepare_cached(&sql)?;
    let exact = [(Kind::Address, 128), (Kind::Registered, 128)];
    let prefixes = lengths.iter().map(|length| (Kind::Prefix, *length));
    let at_most = i64::try_from(at).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    for (kind, length) in exact.into_iter().chain(prefixes) {
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        let first = Ipv6Addr::from_bits(address.to_bits() & mask).octets();
        let mut rows = find.query((&first[..], at_most, kind_code(kind), length))?;
        if let Some(row) = rows.next()? {
            found.push(attribution(row, links, at)?);
        }
    }
    Ok(found)
}

/// What a link-layer address was given from `from` to `to`, the newest first.
pub(super) fn of_mac(
    db: &Connection,
    links: &dyn Fn(i64) -> Option<Box<str>>,
    mac: MacAddr,
    from: UnixSeconds,
    to: UnixSeconds,
    limit: usize,
) -> rusqlite::Result<Vec<Attribution>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM events WHERE mac = ?1 AND first <= ?2 AND (at >= ?3 OR valid >= ?3) \
         ORDER BY first DESC, id DESC LIMIT ?4"
    );
    let bound = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.prepare_cached(&sql)?
        .query_map((&mac.0[..], bound(to), bound(from), limit), |r| attribution(r, links, to))?
        .collect()
}

/// What a slice of pruning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slice {
    /// Events that went.
    pub(super) gone: usize,
    /// Number of the last of them.
    pub(super) last_gone: Option<i64>,
    /// Where the next slice begins.
    pub(super) next: i64,
}

/// Looks at no more than `most` events from number `from` on, below `head`, and removes those that ended
/// before `before`. An event that speaks of a lease that is still valid then has not ended.
pub(super) fn prune(
    db: &Connection,
    from: i64,
    before: i64,
    head: i64,
    most: usize,
) -> rusqlite::Result<Slice> {
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let looked: Vec<(i64, i64, bool)> = db
        .prepare_cached(
            "SELECT id, at, state <> 0 OR valid < ?3 FROM events WHERE id >= ?1 AND id < ?2 \
             ORDER BY id LIMIT ?4",
        )?
        .query_map((from, head, before, limit), |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut delete = db.prepare_cached("DELETE FROM events WHERE id = ?1")?;
    let mut slice = Slice { gone: 0, last_gone: None, next: 0 };
    for (id, at, ended) in &looked {
        if *at >= before {
            // Numbers and times grow together: the rest is younger.
            return Ok(slice);
        }
        if *ended {
            delete.execute([id])?;
            slice.gone += 1;
            slice.last_gone = Some(*id);
        }
    }
    if looked.len() == most {
        slice.next = looked.last().map_or(0, |(id, ..)| id + 1);
    }
    Ok(slice)
}
