//! The gateway on kernel interfaces: veth pairs in a network namespace that each case makes for itself
//! and that ends with the case's process. Needs root.

mod common;

use arrayvec::ArrayVec;
use causeway_core::{BURST, Frame, FrameSource, Queues};
use causeway_hwprofiles::bringup::{
    BringupError, Gateway, Idle, MacFilter, Memory, PollLoop, PortSpec, Spec, StopCause, StopHandle,
    WorkerInit,
};
use causeway_hwprofiles::mbuf::MbufFrame;
use common::{Case, alone};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    // SAFETY: has no preconditions and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: namespaces and packet sockets need root");
        return ExitCode::SUCCESS;
    }
    common::run(&[
        alone("rfc791_3_2_fragments_reach_an_af_packet_port_singly", || singly("net_af_packet0,iface=gw0")),
        alone("rfc791_3_2_fragments_reach_an_af_packet_port_singly_with_two_queues", || {
            singly("net_af_packet0,iface=gw0,qpairs=2");
        }),
        alone("rfc791_3_2_fragments_reach_a_pcap_port_singly", || singly("net_pcap0,iface=gw0")),
        alone("without_our_setsockopt_the_kernel_does_reassemble", control_experiment),
        alone("a_vlan_tag_is_in_the_frame", vlan_tag),
        alone("frames_for_foreign_stations_arrive_and_the_port_says_so", foreign),
        alone("frames_of_the_whole_mtu_pass_both_ways", whole_mtu),
        alone("jumbo_frames_pass_both_ways", jumbo),
        Case {
            name: "sigterm_under_load_ends_cleanly_with_every_frame_given_back",
            inside: echo_under_load,
            outside: |running| {
                running.wait_for("under load");
                running.signal(libc::SIGTERM);
            },
        },
        alone("an_interface_with_a_smaller_mtu_is_refused", small_mtu),
        alone("without_rights_the_missing_ones_are_named", no_rights),
    ])
}

fn ip(args: &str) {
    let done = Command::new("ip").args(args.split(' ')).output().expect("ip can be run");
    assert!(done.status.success(), "ip {args}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A namespace of this process's own, with a pair: `gw0` for the gateway, `host0` for the test. No
/// offloads, no IPv6, no addresses: nothing but the test sends.
fn pair(mtu: u16) {
    // SAFETY: this thread is the only one of the process so far.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "{}", io::Error::last_os_error());
    ip("link add gw0 type veth peer name host0");
    for end in ["gw0", "host0"] {
        // Through the calling thread's own view: /proc/sys shows the namespace of who looks.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1");
        ip(&format!("link set {end} mtu {mtu} up"));
        let done = Command::new("ethtool")
            .args(["-K", end, "rx", "off", "tx", "off", "tso", "off", "gso", "off", "gro", "off"])
            .output()
            .expect("ethtool can be run");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// A packet socket on an interface, which sends and receives whole frames.
struct Wire(OwnedFd);

impl Wire {
    fn on(interface: &str) -> Self {
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: the arguments are valid.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(all)) };
        assert!(socket >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the socket was just opened and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let name = std::ffi::CString::new(interface).unwrap();
        // SAFETY: an address is plain memory, for which all zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        // SAFETY: the name ends in NUL.
        address.sll_ifindex = i32::try_from(unsafe { libc::if_nametoindex(name.as_ptr()) }).unwrap();
        let octets = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: the address can be read, and its size is given.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), octets) };
        assert_eq!(bound, 0, "{}", io::Error::last_os_error());
        let time = libc::timeval { tv_sec: 0, tv_usec: 200_000 };
        // SAFETY: the value can be read, and its size is given.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const time).cast(),
                size_of::<libc::timeval>() as u32,
            )
        };
        assert_eq!(set, 0);
        Self(socket)
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: the frame can be read, and its size is given.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, isize::try_from(frame.len()).unwrap(), "{}", io::Error::last_os_error());
    }

    /// The next frame that was not sent from here, or nothing for a while.
    fn receive(&self) -> Option<Vec<u8>> {
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            let mut frame = vec![0u8; 65_536];
            // SAFETY: an address is plain memory, for which all zero is a value.
            let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut octets = size_of::<libc::sockaddr_ll>() as u32;
            // SAFETY: buffer and address can be written, and their sizes are given.
            let got = unsafe {
                libc::recvfrom(
                    self.0.as_raw_fd(),
                    frame.as_mut_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut octets,
                )
            };
            if got > 0 && from.sll_pkttype != libc::PACKET_OUTGOING {
                frame.truncate(usize::try_from(got).unwrap());
                return Some(frame);
            }
        }
        None
    }
}

const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 1];
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u32 =
        octets.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// A UDP datagram of 2,000 octets from 198.51.100.10 to 203.0.113.1, in three fragments as frames.
fn fragments() -> Vec<Vec<u8>> {
    let mut datagram = vec![0u8; 2000];
    datagram[..4].copy_from_slice(&[0x13, 0x88, 0x13, 0x89]);
    datagram[4..6].copy_from_slice(&2000u16.to_be_bytes());
    for (n, octet) in datagram.iter_mut().enumerate().skip(8) {
        *octet = u8::try_from(n % 253).unwrap();
    }
    let pieces: Vec<(usize, &[u8])> = datagram.chunks(800).enumerate().map(|(n, c)| (n * 800, c)).collect();
    pieces
        .into_iter()
        .map(|(at, piece)| {
            let more = at + piece.len() < 2000;
            let mut frame = [GATEWAY, HOST].concat();
            frame.extend([0x08, 0x00]);
            let mut header =
                vec![0x45, 0, 0, 0, 0x42, 0x42, 0, 0, 64, 17, 0, 0, 198, 51, 100, 10, 203, 0, 113, 1];
            let total = u16::try_from(20 + piece.len()).unwrap();
            header[2..4].copy_from_slice(&total.to_be_bytes());
            let flags = u16::try_from(at / 8).unwrap() | if more { 0x2000 } else { 0 };
            header[6..8].copy_from_slice(&flags.to_be_bytes());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(header);
            frame.extend(piece);
            frame
        })
        .collect()
}

fn spec(device: &str, mtu: u16) -> Spec {
    // SAFETY: has no preconditions.
    let cpu = u16::try_from(unsafe { libc::sched_getcpu() }).unwrap();
    Spec {
        app_group: format!("cw-veth-{}", std::process::id()),
        main_core: cpu,
        worker_cores: vec![cpu],
        mempool_frames: 4095,
        frame_octets: 0,
        idle: Idle::Backoff,
        memory: Memory::Ordinary,
        ports: vec![PortSpec { mtu, ..PortSpec::new("tenant", device.parse().unwrap()) }],
    }
}

/// Collects what arrives, and sends it back if it is asked to.
struct Collect {
    init: WorkerInit,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    echo: bool,
}

/// Set by the first poll: ports are started then. A process runs one case.
static STARTED: AtomicBool = AtomicBool::new(false);

fn wait_until_started() {
    let end = Instant::now() + Duration::from_secs(20);
    while !STARTED.load(Ordering::Acquire) {
        assert!(Instant::now() < end, "the worker never polled");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl PollLoop for Collect {
    fn poll(&mut self) -> bool {
        STARTED.store(true, Ordering::Release);
        let mut burst = ArrayVec::<MbufFrame, BURST>::new();
        self.init.queues.rx(0, &mut burst);
        let any = !burst.is_empty();
        for frame in &burst {
            assert_eq!(frame.segments(), 1);
            assert_eq!(usize::try_from(frame.packet_octets()).unwrap(), frame.octets());
            self.seen.lock().unwrap().push(frame.bytes().to_vec());
        }
        if self.echo {
            self.init.queues.tx(0, &mut burst);
        }
        any
    }

    fn drain(&mut self) {}
}

/// Runs a gateway that collects, sends the frames to it, and gives what arrived when that many did, or
/// none came for a second.
fn collected(spec: Spec, frames: &[Vec<u8>], expect: usize) -> Vec<Vec<u8>> {
    let gateway = Gateway::bring_up(spec).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let stop = gateway.stop_handle();
    let wire = Wire::on("host0");
    let (there, frames) = (Arc::clone(&seen), frames.to_vec());
    let sender = std::thread::spawn(move || {
        wait_until_started();
        frames.iter().for_each(|f| wire.send(f));
        let end = Instant::now() + Duration::from_secs(5);
        while there.lock().unwrap().len() < expect && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        // And no more than expected.
        std::thread::sleep(Duration::from_millis(200));
        stop.stop();
    });
    let collect = Arc::clone(&seen);
    let report = gateway.run(move |init| Collect { init, seen: Arc::clone(&collect), echo: false }).unwrap();
    sender.join().unwrap();
    assert_eq!((report.frames_in_use, report.cause), (0, StopCause::Asked));
    let seen = seen.lock().unwrap();
    seen.clone()
}

fn singly(device: &str) {
    pair(1500);
    let sent = fragments();
    assert_eq!(sent.len(), 3);
    assert_eq!(collected(spec(device, 1500), &sent, 3), sent);
}

/// What the port of DPDK does by itself: a socket with the flag that our `setsockopt` takes out.
fn control_experiment() {
    pair(1500);
    let (from, to) = (Wire::on("host0"), Wire::on("gw0"));
    let fanout: u32 = 7 | libc::PACKET_FANOUT_FLAG_DEFRAG << 16;
    // By the number of the system call, so that our setsockopt is not in between.
    // SAFETY: the value can be read, and its size is given.
    let set = unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            to.0.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            &raw const fanout,
            size_of::<u32>(),
        )
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
    fragments().iter().for_each(|f| from.send(f));
    let whole = to.receive().expect("a frame arrives");
    assert_eq!(whole.len(), 14 + 20 + 2000, "the kernel made one of three");
}

fn vlan_tag() {
    pair(1500);
    let mut frame = [GATEWAY, HOST].concat();
    frame.extend([0x81, 0x00, 0x00, 0x2a, 0x86, 0xdd]);
    frame.extend([0x60; 1500]);
    assert_eq!(collected(spec("net_af_packet0,iface=gw0", 1500), &[frame.clone()], 1), [frame]);
}

fn foreign() {
    pair(1500);
    let gateway_spec = spec("net_af_packet0,iface=gw0", 1500);
    // Checks what the port says of itself, and then that frames for another station do arrive.
    let mut frame = [[2, 9, 9, 9, 9, 9], HOST].concat();
    frame.extend([0x86, 0xdd]);
    frame.extend([0x60; 46]);
    let gateway = Gateway::bring_up(gateway_spec).unwrap();
    let port = gateway.ports()[0].clone();
    assert_eq!((port.driver.as_str(), port.has_mac_filter, port.promiscuous), ("net_af_packet", false, true));
    let address = std::process::Command::new("ip").args(["-br", "link", "show", "gw0"]).output().unwrap();
    assert!(String::from_utf8_lossy(&address.stdout).contains(&port.mac.to_string()), "{port:?}");
    let virtual_mac = causeway_wire::MacAddr([0, 0, 0x5e, 0, 2, 64]);
    assert_eq!(gateway.control().add_mac(0, virtual_mac), Ok(MacFilter::Promiscuous));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (stop, there, wire, sent) =
        (gateway.stop_handle(), Arc::clone(&seen), Wire::on("host0"), frame.clone());
    let sender = std::thread::spawn(move || {
        wait_until_started();
        wire.send(&sent);
        wait_for(&there, 1);
        stop.stop();
    });
    let collect = Arc::clone(&seen);
    assert!(is_promiscuous("gw0"));
    gateway.run(move |init| Collect { init, seen: Arc::clone(&collect), echo: false }).unwrap();
    sender.join().unwrap();
    assert_eq!(*seen.lock().unwrap(), [frame]);
    assert!(!is_promiscuous("gw0"), "the interface is as it was");
}

fn is_promiscuous(interface: &str) -> bool {
    let shown = Command::new("ip").args(["link", "show", interface]).output().unwrap();
    String::from_utf8_lossy(&shown.stdout).contains("PROMISC")
}

fn wait_for(seen: &Mutex<Vec<Vec<u8>>>, count: usize) {
    let end = Instant::now() + Duration::from_secs(5);
    while seen.lock().unwrap().len() < count && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends frames of these sizes, and expects each back as it was.
fn echoed(mtu: u16, sizes: &[usize]) {
    pair(mtu);
    let gateway = Gateway::bring_up(spec("net_af_packet0,iface=gw0", mtu)).unwrap();
    let (stop, wire, sizes) = (gateway.stop_handle(), Wire::on("host0"), sizes.to_vec());
    let sender = std::thread::spawn(move || {
        wait_until_started();
        for size in sizes {
            let mut frame = [GATEWAY, HOST].concat();
            frame.extend([0x86, 0xdd]);
            frame.extend((14..size).map(|n| u8::try_from(n % 251).unwrap()));
            wire.send(&frame);
            let back = wire.receive();
            if back.as_ref() != Some(&frame) {
                let octets = back.map(|f| f.len());
                stop.stop();
                panic!("{size} octets came back as {octets:?}");
            }
        }
        stop.stop();
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let report = gateway.run(move |init| Collect { init, seen: Arc::clone(&seen), echo: true }).unwrap();
    sender.join().unwrap();
    assert_eq!(report.frames_in_use, 0);
}

fn whole_mtu() {
    echoed(1500, &[60, 1513, 1514]);
}

fn jumbo() {
    echoed(9000, &[60, 1514, 1515, 4000, 9014]);
}

/// Sends everything back, and keeps some.
struct Echo {
    init: WorkerInit,
    held: Vec<MbufFrame>,
    frames: u64,
}

impl PollLoop for Echo {
    fn poll(&mut self) -> bool {
        let mut burst = ArrayVec::<MbufFrame, BURST>::new();
        self.init.queues.rx(0, &mut burst);
        let any = !burst.is_empty();
        self.frames += burst.len() as u64;
        while self.held.len() < 100 {
            self.held.extend(self.init.source.alloc());
        }
        self.init.queues.tx(0, &mut burst);
        if self.frames >= 20_000 {
            self.frames = 0;
            println!("under load");
        }
        any
    }

    fn drain(&mut self) {
        self.held.clear();
    }
}

fn echo_under_load() {
    pair(1500);
    let gateway = Gateway::bring_up(spec("net_af_packet0,iface=gw0", 1500)).unwrap();
    let stop: StopHandle = gateway.stop_handle();
    let wire = Wire::on("host0");
    let sender = std::thread::spawn(move || {
        causeway_hwprofiles::bringup::control_affinity().unwrap();
        let mut frame = [GATEWAY, HOST].concat();
        frame.extend([0x86, 0xdd]);
        frame.extend([0x60; 200]);
        while !stop.is_stopping() {
            wire.send(&frame);
        }
        // And on while the gateway ends.
        for _ in 0..1000 {
            wire.send(&frame);
        }
    });
    let report = gateway.run(|init| Echo { init, held: Vec::new(), frames: 0 }).unwrap();
    sender.join().unwrap();
    assert_eq!((report.frames_in_use, report.cause), (0, StopCause::Signal(libc::SIGTERM)));
}

fn small_mtu() {
    pair(1500);
    match Gateway::bring_up(spec("net_af_packet0,iface=gw0", 9000)) {
        Err(BringupError::InterfaceMtu { interface, wanted: 9000, has: 1500, .. }) => {
            assert_eq!(interface, "gw0");
        }
        other => panic!("{other:?}"),
    }
}

fn no_rights() {
    pair(1500);
    // SAFETY: this thread is the only one, and gives up rights that it needs no more.
    assert_eq!(unsafe { libc::setuid(65_534) }, 0);
    let error = Gateway::bring_up(spec("net_af_packet0,iface=gw0", 1500)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, BringupError::NoPermission { .. }), "{text}");
    assert!(text.contains("`tenant`") && text.contains("CAP_NET_RAW"), "{text}");
}
