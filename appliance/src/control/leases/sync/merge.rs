//! What a lease is after both gateways changed it without knowing of each other.
//!
//! Both apply the same rule to the same two leases and come to the same one, whatever the order. Where there were
//! several steps in between they may not; then the even gateway's word is the last. A promise outlives
//! what contradicts it: an address that one of them still counts as in use is not free.

use causeway_dhcpv6::{Lease, State};

/// Whose lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Winner {
    Ours,
    Theirs,
}

/// What a merge came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Merged {
    pub(in super::super) winner: Winner,
    /// Two clients had it for overlapping times.
    pub(in super::super) conflict: bool,
}

/// Chooses between two versions of the lease of one address or prefix.
pub(in super::super) fn merge(ours: &Lease, theirs: &Lease) -> Merged {
    let both_given = ours.state == State::Active && theirs.state == State::Active;
    let others = ours.identity != theirs.identity;
    let overlap = ours.since < theirs.valid_until && theirs.since < ours.valid_until;
    let conflict = both_given && others && overlap;
    let order = if conflict {
        // Who had it first keeps it; the other hears so when it renews.
        theirs.since.cmp(&ours.since).then_with(|| theirs.identity.cmp(&ours.identity))
    } else {
        ours.valid_until.cmp(&theirs.valid_until)
    };
    let order = order
        .then_with(|| in_use(ours).cmp(&in_use(theirs)))
        .then_with(|| ours.preferred_until.cmp(&theirs.preferred_until))
        .then_with(|| key(ours).cmp(&key(theirs)));
    Merged { winner: if order.is_ge() { Winner::Ours } else { Winner::Theirs }, conflict }
}

fn in_use(lease: &Lease) -> u8 {
    match lease.state {
        State::Free => 0,
        State::Active => 1,
        State::Declined => 2,
    }
}

/// What is left to compare, so that no two leases are equal that are not the same.
fn key(lease: &Lease) -> impl Ord + '_ {
    (lease.since, &lease.identity, &lease.duid, lease.iaid, lease.mac.map(|m| m.0), lease.length, &lease.link)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::lease;
    use super::*;
    use proptest::prelude::*;

    fn any_lease() -> impl Strategy<Value = Lease> {
        (0u8..3, 0u8..3, 0u64..6, 0u64..6, 0u32..2).prop_map(|(client, state, since, longer, iaid)| {
            let mut l = lease(7, client, since + longer);
            l.since = since;
            l.iaid = iaid;
            l.state = [State::Active, State::Free, State::Declined][usize::from(state)];
            l
        })
    }

    proptest! {
        #[test]
        fn both_gateways_choose_the_same(a in any_lease(), b in any_lease()) {
            let (here, there) = (merge(&a, &b), merge(&b, &a));
            prop_assert_eq!(here.conflict, there.conflict);
            let chosen_here = if here.winner == Winner::Ours { &a } else { &b };
            let chosen_there = if there.winner == Winner::Ours { &b } else { &a };
            prop_assert_eq!(chosen_here, chosen_there);
        }

        #[test]
        fn no_promise_is_cut_short_but_for_another_client(a in any_lease(), b in any_lease()) {
            let merged = merge(&a, &b);
            let chosen = if merged.winner == Winner::Ours { &a } else { &b };
            if !merged.conflict {
                prop_assert!(chosen.valid_until >= a.valid_until.max(b.valid_until));
            }
        }
    }

    #[test]
    fn who_had_an_address_first_keeps_it() {
        let (mut first, mut second) = (lease(7, 1, 100), lease(7, 2, 900));
        (first.since, second.since) = (10, 20);
        assert_eq!(merge(&first, &second), Merged { winner: Winner::Ours, conflict: true });
        assert_eq!(merge(&second, &first), Merged { winner: Winner::Theirs, conflict: true });
        // Not at the same time: no conflict, and the later one has it.
        second.since = 100;
        assert_eq!(merge(&first, &second), Merged { winner: Winner::Theirs, conflict: false });
    }
}
