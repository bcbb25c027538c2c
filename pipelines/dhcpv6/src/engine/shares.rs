//! How many leases each link is sure of when there is room for fewer than all links could give.
//!
//! Clients of one link that invent identities take what the limit of all leases leaves, as far as their pool
//! goes. So that those of other links still get theirs, half of the limit is set aside: each link has an even
//! part of that half, or as much as it could ever give, if that is less; what small links leave goes to the
//! others. The other half is for whoever asks.
//!
//! ```text
//!  limit:   [ link 1: its part | link 2 | link 3 ...| for whoever asks ................. ]
//!             even parts of a half, none larger than what the link could give
//! ```
//! Leases count for their link whether they last or ended: a lease that ended is given to the next client of its
//! link once it has rested, so a link never needs more room than it once had.

/// What is known of one link by its name, configured or not.
#[derive(Debug, Clone, Copy, Default)]
struct Room {
    /// Leases of all states.
    held: u32,
    /// What it is sure of.
    share: u32,
}

impl Room {
    const fn unused(self) -> u32 {
        self.share.saturating_sub(self.held)
    }
}

/// The leases of each link, by number of its name, and how many more each may have.
#[derive(Debug, Default)]
pub(super) struct Shares {
    rooms: Vec<Room>,
    /// Leases of all links.
    held: u32,
    /// What links are sure of and do not have yet.
    unused: u64,
    limit: u32,
}

impl Shares {
    /// Sets the limit, and what the links with these numbers could give at most. Other links are sure of
    /// nothing.
    pub(super) fn configure(&mut self, limit: u32, links: &[(u32, u128)]) {
        self.rooms.iter_mut().for_each(|room| room.share = 0);
        let needs: Vec<u128> = links.iter().map(|(_, needs)| *needs).collect();
        for ((number, _), share) in links.iter().zip(divide(limit / 2, &needs)) {
            self.room(*number).share = share;
        }
        self.limit = limit;
        self.unused = self.rooms.iter().map(|room| u64::from(room.unused())).sum();
    }

    fn room(&mut self, number: u32) -> &mut Room {
        let at = number as usize;
        if self.rooms.len() <= at {
            self.rooms.resize(at + 1, Room::default());
        }
        &mut self.rooms[at]
    }

    /// A link has one lease more, or one less.
    pub(super) fn count(&mut self, number: u32, more: bool) {
        let room = self.room(number);
        let before = room.unused();
        room.held = if more { room.held.saturating_add(1) } else { room.held.saturating_sub(1) };
        let after = room.unused();
        self.held = if more { self.held.saturating_add(1) } else { self.held.saturating_sub(1) };
        self.unused = self.unused.saturating_sub(u64::from(before)).saturating_add(u64::from(after));
    }

    /// True if a link may have one lease more when `others` are given to it besides those it has.
    pub(super) fn may_grow(&self, number: Option<u32>, others: u32) -> bool {
        let room = number.and_then(|n| self.rooms.get(n as usize)).copied().unwrap_or_default();
        let (own, all) = (room.held.saturating_add(others), self.held.saturating_add(others));
        // What the other links are sure of stays free for them.
        let kept = self.unused.saturating_sub(u64::from(room.unused()));
        all < self.limit && (own < room.share || u64::from(all).saturating_add(kept) < u64::from(self.limit))
    }
}

/// Divides `all` among those that need so much: nobody gets more than it needs, and whoever gets less than it
/// needs gets as much as anybody (but for a rest of one).
fn divide(all: u32, needs: &[u128]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|at| needs[*at]);
    let mut out = vec![0; needs.len()];
    let (mut left, mut who) = (all, u32::try_from(needs.len()).unwrap_or(u32::MAX));
    for at in order {
        let share = u32::try_from(needs[at]).unwrap_or(u32::MAX).min(left / who.max(1));
        out[at] = share;
        left -= share;
        who = who.saturating_sub(1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_links_get_what_they_need_and_the_rest_is_even() {
        assert_eq!(divide(100, &[]), [0; 0]);
        assert_eq!(divide(100, &[1000]), [100]);
        assert_eq!(divide(100, &[1 << 64, 10, 50, 1 << 64]), [30, 10, 30, 30]);
        assert_eq!(divide(100, &[20, 30]), [20, 30]);
        assert_eq!(divide(2, &[9, 9, 9]).iter().sum::<u32>(), 2);
    }

    #[test]
    fn one_link_alone_has_all() {
        let mut s = Shares::default();
        s.configure(3, &[(0, 1 << 64)]);
        for _ in 0..3 {
            assert!(s.may_grow(Some(0), 0));
            s.count(0, true);
        }
        assert!(!s.may_grow(Some(0), 0));
        s.count(0, false);
        assert!(s.may_grow(Some(0), 0) && !s.may_grow(Some(0), 1));
    }

    proptest! {
        #[test]
        fn shares_are_as_large_as_can_be_and_even(all in 0u32..1000, needs in proptest::collection::vec(0u128..300, 0..12)) {
            let shares = divide(all, &needs);
            let sum: u32 = shares.iter().sum();
            let most = shares.iter().max().copied().unwrap_or(0);
            prop_assert!(sum <= all);
            let short: Vec<_> = shares.iter().zip(&needs).filter(|(s, n)| u128::from(**s) < **n).collect();
            prop_assert!(short.iter().all(|(s, _)| **s + 1 >= most));
            prop_assert!(short.is_empty() || sum == all, "{shares:?}");
        }

        /// Whatever the others do, a link gets its share, and all together no more than the limit.
        #[test]
        fn no_link_takes_what_another_is_sure_of(
            limit in 1u32..60,
            needs in proptest::collection::vec(0u128..40, 1..6),
            asks in proptest::collection::vec((0usize..6, any::<bool>()), 0..200),
        ) {
            let mut s = Shares::default();
            let links: Vec<(u32, u128)> = (0u32..).zip(needs.iter().copied()).collect();
            s.configure(limit, &links);
            for (at, more) in asks {
                let Some((number, need)) = links.get(at % links.len()) else { continue };
                let held = s.rooms[*number as usize].held;
                let may = s.may_grow(Some(*number), 0);
                prop_assert!(may || held >= s.rooms[*number as usize].share, "refused below its share");
                if more && may && u128::from(held) < *need {
                    s.count(*number, true);
                } else if !more && held > 0 {
                    s.count(*number, false);
                }
                let held: u32 = s.rooms.iter().map(|room| room.held).sum();
                prop_assert_eq!(held, s.held);
                prop_assert!(held <= limit);
                prop_assert_eq!(s.unused, s.rooms.iter().map(|r| u64::from(r.unused())).sum::<u64>());
            }
            // In the end each can fill its share.
            for (number, _) in &links {
                while s.rooms[*number as usize].unused() > 0 {
                    prop_assert!(s.may_grow(Some(*number), 0));
                    s.count(*number, true);
                }
            }
            prop_assert!(s.held <= limit);
        }
    }
}
