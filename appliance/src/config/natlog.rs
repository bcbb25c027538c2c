//! `[nat64.log]`: what is logged of mappings, and where it goes.

use super::checks::Checked;
use super::read::{self, Item, Read, Section, Source};
use super::types::unicast4;
use super::{Domain, Messages, PacketOctets, TemplateInterval};
use causeway_nat64::LogOptions;
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use toml::de::DeValue;

/// The most collectors: each gets every message.
const COLLECTORS_MOST: usize = 8;

/// `[nat64.log]` (RFC 6888 4, RFC 8158). By default nothing is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NatLog {
    /// Port blocks that subscribers get and return.
    pub blocks: bool,
    /// Mappings that begin and end.
    pub mappings: bool,
    /// Sessions that begin and end.
    pub sessions: bool,
    /// Records of sessions name the remote end (RFC 6888 4, REQ-12: not unless there is a need).
    pub destinations: bool,
    /// Addresses, ports or the flow table ran out; at most once in ten seconds each.
    pub exhaustion: bool,
    /// Into the gateway's own log, too.
    pub trace: bool,
    /// Who gets IPFIX messages (RFC 7011), over UDP.
    pub collectors: Vec<Collector>,
    /// The observation domain of these messages (RFC 7011 3.1).
    pub observation_domain: Domain,
    /// How often templates are sent again (RFC 7011 8.4).
    pub template_interval: TemplateInterval,
    /// After so many messages templates are sent again, too.
    pub template_messages: Messages,
    /// The largest IP packet (RFC 7011 10.3.3).
    pub packet_octets: PacketOctets,
}

/// Who gets IPFIX messages: a unicast address and a UDP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Collector(SocketAddr);

impl Collector {
    /// The address and the port, which is not 0.
    #[must_use]
    pub const fn address(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Default for NatLog {
    fn default() -> Self {
        Self {
            blocks: false,
            mappings: false,
            sessions: false,
            destinations: false,
            exhaustion: false,
            trace: false,
            collectors: Vec::new(),
            observation_domain: Domain::literal(1),
            template_interval: TemplateInterval::literal(60),
            template_messages: Messages::literal(1000),
            packet_octets: PacketOctets::literal(1280),
        }
    }
}

impl NatLog {
    /// True if records go anywhere.
    #[must_use]
    pub fn goes_somewhere(&self) -> bool {
        self.trace || !self.collectors.is_empty()
    }

    /// What workers have to write.
    #[must_use]
    pub fn options(&self) -> LogOptions {
        let on = self.goes_somewhere();
        LogOptions {
            blocks: on && self.blocks,
            mappings: on && self.mappings,
            sessions: on && self.sessions,
            destinations: on && self.destinations,
        }
    }

    /// What is logged, and where it goes, in words.
    pub(super) fn render(&self) -> (String, String) {
        let sessions = if self.destinations { "sessions with destinations" } else { "sessions" };
        let what = [
            (self.blocks, "port blocks"),
            (self.mappings, "mappings"),
            (self.sessions, sessions),
            (self.exhaustion, "exhaustion"),
        ];
        let what: Vec<&str> = what.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        if what.is_empty() || !self.goes_somewhere() {
            return ("nothing".to_owned(), "-".to_owned());
        }
        let mut to: Vec<String> = self.collectors.iter().map(|c| format!("IPFIX to {c}")).collect();
        if self.trace {
            to.push("this log".to_owned());
        }
        let mut to = to.join(", ");
        if !self.collectors.is_empty() {
            to = format!(
                "{to} (domain {}, packets of at most {} octets, templates every {} and every {} messages)",
                self.observation_domain, self.packet_octets, self.template_interval, self.template_messages
            );
        }
        (what.join(", "), to)
    }
}

/// What was read, with the places that checks need.
#[derive(Debug)]
pub(super) struct NatLogDraft {
    pub(super) log: NatLog,
    collectors: Vec<Item<Collector>>,
}

/// Reads the section; an absent one is the default.
pub(super) fn read(s: Section<'_, '_>) -> NatLogDraft {
    let default = NatLog::default();
    let collectors: Vec<Item<Collector>> = s.list("collectors");
    let log = NatLog {
        blocks: s.or("blocks", default.blocks),
        mappings: s.or("mappings", default.mappings),
        sessions: s.or("sessions", default.sessions),
        destinations: s.or("destinations", default.destinations),
        exhaustion: s.or("exhaustion", default.exhaustion),
        trace: s.or("trace", default.trace),
        collectors: collectors.iter().map(|item| item.value).collect(),
        observation_domain: s.or("observation-domain", default.observation_domain),
        template_interval: s.or("template-interval", default.template_interval),
        template_messages: s.or("template-messages", default.template_messages),
        packet_octets: s.or("packet-octets", default.packet_octets),
    };
    if log.destinations && !log.sessions {
        s.error(
            "destinations",
            "`sessions` is off, and only its records have destinations",
            "with `sessions`",
        );
    }
    s.finish();
    NatLogDraft { log, collectors }
}

/// What contradicts what, and what deserves a second look.
pub(super) fn check(source: &Source<'_>, draft: &NatLogDraft, networks: &[Checked], notes: &mut Vec<String>) {
    super::checks::unique(source, "collector", draft.collectors.iter());
    if let Some(first) = draft.collectors.get(COLLECTORS_MOST) {
        source.error(&first.at, "too many collectors", format!("at most {COLLECTORS_MOST}"));
    }
    for item in &draft.collectors {
        if networks.iter().any(|n| n.built.owns(item.value.address().ip())) {
            let allowed = "a collector that the operating system reaches, not through the gateway's ports";
            source.error(&item.at, "an address of the gateway itself", allowed);
        }
    }
    let log = &draft.log;
    let events = log.blocks || log.mappings || log.sessions || log.exhaustion;
    if events && !log.goes_somewhere() {
        notes.push("nat64.log: there is neither `trace` nor a collector, so nothing is logged".to_owned());
    }
    if log.goes_somewhere() && !events {
        notes.push(
            "nat64.log: `blocks`, `mappings`, `sessions` and `exhaustion` are all off, so nothing is logged"
                .to_owned(),
        );
    }
    if log.destinations {
        notes.push(
            "nat64.log.destinations: says of every host where it went; not to be logged without need (RFC 6888 4, REQ-12)"
                .to_owned(),
        );
    } else if log.sessions && log.mappings {
        notes.push(
            "nat64.log: without `destinations`, records of sessions say what those of mappings say; one of the two is enough (RFC 8158 4.6.1)"
                .to_owned(),
        );
    }
}

impl Read for Collector {
    const ALLOWED: &'static str =
        "a unicast address and a port, as in \"192.0.2.10:4739\" or \"[2001:db8:ffff::10]:4739\"";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = read::string(value)?;
        let address: SocketAddr = text.parse().map_err(|_| "not an address and a port".to_owned())?;
        let unicast = match address.ip() {
            // Of the addresses that are no neighbour's, our own machine's are the ones of use.
            IpAddr::V4(a) => unicast4(a) || a.is_loopback(),
            IpAddr::V6(a) => !a.is_multicast() && !a.is_unspecified() && a.to_ipv4_mapped().is_none(),
        };
        if !unicast {
            return Err("not a unicast address".to_owned());
        }
        if matches!(address.ip(), IpAddr::V6(a) if a.is_unicast_link_local()) {
            return Err("a link-local address says nothing of its link".to_owned());
        }
        if address.port() == 0 {
            return Err("port 0 is nobody's".to_owned());
        }
        Ok(Self(address))
    }
}

#[cfg(test)]
mod tests;
