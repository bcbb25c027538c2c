//! The wrappers on a real EAL, with a command line as Capsule writes it. One test, because a process
//! starts EAL once. As root or not.

use capsule_ffi as ffi;
use capsule_ffi::fault::{Fault, Step};
use capsule_ffi::port::Settings;
use std::ffi::{CString, c_char};
use std::sync::Mutex;

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[test]
fn capsules_command_line_brings_a_port_up_with_the_settings_that_capsule_cannot_express() {
    ffi::log::redirect(|_, line| LOG.lock().unwrap().push(line.to_owned())).unwrap();
    assert!(ffi::dpdk_version().starts_with("DPDK 2"));
    // SAFETY: asks the kernel, no more.
    let core = unsafe { libc::sched_getcpu() }.to_string();
    let group = format!("cw-ffi-{}", std::process::id());
    let words = [
        "causeway",
        "--proc-type",
        "primary",
        "--file-prefix",
        &group,
        "--vdev",
        "net_null0,size=64",
        "--vdev",
        "net_pcap0,rx_pcap=/nonexistent/causeway.pcap",
        "--master-lcore",
        &core,
        "-l",
        &core,
        "--no-huge",
        "-m",
        "64",
        "--no-shconf",
        "--no-telemetry",
        "--no-pci",
        "--iova-mode=va",
    ];
    let texts: Vec<CString> = words.iter().map(|w| CString::new(*w).unwrap()).collect();
    let mut pointers: Vec<*mut c_char> = texts.iter().map(|t| t.as_ptr().cast_mut()).collect();
    let count = i32::try_from(pointers.len()).unwrap();
    // SAFETY: there are that many texts, and each ends in NUL.
    let parsed = unsafe { ffi::rte_eal_init(count, pointers.as_mut_ptr()) };
    assert!(parsed >= 0, "{:?}", ffi::log::take_complaints());
    assert!(ffi::eal::is_running());

    // The pool has frames of the size that was set, not of the size that is asked for.
    ffi::pool::set_frame_octets(9001);
    assert_eq!(ffi::pool::frame_octets(), 9024);
    // SAFETY: the name ends in NUL, and EAL runs.
    let pool = unsafe { ffi::rte_pktmbuf_pool_create(c"test".as_ptr(), 1023, 0, 0, 2176, 0) };
    assert!(!pool.is_null());
    assert_eq!((ffi::pool::on_socket(0), ffi::pool::count(), ffi::pool::usage()), (pool, 1, (0, 1023)));
    // SAFETY: the pool was just made.
    let mbuf = unsafe { ffi::_rte_pktmbuf_alloc(pool) };
    // SAFETY: the pool has frames, so it gave one.
    let seen = unsafe { mbuf.read() };
    assert_eq!((seen.buf_len, seen.data_off, seen.nb_segs, seen.pool), (9024 + 128, 128, 1, pool));
    assert_eq!(ffi::pool::usage(), (1, 1023));
    // SAFETY: the frame is ours.
    unsafe { ffi::_rte_pktmbuf_free(mbuf) };
    // SAFETY: the name ends in NUL, and EAL runs. There is no memory for that many.
    let none = unsafe { ffi::rte_pktmbuf_pool_create(c"huge".as_ptr(), 1 << 20, 0, 0, 2176, 0) };
    assert!(none.is_null());
    let fault = ffi::fault::take().unwrap();
    assert_eq!((fault.step, fault.errno), (Step::Pool, libc::ENOMEM), "{fault:?}");

    // A device that its driver did not make is named, and what the driver said is kept.
    let mut port = 0;
    // SAFETY: the name ends in NUL, and the number can be written.
    assert!(unsafe { ffi::rte_eth_dev_get_port_by_name(c"net_pcap0".as_ptr(), &raw mut port) } < 0);
    let fault = Fault { step: Step::FindDevice, subject: "net_pcap0".into(), errno: libc::ENODEV };
    assert_eq!(ffi::fault::take(), Some(fault));
    assert!(ffi::log::take_complaints().iter().any(|line| line.contains("/nonexistent/causeway.pcap")));

    // Settings reach the port, as far as its device can follow.
    let settings = Settings {
        mtu: Some(9000),
        rss_fields: ffi::CW_RSS_NONFRAG_IPV4_TCP,
        rx_offloads: ffi::CW_RX_OFFLOAD_IPV4_CKSUM,
        ..Settings::default()
    };
    ffi::port::set("net_null0", settings);
    // SAFETY: the name ends in NUL, and the number can be written.
    assert_eq!(unsafe { ffi::rte_eth_dev_get_port_by_name(c"net_null0".as_ptr(), &raw mut port) }, 0);
    let conf = ffi::rte_eth_conf::default();
    // SAFETY: the configuration can be read.
    assert_eq!(unsafe { ffi::rte_eth_dev_configure(port, 2, 2, &raw const conf) }, 0);
    let outcome = ffi::port::outcome("net_null0").unwrap();
    assert_eq!((outcome.port, outcome.queues, outcome.mtu), (port, 2, 9000));
    assert_eq!((outcome.rss_fields, outcome.rx_offloads), (ffi::CW_RSS_NONFRAG_IPV4_TCP, 0));
    let mut mtu = 0;
    // SAFETY: the number can be written.
    assert_eq!(unsafe { ffi::rte_eth_dev_get_mtu(port, &raw mut mtu) }, 0);
    assert_eq!(mtu, 9000);
    // SAFETY: the configuration can be read. The device has fewer queues than that.
    assert!(unsafe { ffi::rte_eth_dev_configure(port, 9999, 1, &raw const conf) } < 0);
    assert_eq!(ffi::fault::take().map(|f| (f.step, f.subject)), Some((Step::Configure, "net_null0".into())));
    ffi::port::clear();
    assert_eq!(ffi::port::outcome("net_null0"), None);

    // A thread of our own has no identity in EAL until it is pinned.
    std::thread::spawn(move || {
        // SAFETY: reads a variable of this thread.
        assert_eq!(unsafe { ffi::_rte_lcore_id() }, u32::MAX);
        // SAFETY: a set of CPUs is a row of bits.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        let cpu: usize = core.parse().unwrap();
        // SAFETY: the number is inside the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        // SAFETY: both types are the C library's set of CPUs.
        let mut set: ffi::rte_cpuset_t = unsafe { std::mem::transmute(set) };
        // SAFETY: the set can be read.
        assert_eq!(unsafe { ffi::rte_thread_set_affinity(&raw mut set) }, 0);
        // SAFETY: reads a variable of this thread.
        assert_ne!(unsafe { ffi::_rte_lcore_id() }, u32::MAX);
    })
    .join()
    .unwrap();

    // SAFETY: the port is there.
    unsafe { ffi::rte_eth_dev_close(port) };
    // SAFETY: nobody uses the pool any more.
    unsafe { ffi::rte_mempool_free(pool) };
    assert_eq!((ffi::pool::in_use_at_end(), ffi::pool::count()), (0, 0));
    // SAFETY: nobody uses EAL any more.
    assert_eq!(unsafe { ffi::rte_eal_cleanup() }, 0);
    assert!(!ffi::eal::is_running());
    assert!(!LOG.lock().unwrap().is_empty());
}
