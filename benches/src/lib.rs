//! What the benches share: a generator, clocks, the memory floor, a NAT64 stage without a device, and what
//! a number was measured on.

#![forbid(unsafe_code)]

pub mod clocks;
pub mod floor;
pub mod stage;

/// Bursts of one window: a figure's least and median are taken over windows.
pub const WINDOW: usize = 64;

/// A small generator (splitmix64): the same inputs in every run.
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not zero.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next_u64() % n as u64) as usize
    }

    /// Puts `v` in random order.
    pub fn shuffle<T>(&mut self, v: &mut [T]) {
        for i in (1..v.len()).rev() {
            v.swap(i, self.below(i + 1));
        }
    }
}

/// True if a bench is only to show that it works, with one small round: run by `cargo test`, or with `--test`.
/// `cargo bench` says `--bench`.
#[must_use]
pub fn smoke() -> bool {
    let has = |arg: &str| std::env::args().any(|a| a == arg);
    has("--test") || !has("--bench")
}

/// One line on what absolute numbers were measured on: processor, cores, load, build, commit (from
/// `CAUSEWAY_COMMIT`).
#[must_use]
pub fn measured_on() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|x| x.1.trim()));
    let load = read("/proc/loadavg");
    format!(
        "machine=\"{}\" cores={} load={} profile={} commit={}",
        model.unwrap_or("unknown"),
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        load.split_whitespace().next().unwrap_or("unknown"),
        if cfg!(debug_assertions) { "debug" } else { "bench" },
        std::env::var("CAUSEWAY_COMMIT").unwrap_or_else(|_| "unknown".into()),
    )
}
