//! What workers and control know of the group: atomics only, one writer for each.

use crate::group::Phase;
use causeway_core::{Duration, Instant};
use crossbeam::utils::CachePadded;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};

/// Between worker 0, which runs the election, the other workers, which ask it for the view that is in force,
/// and control, which says what tracking found and shows the state.
#[derive(Debug)]
pub struct Shared {
    view: CachePadded<View>,
    /// What tracking found: the penalty, and 256 for a fault.
    tracking: CachePadded<AtomicUsize>,
    told: CachePadded<Told>,
}

/// Read by all workers at each poll.
#[derive(Debug)]
struct View {
    active: AtomicBool,
    /// Microseconds.
    beat: AtomicU64,
    /// For how long a beat counts, in microseconds.
    lasts: AtomicU64,
}

/// For people. Written by worker 0 alone.
#[derive(Debug)]
struct Told {
    phase: AtomicU8,
    priority: AtomicU8,
    since: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    became_active: AtomicU64,
    became_backup: AtomicU64,
    /// Odd while the address below is being written.
    version: AtomicU64,
    /// 0 none, 4 or 6.
    family: AtomicU8,
    high: AtomicU64,
    low: AtomicU64,
}

/// What there is to show of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its state.
    pub phase: Phase,
    /// Since when.
    pub since: Instant,
    /// The priority in use, 1 to 255: that of the configuration less what tracking takes off.
    pub priority: u8,
    /// Who last said that it was active, other than we: its address on the network where it was heard last.
    pub last_active: Option<IpAddr>,
    /// Advertisements sent by all virtual routers.
    pub adverts_sent: u64,
    /// Advertisements received by all virtual routers and believed.
    pub adverts_received: u64,
    /// How often the group became active.
    pub became_active: u64,
    /// How often it stopped being active.
    pub became_backup: u64,
    /// What tracking takes off the priority.
    pub penalty: u8,
    /// True if tracking found that there can be no virtual router at all (a link is down, or a worker of a pair's
    /// gateway does not poll).
    pub fault: bool,
}

const FAULT: usize = 256;

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// Not active; nothing tracked, nothing heard.
    #[must_use]
    pub fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            view: CachePadded::new(View { active: AtomicBool::new(false), beat: zero(), lasts: zero() }),
            tracking: CachePadded::new(AtomicUsize::new(0)),
            told: CachePadded::new(Told {
                phase: AtomicU8::new(0),
                priority: AtomicU8::new(0),
                since: zero(),
                sent: zero(),
                received: zero(),
                became_active: zero(),
                became_backup: zero(),
                version: zero(),
                family: AtomicU8::new(0),
                high: zero(),
                low: zero(),
            }),
        }
    }

    /// True if the active view is in force: worker 0 said so, and has shown itself since. When it has not for
    /// three advertisement intervals, another gateway has taken over, or is about to.
    #[inline]
    #[must_use]
    pub fn is_active(&self, now: Instant) -> bool {
        let v = &self.view;
        v.active.load(Ordering::Acquire)
            && now.as_micros().saturating_sub(v.beat.load(Ordering::Relaxed))
                <= v.lasts.load(Ordering::Relaxed)
    }

    /// Says whether the active view is in force. The worker that runs the [`Stage`](crate::Stage) says true
    /// once everything is announced; the stage says false by itself.
    pub fn publish_active(&self, active: bool) {
        self.view.active.store(active, Ordering::Release);
    }

    /// Worker 0 is alive. It says so at each poll; what is written, and seen by the others' caches, is only a
    /// part of that.
    #[inline]
    pub fn beat(&self, now: Instant) {
        let v = &self.view;
        let (now, last) = (now.as_micros(), v.beat.load(Ordering::Relaxed));
        if now.saturating_sub(last) > v.lasts.load(Ordering::Relaxed) / 32 {
            v.beat.store(now, Ordering::Relaxed);
        }
    }

    /// For how long a beat counts.
    pub(crate) fn set_lasts(&self, lasts: Duration) {
        let us = u64::try_from(lasts.as_micros()).unwrap_or(u64::MAX);
        self.view.lasts.store(us, Ordering::Relaxed);
    }

    /// What tracking found: how much to take off the priority, and whether there can be no virtual router at
    /// all, because a link of one is down.
    pub fn set_tracking(&self, penalty: u8, fault: bool) {
        self.tracking.store(usize::from(penalty) | if fault { FAULT } else { 0 }, Ordering::Relaxed);
    }

    /// As [`set_tracking`](Self::set_tracking) has it, in one word.
    #[inline]
    pub(crate) fn tracking(&self) -> Tracking {
        Tracking(self.tracking.load(Ordering::Relaxed))
    }

    pub(crate) fn tell_phase(&self, phase: Phase, now: Instant) {
        let t = &self.told;
        let told = match phase {
            Phase::Initialize => 0,
            Phase::Backup => 1,
            Phase::Active => 2,
        };
        let was = t.phase.swap(told, Ordering::Relaxed);
        if was != told {
            t.since.store(now.as_micros(), Ordering::Relaxed);
            bump(&t.became_active, u64::from(told == 2));
            bump(&t.became_backup, u64::from(was == 2));
        }
    }

    pub(crate) fn tell_priority(&self, priority: u8) {
        self.told.priority.store(priority, Ordering::Relaxed);
    }

    pub(crate) fn tell_sent(&self) {
        bump(&self.told.sent, 1);
    }

    pub(crate) fn tell_heard(&self, from: IpAddr) {
        let t = &self.told;
        bump(&t.received, 1);
        let (family, bits) = match from {
            IpAddr::V4(a) => (4, u128::from(a.to_bits())),
            IpAddr::V6(a) => (6, a.to_bits()),
        };
        let version = t.version.load(Ordering::Relaxed);
        t.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        t.family.store(family, Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are kept")]
        {
            t.high.store((bits >> 64) as u64, Ordering::Relaxed);
            t.low.store(bits as u64, Ordering::Relaxed);
        }
        t.version.store(version.wrapping_add(2), Ordering::Release);
    }

    fn last_active(&self) -> Option<IpAddr> {
        let t = &self.told;
        // The writer writes a few words at most once in some milliseconds.
        for _ in 0..1000 {
            let version = t.version.load(Ordering::Acquire);
            let family = t.family.load(Ordering::Relaxed);
            let high = t.high.load(Ordering::Relaxed);
            let low = t.low.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if version % 2 == 1 || t.version.load(Ordering::Relaxed) != version {
                std::hint::spin_loop();
                continue;
            }
            let bits = u128::from(high) << 64 | u128::from(low);
            return match family {
                4 => u32::try_from(bits).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
                6 => Some(Ipv6Addr::from_bits(bits).into()),
                _ => None,
            };
        }
        None
    }

    /// What there is to show.
    #[must_use]
    pub fn status(&self) -> Status {
        let t = &self.told;
        let of = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let tracking = self.tracking();
        Status {
            phase: match t.phase.load(Ordering::Relaxed) {
                0 => Phase::Initialize,
                1 => Phase::Backup,
                _ => Phase::Active,
            },
            since: Instant::from_micros(of(&t.since)),
            priority: t.priority.load(Ordering::Relaxed),
            last_active: self.last_active(),
            adverts_sent: of(&t.sent),
            adverts_received: of(&t.received),
            became_active: of(&t.became_active),
            became_backup: of(&t.became_backup),
            penalty: tracking.penalty(),
            fault: tracking.fault(),
        }
    }
}

/// What tracking found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tracking(usize);

impl Tracking {
    pub(crate) const fn penalty(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    pub(crate) const fn fault(self) -> bool {
        self.0 & FAULT != 0
    }
}

/// There is one writer, so a load and a store lose nothing.
fn bump(at: &AtomicU64, n: u64) {
    at.store(at.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn nobody_is_active_before_worker_0_says_so_or_long_after_it_showed_itself() {
        let s = Shared::new();
        s.set_lasts(Duration::from_millis(300));
        s.beat(at(5000));
        assert!(!s.is_active(at(5000)));
        s.publish_active(true);
        assert!(s.is_active(at(5000)) && s.is_active(at(5290)));
        assert!(!s.is_active(at(5301)), "worker 0 stands still; another gateway has taken over");
        s.beat(at(5400));
        assert!(s.is_active(at(5400)));
        s.publish_active(false);
        assert!(!s.is_active(at(5400)));
    }

    #[test]
    fn a_beat_is_never_older_than_a_small_part_of_what_it_lasts() {
        let s = Shared::new();
        s.set_lasts(Duration::from_millis(300));
        s.publish_active(true);
        for us in (1_000_000..2_000_000).step_by(7) {
            s.beat(Instant::from_micros(us));
            assert!(s.is_active(Instant::from_micros(us + 290_000)));
        }
    }

    #[test]
    fn tracking_and_status_come_back_as_they_were_told() {
        let s = Shared::new();
        assert_eq!(s.status().last_active, None);
        for (penalty, fault) in [(0, true), (255, false), (255, true), (7, false), (0, false)] {
            s.set_tracking(penalty, fault);
            assert_eq!((s.status().penalty, s.status().fault), (penalty, fault));
        }
        for from in ["fe80::9", "192.0.2.4", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.1"] {
            s.tell_heard(from.parse().unwrap());
            assert_eq!(s.status().last_active, Some(from.parse().unwrap()));
        }
        s.tell_phase(Phase::Backup, at(10));
        s.tell_phase(Phase::Active, at(20));
        s.tell_phase(Phase::Active, at(30));
        let status = s.status();
        assert_eq!((status.phase, status.since), (Phase::Active, at(20)));
        s.tell_phase(Phase::Initialize, at(40));
        let status = s.status();
        assert_eq!((status.became_active, status.became_backup, status.adverts_received), (1, 1, 4));
    }

    #[test]
    fn a_reader_never_sees_parts_of_two_addresses() {
        let s = std::sync::Arc::new(Shared::new());
        let all: [IpAddr; 2] = ["::".parse().unwrap(), Ipv6Addr::from_bits(u128::MAX).into()];
        s.tell_heard(all[0]);
        let writer = std::sync::Arc::clone(&s);
        let thread = std::thread::spawn(move || {
            (0..200_000).for_each(|n| writer.tell_heard(all[n % 2]));
        });
        while !thread.is_finished() {
            if let Some(a) = s.last_active() {
                assert!(all.contains(&a), "{a}");
            }
        }
        thread.join().unwrap();
    }
}
