//! A flood of SYNs from forged sources, to a listener of the splicer.
//!
//! Each is answered with a cookie, and leaves nothing behind. Established flows, spliced and NAT64's, are measured in turns
//! in the same run: alone, and each burst after a burst of the flood. What a flow loses is the share of its core that
//! answering takes, and what its packets cost more because of what the flood leaves in the caches. It is told for a flood of
//! a million SYNs a second that a device spreads over two workers by their sources, and for one that all comes to one.

use crate::spliced;
use arc_swap::ArcSwap;
use causeway_benches::clocks::{Tsc, met, min_median};
use causeway_benches::stage::{Direction, Gateway, Size};
use causeway_benches::{Rng, WINDOW};
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{BURST, Duration, Verdict};
use causeway_splicer::Config;
use causeway_splicer::config::Listener;
use causeway_splicer::site::{Servers, SiteTable};
use causeway_splicer::stage::{Secrets, Stage};
use causeway_testkit::{ip4, tcp};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// SYNs a second.
const FLOOD: f64 = 1e6;
/// Workers that they are spread over.
const WORKERS: f64 = 2.0;
/// What a flow may lose of its rate.
const GOAL: f64 = 0.10;
/// MSS 1460, SACK permitted, timestamps, window scale 7: as most systems offer.
const OFFER: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 5, 0, 0, 0, 0, 1, 3, 3, 7];

struct Flood {
    stage: Stage,
    rng: Rng,
}

impl Flood {
    fn new() -> Self {
        let listener = Listener {
            address: Ipv4Addr::from_bits(spliced::PROXY),
            port: 443,
            tls: true,
            http: false,
            default_site: None,
            redirect: false,
        };
        let config = Config { listeners: vec![listener], ..Config::default() };
        let sites = Arc::new(ArcSwap::from_pointee(SiteTable::of([], &mut Servers::new())));
        let secrets = Secrets { seed: [7; 32], cookies: [9; 16] };
        Self {
            stage: Stage::new(Arc::new(config), sites, IcmpErrors::new(1, 1), 0, secrets, None),
            rng: Rng(5),
        }
    }

    /// A burst of it: the clocks that answering takes.
    fn strike(&mut self, world: &mut spliced::Stage) -> u64 {
        let mut packets: Vec<_> = (0..BURST)
            .map(|_| {
                let random = self.rng.next_u64();
                // Anybody's address, but none of this network, of multicast or of loopback.
                let from = Ipv4Addr::from_bits(0x0b00_0000 + (random >> 8) as u32 % 0x7000_0000);
                let port = 1024 + (random % 60_000) as u16;
                let syn = tcp(port, 443).seq((random >> 32) as u32).options(&OFFER).syn();
                world.rig.packet("uplink0", &ip4(from, "203.0.113.80").tcp(&syn))
            })
            .collect();
        let mut verdicts = [Verdict::Consume; BURST];
        let guard = world.worker.enter();
        let mut ctx = world.rig.ctx();
        let before = world.tsc.raw();
        self.stage.clients(&mut ctx, &guard, &mut packets, &mut verdicts);
        let clocks = world.tsc.raw() - before;
        assert!(verdicts.iter().all(|v| matches!(v, Verdict::Forward { .. })), "{verdicts:?}");
        drop(guard);
        world.rig.advance(Duration::from_nanos((clocks as f64 / world.tsc.ghz()) as u64));
        clocks
    }
}

/// Windows of a flow in turns, alone and with the flood: clocks per packet of both, and of the flood's.
fn turns(
    windows: usize,
    world: &mut spliced::Stage,
    mut flow: impl FnMut(&mut spliced::Stage) -> u64,
) -> [(f64, f64); 3] {
    let mut flood = Flood::new();
    let [mut alone, mut hammered, mut answers] = [const { Vec::new() }; 3];
    let per_packet = |clocks: u64| clocks as f64 / (WINDOW * BURST) as f64;
    for _ in 0..windows {
        alone.push(per_packet((0..WINDOW).map(|_| flow(world)).sum()));
        let (mut ours, mut theirs) = (0, 0);
        for _ in 0..WINDOW {
            theirs += flood.strike(world);
            ours += flow(world);
        }
        hammered.push(per_packet(ours));
        answers.push(per_packet(theirs));
    }
    assert_eq!(world.worker.table().stats().sessions, u64::from(world.flows()), "a SYN leaves no state");
    [alone, hammered, answers].map(min_median)
}

fn tell(of: &str, flows: u32, direction: Direction, tsc: &Tsc, [alone, hammered, answer]: [(f64, f64); 3]) {
    let loss = |workers: f64, alone: f64, hammered: f64, answer: f64| {
        1.0 - (1.0 - answer * FLOOD / workers / (tsc.ghz() * 1e9)) * alone / hammered
    };
    let least = loss(WORKERS, alone.0, hammered.0, answer.0);
    let median = loss(WORKERS, alone.1, hammered.1, answer.1);
    let one = loss(1.0, alone.0, hammered.0, answer.0);
    println!(
        "RESULT overload flood of={of} flows={flows} direction={} alone_min={:.0} alone_median={:.0} flooded_min={:.0} \
         flooded_median={:.0} answer_min={:.0} answer_median={:.0} workers={WORKERS} loss_of_least={least:.3} loss={median:.3} loss_on_one={one:.3} goal={GOAL} \
         goal_by_least={} goal_by_median={}",
        direction.name(),
        alone.0,
        alone.1,
        hammered.0,
        hammered.1,
        answer.0,
        answer.1,
        met(least <= GOAL),
        met(median <= GOAL),
    );
}

pub(crate) fn measure(tsc: &Tsc, flows: u32, windows: usize) {
    let mut world = spliced::Stage::new(flows, tsc);
    for direction in [Direction::Out, Direction::In] {
        let mut frames = spliced::Frames::new(direction);
        let figures = turns(windows, &mut world, |world| world.next_burst(&mut frames));
        tell("spliced", flows, direction, tsc, figures);
    }
    let gateway = Gateway::new(Size::of(flows));
    let mut nat64 = gateway.stage(0, tsc);
    nat64.open(0..flows);
    for direction in [Direction::Out, Direction::In] {
        let mut frames = causeway_benches::stage::Frames::new(super::OCTETS, direction);
        let mut order = nat64.order();
        let figures = turns(windows, &mut world, |_| nat64.burst(&mut frames, &mut order));
        tell("nat64", flows, direction, tsc, figures);
    }
}
