//! The stage: vectors of packets in, verdicts out. What is spliced is rewritten; the rest is terminated here, or is
//! somebody else's.
//!
//! ```text
//!  clients (IPv4) --+-> spliced: rewritten, a burst at a time
//!  servers (IPv6) --+-> else, one at a time:
//!                         a connection that is terminated, or a SYN to a listener -> Peek, at its owner
//!                         an ICMP error about a connection -> translated, or told to Peek
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
use causeway_flowtable::{Guard, InsideKey, Lookup, OWN_ADDRESS, OutsideKey};
use causeway_wire::l4::{DST_PORT, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, SRC_PORT};
use causeway_wire::{be16, be32, ipv4, ipv6};
use crossbeam::queue::SegQueue;
use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};

/// A splicer of one worker. The flow table, the sites and the configuration are shared.
#[derive(Debug)]
pub struct Stage<F: Frame> {
    config: Arc<Config>,
    splice: Splice,
    peek: Peek<F>,
    /// At one worker alone.
    checks: Option<Checks>,
}

impl<F: Frame> Stage<F> {
    /// The splicer of `worker`. `errors` limits the ICMP errors that it sends; `seed` has to be unforeseeable, and
    /// another one for each worker and stage; `cookies` as well, but the same for all workers: a client's
    /// acknowledgement may come to another one than its SYN. `fresh` is where servers appear that are to be checked: for
    /// one worker, which then checks all of them.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        sites: Arc<ArcSwap<SiteTable>>,
        errors: IcmpErrors,
        worker: u16,
        seed: [u8; 32],
        cookies: [u8; 16],
        fresh: Option<Arc<SegQueue<Weak<Server>>>>,
    ) -> Self {
        let checks = fresh.map(|fresh| Checks::new(fresh, seed.map(|octet| octet ^ 0x5a)));
        let id = u16::from_le_bytes([seed[30], seed[31]]);
        let splice = Splice::new(Arc::clone(&config), errors, id);
        let peek = Peek::new(Arc::clone(&config), sites, worker, seed, cookies);
        Self { config, splice, peek, checks }
    }

    /// Takes over another plan's settings: a [`Config::successor`] of the one before. Connections go on.
    pub fn set_config(&mut self, config: Arc<Config>) {
        self.splice.set_config(Arc::clone(&config));
        self.peek.set_config(Arc::clone(&config));
        self.config = config;
    }

    /// Connections that are terminated here: those whose site is not known yet, and those that stay so.
    #[must_use]
    pub fn terminated(&self) -> usize {
        self.peek.count()
    }

    /// Frames that wait here.
    #[must_use]
    pub fn held(&self) -> usize {
        self.peek.held()
    }

    /// Who judges sessions of the splicer now.
    #[must_use]
    pub fn expiry<'a>(&'a self, counters: &'a Counters) -> Expiry<'a> {
        Expiry::new(&self.config, counters)
    }

    /// Handles packets from clients (class `SpliceOut`). Verdict `n` is that of packet `n`; a burst at most.
    pub fn clients<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<F>],
        verdicts: &mut [Verdict],
    ) {
        let mut slow = ArrayVec::new();
        self.splice.clients(ctx, guard, packets, verdicts, &mut slow);
        for at in slow.into_iter().map(usize::from) {
            let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
            *verdict = self.client(ctx, guard, packet);
        }
    }

    /// Handles packets from servers (class `SpliceIn`), as [`Stage::clients`] does the others.
    pub fn servers<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packets: &mut [Packet<F>],
        verdicts: &mut [Verdict],
    ) {
        let mut slow = ArrayVec::new();
        self.splice.servers(ctx, guard, packets, verdicts, &mut slow);
        for at in slow.into_iter().map(usize::from) {
            let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
            *verdict = self.server(ctx, guard, packet);
        }
    }

    /// What is due: bounded for each call, and next to nothing while no connection is terminated here.
    #[inline]
    pub fn tick<S: FrameSource<Frame = F>>(&mut self, ctx: &mut Ctx<'_, S>, guard: &Guard<'_>) {
        self.peek.tick(ctx, guard, &mut self.splice);
        if let Some(checks) = &mut self.checks {
            checks.tick(ctx, guard, &self.config);
        }
    }

    /// A packet to a proxy address that is of no spliced connection.
    fn client<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
    ) -> Verdict {
        if packet.meta.protocol == PROTO_ICMP && !packet.meta.fragment {
            return match self.splice.error4(ctx, guard, packet) {
                Whose::Spliced(verdict) => verdict,
                // RFC 5927 5: what a router says of a client that has opened its connection is no reason to end it.
                Whose::Peek(_) => Verdict::Drop(DropReason::SplicePeekIcmp),
                Whose::Nobodys => Verdict::Again(Class::Nat64Out),
            };
        }
        match outside_key(packet) {
            Some(key) if self.is_ours(guard, &key) => self.peek.client(ctx, guard, packet, &mut self.splice),
            // A port map, or nothing of ours: NAT64 has the static mappings, and says what is wrong.
            _ => Verdict::Again(Class::Nat64Out),
        }
    }

    /// True if a listener is there, or a connection of one that was.
    fn is_ours(&self, guard: &Guard<'_>, key: &OutsideKey) -> bool {
        self.config.listener(Ipv4Addr::from_bits(key.out4), key.out_port).is_some()
            || !matches!(guard.lookup(key), Lookup::Miss)
    }

    /// A packet to where connections to servers come from, that is of no spliced one.
    fn server<S: FrameSource<Frame = F>>(
        &mut self,
        ctx: &mut Ctx<'_, S>,
        guard: &Guard<'_>,
        packet: &mut Packet<F>,
    ) -> Verdict {
        let key = self.inside_key(packet);
        if packet.meta.protocol == PROTO_ICMPV6 && !packet.meta.fragment {
            match self.splice.error6(ctx, guard, packet) {
                Whose::Spliced(verdict) => return verdict,
                Whose::Peek(session) if u16::from(session.owner()) != ctx.worker => {
                    return Verdict::Owner(u16::from(session.owner()));
                }
                Whose::Peek(session) => return self.peek.unreachable(ctx, guard, &session, packet),
                Whose::Nobodys => {}
            }
        } else if let Some(key) = key {
            match guard.lookup(&key) {
                Lookup::Hit(session) if Checks::is_one(&session) => {
                    let owner = u16::from(session.owner());
                    return match &mut self.checks {
                        Some(checks) if owner == ctx.worker => checks.receive(ctx, guard, &session, packet),
                        None if owner == ctx.worker => Verdict::Drop(DropReason::SpliceCheckOver),
                        _ => Verdict::Owner(owner),
                    };
                }
                Lookup::Hit(_) | Lookup::Building => {
                    return self.peek.server(ctx, guard, packet, &mut self.splice);
                }
                Lookup::Miss => {}
            }
        }
        match key {
            // Nobody but the splicer is at a client's address.
            Some(key) if key.prefix < OWN_ADDRESS => self.peek.stray(ctx, packet),
            // The gateway's own: DNS over TCP, for example.
            _ => Verdict::Again(Class::Local),
        }
    }

    fn inside_key(&self, packet: &Packet<F>) -> Option<InsideKey> {
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

/// The key of a TCP segment from a client. Nothing for anything else, a fragment for example.
fn outside_key<F: Frame>(packet: &Packet<F>) -> Option<OutsideKey> {
    let b = packet.bytes();
    let head = b.first_chunk::<{ ipv4::HEADER }>()?;
    let tcp = b.get(usize::from(packet.meta.l4)..).filter(|t| t.len() >= 4)?;
    (packet.meta.protocol == PROTO_TCP && !packet.meta.fragment).then(|| OutsideKey {
        out4: be32(head, ipv4::DST),
        remote4: be32(head, ipv4::SRC),
        out_port: be16(tcp, DST_PORT),
        remote_port: be16(tcp, SRC_PORT),
        protocol: PROTO_TCP,
    })
}
