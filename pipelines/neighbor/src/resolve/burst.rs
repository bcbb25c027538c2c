//! The next hops of a whole burst: what is looked up is fetched for all before it is read for any, so that
//! the cache misses of a burst overlap. It matters most for addresses that are not neighbours, which a
//! scan consists of: each is in no cache.

use super::{Neighbors, Next, Resolution, neighbor, wants_leases};
use crate::resolved::{Key, LinkId, Reachability};
use causeway_core::{BURST, Ctx, DropReason, Egress, Frame, FrameSource, Verdict, Via};
use std::net::Ipv4Addr;

/// How far a packet's next hop is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// None is wanted.
    Nothing,
    /// The same as that of the packet before.
    Same,
    /// Found.
    Known,
    /// A neighbour that is to be looked up, or is not known.
    Neighbor,
}

impl<F: Frame> Neighbors<F> {
    /// As [`resolve`](Neighbors::resolve), for all packets of a burst that are to be forwarded: `out` says of
    /// each where it goes; of other packets it says nothing. Verdicts beyond a burst are not looked at.
    pub fn resolve_all<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &Ctx<'_, S>,
        verdicts: &[Verdict],
        out: &mut [Option<Resolution>],
    ) {
        // Keys apart from the rest, so that each word is read as it was written.
        let mut keys = [Key::v4(LinkId::NONE, Ipv4Addr::UNSPECIFIED); BURST];
        let mut asked = [Asked::Nothing; BURST];
        let mut last = None;
        for (((verdict, out), asked), key) in verdicts.iter().zip(&mut *out).zip(&mut asked).zip(&mut keys) {
            let Verdict::Forward { egress } = verdict else { continue };
            *asked = if last == Some(egress) {
                Asked::Same
            } else {
                match self.ask(ctx, *egress) {
                    Next::Neighbor(wanted) => {
                        *key = wanted;
                        Asked::Neighbor
                    }
                    known => {
                        *out = Some(known.resolution());
                        Asked::Known
                    }
                }
            };
            last = Some(egress);
        }
        // Neighbours that are known are found now; for the others what is looked at next is fetched.
        let mut missing = false;
        for (((verdict, out), asked), key) in verdicts.iter().zip(&mut *out).zip(&mut asked).zip(&keys) {
            if *asked != Asked::Neighbor {
                continue;
            }
            match self.shared.get(key) {
                Some(p) => {
                    if p.state == Reachability::Stale {
                        self.shared.mark_used(self.shared.hash(key));
                    }
                    *out = Some(Resolution::Ready(p.mac));
                    *asked = Asked::Known;
                }
                None => {
                    missing = true;
                    if let Verdict::Forward { egress } = verdict {
                        self.prefetch_unknown(ctx, *egress, key);
                    }
                }
            }
        }
        let mut before = None;
        for (((verdict, out), asked), key) in verdicts.iter().zip(out).zip(&asked).zip(&keys) {
            *out = match (asked, verdict) {
                (Asked::Known, _) => *out,
                (Asked::Neighbor, Verdict::Forward { egress }) if missing => {
                    Some(match ctx.interfaces.get(egress.interface()) {
                        Some(interface) => self.unknown(ctx, egress.interface(), interface, key),
                        None => Resolution::Drop(DropReason::NextHopUnreachable),
                    })
                }
                // Where nobody answers yet each packet has its own turn.
                (Asked::Same, Verdict::Forward { egress }) => match before {
                    Some(ready @ Resolution::Ready(_)) => Some(ready),
                    _ => Some(self.resolve(ctx, egress)),
                },
                _ => None,
            };
            if *asked != Asked::Nothing {
                before = *out;
            }
        }
    }

    /// What a packet's next hop is called, fetching where it would be if it is a neighbour.
    #[inline(always)]
    fn ask<S: FrameSource<Frame = F>>(&self, ctx: &Ctx<'_, S>, egress: Egress) -> Next {
        if let Via::Mac(mac) = egress.via() {
            return Next::Mac(mac);
        }
        let Some(interface) = ctx.interfaces.get(egress.interface()) else { return Next::Nobody };
        let next = neighbor(LinkId::of(interface), egress.via());
        if let Next::Neighbor(key) = &next {
            self.shared.prefetch(key);
        }
        next
    }

    /// Fetches what says whether an address that is not known is looked for.
    #[inline(always)]
    fn prefetch_unknown<S: FrameSource<Frame = F>>(&self, ctx: &Ctx<'_, S>, egress: Egress, key: &Key) {
        if let (Some(bindings), std::net::IpAddr::V6(a)) = (&self.bindings, key.address()) {
            bindings.prefetch_unlikely(key.link().number(), a);
        }
        // Where nobody is looked for without a lease, what is not leased ends there.
        if !ctx.interfaces.get(egress.interface()).is_some_and(wants_leases) {
            self.table.prefetch(self.shared.hash(key));
        }
    }
}

impl Next {
    /// Of what needs no search.
    #[inline(always)]
    const fn resolution(&self) -> Resolution {
        match self {
            Self::Mac(mac) => Resolution::Ready(*mac),
            Self::Nobody | Self::Neighbor(_) => Resolution::Drop(DropReason::NextHopUnreachable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::tests::{Gate, VM1};
    use crate::{Config, Resolved};
    use causeway_core::{Class, Prefix6, Validation};
    use causeway_flowtable::Bindings;
    use causeway_testkit::{lab_interfaces, mac};
    use std::sync::Arc;

    /// A worker of two in a lab whose `tenant0` wants leases, which vm1 and others have.
    fn gate() -> Gate {
        let config = Config { resolutions_rate_pps: 1, resolutions_burst: 1, ..Config::default() };
        let mut g = Gate::member(config, Arc::new(Resolved::new(&config, 2)), 0);
        let mut list = lab_interfaces();
        list[0].validation = Validation::Leased;
        g.set_interfaces(list);
        let b = Bindings::new(100, [1, 2]).unwrap();
        for n in 0..16u32 {
            let a = format!("2001:db8:64::1{n:02}").parse().unwrap();
            b.set(0, Prefix6::new(a, 128).unwrap(), mac(1)).unwrap();
        }
        g.n.set_bindings(Some(Arc::new(b)));
        let key = g.key(VM1);
        let known = crate::resolved::Published::new(mac(1), Reachability::Stale, g.rig.now);
        assert!(g.n.shared.put(&key, known));
        g
    }

    fn verdicts(g: &Gate) -> Vec<Verdict> {
        let forward = |interface: &str, via: &str| Verdict::Forward { egress: g.rig.egress(interface, via) };
        let mut v = vec![
            forward("tenant0", VM1),
            forward("tenant0", VM1),
            Verdict::Drop(DropReason::NoRoute),
            forward("tenant0", VM1),
            forward("tenant0", "2001:db8:64::dead"),
            forward("tenant0", "2001:db8:64::dead"),
            Verdict::Again(Class::Forward6),
            forward("tenant0", "ff02::1"),
            forward("tenant0", "::1"),
            Verdict::Forward { egress: Egress::new(causeway_core::IfId(99), Via::Mac(mac(3))) },
            Verdict::Forward { egress: Egress::new(causeway_core::IfId(99), Via::Ip6(VM1.parse().unwrap())) },
        ];
        // Those of the other worker use up what may be handed over.
        v.extend((2..16).map(|n| forward("tenant0", &format!("2001:db8:64::1{n:02}"))));
        v
    }

    #[test]
    fn a_burst_is_resolved_as_its_packets_are_one_by_one() {
        let (mut one, mut all) = (gate(), gate());
        // Which worker owns an address is a matter of the tables' random seeds: let both have the same.
        all.n.shared = Arc::clone(&one.n.shared);
        let verdicts = verdicts(&one);
        let mut want = Vec::new();
        for v in &verdicts {
            want.push(match v {
                Verdict::Forward { egress } => Some(one.n.resolve(&one.rig.ctx(), egress)),
                _ => None,
            });
        }
        let mut got = vec![None; verdicts.len()];
        all.n.resolve_all(&all.rig.ctx(), &verdicts, &mut got);
        assert_eq!(got, want);
        assert_eq!(got[0], Some(Resolution::Ready(mac(1))));
        assert_eq!((got[3], got[2]), (got[0], None));
        assert_eq!(got[5], Some(Resolution::Drop(DropReason::NextHopNotBound)));
        // The stale neighbour is known to be in use.
        let hash = all.n.shared.hash(&all.key(VM1));
        assert!(all.n.shared.take_mark(hash));
        // Nothing but what a burst has is looked at.
        let many = vec![verdicts[0]; BURST + 3];
        let mut got = vec![None; BURST + 3];
        all.n.resolve_all(&all.rig.ctx(), &many, &mut got);
        assert!(got[..BURST].iter().all(|r| *r == Some(Resolution::Ready(mac(1)))));
        assert_eq!(got[BURST..], [None; 3]);
    }
}
