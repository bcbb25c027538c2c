use super::*;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use tempfile::TempDir;

/// A machine made of files.
struct Machine {
    root: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn sys(&self, path: &str) -> PathBuf {
        self.root.path().join("sys").join(path)
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.sys(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
        self
    }

    fn dir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.sys(path)).unwrap();
        self
    }

    fn link(&self, path: &str, to: &str) -> &Self {
        let path = self.sys(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
        self
    }

    fn device(&self, address: &str, class: &str, id: &str) -> &Self {
        let (vendor, device) = id.split_once(':').unwrap();
        let at = |file: &str| format!("bus/pci/devices/{address}/{file}");
        self.file(&at("class"), class)
            .file(&at("vendor"), &format!("0x{vendor}"))
            .file(&at("device"), &format!("0x{device}"))
            .file(&at("revision"), "0x03")
            .file(&at("numa_node"), "-1")
    }

    fn huge_pages(&self, node: Option<u16>, total: u64, free: u64) -> &Self {
        let at = match node {
            None => "kernel/mm/hugepages/hugepages-2048kB".to_owned(),
            Some(n) => format!("devices/system/node/node{n}/hugepages/hugepages-2048kB"),
        };
        self.file(&format!("{at}/nr_hugepages"), &total.to_string())
            .file(&format!("{at}/free_hugepages"), &free.to_string())
    }

    fn detect(&self) -> Detection {
        detect(self.root.path(), HwProfile::builtin()).unwrap()
    }
}

#[test]
fn a_machine_without_pci_has_no_devices() {
    let found = Machine::new().detect();
    assert_eq!(found.devices, []);
    assert_eq!(found.missing, [Missing::NoHugePages], "an IOMMU is not missed where there is no device");
    assert!(render_detect(&found).starts_with("No PCI Ethernet device."));
}

#[test]
fn a_device_that_is_ready_misses_nothing() {
    let m = Machine::new();
    m.device("0000:3b:00.0", "0x020000", "8086:10fb")
        .file("bus/pci/devices/0000:3b:00.0/numa_node", "1")
        .link("bus/pci/devices/0000:3b:00.0/driver", "../../../../bus/pci/drivers/vfio-pci")
        .link("bus/pci/devices/0000:3b:00.0/iommu_group", "../../../../kernel/iommu_groups/17")
        .dir("kernel/iommu_groups/17")
        .dir("bus/pci/drivers/vfio-pci")
        .huge_pages(None, 1024, 1000)
        .huge_pages(Some(0), 512, 500)
        .huge_pages(Some(1), 512, 500);
    let found = m.detect();
    assert_eq!(found.missing, []);
    assert!(found.iommu && found.vfio);
    let d = &found.devices[0];
    assert_eq!(d.missing, []);
    assert!(d.ready);
    assert_eq!((d.profile.as_deref(), d.kind.as_deref()), (Some("ixgbe"), Some("82599, X520")));
    assert_eq!((d.numa_node, d.iommu_group, d.revision), (Some(1), Some(17), 3));
    let text = render_detect(&found);
    for word in ["0000:3b:00.0", "8086:10fb", "ixgbe", "vfio-pci", "yes", "1024,"] {
        assert!(text.split_whitespace().any(|w| w == word), "{word} is not in\n{text}");
    }
}

#[test]
fn a_device_that_the_kernel_uses_says_who_is_cut_off() {
    let m = Machine::new();
    let address = "0000:01:00.0";
    m.device(address, "0x020000", "8086:1521")
        .link("bus/pci/devices/0000:01:00.0/driver", "../../../bus/pci/drivers/igb")
        .file("bus/pci/devices/0000:01:00.0/net/eno1/operstate", "up")
        .huge_pages(None, 0, 0);
    let found = m.detect();
    let d = &found.devices[0];
    assert_eq!(d.links, [Link { name: "eno1".into(), up: true }]);
    assert_eq!(d.numa_node, None);
    assert!(!d.ready);
    assert_eq!(
        d.missing,
        [
            Missing::KernelDriver { address: address.into(), driver: "igb".into() },
            Missing::LinkInUse { interface: "eno1".into() },
        ]
    );
    assert_eq!(found.missing, [Missing::NoHugePages, Missing::IommuOff, Missing::NoVfio]);
    let text = render_detect(&found);
    assert!(text.contains("eno1 (up)"), "{text}");
    assert!(text.contains("dpdk-devbind.py -b vfio-pci 0000:01:00.0"), "{text}");
}

#[test]
fn devices_of_other_makes_and_virtual_functions_have_no_profile() {
    let m = Machine::new();
    m.device("0000:00:03.0", "0x020000", "1af4:1000")
        .file("bus/pci/devices/0000:00:03.0/virtio0/net/ens3/operstate", "up")
        .device("0000:3b:10.0", "0x020000", "8086:10ed")
        .link("bus/pci/devices/0000:3b:10.0/physfn", "../0000:3b:00.0")
        .device("0000:00:02.0", "0x030000", "8086:1521")
        .device("0000:00:04.0", "0x028000", "8086:1521");
    let found = m.detect();
    let addresses: Vec<&str> = found.devices.iter().map(|d| d.address.as_str()).collect();
    assert_eq!(addresses, ["0000:00:03.0", "0000:3b:10.0"], "only Ethernet controllers count");
    assert_eq!(found.devices[0].links, [Link { name: "ens3".into(), up: true }]);
    assert!(found.devices[0].missing.contains(&Missing::NoProfile { id: "1af4:1000".parse().unwrap() }));
    assert!(found.devices[1].missing.contains(&Missing::VirtualFunction));
    assert!(found.devices.iter().all(|d| !d.ready && d.profile.is_none()));
}

#[test]
fn drivers_without_protection_and_pages_on_the_wrong_node_are_said() {
    let m = Machine::new();
    m.device("0000:05:00.0", "0x020000", "8086:15f3")
        .file("bus/pci/devices/0000:05:00.0/numa_node", "1")
        .link("bus/pci/devices/0000:05:00.0/driver", "../uio_pci_generic")
        .dir("class/iommu/dmar0")
        .dir("bus/pci/drivers/vfio-pci")
        .huge_pages(None, 64, 0)
        .huge_pages(Some(0), 64, 0)
        .huge_pages(Some(1), 0, 0);
    let found = m.detect();
    assert_eq!(found.missing, [Missing::HugePagesTaken]);
    assert!(found.devices[0].ready);
    assert_eq!(
        found.devices[0].missing,
        [
            Missing::NoProtection { driver: "uio_pci_generic".into() },
            Missing::NoIommuGroup,
            Missing::NoHugePagesOnNode { node: 1 },
        ]
    );
}

#[test]
fn junk_in_sysfs_is_no_device_and_no_panic() {
    let m = Machine::new();
    m.device("0000:06:00.0", "0x020000", "8086:15f3")
        .file("bus/pci/devices/0000:06:00.0/vendor", "8086")
        .device("0000:07:00.0", "0x02zz", "8086:15f3")
        .device("0000:08:00.0", "0x020000", "12345678:0001")
        .dir("bus/pci/devices/0000:09:00.0")
        .file("kernel/mm/hugepages/hugepages-xkB/nr_hugepages", "3")
        .file("kernel/mm/hugepages/other", "3");
    let found = m.detect();
    assert_eq!(found.devices, []);
    assert_eq!(found.huge_pages, []);
}

#[test]
fn json_says_what_is_missing_by_name() {
    let m = Machine::new();
    m.device("0000:01:00.0", "0x020000", "8086:1521");
    let json = serde_json::to_value(m.detect()).unwrap();
    assert_eq!(json["devices"][0]["id"], "8086:1521");
    assert_eq!(json["devices"][0]["missing"][0]["missing"], "not-bound");
    assert_eq!(json["missing"][0]["missing"], "no-huge-pages");
}

#[test]
fn this_machine_can_be_looked_at() {
    let found = detect(Path::new("/"), HwProfile::builtin()).unwrap();
    assert!(!render_detect(&found).is_empty());
}
