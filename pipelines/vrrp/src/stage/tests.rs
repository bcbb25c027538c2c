use super::*;
use crate::config::Peer4Checksum;
use crate::testing::{Msg, ip};
use causeway_testkit::{Rig, Snapshot, ip4, ip6, poke};
use proptest::prelude::*;

const TENANT: [&str; 3] = ["fe80::1", "2001:db8:64::1", "2001:db8:64::53"];
const UPLINK6: [&str; 2] = ["fe80::2", "2001:db8:ffff::2"];
const OWN_TENANT: &str = "fe80::ff:fe00:6401";
const OWN_UPLINK: &str = "fe80::ff:fe00:6402";
const PEER: &str = "fe80::ff:fe00:7701";

/// Three intervals of 100 ms and 156/256 of one.
const DOWN: Duration = Duration::from_nanos(360_937_500);

fn config() -> Config {
    let router = |interface, source: &str, addresses: &[&str]| VirtualRouter {
        interface: IfId(interface),
        vrid: 64,
        addresses: addresses.iter().map(|a| ip(a)).collect(),
        source: ip(source),
    };
    Config {
        routers: vec![
            router(0, OWN_TENANT, &TENANT),
            router(1, OWN_UPLINK, &UPLINK6),
            router(1, "192.0.2.3", &["192.0.2.2"]),
        ],
        priority: 100,
        interval_cs: 10,
        preempt: true,
        preempt_delay: Duration::ZERO,
        accept: true,
        checksum4: Peer4Checksum::Rfc9568,
    }
}

/// A right advertisement of the peer on the tenant side.
fn peer(priority: u8) -> Msg {
    Msg { interval: 10, ..Msg::new(PEER, priority, &TENANT) }
}

/// The peer's advertisements on all three networks.
fn peers(priority: u8) -> [(&'static str, Msg); 3] {
    let six = Msg { interval: 10, ..Msg::new("fe80::ff:fe00:7702", priority, &UPLINK6) };
    let four = Msg { interval: 10, ..Msg::new("192.0.2.4", priority, &["192.0.2.2"]) };
    [("tenant0", peer(priority)), ("uplink0", six), ("uplink0", four)]
}

struct Bench {
    rig: Rig,
    stage: Stage,
    shared: Arc<Shared>,
    mark: Snapshot,
}

impl Bench {
    fn new(config: Config) -> Self {
        let shared = Arc::new(Shared::new());
        let stage = Stage::new(Arc::new(config), Arc::clone(&shared));
        Self { rig: Rig::lab(), stage, shared, mark: Snapshot::default() }
    }

    /// One that is active, with everything that led there taken out.
    fn active() -> Self {
        let mut b = Self::new(config());
        assert_eq!(b.poll(), None);
        assert_eq!(b.until_transition(1000), Some((361, Transition::Active)));
        b.shared.publish_active(true);
        b.forget();
        b
    }

    /// One that is backup, and has just heard the active router of this priority everywhere.
    fn backup(priority: u8) -> Self {
        let mut b = Self::new(config());
        assert_eq!(b.poll(), None);
        for (interface, m) in peers(priority) {
            assert_eq!(b.receive(interface, &m.packet()), Verdict::Consume);
        }
        b.forget();
        b
    }

    /// Takes out what was sent and told, and counts from here on.
    fn forget(&mut self) {
        self.rig.sent();
        self.rig.take_events();
        self.mark = Snapshot::of(&self.rig.counters);
    }

    /// Exactly these counters moved since the last look.
    #[track_caller]
    fn assert_counted(&mut self, want: &[(&str, u64)]) {
        self.mark.assert_diff(&self.rig.counters, want);
        self.mark = Snapshot::of(&self.rig.counters);
    }

    fn receive(&mut self, interface: &str, octets: &[u8]) -> Verdict {
        let packet = self.rig.packet(interface, octets);
        self.stage.receive(&mut self.rig.ctx(), &packet)
    }

    /// What a worker does at each poll.
    fn poll(&mut self) -> Option<Transition> {
        self.shared.beat(self.rig.now);
        let transition = self.stage.tick(self.rig.now);
        self.stage.advertise(&mut self.rig.ctx());
        transition
    }

    /// Polls each millisecond until a transition, and gives the milliseconds.
    fn until_transition(&mut self, most_ms: u64) -> Option<(u64, Transition)> {
        for n in 1..=most_ms {
            self.rig.advance(Duration::from_millis(1));
            if let Some(t) = self.poll() {
                return Some((n, t));
            }
            self.rig.sent();
        }
        None
    }
}

fn conflict_event(interface: u16, address: &str, reason: &'static str) -> Event {
    Event::VrrpConflict { interface: IfId(interface), address: ip(address), vrid: 64, reason }
}

// RFC 9568 7.2, 5.1.1.3, 5.1.2.3: what is sent.
#[test]
fn rfc9568_6_4_1_it_listens_first_and_then_advertises_everywhere() {
    let mut b = Bench::new(config());
    assert_eq!((b.poll(), b.stage.phase()), (None, Phase::Backup));
    let down = b.rig.now + DOWN;
    assert_eq!(b.until_transition(360), None);
    b.assert_counted(&[]);
    b.rig.now = Instant::from_micros(down.as_micros() - 1);
    assert_eq!(b.poll(), None);
    assert!(b.rig.sent().is_empty());
    b.rig.now = down;
    assert_eq!(b.poll(), Some(Transition::Active));
    let sent = b.rig.sent();
    // RFC 9568 7.2 and 5.1: from our own address to the group, hop limit 255, and the addresses.
    let own = |src: &str, addresses: &[&str]| Msg { interval: 10, ..Msg::new(src, 100, addresses) };
    let control6 = |p: Vec<u8>| poke(p, 0, &[0x6c, 0x00]);
    let four = own("192.0.2.3", &["192.0.2.2"]);
    let want = [
        (0, "33:33:00:00:00:12", control6(own(OWN_TENANT, &TENANT).packet())),
        (1, "33:33:00:00:00:12", control6(own(OWN_UPLINK, &UPLINK6).packet())),
        (1, "01:00:5e:00:00:12", ip4("192.0.2.3", "224.0.0.18").ttl(255).tos(0xc0).raw(112, &four.message())),
    ];
    for (n, (interface, mac, octets)) in want.iter().enumerate() {
        let egress = Egress::new(IfId(*interface), Via::Mac(mac.parse().unwrap()));
        assert_eq!((sent[n].egress, &sent[n].octets), (egress, octets), "{n}");
    }
    assert_eq!(sent.len(), 3);
    assert_eq!(b.rig.take_events(), [Event::BecameActive]);
    b.assert_counted(&[("vrrp-adverts-sent", 3), ("vrrp-became-active", 1)]);
    // What is announced, the worker knows.
    assert!(!b.shared.is_active(b.rig.now));
    b.shared.publish_active(true);
    assert!(b.shared.is_active(b.rig.now));
    // From then on every interval, in step.
    for n in 1..=50u64 {
        b.rig.advance(Duration::from_millis(100));
        assert_eq!(b.poll(), None);
        assert_eq!(b.rig.sent().len(), 3, "{n}");
        assert_eq!(b.poll(), None);
        assert!(b.rig.sent().is_empty());
    }
    b.assert_counted(&[("vrrp-adverts-sent", 150)]);
    let status = b.shared.status();
    assert_eq!((status.phase, status.priority, status.adverts_sent), (Phase::Active, 100, 153));
    assert_eq!((status.became_active, status.last_active), (1, None));
}

#[test]
fn an_advertisement_before_the_first_tick_does_not_keep_it_from_beginning() {
    let mut b = Bench::new(config());
    assert_eq!(b.receive("tenant0", &peer(50).packet()), Verdict::Consume);
    assert_eq!((b.poll(), b.stage.phase()), (None, Phase::Backup));
    assert_eq!(b.until_transition(1000), Some((361, Transition::Active)));
}

#[test]
fn a_tick_with_nothing_to_do_does_nothing() {
    let far = Instant::from_micros(u64::MAX);
    let mut b = Bench::new(Config { routers: vec![], ..config() });
    assert_eq!((b.poll(), b.stage.due), (None, far), "no virtual router");
    let mut b = Bench::active();
    assert!(b.stage.due > b.rig.now);
    b.shared.set_tracking(0, true);
    let _ = (b.poll(), b.poll());
    assert_eq!(b.stage.due, far, "a fault");
    let mut b = Bench::active();
    b.stage.shutdown(&mut b.rig.ctx());
    assert_eq!((b.poll(), b.stage.due), (None, far), "stopped");
}

/// A worker that cannot say that nothing came asks this before it lets time pass.
#[test]
fn rfc9568_6_4_2_a_backup_says_when_its_next_tick_would_take_over() {
    let mut b = Bench::backup(200);
    let (mut said, mut transition) = (false, None);
    for _ in 0..1000 {
        b.rig.advance(Duration::from_millis(1));
        said = b.stage.would_take_over(b.rig.now);
        transition = b.poll();
        if said || transition.is_some() {
            break;
        }
    }
    assert_eq!((said, transition), (true, Some(Transition::Active)));
    assert!(!b.stage.would_take_over(b.rig.now + DOWN), "it is active");
    // What is heard in time, a fault and a stop keep it from that; so does never having begun.
    for keep in 0..4 {
        let mut b = if keep == 3 { Bench::new(config()) } else { Bench::backup(200) };
        b.rig.advance(DOWN);
        assert_eq!(b.stage.would_take_over(b.rig.now), keep != 3);
        match keep {
            0 => peers(200).iter().for_each(|(interface, m)| _ = b.receive(interface, &m.packet())),
            1 => b.shared.set_tracking(0, true),
            _ => b.stage.shutdown(&mut b.rig.ctx()),
        }
        assert!(!b.stage.would_take_over(b.rig.now), "{keep}");
    }
}

// RFC 9568 5.1.1.3, 5.1.2.3.
#[test]
fn what_is_from_afar_is_what_would_be_refused_for_its_hop_limit() {
    let mut b = Bench::backup(200);
    for (interface, m) in peers(200) {
        for hops in [0, 1, 64, 254, 255] {
            let mut octets = m.packet();
            let at = if octets[0] >> 4 == 4 { ipv4::TTL } else { ipv6::HOP_LIMIT };
            octets[at] = hops;
            let far = is_from_afar(&b.rig.packet(interface, &octets));
            let verdict = b.receive(interface, &octets);
            // Over IPv4 the header's checksum no longer fits either.
            let refused = Verdict::Drop(DropReason::VrrpHopLimit);
            let wrong = if octets[0] >> 4 == 4 { verdict != Verdict::Consume } else { verdict == refused };
            assert_eq!(far, wrong, "{hops}: {verdict:?}");
            assert_eq!(far, hops != 255);
        }
    }
}

#[test]
fn packets_that_leave_say_what_they_are() {
    let mut b = Bench::active();
    b.rig.advance(Duration::from_millis(100));
    assert_eq!(b.poll(), None);
    let metas: Vec<(u16, u8, u16)> =
        b.rig.outbox.drain().map(|p| (p.meta.ethertype, p.meta.protocol, p.meta.l4)).collect();
    assert_eq!(metas, [(0x86dd, 112, 40), (0x86dd, 112, 40), (0x0800, 112, 20)]);
}

// RFC 9568 6.4.3, 5.2.4.
#[test]
fn rfc9568_6_4_3_shutdown_says_priority_zero_everywhere() {
    let mut b = Bench::active();
    b.stage.shutdown(&mut b.rig.ctx());
    let sent = b.rig.sent();
    let own = Msg { interval: 10, ..Msg::new(OWN_TENANT, 0, &TENANT) };
    assert_eq!(sent[0].octets[40..], own.message());
    assert!(sent.iter().map(|l| if l.octets[0] == 0x45 { l.octets[22] } else { l.octets[42] }).eq([0; 3]));
    assert_eq!(b.rig.take_events(), [Event::BecameBackup]);
    b.assert_counted(&[("vrrp-adverts-sent", 3), ("vrrp-priority-zero-sent", 3), ("vrrp-became-backup", 1)]);
    assert!(!b.shared.is_active(b.rig.now));
    assert_eq!(b.shared.status().phase, Phase::Initialize);
    // And it is over.
    assert_eq!(b.until_transition(2000), None);
    b.assert_counted(&[]);
    // A backup leaves without a word.
    let mut b = Bench::backup(200);
    b.stage.shutdown(&mut b.rig.ctx());
    assert!(b.rig.sent().is_empty() && b.rig.take_events().is_empty());
    assert_eq!(b.until_transition(2000), None);
    b.assert_counted(&[]);
}

#[test]
fn a_fault_resigns_while_the_active_view_is_still_in_force() {
    let mut b = Bench::active();
    b.shared.set_tracking(0, true);
    // RFC 9568 7.2: priority 0 comes from the virtual router's link-layer address, as all its messages do.
    assert_eq!(b.poll(), None);
    assert_eq!(b.rig.sent().len(), 3);
    b.assert_counted(&[("vrrp-adverts-sent", 3), ("vrrp-priority-zero-sent", 3)]);
    assert!(b.shared.is_active(b.rig.now));
    assert_eq!(b.poll(), Some(Transition::Backup));
    assert!(!b.shared.is_active(b.rig.now));
    assert_eq!(b.rig.take_events(), [Event::BecameBackup]);
    b.assert_counted(&[("vrrp-became-backup", 1)]);
    assert_eq!((b.stage.phase(), b.until_transition(3000)), (Phase::Initialize, None));
    // What is heard meanwhile changes nothing; when the link is back it begins anew.
    assert_eq!(b.receive("tenant0", &peer(50).packet()), Verdict::Consume);
    assert_eq!(b.poll(), None);
    b.assert_counted(&[("vrrp-adverts-received", 1)]);
    assert!(b.shared.status().fault);
    b.shared.set_tracking(0, false);
    assert_eq!(b.until_transition(3000), Some((362, Transition::Active)));
}

#[test]
fn a_backup_with_a_fault_stays_away() {
    let mut b = Bench::backup(200);
    b.shared.set_tracking(0, true);
    assert_eq!((b.poll(), b.stage.phase()), (None, Phase::Initialize));
    assert_eq!(b.until_transition(3000), None);
    let mut b = Bench::new(config());
    b.shared.set_tracking(0, true);
    assert_eq!(b.until_transition(3000), None);
    b.assert_counted(&[]);
}

#[test]
fn tracking_lowers_the_priority_that_is_advertised() {
    let mut b = Bench::active();
    b.shared.set_tracking(60, false);
    assert_eq!(b.poll(), None);
    assert_eq!(b.shared.status().priority, 40);
    b.rig.advance(Duration::from_millis(100));
    assert_eq!(b.poll(), None);
    assert_eq!(b.rig.sent()[0].octets[42], 40);
    // Now the peer is better, although it was not.
    assert_eq!(b.receive("tenant0", &peer(41).packet()), Verdict::Consume);
    assert_eq!(b.poll(), Some(Transition::Backup));
}

// RFC 9568 6.4.3, and 2.5: control is told of each change.
#[test]
fn rfc9568_6_4_3_a_better_router_is_given_way_to() {
    let mut b = Bench::active();
    assert_eq!(b.receive("uplink0", &peers(101)[2].1.packet()), Verdict::Consume);
    assert_eq!(b.poll(), Some(Transition::Backup));
    assert!(!b.shared.is_active(b.rig.now));
    assert_eq!(b.rig.take_events(), [Event::BecameBackup]);
    assert!(b.rig.sent().is_empty(), "without a word");
    b.assert_counted(&[("vrrp-adverts-received", 1), ("vrrp-became-backup", 1)]);
    assert_eq!(b.shared.status().last_active, Some(ip("192.0.2.4")));
    // Nobody follows: it takes over again.
    assert_eq!(b.until_transition(1000), Some((361, Transition::Active)));
}

#[test]
fn rfc9568_6_4_3_a_worse_router_is_answered_in_the_same_poll() {
    let mut b = Bench::active();
    for _ in 0..10 {
        assert_eq!(b.receive("tenant0", &peer(99).packet()), Verdict::Consume);
        assert_eq!(b.poll(), None);
    }
    let sent = b.rig.sent();
    assert!(sent.len() == 4 && sent.iter().all(|l| l.egress.interface() == IfId(0)));
    b.assert_counted(&[("vrrp-adverts-received", 10), ("vrrp-adverts-sent", 4), ("vrrp-answers-limited", 6)]);
}

#[test]
fn rfc9568_6_4_2_priority_zero_everywhere_ends_the_waiting() {
    let mut b = Bench::backup(200);
    for (interface, m) in peers(0) {
        assert_eq!(b.receive(interface, &m.packet()), Verdict::Consume);
    }
    b.assert_counted(&[("vrrp-adverts-received", 3), ("vrrp-priority-zero-received", 3)]);
    // 156/256 of 100 ms.
    assert_eq!(b.until_transition(1000), Some((61, Transition::Active)));
}

// RFC 9568 7.1, 5.1.1.3, 5.1.2.3, 5.2.2, 5.2.5, 5.2.9.
#[test]
fn rfc9568_7_1_each_check_is_one_reason_and_only_ours_are_told() {
    let right = || peer(255);
    let auth = ip6(PEER, "ff02::12").hop_limit(255).auth(1, 1, &[0; 12]).raw(112, &right().message());
    let options = ip6(PEER, "ff02::12").hop_limit(255).dest_options(&[]).raw(112, &right().message());
    let fragment = ip6(PEER, "ff02::12").hop_limit(255).fragment(0, true, 1).raw(112, &right().message());
    let [_, _, (_, four)] = peers(255);
    let router_alert = ip4("192.0.2.4", "224.0.0.18").ttl(255).options(&[148, 4, 0, 0]);
    let to = |dst: &str| Msg { dst: ip(dst), ..right() }.packet();
    let first = |a: &[&str]| Msg { interval: 10, ..Msg::new(PEER, 255, a) }.packet();
    // Network, packet, reason, whether control is told.
    let rows: Vec<(&str, Vec<u8>, &str, bool)> = vec![
        ("tenant0", Msg { hops: 254, ..right() }.packet(), "vrrp-hop-limit", true),
        ("uplink0", Msg { hops: 1, ..four.clone() }.packet(), "vrrp-hop-limit", true),
        ("tenant0", auth, "vrrp-extension", true),
        ("tenant0", options, "vrrp-extension", true),
        ("uplink0", router_alert.raw(112, &four.message()), "vrrp-extension", true),
        ("tenant0", fragment, "local-fragment", false),
        ("tenant0", to("fe80::1"), "vrrp-destination", true),
        ("tenant0", to("ff02::1"), "vrrp-destination", true),
        ("uplink0", Msg { dst: ip("192.0.2.3"), ..four.clone() }.packet(), "vrrp-destination", true),
        ("tenant0", Msg { src: ip("2001:db8:64::9"), ..right() }.packet(), "vrrp-source", true),
        ("tenant0", Msg { version_type: 0x21, ..right() }.packet(), "vrrp-version2", true),
        (
            "uplink0",
            Msg { version_type: 0x21, more: vec![0; 8], ..four.clone() }.packet(),
            "vrrp-version2",
            true,
        ),
        ("tenant0", Msg { version_type: 0x41, ..right() }.packet(), "vrrp-version", true),
        ("tenant0", Msg { version_type: 0x3f, ..right() }.packet(), "vrrp-type", true),
        ("tenant0", Msg { count: Some(4), ..right() }.packet(), "vrrp-length", true),
        ("tenant0", Msg { more: vec![0; 16], ..right() }.packet(), "vrrp-length", true),
        ("tenant0", ip6(PEER, "ff02::12").hop_limit(255).raw(112, &[]), "vrrp-length", false),
        ("tenant0", ip6(PEER, "ff02::12").hop_limit(255).raw(112, &[0x31]), "vrrp-length", false),
        ("tenant0", ip6(PEER, "ff02::12").hop_limit(255).raw(112, &[0x31, 64]), "vrrp-length", true),
        ("tenant0", Msg { wrong: 1, ..right() }.packet(), "vrrp-checksum", true),
        ("uplink0", Msg { pseudo4: true, ..four.clone() }.packet(), "vrrp-checksum", true),
        ("tenant0", Msg { vrid: 65, ..right() }.packet(), "vrrp-unknown-vrid", false),
        ("tenant0", Msg { vrid: 0, ..right() }.packet(), "vrrp-unknown-vrid", false),
        ("tenant0", Msg { vrid: 65, hops: 1, ..right() }.packet(), "vrrp-hop-limit", false),
        ("tenant1", right().packet(), "vrrp-unknown-vrid", false),
        ("tenant0", four.packet(), "vrrp-unknown-vrid", false),
        ("tenant0", Msg { src: ip(OWN_TENANT), ..right() }.packet(), "own-source", true),
        ("tenant0", Msg { addresses: vec![], ..right() }.packet(), "vrrp-no-address", true),
        ("tenant0", Msg { interval: 0, ..right() }.packet(), "vrrp-zero-interval", true),
        ("tenant0", first(&["2001:db8:64::1", "fe80::1"]), "vrrp-first-address", true),
        ("tenant0", first(&["fe80::9", "2001:db8:64::1", "2001:db8:64::53"]), "vrrp-addresses", true),
        ("tenant0", first(&["fe80::1", "2001:db8:64::9"]), "vrrp-addresses", true),
        (
            "uplink0",
            Msg { interval: 10, ..Msg::new("192.0.2.4", 255, &["192.0.2.9"]) }.packet(),
            "vrrp-addresses",
            true,
        ),
    ];
    for (interface, octets, reason, told) in rows {
        for mut b in [Bench::active(), Bench::backup(200)] {
            let before = (b.stage.group.phase(), b.stage.group.deadline(), b.stage.due);
            let Verdict::Drop(dropped) = b.receive(interface, &octets) else { panic!("{reason}: taken") };
            assert_eq!(dropped.name(), reason);
            assert_eq!((b.stage.group.phase(), b.stage.group.deadline(), b.stage.due), before, "{reason}");
            let ingress = b.rig.interface(interface);
            let events = b.rig.take_events();
            let ours = events.iter().all(|e| {
                matches!(e, Event::VrrpConflict { interface, vrid: 64, reason: r, .. }
                    if *interface == ingress && *r == reason)
            });
            assert!(ours && events.len() == usize::from(told), "{reason}: {events:?}");
            b.assert_counted(&[]);
        }
    }
}

#[test]
fn rfc9568_7_1_frames_that_fail_a_check_never_hold_the_election_back() {
    let broken: Vec<(&str, Vec<u8>)> = peers(255)
        .into_iter()
        .flat_map(|(interface, m)| {
            [
                Msg { hops: 254, ..m.clone() },
                Msg { version_type: 0x21, ..m.clone() },
                Msg { version_type: 0x32, ..m.clone() },
                Msg { count: Some(9), ..m.clone() },
                Msg { wrong: 1, ..m.clone() },
                Msg { interval: 0, ..m.clone() },
                Msg { vrid: 63, ..m.clone() },
                Msg {
                    addresses: vec![if m.src.is_ipv6() { ip("fe80::bad") } else { ip("192.0.2.99") }],
                    ..m
                },
            ]
            .map(|m| (interface, m.packet()))
        })
        .collect();
    // A backup whose active router falls silent: a thousand such frames a second do not put off its turn.
    let mut b = Bench::backup(200);
    let mut became = None;
    for n in 1..=1000u64 {
        b.rig.advance(Duration::from_millis(1));
        let (interface, octets) = &broken[n as usize % broken.len()];
        assert!(matches!(b.receive(interface, octets), Verdict::Drop(_)));
        if b.poll() == Some(Transition::Active) {
            became.get_or_insert(n);
        }
        b.rig.sent();
    }
    assert_eq!(became, Some(361));
    // It stays active and keeps step: one round at once, and then ten a second.
    let sent = b.rig.counters.get(Counter::VrrpAdvertsSent);
    assert_eq!(sent, 3 * (1 + 6));
    assert_eq!(b.stage.phase(), Phase::Active);
    // Control is told of ten at once and ten a second at most.
    let told = b.rig.take_events().iter().filter(|e| matches!(e, Event::VrrpConflict { .. })).count();
    assert!((10..=21).contains(&told), "{told}");
}

#[test]
fn rfc9568_7_1_another_interval_is_told_and_taken_over() {
    let mut b = Bench::backup(200);
    for (interface, m) in peers(200) {
        assert_eq!(b.receive(interface, &Msg { interval: 100, ..m }.packet()), Verdict::Consume);
    }
    b.assert_counted(&[("vrrp-adverts-received", 3), ("vrrp-interval-differs", 3)]);
    // 3 s and 156/256 of a second.
    assert_eq!(b.until_transition(5000), Some((3610, Transition::Active)));
}

#[test]
fn rfc9568_7_1_lists_of_which_one_holds_the_other_are_one_virtual_router() {
    // While two gateways are changed one after the other, neither may become active for it.
    let more = ["fe80::1", "2001:db8:64::1", "2001:db8:64::53", "2001:db8:64::54"];
    for addresses in [&more[..], &more[..2], &["fe80::1"]] {
        let mut b = Bench::active();
        let m = Msg { interval: 10, ..Msg::new(PEER, 200, addresses) };
        assert_eq!(b.receive("tenant0", &m.packet()), Verdict::Consume);
        assert_eq!(b.rig.take_events(), [conflict_event(0, PEER, "vrrp-addresses-differ")]);
        assert_eq!(b.poll(), Some(Transition::Backup));
        b.assert_counted(&[
            ("vrrp-adverts-received", 1),
            ("vrrp-addresses-differ", 1),
            ("vrrp-became-backup", 1),
        ]);
    }
    // RFC 9568 5.2.9 recommends the same order; another one is no difference.
    let mut b = Bench::backup(200);
    let m = Msg { interval: 10, ..Msg::new(PEER, 200, &["fe80::1", "2001:db8:64::53", "2001:db8:64::1"]) };
    assert_eq!(b.receive("tenant0", &m.packet()), Verdict::Consume);
    b.assert_counted(&[("vrrp-adverts-received", 1)]);
}

#[test]
fn rfc9568_8_3_2_two_owners_are_told_and_an_election_decides() {
    let mut b = Bench::new(Config { priority: 255, ..config() });
    assert_eq!(b.poll(), Some(Transition::Active), "RFC 9568 6.4.1: the owner does not wait");
    b.forget();
    // The peer's address is the greater one on the tenant side, which decides.
    assert_eq!(b.receive("tenant0", &peer(255).packet()), Verdict::Consume);
    assert_eq!(b.rig.take_events(), [conflict_event(0, PEER, "vrrp-two-owners")]);
    assert_eq!(b.poll(), Some(Transition::Backup));
    b.assert_counted(&[("vrrp-adverts-received", 1), ("vrrp-became-backup", 1)]);
}

#[test]
fn rfc9568_5_2_8_a_peer_with_a_pseudo_header_over_ipv4_is_met_by_configuration() {
    let mut b = Bench::new(Config { checksum4: Peer4Checksum::PseudoHeader, ..config() });
    assert_eq!(b.poll(), None);
    let [_, _, (_, four)] = peers(200);
    let theirs = Msg { pseudo4: true, ..four.clone() };
    assert_eq!(b.receive("uplink0", &theirs.packet()), Verdict::Consume);
    assert_eq!(b.receive("uplink0", &four.packet()), Verdict::Drop(DropReason::VrrpChecksum));
    assert_eq!(b.until_transition(1000), Some((361, Transition::Active)));
    b.rig.advance(Duration::from_millis(100));
    assert_eq!(b.poll(), None);
    let own = Msg { interval: 10, pseudo4: true, ..Msg::new("192.0.2.3", 100, &["192.0.2.2"]) };
    assert_eq!(b.rig.sent()[2].octets[20..], own.message());
}

#[test]
fn another_configuration_is_adopted_without_a_gap() {
    let mut b = Bench::active();
    // Interfaces are numbered anew, an address and a network are new, the interval is another.
    let mut next = config();
    next.interval_cs = 5;
    next.routers[0].addresses.push(ip("2001:db8:64::54"));
    next.routers.push(VirtualRouter {
        interface: IfId(2),
        vrid: 65,
        addresses: vec![ip("fe80::1"), ip("2001:db8:65::1")],
        source: ip("fe80::ff:fe00:6403"),
    });
    next.routers.rotate_left(1);
    b.stage.set_config(Arc::new(next), b.rig.now);
    assert_eq!(b.poll(), None, "still active");
    let sent = b.rig.sent();
    assert_eq!(sent.iter().map(|l| l.egress.interface().0).collect::<Vec<_>>(), [1, 1, 2, 0]);
    assert_eq!(sent[3].octets[43], 4, "with the new address");
    b.rig.advance(Duration::from_millis(50));
    assert_eq!(b.poll(), None);
    assert_eq!(b.rig.sent().len(), 4);
    b.assert_counted(&[("vrrp-adverts-sent", 8)]);
    // And one without virtual routers ends it.
    b.stage.set_config(Arc::new(Config { routers: vec![], ..config() }), b.rig.now);
    assert_eq!(b.poll(), Some(Transition::Backup));
    assert!(!b.shared.is_active(b.rig.now));
    assert_eq!(b.until_transition(3000), None);
}

#[test]
fn virtual_routers_that_look_alike_on_several_networks_keep_their_own_timers() {
    // As gateways of many networks are: one VRID and fe80::1 everywhere.
    let mut alike = config();
    alike.routers =
        vec![alike.routers[0].clone(), VirtualRouter { interface: IfId(2), ..alike.routers[0].clone() }];
    let mut b = Bench::new(alike.clone());
    assert_eq!(b.poll(), None);
    // The active router is heard on the second network alone; that keeps us backup.
    for _ in 0..10 {
        b.rig.advance(Duration::from_millis(100));
        assert_eq!(b.receive("tenant1", &peer(200).packet()), Verdict::Consume);
        assert_eq!(b.poll(), None);
    }
    b.stage.set_config(Arc::new(Config { preempt_delay: Duration::from_secs(1), ..alike }), b.rig.now);
    assert_eq!(b.poll(), None, "the active router has just been heard");
    let (after, transition) = b.until_transition(1000).expect("nobody is heard");
    assert_eq!((after, transition), (361, Transition::Active));
}

#[test]
fn no_frame_is_counted_and_a_full_outbox_is_waited_for() {
    let mut b = Bench::active();
    b.rig.source = causeway_core::HeapSource::new(1);
    b.rig.advance(Duration::from_millis(100));
    assert_eq!((b.poll(), b.rig.sent().len()), (None, 1));
    b.assert_counted(&[("vrrp-adverts-sent", 1), ("drop.no-frame", 2)]);
    b.rig.source = causeway_core::HeapSource::new(100);
    while b.rig.outbox.room() > 1 {
        let p = b.rig.packet("uplink0", &ip6("2001:db8::1", "2001:db8::2").udp(1, 2, b""));
        let e = b.rig.egress("uplink0", "2001:db8:ffff::1");
        b.rig.ctx().send(p, e);
    }
    b.rig.advance(Duration::from_millis(100));
    assert_eq!(b.poll(), None);
    assert_eq!(b.rig.sent().len(), 64);
    b.assert_counted(&[("vrrp-adverts-sent", 1)]);
    // What found no room leaves at the next poll.
    assert_eq!((b.poll(), b.rig.sent().len()), (None, 2));
    assert_eq!((b.poll(), b.rig.sent().len()), (None, 0));
    b.assert_counted(&[("vrrp-adverts-sent", 2)]);
    b.rig.advance(Duration::from_millis(100));
    assert_eq!((b.poll(), b.rig.sent().len()), (None, 3));
}

#[test]
fn a_backup_that_stood_still_looks_at_what_came_before_it_takes_over() {
    // Half a second without a poll, while the active router's advertisements piled up.
    let mut b = Bench::backup(200);
    b.rig.advance(Duration::from_millis(500));
    assert_eq!(b.poll(), None);
    for (interface, m) in peers(200) {
        assert_eq!(b.receive(interface, &m.packet()), Verdict::Consume);
        assert_eq!(b.poll(), None);
    }
    assert_eq!((b.until_transition(360), b.stage.phase()), (None, Phase::Backup));
    // Nothing came: ten milliseconds later it is certain.
    let mut b = Bench::backup(200);
    b.rig.advance(Duration::from_millis(500));
    assert_eq!(b.poll(), None);
    assert_eq!(b.until_transition(1000), Some((10, Transition::Active)));
    // One that never polls more often than that is not held back for ever.
    let mut b = Bench::backup(200);
    let polls = std::iter::repeat_with(|| {
        b.rig.advance(Duration::from_millis(50));
        b.poll()
    });
    assert_eq!(polls.take(20).position(|t| t == Some(Transition::Active)), Some(8), "at 400 and 450 ms");
    // Not even by a router of lower priority, which goes on all the time.
    let mut b = Bench::backup(200);
    let polls = std::iter::repeat_with(|| {
        b.rig.advance(Duration::from_millis(50));
        assert_eq!(b.receive("tenant0", &peer(50).packet()), Verdict::Consume);
        b.poll()
    });
    assert_eq!(polls.take(20).position(|t| t == Some(Transition::Active)), Some(8));
}

#[test]
fn other_workers_stand_by_when_this_one_stands_still() {
    let mut b = Bench::active();
    assert!(b.shared.is_active(b.rig.now + Duration::from_millis(290)));
    assert!(!b.shared.is_active(b.rig.now + Duration::from_millis(310)));
    // A longer interval lasts longer.
    b.stage.set_config(Arc::new(Config { interval_cs: 100, ..config() }), b.rig.now);
    assert!(b.shared.is_active(b.rig.now + Duration::from_millis(2990)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Messages right and wrong, by the hundred, at any time: whatever comes, what is sent is right, transitions
    /// alternate, and each packet has one fate.
    #[test]
    fn whatever_is_received_the_stage_stays_whole(
        rows in proptest::collection::vec(
            (0usize..3, any::<u8>(), 0u16..4096, 0u8..12, 0usize..80, any::<u8>(), 0u64..200_000), 1..200),
        seed_priority in 1u8..=255,
    ) {
        let mut b = Bench::new(Config { priority: seed_priority, ..config() });
        let mut active = false;
        for (n, priority, interval, kind, at, octet, us) in rows {
            let (interface, m) = peers(priority)[n].clone();
            let octets = match kind {
                0 => Msg { wrong: 1, ..m }.packet(),
                1 => Msg { hops: octet, ..m }.packet(),
                2 => Msg { count: Some(octet), ..m }.packet(),
                3 => { let mut p = m.packet(); let at = at.min(p.len() - 1); p[at] = octet; p }
                4 => { let mut p = m.packet(); p.truncate(at); p }
                _ => Msg { interval, ..m }.packet(),
            };
            let before: u64 = DropReason::ALL.iter().map(|r| b.rig.counters.dropped(*r)).sum();
            let received = b.rig.counters.get(Counter::VrrpAdvertsReceived);
            match b.receive(interface, &octets) {
                Verdict::Consume => {
                    prop_assert_eq!(b.rig.counters.get(Counter::VrrpAdvertsReceived), received + 1);
                }
                Verdict::Drop(_) => {
                    prop_assert_eq!(b.rig.counters.get(Counter::VrrpAdvertsReceived), received);
                }
                other => prop_assert!(false, "{other:?}"),
            }
            let after: u64 = DropReason::ALL.iter().map(|r| b.rig.counters.dropped(*r)).sum();
            prop_assert_eq!(before, after, "the worker counts drops");
            b.rig.advance(Duration::from_micros(us));
            match b.poll() {
                Some(Transition::Active) => { prop_assert!(!active); active = true; b.shared.publish_active(true); }
                Some(Transition::Backup) => { prop_assert!(active); active = false; }
                None => {}
            }
            prop_assert_eq!(b.shared.is_active(b.rig.now), active);
            let sent = b.rig.sent();
            prop_assert!(sent.len() <= 3 && (active || sent.is_empty()));
            b.rig.take_events();
            b.rig.source = causeway_core::HeapSource::new(100);
        }
    }
}
