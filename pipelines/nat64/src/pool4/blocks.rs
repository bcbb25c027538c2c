//! Blocks of ports (RFC 6888 5, REQ-14: less to log): consecutive ports of one address, for all protocols.
//!
//! - A block begins at a multiple of its size. Which one a subscriber gets is random, and so is the port
//!   within it (RFC 6888 5, REQ-15; RFC 6056 3.3).
//! - A subscriber opens another block when those that it has have no free port; it returns a block with
//!   the last port of it. One record is logged for each block given and for each returned.
//! - A block that comes back rests as ports do (RFC 6888 3, REQ-8) before another subscriber gets it; its
//!   ports have rested with it then. Within a block ports rest too, unless the subscriber can have no
//!   other: then its own come back to it sooner, which can lead to no other subscriber's peers.
//! - System ports are not given in blocks, so a system port of a host does not stay one.
//! - When the size of blocks changes, blocks of the old size take no new mappings and are returned with
//!   their last port; until then no new block overlaps them, nor a mapping from before blocks.

use super::account::Note;
use super::{Level, Mode, Place, Pool4, TRIES, Want};
use crate::config::Limits;
use crate::log::LogEvent;
use crate::subscriber::book::{BLOCKS, Block, State};
use crate::subscriber::{BlockUsage, Owner};
use causeway_core::DropReason;
use std::net::Ipv4Addr;

/// How many blocks are looked at that turn out to have ports of others in them.
const BLOCK_TRIES: usize = 8;

/// For people.
pub(super) fn usage(s: &State) -> Vec<BlockUsage> {
    let blocks = s.blocks.iter().flat_map(|b| b.iter());
    blocks
        .map(|b| BlockUsage {
            address: Ipv4Addr::from_bits(b.address),
            first: b.first(),
            last: b.last(),
            in_use: b.used,
        })
        .collect()
}

impl Pool4 {
    /// A port of the subscriber's blocks, or of a new one.
    pub(super) fn give_of_block(
        &self,
        s: &mut State,
        owner: &Owner,
        l: &Limits,
        want: &Want,
        note: &Note<'_>,
    ) -> Result<(Ipv4Addr, u16), DropReason> {
        let home = self.settle_in(s, owner, l);
        let set = self.set(owner.set);
        let mut full = DropReason::Nat64SubscriberPorts;
        // At home first; then, as when ports are given one by one, at the addresses behind it.
        for n in 0..set.count.min(TRIES + 1) {
            let Some(place) = self.places.get(set.first + (home + n) % set.count) else { continue };
            let address = Ipv4Addr::from_bits(place.shared.address);
            if let Some(port) = self.of_own_blocks(s, place, want) {
                s.at_home[want.kind] += u32::from(n == 0);
                return Ok((address, port));
            }
            if !self.may_have_another(s, l) {
                continue;
            }
            full = DropReason::Nat64PoolFull;
            if let Some(block) = self.new_block(s, place, owner, n == 0, want) {
                note.block(LogEvent::BlockGiven, s.key.prefix, &block);
                if let Some(port) = self.of_own_blocks(s, place, want) {
                    s.at_home[want.kind] += u32::from(n == 0);
                    return Ok((address, port));
                }
                // It cannot be: nobody else takes ports of it.
                self.return_block(s, place, owner.set, &block, note);
            }
        }
        self.of_own_rest(s, want).ok_or(full)
    }

    /// A port of the subscriber's blocks that rests.
    fn of_own_rest(&self, s: &mut State, want: &Want) -> Option<(Ipv4Addr, u16)> {
        let Mode::Blocks { shift, .. } = self.mode else { return None };
        for n in 0..s.blocks.as_ref()?.len() {
            let b = s.blocks.as_ref()?[n];
            let Some(place) = self.place(Ipv4Addr::from_bits(b.address)).and_then(|p| self.places.get(p))
            else {
                continue;
            };
            if b.shift != shift || place.shared.ports(want.kind).end_rest(b.first()..=b.last()) == 0 {
                continue;
            }
            if let Some(port) = self.of_own_blocks(s, place, want) {
                let at_home = s.home.as_ref().is_some_and(|h| h.address == b.address);
                s.at_home[want.kind] += u32::from(at_home);
                return Some((Ipv4Addr::from_bits(b.address), port));
            }
        }
        None
    }

    /// True if another block would be within the limits.
    fn may_have_another(&self, s: &State, l: &Limits) -> bool {
        let Mode::Blocks { shift, .. } = self.mode else { return false };
        let Some(blocks) = &s.blocks else { return false };
        let most = l.ports_max.map_or(u32::MAX, |max| u32::from(max).div_ceil(1 << shift));
        let of_size = blocks.iter().filter(|b| b.shift == shift).count();
        !blocks.is_full() && u32::try_from(of_size).is_ok_and(|n| n < most)
    }

    /// A free port of the subscriber's blocks of the present size at this address.
    fn of_own_blocks(&self, s: &mut State, place: &Place, want: &Want) -> Option<u16> {
        let Mode::Blocks { shift, .. } = self.mode else { return None };
        let address = &place.shared;
        let blocks = s.blocks.as_mut()?;
        let turn = usize::try_from(want.random & 0xff).unwrap_or(0);
        let count = blocks.len();
        let ports = address.ports(want.kind);
        for parity in [self.parity(want), None] {
            for n in 0..count {
                let b = &mut blocks[(turn + n) % count];
                if b.address != address.address || b.shift != shift {
                    continue;
                }
                // Another part of the random number than the block was chosen by.
                let random = want.random.rotate_left(24);
                if let Some(port) = ports.alloc(random, b.first()..=b.last(), parity) {
                    b.used += 1;
                    return Some(port);
                }
            }
        }
        None
    }

    /// Gives the subscriber a block of this address.
    fn new_block(
        &self,
        s: &mut State,
        place: &Place,
        owner: &Owner,
        at_home: bool,
        want: &Want,
    ) -> Option<Block> {
        let number = if at_home && s.at_home[BLOCKS] < s.min {
            self.take_block(place, want.random)
        } else {
            self.beyond(place, BLOCKS, owner.set, || self.take_block(place, want.random))
        }?;
        let Mode::Blocks { shift, .. } = self.mode else { return None };
        let block = Block { address: place.shared.address, number, shift, used: 0 };
        // Its ports have rested as long as it has itself, or as long as there was room for that.
        for kind in 0..BLOCKS {
            place.shared.ports(kind).end_rest(block.first()..=block.last());
        }
        // There is room: it was looked at before.
        s.blocks.as_mut()?.try_push(block).ok()?;
        if at_home {
            s.at_home[BLOCKS] += 1;
            s.settle();
        }
        Some(block)
    }

    /// Takes a block in which no port is anybody's. Bounded.
    fn take_block(&self, place: &Place, random: u64) -> Option<u16> {
        let Mode::Blocks { shift, first, last } = self.mode else { return None };
        let (level, older) = place.blocks.split_first()?;
        let mut refused = [None; BLOCK_TRIES];
        let mut found = None;
        for slot in &mut refused {
            let Some(number) = level.given.alloc(random, first..=last, None) else { break };
            if is_clear(place, older, number, shift) {
                found = Some(number);
                break;
            }
            *slot = Some(number);
        }
        for number in refused.into_iter().flatten() {
            level.given.free(number);
        }
        found
    }

    /// One port less of the block that it is in; the last one returns the block.
    pub(super) fn leave_block(
        &self,
        s: &mut State,
        place: Option<&Place>,
        set: u8,
        (address, port): (u32, u16),
        note: &Note<'_>,
    ) {
        let Some(blocks) = s.blocks.as_mut() else { return };
        let Some(b) = blocks.iter_mut().find(|b| b.has(address, port)) else { return };
        b.used = b.used.saturating_sub(1);
        if b.used > 0 {
            return;
        }
        let block = *b;
        match place {
            Some(place) => self.return_block(s, place, set, &block, note),
            None => {
                forget(s, &block, note);
            }
        }
    }

    /// The subscriber has this block no longer.
    fn return_block(&self, s: &mut State, place: &Place, set: u8, block: &Block, note: &Note<'_>) {
        if !forget(s, block, note) {
            return;
        }
        let current = matches!(self.mode, Mode::Blocks { shift, .. } if shift == block.shift);
        if current && s.home.as_ref().is_some_and(|h| h.address == block.address) {
            s.at_home[BLOCKS] = s.at_home[BLOCKS].saturating_sub(1);
            s.settle();
        }
        let Some(level) = place.blocks.iter().find(|l| l.shift == block.shift) else { return };
        if self.held && self.room_to_rest(place, set) {
            level.given.free_held(block.number);
        } else {
            level.given.free(block.number);
        }
    }
}

/// Takes a block off the subscriber's list, and notes it. False if it was not there.
fn forget(s: &mut State, block: &Block, note: &Note<'_>) -> bool {
    let Some(blocks) = s.blocks.as_mut() else { return false };
    let same = |b: &Block| (b.address, b.number, b.shift) == (block.address, block.number, block.shift);
    let Some(at) = blocks.iter().position(same) else { return false };
    blocks.swap_remove(at);
    note.block(LogEvent::BlockReturned, s.key.prefix, block);
    true
}

/// True if no mapping has a port of the block, and no block of another size overlaps it.
fn is_clear(place: &Place, older: &[Level], number: u16, shift: u8) -> bool {
    let first = number << shift;
    let last = first + ((1 << shift) - 1);
    (0..BLOCKS).all(|kind| !place.shared.ports(kind).any_live(first..=last))
        && older.iter().all(|l| !l.given.any_live(first >> l.shift..=last >> l.shift))
}
