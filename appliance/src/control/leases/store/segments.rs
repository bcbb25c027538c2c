//! Where events are kept for good, and how they are found: by number, by address, by link-layer address.
//!
//! ```text
//!  history      blocks of events by number; a block's row is not above the number of its first event
//!  by_address   blocks of (address | kind | prefix length | first | number), sorted within a segment
//!  by_mac       blocks of (MAC | first | number), likewise
//!  segments     a range of numbers whose events are in one run of blocks of each of the two indexes
//! ```
//! A block is one page. Segments are written once, in order, and never changed: an event that is gone since is not
//! found in `history`, and its entries go when segments become one ([`super::merge`]) or when all its neighbours
//! are gone. Numbers of a segment's blocks begin at its own, shifted by [`SHIFT`].

use super::octets::{Bad, Entry, HEAD, Lean, begin_blob, end_blob, open_blob};
use super::row;
use causeway_dhcpv6::UnixSeconds;
use causeway_wire::MacAddr;
use rusqlite::{Connection, OptionalExtension as _};

/// Octets of a block: with what a row has besides, a page is full.
pub(super) const BLOCK: usize = 4000;
/// Bits of a block's number within its segment.
const SHIFT: u32 = 24;
/// An entry of the index by address.
pub(super) type ByAddress = [u8; 34];
/// Octets of it that name the address or prefix.
const PLACE: usize = 18;
/// An entry of the index by link-layer address.
pub(super) type ByMac = [u8; 22];

/// Writes events to history in blocks, and collects what the indexes say of them.
#[derive(Debug, Default)]
pub(super) struct Writer {
    block: Vec<u8>,
    /// Number of the block's first event.
    first: Option<u64>,
    pub(super) addresses: Vec<ByAddress>,
    pub(super) macs: Vec<ByMac>,
}

impl Writer {
    /// Adds an event, which has a larger number than those before, with its octets.
    pub(super) fn add(&mut self, db: &Connection, entry: &Entry<'_>, octets: &[u8]) -> rusqlite::Result<()> {
        if self.first.is_some() && self.block.len() + octets.len() > BLOCK {
            self.flush(db)?;
        }
        if self.first.is_none() {
            begin_blob(&mut self.block);
            self.first = Some(entry.id);
        }
        self.block.extend(octets);
        let lease = Lean::parse(entry.lease)?;
        self.addresses.push(by_address(entry, &lease));
        self.macs.extend(lease.mac.map(|mac| by_mac(mac, entry.first, entry.id)));
        Ok(())
    }

    /// Writes the block that is not full.
    pub(super) fn flush(&mut self, db: &Connection) -> rusqlite::Result<()> {
        if let Some(first) = self.first.take() {
            end_blob(&mut self.block);
            db.prepare_cached("INSERT INTO history (id, body) VALUES (?1, ?2)")?
                .execute((row::number(first), &self.block))?;
        }
        Ok(())
    }
}

fn by_address(entry: &Entry<'_>, lease: &Lean<'_>) -> ByAddress {
    let mut out = [0; 34];
    let (kind, address) = entry.key.split_at(1);
    out[..16].copy_from_slice(address);
    out[16] = kind[0];
    out[17] = lease.length;
    out[18..26].copy_from_slice(&entry.first.to_be_bytes());
    out[26..].copy_from_slice(&entry.id.to_be_bytes());
    out
}

fn by_mac(mac: MacAddr, first: UnixSeconds, id: u64) -> ByMac {
    let mut out = [0; 22];
    out[..6].copy_from_slice(&mac.0);
    out[6..14].copy_from_slice(&first.to_be_bytes());
    out[14..].copy_from_slice(&id.to_be_bytes());
    out
}

/// The end of an entry of either index: when, and the event's number.
pub(super) fn end_of(entry: &[u8]) -> (UnixSeconds, u64) {
    let number = |at: usize| {
        let octets = entry.get(at..at + 8).and_then(|o| o.try_into().ok());
        octets.map_or(0, u64::from_be_bytes)
    };
    let end = entry.len();
    (number(end.saturating_sub(16)), number(end.saturating_sub(8)))
}

/// One of the two indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Index {
    Address,
    Mac,
}

impl Index {
    const fn insert(self) -> &'static str {
        match self {
            Self::Address => "INSERT INTO by_address (id, body) VALUES (?1, ?2)",
            Self::Mac => "INSERT INTO by_mac (id, body) VALUES (?1, ?2)",
        }
    }

    const fn select(self) -> &'static str {
        match self {
            Self::Address => "SELECT body FROM by_address WHERE id = ?1",
            Self::Mac => "SELECT body FROM by_mac WHERE id = ?1",
        }
    }

    const fn delete(self) -> &'static str {
        match self {
            Self::Address => "DELETE FROM by_address WHERE id = ?1",
            Self::Mac => "DELETE FROM by_mac WHERE id = ?1",
        }
    }

    pub(super) const fn entry(self) -> usize {
        match self {
            Self::Address => size_of::<ByAddress>(),
            Self::Mac => size_of::<ByMac>(),
        }
    }
}

/// A segment's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) id: i64,
    /// Numbers of its events, from this one on.
    pub(super) first: u64,
    /// To this one.
    pub(super) last: u64,
    /// Events that are in history still.
    pub(super) live: u64,
    /// Blocks of the index by address.
    pub(super) addresses: i64,
    /// Blocks of the index by link-layer address.
    pub(super) macs: i64,
}

impl Segment {
    pub(super) const fn blocks(&self, index: Index) -> i64 {
        match index {
            Index::Address => self.addresses,
            Index::Mac => self.macs,
        }
    }

    pub(super) fn put(&self, db: &Connection) -> rusqlite::Result<()> {
        let put =
            "INSERT INTO segments (id, first, last, live, addresses, macs) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let [first, last, live] = [self.first, self.last, self.live].map(row::number);
        db.prepare_cached(put)?.execute((self.id, first, last, live, self.addresses, self.macs))?;
        Ok(())
    }

    /// One block of it.
    pub(super) fn block(&self, db: &Connection, index: Index, n: i64) -> rusqlite::Result<Block> {
        let mut find = db.prepare_cached(index.select())?;
        let octets = find.query_row([self.id << SHIFT | n], |r| Ok(r.get_ref(0)?.as_blob()?.to_vec()));
        let octets = octets.optional()?.ok_or(Bad("index: a block is missing"))?;
        let entries = open_blob(&octets)?;
        if entries.is_empty() || !entries.len().is_multiple_of(index.entry()) {
            return Err(Bad("index: a block has a wrong length").into());
        }
        Ok(Block { octets, entry: index.entry() })
    }

    /// Removes at most `most` of the blocks of both indexes, from the last on, and then the row; true if all is gone.
    pub(super) fn remove(mut self, db: &Connection, most: usize) -> rusqlite::Result<bool> {
        for _ in 0..most {
            let (index, left) = match (&mut self.addresses, &mut self.macs) {
                (0, 0) => break,
                (0, macs) => (Index::Mac, macs),
                (addresses, _) => (Index::Address, addresses),
            };
            *left -= 1;
            db.prepare_cached(index.delete())?.execute([self.id << SHIFT | *left])?;
        }
        if (self.addresses, self.macs) == (0, 0) {
            db.prepare_cached("DELETE FROM segments WHERE id = ?1")?.execute([self.id])?;
            return Ok(true);
        }
        db.prepare_cached("UPDATE segments SET live = 0, addresses = ?2, macs = ?3 WHERE id = ?1")?
            .execute((self.id, self.addresses, self.macs))?;
        Ok(false)
    }

    /// Calls `visit` with entries that are not above `upto`, from the last one on, until it returns false.
    pub(super) fn walk_back(
        &self,
        db: &Connection,
        index: Index,
        upto: &[u8],
        visit: &mut dyn FnMut(&[u8]) -> rusqlite::Result<bool>,
    ) -> rusqlite::Result<()> {
        let (mut low, mut high) = (0, self.blocks(index));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.block(db, index, middle)?.entries().next().is_some_and(|e| e <= upto) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        for n in (0..low).rev() {
            let block = self.block(db, index, n)?;
            for entry in block.entries().rev() {
                if entry <= upto && !visit(entry)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// A block of an index.
#[derive(Debug)]
pub(super) struct Block {
    octets: Vec<u8>,
    entry: usize,
}

impl Block {
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.octets[HEAD..].chunks_exact(self.entry)
    }
}

impl Block {
    /// Its entry number `n`.
    pub(super) fn get(&self, n: usize) -> Option<&[u8]> {
        self.octets.get(HEAD + n * self.entry..)?.get(..self.entry)
    }
}

/// Writes the blocks of an index of one segment.
#[derive(Debug)]
pub(super) struct IndexWriter {
    index: Index,
    segment: i64,
    block: Vec<u8>,
    blocks: i64,
}

impl IndexWriter {
    pub(super) fn new(index: Index, segment: i64) -> Self {
        let mut block = Vec::with_capacity(BLOCK);
        begin_blob(&mut block);
        Self { index, segment, block, blocks: 0 }
    }

    /// Adds an entry, which sorts behind those before.
    pub(super) fn add(&mut self, db: &Connection, entry: &[u8]) -> rusqlite::Result<()> {
        if self.block.len() + entry.len() > BLOCK {
            self.flush(db)?;
        }
        self.block.extend(entry);
        Ok(())
    }

    fn flush(&mut self, db: &Connection) -> rusqlite::Result<()> {
        if self.block.len() > HEAD {
            end_blob(&mut self.block);
            db.prepare_cached(self.index.insert())?
                .execute((self.segment << SHIFT | self.blocks, &self.block))?;
            self.blocks += 1;
            begin_blob(&mut self.block);
        }
        Ok(())
    }

    /// Writes what is left; how many blocks it came to.
    pub(super) fn end(&mut self, db: &Connection) -> rusqlite::Result<i64> {
        self.flush(db)?;
        Ok(self.blocks)
    }
}

/// Makes a segment of what a [`Writer`] collected since the last one; nothing if that was nothing.
pub(super) fn close(db: &Connection, writer: &mut Writer, id: i64) -> rusqlite::Result<Option<Segment>> {
    writer.flush(db)?;
    let numbers = || writer.addresses.iter().map(|e| end_of(e).1);
    let (Some(first), Some(last)) = (numbers().min(), numbers().max()) else { return Ok(None) };
    let live = writer.addresses.len() as u64;
    writer.addresses.sort_unstable();
    writer.macs.sort_unstable();
    let mut addresses = IndexWriter::new(Index::Address, id);
    for entry in writer.addresses.drain(..) {
        addresses.add(db, &entry)?;
    }
    let mut macs = IndexWriter::new(Index::Mac, id);
    for entry in writer.macs.drain(..) {
        macs.add(db, &entry)?;
    }
    let (addresses, macs) = (addresses.end(db)?, macs.end(db)?);
    let segment = Segment { id, first, last, live, addresses, macs };
    segment.put(db)?;
    Ok(Some(segment))
}

/// Number for the next segment.
pub(super) fn next_id(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT coalesce(max(id), 0) + 1 FROM segments", [], |r| r.get(0))
}

/// Segments of events up to number `folded`, by their order.
pub(super) fn all(db: &Connection, folded: u64) -> rusqlite::Result<Vec<Segment>> {
    let sql = "SELECT id, first, last, live, addresses, macs FROM segments WHERE live > 0 AND last <= ?1 ORDER BY first";
    let mut find = db.prepare_cached(sql)?;
    find.query_map([row::number(folded)], segment)?.collect()
}

fn segment(r: &rusqlite::Row<'_>) -> rusqlite::Result<Segment> {
    let (first, last, live) = (row::time(r, 1)?, row::time(r, 2)?, row::time(r, 3)?);
    Ok(Segment { id: r.get(0)?, first, last, live, addresses: r.get(4)?, macs: r.get(5)? })
}

/// A segment that nothing is left of but its blocks, other than number `not`.
pub(super) fn empty(db: &Connection, not: i64) -> rusqlite::Result<Option<Segment>> {
    let sql =
        "SELECT id, first, last, live, addresses, macs FROM segments WHERE live <= 0 AND id <> ?1 LIMIT 1";
    db.prepare_cached(sql)?.query_row([not], segment).optional()
}

/// Has `into` count instead of `from`, with what is left of those.
pub(super) fn replace(db: &Connection, from: &[Segment], into: &Segment) -> rusqlite::Result<()> {
    let mut find = db.prepare_cached("SELECT max(live, 0) FROM segments WHERE id = ?1")?;
    let mut none = db.prepare_cached("UPDATE segments SET live = 0 WHERE id = ?1")?;
    let mut live = 0;
    for one in from {
        live += find.query_row([one.id], |r| row::time(r, 0))?;
        none.execute([one.id])?;
    }
    db.prepare_cached("UPDATE segments SET live = ?2, addresses = ?3, macs = ?4 WHERE id = ?1")?
        .execute((into.id, row::number(live), into.addresses, into.macs))?;
    Ok(())
}

/// Takes note that events, by number, are gone.
fn gone(db: &Connection, mut events: &[u64]) -> rusqlite::Result<()> {
    let mut find = db.prepare_cached(
        "SELECT id, last FROM segments WHERE first <= ?1 AND last >= ?1 AND live > 0 ORDER BY first DESC LIMIT 1",
    )?;
    let mut less = db.prepare_cached("UPDATE segments SET live = live - ?2 WHERE id = ?1")?;
    while let Some(first) = events.first() {
        let found = find.query_row([row::number(*first)], |r| Ok((r.get::<_, i64>(0)?, row::time(r, 1)?)));
        let (of_one, rest) = match found.optional()? {
            Some((id, last)) => {
                let parts = events.split_at(events.partition_point(|e| *e <= last));
                less.execute((id, row::number(parts.0.len() as u64)))?;
                parts
            }
            None => events.split_at(1),
        };
        debug_assert!(!of_one.is_empty());
        events = rest;
    }
    Ok(())
}

/// Rewrites a block of history without some of its events; how many of them it had.
pub(super) fn rewrite(
    db: &Connection,
    id: i64,
    entries: &[u8],
    goes: &mut dyn FnMut(&Entry<'_>) -> Result<bool, Bad>,
) -> rusqlite::Result<Vec<u64>> {
    let mut left = Vec::with_capacity(BLOCK);
    begin_blob(&mut left);
    let (mut rest, mut went) = (entries, Vec::new());
    while !rest.is_empty() {
        let (entry, octets) = Entry::take(&mut rest)?;
        if goes(&entry)? {
            went.push(entry.id);
        } else {
            left.extend(octets);
        }
    }
    if went.is_empty() {
        return Ok(went);
    }
    if left.len() == HEAD {
        db.prepare_cached("DELETE FROM history WHERE id = ?1")?.execute([id])?;
    } else {
        end_blob(&mut left);
        db.prepare_cached("UPDATE history SET body = ?2 WHERE id = ?1")?.execute((id, left))?;
    }
    gone(db, &went)?;
    Ok(went)
}

/// The block of history that an event of this number is in, if it is there: the row's number, and its blob.
pub(super) fn block_of(db: &Connection, id: u64) -> rusqlite::Result<Option<(i64, Vec<u8>)>> {
    db.prepare_cached("SELECT id, body FROM history WHERE id <= ?1 ORDER BY id DESC LIMIT 1")?
        .query_row([row::number(id)], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()
}

/// The last entry of the index by address that an address or prefix can have at `at`.
pub(super) fn address_at(kind: u8, address: [u8; 16], length: u8, at: UnixSeconds) -> ByAddress {
    let mut out = [0xff; 34];
    out[..16].copy_from_slice(&address);
    out[16] = kind;
    out[17] = length;
    out[18..26].copy_from_slice(&at.to_be_bytes());
    out
}

/// True if two entries of the index by address are of the same address or prefix.
pub(super) fn same_place(a: &[u8], b: &[u8]) -> bool {
    a.get(..PLACE) == b.get(..PLACE)
}

/// The last entry of the index by link-layer address that there can be at `at`.
pub(super) fn mac_at(mac: MacAddr, at: UnixSeconds) -> ByMac {
    by_mac(mac, at, u64::MAX)
}

/// True if two entries of the index by link-layer address are of the same.
pub(super) fn same_mac(a: &[u8], b: &[u8]) -> bool {
    a.get(..6) == b.get(..6)
}
