//! The section `[vrrp]`.

use super::Item;
use crate::config::first_hop::{Track, TrackedHop, VirtualRouter, Vrrp};
use crate::config::read::Section;
use crate::config::types::{
    AddressFamily, Checksum4, Delay, Name, Penalty, UnicastAddress, Vrid, VrrpInterval, VrrpPriority,
};

#[derive(Debug)]
pub(in crate::config) struct VrrpDraft {
    pub(in crate::config) priority: Item<VrrpPriority>,
    interval: VrrpInterval,
    preempt: bool,
    preempt_delay: Delay,
    pub(in crate::config) accept: bool,
    checksum4: Checksum4,
    pub(in crate::config) routers: Vec<RouterDraft>,
    pub(in crate::config) track: TrackDraft,
}

#[derive(Debug)]
pub(in crate::config) struct RouterDraft {
    pub(in crate::config) network: Option<Item<Name>>,
    pub(in crate::config) vrid: Option<Item<Vrid>>,
    pub(in crate::config) addresses: Vec<Item<UnicastAddress>>,
}

#[derive(Debug)]
pub(in crate::config) struct TrackDraft {
    link: bool,
    pub(in crate::config) next_hops: Vec<HopDraft>,
    pub(in crate::config) worker_penalty: Penalty,
    pub(in crate::config) table_penalty: Penalty,
}

#[derive(Debug)]
pub(in crate::config) struct HopDraft {
    pub(in crate::config) address: Option<Item<UnicastAddress>>,
    pub(in crate::config) network: Option<Item<Name>>,
    pub(in crate::config) penalty: Option<Item<Penalty>>,
}

pub(super) fn vrrp(s: Section<'_, '_>) -> Option<VrrpDraft> {
    if !s.present() {
        return None;
    }
    let draft = VrrpDraft {
        priority: Item { at: s.place("priority"), value: s.or("priority", VrrpPriority::literal(100)) },
        interval: s.or("interval", VrrpInterval::literal_ms(1000)),
        preempt: s.or("preempt", true),
        preempt_delay: s.or("preempt-delay", Delay::literal_ms(0)),
        accept: s.or("accept", true),
        checksum4: s.or("checksum4", Checksum4::Rfc9568),
        routers: s.sections("router").into_iter().map(router).collect(),
        track: track(s.section("track")),
    };
    if !s.has("router") || s.is_empty_array("router") {
        s.error("router", "missing", "one or more sections [[vrrp.router]]");
    }
    s.finish();
    Some(draft)
}

fn router(s: Section<'_, '_>) -> RouterDraft {
    let draft = RouterDraft {
        network: s.required("network"),
        vrid: s.required("vrid"),
        addresses: s.some("addresses"),
    };
    s.finish();
    draft
}

fn track(s: Section<'_, '_>) -> TrackDraft {
    let draft = TrackDraft {
        link: s.or("link", true),
        next_hops: s.sections("next-hops").into_iter().map(hop).collect(),
        worker_penalty: s.or("worker-penalty", Penalty::literal(50)),
        table_penalty: s.or("table-penalty", Penalty::literal(20)),
    };
    s.finish();
    draft
}

fn hop(s: Section<'_, '_>) -> HopDraft {
    let draft = HopDraft {
        address: s.required("address"),
        network: s.optional("network"),
        penalty: s.required("penalty"),
    };
    s.finish();
    draft
}

impl RouterDraft {
    /// The family of its addresses, which is that of the first.
    pub(in crate::config) fn family(&self) -> Option<AddressFamily> {
        let first = self.addresses.first()?.address();
        Some(if first.is_ipv6() { AddressFamily::Ipv6 } else { AddressFamily::Ipv4 })
    }

    fn build(self) -> Option<VirtualRouter> {
        Some(VirtualRouter {
            family: self.family()?,
            network: self.network?.value,
            vrid: self.vrid?.value,
            addresses: self.addresses.into_iter().map(|item| item.value).collect(),
        })
    }
}

impl VrrpDraft {
    /// The section; `next_hops` are those of the file on their networks.
    pub(in crate::config) fn build(self, next_hops: Vec<TrackedHop>) -> Option<Vrrp> {
        Some(Vrrp {
            priority: self.priority.value,
            interval: self.interval,
            preempt: self.preempt,
            preempt_delay: self.preempt_delay,
            accept: self.accept,
            checksum4: self.checksum4,
            routers: self.routers.into_iter().map(RouterDraft::build).collect::<Option<_>>()?,
            track: Track {
                link: self.track.link,
                next_hops,
                worker_penalty: self.track.worker_penalty,
                table_penalty: self.track.table_penalty,
            },
        })
    }
}
