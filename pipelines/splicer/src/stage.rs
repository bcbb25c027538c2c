//! The stage: vectors of packets in, verdicts out. What is spliced is rewritten; the rest is terminated here, or is
//! somebody else's.
//!
//! ```text
//!  clients (IPv4) --+-> spliced: rewritten, a burst at a time
//!  servers (IPv6) --+-> else, one at a time:
//!                         a connection that is terminated, or a SYN to a listener -> Peek, at its owner
//!                         an ICMP error about a connection -> translated, or told to Peek
//!                         a health check's -> Checks, at its owner
//!                         anything else -> NAT64 (static mappings), or the gateway itself
//! ```

use crate::checks::Checks;
use crate::config::Config;
use crate::peek::Peek;
use crate::site::{Server, SiteTable};
use crate::splice::icmp::Whose;
use crate::splice::{self, Expiry, Splice};
use arc_swap::ArcSwap;
use arrayvec::ArrayVec;
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{Class, Counters, Ctx, DropReason, Frame, FrameSource, Packet, Verdict};
use causeway_flowtable::{Guard, InsideKey};
use causeway_wire::l4::{DST_PORT, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, SRC_PORT};
use causeway_wire::{be16, ipv6};
use crossbeam::queue::SegQueue;
use std::sync::{Arc, Weak};

/// A splicer of one worker. The flow table, the sites and the configuration are shared.
#[derive(Debug)]
pub struct Stage {
    config: Arc<Config>,
    splice: Splice,
    peek: Peek,
    /// At one worker alone.
    checks: Option<Checks>,
}

/// What is unforeseeable about a splicer.
#[derive(Debug, Clone, Copy)]
pub struct Secrets {
    /// For sequence numbers and ports: another one for each worker and stage.
    pub seed: [u8; 32],
    /// For SYN cookies: the same for all workers, since a client's acknowledgement may come to another one than its SYN.
    pub cookies: [u8; 16],
}

impl Stage {
    /// The splicer of `worker`. `errors` limits the ICMP errors that it sends. `fresh` is where servers appear that are
    /// to be checked: for one worker, which then checks all of them.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        sites: Arc<ArcSwap<SiteTable>>,
        errors: IcmpErrors,
        worker: u8,
        secrets: Secrets,
        fresh: Option<Arc<SegQueue<Weak<Server>>>>,
    ) -> Self {
        let Secrets { seed, cookies } = secrets;
        let checks = fresh.map(|fresh| Checks::new(fresh, seed.map(|octet| octet ^ 0x5a)));
        let splice = Splice::new(Arc::clone(&config), errors, u16::from_le_bytes([seed[30], seed[31]]));
        let peek = Peek::new(Arc::clone(&config), sites, worker, seed, cookies);
        Self { config, splice, peek, checks }
    }

    /// Takes over another plan's settings: a [`Config::successor`] of the one before. Connections go on.
    pub fn set_config(&mut self, config: Arc<Config>) {
        self.splice.set_config(Arc::clone(&config));
        self.peek.set_config(Arc::clone(&config));
        self.config = config;
    }

    /// The gateway stops, and has its addresses still: connections that are terminated here cannot go on, and both
    /// ends are told by a reset, a bounded number in each call. True when none is left. What is spliced is let be:
    /// another gateway or the next start may go on with it, or not; then the ends' own segments find out.
    pub fn stop<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>) -> bool {
        self.peek.stop(ctx, guard)
    }

    /// Another gateway has the addresses now: connections that are terminated here, and checks, end without a word.
    /// What we said would come from addresses that are its, by a way that may lead past it; it resets what it does
    /// not know as soon as one of the ends speaks.
    pub fn leave(&mut self, guard: &Guard<'_>) {
        self.peek.leave(guard);
        if let Some(checks) = &mut self.checks {
            checks.leave(guard);
        }
    }

    /// Who judges sessions of the splicer now.
    #[must_use]
    pub fn expiry<'a>(&'a self, counters: &'a Counters) -> Expiry<'a> {
        Expiry::new(&self.config, counters)
    }

    /// Handles packets from clients (class `SpliceOut`). Verdict `n` is that of packet `n`; a burst at most.
    pub fn clients<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<S::Frame>],
        verdicts: &mut [Verdict],
    ) {
        let mut slow = ArrayVec::new();
        self.splice.clients(ctx, guard, packets, verdicts, &mut slow);
        for at in slow {
            let new = self.splice.has_missed(at);
            let at = usize::from(at);
            let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
            *verdict = self.client(ctx, guard, packet, new);
        }
    }

    /// Handles packets from servers (class `SpliceIn`), as [`Stage::clients`] does the others.
    pub fn servers<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<S::Frame>],
        verdicts: &mut [Verdict],
    ) {
        let mut slow = ArrayVec::new();
        self.splice.servers(ctx, guard, packets, verdicts, &mut slow);
        for at in slow.into_iter().map(usize::from) {
            let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
            *verdict = self.server(ctx, guard, packet);
        }
    }

    /// What is due: bounded for each call, and next to nothing while nothing is.
    #[inline]
    pub fn tick<S: FrameSource>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>) {
        self.peek.tick(ctx, guard);
        if let Some(checks) = &mut self.checks {
            checks.tick(ctx, guard, &self.config);
        }
    }

    /// A packet to a proxy address that is of no spliced connection.
    fn client<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<S::Frame>,
        new: bool,
    ) -> Verdict {
        match packet.meta.protocol {
            PROTO_ICMP if !packet.meta.fragment => match self.splice.error4(ctx, guard, packet) {
                Whose::Spliced(verdict) => verdict,
                // RFC 5927 5: what a router says of a client that has opened its connection is no reason to end it.
                Whose::Peek(..) => Verdict::Drop(DropReason::SplicePeekIcmp),
                Whose::Nobodys => Verdict::Again(Class::Nat64Out),
            },
            PROTO_TCP if !packet.meta.fragment => self.peek.client(ctx, guard, packet, new),
            // A port map's, or nobody's: NAT64 has the static mappings, and says what is wrong.
            _ => Verdict::Again(Class::Nat64Out),
        }
    }

    /// A packet to where connections to servers come from, that is of no spliced one.
    fn server<S: FrameSource>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<S::Frame>,
    ) -> Verdict {
        if packet.meta.protocol == PROTO_ICMPV6 && !packet.meta.fragment {
            return match self.splice.error6(ctx, guard, packet) {
                Whose::Spliced(verdict) => verdict,
                Whose::Peek(session, _) if u16::from(session.owner()) != ctx.worker => {
                    Verdict::Owner(u16::from(session.owner()))
                }
                // RFC 1122 4.2.3.9: a hard error; a soft one is what the timeout is for.
                Whose::Peek(session, seq) if is_unreachable(packet) => {
                    self.peek.unreachable(ctx, guard, &session, seq)
                }
                Whose::Peek(..) => Verdict::Drop(DropReason::SplicePeekIcmp),
                Whose::Nobodys => Verdict::Again(Class::Local),
            };
        }
        if let Some(session) = self.inside_key(packet).and_then(|key| guard.lookup(&key).hit())
            && Checks::is_one(&session)
        {
            let owner = u16::from(session.owner());
            return match &mut self.checks {
                Some(checks) if owner == ctx.worker => checks.receive(ctx, guard, &session, packet),
                None if owner == ctx.worker => Verdict::Drop(DropReason::SpliceCheckOver),
                _ => Verdict::Owner(owner),
            };
        }
        self.peek.server(ctx, guard, packet)
    }

    fn inside_key<F: Frame>(&self, packet: &Packet<F>) -> Option<InsideKey> {
        let b = packet.bytes();
        let head = b.first_chunk::<{ ipv6::HEADER }>()?;
        let (prefix, dst4) = splice::number_of(&self.config, ipv6::addr(head, ipv6::DST))?;
        let tcp = b.get(usize::from(packet.meta.l4)..).filter(|t| t.len() >= 4)?;
        Some(InsideKey {
            src6: ipv6::addr(head, ipv6::SRC).to_bits(),
            dst4,
            src_port: be16(tcp, SRC_PORT),
            dst_port: be16(tcp, DST_PORT),
            protocol: PROTO_TCP,
            prefix,
        })
    }
}

/// True for a Destination Unreachable (RFC 4443 3.1).
fn is_unreachable<F: Frame>(packet: &Packet<F>) -> bool {
    packet.bytes().get(usize::from(packet.meta.l4)) == Some(&causeway_wire::l4::icmp::V6_DST_UNREACHABLE)
}

#[cfg(test)]
mod tests;
