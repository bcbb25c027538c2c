//! Permissions of address-dependent filtering (RFC 4787 5, RFC 6146 3.5): which remote addresses may use
//! a mapping, from whatever port of theirs.
//!
//! ```text
//!  (pool address, port, remote address, protocol | MARK) -> how many sessions there are
//! ```
//! The rule asks for any session of a mapping with a remote address, and the session index is keyed by the
//! remote port too. So the first such session makes an entry of its own in the same index, without the
//! remote port; each further one is counted in it, each that ends is taken off, and the last one ends it.
//! Nothing is looked at per packet or by time. The entry holds a reference to the mapping, so that the
//! mapping's port cannot become another host's as long as somebody is permitted to use it.
//!
//! Cost: one session slot and one index word for each mapping and remote address, and only with this kind
//! of filtering. No packet finds an entry: protocol numbers with [`MARK`] never reach the lookup.

use causeway_core::DropReason;
use causeway_flowtable::{
    CreateError, Created, Guard, Kind, Lookup, Mapping, NewKey, NewSession, OutsideKey, ReadGuard, Reserved,
    Session, Sweeper, Tick,
};

/// What the protocol number of a permission has and that of a flow has not.
const MARK: u8 = 0x80;

/// Flag of a session: it is counted in the permission of its mapping and remote address.
pub(crate) const COUNTED: u8 = 1;

/// How often a permission that ends at this very moment is looked for again.
const TRIES: usize = 3;

const fn key(out4: u32, out_port: u16, remote4: u32, protocol: u8) -> OutsideKey {
    OutsideKey { out4, remote4, out_port, remote_port: 0, protocol: protocol | MARK }
}

/// True if this entry of the session table is a permission, and no session.
#[inline]
#[must_use]
pub fn is_permission(session: &Session<'_>) -> bool {
    session.kind() == Kind::Nat64 && session.protocol() & MARK != 0
}

/// How many sessions a permission counts. It stands where sessions have their time.
const fn count(ctl: causeway_flowtable::Ctl) -> u32 {
    ctl.last_seen().0
}

/// True if a permission has no session any more.
pub(crate) fn is_over(ctl: causeway_flowtable::Ctl) -> bool {
    count(ctl) == 0
}

/// True if `remote4` may use the mapping of this pool address and port.
pub(crate) fn allows(guard: &ReadGuard<'_>, out4: u32, out_port: u16, remote4: u32, protocol: u8) -> bool {
    guard.lookup(&key(out4, out_port, remote4, protocol)).hit().is_some_and(|p| !is_over(p.ctl()))
}

/// Counts one session more. True if that made the permission.
///
/// # Errors
/// There is no room, or another worker is just making it.
pub(crate) fn take(
    guard: &Guard<'_>,
    mapping: &Mapping<'_>,
    remote4: u32,
    generation: u16,
) -> Result<bool, DropReason> {
    let key = key(mapping.out4(), mapping.out_port(), remote4, mapping.protocol());
    let new = NewSession {
        key: NewKey::Outside(key),
        kind: Kind::Nat64,
        owner: guard.worker(),
        subscriber: mapping.subscriber(),
        plan_generation: generation,
        state: 0,
        flags: 0,
        // The first session.
        tick: Tick(1),
        aux: 0,
    };
    for _ in 0..TRIES {
        match guard.lookup(&key) {
            Lookup::Hit(p) if add(&p) => return Ok(false),
            // It has just ended: its word goes away.
            Lookup::Hit(_) | Lookup::Miss => {}
            Lookup::Building => return Err(DropReason::Nat64Building),
        }
        let created = guard.create_session(&new, || {
            let held = mapping.acquire().ok_or(DropReason::Nat64NoBib)?;
            Ok::<_, DropReason>(Reserved { mapping: Some(held), ..Reserved::nothing() })
        });
        match created {
            Ok(Created::Fresh(_)) => return Ok(true),
            Ok(Created::Existing(p)) if add(&p) => return Ok(false),
            Ok(Created::Existing(_)) => {}
            Err(CreateError::SessionsFull | CreateError::IndexFull) => {
                return Err(DropReason::Nat64TableFull);
            }
            Err(CreateError::Reserve(reason)) => return Err(reason),
            Err(CreateError::Building | CreateError::Conflict) => return Err(DropReason::Nat64Building),
        }
    }
    Err(DropReason::Nat64Building)
}

fn add(permission: &Session<'_>) -> bool {
    permission.transition(|c| Some(c.with_last_seen(c.last_seen().plus(1)))).is_some()
}

/// Takes one session off; the last one ends the permission.
pub(crate) fn give_back(
    guard: &Guard<'_>,
    (out4, out_port): (u32, u16),
    remote4: u32,
    protocol: u8,
    sweeper: &mut impl Sweeper,
) {
    let Some(p) = guard.lookup(&key(out4, out_port, remote4, protocol)).hit() else { return };
    let now = p.transition(|c| (!is_over(c)).then(|| c.with_last_seen(Tick(count(c) - 1))));
    if let Some(ctl) = now
        && is_over(ctl)
    {
        // Where this fails somebody has just counted one more, or there is no room to end anything now:
        // then the sweep will end it.
        guard.end_judged(&p, ctl, sweeper);
    }
}

/// A session has ended: it no longer counts. For whoever ends sessions of NAT64 without [`Expiry`].
///
/// [`Expiry`]: super::session::Expiry
pub fn forget(guard: &Guard<'_>, session: &Session<'_>, sweeper: &mut impl Sweeper) {
    if session.kind() == Kind::Nat64 && !is_permission(session) && session.ctl().flags() & COUNTED != 0 {
        let out = (session.out4(), session.out_port());
        give_back(guard, out, session.remote4(), session.protocol(), sweeper);
    }
}

/// Counts a session that began under a configuration without this kind of filtering. Nothing if there is no
/// room for that now. True if that made the permission.
pub(crate) fn adopt(guard: &Guard<'_>, session: &Session<'_>, sweeper: &mut impl Sweeper) -> bool {
    let Some(mapping) = session.mapping() else { return false };
    let Ok(made) = take(guard, &mapping, session.remote4(), session.plan_generation()) else { return false };
    let mut mine = false;
    let live = session.transition(|c| {
        mine = c.flags() & COUNTED == 0;
        mine.then(|| c.with_flags(c.flags() | COUNTED))
    });
    if live.is_none() || !mine {
        let out = (session.out4(), session.out_port());
        give_back(guard, out, session.remote4(), session.protocol(), sweeper);
    }
    made
}
