//! VRRP: messages against a plain reading of them, and the stage over random histories.

use causeway_core::{Counter, Duration, Event, IfId, Instant, Verdict};
use causeway_testkit::{Rig, check_packet, ip4, ip6};
use causeway_vrrp::packet::{Advert, Around, Refused};
use causeway_vrrp::{Config, Peer4Checksum, Phase, Shared, Stage, Transition, VirtualRouter};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

const VRID: u8 = 64;
const PEERS: [&str; 3] = ["fe80::77", "fe80::78", "192.0.2.4"];
const OWN: [&str; 3] = ["fe80::55", "fe80::56", "192.0.2.3"];
const NETWORKS: [&str; 3] = ["tenant0", "uplink0", "uplink0"];
const ADDRESSES: [&[&str]; 3] =
    [&["fe80::1", "2001:db8:64::1"], &["fe80::2", "2001:db8:ffff::2"], &["192.0.2.2"]];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The plain loop of RFC 1071.
fn sum(parts: &[&[u8]]) -> u16 {
    let all: Vec<u8> = parts.concat();
    let mut sum = 0u32;
    for pair in all.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn octets(a: IpAddr) -> Vec<u8> {
    match a {
        IpAddr::V6(a) => a.octets().to_vec(),
        IpAddr::V4(a) => a.octets().to_vec(),
    }
}

/// What the checksum covers besides the message.
fn pseudo(src: IpAddr, dst: IpAddr, message: usize, pseudo4: bool) -> Vec<u8> {
    if src.is_ipv4() && !pseudo4 {
        return Vec::new();
    }
    [octets(src), octets(dst), (message as u32).to_be_bytes().to_vec(), vec![0, 0, 0, 112]].concat()
}

/// A message read by the figure of RFC 9568 5.1, one check after the other.
fn plain(b: &[u8], src: IpAddr, dst: IpAddr, pseudo4: bool) -> Result<Vec<IpAddr>, Refused> {
    let Some(first) = b.first() else { return Err(Refused::Length) };
    match (first >> 4, first & 15) {
        (3, 1) => {}
        (3, _) => return Err(Refused::Type),
        (2, _) => return Err(Refused::Version2),
        _ => return Err(Refused::Version),
    }
    let size = if src.is_ipv6() { 16 } else { 4 };
    if b.len() < 8 || b.len() - 8 != size * usize::from(b[3]) {
        return Err(Refused::Length);
    }
    if sum(&[&pseudo(src, dst, b.len(), pseudo4), b]) != 0xffff {
        return Err(Refused::Checksum);
    }
    let list: Vec<IpAddr> = b[8..]
        .chunks(size)
        .map(|c| match <[u8; 16]>::try_from(c) {
            Ok(six) => six.into(),
            Err(_) => [c[0], c[1], c[2], c[3]].into(),
        })
        .collect();
    let Some(first) = list.first() else { return Err(Refused::NoAddress) };
    if b[4] & 15 == 0 && b[5] == 0 {
        return Err(Refused::ZeroInterval);
    }
    match first {
        IpAddr::V6(a) if a.segments()[0] & 0xffc0 != 0xfe80 => Err(Refused::FirstAddress),
        _ => Ok(list),
    }
}

/// Any octets as a message, over either family.
fn message(b: &[u8], src: IpAddr, dst: IpAddr, pseudo4: bool) {
    let checksum4 = if pseudo4 { Peer4Checksum::PseudoHeader } else { Peer4Checksum::Rfc9568 };
    let around = Around { src, dst, checksum4 };
    let ours = Advert::parse(b, &around).and_then(|a| a.judge().map(|()| a));
    match (ours, plain(b, src, dst, pseudo4)) {
        (Ok(ours), Ok(theirs)) => {
            assert!(ours.addresses().eq(theirs.iter().copied()));
            assert_eq!((ours.vrid, ours.priority), (b[1], b[2]));
            let interval = u16::from_be_bytes([b[4], b[5]]) & 0xfff;
            assert_eq!(ours.interval_cs, interval);
            // Written again it is the same, the reserved bits apart.
            let mut again = vec![0xa5; b.len()];
            let (vrid, priority) = (ours.vrid, ours.priority);
            causeway_vrrp::packet::emit(&mut again, &around, vrid, priority, interval, &theirs)
                .expect("as long as it was");
            assert_eq!(again[..4], b[..4]);
            assert_eq!(again[8..], b[8..]);
            if b[4] & 0xf0 == 0 {
                let either = |c: &[u8]| if c == [0xff, 0xff] { [0, 0] } else { [c[0], c[1]] };
                assert_eq!(either(&again[6..8]), either(&b[6..8]));
            }
        }
        (Err(ours), Err(theirs)) => assert_eq!(ours, theirs),
        (ours, theirs) => panic!("{ours:?}, but {theirs:?}"),
    }
}

fn config(priority: u8, interval_cs: u16, flags: u8) -> Config {
    let router = |n: usize| VirtualRouter {
        interface: IfId(n.min(1) as u16),
        vrid: VRID,
        addresses: ADDRESSES[n].iter().map(|a| ip(a)).collect(),
        source: ip(OWN[n]),
    };
    // Some configurations have fewer virtual routers.
    let routers = (0..3).filter(|n| flags >> 4 & 3 != n + 1).map(|n| router(n as usize)).collect();
    Config {
        routers,
        priority: priority.max(1),
        interval_cs: interval_cs % 4095 + 1,
        preempt: flags & 1 == 0,
        preempt_delay: Duration::from_millis(if flags & 2 == 0 { 0 } else { 700 }),
        accept: true,
        checksum4: if flags & 4 == 0 { Peer4Checksum::Rfc9568 } else { Peer4Checksum::PseudoHeader },
    }
}

/// True if the message is one that a gateway with our virtual router has to believe.
fn believable(b: &[u8], n: usize, hops: u8, pseudo4: bool) -> bool {
    let (src, dst) = around(n);
    let Ok(theirs) = plain(b, src, dst, pseudo4) else { return false };
    let ours: BTreeSet<IpAddr> = ADDRESSES[n].iter().map(|a| ip(a)).collect();
    let theirs: BTreeSet<IpAddr> = theirs.into_iter().collect();
    hops == 255 && b[1] == VRID && (ours.is_subset(&theirs) || theirs.is_subset(&ours))
}

fn around(n: usize) -> (IpAddr, IpAddr) {
    (ip(PEERS[n]), ip(if n == 2 { "224.0.0.18" } else { "ff02::12" }))
}

/// A packet of the peer; the octets choose what is wrong with it. With the network that it comes from, and
/// whether it is to be believed.
fn packet(c: &[u8; 6], pseudo4: bool) -> (&'static str, Vec<u8>, bool) {
    let n = usize::from(c[0] & 3).min(2);
    let (src, dst) = around(n);
    // Some have one address less.
    let addresses = &ADDRESSES[n][..ADDRESSES[n].len().min(if c[0] & 8 == 0 { 9 } else { 1 })];
    let mut b = vec![0x31, VRID, c[1], addresses.len() as u8, c[3], c[4], 0, 0];
    addresses.iter().for_each(|a| b.extend(octets(ip(a))));
    let (mut hops, wrong) = (255, c[2]);
    match wrong & 7 {
        // Before the checksum is computed: any field.
        1 => {
            let at = usize::from(c[5]) % b.len();
            b[at] ^= 1 << (wrong >> 5);
        }
        2 => hops = c[5],
        3 => b.truncate(usize::from(c[5]) % 60),
        _ => {}
    }
    if b.len() >= 8 {
        b[6..8].fill(0);
        let check = !sum(&[&pseudo(src, dst, b.len(), pseudo4), &b]);
        b[6..8].copy_from_slice(&check.to_be_bytes());
        if wrong & 7 == 4 {
            b[6] ^= 0x10;
        }
    }
    message(&b, src, dst, pseudo4);
    let right = believable(&b, n, hops, pseudo4);
    let octets = match (src, dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => ip6(src, dst).hop_limit(hops).raw(112, &b),
        (IpAddr::V4(src), IpAddr::V4(dst)) => ip4(src, dst).ttl(hops).raw(112, &b),
        _ => unreachable!("of one family"),
    };
    (NETWORKS[n], octets, right)
}

/// Octets as messages, and as a history of one stage, eight octets a step.
pub fn sequence(b: &[u8]) {
    history(b);
}

/// As [`sequence`]; gives how often the stage became active and how many messages it believed.
fn history(b: &[u8]) -> (u64, u64) {
    for (src, dst) in [("fe80::77", "ff02::12"), ("192.0.2.4", "224.0.0.18")] {
        message(b, ip(src), ip(dst), b.len().is_multiple_of(2));
    }
    let (steps, _) = b.as_chunks::<8>();
    let Some(([first_priority, high, low, flags, ..], steps)) = steps.split_first() else { return (0, 0) };
    let mut current = config(*first_priority, u16::from_be_bytes([*high, *low]), *flags);
    let shared = Arc::new(Shared::new());
    let mut stage = Stage::new(Arc::new(current.clone()), Arc::clone(&shared));
    let mut rig = Rig::lab();
    let mut active = false;
    for [kind, step @ .., time] in steps.iter().take(200) {
        let pseudo4 = current.checksum4 == Peer4Checksum::PseudoHeader;
        match kind % 8 {
            0 => shared.set_tracking(step[0], step[1] & 7 == 0),
            1 => {
                current = config(step[0], u16::from_be_bytes([step[1], step[2]]), step[3]);
                stage.set_config(Arc::new(current.clone()), rig.now);
            }
            _ => {
                let (network, octets, right) = packet(step, pseudo4);
                let p = rig.packet(network, &octets);
                let known = current
                    .routers
                    .iter()
                    .any(|r| r.interface == p.meta.ingress && r.source.is_ipv6() == (octets[0] >> 4 == 6));
                let received = rig.counters.get(Counter::VrrpAdvertsReceived);
                let was = stage.phase();
                let verdict = stage.receive(&mut rig.ctx(), &p);
                match verdict {
                    Verdict::Consume => assert!(right && known, "{octets:02x?}"),
                    Verdict::Drop(reason) => {
                        assert!(!right || !known, "{}: {octets:02x?}", reason.name());
                        assert_eq!(stage.phase(), was);
                    }
                    other => panic!("{other:?}"),
                }
                let more = rig.counters.get(Counter::VrrpAdvertsReceived) - received;
                assert_eq!(more == 1, verdict == Verdict::Consume);
            }
        }
        rig.advance(Duration::from_micros(u64::from(*time).pow(3)));
        shared.beat(rig.now);
        poll(&mut rig, &mut stage, &shared, &current, &mut active);
    }
    // Silence: whatever came before, it becomes active, if nothing is wrong with its links.
    for _ in 0..200 {
        rig.advance(Duration::from_secs(1));
        shared.beat(rig.now);
        poll(&mut rig, &mut stage, &shared, &current, &mut active);
    }
    assert_eq!(active, !shared.status().fault);
    stage.shutdown(&mut rig.ctx());
    let stopping = sent(&mut rig, &current);
    assert!(stopping.iter().all(|p| *p == 0) && (active || stopping.is_empty()));
    rig.advance(Duration::from_secs(1000));
    assert!(stage.tick(rig.now).is_none() && stage.phase() == Phase::Initialize);
    let count = |c| rig.counters.get(c);
    (count(Counter::VrrpBecameActive), count(Counter::VrrpAdvertsReceived))
}

fn poll(rig: &mut Rig, stage: &mut Stage, shared: &Shared, current: &Config, active: &mut bool) {
    let transition = stage.tick(rig.now);
    stage.advertise(&mut rig.ctx());
    // A fault resigns in the view that is still in force; the transition follows.
    let priorities = sent(rig, current);
    assert!(priorities.len() <= current.routers.len());
    let speaks = *active || transition == Some(Transition::Active);
    assert!(speaks || priorities.is_empty(), "a backup speaks");
    match transition {
        Some(Transition::Active) => {
            assert!(!*active);
            *active = true;
            assert_eq!(priorities.len(), current.routers.len(), "all are advertised at once");
            shared.publish_active(true);
        }
        Some(Transition::Backup) => {
            assert!(*active);
            *active = false;
        }
        None => {}
    }
    assert_eq!(shared.is_active(rig.now), *active);
    let told: Vec<Event> = rig.take_events();
    let has = |e: Event| told.contains(&e);
    assert_eq!(has(Event::BecameActive), transition == Some(Transition::Active));
    assert_eq!(has(Event::BecameBackup), transition == Some(Transition::Backup));
    rig.source = causeway_core::HeapSource::new(100);
    assert!(rig.now > Instant::ZERO);
}

/// Judges what was sent, and gives the priorities.
fn sent(rig: &mut Rig, current: &Config) -> Vec<u8> {
    let list: Vec<Vec<u8>> = rig.outbox.drain().map(|p| p.bytes().to_vec()).collect();
    let pseudo4 = current.checksum4 == Peer4Checksum::PseudoHeader;
    list.iter()
        .map(|p| {
            check_packet(p).expect("a right packet");
            let (src, dst, at) = if p[0] >> 4 == 6 {
                let a = |at: usize| <[u8; 16]>::try_from(&p[at..at + 16]).expect("16 octets");
                assert_eq!((p[6], p[7]), (112, 255));
                (IpAddr::from(a(8)), IpAddr::from(a(24)), 40)
            } else {
                let a = |at: usize| <[u8; 4]>::try_from(&p[at..at + 4]).expect("4 octets");
                assert_eq!((p[9], p[8]), (112, 255));
                (IpAddr::from(a(12)), IpAddr::from(a(16)), 20)
            };
            let router = current.routers.iter().find(|r| r.source == src).expect("from an address of ours");
            assert_eq!(plain(&p[at..], src, dst, pseudo4).as_ref(), Ok(&router.addresses));
            assert_eq!(u16::from_be_bytes([p[at + 4], p[at + 5]]), current.interval_cs);
            p[at + 2]
        })
        .collect()
}

/// What the target begins with, by name.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let begin = |priority: u8, interval: u16, flags: u8| {
        let i = interval.to_be_bytes();
        vec![priority, i[0], i[1], flags, 0, 0, 0, 0]
    };
    // kind, network, priority, what is wrong, interval, argument, time (cubed, in microseconds).
    let heard = |network: u8, priority: u8, wrong: u8, argument: u8, time: u8| {
        vec![2, network, priority, wrong, 0, 10, argument, time]
    };
    let mut rows: Vec<(&str, Vec<Vec<u8>>)> = Vec::new();
    rows.push(("alone", [vec![begin(100, 9, 0)], vec![heard(0, 1, 4, 0, 90); 20]].concat()));
    rows.push(("owner", vec![begin(255, 99, 0), heard(0, 255, 0, 0, 60), heard(1, 254, 0, 0, 60)]));
    let network = |n: usize| n as u8 % 3;
    let better = (0..30).map(|n| heard(network(n), 200, 0, 0, 50));
    rows.push(("better", [begin(100, 9, 0)].into_iter().chain(better).collect()));
    let worse = (0..60).map(|n| heard(network(n), 50, 0, 0, 40));
    rows.push(("worse-and-a-delay", [begin(100, 9, 2)].into_iter().chain(worse).collect()));
    let stops = [200, 200, 200, 0, 0, 0].iter().enumerate().map(|(n, p)| heard(network(n), *p, 0, 0, 30));
    rows.push(("stops", [begin(100, 9, 1)].into_iter().chain(stops).collect()));
    let ties = (0..30).map(|n| heard(network(n), 100, 0, 0, if n < 9 { 90 } else { 20 }));
    rows.push(("ties", [begin(100, 9, 4)].into_iter().chain(ties).collect()));
    let broken = (0..=255u8).step_by(3).map(|n| heard(n % 3, 200, n, n.wrapping_mul(37), 20));
    rows.push(("broken", [begin(100, 9, 0)].into_iter().chain(broken).collect()));
    let tracked = [(0, 1), (60, 1), (255, 1), (0, 0), (0, 1)]
        .map(|(penalty, fault)| vec![0, penalty, fault, 0, 0, 0, 0, 90]);
    rows.push(("tracked", [begin(100, 9, 0)].into_iter().chain(tracked).collect()));
    let changed = (0..=255u8).step_by(15).map(|n| vec![1, n, 0, n, n, 0, 0, 80]);
    rows.push(("changed", [begin(100, 9, 0)].into_iter().chain(changed).collect()));
    let mut list: Vec<(String, Vec<u8>)> =
        rows.into_iter().map(|(name, steps)| (name.to_owned(), steps.concat())).collect();
    // Messages as they are on the wire.
    for (n, name) in ["tenant", "uplink6", "uplink4"].into_iter().enumerate() {
        let (_, octets, _) = packet(&[n as u8, 100, 0, 0, 100, 0], false);
        list.push((format!("message-{name}"), octets[if n == 2 { 20 } else { 40 }..].to_vec()));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_reach_what_the_target_is_for() {
        let of: Vec<(String, (u64, u64))> = seeds().into_iter().map(|(n, b)| (n, history(&b))).collect();
        let (active, believed) = of.iter().fold((0, 0), |(a, h), (_, (b, i))| (a + b, h + i));
        assert!(active >= 5 && believed >= 100, "{of:?}");
    }
}
