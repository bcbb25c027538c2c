//! What a NAT64 can be told, checked: a [`Config`] that exists is one that works.

mod subscribers;

pub(crate) use subscribers::blocks_within;
pub use subscribers::{MAX_BLOCKS, MAX_SUBSCRIBERS, SubscriberError};

use crate::deterministic::Deterministic;
use crate::rfc6052::{PrefixError, Prefixes, is_forwardable};
use crate::rfc6146::session::is_older;
use crate::rfc6146::statics::Statics;
use crate::rfc7915::Policy;
use crate::subscriber::Who;
use causeway_core::{Duration, Prefix4, Prefix6};
use causeway_flowtable::TICK_MICROS;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use thiserror::Error;

/// The most pool addresses of one gateway. Each takes 74 KiB for its port sets.
pub const MAX_POOL_ADDRESSES: u32 = 4096;

/// The longest timeout: thirty days. Ticks of a flow stay far from wrapping.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 86_400);

/// The shortest timeout: one second.
pub const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Who may answer a mapping from outside (RFC 4787 5, RFC 6146 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filtering {
    /// Any remote address and port may use a mapping that exists.
    #[default]
    EndpointIndependent,
    /// Only remote addresses that the inside host sent to through the mapping, from any port of theirs.
    /// Takes one session slot more for each mapping and remote address.
    AddressDependent,
    /// Only remote addresses and ports that the inside host sent to through the mapping.
    AddressAndPortDependent,
}

/// How ports are given to subscribers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Allocation {
    /// One by one.
    #[default]
    Single,
    /// In blocks of consecutive ports, for all protocols at once: one log record for each block that is
    /// given and returned, instead of one for each mapping.
    Blocks {
        /// Ports of a block: a power of two, 8 to 16384. A subscriber has at most [`MAX_BLOCKS`].
        ports: u16,
    },
    /// By calculation (RFC 7422): each subscriber's address and ports follow from its place in `hosts`, so
    /// that nothing has to be logged.
    Deterministic {
        /// Where subscribers are, in the order of calculation. Divided into prefixes of the subscribers'
        /// length.
        hosts: Vec<Prefix6>,
    },
}

/// What one subscriber may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Ports of each protocol that it gets whatever others have taken. 0: none are promised. At most half of
    /// what one pool address has (a tenant's on its own addresses: all). Half of each shared address is
    /// kept for such promises at most; those that find no room any more are served without one.
    pub ports_min: u16,
    /// Ports of each protocol that it may have at once (RFC 6888 3, REQ-4). Nothing: as many as there are.
    pub ports_max: Option<u16>,
    /// Sessions that it may have at once (RFC 6888 3, REQ-5). Nothing: as many as there are. Those that
    /// strangers open leave it the last quarter.
    pub sessions_max: Option<u32>,
    /// New sessions from inside a second, in the long run (RFC 6888 3, REQ-4 c). 1 to 10^9. Nothing: no
    /// limit.
    pub new_sessions_per_second: Option<u32>,
    /// New sessions at once on top of that rate.
    pub new_sessions_burst: u32,
}

/// A subscriber, or some, that the operator knows by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// What operators call it. Not empty.
    pub name: String,
    /// Its hosts. All of them are one subscriber. No two tenants' prefixes overlap.
    pub prefixes: Vec<Prefix6>,
    /// Its own limits.
    pub limits: Limits,
    /// Its own exit addresses, which nobody else gets. Empty: those that all share.
    pub pool: Vec<Prefix4>,
}

/// Who is accounted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribers {
    /// Hosts whose addresses have these first bits in common are one subscriber, unless a tenant has
    /// them. 1 to 128.
    pub prefix_length: u8,
    /// What each may have.
    pub limits: Limits,
    /// Subscribers with a name.
    pub tenants: Vec<Tenant>,
    /// Subscribers without a name that have mappings at the same time, at most (tenants have places of
    /// their own). 1 to 2^24. Each takes some 320 octets, and 400 more where blocks are given. What a
    /// running pool has stays: a change needs a restart.
    pub capacity: u32,
}

impl Default for Subscribers {
    /// Every /64 is one, without limits.
    fn default() -> Self {
        Self { prefix_length: 64, limits: Limits::default(), tenants: Vec::new(), capacity: 65_536 }
    }
}

/// A mapping that is always there (RFC 6146 3.1: configured by hand).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticMapping {
    /// TCP or UDP, by protocol number.
    pub protocol: u8,
    /// Where it is reached from IPv4. The address need not be in a pool.
    pub outside: (Ipv4Addr, u16),
    /// The server.
    pub inside: (Ipv6Addr, u16),
}

/// What is written to the mapping log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Port blocks that are given and returned.
    pub blocks: bool,
    /// Mappings that begin and end.
    pub mappings: bool,
    /// Sessions that begin and end.
    pub sessions: bool,
    /// Records of sessions name the remote end too (RFC 6888 4, REQ-12 has it off unless asked for).
    pub destinations: bool,
}

/// How long a session may be idle. One second to thirty days each; kept in ticks of a quarter second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// UDP. RFC 4787 4.3 (REQ-5): five minutes are recommended, two are the least.
    pub udp: Duration,
    /// TCP that is open on both sides. RFC 5382 5 (REQ-5): two hours and four minutes at least.
    pub tcp_established: Duration,
    /// TCP that only one side has opened (RFC 7857 2.1: apart from the next, and it may be less than four
    /// minutes).
    pub tcp_opening: Duration,
    /// TCP that is closing, was reset, or is being probed. RFC 5382 5 (REQ-5): four minutes at least.
    pub tcp_transitory: Duration,
    /// How long a SYN from outside that fits no session waits (RFC 6146 4: TCP_INCOMING_SYN).
    pub tcp_incoming_syn: Duration,
    /// ICMP queries. RFC 5508 3.2 (REQ-2): one minute at least.
    pub icmp: Duration,
    /// Fragments that wait for the first one (RFC 6146 4: FRAGMENT_MIN is two seconds).
    pub fragment: Duration,
}

impl Default for Timeouts {
    /// The defaults of RFC 6146 4.
    fn default() -> Self {
        Self {
            udp: Duration::from_secs(300),
            tcp_established: Duration::from_secs(7440),
            tcp_opening: Duration::from_secs(240),
            tcp_transitory: Duration::from_secs(240),
            tcp_incoming_syn: Duration::from_secs(6),
            icmp: Duration::from_secs(60),
            fragment: Duration::from_secs(2),
        }
    }
}

/// Everything that a NAT64 can be told; [`Config::new`] checks it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The NAT64 prefixes (RFC 6052).
    pub prefixes: Vec<Prefix6>,
    /// The IPv4 addresses that IPv6 hosts share.
    pub pool: Vec<Prefix4>,
    /// First port or identifier that is given out. Not 0.
    pub first_port: u16,
    /// Last port or identifier that is given out.
    pub last_port: u16,
    /// Who may answer from outside.
    pub filtering: Filtering,
    /// How long sessions may be idle.
    pub timeouts: Timeouts,
    /// How long a port rests before somebody else gets it (RFC 6888 3, REQ-8: 120 s). Zero: not at all.
    pub hold_down: Duration,
    /// UDP ports keep their parity where that is possible (RFC 4787 4.2.2).
    pub keep_parity: bool,
    /// The knobs of translation.
    pub policy: Policy,
    /// The IPv4 address that stands for IPv6 routers in errors they send (RFC 6791). Without it the
    /// gateway's own address on the way out stands for them.
    pub icmp_source: Option<Ipv4Addr>,
    /// The plan's generation, as it is written into flows.
    pub generation: u16,
    /// Who is accounted together, and what they may have.
    pub subscribers: Subscribers,
    /// How ports are given out.
    pub allocation: Allocation,
    /// Mappings that are always there.
    pub static_mappings: Vec<StaticMapping>,
    /// What is written to the mapping log.
    pub log: LogOptions,
}

impl Default for Options {
    /// No prefixes and no pool, everything else as the RFCs recommend.
    fn default() -> Self {
        Self {
            prefixes: Vec::new(),
            pool: Vec::new(),
            first_port: 1024,
            last_port: u16::MAX,
            filtering: Filtering::default(),
            timeouts: Timeouts::default(),
            hold_down: Duration::from_secs(120),
            keep_parity: true,
            policy: Policy::default(),
            icmp_source: None,
            generation: 0,
            subscribers: Subscribers::default(),
            allocation: Allocation::default(),
            static_mappings: Vec::new(),
            log: LogOptions::default(),
        }
    }
}

/// Why [`Options`] make no [`Config`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A prefix is not one of RFC 6052, or two overlap.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// There is no pool address.
    #[error("the NAT64 pool needs at least one IPv4 address")]
    EmptyPool,
    /// More than [`MAX_POOL_ADDRESSES`].
    #[error("the NAT64 pool has {0} addresses; at most {MAX_POOL_ADDRESSES} are possible")]
    LargePool(u64),
    /// Two pool prefixes overlap.
    #[error("the pool prefixes {0} and {1} overlap")]
    PoolOverlap(Prefix4, Prefix4),
    /// A pool prefix holds addresses that are not unicast.
    #[error("{0} holds addresses that no router forwards (RFC 1812 5.3.7)")]
    PoolNotUnicast(Prefix4),
    /// The port range is empty or holds port 0.
    #[error("the port range {0} to {1} is empty or begins with 0; allowed is 1 to 65535, first to last")]
    Ports(u16, u16),
    /// A timeout is out of range.
    #[error("the timeout {0} is {1:?}; allowed is one second to thirty days")]
    Timeout(&'static str, Duration),
    /// The hold-down is too long.
    #[error("the hold-down is {0:?}; allowed is zero to thirty days")]
    HoldDown(Duration),
    /// The lowest IPv6 MTU is out of range.
    #[error("the lowest IPv6 MTU is {0}; allowed is 1280 to 9600 octets")]
    LowestIpv6Mtu(u16),
    /// The largest segment is out of range.
    #[error("the largest segment is {0}; allowed is 216 to 9560 octets")]
    ClampMss(u16),
    /// A static mapping is none that can be.
    #[error(
        "the static mapping {0:?} cannot be: protocol 6 or 17, ports from 1, a unicast IPv4 address, and \
         an IPv6 host that is not under a NAT64 prefix are allowed"
    )]
    Static(StaticMapping),
    /// Two static mappings have the same outside or the same inside.
    #[error("the static mappings {0:?} and {1:?} have the same outside or the same inside")]
    StaticTwice(StaticMapping, StaticMapping),
    /// The address for ICMP errors is no unicast address.
    #[error("{0} cannot be the source of ICMP errors")]
    IcmpSource(Ipv4Addr),
    /// Subscribers, the allocation of ports or static mappings.
    #[error(transparent)]
    Subscribers(#[from] SubscriberError),
}

/// Timeouts in ticks, as the sweep compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticks {
    pub(crate) udp: u32,
    pub(crate) tcp_established: u32,
    pub(crate) tcp_opening: u32,
    pub(crate) tcp_transitory: u32,
    pub(crate) tcp_incoming_syn: u32,
    pub(crate) icmp: u32,
}

/// After so many plans no flow is older than any of them: the sweep has met them all.
const LONG_AGO: u16 = 1 << 14;

/// A checked configuration. Immutable; a change makes a new one with another generation.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) options: Options,
    pub(crate) prefixes: Prefixes,
    /// By number of the prefix: the plan that gave the prefix its number, if that was not long ago.
    since: Vec<Option<u16>>,
    pub(crate) ticks: Ticks,
    who: Who,
    deterministic: Option<Deterministic>,
    pub(crate) statics: Arc<Statics>,
}

impl Config {
    /// Checks `options`.
    ///
    /// # Errors
    /// The first thing that is wrong, see [`ConfigError`].
    pub fn new(options: Options) -> Result<Self, ConfigError> {
        let prefixes = Prefixes::new(&options.prefixes)?;
        // No flow that an older plan made is under one of them.
        let since = options.prefixes.iter().map(|_| Some(options.generation)).collect();
        Self::checked(options, prefixes, since, None)
    }

    /// Checks `options` for a gateway that has run with this configuration: prefixes that both have keep
    /// the numbers by which flows know them, and so do the pools of tenants.
    ///
    /// # Errors
    /// As [`Config::new`].
    pub fn successor(&self, options: Options) -> Result<Self, ConfigError> {
        let prefixes = self.prefixes.successor(&options.prefixes)?;
        let now = options.generation;
        let since = (0..=u8::MAX).map(|n| match (self.prefixes.get(n), prefixes.get(n)) {
            (_, None) => None,
            (old, new) if old == new => {
                let since = self.since.get(usize::from(n)).copied().flatten();
                since.filter(|s| now.wrapping_sub(*s) < LONG_AGO)
            }
            _ => Some(now),
        });
        let since = since.collect();
        Self::checked(options, prefixes, since, Some(&self.who))
    }

    /// True if this number was a prefix's in the plan of `generation`, and is the same prefix's now.
    pub(crate) fn has_kept_prefix(&self, number: u8, generation: u16) -> bool {
        let since = self.since.get(usize::from(number)).copied().flatten();
        self.prefixes.get(number).is_some() && since.is_none_or(|s| !is_older(generation, s))
    }

    fn checked(
        options: Options,
        prefixes: Prefixes,
        since: Vec<Option<u16>>,
        before: Option<&Who>,
    ) -> Result<Self, ConfigError> {
        if options.pool.is_empty() {
            return Err(ConfigError::EmptyPool);
        }
        check_pool(&subscribers::all_pools(&options))?;
        if options.first_port == 0 || options.first_port > options.last_port {
            return Err(ConfigError::Ports(options.first_port, options.last_port));
        }
        if !(1280..=9600).contains(&options.policy.lowest_ipv6_mtu) {
            return Err(ConfigError::LowestIpv6Mtu(options.policy.lowest_ipv6_mtu));
        }
        if let Some(mss) = options.policy.clamp_mss.filter(|m| !(216..=9560).contains(m)) {
            return Err(ConfigError::ClampMss(mss));
        }
        if options.hold_down > MAX_TIMEOUT {
            return Err(ConfigError::HoldDown(options.hold_down));
        }
        if let Some(a) = options.icmp_source.filter(|a| !is_forwardable(*a)) {
            return Err(ConfigError::IcmpSource(a));
        }
        let t = &options.timeouts;
        ticks("fragment", t.fragment)?;
        let ticks = Ticks {
            udp: ticks("udp", t.udp)?,
            tcp_established: ticks("tcp-established", t.tcp_established)?,
            tcp_opening: ticks("tcp-opening", t.tcp_opening)?,
            tcp_transitory: ticks("tcp-transitory", t.tcp_transitory)?,
            tcp_incoming_syn: ticks("tcp-incoming-syn", t.tcp_incoming_syn)?,
            icmp: ticks("icmp", t.icmp)?,
        };
        subscribers::check(&options)?;
        let deterministic = Deterministic::new(&options)?;
        let who = Who::new(&options, before)?;
        let statics = Arc::new(Statics::new(&options.static_mappings, &prefixes, &who)?);
        Ok(Self { options, prefixes, since, ticks, who, deterministic, statics })
    }

    /// What it was made from.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The translation prefixes, by number.
    #[must_use]
    pub const fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }

    /// True if `a` is a pool address, of all or of a tenant, or the outside address of a static mapping.
    #[inline]
    #[must_use]
    pub fn in_pool(&self, a: Ipv4Addr) -> bool {
        self.who.in_pool(a) || self.statics.has_address(a)
    }

    /// Every IPv4 address that is translated: the pools, of all and of tenants, and outside addresses of
    /// static mappings that are in no pool prefix.
    pub fn addresses(&self) -> impl Iterator<Item = Prefix4> + '_ {
        // 32 bits are a prefix length.
        let more = self.statics.addresses().iter().filter_map(|a| Prefix4::new(*a, 32));
        self.who.pools().iter().flat_map(|(_, pool)| pool).copied().chain(more)
    }

    /// Whose hosts are whose.
    pub(crate) const fn who(&self) -> &Who {
        &self.who
    }

    /// Ports by calculation, if they are.
    pub(crate) const fn deterministic(&self) -> Option<&Deterministic> {
        self.deterministic.as_ref()
    }
}

fn check_pool(pool: &[Prefix4]) -> Result<(), ConfigError> {
    for (n, a) in pool.iter().enumerate() {
        if let Some(b) = pool[..n].iter().find(|b| b.overlaps(*a)) {
            return Err(ConfigError::PoolOverlap(*b, *a));
        }
        if !is_forwardable(a.address()) || !is_forwardable(a.last()) || a.len() < 8 {
            return Err(ConfigError::PoolNotUnicast(*a));
        }
    }
    let addresses = pool.iter().map(|p| 1u64 << (32 - u32::from(p.len()))).sum();
    if addresses > u64::from(MAX_POOL_ADDRESSES) {
        return Err(ConfigError::LargePool(addresses));
    }
    Ok(())
}

fn ticks(name: &'static str, d: Duration) -> Result<u32, ConfigError> {
    if !(MIN_TIMEOUT..=MAX_TIMEOUT).contains(&d) {
        return Err(ConfigError::Timeout(name, d));
    }
    // Rounded up: a session lives at least as long as it was promised.
    let n = d.as_micros().div_ceil(u128::from(TICK_MICROS));
    u32::try_from(n).map_err(|_| ConfigError::Timeout(name, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Options {
        Options {
            prefixes: vec!["2001:db8:64:ff9b::/96".parse().unwrap()],
            pool: vec!["203.0.113.0/28".parse().unwrap()],
            ..Options::default()
        }
    }

    #[test]
    fn the_lab_is_a_good_configuration() {
        let c = Config::new(good()).unwrap();
        assert!(c.in_pool(Ipv4Addr::new(203, 0, 113, 15)));
        assert!(!c.in_pool(Ipv4Addr::new(203, 0, 113, 16)));
    }

    #[test]
    fn rfc6146_4_default_timeouts_in_ticks() {
        let t = Config::new(good()).unwrap().ticks;
        let s = |ticks: u32| u64::from(ticks) * TICK_MICROS / 1_000_000;
        assert_eq!((s(t.udp), s(t.tcp_established), s(t.tcp_transitory)), (300, 7440, 240));
        assert_eq!(s(t.tcp_opening), 240);
        assert_eq!((s(t.tcp_incoming_syn), s(t.icmp)), (6, 60));
    }

    #[test]
    fn each_bad_value_has_an_error_of_its_own() {
        let p = |s: &str| s.parse::<Prefix4>().unwrap();
        let with = |f: &dyn Fn(&mut Options)| {
            let mut o = good();
            f(&mut o);
            Config::new(o).unwrap_err()
        };
        assert_eq!(with(&|o| o.prefixes.clear()), ConfigError::Prefix(PrefixError::None));
        assert_eq!(with(&|o| o.pool.clear()), ConfigError::EmptyPool);
        assert_eq!(
            with(&|o| o.pool = vec![p("203.0.113.0/28"), p("203.0.113.8/32")]),
            ConfigError::PoolOverlap(p("203.0.113.0/28"), p("203.0.113.8/32"))
        );
        assert_eq!(
            with(&|o| o.pool = vec![p("224.0.0.0/24")]),
            ConfigError::PoolNotUnicast(p("224.0.0.0/24"))
        );
        assert_eq!(with(&|o| o.pool = vec![p("0.0.0.0/0")]), ConfigError::PoolNotUnicast(p("0.0.0.0/0")));
        assert_eq!(with(&|o| o.pool = vec![p("10.0.0.0/16")]), ConfigError::LargePool(65536));
        assert_eq!(with(&|o| o.first_port = 0), ConfigError::Ports(0, 65535));
        assert_eq!(with(&|o| o.last_port = 1000), ConfigError::Ports(1024, 1000));
        assert_eq!(with(&|o| o.timeouts.udp = Duration::ZERO), ConfigError::Timeout("udp", Duration::ZERO));
        assert_eq!(
            with(&|o| o.timeouts.fragment = Duration::MAX),
            ConfigError::Timeout("fragment", Duration::MAX)
        );
        assert_eq!(with(&|o| o.hold_down = Duration::MAX), ConfigError::HoldDown(Duration::MAX));
        assert_eq!(with(&|o| o.policy.lowest_ipv6_mtu = 1279), ConfigError::LowestIpv6Mtu(1279));
        assert_eq!(with(&|o| o.policy.clamp_mss = Some(215)), ConfigError::ClampMss(215));
        assert_eq!(
            with(&|o| o.icmp_source = Some(Ipv4Addr::LOCALHOST)),
            ConfigError::IcmpSource(Ipv4Addr::LOCALHOST)
        );
    }
}
