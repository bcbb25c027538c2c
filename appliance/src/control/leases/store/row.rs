//! Codes of what leases and events are made of, and rows of version 1 of the tables.

use causeway_dhcpv6::{Identity, Kind, Lease, LeaseEvent, State, UnixSeconds};
use causeway_wire::MacAddr;
use rusqlite::Row;
use rusqlite::types::{FromSqlError, ValueRef};
use std::net::Ipv6Addr;

/// The columns of a lease that both tables of version 1 have.
pub(super) const LEASE: &str =
    "kind, address, length, link, who, duid, iaid, mac, state, preferred, valid, since";
/// How many these are.
pub(super) const LEASE_COLUMNS: usize = 12;

/// A number for the file. An infinite time stays one.
pub(super) fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A number from the file.
pub(super) fn unsigned(n: i64) -> u64 {
    if n == i64::MAX { u64::MAX } else { u64::try_from(n).unwrap_or(0) }
}

pub(in super::super) fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::Address => 0,
        Kind::Prefix => 1,
        Kind::Registered => 2,
    }
}

pub(in super::super) fn kind_of(code: u8) -> Option<Kind> {
    [Kind::Address, Kind::Prefix, Kind::Registered].get(usize::from(code)).copied()
}

pub(in super::super) fn state_code(state: State) -> u8 {
    match state {
        State::Active => 0,
        State::Free => 1,
        State::Declined => 2,
    }
}

pub(in super::super) fn state_of(code: u8) -> Option<State> {
    [State::Active, State::Free, State::Declined].get(usize::from(code)).copied()
}

/// All events, by their code.
const EVENTS: [LeaseEvent; 7] = [
    LeaseEvent::Given,
    LeaseEvent::Renewed,
    LeaseEvent::Released,
    LeaseEvent::Declined,
    LeaseEvent::Expired,
    LeaseEvent::Registered,
    LeaseEvent::Withdrawn,
];

pub(in super::super) fn event_code(event: LeaseEvent) -> u8 {
    match event {
        LeaseEvent::Given => 0,
        LeaseEvent::Renewed => 1,
        LeaseEvent::Released => 2,
        LeaseEvent::Declined => 3,
        LeaseEvent::Expired => 4,
        LeaseEvent::Registered => 5,
        LeaseEvent::Withdrawn => 6,
    }
}

pub(in super::super) fn event_of(code: u8) -> Option<LeaseEvent> {
    EVENTS.get(usize::from(code)).copied()
}

/// The column `who`: nothing if the identity is the link-layer address that the row has anyway; a tag and
/// nothing else if it is the row's DUID.
pub(in super::super) fn identity_code(lease: &Lease) -> Option<Vec<u8>> {
    match &lease.identity {
        Identity::Mac(mac) if Some(*mac) == lease.mac => None,
        Identity::Mac(mac) => Some([&[0][..], &mac.0].concat()),
        Identity::Interface { link, id } => Some([&[1][..], &link.octets(), id].concat()),
        Identity::Duid(duid) if *duid == lease.duid => Some(vec![2]),
        Identity::Duid(duid) => Some([&[2][..], duid].concat()),
    }
}

/// The reverse of [`identity_code`]; nothing if it is not one.
pub(in super::super) fn identity_of(
    who: Option<&[u8]>,
    mac: Option<MacAddr>,
    duid: &[u8],
) -> Option<Identity> {
    let Some(who) = who else { return mac.map(Identity::Mac) };
    let (tag, rest) = who.split_first()?;
    match tag {
        0 => Some(Identity::Mac(MacAddr(rest.try_into().ok()?))),
        1 => {
            let (link, id) = rest.split_first_chunk::<16>()?;
            Some(Identity::Interface { link: Ipv6Addr::from(*link), id: id.into() })
        }
        2 => Some(Identity::Duid(if rest.is_empty() { duid.into() } else { rest.into() })),
        _ => None,
    }
}

/// What a row cannot be.
pub(super) fn odd(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, what.into())
}

fn octets<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<Option<&'a [u8]>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(octets) => Ok(Some(octets)),
        _ => Err(FromSqlError::InvalidType.into()),
    }
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<UnixSeconds> {
    Ok(unsigned(row.get(column)?))
}

/// Reads the columns of a lease from column `first` on.
pub(super) fn lease(
    row: &Row<'_>,
    first: usize,
    links: &dyn Fn(i64) -> Option<Box<str>>,
) -> rusqlite::Result<Lease> {
    let kind = kind_of(row.get(first)?).ok_or_else(|| odd(first, "no kind of lease"))?;
    let address: [u8; 16] = octets(row, first + 1)?
        .and_then(|o| o.try_into().ok())
        .ok_or_else(|| odd(first + 1, "not an address"))?;
    let length: u8 = row.get(first + 2)?;
    if length > 128 {
        return Err(odd(first + 2, "not a prefix length"));
    }
    let link = links(row.get(first + 3)?).ok_or_else(|| odd(first + 3, "no such link"))?;
    let duid: Box<[u8]> = octets(row, first + 5)?.unwrap_or_default().into();
    let mac = match octets(row, first + 7)? {
        None => None,
        Some(o) => Some(MacAddr(o.try_into().map_err(|_| odd(first + 7, "not a link-layer address"))?)),
    };
    let identity =
        identity_of(octets(row, first + 4)?, mac, &duid).ok_or_else(|| odd(first + 4, "not an identity"))?;
    Ok(Lease {
        kind,
        address: address.into(),
        length,
        link,
        identity,
        duid,
        iaid: row.get(first + 6)?,
        mac,
        state: state_of(row.get(first + 8)?).ok_or_else(|| odd(first + 8, "no state of a lease"))?,
        preferred_until: time(row, first + 9)?,
        valid_until: time(row, first + 10)?,
        since: time(row, first + 11)?,
    })
}
