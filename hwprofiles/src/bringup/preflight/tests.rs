//! Everything that is refused before DPDK starts.

use super::*;

fn spec() -> Spec {
    let core = CpuSet::of_this_thread().unwrap().cpus().next().unwrap();
    Spec {
        app_group: "preflight".into(),
        main_core: core,
        worker_cores: vec![core],
        mempool_frames: 4095,
        frame_octets: 0,
        idle: Idle::Backoff,
        memory: Memory::Ordinary,
        ports: vec![PortSpec::new("one", "net_null0".parse().unwrap())],
    }
}

fn refused(change: impl FnOnce(&mut Spec)) -> String {
    let mut spec = spec();
    change(&mut spec);
    check(&spec).expect_err("it must be refused").to_string()
}

#[test]
fn a_good_one_passes() {
    check(&spec()).unwrap();
}

#[test]
fn names_that_cannot_be_used_are_refused_by_name() {
    assert!(refused(|s| s.ports.clear()).contains("no port"));
    assert!(refused(|s| s.app_group = "../x".into()).contains("`../x`"));
    assert!(refused(|s| s.ports[0].name = "a b".into()).contains("`a b`"));
    assert!(refused(|s| s.ports.push(PortSpec::new("one", "net_null1".parse().unwrap()))).contains("`one`"));
    assert!(
        refused(|s| s.ports.push(PortSpec::new("two", "net_null0".parse().unwrap()))).contains("`net_null0`")
    );
}

#[test]
fn one_interface_cannot_be_two_ports() {
    let text = refused(|s| {
        s.ports = vec![
            PortSpec::new("one", "net_af_packet0,iface=lo".parse().unwrap()),
            PortSpec::new("two", "net_af_packet1,iface=lo".parse().unwrap()),
        ];
    });
    assert!(text.contains("interface `lo`"), "{text}");
}

#[test]
fn numbers_out_of_range_say_what_is_allowed() {
    assert!(refused(|s| s.ports[0].mtu = 1279).contains("mtu is 1279: 1280 to 9600"));
    assert!(refused(|s| s.ports[0].rx_descriptors = 0).contains("rx_descriptors is 0: 32 to 32768"));
    assert!(refused(|s| s.mempool_frames = 1).contains("mempool_frames is 1: 1024 to"));
}

#[test]
fn cores_that_cannot_be_used_are_refused_with_those_that_can() {
    let text = refused(|s| s.worker_cores = vec![999]);
    assert!(
        text.contains("core 999") && text.contains("does not have it") && text.contains("usable are"),
        "{text}"
    );
    assert!(refused(|s| s.worker_cores.clear()).contains("no worker core"));
    assert!(refused(|s| s.worker_cores.push(s.worker_cores[0])).contains("two workers"));
    assert!(refused(|s| s.main_core = 500).contains("core 500"));
}

#[test]
fn devices_that_are_not_there_are_refused_by_name() {
    let text = refused(|s| s.ports[0].device = "net_af_packet0,iface=cw-nowhere".parse().unwrap());
    assert!(text.contains("cw-nowhere") && text.contains("ip link"), "{text}");
    let text = refused(|s| s.ports[0].device = "ffff:ff:1f.7".parse().unwrap());
    assert!(text.contains("ffff:ff:1f.7") && text.contains("lspci"), "{text}");
}

#[test]
fn an_interface_with_a_smaller_mtu_is_refused_with_the_command_that_helps() {
    let mtu = interface_mtu(&CString::new("lo").unwrap()).unwrap();
    // The loopback interface has a large MTU everywhere; a port never asks for more.
    assert!(mtu >= u32::from(*MTUS.end()));
    let error =
        BringupError::InterfaceMtu { port: "p".into(), interface: "up0".into(), wanted: 9000, has: 1500 };
    assert!(error.to_string().ends_with("ip link set dev up0 mtu 9000"));
}

#[test]
fn more_memory_than_there_is_is_refused() {
    let text = refused(|s| {
        s.mempool_frames = 1 << 26;
        s.frame_octets = 9600;
    });
    assert!(text.contains("the pool of frames") && text.contains("MiB are free"), "{text}");
}

#[test]
fn huge_pages_that_are_not_there_are_refused_only_if_they_are_a_must() {
    let root = std::env::temp_dir().join(format!("causeway-huge-{}", std::process::id()));
    let pages = root.join("hugepages-2048kB");
    std::fs::create_dir_all(&pages).unwrap();
    std::fs::write(pages.join("free_hugepages"), "12\n").unwrap();
    let free = huge_pages_free_mib(&root);
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!(free, 24);
    assert_eq!(huge_pages_free_mib(&root), 0);
}

#[test]
fn memory_grows_with_frames_and_pools() {
    let one = needed_mib(&spec(), 1);
    assert!(needed_mib(&spec(), 2) > one);
    assert!(needed_mib(&Spec { mempool_frames: 65_535, ..spec() }, 1) > one + 140);
}
