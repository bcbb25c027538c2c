//! What workers see while the virtual routers are active here, and while they are active elsewhere.
//!
//! Both are made with the plan, so that taking over is one look at another part of it: nothing is built,
//! parsed or allocated when seconds count.

use causeway_core::classify::Classifier;
use causeway_core::net::Real;
use causeway_core::{Interface, Interfaces, Prefix4, Routes};
use causeway_vrrp::{OWNER, VirtualRouter};
use causeway_wire::MacAddr;
use std::net::IpAddr;
use std::sync::Arc;

/// What a worker forwards and answers by.
#[derive(Debug)]
pub struct View {
    /// The logical interfaces.
    pub interfaces: Interfaces,
    /// The routes.
    pub routes: Routes,
    /// How frames are told apart.
    pub classifier: Classifier,
    /// Settings of native forwarding.
    pub forward: Arc<causeway_forward::Config>,
}

/// The interfaces as they are while these virtual routers are active here: virtual addresses come before our
/// own, so that what we originate comes from them, and frames carry the virtual link-layer addresses
/// (RFC 9568 7.3), which is how bridges learn where they are.
///
/// A virtual address gets the on-link prefix that it is in, of those that `on_link` gives for the network of
/// this number.
pub(super) fn with_virtual(
    own: &Interfaces,
    vrrp: &causeway_vrrp::Config,
    on_link: impl Fn(usize) -> OnLink,
) -> Interfaces {
    let mut list = Vec::with_capacity(own.count());
    for (n, (id, interface)) in own.iter().enumerate() {
        let mut i = interface.clone();
        let of = |six: bool| vrrp.routers.iter().find(|r| r.interface == id && r.source.is_ipv6() == six);
        let (six, four) = (of(true), of(false));
        if six.is_some() || four.is_some() {
            listen(&mut i, six.is_some(), four.is_some());
            apply(&mut i, six, four, &on_link(n));
            // RFC 9568 6.1, Accept_Mode: the owner of the addresses accepts what is sent to them.
            if !vrrp.accept && vrrp.priority != OWNER {
                i.no_accept = six.into_iter().chain(four).flat_map(|r| r.addresses.iter().copied()).collect();
            }
        }
        list.push(i);
    }
    Interfaces::new(list)
}

/// The interfaces as they are while the virtual routers are active elsewhere: our own addresses, and what is
/// translated is nobody's here.
pub(super) fn standing_by(own: &Interfaces, routers: &[VirtualRouter]) -> Interfaces {
    let list = own.iter().map(|(id, interface)| {
        let mut i = Interface { proxy4: Vec::new(), service4: Vec::new(), ..interface.clone() };
        let on = |six: bool| routers.iter().any(|r| r.interface == id && r.source.is_ipv6() == six);
        listen(&mut i, on(true), on(false));
        i
    });
    Interfaces::new(list.collect())
}

fn listen(i: &mut Interface, six: bool, four: bool) {
    i.groups6.extend(six.then(causeway_vrrp::group6));
    i.groups4.extend(four.then(causeway_vrrp::group4));
}

/// True if the virtual routers have something at `new` that they did not have at `old`: an address, or one on
/// another link or at another link-layer address; also an address that is only answered for if asked. Then their
/// links have to hear of it from whoever is active.
pub(crate) fn gains(old: &Interfaces, new: &Interfaces) -> bool {
    new.iter().any(|(_, i)| {
        let before = old.iter().map(|(_, before)| before).find(|before| before.link() == i.link());
        let had = |what: (IpAddr, MacAddr)| before.is_some_and(|b| virtual_addresses(b).any(|h| h == what));
        let proxied = |p: &Prefix4| before.is_some_and(|b| b.real.is_some() && b.proxy4.contains(p));
        virtual_addresses(i).any(|what| !had(what)) || i.real.is_some() && !i.proxy4.iter().all(proxied)
    })
}

/// The virtual addresses of an interface, each with the link-layer address that it is at.
fn virtual_addresses(i: &Interface) -> impl Iterator<Item = (IpAddr, MacAddr)> {
    let six = std::iter::once(&i.link_local)
        .chain(&i.more_link_local)
        .chain(i.addrs6.iter().map(|(a, _)| a))
        .chain(&i.service6);
    let all = six.map(|a| IpAddr::V6(*a)).chain(i.addrs4.iter().map(|(a, _)| IpAddr::V4(*a)));
    let real = i.real.as_ref();
    all.filter(move |a| real.is_some_and(|real| !real.addrs.contains(a))).map(|a| (a, i.mac_of(a)))
}

/// Prefixes that are on the link of a network.
#[derive(Debug, Clone, Default)]
pub(super) struct OnLink {
    pub(super) six: Vec<causeway_core::Prefix6>,
    pub(super) four: Vec<causeway_core::Prefix4>,
}

fn apply(i: &mut Interface, six: Option<&VirtualRouter>, four: Option<&VirtualRouter>, on_link: &OnLink) {
    let own6 = std::iter::once(i.link_local).chain(i.addrs6.iter().map(|(a, _)| *a));
    let own4 = i.addrs4.iter().map(|(a, _)| IpAddr::V4(*a));
    let addrs = own6.map(IpAddr::V6).chain(own4).collect();
    let port = i.mac;
    i.real = Some(Real { mac: port, addrs });
    i.mac = six.map_or(port, VirtualRouter::mac);
    i.mac4 = Some(four.map_or(port, VirtualRouter::mac));
    let (mut addrs6, mut addrs4) = (Vec::new(), Vec::new());
    for address in six.into_iter().chain(four).flat_map(|r| &r.addresses) {
        match *address {
            IpAddr::V6(a) if a.is_unicast_link_local() => {
                // The first is the one that hosts know their router by (RFC 9568 5.2.9).
                if i.more_link_local.is_empty() {
                    i.more_link_local.push(std::mem::replace(&mut i.link_local, a));
                } else {
                    i.more_link_local.push(a);
                }
            }
            IpAddr::V6(a) => match on_link.six.iter().find(|p| p.contains(a)) {
                Some(prefix) => addrs6.push((a, *prefix)),
                None => i.service6.push(a),
            },
            IpAddr::V4(a) => {
                let host = causeway_core::Prefix4::containing(a, 32);
                let prefix = on_link.four.iter().find(|p| p.contains(a)).copied().or(host);
                addrs4.extend(prefix.map(|p| (a, p)));
            }
        }
    }
    addrs6.append(&mut i.addrs6);
    addrs4.append(&mut i.addrs4);
    (i.addrs6, i.addrs4) = (addrs6, addrs4);
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_core::{IfId, Role};
    use causeway_wire::MacAddr;

    fn own() -> Interfaces {
        let uplink = Interface {
            name: "uplink".to_owned(),
            port: 1,
            role: Role::Uplink,
            mac: MacAddr([2, 0, 0, 0, 0, 2]),
            link_local: "fe80::ff:2".parse().unwrap(),
            addrs6: vec![("2001:db8:ffff::3".parse().unwrap(), "2001:db8:ffff::/64".parse().unwrap())],
            addrs4: vec![("192.0.2.3".parse().unwrap(), "192.0.2.0/24".parse().unwrap())],
            ..Interface::default()
        };
        let other = Interface { name: "other".to_owned(), ..uplink.clone() };
        Interfaces::new(vec![uplink, other])
    }

    fn group(routers: &[VirtualRouter]) -> causeway_vrrp::Config {
        causeway_vrrp::Config {
            routers: routers.to_vec(),
            priority: 100,
            interval_cs: 10,
            preempt: true,
            preempt_delay: std::time::Duration::ZERO,
            accept: false,
            checksum4: causeway_vrrp::Peer4Checksum::default(),
        }
    }

    fn router(addresses: &[&str], source: &str) -> VirtualRouter {
        VirtualRouter {
            interface: IfId(0),
            vrid: 64,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            source: source.parse().unwrap(),
        }
    }

    #[test]
    fn rfc9568_7_3_virtual_addresses_are_at_virtual_macs_and_ours_at_the_ports() {
        let routers =
            [router(&["fe80::2", "2001:db8:ffff::2"], "fe80::ff:2"), router(&["192.0.2.2"], "192.0.2.3")];
        let on_link = |_| OnLink {
            six: vec!["2001:db8:ffff::/64".parse().unwrap()],
            four: vec!["192.0.2.0/24".parse().unwrap()],
        };
        let active = with_virtual(&own(), &group(&routers), on_link);
        let i = active.get(IfId(0)).unwrap();
        let (v6, v4) = (MacAddr([0, 0, 0x5e, 0, 2, 64]), MacAddr([0, 0, 0x5e, 0, 1, 64]));
        let port = MacAddr([2, 0, 0, 0, 0, 2]);
        assert_eq!((i.mac, i.mac4()), (v6, v4));
        for (address, mac) in [
            ("fe80::2", v6),
            ("2001:db8:ffff::2", v6),
            ("192.0.2.2", v4),
            ("fe80::ff:2", port),
            ("2001:db8:ffff::3", port),
            ("192.0.2.3", port),
        ] {
            assert_eq!(i.mac_of(address.parse().unwrap()), mac, "{address}");
        }
        assert_eq!(i.link_local, "fe80::2".parse::<std::net::Ipv6Addr>().unwrap());
        assert_eq!(i.more_link_local, ["fe80::ff:2".parse::<std::net::Ipv6Addr>().unwrap()]);
        // What we originate comes from the virtual addresses.
        assert_eq!(i.source4("192.0.2.1".parse().unwrap()), Some("192.0.2.2".parse().unwrap()));
        assert_eq!(
            i.source6("2001:db8:6::10".parse().unwrap()),
            "2001:db8:ffff::2".parse::<std::net::Ipv6Addr>().unwrap()
        );
        // A network without a virtual router stays as it is.
        let other = active.get(IfId(1)).unwrap();
        assert_eq!((other.mac, other.mac4, other.real.as_ref()), (port, None, None));
    }

    #[test]
    fn a_family_without_a_virtual_router_keeps_the_ports_mac() {
        let routers = [router(&["192.0.2.2"], "192.0.2.3")];
        let active = with_virtual(&own(), &group(&routers), |_| OnLink::default());
        let i = active.get(IfId(0)).unwrap();
        assert_eq!(i.mac, MacAddr([2, 0, 0, 0, 0, 2]));
        assert_eq!(i.mac4(), MacAddr([0, 0, 0x5e, 0, 1, 64]));
        assert_eq!(i.link_local, "fe80::ff:2".parse::<std::net::Ipv6Addr>().unwrap());
        let host: causeway_core::Prefix4 = "192.0.2.2/32".parse().unwrap();
        assert_eq!(i.addrs4[0], ("192.0.2.2".parse().unwrap(), host));
    }
}
