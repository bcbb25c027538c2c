//! The sections `[network.dhcpv6]`, `[[network.reservation]]` and `[dhcpv6]`.

use super::Item;
use crate::config::first_hop::{Delegate, DhcpServer, Dhcpv6, LeasePeer, RelayedLink, Reservation};
use crate::config::read::{At, Section};
use crate::config::types::{
    AbsolutePath, AckTimeout, AddressRange, AloneAfter, BootUrl, DelegatedLength, Duid, History, Host6, Iaid,
    InterfaceId, LeaseLifetime, Leases, Mac, Messages, Name, PeerAddress, PerClient, PerSecond, PortalUri,
    Refresh, Rest, RetryMost, ServerPreference,
};
use causeway_core::net::Prefix6;

#[derive(Debug)]
pub(in crate::config) struct Dhcpv6Draft {
    pub(in crate::config) at: At,
    pub(in crate::config) pools: Vec<Item<AddressRange>>,
    pub(in crate::config) delegate: Vec<DelegateDraft>,
    valid_lifetime: LeaseLifetime,
    preferred_lifetime: LeaseLifetime,
    t1: Option<LeaseLifetime>,
    t2: Option<LeaseLifetime>,
    rapid_commit: bool,
    boot_file_url: Option<BootUrl>,
    sol_max_rt: Option<RetryMost>,
    inf_max_rt: Option<RetryMost>,
    information_refresh: Option<Refresh>,
}

#[derive(Debug)]
pub(in crate::config) struct DelegateDraft {
    pub(in crate::config) prefix: Option<Item<Prefix6>>,
    pub(in crate::config) length: Option<Item<DelegatedLength>>,
}

#[derive(Debug)]
pub(in crate::config) struct ReservationDraft {
    pub(in crate::config) at: At,
    pub(in crate::config) mac: Option<Item<Mac>>,
    pub(in crate::config) interface_id: Option<Item<InterfaceId>>,
    pub(in crate::config) duid: Option<Item<Duid>>,
    pub(in crate::config) iaid: Option<Item<Iaid>>,
    pub(in crate::config) addresses: Vec<Item<Host6>>,
    pub(in crate::config) prefixes: Vec<Item<Prefix6>>,
    boot_file_url: Option<BootUrl>,
}

#[derive(Debug)]
pub(in crate::config) struct ServerDraft {
    /// The file has the section.
    pub(in crate::config) at: Option<At>,
    leases: Option<AbsolutePath>,
    duid: Option<Duid>,
    preference: ServerPreference,
    per_client: PerClient,
    pub(in crate::config) capacity: Leases,
    hold: Rest,
    decline_hold: Rest,
    history: History,
    rate: PerSecond,
    burst: Messages,
    client_rate: PerSecond,
    client_burst: Messages,
    pub(in crate::config) links: Vec<LinkDraft>,
    pub(in crate::config) peer: Option<PeerDraft>,
}

#[derive(Debug)]
pub(in crate::config) struct LinkDraft {
    pub(in crate::config) name: Option<Item<Name>>,
    pub(in crate::config) prefixes: Vec<Item<Prefix6>>,
    pub(in crate::config) ntp: Vec<Item<Host6>>,
    pub(in crate::config) captive_portal: Option<Item<PortalUri>>,
    pub(in crate::config) dhcpv6: Dhcpv6Draft,
    pub(in crate::config) reservations: Vec<ReservationDraft>,
}

#[derive(Debug)]
pub(in crate::config) struct PeerDraft {
    pub(in crate::config) listen: Option<Item<PeerAddress>>,
    pub(in crate::config) connect: Option<Item<PeerAddress>>,
    secret_file: Option<AbsolutePath>,
    ack_timeout: AckTimeout,
    alone_after: AloneAfter,
}

/// `[network.dhcpv6]`.
pub(super) fn dhcpv6(s: Section<'_, '_>) -> Option<Dhcpv6Draft> {
    if !s.present() {
        return None;
    }
    let draft = keys(&s);
    s.finish();
    Some(draft)
}

/// The keys that a network's section and a link have in common.
fn keys(s: &Section<'_, '_>) -> Dhcpv6Draft {
    let valid_lifetime = s.or("valid-lifetime", LeaseLifetime::literal_ms(12 * 3_600_000));
    // Two thirds of the valid lifetime, as of the defaults.
    let preferred = LeaseLifetime::literal_ms(u64::from((valid_lifetime.seconds() / 3 * 2).max(1)) * 1000);
    let draft = Dhcpv6Draft {
        at: s.at.clone(),
        pools: s.list("pools"),
        delegate: s.sections("delegate").into_iter().map(delegate).collect(),
        valid_lifetime,
        preferred_lifetime: s.or("preferred-lifetime", preferred),
        t1: s.optional("t1").map(|item| item.value),
        t2: s.optional("t2").map(|item| item.value),
        rapid_commit: s.or("rapid-commit", false),
        boot_file_url: s.optional("boot-file-url").map(|item| item.value),
        sol_max_rt: s.optional("sol-max-rt").map(|item| item.value),
        inf_max_rt: s.optional("inf-max-rt").map(|item| item.value),
        information_refresh: s.optional("information-refresh").map(|item| item.value),
    };
    // RFC 9915 21.6, 21.4: preferred is within valid, T1 within T2, T2 within preferred.
    let preferred = draft.preferred_lifetime;
    if preferred > valid_lifetime {
        s.error(
            "preferred-lifetime",
            format!("longer than `valid-lifetime`, which is {valid_lifetime}"),
            "at most the valid lifetime",
        );
    }
    if let Some(t2) = draft.t2.filter(|t2| *t2 > preferred) {
        s.error(
            "t2",
            format!("{t2} is longer than the preferred lifetime, which is {preferred}"),
            "at most the preferred lifetime",
        );
    }
    let t2 = draft.t2.unwrap_or(preferred);
    if let Some(t1) = draft.t1.filter(|t1| *t1 > t2) {
        let what = if draft.t2.is_some() { "`t2`" } else { "the preferred lifetime" };
        s.error("t1", format!("{t1} is longer than {what}, which is {t2}"), "at most T2");
    }
    draft
}

fn delegate(s: Section<'_, '_>) -> DelegateDraft {
    let draft = DelegateDraft { prefix: s.required("prefix"), length: s.required("length") };
    if let (Some(prefix), Some(length)) = (&draft.prefix, &draft.length)
        && length.bits() < prefix.value.len()
    {
        s.error(
            "length",
            format!("shorter than {} itself", prefix.value),
            format!("{} to 128", prefix.value.len()),
        );
    }
    s.finish();
    draft
}

/// `[[network.reservation]]`.
pub(super) fn reservation(s: Section<'_, '_>) -> ReservationDraft {
    let draft = ReservationDraft {
        at: s.at.clone(),
        mac: s.optional("mac"),
        interface_id: s.optional("interface-id"),
        duid: s.optional("duid"),
        iaid: s.optional("iaid"),
        addresses: s.list("addresses"),
        prefixes: s.list("prefixes"),
        boot_file_url: s.optional("boot-file-url").map(|item| item.value),
    };
    let given: Vec<&str> = ["mac", "interface-id", "duid"].into_iter().filter(|key| s.has(key)).collect();
    match given[..] {
        [] => s.error("mac", "nothing says whose it is", "one of `mac`, `interface-id` and `duid`"),
        [_] => {}
        [first, second, ..] => {
            let problem = format!("there is `{first}` as well");
            s.error(second, problem, "one of `mac`, `interface-id` and `duid`");
        }
    }
    if s.has("iaid") && !s.has("duid") {
        s.error("iaid", "there is no `duid`", "only with `duid`");
    }
    if !["addresses", "prefixes", "boot-file-url"].iter().any(|key| s.has(key)) {
        s.error("addresses", "missing", "one or more of `addresses`, `prefixes` and `boot-file-url`");
    }
    s.finish();
    draft
}

/// `[dhcpv6]`.
pub(super) fn server(s: Section<'_, '_>) -> ServerDraft {
    let draft = ServerDraft {
        at: s.present().then(|| s.at.clone()),
        leases: s.optional("leases").map(|item| item.value),
        duid: s.optional("duid").map(|item| item.value),
        preference: s.or("preference", ServerPreference::literal(255)),
        per_client: s.or("per-client", PerClient::literal(8)),
        capacity: s.or("capacity", Leases::literal(1_000_000)),
        hold: s.or("hold", Rest::literal_ms(3_600_000)),
        decline_hold: s.or("decline-hold", Rest::literal_ms(86_400_000)),
        history: s.or("history", History::literal_ms(365 * 86_400_000)),
        rate: s.or("rate", PerSecond::literal(50_000)),
        burst: s.or("burst", Messages::literal(10_000)),
        client_rate: s.or("client-rate", PerSecond::literal(20)),
        client_burst: s.or("client-burst", Messages::literal(40)),
        links: s.sections("link").into_iter().map(link).collect(),
        peer: peer(s.section("peer")),
    };
    s.finish();
    draft
}

fn link(s: Section<'_, '_>) -> LinkDraft {
    let draft = LinkDraft {
        name: s.required("name"),
        prefixes: s.some("prefixes"),
        ntp: s.list("ntp"),
        captive_portal: s.optional("captive-portal"),
        dhcpv6: keys(&s),
        reservations: s.sections("reservation").into_iter().map(reservation).collect(),
    };
    s.finish();
    draft
}

fn peer(s: Section<'_, '_>) -> Option<PeerDraft> {
    if !s.present() {
        return None;
    }
    let draft = PeerDraft {
        listen: s.optional("listen"),
        connect: s.optional("connect"),
        secret_file: s.required("secret-file").map(|item| item.value),
        ack_timeout: s.or("ack-timeout", AckTimeout::literal_ms(200)),
        alone_after: s.or("alone-after", AloneAfter::literal_ms(5_000)),
    };
    if !s.has("listen") && !s.has("connect") {
        s.error("listen", "missing", "`listen`, `connect` or both");
    }
    if let (Some(listen), Some(connect)) = (&draft.listen, &draft.connect)
        && listen.value == connect.value
    {
        s.error("connect", "the same as `listen`: this gateway itself", "where the other gateway listens");
    }
    if draft.alone_after.duration() < draft.ack_timeout.duration() {
        s.error("alone-after", "shorter than `ack-timeout`", "not shorter than `ack-timeout`");
    }
    s.finish();
    Some(draft)
}

impl Dhcpv6Draft {
    pub(in crate::config) fn build(&self) -> Option<Dhcpv6> {
        Some(Dhcpv6 {
            pools: self.pools.iter().map(|item| item.value).collect(),
            delegate: self
                .delegate
                .iter()
                .map(|d| {
                    Some(Delegate { prefix: d.prefix.as_ref()?.value, length: d.length.as_ref()?.value })
                })
                .collect::<Option<_>>()?,
            valid_lifetime: self.valid_lifetime,
            preferred_lifetime: self.preferred_lifetime,
            t1: self.t1,
            t2: self.t2,
            rapid_commit: self.rapid_commit,
            boot_file_url: self.boot_file_url.clone(),
            sol_max_rt: self.sol_max_rt,
            inf_max_rt: self.inf_max_rt,
            information_refresh: self.information_refresh,
        })
    }
}

impl ReservationDraft {
    pub(in crate::config) fn build(&self) -> Reservation {
        Reservation {
            mac: self.mac.as_ref().map(|item| item.value),
            interface_id: self.interface_id.as_ref().map(|item| item.value.clone()),
            duid: self.duid.as_ref().map(|item| item.value.clone()),
            iaid: self.iaid.as_ref().map(|item| item.value),
            addresses: self.addresses.iter().map(|item| item.value).collect(),
            prefixes: self.prefixes.iter().map(|item| item.value).collect(),
            boot_file_url: self.boot_file_url.clone(),
        }
    }
}

impl LinkDraft {
    fn build(self) -> Option<RelayedLink> {
        Some(RelayedLink {
            name: self.name?.value,
            prefixes: self.prefixes.into_iter().map(|item| item.value).collect(),
            ntp: self.ntp.into_iter().map(|item| item.value).collect(),
            captive_portal: self.captive_portal.map(|item| item.value),
            dhcpv6: self.dhcpv6.build()?,
            reservations: self.reservations.iter().map(ReservationDraft::build).collect(),
        })
    }
}

impl PeerDraft {
    fn build(self) -> Option<LeasePeer> {
        Some(LeasePeer {
            listen: self.listen.map(|item| item.value),
            connect: self.connect.map(|item| item.value),
            secret_file: self.secret_file?,
            ack_timeout: self.ack_timeout,
            alone_after: self.alone_after,
        })
    }
}

impl ServerDraft {
    /// The server of the gateway of this name.
    pub(in crate::config) fn build(self, gateway: &Name) -> Option<DhcpServer> {
        Some(DhcpServer {
            leases: self
                .leases
                .unwrap_or_else(|| AbsolutePath::known(crate::config::default_leases(gateway))),
            duid: self.duid,
            preference: self.preference,
            per_client: self.per_client,
            capacity: self.capacity,
            hold: self.hold,
            decline_hold: self.decline_hold,
            history: self.history,
            rate: self.rate,
            burst: self.burst,
            client_rate: self.client_rate,
            client_burst: self.client_burst,
            links: self.links.into_iter().map(LinkDraft::build).collect::<Option<_>>()?,
            peer: match self.peer {
                Some(peer) => Some(peer.build()?),
                None => None,
            },
        })
    }
}
