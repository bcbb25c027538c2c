//! What hosts may still remember of an earlier configuration, and how they are told to forget it.
//!
//! | gone | told by | for at most |
//! | --- | --- | --- |
//! | a prefix on the link | valid lifetime 0 (RFC 4861 6.3.4) | 2 h |
//! | a prefix for addresses of the hosts' own | preferred lifetime 0; a valid lifetime of what is left of 2 h | 2 h |
//! | a route | lifetime 0 (RFC 4191 2.3) | 2 h |
//! | a DNS server, a search domain | lifetime 0 (RFC 8106 5.1, 5.2) | 2 h |
//! | an encrypted resolver | lifetime 0 (RFC 9463 6.1) | 2 h |
//! | a NAT64 prefix | scaled lifetime 0 (RFC 8781 4.1) | 2 h |
//! | a captive portal | the URI that stands for none (RFC 8910 2) | 2 h |
//! | the whole | the above, and router lifetime 0 three times (RFC 4861 6.2.5) | |
//!
//! A valid lifetime of zero would not end the addresses that hosts made themselves: RFC 4862 5.5.3 (e) has them
//! keep those for two hours, whatever an advertisement that nobody signed says. So they are deprecated, and the two
//! hours are counted down (as RFC 7084 4.3, L-13, has it for the same case).
//!
//! Two hours are also enough for the rest: a host that has not heard one of the advertisements of two hours is
//! not there, and lifetimes end by themselves.

use crate::config::{Advertised, EncryptedDns};
use crate::options::NdOption;
use causeway_core::{Duration, Instant, Prefix6};
use std::fmt;
use std::net::Ipv6Addr;

/// How long what is gone is told at most.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(7200);

/// RFC 8910 2: there is no captive portal here.
const UNRESTRICTED: &str = "urn:ietf:params:capport:unrestricted";

/// Something that hosts remember one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    /// A prefix is on the link.
    OnLink(Prefix6),
    /// Hosts may make addresses in it.
    Autonomous(Prefix6),
    Route(Prefix6),
    DnsServer(Ipv6Addr),
    Search(String),
    Encrypted(EncryptedDns),
    Pref64(Prefix6),
    Portal,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnLink(p) => write!(f, "on-link prefix {p}"),
            Self::Autonomous(p) => write!(f, "autonomous prefix {p}"),
            Self::Route(p) => write!(f, "route {p}"),
            Self::DnsServer(a) => write!(f, "DNS server {a}"),
            Self::Search(name) => write!(f, "search domain {name}"),
            Self::Encrypted(dns) => write!(f, "encrypted DNS {}", dns.name),
            Self::Pref64(p) => write!(f, "NAT64 prefix {p}"),
            Self::Portal => f.write_str("captive portal"),
        }
    }
}

/// A fact that holds no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) fact: Fact,
    /// Until when some host may remember it.
    pub(crate) until: Instant,
}

/// What hosts remember of an advertisement, and for how long.
fn facts(a: &Advertised) -> Vec<(Fact, Duration)> {
    let mut all = Vec::new();
    for p in &a.prefixes {
        if p.on_link {
            all.push((Fact::OnLink(p.prefix), p.valid));
        }
        if p.autonomous {
            all.push((Fact::Autonomous(p.prefix), p.valid));
        }
    }
    all.extend(a.routes.iter().map(|r| (Fact::Route(r.prefix), r.lifetime)));
    all.extend(a.dns_servers.iter().map(|s| (Fact::DnsServer(*s), a.dns_lifetime)));
    all.extend(a.search.iter().map(|s| (Fact::Search(s.clone()), a.dns_lifetime)));
    all.extend(a.encrypted_dns.iter().map(|e| (Fact::Encrypted(e.clone()), a.dns_lifetime)));
    all.extend(a.pref64.iter().map(|p| (Fact::Pref64(p.prefix), p.lifetime)));
    all.extend(a.captive_portal.iter().map(|_| (Fact::Portal, REMEMBERED)));
    // A lifetime of zero left nothing to remember.
    all.retain(|(_, lifetime)| !lifetime.is_zero());
    all
}

/// What is gone at `now`, after `before` (and what was gone before it) gave way to `after`.
pub(crate) fn gone(
    before: Option<&Advertised>,
    earlier: &[Gone],
    after: Option<&Advertised>,
    now: Instant,
) -> Vec<Gone> {
    let holds: Vec<Fact> = after.map(facts).unwrap_or_default().into_iter().map(|(f, _)| f).collect();
    let was = before.map(facts).unwrap_or_default().into_iter();
    let was = was.map(|(fact, lifetime)| Gone { fact, until: now + lifetime.min(REMEMBERED) });
    let mut all: Vec<Gone> = Vec::new();
    for g in was.chain(earlier.iter().filter(|g| now < g.until).cloned()) {
        if !holds.contains(&g.fact) && all.iter().all(|other| other.fact != g.fact) {
            all.push(g);
        }
    }
    all
}

/// The options that say so, in the order that they go out. Those whose valid lifetime is counted down carry the
/// moment of its end.
pub(crate) fn options(gone: &[Gone]) -> Vec<(NdOption<'_>, Option<Instant>)> {
    let autonomous = |p: Prefix6| gone.iter().find(|g| g.fact == Fact::Autonomous(p)).map(|g| g.until);
    let on_link = |p: Prefix6| gone.iter().any(|g| g.fact == Fact::OnLink(p));
    let prefix = |prefix, on_link, autonomous| NdOption::Prefix {
        prefix,
        on_link,
        autonomous,
        valid: 0,
        preferred: 0,
    };
    let mut all = Vec::new();
    for g in gone {
        all.push(match &g.fact {
            // Said together with the next, while addresses in it live.
            Fact::OnLink(p) if autonomous(*p).is_some() => continue,
            Fact::OnLink(p) => (prefix(*p, true, false), None),
            Fact::Autonomous(p) => (prefix(*p, on_link(*p), true), Some(g.until)),
            Fact::Route(p) => {
                (NdOption::Route { prefix: *p, preference: Default::default(), lifetime: 0 }, None)
            }
            Fact::DnsServer(a) => {
                (NdOption::DnsServers { servers: std::slice::from_ref(a), lifetime: 0 }, None)
            }
            Fact::Search(name) => (NdOption::Search { names: std::slice::from_ref(name), lifetime: 0 }, None),
            Fact::Encrypted(dns) => (NdOption::Encrypted { dns, lifetime: 0 }, None),
            Fact::Pref64(p) => (NdOption::Pref64 { prefix: *p, scaled: 0 }, None),
            Fact::Portal => (NdOption::CaptivePortal(UNRESTRICTED), None),
        });
    }
    all
}
