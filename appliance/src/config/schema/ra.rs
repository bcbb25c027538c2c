//! The section `[network.ra]`.

use super::Item;
use crate::config::first_hop::{Ra, RaPrefix, RaRoute};
use crate::config::read::{At, Section};
use crate::config::types::{
    DnsLifetime, HopLimit, Lifetime, MaxInterval, MinInterval, RouterLifetime, RouterPreference, Solicited,
};
use causeway_core::net::Prefix6;

/// What was read; `ra.prefixes` and `ra.routes` are filled in by the checks.
#[derive(Debug)]
pub(in crate::config) struct RaDraft {
    pub(in crate::config) at: At,
    pub(in crate::config) ra: Ra,
    /// How a prefix is advertised that the file says nothing of.
    pub(in crate::config) otherwise: Advertise,
    pub(in crate::config) prefixes: Vec<RaPrefixDraft>,
    pub(in crate::config) routes: Vec<RaRouteDraft>,
    /// Of `autonomous`, or of the section.
    pub(in crate::config) autonomous: At,
    pub(in crate::config) dns_lifetime: At,
    pub(in crate::config) managed: At,
    pub(in crate::config) other: At,
    pub(in crate::config) router_lifetime: At,
}

/// Flags and lifetimes of a prefix.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct Advertise {
    on_link: bool,
    autonomous: bool,
    valid_lifetime: Lifetime,
    preferred_lifetime: Lifetime,
}

impl Advertise {
    pub(in crate::config) const fn of(self, prefix: Prefix6) -> RaPrefix {
        RaPrefix {
            prefix,
            on_link: self.on_link,
            autonomous: self.autonomous,
            valid_lifetime: self.valid_lifetime,
            preferred_lifetime: self.preferred_lifetime,
        }
    }
}

#[derive(Debug)]
pub(in crate::config) struct RaPrefixDraft {
    pub(in crate::config) prefix: Option<Item<Prefix6>>,
    pub(in crate::config) advertise: Advertise,
    pub(in crate::config) autonomous: At,
}

#[derive(Debug)]
pub(in crate::config) struct RaRouteDraft {
    pub(in crate::config) prefix: Option<Item<Prefix6>>,
    pub(in crate::config) preference: RouterPreference,
    pub(in crate::config) lifetime: Lifetime,
}

fn advertise(s: &Section<'_, '_>, otherwise: Advertise) -> Advertise {
    let a = Advertise {
        on_link: s.or("on-link", otherwise.on_link),
        autonomous: s.or("autonomous", otherwise.autonomous),
        valid_lifetime: s.or("valid-lifetime", otherwise.valid_lifetime),
        preferred_lifetime: s.or("preferred-lifetime", otherwise.preferred_lifetime),
    };
    // RFC 4861 4.6.2. What the file does not say follows the valid lifetime down.
    if a.preferred_lifetime > a.valid_lifetime {
        if s.has("preferred-lifetime") {
            s.error(
                "preferred-lifetime",
                format!("longer than `valid-lifetime`, which is {}", a.valid_lifetime),
                "at most the valid lifetime",
            );
        } else {
            return Advertise { preferred_lifetime: a.valid_lifetime, ..a };
        }
    }
    a
}

pub(super) fn ra(s: Section<'_, '_>) -> Option<RaDraft> {
    if !s.present() {
        return None;
    }
    let max_interval = s.or("max-interval", MaxInterval::literal_ms(600_000));
    let min_interval = s.or("min-interval", MinInterval::of(max_interval));
    let otherwise = advertise(
        &s,
        Advertise {
            on_link: true,
            autonomous: false,
            valid_lifetime: Lifetime::literal_ms(30 * 86_400_000),
            preferred_lifetime: Lifetime::literal_ms(7 * 86_400_000),
        },
    );
    let ra = Ra {
        managed: s.or("managed", true),
        other: s.or("other", true),
        router_lifetime: s.or("router-lifetime", lifetime_of(max_interval)),
        preference: s.or("preference", RouterPreference::Medium),
        max_interval,
        min_interval,
        hop_limit: s.or("hop-limit", HopLimit::literal(64)),
        mtu: s.or("mtu", true),
        link_layer: s.or("link-layer", true),
        pref64: s.or("pref64", true),
        dns: s.or("dns", true),
        dns_lifetime: s.or("dns-lifetime", DnsLifetime::of(max_interval)),
        solicited: s.or("solicited", Solicited::Unicast),
        reachable_time: s.optional("reachable-time").map(|item| item.value),
        retransmit_time: s.optional("retransmit-time").map(|item| item.value),
        prefixes: Vec::new(),
        routes: Vec::new(),
    };
    // RFC 4861 6.2.1.
    let most = MinInterval::most(max_interval);
    if ra.min_interval > most {
        s.error(
            "min-interval",
            format!("more than three quarters of `max-interval`, which is {max_interval}"),
            format!("3s to {most}"),
        );
    }
    // RFC 4861 6.2.1: either no default router, or one for at least as long as until the next advertisement.
    if !ra.router_lifetime.is_zero() && ra.router_lifetime.duration() < max_interval.duration() {
        s.error(
            "router-lifetime",
            format!("shorter than `max-interval`, which is {max_interval}"),
            format!("\"0s\", or {max_interval} to 18h12m15s"),
        );
    }
    // RFC 4191 2.2: with a lifetime of zero the preference says nothing and is medium.
    if ra.router_lifetime.is_zero() && ra.preference != RouterPreference::Medium {
        s.error("preference", "`router-lifetime` is 0s", "\"medium\" (RFC 4191 2.2)");
    }
    let draft = RaDraft {
        at: s.at.clone(),
        otherwise,
        prefixes: s.sections("prefix").into_iter().map(|p| prefix(p, otherwise)).collect(),
        routes: s.sections("route").into_iter().map(|r| route(r, max_interval)).collect(),
        autonomous: s.place("autonomous"),
        dns_lifetime: s.place("dns-lifetime"),
        managed: s.place("managed"),
        other: s.place("other"),
        router_lifetime: s.place("router-lifetime"),
        ra,
    };
    s.finish();
    Some(draft)
}

/// The router lifetime that goes with a longest interval: 30 minutes, or three times the interval where
/// that is more (RFC 4861 6.2.1), but not beyond what can be said.
fn lifetime_of(max_interval: MaxInterval) -> RouterLifetime {
    let seconds = max_interval.seconds().saturating_mul(3).clamp(1800, 65_535);
    RouterLifetime::literal_ms(u64::from(seconds) * 1000)
}

fn prefix(s: Section<'_, '_>, otherwise: Advertise) -> RaPrefixDraft {
    let draft = RaPrefixDraft {
        prefix: s.required("prefix"),
        advertise: advertise(&s, otherwise),
        autonomous: s.place("autonomous"),
    };
    s.finish();
    draft
}

fn route(s: Section<'_, '_>, max_interval: MaxInterval) -> RaRouteDraft {
    let otherwise = Lifetime::literal_ms(u64::from(max_interval.seconds()) * 3000);
    let draft = RaRouteDraft {
        prefix: s.required("prefix"),
        preference: s.or("preference", RouterPreference::Medium),
        lifetime: s.or("lifetime", otherwise),
    };
    s.finish();
    draft
}

impl RaDraft {
    /// The section for a network with these prefixes on the link.
    pub(in crate::config) fn build(&self, on_link6: &[Prefix6]) -> Ra {
        let prefixes = on_link6.iter().map(|p| {
            let said = self.prefixes.iter().find(|d| d.prefix.as_ref().is_some_and(|item| item.value == *p));
            said.map_or(self.otherwise, |d| d.advertise).of(*p)
        });
        let routes = self.routes.iter().filter_map(|r| {
            let prefix = r.prefix.as_ref()?.value;
            Some(RaRoute { prefix, preference: r.preference, lifetime: r.lifetime })
        });
        Ra { prefixes: prefixes.collect(), routes: routes.collect(), ..self.ra.clone() }
    }
}
