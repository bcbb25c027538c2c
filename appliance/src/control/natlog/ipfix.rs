//! IPFIX messages about NAT events: encoding alone (RFC 7011 3, RFC 8158 4).
//!
//! ```text
//!  message  = header 16: version 10 | length | export time | sequence number | observation domain
//!             then sets
//!  set      = id | length | records      id 2: templates, 256 and up: data of the template of that id
//!  template = id | field count | (information element | octets) ...
//! ```
//! All fields have a fixed length, and sets are not padded (RFC 7011 3.3.1 leaves that to the exporter).
//!
//! | template | of | RFC 8158 |
//! | --- | --- | --- |
//! | 256 | session without destination | 4.6.2 |
//! | 257 | session with destination | 4.6.2 |
//! | 258 | mapping (BIB entry) | 4.6.4 |
//! | 259 | port block | 4.6.10 |
//! | 260 | addresses exhausted | 4.6.5 |
//! | 261 | too many sessions | 4.6.7.1 |
//! | 262 | too many mappings | 4.6.7.2 |
//!
//! Not sent: ports exhausted (natEvent 12: the pool is told of as a whole, by natEvent 3), limits of one
//! subscriber (4.6.7.3), address bindings (4.6.9: the first mapping or block says the same), thresholds
//! (4.6.8: RFC 8158 4.5 lets a device choose), and Options Templates about the exporter itself (RFC 7011 4).

use super::{Kind, NatEvent};

/// What IANA calls the fields, by number.
mod element {
    pub(super) const PROTOCOL_IDENTIFIER: u16 = 4;
    pub(super) const SOURCE_TRANSPORT_PORT: u16 = 7;
    pub(super) const DESTINATION_TRANSPORT_PORT: u16 = 11;
    pub(super) const SOURCE_IPV6_ADDRESS: u16 = 27;
    pub(super) const DESTINATION_IPV6_ADDRESS: u16 = 28;
    pub(super) const POST_NAT_SOURCE_IPV4_ADDRESS: u16 = 225;
    pub(super) const POST_NAT_DESTINATION_IPV4_ADDRESS: u16 = 226;
    pub(super) const POST_NAPT_SOURCE_TRANSPORT_PORT: u16 = 227;
    pub(super) const POST_NAPT_DESTINATION_TRANSPORT_PORT: u16 = 228;
    pub(super) const NAT_EVENT: u16 = 230;
    pub(super) const NAT_POOL_ID: u16 = 283;
    pub(super) const OBSERVATION_TIME_MILLISECONDS: u16 = 323;
    pub(super) const PORT_RANGE_START: u16 = 361;
    pub(super) const PORT_RANGE_END: u16 = 362;
    pub(super) const NAT_QUOTA_EXCEEDED_EVENT: u16 = 466;
    pub(super) const MAX_SESSION_ENTRIES: u16 = 471;
    pub(super) const MAX_BIB_ENTRIES: u16 = 472;
}
use element::*;

/// Octets of the message header.
const HEADER: usize = 16;
/// Octets of a set's header.
const SET_HEADER: usize = 4;
/// The set of templates.
const TEMPLATE_SET: u16 = 2;
const VERSION: u16 = 10;

/// Shape of the records of a set: the fields in order, each with its octets.
struct Template {
    id: u16,
    fields: &'static [(u16, u16)],
}

const TIME: (u16, u16) = (OBSERVATION_TIME_MILLISECONDS, 8);
const EVENT: (u16, u16) = (NAT_EVENT, 1);
const SRC6: (u16, u16) = (SOURCE_IPV6_ADDRESS, 16);
const OUT4: (u16, u16) = (POST_NAT_SOURCE_IPV4_ADDRESS, 4);
const PROTOCOL: (u16, u16) = (PROTOCOL_IDENTIFIER, 1);
const SRC_PORT: (u16, u16) = (SOURCE_TRANSPORT_PORT, 2);
const OUT_PORT: (u16, u16) = (POST_NAPT_SOURCE_TRANSPORT_PORT, 2);
const QUOTA: (u16, u16) = (NAT_QUOTA_EXCEEDED_EVENT, 4);

const SESSION: Template =
    Template { id: 256, fields: &[TIME, EVENT, SRC6, OUT4, PROTOCOL, SRC_PORT, OUT_PORT] };
const SESSION_TO: Template = Template {
    id: 257,
    fields: &[
        TIME,
        EVENT,
        SRC6,
        OUT4,
        PROTOCOL,
        SRC_PORT,
        OUT_PORT,
        (DESTINATION_IPV6_ADDRESS, 16),
        (POST_NAT_DESTINATION_IPV4_ADDRESS, 4),
        (DESTINATION_TRANSPORT_PORT, 2),
        (POST_NAPT_DESTINATION_TRANSPORT_PORT, 2),
    ],
};
const MAPPING: Template = Template { id: 258, fields: SESSION.fields };
const BLOCK: Template =
    Template { id: 259, fields: &[TIME, EVENT, SRC6, OUT4, (PORT_RANGE_START, 2), (PORT_RANGE_END, 2)] };
const POOL: Template = Template { id: 260, fields: &[TIME, EVENT, (NAT_POOL_ID, 4)] };
const SESSIONS: Template = Template { id: 261, fields: &[TIME, EVENT, QUOTA, (MAX_SESSION_ENTRIES, 4)] };
const MAPPINGS: Template = Template { id: 262, fields: &[TIME, EVENT, QUOTA, (MAX_BIB_ENTRIES, 4)] };

const ALL: [&Template; 7] = [&SESSION, &SESSION_TO, &MAPPING, &BLOCK, &POOL, &SESSIONS, &MAPPINGS];

impl Template {
    const fn of(event: &NatEvent) -> &'static Self {
        match event.kind {
            Kind::SessionCreated | Kind::SessionEnded => {
                if event.remote.is_some() {
                    &SESSION_TO
                } else {
                    &SESSION
                }
            }
            Kind::MappingCreated | Kind::MappingEnded => &MAPPING,
            Kind::BlockGiven | Kind::BlockReturned => &BLOCK,
            Kind::AddressesExhausted => &POOL,
            Kind::TooManySessions => &SESSIONS,
            Kind::TooManyMappings => &MAPPINGS,
        }
    }

    fn octets(&self) -> usize {
        self.fields.iter().map(|(_, octets)| usize::from(*octets)).sum()
    }
}

/// One field of a record.
fn put(out: &mut Vec<u8>, element: u16, e: &NatEvent) {
    match element {
        OBSERVATION_TIME_MILLISECONDS => out.extend(e.at_ms.to_be_bytes()),
        NAT_EVENT => out.push(e.kind.number()),
        SOURCE_IPV6_ADDRESS => out.extend(e.src6.octets()),
        POST_NAT_SOURCE_IPV4_ADDRESS => out.extend(e.out4.octets()),
        PROTOCOL_IDENTIFIER => out.push(e.protocol),
        SOURCE_TRANSPORT_PORT => out.extend(e.src_port.to_be_bytes()),
        POST_NAPT_SOURCE_TRANSPORT_PORT | PORT_RANGE_START => out.extend(e.out_port.to_be_bytes()),
        PORT_RANGE_END => out.extend(e.last_port.to_be_bytes()),
        NAT_QUOTA_EXCEEDED_EVENT => out.extend(e.kind.quota().to_be_bytes()),
        MAX_SESSION_ENTRIES | MAX_BIB_ENTRIES => out.extend(e.limit.to_be_bytes()),
        // There is one pool as far as RFC 8158 is concerned.
        NAT_POOL_ID => out.extend(0u32.to_be_bytes()),
        _ => {
            if let Some(remote) = e.remote {
                match element {
                    DESTINATION_IPV6_ADDRESS => out.extend(remote.six.octets()),
                    POST_NAT_DESTINATION_IPV4_ADDRESS => out.extend(remote.four.octets()),
                    // NAT64 changes nothing about the remote port.
                    _ => out.extend(remote.port.to_be_bytes()),
                }
            }
        }
    }
}

/// A message in the making. Its buffer is made once, of full size.
#[derive(Debug)]
pub(super) struct Message {
    octets: Vec<u8>,
    most: usize,
    /// The set that is being filled: its template, and where it begins.
    set: Option<(u16, usize)>,
    records: u32,
}

impl Message {
    /// An empty message of at most `most` octets. All templates together need 300.
    pub(super) fn new(most: usize) -> Self {
        let mut octets = Vec::with_capacity(most);
        octets.resize(HEADER, 0);
        Self { octets, most, set: None, records: 0 }
    }

    /// Data records in it.
    pub(super) const fn records(&self) -> u32 {
        self.records
    }

    /// True if there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.octets.len() == HEADER
    }

    /// Empties it.
    pub(super) fn clear(&mut self) {
        self.octets.truncate(HEADER);
        (self.set, self.records) = (None, 0);
    }

    /// Adds a data record. False if there is no room; then nothing has changed.
    pub(super) fn add(&mut self, event: &NatEvent) -> bool {
        let template = Template::of(event);
        let same = self.set.is_some_and(|(id, _)| id == template.id);
        let header = if same { 0 } else { SET_HEADER };
        if self.octets.len() + header + template.octets() > self.most {
            return false;
        }
        if !same {
            self.begin_set(template.id);
        }
        for (element, _) in template.fields {
            put(&mut self.octets, *element, event);
        }
        self.records += 1;
        true
    }

    /// Adds the set of all templates. They do not count as records (RFC 7011 3.1).
    pub(super) fn add_templates(&mut self) {
        self.begin_set(TEMPLATE_SET);
        for template in ALL {
            self.octets.extend(template.id.to_be_bytes());
            // At most eleven.
            self.octets.extend((template.fields.len() as u16).to_be_bytes());
            for (element, octets) in template.fields {
                self.octets.extend(element.to_be_bytes());
                self.octets.extend(octets.to_be_bytes());
            }
        }
    }

    fn begin_set(&mut self, id: u16) {
        self.end_set();
        self.set = Some((id, self.octets.len()));
        self.octets.extend(id.to_be_bytes());
        self.octets.extend([0, 0]);
    }

    fn end_set(&mut self) {
        if let Some((_, at)) = self.set.take() {
            let octets = length(self.octets.len() - at);
            self.octets[at + 2..at + 4].copy_from_slice(&octets);
        }
    }

    /// The message as it goes to one collector. `sequence` counts the data records that were sent to it
    /// before (RFC 7011 3.1), `export_s` is in seconds since 1970. May be called again for the next one.
    pub(super) fn finish(&mut self, sequence: u32, export_s: u32, domain: u32) -> &[u8] {
        self.end_set();
        let octets = length(self.octets.len());
        self.octets[..2].copy_from_slice(&VERSION.to_be_bytes());
        self.octets[2..4].copy_from_slice(&octets);
        self.octets[4..8].copy_from_slice(&export_s.to_be_bytes());
        self.octets[8..12].copy_from_slice(&sequence.to_be_bytes());
        self.octets[12..16].copy_from_slice(&domain.to_be_bytes());
        &self.octets
    }
}

/// A length; messages are shorter than a packet.
fn length(octets: usize) -> [u8; 2] {
    u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests;
