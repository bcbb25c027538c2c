//! What the log holds and the tables do not yet: the latest events, and the leases that they led to, in memory.
//!
//! The writer has two of these, what is being folded and what came since; a reader beside it makes one of its
//! own from the log. What is in here counts before what the tables say.

use super::octets::{Bad, Entry, Kept, Key, Version};
use causeway_dhcpv6::UnixSeconds;
use std::collections::{BTreeMap, HashSet};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Entries, one behind the other.
    octets: Vec<u8>,
    /// By number.
    events: Vec<Event>,
    rows: BTreeMap<Key, Row>,
    /// Events whose place another one took, and that are not among `events`.
    gone: HashSet<u64>,
    /// What was done since [`Recent::begin`].
    undo: Vec<Undo>,
    /// Where it began: octets and events.
    begun: (usize, usize),
}

#[derive(Debug, Clone, Copy)]
struct Event {
    id: u64,
    begin: usize,
    length: usize,
    /// Another one took its place.
    dead: bool,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    version: Version,
    begin: usize,
    length: usize,
}

#[derive(Debug)]
enum Undo {
    Row(Key, Option<Row>),
    Dead(usize),
    Gone(u64),
}

impl Recent {
    /// What follows can be taken back.
    pub(super) fn begin(&mut self) {
        self.undo.clear();
        self.begun = (self.octets.len(), self.events.len());
    }

    /// Takes back what was added since [`Recent::begin`].
    pub(super) fn roll_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Row(key, Some(row)) => {
                    self.rows.insert(key, row);
                }
                Undo::Row(key, None) => {
                    self.rows.remove(&key);
                }
                Undo::Dead(at) => self.events[at].dead = false,
                Undo::Gone(id) => {
                    self.gone.remove(&id);
                }
            }
        }
        self.octets.truncate(self.begun.0);
        self.events.truncate(self.begun.1);
    }

    /// The entries that were added since [`Recent::begin`].
    pub(super) fn added(&self) -> &[u8] {
        &self.octets[self.begun.0..]
    }

    /// Adds an event. Its number is larger than those before.
    pub(super) fn add(&mut self, entry: &Entry<'_>) {
        let begin = self.octets.len();
        entry.emit(&mut self.octets);
        self.enter(begin, entry);
    }

    /// Adds all entries of a blob.
    pub(super) fn add_all(&mut self, mut entries: &[u8]) -> Result<(), Bad> {
        while !entries.is_empty() {
            let (entry, whole) = Entry::take(&mut entries)?;
            let begin = self.octets.len();
            self.octets.extend(whole);
            self.enter(begin, &entry);
        }
        self.undo.clear();
        Ok(())
    }

    /// Takes note of the entry that the octets from `begin` on are.
    fn enter(&mut self, begin: usize, entry: &Entry<'_>) {
        let end = self.octets.len();
        if entry.replaces != 0 {
            match self.place(entry.replaces) {
                Some(at) => {
                    self.events[at].dead = true;
                    self.undo.push(Undo::Dead(at));
                }
                None => {
                    self.gone.insert(entry.replaces);
                    self.undo.push(Undo::Gone(entry.replaces));
                }
            }
        }
        self.events.push(Event { id: entry.id, begin, length: end - begin, dead: false });
        // The lease that is kept ends where its entry does.
        let lease = match entry.kept {
            Kept::Before => return,
            Kept::Its => entry.lease,
            Kept::Other(other) => other,
        };
        let row = Row { version: entry.version(), begin: end - lease.len(), length: lease.len() };
        let before = self.rows.insert(entry.key, row);
        self.undo.push(Undo::Row(entry.key, before));
    }

    fn place(&self, id: u64) -> Option<usize> {
        // Numbers follow each other nearly always.
        let first = self.events.first()?.id;
        let guess = usize::try_from(id.checked_sub(first)?).ok()?;
        if self.events.get(guess).is_some_and(|e| e.id == id) {
            return Some(guess);
        }
        self.events.binary_search_by_key(&id, |e| e.id).ok()
    }

    /// Events, those included whose place another one took.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Octets of all entries.
    pub(super) fn octets(&self) -> usize {
        self.octets.len()
    }

    /// Number of the last event.
    pub(super) fn last(&self) -> Option<u64> {
        self.events.last().map(|e| e.id)
    }

    /// When the first event was.
    pub(super) fn first_at(&self) -> Option<UnixSeconds> {
        self.events.first().and_then(|e| self.entry(e).ok()).map(|e| e.at)
    }

    fn entry(&self, event: &Event) -> Result<Entry<'_>, Bad> {
        let mut octets = &self.octets[event.begin..event.begin + event.length];
        Entry::take(&mut octets).map(|(entry, _)| entry)
    }

    /// Events behind number `id`, by number, but for those whose place another one took.
    pub(super) fn after(&self, id: u64) -> impl Iterator<Item = Result<Entry<'_>, Bad>> {
        self.events_from(self.events.partition_point(|e| e.id <= id), usize::MAX).map(|(entry, _)| entry)
    }

    /// At most `most` events from place `from` on with their octets, but for those whose place another one took.
    pub(super) fn events_from(
        &self,
        from: usize,
        most: usize,
    ) -> impl Iterator<Item = (Result<Entry<'_>, Bad>, &[u8])> {
        let events = self.events.get(from..).unwrap_or_default().iter();
        events
            .take(most)
            .filter(|e| !e.dead)
            .map(|e| (self.entry(e), &self.octets[e.begin..e.begin + e.length]))
    }

    /// True if another event took the place of this one, which is older than those in here.
    pub(super) fn hides(&self, id: u64) -> bool {
        self.gone.contains(&id)
    }

    /// Older events whose place others took, by number.
    pub(super) fn gone(&self) -> Vec<u64> {
        let mut gone: Vec<u64> = self.gone.iter().copied().collect();
        gone.sort_unstable();
        gone
    }

    /// The lease under a key, if it changed lately.
    pub(super) fn row(&self, key: &Key) -> Option<(Version, &[u8])> {
        self.rows.get(key).map(|r| (r.version, self.lease(r)))
    }

    fn lease(&self, row: &Row) -> &[u8] {
        &self.octets[row.begin..row.begin + row.length]
    }

    /// Leases behind a key, in their order.
    pub(super) fn rows_behind(&self, key: Option<Key>) -> impl Iterator<Item = (&Key, Version, &[u8])> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = key.map_or(Unbounded, Excluded);
        self.rows.range((from, Unbounded)).map(|(key, row)| (key, row.version, self.lease(row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_dhcpv6::LeaseEvent;

    fn entry(id: u64, replaces: u64, client: u8) -> (u64, u64, Key, Vec<u8>) {
        (id, replaces, [client; 17], vec![client, id.to_le_bytes()[0]])
    }

    fn add(recent: &mut Recent, (id, replaces, key, lease): &(u64, u64, Key, Vec<u8>)) {
        recent.add(&Entry {
            id: *id,
            peers: None,
            event: LeaseEvent::Renewed,
            first: 1,
            at: 2,
            times: 3,
            seen: 4,
            replaces: *replaces,
            key: *key,
            lease,
            kept: Kept::Its,
        });
    }

    fn ids(recent: &Recent) -> Vec<u64> {
        recent.after(0).map(|e| e.unwrap().id).collect()
    }

    #[test]
    fn what_a_group_did_is_taken_back_as_if_it_had_never_been() {
        let mut recent = Recent::default();
        recent.begin();
        add(&mut recent, &entry(5, 0, 1));
        add(&mut recent, &entry(6, 3, 2));
        recent.begin();
        let before = format!("{recent:?}");
        add(&mut recent, &entry(7, 5, 1));
        add(&mut recent, &entry(8, 7, 1));
        add(&mut recent, &entry(9, 2, 3));
        assert_eq!((ids(&recent), recent.gone(), recent.hides(2)), (vec![6, 8, 9], vec![2, 3], true));
        assert_eq!(recent.row(&[1; 17]).unwrap().1, [1, 8]);
        recent.roll_back();
        assert_eq!(format!("{recent:?}"), before);
        assert_eq!((ids(&recent), recent.row(&[1; 17]).unwrap().1), (vec![5, 6], &[1, 5][..]));
        assert!(recent.row(&[3; 17]).is_none());
    }

    #[test]
    fn what_is_read_from_the_log_is_what_was_added() {
        let (mut written, mut read) = (Recent::default(), Recent::default());
        // There may be gaps.
        for one in [entry(5, 0, 1), entry(9, 5, 1), entry(12, 4, 3)] {
            written.begin();
            add(&mut written, &one);
            read.add_all(written.added()).unwrap();
        }
        assert_eq!((ids(&read), ids(&written)), (vec![9, 12], vec![9, 12]));
        assert_eq!(read.gone(), [4]);
        let rows = |r: &Recent| r.rows_behind(None).map(|(k, v, l)| (*k, v, l.to_vec())).collect::<Vec<_>>();
        assert_eq!(rows(&read), rows(&written));
        assert_eq!(rows(&read).len(), 2);
        assert_eq!(read.rows_behind(Some([1; 17])).count(), 1);
        assert_eq!(read.after(9).count(), 1);
    }
}
