//! Packets in, requests and counters out; answers in, packets out.

use super::*;
use crate::engine::Grant;
use crate::lease::UnixSeconds;
use crate::testing::{Host, Server, T0, a, config, host, ia_na, octets, raw, relayed, wants};
use causeway_core::{Duration, HeapFrame};
use causeway_testkit::{Rig, ip6, poke};
use causeway_wire::MacAddr;
use causeway_wire::be16;
use dhcproto::v6::{DhcpOption, MessageType as M};

const GROUP: &str = "ff02::1:2";

struct Lab {
    rig: Rig,
    stage: Stage,
    ring: ArrayQueue<Box<Request>>,
    server: Server,
}

impl Lab {
    fn new(config: Config) -> Self {
        Self {
            rig: Rig::lab(),
            stage: Stage::new(Arc::new(config.clone())),
            ring: ArrayQueue::new(4),
            server: Server::new(config),
        }
    }

    fn packet(&self, interface: &str, from: MacAddr, octets: &[u8]) -> Packet<HeapFrame> {
        let mut packet = self.rig.packet(interface, octets);
        packet.meta.src_mac = from;
        packet
    }

    fn receive(&mut self, interface: &str, from: MacAddr, octets: &[u8]) -> Verdict {
        let packet = self.packet(interface, from, octets);
        self.stage.receive(&mut self.rig.ctx(), &packet, &self.ring)
    }

    /// Takes what is on the ring through the engine and back.
    fn serve(&mut self) {
        while let Some(request) = self.ring.pop() {
            let answer = self.server.engine.handle(&request, self.server.now, Grant::All).answer;
            self.stage.answer(&mut self.rig.ctx(), answer.expect("always"));
        }
    }
}

/// A message of a host's own, as a packet.
fn packet_of(h: &Host, kind: M, options: &[DhcpOption]) -> Vec<u8> {
    ip6(h.mac.link_local(), GROUP).udp(546, 547, &h.message(kind, options))
}

#[test]
fn rfc9915_18_3_10_an_exchange_ends_with_a_lease_at_the_clients_own_address() {
    let mut lab = Lab::new(config());
    let h = host(1);
    let solicit = packet_of(&h, M::Solicit, &[ia_na(1, &[]), wants(&[23])]);
    assert_eq!(lab.receive("tenant0", h.mac, &solicit), Verdict::Consume);
    lab.rig.assert_counted(&[("dhcp6-asked", 1)]);
    lab.serve();
    lab.rig.assert_counted(&[("dhcp6-answered", 1)]);
    assert_eq!(lab.rig.take_events(), []);
    let sent = lab.rig.sent();
    let [advertise] = &sent[..] else { panic!("{sent:?}") };
    // Out of the interface that it came by, to where the frame came from: nobody is looked for.
    assert_eq!(advertise.egress, Egress::new(IfId(0), Via::Mac(h.mac)));
    let ip = Ipv6Repr::parse(&advertise.octets).expect("IPv6");
    assert_eq!((ip.src, ip.dst, ip.hop_limit), (a("fe80::1"), h.mac.link_local(), 64));
    assert_eq!((be16(&advertise.octets, 40), be16(&advertise.octets, 42)), (547, 546));
    assert_eq!(advertise.octets[48], 2);

    let request = packet_of(&h, M::Request, &[ia_na(1, &["2001:db8:64::101"])]);
    assert_eq!(lab.receive("tenant0", h.mac, &request), Verdict::Consume);
    lab.serve();
    lab.rig.assert_counted(&[("dhcp6-asked", 1), ("dhcp6-answered", 1), ("dhcp6-leased", 1)]);
    assert_eq!(lab.rig.sent()[0].octets[48], 7);
    let (address, mac) = (h.mac.link_local(), h.mac);
    assert_eq!(lab.rig.take_events(), [Event::LeaseGiven { interface: IfId(0), address, mac }]);
}

/// A plan that is adopted while a message is with the engine may number the interfaces anew.
#[test]
fn rfc9915_18_3_10_an_answer_goes_to_the_network_that_the_message_came_from_or_nowhere() {
    use causeway_core::Interfaces;
    use causeway_testkit::lab_interfaces;
    let mut lab = Lab::new(config());
    let h = host(1);
    let ask = |lab: &mut Lab, kind, options: &[DhcpOption]| {
        let packet = packet_of(&h, kind, options);
        assert_eq!(lab.receive("tenant0", h.mac, &packet), Verdict::Consume);
    };
    let request = [ia_na(1, &["2001:db8:64::101"])];
    ask(&mut lab, M::Request, &request);
    // The network has another number now, and its old one is somebody else's. The engine has the new plan too.
    let [tenant0, uplink0, tenant1] = lab_interfaces().try_into().expect("three");
    lab.rig.interfaces = Interfaces::new(vec![tenant1.clone(), uplink0.clone(), tenant0.clone()]);
    lab.server.engine.reconfigure(Arc::new(config()), lab.server.now);
    lab.serve();
    lab.rig.assert_counted(&[("dhcp6-asked", 1), ("dhcp6-answered", 1), ("dhcp6-leased", 1)]);
    assert_eq!(lab.rig.sent()[0].egress, Egress::new(IfId(2), Via::Mac(h.mac)));
    let (address, mac) = (h.mac.link_local(), h.mac);
    assert_eq!(lab.rig.take_events(), [Event::LeaseGiven { interface: IfId(2), address, mac }]);
    // It is gone, and its number is another network's.
    lab.rig.interfaces = Interfaces::new(vec![tenant0.clone(), uplink0.clone()]);
    ask(&mut lab, M::Request, &request);
    lab.rig.interfaces = Interfaces::new(vec![tenant1.clone(), uplink0.clone()]);
    lab.serve();
    lab.rig.assert_counted(&[("dhcp6-asked", 1), ("drop.dhcp6-network-gone", 1)]);
    // So is that of a relay: the way to its address may be another one by now.
    lab.rig.interfaces = Interfaces::new(vec![tenant0, uplink0.clone()]);
    let forward = relayed(0, "2001:db8:64::", "fe80::9", &[], &h.message(M::Solicit, &[ia_na(1, &[])]));
    let packet = ip6("2001:db8:64::77", "ff05::1:3").udp(547, 547, &forward);
    assert_eq!(lab.receive("tenant0", host(77).mac, &packet), Verdict::Consume);
    lab.rig.interfaces = Interfaces::new(vec![tenant1, uplink0]);
    lab.serve();
    lab.rig.assert_counted(&[("dhcp6-asked", 1), ("drop.dhcp6-network-gone", 1)]);
    assert_eq!((lab.rig.sent(), lab.rig.take_events()), (vec![], vec![]));
}

#[test]
fn rfc9915_13_a_message_is_of_the_link_that_it_came_from_whatever_the_plan_calls_it_now() {
    let mut lab = Lab::new(config());
    let h = host(9);
    let solicit = packet_of(&h, M::Solicit, &[ia_na(1, &[])]);
    assert_eq!(lab.receive("tenant0", h.mac, &solicit), Verdict::Consume);
    assert_eq!(lab.ring.pop().map(|r| (r.interface, r.link)), Some((IfId(0), 0)));
    // The server is on the VLAN of tenant1 alone.
    let mut other = config();
    other.links[0].link = Some(65);
    lab.server.engine.reconfigure(Arc::new(other.clone()), lab.server.now);
    assert_eq!(lab.receive("tenant0", h.mac, &solicit), Verdict::Consume);
    lab.serve();
    lab.rig.assert_counted(&[("dhcp6-asked", 2), ("drop.dhcp6-no-link", 1)]);
    lab.stage.set_config(Arc::new(other));
    assert_eq!(lab.receive("tenant0", h.mac, &solicit), Verdict::Drop(DropReason::Dhcp6NoLink));
    assert_eq!(lab.receive("tenant1", h.mac, &solicit), Verdict::Consume);
    assert_eq!(lab.ring.pop().map(|r| (r.interface, r.link)), Some((IfId(2), 65)));
}

#[test]
fn a_decline_is_told_and_a_refusal_counted() {
    let mut lab = Lab::new(config());
    let h = host(1);
    lab.server.lease(&h);
    let decline = packet_of(&h, M::Decline, &[ia_na(1, &["2001:db8:64::101"])]);
    assert_eq!(lab.receive("tenant0", h.mac, &decline), Verdict::Consume);
    lab.serve();
    lab.rig.assert_counted(&[("dhcp6-asked", 1), ("dhcp6-answered", 1), ("dhcp6-declined", 1)]);
    let (address, mac) = (a("2001:db8:64::101"), h.mac);
    assert_eq!(lab.rig.take_events(), [Event::LeaseDeclined { interface: IfId(0), address, mac }]);
    lab.rig.sent();
    let confirm = packet_of(&h, M::Confirm, &[ia_na(1, &[])]);
    assert_eq!(lab.receive("tenant0", h.mac, &confirm), Verdict::Consume);
    lab.serve();
    lab.rig.assert_counted(&[("dhcp6-asked", 1), ("drop.dhcp6-nothing-to-confirm", 1)]);
    assert_eq!(lab.rig.sent(), []);
}

// RFC 9915 7.1, RFC 9915 7.2, RFC 9915 16, RFC 9915 17.
#[test]
fn every_refusal_before_parsing_has_its_reason() {
    use DropReason as D;
    let h = host(9);
    let message = h.message(M::Solicit, &[ia_na(1, &[])]);
    let from = h.mac.link_local();
    let good = ip6(from, GROUP).udp(546, 547, &message);
    let other_server = octets(
        M::Request,
        &[DhcpOption::ClientId(h.duid.clone()), DhcpOption::ServerId(vec![9; 10]), ia_na(1, &[])],
    );
    let rows: Vec<(&str, &str, Vec<u8>, DropReason)> = vec![
        ("a length beyond the packet", "tenant0", poke(good.clone(), 44, &[0xff, 0xff]), D::Dhcp6BadUdp),
        ("a length below the header", "tenant0", poke(good.clone(), 44, &[0, 7]), D::Dhcp6BadUdp),
        ("a header that is cut", "tenant0", ip6(from, GROUP).raw(17, &[2, 34, 2, 35]), D::Dhcp6BadUdp),
        ("from port 0", "tenant0", ip6(from, GROUP).udp(0, 547, &message), D::Dhcp6BadUdp),
        ("rfc8200_8_1 no checksum", "tenant0", poke(good.clone(), 46, &[0, 0]), D::Dhcp6BadChecksum),
        ("a wrong checksum", "tenant0", poke(good.clone(), 50, &[0x12]), D::Dhcp6BadChecksum),
        (
            "rfc9915_17 a global source",
            "tenant0",
            ip6("2001:db8:64::9", GROUP).udp(546, 547, &message),
            D::Dhcp6BadSource,
        ),
        (
            "rfc9915_16 to our address",
            "tenant0",
            ip6(from, "fe80::1").udp(546, 547, &message),
            D::Dhcp6BadDestination,
        ),
        (
            "rfc9915_7_1 to all servers",
            "tenant0",
            ip6(from, "ff05::1:3").udp(546, 547, &message),
            D::Dhcp6BadDestination,
        ),
        ("no server there", "tenant1", good.clone(), D::Dhcp6NoLink),
        (
            "rfc9915_16_4 another server's",
            "tenant0",
            ip6(from, GROUP).udp(546, 547, &other_server),
            D::Dhcp6OtherServer,
        ),
        ("a message that is none", "tenant0", ip6(from, GROUP).udp(546, 547, &[1, 2]), D::Dhcp6Truncated),
        ("an empty one", "tenant0", ip6(from, GROUP).udp(546, 547, &[]), D::Dhcp6Truncated),
    ];
    for (what, interface, octets, why) in rows {
        let mut lab = Lab::new(config());
        assert_eq!(lab.receive(interface, h.mac, &octets), Verdict::Drop(why), "{what}");
        assert!(lab.ring.is_empty());
        lab.rig.assert_counted(&[]);
    }
    let mut lab = Lab::new(config());
    // RFC 9915 7.2: clients may send from any port; and what is behind the datagram is not ours.
    let any_port = ip6(from, GROUP).udp(40_000, 547, &message);
    assert_eq!(lab.receive("tenant0", h.mac, &any_port), Verdict::Consume);
    let mut fragment = lab.packet("tenant0", h.mac, &good);
    fragment.meta.fragment = true;
    let verdict = lab.stage.receive(&mut lab.rig.ctx(), &fragment, &lab.ring);
    assert_eq!(verdict, Verdict::Drop(D::LocalFragment));
}

#[test]
fn limits_hold_for_each_client_and_for_all_and_the_ring() {
    let h = host(9);
    let mut limited = config();
    limited.client_rate = (1, 3);
    let mut lab = Lab::new(limited.clone());
    let solicit = |h: &Host| packet_of(h, M::Solicit, &[ia_na(1, &[])]);
    let verdicts: Vec<Verdict> = (0..4).map(|_| lab.receive("tenant0", h.mac, &solicit(&h))).collect();
    let limit = Verdict::Drop(DropReason::Dhcp6ClientLimited);
    assert_eq!(verdicts, [Verdict::Consume, Verdict::Consume, Verdict::Consume, limit]);
    // Another is not held up by it, and this one comes back.
    assert_eq!(lab.receive("tenant0", host(8).mac, &solicit(&host(8))), Verdict::Consume);
    while lab.ring.pop().is_some() {}
    lab.rig.advance(Duration::from_secs(1));
    assert_eq!(lab.receive("tenant0", h.mac, &solicit(&h)), Verdict::Consume);
    // By a relay each of its clients has its own.
    let by_relay = |peer: &str| {
        let inner = h.message(M::Solicit, &[ia_na(1, &[])]);
        let forward = relayed(0, "2001:db8:64::", peer, &[], &inner);
        ip6("2001:db8:ffff::77", "2001:db8:64::1").udp(547, 547, &forward)
    };
    let mut lab = Lab::new(limited);
    let relay = |lab: &mut Lab, peer| {
        while lab.ring.pop().is_some() {}
        lab.receive("tenant0", host(77).mac, &by_relay(peer))
    };
    let verdicts: Vec<Verdict> = (0..4).map(|_| relay(&mut lab, "fe80::9")).collect();
    assert_eq!(verdicts[3], limit);
    assert_eq!(relay(&mut lab, "fe80::8"), Verdict::Consume);

    let mut all = config();
    all.rate = (1, 2);
    let mut lab = Lab::new(all);
    for n in 1..3 {
        assert_eq!(lab.receive("tenant0", host(n).mac, &solicit(&host(n))), Verdict::Consume);
    }
    let limit = Verdict::Drop(DropReason::Dhcp6RateLimited);
    assert_eq!(lab.receive("tenant0", host(3).mac, &solicit(&host(3))), limit);

    let mut lab = Lab::new(config());
    for n in 1..5 {
        assert_eq!(lab.receive("tenant0", host(n).mac, &solicit(&host(n))), Verdict::Consume);
    }
    let full = Verdict::Drop(DropReason::Dhcp6RingFull);
    assert_eq!(lab.receive("tenant0", host(5).mac, &solicit(&host(5))), full);
    lab.rig.assert_counted(&[("dhcp6-asked", 4)]);
}

#[test]
fn rfc9915_19_3_a_relay_is_answered_by_route_at_its_port() {
    let mut behind_relays = config();
    behind_relays.links[0].link = None;
    let mut lab = Lab::new(behind_relays);
    let inner = host(9).message(M::Request, &[ia_na(1, &[])]);
    let forward = relayed(0, "2001:db8:64::", "fe80::9", &[raw(18, b"eth1")], &inner);
    let packet = ip6("2001:db8:6::77", "ff05::1:3").udp(547, 547, &forward);
    assert_eq!(lab.receive("tenant0", host(77).mac, &packet), Verdict::Consume);
    lab.serve();
    lab.rig.assert_counted(&[("dhcp6-asked", 1), ("dhcp6-answered", 1), ("dhcp6-leased", 1)]);
    let sent = lab.rig.sent();
    assert_eq!(sent[0].egress, lab.rig.egress("uplink0", "2001:db8:ffff::1"));
    let ip = Ipv6Repr::parse(&sent[0].octets).expect("IPv6");
    assert_eq!((ip.src, ip.dst), (a("2001:db8:ffff::2"), a("2001:db8:6::77")));
    assert_eq!((be16(&sent[0].octets, 42), sent[0].octets[48]), (547, 13));
    // The client is on another link.
    assert_eq!(lab.rig.take_events(), []);
}

#[test]
fn an_answer_is_kept_to_what_every_link_carries() {
    let mut big = config();
    big.links[0].options.search = (0..40).map(|n| format!("a-rather-long-label-{n}.example")).collect();
    big.links[0].options.captive_portal = Some("https://portal.example/".to_owned());
    let mut lab = Lab::new(big);
    let h = host(1);
    let solicit = packet_of(&h, M::Solicit, &[ia_na(1, &[]), wants(&[23, 24, 103])]);
    assert_eq!(lab.receive("tenant0", h.mac, &solicit), Verdict::Consume);
    lab.serve();
    lab.rig.assert_counted(&[("dhcp6-asked", 1), ("dhcp6-answered", 1), ("dhcp6-options-left-out", 1)]);
    let sent = lab.rig.sent();
    assert!(sent[0].octets.len() <= 1280);
    let seen = crate::testing::seen(&sent[0].octets[48..]);
    let has = |code: u16| seen.options.iter().any(|o| dhcproto::v6::OptionCode::from(o) == code.into());
    // The search list is what has no room; what comes after it has.
    assert!(has(23) && !has(24) && seen.options.iter().any(|o| *o == raw(103, b"https://portal.example/")));

    // And what must be there is not cut: no packet at all.
    let mut lab = Lab::new(config());
    let answer = Answer {
        octets: Ok(vec![7; 1500].into()),
        ..crate::reply::refusal(&h.request(M::Solicit, &[]), DropReason::NoRoute)
    };
    lab.stage.answer(&mut lab.rig.ctx(), Box::new(answer));
    lab.rig.assert_counted(&[("drop.dhcp6-answer-too-long", 1)]);
}

#[test]
fn no_frame_and_no_route_are_counted() {
    let mut lab = Lab::new(config());
    let h = host(1);
    let now: UnixSeconds = T0;
    let mut answer =
        |request: &Request| lab.server.engine.handle(request, now, Grant::All).answer.expect("always");
    let direct = answer(&h.request(M::Request, &[ia_na(1, &[])]));
    let mut lost = (*direct).clone();
    lost.destination = a("ff0e::1");
    lab.rig.source = causeway_core::HeapSource::new(0);
    lab.stage.answer(&mut lab.rig.ctx(), direct);
    lab.rig.assert_counted(&[("drop.no-frame", 1)]);
    lab.stage.answer(&mut lab.rig.ctx(), Box::new(lost));
    lab.rig.assert_counted(&[("drop.no-route", 1)]);
    assert_eq!(lab.rig.take_events(), []);
}

#[test]
fn rfc9915_22_a_relay_speaks_for_links_behind_its_network_only() {
    let h = host(1);
    let release = h.message(M::Release, &[ia_na(1, &["2001:db8:64::101"])]);
    // RFC 6939: whoever says so would be that host; and the answer is not needed to do harm.
    let claims = [raw(79, &[&[0, 1][..], &h.mac.0].concat())];
    let forward = |link: &str| relayed(0, link, "fe80::9", &claims, &release);
    let mut lab = Lab::new(config());
    lab.server.lease(&h);
    let elsewhere = Verdict::Drop(DropReason::Dhcp6RelayElsewhere);
    let untrusted = Verdict::Drop(DropReason::Dhcp6RelayUntrusted);
    let from = [("uplink0", "2001:db8:6::666", untrusted), ("tenant1", "2001:db8:65::666", elsewhere)];
    for (interface, source, verdict) in from {
        for to in ["2001:db8:64::1", "ff05::1:3"] {
            let packet = ip6(source, to).udp(547, 547, &forward("2001:db8:64::"));
            assert_eq!(lab.receive(interface, host(66).mac, &packet), verdict, "{interface} {to}");
        }
    }
    // RFC 9915 22: without the word of the configuration a host on the very link is no relay either.
    let mut strict = Lab::new(Config { relays: Vec::new(), ..config() });
    let packet = ip6("2001:db8:64::666", "ff05::1:3").udp(547, 547, &forward("2001:db8:64::"));
    assert_eq!(strict.receive("tenant0", host(66).mac, &packet), untrusted);
    assert!(lab.ring.is_empty());
    // And what comes from the Internet takes nothing of what is for all.
    let mut flooded = Lab::new(Config { rate: (1, 1), ..config() });
    let packet = ip6("2001:db8:6::666", "2001:db8:64::1").udp(547, 547, &forward("2001:db8:64::"));
    for _ in 0..10 {
        assert_eq!(flooded.receive("uplink0", host(66).mac, &packet), untrusted);
    }
    let solicit = packet_of(&host(9), M::Solicit, &[ia_na(1, &[])]);
    assert_eq!(flooded.receive("tenant0", host(9).mac, &solicit), Verdict::Consume);
    // The address of the relay that is closest to the client counts.
    let nested = relayed(1, "2001:db8:65::1", "2001:db8:65::2", &[], &forward("2001:db8:64::"));
    let packet = ip6("2001:db8:65::666", "ff05::1:3").udp(547, 547, &nested);
    assert_eq!(lab.receive("tenant1", host(66).mac, &packet), elsewhere);
    lab.rig.assert_counted(&[]);
    let packet = ip6("2001:db8:64::77", "ff05::1:3").udp(547, 547, &forward("2001:db8:64::"));
    assert_eq!(lab.receive("tenant0", host(77).mac, &packet), Verdict::Consume);
    lab.rig.assert_counted(&[("dhcp6-asked", 1)]);
}

#[test]
fn a_client_beyond_its_limit_takes_nothing_of_what_is_for_all() {
    let mut limited = config();
    limited.client_rate = (1, 2);
    limited.rate = (1, 4);
    let mut lab = Lab::new(limited);
    let solicit = |h: &Host| packet_of(h, M::Solicit, &[ia_na(1, &[])]);
    for _ in 0..50 {
        let _ = lab.receive("tenant0", host(9).mac, &solicit(&host(9)));
    }
    for n in 1..=2 {
        assert_eq!(lab.receive("tenant0", host(n).mac, &solicit(&host(n))), Verdict::Consume, "host {n}");
    }
}
