use super::*;
use crate::config::{Advertised, Config, EncryptedDns, Pref64, Preference, PrefixInfo, RouteInfo};
use crate::message::tests::{Heard as Ra, hear};
use crate::options::tests::Seen;
use causeway_core::{HeapFrame, Interfaces, Packet, Prefix6};
use causeway_testkit::{Ip6, Rig, ip6, lab_interfaces, mac, poke};
use causeway_wire::checksum;
use proptest::prelude::*;

mod withdrawn;

const HOST: &str = "fe80::9";
const TENANT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0x64, 1]);

fn p(text: &str) -> Prefix6 {
    text.parse().unwrap()
}

/// The lab's settings.
pub(crate) fn lab() -> Config {
    let seconds = Duration::from_secs;
    Config {
        advertised: Advertised {
            hop_limit: 64,
            managed: true,
            other: true,
            preference: Preference::Medium,
            router_lifetime: seconds(1800),
            reachable_time: Duration::ZERO,
            retransmit_time: Duration::ZERO,
            mtu: Some(1500),
            link_layer: true,
            prefixes: vec![PrefixInfo {
                prefix: p("2001:db8:64::/64"),
                on_link: true,
                autonomous: false,
                valid: seconds(2_592_000),
                preferred: seconds(604_800),
            }],
            routes: Vec::new(),
            dns_servers: vec!["2001:db8:64::53".parse().unwrap()],
            search: vec!["example".to_owned()],
            dns_lifetime: seconds(1800),
            encrypted_dns: Vec::new(),
            pref64: vec![Pref64 { prefix: p("2001:db8:64:ff9b::/96"), lifetime: seconds(1800) }],
            captive_portal: None,
        },
        max_interval: seconds(600),
        min_interval: seconds(200),
        unicast: true,
    }
}

/// A stage over the lab, with everything around it.
struct Gate {
    rig: Rig,
    stage: Stage,
    plan: Arc<Advertisements>,
}

/// What left, and where to.
type Out = (IfId, Via, Ra);

impl Gate {
    fn over(interfaces: Vec<Interface>, worker: u16, configs: Vec<Option<Config>>) -> Self {
        let mut rig = Rig::new(interfaces, &[], &[]).unwrap();
        rig.worker = (worker, 2);
        let plan = Arc::new(Advertisements::new(&rig.interfaces, configs));
        let stage = Stage::new(Arc::clone(&plan), worker, 7);
        Self { rig, stage, plan }
    }

    /// Worker 0, advertising on `tenant0`.
    fn new(config: Config) -> Self {
        Self::over(lab_interfaces(), 0, vec![Some(config)])
    }

    fn receive(&mut self, ingress: &str, octets: &[u8]) -> Verdict {
        let mut packet = self.rig.packet(ingress, octets);
        self.hand(&mut packet)
    }

    fn hand(&mut self, packet: &mut Packet<HeapFrame>) -> Verdict {
        self.stage.receive(&mut self.rig.ctx(), packet)
    }

    fn sent(&mut self) -> Vec<Out> {
        let sent = self.rig.sent();
        sent.iter().map(|l| (l.egress.interface(), l.egress.via(), hear(&l.octets))).collect()
    }

    /// Polls now.
    fn poll(&mut self) -> Vec<Out> {
        self.stage.tick(&mut self.rig.ctx());
        self.sent()
    }

    /// Polls every 50 ms for this long: what left, with the time since the first poll in milliseconds.
    fn run(&mut self, time: Duration) -> Vec<(u64, Out)> {
        let start = self.rig.now;
        let mut all = Vec::new();
        loop {
            let at = self.rig.now.since(start);
            all.extend(self.poll().into_iter().map(|o| (at.as_millis() as u64, o)));
            if at >= time {
                return all;
            }
            self.rig.advance(Duration::from_millis(50));
        }
    }

    /// Lets the initial ones go by, and counts begin anew.
    fn settle(&mut self) {
        let sent = self.run(Duration::from_secs(60));
        assert!(sent.len() >= 3, "{}", sent.len());
        self.uncount();
    }

    fn uncount(&mut self) {
        self.rig.counters = causeway_core::Counters::new();
        self.rig.assert_counted(&[]);
    }

    fn adopt(&mut self, interfaces: Vec<Interface>, configs: Vec<Option<Config>>) {
        self.rig.interfaces = Interfaces::new(interfaces);
        self.plan = Arc::new(self.plan.successor(&self.rig.interfaces, configs, self.rig.now));
        self.stage.set_config(Arc::clone(&self.plan), self.rig.now);
    }
}

fn all_nodes() -> Via {
    Via::Mac(MacAddr::from_ipv6_multicast(ALL_NODES))
}

/// The packet with this ICMPv6 message and a hop limit of 255.
fn nd(from: &Ip6, kind: u8, code: u8, word: [u8; 4], body: &[u8]) -> Vec<u8> {
    from.clone().hop_limit(255).icmp(kind, code, word, body)
}

/// An advertisement of somebody else.
fn foreign(src: &str) -> Vec<u8> {
    nd(&ip6(src, "ff02::1"), 134, 0, [64, 0, 7, 8], &[0; 8])
}

/// The ICMPv6 checksum made right again after a change.
fn fixed(mut b: Vec<u8>) -> Vec<u8> {
    let ip = causeway_wire::ipv6::Ipv6Repr::parse(&b).unwrap();
    causeway_wire::put16(&mut b, 42, 0);
    let pseudo = checksum::pseudo6(ip.src, ip.dst, 58, ip.payload_octets as u32);
    let sum = !checksum::fold(checksum::sum(&b[40..], pseudo));
    causeway_wire::put16(&mut b, 42, sum);
    b
}

#[test]
fn rfc4861_6_2_6_a_solicitation_with_an_address_is_answered_in_the_same_poll() {
    for worker in [0, 1] {
        let mut g = Gate::over(lab_interfaces(), worker, vec![Some(lab())]);
        assert_eq!(g.receive("tenant0", &ip6(HOST, "ff02::2").rs(Some(mac(9)))), Verdict::Consume);
        let sent = g.sent();
        assert_eq!(sent.len(), 1);
        let (interface, via, ra) = &sent[0];
        assert_eq!((*interface, *via), (IfId(0), Via::Mac(mac(9))));
        assert_eq!((ra.dst, ra.router_lifetime), (HOST.parse().unwrap(), 1800));
        // RFC 4861 6.2.3: with everything.
        assert_eq!(ra.options.len(), 6);
        g.rig.assert_counted(&[("rs-received", 1), ("ra-unicast", 1)]);
    }
}

#[test]
fn rfc4861_6_2_6_without_a_link_layer_option_the_answer_goes_where_the_frame_came_from() {
    let mut g = Gate::new(lab());
    assert_eq!(g.receive("tenant0", &ip6("2001:db8:64::101", "fe80::1").rs(None)), Verdict::Consume);
    let sent = g.sent();
    assert_eq!(sent[0].1, Via::Mac(mac(0x77)));
    assert_eq!(sent[0].2.dst, "2001:db8:64::101".parse::<Ipv6Addr>().unwrap());
    g.rig.assert_counted(&[("rs-received", 1), ("ra-unicast", 1)]);
}

#[test]
fn rfc4861_6_1_1_solicitations_that_are_not_valid() {
    use DropReason::{LocalBadChecksum, LocalFragment, LocalMalformed, NdHopLimit, NdMalformed};
    let from = ip6(HOST, "ff02::2");
    let rs = || from.rs(Some(mac(9)));
    let with = |options: &[u8]| nd(&from, 133, 0, [0; 4], options);
    let rows = [
        ("hop limit 254: it came through a router", from.clone().hop_limit(254).rs(None), NdHopLimit),
        ("wrong checksum", poke(rs(), 42, &[1, 2]), LocalBadChecksum),
        ("code not zero", nd(&from, 133, 1, [0; 4], &[]), NdMalformed),
        ("an option of length zero", with(&[1, 0, 2, 0, 0, 0, 0, 9]), NdMalformed),
        ("an option that is cut", with(&[1, 2, 2, 0, 0, 0, 0, 9]), NdMalformed),
        ("one octet behind the last option", with(&[14, 1, 0, 0, 0, 0, 0, 0, 1]), NdMalformed),
        (
            "a link-layer address of two units",
            with(&[1, 2, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]),
            NdMalformed,
        ),
        ("a link-layer address of a group", with(&[1, 1, 3, 0, 0, 0, 0, 9]), NdMalformed),
        ("a link-layer address without an address", ip6("::", "ff02::2").rs(Some(mac(9))), NdMalformed),
        ("nothing behind the IPv6 header", from.clone().hop_limit(255).raw(58, &[]), LocalMalformed),
        ("an atomic fragment (RFC 6980)", from.clone().fragment(0, false, 7).rs(None), NdMalformed),
        (
            "a first fragment (RFC 6980)",
            from.clone().hop_limit(255).fragment(0, true, 7).raw(58, &[133; 16]),
            LocalFragment,
        ),
    ];
    for (sentence, octets, reason) in rows {
        let mut g = Gate::new(lab());
        assert_eq!(g.receive("tenant0", &octets), Verdict::Drop(reason), "{sentence}");
        assert!(g.sent().is_empty(), "{sentence}");
        g.rig.assert_counted(&[]);
    }
}

/// The checksum of a message of four octets is right, so that its length is what is refused.
#[test]
fn rfc4861_6_1_1_a_solicitation_of_less_than_eight_octets() {
    for n in 4..8 {
        let short =
            ip6(HOST, "ff02::2").hop_limit(255).raw(58, &[&[133, 0, 0, 0][..], &vec![0; n - 4]].concat());
        let mut g = Gate::new(lab());
        assert_eq!(g.receive("tenant0", &fixed(short)), Verdict::Drop(DropReason::NdMalformed), "{n} octets");
        g.rig.assert_counted(&[]);
    }
}

#[test]
fn rfc4861_6_1_1_reserved_bits_and_other_options_are_ignored() {
    let other = [14, 1, 1, 2, 3, 4, 5, 6, 1, 1, 2, 0, 0, 0, 0, 9, 3, 1, 0, 0, 0, 0, 0, 0];
    let rs = nd(&ip6(HOST, "ff02::2"), 133, 0, [1, 2, 3, 4], &other);
    let mut g = Gate::new(lab());
    assert_eq!(g.receive("tenant0", &rs), Verdict::Consume);
    assert_eq!(g.sent()[0].1, Via::Mac(mac(9)));
    g.rig.assert_counted(&[("rs-received", 1), ("ra-unicast", 1)]);
}

#[test]
fn what_comes_from_ourselves_is_dropped() {
    let mut g = Gate::new(lab());
    for octets in [ip6("fe80::1", "ff02::2").rs(None), ip6("2001:db8:64::1", "ff02::2").rs(None)] {
        assert_eq!(g.receive("tenant0", &octets), Verdict::Drop(DropReason::OwnSource));
    }
    // Sent back by a switch.
    for octets in [foreign("fe80::1"), ip6(HOST, "ff02::2").rs(None)] {
        let mut packet = g.rig.packet("tenant0", &octets);
        packet.meta.src_mac = TENANT_MAC;
        assert_eq!(g.hand(&mut packet), Verdict::Drop(DropReason::OwnSource));
    }
    assert!(g.sent().is_empty() && g.rig.take_events().is_empty());
    g.rig.assert_counted(&[]);
}

#[test]
fn rfc4861_6_2_1_and_6_2_2_nothing_is_sent_where_nothing_is_advertised() {
    let mut g = Gate::new(lab());
    for interface in ["uplink0", "tenant1"] {
        let rs = ip6(HOST, "ff02::2").rs(Some(mac(9)));
        assert_eq!(g.receive(interface, &rs), Verdict::Drop(DropReason::NdIgnored), "{interface}");
        let id = g.rig.interface(interface);
        g.stage.unicast(&mut g.rig.ctx(), id, HOST.parse().unwrap(), mac(9));
    }
    g.stage.unicast(&mut g.rig.ctx(), IfId(77), HOST.parse().unwrap(), mac(9));
    assert!(g.sent().is_empty());
    assert!(g.run(Duration::from_secs(4000)).iter().all(|(_, (id, ..))| *id == IfId(0)));
}

#[test]
fn redirects_are_ignored() {
    let redirect = nd(&ip6(HOST, "fe80::1"), 137, 0, [0; 4], &[0; 32]);
    let mut g = Gate::new(lab());
    assert_eq!(g.receive("tenant0", &redirect), Verdict::Drop(DropReason::NdIgnored));
    g.rig.assert_counted(&[]);
}

#[test]
fn rfc6104_5_4_another_router_on_a_tenant_network_is_told_of_and_never_believed() {
    let mut g = Gate::new(lab());
    g.settle();
    let rogue = Event::RogueRouter { interface: IfId(0), address: HOST.parse().unwrap(), mac: mac(0x77) };
    let before = g.plan.config(IfId(0)).cloned();
    for _ in 0..3 {
        assert_eq!(g.receive("tenant0", &foreign(HOST)), Verdict::Drop(DropReason::RogueRa));
    }
    // Told once in ten seconds, each network for itself.
    assert_eq!(g.rig.take_events(), [rogue]);
    assert_eq!(g.receive("tenant1", &foreign(HOST)), Verdict::Drop(DropReason::RogueRa));
    assert_eq!(
        g.rig.take_events(),
        [Event::RogueRouter { interface: IfId(2), address: HOST.parse().unwrap(), mac: mac(0x77) }]
    );
    g.rig.advance(ALARM_INTERVAL);
    // From an address of ours, by somebody else.
    assert_eq!(g.receive("tenant0", &foreign("fe80::1")), Verdict::Drop(DropReason::RogueRa));
    assert!(matches!(g.rig.take_events()[..], [Event::RogueRouter { interface: IfId(0), .. }]));
    assert_eq!(g.plan.config(IfId(0)).cloned(), before);
    assert!(g.sent().is_empty());
    g.rig.assert_counted(&[]);
}

#[test]
fn rfc4861_6_1_2_advertisements_that_are_not_valid_raise_no_alarm() {
    use DropReason::{LocalBadChecksum, NdHopLimit, NdMalformed};
    let from = ip6(HOST, "ff02::1");
    let rows = [
        ("from a global address", foreign("2001:db8:64::101"), NdMalformed),
        ("through a router", from.clone().hop_limit(64).icmp(134, 0, [0; 4], &[0; 8]), NdHopLimit),
        ("wrong checksum", poke(foreign(HOST), 42, &[1, 2]), LocalBadChecksum),
        ("code not zero", nd(&from, 134, 1, [0; 4], &[0; 8]), NdMalformed),
        ("15 octets", nd(&from, 134, 0, [0; 4], &[0; 7]), NdMalformed),
        ("an option of length zero", nd(&from, 134, 0, [0; 4], &[0; 16]), NdMalformed),
    ];
    for (sentence, octets, reason) in rows {
        let mut g = Gate::new(lab());
        assert_eq!(g.receive("tenant0", &octets), Verdict::Drop(reason), "{sentence}");
        assert!(g.rig.take_events().is_empty(), "{sentence}");
        g.rig.assert_counted(&[]);
    }
}

#[test]
fn routers_on_an_uplink_are_nothing_to_us() {
    let mut g = Gate::new(lab());
    assert_eq!(g.receive("uplink0", &foreign(HOST)), Verdict::Drop(DropReason::NdIgnored));
    assert!(g.rig.take_events().is_empty());
    g.rig.assert_counted(&[]);
}

#[test]
fn rfc4861_6_2_6_without_an_address_all_nodes_are_told_within_half_a_second() {
    let mut g = Gate::new(lab());
    g.settle();
    assert_eq!(g.receive("tenant0", &ip6("::", "ff02::2").rs(None)), Verdict::Consume);
    assert!(g.sent().is_empty());
    g.rig.assert_counted(&[("rs-received", 1), ("ra-solicited", 1)]);
    let sent = g.run(Duration::from_secs(5));
    assert_eq!(sent.len(), 1);
    let (at, (interface, via, ra)) = &sent[0];
    assert!(*at <= 550, "{at} ms");
    assert_eq!((*interface, *via, ra.dst), (IfId(0), all_nodes(), ALL_NODES));
    g.rig.assert_counted(&[("ra-sent", 1)]);
}

#[test]
fn rfc4861_6_2_6_where_so_configured_all_nodes_are_told_whoever_asks() {
    let mut g = Gate::new(Config { unicast: false, ..lab() });
    g.settle();
    for n in 1..=100u8 {
        assert_eq!(g.receive("tenant0", &ip6(HOST, "ff02::2").rs(Some(mac(n)))), Verdict::Consume);
    }
    assert_eq!(g.run(Duration::from_secs(5)).len(), 1);
    g.rig.assert_counted(&[("rs-received", 100), ("ra-solicited", 100), ("ra-sent", 1)]);
}

/// A worker that may not tell all nodes leaves a note for the one that does.
#[test]
fn rfc4861_6_2_6_a_question_to_any_worker_is_answered_by_worker_0() {
    let mut g = Gate::new(lab());
    g.settle();
    let mut other = Stage::new(Arc::clone(&g.plan), 1, 8);
    let mut packet = g.rig.packet("tenant0", &ip6("::", "ff02::2").rs(None));
    assert_eq!(other.receive(&mut g.rig.ctx(), &mut packet), Verdict::Consume);
    for _ in 0..100 {
        other.tick(&mut g.rig.ctx());
    }
    assert!(g.sent().is_empty());
    let sent = g.run(Duration::from_secs(5));
    assert_eq!(sent.len(), 1);
    assert!(sent[0].0 <= 550);
    g.rig.assert_counted(&[("rs-received", 1), ("ra-solicited", 1), ("ra-sent", 1)]);
}

#[test]
fn a_flood_of_questions_has_bounded_answers_and_then_one_for_all() {
    let mut g = Gate::new(lab());
    g.settle();
    g.rig.source = causeway_core::HeapSource::new(10_000);
    for _ in 0..2000u32 {
        assert_eq!(g.receive("tenant0", &ip6(HOST, "ff02::2").rs(None)), Verdict::Consume);
        g.sent();
    }
    let limited = 2000 - u64::from(ANSWERS.1);
    let unicast = u64::from(ANSWERS.1);
    g.rig.assert_counted(&[
        ("rs-received", 2000),
        ("ra-unicast", unicast),
        ("ra-limited", limited),
        ("ra-solicited", limited),
    ]);
    let sent = g.run(Duration::from_secs(5));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1.1, all_nodes());
    g.rig.assert_counted(&[("ra-sent", 1)]);
    // Then the bucket has filled again.
    assert_eq!(g.receive("tenant0", &ip6(HOST, "ff02::2").rs(None)), Verdict::Consume);
    assert_eq!(g.sent().len(), 1);
}

#[test]
fn rfc4861_6_2_4_the_first_three_and_then_at_random_between_the_bounds() {
    let mut g = Gate::new(lab());
    let sent = g.run(Duration::from_secs(4000));
    let times: Vec<u64> = sent.iter().map(|(at, _)| *at).collect();
    assert_eq!(times[..3], [0, 16_000, 32_000]);
    assert!(times.windows(2).skip(2).all(|w| (200_000..=600_050).contains(&(w[1] - w[0]))), "{times:?}");
    assert!(sent.iter().all(|(_, (_, via, ra))| *via == all_nodes() && ra.dst == ALL_NODES));
    g.rig.assert_counted(&[("ra-sent", sent.len() as u64)]);
}

#[test]
fn rfc9568_6_4_1_on_becoming_active_every_network_is_told_at_once() {
    let mut g = Gate::over(lab_interfaces(), 0, vec![Some(lab()), None, Some(lab())]);
    g.settle();
    g.rig.advance(Duration::from_secs(10_000));
    g.stage.became_active(&mut g.rig.ctx());
    let sent = g.sent();
    assert_eq!(sent.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [IfId(0), IfId(2)]);
    g.rig.assert_counted(&[("ra-sent", 2)]);
    // And twice more, as in the beginning.
    let times: Vec<u64> = g.run(Duration::from_secs(40)).iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [16_000, 16_000, 32_000, 32_000]);
}

#[test]
fn rfc4861_6_2_6_becoming_active_twice_keeps_three_seconds_apart() {
    let mut g = Gate::new(lab());
    g.stage.became_active(&mut g.rig.ctx());
    assert_eq!(g.sent().len(), 1);
    g.rig.advance(Duration::from_secs(1));
    g.stage.became_active(&mut g.rig.ctx());
    assert!(g.sent().is_empty());
    assert_eq!(g.run(Duration::from_secs(10)).iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2000]);
}

#[test]
fn rfc4861_4_2_the_virtual_router_speaks_where_there_is_one() {
    let mut interfaces = lab_interfaces();
    let virtual_mac = MacAddr([0, 0, 0x5e, 0, 2, 64]);
    let own: Ipv6Addr = "fe80::ff:fe00:6401".parse().unwrap();
    interfaces[0].real = Some(causeway_core::net::Real { mac: interfaces[0].mac, addrs: vec![own.into()] });
    interfaces[0].mac = virtual_mac;
    interfaces[0].more_link_local = vec![own];
    let mut g = Gate::over(interfaces, 0, vec![Some(lab())]);
    let sent = g.poll();
    assert_eq!(sent[0].2.source, "fe80::1".parse::<Ipv6Addr>().unwrap());
    assert_eq!(sent[0].2.options[0], Seen::LinkLayer(virtual_mac));
}

#[test]
fn after_a_lease_the_client_is_told_its_gateway() {
    let mut g = Gate::over(lab_interfaces(), 1, vec![Some(lab())]);
    g.stage.unicast(&mut g.rig.ctx(), IfId(0), HOST.parse().unwrap(), mac(9));
    let sent = g.sent();
    assert_eq!((sent.len(), sent[0].1, sent[0].2.dst), (1, Via::Mac(mac(9)), HOST.parse().unwrap()));
    g.rig.assert_counted(&[("ra-unicast", 1)]);
    // Not to what is no host.
    for (address, to) in [("ff02::1", mac(9)), ("::", mac(9)), (HOST, MacAddr::BROADCAST)] {
        g.stage.unicast(&mut g.rig.ctx(), IfId(0), address.parse().unwrap(), to);
    }
    assert!(g.sent().is_empty());
    g.rig.assert_counted(&[]);
    // And not without end.
    g.rig.source = causeway_core::HeapSource::new(10_000);
    for _ in 0..3000 {
        g.stage.unicast(&mut g.rig.ctx(), IfId(0), HOST.parse().unwrap(), mac(9));
        g.sent();
    }
    let left = u64::from(LEASES.1) - 1;
    g.rig.assert_counted(&[("ra-unicast", left), ("ra-limited", 3000 - left)]);
}

#[test]
fn rfc4861_6_2_5_the_end_is_told_once_with_a_lifetime_of_zero() {
    let mut g = Gate::over(lab_interfaces(), 0, vec![Some(lab()), None, Some(lab())]);
    g.settle();
    assert!(g.stage.shutdown(&mut g.rig.ctx()));
    let sent = g.sent();
    assert_eq!(sent.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [IfId(0), IfId(2)]);
    for (_, via, ra) in &sent {
        assert_eq!((*via, ra.dst, ra.router_lifetime, ra.flags & 0x18), (all_nodes(), ALL_NODES, 0, 0));
        assert_eq!(ra.options, [Seen::LinkLayer(TENANT_MAC)]);
    }
    assert!(g.stage.shutdown(&mut g.rig.ctx()));
    assert!(g.run(Duration::from_secs(4000)).is_empty());
    g.rig.assert_counted(&[("ra-sent", 2)]);
    // A worker that tells all nodes nothing has no end to tell.
    let mut other = Gate::over(lab_interfaces(), 1, vec![Some(lab())]);
    other.poll();
    assert!(other.stage.shutdown(&mut other.rig.ctx()));
    assert!(other.sent().is_empty());
}

/// A tenant network on VLAN `n`.
fn vlan(n: u16) -> Interface {
    let link = format!("2001:db8:{n:x}::/64");
    let own = format!("2001:db8:{n:x}::1").parse().unwrap();
    let tenant = lab_interfaces().remove(0);
    Interface {
        name: format!("t{n}"),
        vlan: Some(n),
        addrs6: vec![(own, p(&link))],
        sources6: vec![p(&link)],
        ..tenant
    }
}

#[test]
fn many_networks_are_told_over_several_polls() {
    const N: u16 = 150;
    let interfaces = (1..=N).map(vlan).collect();
    let mut g = Gate::over(interfaces, 0, (0..N).map(|_| Some(lab())).collect());
    g.stage.became_active(&mut g.rig.ctx());
    let mut told = Vec::new();
    let mut polls = 0;
    while told.len() < usize::from(N) {
        let sent = g.sent();
        assert!(!sent.is_empty() && sent.len() <= causeway_core::burst::OUTBOX - LEAVE);
        told.extend(sent.iter().map(|(id, ..)| id.0));
        g.stage.tick(&mut g.rig.ctx());
        polls += 1;
    }
    assert_eq!(polls, 4);
    assert_eq!(told, (0..N).collect::<Vec<_>>());
    g.rig.assert_counted(&[("ra-sent", u64::from(N))]);
    let mut ended = 0;
    while !g.stage.shutdown(&mut g.rig.ctx()) {
        ended += g.sent().len();
    }
    ended += g.sent().len();
    assert_eq!(ended, usize::from(N));
}

#[test]
fn without_frames_nothing_leaves_and_it_is_counted() {
    let mut g = Gate::new(lab());
    g.rig.source = causeway_core::HeapSource::new(0);
    assert!(g.poll().is_empty());
    assert_eq!(g.receive("tenant0", &ip6(HOST, "ff02::2").rs(None)), Verdict::Consume);
    g.rig.assert_counted(&[("drop.no-frame", 2), ("rs-received", 1)]);
}

proptest! {
    /// Anything from anybody, at any time: answers go to who asked, the rest is counted once, and between any two to
    /// all nodes are three seconds.
    #[test]
    fn strangers_cannot_break_the_rules(
        seed: u64,
        steps in proptest::collection::vec((0usize..6, 0u64..4_000, any::<u8>(), any::<[u8; 8]>()), 1..120),
    ) {
        let mut g = Gate::over(lab_interfaces(), 0, vec![Some(lab())]);
        g.stage = Stage::new(Arc::clone(&g.plan), 0, seed);
        let mut last: Option<Instant> = None;
        for (what, ms, n, body) in steps {
            g.rig.advance(Duration::from_millis(ms));
            let mut octets = match what {
                0 => ip6(HOST, "ff02::2").rs(Some(mac(n))),
                1 => ip6("::", "ff02::2").rs(None),
                2 => foreign(HOST),
                3 => nd(&ip6(HOST, "ff02::2"), 133, 0, [0; 4], &body),
                4 => nd(&ip6(HOST, "ff02::1"), 134, 0, [0; 4], &[&[0; 8][..], &body].concat()),
                _ => ip6(HOST, "ff02::2").rs(None),
            };
            if what == 5 {
                let at = 40 + usize::from(n) % (octets.len() - 40);
                octets[at] ^= body[0];
            }
            let verdict = g.receive("tenant0", &octets);
            let answers = g.sent();
            prop_assert!(answers.len() <= 1);
            for (id, via, ra) in &answers {
                prop_assert_eq!(verdict, Verdict::Consume);
                prop_assert_eq!((*id, ra.dst), (IfId(0), HOST.parse::<Ipv6Addr>().unwrap()));
                prop_assert!(*via != all_nodes());
            }
            for (_, via, ra) in g.poll() {
                prop_assert_eq!((via, ra.dst), (all_nodes(), ALL_NODES));
                prop_assert!(last.is_none_or(|at| g.rig.now.since(at) >= crate::schedule::MIN_DELAY));
                last = Some(g.rig.now);
            }
        }
    }
}
