use super::*;
use crate::config::{Advertised, Config};
use causeway_testkit::{Rig, ip6, mac};

/// The lab's settings.
pub(crate) fn lab() -> Config {
    Config {
        advertised: Advertised {
            hop_limit: 64,
            managed: true,
            other: true,
            preference: crate::Preference::Medium,
            router_lifetime: Duration::from_secs(1800),
            reachable_time: Duration::ZERO,
            retransmit_time: Duration::ZERO,
            mtu: Some(1500),
            link_layer: true,
            prefixes: vec![crate::PrefixInfo {
                prefix: "2001:db8:64::/64".parse().unwrap(),
                on_link: true,
                autonomous: false,
                valid: Duration::from_secs(2_592_000),
                preferred: Duration::from_secs(604_800),
            }],
            routes: Vec::new(),
            dns_servers: vec!["2001:db8:64::53".parse().unwrap()],
            search: vec!["example".to_owned()],
            dns_lifetime: Duration::from_secs(1800),
            encrypted_dns: Vec::new(),
            pref64: vec![crate::Pref64 {
                prefix: "2001:db8:64:ff9b::/96".parse().unwrap(),
                lifetime: Duration::from_secs(1800),
            }],
            captive_portal: None,
        },
        max_interval: Duration::from_secs(600),
        min_interval: Duration::from_secs(200),
        unicast: true,
    }
}

#[test]
fn rfc4861_6_2_6_a_solicitation_with_an_address_is_answered_in_the_same_poll() {
    let mut rig = Rig::lab();
    let advertisements = Arc::new(Advertisements::new(&rig.interfaces, vec![Some(lab())]));
    let mut stage = Stage::new(advertisements, 1, 7);
    let mut packet = rig.packet("tenant0", &ip6("fe80::9", "ff02::2").rs(Some(mac(9))));
    assert_eq!(stage.receive(&mut rig.ctx(), &mut packet), Verdict::Consume);
    let sent = rig.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].egress, Egress::new(IfId(0), Via::Mac(mac(9))));
    rig.assert_counted(&[("rs-received", 1), ("ra-unicast", 1)]);
}
