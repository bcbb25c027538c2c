//! What the runtime itself costs: swaps the MAC addresses of every frame between two ports that send
//! and receive without a device, on one core, and prints nanoseconds a packet.
//!
//! ```text
//! cargo run --release -p causeway-hwprofiles --example macswap [DEVICE DEVICE [ROUNDS [CORE]]]
//! ```

use arrayvec::ArrayVec;
use causeway_core::{BURST, Frame, Queues};
use causeway_hwprofiles::bringup::{Gateway, Idle, Memory, PollLoop, PortSpec, Spec, StopHandle, WorkerInit};
use causeway_hwprofiles::mbuf::MbufFrame;
use std::time::Instant;

struct Macswap {
    init: WorkerInit,
    burst: ArrayVec<MbufFrame, BURST>,
    frames: u64,
    unsent: u64,
    began: Instant,
    best: f64,
    rounds: u32,
    stop: StopHandle,
}

impl PollLoop for Macswap {
    #[inline]
    fn poll(&mut self) -> bool {
        let before = self.frames;
        for (from, to) in [(0, 1), (1, 0)] {
            self.init.queues.rx(from, &mut self.burst);
            self.frames += self.burst.len() as u64;
            for frame in &mut self.burst {
                let (to, from) = frame.bytes_mut()[..12].split_at_mut(6);
                to.swap_with_slice(from);
            }
            self.init.queues.tx(to, &mut self.burst);
            self.unsent += self.burst.len() as u64;
            self.burst.clear();
        }
        // A benchmark may read the clock, now and then.
        if self.frames >= 4_000_000 {
            let ns = self.began.elapsed().as_secs_f64() * 1e9 / self.frames as f64;
            self.best = self.best.min(ns);
            println!("{ns:.1} ns a packet, {} not sent", self.unsent);
            (self.frames, self.unsent, self.began) = (0, 0, Instant::now());
            self.rounds -= 1;
            if self.rounds == 0 {
                println!("best: {:.1} ns a packet", self.best);
                self.stop.stop();
            }
        }
        self.frames > before
    }

    fn drain(&mut self) {
        self.burst.clear();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let device = |n: usize, default: &str| args.get(n).map_or(default, String::as_str).parse();
    let devices = [device(0, "net_null0,size=64,copy=0")?, device(1, "net_null1,size=64,copy=0")?];
    let rounds = args.get(2).map_or(Ok(20), |n| n.parse())?;
    let core = args.get(3).map_or(Ok(1), |n| n.parse())?;
    let gateway = Gateway::bring_up(Spec {
        app_group: format!("macswap-{}", std::process::id()),
        main_core: 0,
        worker_cores: vec![core],
        mempool_frames: 8191,
        frame_octets: 0,
        idle: Idle::Spin,
        memory: Memory::Auto,
        ports: devices.into_iter().enumerate().map(|(n, d)| PortSpec::new(&format!("p{n}"), d)).collect(),
    })?;
    gateway.warnings().iter().for_each(|w| eprintln!("{w}"));
    let stop = gateway.stop_handle();
    let report = gateway.run(move |init| Macswap {
        init,
        burst: ArrayVec::new(),
        frames: 0,
        unsent: 0,
        began: Instant::now(),
        best: f64::INFINITY,
        rounds,
        stop: stop.clone(),
    })?;
    println!("{report:?}");
    Ok(())
}
