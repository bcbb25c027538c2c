//! What can be set about neighbours, with the values that are used otherwise.

use causeway_core::Duration;

/// Settings of a gateway's neighbour tables. [`Default`] gives what suits most networks.
///
/// Numbers that are "per interface" hold for the whole gateway: each worker gets its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Neighbours that the gateway can know at once, all interfaces together. Default 65,536.
    pub capacity: usize,
    /// Neighbours of one interface, so that one network cannot take the room of all. Default 49,152.
    pub per_interface: usize,
    /// Addresses being looked for at once, per interface; a quarter is kept for addresses that were
    /// neighbours before (RFC 6583 7.1). Default 512.
    pub incomplete_per_interface: usize,
    /// Addresses being looked for or given up at once, all interfaces together. Default 2,048.
    pub incomplete: usize,
    /// Neighbours that only made themselves known and were never confirmed, per interface (RFC 9131).
    /// The oldest gives way. Default 1,024.
    pub learned_per_interface: usize,
    /// The same, all interfaces together. Default 4,096.
    pub learned: usize,
    /// New addresses looked for in a second, per interface; and four times as many that have a lease or were
    /// neighbours before, so that a gateway that takes over finds its hosts soon. Default 500.
    pub resolutions_rate_pps: u32,
    /// How many of them at once; of the others as many as may be looked for at once. Default 100.
    pub resolutions_burst: u32,
    /// Packets that wait for one next hop. RFC 4861 7.2.2 asks for at least one. Default 8.
    pub queue_per_hop: usize,
    /// Packets that wait, all next hops of a worker together. When half of them are taken, each next
    /// hop may keep one. Default 1,024.
    pub queue_frames: usize,
    /// Echo requests to the gateway itself answered in a second, per worker. Default 1,000.
    pub echo_rate_pps: u32,
    /// How many of them at once. Default 200.
    pub echo_burst: u32,
    /// `REACHABLE_TIME`: how long a confirmation lasts; it is drawn between half of this and one and a
    /// half (RFC 4861 6.3.2). Default 30 s.
    pub reachable_time: Duration,
    /// `RETRANS_TIMER`. Default 1 s.
    pub retrans_time: Duration,
    /// `DELAY_FIRST_PROBE_TIME`. Default 5 s.
    pub delay_first_probe: Duration,
    /// How often it is looked whether a stale neighbour is in use. Default 2 s.
    pub stale_check: Duration,
    /// After how long without use a neighbour is forgotten. At most 12 h. Default 1 h.
    pub idle_time: Duration,
    /// How long an address that did not answer is not asked for again. Default 3 s.
    pub failed_time: Duration,
    /// `MAX_MULTICAST_SOLICIT`. At least 1. Default 3.
    pub multicast_tries: u8,
    /// `MAX_UNICAST_SOLICIT`. At least 1. Default 3.
    pub unicast_tries: u8,
    /// How long after a defence of an own address the next one waits (RFC 5227 1.1,
    /// `DEFEND_INTERVAL`), and how often at most a conflict is told. Default 10 s.
    pub defend_interval: Duration,
    /// How often own addresses are announced (RFC 4861 7.2.6: at most 3; RFC 5227 1.1: 2). Default 2.
    pub announcements: u8,
    /// Between announcements (RFC 5227 1.1, `ANNOUNCE_INTERVAL`). Default 2 s.
    pub announce_interval: Duration,
}

/// The longest [`Config::idle_time`].
pub const MAX_IDLE_TIME: Duration = Duration::from_secs(12 * 3600);

impl Default for Config {
    fn default() -> Self {
        Self {
            capacity: 65_536,
            per_interface: 49_152,
            incomplete_per_interface: 512,
            incomplete: 2_048,
            learned_per_interface: 1_024,
            learned: 4_096,
            resolutions_rate_pps: 500,
            resolutions_burst: 100,
            queue_per_hop: 8,
            queue_frames: 1_024,
            echo_rate_pps: 1_000,
            echo_burst: 200,
            reachable_time: Duration::from_secs(30),
            retrans_time: Duration::from_secs(1),
            delay_first_probe: Duration::from_secs(5),
            stale_check: Duration::from_secs(2),
            idle_time: Duration::from_secs(3600),
            failed_time: Duration::from_secs(3),
            multicast_tries: 3,
            unicast_tries: 3,
            defend_interval: Duration::from_secs(10),
            announcements: 2,
            announce_interval: Duration::from_secs(2),
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Name of the field.
    pub field: &'static str,
    /// What is allowed.
    pub allowed: &'static str,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: allowed is {}", self.field, self.allowed)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks that every number is one that the tables can be built with.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        const ROOM: &str = "1 to 1048576";
        const WAIT: &str = "10 ms to 1 h";
        let room = |n: usize| (1..=1 << 20).contains(&n);
        let wait = |d: Duration| (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&d);
        let rows = [
            ("capacity", room(self.capacity), ROOM),
            ("per_interface", room(self.per_interface), ROOM),
            ("incomplete_per_interface", (1..=65_536).contains(&self.incomplete_per_interface), "1 to 65536"),
            ("incomplete", (1..=65_536).contains(&self.incomplete), "1 to 65536"),
            ("learned_per_interface", room(self.learned_per_interface), ROOM),
            ("learned", room(self.learned), ROOM),
            ("queue_per_hop", (1..=64).contains(&self.queue_per_hop), "1 to 64"),
            ("queue_frames", (2..=65_536).contains(&self.queue_frames), "2 to 65536"),
            ("reachable_time", wait(self.reachable_time), WAIT),
            ("retrans_time", wait(self.retrans_time), WAIT),
            ("delay_first_probe", wait(self.delay_first_probe), WAIT),
            ("stale_check", wait(self.stale_check), WAIT),
            (
                "idle_time",
                self.idle_time <= MAX_IDLE_TIME && wait(self.idle_time.min(Duration::from_secs(3600))),
                "10 ms to 12 h",
            ),
            ("failed_time", wait(self.failed_time), WAIT),
            ("multicast_tries", self.multicast_tries > 0, "1 to 255"),
            ("unicast_tries", self.unicast_tries > 0, "1 to 255"),
            ("defend_interval", wait(self.defend_interval), WAIT),
            ("announcements", self.announcements <= 3, "0 to 3"),
            ("announce_interval", wait(self.announce_interval), WAIT),
        ];
        match rows.into_iter().find(|(_, good, _)| !good) {
            Some((field, _, allowed)) => Err(ConfigError { field, allowed }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_used_and_bad_numbers_are_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let bad = Config { capacity: 0, ..Config::default() }.check().unwrap_err();
        assert_eq!(bad.to_string(), "capacity: allowed is 1 to 1048576");
        let bad = Config { idle_time: Duration::from_secs(13 * 3600), ..Config::default() }.check();
        assert_eq!(bad.unwrap_err().field, "idle_time");
        let bad = Config { multicast_tries: 0, ..Config::default() }.check();
        assert_eq!(bad.unwrap_err().field, "multicast_tries");
    }
}
