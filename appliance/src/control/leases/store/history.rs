//! Who had this address when. History is the store's events: what was given, renewed (folded), and how it
//! ended.

use super::octets::{Entry, Key, Lean, key_of, open_blob, split_key};
use super::row::{kind_code, number, unsigned};
use super::segments::{self, Index};
use super::view::View;
use causeway_dhcpv6::{Kind, Lease, LeaseEvent, State, UnixSeconds};
use causeway_wire::MacAddr;
use rusqlite::Connection;
use std::net::Ipv6Addr;

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

impl View<'_> {
    fn attribution(&self, entry: &Entry<'_>, at: UnixSeconds) -> rusqlite::Result<Attribution> {
        let lease = self.lease(&entry.key, entry.lease)?;
        Ok(Attribution {
            event: entry.event,
            first: entry.first,
            last: entry.at,
            times: entry.times,
            held: lease.state == State::Active && at < lease.valid_until,
            lease,
        })
    }

    /// Calls `visit` with every event that the tables do not have.
    fn recent_events(
        &self,
        visit: &mut dyn FnMut(&Entry<'_>, &Lean<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        for recent in &self.recents {
            for entry in recent.after(0) {
                let entry = entry?;
                if !self.hides(entry.id) {
                    visit(&entry, &Lean::parse(entry.lease)?)?;
                }
            }
        }
        Ok(())
    }

    /// Who had `address` at the time `at`: an answer for each kind of lease and each length of prefix that has
    /// one, leased addresses first, then prefixes from the longest.
    pub(super) fn who(&self, address: Ipv6Addr, at: UnixSeconds) -> rusqlite::Result<Vec<Attribution>> {
        let exact = [(Kind::Address, 128), (Kind::Registered, 128)];
        let prefixes = self.lengths()?.into_iter().map(|length| (Kind::Prefix, length));
        let places: Vec<(Key, u8)> = exact
            .into_iter()
            .chain(prefixes)
            .map(|(kind, length)| {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                (key_of(kind, Ipv6Addr::from_bits(address.to_bits() & mask)), length)
            })
            .collect();
        // For each the last event at that time, by when and number.
        let mut last: Vec<Option<((UnixSeconds, u64), Attribution)>> = vec![None; places.len()];
        self.recent_events(&mut |entry, lease| {
            let found = places.iter().position(|(key, length)| *key == entry.key && *length == lease.length);
            let Some(found) = found.filter(|_| entry.first <= at) else { return Ok(()) };
            let order = (entry.first, entry.id);
            if last[found].as_ref().is_none_or(|(other, _)| *other < order) {
                last[found] = Some((order, self.attribution(entry, at)?));
            }
            Ok(())
        })?;
        for segment in segments::all(self.db, self.folded)? {
            for ((key, length), last) in places.iter().zip(&mut last) {
                let (kind, address) = split_key(key)?;
                let upto = segments::address_at(kind_code(kind), address.octets(), *length, at);
                segment.walk_back(self.db, Index::Address, &upto, &mut |found| {
                    let order = segments::end_of(found);
                    let later = last.as_ref().is_none_or(|(other, _)| *other < order);
                    if !later || !segments::same_place(found, &upto) {
                        return Ok(false);
                    }
                    // One that is gone is followed by the one before it.
                    let read = self.folded_event(order.1, |entry| self.attribution(entry, at))?;
                    let there = read.is_some();
                    *last = read.map(|read| (order, read)).or(last.take());
                    Ok(!there)
                })?;
            }
        }
        Ok(last.into_iter().flatten().map(|(_, attribution)| attribution).collect())
    }

    /// What a link-layer address was given from `from` to `to`, the newest first.
    pub(super) fn of_mac(
        &self,
        mac: MacAddr,
        from: UnixSeconds,
        to: UnixSeconds,
        limit: usize,
    ) -> rusqlite::Result<Vec<Attribution>> {
        let lasts = |entry: &Entry<'_>, lease: &Lean<'_>| entry.at >= from || lease.valid >= from;
        // Those of the log as they are, those of the tables by number.
        let mut found: Vec<((UnixSeconds, u64), Option<Attribution>)> = Vec::new();
        self.recent_events(&mut |entry, lease| {
            if lease.mac == Some(mac) && entry.first <= to && lasts(entry, lease) {
                found.push(((entry.first, entry.id), Some(self.attribution(entry, to)?)));
            }
            Ok(())
        })?;
        let upto = segments::mac_at(mac, to);
        for segment in segments::all(self.db, self.folded)? {
            segment.walk_back(self.db, Index::Mac, &upto, &mut |entry| {
                let same = segments::same_mac(entry, &upto);
                if same {
                    found.push((segments::end_of(entry), None));
                }
                Ok(same)
            })?;
        }
        found.sort_unstable_by_key(|(order, _)| std::cmp::Reverse(*order));
        let mut out = Vec::new();
        for ((_, id), read) in found {
            if out.len() >= limit {
                break;
            }
            let read = match read {
                Some(read) => Some(read),
                None => self
                    .folded_event(id, |entry| {
                        let lasts = lasts(entry, &Lean::parse(entry.lease)?);
                        lasts.then(|| self.attribution(entry, to)).transpose()
                    })?
                    .flatten(),
            };
            out.extend(read);
        }
        Ok(out)
    }
}

/// What a slice of pruning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slice {
    /// Events that went.
    pub(super) gone: usize,
    /// Number of the last of them.
    pub(super) last_gone: Option<u64>,
    /// Where the next slice begins.
    pub(super) next: i64,
}

/// Looks at blocks of history from number `from` on, up to `folded`, until they had `most` events, and removes those
/// that ended before `before`, but not number `head`. An event that speaks of a lease that is still valid then
/// has not ended.
pub(super) fn prune(
    db: &Connection,
    from: i64,
    before: UnixSeconds,
    (folded, head): (u64, u64),
    most: usize,
) -> rusqlite::Result<Slice> {
    let mut slice = Slice { gone: 0, last_gone: None, next: from };
    let mut looked = 0;
    let mut find =
        db.prepare_cached("SELECT id, body FROM history WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1")?;
    while looked < most {
        let mut rows = find.query([slice.next, number(folded)])?;
        let Some(r) = rows.next()? else {
            slice.next = 0;
            break;
        };
        let (id, blob): (i64, Vec<u8>) = (r.get(0)?, r.get(1)?);
        drop(rows);
        let mut younger = false;
        let went = segments::rewrite(db, id, open_blob(&blob)?, &mut |entry| {
            looked += 1;
            // Numbers and times grow together: the rest is younger.
            younger |= entry.at >= before;
            let lease = Lean::parse(entry.lease)?;
            let ended = lease.state != State::Active || lease.valid < before;
            Ok(!younger && ended && entry.id < head)
        })?;
        slice.gone += went.len();
        slice.last_gone = went.last().copied().or(slice.last_gone);
        slice.next = if younger { 0 } else { number(unsigned(id).saturating_add(1)) };
        if younger {
            break;
        }
    }
    Ok(slice)
}
