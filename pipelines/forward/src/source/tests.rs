use super::*;
use causeway_core::classify::Classifier;
use causeway_core::{HeapFrame, Prefix6};
use causeway_testkit::{Rig, ip6, lab_interfaces, mac};
use causeway_wire::MacAddr;
use causeway_wire::ethernet::EthernetRepr;
use proptest::prelude::*;

const VM1: &str = "2001:db8:64::101";
const VM2: &str = "2001:db8:64::102";
const FAR: &str = "2001:db8:6::10";
const FAR4: &str = "2001:db8:64:ff9b::198.51.100.10";
const GATEWAY: &str = "2001:db8:64::1";
/// Delegated to vm1.
const BEHIND: &str = "2001:db8:64:8001::7";
const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0x64, 1]);

/// The lab, where `tenant0` has this setting and two hosts with leases: vm1 at mac 1, with a delegated
/// prefix, and vm2 at mac 2.
struct Lab {
    classifier: Classifier,
    guard: SourceGuard,
}

impl Lab {
    fn new(validation: Validation) -> Self {
        let mut list = lab_interfaces();
        list[0].validation = validation;
        list[0].sources6.push("2001:db8:64:8000::/56".parse().unwrap());
        let interfaces = Interfaces::new(list);
        let bindings = Bindings::new(100, [1, 2]).unwrap();
        let single = |t: &str| Prefix6::new(t.parse().unwrap(), 128).unwrap();
        bindings.set(0, single(VM1), mac(1)).unwrap();
        bindings.set(0, single(VM2), mac(2)).unwrap();
        bindings.set(0, "2001:db8:64:8001::/64".parse().unwrap(), mac(1)).unwrap();
        let prefix = "2001:db8:64:ff9b::/96".parse().unwrap();
        Self {
            classifier: Classifier::new(&interfaces, &[vec![], vec![]], vec![prefix], vec![]),
            guard: SourceGuard::new(&interfaces, Arc::new(bindings)),
        }
    }

    /// What a burst of frames becomes: each from this station, on this VLAN of port 0, with this packet.
    fn classify(&self, frames: &[(MacAddr, Option<u16>, Vec<u8>)]) -> Vec<Result<Class, DropReason>> {
        let mut packets = Vec::new();
        let mut classes = Vec::new();
        for (src, vlan, l3) in frames {
            let mut packet = framed(*src, *vlan, l3);
            classes.push(self.classifier.classify_in_place(0, &mut packet));
            packets.push(packet);
        }
        self.guard.check(&packets, &mut classes);
        classes
    }

    fn one(&self, src: MacAddr, l3: Vec<u8>) -> Result<Class, DropReason> {
        self.classify(&[(src, None, l3)])[0]
    }
}

fn framed(src: MacAddr, vlan: Option<u16>, l3: &[u8]) -> Packet<HeapFrame> {
    let dst: [u8; 16] = l3[24..40].try_into().unwrap();
    let dst = Ipv6Addr::from(dst);
    let to = if dst.is_multicast() { MacAddr::from_ipv6_multicast(dst) } else { OUR_MAC };
    let repr = EthernetRepr { dst: to, src, vlan, ethertype: ethernet::ETHERTYPE_IPV6 };
    let mut b = vec![0xa5; repr.header_octets()];
    repr.emit(&mut b).unwrap();
    b.extend_from_slice(l3);
    Packet { frame: HeapFrame::new(&b), meta: causeway_core::Meta::originated() }
}

fn udp(src: &str, dst: &str) -> Vec<u8> {
    ip6(src, dst).udp(7, 7, b"x")
}

#[test]
fn rfc7039_a_leased_source_passes_from_its_own_station_alone() {
    let lab = Lab::new(Validation::Leased);
    let (unbound, other) = (Err(DropReason::SourceNotBound), Err(DropReason::SourceOtherMac));
    for (dst, class) in [(FAR, Class::Forward6), (FAR4, Class::Nat64In), (GATEWAY, Class::Local)] {
        assert_eq!(lab.one(mac(1), udp(VM1, dst)), Ok(class), "{dst}");
        assert_eq!(lab.one(mac(2), udp(VM2, dst)), Ok(class), "{dst}");
        assert_eq!(lab.one(mac(1), udp(BEHIND, dst)), Ok(class), "a delegated prefix: {dst}");
        assert_eq!(lab.one(mac(2), udp(VM1, dst)), other, "{dst}");
        assert_eq!(lab.one(mac(2), udp(BEHIND, dst)), other, "{dst}");
        assert_eq!(lab.one(mac(1), udp("2001:db8:64::103", dst)), unbound, "{dst}");
        assert_eq!(lab.one(mac(1), udp("2001:db8:64:8002::7", dst)), unbound, "{dst}");
    }
    // Outside of the network's prefixes classification says so already.
    assert_eq!(lab.one(mac(1), udp("2001:db8:65::77", FAR)), Err(DropReason::SpoofedSource));
}

#[test]
fn rfc7039_a_binding_holds_on_its_own_link() {
    let mut list = lab_interfaces();
    for i in [0, 2] {
        list[i].validation = Validation::Leased;
        list[i].sources6 = vec!["2001:db8:64::/64".parse().unwrap()];
    }
    let interfaces = Interfaces::new(list);
    let bindings = Arc::new(Bindings::new(100, [1, 2]).unwrap());
    bindings.set(65, Prefix6::new(VM1.parse().unwrap(), 128).unwrap(), mac(1)).unwrap();
    let lab = Lab {
        classifier: Classifier::new(&interfaces, &[vec![], vec![]], vec![], vec![]),
        guard: SourceGuard::new(&interfaces, bindings),
    };
    let there = lab.classify(&[(mac(1), Some(65), udp(VM1, FAR)), (mac(1), None, udp(VM1, FAR))]);
    assert_eq!(there, [Ok(Class::Forward6), Err(DropReason::SourceNotBound)]);
}

#[test]
fn rfc7513_what_a_host_without_a_lease_needs_is_let_through() {
    let lab = Lab::new(Validation::Leased);
    let probe = ip6("::", "ff02::1:ff00:1").ns(GATEWAY, None);
    assert_eq!(lab.one(mac(9), probe), Ok(Class::Local), "a probe for duplicates");
    let rs = ip6("fe80::9", "ff02::2").hop_limit(255).icmp(133, 0, [0; 4], &[]);
    assert_eq!(lab.one(mac(9), rs), Ok(Class::Local), "a Router Solicitation");
    assert_eq!(lab.one(mac(9), udp("fe80::9", "fe80::1")), Ok(Class::Local));
    // But not from the address that it would like to have.
    let eager = ip6("2001:db8:64::109", "ff02::1:ff00:1").ns(GATEWAY, Some(mac(9)));
    assert_eq!(lab.one(mac(9), eager), Err(DropReason::SourceNotBound));
}

#[test]
fn rfc4862_5_4_who_claims_an_address_of_ours_is_heard_of_all_the_same() {
    let lab = Lab::new(Validation::Leased);
    let claim = |src: &str| ip6(src, "ff02::1").na(src, false, false, true, Some(mac(9)));
    assert_eq!(lab.one(mac(9), claim(GATEWAY)), Ok(Class::Local));
    assert_eq!(lab.one(mac(9), claim("fe80::1")), Ok(Class::Local));
    assert_eq!(lab.one(mac(9), claim(VM1)), Err(DropReason::SourceOtherMac));
}

#[test]
fn networks_with_other_settings_are_left_alone() {
    for validation in [Validation::Off, Validation::Prefix] {
        let lab = Lab::new(validation);
        assert!(!lab.guard.is_needed());
        assert_eq!(lab.one(mac(9), udp("2001:db8:64::103", FAR)), Ok(Class::Forward6));
    }
    // Another network of the same gateway that is not leased.
    let lab = Lab::new(Validation::Leased);
    assert!(lab.guard.is_needed());
    let both = lab.classify(&[
        (mac(9), Some(65), udp("2001:db8:65::101", FAR)),
        (mac(9), None, udp("2001:db8:64::109", FAR)),
    ]);
    assert_eq!(both, [Ok(Class::Forward6), Err(DropReason::SourceNotBound)]);
    // An uplink is nobody's lease, whatever is written there.
    let mut list = lab_interfaces();
    list[1].validation = Validation::Leased;
    let none = SourceGuard::new(&Interfaces::new(list), Arc::new(Bindings::new(1, [1, 2]).unwrap()));
    assert!(!none.is_needed());
}

#[test]
fn a_mixed_burst_has_each_packet_judged_by_itself() {
    let lab = Lab::new(Validation::Leased);
    let frames: Vec<_> = (0..BURST)
        .map(|n| match n % 4 {
            0 => (mac(1), None, udp(VM1, FAR)),
            1 => (mac(2), None, udp(VM1, FAR)),
            2 => (mac(1), None, udp("2001:db8:64::55", FAR)),
            _ => (mac(2), None, udp("2001:db8:99::1", FAR)),
        })
        .collect();
    let want = [
        Ok(Class::Forward6),
        Err(DropReason::SourceOtherMac),
        Err(DropReason::SourceNotBound),
        Err(DropReason::SpoofedSource),
    ];
    for (n, got) in lab.classify(&frames).into_iter().enumerate() {
        assert_eq!(got, want[n % 4], "{n}");
    }
}

#[test]
fn a_lease_that_ends_or_moves_counts_from_the_next_burst() {
    let lab = Lab::new(Validation::Leased);
    let vm1 = Prefix6::new(VM1.parse().unwrap(), 128).unwrap();
    lab.guard.bindings.set(0, vm1, mac(7)).unwrap();
    assert_eq!(lab.one(mac(1), udp(VM1, FAR)), Err(DropReason::SourceOtherMac));
    assert_eq!(lab.one(mac(7), udp(VM1, FAR)), Ok(Class::Forward6));
    lab.guard.bindings.remove(0, vm1);
    assert_eq!(lab.one(mac(7), udp(VM1, FAR)), Err(DropReason::SourceNotBound));
}

proptest! {
    #[test]
    fn any_octets_are_judged_without_panic(b in proptest::collection::vec(any::<u8>(), 0..80), kind in 0usize..3, n in 0usize..70) {
        let lab = Lab::new(Validation::Leased);
        let rig = Rig::lab();
        let mut packet = rig.packet("tenant0", &udp(VM1, FAR));
        packet.frame = HeapFrame::new(&b);
        packet.meta.ethertype = [0x86dd, 0x0800, 0x0806][kind];
        let packets = vec![packet; n];
        let mut classes = vec![Ok(Class::Forward6); n];
        // Of 2^128 sources nobody guesses a bound one; one in 1,024 is link-local.
        let checked = kind == 0 && b.len() >= 40 && !(b[8] == 0xfe && b[9] & 0xc0 == 0x80) && b[8..24] != [0; 16];
        lab.guard.check(&packets, &mut classes);
        for class in classes {
            prop_assert_eq!(class, if checked { Err(DropReason::SourceNotBound) } else { Ok(Class::Forward6) });
        }
    }
}
