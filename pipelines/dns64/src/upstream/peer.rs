//! What is known of an upstream resolver: how fast it answers (RFC 6298), and whether it answers at all.
//!
//! ```text
//!        timed out, a probe is sent            the probe is not answered
//!   Up ----------------------------> Suspect ---------------------------+
//!   ^                                   |                               v
//!   |                answered           |       due: a probe is sent   Down
//!   +-----------------------------------+------------ Probed <--------- (waits)
//!   +<-------------------- answered -------------------+  |               ^
//!   +<-------------------- answered ----------------------|---------------+ not answered: waits twice as long
//! ```
//! A client can ask for names whose servers never answer, so a question that times out proves nothing. What counts
//! is a probe: a question that every resolver answers at once. While an upstream is down nothing but probes is sent
//! to it, one at a time.

use causeway_core::{Duration, Instant};
use std::net::SocketAddr;

/// The wait for an answer of an upstream that was never asked.
const RTO_FIRST: Duration = Duration::from_millis(800);
/// The shortest wait: what is not in the upstream's cache takes it a while, however near it is.
const RTO_LEAST: Duration = Duration::from_millis(400);
/// The longest wait.
const RTO_MOST: Duration = Duration::from_secs(3);
/// The wait between probes, at first and at most.
const PROBE_LEAST: Duration = Duration::from_millis(500);
const PROBE_MOST: Duration = Duration::from_secs(16);
/// How long it is remembered what an upstream cannot do.
const MEMORY: Duration = Duration::from_secs(3600);

/// Whether an upstream answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It answers, as far as is known.
    Up,
    /// A question timed out, and a probe is under way.
    Suspect {
        /// When the probe has to be answered.
        until: Instant,
    },
    /// It does not answer; the next probe is not due yet.
    Down {
        /// Since when.
        since: Instant,
        /// When it is due.
        at: Instant,
        /// The wait that was chosen for that.
        wait: Duration,
    },
    /// It does not answer; a probe is under way.
    Probed {
        /// Since when it does not.
        since: Instant,
        /// When the probe has to be answered.
        until: Instant,
        /// The wait before the probe.
        wait: Duration,
    },
}

/// What happens to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It answered, anything to anything that it was asked.
    Answered,
    /// A question was not answered in time.
    TimedOut,
    /// The probe under way cannot be answered: an ICMP error says so.
    ProbeLost,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Do {
    /// Send a probe.
    Probe,
    /// Forget the probe under way; the upstream is down from now on.
    WentDown,
    /// Forget the probe under way.
    EndProbe,
}

impl Health {
    /// The next state, and what to do. `rto` is how long an answer may take.
    pub(super) fn on(self, event: Event, now: Instant, rto: Duration) -> (Self, Option<Do>) {
        match (self, event) {
            (Self::Up, Event::TimedOut) => (Self::Suspect { until: now + rto }, Some(Do::Probe)),
            (Self::Up, _) => (self, None),
            (Self::Suspect { .. } | Self::Probed { .. }, Event::Answered) => (Self::Up, Some(Do::EndProbe)),
            (Self::Down { .. }, Event::Answered) => (Self::Up, None),
            (Self::Suspect { until }, Event::Tick) if now < until => (self, None),
            (Self::Suspect { .. }, Event::Tick | Event::ProbeLost) => {
                (Self::Down { since: now, at: now + PROBE_LEAST, wait: PROBE_LEAST }, Some(Do::WentDown))
            }
            (Self::Down { since, at, wait }, Event::Tick) if now >= at => {
                (Self::Probed { since, until: now + rto, wait }, Some(Do::Probe))
            }
            (Self::Probed { until, .. }, Event::Tick) if now < until => (self, None),
            (Self::Probed { since, wait, .. }, Event::Tick | Event::ProbeLost) => {
                let wait = (wait * 2).min(PROBE_MOST);
                (Self::Down { since, at: now + wait, wait }, Some(Do::EndProbe))
            }
            (Self::Suspect { .. } | Self::Down { .. } | Self::Probed { .. }, _) => (self, None),
        }
    }

    /// When time alone changes it.
    pub(super) const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Up => None,
            Self::Suspect { until } | Self::Probed { until, .. } => Some(until),
            Self::Down { at, .. } => Some(at),
        }
    }

    /// Since when it is not asked, if it is not.
    pub(super) const fn down_since(self) -> Option<Instant> {
        match self {
            Self::Up | Self::Suspect { .. } => None,
            Self::Down { since, .. } | Self::Probed { since, .. } => Some(since),
        }
    }
}

/// The times of answers, smoothed (RFC 6298 2), in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rtt {
    /// The mean and its variation, once there was an answer.
    smoothed: Option<(u32, u32)>,
    /// Questions in a row that timed out.
    lost: u8,
}

impl Rtt {
    /// An answer came after this time.
    pub(super) fn sample(&mut self, took: Duration) {
        let r = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).min(60_000_000);
        self.smoothed = Some(match self.smoothed {
            // RFC 6298 2.2, 2.3.
            None => (r, r / 2),
            Some((mean, variation)) => {
                let variation = variation - variation / 4 + mean.abs_diff(r) / 4;
                (mean - mean / 8 + r / 8, variation)
            }
        });
        self.lost = 0;
    }

    /// A question was not answered in time.
    pub(super) const fn lost(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    /// An answer came, of whatever time.
    pub(super) const fn found(&mut self) {
        self.lost = 0;
    }

    /// The mean, in microseconds; 0 before the first answer.
    pub(super) fn mean_us(self) -> u32 {
        self.smoothed.map_or(0, |(mean, _)| mean.max(1))
    }

    /// How long to wait for an answer (RFC 6298 2.3, 2.4, 5.5).
    pub(super) fn rto(self) -> Duration {
        let rto = self.smoothed.map_or(RTO_FIRST, |(mean, variation)| {
            Duration::from_micros(u64::from(mean) + 4 * u64::from(variation))
        });
        (rto.max(RTO_LEAST) * (1 << self.lost.min(3))).min(RTO_MOST)
    }
}

/// An upstream resolver, as one worker knows it.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Its address.
    pub(super) address: SocketAddr,
    /// Its times.
    pub(super) rtt: Rtt,
    /// Whether it answers.
    pub(super) health: Health,
    /// The port that a probe was sent from, and the probe's ID, while one is under way.
    pub(super) probe: Option<(u16, u16)>,
    /// Until when its names are sent as they are, because it loses their case.
    no_case: Option<Instant>,
    /// Until when it is asked without EDNS, because it does not know it.
    no_edns: Option<Instant>,
}

impl Peer {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, rtt: Rtt::default(), health: Health::Up, probe: None, no_case: None, no_edns: None }
    }

    /// True if it is known to lose the case of names.
    pub(super) fn loses_case(&self, now: Instant) -> bool {
        self.no_case.is_some_and(|until| now < until)
    }

    /// True if it is known not to know EDNS.
    pub(super) fn lacks_edns(&self, now: Instant) -> bool {
        self.no_edns.is_some_and(|until| now < until)
    }

    /// It lost the case of a name.
    pub(super) fn lost_case(&mut self, now: Instant) {
        self.no_case = Some(now + MEMORY);
    }

    /// It answered only without EDNS.
    pub(super) fn lacked_edns(&mut self, now: Instant) {
        self.no_edns = Some(now + MEMORY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RTO: Duration = Duration::from_millis(400);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    /// All states x all events, before and after the state's deadline, which is always at 1000 ms.
    #[test]
    fn every_state_meets_every_event() {
        let wait = PROBE_LEAST;
        let up = Health::Up;
        let suspect = Health::Suspect { until: at(1000) };
        let down = Health::Down { since: at(1), at: at(1000), wait };
        let probed = Health::Probed { since: at(1), until: at(1000), wait };
        let down_from = |since: u64, now: u64, wait: Duration| Health::Down {
            since: at(since),
            at: at(now) + wait,
            wait,
        };
        let rows = [
            (up, Event::Answered, 0, up, None),
            (up, Event::TimedOut, 0, Health::Suspect { until: at(0) + RTO }, Some(Do::Probe)),
            (up, Event::ProbeLost, 0, up, None),
            (up, Event::Tick, 0, up, None),
            (suspect, Event::Answered, 5, up, Some(Do::EndProbe)),
            (suspect, Event::TimedOut, 5, suspect, None),
            (suspect, Event::ProbeLost, 5, down_from(5, 5, wait), Some(Do::WentDown)),
            (suspect, Event::Tick, 999, suspect, None),
            (suspect, Event::Tick, 1000, down_from(1000, 1000, wait), Some(Do::WentDown)),
            (down, Event::Answered, 5, up, None),
            (down, Event::TimedOut, 5, down, None),
            (down, Event::ProbeLost, 5, down, None),
            (down, Event::Tick, 999, down, None),
            (
                down,
                Event::Tick,
                1000,
                Health::Probed { since: at(1), until: at(1000) + RTO, wait },
                Some(Do::Probe),
            ),
            (probed, Event::Answered, 5, up, Some(Do::EndProbe)),
            (probed, Event::TimedOut, 5, probed, None),
            (probed, Event::ProbeLost, 5, down_from(1, 5, wait * 2), Some(Do::EndProbe)),
            (probed, Event::Tick, 999, probed, None),
            (probed, Event::Tick, 1000, down_from(1, 1000, wait * 2), Some(Do::EndProbe)),
        ];
        for (state, event, now, next, act) in rows {
            assert_eq!(state.on(event, at(now), RTO), (next, act), "{state:?} {event:?} at {now} ms");
        }
    }

    #[test]
    fn probes_of_a_dead_upstream_become_rare_and_never_stop() {
        let (mut health, mut now, mut probes) = (Health::Up, at(0), Vec::new());
        (health, _) = health.on(Event::TimedOut, now, RTO);
        while now < at(120_000) {
            now = health.deadline().expect("a dead upstream always has one");
            let act;
            (health, act) = health.on(Event::Tick, now, RTO);
            if act == Some(Do::Probe) {
                probes.push(now.as_millis());
            }
        }
        assert_eq!(&probes[..6], &[900, 2300, 4700, 9100, 17_500, 33_900]);
        assert!(probes.windows(2).all(|w| w[1] - w[0] <= 16_400));
    }

    #[test]
    fn rfc6298_2_the_wait_follows_the_answers() {
        let mut rtt = Rtt::default();
        assert_eq!((rtt.mean_us(), rtt.rto()), (0, RTO_FIRST));
        rtt.sample(Duration::from_millis(200));
        assert_eq!((rtt.mean_us(), rtt.rto()), (200_000, Duration::from_millis(600)));
        for _ in 0..100 {
            rtt.sample(Duration::from_millis(2));
        }
        assert!(rtt.mean_us() < 2_100 && rtt.rto() == RTO_LEAST, "{rtt:?}");
        for waits in [800, 1600, 3000, 3000] {
            rtt.lost();
            assert_eq!(rtt.rto(), Duration::from_millis(waits));
        }
        rtt.sample(Duration::from_millis(2));
        assert_eq!(rtt.rto(), RTO_LEAST, "RFC 6298 5.7: an answer ends the backing off");
    }

    #[test]
    fn what_an_upstream_cannot_do_is_forgotten_after_an_hour() {
        let mut peer = Peer::new("192.0.2.1:53".parse().expect("an address"));
        assert!(!peer.loses_case(at(0)) && !peer.lacks_edns(at(0)));
        peer.lost_case(at(0));
        peer.lacked_edns(at(0));
        assert!(peer.loses_case(at(3_599_999)) && peer.lacks_edns(at(3_599_999)));
        assert!(!peer.loses_case(at(3_600_000)) && !peer.lacks_edns(at(3_600_000)));
    }

    proptest! {
        /// One probe at a time: each `Probe` is followed by an end of it before the next one.
        #[test]
        fn random_events_never_have_two_probes_under_way(
            events in prop::collection::vec((0u8..4, 0u64..2000), 0..200)
        ) {
            let (mut health, mut now, mut probing) = (Health::Up, at(0), false);
            for (event, pass) in events {
                now = now + Duration::from_millis(pass);
                let event = [Event::Answered, Event::TimedOut, Event::ProbeLost, Event::Tick][usize::from(event)];
                let act;
                (health, act) = health.on(event, now, RTO);
                match act {
                    Some(Do::Probe) => {
                        prop_assert!(!probing);
                        probing = true;
                    }
                    Some(Do::WentDown | Do::EndProbe) => {
                        prop_assert!(probing);
                        probing = false;
                    }
                    None => {}
                }
                prop_assert_eq!(probing, matches!(health, Health::Suspect { .. } | Health::Probed { .. }));
                prop_assert_eq!(health.deadline().is_none(), health == Health::Up);
            }
        }

        #[test]
        fn the_wait_keeps_its_bounds(samples in prop::collection::vec(prop::option::of(any::<u64>()), 0..50)) {
            let mut rtt = Rtt::default();
            for sample in samples {
                match sample {
                    Some(us) => rtt.sample(Duration::from_micros(us)),
                    None => rtt.lost(),
                }
                prop_assert!((RTO_LEAST..=RTO_MOST).contains(&rtt.rto()));
            }
        }
    }
}
