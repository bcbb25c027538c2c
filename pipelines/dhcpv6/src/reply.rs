//! Putting an answer into octets (RFC 9915 18.3.9, 18.3.10, 19.3), with `dhcproto`'s encoder.
//!
//! An answer is kept to what fits one packet on any link: options that the client asked for are left out,
//! the less important first, where there is no room. What must be there always is. Domain names are written
//! here, because `dhcproto` compresses them, which RFC 9915 10 forbids.

use crate::config::{Config, Link};
use crate::message::{Ask, Ia, IaKind, Relay};
use crate::request::{Answer, CLIENT_PORT, Request, SERVER_PORT};
use causeway_core::DropReason;
use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, IAPD, IAPrefix, MessageType, NtpSuboption, OptionCode, Status,
    StatusCode, UnknownOption,
};
use dhcproto::{Encodable, Encoder};
use std::net::Ipv6Addr;

/// UDP payload that every IPv6 link carries in one packet (RFC 8200 5).
const ROOM: usize = 1280 - 40 - 8;

/// RFC 9463 4.1.
const OPTION_V6_DNR: u16 = 144;

/// An address or prefix, as the client is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) address: Ipv6Addr,
    pub(crate) length: u8,
    /// Lifetimes in seconds.
    pub(crate) preferred: u32,
    pub(crate) valid: u32,
}

/// An identity association, as the client is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToldIa {
    kind: IaKind,
    iaid: u32,
    pub(crate) leases: Vec<Told>,
    pub(crate) status: Option<(Status, &'static str)>,
}

impl ToldIa {
    pub(crate) const fn empty(ia: &Ia) -> Self {
        Self { kind: ia.kind, iaid: ia.iaid, leases: Vec::new(), status: None }
    }

    pub(crate) const fn status(ia: &Ia, status: Status, text: &'static str) -> Self {
        Self { kind: ia.kind, iaid: ia.iaid, leases: Vec::new(), status: Some((status, text)) }
    }

    /// True if the client is told of this address.
    pub(crate) fn has(&self, address: Ipv6Addr) -> bool {
        self.leases.iter().any(|told| told.address == address)
    }

    /// As an option. T1 and T2 are of no meaning where nothing is to be extended.
    fn option(&self, (t1, t2): (u32, u32), with_text: bool) -> DhcpOption {
        let mut opts = DhcpOptions::new();
        for told in &self.leases {
            opts.insert(match self.kind {
                IaKind::Addresses => DhcpOption::IAAddr(IAAddr {
                    addr: told.address,
                    preferred_life: told.preferred,
                    valid_life: told.valid,
                    opts: DhcpOptions::new(),
                }),
                IaKind::Prefixes => DhcpOption::IAPrefix(IAPrefix {
                    preferred_lifetime: told.preferred,
                    valid_lifetime: told.valid,
                    prefix_len: told.length,
                    prefix_ip: told.address,
                    opts: DhcpOptions::new(),
                }),
            });
        }
        if let Some((status, text)) = self.status {
            opts.insert(status_option(status, if with_text { text } else { "" }));
        }
        let (t1, t2) = if self.leases.iter().any(|told| told.valid > 0) { (t1, t2) } else { (0, 0) };
        match self.kind {
            IaKind::Addresses => DhcpOption::IANA(IANA { id: self.iaid, t1, t2, opts }),
            IaKind::Prefixes => DhcpOption::IAPD(IAPD { id: self.iaid, t1, t2, opts }),
        }
    }
}

fn status_option(status: Status, text: &str) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status, msg: text.to_owned() })
}

fn raw(code: OptionCode, content: Vec<u8>) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(code, content))
}

/// An answer that is no answer.
pub(crate) fn refusal(request: &Request, why: DropReason) -> Answer {
    Answer {
        worker: request.worker,
        interface: request.interface,
        link: request.link,
        destination: request.source,
        port: CLIENT_PORT,
        mac: request.mac,
        octets: Err(why),
        given: None,
        leased: false,
        none_available: false,
        declined: None,
        left_out: false,
    }
}

/// What an answer is made of.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    config: &'a Config,
    link: &'a Link,
    request: &'a Request,
    /// An Advertise; otherwise a Reply.
    pub(crate) advertise: bool,
    /// A Reply to a Solicit (RFC 9915 21.14).
    pub(crate) rapid_commit: bool,
    pub(crate) ias: Vec<ToldIa>,
    pub(crate) status: Option<Status>,
    pub(crate) reservation: Option<u32>,
    /// The reservation's own, if it has one.
    pub(crate) boot_file_url: Option<String>,
    pub(crate) declined: Option<(Ipv6Addr, u32)>,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(config: &'a Config, request: &'a Request, link: usize) -> Self {
        Self {
            config,
            link: &config.links[link],
            request,
            advertise: false,
            rapid_commit: false,
            ias: Vec::new(),
            status: None,
            reservation: None,
            boot_file_url: None,
            declined: None,
        }
    }

    /// The answer, in octets.
    pub(crate) fn answer(self) -> Answer {
        let request = self.request;
        let relays = &request.received.relays;
        let leased = !self.advertise && self.ias.iter().any(|ia| ia.leases.iter().any(|told| told.valid > 0));
        let none_available = self
            .ias
            .iter()
            .any(|ia| matches!(ia.status, Some((Status::NoAddrsAvail | Status::NoPrefixAvail, _))));
        let around: usize = relays.iter().map(|relay| wrapping(relay).1).sum();
        let (mut octets, left_out) = self.message(ROOM.saturating_sub(around));
        for relay in relays.iter().rev() {
            octets = wrap(relay, octets);
        }
        let port = match relays.first() {
            None => CLIENT_PORT,
            // RFC 8357 5.2: back to where it came from, if the relay says so.
            Some(relay) if relay.relay_port.is_some() => request.source_port,
            Some(_) => SERVER_PORT,
        };
        Answer {
            worker: request.worker,
            interface: request.interface,
            link: request.link,
            destination: request.source,
            port,
            mac: request.mac,
            octets: Ok(octets.into_boxed_slice()),
            given: if leased { on_link(request) } else { None },
            leased,
            none_available,
            declined: self.declined,
            left_out,
        }
    }

    /// The message for the client, and whether options found no room.
    fn message(&self, room: usize) -> (Vec<u8>, bool) {
        let message = &self.request.received.message;
        let kind = if self.advertise { MessageType::Advertise } else { MessageType::Reply };
        let mut octets = vec![kind.into()];
        octets.extend(message.transaction);
        // RFC 9915 18.3: always, and the client's own if it gave one.
        if let Some(id) = &message.client_id {
            push(&mut octets, &DhcpOption::ClientId(id.to_vec()));
        }
        push(&mut octets, &DhcpOption::ServerId(self.config.server_duid.to_vec()));
        if self.advertise && self.config.preference > 0 {
            push(&mut octets, &DhcpOption::Preference(self.config.preference));
        }
        if self.rapid_commit {
            push(&mut octets, &DhcpOption::RapidCommit);
        }
        if let Some(status) = self.status {
            push(&mut octets, &status_option(status, ""));
        }
        let times = self.times();
        let with_text = self.ias.len() <= 8;
        for ia in &self.ias {
            push(&mut octets, &ia.option(times, with_text));
        }
        let mut left_out = false;
        if !matches!(message.ask, Ask::Confirm | Ask::Release | Ask::Decline) {
            for option in self.wanted() {
                let before = octets.len();
                push(&mut octets, &option);
                if octets.len() > room {
                    octets.truncate(before);
                    left_out = true;
                }
            }
        }
        (octets, left_out)
    }

    /// T1 and T2, the same for all (RFC 9915 18.3.2), from the shortest preferred lifetime (21.4).
    fn times(&self) -> (u32, u32) {
        let told = || self.ias.iter().flat_map(|ia| &ia.leases).filter(|told| told.valid > 0);
        let Some(shortest) = told().map(|told| told.preferred).filter(|p| *p > 0).min() else {
            // RFC 9915 18.3.4: nothing is extended, so there is no point in asking before the end.
            let end = told().map(|told| told.valid).min().unwrap_or(0);
            return (end, end);
        };
        let seconds = |d: causeway_core::Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
        let t2 = self.link.t2.map_or(shortest / 5 * 4 + shortest % 5 * 4 / 5, seconds).min(shortest);
        let t1 = self.link.t1.map_or(shortest / 2, seconds).min(t2);
        (t1, t2)
    }

    /// The options that the client wants and that there are, the most important first.
    fn wanted(&self) -> Vec<DhcpOption> {
        let (message, options) = (&self.request.received.message, &self.link.options);
        let mut list = Vec::new();
        let mut add = |code: OptionCode, option: Option<DhcpOption>| {
            if message.wants(code) {
                list.extend(option);
            }
        };
        let servers = |list: &[Ipv6Addr]| (!list.is_empty()).then(|| list.to_vec());
        add(OptionCode::DomainNameServers, servers(&options.dns_servers).map(DhcpOption::DomainNameServers));
        let names: Vec<u8> = options.search.iter().filter_map(|n| name(n)).flatten().collect();
        add(
            OptionCode::DomainSearchList,
            (!names.is_empty()).then(|| raw(OptionCode::DomainSearchList, names)),
        );
        let url = self.boot_file_url.as_ref().or(options.boot_file_url.as_ref());
        let text = |code, text: &String| raw(code, text.clone().into_bytes());
        add(OptionCode::OptBootfileUrl, url.map(|t| text(OptionCode::OptBootfileUrl, t)));
        // RFC 9915 21.23: in answer to an Information-request only.
        let refresh = options.information_refresh.filter(|_| message.ask == Ask::Information);
        add(OptionCode::InformationRefreshTime, refresh.map(DhcpOption::InformationRefreshTime));
        let number = |code, n: u32| raw(code, n.to_be_bytes().to_vec());
        add(OptionCode::SolMaxRt, options.sol_max_rt.map(|n| number(OptionCode::SolMaxRt, n)));
        add(OptionCode::InfMaxRt, options.inf_max_rt.map(|n| number(OptionCode::InfMaxRt, n)));
        let ntp = servers(&options.ntp_servers);
        let entries = ntp.clone().map(|list| list.into_iter().map(NtpSuboption::ServerAddress).collect());
        add(OptionCode::NtpServer, entries.map(DhcpOption::NtpServer));
        // RFC 4075: for clients that know no better.
        let sntp = ntp.map(|list| list.iter().flat_map(Ipv6Addr::octets).collect());
        add(OptionCode::SntpServers, sntp.map(|octets| raw(OptionCode::SntpServers, octets)));
        let portal = options.captive_portal.as_ref();
        add(OptionCode::DhcpCaptivePortal, portal.map(|t| text(OptionCode::DhcpCaptivePortal, t)));
        let dnr = OptionCode::from(OPTION_V6_DNR);
        if message.wants(dnr) {
            list.extend(options.encrypted_dns.iter().map(|content| raw(dnr, content.to_vec())));
        }
        list
    }
}

/// RFC 9915 10, RFC 1035 3.1: a name as labels, never compressed. Nothing for what is no name.
fn name(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len() + 2);
    for label in text.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..=63).contains(n))?;
        octets.push(length);
        octets.extend(label.bytes());
    }
    octets.push(0);
    (octets.len() <= 255).then_some(octets)
}

/// Appends an option. One that the encoder refuses, or that does not fit its length field, is left out.
fn push(octets: &mut Vec<u8>, option: &DhcpOption) {
    let mut encoded = Vec::new();
    let whole = option.encode(&mut Encoder::new(&mut encoded)).is_ok()
        && encoded.len() >= 4
        && usize::from(causeway_wire::be16(&encoded, 2)) == encoded.len() - 4;
    if whole {
        octets.append(&mut encoded);
    }
}

/// What a Relay-reply has besides the message that it carries (RFC 9915 19.3): the octets before it, with
/// the header of the Relay Message option but for its length, and how many there are.
fn wrapping(relay: &Relay) -> (Vec<u8>, usize) {
    let mut octets = vec![MessageType::RelayRepl.into(), relay.hop_count];
    octets.extend(relay.link_address.octets());
    octets.extend(relay.peer_address.octets());
    if let Some(id) = &relay.interface_id {
        push(&mut octets, &DhcpOption::InterfaceId(id.to_vec()));
    }
    if let Some(port) = relay.relay_port {
        push(&mut octets, &raw(OptionCode::RelayPort, port.to_be_bytes().to_vec()));
    }
    let length = octets.len() + 4;
    (octets, length)
}

fn wrap(relay: &Relay, message: Vec<u8>) -> Vec<u8> {
    let (mut octets, _) = wrapping(relay);
    push(&mut octets, &raw(OptionCode::RelayMsg, message));
    octets
}

/// The client's addresses, if it is on the link that the request came in by.
fn on_link(request: &Request) -> Option<(Ipv6Addr, causeway_wire::MacAddr)> {
    match request.nearest() {
        None => Some((request.source, request.mac)),
        // RFC 6221 5.1: lightweight relays tell no link.
        Some(relay) if request.link_address().is_none() && relay.peer_address.is_unicast_link_local() => {
            Some((relay.peer_address, relay.client_mac?))
        }
        Some(_) => None,
    }
}
