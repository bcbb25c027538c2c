//! Leases and events as octets: what a row of the log, a block of history and the row of a lease hold.
//!
//! ```text
//!  blob    format u8 | CRC-32 of the rest u32 | entries
//!  entry   length | id | flags u8 | event u8 | first | at - first | times | seen
//!          | of the peer's: seq | own | if it takes another's place: id of that
//!          | key [17] | length | lease | if another lease is kept: length | lease
//!  lease   flags u8 | prefix length u8 | link | IAID u32 | MAC [6] | who: length, octets | DUID: length, octets
//!          | since | preferred | valid
//! ```
//! Numbers without a size are LEB128; others are big-endian. What is read is checked: whatever the octets are, the
//! answer is what was written or that they are damaged.

use super::row::{
    event_code, event_of, identity_code, identity_of, kind_code, kind_of, odd, state_code, state_of,
};
use causeway_dhcpv6::{Kind, Lease, LeaseEvent, State, UnixSeconds};
use causeway_wire::MacAddr;
use std::net::Ipv6Addr;

/// What a lease is kept under: its kind's code, and its address. Keys sort as kind and address do.
pub(super) type Key = [u8; 17];

/// The first octet of a blob.
const FORMAT: u8 = 1;
/// Octets before a blob's entries.
pub(super) const HEAD: usize = 5;

/// The key of a lease of this kind at this address.
pub(super) fn key_of(kind: Kind, address: Ipv6Addr) -> Key {
    let mut key = [kind_code(kind); 17];
    key[1..].copy_from_slice(&address.octets());
    key
}

/// What a key says.
pub(super) fn split_key(key: &Key) -> Result<(Kind, Ipv6Addr), Bad> {
    let (kind, address) = key.split_first_chunk::<1>().ok_or(Bad("key"))?;
    let address: [u8; 16] = address.try_into().map_err(|_| Bad("key"))?;
    Ok((kind_of(kind[0]).ok_or(Bad("kind of lease"))?, address.into()))
}

/// What octets of the store cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a damaged {0}")]
pub(super) struct Bad(pub(super) &'static str);

impl From<Bad> for rusqlite::Error {
    fn from(bad: Bad) -> Self {
        odd(0, bad.0)
    }
}

/// The place of a lease in the order of both gateways, and what renewals are folded with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Version {
    /// Number of our last event for it.
    pub(super) own: u64,
    /// Number of the peer's, there.
    pub(super) peer: u64,
    /// Number, here, of the event that it comes from.
    pub(super) event: u64,
    /// Renewals that this event stands for; 0: it is no renewal.
    pub(super) renewals: u64,
    /// When the first of them was.
    pub(super) renewed: UnixSeconds,
}

/// Which lease is kept after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept<'a> {
    /// The one that was kept before: the event is history.
    Before,
    /// The event's.
    Its,
    /// Another one, that a merge came to.
    Other(&'a [u8]),
}

/// An event as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Its number here.
    pub(super) id: u64,
    /// The peer's number of it, and our version of the lease then; nothing: the event is ours.
    pub(super) peers: Option<(u64, u64)>,
    pub(super) event: LeaseEvent,
    pub(super) first: UnixSeconds,
    pub(super) at: UnixSeconds,
    pub(super) times: u64,
    /// The version of the receiver's own that it was made on top of.
    pub(super) seen: u64,
    /// Number of the event whose place it takes, which is no more; 0: none.
    pub(super) replaces: u64,
    pub(super) key: Key,
    /// The lease afterwards.
    pub(super) lease: &'a [u8],
    pub(super) kept: Kept<'a>,
}

const PEERS: u8 = 1;
const KEEPS_ITS: u8 = 2;
const KEEPS_OTHER: u8 = 4;
const REPLACES: u8 = 8;

impl<'a> Entry<'a> {
    /// The version of the lease that is kept after it.
    pub(super) fn version(&self) -> Version {
        let (own, peer) = match self.peers {
            None => (self.id, self.seen),
            Some((seq, own)) => (own, seq),
        };
        let (renewals, renewed) = match (self.kept, self.event) {
            (Kept::Its, LeaseEvent::Renewed) => (self.times, self.first),
            _ => (0, 0),
        };
        Version { own, peer, event: self.id, renewals, renewed }
    }

    /// Writes it behind what is in `out`.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        // Its length: two octets hold nearly each, and are made more if not.
        out.extend([0, 0]);
        number(out, self.id);
        let flags = if self.peers.is_some() { PEERS } else { 0 }
            | match self.kept {
                Kept::Before => 0,
                Kept::Its => KEEPS_ITS,
                Kept::Other(_) => KEEPS_OTHER,
            }
            | if self.replaces == 0 { 0 } else { REPLACES };
        out.extend([flags, event_code(self.event)]);
        number(out, self.first);
        number(out, self.at.saturating_sub(self.first));
        number(out, self.times);
        number(out, self.seen);
        if let Some((seq, own)) = self.peers {
            number(out, seq);
            number(out, own);
        }
        if self.replaces != 0 {
            number(out, self.replaces);
        }
        out.extend(self.key);
        octets(out, self.lease);
        if let Kept::Other(lease) = self.kept {
            octets(out, lease);
        }
        let length = out.len() - begin - 2;
        match u16::try_from(length).ok().filter(|n| *n < 1 << 14) {
            // LEB128 in two octets, whatever the number.
            Some(n) => {
                let [low, high] = [n & 0x7f | 0x80, n >> 7].map(|n| n.to_be_bytes()[1]);
                out[begin..begin + 2].copy_from_slice(&[low, high]);
            }
            None => {
                let mut long = Vec::with_capacity(10);
                number(&mut long, length as u64);
                out.splice(begin..begin + 2, long);
            }
        }
    }

    /// Reads the first entry of `rest`, and takes it, with its length, from there.
    pub(super) fn take(rest: &mut &'a [u8]) -> Result<(Self, &'a [u8]), Bad> {
        let whole = *rest;
        let mut reader = Rest(whole);
        let own = reader.octets().ok_or(Bad("event"))?;
        *rest = reader.0;
        let entry = Self::parse(own).ok_or(Bad("event"))?;
        Ok((entry, &whole[..whole.len() - rest.len()]))
    }

    fn parse(octets: &'a [u8]) -> Option<Self> {
        let mut r = Rest(octets);
        let id = r.number()?;
        let flags = r.octet()?;
        let event = event_of(r.octet()?)?;
        let first = r.number()?;
        let at = first.checked_add(r.number()?)?;
        let (times, seen) = (r.number()?, r.number()?);
        let peers = if flags & PEERS == 0 { None } else { Some((r.number()?, r.number()?)) };
        let replaces = if flags & REPLACES == 0 { 0 } else { r.number()? };
        let key = r.array()?;
        let lease = r.octets()?;
        let kept = match flags & !(PEERS | REPLACES) {
            0 => Kept::Before,
            KEEPS_ITS => Kept::Its,
            KEEPS_OTHER => Kept::Other(r.octets()?),
            _ => return None,
        };
        let whole = Self { id, peers, event, first, at, times, seen, replaces, key, lease, kept };
        r.0.is_empty().then_some(whole)
    }
}

/// A lease as it is kept, without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lean<'a> {
    pub(super) length: u8,
    /// Its number in the file.
    pub(super) link: u64,
    pub(super) iaid: u32,
    pub(super) mac: Option<MacAddr>,
    pub(super) who: Option<&'a [u8]>,
    pub(super) duid: &'a [u8],
    pub(super) state: State,
    pub(super) since: UnixSeconds,
    pub(super) preferred: UnixSeconds,
    pub(super) valid: UnixSeconds,
}

const HAS_MAC: u8 = 1;
const HAS_WHO: u8 = 2;

/// Writes a lease, without its key, behind what is in `out`.
pub(super) fn put_lease(out: &mut Vec<u8>, lease: &Lease, link: u64) {
    let who = identity_code(lease);
    let flags = if lease.mac.is_some() { HAS_MAC } else { 0 }
        | if who.is_some() { HAS_WHO } else { 0 }
        | state_code(lease.state) << 2;
    out.extend([flags, lease.length]);
    number(out, link);
    out.extend(lease.iaid.to_be_bytes());
    if let Some(mac) = lease.mac {
        out.extend(mac.0);
    }
    if let Some(who) = who {
        octets(out, &who);
    }
    octets(out, &lease.duid);
    number(out, lease.since);
    number(out, lease.preferred_until);
    number(out, lease.valid_until);
}

impl<'a> Lean<'a> {
    /// Reads a lease that is all of `octets`.
    pub(super) fn parse(octets: &'a [u8]) -> Result<Self, Bad> {
        let mut r = Rest(octets);
        let mut read = || -> Option<Self> {
            let flags = r.octet()?;
            let length = r.octet().filter(|l| *l <= 128)?;
            let link = r.number()?;
            let iaid = u32::from_be_bytes(r.array()?);
            let mac = if flags & HAS_MAC == 0 { None } else { Some(MacAddr(r.array()?)) };
            let who = if flags & HAS_WHO == 0 { None } else { Some(r.octets()?) };
            let duid = r.octets()?;
            let state = state_of(flags >> 2)?;
            let (since, preferred, valid) = (r.number()?, r.number()?, r.number()?);
            r.0.is_empty().then_some(Self {
                length,
                link,
                iaid,
                mac,
                who,
                duid,
                state,
                since,
                preferred,
                valid,
            })
        };
        read().ok_or(Bad("lease"))
    }

    /// The lease under `key`, with the names of links.
    pub(super) fn lease(&self, key: &Key, links: &dyn Fn(u64) -> Option<Box<str>>) -> Result<Lease, Bad> {
        let (kind, address) = split_key(key)?;
        Ok(Lease {
            kind,
            address,
            length: self.length,
            link: links(self.link).ok_or(Bad("name of a link"))?,
            identity: identity_of(self.who, self.mac, self.duid).ok_or(Bad("identity"))?,
            duid: self.duid.into(),
            iaid: self.iaid,
            mac: self.mac,
            state: self.state,
            preferred_until: self.preferred,
            valid_until: self.valid,
            since: self.since,
        })
    }
}

/// Writes what the row of a lease has besides `own` and `peer`: where it comes from, and the lease.
pub(super) fn put_row(out: &mut Vec<u8>, key: &Key, version: &Version, lease: &[u8]) {
    out.extend([0; 4]);
    for n in [version.event, version.renewals, version.renewed] {
        number(out, n);
    }
    out.extend(lease);
    let crc = Crc::new().of(key).of(&out[4..]).end();
    out[..4].copy_from_slice(&crc.to_be_bytes());
}

/// Reads what [`put_row`] wrote.
pub(super) fn row<'a>(key: &Key, own: u64, peer: u64, octets: &'a [u8]) -> Result<(Version, &'a [u8]), Bad> {
    let (crc, rest) = octets.split_first_chunk::<4>().ok_or(Bad("lease"))?;
    if Crc::new().of(key).of(rest).end() != u32::from_be_bytes(*crc) {
        return Err(Bad("lease: its checksum is wrong"));
    }
    let mut r = Rest(rest);
    let mut read = || Some([r.number()?, r.number()?, r.number()?]);
    let [event, renewals, renewed] = read().ok_or(Bad("lease"))?;
    Ok((Version { own, peer, event, renewals, renewed }, r.0))
}

/// Room for the head of a blob.
pub(super) fn begin_blob(out: &mut Vec<u8>) {
    out.clear();
    out.extend([0; HEAD]);
}

/// Fills in the head of a blob that is complete otherwise.
pub(super) fn end_blob(out: &mut [u8]) {
    let crc = Crc::new().of(&out[HEAD..]).end();
    out[0] = FORMAT;
    out[1..HEAD].copy_from_slice(&crc.to_be_bytes());
}

/// The entries of a blob.
pub(super) fn open_blob(blob: &[u8]) -> Result<&[u8], Bad> {
    let (head, entries) = blob.split_first_chunk::<HEAD>().ok_or(Bad("block"))?;
    let [format, crc @ ..] = head;
    if *format != FORMAT || Crc::new().of(entries).end() != u32::from_be_bytes(*crc) {
        return Err(Bad("block: its checksum is wrong"));
    }
    Ok(entries)
}

fn number(out: &mut Vec<u8>, mut n: u64) {
    while n > 0x7f {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

fn octets(out: &mut Vec<u8>, octets: &[u8]) {
    number(out, octets.len() as u64);
    out.extend(octets);
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn octet(&mut self) -> Option<u8> {
        self.array::<1>().map(|[o]| o)
    }

    fn number(&mut self) -> Option<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let octet = self.octet()?;
            let bits = u64::from(octet & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            n |= bits << shift;
            if octet < 0x80 {
                return Some(n);
            }
        }
        None
    }

    fn octets(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (octets, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(octets)
    }
}

/// CRC-32 (ISO-HDLC), eight octets a step.
struct Crc(u32);

const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut all = [[0u32; 256]; 8];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xedb8_8320 };
            bit += 1;
        }
        all[0][n] = crc;
        n += 1;
    }
    n = 0;
    while n < 256 {
        let mut table = 1;
        while table < 8 {
            let before = all[table - 1][n];
            all[table][n] = before >> 8 ^ all[0][(before & 0xff) as usize];
            table += 1;
        }
        n += 1;
    }
    all
}

impl Crc {
    const fn new() -> Self {
        Self(u32::MAX)
    }

    fn of(self, octets: &[u8]) -> Self {
        let mut crc = self.0;
        let (eights, rest) = octets.as_chunks::<8>();
        for eight in eights {
            let mut x = *eight;
            for (x, c) in x.iter_mut().zip(crc.to_le_bytes()) {
                *x ^= c;
            }
            crc = x.iter().zip(TABLES.iter().rev()).fold(0, |crc, (x, table)| crc ^ table[usize::from(*x)]);
        }
        for octet in rest {
            crc = crc >> 8 ^ TABLES[0][usize::from(*octet ^ crc.to_le_bytes()[0])];
        }
        Self(crc)
    }

    const fn end(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::zoo;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_the_well_known_one() {
        assert_eq!(Crc::new().of(b"123456789").end(), 0xcbf4_3926);
        assert_eq!(Crc::new().of(b"1234").of(b"56789").end(), 0xcbf4_3926);
        assert_eq!(Crc::new().of(b"The quick brown fox jumps over the lazy dog").end(), 0x414f_a339);
    }

    fn links(link: u64) -> Option<Box<str>> {
        Some(if link == 7 { "tenant" } else { "rack 7" }.into())
    }

    fn link_of(lease: &Lease) -> u64 {
        if &*lease.link == "tenant" { 7 } else { u64::MAX }
    }

    #[test]
    fn every_lease_comes_back_as_it_was() {
        for lease in zoo() {
            let key = key_of(lease.kind, lease.address);
            let mut octets = Vec::new();
            put_lease(&mut octets, &lease, link_of(&lease));
            assert_eq!(Lean::parse(&octets).unwrap().lease(&key, &links).unwrap(), lease);
            for end in 0..octets.len() {
                assert_eq!(Lean::parse(&octets[..end]), Err(Bad("lease")), "cut at {end}");
            }
            let version = Version { own: 3, peer: u64::MAX, event: 9, renewals: 2, renewed: 1 << 40 };
            let mut out = Vec::new();
            put_row(&mut out, &key, &version, &octets);
            assert_eq!(row(&key, 3, u64::MAX, &out), Ok((version, &octets[..])));
            for n in 0..out.len() {
                let mut other = out.clone();
                other[n] ^= 0x10;
                assert!(row(&key, 3, u64::MAX, &other).is_err(), "octet {n}");
            }
        }
    }

    prop_compose! {
        fn numbers()(n in any::<u64>(), bits in 0u32..64) -> u64 { n >> bits }
    }

    proptest! {
        #[test]
        fn numbers_come_back_and_no_octets_are_two(n in numbers(), junk in any::<[u8; 10]>()) {
            let mut out = Vec::new();
            number(&mut out, n);
            let mut r = Rest(&out);
            prop_assert_eq!((r.number(), r.0.len()), (Some(n), 0));
            let _ = Rest(&junk).number();
        }

        #[test]
        fn every_event_comes_back_as_it_was(
            id in numbers(), first in 0u64..1 << 40, longer in 0u64..1 << 40, times in numbers(), seen in numbers(),
            peers in proptest::option::of((numbers(), numbers())), replaces in numbers(), event in 0u8..7,
            kept in 0u8..3, key in any::<[u8; 17]>(), lease in proptest::collection::vec(any::<u8>(), 0..300),
            long in 0usize..40_000,
        ) {
            let other = vec![0x5a; long];
            let kept = [Kept::Before, Kept::Its, Kept::Other(&other)][usize::from(kept)];
            let event = event_of(event).unwrap();
            let at = first + longer;
            let entry = Entry { id, peers, event, first, at, times, seen, replaces, key, lease: &lease, kept };
            let mut out = Vec::new();
            begin_blob(&mut out);
            entry.emit(&mut out);
            entry.emit(&mut out);
            end_blob(&mut out);
            let mut rest = open_blob(&out).unwrap();
            let (read, whole) = Entry::take(&mut rest).unwrap();
            prop_assert_eq!(read, entry);
            prop_assert_eq!(whole, rest);
            prop_assert_eq!(Entry::take(&mut rest).unwrap().0, entry);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_octets_are_too_strange(junk in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = open_blob(&junk);
            let _ = Lean::parse(&junk);
            let _ = row(&[0; 17], 1, 1, &junk);
            let mut rest = &junk[..];
            while !rest.is_empty() && Entry::take(&mut rest).is_ok() {}
        }

        #[test]
        fn one_octet_that_changed_is_found(at in 0usize..400, bit in 0u8..8) {
            let mut out = Vec::new();
            begin_blob(&mut out);
            out.extend((0..400u32).flat_map(u32::to_be_bytes));
            end_blob(&mut out);
            out[at] ^= 1 << bit;
            prop_assert!(open_blob(&out).is_err());
        }
    }
}
