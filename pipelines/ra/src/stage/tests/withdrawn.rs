//! What hosts are told to forget after a change (RFC 4861 6.2.4, 6.2.5, 6.2.8).

use super::*;

const HOUR: u64 = 3600;

/// A gateway that has advertised `before` for a while and now advertises `after`; and the first advertisement of that.
fn changed(before: Config, after: Option<Config>) -> (Gate, Ra) {
    let mut g = Gate::new(before);
    g.settle();
    g.adopt(lab_interfaces(), vec![after]);
    let mut sent = g.poll();
    assert_eq!(sent.len(), 1, "a change is told at once");
    let (_, via, ra) = sent.remove(0);
    assert_eq!(via, all_nodes());
    (g, ra)
}

/// The advertisement that a host gets that asks now.
fn asked(g: &mut Gate) -> Ra {
    assert_eq!(g.receive("tenant0", &ip6(HOST, "ff02::2").rs(None)), Verdict::Consume);
    let mut sent = g.sent();
    assert_eq!(sent.len(), 1);
    sent.remove(0).2
}

fn prefix(on_link: bool, autonomous: bool) -> Config {
    let mut config = lab();
    (config.advertised.prefixes[0].on_link, config.advertised.prefixes[0].autonomous) = (on_link, autonomous);
    config
}

fn without_prefix() -> Config {
    let mut config = lab();
    config.advertised.prefixes.clear();
    config
}

fn prefixes(ra: &Ra) -> Vec<Seen> {
    ra.options.iter().filter(|o| matches!(o, Seen::Prefix { .. })).cloned().collect()
}

fn seen(on_link: bool, autonomous: bool, valid: u32, preferred: u32) -> Seen {
    Seen::Prefix { prefix: p("2001:db8:64::/64"), on_link, autonomous, valid, preferred }
}

#[test]
fn rfc4861_6_2_4_a_change_is_told_three_times() {
    let mut config = lab();
    config.advertised.hop_limit = 32;
    let mut g = Gate::new(lab());
    g.settle();
    g.adopt(lab_interfaces(), vec![Some(config)]);
    let sent = g.run(Duration::from_secs(100));
    assert_eq!(sent.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 16_000, 32_000]);
    assert!(sent.iter().all(|(_, (_, _, ra))| ra.hop_limit == 32));
    g.rig.assert_counted(&[("ra-sent", 3)]);
}

#[test]
fn a_plan_that_changes_nothing_here_is_not_told() {
    let mut g = Gate::new(lab());
    g.settle();
    g.adopt(lab_interfaces(), vec![Some(lab())]);
    assert!(g.run(Duration::from_secs(100)).is_empty());
}

#[test]
fn rfc4861_6_3_4_a_prefix_that_is_no_more_on_the_link_ends_at_once() {
    let (mut g, ra) = changed(prefix(true, false), Some(without_prefix()));
    assert_eq!(prefixes(&ra), [seen(true, false, 0, 0)]);
    g.rig.advance(Duration::from_secs(2 * HOUR - 1));
    assert_eq!(prefixes(&asked(&mut g)), [seen(true, false, 0, 0)]);
    g.rig.advance(Duration::from_secs(1));
    assert_eq!(prefixes(&asked(&mut g)), []);
}

#[test]
fn rfc4862_5_5_3_addresses_of_hosts_are_deprecated_and_end_after_two_hours() {
    let (mut g, ra) = changed(prefix(true, true), Some(without_prefix()));
    assert_eq!(prefixes(&ra), [seen(true, true, 7200, 0)]);
    g.rig.advance(Duration::from_secs(1000));
    assert_eq!(prefixes(&asked(&mut g)), [seen(true, true, 6200, 0)]);
    g.rig.advance(Duration::from_secs(6199));
    assert_eq!(prefixes(&asked(&mut g)), [seen(true, true, 1, 0)]);
    g.rig.advance(Duration::from_secs(1));
    assert_eq!(prefixes(&asked(&mut g)), []);
}

#[test]
fn rfc4862_5_5_3_a_prefix_may_stay_on_the_link_without_addresses_of_hosts() {
    let (_, ra) = changed(prefix(true, true), Some(prefix(true, false)));
    assert_eq!(prefixes(&ra), [seen(false, true, 7200, 0), seen(true, false, 2_592_000, 604_800)]);
    let (_, ra) = changed(prefix(true, true), Some(prefix(false, true)));
    assert_eq!(prefixes(&ra), [seen(true, false, 0, 0), seen(false, true, 2_592_000, 604_800)]);
}

#[test]
fn what_lives_shorter_is_withdrawn_shorter() {
    let mut before = prefix(false, true);
    (before.advertised.prefixes[0].valid, before.advertised.prefixes[0].preferred) =
        (Duration::from_secs(600), Duration::from_secs(300));
    let (mut g, ra) = changed(before, Some(without_prefix()));
    assert_eq!(prefixes(&ra), [seen(false, true, 600, 0)]);
    g.rig.advance(Duration::from_secs(600));
    assert_eq!(prefixes(&asked(&mut g)), []);
}

/// Settings with one of everything that is withdrawn by a lifetime of zero.
fn full() -> Config {
    let mut config = lab();
    let a = &mut config.advertised;
    let route = |prefix, lifetime| RouteInfo { prefix: p(prefix), preference: Preference::High, lifetime };
    a.routes =
        vec![route("2001:db8:7::/48", Duration::from_secs(1800)), route("2001:db8:8::/48", Duration::ZERO)];
    a.encrypted_dns = vec![resolver()];
    a.captive_portal = Some("https://p.example/".to_owned());
    config
}

fn resolver() -> EncryptedDns {
    EncryptedDns {
        priority: 1,
        name: "dns.example".to_owned(),
        addresses: vec!["2001:db8:64::53".parse().unwrap()],
        alpn: vec!["dot".to_owned()],
        port: None,
        doh_path: None,
    }
}

fn empty() -> Config {
    let mut config = full();
    let a = &mut config.advertised;
    (a.routes, a.encrypted_dns, a.captive_portal) = (vec![], vec![], None);
    (a.dns_servers, a.search, a.pref64) = (vec![], vec![], vec![]);
    config
}

/// What says that none of [`full`] but its prefix holds any more.
fn all_gone() -> Vec<Seen> {
    let route = Seen::Route { prefix: p("2001:db8:7::/48"), preference: Preference::Medium, lifetime: 0 };
    vec![
        route,
        Seen::DnsServers(vec!["2001:db8:64::53".parse().unwrap()], 0),
        Seen::Search(vec!["example".to_owned()], 0),
        Seen::Encrypted(resolver(), 0),
        Seen::Pref64(p("2001:db8:64:ff9b::/96"), 0),
        Seen::CaptivePortal("urn:ietf:params:capport:unrestricted".to_owned()),
    ]
}

#[test]
fn rfc8106_5_1_rfc4191_2_3_rfc8781_4_1_rfc9463_6_1_what_is_gone_has_a_lifetime_of_zero() {
    let (mut g, ra) = changed(full(), Some(empty()));
    let head = [Seen::LinkLayer(TENANT_MAC)];
    let tail = [Seen::Mtu(1500), seen(true, false, 2_592_000, 604_800)];
    assert_eq!(ra.options, [&head[..], &all_gone(), &tail].concat());
    assert_eq!(ra.router_lifetime, 1800);
    assert_eq!(g.plan.withdrawn(IfId(0), g.rig.now).count(), 6);
    assert_eq!(g.plan.left_out(), 0);
    g.rig.advance(Duration::from_secs(2 * HOUR));
    assert_eq!(asked(&mut g).options, [&head[..], &tail].concat());
    assert_eq!(g.plan.withdrawn(IfId(0), g.rig.now).count(), 0);
}

#[test]
fn rfc9463_6_1_of_two_of_a_name_the_one_that_holds_comes_last() {
    let mut after = full();
    after.advertised.encrypted_dns[0].alpn = vec!["doq".to_owned()];
    let (_, ra) = changed(full(), Some(after.clone()));
    let seen: Vec<_> = ra.options.iter().filter(|o| matches!(o, Seen::Encrypted(..))).cloned().collect();
    let now = after.advertised.encrypted_dns.remove(0);
    assert_eq!(seen, [Seen::Encrypted(resolver(), 0), Seen::Encrypted(now, 1800)]);
}

#[test]
fn what_comes_back_is_withdrawn_no_more_and_what_does_not_goes_on() {
    let (mut g, _) = changed(full(), Some(empty()));
    g.rig.advance(Duration::from_secs(600));
    // The DNS server is back; nothing else.
    let mut after = empty();
    after.advertised.dns_servers = full().advertised.dns_servers;
    g.adopt(lab_interfaces(), vec![Some(after)]);
    let ra = asked(&mut g);
    let want = Seen::DnsServers(vec!["2001:db8:64::53".parse().unwrap()], 1800);
    let servers: Vec<_> = ra.options.iter().filter(|o| matches!(o, Seen::DnsServers(..))).cloned().collect();
    assert_eq!(servers, [want]);
    assert_eq!(g.plan.withdrawn(IfId(0), g.rig.now).count(), 5);
    // The others end two hours after they went, not after the last plan.
    g.rig.advance(Duration::from_secs(2 * HOUR - 600));
    assert_eq!(g.plan.withdrawn(IfId(0), g.rig.now).count(), 0);
    assert!(asked(&mut g).options.iter().all(|o| !matches!(o, Seen::Search(..))));
}

/// However often plans change, what is withdrawn is bounded by what was advertised in two hours.
#[test]
fn what_has_expired_is_forgotten_by_the_next_plan() {
    let mut g = Gate::new(lab());
    for n in 0..50u32 {
        let mut config = lab();
        config.advertised.search = vec![format!("n{n}.example")];
        g.adopt(lab_interfaces(), vec![Some(config)]);
        g.rig.advance(Duration::from_secs(HOUR));
        assert!(g.plan.withdrawn(IfId(0), g.rig.now).count() <= 3);
    }
}

#[test]
fn rfc4861_6_2_5_a_network_that_is_no_more_advertised_is_told_so_three_times() {
    let mut g = Gate::new(full());
    g.settle();
    g.adopt(lab_interfaces(), vec![None]);
    let sent = g.run(Duration::from_secs(4000));
    assert_eq!(sent.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 3000, 6000]);
    for (_, (_, via, ra)) in &sent {
        assert_eq!((*via, ra.dst, ra.router_lifetime), (all_nodes(), ALL_NODES, 0));
        let head = [Seen::LinkLayer(TENANT_MAC), seen(true, false, 0, 0)];
        assert_eq!(ra.options, [&head[..], &all_gone()].concat());
    }
    let rs = ip6(HOST, "ff02::2").rs(None);
    assert_eq!(g.receive("tenant0", &rs), Verdict::Drop(DropReason::NdIgnored));
    g.rig.assert_counted(&[("ra-sent", 3)]);
}

#[test]
fn rfc4861_6_2_5_another_plan_in_the_meantime_does_not_stop_that() {
    let mut g = Gate::new(lab());
    g.settle();
    g.adopt(lab_interfaces(), vec![None]);
    assert_eq!(g.poll().len(), 1);
    g.adopt(lab_interfaces(), vec![None, None, Some(lab())]);
    let of_first = g.run(Duration::from_secs(100)).into_iter().filter(|(_, (id, ..))| *id == IfId(0));
    assert_eq!(of_first.map(|(at, _)| at).collect::<Vec<_>>(), [3000, 6000]);
}

#[test]
fn a_network_that_comes_back_withdraws_what_it_has_lost() {
    let (mut g, ra) = changed(full(), None);
    assert_eq!(ra.router_lifetime, 0);
    g.rig.advance(Duration::from_secs(60));
    g.run(Duration::from_secs(30));
    g.adopt(lab_interfaces(), vec![Some(empty())]);
    let sent = g.poll();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].2.router_lifetime, 1800);
    assert_eq!(sent[0].2.options[1..7], all_gone());
}

/// Networks are known by port and VLAN, whatever their number.
#[test]
fn numbers_of_interfaces_may_change_from_plan_to_plan() {
    let mut g = Gate::over(vec![vlan(1), vlan(2)], 0, vec![Some(lab()), Some(full())]);
    g.settle();
    g.adopt(vec![vlan(2), vlan(3)], vec![Some(full()), Some(lab())]);
    // VLAN 2 says nothing new; VLAN 3 begins; VLAN 1 is gone with its interface.
    let sent = g.poll();
    assert_eq!(sent.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [IfId(1)]);
    assert_eq!(g.plan.withdrawn(IfId(0), g.rig.now).count(), 0);
    assert_eq!(g.plan.withdrawn(IfId(1), g.rig.now).count(), 0);
}

#[test]
fn a_question_is_not_lost_with_the_plan_that_it_came_in() {
    let mut g = Gate::new(lab());
    g.settle();
    assert_eq!(g.receive("tenant0", &ip6("::", "ff02::2").rs(None)), Verdict::Consume);
    g.adopt(lab_interfaces(), vec![Some(lab())]);
    assert_eq!(g.run(Duration::from_secs(5)).len(), 1);
}

#[test]
fn rfc4861_6_2_8_a_new_source_is_told_with_the_end_of_the_old_one() {
    let mut g = Gate::new(lab());
    g.settle();
    let mut interfaces = lab_interfaces();
    interfaces[0].link_local = "fe80::2".parse().unwrap();
    g.adopt(interfaces, vec![Some(lab())]);
    let mut sent = g.run(Duration::from_secs(1000));
    let later = sent.split_off(6);
    assert!(!later.is_empty() && later.iter().all(|(_, (_, _, ra))| ra.router_lifetime == 1800));
    let sources = sent.iter().map(|(_, (_, _, ra))| (ra.source.to_string(), ra.router_lifetime));
    let want = [("fe80::1", 0), ("fe80::2", 1800)].map(|(s, n)| (s.to_owned(), n));
    assert_eq!(sources.collect::<Vec<_>>(), [&want[..]; 3].concat());
    assert_eq!(sent[0].1.2.options, [Seen::LinkLayer(TENANT_MAC)]);
}

#[test]
fn rfc4861_6_2_8_a_virtual_routers_source_may_live_on_elsewhere() {
    let mut interfaces = lab_interfaces();
    interfaces[0].real = Some(causeway_core::net::Real { mac: mac(1), addrs: vec![] });
    let mut g = Gate::over(interfaces, 0, vec![Some(lab())]);
    g.settle();
    let mut interfaces = lab_interfaces();
    interfaces[0].link_local = "fe80::2".parse().unwrap();
    g.adopt(interfaces, vec![Some(lab())]);
    let sent = g.run(Duration::from_secs(100));
    assert!(sent.iter().all(|(_, (_, _, ra))| ra.source == "fe80::2".parse::<Ipv6Addr>().unwrap()));
}

#[test]
fn rfc8910_2_a_portal_that_is_gone_is_told_as_none() {
    let mut before = lab();
    before.advertised.captive_portal = Some("https://p.example/".to_owned());
    let (_, ra) = changed(before.clone(), Some(lab()));
    let portals = |ra: &Ra| -> Vec<Seen> {
        ra.options.iter().filter(|o| matches!(o, Seen::CaptivePortal(_))).cloned().collect()
    };
    assert_eq!(portals(&ra), [Seen::CaptivePortal("urn:ietf:params:capport:unrestricted".to_owned())]);
    // Another one takes its place: there is only one.
    let mut after = before.clone();
    after.advertised.captive_portal = Some("https://q.example/".to_owned());
    let (_, ra) = changed(before, Some(after));
    assert_eq!(portals(&ra), [Seen::CaptivePortal("https://q.example/".to_owned())]);
}

/// Settings that have what the bits of `n` say: two prefixes on the link or not, autonomous or not, two DNS servers, a
/// route.
fn some(n: u8) -> Config {
    let mut config = empty();
    let bit = |k: u8| n >> k & 1 == 1;
    let a = &mut config.advertised;
    a.prefixes.clear();
    for (k, prefix, valid) in [(0, "2001:db8:64::/64", 86_400), (2, "2001:db8:65::/64", 3000)] {
        if bit(k) || bit(k + 1) {
            let (on_link, autonomous) = (bit(k), bit(k + 1));
            let (valid, preferred) = (Duration::from_secs(valid), Duration::from_secs(60));
            a.prefixes.push(PrefixInfo { prefix: p(prefix), on_link, autonomous, valid, preferred });
        }
    }
    a.dns_servers = [(4, "2001:db8::53"), (5, "2001:db8::54")]
        .iter()
        .filter(|(k, _)| bit(*k))
        .map(|(_, s)| s.parse().unwrap())
        .collect();
    if bit(6) {
        let lifetime = Duration::from_secs(900);
        a.routes.push(RouteInfo { prefix: p("2001:db8:7::/48"), preference: Preference::High, lifetime });
    }
    config
}

/// What a host that heard everything remembers of an advertisement, with the time that it stays.
fn remembered(n: u8) -> Vec<(String, u64)> {
    let lifetimes = [86_400, 86_400, 3000, 3000, 1800, 1800, 900];
    (0..7u8).filter(|k| n >> k & 1 == 1).map(|k| (k.to_string(), lifetimes[usize::from(k)])).collect()
}

/// The same facts as an advertisement says them: those that hold, and those that are withdrawn with what is left.
fn said(ra: &Ra) -> (Vec<String>, Vec<(String, u64)>) {
    let (mut holds, mut gone) = (Vec::new(), Vec::new());
    for option in &ra.options {
        match option {
            Seen::Prefix { prefix, on_link, autonomous, valid, preferred } => {
                let k = if *prefix == p("2001:db8:64::/64") { 0 } else { 2 };
                for k in [on_link.then_some(k), autonomous.then_some(k + 1)].into_iter().flatten() {
                    if *preferred == 0 {
                        gone.push((k.to_string(), u64::from(*valid)));
                    } else {
                        holds.push(k.to_string());
                    }
                }
            }
            Seen::DnsServers(servers, lifetime) => {
                for s in servers {
                    let k = if s.segments()[7] == 0x53 { 4 } else { 5 };
                    if *lifetime == 0 { gone.push((k.to_string(), 0)) } else { holds.push(k.to_string()) }
                }
            }
            Seen::Route { lifetime: 0, .. } => gone.push(("6".to_owned(), 0)),
            Seen::Route { .. } => holds.push("6".to_owned()),
            _ => {}
        }
    }
    (holds, gone)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Whatever plans follow each other, and whenever: what holds is said, what a host may remember and does not hold
    /// is withdrawn, nothing holds and is withdrawn at once, and valid lifetimes end when they began to end plus two
    /// hours at most.
    #[test]
    fn hosts_are_told_to_forget_exactly_what_they_may_remember(
        plans in proptest::collection::vec((proptest::option::of(0u8..128), 0u64..9000), 1..12),
    ) {
        let mut g = Gate::new(some(0));
        // Fact: when it is forgotten.
        let mut model: Vec<(String, Instant)> = Vec::new();
        let mut before = Some(0u8);
        for (n, pass) in plans {
            let now = g.rig.now;
            g.adopt(lab_interfaces(), vec![n.map(some)]);
            let holds = n.map(remembered).unwrap_or_default();
            model.retain(|(k, until)| now < *until && holds.iter().all(|(h, _)| h != k));
            for (k, lifetime) in before.map(remembered).unwrap_or_default() {
                if holds.iter().all(|(h, _)| *h != k) {
                    model.retain(|(m, _)| *m != k);
                    model.push((k, now + Duration::from_secs(lifetime.min(7200))));
                }
            }
            before = n;
            g.run(Duration::from_secs(20));
            g.rig.advance(Duration::from_secs(pass));
            if n.is_some() {
                let now = g.rig.now;
                let (told, gone) = said(&asked(&mut g));
                prop_assert_eq!(told.len(), holds.len());
                prop_assert!(holds.iter().all(|(k, _)| told.contains(k)));
                for (k, until) in &model {
                    let left = gone.iter().find(|(m, _)| m == k);
                    // What is over may still be said while something else is withdrawn, as over.
                    prop_assert!(left.is_some() || now >= *until, "{k} is not withdrawn");
                    let autonomous = k == "1" || k == "3";
                    if let (true, Some((_, left))) = (autonomous, left) {
                        prop_assert_eq!(*left, until.since(now).as_secs());
                    }
                }
                for (k, _) in &gone {
                    prop_assert!(model.iter().any(|(m, _)| m == k), "{k} is withdrawn");
                    prop_assert!(!told.contains(k), "{k} holds and is withdrawn");
                }
            }
            g.sent();
        }
    }
}
