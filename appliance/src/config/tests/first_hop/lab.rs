//! The lab's files: its names and addresses are a contract that tests and users rely on.

use super::*;

const FIRST: &str = include_str!("../../../../etc/lab.toml");
const SECOND: &str = include_str!("../../../../etc/lab-gw2.toml");

#[test]
fn the_labs_files_are_the_labs_contract() {
    for (text, name, own) in [(FIRST, "cw-gw", 3), (SECOND, "cw-gw2", 4)] {
        let c = parse(text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((c.gateway.name.as_str(), c.gateway.profile.as_str()), (name, "veth"));
        assert_eq!(c.control.socket.path(), Path::new(&format!("/run/causeway/{name}.sock")));
        let devices: Vec<(&str, String)> =
            c.ports.iter().map(|p| (p.name.as_str(), p.device.to_string())).collect();
        assert_eq!(
            devices,
            [
                ("tenant0", "net_af_packet0,iface=tenant0".to_owned()),
                ("uplink0", "net_af_packet1,iface=uplink0".to_owned())
            ]
        );
        let strings =
            |own: &[Own<Ipv6Addr, Prefix6>]| own.iter().map(ToString::to_string).collect::<Vec<_>>();
        let [tenant, uplink] = &c.networks[..] else { panic!("{:?}", c.networks) };
        assert_eq!((tenant.port.as_str(), tenant.role), ("tenant0", Role::Tenant));
        // Of a gateway's own there is only the link-local address, from the MAC address.
        assert!(tenant.addresses6.is_empty() && tenant.addresses4.is_empty() && tenant.link_local.is_none());
        assert_eq!(tenant.virtual_link_local, Some(six("fe80::1")));
        assert_eq!(strings(&tenant.virtual6), ["2001:db8:64::1/64", "2001:db8:64::53/64"]);
        assert_eq!(tenant.sources, ["2001:db8:64::/64", "2001:db8:64:8000::/56"].map(|p| p.parse().unwrap()));
        assert_eq!((uplink.port.as_str(), uplink.role), ("uplink0", Role::Uplink));
        assert_eq!(strings(&uplink.addresses6), [format!("2001:db8:ffff::{own}/64")]);
        let own4: Vec<String> = uplink.addresses4.iter().map(ToString::to_string).collect();
        assert_eq!(own4, [format!("192.0.2.{own}/24")]);
        assert_eq!(uplink.virtual_link_local, Some(six("fe80::2")));
        assert_eq!(strings(&uplink.virtual6), ["2001:db8:ffff::2/64"]);
        let virtual4: Vec<String> = uplink.virtual4.iter().map(ToString::to_string).collect();
        assert_eq!(virtual4, ["192.0.2.2/24"]);
        assert!(uplink.sources.is_empty());
        let routes: Vec<(String, String, &str)> = c
            .routes
            .iter()
            .map(|r| (r.prefix.to_string(), r.via.to_string(), r.network.as_ref().unwrap().as_str()))
            .collect();
        assert_eq!(
            routes,
            [
                ("::/0".to_owned(), "2001:db8:ffff::1".to_owned(), "uplink0"),
                ("0.0.0.0/0".to_owned(), "192.0.2.1".to_owned(), "uplink0")
            ]
        );
        let nat64 = c.nat64.as_ref().unwrap();
        let prefixes: Vec<String> = nat64.prefixes.iter().map(ToString::to_string).collect();
        assert_eq!(prefixes, ["2001:db8:64:ff9b::/96"]);
        assert_eq!(nat64.pool, ["203.0.113.0/28".parse().unwrap()]);
        assert_eq!(nat64.subscribers.prefix_length.bits(), 128);
        assert!(vrrp_of(&c, &ports()).unwrap().routers.iter().all(|r| r.vrid == 64));
    }
}

#[test]
fn servers_of_the_lab_boot_as_the_contract_says() {
    let c = parse(FIRST).unwrap();
    let ra = ra_of(&c)[0].clone().unwrap().advertised;
    assert_eq!((ra.managed, ra.other, ra.dns_servers), (true, true, vec![six("2001:db8:64::53")]));
    let [prefix] = ra.prefixes[..] else { panic!("{:?}", ra.prefixes) };
    assert_eq!((prefix.prefix.to_string().as_str(), prefix.autonomous), ("2001:db8:64::/64", false));
    assert_eq!(ra.pref64[0].prefix.to_string(), "2001:db8:64:ff9b::/96");
    let d = dhcpv6_of(&c, b"").unwrap();
    let [link] = &d.links[..] else { panic!("{:?}", d.links) };
    let reserved: Vec<(MacAddr, Ipv6Addr)> =
        link.reservations.iter().map(|r| (r.mac.unwrap(), r.addresses[0])).collect();
    assert_eq!(
        reserved,
        [
            (MacAddr([2, 0, 0, 0, 1, 1]), six("2001:db8:64::101")),
            (MacAddr([2, 0, 0, 0, 1, 2]), six("2001:db8:64::102"))
        ]
    );
    let pool = causeway_dhcpv6::Pool { first: six("2001:db8:64::1000"), last: six("2001:db8:64::1fff") };
    assert_eq!(link.pools, [pool]);
    let delegated =
        causeway_dhcpv6::Delegation { prefix: "2001:db8:64:8000::/56".parse().unwrap(), length: 64 };
    assert_eq!(link.delegations, [delegated]);
}

#[test]
fn the_labs_gateways_are_a_pair() {
    let (first, second) = (parse(FIRST).unwrap(), parse(SECOND).unwrap());
    let vrrp = |c: &Config| c.vrrp.clone().unwrap();
    assert!(vrrp(&first).priority > vrrp(&second).priority);
    assert_eq!(vrrp(&first).routers, vrrp(&second).routers);
    assert_eq!(vrrp(&first).interval, vrrp(&second).interval);
    let peer = |c: &Config| c.dhcpv6.clone().unwrap().peer.unwrap();
    assert_eq!(peer(&first).listen, peer(&second).connect);
    assert_eq!(peer(&first).secret_file, peer(&second).secret_file);
    // What hosts are told does not depend on who is active.
    assert_eq!(ra_of(&first), ra_of(&second));
    assert_eq!(dhcpv6_of(&first, b"kept"), dhcpv6_of(&second, b"kept"));
}
