//! Router solicitations and advertisements of strangers, one after the other, while plans change.

use crate::{classified, frames};
use causeway_core::{Class, Duration, IfId, Instant, Verdict, Via};
use causeway_ra::{Advertised, Advertisements, Config, Preference, PrefixInfo, Stage};
use causeway_testkit::{Rig, check_packet, describe, upper_layer};
use causeway_wire::MacAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Settings of three kinds.
fn config(n: u8) -> Option<Config> {
    let seconds = Duration::from_secs;
    let prefix = |text: &str, autonomous| PrefixInfo {
        prefix: text.parse().expect("a prefix"),
        on_link: true,
        autonomous,
        valid: seconds(86_400),
        preferred: seconds(14_400),
    };
    let first = Config {
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
            prefixes: vec![prefix("2001:db8:64::/64", true)],
            routes: Vec::new(),
            dns_servers: vec!["2001:db8:64::53".parse().expect("an address")],
            search: vec!["example".to_owned()],
            dns_lifetime: seconds(1800),
            encrypted_dns: Vec::new(),
            pref64: Vec::new(),
            captive_portal: None,
        },
        max_interval: seconds(10),
        min_interval: seconds(3),
        unicast: true,
    };
    let mut second = first.clone();
    second.unicast = false;
    second.advertised.prefixes = vec![prefix("2001:db8:65::/64", false)];
    second.advertised.dns_servers = vec![Ipv6Addr::LOCALHOST; 200];
    match n % 3 {
        0 => Some(first),
        1 => Some(second),
        _ => None,
    }
}

/// The checks of RFC 4861 6.1.1 by plain code: the source and where the answer goes, of a valid solicitation.
fn solicitation(b: &[u8], src_mac: MacAddr) -> Option<(Ipv6Addr, MacAddr)> {
    check_packet(b).ok()?;
    let upper = upper_layer(b).ok()?;
    let message = &b[upper.at..];
    if upper.fragment.is_some() || upper.protocol != 58 || message.len() < 8 {
        return None;
    }
    if (message[0], message[1], b[7]) != (133, 0, 255) {
        return None;
    }
    let source = Ipv6Addr::from(<[u8; 16]>::try_from(&b[8..24]).ok()?);
    let (mut mac, mut rest) = (None, &message[8..]);
    while !rest.is_empty() {
        let octets = usize::from(*rest.get(1)?) * 8;
        if octets == 0 || octets > rest.len() {
            return None;
        }
        if rest[0] == 1 && mac.is_none() {
            let address: [u8; 6] = rest[2..8].try_into().ok()?;
            if octets != 8 || address[0] & 1 != 0 || address == [0; 6] {
                return None;
            }
            mac = Some(MacAddr(address));
        }
        rest = &rest[octets..];
    }
    if source.is_multicast() || (source.is_unspecified() && mac.is_some()) {
        return None;
    }
    Some((source, mac.unwrap_or(src_mac)))
}

/// Frames to two workers in turn. What is answered is what plain code finds valid; an answer goes to who asked; all
/// nodes hear something at most every three seconds; and every advertisement is right.
pub fn ra(b: &[u8]) {
    advertised(b);
}

/// As [`ra`]; gives how many advertisements went out to one and to all.
pub(crate) fn advertised(b: &[u8]) -> (usize, usize) {
    let mut rig = Rig::lab();
    let mut plan = Arc::new(Advertisements::new(&rig.interfaces, vec![config(0)]));
    let mut stages = [0, 1].map(|worker| Stage::new(Arc::clone(&plan), worker, 7));
    let mut last: Option<Instant> = None;
    let (mut to_one, mut to_all) = (0, 0);
    for (n, frame) in frames(b).enumerate() {
        let dice = frame.last().copied().unwrap_or(0);
        rig.advance(Duration::from_millis(u64::from(dice) * 40));
        if dice % 5 == 4 {
            plan = Arc::new(plan.successor(&rig.interfaces, vec![config(dice / 5)], rig.now));
            stages.iter_mut().for_each(|s| s.set_config(Arc::clone(&plan), rig.now));
        }
        if let Some((Class::Local, mut packet)) = classified(frame)
            && packet.meta.ethertype == 0x86dd
        {
            let stage = &mut stages[n % 2];
            let valid = solicitation(packet.bytes(), packet.meta.src_mac);
            let interface = rig.interfaces.get(packet.meta.ingress).expect("an interface");
            let ours =
                interface.owns_mac(packet.meta.src_mac) || valid.is_some_and(|(a, _)| interface.owns6(a));
            let config = plan.config(packet.meta.ingress).cloned();
            let verdict = stage.receive(&mut rig.ctx(), &mut packet);
            let heard = valid.filter(|_| !ours && config.is_some());
            match verdict {
                Verdict::Consume => assert!(heard.is_some(), "{}", describe(packet.bytes())),
                Verdict::Drop(_) => assert!(heard.is_none(), "{}", describe(packet.bytes())),
                other => panic!("{other:?}"),
            }
            for l in rig.sent() {
                let (source, mac) = heard.expect("nothing is sent to who did not ask");
                assert_eq!((l.egress.interface(), l.egress.via()), (packet.meta.ingress, Via::Mac(mac)));
                assert_eq!(l.octets[24..40], source.octets());
                assert!(config.as_ref().is_some_and(|c| c.unicast) && !source.is_unspecified());
                right(&l.octets);
                to_one += 1;
            }
        }
        stages[1].tick(&mut rig.ctx());
        assert!(rig.sent().is_empty(), "only worker 0 tells all nodes");
        stages[0].tick(&mut rig.ctx());
        let sent = rig.sent();
        for l in &sent {
            assert_eq!(l.egress.interface(), IfId(0));
            assert_eq!(l.egress.via(), Via::Mac(MacAddr::from_ipv6_multicast(ALL_NODES)));
            assert_eq!(l.octets[24..40], ALL_NODES.octets());
            right(&l.octets);
            to_all += 1;
        }
        if !sent.is_empty() {
            assert!(last.is_none_or(|at| rig.now.since(at) >= Duration::from_secs(3)));
            last = Some(rig.now);
        }
        rig.take_events();
    }
    (to_one, to_all)
}

/// An advertisement from the gateway's link-local address that any host takes.
fn right(b: &[u8]) {
    assert_eq!((b[6], b[7], b[40], b[41]), (58, 255, 134, 0));
    assert_eq!(b[8..24], "fe80::1".parse::<Ipv6Addr>().expect("an address").octets());
    assert!(b.len() >= 56 && b.len() <= 1500);
    let mut rest = &b[56..];
    while !rest.is_empty() {
        let octets = usize::from(rest[1]) * 8;
        assert!(octets > 0 && octets <= rest.len(), "{}", describe(b));
        rest = &rest[octets..];
    }
}

/// What hosts and strangers send about routers.
pub(crate) fn packets() -> Vec<Vec<u8>> {
    use causeway_testkit::{ip6, mac};
    let (host, all) =
        (|| ip6("fe80::9", "ff02::2").hop_limit(255), || ip6("fe80::9", "ff02::1").hop_limit(255));
    let mut list = vec![
        host().rs(Some(mac(9))),
        host().rs(None),
        ip6("::", "ff02::2").rs(None),
        ip6("::", "ff02::2").rs(Some(mac(9))),
        ip6("2001:db8:64::101", "fe80::1").rs(Some(mac(9))),
        ip6("fe80::9", "ff02::2").hop_limit(64).rs(None),
        host().icmp(133, 0, [0; 4], &[14, 1, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 9]),
        host().icmp(133, 0, [0; 4], &[1, 0, 2, 0, 0, 0, 0, 9]),
        host().fragment(0, false, 7).rs(None),
        all().icmp(134, 0, [64, 0, 7, 8], &[0; 8]),
        all().icmp(134, 0, [64, 0, 7, 8], &[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 9]),
        ip6("fe80::1", "ff02::1").hop_limit(255).icmp(134, 0, [64, 0, 0, 0], &[0; 8]),
        ip6("fe80::9", "fe80::1").hop_limit(255).icmp(137, 0, [0; 4], &[0; 32]),
    ];
    // An unknown option whose last octet lets time pass, or the plan change.
    list.extend((0..24u8).map(|n| host().icmp(133, 0, [0; 4], &[200, 1, 0, 0, 0, 0, 0, n * 7 + 4])));
    list
}
