//! Messages of clients and relays for this crate's tests, written by `dhcproto`, and answers read by it.

use crate::config::{Config, Delegation, Link, Options, Pool, Reservation};
use crate::engine::{Engine, Grant, Outcome};
use crate::lease::UnixSeconds;
use crate::message;
use crate::request::{Answer, Request};
use causeway_core::{Duration, IfId, Instant, Prefix6};
use causeway_wire::MacAddr;
use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, IAPD, IAPrefix, Message, MessageType, ORO, OptionCode,
    RelayMessage, Status, UnknownOption,
};
use dhcproto::{Decodable, Encodable};
use std::net::Ipv6Addr;
use std::sync::Arc;

pub(crate) const T0: UnixSeconds = 1_800_000_000;
pub(crate) const SERVER: [u8; 8] = [0, 3, 0, 1, 2, 0, 0x64, 1];

pub(crate) fn a(text: &str) -> Ipv6Addr {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

pub(crate) fn p(text: &str) -> Prefix6 {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

pub(crate) const fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, n])
}

/// The lab's configuration: reservations for 02:00:00:00:01:01 and :02, a pool of 16, 256 prefixes.
pub(crate) fn config() -> Config {
    Config {
        server_duid: SERVER.as_slice().into(),
        preference: 255,
        links: vec![link()],
        per_client: 8,
        capacity: 1000,
        hold: Duration::from_secs(3600),
        decline_hold: Duration::from_secs(86_400),
        relays: vec![causeway_core::IfId(0), causeway_core::IfId(2)],
        client_rate: (1000, 1000),
        rate: (1000, 1000),
    }
}

pub(crate) fn link() -> Link {
    Link {
        name: "tenant0".into(),
        link: Some(0),
        prefixes: vec![p("2001:db8:64::/64")],
        pools: vec![Pool { first: a("2001:db8:64::1000"), last: a("2001:db8:64::100f") }],
        delegations: vec![Delegation { prefix: p("2001:db8:64:8000::/56"), length: 64 }],
        reservations: vec![reserved(1, "2001:db8:64::101"), reserved(2, "2001:db8:64::102")],
        excluded: vec![a("2001:db8:64::1"), a("2001:db8:64::53")],
        preferred: Duration::from_secs(8 * 3600),
        valid: Duration::from_secs(12 * 3600),
        t1: None,
        t2: None,
        rapid_commit: false,
        options: Options { dns_servers: vec![a("2001:db8:64::53")], ..Options::default() },
    }
}

pub(crate) fn nobody() -> Reservation {
    Reservation {
        mac: None,
        interface_id: None,
        duid: None,
        iaid: None,
        addresses: Vec::new(),
        prefixes: Vec::new(),
        boot_file_url: None,
    }
}

pub(crate) fn reserved(n: u8, address: &str) -> Reservation {
    Reservation { mac: Some(mac(n)), addresses: vec![a(address)], ..nobody() }
}

/// A DUID-LL.
pub(crate) fn duid(n: u8) -> Vec<u8> {
    vec![0, 3, 0, 1, 2, 0, 0, 0, 0, n]
}

pub(crate) fn raw(code: u16, content: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(code.into(), content.to_vec()))
}

pub(crate) fn ia_na(id: u32, addresses: &[&str]) -> DhcpOption {
    let one = |text: &&str| {
        let (preferred_life, valid_life) = (0, 0);
        DhcpOption::IAAddr(IAAddr { addr: a(text), preferred_life, valid_life, opts: DhcpOptions::new() })
    };
    DhcpOption::IANA(IANA { id, t1: 0, t2: 0, opts: addresses.iter().map(one).collect() })
}

pub(crate) fn ia_pd(id: u32, prefixes: &[&str]) -> DhcpOption {
    let one = |text: &&str| {
        let prefix = p(text);
        DhcpOption::IAPrefix(IAPrefix {
            preferred_lifetime: 0,
            valid_lifetime: 0,
            prefix_len: prefix.len(),
            prefix_ip: prefix.address(),
            opts: DhcpOptions::new(),
        })
    };
    DhcpOption::IAPD(IAPD { id, t1: 0, t2: 0, opts: prefixes.iter().map(one).collect() })
}

pub(crate) fn wants(codes: &[u16]) -> DhcpOption {
    DhcpOption::ORO(ORO { opts: codes.iter().map(|c| OptionCode::from(*c)).collect() })
}

/// A message as octets.
pub(crate) fn octets(kind: MessageType, options: &[DhcpOption]) -> Vec<u8> {
    let mut octets = vec![kind.into(), 0xaa, 0xbb, 0xcc];
    for option in options {
        octets.extend(option.to_vec().expect("it can be encoded"));
    }
    octets
}

/// A Relay-forward around a message.
pub(crate) fn relayed(hops: u8, link: &str, peer: &str, options: &[DhcpOption], inner: &[u8]) -> Vec<u8> {
    let mut octets = vec![MessageType::RelayForw.into(), hops];
    octets.extend(a(link).octets());
    octets.extend(a(peer).octets());
    for option in options.iter().chain(&[raw(9, inner)]) {
        octets.extend(option.to_vec().expect("it can be encoded"));
    }
    octets
}

/// A server in the lab.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) mac: MacAddr,
    pub(crate) duid: Vec<u8>,
}

pub(crate) fn host(n: u8) -> Host {
    Host { mac: mac(n), duid: duid(n) }
}

impl Host {
    /// The same server with another DUID.
    pub(crate) fn reinstalled(&self, n: u8) -> Self {
        Self { mac: self.mac, duid: duid(n) }
    }

    pub(crate) fn message(&self, kind: MessageType, options: &[DhcpOption]) -> Vec<u8> {
        let mut all = vec![DhcpOption::ClientId(self.duid.clone())];
        let named = matches!(
            kind,
            MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline
        );
        all.extend(named.then(|| DhcpOption::ServerId(SERVER.to_vec())));
        all.extend_from_slice(options);
        octets(kind, &all)
    }

    pub(crate) fn request(&self, kind: MessageType, options: &[DhcpOption]) -> Request {
        request(self.mac, &self.message(kind, options))
    }
}

/// A request as the stage makes it of a payload.
pub(crate) fn request(mac: MacAddr, octets: &[u8]) -> Request {
    Request {
        interface: IfId(0),
        link: 0,
        source: mac.link_local(),
        source_port: 546,
        mac,
        arrived: Instant::ZERO,
        worker: 3,
        received: message::parse(octets).unwrap_or_else(|e| panic!("{e}")),
    }
}

/// An identity association of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenIa {
    pub(crate) iaid: u32,
    pub(crate) times: (u32, u32),
    /// Address with length, preferred and valid lifetime.
    pub(crate) leases: Vec<(String, u32, u32)>,
    pub(crate) status: Option<Status>,
}

/// An answer, read.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) kind: MessageType,
    pub(crate) ias: Vec<SeenIa>,
    pub(crate) status: Option<Status>,
    pub(crate) options: DhcpOptions,
}

impl Seen {
    /// What was given or offered, as text, where it is valid.
    pub(crate) fn valid(&self) -> Vec<&str> {
        let leases = self.ias.iter().flat_map(|ia| &ia.leases);
        leases.filter(|(_, _, valid)| *valid > 0).map(|(text, ..)| text.as_str()).collect()
    }

    /// The status of its only identity association.
    #[track_caller]
    pub(crate) fn refused(&self) -> Status {
        assert_eq!((self.ias.len(), self.valid().len()), (1, 0), "{self:?}");
        self.ias[0].status.expect("a status")
    }
}

fn status(options: &DhcpOptions) -> Option<Status> {
    match options.get(OptionCode::StatusCode) {
        Some(DhcpOption::StatusCode(code)) => Some(code.status),
        _ => None,
    }
}

/// Reads the message of an answer.
pub(crate) fn seen(octets: &[u8]) -> Seen {
    let message = Message::from_bytes(octets).expect("a message");
    assert_eq!(message.xid(), [0xaa, 0xbb, 0xcc], "RFC 9915 16.1");
    assert_eq!(message.to_vec().expect("encodable").len(), octets.len(), "nothing that is not read");
    let options = message.opts().clone();
    let mut ias = Vec::new();
    for option in options.iter() {
        let (id, times, opts) = match option {
            DhcpOption::IANA(IANA { id, t1, t2, opts }) | DhcpOption::IAPD(IAPD { id, t1, t2, opts }) => {
                (*id, (*t1, *t2), opts)
            }
            _ => continue,
        };
        let leases = opts
            .iter()
            .filter_map(|o| match o {
                DhcpOption::IAAddr(x) => Some((x.addr.to_string(), x.preferred_life, x.valid_life)),
                DhcpOption::IAPrefix(x) => Some((
                    format!("{}/{}", x.prefix_ip, x.prefix_len),
                    x.preferred_lifetime,
                    x.valid_lifetime,
                )),
                _ => None,
            })
            .collect();
        ias.push(SeenIa { iaid: id, times, leases, status: status(opts) });
    }
    Seen { kind: message.msg_type(), ias, status: status(&options), options }
}

/// An answer's message, out of its Relay-replies; each is asserted to be one.
#[track_caller]
pub(crate) fn unwrap(answer: &Answer, relays: usize) -> (Vec<RelayMessage>, Seen) {
    let mut octets = answer.octets.clone().expect("a message").into_vec();
    let mut around = Vec::new();
    for _ in 0..relays {
        // dhcproto reads what a relay carries as a relay's; its octets are taken here.
        let relay = RelayMessage::from_bytes(&octets[..34]).expect("a relay's message");
        assert_eq!(relay.msg_type(), MessageType::RelayRepl);
        let mut full = relay;
        let (mut at, mut inner) = (34, None);
        while at < octets.len() {
            let (code, length) =
                (causeway_wire::be16(&octets, at), usize::from(causeway_wire::be16(&octets, at + 2)));
            let content = octets[at + 4..at + 4 + length].to_vec();
            match code {
                9 => inner = Some(content),
                _ => full.opts_mut().insert(raw(code, &content)),
            }
            at += 4 + length;
        }
        around.push(full);
        octets = inner.expect("a message inside");
    }
    (around, seen(&octets))
}

/// An engine, and the time.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) now: UnixSeconds,
    pub(crate) grant: Grant,
}

impl Server {
    pub(crate) fn new(config: Config) -> Self {
        let engine = Engine::new(Arc::new(config), std::iter::empty());
        Self { engine, now: T0, grant: Grant::All }
    }

    pub(crate) fn handle(&mut self, request: &Request) -> Outcome {
        self.engine.handle(request, self.now, self.grant)
    }

    /// Handles a message of a host's own.
    #[track_caller]
    pub(crate) fn ask(&mut self, host: &Host, kind: MessageType, options: &[DhcpOption]) -> Seen {
        let request = host.request(kind, options);
        let outcome = self.handle(&request);
        let answer = outcome.answer.expect("always");
        assert_eq!(outcome.why, None);
        assert_eq!((answer.worker, answer.destination, answer.port), (3, host.mac.link_local(), 546));
        let seen = seen(answer.octets.as_ref().expect("a message"));
        // RFC 9915 18.3: always both.
        assert_eq!(seen.options.get(OptionCode::ServerId), Some(&DhcpOption::ServerId(SERVER.to_vec())));
        assert_eq!(seen.options.get(OptionCode::ClientId), Some(&DhcpOption::ClientId(host.duid.clone())));
        seen
    }

    /// Solicits and requests one address; what came of it.
    #[track_caller]
    pub(crate) fn lease(&mut self, host: &Host) -> String {
        let offer = self.ask(host, MessageType::Solicit, &[ia_na(1, &[])]);
        assert_eq!(offer.kind, MessageType::Advertise);
        let address = offer.valid()[0].to_owned();
        let reply = self.ask(host, MessageType::Request, &[ia_na(1, &[&address])]);
        assert_eq!((reply.kind, reply.valid()), (MessageType::Reply, vec![address.as_str()]));
        address
    }
}
