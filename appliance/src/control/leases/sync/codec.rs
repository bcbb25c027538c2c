//! Messages between two gateways, and their octets.
//!
//! ```text
//!  frame    length u32 | channel u16 | type u16 | number u64 | content | tag [16]
//! ```
//! Big-endian. `length` counts what follows it. `number` counts the frames of a direction from 0; `tag`
//! proves that the frame is from the peer, in this connection, at this place ([`super::auth`]). Channel 1 is for
//! leases; session state will have another one. A reader skips channels that it does not know.

use super::super::store::{
    NodeId, Record, event_code, event_of, identity_code, identity_of, kind_code, kind_of, state_code,
    state_of,
};
use causeway_dhcpv6::{Lease, UnixSeconds};
use causeway_wire::MacAddr;
use std::net::Ipv6Addr;

/// Octets of a frame at most, without its length field.
pub(in super::super) const FRAME_MAX: usize = 4 << 20;
/// Octets before the content, without the length field.
pub(in super::super) const HEAD: usize = 12;
/// Octets of a tag.
pub(in super::super) const TAG: usize = 16;
/// The channel of leases.
pub(in super::super) const LEASES: u16 = 1;
/// Records of a message, at most: so many of the longest fit in a frame.
pub(in super::super) const RECORDS_MAX: usize = 512;

/// What the peers tell each other about leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Message {
    /// First: what is there.
    Position(Position),
    /// Events of the sender, in order. All that it has up to the last one's number.
    Records(Vec<Record>),
    /// Some of all leases, in any order.
    Snapshot(Vec<Record>),
    /// That were all leases: nothing is missing up to this number.
    SnapshotEnd(u64),
    /// There is nothing else up to this number. From here on the sender gives nothing from its half.
    End(u64),
    /// Everything up to this number is on the sender's disk.
    Ack(u64),
    /// See [`super::pair`].
    Ask,
    /// See [`super::pair`].
    Give,
    /// To be answered: the sender's time.
    Ping(UnixSeconds),
    /// The answer, with the same time.
    Pong(UnixSeconds),
    /// Why the sender will have nothing to do with the receiver.
    Refuse(String),
}

/// What a gateway has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Position {
    /// Who it is.
    pub(in super::super) node: NodeId,
    /// Number of its last event.
    pub(in super::super) head: u64,
    /// Number of the receiver's last event that it has.
    pub(in super::super) have: u64,
    /// Its half, if its configuration tells.
    pub(in super::super) odd: Option<bool>,
    /// Its configuration gives its DUID: it takes no other.
    pub(in super::super) fixed: bool,
    /// Its DUID.
    pub(in super::super) duid: Box<[u8]>,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum CodecError {
    /// It ends too early.
    #[error("a message is cut short")]
    Short,
    /// Something is behind its end.
    #[error("a message is too long")]
    Long,
    /// A field has a value that it cannot have.
    #[error("a message has a bad {0}")]
    Bad(&'static str),
}

impl Message {
    const fn code(&self) -> u16 {
        match self {
            Self::Position(_) => 1,
            Self::Records(_) => 2,
            Self::Snapshot(_) => 3,
            Self::End(_) => 4,
            Self::Ack(_) => 5,
            Self::Ask => 6,
            Self::Give => 7,
            Self::Ping(_) => 8,
            Self::Pong(_) => 9,
            Self::Refuse(_) => 10,
            Self::SnapshotEnd(_) => 11,
        }
    }

    /// Its type and content.
    pub(in super::super) fn emit(&self) -> (u16, Vec<u8>) {
        let mut out = Vec::new();
        match self {
            Self::Position(p) => {
                out.extend(p.node);
                out.extend(p.head.to_be_bytes());
                out.extend(p.have.to_be_bytes());
                out.push(match p.odd {
                    None => 0,
                    Some(false) => 1,
                    Some(true) => 2,
                });
                out.push(p.fixed.into());
                put_octets(&mut out, &p.duid);
            }
            Self::Records(records) | Self::Snapshot(records) => {
                out.reserve(records.len() * 160);
                out.extend(u16::try_from(records.len()).unwrap_or(u16::MAX).to_be_bytes());
                records.iter().take(usize::from(u16::MAX)).for_each(|r| put_record(&mut out, r));
            }
            Self::SnapshotEnd(n) | Self::End(n) | Self::Ack(n) | Self::Ping(n) | Self::Pong(n) => {
                out.extend(n.to_be_bytes());
            }
            Self::Ask | Self::Give => {}
            Self::Refuse(why) => put_octets(&mut out, why.as_bytes()),
        }
        (self.code(), out)
    }

    /// The message of this type with this content; nothing if the type is not known.
    ///
    /// # Errors
    /// [`CodecError`].
    pub(in super::super) fn parse(code: u16, content: &[u8]) -> Result<Option<Self>, CodecError> {
        let mut rest = Rest(content);
        let message = match code {
            1 => Self::Position(Position {
                node: rest.array()?,
                head: rest.number()?,
                have: rest.number()?,
                odd: match rest.octet()? {
                    0 => None,
                    1 => Some(false),
                    2 => Some(true),
                    _ => return Err(CodecError::Bad("half")),
                },
                fixed: match rest.octet()? {
                    0 => false,
                    1 => true,
                    _ => return Err(CodecError::Bad("DUID")),
                },
                duid: rest.octets()?.into(),
            }),
            2 => Self::Records(rest.records()?),
            3 => Self::Snapshot(rest.records()?),
            4 => Self::End(rest.number()?),
            5 => Self::Ack(rest.number()?),
            6 => Self::Ask,
            7 => Self::Give,
            8 => Self::Ping(rest.number()?),
            9 => Self::Pong(rest.number()?),
            10 => Self::Refuse(String::from_utf8_lossy(rest.octets()?).into_owned()),
            11 => Self::SnapshotEnd(rest.number()?),
            _ => return Ok(None),
        };
        if rest.0.is_empty() { Ok(Some(message)) } else { Err(CodecError::Long) }
    }
}

fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    let length = u16::try_from(octets.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(&octets[..usize::from(length)]);
}

fn put_record(out: &mut Vec<u8>, r: &Record) {
    let l = &r.lease;
    for n in [r.seq, r.seen, r.first, r.at, r.times, l.preferred_until, l.valid_until, l.since] {
        out.extend(n.to_be_bytes());
    }
    let who = identity_code(l);
    out.extend([event_code(r.event), kind_code(l.kind), state_code(l.state), l.length]);
    out.push(u8::from(l.mac.is_some()) | u8::from(who.is_some()) << 1 | u8::from(r.current) << 2);
    out.extend(l.address.octets());
    out.extend(l.iaid.to_be_bytes());
    if let Some(mac) = l.mac {
        out.extend(mac.0);
    }
    if let Some(who) = who {
        put_octets(out, &who);
    }
    put_octets(out, &l.duid);
    put_octets(out, l.link.as_bytes());
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(*array)
    }

    fn octet(&mut self) -> Result<u8, CodecError> {
        self.array::<1>().map(|[o]| o)
    }

    fn number(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_be_bytes)
    }

    fn octets(&mut self) -> Result<&'a [u8], CodecError> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        let (octets, rest) = self.0.split_at_checked(length).ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(octets)
    }

    fn records(&mut self) -> Result<Vec<Record>, CodecError> {
        let count = usize::from(u16::from_be_bytes(self.array()?));
        if count > RECORDS_MAX {
            return Err(CodecError::Bad("count"));
        }
        (0..count).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> Result<Record, CodecError> {
        let (seq, seen, first) = (self.number()?, self.number()?, self.number()?);
        let (at, times) = (self.number()?, self.number()?);
        let (preferred_until, valid_until, since) = (self.number()?, self.number()?, self.number()?);
        let event = event_of(self.octet()?).ok_or(CodecError::Bad("event"))?;
        let kind = kind_of(self.octet()?).ok_or(CodecError::Bad("kind"))?;
        let state = state_of(self.octet()?).ok_or(CodecError::Bad("state"))?;
        let length = self.octet()?;
        if length > 128 {
            return Err(CodecError::Bad("length"));
        }
        let flags = self.octet()?;
        if flags > 7 {
            return Err(CodecError::Bad("flags"));
        }
        let address = Ipv6Addr::from(self.array::<16>()?);
        let iaid = u32::from_be_bytes(self.array()?);
        let mac = if flags & 1 != 0 { Some(MacAddr(self.array()?)) } else { None };
        let who = if flags & 2 != 0 { Some(self.octets()?) } else { None };
        let duid: Box<[u8]> = self.octets()?.into();
        let link = std::str::from_utf8(self.octets()?).map_err(|_| CodecError::Bad("link"))?.into();
        let identity = identity_of(who, mac, &duid).ok_or(CodecError::Bad("identity"))?;
        Ok(Record {
            seq,
            seen,
            event,
            first,
            at,
            times,
            current: flags & 4 != 0,
            lease: Lease {
                kind,
                address,
                length,
                link,
                identity,
                duid,
                iaid,
                mac,
                state,
                preferred_until,
                valid_until,
                since,
            },
        })
    }
}

#[cfg(test)]
mod tests;
