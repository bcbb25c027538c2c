//! Packets that wait for their next hop: one arena for all of a worker's queues.

use causeway_core::Packet;

const NIL: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<F> {
    packet: Option<Packet<F>>,
    next: u32,
}

/// The waiting packets of one next hop, oldest first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
    len: u32,
}

impl Queue {
    pub(crate) const EMPTY: Self = Self { head: NIL, tail: NIL, len: 0 };

    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Room for a fixed number of packets.
#[derive(Debug)]
pub(crate) struct Held<F> {
    slots: Vec<Slot<F>>,
    free: u32,
    used: usize,
}

impl<F> Held<F> {
    pub(crate) fn new(frames: usize) -> Self {
        let n = u32::try_from(frames).unwrap_or(NIL - 1);
        let slots = (1..=n).map(|next| Slot { packet: None, next: if next == n { NIL } else { next } });
        Self { slots: slots.collect(), free: if n == 0 { NIL } else { 0 }, used: 0 }
    }

    /// How many packets wait.
    pub(crate) const fn used(&self) -> usize {
        self.used
    }

    /// How many there is room for in all.
    pub(crate) fn room(&self) -> usize {
        self.slots.len()
    }

    /// Adds a packet at the end of a queue. Gives it back when there is no room.
    pub(crate) fn push(&mut self, queue: &mut Queue, packet: Packet<F>) -> Result<(), Packet<F>> {
        let at = self.free;
        let Some(slot) = self.slots.get_mut(at as usize) else { return Err(packet) };
        self.free = slot.next;
        slot.packet = Some(packet);
        slot.next = NIL;
        match self.slots.get_mut(queue.tail as usize) {
            Some(last) => last.next = at,
            None => queue.head = at,
        }
        queue.tail = at;
        queue.len += 1;
        self.used += 1;
        Ok(())
    }

    /// Takes the oldest packet of a queue.
    pub(crate) fn pop(&mut self, queue: &mut Queue) -> Option<Packet<F>> {
        let at = queue.head;
        let slot = self.slots.get_mut(at as usize)?;
        let packet = slot.packet.take();
        queue.head = slot.next;
        queue.len -= 1;
        if queue.head == NIL {
            queue.tail = NIL;
        }
        slot.next = self.free;
        self.free = at;
        self.used -= 1;
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_core::Meta;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn packet(frame: u32) -> Packet<u32> {
        Packet { frame, meta: Meta::originated() }
    }

    proptest! {
        #[test]
        fn equals_queues_of_the_standard_library(ops in proptest::collection::vec((0usize..3, any::<bool>()), 0..200)) {
            let mut held = Held::new(10);
            let mut queues = [Queue::EMPTY; 3];
            let mut model: [VecDeque<u32>; 3] = Default::default();
            for (n, (q, push)) in (0u32..).zip(ops) {
                if push {
                    let room = model.iter().map(VecDeque::len).sum::<usize>() < 10;
                    prop_assert_eq!(held.push(&mut queues[q], packet(n)).is_ok(), room);
                    if room {
                        model[q].push_back(n);
                    }
                } else {
                    prop_assert_eq!(held.pop(&mut queues[q]).map(|p| p.frame), model[q].pop_front());
                }
                prop_assert_eq!(queues[q].len(), model[q].len());
                prop_assert_eq!(queues[q].is_empty(), model[q].is_empty());
                prop_assert_eq!(held.used(), model.iter().map(VecDeque::len).sum::<usize>());
            }
        }
    }
}
