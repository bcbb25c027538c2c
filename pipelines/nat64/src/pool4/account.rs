//! Ports under limits and promises (RFC 6888 3, REQ-4 and REQ-5).
//!
//! Of each address and protocol these are kept (with port blocks: of blocks in place of ports):
//!
//! ```text
//!  in use     taken or resting, by anybody: what the bitmap says
//!  owed       the sum over subscribers at home here of what they were promised and have not taken
//!  promised   the sum of all promises to subscribers without a name
//!  reserve    what is kept for promises in all: the share of `capacity` subscribers that falls to one
//!             address, times `ports_min`, and at most half of the address
//!
//!  within one's promise:  always                                           in use + 1, owed - 1
//!  beyond it:             in use + owed + max(0, reserve - promised) < all        in use + 1
//!  a newcomer's promise:  in use + owed + min <= all                              owed + min
//!  a port comes back:     rests if the second rule still holds, else is free at once
//! ```
//! So `in use + owed` never exceeds what there is, and beyond promises nobody gets what promises need.
//! While promises are less than the reserve, a newcomer finds room for its own whatever others have
//! opened. A subscriber that opens everything it can costs others nothing of their promises, whether they
//! were seen before or not; what is beyond is first come, first served, and `ports_max` bounds it.
//!
//! A tenant is promised its minimum at once, when the pool is made. Others are when they open their first
//! mapping: at the address that their hash leads to, or at one of the [`TRIES`] behind it that has room.
//! If none has, they are served without a promise. A minimum that the configuration raises is promised at
//! the next mapping.
//!
//! A subscriber with `ports_max` has at most as many ports resting; further ones are free at once, so that
//! opening and closing cannot take more than opening (RFC 6888 3, REQ-8: the number of ports at rest is
//! bounded).
//!
//! Order of accesses: who takes a promised port marks it in use first and then lowers `owed`; who asks for
//! more than its promise raises `owed` by one and then reads what is in use. Of a port on its way from one
//! to the other the second sees too much rather than nothing.

use super::{Address, Known, Mode, Place, Pool4, Set, TRIES, Want, index};
use crate::config::{Limits, LogOptions};
use crate::log::{Log, LogEvent, LogRecord};
use crate::subscriber::book::{BLOCKS, Block, Book, Entry, Key, Pinned, Refusal, State};
use crate::subscriber::{Owner, SHARED};
use causeway_core::{DropReason, Instant};
use causeway_flowtable::Mapping;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// When something happens, and where it is logged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Note<'a> {
    pub(crate) log: Option<&'a Log>,
    pub(crate) options: &'a LogOptions,
    pub(crate) now: Instant,
}

impl Note<'_> {
    /// A block was given or returned.
    pub(super) fn block(&self, event: LogEvent, subscriber: u128, b: &Block) {
        if let Some(log) = self.log {
            let record = LogRecord {
                at: self.now,
                event,
                protocol: 0,
                src6: subscriber,
                src_port: 0,
                out4: b.address,
                out_port: b.first(),
                last_port: b.last(),
                remote4: 0,
                remote_port: 0,
                prefix: 0,
            };
            log.write(self.options, record);
        }
    }
}

/// A subscriber that may open a session: one is counted, and its entry has a reference for a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admitted {
    id: u32,
    owner: Owner,
}

impl Admitted {
    /// What its mappings carry.
    pub(crate) const fn number(&self) -> u32 {
        self.id + 1
    }
}

/// What becomes of a port that a subscriber no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It rests, if a hold-down is configured and there is room for that.
    Rest,
    /// Nobody outside has seen it: free at once.
    Free,
    /// It turned out to be another mapping's, which it stays.
    Keep,
}

impl Pool4 {
    /// Finds the entries of tenants, makes their promises, and sees what has to be kept for others.
    pub(super) fn prepare_accounts(&mut self, before: Option<&Self>) {
        let Some(book) = self.book.clone() else { return };
        if self.by_blocks() {
            book.want_blocks();
        }
        let config = Arc::clone(&self.config);
        let limits = &config.options().subscribers;
        let shared = u32::try_from(self.set(SHARED).count).unwrap_or(u32::MAX).max(1);
        let share = u64::from(limits.capacity.div_ceil(shared)) * u64::from(self.units(&limits.limits));
        let half = self.all(if self.by_blocks() { BLOCKS } else { 0 }) / 2;
        self.reserve = u32::try_from(share).unwrap_or(u32::MAX).min(half);
        for (place, t) in limits.tenants.iter().enumerate() {
            let Some(owner) = config.who().tenant(place) else { continue };
            let old = before.and_then(|b| b.tenants.iter().find(|o| o.name == t.name));
            let entry = old.and_then(|o| o.entry.as_ref()).map(Pinned::again).or_else(|| {
                let key = Key { prefix: owner.prefix, length: owner.length };
                book.begin_tenant(key).map(|id| Pinned::new(Arc::clone(&book), id))
            });
            if let Some(id) = entry.as_ref().map(|e| e.id) {
                if let Some(n) = book.tenant_place(id).and_then(|n| usize::try_from(n).ok()) {
                    if self.by_entry.len() <= n {
                        self.by_entry.resize(n + 1, None);
                    }
                    self.by_entry[n] = u16::try_from(self.tenants.len()).ok();
                }
                if let Some(e) = book.entry(id) {
                    let mut s = e.lock();
                    if t.limits.ports_min > 0 {
                        self.settle_in(&mut s, owner, &t.limits);
                    }
                }
            }
            self.tenants.push(Known { name: t.name.clone(), limits: t.limits, entry });
        }
    }

    /// The configured tenant whose entry this is.
    pub(super) fn tenant_of(&self, id: u32) -> Option<&Known> {
        let place = self.book.as_ref()?.tenant_place(id)?;
        let n = self.by_entry.get(usize::try_from(place).ok()?).copied().flatten()?;
        self.tenants.get(usize::from(n))
    }

    fn limits_of(&self, id: u32) -> &Limits {
        self.tenant_of(id).map_or(&self.config.options().subscribers.limits, |t| &t.limits)
    }

    fn by_blocks(&self) -> bool {
        matches!(self.mode, Mode::Blocks { .. })
    }

    /// The minimum as it is promised: in ports, or in blocks.
    fn units(&self, l: &Limits) -> u32 {
        match self.mode {
            Mode::Blocks { shift, .. } => u32::from(l.ports_min).div_ceil(1 << shift),
            _ => u32::from(l.ports_min),
        }
    }

    /// What was promised, in ports.
    pub(super) fn in_ports(&self, units: u32) -> u32 {
        if let Mode::Blocks { shift, .. } = self.mode { units << shift } else { units }
    }

    /// How many ports of a protocol, or blocks, an address has.
    fn all(&self, kind: usize) -> u32 {
        match self.mode {
            Mode::Blocks { first, last, .. } if kind == BLOCKS => u32::from(last - first) + 1,
            _ => self.ports_of_address(),
        }
    }

    fn in_use(place: &Place, kind: usize) -> u32 {
        match place.shared.ports.get(kind) {
            Some(p) => p.in_use(),
            None => place.spoiled + place.blocks.first().map_or(0, |b| b.given.in_use()),
        }
    }

    /// What an address keeps for subscribers that are not known yet.
    fn kept(&self, place: &Place, set: u8) -> u32 {
        if set == SHARED {
            self.reserve.saturating_sub(place.shared.promised.load(Ordering::Acquire))
        } else {
            0
        }
    }

    /// True if what is in use, owed and kept is no more than there is.
    fn has_room(&self, place: &Place, kind: usize, kept: u32) -> bool {
        // `owed` first: see above.
        let owed = place.shared.owed[kind].load(Ordering::SeqCst);
        let taken = u64::from(Self::in_use(place, kind)) + u64::from(owed) + u64::from(kept);
        taken <= u64::from(self.all(kind))
    }

    /// True if a block that comes back may rest without anybody missing it.
    pub(super) fn room_to_rest(&self, place: &Place, set: u8) -> bool {
        !self.by_blocks() || self.has_room(place, BLOCKS, self.kept(place, set))
    }

    /// Something beyond a promise: `take` is called if there is room for it.
    pub(super) fn beyond<T>(
        &self,
        place: &Place,
        kind: usize,
        set: u8,
        take: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let owed = &place.shared.owed[kind];
        owed.fetch_add(1, Ordering::SeqCst);
        let room = self.has_room(place, kind, self.kept(place, set));
        let taken = if room { take() } else { None };
        owed.fetch_sub(1, Ordering::SeqCst);
        taken
    }

    /// Promises `min` at home, if there is room for it; true if that is promised now.
    fn promise(&self, s: &mut State, place: &Place, min: u32) -> bool {
        let by_blocks = self.by_blocks();
        // What was promised in another unit is promised anew.
        let before = if s.by_blocks == by_blocks { s.min } else { 0 };
        (s.min, s.by_blocks) = (min, by_blocks);
        s.settle();
        let mut kinds = if by_blocks { BLOCKS..BLOCKS + 1 } else { 0..BLOCKS };
        if min <= before || kinds.all(|kind| self.has_room(place, kind, 0)) {
            return true;
        }
        s.min = before;
        s.settle();
        false
    }

    /// The place of a subscriber's home within its set, found anew if it has none there. Promises what
    /// there is to promise.
    pub(super) fn settle_in(&self, s: &mut State, owner: &Owner, l: &Limits) -> usize {
        let set = self.set(owner.set);
        let min = self.units(l);
        if let Some((n, place)) = self.home(s, set) {
            if s.min != min || s.by_blocks != self.by_blocks() {
                self.promise(s, place, min);
            }
            return n;
        }
        let hashed = self.hashed(owner.prefix, set);
        let tries = if owner.tenant.is_some() { set.count } else { set.count.min(TRIES + 1) };
        for n in 0..if min > 0 { tries } else { 0 } {
            let n = (hashed + n) % set.count;
            let Some(place) = self.places.get(set.first + n) else { continue };
            s.move_to(Some(Arc::clone(&place.shared)));
            if self.promise(s, place, min) {
                return n;
            }
        }
        s.move_to(self.places.get(set.first + hashed).map(|p| Arc::clone(&p.shared)));
        hashed
    }

    /// The home, if it is in the set.
    fn home(&self, s: &State, set: Set) -> Option<(usize, &Place)> {
        let home = s.home.as_ref()?;
        let n = self.place(Ipv4Addr::from_bits(home.address))?.checked_sub(set.first)?;
        let place =
            self.places.get(set.first + n).filter(|p| n < set.count && Arc::ptr_eq(&p.shared, home))?;
        Some((n, place))
    }

    /// Whether the subscriber of a host may open a session, which is counted then. Nothing if nobody is
    /// accounted.
    ///
    /// # Errors
    /// It has too many, opens them too fast, or there is no room for another subscriber.
    pub(crate) fn admit(&self, host: Ipv6Addr, now: Instant) -> Result<Option<Admitted>, DropReason> {
        let Some(book) = self.book.as_ref().filter(|_| self.accounting) else { return Ok(None) };
        let owner = self.config.who().owner(host);
        let id = match owner.tenant.and_then(|t| self.tenants.get(t)) {
            Some(t) => t.entry.as_ref().map(|e| {
                book.hold(e.id);
                e.id
            }),
            None => book.acquire(Key { prefix: owner.prefix, length: owner.length }),
        };
        let id = id.ok_or(DropReason::Nat64SubscribersFull)?;
        if let Err(reason) = self.begin_session(id + 1, now, true) {
            book.release(id);
            return Err(reason);
        }
        Ok(Some(Admitted { id, owner }))
    }

    fn entry(&self, number: u32) -> Option<(u32, &Book, &Entry)> {
        let book = self.book.as_deref()?;
        let id = number.checked_sub(1)?;
        Some((id, book, book.entry(id)?))
    }

    /// Counts a session of the subscriber with this number in its mapping; 0 is nobody.
    ///
    /// # Errors
    /// It has too many, or opens them too fast.
    pub(crate) fn begin_session(&self, number: u32, now: Instant, inside: bool) -> Result<(), DropReason> {
        let Some((id, _, entry)) = self.entry(number) else { return Ok(()) };
        entry.begin_session(self.limits_of(id), now, inside)
    }

    /// Takes back a session that was counted but did not come about.
    pub(crate) fn cancel_session(&self, number: u32, inside: bool) {
        if let Some((id, _, entry)) = self.entry(number) {
            entry.cancel_session(self.limits_of(id), inside);
        }
    }

    /// Counts an ended session.
    pub(crate) fn end_session(&self, number: u32) {
        if let Some((_, _, entry)) = self.entry(number) {
            entry.end_session();
        }
    }

    /// True if sessions may have been counted.
    pub(crate) const fn has_accounts(&self) -> bool {
        self.book.is_some()
    }

    /// Gives back the reference that an admission took for a mapping.
    pub(crate) fn dismiss(&self, admitted: &Admitted) {
        if let Some(book) = &self.book {
            book.release(admitted.id);
        }
    }

    /// An address and port for a new mapping of a subscriber, or of a host that nobody is accounted for.
    ///
    /// # Errors
    /// The subscriber may have no more, or nothing is free.
    pub(crate) fn give(
        &self,
        admitted: Option<&Admitted>,
        host: Ipv6Addr,
        port: u16,
        protocol: u8,
        random: u64,
        note: &Note<'_>,
    ) -> Result<(Ipv4Addr, u16), DropReason> {
        let Some((admitted, (id, _, entry))) = admitted.and_then(|a| Some((a, self.entry(a.number())?)))
        else {
            // By calculation a subscriber has its own ports, or none.
            let full = match self.calculated(self.set_of(host)) {
                Some(_) => DropReason::Nat64SubscriberPorts,
                None => DropReason::Nat64PoolFull,
            };
            return self.allocate(host, port, protocol, random).ok_or(full);
        };
        let kind = index(protocol).ok_or(DropReason::Nat64Protocol)?;
        let want = Want { kind, host, port, random };
        let l = self.limits_of(id);
        let mut s = entry.lock();
        if admitted.owner.tenant.is_some() {
            // A tenant keeps its entry by its name, also when its prefixes change.
            s.key = Key { prefix: admitted.owner.prefix, length: admitted.owner.length };
        }
        let given = if l.ports_max.is_some_and(|max| s.live[kind] >= u32::from(max)) {
            Err(DropReason::Nat64SubscriberPorts)
        } else if let Some(d) = self.calculated(admitted.owner.set) {
            self.give_calculated(d, &want).ok_or(DropReason::Nat64SubscriberPorts)
        } else if let Mode::Blocks { .. } = self.mode {
            self.give_of_block(&mut s, &admitted.owner, l, &want, note)
        } else {
            self.give_single(&mut s, &admitted.owner, l, &want).ok_or(DropReason::Nat64PoolFull)
        };
        match given {
            Ok(_) => s.live[kind] += 1,
            Err(_) => entry.refuse(Refusal::Ports),
        }
        given
    }

    fn give_single(&self, s: &mut State, owner: &Owner, l: &Limits, want: &Want) -> Option<(Ipv4Addr, u16)> {
        let home = self.settle_in(s, owner, l);
        let set = self.set(owner.set);
        if s.at_home[want.kind] < s.min
            && let Some(place) = self.places.get(set.first + home)
            && let Some(port) = self.take_any(&place.shared, want)
        {
            s.at_home[want.kind] += 1;
            s.settle();
            return Some((Ipv4Addr::from_bits(place.shared.address), port));
        }
        (0..set.count.min(TRIES + 1)).find_map(|n| {
            let place = self.places.get(set.first + (home + n) % set.count)?;
            let port = self.beyond(place, want.kind, owner.set, || self.take_any(&place.shared, want))?;
            if n == 0 {
                s.at_home[want.kind] += 1;
                s.settle();
            }
            Some((Ipv4Addr::from_bits(place.shared.address), port))
        })
    }

    /// A mapping has ended: its port goes back, and its subscriber's entry loses a reference.
    pub(crate) fn mapping_ended(&self, m: &Mapping<'_>, note: &Note<'_>) {
        let (a, port, protocol) = (Ipv4Addr::from_bits(m.out4()), m.out_port(), m.protocol());
        self.static_is_gone(a, port, protocol);
        match self.entry(m.subscriber()) {
            None => self.release(a, port, protocol),
            Some((id, book, _)) => {
                self.take_back(id, (a, port), protocol, After::Rest, note);
                book.release(id);
            }
        }
    }

    /// A port that was given was not needed after all.
    pub(crate) fn not_needed(
        &self,
        admitted: Option<&Admitted>,
        at: (Ipv4Addr, u16),
        protocol: u8,
        note: &Note<'_>,
    ) {
        match admitted {
            None => self.release_unused(at.0, at.1, protocol),
            Some(a) => self.take_back(a.id, at, protocol, After::Free, note),
        }
    }

    /// A port that was given turned out to be another mapping's: it stays taken, but is not the
    /// subscriber's.
    pub(crate) fn not_ours(
        &self,
        admitted: Option<&Admitted>,
        at: (Ipv4Addr, u16),
        protocol: u8,
        note: &Note<'_>,
    ) {
        if let Some(a) = admitted {
            self.take_back(a.id, at, protocol, After::Keep, note);
        }
    }

    fn take_back(&self, id: u32, (a, port): (Ipv4Addr, u16), protocol: u8, after: After, note: &Note<'_>) {
        let Some((kind, (_, _, entry))) = index(protocol).zip(self.entry(id + 1)) else { return };
        let place = self.place(a).and_then(|n| self.places.get(n));
        let mut s = entry.lock();
        s.live[kind] = s.live[kind].saturating_sub(1);
        if s.home.as_ref().is_some_and(|h| h.address == a.to_bits()) {
            s.at_home[kind] = s.at_home[kind].saturating_sub(1);
        }
        let set = if self.set(SHARED).holds(self.place(a)) { SHARED } else { u8::MAX };
        self.leave_block(&mut s, place, set, (a.to_bits(), port), note);
        s.settle();
        let Some(place) = place else { return };
        if after == After::Keep || self.is_static(a.to_bits(), kind, port) {
            return;
        }
        // RFC 6888 3, REQ-8 b: what is the same subscriber's for ever need not rest. REQ-8 a says that TCP
        // ports need not either; they do.
        let exempt = self.calculated(set).is_some();
        let rest = after == After::Rest
            && self.held
            && !exempt
            && (self.by_blocks() || self.has_room(place, kind, self.kept(place, set)))
            && self.may_rest(&mut s, kind, self.limits_of(id), note.now);
        let ports = &place.shared.ports[kind];
        if rest {
            ports.free_held(port);
        } else {
            ports.free(port);
        }
    }

    /// RFC 6888 3, REQ-8: the number of ports at rest is bounded, to `ports_max` of each subscriber.
    fn may_rest(&self, s: &mut State, kind: usize, l: &Limits, now: Instant) -> bool {
        let Some(max) = l.ports_max else { return true };
        let period = now.as_micros() / self.hold_micros.max(1);
        // By more than clocks of workers differ: the hold-down was shorter, and periods were counted in that.
        if s.period > period + 1 {
            s.period = period;
        }
        let past = period.saturating_sub(s.period);
        for resting in &mut s.resting {
            *resting = match past {
                0 => *resting,
                1 => [0, resting[0]],
                _ => [0, 0],
            };
        }
        s.period = s.period.max(period);
        let room = s.resting[kind][0] + s.resting[kind][1] < u32::from(max);
        s.resting[kind][0] += u32::from(room);
        room
    }
}

impl Set {
    fn holds(&self, place: Option<usize>) -> bool {
        place.is_some_and(|p| (self.first..self.first + self.count).contains(&p))
    }
}

impl Address {
    /// The ports of a protocol, by its place in [`PROTOCOLS`].
    pub(super) fn ports(&self, kind: usize) -> &causeway_flowtable::ports::PortBitmap {
        &self.ports[kind]
    }
}

#[cfg(test)]
mod tests;
