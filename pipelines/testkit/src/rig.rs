//! A rig for stages: everything that a [`Ctx`] borrows, over heap frames and virtual time.
//!
//! ```
//! use causeway_testkit::{Rig, ip6};
//! let mut rig = Rig::lab();
//! let mut packet = rig.packet("tenant0", &ip6("2001:db8:64::101", "2001:db8:6::10").udp(1, 2, b""));
//! let ctx = rig.ctx();
//! // hand `ctx` and `packet` to a stage, then look at what it sent and counted:
//! # let _ = (ctx, &mut packet);
//! assert!(rig.sent().is_empty());
//! rig.assert_counted(&[]);
//! ```

use crate::check::{Layers, dissect};
use crate::counters::Snapshot;
use crate::{check_packet, describe};
use causeway_core::event::Events;
use causeway_core::route::{Route4, Route6, RouteError, Target};
use causeway_core::{
    Counters, Ctx, Duration, Egress, Event, HeapFrame, HeapSource, IfId, Instant, Interface, Interfaces,
    Meta, Outbox, Packet, Role, Routes, Via,
};
use causeway_wire::MacAddr;

/// 02:00:00:00:00:NN, for stations in tests.
#[must_use]
pub const fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// A packet on its way out, as a test compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Where to.
    pub egress: Egress,
    /// The octets, from the network-layer header.
    pub octets: Vec<u8>,
}

/// Everything that a stage's context borrows.
#[derive(Debug)]
pub struct Rig {
    /// Virtual time; starts at one hour, so that "long ago" exists.
    pub now: Instant,
    /// Number of the worker that the rig plays, and of how many.
    pub worker: (u16, u16),
    /// The counters.
    pub counters: Counters,
    /// Originated packets.
    pub outbox: Outbox<HeapFrame>,
    /// Where they come from: 1000 frames.
    pub source: HeapSource,
    /// Events.
    pub events: Events,
    /// The interfaces.
    pub interfaces: Interfaces,
    /// The routes.
    pub routes: Routes,
    mark: Snapshot,
}

/// The interfaces of the lab: `tenant0` (number 0) and `uplink0` (number 1), with an MTU of 1500, and a
/// second tenant network `tenant1` (number 2) on a VLAN: 2001:db8:65::/64.
#[must_use]
pub fn lab_interfaces() -> Vec<Interface> {
    let parse = |t: &str| t.parse().unwrap_or_else(|_| panic!("{t}"));
    let tenant = |name: &str, vlan, own: &str, net: &str| Interface {
        name: name.to_owned(),
        port: 0,
        vlan,
        role: Role::Tenant,
        mac: MacAddr([2, 0, 0, 0, 0x64, 1]),
        mtu: 1500,
        link_local: parse("fe80::1"),
        addrs6: vec![(parse(own), net.parse().expect("a prefix"))],
        addrs4: Vec::new(),
        service6: Vec::new(),
        proxy4: Vec::new(),
        sources6: vec![net.parse().expect("a prefix")],
        ..Interface::default()
    };
    let uplink = Interface {
        name: "uplink0".to_owned(),
        port: 1,
        vlan: None,
        role: Role::Uplink,
        mac: MacAddr([2, 0, 0, 0, 0x64, 2]),
        mtu: 1500,
        link_local: parse("fe80::2"),
        addrs6: vec![(parse("2001:db8:ffff::2"), "2001:db8:ffff::/64".parse().expect("a prefix"))],
        addrs4: vec![("192.0.2.2".parse().expect("an address"), "192.0.2.0/24".parse().expect("a prefix"))],
        service6: Vec::new(),
        proxy4: vec!["203.0.113.0/28".parse().expect("a prefix")],
        sources6: Vec::new(),
        ..Interface::default()
    };
    vec![
        tenant("tenant0", None, "2001:db8:64::1", "2001:db8:64::/64"),
        uplink,
        tenant("tenant1", Some(65), "2001:db8:65::1", "2001:db8:65::/64"),
    ]
}

impl Rig {
    /// A rig over these interfaces and static routes.
    ///
    /// # Errors
    /// Those of [`Routes::build`].
    pub fn new(interfaces: Vec<Interface>, six: &[Route6], four: &[Route4]) -> Result<Self, RouteError> {
        let interfaces = Interfaces::new(interfaces);
        let routes = Routes::build(&interfaces, six, four)?;
        Ok(Self {
            now: Instant::ZERO + Duration::from_secs(3600),
            worker: (0, 1),
            counters: Counters::new(),
            outbox: Outbox::new(),
            source: HeapSource::new(1000),
            events: Events::new(),
            interfaces,
            routes,
            mark: Snapshot::default(),
        })
    }

    /// The lab's interfaces, with default routes to its router: 2001:db8:ffff::1 and 192.0.2.1.
    ///
    /// # Panics
    /// Never: the lab is right.
    #[must_use]
    pub fn lab() -> Self {
        Self::lab_with(&[])
    }

    /// The lab with these routes added.
    ///
    /// # Panics
    /// When they cannot be obeyed.
    #[must_use]
    pub fn lab_with(more: &[Route6]) -> Self {
        let via =
            |gateway: &str| Target::Via { gateway: gateway.parse().expect("an address"), interface: None };
        let six = Route6 { prefix: "::/0".parse().expect("a prefix"), target: via("2001:db8:ffff::1") };
        let gateway = Target::Via { gateway: "192.0.2.1".parse().expect("an address"), interface: None };
        let four = Route4 { prefix: "0.0.0.0/0".parse().expect("a prefix"), target: gateway };
        let six: Vec<Route6> = [six].iter().chain(more).copied().collect();
        Self::new(lab_interfaces(), &six, &[four]).expect("routes that can be obeyed")
    }

    /// The context to hand to a stage.
    pub fn ctx(&mut self) -> Ctx<'_, HeapSource> {
        Ctx {
            now: self.now,
            worker: self.worker.0,
            workers: self.worker.1,
            counters: &self.counters,
            outbox: &mut self.outbox,
            source: &mut self.source,
            events: &mut self.events,
            interfaces: &self.interfaces,
            routes: &self.routes,
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
    }

    /// The number of the interface of this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn interface(&self, name: &str) -> IfId {
        self.interfaces.by_name(name).unwrap_or_else(|| panic!("no interface `{name}`"))
    }

    /// A packet as classification hands it to a stage: arrived by this interface from 02:00:00:00:00:77 in
    /// a frame to us, its metadata found by this crate's own walk.
    ///
    /// # Panics
    /// When there is no such interface.
    #[must_use]
    pub fn packet(&self, ingress: &str, octets: &[u8]) -> Packet<HeapFrame> {
        let mut meta = Meta { ingress: self.interface(ingress), src_mac: mac(0x77), ..Meta::originated() };
        meta.hop_done = false;
        meta.ethertype = match octets.first().map(|o| o >> 4) {
            Some(6) => 0x86dd,
            Some(4) => 0x0800,
            _ => 0x0806,
        };
        // As classification has it: where the chain cannot be walked, or not so far, the walk does not begin.
        let next_header = if meta.ethertype == 0x86dd { octets.get(6).copied() } else { None };
        (meta.protocol, meta.l4) = (next_header.unwrap_or(0), 40);
        if let Ok(Layers { protocol, at, fragment, extension_headers: 0..=8, .. }) = dissect(octets, true) {
            meta.protocol = protocol;
            meta.l4 = u16::try_from(at).unwrap_or(u16::MAX);
            meta.fragment = fragment.is_some_and(|f| f.more || f.offset != 0);
        }
        Packet { frame: HeapFrame::new(octets), meta }
    }

    /// Where a packet leaves through this interface to this neighbour.
    ///
    /// # Panics
    /// When there is no such interface or `via` is no address.
    #[must_use]
    pub fn egress(&self, interface: &str, via: &str) -> Egress {
        let via = match via.parse().unwrap_or_else(|e| panic!("`{via}`: {e}")) {
            std::net::IpAddr::V6(a) => Via::Ip6(a),
            std::net::IpAddr::V4(a) => Via::Ip4(a),
        };
        Egress::new(self.interface(interface), via)
    }

    /// Takes out what the stage originated, after judging every packet with [`check_packet`].
    ///
    /// # Panics
    /// When one of them is malformed.
    #[track_caller]
    pub fn sent(&mut self) -> Vec<Leaving> {
        let list: Vec<Leaving> = self
            .outbox
            .drain()
            .map(|p| Leaving {
                egress: p.meta.egress,
                octets: causeway_core::Frame::bytes(&p.frame).to_vec(),
            })
            .collect();
        for l in list.iter().filter(|l| matches!(l.octets.first().map(|o| o >> 4), Some(4 | 6))) {
            if let Err(e) = check_packet(&l.octets) {
                panic!("the stage sent a malformed packet: {e}: {}", describe(&l.octets));
            }
        }
        list
    }

    /// Takes out the events.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.drain().0.collect()
    }

    /// Asserts that exactly these counters moved by exactly these numbers since the last call (or the
    /// start).
    ///
    /// # Panics
    /// When others did, or by other numbers.
    #[track_caller]
    pub fn assert_counted(&mut self, want: &[(&str, u64)]) {
        self.mark.assert_diff(&self.counters, want);
        self.mark = Snapshot::of(&self.counters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip6;
    use causeway_core::{Counter, DropReason};

    #[test]
    fn the_metadata_is_that_of_the_packet() {
        let rig = Rig::lab();
        let p = rig.packet(
            "uplink0",
            &ip6("2001:db8::1", "2001:db8::2").dest_options(&[]).fragment(0, true, 1).raw(17, &[0; 16]),
        );
        assert_eq!((p.meta.protocol, p.meta.l4, p.meta.fragment), (17, 56, true));
        assert_eq!(p.meta.ingress, IfId(1));
    }

    #[test]
    fn counted_means_since_the_last_look() {
        let mut rig = Rig::lab();
        rig.counters.drop(DropReason::NoRoute);
        rig.assert_counted(&[("drop.no-route", 1)]);
        rig.counters.add(Counter::Forwarded6, 2);
        rig.assert_counted(&[("forwarded6", 2)]);
        rig.assert_counted(&[]);
    }

    #[test]
    #[should_panic(expected = "malformed")]
    fn a_malformed_packet_in_the_outbox_fails_the_test() {
        let mut rig = Rig::lab();
        let bad = crate::poke(ip6("2001:db8::1", "2001:db8::2").udp(1, 2, b"x"), 46, &[0xff]);
        let p = rig.packet("uplink0", &bad);
        let e = rig.egress("uplink0", "2001:db8:ffff::1");
        rig.ctx().send(p, e);
        rig.sent();
    }
}
