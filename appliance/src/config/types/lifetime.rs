//! Lengths of time of the first hop: whole seconds or milliseconds, some of them none at all or for ever.

use super::number::Span;
use crate::config::read::Read;
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;
use toml::de::DeValue;

/// Milliseconds that stand for 2^32 - 1 seconds: for ever (RFC 4861 4.6.2, RFC 9915 7.7).
const FOREVER_MS: u64 = 0xffff_ffff * 1000;

/// Reads milliseconds from `least` to `most`, a multiple of `step`. "infinite" is allowed where `most` is
/// [`FOREVER_MS`].
fn milliseconds(value: &DeValue<'_>, least: u64, most: u64, step: u64) -> Result<u64, String> {
    let text = value.as_str();
    if text == Some("infinite") && most == FOREVER_MS {
        return Ok(FOREVER_MS);
    }
    let ms = match text {
        Some("0s" | "0ms") if least == 0 => 0,
        _ => u64::try_from(Span::read(value)?.duration().as_millis()).unwrap_or(u64::MAX),
    };
    if ms % step != 0 {
        return Err(match step {
            1000 => "not whole seconds".to_owned(),
            _ => format!("not a multiple of {step}ms"),
        });
    }
    if !(least..=most).contains(&ms) {
        return Err(format!("out of range {} to {}", show(least), show(most)));
    }
    Ok(ms)
}

fn show(ms: u64) -> String {
    match ms {
        0 => "0s".to_owned(),
        FOREVER_MS => "infinite".to_owned(),
        _ => Span::literal_ms(ms).to_string(),
    }
}

/// Makes a length of time with a range and a step, in milliseconds.
macro_rules! lengths {
    ($($(#[$doc:meta])* $name:ident($least:literal, $most:expr, $step:literal, $what:literal);)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            /// The length of time; 2^32 - 1 seconds for `"infinite"`.
            #[must_use]
            pub const fn duration(self) -> Duration {
                Duration::from_millis(self.0)
            }

            /// In whole seconds, rounded down.
            #[must_use]
            pub fn seconds(self) -> u32 {
                u32::try_from(self.0 / 1000).unwrap_or(u32::MAX)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&show(self.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl Read for $name {
            const ALLOWED: &'static str = $what;

            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                milliseconds(value, $least, $most, $step).map(Self)
            }
        }
    )+};
}

lengths! {
    /// How long hosts take a router for a default router: none, or up to 65,535 seconds (RFC 8319 4).
    RouterLifetime(0, 65_535_000, 1000, "\"0s\", or whole seconds up to 65535s, as in \"30m\"");

    /// The longest time between unsolicited router advertisements: 4 s to 65,535 s (RFC 8319 4).
    MaxInterval(4_000, 65_535_000, 1000, "whole seconds, 4s to 65535s, as in \"10m\"");

    /// The shortest one: from 3 s (RFC 4861 6.2.1).
    MinInterval(3_000, 65_535_000, 1000, "whole seconds, 3s to three quarters of `max-interval`, as in \"3m\"");

    /// How long a prefix or a route holds: none, up to 365 days, or for ever (RFC 4861 4.6.2).
    Lifetime(0, FOREVER_MS, 1000, "\"0s\", whole seconds up to 365d, as in \"30d\", or \"infinite\"");

    /// How long DNS settings hold: up to 365 days, or for ever (RFC 8106 5.1).
    DnsLifetime(1_000, FOREVER_MS, 1000, "whole seconds, 1s to 365d, as in \"30m\", or \"infinite\"");

    /// How long a lease lives: 1 second to 365 days.
    LeaseLifetime(1_000, 31_536_000_000, 1000, "whole seconds, 1s to 365d, as in \"12h\"");

    /// The longest pause between two messages of a client that nobody answers (RFC 9915 21.24, 21.25).
    RetryMost(60_000, 86_400_000, 1000, "whole seconds, 1m to 1d, as in \"1h\"");

    /// After what time a client asks for settings again: from 600 seconds (RFC 9915 21.23).
    Refresh(600_000, FOREVER_MS, 1000, "whole seconds, 10m to 365d, as in \"1d\", or \"infinite\"");

    /// How long an address rests: none, or up to 365 days.
    Rest(0, 31_536_000_000, 1000, "\"0s\", or whole seconds up to 365d, as in \"1h\"");

    /// How long it is kept who had which address: 1 hour to 365 days.
    History(3_600_000, 31_536_000_000, 1000, "whole seconds, 1h to 365d, as in \"90d\"");

    /// Between two VRRP advertisements: 1 to 4095 centiseconds (RFC 9568 5.2.7).
    VrrpInterval(10, 40_950, 10, "10ms to 40s950ms, a multiple of 10ms, as in \"1s\" or \"300ms\"");

    /// How long to wait before taking over: none, or up to 1 hour.
    Delay(0, 3_600_000, 1, "\"0s\", or up to 1h, as in \"30s\" (units h, m, s, ms in this order)");

    /// How long the other gateway has to acknowledge: 1 ms to 10 s.
    AckTimeout(1, 10_000, 1, "1ms to 10s, as in \"200ms\" (units s, ms in this order)");

    /// How long the other gateway may be away: 100 ms to 1 day.
    AloneAfter(100, 86_400_000, 1, "100ms to 1d, as in \"5s\" (units d, h, m, s, ms in this order)");

    /// How long a DNS answer is kept: 1 second to 7 days (RFC 8767 4).
    CacheTtl(1_000, 604_800_000, 1000, "whole seconds, 1s to 7d, as in \"1d\"");

    /// How long a failure of DNS is remembered: 1 second to 5 minutes (RFC 9520 3.2).
    FailureTtl(1_000, 300_000, 1000, "whole seconds, 1s to 5m, as in \"5s\"");

    /// The TTL of an answer that has expired: 1 second to 5 minutes (RFC 8767 4).
    StaleTtl(1_000, 300_000, 1000, "whole seconds, 1s to 5m, as in \"30s\"");

    /// How long a client waits before it gets an answer that has expired: not at all, or up to 10 s (RFC 8767 5).
    StaleAfter(0, 10_000, 1, "\"0s\", or up to 10s, as in \"1s800ms\" (units s, ms in this order)");

    /// How long a DNS question may take: 100 ms to 30 s.
    Patience(100, 30_000, 1, "100ms to 30s, as in \"4s\" (units s, ms in this order)");

    /// The TTL of an answer that is the gateway's own: none, or up to 7 days.
    LocalTtl(0, 604_800_000, 1000, "\"0s\", or whole seconds up to 7d, as in \"5m\"");

    /// How long a connection may be idle: 1 second to 5 minutes.
    IdleAfter(1_000, 300_000, 1, "1s to 5m, as in \"10s\" (units m, s, ms in this order)");
}

/// Lengths of time that are defaults or computed, in milliseconds; they are in the range.
macro_rules! literals {
    ($($name:ident),+) => {$(
        impl $name {
            pub(in crate::config) const fn literal_ms(ms: u64) -> Self {
                Self(ms)
            }
        }
    )+};
}

literals!(
    RouterLifetime,
    MaxInterval,
    Lifetime,
    LeaseLifetime,
    Rest,
    History,
    VrrpInterval,
    Delay,
    AckTimeout,
    AloneAfter,
    CacheTtl,
    FailureTtl,
    StaleTtl,
    StaleAfter,
    Patience,
    LocalTtl,
    IdleAfter
);

impl RouterLifetime {
    /// True if the router is no default router.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl MinInterval {
    /// What goes with a longest interval if the file does not say (RFC 4861 6.2.1, as corrected by its
    /// errata): 0.33 of it from 9 s on, and three quarters of it below that.
    #[must_use]
    pub fn of(most: MaxInterval) -> Self {
        let seconds = most.0 / 1000;
        let least = if seconds >= 9 { seconds * 33 / 100 } else { seconds * 3 / 4 };
        Self(least.max(3) * 1000)
    }

    /// The largest that is allowed with a longest interval: three quarters of it (RFC 4861 6.2.1).
    #[must_use]
    pub const fn most(most: MaxInterval) -> Self {
        Self(most.0 / 1000 * 3 / 4 * 1000)
    }
}

impl DnsLifetime {
    /// What goes with a longest interval if the file does not say: three times it (RFC 8106 5.1).
    #[must_use]
    pub const fn of(most: MaxInterval) -> Self {
        Self(most.0 * 3)
    }
}

impl VrrpInterval {
    /// In centiseconds, 1 to 4095.
    #[must_use]
    pub fn centiseconds(self) -> u16 {
        u16::try_from(self.0 / 10).unwrap_or(4095)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::de::DeTable;

    fn read<T: Read>(value: &str) -> Result<T, String> {
        let text = format!("x = {value}");
        let table = DeTable::parse(&text).unwrap();
        let value = table.get_ref().get("x").unwrap();
        T::read(value.get_ref())
    }

    #[test]
    fn none_and_for_ever_are_said_where_they_are_allowed() {
        assert_eq!(read::<RouterLifetime>("\"0s\"").map(RouterLifetime::seconds), Ok(0));
        assert_eq!(read::<Lifetime>("\"infinite\"").map(Lifetime::seconds), Ok(u32::MAX));
        assert_eq!(read::<LeaseLifetime>("\"0s\"").unwrap_err(), "zero");
        assert!(read::<LeaseLifetime>("\"infinite\"").is_err());
        assert!(read::<RouterLifetime>("\"infinite\"").is_err());
    }

    #[test]
    fn lengths_print_what_they_read() {
        for text in ["0s", "1s", "30m", "18h12m15s"] {
            assert_eq!(read::<RouterLifetime>(&format!("\"{text}\"")).unwrap().to_string(), text);
        }
        for text in ["infinite", "0s", "30d", "365d"] {
            assert_eq!(read::<Lifetime>(&format!("\"{text}\"")).unwrap().to_string(), text);
        }
    }

    #[test]
    fn rfc8319_4_lifetimes_and_intervals_reach_65535_seconds() {
        assert!(read::<RouterLifetime>("\"65535s\"").is_ok());
        assert_eq!(read::<RouterLifetime>("\"65536s\"").unwrap_err(), "out of range 0s to 18h12m15s");
        assert!(read::<MaxInterval>("\"4s\"").is_ok());
        assert!(read::<MaxInterval>("\"65535s\"").is_ok());
        assert_eq!(read::<MaxInterval>("\"3s\"").unwrap_err(), "out of range 4s to 18h12m15s");
        assert_eq!(read::<MaxInterval>("\"4s500ms\"").unwrap_err(), "not whole seconds");
    }

    #[test]
    fn rfc4861_6_2_1_the_shortest_interval_follows_from_the_longest() {
        for (most, default, limit) in [(4, 3, 3), (8, 6, 6), (9, 3, 6), (10, 3, 7), (600, 198, 450)] {
            let most = MaxInterval::literal_ms(most * 1000);
            assert_eq!(MinInterval::of(most).seconds(), default, "{most}");
            assert_eq!(MinInterval::most(most).seconds(), limit, "{most}");
            assert!(MinInterval::of(most) <= MinInterval::most(most), "{most}");
        }
    }

    #[test]
    fn rfc9568_5_2_7_intervals_are_centiseconds_of_twelve_bits() {
        for (text, cs) in [("10ms", 1), ("1s", 100), ("40s950ms", 4095)] {
            assert_eq!(read::<VrrpInterval>(&format!("\"{text}\"")).map(VrrpInterval::centiseconds), Ok(cs));
        }
        for bad in ["5ms", "15ms", "40s960ms", "0s", "41s"] {
            assert!(read::<VrrpInterval>(&format!("\"{bad}\"")).is_err(), "{bad}");
        }
    }
}
