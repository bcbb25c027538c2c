//! The same NAT64 built as Capsule's documentation would build it, beside ours, in the same run.
//!
//! ```text
//!  poll_fn(frames) -> filter_map(translate) -> send(sink)      Capsule 0.1.5: Mbuf, Ethernet, Ipv6, Udp, ...
//!                           |
//!                  DashMap: sessions, mappings, what answers to a port
//! ```
//! It is written after the NAT64 example of Capsule: parse, take the old header out, push the new one,
//! `reconcile_all`. It does UDP, TCP and ICMP echo in both directions, established flows and first packets,
//! with endpoint-independent mappings. It lacks what ours does beside that: fragments, ICMP errors, expiry,
//! source validation, routes, neighbours, checks of the packet. So the ratio flatters it.
//!
//! First its results are checked against our translation, packet by packet. Then both run on the same
//! core: ours is the appliance's worker on `net_null`; Capsule's combinators run on frames that are
//! allocated from the pool and freed again, which is what `net_null` does. What receiving, writing and
//! sending the frames costs is measured for each and printed; the ratio is given with and without it.
//!
//! Environment: `CAPSULE_FLOWS` (default `1000,100000,1000000`), `CAUSEWAY_COMMIT`.

mod dpdk;

use anyhow::{Result, bail};
use arrayvec::ArrayVec;
use capsule::Mbuf;
use capsule::batch::{Batch, Either, PacketRx, PacketTx, Pipeline, Poll};
use capsule::net::MacAddr;
use capsule::packets::icmp::{v4, v6};
use capsule::packets::ip::v4::Ipv4;
use capsule::packets::ip::v6::{Ipv6, Ipv6Packet};
use capsule::packets::ip::{ProtocolNumber, ProtocolNumbers};
use capsule::packets::{Ethernet, Packet, Tcp4, Tcp6, Udp4, Udp6};
use causeway_benches::clocks::{Quiet, Tsc, min_median};
use causeway_benches::stage::{Gateway, Size};
use causeway_benches::{Rng, measured_on, smoke};
use causeway_core::{BURST, Counter, Queues, Verdict};
use causeway_testkit::{check_packet, eth, ip6, tcp};
use dashmap::DashMap;
use dpdk::{Nat64, Order, Queue, ROUTER, Source, TENANT, UPLINK, VM, on_worker, template, window};
use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Packets of one window, and windows of each loop.
const WINDOW: u64 = 2 * 1024;
const WINDOWS: usize = 201;

const PREFIX: u128 = 0x2001_0db8_0064_ff9b << 64;

/// A host's end of a flow, by protocol number (ICMPv6 goes by ICMP's).
type Inside = (Ipv6Addr, u16, u8);
/// The pool's end.
type Outside = (Ipv4Addr, u16, u8);

/// A session: where it goes, and when it was used last.
struct Session {
    out: Outside,
    used: AtomicU32,
}

/// All state, in maps.
struct State {
    sessions: DashMap<(Inside, Ipv4Addr, u16), Session>,
    answers: DashMap<(Outside, Ipv4Addr, u16), Inside>,
    mappings: DashMap<Inside, Outside>,
    next: AtomicU32,
    now: AtomicU32,
}

impl State {
    fn new() -> Self {
        Self {
            sessions: DashMap::new(),
            answers: DashMap::new(),
            mappings: DashMap::new(),
            next: AtomicU32::new(0),
            now: AtomicU32::new(1),
        }
    }

    /// The session's outside; made if there is none.
    fn outside(&self, host: Inside, to: Ipv4Addr, port: u16) -> Outside {
        if let Some(s) = self.sessions.get(&(host, to, port)) {
            s.used.store(self.now.load(Ordering::Relaxed), Ordering::Relaxed);
            return s.out;
        }
        let out = *self.mappings.entry(host).or_insert_with(|| {
            // Ports from 1024 on of one address after the other.
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            (Ipv4Addr::from_bits(0x0a40_0000 + n / 64_512), (1024 + n % 64_512) as u16, host.2)
        });
        self.answers.insert((out, to, port), host);
        let used = AtomicU32::new(self.now.load(Ordering::Relaxed));
        self.sessions.insert((host, to, port), Session { out, used });
        out
    }

    fn inside(&self, out: Outside, from: Ipv4Addr, port: u16) -> Option<Inside> {
        self.answers.get(&(out, from, port)).map(|v| *v)
    }
}

/// Who a frame is for, and who it is from.
#[derive(Clone, Copy)]
struct Macs {
    dst: MacAddr,
    src: MacAddr,
}

fn addressed(mut ethernet: Ethernet, macs: Macs) -> Mbuf {
    ethernet.set_dst(macs.dst);
    ethernet.set_src(macs.src);
    ethernet.reset()
}

/// Takes the IPv6 header out and puts an IPv4 header in.
fn to_ipv4(v6: Ipv6, src: Ipv4Addr, dst: Ipv4Addr, protocol: ProtocolNumber) -> Result<Ipv4> {
    let (dscp, ecn, ttl) = (v6.dscp(), v6.ecn(), v6.hop_limit() - 1);
    let mut v4 = v6.remove()?.push::<Ipv4>()?;
    v4.set_dscp(dscp);
    v4.set_ecn(ecn);
    v4.set_ttl(ttl);
    v4.set_protocol(protocol);
    v4.set_src(src);
    v4.set_dst(dst);
    Ok(v4)
}

/// The other way.
fn to_ipv6(v4: Ipv4, src: Ipv6Addr, dst: Ipv6Addr, protocol: ProtocolNumber) -> Result<Ipv6> {
    let (dscp, ecn, hops) = (v4.dscp(), v4.ecn(), v4.ttl() - 1);
    let mut v6 = v4.remove()?.push::<Ipv6>()?;
    v6.set_dscp(dscp);
    v6.set_ecn(ecn);
    v6.set_hop_limit(hops);
    v6.set_next_header(protocol);
    v6.set_src(src);
    v6.set_dst(dst);
    Ok(v6)
}

fn nat_6to4(state: &State, macs: Macs, packet: Mbuf) -> Result<Either<Mbuf>> {
    let v6 = packet.parse::<Ethernet>()?.parse::<Ipv6>()?;
    let (src, dst) = (v6.src(), v6.dst().to_bits());
    if dst >> 32 != PREFIX >> 32 || v6.hop_limit() <= 1 {
        return Ok(Either::Drop(v6.reset()));
    }
    let to = Ipv4Addr::from_bits(dst as u32);
    match v6.next_header() {
        ProtocolNumbers::Udp => {
            let udp = v6.peek::<Udp6>()?;
            let (port, to_port) = (udp.src_port(), udp.dst_port());
            let (out4, out_port, _) = state.outside((src, port, 17), to, to_port);
            let mut udp = to_ipv4(v6, out4, to, ProtocolNumbers::Udp)?.parse::<Udp4>()?;
            udp.set_src_port(out_port);
            udp.reconcile_all();
            Ok(Either::Keep(addressed(udp.deparse().deparse(), macs)))
        }
        ProtocolNumbers::Tcp => {
            let tcp = v6.peek::<Tcp6>()?;
            let (port, to_port) = (tcp.src_port(), tcp.dst_port());
            let (out4, out_port, _) = state.outside((src, port, 6), to, to_port);
            let mut tcp = to_ipv4(v6, out4, to, ProtocolNumbers::Tcp)?.parse::<Tcp4>()?;
            tcp.set_src_port(out_port);
            tcp.reconcile_all();
            Ok(Either::Keep(addressed(tcp.deparse().deparse(), macs)))
        }
        ProtocolNumbers::Icmpv6 => {
            let echo = v6.parse::<v6::EchoRequest<Ipv6>>()?;
            let (id, seq) = (echo.identifier(), echo.seq_no());
            // `data` panics where there is none.
            let data = if echo.payload_len() > 4 { echo.data().to_vec() } else { Vec::new() };
            let (out4, out_id, _) = state.outside((src, id, 1), to, 0);
            let mut echo = echo;
            echo.remove_payload()?;
            let v6 = echo.remove()?;
            let v4 = to_ipv4(v6, out4, to, ProtocolNumbers::Icmpv4)?;
            let mut echo = v4.push::<v4::EchoRequest>()?;
            echo.set_identifier(out_id);
            echo.set_seq_no(seq);
            if !data.is_empty() {
                echo.set_data(&data)?;
            }
            echo.reconcile_all();
            Ok(Either::Keep(addressed(echo.deparse().deparse(), macs)))
        }
        _ => Ok(Either::Drop(v6.reset())),
    }
}

fn nat_4to6(state: &State, macs: Macs, packet: Mbuf) -> Result<Either<Mbuf>> {
    let v4 = packet.parse::<Ethernet>()?.parse::<Ipv4>()?;
    let (src, dst) = (v4.src(), v4.dst());
    if v4.ttl() <= 1 || v4.fragment_offset() != 0 || v4.more_fragments() || v4.ihl() != 5 {
        return Ok(Either::Drop(v4.reset()));
    }
    let src6 = Ipv6Addr::from_bits(PREFIX | u128::from(src.to_bits()));
    match v4.protocol() {
        ProtocolNumbers::Udp => {
            let udp = v4.peek::<Udp4>()?;
            let (port, own) = (udp.src_port(), udp.dst_port());
            let Some((host, host_port, _)) = state.inside((dst, own, 17), src, port) else {
                return Ok(Either::Drop(v4.reset()));
            };
            let mut udp = to_ipv6(v4, src6, host, ProtocolNumbers::Udp)?.parse::<Udp6>()?;
            udp.set_dst_port(host_port);
            udp.reconcile_all();
            Ok(Either::Keep(addressed(udp.deparse().deparse(), macs)))
        }
        ProtocolNumbers::Tcp => {
            let tcp = v4.peek::<Tcp4>()?;
            let (port, own) = (tcp.src_port(), tcp.dst_port());
            let Some((host, host_port, _)) = state.inside((dst, own, 6), src, port) else {
                return Ok(Either::Drop(v4.reset()));
            };
            let mut tcp = to_ipv6(v4, src6, host, ProtocolNumbers::Tcp)?.parse::<Tcp6>()?;
            tcp.set_dst_port(host_port);
            tcp.reconcile_all();
            Ok(Either::Keep(addressed(tcp.deparse().deparse(), macs)))
        }
        ProtocolNumbers::Icmpv4 => {
            let mut echo = v4.parse::<v4::EchoReply>()?;
            let (id, seq) = (echo.identifier(), echo.seq_no());
            // `data` panics where there is none.
            let data = if echo.payload_len() > 4 { echo.data().to_vec() } else { Vec::new() };
            let Some((host, host_id, _)) = state.inside((dst, id, 1), src, 0) else {
                return Ok(Either::Drop(echo.reset()));
            };
            echo.remove_payload()?;
            let v6 = to_ipv6(echo.remove()?, src6, host, ProtocolNumbers::Icmpv6)?;
            let mut echo = v6.push::<v6::EchoReply<Ipv6>>()?;
            echo.set_identifier(host_id);
            echo.set_seq_no(seq);
            if !data.is_empty() {
                echo.set_data(&data)?;
            }
            echo.reconcile_all();
            Ok(Either::Keep(addressed(echo.deparse().deparse(), macs)))
        }
        _ => Ok(Either::Drop(v4.reset())),
    }
}

fn macs(dst: causeway_wire::MacAddr, src: causeway_wire::MacAddr) -> Macs {
    Macs { dst: dst.0.into(), src: src.0.into() }
}

/// Frames from nowhere: allocated from the pool, and written as the other loop's are.
#[derive(Clone)]
struct Frames(Rc<RefCell<Generator>>);

struct Generator {
    template: [u8; 64],
    flows: u32,
    rng: Rng,
    /// Instead of random flows: this one, and those after it.
    next: Option<u32>,
}

impl PacketRx for Frames {
    fn receive(&mut self) -> Vec<Mbuf> {
        let g = &mut *self.0.borrow_mut();
        let mut mbufs = Mbuf::alloc_bulk(BURST).expect("the pool has frames");
        for mbuf in &mut mbufs {
            let n = match &mut g.next {
                Some(n) => {
                    *n += 1;
                    *n - 1
                }
                None => ((u64::from(g.rng.next_u64() as u32) * u64::from(g.flows)) >> 32) as u32,
            };
            let mut frame = g.template;
            frame[34..38].copy_from_slice(&((n >> 4) + 0x1_0000).to_be_bytes());
            frame[54..56].copy_from_slice(&((n & 15) as u16 + 5000).to_be_bytes());
            // The checksum is computed anew when the packet leaves, whatever it was.
            mbuf.extend(0, frame.len()).expect("room");
            mbuf.write_data_slice(0, &frame).expect("room");
        }
        mbufs
    }
}

/// Where frames end: counted and freed.
#[derive(Clone, Default)]
struct Sink(Rc<Cell<u64>>);

impl PacketTx for Sink {
    fn transmit(&mut self, packets: Vec<Mbuf>) {
        self.0.set(self.0.get() + packets.len() as u64);
    }
}

/// The octets of a frame. Capsule gives them out as raw pointers only, but for the data of an echo: so an
/// echo is put in front, whose data the frame is.
fn octets(mbuf: Mbuf) -> Result<Vec<u8>> {
    let echo = mbuf.push::<Ethernet>()?.push::<Ipv4>()?.push::<v4::EchoRequest>()?;
    Ok(echo.data().to_vec())
}

fn kept(result: Result<Either<Mbuf>>) -> Result<Mbuf> {
    match result? {
        Either::Keep(mbuf) => Ok(mbuf),
        Either::Drop(_) => bail!("dropped"),
    }
}

/// What both must agree on: everything but the pool's address and port, Identification, and checksums, which
/// [`check_packet`] judges. `port` is where the pool's port or identifier is.
fn comparable(packet: &[u8], port: usize) -> Vec<u8> {
    check_packet(packet).unwrap_or_else(|e| panic!("malformed: {e}: {packet:02x?}"));
    let mut p = packet.to_vec();
    let checksum = match p[9] {
        17 => 26,
        6 => 36,
        _ => 22,
    };
    for (at, n) in [(4, 2), (10, 2), (12, 4), (port, 2), (checksum, 2)] {
        p[at..at + n].fill(0);
    }
    p
}

/// Translates samples by both, there and back.
fn check(tsc: &Tsc) -> usize {
    let (state, gateway) = (State::new(), Gateway::new(Size::of(1000)));
    let mut stage = gateway.stage(0, tsc);
    let from = |n: usize| {
        ip6(format!("2001:db8:64::{:x}", 0x101 + n).as_str(), "2001:db8:64:ff9b::198.18.0.1").hop_limit(64)
    };
    let mut samples = Vec::new();
    for octets in [0usize, 1, 18, 500, 1200] {
        let payload: Vec<u8> = (0..octets).map(|n| n as u8).collect();
        samples.push((from(octets).udp(5000, 53, &payload), 20));
        samples.push((from(octets).tcp(&tcp(5001, 80).syn().payload(&payload)), 20));
        samples.push((from(octets).echo_request(77, 3, &payload), 24));
    }
    for (sample, port) in &samples {
        let mbuf = Mbuf::from_bytes(&eth(TENANT, VM).carry(sample)).expect("a frame");
        let capsule = kept(nat_6to4(&state, macs(ROUTER, UPLINK), mbuf)).expect("translated");
        let capsule = octets(capsule).expect("room for the headers");
        assert_eq!(&capsule[..14], &eth(ROUTER, UPLINK).carry(&capsule[14..])[..14]);
        let mut ours = [stage.rig.packet("tenant0", sample)];
        let mut verdict = [Verdict::Consume];
        {
            let guard = stage.worker.enter();
            stage.nat.v6_to_v4(&mut stage.rig.ctx(), &guard, &mut ours, &mut verdict);
        }
        assert!(matches!(verdict[0], Verdict::Forward { .. }), "{verdict:?}");
        assert_eq!(comparable(&capsule[14..], *port), comparable(ours[0].bytes(), *port));
        // And back: the answer reaches the host, from the address that it sent to.
        let mut answer = capsule[14..].to_vec();
        let (there, back) = (answer[12..16].to_vec(), answer[16..20].to_vec());
        answer[12..16].copy_from_slice(&back);
        answer[16..20].copy_from_slice(&there);
        if *port == 24 {
            answer[20] = 0;
        } else {
            let (a, b) = (answer[20..22].to_vec(), answer[22..24].to_vec());
            answer[20..22].copy_from_slice(&b);
            answer[22..24].copy_from_slice(&a);
        }
        let mbuf = Mbuf::from_bytes(&eth(UPLINK, ROUTER).carry(&answer)).expect("a frame");
        let back = kept(nat_4to6(&state, macs(VM, TENANT), mbuf)).and_then(octets).expect("translated back");
        check_packet(&back[14..]).unwrap_or_else(|e| panic!("malformed: {e}: {back:02x?}"));
        assert_eq!((&back[22..38], &back[38..54]), (&sample[24..40], &sample[8..24]));
        assert_eq!(back[14 + 40 + 8..], sample[40 + 8..], "the payload is as it was");
    }
    samples.len()
}

/// Receives, writes and sends frames, and nothing else.
fn pass(queue: &mut Queue, burst: &mut ArrayVec<causeway_hwprofiles::mbuf::MbufFrame, BURST>) {
    queue.rx(0, burst);
    queue.tx(1, burst);
    burst.clear();
}

/// Least and median of both loops, and of the frames alone for both.
type Figures = ([(f64, f64); 4], Quiet);

fn print(what: &str, flows: u32, tsc: &Tsc, (figures, quiet): Figures) {
    let [(ours_min, ours), (theirs_min, theirs), (_, pa), (_, pb)] = figures;
    println!(
        "RESULT bench=capsule_style {what} flows={flows} ours_ns={ours:.1} ours_ns_min={ours_min:.1} capsule_ns={theirs:.1} \
         capsule_ns_min={theirs_min:.1} frames_ns_ours={pa:.1} frames_ns_capsule={pb:.1} ours_clocks={:.0} capsule_clocks={:.0} \
         ratio={:.2} ratio_of_least={:.2} ratio_without_frames={:.2} windows={} thrown_away={}",
        ours * tsc.ghz(),
        theirs * tsc.ghz(),
        theirs / ours,
        theirs_min / ours_min,
        (theirs - pb) / (ours - pa),
        quiet.kept,
        quiet.thrown,
    );
}

/// Established flows, and then first packets.
fn compare(tsc: &Tsc, queue: &Queue, source: &Source, flows: u32, windows: usize) {
    let spare = (windows as u64 * WINDOW) as u32;
    let mut ours = Nat64::new(queue, source.clone(), flows, spare);
    let state = Rc::new(State::new());
    let frames = Frames(Rc::new(RefCell::new(Generator {
        template: template(),
        flows,
        rng: Rng(u64::from(flows)),
        next: Some(0),
    })));
    let (sink, nothing) = (Sink::default(), Sink::default());
    let (held, to) = (Rc::clone(&state), macs(ROUTER, UPLINK));
    let mut theirs =
        Poll::new(frames.clone()).filter_map(move |packet| nat_6to4(&held, to, packet)).send(sink.clone());
    let mut alone = Poll::new(frames.clone()).send(nothing);
    for _ in 0..flows.div_ceil(BURST as u32) {
        theirs.run_once();
    }
    assert!(state.sessions.len() >= flows as usize && state.mappings.len() >= flows as usize);
    frames.0.borrow_mut().next = None;
    let (mut burst, mut again) = (ArrayVec::new(), queue.clone());
    let mut figures = |ours: &mut Nat64| {
        let mut quiet = Quiet::new(tsc.clone());
        let (mut a, mut b, mut pa, mut pb) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..windows {
            a.extend(window(&mut quiet, WINDOW, || {
                ours.worker.poll();
            }));
            b.extend(window(&mut quiet, WINDOW, || theirs.run_once()));
            // Neither moves the flows on: these only say what the frames themselves cost.
            let (order, next) = {
                let q = &mut *queue.0.borrow_mut();
                let random = Order::Random(Rng(1));
                (std::mem::replace(&mut q.order, random), frames.0.borrow_mut().next.take())
            };
            pa.extend(window(&mut quiet, WINDOW, || pass(&mut again, &mut burst)));
            pb.extend(window(&mut quiet, WINDOW, || alone.run_once()));
            queue.0.borrow_mut().order = order;
            frames.0.borrow_mut().next = next;
        }
        ([a, b, pa, pb].map(min_median), quiet)
    };
    let before = sink.0.get();
    print("established", flows, tsc, figures(&mut ours));
    ours.check(flows);
    assert_eq!(sink.0.get() - before, windows as u64 * WINDOW, "every packet left");
    let first = flows.next_multiple_of(BURST as u32).max(flows);
    queue.0.borrow_mut().order = Order::Next(first);
    frames.0.borrow_mut().next = Some(first);
    let (sessions, mappings) = (state.sessions.len(), state.mappings.len());
    print("first-packets", flows, tsc, figures(&mut ours));
    let opened = windows as u64 * WINDOW;
    assert_eq!(
        (state.sessions.len() - sessions, state.mappings.len() - mappings),
        (opened as usize, opened as usize)
    );
    let c = &ours.shared.mailboxes[0].counters;
    assert_eq!(c.get(Counter::Nat64SessionsCreated), u64::from(flows) + opened, "{:?}", c.nonzero());
    ours.worker.drain();
}

fn run(queue: &Queue, source: &Source) {
    let test = smoke();
    println!("INFO {}", measured_on());
    let tsc = Tsc::new();
    println!("RESULT bench=capsule_style same-packets samples={} agree=yes", check(&tsc));
    let flows = std::env::var("CAPSULE_FLOWS")
        .unwrap_or_else(|_| if test { "1000" } else { "1000,100000,1000000" }.to_owned());
    for flows in flows.split(',').map(|n| n.trim().parse::<u32>().expect("numbers of flows")) {
        compare(&tsc, queue, source, flows, if test { 3 } else { WINDOWS });
    }
}

fn main() -> Result<()> {
    on_worker(|queue, source| run(&queue, &source))?;
    Ok(())
}
