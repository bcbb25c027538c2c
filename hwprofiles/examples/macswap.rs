//! What the runtime itself costs: swaps the MAC addresses of every frame between two ports that send
//! and receive without a device, on one core, and prints nanoseconds a packet. They are of the CPU's time
//! that the worker got, so that other work on the machine does not count; the kernel's own time does.
//!
//! ```text
//! cargo run --release -p causeway-hwprofiles --example macswap [DEVICE DEVICE [ROUNDS [CORE]]]
//! ```

use arrayvec::ArrayVec;
use causeway_core::{BURST, Frame, Queues};
use causeway_hwprofiles::bringup::{Gateway, Idle, Memory, PollLoop, PortSpec, Spec, StopHandle, WorkerInit};
use causeway_hwprofiles::mbuf::MbufFrame;

struct Macswap {
    init: WorkerInit,
    burst: ArrayVec<MbufFrame, BURST>,
    frames: u64,
    unsent: u64,
    began: f64,
    figures: Vec<f64>,
    rounds: usize,
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
        // A benchmark may read the clock and allocate, now and then.
        if self.frames >= 200_000 {
            let now = cpu_seconds();
            if self.began > 0.0 {
                self.figures.push((now - self.began) * 1e9 / self.frames as f64);
            }
            (self.frames, self.began) = (0, now);
            if self.figures.len() == self.rounds {
                self.figures.sort_by(f64::total_cmp);
                println!(
                    "ns a packet: {:.1} median, {:.1} best of {} rounds of 200,000; {} frames not sent",
                    self.figures[self.rounds / 2],
                    self.figures[0],
                    self.rounds,
                    self.unsent
                );
                self.stop.stop();
            }
        }
        self.frames > before
    }

    fn drain(&mut self) {
        self.burst.clear();
    }
}

/// CPU time of this thread, in seconds.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time can be written.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(read, 0, "Linux has this clock");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let device = |n: usize, default: &str| args.get(n).map_or(default, String::as_str).parse();
    let devices = [device(0, "net_null0,size=64,copy=0")?, device(1, "net_null1,size=64,copy=0")?];
    let rounds = args.get(2).map_or(Ok(200), |n| n.parse())?;
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
        began: 0.0,
        figures: Vec::with_capacity(rounds),
        rounds,
        stop: stop.clone(),
    })?;
    println!("{report:?}");
    Ok(())
}
