//! The content of the store: what the tables say, and before that what the log says. The writer and its readers ask
//! here.

use super::octets::{Bad, Entry, Key, Lean, Version, key_of, open_blob, row};
use super::reader::{Counts, LeaseQuery};
use super::recent::Recent;
use super::row::{time, unsigned};
use super::{Links, segments};
use causeway_dhcpv6::{Kind, Lease, State};
use rusqlite::{Connection, OptionalExtension as _, Row};

/// A state of the store.
pub(super) struct View<'a> {
    pub(super) db: &'a Connection,
    /// Number of the last event that the tables have.
    pub(super) folded: u64,
    /// What they do not, the latest first.
    pub(super) recents: Vec<&'a Recent>,
    pub(super) links: &'a Links,
}

/// The key in the first column of a row.
fn key(r: &Row<'_>) -> rusqlite::Result<Key> {
    let octets = r.get_ref(0)?.as_blob()?;
    Ok(octets.try_into().map_err(|_| Bad("key"))?)
}

/// What a visitor wants: the key, the version, and the lease's octets; false: no more.
pub(super) type Visit<'a> = dyn FnMut(&Key, Version, &[u8]) -> rusqlite::Result<bool> + 'a;

impl View<'_> {
    /// The lease of these octets under this key.
    pub(super) fn lease(&self, key: &Key, octets: &[u8]) -> rusqlite::Result<Lease> {
        Ok(Lean::parse(octets)?.lease(key, &|id| self.links.name(id))?)
    }

    /// The lease under a key with its version, if there ever was one.
    pub(super) fn find(&self, key: &Key) -> rusqlite::Result<Option<(Version, Vec<u8>)>> {
        if let Some((version, lease)) = self.recents.iter().find_map(|r| r.row(key)) {
            return Ok(Some((version, lease.to_vec())));
        }
        let mut find = self.db.prepare_cached("SELECT own, peer, body FROM leases WHERE key = ?1")?;
        let found = find.query_row([&key[..]], |r| {
            let (version, lease) = row(key, time(r, 0)?, time(r, 1)?, r.get_ref(2)?.as_blob()?)?;
            Ok((version, lease.to_vec()))
        });
        found.optional()
    }

    /// Calls `visit` with every lease behind a key, in their order, until it returns false.
    pub(super) fn rows(&self, behind: Option<Key>, visit: &mut Visit<'_>) -> rusqlite::Result<()> {
        let mut all =
            self.db.prepare_cached("SELECT key, own, peer, body FROM leases WHERE key > ?1 ORDER BY key")?;
        let mut rows = all.query([behind.as_ref().map_or(&[][..], |k| &k[..])])?;
        let mut recents: Vec<_> = self.recents.iter().map(|r| r.rows_behind(behind).peekable()).collect();
        let mut done = false;
        while !done {
            let next = rows.next()?;
            let at = next.map(key).transpose()?;
            // First what the log alone has up to there.
            loop {
                let recent = recents.iter_mut().filter_map(|r| r.peek().map(|(key, ..)| **key)).min();
                let Some(recent) = recent.filter(|recent| at.is_none_or(|at| *recent <= at)) else { break };
                let mut latest = None;
                for of_one in &mut recents {
                    let found = of_one.next_if(|(key, ..)| **key == recent);
                    latest = latest.or(found);
                }
                if let Some((key, version, lease)) = latest
                    && !visit(key, version, lease)?
                {
                    return Ok(());
                }
                if Some(recent) == at {
                    break;
                }
            }
            match (next, at) {
                (Some(r), Some(key)) if !self.recents.iter().any(|recent| recent.row(&key).is_some()) => {
                    let (version, lease) = row(&key, time(r, 1)?, time(r, 2)?, r.get_ref(3)?.as_blob()?)?;
                    done = !visit(&key, version, lease)?;
                }
                (Some(_), _) => {}
                (None, _) => done = true,
            }
        }
        Ok(())
    }

    /// A page of leases, in the order of kind and address.
    pub(super) fn leases(&self, query: &LeaseQuery) -> rusqlite::Result<Vec<Lease>> {
        let mut found = Vec::new();
        if query.limit == 0 {
            return Ok(found);
        }
        let link = match &query.link {
            Some(name) => match self.links.known(name) {
                Some(id) => Some(id),
                None => return Ok(found),
            },
            None => None,
        };
        let mut visit = |key: &Key, _: Version, octets: &[u8]| {
            let lean = Lean::parse(octets)?;
            let wanted = query.mac.is_none_or(|mac| lean.mac == Some(mac))
                && link.is_none_or(|link| lean.link == link)
                && (!query.active || lean.state == State::Active);
            if wanted {
                found.push(lean.lease(key, &|id| self.links.name(id))?);
            }
            Ok(found.len() < query.limit)
        };
        let behind = query.after.map(|(kind, address)| key_of(kind, address));
        let Some(address) = query.address else {
            self.rows(behind, &mut visit)?;
            return Ok(found);
        };
        for kind in [Kind::Address, Kind::Prefix, Kind::Registered] {
            let key = key_of(kind, address);
            if behind.is_none_or(|behind| key > behind)
                && let Some((version, lease)) = self.find(&key)?
                && !visit(&key, version, &lease)?
            {
                break;
            }
        }
        Ok(found)
    }

    pub(super) fn counts(&self) -> rusqlite::Result<Counts> {
        let mut counts = Counts::default();
        self.rows(None, &mut |_, _, octets| {
            *match Lean::parse(octets)?.state {
                State::Active => &mut counts.active,
                State::Free => &mut counts.free,
                State::Declined => &mut counts.declined,
            } += 1;
            Ok(true)
        })?;
        Ok(counts)
    }

    /// True if another event took the place of this one.
    pub(super) fn hides(&self, id: u64) -> bool {
        self.recents.iter().any(|r| r.hides(id))
    }

    /// Calls `visit` with every event behind a number, by number, until it returns false.
    pub(super) fn events(
        &self,
        behind: u64,
        visit: &mut dyn FnMut(&Entry<'_>) -> rusqlite::Result<bool>,
    ) -> rusqlite::Result<()> {
        let first = segments::block_of(self.db, behind.saturating_add(1))?.map_or(0, |(id, _)| id);
        let mut blocks =
            self.db.prepare_cached("SELECT id, body FROM history WHERE id BETWEEN ?1 AND ?2 ORDER BY id")?;
        let mut rows = blocks.query([first, super::row::number(self.folded)])?;
        while let Some(r) = rows.next()? {
            let mut rest = open_blob(r.get_ref(1)?.as_blob()?)?;
            while !rest.is_empty() {
                let (entry, _) = Entry::take(&mut rest)?;
                if entry.id > behind && !self.hides(entry.id) && !visit(&entry)? {
                    return Ok(());
                }
            }
        }
        for recent in self.recents.iter().rev() {
            for entry in recent.after(behind) {
                let entry = entry?;
                if !self.hides(entry.id) && !visit(&entry)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What `read` makes of an event that the tables have; nothing if it is gone.
    pub(super) fn folded_event<T>(
        &self,
        id: u64,
        read: impl FnOnce(&Entry<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        if self.hides(id) {
            return Ok(None);
        }
        let Some((_, blob)) = segments::block_of(self.db, id)? else { return Ok(None) };
        let mut rest = open_blob(&blob)?;
        while !rest.is_empty() {
            let (entry, _) = Entry::take(&mut rest)?;
            if entry.id == id {
                return read(&entry).map(Some);
            }
        }
        Ok(None)
    }

    /// Lengths of prefixes that were ever delegated, the longest first.
    pub(super) fn lengths(&self) -> rusqlite::Result<Vec<u8>> {
        super::lengths(self.db)
    }
}

/// The number of the last event that the tables have.
pub(super) fn folded(db: &Connection) -> rusqlite::Result<u64> {
    super::get_number(db, super::FOLDED)
}

/// Reads what the log has behind number `behind`; gives the number of the last event.
pub(super) fn read_log(db: &Connection, behind: u64, into: &mut Recent) -> rusqlite::Result<Option<u64>> {
    let mut all = db.prepare_cached("SELECT id, body FROM log WHERE id > ?1 ORDER BY id")?;
    let mut rows = all.query([super::row::number(behind)])?;
    let mut last = None;
    while let Some(r) = rows.next()? {
        into.add_all(open_blob(r.get_ref(1)?.as_blob()?)?)?;
        let id = unsigned(r.get(0)?);
        if into.last() != Some(id) {
            return Err(Bad("log: a group has another number").into());
        }
        last = Some(id);
    }
    Ok(last)
}
