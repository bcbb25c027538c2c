//! From octets to a [`Received`] message, or the reason to refuse it (RFC 9915 8, 9, 16, 21).
//!
//! ```text
//!  Relay-forward { options, Relay Message { Relay-forward { .., Relay Message { client's message }}}}
//!  -> relays: [outermost, .., closest to the client], message
//! ```
//!
//! The wire format is `dhcproto`'s. Its decoder is lenient where the RFC is not: it stops silently at an
//! option that is cut, takes options of fixed size without looking at their length (and goes on behind
//! their true end), subtracts from lengths unchecked, takes what a relay carries for another relay's
//! message, and nests without end. So the walk over options and their lengths is done here, strictly, and
//! `dhcproto` is shown the fixed part of one option of the right length at a time.
//!
//! Options that are not known are skipped (RFC 9915 16), whatever is in them; so is IA_TA, which RFC 9915
//! made obsolete.

use causeway_core::DropReason;
use causeway_wire::{MacAddr, be16};
use dhcproto::Decodable;
use dhcproto::v6::{DhcpOption, IAAddr, IANA, IAPrefix, MessageType, OptionCode};
use std::net::Ipv6Addr;
use thiserror::Error;

/// The longest message that is read, in octets of UDP payload.
pub const MOST_OCTETS: usize = 4096;

/// Identity associations in one message, at most.
pub const MOST_IAS: usize = 32;

/// RFC 9915 7.6 HOP_COUNT_LIMIT: relays on the way, at most.
pub const HOP_COUNT_LIMIT: u8 = 8;

/// RFC 9915 11.1: octets of a DUID, its type included.
pub const DUID_OCTETS: std::ops::RangeInclusive<usize> = 3..=130;

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Longer than [`MOST_OCTETS`].
    #[error("the message is longer than {MOST_OCTETS} octets")]
    TooLong,
    /// It, or an option, is cut.
    #[error("the message, or an option of it, is cut")]
    Truncated,
    /// A type that is not for servers, or not known (RFC 9915 16).
    #[error("a message type that servers do not answer")]
    Type,
    /// An option whose length its definition forbids.
    #[error("an option of a length that it cannot have")]
    OptionLength,
    /// An option twice that may be there once (RFC 9915 21).
    #[error("an option twice that may be there once")]
    Duplicate,
    /// An identity association twice (RFC 9915 21.4, 21.21: the IAID is unique among the client's).
    #[error("an identity association twice")]
    DuplicateIa,
    /// More identity associations than [`MOST_IAS`].
    #[error("more than {MOST_IAS} identity associations")]
    TooManyIas,
    /// No Client Identifier where there must be one (RFC 9915 16.2 to 16.9).
    #[error("no client identifier")]
    NoClientId,
    /// A DUID that is shorter or longer than one can be (RFC 9915 11.1).
    #[error("a DUID of a length that none has")]
    Duid,
    /// No Server Identifier where there must be one (RFC 9915 16.4, 16.6, 16.8, 16.9).
    #[error("no server identifier")]
    NoServerId,
    /// A Server Identifier where there must be none (RFC 9915 16.2, 16.5, 16.7).
    #[error("a server identifier where none may be")]
    ServerId,
    /// An identity association in an Information-request (RFC 9915 16.12).
    #[error("an identity association in an Information-request")]
    Ia,
    /// A prefix longer than 128 bits (RFC 9915 21.22).
    #[error("a prefix longer than 128 bits")]
    PrefixLength,
    /// More relays than [`HOP_COUNT_LIMIT`] (RFC 9915 19.1.2), or a hop count that says so.
    #[error("more than {HOP_COUNT_LIMIT} relays")]
    Hops,
    /// A Relay-forward without a Relay Message option (RFC 9915 9.1).
    #[error("a Relay-forward that carries nothing")]
    NothingRelayed,
}

impl MessageError {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::TooLong,
        Self::Truncated,
        Self::Type,
        Self::OptionLength,
        Self::Duplicate,
        Self::DuplicateIa,
        Self::TooManyIas,
        Self::NoClientId,
        Self::Duid,
        Self::NoServerId,
        Self::ServerId,
        Self::Ia,
        Self::PrefixLength,
        Self::Hops,
        Self::NothingRelayed,
    ];

    /// The drop reason: one each.
    #[must_use]
    pub const fn reason(self) -> DropReason {
        match self {
            Self::TooLong => DropReason::Dhcp6TooLong,
            Self::Truncated => DropReason::Dhcp6Truncated,
            Self::Type => DropReason::Dhcp6MessageType,
            Self::OptionLength => DropReason::Dhcp6OptionLength,
            Self::Duplicate => DropReason::Dhcp6OptionTwice,
            Self::DuplicateIa => DropReason::Dhcp6IaTwice,
            Self::TooManyIas => DropReason::Dhcp6TooManyIas,
            Self::NoClientId => DropReason::Dhcp6NoClientId,
            Self::Duid => DropReason::Dhcp6BadDuid,
            Self::NoServerId => DropReason::Dhcp6NoServerId,
            Self::ServerId => DropReason::Dhcp6ServerId,
            Self::Ia => DropReason::Dhcp6IaNotAllowed,
            Self::PrefixLength => DropReason::Dhcp6PrefixLength,
            Self::Hops => DropReason::Dhcp6RelayHops,
            Self::NothingRelayed => DropReason::Dhcp6NothingRelayed,
        }
    }
}

/// What a client may send to a server (RFC 9915 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Solicit.
    Solicit,
    /// Request.
    Request,
    /// Confirm.
    Confirm,
    /// Renew.
    Renew,
    /// Rebind.
    Rebind,
    /// Release.
    Release,
    /// Decline.
    Decline,
    /// Information-request.
    Information,
}

impl Ask {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Solicit,
        Self::Request,
        Self::Confirm,
        Self::Renew,
        Self::Rebind,
        Self::Release,
        Self::Decline,
        Self::Information,
    ];

    fn new(octet: u8) -> Option<Self> {
        Some(match MessageType::from(octet) {
            MessageType::Solicit => Self::Solicit,
            MessageType::Request => Self::Request,
            MessageType::Confirm => Self::Confirm,
            MessageType::Renew => Self::Renew,
            MessageType::Rebind => Self::Rebind,
            MessageType::Release => Self::Release,
            MessageType::Decline => Self::Decline,
            MessageType::InformationRequest => Self::Information,
            _ => return None,
        })
    }

    /// RFC 9915 16.4, 16.6, 16.8, 16.9: addressed to one server.
    #[must_use]
    pub const fn names_server(self) -> bool {
        matches!(self, Self::Request | Self::Renew | Self::Release | Self::Decline)
    }

    /// RFC 9915 16.2, 16.5, 16.7: addressed to any server.
    #[must_use]
    pub const fn names_no_server(self) -> bool {
        matches!(self, Self::Solicit | Self::Confirm | Self::Rebind)
    }
}

/// What an identity association is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IaKind {
    /// Addresses (IA_NA, RFC 9915 21.4).
    Addresses,
    /// Prefixes (IA_PD, RFC 9915 21.21).
    Prefixes,
}

/// An address or prefix that a client shows: what it has, or would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shown {
    /// The address, or the first of the prefix; unspecified if any would do.
    pub address: Ipv6Addr,
    /// 128, or the length of the prefix; 0 if any would do.
    pub length: u8,
}

/// An identity association of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ia {
    /// What for.
    pub kind: IaKind,
    /// Its number, unique among the client's of this kind.
    pub iaid: u32,
    /// What the client shows in it.
    pub shown: Vec<Shown>,
}

/// A client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it asks for.
    pub ask: Ask,
    /// Transaction identifier, to be given back (RFC 9915 16.1).
    pub transaction: [u8; 3],
    /// Who asks (RFC 9915 21.2). There always, but for an Information-request.
    pub client_id: Option<Box<[u8]>>,
    /// Who is asked (RFC 9915 21.3).
    pub server_id: Option<Box<[u8]>>,
    /// The identity associations, in the order of the message.
    pub ias: Vec<Ia>,
    /// Options that the client wants (RFC 9915 21.7), in its order.
    pub wants: Vec<u16>,
    /// RFC 9915 21.14: a Reply will do for an Advertise.
    pub rapid_commit: bool,
}

impl Message {
    /// True if the client wants this option.
    #[must_use]
    pub fn wants(&self, code: OptionCode) -> bool {
        self.wants.contains(&u16::from(code))
    }
}

/// What one relay added (RFC 9915 9.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Relays before this one.
    pub hop_count: u8,
    /// An address that tells the client's link; unspecified from relays that have none (RFC 6221).
    pub link_address: Ipv6Addr,
    /// The client, or the relay closer to it.
    pub peer_address: Ipv6Addr,
    /// RFC 9915 21.18: the relay's interface, to be given back.
    pub interface_id: Option<Box<[u8]>>,
    /// RFC 4649: what the relay calls the client: enterprise number and identifier.
    pub remote_id: Option<Box<[u8]>>,
    /// RFC 6939: the client's link-layer address.
    pub client_mac: Option<MacAddr>,
    /// RFC 8357: the relay wants its answer at the port that it sent from; the option's content, to be given
    /// back.
    pub relay_port: Option<u16>,
}

/// A message, and the relays that it came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The relays, the closest to the server first. Empty: it came from the client.
    pub relays: Vec<Relay>,
    /// The client's message.
    pub message: Message,
}

/// True if the octets are a Relay-forward: what is asked before they are parsed.
#[must_use]
pub fn is_relayed(octets: &[u8]) -> bool {
    octets.first() == Some(&u8::from(MessageType::RelayForw))
}

/// Parses the payload of a UDP datagram to port 547.
///
/// # Errors
/// The cause, if it is not what a client or a relay may send to a server.
pub fn parse(octets: &[u8]) -> Result<Received, MessageError> {
    if octets.len() > MOST_OCTETS {
        return Err(MessageError::TooLong);
    }
    let mut relays: Vec<Relay> = Vec::new();
    let mut rest = octets;
    while is_relayed(rest) {
        // RFC 9915 19.1.2: a relay drops what came over as many hops; so nothing comes over more.
        if relays.len() > usize::from(HOP_COUNT_LIMIT) {
            return Err(MessageError::Hops);
        }
        let (relay, inner) = relay(rest)?;
        relays.push(relay);
        rest = inner;
    }
    Ok(Received { relays, message: message(rest)? })
}

/// The options in `octets`: code, content, and the option with its header.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Result<(OptionCode, &'a [u8], &'a [u8]), MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        if self.0.len() < 4 {
            self.0 = &[];
            return Some(Err(MessageError::Truncated));
        }
        let (code, octets) = (OptionCode::from(be16(self.0, 0)), usize::from(be16(self.0, 2)));
        let Some((whole, rest)) = self.0.split_at_checked(4 + octets) else {
            self.0 = &[];
            return Some(Err(MessageError::Truncated));
        };
        self.0 = rest;
        Some(Ok((code, &whole[4..], whole)))
    }
}

/// Puts `value` where nothing may be yet.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), MessageError> {
    if place.replace(value).is_some() {
        return Err(MessageError::Duplicate);
    }
    Ok(())
}

fn exactly(content: &[u8], octets: usize) -> Result<(), MessageError> {
    if content.len() == octets { Ok(()) } else { Err(MessageError::OptionLength) }
}

fn at_least(content: &[u8], octets: usize) -> Result<(), MessageError> {
    if content.len() >= octets { Ok(()) } else { Err(MessageError::OptionLength) }
}

fn read_duid(content: &[u8]) -> Result<Box<[u8]>, MessageError> {
    if DUID_OCTETS.contains(&content.len()) { Ok(content.into()) } else { Err(MessageError::Duid) }
}

/// Octets of a Relay-forward before its options.
const RELAY_HEADER: usize = 34;

fn relay(octets: &[u8]) -> Result<(Relay, &[u8]), MessageError> {
    let Some((header, options)) = octets.split_at_checked(RELAY_HEADER) else {
        return Err(MessageError::Truncated);
    };
    let fixed = dhcproto::v6::RelayMessage::from_bytes(header).map_err(|_| MessageError::Truncated)?;
    if fixed.hop_count() > HOP_COUNT_LIMIT {
        return Err(MessageError::Hops);
    }
    let (mut inner, mut interface_id, mut remote_id) = (None, None, None);
    let (mut link_layer, mut relay_port) = (None, None);
    for option in Options(options) {
        let (code, content, _) = option?;
        match code {
            OptionCode::RelayMsg => once(&mut inner, content)?,
            OptionCode::InterfaceId => once(&mut interface_id, content.into())?,
            OptionCode::RemoteId => {
                // RFC 4649 3: an enterprise number, and an identifier of at least one octet.
                at_least(content, 5)?;
                once(&mut remote_id, content.into())?;
            }
            OptionCode::ClientLinklayerAddr => {
                // RFC 6939 4: hardware type and address.
                at_least(content, 2)?;
                once(&mut link_layer, ethernet(content))?;
            }
            OptionCode::RelayPort => {
                exactly(content, 2)?;
                once(&mut relay_port, be16(content, 0))?;
            }
            // A client's own, which a relay does not put around its message.
            _ => {}
        }
    }
    let relay = Relay {
        hop_count: fixed.hop_count(),
        link_address: fixed.link_addr(),
        peer_address: fixed.peer_addr(),
        interface_id,
        remote_id,
        client_mac: link_layer.flatten(),
        relay_port,
    };
    Ok((relay, inner.ok_or(MessageError::NothingRelayed)?))
}

/// RFC 6939 4: the address, if it is a station's on Ethernet (hardware type 1).
fn ethernet(content: &[u8]) -> Option<MacAddr> {
    let mac = MacAddr(*content.get(2..)?.first_chunk::<6>()?);
    (be16(content, 0) == 1 && content.len() == 8 && mac.is_unicast()).then_some(mac)
}

fn message(octets: &[u8]) -> Result<Message, MessageError> {
    let kind = *octets.first().ok_or(MessageError::Truncated)?;
    let ask = Ask::new(kind).ok_or(MessageError::Type)?;
    let Some((header, options)) = octets.split_at_checked(4) else { return Err(MessageError::Truncated) };
    let (mut client_id, mut server_id, mut wants) = (None, None, None);
    let (mut rapid_commit, mut elapsed, mut other) = (None, None, [None; 3]);
    let mut ias: Vec<Ia> = Vec::new();
    for option in Options(options) {
        let (code, content, whole) = option?;
        match code {
            OptionCode::ClientId => once(&mut client_id, read_duid(content)?)?,
            OptionCode::ServerId => once(&mut server_id, read_duid(content)?)?,
            OptionCode::IANA | OptionCode::IAPD => {
                if ias.len() == MOST_IAS {
                    return Err(MessageError::TooManyIas);
                }
                let ia = association(code, content)?;
                if ias.iter().any(|other| (other.kind, other.iaid) == (ia.kind, ia.iaid)) {
                    return Err(MessageError::DuplicateIa);
                }
                ias.push(ia);
            }
            OptionCode::ORO => {
                if content.len() % 2 != 0 {
                    return Err(MessageError::OptionLength);
                }
                let Ok(DhcpOption::ORO(oro)) = DhcpOption::from_bytes(whole) else {
                    return Err(MessageError::OptionLength);
                };
                once(&mut wants, oro.opts.into_iter().map(u16::from).collect::<Vec<_>>())?;
            }
            OptionCode::ElapsedTime => {
                exactly(content, 2)?;
                once(&mut elapsed, ())?;
            }
            OptionCode::RapidCommit => {
                exactly(content, 0)?;
                once(&mut rapid_commit, ())?;
            }
            // RFC 9915 21.20, 21.8, 21.13: known, of no use here, and there once.
            OptionCode::ReconfAccept => {
                exactly(content, 0)?;
                once(&mut other[0], ())?;
            }
            OptionCode::Preference => {
                exactly(content, 1)?;
                once(&mut other[1], ())?;
            }
            OptionCode::StatusCode => {
                at_least(content, 2)?;
                once(&mut other[2], ())?;
            }
            _ => {}
        }
    }
    let message = Message {
        ask,
        transaction: [header[1], header[2], header[3]],
        client_id,
        server_id,
        ias,
        wants: wants.unwrap_or_default(),
        rapid_commit: rapid_commit.is_some(),
    };
    validate(&message)?;
    Ok(message)
}

/// RFC 9915 16.2 to 16.12, as far as it does not take our own identifier.
fn validate(message: &Message) -> Result<(), MessageError> {
    if message.client_id.is_none() && message.ask != Ask::Information {
        return Err(MessageError::NoClientId);
    }
    if message.ask.names_no_server() && message.server_id.is_some() {
        return Err(MessageError::ServerId);
    }
    if message.ask.names_server() && message.server_id.is_none() {
        return Err(MessageError::NoServerId);
    }
    if message.ask == Ask::Information && !message.ias.is_empty() {
        return Err(MessageError::Ia);
    }
    Ok(())
}

/// Octets of an IA_NA or IA_PD before its options: IAID, T1, T2.
const IA_HEADER: usize = 12;
/// Octets of an IA Address before its options.
const ADDRESS_HEADER: usize = 24;
/// Octets of an IA Prefix before its options.
const PREFIX_HEADER: usize = 25;

fn association(code: OptionCode, content: &[u8]) -> Result<Ia, MessageError> {
    let Some((header, options)) = content.split_at_checked(IA_HEADER) else {
        return Err(MessageError::OptionLength);
    };
    let kind = if code == OptionCode::IANA { IaKind::Addresses } else { IaKind::Prefixes };
    // The fixed part of both is one.
    let iaid = IANA::from_bytes(header).map_err(|_| MessageError::OptionLength)?.id;
    let mut shown = Vec::new();
    for option in Options(options) {
        let (code, content, _) = option?;
        match (code, kind) {
            (OptionCode::IAAddr, IaKind::Addresses) => {
                let Some((fixed, within)) = content.split_at_checked(ADDRESS_HEADER) else {
                    return Err(MessageError::OptionLength);
                };
                Options(within).try_for_each(|option| option.map(|_| ()))?;
                let fixed = IAAddr::from_bytes(fixed).map_err(|_| MessageError::OptionLength)?;
                shown.push(Shown { address: fixed.addr, length: 128 });
            }
            (OptionCode::IAPrefix, IaKind::Prefixes) => {
                let Some((fixed, within)) = content.split_at_checked(PREFIX_HEADER) else {
                    return Err(MessageError::OptionLength);
                };
                Options(within).try_for_each(|option| option.map(|_| ()))?;
                let fixed = IAPrefix::from_bytes(fixed).map_err(|_| MessageError::OptionLength)?;
                if fixed.prefix_len > 128 {
                    return Err(MessageError::PrefixLength);
                }
                shown.push(Shown { address: fixed.prefix_ip, length: fixed.prefix_len });
            }
            _ => {}
        }
    }
    Ok(Ia { kind, iaid, shown })
}

#[cfg(test)]
mod tests;
