use super::*;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

const IXGBE: &str = include_str!("../../profiles/ixgbe.toml");
const VETH: &str = include_str!("../../profiles/veth.toml");

fn of(name: &str) -> &'static HwProfile {
    HwProfile::by_name(name).unwrap()
}

fn id(text: &str) -> PciId {
    text.parse().unwrap()
}

#[test]
fn every_profile_that_is_compiled_in_is_a_good_one() {
    for (file, text) in FILES {
        let profile = HwProfile::parse(file, text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(format!("{}.toml", profile.name()), *file);
        // What a profile says of itself must pass its own check.
        let kinds: Vec<Option<PciId>> = match profile.devices() {
            [] => vec![None],
            kinds => kinds.iter().flat_map(|k| &k.pci).copied().map(Some).collect(),
        };
        for device in kinds {
            let demand = Demand { device, ports: 2, ..Demand::default() };
            let checked = profile.check(&demand).unwrap_or_else(|e| panic!("{file} {device:?}: {e:?}"));
            assert_eq!(checked.workers, profile.cores().default_workers);
        }
    }
    assert_eq!(HwProfile::builtin().len(), FILES.len());
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    let on_disk = HwProfile::load_dir(&directory).unwrap();
    let names = |list: &[HwProfile]| list.iter().map(|p| p.name().to_owned()).collect::<HashSet<_>>();
    assert_eq!(names(&on_disk), names(HwProfile::builtin()), "a file is not compiled in");
}

#[test]
fn no_device_is_in_two_profiles() {
    let mut seen = HashMap::new();
    for profile in HwProfile::builtin() {
        for pci in profile.devices().iter().flat_map(|d| &d.pci) {
            assert_eq!(seen.insert(*pci, profile.name()), None, "{pci}");
            assert_eq!(HwProfile::matching(*pci).unwrap().name(), profile.name());
        }
    }
    assert!(HwProfile::matching(id("1af4:1000")).is_none());
}

#[test]
fn the_lab_gets_what_the_lab_needs() {
    let veth = of("veth");
    assert_eq!(veth.driver().name, "net_af_packet");
    assert_eq!(veth.cores().idle, Idle::Backoff);
    assert_eq!(veth.capacity().sessions, 262_144);
    let checked = veth.check(&Demand { ports: 2, ..Demand::default() }).unwrap();
    assert_eq!((checked.workers, checked.rx_queues, checked.mtu), (1, 1, 1500));
    assert!(checked.promiscuous);
    assert_eq!(of("null").cores().idle, Idle::Spin);
}

#[test]
fn kinds_of_one_family_have_their_own_limits() {
    let ixgbe = of("ixgbe");
    let x520 = ixgbe.limits(Some(id("8086:10fb")));
    let x550 = ixgbe.limits(Some(id("8086:1563")));
    assert_eq!((x520.max_rx_queues, x520.rss_queues, x520.rss_table), (128, 16, 128));
    assert_eq!((x550.max_rx_queues, x550.rss_queues, x550.rss_table), (128, 64, 512));
    let igb = of("igb");
    let of_igb = |text| igb.limits(Some(id(text)));
    assert_eq!((of_igb("8086:10c9").rss_queues, of_igb("8086:10c9").mac_filters), (16, 24));
    assert_eq!((of_igb("8086:1521").rss_queues, of_igb("8086:1521").mac_filters), (8, 32));
    assert_eq!((of_igb("8086:1539").rss_queues, of_igb("8086:1539").mac_filters), (2, 16));
    assert_eq!(igb.device(id("8086:1521")).unwrap().name, "I350");
}

#[test]
fn keys_are_as_long_as_the_driver_wants_them_and_symmetric() {
    let lengths = [("ixgbe", 40), ("igb", 40), ("igc", 40), ("i40e", 52), ("ice", 52)];
    for (name, octets) in lengths {
        let Rss::Toeplitz { key, .. } = of(name).rss() else { panic!("{name} has RSS") };
        assert_eq!(key.octets().len(), octets);
        assert!(key.is_symmetric());
    }
}

/// The value of a `#define NAME VALUE` of a C header, if it has one.
fn defined<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("#define") && words.next() == Some(name)).then(|| words.next()).flatten()
    })
}

#[test]
fn bits_are_those_of_the_dpdk_that_is_installed() {
    let path = "/usr/include/dpdk/rte_ethdev.h";
    let Ok(header) = std::fs::read_to_string(path) else {
        eprintln!("skipped: {path} is not there");
        return;
    };
    let bit = |name: &str| -> u32 {
        let value = defined(&header, name).unwrap_or_else(|| panic!("{name} is not in {path}"));
        value.strip_prefix("RTE_BIT64(").and_then(|v| v.strip_suffix(')')).unwrap().parse().unwrap()
    };
    for field in RssField::ALL {
        let name = match field {
            RssField::Ipv4 => "IPV4",
            RssField::Ipv4Frag => "FRAG_IPV4",
            RssField::Ipv4Tcp => "NONFRAG_IPV4_TCP",
            RssField::Ipv4Udp => "NONFRAG_IPV4_UDP",
            RssField::Ipv4Sctp => "NONFRAG_IPV4_SCTP",
            RssField::Ipv4Other => "NONFRAG_IPV4_OTHER",
            RssField::Ipv6 => "IPV6",
            RssField::Ipv6Frag => "FRAG_IPV6",
            RssField::Ipv6Tcp => "NONFRAG_IPV6_TCP",
            RssField::Ipv6Udp => "NONFRAG_IPV6_UDP",
            RssField::Ipv6Sctp => "NONFRAG_IPV6_SCTP",
            RssField::Ipv6Other => "NONFRAG_IPV6_OTHER",
            RssField::Ipv6Ex => "IPV6_EX",
            RssField::Ipv6TcpEx => "IPV6_TCP_EX",
            RssField::Ipv6UdpEx => "IPV6_UDP_EX",
        };
        assert_eq!(field.rte_bit(), bit(&format!("RTE_ETH_RSS_{name}")), "{name}");
    }
    for checksum in [Checksum::Ipv4, Checksum::Tcp, Checksum::Udp] {
        let name = checksum.name().to_uppercase();
        assert_eq!(checksum.rte_bit(), bit(&format!("RTE_ETH_RX_OFFLOAD_{name}_CKSUM")));
        assert_eq!(checksum.rte_bit(), bit(&format!("RTE_ETH_TX_OFFLOAD_{name}_CKSUM")));
    }
}

/// Profile text with one piece replaced, which must be there.
fn with(base: &str, from: &str, to: &str) -> String {
    assert!(base.contains(from), "`{from}` is not in the profile");
    base.replacen(from, to, 1)
}

#[test]
fn bad_values_are_named_with_file_key_value_and_what_is_allowed() {
    // What is replaced, by what, and the message.
    let rows = [
        (
            "name = \"ixgbe\"",
            "name = \"Ix Gbe\"",
            "t.toml: name = `Ix Gbe` (allowed: 1 to 32 lower-case letters",
        ),
        ("\"net_ixgbe\"", "\"ixgbe\"", "t.toml: driver.name = `ixgbe` (allowed: the name of a DPDK"),
        ("max-rx = 128", "max-rx = 0", "t.toml: queues.max-rx = 0 (allowed: 1 to 1024)"),
        ("max-rx = 128", "max-rx = 70000", "t.toml: queues.max-rx = 70000 (allowed: 1 to 1024)"),
        ("default = 4", "default = 65", "t.toml: queues.default = 65 (allowed: 1 to 64)"),
        ("default = 1024", "default = 1020", "descriptors.rx.default = 1020 (allowed: a multiple of 8)"),
        ("default = 1024", "default = 8192", "descriptors.rx.default = 8192 (allowed: 64 to 4096)"),
        ("min = 64", "min = 8192", "descriptors.rx.min = 8192 (allowed: at most max, which is 4096)"),
        ("multiple = 8", "multiple = 0", "descriptors.rx.multiple = 0 (allowed: 1 to 1024)"),
        (
            "key = \"6d5a\"",
            "key = \"6d5a7\"",
            "rss.key = `6d5a7` (allowed: hexadecimal octets that repeat to 40",
        ),
        (
            "key = \"6d5a\"",
            "key = \"6d5a77\"",
            "rss.key = `6d5a77` (allowed: hexadecimal octets that repeat to 40",
        ),
        ("key = \"6d5a\"", "key = \"xyz0\"", "rss.key = `xyz0`"),
        ("key = \"6d5a\"", "key = \"é\"", "rss.key = `é`"),
        ("key = \"6d5a\"", "key = \"0000\"", "rss.key = `0000` (allowed: not all zeros"),
        ("key-octets = 40", "key-octets = 39", "rss.key-octets = 39 (allowed: 40 to 128)"),
        ("table = 128", "table = 100", "rss.table = 100 (allowed: a power of two from 2 to 4096)"),
        ("queues = 16", "queues = 129", "rss.queues = 129 (allowed: 1 to 128)"),
        ("\"ipv4\", \"ipv4-tcp\"", "\"ipv4\", \"ipv4\"", "rss.fields[1] = `ipv4` (allowed: each once)"),
        ("prediction = \"microsoft\"\n", "", "rss.prediction = nothing (allowed: needed with"),
        ("hash = \"toeplitz\"", "hash = \"none\"", "rss.table = a value (allowed: only with"),
        (
            "rx-enabled = []",
            "rx-enabled = [\"udp\", \"udp\"]",
            "offloads.rx-enabled[1] = `udp` (allowed: each once)",
        ),
        (
            "tx = [\"ipv4\", \"tcp\", \"udp\"]\nrx-enabled = []\ntx-enabled = []",
            "tx = [\"ipv4\"]\nrx-enabled = []\ntx-enabled = [\"tcp\"]",
            "offloads.tx-enabled[0] = `tcp` (allowed: those in offloads.tx)",
        ),
        ("max-octets = 15872", "max-octets = 1500", "frame.max-octets = 1500 (allowed: 1518 to 65535)"),
        ("mac = 128", "mac = -1", "filters.mac = -1 (allowed: 0 to 4096)"),
        ("frames = 65535", "frames = 10", "mempool.frames = 10 (allowed: 1023 to 16777215)"),
        ("default-workers = 4", "default-workers = 65", "cores.default-workers = 65 (allowed: 1 to 64)"),
        (
            "default-workers = 4",
            "default-workers = 17",
            "cores.default-workers = 17 (allowed: at most 16, for `82599, X520`)",
        ),
        ("sessions = 4194304", "sessions = 0", "capacity.sessions = 0 (allowed: 1024 to 268435456)"),
        (
            "spliced = 524288",
            "spliced = 4194305",
            "capacity.spliced = 4194305 (allowed: at most sessions, which is 4194304)",
        ),
        ("\"8086:1528\"", "\"8086:15\"", "device[1].pci[0] = `8086:15` (allowed: a PCI id is two numbers"),
        ("\"8086:1528\"", "\"8086:10fb\"", "device[1].pci[0] = `8086:10fb` (allowed: each id once)"),
        ("[\"8086:1528\", \"8086:1560\"]", "[]", "device[1].pci = [] (allowed: at least one id)"),
        ("rss-table = 512", "rss-table = 513", "device[2].rss-table = 513 (allowed: a power of two"),
        ("rss-queues = 64", "rss-queues = 1000", "device[2].rss-queues = 1000 (allowed: 1 to 128)"),
        ("bus = \"pci\"", "bus = \"vdev\"", "device = a table (allowed: no [[device]] with"),
        (
            "mempool = \"our choice; room is RTE_MBUF_DEFAULT_BUF_SIZE\"",
            "mempool = \" \"",
            "sources.mempool = ` ` (allowed: a line of text)",
        ),
        ("bus = \"pci\"", "bus = \"pci\"\nspeed = 3", "driver.speed = unknown field `speed`"),
        (
            "numa = \"prefer\"",
            "numa = \"near\"",
            "cores.numa = unknown variant `near`, expected one of `same`, `prefer`, `any`",
        ),
        ("mac = 128", "mac = \"many\"", "filters.mac = invalid type: string \"many\", expected i64"),
        ("vlan = 4096\n", "", "filters = missing field `vlan`"),
        ("capacity = \"our choice: about 640 MiB\"\n", "", "sources = missing field `capacity`"),
        ("[driver]", "[driver", "t.toml: not TOML: "),
    ];
    for (from, to, message) in rows {
        let error = HwProfile::parse("t.toml", &with(IXGBE, from, to)).unwrap_err().to_string();
        assert!(error.contains(message), "`{to}` gives\n  {error}\nand not\n  {message}");
        assert!(error.starts_with("t.toml: "), "{error}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = with(
        &with(&with(IXGBE, "max-rx = 128", "max-rx = 0"), "mac = 128", "mac = -1"),
        "min = 64",
        "min = 0",
    );
    let keys: Vec<String> =
        HwProfile::parse("t", &text).unwrap_err().problems.into_iter().map(|p| p.key).collect();
    for key in ["queues.max-rx", "descriptors.rx.min", "filters.mac"] {
        assert!(keys.iter().any(|k| k == key), "{key} is not in {keys:?}");
    }
}

#[test]
fn loaded_profiles_replace_built_in_ones_and_add_devices() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("veth.toml"), with(VETH, "sessions = 262144", "sessions = 300000"))
        .unwrap();
    let mine = with(
        &with(IXGBE, "name = \"ixgbe\"", "name = \"mine\""),
        "\"8086:1528\", \"8086:1560\"",
        "\"1d0f:0001\"",
    );
    std::fs::write(dir.path().join("mine.toml"), mine).unwrap();
    std::fs::write(dir.path().join("README.md"), "not a profile").unwrap();

    let profiles = all(Some(dir.path())).unwrap();
    assert_eq!(profiles.len(), FILES.len() + 2);
    assert_eq!(by_name(&profiles, "veth").unwrap().capacity().sessions, 300_000);
    assert_eq!(matching(&profiles, id("1d0f:0001")).unwrap().0.name(), "mine");
    // A device of both: the loaded profile wins. A device of the built-in one only: that one.
    assert_eq!(matching(&profiles, id("8086:10fb")).unwrap().0.name(), "mine");
    assert_eq!(matching(&profiles, id("8086:1528")).unwrap().0.name(), "ixgbe");
    assert!(by_name(&profiles, "none-such").is_none());
}

#[test]
fn a_directory_with_bad_files_says_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.toml"), with(IXGBE, "mac = 128", "mac = -1")).unwrap();
    std::fs::write(dir.path().join("b.toml"), "name = 3").unwrap();
    let error = HwProfile::load_dir(dir.path()).unwrap_err().to_string();
    assert!(error.contains("a.toml: filters.mac = -1"), "{error}");
    assert!(error.contains("b.toml: name = invalid type"), "{error}");

    std::fs::write(dir.path().join("a.toml"), VETH).unwrap();
    std::fs::write(dir.path().join("b.toml"), VETH).unwrap();
    let error = HwProfile::load_dir(dir.path()).unwrap_err().to_string();
    assert!(error.contains("b.toml: name `veth` is in profile `veth` already"), "{error}");

    std::fs::write(dir.path().join("a.toml"), IXGBE).unwrap();
    std::fs::write(dir.path().join("b.toml"), with(IXGBE, "name = \"ixgbe\"", "name = \"other\"")).unwrap();
    let error = HwProfile::load_dir(dir.path()).unwrap_err().to_string();
    assert!(error.contains("is in profile `ixgbe` already"), "{error}");

    let nowhere = dir.path().join("nowhere");
    assert!(
        HwProfile::load_dir(&nowhere).unwrap_err().to_string().starts_with(&nowhere.display().to_string())
    );
}

#[test]
fn what_the_device_cannot_do_is_said_in_full() {
    let x540 = Some(id("8086:1528"));
    let rows: Vec<(&str, Demand, &str)> = vec![
        ("ixgbe", Demand { workers: Some(0), ..Demand::default() }, "0 workers (allowed: 1 to 64)"),
        (
            "ixgbe",
            Demand { device: Some(id("8086:1563")), workers: Some(65), ..Demand::default() },
            "65 workers (allowed: 1 to 64)",
        ),
        ("igc", Demand { rx_queues: Some(6), ..Demand::default() }, "6 receive queues (allowed: 1 to 4)"),
        ("igc", Demand { tx_queues: Some(0), ..Demand::default() }, "0 transmit queues (allowed: 1 to 4)"),
        (
            "ixgbe",
            Demand { workers: Some(4), tx_queues: Some(2), ..Demand::default() },
            "2 transmit queues for 4 workers (allowed: at least one for each worker)",
        ),
        (
            "ixgbe",
            Demand { device: x540, workers: Some(20), ..Demand::default() },
            "20 receive queues, of which RSS fills 16 (allowed: 1 to 16)",
        ),
        (
            "i40e",
            Demand { rx_descriptors: Some(1000), ..Demand::default() },
            "1000 receive descriptors (allowed: 64 to 4096, a multiple of 32)",
        ),
        (
            "ice",
            Demand { tx_descriptors: Some(8192), ..Demand::default() },
            "8192 transmit descriptors (allowed: 64 to 4096, a multiple of 32)",
        ),
        ("veth", Demand { mtu: Some(9000), ..Demand::default() }, "MTU 9000 (allowed: 1280 to 1500)"),
        ("igb", Demand { mtu: Some(1279), ..Demand::default() }, "MTU 1279 (allowed: 1280 to 9706)"),
        (
            "igb",
            Demand { mtu: Some(9000), room_octets: Some(2176), ..Demand::default() },
            "data room of 2176 octets with MTU 9000 (allowed: at least 9150)",
        ),
        (
            "igc",
            Demand { ports: 2, mempool_frames: Some(2000), ..Demand::default() },
            "a pool of 2000 frames (allowed: at least 8192 for these queues and rings)",
        ),
        ("igc", Demand { device: x540, ..Demand::default() }, "device 8086:1528 is none of this profile's"),
    ];
    for (name, demand, message) in rows {
        let errors = of(name).check(&demand).expect_err(message);
        let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(said, [message], "{name} {demand:?}");
    }
    // Several at once.
    let demand = Demand { workers: Some(9), mtu: Some(100), rx_descriptors: Some(7), ..Demand::default() };
    assert_eq!(of("igc").check(&demand).unwrap_err().len(), 3, "workers, ring, MTU");
}

#[test]
fn what_is_not_said_is_filled_in() {
    let x550 = Some(id("8086:1563"));
    let demand = Demand { device: x550, ports: 2, workers: Some(20), mtu: Some(9000), ..Demand::default() };
    let checked = of("ixgbe").check(&demand).unwrap();
    assert_eq!((checked.rx_queues, checked.tx_queues, checked.rx_descriptors), (20, 20, 1024));
    assert_eq!(checked.room_octets, 9000 + 18 + 128, "a jumbo frame fits one buffer");
    // 2 ports x 20 pairs x 2048 descriptors and 20 workers x 2048 frames: 122,880.
    assert_eq!(checked.mempool_frames, 131_071);
    assert_eq!(checked.notices, []);
    assert!(!checked.promiscuous);

    let two = of("veth").check(&Demand { workers: Some(2), ..Demand::default() }).unwrap();
    assert!(two.notices.contains(&Notice::HashIsTheKernels));
    assert!(two.notices.contains(&Notice::Promiscuous { addresses: 1, filters: 0 }));
    let ice = of("ice").check(&Demand { mac_addresses: 65, ..Demand::default() }).unwrap();
    assert_eq!(ice.notices, [Notice::Promiscuous { addresses: 65, filters: 64 }, Notice::NoReturnPorts]);
}

#[test]
fn a_list_has_a_line_for_each_profile_and_show_has_every_fact() {
    let list = render_list(HwProfile::builtin());
    assert_eq!(list.lines().count(), FILES.len() + 1);
    let ixgbe = list.lines().find(|l| l.starts_with("ixgbe ")).unwrap();
    for cell in ["net_ixgbe", "64", "16-64", "15854", "spin", "4194304"] {
        assert!(ixgbe.split_whitespace().any(|c| c == cell), "{cell} is not in {ixgbe}");
    }
    for profile in HwProfile::builtin() {
        // Wrapping moves words to other lines and drops none.
        let shown = render_show(profile).split_whitespace().collect::<Vec<_>>().join(" ");
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for (name, source) in profile.sources().iter() {
            assert!(shown.contains(&squeeze(source)), "{}: sources.{name}", profile.name());
        }
        for quirk in profile.quirks() {
            assert!(shown.contains(&squeeze(&quirk.text)) && shown.contains(&squeeze(&quirk.source)));
        }
        for pci in profile.devices().iter().flat_map(|d| &d.pci) {
            assert!(shown.contains(&pci.to_string()));
        }
        assert!(render_show(profile).lines().all(|l| l.len() == l.trim_end().len()), "no trailing spaces");
    }
}

#[test]
fn json_has_the_names_of_the_file() {
    let json = serde_json::to_value(of("ixgbe")).unwrap();
    assert_eq!(json["name"], "ixgbe");
    assert_eq!(json["rss"]["hash"], "toeplitz");
    assert_eq!(json["rss"]["fields"][1], "ipv4-tcp");
    assert_eq!(json["rss"]["key"], "6d5a".repeat(20));
    assert_eq!(json["devices"][0]["pci"][0], "8086:10f7");
    assert_eq!(json["devices"][2]["limits"]["rss_queues"], 64);
    assert_eq!(json["cores"]["idle"], "spin");
    assert!(json["sources"]["rss"].as_str().unwrap().contains("IXGBE_RSS_OFFLOAD_ALL"));
    let error = of("igc").check(&Demand { mtu: Some(1), ..Demand::default() }).unwrap_err();
    assert_eq!(serde_json::to_value(&error).unwrap()[0]["error"], "mtu");
}

#[test]
fn capacity_tells_its_memory() {
    // A session and a mapping: 64 + 48 octets and 40 of index, within the budget of 160 for a flow.
    let one = Capacity { sessions: 1, mappings: 1, spliced: 0 };
    assert_eq!(one.octets(), 152);
    assert_eq!(Capacity { spliced: 1, ..one }.octets(), 216);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,400}") {
        let _ = HwProfile::parse("t", &text);
    }

    /// Mutilated profiles: a line less, a line twice, a number changed.
    #[test]
    fn no_mutilated_profile_makes_the_parser_panic(file in 0..FILES.len(), line in 0usize..400, how in 0u8..4, n: i64) {
        let mut lines: Vec<String> = FILES[file].1.lines().map(str::to_owned).collect();
        let at = line % lines.len();
        match how {
            0 => { lines.remove(at); }
            1 => { let again = lines[at].clone(); lines.insert(at, again); }
            2 => if let Some((key, _)) = lines[at].clone().split_once(" = ") { lines[at] = format!("{key} = {n}"); },
            _ => { let keep = lines[at].chars().count() / 2; lines[at] = lines[at].chars().take(keep).collect(); }
        }
        if let Ok(profile) = HwProfile::parse("t", &lines.join("\n")) {
            let _ = render_show(&profile);
            let _ = render_list(std::slice::from_ref(&profile));
            let _ = profile.check(&Demand::default());
        }
    }

    /// Whatever is asked for: no panic, and what passes is within the device's limits.
    #[test]
    fn what_passes_the_check_is_within_the_limits(
        file in 0..FILES.len(), kind: prop::sample::Index, workers: Option<u16>, rx: Option<u16>, ring: Option<u16>,
        mtu: Option<u16>, frames: Option<u32>, room: Option<u16>, ports: u16,
    ) {
        let profile = &HwProfile::builtin()[file];
        let ids: Vec<PciId> = profile.devices().iter().flat_map(|d| &d.pci).copied().collect();
        let device = if ids.is_empty() { None } else { Some(*kind.get(&ids)) };
        let demand = Demand {
            device, ports, workers: workers.map(|w| w % 80), rx_queues: rx.map(|q| q % 300), tx_queues: None,
            rx_descriptors: ring, tx_descriptors: None, mtu, mac_addresses: 1, mempool_frames: frames, room_octets: room,
        };
        if let Ok(c) = profile.check(&demand) {
            let limits = profile.limits(device);
            prop_assert!(c.workers >= 1 && c.rx_queues >= c.workers && c.rx_queues <= limits.max_rx_queues);
            prop_assert!(profile.descriptors().rx.allows(c.rx_descriptors));
            let frame = u32::from(c.mtu) + u32::from(profile.frame().overhead_octets);
            prop_assert!(frame <= u32::from(limits.max_frame_octets) && frame + 128 <= u32::from(c.room_octets));
            let rings = u32::from(c.rx_queues) * u32::from(c.rx_descriptors);
            prop_assert!(u64::from(c.mempool_frames) > u64::from(rings) * u64::from(ports));
        }
    }
}
