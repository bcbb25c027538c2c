//! Which server of a set gets a connection, and which are tried after it: by weight and chance, without locks and without
//! memory of earlier choices.

use super::check::SERVERS;
use super::{Backend, Server};
use arrayvec::ArrayVec;
use causeway_core::Instant;
use std::sync::Arc;

/// Numbers of servers of a set in the order in which they are tried. One that refuses or does not answer gives way to the
/// next; the last one leaves the client without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order(ArrayVec<u8, SERVERS>);

/// A step of SplitMix64: chance for choices, not for secrets.
fn chance(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draws all of `from` in an order by chance and weight, behind what `out` has.
fn draw(mut from: ArrayVec<(u8, u16), SERVERS>, seed: &mut u64, out: &mut ArrayVec<u8, SERVERS>) {
    let mut total: u64 = from.iter().map(|(_, weight)| u64::from(*weight)).sum();
    while !from.is_empty() {
        // Not exactly even, by 64,000 in 2^64.
        let mut at = chance(seed) % total.max(1);
        let drawn = from.iter().position(|(_, weight)| {
            let here = at < u64::from(*weight);
            at = at.saturating_sub(u64::from(*weight));
            here
        });
        let (number, weight) = from.swap_remove(drawn.unwrap_or(0));
        total -= u64::from(weight);
        let _ = out.try_push(number);
    }
}

impl Order {
    /// The order for one connection: those that are up, by weight; behind them those that have failed lately. Who drains, has
    /// no weight, or is down by its checks is not in it.
    #[must_use]
    pub fn new(backends: &[Backend], servers: &[Arc<Server>], now: Instant, seed: u64) -> Self {
        let (mut good, mut avoided) = (ArrayVec::new(), ArrayVec::new());
        for ((number, backend), server) in (0u8..).zip(backends).zip(servers) {
            if backend.draining || backend.weight == 0 || !server.is_up() {
                continue;
            }
            let list: &mut ArrayVec<(u8, u16), SERVERS> =
                if server.is_avoided(now) { &mut avoided } else { &mut good };
            let _ = list.try_push((number, backend.weight));
        }
        let (mut out, mut seed) = (ArrayVec::new(), seed);
        draw(good, &mut seed, &mut out);
        draw(avoided, &mut seed, &mut out);
        Self(out)
    }

    /// The numbers, the first to be tried first.
    pub fn iter(&self) -> impl Iterator<Item = u8> {
        self.0.iter().copied()
    }

    /// The one to be tried after `tries` have failed.
    #[must_use]
    pub fn get(&self, tries: usize) -> Option<u8> {
        self.0.get(tries).copied()
    }

    /// How many can be tried.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// True if no server can be tried.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Health;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    const NOW: Instant = Instant::from_micros(1_000_000);

    fn set(weights: &[u16]) -> (Vec<Backend>, Vec<Arc<Server>>) {
        let backend = |(n, weight): (usize, &u16)| {
            let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | n as u128);
            Backend { address, ports: Vec::new(), weight: *weight, draining: false }
        };
        let backends: Vec<Backend> = weights.iter().enumerate().map(backend).collect();
        let server = |b: &Backend| Arc::new(Server::new(b.address, Health::default()));
        let servers = backends.iter().map(server).collect();
        (backends, servers)
    }

    #[test]
    fn connections_are_divided_by_weight_and_each_order_has_everybody_once() {
        let (backends, servers) = set(&[1, 3, 0, 6]);
        let mut first = [0u32; 4];
        for seed in 0..100_000 {
            let order = Order::new(&backends, &servers, NOW, seed);
            first[usize::from(order.get(0).unwrap())] += 1;
            let mut all: Vec<u8> = order.iter().collect();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 3], "weight 0 gets none, and everybody else is tried once");
        }
        for (n, part) in [(0, 10_000), (1, 30_000), (3, 60_000)] {
            assert!(first[n].abs_diff(part) < 700, "{first:?}");
        }
    }

    #[test]
    fn who_drains_or_is_down_gets_none_and_who_failed_lately_comes_last() {
        let (mut backends, servers) = set(&[1000, 1000, 1, 1]);
        backends[0].draining = true;
        servers[1].failed(NOW);
        servers[3].set_up(false);
        for seed in 0..100 {
            assert_eq!(Order::new(&backends, &servers, NOW, seed).iter().collect::<Vec<_>>(), [2, 1]);
        }
        servers[2].set_up(false);
        let order = Order::new(&backends, &servers, NOW, 1);
        assert_eq!((order.get(0), order.get(1), order.len()), (Some(1), None, 1), "better than none");
        servers[1].set_up(false);
        assert!(Order::new(&backends, &servers, NOW, 1).is_empty());
    }

    proptest! {
        #[test]
        fn an_order_has_all_that_can_be_tried_and_nobody_twice(
            weights in prop::collection::vec(0..=1000u16, 0..=64), down: u64, avoided: u64, seed: u64,
        ) {
            let (backends, servers) = set(&weights);
            for (n, server) in servers.iter().enumerate() {
                server.set_up(down >> n & 1 == 0);
                if avoided >> n & 1 == 1 {
                    server.failed(NOW);
                }
            }
            let order: Vec<u8> = Order::new(&backends, &servers, NOW, seed).iter().collect();
            let wanted = (0..weights.len()).filter(|n| weights[*n] > 0 && down >> n & 1 == 0).count();
            prop_assert_eq!(order.len(), wanted);
            let late = |n: &u8| avoided >> n & 1 == 1;
            prop_assert!(order.iter().skip_while(|n| !late(n)).all(late), "{:?}", order);
            let mut all = order;
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), wanted);
        }
    }
}
