//! From version 1 of the tables, which had a row for each event and two indexes of those, to version 2.

use super::octets::{Entry, Kept, Version, key_of, put_lease, put_row};
use super::segments::{self, Writer};
use super::{FOLDED, HEAD, get_number, put_number, row};
use causeway_dhcpv6::LeaseEvent;
use rusqlite::Connection;
use std::collections::HashMap;

/// Events of a segment.
const SEGMENT: usize = 1 << 17;

/// Fills the tables of version 2 from those of version 1, which are called `old_leases` and `old_events` now.
pub(super) fn from_version_1(db: &Connection) -> rusqlite::Result<()> {
    let mut links: HashMap<i64, Box<str>> = HashMap::new();
    let mut all = db.prepare("SELECT id, name FROM links")?;
    let mut rows = all.query([])?;
    while let Some(r) = rows.next()? {
        links.insert(r.get(0)?, r.get::<_, String>(1)?.into());
    }
    let name = |id| links.get(&id).cloned();

    let (mut octets, mut body) = (Vec::new(), Vec::new());
    let mut put = db.prepare("INSERT INTO leases (key, own, peer, body) VALUES (?1, ?2, ?3, ?4)")?;
    let columns = row::LEASE;
    let sql = format!(
        "SELECT {columns}, own, peer, event, renewals, renewed FROM old_leases ORDER BY kind, address"
    );
    let mut all = db.prepare(&sql)?;
    let mut rows = all.query([])?;
    while let Some(r) = rows.next()? {
        let lease = row::lease(r, 0, &name)?;
        let number = |n: usize| row::time(r, row::LEASE_COLUMNS + n);
        let (own, peer, event) = (number(0)?, number(1)?, number(2)?);
        let version = Version { own, peer, event, renewals: number(3)?, renewed: number(4)? };
        let key = key_of(lease.kind, lease.address);
        octets.clear();
        put_lease(&mut octets, &lease, row::time(r, 3)?);
        body.clear();
        put_row(&mut body, &key, &version, &octets);
        put.execute((&key[..], row::number(own), row::number(peer), &body))?;
    }

    let sql =
        format!("SELECT {columns}, id, origin, seen, event, first, at, times FROM old_events ORDER BY id");
    let mut all = db.prepare(&sql)?;
    let mut rows = all.query([])?;
    let (mut writer, mut head) = (Writer::default(), 0);
    while let Some(r) = rows.next()? {
        let lease = row::lease(r, 0, &name)?;
        let number = |n: usize| row::time(r, row::LEASE_COLUMNS + n);
        let (id, origin, seen) = (number(0)?, number(1)?, number(2)?);
        octets.clear();
        put_lease(&mut octets, &lease, row::time(r, 3)?);
        let first = number(4)?;
        let entry = Entry {
            id,
            // Its number there was not kept with it.
            peers: (origin != 0).then_some((0, 0)),
            event: row::event_of(r.get(row::LEASE_COLUMNS + 3)?).unwrap_or(LeaseEvent::Given),
            first,
            at: number(5)?.max(first),
            times: number(6)?,
            seen,
            replaces: 0,
            key: key_of(lease.kind, lease.address),
            lease: &octets,
            kept: Kept::Before,
        };
        body.clear();
        entry.emit(&mut body);
        writer.add(db, &entry, &body)?;
        if writer.addresses.len() == SEGMENT {
            segments::close(db, &mut writer, segments::next_id(db)?)?;
        }
        head = id;
    }
    segments::close(db, &mut writer, segments::next_id(db)?)?;
    let head = head.max(get_number(db, HEAD)?);
    put_number(db, HEAD, head)?;
    put_number(db, FOLDED, head)
}
