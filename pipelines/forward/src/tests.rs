use super::*;
use causeway_core::route::{Route6, Target};
use causeway_core::{HeapFrame, Prefix6, Via};
use causeway_flowtable::FlowTable;
use causeway_testkit::mutate::{hostile, samples};
use causeway_testkit::{Leaving, Rig, describe, ip6, lab_interfaces, mac, poke, tcp};
use proptest::prelude::*;

const VM1: &str = "2001:db8:64::101";
const VM2: &str = "2001:db8:64::102";
const OTHER: &str = "2001:db8:65::101";
const FAR: &str = "2001:db8:6::10";
const GATEWAY: &str = "2001:db8:64::1";
const UPLINK: &str = "2001:db8:ffff::2";
const ROUTER: &str = "2001:db8:ffff::1";

/// Runs the stage with an empty flow table.
fn run(stage: &mut Forward, rig: &mut Rig, packets: &mut [Packet<HeapFrame>], verdicts: &mut [Verdict]) {
    let table = table(64);
    let mut worker = table.worker(0).unwrap();
    stage.process(&mut rig.ctx(), &worker.enter(), packets, verdicts);
}

pub(crate) fn table(sessions: u32) -> Arc<FlowTable> {
    let config = causeway_flowtable::Config {
        sessions: sessions as _,
        mappings: 0,
        spliced: 0,
        workers: 1,
        control_readers: 1,
        seed: [1, 2, 3, 4],
    };
    FlowTable::new(&config).unwrap()
}

fn prefix(t: &str) -> Prefix6 {
    t.parse().unwrap()
}

/// The lab with a rejecting route, a delegated prefix behind vm1, and a small tenant network.
fn rig() -> Rig {
    let via = Target::Via { gateway: VM1.parse().unwrap(), interface: None };
    let mut rig = Rig::lab_with(&[
        Route6 { prefix: prefix("2001:db8:bad::/48"), target: Target::Unreachable },
        Route6 { prefix: prefix("2001:db8:64:8000::/64"), target: via },
    ]);
    let mut interfaces = lab_interfaces();
    interfaces[2].mtu = 1280;
    rig.interfaces = causeway_core::Interfaces::new(interfaces);
    rig
}

fn stage(rig: &Rig, isolation: &Isolation) -> Forward {
    Forward::new(Arc::new(Config::new(&rig.interfaces, isolation, 1000, 100).unwrap()))
}

enum Fate {
    /// Forwarded through this interface to this neighbour.
    To(&'static str, &'static str),
    /// Dropped for this reason.
    Drop(DropReason),
}

/// One packet: a sentence, how it arrives, its fate, and the error that its sender gets: through which
/// interface, from where, type, code and word. The counters follow: one forwarded, or one error sent.
struct Row {
    sentence: &'static str,
    isolation: Isolation,
    ingress: &'static str,
    packet: Vec<u8>,
    fate: Fate,
    error: Option<(&'static str, &'static str, u8, u8, u32)>,
}

impl Row {
    fn run(self) {
        let Self { sentence, isolation, ingress, packet, fate, error } = self;
        let mut rig = rig();
        let mut stage = stage(&rig, &isolation);
        let mut packets = [rig.packet(ingress, &packet)];
        let mut verdicts = [Verdict::Consume];
        run(&mut stage, &mut rig, &mut packets, &mut verdicts);
        let mut want_octets = packet.clone();
        let want = match fate {
            Fate::To(interface, via) => {
                want_octets[7] -= 1;
                Verdict::Forward { egress: rig.egress(interface, via) }
            }
            Fate::Drop(reason) => Verdict::Drop(reason),
        };
        assert_eq!(verdicts[0], want, "{sentence}");
        assert_eq!(describe(packets[0].bytes()), describe(&want_octets), "{sentence}");
        assert_eq!(packets[0].bytes(), want_octets, "{sentence}");
        let sent = rig.sent();
        if let Some((interface, from, kind, code, word)) = error {
            let to = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&packet[8..24]).unwrap());
            let about = &packet[..packet.len().min(1232)];
            let octets = ip6(from, to).icmp_error(kind, code, word, about);
            let egress = if to.is_unicast_link_local() {
                Egress::new(rig.interface(interface), Via::Mac(mac(0x77)))
            } else {
                rig.routes.lookup6(to).unwrap()
            };
            assert_eq!(egress.interface(), rig.interface(interface), "{sentence}");
            assert_eq!(sent, [Leaving { egress, octets }], "{sentence}");
            rig.assert_counted(&[("icmp-errors-sent", 1)]);
        } else {
            assert_eq!(sent, [], "{sentence}");
            let forwarded = u64::from(matches!(want, Verdict::Forward { .. }));
            let counted = [("forwarded6", forwarded)];
            rig.assert_counted(&counted[..usize::from(forwarded == 1)]);
        }
    }
}

fn udp(src: &str, dst: &str, octets: usize) -> Vec<u8> {
    ip6(src, dst).udp(4000, 53, &vec![7; octets - 48])
}

fn row(sentence: &'static str, ingress: &'static str, packet: Vec<u8>, fate: Fate) -> Row {
    Row { sentence, isolation: Isolation::default(), ingress, packet, fate, error: None }
}

impl Row {
    fn told(self, by: &'static str, from: &'static str, kind: u8, code: u8, word: u32) -> Self {
        Self { error: Some((by, from, kind, code, word)), ..self }
    }

    fn with(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }
}

#[test]
fn packets_go_where_their_route_says() {
    for r in [
        row("out by the default route", "tenant0", udp(VM1, FAR, 100), Fate::To("uplink0", ROUTER)),
        row("in to a neighbour", "uplink0", udp(FAR, VM1, 100), Fate::To("tenant0", VM1)),
        row(
            "in to a delegated prefix",
            "uplink0",
            udp(FAR, "2001:db8:64:8000::5", 100),
            Fate::To("tenant0", VM1),
        ),
        row(
            "to a host of the uplink",
            "tenant0",
            udp(VM1, "2001:db8:ffff::77", 100),
            Fate::To("uplink0", "2001:db8:ffff::77"),
        ),
        row("from a tenant to its own network", "tenant0", udp(VM1, VM2, 100), Fate::To("tenant0", VM2)),
        row(
            "an extension header is not looked at",
            "tenant0",
            ip6(VM1, FAR).hop_by_hop(&[0xff, 0]).udp(1, 2, b""),
            Fate::To("uplink0", ROUTER),
        ),
        row(
            "a chain that cannot be walked is not looked at",
            "tenant0",
            poke(ip6(VM1, FAR).dest_options(&[]).udp(1, 2, b""), 41, &[99]),
            Fate::To("uplink0", ROUTER),
        ),
        row(
            "a later fragment",
            "tenant0",
            ip6(VM1, FAR).fragment(5, false, 9).raw(17, b"rest"),
            Fate::To("uplink0", ROUTER),
        ),
    ] {
        r.run();
    }
}

#[test]
fn rfc4443_3_1_no_route() {
    row("a route rejects", "tenant0", udp(VM1, "2001:db8:bad::1", 100), Fate::Drop(DropReason::NoRoute))
        .told("tenant0", GATEWAY, 1, 6, 0)
        .run();
    let mut rig = Rig::new(lab_interfaces(), &[], &[]).unwrap();
    let mut stage = stage(&rig, &Isolation::default());
    let packet = udp(VM1, FAR, 100);
    let mut verdicts = [Verdict::Consume];
    let mut packets = [rig.packet("tenant0", &packet)];
    run(&mut stage, &mut rig, &mut packets, &mut verdicts);
    assert_eq!(verdicts, [Verdict::Drop(DropReason::NoRoute)]);
    assert_eq!(rig.sent()[0].octets, ip6(GATEWAY, VM1).icmp_error(1, 0, 0, &packet));
    rig.assert_counted(&[("icmp-errors-sent", 1)]);
}

#[test]
fn rfc8200_3_hop_limit() {
    let hops = |n: u8| ip6(VM1, FAR).hop_limit(n).udp(1, 2, b"probe");
    for n in [0, 1] {
        row("used up", "tenant0", hops(n), Fate::Drop(DropReason::HopLimit))
            .told("tenant0", GATEWAY, 3, 0, 0)
            .run();
    }
    for n in [2, 64, 255] {
        row("lowered by one", "tenant0", hops(n), Fate::To("uplink0", ROUTER)).run();
    }
    row(
        "used up from outside",
        "uplink0",
        ip6(FAR, VM1).hop_limit(1).udp(1, 2, b""),
        Fate::Drop(DropReason::HopLimit),
    )
    .told("uplink0", UPLINK, 3, 0, 0)
    .run();
    row(
        "no error about an error",
        "tenant0",
        ip6(VM1, FAR).hop_limit(1).icmp_error(1, 0, 0, &udp(FAR, VM1, 60)),
        Fate::Drop(DropReason::HopLimit),
    )
    .run();
}

#[test]
fn a_translated_packet_loses_no_second_hop() {
    let mut rig = rig();
    let mut stage = stage(&rig, &Isolation::default());
    let octets = ip6(FAR, VM1).hop_limit(1).udp(1, 2, b"");
    let mut packets = [rig.packet("uplink0", &octets)];
    packets[0].meta.hop_done = true;
    let mut verdicts = [Verdict::Consume];
    run(&mut stage, &mut rig, &mut packets, &mut verdicts);
    assert_eq!(verdicts, [Verdict::Forward { egress: rig.egress("tenant0", VM1) }]);
    assert_eq!(packets[0].bytes(), octets);
    rig.assert_counted(&[("forwarded6", 1)]);
}

#[test]
fn rfc4443_3_2_packet_too_big_states_the_mtu_of_the_next_link() {
    row("just fits", "tenant0", udp(VM1, FAR, 1500), Fate::To("uplink0", ROUTER)).run();
    row("one octet more", "tenant0", udp(VM1, FAR, 1501), Fate::Drop(DropReason::TooBig))
        .told("tenant0", GATEWAY, 2, 0, 1500)
        .run();
    row("a smaller link just fits", "uplink0", udp(FAR, OTHER, 1280), Fate::To("tenant1", OTHER)).run();
    row(
        "one octet too many for a smaller link",
        "uplink0",
        udp(FAR, OTHER, 1281),
        Fate::Drop(DropReason::TooBig),
    )
    .told("uplink0", UPLINK, 2, 0, 1280)
    .run();
}

#[test]
fn rfc4291_2_5_6_nothing_link_local_leaves_its_link() {
    let scope = || Fate::Drop(DropReason::LinkLocalScope);
    row("from link-local", "tenant0", udp("fe80::77", FAR, 100), scope())
        .told("tenant0", "fe80::1", 1, 2, 0)
        .run();
    row("from link-local to the same link", "tenant0", udp("fe80::77", VM2, 100), scope())
        .told("tenant0", "fe80::1", 1, 2, 0)
        .run();
    row("to link-local", "tenant0", udp(VM1, "fe80::99", 100), scope()).run();
}

#[test]
fn rfc4291_2_5_2_addresses_that_stay_in_their_node_are_not_forwarded() {
    for (src, dst) in [("::", FAR), ("::1", FAR), (VM1, "::1"), (VM1, "::"), ("ff02::1", FAR)] {
        row("never on the wire", "tenant0", udp(src, dst, 100), Fate::Drop(DropReason::Ip6BadAddress)).run();
    }
    row("a group", "tenant0", udp(VM1, "ff0e::1", 100), Fate::Drop(DropReason::MulticastNotOurs)).run();
}

#[test]
fn tenant_networks_are_strangers_unless_the_configuration_says_otherwise() {
    let other = || udp(VM1, OTHER, 100);
    row("isolated", "tenant0", other(), Fate::Drop(DropReason::TenantIsolation))
        .told("tenant0", GATEWAY, 1, 1, 0)
        .run();
    row("isolated, the other way", "tenant1", udp(OTHER, VM1, 100), Fate::Drop(DropReason::TenantIsolation))
        .told("tenant1", "2001:db8:65::1", 1, 1, 0)
        .run();
    row("not isolated", "tenant0", other(), Fate::To("tenant1", OTHER)).with(Isolation::Off).run();
    let listed = || Isolation::On { allow: vec![(IfId(2), IfId(0))] };
    row("listed", "tenant0", other(), Fate::To("tenant1", OTHER)).with(listed()).run();
    row("listed, the other way", "tenant1", udp(OTHER, VM1, 100), Fate::To("tenant0", VM1))
        .with(listed())
        .run();
}

#[test]
fn what_nobody_inside_has_does_not_go_back_to_the_uplink() {
    row(
        "no such delegation",
        "uplink0",
        udp(FAR, "2001:db8:64:9999::1", 100),
        Fate::Drop(DropReason::NoTransit),
    )
    .told("uplink0", UPLINK, 1, 0, 0)
    .run();
    row(
        "from the uplink to its own link",
        "uplink0",
        udp(FAR, "2001:db8:ffff::77", 100),
        Fate::Drop(DropReason::NoTransit),
    )
    .told("uplink0", UPLINK, 1, 0, 0)
    .run();
}

#[test]
fn each_packet_of_a_burst_has_its_own_verdict() {
    let mut rig = rig();
    let mut stage = stage(&rig, &Isolation::default());
    let octets =
        [udp(VM1, FAR, 100), udp(VM1, "2001:db8:bad::1", 100), udp(VM1, VM2, 100), udp(VM1, FAR, 1600)];
    let mut packets: Vec<Packet<HeapFrame>> = octets.iter().map(|o| rig.packet("tenant0", o)).collect();
    let mut verdicts = [Verdict::Consume; 4];
    run(&mut stage, &mut rig, &mut packets, &mut verdicts);
    let want = [
        Verdict::Forward { egress: rig.egress("uplink0", ROUTER) },
        Verdict::Drop(DropReason::NoRoute),
        Verdict::Forward { egress: rig.egress("tenant0", VM2) },
        Verdict::Drop(DropReason::TooBig),
    ];
    assert_eq!(verdicts, want);
    assert_eq!(rig.sent().len(), 2);
    rig.assert_counted(&[("forwarded6", 2), ("icmp-errors-sent", 2)]);
}

#[test]
fn rfc4443_2_4_f_errors_keep_to_the_configured_rate_also_after_a_reload() {
    let mut rig = rig();
    let config = |burst| Arc::new(Config::new(&lab(), &Isolation::Off, 0, burst).unwrap());
    let mut stage = Forward::new(config(2));
    let octets = ip6(VM1, FAR).hop_limit(1).tcp(&tcp(1, 2).syn());
    let send = |stage: &mut Forward, rig: &mut Rig| {
        for _ in 0..5 {
            let mut packets = [rig.packet("tenant0", &octets)];
            run(stage, rig, &mut packets, &mut [Verdict::Consume]);
        }
        rig.sent().len()
    };
    assert_eq!(send(&mut stage, &mut rig), 2);
    rig.assert_counted(&[("icmp-errors-sent", 2), ("icmp-errors-limited", 3)]);
    stage.set_config(config(2));
    assert_eq!(send(&mut stage, &mut rig), 0, "a reload that changes nothing gives no new burst");
    stage.set_config(config(3));
    assert_eq!(send(&mut stage, &mut rig), 3);
}

fn lab() -> causeway_core::Interfaces {
    causeway_core::Interfaces::new(lab_interfaces())
}

#[test]
fn a_route_through_an_interface_that_the_settings_do_not_know_is_no_route() {
    let mut rig = rig();
    let mut stage = Forward::new(Arc::new(Config::default()));
    let mut packets = [rig.packet("tenant0", &udp(VM1, FAR, 100))];
    let mut verdicts = [Verdict::Consume];
    run(&mut stage, &mut rig, &mut packets, &mut verdicts);
    assert_eq!(verdicts, [Verdict::Drop(DropReason::NoRoute)]);
    rig.assert_counted(&[]);
}

proptest! {
    #[test]
    fn any_octets_get_a_verdict_and_what_goes_on_differs_in_its_hop_limit_alone(
        octets in hostile(samples(VM1, FAR, "192.0.2.9", "203.0.113.1"), 0),
        ingress in prop::sample::select(vec!["tenant0", "uplink0", "tenant1"]),
    ) {
        let mut rig = rig();
        let mut stage = stage(&rig, &Isolation::default());
        let mut packets = [rig.packet(ingress, &octets)];
        let mut verdicts = [Verdict::Consume];
        run(&mut stage, &mut rig, &mut packets, &mut verdicts);
        let mut want = octets;
        match verdicts[0] {
            Verdict::Forward { .. } => want[7] -= 1,
            Verdict::Drop(_) => {}
            v => prop_assert!(false, "{:?}", v),
        }
        prop_assert_eq!(packets[0].bytes(), &want[..]);
    }
}
